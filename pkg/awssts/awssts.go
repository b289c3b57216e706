// Package awssts asks STS, for the core, whose a new access key is.
package awssts

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error)
}

var (
	_ client                    = (*sts.Client)(nil)
	_ iamkeys.GetCallerIdentity = (*STS)(nil)
)

// STS implements the core's port to STS, in the configuration's Region. Its errors are [iamkeys.Error].
type STS struct{ client client }

// New gives an STS.
func New(config aws.Config) *STS { return &STS{sts.NewFromConfig(config)} }

// GetCallerIdentity implements the port: the request is signed with the credentials.
func (s *STS) GetCallerIdentity(ctx context.Context, credentials iamkeys.Credentials) (arn string, err error) {
	const action = "sts:GetCallerIdentity"
	resource := "access key " + credentials.AccessKeyID + " of user " + credentials.UserName
	out, err := s.client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: credentials.AccessKeyID, SecretAccessKey: credentials.Secret.Reveal(), Source: "iamkeys"}, nil
		})
	})
	if err != nil {
		return "", awserr.From(err, action, resource)
	}
	if aws.ToString(out.Arn) == "" {
		return "", awserr.Incomplete(action, resource, "the caller's ARN")
	}
	return *out.Arn, nil
}
