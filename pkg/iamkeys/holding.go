package iamkeys

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is the only one that writes and reads secret names, version IDs and
// staging labels. They are all the state that iamkeys keeps about a key. Versions:
//
//	iamkeys-<16 hex of the user name's SHA-256>-<key ID>                      a delivered key, as long as it has any label
//	iamkeys-intent-<8 hex of it>-<unix seconds>-<6 hex nonce>-<key ID | none> the intent of a create, and the key that existed before
//
// Labels:
//
//	iamkeys-intent                the latest intent; never taken off, so that a version there is
//	iamkeys-lock                  the intent whose create may make a key: one at a time, see [UpdateSecretVersionStage]
//	iamkeys-made-<nonce>-<key ID> the record of the key that the intent of that nonce made: on the intent, and from
//	                              its delivery on, which moves it in the same call, on the delivered version
//
// Secrets Manager takes version IDs of 32 to 64 characters, keeps a version for as
// long as it has a label, and 20 labels a secret:
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html

// A SecretDescription is what DescribeSecret says. No operation reads a secret's value.
type SecretDescription struct {
	ARN           string
	Name          string
	Deleted       bool                // scheduled for deletion
	PrimaryRegion string              // of a replicated secret, in the primary as in a replica; else ""
	Versions      map[string][]string // version ID → staging labels
}

// A SecretVersion is a version to put.
type SecretVersion struct {
	ID          string       // the ClientRequestToken, which makes a repeated put harmless
	Stages      []string     // staging labels, which are taken from the versions that have them
	Credentials *Credentials // nil for an intent, which holds no secret access key
}

// The staging labels, but for the records'.
const (
	currentStage = "AWSCURRENT" // Secrets Manager's own: the version that consumers read
	intentStage  = "iamkeys-intent"
	lockStage    = "iamkeys-lock"
)

// current gives the ID of the version that consumers read, "" when there is none.
func (d SecretDescription) current() string { return d.labelled(currentStage) }

// labelled gives the ID of the version with that staging label, "" when there is none.
func (d SecretDescription) labelled(stage string) string {
	for id, stages := range d.Versions {
		if slices.Contains(stages, stage) {
			return id
		}
	}
	return ""
}

// delivers reports whether the secret's current version holds that key of that user.
func (d SecretDescription) delivers(userName, accessKeyID string) bool {
	return !d.Deleted && d.current() == VersionID(userName, accessKeyID)
}

// DeliversOne reports whether the secret's current version holds one of the user's keys.
func (d SecretDescription) DeliversOne(userName string, keys []AccessKey) bool {
	return slices.ContainsFunc(keys, func(k AccessKey) bool { return d.delivers(userName, k.AccessKeyID) })
}

// holds reports whether any labelled version holds that key of that user.
func (d SecretDescription) holds(userName, accessKeyID string) bool {
	return len(d.Versions[VersionID(userName, accessKeyID)]) > 0
}

// replica gives the Region of the secret that this one only mirrors, "" when it is no replica.
func (d SecretDescription) replica() (primaryRegion string) {
	if _, after, ok := strings.Cut(d.ARN, ":secretsmanager:"); ok && d.PrimaryRegion != "" && !strings.HasPrefix(after, d.PrimaryRegion+":") {
		return d.PrimaryRegion
	}
	return ""
}

// A record says which key the intent of that nonce made, and stands on that version.
type record struct{ nonce, accessKeyID, versionID string }

func (r record) label() string { return "iamkeys-made-" + r.nonce + "-" + r.accessKeyID }

// of reports whether it is the user's: its version is.
func (r record) of(userName string) bool {
	if user, _, ok := parseDelivered(r.versionID); ok {
		return user == userHash(userName, 16)
	}
	in, ok := parseIntent(r.versionID)
	return ok && in.of(userName)
}

// delivered reports whether it stands on a delivered version, and so its intent's create is finished.
func (r record) delivered() bool {
	_, _, ok := parseDelivered(r.versionID)
	return ok
}

var recordLabels = regexp.MustCompile(`^iamkeys-made-([0-9a-f]{6})-([A-Za-z0-9_]{16,128})$`)

// records gives the secret's records, by version.
func (d SecretDescription) records() []record {
	var found []record
	for _, id := range slices.Sorted(maps.Keys(d.Versions)) {
		for _, label := range d.Versions[id] {
			if m := recordLabels.FindStringSubmatch(label); m != nil {
				found = append(found, record{m[1], m[2], id})
			}
		}
	}
	return found
}

// An intent is the mark that a create leaves on the secret before it makes a key.
type intent struct {
	user    string // 8 hex digits of the user name's SHA-256
	time    time.Time
	nonce   string // 6 hex digits
	existed string // the ID of the key that existed before, or none
}

const none = "none"

func userHash(userName string, digits int) string {
	sum := sha256.Sum256([]byte(userName))
	return hex.EncodeToString(sum[:])[:digits]
}

// VersionID gives the ID of the version that delivers the key to the user's consumers.
func VersionID(userName, accessKeyID string) string {
	return fmt.Sprintf("iamkeys-%s-%s", userHash(userName, 16), accessKeyID)
}

var deliveredVersionIDs = regexp.MustCompile(`^iamkeys-([0-9a-f]{16})-([A-Za-z0-9_]{16,128})$`)

// parseDelivered gives the user's hash and the key ID of a delivered version.
func parseDelivered(versionID string) (user, accessKeyID string, ok bool) {
	m := deliveredVersionIDs.FindStringSubmatch(versionID)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

func newIntent(userName string, now time.Time, nonce string, keys []AccessKey) intent {
	in := intent{userHash(userName, 8), now.Truncate(time.Second), nonce, none}
	if len(keys) > 0 {
		in.existed = keys[0].AccessKeyID
	}
	return in
}

func (in intent) versionID() string {
	return fmt.Sprintf("iamkeys-intent-%s-%d-%s-%s", in.user, in.time.Unix(), in.nonce, in.existed)
}

// made gives the record of a key that the intent made.
func (in intent) made(accessKeyID string) record {
	return record{in.nonce, accessKeyID, in.versionID()}
}

func (in intent) of(userName string) bool { return in.user == userHash(userName, 8) }

// live reports whether the intent's create may be at work.
func (in intent) live(now time.Time) bool { return now.Before(in.dies()) }

// dies tells from when on it cannot be.
func (in intent) dies() time.Time { return in.time.Add(LockLife) }

var intents = regexp.MustCompile(`^iamkeys-intent-([0-9a-f]{8})-([0-9]{1,11})-([0-9a-f]{6})-(none|[A-Za-z0-9_]{16,128})$`)

func parseIntent(versionID string) (intent, bool) {
	m := intents.FindStringSubmatch(versionID)
	if m == nil {
		return intent{}, false
	}
	seconds, err := strconv.ParseInt(m[2], 10, 64)
	return intent{m[1], time.Unix(seconds, 0), m[3], m[4]}, err == nil
}

// nothingDelivered tells of a current version whether it is none or an intent: a
// secret's first version becomes current whatever its label.
func nothingDelivered(current string) bool {
	_, isIntent := parseIntent(current)
	return current == "" || isIntent
}

// SecretNames says where secrets live: under Prefix, which ends in "/", and with an ARN
// that begins with ARN, which names account and Region (arn:aws:secretsmanager:eu-west-1:
// 123456789012:secret); any, where that is empty.
type SecretNames struct{ Prefix, ARN string }

// Default gives the name of the user's secret.
func (n SecretNames) Default(userName string) string { return n.own(userName) + "access-key" }

// own gives what the names of the user's own secrets begin with. Secret names may hold
// every character of a user name but the comma; "," and the escape character "=" are
// written as =2C and =3D, so that no two users share a name. The slash keeps a name
// from looking like an ARN's, which ends in a hyphen and six characters.
func (n SecretNames) own(userName string) string {
	return n.Prefix + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(userName) + "/"
}

// A NameFault says why a secret ID is refused. It is the cause of that error.
type NameFault string

// The faults.
const (
	NameMalformed     NameFault = "secretNameMalformed"  // neither a name nor the full ARN of a secret
	NameElsewhere     NameFault = "secretElsewhere"      // the ARN of another account's or Region's
	NameOutsidePrefix NameFault = "secretOutsidePrefix"  // not under Prefix
	NameNotByTag      NameFault = "secretNotNamedByATag" // a tag names one that is not the user's own
)

// Error implements error.
func (f NameFault) Error() string { return string(f) }

var (
	secretNames = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`)
	arnEnding   = regexp.MustCompile(`-[A-Za-z0-9]{6}$`)
	secretARNs  = regexp.MustCompile(`^arn:[a-z-]+:secretsmanager:([a-z0-9-]+):([0-9]{12}):secret:([A-Za-z0-9/_+=.@-]{1,512})-[A-Za-z0-9]{6}$`)
)

// nameOf gives the name in a secret's name or ARN.
func nameOf(secretID string) string {
	if m := secretARNs.FindStringSubmatch(secretID); m != nil {
		return m[3]
	}
	return secretID
}

// check refuses a secret ID that is neither a name nor an ARN of a secret that iamkeys may write.
func (n SecretNames) check(field, secretID string) error {
	no := func(fault NameFault, format string, args ...any) error {
		return Failed(InvalidInput, fault, field+" "+format, args...)
	}
	arn, name := secretARNs.FindStringSubmatch(secretID), nameOf(secretID)
	switch {
	case secretID == "":
		return no(NameMalformed, "is empty; it must be the name or the full ARN of a secret under %s.", n.Prefix)
	case arn != nil && n.ARN != "" && !strings.HasPrefix(secretID, n.ARN+":"):
		return no(NameElsewhere, "must name a secret of the account and in the Region where iamkeys runs, %s:...; got one of account %s in %s.", n.ARN, arn[2], arn[1])
	case arn == nil && !secretNames.MatchString(name):
		return no(NameMalformed, "must be the name (1 to 512 of A-Z a-z 0-9 / _ + = . @ -) or the full ARN, with its last six characters, of a secret; got %s.", Quoted(secretID))
	case arn == nil && arnEnding.MatchString(name):
		return no(NameMalformed, "ends in a hyphen and six characters, which Secrets Manager takes for the end of an ARN: give the secret's full ARN instead, which is accepted (aws secretsmanager describe-secret shows it), or, where there is no such secret yet, another name; got %s.", Quoted(secretID))
	case !strings.HasPrefix(name, n.Prefix) || len(name) == len(n.Prefix):
		return no(NameOutsidePrefix, "must name a secret under %s (parameter SecretPrefix); got %s.", n.Prefix, Quoted(secretID))
	}
	return nil
}

// checkInput is check for an input's secretId, which may be absent.
func (n SecretNames) checkInput(secretID string) error {
	if secretID == "" {
		return nil
	}
	return n.check("secretId", secretID)
}

// Of gives the secret for the user: the one asked for, else the one that the user's tag
// names, else the default one. Whoever may tag a user must not be able to send its key
// to a secret of their own: of a tag's that is not the user's own by its name
// (unproved), the caller must see that it delivers a key of the user already, see
// [SecretNames.RefuseTag].
func (n SecretNames) Of(user User, asked string) (secretID string, unproved bool, err error) {
	if asked != "" {
		return asked, false, n.check("secretId", asked)
	}
	tagged, ok := user.Tag(TagSecret)
	if !ok {
		return n.Default(user.UserName), false, nil
	}
	return tagged, !strings.HasPrefix(nameOf(tagged), n.own(user.UserName)), n.check("The tag "+TagSecret+" of user "+user.UserName, tagged)
}

// RefuseTag is the refusal of an unproved secret that delivers no key of the user.
func (n SecretNames) RefuseTag(user User, secretID string) error {
	return Failed(InvalidInput, NameNotByTag, "The tag %s of user %s names secret %s, which neither begins with %s nor delivers a key of this user already, so no key goes there. Name it as secretId once, and the tag holds from then on; or tag another.",
		TagSecret, user.UserName, secretID, n.own(user.UserName))
}

// CreateAtWork reports whether a create may be at work on the secret: it holds the lock.
func (d SecretDescription) CreateAtWork(now time.Time) bool {
	lock, ok := parseIntent(d.labelled(lockStage))
	return ok && lock.live(now)
}
