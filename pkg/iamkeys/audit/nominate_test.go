package audit_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func nominator(p *iamkeystest.Process) audit.Due {
	return audit.Due{
		Nominator: audit.Nominator{Inventory: takeInventory(p), StepFunctions: p, SecretsManager: p, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/", ARN: "arn:aws:secretsmanager:eu-west-1:" + p.ID + ":secret"}, OwnerTag: "owner", Most: 5, Now: p.Now},
		UserPath:  "/", UnusedDays: 45, RotateAgeDays: 80, RetireAfterDays: 100,
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
		}, audit.SkipPrefix},
		{"exposed", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:exempt-until", until), tag("iamkeys:exempt-reason", "appliance"))
			a.Attach(user, "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3")
		}, audit.SkipExposed},
		{"an unclear tag", func(a *iamkeystest.Account) {
			a.AddUser(user, tag("iamkeys:rotate", "true"))
			a.UsedAgo(a.AddKey(user, 85*day), day, "s3", "")
		}, audit.SkipUnclear},
		{"an unclear tag, not old enough", func(a *iamkeystest.Account) {
			a.AddUser(user, tag("iamkeys:rotate", ""))
			a.UsedAgo(a.AddKey(user, 5*day), day, "s3", "")
		}, audit.SkipUnclear},
		{"opted in, in capitals and blanks", func(a *iamkeystest.Account) {
			a.AddUser(user, tag("IAMkeys:Rotate", " On "))
			a.UsedAgo(a.AddKey(user, 85*day), day, "s3", "")
		}, "due"},
		{"a secret that ends as an ARN does", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:secret", "iamkeys/app-secret"))
		}, audit.SkipMalformed},
		{"an empty secret", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:secret", " "))
		}, audit.SkipMalformed},
		{"a secret of another account", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:secret", "arn:aws:secretsmanager:eu-west-1:210987654321:secret:iamkeys/x-AbCdEf"))
		}, audit.SkipElsewhere},
		{"a secret of somebody else's choice", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:secret", "iamkeys/mallory/x"))
		}, audit.SkipNotByTag},
		{"a secret of that name that holds another's key", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:secret", "iamkeys/mallory/x"))
			a.Deliver("iamkeys/mallory/x", "mallory", "AKIAIAMKEYSTEST09999")
		}, audit.SkipNotByTag},
		{"a secret that delivers the user's key already", func(a *iamkeystest.Account) {
			a.Deliver("iamkeys/shared/x", user, optedInUser(a, user, 85*day, tag("iamkeys:secret", "iamkeys/shared/x")))
		}, "due"},
		{"a secret below the user's own name, with blanks around it", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day, tag("iamkeys:secret", " iamkeys/ci-deploy/prod "))
		}, "due"},
		{"a create at work on the secret", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day)
			locked(a, "iamkeys/ci-deploy/access-key", a.Now().Add(-time.Minute))
		}, audit.SkipRotating},
		{"a create that died on the secret", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day)
			locked(a, "iamkeys/ci-deploy/access-key", a.Now().Add(-time.Hour))
		}, "due"},
		{"another path", func(a *iamkeystest.Account) {
			optedInUser(a, user, 85*day)
			a.Move(user, "/elsewhere/")
		}, audit.SkipPath},
		{"failed, and started again by a person", func(a *iamkeystest.Account) {
			id := optedInUser(a, user, 85*day)
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: id, Status: "FAILED", Started: a.Now().Add(-3 * day)})
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: id + "-again", Status: "RUNNING", Started: a.Now().Add(-day)})
		}, audit.SkipRotating},
		{"failed, and failed again", func(a *iamkeystest.Account) {
			id := optedInUser(a, user, 85*day)
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: id + "-again", Status: "FAILED", Started: a.Now().Add(-day)})
		}, audit.SkipFailed},
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
			o := nominator(a.Start())
			if c.want == audit.SkipPath {
				o.UserPath = "/ci/"
			}
			out, err := o.Run(t.Context(), audit.DueInput{})
			if err != nil {
				t.Fatal(err)
			}
			got := audit.SkipReason("")
			if len(out.Rotations) > 0 {
				got = "due"
			} else if len(out.Skipped) > 0 {
				got = out.Skipped[0].Reason
				if date := out.Skipped[0].Date; (date != nil) != (got == audit.SkipUnused) {
					t.Errorf("%s has the date %v", got, date)
				}
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
	for _, limit := range []int{0, 51} {
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

// locked has a create of the user's at work on the secret since then.
func locked(a *iamkeystest.Account, secret string, since time.Time) {
	of := sha256.Sum256([]byte(user))
	intent := fmt.Sprintf("iamkeys-intent-%x-%d-0a1b2c-none", of[:4], since.Unix())
	a.PutSecret(secret, intent)
	a.PutLabel(secret, "iamkeys-lock", intent)
}

// TestDueUnusedDate: of a key that nobody uses, due says when it is retired.
func TestDueUnusedDate(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.UsedAgo(optedInUser(a, user, 200*day), 50*day, "s3", "")
	out, err := nominator(a.Start()).Run(t.Context(), audit.DueInput{})
	if err != nil || len(out.Skipped) != 1 || out.Skipped[0].Date == nil || !out.Skipped[0].Date.Equal(a.Now().Add(50*day+6*time.Hour)) {
		t.Errorf("got %+v, %v", out.Skipped, err)
	}
}

// TestDueTwiceInARow: the schedule's event comes twice, minutes apart, or a person runs
// it again the same day: what began lately counts against the limit, also where the list
// of executions is behind. A day later the next keys have their turn.
func TestDueTwiceInARow(t *testing.T) {
	for _, lag := range []time.Duration{0, 10 * time.Minute} {
		a := iamkeystest.NewAccount()
		a.ExecutionsLag = lag
		for i := range 9 {
			optedInUser(a, fmt.Sprint("ci-", i), time.Duration(100-i)*day)
		}
		limit, began := 2, 0
		run := func() (names []string) {
			out, err := nominator(a.Start()).Run(t.Context(), audit.DueInput{Limit: &limit})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range out.Rotations {
				names = append(names, r.UserName)
				a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: r.AccessKeyID})
				began++
			}
			return names
		}
		equal(t, run(), []string{"ci-0", "ci-1"})
		for _, later := range []time.Duration{time.Minute, 5 * time.Minute, time.Hour, 18 * time.Hour} {
			a.Advance(later)
			if names := run(); len(names) > 0 {
				t.Errorf("lag %s: %s later it nominates %q", lag, later, names)
			}
		}
		a.Advance(2 * time.Hour)
		equal(t, run(), []string{"ci-2", "ci-3"})
		if began != 4 {
			t.Errorf("lag %s: %d rotations", lag, began)
		}
	}
}

// TestDueExecutionsUnread: where Step Functions does not say what was begun, nothing is
// nominated: what is not known is not "none".
func TestDueExecutionsUnread(t *testing.T) {
	for _, unread := range []string{"states:ListExecutions", "states:DescribeExecution"} {
		for fault, want := range map[iamkeystest.Fault]iamkeys.Code{iamkeystest.Throttled: iamkeys.Throttled, iamkeystest.Refused: iamkeys.AccessDenied, iamkeystest.Unanswered: iamkeys.Internal} {
			a := iamkeystest.NewAccount()
			a.ExecutionsLag = time.Minute
			id := optedInUser(a, user, 85*day)
			a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: id})
			p := a.Start()
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action == unread {
					return fault
				}
				return iamkeystest.None
			}
			out, err := nominator(p).Run(t.Context(), audit.DueInput{})
			if iamkeys.CodeOf(err) != want || len(out.Rotations) > 0 {
				t.Errorf("%s %s: got %+v, %v; want %s", unread, fault, out.Rotations, err, want)
			}
		}
	}
}

// TestDueStaysSmall: with as many rotations as a limit allows, as many skipped users as
// there are, and the longest names and owners, the output is a state of a workflow.
func TestDueStaysSmall(t *testing.T) {
	for owner, all := range map[string]bool{strings.Repeat("o", 256): true, strings.Repeat("界", 256): true, strings.Repeat("\"", 256): false} {
		a := iamkeystest.NewAccount()
		for i := range 200 {
			name := fmt.Sprintf("%064d", i)
			id := optedInUser(a, name, 100*day, iamkeys.Tag{Key: "owner", Value: owner}, iamkeys.Tag{Key: "iamkeys:secret", Value: "iamkeys/" + name + "/" + strings.Repeat("s", 256-9-64)})
			if i >= 60 {
				a.UsedAgo(id, 60*day, "s3", "")
			}
		}
		limit := 50
		out, err := nominator(a.Start()).Run(t.Context(), audit.DueInput{Limit: &limit})
		if err != nil {
			t.Fatal(err)
		}
		total := len(out.Rotations)
		for _, n := range out.SkippedCounts {
			total += n
		}
		size := len(marshal(t, out))
		if size > 32<<10 || total != 200 || (len(out.Rotations) == 50) != all || len(*out.Rotations[0].Owner) > 128 {
			t.Errorf("owners %.3s: %d bytes, %d rotations, %d skipped, counts %v", owner, size, len(out.Rotations), len(out.Skipped), out.SkippedCounts)
		}
	}
}

// TestDueCountsWhatBegan: rotations that began lately count, whoever's they are.
func TestDueCountsWhatBegan(t *testing.T) {
	a := iamkeystest.NewAccount()
	optedInUser(a, user, 100*day)
	for i, ago := range []time.Duration{time.Hour, 21 * time.Hour} {
		a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: fmt.Sprint("AKIAIAMKEYSTEST0800", i), Status: "SUCCEEDED", Started: a.Now().Add(-ago)})
	}
	for limit, want := range map[int]int{1: 0, 2: 1} {
		if out, err := nominator(a.Start()).Run(t.Context(), audit.DueInput{Limit: &limit}); err != nil || len(out.Rotations) != want || out.SkippedCounts[audit.SkipLimit] != 1-want {
			t.Errorf("limit %d: %+v, %v", limit, out, err)
		}
	}
}

// TestDueSecretUnread: a secret that cannot be read leaves the key not examined, and says so.
func TestDueSecretUnread(t *testing.T) {
	a := iamkeystest.NewAccount()
	optedInUser(a, user, 100*day)
	a.AddUser("alice")
	p := a.Start()
	p.Fault = refuse("secretsmanager:DescribeSecret")
	out, err := nominator(p).Run(t.Context(), audit.DueInput{})
	if err != nil || len(out.Rotations) > 0 || out.SkippedCounts[audit.SkipUnexamined] != 1 || out.Coverage != (audit.Coverage{Users: 2, UsersExamined: 1, Keys: 1}) {
		t.Errorf("%+v, %v", out, err)
	}
}
