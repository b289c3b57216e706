package render

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
)

//go:embed organization.css
var organizationStylesheet string

// OrganizationText writes the organization's report as a mail: what was not examined,
// what is new, the accounts by what is worst in them, then what to look at first. It
// names at most limit findings, resolved ones, and accounts of each kind; what it leaves
// out it counts. A limit of 0 or less leaves nothing out that the report has.
func OrganizationText(r audit.Organization, where string, limit int) []byte {
	var m mail
	s := r.Summary
	where = clean(where)
	names := namesOf(r)
	accounts := slices.Clone(r.Accounts)
	notice.WorstAccountsFirst(accounts)
	several := limited(accounts, limit)

	m.line(0, title(notice.OrganizationHeadline(s)))
	m.line(0, fmt.Sprintf("Access keys of the organization, %s, %s", notice.Several(s.Accounts.Total, "account"), date(s.AsOf)))
	m.line(0, "")
	if unseen := several(func(a audit.AccountRow) bool { return !a.Examined && !a.Skipped() }); s.Accounts.NotExamined > 0 {
		m.line(0, strings.ToUpper("not examined")+": "+count(s.Accounts.NotExamined))
		m.line(0, "Nothing new is known of these accounts: they may be fine, or not.")
		for _, a := range unseen.shown {
			m.line(2, notice.Label(a.Account, a.Name)+": "+notice.WhyNot(a))
			if a.Cause != nil {
				m.line(4, clean(*a.Cause))
			}
		}
		m.more(unseen.more, where)
		m.line(0, "")
	}
	var counts []string
	for _, severity := range audit.Severities {
		counts = append(counts, fmt.Sprintf("%s %s", count(s.Severities.Of(severity)), severity))
	}
	m.line(0, strings.Join(counts, ", ")+"; "+count(s.Exempt)+" exempt.")
	m.line(0, changes(s.Summary))
	for _, note := range s.Notes {
		m.line(0, "Note: "+clean(note))
	}

	item := func(f audit.Finding) {
		who := notice.Label(f.Account, names[f.Account]) + ", " + clean(f.UserName)
		if id := keyID(f); id != "" {
			who += ", " + id
		}
		words := string(f.Severity)
		if p := power(f); p != "" {
			words += ", " + lower(p)
		}
		m.line(2, fmt.Sprintf("%s: %s (%s)", who, lower(what(f)), words))
	}
	if fresh := fresh(r.Findings); s.New > 0 && s.ComparedWith != nil {
		m.heading("new", s.New)
		shown, _ := pick(fresh, limit)
		for _, f := range shown {
			item(f)
		}
		m.more(s.New-len(shown), where)
	}
	if s.Resolved > 0 {
		m.heading("resolved", s.Resolved)
		shown, _ := pick(r.Resolved, limit)
		for _, f := range shown {
			item(f)
		}
		m.more(s.Resolved-len(shown), where)
	}
	if worst := several(func(a audit.AccountRow) bool { return a.Worst() != "" && !a.Skipped() }); len(worst.shown) > 0 {
		m.heading("accounts, worst first", -1)
		for _, a := range worst.shown {
			m.line(2, notice.Label(a.Account, a.Name)+": "+accountFindings(a))
		}
		m.more(worst.more, where)
	}
	if grave := slices.DeleteFunc(slices.Clone(r.Findings), func(f audit.Finding) bool { return f.Severity != audit.Critical && f.Severity != audit.High }); len(grave) > 0 {
		all := s.Severities.Critical + s.Severities.High
		m.heading("critical and high findings, worst first", all)
		shown := grave
		if limit > 0 {
			shown = grave[:min(limit, len(grave))]
		}
		for _, f := range shown {
			item(f)
		}
		m.more(all-len(shown), where)
	}
	if skipped := several(audit.AccountRow.Skipped); s.Accounts.Skipped > 0 {
		m.heading("skipped", s.Accounts.Skipped)
		m.line(0, "Nobody tries to examine these accounts.")
		for _, a := range skipped.shown {
			m.line(2, notice.Label(a.Account, a.Name)+": "+notice.WhyNot(a))
		}
		m.more(skipped.more, where)
	}

	m.heading("about this report", -1)
	m.line(0, "Coverage. "+notice.OrganizationCoverage(s))
	for _, a := range several(func(a audit.AccountRow) bool { return a.Incomplete }).shown {
		m.line(2, notice.Label(a.Account, a.Name)+": not every user and key was examined")
	}
	m.line(0, "Source. "+source(s.Summary))
	m.line(0, "Run "+clean(s.RunID)+" of "+clean(s.Day)+".")
	if where != "" {
		m.line(0, "The whole report, to read (.html), for spreadsheets (.csv, with every finding) and for machines (.json):")
		m.line(2, where+".html")
	}
	return m.Bytes()
}

// some are accounts, and how many more there are.
type some struct {
	shown []audit.AccountRow
	more  int
}

// limited gives what takes accounts of a kind, at most that many; 0 for all.
func limited(accounts []audit.AccountRow, limit int) func(func(audit.AccountRow) bool) some {
	return func(kind func(audit.AccountRow) bool) some {
		all := slices.DeleteFunc(slices.Clone(accounts), func(a audit.AccountRow) bool { return !kind(a) })
		if limit <= 0 || len(all) <= limit {
			return some{all, 0}
		}
		return some{all[:limit], len(all) - limit}
	}
}

// namesOf gives the accounts' names by ID.
func namesOf(r audit.Organization) map[string]string {
	names := map[string]string{}
	for _, a := range r.Accounts {
		names[a.Account] = a.Name
	}
	return names
}

// accountFindings says what is in an account.
func accountFindings(a audit.AccountRow) string {
	var said []string
	for _, s := range audit.Severities {
		if n := a.Severities.Of(s); n > 0 {
			said = append(said, count(n)+" "+string(s))
		}
	}
	if a.New > 0 {
		said = append(said, count(a.New)+" new")
	}
	if a.OldestKeyDays != nil {
		said = append(said, "oldest key "+notice.Several(*a.OldestKeyDays, "day"))
	}
	if !a.Examined {
		said = append(said, "as of its last report")
	}
	return strings.Join(said, ", ")
}

// known is a figure of the account; of one without any report nothing is, not even 0.
func known(a audit.AccountRow, n int) string {
	if a.Users == nil {
		return "?"
	}
	return count(n)
}

// asOfBefore says what the figures are of an account that was not examined.
func asOfBefore(a audit.AccountRow) string {
	if a.Users == nil {
		return "nothing is known of it"
	}
	return "figures as of its last report"
}

// organizationHeader are the columns that the organization's table has beside an
// account's own.
var organizationHeader = []string{"accountName", "accountExamined", "accountReason"}

// OrganizationCSV writes the header of the organization's table to w, and gives what
// writes the rows of one account: those of its report, as [CSV] has them, and one with
// the state notExamined where it was not.
func OrganizationCSV(w io.Writer, run audit.OrganizationSummary) func(audit.AccountRow, audit.Report) error {
	table := csv.NewWriter(w) // its errors stay until Flush
	table.UseCRLF = true
	table.Write(slices.Concat(header, organizationHeader))
	return func(a audit.AccountRow, r audit.Report) error {
		s := r.Summary
		s.Account, s.RunID, s.AsOf = a.Account, run.RunID, run.AsOf
		reason := ""
		if a.Reason != nil {
			reason = string(*a.Reason)
		}
		about := allInert([]string{a.Name, fmt.Sprint(a.Examined), reason})
		if !a.Examined {
			row := make([]string, len(header))
			row[0], row[1], row[2], row[3] = s.Account, s.RunID, s.AsOf.UTC().Format(time.RFC3339), "notExamined"
			row[slices.Index(header, "complete")] = "false"
			table.Write(slices.Concat(allInert(row), about))
			s.Coverage.UsersExamined, s.Coverage.KeysExamined, s.Coverage.Complete = 0, 0, false
		}
		for _, list := range [][]audit.Finding{r.Findings, r.Exempt, r.Resolved} {
			for _, f := range list {
				table.Write(slices.Concat(cells(s, f), about))
			}
		}
		table.Flush()
		return table.Error()
	}
}

// OrganizationHTML writes the organization's report as one page that needs nothing
// else: no script, nothing fetched.
func OrganizationHTML(r audit.Organization) ([]byte, error) {
	var b bytes.Buffer
	r.Accounts = slices.Clone(r.Accounts)
	notice.WorstAccountsFirst(r.Accounts)
	if err := organizationPage(r, namesOf(r)).Render(context.Background(), &b); err != nil {
		return nil, fmt.Errorf("render the organization's report as HTML: %w", err)
	}
	return b.Bytes(), nil
}

// fewAccounts is how many accounts of a reason the page names at its top.
const fewAccounts = 12

// A kind is accounts that a reader looks at together.
type kind struct {
	class    string // of the style sheet
	what     string // what they have in common, behind their number
	why      string // why they were not examined
	accounts []audit.AccountRow
}

// byReason groups the accounts that were to be examined and were not, the largest group first.
func byReason(accounts []audit.AccountRow) []kind {
	var groups []kind
	for _, a := range accounts {
		if a.Examined || a.Skipped() {
			continue
		}
		why := notice.WhyNot(a)
		i := slices.IndexFunc(groups, func(g kind) bool { return g.why == why })
		if i < 0 {
			i = len(groups)
			groups = append(groups, kind{why: why})
		}
		groups[i].accounts = append(groups[i].accounts, a)
	}
	slices.SortStableFunc(groups, func(a, b kind) int { return len(b.accounts) - len(a.accounts) })
	return groups
}

// byWorst groups all accounts by the worst that is in them.
func byWorst(accounts []audit.AccountRow) []kind {
	groups := []kind{{class: "notexamined", what: "not examined"}}
	for _, s := range audit.Severities {
		groups = append(groups, kind{class: string(s), what: "with " + string(s) + " findings"})
	}
	groups = append(groups, kind{class: "fine", what: "without a finding"}, kind{class: "skipped", what: "skipped"})
	for _, a := range accounts {
		class := cmp.Or(string(a.Worst()), "fine")
		switch {
		case a.Skipped():
			class = "skipped"
		case !a.Examined:
			class = "notexamined"
		}
		i := slices.IndexFunc(groups, func(g kind) bool { return g.class == class })
		groups[i].accounts = append(groups[i].accounts, a)
	}
	return slices.DeleteFunc(groups, func(g kind) bool { return len(g.accounts) == 0 })
}

// having counts the accounts that have findings of the severity.
func having(accounts []audit.AccountRow, s audit.Severity) (n int) {
	for _, a := range accounts {
		if a.Severities.Of(s) > 0 {
			n++
		}
	}
	return n
}

// shares lays groups of accounts out side by side, as wide as they are large.
func shares(groups []kind) []bar {
	total, at := 0, 0
	for _, g := range groups {
		total += len(g.accounts)
	}
	var bars []bar
	for _, g := range groups {
		n := len(g.accounts)
		bars = append(bars, bar{
			x: fmt.Sprintf("%.2f%%", 100*float64(at)/float64(total)), width: fmt.Sprintf("%.2f%%", 100*float64(n)/float64(total)),
			zone: g.class, label: notice.Several(n, "account") + " " + g.what,
		})
		at += n
	}
	return bars
}
