package main

import (
	"context"
	"fmt"
	"time"
)

// A User of a seeded account.
type User struct {
	UserName         string            `json:"userName"`
	Path             string            `json:"path,omitempty"`
	CreateDate       time.Time         `json:"createDate,omitzero"`
	Tags             map[string]string `json:"tags,omitempty"`
	AttachedPolicies []string          `json:"attachedPolicies,omitempty"` // names of AWS managed policies
	AccessKeys       []AccessKey       `json:"accessKeys,omitempty"`
}

// An AccessKey of a seeded user. The zero value is an Active key made now.
type AccessKey struct {
	AccessKeyID  string    `json:"accessKeyId,omitempty"` // 20 characters; chosen by moto when empty
	Status       string    `json:"status,omitempty"`
	CreateDate   time.Time `json:"createDate,omitzero"`
	LastUsedDate time.Time `json:"lastUsedDate,omitzero"` // zero: never used
	ServiceName  string    `json:"serviceName,omitempty"` // s3 when empty
	Region       string    `json:"region,omitempty"`
}

// A Credential is a seeded key with its secret.
type Credential struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// Seed makes these users and keys, or makes them anew, and returns each user's
// keys in the order given.
func (c *Cloud) Seed(ctx context.Context, users ...User) (map[string][]Credential, error) {
	var made struct{ Users map[string][]Credential }
	if err := c.post(ctx, "localcloud/seed", map[string]any{"users": users}, &made); err != nil {
		return nil, fmt.Errorf("seeding the account: %w", err)
	}
	return made.Users, nil
}
