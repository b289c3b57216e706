package iamkeystest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A Server is an account behind the protocols that AWS speaks: the same fake,
// met by the real SDK. It listens on a free port of 127.0.0.1.
//
// A request is checked for its signature when an access key of the account
// signed it, as [Account.Use] says; any other signer is a function, which may do all.
type Server struct {
	*Process
	URL string

	// PageSize is how many keys or users one answer holds; 100 in a new server.
	PageSize int
	// Trouble decides over each request; nil means that all goes smoothly. n
	// counts from 1. Faults of the Process come on top: Refused is AccessDenied,
	// the unanswered ones are a connection that breaks off.
	Trouble func(n int, action string) Trouble

	Requests []string // the actions asked for, such as iam:ListAccessKeys

	mu     sync.Mutex
	values map[string]map[string]string // secret name → version ID → what was put
}

// Trouble is what happens to a request on its way.
type Trouble int

// The troubles.
const (
	Smooth      Trouble = iota
	Throttling          // refused for now
	ServerFault         // HTTP 500, without effect
	FaultAfter          // takes effect, then HTTP 500
	HangUp              // takes effect, then the connection is closed without an answer
	Cut                 // takes effect, then the answer breaks off in the middle
	Proxy               // something in between answers HTTP 403 in words of its own, without effect
)

// Troubles lists every trouble but Smooth.
var Troubles = []Trouble{Throttling, ServerFault, FaultAfter, HangUp, Cut, Proxy}

func (t Trouble) String() string {
	return [...]string{"smooth", "throttling", "server fault", "fault after", "hang up", "cut", "proxy"}[t]
}

// Serve puts the account behind the wire. The server closes when the test ends.
func (a *Account) Serve(t interface{ Cleanup(func()) }) *Server {
	s := &Server{Process: a.Start(), PageSize: 100, values: map[string]map[string]string{}}
	server := httptest.NewServer(s)
	s.URL = server.URL
	t.Cleanup(server.Close)
	return s
}

// RoundTrip implements [http.RoundTripper]: it answers without a network, so that
// a test can let the SDK wait on a clock of its own.
func (s *Server) RoundTrip(r *http.Request) (response *http.Response, err error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	defer func() {
		p := recover()
		if p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
		if response = w.Result(); p != nil && w.Body.Len() == 0 {
			response, err = nil, errors.New("connection reset by peer")
		} else if p != nil {
			response.Body = io.NopCloser(io.MultiReader(w.Body, iotest.ErrReader(io.ErrUnexpectedEOF)))
		}
	}()
	in := r.Clone(r.Context())
	in.Host = r.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	s.ServeHTTP(w, in)
	return nil, nil
}

// SecretString gives the value of the secret's current version, as a consumer reads it.
func (s *Server) SecretString(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, _ := s.described(name)
	for id, stages := range d.Versions {
		if slices.Contains(stages, "AWSCURRENT") {
			return s.values[name][id]
		}
	}
	return ""
}

// described gives the secret as it is, whatever lags.
func (s *Server) described(id string) (iamkeys.SecretDescription, bool) {
	s.Account.mu.Lock()
	defer s.Account.mu.Unlock()
	secret := s.secret(id)
	if secret == nil {
		return iamkeys.SecretDescription{}, false
	}
	return secret.description.at(s.now)
}

// A refusal is an error in a service's own words.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller has gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := request{Request: r, body: body, form: url.Values{}}
	signed := strings.Split(r.Header.Get("Authorization"), "/") // ... Credential=ID/date/Region/service/aws4_request, ...
	if len(signed) < 5 {
		http.Error(w, "not signed", http.StatusForbidden)
		return
	}
	_, q.signer, _ = strings.Cut(signed[0], "Credential=")
	service := signed[3]
	name := ""
	switch service {
	case "secretsmanager", "states":
		_, name, _ = strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	case "s3":
		name = map[string]string{http.MethodGet: "GetObject", http.MethodPut: "PutObject"}[r.Method]
	case "ses":
		name = map[string]string{"/v2/email/outbound-emails": "SendEmail"}[r.URL.Path]
	default:
		q.form, _ = url.ParseQuery(string(body))
		name = q.form.Get("Action")
	}
	q.action = service + ":" + name

	s.Requests = append(s.Requests, q.action)
	trouble := Smooth
	if s.Trouble != nil {
		trouble = s.Trouble(len(s.Requests), q.action)
	}
	fault := &refusal{http.StatusInternalServerError, "ServiceFailure", "Something went wrong."}
	var a answer
	switch trouble {
	case Proxy:
		http.Error(w, "<html>No.</html>", http.StatusForbidden)
		return
	case Throttling:
		err = &refusal{http.StatusBadRequest, "Throttling", "Rate exceeded"}
	case ServerFault:
		err = fault
	default:
		a, err = s.answer(r.Context(), q)
	}
	if lost, ok := errors.AsType[*iamkeys.Error](err); ok && lost.OutcomeUnknown {
		trouble = HangUp
	}
	if trouble == FaultAfter {
		err = fault
	}
	content, status := a.content, http.StatusOK
	if err != nil {
		content, status = q.refuse(service, err)
	}
	switch service {
	case "secretsmanager", "states":
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	case "ses":
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.Header().Set("X-Amzn-Errortype", refused(service, err).code)
		}
	case "s3":
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("ETag", a.etag)
	default:
		w.Header().Set("Content-Type", "text/xml")
	}
	w.Header().Set("X-Amzn-RequestId", "request-"+strconv.Itoa(len(s.Requests)))
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	switch trouble {
	case HangUp:
		panic(http.ErrAbortHandler) // net/http's way to drop a connection
	case Cut:
		w.WriteHeader(status)
		_, _ = w.Write(content[:len(content)/2])
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_, _ = w.Write(content)
}

// A request is one call of an action.
type request struct {
	*http.Request
	body   []byte
	form   url.Values // of IAM, STS and SNS
	action string
	signer string // access key ID
}

// An answer is what goes back.
type answer struct {
	content []byte
	etag    string
}

// refusals maps the core's codes to a service's words for them.
var refusals = map[string]map[iamkeys.Code]refusal{
	"iam": {
		iamkeys.NoSuchEntity:  {http.StatusNotFound, "NoSuchEntity", ""},
		iamkeys.LimitExceeded: {http.StatusConflict, "LimitExceeded", ""},
		iamkeys.AccessDenied:  {http.StatusForbidden, "AccessDenied", ""},
		iamkeys.Throttled:     {http.StatusBadRequest, "Throttling", ""},
		iamkeys.InProgress:    {http.StatusNotFound, "ReportInProgress", ""},
	},
	"secretsmanager": {
		iamkeys.NoSuchEntity:      {http.StatusBadRequest, "ResourceNotFoundException", ""},
		iamkeys.SecretUnavailable: {http.StatusBadRequest, "InvalidRequestException", ""},
		iamkeys.InProgress:        {http.StatusBadRequest, "InvalidParameterException", ""}, // a label that stands elsewhere
		iamkeys.AccessDenied:      {http.StatusBadRequest, "AccessDeniedException", ""},
		iamkeys.Throttled:         {http.StatusBadRequest, "ThrottlingException", ""},
		iamkeys.Internal:          {http.StatusBadRequest, "ResourceExistsException", ""}, // another value under the same version ID
	},
	"states": {
		iamkeys.NoSuchEntity: {http.StatusBadRequest, "ExecutionDoesNotExist", ""},
		iamkeys.AccessDenied: {http.StatusBadRequest, "AccessDeniedException", ""},
		iamkeys.Throttled:    {http.StatusBadRequest, "ThrottlingException", ""},
	},
	"sts": {iamkeys.AccessDenied: {http.StatusForbidden, "InvalidClientTokenId", ""}},
	"sns": {
		iamkeys.AccessDenied: {http.StatusForbidden, "AuthorizationError", ""},
		iamkeys.Internal:     {http.StatusBadRequest, "InvalidParameter", ""}, // a message that is too long, or malformed
	},
	"ses": {
		iamkeys.AccessDenied: {http.StatusForbidden, "AccessDeniedException", ""},
		iamkeys.Internal:     {http.StatusBadRequest, "MessageRejected", ""},
	},
	"s3": {
		iamkeys.NoSuchEntity: {http.StatusNotFound, "NoSuchKey", ""},
		iamkeys.AccessDenied: {http.StatusForbidden, "AccessDenied", ""},
		iamkeys.InProgress:   {http.StatusPreconditionFailed, "PreconditionFailed", ""},
	},
}

// refuse gives an error as the service writes it.
func (q request) refuse(service string, err error) (content []byte, status int) {
	said := refused(service, err)
	switch service {
	case "ses":
		content, _ = json.Marshal(map[string]string{"message": said.message})
		return content, said.status
	case "secretsmanager", "states":
		content, _ = json.Marshal(map[string]string{"__type": said.code, "message": said.message})
		return content, said.status
	case "s3":
		return node("Error", leaf("Code", said.code), leaf("Message", said.message)).document(), said.status
	}
	kind := "Sender"
	if said.status >= 500 {
		kind = "Receiver"
	}
	return node("ErrorResponse", node("Error", leaf("Type", kind), leaf("Code", said.code), leaf("Message", said.message)), leaf("RequestId", "request")).document(), said.status
}

// refused gives the service's words for an error.
func refused(service string, err error) *refusal {
	if said, ok := err.(*refusal); ok {
		return said
	}
	known, ok := refusals[service][iamkeys.CodeOf(err)]
	if !ok {
		known = refusal{http.StatusInternalServerError, "ServiceFailure", ""}
	}
	if errors.Is(err, errFull) {
		known = refusal{http.StatusBadRequest, "LimitExceededException", ""}
	}
	return &refusal{known.status, known.code, err.Error()}
}

// answer does what is asked.
func (s *Server) answer(ctx context.Context, q request) (answer, error) {
	if err := s.authentic(q); err != nil {
		return answer{}, err
	}
	switch q.action {
	case "iam:ListAccessKeys":
		userName := q.form.Get("UserName")
		keys, err := s.ListAccessKeys(ctx, userName)
		if err != nil {
			return answer{}, err
		}
		page, more := s.page(q, len(keys))
		members := node("AccessKeyMetadata")
		for _, k := range keys[page.from:page.to] {
			members.add(node("member", leaf("UserName", userName), leaf("AccessKeyId", k.AccessKeyID), leaf("Status", string(k.Status)), leaf("CreateDate", stamp(k.CreateDate))))
		}
		return q.result(append(more, members)...)
	case "iam:GetAccessKeyLastUsed":
		used, err := s.GetAccessKeyLastUsed(ctx, q.form.Get("AccessKeyId"))
		if err != nil {
			return answer{}, err
		}
		last := node("AccessKeyLastUsed", leaf("ServiceName", orNA(used.ServiceName)), leaf("Region", orNA(used.Region)))
		if !used.Never() {
			last.add(leaf("LastUsedDate", stamp(used.Date)))
		}
		return q.result(leaf("UserName", used.UserName), last)
	case "iam:GetUser":
		u, err := s.GetUser(ctx, q.form.Get("UserName"))
		if err != nil {
			return answer{}, err
		}
		return q.result(userNode("User", u))
	case "iam:CreateAccessKey":
		c, err := s.CreateAccessKey(ctx, q.form.Get("UserName"), nonceIn(q.Header.Get("User-Agent")))
		if err != nil {
			return answer{}, err
		}
		return q.result(node("AccessKey", leaf("UserName", c.UserName), leaf("AccessKeyId", c.AccessKeyID), leaf("Status", "Active"),
			leaf("SecretAccessKey", SecretOf(c.AccessKeyID)), leaf("CreateDate", stamp(c.CreateDate))))
	case "iam:UpdateAccessKey":
		if err := s.UpdateAccessKey(ctx, q.form.Get("UserName"), q.form.Get("AccessKeyId"), iamkeys.Status(q.form.Get("Status"))); err != nil {
			return answer{}, err
		}
		return q.result()
	case "iam:DeleteAccessKey":
		if err := s.DeleteAccessKey(ctx, q.form.Get("UserName"), q.form.Get("AccessKeyId")); err != nil {
			return answer{}, err
		}
		return q.result()
	case "sts:GetCallerIdentity":
		arn := "arn:aws:sts::" + s.ID + ":assumed-role/function/function"
		if s.isKey(q.signer) {
			var err error
			if arn, err = s.GetCallerIdentity(ctx, iamkeys.Credentials{AccessKeyID: q.signer}); err != nil {
				return answer{}, err
			}
		}
		return q.result(leaf("Arn", arn), leaf("Account", s.ID))
	case "secretsmanager:DescribeSecret", "secretsmanager:CreateSecret", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage":
		return s.secretsManager(ctx, q)
	case "iam:GenerateCredentialReport":
		complete, err := s.GenerateCredentialReport(ctx)
		if err != nil {
			return answer{}, err
		}
		return q.result(leaf("State", map[bool]string{false: "STARTED", true: "COMPLETE"}[complete]))
	case "iam:GetCredentialReport":
		content, generated, err := s.GetCredentialReport(ctx)
		if err != nil {
			return answer{}, err
		}
		return q.result(leaf("Content", base64.StdEncoding.EncodeToString(content)), leaf("ReportFormat", "text/csv"), leaf("GeneratedTime", stamp(generated)))
	case "iam:GetAccountAuthorizationDetails":
		users, err := s.GetAccountAuthorizationDetails(ctx)
		if err != nil {
			return answer{}, err
		}
		s.Account.mu.Lock()
		defer s.Account.mu.Unlock()
		names := slices.Sorted(maps.Keys(s.groups))
		page, more := s.page(q, len(users)+len(names))
		members, groups := node("UserDetailList"), node("GroupDetailList")
		for i := page.from; i < page.to; i++ {
			if i >= len(users) {
				name := names[i-len(users)]
				groups.add(node("member", leaf("GroupName", name), attached(s.groups[name])))
				continue
			}
			member, in := userNode("member", users[i]), node("GroupList")
			for _, name := range s.users[users[i].UserName].groups {
				in.add(leaf("member", name))
			}
			member.add(attached(users[i].AttachedPolicies))
			member.add(in)
			members.add(member)
		}
		return q.result(append(more, members, groups)...)
	case "iam:ListAttachedUserPolicies", "iam:ListAttachedGroupPolicies":
		arns := s.ListAttachedGroupPolicies
		of := q.form.Get("GroupName")
		if q.action == "iam:ListAttachedUserPolicies" {
			arns, of = s.ListAttachedUserPolicies, q.form.Get("UserName")
		}
		all, err := arns(ctx, of)
		if err != nil {
			return answer{}, err
		}
		page, more := s.page(q, len(all))
		policies := attached(all[page.from:page.to])
		policies.name = "AttachedPolicies"
		return q.result(append(more, policies)...)
	case "iam:ListGroupsForUser":
		all, err := s.ListGroupsForUser(ctx, q.form.Get("UserName"))
		if err != nil {
			return answer{}, err
		}
		page, more := s.page(q, len(all))
		groups := node("Groups")
		for _, name := range all[page.from:page.to] {
			groups.add(node("member", leaf("Path", "/"), leaf("GroupName", name), leaf("GroupId", "AGPAEXAMPLE"), leaf("Arn", "arn:aws:iam::"+s.ID+":group/"+name), leaf("CreateDate", stamp(Epoch))))
		}
		return q.result(append(more, groups)...)
	case "iam:GetAccountSummary":
		rootKey, err := s.GetAccountSummary(ctx)
		if err != nil {
			return answer{}, err
		}
		return q.result(node("SummaryMap", node("entry", leaf("key", "Users"), leaf("value", "1")),
			node("entry", leaf("key", "AccountAccessKeysPresent"), leaf("value", map[bool]string{false: "0", true: "1"}[rootKey]))))
	case "s3:GetObject", "s3:PutObject":
		_, key, _ := strings.Cut(strings.TrimPrefix(q.URL.Path, "/"), "/")
		if q.action == "s3:PutObject" {
			var replaces *string
			if etag := q.Header.Get("If-Match"); etag != "" {
				replaces = &etag
			} else if q.Header.Get("If-None-Match") == "*" {
				replaces = new(string)
			}
			return answer{}, s.PutObject(ctx, key, q.Header.Get("Content-Type"), bytes.NewReader(q.body), replaces)
		}
		content, etag, err := s.GetObject(ctx, key)
		return answer{content, etag}, err
	case "sns:Publish":
		id, err := s.Publish(ctx, published(q.form))
		if err != nil {
			return answer{}, err
		}
		return q.result(leaf("MessageId", id))
	case "ses:SendEmail":
		type content struct{ Data string }
		var in struct {
			Destination struct{ ToAddresses, CcAddresses, BccAddresses []string }
			Content     struct {
				Simple struct {
					Subject content
					Body    struct{ Text content }
				}
			}
		}
		if err := json.Unmarshal(q.body, &in); err != nil || len(in.Destination.ToAddresses) != 1 || len(in.Destination.CcAddresses)+len(in.Destination.BccAddresses) > 0 {
			return answer{}, &refusal{http.StatusBadRequest, "BadRequestException", "One recipient is spoken of here."}
		}
		id, err := s.SendEmail(ctx, in.Destination.ToAddresses[0], in.Content.Simple.Subject.Data, in.Content.Simple.Body.Text.Data)
		if err != nil {
			return answer{}, err
		}
		return object(map[string]any{"MessageId": id})
	case "states:DescribeExecution", "states:ListExecutions":
		return s.stepFunctions(ctx, q)
	}
	return answer{}, &refusal{http.StatusBadRequest, "InvalidAction", q.action + " is not spoken here."}
}

// stepFunctions does what is asked of Step Functions. The state machine of each
// workflow has its word in its name, in any case.
func (s *Server) stepFunctions(ctx context.Context, q request) (answer, error) {
	var in struct {
		ExecutionArn, StateMachineArn, StatusFilter, NextToken string
		MaxResults                                             int
	}
	if err := json.Unmarshal(q.body, &in); err != nil {
		return answer{}, &refusal{http.StatusBadRequest, "SerializationException", err.Error()}
	}
	parts := strings.Split(cmp.Or(in.ExecutionArn, in.StateMachineArn), ":") // arn:aws:states:Region:account:execution:machine:name
	if len(parts) < 7 {
		return answer{}, &refusal{http.StatusBadRequest, "InvalidArn", "Invalid Arn."}
	}
	workflow := iamkeys.RotationWorkflow
	if strings.Contains(strings.ToLower(parts[6]), string(iamkeys.RetirementWorkflow)) {
		workflow = iamkeys.RetirementWorkflow
	}
	show := func(e iamkeys.Execution) map[string]any {
		out := map[string]any{"executionArn": strings.Join(append(slices.Clone(parts[:5]), "execution", parts[6], e.Name), ":"), "name": e.Name, "status": e.Status, "startDate": seconds(e.Started)}
		if !e.Stopped.IsZero() {
			out["stopDate"] = seconds(e.Stopped)
		}
		if e.Input != nil {
			out["input"] = string(e.Input)
		}
		if e.Output != nil {
			out["output"] = string(e.Output)
		}
		return out
	}
	if q.action == "states:DescribeExecution" {
		e, err := s.DescribeExecution(ctx, workflow, parts[len(parts)-1])
		if err != nil {
			return answer{}, err
		}
		return object(show(e))
	}
	all, err := s.ListExecutions(ctx, workflow, iamkeys.ExecutionStatus(in.StatusFilter), time.Time{})
	if err != nil {
		return answer{}, err
	}
	from, _ := strconv.Atoi(in.NextToken)
	to := min(len(all), from+s.PageSize, from+cmp.Or(in.MaxResults, 100))
	page := []any{}
	for _, e := range all[from:to] {
		page = append(page, show(e))
	}
	out := map[string]any{"executions": page}
	if to < len(all) {
		out["nextToken"] = strconv.Itoa(to)
	}
	return object(out)
}

// secretsManager does what is asked of Secrets Manager.
func (s *Server) secretsManager(ctx context.Context, q request) (answer, error) {
	var in struct {
		Name, SecretId, ClientRequestToken, SecretString, VersionStage, MoveToVersionId, RemoveFromVersionId, KmsKeyId string
		VersionStages                                                                                                  []string
	}
	if err := json.Unmarshal(q.body, &in); err != nil {
		return answer{}, &refusal{http.StatusBadRequest, "SerializationException", err.Error()}
	}
	invalid := func(message string) (answer, error) {
		return answer{}, &refusal{http.StatusBadRequest, "InvalidParameterException", message}
	}
	if t := in.ClientRequestToken; t != "" && (len(t) < 32 || len(t) > 64) {
		return invalid("ClientRequestToken must be 32 to 64 characters long.")
	}
	switch q.action {
	case "secretsmanager:DescribeSecret":
		d, err := s.DescribeSecret(ctx, in.SecretId)
		if err != nil {
			return answer{}, err
		}
		out := map[string]any{"ARN": d.ARN, "Name": d.Name}
		if len(d.Versions) > 0 {
			out["VersionIdsToStages"] = d.Versions
		}
		if d.Deleted {
			out["DeletedDate"] = seconds(s.Now())
		}
		if d.PrimaryRegion != "" {
			out["PrimaryRegion"] = d.PrimaryRegion
		}
		return object(out)
	case "secretsmanager:CreateSecret":
		if d, ok := s.described(in.Name); ok && d.Deleted {
			return answer{}, &refusal{http.StatusBadRequest, "InvalidRequestException", "A secret with this name is already scheduled for deletion."}
		}
		arn, versionID, err := s.CreateSecret(ctx, in.Name)
		switch {
		case err != nil:
			return answer{}, err
		case arn == "":
			return answer{}, &refusal{http.StatusBadRequest, "ResourceExistsException", "The secret " + in.Name + " already exists."}
		case versionID == "":
			return object(map[string]any{"ARN": arn, "Name": in.Name})
		}
		return object(map[string]any{"ARN": arn, "Name": in.Name, "VersionId": versionID})
	case "secretsmanager:PutSecretValue":
		d, _ := s.described(in.SecretId)
		if said, ok := s.values[d.Name][in.ClientRequestToken]; ok && said != in.SecretString {
			return answer{}, &refusal{http.StatusBadRequest, "ResourceExistsException", "The version has another value."}
		}
		version := iamkeys.SecretVersion{ID: in.ClientRequestToken, Stages: in.VersionStages}
		var value struct{ AccessKeyId, SecretAccessKey string }
		if json.Unmarshal([]byte(in.SecretString), &value) == nil && value.AccessKeyId != "" {
			version.Credentials = &iamkeys.Credentials{AccessKeyID: value.AccessKeyId, Secret: iamkeys.NewSecret(value.SecretAccessKey)}
		}
		if err := s.PutSecretValue(ctx, in.SecretId, version); err != nil {
			return answer{}, err
		}
		if s.values[d.Name] == nil {
			s.values[d.Name] = map[string]string{}
		}
		s.values[d.Name][in.ClientRequestToken] = in.SecretString
		return object(map[string]any{"ARN": d.ARN, "Name": d.Name, "VersionId": in.ClientRequestToken})
	}
	d, _ := s.described(in.SecretId)
	if err := s.UpdateSecretVersionStage(ctx, in.SecretId, in.VersionStage, in.MoveToVersionId, in.RemoveFromVersionId); err != nil {
		return answer{}, err
	}
	return object(map[string]any{"ARN": d.ARN, "Name": d.Name})
}

// nonceIn gives the nonce that the user agent says, "" when it says none.
func nonceIn(userAgent string) string {
	_, after, _ := strings.Cut(userAgent, "iamkeys/")
	nonce, _, _ := strings.Cut(after, " ")
	return nonce
}

// published gives the message that a Publish request holds.
func published(form url.Values) iamkeys.Message {
	m := iamkeys.Message{Subject: form.Get("Subject")}
	var byProtocol struct{ Default, Email string }
	if !form.Has("MessageStructure") {
		m.JSON = []byte(form.Get("Message"))
	}
	if form.Get("MessageStructure") == "json" && json.Unmarshal([]byte(form.Get("Message")), &byProtocol) == nil {
		m.Text, m.JSON = byProtocol.Email, []byte(byProtocol.Default)
	}
	for n := 1; form.Has(fmt.Sprintf("MessageAttributes.entry.%d.Name", n)); n++ {
		entry := fmt.Sprintf("MessageAttributes.entry.%d.", n)
		m.Attributes = append(m.Attributes, iamkeys.Attribute{
			Name: form.Get(entry + "Name"), Value: form.Get(entry + "Value.StringValue"), Number: form.Get(entry+"Value.DataType") == "Number",
		})
	}
	return m
}

func object(fields map[string]any) (answer, error) {
	content, err := json.Marshal(fields)
	return answer{content: content}, err
}

// isKey reports whether the account has made an access key of that ID.
func (s *Server) isKey(accessKeyID string) bool {
	return slices.ContainsFunc(s.Made(), func(k iamkeys.AccessKey) bool { return k.AccessKeyID == accessKeyID })
}

// authentic refuses a request that an access key of the account cannot have signed.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func (s *Server) authentic(q request) error {
	if !s.isKey(q.signer) {
		return nil
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	sum := func(content []byte) string {
		h := sha256.Sum256(content)
		return hex.EncodeToString(h[:])
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(strings.TrimPrefix(q.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(parts["SignedHeaders"], ";") {
		value := strings.Join(q.Header.Values(name), ",")
		switch name {
		case "host":
			value = q.Host
		case "content-length":
			value = strconv.FormatInt(q.ContentLength, 10)
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	canonical := strings.Join([]string{q.Method, q.URL.EscapedPath(), q.URL.RawQuery, headers.String(), parts["SignedHeaders"], sum(q.body)}, "\n")
	scope := strings.SplitN(parts["Credential"], "/", 2)[1]
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", q.Header.Get("X-Amz-Date"), scope, sum([]byte(canonical))}, "\n")
	key := []byte("AWS4" + SecretOf(q.signer))
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(mac(key, toSign))), []byte(parts["Signature"])) {
		return &refusal{http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."}
	}
	return nil
}

// A span is a part of a list.
type span struct{ from, to int }

// page gives the part of a list that the request's marker asks for, and what
// says that there is more.
func (s *Server) page(q request, n int) (span, []*element) {
	from, _ := strconv.Atoi(strings.TrimPrefix(q.form.Get("Marker"), "after-"))
	to := min(n, from+s.PageSize)
	if most, err := strconv.Atoi(q.form.Get("MaxItems")); err == nil {
		to = min(to, from+most)
	}
	if to < n {
		return span{from, to}, []*element{leaf("IsTruncated", "true"), leaf("Marker", "after-"+strconv.Itoa(to))}
	}
	return span{from, to}, []*element{leaf("IsTruncated", "false")}
}

func userNode(name string, u iamkeys.User) *element {
	tags := node("Tags")
	for _, t := range u.Tags {
		tags.add(node("member", leaf("Key", t.Key), leaf("Value", t.Value)))
	}
	path := "/"
	if _, after, ok := strings.Cut(u.ARN, ":user/"); ok {
		path += strings.TrimSuffix(after, u.UserName)
	}
	return node(name, leaf("Path", path), leaf("UserName", u.UserName), leaf("Arn", u.ARN), leaf("CreateDate", stamp(u.CreateDate)), tags)
}

func attached(arns []string) *element {
	policies := node("AttachedManagedPolicies")
	for _, arn := range arns {
		policies.add(node("member", leaf("PolicyName", arn[strings.LastIndex(arn, "/")+1:]), leaf("PolicyArn", arn)))
	}
	return policies
}

func orNA(s string) string {
	if s == "" {
		return "N/A"
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// An element is an XML element of an answer.
type element struct {
	name     string
	text     string
	children []*element
}

func leaf(name, text string) *element { return &element{name: name, text: text} }
func node(name string, children ...*element) *element {
	return &element{name: name, children: children}
}
func (e *element) add(child *element) { e.children = append(e.children, child) }

func (e *element) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "<%s>", e.name)
	_ = xml.EscapeText(b, []byte(e.text)) // a buffer takes everything
	for _, c := range e.children {
		c.write(b)
	}
	fmt.Fprintf(b, "</%s>", e.name)
}

func (e *element) document() []byte {
	var b bytes.Buffer
	e.write(&b)
	return b.Bytes()
}

// result gives an answer of the query protocol: <ActionResponse><ActionResult>...
func (q request) result(children ...*element) (answer, error) {
	_, action, _ := strings.Cut(q.action, ":")
	return answer{content: node(action+"Response", node(action+"Result", children...), node("ResponseMetadata", leaf("RequestId", "request"))).document()}, nil
}
