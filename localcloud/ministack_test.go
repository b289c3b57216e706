package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// These tests hold ministack, as launcher.py corrects it, to what AWS does.

// machine makes a state machine in JSONata from its states, and returns its ARN.
func (c *Cloud) machine(t *testing.T, name, startAt, states string) string {
	t.Helper()
	out, err := sfn.NewFromConfig(c.Config()).CreateStateMachine(t.Context(), &sfn.CreateStateMachineInput{
		Name: &name, RoleArn: aws.String("arn:aws:iam::" + accountID + ":role/test"),
		Definition: aws.String(fmt.Sprintf(`{"QueryLanguage": "JSONata", "StartAt": %q, "States": %s}`, startAt, states))})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(out.StateMachineArn)
}

// execute runs a state machine to its end.
func (c *Cloud) execute(t *testing.T, machine, name, input string) Execution {
	t.Helper()
	in := &sfn.StartExecutionInput{StateMachineArn: &machine, Input: &input}
	if name != "" {
		in.Name = &name
	}
	started, err := sfn.NewFromConfig(c.Config()).StartExecution(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Wait(t.Context(), *started.ExecutionArn)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// list stores a list for an ItemReader, in a bucket that it makes.
func (c *Cloud) list(t *testing.T, key, content string) {
	t.Helper()
	client := s3.NewFromConfig(c.Config(), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("lists")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("lists"), Key: &key, Body: bytes.NewReader([]byte(content))}); err != nil {
		t.Fatal(err)
	}
}

// TestMinistackRunsDistributedMap: a Map as the organization's audit has one.
func TestMinistackRunsDistributedMap(t *testing.T) {
	c, ctx := sharedCloud(t), t.Context()
	machine := c.machine(t, "distributed", "Accounts", `{
		"Accounts": {"Type": "Pass", "Output": "{% $merge([$states.input, {'atOnce': 3}]) %}", "Assign": {"run": "{% $merge([$states.input, {'seen': null}]) %}", "secret": "parent's"}, "Next": "Each"},
		"Each": {"Type": "Map", "MaxConcurrency": "{% $run.atOnce ? $run.atOnce : 2 %}", "ToleratedFailurePercentage": "{% $run.tolerated %}",
			"ItemReader": {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON"}, "Arguments": {"Bucket": "{% $run.list.bucket %}", "Key": "{% $run.list.key %}"}},
			"ItemSelector": {"account": "{% $states.context.Map.Item.Value.account %}", "index": "{% $states.context.Map.Item.Index %}", "runId": "{% $run.runId %}", "parent": "{% $states.context.Execution.Name %}"},
			"ItemProcessor": {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, "StartAt": "Which", "States": {
				"Which": {"Type": "Choice", "Choices": [{"Condition": "{% $states.input.account = 'bad' %}", "Next": "Bad"}, {"Condition": "{% $exists($secret) %}", "Next": "Leak"}], "Default": "Good"},
				"Bad": {"Type": "Fail", "Error": "RoleUnavailable", "Cause": "no such role"},
				"Leak": {"Type": "Fail", "Error": "Leak"},
				"Good": {"Type": "Succeed", "Output": {"account": "{% $states.input.account %}", "of": "{% $states.input.runId %}", "own": "{% $states.context.Execution.Input = $states.input and $states.context.Execution.Name != $states.input.parent %}"}}}},
			"Output": {"results": "{% $states.result %}", "run": "{% $run %}"}, "Assign": {"count": "{% $count($states.result) %}"},
			"Catch": [{"ErrorEquals": ["States.ExceedToleratedFailureThreshold", "States.ItemReaderFailed"], "Output": "{% $states.errorOutput.Error %}", "Next": "End"}], "Next": "Count"},
		"Count": {"Type": "Pass", "Output": "{% $merge([$states.input, {'count': $count}]) %}", "Next": "End"},
		"End": {"Type": "Succeed"}}`)
	c.list(t, "accounts.json", `[{"account": "a"}, {"account": "bad"}, {"account": "c"}]`)
	c.list(t, "broken.json", `[{"account"`)
	c.list(t, "object.json", `{"account": "a"}`)
	input := func(key string, tolerated int) string {
		return fmt.Sprintf(`{"runId": "r1", "tolerated": %d, "list": {"bucket": "lists", "key": %q}}`, tolerated, key)
	}

	e := c.execute(t, machine, "run", input("accounts.json", 100))
	var out struct {
		Results []map[string]any
		Run     map[string]any
		Count   int
	}
	if err := json.Unmarshal(e.Output, &out); err != nil || e.Status != "SUCCEEDED" {
		t.Fatalf("%+v, %v", e, err)
	}
	if got := fmt.Sprint(out.Results); got != "[map[account:a of:r1 own:true] map[account:c of:r1 own:true]]" || out.Count != 2 {
		t.Errorf("the Map's results: %s, counted %d", got, out.Count)
	}
	if seen, ok := out.Run["seen"]; !ok || seen != nil || out.Run["runId"] != "r1" {
		t.Errorf("the variable that $merge assigned: %v", out.Run)
	}
	runs, err := sfn.NewFromConfig(c.Config()).ListMapRuns(ctx, &sfn.ListMapRunsInput{ExecutionArn: &e.ARN})
	if err != nil || len(runs.MapRuns) != 1 {
		t.Fatalf("%+v, %v", runs, err)
	}
	children, err := sfn.NewFromConfig(c.Config()).ListExecutions(ctx, &sfn.ListExecutionsInput{MapRunArn: runs.MapRuns[0].MapRunArn, StatusFilter: sfntypes.ExecutionStatusFailed})
	if err != nil || len(children.Executions) != 1 {
		t.Fatalf("%+v, %v", children, err)
	}
	child, err := sfn.NewFromConfig(c.Config()).DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: children.Executions[0].ExecutionArn})
	if err != nil || aws.ToString(child.Error) != "RoleUnavailable" || aws.ToString(child.Input) != `{"account": "bad", "index": 1, "runId": "r1", "parent": "run"}` {
		t.Errorf("the child that failed: %+v, %v", child, err)
	}

	for what, test := range map[string]struct{ key, output string }{
		"a failure too many":       {"accounts.json", `"States.ExceedToleratedFailureThreshold"`},
		"a list that is no JSON":   {"broken.json", `"States.ItemReaderFailed"`},
		"a list that is no list":   {"object.json", `"States.ItemReaderFailed"`},
		"a list that is not there": {"missing.json", `"States.ItemReaderFailed"`},
	} {
		if e := c.execute(t, machine, "", input(test.key, 0)); string(e.Output) != test.output {
			t.Errorf("%s: %+v, want %s", what, e, test.output)
		}
	}
}

// TestMinistackTakesNumbersByPath: a Map in JSONPath, beside and around states
// in JSONata.
func TestMinistackTakesNumbersByPath(t *testing.T) {
	c := sharedCloud(t)
	c.list(t, "three.json", `[1, 2, 3]`)
	out, err := sfn.NewFromConfig(c.Config()).CreateStateMachine(t.Context(), &sfn.CreateStateMachineInput{
		Name: aws.String("by-path"), RoleArn: aws.String("arn:aws:iam::" + accountID + ":role/test"), Definition: aws.String(`{"StartAt": "Each", "States": {
			"Each": {"Type": "Map", "MaxConcurrencyPath": "$.atOnce", "ToleratedFailurePercentagePath": "$.tolerated", "ResultPath": null, "Next": "After",
				"ItemReader": {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON"}, "Parameters": {"Bucket": "lists", "Key.$": "$.key"}},
				"ItemProcessor": {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, "StartAt": "Child", "States": {
					"Child": {"QueryLanguage": "JSONata", "Type": "Choice", "Choices": [{"Condition": "{% $states.input = 2 %}", "Next": "Bad"}], "Default": "Good"},
					"Bad": {"Type": "Fail"}, "Good": {"Type": "Pass", "QueryLanguage": "JSONata", "Output": {}, "End": true}}}},
			"After": {"Type": "Pass", "QueryLanguage": "JSONata", "Output": "{% $states.input.atOnce %}", "End": true}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	for input, want := range map[string]string{
		`{"atOnce": 2, "tolerated": 40, "key": "three.json"}`: "SUCCEEDED 2",
		`{"atOnce": 2, "tolerated": 10, "key": "three.json"}`: "FAILED States.ExceedToleratedFailureThreshold",
	} {
		e := c.execute(t, *out.StateMachineArn, "", input)
		got := e.Status + " " + e.Error
		if e.Status == "SUCCEEDED" {
			got = e.Status + " " + string(e.Output)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", input, got, want)
		}
		runs, err := sfn.NewFromConfig(c.Config()).ListMapRuns(t.Context(), &sfn.ListMapRunsInput{ExecutionArn: &e.ARN})
		if err != nil || len(runs.MapRuns) != 1 {
			t.Fatalf("%+v, %v", runs, err)
		}
		run, err := sfn.NewFromConfig(c.Config()).DescribeMapRun(t.Context(), &sfn.DescribeMapRunInput{MapRunArn: runs.MapRuns[0].MapRunArn})
		if err != nil || run.MaxConcurrency != 2 || run.ExecutionCounts.Failed != 1 || run.ExecutionCounts.Succeeded != 2 {
			t.Errorf("%s: %+v, %v", input, run, err)
		}
	}
}

// TestMinistackStartsOnce: a name is taken for good, for an input that differs
// at once; a workflow hears of it by AWS's name.
func TestMinistackStartsOnce(t *testing.T) {
	c, ctx := sharedCloud(t), t.Context()
	client := sfn.NewFromConfig(c.Config())
	queue, err := sqs.NewFromConfig(c.Config()).CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("tokens")})
	if err != nil {
		t.Fatal(err)
	}
	target := c.machine(t, "target", "Which", fmt.Sprintf(`{
		"Which": {"Type": "Choice", "Choices": [{"Condition": "{%% $states.input.n = 1 %%}", "Next": "End"}], "Default": "Waiting"},
		"Waiting": {"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken", "Arguments": {"QueueUrl": %q, "MessageBody": "{%% $states.context.Task.Token %%}"}, "TimeoutSeconds": 60, "Next": "End"},
		"End": {"Type": "Succeed", "Output": "done"}}`, *queue.QueueUrl))
	starter := c.machine(t, "starter", "Start", fmt.Sprintf(`{
		"Start": {"Type": "Task", "Resource": "arn:aws:states:::states:startExecution", "Arguments": {"StateMachineArn": %q, "Name": "{%% $states.input.name %%}", "Input": {"n": 2}},
			"Catch": [{"ErrorEquals": ["StepFunctions.ExecutionAlreadyExistsException"], "Output": "there already", "Next": "End"}], "Next": "End"},
		"End": {"Type": "Succeed"}}`, target))
	before := time.Now().Add(-time.Second)
	e := c.execute(t, target, "once", `{"n": 1}`)
	if e.Status != "SUCCEEDED" || string(e.Output) != `"done"` {
		t.Fatalf("%+v", e)
	}
	if _, err := client.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &target, Name: aws.String("once"), Input: aws.String(`{"n": 1}`)}); code(t, err) != "ExecutionAlreadyExists" {
		t.Errorf("a second start after the end: %v", err)
	}
	if e := c.execute(t, starter, "", `{"name": "once"}`); string(e.Output) != `"there already"` {
		t.Errorf("a workflow that starts it again: %+v", e)
	}

	start := func(input string) (*sfn.StartExecutionOutput, error) {
		return client.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &target, Name: aws.String("running"), Input: &input})
	}
	first, err := start(`{"n": 2}`)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := start(`{"n": 2}`); err != nil || *again.ExecutionArn != *first.ExecutionArn || !again.StartDate.Equal(*first.StartDate) {
		t.Errorf("the same start again: %+v, %v", again, err)
	}
	if _, err := start(`{"n": 3}`); code(t, err) != "ExecutionAlreadyExists" {
		t.Errorf("a start with another input: %v", err)
	}
	if running, err := client.ListExecutions(ctx, &sfn.ListExecutionsInput{StateMachineArn: &target, StatusFilter: sfntypes.ExecutionStatusRunning}); err != nil || len(running.Executions) != 1 {
		t.Errorf("running: %+v, %v", running, err)
	}
	if _, err := client.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: first.ExecutionArn}); err != nil {
		t.Error(err)
	}

	listed, err := client.ListExecutions(ctx, &sfn.ListExecutionsInput{StateMachineArn: &target, StatusFilter: sfntypes.ExecutionStatusSucceeded})
	if err != nil || len(listed.Executions) != 1 {
		t.Fatalf("%+v, %v", listed, err)
	}
	described, err := client.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: listed.Executions[0].ExecutionArn})
	if err != nil || aws.ToString(described.Input) != `{"n": 1}` || described.Status != sfntypes.ExecutionStatusSucceeded ||
		!described.StartDate.Equal(*listed.Executions[0].StartDate) || described.StartDate.Before(before) || described.StartDate.After(time.Now()) {
		t.Errorf("%+v, %v, listed as %+v", described, err, listed.Executions[0])
	}
}
