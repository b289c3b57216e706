package asl

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRefuses(t *testing.T) {
	pass := func(fields string) string {
		return `{"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": {"Type": "Pass", ` + fields + `}}}`
	}
	task := func(fields string) string {
		return `{"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "r", "Arguments": {}, "TimeoutSeconds": 1, "End": true, ` + fields + `}}}`
	}
	for name, tt := range map[string]struct{ text, want string }{
		"function":                 {pass(`"End": true, "Output": "{% $count($states.input) %}"`), "belongs into a function"},
		"exists":                   {pass(`"End": true, "Output": "{% $exists($a) %}"`), "belongs into a function"},
		"and":                      {pass(`"End": true, "Output": "{% $a = 1 and $b = 2 %}"`), "belongs into a function"},
		"concatenation":            {pass(`"End": true, "Output": "{% 'user ' & $a %}"`), "belongs into a function"},
		"+ 2":                      {pass(`"End": true, "Output": "{% $a + 2 %}"`), "belongs into a function"},
		"+ variable":               {pass(`"End": true, "Output": "{% $a + $b %}"`), "belongs into a function"},
		"minus":                    {pass(`"End": true, "Output": "{% $a - 1 %}"`), "belongs into a function"},
		"filter":                   {pass(`"End": true, "Output": "{% $a[b = 1] %}"`), "belongs into a function"},
		"ternary":                  {pass(`"End": true, "Output": "{% $a ? 1 : 2 %}"`), "belongs into a function"},
		"object":                   {pass(`"End": true, "Output": "{% {'a': $a} %}"`), "belongs into a function"},
		"text around":              {pass(`"End": true, "Output": "user {% $a %}"`), "whole string"},
		"unfinished":               {pass(`"End": true, "Output": "{% $a"`), "unfinished"},
		"unknown field":            {pass(`"End": true, "Outptu": 1`), "unknown field"},
		"JSONPath":                 {`{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}`, "must be JSONata"},
		"a Map of many in JSONata": {pass(`"End": true}, "B": {"Type": "Map", "End": true, "ItemProcessor": {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, "StartAt": "C", "States": {"C": {"Type": "Succeed"}}}`), "must be JSONPath"},
		"$merge of more":           {pass(`"End": true, "Output": "{% $merge([$a, $b]) %}"`), "belongs into a function"},
		"$merge with a count":      {pass(`"End": true, "Output": "{% $merge([$a, {'n': $a.n + 1}]) %}"`), "belongs into a function"},
		"$merge of nothing":        {pass(`"End": true, "Output": "{% $merge([$a, {}]) %}"`), "belongs into a function"},
		"StartAt":                  {`{"QueryLanguage": "JSONata", "StartAt": "B", "States": {"A": {"Type": "Succeed"}}}`, "names no state"},
		"Next":                     {pass(`"Next": "B"`), `"B", which is no state`},
		"neither":                  {pass(`"Output": 1`), "either Next or End"},
		"both":                     {pass(`"Next": "A", "End": true`), "either Next or End"},
		"foreign field":            {pass(`"End": true, "Seconds": 1`), "does not belong"},
		"type":                     {`{"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": {"Type": "Parallel"}}}`, "not one of those"},
		"no timeout":               {`{"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "r", "Arguments": {}, "End": true}}}`, "TimeoutSeconds is missing"},
		"ALL not last":             {task(`"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "A"}, {"ErrorEquals": ["X"], "Next": "A"}]`), "stand alone, and last"},
		"ALL not alone":            {task(`"Catch": [{"ErrorEquals": ["X", "States.ALL"], "Next": "A"}]`), "stand alone, and last"},
		"half a retrier":           {task(`"Retry": [{"ErrorEquals": ["X"], "IntervalSeconds": 1}]`), "a retrier must say"},
		"a name twice":             {`{"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": {"Type": "Map", "Items": [], "End": true, "ItemProcessor": {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}}}}`, "two states are named"},
		"a variable twice":         {`{"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": {"Type": "Map", "Items": [], "Assign": {"x": 1}, "End": true, "ItemProcessor": {"StartAt": "B", "States": {"B": {"Type": "Pass", "Assign": {"x": 2}, "End": true}}}}}}`, "assigns $x"},
		"literal as a rule": {`{"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": {"Type": "Choice", "Default": "B", "Choices": [{"Condition": true, "Next": "B"}]}, "B": {"Type": "Succeed"}}}`,
			"a Condition must be an expression"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestExpressions(t *testing.T) {
	var variables scope
	if err := json.Unmarshal([]byte(`{
		"n": 3, "m": 4, "s": "a", "null": null, "yes": true, "o": {"s": "a", "null": null},
		"none": [], "one": [{"id": "a"}], "two": [{"id": "a"}, {"id": "b"}]
	}`), &variables); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]any{
		"$n":                       3.0,
		"$n + 1":                   4.0,
		"$n < $m":                  true,
		"$n >= $m":                 false,
		"$n <= 3":                  true,
		"$n > 3":                   false,
		"$s = $o.s":                true,
		"$s = 'b'":                 false,
		"$s != 'b'":                true,
		"$yes = true":              true,
		"$yes = false":             false,
		"$o.null":                  nil,
		"$o.null = null":           true,
		"$o.s = null":              false,
		"$o.s != null":             true,
		"$null.s = true":           false,
		"$o.absent = false":        false,
		"$o.absent = null":         false,
		"$o.absent != null":        false,
		"$absent != null":          false,
		"$s in $none.id":           false,
		"$s in $one.id":            true,
		"$s in $two.id":            true,
		"$n in $two.id":            false,
		"$two":                     variables["two"],
		"$none":                    []any{},
		"$o.absent":                undefined{},
		"$absent":                  undefined{},
		"$null.s":                  undefined{},
		"$s.x":                     undefined{},
		"$none.id":                 undefined{},
		"$absent < 1":              undefined{},
		"$absent + 1":              undefined{},
		"$o.absent.further":        undefined{},
		"$two.id":                  []any{"a", "b"},
		"$one.id":                  "a",
		"$merge([$o, {'s': 'b'}])": map[string]any{"s": "b", "null": nil},
		"$merge([$o, {'n': $n, 'x': 7, 'y': true, 'z': null}])": map[string]any{"s": "a", "null": nil, "n": 3.0, "x": 7.0, "y": true, "z": nil},
		"$merge([$o, {'s': $absent, 'n': $o.absent}])":          map[string]any{"s": "a", "null": nil},
		"$merge([$two.x, {'s': 'b'}])":                          nil,
	} {
		e, err := parseExpression(text)
		if err != nil {
			t.Fatal(err)
		}
		got, failed := e.value(variables)
		if strings.HasPrefix(text, "$merge") && want == nil {
			if failed == nil {
				t.Errorf("%s gave %v, want an error: there is no object", text, got)
			}
			continue
		}
		if failed != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s gave %#v (error %v), want %#v", text, got, failed, want)
		}
	}
	for _, text := range []string{"$s < 1", "$s + 1", "$n > $s"} {
		e, err := parseExpression(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, failed := e.value(variables); failed == nil {
			t.Errorf("%s gave %v, want an error: these are not two numbers", text, got)
		}
	}
}

// clock is virtual time.
type clock struct{ passed []time.Duration }

func (c *clock) wait(_ context.Context, d time.Duration) error {
	c.passed = append(c.passed, d)
	return nil
}

func TestRetryAndCatch(t *testing.T) {
	const text = `{"QueryLanguage": "JSONata", "StartAt": "Try", "States": {
		"Try": {"Type": "Task", "Resource": "r", "Arguments": {"n": "{% $states.input.n %}"}, "TimeoutSeconds": 1,
			"Retry": [
				{"ErrorEquals": ["Slow"], "IntervalSeconds": 2, "BackoffRate": 2, "MaxAttempts": 4, "MaxDelaySeconds": 9},
				{"ErrorEquals": ["Dead"], "IntervalSeconds": 100, "BackoffRate": 1, "MaxAttempts": 1}],
			"Catch": [{"ErrorEquals": ["States.ALL"], "Assign": {"caught": "{% $states.errorOutput %}"}, "Next": "Caught"}],
			"Assign": {"out": "{% $states.result.out %}"}, "Next": "Good"},
		"Good": {"Type": "Pass", "Output": "{% $out %}", "End": true},
		"Caught": {"Type": "Fail", "Error": "{% $caught.Error %}", "Cause": "{% $caught.Cause %}"}}}`
	for name, tt := range map[string]struct {
		fails  string // errors in order; then success
		waited []time.Duration
		want   string
	}{
		"at once":            {"", nil, ""},
		"backoff":            {"Slow Slow Slow Slow", []time.Duration{2e9, 4e9, 8e9, 9e9}, ""},
		"exhausted":          {"Slow Slow Slow Slow Slow", []time.Duration{2e9, 4e9, 8e9, 9e9}, "Slow"},
		"each its own count": {"Slow Dead Slow", []time.Duration{2e9, 100e9, 4e9}, ""},
		"second exhausted":   {"Dead Dead", []time.Duration{100e9}, "Dead"},
		"not retried":        {"Other", nil, "Other"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			fails := strings.Fields(tt.fails)
			var c clock
			e := &Execution{Wait: c.wait, Task: func(context.Context, string, any) (any, error) {
				if len(fails) == 0 {
					return map[string]any{"out": "done"}, nil
				}
				name := fails[0]
				fails = fails[1:]
				return nil, &Error{Name: name, Cause: "why"}
			}}
			out, err := m.Run(t.Context(), e, map[string]any{"n": 1.0})
			var failed *Error
			errors.As(err, &failed)
			switch {
			case tt.want == "" && (err != nil || out != "done"):
				t.Errorf("got %v, %v, want done", out, err)
			case tt.want != "" && (failed == nil || failed.Name != tt.want || failed.Cause != "why"):
				t.Errorf("got %v, %v, want %s", out, err, tt.want)
			}
			if !slices.Equal(c.passed, tt.waited) {
				t.Errorf("waited %v, want %v", c.passed, tt.waited)
			}
		})
	}
}

// What an expression in a Task yields nothing for is an error like any other: it
// can be caught, and without a catcher it ends the execution.
func TestUndefinedFails(t *testing.T) {
	for _, catch := range []string{``, `"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "B"}],`} {
		m, err := Parse([]byte(`{"QueryLanguage": "JSONata", "StartAt": "A", "States": {
			"A": {"Type": "Task", "Resource": "r", "TimeoutSeconds": 1, ` + catch + ` "Arguments": {"x": "{% $states.input.x %}"}, "Next": "B"},
			"B": {"Type": "Pass", "End": true}}}`))
		if err != nil {
			t.Fatal(err)
		}
		e := &Execution{Task: func(context.Context, string, any) (any, error) { return nil, nil }}
		_, err = m.Run(t.Context(), e, map[string]any{})
		var failed *Error
		if errors.As(err, &failed); catch == "" && (failed == nil || failed.Name != "States.QueryEvaluationError") || catch != "" && err != nil {
			t.Errorf("with %q got %v", catch, err)
		}
	}
}
