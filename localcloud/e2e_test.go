package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// These tests run the real binaries, deployed by the project's own template,
// and look at what they leave in the account. One cloud serves them all, one
// after the other; each works on users of its own.

var shared struct {
	once   sync.Once
	deploy sync.Once
	cloud  *Cloud
	values map[string]string // of the stack's parameters, as they are for every test
	err    error
}

// e2eParameters leave out the wait for other Regions to accept a new key, and
// let tests begin more rotations than a day has; members have a role, findings go
// to Security Hub, owners get mail.
var e2eParameters = map[string]string{
	"PropagationSeconds": "0", "MaxRotationsPerRun": "40", "MemberRole": memberRole, "ExternalId": demoExternalID, "SecurityHub": "on", "SenderAddress": "iamkeys@example.com", "OwnerMailDomains": "example.com",
}

func TestMain(m *testing.M) {
	if isConsumer, err := consumer(); isConsumer {
		if err != nil {
			fmt.Fprintln(os.Stderr, "consumer:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if shared.cloud != nil {
		if err := shared.cloud.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the local cloud:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// sharedCloud is the cloud that the tests share, with the calls, faults and
// messages of earlier tests forgotten; nothing may be deployed to it yet.
func sharedCloud(t *testing.T) *Cloud {
	t.Helper()
	if os.Getenv("IAMKEYS_LOCALCLOUD") == "" {
		t.Skip("needs the local cloud: run go run ./localcloud test")
	}
	shared.once.Do(func() {
		var root string
		if root, shared.err = projectRoot(); shared.err == nil {
			shared.cloud, shared.err = Start(context.Background(), Options{Root: root, LogLevel: "DEBUG"})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	shared.cloud.Forget()
	return shared.cloud
}

// deployedStack is the shared cloud with the stack deployed, whose parameters are the
// same for every test.
func deployedStack(t *testing.T) *Cloud {
	t.Helper()
	c := sharedCloud(t)
	shared.deploy.Do(func() {
		if shared.err = c.Deploy(context.Background(), e2eParameters); shared.err == nil {
			shared.values, shared.err = c.parameters(context.Background())
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() { // the test's own have run, and its context has ended
		if left, err := c.parameters(context.Background()); err != nil || !maps.Equal(left, shared.values) {
			t.Errorf("the stack's parameters are left as %v (%v), want %v", left, err, shared.values)
		}
	})
	return c
}

// configure gives the stack other parameters until the test ends.
func (c *Cloud) configure(t *testing.T, parameters map[string]string) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Deploy(context.Background(), shared.values); err != nil {
			t.Errorf("putting the stack's parameters back: %v", err)
		}
	})
	if err := c.Deploy(t.Context(), parameters); err != nil {
		t.Fatal(err)
	}
}

// invoke invokes a function with an event written as JSON.
func (c *Cloud) invoke(t *testing.T, logicalID, event string, args ...any) Result {
	t.Helper()
	if len(args) > 0 {
		event = fmt.Sprintf(event, args...)
	}
	r, err := c.Invoke(t.Context(), logicalID, []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// begin invokes a function with an event and does not wait for its answer.
func (c *Cloud) begin(t *testing.T, logicalID, event string) {
	t.Helper()
	name, err := c.Resource(logicalID)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.wire().send(t.Context(), "lambda", http.MethodPost, "/2015-03-31/functions/"+name+"/invocations", http.Header{"X-Amz-Invocation-Type": {"Event"}}, []byte(event)); err != nil {
		t.Fatalf("starting %s: %v", logicalID, err)
	}
}

// must decodes the answer of a function that may not fail.
func must[Out any](t *testing.T, r Result) Out {
	t.Helper()
	if r.ErrorType != "" {
		t.Fatalf("got %s: %s", r.ErrorType, r.Message)
	}
	var out Out
	if err := json.Unmarshal(r.Payload, &out); err != nil {
		t.Fatalf("%v in %s", err, r.Payload)
	}
	return out
}

// refused checks a refusal's name, and that its message has these words.
func refused(t *testing.T, r Result, errorType string, words ...string) {
	t.Helper()
	if r.ErrorType != errorType {
		t.Fatalf("got %q %s, want %s", r.ErrorType, r.Payload, errorType)
	}
	for _, word := range words {
		if !strings.Contains(r.Message, word) {
			t.Errorf("the message of %s does not have %q: %s", errorType, word, r.Message)
		}
	}
}

// seed makes a user with these keys, under a name of the test's own.
func (c *Cloud) seed(t *testing.T, name string, keys ...AccessKey) []Credential {
	t.Helper()
	made, err := c.Seed(t.Context(), User{UserName: name, AccessKeys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return made[name]
}

// statuses are a user's keys as IAM has them now.
func (c *Cloud) statuses(t *testing.T, userName string) map[string]string {
	t.Helper()
	out, err := iam.NewFromConfig(c.Config()).ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: &userName})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, k := range out.AccessKeyMetadata {
		all[aws.ToString(k.AccessKeyId)] = string(k.Status)
	}
	return all
}

// secret is a secret's current value.
func (c *Cloud) secret(t *testing.T, id string) (value, versionID string) {
	t.Helper()
	out, err := secretsmanager.NewFromConfig(c.Config()).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &id})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(out.SecretString), aws.ToString(out.VersionId)
}

// identity is who AWS says that these credentials belong to.
func (c *Cloud) identity(ctx context.Context, accessKeyID, secret string) (string, error) {
	cfg := c.Config()
	cfg.Credentials = credentials.NewStaticCredentialsProvider(accessKeyID, secret, "")
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.Arn), nil
}

// actions are the functions' calls since the last Forget, in order.
func (c *Cloud) actions() []string {
	var all []string
	for _, call := range c.Calls() {
		all = append(all, call.Action)
	}
	return all
}

func ago(d time.Duration) time.Time { return time.Now().Add(-d).Truncate(time.Second) }

type listed struct {
	UserName   string
	AccessKeys []struct {
		AccessKeyID, Status string
		CreateDate          time.Time
		AgeDays             int
	}
}

type lastUsed struct {
	UserName   string
	AccessKeys []struct {
		AccessKeyID, Status string
		LastUsedDate        *time.Time
		ServiceName, Region *string
		NeverUsed           bool
		IdleDays            int
	}
}

type created struct {
	UserName, AccessKeyID, SecretARN, SecretVersionID string
	CreateDate                                        time.Time
	Created, Verified                                 bool
}

type changed struct {
	UserName, AccessKeyID, Status string
	Changed                       bool
	LastUsedDate                  *time.Time
}

type deleted struct {
	UserName, AccessKeyID string
	Deleted               bool
}

const exampleKey = "AKIAIOSFODNN7EXAMPLE"

func TestInvalidInput(t *testing.T) {
	c := deployedStack(t)
	long := strings.Repeat("a", 129)
	type bad struct{ event, field string }
	everywhere := []bad{
		{`null`, ""}, {`[]`, ""}, {`"a user"`, ""}, {`7`, ""},
		{`{"userName": 5}`, "userName"},
		{`{"userName": "a", "surprise": 1}`, "surprise"},
	}
	named := []bad{
		{`{}`, "userName"},
		{`{"userName": ""}`, "userName"},
		{`{"userName": "` + long + `"}`, "userName"},
		{`{"userName": "two words"}`, "userName"},
		{`{"userName": "../etc"}`, "userName"},
		{`{"userName": "jürgen"}`, "userName"},
	}
	key := func(field string) []bad {
		return []bad{
			{`{"userName": "a", "` + field + `": "short"}`, field},
			{`{"userName": "a", "` + field + `": "AKIA-NOT-A-KEY-ID-1"}`, field},
			{`{"userName": "a", "` + field + `": "` + long + `"}`, field},
			{`{"userName": "a", "` + field + `": 5}`, field},
		}
	}
	cases := map[string][]bad{
		"ListFunction":     slices.Concat(everywhere, named),
		"LastUsedFunction": slices.Concat(everywhere, named, key("accessKeyId")),
		"CreateFunction": slices.Concat(everywhere, named, key("replaces"), []bad{
			{`{"userName": "a", "secretId": "elsewhere/a"}`, "secretId"},
			{`{"userName": "a", "verify": "yes"}`, "verify"},
		}),
		"DeactivateFunction": slices.Concat(everywhere, named, key("accessKeyId"), []bad{
			{`{"userName": "a"}`, "accessKeyId"},
			{`{"userName": "a", "accessKeyId": "` + exampleKey + `", "quietHours": -1}`, "quietHours"},
			{`{"userName": "a", "accessKeyId": "` + exampleKey + `", "replacedBy": "short"}`, "replacedBy"},
		}),
		"ActivateFunction": slices.Concat(everywhere, named, key("accessKeyId"), []bad{{`{"userName": "a"}`, "accessKeyId"}}),
		"DeleteFunction": slices.Concat(everywhere, named, key("accessKeyId"), []bad{
			{`{"userName": "a"}`, "accessKeyId"},
			{`{"userName": "a", "accessKeyId": "` + exampleKey + `", "replacedBy": "short"}`, "replacedBy"},
		}),
		"AuditFunction": {
			{`null`, ""}, {`[]`, ""}, {`"now"`, ""},
			{`{"surprise": 1}`, "surprise"},
			{`{"notify": "sometimes"}`, "notify"},
			{`{"inventory": "guess"}`, "inventory"},
			{`{"asOf": "yesterday"}`, "asOf"},
			{`{"asOf": 5}`, "asOf"},
		},
		"RetireFunction": {
			{`{"userName": "two words", "accessKeyId": "` + exampleKey + `", "stage": "warning"}`, "userName"},
			{`{"userName": "a", "accessKeyId": "` + exampleKey + `", "stage": "Warning"}`, "stage"},
			{`{"userName": "a", "accessKeyId": "` + exampleKey + `", "stage": "warning", "insist": "true"}`, "insist"},
			{`{"userName": "a", "accessKeyId": "` + exampleKey + `", "stage": "warning", "execution": {"name": "retire-` + exampleKey + `", "started": "yesterday"}}`, "execution.started"},
		},
		"UnusedFunction": {{`{"limit": 0}`, "limit"}, {`{"limit": 51}`, "limit"}, {`{"limit": "5"}`, "limit"}, {`{"surprise": 1}`, "surprise"}},
		"ExposedFunction": {
			{`{"event": [], "execution": "x"}`, "event"},
			{`{"event": {"detail": {}}}`, "execution"},
			{`{"event": {"detail": {}}, "execution": "x", "surprise": 1}`, "surprise"},
		},
		"NotifyFunction": {
			{`{"stage": "warning"}`, "retirement"},
			{`{"stage": "warning", "retirement": {"userName": "a", "accessKeyId": "` + exampleKey + `", "surprise": 1}}`, "retirement.surprise"},
			{`{"stage": "warning", "retirement": {"userName": "a", "accessKeyId": "` + exampleKey + `", "noticeSeconds": -1}}`, "retirement.noticeSeconds"},
			{`{"stage": "exposed", "exposure": {"keys": "x"}}`, "exposure.keys"},
		},
		"DigestFunction": {
			{`{}`, "report"},
			{`{"report": {"bucket": "elsewhere", "prefix": "reports/` + accountID + `/2026/11/23/run"}}`, "report.bucket"},
			{`{"report": {"bucket": "elsewhere", "prefix": "reports/` + accountID + `/2026/11/23/../../x"}}`, "report.prefix"},
			{`{"responsePayload": {"errorType": "StoreFailed"}}`, "report.prefix"},
		},
	}
	for function, events := range cases {
		t.Run(function, func(t *testing.T) {
			for _, bad := range events {
				refused(t, c.invoke(t, function, bad.event), "InvalidInput", bad.field)
			}
		})
	}
	if calls := c.actions(); len(calls) != 0 {
		t.Errorf("invalid input led to AWS calls: %v", calls)
	}
}

func TestNoSuchEntity(t *testing.T) {
	c := deployedStack(t)
	c.seed(t, "nse-here", AccessKey{CreateDate: ago(400 * day)})
	other := c.seed(t, "nse-other", AccessKey{})[0].AccessKeyID
	for function, events := range map[string][]string{
		"ListFunction":       {`{"userName": "nse-gone"}`},
		"LastUsedFunction":   {`{"userName": "nse-gone"}`, `{"accessKeyId": "AKIANOSUCHKEY0000000"}`, `{"userName": "nse-here", "accessKeyId": "` + other + `"}`},
		"CreateFunction":     {`{"userName": "nse-gone"}`, `{"userName": "nse-here", "replaces": "` + other + `"}`},
		"DeactivateFunction": {`{"userName": "nse-gone", "accessKeyId": "` + exampleKey + `"}`, `{"userName": "nse-here", "accessKeyId": "` + other + `"}`},
		"ActivateFunction":   {`{"userName": "nse-gone", "accessKeyId": "` + exampleKey + `"}`, `{"userName": "nse-here", "accessKeyId": "` + other + `"}`},
		"DeleteFunction":     {`{"userName": "nse-gone", "accessKeyId": "` + exampleKey + `"}`},
	} {
		t.Run(function, func(t *testing.T) {
			for _, event := range events {
				refused(t, c.invoke(t, function, event), "NoSuchEntity")
			}
		})
	}
	if got := c.statuses(t, "nse-other")[other]; got != "Active" {
		t.Errorf("the other user's key is %s", got)
	}
}

func TestList(t *testing.T) {
	c := deployedStack(t)
	keys := c.seed(t, "list-two", AccessKey{CreateDate: ago(10*day + time.Hour), Status: "Inactive"}, AccessKey{CreateDate: ago(100*day + time.Hour)})
	got := must[listed](t, c.invoke(t, "ListFunction", `{"userName": "list-two"}`))
	if len(got.AccessKeys) != 2 || got.AccessKeys[0].AccessKeyID != keys[1].AccessKeyID || got.AccessKeys[0].AgeDays != 100 ||
		got.AccessKeys[1].Status != "Inactive" || got.AccessKeys[1].AgeDays != 10 {
		t.Errorf("got %+v, want the oldest first", got)
	}
	if calls := c.actions(); !slices.Equal(calls, []string{"iam:ListAccessKeys"}) {
		t.Errorf("list made the calls %v, want one", calls)
	}
	c.seed(t, "list-none")
	if r := c.invoke(t, "ListFunction", `{"userName": "list-none"}`); !strings.Contains(string(r.Payload), "[]") {
		t.Errorf("a user without keys gives %s, want an empty list", r.Payload)
	}
}

func TestLastUsed(t *testing.T) {
	c := deployedStack(t)
	keys := c.seed(t, "used-two",
		AccessKey{CreateDate: ago(90 * day)},
		AccessKey{CreateDate: ago(50 * day), LastUsedDate: ago(3*day + time.Hour), ServiceName: "ec2", Region: "eu-west-1"})
	got := must[lastUsed](t, c.invoke(t, "LastUsedFunction", `{"userName": "used-two"}`))
	if len(got.AccessKeys) != 2 {
		t.Fatalf("got %+v", got)
	}
	if never := got.AccessKeys[0]; !never.NeverUsed || never.LastUsedDate != nil || never.IdleDays != 90 {
		t.Errorf("the unused key is %+v", never)
	}
	if used := got.AccessKeys[1]; used.NeverUsed || aws.ToString(used.ServiceName) != "ec2" || aws.ToString(used.Region) != "eu-west-1" || used.IdleDays != 3 {
		t.Errorf("the used key is %+v", used)
	}
	if calls := c.actions(); len(calls) != 3 {
		t.Errorf("lastused of two keys made the calls %v, want 3", calls)
	}
	one := must[lastUsed](t, c.invoke(t, "LastUsedFunction", `{"accessKeyId": %q}`, keys[1].AccessKeyID))
	if one.UserName != "used-two" || len(one.AccessKeys) != 1 || one.AccessKeys[0].AccessKeyID != keys[1].AccessKeyID {
		t.Errorf("by key ID alone: got %+v", one)
	}
	// A read that fails fails the call: unknown is never "never used".
	c.Fail(Fault{Action: "iam:GetAccessKeyLastUsed", Status: 403, Code: "AccessDenied", Message: "User: x is not authorized to perform: iam:GetAccessKeyLastUsed"})
	refused(t, c.invoke(t, "LastUsedFunction", `{"userName": "used-two"}`), "AccessDenied")
}

func TestCreate(t *testing.T) {
	c := deployedStack(t)
	c.seed(t, "create,new+1@example.com")
	out := must[created](t, c.invoke(t, "CreateFunction", `{"userName": "create,new+1@example.com"}`))
	if !out.Created || !out.Verified || c.statuses(t, out.UserName)[out.AccessKeyID] != "Active" {
		t.Fatalf("got %+v, and IAM has %v", out, c.statuses(t, out.UserName))
	}
	calls := c.actions()
	// Each probe of the new key is a poll, its first too.
	if once := slices.DeleteFunc(slices.Clone(calls), func(a string) bool { return a == "sts:GetCallerIdentity" }); len(once) > 14 {
		t.Errorf("create made %d calls beside its polls, want at most 14: %v", len(once), once)
	}

	value, version := c.secret(t, out.SecretARN)
	if version != out.SecretVersionID {
		t.Errorf("the current version is %s, create says %s", version, out.SecretVersionID)
	}
	var process struct {
		Version                                int
		AccessKeyId, SecretAccessKey, UserName string
		CreateDate                             time.Time
	}
	if err := json.Unmarshal([]byte(value), &process); err != nil {
		t.Fatalf("the secret is not JSON: %v", err)
	}
	if process.Version != 1 || process.AccessKeyId != out.AccessKeyID || process.UserName != out.UserName || !process.CreateDate.Equal(out.CreateDate) {
		t.Errorf("the secret says version %d, key %s, user %s, of %s", process.Version, process.AccessKeyId, process.UserName, process.CreateDate)
	}
	arn, err := c.identity(t.Context(), process.AccessKeyId, process.SecretAccessKey)
	if err != nil || !strings.HasSuffix(arn, ":user/"+out.UserName) {
		t.Errorf("the delivered key belongs to %q, %v", arn, err)
	}

	again := must[created](t, c.invoke(t, "CreateFunction", `{"userName": "create,new+1@example.com"}`))
	if again.Created || again.Verified || again.AccessKeyID != out.AccessKeyID || again.SecretVersionID != out.SecretVersionID {
		t.Errorf("the second create answered %+v", again)
	}
	if keys := c.statuses(t, out.UserName); len(keys) != 1 {
		t.Errorf("after two creates the user has %v", keys)
	}
}

func TestCreateReplaces(t *testing.T) {
	c := deployedStack(t)
	c.seed(t, "replaces")
	first := must[created](t, c.invoke(t, "CreateFunction", `{"userName": "replaces"}`))
	// Without naming the old key a consumer would be switched over unasked.
	second := must[created](t, c.invoke(t, "CreateFunction", `{"userName": "replaces", "replaces": %q}`, first.AccessKeyID))
	if !second.Created || second.AccessKeyID == first.AccessKeyID || second.SecretARN != first.SecretARN {
		t.Fatalf("got %+v after %+v", second, first)
	}
	if _, version := c.secret(t, first.SecretARN); version != second.SecretVersionID {
		t.Errorf("the secret's current version is %s", version)
	}
	if keys := c.statuses(t, "replaces"); keys[first.AccessKeyID] != "Active" || keys[second.AccessKeyID] != "Active" {
		t.Errorf("IAM has %v", keys)
	}
	// Until the new key is adopted, the old one stays.
	event := fmt.Sprintf(`{"userName": "replaces", "accessKeyId": %q, "quietHours": 0, "replacedBy": %q, "secretId": %q}`, first.AccessKeyID, second.AccessKeyID, first.SecretARN)
	refused(t, c.invoke(t, "DeactivateFunction", event), "NotAdopted", second.AccessKeyID)
	// A consumer reads the secret and calls another service with it.
	value, _ := c.secret(t, first.SecretARN)
	var consumer struct{ AccessKeyId, SecretAccessKey string }
	if err := json.Unmarshal([]byte(value), &consumer); err != nil {
		t.Fatal(err)
	}
	cfg := c.Config()
	cfg.Credentials = credentials.NewStaticCredentialsProvider(consumer.AccessKeyId, consumer.SecretAccessKey, "")
	if _, err := sqs.NewFromConfig(cfg).ListQueues(t.Context(), &sqs.ListQueuesInput{}); err != nil {
		t.Fatal(err)
	}
	if got := must[changed](t, c.invoke(t, "DeactivateFunction", event)); !got.Changed || got.Status != "Inactive" {
		t.Errorf("got %+v", got)
	}
	// The old key is of no use any more; delete takes it as long as the new one is delivered.
	event = fmt.Sprintf(`{"userName": "replaces", "accessKeyId": %q, "replacedBy": %q, "secretId": %q}`, first.AccessKeyID, second.AccessKeyID, first.SecretARN)
	if got := must[deleted](t, c.invoke(t, "DeleteFunction", event)); !got.Deleted {
		t.Errorf("got %+v", got)
	}
	if keys := c.statuses(t, "replaces"); len(keys) != 1 || keys[second.AccessKeyID] != "Active" {
		t.Errorf("IAM has %v", keys)
	}
}

func TestCreateRefuses(t *testing.T) {
	c := deployedStack(t)
	store := secretsmanager.NewFromConfig(c.Config())
	put := func(name, value string) {
		t.Helper()
		if _, err := store.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: &value}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("LimitExceeded", func(t *testing.T) {
		keys := c.seed(t, "refuses-full", AccessKey{}, AccessKey{})
		refused(t, c.invoke(t, "CreateFunction", `{"userName": "refuses-full"}`), "LimitExceeded", keys[0].AccessKeyID, keys[1].AccessKeyID)
		if got := c.statuses(t, "refuses-full"); len(got) != 2 {
			t.Errorf("IAM has %v", got)
		}
	})
	t.Run("SecretInUse", func(t *testing.T) {
		put("iamkeys/foreign", "a password")
		c.seed(t, "refuses-foreign")
		refused(t, c.invoke(t, "CreateFunction", `{"userName": "refuses-foreign", "secretId": "iamkeys/foreign"}`), "SecretInUse", "iamkeys/foreign")
		if got := c.statuses(t, "refuses-foreign"); len(got) != 0 {
			t.Errorf("IAM has %v", got)
		}
		if value, _ := c.secret(t, "iamkeys/foreign"); value != "a password" {
			t.Error("the foreign secret has another value")
		}
	})
	t.Run("SecretUnavailable", func(t *testing.T) {
		put("iamkeys/leaving", "a password")
		if _, err := store.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: aws.String("iamkeys/leaving")}); err != nil {
			t.Fatal(err)
		}
		c.seed(t, "refuses-leaving")
		refused(t, c.invoke(t, "CreateFunction", `{"userName": "refuses-leaving", "secretId": "iamkeys/leaving"}`), "SecretUnavailable", "iamkeys/leaving")
		if got := c.statuses(t, "refuses-leaving"); len(got) != 0 {
			t.Errorf("IAM has %v", got)
		}
	})
}

func TestCreateUndoes(t *testing.T) {
	c := deployedStack(t)
	denied := func(action string) Fault {
		return Fault{Action: action, Status: 400, Code: "AccessDeniedException", Message: "not authorized to perform: " + action}
	}
	// The secret exists from an earlier key, so that the first Put is the intent and the second the delivery.
	t.Run("store fails", func(t *testing.T) {
		c.Forget()
		c.seed(t, "undo-store")
		fault := denied("secretsmanager:PutSecretValue")
		fault.Skip, fault.Times = 1, 5
		c.Fail(fault)
		refused(t, c.invoke(t, "CreateFunction", `{"userName": "undo-store"}`), "DeliveryFailed")
		if got := c.statuses(t, "undo-store"); len(got) != 0 {
			t.Errorf("an undelivered key was left: %v", got)
		}
	})
	t.Run("no permission to store", func(t *testing.T) {
		c.Forget()
		c.seed(t, "undo-intent")
		fault := denied("secretsmanager:PutSecretValue")
		fault.Times = 5
		c.Fail(fault)
		if r := c.invoke(t, "CreateFunction", `{"userName": "undo-intent"}`); r.ErrorType == "" {
			t.Errorf("got %s", r.Payload)
		}
		if slices.Contains(c.actions(), "iam:CreateAccessKey") {
			t.Error("a key was made although nothing can be stored")
		}
	})
	t.Run("answer lost", func(t *testing.T) {
		c.Forget()
		c.seed(t, "undo-lost")
		c.Fail(Fault{Action: "iam:CreateAccessKey", Effect: true})
		refused(t, c.invoke(t, "CreateFunction", `{"userName": "undo-lost"}`), "OrphanedKey", "CloudTrail")
		// It may be another's: a person looks, and nothing is deleted by inference.
		if got := c.statuses(t, "undo-lost"); len(got) != 1 {
			t.Errorf("the keys after an answer that was lost: %v", got)
		}
	})
	t.Run("key not known to STS yet", func(t *testing.T) {
		c.Forget()
		c.seed(t, "undo-lag")
		c.Fail(Fault{Action: "sts:GetCallerIdentity", Times: 1, Status: 403, Code: "InvalidClientTokenId", Message: "not yet"})
		if got := must[created](t, c.invoke(t, "CreateFunction", `{"userName": "undo-lag"}`)); !got.Verified {
			t.Errorf("got %+v", got)
		}
	})
}

func TestCreateTwiceAtOnce(t *testing.T) {
	c := deployedStack(t)
	c.seed(t, "create-race")
	c.SetLatency(20 * time.Millisecond) // so that the two really overlap
	defer c.SetLatency(0)
	var results [2]Result
	var errs [2]error
	var running sync.WaitGroup
	for i := range results {
		running.Go(func() {
			results[i], errs[i] = c.Invoke(t.Context(), "CreateFunction", []byte(`{"userName": "create-race"}`))
		})
	}
	running.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	// One that comes late finds the other's key delivered, and makes none.
	keys := c.statuses(t, "create-race")
	made, answered := 0, 0
	for _, r := range results {
		switch r.ErrorType {
		case "":
			out := must[created](t, r)
			if keys[out.AccessKeyID] != "Active" {
				t.Errorf("got %+v, and IAM has %v", out, keys)
			}
			answered++
			if out.Created {
				made++
			}
		case "InProgress":
		default:
			t.Errorf("got %s: %s", r.ErrorType, r.Message)
		}
	}
	if want := min(answered, 1); made != want || len(keys) != want {
		t.Errorf("%d creates succeeded and %d made a key, and IAM has %v", answered, made, keys)
	}
}

func TestDeactivate(t *testing.T) {
	c := deployedStack(t)
	keys := c.seed(t, "off-in-use", AccessKey{CreateDate: ago(400 * day), LastUsedDate: ago(2 * time.Hour), ServiceName: "athena", Region: "eu-north-1"})
	event := fmt.Sprintf(`{"userName": "off-in-use", "accessKeyId": %q}`, keys[0].AccessKeyID)
	refused(t, c.invoke(t, "DeactivateFunction", event), "KeyInUse", "athena", "eu-north-1")
	if got := c.statuses(t, "off-in-use")[keys[0].AccessKeyID]; got != "Active" {
		t.Fatalf("a key in use is %s", got)
	}
	if calls := c.actions(); len(calls) > 3 {
		t.Errorf("deactivate made the calls %v, want at most 3", calls)
	}
	refused(t, c.invoke(t, "DeactivateFunction", `{"userName": "off-in-use", "accessKeyId": %q, "replacedBy": %q}`, keys[0].AccessKeyID, exampleKey), "NotReplaced", exampleKey)

	// A person may insist.
	insist := fmt.Sprintf(`{"userName": "off-in-use", "accessKeyId": %q, "quietHours": 0}`, keys[0].AccessKeyID)
	if got := must[changed](t, c.invoke(t, "DeactivateFunction", insist)); !got.Changed || got.Status != "Inactive" || got.LastUsedDate == nil {
		t.Errorf("got %+v", got)
	}
	if _, err := c.identity(t.Context(), keys[0].AccessKeyID, keys[0].SecretAccessKey); err == nil {
		t.Error("an Inactive key still signs")
	}
	if got := must[changed](t, c.invoke(t, "DeactivateFunction", event)); got.Changed || got.Status != "Inactive" {
		t.Errorf("the second time: got %+v", got)
	}

	quiet := c.seed(t, "off-quiet", AccessKey{CreateDate: ago(400 * day), LastUsedDate: ago(10 * day)})[0].AccessKeyID
	if got := must[changed](t, c.invoke(t, "DeactivateFunction", `{"userName": "off-quiet", "accessKeyId": %q}`, quiet)); !got.Changed {
		t.Errorf("a key that is quiet: got %+v", got)
	}
	// When the last use cannot be read, nothing is switched off.
	unknown := c.seed(t, "off-unknown", AccessKey{CreateDate: ago(400 * day)})[0].AccessKeyID
	c.Fail(Fault{Action: "iam:GetAccessKeyLastUsed", Status: 403, Code: "AccessDenied", Message: "not authorized"})
	refused(t, c.invoke(t, "DeactivateFunction", `{"userName": "off-unknown", "accessKeyId": %q}`, unknown), "AccessDenied")
	if got := c.statuses(t, "off-unknown")[unknown]; got != "Active" {
		t.Errorf("a key of unknown use is %s", got)
	}
}

func TestActivate(t *testing.T) {
	c := deployedStack(t)
	key := c.seed(t, "on", AccessKey{Status: "Inactive"})[0]
	event := fmt.Sprintf(`{"userName": "on", "accessKeyId": %q}`, key.AccessKeyID)
	if got := must[changed](t, c.invoke(t, "ActivateFunction", event)); !got.Changed || got.Status != "Active" {
		t.Errorf("got %+v", got)
	}
	if calls := c.actions(); len(calls) > 2 {
		t.Errorf("activate made the calls %v, want at most 2", calls)
	}
	if _, err := c.identity(t.Context(), key.AccessKeyID, key.SecretAccessKey); err != nil {
		t.Errorf("an activated key does not sign: %v", err)
	}
	if got := must[changed](t, c.invoke(t, "ActivateFunction", event)); got.Changed {
		t.Errorf("the second time: got %+v", got)
	}
}

func TestDelete(t *testing.T) {
	c := deployedStack(t)
	keys := c.seed(t, "del", AccessKey{}, AccessKey{Status: "Inactive"})
	refused(t, c.invoke(t, "DeleteFunction", `{"userName": "del", "accessKeyId": %q}`, keys[0].AccessKeyID), "KeyActive", keys[0].AccessKeyID)
	event := fmt.Sprintf(`{"userName": "del", "accessKeyId": %q}`, keys[1].AccessKeyID)
	c.Forget()
	if got := must[deleted](t, c.invoke(t, "DeleteFunction", event)); !got.Deleted {
		t.Errorf("got %+v", got)
	}
	if calls := c.actions(); len(calls) > 4 {
		t.Errorf("delete made the calls %v, want at most 4", calls)
	}
	if got := must[deleted](t, c.invoke(t, "DeleteFunction", event)); got.Deleted {
		t.Errorf("the second time: got %+v", got)
	}
	if got := c.statuses(t, "del"); len(got) != 1 || got[keys[0].AccessKeyID] != "Active" {
		t.Errorf("IAM has %v", got)
	}
}

func TestTrouble(t *testing.T) {
	c := deployedStack(t)
	c.seed(t, "trouble", AccessKey{})
	t.Run("AccessDenied", func(t *testing.T) {
		c.Forget()
		c.Fail(Fault{Action: "iam:ListAccessKeys", Status: 403, Code: "AccessDenied",
			Message: "User: arn:aws:sts::123456789012:assumed-role/list/x is not authorized to perform: iam:ListAccessKeys on resource: user trouble because no identity-based policy allows the iam:ListAccessKeys action"})
		refused(t, c.invoke(t, "ListFunction", `{"userName": "trouble"}`), "AccessDenied", "iam:ListAccessKeys", "trouble")
	})
	t.Run("Throttled", func(t *testing.T) {
		c.Forget()
		c.Fail(Fault{Action: "iam:ListAccessKeys", Times: 50, Status: 400, Code: "Throttling", Message: "Rate exceeded"})
		refused(t, c.invoke(t, "ListFunction", `{"userName": "trouble"}`), "Throttled")
		if n := len(c.Calls()); n < 2 {
			t.Errorf("a throttled call was tried %d times", n)
		}
	})
	t.Run("Throttled once", func(t *testing.T) {
		c.Forget()
		c.Fail(Fault{Action: "iam:ListAccessKeys", Status: 400, Code: "Throttling", Message: "Rate exceeded"})
		must[listed](t, c.invoke(t, "ListFunction", `{"userName": "trouble"}`))
	})
	t.Run("Internal", func(t *testing.T) {
		c.Forget()
		c.Fail(Fault{Action: "iam:ListAccessKeys", Times: 50, Status: 400, Code: "NeverHeardOfIt", Message: "the depths of the service"})
		r := c.invoke(t, "ListFunction", `{"userName": "trouble"}`)
		refused(t, r, "Internal")
		if strings.Contains(r.Message, "depths") {
			t.Errorf("details belong in the log alone: %s", r.Message)
		}
	})
}

func TestLifecycle(t *testing.T) {
	c := deployedStack(t)
	run := func(t *testing.T, input string, args ...any) Execution {
		t.Helper()
		c.Forget()
		e, err := c.Execute(t.Context(), "LifecycleStateMachine", "", fmt.Appendf(nil, input, args...))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	failed := func(t *testing.T, e Execution, name string, words ...string) {
		t.Helper()
		if e.Status != "FAILED" || e.Error != name {
			t.Fatalf("got %s %s: %s, want FAILED %s", e.Status, e.Error, e.Cause, name)
		}
		for _, word := range words {
			if !strings.Contains(e.Cause, word) {
				t.Errorf("the cause of %s does not have %q: %s", name, word, e.Cause)
			}
		}
	}
	type output struct {
		Before, AfterCreate, AfterDeactivate, AfterDelete *listed
		LastUsed                                          *lastUsed
		Created                                           *created
		Deactivated                                       *changed
		Deleted                                           *deleted
	}
	succeeded := func(t *testing.T, e Execution) output {
		t.Helper()
		if e.Status != "SUCCEEDED" {
			t.Fatalf("got %s %s: %s", e.Status, e.Error, e.Cause)
		}
		var out output
		if err := json.Unmarshal(e.Output, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}

	t.Run("whole", func(t *testing.T) {
		old := c.seed(t, "life", AccessKey{CreateDate: ago(100 * day)})[0].AccessKeyID
		out := succeeded(t, run(t, `{"userName": "life"}`))
		if len(out.Before.AccessKeys) != 1 || len(out.AfterCreate.AccessKeys) != 2 || len(out.LastUsed.AccessKeys) != 2 || len(out.AfterDelete.AccessKeys) != 1 {
			t.Errorf("the steps saw %+v", out)
		}
		if !out.Created.Created || out.Deactivated.Status != "Inactive" || !out.Deleted.Deleted || out.Deleted.AccessKeyID != out.Created.AccessKeyID {
			t.Errorf("the steps did %+v, %+v, %+v", out.Created, out.Deactivated, out.Deleted)
		}
		if got := c.statuses(t, "life"); len(got) != 1 || got[old] != "Active" {
			t.Errorf("IAM has %v", got)
		}
	})
	t.Run("createKey false", func(t *testing.T) {
		c.seed(t, "life-look", AccessKey{})
		out := succeeded(t, run(t, `{"userName": "life-look", "createKey": false}`))
		if out.Created != nil || out.Deleted != nil || len(out.LastUsed.AccessKeys) != 1 {
			t.Errorf("the steps saw %+v", out)
		}
	})
	t.Run("deleteKey false", func(t *testing.T) {
		c.seed(t, "life-keep")
		out := succeeded(t, run(t, `{"userName": "life-keep", "deleteKey": false, "secretId": "iamkeys/life/kept"}`))
		if got := c.statuses(t, "life-keep"); got[out.Created.AccessKeyID] != "Active" {
			t.Errorf("IAM has %v", got)
		}
		// The next run finds that key, which is not its own, and leaves it.
		out = succeeded(t, run(t, `{"userName": "life-keep", "secretId": "iamkeys/life/kept"}`))
		if got := c.statuses(t, "life-keep"); out.Created.Created || got[out.Created.AccessKeyID] != "Active" {
			t.Errorf("IAM has %v after %+v", got, out.Created)
		}
	})
	t.Run("NoSuchEntity", func(t *testing.T) {
		failed(t, run(t, `{"userName": "life-gone"}`), "NoSuchEntity", "life-gone")
	})
	t.Run("LimitExceeded", func(t *testing.T) {
		c.seed(t, "life-full", AccessKey{}, AccessKey{})
		failed(t, run(t, `{"userName": "life-full"}`), "LimitExceeded")
		if got := c.statuses(t, "life-full"); len(got) != 2 {
			t.Errorf("IAM has %v", got)
		}
	})
	t.Run("InvalidInput", func(t *testing.T) {
		failed(t, run(t, `{}`), "InvalidInput", "userName")
		failed(t, run(t, `{"userName": "two words"}`), "InvalidInput", "userName")
		c.seed(t, "life-switch")
		failed(t, run(t, `{"userName": "life-switch", "createKey": "no"}`), "InvalidInput", "createKey")
		if calls := c.actions(); len(calls) != 0 {
			t.Errorf("invalid input led to AWS calls: %v", calls)
		}
	})
	t.Run("OrphanedKey", func(t *testing.T) {
		c.seed(t, "life-orphan")
		c.Forget()
		c.Fail(Fault{Action: "iam:DeleteAccessKey", Times: 50, Status: 403, Code: "AccessDenied", Message: "not authorized to perform: iam:DeleteAccessKey on resource: user life-orphan"})
		e, err := c.Execute(t.Context(), "LifecycleStateMachine", "", []byte(`{"userName": "life-orphan"}`))
		if err != nil {
			t.Fatal(err)
		}
		left := c.statuses(t, "life-orphan")
		if len(left) != 1 {
			t.Fatalf("IAM has %v", left)
		}
		for id := range left {
			failed(t, e, "OrphanedKey", id)
		}
	})
}

// subscribe subscribes a new queue to the topic and returns its URL.
func (c *Cloud) subscribe(t *testing.T, name string, attributes map[string]string) string {
	t.Helper()
	topic, err := c.Resource("NotificationTopic")
	if err != nil {
		t.Fatal(err)
	}
	queue, err := sqs.NewFromConfig(c.Config()).CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name})
	if err != nil {
		t.Fatal(err)
	}
	arn := fmt.Sprintf("arn:aws:sqs:%s:%s:%s", region, accountID, name)
	attributes["RawMessageDelivery"] = "true"
	_, err = sns.NewFromConfig(c.Config()).Subscribe(t.Context(), &sns.SubscribeInput{
		TopicArn: &topic, Protocol: aws.String("sqs"), Endpoint: &arn, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(queue.QueueUrl)
}

// receive returns the one message of a queue, with its attributes; an empty
// body when there is none.
func (c *Cloud) receive(t *testing.T, queueURL string) (body string, attributes map[string]string) {
	t.Helper()
	out, err := sqs.NewFromConfig(c.Config()).ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &queueURL, MessageAttributeNames: []string{"All"}, MaxNumberOfMessages: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Messages) > 1 {
		t.Errorf("%d messages, want one", len(out.Messages))
	}
	attributes = map[string]string{}
	for _, m := range out.Messages {
		body = aws.ToString(m.Body)
		for name, value := range m.MessageAttributes {
			attributes[name] = aws.ToString(value.StringValue)
		}
	}
	return body, attributes
}

func TestAudit(t *testing.T) {
	c := deployedStack(t)
	const stale = "AKIAE2ESTALE00000001"
	c.seed(t, "audit-stale", AccessKey{AccessKeyID: stale, CreateDate: ago(200 * day), LastUsedDate: ago(120 * day), ServiceName: "s3"})
	c.seed(t, "audit-healthy", AccessKey{AccessKeyID: "AKIAE2EHEALTHY000001", CreateDate: ago(3 * day), LastUsedDate: ago(time.Hour)})
	c.seed(t, "audit-extra", AccessKey{CreateDate: ago(3 * day)}, AccessKey{CreateDate: ago(2 * day)}, AccessKey{CreateDate: ago(day), Status: "Inactive"})
	all := c.subscribe(t, "audit-all", map[string]string{})
	rotations := c.subscribe(t, "audit-rotations", map[string]string{"FilterPolicy": `{"kind": ["rotation"]}`})

	r := c.invoke(t, "AuditFunction", string(scheduleEvent(time.Now())))
	summary := must[struct {
		Coverage struct {
			Users, UsersExamined int
			Complete             bool
		}
		Rules    map[string]int
		Notified bool
	}](t, r)
	if !summary.Notified || !summary.Coverage.Complete || summary.Coverage.Users != summary.Coverage.UsersExamined || summary.Rules["unused"] < 1 || summary.Rules["extra-keys"] < 1 {
		t.Errorf("got %s", r.Payload)
	}
	mails := c.Published()
	if len(mails) != 1 {
		t.Fatalf("%d messages were published, want one", len(mails))
	}
	mail := mails[0]
	if len(mail.Subject) > 99 || mail.Structure != "json" {
		t.Errorf("subject %q, structure %q", mail.Subject, mail.Structure)
	}
	for _, word := range []string{"audit-stale", stale} {
		if !strings.Contains(mail.Text("email"), word) {
			t.Errorf("the mail does not have %s:\n%s", word, mail.Text("email"))
		}
	}
	if strings.Contains(mail.Text("email"), "AKIAE2EHEALTHY000001") {
		t.Error("the mail names a healthy key")
	}

	body, attributes := c.receive(t, all)
	if !json.Valid([]byte(body)) || !strings.Contains(body, stale) {
		t.Errorf("a machine receives %.300s", body)
	}
	if attributes["kind"] != "audit" || attributes["account"] != accountID || attributes["severity"] == "" {
		t.Errorf("the attributes are %v", attributes)
	}
	if body, _ := c.receive(t, rotations); body != "" {
		t.Errorf("a subscriber to rotations received %.300s", body)
	}
}

// TestAuditHistory sends events as a schedule does, and again as one that delivers twice.
func TestAuditHistory(t *testing.T) {
	c := deployedStack(t)
	ctx := t.Context()
	type answer struct {
		RunID               string
		New, Open, Resolved int
		Inventory           string
		Coverage            struct{ Complete bool }
		Notified            bool
		Report              struct{ Bucket, Prefix string }
	}
	key := c.seed(t, "history", AccessKey{CreateDate: ago(200 * day), LastUsedDate: ago(100 * day)})[0].AccessKeyID
	// Runs are named by the second of their event: an hour back there is no other test's.
	at := time.Now().Add(-time.Hour)
	first := must[answer](t, c.invoke(t, "AuditFunction", string(scheduleEvent(at))))
	if first.Inventory != "credentialReport" || !first.Coverage.Complete || first.New < 1 || !first.Notified {
		t.Errorf("the first run: %+v", first)
	}
	client := s3.NewFromConfig(c.Config(), func(o *s3.Options) { o.UsePathStyle = true })
	stored := func(key string) string {
		t.Helper()
		object, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &first.Report.Bucket, Key: &key})
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		defer object.Body.Close()
		content, err := io.ReadAll(object.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	for _, form := range []string{".json", ".csv", ".html", ".txt"} {
		if !strings.Contains(stored(first.Report.Prefix+form), key) {
			t.Errorf("the report's %s does not have the stale key", form)
		}
	}
	if latest := stored("reports/" + accountID + "/latest.json"); !strings.Contains(latest, first.RunID) {
		t.Error("latest.json is of another run")
	}

	// The same event again: one run, one mail.
	c.Forget()
	again := must[answer](t, c.invoke(t, "AuditFunction", string(scheduleEvent(at))))
	if again.RunID != first.RunID || again.Notified || len(c.Published()) != 0 {
		t.Errorf("the repeated event: %+v, %d messages", again, len(c.Published()))
	}
	if slices.ContainsFunc(c.actions(), func(a string) bool { return strings.HasPrefix(a, "iam:") }) {
		t.Errorf("the repeated event examined the account again: %v", c.actions())
	}

	// A publish that fails is made up for by the event again. Runs are told apart
	// by the second they are of, so this one must be of a later one.
	for asOf := time.Now().Truncate(time.Second); time.Now().Truncate(time.Second).Equal(asOf); {
		time.Sleep(10 * time.Millisecond)
	}
	must[changed](t, c.invoke(t, "DeactivateFunction", `{"userName": "history", "accessKeyId": %q}`, key))
	c.Forget()
	c.Fail(Fault{Action: "sns:Publish", Times: 20, Status: 400, Code: "AuthorizationError", Message: "not authorized to perform: SNS:Publish"})
	at = at.Add(5 * time.Second)
	refused(t, c.invoke(t, "AuditFunction", string(scheduleEvent(at))), "NotifyFailed")
	c.Forget()
	second := must[answer](t, c.invoke(t, "AuditFunction", string(scheduleEvent(at))))
	// Overdue and unused are resolved; the key that is switched off lingers now.
	if !second.Notified || second.Resolved != 2 || second.New != 1 || len(c.Published()) != 1 {
		t.Errorf("after a key was switched off: %+v, %d messages", second, len(c.Published()))
	}

	// Without a credential report every user and key is read live.
	c.Forget()
	c.Fail(Fault{Action: "iam:GenerateCredentialReport", Times: 50, Status: 403, Code: "AccessDenied", Message: "not authorized to perform: iam:GenerateCredentialReport"})
	live := must[answer](t, c.invoke(t, "AuditFunction", `{"notify": "never"}`))
	if live.Inventory != "live" || !live.Coverage.Complete || live.Notified {
		t.Errorf("without a credential report: %+v", live)
	}
}

// TestSecretStaysInside makes keys in every way and looks for their secrets in
// all that the local cloud keeps, but Secrets Manager.
func TestSecretStaysInside(t *testing.T) {
	c := deployedStack(t)
	ctx := t.Context()
	c.seed(t, "inside")
	c.seed(t, "inside-workflow")
	var seen strings.Builder

	direct := c.invoke(t, "CreateFunction", `{"userName": "inside"}`)
	out := must[created](t, direct)
	again := c.invoke(t, "CreateFunction", `{"userName": "inside"}`)
	c.Fail(Fault{Action: "secretsmanager:PutSecretValue", Skip: 1, Times: 5, Status: 400, Code: "AccessDeniedException", Message: "no"})
	failed := c.invoke(t, "CreateFunction", `{"userName": "inside", "replaces": %q}`, out.AccessKeyID)
	for _, r := range []Result{direct, again, failed} {
		seen.Write(r.Payload)
		seen.WriteString(r.Log)
	}
	c.Forget()
	e, err := c.Execute(ctx, "LifecycleStateMachine", "", []byte(`{"userName": "inside-workflow"}`))
	if err != nil {
		t.Fatal(err)
	}
	seen.Write(e.Output)
	history, err := c.History(ctx, e.ARN)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(&seen).Encode(history); err != nil {
		t.Fatal(err)
	}
	c.invoke(t, "AuditFunction", `{}`)
	for _, m := range c.Published() {
		fmt.Fprintln(&seen, m)
	}
	// What a function writes late is handed over with its next invocation.
	for _, id := range c.functionIDs() {
		c.invoke(t, id, `null`)
	}
	logs, err := filepath.Glob(filepath.Join(c.Dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		log, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		seen.Write(log)
	}
	functionLogs, err := c.Logs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	seen.WriteString(functionLogs)

	var workflow struct{ Created created }
	if err := json.Unmarshal(e.Output, &workflow); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(functionLogs, out.AccessKeyID) {
		t.Error("the functions' logs do not name the key: they are not the logs that were meant to be searched")
	}
	for _, arn := range []string{out.SecretARN, workflow.Created.SecretARN} {
		value, _ := c.secret(t, arn)
		var secret struct{ SecretAccessKey string }
		if err := json.Unmarshal([]byte(value), &secret); err != nil || secret.SecretAccessKey == "" {
			t.Fatalf("the secret has no SecretAccessKey (%v)", err)
		}
		if strings.Contains(seen.String(), secret.SecretAccessKey) {
			t.Error("the secret access key was seen outside Secrets Manager")
		}
	}
}

// TestConsumerKeys: the local cloud itself accepts a user's key as AWS does.
func TestConsumerKeys(t *testing.T) {
	c := deployedStack(t)
	key := c.seed(t, "consumer", AccessKey{})[0]
	if _, err := c.identity(t.Context(), key.AccessKeyID, key.SecretAccessKey); err != nil {
		t.Errorf("an Active key with its secret is refused: %v", err)
	}
	if _, err := c.identity(t.Context(), key.AccessKeyID, "not its secret"); err == nil {
		t.Error("a wrong secret is accepted")
	}
	_, err := iam.NewFromConfig(c.Config()).UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{
		UserName: aws.String("consumer"), AccessKeyId: &key.AccessKeyID, Status: iamtypes.StatusTypeInactive})
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.Config()
	cfg.Credentials = credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")
	if _, err := sqs.NewFromConfig(cfg).ListQueues(t.Context(), &sqs.ListQueuesInput{}); err == nil {
		t.Error("an Inactive key calls another service")
	}
}
