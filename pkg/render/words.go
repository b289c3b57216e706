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
	count, several      = notice.Count, notice.Several
	date, moment, title = notice.Date, notice.Moment, notice.Capital
	coverage            = notice.Coverage
)

// headline says the one thing that a reader must know. Incomplete coverage is in it.
func headline(s audit.Summary) string { return title(notice.Headline(s)) }

// source says where the facts come from, and of when they are.
func source(s audit.Summary) string {
	switch s.Inventory {
	case audit.FromCredentialReport:
		return fmt.Sprintf("IAM's credential report, generated %s; last use is as of then.", moment(s.GeneratedTime))
	case audit.FromLive:
		return fmt.Sprintf("Live reads of every user and access key, from %s on.", moment(s.GeneratedTime))
	case audit.FromBoth:
		return fmt.Sprintf("IAM's credential reports, and live reads of accounts that had none, from %s on; last use is as of then.", moment(s.GeneratedTime))
	case "":
		return "No account was examined: the figures are of earlier reports."
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

// what says in a few words what is wrong with this user or key.
func what(f audit.Finding) string {
	if r, ok := audit.RuleOf(f.Rule); ok {
		return r.What(f)
	}
	return clean(string(f.Rule)) // of another release
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

// power says how much the user may do, "" when no policy tells.
func power(f audit.Finding) string {
	switch f.Power {
	case iamkeys.Admin:
		return "Administrator"
	case iamkeys.PowerUser:
		return "Power user"
	case iamkeys.UnknownPower:
		return "Power unknown"
	}
	return ""
}

// A person is an IAM user with its findings, of one severity.
type person struct {
	name, owner, power string
	findings           []audit.Finding
}

// byUser groups the findings of a severity by user, in the order in which they stand.
func byUser(findings []audit.Finding, severity audit.Severity) []person {
	var people []person
	at := map[[2]string]int{}
	for _, f := range findings {
		if f.Severity != severity {
			continue
		}
		id := [2]string{f.UserName, f.UserARN}
		i, ok := at[id]
		if !ok {
			i = len(people)
			at[id] = i
			people = append(people, person{name: clean(f.UserName), owner: owner(f), power: power(f)})
		}
		people[i].findings = append(people[i].findings, f)
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
