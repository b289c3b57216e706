package iamkeys_test

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// TestKeysRandomly lets deactivate, activate and delete meet an account that is as
// weak as AWS's documentation allows: last use shown up to six hours late, lists that
// show what others did up to ten seconds late, people who switch, delete, make and use
// keys and rename users at any moment, also between two calls, and calls that fail,
// are throttled for hours, lose their answers or die.
func TestKeysRandomly(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const quietHours, listLag = 24, 10 * time.Second
		a := iamkeystest.NewAccount()
		a.DeniesUnknown = rapid.Bool().Draw(rt, "denies")
		a.AddUser(user)
		old, replacing := a.AddKey(user, 90*day), a.AddKey(user, 10*day)
		a.Deliver(secret, user, replacing)
		a.UsedAgo(replacing, day, "s3", "")
		replacedBy, delivers := "", "" // in half of the runs
		if rapid.Bool().Draw(rt, "replaced") {
			replacedBy, delivers = replacing, secret
		}
		holder := user // who has the keys now
		a.Advance(time.Minute)
		var uses []time.Time
		type past struct {
			at     time.Time
			status iamkeys.Status
		}
		now := func() (s iamkeys.Status) {
			for _, k := range a.Keys(holder) {
				if k.AccessKeyID == old {
					return k.Status
				}
			}
			return "gone"
		}
		history := []past{{a.Now().Add(-90 * day), iamkeys.Active}}
		note := func() {
			if s := now(); s != history[len(history)-1].status {
				history = append(history, past{a.Now(), s})
			}
		}
		// shown reports whether the key had that status at any moment from ten seconds before on.
		shown := func(listed time.Time, wants ...iamkeys.Status) bool {
			from := listed.Add(-listLag)
			for i, p := range history {
				if until := i + 1; until < len(history) && history[until].at.Before(from) {
					continue
				}
				for _, want := range wants {
					if p.status == want {
						return true
					}
				}
			}
			return false
		}
		// used reports whether the key was used in that time, but for what IAM notes within 15 minutes.
		used := func(after, until time.Time) bool {
			for _, u := range uses {
				if u.After(after.Add(15*time.Minute)) && !u.After(until) {
					return true
				}
			}
			return false
		}
		person := func() {
			switch rapid.IntRange(0, 11).Draw(rt, "person") {
			case 0:
				a.SetStatus(holder, old, iamkeys.Active)
			case 1:
				a.SetStatus(holder, old, iamkeys.Inactive)
			case 2:
				a.SetStatus(holder, replacing, rapid.SampledFrom([]iamkeys.Status{iamkeys.Active, iamkeys.Inactive}).Draw(rt, "status"))
			case 3:
				if rapid.IntRange(0, 3).Draw(rt, "really") == 0 {
					a.DeleteKey(holder, old)
				}
			case 4:
				if holder == user {
					holder = "renamed"
					a.RenameUser(user, holder)
					if rapid.Bool().Draw(rt, "remade") {
						a.AddUser(user)
					}
				}
			case 5:
				if holder != user {
					a.RemoveUser(user)
					a.RenameUser(holder, user)
					holder = user
				}
			case 6:
				a.Use(replacing, "s3", "")
			case 7:
				a.PutSecret(secret, "somebody-elses-version-of-this-secret")
			case 8:
				a.Deliver(secret, user, replacing)
			default:
				if a.Use(old, "s3", "") {
					uses = append(uses, a.Now())
				}
			}
			note()
		}
		var idleSince *time.Time
		for range rapid.IntRange(5, 40).Draw(rt, "steps") {
			a.ListLag = time.Duration(rapid.IntRange(0, 10).Draw(rt, "list lag")) * time.Second
			a.LastUsedLag = time.Duration(rapid.IntRange(0, 6).Draw(rt, "last-use lag")) * time.Hour
			p := a.Start()
			troubles := rapid.IntRange(0, 3).Draw(rt, "troubles") == 0
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if !troubles || rapid.IntRange(0, 4).Draw(rt, "trouble") > 0 {
					return iamkeystest.None
				}
				fault := rapid.SampledFrom(iamkeystest.Faults).Draw(rt, "fault")
				if fault == iamkeystest.Refused && action == "iam:GetAccessKeyLastUsed" {
					return iamkeystest.None // AccessDenied is IAM's word for a key that is gone
				}
				return fault
			}
			p.Before = func(int, string) {
				if rapid.IntRange(0, 9).Draw(rt, "meanwhile") == 0 {
					person()
					a.Advance(time.Duration(rapid.IntRange(0, 9).Draw(rt, "takes")) * time.Second)
				}
			}
			began, before, status := a.Now(), len(a.Deleted()), now()
			listed, looked, writes := began, began, false
			p.Wait = func(_ context.Context, action string) {
				switch action {
				case "iam:ListAccessKeys":
					listed = a.Now()
				case "iam:UpdateAccessKey", "iam:DeleteAccessKey":
					looked, writes = listed, true
				}
			}
			switch rapid.IntRange(0, 7).Draw(rt, "step") {
			case 0, 1:
				a.Advance(time.Duration(rapid.IntRange(1, 60).Draw(rt, "hours")) * time.Hour)
			case 2:
				person()
			case 3:
				a.ThrottledUntil = a.Now().Add(time.Duration(rapid.IntRange(0, 3).Draw(rt, "throttled")) * time.Hour)
			case 4, 5:
				in := iamkeys.DeactivateInput{UserName: user, AccessKeyID: old, QuietHours: new(quietHours), ReplacedBy: replacedBy, SecretID: delivers}
				var out iamkeys.DeactivateOutput
				var err error
				died := p.Run(func() { out, err = deactivator(p).Run(context.Background(), in) })
				note()
				if writes && !shown(looked, iamkeys.Active) {
					rt.Errorf("switched off a key that no list shows as Active: %v", history)
				}
				if writes && used(began.Add(-quietHours*time.Hour-iamkeys.LastUsedLag), began.Add(-iamkeys.LastUsedLag)) {
					rt.Errorf("switched off at %v; used at %v", a.Now(), uses)
				}
				if !died && err == nil {
					idleSince = &out.IdleSince
				}
			case 6:
				out, err := iamkeys.Activate{IAM: p, Log: quiet}, error(nil)
				died := p.Run(func() {
					_, err = out.Run(context.Background(), iamkeys.ActivateInput{UserName: user, AccessKeyID: old})
				})
				note()
				if !died && err == nil && !shown(a.Now(), iamkeys.Active) {
					rt.Errorf("activated, and the key is %s", now())
				}
			default:
				in := iamkeys.DeleteInput{UserName: user, AccessKeyID: old, ReplacedBy: replacedBy, SecretID: delivers, IdleSince: idleSince, Check: rapid.Bool().Draw(rt, "check")}
				var out iamkeys.DeleteOutput
				var err error
				died := p.Run(func() { out, err = deleter(p).Run(context.Background(), in) })
				if writes && !shown(looked, iamkeys.Inactive, iamkeys.Expired) {
					rt.Errorf("deleted a key that no list shows as off: %v", history)
				}
				if writes && in.IdleSince != nil && used(*in.IdleSince, began.Add(-iamkeys.LastUsedLag)) {
					rt.Errorf("deleted; idle since %v, used at %v", in.IdleSince, uses)
				}
				note()
				if in.Check && writes {
					rt.Error("a look that deletes")
				}
				if !died && err == nil && (out.Gone || out.Deleted) && now() != "gone" {
					rt.Errorf("answered %+v; the key is %s", out, now())
				}
				if !died && out.Deleted && len(a.Deleted()) == before {
					rt.Errorf("answered %+v, and the key was %s before", out, status)
				}
			}
		}
	})
}
