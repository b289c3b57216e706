package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A Source says where an inventory comes from.
type Source string

// The sources.
const (
	FromCredentialReport Source = "credentialReport"
	FromLive             Source = "live"
	FromBoth             Source = "both" // of several accounts, one from here and one from there
)

// An Inventory is the facts that an audit judges.
type Inventory struct {
	Account       string // twelve digits
	Source        Source
	GeneratedTime time.Time   // when the facts were taken; last use is as of then
	Users         []UserFacts // by name
	Root          UserFacts
	Notes         []string // what a reader of the report must know of how it came about
}

// UserFacts are the facts of one user.
type UserFacts struct {
	iamkeys.User
	Root       bool
	RootKey    bool       // the root user has an access key
	Keys       []KeyFacts // those known of
	Additional int        // keys beyond Keys, that the credential report only counts
	Unexamined string     // why the user, or one of its keys, could not be examined; "" when they were
}

func (u UserFacts) keyCount() int { return len(u.Keys) + u.Additional }

// KeyFacts are the facts of one key.
type KeyFacts struct {
	iamkeys.AccessKey                   // AccessKeyID "" when unknown
	LastUsed          *iamkeys.LastUsed // nil when unknown
}

// InventoryIAM is what taking an inventory asks of IAM.
type InventoryIAM interface {
	iamkeys.GenerateCredentialReport
	iamkeys.GetCredentialReport
	iamkeys.GetAccountAuthorizationDetails
	iamkeys.GetAccountSummary
	iamkeys.ListAccessKeys
	iamkeys.GetAccessKeyLastUsed
}

// TakeInventory takes an account's inventory, at the lowest number of calls
// that names every access key of interest.
type TakeInventory struct {
	IAM        InventoryIAM
	ReportWait time.Duration // to wait for a credential report, at most
	Now        func() time.Time
	Sleep      func(context.Context, time.Duration) error
	Log        *slog.Logger
}

// The inventory is read by this many at a time. IAM publishes no rates; the
// adapter bounds the rate, and slows down when it is throttled.
const readers = 8

// reserve is kept of the time until the deadline, for what is done with the
// inventory; of a short time, half of it.
const reserve = time.Minute

// Run takes the inventory from the source, and from the other one if the
// credential report cannot be had. Users of interest, those for whom want
// holds, are read live in any case, which names their keys. An error means that
// nothing is known of the account; what could not be read of single users
// stands in their facts.
func (o TakeInventory) Run(ctx context.Context, source Source, want func(UserFacts) bool) (Inventory, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(reserve, time.Until(deadline)/2)))
		defer cancel()
	}
	inv := Inventory{Source: source}
	var rows map[string]reportRow
	var root *reportRow
	if source == FromCredentialReport {
		var err error
		if rows, root, inv.GeneratedTime, err = o.credentialReport(ctx); err != nil {
			o.Log.WarnContext(ctx, "reading all users live: no credential report", "error", err.Error())
			inv.Source = FromLive
			inv.Notes = append(inv.Notes, fmt.Sprintf("The credential report could not be had (%s), so every user and access key was read live.", reason(ctx, err)))
		} else if age := o.Now().Sub(inv.GeneratedTime); age > reportAge {
			inv.Notes = append(inv.Notes, fmt.Sprintf("The credential report is of %s, more than four hours old: last use is as of then.", inv.GeneratedTime.UTC().Format(time.RFC3339)))
		}
	}
	if inv.Source == FromLive {
		inv.GeneratedTime = o.Now()
	}
	inv.GeneratedTime = inv.GeneratedTime.UTC().Truncate(time.Second)
	users, err := o.IAM.GetAccountAuthorizationDetails(ctx)
	if err != nil {
		return inv, iamkeys.Failed(iamkeys.InventoryUnavailable, err, "The account's users could not be read (%s), so nothing was judged. The log has the cause.", reason(ctx, err))
	}
	inv.Root = o.root(ctx, root)
	if inv.Root.ARN == "" && len(users) > 0 {
		account, _, _ := strings.Cut(users[0].ARN, ":user/")
		inv.Root.ARN = account + ":root"
	}
	inv.Users = o.users(ctx, users, rows, want)
	return inv, nil
}

// reportAge is how long IAM gives out the same credential report.
const reportAge = 4 * time.Hour

// credentialReport waits for the credential report and reads it, within
// ReportWait. Half of the time until the deadline is kept for what comes after.
func (o TakeInventory) credentialReport(ctx context.Context) (rows map[string]reportRow, root *reportRow, generated time.Time, err error) {
	longest := o.ReportWait
	if deadline, ok := ctx.Deadline(); ok {
		longest = min(longest, time.Until(deadline)/2)
	}
	end := o.Now().Add(longest)
	ctx, cancel := context.WithTimeout(ctx, longest) // which ends a call that hangs
	defer cancel()
	wait, crowded := time.Second, 10*time.Second
	for ; ; wait = min(2*wait, 4*time.Second) {
		complete, err := o.IAM.GenerateCredentialReport(ctx)
		if err == nil && complete {
			var content []byte
			if content, generated, err = o.IAM.GetCredentialReport(ctx); err == nil {
				rows, root, err = parseCredentialReport(content, o.Now())
				return rows, root, generated, err
			}
		}
		code := iamkeys.CodeOf(err)
		switch {
		case code == iamkeys.LimitExceeded, code == iamkeys.Throttled: // AWS has no capacity for it now, and names no time
			wait, crowded = crowded, min(2*crowded, time.Minute)
		case code != "" && code != iamkeys.InProgress && ctx.Err() == nil:
			return nil, nil, generated, err
		default:
			code = iamkeys.InProgress
		}
		left := end.Sub(o.Now())
		if left <= 0 || ctx.Err() != nil || o.Sleep(ctx, min(wait, left)) != nil {
			return nil, nil, generated, iamkeys.Failed(code, err, "There was no credential report within %s.", longest)
		}
	}
}

// root tells of the root user, from its row or else from the account's summary.
func (o TakeInventory) root(ctx context.Context, row *reportRow) UserFacts {
	u := UserFacts{Root: true, User: iamkeys.User{UserName: RootName, PoliciesRead: true}} // none can be attached to it
	if row != nil {
		u.ARN, u.RootKey = row.arn, len(row.keys)+row.additional > 0
		return u
	}
	has, err := o.IAM.GetAccountSummary(ctx)
	if err != nil {
		o.Log.WarnContext(ctx, "root user not examined", "error", err.Error())
		u.Unexamined = reason(ctx, err)
	}
	u.RootKey = has
	return u
}

// users gives the facts of every user: from its row where there is one and
// nothing of interest in it, else live. Users that are gone are left out.
func (o TakeInventory) users(ctx context.Context, users []iamkeys.User, rows map[string]reportRow, want func(UserFacts) bool) []UserFacts {
	facts := make([]UserFacts, len(users))
	gone := make([]bool, len(users))
	var live []int
	for i, u := range users {
		facts[i].User = u
		row, ok := rows[u.ARN]
		if ok && sameSecond(row.created, u.CreateDate) { // else it is of an earlier user of this name
			facts[i].Keys, facts[i].Additional = row.keys, row.additional
			if row.additional == 0 && !want(facts[i]) { // a key that is only counted is examined live
				continue
			}
		}
		live = append(live, i)
	}
	var taken atomic.Int64
	var working sync.WaitGroup
	for range min(readers, len(live)) {
		working.Go(func() {
			for n := taken.Add(1); n <= int64(len(live)); n = taken.Add(1) {
				i := live[n-1]
				gone[i] = o.examine(ctx, &facts[i])
			}
		})
	}
	working.Wait()

	present := facts[:0]
	for i, u := range facts {
		if !gone[i] {
			present = append(present, u)
		}
	}
	slices.SortFunc(present, func(a, b UserFacts) int { return cmp.Compare(a.UserName, b.UserName) })
	return present
}

// examine reads the user's keys live. What the credential report said of a key
// is kept where the create date tells for sure which one it is; otherwise its
// last use is read too. It reports whether the user is gone.
func (o TakeInventory) examine(ctx context.Context, u *UserFacts) (gone bool) {
	if ctx.Err() != nil { // no call, and no line in the log, for each of thousands
		u.Unexamined = reason(ctx, ctx.Err())
		return false
	}
	keys, err := o.IAM.ListAccessKeys(ctx, u.UserName)
	if iamkeys.CodeOf(err) == iamkeys.NoSuchEntity {
		return true
	}
	if err != nil {
		o.unexamined(ctx, u, err)
		return false
	}
	said := u.Keys
	u.Keys, u.Additional = nil, 0
	for _, k := range iamkeys.OldestFirst(keys) {
		facts := KeyFacts{AccessKey: k}
		if used := saidOf(k, said, keys); used != nil {
			facts.LastUsed = used
		} else {
			switch used, err := o.IAM.GetAccessKeyLastUsed(ctx, k.AccessKeyID); iamkeys.CodeOf(err) {
			case "":
				facts.LastUsed = &used
			case iamkeys.NoSuchEntity: // deleted since it was listed
				continue
			default:
				o.unexamined(ctx, u, err)
			}
		}
		if err := k.Known(); err != nil {
			o.unexamined(ctx, u, err)
			u.Unexamined = "a status that iamkeys does not know"
		}
		u.Keys = append(u.Keys, facts)
	}
	return false
}

// saidOf gives the last use that the credential report said of the key, nil when
// it said nothing or when the create date leaves open which key it spoke of.
func saidOf(k iamkeys.AccessKey, said []KeyFacts, listed []iamkeys.AccessKey) (used *iamkeys.LastUsed) {
	others, slots := 0, 0
	for _, other := range listed {
		if other.AccessKeyID != k.AccessKeyID && sameSecond(other.CreateDate, k.CreateDate) {
			others++
		}
	}
	for _, s := range said {
		if sameSecond(s.CreateDate, k.CreateDate) {
			slots, used = slots+1, s.LastUsed
		}
	}
	if others > 0 || slots != 1 {
		return nil
	}
	return used
}

// sameSecond compares times as the credential report shows them.
func sameSecond(a, b time.Time) bool { return a.Unix() == b.Unix() }

func (o TakeInventory) unexamined(ctx context.Context, u *UserFacts, err error) {
	u.Unexamined = reason(ctx, err)
	o.Log.WarnContext(ctx, "user not examined", "userName", u.UserName, "error", err.Error())
}

const outOfTime = "time ran out"

// reason says in a word or two why something could not be read; the log has the rest.
func reason(ctx context.Context, err error) string {
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		return outOfTime
	}
	if e, ok := errors.AsType[*iamkeys.Error](err); ok {
		return string(e.Code)
	}
	return err.Error()
}
