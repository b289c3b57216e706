package statemachines_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/statemachines/asl"
)

// exposed stands in for the functions of an exposure, where the point is the
// workflow's own way.
type exposed struct {
	keys    []string            // one a key: its ID, " off" when a person's standing word switches it off, " told" when it was told before, " unread" or " gone"
	answers map[string][]string // function (deactivate and lastused with the key's ID) → errors in order; "" is none
	active  []string            // keys that are Active again 10 s after they were switched off
	changes map[int][]string    // what exposed answers from that call on, counted from 1

	called []string
	told   []string // stages of notify with what has come of each key
	asked  map[string]any
	count  int
	passed time.Duration
}

func (s *exposed) invoke(_ context.Context, function string, payload any) (any, error) {
	in := payload.(map[string]any)
	id, _ := in["accessKeyId"].(string)
	name := strings.TrimSpace(function + " " + id)
	if function == "notify" {
		name += " " + in["stage"].(string)
	}
	s.called = append(s.called, name)
	if function == "exposed" {
		s.count++
		if keys, ok := s.changes[s.count]; ok {
			s.keys = keys
		}
	}
	if answers := s.answers[name]; len(answers) > 0 {
		s.answers[name] = answers[1:]
		if answers[0] != "" {
			return nil, &asl.Error{Name: answers[0], Cause: "because of " + answers[0]}
		}
	}
	switch function {
	case "exposed":
		s.asked = in
		keys := []any{}
		for _, k := range s.keys {
			words := strings.Fields(k)
			status := "Active"
			if strings.Contains(k, "Inactive") {
				status = "Inactive"
			}
			key := map[string]any{
				"entity": words[0], "accessKeyId": words[0], "userName": "ci-deploy", "owner": nil, "status": status, "lastUsedDate": nil, "power": "admin", "known": true,
				"first": !strings.Contains(k, "told"), "deactivate": strings.Contains(k, " off"),
			}
			if gone := strings.Contains(k, "gone"); gone || strings.Contains(k, "unread") {
				key["status"], key["known"] = nil, map[bool]any{true: false}[gone]
			}
			keys = append(keys, key)
		}
		return map[string]any{"eventArn": "arn:event", "eventTypeCode": "AWS_RISK_CREDENTIALS_EXPOSED", "statusCode": "open", "account": "123456789012", "keys": keys}, nil
	case "deactivate":
		if in["quietHours"] != 0.0 || in["userName"] != "ci-deploy" {
			return nil, fmt.Errorf("deactivate was asked %v", in)
		}
		return map[string]any{"userName": in["userName"], "accessKeyId": id, "status": "Inactive", "changed": true}, nil
	case "lastused":
		status := "Inactive"
		for _, k := range s.active {
			if k == id {
				status = "Active"
			}
		}
		return map[string]any{"userName": in["userName"], "accessKeys": []any{map[string]any{"accessKeyId": id, "status": status}}}, nil
	case "notify":
		exposure := in["exposure"].(map[string]any)
		said := in["stage"].(string)
		if e, ok := in["error"].(map[string]any); ok {
			said += "(" + e["name"].(string) + ")"
		}
		if exposure["eventArn"] != "arn:event" || exposure["account"] == nil {
			return nil, fmt.Errorf("notify was told %v", exposure)
		}
		for _, k := range exposure["keys"].([]any) {
			k := k.(map[string]any)
			said += fmt.Sprintf(" %v=%v", k["accessKeyId"], k["status"])
			for _, more := range []string{"error", "throttled", "left"} {
				if k[more] != nil {
					said += fmt.Sprintf(",%s:%v", more, k[more])
				}
			}
		}
		s.told = append(s.told, said)
		return map[string]any{"messageId": "1"}, nil
	}
	return nil, fmt.Errorf("no function %s", function)
}

func (s *exposed) task(ctx context.Context, resource string, arguments any) (any, error) {
	return asl.Lambda(s.invoke)(ctx, resource, arguments)
}

func TestExposure(t *testing.T) {
	const event = `{"source": "aws.health", "account": "123456789012", "detail": {"eventArn": "arn:event", "eventTypeCode": "AWS_RISK_CREDENTIALS_EXPOSED"}}`
	throttled := func(n int) map[string][]string { return map[string][]string{"deactivate A": repeat(n, "Throttled")} }
	for name, tt := range map[string]struct {
		script exposed
		called string
		told   string // notices, separated by " | "
		want   string // the execution's error
		passed time.Duration
	}{
		"only told":           {script: exposed{keys: []string{"A", "B told"}}, called: "exposed notify-exposed", told: "exposed A=Active B=Active"},
		"nobody's key":        {script: exposed{}, called: "exposed notify-exposed", told: "exposed"},
		"switched off":        {script: exposed{keys: []string{"A off", "B"}}, called: "exposed deactivate-A lastused-A notify-exposed", told: "exposed A=Inactive B=Active", passed: 10 * time.Second},
		"on again by then":    {script: exposed{keys: []string{"A off"}, active: []string{"A"}}, told: "exposed A=Active,left:A", passed: 10 * time.Second},
		"a connection breaks": {script: exposed{keys: []string{"A off"}, answers: map[string][]string{"deactivate A": {"Lambda.SdkClientException"}}}, told: "exposed A=Inactive", passed: 15 * time.Second},
		"and again": {
			script: exposed{keys: []string{"A off"}, active: []string{"A"}, answers: map[string][]string{"deactivate A": repeat(3, "Lambda.Unknown")}},
			told:   "exposed A=Active,error:Lambda.Unknown,left:A", passed: 20 * time.Second,
		},
		"it times out": {
			script: exposed{keys: []string{"A off"}, answers: map[string][]string{"deactivate A": {"States.Timeout"}}},
			called: "exposed deactivate-A lastused-A notify-exposed", told: "exposed A=Inactive,error:States.Timeout", passed: 10 * time.Second,
		},
		"it may not":             {script: exposed{keys: []string{"A off"}, active: []string{"A"}, answers: map[string][]string{"deactivate A": {"AccessDenied"}}}, told: "exposed A=Active,error:AccessDenied,left:A", passed: 10 * time.Second},
		"it cannot be looked at": {script: exposed{keys: []string{"A off"}, answers: map[string][]string{"lastused A": {"NoSuchEntity"}}}, told: "exposed A=<nil>,error:NoSuchEntity,left:A", passed: 10 * time.Second},
		"throttled for seconds":  {script: exposed{keys: []string{"A off"}, answers: throttled(3)}, told: "exposed A=Inactive", passed: 62 * time.Second},
		"throttled for minutes": {
			script: exposed{keys: []string{"A off", "B"}, answers: throttled(6)},
			told:   "exposed A=Active,throttled:A B=Active | off A=Inactive B=Active", passed: 52*time.Second + 3*time.Minute + 10*time.Second,
		},
		"throttled for an hour": {
			script: exposed{keys: []string{"A off"}, answers: throttled(100)},
			told:   "exposed A=Active,throttled:A | failed(Throttled) A=Active,throttled:A", want: "Throttled", passed: 52*time.Second + time.Hour,
		},
		"throttled, but once a connection broke": {
			script: exposed{keys: []string{"A off"}, active: []string{"A"}, answers: map[string][]string{"deactivate A": append([]string{"Lambda.Unknown"}, repeat(4, "Throttled")...)}},
			told:   "exposed A=Active,error:Throttled,left:A", passed: 67 * time.Second,
		},
		"throttled for an hour, but for the last minute": {
			script: exposed{keys: []string{"A off"}, answers: throttled(4 + 59)},
			told:   "exposed A=Active,throttled:A | off A=Inactive", passed: 52*time.Second + time.Hour + 10*time.Second,
		},
		"it cannot be looked at for a while": {
			script: exposed{keys: []string{"A off"}, answers: throttled(4), changes: map[int][]string{2: {"A unread"}, 4: {"A off"}}},
			told:   "exposed A=Active,throttled:A | off A=Inactive", passed: 52*time.Second + 3*time.Minute + 10*time.Second,
		},
		"it is gone meanwhile": {
			script: exposed{keys: []string{"A off"}, answers: throttled(4), changes: map[int][]string{2: {"A gone"}}},
			told:   "exposed A=Active,throttled:A | off A=<nil>", passed: 52*time.Second + time.Minute,
		},
		"one that was left on is not said to be off": {
			script: exposed{keys: []string{"A off", "B off"}, active: []string{"B"}, answers: map[string][]string{"deactivate A": repeat(6, "Throttled"), "deactivate B": {"AccessDenied"}}},
			told:   "exposed A=Active,throttled:A B=Active,error:AccessDenied,left:B | failed A=Inactive B=Active,left:B", passed: 52*time.Second + 10*time.Second + 3*time.Minute + 10*time.Second,
		},
		"one that was left on, and cannot be looked at, is not said to be off": {
			script: exposed{keys: []string{"A off", "B off"}, active: []string{"B"}, answers: map[string][]string{"deactivate A": repeat(5, "Throttled"), "deactivate B": {"AccessDenied"}}, changes: map[int][]string{2: {"A off", "B unread"}}},
			told:   "exposed A=Active,throttled:A B=Active,error:AccessDenied,left:B | failed A=Inactive B=<nil>,left:B", passed: 52*time.Second + 10*time.Second + 2*time.Minute + 10*time.Second,
		},
		"one that was left on, and is off by now": {
			script: exposed{keys: []string{"A off", "B off"}, active: []string{"B"}, answers: map[string][]string{"deactivate A": repeat(5, "Throttled"), "deactivate B": {"AccessDenied"}}, changes: map[int][]string{2: {"A off", "B Inactive"}}},
			told:   "exposed A=Active,throttled:A B=Active,error:AccessDenied,left:B | off A=Inactive B=Inactive", passed: 52*time.Second + 10*time.Second + 2*time.Minute + 10*time.Second,
		},
		"a person switches it off meanwhile": {
			script: exposed{keys: []string{"A off"}, answers: throttled(100), changes: map[int][]string{3: {"A Inactive"}}},
			told:   "exposed A=Active,throttled:A | off A=Inactive", passed: 52*time.Second + 2*time.Minute,
		},
		"a person protects it meanwhile": {
			script: exposed{keys: []string{"A off"}, answers: throttled(100), changes: map[int][]string{3: {"A"}}},
			told:   "exposed A=Active,throttled:A | failed A=Active,left:A", passed: 52*time.Second + 2*time.Minute,
		},
		"a person switches it on again in that minute": {
			script: exposed{keys: []string{"A off"}, active: []string{"A"}, answers: throttled(5)},
			told:   "exposed A=Active,throttled:A | failed A=Active,left:A", passed: 52*time.Second + 2*time.Minute + 10*time.Second,
		},
		"of two keys one is throttled": {
			script: exposed{keys: []string{"A off", "B off"}, answers: throttled(4), changes: map[int][]string{2: {"A off", "B Inactive"}}},
			called: "exposed deactivate-A deactivate-A deactivate-A deactivate-A deactivate-B lastused-B notify-exposed exposed deactivate-A lastused-A notify-off",
			told:   "exposed A=Active,throttled:A B=Inactive | off A=Inactive B=Inactive", passed: 52*time.Second + 10*time.Second + time.Minute + 10*time.Second,
		},
		"exposed does not answer for a while": {
			script: exposed{keys: []string{"A off"}, answers: map[string][]string{"deactivate A": repeat(4, "Throttled"), "exposed": {"", "Internal", "Internal"}}},
			told:   "exposed A=Active,throttled:A | off A=Inactive", passed: 52*time.Second + 3*time.Minute + 10*time.Second,
		},
		"nothing can be read":         {script: exposed{keys: []string{"A off"}, answers: map[string][]string{"exposed": {"Internal"}}}, called: "exposed notify-failed", told: "failed(Internal)", want: "Internal"},
		"the topic is down for a day": {script: exposed{keys: []string{"A"}, answers: map[string][]string{"notify exposed": repeat(24, "NotifyFailed")}}, told: "exposed A=Active", passed: 24 * time.Hour},
		"the topic is down for good":  {script: exposed{keys: []string{"A"}, answers: map[string][]string{"notify exposed": repeat(49, "NotifyFailed"), "notify failed": repeat(49, "NotifyFailed")}}, want: "NotifyFailed", passed: 96 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			s := &tt.script
			var in any
			if err := json.Unmarshal([]byte(event), &in); err != nil {
				t.Fatal(err)
			}
			e := &asl.Execution{Task: s.task, Wait: func(_ context.Context, d time.Duration) error { s.passed += d; return nil }, Name: "event-1"}
			out, err := load(t, "exposure", "").Run(t.Context(), e, in)
			failed, ok := errors.AsType[*asl.Error](err)
			if err != nil && !ok {
				t.Fatal(err)
			}
			if got := dashed(s.called); tt.called != "" && got != tt.called {
				t.Errorf("called %s\n want %s", got, tt.called)
			}
			if got := strings.Join(s.told, " | "); got != tt.told {
				t.Errorf("told %s\nwant %s", got, tt.told)
			}
			if s.passed != tt.passed {
				t.Errorf("took %v, want %v", s.passed, tt.passed)
			}
			if tt.want == "" && err != nil || tt.want != "" && (failed == nil || failed.Name != tt.want) {
				t.Errorf("ended with %v, %v, want %q", out, err, tt.want)
			}
			if s.asked != nil && (s.asked["execution"] != "event-1" || s.asked["event"].(map[string]any)["source"] != "aws.health") {
				t.Errorf("exposed was asked %v", s.asked)
			}
			if e.History.Events >= 25_000 {
				t.Errorf("%d events", e.History.Events)
			}
		})
	}
}

// When nobody answers whose keys they are, the event is told with the account that it is
// about: in an organization's view the affected one.
func TestExposureWithoutAnAnswer(t *testing.T) {
	for detail, want := range map[string]string{`{"eventArn": "arn:event"}`: "123456789012", `{"eventArn": "arn:event", "affectedAccount": "210987654321"}`: "210987654321"} {
		var in any
		if err := json.Unmarshal([]byte(`{"source": "aws.health", "account": "123456789012", "detail": `+detail+`}`), &in); err != nil {
			t.Fatal(err)
		}
		var told map[string]any
		e := &asl.Execution{Name: "event-1", Wait: func(context.Context, time.Duration) error { return nil }}
		e.Task = asl.Lambda(func(_ context.Context, function string, payload any) (any, error) {
			if function != "notify" {
				return nil, &asl.Error{Name: "Lambda.Unknown", Cause: "it died"}
			}
			told = payload.(map[string]any)["exposure"].(map[string]any)
			return map[string]any{"messageId": "1"}, nil
		})
		_, err := load(t, "exposure", "").Run(t.Context(), e, in)
		if failed, ok := errors.AsType[*asl.Error](err); !ok || failed.Name != "Lambda.Unknown" || told["account"] != want || told["eventArn"] != "arn:event" {
			t.Errorf("%s: told %v, and ended with %v; want the account %s", detail, told, err, want)
		}
	}
}

// Whatever AWS, a function that dies and people do, each notice says how the keys stand
// then, off is said of none that is on, and none is switched off that a person wants on.
func TestExposureRandomly(t *testing.T) {
	m := load(t, "exposure", "")
	check := func(t *rapid.T) {
		type key struct {
			on, protected bool
			tried, seen   bool // it was to be switched off; it was seen off
			off, wanted   bool // it was switched off by the workflow; a person has switched it on since
		}
		keys := map[string]*key{}
		for _, id := range []string{"A", "B", "C"}[:rapid.IntRange(1, 3).Draw(t, "keys")] {
			keys[id] = &key{on: true, protected: rapid.IntRange(0, 4).Draw(t, "protected") == 0}
		}
		throttling, minutes, last := rapid.IntRange(0, 70).Draw(t, "throttled for so many calls"), 0, ""
		chance := func(one int, what string) bool { return rapid.IntRange(0, one).Draw(t, what) == one }
		e := &asl.Execution{Name: "event-1", Wait: func(context.Context, time.Duration) error { return nil }}
		e.Task = asl.Lambda(func(_ context.Context, function string, payload any) (any, error) {
			in := payload.(map[string]any)
			id, _ := in["accessKeyId"].(string)
			switch function {
			case "exposed":
				if minutes++; minutes > 1 && chance(9, "exposed dies") {
					return nil, &asl.Error{Name: "Internal"}
				}
				all := []any{}
				for _, id := range slices.Sorted(maps.Keys(keys)) {
					k := keys[id]
					if minutes > 1 && chance(9, "a person acts") {
						k.on = !k.on
						k.wanted = k.on && k.off
					}
					said := map[string]any{"entity": id, "accessKeyId": id, "userName": "u", "status": map[bool]any{true: "Active", false: "Inactive"}[k.on], "known": true, "first": minutes == 1, "deactivate": false}
					switch unread := chance(9, "unread"); {
					case unread:
						said["status"] = nil
					case !k.on:
						k.seen = true
					case k.on && !k.protected:
						said["deactivate"] = true
					}
					all = append(all, said)
				}
				return map[string]any{"eventArn": "arn:event", "account": "123456789012", "keys": all}, nil
			case "deactivate":
				k := keys[id]
				k.tried = true
				if throttling--; throttling >= 0 {
					return nil, &asl.Error{Name: "Throttled"}
				}
				if dies := chance(9, "deactivate dies"); dies && chance(1, "before") {
					return nil, &asl.Error{Name: "Lambda.Unknown"}
				} else if k.wanted {
					t.Errorf("%s is switched off, and a person wants it on", id)
				} else if k.on, k.off = false, true; dies {
					return nil, &asl.Error{Name: "Lambda.Unknown"}
				}
				return map[string]any{}, nil
			case "lastused":
				if chance(9, "the look fails") {
					return nil, &asl.Error{Name: "Internal"}
				}
				keys[id].seen = keys[id].seen || !keys[id].on
				return map[string]any{"accessKeys": []any{map[string]any{"status": map[bool]any{true: "Active", false: "Inactive"}[keys[id].on]}}}, nil
			}
			last = in["stage"].(string)
			for _, said := range in["exposure"].(map[string]any)["keys"].([]any) {
				said := said.(map[string]any)
				k := keys[said["accessKeyId"].(string)]
				if said["status"] != nil && (said["status"] == "Active") != k.on {
					t.Errorf("%s says %v of %v, on: %t", last, said["status"], said["accessKeyId"], k.on)
				}
				if last == "off" && k.tried && k.on && (!k.seen || said["status"] != nil) {
					t.Errorf("off is said, and %v is on", said["accessKeyId"])
				}
				if said["status"] == "Active" && k.tried && said["left"] == nil && said["throttled"] == nil {
					t.Errorf("%s: %v is on, and is passed over", last, said["accessKeyId"])
				}
			}
			return map[string]any{"messageId": "1"}, nil
		})
		_, err := m.Run(context.Background(), e, map[string]any{"account": "123456789012", "detail": map[string]any{"eventArn": "arn:event"}})
		if failed, ok := errors.AsType[*asl.Error](err); err != nil && (!ok || last != "failed") {
			t.Errorf("ended with %v after %s", failed, last)
		}
	}
	for range 30 { // times rapid.checks
		rapid.Check(t, check)
	}
}
