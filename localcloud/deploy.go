package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

const stackName = "iamkeys"

// Deploy builds the project's template for this machine and deploys it with
// these template parameters. Deploying again updates the stack; those that are
// not named again keep their values.
func (c *Cloud) Deploy(ctx context.Context, parameters map[string]string) error {
	architecture := "x86_64"
	if runtime.GOARCH == "arm64" {
		architecture = "arm64"
	}
	build := filepath.Join(c.Dir, "build")
	sources, err := fingerprint(c.root)
	if err != nil {
		return err
	}
	if c.built == sources && c.resources != nil {
		return c.reconfigure(ctx, parameters)
	}
	if c.built != sources {
		// The default template and samconfig.toml are the project's own. The build's
		// folder is not, so that a build for a real deployment stays as it was.
		err := c.sam(ctx, architecture, "build", "--build-dir", build, "--parallel", "--parameter-overrides", "Architecture="+architecture)
		if err != nil {
			return err
		}
		c.built = sources
	}
	deploy := []string{"deploy", "--template-file", filepath.Join(build, "template.yaml"),
		"--stack-name", stackName, "--region", region, "--resolve-s3", "--capabilities", "CAPABILITY_IAM",
		"--no-confirm-changeset", "--no-fail-on-empty-changeset", "--parameter-overrides", "Architecture=" + architecture}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		deploy = append(deploy, name+"="+strconv.Quote(parameters[name])) // SAM reads the quotes: a value may have spaces
	}
	if err := c.sam(ctx, architecture, deploy...); err != nil {
		return err
	}
	return c.describe(ctx)
}

// reconfigure changes parameters of the deployed stack, whose template stays as
// it is: a second of CloudFormation, where SAM would pack and upload for ten.
func (c *Cloud) reconfigure(ctx context.Context, parameters map[string]string) error {
	there, err := c.parameters(ctx)
	if err != nil {
		return err
	}
	form := url.Values{"Action": {"UpdateStack"}, "Version": {"2010-05-15"}, "StackName": {stackName}, "UsePreviousTemplate": {"true"},
		"Capabilities.member.1": {"CAPABILITY_IAM"}, "Capabilities.member.2": {"CAPABILITY_AUTO_EXPAND"}}
	for i, name := range slices.Sorted(maps.Keys(there)) {
		member := fmt.Sprintf("Parameters.member.%d.", i+1)
		form.Set(member+"ParameterKey", name)
		if value, given := parameters[name]; given {
			form.Set(member+"ParameterValue", value)
		} else {
			form.Set(member+"UsePreviousValue", "true")
		}
	}
	var none struct{}
	err = c.wire().query(ctx, "cloudformation", form, &none)
	if refusal, ok := errors.AsType[*wireError](err); ok && strings.Contains(refusal.Message, "No updates are to be performed") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("changing the stack's parameters: %w", err)
	}
	if err := c.wire().settled(ctx, stackName); err != nil {
		return err
	}
	return c.describe(ctx)
}

// parameters are the values that the deployed stack's parameters have.
func (c *Cloud) parameters(ctx context.Context) (map[string]string, error) {
	var there struct {
		Parameters []struct{ ParameterKey, ParameterValue string } `xml:"DescribeStacksResult>Stacks>member>Parameters>member"`
	}
	if err := c.wire().query(ctx, "cloudformation", url.Values{"Action": {"DescribeStacks"}, "Version": {"2010-05-15"}, "StackName": {stackName}}, &there); err != nil {
		return nil, fmt.Errorf("reading the stack's parameters: %w", err)
	}
	values := map[string]string{}
	for _, p := range there.Parameters {
		values[p.ParameterKey] = p.ParameterValue
	}
	return values, nil
}

// settled waits until a stack is created or updated.
func (w wire) settled(ctx context.Context, stack string) error {
	for {
		var is struct {
			Status string `xml:"DescribeStacksResult>Stacks>member>StackStatus"`
			Reason string `xml:"DescribeStacksResult>Stacks>member>StackStatusReason"`
		}
		if err := w.query(ctx, "cloudformation", url.Values{"Action": {"DescribeStacks"}, "Version": {"2010-05-15"}, "StackName": {stack}}, &is); err != nil {
			return fmt.Errorf("waiting for stack %s: %w", stack, err)
		}
		switch {
		case is.Status == "CREATE_COMPLETE" || is.Status == "UPDATE_COMPLETE":
			return nil
		case !strings.HasSuffix(is.Status, "_IN_PROGRESS"):
			return fmt.Errorf("stack %s is %s: %s", stack, is.Status, is.Reason)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for stack %s: %w", stack, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// fingerprint changes when anything does that the stack is made from.
func fingerprint(root string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && strings.HasPrefix(name, ".") || name == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".md") {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		fmt.Fprintln(h, path)
		_, err = io.Copy(h, f)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reading the sources: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// sam runs the SAM CLI against the local cloud; it may reach no other account.
func (c *Cloud) sam(ctx context.Context, architecture string, args ...string) error {
	cmd := command(ctx, program(c.root, "sam"), args...)
	cmd.Dir = c.root
	cmd.Env = append(append(inherited(), c.Environment()...),
		"ARCH="+architecture, "BUILD_OS="+runtime.GOOS, // ministack starts the binaries as processes of this machine
		"SAM_CLI_TELEMETRY=0", "SAM_CLI_POLL_DELAY=0.2") // seconds between looks at the stack; 5 otherwise
	if out, err := cmd.CombinedOutput(); err != nil {
		// Of a deployment that failed, the rollback is what is said last.
		if why := bytes.Index(out, []byte("CREATE_FAILED")); why >= 0 {
			return fmt.Errorf("sam %s failed: %w\n%.1000s", args[0], err, out[why:])
		}
		return fmt.Errorf("sam %s failed: %w\n%s", args[0], err, tail(out, 40))
	}
	return nil
}

// describe reads the stack's resources.
func (c *Cloud) describe(ctx context.Context) error {
	var out struct {
		Resources []struct{ LogicalResourceId, PhysicalResourceId string } `xml:"DescribeStackResourcesResult>StackResources>member"`
	}
	err := c.wire().query(ctx, "cloudformation", url.Values{"Action": {"DescribeStackResources"}, "Version": {"2010-05-15"}, "StackName": {stackName}}, &out)
	if err != nil {
		return fmt.Errorf("reading the stack's resources: %w", err)
	}
	c.resources = map[string]string{}
	for _, r := range out.Resources {
		c.resources[r.LogicalResourceId] = r.PhysicalResourceId
	}
	return nil
}

// Resource returns the physical ID of a resource of the deployed template: a
// function's name, a topic's or state machine's ARN, a bucket's name.
func (c *Cloud) Resource(logicalID string) (string, error) {
	id, ok := c.resources[logicalID]
	if !ok {
		return "", fmt.Errorf("the deployed template has no resource %s", logicalID)
	}
	return id, nil
}

// A Result is what a function answered.
type Result struct {
	Payload   json.RawMessage
	ErrorType string // empty when it succeeded
	Message   string
	Log       string // what it logged
}

// Invoke invokes a function of the stack by its logical ID and waits for its
// answer. An error of the function's is in the Result, not an error here.
func (c *Cloud) Invoke(ctx context.Context, logicalID string, payload []byte) (Result, error) {
	name, err := c.Resource(logicalID)
	if err != nil {
		return Result{}, err
	}
	answer, header, err := c.wire().send(ctx, "lambda", http.MethodPost, "/2015-03-31/functions/"+name+"/invocations", http.Header{
		"X-Amz-Invocation-Type": {"RequestResponse"}, "X-Amz-Log-Type": {"Tail"}}, payload)
	if err != nil {
		return Result{}, fmt.Errorf("invoking %s: %w", logicalID, err)
	}
	r := Result{Payload: answer}
	if log, err := base64.StdEncoding.DecodeString(header.Get("X-Amz-Log-Result")); err == nil {
		r.Log = string(log)
	}
	if header.Get("X-Amz-Function-Error") == "" {
		return r, nil
	}
	var failed struct{ ErrorType, ErrorMessage string }
	if err := json.Unmarshal(answer, &failed); err != nil {
		return Result{}, fmt.Errorf("reading the error of %s: %w", logicalID, err)
	}
	r.ErrorType, r.Message = failed.ErrorType, failed.ErrorMessage
	return r, nil
}

// An Execution is one that ended.
type Execution struct {
	ARN    string
	Status string // SUCCEEDED, FAILED, TIMED_OUT, ABORTED
	Output json.RawMessage
	Error  string
	Cause  string
}

// Execute starts a state machine of the stack by its logical ID and waits
// until the execution ends. An empty name lets Step Functions choose one.
func (c *Cloud) Execute(ctx context.Context, logicalID, name string, input []byte) (Execution, error) {
	machine, err := c.Resource(logicalID)
	if err != nil {
		return Execution{}, err
	}
	client := sfn.NewFromConfig(c.Config())
	start := &sfn.StartExecutionInput{StateMachineArn: aws.String(machine), Input: aws.String(string(input))}
	if name != "" {
		start.Name = aws.String(name)
	}
	started, err := client.StartExecution(ctx, start)
	if err != nil {
		return Execution{}, fmt.Errorf("starting %s: %w", logicalID, err)
	}
	return c.Wait(ctx, aws.ToString(started.ExecutionArn))
}

// Wait waits until an execution ends.
func (c *Cloud) Wait(ctx context.Context, executionARN string) (Execution, error) {
	client := sfn.NewFromConfig(c.Config())
	for {
		out, err := client.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: aws.String(executionARN)})
		if err != nil {
			return Execution{}, fmt.Errorf("waiting for execution %s: %w", executionARN, err)
		}
		if out.Status != sfntypes.ExecutionStatusRunning {
			return Execution{
				ARN: executionARN, Status: string(out.Status), Output: json.RawMessage(aws.ToString(out.Output)),
				Error: aws.ToString(out.Error), Cause: aws.ToString(out.Cause),
			}, nil
		}
		select {
		case <-ctx.Done():
			return Execution{}, fmt.Errorf("waiting for execution %s: %w", executionARN, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// functionID returns the logical ID of a function named in short: "list",
// "lastused" or "ListFunction".
func (c *Cloud) functionID(name string) (string, error) {
	var known []string
	for _, id := range c.functionIDs() {
		short := strings.TrimSuffix(id, "Function")
		if id == name || strings.EqualFold(short, name) {
			return id, nil
		}
		known = append(known, strings.ToLower(short))
	}
	return "", fmt.Errorf("there is no function %s; there are %s", name, strings.Join(known, ", "))
}

// functionIDs are the logical IDs of the stack's functions, in order.
func (c *Cloud) functionIDs() []string {
	var all []string
	for id := range c.resources {
		if strings.HasSuffix(id, "Function") {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	return all
}
