package audit

import (
	"fmt"
	"slices"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A RuleID names a rule. The set is closed; a name is never reused.
type RuleID string

// The rules.
const (
	RootKey    RuleID = "root-key"
	Exposed    RuleID = "exposed"
	ExtraKeys  RuleID = "extra-keys"
	Unused     RuleID = "unused"
	Overdue    RuleID = "overdue"
	Unexamined RuleID = "unexamined"
	Aging      RuleID = "aging"
	TwoActive  RuleID = "two-active"
	Lingering  RuleID = "lingering"
)

// Thresholds are the lengths that the rules judge by, in days.
type Thresholds struct {
	UnusedDays  int `json:"unusedDays"`
	MaxAgeDays  int `json:"maxAgeDays"`
	WarnAgeDays int `json:"warnAgeDays"`
	LingerDays  int `json:"lingerDays"`
	MaxWaitDays int `json:"maxWaitDays"` // the longest a rotation waits with two Active keys
}

// pairDays is how long two Active keys are a rotation's business: longer than any waits.
func (t Thresholds) pairDays() int { return t.MaxWaitDays + 7 }

// A Rule is one thing that the audit looks for: all that is said of it anywhere
// stands in its row.
//
// Controls are the numbers in CIS AWS Foundations Benchmark v3.0.0 (the same in
// v1.4 to v4.0.1), v5.0, v6.0 and v7.0, and in AWS Security Hub:
// https://docs.aws.amazon.com/securityhub/latest/userguide/iam-controls.html
type Rule struct {
	ID       RuleID
	Severity Severity
	Exempts  bool                    // can be exempted by the user's tags
	When     func(Thresholds) string // what it looks for, with the lengths that it judges by: a sentence
	What     func(Finding) string    // what is wrong, in a few words that begin with a capital
	Remedy   string                  // what to do: sentences
	Rotates  bool                    // that is a rotation: not for an unused key, or for a user whose key is public
	Controls []string

	// Exactly one of the two is set. They are pure functions of facts and time.
	user func(u UserFacts, t Thresholds, asOf time.Time) bool
	key  func(k KeyFacts, t Thresholds, asOf time.Time) bool
}

// OfUsers reports whether the rule gives one finding a user, not one a key.
func (r Rule) OfUsers() bool { return r.user != nil }

// Rules lists the rules, worst first.
var Rules = []Rule{
	{
		ID: RootKey, Severity: Critical,
		When:     always("The root user has an access key."),
		What:     words("The root user has an access key"),
		Remedy:   "Delete the root user's access keys; use roles, and the root user only where AWS asks for it.",
		Controls: []string{"CIS v3.0.0 1.4", "CIS v5.0.0 1.3", "CIS v6.0.0 2.3", "CIS v7.0.0 2.4", "Security Hub IAM.4"},
		user:     func(u UserFacts, _ Thresholds, _ time.Time) bool { return u.Root && u.RootKey },
	},
	{
		ID: Exposed, Severity: Critical,
		When:     always("AWS attached a quarantine policy of its own: it found a key of the user in public."),
		What:     words("Exposed, quarantined by AWS"),
		Remedy:   "AWS found a key of this user in public: replace and delete its keys, then look through CloudTrail for what they did. Leave the quarantine policy until then.",
		Controls: []string{},
		user:     func(u UserFacts, _ Thresholds, _ time.Time) bool { return u.Exposed() },
	},
	{
		ID: ExtraKeys, Severity: High, Exempts: true,
		When:     always("A user with more than two access keys."),
		What:     words("More than two access keys"),
		Remedy:   "IAM allows two keys a user; find out which of these are in use, then deactivate and delete the others.",
		Controls: []string{"CIS v3.0.0 1.13", "CIS v5.0.0 1.12", "CIS v6.0.0 2.12"},
		user:     func(u UserFacts, _ Thresholds, _ time.Time) bool { return !u.Root && u.keyCount() > 2 },
	},
	{
		ID: Unused, Severity: High, Exempts: true,
		When: func(t Thresholds) string {
			return fmt.Sprintf("Active, and not used for %s or more; never used counts from its creation.", days(t.UnusedDays))
		},
		What: func(f Finding) string {
			switch {
			case f.NeverUsed != nil && *f.NeverUsed:
				return "Never used"
			case f.IdleDays != nil:
				return "Not used for " + days(*f.IdleDays)
			}
			return "Not used"
		},
		Remedy:   unusedRemedy,
		Controls: []string{"CIS v3.0.0 1.12", "CIS v5.0.0 1.11", "CIS v6.0.0 2.11", "CIS v7.0.0 2.11", "Security Hub IAM.22"},
		key:      func(k KeyFacts, t Thresholds, asOf time.Time) bool { return k.unused(t.UnusedDays, asOf) },
	},
	{
		ID: Overdue, Severity: Medium, Exempts: true, Rotates: true,
		When:     func(t Thresholds) string { return fmt.Sprintf("Active, and older than %s.", days(t.MaxAgeDays)) },
		What:     words("Overdue for rotation"),
		Remedy:   "Rotate the key.",
		Controls: []string{"CIS v3.0.0 1.14", "CIS v5.0.0 1.13", "CIS v6.0.0 2.13", "CIS v7.0.0 2.12", "Security Hub IAM.3"},
		key: func(k KeyFacts, t Thresholds, asOf time.Time) bool {
			return k.Status == iamkeys.Active && asOf.Sub(k.CreateDate) > iamkeys.DayCount(t.MaxAgeDays)
		},
	},
	{
		ID: Unexamined, Severity: Medium,
		When:     always("A user or access key that could not be examined."),
		What:     words("Could not be examined"),
		Remedy:   "Find out why this user could not be read (permissions, throttling, time), and run the audit again: what was not read is unknown, not healthy.",
		Controls: []string{},
		user:     func(u UserFacts, _ Thresholds, _ time.Time) bool { return u.Unexamined != "" },
	},
	{
		ID: Aging, Severity: Low, Exempts: true, Rotates: true,
		When: func(t Thresholds) string {
			return fmt.Sprintf("Active, and older than %s, but not than %d.", days(t.WarnAgeDays), t.MaxAgeDays)
		},
		What:     words("Soon due for rotation"),
		Remedy:   "Plan the key's rotation.",
		Controls: []string{"CIS v3.0.0 1.14", "CIS v5.0.0 1.13", "CIS v6.0.0 2.13", "CIS v7.0.0 2.12", "Security Hub IAM.3"},
		key: func(k KeyFacts, t Thresholds, asOf time.Time) bool {
			age := asOf.Sub(k.CreateDate)
			return k.Status == iamkeys.Active && age > iamkeys.DayCount(t.WarnAgeDays) && age <= iamkeys.DayCount(t.MaxAgeDays)
		},
	},
	{
		ID: TwoActive, Severity: Low, Exempts: true,
		When: func(t Thresholds) string {
			return fmt.Sprintf("Two Active access keys, the newer one older than %s: longer than any rotation waits.", days(t.pairDays()))
		},
		What:     words("Two Active access keys"),
		Remedy:   "Find out which of the two Active keys is in use, and deactivate the other: a rotation may have been left half way.",
		Controls: []string{"CIS v3.0.0 1.13", "CIS v5.0.0 1.12", "CIS v6.0.0 2.12"},
		user: func(u UserFacts, t Thresholds, asOf time.Time) bool {
			var active []time.Time
			for _, k := range u.Keys {
				if k.Status == iamkeys.Active {
					active = append(active, k.CreateDate)
				}
			}
			return len(active) == 2 && asOf.Sub(slices.MaxFunc(active, time.Time.Compare)) > iamkeys.DayCount(t.pairDays())
		},
	},
	{
		ID: Lingering, Severity: Low, Exempts: true,
		When:     func(t Thresholds) string { return fmt.Sprintf("Not Active, and older than %s.", days(t.LingerDays)) },
		What:     words("Switched off, not deleted"),
		Remedy:   "Delete the key: it is switched off or has expired, and still takes one of the user's two places.",
		Controls: []string{},
		key: func(k KeyFacts, t Thresholds, asOf time.Time) bool {
			return k.Known() == nil && k.Status != iamkeys.Active && asOf.Sub(k.CreateDate) > iamkeys.DayCount(t.LingerDays)
		},
	},
}

// One key, one way: an unused key is not rotated, and one that is public is not left
// Active while its consumers move.
const (
	unusedRemedy = "Deactivate it by hand, and delete it when nobody has missed it; or leave it to be retired."
	unusedFirst  = "It is unused: deactivate it by hand, or leave it to be retired."
	exposedFirst = "A key of this user is public: do what the finding exposed says, first."
)

// remedy says what to do about a finding of the user, or of its key.
func (r Rule) remedy(u UserFacts, k *KeyFacts, t Thresholds, asOf time.Time) string {
	switch {
	case r.ID == Unexamined:
		return r.Remedy + " Reason: " + u.Unexamined + "."
	case r.Rotates && u.Exposed():
		return exposedFirst
	case r.Rotates && k.unused(t.UnusedDays, asOf):
		return unusedFirst
	}
	return r.Remedy
}

// unused reports whether the key is Active and has been idle for that many days; one
// whose last use is unknown is not.
func (k KeyFacts) unused(after int, asOf time.Time) bool {
	return k.Status == iamkeys.Active && k.LastUsed != nil && asOf.Sub(iamkeys.IdleSince(k.AccessKey, *k.LastUsed)) >= iamkeys.DayCount(after)
}

func always(sentence string) func(Thresholds) string {
	return func(Thresholds) string { return sentence }
}
func words(words string) func(Finding) string { return func(Finding) string { return words } }

// days writes a length: 1 day, 45 days.
func days(n int) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}

// RuleOf gives the rule with that ID.
func RuleOf(id RuleID) (Rule, bool) {
	i := slices.IndexFunc(Rules, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return Rule{}, false
	}
	return Rules[i], true
}

func (id RuleID) ofUsers() bool {
	r, _ := RuleOf(id)
	return r.OfUsers()
}
