package iamkeys_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func planner(p *iamkeystest.Process) iamkeys.Plan {
	return iamkeys.Plan{
		IAM: p, SecretsManager: p, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"}, OwnerTag: "owner",
		QuietHours: 168, PollHours: 6, MaxWaitDays: 30, SoakDays: 30, Now: p.Now,
	}
}

func TestPlan(t *testing.T) {
	type keys struct{ old, young string }
	// pair makes two keys, the younger one delivered or not.
	pair := func(a *iamkeystest.Account, old, young iamkeys.Status, deliver bool) keys {
		k := keys{a.AddKey(user, 80*day), a.AddKey(user, 10*day)}
		a.SetStatus(user, k.old, old)
		a.SetStatus(user, k.young, young)
		if deliver {
			a.Deliver(secret, user, k.young)
		}
		a.Advance(time.Hour)
		return k
	}
	for _, c := range []struct {
		name  string
		setup func(a *iamkeystest.Account) (in iamkeys.PlanInput, k keys)
		start iamkeys.Start
		want  iamkeys.Code
	}{
		{"one Active key", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			return iamkeys.PlanInput{UserName: user}, keys{old: a.AddKey(user, 80*day)}
		}, iamkeys.StartCreate, ""},
		{"one Active key, named", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := keys{old: a.AddKey(user, 80*day)}
			return iamkeys.PlanInput{UserName: user, AccessKeyID: k.old}, k
		}, iamkeys.StartCreate, ""},
		{"one Active key, delivered", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := keys{old: a.AddKey(user, 80*day)}
			a.Deliver(secret, user, k.old)
			return iamkeys.PlanInput{UserName: user}, k
		}, iamkeys.StartCreate, ""},
		{"two Active keys, the newer one delivered", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			return iamkeys.PlanInput{UserName: user}, pair(a, iamkeys.Active, iamkeys.Active, true)
		}, iamkeys.StartDeactivate, ""},
		{"two Active keys, the newer one delivered, the older one named", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := pair(a, iamkeys.Active, iamkeys.Active, true)
			return iamkeys.PlanInput{UserName: user, AccessKeyID: k.old}, k
		}, iamkeys.StartDeactivate, ""},
		{"two Active keys, the newer one delivered and named", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := pair(a, iamkeys.Active, iamkeys.Active, true)
			return iamkeys.PlanInput{UserName: user, AccessKeyID: k.young}, k
		}, "", iamkeys.LimitExceeded},
		{"an Inactive key named, the Active one delivered", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := pair(a, iamkeys.Inactive, iamkeys.Active, true)
			return iamkeys.PlanInput{UserName: user, AccessKeyID: k.old}, k
		}, iamkeys.StartSoak, ""},
		{"an Inactive key, not named", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			return iamkeys.PlanInput{UserName: user}, pair(a, iamkeys.Inactive, iamkeys.Active, true)
		}, "", iamkeys.LimitExceeded},
		{"an Inactive key named, the Active one not delivered", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := pair(a, iamkeys.Inactive, iamkeys.Active, false)
			return iamkeys.PlanInput{UserName: user, AccessKeyID: k.old}, k
		}, "", iamkeys.LimitExceeded},
		{"a younger Inactive key named, the Active one delivered", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := pair(a, iamkeys.Active, iamkeys.Inactive, false)
			a.Deliver(secret, user, k.old)
			return iamkeys.PlanInput{UserName: user, AccessKeyID: k.young}, keys{old: k.young, young: k.old}
		}, iamkeys.StartSoak, ""},
		{"three Active keys, the second one delivered", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := pair(a, iamkeys.Active, iamkeys.Active, true)
			a.AddKey(user, 0)
			return iamkeys.PlanInput{UserName: user}, k
		}, "", iamkeys.AmbiguousKeys},
		{"an Inactive key named, one of two Active ones delivered", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := pair(a, iamkeys.Inactive, iamkeys.Active, true)
			a.AddKey(user, 0)
			return iamkeys.PlanInput{UserName: user, AccessKeyID: k.old}, k
		}, "", iamkeys.AmbiguousKeys},
		{"two Inactive keys", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			return iamkeys.PlanInput{UserName: user}, pair(a, iamkeys.Inactive, iamkeys.Inactive, false)
		}, "", iamkeys.AmbiguousKeys},
		{"an Inactive key named, the only one", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := keys{old: a.AddKey(user, 80*day)}
			a.SetStatus(user, k.old, iamkeys.Inactive)
			return iamkeys.PlanInput{UserName: user, AccessKeyID: k.old}, k
		}, "", iamkeys.AmbiguousKeys},
		{"two Active keys, none delivered", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			return iamkeys.PlanInput{UserName: user}, pair(a, iamkeys.Active, iamkeys.Active, false)
		}, "", iamkeys.AmbiguousKeys},
		{"no key", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			return iamkeys.PlanInput{UserName: user}, keys{}
		}, "", iamkeys.AmbiguousKeys},
		{"a key named that is not the user's", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			a.AddKey(user, day)
			return iamkeys.PlanInput{UserName: user, AccessKeyID: "AKIANOBODYHASTHISKEY"}, keys{}
		}, "", iamkeys.NoSuchEntity},
		{"no such user", func(*iamkeystest.Account) (iamkeys.PlanInput, keys) {
			return iamkeys.PlanInput{UserName: "nobody"}, keys{}
		}, "", iamkeys.NoSuchEntity},
		{"a secret that iamkeys did not write", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			a.PutSecret(secret, "somebody-elses-version-of-this-secret")
			return iamkeys.PlanInput{UserName: user}, keys{old: a.AddKey(user, 80*day)}
		}, "", iamkeys.SecretInUse},
		{"a secret that iamkeys did not write, overwrite", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			a.PutSecret(secret, "somebody-elses-version-of-this-secret")
			return iamkeys.PlanInput{UserName: user, Overwrite: true}, keys{old: a.AddKey(user, 80*day)}
		}, iamkeys.StartCreate, ""},
		{"a secret scheduled for deletion", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := keys{old: a.AddKey(user, 80*day)}
			a.Deliver(secret, user, k.old)
			a.ScheduleDeletion(secret)
			return iamkeys.PlanInput{UserName: user}, k
		}, "", iamkeys.SecretUnavailable},
		{"no key, and a secret scheduled for deletion", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			a.PutSecret(secret, "somebody-elses-version-of-this-secret")
			a.ScheduleDeletion(secret)
			return iamkeys.PlanInput{UserName: user}, keys{}
		}, "", iamkeys.SecretUnavailable},
		{"the ARN of no secret", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := keys{old: a.AddKey(user, 80*day)}
			return iamkeys.PlanInput{UserName: user, SecretID: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/x-AbCdEf"}, k
		}, "", iamkeys.SecretUnavailable},
		{"a secret outside the prefix", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			return iamkeys.PlanInput{UserName: user, SecretID: "elsewhere/x"}, keys{}
		}, "", iamkeys.InvalidInput},
		{"a create that is at work", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := keys{old: a.AddKey(user, 80*day)}
			interrupt(t, a, k.old)
			return iamkeys.PlanInput{UserName: user}, k
		}, "", iamkeys.InProgress},
		{"a create that died", func(a *iamkeystest.Account) (iamkeys.PlanInput, keys) {
			k := keys{old: a.AddKey(user, 80*day)}
			interrupt(t, a, k.old)
			a.Advance(intentDies)
			return iamkeys.PlanInput{UserName: user}, k
		}, iamkeys.StartCreate, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := iamkeystest.NewAccount()
			a.AddUser(user, iamkeys.Tag{Key: "Owner", Value: "team-ci"})
			in, k := c.setup(a)
			before := a.Keys(user)
			p := a.Start()
			r, err := planner(p).Run(t.Context(), in)
			wantCode(t, err, c.want)
			if c.want == "" {
				if *r.Start != c.start || *r.AccessKeyID != k.old || *r.SecretID != secret || *r.Owner != "team-ci" {
					t.Errorf("got start %s of %s to %s, owner %s", *r.Start, *r.AccessKeyID, *r.SecretID, *r.Owner)
				}
				if hasNew := r.NewAccessKeyID != nil; hasNew != (c.start != iamkeys.StartCreate) || hasNew && *r.NewAccessKeyID != k.young {
					t.Errorf("got new key %v, want %q", r.NewAccessKeyID, k.young)
				}
				if r.Polls != 120 || r.RemindAtPoll != 60 || r.PollSeconds != 21600 || r.SoakSeconds != 2592000 || r.QuietHours != 168 {
					t.Errorf("got the waits %+v", r)
				}
			}
			if !slices.Equal(a.Keys(user), before) || slices.ContainsFunc(p.Calls, func(c string) bool {
				return !strings.Contains(c, ":Get") && !strings.Contains(c, ":List") && !strings.Contains(c, ":Describe")
			}) {
				t.Errorf("planning changed something: %v", p.Calls)
			}
		})
	}
}

// interrupt runs a create that dies right after it has noted which key it has made.
func interrupt(t *testing.T, a *iamkeystest.Account, replaces string) {
	t.Helper()
	p := a.Start()
	p.Fault = func(_ int, action string) iamkeystest.Fault {
		if action == "secretsmanager:UpdateSecretVersionStage" && p.Count("iam:CreateAccessKey") > 0 {
			return iamkeystest.DiesAfter
		}
		return iamkeystest.None
	}
	if !p.Run(func() { _, _ = creator(p).Run(t.Context(), iamkeys.CreateInput{UserName: user, Replaces: replaces}) }) {
		t.Fatal("the create did not die")
	}
}

// TestPlanWaits tries every border of the waits; nothing is called when they are refused.
func TestPlanWaits(t *testing.T) {
	for _, c := range []struct {
		quiet, poll, wait, soak int // 0: not in the input; -1: zero in the input
		field                   string
		polls, remind           int
	}{
		{quiet: 24, polls: 120, remind: 60},
		{quiet: 23, field: "quietHours"},
		{quiet: -1, field: "quietHours"},
		{quiet: 8760, polls: 120, remind: 60},
		{quiet: 8761, field: "quietHours"},
		{poll: 24, wait: 1, polls: 1, remind: 1},
		{poll: 25, wait: 1, field: "pollHours"},
		{poll: 7, wait: 1, polls: 4, remind: 2},
		{poll: 1, wait: 83, polls: 1992, remind: 996},
		{poll: 1, wait: 84, field: "pollHours"},
		{poll: -1, field: "pollHours"},
		{wait: -1, field: "maxWaitDays"},
		{soak: -1, field: "soakDays"},
		{wait: 300, soak: 65, polls: 1200, remind: 600},
		{wait: 300, soak: 66, field: "maxWaitDays"},
		{wait: 366, field: "maxWaitDays"},
		{poll: 100, wait: 25, soak: 340, polls: 6, remind: 3}, // six times 100 hours are 25 days
		{poll: 101, wait: 25, soak: 340, field: "maxWaitDays"},
		{poll: 4391, wait: 183, soak: 182, field: "maxWaitDays"},
	} {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		a.AddKey(user, 80*day)
		given := func(n int) *int {
			if n == 0 {
				return nil
			}
			return new(max(n, 0))
		}
		p := a.Start()
		r, err := planner(p).Run(t.Context(), iamkeys.PlanInput{UserName: user, QuietHours: given(c.quiet), PollHours: given(c.poll), MaxWaitDays: given(c.wait), SoakDays: given(c.soak)})
		if c.field != "" {
			if iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), c.field) || len(p.Calls) > 0 {
				t.Errorf("%+v: got %v after the calls %v, want InvalidInput naming %s and no call", c, err, p.Calls, c.field)
			}
			continue
		}
		if err != nil || r.Polls != c.polls || r.RemindAtPoll != c.remind {
			t.Errorf("%+v: got %+v, %v", c, r, err)
		}
	}
}
