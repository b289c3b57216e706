package statemachines_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"iamkeys/statemachines"
	"iamkeys/statemachines/asl"
)

// retry is the one wording of the retrier that every function call has: what is
// over in a moment, with jitter, since many executions may be refused at once.
const retry = `{
	"ErrorEquals": ["Throttled", "Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException", "Lambda.TooManyRequestsException"],
	"IntervalSeconds": 2, "BackoffRate": 2, "MaxAttempts": 6, "MaxDelaySeconds": 60, "JitterStrategy": "FULL"
}`

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
	if got, want := statemachines.Names(), []string{"lifecycle", "rotate-due", "rotation"}; !slices.Equal(got, want) {
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

func TestOneRetryWording(t *testing.T) {
	var want asl.Retrier
	if err := json.Unmarshal([]byte(retry), &want); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, m *asl.Machine) {
		for name, s := range m.AllStates() {
			if !strings.HasSuffix(s.Resource, ":lambda:invoke") {
				if len(s.Retry) > 0 {
					t.Errorf("state %q retries, but calls no function: only functions are known to be safe to repeat", name)
				}
				continue
			}
			if len(s.Retry) == 0 || !reflect.DeepEqual(s.Retry[0], want) {
				t.Errorf("state %q does not begin with the common retrier: a call that was throttled or never reached Lambda is tried again, everywhere in the same words", name)
			}
			for _, r := range s.Retry[min(1, len(s.Retry)):] {
				if name != "Create" && name != "Delete" {
					t.Errorf("state %q has a second retrier: only Create and Delete reconcile what a function left that died", name)
				}
				if r.JitterStrategy == "FULL" || r.IntervalSeconds < 180+30 || r.BackoffRate != 1 {
					t.Errorf("state %q: the second retrier must wait until the intent of a create that died is dead (its timeout of 180 s and 30 s more), and jitter would shorten that", name)
				}
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
