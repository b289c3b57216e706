package main

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// object reads an object of the report bucket.
func (c *Cloud) object(t *testing.T, key string) []byte {
	t.Helper()
	bucket, err := c.Resource("ReportBucket")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s3.NewFromConfig(c.Config(), func(o *s3.Options) { o.UsePathStyle = true }).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String(key)})
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

type organizationReport struct {
	Summary struct {
		RunID, Day          string
		New, Open, Resolved int
		Severities          struct{ Critical, High int }
		Coverage            struct{ Complete bool }
		Accounts            struct{ Total, Examined, Skipped, NotExamined int }
	}
	Accounts []organizationAccount
}

type organizationAccount struct {
	Account, Name string
	Examined      bool
	Reason        *string
	New           int
}

// A memberReport is what the audit of one account stored.
type memberReport struct {
	Summary struct {
		Notes       []string
		SecurityHub *struct {
			Enabled       bool
			Sent, Refused int
		}
	}
	Findings []struct{ Rule, UserName string }
}

// member reads the report of an account in a run.
func (c *Cloud) member(t *testing.T, account string, run organizationReport) (r memberReport) {
	t.Helper()
	key := "reports/" + account + "/" + strings.ReplaceAll(run.Summary.Day, "-", "/") + "/" + run.Summary.RunID + ".json"
	if err := json.Unmarshal(c.object(t, key), &r); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	if r.Summary.SecurityHub == nil {
		t.Fatalf("%s says nothing of Security Hub", key)
	}
	return r
}

// TestOrganization runs the real workflow over a dozen accounts: its Distributed Map
// reads the list from S3, and a process each examines them through their roles.
func TestOrganization(t *testing.T) {
	c := deployedStack(t)
	ctx := t.Context()
	if err := c.organize(ctx); err != nil {
		t.Fatal(err)
	}
	on, hubOff := true, false
	const hubOffIn = "210000000002"
	for _, account := range []string{accountID, demoRootKey} {
		if _, err := c.SeedAccount(ctx, Account{ID: account, SecurityHub: &on}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.SeedAccount(ctx, Account{ID: hubOffIn, SecurityHub: &hubOff}); err != nil {
		t.Fatal(err)
	}
	// One user there has an owner who gets mail.
	const owned = "210000000010"
	if _, err := c.SeedAccount(ctx, Account{ID: owned, Users: []User{{UserName: "owned", Tags: map[string]string{"owner": "media@example.com"}, AccessKeys: []AccessKey{{CreateDate: ago(300 * day), LastUsedDate: ago(200 * day)}}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SeedAccount(ctx, Account{Senders: []string{"example.com"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mails(ctx, "", true); err != nil {
		t.Fatal(err)
	}
	var digests []Message // of the last run
	run := func(input string) (organizationReport, []Message) {
		t.Helper()
		c.Forget()
		e, err := c.Execute(ctx, "OrganizationAuditStateMachine", "", []byte(input))
		if err != nil {
			t.Fatal(err)
		}
		if e.Status != "SUCCEEDED" {
			t.Fatalf("%s: %s %s", e.Status, e.Error, e.Cause)
		}
		var out struct {
			RunID  string
			Report struct{ Prefix string }
		}
		if err := json.Unmarshal(e.Output, &out); err != nil || out.Report.Prefix == "" {
			t.Fatalf("%v: %s", err, e.Output)
		}
		var r organizationReport
		if err := json.Unmarshal(c.object(t, out.Report.Prefix+".json"), &r); err != nil {
			t.Fatal(err)
		}
		for _, ending := range []string{".txt", ".csv", ".html"} {
			if len(c.object(t, out.Report.Prefix+ending)) < 100 {
				t.Errorf("%s is empty", out.Report.Prefix+ending)
			}
		}
		digests = slices.DeleteFunc(c.Published(), func(m Message) bool { return m.Attributes["kind"] != "digest" })
		return r, slices.DeleteFunc(c.Published(), func(m Message) bool { return m.Attributes["kind"] != "organization" })
	}
	reasons := func(r organizationReport) map[string]string {
		found := map[string]string{}
		for _, a := range r.Accounts {
			if a.Reason != nil {
				found[a.Account] = *a.Reason
			}
		}
		return found
	}

	first, mails := run(`{"time": "2026-11-23T06:00:00Z"}`)
	if got, want := reasons(first), map[string]string{demoNoRole: "roleUnavailable", demoSuspended: "suspended"}; !maps.Equal(got, want) {
		t.Errorf("not examined %v, want %v", got, want)
	}
	if a := first.Summary.Accounts; a.Total != 12 || a.Examined != 10 || a.Skipped != 1 || a.NotExamined != 1 || first.Summary.Coverage.Complete {
		t.Errorf("accounts %+v", a)
	}
	if s := first.Summary; s.RunID != "20261123T060000Z" || s.Day != "2026-11-23" || s.Severities.Critical < 1 || s.New < 8 {
		t.Errorf("summary %+v", s)
	}
	if len(mails) != 1 || !strings.Contains(mails[0].Subject, "1 of 12 accounts NOT EXAMINED") || !strings.Contains(mails[0].Text("email"), demoNoRole) || !strings.Contains(mails[0].Text("email"), demoRootKey) {
		t.Fatalf("%d mails: %+v", len(mails), mails)
	}
	// The workflow's last state tells the owner, of every account, and the security team of users without one.
	owner := func() (found []Mail) {
		t.Helper()
		all, err := c.Mails(ctx, "", true)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(all, func(m Mail) bool { return !slices.Equal(m.To, []string{"media@example.com"}) })
	}
	if got := owner(); len(got) != 1 || !strings.Contains(got[0].Text, "owned") || !strings.Contains(got[0].Text, owned+" (media)") {
		t.Errorf("the owner got %+v", got)
	}
	if len(digests) != 1 || !strings.Contains(digests[0].Text("email"), "ci-8") || !strings.Contains(digests[0].Text("email"), demoRootKey) {
		t.Errorf("the security team's digests: %+v", digests)
	}
	// What a member's audit found stands in its Security Hub.
	there := hub{wire{c.moto.String(), demoRootKey}, demoRootKey}
	sent := c.member(t, demoRootKey, first)
	in := there.read(t, map[string]any{"RecordState": equals("ACTIVE")})
	if s := sent.Summary.SecurityHub; !s.Enabled || s.Refused != 0 || s.Sent != len(sent.Findings) || s.Sent < 3 || len(in) != s.Sent {
		t.Errorf("Security Hub has %d findings, the report %d: %+v", len(in), len(sent.Findings), s)
	}
	for _, f := range in {
		if f["AwsAccountId"] != demoRootKey || !strings.HasPrefix(f["Id"].(string), f["GeneratorId"].(string)+"/") || f["Compliance"].(map[string]any)["Status"] != "FAILED" {
			t.Errorf("Security Hub has %v", f)
		}
	}
	if len(there.read(t, map[string]any{"GeneratorId": equals("iamkeys/root-key"), "SeverityLabel": equals("CRITICAL")})) != 1 {
		t.Errorf("Security Hub does not have the root user's key: %v", in)
	}
	// A hub that is off is said in the account's report, and fails nothing.
	off := c.member(t, hubOffIn, first)
	if s := off.Summary.SecurityHub; s.Enabled || s.Sent != 0 || !slices.ContainsFunc(off.Summary.Notes, func(n string) bool { return strings.Contains(n, "Security Hub is not enabled in account "+hubOffIn) }) {
		t.Errorf("the hub is off: %+v, notes %q", s, off.Summary.Notes)
	}
	if !slices.ContainsFunc(first.Accounts, func(a organizationAccount) bool { return a.Account == hubOffIn && a.Examined }) {
		t.Errorf("account %s was not examined: %+v", hubOffIn, first.Accounts)
	}

	// The same again, with the role in the account that had none: only what that has is new.
	var id struct{ Organization struct{ ID string } }
	if err := (wire{c.moto.String(), demoManagement}).target(ctx, "organizations", "AWSOrganizationsV20161128.DescribeOrganization", map[string]any{}, &id); err != nil {
		t.Fatal(err)
	}
	if err := c.DeployMember(ctx, demoNoRole, id.Organization.ID, map[string]string{"ExternalId": demoExternalID}); err != nil {
		t.Fatal(err)
	}
	again, mails := run(`{"runId": "20261123T060000Z", "day": "2026-11-23"}`)
	fresh := 0
	for _, a := range again.Accounts {
		if a.New > 0 && a.Account != demoNoRole {
			t.Errorf("account %s is told as new again", a.Account)
		}
		fresh += a.New
	}
	if got, want := reasons(again), map[string]string{demoSuspended: "suspended"}; !maps.Equal(got, want) || fresh == 0 || fresh != again.Summary.New || again.Summary.Open != first.Summary.New+first.Summary.Open || len(mails) != 1 {
		t.Errorf("not examined %v, %d new, %d open, %d mails", got, again.Summary.New, again.Summary.Open, len(mails))
	}
	// Nothing has changed: nothing is sent. A repeat of that changes nothing either.
	for range 2 {
		next, mails := run(`{"time": "2026-11-24T06:00:00Z"}`)
		if got := owner(); len(got) != 0 || len(digests) != 0 {
			t.Errorf("the next day the owner got %+v, the security team %+v", got, digests)
		}
		if next.Summary.New+next.Summary.Resolved != 0 || len(mails) != 0 || next.Summary.Open != again.Summary.New+again.Summary.Open {
			t.Errorf("the next day: %+v, %d mails", next.Summary, len(mails))
		}
	}
	// What is mended is archived in Security Hub, and the rest stays.
	if _, err := c.SeedAccount(ctx, Account{ID: demoRootKey, Users: []User{{UserName: "ci-8"}}}); err != nil {
		t.Fatal(err)
	}
	mended, mails := run(`{"time": "2026-11-25T06:00:00Z"}`)
	now := c.member(t, demoRootKey, mended)
	gone := len(sent.Findings) - len(now.Findings)
	archived := there.read(t, map[string]any{"RecordState": equals("ARCHIVED")})
	if gone < 1 || mended.Summary.Resolved != gone || len(mails) != 1 || len(archived) != gone || len(there.read(t, map[string]any{"RecordState": equals("ACTIVE")})) != len(now.Findings) {
		t.Errorf("%d findings are gone, %d resolved, %d mails; Security Hub has archived %v", gone, mended.Summary.Resolved, len(mails), archived)
	}
	for _, f := range archived {
		if f["Compliance"].(map[string]any)["Status"] != "PASSED" {
			t.Errorf("archived: %v", f)
		}
	}
	// The other ends: a list that somebody changed, a run that never was.
	e, err := c.Execute(ctx, "OrganizationAuditStateMachine", "", []byte(`{"runId": "20260101T000000Z", "day": "2026-01-01"}`))
	if err != nil || e.Status != "FAILED" || e.Error != "InvalidInput" {
		t.Errorf("a run that never was: %s %s %v", e.Status, e.Error, err)
	}
	refused(t, c.invoke(t, "AuditFunction", `{"account": "999999999999", "name": "", "runId": "20261123T060000Z", "day": "2026-11-23"}`), "InvalidInput", "999999999999")
	refused(t, c.invoke(t, "AuditFunction", `{"account": %q, "runId": "../../x", "day": "2026-11-23"}`, demoRootKey), "InvalidInput", "runId")
	refused(t, c.invoke(t, "AuditFunction", `{"account": "210000000012", "runId": "by-hand", "day": "2026-11-23"}`), "RoleUnavailable", "210000000012", memberRole)
	if keys := slices.Collect(maps.Keys(reasons(again))); len(keys) != 1 {
		t.Errorf("%v", keys)
	}
}
