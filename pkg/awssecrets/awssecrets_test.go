package awssecrets_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/awssecrets"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// config gives the SDK's configuration for a server that stands in for AWS.
func config(url string) aws.Config {
	return awsconfig.At(url, "eu-west-1", "function", "function")
}

// within gives a configuration that needs no network, only the round tripper.
func within(r http.RoundTripper) aws.Config {
	c := config("http://aws")
	c.HTTPClient = &http.Client{Transport: r}
	return c
}

func TestContract(t *testing.T) {
	account := iamkeystest.NewAccount()
	iamkeystest.TestSecretsManager(t, account.Harness(), awssecrets.New(config(account.Serve(t).URL), ""))
}

func TestContractOnMoto(t *testing.T) {
	url := os.Getenv("IAMKEYS_MOTO")
	if url == "" {
		t.Skip("left out: IAMKEYS_MOTO names no moto server; make test starts one")
	}
	var serial atomic.Int64
	client := secretsmanager.NewFromConfig(config(url))
	harness := iamkeystest.Harness{
		SecretName: func() string {
			return fmt.Sprintf("iamkeys/awssecrets-%d-%d/access-key", os.Getpid(), serial.Add(1))
		},
		ScheduleDeletion: func(t *testing.T, name string) {
			if _, err := client.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: &name}); err != nil {
				t.Fatal(err)
			}
		},
	}
	iamkeystest.TestSecretsManager(t, harness, awssecrets.New(config(url), ""))
}

const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY<&>EXAMPLEKEY"

var delivery = iamkeys.SecretVersion{ID: iamkeys.VersionID("alice", "AKIAIOSFODNN7EXAMPLE"), Stages: []string{"AWSCURRENT"}, Credentials: &iamkeys.Credentials{
	UserName: "alice", AccessKeyID: "AKIAIOSFODNN7EXAMPLE", CreateDate: iamkeystest.Epoch, Secret: iamkeys.NewSecret(secret),
}}

var intent = iamkeys.SecretVersion{ID: "iamkeys-intent-01234567-1764000000-0a1b2c-none", Stages: []string{"iamkeys-intent"}}

// A replica says so, and so does the primary of replicas.
func TestPrimaryRegion(t *testing.T) {
	account := iamkeystest.NewAccount()
	secrets := awssecrets.New(config(account.Serve(t).URL), "")
	account.PutSecret("iamkeys/alice", "somebody-elses-0000000000000000000")
	for _, region := range []string{"", "eu-west-1", "us-east-1"} {
		account.MakeReplica("iamkeys/alice", region)
		if d, err := secrets.DescribeSecret(t.Context(), "iamkeys/alice"); err != nil || d.PrimaryRegion != region {
			t.Errorf("described as %+v, %v, want the primary Region %q", d, err, region)
		}
	}
}

// Consumers read the value: its form is a promise to them.
func TestSecretString(t *testing.T) {
	account := iamkeystest.NewAccount()
	server := account.Serve(t)
	secrets := awssecrets.New(config(server.URL), "")
	if _, _, err := secrets.CreateSecret(t.Context(), "iamkeys/alice"); err != nil {
		t.Fatal(err)
	}
	if err := secrets.PutSecretValue(t.Context(), "iamkeys/alice", intent); err != nil {
		t.Fatal(err)
	}
	// The first version is current, so that a consumer may read it: it must see
	// at once that there is no key in it.
	if got, want := server.SecretString("iamkeys/alice"), `{"Note":"iamkeys is making an access key. This version holds no secret."}`; got != want {
		t.Errorf("an intent's value is %s, want %s", got, want)
	}
	if err := secrets.PutSecretValue(t.Context(), "iamkeys/alice", delivery); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(server.SecretString("iamkeys/alice")), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"Version": 1.0, "AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": secret, "UserName": "alice", "CreateDate": "2026-11-23T09:00:00Z"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("a delivery's value is %v, want %v", got, want)
	}
}

// What puts a value or a label is attempted once, and tells whether it may have taken
// effect; other calls are repeated, within bounds.
func TestTrouble(t *testing.T) {
	calls := map[string]func(context.Context, *awssecrets.SecretsManager) error{
		"secretsmanager:DescribeSecret": func(ctx context.Context, s *awssecrets.SecretsManager) error {
			_, err := s.DescribeSecret(ctx, "there")
			return err
		},
		"secretsmanager:CreateSecret": func(ctx context.Context, s *awssecrets.SecretsManager) error {
			_, _, err := s.CreateSecret(ctx, "new")
			return err
		},
		"secretsmanager:PutSecretValue": func(ctx context.Context, s *awssecrets.SecretsManager) error {
			return s.PutSecretValue(ctx, "there", delivery)
		},
		"secretsmanager:UpdateSecretVersionStage": func(ctx context.Context, s *awssecrets.SecretsManager) error {
			return s.UpdateSecretVersionStage(ctx, "there", "iamkeys-lock", "somebody-elses-0000000000000000000", "")
		},
	}
	for action, call := range calls {
		for _, trouble := range iamkeystest.Troubles {
			t.Run(action+"/"+trouble.String(), func(t *testing.T) {
				account := iamkeystest.NewAccount()
				account.PutSecret("there", "somebody-elses-0000000000000000000")
				account.PutSecret("there", "somebody-elses-0000000000000000001")
				server := account.Serve(t)
				server.Trouble = func(int, string) iamkeystest.Trouble { return trouble }
				synctest.Test(t, func(t *testing.T) {
					err := call(t.Context(), awssecrets.New(within(server), ""))
					got, ok := errors.AsType[*iamkeys.Error](err)
					took := trouble == iamkeystest.FaultAfter || trouble == iamkeystest.HangUp || trouble == iamkeystest.Cut
					again := took && len(server.Requests) > 1 // and the first one's effect makes the next a success
					switch {
					case err == nil && again && action == "secretsmanager:CreateSecret":
					case !ok:
						t.Fatalf("got %v, want an *iamkeys.Error", err)
					case trouble == iamkeystest.Throttling && (got.Code != iamkeys.Throttled || got.OutcomeUnknown):
						t.Errorf("got %v (outcome unknown: %t), want Throttled for certain", got, got.OutcomeUnknown)
					case trouble != iamkeystest.Throttling && !got.OutcomeUnknown:
						t.Errorf("got %v for certain, want an outcome unknown", got)
					}
					n := len(server.Requests)
					once := action == "secretsmanager:PutSecretValue" || action == "secretsmanager:UpdateSecretVersionStage"
					if once && n != 1 || n > 4 || n == 1 && trouble == iamkeystest.Throttling && !once {
						t.Errorf("there were %d attempts", n)
					}
					if delivered := account.Held("there") == delivery.Credentials.AccessKeyID; delivered != (took && action == "secretsmanager:PutSecretValue") {
						t.Errorf("the secret holds the key: %t", delivered)
					}
					if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
						t.Errorf("the error holds the secret: %#v", err)
					}
				})
			})
		}
	}
}

// A write that gets no answer ends in time to be repeated or undone.
func TestWritesEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silence := roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		secrets, ctx := awssecrets.New(within(silence), ""), t.Context()
		for _, err := range []error{secrets.PutSecretValue(ctx, "there", delivery), secrets.UpdateSecretVersionStage(ctx, "there", "iamkeys-lock", intent.ID, "")} {
			if e, ok := errors.AsType[*iamkeys.Error](err); !ok || !e.OutcomeUnknown || ctx.Err() != nil {
				t.Errorf("got %v, want an outcome unknown before the caller's time is over", err)
			}
		}
	})
}

// A secret is made without a value, with the configured key, and says what it is.
func TestCreateSecret(t *testing.T) {
	for _, kmsKey := range []string{"", "arn:aws:kms:eu-west-1:123456789012:key/1-2"} {
		var sent map[string]any
		c := within(roundTrip(func(r *http.Request) (*http.Response, error) {
			if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
				t.Error(err)
			}
			body := `{"ARN":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/alice-AbCdEf","Name":"iamkeys/alice"}`
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
		}))
		if _, _, err := awssecrets.New(c, kmsKey).CreateSecret(t.Context(), "iamkeys/alice"); err != nil {
			t.Fatal(err)
		}
		got, _ := sent["KmsKeyId"].(string)
		if got != kmsKey || sent["Name"] != "iamkeys/alice" || sent["Description"] == "" || sent["SecretString"] != nil || sent["Tags"] != nil {
			t.Errorf("with key %q it sent %v", kmsKey, sent)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
