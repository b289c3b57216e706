package awserr_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// answered is an SDK error as an operation returns it for an answer of that status.
func answered(status int, err error) error {
	return &smithy.OperationError{ServiceID: "IAM", OperationName: "ListAccessKeys", Err: &awshttp.ResponseError{
		RequestID:     "request-1",
		ResponseError: &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: err},
	}}
}

func api(code string) error { return &smithy.GenericAPIError{Code: code, Message: "AWS says so."} }

func TestFrom(t *testing.T) {
	tests := map[string]struct {
		err     error
		code    iamkeys.Code
		unknown bool
		says    string
	}{
		"IAM's unknown user":    {answered(404, api("NoSuchEntity")), iamkeys.NoSuchEntity, false, "User alice does not exist"},
		"Secrets Manager's":     {answered(400, api("ResourceNotFoundException")), iamkeys.NoSuchEntity, false, "does not exist"},
		"two keys":              {answered(409, api("LimitExceeded")), iamkeys.LimitExceeded, false, "AWS says so."},
		"IAM throttles":         {answered(400, api("Throttling")), iamkeys.Throttled, false, "Try again later"},
		"others throttle":       {answered(400, api("ThrottlingException")), iamkeys.Throttled, false, "iam:ListAccessKeys"},
		"EC2's word":            {answered(400, api("RequestLimitExceeded")), iamkeys.Throttled, false, ""},
		"Lambda's word":         {answered(429, api("TooManyRequestsException")), iamkeys.Throttled, false, ""},
		"S3 throttles by 503":   {answered(503, api("SlowDown")), iamkeys.Throttled, true, ""},
		"no report yet":         {answered(404, api("ReportInProgress")), iamkeys.InProgress, false, "not there yet"},
		"no report":             {answered(410, api("ReportNotPresent")), iamkeys.InProgress, false, ""},
		"an old report":         {answered(410, api("ReportExpired")), iamkeys.InProgress, false, ""},
		"denied":                {answered(403, api("AccessDenied")), iamkeys.AccessDenied, false, "iam:ListAccessKeys on user alice is not permitted"},
		"denied, JSON services": {answered(400, api("AccessDeniedException")), iamkeys.AccessDenied, false, "iam:ListAccessKeys on user alice is not permitted"},
		"denied by KMS":         {answered(400, api("KMSAccessDenied")), iamkeys.AccessDenied, false, "KMS key"},
		"denied by an SCP": {answered(403, &smithy.GenericAPIError{Code: "AccessDenied", Message: "... with an explicit deny in a service control policy: arn:aws:organizations::1:policy/x"}), iamkeys.AccessDenied, false,
			"denied by a service control policy of the organization"},
		"another refusal":          {answered(400, api("InvalidClientTokenId")), iamkeys.Internal, false, "failed unexpectedly"},
		"a server fault":           {answered(500, api("ServiceFailure")), iamkeys.Internal, true, "no clear answer."},
		"a known code in a fault":  {answered(500, api("NoSuchEntity")), iamkeys.NoSuchEntity, true, ""},
		"a proxy's answer":         {answered(403, errors.New("html")), iamkeys.Internal, true, "no clear answer."},
		"an answer without a code": {answered(400, api("UnknownError")), iamkeys.Internal, true, "no clear answer."},
		"undecodable 200":          {answered(200, &smithy.DeserializationError{Err: errors.New("cut")}), iamkeys.Internal, true, "no clear answer."},
		"no answer":                {&smithy.OperationError{Err: &smithyhttp.RequestSendError{Err: errors.New("connection reset")}}, iamkeys.Internal, true, "no clear answer."},
		"time ran out":             {fmt.Errorf("calling: %w", context.DeadlineExceeded), iamkeys.Internal, true, "no clear answer."},
		"a code without an answer": {api("NoSuchEntity"), iamkeys.NoSuchEntity, true, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := awserr.From(test.err, "iam:ListAccessKeys", "user alice")
			got, ok := err.(*iamkeys.Error)
			if !ok {
				t.Fatalf("got %T, want *iamkeys.Error: callers look no deeper", err)
			}
			if got.Code != test.code || got.OutcomeUnknown != test.unknown {
				t.Errorf("got %s, outcome unknown %t; want %s, %t", got.Code, got.OutcomeUnknown, test.code, test.unknown)
			}
			if !strings.Contains(got.Message, test.says) || !strings.Contains(got.Message, "ser alice") && got.Code != iamkeys.InProgress {
				t.Errorf("message %q does not name the user and say %q", got.Message, test.says)
			}
			if strings.Contains(got.Message, "request-1") {
				t.Errorf("message %q holds what belongs in the log", got.Message)
			}
		})
	}
	if err := awserr.From(nil, "iam:ListAccessKeys", "user alice"); err != nil {
		t.Errorf("no error became %v", err)
	}
}

// Real IAM denies what does not exist under the path of the function's policy: who reads
// that looks there before the policy is widened.
func TestFromSaysWhatDeniedAlsoMeans(t *testing.T) {
	for _, c := range []struct {
		action, resource string
		want             bool
	}{
		{"iam:ListAccessKeys", "user alice", true}, {"iam:UpdateAccessKey", "access key AKIAIOSFODNN7EXAMPLE of user alice", true},
		{"iam:GetAccountSummary", "the account", false}, {"secretsmanager:DescribeSecret", "secret iamkeys/x", false},
	} {
		message := awserr.From(answered(403, api("AccessDenied")), c.action, c.resource).(*iamkeys.Error).Message
		if got := strings.Contains(message, "may not exist under UserPath"); got != c.want || !strings.Contains(message, c.action) {
			t.Errorf("%s on %s: %q", c.action, c.resource, message)
		}
	}
}

// Only of a call that changes something is it worth saying that it may have.
func TestFromSaysWhatMayHaveHappened(t *testing.T) {
	for action, want := range map[string]bool{"iam:ListAccessKeys": false, "secretsmanager:DescribeSecret": false, "s3:GetObject": false, "iam:CreateAccessKey": true, "s3:PutObject": true, "sns:Publish": true} {
		message := awserr.From(context.DeadlineExceeded, action, "user alice").(*iamkeys.Error).Message
		if got := strings.Contains(message, "whether it took effect"); got != want {
			t.Errorf("%s: %q", action, message)
		}
	}
}

func TestFromKeepsTheCauseForTheLog(t *testing.T) {
	err := awserr.From(answered(400, api("Throttling")), "iam:ListAccessKeys", "user alice")
	if !strings.Contains(err.Error(), "request-1") {
		t.Errorf("%q lacks AWS's request ID, by which its support finds the call", err)
	}
	if err := awserr.From(context.Canceled, "iam:ListAccessKeys", "user alice"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not show that the call was cancelled", err)
	}
}

// The SDK keeps the bytes of an answer that it could not decode; those of
// CreateAccessKey hold the secret.
func TestFromDropsUndecodedBytes(t *testing.T) {
	const secret = "wJalrXUtnFEMIsecret"
	err := awserr.From(answered(200, &smithy.DeserializationError{Err: errors.New("cut"), Snapshot: []byte(secret)}), "iam:CreateAccessKey", "user alice")
	for chain := err; chain != nil; chain = errors.Unwrap(chain) {
		if _, ok := chain.(*smithy.DeserializationError); ok {
			t.Errorf("the cause still holds the answer's bytes")
		}
	}
}
