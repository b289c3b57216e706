package audit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

const memberRole = "iamkeys-member"

// accountID gives the ID of the organization's n-th account, its hub aside.
func accountID(n int) string { return fmt.Sprintf("2%011d", n) }

// organization gives a hub and n accounts, each with the role.
func organization(n int) *iamkeystest.Organization {
	o := iamkeystest.NewOrganization()
	for i := range n {
		o.Add(accountID(i+1), fmt.Sprintf("account %d", i+1), memberRole)
	}
	return o
}

func lister(p *iamkeystest.HubProcess) audit.Accounts {
	return audit.Accounts{Organizations: p, S3: p, Account: p.ID, Bucket: "reports", AtOnce: 20, Log: quiet}
}

// started is the workflow's input of now.
func started(o *iamkeystest.Organization) audit.AccountsInput {
	now := o.Hub.Now()
	return audit.AccountsInput{Started: &now}
}

// listAccounts runs Accounts in a process of its own.
func listAccounts(o *iamkeystest.Organization, in audit.AccountsInput, arrange ...func(*iamkeystest.HubProcess, *audit.Accounts)) (out audit.AccountsOutput, err error, died bool) {
	p := o.Start()
	op := lister(p)
	for _, f := range arrange {
		f(p, &op)
	}
	if err := in.Validate(); err != nil {
		return out, err, false
	}
	died = p.Run(func() { out, err = op.Run(context.Background(), in) })
	return out, err, died
}

func mustList(t testing.TB, o *iamkeystest.Organization, in audit.AccountsInput, arrange ...func(*iamkeystest.HubProcess, *audit.Accounts)) audit.AccountsOutput {
	t.Helper()
	out, err, _ := listAccounts(o, in, arrange...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// stored decodes an object of the hub's bucket.
func stored[T any](t testing.TB, o *iamkeystest.Organization, key string) (v T) {
	t.Helper()
	object, ok := o.Hub.Objects()[key]
	if !ok {
		t.Fatalf("nothing is stored at %s", key)
	}
	if err := json.Unmarshal(object.Content, &v); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return v
}

func TestAccounts(t *testing.T) {
	o := organization(45)
	states := map[string]audit.NotExamined{
		"SUSPENDED": audit.Suspended, "PENDING_CLOSURE": audit.Closing, "CLOSED": audit.Closed, "PENDING_ACTIVATION": audit.Activating,
		"ACTIVE": "", "": "", "A_STATE_OF_TOMORROW": "",
	}
	want := map[string]audit.NotExamined{}
	for i, state := range slices.Sorted(maps.Keys(states)) {
		o.Member(accountID(i + 1)).State = state
		want[accountID(i+1)] = states[state]
	}
	o.Member(accountID(20)).Name = "Ops, <EU> & \"others\"\n"
	want[accountID(30)] = audit.Excluded
	out := mustList(t, o, started(o), func(p *iamkeystest.HubProcess, op *audit.Accounts) {
		op.Exclude = []string{accountID(30), "999999999999"}
	})
	const at = "reports/organization/2026/11/23/20261123T090000Z"
	list, skipped := stored[[]audit.Member](t, o, at+".accounts.json"), stored[[]audit.SkippedAccount](t, o, at+".skipped.json")
	for _, m := range o.Members() {
		reason := want[m.ID]
		inList := slices.Contains(list, audit.Member{Account: m.ID, Name: m.Name, RunID: "20261123T090000Z", Day: "2026-11-23"})
		inSkipped := slices.Contains(skipped, audit.SkippedAccount{Account: m.ID, Name: m.Name, Reason: reason})
		if inList != (reason == "") || inSkipped != (reason != "") {
			t.Errorf("account %s in state %q: listed %t, skipped %t; want reason %q", m.ID, m.State, inList, inSkipped, reason)
		}
	}
	counts := map[audit.NotExamined]int{audit.Suspended: 1, audit.Closing: 1, audit.Closed: 1, audit.Activating: 1, audit.Excluded: 1}
	if want := (audit.AccountsOutput{RunID: "20261123T090000Z", Day: "2026-11-23", Accounts: 41, Skipped: skipped, SkippedCounts: counts, List: audit.ListLocation{Bucket: "reports", Key: at + ".accounts.json"}, AtOnce: 20}); !reflect.DeepEqual(out, want) {
		t.Errorf("got %+v\nwant %+v", out, want)
	}
	if len(list) != 41 || len(skipped) != 5 {
		t.Errorf("%d listed, %d skipped; want 41 and 5", len(list), len(skipped))
	}

	t.Run("a schedule's time names the run, also when it comes late", func(t *testing.T) {
		in := started(o)
		due := time.Date(2026, 11, 22, 23, 30, 0, 0, time.FixedZone("", -2*3600)) // in UTC the next day
		in.Time = &due
		if out := mustList(t, o, in); out.RunID != "20261123T013000Z" || out.Day != "2026-11-23" {
			t.Errorf("got run %s of %s", out.RunID, out.Day)
		}
	})
	t.Run("a list once stored is used again", func(t *testing.T) {
		o.Add(accountID(99), "late", memberRole)
		o.Member(accountID(21)).State = "CLOSED"
		for _, in := range []audit.AccountsInput{started(o), {RunID: out.RunID, Day: out.Day}} {
			if again := mustList(t, o, in); !reflect.DeepEqual(again, out) {
				t.Errorf("%+v gives %+v, want %+v", in, again, out)
			}
		}
	})
}

func TestAccountsSkippedAreCut(t *testing.T) {
	o := organization(150)
	for i := range 140 {
		m := o.Member(accountID(i + 1))
		m.State, m.Name = "SUSPENDED", strings.Repeat("ü", 500)
	}
	out := mustList(t, o, started(o))
	o.Advance(time.Second)
	for i := range 140 {
		o.Member(accountID(i + 1)).Name = strings.Repeat("<", 50) // as long as Organizations takes it, and six bytes a character in JSON
	}
	if odd := mustList(t, o, started(o)); len(odd.Skipped) < 50 || odd.SkippedCounts[audit.Suspended] != 140 {
		t.Errorf("%d named, %v counted", len(odd.Skipped), odd.SkippedCounts)
	} else if content, err := json.Marshal(odd); err != nil || len(content) > 32<<10 {
		t.Errorf("the state has %d bytes (%v)", len(content), err)
	}
	if len(out.Skipped) != 100 || out.SkippedCounts[audit.Suspended] != 140 || out.Accounts != 11 {
		t.Errorf("%d named, %v counted, %d to examine", len(out.Skipped), out.SkippedCounts, out.Accounts)
	}
	if all := stored[[]audit.SkippedAccount](t, o, "reports/organization/2026/11/23/20261123T090000Z.skipped.json"); len(all) != 140 {
		t.Errorf("%d stored as skipped, want all 140", len(all))
	}
	if content, err := json.Marshal(out); err != nil || len(content) > 32<<10 {
		t.Errorf("the state has %d bytes (%v)", len(content), err)
	}
}

func TestAccountsRefuses(t *testing.T) {
	now, never := iamkeystest.Epoch, time.Time{}
	for name, in := range map[string]audit.AccountsInput{
		"started": {}, "started must": {Started: &never}, "time must": {Started: &now, Time: &never}, "time goes": {Started: &now, Time: &now, RunID: "20261123T090000Z", Day: "2026-11-23"},
		"day must": {Started: &now, RunID: "20261123T090000Z"}, "runId must": {Started: &now, Day: "2026-11-23"}, "runId must be 1": {RunID: "../../latest", Day: "2026-11-23"},
		"day must be": {RunID: "20261123T090000Z", Day: "2026-02-30"}, "day must be the": {RunID: "20261123T090000Z", Day: "2026-11-23/../x"},
		"runId and day name no": {RunID: "20261122T090000Z", Day: "2026-11-22"},
	} {
		o := organization(3)
		_, err, _ := listAccounts(o, in)
		if iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: got %v, want InvalidInput naming %s", in, err, name)
		}
		if len(o.Hub.Stored()) != 0 {
			t.Errorf("%+v stored %v", in, o.Hub.Stored())
		}
	}

	o := organization(2)
	o.Unlisted = true
	_, err, _ := listAccounts(o, started(o))
	wantCode(t, err, iamkeys.InventoryUnavailable)
	for _, part := range []string{"aws organizations put-resource-policy --content '", `"Principal":{"AWS":"123456789012"}`, "aws organizations register-delegated-administrator --account-id 123456789012"} {
		if !strings.Contains(err.(*iamkeys.Error).Message, part) {
			t.Errorf("what grants it is not said: %v lacks %s", err, part)
		}
	}
	o = organization(2)
	_, err, _ = listAccounts(o, started(o), func(p *iamkeystest.HubProcess, op *audit.Accounts) {
		op.Exclude = []string{p.ID, accountID(1), accountID(2)}
	})
	wantCode(t, err, iamkeys.InventoryUnavailable)
	if len(o.Hub.Stored()) != 0 {
		t.Errorf("a run without accounts stored %v", o.Hub.Stored())
	}
}

// A list that somebody changed is not used, whoever asks for it.
func TestAccountsListChanged(t *testing.T) {
	for name, spoil := range map[string]func([]audit.Member) []audit.Member{
		"[1].runId":              func(l []audit.Member) []audit.Member { l[1].RunID = "../../../elsewhere"; return l },
		"[2].day":                func(l []audit.Member) []audit.Member { l[2].Day = "2026-11-22"; return l },
		"[0].account":            func(l []audit.Member) []audit.Member { l[0].Account = "../123456789012"; return l },
		"[3].account, 123456789": func(l []audit.Member) []audit.Member { l[3] = l[0]; return l },
		"it is empty":            func([]audit.Member) []audit.Member { return []audit.Member{} },
	} {
		o := organization(3)
		out := mustList(t, o, started(o))
		changed, err := json.Marshal(spoil(stored[[]audit.Member](t, o, out.List.Key)))
		if err != nil {
			t.Fatal(err)
		}
		o.Hub.SetObject(out.List.Key, changed)
		_, err, _ = listAccounts(o, audit.AccountsInput{RunID: out.RunID, Day: out.Day})
		if iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want InvalidInput naming %s", err, name)
		}
	}
	o := organization(3)
	out := mustList(t, o, started(o))
	o.Hub.SetObject(out.List.Key, []byte("[{"))
	_, err, _ := listAccounts(o, audit.AccountsInput{RunID: out.RunID, Day: out.Day})
	wantCode(t, err, iamkeys.StoreFailed)
}

// Whatever happens to whichever call, and however often a run is begun, all of its
// answers are about the same accounts.
func TestAccountsFaults(t *testing.T) {
	calls := 0
	for n := 1; ; n++ {
		reached := false
		for _, fault := range iamkeystest.Faults {
			o := organization(25)
			in := started(o)
			_, err, died := listAccounts(o, in, func(p *iamkeystest.HubProcess, _ *audit.Accounts) {
				p.Fault = func(i int, _ string) iamkeystest.Fault {
					if i == n {
						reached = true
						return fault
					}
					return iamkeystest.None
				}
			})
			if code := iamkeys.CodeOf(err); !died && err != nil && code != iamkeys.InventoryUnavailable && code != iamkeys.StoreFailed {
				t.Errorf("%s at call %d: %v", fault, n, err)
			}
			if reached && !died && err == nil && fault != iamkeystest.Lost {
				t.Errorf("%s at call %d goes unsaid", fault, n)
			}
			before := o.Hub.Objects()["reports/organization/2026/11/23/20261123T090000Z.accounts.json"].Content
			o.Leave(accountID(7)) // since
			out := mustList(t, o, in)
			after := o.Hub.Objects()[out.List.Key].Content
			if before != nil && string(before) != string(after) {
				t.Errorf("%s at call %d: a list was stored, and another one later", fault, n)
			}
			if want := 25 + map[bool]int{true: 1, false: 0}[before != nil]; out.Accounts != want {
				t.Errorf("%s at call %d: %d accounts, want %d", fault, n, out.Accounts, want)
			}
		}
		if !reached {
			break
		}
		calls++
	}
	if calls != 5 { // the list is not there, two pages, skipped, list
		t.Errorf("faults at %d calls, want 5", calls)
	}
}

// Of two executions for the same time, the list of one counts for both.
func TestAccountsTwice(t *testing.T) {
	o := organization(3)
	in := started(o)
	var other audit.AccountsOutput
	out := mustList(t, o, in, func(p *iamkeystest.HubProcess, _ *audit.Accounts) {
		p.Before = func(_ int, action string) {
			if action == "s3:PutObject" && other.RunID == "" {
				o.Add(accountID(9), "late", memberRole)
				other = mustList(t, o, in)
			}
		}
	})
	if out.Accounts != 5 || !reflect.DeepEqual(out, other) {
		t.Errorf("got %+v and %+v", out, other)
	}
}
