package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A gateway is the one endpoint in front of both emulators: AWS_ENDPOINT_URL
// alone points any SDK or tool at the whole local cloud. It tells the services
// apart by the credential scope of the request's signature.
//
// It has two doors. Developers and tests use the first. The functions get the
// second, where every call is counted, may be made to fail, and what is
// published to a topic is kept for reading.
type gateway struct {
	moto, ministack *url.URL

	mu        sync.Mutex
	calls     []Call
	faults    []*Fault
	latency   time.Duration
	published []Message
	onPublish func(Message)
}

// atMoto are the services that moto serves; ministack serves all others.
var atMoto = map[string]bool{"iam": true, "sts": true, "secretsmanager": true, "organizations": true, "securityhub": true, "ses": true}

// A Call is one AWS call by a function, as "iam:ListAccessKeys".
type Call struct {
	Action string
	Status int // HTTP; 0 when the answer was withheld
}

// A Fault makes calls of one action by the functions fail.
type Fault struct {
	Action  string // "iam:CreateAccessKey"
	Skip    int    // calls that still succeed before
	Times   int    // calls that fail, then it is used up
	Status  int    // HTTP status of the answer; 0 drops the connection without one
	Code    string // AWS error code
	Message string
	Effect  bool // the call has its effect all the same: its answer was lost
}

// A Message is what a function published to an SNS topic, before SNS chose a
// text for each protocol.
type Message struct {
	TopicARN   string
	Subject    string
	Structure  string // "json": Message holds one text a protocol
	Message    string
	Attributes map[string]string
}

// Text is what a subscriber with this protocol receives: "email", "sqs", ...
func (m Message) Text(protocol string) string {
	if m.Structure != "json" {
		return m.Message
	}
	var texts map[string]string
	if json.Unmarshal([]byte(m.Message), &texts) != nil {
		return m.Message
	}
	if text, ok := texts[protocol]; ok {
		return text
	}
	return texts["default"]
}

// Calls returns the functions' calls since the last Forget, in order.
func (g *gateway) Calls() []Call {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Call(nil), g.calls...)
}

// Published returns what the functions published since the last Forget.
func (g *gateway) Published() []Message {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Message(nil), g.published...)
}

// OnPublish calls f with each message that a function publishes, before SNS and
// the function hear of it: the workflow stands still until f returns.
func (g *gateway) OnPublish(f func(Message)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onPublish = f
}

// Forget clears the calls, the published messages, the faults and OnPublish.
func (g *gateway) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls, g.published, g.faults, g.onPublish = nil, nil, nil, nil
}

// Fail plants a fault for the functions' calls.
func (g *gateway) Fail(f Fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.Times = max(f.Times, 1)
	g.faults = append(g.faults, &f)
}

// SetLatency delays every call of the functions.
func (g *gateway) SetLatency(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.latency = d
}

// developers is the first door: it only finds the right emulator.
func (g *gateway) developers() http.Handler { return http.HandlerFunc(g.forward) }

// functions is the second door.
func (g *gateway) functions() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the function went away
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		service, _ := scope(r)
		action := service + ":" + actionOf(service, r, body)

		g.mu.Lock()
		fault, wait, hear := g.fault(action), g.latency, g.onPublish
		g.mu.Unlock()
		if action == "sns:Publish" && hear != nil {
			hear(published(body))
		}
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-r.Context().Done():
				return
			}
		}
		record := func(status int) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.calls = append(g.calls, Call{Action: action, Status: status})
			if action == "sns:Publish" && (status == http.StatusOK || fault != nil && fault.Effect) {
				g.published = append(g.published, published(body))
			}
		}
		if fault == nil {
			g.forward(&recorder{w, record}, r)
			return
		}
		if fault.Effect {
			g.forward(discard{}, r)
		}
		record(fault.Status)
		fault.answer(w, r)
	})
}

// fault returns the planted fault that this call meets, and uses it up.
func (g *gateway) fault(action string) *Fault {
	for _, f := range g.faults {
		if f.Action != action || f.Times == 0 {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			return nil
		}
		f.Times--
		return f
	}
	return nil
}

// emulators gives up an idle connection before ministack does, after 75 s: a
// call sent at that moment would be lost.
var emulators = &http.Transport{IdleConnTimeout: 30 * time.Second}

func (g *gateway) forward(w http.ResponseWriter, r *http.Request) {
	service, keyID := scope(r)
	target := g.ministack
	if atMoto[service] {
		target = g.moto
	} else if strings.HasPrefix(keyID, "AKIA") {
		// moto asks whose key it is for its own services; for the others, it is asked here.
		if code, message := g.authenticate(r); code != "" {
			(&Fault{Status: http.StatusForbidden, Code: code, Message: message}).answer(w, r)
			return
		}
	}
	proxy := httputil.ReverseProxy{
		Transport: emulators,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = p.In.Host // signed, and part of the URLs that an emulator returns
		},
		// The whole answer at once: the Go SDK may lose a body that comes apart from
		// its header (package awsconfig says why), and repeat the call.
		ModifyResponse: func(resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return fmt.Errorf("reading the emulator's answer: %w", err)
			}
			resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			if resp.Request.Method != http.MethodHead {
				resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			(&Fault{Status: http.StatusBadGateway, Code: "LocalCloudUnreachable", Message: err.Error()}).answer(w, r)
		},
	}
	proxy.ServeHTTP(w, r)
}

// authenticate returns the refusal of a request signed with a user's key.
func (g *gateway) authenticate(r *http.Request) (code, message string) {
	body, err := json.Marshal(map[string]string{"authorization": r.Header.Get("Authorization")})
	if err != nil {
		return "LocalCloudUnreachable", err.Error()
	}
	resp, err := http.Post(g.moto.JoinPath("localcloud/authenticate").String(), "application/json", bytes.NewReader(body))
	if err != nil {
		return "LocalCloudUnreachable", err.Error()
	}
	defer resp.Body.Close()
	var answer struct{ Code, Message string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "LocalCloudUnreachable", err.Error()
	}
	return answer.Code, answer.Message
}

var credential = regexp.MustCompile(`Credential=([^/,]+)/\d{8}/[^/,]+/([^/,]+)/aws4_request`)

// scope returns the service that a request is signed for and the ID of the key
// that signed it, from its header or, presigned, from its URL. Both are empty
// when it is not signed.
func scope(r *http.Request) (service, keyID string) {
	signed := r.Header.Get("Authorization")
	if signed == "" {
		signed = "Credential=" + r.URL.Query().Get("X-Amz-Credential")
	}
	if m := credential.FindStringSubmatch(signed); m != nil {
		return m[2], m[1]
	}
	return "", ""
}

// actionOf names the API action of a request, from whichever place its
// protocol keeps it.
func actionOf(service string, r *http.Request, body []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndex(target, ".")+1:]
	}
	if form, err := url.ParseQuery(string(body)); err == nil && form.Get("Action") != "" {
		return form.Get("Action")
	}
	if service != "s3" {
		call := r.Method + " " + r.URL.Path
		if name, ok := restActions[call]; ok {
			return name
		}
		return call
	}
	_, key, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	if key == "" && r.Method == http.MethodGet {
		return "ListObjectsV2"
	}
	return map[string]string{
		http.MethodGet: "GetObject", http.MethodPut: "PutObject", http.MethodHead: "HeadObject", http.MethodDelete: "DeleteObject",
	}[r.Method]
}

// restActions are the actions that functions call by method and path.
var restActions = map[string]string{
	"POST /findings/import":          "BatchImportFindings",
	"POST /v2/email/outbound-emails": "SendEmail",
}

// published reads a Publish call of SNS's query protocol.
func published(body []byte) Message {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return Message{Message: string(body)}
	}
	m := Message{
		TopicARN: form.Get("TopicArn"), Subject: form.Get("Subject"),
		Structure: form.Get("MessageStructure"), Message: form.Get("Message"),
		Attributes: map[string]string{},
	}
	for i := 1; form.Has(fmt.Sprintf("MessageAttributes.entry.%d.Name", i)); i++ {
		entry := fmt.Sprintf("MessageAttributes.entry.%d.", i)
		m.Attributes[form.Get(entry+"Name")] = form.Get(entry + "Value.StringValue")
	}
	return m
}

// answer gives the fault's answer in the words of the request's protocol.
func (f *Fault) answer(w http.ResponseWriter, r *http.Request) {
	if f.Status == 0 {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
		return
	}
	service, _ := scope(r)
	var body []byte
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("X-Amzn-Errortype", f.Code)
		body, _ = json.Marshal(map[string]string{"__type": f.Code, "message": f.Message})
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-Errortype", f.Code)
		body, _ = json.Marshal(map[string]string{"message": f.Message})
	case service == "s3":
		w.Header().Set("Content-Type", "application/xml")
		body = fmt.Appendf(nil, "<Error><Code>%s</Code><Message>%s</Message><RequestId>localcloud</RequestId></Error>", escaped(f.Code), escaped(f.Message))
	default:
		w.Header().Set("Content-Type", "text/xml")
		body = fmt.Appendf(nil, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>localcloud</RequestId></ErrorResponse>", escaped(f.Code), escaped(f.Message))
	}
	w.WriteHeader(f.Status)
	w.Write(body)
}

func escaped(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text))
	return b.String()
}

// A recorder tells the status of an answer before the answer leaves: whoever has
// it finds its call recorded.
type recorder struct {
	http.ResponseWriter
	record func(status int)
}

func (r *recorder) WriteHeader(status int) {
	if status >= http.StatusOK { // 1xx is not the answer yet
		r.record(status)
	}
	r.ResponseWriter.WriteHeader(status)
}

// discard is where the answer goes that a fault withholds.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
