package iamkeys

import (
	"context"
	"io"
	"time"
)

// This file is all that iamkeys asks of AWS: one interface per action, named like
// the action. An operation's port embeds those that it calls, and its function's
// policy is derived from them. Every error is an [Error].

// ListAccessKeys gives all of the user's access keys, from all pages. An unknown user
// is NoSuchEntity; a user without keys is no error.
type ListAccessKeys interface {
	ListAccessKeys(ctx context.Context, userName string) ([]AccessKey, error)
}

// GetAccessKeyLastUsed gives the key's last use and owner. An unknown key is NoSuchEntity.
type GetAccessKeyLastUsed interface {
	GetAccessKeyLastUsed(ctx context.Context, accessKeyID string) (LastUsed, error)
}

// GetUser gives the user with its tags, without policies. An unknown user is NoSuchEntity.
type GetUser interface {
	GetUser(ctx context.Context, userName string) (User, error)
}

// ListAttachedUserPolicies gives the ARNs of the managed policies attached to the user itself.
type ListAttachedUserPolicies interface {
	ListAttachedUserPolicies(ctx context.Context, userName string) (arns []string, err error)
}

// ListGroupsForUser gives the names of the groups that the user is in.
type ListGroupsForUser interface {
	ListGroupsForUser(ctx context.Context, userName string) (groups []string, err error)
}

// ListAttachedGroupPolicies gives the ARNs of the managed policies attached to the group.
type ListAttachedGroupPolicies interface {
	ListAttachedGroupPolicies(ctx context.Context, group string) (arns []string, err error)
}

// CreateAccessKey makes a key, in one attempt: it has no idempotency token, so a
// retry could make a second one. The user agent says iamkeys/<nonce>, by which
// CloudTrail tells who made it.
type CreateAccessKey interface {
	CreateAccessKey(ctx context.Context, userName, nonce string) (Credentials, error)
}

// UpdateAccessKey sets the status to Active or Inactive, in one attempt: a later one
// could undo what a person did meanwhile. Setting it again is no error.
type UpdateAccessKey interface {
	UpdateAccessKey(ctx context.Context, userName, accessKeyID string, status Status) error
}

// DeleteAccessKey deletes the key for good, in one attempt: a person may have
// reactivated it before a later one. An unknown key is NoSuchEntity.
type DeleteAccessKey interface {
	DeleteAccessKey(ctx context.Context, userName, accessKeyID string) error
}

// GenerateCredentialReport asks for a credential report, and tells whether one is
// there. LimitExceeded means that IAM has no capacity for it now.
type GenerateCredentialReport interface {
	GenerateCredentialReport(ctx context.Context) (complete bool, err error)
}

// GetCredentialReport gives the credential report as CSV, and when it was generated.
// InProgress means that there is none yet, or none any more: generate it.
type GetCredentialReport interface {
	GetCredentialReport(ctx context.Context) (content []byte, generated time.Time, err error)
}

// GetAccountAuthorizationDetails gives all users with tags and attached policies, those
// of their groups too, from all pages.
type GetAccountAuthorizationDetails interface {
	GetAccountAuthorizationDetails(ctx context.Context) ([]User, error)
}

// GetAccountSummary tells whether the root user has an access key.
type GetAccountSummary interface {
	GetAccountSummary(ctx context.Context) (rootKey bool, err error)
}

// DescribeSecret gives the secret's versions, not its value. An unknown secret is NoSuchEntity.
type DescribeSecret interface {
	DescribeSecret(ctx context.Context, secretID string) (SecretDescription, error)
}

// CreateSecret makes a secret without a value and gives its ARN, and the ID of its
// version if the service made one all the same. A secret that exists already is no
// error, and gives an empty ARN.
type CreateSecret interface {
	CreateSecret(ctx context.Context, name string) (arn, versionID string, err error)
}

// PutSecretValue puts the version under its labels, which it takes from other versions,
// all at once. Putting the same version again is no error, and changes nothing.
type PutSecretValue interface {
	PutSecretValue(ctx context.Context, secretID string, version SecretVersion) error
}

// UpdateSecretVersionStage puts the staging label on the version moveTo, taking it off
// removeFrom; either is "" for none. A label that stands on another version than
// removeFrom is refused for certain, as InProgress, and stays there: so one caller of
// several gets it, whatever reads show.
type UpdateSecretVersionStage interface {
	UpdateSecretVersionStage(ctx context.Context, secretID, label, moveTo, removeFrom string) error
}

// GetCallerIdentity gives the ARN of the user that the credentials belong to, signed with them.
type GetCallerIdentity interface {
	GetCallerIdentity(ctx context.Context, credentials Credentials) (arn string, err error)
}

// AssumeRole takes on a role, for an hour. A role that does not exist, does not trust
// the caller or wants another external ID ("" gives none) is AccessDenied.
type AssumeRole interface {
	AssumeRole(ctx context.Context, roleARN, sessionName, externalID string) (Session, error)
}

// ListAccounts gives all accounts of the organization, from all pages.
type ListAccounts interface {
	ListAccounts(ctx context.Context) ([]Account, error)
}

// BatchImportFindings sends up to 100 findings to the account's Security Hub, and gives
// those that it refused. Security Hub not being enabled is NoSuchEntity.
type BatchImportFindings interface {
	BatchImportFindings(ctx context.Context, findings []SecurityFinding) (refused []RefusedFinding, err error)
}

// GetObject gives the content of an object of the report bucket, and the ETag of
// that. A missing one is NoSuchEntity.
type GetObject interface {
	GetObject(ctx context.Context, key string) (content []byte, etag string, err error)
}

// PutObject puts an object into the report bucket: over whatever is there when
// replaces is nil, else only over the content with that ETag or, if it is empty, where
// there is none. Anything else being there is InProgress.
type PutObject interface {
	PutObject(ctx context.Context, key, contentType string, content io.ReadSeeker, replaces *string) error
}

// Publish publishes to a topic and gives the message's ID.
type Publish interface {
	Publish(ctx context.Context, m Message) (messageID string, err error)
}

// SendEmail sends one mail from the stack's sender and gives its ID. A sender or
// recipient that SES does not let through is AccessDenied.
type SendEmail interface {
	SendEmail(ctx context.Context, to, subject, text string) (messageID string, err error)
}

// DescribeExecution gives the workflow's execution of that name, with its input and,
// once it has succeeded, its output. An unknown one is NoSuchEntity.
type DescribeExecution interface {
	DescribeExecution(ctx context.Context, workflow Workflow, name string) (Execution, error)
}

// ListExecutions gives the workflow's executions that were started at since or later,
// newest first, from all pages: those with that status, or all when it is empty. It
// gives neither input nor output, and may not show what was started or ended a moment
// ago. A workflow that is not deployed is NoSuchEntity.
type ListExecutions interface {
	ListExecutions(ctx context.Context, workflow Workflow, status ExecutionStatus, since time.Time) ([]Execution, error)
}
