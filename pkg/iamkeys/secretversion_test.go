package iamkeys_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func TestSecretNames(t *testing.T) {
	names := iamkeys.SecretNames{Prefix: "iamkeys/"}
	if got, want := names.Default("a,b=c+d@e.f-g_h"), "iamkeys/a=2Cb=3Dc+d@e.f-g_h/access-key"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	rapid.Check(t, func(rt *rapid.T) {
		userName := rapid.StringMatching(`[A-Za-z0-9_+=,.@-]{1,64}`)
		a, b := userName.Draw(rt, "a"), userName.Draw(rt, "b")
		if (a == b) != (names.Default(a) == names.Default(b)) {
			rt.Errorf("users %s and %s have the secrets %s and %s", a, b, names.Default(a), names.Default(b))
		}
		if strings.Contains(names.Default(a), ",") {
			rt.Errorf("%s holds a comma", names.Default(a))
		}
	})
}

// TestCreateSecretID tries what may be named as secretId, in the input and in
// the user's tag.
func TestCreateSecretID(t *testing.T) {
	arn := "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/x-AbCdEf"
	for _, c := range []struct {
		secretID string
		want     iamkeys.Code
	}{
		{"iamkeys/team/x", ""},
		{"iamkeys/", iamkeys.InvalidInput},
		{"elsewhere/x", iamkeys.InvalidInput},
		{"iamkeys/a,b", iamkeys.InvalidInput},
		{"iamkeys/x-AbCdEf", iamkeys.InvalidInput},
		{strings.Replace(arn, "iamkeys/", "elsewhere/", 1), iamkeys.InvalidInput},
		{arn, iamkeys.SecretUnavailable}, // there is none, and an ARN cannot be created
	} {
		for _, tagged := range []bool{false, true} {
			a := iamkeystest.NewAccount()
			in := iamkeys.CreateInput{UserName: user}
			if tagged {
				a.AddUser(user, iamkeys.Tag{Key: "IAMKEYS:Secret", Value: c.secretID})
			} else {
				a.AddUser(user)
				in.SecretID = c.secretID
			}
			p := a.Start()
			out, err := creator(p).Run(t.Context(), in)
			wantCode(t, err, c.want)
			if c.want == "" && a.Held(c.secretID) != out.AccessKeyID {
				t.Errorf("secret %s holds %q, want %s", c.secretID, a.Held(c.secretID), out.AccessKeyID)
			}
			if c.want == iamkeys.InvalidInput && !tagged && len(p.Calls) > 0 {
				t.Errorf("%s: called %v before the input was refused", c.secretID, p.Calls)
			}
		}
	}
}
