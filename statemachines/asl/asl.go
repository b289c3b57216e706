// Package asl reads workflows and runs them as Step Functions would, for tests: time
// is virtual and the tasks are whatever the test says. Nothing of it is in a
// deployed function.
//
// It knows the part of the Amazon States Language that the workflows may use,
// and [Parse] refuses the rest, so that what a test runs here is what runs on AWS.
// Expressions are variable paths, comparisons, "+ 1" and $merge; what needs more
// belongs into a function, where it has a type and a test. JSONPath is for the
// distributed Map alone, whose fields local emulators read in no other language.
//
// https://states-language.net/spec.html and
// https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
package asl

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Machine is a workflow.
type Machine struct {
	Comment        string
	QueryLanguage  string
	StartAt        string
	States         map[string]*State
	TimeoutSeconds int
}

// A State is one state of a workflow; which fields it has depends on its Type.
type State struct {
	Comment       string
	QueryLanguage string
	Type          string
	Next          string
	End           bool
	Assign        map[string]any
	Output        any

	// Task
	Resource       string
	Arguments      any
	TimeoutSeconds int
	Retry          []Retrier
	Catch          []Catcher

	// Choice
	Choices []Choice
	Default string

	// Wait
	Seconds any

	// Fail
	Error, Cause any

	// Map
	Items                      any
	MaxConcurrency             int
	ItemProcessor              *Processor
	ItemReader                 *ItemReader
	ItemSelector               map[string]string // of a distributed Map: a child's input; the item itself without it
	MaxConcurrencyPath         string
	ToleratedFailurePercentage float64
	Label                      string
	ResultPath                 json.RawMessage
}

// A Processor is the machine that a Map runs for each item.
type Processor struct {
	ProcessorConfig struct{ Mode, ExecutionType string }
	Machine
}

// Distributed reports whether each item is an execution of its own.
func (p *Processor) Distributed() bool { return p != nil && p.ProcessorConfig.Mode == "DISTRIBUTED" }

// An ItemReader says which object of S3 holds a distributed Map's items.
type ItemReader struct {
	Resource     string
	ReaderConfig struct{ InputType string }
	Parameters   map[string]string
}

// A Retrier says which errors of a task are tried again, and when.
type Retrier struct {
	ErrorEquals     []string
	IntervalSeconds int
	BackoffRate     float64
	MaxAttempts     int
	MaxDelaySeconds int
	JitterStrategy  string
}

// A Catcher says where an error leads that no retrier took.
type Catcher struct {
	ErrorEquals []string
	Assign      map[string]any
	Output      any
	Next        string
}

// A Choice is one rule of a Choice state.
type Choice struct {
	Condition any
	Assign    map[string]any
	Output    any
	Next      string
}

// An Error is how a task or an execution fails.
type Error struct{ Name, Cause string }

func (e *Error) Error() string { return e.Name + ": " + e.Cause }

// queryError is what Step Functions makes of an expression that fails or yields nothing.
func queryError(format string, args ...any) *Error {
	return &Error{Name: "States.QueryEvaluationError", Cause: fmt.Sprintf(format, args...)}
}

// fields are what a state of each type may have, beside Comment and Type, and
// must have (marked with !).
var fields = map[string]string{
	"Task":    "Resource! Arguments! TimeoutSeconds! Retry Catch Assign Output Next End",
	"Choice":  "Choices! Default! Assign Output",
	"Wait":    "Seconds! Assign Output Next End",
	"Pass":    "Assign Output Next End",
	"Succeed": "",
	"Fail":    "Error! Cause!",
	"Map":     "Items! MaxConcurrency ItemProcessor! Retry Catch Assign Output Next End",

	// In JSONPath: its output is its input, since what a thousand children answer
	// does not fit a state.
	"distributed Map": "ItemReader! ItemSelector MaxConcurrencyPath! ToleratedFailurePercentage Label ResultPath! ItemProcessor! Next End",
}

// Parse reads a workflow and refuses what is not in the part of the language
// that the workflows may use.
func Parse(text []byte) (*Machine, error) {
	var m Machine
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("parsing: %w", err)
	}
	if err := m.compile(m.QueryLanguage); err != nil {
		return nil, err
	}
	return &m, m.unique(map[string]bool{}, map[string]bool{})
}

// unique refuses a state's name that another one has, also in another Map, and a
// variable that a Map's states assign anew beside one of the states around it.
func (m *Machine) unique(names, outer map[string]bool) error {
	assigned := maps.Clone(outer)
	for name, s := range m.States {
		if names[name] {
			return fmt.Errorf("two states are named %q", name)
		}
		names[name] = true
		for _, assign := range s.assigns() {
			for variable := range assign {
				if outer[variable] {
					return fmt.Errorf("state %q assigns $%s, which the states around its Map assign", name, variable)
				}
				assigned[variable] = true
			}
		}
	}
	for _, s := range m.States {
		if s.ItemProcessor == nil {
			continue
		}
		around := assigned
		if s.ItemProcessor.Distributed() { // its children see no variables
			around = map[string]bool{}
		}
		if err := s.ItemProcessor.unique(names, around); err != nil {
			return err
		}
	}
	return nil
}

// assigns gives the variables that the state assigns, on each way out of it.
func (s *State) assigns() []map[string]any {
	all := []map[string]any{s.Assign}
	for _, c := range s.Choices {
		all = append(all, c.Assign)
	}
	for _, c := range s.Catch {
		all = append(all, c.Assign)
	}
	return all
}

// compile checks and compiles the states, which are in that language unless they say another.
func (m *Machine) compile(language string) error {
	if m.States[m.StartAt] == nil {
		return fmt.Errorf("StartAt names no state: %q", m.StartAt)
	}
	for name, s := range m.States {
		s.QueryLanguage = cmp.Or(s.QueryLanguage, language, "JSONPath")
		if err := m.check(s); err != nil {
			return fmt.Errorf("state %q: %w", name, err)
		}
	}
	return nil
}

func (m *Machine) check(s *State) error {
	kind, language := s.Type, "JSONata"
	if s.Type == "Map" && s.ItemProcessor.Distributed() {
		kind, language = "distributed Map", "JSONPath"
	}
	list, ok := fields[kind]
	if !ok {
		return fmt.Errorf("its type %q is not one of those that the workflows use", s.Type)
	}
	if s.QueryLanguage != language {
		return fmt.Errorf("its language is %s; a %s's must be %s", s.QueryLanguage, kind, language)
	}
	may := map[string]bool{"Comment": false, "Type": true, "QueryLanguage": true}
	for f := range strings.FieldsSeq(list) {
		may[strings.TrimSuffix(f, "!")] = strings.HasSuffix(f, "!")
	}
	v := reflect.ValueOf(*s)
	for i := range v.NumField() {
		field, set := v.Type().Field(i).Name, !v.Field(i).IsZero()
		must, known := may[field]
		if set && !known {
			return fmt.Errorf("%s does not belong into a %s state", field, kind)
		}
		if must && !set {
			return fmt.Errorf("%s is missing", field)
		}
	}
	if _, ok := may["Next"]; ok && (s.Next == "") != s.End {
		return errors.New("it must have either Next or End")
	}
	for _, next := range s.Successors() {
		if m.States[next] == nil {
			return fmt.Errorf("it leads to %q, which is no state", next)
		}
	}
	for _, r := range s.Retry {
		if len(r.ErrorEquals) == 0 || r.IntervalSeconds < 1 || r.BackoffRate < 1 || r.MaxAttempts < 1 {
			return errors.New("a retrier must say ErrorEquals, IntervalSeconds, BackoffRate and MaxAttempts")
		}
		if r.JitterStrategy != "" && r.JitterStrategy != "FULL" && r.JitterStrategy != "NONE" {
			return fmt.Errorf("JitterStrategy %q", r.JitterStrategy)
		}
	}
	for i, c := range s.Catch {
		if len(c.ErrorEquals) == 0 || c.Next == "" {
			return errors.New("a catcher must say ErrorEquals and Next")
		}
		if slices.Contains(c.ErrorEquals, "States.ALL") && (len(c.ErrorEquals) > 1 || i < len(s.Catch)-1) {
			return errors.New("States.ALL must stand alone, and last")
		}
	}
	if s.ItemProcessor != nil {
		if err := s.ItemProcessor.compile(s.QueryLanguage); err != nil {
			return fmt.Errorf("ItemProcessor: %w", err)
		}
	}
	if s.ItemProcessor.Distributed() {
		return s.checkDistributed()
	}
	return s.compile()
}

// checkDistributed refuses what [State.mapRun] does not do.
func (s *State) checkDistributed() error {
	r := s.ItemReader
	switch {
	case s.ItemProcessor.ProcessorConfig.ExecutionType != "STANDARD":
		return errors.New("children must be STANDARD: an EXPRESS one ends after 5 minutes")
	case !strings.HasSuffix(r.Resource, ":states:::s3:getObject") || r.ReaderConfig.InputType != "JSON" || r.Parameters["Bucket.$"] == "" || r.Parameters["Key.$"] == "" || len(r.Parameters) != 2:
		return errors.New("ItemReader must read a JSON object of S3, by Bucket.$ and Key.$")
	case string(s.ResultPath) != "null":
		return errors.New("ResultPath must be null")
	}
	for field, path := range s.ItemSelector {
		if !strings.HasSuffix(field, ".$") || path != wholeItem {
			return fmt.Errorf("ItemSelector must name a field.$ that is %s", wholeItem)
		}
	}
	for _, path := range []string{r.Parameters["Bucket.$"], r.Parameters["Key.$"], s.MaxConcurrencyPath} {
		if !references.MatchString(path) {
			return fmt.Errorf("%q is no reference path such as $.a.b", path)
		}
	}
	return nil
}

// wholeItem is the item that a child is for.
const wholeItem = "$$.Map.Item.Value"

var references = regexp.MustCompile(`^\$(?:\.[A-Za-z][A-Za-z0-9]*)+$`)

// Successors are the states that may come next.
func (s *State) Successors() []string {
	var next []string
	for _, c := range s.Choices {
		next = append(next, c.Next)
	}
	for _, c := range s.Catch {
		next = append(next, c.Next)
	}
	if s.Default != "" {
		next = append(next, s.Default)
	}
	if s.Next != "" {
		next = append(next, s.Next)
	}
	return next
}

// compile replaces every expression by its parsed form.
func (s *State) compile() (err error) {
	do := func(v any) any {
		if err == nil {
			v, err = compile(v)
		}
		return v
	}
	assign := func(m map[string]any) map[string]any {
		if m == nil {
			return nil
		}
		compiled, _ := do(m).(map[string]any)
		return compiled
	}
	s.Assign, s.Output, s.Arguments, s.Seconds = assign(s.Assign), do(s.Output), do(s.Arguments), do(s.Seconds)
	s.Error, s.Cause, s.Items = do(s.Error), do(s.Cause), do(s.Items)
	for i := range s.Choices {
		c := &s.Choices[i]
		c.Condition, c.Assign, c.Output = do(c.Condition), assign(c.Assign), do(c.Output)
		if _, ok := c.Condition.(*Expression); err == nil && !ok {
			err = errors.New("a Condition must be an expression")
		}
	}
	for i := range s.Catch {
		c := &s.Catch[i]
		c.Assign, c.Output = assign(c.Assign), do(c.Output)
	}
	return err
}

func compile(v any) (any, error) {
	switch v := v.(type) {
	case string:
		if inner, ok := strings.CutPrefix(v, "{%"); ok {
			inner, ok := strings.CutSuffix(inner, "%}")
			if !ok {
				return nil, fmt.Errorf("unfinished expression %q", v)
			}
			return parseExpression(strings.TrimSpace(inner))
		}
		if strings.Contains(v, "{%") {
			return nil, fmt.Errorf("an expression must be the whole string: %q", v)
		}
	case map[string]any:
		compiled := make(map[string]any, len(v))
		for k, x := range v {
			c, err := compile(x)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			compiled[k] = c
		}
		return compiled, nil
	case []any:
		compiled := make([]any, len(v))
		for i, x := range v {
			c, err := compile(x)
			if err != nil {
				return nil, err
			}
			compiled[i] = c
		}
		return compiled, nil
	}
	return v, nil
}

// An Expression is $a.b.c, $a.b + 1, a comparison of $a.b with a path or a literal,
// or $merge([$a.b, {'name': ...}]), $a.b with these fields added or replaced, each by
// a path or a literal. JSONata counts membership (in) among the comparisons.
type Expression struct {
	text     string
	left     []string // a path without its $: a, b, c
	operator string   // "" for a path alone
	right    operand
	merged   []member // of a $merge, in order
}

// An operand is a path or a literal.
type operand struct {
	path    []string // nil for a literal
	literal any
}

type member struct {
	name  string
	value operand
}

var (
	paths       = `\$[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z][A-Za-z0-9]*)*`
	operands    = paths + `|null|true|false|[0-9]+|'[^'\\]*'`
	expressions = regexp.MustCompile(`^(` + paths + `)(?: (=|!=|<|<=|>|>=|in|\+) (` + operands + `))?$`)
	members     = `'[A-Za-z]+': (?:` + operands + `)`
	merges      = regexp.MustCompile(`^\$merge\(\[(` + paths + `), \{(` + members + `(?:, ` + members + `)*)\}\]\)$`)
	oneMember   = regexp.MustCompile(`'([A-Za-z]+)': (` + operands + `)`)
)

// String gives the expression as it is written.
func (e *Expression) String() string { return e.text }

func parseExpression(text string) (*Expression, error) {
	if m := merges.FindStringSubmatch(text); m != nil {
		e := &Expression{text: text, left: parsePath(m[1]), operator: "$merge"}
		for _, one := range oneMember.FindAllStringSubmatch(m[2], -1) {
			e.merged = append(e.merged, member{one[1], parseOperand(one[2])})
		}
		return e, nil
	}
	m := expressions.FindStringSubmatch(text)
	if m == nil || m[2] == "+" && m[3] != "1" {
		return nil, fmt.Errorf("expression %q is more than a variable path, a comparison, + 1 or $merge: what it computes belongs into a function", text)
	}
	return &Expression{text: text, left: parsePath(m[1]), operator: m[2], right: parseOperand(m[3])}, nil
}

func parsePath(text string) []string { return strings.Split(text[1:], ".") }

func parseOperand(text string) operand {
	switch {
	case strings.HasPrefix(text, "$"):
		return operand{path: parsePath(text)}
	case text == "true" || text == "false":
		return operand{literal: text == "true"}
	case strings.HasPrefix(text, "'"):
		return operand{literal: strings.Trim(text, "'")}
	case text != "" && text != "null":
		n, _ := strconv.ParseFloat(text, 64) // the pattern lets digits only through
		return operand{literal: n}
	}
	return operand{}
}

// Paths gives the variable paths that the expression reads, such as [states input].
func (e *Expression) Paths() [][]string {
	found := [][]string{e.left}
	if e.right.path != nil {
		found = append(found, e.right.path)
	}
	for _, m := range e.merged {
		if m.value.path != nil {
			found = append(found, m.value.path)
		}
	}
	return found
}

// AllStates gives every state of the machine, those inside a Map too.
func (m *Machine) AllStates() map[string]*State {
	states := maps.Clone(m.States)
	for _, s := range m.States {
		if s.ItemProcessor != nil {
			maps.Copy(states, s.ItemProcessor.AllStates())
		}
	}
	return states
}

// Expressions gives all expressions of a state.
func (s *State) Expressions() []*Expression {
	var found []*Expression
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case *Expression:
			found = append(found, v)
		case map[string]any:
			for _, x := range v {
				visit(x)
			}
		case []any:
			for _, x := range v {
				visit(x)
			}
		}
	}
	for _, v := range []any{s.Assign, s.Output, s.Arguments, s.Seconds, s.Error, s.Cause, s.Items} {
		visit(v)
	}
	for _, c := range s.Choices {
		visit(c.Condition)
		visit(c.Assign)
		visit(c.Output)
	}
	for _, c := range s.Catch {
		visit(c.Assign)
		visit(c.Output)
	}
	return found
}

// undefined is what a path yields that leads nowhere. JSON's null is nil.
type undefined struct{}

// A scope holds what expressions see: the variables, and "states".
type scope map[string]any

func (s scope) lookup(path []string) any {
	v, ok := s[path[0]]
	if !ok {
		return undefined{}
	}
	for _, name := range path[1:] {
		if v = field(v, name); v == (undefined{}) {
			return v
		}
	}
	return v
}

func (s scope) operand(o operand) any {
	if o.path == nil {
		return o.literal
	}
	return s.lookup(o.path)
}

// merge gives the object with the fields added or replaced. Of a value that is
// nothing JSONata makes no field.
func (e *Expression) merge(s scope, base any) (any, *Error) {
	object, ok := base.(map[string]any)
	if !ok {
		return nil, queryError("%s: %v is no object", e.text, base)
	}
	merged := maps.Clone(object)
	for _, m := range e.merged {
		if v := s.operand(m.value); v != (undefined{}) {
			merged[m.name] = v
		}
	}
	return merged, nil
}

// field gives an object's field, or of an array of objects the array of their
// fields: JSONata makes nothing of an empty one, and of one element the element.
func field(v any, name string) any {
	switch v := v.(type) {
	case map[string]any:
		if f, ok := v[name]; ok {
			return f
		}
	case []any:
		var all []any
		for _, x := range v {
			switch f := field(x, name).(type) {
			case undefined:
			case []any:
				all = append(all, f...)
			default:
				all = append(all, f)
			}
		}
		switch len(all) {
		case 0:
		case 1:
			return all[0]
		default:
			return all
		}
	}
	return undefined{}
}

// value gives the expression's value, or undefined.
func (e *Expression) value(s scope) (any, *Error) {
	left := s.lookup(e.left)
	switch e.operator {
	case "":
		return left, nil
	case "$merge":
		return e.merge(s, left)
	}
	right := s.operand(e.right)
	if left == (undefined{}) || right == (undefined{}) {
		// JSONata: nothing equals nothing, differs from nothing, is in nothing.
		if e.operator == "=" || e.operator == "!=" || e.operator == "in" {
			return false, nil
		}
		return undefined{}, nil
	}
	switch e.operator {
	case "in":
		array, ok := right.([]any)
		if !ok {
			array = []any{right}
		}
		return slices.ContainsFunc(array, func(x any) bool { return reflect.DeepEqual(left, x) }), nil
	case "=":
		return reflect.DeepEqual(left, right), nil
	case "!=":
		return !reflect.DeepEqual(left, right), nil
	}
	l, lok := left.(float64)
	r, rok := right.(float64)
	if !lok || !rok {
		return nil, queryError("%s: %v and %v are not both numbers", e.text, left, right)
	}
	switch e.operator {
	case "+":
		return l + r, nil
	case "<":
		return l < r, nil
	case "<=":
		return l <= r, nil
	case ">":
		return l > r, nil
	}
	return l >= r, nil
}

// evaluate fills in a compiled template. An expression that yields nothing is an
// error, as on AWS.
func (s scope) evaluate(v any) (any, *Error) {
	switch v := v.(type) {
	case *Expression:
		value, err := v.value(s)
		if err == nil && value == (undefined{}) {
			err = queryError("the expression %q returned nothing (undefined)", v.text)
		}
		return value, err
	case map[string]any:
		object := make(map[string]any, len(v))
		for k, x := range v {
			value, err := s.evaluate(x)
			if err != nil {
				return nil, err
			}
			object[k] = value
		}
		return object, nil
	case []any:
		array := make([]any, len(v))
		for i, x := range v {
			value, err := s.evaluate(x)
			if err != nil {
				return nil, err
			}
			array[i] = value
		}
		return array, nil
	}
	return v, nil
}

// An Execution is one run of a machine: what its tasks and its time do. After
// [Machine.Run], History says what happened.
type Execution struct {
	// Task does the work of a Task state. An *Error fails the task by that name,
	// any other error ends the run.
	Task func(ctx context.Context, resource string, arguments any) (any, error)
	// Wait lets the time of a Wait state or between two tries pass.
	Wait func(ctx context.Context, d time.Duration) error
	// Jitter picks the time until a retry with full jitter, at most d. Nil takes d.
	Jitter func(d time.Duration) time.Duration
	// Read gives the content of an object of S3, for a distributed Map.
	Read func(ctx context.Context, bucket, key string) ([]byte, error)
	// Child says how to run the execution of a distributed Map's item.
	Child func(item any) *Execution
	// Together runs the children of a distributed Map, at most so many at once. Nil
	// runs them in order.
	Together func(children []func(), atOnce int)

	Name    string    // of the execution, as $states.context has it
	Started time.Time // when it was started

	History History
}

// A History counts what AWS bills and bounds: at most 25,000 events for an execution.
type History struct {
	States      []string // in the order entered
	Transitions int      // states entered, and retries
	Events      int
}

// Lambda makes a Task that calls functions only: invoke gets the function's name
// as the machine has it, and gives the function's output.
func Lambda(invoke func(ctx context.Context, function string, payload any) (any, error)) func(context.Context, string, any) (any, error) {
	return func(ctx context.Context, resource string, arguments any) (any, error) {
		object, _ := arguments.(map[string]any)
		function, _ := object["FunctionName"].(string)
		if !strings.HasSuffix(resource, ":states:::lambda:invoke") || function == "" {
			return nil, fmt.Errorf("task %s with %v calls no function", resource, arguments)
		}
		out, err := invoke(ctx, function, object["Payload"])
		if err != nil {
			return nil, err
		}
		return map[string]any{"Payload": out, "StatusCode": float64(200)}, nil
	}
}

// Run runs the machine to its end. Input, output and everything between are
// JSON as encoding/json decodes it into any. A failed execution gives an *Error;
// any other error comes from the Execution's own functions.
func (m *Machine) Run(ctx context.Context, e *Execution, input any) (any, error) {
	e.History.Events++ // ExecutionStarted
	output, err := m.run(ctx, e, scope{}, input)
	e.History.Events++ // ExecutionSucceeded or ExecutionFailed
	return output, err
}

func (m *Machine) run(ctx context.Context, e *Execution, variables scope, input any) (any, error) {
	for name := m.StartAt; ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e.History.States = append(e.History.States, name)
		e.History.Transitions++
		e.History.Events++ // StateEntered
		s := m.States[name]
		output, next, err := s.run(ctx, e, variables, input)
		if err != nil {
			return nil, err
		}
		e.History.Events++ // StateExited
		if next == "" {
			return output, nil
		}
		name, input = next, output
	}
}

// run gives the state's output and the next state's name, or "" at the end.
func (s *State) run(ctx context.Context, e *Execution, variables scope, input any) (any, string, error) {
	states := map[string]any{"input": input, "context": map[string]any{"Execution": map[string]any{"Name": e.Name, "StartTime": e.Started.UTC().Format("2006-01-02T15:04:05.000Z")}}}
	here := maps.Clone(variables)
	here["states"] = states

	// leave evaluates Assign and Output side by side, as AWS does: neither sees the
	// other's values.
	leave := func(assign map[string]any, output, otherwise any, next string) (any, string, error) {
		assigned, err := here.evaluate(assign)
		if err != nil {
			return nil, "", err
		}
		result := otherwise
		if output != nil {
			if result, err = here.evaluate(output); err != nil {
				return nil, "", err
			}
		}
		maps.Copy(variables, assigned.(map[string]any))
		return result, next, nil
	}

	switch s.Type {
	case "Pass":
		return leave(s.Assign, s.Output, input, s.Next)
	case "Succeed":
		return input, "", nil
	case "Fail":
		name, err := here.evaluate(s.Error)
		if err != nil {
			return nil, "", err
		}
		cause, err := here.evaluate(s.Cause)
		if err != nil {
			return nil, "", err
		}
		n, nok := name.(string)
		c, cok := cause.(string)
		if !nok || !cok {
			return nil, "", queryError("Error and Cause must be strings; they are %v and %v", name, cause)
		}
		return nil, "", &Error{Name: n, Cause: c}
	case "Choice":
		for _, c := range s.Choices {
			holds, err := here.evaluate(c.Condition)
			if err != nil {
				return nil, "", err
			}
			switch holds {
			case true:
				return leave(c.Assign, c.Output, input, c.Next)
			case false:
			default:
				return nil, "", queryError("a Condition gave %v, not true or false", holds)
			}
		}
		return leave(s.Assign, s.Output, input, s.Default)
	case "Wait":
		seconds, err := here.evaluate(s.Seconds)
		if err != nil {
			return nil, "", err
		}
		n, ok := seconds.(float64)
		if !ok || n < 0 || n != math.Trunc(n) {
			return nil, "", queryError("Seconds must be a whole number; it is %v", seconds)
		}
		if err := e.Wait(ctx, time.Duration(n)*time.Second); err != nil {
			return nil, "", err
		}
		return leave(s.Assign, s.Output, input, s.Next)
	}

	tries := make([]int, len(s.Retry))
	for {
		result, err := s.attempt(ctx, e, variables, here, input)
		if err == nil {
			states["result"] = result
			var out any
			var next string
			if out, next, err = leave(s.Assign, s.Output, result, s.Next); err == nil {
				return out, next, nil
			}
		}
		failed := (*Error)(nil)
		if !errors.As(err, &failed) {
			return nil, "", err
		}
		if i := slices.IndexFunc(s.Retry, func(r Retrier) bool { return matches(r.ErrorEquals, failed.Name) }); i >= 0 && tries[i] < s.Retry[i].MaxAttempts {
			if err := e.Wait(ctx, s.Retry[i].delay(tries[i], e.Jitter)); err != nil {
				return nil, "", err
			}
			tries[i]++
			e.History.Transitions++
			continue
		}
		if i := slices.IndexFunc(s.Catch, func(c Catcher) bool { return matches(c.ErrorEquals, failed.Name) }); i >= 0 {
			c := s.Catch[i]
			caught := map[string]any{"Error": failed.Name}
			if failed.Cause != "" { // Step Functions does not promise one
				caught["Cause"] = failed.Cause
			}
			delete(states, "result")
			states["errorOutput"] = caught
			return leave(c.Assign, c.Output, caught, c.Next)
		}
		return nil, "", failed
	}
}

// attempt does a Task or a Map once.
func (s *State) attempt(ctx context.Context, e *Execution, variables, here scope, input any) (any, error) {
	if s.ItemProcessor.Distributed() {
		return input, s.mapRun(ctx, e, input)
	}
	if s.Type == "Task" {
		arguments, err := here.evaluate(s.Arguments)
		if err != nil {
			return nil, err
		}
		e.History.Events += 3 // TaskScheduled, TaskStarted, TaskSucceeded or TaskFailed
		return e.Task(ctx, s.Resource, arguments)
	}
	items, err := here.evaluate(s.Items)
	if err != nil {
		return nil, err
	}
	array, ok := items.([]any)
	if !ok {
		return nil, queryError("Items must be an array; it is %v", items)
	}
	e.History.Events++ // MapStateStarted
	results := make([]any, len(array))
	for i, item := range array {
		e.History.Events += 2 // MapIterationStarted and its end
		out, err := s.ItemProcessor.run(ctx, e, maps.Clone(variables), item)
		if err != nil {
			return nil, err
		}
		results[i] = out
	}
	e.History.Events++ // MapStateSucceeded
	return results, nil
}

// mapRun runs a distributed Map: each item is the input of an execution of its own,
// which sees no variables. It fails when more children failed than are tolerated.
func (s *State) mapRun(ctx context.Context, e *Execution, input any) error {
	path := func(reference string) any { return scope{"": input}.lookup(strings.Split(reference[1:], ".")) }
	bucket, _ := path(s.ItemReader.Parameters["Bucket.$"]).(string)
	key, _ := path(s.ItemReader.Parameters["Key.$"]).(string)
	atOnce, ok := path(s.MaxConcurrencyPath).(float64)
	if bucket == "" || key == "" || !ok || atOnce < 1 {
		return &Error{Name: "States.Runtime", Cause: fmt.Sprintf("bucket %q, key %q, %v at once", bucket, key, path(s.MaxConcurrencyPath))}
	}
	e.History.Events += 2 // MapRunStarted, MapRunSucceeded or MapRunFailed
	content, err := e.Read(ctx, bucket, key)
	if err != nil {
		return &Error{Name: "States.ItemReaderFailed", Cause: err.Error()}
	}
	var items []any
	if err := json.Unmarshal(content, &items); err != nil {
		return &Error{Name: "States.ItemReaderFailed", Cause: err.Error()}
	}
	failures := make([]error, len(items))
	children := make([]func(), len(items))
	for i, item := range items {
		children[i] = func() {
			var input any = item
			if s.ItemSelector != nil {
				selected := map[string]any{}
				for field := range s.ItemSelector {
					selected[strings.TrimSuffix(field, ".$")] = item
				}
				input = selected
			}
			_, failures[i] = s.ItemProcessor.Run(ctx, e.Child(input), input)
		}
	}
	if e.Together != nil {
		e.Together(children, int(atOnce))
	} else {
		for _, run := range children {
			run()
		}
	}
	failed := 0
	for _, err := range failures {
		if _, ok := errors.AsType[*Error](err); err != nil && !ok {
			return err
		}
		if err != nil {
			failed++
		}
	}
	if 100*float64(failed) > s.ToleratedFailurePercentage*float64(len(items)) {
		return &Error{Name: "States.ExceedToleratedFailureThreshold", Cause: fmt.Sprintf("%d of %d children failed", failed, len(items))}
	}
	return nil
}

// delay is the time before the try after try n, counted from 0.
func (r Retrier) delay(n int, jitter func(time.Duration) time.Duration) time.Duration {
	seconds := float64(r.IntervalSeconds) * math.Pow(r.BackoffRate, float64(n))
	if r.MaxDelaySeconds > 0 {
		seconds = min(seconds, float64(r.MaxDelaySeconds))
	}
	d := time.Duration(seconds * float64(time.Second))
	if r.JitterStrategy == "FULL" && jitter != nil {
		return jitter(d)
	}
	return d
}

// matches tells whether a retrier or catcher takes an error. Two of Step
// Functions' own errors are beyond States.ALL, and a timeout beyond States.TaskFailed.
func matches(names []string, name string) bool {
	if slices.Contains(names, name) || slices.Contains(names, "States.TaskFailed") && !strings.HasPrefix(name, "States.") {
		return true
	}
	return slices.Contains(names, "States.ALL") && name != "States.DataLimitExceeded" && name != "States.Runtime"
}
