// Package awssfn looks up the executions of one Step Functions state machine.
package awssfn

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
}

var (
	_ client                    = (*sfn.Client)(nil)
	_ iamkeys.DescribeExecution = (*StepFunctions)(nil)
)

// StepFunctions implements the core's port to Step Functions, on one state
// machine. Its errors are [iamkeys.Error].
type StepFunctions struct {
	client     client
	executions string // what the ARNs of its executions begin with
}

// New gives a StepFunctions for the state machine.
func New(config aws.Config, stateMachineARN string) *StepFunctions {
	return &StepFunctions{
		executions: strings.Replace(stateMachineARN, ":stateMachine:", ":execution:", 1) + ":",
		client: sfn.NewFromConfig(config, func(o *sfn.Options) {
			o.RetryMaxAttempts = 4
		}),
	}
}

// DescribeExecution implements the port.
func (s *StepFunctions) DescribeExecution(ctx context.Context, name string) (status string, err error) {
	out, err := s.client.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: aws.String(s.executions + name)})
	if err != nil {
		return "", awserr.From(err, "states:DescribeExecution", "execution "+name)
	}
	return string(out.Status), nil
}
