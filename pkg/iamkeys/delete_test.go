package iamkeys_test

import (
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func deleter(p *iamkeystest.Process) iamkeys.Delete {
	return iamkeys.Delete{IAM: p, SecretsManager: p, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"}, Log: quiet}
}

func TestDelete(t *testing.T) {
	type change func(a *iamkeystest.Account, in *iamkeys.DeleteInput)
	set := func(status iamkeys.Status) change {
		return func(a *iamkeystest.Account, in *iamkeys.DeleteInput) { a.SetStatus(user, in.AccessKeyID, status) }
	}
	// by gives the key another one that replaces it, last used so long ago by that service.
	by := func(status iamkeys.Status, delivered bool, ago time.Duration, service string) change {
		return func(a *iamkeystest.Account, in *iamkeys.DeleteInput) {
			in.ReplacedBy, in.SecretID = a.AddKey(user, 10*day), secret
			a.PutSecret(secret, "somebody-elses-version-of-this-secret")
			a.SetStatus(user, in.ReplacedBy, status)
			if delivered {
				a.Deliver(secret, user, in.ReplacedBy)
			}
			if service != "" {
				a.UsedAgo(in.ReplacedBy, ago, service, "")
			}
		}
	}
	replaced := by(iamkeys.Active, true, day, "s3")
	used := func(ago time.Duration) change {
		return func(a *iamkeystest.Account, in *iamkeys.DeleteInput) {
			a.UsedAgo(in.AccessKeyID, ago, "s3", "eu-west-1")
		}
	}
	idle := func(ago time.Duration) change {
		return func(a *iamkeystest.Account, in *iamkeys.DeleteInput) { in.IdleSince = new(a.Now().Add(-ago)) }
	}
	unread := func(a *iamkeystest.Account, in *iamkeys.DeleteInput) { a.DeniesUnknown = true }
	gone := func(a *iamkeystest.Account, in *iamkeys.DeleteInput) { a.DeleteKey(user, in.AccessKeyID) }
	renamed := func(a *iamkeystest.Account, _ *iamkeys.DeleteInput) { a.RenameUser(user, "renamed") }
	remade := func(a *iamkeystest.Account, _ *iamkeys.DeleteInput) { a.AddUser(user) }
	removed := func(a *iamkeystest.Account, _ *iamkeys.DeleteInput) { a.RemoveUser(user) }
	for _, c := range []struct {
		name    string
		changes []change
		want    iamkeys.Code
		gone    bool // answered
	}{
		{"Inactive", nil, "", false},
		{"Expired", []change{set(iamkeys.Expired)}, "", false},
		{"Active", []change{set(iamkeys.Active)}, iamkeys.KeyActive, false},
		{"a status unknown to us", []change{set("Suspended")}, iamkeys.KeyActive, false},
		{"replaced", []change{replaced}, "", false},
		{"replaced by an Inactive key", []change{by(iamkeys.Inactive, true, day, "s3")}, iamkeys.NotReplaced, false},
		{"replaced by an undelivered key", []change{by(iamkeys.Active, false, day, "s3")}, iamkeys.NotReplaced, false},
		{"replaced by a key that nobody used", []change{by(iamkeys.Active, true, 0, "")}, iamkeys.NotAdopted, false},
		{"replaced by a key that only the probe used", []change{by(iamkeys.Active, true, 10*day-time.Minute, "sts")}, iamkeys.NotAdopted, false},
		{"Active and not replaced", []change{by(iamkeys.Inactive, true, day, "s3"), set(iamkeys.Active)}, iamkeys.KeyActive, false},
		{"not adopted and used", []change{by(iamkeys.Active, true, 0, ""), idle(day), used(time.Hour)}, iamkeys.NotAdopted, false},
		{"idle since then", []change{idle(day), used(day)}, "", false},
		{"idle since then, never used", []change{idle(day)}, "", false},
		{"used a second later", []change{idle(day), used(day - time.Second)}, iamkeys.KeyInUse, false},
		{"used later, and nobody asks", []change{used(time.Hour)}, "", false},
		{"gone", []change{gone}, "", true},
		{"gone, where IAM denies what it does not know", []change{gone, unread}, "", true},
		{"gone, idle since then", []change{idle(day), gone}, "", true},
		{"gone, and replaced", []change{replaced, gone}, "", true},
		{"gone, and the replacing key is not delivered", []change{by(iamkeys.Active, false, day, "s3"), gone}, iamkeys.NotReplaced, false},
		{"gone, and nobody used the replacing key", []change{by(iamkeys.Active, true, 0, ""), gone}, iamkeys.NotAdopted, false},
		{"gone, and the replacing key too", []change{replaced, func(a *iamkeystest.Account, in *iamkeys.DeleteInput) { a.DeleteKey(user, in.ReplacedBy) }, gone}, iamkeys.NotReplaced, false},
		{"the user is gone", []change{removed}, iamkeys.NoSuchEntity, false},
		{"the user is gone, where IAM denies what it does not know", []change{removed, unread}, iamkeys.AccessDenied, false},
		{"the user was renamed", []change{renamed}, iamkeys.NoSuchEntity, false},
		{"the user was renamed, and another one has its name", []change{renamed, remade}, iamkeys.NoSuchEntity, false},
		{"the user was deleted, and another one has its name", []change{removed, remade}, "", true},
		{"the key is not listed yet", []change{func(a *iamkeystest.Account, _ *iamkeys.DeleteInput) { a.ListLag = 100 * day }}, iamkeys.InProgress, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := iamkeystest.NewAccount()
			a.AddUser(user)
			in := iamkeys.DeleteInput{UserName: user, AccessKeyID: a.AddKey(user, 90*day)}
			a.SetStatus(user, in.AccessKeyID, iamkeys.Inactive)
			for _, change := range c.changes {
				change(a, &in)
			}
			exists := func() bool { return status(a, in.AccessKeyID) != "gone" }
			before := exists()

			in.Check = true
			p := a.Start()
			out, err := deleter(p).Run(t.Context(), in)
			wantCode(t, err, c.want)
			if out.Deleted || out.Gone != c.gone || exists() != before || p.Count("iam:DeleteAccessKey") > 0 {
				t.Errorf("a look answers %+v after %v; the key is there: %t", out, p.Calls, exists())
			}
			in.Check = false
			p = a.Start()
			out, err = deleter(p).Run(t.Context(), in)
			wantCode(t, err, c.want)
			deleted := c.want == "" && !c.gone
			if out.Deleted != deleted || out.Gone != c.gone || exists() != (before && !deleted) || len(p.Calls) > 5 {
				t.Errorf("answer %+v after %v; the key is there: %t", out, p.Calls, exists())
			}
			if deleted {
				if last := p.Calls[len(p.Calls)-2:]; last[0] != "iam:ListAccessKeys" || last[1] != "iam:DeleteAccessKey" {
					t.Errorf("between the look and the deletion came other calls: %v", p.Calls)
				}
				again, err := deleter(a.Start()).Run(t.Context(), in)
				if err != nil || again.Deleted || !again.Gone {
					t.Errorf("the same again: %+v, %v; want a success that deletes nothing", again, err)
				}
			}
		})
	}
	_, err := deleter(iamkeystest.NewAccount().Start()).Run(t.Context(), iamkeys.DeleteInput{UserName: "nobody", AccessKeyID: "AKIANOBODYHASTHISKEY"})
	wantCode(t, err, iamkeys.NoSuchEntity)
}

// What IAM shows of last use after a key was switched off decides whether it is
// deleted: a use shortly before, or since, keeps it.
func TestSoakIsWhole(t *testing.T) {
	setup := func() (a *iamkeystest.Account, id string, off func() time.Time) {
		a = iamkeystest.NewAccount()
		a.LastUsedLag = iamkeys.LastUsedLag
		a.AddUser(user)
		id = a.AddKey(user, 90*day)
		return a, id, func() time.Time {
			out, err := deactivator(a.Start()).Run(t.Context(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: id})
			if err != nil || !out.Changed {
				t.Fatalf("not switched off: %+v, %v", out, err)
			}
			return out.IdleSince
		}
	}
	t.Run("used three hours before it was switched off, shown after", func(t *testing.T) {
		a, id, off := setup()
		a.Use(id, "s3", "eu-west-1")
		a.Advance(3 * time.Hour)
		since := off()
		a.Advance(30 * day)
		_, err := deleter(a.Start()).Run(t.Context(), iamkeys.DeleteInput{UserName: user, AccessKeyID: id, IdleSince: &since})
		wantCode(t, err, iamkeys.KeyInUse)
		for _, want := range []string{"by s3 in eu-west-1", "shortly before it was switched off, or since"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in %v", want, err)
			}
		}
	})
	t.Run("on from day 5, used until day 28, off on day 29", func(t *testing.T) {
		a, id, off := setup()
		since := off()
		a.Advance(5 * day)
		a.SetStatus(user, id, iamkeys.Active)
		a.Advance(23 * day)
		a.Use(id, "s3", "")
		a.Advance(day)
		a.SetStatus(user, id, iamkeys.Inactive)
		a.Advance(day)
		_, err := deleter(a.Start()).Run(t.Context(), iamkeys.DeleteInput{UserName: user, AccessKeyID: id, IdleSince: &since})
		wantCode(t, err, iamkeys.KeyInUse)
	})
	t.Run("off by another hand", func(t *testing.T) {
		a, id, _ := setup()
		a.Advance(time.Hour)
		a.Use(id, "s3", "")
		a.SetStatus(user, id, iamkeys.Inactive)
		out, err := deactivator(a.Start()).Run(t.Context(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: id})
		if err != nil || out.Changed || !out.IdleSince.Equal(a.Now()) {
			t.Fatalf("got %+v, %v", out, err)
		}
		a.Advance(30 * day) // the whole soak lies between the answer and the deletion
		if out, err := deleter(a.Start()).Run(t.Context(), iamkeys.DeleteInput{UserName: user, AccessKeyID: id, IdleSince: &out.IdleSince}); err != nil || !out.Deleted {
			t.Errorf("got %+v, %v", out, err)
		}
	})
}

// A person reactivates the key while delete is at work: the look is the last thing
// before the deletion, so that slow calls do not make it old.
func TestReactivatedMeanwhile(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	in := iamkeys.DeleteInput{UserName: user, AccessKeyID: a.AddKey(user, 90*day), ReplacedBy: a.AddKey(user, 10*day), SecretID: secret, IdleSince: new(a.Now())}
	a.SetStatus(user, in.AccessKeyID, iamkeys.Inactive)
	a.Deliver(secret, user, in.ReplacedBy)
	a.UsedAgo(in.ReplacedBy, day, "s3", "")
	for _, slow := range []string{"secretsmanager:DescribeSecret", "iam:GetAccessKeyLastUsed"} {
		p := a.Start()
		p.Before = func(_ int, action string) {
			if action == slow {
				a.SetStatus(user, in.AccessKeyID, iamkeys.Active)
				a.Advance(40 * time.Second)
			}
		}
		_, err := deleter(p).Run(t.Context(), in)
		wantCode(t, err, iamkeys.KeyActive)
		if got := status(a, in.AccessKeyID); got != iamkeys.Active {
			t.Errorf("reactivated during %s: the key is %s", slow, got)
		}
		a.SetStatus(user, in.AccessKeyID, iamkeys.Inactive)
	}
}

// DeleteAccessKey says NoSuchEntity of a key that the list has shown: it is gone if
// somebody else deleted it, and not if the user was renamed.
func TestDeleteMissesTheKey(t *testing.T) {
	for _, c := range []struct {
		name      string
		meanwhile func(a *iamkeystest.Account, id string)
		want      iamkeys.Code
	}{
		{"deleted", func(a *iamkeystest.Account, id string) { a.DeleteKey(user, id) }, ""},
		{"renamed", func(a *iamkeystest.Account, _ string) { a.RenameUser(user, "renamed") }, iamkeys.NoSuchEntity},
		{"renamed, and another one has its name", func(a *iamkeystest.Account, _ string) {
			a.RenameUser(user, "renamed")
			a.AddUser(user)
		}, iamkeys.NoSuchEntity},
		{"deleted, and lists lag", func(a *iamkeystest.Account, id string) {
			a.ListLag = 10 * time.Second
			a.DeleteKey(user, id)
		}, iamkeys.InProgress},
	} {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		id := a.AddKey(user, 90*day)
		a.SetStatus(user, id, iamkeys.Inactive)
		a.Advance(time.Minute)
		p := a.Start()
		p.Before = func(_ int, action string) {
			if action == "iam:DeleteAccessKey" {
				c.meanwhile(a, id)
			}
		}
		out, err := deleter(p).Run(t.Context(), iamkeys.DeleteInput{UserName: user, AccessKeyID: id})
		if iamkeys.CodeOf(err) != c.want || out.Deleted || out.Gone != (c.want == "") {
			t.Errorf("%s: got %+v, %v; want code %q", c.name, out, err, c.want)
		}
	}
}

// Somebody deletes the key seconds before a look that reads its last use: the list shows
// it still, IAM does not know it any more. That says nothing of the user.
func TestDeleteJustDeleted(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	id := a.AddKey(user, 90*day)
	a.SetStatus(user, id, iamkeys.Inactive)
	a.Advance(time.Minute)
	a.ListLag = 10 * time.Second
	a.DeleteKey(user, id)
	in := iamkeys.DeleteInput{UserName: user, AccessKeyID: id, IdleSince: new(a.Now()), Check: true}
	for _, denies := range []bool{false, true} {
		a.DeniesUnknown = denies
		_, err := deleter(a.Start()).Run(t.Context(), in)
		if want := map[bool]iamkeys.Code{false: iamkeys.InProgress, true: iamkeys.AccessDenied}[denies]; iamkeys.CodeOf(err) != want {
			t.Errorf("denies what it does not know %t: got %v, want %s", denies, err, want)
		}
	}
	a.Advance(time.Minute)
	if out, err := deleter(a.Start()).Run(t.Context(), in); err != nil || !out.Gone {
		t.Errorf("a minute later: got %+v, %v", out, err)
	}
}
