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
// also stops a rotation or retirement from deleting the key.
type Activate struct {
	IAM ActivateIAM
	Log *slog.Logger
}

// ActivateInput is what Activate takes.
type ActivateInput struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
}

// ActivateOutput is what Activate returns. Changed is false when the list showed the
// key as Active, which may have been so some seconds ago.
type ActivateOutput struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
	Status      Status `json:"status"`
	Changed     bool   `json:"changed"`
}

// Validate refuses a malformed input with InvalidInput.
func (in ActivateInput) Validate() error { return checkUserKey(in.UserName, in.AccessKeyID) }

// Run activates the key; an unknown user or key is NoSuchEntity. It always writes,
// also where the list shows the key as Active, or not at all: the list may be older
// than the order that a person takes back.
func (o Activate) Run(ctx context.Context, in ActivateInput) (ActivateOutput, error) {
	out := ActivateOutput{UserName: in.UserName, AccessKeyID: in.AccessKeyID, Status: Active}
	keys, err := o.IAM.ListAccessKeys(ctx, in.UserName)
	if err != nil {
		return out, err
	}
	key, listed := find(keys, in.AccessKeyID)
	if listed {
		if err := key.Known(); err != nil {
			return out, err
		}
	}
	err = o.IAM.UpdateAccessKey(ctx, in.UserName, in.AccessKeyID, Active)
	if CodeOf(err) == NoSuchEntity && !listed {
		return out, notOwn(keys, in.UserName, in.AccessKeyID)
	}
	if err != nil {
		return out, err
	}
	o.Log.InfoContext(ctx, "activated access key", "userName", in.UserName, "accessKeyId", in.AccessKeyID)
	out.Changed = key.Status != Active
	return out, nil
}
