package main

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// By default an event of AWS Health is told, and no key is switched off, whatever the
// event names: key IDs, users by name or ARN, a key that is gone, somebody else's user.
// An event without entities is told, too.
func TestExposureIsTold(t *testing.T) {
	c := deployedStack(t)
	ctx := t.Context()
	key := AccessKey{CreateDate: ago(20 * day), LastUsedDate: ago(time.Hour)}
	off := AccessKey{CreateDate: ago(90 * day), Status: "Inactive"}
	made, err := c.SeedAccount(ctx, Account{Senders: []string{"example.com"}, Users: []User{
		{UserName: "told-key", AccessKeys: []AccessKey{key}},
		{UserName: "told-name", Tags: map[string]string{"owner": "name@example.com"}, AccessKeys: []AccessKey{key, key}},
		{UserName: "told-arn", Path: "/teams/web/", Tags: map[string]string{"owner": "arn@example.com"}, AccessKeys: []AccessKey{key, off}},
		{UserName: "told-idle", AccessKeys: []AccessKey{off}},
		{UserName: "told-gone", AccessKeys: []AccessKey{key}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	id := func(user string, n int) string { return made[user][n].AccessKeyID }
	if _, err := iam.NewFromConfig(c.Config()).DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("told-gone"), AccessKeyId: aws.String(id("told-gone", 0))}); err != nil {
		t.Fatal(err)
	}
	statuses := func() map[string]string {
		all := map[string]string{}
		for user := range made {
			maps.Copy(all, c.statuses(t, user))
		}
		return all
	}
	before := statuses()
	if _, err := c.Mails(ctx, "", true); err != nil {
		t.Fatal(err)
	}
	run := func(event []byte) (exposure []exposedKey, text string) {
		t.Helper()
		c.Forget()
		e, err := c.Execute(ctx, "ExposureStateMachine", "", event)
		if err != nil {
			t.Fatal(err)
		}
		ended(t, e, "SUCCEEDED", "")
		var out struct{ Keys []exposedKey }
		if err := json.Unmarshal(e.Output, &out); err != nil {
			t.Fatal(err)
		}
		notices := c.Published()
		if len(notices) != 1 || notices[0].Attributes["stage"] != "exposed" || notices[0].Attributes["severity"] != "critical" {
			t.Fatalf("the notices are %+v", notices)
		}
		// Lines of a mail are wrapped; words are looked for.
		return out.Keys, strings.Join(strings.Fields(strings.ReplaceAll(notices[0].Text("email"), "\\\n", " ")), " ")
	}
	switchOff := func(user, accessKeyID string) string {
		return "aws iam update-access-key --user-name " + user + " --access-key-id " + accessKeyID + " --status Inactive"
	}

	const foreign = "arn:aws:iam::210000000002:user/theirs"
	keys, text := run(healthEvent("told-1", accountID, "AWS_RISK_CREDENTIALS_EXPOSED", "open", time.Now(),
		id("told-key", 0), "told-name", "arn:aws:iam::"+accountID+":user/teams/web/told-arn", "told-idle", id("told-gone", 0), foreign, "told-nobody"))
	told := map[string]int{}
	for _, k := range keys {
		if k.Deactivate || !k.First {
			t.Errorf("%+v is not only told", k)
		}
		told[k.Entity]++
	}
	if want := map[string]int{id("told-key", 0): 1, "told-name": 2, "arn:aws:iam::" + accountID + ":user/teams/web/told-arn": 1, "told-idle": 1, id("told-gone", 0): 1, foreign: 1, "told-nobody": 1}; !maps.Equal(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
	for _, words := range []string{
		switchOff("told-key", id("told-key", 0)), switchOff("told-name", id("told-name", 0)), switchOff("told-name", id("told-name", 1)), switchOff("told-arn", id("told-arn", 0)),
		"User told-idle has no Active access key", id("told-gone", 0) + " is not known to this account", foreign, "told-nobody",
	} {
		if !strings.Contains(text, words) {
			t.Errorf("%q is not told:\n%s", words, text)
		}
	}
	if strings.Contains(text, id("told-arn", 1)) {
		t.Errorf("told of a key that is off, which the event does not name:\n%s", text)
	}
	if after := statuses(); !maps.Equal(after, before) {
		t.Errorf("IAM has %v, and had %v", after, before)
	}
	// An owner is told of their own keys alone.
	mails, err := c.Mails(ctx, "", true)
	if err != nil {
		t.Fatal(err)
	}
	owners := map[string]string{"name@example.com": "told-name", "arn@example.com": "told-arn"}
	for _, m := range mails {
		if own := owners[m.To[0]]; own == "" || !strings.Contains(m.Text, own) || strings.Contains(m.Text, "told-key") {
			t.Errorf("%s got:\n%s", m.To[0], m.Text)
		}
	}
	if len(mails) != len(owners) {
		t.Errorf("%d mails to owners, want %d", len(mails), len(owners))
	}

	if keys, text := run(healthEvent("told-2", accountID, "AWS_RISK_IAM_QUARANTINE", "open", time.Now())); len(keys) != 1 || !strings.Contains(text, "AWS_RISK_IAM_QUARANTINE") {
		t.Errorf("of an event without entities: %+v:\n%s", keys, text)
	}
}

type exposedKey struct {
	Entity            string
	First, Deactivate bool
}
