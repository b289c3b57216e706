package iamkeys

import (
	"context"
	"time"
)

// A replacement is what was read of the key that takes over for another one. It is
// read before that one's status, and judged after: what is written is written right
// after the look at the key itself.
type replacement struct {
	accessKeyID string // "" when there is none
	secretID    string // that must deliver it, "" for any
	secret      SecretDescription
	secretErr   error
	used        LastUsed
	usedErr     error
}

func readReplacement(ctx context.Context, iam GetAccessKeyLastUsed, secrets DescribeSecret, accessKeyID, secretID string) replacement {
	r := replacement{accessKeyID: accessKeyID, secretID: secretID}
	if accessKeyID != "" {
		r.used, r.usedErr = iam.GetAccessKeyLastUsed(ctx, accessKeyID)
	}
	if secretID != "" {
		r.secret, r.secretErr = secrets.DescribeSecret(ctx, secretID)
	}
	return r
}

// checkReplacedBy validates the two fields that name a replacing key.
func checkReplacedBy(replacedBy, secretID string) error {
	if replacedBy == "" {
		if secretID != "" {
			return Refuse(InvalidInput, "secretId goes with replacedBy: it names the secret that must deliver that key.")
		}
		return nil
	}
	return CheckAccessKeyID("replacedBy", replacedBy)
}

// left says in a refusal what becomes of the key that is to be replaced.
func left(keys []AccessKey, accessKeyID string) string {
	if _, listed := find(keys, accessKeyID); !listed {
		return accessKeyID + " is gone already"
	}
	return accessKeyID + " stays as it is"
}

// stands refuses with NotReplaced unless the replacing key is another Active key of
// the user and, with a secret, the one that it delivers. No replacement always stands.
func (r replacement) stands(keys []AccessKey, userName, accessKeyID string) error {
	if r.accessKeyID == "" {
		return nil
	}
	if r.accessKeyID == accessKeyID {
		return Refuse(NotReplaced, "Access key %s of user %s cannot replace itself; %s. Name another key in replacedBy.", accessKeyID, userName, left(keys, accessKeyID))
	}
	key, listed := find(keys, r.accessKeyID)
	if !listed || CodeOf(r.usedErr) == NoSuchEntity {
		return Refuse(NotReplaced, "User %s has no access key %s to replace %s; %s. Its keys: %s.", userName, r.accessKeyID, accessKeyID, left(keys, accessKeyID), describe(keys))
	}
	if key.Status != Active {
		return Refuse(NotReplaced, "Access key %s of user %s is %s, so it cannot replace %s; %s. Activate it, or start again.", r.accessKeyID, userName, key.Status, accessKeyID, left(keys, accessKeyID))
	}
	if r.secretID == "" {
		return nil
	}
	if r.secretErr != nil && CodeOf(r.secretErr) != NoSuchEntity {
		return r.secretErr
	}
	if r.secretErr != nil || !r.secret.delivers(userName, r.accessKeyID) {
		return Refuse(NotReplaced, "The current version of secret %s does not hold access key %s of user %s; %s. Look who changed the secret.", r.secretID, r.accessKeyID, userName, left(keys, accessKeyID))
	}
	return nil
}

// adopted refuses with NotAdopted until a consumer has used the replacing key, which
// stands. The probe of create is not adoption. It shows one consumer, not all: that
// is what the quiet window and the soak are for.
func (r replacement) adopted(keys []AccessKey, userName, accessKeyID string) error {
	if r.accessKeyID == "" {
		return nil
	}
	if r.usedErr != nil {
		return r.usedErr
	}
	key, _ := find(keys, r.accessKeyID)
	byConsumer := r.used.ServiceName != "" && r.used.ServiceName != probeService
	if r.used.Never() || !byConsumer && duringProbe(key, r.used) {
		return Refuse(NotAdopted, "Access key %s of user %s is not in use yet (%s); %s. Let the consumer read the new key from its secret.",
			r.accessKeyID, userName, r.used, left(keys, accessKeyID))
	}
	return nil
}

// probeHours is how long after its creation a use through STS still counts as
// our own probe, not as a consumer's.
const probeHours = 1

// probeService is the namespace under which IAM records the probe.
const probeService = "sts"

// duringProbe reports whether the key was last used when our own probe may have been it.
func duringProbe(k AccessKey, used LastUsed) bool {
	return !used.Date.After(k.CreateDate.Add(probeHours * time.Hour))
}
