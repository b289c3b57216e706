package iamkeys

import (
	"context"
	"time"
)

// List lists a user's access keys.
type List struct {
	IAM ListAccessKeys
	Now func() time.Time
}

// ListInput is what List takes.
type ListInput struct {
	UserName string `json:"userName"`
}

// ListOutput is what List returns: the keys oldest first, an empty list when there are none.
type ListOutput struct {
	UserName   string      `json:"userName"`
	AccessKeys []ListedKey `json:"accessKeys"`
}

// A ListedKey is an access key with its age in whole days, rounded down.
type ListedKey struct {
	AccessKeyID string    `json:"accessKeyId"`
	Status      Status    `json:"status"`
	CreateDate  time.Time `json:"createDate"`
	AgeDays     int       `json:"ageDays"`
}

// Validate refuses a malformed input with InvalidInput.
func (in ListInput) Validate() error { return CheckUserName(in.UserName) }

// Run lists the keys of in.UserName; an unknown user is NoSuchEntity.
func (o List) Run(ctx context.Context, in ListInput) (ListOutput, error) {
	keys, err := o.IAM.ListAccessKeys(ctx, in.UserName)
	if err != nil {
		return ListOutput{}, err
	}
	out := ListOutput{UserName: in.UserName, AccessKeys: []ListedKey{}}
	for _, k := range OldestFirst(keys) {
		out.AccessKeys = append(out.AccessKeys, ListedKey{k.AccessKeyID, k.Status, *Instant(k.CreateDate), Days(o.Now().Sub(k.CreateDate))})
	}
	return out, nil
}
