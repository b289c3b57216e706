package statemachines_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestRetirement has the ways of a retirement: which answer leads where. Ends after
// the switch-off are as long as announced, and each is told before it is over.
func TestRetirement(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	const whole = "retire-warning notify-warning retire-final notify-final retire-off deactivate notify-retired look look retire-delete delete notify-removed"
	fails := func(step string, names ...string) map[string][]string { return map[string][]string{step: names} }
	gone := func(stage string) map[string]map[string]any { return map[string]map[string]any{stage: {"gone": true}} }
	for name, tt := range map[string]struct {
		script  script
		called  string // functions in order, "" for not looked at
		told    string
		outcome string // "" when the execution fails
		want    string // the execution's error, or the reason of the outcome
		passed  time.Duration
	}{
		"undisturbed":  {called: whole, told: "warning final retired removed", outcome: "removed", passed: 16 * day},
		"a day to act": {script: script{retire: map[string]map[string]any{"off": {"waitSeconds": 2 * 86400.0}}, waits: 2}, told: "warning final retired removed", outcome: "removed", passed: 20 * day},
		"throttled":    {script: script{answers: fails("deactivate", repeat(3, "Throttled")...)}, told: "warning final retired removed", outcome: "removed", passed: 16*day + 52*time.Second},
		"throttled, and off already": {
			script: script{answers: fails("deactivate", repeat(3, "Throttled")...), off: map[string]any{"changed": false}},
			told:   "warning final kept", outcome: "kept", passed: 14*day + 52*time.Second,
		},

		// Before anybody was told.
		"used before the warning":      {script: script{answers: fails("retire warning", "KeyInUse")}, called: "retire-warning", outcome: "kept", want: "KeyInUse"},
		"exempt before the warning":    {script: script{answers: fails("retire warning", "KeyExempt")}, called: "retire-warning", outcome: "kept", want: "KeyExempt"},
		"protected before the warning": {script: script{answers: fails("retire warning", "Protected")}, called: "retire-warning", outcome: "kept", want: "Protected"},
		"switched off as a whole":      {script: script{answers: fails("retire warning", "RetirementOff")}, called: "retire-warning", outcome: "kept", want: "RetirementOff"},
		"another one is at work":       {script: script{answers: fails("retire warning", "InProgress")}, called: "retire-warning", outcome: "kept", want: "InProgress"},
		"no user":                      {script: script{answers: fails("retire warning", "NoSuchEntity")}, called: "retire-warning", outcome: "kept", want: "NoSuchEntity"},
		"gone before the warning":      {script: script{retire: gone("warning")}, called: "retire-warning", outcome: "removed"},
		"denied before the warning":    {script: script{answers: fails("retire warning", "AccessDenied")}, told: "failed-AccessDenied", want: "AccessDenied"},
		"the warning cannot be told": {
			script: script{answers: fails("notify warning", repeat(49, "NotifyFailed")...)}, told: "failed-NotifyFailed", want: "NotifyFailed", passed: 48 * hour,
		},
		"the topic is down for a day": {script: script{answers: fails("notify warning", repeat(24, "NotifyFailed")...)}, told: "warning final retired removed", outcome: "removed", passed: 17 * day},

		// Between the warnings.
		"used after the warning":       {script: script{answers: fails("retire final", "KeyInUse")}, told: "warning kept-KeyInUse", outcome: "kept", want: "KeyInUse", passed: 11 * day},
		"exempt after the final one":   {script: script{answers: fails("retire off", "KeyExempt")}, told: "warning final kept-KeyExempt", outcome: "kept", want: "KeyExempt", passed: 14 * day},
		"gone after the warning":       {script: script{retire: gone("final")}, told: "warning removed", outcome: "removed", passed: 11 * day},
		"gone after the final one":     {script: script{retire: gone("off")}, told: "warning final removed", outcome: "removed", passed: 14 * day},
		"the user is gone by then":     {script: script{answers: fails("retire off", "NoSuchEntity")}, told: "warning final kept-NoSuchEntity", outcome: "kept", want: "NoSuchEntity", passed: 14 * day},
		"the final one cannot be told": {script: script{answers: fails("notify final", repeat(49, "NotifyFailed")...)}, told: "warning failed-NotifyFailed", want: "NotifyFailed", passed: 13 * day},
		"retire gives no answer":       {script: script{answers: fails("retire off", "Internal")}, told: "warning final failed-Internal", want: "Internal", passed: 14 * day},

		// Switching off.
		"used just before":        {script: script{answers: fails("deactivate", "KeyInUse")}, told: "warning final kept-KeyInUse", outcome: "kept", want: "KeyInUse", passed: 14 * day},
		"off by another hand":     {script: script{off: map[string]any{"changed": false}}, told: "warning final kept", outcome: "kept", passed: 14 * day},
		"gone by another hand":    {script: script{answers: fails("deactivate", "NoSuchEntity"), retire: gone("off again")}, told: "warning final removed", outcome: "removed", passed: 14 * day},
		"missing for a moment":    {script: script{answers: fails("deactivate", "NoSuchEntity")}, told: "warning final retired removed", outcome: "removed", passed: 16 * day},
		"missing again and again": {script: script{answers: fails("deactivate", repeat(4, "NoSuchEntity")...)}, told: "warning final failed-NoSuchEntity", want: "NoSuchEntity", passed: 14 * day},
		"it died, and the key is off": {
			script: script{answers: fails("deactivate", "Lambda.Unknown"), off: map[string]any{"changed": false}},
			told:   "warning final retired removed", outcome: "removed", passed: 16*day + 30*time.Second,
		},
		"it died, and the key is off, which retire says, too": {
			script: script{answers: map[string][]string{"deactivate": {"Lambda.Unknown"}, "retire off": {"", "KeyInUse"}}, off: map[string]any{"changed": false}},
			told:   "warning final retired removed", outcome: "removed", passed: 16*day + 30*time.Second,
		},
		"it died, and the user is exempt by then": {
			script: script{answers: map[string][]string{"deactivate": {"Lambda.Unknown"}, "retire off": {"", "KeyExempt"}}},
			called: "retire-warning notify-warning retire-final notify-final retire-off deactivate retire-off notify-kept",
			told:   "warning final kept-KeyExempt", outcome: "kept", want: "KeyExempt", passed: 14*day + 30*time.Second,
		},
		"it died, and retirements are off by then": {
			script: script{answers: map[string][]string{"deactivate": {"Lambda.TooManyRequestsException"}, "retire off": {"", "RetirementOff"}}},
			told:   "warning final kept-RetirementOff", outcome: "kept", want: "RetirementOff", passed: 14*day + 30*time.Second,
		},
		"it died, and the key is gone by then": {
			script: script{answers: fails("deactivate", "Lambda.Unknown"), retire: gone("off again")}, told: "warning final removed", outcome: "removed", passed: 14*day + 30*time.Second,
		},
		"it died, and retire gives no answer": {
			script: script{answers: map[string][]string{"deactivate": {"Lambda.Unknown"}, "retire off": {"", "Internal"}}}, told: "warning final failed-Internal", want: "Internal", passed: 14*day + 30*time.Second,
		},
		"the connection was lost, and the key is off": {
			script: script{answers: fails("deactivate", "Lambda.SdkClientException"), off: map[string]any{"changed": false}},
			told:   "warning final retired removed", outcome: "removed", passed: 16*day + 30*time.Second,
		},
		"it dies each time":    {script: script{answers: fails("deactivate", repeat(3, "Sandbox.Timedout")...)}, told: "warning final failed-Sandbox.Timedout", want: "Sandbox.Timedout", passed: 14*day + time.Minute},
		"Lambda refuses":       {script: script{answers: fails("deactivate", repeat(4, "Lambda.TooManyRequestsException")...)}, told: "warning final failed-Lambda.TooManyRequestsException", want: "Lambda.TooManyRequestsException", passed: 14*day + 90*time.Second},
		"throttled throughout": {script: script{answers: fails("deactivate", repeat(4, "Throttled")...)}, told: "warning final failed-Throttled", want: "Throttled", passed: 14*day + 52*time.Second},
		"it may not":           {script: script{answers: fails("deactivate", "AccessDenied")}, told: "warning final failed-AccessDenied", want: "AccessDenied", passed: 14 * day},
		"off cannot be told":   {script: script{answers: fails("notify retired", repeat(49, "NotifyFailed")...)}, told: "warning final failed-NotifyFailed", want: "NotifyFailed", passed: 16 * day},

		// The soak.
		"reactivated":                      {script: script{answers: fails("look", "KeyActive")}, told: "warning final retired rolledBack-KeyActive", outcome: "rolledBack", want: "KeyActive", passed: 15 * day},
		"used shortly before it was off":   {script: script{answers: fails("look", "", "KeyInUse")}, told: "warning final retired rolledBack-KeyInUse", outcome: "rolledBack", want: "KeyInUse", passed: 16 * day},
		"gone in the soak":                 {script: script{gone: true}, told: "warning final retired removed", outcome: "removed", passed: 15 * day},
		"the user is gone in the soak":     {script: script{answers: fails("look", "NoSuchEntity")}, told: "warning final retired kept-NoSuchEntity", outcome: "kept", want: "NoSuchEntity", passed: 15 * day},
		"looks without an answer":          {script: script{answers: fails("look", "Internal", "Internal")}, told: "warning final retired removed", outcome: "removed", passed: 16 * day},
		"a look is not permitted":          {script: script{answers: fails("look", "AccessDenied")}, told: "warning final retired failed-AccessDenied", want: "AccessDenied", passed: 15 * day},
		"seven days without an answer":     {script: script{answers: fails("look", repeat(7, "Internal")...), retire: map[string]map[string]any{"warning": {"soakDays": 30.0}}}, told: "warning final retired failed-Internal", want: "Internal", passed: 21 * day},
		"the soak is as long as announced": {script: script{retire: map[string]map[string]any{"warning": {"soakDays": 5.0}}}, told: "warning final retired removed", outcome: "removed", passed: 19 * day},
		"the soak has grown since":         {script: script{retire: map[string]map[string]any{"off": {"soakDays": 5.0}}}, told: "warning final retired removed", outcome: "removed", passed: 19 * day},

		// The deletion.
		"exempt in the soak":            {script: script{answers: fails("retire delete", "KeyExempt")}, told: "warning final retired kept-KeyExempt", outcome: "kept", want: "KeyExempt", passed: 16 * day},
		"retirement is off by then":     {script: script{answers: fails("retire delete", "RetirementOff")}, told: "warning final retired kept-RetirementOff", outcome: "kept", want: "RetirementOff", passed: 16 * day},
		"Active at its deletion":        {script: script{answers: fails("retire delete", "KeyActive")}, told: "warning final retired rolledBack-KeyActive", outcome: "rolledBack", want: "KeyActive", passed: 16 * day},
		"Active since a moment":         {script: script{answers: fails("delete", "KeyActive")}, told: "warning final retired rolledBack-KeyActive", outcome: "rolledBack", want: "KeyActive", passed: 16 * day},
		"used at its deletion":          {script: script{answers: fails("delete", "KeyInUse")}, told: "warning final retired rolledBack-KeyInUse", outcome: "rolledBack", want: "KeyInUse", passed: 16 * day},
		"gone at its deletion":          {script: script{retire: gone("delete")}, told: "warning final retired removed", outcome: "removed", passed: 16 * day},
		"the deletion has no answer":    {script: script{answers: fails("delete", "Internal")}, told: "warning final retired removed", outcome: "removed", passed: 17 * day},
		"nor has retire before it":      {script: script{answers: fails("retire delete", "Throttled", "Throttled", "Throttled", "Throttled")}, told: "warning final retired removed", outcome: "removed", passed: 17*day + 52*time.Second},
		"seven days without one":        {script: script{answers: map[string][]string{"delete": repeat(4, "Internal"), "retire delete": append([]string{"", "", "", ""}, repeat(3, "Internal")...)}}, told: "warning final retired failed-Internal", want: "Internal", passed: 22 * day},
		"it may not be deleted":         {script: script{answers: fails("delete", "AccessDenied")}, told: "warning final retired failed-AccessDenied", want: "AccessDenied", passed: 16 * day},
		"the end cannot be told":        {script: script{answers: fails("notify removed", repeat(49, "NotifyFailed")...)}, told: "warning final retired failed-NotifyFailed", want: "NotifyFailed", passed: 18 * day},
		"the failure cannot be told":    {script: script{answers: map[string][]string{"delete": {"AccessDenied"}, "notify failed": repeat(49, "NotifyFailed")}}, told: "warning final retired", want: "AccessDenied", passed: 18 * day},
		"why it is kept cannot be told": {script: script{answers: map[string][]string{"look": {"KeyActive"}, "notify rolledBack": repeat(49, "NotifyFailed")}}, told: "warning final retired failed-NotifyFailed", want: "NotifyFailed", passed: 17 * day},
	} {
		t.Run(name, func(t *testing.T) {
			s := &tt.script
			out, failed, _ := s.run(t, "retirement", "", `{"userName": "ci-deploy", "accessKeyId": "`+oldKey+`"}`)
			if got := dashed(s.called); tt.called != "" && got != tt.called {
				t.Errorf("called %s\n want %s", got, tt.called)
			}
			if got := dashed(s.told); got != tt.told {
				t.Errorf("told %s\nwant %s", got, tt.told)
			}
			if got := s.passed - 10*time.Second; got != tt.passed { // it waits so long before it asks
				t.Errorf("took %v, want %v", got, tt.passed)
			}
			if tt.outcome == "" {
				if failed == nil || failed.Name != tt.want {
					t.Errorf("ended with %v, %v, want %s", out, failed, tt.want)
				}
				return
			}
			if failed != nil {
				t.Fatal(failed)
			}
			report := out.(map[string]any)
			reason, _ := report["reason"].(map[string]any)
			if report["outcome"] != tt.outcome || tt.want == "" && reason != nil || tt.want != "" && reason["name"] != tt.want {
				t.Errorf("the outcome is %v for %v, want %s for %q", report["outcome"], reason, tt.outcome, tt.want)
			}
			for step, called := range map[string]string{"warning": "retire warning", "final": "retire final", "off": "retire off", "deactivated": "deactivate", "delete": "retire delete", "deleted": "delete"} {
				if ran := s.succeeded[called]; ran != (report[step] != nil) {
					t.Errorf("%s saw %v, and ran: %v", step, report[step], ran)
				}
			}
		})
	}
}

// What each function is asked, and what people are told of.
func TestRetirementInputs(t *testing.T) {
	s := &script{retire: map[string]map[string]any{"warning": {"quietHours": 3000.0}, "off": {"soakDays": 3.0}}}
	if _, failed, _ := s.run(t, "retirement", "", `{"userName": "ci-deploy", "accessKeyId": "`+oldKey+`", "insist": true}`); failed != nil {
		t.Fatal(failed)
	}
	key := `"userName": "ci-deploy", "accessKeyId": "` + oldKey + `"`
	request := key + `, "insist": true, "execution": {"name": "retire-` + oldKey + `-again", "started": "2026-11-23T09:00:00.000Z"}`
	answer := key + `, "owner": "team@example.com", "idleDays": 120, "power": null, "noticeSeconds": 950400, "finalSeconds": 259200, "waitSeconds": 0`
	retired := `{"retirement": {` + answer + `, "quietHours": 3000, "soakDays": 3, "idleSince": "2026-11-01T00:00:00Z", "ours": true}, "stage": `
	for function, want := range map[string]string{
		"retire warning": `{` + request + `, "stage": "warning"}`,
		"retire final":   `{` + request + `, "stage": "final"}`,
		"retire off":     `{` + request + `, "stage": "off"}`,
		"retire delete":  `{` + request + `, "stage": "delete"}`,
		"deactivate":     `{` + key + `, "quietHours": 3000}`,
		"look":           `{` + key + `, "idleSince": "2026-11-01T00:00:00Z", "check": true}`,
		"delete":         `{` + key + `, "idleSince": "2026-11-01T00:00:00Z"}`,
		"notify warning": `{"stage": "warning", "retirement": {` + answer + `, "quietHours": 3000, "soakDays": 2}}`,
		"notify final":   `{"stage": "final", "retirement": {` + answer + `, "quietHours": 3000, "soakDays": 2}}`,
		"notify retired": retired + `"retired"}`,
		"notify removed": retired + `"removed"}`,
	} {
		var w any
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(s.last[function], w) {
			t.Errorf("%s was asked\n%v, want\n%v", function, s.last[function], w)
		}
	}
}

func TestRetirementNeedsUserAndKey(t *testing.T) {
	for input, says := range map[string]string{`{}`: "userName", `{"userName": null}`: "userName", `{"accessKeyId": "` + oldKey + `"}`: "userName", `{"userName": "ci-deploy"}`: "accessKeyId"} {
		s := &script{}
		if _, failed, _ := s.run(t, "retirement", "", input); failed == nil || failed.Name != "InvalidInput" || !strings.HasPrefix(failed.Cause, says+" is missing") || len(s.called) > 0 {
			t.Errorf("%s ended with %v after calling %v, want InvalidInput at once", input, failed, s.called)
		}
	}
}

// The longest retirement stays below Step Functions' 25,000 events, whatever each
// step answers and however often it is repeated.
func TestRetirementHistory(t *testing.T) {
	const soakDays = 336 // with 4 days of notice 340
	tries := func(last string) []string {
		return []string{"Throttled", "Lambda.Unknown", "Throttled", "Lambda.Unknown", "Lambda.ServiceException", last}
	}
	var looks []string
	for range soakDays + 6 {
		looks = append(looks, tries("")...)
	}
	var deletions, asked []string
	for range 6 {
		deletions = append(deletions, tries("Internal")...)
	}
	for range 7 {
		asked = append(asked, tries("")...)
	}
	s := &script{retire: map[string]map[string]any{"warning": {"soakDays": float64(soakDays)}}, answers: map[string][]string{
		"look": looks, "delete": append(deletions, tries("")...), "retire delete": asked,
		"deactivate":     {"Throttled", "Throttled", "Throttled", "Lambda.Unknown", "Throttled", "Throttled", "Throttled", "Lambda.Unknown"},
		"notify warning": repeat(48, "NotifyFailed"), "notify final": repeat(48, "NotifyFailed"), "notify retired": repeat(48, "NotifyFailed"), "notify removed": repeat(48, "NotifyFailed"),
	}}
	_, failed, e := s.run(t, "retirement", "", `{"userName": "ci-deploy", "accessKeyId": "`+oldKey+`"}`)
	if failed != nil {
		t.Fatal(failed)
	}
	t.Logf("%d transitions, %d events", e.History.Transitions, e.History.Events)
	if e.History.Events >= 25_000 {
		t.Errorf("%d events", e.History.Events)
	}
}

func TestRetireUnused(t *testing.T) {
	for name, tt := range map[string]struct {
		mode   string
		script script
		called string
		want   string
	}{
		"off":                        {"off", script{due: []string{"A"}}, "", ""},
		"plan":                       {"plan", script{due: []string{"A", "B"}}, "unused notify-planned", ""},
		"an unknown mode only tells": {"Apply", script{due: []string{"A"}}, "unused notify-planned", ""},
		"apply":                      {"apply", script{due: []string{"A", "B"}}, "unused notify-started start-retire-A start-retire-B", ""},
		"apply, nothing unused":      {"apply", script{}, "unused notify-started", ""},
		"apply, started before":      {"apply", script{due: []string{"A", "B"}, exists: []string{"retire-A"}, answers: map[string][]string{"start": {"StepFunctions.ExecutionAlreadyExistsException"}}}, "unused notify-started start-retire-A start-retire-B", ""},
		"apply, cannot tell":         {"apply", script{due: []string{"A"}, answers: map[string][]string{"notify started": repeat(49, "NotifyFailed")}}, "unused" + strings.Repeat(" notify-started", 49), "NotifyFailed"},
		"unused fails":               {"apply", script{due: []string{"A"}, answers: map[string][]string{"unused": {"InventoryUnavailable"}}}, "unused", "InventoryUnavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &tt.script
			out, failed, _ := s.run(t, "retire-unused", tt.mode, `{"source": "aws.scheduler", "time": "2026-11-23T07:00:00Z"}`)
			if got := dashed(s.called); got != tt.called {
				t.Errorf("called %q, want %q", got, tt.called)
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
			if unused, _ := out.(map[string]any); tt.mode != "off" && len(unused["retirements"].([]any)) != len(tt.script.due) {
				t.Errorf("the output is %v, want what is unused", out)
			}
			for _, in := range s.inputs {
				if !reflect.DeepEqual(in, map[string]any{"userName": "user-" + in["accessKeyId"].(string), "accessKeyId": in["accessKeyId"]}) {
					t.Errorf("started with %v", in)
				}
			}
		})
	}
}
