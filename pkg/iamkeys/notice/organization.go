package notice

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// Organization gives what makes a report of the organization, stored at where, fit for
// SNS: as many findings and accounts as its size allows. text gives the mail, as
// render.OrganizationText does.
func Organization(text func(r audit.Organization, where string, limit int) []byte) func(r audit.Organization, where string) iamkeys.Message {
	return func(r audit.Organization, where string) iamkeys.Message {
		s := r.Summary
		accounts := slices.Clone(r.Accounts)
		WorstAccountsFirst(accounts)
		return fit(max(len(r.Findings), len(r.Resolved), len(r.Accounts)), func(most int) iamkeys.Message {
			cut := r
			cut.Findings, cut.Resolved, cut.Accounts = head(r.Findings, most), head(r.Resolved, most), accounts[:min(most, len(accounts))]
			omitted := len(r.Findings) + len(r.Resolved) + len(r.Accounts) - len(cut.Findings) - len(cut.Resolved) - len(cut.Accounts)
			if r.Omitted != nil {
				omitted += *r.Omitted
			}
			cut.Omitted = &omitted
			content, _ := json.Marshal(cut) // it was marshalled before, when it was stored
			return iamkeys.Message{
				Subject:   subject("IAM access keys, organization: " + OrganizationHeadline(s)),
				Text:      string(text(r, where, min(max(most, 1), mailLimit))),
				JSON:      content,
				Brief:     organizationInBrief(r, accounts),
				NextSteps: nextSteps(r.Findings, where),
				Attributes: []iamkeys.Attribute{
					{Name: "kind", Value: "organization"},
					{Name: "severity", Value: cmp.Or(string(r.Highest()), "none")},
					{Name: "account", Value: s.Account},
					{Name: "new", Value: strconv.Itoa(s.New), Number: true},
					{Name: "findings", Value: strconv.Itoa(s.New + s.Open), Number: true},
				},
			}
		})
	}
}

// organizationInBrief is the report as a chat has it, with its accounts worst first.
func organizationInBrief(r audit.Organization, accounts []audit.AccountRow) string {
	s := r.Summary
	lines := []string{Capital(OrganizationHeadline(s)) + "."}
	for _, a := range accounts[:min(mentioned, s.Accounts.NotExamined, len(accounts))] { // these come first
		lines = append(lines, "Not examined: "+Label(a.Account, a.Name)+", "+WhyNot(a))
	}
	if n := s.Accounts.NotExamined - mentioned; n > 0 {
		lines = append(lines, Count(n)+" more not examined.")
	}
	names := map[string]string{}
	for _, a := range accounts {
		names[a.Account] = a.Name
	}
	findings := told(r.Findings)
	for _, f := range findings {
		lines = append(lines, Label(f.Account, names[f.Account])+", "+mention(f))
	}
	if n := s.New + s.Open - len(findings); n > 0 {
		lines = append(lines, Count(n)+" more.")
	}
	return strings.Join(lines, "\n")
}

// Label names an account: its ID is what it is, its name is what people call it.
func Label(account, name string) string {
	if name = Printable(name); name == "" {
		return Printable(account)
	}
	return Printable(account) + " (" + name + ")"
}

// OrganizationHeadline says in a few words what the report comes to, first which
// accounts are missing in it.
func OrganizationHeadline(s audit.OrganizationSummary) string {
	var said []string
	switch n := s.Accounts.NotExamined; {
	case n > 0:
		said = append(said, fmt.Sprintf("%s of %s NOT EXAMINED", Count(n), Several(s.Accounts.Total, "account")))
	case !s.Coverage.Complete:
		said = append(said, "INCOMPLETE, not every user and key was examined")
	}
	switch n := s.New + s.Open; {
	case n > 0:
		said = append(said, fmt.Sprintf("%s (%s new, %s critical, %s high)", Several(n, "finding"), Count(s.New), Count(s.Severities.Critical), Count(s.Severities.High)))
	case s.Coverage.Complete:
		said = append(said, "no findings in "+Several(s.Accounts.Examined, "account"))
	}
	return strings.Join(said, "; ")
}

// OrganizationCoverage says how many accounts were examined, and of the others how many
// nobody tried to.
func OrganizationCoverage(s audit.OrganizationSummary) string {
	a := s.Accounts
	said := fmt.Sprintf("Complete: all of %s, with %s and %s.", Several(a.Examined, "account"), Several(s.Coverage.Users, "user"), Several(s.Coverage.Keys, "access key"))
	switch {
	case a.NotExamined > 0:
		said = fmt.Sprintf("Incomplete: %s of %s %s not examined.", Count(a.NotExamined), Several(a.Total, "account"), map[bool]string{true: "was", false: "were"}[a.NotExamined == 1])
	case !s.Coverage.Complete:
		said = fmt.Sprintf("Incomplete: in all of %s, but %s of %s and %s of %s known were not examined.", Several(a.Examined, "account"),
			Count(s.Coverage.Users-s.Coverage.UsersExamined), Several(s.Coverage.Users, "user"), Count(s.Coverage.Keys-s.Coverage.KeysExamined), Several(s.Coverage.Keys, "access key"))
	}
	if a.Skipped > 0 {
		said += fmt.Sprintf(" %s skipped.", Several(a.Skipped, "account")+map[bool]string{true: " is", false: " are"}[a.Skipped == 1])
	}
	return said
}

// whyNot says why an account was not examined.
var whyNot = map[audit.NotExamined]string{
	audit.RoleUnavailable: "no role to examine it by",
	audit.Denied:          "a policy denies it",
	audit.Throttled:       "throttled",
	audit.TimedOut:        "time ran out",
	audit.Missing:         "not in the organization's list any more",
	audit.Died:            "its audit died without a word",
	audit.FailedAudit:     "failed",
	audit.Excluded:        "excluded by a parameter",
	audit.Suspended:       "suspended by AWS",
	audit.Closing:         "being closed",
	audit.Closed:          "closed",
	audit.Activating:      "being made",
	audit.Left:            "has left the organization",
}

// WhyNot says why the account was not examined, "" when it was.
func WhyNot(a audit.AccountRow) string {
	if a.Reason == nil {
		return ""
	}
	why := cmp.Or(whyNot[*a.Reason], Printable(string(*a.Reason)))
	if *a.Reason == audit.FailedAudit && a.Error != nil {
		why += ", " + Printable(*a.Error)
	}
	return why
}

// WorstAccountsFirst orders accounts as a reader wants to see them: those that were not
// examined, then by the worst that is in them, by how many of it, and by ID. Those that
// nobody tried to examine come last.
func WorstAccountsFirst(accounts []audit.AccountRow) {
	group := func(a audit.AccountRow) int {
		switch {
		case a.Skipped():
			return 2
		case !a.Examined:
			return 0
		}
		return 1
	}
	slices.SortStableFunc(accounts, func(a, b audit.AccountRow) int {
		order := cmp.Compare(group(a), group(b))
		for _, s := range audit.Severities {
			order = cmp.Or(order, cmp.Compare(b.Severities.Of(s), a.Severities.Of(s)))
		}
		return cmp.Or(order, cmp.Compare(a.Account, b.Account))
	})
}
