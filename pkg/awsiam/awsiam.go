// Package awsiam speaks to IAM for the core.
package awsiam

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go/middleware"
	"golang.org/x/time/rate"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	CreateAccessKey(context.Context, *iam.CreateAccessKeyInput, ...func(*iam.Options)) (*iam.CreateAccessKeyOutput, error)
	DeleteAccessKey(context.Context, *iam.DeleteAccessKeyInput, ...func(*iam.Options)) (*iam.DeleteAccessKeyOutput, error)
	GenerateCredentialReport(context.Context, *iam.GenerateCredentialReportInput, ...func(*iam.Options)) (*iam.GenerateCredentialReportOutput, error)
	GetAccessKeyLastUsed(context.Context, *iam.GetAccessKeyLastUsedInput, ...func(*iam.Options)) (*iam.GetAccessKeyLastUsedOutput, error)
	GetAccountAuthorizationDetails(context.Context, *iam.GetAccountAuthorizationDetailsInput, ...func(*iam.Options)) (*iam.GetAccountAuthorizationDetailsOutput, error)
	GetAccountSummary(context.Context, *iam.GetAccountSummaryInput, ...func(*iam.Options)) (*iam.GetAccountSummaryOutput, error)
	GetCredentialReport(context.Context, *iam.GetCredentialReportInput, ...func(*iam.Options)) (*iam.GetCredentialReportOutput, error)
	GetUser(context.Context, *iam.GetUserInput, ...func(*iam.Options)) (*iam.GetUserOutput, error)
	ListAttachedGroupPolicies(context.Context, *iam.ListAttachedGroupPoliciesInput, ...func(*iam.Options)) (*iam.ListAttachedGroupPoliciesOutput, error)
	ListAttachedUserPolicies(context.Context, *iam.ListAttachedUserPoliciesInput, ...func(*iam.Options)) (*iam.ListAttachedUserPoliciesOutput, error)
	ListGroupsForUser(context.Context, *iam.ListGroupsForUserInput, ...func(*iam.Options)) (*iam.ListGroupsForUserOutput, error)
	ListAccessKeys(context.Context, *iam.ListAccessKeysInput, ...func(*iam.Options)) (*iam.ListAccessKeysOutput, error)
	UpdateAccessKey(context.Context, *iam.UpdateAccessKeyInput, ...func(*iam.Options)) (*iam.UpdateAccessKeyOutput, error)
}

var (
	_ client                 = (*iam.Client)(nil)
	_ iamkeys.ListAccessKeys = (*IAM)(nil)
	_ iamkeys.LastUsedIAM    = (*IAM)(nil)
	_ iamkeys.DeactivateIAM  = (*IAM)(nil)
	_ iamkeys.ActivateIAM    = (*IAM)(nil)
	_ iamkeys.DeleteIAM      = (*IAM)(nil)
	_ iamkeys.CreateIAM      = (*IAM)(nil)
)

// IAM implements the core's ports to IAM. Its errors are [iamkeys.Error].
type IAM struct {
	client client
	calls  atomic.Int64
}

// New gives an IAM for the functions that work on one user: a call that fails
// for a passing reason is made up to four times, within some seconds.
func New(config aws.Config) *IAM {
	return &IAM{client: iam.NewFromConfig(config, func(o *iam.Options) {
		o.RetryMaxAttempts = 4
	})}
}

// callsPerSecond keeps an audit that reads every user from taking all of the
// account's share of IAM: 5,000 users with 10,000 keys take five minutes. IAM
// publishes no rates. burst is more than an audit from the credential report needs.
const (
	callsPerSecond = 50
	burst          = 100
)

// NewForAudit gives an IAM for thousands of calls. It sends them at a bounded
// rate, once AWS throttles more slowly, and repeats each up to ten times.
func NewForAudit(config aws.Config) *IAM {
	i := &IAM{}
	limiter := rate.NewLimiter(callsPerSecond, burst)
	paced := middleware.FinalizeMiddlewareFunc("paced", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if err := limiter.Wait(ctx); err != nil { // the time is over, or would be
			return middleware.FinalizeOutput{}, middleware.Metadata{}, &aws.RequestCanceledError{Err: context.DeadlineExceeded}
		}
		i.calls.Add(1)
		return next.HandleFinalize(ctx, in)
	})
	i.client = iam.NewFromConfig(config, func(o *iam.Options) {
		o.HTTPClient = awsconfig.HTTPClient(30 * time.Second) // a page of 1,000 users may take long
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(paced, "Retry", middleware.After)
		})
		o.Retryer = retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
			o.StandardOptions = append(o.StandardOptions, func(o *retry.StandardOptions) {
				o.MaxAttempts = 10
				o.MaxBackoff = 5 * time.Second // one user that cannot be read must not hold up the others for minutes
				// The default allows a client some hundred retries in all and then
				// fails every call at once, which a long audit would run into.
				o.RateLimiter = ratelimit.None
			})
		})
	})
	return i
}

// Calls gives the number of calls that an IAM of [NewForAudit] has made, each attempt counted.
func (i *IAM) Calls() int { return int(i.calls.Load()) }

// ListAccessKeys implements the port.
func (i *IAM) ListAccessKeys(ctx context.Context, userName string) ([]iamkeys.AccessKey, error) {
	const action = "iam:ListAccessKeys"
	if err := named(userName); err != nil {
		return nil, err
	}
	resource := "user " + userName
	var keys []iamkeys.AccessKey
	in := &iam.ListAccessKeysInput{UserName: &userName}
	for {
		out, err := i.client.ListAccessKeys(ctx, in)
		if err != nil {
			return nil, awserr.From(err, action, resource)
		}
		for _, k := range out.AccessKeyMetadata {
			if k.AccessKeyId == nil || k.Status == "" || k.CreateDate == nil {
				return nil, awserr.Incomplete(action, resource, "an access key's ID, status or create date")
			}
			keys = append(keys, iamkeys.AccessKey{UserName: userName, AccessKeyID: *k.AccessKeyId, Status: iamkeys.Status(k.Status), CreateDate: *k.CreateDate})
		}
		if !out.IsTruncated {
			return keys, nil
		}
		if in.Marker, err = next(in.Marker, out.Marker, action, resource); err != nil {
			return nil, err
		}
	}
}

// GetAccessKeyLastUsed implements the port. "N/A", IAM's word for a service or
// Region that it has none of, becomes "".
func (i *IAM) GetAccessKeyLastUsed(ctx context.Context, accessKeyID string) (iamkeys.LastUsed, error) {
	const action = "iam:GetAccessKeyLastUsed"
	resource := "access key " + accessKeyID
	out, err := i.client.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &accessKeyID})
	if err != nil {
		return iamkeys.LastUsed{}, awserr.From(err, action, resource)
	}
	used := out.AccessKeyLastUsed
	if used == nil {
		return iamkeys.LastUsed{}, awserr.Incomplete(action, resource, "the last use")
	}
	result := iamkeys.LastUsed{UserName: aws.ToString(out.UserName), ServiceName: available(used.ServiceName), Region: available(used.Region)}
	switch {
	case used.LastUsedDate != nil:
		result.Date = *used.LastUsedDate
	case result.ServiceName != "": // a use without its date must not pass for "never used"
		return iamkeys.LastUsed{}, awserr.Incomplete(action, resource, "the date of the last use")
	}
	return result, nil
}

func available(s *string) string {
	if aws.ToString(s) == "N/A" {
		return ""
	}
	return aws.ToString(s)
}

// GetUser implements the port.
func (i *IAM) GetUser(ctx context.Context, userName string) (iamkeys.User, error) {
	const action = "iam:GetUser"
	if err := named(userName); err != nil {
		return iamkeys.User{}, err
	}
	resource := "user " + userName
	out, err := i.client.GetUser(ctx, &iam.GetUserInput{UserName: &userName})
	if err != nil {
		return iamkeys.User{}, awserr.From(err, action, resource)
	}
	u := out.User
	if u == nil || u.UserName == nil || u.Arn == nil || u.CreateDate == nil {
		return iamkeys.User{}, awserr.Incomplete(action, resource, "the user's name, ARN or create date")
	}
	return iamkeys.User{UserName: *u.UserName, ARN: *u.Arn, CreateDate: *u.CreateDate, Tags: tags(u.Tags)}, nil
}

func tags(list []types.Tag) []iamkeys.Tag {
	var result []iamkeys.Tag
	for _, t := range list {
		result = append(result, iamkeys.Tag{Key: aws.ToString(t.Key), Value: aws.ToString(t.Value)})
	}
	return result
}

// once is for calls that must not be repeated on the same look.
func once(o *iam.Options) { o.Retryer = aws.NopRetryer{} }

// UpdateAccessKey implements the port, in exactly one attempt.
func (i *IAM) UpdateAccessKey(ctx context.Context, userName, accessKeyID string, status iamkeys.Status) error {
	if err := named(userName); err != nil {
		return err
	}
	_, err := i.client.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: &userName, AccessKeyId: &accessKeyID, Status: types.StatusType(status)}, once)
	return awserr.From(err, "iam:UpdateAccessKey", keyOf(userName, accessKeyID))
}

// DeleteAccessKey implements the port, in exactly one attempt.
func (i *IAM) DeleteAccessKey(ctx context.Context, userName, accessKeyID string) error {
	if err := named(userName); err != nil {
		return err
	}
	_, err := i.client.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &userName, AccessKeyId: &accessKeyID}, once)
	return awserr.From(err, "iam:DeleteAccessKey", keyOf(userName, accessKeyID))
}

// CreateAccessKey implements the port, in exactly one attempt.
func (i *IAM) CreateAccessKey(ctx context.Context, userName, nonce string) (iamkeys.Credentials, error) {
	const action = "iam:CreateAccessKey"
	if err := named(userName); err != nil {
		return iamkeys.Credentials{}, err
	}
	resource := "user " + userName
	out, err := i.client.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &userName}, once, func(o *iam.Options) {
		o.APIOptions = append(o.APIOptions, awsmiddleware.AddUserAgentKeyValue("iamkeys", nonce))
	})
	if err != nil {
		return iamkeys.Credentials{}, awserr.From(err, action, resource)
	}
	k := out.AccessKey
	if k == nil || aws.ToString(k.AccessKeyId) == "" || aws.ToString(k.SecretAccessKey) == "" || k.CreateDate == nil {
		return iamkeys.Credentials{}, awserr.Incomplete(action, resource, "the access key's ID, secret or create date")
	}
	return iamkeys.Credentials{UserName: userName, AccessKeyID: *k.AccessKeyId, CreateDate: *k.CreateDate, Secret: iamkeys.NewSecret(*k.SecretAccessKey)}, nil
}

// named refuses the empty user name: IAM would take the caller's own user for it.
func named(userName string) error {
	if userName == "" {
		return &iamkeys.Error{Code: iamkeys.InvalidInput, Message: "userName is missing; no call was made."}
	}
	return nil
}

func keyOf(userName, accessKeyID string) string {
	return fmt.Sprintf("access key %s of user %s", accessKeyID, userName)
}

// next gives the marker of the next page. A truncated answer without a new one
// would end the list early, or never.
func next(marker, following *string, action, resource string) (*string, error) {
	if aws.ToString(following) == "" || aws.ToString(following) == aws.ToString(marker) {
		return nil, awserr.Incomplete(action, resource, "the marker of the next page")
	}
	return following, nil
}
