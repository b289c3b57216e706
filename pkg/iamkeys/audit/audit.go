package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"iamkeys/pkg/iamkeys"
)

// AuditS3 is what [Audit] asks of S3, on the report bucket.
type S3 interface {
	iamkeys.GetObject
	iamkeys.PutObject
}

// A Renderer gives the forms of a report that people read, as package render does.
type Renderer struct {
	// Text gives the mail. where is the whole report's place, without extension; at most limit
	// findings are shown, and as many resolved and exempt ones; 0 shows all.
	Text func(r Report, where string, limit int) []byte
	CSV  func(Report) []byte
	HTML func(Report) ([]byte, error)
}

// A NotifyMode says when the audit sends its report.
type NotifyMode string

// The modes.
const (
	NotifyAlways   NotifyMode = "always"
	NotifyFindings NotifyMode = "findings" // when there is a finding, or coverage is incomplete
	NotifyChanges  NotifyMode = "changes"  // when something is new or resolved, or coverage is incomplete
	NotifyNever    NotifyMode = "never"
)

// Audit examines every user's access keys, stores a report and sends it.
//
// A run may be repeated: a report that is stored already is sent as it is, and
// one that was sent as well is only answered from.
type Audit struct {
	Inventory  TakeInventory
	S3         S3
	SNS        iamkeys.Publish
	Render     Renderer
	Message    func(r Report, where string) iamkeys.Message // what is sent of a report that is stored at where
	Account    string                                       // ID of the account, twelve digits
	Bucket     string                                       // name of the report bucket
	Thresholds Thresholds
	OwnerTag   string
	Notify     NotifyMode
	RequestID  func(context.Context) string
	Calls      func() int // made to IAM so far, each attempt counted
	Emit       func([]Metric)
	Now        func() time.Time
	Log        *slog.Logger
}

// A Metric is one figure of a run.
type Metric struct {
	Name  string
	Unit  string // as CloudWatch names units
	Value float64
}

// AuditInput is what Audit takes when it is invoked directly; all fields are optional.
type Input struct {
	AsOf      *time.Time `json:"asOf,omitempty"`      // judge today's facts as of then; such a run compares with nothing and is not sent unless Notify says so
	Inventory Source     `json:"inventory,omitempty"` // default credentialReport
	Notify    NotifyMode `json:"notify,omitempty"`    // default: the parameter Notify

	// EventTime is when the event is of that started the run, zero without one.
	EventTime time.Time `json:"-"`
}

// AuditOutput is what Audit returns: the report's summary and where it is.
type Output struct {
	Summary
	Notified  bool           `json:"notified"`
	MessageID *string        `json:"messageId"`
	Report    ReportLocation `json:"report"`
}

// ReportLocation says where a report is: at Prefix + ".json", ".csv", ".html" and ".txt".
type ReportLocation struct {
	Bucket string `json:"bucket"`
	Prefix string `json:"prefix"`
}

// Validate refuses a malformed input with InvalidInput.
func (in Input) Validate() error {
	switch in.Inventory {
	case "", FromCredentialReport, FromLive:
	default:
		return iamkeys.Refuse(iamkeys.InvalidInput, "inventory must be credentialReport or live; got %s.", iamkeys.Quoted(string(in.Inventory)))
	}
	switch in.Notify {
	case "", NotifyAlways, NotifyFindings, NotifyChanges, NotifyNever:
	default:
		return iamkeys.Refuse(iamkeys.InvalidInput, "notify must be always, findings, changes or never; got %s.", iamkeys.Quoted(string(in.Notify)))
	}
	if in.AsOf != nil && (in.AsOf.Year() < 2010 || in.AsOf.Year() > 2200) {
		return iamkeys.Refuse(iamkeys.InvalidInput, "asOf must be a time such as 2026-01-31T00:00:00Z, from 2010 to 2200; got %s.", in.AsOf.Format(time.RFC3339))
	}
	return nil
}

// Run audits the account. Its errors are InventoryUnavailable (nothing could be
// judged; when there are users but none could be examined, the report is sent
// first), StoreFailed and NotifyFailed (doing it again continues).
func (o Audit) Run(ctx context.Context, in Input) (Output, error) {
	var before latest
	var err error
	if in.AsOf == nil {
		// Before the look for the run: what a delivery beside this one has made
		// the latest report by now, it has stored, too.
		if before, err = o.latest(ctx); err != nil {
			return Output{}, err
		}
	}
	run, stored, err := o.find(ctx, in)
	if err != nil {
		return Output{}, err
	}
	report, done := stored, false
	switch {
	case report == nil:
		if report, err = o.take(ctx, in, run, before); err != nil {
			return Output{}, err
		}
		if err := o.store(ctx, run, *report); err != nil {
			return Output{}, err
		}
	case in.AsOf == nil:
		if before, err = o.latest(ctx); err != nil {
			return Output{}, err
		}
		done = before.report != nil && !before.report.Summary.AsOf.Before(report.Summary.AsOf)
	}
	out := Output{Summary: report.Summary, Report: ReportLocation{o.Bucket, run.prefix}}
	if !done && o.due(in, *report) {
		id, err := o.SNS.Publish(ctx, o.Message(*report, o.where(run)))
		if err != nil {
			return out, iamkeys.Failed(iamkeys.NotifyFailed, err, "The report is stored at %s.html, but could not be published (%s). Run the same event again: it publishes the stored report.", o.where(run), iamkeys.CodeOf(err))
		}
		o.Log.InfoContext(ctx, "published report", "runId", run.id, "messageId", id)
		out.Notified, out.MessageID = true, &id
	}
	if !done && in.AsOf == nil {
		if err := o.keep(ctx, *report); err != nil {
			return out, err
		}
	}
	if c := report.Summary.Coverage; c.Users > 0 && c.UsersExamined == 0 {
		return out, iamkeys.Refuse(iamkeys.InventoryUnavailable, "None of the account's %d users could be examined. The report at %s.html says why; nothing is known of their keys.", c.Users, o.where(run))
	}
	if !done && in.AsOf == nil {
		o.Emit([]Metric{{"AuditCompleted", "Count", 1}})
	}
	return out, nil
}

// A run is what repeats of an invocation have in common.
type run struct {
	id     string
	prefix string // of the report's objects
}

func (o Audit) base() string { return "reports/" + o.Account + "/" }

func (o Audit) runAt(id string, day time.Time) run {
	return run{id, o.base() + day.UTC().Format("2006/01/02/") + id}
}

// where is the place of the report's four forms, without their extensions.
func (o Audit) where(r run) string { return "s3://" + o.Bucket + "/" + r.prefix }

// find names the run, and gives its report if it is stored already. An event
// fixes name and day; a direct invocation keeps its request ID when it is
// retried, maybe past midnight.
func (o Audit) find(ctx context.Context, in Input) (run, *Report, error) {
	var at []run
	if !in.EventTime.IsZero() {
		at = []run{o.runAt(in.EventTime.UTC().Format("20060102T150405Z"), in.EventTime)}
	} else {
		id, today := o.RequestID(ctx), o.Now()
		at = []run{o.runAt(id, today), o.runAt(id, today.Add(-24*time.Hour))}
	}
	for _, r := range at {
		content, _, err := o.S3.GetObject(ctx, r.prefix+".json")
		if iamkeys.CodeOf(err) == iamkeys.NoSuchEntity {
			continue
		}
		if err != nil {
			return run{}, nil, iamkeys.Failed(iamkeys.StoreFailed, err, "Whether run %s is stored already could not be read (%s), so nothing was done. Run it again.", r.id, iamkeys.CodeOf(err))
		}
		report, err := readReport(content)
		if err != nil {
			return run{}, nil, iamkeys.Failed(iamkeys.StoreFailed, err, "Run %s is stored at %s.json, but cannot be read: %v. Move it away, and run again.", r.id, r.prefix, err)
		}
		return r, report, nil
	}
	return at[0], nil, nil
}

// readReport reads a stored report of this schema version.
func readReport(content []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, fmt.Errorf("not a report: %w", err)
	}
	if v := r.Summary.SchemaVersion; v != SchemaVersion {
		return nil, fmt.Errorf("schema version %d, this release reads version %d", v, SchemaVersion)
	}
	if r.Summary.AsOf.IsZero() {
		return nil, errors.New("it does not say when it was made")
	}
	if r.Findings == nil {
		return nil, errors.New("it has no list of findings")
	}
	for _, f := range slices.Concat(r.Findings, r.Exempt, r.Resolved) {
		if f.Rule == "" || f.Severity == "" || f.UserName == "" {
			return nil, errors.New("a finding in it has no rule, severity or user")
		}
	}
	return &r, nil
}

// latest is the report to compare with.
type latest struct {
	report  *Report // nil when there is none, or none that can be read
	damaged string  // why it cannot be read
	etag    string  // "" when there is none
}

// latest reads latest.json; one that cannot be had, unlike a missing or damaged
// one, is StoreFailed.
func (o Audit) latest(ctx context.Context) (l latest, err error) {
	content, etag, err := o.S3.GetObject(ctx, o.base()+"latest.json")
	if iamkeys.CodeOf(err) == iamkeys.NoSuchEntity {
		return l, nil
	}
	if err != nil {
		return l, iamkeys.Failed(iamkeys.StoreFailed, err, "The report before could not be read (%s), so nothing was judged. Run again.", iamkeys.CodeOf(err))
	}
	l.etag = etag
	if l.report, err = readReport(content); err != nil {
		l.damaged = err.Error()
	}
	return l, nil
}

// take examines the account and judges it.
func (o Audit) take(ctx context.Context, in Input, r run, before latest) (*Report, error) {
	began := o.Now()
	asOf := began
	if in.AsOf != nil {
		asOf = *in.AsOf
	}
	asOf = asOf.UTC().Truncate(time.Second)
	source := in.Inventory
	if source == "" {
		source = FromCredentialReport
	}
	called := o.Calls()
	inv, err := o.Inventory.Run(ctx, source, func(u UserFacts) bool { return len(judgeUser(u, o.Thresholds, o.OwnerTag, asOf)) > 0 })
	if err != nil {
		return nil, err
	}
	report := Judge(inv, o.Thresholds, o.OwnerTag, asOf)
	report.Summary.RunID, report.Summary.Account = r.id, o.Account
	if in.AsOf == nil {
		if before.damaged != "" {
			report.Summary.Notes = append(report.Summary.Notes, "The report before cannot be read ("+before.damaged+"), so everything counts as new.")
		}
		report.Compare(before.report, inv)
		o.Emit(metrics(report, o.Calls()-called, o.Now().Sub(began)))
	}
	return &report, nil
}

func metrics(r Report, calls int, took time.Duration) []Metric {
	s := r.Summary
	oldest := 0
	if s.KeyAges.OldestDays != nil {
		oldest = *s.KeyAges.OldestDays
	}
	return []Metric{
		{"FindingsCritical", "Count", float64(s.Severities.Critical)},
		{"FindingsHigh", "Count", float64(s.Severities.High)},
		{"FindingsMedium", "Count", float64(s.Severities.Medium)},
		{"FindingsLow", "Count", float64(s.Severities.Low)},
		{"Keys", "Count", float64(s.Coverage.Keys)},
		{"OldestKeyAgeDays", "None", float64(oldest)},
		{"NotExamined", "Count", float64(s.Coverage.notExamined())},
		{"AuditDuration", "Milliseconds", float64(took.Milliseconds())},
		{"ApiCalls", "Count", float64(calls)},
	}
}

// store writes the report in its four forms, the JSON last: with it the run is stored.
func (o Audit) store(ctx context.Context, r run, report Report) error {
	content, err := json.Marshal(report)
	if err != nil {
		return iamkeys.Failed(iamkeys.Internal, err, "The report of run %s could not be written as JSON.", r.id)
	}
	html, err := o.Render.HTML(report)
	if err != nil {
		return iamkeys.Failed(iamkeys.Internal, err, "The report of run %s could not be written as HTML.", r.id)
	}
	for _, form := range []struct {
		ending, contentType string
		content             []byte
	}{
		{".txt", "text/plain; charset=utf-8", o.Render.Text(report, o.where(r), 0)},
		{".csv", "text/csv; charset=utf-8", o.Render.CSV(report)},
		{".html", "text/html; charset=utf-8", html},
		{".json", "application/json", content},
	} {
		if err := o.S3.PutObject(ctx, r.prefix+form.ending, form.contentType, form.content, nil); err != nil {
			return iamkeys.Failed(iamkeys.StoreFailed, err, "The report could not be stored at %s%s (%s), so it was not published. Run again: it does both.", r.prefix, form.ending, iamkeys.CodeOf(err))
		}
	}
	return nil
}

// keep makes the report the one that the next run compares with, unless a newer
// one is there by now. Of runs that end at the same time, all but one look again.
func (o Audit) keep(ctx context.Context, report Report) error {
	err := o.replaceLatest(ctx, report)
	for again := 0; again < 4 && iamkeys.CodeOf(err) == iamkeys.InProgress; again++ {
		err = o.replaceLatest(ctx, report)
	}
	if err != nil {
		return iamkeys.Failed(iamkeys.StoreFailed, err, "The report is stored and, where due, published, but latest.json could not be written (%s). Run again; it may send the report once more.", iamkeys.CodeOf(err))
	}
	return nil
}

// replaceLatest is one attempt at that; InProgress says that another run was faster.
func (o Audit) replaceLatest(ctx context.Context, report Report) error {
	now, err := o.latest(ctx)
	if err != nil || now.report != nil && now.report.Summary.AsOf.After(report.Summary.AsOf) {
		return err
	}
	content, err := json.Marshal(report)
	if err != nil {
		return err
	}
	return o.S3.PutObject(ctx, o.base()+"latest.json", "application/json", content, &now.etag)
}

// due reports whether the report is to be sent.
func (o Audit) due(in Input, r Report) bool {
	mode := in.Notify
	if mode == "" {
		mode = o.Notify
		if in.AsOf != nil {
			mode = NotifyNever
		}
	}
	switch incomplete := !r.Summary.Coverage.Complete; mode {
	case NotifyAlways:
		return true
	case NotifyFindings:
		return incomplete || len(r.Findings) > 0
	case NotifyChanges:
		return incomplete || r.Summary.New > 0 || r.Summary.Resolved > 0
	}
	return false
}
