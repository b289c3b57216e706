package awsiam_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/awsiam"
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
	server := account.Serve(t)
	server.PageSize = 1
	iamkeystest.TestIAM(t, account.Harness(), awsiam.New(config(server.URL)))
}

func TestInventoryContract(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.CredentialReport.Takes = time.Second
	server := account.Serve(t)
	server.PageSize = 1
	server.Before = func(_ int, action string) {
		if action == "iam:GenerateCredentialReport" {
			account.Advance(time.Second / 2)
		}
	}
	iamkeystest.TestInventoryIAM(t, account.Harness(), awsiam.NewForAudit(config(server.URL)))
}

func TestContractOnMoto(t *testing.T) {
	url := os.Getenv("IAMKEYS_MOTO")
	if url == "" {
		t.Skip("left out: IAMKEYS_MOTO names no moto server; make test starts one")
	}
	client := iam.NewFromConfig(config(url))
	var serial atomic.Int64
	policy := func(t *testing.T) string {
		out, err := client.CreatePolicy(t.Context(), &iam.CreatePolicyInput{
			PolicyName:     aws.String(fmt.Sprintf("awsiam-%d-%d", os.Getpid(), serial.Add(1))),
			PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}]}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		return *out.Policy.Arn
	}
	harness := iamkeystest.Harness{
		AddUser: func(t *testing.T, tags ...iamkeys.Tag) string {
			name := fmt.Sprintf("awsiam-%d-%d", os.Getpid(), serial.Add(1))
			in := &iam.CreateUserInput{UserName: &name}
			for _, tag := range tags {
				in.Tags = append(in.Tags, types.Tag{Key: &tag.Key, Value: &tag.Value})
			}
			if _, err := client.CreateUser(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			return name
		},
		AddKey: func(t *testing.T, userName string) iamkeys.Credentials {
			out, err := client.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: &userName})
			if err != nil {
				t.Fatal(err)
			}
			return iamkeys.Credentials{UserName: userName, AccessKeyID: *out.AccessKey.AccessKeyId}
		},
		SetStatus: func(t *testing.T, userName, accessKeyID string, status iamkeys.Status) {
			if _, err := client.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: &userName, AccessKeyId: &accessKeyID, Status: types.StatusType(status)}); err != nil {
				t.Fatal(err)
			}
		},
		Attach: func(t *testing.T, userName string) string {
			arn := policy(t)
			if _, err := client.AttachUserPolicy(t.Context(), &iam.AttachUserPolicyInput{UserName: &userName, PolicyArn: &arn}); err != nil {
				t.Fatal(err)
			}
			return arn
		},
		Join: func(t *testing.T, userName string) (string, string) {
			arn := policy(t)
			group := fmt.Sprintf("awsiam-%d-%d", os.Getpid(), serial.Add(1))
			_, err := client.CreateGroup(t.Context(), &iam.CreateGroupInput{GroupName: &group})
			if err == nil {
				_, err = client.AttachGroupPolicy(t.Context(), &iam.AttachGroupPolicyInput{GroupName: &group, PolicyArn: &arn})
			}
			if err == nil {
				_, err = client.AddUserToGroup(t.Context(), &iam.AddUserToGroupInput{GroupName: &group, UserName: &userName})
			}
			if err != nil {
				t.Fatal(err)
			}
			return group, arn
		},
	}
	iamkeystest.TestIAM(t, harness, awsiam.New(config(url)))
	iamkeystest.TestInventoryIAM(t, harness, awsiam.NewForAudit(config(url)))
}

// calls are the adapter's calls on user alice with that key.
var calls = map[string]func(context.Context, *awsiam.IAM, string) error{
	"iam:ListAccessKeys": func(ctx context.Context, i *awsiam.IAM, _ string) error {
		_, err := i.ListAccessKeys(ctx, "alice")
		return err
	},
	"iam:GetUser": func(ctx context.Context, i *awsiam.IAM, _ string) error {
		_, err := i.GetUser(ctx, "alice")
		return err
	},
	"iam:GetAccessKeyLastUsed": func(ctx context.Context, i *awsiam.IAM, key string) error {
		_, err := i.GetAccessKeyLastUsed(ctx, key)
		return err
	},
	"iam:UpdateAccessKey": func(ctx context.Context, i *awsiam.IAM, key string) error {
		return i.UpdateAccessKey(ctx, "alice", key, iamkeys.Inactive)
	},
	"iam:DeleteAccessKey": func(ctx context.Context, i *awsiam.IAM, key string) error {
		return i.DeleteAccessKey(ctx, "alice", key)
	},
	"iam:GetAccountAuthorizationDetails": func(ctx context.Context, i *awsiam.IAM, _ string) error {
		_, err := i.GetAccountAuthorizationDetails(ctx)
		return err
	},
	"iam:GetAccountSummary": func(ctx context.Context, i *awsiam.IAM, _ string) error {
		_, err := i.GetAccountSummary(ctx)
		return err
	},
	"iam:GenerateCredentialReport": func(ctx context.Context, i *awsiam.IAM, _ string) error {
		_, err := i.GenerateCredentialReport(ctx)
		return err
	},
	"iam:GetCredentialReport": func(ctx context.Context, i *awsiam.IAM, _ string) error {
		_, _, err := i.GetCredentialReport(ctx)
		return err
	},
	"iam:CreateAccessKey": func(ctx context.Context, i *awsiam.IAM, _ string) error {
		_, err := i.CreateAccessKey(ctx, "alice", "0a1b2c")
		return err
	},
}

// once are the actions that are sent once for each look: a second attempt could
// make a second key, or delete one that a person has reactivated since.
var once = map[string]bool{"iam:CreateAccessKey": true, "iam:UpdateAccessKey": true, "iam:DeleteAccessKey": true}

// Trouble that lasts: what is certain is said so, what is not, not, and the
// attempts are bounded.
func TestTrouble(t *testing.T) {
	for action, call := range calls {
		for _, trouble := range iamkeystest.Troubles {
			t.Run(action+"/"+trouble.String(), func(t *testing.T) {
				account := iamkeystest.NewAccount()
				account.AddUser("alice")
				key := account.AddKey("alice", 0)
				server := account.Serve(t)
				if _, err := account.Start().GenerateCredentialReport(t.Context()); err != nil {
					t.Fatal(err)
				}
				server.Trouble = func(int, string) iamkeystest.Trouble { return trouble }
				synctest.Test(t, func(t *testing.T) {
					err := call(t.Context(), awsiam.New(within(server)), key)
					got, ok := errors.AsType[*iamkeys.Error](err)
					if !ok {
						t.Fatalf("got %v, want an *iamkeys.Error", err)
					}
					switch {
					case trouble == iamkeystest.Throttling && (got.Code != iamkeys.Throttled || got.OutcomeUnknown):
						t.Errorf("got %v (outcome unknown: %t), want Throttled for certain", got, got.OutcomeUnknown)
					case trouble != iamkeystest.Throttling && (!got.OutcomeUnknown || got.Code == iamkeys.Throttled):
						t.Errorf("got %v (outcome unknown: %t), want an outcome unknown", got, got.OutcomeUnknown)
					}
					if n := len(server.Requests); n > 4 || n != 1 && once[action] || n == 1 && trouble == iamkeystest.Throttling && !once[action] {
						t.Errorf("there were %d attempts", n)
					}
					if made := len(account.Keys("alice")); made > 2 {
						t.Errorf("one call made %d keys", made-1)
					}
				})
			})
		}
	}
}

// Trouble that passes is overcome, except where one attempt is all that a look allows.
func TestTroubleThatPasses(t *testing.T) {
	for action, call := range calls {
		for _, trouble := range []iamkeystest.Trouble{iamkeystest.Throttling, iamkeystest.ServerFault, iamkeystest.FaultAfter, iamkeystest.HangUp} {
			t.Run(action+"/"+trouble.String(), func(t *testing.T) {
				account := iamkeystest.NewAccount()
				account.AddUser("alice")
				key := account.AddKey("alice", 0)
				server := account.Serve(t)
				if _, err := account.Start().GenerateCredentialReport(t.Context()); err != nil {
					t.Fatal(err)
				}
				server.Trouble = func(n int, _ string) iamkeystest.Trouble {
					if n == 1 {
						return trouble
					}
					return iamkeystest.Smooth
				}
				synctest.Test(t, func(t *testing.T) {
					err := call(t.Context(), awsiam.New(within(server)), key)
					took := trouble == iamkeystest.FaultAfter || trouble == iamkeystest.HangUp
					switch {
					case once[action]:
						if err == nil || len(server.Requests) != 1 {
							t.Errorf("%v after %d attempts, want one attempt", err, len(server.Requests))
						}
						if action != "iam:CreateAccessKey" {
							return
						}
						if want := map[bool]int{false: 1, true: 2}[took]; len(account.Keys("alice")) != want {
							t.Errorf("the user has %v, want %d keys", account.Keys("alice"), want)
						}
					case err != nil:
						t.Errorf("gave up: %v", err)
					}
				})
			})
		}
	}
}

// DeleteAccessKey is throttled, and a person reactivates the key meanwhile: nothing
// deletes it on the look from before.
func TestDeletedOncePerLook(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.AddUser("alice")
	key := account.AddKey("alice", 100*24*time.Hour)
	account.SetStatus("alice", key, iamkeys.Inactive)
	server := account.Serve(t)
	server.Trouble = func(_ int, action string) iamkeystest.Trouble {
		if action != "iam:DeleteAccessKey" || account.Keys("alice")[0].Status == iamkeys.Active {
			return iamkeystest.Smooth
		}
		account.SetStatus("alice", key, iamkeys.Active)
		return iamkeystest.Throttling
	}
	synctest.Test(t, func(t *testing.T) {
		op := iamkeys.Delete{IAM: awsiam.New(within(server)), Log: slog.New(slog.DiscardHandler)}
		for _, want := range []iamkeys.Code{iamkeys.Throttled, iamkeys.KeyActive} { // whoever repeats, looks again
			if _, err := op.Run(t.Context(), iamkeys.DeleteInput{UserName: "alice", AccessKeyID: key}); iamkeys.CodeOf(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	})
	if keys := account.Keys("alice"); len(keys) != 1 {
		t.Errorf("the reactivated key was deleted: %v", account.Deleted())
	}
}

// canned answers every request with one body.
type canned string

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/xml"}}, Body: io.NopCloser(strings.NewReader(string(c))), Request: r}, nil
}

// Nothing is read into an answer that lacks something: a page that is missing is
// not the end of the list, a use without a date is not "never used".
func TestIncompleteAnswers(t *testing.T) {
	list := func(rest string) string {
		return "<ListAccessKeysResponse><ListAccessKeysResult>" + rest + "</ListAccessKeysResult></ListAccessKeysResponse>"
	}
	const member = "<member><UserName>alice</UserName><AccessKeyId>AKIAIOSFODNN7EXAMPLE</AccessKeyId><Status>Active</Status><CreateDate>2026-01-01T00:00:00Z</CreateDate></member>"
	keys := func(member string) string {
		return list("<AccessKeyMetadata>" + member + "</AccessKeyMetadata><IsTruncated>false</IsTruncated>")
	}
	used := func(rest string) string {
		return "<GetAccessKeyLastUsedResponse><GetAccessKeyLastUsedResult><UserName>alice</UserName>" + rest + "</GetAccessKeyLastUsedResult></GetAccessKeyLastUsedResponse>"
	}
	details := func(rest string) string {
		return "<GetAccountAuthorizationDetailsResponse><GetAccountAuthorizationDetailsResult>" + rest + "</GetAccountAuthorizationDetailsResult></GetAccountAuthorizationDetailsResponse>"
	}
	made := func(rest string) string {
		return "<CreateAccessKeyResponse><CreateAccessKeyResult>" + rest + "</CreateAccessKeyResult></CreateAccessKeyResponse>"
	}
	tests := map[string]struct{ action, answer string }{
		"more without a marker":       {"iam:ListAccessKeys", list("<AccessKeyMetadata>" + member + "</AccessKeyMetadata><IsTruncated>true</IsTruncated>")},
		"more, the same marker":       {"iam:ListAccessKeys", list("<AccessKeyMetadata></AccessKeyMetadata><IsTruncated>true</IsTruncated><Marker>m</Marker>")},
		"key without an ID":           {"iam:ListAccessKeys", keys(strings.ReplaceAll(member, "AccessKeyId>", "Other>"))},
		"key without a status":        {"iam:ListAccessKeys", keys(strings.ReplaceAll(member, "Status>", "Other>"))},
		"key without a date":          {"iam:ListAccessKeys", keys(strings.ReplaceAll(member, "CreateDate>", "Other>"))},
		"no last use":                 {"iam:GetAccessKeyLastUsed", used("")},
		"last use without a date":     {"iam:GetAccessKeyLastUsed", used("<AccessKeyLastUsed><ServiceName>s3</ServiceName><Region>N/A</Region></AccessKeyLastUsed>")},
		"last use, a date of none":    {"iam:GetAccessKeyLastUsed", used("<AccessKeyLastUsed><LastUsedDate>soon</LastUsedDate></AccessKeyLastUsed>")},
		"users without end":           {"iam:GetAccountAuthorizationDetails", details("<UserDetailList></UserDetailList><IsTruncated>true</IsTruncated>")},
		"user without ARN":            {"iam:GetAccountAuthorizationDetails", details("<UserDetailList><member><UserName>alice</UserName><CreateDate>2026-01-01T00:00:00Z</CreateDate></member></UserDetailList>")},
		"no root key count":           {"iam:GetAccountSummary", "<GetAccountSummaryResponse><GetAccountSummaryResult><SummaryMap></SummaryMap></GetAccountSummaryResult></GetAccountSummaryResponse>"},
		"report of no time":           {"iam:GetCredentialReport", "<GetCredentialReportResponse><GetCredentialReportResult><Content>dXNlcg==</Content></GetCredentialReportResult></GetCredentialReportResponse>"},
		"no user":                     {"iam:GetUser", "<GetUserResponse><GetUserResult></GetUserResult></GetUserResponse>"},
		"user without an ARN":         {"iam:GetUser", "<GetUserResponse><GetUserResult><User><UserName>alice</UserName><CreateDate>2026-01-01T00:00:00Z</CreateDate></User></GetUserResult></GetUserResponse>"},
		"no new key":                  {"iam:CreateAccessKey", made("")},
		"new key without its secret":  {"iam:CreateAccessKey", made("<AccessKey>" + member[8:len(member)-9] + "</AccessKey>")},
		"new key, secret empty":       {"iam:CreateAccessKey", made("<AccessKey>" + member[8:len(member)-9] + "<SecretAccessKey></SecretAccessKey></AccessKey>")},
		"new key in an answer cut":    {"iam:CreateAccessKey", made("<AccessKey>" + member[8:len(member)-9] + "<SecretAccessKey>wJalr")[:240]},
		"new key without create date": {"iam:CreateAccessKey", made("<AccessKey><AccessKeyId>AKIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>wJalr</SecretAccessKey></AccessKey>")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := calls[test.action](t.Context(), awsiam.New(within(canned(test.answer))), "AKIAIOSFODNN7EXAMPLE")
				if e, ok := errors.AsType[*iamkeys.Error](err); !ok || e.Code != iamkeys.Internal || !e.OutcomeUnknown {
					t.Errorf("got %v, want Internal with the outcome unknown", err)
				}
				if strings.Contains(fmt.Sprintf("%v %#v", err, err), "wJalr") {
					t.Errorf("the error holds the secret: %#v", err)
				}
			})
		})
	}
}

func TestGetAccessKeyLastUsed(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.AddUser("alice")
	key := account.AddKey("alice", 100*24*time.Hour)
	adapter := awsiam.New(config(account.Serve(t).URL))
	for _, region := range []string{"eu-west-1", ""} { // S3 has none
		account.UsedAgo(key, 50*time.Hour, "s3", region)
		got, err := adapter.GetAccessKeyLastUsed(t.Context(), key)
		if want := (iamkeys.LastUsed{UserName: "alice", Date: iamkeystest.Epoch.Add(-50 * time.Hour), ServiceName: "s3", Region: region}); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestListAccessKeys(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.AddUser("alice")
	server := account.Serve(t)
	server.PageSize = 2
	for range 5 { // IAM's limit of two can be passed by creating at the same time
		account.SetStatus("alice", account.AddKey("alice", time.Hour), iamkeys.Expired)
	}
	got, err := awsiam.New(config(server.URL)).ListAccessKeys(t.Context(), "alice")
	if err != nil || len(got) != 5 || len(server.Requests) != 3 {
		t.Fatalf("got %v, %v, from %d pages; want 5 keys from 3", got, err, len(server.Requests))
	}
	for _, k := range got {
		if k.Status != iamkeys.Expired {
			t.Errorf("%s is %s, want Expired", k.AccessKeyID, k.Status)
		}
	}
}

func TestGetAccountAuthorizationDetails(t *testing.T) {
	const quarantine = "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3"
	account := iamkeystest.NewAccount()
	for n := range 2500 {
		account.AddUser(fmt.Sprintf("user-%04d", n))
	}
	account.Move("user-0007", "/ci/builders/")
	account.Attach("user-0007", quarantine)
	const admin = "arn:aws:iam::aws:policy/AdministratorAccess"
	account.AttachToGroup("admins", admin)
	account.AttachToGroup("readers", "arn:aws:iam::aws:policy/ReadOnlyAccess")
	for user, group := range map[string]string{"user-0001": "admins", "user-0002": "readers", "user-0003": "made a moment ago"} {
		account.Join(user, group)
	}
	account.Join("user-0001", "readers")
	server := account.Serve(t)
	server.PageSize = 5000 // as many as the request asks for
	users, err := awsiam.NewForAudit(config(server.URL)).GetAccountAuthorizationDetails(t.Context())
	if err != nil || len(users) != 2500 || len(server.Requests) != 3 {
		t.Fatalf("got %d users (%v) in %d pages, want 2500 in 3", len(users), err, len(server.Requests))
	}
	if u := users[7]; u.ARN != "arn:aws:iam::123456789012:user/ci/builders/user-0007" || len(u.AttachedPolicies) != 1 || u.AttachedPolicies[0] != quarantine {
		t.Errorf("got %+v, want its path and policy", u)
	}
	for i, want := range []iamkeys.Power{iamkeys.NoPower, iamkeys.Admin, iamkeys.NoPower, iamkeys.UnknownPower} {
		if u := users[i]; u.Power() != want || len(u.GroupPolicies) != []int{0, 2, 1, 0}[i] {
			t.Errorf("user %s has the power %q by %v of its groups, want %q", u.UserName, u.Power(), u.GroupPolicies, want)
		}
	}
}

func TestGetAccountSummary(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.AddRootKey(time.Hour)
	if rootKey, err := awsiam.New(config(account.Serve(t).URL)).GetAccountSummary(t.Context()); err != nil || !rootKey {
		t.Errorf("the root user has a key: %t, %v", rootKey, err)
	}
}

// Without capacity for a credential report IAM says so by a code that must not
// be mistaken for throttling: the SDK would retry that in vain.
func TestNoCapacity(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.CredentialReport.NoCapacity = true
	server := account.Serve(t)
	_, err := awsiam.NewForAudit(config(server.URL)).GenerateCredentialReport(t.Context())
	if iamkeys.CodeOf(err) != iamkeys.LimitExceeded || len(server.Requests) != 1 {
		t.Errorf("got %v after %d requests, want LimitExceeded after one", err, len(server.Requests))
	}
}

// CloudTrail tells who made a key by the nonce in the user agent of the call.
func TestCreateAccessKeyTellsItsNonce(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.AddUser("alice")
	c, err := awsiam.New(config(account.Serve(t).URL)).CreateAccessKey(t.Context(), "alice", "0a1b2c")
	if trail := account.Trail("0a1b2c"); err != nil || len(trail) != 1 || trail[0] != c.AccessKeyID {
		t.Errorf("made %s, %v; CloudTrail shows %v", c.AccessKeyID, err, trail)
	}
}

// For a request without a user name IAM takes the user that signed it.
func TestEmptyUserName(t *testing.T) {
	server := iamkeystest.NewAccount().Serve(t)
	i, ctx := awsiam.New(config(server.URL)), t.Context()
	_, listed := i.ListAccessKeys(ctx, "")
	_, user := i.GetUser(ctx, "")
	_, made := i.CreateAccessKey(ctx, "", "0a1b2c")
	for name, err := range map[string]error{
		"ListAccessKeys": listed, "GetUser": user, "CreateAccessKey": made,
		"UpdateAccessKey": i.UpdateAccessKey(ctx, "", "AKIAIOSFODNN7EXAMPLE", iamkeys.Inactive), "DeleteAccessKey": i.DeleteAccessKey(ctx, "", "AKIAIOSFODNN7EXAMPLE"),
	} {
		if iamkeys.CodeOf(err) != iamkeys.InvalidInput {
			t.Errorf("%s: got %v, want InvalidInput", name, err)
		}
	}
	if len(server.Requests) > 0 {
		t.Errorf("it asked for %v", server.Requests)
	}
}

// The server hands the process's faults on: an answer that is lost there is lost here.
func TestLostAnswer(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.AddUser("alice")
	server := account.Serve(t)
	server.Fault = func(int, string) iamkeystest.Fault { return iamkeystest.Lost }
	_, err := awsiam.New(config(server.URL)).CreateAccessKey(t.Context(), "alice", "0a1b2c")
	if e, ok := errors.AsType[*iamkeys.Error](err); !ok || !e.OutcomeUnknown || len(account.Keys("alice")) != 1 {
		t.Errorf("got %v and the keys %v, want an outcome unknown and one key", err, account.Keys("alice"))
	}
}

// IAM is one service per partition; the SDK finds it by the function's Region.
func TestEndpoint(t *testing.T) {
	for region, want := range map[string]string{
		"eu-west-1": "iam.amazonaws.com", "us-gov-west-1": "iam.us-gov.amazonaws.com", "cn-north-1": "iam.cn-north-1.amazonaws.com.cn",
	} {
		var host string
		c := within(roundTrip(func(r *http.Request) (*http.Response, error) {
			host = r.URL.Host
			return canned("<DeleteAccessKeyResponse></DeleteAccessKeyResponse>").RoundTrip(r)
		}))
		c.BaseEndpoint, c.Region = nil, region
		if err := awsiam.New(c).DeleteAccessKey(t.Context(), "alice", "AKIAIOSFODNN7EXAMPLE"); err != nil || host != want {
			t.Errorf("%s: asked %s (%v), want %s", region, host, err, want)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What is attached to a user, and to its groups, is read from all pages.
func TestPower(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.AddUser("alice")
	for n := range 3 {
		account.Attach("alice", fmt.Sprintf("arn:aws:iam::aws:policy/Own%d", n))
		account.AttachToGroup("group", fmt.Sprintf("arn:aws:iam::aws:policy/Group%d", n))
		account.Join("alice", fmt.Sprintf("group-%d", n))
	}
	server := account.Serve(t)
	server.PageSize = 1
	iam := awsiam.New(config(server.URL))
	own, err := iam.ListAttachedUserPolicies(t.Context(), "alice")
	if err != nil || len(own) != 3 || own[2] != "arn:aws:iam::aws:policy/Own2" {
		t.Errorf("got %v, %v", own, err)
	}
	groups, err := iam.ListGroupsForUser(t.Context(), "alice")
	if err != nil || !slices.Equal(groups, []string{"group-0", "group-1", "group-2"}) {
		t.Errorf("got %v, %v", groups, err)
	}
	attached, err := iam.ListAttachedGroupPolicies(t.Context(), "group")
	if err != nil || len(attached) != 3 || attached[2] != "arn:aws:iam::aws:policy/Group2" {
		t.Errorf("got %v, %v", attached, err)
	}
	for _, err := range []error{
		func() error { _, err := iam.ListAttachedUserPolicies(t.Context(), "nobody"); return err }(),
		func() error { _, err := iam.ListGroupsForUser(t.Context(), "nobody"); return err }(),
		func() error { _, err := iam.ListAttachedGroupPolicies(t.Context(), "none"); return err }(),
	} {
		if iamkeys.CodeOf(err) != iamkeys.NoSuchEntity {
			t.Errorf("got %v, want NoSuchEntity", err)
		}
	}
}
