package awss3_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/awss3"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// config gives the SDK's configuration for a server that stands in for AWS.
func config(url string) aws.Config {
	return awsconfig.At(url, "us-east-1", "function", "function")
}

func TestContract(t *testing.T) {
	s3 := awss3.New(config(iamkeystest.NewAccount().Serve(t).URL), "iamkeys-reports")
	iamkeystest.TestS3(t, s3)
	iamkeystest.TestS3Conditions(t, s3) // moto takes no notice of conditions
}

// A server that stands in for S3 is told the bucket in the path: it has no host
// name per bucket, as S3 has.
func TestBucket(t *testing.T) {
	account := iamkeystest.NewAccount()
	c := config("http://aws")
	c.HTTPClient = &http.Client{Transport: account.Serve(t)}
	if err := awss3.New(c, "iamkeys-reports").PutObject(t.Context(), "reports/1.csv", "text/csv", strings.NewReader("a,b"), nil); err != nil {
		t.Fatal(err)
	}
	if o := account.Objects()["reports/1.csv"]; string(o.Content) != "a,b" || o.ContentType != "text/csv" {
		t.Errorf("the bucket holds %v", account.Objects())
	}

	var host string
	c.BaseEndpoint, c.HTTPClient = nil, &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		host = r.URL.Host
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})}
	if _, _, err := awss3.New(c, "iamkeys-reports").GetObject(t.Context(), "reports/1.csv"); err != nil || host != "iamkeys-reports.s3.us-east-1.amazonaws.com" {
		t.Errorf("AWS is asked at %s (%v)", host, err)
	}
}

// The bucket's lifecycle rule goes by the tag: what carries it expires.
func TestWhatExpires(t *testing.T) {
	var tag string
	c := config("http://aws")
	c.HTTPClient = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		tag = r.Header.Get("X-Amz-Tagging")
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})}
	for key, want := range map[string]string{
		"reports/123456789012/2026/11/23/20261123T060000Z.json": "iamkeys%3Areport=run", "reports/organization/2026/11/23/20261123T060000Z.accounts.json": "iamkeys%3Areport=run",
		"reports/123456789012/latest.json": "", "reports/organization/latest.json": "", "reports/123456789012/securityhub.json": "", "markers/off/123456789012/AKIA.json": "",
	} {
		if err := awss3.New(c, "iamkeys-reports").PutObject(t.Context(), key, "application/json", strings.NewReader("{}"), nil); err != nil || tag != want {
			t.Errorf("%s is put with the tag %q (%v), want %q", key, tag, err, want)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestContractOnMoto(t *testing.T) {
	url := os.Getenv("IAMKEYS_MOTO")
	if url == "" {
		t.Skip("left out: IAMKEYS_MOTO names no moto server; make test starts one")
	}
	client := s3.NewFromConfig(config(url), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("iamkeys-awss3")}); err != nil {
		t.Fatal(err)
	}
	iamkeystest.TestS3(t, awss3.New(config(url), "iamkeys-awss3"))
}

func TestTrouble(t *testing.T) {
	calls := map[string]func(context.Context, *awss3.S3) error{
		"s3:GetObject": func(ctx context.Context, s *awss3.S3) error { _, _, err := s.GetObject(ctx, "there"); return err },
		"s3:PutObject": func(ctx context.Context, s *awss3.S3) error {
			return s.PutObject(ctx, "there", "text/csv", strings.NewReader("a,b"), nil)
		},
	}
	for action, call := range calls {
		for _, trouble := range iamkeystest.Troubles {
			t.Run(action+"/"+trouble.String(), func(t *testing.T) {
				account := iamkeystest.NewAccount()
				account.SetObject("there", []byte("before"))
				server := account.Serve(t)
				server.Trouble = func(int, string) iamkeystest.Trouble { return trouble }
				synctest.Test(t, func(t *testing.T) {
					c := config("http://aws")
					c.HTTPClient = &http.Client{Transport: server}
					err := call(t.Context(), awss3.New(c, "iamkeys-reports"))
					if trouble == iamkeystest.Cut && action == "s3:PutObject" && err == nil {
						return // its answer has no body that could be cut
					}
					e, ok := errors.AsType[*iamkeys.Error](err)
					throttled := trouble == iamkeystest.Throttling
					certain := throttled || trouble == iamkeystest.Proxy // of an answer without a code, S3's client makes one of the status
					if !ok || e.OutcomeUnknown == certain || (e.Code == iamkeys.Throttled) != throttled || e.Code == iamkeys.NoSuchEntity || len(server.Requests) > 4 {
						t.Errorf("got %v after %d attempts", err, len(server.Requests))
					}
				})
			})
		}
	}
}

// A missing object is nothing special; a bucket that is missing, or that may not
// be listed, must not pass for a missing object.
func TestNotMissing(t *testing.T) {
	server := iamkeystest.NewAccount().Serve(t)
	server.Fault = func(int, string) iamkeystest.Fault { return iamkeystest.Refused }
	if _, _, err := awss3.New(config(server.URL), "iamkeys-reports").GetObject(t.Context(), "there"); iamkeys.CodeOf(err) != iamkeys.AccessDenied {
		t.Errorf("got %v, want AccessDenied", err)
	}
}
