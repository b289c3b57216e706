package main

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// TestMemberRole deploys member.yaml and enters by it: as the audit's role of
// this stack alone, and for nothing but reading.
func TestMemberRole(t *testing.T) {
	c, ctx := sharedCloud(t), t.Context()
	const management, member = "999700000001", "999700000002"
	active := aws.String("ACTIVE")
	id, err := c.Organize(ctx, Organization{ManagementAccount: management, Accounts: []Member{
		{ID: management, State: active}, {ID: accountID, State: active}, {ID: member, State: active}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeployMember(ctx, member, id, map[string]string{"ExternalId": "shared-word"}); err != nil {
		t.Fatal(err)
	}
	assume := func(function, externalID string) (aws.Config, error) {
		cfg := c.Config()
		cfg.Credentials = credentials.NewStaticCredentialsProvider(accountID, "test", "arn:aws:iam::"+accountID+":role/"+stackName+"-"+function+"FunctionRole-ABC")
		out, err := sts.NewFromConfig(cfg).AssumeRole(ctx, &sts.AssumeRoleInput{
			RoleArn: aws.String("arn:aws:iam::" + member + ":role" + memberPath + memberRole), RoleSessionName: aws.String("iamkeys"), ExternalId: &externalID})
		if err != nil {
			return cfg, err
		}
		cfg.Credentials = credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
		return cfg, nil
	}
	if _, err := assume("List", "shared-word"); code(t, err) != "AccessDenied" {
		t.Errorf("another function: %v", err)
	}
	if _, err := assume("Audit", "another-word"); code(t, err) != "AccessDenied" {
		t.Errorf("a foreign external ID: %v", err)
	}
	inside, err := assume("Audit", "shared-word")
	if err != nil {
		t.Fatal(err)
	}
	client := iam.NewFromConfig(inside)
	if _, err := client.GenerateCredentialReport(ctx, &iam.GenerateCredentialReportInput{}); err != nil {
		t.Errorf("reading: %v", err)
	}
	if _, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("intruder")}); code(t, err) != "AccessDenied" {
		t.Errorf("writing: %v", err)
	}
}
