package audit

import (
	"context"
	"log/slog"
	"time"

	"iamkeys/pkg/iamkeys"
)

// S3 is what [Audit] asks of S3, on the report bucket.
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

// A Tell says when the audit sends its report.
type Tell string

// When to send.
const (
	TellAlways   Tell = "always"
	TellFindings Tell = "findings" // when something is open, new or resolved, or coverage is incomplete
	TellChanges  Tell = "changes"  // when something is new or resolved, or coverage is incomplete
	TellNever    Tell = "never"
)

// Audit examines every user's access keys, stores a report and sends it.
//
// A run may be repeated: a report that is stored already is sent as it is, and
// one that was sent as well is only answered from. Runs may overlap: each is stored,
// then held against latest.json as it is by then, sent, and made latest.json only
// where nothing else has taken its place.
type Audit struct {
	Inventory     TakeInventory
	S3            S3
	SNS           iamkeys.Publish
	STS           iamkeys.AssumeRole
	SecurityHub   iamkeys.BatchImportFindings
	SendsFindings bool   // to Security Hub
	Region        string // of the stack
	As            func(iamkeys.Session) Access
	Role          MemberRole // by which other accounts are examined
	Render        Renderer
	Message       func(r Report, where string) iamkeys.Message // what is sent of a report that is stored at where
	Account       string                                       // ID of the account, twelve digits
	Bucket        string                                       // name of the report bucket
	Thresholds    Thresholds
	OwnerTag      string
	Tell          Tell
	RequestID     func(context.Context) string
	Calls         func() int // made to IAM so far, each attempt counted
	Emit          func([]Metric)
	Now           func() time.Time
	Log           *slog.Logger
}

// Input is what Audit takes when it is invoked directly; all fields are optional.
type Input struct {
	AsOf      *time.Time `json:"asOf,omitempty"`      // judge today's facts as of then; such a run compares with nothing and is not sent unless Tell says so
	Inventory Source     `json:"inventory,omitempty"` // default credentialReport
	Tell      Tell       `json:"notify,omitempty"`    // default: the parameter Notify; never: the run does not become latest.json either

	// One account in a run over the organization: Account, RunID and Day come together.
	Account string  `json:"account,omitempty"`
	Name    string  `json:"name"` // a label, which may be empty
	RunID   string  `json:"runId,omitempty"`
	Day     string  `json:"day,omitempty"`    // yyyy-mm-dd
	Failed  *Failed `json:"failed,omitempty"` // only note that the account's audit failed so

	// EventTime is when the event is of that started the run, zero without one.
	EventTime time.Time `json:"-"`
}

// Output is what Audit returns: the report's summary and where it is.
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
	switch in.Tell {
	case "", TellAlways, TellFindings, TellChanges, TellNever:
	default:
		return iamkeys.Refuse(iamkeys.InvalidInput, "notify must be always, findings, changes or never; got %s.", iamkeys.Quoted(string(in.Tell)))
	}
	if in.AsOf != nil && (in.AsOf.Year() < 2010 || in.AsOf.Year() > 2200) {
		return iamkeys.Refuse(iamkeys.InvalidInput, "asOf must be a time such as 2026-01-31T00:00:00Z, from 2010 to 2200; got %s.", in.AsOf.Format(time.RFC3339))
	}
	return in.validateMember()
}

// Run audits the account. Its errors are InventoryUnavailable (nothing could be
// judged; when there are users but none could be examined, the report is sent
// first), StoreFailed and NotifyFailed (doing it again continues); of a member account
// in addition RoleUnavailable.
func (o Audit) Run(ctx context.Context, in Input) (Output, error) {
	if in.Account != "" {
		return o.member(ctx, in)
	}
	runs := o.runs(o.Account)
	compares := in.AsOf == nil                // a run as of another time stands for itself
	noted := compares && in.Tell != TellNever // what nobody is told stays new
	var before latest
	var err error
	if compares {
		// Before the look for the run: what a delivery beside this one has made
		// the latest report by now, it has stored, too.
		if before, err = runs.latest(ctx); err != nil {
			return Output{}, err
		}
	}
	r, report, err := runs.find(ctx, o.places(ctx, runs, in))
	if err != nil {
		return Output{}, err
	}
	var c *comparison
	if report == nil {
		if c, err = o.examine(ctx, in, runs, r, before); err != nil {
			return Output{}, err
		}
		if err := runs.store(ctx, r, c.Report); err != nil {
			return Output{}, err
		}
	} else {
		c = stored(*report)
	}
	done := report != nil && compares // of a run that nobody is told of
	if noted {
		if done, err = o.settle(ctx, runs, r, c); err != nil {
			return Output{}, err
		}
	}
	out := Output{Summary: c.Summary, Report: ReportLocation{o.Bucket, r.prefix}}
	if !done && o.tells(in, c.Report) {
		id, err := o.SNS.Publish(ctx, o.Message(c.Report, runs.where(r)))
		if err != nil {
			return out, iamkeys.Failed(iamkeys.NotifyFailed, err, "The report is stored at %s.html, but could not be published (%s). Run the same event again: it publishes the stored report.", runs.where(r), iamkeys.CodeOf(err))
		}
		o.Log.InfoContext(ctx, "published report", "runId", r.id, "messageId", id)
		out.Notified, out.MessageID = true, &id
	}
	if !done && noted {
		switch written, err := runs.setLatest(ctx, *c.before, c.Report); {
		case err != nil:
			return out, iamkeys.Failed(iamkeys.StoreFailed, err, "The report is stored and, where it is to be, published, but latest.json could not be written (%s). Run again; it may send the report once more.", iamkeys.CodeOf(err))
		case !written:
			o.Log.InfoContext(ctx, "latest.json is another run's by now", "runId", r.id)
		}
	}
	if cov := c.Summary.Coverage; cov.Users > 0 && cov.UsersExamined == 0 {
		return out, iamkeys.Refuse(iamkeys.InventoryUnavailable, "None of the account's %d users could be examined. The report at %s.html says why; nothing is known of their keys.", cov.Users, runs.where(r))
	}
	if !done && noted {
		o.Emit([]Metric{{"AuditCompleted", "Count", 1}})
	}
	return out, nil
}

func (o Audit) runs(account string) runs {
	return runs{s3: o.S3, bucket: o.Bucket, account: account, render: o.Render}
}

// places says where the run may be stored. An event fixes name and day; a direct
// invocation keeps its request ID when it is retried, maybe past midnight.
func (o Audit) places(ctx context.Context, s runs, in Input) []run {
	if !in.EventTime.IsZero() {
		return []run{s.at(in.EventTime.UTC().Format("20060102T150405Z"), in.EventTime)}
	}
	id, today := o.RequestID(ctx), o.Now()
	return []run{s.at(id, today), s.at(id, today.Add(-24*time.Hour))}
}

// examine takes the account's inventory, judges it and, unless the input is as of
// another time, compares it with the report before.
func (o Audit) examine(ctx context.Context, in Input, s runs, r run, before latest) (*comparison, error) {
	began, called := o.Now(), o.Calls()
	asOf := after(began, before)
	if in.AsOf != nil {
		asOf = *in.AsOf
	}
	asOf = asOf.UTC().Truncate(time.Second)
	source := in.Inventory
	if source == "" {
		source = FromCredentialReport
	}
	inv, err := o.Inventory.Run(ctx, source, func(u UserFacts) bool { return len(judgeUser(u, o.Thresholds, o.OwnerTag, asOf)) > 0 })
	if err != nil {
		return nil, err
	}
	inv.Account = s.account
	report := Judge(inv, o.Thresholds, o.OwnerTag, asOf)
	report.Summary.RunID = r.id
	c := &comparison{Report: report, judged: report, unexamined: inv.unexamined()}
	if in.AsOf == nil {
		c.with(before)
		o.Emit(metrics(c.Report, o.Calls()-called, o.Now().Sub(began)))
		if cov := c.Summary.Coverage; o.SendsFindings && (cov.Users == 0 || cov.UsersExamined > 0) {
			if err := o.sendFindings(ctx, s, c); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// maxSkew is how far the clocks of two machines may be apart.
const maxSkew = 2 * time.Minute

// after gives now, but a time after the report before, which was read and so is
// older, whatever the clock says of the machine that this one runs on.
func after(now time.Time, before latest) time.Time {
	if before.report != nil {
		if next := before.report.Summary.AsOf.Add(time.Second); next.After(now) && next.Sub(now) <= maxSkew+time.Second {
			return next
		}
	}
	return now
}

// settle holds a stored run against latest.json as it is now: where that is another
// report than the one compared with, it compares anew and stores the run again. It
// reports whether the run is done: latest.json is not earlier, so there is nothing to tell.
func (o Audit) settle(ctx context.Context, s runs, r run, c *comparison) (done bool, err error) {
	for {
		now, err := s.latest(ctx)
		switch {
		case err != nil:
			return false, err
		case c.before != nil && c.before.etag == now.etag:
			return false, nil
		case now.notBefore(c.Report):
			return true, nil
		case c.before == nil && c.comparedWith(now):
			c.before = &now
			return false, nil
		}
		c.with(now)
		if err := s.store(ctx, r, c.Report); err != nil {
			return false, err
		}
	}
}

// tells reports whether the report is to be sent.
func (o Audit) tells(in Input, r Report) bool {
	tell := in.Tell
	if tell == "" {
		tell = o.Tell
		if in.AsOf != nil {
			tell = TellNever
		}
	}
	return tell.holds(r.Summary)
}
