// Package awssns publishes the core's messages to a topic.
package awssns

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	Publish(context.Context, *sns.PublishInput, ...func(*sns.Options)) (*sns.PublishOutput, error)
}

var (
	_ client          = (*sns.Client)(nil)
	_ iamkeys.Publish = (*SNS)(nil)
)

// SNS implements the core's port to SNS, on one topic. Its errors are [iamkeys.Error].
type SNS struct {
	client   client
	topicARN string
}

// New gives an SNS that publishes to the topic.
func New(config aws.Config, topicARN string) *SNS {
	return &SNS{topicARN: topicARN, client: sns.NewFromConfig(config, func(o *sns.Options) {
		o.RetryMaxAttempts = 4
	})}
}

// Publish implements the port. What is its JSON alone goes raw, as services want it
// that read a topic themselves. Attributes without a value are left out: SNS
// refuses a message that has one.
func (s *SNS) Publish(ctx context.Context, m iamkeys.Message) (messageID string, err error) {
	const action = "sns:Publish"
	resource := "topic " + s.topicARN
	in := &sns.PublishInput{TopicArn: &s.topicARN, Message: aws.String(m.Body()), MessageAttributes: map[string]types.MessageAttributeValue{}}
	if m.Text != "" {
		in.Subject, in.MessageStructure = &m.Subject, aws.String("json")
	}
	for _, a := range m.Attributes {
		kind := "String"
		if a.Number {
			kind = "Number"
		}
		if a.Value != "" {
			in.MessageAttributes[a.Name] = types.MessageAttributeValue{DataType: &kind, StringValue: &a.Value}
		}
	}
	out, err := s.client.Publish(ctx, in)
	if err != nil {
		return "", awserr.From(err, action, resource)
	}
	if aws.ToString(out.MessageId) == "" {
		return "", awserr.Incomplete(action, resource, "the message's ID")
	}
	return *out.MessageId, nil
}
