// Package awsses sends mail by Amazon SES.
package awsses

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	SendEmail(context.Context, *sesv2.SendEmailInput, ...func(*sesv2.Options)) (*sesv2.SendEmailOutput, error)
}

var (
	_ client            = (*sesv2.Client)(nil)
	_ iamkeys.SendEmail = (*SES)(nil)
)

// SES implements the core's port to SES, from one sender. Its errors are [iamkeys.Error].
type SES struct {
	client client
	sender string
}

// New gives an SES that sends as sender, which must be a verified identity or of one.
func New(config aws.Config, sender string) *SES {
	return &SES{sender: sender, client: sesv2.NewFromConfig(config, func(o *sesv2.Options) {
		o.RetryMaxAttempts = 3
	})}
}

// SendEmail implements the port. Address, subject and text go as fields of their own, so
// that none can add a header to the mail.
func (s *SES) SendEmail(ctx context.Context, to, subject, text string) (messageID string, err error) {
	const action = "ses:SendEmail"
	resource := "mail from " + s.sender
	utf8 := func(data string) *types.Content { return &types.Content{Data: &data, Charset: aws.String("UTF-8")} }
	out, err := s.client.SendEmail(ctx, &sesv2.SendEmailInput{
		FromEmailAddress: &s.sender,
		Destination:      &types.Destination{ToAddresses: []string{to}},
		Content:          &types.EmailContent{Simple: &types.Message{Subject: utf8(subject), Body: &types.Body{Text: utf8(text)}}},
	})
	if err != nil {
		return "", awserr.From(err, action, resource)
	}
	if aws.ToString(out.MessageId) == "" {
		return "", awserr.Incomplete(action, resource, "the message's ID")
	}
	return *out.MessageId, nil
}
