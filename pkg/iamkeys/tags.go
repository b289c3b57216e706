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
	GroupPolicies    []string // and of those attached to its groups
	PoliciesRead     bool     // both are known; false when they were not asked for, or not in full
}

// A Tag is a tag of a user.
type Tag struct{ Key, Value string }

// Tag gives the value of the user's tag, without blanks around it. IAM compares tag
// keys without regard to case.
func (u User) Tag(key string) (string, bool) {
	for _, t := range u.Tags {
		if strings.EqualFold(t.Key, key) {
			return strings.TrimSpace(t.Value), true
		}
	}
	return "", false
}

// The user tags that iamkeys reads.
const (
	TagSecret       = "iamkeys:secret"        // the secret that holds the user's key, under SecretPrefix
	TagRotate       = "iamkeys:rotate"        // "on": the scheduled rotation may take this user
	TagProtect      = "iamkeys:protect"       // whatever its value: the functions' policies deny every change to this user
	TagExemptUntil  = "iamkeys:exempt-until"  // last day (UTC) of an exemption, 2006-01-02
	TagExemptReason = "iamkeys:exempt-reason" // why; an exemption without a reason does not hold
)

// Protected reports whether the user has the tag iamkeys:protect, whatever its value.
func (u User) Protected() bool {
	_, tagged := u.Tag(TagProtect)
	return tagged
}

// Under reports whether the user stands under that IAM path, which begins and ends in "/".
func (u User) Under(path string) bool {
	_, own, ok := strings.Cut(u.ARN, ":user")
	return ok && strings.HasPrefix(own, path)
}

// An OptIn is what a user's tag iamkeys:rotate says.
type OptIn int

// What it may say.
const (
	NotOptedIn   OptIn = iota // no tag, or "off"
	OptedIn                   // "on"
	UnclearOptIn              // anything else: a person meant something by it
)

// Rotate reads the tag iamkeys:rotate.
func (u User) Rotate() OptIn {
	switch value, tagged := u.Tag(TagRotate); {
	case !tagged, strings.EqualFold(value, "off"):
		return NotOptedIn
	case strings.EqualFold(value, "on"):
		return OptedIn
	}
	return UnclearOptIn
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
	case reason == "":
		e.Invalid = Optional("tag " + TagExemptReason + " is missing")
	case day.Before(today):
		e.Invalid = Optional("it has expired")
	case day.Sub(today) > DayCount(maxExemptDays):
		e.Invalid = Optional(fmt.Sprintf("it reaches more than %d days ahead", maxExemptDays))
	}
	return e
}
