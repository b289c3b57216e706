package awsiam

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"
)

// The retryer is asked directly: how long the adaptive one waits is the SDK's
// business, and would be waited for.
func TestNewForAudit(t *testing.T) {
	retryer := NewForAudit(aws.Config{}).client.(*iam.Client).Options().Retryer
	if _, ok := retryer.(*retry.AdaptiveMode); !ok || retryer.MaxAttempts() != 10 {
		t.Errorf("got a %T with %d attempts, want the adaptive one with 10", retryer, retryer.MaxAttempts())
	}
	throttled := &smithy.GenericAPIError{Code: "Throttling"}
	if !retryer.IsErrorRetryable(throttled) {
		t.Error("throttling is not retried")
	}
	for n := range 1000 { // the SDK's default allows 100 and then fails at once
		if _, err := retryer.GetRetryToken(context.Background(), throttled); err != nil {
			t.Fatalf("after %d retries in all: %v", n, err)
		}
	}
}
