package awssts_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

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
	server := os.Getenv("IAMKEYS_MOTO")
	if server == "" {
		t.Skip("left out: IAMKEYS_MOTO names no moto server; make test starts one")
	}
	client := iam.NewFromConfig(config(server))
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
	iamkeystest.TestSTS(t, harness, awssts.New(config(server)))
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

const memberARN = "arn:aws:iam::210987654321:role/team/iamkeys-member"

// A role is asked for with the external ID where there is one, and what it gives signs
// the calls that follow.
func TestAssumeRole(t *testing.T) {
	for _, externalID := range []string{"", "our word"} {
		var form url.Values
		var host string
		c := config("http://sts.eu-west-1.local")
		c.HTTPClient = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			form, _ = url.ParseQuery(string(body))
			host = r.URL.Host
			const answer = `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>wJalr</SecretAccessKey><SessionToken>token</SessionToken><Expiration>2026-11-23T10:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
		})}
		session, err := awssts.New(c).AssumeRole(t.Context(), memberARN, "iamkeys-run", externalID)
		if err != nil {
			t.Fatal(err)
		}
		if form.Get("RoleArn") != memberARN || form.Get("RoleSessionName") != "iamkeys-run" || form.Get("ExternalId") != externalID || form.Has("ExternalId") != (externalID != "") || host != "sts.eu-west-1.local" {
			t.Errorf("asked %s for %v", host, form)
		}
		credentials, err := awssts.As(c, session).Credentials.Retrieve(t.Context())
		if err != nil || credentials.AccessKeyID != "ASIA1" || credentials.SecretAccessKey != "wJalr" || credentials.SessionToken != "token" || !credentials.Expires.Equal(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)) {
			t.Errorf("calls would be signed with %v (%v)", credentials.AccessKeyID, err)
		}
		if shown := fmt.Sprintf("%+v %#v", session, session); strings.Contains(shown, "wJalr") || strings.Contains(shown, "token") {
			t.Errorf("the session shows its secrets: %s", shown)
		}
	}
}

func TestAssumeRoleFails(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		answer string
		code   iamkeys.Code
		says   string
	}{
		"refused":       {403, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>`, iamkeys.AccessDenied, memberARN},
		"by an SCP":     {403, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>with an explicit deny in a service control policy</Message></Error></ErrorResponse>`, iamkeys.AccessDenied, "service control policy"},
		"half a answer": {200, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId></Credentials></AssumeRoleResult></AssumeRoleResponse>`, iamkeys.Internal, memberARN},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config("http://sts.local")
			cfg.HTTPClient = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.answer)), Request: r}, nil
			})}
			_, err := awssts.New(cfg).AssumeRole(t.Context(), memberARN, "iamkeys-run", "")
			if e, ok := err.(*iamkeys.Error); !ok || e.Code != c.code || !strings.Contains(e.Message, c.says) {
				t.Errorf("got %v, want %s saying %q", err, c.code, c.says)
			}
		})
	}
}
