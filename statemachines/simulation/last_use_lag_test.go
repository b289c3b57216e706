package simulation

import (
	"fmt"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A weekly job that stays with the old key keeps it on, while another consumer has
// moved: whenever in the poll's day it runs, and however late IAM shows that it did.
func TestLastUseThatLagsSwitchesNothingOff(t *testing.T) {
	for _, lag := range []time.Duration{hour, 4 * hour, iamkeys.LastUsedLag} {
		for phase := range 24 {
			t.Run(fmt.Sprint(lag, "/", phase), func(t *testing.T) {
				w, old := scene(t)
				w.LastUsedLag = lag
				w.adopts(old)
				w.install(&consumer{holds: old, service: "s3", every: 7 * day, reading: never}, time.Duration(phase)*15*time.Minute)
				e := w.rotate(old, map[string]any{"quietHours": 168}) // as long as the job rests
				if got := e.endName(); got != "KeyInUse" {
					t.Errorf("ended as %q, want KeyInUse", got)
				}
				w.wantKeys(old, iamkeys.Active, iamkeys.Active)
				w.conclude()
			})
		}
	}
}
