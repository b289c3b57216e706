package lambdafn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/lambdafn"
)

type input struct {
	UserName string `json:"userName"`
}

func (in input) Validate() error {
	if in.UserName == "" {
		return &iamkeys.Error{Code: iamkeys.InvalidInput, Message: "userName is missing."}
	}
	return nil
}

type output struct {
	Greeting string `json:"greeting"`
}

// Whoever sends an empty account has lost which one: it must not become the stack's own.
func TestEmptyAccount(t *testing.T) {
	audited := 0
	handler := lambdafn.Handler(func(context.Context, audit.Input) (output, error) { audited++; return output{}, nil }, slog.New(slog.DiscardHandler))
	for _, field := range []string{"account", "runId", "day", "notify", "inventory"} {
		_, err := handler.Invoke(t.Context(), fmt.Appendf(nil, `{%q: ""}`, field))
		if named, ok := err.(messages.InvokeResponse_Error); !ok || named.Type != string(iamkeys.InvalidInput) || !strings.Contains(named.Message, field+" must not be empty") {
			t.Errorf("an empty %s: %v", field, err)
		}
	}
	if _, err := handler.Invoke(t.Context(), []byte(`{"account": "210987654321", "name": "", "runId": "x", "day": "2026-11-23"}`)); err != nil || audited != 1 {
		t.Errorf("an account without a name: %v; %d audits", err, audited)
	}
}

// invoke runs one event and gives the answer, the error and the log lines.
func invoke(t *testing.T, run func(context.Context, input) (output, error), event string) (string, messages.InvokeResponse_Error, []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	handler := lambdafn.Handler(run, slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx := lambdacontext.NewContext(context.Background(), &lambdacontext.LambdaContext{AwsRequestID: "request-7"})
	answer, err := handler.Invoke(ctx, []byte(event))
	var named messages.InvokeResponse_Error
	if err != nil {
		var ok bool
		if named, ok = err.(messages.InvokeResponse_Error); !ok {
			t.Fatalf("the error is a %T: Lambda would report that as its type", err)
		}
		if answer != nil {
			t.Errorf("an error came with the answer %s", answer)
		}
	}
	var lines []map[string]any
	for d := json.NewDecoder(&out); d.More(); {
		var line map[string]any
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return string(answer), named, lines
}

func TestHandler(t *testing.T) {
	answer, _, lines := invoke(t, func(_ context.Context, in input) (output, error) { return output{"hello " + in.UserName}, nil }, `{"userName":"alice"}`)
	if answer != `{"greeting":"hello alice"}` || len(lines) != 0 {
		t.Errorf("got %s and %d log lines", answer, len(lines))
	}
}

func TestHandlerNamesErrors(t *testing.T) {
	fails := func(err error) func(context.Context, input) (output, error) {
		return func(context.Context, input) (output, error) { return output{"half done"}, err }
	}
	panics := func(context.Context, input) (output, error) { panic("detail") }
	detail := errors.New("detail")
	tests := map[string]struct {
		run     func(context.Context, input) (output, error)
		event   string
		code    string
		message string
		level   string
	}{
		"the core's":         {fails(&iamkeys.Error{Code: iamkeys.KeyInUse, Message: "In use.", Err: detail}), `{"userName":"a"}`, "KeyInUse", "In use.", "INFO"},
		"the core's, deeper": {fails(fmt.Errorf("around: %w", &iamkeys.Error{Code: iamkeys.Throttled, Message: "Later.", Err: detail})), `{"userName":"a"}`, "Throttled", "Later.", "WARN"},
		"somebody must act":  {fails(&iamkeys.Error{Code: iamkeys.OrphanedKey, Message: "Delete it.", Err: detail}), `{"userName":"a"}`, "OrphanedKey", "Delete it.", "ERROR"},
		"the core's own":     {fails(&iamkeys.Error{Code: iamkeys.Internal, Message: "Odd status.", Err: detail}), `{"userName":"a"}`, "Internal", "Odd status. The log of request request-7 has the details.", "ERROR"},
		"any other":          {fails(detail), `{"userName":"a"}`, "Internal", "Something unexpected happened. The log of request request-7 has the details.", "ERROR"},
		"a panic":            {panics, `{"userName":"a"}`, "Internal", "Something unexpected happened. The log of request request-7 has the details.", "ERROR"},
		"not valid":          {panics, `{}`, "InvalidInput", "userName is missing.", "INFO"},
		"not decoded":        {panics, `{"username":"a"}`, "InvalidInput", `"username" is not a field here; accepted are userName.`, "INFO"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, got, lines := invoke(t, test.run, test.event)
			if got.Type != test.code || got.Message != test.message {
				t.Errorf("got %s %q, want %s %q", got.Type, got.Message, test.code, test.message)
			}
			if len(lines) != 1 || lines[0]["level"] != test.level || lines[0]["code"] != test.code {
				t.Fatalf("logged %v, want one line at %s", lines, test.level)
			}
			if test.code != "InvalidInput" && !strings.Contains(fmt.Sprint(lines[0]["error"]), "detail") {
				t.Errorf("the log %v lacks the cause", lines[0])
			}
		})
	}
}

// Every code has a level on purpose: a new one must not slip through as somebody's duty.
func TestEveryCodeIsReportedUnderItsName(t *testing.T) {
	for _, code := range iamkeys.Codes {
		_, got, lines := invoke(t, func(context.Context, input) (output, error) {
			return output{}, &iamkeys.Error{Code: code, Message: "m"}
		}, `{"userName":"a"}`)
		if got.Type != string(code) || len(lines) != 1 {
			t.Errorf("%s is reported as %q, in %d log lines", code, got.Type, len(lines))
		}
	}
}

type scheduledInput struct {
	Notify string `json:"notify,omitempty"`
	at     time.Time
	event  bool
}

func (scheduledInput) Validate() error { return nil }

func TestScheduledHandler(t *testing.T) {
	at := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		event string
		want  scheduledInput
	}{
		"Scheduler":           {`{"version":"0","id":"1","source":"aws.scheduler","account":"123456789012","time":"2026-11-23T06:00:00Z","region":"eu-west-1","resources":[],"detail-type":"Scheduled Event","detail":"{}"}`, scheduledInput{at: at, event: true}},
		"a rule":              {`{"version":"0","id":"1","source":"aws.events","time":"2026-11-23T06:00:00Z","detail-type":"Scheduled Event","detail":{}}`, scheduledInput{at: at, event: true}},
		"without time":        {`{"detail-type":"Scheduled Event","detail":{}}`, scheduledInput{event: true}},
		"with a time of none": {`{"detail-type":"Scheduled Event","time":"now"}`, scheduledInput{event: true}},
		"direct":              {`{"notify":"never"}`, scheduledInput{Notify: "never"}},
		"direct and empty":    {`{}`, scheduledInput{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got scheduledInput
			run := func(_ context.Context, in scheduledInput) (output, error) { got = in; return output{}, nil }
			handler := lambdafn.ScheduledHandler(run, func(at time.Time) scheduledInput { return scheduledInput{at: at, event: true} }, slog.New(slog.DiscardHandler))
			if _, err := handler.Invoke(context.Background(), []byte(test.event)); err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
	for _, event := range []string{``, `null`, `{"time":"2026-11-23T06:00:00Z"}`, `{"Detail-Type":"Scheduled Event"}`, `{"detail-type":"Scheduled Event"} {}`, `{"detail-type":null}`} {
		handler := lambdafn.ScheduledHandler(func(context.Context, scheduledInput) (output, error) { return output{}, nil }, func(time.Time) scheduledInput { return scheduledInput{} }, slog.New(slog.DiscardHandler))
		if _, err := handler.Invoke(context.Background(), []byte(event)); err == nil || err.(messages.InvokeResponse_Error).Type != "InvalidInput" {
			t.Errorf("%s: got %v, want InvalidInput", event, err)
		}
	}
}

func TestWriteMetrics(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	if err := lambdafn.WriteMetrics(&out, now, []audit.Metric{{Name: "Keys", Unit: "Count", Value: 7}, {Name: "OldestKeyAgeDays", Unit: "None", Value: 0}}); err != nil {
		t.Fatal(err)
	}
	want := `{"FunctionName":"","Keys":7,"OldestKeyAgeDays":0,"_aws":{"CloudWatchMetrics":[{"Dimensions":[["FunctionName"]],"Metrics":[{"Name":"Keys","Unit":"Count"},{"Name":"OldestKeyAgeDays","Unit":"None"}],"Namespace":"iamkeys"}],"Timestamp":1795413600000}}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}
