package notice

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// KindDigest is the kind of the security team's digest.
const KindDigest Kind = "digest"

// DigestS3 is what [Digest] asks of S3, on the report bucket.
type DigestS3 interface {
	iamkeys.GetObject
	iamkeys.PutObject
}

// Digest sends each owner one mail with what an audit found of their users' keys, over
// all accounts, when something in it is new to them; then the security team, on the
// topic, what no owner was told of. Without owner mail it does nothing.
//
// It may be repeated: a marker for each owner, written after sending, holds what the
// owner was told of.
type Digest struct {
	Send     Send
	S3       DigestS3
	Bucket   string // name of the report bucket
	OwnerTag string
	Now      func() time.Time
	Log      *slog.Logger
}

// DigestInput is what Digest takes: the report of a run, or the record by which Lambda
// hands on what an audit answered.
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
type DigestInput struct {
	Report *audit.ReportLocation `json:"report,omitempty"`

	Version         string          `json:"version,omitempty"`
	Timestamp       string          `json:"timestamp,omitempty"`
	RequestContext  json.RawMessage `json:"requestContext,omitempty"`
	RequestPayload  json.RawMessage `json:"requestPayload,omitempty"`
	ResponseContext json.RawMessage `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage `json:"responsePayload,omitempty"`
}

// DigestOutput is what Digest returns.
type DigestOutput struct {
	Sent    int `json:"sent"`    // mails to owners
	Unowned int `json:"unowned"` // users with findings that no owner gets mail of
	Failed  int `json:"failed"`  // mails to owners that could not be sent; the next run tries again
}

// prefixes are where reports are: of an account or the organization, and of which run.
var prefixes = regexp.MustCompile(`^reports/(\d{12}|organization)/(\d{4})/(\d{2})/(\d{2})/([A-Za-z0-9_-]{1,128})$`)

// location gives where the report is.
func (in DigestInput) location() (at audit.ReportLocation, err error) {
	switch {
	case in.Report != nil && in.ResponsePayload != nil:
		return at, iamkeys.Refuse(iamkeys.InvalidInput, "report does not go with the fields of a destination's record.")
	case in.Report != nil:
		at = *in.Report
	case in.ResponsePayload == nil:
		return at, iamkeys.Refuse(iamkeys.InvalidInput, "report is missing: {bucket, prefix} as audit and merge answer it.")
	default:
		var answer struct{ Report audit.ReportLocation }
		if json.Unmarshal(in.ResponsePayload, &answer) != nil {
			return at, iamkeys.Refuse(iamkeys.InvalidInput, "responsePayload must be what audit answered.")
		}
		at = answer.Report
	}
	if !prefixes.MatchString(at.Prefix) {
		return at, iamkeys.Refuse(iamkeys.InvalidInput, "report.prefix must be a report's place, as audit and merge answer it; got %s.", iamkeys.Quoted(at.Prefix))
	}
	return at, nil
}

// Validate refuses a malformed input with InvalidInput.
func (in DigestInput) Validate() error {
	_, err := in.location()
	return err
}

// Run sends the digests. Its errors are StoreFailed, when a report or marker could not be
// read or written, and NotifyFailed, when the security team's digest could not be sent;
// doing it again goes on.
func (o Digest) Run(ctx context.Context, in DigestInput) (out DigestOutput, err error) {
	at, err := in.location()
	if err != nil || o.Send.SES == nil {
		return out, err
	}
	if at.Bucket != o.Bucket {
		return out, iamkeys.Refuse(iamkeys.InvalidInput, "report.bucket must be %s; got %s.", o.Bucket, iamkeys.Quoted(at.Bucket))
	}
	d, err := o.read(ctx, at.Prefix)
	if err != nil || d == nil {
		return out, err
	}
	var sending sync.WaitGroup
	owners := make(chan string)
	for range mailers {
		sending.Go(func() {
			for address := range owners {
				o.tell(ctx, d, address)
			}
		})
	}
	for _, address := range slices.Sorted(maps.Keys(d.owners)) {
		owners <- address
	}
	close(owners)
	sending.Wait()
	out = DigestOutput{Sent: d.sent, Unowned: len(d.unowned), Failed: len(d.failed)}
	if err := o.tellTeam(ctx, d); err != nil {
		return out, err
	}
	if d.unstored != nil {
		return out, iamkeys.Failed(iamkeys.StoreFailed, d.unstored, "What some owners were told of could not be read or noted (%s). Run it again: owners of whom that is noted get nothing twice.", iamkeys.CodeOf(d.unstored))
	}
	return out, nil
}

// mailers is how many mails are sent at a time; SES bounds an account's rate.
const mailers = 4

// digest is what one run has to tell.
type digest struct {
	runID   string
	of      string // the account's ID, or organization
	asOf    time.Time
	owners  map[string]*share    // by address
	unowned map[string]*userless // by account and user

	mu       sync.Mutex // over what follows
	sent     int
	failed   []failedMail
	unstored error // the last marker that could not be read or written
}

// A share is what concerns one owner.
type share struct{ open, exempt []found }

// A found is a finding in its account.
type found struct {
	audit.Finding
	in  string    // the account, with its name
	due time.Time // when it becomes overdue, or counts again; zero for all others
}

// A userless is a user that no owner gets mail of.
type userless struct {
	Account  string         `json:"account"`
	UserName string         `json:"userName"`
	Owner    *string        `json:"owner"` // the tag's value, which is no address that may be written to
	Findings int            `json:"findings"`
	Severity audit.Severity `json:"severity"` // the worst

	arn string
}

// A failedMail is one that could not be sent.
type failedMail struct {
	Owner string `json:"owner"`
	Error string `json:"error"`
}

// storedReport is what of a stored report is read: an account's, or the organization's.
type storedReport struct {
	Summary struct {
		RunID      string           `json:"runId"`
		Account    string           `json:"account"`
		AsOf       time.Time        `json:"asOf"`
		Thresholds audit.Thresholds `json:"thresholds"`
	} `json:"summary"`
	Accounts []audit.AccountRow `json:"accounts"`
	Findings []audit.Finding    `json:"findings"`
	Exempt   []audit.Finding    `json:"exempt"`
	Resolved []audit.Finding    `json:"resolved"`
}

func (o Digest) stored(ctx context.Context, key string) (r *storedReport, err error) {
	content, _, err := o.S3.GetObject(ctx, key)
	switch {
	case iamkeys.CodeOf(err) == iamkeys.NoSuchEntity:
		return nil, nil
	case err != nil:
		return nil, iamkeys.Failed(iamkeys.StoreFailed, err, "The report at %s could not be read (%s), so nobody was told of it. Run it again.", key, iamkeys.CodeOf(err))
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, iamkeys.Failed(iamkeys.StoreFailed, err, "The report at %s cannot be understood, so nobody was told of it.", key)
	}
	return r, nil
}

// read gives what the run has to tell, nil when it is not the latest one: then nobody was
// to be told of it, or a newer one tells more.
func (o Digest) read(ctx context.Context, prefix string) (*digest, error) {
	parts := prefixes.FindStringSubmatch(prefix)
	of, runID := parts[1], parts[5]
	latest, err := o.stored(ctx, "reports/"+of+"/latest.json")
	if err != nil || latest == nil || latest.Summary.RunID != runID {
		return nil, err
	}
	d := &digest{runID: runID, of: of, asOf: latest.Summary.AsOf, owners: map[string]*share{}, unowned: map[string]*userless{}}
	if latest.Accounts == nil {
		o.add(d, of, latest)
		return d, nil
	}
	for from := 0; from < len(latest.Accounts); from += readers {
		rows := latest.Accounts[from:min(from+readers, len(latest.Accounts))]
		reports, errs := make([]*storedReport, len(rows)), make([]error, len(rows))
		var reading sync.WaitGroup
		for i, row := range rows {
			reading.Go(func() { reports[i], errs[i] = o.stored(ctx, "reports/"+row.Account+"/latest.json") })
		}
		reading.Wait()
		for i, row := range rows {
			if errs[i] != nil {
				return nil, errs[i]
			}
			if reports[i] != nil {
				in := row.Account
				if row.Name != "" {
					in += " (" + row.Name + ")"
				}
				o.add(d, in, reports[i])
			}
		}
	}
	return d, nil
}

// readers is how many accounts' reports are read at a time.
const readers = 16

// dueDays is how far ahead a digest tells what falls due.
const dueDays = 14

// add sorts an account's findings by their owners.
func (o Digest) add(d *digest, in string, r *storedReport) {
	ownerOf := func(f audit.Finding) *share {
		address, ok := o.Send.Owners.Address(value(f.Owner))
		if !ok {
			return nil
		}
		if d.owners[address] == nil {
			d.owners[address] = &share{}
		}
		return d.owners[address]
	}
	soon := d.asOf.Add(iamkeys.DayCount(dueDays))
	for _, f := range r.Findings {
		f := found{Finding: f, in: in}
		f.Account = r.Summary.Account
		if f.Rule == audit.Aging && f.CreateDate != nil {
			if at := f.CreateDate.Add(iamkeys.DayCount(r.Summary.Thresholds.MaxAgeDays)); !at.After(soon) {
				f.due = at
			}
		}
		if owner := ownerOf(f.Finding); owner != nil {
			owner.open = append(owner.open, f)
			continue
		}
		if f.UserName == audit.RootName { // it has no tags
			continue
		}
		id := r.Summary.Account + "\n" + cmp.Or(f.UserARN, f.UserName)
		u := d.unowned[id]
		if u == nil {
			u = &userless{Account: r.Summary.Account, UserName: f.UserName, Owner: f.Owner, Severity: f.Severity, arn: f.UserARN}
			d.unowned[id] = u
		}
		u.Findings++
		if slices.Index(audit.Severities, f.Severity) < slices.Index(audit.Severities, u.Severity) {
			u.Severity = f.Severity
		}
	}
	for _, f := range r.Exempt {
		if owner := ownerOf(f); owner != nil && f.Exemption != nil {
			if last, err := time.Parse(time.DateOnly, f.Exemption.Until); err == nil && !last.After(soon) {
				owner.exempt = append(owner.exempt, found{f, in, last.AddDate(0, 0, 1)})
			}
		}
	}
	for _, f := range r.Resolved {
		ownerOf(f) // what is no longer open leaves the marker, also where nothing else is
	}
}

// id names a finding in a marker: by account, rule, user and key, as runs compare findings,
// and by the time since which it is open. So one that comes back is new also to those of
// whose marker no digest took it while it was gone.
func (f found) id() string {
	created, since := "", ""
	if rule, _ := audit.RuleOf(f.Rule); f.CreateDate != nil && !rule.OfUsers() {
		created = f.CreateDate.UTC().Format(time.RFC3339)
	}
	if f.FirstSeen != nil {
		since = f.FirstSeen.UTC().Format(time.RFC3339)
	}
	return markerID(f.Account, string(f.Rule), cmp.Or(f.UserARN, f.UserName), created, since)
}

// markerID names something of an account in a marker: the account, as it is, and the rest.
func markerID(account string, words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\n")))
	return account + " " + hex.EncodeToString(sum[:16])
}

// others gives what a marker holds of accounts that the run was not about, and so says
// nothing of: in an organization, an audit of one account alone.
func (d *digest) others(told map[string]bool) map[string]bool {
	kept := map[string]bool{}
	for id := range told {
		if d.of != "organization" && !strings.HasPrefix(id, d.of+" ") {
			kept[id] = true
		}
	}
	return kept
}

// A marker holds what somebody was told of and is still so.
type marker struct {
	Told []string `json:"told"` // sorted
}

// ownerMarker is where an owner's marker is; the security team's is that of no address.
func ownerMarker(address string) string {
	sum := sha256.Sum256([]byte(address))
	return "markers/owner/" + hex.EncodeToString(sum[:]) + ".json"
}

// told reads a marker. A damaged one holds nothing, so that all is told again.
func (o Digest) told(ctx context.Context, address string) (told map[string]bool, etag string, err error) {
	told = map[string]bool{}
	content, etag, err := o.S3.GetObject(ctx, ownerMarker(address))
	if iamkeys.CodeOf(err) == iamkeys.NoSuchEntity {
		return told, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	var m marker
	if err := json.Unmarshal(content, &m); err != nil {
		o.Log.WarnContext(ctx, "a marker is damaged: its owner is told of everything again", "marker", ownerMarker(address))
	}
	for _, id := range m.Told {
		told[id] = true
	}
	return told, etag, nil
}

// note writes a marker, over the one that was read. Another run's is left as it is.
func (o Digest) note(ctx context.Context, address, etag string, told map[string]bool) error {
	content, _ := json.Marshal(marker{slices.Sorted(maps.Keys(told))}) // strings always marshal
	err := o.S3.PutObject(ctx, ownerMarker(address), "application/json", bytes.NewReader(content), &etag)
	if iamkeys.CodeOf(err) == iamkeys.InProgress {
		return nil
	}
	return err
}

// tell sends one owner's digest, if something in it is new to them, and notes it.
func (o Digest) tell(ctx context.Context, d *digest, address string) {
	told, etag, err := o.told(ctx, address)
	if err != nil {
		d.broken(err)
		return
	}
	mine := d.owners[address]
	now, fresh := d.others(told), map[string]bool{}
	for _, f := range mine.open {
		now[f.id()] = true
		if !told[f.id()] {
			fresh[f.id()] = true
		}
	}
	if len(fresh) == 0 && len(now) == len(told) { // all that was told is still open, and nothing else
		return
	}
	if len(fresh) > 0 {
		subject, text := o.mail(*mine, fresh, d.asOf)
		if err := o.Send.Mail(ctx, address, subject, text); err != nil {
			o.Send.warn(ctx, "OwnerMailFailed", "an owner's digest failed; the security team is told", err)
			d.mu.Lock()
			d.failed = append(d.failed, failedMail{address, string(iamkeys.CodeOf(err))})
			d.mu.Unlock()
			return
		}
		d.mu.Lock()
		d.sent++
		d.mu.Unlock()
	}
	if err := o.note(ctx, address, etag, now); err != nil {
		d.broken(err)
	}
}

func (d *digest) broken(err error) {
	d.mu.Lock()
	d.unstored = err
	d.mu.Unlock()
}

// tellTeam sends the security team's digest: users that no owner gets mail of, when there
// are others than it was told of, and mails that failed.
func (o Digest) tellTeam(ctx context.Context, d *digest) error {
	told, etag, err := o.told(ctx, "")
	if err != nil {
		return iamkeys.Failed(iamkeys.StoreFailed, err, "What the security team was told of could not be read (%s). Run it again.", iamkeys.CodeOf(err))
	}
	now, fresh := d.others(told), 0
	for _, u := range d.unowned {
		id := markerID(u.Account, cmp.Or(u.arn, u.UserName))
		if now[id] = true; !told[id] {
			fresh++
		}
	}
	if fresh > 0 || len(d.failed) > 0 {
		id, err := o.Send.Publish(ctx, o.teamMessage(d, fresh))
		if err != nil {
			return iamkeys.Failed(iamkeys.NotifyFailed, err, "The security team's digest could not be published (%s). Run it again: owners get nothing twice.", iamkeys.CodeOf(err))
		}
		o.Log.InfoContext(ctx, "published digest", "runId", d.runID, "messageId", id)
	}
	if fresh > 0 || len(now) != len(told) {
		if err := o.note(ctx, "", etag, now); err != nil {
			d.broken(err)
		}
	}
	return nil
}
