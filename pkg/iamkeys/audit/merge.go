package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"iamkeys/pkg/iamkeys"
)

// An Organization is one run's result over all accounts. Its JSON form is described by
// the schema in pkg/render; text, CSV and HTML are made of the same value, but the CSV
// has every finding.
type Organization struct {
	Summary  OrganizationSummary `json:"summary"`
	Accounts []AccountRow        `json:"accounts"`          // by ID
	Findings []Finding           `json:"findings"`          // critical, high and new ones, worst first, at most 1,000
	Resolved []Finding           `json:"resolved"`          // worst first, at most 1,000
	Omitted  *int                `json:"omitted,omitempty"` // of the critical, high and new ones; in a message of the accounts, too
}

// OrganizationSummary is what a run over the organization comes to. Users and keys of an
// account that was not examined are counted as its last report has them.
type OrganizationSummary struct {
	Summary
	Day      string        `json:"day"` // of the run
	Accounts AccountCounts `json:"accounts"`
}

// AccountCounts counts accounts: Total is the sum of the others. Nobody tries to examine
// those that are skipped; NotExamined are the others of which nothing new is known.
type AccountCounts struct {
	Total       int `json:"total"`
	Examined    int `json:"examined"`
	Skipped     int `json:"skipped"`
	NotExamined int `json:"notExamined"`
}

// An AccountRow is what a run has to say of one account. Where it was not examined, the
// figures are those of its last report, and null if there is none.
type AccountRow struct {
	Account       string         `json:"account"`
	Name          string         `json:"name"`
	Examined      bool           `json:"examined"`
	Incomplete    bool           `json:"incomplete"` // examined, but not every user and key
	Reason        *NotExamined   `json:"reason"`     // why it was not examined
	Error         *string        `json:"error"`      // the name of what went wrong, where something did
	Cause         *string        `json:"cause"`      // its message, the beginning of it
	Severities    SeverityCounts `json:"severities"`
	New           int            `json:"new"`
	Resolved      int            `json:"resolved"`
	OldestKeyDays *int           `json:"oldestKeyDays"`
	Users         *int           `json:"users"`
	Keys          *int           `json:"keys"`
	Report        *string        `json:"report"` // where its report of this run is, without extension
}

// Worst gives the worst severity among the account's findings, "" when there are none.
func (r AccountRow) Worst() Severity { return r.Severities.worst() }

// skipped reports whether nobody tries to examine such accounts.
func (n NotExamined) skipped() bool {
	return slices.Contains([]NotExamined{Excluded, Suspended, Closing, Closed, Activating, Left}, n)
}

// gone reports whether nothing of such an account is left that could be found.
func (n NotExamined) gone() bool { return n == Closed || n == Left }

// Skipped reports whether nobody tried to examine the account.
func (r AccountRow) Skipped() bool { return r.Reason != nil && r.Reason.skipped() }

// Highest gives the worst severity among the findings, "" when there are none.
func (r Organization) Highest() Severity { return r.Summary.Severities.worst() }

// An OrganizationRenderer gives the forms of the organization's report that people read.
type OrganizationRenderer struct {
	// Text gives the mail; at most limit findings are shown, and as many resolved ones and accounts of each kind; 0 shows all.
	Text func(r Organization, where string, limit int) []byte
	HTML func(Organization) ([]byte, error)
	// CSV writes the header and gives what writes the rows of one account.
	CSV func(w io.Writer, run OrganizationSummary) func(AccountRow, Report) error
}

// A Spool is a file for what is too long to be held in memory.
type Spool interface {
	io.ReadWriteSeeker
	io.Closer
}

// Merge makes one report of the reports of all accounts in a run, stores it and sends
// it, and makes the accounts' reports in it the latest ones, which nobody else does. It
// holds a few accounts at a time: its memory does not grow with findings.
//
// It may be repeated. A repeat is done where the organization's latest report is this
// run's and has every report that the run stored; else it builds anew of what is there.
type Merge struct {
	S3      S3
	SNS     iamkeys.Publish
	Render  OrganizationRenderer
	Message func(r Organization, where string) iamkeys.Message // what is sent of a report that is stored at where
	Spool   func() (Spool, error)
	Account string // the stack's own, twelve digits
	Bucket  string // name of the report bucket
	Tell    Tell
	Emit    func([]Metric)
	Now     func() time.Time
	Log     *slog.Logger
}

// MergeOutput is what Merge returns.
type MergeOutput struct {
	OrganizationSummary
	Notified  bool           `json:"notified"`
	MessageID *string        `json:"messageId"`
	Report    ReportLocation `json:"report"`
}

// Validate refuses a malformed input with InvalidInput.
func (in AccountsOutput) Validate() error { return checkRun(in.RunID, in.Day) }

// mergers is how many accounts are held, and asked of S3, at a time.
const mergers = 16

// organizationLatest is the report that the next run compares with.
const organizationLatest = "reports/organization/latest.json"

// Run merges. Its errors are InvalidInput (also for a list that is not as it was
// stored), StoreFailed, NotifyFailed, and InventoryUnavailable when no account was
// examined, of which the report is sent first. All but the first may be tried again.
func (o Merge) Run(ctx context.Context, in AccountsOutput) (MergeOutput, error) {
	if want := (ListLocation{o.Bucket, listKey(in.RunID, in.Day)}); in.List != want {
		return MergeOutput{}, iamkeys.Refuse(iamkeys.InvalidInput, "list must be where the accounts of run %s are stored, bucket %s and key %s; got bucket %s and key %s.", in.RunID, want.Bucket, want.Key, iamkeys.Quoted(in.List.Bucket), iamkeys.Quoted(in.List.Key))
	}
	list, skipped, err := readList(ctx, o.S3, o.Bucket, in.RunID, in.Day)
	if iamkeys.CodeOf(err) == iamkeys.NoSuchEntity {
		err = iamkeys.Refuse(iamkeys.InvalidInput, "runId and day name no run: there is no list of accounts at s3://%s/%s.", o.Bucket, in.List.Key)
	}
	if err != nil {
		return MergeOutput{}, err
	}
	m := merge{Merge: o, run: in, list: list, skipped: skipped}
	for range 5 {
		out, settled, err := m.attempt(ctx)
		if settled || err != nil {
			return out, err
		}
	}
	return MergeOutput{}, iamkeys.Refuse(iamkeys.StoreFailed, "The organization's report of run %s is stored, but %s was another one at every try: other runs end at the same time. Run merge again; it may send the report once more.", in.RunID, organizationLatest)
}

// A merge is one run's.
type merge struct {
	Merge
	run     AccountsOutput
	list    []Member
	skipped []SkippedAccount
	before  organizationBefore
	asOf    time.Time // of the organization's report
	sent    *string   // the message's ID, when one was
}

// organizationBefore is what the organization's latest.json holds.
type organizationBefore struct {
	report  *Organization // nil when there is none, or none that can be read
	damaged string        // why it cannot be read
	etag    string        // "" when there is none
	rows    map[string]AccountRow
}

// age compares the run with the organization's latest one: negative for an older run, 0
// for that run itself, positive for a newer one.
func (m *merge) age() int {
	if m.before.report == nil {
		return 1
	}
	s := m.before.report.Summary
	return cmp.Or(cmp.Compare(m.run.Day, s.Day), cmp.Compare(m.run.RunID, s.RunID))
}

// attempt merges once. It is not settled when another merge has written the
// organization's latest report meanwhile.
func (m *merge) attempt(ctx context.Context) (out MergeOutput, settled bool, err error) {
	began := m.Now()
	if m.before, err = m.latest(ctx); err != nil {
		return out, false, err
	}
	prefix := organizationPrefix(m.run.RunID, m.run.Day)
	out.Report = ReportLocation{m.Bucket, prefix}
	defer func() { out.Notified, out.MessageID = m.sent != nil, m.sent }()
	m.asOf = began.UTC().Truncate(time.Second)
	if m.before.report != nil {
		m.asOf = after(began, latest{report: &Report{Summary: m.before.report.Summary.Summary}}).UTC().Truncate(time.Second)
	}
	if m.age() == 0 {
		told, err := m.told(ctx)
		if err != nil {
			return out, false, err
		}
		if told { // an earlier attempt did it all, but perhaps the last writes
			out.OrganizationSummary = m.before.report.Summary
			if err := m.setLatest(ctx, *m.before.report, organizationBefore{}); err != nil {
				return out, false, err
			}
			return out, true, m.finish(*m.before.report, out, began)
		}
	}
	report, err := m.build(ctx)
	if err != nil {
		return out, false, err
	}
	out.OrganizationSummary = report.Summary
	if m.age() < 0 {
		return out, true, m.examinedNone(out)
	}
	where := "s3://" + m.Bucket + "/" + prefix
	if m.Tell.holds(report.Summary.Summary) {
		id, err := m.SNS.Publish(ctx, m.Message(report, where))
		if err != nil {
			return out, false, iamkeys.Failed(iamkeys.NotifyFailed, err, "The organization's report is stored at %s.html, but could not be published (%s). Run merge again: it does.", where, iamkeys.CodeOf(err))
		}
		m.Log.InfoContext(ctx, "published report", "runId", m.run.RunID, "messageId", id)
		m.sent = &id
	}
	switch written, err := m.replaceLatest(ctx, report); {
	case err != nil:
		return out, false, iamkeys.Failed(iamkeys.StoreFailed, err, "The organization's report is stored and, where it is to be, published, but %s could not be written (%s). Run merge again; it may send the report once more.", organizationLatest, iamkeys.CodeOf(err))
	case !written:
		m.Log.InfoContext(ctx, "the organization's latest.json is another one by now", "runId", m.run.RunID)
		return out, false, nil
	}
	if err := m.setLatest(ctx, report, m.before); err != nil {
		return out, false, err
	}
	return out, true, m.finish(report, out, began)
}

// finish writes the metrics of a run that is told and noted. A repeat writes them again:
// the attempt before may not have come so far, and no alarm may miss what it found.
func (m *merge) finish(r Organization, out MergeOutput, began time.Time) error {
	m.Emit(m.metrics(r, m.Now().Sub(began)))
	if err := m.examinedNone(out); err != nil {
		return err
	}
	m.Emit([]Metric{{"AuditCompleted", "Count", 1}})
	return nil
}

func (m *merge) examinedNone(out MergeOutput) error {
	if out.Accounts.Examined > 0 {
		return nil
	}
	return iamkeys.Refuse(iamkeys.InventoryUnavailable, "None of the organization's %d accounts could be examined. The report at s3://%s/%s.html says why; nothing is known of their keys.", out.Accounts.Total, out.Report.Bucket, out.Report.Prefix)
}

// holds reports whether a report that comes to this is to be sent.
func (t Tell) holds(s Summary) bool {
	changed := s.New+s.Resolved > 0 || !s.Coverage.Complete
	switch t {
	case TellAlways:
		return true
	case TellFindings:
		return changed || s.Open > 0
	case TellChanges:
		return changed
	}
	return false
}

// latest reads the organization's latest report; one that cannot be had, unlike a
// missing or damaged one, is StoreFailed.
func (m *merge) latest(ctx context.Context) (b organizationBefore, err error) {
	content, etag, err := m.S3.GetObject(ctx, organizationLatest)
	if iamkeys.CodeOf(err) == iamkeys.NoSuchEntity {
		return b, nil
	}
	if err != nil {
		return b, iamkeys.Failed(iamkeys.StoreFailed, err, "The report before, %s, could not be read (%s), so nothing was told. Run merge again.", organizationLatest, iamkeys.CodeOf(err))
	}
	b.etag = etag
	if b.report, err = readOrganization(content); err != nil {
		b.damaged = err.Error()
		return b, nil
	}
	b.rows = map[string]AccountRow{}
	for _, r := range b.report.Accounts {
		b.rows[r.Account] = r
	}
	return b, nil
}

// readOrganization reads a stored report of the organization, of this schema version.
func readOrganization(content []byte) (*Organization, error) {
	var r Organization
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, fmt.Errorf("not a report: %w", err)
	}
	s := r.Summary
	switch {
	case s.SchemaVersion != SchemaVersion:
		return nil, fmt.Errorf("schema version %d, this release reads version %d", s.SchemaVersion, SchemaVersion)
	case s.AsOf.IsZero(), checkRun(s.RunID, s.Day) != nil:
		return nil, errors.New("it does not say of which run it is")
	case r.Accounts == nil:
		return nil, errors.New("it has no list of accounts")
	}
	for _, a := range r.Accounts {
		if !accountIDs.MatchString(a.Account) || a.Report != nil && *a.Report != prefixOf(a.Account, s.RunID, s.Day) {
			return nil, errors.New("an account in it has no ID, or a report elsewhere")
		}
	}
	return &r, nil
}

// prefixOf is where an account's report of a run is.
func prefixOf(account, runID, day string) string {
	at, _ := time.Parse(runDay, day) // checked by checkRun
	return runs{account: account}.at(runID, at).prefix
}

// replaceLatest makes the report the organization's latest one, in place of the one
// that it was built with.
func (m *merge) replaceLatest(ctx context.Context, r Organization) (written bool, err error) {
	content, err := json.Marshal(r)
	if err == nil {
		err = m.S3.PutObject(ctx, organizationLatest, "application/json", bytes.NewReader(content), &m.before.etag)
	}
	if iamkeys.CodeOf(err) == iamkeys.InProgress {
		return false, nil
	}
	return err == nil, err
}

// A subject is an account that the report is to speak of.
type subject struct {
	Member
	reason NotExamined // of one that nobody tried to examine; "" for one of the list
}

// subjects gives all accounts, by ID: the list's, the skipped ones, and those that the
// organization's latest report has and neither knows. Missing a second time, an account
// has left; that is said once.
func (m *merge) subjects() []subject {
	var all []subject
	known := map[string]bool{}
	for _, l := range m.list {
		all, known[l.Account] = append(all, subject{Member: l}), true
	}
	for _, s := range m.skipped {
		all, known[s.Account] = append(all, subject{Member{s.Account, s.Name, m.run.RunID, m.run.Day}, s.Reason}), true
	}
	if m.before.report != nil && m.age() >= 0 {
		for _, r := range m.before.report.Accounts {
			reason := Missing
			if before := r.Reason; before != nil && (*before == Missing || *before == Left) {
				switch {
				case m.age() == 0: // this run said so already
					reason = *before
				case *before == Left:
					continue
				default:
					reason = Left
				}
			}
			if !known[r.Account] {
				all = append(all, subject{Member{r.Account, r.Name, m.run.RunID, m.run.Day}, reason})
			}
		}
	}
	slices.SortFunc(all, func(a, b subject) int { return cmp.Compare(a.Account, b.Account) })
	return all
}

// told reports whether the organization's latest report, which is this run's, has every
// report that the run has stored.
func (m *merge) told(ctx context.Context) (bool, error) {
	var slow []Member
	for _, l := range m.list {
		if !m.before.rows[l.Account].Examined {
			slow = append(slow, l)
		}
	}
	told := true
	err := inBatches(len(slow), func(i int) (bool, error) {
		report, _, err := m.report(ctx, slow[i])
		return report != nil, err
	}, func(_ int, stored bool) error {
		told = told && !stored
		return nil
	})
	return told, err
}

// inBatches does some work at a time, and takes what comes of it in order.
func inBatches[T any](n int, work func(i int) (T, error), take func(i int, done T) error) error {
	for from := 0; from < n; from += mergers {
		batch := make([]T, min(mergers, n-from))
		errs := make([]error, len(batch))
		var working sync.WaitGroup
		for i := range batch {
			working.Go(func() { batch[i], errs[i] = work(from + i) })
		}
		working.Wait()
		for i := range batch {
			if errs[i] != nil {
				return errs[i]
			}
			if err := take(from+i, batch[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// report gives the account's report of this run, nil where none is stored, and why one
// that is stored cannot be used.
func (m *merge) report(ctx context.Context, l Member) (report *Report, damaged string, err error) {
	content, _, err := m.S3.GetObject(ctx, prefixOf(l.Account, l.RunID, l.Day)+".json")
	switch {
	case iamkeys.CodeOf(err) == iamkeys.NoSuchEntity:
		return nil, "", nil
	case err != nil:
		return nil, "", iamkeys.Failed(iamkeys.StoreFailed, err, "The report of account %s could not be read (%s), so nothing was told. Run merge again.", l.label(), iamkeys.CodeOf(err))
	}
	if report, err = readRun(content, l.Account, l.RunID); err != nil {
		return nil, err.Error(), nil
	}
	return report, "", nil
}

// An account is what becomes of a subject.
type account struct {
	row    AccountRow
	report Report // its findings as they are told: compared with what was told before
}

// look gives what there is to say of the account.
func (m *merge) look(ctx context.Context, s subject) (a account, err error) {
	a.row = AccountRow{Account: s.Account, Name: s.Name}
	var report *Report
	if s.reason == "" {
		var damaged string
		if report, damaged, err = m.report(ctx, s.Member); err != nil {
			return a, err
		}
		if report == nil {
			if err := m.why(ctx, s.Member, damaged, &a.row); err != nil {
				return a, err
			}
		}
	} else {
		a.row.Reason = &s.reason
	}
	if report != nil && m.age() < 0 { // a newer run is told already: this one only says what it saw
		a.examined(*report, s.Member)
		return a, nil
	}
	base, unnoted, err := m.base(ctx, s.Account, m.before)
	if err == nil && unnoted && m.age() >= 0 {
		err = m.note(ctx, s.Account, base)
	}
	if err != nil {
		return a, err
	}
	switch {
	case report != nil && !(base.notBefore(*report) && base.report.Summary.RunID != report.Summary.RunID):
		c := stored(*report)
		if !c.comparedWith(base) || base.report != nil && base.report.Summary.RunID == report.Summary.RunID {
			c.with(base)
		}
		a.examined(c.Report, s.Member)
	case report != nil: // what was told since is newer
		a.examined(base.report.standing(m.asOf), s.Member)
	case base.report != nil && a.row.Reason.gone():
		a.asBefore(base.report.resolved())
	case base.report != nil:
		a.asBefore(base.report.standing(m.asOf))
	}
	return a, nil
}

// why reads why the account has no report.
func (m *merge) why(ctx context.Context, l Member, damaged string, row *AccountRow) error {
	reason := Died
	row.Reason = &reason
	if damaged != "" {
		reason, row.Error, row.Cause = FailedAudit, iamkeys.Optional(string(iamkeys.StoreFailed)), iamkeys.Optional("Its report is stored, but cannot be read: "+damaged+".")
		return nil
	}
	key := prefixOf(l.Account, l.RunID, l.Day) + ".failed.json"
	content, _, err := m.S3.GetObject(ctx, key)
	if code := iamkeys.CodeOf(err); code == iamkeys.NoSuchEntity {
		return nil
	} else if err != nil {
		return iamkeys.Failed(iamkeys.StoreFailed, err, "Why account %s was not examined could not be read at %s (%s), so nothing was told. Run merge again.", l.label(), key, code)
	}
	var stored unexaminedAccount
	if err := json.Unmarshal(content, &stored); err != nil {
		reason, row.Error, row.Cause = FailedAudit, iamkeys.Optional(string(iamkeys.StoreFailed)), iamkeys.Optional("Its reason is stored, but cannot be read.")
		return nil
	}
	reason = stored.Failed.reason()
	row.Error, row.Cause = iamkeys.Optional(cut(stored.Error, maxAccountName)), iamkeys.Optional(cut(stored.Cause, maxRowCause))
	return nil
}

// maxRowCause is how much of a failure's message the organization's report has, bytes.
const maxRowCause = 300

// examined fills in what the account's own report says.
func (a *account) examined(r Report, m Member) {
	a.row.Examined, a.row.Incomplete = true, !r.Summary.Coverage.Complete
	a.row.Report = iamkeys.Optional(prefixOf(m.Account, m.RunID, m.Day))
	a.asBefore(r)
}

// asBefore fills in the figures of a report.
func (a *account) asBefore(r Report) {
	s := r.Summary
	a.report = r
	a.row.Severities, a.row.New, a.row.Resolved, a.row.OldestKeyDays = s.Severities, s.New, s.Resolved, s.KeyAges.OldestDays
	a.row.Users, a.row.Keys = &s.Coverage.Users, &s.Coverage.Keys
}

// standing gives a report that was told before, in a run that has nothing new to tell of
// its account: all that it has stays as it is, but for exemptions that ended since.
func (r Report) standing(asOf time.Time) Report {
	was := r.clone()
	r.Findings, r.Exempt, r.Resolved = was.Findings, []Finding{}, []Finding{}
	for _, f := range was.Exempt {
		rule, _ := RuleOf(f.Rule)
		if e := exemption(exempted(f), rule, asOf); e != nil && e.Invalid == nil {
			r.Exempt = append(r.Exempt, f)
		} else {
			f.Exemption = e
			r.Findings = append(r.Findings, f)
		}
	}
	for i := range r.Findings {
		r.Findings[i].State = Open
	}
	r.count()
	return r
}

// exempted gives the finding's user as far as its exemption goes.
func exempted(f Finding) (u iamkeys.User) {
	if e := f.Exemption; e != nil {
		u.Tags = []iamkeys.Tag{{Key: iamkeys.TagExemptUntil, Value: e.Until}, {Key: iamkeys.TagExemptReason, Value: e.Reason}}
	}
	return u
}

// resolved gives a report that was told before, of an account that is no more.
func (r Report) resolved() Report {
	r = r.clone()
	r.Resolved = r.Findings
	for i := range r.Resolved {
		r.Resolved[i].State = Resolved
	}
	r.Findings, r.Exempt = []Finding{}, []Finding{}
	r.Summary.KeyAges, r.Summary.Coverage = KeyAges{BucketDays: ageBucketDays}, Coverage{Complete: true}
	r.count()
	return r
}

// base gives the report with which the account's is compared: what was told of it last,
// with the ETag of its latest.json. That is latest.json, unless the organization's latest
// report, which is written first, has told something later that nobody came to note there.
func (m *merge) base(ctx context.Context, account string, before organizationBefore) (base latest, unnoted bool, err error) {
	s := runs{s3: m.S3, account: account}
	if base, err = s.latest(ctx); err != nil {
		return base, false, err
	}
	row, ok := before.rows[account]
	if !ok || base.report != nil && base.report.Summary.RunID == before.report.Summary.RunID {
		return base, false, nil
	}
	switch told := before.report.Summary; {
	case row.Reason != nil && row.Reason.gone():
		if base.report != nil && base.report.Summary.AsOf.Before(told.AsOf) {
			unnoted = len(base.report.Findings)+len(base.report.Exempt) > 0
			base.report = emptied(*base.report, told.AsOf, told.RunID)
		}
	case row.Report != nil:
		noted, _, err := m.report(ctx, Member{Account: account, RunID: told.RunID, Day: told.Day})
		if err != nil {
			return base, false, err
		}
		if noted != nil && !base.notBefore(*noted) {
			base, unnoted = latest{report: noted, etag: base.etag}, true
		}
	}
	return base, unnoted, nil
}

// note makes what was told of an account its latest report, as the merge that told it did
// not come to: this run's report, which takes the place of the one that says so, may have
// nothing of the account. Where another writer was faster, it stays.
func (m *merge) note(ctx context.Context, account string, told latest) error {
	content, err := json.Marshal(told.report)
	if err == nil {
		err = m.S3.PutObject(ctx, runs{account: account}.base()+"latest.json", "application/json", bytes.NewReader(content), &told.etag)
	}
	if err == nil || iamkeys.CodeOf(err) == iamkeys.InProgress {
		return nil
	}
	return iamkeys.Failed(iamkeys.StoreFailed, err, "latest.json of account %s could not be written (%s), so nothing was told. Run merge again.", account, iamkeys.CodeOf(err))
}

// emptied gives the latest report of an account that a run found to be no more.
func emptied(before Report, asOf time.Time, runID string) *Report {
	before = before.resolved()
	before.Resolved = []Finding{}
	before.Summary.AsOf, before.Summary.RunID = asOf, runID
	before.count()
	return &before
}

// setLatest makes the accounts' reports in the organization's report the latest ones,
// those of accounts that are no more without a finding. Where something newer is noted
// by now, it stays. before is what the organization's report was built with, if known.
func (m *merge) setLatest(ctx context.Context, r Organization, before organizationBefore) error {
	rows := r.Accounts
	told := slices.DeleteFunc(slices.Clone(rows), func(r AccountRow) bool { return r.Report == nil && !(r.Reason != nil && r.Reason.gone()) })
	return inBatches(len(told), func(i int) (struct{}, error) {
		for range 5 {
			written, err := m.setAccountLatest(ctx, told[i], r.Summary.AsOf, before)
			if err != nil {
				return struct{}{}, iamkeys.Failed(iamkeys.StoreFailed, err, "The organization's report is stored and, where it is to be, published, but latest.json of account %s could not be written (%s). Run merge again: it goes on there.", told[i].Account, iamkeys.CodeOf(err))
			}
			if written {
				return struct{}{}, nil
			}
		}
		return struct{}{}, iamkeys.Refuse(iamkeys.StoreFailed, "latest.json of account %s was another one at every try. Run merge again: it goes on there.", told[i].Account)
	}, func(int, struct{}) error { return nil })
}

// setAccountLatest is one try; it reports false when another writer was faster.
func (m *merge) setAccountLatest(ctx context.Context, row AccountRow, asOf time.Time, before organizationBefore) (written bool, err error) {
	base, _, err := m.base(ctx, row.Account, before)
	if err != nil {
		return false, err
	}
	var next Report
	if row.Report == nil {
		if base.report == nil || !base.report.Summary.AsOf.Before(asOf) || len(base.report.Findings)+len(base.report.Exempt) == 0 {
			return true, nil
		}
		next = *emptied(*base.report, asOf, m.run.RunID)
	} else {
		report, _, err := m.report(ctx, Member{Account: row.Account, RunID: m.run.RunID, Day: m.run.Day})
		if err != nil || report == nil || base.notBefore(*report) {
			return true, err
		}
		c := stored(*report)
		if !c.comparedWith(base) {
			c.with(base)
		}
		next = c.Report
	}
	content, err := json.Marshal(next)
	if err == nil {
		err = m.S3.PutObject(ctx, runs{account: row.Account}.base()+"latest.json", "application/json", bytes.NewReader(content), &base.etag)
	}
	if iamkeys.CodeOf(err) == iamkeys.InProgress {
		return false, nil
	}
	return err == nil, err
}

// build makes the organization's report and stores it in its four forms, the JSON last.
func (m *merge) build(ctx context.Context) (r Organization, err error) {
	r = Organization{Accounts: []AccountRow{}, Findings: []Finding{}, Resolved: []Finding{}}
	s := &r.Summary
	s.SchemaVersion, s.RunID, s.Day, s.Account, s.AsOf, s.GeneratedTime, s.Notes = SchemaVersion, m.run.RunID, m.run.Day, m.Account, m.asOf, m.asOf, []string{}
	s.KeyAges, s.Rules, s.Coverage.Complete = KeyAges{BucketDays: ageBucketDays, Counts: make([]int, ageBuckets)}, map[RuleID]int{}, true
	for _, rule := range Rules {
		s.Rules[rule.ID] = 0
	}
	switch before := m.before.report; {
	case m.before.damaged != "":
		s.Notes = append(s.Notes, "The organization's report before cannot be read ("+m.before.damaged+"), so accounts that are missing since are not named.")
	case before == nil:
	case m.age() < 0:
		s.Notes = append(s.Notes, fmt.Sprintf("Run %s of %s has examined the organization since. This report was stored, and nobody was told of it.", before.Summary.RunID, before.Summary.Day))
	default:
		s.ComparedWith = &before.Summary.AsOf
	}
	spool, err := m.Spool()
	if err != nil {
		return r, iamkeys.Failed(iamkeys.Internal, err, "There is no room for the table of run %s's findings.", m.run.RunID)
	}
	defer func() { _ = spool.Close() }() // a temporary file: what is in it has been stored, or the run failed
	rows := m.Render.CSV(spool, *s)
	findings, resolved := worst{}, worst{}
	all := m.subjects()
	err = inBatches(len(all), func(i int) (account, error) { return m.look(ctx, all[i]) }, func(_ int, a account) error {
		r.add(a)
		for _, f := range a.report.Findings {
			if f.State == New || f.Severity == Critical || f.Severity == High {
				findings.add(f)
			}
		}
		resolved.add(a.report.Resolved...)
		if err := rows(a.row, a.report); err != nil {
			return iamkeys.Failed(iamkeys.Internal, err, "The table of run %s's findings could not be written.", m.run.RunID)
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	var omitted int
	r.Findings, omitted = findings.first(mostFindings)
	if omitted > 0 {
		r.Omitted = &omitted
	}
	r.Resolved, _ = resolved.first(mostFindings)
	return r, m.store(ctx, r, spool)
}

// mostFindings is how many findings the organization's report holds; its CSV has all.
const mostFindings = 1000

// add counts an account in.
func (r *Organization) add(a account) {
	r.Accounts = append(r.Accounts, a.row)
	s, of := &r.Summary, a.report.Summary
	s.Accounts.Total++
	switch {
	case a.row.Examined:
		s.Accounts.Examined++
		s.Coverage.Complete = s.Coverage.Complete && of.Coverage.Complete
		s.Coverage.UsersExamined += of.Coverage.UsersExamined
		s.Coverage.KeysExamined += of.Coverage.KeysExamined
		if s.Inventory = cmp.Or(s.Inventory, of.Inventory); s.Inventory != of.Inventory {
			s.Inventory = FromBoth
		}
		if s.GeneratedTime.After(of.GeneratedTime) {
			s.GeneratedTime = of.GeneratedTime
		}
		s.Thresholds = of.Thresholds
		s.addSecurityHub(of.SecurityHub)
	case a.row.Skipped():
		s.Accounts.Skipped++
	default:
		s.Accounts.NotExamined++
		s.Coverage.Complete = false
	}
	if s.Thresholds == (Thresholds{}) { // until an account is examined, of the reports that the figures are of
		s.Thresholds = of.Thresholds
	}
	if !a.row.Skipped() {
		s.Coverage.Users += of.Coverage.Users
		s.Coverage.Keys += of.Coverage.Keys
	}
	s.Severities.Critical += of.Severities.Critical
	s.Severities.High += of.Severities.High
	s.Severities.Medium += of.Severities.Medium
	s.Severities.Low += of.Severities.Low
	for rule, n := range of.Rules {
		s.Rules[rule] += n
	}
	s.New, s.Open, s.Resolved, s.Exempt = s.New+of.New, s.Open+of.Open, s.Resolved+of.Resolved, s.Exempt+of.Exempt
	for i, n := range of.KeyAges.Counts {
		s.KeyAges.Counts[min(i, ageBuckets-1)] += n
	}
	if oldest := of.KeyAges.OldestDays; oldest != nil && (s.KeyAges.OldestDays == nil || *oldest > *s.KeyAges.OldestDays) {
		s.KeyAges.OldestDays = oldest
	}
}

// addSecurityHub counts in what an account sent. Security Hub counts as enabled where it
// is so in every account that it is on for.
func (s *Summary) addSecurityHub(of *SecurityHub) {
	switch {
	case of == nil:
	case s.SecurityHub == nil:
		sent := *of
		s.SecurityHub = &sent
	default:
		s.SecurityHub.Enabled = s.SecurityHub.Enabled && of.Enabled
		s.SecurityHub.Sent += of.Sent
		s.SecurityHub.Refused += of.Refused
	}
}

// worst keeps the worst findings, some more than are asked for, and counts the others.
type worst struct {
	kept []Finding
	more int
}

func (w *worst) add(findings ...Finding) {
	w.kept = append(w.kept, findings...)
	if len(w.kept) > 4*mostFindings {
		w.cut(mostFindings)
	}
}

func (w *worst) cut(most int) {
	worstFirst(w.kept)
	if left := len(w.kept) - most; left > 0 {
		clear(w.kept[most:])
		w.kept, w.more = w.kept[:most], w.more+left
	}
}

// first gives the worst ones, in order, and how many it leaves out.
func (w *worst) first(most int) (findings []Finding, more int) {
	w.cut(most)
	return append([]Finding{}, w.kept...), w.more
}

// store writes the report in its four forms.
func (m *merge) store(ctx context.Context, r Organization, csv io.ReadSeeker) error {
	prefix := organizationPrefix(m.run.RunID, m.run.Day)
	content, err := json.Marshal(r)
	if err != nil {
		return iamkeys.Failed(iamkeys.Internal, err, "The organization's report of run %s could not be written as JSON.", m.run.RunID)
	}
	html, err := m.Render.HTML(r)
	if err != nil {
		return iamkeys.Failed(iamkeys.Internal, err, "The organization's report of run %s could not be written as HTML.", m.run.RunID)
	}
	if _, err := csv.Seek(0, io.SeekStart); err != nil {
		return iamkeys.Failed(iamkeys.Internal, err, "The table of run %s's findings could not be read back.", m.run.RunID)
	}
	for _, form := range []struct {
		ending, contentType string
		content             io.ReadSeeker
	}{
		{".txt", "text/plain; charset=utf-8", bytes.NewReader(m.Render.Text(r, "s3://"+m.Bucket+"/"+prefix, 0))},
		{".csv", "text/csv; charset=utf-8", csv},
		{".html", "text/html; charset=utf-8", bytes.NewReader(html)},
		{".json", "application/json", bytes.NewReader(content)},
	} {
		if err := m.S3.PutObject(ctx, prefix+form.ending, form.contentType, form.content, nil); err != nil {
			return iamkeys.Failed(iamkeys.StoreFailed, err, "The organization's report could not be stored at %s%s (%s), so it was not published. Run merge again: it does both.", prefix, form.ending, iamkeys.CodeOf(err))
		}
	}
	return nil
}

func (m *merge) metrics(r Organization, took time.Duration) []Metric {
	s := r.Summary
	// Accounts weigh as users do: one that was not examined must alarm, whatever is known of it.
	notExamined := s.Accounts.NotExamined + s.Coverage.notExamined()
	return append(slices.DeleteFunc(metrics(Report{Summary: s.Summary}, 0, took), func(f Metric) bool { return f.Name == "NotExamined" || f.Name == "ApiCalls" }),
		Metric{"NotExamined", "Count", float64(notExamined)}, Metric{"Accounts", "Count", float64(s.Accounts.Total)}, Metric{"AccountsNotExamined", "Count", float64(s.Accounts.NotExamined)})
}
