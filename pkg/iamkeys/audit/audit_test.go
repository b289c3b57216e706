package audit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/render"
)

const base = "reports/123456789012/"

// mail stands in for render.Text.
func mail(r audit.Report, where string, limit int) []byte {
	return fmt.Appendf(nil, "text %s, %d of %d at %s", r.Summary.RunID, limit, len(r.Findings), where)
}

// auditor gives the audit of a process. Its text, CSV and HTML only show what
// they were made of.
func auditor(p *iamkeystest.Process) audit.Audit {
	return audit.Audit{
		Inventory: takeInventory(p), S3: p, SNS: p,
		Render: audit.Renderer{
			Text: mail,
			CSV:  func(r audit.Report) []byte { return []byte("csv " + r.Summary.RunID) },
			HTML: func(r audit.Report) ([]byte, error) { return []byte("html " + r.Summary.RunID), nil },
		},
		Message: notice.Report(mail),
		Account: p.ID, Bucket: "reports", Thresholds: thresholds, OwnerTag: "owner", Tell: audit.TellChanges,
		RequestID: func(context.Context) string { return "request-1" }, Calls: p.IAMCalls, Emit: func([]audit.Metric) {}, Now: p.Now, Log: quiet,
	}
}

// audit runs an audit of the account in a process of its own.
func runAudit(a *iamkeystest.Account, in audit.Input, arrange ...func(*iamkeystest.Process, *audit.Audit)) (out audit.Output, err error, died bool) {
	p := a.Start()
	o := auditor(p)
	for _, f := range arrange {
		f(p, &o)
	}
	died = p.Run(func() { out, err = o.Run(context.Background(), in) })
	return out, err, died
}

// mustAudit runs an audit that must not fail.
func mustAudit(t testing.TB, a *iamkeystest.Account, in audit.Input, arrange ...func(*iamkeystest.Process, *audit.Audit)) audit.Output {
	t.Helper()
	out, err, _ := runAudit(a, in, arrange...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// event is the schedule's event of now.
func event(a *iamkeystest.Account) audit.Input { return audit.Input{EventTime: a.Now()} }

// report gives a stored report, nil when there is none.
func report(t testing.TB, a *iamkeystest.Account, key string) *audit.Report {
	t.Helper()
	o, ok := a.Objects()[key]
	if !ok {
		return nil
	}
	return decoded(t, o.Content)
}

func decoded(t testing.TB, content []byte) *audit.Report {
	t.Helper()
	var r audit.Report
	if err := json.Unmarshal(content, &r); err != nil {
		t.Fatalf("%v: %s", err, content)
	}
	return &r
}

func latest(t testing.TB, a *iamkeystest.Account) *audit.Report {
	t.Helper()
	return report(t, a, base+"latest.json")
}

// states gives what a report says with each finding's state and first sight.
func states(r *audit.Report) []string {
	lines := []string{}
	for _, f := range slices.Concat(r.Findings, r.Exempt, r.Resolved) {
		since := "nobody knows when"
		if f.FirstSeen != nil {
			since = f.FirstSeen.Format("01-02 15:04")
		}
		lines = append(lines, fmt.Sprintf("%s %s %s since %s", f.State, f.Rule, f.UserName, since))
	}
	return lines
}

func equal(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAudit(t *testing.T) {
	a := company()
	var metrics []audit.Metric
	out := mustAudit(t, a, event(a), func(_ *iamkeystest.Process, o *audit.Audit) {
		o.Emit = func(m []audit.Metric) { metrics = append(metrics, m...) }
	})
	const prefix = base + "2026/11/23/20261123T090104Z"
	if out.Report != (audit.ReportLocation{Bucket: "reports", Prefix: prefix}) || !out.Notified || out.MessageID == nil || *out.MessageID != "message-1" {
		t.Errorf("got %+v", out)
	}
	equal(t, a.Stored(), []string{prefix + ".txt", prefix + ".csv", prefix + ".html", prefix + ".json", base + "latest.json"})
	for ending, want := range map[string]iamkeystest.Object{
		".txt":  {ContentType: "text/plain; charset=utf-8", Content: []byte("text 20261123T090104Z, 0 of 8 at s3://reports/" + prefix)},
		".csv":  {ContentType: "text/csv; charset=utf-8", Content: []byte("csv 20261123T090104Z")},
		".html": {ContentType: "text/html; charset=utf-8", Content: []byte("html 20261123T090104Z")},
	} {
		if got := a.Objects()[prefix+ending]; got.ContentType != want.ContentType || string(got.Content) != string(want.Content) {
			t.Errorf("%s: got %s %s", ending, got.ContentType, got.Content)
		}
	}
	stored := report(t, a, prefix+".json")
	equal(t, whats(stored.Findings), companyFindings)
	if o := a.Objects(); string(o[prefix+".json"].Content) != string(o[base+"latest.json"].Content) || o[prefix+".json"].ContentType != "application/json" {
		t.Error("latest.json is not the run's report")
	}
	summary, err := json.Marshal(stored.Summary)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schemaVersion":1,"runId":"20261123T090104Z","account":"123456789012","asOf":"2026-11-23T09:01:04Z","inventory":"credentialReport","generatedTime":"2026-11-23T09:01:04Z","comparedWith":null,` +
		`"coverage":{"users":8,"usersExamined":8,"keys":13,"keysExamined":13,"complete":true},"severities":{"critical":1,"high":3,"medium":1,"low":3},` +
		`"rules":{"aging":1,"exposed":1,"extra-keys":1,"lingering":1,"overdue":1,"root-key":0,"two-active":1,"unexamined":0,"unused":2},"new":8,"open":0,"resolved":0,"exempt":1,` +
		`"thresholds":{"unusedDays":45,"maxAgeDays":90,"warnAgeDays":75,"lingerDays":90,"maxWaitDays":45},`
	if !strings.HasPrefix(string(summary), want) {
		t.Errorf("summary\n got %s\nwant %s", summary, want)
	}
	if ages := stored.Summary.KeyAges; ages.BucketDays != 15 || len(ages.Counts) != 49 || ages.Counts[0] != 5 || ages.Counts[3] != 2 || ages.Counts[20] != 1 || *ages.OldestDays != 300 {
		t.Errorf("key ages %+v", ages)
	}

	messages := a.Messages()
	if len(messages) != 1 {
		t.Fatalf("%d messages", len(messages))
	}
	m := messages[0]
	if m.Subject != "IAM access keys 123456789012: 8 findings (8 new, 1 critical, 3 high)" || m.Text != "text 20261123T090104Z, 8 of 8 at s3://reports/"+prefix {
		t.Errorf("subject %q, text %q", m.Subject, m.Text)
	}
	equal(t, whats(decoded(t, m.JSON).Findings), companyFindings)
	attributes := []iamkeys.Attribute{{Name: "kind", Value: "audit"}, {Name: "severity", Value: "critical"}, {Name: "account", Value: "123456789012"},
		{Name: "new", Value: "8", Number: true}, {Name: "findings", Value: "8", Number: true}}
	if !slices.Equal(m.Attributes, attributes) {
		t.Errorf("attributes %+v", m.Attributes)
	}

	var told []string
	for _, m := range metrics {
		told = append(told, fmt.Sprintf("%s %v %s", m.Name, m.Value, m.Unit))
	}
	equal(t, told, []string{"FindingsCritical 1 Count", "FindingsHigh 3 Count", "FindingsMedium 1 Count", "FindingsLow 3 Count", "Keys 13 Count", "OldestKeyAgeDays 300 None",
		"NotExamined 0 Count", "AuditDuration 0 Milliseconds", "ApiCalls 14 Count", "AuditCompleted 1 Count"})
}

// TestAuditValidate refuses input before anything is called.
func TestAuditValidate(t *testing.T) {
	for _, in := range []audit.Input{
		{Inventory: "report"}, {Tell: "often"}, {Tell: "Always"},
		{AsOf: new(time.Time)}, {AsOf: new(time.Date(2009, 12, 31, 0, 0, 0, 0, time.UTC))}, {AsOf: new(time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC))},
	} {
		if err := in.Validate(); iamkeys.CodeOf(err) != iamkeys.InvalidInput {
			t.Errorf("%+v: %v", in, err)
		}
	}
	for _, in := range []audit.Input{{}, {Inventory: "live", Tell: "never", AsOf: new(asOf)}, {Inventory: "credentialReport", Tell: "changes"}} {
		if err := in.Validate(); err != nil {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

// TestAuditFaults fails each call of an audit in every way, then runs the same
// event again.
func TestAuditFaults(t *testing.T) {
	for _, source := range []audit.Source{audit.FromCredentialReport, audit.FromLive} {
		for _, before := range []bool{false, true} {
			for _, fault := range iamkeystest.Faults {
				t.Run(fmt.Sprintf("%s/%v/%s", source, before, fault), func(t *testing.T) {
					for n := 1; ; n++ {
						a := company()
						a.AddRootKey(day)
						if before {
							mustAudit(t, a, event(a))
							a.Advance(day)
						}
						sent := len(a.Messages())
						in := event(a)
						in.Inventory, in.Tell = source, audit.TellAlways
						var action string
						unnoted := false // the message is out, and latest.json is not written
						_, err, died := runAudit(a, in, func(p *iamkeystest.Process, _ *audit.Audit) {
							p.Fault = func(i int, called string) iamkeystest.Fault {
								if i != n {
									return iamkeystest.None
								}
								action = called
								unnoted = p.Count("sns:Publish") > 0 && !(called == "s3:PutObject" && (fault == iamkeystest.Lost || fault == iamkeystest.DiesAfter))
								return fault
							}
						})
						if action == "" {
							if n < 20 {
								t.Fatalf("only %d calls were made", n-1)
							}
							return
						}
						where := fmt.Sprintf("call %d, %s", n, action)
						if died != (fault == iamkeystest.Dies || fault == iamkeystest.DiesAfter) {
							t.Fatalf("%s: died: %v", where, died)
						}
						check(t, where, a)
						if err == nil && !died {
							if messages := a.Messages(); len(messages) != sent+1 {
								t.Errorf("%s: %d messages after a success", where, len(messages)-sent)
							}
						}
						a.Advance(time.Minute) // a retry comes later
						if _, err, _ := runAudit(a, in); err != nil {
							t.Errorf("%s: the same event again: %v", where, err)
						}
						check(t, where+", again", a)
						prefix := base + in.EventTime.Format("2006/01/02/20060102T150405Z")
						stored, now := report(t, a, prefix+".json"), latest(t, a)
						checkRoot(t, where, now)
						if stored == nil || now == nil || now.Summary.RunID != stored.Summary.RunID {
							t.Fatalf("%s: stored %v, latest %v", where, stored, now)
						}
						switch messages := a.Messages(); len(messages) - sent {
						case 1:
						case 2:
							sentUnknown := action == "sns:Publish" && (fault == iamkeystest.Lost || fault == iamkeystest.DiesAfter)
							if !sentUnknown && !(unnoted && action != "sns:Publish") {
								t.Errorf("%s: two messages", where)
							}
						default:
							t.Errorf("%s: %d messages", where, len(messages)-sent)
						}
						for _, m := range a.Messages()[sent:] {
							if !slices.Equal(states(decoded(t, m.JSON)), states(stored)) {
								t.Errorf("%s: what was sent is not what is stored", where)
							}
						}
					}
				})
			}
		}
	}
}

// check holds what is stored and sent to the promises: everything that is known
// to be wrong with the company's keys is in each report, or its user is said to be
// unexamined; nothing unread is read as never used; no report is clean that should
// not be; a run that is stored is there in all its forms.
func check(t *testing.T, where string, a *iamkeystest.Account) {
	t.Helper()
	used := map[string]bool{} // IDs of keys that were used
	for _, line := range companyFindings {
		if words := strings.Fields(line); len(words) > 2 && !strings.Contains(line, "never used") {
			used[words[2]] = true
		}
	}
	reports := map[string]*audit.Report{}
	for key, o := range a.Objects() {
		if prefix, ok := strings.CutSuffix(key, ".json"); ok {
			reports[key] = decoded(t, o.Content)
			for _, ending := range []string{".txt", ".csv", ".html"} {
				if _, ok := a.Objects()[prefix+ending]; !ok && !strings.HasSuffix(key, "latest.json") {
					t.Errorf("%s: %s is stored without %s", where, key, ending)
				}
			}
		}
	}
	for i, m := range a.Messages() {
		reports[fmt.Sprintf("message %d", i+1)] = decoded(t, m.JSON)
	}
	for name, r := range reports {
		got, c := whats(r.Findings), r.Summary.Coverage
		if unexamined := r.Summary.Rules[audit.Unexamined] > 0; c.Complete == unexamined || c.Complete && (c.Users != c.UsersExamined || c.Keys != c.KeysExamined) {
			t.Errorf("%s: %s: coverage %+v, unexamined: %v", where, name, c, unexamined)
		}
		for _, line := range companyFindings {
			words := strings.Fields(line)
			line = strings.Join(words[:min(4, len(words))], " ") // ages move on
			if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, line) }) && !slices.Contains(got, "unexamined "+words[1]) {
				t.Errorf("%s: %s: %q is missing in %q", where, name, line, got)
			}
		}
		for _, f := range r.Findings {
			if f.NeverUsed != nil && *f.NeverUsed && f.AccessKeyID != nil && used[*f.AccessKeyID] {
				t.Errorf("%s: %s: %s was used", where, name, *f.AccessKeyID)
			}
		}
	}
}

// checkRoot wants the root user's key in the report, or that it is unknown.
func checkRoot(t *testing.T, where string, r *audit.Report) {
	t.Helper()
	if got := whats(r.Findings); !slices.Contains(got, "root-key <root_account>") && !slices.Contains(got, "unexamined <root_account>") {
		t.Errorf("%s: the root user's key is missing in %q", where, got)
	}
}

// TestAuditOutage fails every call of an action: the audit ends with what it has.
func TestAuditOutage(t *testing.T) {
	for _, source := range []audit.Source{audit.FromCredentialReport, audit.FromLive} {
		for _, fault := range []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Unanswered, iamkeystest.Lost} {
			for action, want := range map[string]iamkeys.Code{
				"iam:GenerateCredentialReport":       "",
				"iam:GetCredentialReport":            "",
				"iam:GetAccountSummary":              "",
				"iam:GetAccountAuthorizationDetails": iamkeys.InventoryUnavailable,
				"iam:ListAccessKeys":                 "",
				"iam:GetAccessKeyLastUsed":           "",
				"s3:GetObject":                       iamkeys.StoreFailed,
				"s3:PutObject":                       iamkeys.StoreFailed,
				"sns:Publish":                        iamkeys.NotifyFailed,
			} {
				a := company()
				a.AddRootKey(day)
				in := event(a)
				in.Inventory = source
				if source == audit.FromLive && action == "iam:ListAccessKeys" {
					want = iamkeys.InventoryUnavailable // nobody was examined, and it is told
				}
				out, err, _ := runAudit(a, in, func(p *iamkeystest.Process, _ *audit.Audit) {
					p.Fault = func(_ int, called string) iamkeystest.Fault {
						if called == action {
							return fault
						}
						return iamkeystest.None
					}
				})
				where := fmt.Sprintf("%s, %s %s", source, action, fault)
				if iamkeys.CodeOf(err) != want {
					t.Errorf("%s: %v, want %s", where, err, want)
				}
				if fault == iamkeystest.Refused {
					check(t, where, a)
				}
				published := len(a.Messages()) == 1
				if must := want == "" || action == "iam:ListAccessKeys"; published != must && fault != iamkeystest.Lost {
					t.Errorf("%s: published: %v", where, published)
				}
				if err == nil && out.Coverage.Complete != (len(a.Messages()) == 1 && decoded(t, a.Messages()[0].JSON).Summary.Rules[audit.Unexamined] == 0) {
					t.Errorf("%s: coverage %+v", where, out.Coverage)
				}
				if _, err, _ := runAudit(a, in); iamkeys.CodeOf(err) != "" && action != "iam:ListAccessKeys" {
					t.Errorf("%s: again: %v", where, err)
				}
			}
		}
	}
}

// TestAuditTwice: the same event again is answered from what is stored.
func TestAuditTwice(t *testing.T) {
	a := company()
	in := event(a)
	first := mustAudit(t, a, in)
	objects, stored := a.Objects(), a.Stored()
	for range 3 {
		a.Advance(time.Hour)
		a.AddUser(fmt.Sprint("later", a.Now().Unix()))
		var emitted []audit.Metric
		again, err, _ := runAudit(a, in, func(p *iamkeystest.Process, o *audit.Audit) {
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action != "s3:GetObject" {
					t.Errorf("called %s", action)
				}
				return iamkeystest.None
			}
			o.Emit = func(m []audit.Metric) { emitted = append(emitted, m...) }
		})
		if err != nil || again.Notified || again.MessageID != nil || again.Report != first.Report || len(emitted) > 0 {
			t.Errorf("%+v, %v, metrics %v", again, err, emitted)
		}
		if got, want := marshal(t, again.Summary), marshal(t, first.Summary); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if len(a.Messages()) != 1 || !slices.Equal(a.Stored(), stored) || !maps.EqualFunc(a.Objects(), objects, func(a, b iamkeystest.Object) bool { return string(a.Content) == string(b.Content) }) {
		t.Errorf("%d messages, stored %q", len(a.Messages()), a.Stored())
	}
}

func marshal(t testing.TB, v any) string {
	content, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestAuditBeside runs the same event a second time, whole, before each call of
// the first: one run is stored, which is the latest, and every message tells of
// it what was new.
func TestAuditBeside(t *testing.T) {
	for n := 1; ; n++ {
		a := company()
		in := event(a)
		reached := false
		_, err, _ := runAudit(a, in, func(p *iamkeystest.Process, _ *audit.Audit) {
			p.Before = func(i int, _ string) {
				if i == n {
					reached = true
					mustAudit(t, a, in)
					a.Advance(time.Second)
				}
			}
		})
		if !reached {
			if n < 15 {
				t.Fatalf("only %d calls", n)
			}
			return
		}
		if err != nil {
			t.Errorf("call %d: %v", n, err)
		}
		check(t, fmt.Sprint("beside call ", n), a)
		runs := 0
		for key, o := range a.Objects() {
			if !strings.HasSuffix(key, ".json") {
				continue
			}
			runs++
			if r := decoded(t, o.Content); r.Summary.New != len(companyFindings) || r.Summary.RunID != "20261123T090104Z" {
				t.Errorf("beside call %d: %s: run %s, %d new", n, key, r.Summary.RunID, r.Summary.New)
			}
		}
		if messages := a.Messages(); runs != 2 || len(messages) > 2 {
			t.Errorf("beside call %d: %d reports, %d messages", n, runs, len(messages))
		}
		for _, m := range a.Messages() {
			if r := decoded(t, m.JSON); r.Summary.New != len(companyFindings) {
				t.Errorf("beside call %d: a message tells of %d new ones", n, r.Summary.New)
			}
		}
	}
}

// TestAuditHistory follows findings over days.
func TestAuditHistory(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser("bob")
	bob := a.AddKey("bob", 91*day)
	a.UsedAgo(bob, 0, "s3", "")
	a.AddUser("carol")
	carol := a.AddKey("carol", 74*day)
	next := func() *audit.Report {
		t.Helper()
		a.Advance(day)
		for name, id := range map[string]string{"bob": bob, "carol": carol} {
			if len(a.Keys(name)) > 0 {
				a.UsedAgo(id, 0, "s3", "")
			}
		}
		mustAudit(t, a, event(a))
		return latest(t, a)
	}
	r := next()
	equal(t, states(r), []string{"new overdue bob since 11-24 09:00"})
	if r.Summary.ComparedWith != nil {
		t.Errorf("compared with %s", r.Summary.ComparedWith)
	}
	r = next()
	equal(t, states(r), []string{"open overdue bob since 11-24 09:00", "new aging carol since 11-25 09:00"})
	if r.Summary.New != 1 || r.Summary.Open != 1 || r.Summary.ComparedWith == nil || r.Summary.ComparedWith.Day() != 24 {
		t.Errorf("summary %+v", r.Summary)
	}
	a.DeleteKey("bob", bob)
	equal(t, states(next()), []string{"open aging carol since 11-25 09:00", "resolved overdue bob since 11-24 09:00"})
	equal(t, states(next()), []string{"open aging carol since 11-25 09:00"}) // resolved once

	until := func(s string) []iamkeys.Tag {
		return []iamkeys.Tag{{Key: iamkeys.TagExemptUntil, Value: s}, {Key: iamkeys.TagExemptReason, Value: "x"}}
	}
	a.SetTags("carol", until("2026-11-29")...)
	equal(t, states(next()), []string{"exempt aging carol since 11-25 09:00"}) // not resolved
	equal(t, states(next()), []string{"exempt aging carol since 11-25 09:00"})
	equal(t, states(next()), []string{"new aging carol since 11-25 09:00"}) // counts again
	equal(t, states(next()), []string{"open aging carol since 11-25 09:00"})
	a.SetTags("carol", until("2027-01-31")...)
	equal(t, states(next()), []string{"exempt aging carol since 11-25 09:00"})
	a.SetStatus("carol", carol, iamkeys.Inactive)
	equal(t, states(next()), []string{}) // what was exempt is not resolved: it did not count
	a.SetStatus("carol", carol, iamkeys.Active)
	a.SetTags("carol")
	equal(t, states(next()), []string{"new aging carol since 12-04 09:00"})
	a.Advance(20 * day)
	equal(t, states(next()), []string{"new overdue carol since 12-25 09:00", "resolved aging carol since 12-04 09:00"})
	a.RemoveUser("carol")
	a.RemoveUser("bob")
	r = next()
	equal(t, states(r), []string{"resolved overdue carol since 12-25 09:00"})
	if !r.Summary.Coverage.Complete || r.Summary.Coverage.Users != 0 {
		t.Errorf("coverage %+v", r.Summary.Coverage)
	}
	equal(t, states(next()), []string{})
}

// TestAuditHistoryUnexamined: what cannot be examined is not resolved, and is
// still known of when it can be examined again.
func TestAuditHistoryUnexamined(t *testing.T) {
	a := company()
	a.AddRootKey(day)
	mustAudit(t, a, event(a))
	first := latest(t, a)
	since := first.Summary.AsOf
	a.Advance(time.Hour)
	blind := func(actions ...string) func(*iamkeystest.Process, *audit.Audit) {
		return func(p *iamkeystest.Process, o *audit.Audit) { p.Fault = refuse(actions...) }
	}
	for i, actions := range [][]string{
		{"iam:GenerateCredentialReport", "iam:ListAccessKeys", "iam:GetAccountSummary"}, // nothing is known of anybody
		{"iam:GenerateCredentialReport", "iam:GetAccessKeyLastUsed"},                    // of no key's last use
	} {
		_, err, _ := runAudit(a, event(a), blind(actions...))
		if i == 0 && iamkeys.CodeOf(err) != iamkeys.InventoryUnavailable || i == 1 && err != nil {
			t.Error(err)
		}
		r := latest(t, a)
		known := slices.ContainsFunc(r.Resolved, func(f audit.Finding) bool { return f.Rule != audit.Unexamined })
		if known || r.Summary.Coverage.Complete {
			t.Errorf("blind to %q: resolved %q, coverage %+v", actions, states(r), r.Summary.Coverage)
		}
		var kept []string
		for _, f := range r.Findings {
			if f.Rule != audit.Unexamined {
				kept = append(kept, what(f))
				if f.State != audit.Open || !f.FirstSeen.Equal(since) {
					t.Errorf("blind to %q: %s is %s since %s", actions, what(f), f.State, f.FirstSeen)
				}
			}
		}
		names := func(lines []string) (ids []string) {
			for _, line := range lines {
				ids = append(ids, strings.Join(strings.Fields(line)[:2], " "))
			}
			slices.Sort(ids)
			return ids
		}
		equal(t, names(kept), names(whats(first.Findings)))
		if len(r.Exempt) != 1 || !r.Exempt[0].FirstSeen.Equal(since) {
			t.Errorf("blind to %q: exempt %v", actions, states(r))
		}
		a.Advance(time.Hour)
	}
	mustAudit(t, a, event(a))
	r := latest(t, a)
	for _, f := range slices.Concat(r.Findings, r.Exempt) {
		if !f.FirstSeen.Equal(since) {
			t.Errorf("%s since %s", what(f), f.FirstSeen)
		}
	}
	for _, f := range r.Resolved {
		if f.Rule != audit.Unexamined {
			t.Errorf("resolved: %s", what(f))
		}
	}
	if len(r.Resolved) == 0 || r.Summary.New > 0 {
		t.Errorf("%q", states(r))
	}
}

// TestAuditHistoryExemptionEnds: an exemption that has ended covers nothing, also
// where the key could not be read since.
func TestAuditHistoryExemptionEnds(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser("alice")
	a.AddUser(user, iamkeys.Tag{Key: iamkeys.TagExemptUntil, Value: "2026-11-23"}, iamkeys.Tag{Key: iamkeys.TagExemptReason, Value: "moving house"})
	a.UsedAgo(a.AddKey(user, 100*day), day, "s3", "")
	mustAudit(t, a, event(a))
	equal(t, states(latest(t, a)), []string{"exempt overdue ci-deploy since 11-23 09:00"})
	blind := func(p *iamkeystest.Process, _ *audit.Audit) {
		p.Fault = refuse("iam:GenerateCredentialReport", "iam:ListAccessKeys")
	}
	for _, want := range []string{"exempt overdue ci-deploy since 11-23 09:00", "new overdue ci-deploy since 11-23 09:00"} {
		a.Advance(8 * time.Hour)
		_, _, _ = runAudit(a, event(a), blind) // which fails, since nobody could be examined
		if got := states(latest(t, a)); !slices.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
	overdue := slices.IndexFunc(latest(t, a).Findings, func(f audit.Finding) bool { return f.Rule == audit.Overdue })
	if e := latest(t, a).Findings[overdue].Exemption; e == nil || e.Invalid == nil || *e.Invalid != "it has expired" {
		t.Errorf("the exemption is %+v", e)
	}
}

// TestAuditHistoryKnownGone: of a user that could not be examined, a key that is
// known to be gone is resolved all the same, and nothing else.
func TestAuditHistoryKnownGone(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser("alice")
	a.AddUser(user)
	gone, stays := a.AddKey(user, 200*day), a.AddKey(user, 100*day)
	for _, id := range []string{gone, stays} {
		a.UsedAgo(id, day, "s3", "")
	}
	mustAudit(t, a, event(a))
	equal(t, states(latest(t, a)), []string{"new overdue ci-deploy since 11-23 09:00", "new overdue ci-deploy since 11-23 09:00", "new two-active ci-deploy since 11-23 09:00"})
	a.Advance(time.Hour)
	a.DeleteKey(user, gone)
	out := mustAudit(t, a, event(a), func(p *iamkeystest.Process, o *audit.Audit) {
		p.Fault = refuse("iam:GenerateCredentialReport", "iam:GetAccessKeyLastUsed")
	})
	r := latest(t, a)
	equal(t, states(r), []string{"open overdue ci-deploy since 11-23 09:00", "new unexamined ci-deploy since 11-23 10:00", "open two-active ci-deploy since 11-23 09:00", "resolved overdue ci-deploy since 11-23 09:00"})
	if out.Coverage.Complete || *r.Resolved[0].AccessKeyID != gone {
		t.Errorf("coverage %+v, resolved %s", out.Coverage, *r.Resolved[0].AccessKeyID)
	}
}

// TestAuditHistorySameSecond: of two keys made in the same second, the one that
// is gone is resolved.
func TestAuditHistorySameSecond(t *testing.T) {
	for _, gone := range []int{0, 1} {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		ids := []string{a.AddKey(user, 100*day), a.AddKey(user, 100*day)}
		for _, id := range ids {
			a.UsedAgo(id, 0, "s3", "")
		}
		mustAudit(t, a, event(a))
		a.Advance(time.Hour)
		a.DeleteKey(user, ids[gone])
		a.Advance(5 * time.Hour)
		mustAudit(t, a, event(a))
		r := latest(t, a)
		equal(t, states(r), []string{"open overdue ci-deploy since 11-23 09:00", "resolved overdue ci-deploy since 11-23 09:00", "resolved two-active ci-deploy since 11-23 09:00"})
		if *r.Findings[0].AccessKeyID != ids[1-gone] || *r.Resolved[0].AccessKeyID != ids[gone] {
			t.Errorf("open is %s, resolved %s, and %s is gone", *r.Findings[0].AccessKeyID, *r.Resolved[0].AccessKeyID, ids[gone])
		}
	}
}

// TestAuditHistoryOfRoot: the root user's key is the same finding whether its
// row is there or not, also when there are no users.
func TestAuditHistoryOfRoot(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddRootKey(day)
	for i, noRow := range []bool{false, true, false} {
		a.CredentialReport.NoRoot = noRow
		out := mustAudit(t, a, event(a))
		if want := []string{"new", "open", "open"}[i]; !slices.Equal(states(latest(t, a)), []string{want + " root-key <root_account> since 11-23 09:00"}) {
			t.Errorf("no row %v: %q", noRow, states(latest(t, a)))
		}
		if !out.Coverage.Complete || out.Coverage.Users != 0 {
			t.Errorf("coverage %+v", out.Coverage)
		}
		a.Advance(5 * time.Hour)
	}
	if m := a.Messages(); len(m) != 1 || m[0].Subject != "IAM access keys 123456789012: 1 finding (1 new, 1 critical, 0 high)" {
		t.Errorf("messages %+v", m)
	}
	_, _, _ = runAudit(a, event(a), func(p *iamkeystest.Process, o *audit.Audit) {
		p.Fault = refuse("iam:GenerateCredentialReport", "iam:GetAccountSummary")
	})
	equal(t, states(latest(t, a)), []string{"open root-key <root_account> since 11-23 09:00", "new unexamined <root_account> since 11-24 00:00"})
	if m := a.Messages()[1]; m.Subject != "IAM access keys 123456789012: INCOMPLETE, without the root user; 2 findings (1 new, 1 critical, ..." || len(m.Subject) != 99 {
		t.Errorf("subject %q (%d)", m.Subject, len(m.Subject))
	}
	a.DeleteRootKeys()
	a.Advance(5 * time.Hour)
	mustAudit(t, a, event(a))
	equal(t, states(latest(t, a)), []string{"resolved root-key <root_account> since 11-23 09:00", "resolved unexamined <root_account> since 11-24 00:00"})
}

// TestAuditLatestTrouble: a latest.json that cannot be read as a report counts as
// none, and the report says so; one that cannot be had stops the audit.
func TestAuditLatestTrouble(t *testing.T) {
	a := company()
	mustAudit(t, a, event(a))
	good := string(a.Objects()[base+"latest.json"].Content)
	for name, content := range map[string]string{
		"empty": "", "cut": good[:len(good)/2], "null": "null", "another thing": `{"a":1}`, "html": "<html>",
		"an older schema": strings.Replace(good, `"schemaVersion":1`, `"schemaVersion":0`, 1),
		"a newer schema":  strings.Replace(good, `"schemaVersion":1`, `"schemaVersion":2`, 1),
		"no time":         strings.Replace(good, `"asOf":"2026-11-23T09:01:04Z",`, "", 1),
		"no findings":     strings.Replace(good, `"findings":`, `"foundings":`, 1),
		"no finding":      strings.Replace(good, `"findings":[`, `"findings":[{},`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			a := company()
			a.SetObject(base+"latest.json", []byte(content))
			a.Advance(time.Hour)
			out := mustAudit(t, a, event(a))
			if out.New != len(companyFindings) || out.ComparedWith != nil || len(out.Notes) != 1 || !strings.Contains(out.Notes[0], "cannot be read") || !out.Notified {
				t.Errorf("%d new, compared with %v, notes %q", out.New, out.ComparedWith, out.Notes)
			}
			if latest(t, a).Summary.RunID != out.RunID {
				t.Errorf("latest is %s", latest(t, a).Summary.RunID)
			}
			if strings.HasSuffix(name, "schema") && !strings.Contains(out.Notes[0], "schema version") {
				t.Errorf("notes %q", out.Notes)
			}
		})
	}
	a = company()
	a.SetObject(base+"latest.json", nil)
	if out := mustAudit(t, a, event(a)); out.New != len(companyFindings) || len(out.Notes) > 0 {
		t.Errorf("missing: %+v", out)
	}
	a = company()
	_, err, _ := runAudit(a, event(a), func(p *iamkeystest.Process, _ *audit.Audit) { p.Fault = refuse("s3:GetObject") })
	if iamkeys.CodeOf(err) != iamkeys.StoreFailed || len(a.Stored()) > 0 || len(a.Messages()) > 0 {
		t.Errorf("unreadable: %v, stored %q", err, a.Stored())
	}
	_, err, _ = runAudit(a, event(a), func(p *iamkeystest.Process, _ *audit.Audit) {
		p.Fault = func(n int, _ string) iamkeystest.Fault {
			if n == 1 { // only latest.json
				return iamkeystest.Refused
			}
			return iamkeystest.None
		}
	})
	if iamkeys.CodeOf(err) != iamkeys.StoreFailed || len(a.Stored()) > 0 || len(a.Messages()) > 0 {
		t.Errorf("latest unreadable: %v, stored %q", err, a.Stored())
	}
}

// TestAuditStoredTrouble: a stored run that cannot be read is not overwritten.
func TestAuditStoredTrouble(t *testing.T) {
	a := company()
	in := event(a)
	out := mustAudit(t, a, in)
	a.SetObject(out.Report.Prefix+".json", []byte("{"))
	_, err, _ := runAudit(a, in)
	if iamkeys.CodeOf(err) != iamkeys.StoreFailed || !strings.Contains(err.Error(), out.Report.Prefix) {
		t.Error(err)
	}
}

// TestAuditOlderRun: a run whose event is older than the latest report, and one
// that was overtaken, never become the latest.
func TestAuditOlderRun(t *testing.T) {
	a := company()
	in := event(a)
	// The first run is as of 9:01; before it writes latest.json, another one of
	// 10:01 completes.
	var later audit.Output
	out := mustAudit(t, a, in, func(p *iamkeystest.Process, _ *audit.Audit) {
		p.Before = func(_ int, action string) {
			if action == "sns:Publish" {
				a.Advance(time.Hour)
				later = mustAudit(t, a, event(a))
			}
		}
	})
	if latest(t, a).Summary.RunID != later.RunID || out.RunID == later.RunID {
		t.Errorf("latest is %s, want %s", latest(t, a).Summary.RunID, later.RunID)
	}
	// Its event again: it is stored and latest is not older, so it is done.
	sent := len(a.Messages())
	again := mustAudit(t, a, in)
	if again.RunID != out.RunID || again.Notified || len(a.Messages()) != sent || latest(t, a).Summary.RunID != later.RunID {
		t.Errorf("%+v, latest %s", again, latest(t, a).Summary.RunID)
	}
	// Overtaken between its look at latest.json and writing it.
	a.Advance(time.Hour)
	puts := 0
	overtaken := mustAudit(t, a, event(a), func(p *iamkeystest.Process, _ *audit.Audit) {
		p.Before = func(_ int, action string) {
			if action != "s3:PutObject" {
				return
			}
			if puts++; puts == 5 { // after the four forms
				a.Advance(time.Hour)
				later = mustAudit(t, a, event(a))
			}
		}
	})
	if puts < 5 || latest(t, a).Summary.RunID != later.RunID || overtaken.RunID == later.RunID {
		t.Errorf("latest is %s, want %s, after %d puts", latest(t, a).Summary.RunID, later.RunID, puts)
	}
	// An event that comes late is a run of its own day, judged now.
	a.Advance(time.Hour)
	late := mustAudit(t, a, audit.Input{EventTime: in.EventTime.Add(-30 * time.Hour)})
	if late.Report.Prefix != base+"2026/11/22/20261122T030104Z" || !late.AsOf.Equal(a.Now().Truncate(time.Second)) || latest(t, a).Summary.RunID != late.RunID {
		t.Errorf("%+v, latest %s", late, latest(t, a).Summary.RunID)
	}
}

// TestAuditLatestOfTheFuture: a latest.json as of later than the run, by a clock that was
// wrong, stays; what is new by it is told all the same, and the run is done.
func TestAuditLatestOfTheFuture(t *testing.T) {
	a := company()
	mustAudit(t, a, event(a))
	future := strings.Replace(string(a.Objects()[base+"latest.json"].Content), `"asOf":"2026-11-23T09:01:04Z"`, `"asOf":"2027-11-23T09:01:04Z"`, 1)
	a.SetObject(base+"latest.json", []byte(future))
	a.Advance(5 * time.Hour)
	a.AddRootKey(day)
	in := event(a)
	if out := mustAudit(t, a, in); out.New != 1 || !out.Notified || string(a.Objects()[base+"latest.json"].Content) != future {
		t.Errorf("%+v", out)
	}
	if out := mustAudit(t, a, in); out.Notified {
		t.Errorf("again: %+v", out)
	}
}

// TestAuditRequestID: without an event the request ID names the run, also when
// its retry comes after midnight.
func TestAuditRequestID(t *testing.T) {
	a := company()
	a.Advance(14*time.Hour + 58*time.Minute)
	dies := func(p *iamkeystest.Process, _ *audit.Audit) {
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			if action == "sns:Publish" {
				return iamkeystest.Dies
			}
			return iamkeystest.None
		}
	}
	if _, _, died := runAudit(a, audit.Input{}, dies); !died {
		t.Fatal("did not die")
	}
	a.Advance(time.Minute)
	out := mustAudit(t, a, audit.Input{})
	if out.Report.Prefix != base+"2026/11/23/request-1" || !out.Notified || a.Now().Day() != 24 || out.AsOf.Day() != 23 {
		t.Errorf("%+v at %s", out, a.Now())
	}
	if n := len(a.Stored()); n != 5 {
		t.Errorf("stored %q", a.Stored())
	}
	a.Advance(time.Minute)
	other := mustAudit(t, a, audit.Input{}, func(_ *iamkeystest.Process, o *audit.Audit) {
		o.RequestID = func(context.Context) string { return "request-2" }
	})
	if other.Report.Prefix != base+"2026/11/24/request-2" || other.Open != len(companyFindings) {
		t.Errorf("%+v", other)
	}
}

// TestAuditAsOf: a run as of another time compares with nothing, tells nobody
// unasked and is not the latest. As of an earlier run it says the same.
func TestAuditAsOf(t *testing.T) {
	a := company()
	first := mustAudit(t, a, event(a))
	said := latest(t, a)
	a.Advance(90 * time.Minute)
	before := a.Objects()[base+"latest.json"]
	var emitted []audit.Metric
	in := audit.Input{AsOf: &first.AsOf}
	out := mustAudit(t, a, in, func(p *iamkeystest.Process, o *audit.Audit) {
		o.Tell = audit.TellAlways // of scheduled runs
		o.Emit = func(m []audit.Metric) { emitted = append(emitted, m...) }
		p.Fault = func(n int, action string) iamkeystest.Fault {
			if n > 2 && action == "s3:GetObject" { // two to look for the run; not for latest.json
				return iamkeystest.Refused
			}
			return iamkeystest.None
		}
	})
	again := report(t, a, out.Report.Prefix+".json")
	equal(t, whats(again.Findings), whats(said.Findings))
	equal(t, whats(again.Exempt), whats(said.Exempt))
	for _, f := range again.Findings {
		if f.State != audit.Open || f.FirstSeen != nil {
			t.Errorf("%s is %s since %v", what(f), f.State, f.FirstSeen)
		}
	}
	if out.Notified || len(a.Messages()) != 1 || out.ComparedWith != nil || out.New != 0 || out.Open != len(companyFindings) || len(emitted) > 0 {
		t.Errorf("%+v, metrics %v", out, emitted)
	}
	// in a hundred days
	future := first.AsOf.Add(100 * day)
	out = mustAudit(t, a, audit.Input{AsOf: &future}, func(_ *iamkeystest.Process, o *audit.Audit) {
		o.RequestID = func(context.Context) string { return "request-2" }
	})
	if out.Rules[audit.Overdue] < 8 || out.Exempt != 0 {
		t.Errorf("%+v", out.Summary)
	}
	// asked to tell
	in.Tell = audit.TellAlways
	other := func(_ *iamkeystest.Process, o *audit.Audit) {
		o.RequestID = func(context.Context) string { return "request-3" }
	}
	_, err, _ := runAudit(a, in, other, func(p *iamkeystest.Process, _ *audit.Audit) { p.Fault = refuse("sns:Publish") })
	if iamkeys.CodeOf(err) != iamkeys.NotifyFailed {
		t.Error(err)
	}
	if out := mustAudit(t, a, in, other); !out.Notified || len(a.Messages()) != 2 {
		t.Errorf("%+v", out)
	}
	if string(a.Objects()[base+"latest.json"].Content) != string(before.Content) {
		t.Error("latest.json is another one")
	}
}

// TestAuditNotify: when a report is sent, by mode, and that input goes before parameter.
func TestAuditNotify(t *testing.T) {
	const always, findings, changes, never = audit.TellAlways, audit.TellFindings, audit.TellChanges, audit.TellNever
	modes := []audit.Tell{always, findings, changes, never}
	clean := func() *iamkeystest.Account {
		a := iamkeystest.NewAccount()
		a.AddUser("alice")
		a.UsedAgo(a.AddKey("alice", day), 0, "s3", "")
		return a
	}
	blind := func(p *iamkeystest.Process, _ *audit.Audit) {
		p.Fault = refuse("iam:GenerateCredentialReport", "iam:GetAccountSummary")
	}
	quietly := func(_ *iamkeystest.Process, o *audit.Audit) { o.Tell = never }
	for name, test := range map[string]struct {
		account func() *iamkeystest.Account
		arrange func(*iamkeystest.Process, *audit.Audit)
		sends   []audit.Tell
	}{
		"new findings":         {company, nil, []audit.Tell{always, findings, changes}},
		"nothing":              {clean, nil, []audit.Tell{always}},
		"no users":             {iamkeystest.NewAccount, nil, []audit.Tell{always}},
		"incomplete":           {clean, blind, []audit.Tell{always, findings, changes}},
		"incomplete as before": {func() *iamkeystest.Account { a := clean(); mustAudit(t, a, event(a), quietly, blind); return a }, blind, []audit.Tell{always, findings, changes}},
		"nothing changed":      {func() *iamkeystest.Account { a := company(); mustAudit(t, a, event(a), quietly); return a }, nil, []audit.Tell{always, findings}},
		"resolved": {func() *iamkeystest.Account {
			a := clean()
			id := a.AddKey("alice", 100*day)
			mustAudit(t, a, event(a), quietly)
			a.DeleteKey("alice", id)
			return a
		}, nil, []audit.Tell{always, findings, changes}},
		"only exempt": {func() *iamkeystest.Account {
			a := company()
			for _, name := range []string{"Bob", "carol", "dave,d", "frank", "grace", "heidi"} {
				a.RemoveUser(name)
			}
			return a
		}, nil, []audit.Tell{always}},
	} {
		for _, mode := range modes {
			for _, asInput := range []bool{false, true} {
				a := test.account()
				a.Advance(time.Hour)
				in := event(a)
				if asInput {
					in.Tell = mode
				}
				out := mustAudit(t, a, in, func(p *iamkeystest.Process, o *audit.Audit) {
					if test.arrange != nil {
						test.arrange(p, o)
					}
					if o.Tell = mode; asInput {
						o.Tell = modes[(slices.Index(modes, mode)+1)%4]
					}
				})
				if want := slices.Contains(test.sends, mode); out.Notified != want || (len(a.Messages()) == 1) != want || (out.MessageID != nil) != want {
					t.Errorf("%s, %s (as input %v): notified: %v, want %v", name, mode, asInput, out.Notified, want)
				}
				if l := latest(t, a); (l != nil && l.Summary.RunID == out.RunID) == (asInput && mode == never) {
					t.Errorf("%s, %s (as input %v): the latest is %v: what nobody is told stays new", name, mode, asInput, l)
				}
			}
		}
	}
}

// TestAuditQuietLook: a look by hand of which nobody is told leaves everything new for
// the next run; the same look again is answered from what is stored.
func TestAuditQuietLook(t *testing.T) {
	a := company()
	look := audit.Input{Tell: audit.TellNever}
	for range 2 {
		if out := mustAudit(t, a, look); out.Notified || out.New != len(companyFindings) || latest(t, a) != nil || len(a.Stored()) != 4 {
			t.Errorf("the look: %+v, stored %q", out, a.Stored())
		}
		a.Advance(time.Hour)
	}
	if out := mustAudit(t, a, event(a)); !out.Notified || out.New != len(companyFindings) || len(a.Messages()) != 1 {
		t.Errorf("the run after it: %+v, %d messages", out, len(a.Messages()))
	}
	a.Advance(5 * time.Hour)
	a.AddRootKey(day)
	look.EventTime = a.Now()
	if out := mustAudit(t, a, look); out.New != 1 || out.Open != len(companyFindings) {
		t.Errorf("a look later: %+v", out)
	}
	a.Advance(time.Hour)
	if out := mustAudit(t, a, event(a)); !out.Notified || out.New != 1 {
		t.Errorf("the run after that: %+v", out)
	}
}

// TestAuditSubject: the subject tells the worst, and what is missing first.
func TestAuditSubject(t *testing.T) {
	for want, account := range map[string]func(a *iamkeystest.Account) []string{
		"no users": func(a *iamkeystest.Account) []string { return nil },
		"no findings": func(a *iamkeystest.Account) []string {
			a.AddUser("alice")
			return nil
		},
		"1 finding (1 new, 0 critical, 0 high)": func(a *iamkeystest.Account) []string {
			a.AddUser("alice")
			a.UsedAgo(a.AddKey("alice", 99*day), 0, "s3", "")
			return nil
		},
		"2 findings (2 new, 0 critical, 1 high)": func(a *iamkeystest.Account) []string {
			a.AddUser("alice")
			a.AddKey("alice", 99*day)
			return nil
		},
		"INCOMPLETE, without 1 of 2 users; 1 finding (1 new, 0 criti...": func(a *iamkeystest.Account) []string {
			a.AddUser("alice")
			a.AddUser("bob")
			a.AddKey("bob", day)
			return []string{"iam:GenerateCredentialReport", "iam:GetAccessKeyLastUsed"}
		},
	} {
		a := iamkeystest.NewAccount()
		blind := account(a)
		in := event(a)
		in.Tell = audit.TellAlways
		mustAudit(t, a, in, func(p *iamkeystest.Process, _ *audit.Audit) { p.Fault = refuse(blind...) })
		if got := strings.TrimPrefix(a.Messages()[0].Subject, "IAM access keys 123456789012: "); !strings.HasPrefix(got, strings.TrimSuffix(want, "...")) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestAuditNobodyExamined: there are users, and none could be examined. The
// report is sent, and the run fails, also when it is asked again.
func TestAuditNobodyExamined(t *testing.T) {
	a := company()
	in := event(a)
	var emitted []string
	arrange := func(p *iamkeystest.Process, o *audit.Audit) {
		p.Fault = refuse("iam:GetCredentialReport", "iam:ListAccessKeys")
		o.Emit = func(m []audit.Metric) {
			for _, m := range m {
				emitted = append(emitted, m.Name)
			}
		}
	}
	for range 2 {
		if _, err, _ := runAudit(a, in, arrange); iamkeys.CodeOf(err) != iamkeys.InventoryUnavailable {
			t.Error(err)
		}
	}
	r := latest(t, a)
	if len(a.Messages()) != 1 || r.Summary.Coverage != (audit.Coverage{Users: 8}) || r.Summary.Rules[audit.Unexamined] != 8 {
		t.Errorf("%d messages, coverage %+v", len(a.Messages()), r.Summary.Coverage)
	}
	if slices.Contains(emitted, "AuditCompleted") || !slices.Contains(emitted, "NotExamined") {
		t.Errorf("metrics %q", emitted)
	}
	a.Advance(time.Hour)
	mustAudit(t, a, event(a))
}

// TestAuditTimeRunsOut: each call takes a second, and the deadline comes before
// all users are read. The report says so, and is stored and sent in time.
func TestAuditTimeRunsOut(t *testing.T) {
	for _, seconds := range []int{20, 30, 60} {
		synctest.Test(t, func(t *testing.T) {
			a := iamkeystest.NewAccount()
			for i := range 400 {
				name := fmt.Sprintf("user-%03d", i)
				a.AddUser(name)
				a.AddKey(name, 100*day)
			}
			time.Sleep(time.Until(a.Now()))
			p := a.Start()
			p.Before = func(int, string) { time.Sleep(time.Second) }
			o := auditor(p)
			sleep := func(ctx context.Context, d time.Duration) error { time.Sleep(d); return ctx.Err() }
			o.Now, o.Inventory.Now, o.Inventory.Sleep = time.Now, time.Now, sleep
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
			defer cancel()
			out, err := o.Run(ctx, event(a))
			if err != nil {
				t.Fatalf("%d s: %v", seconds, err)
			}
			c := out.Coverage
			if c.Complete || c.Users != 400 || c.UsersExamined == 0 || c.UsersExamined == 400 || !out.Notified || latest(t, a).Summary.RunID != out.RunID {
				t.Errorf("%d s: %+v", seconds, out)
			}
			if got := out.Rules[audit.Overdue]; got != 400 {
				t.Errorf("%d s: %d overdue, want all 400: the credential report knows them", seconds, got)
			}
			for _, f := range latest(t, a).Findings {
				if f.Rule == audit.Unexamined && !strings.Contains(f.Remedy, "time ran out") {
					t.Fatal(f.Remedy)
				}
			}
		})
	}
}

// crowd makes an account of n users with two keys each, of which the first
// flagged have an overdue one.
func crowd(n, flagged int) *iamkeystest.Account {
	a := iamkeystest.NewAccount()
	for i := range n {
		name := fmt.Sprintf("user-%05d", i)
		a.AddUser(name, iamkeys.Tag{Key: "owner", Value: fmt.Sprintf("team-%d@example.com", i%50)})
		age := time.Duration(i%30+1) * day
		if i < flagged {
			age = time.Duration(100+i%300) * day
		}
		a.UsedAgo(a.AddKey(name, age), time.Duration(i%20)*day, "s3", "")
		a.UsedAgo(a.AddKey(name, 5*day), day, "ec2", "eu-west-1")
	}
	return a
}

// TestAuditCalls holds the audit to its budget: 5 + ⌈(U + groups)/1,000⌉ + F calls to IAM.
func TestAuditCalls(t *testing.T) {
	for _, users := range []int{0, 1, 100, 1000, 1001, 5000} {
		flagged := min(users, 50)
		a := crowd(users, flagged)
		groups := users / 10
		for i := range groups {
			a.AttachToGroup(fmt.Sprint("group-", i), "arn:aws:iam::aws:policy/PowerUserAccess")
			a.Join(fmt.Sprintf("user-%05d", i), fmt.Sprint("group-", i))
		}
		var calls float64
		p := a.Start()
		o := auditor(p)
		o.Emit = func(m []audit.Metric) {
			for _, m := range m {
				if m.Name == "ApiCalls" {
					calls = m.Value
				}
			}
		}
		out, err := o.Run(t.Context(), event(a))
		if err != nil {
			t.Fatal(err)
		}
		if out.Coverage.Users != users || out.Coverage.KeysExamined != 2*users || !out.Coverage.Complete || out.Rules[audit.Overdue] != flagged {
			t.Errorf("%d users: %+v", users, out.Summary)
		}
		made := p.IAMCalls()
		if budget := 5 + (users+groups+999)/1000 + flagged; made > budget {
			t.Errorf("%d users: %d calls, the budget is %d", users, made, budget)
		}
		if int(calls) != made {
			t.Errorf("%d users: the metric says %v calls, %d were made", users, calls, made)
		}
		for _, f := range latest(t, a).Findings {
			if f.AccessKeyID == nil {
				t.Errorf("%s has no key ID", what(f))
			}
		}
	}
}

// TestAuditSize: however many findings there are, SNS takes the message, it holds
// as many as fit, and says how many it left out.
func TestAuditSize(t *testing.T) {
	for _, users := range []int{25, 250, 2500} {
		for _, spared := range []bool{false, true} {
			if spared && users == 2500 {
				continue // slow, and nothing new
			}
			a := iamkeystest.NewAccount()
			for i := range users {
				var tags []iamkeys.Tag
				if spared && i%2 == 0 {
					tags = []iamkeys.Tag{{Key: iamkeys.TagExemptUntil, Value: "2027-06-30"}, {Key: iamkeys.TagExemptReason, Value: strings.Repeat("<\"é&\\", 50)}}
				}
				name := fmt.Sprintf("user-%05d", i)
				a.AddUser(name, tags...)
				a.AddKey(name, 100*day)
				a.AddKey(name, 99*day)
			}
			built := 0
			out := mustAudit(t, a, event(a), func(_ *iamkeystest.Process, o *audit.Audit) {
				o.Message = notice.Report(func(r audit.Report, where string, limit int) []byte {
					built++
					return render.Text(r, where, limit)
				})
				o.Tell = audit.TellAlways
			})
			m := a.Messages()[0]
			size := len(m.Body())
			for _, at := range m.Attributes {
				size += len(at.Name) + len(at.Value) + len("String")
			}
			r, whole := decoded(t, m.JSON), report(t, a, out.Report.Prefix+".json")
			shown, all := len(r.Findings)+len(r.Exempt)+len(r.Resolved), len(whole.Findings)+len(whole.Exempt)+len(whole.Resolved)
			if r.Omitted == nil {
				t.Fatalf("%d users: the message does not say how many it leaves out", users)
			}
			omitted := *r.Omitted
			if size > 262_144 || omitted != all-shown || whole.Omitted != nil || marshal(t, r.Summary) != marshal(t, whole.Summary) {
				t.Errorf("%d users: %d bytes, %d of %d shown, %d omitted", users, size, shown, all, omitted)
			}
			if omitted > 0 && size < 262_144-3*2500 || omitted > 0 && !strings.Contains(m.Text, "more") || built > 20 {
				t.Errorf("%d users: %d bytes with %d omitted, built %d times", users, size, omitted, built)
			}
			if (omitted == 0) != (users == 25) {
				t.Errorf("%d users: %d omitted", users, omitted)
			}
			for i, f := range r.Findings { // the worst stay
				if what(f) != what(whole.Findings[i]) {
					t.Errorf("%d users: finding %d is %s", users, i, what(f))
				}
			}
			if !strings.Contains(m.Text, "s3://reports/"+out.Report.Prefix+".html") {
				t.Errorf("the mail does not say where the report is:\n%s", m.Text)
			}
		}
	}
}

// TestAuditHistoryAddsUp runs audits over weeks in which keys come and go and
// calls fail: each report accounts for every finding of the one it compares with,
// says resolved only of what is, and the latest report never gets older. A run that
// was stored and not sent is compared anew with an older one that has become the latest
// since. The steps are more than four hours apart, so that no
// credential report is of the one before.
func TestAuditHistoryAddsUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := iamkeystest.NewAccount()
		names := []string{"alice", "bob", "carol"}
		for _, name := range names {
			a.AddUser(name)
		}
		var events []audit.Input
		var prev *audit.Report
		places := func(findings []audit.Finding) map[string]audit.Finding {
			m := map[string]audit.Finding{}
			for _, f := range findings {
				if _, twice := m[place(f)]; twice {
					rt.Errorf("%s stands twice", place(f))
				}
				m[place(f)] = f
			}
			return m
		}
		for range rapid.IntRange(3, 12).Draw(rt, "steps") {
			a.Advance(time.Duration(rapid.IntRange(5, 20*24).Draw(rt, "hours")) * time.Hour)
			name := rapid.SampledFrom(names).Draw(rt, "user")
			keys := a.Keys(name)
			switch rapid.IntRange(0, 6).Draw(rt, "change") {
			case 0:
				a.AddKey(name, time.Duration(rapid.IntRange(0, 100).Draw(rt, "age"))*day+time.Duration(len(a.Made()))*time.Second) // no two of the same second
			case 1:
				if len(keys) > 0 {
					a.DeleteKey(name, keys[0].AccessKeyID)
				}
			case 2:
				if len(keys) > 0 {
					a.SetStatus(name, keys[0].AccessKeyID, rapid.SampledFrom([]iamkeys.Status{iamkeys.Active, iamkeys.Inactive}).Draw(rt, "status"))
				}
			case 3:
				if len(keys) > 0 {
					a.UsedAgo(keys[0].AccessKeyID, time.Hour, "s3", "")
				}
			case 4:
				a.SetTags(name, iamkeys.Tag{Key: iamkeys.TagExemptUntil, Value: a.Now().AddDate(0, 0, 30).Format(time.DateOnly)}, iamkeys.Tag{Key: iamkeys.TagExemptReason, Value: "x"})
			case 5:
				a.SetTags(name)
			case 6:
				if rapid.Bool().Draw(rt, "root key") {
					a.AddRootKey(day)
				} else {
					a.DeleteRootKeys()
				}
			}
			in := event(a)
			if len(events) > 0 && rapid.IntRange(0, 4).Draw(rt, "repeat") == 0 {
				in = rapid.SampledFrom(events).Draw(rt, "event")
			}
			events = append(events, in)
			in.Inventory = rapid.SampledFrom([]audit.Source{audit.FromCredentialReport, audit.FromLive}).Draw(rt, "inventory")
			a.CredentialReport.NoRoot = rapid.Bool().Draw(rt, "no root row")
			fault, at := rapid.SampledFrom(append(iamkeystest.Faults, iamkeystest.None)).Draw(rt, "fault"), rapid.IntRange(1, 25).Draw(rt, "at call")
			truth, _ := examined(rt, a.Start(), audit.FromLive)
			began := a.Now()
			_, _, _ = runAudit(a, in, func(p *iamkeystest.Process, o *audit.Audit) {
				p.Fault = func(n int, _ string) iamkeystest.Fault {
					if n == at {
						return fault
					}
					return iamkeystest.None
				}
			})
			o, ok := a.Objects()[base+"latest.json"]
			if !ok {
				continue
			}
			var now audit.Report
			if err := json.Unmarshal(o.Content, &now); err != nil {
				rt.Fatal(err)
			}
			if prev != nil && now.Summary.RunID == prev.Summary.RunID && now.Summary.AsOf.Equal(prev.Summary.AsOf) {
				continue
			}
			was, exempted := map[string]audit.Finding{}, map[string]audit.Finding{}
			if prev != nil && now.Summary.AsOf.Before(prev.Summary.AsOf) {
				rt.Errorf("latest is as of %s, it was as of %s", now.Summary.AsOf, prev.Summary.AsOf)
			}
			switch compared, with := prev, now.Summary.ComparedWith; {
			case compared == nil && with != nil:
				rt.Fatalf("compared with %s, and there was none", with)
			case compared != nil && (with == nil || !with.Equal(compared.Summary.AsOf)):
				rt.Fatalf("compared with %v, not with %s", with, compared.Summary.AsOf)
			case compared != nil:
				was, exempted = places(compared.Findings), places(compared.Exempt)
			}
			is, exempt, resolved := places(now.Findings), places(now.Exempt), places(now.Resolved)
			for at, f := range is {
				old, counted := was[at]
				spared, wasExempt := exempted[at]
				if (f.State == audit.Open) != counted || (f.State == audit.New) == counted {
					rt.Errorf("%s is %s, was there before: %v", at, f.State, counted)
				}
				if counted && !f.FirstSeen.Equal(*old.FirstSeen) || wasExempt && !counted && !f.FirstSeen.Equal(*spared.FirstSeen) || !counted && !wasExempt && !f.FirstSeen.Equal(now.Summary.AsOf) {
					rt.Errorf("%s: first seen %s", at, f.FirstSeen)
				}
			}
			facts := places(truth.Findings)
			if now.Summary.AsOf.Before(began) { // a run that was stored before
				facts = nil
			}
			for at := range was {
				_, stays := is[at]
				_, spared := exempt[at]
				_, gone := resolved[at]
				if (stays && spared) || (stays || spared) == gone {
					rt.Errorf("%s: stays %v, exempt %v, resolved %v", at, stays, spared, gone)
				}
				if _, still := facts[at]; gone && still {
					rt.Errorf("%s is said to be resolved", at)
				}
			}
			for at := range resolved {
				if _, ok := was[at]; !ok {
					rt.Errorf("%s is resolved and was none", at)
				}
			}
			for at, f := range facts {
				_, unread := is["unexamined "+f.UserName]
				if _, ok := is[at]; !ok && !unread {
					rt.Errorf("%s is missing", at)
				}
			}
			if s := now.Summary; s.New+s.Open != len(is) || s.Resolved != len(resolved) || s.Exempt != len(exempt) {
				rt.Errorf("summary %+v", s)
			}
			prev = &now
		}
	})
}
