package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
)

// memberRole is the role that DeployMember makes, and its path.
const memberRole, memberPath = "iamkeys-member", "/"

// DeployMember deploys member.yaml to an account, for this stack and the
// organization with this ID, and makes moto know the role: who may assume it,
// and what it may do.
func (c *Cloud) DeployMember(ctx context.Context, account, organizationID string, parameters map[string]string) error {
	template, err := os.ReadFile(filepath.Join(c.root, "member.yaml"))
	if err != nil {
		return fmt.Errorf("reading the members' template: %w", err)
	}
	const name = stackName + "-member"
	form := url.Values{"Action": {"CreateStack"}, "Version": {"2010-05-15"}, "StackName": {name}, "TemplateBody": {string(template)}, "Capabilities.member.1": {"CAPABILITY_NAMED_IAM"}}
	given := map[string]string{"HubAccountId": accountID, "HubStackName": stackName, "OrganizationId": organizationID, "RoleName": memberRole}
	maps.Copy(given, parameters)
	for i, parameter := range slices.Sorted(maps.Keys(given)) {
		form.Set(fmt.Sprintf("Parameters.member.%d.ParameterKey", i+1), parameter)
		form.Set(fmt.Sprintf("Parameters.member.%d.ParameterValue", i+1), given[parameter])
	}
	// ministack deploys, and moto serves IAM: the role is taken from one to the other.
	ministack := wire{c.ministack.String(), account}
	var none struct{}
	if err := ministack.query(ctx, "cloudformation", form, &none); err != nil {
		return fmt.Errorf("deploying member.yaml to %s: %w", account, err)
	}
	if err := ministack.settled(ctx, name); err != nil {
		return fmt.Errorf("deploying member.yaml to %s: %w", account, err)
	}
	var role struct {
		Path  string `xml:"GetRoleResult>Role>Path"`
		Trust string `xml:"GetRoleResult>Role>AssumeRolePolicyDocument"`
	}
	if err := ministack.query(ctx, "iam", url.Values{"Action": {"GetRole"}, "Version": {"2010-05-08"}, "RoleName": {memberRole}}, &role); err != nil {
		return fmt.Errorf("reading the role of %s: %w", account, err)
	}
	var policy struct {
		Document string `xml:"GetRolePolicyResult>PolicyDocument"`
	}
	err = ministack.query(ctx, "iam", url.Values{"Action": {"GetRolePolicy"}, "Version": {"2010-05-08"}, "RoleName": {memberRole}, "PolicyName": {"Examine"}}, &policy)
	if err != nil {
		return fmt.Errorf("reading what the role of %s may do: %w", account, err)
	}
	made := Role{RoleName: memberRole, Path: role.Path}
	for document, into := range map[string]*map[string]any{role.Trust: &made.Trust, policy.Document: &made.Policy} {
		text, err := url.QueryUnescape(document)
		if err == nil {
			err = json.Unmarshal([]byte(text), into)
		}
		if err != nil {
			return fmt.Errorf("reading the role of %s: %w", account, err)
		}
	}
	_, err = c.SeedAccount(ctx, Account{ID: account, Roles: []Role{made}})
	return err
}
