package iamkeys

import (
	"errors"
	"fmt"
)

// A Code names what went wrong. Callers and Step Functions see it as errorType
// and may match on it; the set is closed.
type Code string

// The error codes.
const (
	InvalidInput         Code = "InvalidInput"         // the input names a field that is missing or malformed; nothing was called
	NoSuchEntity         Code = "NoSuchEntity"         // the user or the access key does not exist
	LimitExceeded        Code = "LimitExceeded"        // the user has two access keys already
	SecretInUse          Code = "SecretInUse"          // the secret serves something that must not be switched over
	SecretUnavailable    Code = "SecretUnavailable"    // the secret is scheduled for deletion or cannot be reached or written
	InProgress           Code = "InProgress"           // another create is at work, or lists may lag: try again later
	DeliveryFailed       Code = "DeliveryFailed"       // no key was delivered, and none is left behind that is known of
	OrphanedKey          Code = "OrphanedKey"          // an access key may exist that nobody holds; the message names it
	KeyInUse             Code = "KeyInUse"             // the key was used within the quiet window
	NotReplaced          Code = "NotReplaced"          // the replacing key is not Active or not delivered
	NotAdopted           Code = "NotAdopted"           // the replacing key has not been used by a consumer yet
	KeyActive            Code = "KeyActive"            // only an Inactive or Expired key may be deleted
	AmbiguousKeys        Code = "AmbiguousKeys"        // which key to rotate cannot be told
	InventoryUnavailable Code = "InventoryUnavailable" // the account could not be examined
	StoreFailed          Code = "StoreFailed"          // the report could not be stored or read back
	NotifyFailed         Code = "NotifyFailed"         // the message could not be published
	Throttled            Code = "Throttled"            // AWS throttled the call
	AccessDenied         Code = "AccessDenied"         // a permission is missing; the message names action and resource
	Internal             Code = "Internal"             // anything unexpected; details are in the log
)

// Codes lists every code, for tables and tests that must cover them all.
var Codes = []Code{
	InvalidInput, NoSuchEntity, LimitExceeded, SecretInUse, SecretUnavailable, InProgress, DeliveryFailed, OrphanedKey, KeyInUse, NotReplaced,
	NotAdopted, KeyActive, AmbiguousKeys, InventoryUnavailable, StoreFailed, NotifyFailed, Throttled, AccessDenied, Internal,
}

// An Error is what every operation and every port returns on failure.
type Error struct {
	Code    Code
	Message string // for the caller: what happened, to which user and key, what to do next
	Err     error  // the cause, for the log only; may be nil

	// OutcomeUnknown says that the call may have taken effect all the same: its
	// answer was lost, or was a server fault. False means certainly without effect.
	OutcomeUnknown bool
}

// Error gives message and cause, for the log.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s (%v)", e.Code, e.Message, e.Err)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf gives err's code: that of the outermost [Error] in its chain, Internal
// when there is none, and the empty code for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// outcomeUnknown reports whether the failed call may have taken effect. An error
// that is not an [Error] says nothing of its outcome, so that one is unknown too.
func outcomeUnknown(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return !ok || e.OutcomeUnknown
}

func Refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func Failed(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}
