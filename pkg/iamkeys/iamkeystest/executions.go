package iamkeystest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// executions are what Step Functions knows, each with its status over time.
type executions map[executionKey]*timeline[iamkeys.Execution]

type executionKey struct {
	workflow iamkeys.Workflow
	name     string
}

// SetExecution notes an execution, or its new status. What e leaves out stays as it
// was: a new one starts now, with an empty input.
func (a *Account) SetExecution(e iamkeys.Execution) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.executions == nil {
		a.executions = executions{}
	}
	key := executionKey{e.Workflow, e.Name}
	states := a.executions[key]
	if states == nil {
		states = &timeline[iamkeys.Execution]{}
		a.executions[key] = states
	}
	was, known := states.at(a.now)
	if !known {
		was = iamkeys.Execution{Status: iamkeys.ExecutionRunning, Started: a.now, Input: json.RawMessage("{}")}
	}
	if e.Status == "" {
		e.Status = was.Status
	}
	if e.Started.IsZero() {
		e.Started = was.Started
	}
	if e.Input == nil {
		e.Input = was.Input
	}
	if e.Stopped.IsZero() && !e.Unfinished() {
		e.Stopped = a.now
	}
	states.set(a.now, e)
}

// ExecutionSetter gives what [TestStepFunctions] sets executions by: a second passes after each.
func (a *Account) ExecutionSetter() func(iamkeys.Execution) {
	return func(e iamkeys.Execution) {
		a.SetExecution(e)
		a.Advance(time.Second)
	}
}

// DescribeExecution implements the port.
func (p *Process) DescribeExecution(ctx context.Context, workflow iamkeys.Workflow, name string) (e iamkeys.Execution, err error) {
	err = p.call(ctx, "states:DescribeExecution", func() error {
		states := p.executions[executionKey{workflow, name}]
		if states == nil {
			return noSuch("Execution %s", name)
		}
		e, _ = states.at(p.now)
		return nil
	})
	return e, err
}

// ListExecutions implements the port. It shows what was so ExecutionsLag ago.
func (p *Process) ListExecutions(ctx context.Context, workflow iamkeys.Workflow, status iamkeys.ExecutionStatus, since time.Time) (found []iamkeys.Execution, err error) {
	err = p.call(ctx, "states:ListExecutions", func() error {
		for key, states := range p.executions {
			e, known := states.at(p.now.Add(-p.ExecutionsLag))
			if known && key.workflow == workflow && (status == "" || e.Status == status) && !e.Started.Before(since) {
				e.Input, e.Output = nil, nil
				found = append(found, e)
			}
		}
		slices.SortFunc(found, func(a, b iamkeys.Execution) int { return cmpExecutions(b, a) })
		return nil
	})
	return found, err
}

// cmpExecutions orders executions by start, then by name.
func cmpExecutions(a, b iamkeys.Execution) int {
	if c := a.Started.Compare(b.Started); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}
