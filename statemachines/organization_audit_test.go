package statemachines_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/statemachines/asl"
)

// organization stands in for the functions of an organization's audit, where the
// point is the workflow's own way.
type organization struct {
	accounts []string            // of the list
	answers  map[string][]string // account (of the reason: "a reason"; else the function) → errors in order; "" is none

	called  []string       // function, account, and "reason" where a reason was stored
	reasons map[string]any // account → what was stored
	merged  map[string]any // what merge was asked
	asked   map[string]any // what accounts was asked
	digest  map[string]any // what digest was asked
	events  map[string]int // of each child's history
	passed  time.Duration
}

func (o *organization) invoke(_ context.Context, function string, payload any) (any, error) {
	in := payload.(map[string]any)
	name := function
	if account, ok := in["account"].(string); ok {
		name = account
		if in["failed"] != nil {
			name += " reason"
		}
	}
	o.called = append(o.called, name)
	if answers := o.answers[name]; len(answers) > 0 {
		o.answers[name] = answers[1:]
		if answers[0] != "" {
			return nil, &asl.Error{Name: answers[0], Cause: strings.TrimPrefix("because of "+answers[0], "because of Mute")}
		}
	}
	switch function {
	case "accounts":
		o.asked = in
		return map[string]any{"runId": "r1", "day": "2026-11-23", "accounts": float64(len(o.accounts)), "skipped": []any{}, "skippedCounts": map[string]any{}, "list": map[string]any{"bucket": "reports", "key": "list.json"}, "atOnce": 2.0}, nil
	case "audit":
		if in["failed"] != nil {
			o.reasons[in["account"].(string)] = in["failed"]
		}
		return map[string]any{"runId": "r1", "findings": 3.0}, nil
	case "merge":
		o.merged = in
		return map[string]any{"runId": "r1", "notified": true, "report": map[string]any{"bucket": "reports", "prefix": "reports/organization/2026/11/23/r1"}}, nil
	case "digest":
		o.digest = in
		return map[string]any{"sent": 1.0, "unowned": 0.0, "failed": 0.0}, nil
	}
	return nil, fmt.Errorf("no function %s", function)
}

func (o *organization) task(ctx context.Context, resource string, arguments any) (any, error) {
	return asl.Lambda(o.invoke)(ctx, resource, arguments)
}

// read gives the list that accounts stored.
func (o *organization) read(_ context.Context, bucket, key string) ([]byte, error) {
	if bucket != "reports" || key != "list.json" {
		return nil, errors.New("NoSuchKey")
	}
	var list []any
	for _, a := range o.accounts {
		list = append(list, map[string]any{"account": a, "name": "name of " + a, "runId": "r1", "day": "2026-11-23"})
	}
	return json.Marshal(list)
}

func (o *organization) run(t *testing.T, input string) (any, *asl.Error) {
	t.Helper()
	o.reasons, o.events = map[string]any{}, map[string]int{}
	wait := func(_ context.Context, d time.Duration) error { o.passed += d; return nil }
	e := &asl.Execution{Task: o.task, Wait: wait, Name: "run", Started: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	e.Read = o.read
	var children []*asl.Execution
	e.Child = func(item any) *asl.Execution {
		children = append(children, &asl.Execution{Task: o.task, Wait: wait})
		return children[len(children)-1]
	}
	e.Together = func(all []func(), atOnce int) {
		if atOnce != 2 {
			t.Errorf("%d children at once, want accounts' atOnce, 2", atOnce)
		}
		for i, run := range all {
			run()
			o.events[o.accounts[i]] = children[i].History.Transitions
		}
	}
	var in any
	if err := json.Unmarshal([]byte(input), &in); err != nil {
		t.Fatal(err)
	}
	out, err := load(t, "organization-audit", "").Run(t.Context(), e, in)
	if failed, ok := errors.AsType[*asl.Error](err); ok {
		return nil, failed
	}
	if err != nil {
		t.Fatal(err)
	}
	return out, nil
}

// Whatever ends an account's audit, the run goes on, and the reason is stored.
func TestOrganizationAudit(t *testing.T) {
	many := func(name string, n int) []string { return slices.Repeat([]string{name}, n) }
	for name, tt := range map[string]struct {
		answers map[string][]string
		called  string
		reasons map[string]any
		want    string // the execution's error
		passed  time.Duration
	}{
		"all succeed": {called: "accounts a b merge digest"},
		"one fails": {
			answers: map[string][]string{"a": {"RoleUnavailable"}}, called: "accounts a a-reason b merge digest",
			reasons: map[string]any{"a": map[string]any{"error": "RoleUnavailable", "cause": "because of RoleUnavailable"}},
		},
		"one dies each time": {
			answers: map[string][]string{"a": many("Lambda.Unknown", 3)}, called: "accounts a a a a-reason b merge digest", passed: time.Minute,
			reasons: map[string]any{"a": map[string]any{"error": "Lambda.Unknown", "cause": "because of Lambda.Unknown"}},
		},
		"one times out, and then not": {answers: map[string][]string{"b": {"States.Timeout"}}, called: "accounts a b b merge digest", passed: 30 * time.Second},
		"one fails without a cause": {
			answers: map[string][]string{"a": {"Mute"}}, called: "accounts a a-reason b merge digest",
			reasons: map[string]any{"a": map[string]any{"error": "Mute", "cause": ""}},
		},
		"all fail, and their reasons cannot be stored": {
			answers: map[string][]string{"a": {"StoreFailed"}, "b": {"AccessDenied"}, "a reason": {"StoreFailed"}, "b reason": {"StoreFailed"}},
			called:  "accounts a a-reason b b-reason merge digest",
		},
		"Lambda refuses for a while, since the account is new": {
			answers: map[string][]string{"a": many("Lambda.TooManyRequestsException", 20), "b": many("Lambda.TooManyRequestsException", 20)},
			called:  "accounts" + strings.Repeat(" a", 21) + strings.Repeat(" b", 21) + " merge digest",
			passed:  2 * 4543438 * time.Millisecond,
		},
		"nobody can be listed":        {answers: map[string][]string{"accounts": {"InventoryUnavailable"}}, called: "accounts", want: "InventoryUnavailable"},
		"nobody was examined":         {answers: map[string][]string{"merge": {"InventoryUnavailable"}}, called: "accounts a b merge", want: "InventoryUnavailable"},
		"the topic is down for hours": {answers: map[string][]string{"merge": many("NotifyFailed", 5)}, called: "accounts a b" + strings.Repeat(" merge", 6) + " digest", passed: 5 * time.Hour},
		"and for good":                {answers: map[string][]string{"merge": many("NotifyFailed", 49)}, called: "accounts a b" + strings.Repeat(" merge", 49), want: "NotifyFailed", passed: 48 * time.Hour},
		"the digest fails":            {answers: map[string][]string{"digest": many("StoreFailed", 49)}, called: "accounts a b merge" + strings.Repeat(" digest", 49), want: "StoreFailed", passed: 48 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			o := &organization{accounts: []string{"a", "b"}, answers: tt.answers}
			out, failed := o.run(t, `{"time": "2026-11-23T08:58:00Z"}`)
			if got := dashed(o.called); got != tt.called {
				t.Errorf("called %s\n want %s", got, tt.called)
			}
			if len(o.reasons)+len(tt.reasons) > 0 && !reflect.DeepEqual(o.reasons, tt.reasons) {
				t.Errorf("the reasons stored are %v, want %v", o.reasons, tt.reasons)
			}
			if (o.passed - tt.passed).Abs() > time.Second {
				t.Errorf("took %v, want %v", o.passed, tt.passed)
			}
			if tt.want != "" {
				if failed == nil || failed.Name != tt.want {
					t.Errorf("ended with %v, %v, want %s", out, failed, tt.want)
				}
				return
			}
			if failed != nil {
				t.Fatal(failed)
			}
			if summary, _ := out.(map[string]any); summary["runId"] != "r1" || summary["report"] == nil {
				t.Errorf("the output is %v, want merge's summary", out)
			}
		})
	}
}

// What each function is asked: merge gets what accounts returned, digest where the
// report is, and accounts the start of the execution with what a person asked for.
func TestOrganizationAuditInputs(t *testing.T) {
	for input, want := range map[string]map[string]any{
		`{}`:                                   {"started": "2026-11-23T09:00:00.000Z"},
		`{"time": "2026-11-23T08:58:00Z"}`:     {"started": "2026-11-23T09:00:00.000Z", "time": "2026-11-23T08:58:00Z"},
		`{"runId": "r0", "day": "2026-11-22"}`: {"started": "2026-11-23T09:00:00.000Z", "runId": "r0", "day": "2026-11-22"},
	} {
		o := &organization{accounts: []string{"a"}}
		if _, failed := o.run(t, input); failed != nil {
			t.Fatal(failed)
		}
		if !reflect.DeepEqual(o.asked, want) {
			t.Errorf("with %s accounts was asked %v, want %v", input, o.asked, want)
		}
		if o.merged["runId"] != "r1" || o.merged["list"] == nil || o.merged["skipped"] == nil || len(o.merged) != 7 {
			t.Errorf("merge was asked %v, want what accounts returned", o.merged)
		}
		if !reflect.DeepEqual(o.digest, map[string]any{"report": map[string]any{"bucket": "reports", "prefix": "reports/organization/2026/11/23/r1"}}) {
			t.Errorf("digest was asked %v", o.digest)
		}
	}
}

// An account costs two transitions, its child's start and its one state: at 1,000
// accounts $0.05 a run.
func TestOrganizationAuditPrice(t *testing.T) {
	o := &organization{accounts: []string{"a", "b"}}
	if _, failed := o.run(t, `{}`); failed != nil {
		t.Fatal(failed)
	}
	for account, n := range o.events {
		if n != 1 {
			t.Errorf("the child of account %s has %d transitions, want 1", account, n)
		}
	}
}
