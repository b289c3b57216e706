// Package simulation lets the workflows run over the real functions in a world of
// their own, for tests: an account, the consumers that use its keys, the people and
// tools that change it meanwhile, and one virtual clock. A witness holds every change
// to the promises.
package simulation

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/statemachines"
	"iamkeys/statemachines/asl"
)

const (
	user    = "ci-deploy"
	renamed = "ci-deploy-2" // the user once somebody has renamed it
	secret  = "iamkeys/ci-deploy/access-key"
	hour    = time.Hour
	day     = 24 * time.Hour
)

// stack is the functions with the template's defaults, shared by all worlds.
var stack = sync.OnceValue(func() *functionstest.Stack { return functionstest.New(nil) })

// workflow loads a workflow as the template deploys it.
func workflow(name, logicalID string, deployed functionstest.Deployment) *asl.Machine {
	m, err := statemachines.Load(name, deployed.Substitutions(logicalID))
	if err != nil {
		panic(err)
	}
	return m
}

// rotation is the workflow of that name, parsed once: running it does not change it.
var rotation = sync.OnceValue(func() *asl.Machine { return workflow("rotation", "RotationStateMachine", stack().Deployment) })

// retirement is the other way in which a user's keys are changed.
var retirement = sync.OnceValue(func() *asl.Machine { return workflow("retirement", "RetirementStateMachine", stack().Deployment) })

// A world is an account with all that goes on around it: functions and
// executions, consumers and people, who act in the order of one virtual clock,
// one at a time. A witness holds every change to the promises.
type world struct {
	*iamkeystest.Account
	witness

	// pick chooses one of n; 0 is always the ordinary course of things.
	pick func(n int, what string) int
	// fault decides over a call of a function.
	fault func(h *hand, n int, action string) iamkeystest.Fault
	// trouble decides what befalls a function's invocation.
	trouble func(e *execution, function string) trouble
	// meanwhile is what people and tests do when a function is about to be invoked.
	meanwhile func(e *execution, function string, payload map[string]any)

	stack     *functionstest.Stack
	modeAt    time.Time             // when RetirementMode was changed last
	standing  map[string]*execution // key → the exposure that a person's standing word let switch it off
	tagged    string                // the tag by which people keep the user's keys from retirement, "" for none
	taggedAt  time.Time
	secretID  string
	consumers []*consumer
	started   []*execution
	clocks    bool         // the functions' machines have clocks of their own, two minutes apart at most
	disturbed bool         // a call failed, or an invocation met trouble
	calls     int          // of AWS, by functions
	largest   int          // payload of a state, bytes
	log       bytes.Buffer // of all functions

	story []string // what happened, with -story

	agenda agenda
	serial int
	yield  chan struct{}
	asleep []*actor
	alive  int // actors
	closed bool
	crash  any
}

func newWorld(t reporter) *world {
	w := &world{
		Account: iamkeystest.NewAccount(), pick: func(int, string) int { return 0 }, stack: stack(), secretID: secret, yield: make(chan struct{}),
	}
	w.witness = newWitness(w, t)
	w.undisturbed()
	return w
}

// deploy sets parameters of the stack, beside those that were set before.
func (w *world) deploy(parameters map[string]string) {
	set := maps.Clone(parameters)
	for name, value := range w.stack.Parameters {
		if _, anew := set[name]; !anew {
			set[name] = value
		}
	}
	w.stack = functionstest.New(set)
}

// undisturbed lets all calls and invocations go well.
func (w *world) undisturbed() {
	w.fault = func(*hand, int, string) iamkeystest.Fault { return iamkeystest.None }
	w.trouble = func(*execution, string) trouble { return smooth }
	w.meanwhile = func(*execution, string, map[string]any) {}
}

var story = flag.Bool("story", false, "tell what happened in each random run that fails (use it with -rapid.seed)")

// tell notes what happens.
func (w *world) tell(format string, args ...any) {
	if *story {
		w.story = append(w.story, fmt.Sprintf("%12v  ", w.Now().Sub(iamkeystest.Epoch))+fmt.Sprintf(format, args...))
	}
}

// An agenda holds what is to happen, the earliest first.
type agenda []event

type event struct {
	at     time.Time
	serial int
	do     func()
}

func (a agenda) Len() int      { return len(a) }
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(event)) }
func (a agenda) Less(i, j int) bool {
	return cmp.Or(a[i].at.Compare(a[j].at), a[i].serial-a[j].serial) < 0
}
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// at puts something on the agenda.
func (w *world) at(when time.Time, do func()) {
	w.serial++
	heap.Push(&w.agenda, event{when, w.serial, do})
}

// in puts something on the agenda, after d.
func (w *world) in(d time.Duration, do func()) { w.at(w.Now().Add(d), do) }

// run lets everything happen that is due until d has passed, or if d is 0 until
// no function and no execution is at work.
func (w *world) run(d time.Duration) {
	end := w.Now().Add(d)
	defer w.close()
	for len(w.agenda) > 0 && (d > 0 && !w.agenda[0].at.After(end) || d == 0 && w.alive > 0) {
		e := heap.Pop(&w.agenda).(event)
		if left := e.at.Sub(w.Now()); left > 0 {
			w.Advance(left)
		}
		e.do()
		w.settle()
		if w.crash != nil {
			return
		}
	}
	if left := end.Sub(w.Now()); left > 0 {
		w.Advance(left)
	}
}

// close ends every actor if one of them has panicked, and panics in its place.
func (w *world) close() {
	if w.crash == nil {
		return
	}
	w.closed = true
	for len(w.asleep) > 0 {
		a := w.asleep[0]
		w.asleep = w.asleep[1:]
		a.turn <- struct{}{}
		<-w.yield
	}
	panic(w.crash)
}

// An actor is a function or an execution at work: a goroutine that has its turn
// when the clock gets there.
type actor struct {
	w    *world
	turn chan struct{}
}

// begin starts an actor after d.
func (w *world) begin(d time.Duration, f func(a *actor)) {
	a := &actor{w, make(chan struct{})}
	w.alive++
	w.in(d, func() {
		go func() {
			defer func() {
				if p := recover(); p != nil && w.crash == nil {
					w.crash = p
				}
				w.alive--
				w.yield <- struct{}{}
			}()
			f(a)
		}()
		<-w.yield
	})
}

// sleep lets d pass, and others act meanwhile.
func (a *actor) sleep(d time.Duration) {
	w := a.w
	w.settle()
	w.asleep = append(w.asleep, a)
	w.in(d, func() {
		w.asleep = slices.DeleteFunc(w.asleep, func(b *actor) bool { return a == b })
		a.turn <- struct{}{}
		<-w.yield
	})
	w.yield <- struct{}{}
	<-a.turn
	a.live()
}

// live ends the calling goroutine when the world has ended.
func (a *actor) live() {
	if a.w.closed {
		runtime.Goexit()
	}
}

// A hand is one invocation of a function.
type hand struct {
	*iamkeystest.Process
	function  string
	execution *execution
	payload   map[string]any
	began     time.Time
	asked     time.Time // when the call at hand was sent
	slow      bool      // its calls take time
	timeout   time.Duration
	skew      time.Duration // of its machine's clock
}

// function gives the function as its main puts it together.
func (w *world) function(a *actor, h *hand) functionstest.Function {
	return w.stack.Function(h.function, functionstest.Surroundings{
		Port: func(string) any { return h.Process },
		Now:  func() time.Time { return w.Now().Add(h.skew) },
		Sleep: func(ctx context.Context, d time.Duration) error {
			if err := ctx.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) { // which is one of real time
				return err
			}
			a.sleep(d)
			return nil
		},
		Log: slog.New(slog.NewJSONHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
}

// lambda runs one invocation to its end. A death is answered by one of the names
// that Lambda and Step Functions have for it.
func (w *world) lambda(a *actor, h *hand, event []byte) (answer any, failed *asl.Error) {
	h.Process, h.began = w.Start(), w.Now()
	h.Untimed = true
	if w.clocks {
		h.skew = time.Duration(w.pick(3, "clock")-1) * time.Minute
	}
	var hooks sync.Mutex // due reads users side by side
	h.Before = func(_ int, action string) {
		hooks.Lock()
		w.settle()
		h.asked = w.Now()
		hooks.Unlock()
		if h.slow {
			a.sleep(time.Duration(w.pick(150, "seconds/10 until "+action)) * time.Second / 10)
		}
	}
	h.Fault = func(n int, action string) iamkeystest.Fault {
		hooks.Lock()
		defer hooks.Unlock()
		w.calls++
		w.acts(h, action)
		fault := iamkeystest.None
		switch {
		case w.Now().Sub(h.began) > h.timeout:
			fault = iamkeystest.Dies
		case action == "iam:CreateAccessKey" && w.Now().Sub(h.asked) > 8*time.Second:
			fault = iamkeystest.Unanswered // create gives its one attempt 8 s
		default:
			fault = w.fault(h, n, action)
		}
		w.disturbed = w.disturbed || fault != iamkeystest.None
		w.tell("%s of %s (%p): %s: %s", h.function, h.execution.name, h, action, fault)
		return fault
	}
	f := w.function(a, h)
	h.timeout = f.Timeout
	var out []byte
	var err error
	died := h.Run(func() { out, err = f.Handler.Invoke(context.Background(), event) })
	a.live()
	w.settle()
	if died {
		return nil, w.death(a, h)
	}
	if named, ok := errors.AsType[messages.InvokeResponse_Error](err); ok {
		cause, _ := json.Marshal(map[string]string{"errorMessage": named.Message, "errorType": named.Type})
		return nil, &asl.Error{Name: named.Type, Cause: string(cause)}
	}
	if err != nil {
		panic(err) // lambdafn names every error
	}
	w.state(out)
	if err := json.Unmarshal(out, &answer); err != nil {
		panic(err)
	}
	return answer, nil
}

// death is what Step Functions hears of a function that is gone.
func (w *world) death(a *actor, h *hand) *asl.Error {
	left := h.began.Add(h.timeout).Sub(w.Now())
	names := []string{"Runtime.ExitError", "Lambda.Unknown", "Sandbox.Timedout", "States.Timeout"}
	name := names[w.pick(len(names), "death")]
	if left < 0 {
		name = "Sandbox.Timedout"
	} else if name == "Sandbox.Timedout" || name == "States.Timeout" {
		a.sleep(left)
	}
	return &asl.Error{Name: name, Cause: "RequestId: 8476a536-e9f4-11e8-9739-2dfe598c3fcd Error: " + name}
}

// A trouble is what befalls an invocation beyond the calls that it makes.
type trouble int

const (
	smooth  trouble = iota
	slow            // every call takes up to 15 s
	busy            // Lambda refuses, and the function does not run
	unheard         // the function runs, and Step Functions hears of a lost connection meanwhile
	beside          // a second copy runs beside it
	again           // it is repeated after its end, as a redrive or a second delivery does
	paused          // it has run when somebody stops the execution, and runs again when it is redriven
	troubles
)

// invoke invokes a function for an execution.
func (e *execution) invoke(a *actor, function string, payload any) (any, error) {
	w := a.w
	event, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	w.state(event)
	in, _ := payload.(map[string]any)
	w.meanwhile(e, function, in)
	switch function {
	case "retire":
		e.kept = w.keeps(e, w.ListLag)
	case "exposed":
		e.kept = w.spares(e)
	}
	what := w.trouble(e, function)
	if what == paused && e.event != nil { // who redrives it days later gives the order anew
		what = again
	}
	w.disturbed = w.disturbed || what != smooth
	run := func(a *actor, slow bool) (any, *asl.Error) {
		return w.lambda(a, &hand{function: function, execution: e, payload: in, slow: slow}, event)
	}
	w.tell("%s: %s, trouble %d, with %s", e.name, function, what, event)
	var out any
	var failed *asl.Error
	switch what {
	case busy:
		names := []string{"Lambda.TooManyRequestsException", "Lambda.ServiceException", "Lambda.AWSLambdaException", "Throttled"}
		failed = &asl.Error{Name: names[w.pick(len(names), "refusal")], Cause: "Rate Exceeded."}
	case unheard:
		w.begin(0, func(a *actor) { run(a, true) })
		a.sleep(time.Duration(w.pick(25, "seconds until the connection is lost")) * time.Second)
		failed = &asl.Error{Name: "Lambda.SdkClientException", Cause: "Unable to execute HTTP request: Read timed out"}
	case beside:
		w.begin(time.Duration(w.pick(8, "seconds until the second copy"))*time.Second, func(a *actor) { run(a, true) })
		out, failed = run(a, true)
	case again, paused:
		run(a, false)
		if what == paused && !e.redrive(a, time.Duration(w.pick(14*24, "hours until it is redriven"))*time.Hour) {
			return nil, errStopped
		}
		out, failed = run(a, false)
	default:
		out, failed = run(a, what == slow)
	}
	w.tell("%s: %s gave %v, %v", e.name, function, out, failed)
	e.heard(function, in, out, failed)
	if failed != nil {
		w.state([]byte(failed.Cause))
		return nil, failed
	}
	return out, nil
}

// An execution is one of a workflow.
type execution struct {
	w       *world
	name    string
	machine *asl.Machine
	input   map[string]any
	began   time.Time
	over    time.Time // when it ended
	run     asl.Execution

	ordered time.Time // when a person gave the order, of whom this is no execution

	stopped bool // StopExecution: it ends at its next step
	ended   bool

	redriven time.Time // when it was last

	output  any
	failure *asl.Error // nil while it runs, when it succeeded or was stopped

	answers []answer
	plan    iamkeys.Rotation // plan's answer
	newKey  string           // the key that replaces the old one, once known
	quiet   time.Time        // when Deactivate was answered well
	notices []iamkeys.Message
	told    map[string]time.Time // stage → when it was published first

	event *healthEvent // of an exposure

	// Of a retirement, and of an exposure.
	kept   string    // why the key must be kept, by what the latest Retire or Exposed could see; "" for nothing
	unsure bool      // an attempt to switch the key off ended in anything but Throttled: what is off then counts as its own
	off    time.Time // when it had switched the key off
}

// An answer is what Step Functions heard of a function in a state.
type answer struct {
	state, function, stage, errorName string
	at                                time.Time
}

var errStopped = errors.New("stopped")

// start starts an execution after d; then, if not nil, runs when it has ended.
func (w *world) start(d time.Duration, name string, m *asl.Machine, input map[string]any, then func(*execution)) *execution {
	if m == rotation() && !strings.HasPrefix(name, "AKIA") {
		name = w.toRotate(input) + "-" + name
	}
	e := &execution{w: w, name: name, machine: m, input: input, told: map[string]time.Time{}}
	w.started = append(w.started, e)
	w.begin(d, func(a *actor) {
		e.began = w.Now()
		e.run.Name, e.run.Started = name, e.began
		e.tell()
		e.run.Wait = func(_ context.Context, d time.Duration) error { return e.wait(a, d) }
		call := asl.Lambda(func(_ context.Context, function string, payload any) (any, error) {
			return e.invoke(a, function, payload)
		})
		e.run.Task = func(ctx context.Context, resource string, arguments any) (any, error) {
			if e.stopped {
				return nil, errStopped
			}
			if strings.HasSuffix(resource, ":states:::states:startExecution") {
				return w.startExecution(arguments.(map[string]any))
			}
			return call(ctx, resource, arguments)
		}
		if w.pick(2, "jitter") == 1 { // else the full delay
			e.run.Jitter = func(d time.Duration) time.Duration { return d * time.Duration(w.pick(5, "jitter/5")) / 5 }
		}
		text, err := json.Marshal(input)
		if err != nil {
			panic(err)
		}
		var in any
		if err := json.Unmarshal(text, &in); err != nil {
			panic(err)
		}
		e.output, err = m.Run(context.Background(), &e.run, in)
		a.live()
		if failed, ok := errors.AsType[*asl.Error](err); ok {
			e.failure = failed
		} else if err != nil && !errors.Is(err, errStopped) {
			panic(err)
		}
		e.ended, e.over = true, w.Now()
		e.tell()
		if out, err := json.Marshal(e.output); err == nil {
			w.state(out)
		}
		w.end(e)
		if then != nil {
			then(e)
		}
	})
	return e
}

// toRotate gives the key that an execution is named by: the one that its input names,
// else the user's oldest Active one.
func (w *world) toRotate(input map[string]any) string {
	if named, ok := input["accessKeyId"].(string); ok {
		return named
	}
	for _, k := range w.Keys(fmt.Sprint(input["userName"])) {
		if k.Status == iamkeys.Active {
			return k.AccessKeyID
		}
	}
	return "AKIAIAMKEYSTEST99999"
}

// startExecution is what a schedule's workflow calls: the name of an execution
// cannot be used again.
func (w *world) startExecution(arguments map[string]any) (any, error) {
	name := arguments["Name"].(string)
	if slices.ContainsFunc(w.started, func(e *execution) bool { return e.name == name }) {
		return nil, &asl.Error{Name: "StepFunctions.ExecutionAlreadyExistsException", Cause: "Execution Already Exists: '" + name + "'"}
	}
	var m *asl.Machine
	switch arguments["StateMachineArn"] {
	case w.stack.Substitutions("RotateDueStateMachine")["RotationStateMachineArn"]:
		m = rotation()
	case w.stack.Substitutions("RetireUnusedStateMachine")["RetirementStateMachineArn"]:
		m = retirement()
	default:
		return nil, fmt.Errorf("started %v", arguments)
	}
	w.start(0, name, m, arguments["Input"].(map[string]any), nil)
	return map[string]any{"ExecutionArn": name}, nil
}

// workflow is the way that the execution goes, "" for one that is neither.
func (e *execution) workflow() iamkeys.Workflow {
	switch e.machine {
	case rotation():
		return iamkeys.RotationWorkflow
	case retirement():
		return iamkeys.RetirementWorkflow
	}
	return ""
}

// status is what DescribeExecution says.
func (e *execution) status() iamkeys.ExecutionStatus {
	switch {
	case e.failure != nil:
		return iamkeys.ExecutionFailed
	case e.stopped:
		return iamkeys.ExecutionAborted
	case e.ended:
		return iamkeys.ExecutionSucceeded
	}
	return iamkeys.ExecutionRunning
}

// tell lets Step Functions know of the execution's status, if functions ask about its workflow.
func (e *execution) tell() {
	if e.workflow() == "" {
		return
	}
	input, err := json.Marshal(e.input)
	if err != nil {
		panic(err)
	}
	e.w.SetExecution(iamkeys.Execution{Workflow: e.workflow(), Name: e.name, Status: e.status(), Started: e.began, Input: input})
}

// stop is StopExecution: it ends at its next step.
func (e *execution) stop() {
	if !e.ended && !e.stopped {
		e.stopped = true
		e.tell()
	}
}

// state is the name of the state that the execution is in.
func (e *execution) state() string { return e.run.History.States[len(e.run.History.States)-1] }

// wait lets the time of a Wait state, or of a retrier, pass. When somebody stops
// the execution meanwhile and redrives it, a Wait state begins anew.
// https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html
func (e *execution) wait(a *actor, d time.Duration) error {
	w := a.w
	if e.run.History.Events > 25_000 { // where Step Functions ends it; the witness wants less
		return errStopped
	}
	if s := e.machine.States[e.state()]; s != nil && s.Type == "Wait" && w.trouble(e, "") == paused {
		w.disturbed = true
		a.sleep(d / 4 * time.Duration(w.pick(4, "stopped after quarters")))
		if e.stopped || !e.redrive(a, time.Duration(w.pick(14*24, "hours until it is redriven"))*time.Hour) {
			return errStopped
		}
	}
	a.sleep(d)
	if e.stopped {
		return errStopped
	}
	return nil
}

// redrive stops the execution, and redrives it after d: unless another one of the user
// was begun since, which docs/rotation tells people not to do.
func (e *execution) redrive(a *actor, d time.Duration) bool {
	e.stop()
	a.sleep(d)
	if slices.ContainsFunc(e.w.started, func(o *execution) bool { return o != e && !o.began.Before(e.began) }) {
		return false
	}
	e.stopped, e.redriven = false, e.w.Now()
	e.tell()
	return true
}

// heard notes an answer.
func (e *execution) heard(function string, in map[string]any, out any, failed *asl.Error) {
	a := answer{state: e.state(), function: function, at: e.w.Now()}
	a.stage, _ = in["stage"].(string)
	object, _ := out.(map[string]any)
	switch {
	case failed != nil:
		a.errorName = failed.Name
		e.unsure = e.unsure || function == "deactivate" && failed.Name != "Throttled"
	case function == "plan":
		text, _ := json.Marshal(out)
		if err := json.Unmarshal(text, &e.plan); err != nil {
			panic(err)
		}
		if e.plan.NewAccessKeyID != nil {
			e.newKey = *e.plan.NewAccessKeyID
		}
	case function == "create":
		e.newKey, _ = object["accessKeyId"].(string)
	case function == "deactivate":
		e.quiet = e.w.Now()
		if e.off.IsZero() && (e.unsure || object["changed"] == true) { // also where a person was quicker, and the list did not show it yet
			e.off = e.quiet
		}
	case function == "delete" && in["check"] == true:
		a.stage = "check"
	}
	e.answers = append(e.answers, a)
}

// count tells how many answers of the function, in the stage if it is notify,
// Step Functions heard.
func (e *execution) count(function string) int {
	n := 0
	for _, a := range e.answers {
		if strings.TrimSpace(a.function+" "+a.stage) == function {
			n++
		}
	}
	return n
}

// order lets a person invoke a function asynchronously. Lambda queues the event, tries
// it when it gets to it, at times twice, and drops it when it is too old.
func (w *world) order(function, accessKeyID string, payload map[string]any) {
	event, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	w.touched[accessKeyID] = true
	age, _ := functionstest.At(w.stack.Functions()[function], "EventInvokeConfig", "MaximumEventAgeInSeconds").(int)
	if age == 0 {
		age = 6 * 60 * 60 // Lambda's default
	}
	by := &execution{w: w, name: "a person", ordered: w.Now()}
	for range 1 + w.pick(2, "delivered again") {
		w.begin(time.Duration(w.pick(age, "seconds in the queue"))*time.Second, func(a *actor) {
			out, failed := w.lambda(a, &hand{function: function, execution: by, payload: payload}, event)
			w.tell("a person's %s of %s gave %v, %v", function, accessKeyID, out, failed)
		})
	}
}

// old is the ID of the key that the execution replaces, "" before there is a plan.
func (e *execution) old() string {
	if e == nil || e.plan.AccessKeyID == nil {
		return ""
	}
	return *e.plan.AccessKeyID
}

// A reading is how a consumer comes by the key that it holds.
type reading int

const (
	everyTime reading = iota // reads the secret before every use
	whenRefused
	onSchedule // reads the secret every so often
	once       // is given the new key by hand, at some time
	never
	readings
)

// A consumer holds a key and uses it.
type consumer struct {
	holds   string
	service string
	every   time.Duration // between two uses, at most
	reading reading
	period  time.Duration // of onSchedule; for once, until then

	read   time.Time // when it last read the secret
	ok     time.Time // its last accepted use
	refuse []refusal
}

// A refusal is an outage: a request that a consumer signed was turned down.
type refusal struct {
	at     time.Time
	key    string
	excuse string // what allows it, "" for nothing
}

// employ adds a consumer that holds the key and last used it some time ago.
func (w *world) employ(c *consumer, ago time.Duration) {
	c.ok = w.Now().Add(-ago)
	if !slices.ContainsFunc(w.used[c.holds], func(u use) bool { return u.at.After(c.ok) }) {
		w.UsedAgo(c.holds, ago, c.service, "eu-west-1")
	}
	w.used[c.holds] = append(w.used[c.holds], use{c.ok, c.service})
	w.install(c, c.every-ago)
}

// install adds a consumer that uses its key for the first time after d.
func (w *world) install(c *consumer, d time.Duration) {
	c.read = w.Now()
	w.consumers = append(w.consumers, c)
	w.in(d, func() { w.use(c) })
}

// use is one use by the consumer, and the next one goes on the agenda.
func (w *world) use(c *consumer) {
	now := w.Now()
	read := func() {
		if held := w.held(); held != "" && held != c.holds {
			c.holds, c.ok = held, time.Time{}
		}
		c.read = now
	}
	switch {
	case c.reading == everyTime, (c.reading == onSchedule || c.reading == once) && now.Sub(c.read) >= c.period:
		read()
		if c.reading == once {
			c.reading = never
		}
	}
	accepted := w.Use(c.holds, c.service, "eu-west-1")
	if !accepted && c.reading == whenRefused {
		read()
		accepted = w.Use(c.holds, c.service, "eu-west-1")
	}
	if accepted {
		c.ok = now
		w.used[c.holds] = append(w.used[c.holds], use{now, c.service})
	} else {
		c.refuse = append(c.refuse, refusal{now, c.holds, w.excuse(c)})
	}
	w.in(c.every-c.every/4*time.Duration(w.pick(3, "sooner by quarters")), func() { w.use(c) })
}
