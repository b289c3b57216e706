package awssfn

import (
	"testing"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func at(url string) *StepFunctions {
	return New(awsconfig.At(url, "eu-west-1", "function", "function"), map[iamkeys.Workflow]string{
		iamkeys.RotationWorkflow:   "arn:aws:states:eu-west-1:123456789012:stateMachine:Stack-Rotation",
		iamkeys.RetirementWorkflow: "arn:aws:states:eu-west-1:123456789012:stateMachine:Stack-Retirement",
	})
}

func TestContract(t *testing.T) {
	for _, pageSize := range []int{1, 100} {
		account := iamkeystest.NewAccount()
		server := account.Serve(t)
		server.PageSize = pageSize
		iamkeystest.TestStepFunctions(t, account.ExecutionSetter(), at(server.URL))
	}
}

func TestRefusals(t *testing.T) {
	account := iamkeystest.NewAccount()
	server := account.Serve(t)
	server.Fault = func(int, string) iamkeystest.Fault { return iamkeystest.Refused }
	s := at(server.URL)
	_, err := s.DescribeExecution(t.Context(), iamkeys.RotationWorkflow, "AKIAIOSFODNN7EXAMPLE")
	if iamkeys.CodeOf(err) != iamkeys.AccessDenied {
		t.Errorf("refused, and got %v", err)
	}
	_, err = s.ListExecutions(t.Context(), iamkeys.RotationWorkflow, "", account.Now())
	if iamkeys.CodeOf(err) != iamkeys.AccessDenied {
		t.Errorf("refused, and got %v", err)
	}
	before := len(server.Requests)
	if _, err = s.DescribeExecution(t.Context(), "elsewhere", "AKIAIOSFODNN7EXAMPLE"); iamkeys.CodeOf(err) != iamkeys.Internal || len(server.Requests) != before {
		t.Errorf("a workflow without a state machine: %v, %d requests", err, len(server.Requests)-before)
	}
}
