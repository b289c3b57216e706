package iamkeys_test

import (
	"testing"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func TestLastUsed(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	a.AddUser("other")
	never, used, others := a.AddKey(user, 50*day), a.AddKey(user, 40*day), a.AddKey("other", day)
	a.UsedAgo(used, 3*day, "s3", "")
	find := func(in iamkeys.LastUsedInput) (iamkeys.LastUsedOutput, error) {
		return iamkeys.FindLastUsed{IAM: a.Start(), Now: a.Now}.Run(t.Context(), in)
	}
	out, err := find(iamkeys.LastUsedInput{UserName: user})
	if err != nil || len(out.AccessKeys) != 2 {
		t.Fatalf("got %+v, %v", out, err)
	}
	if k := out.AccessKeys[0]; k.AccessKeyID != never || !k.NeverUsed || k.LastUsedDate != nil || k.ServiceName != nil || k.IdleDays != 50 {
		t.Errorf("a key that was never used: %+v", k)
	}
	if k := out.AccessKeys[1]; k.AccessKeyID != used || k.NeverUsed || k.LastUsedDate == nil || *k.ServiceName != "s3" || k.Region != nil || k.IdleDays != 3 {
		t.Errorf("a key that was used: %+v", k)
	}
	if out, err = find(iamkeys.LastUsedInput{AccessKeyID: others}); err != nil || out.UserName != "other" || len(out.AccessKeys) != 1 {
		t.Errorf("by key ID alone: %+v, %v", out, err)
	}
	_, err = find(iamkeys.LastUsedInput{UserName: user, AccessKeyID: others})
	wantCode(t, err, iamkeys.NoSuchEntity)
	_, err = find(iamkeys.LastUsedInput{AccessKeyID: "AKIANOBODYHASTHISKEY"})
	wantCode(t, err, iamkeys.NoSuchEntity)

	// Promise 1: a read that fails is never "never used".
	p := a.Start()
	p.Fault = func(_ int, action string) iamkeystest.Fault {
		if action == "iam:GetAccessKeyLastUsed" {
			return iamkeystest.Unanswered
		}
		return iamkeystest.None
	}
	if out, err := (iamkeys.FindLastUsed{IAM: p, Now: a.Now}).Run(t.Context(), iamkeys.LastUsedInput{UserName: user}); err == nil {
		t.Errorf("last use could not be read, and the answer is %+v", out)
	}
}
