package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"iamkeys/pkg/iamkeys/notice"
)

func (c *Cloud) showRefusal(ctx context.Context, w io.Writer) error {
	event := fmt.Sprintf(`{"userName": %q, "accessKeyId": %q}`, demoInUseUser, demoInUseKey)
	fmt.Fprintf(w, "   deactivate  %s\n", event)
	r, err := c.Invoke(ctx, "DeactivateFunction", []byte(event))
	if err != nil {
		return err
	}
	if r.ErrorType != "KeyInUse" {
		return fmt.Errorf("deactivate should have refused a key in use with KeyInUse, and answered %s", r.Payload)
	}
	fmt.Fprintf(w, "   %s\n", r.ErrorType)
	fmt.Fprintln(w, notice.Wrap("   ", "   ", r.Message))
	return nil
}

// rotate runs a rotation and prints its notices as they come, the mail of one
// stage in full. When adopt is true, the key's consumer takes the new key over
// once a notice says that it is ready.
func (c *Cloud) rotate(ctx context.Context, w io.Writer, input, executionName, inFull string, adopt bool) (Execution, error) {
	c.Forget()
	var failed error
	c.OnPublish(func(notice Message) {
		stage := notice.Attributes["stage"]
		showNotice(w, notice)
		if stage == inFull {
			showMail(w, notice, "")
		}
		if stage != "ready" || !adopt {
			return
		}
		arn, err := c.adopt(ctx, notice)
		if err != nil {
			failed = err
			return
		}
		fmt.Fprintf(w, "   consumer         reads the secret and works on with the new key, as %s\n", arn)
	})
	e, err := c.Execute(ctx, "RotationStateMachine", executionName, []byte(input))
	c.Forget()
	return e, errors.Join(err, failed)
}

// adopt does what a consumer does that fetches its key anew: it reads the
// secret and calls a service with it.
func (c *Cloud) adopt(ctx context.Context, ready Message) (callerARN string, err error) {
	var notice struct {
		Rotation struct{ SecretARN string }
	}
	if err := json.Unmarshal([]byte(ready.Text("sqs")), &notice); err != nil {
		return "", fmt.Errorf("reading the notice: %w", err)
	}
	secret, err := secretsmanager.NewFromConfig(c.Config()).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &notice.Rotation.SecretARN})
	if err != nil {
		return "", fmt.Errorf("reading the secret: %w", err)
	}
	var key struct{ AccessKeyId, SecretAccessKey string }
	if err := json.Unmarshal([]byte(aws.ToString(secret.SecretString)), &key); err != nil {
		return "", errors.New("the secret is not in the form of a credential_process")
	}
	cfg := c.Config()
	cfg.Credentials = credentials.NewStaticCredentialsProvider(key.AccessKeyId, key.SecretAccessKey, "")
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", fmt.Errorf("asking whose key it is: %w", err)
	}
	// Last, since a use by STS alone is no adoption: it may have been create's own probe.
	if _, err := s3.NewFromConfig(cfg).ListBuckets(ctx, &s3.ListBucketsInput{}); err != nil {
		return "", fmt.Errorf("calling S3 with the new key: %w", err)
	}
	return aws.ToString(who.Arn), nil
}

func (c *Cloud) showRotation(ctx context.Context, w io.Writer) error {
	// The schedule's workflow only plans by default; a person starts what it names.
	c.Forget()
	planned, err := c.Execute(ctx, "RotateDueStateMachine", "", []byte(`{}`))
	if err != nil {
		return err
	}
	if planned.Status != "SUCCEEDED" {
		return fmt.Errorf("planning rotations ended as %s: %s: %s", planned.Status, planned.Error, planned.Cause)
	}
	for _, notice := range c.Published() {
		showNotice(w, notice)
	}
	input := fmt.Sprintf(`{"userName": %q}`, demoRotationUser)
	e, err := c.rotate(ctx, w, input, demoRotationKey, "ready", true)
	if err != nil {
		return err
	}
	if e.Status != "SUCCEEDED" {
		return fmt.Errorf("the rotation ended as %s: %s: %s", e.Status, e.Error, e.Cause)
	}
	return c.showKeys(ctx, w, demoRotationUser)
}

func (c *Cloud) showRotationRefused(ctx context.Context, w io.Writer) error {
	input := fmt.Sprintf(`{"userName": %q, "quietHours": 48, "maxWaitDays": 3}`, demoInUseUser)
	e, err := c.rotate(ctx, w, input, demoInUseKey, "failed", false)
	if err != nil {
		return err
	}
	if e.Status != "FAILED" || e.Error != "KeyInUse" {
		return fmt.Errorf("the rotation of a key in use should have failed with KeyInUse, and ended as %s %s: %s", e.Status, e.Error, e.Cause)
	}
	fmt.Fprintf(w, "   execution        %s: %s\n", e.Status, e.Error)
	return c.showKeys(ctx, w, demoInUseUser)
}
