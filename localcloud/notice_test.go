package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// published waits for a message of this kind, for a minute at most.
func (c *Cloud) published(t *testing.T, kind string) Message {
	t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		for _, m := range c.Published() {
			if m.Attributes["kind"] == kind {
				return m
			}
		}
	}
	t.Fatalf("no message of kind %s was published within a minute", kind)
	return Message{}
}

// What an audit finds that a schedule starts reaches the owner by SES, once, and of their
// own keys alone; the security team hears of users whose owner gets no mail. A notice
// about one key reaches its owner, too. A tag that is no address in the stack's domains,
// or would add to a mail's headers, has no mail sent anywhere.
func TestOwnersAreMailed(t *testing.T) {
	c := deployedStack(t)
	tagged := func(name, owner string) {
		t.Helper()
		if _, err := c.SeedAccount(t.Context(), Account{Senders: []string{"example.com"}, Users: []User{{UserName: name, Tags: map[string]string{"owner": owner}, AccessKeys: []AccessKey{{CreateDate: ago(200 * day)}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	tagged("mailed-one", "one@example.com")
	tagged("mailed-two", " Two@Example.com ")
	tagged("mailed-nobody", "team@evil.example.net")
	tagged("mailed-hostile", "one@example.com Bcc: two@example.com")
	if _, err := c.Mails(t.Context(), "", true); err != nil {
		t.Fatal(err)
	}
	c.Forget()
	c.begin(t, "AuditFunction", `{"notify": "always"}`) // as the schedule does: what it answers goes to digest
	team := c.published(t, "digest")                    // the last thing that digest sends
	mails, err := c.Mails(t.Context(), "", true)
	if err != nil {
		t.Fatal(err)
	}
	to := map[string]Mail{}
	for _, m := range mails {
		if strings.Contains(m.Text, "mailed-") { // the others' users are earlier tests'
			to[strings.Join(m.To, ",")] = m
		}
	}
	one, two := to["one@example.com"], to["two@example.com"]
	if len(to) != 2 || one.From != "iamkeys@example.com" || !strings.Contains(one.Text, "mailed-one") || strings.Contains(one.Text, "mailed-two") || !strings.Contains(two.Text, "mailed-two") {
		t.Fatalf("owners got %+v", mails)
	}
	if text := team.Text("email"); !strings.Contains(text, "mailed-nobody") || !strings.Contains(text, "mailed-hostile") || strings.Contains(text, "mailed-one") {
		t.Errorf("the security team got %s", text)
	}
	// The next run finds the same, and nobody is told again.
	c.Forget()
	run := must[struct{ Report json.RawMessage }](t, c.invoke(t, "AuditFunction", `{"notify": "changes"}`))
	again := must[struct{ Sent, Unowned, Failed int }](t, c.invoke(t, "DigestFunction", `{"report": %s}`, run.Report))
	if again.Sent != 0 || again.Failed != 0 || again.Unowned < 2 || len(c.Published()) != 0 {
		t.Errorf("the same again: %+v, %d messages", again, len(c.Published()))
	}
	must[any](t, c.invoke(t, "NotifyFunction", `{"stage": "warning", "retirement": {"userName": "mailed-one", "accessKeyId": "AKIAIOSFODNN7EXAMPLE", "owner": "one@example.com", "idleDays": 104, "power": null,
		"quietHours": 2400, "noticeSeconds": 950400, "finalSeconds": 259200, "waitSeconds": 0, "soakDays": 90}}`))
	mails, err = c.Mails(t.Context(), "", true)
	if err != nil || len(mails) != 1 || !slices.Equal(mails[0].To, []string{"one@example.com"}) || !strings.Contains(mails[0].Text, "iamkeys:exempt-until") {
		t.Errorf("the warning: %v, %+v", err, mails)
	}
}
