package iamkeys_test

import (
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func TestActivate(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	id := a.AddKey(user, day)
	a.SetStatus(user, id, iamkeys.Inactive)
	for _, changed := range []bool{true, false} {
		p := a.Start()
		out, err := iamkeys.Activate{IAM: p, Log: quiet}.Run(t.Context(), iamkeys.ActivateInput{UserName: user, AccessKeyID: id})
		if err != nil || out.Changed != changed || status(a, id) != iamkeys.Active || len(p.Calls) > 2 {
			t.Errorf("got %+v, %v with calls %v; want changed %t", out, err, p.Calls, changed)
		}
	}
	a.SetStatus(user, id, "Suspended")
	_, err := iamkeys.Activate{IAM: a.Start(), Log: quiet}.Run(t.Context(), iamkeys.ActivateInput{UserName: user, AccessKeyID: id})
	wantCode(t, err, iamkeys.Internal)
	_, err = iamkeys.Activate{IAM: a.Start(), Log: quiet}.Run(t.Context(), iamkeys.ActivateInput{UserName: user, AccessKeyID: "AKIANOBODYHASTHISKEY"})
	wantCode(t, err, iamkeys.NoSuchEntity)
}

// A person takes an order back two seconds later: what the list shows then is older
// than the order.
func TestActivateRightAfterDeactivate(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.ListLag = 10 * time.Second
	a.AddUser(user)
	id := a.AddKey(user, day)
	a.Advance(time.Minute)
	if _, err := deactivator(a.Start()).Run(t.Context(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: id, QuietHours: new(0)}); err != nil || status(a, id) != iamkeys.Inactive {
		t.Fatalf("%v, the key is %s", err, status(a, id))
	}
	a.Advance(2 * time.Second)
	out, err := iamkeys.Activate{IAM: a.Start(), Log: quiet}.Run(t.Context(), iamkeys.ActivateInput{UserName: user, AccessKeyID: id})
	if err != nil || out.Status != iamkeys.Active || status(a, id) != iamkeys.Active {
		t.Errorf("got %+v, %v; the key is %s", out, err, status(a, id))
	}
}

// A key that lists do not show yet can be switched on all the same.
func TestActivateUnlisted(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	a.Advance(time.Minute)
	id := a.AddKey(user, 0)
	a.SetStatus(user, id, iamkeys.Inactive)
	a.ListLag = 10 * time.Second
	out, err := iamkeys.Activate{IAM: a.Start(), Log: quiet}.Run(t.Context(), iamkeys.ActivateInput{UserName: user, AccessKeyID: id})
	if err != nil || !out.Changed || status(a, id) != iamkeys.Active {
		t.Errorf("got %+v, %v; the key is %s", out, err, status(a, id))
	}
}
