package iamkeys

import (
	"context"
	"log/slog"
)

// DeleteIAM is what [Delete] asks of IAM.
type DeleteIAM interface {
	ListAccessKeys
	DeleteAccessKey
}

// Delete deletes an access key that is switched off. There is no way back.
type Delete struct {
	IAM            DeleteIAM
	SecretsManager DescribeSecret
	Secrets        SecretNames
	Log            *slog.Logger
}

// DeleteInput is what Delete takes.
type DeleteInput struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
	ReplacedBy  string `json:"replacedBy,omitempty"` // the key that took over: must still be Active
	SecretID    string `json:"secretId,omitempty"`   // the secret that must still deliver it
}

// DeleteOutput is what Delete returns. Deleted is false when the key was gone already.
type DeleteOutput struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
	Deleted     bool   `json:"deleted"`
}

// Validate refuses a malformed input with InvalidInput.
func (in DeleteInput) Validate() error {
	if err := checkUserKey(in.UserName, in.AccessKeyID); err != nil {
		return err
	}
	return checkReplacedBy(in.ReplacedBy, in.SecretID)
}

// Run deletes the key. It re-reads the status and refuses, in this order: an
// unknown user (NoSuchEntity), any status but Inactive and Expired (KeyActive),
// a replacing key that is not Active or not delivered any more (NotReplaced: the
// old key stays as the last resort).
func (o Delete) Run(ctx context.Context, in DeleteInput) (DeleteOutput, error) {
	out := DeleteOutput{UserName: in.UserName, AccessKeyID: in.AccessKeyID}
	if err := o.Secrets.checkInput(in.SecretID); err != nil {
		return out, err
	}
	keys, err := o.IAM.ListAccessKeys(ctx, in.UserName)
	if err != nil {
		return out, err
	}
	key, ok := find(keys, in.AccessKeyID)
	if !ok {
		return out, nil
	}
	if key.Status != Inactive && key.Status != Expired {
		return out, Refuse(KeyActive, "Access key %s of user %s is %s; only an Inactive or Expired key is deleted. Deactivate it first, or leave it: somebody may have reactivated it on purpose.", in.AccessKeyID, in.UserName, key.Status)
	}
	if in.ReplacedBy != "" {
		if err := replaced(ctx, o.SecretsManager, keys, in.UserName, in.AccessKeyID, in.ReplacedBy, in.SecretID); err != nil {
			return out, err
		}
	}
	if err := o.IAM.DeleteAccessKey(ctx, in.UserName, in.AccessKeyID); err != nil {
		if CodeOf(err) == NoSuchEntity {
			return out, nil
		}
		return out, err
	}
	o.Log.InfoContext(ctx, "deleted access key", "userName", in.UserName, "accessKeyId", in.AccessKeyID)
	out.Deleted = true
	return out, nil
}
