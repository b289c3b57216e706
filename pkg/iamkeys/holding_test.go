package iamkeys_test

import (
	"errors"
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
		// No secret that a tag may name for the one is the other's own.
		if _, unproved, err := names.Of(iamkeys.User{UserName: b, Tags: []iamkeys.Tag{{Key: iamkeys.TagSecret, Value: names.Default(a)}}}, ""); err != nil || unproved == (a == b) {
			rt.Errorf("user %s is tagged with the secret of %s: unproved %t, %v", b, a, unproved, err)
		}
	})
}

const (
	arn     = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/x-AbCdEf"
	deployX = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/ci-deploy/ci-deploy-AbCdEf"
)

// TestCreateSecretID tries what may be named as secretId, in the input and in the user's
// tag: who reads a refusal knows what to write instead.
func TestCreateSecretID(t *testing.T) {
	for _, c := range []struct {
		secretID string
		want     iamkeys.Code // of the input
		byTag    iamkeys.NameFault
		says     string
	}{
		{secretID: "iamkeys/team/x", byTag: iamkeys.NameNotByTag, says: "begins with iamkeys/ci-deploy/"},
		{secretID: "iamkeys/ci-deploy", byTag: iamkeys.NameMalformed, want: iamkeys.InvalidInput, says: "full ARN"},
		{secretID: "iamkeys/ci-deploy/smtp"},
		{secretID: "iamkeys/ci-deploy/", says: ""},
		{secretID: "iamkeys/ci-deployer/x", byTag: iamkeys.NameNotByTag},
		{secretID: "iamkeys/", want: iamkeys.InvalidInput, byTag: iamkeys.NameOutsidePrefix, says: "under iamkeys/"},
		{secretID: "elsewhere/x", want: iamkeys.InvalidInput, byTag: iamkeys.NameOutsidePrefix, says: "under iamkeys/"},
		{secretID: "iamkeys/a,b", want: iamkeys.InvalidInput, byTag: iamkeys.NameMalformed, says: "A-Z a-z 0-9"},
		{secretID: "iamkeys/ci-deploy/app-secret", want: iamkeys.InvalidInput, byTag: iamkeys.NameMalformed, says: "give the secret's full ARN instead"},
		{secretID: deployX, want: iamkeys.SecretUnavailable, says: "Make it"}, // there is none, and an ARN cannot be created
		{secretID: arn, want: iamkeys.SecretUnavailable, byTag: iamkeys.NameNotByTag},
		{secretID: strings.Replace(arn, "iamkeys/", "elsewhere/", 1), want: iamkeys.InvalidInput, byTag: iamkeys.NameOutsidePrefix},
		{secretID: strings.Replace(deployX, "123456789012", "210987654321", 1), want: iamkeys.InvalidInput, byTag: iamkeys.NameElsewhere, says: "of account 210987654321 in eu-west-1"},
		{secretID: strings.Replace(deployX, "eu-west-1", "us-east-1", 1), want: iamkeys.InvalidInput, byTag: iamkeys.NameElsewhere, says: "of account 123456789012 in us-east-1"},
		{secretID: "", byTag: iamkeys.NameMalformed, says: "is empty"},
	} {
		for _, tagged := range []bool{false, true} {
			a := iamkeystest.NewAccount()
			in, want := iamkeys.CreateInput{UserName: user}, c.want
			if tagged {
				a.AddUser(user, iamkeys.Tag{Key: "IAMKEYS:Secret", Value: "  " + c.secretID + "\t"}) // blanks around it do not matter
				if c.byTag != "" {
					want = iamkeys.InvalidInput
				}
			} else {
				a.AddUser(user)
				in.SecretID = c.secretID
			}
			p := a.Start()
			o := creator(p)
			o.Secrets = iamkeys.SecretNames{Prefix: "iamkeys/", ARN: "arn:aws:secretsmanager:eu-west-1:" + a.ID + ":secret"}
			out, err := o.Run(t.Context(), in)
			if iamkeys.CodeOf(err) != want {
				t.Errorf("%q by tag %t: got %v, want code %q", c.secretID, tagged, err, want)
				continue
			}
			if fault, _ := errors.AsType[iamkeys.NameFault](err); tagged && fault != c.byTag {
				t.Errorf("the tag %q: the fault is %q, want %q", c.secretID, fault, c.byTag)
			}
			if err == nil && c.secretID != "" && a.Held(c.secretID) != out.AccessKeyID {
				t.Errorf("secret %s holds %q, want %s", c.secretID, a.Held(c.secretID), out.AccessKeyID)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q by tag %t: got %v, which does not say %q", c.secretID, tagged, err, c.says)
			}
			if want == iamkeys.InvalidInput && !tagged && len(p.Calls) > 0 {
				t.Errorf("%s: called %v before the input was refused", c.secretID, p.Calls)
			}
			if len(a.Keys(user)) > 0 && err != nil {
				t.Errorf("%s by tag %t: %v, and there is a key", c.secretID, tagged, err)
			}
		}
	}
}

// TestCreateTaggedSecret: a tag names a secret that is not the user's own by its name.
// The key goes there only if the secret delivers one of the user's keys already; a
// person's word in the input is enough.
func TestCreateTaggedSecret(t *testing.T) {
	const named = "iamkeys/team/x"
	a := iamkeystest.NewAccount()
	a.AddUser(user, iamkeys.Tag{Key: iamkeys.TagSecret, Value: named})
	create := func(in iamkeys.CreateInput) (iamkeys.CreateOutput, error) {
		in.UserName = user
		return creator(a.Start()).Run(t.Context(), in)
	}
	_, err := create(iamkeys.CreateInput{})
	wantCode(t, err, iamkeys.InvalidInput)

	a.AddUser("mallory")
	a.Deliver(named, "mallory", a.AddKey("mallory", day))
	_, err = create(iamkeys.CreateInput{Overwrite: true})
	wantCode(t, err, iamkeys.InvalidInput)

	a.PutSecret(named, iamkeys.VersionID(user, "AKIANOBODYHASTHISKEY")) // forged
	_, err = create(iamkeys.CreateInput{})
	wantCode(t, err, iamkeys.InvalidInput)
	if keys := a.Keys(user); len(keys) > 0 {
		t.Fatalf("there are the keys %v", keys)
	}

	first, err := create(iamkeys.CreateInput{SecretID: named})
	wantCode(t, err, "")
	second, err := create(iamkeys.CreateInput{Replaces: first.AccessKeyID})
	if err != nil || a.Held(named) != second.AccessKeyID {
		t.Errorf("got %v, and the secret holds %q, want %s", err, a.Held(named), second.AccessKeyID)
	}
}

// A secret that may not be looked at is AccessDenied, which names the action, for create
// as for plan; one that does not answer is SecretUnavailable.
func TestSecretDenied(t *testing.T) {
	const look = "secretsmanager:DescribeSecret"
	for fault, want := range map[iamkeystest.Fault]iamkeys.Code{iamkeystest.Refused: iamkeys.AccessDenied, iamkeystest.Throttled: iamkeys.Throttled, iamkeystest.Unanswered: iamkeys.SecretUnavailable} {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		a.AddKey(user, 80*day)
		p := a.Start()
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			if action == look {
				return fault
			}
			return iamkeystest.None
		}
		_, created := creator(p).Run(t.Context(), iamkeys.CreateInput{UserName: user})
		_, planned := planner(p).Run(t.Context(), iamkeys.PlanInput{UserName: user})
		for _, err := range []error{created, planned} {
			wantCode(t, err, want)
			if want == iamkeys.AccessDenied && !strings.Contains(err.Error(), look) {
				t.Errorf("%v does not name the action", err)
			}
		}
	}
}
