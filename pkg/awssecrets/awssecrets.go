// Package awssecrets speaks to Secrets Manager for the core. It never reads a
// secret's value.
package awssecrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

// client is what of the SDK's client is used.
type client interface {
	CreateSecret(context.Context, *secretsmanager.CreateSecretInput, ...func(*secretsmanager.Options)) (*secretsmanager.CreateSecretOutput, error)
	DescribeSecret(context.Context, *secretsmanager.DescribeSecretInput, ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error)
	PutSecretValue(context.Context, *secretsmanager.PutSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error)
	UpdateSecretVersionStage(context.Context, *secretsmanager.UpdateSecretVersionStageInput, ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error)
}

var (
	_ client                       = (*secretsmanager.Client)(nil)
	_ iamkeys.DescribeSecret       = (*SecretsManager)(nil)
	_ iamkeys.CreateSecretsManager = (*SecretsManager)(nil)
)

// SecretsManager implements the core's ports to Secrets Manager. Its errors are [iamkeys.Error].
type SecretsManager struct {
	client    client
	kmsKeyARN string
}

// New gives a SecretsManager. Secrets that it creates are encrypted with the KMS
// key, or with the account's aws/secretsmanager when kmsKeyARN is "".
func New(config aws.Config, kmsKeyARN string) *SecretsManager {
	return &SecretsManager{kmsKeyARN: kmsKeyARN, client: secretsmanager.NewFromConfig(config, func(o *secretsmanager.Options) {
		o.RetryMaxAttempts = 4
	})}
}

// DescribeSecret implements the port.
func (s *SecretsManager) DescribeSecret(ctx context.Context, secretID string) (iamkeys.SecretDescription, error) {
	const action = "secretsmanager:DescribeSecret"
	resource := "secret " + secretID
	out, err := s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &secretID})
	if err != nil {
		return iamkeys.SecretDescription{}, awserr.From(err, action, resource)
	}
	if aws.ToString(out.ARN) == "" {
		return iamkeys.SecretDescription{}, awserr.Incomplete(action, resource, "the secret's ARN")
	}
	return iamkeys.SecretDescription{
		ARN: *out.ARN, Name: aws.ToString(out.Name), Deleted: out.DeletedDate != nil,
		PrimaryRegion: aws.ToString(out.PrimaryRegion), Versions: out.VersionIdsToStages,
	}, nil
}

// CreateSecret implements the port.
func (s *SecretsManager) CreateSecret(ctx context.Context, name string) (arn, versionID string, err error) {
	const action = "secretsmanager:CreateSecret"
	in := &secretsmanager.CreateSecretInput{Name: &name, Description: aws.String("Access key of an IAM user, delivered by iamkeys")}
	if s.kmsKeyARN != "" {
		in.KmsKeyId = &s.kmsKeyARN
	}
	out, err := s.client.CreateSecret(ctx, in)
	if is(err, "ResourceExistsException") {
		return "", "", nil
	}
	if err != nil {
		return "", "", awserr.From(err, action, "secret "+name)
	}
	if aws.ToString(out.ARN) == "" {
		return "", "", awserr.Incomplete(action, "secret "+name, "the secret's ARN")
	}
	return *out.ARN, aws.ToString(out.VersionId), nil
}

// writeWithin bounds an attempt to put a value or a label: the caller must hear in
// time to try again, or to undo.
const writeWithin = 8 * time.Second

// once lets a write be attempted once: an answer to the last of several attempts would
// not tell whether an earlier one, whose answer was lost, took effect.
func once(o *secretsmanager.Options) { o.Retryer = aws.NopRetryer{} }

// PutSecretValue implements the port, in one attempt.
func (s *SecretsManager) PutSecretValue(ctx context.Context, secretID string, version iamkeys.SecretVersion) error {
	value, err := secretString(version.Credentials)
	if err != nil {
		return fmt.Errorf("writing version %s of secret %s: %w", version.ID, secretID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	_, err = s.client.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: &secretID, ClientRequestToken: &version.ID, VersionStages: version.Stages, SecretString: &value,
	}, once)
	return refusal(err, "secretsmanager:PutSecretValue", secretID)
}

// intentValue is the value of an intent. It is the same each time, so that a
// repeated put is no other value.
const intentValue = `{"Note":"iamkeys is making an access key. This version holds no secret."}`

// secretString gives a version's value: what the AWS SDKs read as the output of
// a credential_process, and whose key it is and since when.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
func secretString(c *iamkeys.Credentials) (string, error) {
	if c == nil {
		return intentValue, nil
	}
	value, err := json.Marshal(struct {
		Version         int
		AccessKeyId     string // as credential_process spells it
		SecretAccessKey string
		UserName        string
		CreateDate      string
	}{1, c.AccessKeyID, c.Secret.Reveal(), c.UserName, c.CreateDate.UTC().Format(time.RFC3339)})
	return string(value), err
}

// UpdateSecretVersionStage implements the port, in one attempt.
func (s *SecretsManager) UpdateSecretVersionStage(ctx context.Context, secretID, label, moveTo, removeFrom string) error {
	const action = "secretsmanager:UpdateSecretVersionStage"
	in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: &secretID, VersionStage: &label}
	if moveTo != "" {
		in.MoveToVersionId = &moveTo
	}
	if removeFrom != "" {
		in.RemoveFromVersionId = &removeFrom
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	_, err := s.client.UpdateSecretVersionStage(ctx, in, once)
	if is(err, "InvalidParameterException") { // so it answers for a label that stands elsewhere; there is no other such parameter
		return iamkeys.Failed(iamkeys.InProgress, err, "The staging label %s of secret %s does not stand where it was read. Try again later.", label, secretID)
	}
	return refusal(err, action, secretID)
}

// refusal gives err as [awserr.From] does, but for the quota of labels, which is no
// throttling as its code says elsewhere.
func refusal(err error, action, secretID string) error {
	if is(err, "LimitExceededException") {
		return iamkeys.Failed(iamkeys.SecretUnavailable, err, "%s for secret %s exceeds a quota of Secrets Manager; a secret has 20 staging labels at most. Take off those that nobody needs, then try again.", action, secretID)
	}
	return awserr.From(err, action, "secret "+secretID)
}

// is reports whether Secrets Manager refused with that code.
func is(err error, code string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == code
}
