package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// What answersPath has of users is all that these tests' stack may change: the other
// tests' users are idle for long, too.
const answersPath = "/answers/"

// answeringStack is the stack with retirements that are carried out, a standing word to
// switch exposed keys off and mail for owners. No clock moves while a workflow waits, so
// every day is one to act.
func answeringStack(t *testing.T) *Cloud {
	t.Helper()
	c := deployedStack(t)
	c.configure(t, map[string]string{"RetirementMode": "apply", "RetireSoakDays": "2", "ActDays": "SUN-SAT", "ExposureMode": "deactivate", "UserPath": answersPath})
	if _, err := c.SeedAccount(t.Context(), Account{Senders: []string{"example.com"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mails(t.Context(), "", true); err != nil {
		t.Fatal(err)
	}
	c.Forget()
	return c
}

// mailed gives who got which mail by SES, as "to: subject", sorted, and forgets it.
func (c *Cloud) mailed(t *testing.T) (all []string) {
	t.Helper()
	mails, err := c.Mails(t.Context(), "", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mails {
		if m.From != demoSender || len(m.To) != 1 || m.Text == "" {
			t.Errorf("a mail from %s to %v has %d bytes of text", m.From, m.To, len(m.Text))
		}
		all = append(all, strings.Join(m.To, ",")+": "+m.Subject)
	}
	slices.Sort(all)
	return all
}

func TestAnswers(t *testing.T) {
	c := answeringStack(t)
	t.Run("retirement", func(t *testing.T) { testRetirement(t, c) })
	t.Run("exposure", func(t *testing.T) { testExposure(t, c) })
}

// testRetirement lets the schedule's workflow nominate and start retirements, with what
// people and consumers do meanwhile.
func testRetirement(t *testing.T, c *Cloud) {
	ctx := t.Context()
	client := iam.NewFromConfig(c.Config())
	idle := func(name, owner string, tags ...string) User {
		u := User{UserName: name, Path: answersPath, Tags: map[string]string{"owner": owner}, AccessKeys: []AccessKey{{CreateDate: ago(400 * day), LastUsedDate: ago(130 * day)}}}
		for i := 0; i < len(tags); i += 2 {
			u.Tags[tags[i]] = tags[i+1]
		}
		return u
	}
	outside := idle("retire-outside", "x@example.com")
	outside.Path = "/"
	made, err := c.Seed(ctx, idle("retire-used", "finance@example.com"), idle("retire-back", " storage@EXAMPLE.com "), idle("retire-gone", "a@example.com, b@example.com"),
		idle("retire-late", "boss@example.com.evil.example"), idle("retire-exempt", "x@example.com", "iamkeys:exempt-until", ago(-100*day).UTC().Format(time.DateOnly), "iamkeys:exempt-reason", "yearly"),
		idle("retire-protected", "x@example.com", "iamkeys:protect", "no"), outside)
	if err != nil {
		t.Fatal(err)
	}
	warned := c.subscribe(t, "retire-warned", map[string]string{"FilterPolicy": `{"kind": ["retirement"], "stage": ["warning"], "userName": ["retire-used"]}`})
	removed := c.subscribe(t, "retire-removed", map[string]string{"FilterPolicy": `{"kind": ["retirement"], "stage": ["removed"]}`})

	var mu sync.Mutex // retirements run side by side
	told := map[string][]string{}
	var failed []error
	c.OnPublish(func(m Message) {
		user, stage := m.Attributes["userName"], m.Attributes["stage"]
		var err error
		switch user + " " + stage {
		case "retire-used final":
			err = c.use(ctx, made[user][0])
		case "retire-late final":
			_, err = client.TagUser(ctx, &iam.TagUserInput{UserName: &user, Tags: []iamtypes.Tag{{Key: aws.String("iamkeys:exempt-until"), Value: aws.String(ago(-100 * day).UTC().Format(time.DateOnly))},
				{Key: aws.String("iamkeys:exempt-reason"), Value: aws.String("the last day")}}})
		case "retire-back retired":
			_, err = c.call(ctx, "ActivateFunction", fmt.Appendf(nil, `{"userName": %q, "accessKeyId": %q}`, user, made[user][0].AccessKeyID), nil)
		}
		mu.Lock()
		defer mu.Unlock()
		told[user] = append(told[user], stage)
		if err != nil {
			failed = append(failed, err)
		}
	})
	e, err := c.Execute(ctx, "RetireUnusedStateMachine", "", []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	ended(t, e, "SUCCEEDED", "")
	var out struct {
		Retirements   []struct{ UserName, AccessKeyID string }
		Skipped       []struct{ UserName, Reason string }
		SkippedCounts map[string]int
	}
	if err := json.Unmarshal(e.Output, &out); err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]string{"retire-used": "kept KeyInUse", "retire-late": "kept KeyExempt", "retire-back": "rolledBack KeyActive", "retire-gone": "removed"}
	if len(out.Retirements) != len(outcomes) {
		t.Errorf("nominated: %+v", out.Retirements)
	}
	if out.SkippedCounts["exempt"] < 1 || out.SkippedCounts["protected"] < 1 || out.SkippedCounts["outsideUserPath"] < 1 {
		t.Errorf("skipped: %v, %+v", out.SkippedCounts, out.Skipped)
	}
	machine, err := c.Resource("RetirementStateMachine")
	if err != nil {
		t.Fatal(err)
	}
	execution := func(r struct{ UserName, AccessKeyID string }) string {
		return strings.Replace(machine, ":stateMachine:", ":execution:", 1) + ":retire-" + r.AccessKeyID
	}
	for _, r := range out.Retirements {
		e, err := c.Wait(ctx, execution(r))
		if err != nil {
			t.Fatal(err)
		}
		ended(t, e, "SUCCEEDED", "")
		var got retired
		if err := json.Unmarshal(e.Output, &got); err != nil {
			t.Fatal(err)
		}
		said := got.Outcome
		if got.Reason != nil {
			said += " " + got.Reason.Name
		}
		if said != outcomes[r.UserName] {
			t.Errorf("%s: %s, want %s", r.UserName, said, outcomes[r.UserName])
		}
	}
	mu.Lock()
	for _, err := range failed {
		t.Error(err)
	}
	for user, stages := range map[string]string{
		"retire-used": "warning final kept", "retire-late": "warning final kept", "retire-back": "warning final retired rolledBack", "retire-gone": "warning final retired removed",
		"retire-exempt": "", "retire-protected": "", "retire-outside": "", "": "started",
	} {
		if got := strings.Join(told[user], " "); got != stages {
			t.Errorf("of %q was told %q, want %q", user, got, stages)
		}
	}
	mu.Unlock()
	for user := range made {
		want := map[string]string{made[user][0].AccessKeyID: "Active"}
		if user == "retire-gone" {
			want = map[string]string{}
		}
		if got := c.statuses(t, user); !maps.Equal(got, want) {
			t.Errorf("IAM has of %s %v, want %v", user, got, want)
		}
	}
	// The team's queue has what its filter asks for, and an owner what is about their key.
	body, attributes := c.receive(t, warned)
	if attributes["owner"] != "finance@example.com" || !strings.Contains(body, made["retire-used"][0].AccessKeyID) {
		t.Errorf("the queue got %v: %s", attributes, body)
	}
	if _, attributes := c.receive(t, removed); attributes["userName"] != "retire-gone" {
		t.Errorf("the queue of what is removed got %v", attributes)
	}
	count := map[string]int{}
	for _, m := range c.mailed(t) {
		to, subject, _ := strings.Cut(m, ": ")
		count[strings.ToLower(to)]++
		if user := map[string]string{"finance@example.com": "retire-used", "storage@example.com": "retire-back"}[strings.ToLower(to)]; user == "" || !strings.Contains(subject, user) {
			t.Errorf("mailed %s", m)
		}
	}
	if want := map[string]int{"finance@example.com": 3, "storage@example.com": 4}; !maps.Equal(count, want) {
		t.Errorf("owners got mails %v, want %v", count, want)
	}

	// The next run passes over what just ended, and begins nothing.
	c.Forget()
	e, err = c.Execute(ctx, "RetireUnusedStateMachine", "", []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	ended(t, e, "SUCCEEDED", "")
	out.SkippedCounts, out.Retirements = nil, nil
	if err := json.Unmarshal(e.Output, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Retirements) != 0 || out.SkippedCounts["rolledBack"] != 1 {
		t.Errorf("the next run: %+v, skipped %v", out.Retirements, out.SkippedCounts)
	}
}

// testExposure hands events of AWS Health to the workflow, as the rule does.
func testExposure(t *testing.T, c *Cloud) {
	ctx := t.Context()
	key := func(name, owner string, tags ...string) User {
		u := User{UserName: name, Path: answersPath, Tags: map[string]string{"owner": owner}, AccessKeys: []AccessKey{{CreateDate: ago(20 * day), LastUsedDate: ago(time.Minute)}}}
		for i := 0; i < len(tags); i += 2 {
			u.Tags[tags[i]] = tags[i+1]
		}
		return u
	}
	outside := key("leak-outside", "out@example.com")
	outside.Path = "/"
	made, err := c.Seed(ctx, key("leak-off", "mobile@example.com"), key("leak-protected", "safe@example.com", "iamkeys:protect", "yes"), outside, key("leak-suspected", "web@example.com"))
	if err != nil {
		t.Fatal(err)
	}
	id := func(user string) string { return made[user][0].AccessKeyID }
	const unknown, temporary = "AKIA00000000UNKNOWN0", "ASIA00000000TEMP0000"
	const exposedCode = "AWS_RISK_CREDENTIALS_EXPOSED"
	queue := c.subscribe(t, "leaks", map[string]string{"FilterPolicy": `{"kind": ["exposure"], "severity": ["critical"]}`})
	run := func(event []byte) []Message {
		t.Helper()
		c.Forget()
		e, err := c.Execute(ctx, "ExposureStateMachine", "", event)
		if err != nil {
			t.Fatal(err)
		}
		ended(t, e, "SUCCEEDED", "")
		return c.Published()
	}
	status := func(user, want string) {
		t.Helper()
		if got := c.statuses(t, user)[id(user)]; got != want {
			t.Errorf("the key of %s is %s, want %s", user, got, want)
		}
	}

	open := healthEvent("e2e-1", accountID, exposedCode, "open", time.Now(), id("leak-off"), id("leak-protected"), id("leak-outside"), unknown, temporary)
	notices := run(open)
	if len(notices) != 1 || notices[0].Attributes["stage"] != "exposed" {
		t.Fatalf("the notices are %+v", notices)
	}
	for _, told := range []string{id("leak-off"), id("leak-protected"), id("leak-outside"), unknown, temporary} {
		if !strings.Contains(notices[0].Text("email"), told) {
			t.Errorf("%s is not told:\n%s", told, notices[0].Text("email"))
		}
	}
	status("leak-off", "Inactive")
	status("leak-protected", "Active")
	status("leak-outside", "Active")
	if body, _ := c.receive(t, queue); !strings.Contains(body, id("leak-off")) {
		t.Errorf("the queue got %s", body)
	}
	owners := map[string]bool{}
	for _, m := range c.mailed(t) {
		to, _, _ := strings.Cut(m, ": ")
		owners[to] = true
	}
	if want := map[string]bool{"mobile@example.com": true, "safe@example.com": true, "out@example.com": true}; !maps.Equal(owners, want) {
		t.Errorf("mail went to %v, want %v", owners, want)
	}

	// Again, it tells nothing. What a person switches on again stays on, whatever AWS sends.
	if notices := run(open); len(notices) != 0 {
		t.Errorf("the same event again: %+v", notices)
	}
	must[map[string]any](t, c.invoke(t, "ActivateFunction", `{"userName": "leak-off", "accessKeyId": %q}`, id("leak-off")))
	run(healthEvent("e2e-2", accountID, exposedCode, "open", time.Now(), id("leak-off")))
	status("leak-off", "Active")
	// That it is over is told, once.
	over := healthEvent("e2e-1", accountID, exposedCode, "closed", time.Now(), id("leak-off"))
	if notices := run(over); len(notices) != 1 {
		t.Errorf("that the event is closed: %d notices", len(notices))
	}
	// Nor does a suspicion switch anything off, or a key in an account that is not ours.
	run(healthEvent("e2e-3", accountID, "AWS_RISK_CREDENTIALS_EXPOSURE_SUSPECTED", "open", time.Now(), id("leak-suspected")))
	status("leak-suspected", "Active")
	run(healthEvent("e2e-4", "210000000002", exposedCode, "open", time.Now(), id("leak-suspected")))
	status("leak-suspected", "Active")
}
