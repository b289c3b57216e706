package statemachines_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iamkeys/statemachines"
	"iamkeys/statemachines/asl"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	oldKey = "AKIAOLD0000000000000"
	newKey = "AKIANEW0000000000000"
)

// script stands in for the functions where the point is the
// workflow's own way: which error leads where. Each function answers by its
// list, and well when that is used up. How the real functions fare with real
// consumers is proved elsewhere.
type script struct {
	answers map[string][]string       // function (notify: "notify ready", delete with check: "look") → errors in order; "" is none
	plan    map[string]any            // what differs in plan's rotation
	keys    []string                  // what list lists
	due     []string                  // the keys that are due, or unused
	retire  map[string]map[string]any // stage → what differs in what retire answers
	off     map[string]any            // what differs in what deactivate answers
	exists  []string                  // executions that exist, and what a second start is answered
	waits   int                       // how often retire says to wait for a day to act
	starts  string                    // the state machine that may be started
	mute    bool                      // errors have no cause
	gone    bool                      // the old key, when delete looks at it

	called    []string         // functions, with the stage of notify
	told      []string         // stages of notify, with the error's name
	last      map[string]any   // the last payload of each function
	succeeded map[string]bool  // what was answered well
	inputs    []map[string]any // what executions were started with
	passed    time.Duration
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
		if a["StateMachineArn"] != s.starts {
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
	switch {
	case function == "notify":
		name += " " + in["stage"].(string)
	case function == "retire":
		name += " " + in["stage"].(string)
	case in["check"] == true:
		name = "look"
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
			"start": "create", "quietHours": 168.0, "pollSeconds": 3600.0, "polls": 4.0, "remindAtPoll": 2.0, "soakDays": 1.0,
		}
		maps.Copy(rotation, s.plan)
		return rotation, nil
	case "deactivate":
		answer := map[string]any{"userName": in["userName"], "accessKeyId": in["accessKeyId"], "status": "Inactive", "changed": true, "lastUsedDate": nil, "idleSince": "2026-11-01T00:00:00Z"}
		maps.Copy(answer, s.off)
		s.note(name)
		return answer, nil
	case "retire":
		stage := in["stage"].(string)
		if again := stage + " again"; s.succeeded[name] && s.retire[again] != nil {
			stage = again
		}
		answer := map[string]any{
			"userName": in["userName"], "accessKeyId": in["accessKeyId"], "owner": "team@example.com", "idleDays": 120.0, "power": nil,
			"quietHours": 2400.0, "noticeSeconds": 11 * 86400.0, "finalSeconds": 3 * 86400.0, "waitSeconds": 0.0, "soakDays": 2.0,
		}
		maps.Copy(answer, s.retire[stage])
		if answer["waitSeconds"] != 0.0 {
			if s.waits--; s.waits < 0 {
				answer["waitSeconds"] = 0.0
			}
		}
		s.note(name)
		if answer["gone"] == true {
			return map[string]any{"gone": true}, nil
		}
		return answer, nil
	case "unused":
		retirements := []any{}
		for _, k := range s.due {
			retirements = append(retirements, map[string]any{"userName": "user-" + k, "accessKeyId": k, "idleDays": 120.0, "owner": nil, "power": nil, "execution": "retire-" + k})
		}
		return map[string]any{"retirements": retirements, "skipped": []any{}}, nil
	case "delete":
		s.note(name)
		return map[string]any{"userName": in["userName"], "accessKeyId": in["accessKeyId"], "deleted": in["check"] == nil, "gone": s.gone}, nil
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
			if want := "because of " + e["name"].(string); !s.mute && e["name"] != "RolledBack" && e["name"] != "Throttled" && e["message"] != want {
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

func (s *script) note(name string) {
	if s.succeeded == nil {
		s.succeeded = map[string]bool{}
	}
	s.succeeded[name] = true
}

func (s *script) run(t *testing.T, workflow, mode, input string) (any, *asl.Error, *asl.Execution) {
	t.Helper()
	s.starts = map[string]string{"rotate-due": "rotation", "retire-unused": "retirement"}[workflow]
	m := load(t, workflow, mode)
	var in any
	if err := json.Unmarshal([]byte(input), &in); err != nil {
		t.Fatal(err)
	}
	e := &asl.Execution{Task: s.task, Wait: s.wait, Name: map[string]string{"retirement": "retire-"}[workflow] + oldKey + "-again", Started: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
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

// load loads a workflow with the names that the tests give functions and machines.
func load(t *testing.T, workflow, mode string) *asl.Machine {
	t.Helper()
	substitutions := maps.Clone(functionARNs)
	substitutions["RotationMode"], substitutions["RotationStateMachineArn"] = mode, "rotation"
	substitutions["RetirementMode"], substitutions["RetirementStateMachineArn"] = mode, "retirement"
	m, err := statemachines.Load(workflow, substitutions)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// dashed joins a list of names that hold blanks.
func dashed(list []string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.Join(list, "\n"), " ", "-"), "\n", " ")
}

// The functions' names as the workflows get them from the template.
var functionARNs = map[string]string{
	"ListFunctionArn": "list", "LastUsedFunctionArn": "lastused", "CreateFunctionArn": "create", "DeactivateFunctionArn": "deactivate", "DeleteFunctionArn": "delete",
	"PlanFunctionArn": "plan", "NotifyFunctionArn": "notify", "DueFunctionArn": "due", "RetireFunctionArn": "retire", "UnusedFunctionArn": "unused", "ExposedFunctionArn": "exposed",
	"AccountsFunctionArn": "accounts", "AuditFunctionArn": "audit", "MergeFunctionArn": "merge", "DigestFunctionArn": "digest",
}
