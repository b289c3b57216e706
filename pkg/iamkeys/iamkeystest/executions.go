package iamkeystest

import (
	"context"
)

// SetExecution notes an execution of the rotation's state machine, in one of
// Step Functions' statuses.
func (a *Account) SetExecution(name, status string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.executions == nil {
		a.executions = map[string]string{}
	}
	a.executions[name] = status
}

// DescribeExecution implements the port.
func (p *Process) DescribeExecution(ctx context.Context, name string) (status string, err error) {
	err = p.call(ctx, "states:DescribeExecution", func() error {
		known := false
		if status, known = p.executions[name]; !known {
			return noSuch("Execution %s", name)
		}
		return nil
	})
	return status, err
}
