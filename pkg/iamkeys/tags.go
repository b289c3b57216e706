package iamkeys

import (
	"fmt"
	"strings"
	"time"
)

// A User is what IAM says of a user, without its access keys.
type User struct {
	UserName         string
	ARN              string
	CreateDate       time.Time
	Tags             []Tag
	AttachedPolicies []string // ARNs of the managed policies attached to the user itself
}

// A Tag is a tag of a user.
type Tag struct{ Key, Value string }

// Tag gives the value of the user's tag. IAM compares tag keys without regard to case.
func (u User) Tag(key string) (string, bool) {
	for _, t := range u.Tags {
		if strings.EqualFold(t.Key, key) {
			return t.Value, true
		}
	}
	return "", false
}

// The user tags that iamkeys reads.
const (
	TagSecret       = "iamkeys:secret"        // the secret that holds the user's key, under SecretPrefix
	TagRotate       = "iamkeys:rotate"        // "on": the scheduled rotation may take this user
	TagProtect      = "iamkeys:protect"       // "true": the functions' policies deny every change to this user
	TagExemptUntil  = "iamkeys:exempt-until"  // last day (UTC) of an exemption, 2006-01-02
	TagExemptReason = "iamkeys:exempt-reason" // why; an exemption without a reason does not hold
)

// tagged reports whether the user has that tag, without regard to case.
func HasTag(u User, key, value string) bool {
	v, _ := u.Tag(key)
	return strings.EqualFold(strings.TrimSpace(v), value)
}

// An Exemption is what a user's tags ask for. Invalid says why it does not
// hold, and is null when it does.
type Exemption struct {
	Reason  string  `json:"reason"`
	Until   string  `json:"until"` // as written in the tag
	Invalid *string `json:"invalid"`
}

// maxExemptDays is how far ahead an exemption may reach.
const maxExemptDays = 400

// Exemption reads the user's tags, nil when neither is there. It holds through
// the whole last day, UTC.
func (u User) Exemption(asOf time.Time) *Exemption {
	until, hasUntil := u.Tag(TagExemptUntil)
	reason, hasReason := u.Tag(TagExemptReason)
	if !hasUntil && !hasReason {
		return nil
	}
	e := &Exemption{Reason: reason, Until: until}
	day, err := time.Parse(time.DateOnly, until)
	today := asOf.UTC().Truncate(24 * time.Hour)
	switch {
	case err != nil:
		e.Invalid = Optional("tag " + TagExemptUntil + " is not a date such as 2026-12-31")
	case strings.TrimSpace(reason) == "":
		e.Invalid = Optional("tag " + TagExemptReason + " is missing")
	case day.Before(today):
		e.Invalid = Optional("it has expired")
	case day.Sub(today) > DayCount(maxExemptDays):
		e.Invalid = Optional(fmt.Sprintf("it reaches more than %d days ahead", maxExemptDays))
	}
	return e
}
