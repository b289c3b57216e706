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

// Deactivate switches an access key off, unless it is in use. Switching off is sent
// once: whoever repeats a run that failed, looks again.
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
// not Active before. LastUsedDate is null when the key was never used. IdleSince is
// the last use, or the create date if there was none, by which [Delete] can tell a
// later one; when the key was off already it is the time of the answer, since the
// last uses before it was switched off may not be shown yet.
type DeactivateOutput struct {
	UserName     string     `json:"userName"`
	AccessKeyID  string     `json:"accessKeyId"`
	Status       Status     `json:"status"`
	Changed      bool       `json:"changed"`
	LastUsedDate *time.Time `json:"lastUsedDate"`
	IdleSince    time.Time  `json:"idleSince"`
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
// and refuses, in this order: NoSuchEntity, NotReplaced, KeyInUse, NotAdopted. A key
// that is off already is left, where replaced and adopted.
func (o Deactivate) Run(ctx context.Context, in DeactivateInput) (DeactivateOutput, error) {
	out := DeactivateOutput{UserName: in.UserName, AccessKeyID: in.AccessKeyID}
	if err := o.Secrets.checkInput(in.SecretID); err != nil {
		return out, err
	}
	by := readReplacement(ctx, o.IAM, o.SecretsManager, in.ReplacedBy, in.SecretID)
	keys, err := o.IAM.ListAccessKeys(ctx, in.UserName)
	if err != nil {
		return out, err
	}
	key, listed := find(keys, in.AccessKeyID)
	if !listed {
		if err := gone(ctx, o.IAM, in.UserName, in.AccessKeyID); err != nil {
			return out, err
		}
		return out, notOwn(keys, in.UserName, in.AccessKeyID)
	}
	if err := key.Known(); err != nil {
		return out, err
	}
	used, err := o.IAM.GetAccessKeyLastUsed(ctx, in.AccessKeyID)
	if err != nil {
		return out, err
	}
	now := o.Now()
	out.Status, out.LastUsedDate, out.IdleSince = key.Status, Instant(used.Date), *Instant(now)
	if err := by.stands(keys, in.UserName, in.AccessKeyID); err != nil {
		return out, err
	}
	if key.Status != Active {
		return out, by.adopted(keys, in.UserName, in.AccessKeyID)
	}
	quiet := o.QuietHours
	if in.QuietHours != nil {
		quiet = *in.QuietHours
	}
	if err := o.quiet(key, used, now, quiet); err != nil {
		return out, err
	}
	if err := by.adopted(keys, in.UserName, in.AccessKeyID); err != nil {
		return out, err
	}
	if err := o.IAM.UpdateAccessKey(ctx, in.UserName, in.AccessKeyID, Inactive); err != nil {
		return out, err
	}
	o.Log.InfoContext(ctx, "deactivated access key", "userName", in.UserName, "accessKeyId", in.AccessKeyID, "lastUsed", used.String())
	out.Status, out.Changed, out.IdleSince = Inactive, true, *Instant(IdleSince(key, used))
	return out, nil
}

// quiet refuses with KeyInUse unless the key has been idle for the quiet window, in
// hours, and for as long as IAM may take to show a use. For a person who insists, 0,
// neither counts.
func (o Deactivate) quiet(key AccessKey, used LastUsed, now time.Time, hours int) error {
	idle := now.Sub(IdleSince(key, used))
	if hours == 0 || idle >= time.Duration(hours)*time.Hour+LastUsedLag {
		return nil
	}
	return Refuse(KeyInUse, "Access key %s of user %s was %s, created %s: idle for %d h, less than the quiet window of %d h and the %d h that IAM may take to show a use. It stays Active; move its consumer to another key. A person who insists deactivates it with quietHours 0.",
		key.AccessKeyID, key.UserName, used, key.CreateDate.UTC().Format(time.RFC3339), max(0, int(idle/time.Hour)), hours, LastUsedLag/time.Hour)
}
