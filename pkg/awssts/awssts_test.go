package awssts_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/awssts"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// config gives the SDK's configuration for a server that stands in for AWS.
func config(url string) aws.Config {
	return awsconfig.At(url, "eu-west-1", "function", "function")
}

func TestContract(t *testing.T) {
	account := iamkeystest.NewAccount()
	iamkeystest.TestSTS(t, account.Harness(), awssts.New(config(account.Serve(t).URL)))
}

func TestContractOnMoto(t *testing.T) {
	url := os.Getenv("IAMKEYS_MOTO")
	if url == "" {
		t.Skip("left out: IAMKEYS_MOTO names no moto server; make test starts one")
	}
	client := iam.NewFromConfig(config(url))
	harness := iamkeystest.Harness{
		AddUser: func(t *testing.T, _ ...iamkeys.Tag) string {
			name := fmt.Sprintf("awssts-%d", os.Getpid())
			if _, err := client.CreateUser(t.Context(), &iam.CreateUserInput{UserName: &name}); err != nil {
				t.Fatal(err)
			}
			return name
		},
		AddKey: func(t *testing.T, userName string) iamkeys.Credentials {
			out, err := client.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: &userName})
			if err != nil {
				t.Fatal(err)
			}
			return iamkeys.Credentials{UserName: userName, AccessKeyID: *out.AccessKey.AccessKeyId, Secret: iamkeys.NewSecret(*out.AccessKey.SecretAccessKey)}
		},
		SetStatus: func(t *testing.T, userName, accessKeyID string, status iamkeys.Status) {
			if _, err := client.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: &userName, AccessKeyId: &accessKeyID, Status: types.StatusType(status)}); err != nil {
				t.Fatal(err)
			}
		},
	}
	iamkeystest.TestSTS(t, harness, awssts.New(config(url)))
}

// The probe proves the secret too, not only that the key exists.
func TestWrongSecret(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.AddUser("alice")
	c := iamkeys.Credentials{UserName: "alice", AccessKeyID: account.AddKey("alice", 0), Secret: iamkeys.NewSecret("wJalr/another")}
	_, err := awssts.New(config(account.Serve(t).URL)).GetCallerIdentity(t.Context(), c)
	if e, ok := errors.AsType[*iamkeys.Error](err); !ok || e.OutcomeUnknown || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Errorf("got %v, want a refusal of the signature", err)
	}
	if strings.Contains(fmt.Sprintf("%#v", err), "another") {
		t.Errorf("the error holds the secret: %#v", err)
	}
}

// A function in one Region must not depend on STS in another.
func TestEndpoint(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "sts.us-east-1.amazonaws.com", "eu-west-1": "sts.eu-west-1.amazonaws.com", "cn-north-1": "sts.cn-north-1.amazonaws.com.cn",
	} {
		var host string
		c := aws.Config{Region: region, HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			host = r.URL.Host
			return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		})}}
		_, err := awssts.New(c).GetCallerIdentity(t.Context(), iamkeys.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", Secret: iamkeys.NewSecret("wJalr")})
		if err == nil || host != want {
			t.Errorf("%s: asked %s (%v), want %s", region, host, err, want)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
