package iamkeys_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

const day = 24 * time.Hour

var quiet = slog.New(slog.DiscardHandler)

// wantCode fails unless err has that code; the empty code wants no error.
func wantCode(t *testing.T, err error, want iamkeys.Code) {
	t.Helper()
	if got := iamkeys.CodeOf(err); got != want {
		t.Errorf("got %v, want code %q", err, want)
	}
}

func status(a *iamkeystest.Account, id string) iamkeys.Status {
	for _, k := range a.Keys(user) {
		if k.AccessKeyID == id {
			return k.Status
		}
	}
	return "gone"
}

func TestValidate(t *testing.T) {
	const id = "AKIAIOSFODNN7EXAMPLE"
	long := strings.Repeat("a", 129)
	for _, c := range []struct {
		in    interface{ Validate() error }
		field string // "" when the input is fine
	}{
		{iamkeys.ListInput{UserName: "a"}, ""},
		{iamkeys.ListInput{UserName: long[:128]}, ""},
		{iamkeys.ListInput{UserName: "all+of=these,are@fine.in_a-name"}, ""},
		{iamkeys.ListInput{}, "userName"},
		{iamkeys.ListInput{UserName: long}, "userName"},
		{iamkeys.ListInput{UserName: "a b"}, "userName"},
		{iamkeys.ListInput{UserName: "path/name"}, "userName"},
		{iamkeys.ListInput{UserName: "müller"}, "userName"},
		{iamkeys.ListInput{UserName: "a\n"}, "userName"},
		{iamkeys.LastUsedInput{}, "userName"},
		{iamkeys.LastUsedInput{AccessKeyID: id}, ""},
		{iamkeys.LastUsedInput{AccessKeyID: id[:15]}, "accessKeyId"},
		{iamkeys.CreateInput{UserName: "a", Replaces: "AKIA-not-an-ID-but-long"}, "replaces"},
		{iamkeys.DeactivateInput{UserName: "a"}, "accessKeyId"},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, QuietHours: new(-1)}, "quietHours"},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, QuietHours: new(8761)}, "quietHours"},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, QuietHours: new(8760)}, ""},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, ReplacedBy: "x"}, "replacedBy"},
		{iamkeys.DeactivateInput{UserName: "a", AccessKeyID: id, SecretID: "iamkeys/x"}, "secretId"},
		{iamkeys.ActivateInput{UserName: "a", AccessKeyID: strings.Repeat("A", 129)}, "accessKeyId"},
		{iamkeys.DeleteInput{UserName: "a", AccessKeyID: id, ReplacedBy: "x"}, "replacedBy"},
		{iamkeys.DeleteInput{UserName: "a", AccessKeyID: id, SecretID: "iamkeys/x"}, "secretId"},
		{iamkeys.CreateInput{UserName: "a"}, ""},
		{iamkeys.CreateInput{}, "userName"},
		{iamkeys.PlanInput{UserName: "a"}, ""},
		{iamkeys.PlanInput{UserName: "a b"}, "userName"},
		{iamkeys.PlanInput{UserName: "a", AccessKeyID: id}, ""},
		{iamkeys.PlanInput{UserName: "a", AccessKeyID: "x"}, "accessKeyId"},
	} {
		err := c.in.Validate()
		if c.field == "" && err != nil || c.field != "" && (iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), c.field)) {
			t.Errorf("%+v: got %v, want InvalidInput naming %q", c.in, err, c.field)
		}
	}
}

// Where IAM does not say whether a key that the list does not show is there, it is neither
// gone nor another user's.
func TestUnlistedKeyUnread(t *testing.T) {
	const id = "AKIANOBODYHASTHISKEY"
	for fault, want := range map[iamkeystest.Fault]iamkeys.Code{iamkeystest.Throttled: iamkeys.Throttled, iamkeystest.Unanswered: iamkeys.Internal} {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		p := a.Start()
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			if action == "iam:GetAccessKeyLastUsed" {
				return fault
			}
			return iamkeystest.None
		}
		_, err := deactivator(p).Run(t.Context(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: id})
		wantCode(t, err, want)
		out, err := deleter(p).Run(t.Context(), iamkeys.DeleteInput{UserName: user, AccessKeyID: id})
		wantCode(t, err, want)
		if out.Gone {
			t.Errorf("%s: delete says that the key is gone", fault)
		}
	}
}

// What a message says of a last use, and of a value that was refused.
func TestWords(t *testing.T) {
	at := iamkeystest.Epoch
	for want, used := range map[string]iamkeys.LastUsed{
		"never used":                                            {},
		"last used 2026-11-23T09:00:00Z":                        {Date: at},
		"last used 2026-11-23T09:00:00Z by iam":                 {Date: at, ServiceName: "iam"},
		"last used 2026-11-23T09:00:00Z by s3 in eu-west-1":     {Date: at, ServiceName: "s3", Region: "eu-west-1"},
		"last used 2026-11-23T09:00:00Z by sqs in ap-southeast": {Date: at.In(time.FixedZone("CET", 3600)), ServiceName: "sqs", Region: "ap-southeast"},
	} {
		if got := used.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	long := strings.Repeat("a", 40)
	for value, want := range map[string]string{"": "nothing", "a\"\n": `"a\"\n"`, long: `"` + long + `"`, long + "b": `"` + long + `"... (41 bytes)`} {
		if got := iamkeys.Quoted(value); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	says := func(want string) {
		t.Helper()
		if _, err := deactivator(a.Start()).Run(t.Context(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: "AKIANOBODYHASTHISKEY"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, which does not say %q", err, want)
		}
	}
	says("Its keys: none.")
	first, second := a.AddKey(user, day), a.AddKey(user, 0)
	says("Its keys: " + first + " (Active, created 2026-11-22), " + second + " (Active, created 2026-11-23).")
}
