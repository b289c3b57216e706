package main

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/smithy-go"

	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"

	"iamkeys/pkg/awsconfig"
)

// behind is an emulator that notes what reaches it.
func behind(t *testing.T, answer string) (*url.URL, *[]string) {
	t.Helper()
	var reached []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service, _ := scope(r)
		reached = append(reached, service+" "+r.Host)
		w.Write([]byte(answer))
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u, &reached
}

func config(endpoint, keyID string) aws.Config {
	c := awsconfig.At(endpoint, region, keyID, "secret")
	c.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return c
}

func TestGateway(t *testing.T) {
	ctx := t.Context()
	moto, atMoto := behind(t, `{}`)
	ministack, atMinistack := behind(t, `<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>`)
	g := &gateway{moto: moto, ministack: ministack}
	functions, developers := httptest.NewServer(g.functions()), httptest.NewServer(g.developers())
	defer functions.Close()
	defer developers.Close()

	cfg := config(functions.URL, "test")
	secrets := secretsmanager.NewFromConfig(cfg)
	describe := func() error {
		_, err := secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String("s")})
		return err
	}
	publish := func() {
		t.Helper()
		_, err := sns.NewFromConfig(cfg).Publish(ctx, &sns.PublishInput{
			TopicArn: aws.String("topic"), Subject: aws.String("A subject"), MessageStructure: aws.String("json"),
			Message:           aws.String(`{"default": "for machines", "email": "for people"}`),
			MessageAttributes: map[string]snstypes.MessageAttributeValue{"kind": {DataType: aws.String("String"), StringValue: aws.String("audit")}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := describe(); err != nil {
		t.Fatal(err)
	}
	publish()
	host := strings.TrimPrefix(functions.URL, "http://")
	if want := []string{"secretsmanager " + host}; !slices.Equal(*atMoto, want) {
		t.Errorf("moto got %v, want %v", *atMoto, want)
	}
	if want := []string{"sns " + host}; !slices.Equal(*atMinistack, want) {
		t.Errorf("ministack got %v, want %v", *atMinistack, want)
	}
	if got, want := g.Calls(), []Call{{"secretsmanager:DescribeSecret", 200}, {"sns:Publish", 200}}; !slices.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	m := g.Published()[0]
	if m.Subject != "A subject" || m.Text("email") != "for people" || m.Text("sqs") != "for machines" || m.Attributes["kind"] != "audit" {
		t.Errorf("published %+v", m)
	}

	t.Run("recorded before it is answered", func(t *testing.T) {
		for name, plant := range map[string]func(){
			"forwarded": func() {},
			"a fault":   func() { g.Fail(Fault{Action: "sns:Publish", Status: 400, Code: "No", Message: "no", Effect: true}) },
		} {
			g.Forget()
			plant()
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=Publish&Message=m"))
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/"+region+"/sns/aws4_request, Signature=none")
			answered := false
			g.functions().ServeHTTP(watched{httptest.NewRecorder(), func() {
				answered = true
				if len(g.Calls()) != 1 || len(g.Published()) != 1 {
					t.Errorf("%s: when its answer leaves, the calls are %v and the messages %v", name, g.Calls(), g.Published())
				}
			}}, r)
			if !answered {
				t.Errorf("%s: there was no answer", name)
			}
		}
	})
	t.Run("faults", func(t *testing.T) {
		g.Forget()
		g.Fail(Fault{Action: "secretsmanager:DescribeSecret", Skip: 1, Status: 400, Code: "ThrottlingException", Message: "slower"})
		before := len(*atMoto)
		first, second, third := describe(), describe(), describe()
		if e, ok := errors.AsType[smithy.APIError](second); first != nil || third != nil || !ok || e.ErrorCode() != "ThrottlingException" {
			t.Errorf("got %v, %v, %v", first, second, third)
		}
		if n := len(*atMoto) - before; n != 2 {
			t.Errorf("%d calls reached moto, want 2", n)
		}
	})
	t.Run("answer lost", func(t *testing.T) {
		g.Forget()
		g.Fail(Fault{Action: "secretsmanager:DescribeSecret", Effect: true})
		before := len(*atMoto)
		err := describe()
		if _, answered := errors.AsType[smithy.APIError](err); err == nil || answered {
			t.Errorf("got %v, want a broken connection", err)
		}
		if n := len(*atMoto) - before; n != 1 {
			t.Errorf("%d calls reached moto, want 1", n)
		}
	})
	t.Run("query and S3 errors", func(t *testing.T) {
		g.Forget()
		g.Fail(Fault{Action: "iam:ListUsers", Status: 403, Code: "AccessDenied", Message: "a < b"})
		g.Fail(Fault{Action: "s3:GetObject", Status: 404, Code: "NoSuchKey", Message: "gone"})
		_, err := iam.NewFromConfig(cfg).ListUsers(ctx, &iam.ListUsersInput{})
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "AccessDenied" || e.ErrorMessage() != "a < b" {
			t.Errorf("iam: got %v", err)
		}
		client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
		_, err = client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k/l")})
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "NoSuchKey" {
			t.Errorf("s3: got %v", err)
		}
	})
	t.Run("developers are not counted", func(t *testing.T) {
		g.Forget()
		g.Fail(Fault{Action: "secretsmanager:DescribeSecret", Status: 400, Code: "No", Message: "no"})
		_, err := secretsmanager.NewFromConfig(config(developers.URL, "test")).DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String("s")})
		if err != nil || len(g.Calls()) != 0 {
			t.Errorf("got %v, calls %v", err, g.Calls())
		}
	})
	t.Run("latency", func(t *testing.T) {
		g.Forget()
		g.SetLatency(time.Hour)
		defer g.SetLatency(0)
		before := len(*atMoto)
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String("s")}); err == nil || len(*atMoto) != before {
			t.Errorf("got %v, and moto was reached %d times", err, len(*atMoto)-before)
		}
	})
}

// watched calls a function when an answer begins to leave.
type watched struct {
	http.ResponseWriter
	leaving func()
}

func (w watched) WriteHeader(status int) {
	w.leaving()
	w.ResponseWriter.WriteHeader(status)
}

// TestUserKeysAreQuestioned: a request to ministack that a user's key signed
// goes past moto first.
func TestUserKeysAreQuestioned(t *testing.T) {
	moto, asked := behind(t, `{"code": "InvalidClientTokenId", "message": "no"}`)
	ministack, reached := behind(t, ``)
	g := &gateway{moto: moto, ministack: ministack}
	s := httptest.NewServer(g.developers())
	defer s.Close()
	_, err := sns.NewFromConfig(config(s.URL, "AKIAIOSFODNN7EXAMPLE")).ListTopics(t.Context(), &sns.ListTopicsInput{})
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "InvalidClientTokenId" || len(*asked) != 1 || len(*reached) != 0 {
		t.Errorf("got %v; moto was asked %v, ministack reached %v", err, *asked, *reached)
	}
}

// TestPins: the Python environment is made anew when the pins change, and
// nothing is installed but they, so everything must be pinned, for every Python,
// with hashes; and pins.txt is made from pins.in.
func TestPins(t *testing.T) {
	pin := regexp.MustCompile(`^([\w.\[\]-]+)==([\w.]+)(?: ; python_(?:full_)?version (<|>=) ["']3\.11["'])?( \\)?$`)
	hash := regexp.MustCompile(`^--hash=sha256:[0-9a-f]{64}( \\)?$`)
	read := func(name string) (pins map[string]bool) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		pins = map[string]bool{}
		unpaired := map[string]int{} // pins for older Pythons less those for newer ones
		last, hashes := "", 0
		closed := func() {
			if last != "" && hashes == 0 && name == "pins.txt" {
				t.Errorf("%s: %s has no hash", name, last)
			}
			last, hashes = "", 0
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			if hash.MatchString(line) && last != "" {
				hashes++
				continue
			}
			closed()
			m := pin.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%s: %s is no pin", name, line)
				continue
			}
			last = strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(m[1]))
			pins[last+"=="+m[2]+m[3]] = true
			unpaired[last] += map[string]int{"": 0, "<": 1, ">=": -1}[m[3]]
		}
		closed()
		for pinned, n := range unpaired {
			// What came into Python with 3.11, and Hypercorn therefore needs before it.
			if backport := slices.Contains([]string{"exceptiongroup", "taskgroup", "tomli"}, pinned); n != 0 && !backport || n != 1 && backport {
				t.Errorf("%s: %s is pinned for some Pythons only", name, pinned)
			}
		}
		return pins
	}
	asked, made := read("pins.in"), read("pins.txt")
	if !maps.Equal(asked, made) {
		t.Errorf("pins.txt is not made from pins.in: got %v, want %v", slices.Sorted(maps.Keys(made)), slices.Sorted(maps.Keys(asked)))
	}
	for _, want := range []string{"moto[server]==", "ministack==", "aws-sam-translator==", "aws-sam-cli==", "cfn-lint=="} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(made)), func(p string) bool { return strings.HasPrefix(p, want) }) {
			t.Errorf("%s is not pinned", want)
		}
	}
	// The scanners' are made likewise; pip wants their hashes.
	scanners, err := os.ReadFile("../.ci/scan.txt")
	if err != nil {
		t.Fatal(err)
	}
	for asked := range read("../.ci/scan.in") {
		if !strings.Contains(string(scanners), "\n"+asked+" \\\n    --hash=sha256:") {
			t.Errorf(".ci/scan.txt is not made from .ci/scan.in: it lacks %s", asked)
		}
	}
}
