package iamkeys

import (
	"context"
	"log/slog"
)

// ActivateIAM is what [Activate] asks of IAM.
type ActivateIAM interface {
	ListAccessKeys
	UpdateAccessKey
}

// Activate switches an access key on again: the way back from [Deactivate]. It
// also stops a rotation from deleting the key.
type Activate struct {
	IAM ActivateIAM
	Log *slog.Logger
}

// ActivateInput is what Activate takes.
type ActivateInput struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
}

// ActivateOutput is what Activate returns. Changed is false when the key was Active before.
type ActivateOutput struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
	Status      Status `json:"status"`
	Changed     bool   `json:"changed"`
}

// Validate refuses a malformed input with InvalidInput.
func (in ActivateInput) Validate() error { return checkUserKey(in.UserName, in.AccessKeyID) }

// Run activates the key; an unknown user or key is NoSuchEntity.
func (o Activate) Run(ctx context.Context, in ActivateInput) (ActivateOutput, error) {
	out := ActivateOutput{UserName: in.UserName, AccessKeyID: in.AccessKeyID, Status: Active}
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
	if key.Status == Active {
		return out, nil
	}
	if err := o.IAM.UpdateAccessKey(ctx, in.UserName, in.AccessKeyID, Active); err != nil {
		return out, err
	}
	o.Log.InfoContext(ctx, "activated access key", "userName", in.UserName, "accessKeyId", in.AccessKeyID)
	out.Changed = true
	return out, nil
}
