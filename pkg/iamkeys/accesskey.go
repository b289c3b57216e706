package iamkeys

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Status is an access key's status, in IAM's words.
type Status string

// The statuses that IAM documents:
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKeyMetadata.html
const (
	Active   Status = "Active"
	Inactive Status = "Inactive"
	Expired  Status = "Expired"
)

// An AccessKey is what IAM lists of an access key.
type AccessKey struct {
	UserName    string
	AccessKeyID string
	Status      Status
	CreateDate  time.Time
}

// LastUsed is IAM's record of an access key's last use. IAM notes only the first
// use within 15 minutes, hours may pass until it shows, and uses before
// 2015-04-22 are not in it:
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKeyLastUsed.html
type LastUsed struct {
	UserName    string    // the key's owner
	Date        time.Time // zero when the key was never used
	ServiceName string    // namespace of the service, "" when never used
	Region      string    // "" when never used or when the service has no Region
}

// Never reports whether IAM has no use on record.
func (l LastUsed) Never() bool { return l.Date.IsZero() }

// LastUsedLag is how late IAM may show a use. AWS promises no figure, hours have been
// seen; what is switched off by last use allows for this much, on top of any quiet window.
const LastUsedLag = 6 * time.Hour

// String says when, by which service and where, for messages.
func (l LastUsed) String() string {
	if l.Never() {
		return "never used"
	}
	s := "last used " + l.Date.UTC().Format(time.RFC3339)
	if l.ServiceName != "" {
		s += " by " + l.ServiceName
	}
	if l.Region != "" {
		s += " in " + l.Region
	}
	return s
}

// What IAM accepts: names may be longer on reading than on creating (64), and \w is ASCII here.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListAccessKeys.html
var (
	userNames    = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,128}$`)
	accessKeyIDs = regexp.MustCompile(`^[A-Za-z0-9_]{16,128}$`)
)

func CheckUserName(name string) error {
	if !userNames.MatchString(name) {
		return Refuse(InvalidInput, "userName must be 1 to 128 of the characters A-Z a-z 0-9 _ + = , . @ - (an IAM user name, without its path); got %s.", Quoted(name))
	}
	return nil
}

// CheckAccessKeyID refuses with InvalidInput what is no access key ID, naming the field.
func CheckAccessKeyID(field, id string) error {
	if !accessKeyIDs.MatchString(id) {
		return Refuse(InvalidInput, "%s must be an access key ID, 16 to 128 letters, digits and underscores, such as AKIAIOSFODNN7EXAMPLE; got %s.", field, Quoted(id))
	}
	return nil
}

func checkUserKey(userName, accessKeyID string) error {
	if err := CheckUserName(userName); err != nil {
		return err
	}
	return CheckAccessKeyID("accessKeyId", accessKeyID)
}

// quoted shows a rejected value without letting it fill the message.
func Quoted(s string) string {
	if s == "" {
		return "nothing"
	}
	if len(s) > 40 {
		return fmt.Sprintf("%q... (%d bytes)", s[:40], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// oldestFirst orders keys by create date, and by ID where dates are equal.
func OldestFirst(keys []AccessKey) []AccessKey {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b AccessKey) int {
		if c := a.CreateDate.Compare(b.CreateDate); c != 0 {
			return c
		}
		return strings.Compare(a.AccessKeyID, b.AccessKeyID)
	})
	return keys
}

// find gives the key with that ID.
func find(keys []AccessKey, id string) (AccessKey, bool) {
	i := slices.IndexFunc(keys, func(k AccessKey) bool { return k.AccessKeyID == id })
	if i < 0 {
		return AccessKey{}, false
	}
	return keys[i], true
}

// findOwn gives the user's key with that ID, or NoSuchEntity.
func findOwn(keys []AccessKey, userName, id string) (AccessKey, error) {
	key, ok := find(keys, id)
	if !ok {
		return key, notOwn(keys, userName, id)
	}
	return key, nil
}

func notOwn(keys []AccessKey, userName, id string) error {
	return Refuse(NoSuchEntity, "User %s has no access key %s; it may have been deleted, or belong to another user. Its keys: %s.", userName, id, describe(keys))
}

// gone tells whether a key that the user's list does not show, in the same invocation,
// is gone: nil when IAM does not know it, or refuses to speak of it as of whatever does
// not exist under UserPath. Else it says why that cannot be told.
func gone(ctx context.Context, iam GetAccessKeyLastUsed, userName, accessKeyID string) error {
	used, err := iam.GetAccessKeyLastUsed(ctx, accessKeyID)
	switch code := CodeOf(err); {
	case code == NoSuchEntity, code == AccessDenied:
		return nil
	case err != nil:
		return err
	case strings.EqualFold(used.UserName, userName):
		return Refuse(InProgress, "User %s does not list access key %s, which IAM knows as this user's: its lists may lag. Nothing was changed; try again in a minute.", userName, accessKeyID)
	}
	return Refuse(NoSuchEntity, "Access key %s is not one of user %s: IAM knows it as user %s's. That user may have been renamed. Nothing was changed; use the name that it has now.", accessKeyID, userName, Quoted(used.UserName))
}

// describe names keys with their status, for messages.
func describe(keys []AccessKey) string {
	if len(keys) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, k := range keys {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s (%s, created %s)", k.AccessKeyID, k.Status, k.CreateDate.UTC().Format(time.DateOnly))
	}
	return b.String()
}

// known refuses a status that this code does not know: what it means for the
// key's use is unknown, so nothing may be changed on it.
func (k AccessKey) Known() error {
	switch k.Status {
	case Active, Inactive, Expired:
		return nil
	}
	return Refuse(Internal, "Access key %s of user %s has status %s, which iamkeys does not know; nothing was changed.", k.AccessKeyID, k.UserName, Quoted(string(k.Status)))
}

// idleSince is the later of create date and last use.
func IdleSince(k AccessKey, used LastUsed) time.Time {
	if used.Date.After(k.CreateDate) {
		return used.Date
	}
	return k.CreateDate
}

// days gives whole days, rounded down, and 0 for a time in the future.
func Days(d time.Duration) int { return max(0, int(d/(24*time.Hour))) }

// dayCount gives n days.
func DayCount(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// instant gives t as JSON shows it, UTC and whole seconds; nil for the zero time.
func Instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// text gives nil for the empty string: JSON's null says "none" where "" would look like a value.
func Optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
