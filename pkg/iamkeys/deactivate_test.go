package iamkeys_test

import (
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func deactivator(p *iamkeystest.Process) iamkeys.Deactivate {
	return iamkeys.Deactivate{IAM: p, SecretsManager: p, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"}, QuietHours: 168, Now: p.Now, Log: quiet}
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
	off := func(a *iamkeystest.Account, in *iamkeys.DeactivateInput) {
		a.SetStatus(user, in.AccessKeyID, iamkeys.Inactive)
	}
	const lag = iamkeys.LastUsedLag
	for _, c := range []struct {
		name  string
		setup setup
		want  iamkeys.Code
	}{
		{"idle a second short of the quiet window and the lag", one(90*day, 7*day+lag-time.Second), iamkeys.KeyInUse},
		{"idle for the quiet window and the lag", one(90*day, 7*day+lag), ""},
		{"never used, young", one(7*day+lag-time.Second, -1), iamkeys.KeyInUse},
		{"never used, old enough", one(7*day+lag, -1), ""},
		{"a person insists", with(one(90*day, 0), func(_ *iamkeystest.Account, in *iamkeys.DeactivateInput) { in.QuietHours = new(0) }), ""},
		{"a person insists, and IAM's clock is ahead of ours", with(one(90*day, -time.Minute), func(a *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			a.UsedAgo(in.AccessKeyID, -time.Minute, "s3", "")
			in.QuietHours = new(0)
		}), ""},
		{"a shorter window asked for", with(one(90*day, 24*time.Hour+lag), func(_ *iamkeystest.Account, in *iamkeys.DeactivateInput) { in.QuietHours = new(24) }), ""},
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
		{"in use and not adopted, but off", with(pair(iamkeys.Active, true, 10*day, 0, ""), off), iamkeys.NotAdopted},
		{"not replaced, but off", with(pair(iamkeys.Inactive, true, 10*day, 9*day, "s3"), off), iamkeys.NotReplaced},
		{"a key that only IAM's index of keys knows (lists lag)", with(one(90*day, 30*day), func(a *iamkeystest.Account, _ *iamkeys.DeactivateInput) {
			a.ListLag = 100 * day
		}), iamkeys.InProgress},
		{"the user was renamed, and another one has its name", with(one(90*day, 30*day), func(a *iamkeystest.Account, _ *iamkeys.DeactivateInput) {
			a.RenameUser(user, "renamed")
			a.AddUser(user)
		}), iamkeys.NoSuchEntity},
		{"a key that is gone, where IAM denies what it does not know", with(one(90*day, 30*day), func(a *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			a.DeniesUnknown = true
			a.DeleteKey(user, in.AccessKeyID)
		}), iamkeys.NoSuchEntity},
		{"a user that is gone, where IAM denies what it does not know", with(one(90*day, 30*day), func(a *iamkeystest.Account, in *iamkeys.DeactivateInput) {
			a.DeniesUnknown = true
			a.RemoveUser(user)
		}), iamkeys.AccessDenied},
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
			if want := a.Now(); out.LastUsedDate != nil && !out.IdleSince.Equal(*out.LastUsedDate) || out.LastUsedDate == nil && !out.IdleSince.Before(want) {
				t.Errorf("idle since %v, last used %v", out.IdleSince, out.LastUsedDate)
			}
			if budget := map[bool]int{true: 5, false: 3}[in.ReplacedBy != ""]; len(p.Calls) > budget {
				t.Errorf("%d calls, the budget is %d: %v", len(p.Calls), budget, p.Calls)
			}
			a.Advance(time.Minute)
			again, err := deactivator(a.Start()).Run(t.Context(), in)
			if err != nil || again.Changed || again.Status != iamkeys.Inactive || !again.IdleSince.Equal(a.Now()) {
				t.Errorf("the same again: %+v, %v; want a success that changes nothing, idle since now", again, err)
			}
		})
	}
}

// KeyInUse tells who looks for the consumer where to look.
func TestKeyInUseNamesTheUse(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	id := a.AddKey(user, 90*day)
	a.UsedAgo(id, 2*time.Hour, "s3", "eu-west-1")
	_, err := deactivator(a.Start()).Run(t.Context(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: id})
	wantCode(t, err, iamkeys.KeyInUse)
	for _, want := range []string{user, id, "2026-11-23T07:00:00Z by s3 in eu-west-1", "idle for 2 h", "168 h", "6 h"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

// A job that is more regular than the quiet window keeps its key, however its uses
// fall between the attempts to switch it off, and however late IAM shows them.
func TestLastUseLags(t *testing.T) {
	for _, job := range []struct {
		every time.Duration
		quiet int // hours: no longer than the job's gap
	}{{7 * day, 168}, {day, 24}} {
		for _, lag := range []time.Duration{0, time.Hour, 4 * time.Hour, iamkeys.LastUsedLag} {
			for phase := range 72 {
				a := iamkeystest.NewAccount()
				a.LastUsedLag = lag
				a.AddUser(user)
				id := a.AddKey(user, 90*day)
				a.UsedAgo(id, job.every, "s3", "")
				next := a.Now()
				for poll := a.Now().Add(time.Duration(phase) * 5 * time.Minute); poll.Before(iamkeystest.Epoch.Add(3 * job.every)); poll = poll.Add(6 * time.Hour) {
					for ; !next.After(poll); next = next.Add(job.every) {
						a.Advance(next.Sub(a.Now()))
						if !a.Use(id, "s3", "") {
							t.Fatalf("every %v, lag %v, phase %d: the job was refused", job.every, lag, phase)
						}
					}
					a.Advance(poll.Sub(a.Now()))
					_, _ = deactivator(a.Start()).Run(t.Context(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: id, QuietHours: &job.quiet})
				}
				if got := status(a, id); got != iamkeys.Active {
					t.Errorf("every %v, lag %v, phase %d: the key is %s", job.every, lag, phase, got)
				}
			}
		}
	}
}

// What replaces a key: another one of the user's that is Active and used; delivered only
// where a secret is named; and what cannot be read is neither.
func TestReplacement(t *testing.T) {
	const look, use = "secretsmanager:DescribeSecret", "iam:GetAccessKeyLastUsed"
	for name, c := range map[string]struct {
		secretID string
		fails    string // the first call of that action
		how      iamkeystest.Fault
		change   func(a *iamkeystest.Account, replacing string)
		want     iamkeys.Code
		says     string
	}{
		"no secret is named, and none delivers it": {},
		"the secret delivers it":                   {secretID: secret, change: func(a *iamkeystest.Account, replacing string) { a.Deliver(secret, user, replacing) }},
		"the secret cannot be read":                {secretID: secret, fails: look, how: iamkeystest.Refused, want: iamkeys.AccessDenied, says: look},
		"the secret is throttled":                  {secretID: secret, fails: look, how: iamkeystest.Throttled, want: iamkeys.Throttled},
		"the secret does not answer":               {secretID: secret, fails: look, how: iamkeystest.Unanswered, want: iamkeys.Internal},
		"the secret does not exist":                {secretID: secret, want: iamkeys.NotReplaced, says: secret},
		"its last use does not answer":             {fails: use, how: iamkeystest.Unanswered, want: iamkeys.Internal},
		"it is gone":                               {change: func(a *iamkeystest.Account, replacing string) { a.DeleteKey(user, replacing) }, want: iamkeys.NotReplaced, says: "has no access key"},
		"it is gone, and the list still shows it": {change: func(a *iamkeystest.Account, replacing string) {
			a.DeleteKey(user, replacing)
			a.ListLag = 10 * time.Second
		}, want: iamkeys.NotReplaced, says: "has no access key"},
	} {
		for _, deletes := range []bool{false, true} {
			a := iamkeystest.NewAccount()
			a.AddUser(user)
			old, replacing := a.AddKey(user, 90*day), a.AddKey(user, 10*day)
			a.UsedAgo(replacing, day, "s3", "")
			if deletes {
				a.SetStatus(user, old, iamkeys.Inactive)
			}
			a.Advance(time.Minute)
			if c.change != nil {
				c.change(a, replacing)
			}
			p := a.Start()
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action == c.fails && p.Count(action) == 1 {
					return c.how
				}
				return iamkeystest.None
			}
			var err error
			if deletes {
				_, err = deleter(p).Run(t.Context(), iamkeys.DeleteInput{UserName: user, AccessKeyID: old, ReplacedBy: replacing, SecretID: c.secretID})
			} else {
				_, err = deactivator(p).Run(t.Context(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: old, ReplacedBy: replacing, SecretID: c.secretID})
			}
			if iamkeys.CodeOf(err) != c.want || err != nil && (!strings.Contains(err.Error(), c.says) || status(a, old) == "gone") {
				t.Errorf("%s, deletes %t: got %v, want %q saying %q; the key is %s", name, deletes, err, c.want, c.says, status(a, old))
			}
			if c.want == iamkeys.NotReplaced && !strings.Contains(err.Error(), old+" stays as it is") {
				t.Errorf("%s: %v does not say what becomes of %s", name, err, old)
			}
		}
	}

	a := iamkeystest.NewAccount()
	a.AddUser(user)
	a.AddKey(user, 10*day)
	_, err := deleter(a.Start()).Run(t.Context(), iamkeys.DeleteInput{UserName: user, AccessKeyID: "AKIANOBODYHASTHISKEY", ReplacedBy: "AKIANOBODYHASTHISTOO"})
	if iamkeys.CodeOf(err) != iamkeys.NotReplaced || !strings.Contains(err.Error(), "AKIANOBODYHASTHISKEY is gone already") {
		t.Errorf("got %v", err)
	}
}
