package simulation

import (
	"iamkeys/pkg/iamkeys/iamkeystest"
	"time"
)

// peopleEndings are the ways in which a rotation ends when people act.
var peopleEndings = map[string]ending{
	"somebody reactivates the old key in the soak": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() {
				w.in(3*day, func() { w.person(func() { w.SetStatus(user, old, active) }, old) })
			})
		},
		want: "RolledBack", old: active, new: active, told: "ready off failed", says: "Somebody reactivated the old key during its soak",
	},
	"somebody reactivates the old key on day 5, to switch it off again on day 29": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() {
				w.in(5*day-hour, func() { w.person(func() { w.SetStatus(user, old, active) }, old) })
				w.in(5*day, func() { w.install(&consumer{holds: old, service: "s3", every: 2 * day, reading: never}, 0) })
				w.in(29*day-hour, func() { w.person(func() { w.SetStatus(user, old, inactive) }, old) })
			})
		},
		want: "RolledBack", old: active, new: active, told: "ready off failed",
	},
	"somebody reactivates the old key, uses it, and switches it off again, between two looks": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() {
				w.in(5*day+hour, func() { w.person(func() { w.SetStatus(user, old, active) }, old) })
				w.in(5*day+2*hour, func() { w.install(&consumer{holds: old, service: "s3", every: 900 * day, reading: never}, 0) })
				w.in(5*day+3*hour, func() { w.person(func() { w.SetStatus(user, old, inactive) }, old) })
			})
		},
		want: "KeyInUse", old: inactive, new: active, told: "ready off failed", says: "shortly before it was off",
	},
	"a use three hours before the old key is off, which IAM shows only after": {
		arrange: func(w *world, old string) {
			w.LastUsedLag = 6 * hour
			w.install(&consumer{reading: everyTime, service: "s3", every: 5 * hour}, hour) // shown by the second poll
			w.install(&consumer{holds: old, service: "s3", every: 900 * day, reading: never}, 9*hour+30*time.Minute)
		},
		want: "KeyInUse", old: inactive, new: active, told: "ready off failed", says: "shortly before it was off",
	},
	"somebody reactivates the old key just before its deletion": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("delete", func() { w.person(func() { w.SetStatus(user, old, active) }, old); w.Advance(5 * time.Second) })
		},
		want: "RolledBack", old: active, new: active, told: "ready off failed",
	},
	"somebody deletes the new key in the soak": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() { w.in(3*day, func() { w.person(func() { w.DeleteKey(user, w.held()) }, w.held()) }) })
		},
		want: "NotReplaced", old: inactive, new: none, told: "ready off failed", says: "NOT deleted",
	},
	"somebody switches the new key off in the soak": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() {
				w.in(3*day, func() { w.person(func() { w.SetStatus(user, w.held(), inactive) }, w.held()) })
			})
		},
		want: "NotReplaced", old: inactive, new: inactive, told: "ready off failed", says: "What to do, at once: reactivate",
	},
	"somebody changes the secret in the soak": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() {
				w.in(3*day, func() { w.person(func() { w.PutSecret(secret, "somebody-elses-version-of-this-secret") }, "secret") })
			})
		},
		want: "NotReplaced", old: inactive, new: active, told: "ready off failed",
	},
	"somebody scraps the secret in the soak": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() {
				w.in(3*day, func() { w.person(func() { w.ScheduleDeletion(secret); w.scrapped = true }, "secret") })
			})
		},
		want: "NotReplaced", old: inactive, new: active, told: "ready off failed",
	},
	"somebody deletes the user in the soak": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() { w.in(3*day, func() { w.person(func() { w.RemoveUser(user) }, "user") }) })
		},
		want: "NoSuchEntity", old: none, new: none, told: "ready off failed",
	},
	"somebody deletes the old key in the soak": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() { w.in(3*day, func() { w.person(func() { w.DeleteKey(user, old) }, old) }) })
		},
		old: none, new: active, told: "ready off done",
	},
	"somebody deletes the old key as the last poll begins": { // the list shows it still
		arrange: func(w *world, old string) {
			w.stays(old)
			w.on("deactivate", func() { w.person(func() { w.DeleteKey(user, old) }, old) })
		},
		input: map[string]any{"quietHours": 24, "maxWaitDays": 2, "pollHours": 48},
		old:   none, new: active, told: "ready done",
	},
	"somebody deletes the new key in the wait": {
		arrange: func(w *world, old string) {
			w.stays(old)
			w.on("notify ready", func() { w.in(3*day, func() { w.person(func() { w.DeleteKey(user, w.held()) }, w.held()) }) })
		},
		want: "NotReplaced", old: active, new: none, told: "ready failed", says: "The old key was not switched off",
	},
	"somebody changes the secret in the wait": {
		arrange: func(w *world, old string) {
			w.stays(old)
			w.on("notify ready", func() {
				w.in(3*day, func() { w.person(func() { w.Deliver(secret, user, old) }, "secret") })
			})
		},
		want: "NotReplaced", old: active, new: active, told: "ready failed",
	},
	"somebody deletes the user in the wait": {
		arrange: func(w *world, old string) {
			w.on("notify ready", func() { w.in(3*day, func() { w.person(func() { w.RemoveUser(user) }, "user") }) })
		},
		want: "NoSuchEntity", old: none, new: none, told: "ready failed", says: "NoSuchEntity",
	},
	"somebody deletes the old key in the wait": {
		arrange: func(w *world, old string) {
			w.on("notify ready", func() { w.in(3*day, func() { w.person(func() { w.DeleteKey(user, old) }, old) }) })
		},
		old: none, new: active, told: "ready done", says: "Somebody has deleted the old key during the wait", calls: "delete",
	},
	"somebody deletes the old key in the wait, and what is left cannot be listed": {
		arrange: func(w *world, old string) {
			w.fails("list", "iam:ListAccessKeys", 1, always, iamkeystest.Refused)
			w.on("notify ready", func() { w.in(3*day, func() { w.person(func() { w.DeleteKey(user, old) }, old) }) })
		},
		want: "NotAdopted", old: none, new: active, told: "ready reminder failed", says: "AccessDenied", calls: "delete",
	},
	"somebody switches the old key off in the wait": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify ready", func() {
				w.in(3*day, func() { w.person(func() { w.SetStatus(user, old, inactive) }, old) })
			})
		},
		old: none, new: active, told: "ready off done",
	},
	"somebody switches the old key off in the wait, while it is in use": {
		arrange: func(w *world, old string) {
			w.stays(old)
			w.on("notify ready", func() {
				w.in(3*day, func() { w.person(func() { w.SetStatus(user, old, inactive) }, old) })
			})
		},
		input: map[string]any{"maxWaitDays": 5, "quietHours": 96},
		want:  "NotAdopted", old: inactive, new: active, told: "ready reminder failed",
	},
}
