package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// TestOrganizationSaysWhy runs the audit of an organization in which most that
// can be wrong with an account is: no account looks clean that was not examined.
// The accounts of the test before are missing here, and not examined either.
func TestOrganizationSaysWhy(t *testing.T) {
	c, ctx := deployedStack(t), t.Context()
	const management, fine, root, bare, foreign, forbidden, closed, suspended, odd = "999600000001", "999600000002", "999600000003", "999600000004", "999600000005", "999600000006", "999600000007", "999600000008", "999600000009"
	state := func(s string) *string { return &s }
	id, err := c.Organize(ctx, Organization{ManagementAccount: management, Accounts: []Member{
		{management, "management", state("ACTIVE")}, {accountID, "security", state("ACTIVE")}, {fine, `payments, "prod" <b>`, state("ACTIVE")}, {root, "legacy", state("ACTIVE")},
		{bare, "acquired", state("ACTIVE")}, {foreign, "partner", state("ACTIVE")}, {forbidden, "locked", state("ACTIVE")},
		{closed, "old", state("CLOSED")}, {suspended, "frozen", state("SUSPENDED")}, {odd, "new", nil},
	}, ResourcePolicy: map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::" + accountID + ":root"}, "Action": "organizations:ListAccounts", "Resource": "*"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{management, fine, root, foreign, forbidden, closed, suspended, odd} {
		externalID := demoExternalID
		if account == foreign {
			externalID = "another-word"
		}
		if err := c.DeployMember(ctx, account, id, map[string]string{"ExternalId": externalID}); err != nil {
			t.Fatal(err)
		}
	}
	for _, account := range []Account{
		{ID: fine, Users: []User{{UserName: "ci", AccessKeys: []AccessKey{{AccessKeyID: "AKIAE2EORGANIZATION1", CreateDate: ago(200 * day), LastUsedDate: ago(day)}}}}},
		{ID: root, RootAccessKey: &AccessKey{CreateDate: ago(900 * day), LastUsedDate: ago(2 * day)}},
		{ID: odd, Users: []User{{UserName: "fresh", AccessKeys: []AccessKey{{CreateDate: ago(day)}}}}},
	} {
		if _, err := c.SeedAccount(ctx, account); err != nil {
			t.Fatal(err)
		}
	}
	deny := map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": "Deny", "Action": "iam:*", "Resource": "*"}}}
	if err := c.AttachPolicy(ctx, management, forbidden, deny); err != nil {
		t.Fatal(err)
	}

	c.Forget()
	e, err := c.Execute(ctx, "OrganizationAuditStateMachine", "", []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.Status != "SUCCEEDED" {
		t.Fatalf("the run ended as %s %s: %s", e.Status, e.Error, e.Cause)
	}
	var out struct {
		Coverage struct{ Complete bool }
		Accounts struct{ Total, Examined, Skipped, NotExamined int }
		Rules    map[string]int
		Notified bool
		Report   struct{ Bucket, Prefix string }
	}
	if err := json.Unmarshal(e.Output, &out); err != nil {
		t.Fatalf("%v in %s", err, e.Output)
	}
	if out.Coverage.Complete || out.Accounts.Examined != 5 || out.Accounts.NotExamined < 3 || out.Accounts.Skipped != 2 || out.Rules["root-key"] < 1 || !out.Notified {
		t.Errorf("the summary: %s", e.Output)
	}
	mails := slices.DeleteFunc(c.Published(), func(m Message) bool { return m.Attributes["kind"] == "digest" })
	if len(mails) != 1 || mails[0].Attributes["kind"] != "organization" || mails[0].Attributes["severity"] != "critical" {
		t.Fatalf("%d messages: %+v", len(mails), mails)
	}
	mail := mails[0].Text("email")
	for _, words := range [][]string{{bare + " (acquired): "}, {foreign + " (partner): "}, {forbidden + " (locked): "}, {root, "root"}} {
		for _, word := range words {
			if !strings.Contains(mail, word) {
				t.Errorf("the mail does not have %q of %v:\n%s", word, words, mail)
			}
		}
	}

	var report struct {
		Accounts []struct {
			Account  string
			Examined bool
			Reason   *string
		}
	}
	if err := json.Unmarshal(c.object(t, out.Report.Prefix+".json"), &report); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, a := range report.Accounts {
		got[a.Account] = fmt.Sprint(a.Examined, " ", aws.ToString(a.Reason))
	}
	for account, want := range map[string]string{management: "true ", accountID: "true ", fine: "true ", root: "true ", odd: "true ",
		bare: "false roleUnavailable", foreign: "false roleUnavailable", forbidden: "false denied", closed: "false closed", suspended: "false suspended"} {
		if got[account] != want {
			t.Errorf("account %s is %q, want %q", account, got[account], want)
		}
	}
	if page := string(c.object(t, out.Report.Prefix+".html")); strings.Contains(page, `"prod" <b>`) || !strings.Contains(page, `&lt;b&gt;`) {
		t.Error("the page has an account's name as it is, or not at all")
	}
}
