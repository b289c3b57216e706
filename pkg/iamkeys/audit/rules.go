package audit

import (
	"slices"
	"strings"
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

// pairDays is how long two Active keys are a rotation's business: longer than any takes.
func (t Thresholds) pairDays() int { return t.MaxWaitDays + 7 }

// A Rule is one thing that the audit looks for.
//
// Controls are the numbers in CIS AWS Foundations Benchmark v3.0.0 (the same in
// v1.4 to v4.0.1), v5.0, v6.0 and v7.0, and in AWS Security Hub:
// https://docs.aws.amazon.com/securityhub/latest/userguide/iam-controls.html
type Rule struct {
	ID       RuleID
	Severity Severity
	OfUsers  bool // one finding a user, not one a key
	Exempts  bool // can be exempted by the user's tags
	Remedy   string
	Controls []string

	// Exactly one of the two is set. They are pure functions of facts and time.
	user func(u UserFacts, t Thresholds, asOf time.Time) bool
	key  func(k KeyFacts, t Thresholds, asOf time.Time) bool
}

// Rules lists the rules, worst first.
var Rules = []Rule{
	{
		ID: RootKey, Severity: Critical, OfUsers: true,
		Remedy:   "Delete the root user's access keys; use roles, and the root user only where AWS asks for it.",
		Controls: []string{"CIS v3.0.0 1.4", "CIS v5.0.0 1.3", "CIS v6.0.0 2.3", "CIS v7.0.0 2.4", "Security Hub IAM.4"},
		user:     func(u UserFacts, _ Thresholds, _ time.Time) bool { return u.Root && u.RootKey },
	},
	{
		ID: Exposed, Severity: Critical, OfUsers: true,
		Remedy:   "AWS found a key of this user in public: replace and delete its keys, then look through CloudTrail for what they did. Leave the quarantine policy until then.",
		Controls: []string{},
		user: func(u UserFacts, _ Thresholds, _ time.Time) bool {
			return slices.ContainsFunc(u.AttachedPolicies, func(arn string) bool { return strings.Contains(arn, ":policy/AWSCompromisedKeyQuarantine") })
		},
	},
	{
		ID: ExtraKeys, Severity: High, OfUsers: true, Exempts: true,
		Remedy:   "IAM allows two keys a user; find out which of these are in use, then deactivate and delete the others.",
		Controls: []string{"CIS v3.0.0 1.13", "CIS v5.0.0 1.12", "CIS v6.0.0 2.12"},
		user:     func(u UserFacts, _ Thresholds, _ time.Time) bool { return !u.Root && u.keyCount() > 2 },
	},
	{
		ID: Unused, Severity: High, Exempts: true,
		Remedy:   "Deactivate the key, and delete it when nobody has missed it.",
		Controls: []string{"CIS v3.0.0 1.12", "CIS v5.0.0 1.11", "CIS v6.0.0 2.11", "CIS v7.0.0 2.11", "Security Hub IAM.22"},
		key: func(k KeyFacts, t Thresholds, asOf time.Time) bool {
			return k.Status == iamkeys.Active && k.LastUsed != nil && asOf.Sub(iamkeys.IdleSince(k.AccessKey, *k.LastUsed)) >= iamkeys.DayCount(t.UnusedDays)
		},
	},
	{
		ID: Overdue, Severity: Medium, Exempts: true,
		Remedy:   "Rotate the key.",
		Controls: []string{"CIS v3.0.0 1.14", "CIS v5.0.0 1.13", "CIS v6.0.0 2.13", "CIS v7.0.0 2.12", "Security Hub IAM.3"},
		key: func(k KeyFacts, t Thresholds, asOf time.Time) bool {
			return k.Status == iamkeys.Active && asOf.Sub(k.CreateDate) > iamkeys.DayCount(t.MaxAgeDays)
		},
	},
	{
		ID: Unexamined, Severity: Medium, OfUsers: true,
		Remedy:   "Find out why this user could not be read (permissions, throttling, time), and run the audit again: what was not read is unknown, not healthy.",
		Controls: []string{},
		user:     func(u UserFacts, _ Thresholds, _ time.Time) bool { return u.Unexamined != "" },
	},
	{
		ID: Aging, Severity: Low, Exempts: true,
		Remedy:   "Plan the key's rotation.",
		Controls: []string{"CIS v3.0.0 1.14", "CIS v5.0.0 1.13", "CIS v6.0.0 2.13", "CIS v7.0.0 2.12", "Security Hub IAM.3"},
		key: func(k KeyFacts, t Thresholds, asOf time.Time) bool {
			age := asOf.Sub(k.CreateDate)
			return k.Status == iamkeys.Active && age > iamkeys.DayCount(t.WarnAgeDays) && age <= iamkeys.DayCount(t.MaxAgeDays)
		},
	},
	{
		ID: TwoActive, Severity: Low, OfUsers: true, Exempts: true,
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
		Remedy:   "Delete the key: it has been switched off and still takes one of the user's two places.",
		Controls: []string{},
		key: func(k KeyFacts, t Thresholds, asOf time.Time) bool {
			return k.Status == iamkeys.Inactive && asOf.Sub(k.CreateDate) > iamkeys.DayCount(t.LingerDays)
		},
	},
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
	return r.OfUsers
}
