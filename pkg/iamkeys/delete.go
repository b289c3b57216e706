package iamkeys

import (
	"context"
	"log/slog"
	"time"
)

// DeleteIAM is what [Delete] asks of IAM.
type DeleteIAM interface {
	ListAccessKeys
	GetAccessKeyLastUsed
	DeleteAccessKey
}

// Delete deletes an access key that is switched off. There is no way back. Deleting
// is sent once, right after the look at the key: whoever repeats a run that failed,
// looks again.
type Delete struct {
	IAM            DeleteIAM
	SecretsManager DescribeSecret
	Secrets        SecretNames
	Log            *slog.Logger
}

// DeleteInput is what Delete takes.
type DeleteInput struct {
	UserName    string     `json:"userName"`
	AccessKeyID string     `json:"accessKeyId"`
	ReplacedBy  string     `json:"replacedBy,omitempty"` // the key that took over: must still be Active and adopted
	SecretID    string     `json:"secretId,omitempty"`   // the secret that must still deliver it
	IdleSince   *time.Time `json:"idleSince,omitempty"`  // what Deactivate answered: a later use keeps the key
	Check       bool       `json:"check,omitempty"`      // look at all that Delete looks at, and delete nothing
}

// DeleteOutput is what Delete returns. Deleted says that this call deleted the key,
// Gone that it was gone already.
type DeleteOutput struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
	Deleted     bool   `json:"deleted"`
	Gone        bool   `json:"gone"`
}

// Validate refuses a malformed input with InvalidInput.
func (in DeleteInput) Validate() error {
	if err := checkUserKey(in.UserName, in.AccessKeyID); err != nil {
		return err
	}
	return checkReplacedBy(in.ReplacedBy, in.SecretID)
}

// Run deletes the key. It re-reads the status and refuses, in this order: an
// unknown user (NoSuchEntity), any status but Inactive and Expired (KeyActive), a
// replacing key that is not Active or not delivered (NotReplaced) or not adopted
// (NotAdopted) any more, since then the old key is the last resort; a use that IAM
// shows later than IdleSince (KeyInUse).
func (o Delete) Run(ctx context.Context, in DeleteInput) (DeleteOutput, error) {
	out := DeleteOutput{UserName: in.UserName, AccessKeyID: in.AccessKeyID}
	if err := o.Secrets.checkInput(in.SecretID); err != nil {
		return out, err
	}
	by := readReplacement(ctx, o.IAM, o.SecretsManager, in.ReplacedBy, in.SecretID)
	var used LastUsed
	var usedErr error
	if in.IdleSince != nil {
		used, usedErr = o.IAM.GetAccessKeyLastUsed(ctx, in.AccessKeyID)
	}
	keys, err := o.IAM.ListAccessKeys(ctx, in.UserName) // last, since nothing may lie between it and the deletion
	if err != nil {
		return out, err
	}
	key, listed := find(keys, in.AccessKeyID)
	if !listed {
		if err := gone(ctx, o.IAM, in.UserName, in.AccessKeyID); err != nil {
			return out, err
		}
	} else if key.Status != Inactive && key.Status != Expired {
		return out, Refuse(KeyActive, "Access key %s of user %s is %s; only an Inactive or Expired key is deleted. Deactivate it first, or leave it: somebody may have reactivated it on purpose.", in.AccessKeyID, in.UserName, key.Status)
	}
	if err := by.stands(keys, in.UserName, in.AccessKeyID); err != nil {
		return out, err
	}
	if err := by.adopted(keys, in.UserName, in.AccessKeyID); err != nil {
		return out, err
	}
	if !listed {
		out.Gone = true
		return out, nil
	}
	if in.IdleSince != nil {
		if err := in.idle(used, usedErr); err != nil {
			return out, err
		}
	}
	if in.Check {
		return out, nil
	}
	err = o.IAM.DeleteAccessKey(ctx, in.UserName, in.AccessKeyID)
	if CodeOf(err) == NoSuchEntity {
		err = o.missed(ctx, in)
		out.Gone = err == nil
		return out, err
	}
	if err != nil {
		return out, err
	}
	o.Log.InfoContext(ctx, "deleted access key", "userName", in.UserName, "accessKeyId", in.AccessKeyID)
	out.Deleted = true
	return out, nil
}

// idle refuses to delete a key that was used later than was known when it was
// switched off, or of whose last use nothing is known.
func (in DeleteInput) idle(used LastUsed, err error) error {
	switch {
	case CodeOf(err) == NoSuchEntity:
		return Failed(InProgress, err, "User %s lists access key %s, which IAM does not know any more: its lists may lag. Nothing was changed; try again in a minute.", in.UserName, in.AccessKeyID)
	case err != nil:
		return err
	case used.Date.Truncate(time.Second).After(*in.IdleSince):
		return Refuse(KeyInUse, "Access key %s of user %s was %s, later than %s: shortly before it was switched off, or since. It was not deleted; find that consumer, and activate the key if need be.",
			in.AccessKeyID, in.UserName, used, in.IdleSince.UTC().Format(time.RFC3339))
	}
	return nil
}

// missed settles that DeleteAccessKey did not find the key that the list had shown:
// nil when somebody else has deleted it meanwhile, and not when the user was renamed.
func (o Delete) missed(ctx context.Context, in DeleteInput) error {
	keys, err := o.IAM.ListAccessKeys(ctx, in.UserName)
	if err != nil {
		return err
	}
	if _, listed := find(keys, in.AccessKeyID); listed {
		return Refuse(InProgress, "User %s lists access key %s, which DeleteAccessKey does not find: IAM's lists may lag. Try again in a minute.", in.UserName, in.AccessKeyID)
	}
	return gone(ctx, o.IAM, in.UserName, in.AccessKeyID)
}
