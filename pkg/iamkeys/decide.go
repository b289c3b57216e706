package iamkeys

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// CreateTimeout is the create function's timeout. An intent is live while it may
// still be at work: while younger than this and liveMargin.
const CreateTimeout = 180 * time.Second

const (
	liveMargin = 30 * time.Second // clocks, and the time until a function that ran out of it is gone
	clockSkew  = 2 * time.Second  // between our clock and IAM's create dates
	window     = 20 * time.Second // from the intent, in which its CreateAccessKey can have made a key
	listLag    = 60 * time.Second // how long a key that was just delivered may be missing in a list
)

// dead reports whether the create that left the intent cannot be at work any more.
func (in intent) dead(now time.Time) bool {
	return !now.Before(in.time.Add(CreateTimeout + liveMargin))
}

// covers reports whether a key of that create date can be the intent's.
func (in intent) covers(created time.Time) bool {
	return !created.Before(in.time.Add(-clockSkew)) && !created.After(in.time.Add(window))
}

// lived reports whether the create date falls into the time in which the intent was live.
func (in intent) lived(created time.Time) bool {
	return !created.Before(in.time.Add(-clockSkew)) && created.Before(in.time.Add(CreateTimeout+liveMargin))
}

// A situation is everything that create decides on, read before anything is changed.
type situation struct {
	now       time.Time
	userName  string
	keys      []AccessKey       // oldest first, statuses all known
	secretID  string            // as asked for, for messages
	secret    SecretDescription // zero when there is none yet
	lastUsed  map[string]LastUsed
	replaces  string
	overwrite bool
}

// suspects gives the keys that a dead create may have left behind: those made
// while its intent was live that no version of the secret holds. The key that
// existed before is none.
func (s situation) suspects(in intent) []AccessKey {
	var found []AccessKey
	for _, k := range s.keys {
		if in.of(s.userName) && in.dead(s.now) && in.lived(k.CreateDate) && k.AccessKeyID != in.existed && !s.secret.holds(s.userName, k.AccessKeyID) {
			found = append(found, k)
		}
	}
	return found
}

// left gives the key that the dead intent's create provably made and did not
// deliver: the only suspect in its window, used by nobody but the probe. Last use
// can only veto, and so can a secret that others have written to since: their
// second value takes the last label off a version that held the key for a while.
func (s situation) left(in intent) (key AccessKey, ok bool) {
	made := slices.DeleteFunc(s.suspects(in), func(k AccessKey) bool { return !in.covers(k.CreateDate) })
	if len(made) != 1 || made[0].AccessKeyID == s.replaces {
		return key, false
	}
	used, read := s.lastUsed[made[0].AccessKeyID]
	overwritten := foreign(s.secret.labelled(currentStage)) && foreign(s.secret.labelled(previousStage)) && s.secret.LastChanged.After(in.time.Add(window))
	return made[0], read && unused(made[0], used) && !overwritten
}

// unused reports whether nobody has used the key but create's own probe.
func unused(k AccessKey, used LastUsed) bool {
	return used.Never() || used.ServiceName == probeService && duringProbe(k, used)
}

// aged names keys with status and age, for messages.
func (s situation) aged(keys []AccessKey) string {
	var names []string
	for _, k := range keys {
		names = append(names, fmt.Sprintf("%s (%s, %d days old)", k.AccessKeyID, k.Status, Days(s.now.Sub(k.CreateDate))))
	}
	return strings.Join(names, ", ")
}

// A verdict is what a situation asks for.
type verdict int

const (
	refused  verdict = iota // by decision.err; nothing is touched
	takeOver                // delete decision.key, which the dead decision.intent made, and decide again
	reuse                   // decision.key is delivered already
	makeKey
)

type decision struct {
	verdict verdict
	err     error
	key     AccessKey
	intent  intent
}

// decide says what create does. It is a pure function: of its rows, in this order,
// the first match wins.
func decide(s situation) decision {
	no := func(code Code, format string, args ...any) decision {
		return decision{err: Refuse(code, format, args...)}
	}
	if s.secret.Deleted {
		return no(SecretUnavailable, "Secret %s is scheduled for deletion, so no key was made for user %s. Restore it, or name another secretId.", s.secretID, s.userName)
	}
	if s.secret.ARN == "" && strings.HasPrefix(s.secretID, "arn:") {
		return no(SecretUnavailable, "Secret %s does not exist, so no key was made for user %s. Name it by its name, and it will be created.", s.secretID, s.userName)
	}

	intents := s.secret.intents()
	for _, in := range intents {
		if !in.of(s.userName) {
			return no(SecretInUse, "A create for another user than %s has marked secret %s. Name another secretId.", s.userName, s.secretID)
		}
	}
	current := s.secret.current()
	holder, currentKey, delivered := parseDelivered(current)
	ours := delivered && holder == userHash(s.userName, 16)
	_, currentListed := find(s.keys, currentKey)
	for _, in := range intents {
		if !in.dead(s.now) {
			return no(InProgress, "Another create for user %s on secret %s began at %s and may be at work until %s. Try again then.",
				s.userName, s.secretID, in.time.UTC().Format(time.RFC3339), in.time.Add(CreateTimeout+liveMargin).UTC().Format(time.RFC3339))
		}
	}
	if ours && !currentListed && s.now.Sub(s.secret.LastChanged) < listLag {
		return no(InProgress, "Secret %s holds access key %s, which user %s does not list (yet). Try again in a minute.", s.secretID, currentKey, s.userName)
	}

	for _, in := range intents {
		if key, ok := s.left(in); ok {
			return decision{verdict: takeOver, key: key, intent: in}
		}
	}
	for _, in := range intents {
		if suspects := s.suspects(in); len(suspects) > 0 {
			return no(OrphanedKey, "A create for user %s died after %s, and may have made one of: %s. Which one cannot be told, so nothing was touched. Deactivate and delete what nobody uses, or, if you know whose they all are, take the staging label %s off secret %s; then try again.",
				s.userName, in.time.UTC().Format(time.RFC3339), describe(suspects), in.label(), s.secretID)
		}
	}

	old, hasOld := find(s.keys, s.replaces)
	key, _ := find(s.keys, currentKey)
	live := ours && currentListed && key.Status == Active
	if live && (!hasOld || old.CreateDate.Before(key.CreateDate)) {
		return decision{verdict: reuse, key: key}
	}
	if s.replaces != "" && !hasOld {
		return no(NoSuchEntity, "User %s has no access key %s to replace. Its keys: %s.", s.userName, s.replaces, describe(s.keys))
	}
	if len(s.keys) >= 2 {
		return no(LimitExceeded, "User %s has two access keys or more, which is all IAM allows: %s. Deactivate and delete one that nobody uses.", s.userName, s.aged(s.keys))
	}
	switch {
	case delivered && !ours:
		return no(SecretInUse, "Secret %s holds another user's access key %s, not one of %s. Name another secretId.", s.secretID, currentKey, s.userName)
	case live && currentKey != s.replaces:
		return no(SecretInUse, "Secret %s holds access key %s of user %s, which is Active and not the one to replace. Replace that one, or name another secretId.", s.secretID, currentKey, s.userName)
	case foreign(current) && !s.overwrite:
		return no(SecretInUse, "Secret %s holds a value that iamkeys did not write; its readers may not know the new format. Pass overwrite true, or name another secretId.", s.secretID)
	}
	return decision{verdict: makeKey}
}

// nothingDelivered tells of a current version whether it is none or an intent: a
// secret's first version becomes current whatever its label.
func nothingDelivered(current string) bool {
	_, isIntent := parseIntent(current)
	return current == "" || isIntent
}

// foreign tells a version that iamkeys did not write.
func foreign(version string) bool {
	_, _, delivered := parseDelivered(version)
	return !delivered && !nothingDelivered(version)
}

// A standing is what a second look at the secret says of a create's intent.
type standing int

const (
	lost      standing = iota // the secret is not as it was decided on, or an older create is at work
	unseen                    // our intent does not show (yet)
	contended                 // a younger intent shows: it may have looked before ours was there and go on, or it gives way
	sole                      // ours is the only one
)

// look tells the standing of the mark's intent.
func (m mark) look(now time.Time, secret SecretDescription) standing {
	if secret.Deleted || !m.expects(secret.current()) {
		return lost
	}
	result := sole
	for _, other := range secret.intents() {
		switch {
		case other.nonce == m.intent.nonce || other.dead(now):
		case other.compare(m.intent) < 0:
			return lost
		default:
			result = contended
		}
	}
	if !m.shows(secret) {
		return unseen
	}
	return result
}

// shows reports whether the mark's intent is on the secret.
func (m mark) shows(secret SecretDescription) bool {
	return slices.Contains(secret.Versions[m.intent.versionID()], m.intent.label())
}
