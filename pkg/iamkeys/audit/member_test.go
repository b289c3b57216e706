package audit_test

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// hubAuditor gives the audit of a process in the hub.
func hubAuditor(p *iamkeystest.HubProcess) audit.Audit {
	o := auditor(p.Process)
	o.STS, o.Role = p, audit.MemberRole{Partition: "aws", Path: "/", Name: memberRole, ExternalID: "our word"}
	o.Inventory.Sleep = p.Organization.Sleep
	o.As = func(s iamkeys.Session) audit.Access {
		there := p.As(s)
		return audit.Access{IAM: there, Calls: p.IAMCalls}
	}
	return o
}

// memberInput is what the workflow gives the audit of that account.
func memberInput(run audit.AccountsOutput, account string) audit.Input {
	return audit.Input{Account: account, Name: "account", RunID: run.RunID, Day: run.Day}
}

// examine runs the audit of a member account in a process of its own.
func examine(o *iamkeystest.Organization, in audit.Input, arrange ...func(*iamkeystest.HubProcess, *audit.Audit)) (out audit.Output, err error, died bool) {
	p := o.Start()
	op := hubAuditor(p)
	for _, f := range arrange {
		f(p, &op)
	}
	if err := in.Validate(); err != nil {
		return out, err, false
	}
	died = p.Run(func() { out, err = op.Run(context.Background(), in) })
	return out, err, died
}

func mustExamine(t testing.TB, o *iamkeystest.Organization, in audit.Input, arrange ...func(*iamkeystest.HubProcess, *audit.Audit)) audit.Output {
	t.Helper()
	out, err, _ := examine(o, in, arrange...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// prefixOf is what the objects of an account's run begin with.
func prefixOf(run audit.AccountsOutput, account string) string {
	return "reports/" + account + "/" + strings.ReplaceAll(run.Day, "-", "/") + "/" + run.RunID
}

// populate gives the account users of every kind.
func populate(a *iamkeystest.Account) {
	a.AddUser("ci", iamkeys.Tag{Key: "owner", Value: "ci@example.com"})
	a.AddKey("ci", 100*day)
	a.AddUser("idle")
	a.AddKey("idle", 60*day)
	a.AddUser("fine")
	a.UsedAgo(a.AddKey("fine", 10*day), day, "s3", "eu-west-1")
}

func TestMember(t *testing.T) {
	o := organization(2)
	for _, m := range o.Members() {
		populate(m.Account)
	}
	o.Member(accountID(1)).ExternalID = "our word"
	run := mustList(t, o, started(o))
	for _, account := range []string{accountID(1), o.Hub.ID} {
		var process *iamkeystest.HubProcess
		out := mustExamine(t, o, memberInput(run, account), func(p *iamkeystest.HubProcess, _ *audit.Audit) { process = p })
		report := stored[audit.Report](t, o, prefixOf(run, account)+".json")
		if report.Summary.Account != account || report.Summary.RunID != run.RunID || len(report.Findings) != 3 || report.Findings[0].Account != account || !strings.Contains(report.Findings[0].UserARN, account) {
			t.Errorf("the report is of account %s, run %s, with findings %+v", report.Summary.Account, report.Summary.RunID, report.Findings)
		}
		if !reflect.DeepEqual(out.Summary.Severities, report.Summary.Severities) || out.Notified || out.Report.Prefix != prefixOf(run, account) {
			t.Errorf("answered %+v", out)
		}
		assumed := 0
		for _, called := range process.Calls {
			if called == "sts:AssumeRole" {
				assumed++
			}
		}
		if want := map[bool]int{true: 0, false: 1}[account == o.Hub.ID]; assumed != want {
			t.Errorf("account %s: %d roles assumed, want %d", account, assumed, want)
		}
		for _, ending := range []string{".txt", ".csv", ".html"} {
			if _, ok := o.Hub.Objects()[prefixOf(run, account)+ending]; !ok {
				t.Errorf("account %s has no %s", account, ending)
			}
		}
		if _, ok := o.Hub.Objects()["reports/"+account+"/latest.json"]; ok || len(o.Hub.Messages()) > 0 {
			t.Errorf("account %s: latest.json %t, %d messages: both are merge's", account, ok, len(o.Hub.Messages()))
		}
		again := mustExamine(t, o, memberInput(run, account), func(p *iamkeystest.HubProcess, op *audit.Audit) {
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action != "s3:GetObject" {
					return iamkeystest.Refused
				}
				return iamkeystest.None
			}
		})
		if !reflect.DeepEqual(again, out) {
			t.Errorf("a stored report answers %+v, want %+v", again, out)
		}
	}
}

// A member's findings are compared with its account's latest report.
func TestMemberCompares(t *testing.T) {
	o := organization(1)
	populate(o.Member(accountID(1)).Account)
	run := mustList(t, o, started(o))
	mustExamine(t, o, memberInput(run, accountID(1)))
	o.Hub.SetObject("reports/"+accountID(1)+"/latest.json", o.Hub.Objects()[prefixOf(run, accountID(1))+".json"].Content)
	o.Advance(day)
	o.Member(accountID(1)).AddUser("late")
	o.Member(accountID(1)).AddKey("late", 200*day)
	o.Member(accountID(1)).RemoveUser("idle")
	run = mustList(t, o, started(o))
	s := mustExamine(t, o, memberInput(run, accountID(1))).Summary
	if s.New != 2 || s.Open != 2 || s.Resolved != 1 {
		t.Errorf("%d new, %d open, %d resolved; want 2, 2 and 1", s.New, s.Open, s.Resolved)
	}
}

func TestMemberRefusals(t *testing.T) {
	o := organization(2)
	run := mustList(t, o, started(o))
	now := o.Hub.Now()
	in := memberInput(run, accountID(1))
	with := func(change func(*audit.Input)) audit.Input { changed := in; change(&changed); return changed }
	for name, in := range map[string]audit.Input{
		"account, runId and day": {Name: "x"}, "account, runId and day must": {Failed: &audit.Failed{Error: "x"}},
		"account must":         with(func(in *audit.Input) { in.Account = "../210987654321" }),
		"account must be":      with(func(in *audit.Input) { in.Account = "" }),
		"runId must":           with(func(in *audit.Input) { in.RunID = "../../" + accountID(2) + "/latest" }),
		"runId must be":        with(func(in *audit.Input) { in.RunID = "" }),
		"day must":             with(func(in *audit.Input) { in.Day = "" }),
		"day must be":          with(func(in *audit.Input) { in.Day = "2026-11-23/.." }),
		"asOf":                 with(func(in *audit.Input) { in.AsOf = &now }),
		"notify":               with(func(in *audit.Input) { in.Tell = audit.TellAlways }),
		"failed.error":         with(func(in *audit.Input) { in.Failed = &audit.Failed{} }),
		"account 999999999999": with(func(in *audit.Input) { in.Account = "999999999999" }),
		"account 999999999998": with(func(in *audit.Input) {
			in.Account, in.Failed = "999999999998", &audit.Failed{Error: "States.Timeout"}
		}),
	} {
		before := len(o.Hub.Stored())
		_, err, _ := examine(o, in)
		if iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: got %v, want InvalidInput naming %s", in, err, name)
		}
		if len(o.Hub.Stored()) != before {
			t.Errorf("%+v stored %v", in, o.Hub.Stored()[before:])
		}
	}
	calls := 0
	_, err, _ := examine(o, in, func(p *iamkeystest.HubProcess, op *audit.Audit) {
		op.Role.Name = ""
		p.Before = func(int, string) { calls++ }
	})
	if iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), "MemberRole") || calls > 0 {
		t.Errorf("without MemberRole, after %d calls: %v", calls, err)
	}
	// Where nobody has stored a list, a person examines one account.
	if out := mustExamine(t, o, audit.Input{Account: accountID(1), RunID: "by-hand", Day: "2026-11-23"}); out.RunID != "by-hand" {
		t.Errorf("by hand: %+v", out)
	}
}

// Why an account was not examined is told by name, stored, and gives way to a report.
func TestMemberReasons(t *testing.T) {
	refused := func(action string) func(*iamkeystest.HubProcess, *audit.Audit) {
		return func(p *iamkeystest.HubProcess, _ *audit.Audit) {
			p.Fault = func(_ int, a string) iamkeystest.Fault {
				if a == action {
					return iamkeystest.Refused
				}
				return iamkeystest.None
			}
		}
	}
	for name, c := range map[string]struct {
		arrange func(*iamkeystest.Member)
		fault   func(*iamkeystest.HubProcess, *audit.Audit)
		code    iamkeys.Code
		reason  audit.NotExamined
	}{
		"no role":               {arrange: func(m *iamkeystest.Member) { m.Role = "" }, code: iamkeys.RoleUnavailable, reason: audit.RoleUnavailable},
		"a role of another one": {arrange: func(m *iamkeystest.Member) { m.Role = "others-role" }, code: iamkeys.RoleUnavailable, reason: audit.RoleUnavailable},
		"another external ID":   {arrange: func(m *iamkeystest.Member) { m.ExternalID = "their word" }, code: iamkeys.RoleUnavailable, reason: audit.RoleUnavailable},
		"closed since":          {arrange: func(m *iamkeystest.Member) { m.State = "CLOSED" }, code: iamkeys.RoleUnavailable, reason: audit.RoleUnavailable},
		"behind a policy":       {arrange: func(m *iamkeystest.Member) { m.Denied = true }, code: iamkeys.InventoryUnavailable, reason: audit.Denied},
		"a read not permitted":  {fault: refused("iam:GetAccountAuthorizationDetails"), code: iamkeys.InventoryUnavailable, reason: audit.Denied},
		"no user readable":      {fault: refused("iam:ListAccessKeys"), code: iamkeys.InventoryUnavailable, reason: audit.Denied},
		"the store":             {fault: refused("s3:PutObject"), code: iamkeys.StoreFailed, reason: audit.FailedAudit},
	} {
		t.Run(name, func(t *testing.T) {
			o := organization(1)
			m := o.Member(accountID(1))
			m.Name = "Ops, <EU>"
			m.AddUser("idle")
			m.AddKey("idle", 60*day)
			run := mustList(t, o, started(o))
			if c.arrange != nil {
				c.arrange(m)
			}
			fault := c.fault
			if fault == nil {
				fault = func(*iamkeystest.HubProcess, *audit.Audit) {}
			}
			_, err, _ := examine(o, memberInput(run, m.ID), fault)
			failure, ok := err.(*iamkeys.Error)
			if !ok || failure.Code != c.code || !strings.Contains(failure.Message, m.ID) {
				t.Fatalf("got %v, want %s naming account %s", err, c.code, m.ID)
			}
			if c.code == iamkeys.RoleUnavailable && !strings.Contains(failure.Message, memberRole) {
				t.Errorf("the role is not named: %v", failure.Message)
			}
			if _, ok := o.Hub.Objects()[prefixOf(run, m.ID)+".json"]; ok {
				t.Error("a report was stored")
			}
			cause, err := json.Marshal(map[string]any{"errorMessage": failure.Message, "errorType": failure.Code})
			if err != nil {
				t.Fatal(err)
			}
			in := memberInput(run, m.ID)
			in.Failed = &audit.Failed{Error: string(failure.Code), Cause: string(cause)}
			out := mustExamine(t, o, in)
			if out.Account != m.ID || out.RunID != run.RunID || out.Report.Prefix != prefixOf(run, m.ID) {
				t.Errorf("answered %+v", out)
			}
			why := stored[map[string]string](t, o, prefixOf(run, m.ID)+".failed.json")
			if why["reason"] != string(c.reason) || why["error"] != string(c.code) || why["cause"] != failure.Message[:min(len(failure.Message), 1024)] || why["account"] != m.ID || why["runId"] != run.RunID {
				t.Errorf("stored %v, want reason %s of %v", why, c.reason, failure.Message)
			}
		})
	}
}

func TestMemberReasonWords(t *testing.T) {
	for failed, want := range map[audit.Failed]audit.NotExamined{
		{Error: "Throttled", Cause: "AWS throttled sts:AssumeRole."}:                                                              audit.Throttled,
		{Error: "InventoryUnavailable", Cause: "The account's users could not be read (Throttled)."}:                              audit.Throttled,
		{Error: "InventoryUnavailable", Cause: "The account's users could not be read (time ran out)."}:                           audit.TimedOut,
		{Error: "InventoryUnavailable", Cause: "The account's users could not be read (Internal)."}:                               audit.FailedAudit,
		{Error: "InventoryUnavailable", Cause: `None of the 2 users of account 1 could be examined, such as "a" (time ran out).`}: audit.TimedOut,
		{Error: "Lambda.TooManyRequestsException", Cause: "Rate Exceeded."}:                                                       audit.Throttled,
		{Error: "States.Timeout"}:                                                                                      audit.TimedOut,
		{Error: "Sandbox.Timedout", Cause: "Task timed out"}:                                                           audit.TimedOut,
		{Error: "Lambda.Unknown", Cause: "gone"}:                                                                       audit.TimedOut,
		{Error: "Runtime.ExitError", Cause: "signal: killed"}:                                                          audit.FailedAudit,
		{Error: "StoreFailed", Cause: "latest.json (Throttled)"}:                                                       audit.FailedAudit,
		{Error: "RoleUnavailable", Cause: "Role x of account y."}:                                                      audit.RoleUnavailable,
		{Error: "RoleUnavailable", Cause: "sts:AssumeRole is denied by a service control policy of the organization."}: audit.Denied,
	} {
		o := organization(1)
		run := mustList(t, o, started(o))
		in := memberInput(run, accountID(1))
		in.Failed = &failed
		mustExamine(t, o, in)
		if got := stored[map[string]string](t, o, prefixOf(run, accountID(1))+".failed.json"); got["reason"] != string(want) {
			t.Errorf("%+v is %s, want %s", failed, got["reason"], want)
		}
	}
	// A long cause is cut between characters; a report that is there stays the truth.
	o := organization(1)
	run := mustList(t, o, started(o))
	in := memberInput(run, accountID(1))
	in.Failed = &audit.Failed{Error: "Internal", Cause: "x" + strings.Repeat("ü", 40_000)}
	mustExamine(t, o, in)
	if got := stored[map[string]string](t, o, prefixOf(run, accountID(1))+".failed.json")["cause"]; len(got) > 1024 || len(got) < 1020 || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("%d bytes of cause are stored", len(got))
	}
	o = organization(1)
	populate(o.Member(accountID(1)).Account)
	run = mustList(t, o, started(o))
	want := mustExamine(t, o, memberInput(run, accountID(1)))
	in = memberInput(run, accountID(1))
	in.Failed = &audit.Failed{Error: "States.Timeout"}
	if got := mustExamine(t, o, in); !reflect.DeepEqual(got, want) {
		t.Errorf("where a report is stored, a failure answers %+v", got)
	}
	if _, ok := o.Hub.Objects()[prefixOf(run, accountID(1))+".failed.json"]; ok {
		t.Error("a failure was stored beside the report")
	}
}

// Whatever happens to whichever call of a child: it stores a whole report or none, says
// what went wrong, and a repeat ends as an undisturbed run does.
func TestMemberFaults(t *testing.T) {
	arrange := func() (*iamkeystest.Organization, audit.AccountsOutput) {
		o := organization(2)
		populate(o.Member(accountID(1)).Account)
		run := mustList(t, o, started(o))
		return o, run
	}
	o, run := arrange()
	smooth := mustExamine(t, o, memberInput(run, accountID(1)))
	n := 1
	for ; ; n++ {
		reached := false
		for _, fault := range iamkeystest.Faults {
			o, run := arrange()
			out, err, died := examine(o, memberInput(run, accountID(1)), func(p *iamkeystest.HubProcess, _ *audit.Audit) {
				p.Fault = func(i int, _ string) iamkeystest.Fault {
					if i == n {
						reached = true
						return fault
					}
					return iamkeystest.None
				}
			})
			_, whole := o.Hub.Objects()[prefixOf(run, accountID(1))+".json"]
			if err == nil && !died && (!whole || !out.Coverage.Complete && out.Rules[audit.Unexamined] == 0) {
				t.Errorf("%s at call %d: answered %+v, and a report is stored: %t", fault, n, out, whole)
			}
			for key := range o.Hub.Objects() {
				if strings.Contains(key, "latest.json") || !strings.HasPrefix(key, prefixOf(run, accountID(1))) && !strings.HasPrefix(key, "reports/organization/") {
					t.Errorf("%s at call %d stored %s", fault, n, key)
				}
			}
			if again := mustExamine(t, o, memberInput(run, accountID(1))); !whole && !reflect.DeepEqual(again.Severities, smooth.Severities) {
				t.Errorf("%s at call %d: a repeat gives %+v", fault, n, again)
			}
		}
		if !reached {
			break
		}
	}
	if n < 12 {
		t.Errorf("faults at %d calls only", n-1)
	}
}

// Two children of one account at the same time store the same.
func TestMemberTwice(t *testing.T) {
	o := organization(1)
	populate(o.Member(accountID(1)).Account)
	run := mustList(t, o, started(o))
	var other *audit.Output
	out := mustExamine(t, o, memberInput(run, accountID(1)), func(p *iamkeystest.HubProcess, _ *audit.Audit) {
		p.Before = func(_ int, action string) {
			if action == "s3:PutObject" && other == nil {
				other = &audit.Output{}
				o.Advance(time.Minute)
				*other = mustExamine(t, o, memberInput(run, accountID(1)))
			}
		}
	})
	if !reflect.DeepEqual(out, *other) {
		t.Errorf("got %+v and %+v", out, *other)
	}
}

// An account without users, and one with thousands, are accounts like others.
func TestMemberSizes(t *testing.T) {
	o := organization(2)
	big := o.Member(accountID(2))
	for i := range 5000 {
		name := "user-" + strings.Repeat("x", i%3) + time.Duration(i).String()
		big.AddUser(name)
		big.AddKey(name, 100*day)
	}
	run := mustList(t, o, started(o))
	if out := mustExamine(t, o, memberInput(run, accountID(1))); out.Coverage.Users != 0 || !out.Coverage.Complete {
		t.Errorf("no users: %+v", out.Coverage)
	}
	if out := mustExamine(t, o, memberInput(run, accountID(2))); out.Coverage.Users != 5000 || out.Coverage.UsersExamined != 5000 || out.Severities.High != 5000 || out.Severities.Medium != 5000 {
		t.Errorf("5,000 users: %+v %+v", out.Coverage, out.Severities)
	}
}

// An account of twenty users costs six calls to IAM and STS, and one for each user with
// a finding.
func TestMemberCalls(t *testing.T) {
	o := organization(1)
	m := o.Member(accountID(1))
	for i := range 20 {
		name := "user-" + string(rune('a'+i))
		m.AddUser(name)
		age := day
		if i%4 == 0 {
			age = 200 * day // five with findings
		}
		m.UsedAgo(m.AddKey(name, age), age/2, "s3", "eu-west-1")
	}
	run := mustList(t, o, started(o))
	var process *iamkeystest.HubProcess
	out := mustExamine(t, o, memberInput(run, m.ID), func(p *iamkeystest.HubProcess, _ *audit.Audit) { process = p })
	calls := map[string]int{}
	for _, called := range process.Calls {
		service, _, _ := strings.Cut(called, ":")
		calls[service]++
	}
	polls := 1 // the credential report is asked for twice, and polls are aside
	if n := calls["iam"] + calls["sts"]; out.New == 0 || n > 6+5+polls {
		t.Errorf("%d calls, want 6 and one for each of 5 users with findings: %v", n, calls)
	}
	if calls["s3"] > 8 {
		t.Errorf("%d requests to S3: the list, what is stored, what was before, four forms", calls["s3"])
	}
}
