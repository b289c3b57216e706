package simulation

import "iamkeys/pkg/iamkeys/iamkeystest"

// stepEndings are the ways in which a rotation ends when steps fail, die and run twice.
var stepEndings = map[string]ending{
	"errors through all of the wait": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.fails("deactivate", "iam:ListAccessKeys", 1, always, iamkeystest.Refused)
		},
		want: "AccessDenied", old: active, new: active, told: "ready reminder failed", says: "Both keys were Active when last seen", calls: "delete",
	},
	"the last attempt dies once the old key is off": {
		arrange: func(w *world, old string) {
			w.employ(&consumer{holds: old, service: "s3", every: 5 * hour, reading: once, period: 856 * hour}, hour) // its last use of the old key is so late that just the last attempt finds it quiet
			others, off := w.fault, false
			w.fault = func(h *hand, n int, action string) iamkeystest.Fault {
				switch {
				case h.function == "deactivate" && action == "iam:UpdateAccessKey":
					off = true
					return iamkeystest.DiesAfter
				case h.function == "deactivate" && off: // its repeats
					return iamkeystest.Dies
				}
				return others(h, n, action)
			}
		},
		want: "KeyInUse", old: inactive, new: active, told: "ready reminder failed", says: "may have switched the old one off all the same",
	},
	"switching off dies once the old key is off": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.fails("deactivate", "iam:UpdateAccessKey", 1, 1, iamkeystest.DiesAfter)
		},
		old: none, new: active, told: "ready off done",
	},
	"deleting dies once the old key is gone": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.fails("delete", "iam:DeleteAccessKey", 1, 1, iamkeystest.DiesAfter)
		},
		old: none, new: active, told: "ready off done",
	},
	"the old key may not be deleted": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.fails("delete", "iam:DeleteAccessKey", 1, always, iamkeystest.Refused)
		},
		want: "AccessDenied", old: inactive, new: active, told: "ready off failed", says: "takes up the soak again",
	},
	"Lambda refuses for a while": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			n := 0
			w.trouble = func(*execution, string) trouble {
				if n++; n%3 != 0 {
					return busy
				}
				return smooth
			}
		},
		old: none, new: active, told: "ready off done",
	},
	"every step runs twice": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.trouble = func(*execution, string) trouble { return again }
		},
		old: none, new: active, told: "ready ready off off done done",
	},
	"every step runs beside itself": {
		arrange: func(w *world, old string) {
			w.adopts(old)
			w.trouble = func(*execution, string) trouble { return beside }
		},
		old: none, new: active, told: "ready ready off off done done",
	},
}
