package simulation

import (
	"iamkeys/pkg/iamkeys/iamkeystest"
	"time"
)

// consumerEndings are the ways in which a rotation ends by what consumers do.
var consumerEndings = map[string]ending{
	"the happy path": {
		arrange: func(w *world, old string) { w.adopts(old) },
		old:     none, new: active, told: "ready off done", says: "The old key has been deleted",
	},
	"a consumer adopts late": {
		arrange: func(w *world, old string) {
			w.employ(&consumer{holds: old, service: "s3", every: 5 * hour, reading: once, period: 20 * day}, hour)
		},
		old: none, new: active, told: "ready reminder off done",
	},
	"a consumer reads the secret when it is refused": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.employ(&consumer{holds: old, service: "sqs", every: 20 * day, reading: whenRefused}, hour)
		},
		old: none, new: active, told: "ready off done",
	},
	"the old key stays in use": {
		arrange: func(w *world, old string) { w.stays(old) },
		want:    "KeyInUse", old: active, new: active, told: "ready reminder failed", says: "something still uses the old key", calls: "delete",
	},
	"one of two consumers stays with the old key": {
		arrange: func(w *world, old string) { w.adopts(old); w.stays(old) },
		want:    "KeyInUse", old: active, new: active, told: "ready reminder failed", says: "Both keys stay Active", calls: "delete",
	},
	"the old key was never used, and is younger than the quiet window for a while": {
		arrange: func(w *world, old string) {
			w.person(func() { w.DeleteKey(user, old); w.AddKey(user, day) }, "keys") // its consumer is not installed yet
			w.install(&consumer{service: "s3", every: 5 * hour, reading: everyTime}, 2*hour)
			w.Advance(hour)
		},
		input: map[string]any{"maxWaitDays": 5, "quietHours": 96},
		old:   none, new: active, told: "ready reminder off done",
	},
	"nobody uses the new key": {
		want: "NotAdopted", old: active, new: active, told: "ready reminder failed", says: "nothing has used the new key", calls: "delete",
	},
	"nobody uses the new key, and once its last use cannot be read": {
		arrange: func(w *world, old string) {
			w.fails("deactivate", "iam:GetAccessKeyLastUsed", 1, 1, iamkeystest.Refused) // the second one is the old key's
		},
		want: "NotAdopted", old: active, new: active, told: "ready reminder failed", calls: "delete",
	},
	"only a call of STS in the first hour uses the new key": {
		arrange: func(w *world, old string) {
			w.employ(&consumer{holds: old, service: "sts", every: 400 * day, reading: everyTime}, 400*day-30*time.Minute)
		},
		want: "NotAdopted", old: active, new: active, told: "ready reminder failed", calls: "delete",
	},
}
