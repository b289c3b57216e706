package notice_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/pkg/iamkeys/notice"
)

const bucket = "iamkeys-reports"

func digester(p *iamkeystest.Process) notice.Digest {
	return notice.Digest{Send: sender(p, map[string]int{}), S3: p, Bucket: bucket, OwnerTag: "owner", Now: p.Now, Log: quiet}
}

// finding is one of a key that is so many days old, of a user whose owner tag is that.
func finding(rule audit.RuleID, name, owner string, days int) audit.Finding {
	r, _ := audit.RuleOf(rule)
	f := audit.Finding{Rule: rule, Severity: r.Severity, Account: "123456789012", UserName: name, UserARN: "arn:aws:iam::123456789012:user/" + name, Owner: iamkeys.Optional(owner), State: audit.Open, Remedy: r.Remedy}
	if !r.OfUsers() {
		created := iamkeystest.Epoch.AddDate(0, 0, -days)
		f.AccessKeyID, f.CreateDate, f.Status, f.AgeDays = new(fmt.Sprintf("AKIA%016X", len(name)*1000+days)), &created, new(iamkeys.Active), &days
	}
	return f
}

// store makes a report the latest one of its account, and gives where the run's is.
func store(a *iamkeystest.Account, run string, findings ...audit.Finding) notice.DigestInput {
	at := "reports/123456789012/2026/11/23/" + run
	storeReport(a, at+".json", "123456789012", run, findings...)
	storeReport(a, "reports/123456789012/latest.json", "123456789012", run, findings...)
	return notice.DigestInput{Report: &audit.ReportLocation{Bucket: bucket, Prefix: at}}
}

func storeReport(a *iamkeystest.Account, key, account, run string, findings ...audit.Finding) {
	var r audit.Report
	r.Summary.SchemaVersion, r.Summary.RunID, r.Summary.Account, r.Summary.AsOf = audit.SchemaVersion, run, account, a.Now()
	r.Summary.Thresholds = audit.Thresholds{UnusedDays: 45, MaxAgeDays: 90, WarnAgeDays: 75, LingerDays: 90, MaxWaitDays: 45}
	r.Findings, r.Exempt, r.Resolved = []audit.Finding{}, []audit.Finding{}, []audit.Finding{}
	for _, f := range findings {
		switch f.State {
		case audit.Exempt:
			r.Exempt = append(r.Exempt, f)
		case audit.Resolved:
			r.Resolved = append(r.Resolved, f)
		default:
			r.Findings = append(r.Findings, f)
		}
	}
	content, _ := json.Marshal(r)
	a.SetObject(key, content)
}

// run sends the digests, and gives what they came to and how many were mailed and published by that.
func run(t *testing.T, a *iamkeystest.Account, in notice.DigestInput) string {
	t.Helper()
	mails, messages := len(a.Mails()), len(a.Messages())
	out, err := digester(a.Start()).Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sent %d, unowned %d, failed %d; %d mails, %d messages", out.Sent, out.Unowned, out.Failed, len(a.Mails())-mails, len(a.Messages())-messages)
}

func TestDigest(t *testing.T) {
	a := iamkeystest.NewAccount()
	const one, two = "one@example.com", "Two@Example.com"
	exempt := finding(audit.Overdue, "quarterly", one, 200)
	exempt.State, exempt.Exemption = audit.Exempt, &iamkeys.Exemption{Until: "2026-11-30", Reason: "moves to a role"}
	first := []audit.Finding{
		finding(audit.RootKey, audit.RootName, "", 0), finding(audit.Unused, "alice", one, 300), finding(audit.Aging, "alice", one, 80), finding(audit.Aging, "bob", one, 76),
		finding(audit.Overdue, "carol", two, 120), finding(audit.Lingering, "dave", "team-ci", 100), finding(audit.Unused, "dave", "team-ci", 90), finding(audit.Exposed, "eve", "", 0), exempt,
	}
	first[1].Power, first[1].NeverUsed = iamkeys.Admin, new(true)
	in := store(a, "run-1", first...)
	steps := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	steps("the first run", run(t, a, in), "sent 2, unowned 2, failed 0; 2 mails, 1 messages")
	mails := a.Mails()
	slices.SortFunc(mails, func(a, b iamkeystest.SentMail) int { return strings.Compare(a.To, b.To) })
	if mails[0].To != "one@example.com" || mails[1].To != "two@example.com" || strings.Contains(mails[0].Text, "carol") || strings.Contains(mails[1].Text, "alice") {
		t.Errorf("got %+v", mails)
	}
	golden(t, "digest-owner.txt", "To: "+mails[0].To+"\nSubject: "+mails[0].Subject+"\n\n"+mails[0].Text)
	golden(t, "digest-team.txt", written(a.Messages()[0]))

	steps("the same event again", run(t, a, in), "sent 0, unowned 2, failed 0; 0 mails, 0 messages")
	steps("another run, nothing new", run(t, a, store(a, "run-2", first...)), "sent 0, unowned 2, failed 0; 0 mails, 0 messages")
	steps("an older run", run(t, a, in), "sent 0, unowned 0, failed 0; 0 mails, 0 messages")

	second := append(slices.Clone(first[:4]), finding(audit.Overdue, "bob", one, 95), finding(audit.Unused, "frank", "nobody@evil.net", 70))
	resolved := first[4]
	resolved.State = audit.Resolved
	steps("something new for one", run(t, a, store(a, "run-3", append(second, resolved)...)), "sent 1, unowned 1, failed 0; 1 mails, 1 messages")
	last := a.Mails()[len(a.Mails())-1]
	golden(t, "digest-owner-again.txt", "To: "+last.To+"\nSubject: "+last.Subject+"\n\n"+last.Text)
	steps("what was resolved is there again", run(t, a, store(a, "run-4", append(second, first[4])...)), "sent 1, unowned 1, failed 0; 1 mails, 0 messages")

	a.SetObject("reports/123456789012/latest.json", []byte("{"))
	_, err := digester(a.Start()).Run(t.Context(), in)
	wantCode(t, err, iamkeys.StoreFailed)
}

// A finding that comes back is new, also when no digest was sent while it was gone: a
// person's audit has none, and one may fail for good.
func TestDigestComesBack(t *testing.T) {
	a := iamkeystest.NewAccount()
	since := func(days int) audit.Finding {
		f := finding(audit.Unused, "alice", "one@example.com", 300)
		at := iamkeystest.Epoch.AddDate(0, 0, days)
		f.FirstSeen = &at
		return f
	}
	for _, step := range []struct {
		run, want string
		findings  []audit.Finding
	}{
		{"run-1", "sent 1, unowned 0, failed 0; 1 mails, 0 messages", []audit.Finding{since(0)}},
		{"run-2", "sent 0, unowned 0, failed 0; 0 mails, 0 messages", []audit.Finding{since(0)}},
		{"run-5", "sent 1, unowned 0, failed 0; 1 mails, 0 messages", []audit.Finding{since(5)}}, // it was resolved in run-3
		{"run-6", "sent 0, unowned 0, failed 0; 0 mails, 0 messages", []audit.Finding{since(5)}},
	} {
		if got := run(t, a, store(a, step.run, step.findings...)); got != step.want {
			t.Errorf("%s: %s, want %s", step.run, got, step.want)
		}
	}
}

// Over any runs, some of them without a digest, an owner is told of each finding once for
// each time that it came up and a digest saw it.
func TestDigestRandomly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := iamkeystest.NewAccount()
		names, owners := []string{"alice", "bob", "carol"}, []string{"one@example.com", "two@example.com"}
		since, owner, told := map[string]time.Time{}, map[string]string{}, map[string]string{} // of each user's finding, if there is one
		for n := range rapid.IntRange(1, 12).Draw(t, "runs") {
			a.Advance(24 * time.Hour)
			var all []audit.Finding
			for _, name := range names {
				before, open := since[name]
				if rapid.Bool().Draw(t, name) { // it comes up, or is resolved
					if delete(since, name); !open {
						since[name], owner[name] = a.Now(), rapid.SampledFrom(owners).Draw(t, "owner")
						delete(told, name)
					}
				}
				if at, open := since[name]; open {
					f := finding(audit.Unused, name, owner[name], 300)
					f.FirstSeen = &at
					all = append(all, f)
				} else if !before.IsZero() {
					f := finding(audit.Unused, name, owner[name], 300)
					f.State, f.FirstSeen = audit.Resolved, &before
					all = append(all, f)
				}
			}
			in := store(a, fmt.Sprintf("run-%d", n), all...)
			if rapid.IntRange(0, 3).Draw(t, "digest") == 0 {
				continue
			}
			mails := len(a.Mails())
			if _, err := digester(a.Start()).Run(context.Background(), in); err != nil {
				t.Fatal(err)
			}
			fresh := map[string]string{}
			for _, m := range a.Mails()[mails:] {
				_, section, _ := strings.Cut(m.Text, "\nNEW: ")
				section, _, _ = strings.Cut(section, "\nSTILL OPEN")
				for _, name := range names {
					if strings.Contains(section, name) {
						fresh[name] = m.To
					}
				}
			}
			for _, name := range names {
				_, open := since[name]
				if want := map[bool]string{true: owner[name]}[open && told[name] == ""]; fresh[name] != want {
					t.Fatalf("run %d: of %s, open: %t, %q was told, want %q", n, name, open, fresh[name], want)
				}
				if open {
					told[name] = owner[name]
				}
			}
		}
	})
}

// In an organization an audit of one account alone tells of that account, and makes nothing
// of the others' be told again.
func TestDigestOfOneAccount(t *testing.T) {
	a := iamkeystest.NewAccount()
	in := organization(a, 4, 4, 2)
	if got := run(t, a, in); got != "sent 2, unowned 0, failed 0; 2 mails, 0 messages" {
		t.Fatal(got)
	}
	const account = "000000000002"
	at := "reports/" + account + "/2026/11/24/run-2"
	alone := finding(audit.Overdue, "user-9", "owner-0@example.com", 100)
	nobodys := finding(audit.Overdue, "user-8", "", 100)
	storeReport(a, "reports/"+account+"/latest.json", account, "run-2", alone, nobodys)
	if got := run(t, a, notice.DigestInput{Report: &audit.ReportLocation{Bucket: bucket, Prefix: at}}); got != "sent 1, unowned 1, failed 0; 1 mails, 1 messages" {
		t.Error(got)
	}
	if got := run(t, a, in); got != "sent 0, unowned 1, failed 0; 0 mails, 0 messages" {
		t.Errorf("the organization's again: %s", got)
	}
}

// A digest is as large as it may be, and no larger: the topic's as SNS takes it, an owner's
// with so many findings of each heading, and each says how many more there are.
func TestDigestFits(t *testing.T) {
	a := iamkeystest.NewAccount()
	var all []audit.Finding
	for i := range 5000 {
		owner := strings.Repeat("\u754c<&\"", 64) // 256 characters, as long as a tag may be
		if i%10 == 0 {
			owner = "one@example.com"
		}
		all = append(all, finding(audit.Unused, fmt.Sprintf("user-%0*d", 59, i), owner, 100))
	}
	if got := run(t, a, store(a, "run-1", all...)); got != "sent 1, unowned 4500, failed 0; 1 mails, 1 messages" {
		t.Fatal(got)
	}
	m := a.Messages()[0]
	var said struct {
		New, Omitted int
		Unowned      []any
	}
	if err := json.Unmarshal(m.JSON, &said); err != nil || !m.Fits() || said.New != 4500 || len(said.Unowned) < 50 || len(said.Unowned)+said.Omitted != 4500 || !strings.Contains(m.Text, "more, in the reports of the accounts") {
		t.Errorf("%v: %d told, %d omitted, fits: %t", err, len(said.Unowned), said.Omitted, m.Fits())
	}
	if text := a.Mails()[0].Text; len(text) > 200_000 || !strings.Contains(text, "and 300 more") {
		t.Errorf("the owner's mail has %d bytes", len(text))
	}
	chatted(t, a)
}

// A digest that fails or dies at any call is made up for by the next: nobody who was told
// is told again, unless that could not be noted; nobody is left out.
func TestDigestUnderFaults(t *testing.T) {
	findings := []audit.Finding{finding(audit.Unused, "alice", "one@example.com", 100), finding(audit.Unused, "bob", "two@example.com", 100), finding(audit.Unused, "carol", "", 100)}
	for _, fault := range iamkeystest.Faults {
		for n := 1; ; n++ {
			a := iamkeystest.NewAccount()
			in := store(a, "run-1", findings...)
			p := a.Start()
			p.Fault = func(call int, _ string) iamkeystest.Fault {
				if call == n {
					return fault
				}
				return iamkeystest.None
			}
			var out notice.DigestOutput
			var err error
			died := p.Run(func() { out, err = digester(p).Run(t.Context(), in) })
			if len(p.Calls) < n {
				if n < 9 || err != nil || out.Sent != 2 {
					t.Errorf("undisturbed, after %v: %+v, %v", p.Calls, out, err)
				}
				break
			}
			action := p.Calls[n-1]
			if code := iamkeys.CodeOf(err); !died && err != nil && code != iamkeys.StoreFailed && code != iamkeys.NotifyFailed {
				t.Errorf("%s at %s: %v", fault, action, err)
			}
			if died || err != nil {
				if _, err := digester(a.Start()).Run(t.Context(), in); err != nil {
					t.Fatalf("%s at %s: the repeat fails: %v", fault, action, err)
				}
			}
			if _, err := digester(a.Start()).Run(t.Context(), in); err != nil { // the next run
				t.Fatal(err)
			}
			told := map[string]int{}
			for _, m := range a.Mails() {
				told[m.To]++
			}
			for _, m := range a.Messages() {
				if strings.Contains(m.Text, "carol") {
					told["team"]++
				}
			}
			unnoted := action == "s3:PutObject" || fault == iamkeystest.Lost || fault == iamkeystest.Unanswered || fault == iamkeystest.DiesAfter || fault == iamkeystest.Dies
			for _, who := range []string{"one@example.com", "two@example.com", "team"} {
				if told[who] == 0 || told[who] > 1 && !unnoted && who != "team" {
					t.Errorf("%s at %s: %s was told %d times", fault, action, who, told[who])
				}
			}
		}
	}
}

// A mail that fails is told to the security team, and sent by the next run.
func TestDigestFailedMail(t *testing.T) {
	a := iamkeystest.NewAccount()
	in := store(a, "run-1", finding(audit.Unused, "alice", "one@example.com", 100))
	p := a.Start()
	p.Fault = func(_ int, action string) iamkeystest.Fault {
		if action == "ses:SendEmail" {
			return iamkeystest.Refused
		}
		return iamkeystest.None
	}
	out, err := digester(p).Run(t.Context(), in)
	if err != nil || out.Failed != 1 || len(a.Messages()) != 1 || !strings.Contains(a.Messages()[0].Text, "one@example.com failed (AccessDenied)") {
		t.Fatalf("got %+v, %v, %+v", out, err, a.Messages())
	}
	if got := run(t, a, in); got != "sent 1, unowned 0, failed 0; 1 mails, 0 messages" {
		t.Errorf("the next run: %s", got)
	}
}

// Without owner mail a digest does nothing; what is no run of this stack's is refused.
func TestDigestInput(t *testing.T) {
	a := iamkeystest.NewAccount()
	in := store(a, "run-1", finding(audit.Unused, "alice", "one@example.com", 100))
	p := a.Start()
	off := digester(p)
	off.Send.SES = nil
	if out, err := off.Run(t.Context(), in); err != nil || out != (notice.DigestOutput{}) || len(p.Calls) > 0 {
		t.Errorf("got %+v, %v and the calls %v", out, err, p.Calls)
	}
	answered, _ := json.Marshal(map[string]any{"runId": "run-1", "report": in.Report})
	record := notice.DigestInput{Version: "1.0", Timestamp: "2026-11-23T09:00:00Z", RequestContext: json.RawMessage(`{"condition":"Success"}`), RequestPayload: json.RawMessage("{}"), ResponsePayload: answered}
	if got := run(t, a, record); !strings.HasPrefix(got, "sent 1,") {
		t.Errorf("a destination's record: %s", got)
	}
	for _, in := range []notice.DigestInput{
		{}, {Report: &audit.ReportLocation{}}, {Report: &audit.ReportLocation{Bucket: bucket, Prefix: "reports/123456789012/latest"}}, {Report: &audit.ReportLocation{Bucket: bucket, Prefix: "reports/../2026/11/23/run"}},
		{Report: in.Report, ResponsePayload: answered}, {ResponsePayload: json.RawMessage(`{"errorType":"Internal"}`)}, {ResponsePayload: json.RawMessage(`"text"`)},
	} {
		wantCode(t, in.Validate(), iamkeys.InvalidInput)
	}
	_, err := digester(p).Run(t.Context(), notice.DigestInput{Report: &audit.ReportLocation{Bucket: "other", Prefix: in.Report.Prefix}})
	wantCode(t, err, iamkeys.InvalidInput)
}

// organization stores a run over accounts, the first of which was not examined, and in
// which the users of each have so many findings.
func organization(a *iamkeystest.Account, accounts, findings, owners int) notice.DigestInput {
	var r audit.Organization
	r.Summary.SchemaVersion, r.Summary.RunID, r.Summary.Day, r.Summary.AsOf, r.Summary.Account = audit.SchemaVersion, "run-1", "2026-11-23", a.Now(), "123456789012"
	for n := range accounts {
		id := fmt.Sprintf("%012d", n+1)
		row := audit.AccountRow{Account: id, Name: fmt.Sprintf("account %d", n), Examined: n > 0}
		var all []audit.Finding
		for i := range findings {
			f := finding(audit.Unused, fmt.Sprintf("user-%d", i), fmt.Sprintf("owner-%d@example.com", (n*findings+i)%owners), 100+i)
			f.Account, f.UserARN = id, "arn:aws:iam::"+id+":user/"+f.UserName
			all = append(all, f)
		}
		storeReport(a, "reports/"+id+"/latest.json", id, "run-1", all...)
		r.Accounts = append(r.Accounts, row)
	}
	content, _ := json.Marshal(r)
	a.SetObject("reports/organization/latest.json", content)
	return notice.DigestInput{Report: &audit.ReportLocation{Bucket: bucket, Prefix: "reports/organization/2026/11/23/run-1"}}
}

// Over an organization each owner gets one mail, of all accounts, also of those that were
// not examined this time.
func TestDigestOrganization(t *testing.T) {
	a := iamkeystest.NewAccount()
	in := organization(a, 30, 4, 6)
	if got := run(t, a, in); got != "sent 6, unowned 0, failed 0; 6 mails, 0 messages" {
		t.Error(got)
	}
	for _, m := range a.Mails() {
		if !strings.Contains(m.Subject, "20 new findings") || m.To == "owner-0@example.com" && !strings.Contains(m.Text, "000000000001 (account 0)") {
			t.Errorf("%s got %s\n%s", m.To, m.Subject, m.Text)
		}
	}
	if got := run(t, a, in); got != "sent 0, unowned 0, failed 0; 0 mails, 0 messages" {
		t.Error(got)
	}
}

// Hostile tags, names and reasons do nothing in a mail but show.
func TestDigestShowsAnyText(t *testing.T) {
	hostile := "a\r\n\r\nBcc: all@example.com\x1b[2J\u202e<script>`$(id)`"
	a := iamkeystest.NewAccount()
	mine, nobodys := finding(audit.Unused, hostile, "one@example.com", 100), finding(audit.Unused, hostile+"2", hostile, 90)
	mine.Remedy, mine.Rule = hostile, audit.RuleID(hostile)
	if got := run(t, a, store(a, "run-1", mine, nobodys)); got != "sent 1, unowned 1, failed 0; 1 mails, 1 messages" {
		t.Fatal(got)
	}
	for _, said := range []string{a.Mails()[0].Subject, a.Mails()[0].Text, a.Messages()[0].Subject, a.Messages()[0].Text} {
		if strings.ContainsAny(said, "\r\x1b\u202e") || strings.Contains(said, "\n\nBcc") {
			t.Errorf("hostile text comes through: %q", said)
		}
	}
	if text := a.Messages()[0].Text; !strings.Contains(text, "--user-name 'a Bcc: all@example.com\ufffd[2J\ufffd<script>`$(id)`2'") {
		t.Errorf("the command is not quoted: %s", text)
	}
}

// benchmarked is a bucket and a mailer that count, and answer at once.
type benchmarked struct {
	*iamkeystest.Process
	mu    sync.Mutex
	mails int
}

func (b *benchmarked) SendEmail(_ context.Context, to, subject, text string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mails++
	return "mail", nil
}

// BenchmarkDigest measures digests: of one account with 5,000 users and 300 owners, and of
// 1,000 accounts with 50 findings each. Calls go to memory; their number is a metric.
func BenchmarkDigest(b *testing.B) {
	for _, c := range []struct {
		name                       string
		accounts, findings, owners int
	}{{"5000 users 300 owners", 1, 5000, 300}, {"1000 accounts 50000 findings 300 owners", 1000, 50, 300}} {
		b.Run(c.name, func(b *testing.B) {
			a := iamkeystest.NewAccount()
			in := organization(a, c.accounts, c.findings, c.owners)
			b.ResetTimer()
			b.ReportAllocs()
			var calls, mails, peak float64
			for range b.N {
				p := &benchmarked{Process: a.Start()}
				o := digester(p.Process)
				o.Send.SES = p
				runtime.GC()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				out, err := o.Run(b.Context(), in)
				runtime.ReadMemStats(&after)
				if err != nil || out.Sent != c.owners {
					b.Fatalf("%+v, %v", out, err)
				}
				calls, mails, peak = float64(len(p.Calls)), float64(p.mails), max(peak, float64(after.HeapSys)/(1<<20))
				b.StopTimer()
				for n := range c.owners {
					a.SetObject(ownerMarker(fmt.Sprintf("owner-%d@example.com", n)), []byte(`{"told":[]}`))
				}
				b.StartTimer()
			}
			b.ReportMetric(calls+mails, "calls")
			b.ReportMetric(mails, "mails")
			b.ReportMetric(peak, "heap-MiB")
		})
	}
}

func ownerMarker(address string) string {
	sum := sha256.Sum256([]byte(address))
	return "markers/owner/" + hex.EncodeToString(sum[:]) + ".json"
}
