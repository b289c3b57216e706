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
	} {
		err := c.in.Validate()
		if c.field == "" && err != nil || c.field != "" && (iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), c.field)) {
			t.Errorf("%+v: got %v, want InvalidInput naming %q", c.in, err, c.field)
		}
	}
}
