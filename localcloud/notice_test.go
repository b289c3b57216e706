package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// What an audit finds reaches the owner by SES, once, and of their own keys alone; the
// security team hears of users whose owner gets no mail. A notice about one key reaches
// its owner, too. A tag that is no address in the stack's domains, or would add to a
// mail's headers, has no mail sent anywhere.
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
	report := must[struct {
		Report json.RawMessage
	}](t, c.invoke(t, "AuditFunction", `{"notify": "always"}`)).Report
	input, _ := json.Marshal(map[string]any{"report": report})
	digest := func() (sent, unowned, failed int, mails []Mail) {
		t.Helper()
		out := must[struct{ Sent, Unowned, Failed int }](t, c.invoke(t, "DigestFunction", string(input)))
		mails, err := c.Mails(t.Context(), "", true)
		if err != nil {
			t.Fatal(err)
		}
		return out.Sent, out.Unowned, out.Failed, mails
	}
	c.Forget()
	sent, unowned, failed, mails := digest()
	to := map[string]Mail{}
	for _, m := range mails {
		if len(m.To) == 1 {
			to[m.To[0]] = m
		}
	}
	one, two := to["one@example.com"], to["two@example.com"]
	if sent != 2 || failed != 0 || len(mails) != 2 || one.From != "iamkeys@example.com" || !strings.Contains(one.Text, "mailed-one") || strings.Contains(one.Text, "mailed-two") || !strings.Contains(two.Text, "mailed-two") {
		t.Fatalf("%d sent, %d failed: %+v", sent, failed, mails)
	}
	published := c.Published()
	if unowned < 2 || len(published) != 1 || !strings.Contains(published[0].Text("email"), "mailed-nobody") || !strings.Contains(published[0].Text("email"), "mailed-hostile") {
		t.Errorf("%d users without an owner, and the security team got %+v", unowned, published)
	}
	if sent, _, _, mails := digest(); sent != 0 || len(mails) != 0 {
		t.Errorf("the same again: %d sent: %+v", sent, mails)
	}
	must[any](t, c.invoke(t, "NotifyFunction", `{"stage": "warning", "retirement": {"userName": "mailed-one", "accessKeyId": "AKIAIOSFODNN7EXAMPLE", "owner": "one@example.com", "idleDays": 104, "power": null,
		"quietHours": 2400, "noticeSeconds": 950400, "finalSeconds": 259200, "waitSeconds": 0, "soakDays": 90}}`))
	mails, err := c.Mails(t.Context(), "", true)
	if err != nil || len(mails) != 1 || !slices.Equal(mails[0].To, []string{"one@example.com"}) || !strings.Contains(mails[0].Text, "iamkeys:exempt-until") {
		t.Errorf("the warning: %v, %+v", err, mails)
	}
}
