package simulation

import "iamkeys/pkg/iamkeys/iamkeystest"

// planEndings are the ways in which a rotation ends before anything was changed, or by what plan finds.
var planEndings = map[string]ending{
	"the secret holds a value of somebody else's": {
		arrange: func(w *world, old string) {
			w.person(func() { w.PutSecret(secret, "somebody-elses-version-of-this-secret") }, "secret")
			w.Advance(hour)
		},
		want: "SecretInUse", old: active, new: none, told: "failed", says: "refused before anything was changed", calls: "create deactivate delete",
	},
	"the secret is scrapped": {
		arrange: func(w *world, old string) {
			w.person(func() { w.ScheduleDeletion(secret); w.scrapped = true }, "secret")
			w.Advance(hour)
		},
		want: "SecretUnavailable", old: active, new: none, told: "failed", calls: "create deactivate delete",
	},
	"there is no such user": {
		input: map[string]any{"userName": "nobody"},
		want:  "NoSuchEntity", old: active, new: none, told: "failed", calls: "create deactivate delete",
	},
	"there is no such key": {
		input: map[string]any{"accessKeyId": "AKIAIAMKEYSTEST99999"},
		want:  "NoSuchEntity", old: active, new: none, told: "failed", calls: "create deactivate delete",
	},
	"the user has no Active key": {
		arrange: func(w *world, old string) {
			w.person(func() { w.SetStatus(user, old, inactive) }, old)
			w.Advance(hour)
		},
		want: "AmbiguousKeys", old: inactive, new: none, told: "failed", calls: "create deactivate delete",
	},
	"the user has two Active keys": {
		arrange: func(w *world, old string) {
			w.person(func() { w.AddKey(user, day) }, "keys")
			w.Advance(hour)
		},
		want: "AmbiguousKeys", old: active, new: active, told: "failed", calls: "create deactivate delete",
	},
	"the user has two Active keys and one is named": {
		arrange: func(w *world, old string) {
			w.person(func() { w.AddKey(user, day) }, "keys")
			w.Advance(hour)
		},
		input: map[string]any{"accessKeyId": "AKIAIAMKEYSTEST00001"},
		want:  "LimitExceeded", old: active, new: active, told: "failed", calls: "create deactivate delete",
	},
	"a wait that cannot be": {
		input: map[string]any{"quietHours": 1},
		want:  "InvalidInput", old: active, new: none, told: "failed", calls: "create deactivate delete",
	},
	"a wait of more polls than an execution has room for": {
		input: map[string]any{"pollHours": 1, "maxWaitDays": 100},
		want:  "InvalidInput", old: active, new: none, told: "failed", calls: "create deactivate delete",
	},
	"waits of more than a year": {
		input: map[string]any{"maxWaitDays": 200, "soakDays": 200},
		want:  "InvalidInput", old: active, new: none, told: "failed", calls: "create deactivate delete",
	},
	"a poll longer than the wait": {
		input: map[string]any{"maxWaitDays": 2, "pollHours": 72},
		want:  "InvalidInput", old: active, new: none, told: "failed", calls: "create deactivate delete",
	},
	"a field that is none": {
		input: map[string]any{"quiteHours": 100},
		want:  "InvalidInput", old: active, new: none, told: "failed", calls: "create deactivate delete",
	},
	"plan dies": {
		arrange: func(w *world, old string) { w.fails("plan", "iam:GetUser", 1, always, iamkeystest.Dies) },
		want:    "Runtime.ExitError", old: active, new: none, told: "failed", says: "refused before anything was changed", calls: "create deactivate delete",
	},
}
