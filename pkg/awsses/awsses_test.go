package awsses_test

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/awsses"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

const sender = "iamkeys@example.com"

func config(url string) aws.Config {
	return awsconfig.At(url, "eu-west-1", "function", "function")
}

func TestContract(t *testing.T) {
	iamkeystest.TestSES(t, awsses.New(config(iamkeystest.NewAccount().Serve(t).URL), sender))
}

func TestContractOnMoto(t *testing.T) {
	url := os.Getenv("IAMKEYS_MOTO")
	if url == "" {
		t.Skip("left out: IAMKEYS_MOTO names no moto server; make test starts one")
	}
	if _, err := sesv2.NewFromConfig(config(url)).CreateEmailIdentity(t.Context(), &sesv2.CreateEmailIdentityInput{EmailIdentity: aws.String(sender)}); err != nil {
		t.Fatal(err)
	}
	iamkeystest.TestSES(t, awsses.New(config(url), sender))
}

// What is sent is what arrives.
func TestSendEmail(t *testing.T) {
	account := iamkeystest.NewAccount()
	want := iamkeystest.SentMail{To: "team+keys@example.com", Subject: "IAM key rotation: 1 < 2 & \"three\"", Text: "Grüße\r\nBcc: nobody@example.com\n\n.\n"}
	if _, err := awsses.New(config(account.Serve(t).URL), sender).SendEmail(t.Context(), want.To, want.Subject, want.Text); err != nil {
		t.Fatal(err)
	}
	if got := account.Mails(); len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTrouble(t *testing.T) {
	for _, trouble := range iamkeystest.Troubles {
		t.Run(trouble.String(), func(t *testing.T) {
			account := iamkeystest.NewAccount()
			server := account.Serve(t)
			server.Trouble = func(int, string) iamkeystest.Trouble { return trouble }
			synctest.Test(t, func(t *testing.T) {
				c := config("http://aws")
				c.HTTPClient = &http.Client{Transport: server}
				_, err := awsses.New(c, sender).SendEmail(t.Context(), "team@example.com", "s", "t")
				e, ok := errors.AsType[*iamkeys.Error](err)
				throttled := trouble == iamkeystest.Throttling
				if !ok || e.OutcomeUnknown == throttled || (e.Code == iamkeys.Throttled) != throttled || len(server.Requests) > 3 || !strings.Contains(e.Message, sender) {
					t.Errorf("got %v after %d attempts", err, len(server.Requests))
				}
			})
		})
	}
}

// The sender may not be verified, or the policy lack ses:SendEmail.
func TestRefused(t *testing.T) {
	server := iamkeystest.NewAccount().Serve(t)
	server.Fault = func(int, string) iamkeystest.Fault { return iamkeystest.Refused }
	_, err := awsses.New(config(server.URL), sender).SendEmail(t.Context(), "team@example.com", "s", "t")
	if e, ok := errors.AsType[*iamkeys.Error](err); !ok || e.Code != iamkeys.AccessDenied || !strings.Contains(e.Message, "ses:SendEmail on mail from "+sender) {
		t.Errorf("got %v, want AccessDenied naming action and sender", err)
	}
}
