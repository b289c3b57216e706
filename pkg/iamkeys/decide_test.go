package iamkeys

import (
	"cmp"
	"strings"
	"testing"
	"time"
)

// The decision's rows, each with the borders that it turns on. The user is ada;
// her keys are K1 (old) and K2 (made in the window of a dead intent).
func TestDecide(t *testing.T) {
	const (
		k1, k2, k3 = "AKIAIAMKEYSTEST00001", "AKIAIAMKEYSTEST00002", "AKIAIAMKEYSTEST00003"
		foreign    = "5f0e4b5c-0000-4000-8000-000000000000"
	)
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	life := CreateTimeout + 30*time.Second
	key := func(id string, age time.Duration, status Status) AccessKey {
		return AccessKey{UserName: "ada", AccessKeyID: id, Status: status, CreateDate: now.Add(-age)}
	}
	old := key(k1, 80*24*time.Hour, Active)
	intentAt := func(age time.Duration, existed string) intent {
		in := newIntent("ada", now.Add(-age), "0a1b2c", nil)
		in.existed = existed
		return in
	}
	dead := intentAt(time.Hour, k1)
	secret := func(current string, marks ...intent) SecretDescription {
		d := SecretDescription{ARN: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/ada/access-key-AbCdEf", LastChanged: now.Add(-time.Hour), Versions: map[string][]string{}}
		if current != "" {
			d.Versions[current] = []string{"AWSCURRENT"}
		}
		for _, m := range marks {
			d.Versions[m.versionID()] = append(d.Versions[m.versionID()], m.label())
		}
		return d
	}
	never, bySTS, byS3 := LastUsed{}, LastUsed{Date: now, ServiceName: "sts"}, LastUsed{Date: now, ServiceName: "s3"}
	made := func(sinceIntent time.Duration) AccessKey { return key(k2, time.Hour-sinceIntent, Active) }
	used := func(u LastUsed) map[string]LastUsed { return map[string]LastUsed{k2: u} }
	other := intentAt(time.Hour, none)
	other.user = userHash("bob", 8)
	changed := func(d SecretDescription, ago time.Duration) SecretDescription {
		d.LastChanged = now.Add(-ago)
		return d
	}
	unlabelled := func(d SecretDescription, in intent) SecretDescription {
		d.Versions[in.versionID()] = []string{"AWSCURRENT"}
		return d
	}

	previously := func(d SecretDescription, id string) SecretDescription {
		d.Versions[id] = []string{"AWSPREVIOUS"}
		return d
	}

	for _, c := range []struct {
		name string
		s    situation
		want verdict
		code Code
		key  string
	}{
		{name: "nothing there", s: situation{}, want: makeKey},
		{name: "an ARN of no secret", s: situation{secretID: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/x-AbCdEf", keys: []AccessKey{old, made(0)}}, code: SecretUnavailable},
		{name: "secret scheduled for deletion", s: situation{secret: SecretDescription{Deleted: true}}, code: SecretUnavailable},
		{name: "another user's intent, dead or alive", s: situation{secret: secret("", other)}, code: SecretInUse},
		{name: "an intent just before its death", s: situation{secret: secret("", intentAt(life-time.Second, none))}, code: InProgress},
		{name: "an intent at its death", s: situation{secret: secret("", intentAt(life, none))}, want: makeKey},
		{name: "an intent's version without its label is none", s: situation{secret: unlabelled(secret(""), intentAt(time.Second, none))}, want: makeKey},
		{name: "our key not listed, 59 s after", s: situation{secret: changed(secret(VersionID("ada", k3)), 59*time.Second)}, code: InProgress},
		{name: "our key not listed, 60 s after", s: situation{secret: changed(secret(VersionID("ada", k3)), 60*time.Second)}, want: makeKey},

		{name: "a dead create's key, never used", s: situation{keys: []AccessKey{old, made(0)}, secret: secret("", dead), lastUsed: used(never)}, want: takeOver, key: k2},
		{name: "a dead create's key, used by its probe", s: situation{keys: []AccessKey{old, made(0)}, secret: secret("", dead), lastUsed: used(bySTS)}, want: takeOver, key: k2},
		{name: "a dead create's key, Inactive", s: situation{keys: []AccessKey{old, key(k2, time.Hour, Inactive)}, secret: secret("", dead), lastUsed: used(never)}, want: takeOver, key: k2},
		{name: "a dead create's key at the start of its window", s: situation{keys: []AccessKey{old, made(-2 * time.Second)}, secret: secret("", dead), lastUsed: used(never)}, want: takeOver, key: k2},
		{name: "a dead create's key at the end of its window", s: situation{keys: []AccessKey{old, made(20 * time.Second)}, secret: secret("", dead), lastUsed: used(never)}, want: takeOver, key: k2},
		{name: "a key made after the window", s: situation{keys: []AccessKey{old, made(21 * time.Second)}, secret: secret("", dead), lastUsed: used(never)}, code: OrphanedKey, key: k2},
		{name: "a key made just before the intent died", s: situation{keys: []AccessKey{old, made(life - time.Second)}, secret: secret("", dead), lastUsed: used(never)}, code: OrphanedKey, key: k2},
		{name: "a key made when the intent was dead", s: situation{keys: []AccessKey{old, made(life)}, secret: secret("", dead), lastUsed: used(never)}, code: LimitExceeded, key: k2},
		{name: "a key made before the intent", s: situation{keys: []AccessKey{old, made(-3 * time.Second)}, secret: secret("", dead), lastUsed: used(never)}, code: LimitExceeded, key: k2},
		{name: "a key in the window that a consumer uses", s: situation{keys: []AccessKey{old, made(0)}, secret: secret("", dead), lastUsed: used(byS3)}, code: OrphanedKey, key: k2},
		{name: "a key in the window that a consumer used by STS, later than any probe", s: situation{keys: []AccessKey{old, made(0)}, secret: secret("", dead), lastUsed: used(LastUsed{Date: now.Add(time.Second), ServiceName: "sts"})}, code: OrphanedKey, key: k2},
		{name: "a key in the window whose last use is unknown", s: situation{keys: []AccessKey{old, made(0)}, secret: secret("", dead)}, code: OrphanedKey, key: k2},
		{name: "the key that existed", s: situation{keys: []AccessKey{made(0)}, secret: secret("", intentAt(time.Hour, k2)), lastUsed: used(never)}, want: makeKey},
		{name: "the key to be replaced", s: situation{keys: []AccessKey{made(0)}, secret: secret("", dead), lastUsed: used(never), replaces: k2}, code: OrphanedKey, key: k2},
		{name: "a delivered key", s: situation{keys: []AccessKey{made(0)}, secret: secret(VersionID("ada", k2), dead), lastUsed: used(never)}, want: reuse, key: k2},
		{name: "a dead create's key, its secret overwritten once", s: situation{keys: []AccessKey{old, made(0)}, secret: secret(foreign, dead), lastUsed: used(never)}, want: takeOver, key: k2},
		{name: "a dead create's key, its secret overwritten twice since", s: situation{keys: []AccessKey{old, made(0)}, secret: changed(previously(secret(foreign, dead), "another-"+foreign), time.Hour-21*time.Second), lastUsed: used(never)}, code: OrphanedKey, key: k2},
		{name: "a dead create's key, its secret overwritten twice before", s: situation{keys: []AccessKey{old, made(0)}, secret: changed(previously(secret(foreign, dead), "another-"+foreign), time.Hour-20*time.Second), lastUsed: used(never)}, want: takeOver, key: k2},
		{name: "a dead create's key, an older one was delivered", s: situation{keys: []AccessKey{old, made(0)}, secret: previously(secret(foreign, dead), VersionID("ada", k1)), lastUsed: used(never)}, want: takeOver, key: k2},
		{name: "a key in the window, and one after it", s: situation{keys: []AccessKey{made(0), key(k3, time.Hour-21*time.Second, Active)}, secret: secret("", dead), lastUsed: map[string]LastUsed{k2: never, k3: never}}, want: takeOver, key: k2},
		{name: "two keys in the window", s: situation{keys: []AccessKey{made(0), key(k3, time.Hour, Active)}, secret: secret("", dead), lastUsed: map[string]LastUsed{k2: never, k3: never}}, code: OrphanedKey, key: k3},

		{name: "delivered already", s: situation{keys: []AccessKey{old}, secret: secret(VersionID("ada", k1))}, want: reuse, key: k1},
		{name: "delivered, two keys", s: situation{keys: []AccessKey{old, made(0)}, secret: secret(VersionID("ada", k2))}, want: reuse, key: k2},
		{name: "delivered, replaces an older one", s: situation{keys: []AccessKey{old, made(0)}, secret: secret(VersionID("ada", k2)), replaces: k1}, want: reuse, key: k2},
		{name: "delivered, replaces one that is gone", s: situation{keys: []AccessKey{made(0)}, secret: secret(VersionID("ada", k2)), replaces: k1}, want: reuse, key: k2},
		{name: "delivered, replaces it", s: situation{keys: []AccessKey{old}, secret: secret(VersionID("ada", k1)), replaces: k1}, want: makeKey},
		{name: "delivered, replaces a newer one", s: situation{keys: []AccessKey{old, made(0)}, secret: secret(VersionID("ada", k1)), replaces: k2}, code: LimitExceeded},
		{name: "delivered, but switched off", s: situation{keys: []AccessKey{key(k1, time.Hour, Inactive)}, secret: secret(VersionID("ada", k1))}, want: makeKey},
		{name: "delivered, but expired", s: situation{keys: []AccessKey{key(k1, time.Hour, Expired)}, secret: secret(VersionID("ada", k1))}, want: makeKey},

		{name: "replaces no key of the user", s: situation{keys: []AccessKey{old}, secret: secret(""), replaces: k3}, code: NoSuchEntity},
		{name: "replaces no key of a user with two", s: situation{keys: []AccessKey{old, made(0)}, replaces: k3}, code: NoSuchEntity},
		{name: "two keys", s: situation{keys: []AccessKey{old, key(k2, 0, Inactive)}}, code: LimitExceeded, key: k1 + " (Active, 80 days old), " + k2 + " (Inactive, 0 days old)"},
		{name: "three keys", s: situation{keys: []AccessKey{old, made(0), key(k3, 0, Active)}}, code: LimitExceeded, key: k3},

		{name: "another user's secret", s: situation{secret: secret(VersionID("bob", k3))}, code: SecretInUse},
		{name: "another user's secret, overwrite", s: situation{secret: secret(VersionID("bob", k3)), overwrite: true}, code: SecretInUse},
		{name: "a value that we did not write", s: situation{secret: secret(foreign)}, code: SecretInUse},
		{name: "a value that we did not write, overwrite", s: situation{secret: secret(foreign), overwrite: true}, want: makeKey},
		{name: "an intent that is current", s: situation{secret: secret(intentAt(time.Hour, none).versionID())}, want: makeKey},
		{name: "another user's intent that is current, its label off", s: situation{secret: secret(other.versionID())}, want: makeKey},
		{name: "one key, nothing delivered", s: situation{keys: []AccessKey{old}}, want: makeKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.s.now, c.s.userName, c.s.secretID = now, "ada", cmp.Or(c.s.secretID, "iamkeys/ada/access-key")
			d := decide(c.s)
			if d.verdict != c.want || d.verdict == refused && CodeOf(d.err) != c.code {
				t.Fatalf("got verdict %d (%v), want %d (%s)", d.verdict, d.err, c.want, c.code)
			}
			switch {
			case d.verdict == refused && !strings.Contains(d.err.Error(), c.key):
				t.Errorf("the error does not name %s: %v", c.key, d.err)
			case d.verdict == refused && !strings.Contains(d.err.Error(), "ada"):
				t.Errorf("the error does not name the user: %v", d.err)
			case d.verdict != refused && d.key.AccessKeyID != c.key:
				t.Errorf("got key %q, want %q", d.key.AccessKeyID, c.key)
			}
		})
	}
}
