package iamkeys

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// A situation is everything that create decides on, in words: [readSituation] reads
// it before anything is changed, and alone looks at clocks and labels.
type situation struct {
	userName  string
	secretID  string // as asked for, for messages
	replaces  string
	overwrite bool
	now       time.Time         // for messages
	keys      []AccessKey       // oldest first, statuses all known
	secret    SecretDescription // zero when there is none yet

	holds    content // what the secret's current version is
	holdsKey string  // where it holds a key of this user
	where    place   // of holdsKey

	lock     holder
	lockOf   intent // whose lock it is; zero when it is free, or of nobody that we know
	recorded place  // of the key that a dead lock of this user has on record
	made     string // that key
	suspects []AccessKey
}

// content is what the secret's current version is.
type content int

const (
	nothing  content = iota // no secret, no version, or an intent
	ours                    // a key of this user
	anothers                // of another user
	foreign                 // a value that iamkeys did not write
	deleted                 // the secret is scheduled for deletion
	mirrored                // it is a replica, which cannot be written
	notThere                // it is named by an ARN, and does not exist
)

// place is where a key is that the secret speaks of.
type place int

const (
	absent    place = iota // IAM does not know it (any more): it is gone
	listed                 // the user's list shows it
	suspect                // listed, and a dead create may have made it: see [suspects]
	known                  // IAM knows it as this user's, although the list does not show it
	elsewhere              // IAM knows it as another user's
)

// holder is who has the secret's lock.
type holder int

const (
	free   holder = iota
	live          // a create that may be at work, whoever's
	dead          // a create of this user that cannot be at work any more
	others        // a dead create of another user, or nobody that we know
)

// suspects gives the keys that the dead create of the intent may have made: those of
// the user that are not known to be delivered here, nor the one that existed before,
// nor younger than any that it can have made.
func suspects(in intent, userName string, keys []AccessKey, secret SecretDescription) []AccessKey {
	var found []AccessKey
	for _, k := range keys {
		if k.AccessKeyID != in.existed && !secret.holds(userName, k.AccessKeyID) && !k.CreateDate.After(in.time.Add(suspectWithin)) {
			found = append(found, k)
		}
	}
	return found
}

// A verdict is what a situation asks for.
type verdict int

const (
	refused  verdict = iota // by decision.err; nothing is touched
	takeOver                // delete decision.key, which a dead create has on record, and decide again
	reuse                   // decision.key is delivered already
	makeKey
)

type decision struct {
	verdict verdict
	err     error
	key     AccessKey
}

// decide says what create does. It is a pure function: of its rows, in this order,
// the first match wins.
func decide(s situation) decision {
	no := func(code Code, format string, args ...any) decision {
		return decision{err: Refuse(code, format, args...)}
	}
	key, _ := find(s.keys, s.holdsKey)
	old, hasOld := find(s.keys, s.replaces)
	switch made, _ := find(s.keys, s.made); {
	case s.holds == deleted:
		return no(SecretUnavailable, "Secret %s is scheduled for deletion, so no key was made for user %s. Restore it, or name another secretId.", s.secretID, s.userName)
	case s.holds == mirrored:
		return no(SecretUnavailable, "Secret %s is a replica of the one in %s and cannot be written, so no key was made for user %s. Run iamkeys in %s, or name another secretId.", s.secretID, s.secret.replica(), s.userName, s.secret.replica())
	case s.holds == notThere:
		return no(SecretUnavailable, "Secret %s does not exist, so no key was made for user %s. Make it, or name a secret by its name: iamkeys makes that one.", s.secretID, s.userName)

	case s.lock == live && s.lockOf.time.After(s.now.Add(clocksApart)):
		return no(InProgress, "The lock of secret %s is of a create begun at %s, which is not yet: a clock was wrong, or the label forged. So no key was made for user %s. Look who may write the secret, and take the lock's label off: %s", s.secretID, stamp(s.lockOf.time), s.userName, unlocking(s.secret.ARN, s.lockOf.versionID()))
	case s.lock == live:
		return no(InProgress, "Another create on secret %s began at %s and may be at work until %s, so no key was made for user %s. Try again then.", s.secretID, stamp(s.lockOf.time), stamp(s.lockOf.dies()), s.userName)
	case s.holds == ours && s.where == known:
		return no(InProgress, "Secret %s holds access key %s, which user %s does not list (yet). Try again in a minute.", s.secretID, s.holdsKey, s.userName)

	case s.lock == dead && s.recorded == suspect:
		return decision{verdict: takeOver, key: made}
	case s.lock == dead && (s.recorded == known || s.recorded == elsewhere):
		return decision{err: s.orphaned("access key %s, which IAM knows, although user %s does not list it (renamed?)", s.made, s.userName)}
	case s.lock == dead && len(s.suspects) > 0:
		return decision{err: s.orphaned("one of these or another: %s", describe(s.suspects))}

	case s.holds == ours && s.where == listed && key.Status == Active && (!hasOld || old.CreateDate.Before(key.CreateDate)):
		return decision{verdict: reuse, key: key}
	case s.replaces != "" && !hasOld:
		return no(NoSuchEntity, "User %s has no access key %s to replace. Its keys: %s.", s.userName, s.replaces, describe(s.keys))
	case len(s.keys) >= 2:
		return no(LimitExceeded, "User %s has two access keys or more, which is all IAM allows: %s. Deactivate and delete one that nobody uses.", s.userName, s.aged(s.keys))

	case s.lock == others && s.lockOf == intent{}:
		return no(SecretInUse, "The label %s of secret %s stands on a version that no create has left, so no key was made for user %s. Take it off: %s", lockStage, s.secretID, s.userName, unlocking(s.secret.ARN, s.secret.labelled(lockStage)))
	case s.lock == others:
		return no(SecretInUse, "A create for another user than %s has died on secret %s and holds its lock. Run create for that user, or name another secretId. Only if that user is gone, settle it, but delete no key that a version here is named for. %s",
			s.userName, s.secretID, settling(s.secret.ARN, s.lockOf))
	case s.holds == anothers:
		return no(SecretInUse, "Secret %s holds another user's access key, not one of %s. Name another secretId.", s.secretID, s.userName)
	case s.holds == ours && s.where == elsewhere:
		return no(SecretInUse, "Secret %s holds access key %s, which is another user's by now, not one of %s. Name another secretId.", s.secretID, s.holdsKey, s.userName)
	case s.holds == foreign && !s.overwrite:
		return no(SecretInUse, "Secret %s holds a value that iamkeys did not write; its readers may not know the new format, so no key was made for user %s. Pass overwrite true, or name another secretId.", s.secretID, s.userName)
	}
	return decision{verdict: makeKey}
}

// aged names keys with status and age, for messages.
func (s situation) aged(keys []AccessKey) string {
	var names []string
	for _, k := range keys {
		names = append(names, fmt.Sprintf("%s (%s, %d days old)", k.AccessKeyID, k.Status, Days(s.now.Sub(k.CreateDate))))
	}
	return strings.Join(names, ", ")
}

// orphaned is the refusal because of what the lock's create may have made.
func (s situation) orphaned(made string, args ...any) error {
	return orphaned(nil, s.userName, s.secretID, s.secret.ARN, s.lockOf, fmt.Sprintf(made, args...))
}

func orphaned(cause error, userName, secretID, secretARN string, in intent, made string) error {
	return Failed(OrphanedKey, cause, "A create for user %s on secret %s, begun at %s, died or got no answer, and may have made %s. Nothing was touched. %s", userName, secretID, stamp(in.time), made, settling(secretARN, in))
}

// settling says, with the commands, how a person settles the intent that has the lock.
func settling(secretARN string, in intent) string {
	region := map[string]string{"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1", "aws-eusc": "eusc-de-east-1"}[strings.Split(secretARN+"::", ":")[1]] // where IAM's events are
	return fmt.Sprintf("Ask CloudTrail what it made (an event comes up to 15 minutes late and stays 90 days): "+
		`aws cloudtrail lookup-events --region %s --lookup-attributes AttributeKey=EventName,AttributeValue=CreateAccessKey --start-time %s --query "Events[?contains(CloudTrailEvent, 'iamkeys/%s')].CloudTrailEvent" --output text . `+
		"Delete the key that this shows, named here or not (aws iam delete-access-key --user-name <its user> --access-key-id <its ID>), and then take the lock's label off: %s . When it shows nothing, take it off after %s.",
		cmp.Or(region, "us-east-1"), stamp(in.time.Add(-clocksApart)), in.nonce, unlocking(secretARN, in.versionID()), stamp(in.time.Add(trailWithin)))
}

// unlocking is the command that takes the lock's label off that version, whose ID may be
// anything: whoever puts a version names it.
func unlocking(secretARN, versionID string) string {
	return fmt.Sprintf("aws secretsmanager update-secret-version-stage --secret-id %s --version-stage %s --remove-from-version-id %s", secretARN, lockStage, ShellWord(versionID))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
