// Package awssfn looks up executions of the stack's Step Functions state machines.
package awssfn

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
	ListExecutions(context.Context, *sfn.ListExecutionsInput, ...func(*sfn.Options)) (*sfn.ListExecutionsOutput, error)
}

var (
	_ client                    = (*sfn.Client)(nil)
	_ iamkeys.DescribeExecution = (*StepFunctions)(nil)
	_ iamkeys.ListExecutions    = (*StepFunctions)(nil)
)

// StepFunctions implements the core's ports to Step Functions. Its errors are [iamkeys.Error].
type StepFunctions struct {
	client client
	arns   map[iamkeys.Workflow]string
}

// New gives a StepFunctions for the workflows, each with its state machine's ARN.
func New(config aws.Config, arns map[iamkeys.Workflow]string) *StepFunctions {
	return &StepFunctions{
		arns: arns,
		client: sfn.NewFromConfig(config, func(o *sfn.Options) {
			o.RetryMaxAttempts = 4
		}),
	}
}

// arn gives the ARN of the workflow's state machine.
func (s *StepFunctions) arn(workflow iamkeys.Workflow) (string, error) {
	arn, ok := s.arns[workflow]
	if !ok {
		return "", &iamkeys.Error{Code: iamkeys.Internal, Message: "This function knows no state machine for the workflow " + string(workflow) + "."}
	}
	return arn, nil
}

// DescribeExecution implements the port.
func (s *StepFunctions) DescribeExecution(ctx context.Context, workflow iamkeys.Workflow, name string) (iamkeys.Execution, error) {
	const action = "states:DescribeExecution"
	arn, err := s.arn(workflow)
	if err != nil {
		return iamkeys.Execution{}, err
	}
	resource := string(workflow) + " " + name
	out, err := s.client.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: aws.String(strings.Replace(arn, ":stateMachine:", ":execution:", 1) + ":" + name)})
	if err != nil {
		return iamkeys.Execution{}, awserr.From(err, action, resource)
	}
	if out.Status == "" || out.StartDate == nil {
		return iamkeys.Execution{}, awserr.Incomplete(action, resource, "the execution's status or start")
	}
	e := iamkeys.Execution{Workflow: workflow, Name: name, Status: iamkeys.ExecutionStatus(out.Status), Started: *out.StartDate, Stopped: aws.ToTime(out.StopDate)}
	if out.Input != nil {
		e.Input = json.RawMessage(*out.Input)
	}
	if out.Output != nil {
		e.Output = json.RawMessage(*out.Output)
	}
	return e, nil
}

// ListExecutions implements the port. Step Functions lists the newest first, so the
// pages end where the first execution that was started before since stands.
func (s *StepFunctions) ListExecutions(ctx context.Context, workflow iamkeys.Workflow, status iamkeys.ExecutionStatus, since time.Time) ([]iamkeys.Execution, error) {
	const action = "states:ListExecutions"
	arn, err := s.arn(workflow)
	if err != nil {
		return nil, err
	}
	resource := "the workflow " + string(workflow)
	var found []iamkeys.Execution
	in := &sfn.ListExecutionsInput{StateMachineArn: &arn, StatusFilter: types.ExecutionStatus(status), MaxResults: 1000}
	for {
		out, err := s.client.ListExecutions(ctx, in)
		if err != nil {
			return nil, awserr.From(err, action, resource)
		}
		for _, e := range out.Executions {
			if e.Name == nil || e.Status == "" || e.StartDate == nil {
				return nil, awserr.Incomplete(action, resource, "an execution's name, status or start")
			}
			if e.StartDate.Before(since) {
				return found, nil
			}
			found = append(found, iamkeys.Execution{Workflow: workflow, Name: *e.Name, Status: iamkeys.ExecutionStatus(e.Status), Started: *e.StartDate, Stopped: aws.ToTime(e.StopDate)})
		}
		if aws.ToString(out.NextToken) == "" {
			return found, nil
		}
		if aws.ToString(out.NextToken) == aws.ToString(in.NextToken) {
			return nil, awserr.Incomplete(action, resource, "the token of the next page")
		}
		in.NextToken = out.NextToken
	}
}
