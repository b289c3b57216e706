// Package awssts asks STS, for the core, whose a new access key is, and takes on
// roles of other accounts.
package awssts

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	AssumeRole(context.Context, *sts.AssumeRoleInput, ...func(*sts.Options)) (*sts.AssumeRoleOutput, error)
	GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error)
}

var (
	_ client                    = (*sts.Client)(nil)
	_ iamkeys.AssumeRole        = (*STS)(nil)
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
		o.Credentials = signer(credentials.AccessKeyID, credentials.Secret, iamkeys.Secret{}, time.Time{})
	})
	if err != nil {
		return "", awserr.From(err, action, resource)
	}
	if aws.ToString(out.Arn) == "" {
		return "", awserr.Incomplete(action, resource, "the caller's ARN")
	}
	return *out.Arn, nil
}

// AssumeRole implements the port. STS is asked in the configuration's own Region: the
// tokens of its global endpoint are not taken in Regions that an account opted into.
// From a role's session another one lasts an hour at most, whatever the role allows.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func (s *STS) AssumeRole(ctx context.Context, roleARN, sessionName, externalID string) (iamkeys.Session, error) {
	const action = "sts:AssumeRole"
	resource := "role " + roleARN
	in := &sts.AssumeRoleInput{RoleArn: &roleARN, RoleSessionName: &sessionName}
	if externalID != "" {
		in.ExternalId = &externalID
	}
	out, err := s.client.AssumeRole(ctx, in)
	if err != nil {
		return iamkeys.Session{}, awserr.From(err, action, resource)
	}
	c := out.Credentials
	if c == nil || aws.ToString(c.AccessKeyId) == "" || aws.ToString(c.SecretAccessKey) == "" || aws.ToString(c.SessionToken) == "" || c.Expiration == nil {
		return iamkeys.Session{}, awserr.Incomplete(action, resource, "temporary credentials")
	}
	return iamkeys.Session{AccessKeyID: *c.AccessKeyId, Secret: iamkeys.NewSecret(*c.SecretAccessKey), Token: iamkeys.NewSecret(*c.SessionToken), Expires: *c.Expiration}, nil
}

// As gives the configuration for calls with the session's credentials.
func As(config aws.Config, session iamkeys.Session) aws.Config {
	config = config.Copy()
	config.Credentials = signer(session.AccessKeyID, session.Secret, session.Token, session.Expires)
	return config
}

// signer gives the SDK what signs calls; without a time they do not expire.
func signer(accessKeyID string, secret, token iamkeys.Secret, expires time.Time) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		c := aws.Credentials{AccessKeyID: accessKeyID, Source: "iamkeys", CanExpire: !expires.IsZero(), Expires: expires}
		for to, s := range map[*string]iamkeys.Secret{&c.SecretAccessKey: secret, &c.SessionToken: token} {
			*to = s.Reveal()
		}
		return c, nil
	})
}
