package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"iamkeys/pkg/awsconfig"
)

// Two users whose key nobody has used for long. Their owners have a mail address, so
// that they are told themselves.
const (
	demoQuarterlyUser = "quarter-close" // its job runs again, two warnings later
	demoQuarterlyKey  = "AKIADEMOQUARTER00001"
	demoForgottenUser = "tape-backup" // a restore needs it, when it is off
	demoForgottenKey  = "AKIADEMOTAPE00000001"
	demoSender        = "iamkeys@example.com" // whose domain SES has verified
)

// retirementInput starts a retirement as a person does, whatever RetirementMode says.
func retirementInput(userName, accessKeyID string) string {
	return fmt.Sprintf(`{"userName": %q, "accessKeyId": %q, "insist": true}`, userName, accessKeyID)
}

// A retired is how a retirement's execution ended.
type retired struct {
	Outcome string // removed, kept or rolledBack
	Reason  *struct{ Name, Message string }
}

// retire runs a retirement and calls during with each notice, before it is sent.
func (c *Cloud) retire(ctx context.Context, executionName, input string, during func(stage string, m Message) error) (out retired, err error) {
	var failed error
	c.OnPublish(func(m Message) {
		failed = errors.Join(failed, during(m.Attributes["stage"], m))
	})
	e, err := c.Execute(ctx, "RetirementStateMachine", executionName, []byte(input))
	if err != nil {
		return out, err
	}
	c.OnPublish(nil)
	if e.Status != "SUCCEEDED" {
		return out, errors.Join(failed, fmt.Errorf("the retirement ended as %s: %s: %s", e.Status, e.Error, e.Cause))
	}
	if err := json.Unmarshal(e.Output, &out); err != nil {
		return out, fmt.Errorf("reading what the retirement says: %w", err)
	}
	return out, failed
}

// use calls S3 with a key, as the job does that it was made for.
func (c *Cloud) use(ctx context.Context, key Credential) error {
	if _, err := s3.NewFromConfig(awsconfig.At(c.Endpoint, region, key.AccessKeyID, key.SecretAccessKey)).ListBuckets(ctx, &s3.ListBucketsInput{}); err != nil {
		return fmt.Errorf("calling S3 with %s: %w", key.AccessKeyID, err)
	}
	return nil
}

func (c *Cloud) showRetirement(ctx context.Context, w io.Writer) error {
	now := time.Now()
	unused := func(name, owner, id string, age, idle time.Duration) User {
		return User{UserName: name, CreateDate: now.Add(-age), Tags: map[string]string{"owner": owner}, AccessKeys: []AccessKey{{AccessKeyID: id, CreateDate: now.Add(-age), LastUsedDate: now.Add(-idle)}}}
	}
	made, err := c.SeedAccount(ctx, Account{Senders: []string{"example.com"}, Users: []User{
		unused(demoQuarterlyUser, "finance@example.com", demoQuarterlyKey, 700*day, 130*day),
		unused(demoForgottenUser, "storage@example.com", demoForgottenKey, 900*day, 260*day),
	}})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "   %-16s %s, last used 130 days ago\n   %-16s %s, last used 260 days ago\n", demoQuarterlyUser, demoQuarterlyKey, demoForgottenUser, demoForgottenKey)
	if err := c.showPlannedRetirements(ctx, w); err != nil {
		return err
	}

	// The one is used after the last warning.
	ended := func(r retired) {
		why := ""
		if r.Reason != nil {
			why = " (" + r.Reason.Name + ")"
		}
		fmt.Fprintf(w, "   execution        %s%s\n", r.Outcome, why)
	}
	c.Forget()
	out, err := c.retire(ctx, "retire-"+demoQuarterlyKey, retirementInput(demoQuarterlyUser, demoQuarterlyKey), func(stage string, m Message) error {
		showNotice(w, m)
		if stage != "final" {
			return nil
		}
		showMail(w, m, "")
		if err := c.use(ctx, made[demoQuarterlyUser][0]); err != nil {
			return err
		}
		fmt.Fprintf(w, "   the quarter's end: its job calls S3 with the key\n")
		return nil
	})
	if err != nil {
		return err
	}
	ended(out)
	if out.Outcome != "kept" {
		return fmt.Errorf("a key that is used after the last warning should be kept, and was %s", out.Outcome)
	}

	// The other goes off, and somebody needs it.
	out, err = c.retire(ctx, "retire-"+demoForgottenKey, retirementInput(demoForgottenUser, demoForgottenKey), func(stage string, m Message) error {
		showNotice(w, m)
		if stage != "retired" {
			return nil
		}
		event := fmt.Sprintf(`{"userName": %q, "accessKeyId": %q}`, demoForgottenUser, demoForgottenKey)
		fmt.Fprintf(w, "   a restore stands still; its owner switches the key on again\n   activate  %s\n", event)
		_, err := c.call(ctx, "ActivateFunction", []byte(event), nil)
		return err
	})
	if err != nil {
		return err
	}
	ended(out)
	if out.Outcome != "rolledBack" {
		return fmt.Errorf("a retirement whose key was switched on again should be rolledBack, and was %s", out.Outcome)
	}
	c.Forget()
	for _, name := range []string{demoQuarterlyUser, demoForgottenUser} {
		if err := c.showKeys(ctx, w, name); err != nil {
			return err
		}
	}
	return c.showOwnerMails(ctx, w)
}

// showPlannedRetirements runs what the schedule starts each week: by default it only tells
// whom retirement would warn.
func (c *Cloud) showPlannedRetirements(ctx context.Context, w io.Writer) error {
	c.Forget()
	e, err := c.Execute(ctx, "RetireUnusedStateMachine", "", []byte(`{}`))
	if err != nil {
		return err
	}
	planned := c.Published()
	if e.Status != "SUCCEEDED" || len(planned) != 1 || planned[0].Attributes["stage"] != "planned" {
		return fmt.Errorf("the weekly look at unused keys is %s (%s), with %s; want one that says what is planned", e.Status, e.Error, count(len(planned), "notice"))
	}
	fmt.Fprintln(w, "   RetirementMode is plan: the schedule's workflow warns nobody, and says whom it would")
	showNotice(w, planned[0])
	showMail(w, planned[0], "")
	fmt.Fprintln(w, "   somebody retires both by hand, with insist: true")
	return nil
}

// showOwnerMails prints who got which mail by SES since the last look.
func (c *Cloud) showOwnerMails(ctx context.Context, w io.Writer) error {
	mails, err := c.Mails(ctx, "", true)
	if err != nil {
		return err
	}
	if len(mails) == 0 {
		return errors.New("no owner got mail")
	}
	fmt.Fprintln(w, "   Their owners' own mails:")
	for _, m := range mails {
		fmt.Fprintf(w, "   to %-20s %s\n", m.To[0], m.Subject)
	}
	return nil
}
