package statemachines_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/statemachines"
	"iamkeys/statemachines/asl"
)

const (
	oldKey = "AKIAOLD0000000000000"
	newKey = "AKIANEW0000000000000"
)

// script stands in for the functions of the rotation where the point is the
// workflow's own way: which error leads where. Each function answers by its
// list, and well when that is used up. How the real functions fare with real
// consumers is proved elsewhere.
type script struct {
	answers map[string][]string // function (notify: "notify ready") → errors in order; "" is none
	plan    map[string]any      // what differs in plan's rotation
	keys    []string            // what list lists
	due     []string            // the keys that are due
	exists  []string            // executions that exist, and what a second start is answered
	mute    bool                // errors have no cause

	called []string         // functions, with the stage of notify
	told   []string         // stages of notify, with the error's name
	last   map[string]any   // the last payload of each function
	inputs []map[string]any // what executions were started with
	passed time.Duration
}

func (s *script) wait(_ context.Context, d time.Duration) error {
	s.passed += d
	return nil
}

func (s *script) task(ctx context.Context, resource string, arguments any) (any, error) {
	if strings.HasSuffix(resource, ":states:::states:startExecution") {
		a := arguments.(map[string]any)
		name := a["Name"].(string)
		s.called = append(s.called, "start "+name)
		if slices.Contains(s.exists, name) {
			return nil, &asl.Error{Name: s.answers["start"][0], Cause: "Execution Already Exists"}
		}
		if a["StateMachineArn"] != "rotation" {
			return nil, fmt.Errorf("started %v", a["StateMachineArn"])
		}
		s.exists = append(s.exists, name)
		s.inputs = append(s.inputs, a["Input"].(map[string]any))
		return map[string]any{"ExecutionArn": name}, nil
	}
	return asl.Lambda(s.invoke)(ctx, resource, arguments)
}

func (s *script) invoke(_ context.Context, function string, payload any) (any, error) {
	in := payload.(map[string]any)
	name := function
	if function == "notify" {
		name += " " + in["stage"].(string)
	}
	s.called = append(s.called, name)
	if s.last == nil {
		s.last = map[string]any{}
	}
	s.last[name] = payload
	if answers := s.answers[name]; len(answers) > 0 {
		s.answers[name] = answers[1:]
		if answers[0] != "" {
			if s.mute {
				return nil, &asl.Error{Name: answers[0]}
			}
			return nil, &asl.Error{Name: answers[0], Cause: "because of " + answers[0]}
		}
	}
	switch function {
	case "plan":
		rotation := map[string]any{
			"userName": in["userName"], "accessKeyId": oldKey, "newAccessKeyId": nil, "secretId": "iamkeys/ci-deploy/access-key", "secretArn": nil, "overwrite": false, "owner": "team@example.com",
			"start": "create", "quietHours": 168.0, "pollSeconds": 3600.0, "polls": 4.0, "remindAtPoll": 2.0, "soakDays": 1.0, "soakSeconds": 86400.0,
		}
		maps.Copy(rotation, s.plan)
		return rotation, nil
	case "create":
		return map[string]any{"userName": in["userName"], "accessKeyId": newKey, "secretArn": "arn:secret", "created": true}, nil
	case "list":
		keys := []any{}
		for _, k := range s.keys {
			keys = append(keys, map[string]any{"accessKeyId": k})
		}
		return map[string]any{"userName": in["userName"], "accessKeys": keys}, nil
	case "notify":
		stage := in["stage"].(string)
		if e, ok := in["error"].(map[string]any); ok {
			stage += " " + e["name"].(string)
			if want := "because of " + e["name"].(string); !s.mute && e["name"] != "RolledBack" && e["message"] != want {
				return nil, fmt.Errorf("notify was told %v, want the message %q", e, want)
			}
		}
		if e, ok := in["earlierError"].(map[string]any); ok && !reflect.DeepEqual(e, in["error"]) {
			stage += " after " + e["name"].(string)
		}
		s.told = append(s.told, stage)
		return map[string]any{"messageId": "1"}, nil
	case "due":
		rotations := []any{}
		for _, k := range s.due {
			rotations = append(rotations, map[string]any{"userName": "user-" + k, "accessKeyId": k, "secretId": "iamkeys/" + k, "ageDays": 99.0, "owner": nil})
		}
		return map[string]any{"rotations": rotations, "skipped": []any{}}, nil
	}
	return map[string]any{"userName": in["userName"], "accessKeyId": in["accessKeyId"]}, nil
}

func (s *script) run(t *testing.T, workflow, mode, input string) (any, *asl.Error, *asl.Execution) {
	t.Helper()
	substitutions := maps.Clone(functionARNs)
	substitutions["RotationMode"], substitutions["RotationStateMachineArn"] = mode, "rotation"
	m, err := statemachines.Load(workflow, substitutions)
	if err != nil {
		t.Fatal(err)
	}
	var in any
	if err := json.Unmarshal([]byte(input), &in); err != nil {
		t.Fatal(err)
	}
	e := &asl.Execution{Task: s.task, Wait: s.wait}
	out, err := m.Run(t.Context(), e, in)
	if failed, ok := errors.AsType[*asl.Error](err); ok {
		return nil, failed, e
	}
	if err != nil {
		t.Fatal(err)
	}
	return out, nil, e
}

func repeat(n int, name string) []string {
	return slices.Repeat([]string{name}, n)
}

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
			called: "plan create notify-ready deactivate notify-off delete notify-done",
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
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse", "NotAdopted", "KeyInUse", "Runtime.ExitError"}}},
			told:   "ready reminder-NotAdopted failed-Runtime.ExitError-after-KeyInUse",
			want:   "KeyInUse", passed: 4 * hour,
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
		"the reminder fails": {
			script: script{answers: map[string][]string{"deactivate": {"KeyInUse", "AccessDenied", "KeyInUse", ""}, "notify reminder": {"NotifyFailed"}}},
			told:   "ready off-after-AccessDenied done",
			passed: 4*hour + day,
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
			called: "plan create notify-ready deactivate list deactivate notify-off delete notify-done",
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
			script: script{answers: map[string][]string{"delete": {"NotReplaced"}}},
			told:   "ready off failed-NotReplaced",
			want:   "NotReplaced", passed: hour + day,
		},
		"reactivated in the soak": {
			script: script{answers: map[string][]string{"delete": {"KeyActive"}}},
			told:   "ready off failed-RolledBack",
			want:   "RolledBack", passed: hour + day,
		},
		"the user is gone in the soak": {
			script: script{answers: map[string][]string{"delete": {"NoSuchEntity"}}},
			told:   "ready off failed-NoSuchEntity",
			want:   "NoSuchEntity", passed: hour + day,
		},
		"delete dies and is repeated": {
			script: script{answers: map[string][]string{"delete": {"Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError"}}},
			told:   "ready off done",
			passed: hour + day + 3*240*time.Second,
		},
		"delete fails": {
			script: script{answers: map[string][]string{"delete": {"AccessDenied"}}},
			told:   "ready off failed-AccessDenied",
			want:   "AccessDenied", passed: hour + day,
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
			passed: hour + day + 2*340*time.Second,
		},
		"create dies too often": {
			script: script{answers: map[string][]string{"create": repeat(4, "States.Timeout")}},
			told:   "failed-States.Timeout",
			want:   "States.Timeout", passed: 3 * 340 * time.Second,
		},
		"throttled": {
			script: script{answers: map[string][]string{"create": {"Throttled", "Lambda.TooManyRequestsException"}, "deactivate": {"Lambda.ServiceException"}}},
			told:   "ready off done",
			passed: hour + day + (2+4+2)*time.Second,
		},
		"ready cannot be told": {
			script: script{answers: map[string][]string{"notify ready": {"NotifyFailed"}}},
			called: "plan create notify-ready notify-failed",
			told:   "failed-NotifyFailed",
			want:   "NotifyFailed",
		},
		"nothing else needs telling": {
			script: script{answers: map[string][]string{"notify off": {"NotifyFailed"}, "notify done": {"NotifyFailed"}}},
			told:   "ready",
			passed: hour + day,
		},
		"a failure that cannot be told": {
			script: script{answers: map[string][]string{"delete": {"KeyActive"}, "notify failed": {"NotifyFailed"}}},
			told:   "ready off",
			want:   "RolledBack", passed: hour + day,
		},
		"starts at deactivate": {
			script: script{plan: map[string]any{"start": "deactivate", "newAccessKeyId": newKey, "secretArn": "arn:secret"}},
			called: "plan notify-ready deactivate notify-off delete notify-done",
			told:   "ready off done",
			passed: hour + day,
		},
		"starts at soak": {
			script: script{plan: map[string]any{"start": "soak", "newAccessKeyId": newKey, "secretArn": "arn:secret"}},
			called: "plan notify-off delete notify-done",
			told:   "off done",
			passed: day,
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
			dashed := func(list []string) string {
				joined := strings.Join(list, "\n")
				return strings.ReplaceAll(strings.ReplaceAll(joined, " ", "-"), "\n", " ")
			}
			if got := dashed(s.called); tt.called != "" && got != tt.called {
				t.Errorf("called %s\n want %s", got, tt.called)
			}
			if got := dashed(s.told); got != tt.told {
				t.Errorf("told %s\nwant %s", got, tt.told)
			}
			if s.passed != tt.passed {
				t.Errorf("took %v, want %v", s.passed, tt.passed)
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
			if rotation["userName"] != "ci-deploy" || rotation["accessKeyId"] != oldKey || rotation["newAccessKeyId"] != newKey || rotation["secretArn"] != "arn:secret" || len(rotation) != 14 {
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
		"plan":       `{"userName": "ci-deploy", "accessKeyId": "` + oldKey + `", "quietHours": 24}`,
		"create":     `{"userName": "ci-deploy", "secretId": "iamkeys/ci-deploy/access-key", "replaces": "` + oldKey + `", "overwrite": false}`,
		"deactivate": `{"userName": "ci-deploy", "accessKeyId": "` + oldKey + `", "quietHours": 168, "replacedBy": "` + newKey + `", "secretId": "iamkeys/ci-deploy/access-key"}`,
		"delete":     `{"userName": "ci-deploy", "accessKeyId": "` + oldKey + `", "replacedBy": "` + newKey + `", "secretId": "iamkeys/ci-deploy/access-key"}`,
	} {
		var w any
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		asked := maps.Clone(s.last[function].(map[string]any))
		delete(asked, "execution") // its own name and start
		got, _ := json.Marshal(asked)
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
		if rotation["start"] != want || rotation["accessKeyId"] != oldKey || rotation["userName"] != "ci-deploy" || len(rotation) != 14 {
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
	for _, fails := range []map[string][]string{{"plan": {"Runtime.ExitError"}}, {"delete": {"AccessDenied"}}, {"deactivate": repeat(4, "Internal")}} {
		s := &script{answers: fails, mute: true}
		_, failed, _ := s.run(t, "rotation", "", `{"userName": "ci-deploy"}`)
		if failed == nil || failed.Name == "States.QueryEvaluationError" || failed.Cause != "" {
			t.Errorf("%v ended with %v", fails, failed)
		}
	}
}

// Step Functions ends an execution at 25,000 events; ours stay below 20,000.
func TestRotationHistory(t *testing.T) {
	s := &script{plan: map[string]any{"polls": 2000.0, "remindAtPoll": 1000.0}, answers: map[string][]string{"deactivate": repeat(1999, "KeyInUse")}}
	_, failed, e := s.run(t, "rotation", "", `{"userName": "ci-deploy"}`)
	if failed != nil {
		t.Fatal(failed)
	}
	t.Logf("2,000 polls: %d transitions, %d events", e.History.Transitions, e.History.Events)
	if e.History.Events >= 20000 {
		t.Errorf("%d events for the longest wait that plan allows", e.History.Events)
	}
}

func TestRotateDue(t *testing.T) {
	for name, tt := range map[string]struct {
		mode   string
		script script
		called string
		want   string
	}{
		"off":                        {"off", script{due: []string{"A"}}, "", ""},
		"plan":                       {"plan", script{due: []string{"A", "B"}}, "due notify-planned", ""},
		"plan, nothing due":          {"plan", script{}, "due notify-planned", ""},
		"plan, cannot tell":          {"plan", script{due: []string{"A"}, answers: map[string][]string{"notify planned": {"NotifyFailed"}}}, "due notify-planned", "NotifyFailed"},
		"an unknown mode only tells": {"Apply", script{due: []string{"A"}}, "due notify-planned", ""},
		"apply":                      {"apply", script{due: []string{"A", "B"}}, "due notify-started start-A start-B", ""},
		"apply, nothing due":         {"apply", script{}, "due notify-started", ""},
		"apply, started before":      {"apply", script{due: []string{"A", "B"}, exists: []string{"A"}, answers: map[string][]string{"start": {"StepFunctions.ExecutionAlreadyExistsException"}}}, "due notify-started start-A start-B", ""},
		"apply, other spelling":      {"apply", script{due: []string{"A", "B"}, exists: []string{"A"}, answers: map[string][]string{"start": {"ExecutionAlreadyExists"}}}, "due notify-started start-A start-B", ""},
		"apply, cannot start":        {"apply", script{due: []string{"A", "B"}, exists: []string{"A"}, answers: map[string][]string{"start": {"StepFunctions.AccessDeniedException"}}}, "due notify-started start-A", "StepFunctions.AccessDeniedException"},
		"apply, cannot tell":         {"apply", script{due: []string{"A"}, answers: map[string][]string{"notify started": {"NotifyFailed"}}}, "due notify-started start-A", "NotifyFailed"},
		"due fails":                  {"apply", script{due: []string{"A"}, answers: map[string][]string{"due": {"InventoryUnavailable"}}}, "due", "InventoryUnavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &tt.script
			out, failed, _ := s.run(t, "rotate-due", tt.mode, `{"source": "aws.scheduler", "time": "2026-11-23T07:00:00Z"}`)
			if got := strings.ReplaceAll(strings.Join(s.called, "\n"), " ", "-"); strings.ReplaceAll(got, "\n", " ") != tt.called {
				t.Errorf("called %q, want %q", s.called, tt.called)
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
			if due, _ := out.(map[string]any); tt.mode != "off" && len(due["rotations"].([]any)) != len(tt.script.due) {
				t.Errorf("the output is %v, want what was due", out)
			}
			for _, in := range s.inputs {
				if len(in) != 3 || in["userName"] != "user-"+in["accessKeyId"].(string) || in["secretId"] != "iamkeys/"+in["accessKeyId"].(string) {
					t.Errorf("started with %v", in)
				}
			}
		})
	}
}
