package iamkeys

import (
	"encoding/json"
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
