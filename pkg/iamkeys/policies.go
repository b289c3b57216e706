package iamkeys

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

// Exposed reports whether AWS has quarantined the user, having found one of its keys
// in public: by a policy of its own, attached to the user itself.
// https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSCompromisedKeyQuarantineV3.html
func (u User) Exposed() bool {
	return slices.ContainsFunc(u.AttachedPolicies, func(arn string) bool {
		name := awsPolicy(arn)
		return strings.HasPrefix(name, "AWSCompromisedKeyQuarantine") || name == "AWSExposedCredentialPolicy_DO_NOT_REMOVE"
	})
}

// A Power is how much a user may do, as far as the names of AWS's own policies tell:
// attached to the user or to one of its groups.
type Power string

// The powers, greatest first. NoPower means that none of these policies is attached by
// name; what the user may really do can be more. It is null in JSON.
const (
	Admin        Power = "admin" // AdministratorAccess, or IAMFullAccess, which can give itself that
	PowerUser    Power = "power" // PowerUserAccess
	UnknownPower Power = "unknown"
	NoPower      Power = ""
)

// Powers lists the powers in the order in which people look at their findings.
var Powers = []Power{Admin, PowerUser, UnknownPower, NoPower}

// MarshalJSON gives null for NoPower.
func (p Power) MarshalJSON() ([]byte, error) { return json.Marshal(Optional(string(p))) }

// Power gives the user's. A policy that was read counts, though not all were.
func (u User) Power() Power {
	has := func(names ...string) bool {
		return slices.ContainsFunc(slices.Concat(u.AttachedPolicies, u.GroupPolicies), func(arn string) bool { return slices.Contains(names, awsPolicy(arn)) })
	}
	switch {
	case has("AdministratorAccess", "IAMFullAccess"):
		return Admin
	case !u.PoliciesRead:
		return UnknownPower
	case has("PowerUserAccess"):
		return PowerUser
	}
	return NoPower
}

// PowerIAM is what one user's power is read from.
type PowerIAM interface {
	ListAttachedUserPolicies
	ListGroupsForUser
	ListAttachedGroupPolicies
}

// withPolicies gives the user with what is attached to it and to its groups, as far as
// that can be read: what cannot leaves its power unknown, and nothing else.
func withPolicies(ctx context.Context, iam PowerIAM, u User) User {
	var err, failed error
	if u.AttachedPolicies, err = iam.ListAttachedUserPolicies(ctx, u.UserName); err != nil {
		failed = err
	}
	groups, err := iam.ListGroupsForUser(ctx, u.UserName)
	if err != nil {
		failed = err
	}
	for _, group := range groups {
		attached, err := iam.ListAttachedGroupPolicies(ctx, group)
		if err != nil {
			failed = err
		}
		u.GroupPolicies = append(u.GroupPolicies, attached...)
	}
	u.PoliciesRead = failed == nil
	return u
}

// awsPolicy gives the name of a managed policy of AWS's own account, "" of any other:
// anybody may give theirs the same name.
func awsPolicy(arn string) string {
	_, own, _ := strings.Cut(arn, ":iam::")
	path, ok := strings.CutPrefix(own, "aws:policy/")
	if !ok {
		return ""
	}
	return path[strings.LastIndex(path, "/")+1:]
}
