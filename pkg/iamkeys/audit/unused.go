package audit

import (
	"context"
	"encoding/json"
	"time"

	"iamkeys/pkg/iamkeys"
)

// FindUnused nominates keys to be retired: Active ones that nobody has used for long, by the
// rule that [iamkeys.Retire] goes by, one of each user.
type FindUnused struct {
	Nominator
	Rule iamkeys.RetirementRule
}

// UnusedInput is what FindUnused takes.
type UnusedInput struct {
	Limit *int `json:"limit,omitempty"` // retirements at most; default: the parameter MaxRetirementsPerRun
}

// UnusedOutput is what FindUnused returns. Skipped names 50 keys at most; SkippedCounts
// counts them all, by reason.
type UnusedOutput struct {
	Retirements   []UnusedKey        `json:"retirements"` // longest idle first
	Skipped       []SkippedKey       `json:"skipped"`
	SkippedCounts map[SkipReason]int `json:"skippedCounts"`
	Coverage      Coverage           `json:"coverage"`
}

// An UnusedKey is one that is nominated.
type UnusedKey struct {
	UserName    string        `json:"userName"`
	AccessKeyID string        `json:"accessKeyId"`
	IdleDays    int           `json:"idleDays"`
	Owner       *string       `json:"owner"`
	Power       iamkeys.Power `json:"power"`
	Execution   string        `json:"execution"` // the name of its retirement's execution: a workflow joins no texts
}

// A SkippedKey is one that is, or may be, unused and is not nominated.
type SkippedKey struct {
	UserName    string     `json:"userName"`
	AccessKeyID string     `json:"accessKeyId"` // "" when the user's keys could not be read
	Reason      SkipReason `json:"reason"`
	Date        *time.Time `json:"date,omitempty"` // of its retirement: since when it goes on, or when it ended
}

// Validate refuses a malformed input with InvalidInput.
func (in UnusedInput) Validate() error { return checkLimit(in.Limit, "retirements") }

// Run nominates. It fails with InventoryUnavailable when nothing is known of the
// account; what could not be examined stands in coverage and skipped.
func (o FindUnused) Run(ctx context.Context, in UnusedInput) (UnusedOutput, error) {
	now := o.Now()
	out := UnusedOutput{Retirements: []UnusedKey{}, Skipped: []SkippedKey{}, SkippedCounts: map[SkipReason]int{}}
	all, coverage, err := o.nominate(ctx, o.way(now), in.Limit)
	out.Coverage = coverage
	if err != nil {
		return out, err
	}
	const most = 50 // keys that it names
	for _, n := range all {
		if n.reason != "" {
			out.SkippedCounts[n.reason]++
			if n.reason == SkipRotating {
				n.date = nil
			}
			if len(out.Skipped) < most {
				out.Skipped = append(out.Skipped, SkippedKey{n.user.UserName, n.key.AccessKeyID, n.reason, n.date})
			}
			continue
		}
		idle := iamkeys.Days(now.Sub(iamkeys.IdleSince(n.key.AccessKey, *n.key.LastUsed)))
		out.Retirements = append(out.Retirements, UnusedKey{n.user.UserName, n.key.AccessKeyID, idle, n.owner(o.OwnerTag), n.user.Power(), iamkeys.RetirePrefix + n.key.AccessKeyID})
	}
	fit(&out, func() bool {
		if last := len(out.Skipped) - 1; last >= 0 {
			out.Skipped = out.Skipped[:last]
			return true
		}
		last := len(out.Retirements) - 1
		out.Retirements = out.Retirements[:last]
		out.SkippedCounts[SkipLimit]++
		return last > 0
	})
	return out, nil
}

// way is retirement, as a nomination sees it.
func (o FindUnused) way(now time.Time) way {
	return way{
		workflow: iamkeys.RetirementWorkflow, prefix: iamkeys.RetirePrefix, onceAUser: true,
		candidates: func(u UserFacts) (keys []KeyFacts) {
			for _, k := range u.Keys {
				used := iamkeys.LastUsed{} // unknown: it may be unused, if it is old enough
				if k.LastUsed != nil {
					used = *k.LastUsed
				}
				if o.Rule.InUse(k.AccessKey, used, now) == nil {
					keys = append(keys, k)
				}
			}
			if u.Unexamined != "" && len(u.Keys) == 0 {
				return []KeyFacts{{}}
			}
			return keys
		},
		order: func(a, b nominee) int { return a.idleSince(now).Compare(b.idleSince(now)) },
		vet: func(n nominee) (SkipReason, *time.Time) {
			if n.user.Exposed() {
				return SkipExposed, nil
			}
			if n.user.Unexamined != "" || n.key.LastUsed == nil || n.key.AccessKeyID == "" {
				return SkipUnexamined, nil
			}
			switch code := iamkeys.CodeOf(o.Rule.Keeps(n.user.User, now)); {
			case code == iamkeys.KeyExempt:
				return SkipExempt, nil
			case code != "" && n.user.Under(o.Rule.UserPath):
				return SkipProtected, nil
			case code != "":
				return SkipPath, nil
			}
			return "", nil
		},
		ended: func(e iamkeys.Execution) SkipReason {
			var output struct {
				Outcome string `json:"outcome"`
			}
			if e.Status == iamkeys.ExecutionSucceeded && json.Unmarshal(e.Output, &output) == nil {
				switch reason := SkipReason(output.Outcome); reason {
				case SkipKept, SkipRolledBack:
					return reason
				}
			}
			return SkipFailed
		},
		inSecret: func(ctx context.Context, n nominee) (SkipReason, error) {
			err := o.Rule.Replacement(ctx, o.SecretsManager, n.user.User, n.keys(), n.key.AccessKey)
			if iamkeys.CodeOf(err) == iamkeys.KeyInUse {
				return SkipDelivered, nil
			}
			return "", err
		},
	}
}

// idleSince orders nominees; those of whose use nothing is known come last.
func (n nominee) idleSince(now time.Time) time.Time {
	if n.key.LastUsed == nil {
		return now
	}
	return iamkeys.IdleSince(n.key.AccessKey, *n.key.LastUsed)
}
