package iamkeys

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A Workflow is one of the state machines whose executions the core asks about.
type Workflow string

// The workflows.
const (
	RotationWorkflow   Workflow = "rotation"
	RetirementWorkflow Workflow = "retirement"
)

// An ExecutionStatus is an execution's status, in Step Functions' words.
// https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html
type ExecutionStatus string

// The statuses that Step Functions documents.
const (
	ExecutionRunning        ExecutionStatus = "RUNNING"
	ExecutionPendingRedrive ExecutionStatus = "PENDING_REDRIVE"
	ExecutionSucceeded      ExecutionStatus = "SUCCEEDED"
	ExecutionFailed         ExecutionStatus = "FAILED"
	ExecutionTimedOut       ExecutionStatus = "TIMED_OUT"
	ExecutionAborted        ExecutionStatus = "ABORTED"
)

// An Execution is what Step Functions says of one execution.
type Execution struct {
	Workflow Workflow
	Name     string
	Status   ExecutionStatus
	Started  time.Time
	Stopped  time.Time       // zero while it runs
	Input    json.RawMessage // nil in a list
	Output   json.RawMessage // nil in a list, and of an execution that has not succeeded
}

// Unfinished reports whether the execution may still change something.
func (e Execution) Unfinished() bool {
	return e.Status == ExecutionRunning || e.Status == ExecutionPendingRedrive
}

// A ThisExecution is the execution that calls a function, as the workflow knows it.
type ThisExecution struct {
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
}

// check refuses with InvalidInput an execution that does not say when it was started: it
// would go before all others.
func (e *ThisExecution) check() error {
	if e == nil || !e.Started.IsZero() {
		return nil
	}
	return Refuse(InvalidInput, "execution.started is missing: it must be when the execution was started, a time such as \"2026-11-23T06:00:00Z\".")
}

// checkName refuses with InvalidInput an execution that is not named by the key, or by
// any key when accessKeyID is empty: by its name others know whose it is.
func (e *ThisExecution) checkName(prefix, accessKeyID string) error {
	if e == nil {
		return nil
	}
	if id := namedBy(prefix, e.Name); id != "" && (id == accessKeyID || accessKeyID == "") {
		return nil
	}
	want := "<key ID>"
	if accessKeyID != "" {
		want = accessKeyID
	}
	return Refuse(InvalidInput, "execution.name must be %s%s, or that and a hyphen with anything behind it; got %s. Start the execution again under such a name.", prefix, want, Quoted(e.Name))
}

// namedBy gives the ID of the key that an execution is named by, behind the prefix; ""
// for a name that no function takes.
func namedBy(prefix, name string) string {
	rest, ok := strings.CutPrefix(name, prefix)
	if id, _, _ := strings.Cut(rest, "-"); ok && accessKeyIDs.MatchString(id) {
		return id
	}
	return ""
}

// after reports whether this execution has to give way to the other one: of two that
// are about one user the one begun first goes on, and at the same instant that of the
// lesser name. Who is called by none gives way to every one.
func (e *ThisExecution) after(other Execution) bool {
	if e == nil {
		return true
	}
	this, that := e.Started.Truncate(time.Millisecond), other.Started.Truncate(time.Millisecond) // as precise as both services say it
	return that.Before(this) || that.Equal(this) && other.Name < e.Name
}

// ExecutionsOfUsers is what tells of other executions that are about a user.
type ExecutionsOfUsers interface {
	ListExecutions
	DescribeExecution
}

// workflows are those whose executions change a user's keys over days.
var workflows = []Workflow{RotationWorkflow, RetirementWorkflow}

// giveWay refuses with InProgress when one of the user's unfinished rotations and
// retirements goes before this execution of the workflow. With a key, retirements of
// the user's other ones do not count. Whose an execution is, its input says; those whose
// names say that they are about other users' keys are not asked for it: there may be
// hundreds, and Step Functions answers a few a second.
func giveWay(ctx context.Context, sfn ExecutionsOfUsers, userName string, keys []AccessKey, own Workflow, this *ThisExecution, accessKeyID string) error {
	for _, workflow := range workflows {
		running, err := sfn.ListExecutions(ctx, workflow, ExecutionRunning, time.Time{})
		if err != nil && CodeOf(err) != NoSuchEntity { // then there are no executions of it
			return err
		}
		for _, e := range running {
			if workflow == own && this != nil && e.Name == this.Name || !this.after(e) || e.ofOthers(keys, accessKeyID) {
				continue
			}
			if e, err = sfn.DescribeExecution(ctx, workflow, e.Name); err != nil {
				return err
			}
			about, err := e.about()
			if err != nil {
				return err
			}
			aside := accessKeyID != "" && workflow == RetirementWorkflow && about.AccessKeyID != accessKeyID
			if strings.EqualFold(about.UserName, userName) && e.Unfinished() && !aside {
				return Refuse(InProgress, "The %s %s of user %s is not finished; it began at %s and goes first. Wait until it has ended, or stop it, then try again.",
					workflow, e.Name, userName, e.Started.UTC().Format(time.RFC3339))
			}
		}
	}
	return nil
}

// ofOthers reports whether the execution's name says that it is about none of these keys
// or, of a retirement, about another one than that which is named.
func (e Execution) ofOthers(keys []AccessKey, accessKeyID string) bool {
	prefix := ""
	if e.Workflow == RetirementWorkflow {
		prefix = RetirePrefix
	}
	id := namedBy(prefix, e.Name)
	if id == "" {
		return false // a name that no function takes: its input says more
	}
	if e.Workflow == RetirementWorkflow && accessKeyID != "" {
		return id != accessKeyID
	}
	_, ours := find(keys, id)
	return !ours
}

// A subject is what an execution is about.
type subject struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
}

// about reads the execution's input. One that a function would refuse is about nobody.
func (e Execution) about() (subject, error) {
	if e.Input == nil {
		return subject{}, &Error{Code: Internal, Message: fmt.Sprintf("Step Functions does not give the input of the %s %s, so whose keys it changes is unknown.", e.Workflow, e.Name)}
	}
	var s subject
	if json.Unmarshal(e.Input, &s) != nil {
		return subject{}, nil
	}
	return s, nil
}
