package audit

import (
	"context"
	"errors"
	"time"

	"iamkeys/pkg/iamkeys"
)

// Due nominates users whose key is to be rotated: those that opted in by the tag
// iamkeys:rotate = on and whose only Active key is old enough.
type Due struct {
	Nominator
	UserPath        string // users of other paths may not be changed
	UnusedDays      int
	RotateAgeDays   int
	RetireAfterDays int // when an unused key is retired
}

// DueInput is what Due takes.
type DueInput struct {
	Limit *int `json:"limit,omitempty"` // rotations at most; default: the parameter MaxRotationsPerRun
}

// DueOutput is what Due returns. Skipped names users of those that opted in, 100 at
// most; SkippedCounts counts them all, by reason.
type DueOutput struct {
	Rotations     []DueRotation      `json:"rotations"` // oldest key first
	Skipped       []SkippedUser      `json:"skipped"`
	SkippedCounts map[SkipReason]int `json:"skippedCounts"`
	Coverage      Coverage           `json:"coverage"`
}

// A DueRotation is the rotation of one key.
type DueRotation struct {
	UserName    string  `json:"userName"`
	AccessKeyID string  `json:"accessKeyId"`
	SecretID    string  `json:"secretId"`
	AgeDays     int     `json:"ageDays"`
	Owner       *string `json:"owner"`
}

// A SkippedUser is a user that opted in and is not nominated.
type SkippedUser struct {
	UserName string     `json:"userName"`
	Reason   SkipReason `json:"reason"`
	Date     *time.Time `json:"date,omitempty"` // from which an unused key is retired
}

// Validate refuses a malformed input with InvalidInput.
func (in DueInput) Validate() error { return checkLimit(in.Limit, "rotations") }

// Run nominates. It fails with InventoryUnavailable when nothing is known of the
// account; what could not be examined stands in coverage and skipped.
func (o Due) Run(ctx context.Context, in DueInput) (DueOutput, error) {
	out := DueOutput{Rotations: []DueRotation{}, Skipped: []SkippedUser{}, SkippedCounts: map[SkipReason]int{}}
	all, coverage, err := o.nominate(ctx, o.way(o.Now()), in.Limit)
	out.Coverage = coverage
	if err != nil {
		return out, err
	}
	const most = 100 // users that it names
	for _, n := range all {
		if n.reason != "" {
			out.SkippedCounts[n.reason]++
			if n.reason != SkipUnused {
				n.date = nil
			}
			if len(out.Skipped) < most {
				out.Skipped = append(out.Skipped, SkippedUser{n.user.UserName, n.reason, n.date})
			}
			continue
		}
		out.Rotations = append(out.Rotations, DueRotation{n.user.UserName, n.key.AccessKeyID, n.secretID, iamkeys.Days(o.Now().Sub(n.key.CreateDate)), n.owner(o.OwnerTag)})
	}
	fit(&out, func() bool {
		if last := len(out.Skipped) - 1; last >= 0 {
			out.Skipped = out.Skipped[:last]
			return true
		}
		last := len(out.Rotations) - 1
		out.Rotations = out.Rotations[:last]
		out.SkippedCounts[SkipLimit]++
		return last > 0
	})
	return out, nil
}

// way is rotation, as a nomination sees it.
func (o Due) way(now time.Time) way {
	return way{
		workflow: iamkeys.RotationWorkflow,
		candidates: func(u UserFacts) []KeyFacts {
			old := o.oldest(u.Keys)
			switch {
			case u.Rotate() == iamkeys.NotOptedIn:
			case old != nil && (u.Rotate() == iamkeys.UnclearOptIn || now.Sub(old.CreateDate) > iamkeys.DayCount(o.RotateAgeDays)):
				return []KeyFacts{*old}
			case u.Unexamined != "":
				return []KeyFacts{{}}
			}
			return nil
		},
		order: func(a, b nominee) int { return since(a, now).Compare(since(b, now)) },
		vet: func(n nominee) (SkipReason, *time.Time) {
			overdue, _ := RuleOf(Overdue)
			var fault iamkeys.NameFault
			switch e := exemption(n.user.User, overdue, now); {
			case n.user.Exposed():
				return SkipExposed, nil
			case n.user.Rotate() == iamkeys.UnclearOptIn:
				return SkipUnclear, nil
			case n.user.Unexamined != "" || n.key.LastUsed == nil || n.key.AccessKeyID == "":
				return SkipUnexamined, nil
			case e != nil && e.Invalid == nil:
				return SkipExempt, nil
			case !n.user.Under(o.UserPath):
				return SkipPath, nil
			case n.user.Protected():
				return SkipProtected, nil
			case n.user.keyCount() > 1:
				return SkipNoSlot, nil
			case n.key.unused(o.UnusedDays, now):
				retired := iamkeys.IdleSince(n.key.AccessKey, *n.key.LastUsed).Add(iamkeys.DayCount(o.RetireAfterDays) + iamkeys.LastUsedLag)
				return SkipUnused, iamkeys.Instant(retired)
			case errors.As(n.fault, &fault):
				return SkipReason(fault), nil
			case n.fault != nil:
				return SkipUnexamined, nil
			}
			return "", nil
		},
		ended: func(iamkeys.Execution) SkipReason { return SkipFailed }, // the key is there still: a person must look
		inSecret: func(ctx context.Context, n nominee) (SkipReason, error) {
			secret, err := o.SecretsManager.DescribeSecret(ctx, n.secretID)
			switch {
			case err != nil && iamkeys.CodeOf(err) != iamkeys.NoSuchEntity:
				return "", err
			case n.unproved && !secret.Deleted && !secret.DeliversOne(n.user.UserName, n.keys()):
				return SkipNotByTag, nil
			case secret.CreateAtWork(now): // its rotation would be refused, and be over for good
				return SkipRotating, nil
			}
			return "", nil
		},
	}
}

// oldest gives the oldest Active key, nil when there is none.
func (o Due) oldest(keys []KeyFacts) *KeyFacts {
	var old *KeyFacts
	for i, k := range keys {
		if k.Status == iamkeys.Active && (old == nil || k.CreateDate.Before(old.CreateDate)) {
			old = &keys[i]
		}
	}
	return old
}

// since orders nominees by the create date of their key; those without one come last.
func since(n nominee, now time.Time) time.Time {
	if n.key.CreateDate.IsZero() {
		return now
	}
	return n.key.CreateDate
}
