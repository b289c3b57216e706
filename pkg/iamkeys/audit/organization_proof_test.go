package audit_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// A reader is somebody who reads every message of the organization, and believes nothing
// but what they say.
type reader struct {
	told  map[string]bool           // finding → told as new, and not as resolved since
	read  int                       // messages
	again bool                      // the run being read may say again what a merge said that could not note it
	loose map[string]bool           // findings that such a merge told, which nobody repeated: these may come again whenever, or are never resolved
	lost  func(account string) bool // what is read now was told so of the account
}

func told(f audit.Finding) string {
	created := ""
	if f.CreateDate != nil {
		created = f.CreateDate.Format(time.RFC3339)
	}
	return fmt.Sprint(f.Account, " ", f.Rule, " ", f.UserARN, " ", created)
}

// look reads what was sent since.
func (r *reader) look(t *rapid.T, o *iamkeystest.Organization) {
	messages := o.Hub.Messages()
	for ; r.read < len(messages); r.read++ {
		var m audit.Organization
		if err := json.Unmarshal(messages[r.read].JSON, &m); err != nil {
			t.Fatal(err)
		}
		row := map[string]audit.AccountRow{}
		if m.Accounts == nil { // of one account's audit
			row[m.Summary.Account] = audit.AccountRow{Examined: true}
		}
		for _, a := range m.Accounts {
			row[a.Account] = a
			if !a.Examined && a.Reason == nil {
				t.Fatalf("account %s was not examined, and nobody says why", a.Account)
			}
		}
		if m.Summary.Accounts.NotExamined > 0 && m.Summary.Coverage.Complete {
			t.Fatal("an account was not examined, and the report is complete")
		}
		for _, f := range m.Findings {
			if f.State != audit.New {
				continue
			}
			if !row[f.Account].Examined {
				t.Fatalf("%s is new in an account that was not examined", told(f))
			}
			if r.lost != nil && r.lost(f.Account) {
				r.loose[told(f)] = true
			}
			if r.told[told(f)] && !r.again && !r.loose[told(f)] {
				t.Fatalf("run %s says again: %s", m.Summary.RunID, told(f))
			}
			r.told[told(f)] = true
		}
		for _, f := range m.Resolved {
			a := row[f.Account]
			if gone := a.Reason != nil && (*a.Reason == audit.Closed || *a.Reason == audit.Left); !a.Examined && !gone {
				t.Fatalf("%s is resolved in an account that was not examined (%s)", told(f), *a.Reason)
			}
			if r.lost != nil && r.lost(f.Account) {
				r.loose[told(f)] = true
			}
			if !r.told[told(f)] && !r.again && !r.loose[told(f)] {
				t.Fatalf("run %s resolves what nobody was told of, or twice: %s", m.Summary.RunID, told(f))
			}
			delete(r.told, told(f))
		}
	}
	r.again, r.lost = false, nil
}

// Organizations that change between runs, runs that overlap, are repeated, die at any
// call and are started again: no account that was not examined looks clean, nothing that
// was new goes unsaid, nothing is said twice.
func TestOrganizationProof(t *testing.T) {
	examinedRuns, refusals := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := organization(3)
		r := reader{told: map[string]bool{}, loose: map[string]bool{}}
		serial := 0
		var away []*iamkeystest.Member
		var runs []audit.AccountsOutput
		pick := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(t, what) }
		change := func() {
			members := o.Members()
			m := members[pick(len(members), "account")]
			switch pick(9, "change") {
			case 0, 1, 2:
				serial++
				name := fmt.Sprintf("user-%d", serial)
				m.AddUser(name)
				m.AddKey(name, time.Duration(40+pick(100, "age"))*day)
			case 3:
				if serial > 0 {
					name := fmt.Sprintf("user-%d", 1+pick(serial, "user"))
					for _, m := range members {
						if len(m.Keys(name)) > 0 {
							m.RemoveUser(name)
						}
					}
				}
			case 4:
				m.Role = []string{"", memberRole}[pick(2, "role")]
			case 5:
				m.State = []string{"ACTIVE", "SUSPENDED", "CLOSED", "", "PENDING_CLOSURE"}[pick(5, "state")]
			case 6:
				if m.ID != o.Hub.ID {
					o.Leave(m.ID)
					away = append(away, m)
				}
			case 7:
				if len(away) > 0 {
					back := away[0]
					away = away[1:]
					back.Account.Advance(o.Hub.Now().Sub(back.Now()))
					o.Join(back)
				}
			case 8:
				m.Denied = !m.Denied
			}
			o.Member(o.Hub.ID).State = "ACTIVE"
		}
		abandonedLast := false
		merge := func(run audit.AccountsOutput) {
			abandonedLast = false
			die := rapid.IntRange(0, 60).Draw(t, "fault at")
			latest := string(o.Hub.Objects()["reports/organization/latest.json"].Content)
			fault := iamkeystest.Faults[pick(len(iamkeystest.Faults), "fault")]
			before, abandoned := len(o.Hub.Messages()), pick(4, "abandoned") == 0
			for try := 0; ; try++ {
				_, err, died := mergeRun(o, run, func(p *iamkeystest.HubProcess, _ *audit.Merge) {
					p.Fault = func(n int, _ string) iamkeystest.Fault {
						if try == 0 && n == die {
							return fault
						}
						return iamkeystest.None
					}
				})
				if died || err != nil && iamkeys.CodeOf(err) != iamkeys.InventoryUnavailable {
					refusals++
					if try > 0 {
						t.Fatalf("a repeat fails: %v", err)
					}
					if abandoned { // every attempt died
						abandonedLast = true
						object, ok := o.Hub.Objects()["reports/organization/latest.json"]
						noted := ok && kept[audit.Organization](t, o, "reports/organization/latest.json").Summary.RunID == run.RunID && string(object.Content) != latest
						if len(o.Hub.Messages()) > before { // an audit by hand asks its account's latest.json alone
							r.lost = func(account string) bool { return !noted || account == o.Hub.ID }
						}
						return
					}
					r.again = len(o.Hub.Messages()) > before || r.again // it was sent, and perhaps could not be noted
					continue
				}
				return
			}
		}
		for step := range rapid.IntRange(2, 7).Draw(t, "runs") {
			for range pick(5, "changes") {
				change()
			}
			o.Advance(time.Duration(1+pick(30, "hours")) * time.Hour)
			var run audit.AccountsOutput
			if again := len(runs) > 0 && pick(5, "again") == 0; again {
				run = runs[pick(len(runs), "which")]
			} else {
				var err error
				if run, err, _ = listAccounts(o, started(o)); err != nil {
					continue
				}
				runs = append(runs, run)
			}
			byHand := func() { // a person audits the stack's own account beside the runs
				if pick(5, "by hand") == 0 {
					o.Advance(time.Minute)
					if _, err, _ := runAudit(o.Hub, event(o.Hub)); err != nil {
						t.Fatal(err)
					}
					r.look(t, o)
				}
			}
			slow := map[string]bool{}
			byHand()
			examineAll(o, run, func(account string) bool { slow[account] = pick(6, "slow") == 0; return slow[account] })
			byHand()
			merge(run)
			r.look(t, o)
			if pick(2, "slow ones come") == 0 {
				o.Advance(time.Minute)
				byHand()
				examineAll(o, run, func(account string) bool { return !slow[account] })
				merge(run)
				r.look(t, o)
			}
			if _, ok := o.Hub.Objects()["reports/organization/latest.json"]; !ok || abandonedLast {
				continue
			}
			if latest := kept[audit.Organization](t, o, "reports/organization/latest.json"); latest.Summary.RunID != run.RunID { // a newer run is told already
				continue
			}
			for _, m := range kept[[]audit.Member](t, o, run.List.Key) {
				if _, ok := o.Hub.Objects()[prefixOf(run, m.Account)+".json"]; !ok {
					continue
				}
				if m.Account == o.Hub.ID && kept[audit.Report](t, o, "reports/"+m.Account+"/latest.json").Summary.RunID != run.RunID {
					continue // the audit by hand has told more since
				}
				examinedRuns++
				for _, f := range kept[audit.Report](t, o, prefixOf(run, m.Account)+".json").Findings {
					if !r.told[told(f)] {
						t.Fatalf("step %d, run %s: nobody was told of %s", step, run.RunID, told(f))
					}
				}
			}
		}
	})
	t.Logf("%d accounts examined and told, %d merges failed or died", examinedRuns, refusals)
	if examinedRuns < 100 || refusals < 50 {
		t.Errorf("%d accounts, %d failures: too little happened", examinedRuns, refusals)
	}
}

// kept decodes an object of the hub's bucket.
func kept[T any](t *rapid.T, o *iamkeystest.Organization, key string) (v T) {
	if err := json.Unmarshal(o.Hub.Objects()[key].Content, &v); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return v
}
