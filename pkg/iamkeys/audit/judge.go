package audit

import (
	"fmt"
	"time"

	"iamkeys/pkg/iamkeys"
)

// Judge applies every rule to every user of the inventory, as of that time. It
// is a pure function. The report it gives compares with nothing: its findings
// are open, their first sight unknown.
func Judge(inv Inventory, t Thresholds, ownerTag string, asOf time.Time) Report {
	asOf = asOf.UTC().Truncate(time.Second) // as the report says it, so that it can be judged again
	r := Report{
		Summary: Summary{
			SchemaVersion: SchemaVersion, AsOf: asOf, Inventory: inv.Source, GeneratedTime: inv.GeneratedTime,
			Thresholds: t, KeyAges: KeyAges{BucketDays: ageBucketDays}, Notes: append([]string{}, inv.Notes...),
		},
		Findings: []Finding{}, Exempt: []Finding{}, Resolved: []Finding{},
	}
	for _, u := range append([]UserFacts{inv.Root}, inv.Users...) {
		for _, f := range judgeUser(u, t, ownerTag, asOf) {
			if f.State == Exempt {
				r.Exempt = append(r.Exempt, f)
			} else {
				r.Findings = append(r.Findings, f)
			}
		}
		for _, k := range u.Keys {
			if k.Status == iamkeys.Active {
				r.Summary.KeyAges.add(iamkeys.Days(asOf.Sub(k.CreateDate)))
			}
		}
	}
	r.of(inv.Account)
	r.Summary.Coverage = inv.coverage()
	r.count()
	return r
}

// coverage counts what was examined.
func (inv Inventory) coverage() Coverage {
	c := Coverage{Users: len(inv.Users), Complete: inv.Root.Unexamined == ""}
	for _, u := range inv.Users {
		c.Keys += u.keyCount()
		if u.Unexamined == "" {
			c.UsersExamined++
		}
		for _, k := range u.Keys {
			confirmed := u.Unexamined == "" || k.AccessKeyID != "" // by the live answer, where one was asked for
			if confirmed && k.LastUsed != nil && k.Known() == nil {
				c.KeysExamined++
			}
		}
	}
	c.Complete = c.Complete && c.UsersExamined == c.Users && c.KeysExamined == c.Keys
	return c
}

// judgeUser applies every rule to one user.
func judgeUser(u UserFacts, t Thresholds, ownerTag string, asOf time.Time) []Finding {
	var found []Finding
	add := func(r Rule, k *KeyFacts) {
		f := Finding{Rule: r.ID, Severity: r.Severity, UserName: u.UserName, UserARN: u.ARN, Power: u.Power(), State: Open, Remedy: r.remedy(u, k, t, asOf), Controls: r.Controls}
		if owner, ok := u.Tag(ownerTag); ok {
			f.Owner = iamkeys.Optional(owner)
		}
		if k != nil {
			f.key(*k, asOf)
		}
		if f.Exemption = exemption(u.User, r, asOf); f.Exemption != nil && f.Exemption.Invalid == nil {
			f.State = Exempt
		}
		found = append(found, f)
	}
	for _, r := range Rules {
		if r.user != nil && r.user(u, t, asOf) {
			add(r, nil)
		}
		for i := range u.Keys {
			if r.key != nil && r.key(u.Keys[i], t, asOf) {
				add(r, &u.Keys[i])
			}
		}
	}
	return found
}

// key sets what the finding says of its key.
func (f *Finding) key(k KeyFacts, asOf time.Time) {
	status, age := k.Status, iamkeys.Days(asOf.Sub(k.CreateDate))
	f.AccessKeyID, f.Status, f.CreateDate, f.AgeDays = iamkeys.Optional(k.AccessKeyID), &status, iamkeys.Instant(k.CreateDate), &age
	if k.LastUsed != nil {
		never, idle := k.LastUsed.Never(), iamkeys.Days(asOf.Sub(iamkeys.IdleSince(k.AccessKey, *k.LastUsed)))
		f.LastUsedDate, f.NeverUsed, f.IdleDays = iamkeys.Instant(k.LastUsed.Date), &never, &idle
		f.ServiceName, f.Region = iamkeys.Optional(k.LastUsed.ServiceName), iamkeys.Optional(k.LastUsed.Region)
	}
}

// exemption gives the user's exemption as it counts for the rule, nil when there is none.
func exemption(u iamkeys.User, r Rule, asOf time.Time) *iamkeys.Exemption {
	e := u.Exemption(asOf)
	if e != nil && !r.Exempts {
		e.Invalid = iamkeys.Optional(fmt.Sprintf("the rule %s cannot be exempted", r.ID))
	}
	return e
}

// ageBucketDays and ageBuckets make the histogram reach two years.
const (
	ageBucketDays = 15
	ageBuckets    = 49
)

func (h *KeyAges) add(age int) {
	if h.Counts == nil {
		h.Counts = make([]int, ageBuckets)
	}
	h.Counts[min(age/ageBucketDays, ageBuckets-1)]++
	if h.OldestDays == nil || age > *h.OldestDays {
		h.OldestDays = &age
	}
}

// count brings order and the summary's figures in line with the findings.
func (r *Report) count() {
	worstFirst(r.Findings)
	worstFirst(r.Exempt)
	worstFirst(r.Resolved)
	s := &r.Summary
	s.Severities, s.Rules, s.New, s.Open = SeverityCounts{}, map[RuleID]int{}, 0, 0
	for _, rule := range Rules {
		s.Rules[rule.ID] = 0
	}
	for _, f := range r.Findings {
		s.Rules[f.Rule]++
		switch f.Severity {
		case Critical:
			s.Severities.Critical++
		case High:
			s.Severities.High++
		case Medium:
			s.Severities.Medium++
		case Low:
			s.Severities.Low++
		}
		if f.State == New {
			s.New++
		} else {
			s.Open++
		}
	}
	s.Exempt, s.Resolved = len(r.Exempt), len(r.Resolved)
	if s.KeyAges.Counts == nil {
		s.KeyAges.Counts = []int{}
	}
	if s.Notes == nil {
		s.Notes = []string{}
	}
}
