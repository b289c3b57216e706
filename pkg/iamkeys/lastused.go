package iamkeys

import (
	"context"
	"time"
)

// LastUsedIAM is what [FindLastUsed] asks of IAM.
type LastUsedIAM interface {
	ListAccessKeys
	GetAccessKeyLastUsed
}

// FindLastUsed tells when a user's access keys, or one access key, were last used.
type FindLastUsed struct {
	IAM LastUsedIAM
	Now func() time.Time
}

// LastUsedInput is what FindLastUsed takes: a user (all its keys), a key (whoever owns
// it), or both (the key must be that user's).
type LastUsedInput struct {
	UserName    string `json:"userName,omitempty"`
	AccessKeyID string `json:"accessKeyId,omitempty"`
}

// LastUsedOutput is what FindLastUsed returns, oldest key first.
type LastUsedOutput struct {
	UserName   string    `json:"userName"`
	AccessKeys []UsedKey `json:"accessKeys"`
}

// A UsedKey is an access key with its last use. LastUsedDate is null and
// NeverUsed true when IAM has no use on record; IdleDays counts whole days from
// the later of create date and last use.
type UsedKey struct {
	AccessKeyID  string     `json:"accessKeyId"`
	Status       Status     `json:"status"`
	CreateDate   time.Time  `json:"createDate"`
	LastUsedDate *time.Time `json:"lastUsedDate"`
	ServiceName  *string    `json:"serviceName"`
	Region       *string    `json:"region"`
	NeverUsed    bool       `json:"neverUsed"`
	IdleDays     int        `json:"idleDays"`
}

// Validate refuses a malformed input with InvalidInput.
func (in LastUsedInput) Validate() error {
	if in.UserName == "" && in.AccessKeyID == "" {
		return Refuse(InvalidInput, "userName or accessKeyId is missing: name a user for all its keys, or one access key.")
	}
	if in.UserName != "" {
		if err := CheckUserName(in.UserName); err != nil {
			return err
		}
	}
	if in.AccessKeyID != "" {
		return CheckAccessKeyID("accessKeyId", in.AccessKeyID)
	}
	return nil
}

// Run reads the last use. A read that fails fails the call: unknown is never "never used".
func (o FindLastUsed) Run(ctx context.Context, in LastUsedInput) (LastUsedOutput, error) {
	used := map[string]LastUsed{}
	userName := in.UserName
	if userName == "" {
		u, err := o.IAM.GetAccessKeyLastUsed(ctx, in.AccessKeyID)
		if err != nil {
			return LastUsedOutput{}, err
		}
		if u.UserName == "" { // listing the keys of "" would list the caller's own
			return LastUsedOutput{}, Refuse(NoSuchEntity, "Access key %s belongs to no IAM user of this account.", in.AccessKeyID)
		}
		used[in.AccessKeyID], userName = u, u.UserName
	}
	keys, err := o.IAM.ListAccessKeys(ctx, userName)
	if err != nil {
		return LastUsedOutput{}, err
	}
	if in.AccessKeyID != "" {
		key, err := findOwn(keys, userName, in.AccessKeyID)
		if err != nil {
			return LastUsedOutput{}, err
		}
		keys = []AccessKey{key}
	}
	out := LastUsedOutput{UserName: userName, AccessKeys: []UsedKey{}}
	for _, k := range OldestFirst(keys) {
		u, ok := used[k.AccessKeyID]
		if !ok {
			if u, err = o.IAM.GetAccessKeyLastUsed(ctx, k.AccessKeyID); err != nil {
				return LastUsedOutput{}, err
			}
		}
		out.AccessKeys = append(out.AccessKeys, UsedKey{
			AccessKeyID: k.AccessKeyID, Status: k.Status, CreateDate: *Instant(k.CreateDate),
			LastUsedDate: Instant(u.Date), ServiceName: Optional(u.ServiceName), Region: Optional(u.Region),
			NeverUsed: u.Never(), IdleDays: Days(o.Now().Sub(IdleSince(k, u))),
		})
	}
	return out, nil
}
