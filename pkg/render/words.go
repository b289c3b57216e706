package render

import (
	"fmt"
	"slices"
	"strings"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
)

// clean makes one printable line of untrusted text.
func clean(s string) string { return notice.Printable(s) }

// cleaned is clean for what may be missing; "" is.
func cleaned(s *string) string {
	if s == nil {
		return ""
	}
	return clean(*s)
}

// What all texts share.
var (
	count, several, plural = notice.Count, notice.Several, notice.Plural
	date, moment, title    = notice.Date, notice.Moment, notice.Capital
)

// headline says the one thing that a reader must know. Incomplete coverage is in it.
func headline(s audit.Summary) string {
	n, c := s.New+s.Open, s.Coverage
	switch {
	case c.Users > 0 && c.UsersExamined == 0:
		return "No user could be examined"
	case n == 0 && !c.Complete:
		return "Not everything was examined"
	case !c.Complete:
		return findings(n, s.Severities) + "; not everything was examined"
	case n == 0 && c.Users == 0:
		return "No IAM users, no findings"
	case n == 0:
		return "No findings"
	}
	return findings(n, s.Severities)
}

// findings counts findings, and the worst among them.
func findings(n int, severities audit.SeverityCounts) string {
	for _, severity := range audit.Severities {
		switch worst := severities.Of(severity); worst {
		case 0:
		case n:
			return fmt.Sprintf("%s %s %s", count(n), severity, plural("finding", n))
		default:
			return fmt.Sprintf("%s, %s %s", several(n, "finding"), count(worst), severity)
		}
	}
	return several(n, "finding")
}

// coverage says what was examined and what was not.
func coverage(c audit.Coverage) string {
	if c.Complete {
		if c.Users == 0 {
			return "The account has no IAM users; the root user was examined."
		}
		return fmt.Sprintf("Complete: %s, %s, and the root user.", several(c.Users, "user"), several(c.Keys, "access key"))
	}
	if c.UsersExamined == c.Users && c.KeysExamined == c.Keys {
		return fmt.Sprintf("Incomplete: the root user was not examined; %s and %s were.", several(c.Users, "user"), several(c.Keys, "access key"))
	}
	return fmt.Sprintf("Incomplete: %s of %s and %s of %s known were not examined.",
		count(c.Users-c.UsersExamined), several(c.Users, "user"), count(c.Keys-c.KeysExamined), several(c.Keys, "access key"))
}

// source says where the facts come from, and of when they are.
func source(s audit.Summary) string {
	switch s.Inventory {
	case audit.FromCredentialReport:
		return fmt.Sprintf("IAM's credential report, generated %s; last use is as of then.", moment(s.GeneratedTime))
	case audit.FromLive:
		return fmt.Sprintf("Live reads of every user and access key, from %s on.", moment(s.GeneratedTime))
	}
	return fmt.Sprintf("%s, as of %s.", clean(string(s.Inventory)), moment(s.GeneratedTime))
}

// changes says how the report compares with the one before.
func changes(s audit.Summary) string {
	switch {
	case s.ComparedWith != nil && s.New+s.Resolved == 0:
		return fmt.Sprintf("Nothing has changed since the report of %s.", date(*s.ComparedWith))
	case s.ComparedWith != nil:
		return fmt.Sprintf("Since the report of %s: %s new, %s still open, %s resolved.", date(*s.ComparedWith), count(s.New), count(s.Open), count(s.Resolved))
	case s.New > 0:
		return "There is no earlier report to compare with: every finding counts as new."
	}
	return "Not compared with an earlier report."
}

// when says what a rule looks for, with the lengths that it judged by.
func when(id audit.RuleID, t audit.Thresholds) string {
	switch id {
	case audit.RootKey:
		return "The root user has an access key."
	case audit.Exposed:
		return "AWS attached a quarantine policy: it found a key of the user in public."
	case audit.ExtraKeys:
		return "A user with more than two access keys."
	case audit.Unused:
		return fmt.Sprintf("Active, and not used for %s or more; never used counts from its creation.", several(t.UnusedDays, "day"))
	case audit.Overdue:
		return fmt.Sprintf("Active, and older than %s.", several(t.MaxAgeDays, "day"))
	case audit.Unexamined:
		return "A user or access key that could not be examined."
	case audit.Aging:
		return fmt.Sprintf("Active, and older than %s, but not than %d.", several(t.WarnAgeDays, "day"), t.MaxAgeDays)
	case audit.TwoActive:
		return fmt.Sprintf("Two Active access keys, the newer one older than %s: longer than a rotation takes.", several(t.MaxWaitDays+7, "day"))
	case audit.Lingering:
		return fmt.Sprintf("Inactive, and older than %s.", several(t.LingerDays, "day"))
	}
	return ""
}

// what says in a few words what is wrong with this user or key.
func what(f audit.Finding) string {
	switch f.Rule {
	case audit.RootKey:
		return "The root user has an access key"
	case audit.Exposed:
		return "Exposed, quarantined by AWS"
	case audit.ExtraKeys:
		return "More than two access keys"
	case audit.Unused:
		if f.NeverUsed != nil && *f.NeverUsed {
			return "Never used"
		}
		if f.IdleDays != nil {
			return "Not used for " + several(*f.IdleDays, "day")
		}
		return "Not used"
	case audit.Overdue:
		return "Overdue for rotation"
	case audit.Unexamined:
		return "Could not be examined"
	case audit.Aging:
		return "Soon due for rotation"
	case audit.TwoActive:
		return "Two Active access keys"
	case audit.Lingering:
		return "Switched off, not deleted"
	}
	return clean(string(f.Rule))
}

// ofKey reports whether the finding is one of a key, and not of a user as a whole.
func ofKey(f audit.Finding) bool {
	return f.AccessKeyID != nil || f.CreateDate != nil || f.Status != nil
}

// keyID gives the finding's key, in words where it has none.
func keyID(f audit.Finding) string {
	switch id := cleaned(f.AccessKeyID); {
	case id != "":
		return id
	case ofKey(f):
		return "key ID unknown"
	}
	return ""
}

// age is "412 days", "" for findings of users.
func age(f audit.Finding) string {
	if f.AgeDays == nil {
		return ""
	}
	return several(*f.AgeDays, "day")
}

// lastUse is the day of the last use, or why there is none; "" for findings of users.
func lastUse(f audit.Finding) string {
	switch {
	case !ofKey(f):
		return ""
	case f.LastUsedDate != nil:
		return date(*f.LastUsedDate)
	case f.NeverUsed != nil && *f.NeverUsed:
		return "never"
	}
	return "unknown"
}

// usedBy names service and Region of the last use, as far as IAM knows them.
func usedBy(f audit.Finding) []string {
	return slices.DeleteFunc([]string{cleaned(f.ServiceName), cleaned(f.Region)}, func(s string) bool { return s == "" })
}

// invalid says why the user's exemption does not hold, "" when there is none or it does.
func invalid(f audit.Finding) string {
	if f.Exemption == nil || f.Exemption.Invalid == nil {
		return ""
	}
	until := clean(f.Exemption.Until)
	if until != "" {
		until = " until " + until
	}
	return fmt.Sprintf("Its exemption%s (%s) does not hold: %s.", until, reason(*f.Exemption), clean(*f.Exemption.Invalid))
}

// reason is the exemption's, in words where it is missing.
func reason(e iamkeys.Exemption) string {
	if s := clean(e.Reason); s != "" {
		return s
	}
	return "no reason given"
}

// owner is the user's, said so, or that none is named. The root user has none.
func owner(f audit.Finding) string {
	s := cleaned(f.Owner)
	switch {
	case f.UserName == audit.RootName:
		return ""
	case s == "":
		return "No owner named"
	}
	return "Owner: " + s
}

// A person is an IAM user with its findings, of one severity.
type person struct {
	name     string
	owner    string
	findings []audit.Finding
}

// byUser groups the findings of a severity, which stand sorted by user.
func byUser(findings []audit.Finding, severity audit.Severity) []person {
	var people []person
	var before audit.Finding
	for _, f := range findings {
		if f.Severity != severity {
			continue
		}
		if len(people) == 0 || before.UserName != f.UserName || before.UserARN != f.UserARN {
			people = append(people, person{name: clean(f.UserName), owner: owner(f)})
		}
		last := &people[len(people)-1]
		last.findings = append(last.findings, f)
		before = f
	}
	return people
}

// controls lists the numbers that benchmarks know the rule by.
func controls(r audit.Rule) string {
	if len(r.Controls) == 0 {
		return "none"
	}
	return strings.Join(r.Controls, ", ")
}
