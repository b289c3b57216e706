package audit_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

var thresholds = audit.Thresholds{UnusedDays: 45, MaxAgeDays: 90, WarnAgeDays: 75, LingerDays: 90, MaxWaitDays: 45}

// asOf is when the tests of the rules judge.
var asOf = iamkeystest.Epoch

// A fact is a key in few words: its status, how long ago it was made, and how
// long ago it was used.
type fact struct {
	status iamkeys.Status
	age    time.Duration
	idle   time.Duration // never and unknown aside
}

const (
	never   time.Duration = -1
	unknown time.Duration = -2
)

func (f fact) key() audit.KeyFacts {
	k := audit.KeyFacts{AccessKey: iamkeys.AccessKey{Status: f.status, CreateDate: asOf.Add(-f.age)}}
	switch f.idle {
	case unknown:
	case never:
		k.LastUsed = &iamkeys.LastUsed{}
	default:
		k.LastUsed = &iamkeys.LastUsed{Date: asOf.Add(-f.idle), ServiceName: "s3"}
	}
	return k
}

// of gives the facts of a user with these keys.
func of(facts ...fact) audit.UserFacts {
	u := audit.UserFacts{User: iamkeys.User{UserName: user, ARN: "arn:aws:iam::123456789012:user/" + user}}
	for _, f := range facts {
		u.Keys = append(u.Keys, f.key())
	}
	return u
}

// judge judges one user, and an account without a root key.
func judge(u audit.UserFacts, asOf time.Time) audit.Report {
	inv := audit.Inventory{Account: "123456789012", Root: audit.UserFacts{Root: true, User: iamkeys.User{UserName: audit.RootName}}}
	if u.Root {
		inv.Root = u
	} else {
		inv.Users = []audit.UserFacts{u}
	}
	return audit.Judge(inv, thresholds, "owner", asOf)
}

// found gives the rules of the findings, in the order of the rules.
func found(findings []audit.Finding) string {
	var ids []string
	for _, r := range audit.Rules {
		for _, f := range findings {
			if f.Rule == r.ID {
				ids = append(ids, string(r.ID))
			}
		}
	}
	return strings.Join(ids, " ")
}

// TestRulesInTime judges each rule a second before its boundary, at it, and a
// second after. Ages and idle times are as of the boundary.
func TestRulesInTime(t *testing.T) {
	const a, in = iamkeys.Active, iamkeys.Inactive
	for _, test := range []struct {
		name              string
		user              audit.UserFacts
		before, at, after string
	}{
		{"unused since its last use", of(fact{a, 60 * day, 45 * day}), "", "unused", "unused"},
		{"unused since its creation", of(fact{a, 45 * day, never}), "", "unused", "unused"},
		{"unused, used before its creation", of(fact{a, 45 * day, 50 * day}), "", "unused", "unused"},
		{"aging", of(fact{a, 75 * day, 0}), "", "", "aging"},
		{"aging, last use unknown", of(fact{a, 75 * day, unknown}), "", "", "aging"},
		{"overdue", of(fact{a, 90 * day, 0}), "aging", "aging", "overdue"},
		{"overdue, last use unknown", of(fact{a, 90 * day, unknown}), "aging", "aging", "overdue"},
		{"overdue and unused", of(fact{a, 90 * day, never}), "unused aging", "unused aging", "unused overdue"},
		{"unused and overdue", of(fact{a, 200 * day, 45 * day}), "overdue", "unused overdue", "unused overdue"},
		{"two active", of(fact{a, 55 * day, 0}, fact{a, 52 * day, 0}), "", "", "two-active"},
		{"two active, the newer first", of(fact{a, 52 * day, 0}, fact{a, 55 * day, 0}), "", "", "two-active"},
		{"two active of the same second", of(fact{a, 52 * day, 0}, fact{a, 52 * day, 0}), "", "", "two-active"},
		{"two active and an inactive one", of(fact{a, 55 * day, 0}, fact{a, 52 * day, 0}, fact{in, day, 0}), "extra-keys", "extra-keys", "extra-keys two-active"},
		{"lingering", of(fact{in, 90 * day, 0}), "", "", "lingering"},
		{"lingering, last use unknown", of(fact{in, 90 * day, unknown}), "", "", "lingering"},
		{"lingering beside an overdue one", of(fact{in, 90 * day, never}, fact{a, 91 * day, 0}), "overdue", "overdue", "overdue lingering"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i, want := range []string{test.before, test.at, test.after} {
				r := judge(test.user, asOf.Add(time.Duration(i-1)*time.Second))
				if got := found(r.Findings); got != want {
					t.Errorf("%+ds: got %q, want %q", i-1, got, want)
				}
			}
		})
	}
}

// TestRules has what does not depend on the time.
func TestRules(t *testing.T) {
	const a, in, years = iamkeys.Active, iamkeys.Inactive, 3 * 365 * day
	change := func(u audit.UserFacts, f func(*audit.UserFacts)) audit.UserFacts { f(&u); return u }
	policy := func(arns ...string) audit.UserFacts {
		return change(of(), func(u *audit.UserFacts) { u.AttachedPolicies = arns })
	}
	for _, test := range []struct {
		name string
		user audit.UserFacts
		want string
	}{
		{"no keys", of(), ""},
		{"a key from the future", of(fact{a, -day, never}), ""},
		{"young and used", of(fact{a, 10 * day, 0}), ""},
		{"inactive and young", of(fact{in, 60 * day, never}), ""},
		{"expired", of(fact{iamkeys.Expired, years, never}), "lingering"},
		{"a status that nobody knows", of(fact{"Sleeping", years, never}), ""},
		{"last use unknown is not never used", of(fact{a, 60 * day, unknown}), ""},
		{"old, last use unknown", of(fact{a, years, unknown}), "overdue"},
		{"one active, one inactive", of(fact{a, 50 * day, 0}, fact{in, 50 * day, 0}), ""},
		{"one active, one expired", of(fact{a, 50 * day, 0}, fact{iamkeys.Expired, 50 * day, 0}), ""},
		{"three keys", of(fact{a, day, 0}, fact{in, day, 0}, fact{in, day, 0}), "extra-keys"},
		{"three active", of(fact{a, 50 * day, 0}, fact{a, 50 * day, 0}, fact{a, 50 * day, 0}), "extra-keys"},
		{"two keys and one that is only counted", change(of(fact{a, day, 0}, fact{in, day, 0}), func(u *audit.UserFacts) { u.Additional = 1 }), "extra-keys"},
		{"two unused keys", of(fact{a, 60 * day, never}, fact{a, 53 * day, never}), "unused unused two-active"},
		{"quarantine", policy("arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantine"), "exposed"},
		{"quarantine V2", policy("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV2"), "exposed"},
		{"quarantine V3 in China", policy("arn:aws-cn:iam::aws:policy/AWSCompromisedKeyQuarantineV3"), "exposed"},
		{"quarantine twice", policy("arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV2", "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3"), "exposed"},
		{"quarantine of old", policy("arn:aws:iam::aws:policy/AWSExposedCredentialPolicy_DO_NOT_REMOVE"), "exposed"},
		{"quarantine by the customer", policy("arn:aws:iam::123456789012:policy/AWSCompromisedKeyQuarantineV3"), ""},
		{"other policies", policy("arn:aws:iam::aws:policy/AdministratorAccess", "arn:aws:iam::123456789012:policy/NoQuarantine"), ""},
		{"unexamined", change(of(), func(u *audit.UserFacts) { u.Unexamined = "Throttled" }), "unexamined"},
		{"unexamined and overdue", change(of(fact{a, years, unknown}), func(u *audit.UserFacts) { u.Unexamined = "Throttled" }), "overdue unexamined"},
		{"root without keys", audit.UserFacts{Root: true}, ""},
		{"root with a key", audit.UserFacts{Root: true, RootKey: true}, "root-key"},
		{"root unexamined", audit.UserFacts{Root: true, Unexamined: "AccessDenied"}, "unexamined"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := judge(test.user, asOf)
			if got := found(r.Findings); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			total := 0
			for _, s := range audit.Severities {
				total += r.Summary.Severities.Of(s)
			}
			if total != len(r.Findings) || r.Summary.Open != total || r.Summary.New != 0 {
				t.Errorf("the summary counts %+v, %d new, %d open; there are %d findings", r.Summary.Severities, r.Summary.New, r.Summary.Open, len(r.Findings))
			}
		})
	}
}

// TestRulesTable holds each rule to its severity, its kind and its exemption, and
// wants a remedy of each.
func TestRulesTable(t *testing.T) {
	want := []string{
		"root-key critical user never", "exposed critical user never", "extra-keys high user exempt", "unused high key exempt", "overdue medium key exempt",
		"unexamined medium user never", "aging low key exempt", "two-active low user exempt", "lingering low key exempt",
	}
	var got []string
	for _, r := range audit.Rules {
		kind, exempts := "key", "never"
		if r.OfUsers() {
			kind = "user"
		}
		if r.Exempts {
			exempts = "exempt"
		}
		got = append(got, fmt.Sprintf("%s %s %s %s", r.ID, r.Severity, kind, exempts))
		if !strings.HasSuffix(r.Remedy, ".") || strings.Contains(r.Remedy, "\n") || r.Controls == nil {
			t.Errorf("%s: remedy %q, controls %v", r.ID, r.Remedy, r.Controls)
		}
		if when, what := r.When(thresholds), r.What(audit.Finding{}); !strings.HasSuffix(when, ".") || what == "" || strings.HasSuffix(what, ".") {
			t.Errorf("%s: when %q, what %q", r.ID, when, what)
		}
		if same, ok := audit.RuleOf(r.ID); !ok || same.ID != r.ID {
			t.Errorf("RuleOf(%s) gives %s, %v", r.ID, same.ID, ok)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if _, ok := audit.RuleOf("overdue-ish"); ok {
		t.Error("RuleOf finds a rule that is none")
	}
}

// TestRemedies: one key, one way. An unused key is not rotated, and neither is one of
// a user whose key is public.
func TestRemedies(t *testing.T) {
	public := func(u audit.UserFacts) audit.UserFacts {
		u.AttachedPolicies = []string{"arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3"}
		return u
	}
	for name, test := range map[string]struct {
		user audit.UserFacts
		rule audit.RuleID
		want string
	}{
		"overdue":             {of(fact{iamkeys.Active, 91 * day, 0}), audit.Overdue, "Rotate the key."},
		"aging":               {of(fact{iamkeys.Active, 80 * day, 0}), audit.Aging, "Plan the key's rotation."},
		"overdue and unused":  {of(fact{iamkeys.Active, 91 * day, 45 * day}), audit.Overdue, "It is unused: deactivate it by hand, or leave it to be retired."},
		"aging and unused":    {of(fact{iamkeys.Active, 80 * day, never}), audit.Aging, "It is unused: deactivate it by hand, or leave it to be retired."},
		"overdue, unread use": {of(fact{iamkeys.Active, 91 * day, unknown}), audit.Overdue, "Rotate the key."},
		"overdue and exposed": {public(of(fact{iamkeys.Active, 91 * day, 0})), audit.Overdue, "A key of this user is public: do what the finding exposed says, first."},
		"unused and exposed":  {public(of(fact{iamkeys.Active, 91 * day, never})), audit.Aging, ""},
	} {
		got := ""
		for _, f := range judge(test.user, asOf).Findings {
			if f.Rule == test.rule {
				got = f.Remedy
			}
			if f.Rule != audit.Overdue && f.Rule != audit.Aging && strings.Contains(strings.ToLower(f.Remedy), "rotate the") {
				t.Errorf("%s: %s says %q", name, f.Rule, f.Remedy)
			}
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestOrder: of findings of one severity, who may do most comes first, then the oldest key.
func TestOrder(t *testing.T) {
	user := func(name string, read bool, age time.Duration, policies ...string) audit.UserFacts {
		u := of(fact{iamkeys.Active, age, 0})
		u.UserName, u.ARN, u.PoliciesRead = name, "arn:aws:iam::123456789012:user/"+name, read
		for _, p := range policies {
			u.GroupPolicies = append(u.GroupPolicies, "arn:aws:iam::aws:policy/"+p)
		}
		return u
	}
	r := audit.Judge(audit.Inventory{Account: "123456789012", Users: []audit.UserFacts{
		user("a", true, 100*day), user("b", true, 200*day), user("c", false, 100*day), user("d", true, 100*day, "PowerUserAccess"),
		user("e", true, 100*day, "AdministratorAccess"), user("f", true, 300*day, "IAMFullAccess", "PowerUserAccess"), user("g", true, 80*day, "AdministratorAccess"),
	}}, thresholds, "owner", asOf)
	var got []string
	for _, f := range r.Findings {
		got = append(got, fmt.Sprintf("%s %s %s", f.Rule, f.UserName, f.Power))
	}
	equal(t, got, []string{"overdue f admin", "overdue e admin", "overdue d power", "overdue c unknown", "overdue b ", "overdue a ", "aging g admin"})
}

// TestCoverage: complete means that nothing was left out.
func TestCoverage(t *testing.T) {
	unread := of(fact{iamkeys.Active, day, 0})
	unread.Unexamined = "Throttled"
	more := of(fact{iamkeys.Active, day, 0}, fact{iamkeys.Active, day, 0})
	more.Additional = 1
	for _, test := range []struct {
		name string
		user audit.UserFacts
		want audit.Coverage
	}{
		{"no key", of(), audit.Coverage{Users: 1, UsersExamined: 1, Complete: true}},
		{"one key", of(fact{iamkeys.Active, day, never}), audit.Coverage{Users: 1, UsersExamined: 1, Keys: 1, KeysExamined: 1, Complete: true}},
		{"last use unknown", of(fact{iamkeys.Active, day, unknown}, fact{iamkeys.Active, day, 0}), audit.Coverage{Users: 1, UsersExamined: 1, Keys: 2, KeysExamined: 1}},
		{"status unknown", of(fact{"Sleeping", day, 0}), audit.Coverage{Users: 1, UsersExamined: 1, Keys: 1}},
		{"a key that is only counted", more, audit.Coverage{Users: 1, UsersExamined: 1, Keys: 3, KeysExamined: 2}},
		{"not confirmed live", unread, audit.Coverage{Users: 1, Keys: 1}},
		{"root unread", audit.UserFacts{Root: true, Unexamined: "Throttled"}, audit.Coverage{}},
		{"root alone", audit.UserFacts{Root: true}, audit.Coverage{Complete: true}},
	} {
		if got := judge(test.user, asOf).Summary.Coverage; got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

// TestFinding: a finding of a key says all that is known of it, one of a user
// nothing of keys.
func TestFinding(t *testing.T) {
	u := of(fact{iamkeys.Active, 100*day + 23*time.Hour, 50*day + 23*time.Hour}, fact{iamkeys.Active, 95 * day, never}, fact{iamkeys.Active, 91 * day, unknown})
	u.Tags = []iamkeys.Tag{{Key: "Owner", Value: "Team A"}}
	u.Keys[0].AccessKeyID = "AKIAIOSFODNN7EXAMPLE"
	var got []string
	for _, f := range judge(u, asOf).Findings {
		f.Remedy, f.Controls = "", nil
		line, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(line))
	}
	const (
		who   = `"account":"123456789012","userName":"ci-deploy","userArn":"arn:aws:iam::123456789012:user/ci-deploy"`
		after = `"owner":"Team A","power":"unknown","state":"open","firstSeen":null,"exemption":null,"remedy":"","controls":null}`
		one   = `"accessKeyId":"AKIAIOSFODNN7EXAMPLE","status":"Active","createDate":"2026-08-14T10:00:00Z","ageDays":100,"lastUsedDate":"2026-10-03T10:00:00Z","neverUsed":false,"idleDays":50,"serviceName":"s3","region":null,`
		two   = `"accessKeyId":null,"status":"Active","createDate":"2026-08-20T09:00:00Z","ageDays":95,"lastUsedDate":null,"neverUsed":true,"idleDays":95,"serviceName":null,"region":null,`
		three = `"accessKeyId":null,"status":"Active","createDate":"2026-08-24T09:00:00Z","ageDays":91,"lastUsedDate":null,"neverUsed":null,"idleDays":null,"serviceName":null,"region":null,`
		none  = `"accessKeyId":null,"status":null,"createDate":null,"ageDays":null,"lastUsedDate":null,"neverUsed":null,"idleDays":null,"serviceName":null,"region":null,`
	)
	want := []string{
		`{"rule":"unused","severity":"high",` + who + "," + one + after,
		`{"rule":"unused","severity":"high",` + who + "," + two + after,
		`{"rule":"extra-keys","severity":"high",` + who + "," + none + after,
		`{"rule":"overdue","severity":"medium",` + who + "," + one + after,
		`{"rule":"overdue","severity":"medium",` + who + "," + two + after,
		`{"rule":"overdue","severity":"medium",` + who + "," + three + after,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestExemption: an exemption holds through its last day, UTC, and at most 400
// days ahead. One that does not hold says why.
func TestExemption(t *testing.T) {
	tag := func(key, value string) iamkeys.Tag { return iamkeys.Tag{Key: key, Value: value} }
	const holds = ""
	for _, test := range []struct {
		name    string
		tags    []iamkeys.Tag
		asOf    string
		invalid string // what Invalid says, in part
	}{
		{"today", []iamkeys.Tag{tag("iamkeys:exempt-until", "2026-11-23"), tag("iamkeys:exempt-reason", "frozen until spring")}, "2026-11-23T09:00:00Z", holds},
		{"the last second of the last day", []iamkeys.Tag{tag("iamkeys:exempt-until", "2026-11-23"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T23:59:59Z", holds},
		{"the same second elsewhere", []iamkeys.Tag{tag("iamkeys:exempt-until", "2026-11-23"), tag("iamkeys:exempt-reason", "x")}, "2026-11-24T01:59:59+02:00", holds},
		{"the second after", []iamkeys.Tag{tag("iamkeys:exempt-until", "2026-11-23"), tag("iamkeys:exempt-reason", "x")}, "2026-11-24T00:00:00Z", "expired"},
		{"years ago", []iamkeys.Tag{tag("iamkeys:exempt-until", "2020-01-01"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", "expired"},
		{"400 days ahead", []iamkeys.Tag{tag("iamkeys:exempt-until", "2027-12-28"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", holds},
		{"400 days ahead, late in the day", []iamkeys.Tag{tag("iamkeys:exempt-until", "2027-12-28"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T23:59:59Z", holds},
		{"401 days ahead", []iamkeys.Tag{tag("iamkeys:exempt-until", "2027-12-29"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T23:59:59Z", "400 days"},
		{"for ever", []iamkeys.Tag{tag("iamkeys:exempt-until", "9999-12-31"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", "400 days"},
		{"without a reason", []iamkeys.Tag{tag("iamkeys:exempt-until", "2026-12-31")}, "2026-11-23T00:00:00Z", "exempt-reason"},
		{"with an empty reason", []iamkeys.Tag{tag("iamkeys:exempt-until", "2026-12-31"), tag("iamkeys:exempt-reason", "")}, "2026-11-23T00:00:00Z", "exempt-reason"},
		{"with a blank reason", []iamkeys.Tag{tag("iamkeys:exempt-until", "2026-12-31"), tag("iamkeys:exempt-reason", " \t ")}, "2026-11-23T00:00:00Z", "exempt-reason"},
		{"only a reason", []iamkeys.Tag{tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", "exempt-until"},
		{"no date", []iamkeys.Tag{tag("iamkeys:exempt-until", "next year"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", "exempt-until"},
		{"an empty date", []iamkeys.Tag{tag("iamkeys:exempt-until", ""), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", "exempt-until"},
		{"a time", []iamkeys.Tag{tag("iamkeys:exempt-until", "2026-12-31T00:00:00Z"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", "exempt-until"},
		{"no such day", []iamkeys.Tag{tag("iamkeys:exempt-until", "2027-02-29"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", "exempt-until"},
		{"another order", []iamkeys.Tag{tag("iamkeys:exempt-until", "31-12-2026"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", "exempt-until"},
		{"one digit", []iamkeys.Tag{tag("iamkeys:exempt-until", "2026-12-1"), tag("iamkeys:exempt-reason", "x")}, "2026-11-23T00:00:00Z", "exempt-until"},
		{"keys in other cases", []iamkeys.Tag{tag("IAMKeys:Exempt-Until", "2026-12-31"), tag("iamKEYS:exempt-REASON", "x")}, "2026-11-23T00:00:00Z", holds},
	} {
		t.Run(test.name, func(t *testing.T) {
			now, err := time.Parse(time.RFC3339, test.asOf)
			if err != nil {
				t.Fatal(err)
			}
			u := of(fact{iamkeys.Active, 400 * day, 0})
			u.Tags = test.tags
			r := judge(u, now)
			if test.invalid == holds {
				if len(r.Findings) > 0 || len(r.Exempt) != 1 || r.Summary.Exempt != 1 || r.Summary.Severities.Medium != 0 || r.Summary.Rules[audit.Overdue] != 0 {
					t.Fatalf("findings %v, exempt %v, summary %+v; want one exempt and none counted", r.Findings, r.Exempt, r.Summary)
				}
				f := r.Exempt[0]
				if until, _ := u.Tag("iamkeys:exempt-until"); f.State != audit.Exempt || f.Exemption.Invalid != nil || f.Exemption.Until != until || f.Exemption.Reason == "" {
					t.Errorf("state %s, exemption %+v", f.State, f.Exemption)
				}
				return
			}
			if len(r.Findings) != 1 || len(r.Exempt) != 0 || r.Summary.Severities.Medium != 1 {
				t.Fatalf("findings %v, exempt %v, summary %+v; want one that counts", r.Findings, r.Exempt, r.Summary)
			}
			if e := r.Findings[0].Exemption; e == nil || e.Invalid == nil || !strings.Contains(*e.Invalid, test.invalid) {
				t.Errorf("exemption %+v, want one that is invalid by %q", e, test.invalid)
			}
		})
	}
}

// TestExemptionOfRules: the same good exemption on a user for which every rule holds.
func TestExemptionOfRules(t *testing.T) {
	u := of(fact{iamkeys.Active, 100 * day, never}, fact{iamkeys.Active, 80 * day, 0}, fact{iamkeys.Inactive, 100 * day, never})
	u.Tags = []iamkeys.Tag{{Key: iamkeys.TagExemptUntil, Value: "2026-12-31"}, {Key: iamkeys.TagExemptReason, Value: "x"}}
	u.AttachedPolicies = []string{"arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3"}
	u.Unexamined = "Throttled"
	r := judge(u, asOf)
	if got, want := found(r.Findings), "exposed unexamined"; got != want {
		t.Errorf("findings %q, want %q", got, want)
	}
	if got, want := found(r.Exempt), "extra-keys unused overdue aging two-active lingering"; got != want {
		t.Errorf("exempt %q, want %q", got, want)
	}
	for _, f := range r.Findings {
		if f.Exemption == nil || f.Exemption.Invalid == nil || !strings.Contains(*f.Exemption.Invalid, "cannot be exempted") {
			t.Errorf("%s does not say that it cannot be exempted: %+v", f.Rule, f.Exemption)
		}
	}
	root := audit.UserFacts{Root: true, RootKey: true, User: iamkeys.User{UserName: audit.RootName, Tags: u.Tags}}
	if r := judge(root, asOf); found(r.Findings) != "root-key" || len(r.Exempt) > 0 {
		t.Errorf("root: findings %q, exempt %q", found(r.Findings), found(r.Exempt))
	}
}

// TestOwner: the tag that the parameter names, in any case.
func TestOwner(t *testing.T) {
	for key, want := range map[string]string{"owner": "x", "Owner": "x", "OWNER": "x", "owners": "", "": ""} {
		u := of(fact{iamkeys.Active, 100 * day, 0})
		u.Tags = []iamkeys.Tag{{Key: "other", Value: "y"}, {Key: key, Value: "x"}}
		f := judge(u, asOf).Findings[0]
		if got := f.Owner; want == "" && got != nil || want != "" && (got == nil || *got != want) {
			t.Errorf("%q: got %v", key, got)
		}
	}
}

// TestRulesOnlyGrow: more elapsed time removes no finding of a key that nobody
// touched; an aging one becomes overdue.
func TestRulesOnlyGrow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var facts []fact
		for range rapid.IntRange(0, 4).Draw(rt, "keys") {
			age := time.Duration(rapid.Int64Range(0, int64(200*day/time.Second)).Draw(rt, "age, s")) * time.Second
			idle := time.Duration(rapid.Int64Range(-2, int64(age/time.Second)).Draw(rt, "idle, s"))
			if idle > 0 {
				idle *= time.Second
			}
			facts = append(facts, fact{rapid.SampledFrom([]iamkeys.Status{iamkeys.Active, iamkeys.Inactive, iamkeys.Expired, "Sleeping"}).Draw(rt, "status"), age, idle})
		}
		u := of(facts...)
		first := asOf.Add(time.Duration(rapid.Int64Range(0, int64(100*day/time.Second)).Draw(rt, "first, s")) * time.Second)
		later := first.Add(time.Duration(rapid.Int64Range(0, int64(100*day/time.Second)).Draw(rt, "later, s")) * time.Second)
		type at struct {
			rule    audit.RuleID
			created time.Time
		}
		place := func(f audit.Finding) at {
			if f.CreateDate == nil {
				return at{rule: f.Rule}
			}
			return at{f.Rule, *f.CreateDate}
		}
		now := map[at]bool{}
		for _, f := range judge(u, later).Findings {
			now[place(f)] = true
		}
		for _, f := range judge(u, first).Findings {
			was := place(f)
			if f.Rule == audit.Aging && !now[was] {
				was.rule = audit.Overdue
			}
			if !now[was] {
				rt.Errorf("%s of the key of %s is gone after %s", was.rule, was.created, later.Sub(first))
			}
		}
	})
}

var dates = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)

// FuzzExemption: whatever the tags say, a finding counts unless they name a
// reason and a day from today to 400 days ahead; and it says why.
func FuzzExemption(f *testing.F) {
	f.Add("2026-12-31", "frozen until spring", 0)
	f.Add("2026-11-23", "x", 86399)
	f.Add("2027-12-28", " ", -86400)
	f.Add(" 2026-12-31\t", " frozen ", 0)
	f.Add("2028-02-29", "\x00", 400*86400)
	f.Add("+2026-1-1", "", 1)
	f.Fuzz(func(t *testing.T, until, reason string, seconds int) {
		now := asOf.Add(time.Duration(seconds%(1000*86400)) * time.Second)
		asWritten := []iamkeys.Tag{{Key: iamkeys.TagExemptUntil, Value: until}, {Key: iamkeys.TagExemptReason, Value: reason}}
		until, reason = strings.TrimSpace(until), strings.TrimSpace(reason)
		u := of(fact{iamkeys.Inactive, 10 * 365 * day, unknown})
		u.Tags = asWritten
		last, err := time.Parse(time.RFC3339, until+"T23:59:59Z")
		holds := err == nil && dates.MatchString(until) && reason != "" && !now.After(last) && last.Sub(now) < 401*day
		r := judge(u, now)
		if len(r.Findings)+len(r.Exempt) != 1 || (len(r.Exempt) == 1) != holds {
			t.Fatalf("until %q, reason %q at %s: findings %v, exempt %v; want exempt: %v", until, reason, now, r.Findings, r.Exempt, holds)
		}
		e := append(r.Findings, r.Exempt...)[0].Exemption
		if e == nil || (e.Invalid == nil) != holds || e.Until != until || e.Reason != reason || e.Invalid != nil && *e.Invalid == "" {
			t.Errorf("until %q, reason %q at %s: exemption %+v", until, reason, now, e)
		}
	})
}
