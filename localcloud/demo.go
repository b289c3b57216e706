package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"iamkeys/pkg/iamkeys/notice"
)

const day = 24 * time.Hour

// The people of the demo's account. Each user's keys tell a story that an
// engineer knows; the comments name it.
func demoAccount(now time.Time) []User {
	ago := func(d time.Duration) time.Time { return now.Add(-d).Truncate(time.Second) }
	key := func(id string, age, idle time.Duration, service string) AccessKey {
		k := AccessKey{AccessKeyID: "AKIADEMO" + id, CreateDate: ago(age), ServiceName: service, Region: "eu-central-1"}
		if idle > 0 {
			k.LastUsedDate = ago(idle)
		}
		return k
	}
	inactive := func(k AccessKey) AccessKey { k.Status = "Inactive"; return k }
	user := func(name, owner string, keys ...AccessKey) User {
		return User{UserName: name, CreateDate: ago(500 * day), Tags: map[string]string{"owner": owner}, AccessKeys: keys}
	}
	// The key of the functions' event files.
	healthyKey := key("", 20*day, 2*time.Hour, "s3")
	healthyKey.AccessKeyID = "AKIAIOSFODNN7EXAMPLE"
	exempt := func(u User, until time.Time, reason string) User {
		u.Tags["iamkeys:exempt-until"], u.Tags["iamkeys:exempt-reason"] = until.UTC().Format(time.DateOnly), reason
		return u
	}
	rotated := func(u User) User { u.Tags["iamkeys:rotate"] = "on"; return u }
	return []User{
		// Healthy: young, and in use.
		user("ci-deploy", "platform", healthyKey),
		// Stale, yet in use every night: the one nobody dares to touch.
		user("billing-export", "finance", key("BILLING00001", 412*day, 9*time.Hour, "s3")),
		// The partner left in summer; the key did not.
		user("partner-sftp", "sales", key("PARTNER00001", 230*day, 96*day, "s3")),
		// Made for a trial, never used once.
		user("vendor-trial", "procurement", key("VENDOR000001", 61*day, 0, "")),
		// Two Active keys: a replacement that was begun and never finished.
		user("reporting", "data", key("REPORTING001", 301*day, 3*day, "athena"), key("REPORTING002", 88*day, 5*time.Hour, "athena")),
		// An old key switched off long ago and never deleted.
		user("mailer", "platform", inactive(key("MAILER000001", 390*day, 150*day, "ses")), key("MAILER000002", 33*day, time.Hour, "ses")),
		// Old, and known to be: an appliance that cannot be changed before spring.
		exempt(user("warehouse-scanner", "logistics", key("SCANNER00001", 610*day, 4*time.Hour, "sqs")), now.Add(120*day), "firmware update planned for spring"),
		// Used once a month, and its owner opted in: quiet enough to be rotated today.
		rotated(user(demoRotationUser, "finance", key("PAYROLL00001", 118*day, 12*day, "s3"))),
		// The user whose key lives its whole life below.
		user(demoLifecycleUser, "platform", key("BUILDAGENT01", 12*day, 20*time.Minute, "ecr")),
	}
}

const (
	demoLifecycleUser = "build-agent"
	demoRotationUser  = "payroll-batch"
	demoRotationKey   = "AKIADEMOPAYROLL00001"
	demoInUseUser     = "billing-export"
	demoInUseKey      = "AKIADEMOBILLING00001"
	demoUnusedUser    = "vendor-trial"
	demoUnusedKey     = "AKIADEMOVENDOR000001"
	demoMail          = "cloud-team@example.com"
)

// demoParameters deploy the demo's stack: with a reader for the mail, and
// without the wait for other Regions to accept a new key.
var demoParameters = map[string]string{"NotificationEmail": demoMail, "PropagationSeconds": "0"}

// demo tells the whole story on w, and leaves nothing running.
func demo(ctx context.Context, root string, w io.Writer) (err error) {
	began := time.Now()
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

	say("iamkeys: the life of IAM users' access keys, on a local AWS\n")
	say("1. A local AWS starts, and the real template is built and deployed to it")
	c, err := Start(ctx, Options{Root: root, Progress: w})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	say("   up at %s: moto for IAM, STS and Secrets Manager, ministack for the rest", c.Endpoint)
	step := time.Now()
	if err := c.Deploy(ctx, demoParameters); err != nil {
		return err
	}
	say("   template.yaml is deployed by SAM: %s (%.0f s)\n", c.inventory(), time.Since(step).Seconds())

	now := time.Now()
	account := demoAccount(now)
	if _, err := c.Seed(ctx, account...); err != nil {
		return err
	}
	say("2. An account with a past")
	showAccount(w, account, now)

	say("\n3. The audit gets its schedule's event, and writes its mail")
	if err := c.showAudit(ctx, w, now, "", "report.html"); err != nil {
		return err
	}

	say("\n4. A key's whole life in one workflow, for %s", demoLifecycleUser)
	if err := c.showLifecycle(ctx, w); err != nil {
		return err
	}

	say("\n5. A key in use is not switched off")
	if err := c.showRefusal(ctx, w); err != nil {
		return err
	}

	say("\n6. A rotation, from plan to deletion; its days pass in a moment here")
	if err := c.showRotation(ctx, w); err != nil {
		return err
	}

	say("\n7. A rotation of the key in use: it waits, asks for help and gives up")
	if err := c.showRotationRefused(ctx, w); err != nil {
		return err
	}

	say("\n8. Somebody switches off the key that was never used, and the audit runs again")
	if err := c.showProgress(ctx, w); err != nil {
		return err
	}

	if err := c.Stop(); err != nil {
		return err
	}
	say("\nEverything is stopped. %.0f s in all.", time.Since(began).Seconds())
	return nil
}

// inventory counts what the stack has that this demo shows.
func (c *Cloud) inventory() string {
	machines := 0
	for id := range c.resources {
		if strings.HasSuffix(id, "StateMachine") {
			machines++
		}
	}
	return fmt.Sprintf("%s, %s", count(len(c.functionIDs()), "function"), count(machines, "workflow"))
}

func showAccount(w io.Writer, account []User, now time.Time) {
	fmt.Fprintf(w, "   %-18s %-21s %-9s %9s  %s\n", "user", "access key", "status", "age", "last used")
	for _, u := range account {
		for _, k := range u.AccessKeys {
			status, used := "Active", "never"
			if k.Status != "" {
				status = k.Status
			}
			if !k.LastUsedDate.IsZero() {
				used = fmt.Sprintf("%s ago, %s", span(now.Sub(k.LastUsedDate)), k.ServiceName)
			}
			fmt.Fprintf(w, "   %-18s %-21s %-9s %9s  %s\n", u.UserName, k.AccessKeyID, status, span(now.Sub(k.CreateDate)), used)
		}
	}
}

// scheduleEvent is what EventBridge Scheduler sends to a target without an
// input of its own.
func scheduleEvent(at time.Time) []byte {
	event, err := json.Marshal(map[string]any{
		"version": "0", "id": "6f1c2f1e-6d0c-4b0e-9f0a-2b7a1f0d9c11", "source": "aws.scheduler", "account": accountID,
		"time": at.UTC().Format("2006-01-02T15:04:05Z"), "region": region, "detail-type": "Scheduled Event", "detail": "{}",
		"resources": []string{"arn:aws:scheduler:" + region + ":" + accountID + ":schedule/default/iamkeys-audit"},
	})
	if err != nil {
		panic(err) // strings alone always encode
	}
	return event
}

// showAudit sends the audit its schedule's event, prints the mail, up to a line
// that begins with until, and keeps the report for people under that name in
// .localcloud.
func (c *Cloud) showAudit(ctx context.Context, w io.Writer, at time.Time, until, name string) error {
	c.Forget()
	var out struct {
		Report struct{ Bucket, Prefix string }
	}
	if _, err := c.call(ctx, "AuditFunction", scheduleEvent(at), &out); err != nil {
		return err
	}
	mails := c.Published()
	if len(mails) == 0 {
		return errors.New("the audit published nothing")
	}
	showMail(w, mails[len(mails)-1], until)

	object, err := s3.NewFromConfig(c.Config(), func(o *s3.Options) { o.UsePathStyle = true }).GetObject(ctx,
		&s3.GetObjectInput{Bucket: &out.Report.Bucket, Key: aws.String(out.Report.Prefix + ".html")})
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	defer object.Body.Close()
	page, err := io.ReadAll(object.Body)
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(c.root, ".localcloud", name), page, 0o644); err != nil {
		return fmt.Errorf("keeping the report: %w", err)
	}
	fmt.Fprintf(w, "   The same report as a page, for a browser: .localcloud/%s\n", name)
	return nil
}

// showMail prints what a mail subscriber of the topic finds in the inbox, up to
// a line that begins with until.
func showMail(w io.Writer, m Message, until string) {
	fmt.Fprintf(w, "   | From:    AWS Notifications <no-reply@sns.amazonaws.com>\n   | To:      %s\n   | Subject: %s\n   |\n", demoMail, m.Subject)
	for line := range strings.Lines(strings.TrimRight(m.Text("email"), "\n")) {
		if until != "" && strings.HasPrefix(line, until) {
			fmt.Fprintln(w, "   | ... and so on: the findings that are still open, as above.")
			return
		}
		fmt.Fprintln(w, strings.TrimRight("   | "+line, " \n"))
	}
}

// keys is what list and the lifecycle workflow show of a user.
type keys struct {
	AccessKeys []struct {
		AccessKeyID  string     `json:"accessKeyId"`
		Status       string     `json:"status"`
		LastUsedDate *time.Time `json:"lastUsedDate"`
		ServiceName  string     `json:"serviceName"`
	} `json:"accessKeys"`
}

func (k keys) String() string {
	var all []string
	for _, key := range k.AccessKeys {
		all = append(all, key.AccessKeyID+" "+key.Status)
	}
	return strings.Join(all, ", ")
}

func (c *Cloud) showLifecycle(ctx context.Context, w io.Writer) error {
	input := fmt.Sprintf(`{"userName": %q}`, demoLifecycleUser)
	e, err := c.Execute(ctx, "LifecycleStateMachine", "", []byte(input))
	if err != nil {
		return err
	}
	if e.Status != "SUCCEEDED" {
		return fmt.Errorf("the lifecycle workflow ended as %s: %s: %s", e.Status, e.Error, e.Cause)
	}
	var out struct {
		Before, AfterCreate, LastUsed, AfterDeactivate, AfterDelete keys

		Created     struct{ AccessKeyID, SecretARN string }
		Deactivated struct{ AccessKeyID, Status string }
		Deleted     struct{ Deleted bool }
	}
	if err := json.Unmarshal(e.Output, &out); err != nil {
		return fmt.Errorf("reading the lifecycle workflow's output: %w", err)
	}
	show := func(step, format string, args ...any) {
		fmt.Fprintf(w, "   %-11s %s\n", step, fmt.Sprintf(format, args...))
	}
	show("list", "%s", out.Before)
	show("create", "%s, proven by GetCallerIdentity and delivered to the secret", out.Created.AccessKeyID)
	show("", "%s", out.Created.SecretARN[strings.LastIndex(out.Created.SecretARN, ":")+1:])
	show("list", "%s", out.AfterCreate)
	for _, k := range out.LastUsed.AccessKeys {
		used := "never"
		if k.LastUsedDate != nil {
			used = k.LastUsedDate.UTC().Format("2006-01-02 15:04") + " UTC, " + k.ServiceName
		}
		show("last used", "%s %s", k.AccessKeyID, used)
	}
	show("deactivate", "%s is %s", out.Deactivated.AccessKeyID, out.Deactivated.Status)
	show("list", "%s", out.AfterDeactivate)
	show("delete", "%s is deleted", out.Created.AccessKeyID)
	show("list", "%s", out.AfterDelete)
	return nil
}

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

func showNotice(w io.Writer, notice Message) {
	fmt.Fprintf(w, "   notice %-9s %s\n", notice.Attributes["stage"], notice.Subject)
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
	input := fmt.Sprintf(`{"userName": %q, "maxWaitDays": 3}`, demoInUseUser)
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

// showKeys prints what is left of a user's keys.
func (c *Cloud) showKeys(ctx context.Context, w io.Writer, userName string) error {
	var left keys
	if _, err := c.call(ctx, "ListFunction", fmt.Appendf(nil, `{"userName": %q}`, userName), &left); err != nil {
		return err
	}
	fmt.Fprintf(w, "   %-16s %s\n", userName, left)
	return nil
}

func (c *Cloud) showProgress(ctx context.Context, w io.Writer) error {
	event := fmt.Sprintf(`{"userName": %q, "accessKeyId": %q}`, demoUnusedUser, demoUnusedKey)
	fmt.Fprintf(w, "   deactivate  %s\n", event)
	if _, err := c.call(ctx, "DeactivateFunction", []byte(event), nil); err != nil {
		return err
	}
	return c.showAudit(ctx, w, time.Now(), "HIGH:", "report-after.html") // the open ones were seen above
}

// call invokes a function that must succeed and decodes its answer into out.
func (c *Cloud) call(ctx context.Context, logicalID string, payload []byte, out any) (Result, error) {
	r, err := c.Invoke(ctx, logicalID, payload)
	if err != nil {
		return Result{}, err
	}
	if r.ErrorType != "" {
		return r, fmt.Errorf("%s answered %s: %s", logicalID, r.ErrorType, r.Message)
	}
	if out == nil {
		return r, nil
	}
	if err := json.Unmarshal(r.Payload, out); err != nil {
		return r, fmt.Errorf("reading the answer of %s: %w", logicalID, err)
	}
	return r, nil
}

// span is a length of time as a person says it, in its largest whole unit.
func span(d time.Duration) string {
	switch {
	case d >= day:
		return count(int(d/day), "day")
	case d >= time.Hour:
		return count(int(d/time.Hour), "hour")
	default:
		return count(int(d/time.Minute), "minute")
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
