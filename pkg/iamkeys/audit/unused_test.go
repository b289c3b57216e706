package audit_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func retirer(p *iamkeystest.Process) audit.FindUnused {
	names := iamkeys.SecretNames{Prefix: "iamkeys/", ARN: "arn:aws:secretsmanager:eu-west-1:" + p.ID + ":secret"}
	return audit.FindUnused{
		Nominator: audit.Nominator{Inventory: takeInventory(p), StepFunctions: p, SecretsManager: p, Secrets: names, OwnerTag: "owner", Most: 10, Now: p.Now},
		Rule:      iamkeys.RetirementRule{UserPath: "/", AfterDays: 100, Secrets: names},
	}
}

// idleUser makes a user with a key that was used that long ago.
func idleUser(a *iamkeystest.Account, name string, idle time.Duration, tags ...iamkeys.Tag) string {
	a.AddUser(name, tags...)
	id := a.AddKey(name, 400*day)
	a.UsedAgo(id, idle, "s3", "")
	return id
}

func TestUnused(t *testing.T) {
	const enough = 100*day + 6*time.Hour // what IAM may not show yet counts as use
	tag := func(key, value string) iamkeys.Tag { return iamkeys.Tag{Key: key, Value: value} }
	until := iamkeystest.Epoch.Add(10 * day).Format(time.DateOnly)
	retirement := func(a *iamkeystest.Account, name string, status iamkeys.ExecutionStatus, output string) {
		e := iamkeys.Execution{Workflow: iamkeys.RetirementWorkflow, Name: name, Status: status, Started: a.Now().Add(-5 * day), Stopped: a.Now().Add(-3 * day)}
		if output != "" {
			e.Output = json.RawMessage(output)
		}
		if e.Unfinished() {
			e.Stopped = time.Time{}
		}
		a.SetExecution(e)
	}
	started, stopped := iamkeystest.Epoch.Add(-5*day), iamkeystest.Epoch.Add(-3*day)
	for _, c := range []struct {
		name  string
		setup func(a *iamkeystest.Account)
		want  audit.SkipReason // "unused" for nominated, "" for neither
		date  time.Time
	}{
		{name: "idle long enough", setup: func(a *iamkeystest.Account) { idleUser(a, user, enough) }, want: "unused"},
		{name: "used a second too lately", setup: func(a *iamkeystest.Account) { idleUser(a, user, enough-time.Second) }},
		{name: "never used", setup: func(a *iamkeystest.Account) { a.AddUser(user); a.AddKey(user, enough) }, want: "unused"},
		{name: "never used, and young", setup: func(a *iamkeystest.Account) { a.AddUser(user); a.AddKey(user, 99*day) }},
		{name: "off already", setup: func(a *iamkeystest.Account) { a.SetStatus(user, idleUser(a, user, enough), iamkeys.Inactive) }},
		{name: "opted into rotation", setup: func(a *iamkeystest.Account) { idleUser(a, user, enough, tag("iamkeys:rotate", "on")) }, want: "unused"},
		{name: "exempt", setup: func(a *iamkeystest.Account) {
			idleUser(a, user, enough, tag("iamkeys:exempt-until", until), tag("iamkeys:exempt-reason", "half-yearly"))
		}, want: audit.SkipExempt},
		{name: "an exemption without a reason", setup: func(a *iamkeystest.Account) { idleUser(a, user, enough, tag("iamkeys:exempt-until", until)) }, want: "unused"},
		{name: "protected", setup: func(a *iamkeystest.Account) { idleUser(a, user, enough, tag("iamkeys:protect", "no")) }, want: audit.SkipProtected},
		{name: "another path", setup: func(a *iamkeystest.Account) { idleUser(a, user, enough); a.Move(user, "/elsewhere/") }, want: audit.SkipPath},
		{name: "exposed", setup: func(a *iamkeystest.Account) {
			idleUser(a, user, enough)
			a.Attach(user, "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV2")
		}, want: audit.SkipExposed},
		{name: "somebody's replacement", setup: func(a *iamkeystest.Account) {
			a.Deliver("iamkeys/ci-deploy/access-key", user, idleUser(a, user, enough))
			a.UsedAgo(a.AddKey(user, 500*day), day, "s3", "")
		}, want: audit.SkipDelivered},
		{name: "delivered, and the only Active one", setup: func(a *iamkeystest.Account) {
			a.Deliver("iamkeys/ci-deploy/access-key", user, idleUser(a, user, enough))
		}, want: "unused"},
		{name: "rotating", setup: func(a *iamkeystest.Account) {
			idleUser(a, user, enough)
			other := a.AddKey(user, 200*day)
			a.UsedAgo(other, day, "s3", "")
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: other, Status: "RUNNING"})
		}, want: audit.SkipRotating},
		{name: "retiring", setup: func(a *iamkeystest.Account) { retirement(a, "retire-"+idleUser(a, user, enough), "RUNNING", "") }, want: audit.SkipRetiring, date: started},
		{name: "kept", setup: func(a *iamkeystest.Account) {
			retirement(a, "retire-"+idleUser(a, user, enough), "SUCCEEDED", `{"outcome":"kept","steps":{}}`)
		}, want: audit.SkipKept, date: stopped},
		{name: "kept when a person tried again", setup: func(a *iamkeystest.Account) {
			retirement(a, "retire-"+idleUser(a, user, enough)+"-again", "SUCCEEDED", `{"outcome":"kept"}`)
		}, want: audit.SkipKept, date: stopped},
		{name: "rolled back", setup: func(a *iamkeystest.Account) {
			retirement(a, "retire-"+idleUser(a, user, enough), "SUCCEEDED", `{"outcome":"rolledBack"}`)
		}, want: audit.SkipRolledBack, date: stopped},
		{name: "failed", setup: func(a *iamkeystest.Account) { retirement(a, "retire-"+idleUser(a, user, enough), "FAILED", "") }, want: audit.SkipFailed, date: stopped},
		{name: "an outcome that nobody knows", setup: func(a *iamkeystest.Account) {
			retirement(a, "retire-"+idleUser(a, user, enough), "SUCCEEDED", `{"outcome":"removed"}`)
		}, want: audit.SkipFailed, date: stopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := iamkeystest.NewAccount()
			c.setup(a)
			o := retirer(a.Start())
			if c.want == audit.SkipPath {
				o.Rule.UserPath = "/ci/"
			}
			out, err := o.Run(t.Context(), audit.UnusedInput{})
			if err != nil {
				t.Fatal(err)
			}
			got, date := audit.SkipReason(""), time.Time{}
			switch {
			case len(out.Retirements) > 0:
				got = "unused"
			case len(out.Skipped) > 0:
				s := out.Skipped[0]
				if got = s.Reason; s.Date != nil {
					date = *s.Date
				}
				if s.AccessKeyID == "" || s.UserName != user || out.SkippedCounts[got] != 1 {
					t.Errorf("skipped %+v, counts %v", s, out.SkippedCounts)
				}
			}
			if got != c.want || !date.Equal(c.date) || !out.Coverage.Complete {
				t.Errorf("got %q of %s, want %q of %s; coverage %+v", got, date, c.want, c.date, out.Coverage)
			}
		})
	}
}

// TestUnusedOrder: the longest idle first, one key of a user, as many as the limit says;
// who may do most is said.
func TestUnusedOrder(t *testing.T) {
	a := iamkeystest.NewAccount()
	for i := range 70 {
		idleUser(a, fmt.Sprintf("u-%02d", i), time.Duration(110+i)*day, iamkeys.Tag{Key: "owner", Value: "team-ci"})
	}
	second := a.AddKey("u-69", 300*day)
	a.Attach("u-69", "arn:aws:iam::aws:policy/AdministratorAccess")
	limit := 3
	out, err := retirer(a.Start()).Run(t.Context(), audit.UnusedInput{Limit: &limit})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range out.Retirements {
		got = append(got, fmt.Sprintf("%s %d %q %s", r.UserName, r.IdleDays, r.Power, *r.Owner))
	}
	equal(t, got, []string{`u-69 300 "admin" team-ci`, `u-68 178 "" team-ci`, `u-67 177 "" team-ci`})
	if out.Retirements[0].AccessKeyID != second || len(out.Skipped) != 50 || out.SkippedCounts[audit.SkipLimit] != 68 {
		t.Errorf("first %+v, %d skipped, counts %v", out.Retirements[0], len(out.Skipped), out.SkippedCounts)
	}
	for _, limit := range []int{0, 51} {
		wantCode(t, audit.UnusedInput{Limit: &limit}.Validate(), iamkeys.InvalidInput)
	}
}

// TestUnusedUnderFaults fails each call: what could not be read is never nominated, and is said.
func TestUnusedUnderFaults(t *testing.T) {
	for _, fault := range []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Unanswered, iamkeystest.Lost} {
		for n := 1; n < 16; n++ {
			a := iamkeystest.NewAccount()
			unused := idleUser(a, "unused", 200*day)
			used := idleUser(a, "used", day)
			a.Deliver("iamkeys/delivered/access-key", "delivered", idleUser(a, "delivered", 150*day))
			a.UsedAgo(a.AddKey("delivered", 500*day), day, "s3", "")
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RetirementWorkflow, Name: "retire-" + idleUser(a, "retiring", 300*day), Started: a.Now().Add(-10 * day)})
			p := a.Start()
			p.Fault = func(i int, _ string) iamkeystest.Fault {
				if i == n {
					return fault
				}
				return iamkeystest.None
			}
			out, err := retirer(p).Run(t.Context(), audit.UnusedInput{})
			if err != nil {
				continue
			}
			for _, r := range out.Retirements {
				if r.AccessKeyID != unused {
					t.Errorf("call %d %s: nominated %+v, %s is in use", n, fault, r, used)
				}
			}
			if len(out.Retirements) == 0 && out.Coverage.Complete {
				t.Errorf("call %d %s: nobody is nominated, and coverage is complete", n, fault)
			}
		}
	}
}

// TestUnusedStaysSmall: the output is a state of a workflow, whatever names and owners are.
func TestUnusedStaysSmall(t *testing.T) {
	a := iamkeystest.NewAccount()
	for i := range 150 {
		idleUser(a, fmt.Sprintf("%064d", i), 200*day, iamkeys.Tag{Key: "owner", Value: strings.Repeat("界", 256)})
	}
	limit := 50
	out, err := retirer(a.Start()).Run(t.Context(), audit.UnusedInput{Limit: &limit})
	if size := len(marshal(t, out)); err != nil || size > 32<<10 || len(out.Retirements) != 50 || out.SkippedCounts[audit.SkipLimit] != 100 {
		t.Errorf("%d bytes, %d retirements, counts %v, %v", size, len(out.Retirements), out.SkippedCounts, err)
	}
}
