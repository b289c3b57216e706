// Package awserr turns an error of the AWS SDK into the core's: one code, a
// message for the caller, and whether the call may have taken effect all the same.
//
// It matches the error code and the HTTP status of the answer, not the SDK's
// typed errors: the service models leave some errors out, and the servers that
// stand in for AWS answer with other types.
package awserr

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"iamkeys/pkg/iamkeys"
)

// codes maps AWS's error codes to the core's; what is not listed is Internal.
// https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
var codes = map[string]iamkeys.Code{
	"NoSuchEntity":              iamkeys.NoSuchEntity,
	"NoSuchEntityException":     iamkeys.NoSuchEntity,
	"ResourceNotFoundException": iamkeys.NoSuchEntity, // Secrets Manager
	"NoSuchKey":                 iamkeys.NoSuchEntity, // S3
	"ExecutionDoesNotExist":     iamkeys.NoSuchEntity, // Step Functions
	"StateMachineDoesNotExist":  iamkeys.NoSuchEntity,

	"AWSOrganizationsNotInUseException": iamkeys.NoSuchEntity, // the account is in no organization

	"LimitExceeded": iamkeys.LimitExceeded, // IAM's quotas, and the capacity for credential reports

	"ReportInProgress": iamkeys.InProgress, // IAM's credential report: not yet there,
	"ReportNotPresent": iamkeys.InProgress, // not asked for,
	"ReportExpired":    iamkeys.InProgress, // not any more

	"PreconditionFailed":         iamkeys.InProgress, // S3: another writer was faster,
	"ConditionalRequestConflict": iamkeys.InProgress, // or is at work

	"Throttling":                iamkeys.Throttled,
	"ThrottlingException":       iamkeys.Throttled,
	"Throttled":                 iamkeys.Throttled, // SNS
	"ThrottledException":        iamkeys.Throttled,
	"RequestThrottled":          iamkeys.Throttled,
	"RequestThrottledException": iamkeys.Throttled,
	"RequestLimitExceeded":      iamkeys.Throttled,
	"TooManyRequestsException":  iamkeys.Throttled,
	"LimitExceededException":    iamkeys.Throttled, // unlike IAM's LimitExceeded, the SDK retries it as throttling
	"BandwidthLimitExceeded":    iamkeys.Throttled,
	"PriorRequestNotComplete":   iamkeys.Throttled,
	"KMSThrottling":             iamkeys.Throttled, // SNS, encrypting for the topic
	"KMSThrottlingException":    iamkeys.Throttled,
	"SlowDown":                  iamkeys.Throttled, // S3

	"AccessDenied":                iamkeys.AccessDenied,
	"AccessDeniedException":       iamkeys.AccessDenied,
	"AuthorizationError":          iamkeys.AccessDenied, // SNS
	"UnauthorizedOperation":       iamkeys.AccessDenied,
	"KMSAccessDenied":             iamkeys.AccessDenied, // SNS, encrypting for the topic
	"KMSAccessDeniedException":    iamkeys.AccessDenied,
	"KMS.AccessDeniedException":   iamkeys.AccessDenied,
	"KmsAccessDeniedException":    iamkeys.AccessDenied,
	"NotAuthorized":               iamkeys.AccessDenied,
	"UnauthorizedAccessException": iamkeys.AccessDenied,

	"MailFromDomainNotVerifiedException": iamkeys.AccessDenied, // SES: this sender,
	"SendingPausedException":             iamkeys.AccessDenied, // or this account, may not send
	"AccountSuspendedException":          iamkeys.AccessDenied,
}

// From gives err, which the SDK returned for the action on the resource, as an
// [iamkeys.Error]; nil for nil. The action is written as in a policy
// ("iam:ListAccessKeys"), the resource in words ("user alice"): the message names both.
//
// The outcome is certain, without effect, if an HTTP 4xx with an API error code
// came back. A server fault, a lost answer, a timeout and an answer that cannot
// be decoded leave it unknown. That is said of the last attempt: where an earlier
// one matters, the adapter must make one only.
//
// AWS's request ID stays in the cause, for the log.
func From(err error, action, resource string) error {
	if err == nil {
		return nil
	}
	result := &iamkeys.Error{Code: iamkeys.Internal, Err: err, OutcomeUnknown: true}
	api, isAPI := errors.AsType[smithy.APIError](err)
	if isAPI && api.ErrorCode() != "" && api.ErrorCode() != "UnknownError" { // the SDK's word for none
		if code, ok := codes[api.ErrorCode()]; ok {
			result.Code = code
		}
		answer, ok := errors.AsType[*smithyhttp.ResponseError](err)
		result.OutcomeUnknown = !ok || answer.HTTPStatusCode() < 400 || answer.HTTPStatusCode() > 499
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		result.Err = errors.New(err.Error()) // the original holds the answer's bytes, which may be a new secret's
	}

	switch result.Code {
	case iamkeys.NoSuchEntity:
		result.Message = capital(resource) + " does not exist (any more)."
	case iamkeys.LimitExceeded:
		result.Message = fmt.Sprintf("%s for %s exceeds a limit of AWS: %s.", action, resource, strings.TrimSuffix(api.ErrorMessage(), "."))
	case iamkeys.InProgress:
		result.Message = fmt.Sprintf("%s for %s met something unfinished: what it gives is not there yet, or another call is at work. Try again later.", action, resource)
	case iamkeys.Throttled:
		result.Message = fmt.Sprintf("AWS throttled %s for %s. Try again later.", action, resource)
	case iamkeys.AccessDenied:
		for _, policy := range []string{"service control policy", "resource control policy"} {
			if strings.Contains(api.ErrorMessage(), policy) {
				result.Message = fmt.Sprintf("%s on %s is denied by a %s of the organization.", action, resource, policy)
				return result
			}
		}
		result.Message = fmt.Sprintf("%s on %s is not permitted.%s Allow it in the function's policy, and the use of the KMS key where one encrypts it; a Deny, such as the one for users tagged iamkeys:protect, is meant to stay.", action, resource, mayNotExist(action, resource))
	default:
		result.Message = fmt.Sprintf("%s for %s failed unexpectedly.", action, resource)
		if result.OutcomeUnknown && reads(action) {
			result.Message = fmt.Sprintf("%s for %s got no clear answer.", action, resource)
		} else if result.OutcomeUnknown {
			result.Message = fmt.Sprintf("%s for %s got no clear answer; whether it took effect is unknown.", action, resource)
		}
	}
	return result
}

// mayNotExist says what AccessDenied also means where a policy names users by their
// path: IAM answers it for what does not exist under that path.
func mayNotExist(action, resource string) string {
	if strings.HasPrefix(action, "iam:") && (strings.HasPrefix(resource, "user ") || strings.HasPrefix(resource, "access key ")) {
		return " The user or key may not exist under UserPath: look first whether it does."
	}
	return ""
}

// reads tells the actions that change nothing by their names.
func reads(action string) bool {
	_, name, _ := strings.Cut(action, ":")
	return strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") || strings.HasPrefix(name, "Describe")
}

// Incomplete is for an answer of AWS that lacks what it must have: nothing may
// be read into the gap, and a write may have taken effect.
func Incomplete(action, resource, missing string) error {
	return &iamkeys.Error{
		Code:           iamkeys.Internal,
		Message:        fmt.Sprintf("The answer of %s for %s lacks %s.", action, resource, missing),
		OutcomeUnknown: true,
	}
}

// capital begins a sentence with words that name a resource.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
