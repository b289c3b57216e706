package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"iamkeys/pkg/iamkeys"
)

// runs keeps one account's reports in the bucket: every run's in its four forms, and
// latest.json, the one that the next run compares with.
type runs struct {
	s3      S3
	bucket  string
	account string // twelve digits
	render  Renderer
}

// A run is what repeats of an invocation have in common.
type run struct {
	id     string
	prefix string // of the report's objects
}

func (s runs) base() string { return "reports/" + s.account + "/" }

func (s runs) at(id string, day time.Time) run {
	return run{id, s.base() + day.UTC().Format("2006/01/02/") + id}
}

// where is the place of the report's four forms, without their extensions.
func (s runs) where(r run) string { return "s3://" + s.bucket + "/" + r.prefix }

// find gives the run of those places that is stored, and its report; else the first
// place, and nil.
func (s runs) find(ctx context.Context, at []run) (run, *Report, error) {
	for _, r := range at {
		report, err := s.stored(ctx, r)
		if err != nil || report != nil {
			return r, report, err
		}
	}
	return at[0], nil, nil
}

// stored gives the run's report, nil when it is not stored.
func (s runs) stored(ctx context.Context, r run) (*Report, error) {
	content, _, err := s.s3.GetObject(ctx, r.prefix+".json")
	if iamkeys.CodeOf(err) == iamkeys.NoSuchEntity {
		return nil, nil
	}
	if err != nil {
		return nil, iamkeys.Failed(iamkeys.StoreFailed, err, "Whether run %s is stored already could not be read (%s), so nothing was done. Run it again.", r.id, iamkeys.CodeOf(err))
	}
	report, err := readRun(content, s.account, r.id)
	if err != nil {
		return nil, iamkeys.Failed(iamkeys.StoreFailed, err, "Run %s is stored at %s.json, but cannot be read: %v. Move it away, and run again.", r.id, r.prefix, err)
	}
	return report, nil
}

// readReport reads a stored report of the account and of this schema version.
func readReport(content []byte, account string) (*Report, error) {
	var r Report
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, fmt.Errorf("not a report: %w", err)
	}
	if v := r.Summary.SchemaVersion; v != SchemaVersion {
		return nil, fmt.Errorf("schema version %d, this release reads version %d", v, SchemaVersion)
	}
	if a := r.Summary.Account; a != account {
		return nil, fmt.Errorf("it is of account %s", iamkeys.Quoted(a))
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

// readRun reads the stored report of that run.
func readRun(content []byte, account, runID string) (*Report, error) {
	r, err := readReport(content, account)
	if err == nil && r.Summary.RunID != runID {
		return nil, fmt.Errorf("it is of run %s", iamkeys.Quoted(r.Summary.RunID))
	}
	return r, err
}

// latest is what latest.json holds.
type latest struct {
	report  *Report // nil when there is none, or none that can be read
	damaged string  // why it cannot be read
	etag    string  // "" when there is none
}

// notBefore reports whether it is as of the report's time or later.
func (l latest) notBefore(r Report) bool {
	return l.report != nil && !l.report.Summary.AsOf.Before(r.Summary.AsOf)
}

// latest reads latest.json; one that cannot be had, unlike a missing or damaged
// one, is StoreFailed.
func (s runs) latest(ctx context.Context) (l latest, err error) {
	content, etag, err := s.s3.GetObject(ctx, s.base()+"latest.json")
	if iamkeys.CodeOf(err) == iamkeys.NoSuchEntity {
		return l, nil
	}
	if err != nil {
		return l, iamkeys.Failed(iamkeys.StoreFailed, err, "The report before, %slatest.json, could not be read (%s), so nothing was told. Run again.", s.base(), iamkeys.CodeOf(err))
	}
	l.etag = etag
	if l.report, err = readReport(content, s.account); err != nil {
		l.damaged = err.Error()
	}
	return l, nil
}

// setLatest makes the report the one that the next run compares with, in place of
// before, which it was compared with. It reports false where something else is there by
// now, or before is not older: an older report never replaces a newer one.
func (s runs) setLatest(ctx context.Context, before latest, report Report) (written bool, err error) {
	if before.notBefore(report) {
		return false, nil
	}
	content, err := json.Marshal(report)
	if err != nil {
		return false, err
	}
	err = s.s3.PutObject(ctx, s.base()+"latest.json", "application/json", bytes.NewReader(content), &before.etag)
	if iamkeys.CodeOf(err) == iamkeys.InProgress {
		return false, nil
	}
	return err == nil, err
}

// store writes the report in its four forms, the JSON last: with it the run is stored.
func (s runs) store(ctx context.Context, r run, report Report) error {
	return s.put(ctx, r, report, nil)
}

// storeOnce stores a report that stays as it is from then on: where the run is stored
// already, it is InProgress.
func (s runs) storeOnce(ctx context.Context, r run, report Report) error {
	none := ""
	return s.put(ctx, r, report, &none)
}

func (s runs) put(ctx context.Context, r run, report Report, replaces *string) error {
	content, err := json.Marshal(report)
	if err != nil {
		return iamkeys.Failed(iamkeys.Internal, err, "The report of run %s could not be written as JSON.", r.id)
	}
	html, err := s.render.HTML(report)
	if err != nil {
		return iamkeys.Failed(iamkeys.Internal, err, "The report of run %s could not be written as HTML.", r.id)
	}
	for _, form := range []struct {
		ending, contentType string
		content             []byte
		replaces            *string
	}{
		{".txt", "text/plain; charset=utf-8", s.render.Text(report, s.where(r), 0), nil},
		{".csv", "text/csv; charset=utf-8", s.render.CSV(report), nil},
		{".html", "text/html; charset=utf-8", html, nil},
		{".json", "application/json", content, replaces},
	} {
		err := s.s3.PutObject(ctx, r.prefix+form.ending, form.contentType, bytes.NewReader(form.content), form.replaces)
		if form.replaces != nil && iamkeys.CodeOf(err) == iamkeys.InProgress {
			return err
		}
		if err != nil {
			return iamkeys.Failed(iamkeys.StoreFailed, err, "The report could not be stored at %s%s (%s), so it was not published. Run again: it does both.", r.prefix, form.ending, iamkeys.CodeOf(err))
		}
	}
	return nil
}
