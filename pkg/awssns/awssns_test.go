package awssns_test

import (
	"errors"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/awssns"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

const topic = "arn:aws:sns:eu-west-1:123456789012:iamkeys"

// config gives the SDK's configuration for a server that stands in for AWS.
func config(url string) aws.Config {
	return awsconfig.At(url, "eu-west-1", "function", "function")
}

func TestContract(t *testing.T) {
	iamkeystest.TestSNS(t, awssns.New(config(iamkeystest.NewAccount().Serve(t).URL), topic))
}

func TestContractOnMoto(t *testing.T) {
	url := os.Getenv("IAMKEYS_MOTO")
	if url == "" {
		t.Skip("left out: IAMKEYS_MOTO names no moto server; make test starts one")
	}
	out, err := sns.NewFromConfig(config(url)).CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("awssns")})
	if err != nil {
		t.Fatal(err)
	}
	iamkeystest.TestSNS(t, awssns.New(config(url), *out.TopicArn))
}

// What is published is what arrives, but for attributes without a value.
func TestPublish(t *testing.T) {
	account := iamkeystest.NewAccount()
	m := iamkeys.Message{Subject: "IAM access keys: 1 finding", Text: "One & <two>\n“three”\n", JSON: []byte(`{"a":"<b> & \"c\" ü"}`)}
	m.Attributes = []iamkeys.Attribute{{Name: "account", Value: "123456789012"}, {Name: "new", Value: "3", Number: true}, {Name: "owner"}, {Name: "findings", Number: true}}
	if _, err := awssns.New(config(account.Serve(t).URL), topic).Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := account.Messages()[0]
	want := m
	want.Attributes = m.Attributes[:2]
	if got.Attributes[0].Name == "new" { // the SDK sends them in any order
		got.Attributes[0], got.Attributes[1] = got.Attributes[1], got.Attributes[0]
	}
	if !reflect.DeepEqual(got, want) {
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
				_, err := awssns.New(c, topic).Publish(t.Context(), iamkeys.Message{Subject: "s", Text: "t", JSON: []byte("{}")})
				if trouble == iamkeystest.Cut && err == nil && len(account.Messages()) == 1 {
					return // the message's ID came before the cut
				}
				e, ok := errors.AsType[*iamkeys.Error](err)
				throttled := trouble == iamkeystest.Throttling
				if !ok || e.OutcomeUnknown == throttled || (e.Code == iamkeys.Throttled) != throttled || len(server.Requests) > 4 || !strings.Contains(e.Message, topic) {
					t.Errorf("got %v after %d attempts", err, len(server.Requests))
				}
			})
		})
	}
}

// Lambda's policy may lack sns:Publish, or the KMS key's may.
func TestDenied(t *testing.T) {
	server := iamkeystest.NewAccount().Serve(t)
	server.Fault = func(int, string) iamkeystest.Fault { return iamkeystest.Refused }
	_, err := awssns.New(config(server.URL), topic).Publish(t.Context(), iamkeys.Message{Subject: "s", Text: "t", JSON: []byte("{}")})
	if e, ok := errors.AsType[*iamkeys.Error](err); !ok || e.Code != iamkeys.AccessDenied || !strings.Contains(e.Message, "sns:Publish on topic "+topic) {
		t.Errorf("got %v, want AccessDenied naming action and topic", err)
	}
}

// What is its JSON alone goes as it is, without a structure around it.
func TestPublishRaw(t *testing.T) {
	account := iamkeystest.NewAccount()
	m := iamkeys.Message{JSON: []byte(`{"version":"1.0","source":"custom"}`), Attributes: []iamkeys.Attribute{{Name: "kind", Value: "audit"}}}
	if _, err := awssns.New(config(account.Serve(t).URL), topic).Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := account.Chats(); len(got) != 1 || len(account.Messages()) != 0 || !reflect.DeepEqual(got[0], m) {
		t.Errorf("got %+v, want %+v", got, m)
	}
}
