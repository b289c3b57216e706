package render

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
)

// newest is how many new findings the mail names before it tells of all.
const newest = 10

// Text writes the report as a mail. It names at most limit findings, new ones
// before those that stay open, and at most as many exempt and resolved ones; what
// it leaves out it counts. A limit of 0 or less leaves nothing out. where is the
// stored report's place, without its extension; "" when it is not stored.
//
// Its lines are wrapped by [iamkeys.Wrap].
func Text(r audit.Report, where string, limit int) []byte {
	var m mail
	s := r.Summary
	where = clean(where)

	m.line(0, headline(s))
	m.line(0, fmt.Sprintf("Access keys of AWS account %s, %s", clean(s.Account), date(s.AsOf)))
	m.line(0, "")
	if !s.Coverage.Complete {
		m.line(0, strings.ToUpper("not everything was examined"))
		m.line(2, coverage(s.Coverage))
		m.line(2, "Nothing is known of what was not examined: it may be fine, or not.")
		m.line(0, "")
	}
	var counts []string
	for _, severity := range audit.Severities {
		counts = append(counts, fmt.Sprintf("%s %s", count(s.Severities.Of(severity)), severity))
	}
	m.line(0, strings.Join(counts, ", ")+"; "+count(s.Exempt)+" exempt.")
	m.line(0, changes(s))
	for _, note := range s.Notes {
		m.line(0, "Note: "+clean(note))
	}

	shown, more := pick(r.Findings, limit)
	if s.New > 0 && s.ComparedWith != nil {
		m.heading("new", s.New)
		fresh := slices.DeleteFunc(slices.Clone(shown), func(f audit.Finding) bool { return f.State != audit.New })
		for _, f := range fresh[:min(len(fresh), newest)] {
			m.item(f)
		}
		if len(fresh) > newest {
			m.line(2, fmt.Sprintf("and %s more, below", count(len(fresh)-newest)))
		}
	}
	if len(r.Resolved) > 0 {
		m.heading("resolved", s.Resolved)
		gone, moreGone := pick(r.Resolved, limit)
		for _, f := range gone {
			m.item(f)
		}
		m.more(moreGone, where)
	}
	for _, severity := range audit.Severities {
		users := byUser(shown, severity)
		if len(users) > 0 {
			m.heading(string(severity), s.Severities.Of(severity))
		}
		for i, u := range users {
			if i > 0 {
				m.line(0, "")
			}
			m.line(0, u.name)
			m.who(u.owner, u.power)
			for _, f := range u.findings {
				m.finding(f)
			}
		}
	}
	if more > 0 {
		m.line(0, "")
		m.more(more, where)
	}
	if len(r.Exempt) > 0 {
		m.heading("exempt", s.Exempt)
		spared, moreSpared := pick(r.Exempt, limit)
		for i, f := range spared {
			if i > 0 {
				m.line(0, "")
			}
			m.item(f)
			if who := owner(f); who != "" {
				m.line(4, who)
			}
			if f.Exemption != nil {
				m.line(4, fmt.Sprintf("Exempt until %s: %s", clean(f.Exemption.Until), reason(*f.Exemption)))
			}
		}
		m.more(moreSpared, where)
	}

	m.heading("about this report", -1)
	m.line(0, "Coverage. "+coverage(s.Coverage))
	m.line(0, "Source. "+source(s))
	t := s.Thresholds
	m.line(0, fmt.Sprintf("Judged as of %s: aging after %d days, overdue after %d, unused after %d without use, lingering after %d.",
		moment(s.AsOf), t.WarnAgeDays, t.MaxAgeDays, t.UnusedDays, t.LingerDays))
	m.line(0, "Run "+clean(s.RunID)+", iamkeys "+iamkeys.Version+".")
	if where != "" {
		m.line(0, "The whole report, to read (.html), for spreadsheets (.csv) and for machines (.json):")
		m.line(2, where+".html")
	}
	return m.Bytes()
}

// pick takes up to limit findings, new ones first, leaves them in their order, and
// counts the rest.
func pick(all []audit.Finding, limit int) (shown []audit.Finding, more int) {
	if limit <= 0 || len(all) <= limit {
		return all, 0
	}
	fresh := 0
	for _, f := range all {
		if f.State == audit.New {
			fresh++
		}
	}
	fresh = min(fresh, limit)
	others := limit - fresh
	for _, f := range all {
		left := &others
		if f.State == audit.New {
			left = &fresh
		}
		if *left > 0 {
			*left--
			shown = append(shown, f)
		}
	}
	return shown, len(all) - limit
}

// A mail is text under construction.
type mail struct{ bytes.Buffer }

func (m *mail) heading(title string, n int) {
	if n >= 0 {
		title += ": " + count(n)
	}
	m.line(0, "")
	m.line(0, strings.ToUpper(title))
	m.line(0, strings.Repeat("-", len(title)))
}

func (m *mail) more(n int, where string) {
	switch {
	case n > 0 && where != "":
		m.line(0, fmt.Sprintf("and %s more, in the whole report: %s.html", count(n), where))
	case n > 0:
		m.line(0, fmt.Sprintf("and %s more", count(n)))
	}
}

// item is a finding in one sentence.
func (m *mail) item(f audit.Finding) {
	who := clean(f.UserName)
	if id := keyID(f); id != "" {
		who += ", " + id
	}
	grade := string(f.Severity)
	if f.Power != iamkeys.NoPower {
		grade += ", " + lower(power(f))
	}
	m.line(2, fmt.Sprintf("%s: %s (%s)", who, lower(what(f)), clean(grade)))
}

// who is what is known of a user.
func (m *mail) who(owner, power string) {
	switch {
	case owner != "" && power != "":
		m.line(2, owner+". "+power+".")
	case owner+power != "":
		m.line(2, owner+power)
	}
}

// finding is one in full, under its user.
func (m *mail) finding(f audit.Finding) {
	m.line(0, "")
	title := what(f)
	if id := keyID(f); id != "" {
		title = id + ": " + lower(title)
	}
	if f.State == audit.New {
		title = "[new] " + title
	}
	m.line(2, fmt.Sprintf("%s (%s)", title, clean(string(f.Rule))))
	if ofKey(f) {
		m.line(4, keyFacts(f))
	}
	m.line(4, clean(f.Remedy))
	if why := invalid(f); why != "" {
		m.line(4, why)
	}
	if f.State == audit.Open && f.FirstSeen != nil {
		m.line(4, "Open since "+date(*f.FirstSeen)+".")
	}
}

// keyFacts is what is known of a finding's key: status, age, last use.
func keyFacts(f audit.Finding) string {
	var facts []string
	if f.Status != nil {
		facts = append(facts, clean(string(*f.Status)))
	}
	if f.AgeDays != nil {
		facts = append(facts, age(f)+" old")
	}
	if f.CreateDate != nil {
		facts = append(facts, "created "+date(*f.CreateDate))
	}
	use := "last used " + lastUse(f)
	switch lastUse(f) {
	case "never":
		use = "never used"
	case "unknown":
		use = "last use unknown"
	default:
		if by := usedBy(f); len(by) > 0 {
			use += " (" + strings.Join(by, ", ") + ")"
		}
		if f.IdleDays != nil && *f.IdleDays > 0 {
			use += ", idle for " + several(*f.IdleDays, "day")
		}
	}
	return strings.Join(append(facts, use), ", ") + "."
}

// lower makes the start of a sentence the middle of one.
func lower(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return ""
	}
	return string(unicode.ToLower(r)) + s[n:]
}

// line writes one paragraph, indented, wrapped at spaces. s is one line already.
func (m *mail) line(indent int, s string) {
	hanging := indent
	if indent > 0 {
		hanging += 2 // so that a paragraph's later lines are not taken for another one
	}
	m.WriteString(notice.Wrap(strings.Repeat(" ", indent), strings.Repeat(" ", hanging), s) + "\n")
}
