package audit

import (
	"cmp"
	"slices"
	"time"

	"iamkeys/pkg/iamkeys"
)

// SchemaVersion is the version of the JSON report. It changes when a field
// changes its meaning or goes; new fields alone do not change it.
const SchemaVersion = 1

// RootName is the name under which the report speaks of the root user, as the
// credential report does.
const RootName = "<root_account>"

// A Report is one audit's result. Its JSON form is described by the schema in
// pkg/render; the text, CSV and HTML forms are made of the same value.
type Report struct {
	Summary  Summary   `json:"summary"`
	Findings []Finding `json:"findings"`          // new and open, worst first
	Exempt   []Finding `json:"exempt"`            // would be findings without their exemption
	Resolved []Finding `json:"resolved"`          // as they were in the report before
	Omitted  *int      `json:"omitted,omitempty"` // entries that this copy of the report leaves out; null in the stored one
}

// of says whose account the report and its findings are about.
func (r *Report) of(account string) {
	r.Summary.Account = account
	for _, findings := range [][]Finding{r.Findings, r.Exempt, r.Resolved} {
		for i := range findings {
			findings[i].Account = account
		}
	}
}

// Summary is what a report comes to.
type Summary struct {
	SchemaVersion int            `json:"schemaVersion"`
	RunID         string         `json:"runId"`
	Account       string         `json:"account"`
	AsOf          time.Time      `json:"asOf"`          // when the facts were judged
	Inventory     Source         `json:"inventory"`     // where they come from
	GeneratedTime time.Time      `json:"generatedTime"` // when they were taken; last use is as of then
	ComparedWith  *time.Time     `json:"comparedWith"`  // asOf of the report that new, open and resolved refer to; null when there was none to compare with
	Coverage      Coverage       `json:"coverage"`
	Severities    SeverityCounts `json:"severities"`
	Rules         map[RuleID]int `json:"rules"` // every rule, also those without a finding
	New           int            `json:"new"`
	Open          int            `json:"open"` // not counting new ones
	Resolved      int            `json:"resolved"`
	Exempt        int            `json:"exempt"`
	Thresholds    Thresholds     `json:"thresholds"`
	KeyAges       KeyAges        `json:"keyAges"`
	SecurityHub   *SecurityHub   `json:"securityHub"` // null when off
	Notes         []string       `json:"notes"`       // what a reader must know of how the report came about
}

// SecurityHub says what became of the findings that were sent to AWS Security Hub.
type SecurityHub struct {
	Enabled bool `json:"enabled"` // Security Hub is on in the account and Region
	Sent    int  `json:"sent"`
	Refused int  `json:"refused"`
}

// Coverage says what was examined. The root user is not counted. Complete means
// that nothing was left out, the root user included.
type Coverage struct {
	Users         int  `json:"users"`
	UsersExamined int  `json:"usersExamined"`
	Keys          int  `json:"keys"` // those known of
	KeysExamined  int  `json:"keysExamined"`
	Complete      bool `json:"complete"`
}

// notExamined counts what was left out, and is 0 only when coverage is complete.
func (c Coverage) notExamined() int {
	n := c.Users - c.UsersExamined + c.Keys - c.KeysExamined
	if n == 0 && !c.Complete {
		return 1 // the root user
	}
	return n
}

// SeverityCounts counts findings, exempt ones aside.
type SeverityCounts struct {
	Critical int `json:"critical"`
	High     int `json:"high"`
	Medium   int `json:"medium"`
	Low      int `json:"low"`
}

// KeyAges is a histogram of the ages of Active keys. Counts[i] counts those of
// i×BucketDays up to (i+1)×BucketDays days; the last one also all older ones.
type KeyAges struct {
	BucketDays int   `json:"bucketDays"`
	Counts     []int `json:"counts"`
	OldestDays *int  `json:"oldestDays"` // null without Active keys
}

// A Severity ranks a rule.
type Severity string

// The severities, worst first.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
)

// Severities lists the severities, worst first.
var Severities = []Severity{Critical, High, Medium, Low}

// A State says how a finding compares with the report before.
type State string

// The states of a finding.
const (
	New      State = "new"
	Open     State = "open"
	Exempt   State = "exempt"
	Resolved State = "resolved"
)

// A Finding is one rule that holds for one key, or for one user where
// AccessKeyID, Status and the dates are null.
type Finding struct {
	Rule         RuleID             `json:"rule"`
	Severity     Severity           `json:"severity"`
	Account      string             `json:"account"`
	UserName     string             `json:"userName"`
	UserARN      string             `json:"userArn"`
	AccessKeyID  *string            `json:"accessKeyId"` // null also when the key's user could not be read live
	Status       *iamkeys.Status    `json:"status"`
	CreateDate   *time.Time         `json:"createDate"`
	AgeDays      *int               `json:"ageDays"`
	LastUsedDate *time.Time         `json:"lastUsedDate"`
	NeverUsed    *bool              `json:"neverUsed"` // null: unknown
	IdleDays     *int               `json:"idleDays"`
	ServiceName  *string            `json:"serviceName"`
	Region       *string            `json:"region"`
	Owner        *string            `json:"owner"`
	Power        iamkeys.Power      `json:"power"`
	State        State              `json:"state"`
	FirstSeen    *time.Time         `json:"firstSeen"`
	Exemption    *iamkeys.Exemption `json:"exemption"`
	Remedy       string             `json:"remedy"`
	Controls     []string           `json:"controls"` // CIS AWS Foundations and Security Hub numbers
}

// identity is what makes two findings of two runs the same one.
type identity struct {
	rule    RuleID
	user    string    // as identifies says
	created time.Time // zero for rules that find users
}

// identifies gives what tells a user from all others, at any time: its ARN, but
// for the root user its name, since its ARN is not known without a credential report.
func identifies(userName, arn string) string {
	if userName == RootName {
		return RootName
	}
	return arn
}

func (f Finding) identity() identity {
	id := identity{rule: f.Rule, user: identifies(f.UserName, f.UserARN)}
	if f.CreateDate != nil && !f.Rule.ofUsers() {
		id.created = f.CreateDate.UTC()
	}
	return id
}

// sameKey reports whether two findings of one identity can be of the same key:
// two keys may have been made in the same second.
func (f Finding) sameKey(o Finding) bool {
	return f.AccessKeyID == nil || o.AccessKeyID == nil || *f.AccessKeyID == *o.AccessKeyID
}

// Highest gives the worst severity among the findings, "" when there are none.
func (r Report) Highest() Severity { return r.Summary.Severities.worst() }

// worst gives the worst severity that is there, "" when none is.
func (c SeverityCounts) worst() Severity {
	for _, s := range Severities {
		if c.Of(s) > 0 {
			return s
		}
	}
	return ""
}

// Of gives the count of that severity.
func (c SeverityCounts) Of(s Severity) int {
	switch s {
	case Critical:
		return c.Critical
	case High:
		return c.High
	case Medium:
		return c.Medium
	case Low:
		return c.Low
	}
	return 0
}

// worstFirst orders findings by severity, power of the user and age of the key (those
// of users last), then by what tells them apart.
func worstFirst(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(Severities, a.Severity), slices.Index(Severities, b.Severity)),
			cmp.Compare(slices.Index(iamkeys.Powers, a.Power), slices.Index(iamkeys.Powers, b.Power)),
			a.created().Compare(b.created()),
			cmp.Compare(a.UserName, b.UserName),
			cmp.Compare(a.UserARN, b.UserARN),
			cmp.Compare(a.Rule, b.Rule),
		)
	})
}

// created is the key's create date, of findings without one a date after all others.
func (f Finding) created() time.Time {
	if f.CreateDate == nil {
		return time.Unix(1<<40, 0)
	}
	return *f.CreateDate
}
