package simulation

import (
	"iamkeys/pkg/iamkeys/iamkeystest"
	"strings"
)

// noticeEndings are the ways in which a rotation ends when notices fail, and what they tell of errors.
var noticeEndings = map[string]ending{
	"nobody can be told that the new key is ready": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.fails("notify", "sns:Publish", 1, 49, iamkeystest.Refused)
		},
		want: "NotifyFailed", old: active, new: active, told: "failed", says: "nobody could be told", calls: "deactivate delete",
	},
	"nobody can be told anything": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.fails("notify", "sns:Publish", 1, always, iamkeystest.Refused)
		},
		want: "NotifyFailed", old: active, new: active, calls: "deactivate delete",
	},
	"nobody can be told that the old key is off": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify off", func() { w.fails("notify", "sns:Publish", 1, 49, iamkeystest.Refused) })
		},
		want: "NotifyFailed", old: inactive, new: active, told: "ready failed", calls: "delete",
	},
	"nobody can be told that the old key is deleted": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.on("notify done", func() { w.fails("notify", "sns:Publish", 1, 49, iamkeystest.Refused) })
		},
		want: "NotifyFailed", old: none, new: active, told: "ready off failed",
	},
	"nobody can be reminded": {
		arrange: func(w *world, old string) {
			w.stays(old)
			w.on("notify reminder", func() { w.fails("notify", "sns:Publish", 1, 49, iamkeystest.Refused) })
		},
		want: "KeyInUse", old: active, new: active, told: "ready failed", calls: "delete",
	},
	"the topic is down for two days, each time": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			for _, stage := range []string{"ready", "off", "done"} {
				w.on("notify "+stage, func() { w.fails("notify", "sns:Publish", 1, 48, iamkeystest.Refused) })
			}
		},
		old: none, new: active, told: "ready off done",
	},
	"one bad call in the wait, and one in the soak": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.fails("deactivate", "iam:ListAccessKeys", 2, 2, iamkeystest.Unanswered)
			w.fails("delete", "iam:ListAccessKeys", 9, 9, iamkeystest.Unanswered)
		},
		old: none, new: active, told: "ready off done",
	},
	"an error in the wait is told by the reminder": {
		arrange: func(w *world, old string) {
			w.stays(old)
			w.fails("deactivate", "iam:GetAccessKeyLastUsed", 6, 6, iamkeystest.Refused)
			w.on("notify failed", func() {
				if m := w.started[0].notices[1].Text; !strings.Contains(m, "AccessDenied") {
					w.fail("the reminder does not tell of the error:\n%s", m)
				}
			})
		},
		want: "KeyInUse", old: active, new: active, told: "ready reminder failed", says: "something still uses the old key",
	},
	"an error after the reminder is told by off": {
		arrange: func(w *world, old string) {
			w.employ(&consumer{holds: old, service: "s3", every: 5 * hour, reading: once, period: 20 * day}, hour)
			w.fails("deactivate", "iam:ListAccessKeys", 100, 100, iamkeystest.Refused)
			w.on("notify done", func() {
				if m := w.started[0].notices[2].Text; !strings.Contains(m, "AccessDenied") {
					w.fail("the notice off does not tell of the error:\n%s", m)
				}
			})
		},
		old: none, new: active, told: "ready reminder off done",
	},
}
