package iamkeys_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

const day = 24 * time.Hour

var quiet = slog.New(slog.DiscardHandler)

func deactivator(p *iamkeystest.Process) iamkeys.Deactivate {
	return iamkeys.Deactivate{IAM: p, SecretsManager: p, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"}, QuietHours: 168, Now: p.Now, Log: quiet}
}

func deleter(p *iamkeystest.Process) iamkeys.Delete {
	return iamkeys.Delete{IAM: p, SecretsManager: p, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"}, Log: quiet}
}

// wantCode fails unless err has that code; the empty code wants no error.
func wantCode(t *testing.T, err error, want iamkeys.Code) {
	t.Helper()
	if got := iamkeys.CodeOf(err); got != want {
		t.Errorf("got %v, want code %q", err, want)
	}
}

func status(a *iamkeystest.Account, id string) iamkeys.Status {
	for _, k := range a.Keys(user) {
		if k.AccessKeyID == id {
			return k.Status
		}
	}
	return "gone"
}

func TestList(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	list := iamkeys.List{IAM: a.Start(), Now: a.Now}
	out, err := list.Run(t.Context(), iamkeys.ListInput{UserName: user})
	if err != nil || out.AccessKeys == nil || len(out.AccessKeys) != 0 {
		t.Errorf("a user without keys: got %+v, %v; want an empty list", out, err)
	}
	young := a.AddKey(user, 2*day-time.Second)
	old := a.AddKey(user, 100*day)
	out, err = list.Run(t.Context(), iamkeys.ListInput{UserName: user})
	if err != nil || len(out.AccessKeys) != 2 || out.AccessKeys[0].AccessKeyID != old || out.AccessKeys[1].AccessKeyID != young {
		t.Fatalf("got %+v, %v; want %s before %s", out, err, old, young)
	}
	if got := out.AccessKeys[1].AgeDays; got != 1 {
		t.Errorf("a second short of two days is %d days, want 1", got)
	}
	_, err = list.Run(t.Context(), iamkeys.ListInput{UserName: "nobody"})
	wantCode(t, err, iamkeys.NoSuchEntity)
}

func TestLastUsed(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	a.AddUser("other")
	never, used, others := a.AddKey(user, 50*day), a.AddKey(user, 40*day), a.AddKey("other", day)
	a.UsedAgo(used, 3*day, "s3", "")
	find := func(in iamkeys.LastUsedInput) (iamkeys.LastUsedOutput, error) {
		return iamkeys.FindLastUsed{IAM: a.Start(), Now: a.Now}.Run(t.Context(), in)
	}
	out, err := find(iamkeys.LastUsedInput{UserName: user})
	if err != nil || len(out.AccessKeys) != 2 {
		t.Fatalf("got %+v, %v", out, err)
	}
	if k := out.AccessKeys[0]; k.AccessKeyID != never || !k.NeverUsed || k.LastUsedDate != nil || k.ServiceName != nil || k.IdleDays != 50 {
		t.Errorf("a key that was never used: %+v", k)
	}
	if k := out.AccessKeys[1]; k.AccessKeyID != used || k.NeverUsed || k.LastUsedDate == nil || *k.ServiceName != "s3" || k.Region != nil || k.IdleDays != 3 {
		t.Errorf("a key that was used: %+v", k)
	}
	if out, err = find(iamkeys.LastUsedInput{AccessKeyID: others}); err != nil || out.UserName != "other" || len(out.AccessKeys) != 1 {
		t.Errorf("by key ID alone: %+v, %v", out, err)
	}
	_, err = find(iamkeys.LastUsedInput{UserName: user, AccessKeyID: others})
	wantCode(t, err, iamkeys.NoSuchEntity)
	_, err = find(iamkeys.LastUsedInput{AccessKeyID: "AKIANOBODYHASTHISKEY"})
	wantCode(t, err, iamkeys.NoSuchEntity)

	// Promise 1: a read that fails is never "never used".
	p := a.Start()
	p.Fault = func(_ int, action string) iamkeystest.Fault {
		if action == "iam:GetAccessKeyLastUsed" {
			return iamkeystest.Unanswered
		}
		return iamkeystest.None
	}
	if out, err := (iamkeys.FindLastUsed{IAM: p, Now: a.Now}).Run(t.Context(), iamkeys.LastUsedInput{UserName: user}); err == nil {
		t.Errorf("last use could not be read, and the answer is %+v", out)
	}
}

func TestDeactivate(t *testing.T) {
	type setup func(a *iamkeystest.Account) iamkeys.DeactivateInput
	one := func(age, ago time.Duration) setup {
		return func(a *iamkeystest.Account) iamkeys.DeactivateInput {
			id := a.AddKey(user, age)
			if ago >= 0 {
				a.UsedAgo(id, ago, "s3", "eu-west-1")
			}
			return iamkeys.DeactivateInput{UserName: user, AccessKeyID: id}
		}
	}
	// pair gives an old, idle key and one that replaces it, last used like that.
	pair := func(status iamkeys.Status, deliver bool, newAge, ago time.Duration, service string) setup {
		return func(a *iamkeystest.Account) iamkeys.DeactivateInput {
			in := one(90*day, 30*day)(a)
			in.ReplacedBy, in.SecretID = a.AddKey(user, newAge), secret
			a.SetStatus(user, in.ReplacedBy, status)
			a.PutSecret(secret, "somebody-elses-version-of-this-secret")
			if deliver {
				a.Deliver(secret, user, in.ReplacedBy)
			}
			if service != "" {
				a.UsedAgo(in.ReplacedBy, ago, service, "")
			}
			return in
		}
	}
	with := func(s setup, change func(*iamkeystest.Account, *iamkeys.DeactivateInput)) setup {
		return func(a *iamkeystest.Account) iamkeys.DeactivateInput {
			in := s(a)
			change(a, &in)
			return in
		}
	}
	for _, c := range []struct {
		name  string
		setup setup
		want  iamkeys.Code
	}{
		{"idle a second short of the quiet window", one(90*day, 7*day-time.Second), iamkeys.KeyInUse},
		{"idle for the quiet window", one(90*day, 7*day), ""},
		{"never used, young", one(7*day-time.Second, -1), iamkeys.KeyInUse},
		{"never used, old enough", one(7*day, -1), ""},
		{"a person insists", with(one(90*day, 0), func(_ *iamkeystest.Account, in *iamkeys.DeactivateInput) { in.QuietHours = new(0) }), ""},
		{"a person insists, and IAM's clock is ahead of ours", with(one(90*day, -time.Minute), func(a *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			a.UsedAgo(in.AccessKeyID, -time.Minute, "s3", "")
			in.QuietHours = new(0)
		}), ""},
		{"a shorter window asked for", with(one(90*day, 25*time.Hour), func(_ *iamkeystest.Account, in *iamkeys.DeactivateInput) { in.QuietHours = new(24) }), ""},
		{"a longer window asked for", with(one(90*day, 10*day), func(_ *iamkeystest.Account, in *iamkeys.DeactivateInput) { in.QuietHours = new(480) }), iamkeys.KeyInUse},
		{"no such key", func(*iamkeystest.Account) iamkeys.DeactivateInput {
			return iamkeys.DeactivateInput{UserName: user, AccessKeyID: "AKIANOBODYHASTHISKEY"}
		}, iamkeys.NoSuchEntity},
		{"a status unknown to us", with(one(90*day, -1), func(a *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			a.SetStatus(user, in.AccessKeyID, "Suspended")
		}), iamkeys.Internal},

		{"replaced and adopted", pair(iamkeys.Active, true, 10*day, 9*day, "s3"), ""},
		{"replaced by an Inactive key", pair(iamkeys.Inactive, true, 10*day, 9*day, "s3"), iamkeys.NotReplaced},
		{"replaced by a key that is not delivered", pair(iamkeys.Active, false, 10*day, 9*day, "s3"), iamkeys.NotReplaced},
		{"replaced by a key without its secret", with(pair(iamkeys.Active, true, 10*day, 9*day, "s3"), func(_ *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			in.SecretID = "iamkeys/elsewhere"
		}), iamkeys.NotReplaced},
		{"replaced by a key that is gone", with(pair(iamkeys.Active, true, 10*day, 9*day, "s3"), func(a *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			a.DeleteKey(user, in.ReplacedBy)
		}), iamkeys.NotReplaced},
		{"replaced by itself", with(pair(iamkeys.Active, true, 10*day, 9*day, "s3"), func(_ *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			in.ReplacedBy, in.SecretID = in.AccessKeyID, ""
		}), iamkeys.NotReplaced},
		{"the replacing key was never used", pair(iamkeys.Active, true, 10*day, 0, ""), iamkeys.NotAdopted},
		{"only the probe used it", pair(iamkeys.Active, true, 10*day, 10*day-time.Minute, "sts"), iamkeys.NotAdopted},
		{"sts used it at one hour", pair(iamkeys.Active, true, 10*day, 10*day-time.Hour, "sts"), iamkeys.NotAdopted},
		{"sts used it after one hour", pair(iamkeys.Active, true, 10*day, 10*day-time.Hour-time.Second, "sts"), ""},
		{"s3 used it at once", pair(iamkeys.Active, true, 10*day, 10*day, "s3"), ""},
		{"in use and not adopted", with(pair(iamkeys.Active, true, 10*day, 0, ""), func(a *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			a.UsedAgo(in.AccessKeyID, time.Hour, "s3", "")
		}), iamkeys.KeyInUse},
		{"in use and not replaced", with(pair(iamkeys.Inactive, true, 10*day, 0, ""), func(a *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			a.UsedAgo(in.AccessKeyID, time.Hour, "s3", "")
		}), iamkeys.NotReplaced},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := iamkeystest.NewAccount()
			a.AddUser(user)
			in := c.setup(a)
			p := a.Start()
			before := status(a, in.AccessKeyID)
			out, err := deactivator(p).Run(t.Context(), in)
			wantCode(t, err, c.want)
			if c.want != "" {
				if got := status(a, in.AccessKeyID); got != before {
					t.Errorf("refused, but the key is %s", got)
				}
				return
			}
			if got := status(a, in.AccessKeyID); got != iamkeys.Inactive || out.Status != iamkeys.Inactive || !out.Changed {
				t.Errorf("the key is %s, the answer %+v", got, out)
			}
			if budget := map[bool]int{true: 5, false: 3}[in.ReplacedBy != ""]; len(p.Calls) > budget {
				t.Errorf("%d calls, the budget is %d: %v", len(p.Calls), budget, p.Calls)
			}
			again, err := deactivator(a.Start()).Run(t.Context(), in)
			if err != nil || again.Changed || again.Status != iamkeys.Inactive {
				t.Errorf("the same again: %+v, %v; want a success that changes nothing", again, err)
			}
		})
	}
}

func TestActivate(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	id := a.AddKey(user, day)
	a.SetStatus(user, id, iamkeys.Inactive)
	for _, changed := range []bool{true, false} {
		p := a.Start()
		out, err := iamkeys.Activate{IAM: p, Log: quiet}.Run(t.Context(), iamkeys.ActivateInput{UserName: user, AccessKeyID: id})
		if err != nil || out.Changed != changed || status(a, id) != iamkeys.Active || len(p.Calls) > 2 {
			t.Errorf("got %+v, %v with calls %v; want changed %t", out, err, p.Calls, changed)
		}
	}
	a.SetStatus(user, id, "Suspended")
	_, err := iamkeys.Activate{IAM: a.Start(), Log: quiet}.Run(t.Context(), iamkeys.ActivateInput{UserName: user, AccessKeyID: id})
	wantCode(t, err, iamkeys.Internal)
	_, err = iamkeys.Activate{IAM: a.Start(), Log: quiet}.Run(t.Context(), iamkeys.ActivateInput{UserName: user, AccessKeyID: "AKIANOBODYHASTHISKEY"})
	wantCode(t, err, iamkeys.NoSuchEntity)
}

func TestDelete(t *testing.T) {
	for _, c := range []struct {
		name      string
		status    iamkeys.Status
		replacing iamkeys.Status // "" for none
		delivered bool
		want      iamkeys.Code
	}{
		{"Inactive", iamkeys.Inactive, "", false, ""},
		{"Expired", iamkeys.Expired, "", false, ""},
		{"Active", iamkeys.Active, "", false, iamkeys.KeyActive},
		{"a status unknown to us", "Suspended", "", false, iamkeys.KeyActive},
		{"replaced", iamkeys.Inactive, iamkeys.Active, true, ""},
		{"replaced by an Inactive key", iamkeys.Inactive, iamkeys.Inactive, true, iamkeys.NotReplaced},
		{"replaced by an undelivered key", iamkeys.Inactive, iamkeys.Active, false, iamkeys.NotReplaced},
		{"Active and not replaced", iamkeys.Active, iamkeys.Inactive, true, iamkeys.KeyActive},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := iamkeystest.NewAccount()
			a.AddUser(user)
			in := iamkeys.DeleteInput{UserName: user, AccessKeyID: a.AddKey(user, 90*day)}
			a.SetStatus(user, in.AccessKeyID, c.status)
			if c.replacing != "" {
				in.ReplacedBy, in.SecretID = a.AddKey(user, day), secret
				a.PutSecret(secret, "somebody-elses-version-of-this-secret")
				a.SetStatus(user, in.ReplacedBy, c.replacing)
				if c.delivered {
					a.Deliver(secret, user, in.ReplacedBy)
				}
			}
			p := a.Start()
			out, err := deleter(p).Run(t.Context(), in)
			wantCode(t, err, c.want)
			if gone := status(a, in.AccessKeyID) == "gone"; gone != (c.want == "") || out.Deleted != gone || len(p.Calls) > 4 {
				t.Errorf("gone: %t, answer %+v, calls %v", gone, out, p.Calls)
			}
			if c.want == "" {
				again, err := deleter(a.Start()).Run(t.Context(), in)
				if err != nil || again.Deleted {
					t.Errorf("the same again: %+v, %v; want a success that deletes nothing", again, err)
				}
			}
		})
	}
	_, err := deleter(iamkeystest.NewAccount().Start()).Run(t.Context(), iamkeys.DeleteInput{UserName: "nobody", AccessKeyID: "AKIANOBODYHASTHISKEY"})
	wantCode(t, err, iamkeys.NoSuchEntity)
}

// TestGuardsUnderFaults fails each call of deactivate and delete in every way:
// whatever fails, a key in use stays on, and nothing Active is deleted.
func TestGuardsUnderFaults(t *testing.T) {
	for _, fault := range iamkeystest.Faults {
		for n := 1; n <= 5; n++ {
			a := iamkeystest.NewAccount()
			a.AddUser(user)
			inUse, replacing := a.AddKey(user, 90*day), a.AddKey(user, 10*day)
			a.Deliver(secret, user, replacing)
			a.UsedAgo(replacing, time.Hour, "s3", "")
			a.UsedAgo(inUse, time.Hour, "s3", "")
			faulty := func() *iamkeystest.Process {
				p := a.Start()
				p.Fault = func(i int, _ string) iamkeystest.Fault {
					if i == n {
						return fault
					}
					return iamkeystest.None
				}
				return p
			}
			p := faulty()
			p.Run(func() {
				_, _ = deactivator(p).Run(context.Background(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: inUse, ReplacedBy: replacing, SecretID: secret})
			})
			p = faulty()
			p.Run(func() {
				_, _ = deleter(p).Run(context.Background(), iamkeys.DeleteInput{UserName: user, AccessKeyID: inUse, ReplacedBy: replacing, SecretID: secret})
			})
			if got := status(a, inUse); got != iamkeys.Active {
				t.Errorf("call %d %s: the key in use is %s", n, fault, got)
			}
		}
	}
}

func TestSecretNames(t *testing.T) {
	names := iamkeys.SecretNames{Prefix: "iamkeys/"}
	if got, want := names.Default("a,b=c+d@e.f-g_h"), "iamkeys/a=2Cb=3Dc+d@e.f-g_h/access-key"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	rapid.Check(t, func(rt *rapid.T) {
		userName := rapid.StringMatching(`[A-Za-z0-9_+=,.@-]{1,64}`)
		a, b := userName.Draw(rt, "a"), userName.Draw(rt, "b")
		if (a == b) != (names.Default(a) == names.Default(b)) {
			rt.Errorf("users %s and %s have the secrets %s and %s", a, b, names.Default(a), names.Default(b))
		}
		if strings.Contains(names.Default(a), ",") {
			rt.Errorf("%s holds a comma", names.Default(a))
		}
	})
}

// TestCreateSecretID tries what may be named as secretId, in the input and in
// the user's tag.
func TestCreateSecretID(t *testing.T) {
	arn := "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/x-AbCdEf"
	for _, c := range []struct {
		secretID string
		want     iamkeys.Code
	}{
		{"iamkeys/team/x", ""},
		{"iamkeys/", iamkeys.InvalidInput},
		{"elsewhere/x", iamkeys.InvalidInput},
		{"iamkeys/a,b", iamkeys.InvalidInput},
		{"iamkeys/x-AbCdEf", iamkeys.InvalidInput},
		{strings.Replace(arn, "iamkeys/", "elsewhere/", 1), iamkeys.InvalidInput},
		{arn, iamkeys.SecretUnavailable}, // there is none, and an ARN cannot be created
	} {
		for _, tagged := range []bool{false, true} {
			a := iamkeystest.NewAccount()
			in := iamkeys.CreateInput{UserName: user}
			if tagged {
				a.AddUser(user, iamkeys.Tag{Key: "IAMKEYS:Secret", Value: c.secretID})
			} else {
				a.AddUser(user)
				in.SecretID = c.secretID
			}
			p := a.Start()
			out, err := creator(p).Run(t.Context(), in)
			wantCode(t, err, c.want)
			if c.want == "" && a.Held(c.secretID) != out.AccessKeyID {
				t.Errorf("secret %s holds %q, want %s", c.secretID, a.Held(c.secretID), out.AccessKeyID)
			}
			if c.want == iamkeys.InvalidInput && !tagged && len(p.Calls) > 0 {
				t.Errorf("%s: called %v before the input was refused", c.secretID, p.Calls)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	const id = "AKIAIOSFODNN7EXAMPLE"
	long := strings.Repeat("a", 129)
	for _, c := range []struct {
		in    interface{ Validate() error }
		field string // "" when the input is fine
	}{
		{iamkeys.ListInput{UserName: "a"}, ""},
		{iamkeys.ListInput{UserName: long[:128]}, ""},
		{iamkeys.ListInput{UserName: "all+of=these,are@fine.in_a-name"}, ""},
		{iamkeys.ListInput{}, "userName"},
		{iamkeys.ListInput{UserName: long}, "userName"},
		{iamkeys.ListInput{UserName: "a b"}, "userName"},
		{iamkeys.ListInput{UserName: "path/name"}, "userName"},
		{iamkeys.ListInput{UserName: "müller"}, "userName"},
		{iamkeys.ListInput{UserName: "a\n"}, "userName"},
		{iamkeys.LastUsedInput{}, "userName"},
		{iamkeys.LastUsedInput{AccessKeyID: id}, ""},
		{iamkeys.LastUsedInput{AccessKeyID: id[:15]}, "accessKeyId"},
		{iamkeys.CreateInput{UserName: "a", Replaces: "AKIA-not-an-ID-but-long"}, "replaces"},
		{iamkeys.DeactivateInput{UserName: "a"}, "accessKeyId"},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, QuietHours: new(-1)}, "quietHours"},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, QuietHours: new(8761)}, "quietHours"},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, QuietHours: new(8760)}, ""},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, ReplacedBy: "x"}, "replacedBy"},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, SecretID: "iamkeys/x"}, "secretId"},
		{iamkeys.ActivateInput{UserName: "a", AccessKeyID: strings.Repeat("A", 129)}, "accessKeyId"},
		{iamkeys.DeleteInput{UserName: "a", AccessKeyID: id, ReplacedBy: "x"}, "replacedBy"},
	} {
		err := c.in.Validate()
		if c.field == "" && err != nil || c.field != "" && (iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), c.field)) {
			t.Errorf("%+v: got %v, want InvalidInput naming %q", c.in, err, c.field)
		}
	}
}
