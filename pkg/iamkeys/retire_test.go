package iamkeys_test

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func retirer(p *iamkeystest.Process) iamkeys.Retire {
	days, _ := iamkeys.ParseActDays("MON-THU")
	return iamkeys.Retire{
		IAM: p, SecretsManager: p, StepFunctions: p, Rule: iamkeys.RetirementRule{UserPath: "/", AfterDays: 100, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"}},
		OwnerTag: "owner", Apply: true, NoticeDays: 14, SoakDays: 90, ActDays: days, Zone: time.UTC, Now: p.Now,
	}
}

var retireStages = []iamkeys.RetireStage{iamkeys.RetireWarning, iamkeys.RetireFinal, iamkeys.RetireOff, iamkeys.RetireDelete}

func TestRetire(t *testing.T) {
	type change func(a *iamkeystest.Account, in *iamkeys.RetireInput, o *iamkeys.Retire)
	onKey := func(do func(a *iamkeystest.Account, id string)) change {
		return func(a *iamkeystest.Account, in *iamkeys.RetireInput, _ *iamkeys.Retire) { do(a, in.AccessKeyID) }
	}
	set := func(status iamkeys.Status) change {
		return onKey(func(a *iamkeystest.Account, id string) { a.SetStatus(user, id, status) })
	}
	used := func(ago time.Duration) change {
		return onKey(func(a *iamkeystest.Account, id string) { a.UsedAgo(id, ago, "s3", "eu-west-1") })
	}
	tags := func(tags ...string) change {
		return func(a *iamkeystest.Account, in *iamkeys.RetireInput, _ *iamkeys.Retire) {
			all := []iamkeys.Tag{{Key: "Owner", Value: "team-ci"}}
			for i := 0; i < len(tags); i += 2 {
				all = append(all, iamkeys.Tag{Key: tags[i], Value: tags[i+1]})
			}
			a.SetTags(user, all...)
		}
	}
	setting := func(do func(o *iamkeys.Retire)) change {
		return func(_ *iamkeystest.Account, _ *iamkeys.RetireInput, o *iamkeys.Retire) { do(o) }
	}
	insist := func(_ *iamkeystest.Account, in *iamkeys.RetireInput, _ *iamkeys.Retire) { in.Insist = true }
	planOnly := setting(func(o *iamkeys.Retire) { o.Apply = false })
	// beside gives the user another Active key, and the secret delivers the older or the younger one, or none.
	beside := func(delivers string) change {
		return onKey(func(a *iamkeystest.Account, id string) {
			other := a.AddKey(user, 10*day)
			switch delivers {
			case "this":
				a.Deliver(secret, user, id)
			case "the other":
				a.Deliver(secret, user, other)
			}
		})
	}
	running := func(workflow iamkeys.Workflow, name, of, key string) change {
		return func(a *iamkeystest.Account, in *iamkeys.RetireInput, _ *iamkeys.Retire) {
			key, name := cmp.Or(key, in.AccessKeyID), cmp.Or(name, in.AccessKeyID)
			a.SetExecution(iamkeys.Execution{Workflow: workflow, Name: name, Started: a.Now().Add(-time.Hour), Input: json.RawMessage(`{"userName":"` + of + `","accessKeyId":"` + key + `"}`)})
		}
	}
	own := func(a *iamkeystest.Account, in *iamkeys.RetireInput, _ *iamkeys.Retire) {
		name := "retire-" + in.AccessKeyID
		a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RetirementWorkflow, Name: name, Input: json.RawMessage(`{"userName":"` + user + `","accessKeyId":"` + in.AccessKeyID + `"}`)})
		in.Execution = &iamkeys.ThisExecution{Name: name, Started: a.Now()}
	}
	exempt := tags(iamkeys.TagExemptUntil, "2026-12-31", iamkeys.TagExemptReason, "audit data")
	const no, ok = iamkeys.KeyInUse, iamkeys.Code("")
	const lag = iamkeys.LastUsedLag
	for _, c := range []struct {
		name    string
		changes []change
		want    iamkeys.Code // before delete
		delete  iamkeys.Code // at delete, of the same key switched off
	}{
		{"unused", nil, ok, ok},
		{"used a second short of long ago", []change{used(100*day + lag - time.Second)}, no, ok},
		{"used long ago", []change{used(100*day + lag)}, ok, ok},
		{"used now", []change{used(0)}, no, ok},
		{"Inactive", []change{set(iamkeys.Inactive)}, no, ok},
		{"Expired", []change{set(iamkeys.Expired)}, no, ok},
		{"a status unknown to us", []change{set("Suspended")}, iamkeys.Internal, iamkeys.KeyActive},
		{"protected", []change{tags("iamkeys:protect", "no")}, iamkeys.Protected, iamkeys.Protected},
		{"outside UserPath", []change{setting(func(o *iamkeys.Retire) { o.Rule.UserPath = "/ci/" })}, iamkeys.Protected, iamkeys.Protected},
		{"exempt", []change{exempt}, iamkeys.KeyExempt, iamkeys.KeyExempt},
		{"an exemption without a reason", []change{tags(iamkeys.TagExemptUntil, "2026-12-31")}, ok, ok},
		{"switched off as a whole", []change{planOnly}, iamkeys.RetirementOff, iamkeys.RetirementOff},
		{"switched off as a whole, and a person insists", []change{planOnly, insist}, ok, ok},
		{"its own execution", []change{own}, ok, ok},
		{"a rotation of the user that began earlier", []change{own, running(iamkeys.RotationWorkflow, "", user, "")}, iamkeys.InProgress, ok},
		{"a retirement of this key that began earlier", []change{own, running(iamkeys.RetirementWorkflow, "retire-by-hand", user, "")}, iamkeys.InProgress, ok},
		{"a retirement of another of its keys", []change{own, running(iamkeys.RetirementWorkflow, "retire-AKIAIOSFODNN7EXAMPLE", user, "AKIAIOSFODNN7EXAMPLE")}, ok, ok},
		{"a rotation that names no key", []change{own, running(iamkeys.RotationWorkflow, "by-hand", user, "")}, iamkeys.InProgress, ok},
		{"another user's rotation, by its input", []change{own, running(iamkeys.RotationWorkflow, "", "other", "")}, ok, ok},
		{"another user's rotation", []change{own, running(iamkeys.RotationWorkflow, "AKIAIOSFODNN7EXAMPLE", "other", "")}, ok, ok},
		{"another Active key, and the secret delivers this one", []change{beside("this")}, no, ok},
		{"another Active key, and the secret delivers that one", []change{beside("the other")}, ok, ok},
		{"another Active key, and no secret", []change{beside("none")}, ok, ok},
		{"the secret delivers it, the only one", []change{onKey(func(a *iamkeystest.Account, id string) { a.Deliver(secret, user, id) })}, ok, ok},
		{"the user is gone", []change{onKey(func(a *iamkeystest.Account, _ string) { a.RemoveUser(user) })}, iamkeys.NoSuchEntity, iamkeys.NoSuchEntity},
		{"the user was renamed, and another one has its name", []change{onKey(func(a *iamkeystest.Account, _ string) {
			a.RenameUser(user, "renamed")
			a.AddUser(user)
		})}, iamkeys.NoSuchEntity, iamkeys.NoSuchEntity},

		// The order, where more than one refuses.
		{"protected, exempt, off, used", []change{tags("iamkeys:protect", "", iamkeys.TagExemptUntil, "2026-12-31", iamkeys.TagExemptReason, "audit data"), planOnly, used(0)}, iamkeys.Protected, iamkeys.Protected},
		{"exempt, off, used", []change{exempt, planOnly, used(0)}, iamkeys.KeyExempt, iamkeys.KeyExempt},
		{"off, another one, used", []change{planOnly, running(iamkeys.RotationWorkflow, "", user, ""), used(0)}, iamkeys.RetirementOff, iamkeys.RetirementOff},
		{"another one, used", []change{running(iamkeys.RotationWorkflow, "", user, ""), used(0)}, iamkeys.InProgress, ok},
	} {
		for _, stage := range retireStages {
			t.Run(c.name+"/"+string(stage), func(t *testing.T) {
				a := iamkeystest.NewAccount()
				a.AddUser(user, iamkeys.Tag{Key: "Owner", Value: "team-ci"})
				in := iamkeys.RetireInput{UserName: user, AccessKeyID: a.AddKey(user, 300*day), Stage: stage}
				o, want := retirer(a.Start()), c.want
				if stage == iamkeys.RetireDelete {
					a.SetStatus(user, in.AccessKeyID, iamkeys.Inactive)
					want = c.delete
				}
				for _, change := range c.changes {
					change(a, &in, &o)
				}
				out, err := o.Run(t.Context(), in)
				wantCode(t, err, want)
				if err != nil {
					return
				}
				r := out.Retirement
				if out.Gone || r.UserName != user || r.AccessKeyID != in.AccessKeyID || *r.Owner != "team-ci" || r.QuietHours != 2400 || r.SoakDays != 90 || r.NoticeSeconds != 11*86400 || r.FinalSeconds != 3*86400 || r.WaitSeconds != 0 {
					t.Errorf("got %+v", r)
				}
				if in.Stage != iamkeys.RetireDelete && r.IdleDays < 100 {
					t.Errorf("idle for %d days", r.IdleDays)
				}
			})
		}
	}
}

// At delete an Active key is refused before all else: somebody has reactivated it.
func TestRetireDeletesNothingActive(t *testing.T) {
	for _, status := range []iamkeys.Status{iamkeys.Active, "Suspended"} {
		a := iamkeystest.NewAccount()
		a.AddUser(user, iamkeys.Tag{Key: iamkeys.TagProtect})
		in := iamkeys.RetireInput{UserName: user, AccessKeyID: a.AddKey(user, 300*day), Stage: iamkeys.RetireDelete}
		a.SetStatus(user, in.AccessKeyID, status)
		_, err := retirer(a.Start()).Run(t.Context(), in)
		wantCode(t, err, iamkeys.KeyActive)
	}
}

// A key that is gone is said to be gone, and nothing else: whoever else speaks against
// its retirement, it is over.
func TestRetireGone(t *testing.T) {
	for _, denies := range []bool{false, true} {
		for _, stage := range retireStages {
			a := iamkeystest.NewAccount()
			a.DeniesUnknown = denies
			a.AddUser(user, iamkeys.Tag{Key: iamkeys.TagProtect})
			in := iamkeys.RetireInput{UserName: user, AccessKeyID: a.AddKey(user, 300*day), Stage: stage}
			a.DeleteKey(user, in.AccessKeyID)
			out, err := retirer(a.Start()).Run(t.Context(), in)
			if text, _ := json.Marshal(out); err != nil || string(text) != `{"gone":true}` {
				t.Errorf("%s: got %s, %v", stage, text, err)
			}
		}
	}
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	out, err := retirer(a.Start()).Run(t.Context(), iamkeys.RetireInput{UserName: user, AccessKeyID: a.AddKey(user, 300*day), Stage: iamkeys.RetireFinal})
	if text, _ := json.Marshal(out); err != nil || strings.Contains(string(text), "gone") || !strings.Contains(string(text), `"power":null`) {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestRetirePower(t *testing.T) {
	const admin, power = "arn:aws:iam::aws:policy/AdministratorAccess", "arn:aws:iam::aws:policy/PowerUserAccess"
	for _, c := range []struct {
		name  string
		setup func(a *iamkeystest.Account)
		fails string
		want  iamkeys.Power
	}{
		{"none", func(*iamkeystest.Account) {}, "", iamkeys.NoPower},
		{"of its own", func(a *iamkeystest.Account) { a.Attach(user, admin) }, "", iamkeys.Admin},
		{"by a group", func(a *iamkeystest.Account) {
			a.AttachToGroup("operators", power)
			a.Join(user, "operators")
		}, "", iamkeys.PowerUser},
		{"its policies cannot be read", func(*iamkeystest.Account) {}, "iam:ListAttachedUserPolicies", iamkeys.UnknownPower},
		{"its groups cannot be read", func(*iamkeystest.Account) {}, "iam:ListGroupsForUser", iamkeys.UnknownPower},
		{"a group cannot be read", func(a *iamkeystest.Account) {
			a.AttachToGroup("operators", power)
			a.Join(user, "operators")
		}, "iam:ListAttachedGroupPolicies", iamkeys.UnknownPower},
		{"its groups cannot be read, and it is an administrator", func(a *iamkeystest.Account) { a.Attach(user, admin) }, "iam:ListGroupsForUser", iamkeys.Admin},
	} {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		id := a.AddKey(user, 300*day)
		c.setup(a)
		p := a.Start()
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			if action == c.fails {
				return iamkeystest.Refused
			}
			return iamkeystest.None
		}
		out, err := retirer(p).Run(t.Context(), iamkeys.RetireInput{UserName: user, AccessKeyID: id, Stage: iamkeys.RetireWarning})
		if err != nil || out.Power != c.want {
			t.Errorf("%s: got %+v, %v; want %q", c.name, out.Retirement, err, c.want)
		}
	}
}

// What cannot be read is an error: of a key of which not all is known nothing is said.
func TestRetireUnderFaults(t *testing.T) {
	for _, fault := range []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Throttled, iamkeystest.Unanswered} {
		for n := 1; ; n++ {
			a := iamkeystest.NewAccount()
			a.AddUser(user)
			id := a.AddKey(user, 300*day)
			a.AddKey(user, 10*day)
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: id, Input: json.RawMessage(`{"userName":"other"}`)})
			p, failed := a.Start(), ""
			p.Fault = func(i int, action string) iamkeystest.Fault {
				if i != n {
					return iamkeystest.None
				}
				failed = action
				return fault
			}
			out, err := retirer(p).Run(t.Context(), iamkeys.RetireInput{UserName: user, AccessKeyID: id, Stage: iamkeys.RetireOff})
			if failed == "" {
				if err != nil || n < 8 {
					t.Errorf("after %d calls: %v", n-1, err)
				}
				break
			}
			power := strings.HasPrefix(failed, "iam:ListAttached") || failed == "iam:ListGroupsForUser"
			if power && (err != nil || out.Power != iamkeys.UnknownPower) || !power && (err == nil || out.Retirement != nil || out.Gone) {
				t.Errorf("%s is %s: got %+v, %v", failed, fault, out, err)
			}
			if slices.ContainsFunc(p.Calls, func(c string) bool {
				return !strings.Contains(c, ":Get") && !strings.Contains(c, ":List") && !strings.Contains(c, ":Describe")
			}) {
				t.Errorf("it changed something: %v", p.Calls)
			}
		}
	}
}

// Nobody is to find out on a Saturday.
func TestRetireActDays(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		days string
		now  time.Time
		zone *time.Location
		want time.Duration
	}{
		{"MON-THU", time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), time.UTC, 0},                             // a Monday
		{"MON-THU", time.Date(2026, 11, 26, 23, 59, 59, 0, time.UTC), time.UTC, 0},                          // Thursday
		{"MON-THU", time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC), time.UTC, 72 * time.Hour},                // Friday
		{"MON-THU", time.Date(2026, 11, 29, 23, 59, 59, 5e8, time.UTC), time.UTC, time.Second},              // Sunday night, rounded up
		{"MON-THU", time.Date(2026, 11, 26, 23, 30, 0, 0, time.UTC), berlin, 71*time.Hour + 30*time.Minute}, // Friday already, there
		{"MON-THU", time.Date(2026, 11, 29, 23, 30, 0, 0, time.UTC), berlin, 0},                             // Monday already, there
		{"mon", time.Date(2026, 3, 27, 23, 0, 0, 0, time.UTC), berlin, 47 * time.Hour},                      // a Saturday there, and on Sunday an hour is left out
		{"SAT-SUN", time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), time.UTC, 120 * time.Hour},
		{"FRI-MON,WED", time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), time.UTC, 12 * time.Hour},
		{"TUE", time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), time.UTC, 144 * time.Hour},
	} {
		days, err := iamkeys.ParseActDays(c.days)
		if err != nil {
			t.Fatal(err)
		}
		for _, stage := range retireStages[:3] {
			a := iamkeystest.NewAccount()
			a.AddUser(user)
			in := iamkeys.RetireInput{UserName: user, AccessKeyID: a.AddKey(user, 2000*day), Stage: stage}
			o := retirer(a.Start())
			o.ActDays, o.Zone, o.Now = days, c.zone, func() time.Time { return c.now }
			out, err := o.Run(t.Context(), in)
			want := 0
			if stage == iamkeys.RetireOff {
				want = int(c.want / time.Second)
			}
			if err != nil || out.WaitSeconds != want {
				t.Errorf("%s, %s at %v: got %+v, %v; want %d", c.days, stage, c.now, out.Retirement, err, want)
			}
		}
	}
	for _, text := range []string{"", "MON-", "-", "MON,", "Monday", "1-5", "MON-THU-FRI", "MON TUE"} {
		if days, err := iamkeys.ParseActDays(text); err == nil {
			t.Errorf("%q is read as %v", text, days)
		}
	}
	rapid.Check(t, func(rt *rapid.T) { // whatever the days, the wait ends on one of them, within a week
		var text []string
		for _, name := range []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"} {
			if rapid.Bool().Draw(rt, name) {
				text = append(text, name)
			}
		}
		if len(text) == 0 {
			return
		}
		o := iamkeys.Retire{}
		var err error
		if o.ActDays, err = iamkeys.ParseActDays(strings.Join(text, ",")); err != nil {
			rt.Fatal(err)
		}
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		id := a.AddKey(user, 2000*day)
		a.Advance(time.Duration(rapid.IntRange(0, 1000*86400).Draw(rt, "seconds")) * time.Second)
		r := retirer(a.Start())
		r.ActDays, r.Zone = o.ActDays, berlin
		out, err := r.Run(context.Background(), iamkeys.RetireInput{UserName: user, AccessKeyID: id, Stage: iamkeys.RetireOff})
		if err != nil {
			rt.Fatal(err)
		}
		then := a.Now().Add(time.Duration(out.WaitSeconds) * time.Second).In(berlin)
		if !o.ActDays[then.Weekday()] || out.WaitSeconds > 7*25*3600 {
			rt.Errorf("on %v at %v it waits %d s, until %v", text, a.Now(), out.WaitSeconds, then)
		}
	})
}

func TestRetireValidate(t *testing.T) {
	const id = "AKIAIOSFODNN7EXAMPLE"
	for _, c := range []struct {
		in    iamkeys.RetireInput
		field string
	}{
		{iamkeys.RetireInput{UserName: "a", AccessKeyID: id, Stage: "off"}, ""},
		{iamkeys.RetireInput{AccessKeyID: id, Stage: "off"}, "userName"},
		{iamkeys.RetireInput{UserName: "a", Stage: "off"}, "accessKeyId"},
		{iamkeys.RetireInput{UserName: "a", AccessKeyID: id}, "stage"},
		{iamkeys.RetireInput{UserName: "a", AccessKeyID: id, Stage: "Off"}, "stage"},
		{iamkeys.RetireInput{UserName: "a", AccessKeyID: id, Stage: "off", Execution: &iamkeys.ThisExecution{Name: "retire-" + id, Started: iamkeystest.Epoch}}, ""},
		{iamkeys.RetireInput{UserName: "a", AccessKeyID: id, Stage: "off", Execution: &iamkeys.ThisExecution{Name: "retire-" + id + "-once-more", Started: iamkeystest.Epoch}}, ""},
		{iamkeys.RetireInput{UserName: "a", AccessKeyID: id, Stage: "off", Execution: &iamkeys.ThisExecution{Name: id, Started: iamkeystest.Epoch}}, "execution.name"},
		{iamkeys.RetireInput{UserName: "a", AccessKeyID: id, Stage: "off", Execution: &iamkeys.ThisExecution{Name: "retire-AKIAIOSFODNN7OTHER00", Started: iamkeystest.Epoch}}, "execution.name"},
		{iamkeys.RetireInput{UserName: "a", AccessKeyID: id, Stage: "off", Execution: &iamkeys.ThisExecution{Name: "4f6c1a3e-2b1d", Started: iamkeystest.Epoch}}, "execution.name"},
		{iamkeys.RetireInput{UserName: "a", AccessKeyID: id, Stage: "off", Execution: &iamkeys.ThisExecution{Name: "retire-" + id}}, "execution.started"},
	} {
		err := c.in.Validate()
		if c.field == "" && err != nil || c.field != "" && (iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), c.field)) {
			t.Errorf("%+v: got %v, want InvalidInput naming %q", c.in, err, c.field)
		}
	}
}
