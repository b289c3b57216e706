package simulation

import (
	"iamkeys/pkg/iamkeys/iamkeystest"
	"time"
)

// createEndings are the ways in which a rotation ends by what becomes of create.
var createEndings = map[string]ending{
	"create may not make a key": {
		arrange: func(w *world, old string) {
			w.fails("create", "iam:CreateAccessKey", 1, always, iamkeystest.Refused)
		},
		want: "AccessDenied", old: active, new: none, told: "failed", says: "No new key is known to be delivered", calls: "deactivate delete",
	},
	"the answer of CreateAccessKey is lost": {
		arrange: func(w *world, old string) {
			w.fails("create", "iam:CreateAccessKey", 1, 1, iamkeystest.Lost)
		},
		want: "OrphanedKey", old: active, new: active, told: "failed", says: "AKIAIAMKEYSTEST00002", calls: "deactivate delete",
	},
	"STS never accepts the new key": {
		arrange: func(w *world, old string) { w.Propagation = hour },
		want:    "DeliveryFailed", old: active, new: none, told: "failed", calls: "deactivate delete",
	},
	"the secret cannot be written": {
		arrange: func(w *world, old string) {
			w.fails("create", "secretsmanager:PutSecretValue", 1, always, iamkeystest.Refused)
		},
		want: "AccessDenied", old: active, new: none, told: "failed", calls: "deactivate delete",
	},
	"storing the new key fails": {
		arrange: func(w *world, old string) {
			w.fails("create", "secretsmanager:PutSecretValue", 2, always, iamkeystest.Refused)
		},
		want: "DeliveryFailed", old: active, new: none, told: "failed", says: "was deleted again", calls: "deactivate delete",
	},
	"storing the new key fails, and so does removing it": {
		arrange: func(w *world, old string) {
			w.fails("create", "secretsmanager:PutSecretValue", 2, always, iamkeystest.Refused)
			others := w.fault
			w.fault = func(h *hand, n int, action string) iamkeystest.Fault {
				if action == "iam:DeleteAccessKey" {
					return iamkeystest.Refused
				}
				return others(h, n, action)
			}
		},
		want: "OrphanedKey", old: active, new: active, told: "failed", says: "AKIAIAMKEYSTEST00002", calls: "deactivate delete",
	},
	"whether the new key was stored is unknown": {
		arrange: func(w *world, old string) {
			w.fails("create", "secretsmanager:PutSecretValue", 2, always, iamkeystest.Unanswered)
		},
		want: "OrphanedKey", old: active, new: active, told: "failed", says: "AKIAIAMKEYSTEST00002", calls: "deactivate delete",
	},
	"create dies once it has noted the key that it made": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.fails("create", "secretsmanager:UpdateSecretVersionStage", 2, 2, iamkeystest.DiesAfter)
		},
		old: none, new: active, told: "ready off done",
	},
	"create dies before it has noted the key that it made": {
		arrange: func(w *world, old string) {
			w.fails("create", "iam:CreateAccessKey", 1, 1, iamkeystest.DiesAfter)
		},
		want: "OrphanedKey", old: active, new: active, told: "failed", says: "AKIAIAMKEYSTEST00002", calls: "deactivate delete",
	},
	"create dies once it has delivered a key": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.fails("create", "secretsmanager:PutSecretValue", 2, 2, iamkeystest.DiesAfter)
		},
		old: none, new: active, told: "ready off done",
	},
	"create dies, and somebody makes a key at that time and uses it": {
		arrange: func(w *world, old string) {
			w.LastUsedLag = 0
			w.fails("create", "secretsmanager:UpdateSecretVersionStage", 1, 1, iamkeystest.DiesAfter) // it has the lock
			others, done := w.fault, false
			w.fault = func(h *hand, n int, action string) iamkeystest.Fault {
				how := others(h, n, action)
				if how == iamkeystest.DiesAfter && !done {
					done = true
					w.in(time.Second, func() {
						w.person(func() {
							w.install(&consumer{holds: w.AddKey(user, 0), service: "s3", every: hour, reading: never}, time.Minute)
						}, "keys")
					})
				}
				return how
			}
		},
		want: "OrphanedKey", old: active, new: active, told: "failed", says: "AKIAIAMKEYSTEST00002", calls: "deactivate delete",
	},
	"create dies each time": {
		arrange: func(w *world, old string) {
			w.fails("create", "iam:CreateAccessKey", 1, always, iamkeystest.Dies)
		},
		want: "Runtime.ExitError", old: active, new: none, told: "failed", says: "gave no answer, so whether there is a new key is unknown: a key may be left over", calls: "deactivate delete",
	},
	"create dies once it has made a key, and then is not permitted": {
		arrange: func(w *world, old string) {
			w.fails("create", "iam:CreateAccessKey", 1, 1, iamkeystest.DiesAfter)
			w.fails("create", "iam:GetUser", 2, always, iamkeystest.Refused)
		},
		want: "AccessDenied", old: active, new: active, told: "failed", says: "a key may be left over", calls: "deactivate delete",
	},
	"the secret holds a value of somebody else's since plan has looked": {
		arrange: func(w *world, old string) {
			w.on("create", func() {
				w.person(func() { w.PutSecret(secret, "somebody-elses-version-of-this-secret") }, "secret")
				w.Advance(hour)
			})
		},
		want: "SecretInUse", old: active, new: none, told: "failed", says: "No new key is known to be delivered", calls: "deactivate delete",
	},
	"the secret holds a value of somebody else's, which may be overwritten": {
		arrange: func(w *world, old string) {
			w.person(func() { w.PutSecret(secret, "somebody-elses-version-of-this-secret") }, "secret")
			w.Advance(hour)
			w.adopts(old)
		},
		input: map[string]any{"overwrite": true},
		old:   none, new: active, told: "ready off done",
	},
}
