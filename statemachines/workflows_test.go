package statemachines_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/statemachines"
	"iamkeys/statemachines/asl"
)

func each(t *testing.T, test func(t *testing.T, m *asl.Machine)) {
	for _, name := range statemachines.Names() {
		t.Run(name, func(t *testing.T) {
			m, err := statemachines.Load(name, nil)
			if err != nil {
				t.Fatal(err)
			}
			test(t, m)
		})
	}
}

func TestNames(t *testing.T) {
	if got, want := statemachines.Names(), []string{"exposure", "lifecycle", "organization-audit", "retire-unused", "retirement", "rotate-due", "rotation"}; !slices.Equal(got, want) {
		t.Errorf("got workflows %v, want %v", got, want)
	}
}

func TestCommentOnEveryState(t *testing.T) {
	each(t, func(t *testing.T, m *asl.Machine) {
		if m.Comment == "" {
			t.Error("the workflow has no Comment: its reader meets it in the console, without the repository")
		}
		for name, s := range m.AllStates() {
			if s.Comment == "" {
				t.Errorf("state %q has no Comment: it says why the state is there, to whoever reads a failed execution", name)
			}
		}
	})
}

// The retriers, each in the same words wherever it stands.
const (
	// What is over in a moment, with jitter, since many executions may be refused at once.
	retryRefused = `{"ErrorEquals": ["Throttled", "Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException", "Lambda.TooManyRequestsException"],
		"IntervalSeconds": 4, "BackoffRate": 3, "MaxAttempts": 3, "JitterStrategy": "FULL"}`
	// A function that died or timed out: all of them reconcile what an earlier call of theirs has left.
	retryDied = `{"ErrorEquals": ["Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError", "States.Timeout"], "IntervalSeconds": 30, "BackoffRate": 1, "MaxAttempts": 2}`
	// Of create, once its lock is dead: the function's timeout and 150 s after its intent. Jitter would shorten that.
	retryCreateDied = `{"ErrorEquals": ["Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError", "States.Timeout"], "IntervalSeconds": 360, "BackoffRate": 1, "MaxAttempts": 2}`
	retryInProgress = `{"ErrorEquals": ["InProgress"], "IntervalSeconds": 360, "BackoffRate": 1, "MaxAttempts": 3}`
	// A topic that is down for two days at most.
	retryNotifyFailed = `{"ErrorEquals": ["NotifyFailed"], "IntervalSeconds": 3600, "BackoffRate": 1, "MaxAttempts": 48}`
	retryUnstored     = `{"ErrorEquals": ["StoreFailed", "NotifyFailed"], "IntervalSeconds": 3600, "BackoffRate": 1, "MaxAttempts": 48}`
	// What certainly had no effect, where any other attempt must be noted: a retrier hides it.
	retryThrottled = `{"ErrorEquals": ["Throttled"], "IntervalSeconds": 4, "BackoffRate": 3, "MaxAttempts": 3, "JitterStrategy": "FULL"}`
	// A new account runs ten functions at once.
	retryTooMany = `{"ErrorEquals": ["Lambda.TooManyRequestsException"], "IntervalSeconds": 20, "BackoffRate": 1.5, "MaxAttempts": 20, "MaxDelaySeconds": 300, "JitterStrategy": "FULL"}`
)

// retriers gives those that a state of a workflow must have.
func retriers(workflow, state, function string) []string {
	switch {
	case function == "": // calls none: only functions are known to be safe to repeat
		return nil
	case workflow == "exposure" && state == "Deactivate again": // the next minute is the next try
		return nil
	case (workflow == "exposure" || workflow == "retirement") && function == "Deactivate":
		return []string{retryThrottled}
	case workflow == "organization-audit" && function == "Audit":
		return []string{retryTooMany, retryRefused, retryDied}
	case function == "Merge", function == "Digest":
		return []string{retryRefused, retryDied, retryUnstored}
	case workflow == "lifecycle" && state == "Create": // the key of one that died would not count as this run's own
		return []string{retryRefused}
	case function == "Create":
		return []string{retryRefused, retryCreateDied, retryInProgress}
	case function == "Plan":
		return []string{retryRefused, retryDied, retryInProgress}
	case function == "Notify":
		return []string{retryRefused, retryDied, retryNotifyFailed}
	}
	return []string{retryRefused, retryDied}
}

func TestRetriersAreTheSameEverywhere(t *testing.T) {
	if iamkeys.LockLife > 360*time.Second {
		t.Errorf("a create that died is repeated after 360 s, and its lock is dead after %v", iamkeys.LockLife)
	}
	each(t, func(t *testing.T, m *asl.Machine) {
		for name, s := range m.AllStates() {
			arguments, _ := s.Arguments.(map[string]any)
			function, _ := arguments["FunctionName"].(string)
			var want []asl.Retrier
			for _, text := range retriers(filepath.Base(t.Name()), name, strings.TrimSuffix(strings.TrimPrefix(function, "${"), "FunctionArn}")) {
				var r asl.Retrier
				if err := json.Unmarshal([]byte(text), &r); err != nil {
					t.Fatal(err)
				}
				want = append(want, r)
			}
			if !reflect.DeepEqual(s.Retry, want) {
				t.Errorf("state %q has the retriers %+v, want %+v", name, s.Retry, want)
			}
		}
	})
}

// How a failure gets its name and its cause is said once, in the same words.
func TestFailuresEndTheSameWayEverywhere(t *testing.T) {
	wording := map[string]string{}
	each(t, func(t *testing.T, m *asl.Machine) {
		for _, name := range []string{"Note failure", "Failed"} { // of the workflow itself: a Map has its own
			s := m.States[name]
			if s == nil {
				continue
			}
			var words []string
			for _, e := range s.Expressions() {
				words = append(words, e.String())
			}
			slices.Sort(words)
			got := s.Comment + fmt.Sprint(s.Type, slices.Compact(words))
			if wording[name] == "" {
				wording[name] = got
			}
			if got != wording[name] {
				t.Errorf("state %q is\n%s\nand in another workflow\n%s", name, got, wording[name])
			}
		}
	})
}

func TestEveryStateIsReached(t *testing.T) {
	each(t, func(t *testing.T, m *asl.Machine) {
		var check func(m *asl.Machine)
		check = func(m *asl.Machine) {
			reached := map[string]bool{}
			var visit func(name string)
			visit = func(name string) {
				if reached[name] {
					return
				}
				reached[name] = true
				for _, next := range m.States[name].Successors() {
					visit(next)
				}
			}
			visit(m.StartAt)
			for name, s := range m.States {
				if !reached[name] {
					t.Errorf("no way leads to state %q: a state nobody enters is untested", name)
				}
				if s.ItemProcessor != nil {
					check(&s.ItemProcessor.Machine)
				}
			}
		}
		check(m)
	})
}

// Step Functions fails an execution whose expression names a variable that was
// never assigned, so on every way to a state each variable must have been.
func TestVariablesAreAssigned(t *testing.T) {
	each(t, func(t *testing.T, m *asl.Machine) {
		for _, fault := range unassigned(m, nil) {
			t.Errorf("%s: on AWS the execution fails there, on some way that no test may have taken", fault)
		}
	})
}

// unassigned follows the variables that are assigned on every way to each state.
func unassigned(m *asl.Machine, outer map[string]bool) []string {
	known := map[string]map[string]bool{m.StartAt: maps.Clone(outer)}
	if outer == nil {
		known[m.StartAt] = map[string]bool{}
	}
	for changed := true; changed; {
		changed = false
		arrive := func(name string, vars map[string]bool) {
			before, seen := known[name]
			if !seen {
				known[name], changed = maps.Clone(vars), true
				return
			}
			for v := range before {
				if !vars[v] {
					delete(before, v)
					changed = true
				}
			}
		}
		for name, s := range m.States {
			vars, seen := known[name]
			if !seen {
				continue
			}
			with := func(assign map[string]any) map[string]bool {
				more := maps.Clone(vars)
				for v := range assign {
					more[v] = true
				}
				return more
			}
			for _, c := range s.Choices {
				arrive(c.Next, with(c.Assign))
			}
			for _, c := range s.Catch {
				arrive(c.Next, with(c.Assign))
			}
			if s.Default != "" {
				arrive(s.Default, with(s.Assign))
			}
			if s.Next != "" {
				arrive(s.Next, with(s.Assign))
			}
		}
	}
	var faults []string
	for name, s := range m.States {
		for _, e := range s.Expressions() {
			for _, path := range e.Paths() {
				if path[0] != "states" && !known[name][path[0]] {
					faults = append(faults, fmt.Sprintf("state %q uses $%s, which is not assigned on every way to it", name, path[0]))
				}
			}
		}
		if s.ItemProcessor != nil {
			outer := known[name]
			if s.ItemProcessor.Distributed() { // its children are executions of their own
				outer = map[string]bool{}
			}
			faults = append(faults, unassigned(&s.ItemProcessor.Machine, outer)...)
		}
	}
	slices.Sort(faults)
	return faults
}

// Expressions read $states.result only where a task succeeded, and
// $states.errorOutput only where one was caught: elsewhere they yield nothing.
func TestStatesFieldsAreThere(t *testing.T) {
	each(t, func(t *testing.T, m *asl.Machine) {
		for name, s := range m.AllStates() {
			for _, e := range s.Expressions() {
				for _, path := range e.Paths() {
					if len(path) < 2 || path[0] != "states" {
						continue
					}
					if path[1] == "result" && s.Type != "Task" && s.Type != "Map" || path[1] == "errorOutput" && len(s.Catch) == 0 ||
						!slices.Contains([]string{"input", "result", "errorOutput", "context"}, path[1]) {
						t.Errorf("state %q uses $%s, which is not there", name, strings.Join(path, "."))
					}
				}
			}
		}
	})
}
