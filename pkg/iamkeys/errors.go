package iamkeys

import (
	"errors"
	"fmt"
)

// A Code names what went wrong. Callers and Step Functions see it as errorType
// and may match on it; the set is closed, and [ErrorTable] says what each means.
type Code string

// The error codes.
const (
	InvalidInput         Code = "InvalidInput"
	NoSuchEntity         Code = "NoSuchEntity"
	LimitExceeded        Code = "LimitExceeded"
	SecretInUse          Code = "SecretInUse"
	SecretUnavailable    Code = "SecretUnavailable"
	InProgress           Code = "InProgress"
	DeliveryFailed       Code = "DeliveryFailed"
	OrphanedKey          Code = "OrphanedKey"
	KeyInUse             Code = "KeyInUse"
	NotReplaced          Code = "NotReplaced"
	NotAdopted           Code = "NotAdopted"
	KeyActive            Code = "KeyActive"
	AmbiguousKeys        Code = "AmbiguousKeys"
	Protected            Code = "Protected"
	KeyExempt            Code = "KeyExempt"
	RetirementOff        Code = "RetirementOff"
	RoleUnavailable      Code = "RoleUnavailable"
	InventoryUnavailable Code = "InventoryUnavailable"
	StoreFailed          Code = "StoreFailed"
	NotifyFailed         Code = "NotifyFailed"
	Throttled            Code = "Throttled"
	AccessDenied         Code = "AccessDenied"
	Internal             Code = "Internal"

	RolledBack Code = "RolledBack" // no function gives it: a workflow ends by it
)

// An ErrorRow says of one code what it means and what to do.
type ErrorRow struct {
	Code            Code
	Meaning, Remedy string
}

// ErrorTable is every code, in the order in which people are told of them.
var ErrorTable = []ErrorRow{
	{InvalidInput, "a field is missing, unknown or malformed; the message names it", "correct it; nothing was called"},
	{NoSuchEntity, "the user or the access key does not exist", "check name, account and `UserPath`"},
	{LimitExceeded, "the user has two access keys already, the most that IAM allows", "deactivate and delete one that nobody uses"},
	{SecretInUse, "the secret serves another key, or holds a value that iamkeys did not write", "name another `secretId`, or `overwrite` the foreign value"},
	{SecretUnavailable, "the secret is scheduled for deletion, is a replica, or cannot be reached or written", "restore it; look at its KMS key; name it in its primary Region"},
	{InProgress, "another create, rotation or retirement is at work, or lists may lag", "try again when the message says"},
	{DeliveryFailed, "no key was delivered, and none is left behind that is known of", "see the reason; try again"},
	{OrphanedKey, "an access key may exist that nobody holds; the message names it", "do as the message says, and delete nothing that it does not name"},
	{KeyInUse, "the key was used within the quiet window, or serves somebody all the same", "move its consumer first, or insist with `quietHours: 0`"},
	{NotReplaced, "the replacing key is not Active, or the secret does not deliver it", "look who changed it"},
	{NotAdopted, "no consumer has used the replacing key yet", "let the consumer read the secret"},
	{KeyActive, "only an Inactive or Expired key is deleted", "deactivate it first, or leave it: somebody may have reactivated it on purpose"},
	{AmbiguousKeys, "which key to rotate cannot be told", "see the message"},
	{Protected, "the user has the tag `iamkeys:protect`, or is outside `UserPath`", "leave its keys to a person, or take the tag off"},
	{KeyExempt, "an exemption of the user holds for this", "wait for its last day, or take the exemption tags off"},
	{RetirementOff, "the parameter `RetirementMode` is not `apply`", "set it, or start the retirement with `insist: true`"},
	{RoleUnavailable, "the role in the member account does not exist or does not trust this stack", "deploy member.yaml there; the message names role and account"},
	{InventoryUnavailable, "the account, or all of the organization, could not be examined", "look into the log; run again"},
	{StoreFailed, "a report could not be stored, or the one before not be read", "run the same event again"},
	{NotifyFailed, "the message could not be published", "run the same event again"},
	{Throttled, "AWS throttled the call, also when it was repeated", "try again later"},
	{AccessDenied, "a permission is missing, or the user does not exist under `UserPath`; the message names action and resource", "see who may do what"},
	{Internal, "anything unexpected", "search the log for the request ID in the message"},
	{RolledBack, "somebody reactivated the old key while it was to be deleted; a workflow ends by this name, no function", "leave the key, or find out who uses it and start again"},
}

// Codes lists every code that a function may give, for tests that must cover them all.
var Codes = codes()

func codes() (all []Code) {
	for _, row := range ErrorTable {
		if row.Code != RolledBack {
			all = append(all, row.Code)
		}
	}
	return all
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
