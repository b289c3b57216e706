package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func takeInventory(p *iamkeystest.Process) audit.TakeInventory {
	return audit.TakeInventory{IAM: p, ReportWait: 5 * time.Minute, Now: p.Now, Sleep: p.Sleep, Log: quiet}
}

// examined takes the account's inventory and judges it as of now.
func examined(t interface{ Fatal(...any) }, p *iamkeystest.Process, source audit.Source) (audit.Report, audit.Inventory) {
	now := p.Now()
	inv, err := takeInventory(p).Run(context.Background(), source, func(u audit.UserFacts) bool {
		r := audit.Judge(audit.Inventory{Users: []audit.UserFacts{u}}, thresholds, "owner", now)
		return len(r.Findings)+len(r.Exempt) > 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return audit.Judge(inv, thresholds, "owner", now), inv
}

// what says a finding in one line: what a reader acts on.
func what(f audit.Finding) string {
	s := fmt.Sprintf("%s %s", f.Rule, f.UserName)
	if f.AccessKeyID != nil {
		s += " " + *f.AccessKeyID
	}
	if f.Status != nil {
		s += fmt.Sprintf(" %s, %d days old", *f.Status, *f.AgeDays)
		switch {
		case f.NeverUsed == nil:
			s += ", last use unknown"
		case *f.NeverUsed:
			s += ", never used"
		default:
			s += ", last used " + f.LastUsedDate.Format(time.RFC3339)
			for _, at := range []*string{f.ServiceName, f.Region} {
				if at != nil {
					s += " " + *at
				}
			}
		}
	}
	return s
}

func whats(findings []audit.Finding) []string {
	lines := []string{}
	for _, f := range findings {
		lines = append(lines, what(f))
	}
	return lines
}

// company makes an account with a user for every rule, and some for none.
func company() *iamkeystest.Account {
	a := iamkeystest.NewAccount()
	a.AddUser("alice")
	a.UsedAgo(a.AddKey("alice", 10*day), time.Hour, "s3", "")
	a.AddUser("Bob", iamkeys.Tag{Key: "Owner", Value: "Team B"})
	a.Move("Bob", "/ci/")
	a.UsedAgo(a.AddKey("Bob", 100*day), 2*day, "ec2", "eu-west-1") // overdue
	a.AddUser("carol")
	a.AddKey("carol", 60*day) // unused
	a.SetStatus("carol", a.AddKey("carol", 200*day), iamkeys.Inactive)
	a.AddUser("dave,d")
	for range 2 { // two active, of the same second, one of them unused
		a.AddKey("dave,d", 55*day)
	}
	a.UsedAgo(a.Keys("dave,d")[1].AccessKeyID, 3*day, "s3", "")
	a.AddUser("erin", iamkeys.Tag{Key: iamkeys.TagExemptUntil, Value: "2026-12-24"}, iamkeys.Tag{Key: iamkeys.TagExemptReason, Value: "until the line is rebuilt"})
	a.UsedAgo(a.AddKey("erin", 300*day), day, "sqs", "eu-west-1")
	a.AddUser("frank")
	a.Attach("frank", "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3")
	a.AddUser("grace")
	for range 4 {
		a.UsedAgo(a.AddKey("grace", day), time.Hour, "s3", "")
		a.Advance(time.Second)
	}
	a.AddUser("heidi")
	a.UsedAgo(a.AddKey("heidi", 80*day), day, "s3", "") // aging
	a.SetStatus("heidi", a.AddKey("heidi", 10*day), iamkeys.Expired)
	a.Advance(time.Minute)
	return a
}

var companyFindings = []string{
	"exposed frank",
	"unused carol AKIAIAMKEYSTEST00003 Active, 60 days old, never used",
	"unused dave,d AKIAIAMKEYSTEST00005 Active, 55 days old, never used",
	"extra-keys grace",
	"overdue Bob AKIAIAMKEYSTEST00002 Active, 100 days old, last used 2026-11-21T09:00:00Z ec2 eu-west-1",
	"lingering carol AKIAIAMKEYSTEST00004 Inactive, 200 days old, never used",
	"aging heidi AKIAIAMKEYSTEST00012 Active, 80 days old, last used 2026-11-22T09:00:04Z s3",
	"two-active dave,d",
}

// TestInventory: the credential report and the live walk come to the same, and
// the credential report with far fewer calls.
func TestInventory(t *testing.T) {
	for _, source := range []audit.Source{audit.FromCredentialReport, audit.FromLive} {
		a := company()
		p := a.Start()
		r, inv := examined(t, p, source)
		if got := whats(r.Findings); !slices.Equal(got, companyFindings) {
			t.Errorf("%s: got\n%s\nwant\n%s", source, strings.Join(got, "\n"), strings.Join(companyFindings, "\n"))
		}
		if got, want := whats(r.Exempt), []string{"overdue erin AKIAIAMKEYSTEST00007 Active, 300 days old, last used 2026-11-22T09:00:00Z sqs eu-west-1"}; !slices.Equal(got, want) {
			t.Errorf("%s: exempt %q, want %q", source, got, want)
		}
		if want := (audit.Coverage{Users: 8, UsersExamined: 8, Keys: 13, KeysExamined: 13, Complete: true}); r.Summary.Coverage != want {
			t.Errorf("%s: coverage %+v, want %+v", source, r.Summary.Coverage, want)
		}
		if inv.Source != source || !inv.GeneratedTime.Equal(a.Now().Truncate(time.Second)) || len(inv.Notes) > 0 {
			t.Errorf("%s: source %s of %s, notes %q", source, inv.Source, inv.GeneratedTime, inv.Notes)
		}
		count := map[string]int{}
		for _, c := range p.Calls {
			count[c]++
		}
		want := map[string]int{"iam:GetAccountAuthorizationDetails": 1, "iam:GenerateCredentialReport": 1, "iam:GetCredentialReport": 1,
			"iam:ListAccessKeys": 7, "iam:GetAccessKeyLastUsed": 4} // all but alice; of dave's two keys of the same second, and grace's two beyond the second
		if source == audit.FromLive {
			want = map[string]int{"iam:GetAccountAuthorizationDetails": 1, "iam:GetAccountSummary": 1, "iam:ListAccessKeys": 8, "iam:GetAccessKeyLastUsed": 13}
		}
		if !maps.Equal(count, want) {
			t.Errorf("%s: calls %v, want %v", source, count, want)
		}
	}
}

// TestInventoryOddities: however the credential report looks, the findings are
// those of the live walk, key IDs included.
func TestInventoryOddities(t *testing.T) {
	lines := func(change func(lines []string) []string) func([]byte) []byte {
		return func(content []byte) []byte {
			return []byte(strings.Join(change(strings.Split(string(content), "\n")), "\n"))
		}
	}
	garbage := strings.Repeat("?,", 22) + "?"
	for name, odd := range map[string]iamkeystest.CredentialReport{
		"no root row":   {NoRoot: true},
		"other zone":    {Offset: true},
		"upper case":    {Upper: true},
		"reversed":      {Columns: slices.Reverse[[]string]},
		"column gone":   {Columns: func(names []string) { names[slices.Index(names, "access_key_2_last_used_date")] = "" }},
		"other columns": {Columns: func(names []string) { names[slices.Index(names, "password_enabled")] = "" }},
		"empty":         {Spoil: func([]byte) []byte { return []byte{} }},
		"header only":   {Spoil: func(content []byte) []byte { return content[:bytes.IndexByte(content, '\n')] }},
		"half":          {Spoil: func(content []byte) []byte { return content[:len(content)/2] }},
		"garbage":       {Spoil: lines(func(lines []string) []string { return slices.Insert(lines, 3, garbage, "", "\x00") })},
		"garbled rows":  {Spoil: lines(func(lines []string) []string { lines[3], lines[4] = garbage, lines[4][:40]; return lines })},
		"doubled rows":  {Spoil: lines(func(lines []string) []string { return append(lines, lines[2:]...) })},
		"no keys said":  {Spoil: func(c []byte) []byte { return bytes.ReplaceAll(c, []byte("N/A"), nil) }},
		"keys only counted": {Spoil: lines(func(lines []string) []string { // beside slots that are empty
			header := strings.Split(lines[0], ",")
			for i, line := range lines {
				if !strings.HasPrefix(line, "grace,") {
					continue
				}
				cells := strings.Split(line, ",")
				for _, slot := range []string{"access_key_1_active", "access_key_2_active"} {
					copy(cells[slices.Index(header, slot):], []string{"false", "N/A", "N/A", "N/A", "N/A"})
				}
				cells[slices.Index(header, "additional_credentials_info")] = "1"
				lines[i] = strings.Join(cells, ",")
			}
			return lines
		})},
	} {
		t.Run(name, func(t *testing.T) {
			a := company()
			a.CredentialReport = odd
			r, inv := examined(t, a.Start(), audit.FromCredentialReport)
			if got := whats(r.Findings); !slices.Equal(got, companyFindings) || !r.Summary.Coverage.Complete || r.Summary.Coverage.Keys != 13 {
				t.Errorf("got\n%s\nwant\n%s\ncoverage %+v", strings.Join(got, "\n"), strings.Join(companyFindings, "\n"), r.Summary.Coverage)
			}
			unusable := name == "empty" || name == "column gone"
			if (inv.Source == audit.FromLive) != unusable || (len(inv.Notes) == 1) != unusable {
				t.Errorf("source %s, notes %q", inv.Source, inv.Notes)
			}
		})
	}
}

// TestInventoryRoot: the root user's key is found with its row and without.
func TestInventoryRoot(t *testing.T) {
	for _, source := range []audit.Source{audit.FromCredentialReport, audit.FromLive} {
		for _, noRow := range []bool{false, true} {
			a := company()
			a.AddRootKey(3 * day)
			a.CredentialReport.NoRoot = noRow
			r, _ := examined(t, a.Start(), source)
			f := r.Findings[0]
			if f.Rule != audit.RootKey || f.UserName != "<root_account>" || f.UserARN != "arn:aws:iam::123456789012:root" || f.AccessKeyID != nil || f.CreateDate != nil {
				t.Errorf("%s, no row %v: got %+v", source, noRow, f)
			}
			if r.Summary.Coverage.Users != 8 || r.Summary.Coverage.Keys != 13 {
				t.Errorf("the root user is counted: %+v", r.Summary.Coverage)
			}
		}
	}
}

// TestInventoryRootUnexamined: whether root has a key is unknown, and said so.
func TestInventoryRootUnexamined(t *testing.T) {
	a := company()
	p := a.Start()
	p.Fault = refuse("iam:GetAccountSummary")
	r, _ := examined(t, p, audit.FromLive)
	c := r.Summary.Coverage
	if c.Complete || c.UsersExamined != 8 || c.KeysExamined != 13 || !slices.Contains(whats(r.Findings), "unexamined <root_account>") {
		t.Errorf("coverage %+v, findings %q", c, whats(r.Findings))
	}
}

// refuse makes every call of the action fail.
func refuse(actions ...string) func(int, string) iamkeystest.Fault {
	return func(_ int, action string) iamkeystest.Fault {
		if slices.Contains(actions, action) {
			return iamkeystest.Refused
		}
		return iamkeystest.None
	}
}

// TestInventoryChanged: what has changed since the credential report was made is
// judged by the live answer, for users that the report makes one look at and for
// those that it does not know.
func TestInventoryChanged(t *testing.T) {
	for name, test := range map[string]struct {
		change func(a *iamkeystest.Account)
		want   func(lines []string) []string
	}{
		"user made since": {
			func(a *iamkeystest.Account) { a.AddUser("anna"); a.AddKey("anna", 99*day) },
			func(l []string) []string {
				return slices.Insert(slices.Insert(l, 5, "overdue anna KEY Active, 99 days old, never used"), 1, "unused anna KEY Active, 99 days old, never used")
			},
		},
		"user deleted since": {
			func(a *iamkeystest.Account) { a.RemoveUser("Bob") },
			func(l []string) []string { return slices.Delete(l, 4, 5) },
		},
		"user made again since": {
			func(a *iamkeystest.Account) {
				a.RemoveUser("Bob")
				a.Advance(time.Second)
				a.AddUser("Bob")
				a.Move("Bob", "/ci/")
				a.UsedAgo(a.AddKey("Bob", 100*day), day, "kms", "")
			},
			func(l []string) []string {
				l[4] = "overdue Bob KEY Active, 100 days old, last used 2026-11-22T09:01:06Z kms"
				return l
			},
		},
		"user in order made again since": {
			func(a *iamkeystest.Account) {
				a.RemoveUser("alice")
				a.AddUser("alice")
				a.UsedAgo(a.AddKey("alice", 80*day), day, "kms", "")
			},
			func(l []string) []string {
				return slices.Insert(l, 7, "aging alice KEY Active, 80 days old, last used 2026-11-22T09:01:05Z kms")
			},
		},
		"user moved since": {
			func(a *iamkeystest.Account) { a.Move("Bob", "/partners/") },
			func(l []string) []string { return l },
		},
		"key deleted since": {
			func(a *iamkeystest.Account) { a.DeleteKey("Bob", "AKIAIAMKEYSTEST00002") },
			func(l []string) []string { return slices.Delete(l, 4, 5) },
		},
		"key replaced since": {
			func(a *iamkeystest.Account) { a.DeleteKey("Bob", "AKIAIAMKEYSTEST00002"); a.AddKey("Bob", 0) },
			func(l []string) []string { return slices.Delete(l, 4, 5) },
		},
		"key off since": {
			func(a *iamkeystest.Account) { a.SetStatus("Bob", "AKIAIAMKEYSTEST00002", iamkeys.Inactive) },
			func(l []string) []string {
				return slices.Insert(slices.Delete(l, 4, 5), 5, "lingering Bob AKIAIAMKEYSTEST00002 Inactive, 100 days old, last used 2026-11-21T09:00:00Z ec2 eu-west-1")
			},
		},
		"key on since": {
			func(a *iamkeystest.Account) { a.SetStatus("carol", "AKIAIAMKEYSTEST00004", iamkeys.Active) },
			func(l []string) []string {
				l = slices.Insert(slices.Delete(l, 5, 6), 6, "two-active carol")
				l = slices.Insert(l, 4, "overdue carol AKIAIAMKEYSTEST00004 Active, 200 days old, never used")
				return slices.Insert(l, 1, "unused carol AKIAIAMKEYSTEST00004 Active, 200 days old, never used")
			},
		},
		"key expired since": {
			func(a *iamkeystest.Account) { a.SetStatus("carol", "AKIAIAMKEYSTEST00004", iamkeys.Expired) },
			func(l []string) []string {
				l[5] = "lingering carol AKIAIAMKEYSTEST00004 Expired, 200 days old, never used"
				return l
			},
		},
		"last key of an exposed user deleted since": {
			func(a *iamkeystest.Account) { a.RemoveUser("frank") },
			func(l []string) []string { return slices.Delete(l, 0, 1) },
		},
		"extra keys gone since": {
			func(a *iamkeystest.Account) {
				for _, k := range a.Keys("grace")[:3] {
					a.DeleteKey("grace", k.AccessKeyID)
				}
			},
			func(l []string) []string { return slices.Delete(l, 3, 4) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := company()
			if _, err := a.Start().GenerateCredentialReport(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.Advance(time.Second)
			test.change(a)
			r, _ := examined(t, a.Start(), audit.FromCredentialReport)
			got, want := whats(r.Findings), test.want(slices.Clone(companyFindings))
			for i := range got {
				for _, fresh := range []string{"alice", "anna", "Bob", "carol"} {
					for _, k := range a.Keys(fresh) {
						if !slices.ContainsFunc(companyFindings, func(s string) bool { return strings.Contains(s, k.AccessKeyID) }) {
							got[i] = strings.ReplaceAll(got[i], k.AccessKeyID, "KEY")
						}
					}
				}
			}
			if !slices.Equal(got, want) || !r.Summary.Coverage.Complete {
				t.Errorf("coverage %+v; got\n%s\nwant\n%s", r.Summary.Coverage, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestInventoryAmbiguous: of two keys made in the same second, each gets its own
// last use, in whatever order they stand.
func TestInventoryAmbiguous(t *testing.T) {
	for _, used := range []int{0, 1} {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		ids := []string{a.AddKey(user, 55*day), a.AddKey(user, 55*day)}
		a.UsedAgo(ids[used], day, "s3", "")
		p := a.Start()
		r, _ := examined(t, p, audit.FromCredentialReport)
		if got, want := whats(r.Findings)[0], "unused "+user+" "+ids[1-used]+" Active, 55 days old, never used"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		// Where the live read of last use fails, neither of them passes for unused.
		p = a.Start()
		p.Fault = refuse("iam:GetAccessKeyLastUsed")
		r, _ = examined(t, p, audit.FromCredentialReport)
		if got, want := whats(r.Findings), []string{"unexamined " + user, "two-active " + user}; !slices.Equal(got, want) || r.Summary.Coverage.Complete {
			t.Errorf("got %q, want %q; coverage %+v", got, want, r.Summary.Coverage)
		}
	}
}

// TestInventoryAmbiguousBeyond: the credential report tells of two keys only; a
// third one of the same second as one of them does not get that one's last use.
func TestInventoryAmbiguousBeyond(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	a.UsedAgo(a.AddKey(user, 60*day), day, "s3", "")
	id := a.AddKey(user, 50*day)
	a.UsedAgo(a.AddKey(user, 50*day), day, "s3", "")
	p := a.Start()
	r, _ := examined(t, p, audit.FromCredentialReport)
	if got, want := whats(r.Findings), []string{"unused " + user + " " + id + " Active, 50 days old, never used", "extra-keys " + user}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := p.Count("iam:GetAccessKeyLastUsed"); n != 2 {
		t.Errorf("%d keys' last use was read, want 2", n)
	}
}

// TestInventoryUnexamined: where the live read fails, findings stand without key
// ID, and the user counts as not examined.
func TestInventoryUnexamined(t *testing.T) {
	a := company()
	p := a.Start()
	p.Fault = refuse("iam:ListAccessKeys")
	r, _ := examined(t, p, audit.FromCredentialReport)
	var want []string
	for _, line := range companyFindings {
		rule, who, _ := strings.Cut(line, " ")
		who, key, _ := strings.Cut(who, " AKIA")
		_, said, _ := strings.Cut(key, " ")
		if want = append(want, rule+" "+who); said != "" {
			want[len(want)-1] += " " + said
		}
	}
	for _, who := range []string{"Bob", "carol", "dave,d", "erin", "frank", "grace", "heidi"} {
		want = append(want, "unexamined "+who)
	}
	got := whats(r.Findings)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if want := (audit.Coverage{Users: 8, UsersExamined: 1, Keys: 13, KeysExamined: 1}); r.Summary.Coverage != want {
		t.Errorf("coverage %+v, want %+v", r.Summary.Coverage, want)
	}
	for _, f := range r.Findings {
		if f.Rule == audit.Unexamined && !strings.Contains(f.Remedy, "Reason: AccessDenied.") {
			t.Errorf("the reason is missing: %s", f.Remedy)
		}
	}
}

// TestInventoryLastUseUnknown: a key whose last use cannot be read is not
// unused, whatever its age, and its user not examined.
func TestInventoryLastUseUnknown(t *testing.T) {
	for _, fault := range []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Unanswered, iamkeystest.Lost} {
		a := company()
		p := a.Start()
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			if action == "iam:GetAccessKeyLastUsed" {
				return fault
			}
			return iamkeystest.None
		}
		r, _ := examined(t, p, audit.FromLive)
		for _, f := range r.Findings {
			if f.Rule == audit.Unused || f.NeverUsed != nil || f.IdleDays != nil {
				t.Errorf("%s: %s", fault, what(f))
			}
		}
		if c := r.Summary.Coverage; c.Complete || c.KeysExamined != 0 || c.UsersExamined != 1 || r.Summary.Rules[audit.Unexamined] != 7 { // frank has no key
			t.Errorf("%s: coverage %+v, %d unexamined", fault, c, r.Summary.Rules[audit.Unexamined])
		}
	}
}

// TestInventoryKeyGoneBetween: a key that is deleted after it was listed is left
// out; its user is examined.
func TestInventoryKeyGoneBetween(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	id := a.AddKey(user, 100*day)
	p := a.Start()
	p.Before = func(_ int, action string) {
		if action == "iam:GetAccessKeyLastUsed" {
			a.DeleteKey(user, id)
		}
	}
	r, _ := examined(t, p, audit.FromLive)
	if len(r.Findings) > 0 || !r.Summary.Coverage.Complete || r.Summary.Coverage.Keys != 0 {
		t.Errorf("got %q, %+v", whats(r.Findings), r.Summary.Coverage)
	}
}

// TestInventoryUserGoneBetween: so is a user that is deleted after all were listed.
func TestInventoryUserGoneBetween(t *testing.T) {
	for _, source := range []audit.Source{audit.FromCredentialReport, audit.FromLive} {
		a := company()
		p := a.Start()
		var once sync.Once
		p.Before = func(_ int, action string) {
			if action == "iam:ListAccessKeys" {
				once.Do(func() { a.RemoveUser("Bob"); a.RemoveUser("frank") })
			}
		}
		r, inv := examined(t, p, source)
		got := whats(r.Findings)
		if len(inv.Users) != 6 || r.Summary.Coverage.Users != 6 || !r.Summary.Coverage.Complete || len(got) != len(companyFindings)-2 {
			t.Errorf("%s: coverage %+v, findings %q", source, r.Summary.Coverage, got)
		}
	}
}

// TestInventoryUnknownStatus: what a status means that nobody knows is unknown.
func TestInventoryUnknownStatus(t *testing.T) {
	a := company()
	a.SetStatus("carol", "AKIAIAMKEYSTEST00003", "Sleeping")
	r, _ := examined(t, a.Start(), audit.FromLive)
	if c := r.Summary.Coverage; c.Complete || c.UsersExamined != 7 || c.KeysExamined != 12 || !slices.Contains(whats(r.Findings), "unexamined carol") {
		t.Errorf("coverage %+v, findings %q", c, whats(r.Findings))
	}
}

// TestCredentialReportComes polls for the credential report, in every way that it
// may come or not come.
func TestCredentialReportComes(t *testing.T) {
	const generate, get = "iam:GenerateCredentialReport", "iam:GetCredentialReport"
	for name, test := range map[string]struct {
		prepare          func(a *iamkeystest.Account)
		fault            func(int, string) iamkeystest.Fault
		source           audit.Source
		generates, gets  int
		waited           time.Duration
		note             string // in the only note, "" for none
		generatedSeconds int    // since the audit began
	}{
		"at once":           {source: audit.FromCredentialReport, generates: 1, gets: 1},
		"after two seconds": {prepare: func(a *iamkeystest.Account) { a.CredentialReport.Takes = 2 * time.Second }, source: audit.FromCredentialReport, generates: 3, gets: 1, waited: 3 * time.Second},
		"after a minute":    {prepare: func(a *iamkeystest.Account) { a.CredentialReport.Takes = time.Minute }, source: audit.FromCredentialReport, generates: 1 + 2 + 15, gets: 1, waited: (1 + 2 + 15*4) * time.Second},
		"after five minutes, to the second": {prepare: func(a *iamkeystest.Account) { a.CredentialReport.Takes = 299 * time.Second },
			source: audit.FromCredentialReport, generates: 1 + 2 + 74, gets: 1, waited: 299 * time.Second},
		"never": {prepare: func(a *iamkeystest.Account) { a.CredentialReport.Takes = 24 * time.Hour },
			source: audit.FromLive, generates: 78, waited: 300 * time.Second, note: "InProgress", generatedSeconds: 300},
		"one is there": {prepare: func(a *iamkeystest.Account) { generateAgo(a, 3*time.Hour) },
			source: audit.FromCredentialReport, generates: 1, gets: 1, generatedSeconds: -3 * 60 * 60},
		"an expired one is there": {prepare: func(a *iamkeystest.Account) { generateAgo(a, 5*time.Hour) },
			source: audit.FromCredentialReport, generates: 1, gets: 1},
		"one of four hours": {prepare: func(a *iamkeystest.Account) { a.CredentialReport.Older = 4 * time.Hour },
			source: audit.FromCredentialReport, generates: 1, gets: 1, generatedSeconds: -4 * 60 * 60},
		"an old one": {prepare: func(a *iamkeystest.Account) { a.CredentialReport.Older = 4*time.Hour + time.Second },
			source: audit.FromCredentialReport, generates: 1, gets: 1, generatedSeconds: -4*60*60 - 1, note: "2026-11-23T05:01:03Z, more than four hours old"},
		"no capacity": {prepare: func(a *iamkeystest.Account) { a.CredentialReport.NoCapacity = true },
			source: audit.FromLive, generates: 8, waited: (10 + 20 + 40 + 60 + 60 + 60 + 50) * time.Second, note: "LimitExceeded", generatedSeconds: 300},
		"no permission to generate": {fault: refuse(generate), source: audit.FromLive, generates: 1, note: "AccessDenied"},
		"no permission to get":      {fault: refuse(get), source: audit.FromLive, generates: 1, gets: 1, note: "AccessDenied"},
		"no answer": {fault: func(n int, action string) iamkeystest.Fault {
			if action == generate {
				return iamkeystest.Lost
			}
			return iamkeystest.None
		}, source: audit.FromLive, generates: 1, note: "Internal"},
	} {
		t.Run(name, func(t *testing.T) {
			a := company()
			if test.prepare != nil {
				test.prepare(a)
			}
			began := a.Now()
			p := a.Start()
			p.Fault = test.fault
			r, inv := examined(t, p, audit.FromCredentialReport)
			if inv.Source != test.source || p.Count(generate) != test.generates || p.Count(get) != test.gets {
				t.Errorf("source %s after %d and %d calls, want %s after %d and %d", inv.Source, p.Count(generate), p.Count(get), test.source, test.generates, test.gets)
			}
			if waited := a.Now().Sub(began); waited != test.waited {
				t.Errorf("waited %s, want %s", waited, test.waited)
			}
			if got := int(inv.GeneratedTime.Sub(began).Seconds()); got != test.generatedSeconds {
				t.Errorf("the facts are of %d s, want %d s", got, test.generatedSeconds)
			}
			if notes := strings.Join(inv.Notes, "|"); !strings.Contains(notes, test.note) || (test.note == "") != (notes == "") || len(inv.Notes) > 1 {
				t.Errorf("notes %q, want one with %q", inv.Notes, test.note)
			}
			if got := whats(r.Findings); len(got) != len(companyFindings) || !r.Summary.Coverage.Complete {
				t.Errorf("coverage %+v, findings %q", r.Summary.Coverage, got)
			}
		})
	}
}

// generateAgo has the credential report generated before, with the account as it
// is now: the clock moves on.
func generateAgo(a *iamkeystest.Account, ago time.Duration) {
	_, _ = a.Start().GenerateCredentialReport(context.Background())
	a.Advance(ago)
}

// TestInventoryThrottled: throttled once, IAM is asked again after a longer
// while; a live walk would only make it worse.
func TestInventoryThrottled(t *testing.T) {
	a := company()
	began := a.Now()
	p := a.Start()
	_, inv := examined(t, p, audit.FromCredentialReport)
	if inv.Source != audit.FromCredentialReport {
		t.Fatal("no credential report")
	}
	throttled := 2
	o := takeInventory(a.Start())
	o.IAM = throttling{o.IAM, &throttled}
	inv, err := o.Run(t.Context(), audit.FromCredentialReport, func(audit.UserFacts) bool { return false })
	if waited := a.Now().Sub(began); err != nil || inv.Source != audit.FromCredentialReport || waited != 30*time.Second {
		t.Errorf("source %s, waited %s, %v; want the credential report after 30s", inv.Source, waited, err)
	}
}

// throttling is an IAM that throttles requests for a credential report.
type throttling struct {
	audit.InventoryIAM
	times *int
}

func (t throttling) GenerateCredentialReport(ctx context.Context) (bool, error) {
	if *t.times--; *t.times >= 0 {
		return false, &iamkeys.Error{Code: iamkeys.Throttled, Message: "Rate exceeded."}
	}
	return t.InventoryIAM.GenerateCredentialReport(ctx)
}

// TestInventoryUnavailable: without the list of users nothing is known.
func TestInventoryUnavailable(t *testing.T) {
	for _, fault := range []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Unanswered, iamkeystest.Lost} {
		for _, source := range []audit.Source{audit.FromCredentialReport, audit.FromLive} {
			p := company().Start()
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action == "iam:GetAccountAuthorizationDetails" {
					return fault
				}
				return iamkeystest.None
			}
			_, err := takeInventory(p).Run(t.Context(), source, func(audit.UserFacts) bool { return true })
			if iamkeys.CodeOf(err) != iamkeys.InventoryUnavailable {
				t.Errorf("%s, %s: %v", source, fault, err)
			}
		}
	}
}

// TestInventoryTimeRunsOut: each call takes a second, and there is time for some
// of them only. What could not be read is unexamined, and nothing else waits for it.
func TestInventoryTimeRunsOut(t *testing.T) {
	for _, source := range []audit.Source{audit.FromCredentialReport, audit.FromLive} {
		examined, some := 0, false
		for limit := 1; limit <= 24; limit++ {
			synctest.Test(t, func(t *testing.T) {
				a := iamkeystest.NewAccount()
				for i := range 20 {
					name := fmt.Sprintf("user-%02d", i)
					a.AddUser(name)
					a.AddKey(name, 100*day)
				}
				time.Sleep(time.Until(a.Now())) // so that both clocks agree
				p := a.Start()
				p.Before = func(int, string) { time.Sleep(time.Second) }
				o := takeInventory(p)
				o.Now, o.Sleep = time.Now, func(ctx context.Context, d time.Duration) error { time.Sleep(d); return ctx.Err() }
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(limit)*time.Second+time.Millisecond)
				defer cancel()
				inv, err := o.Run(ctx, source, func(audit.UserFacts) bool { return true })
				if took := time.Since(began); took > time.Duration(limit+20)*time.Second {
					t.Errorf("%s, %ds: took %s", source, limit, took)
				}
				if err != nil {
					if iamkeys.CodeOf(err) != iamkeys.InventoryUnavailable || limit > 5 {
						t.Errorf("%s, %ds: %v", source, limit, err)
					}
					return
				}
				c := audit.Judge(inv, thresholds, "owner", a.Now()).Summary.Coverage
				if c.Complete != (c.UsersExamined == 20) || c.Users != 20 {
					t.Errorf("%s, %ds: coverage %+v", source, limit, c)
				}
				if c.UsersExamined < examined {
					t.Errorf("%s: %d users in %d s, and %d in less", source, c.UsersExamined, limit, examined)
				}
				examined = c.UsersExamined
				if some = some || examined > 0 && examined < 20; limit == 24 && !(c.Complete && some) {
					t.Errorf("%s: complete %v, and in less time some users: %v", source, c.Complete, some)
				}
				for _, u := range inv.Users {
					if u.Unexamined != "" && u.Unexamined != "time ran out" {
						t.Errorf("%s, %ds: %s unexamined: %s", source, limit, u.UserName, u.Unexamined)
					}
				}
			})
		}
	}
}

// TestCredentialReportLeavesTime: waiting for the credential report ends when
// half of the time for the inventory is over, so that there is time for the live
// walk, and for the report after that.
func TestCredentialReportLeavesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := company()
		a.CredentialReport.Takes = time.Hour
		time.Sleep(time.Until(a.Now()))
		p := a.Start()
		o := takeInventory(p)
		o.Now, o.Sleep = time.Now, func(ctx context.Context, d time.Duration) error { time.Sleep(d); return ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		began := time.Now()
		inv, err := o.Run(ctx, audit.FromCredentialReport, func(audit.UserFacts) bool { return false })
		if waited := time.Since(began); err != nil || inv.Source != audit.FromLive || waited > 31*time.Second || waited < 29*time.Second {
			t.Errorf("source %s after %s: %v", inv.Source, waited, err)
		}
		if c := audit.Judge(inv, thresholds, "owner", a.Now()).Summary.Coverage; !c.Complete {
			t.Errorf("coverage %+v", c)
		}
	})
}

// TestCredentialReportHangs: a call that gets no answer does not hold the audit up
// for longer than ReportWait.
func TestCredentialReportHangs(t *testing.T) {
	for _, action := range []string{"iam:GenerateCredentialReport", "iam:GetCredentialReport"} {
		synctest.Test(t, func(t *testing.T) {
			a := company()
			time.Sleep(time.Until(a.Now()))
			o := takeInventory(a.Start())
			o.IAM, o.ReportWait, o.Now = hanging{o.IAM, action}, 10*time.Second, time.Now
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			began := time.Now()
			inv, err := o.Run(ctx, audit.FromCredentialReport, func(audit.UserFacts) bool { return false })
			if took := time.Since(began); err != nil || inv.Source != audit.FromLive || took != 10*time.Second {
				t.Errorf("%s: source %s after %s: %v", action, inv.Source, took, err)
			}
			if c := audit.Judge(inv, thresholds, "owner", a.Now()).Summary.Coverage; !c.Complete || len(inv.Notes) != 1 || !strings.Contains(inv.Notes[0], "time ran out") {
				t.Errorf("%s: coverage %+v, notes %q", action, c, inv.Notes)
			}
		})
	}
}

// hanging is an IAM that gives no answer to an action.
type hanging struct {
	audit.InventoryIAM
	action string
}

func (h hanging) GenerateCredentialReport(ctx context.Context) (bool, error) {
	if h.action == "iam:GenerateCredentialReport" {
		<-ctx.Done()
		return false, &iamkeys.Error{Code: iamkeys.Internal, Err: ctx.Err(), OutcomeUnknown: true}
	}
	return h.InventoryIAM.GenerateCredentialReport(ctx)
}

func (h hanging) GetCredentialReport(ctx context.Context) ([]byte, time.Time, error) {
	if h.action == "iam:GetCredentialReport" {
		<-ctx.Done()
		return nil, time.Time{}, &iamkeys.Error{Code: iamkeys.Internal, Err: ctx.Err(), OutcomeUnknown: true}
	}
	return h.InventoryIAM.GetCredentialReport(ctx)
}

// anyAccount draws an account of up to six users with up to three keys each.
func anyAccount(rt *rapid.T) *iamkeystest.Account {
	a := iamkeystest.NewAccount()
	for i := range rapid.IntRange(0, 6).Draw(rt, "users") {
		name := fmt.Sprintf("%s%d", rapid.SampledFrom([]string{"a", "B", "c,", "d-"}).Draw(rt, "name"), i)
		a.AddUser(name)
		if rapid.Bool().Draw(rt, "moved") {
			a.Move(name, "/ci/"+rapid.SampledFrom([]string{"", "x,y/"}).Draw(rt, "path"))
		}
		for range rapid.SampledFrom([]int{0, 1, 1, 2, 2, 2, 3}).Draw(rt, "keys") {
			id := a.AddKey(name, time.Duration(rapid.SampledFrom([]int{1, 46, 50, 76, 91, 120}).Draw(rt, "age"))*day)
			if rapid.Bool().Draw(rt, "used") {
				a.UsedAgo(id, time.Duration(rapid.SampledFrom([]int{1, 44, 46, 100}).Draw(rt, "idle"))*day, "s3", "")
			}
			a.SetStatus(name, id, rapid.SampledFrom([]iamkeys.Status{iamkeys.Active, iamkeys.Active, iamkeys.Inactive}).Draw(rt, "status"))
		}
	}
	if rapid.Bool().Draw(rt, "root key") {
		a.AddRootKey(day)
	}
	return a
}

// TestInventoriesAgree: on any account, with a credential report that lost,
// doubled or garbled any of its lines or broke off, the findings are those of the
// live walk, and nobody is healthier.
func TestInventoriesAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := anyAccount(rt)
		want, _ := examined(rt, a.Start(), audit.FromLive)
		a.CredentialReport = iamkeystest.CredentialReport{
			NoRoot: rapid.Bool().Draw(rt, "no root row"), Offset: rapid.Bool().Draw(rt, "offset"), Upper: rapid.Bool().Draw(rt, "upper"),
			Columns: func(names []string) {
				copy(names, rapid.Permutation(slices.Clone(names)).Draw(rt, "columns"))
			},
			Spoil: func(content []byte) []byte {
				lines := strings.Split(string(content), "\n")
				for range rapid.IntRange(0, 3).Draw(rt, "troubles") {
					if len(lines) == 1 {
						break
					}
					i := rapid.IntRange(1, len(lines)-1).Draw(rt, "line")
					switch rapid.SampledFrom([]string{"lost", "doubled", "garbage", "cell emptied", "cut"}).Draw(rt, "trouble") {
					case "lost":
						lines = slices.Delete(lines, i, i+1)
					case "doubled":
						lines = slices.Insert(lines, i, lines[i])
					case "garbage":
						lines = slices.Insert(lines, i, rapid.StringN(0, 80, -1).Draw(rt, "garbage"))
					case "cut":
						lines[i] = lines[i][:rapid.IntRange(0, len(lines[i])).Draw(rt, "length")]
					case "cell emptied":
						cells := strings.Split(lines[i], ",")
						cell := rapid.IntRange(0, len(cells)-1).Draw(rt, "cell")
						if more := slices.Index(strings.Split(lines[0], ","), "additional_credentials_info"); more >= 0 && strings.Contains(lines[i], "\"") || cell == more {
							break // there, empty says that there are no more keys
						}
						cells[cell] = ""
						lines[i] = strings.Join(cells, ",")
					}
				}
				content = []byte(strings.Join(lines, "\n"))
				return content[:rapid.IntRange(0, len(content)).Draw(rt, "arrived")]
			},
		}
		got, _ := examined(rt, a.Start(), audit.FromCredentialReport)
		decisive := func(r audit.Report) []string { // service and Region decide nothing
			for i := range r.Findings {
				r.Findings[i].ServiceName, r.Findings[i].Region = nil, nil
			}
			return whats(r.Findings)
		}
		if g, w := decisive(got), decisive(want); !slices.Equal(g, w) || !got.Summary.Coverage.Complete {
			rt.Errorf("coverage %+v, got\n%s\nwant\n%s", got.Summary.Coverage, strings.Join(g, "\n"), strings.Join(w, "\n"))
		}
	})
}
