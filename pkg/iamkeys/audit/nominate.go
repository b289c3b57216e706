package audit

import (
	"context"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// Due nominates users whose key is to be rotated: those that opted in by the tag
// iamkeys:rotate = on and whose only Active key is old enough. It starts nothing.
type Due struct {
	Inventory     TakeInventory
	StepFunctions iamkeys.DescribeExecution
	Secrets       iamkeys.SecretNames
	UserPath      string // users of other paths may not be changed
	OwnerTag      string
	UnusedDays    int
	RotateAgeDays int
	MaxRotations  int // nominated at most, when the input names no limit
	Now           func() time.Time
}

// DueInput is what Due takes.
type DueInput struct {
	Limit *int `json:"limit,omitempty"` // rotations at most; default: the parameter MaxRotationsPerRun
}

// DueOutput is what Due returns. Skipped names at most 100 users; SkippedCounts
// counts them all, by reason.
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
}

// A SkipReason says why a user is not nominated.
type SkipReason string

// The reasons.
const (
	SkipExempt     SkipReason = "exempt"              // its exemption holds
	SkipUnused     SkipReason = "unused"              // delete the key instead
	SkipNoSlot     SkipReason = "noFreeSlot"          // it has two keys
	SkipSecret     SkipReason = "secretOutsidePrefix" // its tag names a secret that iamkeys may not write
	SkipPath       SkipReason = "outsideUserPath"     // it may not be changed
	SkipProtected  SkipReason = "protected"           // it may not be changed either, by its tag iamkeys:protect
	SkipRotating   SkipReason = "rotating"            // an execution runs
	SkipFailed     SkipReason = "failed"              // an execution ended without replacing the key; a person must look, within the 90 days that Step Functions knows of it
	SkipUnexamined SkipReason = "unexamined"          // it could not be read
	SkipLimit      SkipReason = "overLimit"           // its turn comes in a later run
)

// The output is a state of the scheduled rotation and must stay below 32 KiB
// with 40 rotations, however long names and owners are.
const (
	maxSkipped = 100 // users that it names
	maxOwner   = 100 // of an owner, bytes
)

// Validate refuses a malformed input with InvalidInput.
func (in DueInput) Validate() error {
	if in.Limit != nil && (*in.Limit < 1 || *in.Limit > 40) {
		return iamkeys.Refuse(iamkeys.InvalidInput, "limit must be 1 to 40 rotations; got %d.", *in.Limit)
	}
	return nil
}

// Run nominates. It fails with InventoryUnavailable when nothing is known of the
// account; what could not be examined stands in coverage and skipped.
func (o Due) Run(ctx context.Context, in DueInput) (DueOutput, error) {
	now := o.Now()
	out := DueOutput{Rotations: []DueRotation{}, Skipped: []SkippedUser{}, SkippedCounts: map[SkipReason]int{}}
	inv, err := o.Inventory.Run(ctx, FromCredentialReport, func(u UserFacts) bool { return optedIn(u.User) && o.old(u.Keys, now) != nil })
	if err != nil {
		return out, err
	}
	out.Coverage = inv.coverage()
	if out.Coverage.Users > 0 && out.Coverage.UsersExamined == 0 {
		return out, iamkeys.Refuse(iamkeys.InventoryUnavailable, "None of the account's %d users could be examined, so nobody was nominated. The log has the cause.", out.Coverage.Users)
	}
	limit := o.MaxRotations
	if in.Limit != nil {
		limit = *in.Limit
	}
	nominees := slices.DeleteFunc(inv.Users, func(u UserFacts) bool {
		return !optedIn(u.User) || u.Unexamined == "" && o.old(u.Keys, now) == nil
	})
	slices.SortStableFunc(nominees, func(a, b UserFacts) int { return o.since(a, now).Compare(o.since(b, now)) })
	for _, u := range nominees {
		r, why := o.vet(u, now)
		if why == "" || why == SkipNoSlot { // a rotation at work takes the second place
			execution, err := o.StepFunctions.DescribeExecution(ctx, iamkeys.RotationWorkflow, r.AccessKeyID)
			switch {
			case err != nil && iamkeys.CodeOf(err) != iamkeys.NoSuchEntity:
				return out, err
			case err == nil && execution.Unfinished():
				why = SkipRotating
			case err == nil:
				why = SkipFailed
			}
		}
		if why == "" && len(out.Rotations) >= limit {
			why = SkipLimit
		}
		if why == "" {
			out.Rotations = append(out.Rotations, r)
			continue
		}
		out.SkippedCounts[why]++
		if len(out.Skipped) < maxSkipped {
			out.Skipped = append(out.Skipped, SkippedUser{u.UserName, why})
		}
	}
	return out, nil
}

func optedIn(u iamkeys.User) bool { return u.Rotate() == iamkeys.OptedIn }

// old gives the oldest Active key that is due, nil when there is none.
func (o Due) old(keys []KeyFacts, now time.Time) *KeyFacts {
	var old *KeyFacts
	for i, k := range keys {
		if k.Status == iamkeys.Active && now.Sub(k.CreateDate) > iamkeys.DayCount(o.RotateAgeDays) && (old == nil || k.CreateDate.Before(old.CreateDate)) {
			old = &keys[i]
		}
	}
	return old
}

// since orders nominees: by the create date of the key that is due.
func (o Due) since(u UserFacts, now time.Time) time.Time {
	if old := o.old(u.Keys, now); old != nil {
		return old.CreateDate
	}
	return now
}

// vet gives the user's rotation, or the reason to skip it.
func (o Due) vet(u UserFacts, now time.Time) (r DueRotation, why SkipReason) {
	old := o.old(u.Keys, now)
	if u.Unexamined != "" || old == nil || old.LastUsed == nil || old.AccessKeyID == "" {
		return r, SkipUnexamined
	}
	r = DueRotation{UserName: u.UserName, AccessKeyID: old.AccessKeyID, AgeDays: iamkeys.Days(now.Sub(old.CreateDate))}
	if owner, ok := u.Tag(o.OwnerTag); ok {
		r.Owner = iamkeys.Optional(strings.ToValidUTF8(owner[:min(len(owner), maxOwner)], ""))
	}
	var err error
	r.SecretID, _, err = o.Secrets.Of(u.User, "")
	overdue, _ := RuleOf(Overdue)
	switch e := exemption(u.User, overdue, now); {
	case e != nil && e.Invalid == nil:
		return r, SkipExempt
	case !u.Under(o.UserPath):
		return r, SkipPath
	case u.Protected():
		return r, SkipProtected
	case u.keyCount() > 1:
		return r, SkipNoSlot
	case now.Sub(iamkeys.IdleSince(old.AccessKey, *old.LastUsed)) >= iamkeys.DayCount(o.UnusedDays):
		return r, SkipUnused
	case err != nil:
		return r, SkipSecret
	}
	return r, ""
}
