// Package awsorganizations lists the accounts of the organization.
package awsorganizations

import (
	"cmp"
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/organizations"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	ListAccounts(context.Context, *organizations.ListAccountsInput, ...func(*organizations.Options)) (*organizations.ListAccountsOutput, error)
}

var (
	_ client               = (*organizations.Client)(nil)
	_ iamkeys.ListAccounts = (*Organizations)(nil)
)

// Organizations implements the core's port to Organizations. Its errors are [iamkeys.Error].
type Organizations struct{ client client }

// New gives an Organizations. A page that is throttled is asked for up to ten times,
// so that one of fifty does not end the list.
func New(config aws.Config) *Organizations {
	return &Organizations{organizations.NewFromConfig(config, func(o *organizations.Options) { o.RetryMaxAttempts = 10 })}
}

// ListAccounts implements the port. A page may be empty and have a next one. AWS
// retired an account's Status in favour of its State in September 2026.
// https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccounts.html
func (o *Organizations) ListAccounts(ctx context.Context) ([]iamkeys.Account, error) {
	const action, resource = "organizations:ListAccounts", "the organization"
	var accounts []iamkeys.Account
	in := &organizations.ListAccountsInput{MaxResults: aws.Int32(20)}
	for {
		out, err := o.client.ListAccounts(ctx, in)
		if err != nil {
			return nil, awserr.From(err, action, resource)
		}
		for _, a := range out.Accounts {
			if aws.ToString(a.Id) == "" {
				return nil, awserr.Incomplete(action, resource, "an account's ID")
			}
			accounts = append(accounts, iamkeys.Account{ID: *a.Id, Name: aws.ToString(a.Name), State: cmp.Or(string(a.State), string(a.Status))})
		}
		switch next := aws.ToString(out.NextToken); {
		case next == "":
			return accounts, nil
		case next == aws.ToString(in.NextToken): // it would never end
			return nil, awserr.Incomplete(action, resource, "the token of the next page")
		}
		in.NextToken = out.NextToken
	}
}
