package audit

import (
	"slices"
	"strings"

	"iamkeys/pkg/iamkeys"
)

// A comparison is a report on its way to being told: compared with the one before,
// and ready to be compared anew should that be another one by then.
type comparison struct {
	Report
	judged     Report               // compared with nothing
	unexamined map[string]UserFacts // as compare takes it
	before     *latest              // what it was compared with; nil when only the report says
	compared   bool                 // with any
}

// damagedNote begins the note of a report that could not be compared.
const damagedNote = "The report before cannot be read"

// with compares the report with what latest.json holds: at first with the report that
// stood there before the account was examined, then with one of a run beside. That one
// may have looked later, or earlier, at any user: what it found and this one did not
// stays open, and the next run tells whether it is resolved.
func (c *comparison) with(before latest) {
	c.Report, c.before = c.judged.clone(), &before
	if before.damaged != "" {
		c.Summary.Notes = append(c.Summary.Notes, damagedNote+" ("+before.damaged+"), so everything counts as new.")
	}
	c.compare(before.report, c.unexamined, c.compared)
	c.compared = true
}

// comparedWith reports whether the report was compared with what latest.json holds, by
// the time that both say.
func (c *comparison) comparedWith(l latest) bool {
	with := c.Summary.ComparedWith
	if with == nil || l.report == nil {
		return with == nil && l.report == nil
	}
	return with.Equal(l.report.Summary.AsOf)
}

// stored gives the comparison that a stored report is. What it says of users that were
// not examined is all that another comparison needs, but for keys of theirs that were
// known to be gone: these stay open.
func stored(r Report) *comparison {
	c := &comparison{Report: r, judged: r.clone(), unexamined: map[string]UserFacts{}, compared: true}
	for _, f := range r.Findings {
		if f.Rule == Unexamined {
			u := UserFacts{User: exempted(f), Unexamined: f.Remedy}
			u.UserName, u.ARN = f.UserName, f.UserARN
			c.unexamined[identifies(f.UserName, f.UserARN)] = u
		}
	}
	c.judged.Summary.ComparedWith, c.judged.Resolved = nil, []Finding{}
	c.judged.Summary.Notes = slices.DeleteFunc(c.judged.Summary.Notes, func(s string) bool { return strings.HasPrefix(s, damagedNote) })
	return c
}

// clone gives a report whose lists are its own.
func (r Report) clone() Report {
	r.Findings, r.Exempt, r.Resolved = slices.Clone(r.Findings), slices.Clone(r.Exempt), slices.Clone(r.Resolved)
	r.Summary.Notes = slices.Clone(r.Summary.Notes)
	return r
}

// unexamined gives the users that could not be examined, by what identifies them.
func (inv Inventory) unexamined() map[string]UserFacts {
	unexamined := map[string]UserFacts{}
	for _, u := range append([]UserFacts{inv.Root}, inv.Users...) {
		if u.Unexamined != "" {
			unexamined[identifies(u.UserName, u.ARN)] = u
		}
	}
	return unexamined
}

// Compare sets the findings' states against the report before, nil for a first
// run. A finding that is not there any more is resolved only when its user was
// examined, or user or key are gone; otherwise it stays open as it was, and an
// exempt one stays exempt while the exemption holds.
func (r *Report) Compare(before *Report, inv Inventory) { r.compare(before, inv.unexamined(), false) }

func (r *Report) compare(before *Report, unexamined map[string]UserFacts, beside bool) {
	if before == nil {
		before = &Report{}
	} else {
		r.Summary.ComparedWith = &before.Summary.AsOf
	}
	rest := map[identity][]Finding{} // of the report before, those not met again yet
	for _, f := range slices.Concat(before.Findings, before.Exempt) {
		rest[f.identity()] = append(rest[f.identity()], f)
	}
	asOf := r.Summary.AsOf
	// meet dates a finding by what it was before, and reports whether that counted.
	meet := func(f *Finding) (counted bool) {
		f.FirstSeen = &asOf
		id := f.identity()
		i := slices.IndexFunc(rest[id], f.sameKey)
		if i < 0 {
			return false
		}
		old := rest[id][i]
		rest[id] = slices.Delete(rest[id], i, i+1)
		if old.FirstSeen != nil {
			f.FirstSeen = old.FirstSeen
		}
		return old.State != Exempt
	}
	for i := range r.Findings {
		r.Findings[i].State = New
		if meet(&r.Findings[i]) {
			r.Findings[i].State = Open
		}
	}
	for i := range r.Exempt {
		meet(&r.Exempt[i])
	}
	for id, left := range rest {
		u, unread := unexamined[id.user]
		for _, f := range left {
			rule, _ := RuleOf(f.Rule)
			e := exemption(u.User, rule, asOf)
			switch stays, holds := beside || unread && !u.lacks(f), e != nil && e.Invalid == nil || beside && !unread; {
			case stays && f.State == Exempt && holds:
				r.Exempt = append(r.Exempt, f)
			case stays && f.State == Exempt:
				f.State, f.Exemption = New, e
				r.Findings = append(r.Findings, f)
			case stays:
				f.State = Open
				r.Findings = append(r.Findings, f)
			case f.State != Exempt:
				f.State = Resolved
				r.Resolved = append(r.Resolved, f)
			}
		}
	}
	r.of(r.Summary.Account) // also what stays open of a release that did not say so
	r.count()
}

// lacks reports whether the finding's key is known to be gone: the user's keys
// were listed, and it is not among them.
func (u UserFacts) lacks(f Finding) bool {
	if f.CreateDate == nil {
		return false
	}
	listed := false
	for _, k := range u.Keys {
		if sameSecond(k.CreateDate, *f.CreateDate) && f.sameKey(Finding{AccessKeyID: iamkeys.Optional(k.AccessKeyID)}) {
			return false
		}
		listed = listed || k.AccessKeyID != ""
	}
	return listed
}
