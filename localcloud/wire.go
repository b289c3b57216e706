package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// A wire speaks AWS's protocols without an SDK, for services of which a call or
// two are needed: the client of one such service takes more time to compile
// than everything here. Nobody checks the signature.
type wire struct {
	endpoint string
	account  string // where it is not the default one: its ID
}

// A wireError is a refusal.
type wireError struct {
	Status        int // HTTP
	Code, Message string
}

func (e *wireError) Error() string { return fmt.Sprintf("%s (%d): %s", e.Code, e.Status, e.Message) }

// target calls an action of a service that takes its name in a header, as
// "AWSOrganizationsV20161128.ListAccounts", and decodes its answer into out.
func (w wire) target(ctx context.Context, service, action string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", action, err)
	}
	answer, _, err := w.send(ctx, service, http.MethodPost, "/", http.Header{
		"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {action}}, body)
	return decoded(answer, err, action, out)
}

// rest calls a service that takes its actions by method and path; a nil in is
// no body.
func (w wire) rest(ctx context.Context, service, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encoding %s %s: %w", method, path, err)
		}
	}
	answer, _, err := w.send(ctx, service, method, path, http.Header{"Content-Type": {"application/json"}}, body)
	return decoded(answer, err, method+" "+path, out)
}

// query calls a service that takes forms and answers in XML, as CloudFormation.
func (w wire) query(ctx context.Context, service string, form url.Values, out any) error {
	answer, _, err := w.send(ctx, service, http.MethodPost, "/", http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode()))
	if err != nil {
		return fmt.Errorf("calling %s:%s: %w", service, form.Get("Action"), err)
	}
	if err := xml.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("reading the answer of %s:%s: %w", service, form.Get("Action"), err)
	}
	return nil
}

func decoded(answer []byte, err error, action string, out any) error {
	if err != nil {
		return fmt.Errorf("calling %s: %w", action, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", action, err)
	}
	return nil
}

func (w wire) send(ctx context.Context, service, method, path string, header http.Header, body []byte) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, w.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = header
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+cmp.Or(w.account, "test")+"/20260101/"+region+"/"+service+"/aws4_request, SignedHeaders=host, Signature=none")
	if w.account != "" {
		req.Header.Set("X-Moto-Account-Id", w.account) // ministack takes it from the credential
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, nil, refusalOf(resp, answer)
	}
	return answer, resp.Header, nil
}

// refusalOf reads a refusal in JSON or XML.
func refusalOf(resp *http.Response, answer []byte) error {
	e := &wireError{Status: resp.StatusCode, Code: resp.Header.Get("X-Amzn-ErrorType")}
	var inJSON struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	var inXML struct {
		Code    string `xml:"Error>Code"`
		Message string `xml:"Error>Message"`
	}
	switch {
	case json.Unmarshal(answer, &inJSON) == nil:
		if inJSON.Type != "" {
			e.Code = inJSON.Type
		}
		e.Message = inJSON.Message
	case xml.Unmarshal(answer, &inXML) == nil:
		e.Code, e.Message = inXML.Code, inXML.Message
	default:
		e.Message = fmt.Sprintf("%.300s", answer)
	}
	e.Code = e.Code[strings.LastIndex(e.Code, "#")+1:]
	return e
}
