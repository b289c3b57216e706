package audit_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func nominator(p *iamkeystest.Process) audit.Due {
	return audit.Due{
		Inventory:     audit.TakeInventory{IAM: p, ReportWait: 5 * time.Minute, Now: p.Now, Sleep: p.Sleep, Log: quiet},
		StepFunctions: p, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"}, UserPath: "/", OwnerTag: "owner",
		UnusedDays: 45, RotateAgeDays: 80, MaxRotations: 5, Now: p.Now,
	}
}

// optedInUser makes a user that takes part in the scheduled rotation, with a key
// of that age that was used yesterday.
func optedInUser(a *iamkeystest.Account, name string, age time.Duration, tags ...iamkeys.Tag) string {
	a.AddUser(name, append(tags, iamkeys.Tag{Key: "iamkeys:rotate", Value: "on"})...)
	id := a.AddKey(name, age)
	a.UsedAgo(id, day, "s3", "")
	return id
}

func TestDue(t *testing.T) {
	tag := func(key, value string) iamkeys.Tag { return iamkeys.Tag{Key: key, Value: value} }
	until := iamkeystest.Epoch.Add(10 * day).Format(time.DateOnly)
	for _, c := range []struct {
		name  string
		setup func(a *iamkeystest.Account)
		want  audit.SkipReason // "due" for nominated, "" for neither
	}{
		{"old enough", func(a *iamkeystest.Account) { optedInUser(a, user, 80*day+time.Second) }, "due"},
		{"just not old enough", func(a *iamkeystest.Account) { optedInUser(a, user, 80*day) }, ""},
		{"opted out", func(a *iamkeystest.Account) {
			a.AddUser(user, tag("iamkeys:rotate", "off"))
			a.UsedAgo(a.AddKey(user, 85*day), day, "s3", "")
		}, ""},
		{"not opted in", func(a *iamkeystest.Account) {
			a.AddUser(user)
			a.UsedAgo(a.AddKey(user, 85*day), day, "s3", "")
		}, ""},
		{"Inactive", func(a *iamkeystest.Account) {
			a.SetStatus(user, optedInUser(a, user, 85*day), iamkeys.Inactive)
		}, ""},
		{"exempt", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:exempt-until", until), tag("iamkeys:exempt-reason", "appliance"))
		}, audit.SkipExempt},
		{"an exemption without a reason does not protect", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:exempt-until", until))
		}, "due"},
		{"unused", func(a *iamkeystest.Account) {
			a.UsedAgo(optedInUser(a, user, 85*day), 45*day, "s3", "")
		}, audit.SkipUnused},
		{"used a second short of unused", func(a *iamkeystest.Account) {
			a.UsedAgo(optedInUser(a, user, 85*day), 45*day-time.Second, "s3", "")
		}, "due"},
		{"two Active keys", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day)
			a.AddKey(user, day)
		}, audit.SkipNoSlot},
		{"an Inactive second key", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day)
			a.SetStatus(user, a.AddKey(user, day), iamkeys.Inactive)
		}, audit.SkipNoSlot},
		{"protected", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:protect", "True"))
		}, audit.SkipProtected},
		{"protected, by the word false", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:protect", "false"))
		}, audit.SkipProtected},
		{"a secret outside the prefix", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:secret", "elsewhere/x"))
		}, audit.SkipSecret},
		{"rotating", func(a *iamkeystest.Account) {
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: optedInUser(a, user, 85*day), Status: "RUNNING"})
		}, audit.SkipRotating},
		{"rotating, both keys Active", func(a *iamkeystest.Account) {
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: optedInUser(a, user, 85*day), Status: "RUNNING"})
			a.AddKey(user, day)
		}, audit.SkipRotating},
		{"failed", func(a *iamkeystest.Account) {
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: optedInUser(a, user, 85*day), Status: "TIMED_OUT"})
		}, audit.SkipFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := iamkeystest.NewAccount()
			c.setup(a)
			out, err := nominator(a.Start()).Run(t.Context(), audit.DueInput{})
			if err != nil {
				t.Fatal(err)
			}
			got := audit.SkipReason("")
			if len(out.Rotations) > 0 {
				got = "due"
			} else if len(out.Skipped) > 0 {
				got = out.Skipped[0].Reason
				if out.SkippedCounts[got] != 1 {
					t.Errorf("counts %v do not count it", out.SkippedCounts)
				}
			}
			if got != c.want || !out.Coverage.Complete {
				t.Errorf("got %q, want %q; coverage %+v", got, c.want, out.Coverage)
			}
		})
	}
}

// TestDueLimit: the oldest first, and the rest in a later run.
func TestDueLimit(t *testing.T) {
	a := iamkeystest.NewAccount()
	for i := range 130 {
		optedInUser(a, fmt.Sprintf("ci-%03d", i), time.Duration(100+i)*day, iamkeys.Tag{Key: "owner", Value: "team-ci"})
	}
	for limit, want := range map[int]int{0: 5, 7: 7} {
		in := audit.DueInput{}
		if limit > 0 {
			in.Limit = &limit
		}
		out, err := nominator(a.Start()).Run(t.Context(), in)
		if err != nil || len(out.Rotations) != want || len(out.Skipped) != 100 || out.SkippedCounts[audit.SkipLimit] != 130-want {
			t.Fatalf("got %d rotations, %d skipped, counts %v, %v", len(out.Rotations), len(out.Skipped), out.SkippedCounts, err)
		}
		if r := out.Rotations[0]; r.UserName != "ci-129" || r.AgeDays != 229 || r.SecretID != "iamkeys/ci-129/access-key" || *r.Owner != "team-ci" || r.AccessKeyID == "" {
			t.Errorf("the first rotation is %+v", r)
		}
	}
	for _, limit := range []int{0, 41} {
		wantCode(t, audit.DueInput{Limit: &limit}.Validate(), iamkeys.InvalidInput)
	}
}

// TestDueUnderFaults fails each call: a user that could not be read is never
// nominated, and coverage says so.
func TestDueUnderFaults(t *testing.T) {
	for _, fault := range []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Unanswered, iamkeystest.Lost} {
		for n := 1; n < 12; n++ {
			a := iamkeystest.NewAccount()
			rotating := optedInUser(a, "rotating", 90*day)
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: rotating, Status: "RUNNING"})
			unused := optedInUser(a, "unused", 90*day)
			a.UsedAgo(unused, 80*day, "s3", "")
			due := optedInUser(a, "due", 90*day)
			p := a.Start()
			p.Fault = func(i int, _ string) iamkeystest.Fault {
				if i == n {
					return fault
				}
				return iamkeystest.None
			}
			out, err := nominator(p).Run(t.Context(), audit.DueInput{})
			if err != nil {
				continue
			}
			i := slices.IndexFunc(out.Rotations, func(r audit.DueRotation) bool { return r.AccessKeyID != due })
			if i >= 0 {
				t.Errorf("call %d %s: nominated %+v", n, fault, out.Rotations[i])
			}
			if len(out.Rotations) == 0 && out.Coverage.Complete {
				t.Errorf("call %d %s: nobody is due, and coverage is complete", n, fault)
			}
		}
	}
}
