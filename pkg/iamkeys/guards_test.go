package iamkeys_test

import (
	"context"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// TestGuardsUnderFaults fails each call of deactivate and delete in every way:
// whatever fails, a key in use stays on, and nothing Active is deleted.
func TestGuardsUnderFaults(t *testing.T) {
	for _, fault := range iamkeystest.Faults {
		for n := 1; n <= 6; n++ {
			a := iamkeystest.NewAccount()
			a.AddUser(user)
			inUse, replacing := a.AddKey(user, 90*day), a.AddKey(user, 10*day)
			a.Deliver(secret, user, replacing)
			a.UsedAgo(replacing, time.Hour, "s3", "")
			a.UsedAgo(inUse, time.Hour, "s3", "")
			faulty := func() *iamkeystest.Process {
				p := a.Start()
				p.Fault = func(i int, _ string) iamkeystest.Fault {
					if i == n {
						return fault
					}
					return iamkeystest.None
				}
				return p
			}
			p := faulty()
			p.Run(func() {
				_, _ = deactivator(p).Run(context.Background(), iamkeys.DeactivateInput{UserName: user, AccessKeyID: inUse, ReplacedBy: replacing, SecretID: secret})
			})
			p = faulty()
			p.Run(func() {
				_, _ = deleter(p).Run(context.Background(), iamkeys.DeleteInput{UserName: user, AccessKeyID: inUse, ReplacedBy: replacing, SecretID: secret})
			})
			if got := status(a, inUse); got != iamkeys.Active {
				t.Errorf("call %d %s: the key in use is %s", n, fault, got)
			}
			a.SetStatus(user, inUse, iamkeys.Inactive) // and since then IAM shows that use
			p = faulty()
			p.Run(func() {
				_, _ = deleter(p).Run(context.Background(), iamkeys.DeleteInput{UserName: user, AccessKeyID: inUse, ReplacedBy: replacing, SecretID: secret, IdleSince: new(a.Now().Add(-day))})
			})
			if got := status(a, inUse); got != iamkeys.Inactive {
				t.Errorf("call %d %s: the key that was used since is %s", n, fault, got)
			}
		}
	}
}
