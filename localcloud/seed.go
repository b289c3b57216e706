package main

import (
	"context"
	"fmt"
	"time"
)

// An Account is what is seeded in one: users with keys that have a past, and
// what an audit meets beside them.
type Account struct {
	ID            string     `json:"account,omitempty"` // the stack's own when empty
	Groups        []Group    `json:"groups,omitempty"`
	Users         []User     `json:"users,omitempty"`
	Roles         []Role     `json:"roles,omitempty"`
	RootAccessKey *AccessKey `json:"rootAccessKey,omitempty"`
	SecurityHub   *bool      `json:"securityHub,omitempty"` // on or off in every Region; nil leaves it
	Senders       []string   `json:"senders,omitempty"`     // addresses and domains that SES has verified
}

// A Group of IAM.
type Group struct {
	GroupName        string   `json:"groupName"`
	AttachedPolicies []string `json:"attachedPolicies,omitempty"` // names of AWS managed policies
}

// A User of a seeded account.
type User struct {
	UserName         string            `json:"userName"`
	Path             string            `json:"path,omitempty"`
	CreateDate       time.Time         `json:"createDate,omitzero"`
	Tags             map[string]string `json:"tags,omitempty"`
	AttachedPolicies []string          `json:"attachedPolicies,omitempty"` // names of AWS managed policies
	Groups           []string          `json:"groups,omitempty"`
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

// A Role with who may assume it, and what it may do.
type Role struct {
	RoleName string         `json:"roleName"`
	Path     string         `json:"path,omitempty"`
	Trust    map[string]any `json:"trust"`            // a policy
	Policy   map[string]any `json:"policy,omitempty"` // one, too; without it the role may do anything
}

// A Credential is a seeded key with its secret.
type Credential struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// An Organization of accounts. Policies of it (SCPs, RCPs) are made and attached
// by Organizations' own API; their Deny statements hold.
type Organization struct {
	ManagementAccount string         `json:"managementAccount"`
	Accounts          []Member       `json:"accounts"`
	Administrators    []string       `json:"administrators,omitempty"` // delegated, by account ID
	ResourcePolicy    map[string]any `json:"resourcePolicy,omitempty"`
}

// A Member is an account as Organizations lists it. Whether it can be entered
// is up to the roles that are seeded in it.
type Member struct {
	ID    string  `json:"account"`
	Name  string  `json:"name,omitempty"`
	State *string `json:"state"` // nil: AWS says none
}

// Seed makes these users and keys in the stack's own account, or makes them
// anew, and returns each user's keys in the order given.
func (c *Cloud) Seed(ctx context.Context, users ...User) (map[string][]Credential, error) {
	return c.SeedAccount(ctx, Account{Users: users})
}

// SeedAccount makes what an account has, or makes it anew, and returns each
// user's keys in the order given.
func (c *Cloud) SeedAccount(ctx context.Context, account Account) (map[string][]Credential, error) {
	var made struct{ Users map[string][]Credential }
	if err := c.post(ctx, "localcloud/seed", account, &made); err != nil {
		return nil, fmt.Errorf("seeding account %s: %w", account.ID, err)
	}
	return made.Users, nil
}

// Organize makes an organization, or makes it anew, and returns its ID.
func (c *Cloud) Organize(ctx context.Context, o Organization) (id string, err error) {
	var made struct{ ID string }
	if err := c.post(ctx, "localcloud/organization", o, &made); err != nil {
		return "", fmt.Errorf("making the organization of %s: %w", o.ManagementAccount, err)
	}
	return made.ID, nil
}

// A Mail is one that SES sent.
type Mail struct {
	From          string
	To            []string
	Subject, Text string
	HTML          string
}

// Mails returns what SES sent from an account, the stack's own if it is empty,
// in order, and forgets it when it is told to.
func (c *Cloud) Mails(ctx context.Context, account string, forget bool) ([]Mail, error) {
	var sent struct{ Mails []Mail }
	if err := c.post(ctx, "localcloud/mails", map[string]any{"account": account, "forget": forget}, &sent); err != nil {
		return nil, fmt.Errorf("reading the mails: %w", err)
	}
	return sent.Mails, nil
}
