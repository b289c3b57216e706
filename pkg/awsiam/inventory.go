package awsiam

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

var _ audit.InventoryIAM = (*IAM)(nil)

const account = "the account" // what the calls of this file are about, in messages

// reportRetries is for the two calls about the credential report: the inventory
// waits for it with pauses of its own, within a bounded time.
func reportRetries(o *iam.Options) { o.Retryer = retry.NewStandard() }

// GenerateCredentialReport implements the port.
func (i *IAM) GenerateCredentialReport(ctx context.Context) (complete bool, err error) {
	out, err := i.client.GenerateCredentialReport(ctx, &iam.GenerateCredentialReportInput{}, reportRetries)
	if err != nil {
		return false, awserr.From(err, "iam:GenerateCredentialReport", account)
	}
	return out.State == types.ReportStateTypeComplete, nil
}

// GetCredentialReport implements the port.
func (i *IAM) GetCredentialReport(ctx context.Context) (content []byte, generated time.Time, err error) {
	const action = "iam:GetCredentialReport"
	out, err := i.client.GetCredentialReport(ctx, &iam.GetCredentialReportInput{}, reportRetries)
	if err != nil {
		return nil, time.Time{}, awserr.From(err, action, account)
	}
	if out.GeneratedTime == nil {
		return nil, time.Time{}, awserr.Incomplete(action, account, "the time when the report was generated")
	}
	return out.Content, *out.GeneratedTime, nil
}

// GetAccountAuthorizationDetails implements the port, with 1,000 users and groups a
// page, the most that IAM gives; it may give fewer and have more. A user's policies
// count as read when every group that it is in was there too.
func (i *IAM) GetAccountAuthorizationDetails(ctx context.Context) ([]iamkeys.User, error) {
	const action = "iam:GetAccountAuthorizationDetails"
	var users []iamkeys.User
	var memberships [][]string      // each user's groups
	groups := map[string][]string{} // each group's policies
	in := &iam.GetAccountAuthorizationDetailsInput{Filter: []types.EntityType{types.EntityTypeUser, types.EntityTypeGroup}, MaxItems: aws.Int32(1000)}
	for {
		out, err := i.client.GetAccountAuthorizationDetails(ctx, in)
		if err != nil {
			return nil, awserr.From(err, action, account)
		}
		for _, u := range out.UserDetailList {
			if u.UserName == nil || u.Arn == nil || u.CreateDate == nil {
				return nil, awserr.Incomplete(action, account, "a user's name, ARN or create date")
			}
			users = append(users, iamkeys.User{UserName: *u.UserName, ARN: *u.Arn, CreateDate: *u.CreateDate, Tags: tags(u.Tags), AttachedPolicies: policies(u.AttachedManagedPolicies)})
			memberships = append(memberships, u.GroupList)
		}
		for _, g := range out.GroupDetailList {
			groups[aws.ToString(g.GroupName)] = policies(g.AttachedManagedPolicies)
		}
		if !out.IsTruncated {
			break
		}
		if in.Marker, err = next(in.Marker, out.Marker, action, account); err != nil {
			return nil, err
		}
	}
	for i := range users {
		users[i].PoliciesRead = true
		for _, name := range memberships[i] {
			attached, ok := groups[name]
			users[i].PoliciesRead = users[i].PoliciesRead && ok
			users[i].GroupPolicies = append(users[i].GroupPolicies, attached...)
		}
	}
	return users, nil
}

func policies(attached []types.AttachedPolicy) (arns []string) {
	for _, p := range attached {
		arns = append(arns, aws.ToString(p.PolicyArn))
	}
	return arns
}

// GetAccountSummary implements the port.
func (i *IAM) GetAccountSummary(ctx context.Context) (rootKey bool, err error) {
	const action = "iam:GetAccountSummary"
	out, err := i.client.GetAccountSummary(ctx, &iam.GetAccountSummaryInput{})
	if err != nil {
		return false, awserr.From(err, action, account)
	}
	keys, ok := out.SummaryMap[string(types.SummaryKeyTypeAccountAccessKeysPresent)]
	if !ok {
		return false, awserr.Incomplete(action, account, "the number of the root user's access keys")
	}
	return keys > 0, nil
}
