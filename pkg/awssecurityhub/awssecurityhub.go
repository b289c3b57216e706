// Package awssecurityhub sends findings to AWS Security Hub.
package awssecurityhub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/smithy-go"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	BatchImportFindings(context.Context, *securityhub.BatchImportFindingsInput, ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error)
}

var (
	_ client                      = (*securityhub.Client)(nil)
	_ iamkeys.BatchImportFindings = (*SecurityHub)(nil)
)

// SecurityHub implements the core's port. Its errors are [iamkeys.Error].
type SecurityHub struct{ client client }

// New gives a SecurityHub, in the configuration's account and Region.
func New(config aws.Config) *SecurityHub {
	return &SecurityHub{securityhub.NewFromConfig(config, func(o *securityhub.Options) { o.RetryMaxAttempts = 4 })}
}

// BatchImportFindings implements the port.
func (s *SecurityHub) BatchImportFindings(ctx context.Context, findings []iamkeys.SecurityFinding) (refused []iamkeys.RefusedFinding, err error) {
	const action, resource = "securityhub:BatchImportFindings", "the account's Security Hub"
	in := &securityhub.BatchImportFindingsInput{}
	content, err := json.Marshal(findings)
	if err == nil {
		err = json.Unmarshal(content, &in.Findings) // the SDK's fields have the format's names
	}
	if err != nil {
		return nil, &iamkeys.Error{Code: iamkeys.Internal, Message: "The findings could not be written as Security Hub takes them.", Err: err}
	}
	out, err := s.client.BatchImportFindings(ctx, in)
	if api, ok := errors.AsType[smithy.APIError](err); ok && strings.HasPrefix(api.ErrorCode(), "InvalidAccess") {
		return nil, &iamkeys.Error{Code: iamkeys.NoSuchEntity, Message: "Security Hub is not enabled in the account and Region.", Err: err}
	}
	if err != nil {
		return nil, awserr.From(err, action, resource)
	}
	for _, f := range out.FailedFindings {
		refused = append(refused, iamkeys.RefusedFinding{ID: aws.ToString(f.Id), Code: aws.ToString(f.ErrorCode), Message: aws.ToString(f.ErrorMessage)})
	}
	if n := int(aws.ToInt32(out.FailedCount)); n > len(refused) {
		return nil, awserr.Incomplete(action, resource, fmt.Sprintf("which %d findings it refused", n))
	}
	return refused, nil
}
