package iamkeystest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// The contract tests say what the core may rely on behind its ports. They run
// over the fake, over the adapters with the SDK's client against the fake behind
// [Server], and over the adapters against an emulator of AWS.

// A Harness is an account as a contract test needs it: users that nobody else
// touches, and what people do beside the ports.
type Harness struct {
	// AddUser makes a user that has no access key and gives its name.
	AddUser func(t *testing.T, tags ...iamkeys.Tag) (userName string)
	// AddKey makes an Active access key for the user.
	AddKey func(t *testing.T, userName string) iamkeys.Credentials
	// SetStatus sets the key's status to Active or Inactive.
	SetStatus func(t *testing.T, userName, accessKeyID string, status iamkeys.Status)
	// Attach attaches a managed policy to the user itself and gives its ARN.
	Attach func(t *testing.T, userName string) (policyARN string)
	// Join puts the user into a new group that has one managed policy, and gives both.
	Join func(t *testing.T, userName string) (groupName, policyARN string)
	// SecretName gives the name of a secret that does not exist.
	SecretName func() string
	// ScheduleDeletion marks the secret for deletion.
	ScheduleDeletion func(t *testing.T, name string)
}

// Harness gives the account's harness.
func (a *Account) Harness() Harness {
	serial := 0
	name := func() string {
		serial++
		return fmt.Sprintf("user-%d", serial)
	}
	return Harness{
		AddUser: func(_ *testing.T, tags ...iamkeys.Tag) string {
			userName := name()
			a.AddUser(userName, tags...)
			return userName
		},
		AddKey: func(_ *testing.T, userName string) iamkeys.Credentials {
			id := a.AddKey(userName, 0)
			return iamkeys.Credentials{UserName: userName, AccessKeyID: id, CreateDate: a.Now(), Secret: iamkeys.NewSecret(SecretOf(id))}
		},
		SetStatus: func(_ *testing.T, userName, accessKeyID string, status iamkeys.Status) {
			a.SetStatus(userName, accessKeyID, status)
		},
		Attach: func(_ *testing.T, userName string) string {
			arn := "arn:aws:iam::" + a.ID + ":policy/" + name()
			a.Attach(userName, arn)
			return arn
		},
		Join: func(_ *testing.T, userName string) (string, string) {
			group := name()
			arn := "arn:aws:iam::" + a.ID + ":policy/" + group
			a.AttachToGroup(group, arn)
			a.Join(userName, group)
			return group, arn
		},
		SecretName:       func() string { return "iamkeys/" + name() + "/access-key" },
		ScheduleDeletion: func(_ *testing.T, name string) { a.ScheduleDeletion(name) },
	}
}

// KeysIAM is every port to IAM of the operations on one user.
type KeysIAM interface {
	iamkeys.CreateIAM
	iamkeys.DeactivateIAM
	iamkeys.RetireIAM
}

// TestIAM is the contract of the ports to IAM that work on one user's keys.
func TestIAM(t *testing.T, h Harness, iam KeysIAM) {
	ctx := t.Context()
	list := func(t *testing.T, userName string) []iamkeys.AccessKey {
		t.Helper()
		keys, err := iam.ListAccessKeys(ctx, userName)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	const nobody, noKey, nonce = "nobody-of-this-name", "AKIANOSUCHKEY0000000", "0a1b2c"

	t.Run("ListAccessKeys", func(t *testing.T) {
		alice, bob := h.AddUser(t), h.AddUser(t)
		if keys := list(t, alice); len(keys) != 0 {
			t.Errorf("a new user has %v", keys)
		}
		first, second := h.AddKey(t, alice), h.AddKey(t, alice)
		h.AddKey(t, bob)
		h.SetStatus(t, alice, first.AccessKeyID, iamkeys.Inactive)
		got := map[string]iamkeys.Status{}
		for _, k := range list(t, alice) {
			got[k.AccessKeyID] = k.Status
			if k.UserName != alice || k.CreateDate.IsZero() {
				t.Errorf("listed %+v, want the user's name and a create date", k)
			}
		}
		if want := map[string]iamkeys.Status{first.AccessKeyID: iamkeys.Inactive, second.AccessKeyID: iamkeys.Active}; !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		_, err := iam.ListAccessKeys(ctx, nobody)
		certain(t, err, iamkeys.NoSuchEntity)
	})

	t.Run("GetUser", func(t *testing.T) {
		tags := []iamkeys.Tag{{Key: "owner", Value: "team a"}, {Key: iamkeys.TagSecret, Value: "iamkeys/other"}}
		alice := h.AddUser(t, tags...)
		u, err := iam.GetUser(ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		if u.UserName != alice || u.ARN == "" || u.CreateDate.IsZero() || !slices.Equal(u.Tags, tags) {
			t.Errorf("got %+v, want the name, an ARN, a create date and the tags %v", u, tags)
		}
		_, err = iam.GetUser(ctx, nobody)
		certain(t, err, iamkeys.NoSuchEntity)
	})

	t.Run("policies", func(t *testing.T) {
		alice, bob := h.AddUser(t), h.AddUser(t)
		want := func(what string, got []string, err error, want ...string) {
			t.Helper()
			slices.Sort(got)
			slices.Sort(want)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: got %v, %v, want %v", what, got, err, want)
			}
		}
		attached := []string{h.Attach(t, alice), h.Attach(t, alice)}
		admins, policy := h.Join(t, alice)
		others, _ := h.Join(t, alice)
		arns, err := iam.ListAttachedUserPolicies(ctx, alice)
		want("of the user", arns, err, attached...)
		arns, err = iam.ListAttachedUserPolicies(ctx, bob)
		want("of another user", arns, err)
		groups, err := iam.ListGroupsForUser(ctx, alice)
		want("groups", groups, err, admins, others)
		groups, err = iam.ListGroupsForUser(ctx, bob)
		want("another user's groups", groups, err)
		arns, err = iam.ListAttachedGroupPolicies(ctx, admins)
		want("of the group", arns, err, policy)
		_, err = iam.ListAttachedUserPolicies(ctx, nobody)
		certain(t, err, iamkeys.NoSuchEntity)
		_, err = iam.ListGroupsForUser(ctx, nobody)
		certain(t, err, iamkeys.NoSuchEntity)
		_, err = iam.ListAttachedGroupPolicies(ctx, nobody)
		certain(t, err, iamkeys.NoSuchEntity)
	})

	t.Run("CreateAccessKey", func(t *testing.T) {
		alice := h.AddUser(t)
		made, err := iam.CreateAccessKey(ctx, alice, nonce)
		if err != nil {
			t.Fatal(err)
		}
		keys := list(t, alice)
		if len(keys) != 1 || keys[0].AccessKeyID != made.AccessKeyID || !keys[0].CreateDate.Equal(made.CreateDate) || keys[0].Status != iamkeys.Active || made.UserName != alice {
			t.Errorf("made %v of user %s, created %v; listed %v", made.AccessKeyID, made.UserName, made.CreateDate, keys)
		}
		if _, err := iam.CreateAccessKey(ctx, alice, nonce); err != nil {
			t.Fatal(err)
		}
		_, err = iam.CreateAccessKey(ctx, alice, nonce)
		certain(t, err, iamkeys.LimitExceeded)
		if keys := list(t, alice); len(keys) != 2 {
			t.Errorf("after the refusal there are %v", keys)
		}
		_, err = iam.CreateAccessKey(ctx, nobody, nonce)
		certain(t, err, iamkeys.NoSuchEntity)
	})

	t.Run("UpdateAccessKey", func(t *testing.T) {
		alice, bob := h.AddUser(t), h.AddUser(t)
		key := h.AddKey(t, alice)
		for _, status := range []iamkeys.Status{iamkeys.Active, iamkeys.Inactive, iamkeys.Inactive, iamkeys.Active} {
			if err := iam.UpdateAccessKey(ctx, alice, key.AccessKeyID, status); err != nil {
				t.Fatalf("setting %s: %v", status, err)
			}
			if keys := list(t, alice); len(keys) != 1 || keys[0].Status != status {
				t.Fatalf("set %s, listed %v", status, keys)
			}
		}
		certain(t, iam.UpdateAccessKey(ctx, alice, noKey, iamkeys.Inactive), iamkeys.NoSuchEntity)
		certain(t, iam.UpdateAccessKey(ctx, nobody, key.AccessKeyID, iamkeys.Inactive), iamkeys.NoSuchEntity)
		certain(t, iam.UpdateAccessKey(ctx, bob, key.AccessKeyID, iamkeys.Inactive), iamkeys.NoSuchEntity)
		if keys := list(t, alice); keys[0].Status != iamkeys.Active {
			t.Errorf("a call for another user changed the key: %v", keys)
		}
	})

	t.Run("DeleteAccessKey", func(t *testing.T) {
		alice, bob := h.AddUser(t), h.AddUser(t)
		gone, stays := h.AddKey(t, alice), h.AddKey(t, alice)
		if err := iam.DeleteAccessKey(ctx, alice, gone.AccessKeyID); err != nil {
			t.Fatal(err)
		}
		certain(t, iam.DeleteAccessKey(ctx, alice, gone.AccessKeyID), iamkeys.NoSuchEntity)
		certain(t, iam.DeleteAccessKey(ctx, nobody, stays.AccessKeyID), iamkeys.NoSuchEntity)
		certain(t, iam.DeleteAccessKey(ctx, bob, stays.AccessKeyID), iamkeys.NoSuchEntity)
		if keys := list(t, alice); len(keys) != 1 || keys[0].AccessKeyID != stays.AccessKeyID {
			t.Errorf("left are %v, want %s alone", keys, stays.AccessKeyID)
		}
	})

	t.Run("GetAccessKeyLastUsed", func(t *testing.T) {
		alice := h.AddUser(t)
		key := h.AddKey(t, alice)
		used, err := iam.GetAccessKeyLastUsed(ctx, key.AccessKeyID)
		if err != nil {
			t.Fatal(err)
		}
		if want := (iamkeys.LastUsed{UserName: alice}); used != want {
			t.Errorf("a new key is %+v, want %+v: never used, by no service, in no Region", used, want)
		}
		_, err = iam.GetAccessKeyLastUsed(ctx, noKey)
		certain(t, err, iamkeys.NoSuchEntity)
	})

	t.Run("nobody is not the caller", func(t *testing.T) {
		if keys, err := iam.ListAccessKeys(ctx, ""); err == nil {
			t.Errorf("the empty user name has the keys %v", keys)
		}
		if u, err := iam.GetUser(ctx, ""); err == nil {
			t.Errorf("the empty user name is %v", u)
		}
		if c, err := iam.CreateAccessKey(ctx, "", nonce); err == nil {
			t.Errorf("made %s for the empty user name", c.AccessKeyID)
		}
	})

	t.Run("time runs out", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err := iam.CreateAccessKey(ctx, h.AddUser(t), nonce)
		unknown(t, err)
	})
}

// TestInventoryIAM is the contract of the ports to IAM that tell of a whole account.
func TestInventoryIAM(t *testing.T, h Harness, iam audit.InventoryIAM) {
	ctx := t.Context()
	tags := []iamkeys.Tag{{Key: "owner", Value: "team a"}, {Key: iamkeys.TagExemptReason, Value: "a, \"b\" & <c>"}}
	alice, bob := h.AddUser(t, tags...), h.AddUser(t)
	key := h.AddKey(t, alice)

	t.Run("GetAccountAuthorizationDetails", func(t *testing.T) {
		users, err := iam.GetAccountAuthorizationDetails(ctx)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, u := range users {
			want := map[string][]iamkeys.Tag{alice: tags, bob: nil}
			if u.ARN == "" || u.CreateDate.IsZero() || !u.PoliciesRead {
				t.Errorf("user %+v lacks ARN, create date or policies", u)
			}
			if w, ok := want[u.UserName]; ok {
				found++
				if !slices.Equal(u.Tags, w) {
					t.Errorf("user %s has the tags %v, want %v", u.UserName, u.Tags, w)
				}
			}
		}
		if found != 2 {
			t.Errorf("%d of two users are in %v", found, users)
		}
	})

	t.Run("credential report", func(t *testing.T) {
		complete := false
		for range 10 {
			var err error
			if complete, err = iam.GenerateCredentialReport(ctx); err != nil {
				t.Fatal(err)
			}
			if complete {
				break
			}
			if _, _, err := iam.GetCredentialReport(ctx); err != nil {
				certain(t, err, iamkeys.InProgress)
			}
		}
		content, generated, err := iam.GetCredentialReport(ctx)
		if err != nil || !complete || generated.IsZero() {
			t.Fatalf("complete: %t, generated %v, %v", complete, generated, err)
		}
		for _, want := range []string{"user,arn,user_creation_time,", "access_key_1_last_rotated", "\n" + alice + ",arn:aws:iam::"} {
			if !strings.Contains(string(content), want) {
				t.Errorf("%q is not in the credential report:\n%s", want, content)
			}
		}
		if strings.Contains(string(content), key.AccessKeyID) {
			t.Error("a credential report that names access keys: then the audit need not ask for them")
		}
	})

	t.Run("GetAccountSummary", func(t *testing.T) {
		if rootKey, err := iam.GetAccountSummary(ctx); err != nil || rootKey {
			t.Errorf("the root user has a key: %t, %v", rootKey, err)
		}
	})
}

// TestS3 is the contract of the port to S3.
func TestS3(t *testing.T, s3 audit.S3) {
	ctx := t.Context()
	const key = "reports/123456789012/2026/11/23/20261123T060000Z.json"
	_, _, err := s3.GetObject(ctx, key)
	certain(t, err, iamkeys.NoSuchEntity)
	for _, content := range []string{`{"a": "<ü>"}`, "another", "", strings.Repeat("0123456789", 1_000_000)} {
		if err := s3.PutObject(ctx, key, "application/json", strings.NewReader(content), nil); err != nil {
			t.Fatal(err)
		}
		if got, _, err := s3.GetObject(ctx, key); err != nil || string(got) != content {
			t.Errorf("put %.20q, got %.20q, %v", content, got, err)
		}
	}
	_, _, err = s3.GetObject(ctx, "reports/123456789012/latest.json")
	certain(t, err, iamkeys.NoSuchEntity)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	unknown(t, s3.PutObject(ctx, key, "application/json", strings.NewReader(""), nil))
}

// TestS3Conditions is the contract of the port to S3 for writers at the same time.
func TestS3Conditions(t *testing.T, s3 audit.S3) {
	ctx := t.Context()
	const key = "reports/123456789012/latest.json"
	put := func(content string, replaces *string) error {
		return s3.PutObject(ctx, key, "application/json", strings.NewReader(content), replaces)
	}
	none, other := "", `"0123456789abcdef0123456789abcdef"`
	if err := put("first", &none); err != nil {
		t.Fatal(err)
	}
	certain(t, put("second", &none), iamkeys.InProgress)
	certain(t, put("second", &other), iamkeys.InProgress)
	_, etag, err := s3.GetObject(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := put("second", &etag); err != nil {
		t.Fatal(err)
	}
	certain(t, put("third", &etag), iamkeys.InProgress)
	if got, _, err := s3.GetObject(ctx, key); err != nil || string(got) != "second" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestSNS is the contract of the port to SNS.
func TestSNS(t *testing.T, sns iamkeys.Publish) {
	m := iamkeys.Message{
		Subject: "IAM access keys 123456789012: no findings", Text: "Nothing was found.\n", JSON: []byte(`{"summary":{}}`),
		Attributes: []iamkeys.Attribute{{Name: "kind", Value: "audit"}, {Name: "new", Value: "0", Number: true}},
	}
	first, err := sns.Publish(t.Context(), m)
	if err != nil || first == "" {
		t.Fatalf("published as %q, %v", first, err)
	}
	if second, err := sns.Publish(t.Context(), m); err != nil || second == first {
		t.Errorf("published again as %q, %v, want another ID than %s", second, err, first)
	}
	if raw, err := sns.Publish(t.Context(), iamkeys.Message{JSON: []byte(`{"version":"1.0"}`)}); err != nil || raw == "" {
		t.Errorf("JSON alone was published as %q, %v", raw, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = sns.Publish(ctx, m)
	unknown(t, err)
}

// TestSES is the contract of the port to SES.
func TestSES(t *testing.T, ses iamkeys.SendEmail) {
	first, err := ses.SendEmail(t.Context(), "team@example.com", "IAM key rotation alice: done", "The old key has been deleted.\n")
	if err != nil || first == "" {
		t.Fatalf("sent as %q, %v", first, err)
	}
	if second, err := ses.SendEmail(t.Context(), "team@example.com", "IAM key rotation alice: done", "The old key has been deleted.\n"); err != nil || second == first {
		t.Errorf("sent again as %q, %v, want another ID than %s", second, err, first)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = ses.SendEmail(ctx, "team@example.com", "s", "t")
	unknown(t, err)
}

// TestSecretsManager is the contract of the ports to Secrets Manager.
func TestSecretsManager(t *testing.T, h Harness, secrets iamkeys.CreateSecretsManager) {
	ctx := t.Context()
	const intentLabel, lock, made, none = "iamkeys-intent", "iamkeys-lock", "iamkeys-made-0a1b2c-AKIAIOSFODNN7EXAMPLE", "iamkeys/no-such-secret"
	intent := iamkeys.SecretVersion{ID: "iamkeys-intent-01234567-1764000000-0a1b2c-none", Stages: []string{intentLabel}}
	other := iamkeys.SecretVersion{ID: "iamkeys-intent-01234567-1764000001-3d4e5f-none", Stages: []string{intentLabel}}
	credentials := &iamkeys.Credentials{UserName: "alice", AccessKeyID: "AKIAIOSFODNN7EXAMPLE", CreateDate: Epoch, Secret: iamkeys.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")}
	delivery := iamkeys.SecretVersion{ID: iamkeys.VersionID("alice", credentials.AccessKeyID), Stages: []string{"AWSCURRENT", made}, Credentials: credentials}
	versions := func(t *testing.T, id string, want map[string][]string) {
		t.Helper()
		d, err := secrets.DescribeSecret(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, stages := range d.Versions {
			slices.Sort(stages)
		}
		if !maps.EqualFunc(d.Versions, want, slices.Equal) {
			t.Fatalf("versions are %v, want %v", d.Versions, want)
		}
	}
	create := func(t *testing.T) (name string) {
		t.Helper()
		name = h.SecretName()
		arn, versionID, err := secrets.CreateSecret(ctx, name)
		if err != nil || arn == "" || versionID != "" {
			t.Fatalf("created as %q with version %q, %v; want an ARN and no version", arn, versionID, err)
		}
		return name
	}
	put := func(t *testing.T, name string, v iamkeys.SecretVersion) {
		t.Helper()
		if err := secrets.PutSecretValue(ctx, name, v); err != nil {
			t.Fatal(err)
		}
	}

	update := func(t *testing.T, name, label, moveTo, removeFrom string) {
		t.Helper()
		if err := secrets.UpdateSecretVersionStage(ctx, name, label, moveTo, removeFrom); err != nil {
			t.Fatal(err)
		}
	}
	misplaced := func(t *testing.T, err error) { t.Helper(); certain(t, err, iamkeys.InProgress) }

	t.Run("CreateSecret", func(t *testing.T) {
		name := create(t)
		versions(t, name, nil)
		byName, err := secrets.DescribeSecret(ctx, name)
		if err != nil || byName.Name != name || byName.Deleted {
			t.Fatalf("described as %+v, %v", byName, err)
		}
		if byARN, err := secrets.DescribeSecret(ctx, byName.ARN); err != nil || byARN.Name != name {
			t.Errorf("under its ARN it is %+v, %v", byARN, err)
		}
		if arn, versionID, err := secrets.CreateSecret(ctx, name); err != nil || arn != "" || versionID != "" {
			t.Errorf("created again as %q with version %q, %v; want nothing said", arn, versionID, err)
		}
		_, err = secrets.DescribeSecret(ctx, none)
		certain(t, err, iamkeys.NoSuchEntity)
	})

	t.Run("a first version becomes current whatever its label", func(t *testing.T) {
		name := create(t)
		put(t, name, intent)
		versions(t, name, map[string][]string{intent.ID: {"AWSCURRENT", intentLabel}})
	})

	t.Run("a delivery becomes current", func(t *testing.T) {
		name := create(t)
		put(t, name, intent)
		put(t, name, delivery)
		want := map[string][]string{delivery.ID: {"AWSCURRENT", made}, intent.ID: {"AWSPREVIOUS", intentLabel}}
		versions(t, name, want)
		put(t, name, delivery) // again, as when the answer was lost
		versions(t, name, want)
	})

	t.Run("an intent leaves the current version", func(t *testing.T) {
		name := create(t)
		put(t, name, delivery)
		put(t, name, intent)
		put(t, name, intent)
		versions(t, name, map[string][]string{delivery.ID: {"AWSCURRENT", made}, intent.ID: {intentLabel}})
	})

	t.Run("an intent takes the label from the one before", func(t *testing.T) {
		name := create(t)
		put(t, name, delivery)
		put(t, name, intent)
		put(t, name, other)
		versions(t, name, map[string][]string{delivery.ID: {"AWSCURRENT", made}, other.ID: {intentLabel}})
	})

	t.Run("a delivery takes its record along", func(t *testing.T) {
		name := create(t)
		put(t, name, intent)
		update(t, name, made, intent.ID, "")
		put(t, name, delivery)
		versions(t, name, map[string][]string{delivery.ID: {"AWSCURRENT", made}, intent.ID: {"AWSPREVIOUS", intentLabel}})
	})

	t.Run("UpdateSecretVersionStage", func(t *testing.T) {
		name := create(t)
		put(t, name, delivery)
		put(t, name, intent)
		update(t, name, lock, intent.ID, "")
		put(t, name, other)
		held := map[string][]string{delivery.ID: {"AWSCURRENT", made}, intent.ID: {lock}, other.ID: {intentLabel}}
		versions(t, name, held)

		// One caller of several has the lock: the others do not name where it stands.
		misplaced(t, secrets.UpdateSecretVersionStage(ctx, name, lock, other.ID, ""))
		misplaced(t, secrets.UpdateSecretVersionStage(ctx, name, lock, other.ID, delivery.ID))
		misplaced(t, secrets.UpdateSecretVersionStage(ctx, name, lock, "", other.ID))
		versions(t, name, held)

		update(t, name, lock, other.ID, intent.ID)
		misplaced(t, secrets.UpdateSecretVersionStage(ctx, name, lock, other.ID, intent.ID)) // again, as when the answer was lost
		versions(t, name, map[string][]string{delivery.ID: {"AWSCURRENT", made}, other.ID: {intentLabel, lock}})

		update(t, name, lock, "", other.ID)
		misplaced(t, secrets.UpdateSecretVersionStage(ctx, name, lock, "", other.ID))
		versions(t, name, map[string][]string{delivery.ID: {"AWSCURRENT", made}, other.ID: {intentLabel}})
	})

	t.Run("twenty labels", func(t *testing.T) {
		name := create(t)
		put(t, name, delivery) // with two
		put(t, name, intent)
		for i := range 17 {
			update(t, name, fmt.Sprint("label-", i), intent.ID, "")
		}
		certain(t, secrets.UpdateSecretVersionStage(ctx, name, lock, intent.ID, ""), iamkeys.SecretUnavailable)
		certain(t, secrets.PutSecretValue(ctx, name, iamkeys.SecretVersion{ID: other.ID, Stages: []string{lock}}), iamkeys.SecretUnavailable)
		put(t, name, other) // whose label is there already
	})

	t.Run("a version ID stands for one value", func(t *testing.T) {
		name := create(t)
		put(t, name, delivery)
		another := *credentials
		another.AccessKeyID, another.Secret = "AKIAI44QH8DHBEXAMPLE", iamkeys.NewSecret("another")
		err := secrets.PutSecretValue(ctx, name, iamkeys.SecretVersion{ID: delivery.ID, Stages: delivery.Stages, Credentials: &another})
		if e, ok := errors.AsType[*iamkeys.Error](err); !ok || e.OutcomeUnknown {
			t.Errorf("got %v, want a refusal for certain", err)
		}
	})

	t.Run("scheduled for deletion", func(t *testing.T) {
		name := create(t)
		put(t, name, delivery)
		h.ScheduleDeletion(t, name)
		if d, err := secrets.DescribeSecret(ctx, name); err != nil || !d.Deleted {
			t.Errorf("described as %+v, %v, want it deleted", d, err)
		}
		err := secrets.PutSecretValue(ctx, name, intent)
		if e, ok := errors.AsType[*iamkeys.Error](err); !ok || e.OutcomeUnknown {
			t.Errorf("put all the same: %v, want a refusal for certain", err)
		}
	})

	t.Run("no secret", func(t *testing.T) {
		certain(t, secrets.PutSecretValue(ctx, none, intent), iamkeys.NoSuchEntity)
		certain(t, secrets.UpdateSecretVersionStage(ctx, none, lock, intent.ID, ""), iamkeys.NoSuchEntity)
	})

	t.Run("time runs out", func(t *testing.T) {
		name := create(t)
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		unknown(t, secrets.PutSecretValue(ctx, name, delivery))
		unknown(t, secrets.UpdateSecretVersionStage(ctx, name, lock, intent.ID, ""))
	})
}

// TestSTS is the contract of the port to STS.
func TestSTS(t *testing.T, h Harness, sts iamkeys.GetCallerIdentity) {
	ctx := t.Context()
	alice := h.AddUser(t)
	key := h.AddKey(t, alice)
	arn, err := sts.GetCallerIdentity(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if want := ":user/" + alice; len(arn) < len(want) || arn[len(arn)-len(want):] != want {
		t.Errorf("the key belongs to %s, want user %s", arn, alice)
	}
	h.SetStatus(t, alice, key.AccessKeyID, iamkeys.Inactive)
	if arn, err := sts.GetCallerIdentity(ctx, key); err == nil {
		t.Errorf("an Inactive key passes for %s", arn)
	}
	ctx, cancel := context.WithTimeout(ctx, -time.Second)
	defer cancel()
	_, err = sts.GetCallerIdentity(ctx, key)
	unknown(t, err)
}

// certain checks that a call was refused by that code, without effect.
func certain(t *testing.T, err error, code iamkeys.Code) {
	t.Helper()
	e, ok := errors.AsType[*iamkeys.Error](err)
	if !ok || e.Code != code || e.OutcomeUnknown {
		t.Errorf("got %v (outcome unknown: %t), want %s for certain", err, ok && e.OutcomeUnknown, code)
	}
}

// unknown checks that a call says of itself that it may have taken effect.
func unknown(t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[*iamkeys.Error](err); !ok || !e.OutcomeUnknown {
		t.Errorf("got %v, want an outcome unknown", err)
	}
}

// StepFunctions is every port to Step Functions.
type StepFunctions interface {
	iamkeys.DescribeExecution
	iamkeys.ListExecutions
}

// TestStepFunctions is the contract of the ports to Step Functions. set notes an
// execution, and lets time pass.
func TestStepFunctions(t *testing.T, set func(iamkeys.Execution), sfn StepFunctions) {
	ctx := t.Context()
	const old, young, third = "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE-again", "AKIAI44QH8DHBEXAMPLE"
	input := json.RawMessage(`{"userName":"alice"}`)
	set(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: old, Input: input})
	set(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: young})
	set(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: third})
	set(iamkeys.Execution{Workflow: iamkeys.RetirementWorkflow, Name: "retire-" + old})
	set(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: old, Status: iamkeys.ExecutionSucceeded, Output: json.RawMessage(`{"a":1}`)})

	e, err := sfn.DescribeExecution(ctx, iamkeys.RotationWorkflow, old)
	if err != nil || e.Workflow != iamkeys.RotationWorkflow || e.Name != old || e.Status != iamkeys.ExecutionSucceeded || e.Unfinished() ||
		string(e.Input) != string(input) || string(e.Output) != `{"a":1}` || e.Started.IsZero() || !e.Stopped.After(e.Started) {
		t.Errorf("described as %+v, %v", e, err)
	}
	running, err := sfn.DescribeExecution(ctx, iamkeys.RotationWorkflow, young)
	if err != nil || !running.Unfinished() || !running.Stopped.IsZero() || !running.Started.After(e.Started) {
		t.Errorf("the one that runs is described as %+v, %v", running, err)
	}
	_, err = sfn.DescribeExecution(ctx, iamkeys.RetirementWorkflow, old)
	certain(t, err, iamkeys.NoSuchEntity)

	for _, c := range []struct {
		workflow iamkeys.Workflow
		status   iamkeys.ExecutionStatus
		since    time.Time
		want     []string // newest first
	}{
		{iamkeys.RotationWorkflow, "", time.Time{}, []string{third, young, old}},
		{iamkeys.RotationWorkflow, "", running.Started, []string{third, young}},
		{iamkeys.RotationWorkflow, iamkeys.ExecutionRunning, time.Time{}, []string{third, young}},
		{iamkeys.RotationWorkflow, iamkeys.ExecutionSucceeded, time.Time{}, []string{old}},
		{iamkeys.RotationWorkflow, iamkeys.ExecutionFailed, time.Time{}, nil},
		{iamkeys.RetirementWorkflow, "", time.Time{}, []string{"retire-" + old}},
	} {
		listed, err := sfn.ListExecutions(ctx, c.workflow, c.status, c.since)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range listed {
			names = append(names, e.Name)
			if e.Workflow != c.workflow || c.status != "" && e.Status != c.status || e.Started.IsZero() || e.Input != nil || e.Output != nil {
				t.Errorf("listed %+v", e)
			}
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("the workflow %s lists %v with status %q since %v, want %v", c.workflow, names, c.status, c.since, c.want)
		}
	}
}
