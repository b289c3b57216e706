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
// staging labels. They are all the state that iamkeys keeps about a key:
//
//	iamkeys-<16 hex of the user name's SHA-256>-<key ID>                      a delivered key
//	iamkeys-intent-<8 hex of it>-<unix seconds>-<6 hex nonce>-<key ID | none> a create at work, under the
//	                                                                          label iamkeys-intent-<nonce>
//
// Secrets Manager takes version IDs of 32 to 64 characters and keeps them for as
// long as the version has a label:
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html

// A SecretDescription is what DescribeSecret says. No operation reads a secret's value.
type SecretDescription struct {
	ARN         string
	Name        string
	Deleted     bool                // scheduled for deletion
	LastChanged time.Time           // of any version or label
	Versions    map[string][]string // version ID → staging labels
}

// A SecretVersion is a version to put.
type SecretVersion struct {
	ID          string       // the ClientRequestToken, which makes a repeated put harmless
	Stages      []string     // staging labels; none means that it becomes the current version
	Credentials *Credentials // nil for an intent, which holds no secret access key
}

// Secrets Manager's own staging labels.
const (
	currentStage  = "AWSCURRENT"
	previousStage = "AWSPREVIOUS"
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

// holds reports whether any labelled version holds that key of that user.
func (d SecretDescription) holds(userName, accessKeyID string) bool {
	_, ok := d.Versions[VersionID(userName, accessKeyID)]
	return ok
}

// intents gives the intents that the secret carries, oldest first.
func (d SecretDescription) intents() []intent {
	var found []intent
	for _, id := range slices.Sorted(maps.Keys(d.Versions)) {
		if in, ok := parseIntent(id); ok && slices.Contains(d.Versions[id], in.label()) {
			found = append(found, in)
		}
	}
	slices.SortStableFunc(found, intent.compare)
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

func (in intent) label() string { return "iamkeys-intent-" + in.nonce }

func (in intent) of(userName string) bool { return in.user == userHash(userName, 8) }

// compare orders intents by time, then by nonce.
func (in intent) compare(other intent) int {
	if c := in.time.Compare(other.time); c != 0 {
		return c
	}
	return strings.Compare(in.nonce, other.nonce)
}

var intents = regexp.MustCompile(`^iamkeys-intent-([0-9a-f]{8})-([0-9]{1,11})-([0-9a-f]{6})-(none|[A-Za-z0-9_]{16,128})$`)

func parseIntent(versionID string) (intent, bool) {
	m := intents.FindStringSubmatch(versionID)
	if m == nil {
		return intent{}, false
	}
	seconds, err := strconv.ParseInt(m[2], 10, 64)
	return intent{m[1], time.Unix(seconds, 0), m[3], m[4]}, err == nil
}

// SecretNames says where secrets live: under Prefix, which ends in "/".
type SecretNames struct{ Prefix string }

// Default gives the name of the user's secret. Secret names may hold every
// character of a user name but the comma; "," and the escape character "=" are
// written as =2C and =3D, so that no two users share a name. The ending keeps
// the name from looking like an ARN's, a hyphen and six characters.
func (n SecretNames) Default(userName string) string {
	return n.Prefix + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(userName) + "/access-key"
}

var (
	secretNames = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`)
	arnEnding   = regexp.MustCompile(`-[A-Za-z0-9]{6}$`)
	secretARNs  = regexp.MustCompile(`^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:([A-Za-z0-9/_+=.@-]{1,512})-[A-Za-z0-9]{6}$`)
)

// check refuses a secret ID that is neither a name nor an ARN of a secret under the prefix.
func (n SecretNames) check(field, secretID string) error {
	name := secretID
	if m := secretARNs.FindStringSubmatch(secretID); m != nil {
		name = m[1]
	} else if !secretNames.MatchString(name) || arnEnding.MatchString(name) {
		return Refuse(InvalidInput, "%s must be the name or the ARN of a secret; a name has 1 to 512 of A-Z a-z 0-9 / _ + = . @ - and does not end in a hyphen and six characters; got %s.", field, Quoted(secretID))
	}
	if !strings.HasPrefix(name, n.Prefix) || len(name) == len(n.Prefix) {
		return Refuse(InvalidInput, "%s must name a secret under %s (parameter SecretPrefix); got %s.", field, n.Prefix, Quoted(secretID))
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

// of gives the secret for the user: the one asked for, else the one that the
// user's tag names, else the default one.
func (n SecretNames) Of(user User, asked string) (string, error) {
	if asked != "" {
		return asked, n.check("secretId", asked)
	}
	if tagged, ok := user.Tag(TagSecret); ok {
		return tagged, n.check("the tag "+TagSecret+" of user "+user.UserName, tagged)
	}
	return n.Default(user.UserName), nil
}
