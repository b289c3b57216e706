package statemachines_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestRotation(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	for name, tt := range map[string]struct {
		script script
		called string // functions in order, "" for not looked at
		told   string
		want   string // the execution's error, "" for success
		passed time.Duration
	}{
		"at once": {
			script: script{},
			called: "plan create notify-ready deactivate notify-off look delete notify-done",
			told:   "ready off done",
			passed: hour + day,
		},
		"waits for quiet and adoption": {
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse", "NotAdopted", "KeyInUse", ""}}},
			told:   "ready reminder-NotAdopted off done",
			passed: 4*hour + day,
		},
		"in use to the end": {
			script: script{answers: map[string][]string{"deactivate": {"NotAdopted", "NotAdopted", "NotAdopted", "KeyInUse"}}},
			called: "plan create notify-ready deactivate deactivate notify-reminder deactivate deactivate notify-failed",
			told:   "ready reminder-NotAdopted failed-KeyInUse",
			want:   "KeyInUse", passed: 4 * hour,
		},
		"not adopted to the end": {
			script: script{answers: map[string][]string{"deactivate": repeat(4, "NotAdopted")}},
			told:   "ready reminder-NotAdopted failed-NotAdopted",
			want:   "NotAdopted", passed: 4 * hour,
		},
		"an error counts as a poll and is told by the reminder": {
			script: script{answers: map[string][]string{"deactivate": {"AccessDenied", "KeyInUse", "KeyInUse", ""}}},
			told:   "ready reminder-KeyInUse-after-AccessDenied off done",
			passed: 4*hour + day,
		},
		"an error is told once": {
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse", "Internal", "KeyInUse", ""}}},
			told:   "ready reminder-Internal-after-KeyInUse off done",
			passed: 4*hour + day,
		},
		"an error after the reminder is told by off": {
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse", "KeyInUse", "Internal", ""}}},
			told:   "ready reminder-KeyInUse off-after-Internal done",
			passed: 4*hour + day,
		},
		"an error at the end is told, the last refusal is the end": {
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse", "NotAdopted", "KeyInUse", "Runtime.ExitError", "Runtime.ExitError", "Runtime.ExitError"}}},
			told:   "ready reminder-NotAdopted failed-Runtime.ExitError-after-KeyInUse",
			want:   "KeyInUse", passed: 4*hour + 2*30*time.Second,
		},
		"an error before the end is told with the last refusal": {
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse", "NotAdopted", "AccessDenied", "KeyInUse"}}},
			told:   "ready reminder-NotAdopted failed-KeyInUse-after-AccessDenied",
			want:   "KeyInUse", passed: 4 * hour,
		},
		"errors to the end": {
			script: script{answers: map[string][]string{"deactivate": repeat(4, "AccessDenied")}},
			told:   "ready reminder-AccessDenied failed-AccessDenied",
			want:   "AccessDenied", passed: 4 * hour,
		},
		"the old key is gone": {
			script: script{answers: map[string][]string{"deactivate": {"NoSuchEntity"}}, keys: []string{newKey}},
			called: "plan create notify-ready deactivate list notify-done",
			told:   "ready done",
			passed: hour,
		},
		"all keys are gone": {
			script: script{answers: map[string][]string{"deactivate": {"NoSuchEntity"}}},
			told:   "ready done",
			passed: hour,
		},
		"the old key is said to be gone, but is listed": {
			script: script{answers: map[string][]string{"deactivate": {"NoSuchEntity", ""}}, keys: []string{oldKey, newKey}},
			called: "plan create notify-ready deactivate list deactivate notify-off look delete notify-done",
			told:   "ready off-after-NoSuchEntity done",
			passed: 2*hour + day,
		},
		"it alone is listed": {
			script: script{answers: map[string][]string{"deactivate": {"NoSuchEntity", ""}}, keys: []string{oldKey}},
			told:   "ready off-after-NoSuchEntity done",
			passed: 2*hour + day,
		},
		"so it stays to the end": {
			script: script{answers: map[string][]string{"deactivate": repeat(4, "NoSuchEntity")}, keys: []string{oldKey}},
			told:   "ready reminder-NoSuchEntity failed-NoSuchEntity",
			want:   "NoSuchEntity", passed: 4 * hour,
		},
		"the list fails": {
			script: script{answers: map[string][]string{"deactivate": {"NoSuchEntity", ""}, "list": {"Internal"}}},
			told:   "ready off-after-Internal done",
			passed: 2*hour + day,
		},
		"the list fails to the end": {
			script: script{answers: map[string][]string{"deactivate": repeat(4, "NoSuchEntity"), "list": repeat(4, "Internal")}},
			told:   "ready reminder-Internal failed-Internal",
			want:   "Internal", passed: 4 * hour,
		},
		"the user is gone": {
			script: script{answers: map[string][]string{"deactivate": {"NoSuchEntity"}, "list": {"NoSuchEntity"}}},
			told:   "ready failed-NoSuchEntity",
			want:   "NoSuchEntity", passed: hour,
		},
		"the new key is gone in the wait": {
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse", "NotReplaced"}}},
			told:   "ready failed-NotReplaced",
			want:   "NotReplaced", passed: 2 * hour,
		},
		"the new key is gone in the soak": {
			script: script{answers: map[string][]string{"look": {"NotReplaced"}}},
			told:   "ready off failed-NotReplaced",
			want:   "NotReplaced", passed: hour + day,
		},
		"reactivated in the soak": {
			script: script{answers: map[string][]string{"look": {"", "KeyActive"}}, plan: map[string]any{"soakDays": 5.0}},
			called: "plan create notify-ready deactivate notify-off look look notify-failed",
			told:   "ready off failed-RolledBack",
			want:   "RolledBack", passed: hour + 2*day,
		},
		"reactivated between the last look and the deletion": {
			script: script{answers: map[string][]string{"delete": {"KeyActive"}}},
			told:   "ready off failed-RolledBack",
			want:   "RolledBack", passed: hour + day,
		},
		"used in the soak": {
			script: script{answers: map[string][]string{"look": {"", "KeyInUse"}}, plan: map[string]any{"soakDays": 5.0}},
			told:   "ready off failed-KeyInUse",
			want:   "KeyInUse", passed: hour + 2*day,
		},
		"nothing uses the new key any more": {
			script: script{answers: map[string][]string{"look": {"NotAdopted"}}},
			told:   "ready off failed-NotAdopted",
			want:   "NotAdopted", passed: hour + day,
		},
		"the user is gone in the soak": {
			script: script{answers: map[string][]string{"look": {"NoSuchEntity"}}},
			told:   "ready off failed-NoSuchEntity",
			want:   "NoSuchEntity", passed: hour + day,
		},
		"the old key is gone in the soak": {
			script: script{gone: true, plan: map[string]any{"soakDays": 5.0}},
			called: "plan create notify-ready deactivate notify-off look notify-done",
			told:   "ready off done",
			passed: hour + day,
		},
		"a look each day": {
			script: script{plan: map[string]any{"soakDays": 3.0}},
			called: "plan create notify-ready deactivate notify-off look look look delete notify-done",
			told:   "ready off done",
			passed: hour + 3*day,
		},
		"looks without an answer count as those of their days": {
			script: script{answers: map[string][]string{"look": {"Internal", "", "SecretUnavailable", "Internal"}}, plan: map[string]any{"soakDays": 4.0}},
			called: "plan create notify-ready deactivate notify-off look look look look delete notify-done",
			told:   "ready off done",
			passed: hour + 4*day,
		},
		"seven days without an answer": {
			script: script{answers: map[string][]string{"look": repeat(7, "Internal")}, plan: map[string]any{"soakDays": 30.0}},
			told:   "ready off failed-Internal",
			want:   "Internal", passed: hour + 7*day,
		},
		"six days without an answer, and six more": {
			script: script{answers: map[string][]string{"look": append(append(repeat(6, "Internal"), ""), repeat(6, "Internal")...)}, plan: map[string]any{"soakDays": 14.0}},
			told:   "ready off done",
			passed: hour + 14*day,
		},
		"the soak's last day is the seventh without an answer, and the deletion has one": {
			script: script{answers: map[string][]string{"look": repeat(7, "Internal")}, plan: map[string]any{"soakDays": 7.0}},
			told:   "ready off done",
			passed: hour + 7*day,
		},
		"a deletion without an answer is tried the next day": {
			script: script{answers: map[string][]string{"delete": {"Internal", "Internal"}}},
			called: "plan create notify-ready deactivate notify-off look delete look delete look delete notify-done",
			told:   "ready off done",
			passed: hour + 3*day,
		},
		"the key is reactivated by then": {
			script: script{answers: map[string][]string{"delete": {"Internal"}, "look": {"", "KeyActive"}}},
			told:   "ready off failed-RolledBack",
			want:   "RolledBack", passed: hour + 2*day,
		},
		"seven deletions without an answer, whatever the looks say": {
			script: script{answers: map[string][]string{"delete": repeat(7, "Internal"), "look": {"", "Internal"}}},
			told:   "ready off failed-Internal",
			want:   "Internal", passed: hour + 7*day,
		},
		"the day of a deletion without an answer counts once": {
			script: script{answers: map[string][]string{"look": repeat(6, "Internal"), "delete": {"Internal", ""}}, plan: map[string]any{"soakDays": 6.0}},
			told:   "ready off done",
			passed: hour + 7*day,
		},
		"a look is not permitted": {
			script: script{answers: map[string][]string{"look": {"AccessDenied"}}},
			told:   "ready off failed-AccessDenied",
			want:   "AccessDenied", passed: hour + day,
		},
		"the deletion is not permitted": {
			script: script{answers: map[string][]string{"delete": {"AccessDenied"}}},
			told:   "ready off failed-AccessDenied",
			want:   "AccessDenied", passed: hour + day,
		},
		"delete dies and is repeated": {
			script: script{answers: map[string][]string{"delete": {"Lambda.Unknown", "Sandbox.Timedout"}}},
			told:   "ready off done",
			passed: hour + day + 2*30*time.Second,
		},
		"create refuses": {
			script: script{answers: map[string][]string{"create": {"SecretInUse"}}},
			called: "plan create notify-failed",
			told:   "failed-SecretInUse",
			want:   "SecretInUse",
		},
		"create leaves a key": {
			script: script{answers: map[string][]string{"create": {"OrphanedKey"}}},
			told:   "failed-OrphanedKey",
			want:   "OrphanedKey",
		},
		"create dies and is repeated": {
			script: script{answers: map[string][]string{"create": {"States.Timeout", "InProgress"}}},
			told:   "ready off done",
			passed: hour + day + 2*360*time.Second,
		},
		"create dies too often": {
			script: script{answers: map[string][]string{"create": repeat(3, "States.Timeout")}},
			told:   "failed-States.Timeout",
			want:   "States.Timeout", passed: 2 * 360 * time.Second,
		},
		"another create is at work for too long": {
			script: script{answers: map[string][]string{"create": repeat(4, "InProgress")}},
			told:   "failed-InProgress",
			want:   "InProgress", passed: 3 * 360 * time.Second,
		},
		"plan finds a create at work": {
			script: script{answers: map[string][]string{"plan": repeat(3, "InProgress")}},
			told:   "ready off done",
			passed: hour + day + 3*360*time.Second,
		},
		"and it goes on": {
			script: script{answers: map[string][]string{"plan": repeat(4, "InProgress")}},
			told:   "failed-InProgress",
			want:   "InProgress", passed: 3 * 360 * time.Second,
		},
		"plan dies and is repeated": {
			script: script{answers: map[string][]string{"plan": {"Lambda.Unknown", "Sandbox.Timedout"}}},
			told:   "ready off done",
			passed: hour + day + 2*30*time.Second,
		},
		"throttled": {
			script: script{answers: map[string][]string{"create": {"Throttled", "Lambda.TooManyRequestsException"}, "deactivate": {"Lambda.ServiceException"}}},
			told:   "ready off done",
			passed: hour + day + (4+12+4)*time.Second,
		},
		"throttled for longer": {
			script: script{answers: map[string][]string{"deactivate": repeat(4, "Throttled"), "look": repeat(4, "Lambda.TooManyRequestsException")}, plan: map[string]any{"soakDays": 2.0}},
			told:   "ready off-after-Throttled done",
			passed: 2*hour + 2*day + 2*(4+12+36)*time.Second,
		},
		"the topic is down for two days": {
			script: script{answers: map[string][]string{"notify ready": repeat(48, "NotifyFailed"), "notify done": repeat(48, "NotifyFailed")}},
			told:   "ready off done",
			passed: hour + day + 96*hour,
		},
		"ready cannot be told": {
			script: script{answers: map[string][]string{"notify ready": repeat(49, "NotifyFailed")}},
			told:   "failed-NotifyFailed",
			want:   "NotifyFailed", passed: 48 * hour,
		},
		"off cannot be told": {
			script: script{answers: map[string][]string{"notify off": repeat(49, "NotifyFailed")}},
			told:   "ready failed-NotifyFailed",
			want:   "NotifyFailed", passed: 49 * hour,
		},
		"done cannot be told": {
			script: script{answers: map[string][]string{"notify done": repeat(49, "NotifyFailed")}},
			told:   "ready off failed-NotifyFailed",
			want:   "NotifyFailed", passed: 49*hour + day,
		},
		"the reminder cannot be told": {
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse", "AccessDenied", "KeyInUse", ""}, "notify reminder": repeat(49, "NotifyFailed")}},
			told:   "ready off-after-AccessDenied done",
			passed: 52*hour + day,
		},
		"a failure that cannot be told": {
			script: script{answers: map[string][]string{"delete": {"KeyActive"}, "notify failed": repeat(49, "NotifyFailed")}},
			told:   "ready off",
			want:   "RolledBack", passed: 49*hour + day,
		},
		"starts at deactivate": {
			script: script{plan: map[string]any{"start": "deactivate", "newAccessKeyId": newKey, "secretArn": "arn:secret"}},
			called: "plan notify-ready deactivate notify-off look delete notify-done",
			told:   "ready off done",
			passed: hour + day,
		},
		"plan refuses": {
			script: script{answers: map[string][]string{"plan": {"AmbiguousKeys"}}},
			called: "plan notify-failed",
			told:   "failed-AmbiguousKeys",
			want:   "AmbiguousKeys",
		},
		"one poll, no reminder": {
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse"}}, plan: map[string]any{"polls": 1.0, "remindAtPoll": 1.0}},
			told:   "ready failed-KeyInUse",
			want:   "KeyInUse", passed: hour,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &tt.script
			out, failed, _ := s.run(t, "rotation", "", `{"userName": "ci-deploy", "pollHours": 1}`)
			if got := dashed(s.called); tt.called != "" && got != tt.called {
				t.Errorf("called %s\n want %s", got, tt.called)
			}
			if got := dashed(s.told); got != tt.told {
				t.Errorf("told %s\nwant %s", got, tt.told)
			}
			settles := 1 + strings.Count(dashed(s.called), "deactivate list") // 10 s before plan, and before a list that may be behind
			if got := s.passed - time.Duration(settles)*10*time.Second; got != tt.passed {
				t.Errorf("took %v, want %v", got, tt.passed)
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
			rotation, _ := out.(map[string]any)
			if rotation["userName"] != "ci-deploy" || rotation["accessKeyId"] != oldKey || rotation["newAccessKeyId"] != newKey || rotation["secretArn"] != "arn:secret" || rotation["owner"] != "team@example.com" || rotation["polls"] == nil ||
				rotation["start"] == "soak" && rotation["idleSince"] != "2026-11-01T00:00:00Z" {
				t.Errorf("the output is %v, want the rotation with both keys", out)
			}
		})
	}
}

// What each function is asked: the guards depend on it.
func TestRotationInputs(t *testing.T) {
	s := &script{}
	if _, failed, _ := s.run(t, "rotation", "", `{"userName": "ci-deploy", "accessKeyId": "`+oldKey+`", "quietHours": 24}`); failed != nil {
		t.Fatal(failed)
	}
	for function, want := range map[string]string{
		"plan":       `{"userName": "ci-deploy", "accessKeyId": "` + oldKey + `", "quietHours": 24, "execution": {"name": "` + oldKey + `-again", "started": "2026-11-23T09:00:00.000Z"}}`,
		"create":     `{"userName": "ci-deploy", "secretId": "iamkeys/ci-deploy/access-key", "replaces": "` + oldKey + `", "overwrite": false}`,
		"deactivate": `{"userName": "ci-deploy", "accessKeyId": "` + oldKey + `", "quietHours": 168, "replacedBy": "` + newKey + `", "secretId": "iamkeys/ci-deploy/access-key"}`,
		"look":       `{"userName": "ci-deploy", "accessKeyId": "` + oldKey + `", "replacedBy": "` + newKey + `", "secretId": "iamkeys/ci-deploy/access-key", "idleSince": "2026-11-01T00:00:00Z", "check": true}`,
		"delete":     `{"userName": "ci-deploy", "accessKeyId": "` + oldKey + `", "replacedBy": "` + newKey + `", "secretId": "iamkeys/ci-deploy/access-key", "idleSince": "2026-11-01T00:00:00Z"}`,
	} {
		var w any
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		got, _ := json.Marshal(s.last[function])
		wanted, _ := json.Marshal(w)
		if string(got) != string(wanted) {
			t.Errorf("%s was asked %s, want %s", function, got, wanted)
		}
	}
}

// The failed notice tells the keys' states by where a new execution would start.
func TestRotationTellsHowFarItGot(t *testing.T) {
	for fails, want := range map[string]any{"plan": nil, "create": "create", "deactivate": "deactivate", "delete": "soak"} {
		s := &script{answers: map[string][]string{fails: {"NotReplaced"}}}
		if _, failed, _ := s.run(t, "rotation", "", `{"userName": "ci-deploy", "accessKeyId": "`+oldKey+`"}`); failed == nil {
			t.Fatalf("%s failed and the rotation did not", fails)
		}
		rotation := s.last["notify failed"].(map[string]any)["rotation"].(map[string]any)
		if rotation["start"] != want || rotation["accessKeyId"] != oldKey || rotation["userName"] != "ci-deploy" {
			t.Errorf("after %s failed, the notice has %v, want start %v", fails, rotation, want)
		}
	}
}

func TestRotationNeedsAUser(t *testing.T) {
	for _, input := range []string{`{}`, `{"userName": null}`, `{"accessKeyId": "` + oldKey + `"}`} {
		s := &script{}
		_, failed, _ := s.run(t, "rotation", "", input)
		if failed == nil || failed.Name != "InvalidInput" || len(s.called) > 0 {
			t.Errorf("%s ended with %v after calling %v, want InvalidInput at once", input, failed, s.called)
		}
	}
}

// An error whose cause Step Functions leaves out must not fail the workflow's own expressions.
func TestRotationWithoutCause(t *testing.T) {
	for _, fails := range []map[string][]string{{"plan": {"Internal"}}, {"delete": {"AccessDenied"}}, {"deactivate": repeat(4, "Internal")}} {
		s := &script{answers: fails, mute: true}
		_, failed, _ := s.run(t, "rotation", "", `{"userName": "ci-deploy"}`)
		if failed == nil || failed.Name == "States.QueryEvaluationError" || failed.Cause != "" {
			t.Errorf("%v ended with %v", fails, failed)
		}
	}
}

// Step Functions ends an execution at 25,000 events. The longest wait and soak that
// plan allows stay below, whatever each step answers and however often it is repeated.
func TestRotationHistory(t *testing.T) {
	const polls, soakDays = 240, 330 // 240 polls of an hour, and 340 days together
	// tries is the worst that one step can do: both retriers to their end, and then that answer.
	tries := func(last string) []string {
		return []string{"Throttled", "Lambda.Unknown", "Throttled", "Lambda.Unknown", "Lambda.ServiceException", last}
	}
	many := func(n int, once []string) (all []string) {
		for range n {
			all = append(all, once...)
		}
		return all
	}
	untold := func() []string { return append(tries("NotifyFailed"), append(repeat(47, "NotifyFailed"), "")...) }
	deleting := tries("Internal")
	for name, answers := range map[string]map[string][]string{
		"refused polls":        {"deactivate": repeat(polls-1, "KeyInUse")},
		"throttled polls":      {"deactivate": many(polls-1, repeat(4, "Throttled"))},
		"key not listed polls": {"deactivate": repeat(polls-1, "NoSuchEntity")},
		"the worst at each step": {
			"deactivate": append(many(polls-1, tries("NoSuchEntity")), tries("")...), "list": many(polls-1, tries("")),
			"look": many(soakDays+6, tries("")), "delete": append(many(6, deleting), tries("")...),
			"plan":         append(append(tries("InProgress"), "InProgress", "InProgress"), ""),
			"create":       append(append(tries("InProgress"), "InProgress", "InProgress"), ""),
			"notify ready": untold(), "notify reminder": untold(), "notify off": untold(), "notify done": append(tries("NotifyFailed"), repeat(48, "NotifyFailed")...), "notify failed": untold(),
		},
	} {
		s := &script{plan: map[string]any{"polls": float64(polls), "remindAtPoll": float64(polls / 2), "soakDays": float64(soakDays)}, answers: answers, keys: []string{oldKey}}
		_, failed, e := s.run(t, "rotation", "", `{"userName": "ci-deploy"}`)
		if failed != nil && failed.Name != "NotifyFailed" {
			t.Fatal(failed)
		}
		for of, left := range s.answers {
			if len(left) > 0 {
				t.Errorf("%s: %d answers of %s were not asked for", name, len(left), of)
			}
		}
		t.Logf("%s: %d transitions, %d events", name, e.History.Transitions, e.History.Events)
		if e.History.Events >= 25_000 {
			t.Errorf("%s: %d events", name, e.History.Events)
		}
	}
}
