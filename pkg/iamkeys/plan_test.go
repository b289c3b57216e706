package iamkeys_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func planner(p *iamkeystest.Process) iamkeys.Plan {
	return iamkeys.Plan{
		IAM: p, SecretsManager: p, StepFunctions: p, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"}, OwnerTag: "owner",
		QuietHours: 216, PollHours: 6, MaxWaitDays: 45, SoakDays: 30, Now: p.Now,
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
		}, iamkeys.StartDeactivate, ""},
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
		}, iamkeys.StartDeactivate, ""},
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
				if r.Polls != 180 || r.RemindAtPoll != 90 || r.PollSeconds != 21600 || r.SoakDays != 30 || r.QuietHours != 216 {
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
		{quiet: 24, polls: 180, remind: 90},
		{quiet: 23, field: "quietHours"},
		{quiet: -1, field: "quietHours"},
		{quiet: 45*24 - 6, polls: 180, remind: 90},
		{quiet: 45*24 - 5, field: "quietHours"}, // with the last-use lag it does not fit in the wait
		{quiet: 8761, field: "quietHours"},
		{quiet: 24, poll: 24, wait: 1, field: "quietHours"},
		{quiet: 24, poll: 24, wait: 2, polls: 2, remind: 1},
		{quiet: 24, poll: 48, wait: 2, polls: 1, remind: 1},
		{quiet: 24, poll: 49, wait: 2, field: "pollHours"},
		{quiet: 24, poll: 7, wait: 2, polls: 7, remind: 4},
		{quiet: 24, poll: 1, wait: 10, polls: 240, remind: 120},
		{quiet: 24, poll: 1, wait: 11, field: "pollHours"},
		{poll: -1, field: "pollHours"},
		{wait: -1, field: "maxWaitDays"},
		{soak: -1, field: "soakDays"},
		{poll: 30, wait: 300, soak: 40, polls: 240, remind: 120},
		{poll: 30, wait: 300, soak: 41, field: "maxWaitDays"},
		{wait: 341, field: "maxWaitDays"},
		{soak: 341, field: "soakDays"},
		{poll: 100, wait: 25, soak: 315, polls: 6, remind: 3}, // six times 100 hours are 25 days
		{poll: 101, wait: 25, soak: 315, field: "maxWaitDays"},
		{poll: 4100, wait: 170, soak: 170, field: "maxWaitDays"},
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

// A rotation's execution is named by the key that it replaces: so Step Functions
// itself refuses a second one.
func TestPlanHoldsTheNameToTheKey(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	id := a.AddKey(user, 80*day)
	for _, c := range []struct {
		name string
		want iamkeys.Code
	}{
		{id, ""}, {id + "-2", ""}, {id + "-after the outage", ""},
		{"", iamkeys.InvalidInput}, {"rotation-of-alice", iamkeys.InvalidInput}, {id + "2", iamkeys.InvalidInput}, {id[:19], iamkeys.InvalidInput},
		{"AKIAIOSFODNN7EXAMPLE", iamkeys.InvalidInput}, {"retire-" + id, iamkeys.InvalidInput}, {strings.ToLower(id), iamkeys.InvalidInput},
	} {
		for _, named := range []string{"", id} {
			in := iamkeys.PlanInput{UserName: user, AccessKeyID: named, Execution: &iamkeys.ThisExecution{Name: c.name, Started: a.Now()}}
			err := in.Validate()
			if err == nil {
				_, err = planner(a.Start()).Run(t.Context(), in)
			}
			if iamkeys.CodeOf(err) != c.want || c.want != "" && !strings.Contains(err.Error(), "execution.name") {
				t.Errorf("execution %q, key %q: got %v, want code %q", c.name, named, err, c.want)
			}
		}
	}
}

// An execution that does not say when it was started, or by what name, is refused before
// anything is called: it would go before all others.
func TestPlanExecutionUnsaid(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	id := a.AddKey(user, 80*day)
	for _, c := range []struct {
		execution iamkeys.ThisExecution
		field     string
	}{
		{iamkeys.ThisExecution{Name: id}, "execution.started"}, {iamkeys.ThisExecution{}, "execution.started"}, {iamkeys.ThisExecution{Started: a.Now()}, "execution.name"},
	} {
		for _, named := range []string{"", id} {
			if err := (iamkeys.PlanInput{UserName: user, AccessKeyID: named, Execution: &c.execution}).Validate(); iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), c.field) {
				t.Errorf("plan, %+v, key %q: got %v, want InvalidInput naming %s", c.execution, named, err, c.field)
			}
		}
		if c.field == "execution.name" {
			continue // a retirement's is whatever it is
		}
		if err := (iamkeys.RetireInput{UserName: user, AccessKeyID: id, Stage: "warning", Execution: &c.execution}).Validate(); iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), c.field) {
			t.Errorf("retire, %+v: got %v, want InvalidInput naming %s", c.execution, err, c.field)
		}
	}
}

func TestPlanProtected(t *testing.T) {
	for _, value := range []string{"true", "yes", "", "false"} {
		a := iamkeystest.NewAccount()
		a.AddUser(user, iamkeys.Tag{Key: "IamKeys:Protect", Value: value}, iamkeys.Tag{Key: iamkeys.TagSecret, Value: "elsewhere/x"})
		a.AddKey(user, 80*day)
		_, err := planner(a.Start()).Run(t.Context(), iamkeys.PlanInput{UserName: user})
		wantCode(t, err, iamkeys.Protected)
	}
}

// Of one user's rotations the one begun first goes on.
func TestPlanGivesWay(t *testing.T) {
	const old, second = "AKIAIAMKEYSTEST00001", "AKIAIAMKEYSTEST00002" // the user's keys, the second one where the other execution is about it
	this := iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: old, Input: json.RawMessage(`{"userName":"` + user + `"}`), Started: iamkeystest.Epoch}
	with := func(change func(*iamkeys.Execution)) iamkeys.Execution {
		e := this
		e.Name = old + "-2"
		change(&e)
		return e
	}
	started := func(d time.Duration) func(*iamkeys.Execution) {
		return func(e *iamkeys.Execution) { e.Started = iamkeystest.Epoch.Add(d) }
	}
	for _, c := range []struct {
		name  string
		other iamkeys.Execution
		want  iamkeys.Code
	}{
		{"alone", this, ""},
		{"an earlier one", with(started(-time.Millisecond)), iamkeys.InProgress},
		{"an earlier one of another key", with(func(e *iamkeys.Execution) { e.Name = second; e.Started = e.Started.Add(-40 * day) }), iamkeys.InProgress},
		{"an earlier one whose name says nothing", with(func(e *iamkeys.Execution) { e.Name = "by-hand"; started(-time.Hour)(e) }), iamkeys.InProgress},
		{"an earlier one of a key that is not the user's", with(func(e *iamkeys.Execution) { e.Name = "AKIAIOSFODNN7EXAMPLE"; started(-time.Hour)(e) }), ""},
		{"a later one", with(started(time.Millisecond)), ""},
		{"at the same instant, the greater name", with(started(time.Microsecond)), ""},
		{"at the same instant, the lesser name", with(func(e *iamkeys.Execution) { e.Name = "-" }), iamkeys.InProgress},
		{"an earlier one in another letter case", with(func(e *iamkeys.Execution) {
			started(-time.Hour)(e)
			e.Input = json.RawMessage(`{"userName":"CI-Deploy"}`)
		}), iamkeys.InProgress},
		{"an earlier one of another user", with(func(e *iamkeys.Execution) {
			started(-time.Hour)(e)
			e.Input = json.RawMessage(`{"userName":"other"}`)
		}), ""},
		{"an earlier one of nobody", with(func(e *iamkeys.Execution) {
			started(-time.Hour)(e)
			e.Input = json.RawMessage(`["` + user + `"]`)
		}), ""},
		{"an earlier one that has failed", with(func(e *iamkeys.Execution) {
			started(-time.Hour)(e)
			e.Status = iamkeys.ExecutionFailed
		}), ""},
		{"an earlier retirement", with(func(e *iamkeys.Execution) {
			started(-time.Hour)(e)
			e.Workflow, e.Name = iamkeys.RetirementWorkflow, "retire-"+second
		}), iamkeys.InProgress},
		{"an earlier one that was stopped and redriven", with(started(-time.Hour)), iamkeys.InProgress},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := iamkeystest.NewAccount()
			a.AddUser(user)
			a.AddKey(user, 80*day)
			if strings.HasSuffix(c.other.Name, second) {
				a.AddKey(user, 200*day)
			}
			a.SetExecution(this)
			a.SetExecution(c.other)
			in := iamkeys.PlanInput{UserName: user, Execution: &iamkeys.ThisExecution{Name: this.Name, Started: this.Started}}
			_, err := planner(a.Start()).Run(t.Context(), in)
			wantCode(t, err, c.want)
			if c.want != "" && !strings.Contains(err.Error(), c.other.Name) {
				t.Errorf("%v does not name %s", err, c.other.Name)
			}
			in.Execution = nil // whoever is no execution gives way to every one
			_, err = planner(a.Start()).Run(t.Context(), in)
			wantCode(t, err, iamkeys.InProgress)
		})
	}

	t.Run("what cannot be read is no leave", func(t *testing.T) {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		a.AddKey(user, 80*day)
		a.SetExecution(with(started(-time.Hour)))
		for _, unread := range []string{"states:ListExecutions", "states:DescribeExecution"} {
			p := a.Start()
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action == unread {
					return iamkeystest.Throttled
				}
				return iamkeystest.None
			}
			_, err := planner(p).Run(t.Context(), iamkeys.PlanInput{UserName: user, Execution: &iamkeys.ThisExecution{Name: this.Name, Started: this.Started}})
			wantCode(t, err, iamkeys.Throttled)
		}
		o := planner(a.Start())
		o.StepFunctions = withoutInputs{a.Start()}
		_, err := o.Run(t.Context(), iamkeys.PlanInput{UserName: user, Execution: &iamkeys.ThisExecution{Name: this.Name, Started: this.Started}})
		wantCode(t, err, iamkeys.Internal)
	})
}

// withoutInputs does not say what executions were started with.
type withoutInputs struct{ *iamkeystest.Process }

func (w withoutInputs) DescribeExecution(ctx context.Context, workflow iamkeys.Workflow, name string) (iamkeys.Execution, error) {
	e, err := w.Process.DescribeExecution(ctx, workflow, name)
	e.Input = nil
	return e, err
}

// Step Functions describes a few executions a second: other users' hundreds, which all
// come on the same days, are told by their names.
func TestGiveWayAsksForItsOwn(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	key := a.AddKey(user, 200*day)
	for i := range 500 {
		other := fmt.Sprintf("AKIAOTHERUSERS%06d", i)
		input := json.RawMessage(`{"userName":"other","accessKeyId":"` + other + `"}`)
		a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: other, Started: a.Now().Add(-day), Input: input})
		a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RetirementWorkflow, Name: "retire-" + other + "-2", Started: a.Now().Add(-day), Input: input})
	}
	asked := func(p *iamkeystest.Process) int {
		n := 0
		for _, call := range p.Calls {
			if call == "states:DescribeExecution" {
				n++
			}
		}
		return n
	}
	p := a.Start()
	if _, err := planner(p).Run(t.Context(), iamkeys.PlanInput{UserName: user}); err != nil || asked(p) > 0 {
		t.Errorf("plan: %v, after asking for %d executions", err, asked(p))
	}
	p = a.Start()
	if _, err := retirer(p).Run(t.Context(), iamkeys.RetireInput{UserName: user, AccessKeyID: key, Stage: iamkeys.RetireOff}); err != nil || asked(p) > 0 {
		t.Errorf("retire: %v, after asking for %d executions", err, asked(p))
	}
}

// Where the old key was last used by SES, its mail hosts hold what is derived from it:
// the rotation says so, for the notice, and of no other service.
func TestPlanNamesSES(t *testing.T) {
	for service, want := range map[string]string{"": "", "s3": "", "ses": "ses"} {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		if key := a.AddKey(user, 100*day); service != "" {
			a.UsedAgo(key, day, service, "eu-west-1")
		}
		r, err := planner(a.Start()).Run(t.Context(), iamkeys.PlanInput{UserName: user})
		if err != nil || (r.ServiceName == nil) != (want == "") || r.ServiceName != nil && *r.ServiceName != want {
			t.Errorf("last used by %q: got %v, %v", service, r.ServiceName, err)
		}
	}
}
