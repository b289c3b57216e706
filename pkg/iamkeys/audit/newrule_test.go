package audit

import (
	"slices"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
)

// TestNewRule: a rule is one row, whose order, counts, words and remedy all follow from it.
func TestNewRule(t *testing.T) {
	before := Rules
	defer func() { Rules = before }()
	Rules = slices.Insert(slices.Clone(Rules), 5, Rule{
		ID: "no-owner", Severity: Medium, Exempts: true,
		When:     always("A user with an Active key, and without an owner tag."),
		What:     words("Nobody owns it"),
		Remedy:   "Name an owner by the tag.",
		Controls: []string{},
		user: func(u UserFacts, _ Thresholds, _ time.Time) bool {
			_, owned := u.Tag("owner")
			return !u.Root && !owned && u.keyCount() > 0
		},
	})
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	user := func(name string, tags ...iamkeys.Tag) UserFacts {
		return UserFacts{
			User: iamkeys.User{UserName: name, ARN: "arn:aws:iam::123456789012:user/" + name, Tags: tags, PoliciesRead: true},
			Keys: []KeyFacts{{AccessKey: iamkeys.AccessKey{UserName: name, AccessKeyID: "AKIA" + name, Status: iamkeys.Active, CreateDate: now.Add(-100 * 24 * time.Hour)}, LastUsed: &iamkeys.LastUsed{Date: now}}},
		}
	}
	inv := Inventory{Account: "123456789012", Root: UserFacts{Root: true, User: iamkeys.User{UserName: RootName}}, Users: []UserFacts{
		user("alice"), user("bob", iamkeys.Tag{Key: "Owner", Value: "team"}),
		user("carol", iamkeys.Tag{Key: iamkeys.TagExemptUntil, Value: "2026-12-24"}, iamkeys.Tag{Key: iamkeys.TagExemptReason, Value: "x"}),
	}}
	r := Judge(inv, Thresholds{UnusedDays: 45, MaxAgeDays: 90, WarnAgeDays: 75, LingerDays: 90, MaxWaitDays: 45}, "owner", now)
	r.Compare(nil, inv)
	var got []string
	for _, f := range slices.Concat(r.Findings, r.Exempt) {
		rule, _ := RuleOf(f.Rule)
		got = append(got, string(f.State)+" "+f.UserName+": "+rule.What(f)+". "+f.Remedy)
	}
	want := []string{
		"new alice: Overdue for rotation. Rotate the key.", "new bob: Overdue for rotation. Rotate the key.", "new alice: Nobody owns it. Name an owner by the tag.",
		"exempt carol: Overdue for rotation. Rotate the key.", "exempt carol: Nobody owns it. Name an owner by the tag.",
	}
	if !slices.Equal(got, want) || r.Summary.Rules["no-owner"] != 1 || r.Summary.Severities.Medium != 3 {
		t.Errorf("got %q, rules %v", got, r.Summary.Rules)
	}
	again := Judge(inv, r.Summary.Thresholds, "owner", now.Add(time.Hour))
	again.Compare(&r, inv)
	if again.Summary.New != 0 || again.Summary.Open != 3 || again.Summary.Resolved != 0 {
		t.Errorf("an hour later: %+v", again.Summary)
	}
}
