package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// A file is a spool in memory.
type file struct {
	bytes.Buffer
	at *bytes.Reader
}

func (f *file) Read(b []byte) (int, error) { return f.at.Read(b) }

func (f *file) Seek(offset int64, whence int) (int64, error) {
	if f.at == nil {
		f.at = bytes.NewReader(f.Bytes())
	}
	return f.at.Seek(offset, whence)
}

func (f *file) Close() error { return nil }

// merger gives the merge of a process in the hub. Its text and HTML only show what they
// were made of, its CSV has the finding's states; its messages are the whole report.
func merger(p *iamkeystest.HubProcess) audit.Merge {
	return audit.Merge{
		S3: p, SNS: p, Account: p.ID, Bucket: "reports", Tell: audit.TellChanges, Emit: func([]audit.Metric) {}, Now: p.Now, Log: quiet,
		Spool: func() (audit.Spool, error) { return &file{}, nil },
		Render: audit.OrganizationRenderer{
			Text: func(r audit.Organization, where string, limit int) []byte {
				return fmt.Appendf(nil, "text %s, %d of %d at %s", r.Summary.RunID, limit, len(r.Findings), where)
			},
			HTML: func(r audit.Organization) ([]byte, error) { return []byte("html " + r.Summary.RunID), nil },
			CSV: func(w io.Writer, run audit.OrganizationSummary) func(audit.AccountRow, audit.Report) error {
				_, _ = fmt.Fprintln(w, "csv", run.RunID)
				return func(a audit.AccountRow, r audit.Report) (err error) {
					for _, f := range slices.Concat(r.Findings, r.Exempt, r.Resolved) {
						_, err = fmt.Fprintln(w, a.Account, a.Examined, f.State, f.Rule, f.UserName)
					}
					return err
				}
			},
		},
		Message: func(r audit.Organization, where string) iamkeys.Message {
			r.Findings, r.Resolved = r.Findings[:min(len(r.Findings), 100)], r.Resolved[:min(len(r.Resolved), 100)]
			content, _ := json.Marshal(r)
			return iamkeys.Message{Subject: "organization", Text: where, JSON: content}
		},
	}
}

// mergeRun runs Merge in a process of its own.
func mergeRun(o *iamkeystest.Organization, run audit.AccountsOutput, arrange ...func(*iamkeystest.HubProcess, *audit.Merge)) (out audit.MergeOutput, err error, died bool) {
	p := o.Start()
	op := merger(p)
	for _, f := range arrange {
		f(p, &op)
	}
	if err := run.Validate(); err != nil {
		return out, err, false
	}
	died = p.Run(func() { out, err = op.Run(context.Background(), run) })
	return out, err, died
}

func mustMerge(t testing.TB, o *iamkeystest.Organization, run audit.AccountsOutput, arrange ...func(*iamkeystest.HubProcess, *audit.Merge)) audit.MergeOutput {
	t.Helper()
	out, err, _ := mergeRun(o, run, arrange...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// examineAll does what the workflow's Map does: the audit of every account in the list,
// and the reason where it fails. It leaves the accounts out of which but says no.
func examineAll(o *iamkeystest.Organization, run audit.AccountsOutput, but func(account string) bool) {
	var list []audit.Member
	if err := json.Unmarshal(o.Hub.Objects()[run.List.Key].Content, &list); err != nil {
		panic(err)
	}
	for _, m := range list {
		if but != nil && but(m.Account) {
			continue
		}
		in := audit.Input{Account: m.Account, Name: m.Name, RunID: m.RunID, Day: m.Day}
		if _, err, _ := examine(o, in); err != nil {
			e := err.(*iamkeys.Error)
			in.Failed = &audit.Failed{Error: string(e.Code), Cause: e.Message}
			_, _, _ = examine(o, in)
		}
	}
}

// runAll is one run of the workflow.
func runAll(t testing.TB, o *iamkeystest.Organization) (audit.AccountsOutput, audit.MergeOutput) {
	t.Helper()
	run := mustList(t, o, started(o))
	examineAll(o, run, nil)
	return run, mustMerge(t, o, run)
}

// merged gives the stored report of a run, and the organization's latest one.
func merged(t testing.TB, o *iamkeystest.Organization, run audit.AccountsOutput) (r, latest audit.Organization) {
	t.Helper()
	return stored[audit.Organization](t, o, strings.TrimSuffix(run.List.Key, ".accounts.json")+".json"), stored[audit.Organization](t, o, "reports/organization/latest.json")
}

func rowOf(t testing.TB, r audit.Organization, account string) audit.AccountRow {
	t.Helper()
	i := slices.IndexFunc(r.Accounts, func(a audit.AccountRow) bool { return a.Account == account })
	if i < 0 {
		t.Fatalf("account %s is not in the report", account)
	}
	return r.Accounts[i]
}

// reasons gives the accounts of a report that were not examined.
func reasons(r audit.Organization) map[string]string {
	found := map[string]string{}
	for _, a := range r.Accounts {
		if a.Examined != (a.Reason == nil) || a.Examined != (a.Report != nil) {
			found[a.Account] = fmt.Sprintf("contradicts itself: %+v", a)
		} else if !a.Examined {
			found[a.Account] = string(*a.Reason)
		}
	}
	return found
}

func TestMerge(t *testing.T) {
	o := organization(4)
	for _, m := range o.Members() {
		populate(m.Account)
	}
	o.Member(accountID(2)).Role = ""
	o.Member(accountID(3)).State = "SUSPENDED"
	o.Member(accountID(4)).AddRootKey(900 * day)
	var metrics []audit.Metric
	run := mustList(t, o, started(o))
	examineAll(o, run, nil)
	out := mustMerge(t, o, run, func(_ *iamkeystest.HubProcess, op *audit.Merge) {
		op.Emit = func(m []audit.Metric) { metrics = append(metrics, m...) }
	})
	r, latest := merged(t, o, run)
	if !reflect.DeepEqual(r, latest) || !reflect.DeepEqual(out.OrganizationSummary, r.Summary) {
		t.Errorf("stored, latest and answered differ:\n%+v\n%+v\n%+v", r, latest, out)
	}
	if want := (audit.AccountCounts{Total: 5, Examined: 3, Skipped: 1, NotExamined: 1}); r.Summary.Accounts != want {
		t.Errorf("accounts %+v, want %+v", r.Summary.Accounts, want)
	}
	if got, want := reasons(r), map[string]string{accountID(2): "roleUnavailable", accountID(3): "suspended"}; !maps.Equal(got, want) {
		t.Errorf("not examined %v, want %v", got, want)
	}
	if s := r.Summary; s.Severities != (audit.SeverityCounts{Critical: 1, High: 6, Medium: 3}) || s.New != 10 || s.Open != 0 || s.Coverage != (audit.Coverage{Users: 9, UsersExamined: 9, Keys: 9, KeysExamined: 9}) || *s.KeyAges.OldestDays != 100 {
		t.Errorf("summary %+v", s)
	}
	if r.Findings[0].Rule != audit.RootKey || r.Findings[0].Account != accountID(4) || len(r.Findings) != 10 || r.Omitted != nil {
		t.Errorf("findings %v", r.Findings)
	}
	row := rowOf(t, r, accountID(2))
	if row.Users != nil || row.Keys != nil || *row.Error != "RoleUnavailable" || !strings.Contains(*row.Cause, memberRole) {
		t.Errorf("of an account that was never examined, the report says %+v", row)
	}
	if messages := o.Hub.Messages(); len(messages) != 1 || !out.Notified || *out.MessageID != "message-1" {
		t.Errorf("%d messages, answered %v", len(messages), out.Notified)
	}
	for _, m := range []string{o.Hub.ID, accountID(1), accountID(4)} {
		if got, want := stored[audit.Report](t, o, "reports/"+m+"/latest.json"), stored[audit.Report](t, o, prefixOf(run, m)+".json"); !reflect.DeepEqual(got, want) {
			t.Errorf("account %s: latest.json is not the report that was told", m)
		}
	}
	if _, ok := o.Hub.Objects()["reports/"+accountID(2)+"/latest.json"]; ok {
		t.Error("an account that was not examined has a latest.json")
	}
	for key, want := range map[string]string{
		out.Report.Prefix + ".json": "application/json", out.Report.Prefix + ".csv": "text/csv; charset=utf-8", out.Report.Prefix + ".html": "text/html; charset=utf-8", out.Report.Prefix + ".txt": "text/plain; charset=utf-8",
		"reports/organization/latest.json": "application/json", run.List.Key: "application/json", strings.Replace(run.List.Key, ".accounts.", ".skipped.", 1): "application/json",
		prefixOf(run, accountID(2)) + ".failed.json": "application/json", "reports/" + accountID(1) + "/latest.json": "application/json",
	} {
		if got := o.Hub.Objects()[key].ContentType; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	csv := string(o.Hub.Objects()[out.Report.Prefix+".csv"].Content)
	if strings.Count(csv, "\n") != 11 || !strings.Contains(csv, accountID(4)+" true new root-key <root_account>") {
		t.Errorf("the table is\n%s", csv)
	}
	figures := map[string]float64{}
	for _, m := range metrics {
		figures[m.Name] = m.Value
	}
	for name, want := range map[string]float64{"FindingsCritical": 1, "FindingsHigh": 6, "Keys": 9, "OldestKeyAgeDays": 100, "Accounts": 5, "AccountsNotExamined": 1, "AuditCompleted": 1} {
		if got, ok := figures[name]; !ok || got != want {
			t.Errorf("metric %s is %v, want %v", name, got, want)
		}
	}
	if figures["NotExamined"] < 1 {
		t.Errorf("metric NotExamined is %v with an account that was not examined", figures["NotExamined"])
	}
}

// From run to run: what was told is not told again, what is no more is resolved, and
// what was not examined stays as it was.
func TestMergeCompares(t *testing.T) {
	o := organization(6)
	for _, m := range o.Members() {
		populate(m.Account)
	}
	_, out := runAll(t, o)
	if out.New != 21 || !out.Coverage.Complete {
		t.Fatalf("%d new, complete %t", out.New, out.Coverage.Complete)
	}
	o.Advance(day)
	if _, out = runAll(t, o); out.New != 0 || out.Open != 21 || out.Resolved != 0 || out.Notified || out.ComparedWith == nil {
		t.Errorf("nothing happened: %d new, %d open, %d resolved, notified %t", out.New, out.Open, out.Resolved, out.Notified)
	}
	o.Advance(day)
	o.Member(accountID(1)).RemoveUser("idle") // one resolved
	o.Member(accountID(2)).AddUser("late")    // two new
	o.Member(accountID(2)).AddKey("late", 200*day)
	o.Member(accountID(3)).RemoveUser("idle") // not seen
	o.Member(accountID(3)).Role = ""
	o.Member(accountID(4)).State = "SUSPENDED" // stays open
	o.Member(accountID(5)).State = "CLOSED"    // resolved
	left := o.Member(accountID(6))
	o.Leave(accountID(6)) // missing
	run, out := runAll(t, o)
	r, _ := merged(t, o, run)
	if got, want := reasons(r), map[string]string{accountID(3): "roleUnavailable", accountID(4): "suspended", accountID(5): "closed", accountID(6): "missing"}; !maps.Equal(got, want) {
		t.Errorf("not examined %v, want %v", got, want)
	}
	if out.New != 2 || out.Resolved != 1+3 || out.Open != 3+2+3+3+3+3 || !out.Notified || out.Coverage.Complete {
		t.Errorf("%d new, %d resolved, %d open, notified %t, complete %t", out.New, out.Resolved, out.Open, out.Notified, out.Coverage.Complete)
	}
	if want := (audit.AccountCounts{Total: 7, Examined: 3, Skipped: 2, NotExamined: 2}); out.Accounts != want {
		t.Errorf("accounts %+v, want %+v", out.Accounts, want)
	}
	for account, want := range map[string]audit.SeverityCounts{accountID(3): {High: 2, Medium: 1}, accountID(4): {High: 2, Medium: 1}, accountID(5): {}, accountID(6): {High: 2, Medium: 1}} {
		if row := rowOf(t, r, account); row.Severities != want || row.New != 0 {
			t.Errorf("account %s: %+v, want %+v", account, row.Severities, want)
		}
	}
	o.Advance(day)
	again, out := runAll(t, o)
	r, _ = merged(t, o, again)
	if got, want := reasons(r), map[string]string{accountID(3): "roleUnavailable", accountID(4): "suspended", accountID(5): "closed", accountID(6): "left"}; !maps.Equal(got, want) {
		t.Errorf("not examined %v, want %v", got, want)
	}
	if out.New != 0 || out.Resolved != 3 || rowOf(t, r, accountID(6)).Resolved != 3 {
		t.Errorf("left: %d new, %d resolved", out.New, out.Resolved)
	}
	o.Advance(day)
	o.Member(accountID(5)).State = "ACTIVE" // opened again
	o.Member(accountID(3)).Role = memberRole
	run, out = runAll(t, o)
	r, _ = merged(t, o, run)
	if got, want := reasons(r), map[string]string{accountID(4): "suspended"}; !maps.Equal(got, want) {
		t.Errorf("not examined %v, want %v", got, want)
	}
	if out.New != 3 || out.Resolved != 1 || rowOf(t, r, accountID(5)).New != 3 || rowOf(t, r, accountID(3)).Resolved != 1 {
		t.Errorf("%d new, %d resolved", out.New, out.Resolved)
	}
	o.Advance(day)
	o.Join(left) // what was found there before it left is new again
	if _, out = runAll(t, o); out.New != 3 {
		t.Errorf("joined again: %d new", out.New)
	}
	checkSchemas(t, o)
}

// A person starts a run again: what was told stays told, and what the others now have
// to tell is told, unless a newer run is done.
func TestMergeAgain(t *testing.T) {
	o := organization(2)
	for _, m := range o.Members() {
		populate(m.Account)
	}
	o.Member(accountID(2)).Role = ""
	run, out := runAll(t, o)
	if out.New != 6 {
		t.Fatalf("%d new", out.New)
	}
	again := mustMerge(t, o, run) // a repeat alone changes nothing
	if again.Notified || !reflect.DeepEqual(again.OrganizationSummary, out.OrganizationSummary) || len(o.Hub.Messages()) != 1 {
		t.Errorf("a repeat answered %+v, and %d messages are out", again, len(o.Hub.Messages()))
	}
	o.Advance(time.Hour)
	o.Member(accountID(2)).Role = memberRole
	rerun := mustList(t, o, audit.AccountsInput{RunID: run.RunID, Day: run.Day})
	if !reflect.DeepEqual(run, rerun) {
		t.Fatalf("the list is another one: %+v", rerun)
	}
	examineAll(o, rerun, nil)
	out = mustMerge(t, o, rerun)
	if out.New != 3 || out.Open != 6 || out.Resolved != 0 || !out.Notified || !out.Coverage.Complete || out.Accounts.Examined != 3 {
		t.Errorf("tried again: %+v", out)
	}
	if out = mustMerge(t, o, rerun); out.Notified || len(o.Hub.Messages()) != 2 {
		t.Errorf("repeated: notified %t, %d messages", out.Notified, len(o.Hub.Messages()))
	}

	o.Advance(day)
	o.Member(accountID(1)).Role = ""
	missed, _ := runAll(t, o)
	o.Advance(day)
	o.Member(accountID(1)).Role = memberRole
	newer, _ := runAll(t, o)
	_, before := merged(t, o, newer)
	messages, objects := len(o.Hub.Messages()), o.Hub.Objects()
	examineAll(o, missed, nil)
	out = mustMerge(t, o, missed)
	r, latest := merged(t, o, missed)
	if out.Notified || len(o.Hub.Messages()) != messages || !reflect.DeepEqual(latest, before) || r.Summary.Accounts.Examined != 3 {
		t.Errorf("an older run: notified %t, latest.json as before: %t, %d examined", out.Notified, reflect.DeepEqual(latest, before), r.Summary.Accounts.Examined)
	}
	if !slices.ContainsFunc(out.Notes, func(s string) bool { return strings.Contains(s, newer.RunID) }) {
		t.Errorf("the newer run is not named: %v", out.Notes)
	}
	for key, object := range o.Hub.Objects() {
		if strings.HasSuffix(key, "latest.json") && string(object.Content) != string(objects[key].Content) {
			t.Errorf("an older run changed %s", key)
		}
	}
}

// A child that was slow is told by a repeat, what others were told is not told again.
func TestMergeSlowChild(t *testing.T) {
	o := organization(2)
	for _, m := range o.Members() {
		populate(m.Account)
	}
	run := mustList(t, o, started(o))
	examineAll(o, run, func(account string) bool { return account == accountID(2) })
	out := mustMerge(t, o, run)
	r, _ := merged(t, o, run)
	if got, want := reasons(r), map[string]string{accountID(2): "died"}; !maps.Equal(got, want) || out.New != 6 {
		t.Errorf("not examined %v, want %v; %d new", got, want, out.New)
	}
	o.Advance(time.Minute)
	mustExamine(t, o, memberInput(run, accountID(2)))
	checkSchemas(t, o)
	if out = mustMerge(t, o, run); out.New != 3 || out.Open != 6 || !out.Notified || out.Accounts.NotExamined != 0 {
		t.Errorf("with the slow one: %+v", out)
	}
}

// Runs that overlap: each is told what the other has not told.
func TestMergeOverlapping(t *testing.T) {
	o := organization(1)
	populate(o.Member(accountID(1)).Account)
	first := mustList(t, o, started(o))
	examineAll(o, first, nil)
	o.Advance(time.Minute)
	o.Member(accountID(1)).AddUser("late")
	o.Member(accountID(1)).AddKey("late", 200*day)
	second := mustList(t, o, started(o))
	examineAll(o, second, nil) // compared with nothing, as the first
	if out := mustMerge(t, o, first); out.New != 3 {
		t.Fatalf("the first: %d new", out.New)
	}
	if out := mustMerge(t, o, second); out.New != 2 || out.Open != 3 {
		t.Errorf("the second: %d new, %d open", out.New, out.Open)
	}
	// Two merges of one run at the same time: one of them finds the other's latest.json.
	o.Advance(day)
	o.Member(accountID(1)).RemoveUser("late")
	third := mustList(t, o, started(o))
	examineAll(o, third, nil)
	inside := false
	out := mustMerge(t, o, third, func(p *iamkeystest.HubProcess, _ *audit.Merge) {
		p.Before = func(_ int, action string) {
			if action == "sns:Publish" && !inside {
				inside = true
				mustMerge(t, o, third)
			}
		}
	})
	r, latest := merged(t, o, third)
	if out.Resolved != 2 || !reflect.DeepEqual(r, latest) || stored[audit.Report](t, o, "reports/"+accountID(1)+"/latest.json").Summary.RunID != third.RunID {
		t.Errorf("two at once: %+v", out)
	}
	// An older run that ends after a newer one was told while it published.
	o.Advance(day)
	older := mustList(t, o, started(o))
	examineAll(o, older, nil)
	o.Advance(time.Minute)
	newer := mustList(t, o, started(o))
	examineAll(o, newer, nil)
	inside = false
	mustMerge(t, o, older, func(p *iamkeystest.HubProcess, op *audit.Merge) {
		op.Tell = audit.TellAlways
		p.Before = func(_ int, action string) {
			if action == "sns:Publish" && !inside {
				inside = true
				mustMerge(t, o, newer)
			}
		}
	})
	if _, latest := merged(t, o, older); latest.Summary.RunID != newer.RunID {
		t.Errorf("the organization's latest report is of run %s, want the newer one, %s", latest.Summary.RunID, newer.RunID)
	}
}

func TestMergeNobodyExamined(t *testing.T) {
	o := organization(2)
	populate(o.Member(accountID(1)).Account)
	for _, m := range o.Members() {
		m.Role = ""
	}
	run := mustList(t, o, started(o))
	examineAll(o, run, func(account string) bool { return account == o.Hub.ID })
	for range 2 {
		_, err, _ := mergeRun(o, run)
		wantCode(t, err, iamkeys.InventoryUnavailable)
		checkSchemas(t, o)
		if r, latest := merged(t, o, run); len(o.Hub.Messages()) != 1 || r.Summary.Accounts.NotExamined != 3 || !reflect.DeepEqual(r, latest) {
			t.Errorf("%d messages, %+v", len(o.Hub.Messages()), r.Summary.Accounts)
		}
	}
}

// The figures of accounts that could be examined before keep the lengths by which they
// were judged.
func TestMergeNobodyExaminedAnyMore(t *testing.T) {
	o := organization(1)
	populate(o.Member(accountID(1)).Account)
	_, first := runAll(t, o)
	o.Advance(day)
	o.Member(accountID(1)).Role = ""
	run := mustList(t, o, started(o))
	examineAll(o, run, func(account string) bool { return account == o.Hub.ID })
	_, err, _ := mergeRun(o, run)
	wantCode(t, err, iamkeys.InventoryUnavailable)
	if r, _ := merged(t, o, run); first.Thresholds.MaxAgeDays == 0 || r.Summary.Thresholds != first.Thresholds || r.Summary.Open != first.New {
		t.Errorf("%+v", r.Summary)
	}
	checkSchemas(t, o)
}

// When nothing is to be told, nothing is, but coverage decides, too.
func TestMergeTells(t *testing.T) {
	for tell, want := range map[audit.Tell][3]bool{ // first run, the same again, one account less examined
		audit.TellAlways: {true, true, true}, audit.TellFindings: {true, true, true}, audit.TellChanges: {true, false, true}, audit.TellNever: {false, false, false},
	} {
		o := organization(1)
		populate(o.Member(accountID(1)).Account)
		for i := range 3 {
			if i == 2 {
				o.Member(accountID(1)).Role = ""
			}
			run := mustList(t, o, started(o))
			examineAll(o, run, nil)
			out := mustMerge(t, o, run, func(_ *iamkeystest.HubProcess, op *audit.Merge) { op.Tell = tell })
			if out.Notified != want[i] {
				t.Errorf("%s, run %d: notified %t", tell, i+1, out.Notified)
			}
			if _, latest := merged(t, o, run); latest.Summary.RunID != run.RunID {
				t.Errorf("%s, run %d is not the latest", tell, i+1)
			}
			o.Advance(day)
		}
	}
}

func TestMergeRefuses(t *testing.T) {
	o := organization(2)
	run := mustList(t, o, started(o))
	examineAll(o, run, nil)
	with := func(change func(*audit.AccountsOutput)) audit.AccountsOutput {
		changed := run
		change(&changed)
		return changed
	}
	before := len(o.Hub.Stored())
	for name, in := range map[string]audit.AccountsOutput{
		"runId must": with(func(r *audit.AccountsOutput) { r.RunID = "../x" }), "day must": with(func(r *audit.AccountsOutput) { r.Day = "today" }),
		"list must":    with(func(r *audit.AccountsOutput) { r.List.Bucket = "others" }),
		"list must be": with(func(r *audit.AccountsOutput) { r.List.Key = "reports/organization/2026/11/22/x.accounts.json" }),
		"runId and day": with(func(r *audit.AccountsOutput) {
			r.RunID, r.List.Key = "20261123T090001Z", strings.Replace(r.List.Key, r.RunID, "20261123T090001Z", 1)
		}),
	} {
		_, err, _ := mergeRun(o, in)
		if iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want InvalidInput naming %s", err, name)
		}
	}
	list := stored[[]audit.Member](t, o, run.List.Key)
	list[1].RunID = "../../../elsewhere"
	content, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	o.Hub.SetObject(run.List.Key, content)
	_, err, _ = mergeRun(o, run)
	if iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), "[1].runId") {
		t.Errorf("a changed list: %v", err)
	}
	if len(o.Hub.Stored()) != before || len(o.Hub.Messages()) != 0 {
		t.Errorf("refused, and stored %v", o.Hub.Stored()[before:])
	}

	// Nor is a hand's word believed that an account is closed, or none of ours.
	for name, skip := range map[string][]audit.SkippedAccount{
		"[0].account":              {{Account: "../" + accountID(1), Reason: audit.Closed}},
		"[1].account, 20000000000": {{Account: accountID(2), Reason: audit.Closed}, {Account: accountID(2), Reason: audit.Suspended}},
		`[0].reason is "left"`:     {{Account: accountID(1), Reason: audit.Left}},
		"[0].reason is nothing":    {{Account: accountID(1)}},
	} {
		o := organization(2)
		run := mustList(t, o, started(o))
		examineAll(o, run, nil)
		content, err := json.Marshal(skip)
		if err != nil {
			t.Fatal(err)
		}
		o.Hub.SetObject(strings.Replace(run.List.Key, ".accounts.", ".skipped.", 1), content)
		before := len(o.Hub.Stored())
		_, err, _ = mergeRun(o, run)
		if iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), name) || len(o.Hub.Stored()) != before || len(o.Hub.Messages()) != 0 {
			t.Errorf("%v: %v, stored %v", skip, err, o.Hub.Stored()[before:])
		}
	}
}

// What is damaged in the bucket is said, and nothing of it passes for examined.
func TestMergeDamaged(t *testing.T) {
	o := organization(4)
	for _, m := range o.Members() {
		populate(m.Account)
	}
	first, _ := runAll(t, o)
	o.Advance(day)
	run := mustList(t, o, started(o))
	examineAll(o, run, func(account string) bool { return account == accountID(3) })
	o.Hub.SetObject(prefixOf(run, accountID(4))+".json", o.Hub.Objects()[prefixOf(first, accountID(4))+".json"].Content) // yesterday's
	o.Hub.SetObject(prefixOf(run, accountID(1))+".json", []byte(`{"summary":`))
	o.Hub.SetObject(prefixOf(run, accountID(2))+".json", o.Hub.Objects()[prefixOf(run, o.Hub.ID)+".json"].Content) // another account's
	o.Hub.SetObject(prefixOf(run, accountID(3))+".failed.json", []byte(`{`))
	o.Hub.SetObject("reports/"+accountID(1)+"/latest.json", []byte("{}"))
	out := mustMerge(t, o, run)
	r, _ := merged(t, o, run)
	if got, want := reasons(r), map[string]string{accountID(1): "failed", accountID(2): "failed", accountID(3): "failed", accountID(4): "failed"}; !maps.Equal(got, want) {
		t.Errorf("not examined %v, want %v", got, want)
	}
	if out.Resolved != 0 || out.New != 0 || rowOf(t, r, accountID(2)).Severities.High != 2 || rowOf(t, r, accountID(1)).Severities.High != 2 {
		t.Errorf("%+v", r.Summary) // what latest.json has not, the organization's latest report still leads to
	}
	o.Hub.SetObject("reports/organization/latest.json", []byte("null"))
	o.Advance(day)
	_, out = runAll(t, o)
	if !slices.ContainsFunc(out.Notes, func(s string) bool { return strings.Contains(s, "report before cannot be read") }) {
		t.Errorf("the damage is not said: %v", out.Notes)
	}
}

// A thousand findings are shown, and the table has them all.
func TestMergeCuts(t *testing.T) {
	o := organization(2)
	for n, account := range []string{accountID(1), accountID(2)} {
		for i := range 900 {
			name := fmt.Sprintf("user-%03d", i)
			o.Member(account).AddUser(name)
			o.Member(account).AddKey(name, time.Duration(46+n*30+i%9)*day) // unused; the second account's aging, too
		}
	}
	o.Member(accountID(2)).Attach("user-899", "arn:aws:iam::aws:policy/IAMFullAccess")
	o.Member(accountID(1)).Attach("user-899", "arn:aws:iam::aws:policy/PowerUserAccess")
	_, out := runAll(t, o)
	r := stored[audit.Organization](t, o, "reports/organization/latest.json")
	total := out.New
	if total < 2000 || len(r.Findings) != 1000 || r.Omitted == nil || *r.Omitted != total-1000 {
		t.Errorf("%d of %d findings, omitted %v", len(r.Findings), total, r.Omitted)
	}
	for i, f := range r.Findings {
		if f.Severity != audit.High {
			t.Fatalf("a %s finding is shown before high ones", f.Severity)
		}
		if want := map[int]string{0: accountID(2) + "user-899", 1: accountID(1) + "user-899"}[i]; want != "" && f.Account+f.UserName != want || i > 2 && f.CreateDate.Before(*r.Findings[i-1].CreateDate) {
			t.Errorf("finding %d is of user %s in account %s, %s: want them by power, then by age", i, f.UserName, f.Account, f.CreateDate)
		}
	}
	if rows := strings.Count(string(o.Hub.Objects()[out.Report.Prefix+".csv"].Content), "\n"); rows != total+1 {
		t.Errorf("the table has %d rows, want %d", rows, total+1)
	}
}

// An exemption ends, whether or not its account can be read.
func TestMergeExemptionEnds(t *testing.T) {
	o := organization(1)
	m := o.Member(accountID(1))
	populate(m.Account)
	m.SetTags("idle", iamkeys.Tag{Key: iamkeys.TagExemptUntil, Value: "2026-11-30"}, iamkeys.Tag{Key: iamkeys.TagExemptReason, Value: "known"})
	if _, out := runAll(t, o); out.New != 2 || out.Exempt != 1 {
		t.Fatalf("%+v", out)
	}
	m.Role = ""
	o.Advance(5 * day)
	if _, out := runAll(t, o); out.New != 0 || out.Open != 2 || out.Exempt != 1 {
		t.Errorf("it holds: %d new, %d open, %d exempt", out.New, out.Open, out.Exempt)
	}
	o.Advance(5 * day)
	if _, out := runAll(t, o); out.New != 0 || out.Open != 3 || out.Exempt != 0 {
		t.Errorf("it has ended: %d new, %d open, %d exempt", out.New, out.Open, out.Exempt)
	}
	checkSchemas(t, o)
}

// Whatever happens to whichever call of merge: a repeat tells what is new, of a run that
// was noted nothing again, and ends as an undisturbed one does.
func TestMergeFaults(t *testing.T) {
	arrange := func() (*iamkeystest.Organization, audit.AccountsOutput) {
		o := organization(4)
		for _, m := range o.Members() {
			populate(m.Account)
		}
		runAll(t, o)
		o.Advance(day)
		o.Member(accountID(1)).RemoveUser("idle")
		o.Member(accountID(2)).AddUser("late")
		o.Member(accountID(2)).AddKey("late", 200*day)
		o.Member(accountID(3)).Role = ""
		o.Member(accountID(4)).State = "CLOSED"
		run := mustList(t, o, started(o))
		examineAll(o, run, nil)
		return o, run
	}
	o, run := arrange()
	smooth := mustMerge(t, o, run)
	want := latests(o)
	n, twice := 1, 0
	for ; ; n++ {
		reached := false
		for _, fault := range iamkeystest.Faults {
			o, run := arrange()
			failed := ""
			alarms := map[string]float64{} // what alarms look at
			emit := func(_ *iamkeystest.HubProcess, op *audit.Merge) {
				op.Emit = func(metrics []audit.Metric) {
					for _, m := range metrics {
						alarms[m.Name] = m.Value
					}
				}
			}
			_, err, died := mergeRun(o, run, emit, func(p *iamkeystest.HubProcess, _ *audit.Merge) {
				p.Fault = func(i int, action string) iamkeystest.Fault {
					if i == n {
						reached, failed = true, action
						return fault
					}
					return iamkeystest.None
				}
			})
			if reached && !died && err == nil && (fault == iamkeystest.Refused || fault == iamkeystest.Unanswered) {
				t.Errorf("%s at call %d, %s, goes unsaid", fault, n, failed)
			}
			if code := iamkeys.CodeOf(err); err != nil && code != iamkeys.StoreFailed && code != iamkeys.NotifyFailed {
				t.Errorf("%s at call %d, %s: %v", fault, n, failed, err)
			}
			noted := stored[audit.Organization](t, o, "reports/organization/latest.json").Summary.RunID == run.RunID
			told := len(o.Hub.Messages())
			o.Advance(time.Minute)
			out := mustMerge(t, o, run, emit)
			if alarms["AuditCompleted"] != 1 || alarms["AccountsNotExamined"] != 1 || alarms["NotExamined"] < 1 {
				t.Errorf("%s at call %d, %s: no alarm hears of the run: %v", fault, n, failed, alarms)
			}
			if noted && out.Notified || told == 1 && !noted && !out.Notified {
				t.Errorf("%s at call %d, %s: %d messages before, noted %t, and the repeat sent one: %t", fault, n, failed, told, noted, out.Notified)
			}
			if len(o.Hub.Messages()) > 2 {
				twice++
			}
			if out.Severities != smooth.Severities || out.New != smooth.New || out.Resolved != smooth.Resolved {
				t.Errorf("%s at call %d, %s: the repeat gives %d new, %d resolved, %+v", fault, n, failed, out.New, out.Resolved, out.Severities)
			}
			if got := latests(o); !maps.Equal(got, want) {
				t.Errorf("%s at call %d, %s: the latest reports are %v, want %v", fault, n, failed, got, want)
			}
			o.Advance(day)
			next := mustList(t, o, started(o))
			examineAll(o, next, nil)
			if out := mustMerge(t, o, next); out.New != 0 || out.Resolved != 0 {
				t.Errorf("%s at call %d, %s: the next run has %d new, %d resolved", fault, n, failed, out.New, out.Resolved)
			}
		}
		if !reached {
			break
		}
	}
	if n < 25 || twice == 0 {
		t.Errorf("faults at %d calls only; %d runs were sent twice", n-1, twice)
	}
}

// latests gives what each latest.json is about, but for times.
func latests(o *iamkeystest.Organization) map[string]string {
	all := map[string]string{}
	for key, object := range o.Hub.Objects() {
		if !strings.HasSuffix(key, "/latest.json") || strings.Contains(key, "organization") {
			continue
		}
		var r audit.Report
		if err := json.Unmarshal(object.Content, &r); err != nil {
			panic(err)
		}
		lines := []string{r.Summary.RunID}
		for _, f := range slices.Concat(r.Findings, r.Exempt) {
			lines = append(lines, fmt.Sprintf("%s %s since %s", f.Rule, f.UserName, f.FirstSeen))
		}
		slices.Sort(lines)
		all[key] = strings.Join(lines, "\n")
	}
	return all
}

// A merge that died for good after it was noted: the runs after it say nothing again, also
// of an account that the next one does not examine.
func TestMergeNotedAndDead(t *testing.T) {
	o := organization(3)
	for _, m := range o.Members() {
		populate(m.Account)
	}
	runAll(t, o)
	o.Advance(day)
	o.Member(accountID(1)).AddUser("late")
	o.Member(accountID(1)).AddKey("late", 200*day)
	o.Member(accountID(2)).RemoveUser("idle")
	o.Member(accountID(3)).State = "CLOSED"
	run := mustList(t, o, started(o))
	examineAll(o, run, nil)
	published := false
	_, _, died := mergeRun(o, run, func(p *iamkeystest.HubProcess, _ *audit.Merge) {
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			switch {
			case action == "sns:Publish":
				published = true
			case published && action == "s3:PutObject": // the organization's latest.json
				return iamkeystest.DiesAfter
			}
			return iamkeystest.None
		}
	})
	if !died || stored[audit.Organization](t, o, "reports/organization/latest.json").Summary.RunID != run.RunID {
		t.Fatal("it did not die where it should")
	}
	role := o.Member(accountID(1)).Role
	for _, o.Member(accountID(1)).Role = range []string{"", role, role} { // it is not examined next
		o.Advance(day)
		if _, out := runAll(t, o); out.New != 0 || out.Resolved != 0 {
			t.Errorf("%d new, %d resolved, and all was told", out.New, out.Resolved)
		}
	}
	o.Member(accountID(3)).State = "ACTIVE"
	o.Advance(day)
	if _, out := runAll(t, o); out.New != 3 {
		t.Errorf("opened again: %d new", out.New)
	}
}

// checkSchemas holds every report that is stored to its schema.
func checkSchemas(t *testing.T, o *iamkeystest.Organization) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, name := range []string{"report", "organization"} {
		content, err := os.ReadFile(filepath.Join("..", "..", "render", name+".schema.json"))
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
		if err == nil {
			err = c.AddResource("urn:iamkeys:"+name+":1", document)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	reports := regexp.MustCompile(`^reports/(organization|\d{12})/(latest|\d{4}/\d{2}/\d{2}/[A-Za-z0-9_-]+)\.json$`)
	checked := map[string]int{}
	for key, object := range o.Hub.Objects() {
		at := reports.FindStringSubmatch(key)
		if at == nil {
			continue
		}
		name := "report"
		if at[1] == "organization" {
			name = at[1]
		}
		schema, err := c.Compile("urn:iamkeys:" + name + ":1")
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(object.Content))
		if err == nil {
			err = schema.Validate(v)
		}
		if err != nil {
			t.Errorf("%s is not what its schema says: %v", key, err)
		}
		checked[name]++
	}
	if checked["organization"] == 0 {
		t.Errorf("checked %v", checked)
	}
}
