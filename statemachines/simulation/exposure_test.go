package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/statemachines/asl"
)

// A leak is what AWS Health's events find, carried out by the deployed functions.
type leak struct {
	*iamkeystest.Account
	began     time.Time
	throttled int                   // so many of the next UpdateAccessKey
	before    func(function string) // what people do before a function is invoked
	firstTold time.Duration         // from the event to the first notice
	calls     []string              // of AWS until then
}

// happens runs the exposure's workflow with an event about those entities, and gives how
// the execution ended.
func (l *leak) happens(t *testing.T, parameters map[string]string, name string, detail map[string]any, entities ...string) string {
	t.Helper()
	deployed := functionstest.New(parameters)
	m := workflow("exposure", "ExposureStateMachine", deployed.Deployment)
	affected := []any{}
	for _, e := range entities {
		affected = append(affected, map[string]any{"entityValue": e})
	}
	all := map[string]any{
		"eventArn": "arn:aws:health:us-east-1::event/RISK/AWS_RISK_CREDENTIALS_EXPOSED/1", "service": "RISK", "eventTypeCode": "AWS_RISK_CREDENTIALS_EXPOSED", "statusCode": "open",
		"affectedAccount": l.ID, "affectedEntities": affected,
	}
	for name, value := range detail {
		all[name] = value
	}
	content, err := json.Marshal(map[string]any{"version": "0", "detail-type": "AWS Health Event", "source": "aws.health", "account": l.ID, "time": l.Now().Format(time.RFC3339), "region": "us-east-1", "resources": entities, "detail": all})
	if err != nil {
		t.Fatal(err)
	}
	var event any
	if err := json.Unmarshal(content, &event); err != nil {
		t.Fatal(err)
	}
	l.began, l.firstTold, l.calls = l.Now(), 0, nil
	told := len(l.Messages())
	e := asl.Execution{Name: name, Started: l.Now(), Wait: func(_ context.Context, d time.Duration) error { l.Advance(d); return nil }}
	e.Task = asl.Lambda(func(ctx context.Context, function string, payload any) (any, error) {
		if l.before != nil {
			l.before(function)
		}
		in, err := json.Marshal(payload)
		if err != nil {
			return nil, err
		}
		p := l.Start()
		p.Before = func(_ int, action string) { l.calls = append(l.calls, action) }
		var port any = p
		if l.throttled > 0 {
			port = throttling{p, &l.throttled}
		}
		f := deployed.Function(function, functionstest.Surroundings{Port: func(string) any { return port }, Now: l.Now, Sleep: l.Sleep, Log: slog.New(slog.DiscardHandler)})
		out, err := f.Handler.Invoke(ctx, in)
		if named, ok := errors.AsType[messages.InvokeResponse_Error](err); ok {
			return nil, &asl.Error{Name: named.Type, Cause: named.Message}
		} else if err != nil {
			return nil, err
		}
		if l.firstTold == 0 && len(l.Messages()) > told {
			l.firstTold = l.Now().Sub(l.began)
		}
		var answer any
		err = json.Unmarshal(out, &answer)
		return answer, err
	})
	if _, err = m.Run(t.Context(), &e, event); err == nil {
		return "succeeded"
	}
	if failed, ok := errors.AsType[*asl.Error](err); ok {
		return failed.Name
	}
	t.Fatal(err)
	return ""
}

// throttling is an account whose UpdateAccessKey AWS throttles so many times.
type throttling struct {
	*iamkeystest.Process
	left *int
}

func (t throttling) UpdateAccessKey(ctx context.Context, userName, accessKeyID string, status iamkeys.Status) error {
	if *t.left > 0 {
		*t.left--
		return &iamkeys.Error{Code: iamkeys.Throttled, Message: "AWS throttled the call."}
	}
	return t.Process.UpdateAccessKey(ctx, userName, accessKeyID, status)
}

// stages gives the stages of the notices from the n-th on.
func (l *leak) stages(n int) string {
	var told []string
	for _, m := range l.Messages()[n:] {
		for _, a := range m.Attributes {
			if a.Name == "stage" {
				told = append(told, a.Value)
			}
		}
	}
	return strings.Join(told, " ")
}

// TestExposure runs events of AWS Health through the workflow and the functions as they
// are deployed, to the notices and the keys' end state.
func TestExposure(t *testing.T) {
	const key, protected, unknown = "AKIAIAMKEYSTEST00001", "AKIAIAMKEYSTEST00002", "AKIANOSUCHKEY0000000"
	deactivate := map[string]string{"ExposureMode": "deactivate"}
	mails := map[string]string{"ExposureMode": "deactivate", "SenderAddress": "iamkeys@example.com", "OwnerMailDomains": "example.com", "Chat": "on"}
	for name, c := range map[string]struct {
		parameters map[string]string
		entities   []string
		detail     map[string]any
		throttled  int
		before     func(l *leak, function string)
		ended      string
		told       string
		says       []string
		status     iamkeys.Status
	}{
		"told by default":       {entities: []string{key}, told: "exposed", says: []string{"can be used", "--status Inactive"}, status: iamkeys.Active},
		"switched off":          {parameters: deactivate, entities: []string{key}, told: "exposed", says: []string{"is switched off: Inactive"}, status: iamkeys.Inactive},
		"in use, and off":       {parameters: deactivate, entities: []string{key}, before: func(l *leak, function string) { l.Use(key, "s3", "eu-west-1") }, told: "exposed", status: iamkeys.Inactive},
		"several":               {parameters: deactivate, entities: []string{unknown, protected, key, "root"}, told: "exposed", says: []string{"4 access keys", "not known to this account", "root user", "is switched off"}, status: iamkeys.Inactive},
		"no entity":             {parameters: deactivate, told: "exposed", status: iamkeys.Active},
		"another account's":     {parameters: deactivate, entities: []string{key}, detail: map[string]any{"affectedAccount": "210987654321"}, told: "exposed", says: []string{"account 210987654321"}, status: iamkeys.Active},
		"closed":                {parameters: deactivate, entities: []string{key}, detail: map[string]any{"statusCode": "closed"}, told: "exposed", says: []string{"closed"}, status: iamkeys.Active},
		"throttled for a while": {parameters: deactivate, entities: []string{key}, throttled: 14, told: "exposed off", says: []string{"throttled", "is switched off"}, status: iamkeys.Inactive},
		"throttled for an hour": {parameters: deactivate, entities: []string{key}, throttled: 1000, ended: "Throttled", told: "exposed failed", says: []string{"--status Inactive"}, status: iamkeys.Active},
		"a person wants it on": {parameters: deactivate, entities: []string{key}, before: func(l *leak, function string) {
			if function == "lastused" { // the look, 10 s after
				l.SetStatus("leaky", key, iamkeys.Active)
			}
		}, told: "exposed", says: []string{"Active again"}, status: iamkeys.Active},
		"gone before": {parameters: deactivate, entities: []string{key}, before: func(l *leak, function string) {
			if function == "exposed" && len(l.Keys("leaky")) > 0 {
				l.DeleteKey("leaky", key)
			}
		}, told: "exposed", says: []string{"not known"}},
		"with owner and chat": {parameters: mails, entities: []string{key}, told: "exposed", says: []string{"is switched off"}, status: iamkeys.Inactive},
	} {
		t.Run(name, func(t *testing.T) {
			l := &leak{Account: iamkeystest.NewAccount(), throttled: c.throttled}
			l.AddUser("leaky", iamkeys.Tag{Key: "owner", Value: "team@example.com"})
			l.AddUser("guarded", iamkeys.Tag{Key: iamkeys.TagProtect, Value: "true"})
			l.AddKey("leaky", 100*day)
			l.AddKey("guarded", 100*day)
			if c.before != nil {
				l.before = func(function string) { c.before(l, function) }
			}
			ended := c.ended
			if ended == "" {
				ended = "succeeded"
			}
			if got := l.happens(t, c.parameters, "event-1", c.detail, c.entities...); got != ended {
				t.Errorf("ended as %s, want %s", got, ended)
			}
			if got := l.stages(0); got != c.told {
				t.Errorf("told %q, want %q", got, c.told)
			}
			var said strings.Builder
			for _, m := range l.Messages() {
				said.WriteString(strings.Join(strings.Fields(m.Subject+" "+m.Text), " "))
			}
			for _, s := range c.says {
				if !strings.Contains(said.String(), s) {
					t.Errorf("the notices do not say %q: %s", s, said.String())
				}
			}
			status := iamkeys.Status("")
			for _, k := range l.Keys("leaky") {
				status = k.Status
			}
			if status != c.status || len(l.Keys("guarded")) != 1 || l.Keys("guarded")[0].Status != iamkeys.Active {
				t.Errorf("the key is %q, want %q; the protected user's keys are %v", status, c.status, l.Keys("guarded"))
			}
			if l.firstTold > 2*time.Minute || name == "told by default" && (l.firstTold > 0 || len(l.calls) > 10) {
				t.Errorf("people were told after %v and %v", l.firstTold, l.calls)
			}
			if sent := fmt.Sprint(len(l.Mails()), len(l.Chats())); name == "with owner and chat" && (sent != "1 1" || l.Mails()[0].To != "team@example.com") {
				t.Errorf("mails and chats: %s, %v", sent, l.Mails())
			}
			before := len(l.Messages())
			l.before, l.throttled = nil, 0
			if got := l.happens(t, c.parameters, "event-1-again", c.detail, c.entities...); got != "succeeded" || len(l.Messages()) != before && c.ended == "" {
				t.Errorf("the same event again ended as %s, and told %q", got, l.stages(before))
			}
		})
	}
}
