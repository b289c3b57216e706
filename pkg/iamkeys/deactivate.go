package iamkeys

import (
	"context"
	"log/slog"
	"time"
)

// DeactivateIAM is what [Deactivate] asks of IAM.
type DeactivateIAM interface {
	ListAccessKeys
	GetAccessKeyLastUsed
	UpdateAccessKey
}

// Deactivate switches an access key off, unless it is in use.
type Deactivate struct {
	IAM            DeactivateIAM
	SecretsManager DescribeSecret
	Secrets        SecretNames
	QuietHours     int // when the input names none
	Now            func() time.Time
	Log            *slog.Logger
}

// DeactivateInput is what Deactivate takes.
type DeactivateInput struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
	QuietHours  *int   `json:"quietHours,omitempty"` // how long the key must be idle, hours; 0: a person insists; absent: the parameter QuietHours
	ReplacedBy  string `json:"replacedBy,omitempty"` // the key that takes over: must be Active and adopted
	SecretID    string `json:"secretId,omitempty"`   // the secret that must deliver it
}

// DeactivateOutput is what Deactivate returns. Changed is false when the key was
// not Active before. LastUsedDate is null when the key was never used.
type DeactivateOutput struct {
	UserName     string     `json:"userName"`
	AccessKeyID  string     `json:"accessKeyId"`
	Status       Status     `json:"status"`
	Changed      bool       `json:"changed"`
	LastUsedDate *time.Time `json:"lastUsedDate"`
}

// maxHours bounds every length of time that an input may name: a year.
const maxHours = 365 * 24

// Validate refuses a malformed input with InvalidInput.
func (in DeactivateInput) Validate() error {
	if err := checkUserKey(in.UserName, in.AccessKeyID); err != nil {
		return err
	}
	if in.QuietHours != nil && (*in.QuietHours < 0 || *in.QuietHours > maxHours) {
		return Refuse(InvalidInput, "quietHours must be 0 to %d hours; got %d.", maxHours, *in.QuietHours)
	}
	return checkReplacedBy(in.ReplacedBy, in.SecretID)
}

// Run deactivates the key. It re-reads status and last use of exactly this key
// and refuses, in this order: NoSuchEntity, NotReplaced, KeyInUse, NotAdopted.
func (o Deactivate) Run(ctx context.Context, in DeactivateInput) (DeactivateOutput, error) {
	out := DeactivateOutput{UserName: in.UserName, AccessKeyID: in.AccessKeyID}
	if err := o.Secrets.checkInput(in.SecretID); err != nil {
		return out, err
	}
	keys, err := o.IAM.ListAccessKeys(ctx, in.UserName)
	if err != nil {
		return out, err
	}
	key, err := findOwn(keys, in.UserName, in.AccessKeyID)
	if err != nil {
		return out, err
	}
	if err := key.Known(); err != nil {
		return out, err
	}
	used, err := o.IAM.GetAccessKeyLastUsed(ctx, in.AccessKeyID)
	if err != nil {
		return out, err
	}
	out.Status, out.LastUsedDate = key.Status, Instant(used.Date)
	if key.Status != Active {
		return out, nil
	}
	if in.ReplacedBy != "" {
		if err := replaced(ctx, o.SecretsManager, keys, in.UserName, in.AccessKeyID, in.ReplacedBy, in.SecretID); err != nil {
			return out, err
		}
	}
	quiet := o.QuietHours
	if in.QuietHours != nil {
		quiet = *in.QuietHours
	}
	if idle := o.Now().Sub(IdleSince(key, used)); quiet > 0 && idle < time.Duration(quiet)*time.Hour {
		return out, Refuse(KeyInUse, "Access key %s of user %s was %s, created %s: idle for %d h, less than the quiet window of %d h. It stays Active; move its consumer to another key. A person who insists deactivates it with quietHours 0.",
			in.AccessKeyID, in.UserName, used, key.CreateDate.UTC().Format(time.RFC3339), max(0, int(idle/time.Hour)), quiet)
	}
	if in.ReplacedBy != "" {
		if err := o.adopted(ctx, keys, in); err != nil {
			return out, err
		}
	}
	if err := o.IAM.UpdateAccessKey(ctx, in.UserName, in.AccessKeyID, Inactive); err != nil {
		return out, err
	}
	o.Log.InfoContext(ctx, "deactivated access key", "userName", in.UserName, "accessKeyId", in.AccessKeyID, "lastUsed", used.String())
	out.Status, out.Changed = Inactive, true
	return out, nil
}

// probeHours is how long after its creation a use through STS still counts as
// our own probe, not as a consumer's.
const probeHours = 1

// duringProbe reports whether the key was last used when our own probe may have been it.
func duringProbe(k AccessKey, used LastUsed) bool {
	return !used.Date.After(k.CreateDate.Add(probeHours * time.Hour))
}

// adopted refuses until a consumer has used the replacing key. The probe of
// create is not adoption. It shows one consumer, not all: that is what the quiet
// window and the soak are for.
func (o Deactivate) adopted(ctx context.Context, keys []AccessKey, in DeactivateInput) error {
	used, err := o.IAM.GetAccessKeyLastUsed(ctx, in.ReplacedBy)
	if err != nil {
		return err
	}
	key, _ := find(keys, in.ReplacedBy)
	byConsumer := used.ServiceName != "" && used.ServiceName != probeService
	if used.Never() || !byConsumer && duringProbe(key, used) {
		return Refuse(NotAdopted, "Access key %s of user %s is not in use yet (%s), so %s stays Active. Let the consumer read the new key from its secret.",
			in.ReplacedBy, in.UserName, used, in.AccessKeyID)
	}
	return nil
}

// probeService is the namespace under which IAM records the probe.
const probeService = "sts"

// checkReplacedBy validates the two fields that name a replacing key.
func checkReplacedBy(replacedBy, secretID string) error {
	if replacedBy == "" {
		if secretID != "" {
			return Refuse(InvalidInput, "secretId goes with replacedBy: it names the secret that must deliver that key.")
		}
		return nil
	}
	return checkAccessKeyID("replacedBy", replacedBy)
}

// replaced refuses with NotReplaced unless replacedBy is another Active key of
// the user and, with secretID, the one that the secret delivers.
func replaced(ctx context.Context, secrets DescribeSecret, keys []AccessKey, userName, accessKeyID, replacedBy, secretID string) error {
	if replacedBy == accessKeyID {
		return Refuse(NotReplaced, "Access key %s of user %s cannot replace itself, so it stays as it is. Name another key in replacedBy.", accessKeyID, userName)
	}
	key, ok := find(keys, replacedBy)
	if !ok {
		return Refuse(NotReplaced, "User %s has no access key %s to replace %s, which stays as it is. Its keys: %s.", userName, replacedBy, accessKeyID, describe(keys))
	}
	if key.Status != Active {
		return Refuse(NotReplaced, "Access key %s of user %s is %s, so it cannot replace %s, which stays as it is. Activate it, or start again.", replacedBy, userName, key.Status, accessKeyID)
	}
	if secretID == "" {
		return nil
	}
	secret, err := secrets.DescribeSecret(ctx, secretID)
	if err != nil && CodeOf(err) != NoSuchEntity {
		return err
	}
	if err != nil || !secret.delivers(userName, replacedBy) {
		return Refuse(NotReplaced, "The current version of secret %s does not hold access key %s of user %s, so %s stays as it is. Look who changed the secret.", secretID, replacedBy, userName, accessKeyID)
	}
	return nil
}
