package iamkeys_test

import (
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func TestList(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	list := iamkeys.List{IAM: a.Start(), Now: a.Now}
	out, err := list.Run(t.Context(), iamkeys.ListInput{UserName: user})
	if err != nil || out.AccessKeys == nil || len(out.AccessKeys) != 0 {
		t.Errorf("a user without keys: got %+v, %v; want an empty list", out, err)
	}
	young := a.AddKey(user, 2*day-time.Second)
	old := a.AddKey(user, 100*day)
	out, err = list.Run(t.Context(), iamkeys.ListInput{UserName: user})
	if err != nil || len(out.AccessKeys) != 2 || out.AccessKeys[0].AccessKeyID != old || out.AccessKeys[1].AccessKeyID != young {
		t.Fatalf("got %+v, %v; want %s before %s", out, err, old, young)
	}
	if got := out.AccessKeys[1].AgeDays; got != 1 {
		t.Errorf("a second short of two days is %d days, want 1", got)
	}
	same := []iamkeys.AccessKey{{AccessKeyID: "AKIAB", CreateDate: a.Now()}, {AccessKeyID: "AKIAA", CreateDate: a.Now()}, {AccessKeyID: "AKIAC", CreateDate: a.Now().Add(-day)}}
	if got := iamkeys.OldestFirst(same); got[0].AccessKeyID != "AKIAC" || got[1].AccessKeyID != "AKIAA" || got[2].AccessKeyID != "AKIAB" {
		t.Errorf("of the same second, by ID: got %v", got)
	}
	_, err = list.Run(t.Context(), iamkeys.ListInput{UserName: "nobody"})
	wantCode(t, err, iamkeys.NoSuchEntity)
}
