package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"iamkeys/pkg/awsconfig"
)

// These tests run the deployed rotation. Its waits take no time; where days
// must pass for a key, the account grows older instead, and what people and
// consumers do happens while the workflow waits for a notice to be sent.

// The consumer is a process of its own: this test's binary, started again. It
// reads its key by credential_process, as an SDK does, and keeps calling.
const (
	consumerSecret  = "IAMKEYS_CONSUMER_SECRET"  // set: print this secret as a credential_process does, and end
	consumerProfile = "IAMKEYS_CONSUMER_PROFILE" // set: call AWS with this profile until standard input ends
)

func consumer() (isConsumer bool, err error) {
	ctx := context.Background()
	if id := os.Getenv(consumerSecret); id != "" {
		cfg, err := sdkconfig.LoadDefaultConfig(ctx, sdkconfig.WithHTTPClient(awsconfig.HTTPClient(0)))
		if err != nil {
			return true, err
		}
		out, err := secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id, VersionStage: aws.String("AWSCURRENT")})
		if err != nil {
			return true, err
		}
		// With an Expiration the SDK reads the secret again; without one, never.
		expires := time.Now().Add(time.Second).UTC().Format(time.RFC3339)
		_, err = fmt.Println(strings.TrimSuffix(aws.ToString(out.SecretString), "}") + `, "Expiration": "` + expires + `"}`)
		return true, err
	}
	profile := os.Getenv(consumerProfile)
	if profile == "" {
		return false, nil
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	cfg, err := sdkconfig.LoadDefaultConfig(ctx, sdkconfig.WithSharedConfigProfile(profile), sdkconfig.WithHTTPClient(awsconfig.HTTPClient(0)))
	if err != nil {
		return true, err
	}
	client := sqs.NewFromConfig(cfg, func(o *sqs.Options) { o.Retryer = aws.NopRetryer{} })
	for {
		key, err := cfg.Credentials.Retrieve(ctx)
		if err != nil {
			return true, err
		}
		// With this very key: the client itself may have to read a newer one.
		this := func(o *sqs.Options) { o.Credentials = credentials.StaticCredentialsProvider{Value: key} }
		if _, err := client.ListQueues(ctx, &sqs.ListQueuesInput{}, this); err != nil {
			fmt.Println("refused", key.AccessKeyID, err)
		} else {
			fmt.Println("ok", key.AccessKeyID)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// A worker is a running consumer.
type worker struct {
	lines   chan string
	refused []string
}

// startConsumer starts a consumer that reads its key from the secret.
func (c *Cloud) startConsumer(t *testing.T, secretID string) *worker {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "read-key")
	lines := "#!/bin/sh\n"
	for _, v := range append(c.Environment(), consumerSecret+"="+secretID) {
		lines += "export " + v + "\n"
	}
	if err := os.WriteFile(script, []byte(lines+"exec "+self+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config")
	profile := fmt.Sprintf("[profile consumer]\nregion = %s\nendpoint_url = %s\ncredential_process = %s\n", region, c.Endpoint, script)
	if err := os.WriteFile(config, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(inherited(), "AWS_CONFIG_FILE="+config, consumerProfile+"=consumer")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &worker{lines: make(chan string, 10_000)}
	go func() {
		defer close(w.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			w.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		stdin.Close()
		for range w.lines { // until the consumer has ended
		}
		cmd.Wait()
	})
	return w
}

// uses waits until the consumer calls with this key, for at most two minutes,
// and notes every call that was refused until then.
func (w *worker) uses(accessKeyID string) error {
	limit := time.After(2 * time.Minute)
	for {
		select {
		case line, running := <-w.lines:
			if !running {
				return fmt.Errorf("the consumer ended")
			}
			if strings.HasPrefix(line, "refused") {
				w.refused = append(w.refused, line)
			}
			if line == "ok "+accessKeyID {
				return nil
			}
		case <-limit:
			return fmt.Errorf("the consumer does not use %s", accessKeyID)
		}
	}
}

// A rotated is a rotation as its notices and output show it.
type rotated struct {
	UserName, AccessKeyID, NewAccessKeyID, SecretID, SecretARN string
}

func rotationOf(m Message) (r rotated, err error) {
	var notice struct{ Rotation rotated }
	err = json.Unmarshal([]byte(m.Text("sqs")), &notice)
	return notice.Rotation, err
}

// rotation runs the rotation of a user and calls during with each notice, in the
// moment before it is sent. It returns how the execution ended and the stages
// that were told.
func (c *Cloud) rotation(t *testing.T, input string, during func(stage string, r rotated) error) (Execution, []string) {
	t.Helper()
	var mu sync.Mutex // a notice may outlast a workflow that gave it up
	var stages []string
	var failed error
	c.OnPublish(func(m Message) {
		mu.Lock()
		stages = append(stages, m.Attributes["stage"])
		mu.Unlock()
		r, err := rotationOf(m)
		if err == nil && during != nil {
			err = during(m.Attributes["stage"], r)
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil && failed == nil {
			failed = err
		}
	})
	e, err := c.Execute(t.Context(), "RotationStateMachine", c.oldest(t, input)+fmt.Sprintf("-%d", time.Now().UnixMilli()), []byte(input))
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		t.Fatal(failed)
	}
	return e, slices.Clone(stages)
}

// oldest is the ID of the oldest key of the user of an input: what a rotation is
// named by.
func (c *Cloud) oldest(t *testing.T, input string) string {
	t.Helper()
	var in struct{ UserName string }
	if err := json.Unmarshal([]byte(input), &in); err != nil {
		t.Fatal(err)
	}
	keys := must[listed](t, c.invoke(t, "ListFunction", `{"userName": %q}`, in.UserName)).AccessKeys
	if len(keys) == 0 {
		t.Fatalf("user %s has no key to rotate", in.UserName)
	}
	return keys[0].AccessKeyID
}

// deliver gives a user a key by create, and lets it grow old.
func (c *Cloud) deliver(t *testing.T, userName string, age time.Duration) created {
	t.Helper()
	c.seed(t, userName)
	out := must[created](t, c.invoke(t, "CreateFunction", `{"userName": %q}`, userName))
	if err := c.Pass(t.Context(), age); err != nil {
		t.Fatal(err)
	}
	return out
}

func ended(t *testing.T, e Execution, status, name string) {
	t.Helper()
	if e.Status != status || e.Error != name {
		t.Errorf("the rotation ended as %s %s: %s; want %s %s", e.Status, e.Error, e.Cause, status, name)
	}
}

func TestRotation(t *testing.T) {
	c := deployedStack(t)
	ctx := t.Context()
	client := iam.NewFromConfig(c.Config())

	t.Run("a consumer works through it", func(t *testing.T) {
		c.Forget()
		old := c.deliver(t, "rotate-happy", 100*day)
		w := c.startConsumer(t, old.SecretARN)
		if err := w.uses(old.AccessKeyID); err != nil {
			t.Fatal(err)
		}
		e, stages := c.rotation(t, `{"userName": "rotate-happy"}`, func(stage string, r rotated) error {
			if stage != "ready" {
				return nil
			}
			if err := w.uses(r.NewAccessKeyID); err != nil {
				return err
			}
			return c.Pass(ctx, 10*day) // the old key falls quiet, the new one is used on
		})
		ended(t, e, "SUCCEEDED", "")
		if want := []string{"ready", "off", "done"}; !slices.Equal(stages, want) {
			t.Errorf("the notices were %v, want %v", stages, want)
		}
		var r rotated
		if err := json.Unmarshal(e.Output, &r); err != nil {
			t.Fatal(err)
		}
		if got := c.statuses(t, "rotate-happy"); len(got) != 1 || got[r.NewAccessKeyID] != "Active" {
			t.Errorf("IAM has %v", got)
		}
		if err := w.uses(r.NewAccessKeyID); err != nil {
			t.Error(err)
		}
		if len(w.refused) != 0 {
			t.Errorf("the consumer was refused: %v", w.refused)
		}
	})

	t.Run("in use to the end", func(t *testing.T) {
		c.Forget()
		old := c.seed(t, "rotate-in-use", AccessKey{CreateDate: ago(100 * day), LastUsedDate: ago(time.Hour)})[0].AccessKeyID
		e, stages := c.rotation(t, `{"userName": "rotate-in-use", "quietHours": 24, "maxWaitDays": 2}`, nil)
		ended(t, e, "FAILED", "KeyInUse")
		if want := []string{"ready", "reminder", "failed"}; !slices.Equal(stages, want) {
			t.Errorf("the notices were %v, want %v", stages, want)
		}
		if got := c.statuses(t, "rotate-in-use"); len(got) != 2 || got[old] != "Active" {
			t.Errorf("IAM has %v", got)
		}
	})

	t.Run("not adopted", func(t *testing.T) {
		c.Forget()
		old := c.seed(t, "rotate-alone", AccessKey{CreateDate: ago(100 * day), LastUsedDate: ago(10 * day)})[0].AccessKeyID
		e, _ := c.rotation(t, `{"userName": "rotate-alone", "quietHours": 24, "maxWaitDays": 2}`, nil)
		ended(t, e, "FAILED", "NotAdopted")
		if got := c.statuses(t, "rotate-alone"); len(got) != 2 || got[old] != "Active" {
			t.Errorf("IAM has %v", got)
		}
	})

	// adopted starts a rotation that gets as far as the soak.
	adopted := func(t *testing.T, userName string, during func(stage string, r rotated) error) (old string, e Execution, stages []string) {
		t.Helper()
		c.Forget()
		old = c.seed(t, userName, AccessKey{CreateDate: ago(100 * day), LastUsedDate: ago(10 * day)})[0].AccessKeyID
		e, stages = c.rotation(t, fmt.Sprintf(`{"userName": %q}`, userName), func(stage string, r rotated) error {
			if stage == "ready" {
				_, err := c.adopt(ctx, Message{Message: fmt.Sprintf(`{"rotation": {"secretArn": %q}}`, r.SecretARN)})
				return err
			}
			return during(stage, r)
		})
		return old, e, stages
	}

	t.Run("reactivated during the soak", func(t *testing.T) {
		old, e, stages := adopted(t, "rotate-back", func(stage string, r rotated) error {
			if stage != "off" {
				return nil
			}
			_, err := c.call(ctx, "ActivateFunction", fmt.Appendf(nil, `{"userName": "rotate-back", "accessKeyId": %q}`, r.AccessKeyID), nil)
			return err
		})
		ended(t, e, "FAILED", "RolledBack")
		if want := []string{"ready", "off", "failed"}; !slices.Equal(stages, want) {
			t.Errorf("the notices were %v, want %v", stages, want)
		}
		if got := c.statuses(t, "rotate-back"); len(got) != 2 || got[old] != "Active" {
			t.Errorf("IAM has %v", got)
		}
	})

	t.Run("the new key gone during the soak", func(t *testing.T) {
		old, e, _ := adopted(t, "rotate-lost", func(stage string, r rotated) error {
			if stage != "off" {
				return nil
			}
			_, err := client.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &r.UserName, AccessKeyId: &r.NewAccessKeyID})
			return err
		})
		ended(t, e, "FAILED", "NotReplaced")
		if got := c.statuses(t, "rotate-lost"); len(got) != 1 || got[old] != "Inactive" {
			t.Errorf("IAM has %v: the old key is the last resort", got)
		}
	})

	for name, fault := range map[string]Fault{
		"create fails": {Action: "iam:CreateAccessKey", Times: 9, Status: 403, Code: "AccessDenied", Message: "not authorized to perform: iam:CreateAccessKey"},
		"store fails":  {Action: "secretsmanager:PutSecretValue", Skip: 1, Times: 9, Status: 400, Code: "AccessDeniedException", Message: "not authorized"},
	} {
		t.Run(name, func(t *testing.T) {
			c.Forget()
			user := "rotate-" + strings.ReplaceAll(name, " ", "-")
			old := c.seed(t, user, AccessKey{CreateDate: ago(100 * day), LastUsedDate: ago(10 * day)})[0].AccessKeyID
			c.Fail(fault)
			e, stages := c.rotation(t, fmt.Sprintf(`{"userName": %q}`, user), nil)
			if e.Status != "FAILED" || !slices.Contains([]string{"AccessDenied", "DeliveryFailed"}, e.Error) {
				t.Errorf("the rotation ended as %s %s: %s", e.Status, e.Error, e.Cause)
			}
			if want := []string{"failed"}; !slices.Equal(stages, want) {
				t.Errorf("the notices were %v, want %v", stages, want)
			}
			if got := c.statuses(t, user); len(got) != 1 || got[old] != "Active" {
				t.Errorf("IAM has %v", got)
			}
		})
	}

	t.Run("nothing to rotate", func(t *testing.T) {
		c.Forget()
		c.seed(t, "rotate-two", AccessKey{CreateDate: ago(100 * day)}, AccessKey{CreateDate: ago(50 * day)})
		e, _ := c.rotation(t, `{"userName": "rotate-two"}`, nil)
		if e.Status != "FAILED" {
			t.Errorf("the rotation ended as %s", e.Status)
		}
		if got := c.statuses(t, "rotate-two"); len(got) != 2 {
			t.Errorf("IAM has %v", got)
		}
		e, _ = c.rotation(t, `{"userName": "rotate-two", "quietHours": 3}`, nil)
		ended(t, e, "FAILED", "InvalidInput")
	})
}

func TestRotateDue(t *testing.T) {
	c := deployedStack(t)
	ctx := t.Context()
	optedIn := map[string]string{"iamkeys:rotate": "on", "owner": "payments"}
	made, err := c.Seed(ctx,
		User{UserName: "due-old", Tags: optedIn, AccessKeys: []AccessKey{{CreateDate: ago(120 * day), LastUsedDate: ago(10 * day)}}},
		User{UserName: "due-unused", Tags: optedIn, AccessKeys: []AccessKey{{CreateDate: ago(120 * day)}}},
		User{UserName: "due-not-asked", AccessKeys: []AccessKey{{CreateDate: ago(120 * day), LastUsedDate: ago(10 * day)}}})
	if err != nil {
		t.Fatal(err)
	}
	old := made["due-old"][0].AccessKeyID
	var due struct {
		Rotations []struct{ UserName, AccessKeyID, Owner string }
		Skipped   []struct{ UserName, Reason string }
	}
	t.Run("plan", func(t *testing.T) {
		c.Forget()
		e, err := c.Execute(ctx, "RotateDueStateMachine", "", []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		ended(t, e, "SUCCEEDED", "")
		if err := json.Unmarshal(e.Output, &due); err != nil {
			t.Fatal(err)
		}
		if len(due.Rotations) != 1 || due.Rotations[0].UserName != "due-old" || due.Rotations[0].AccessKeyID != old || due.Rotations[0].Owner != "payments" {
			t.Errorf("due: %+v", due.Rotations)
		}
		if len(due.Skipped) != 1 || due.Skipped[0].UserName != "due-unused" {
			t.Errorf("skipped: %+v", due.Skipped)
		}
		notices := c.Published()
		if len(notices) != 1 || notices[0].Attributes["stage"] != "planned" || !strings.Contains(notices[0].Text("email"), "due-old") {
			t.Errorf("the notices are %+v", notices)
		}
		if got := c.statuses(t, "due-old"); len(got) != 1 {
			t.Errorf("planning changed IAM: %v", got)
		}
	})
	t.Run("apply", func(t *testing.T) {
		c.configure(t, map[string]string{"RotationMode": "apply"})
		c.Forget()
		ready := make(chan error, 1)
		c.OnPublish(func(m Message) {
			if m.Attributes["stage"] == "ready" {
				_, err := c.adopt(ctx, m)
				select {
				case ready <- err:
				default: // a repeat; the first one counts
				}
			}
		})
		e, err := c.Execute(ctx, "RotateDueStateMachine", "", []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		ended(t, e, "SUCCEEDED", "")
		machine, err := c.Resource("RotationStateMachine")
		if err != nil {
			t.Fatal(err)
		}
		// The execution's name is the old key's ID: a second start is refused by its name.
		rotation, err := c.Wait(ctx, strings.Replace(machine, ":stateMachine:", ":execution:", 1)+":"+old)
		if err != nil {
			t.Fatal(err)
		}
		ended(t, rotation, "SUCCEEDED", "")
		select {
		case err := <-ready:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the rotation ended, and no notice said that the new key is ready")
		}
		if got := c.statuses(t, "due-old"); len(got) != 1 || got[old] != "" {
			t.Errorf("IAM has %v", got)
		}
		if got := c.statuses(t, "due-not-asked"); len(got) != 1 {
			t.Errorf("a user who did not opt in has %v", got)
		}
		// The next run finds nothing to do, and nobody is told of nothing.
		c.Forget()
		e, err = c.Execute(ctx, "RotateDueStateMachine", "", []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		ended(t, e, "SUCCEEDED", "")
		if notices := c.Published(); len(notices) != 0 {
			t.Errorf("the notices are %+v", notices)
		}
	})
}
