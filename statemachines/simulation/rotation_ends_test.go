package simulation

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// scene is an account with AWS's usual delays, and on it a user whose one key,
// 90 days old, its secret delivers.
func scene(t reporter) (w *world, old string) {
	w = newWorld(t)
	w.AddUser(user, iamkeys.Tag{Key: "owner", Value: "team-ci"})
	old = w.AddKey(user, 90*day)
	w.Deliver(secret, user, old)
	w.UsedAgo(old, 20*day, "s3", "eu-west-1")
	w.Advance(time.Minute)
	w.ListLag, w.WriteLag, w.SecretLag, w.LastUsedLag, w.Propagation = 4*time.Second, 3*time.Second, 2*time.Second, 4*hour, 8*time.Second
	w.history = append(w.history, w.look())
	w.holding[old] = true
	return w, old
}

// rotate runs a rotation of the user to its end.
func (w *world) rotate(name string, input map[string]any) *execution {
	in := map[string]any{"userName": user}
	maps.Copy(in, input)
	e := w.start(0, name, rotation(), in, nil)
	w.run(0)
	return e
}

// on runs do, once, when the function is about to be invoked; of notify it is
// one stage, such as "notify off".
func (w *world) on(function string, do func()) {
	others, done := w.meanwhile, false
	w.meanwhile = func(e *execution, called string, payload map[string]any) {
		others(e, called, payload)
		stage, _ := payload["stage"].(string)
		if !done && strings.TrimSpace(called+" "+stage) == function {
			done = true
			do()
		}
	}
}

// fails makes the function's nth call of an action, and those after it up to the
// last, fail. A count of calls goes over all its invocations.
func (w *world) fails(function, action string, from, to int, how iamkeystest.Fault) {
	others, n := w.fault, 0
	w.fault = func(h *hand, i int, called string) iamkeystest.Fault {
		if h.function != function || called != action {
			return others(h, i, called)
		}
		if n++; n < from || n > to {
			return iamkeystest.None
		}
		return how
	}
}

// stages are what an execution has told, in order.
func (e *execution) stages() string {
	var all []string
	for _, m := range e.notices {
		for _, a := range m.Attributes {
			if a.Name == "stage" {
				all = append(all, a.Value)
			}
		}
	}
	return strings.Join(all, " ")
}

// adopts is a consumer that reads the secret before every use.
func (w *world) adopts(old string) {
	w.employ(&consumer{holds: old, service: "s3", every: 5 * hour, reading: everyTime}, hour)
}

// stays is a consumer that never reads it again.
func (w *world) stays(old string) {
	w.employ(&consumer{holds: old, service: "sqs", every: 11 * hour, reading: never}, hour)
}

const always = 1 << 30

// TestRotationEnds has every way in which a rotation ends.
func TestRotationEnds(t *testing.T) {
	const active, inactive, none = iamkeys.Active, iamkeys.Inactive, iamkeys.Status("")
	for name, tt := range map[string]struct {
		arrange  func(w *world, old string)
		input    map[string]any
		want     string         // the execution's name of its end, "" for success
		old, new iamkeys.Status // in the end; none when there is no such key
		told     string         // the notices
		says     string         // what the last one says, among other things
		calls    string         // functions never invoked
	}{
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
		"the old key was never used, and is younger than the quiet window": {
			arrange: func(w *world, old string) {
				w.person(func() { w.DeleteKey(user, old); w.AddKey(user, day) }, "keys") // its consumer is not installed yet
				w.install(&consumer{service: "s3", every: 5 * hour, reading: everyTime}, 2*hour)
				w.Advance(hour)
			},
			input: map[string]any{"maxWaitDays": 5},
			want:  "KeyInUse", old: active, new: active, told: "ready reminder failed", calls: "delete",
		},
		"nobody uses the new key": {
			want: "NotAdopted", old: active, new: active, told: "ready reminder failed", says: "nothing has used the new key", calls: "delete",
		},
		"nobody uses the new key, and once its last use cannot be read": {
			arrange: func(w *world, old string) {
				w.fails("deactivate", "iam:GetAccessKeyLastUsed", 2, 2, iamkeystest.Refused) // the first one is the old key's
			},
			want: "NotAdopted", old: active, new: active, told: "ready reminder failed", calls: "delete",
		},
		"only a call of STS in the first hour uses the new key": {
			arrange: func(w *world, old string) {
				w.employ(&consumer{holds: old, service: "sts", every: 400 * day, reading: everyTime}, 400*day-30*time.Minute)
			},
			want: "NotAdopted", old: active, new: active, told: "ready reminder failed", calls: "delete",
		},
		"somebody reactivates the old key in the soak": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.on("notify off", func() {
					w.in(3*day, func() { w.person(func() { w.SetStatus(user, old, active) }, old) })
				})
			},
			want: "RolledBack", old: active, new: active, told: "ready off failed", says: "Somebody reactivated the old key during its soak",
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
			input: map[string]any{"maxWaitDays": 5},
			old:   none, new: active, told: "ready reminder off done",
		},
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
			want: "DeliveryFailed", old: active, new: none, told: "failed", calls: "deactivate delete",
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
		"create dies once it has made a key": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("create", "iam:CreateAccessKey", 1, 1, iamkeystest.DiesAfter)
			},
			old: none, new: active, told: "ready off done",
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
				w.fails("create", "secretsmanager:DescribeSecret", 2, 2, iamkeystest.DiesAfter) // it has left its intent
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
				w.fails("create", "iam:CreateAccessKey", 1, always, iamkeystest.DiesAfter)
			},
			want: "Runtime.ExitError", old: active, new: active, told: "failed", says: "gave no answer, so whether there is a new key is unknown: a key may be left over", calls: "deactivate delete",
		},
		"create dies once it has made a key, and then is not permitted": {
			arrange: func(w *world, old string) {
				w.fails("create", "iam:CreateAccessKey", 1, 1, iamkeystest.DiesAfter)
				w.fails("create", "iam:GetUser", 2, always, iamkeystest.Refused)
			},
			want: "AccessDenied", old: active, new: active, told: "failed", says: "a key may be left over", calls: "deactivate delete",
		},
		"nobody can be told that the new key is ready": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("notify", "sns:Publish", 1, 1, iamkeystest.Refused)
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
		"the other notices fail": {
			arrange: func(w *world, old string) {
				w.employ(&consumer{holds: old, service: "s3", every: 5 * hour, reading: once, period: 20 * day}, hour)
				w.fails("notify", "sns:Publish", 2, always, iamkeystest.Refused)
			},
			old: none, new: active, told: "ready",
		},
		"an error in the wait is told by the reminder": {
			arrange: func(w *world, old string) {
				w.stays(old)
				w.fails("deactivate", "iam:GetAccessKeyLastUsed", 3, 3, iamkeystest.Refused)
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
		"errors through all of the wait": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("deactivate", "iam:ListAccessKeys", 1, always, iamkeystest.Refused)
			},
			want: "AccessDenied", old: active, new: active, told: "ready reminder failed", says: "Both keys were Active when last seen", calls: "delete",
		},
		"the last attempt dies once the old key is off": {
			arrange: func(w *world, old string) {
				w.employ(&consumer{holds: old, service: "s3", every: 5 * hour, reading: once, period: 862 * hour}, hour) // its last use of the old key is so late that just the last attempt finds it quiet
				w.fails("deactivate", "iam:UpdateAccessKey", 1, 1, iamkeystest.DiesAfter)
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
		"the secret holds a value of somebody else's": {
			arrange: func(w *world, old string) {
				w.person(func() { w.PutSecret(secret, "somebody-elses-version-of-this-secret") }, "secret")
				w.Advance(hour)
			},
			want: "SecretInUse", old: active, new: none, told: "failed", says: "refused before anything was changed", calls: "create deactivate delete",
		},
		"it does so since plan has looked": {
			arrange: func(w *world, old string) {
				w.on("create", func() {
					w.person(func() { w.PutSecret(secret, "somebody-elses-version-of-this-secret") }, "secret")
					w.Advance(hour)
				})
			},
			want: "SecretInUse", old: active, new: none, told: "failed", says: "No new key is known to be delivered", calls: "deactivate delete",
		},
		"which it may overwrite": {
			arrange: func(w *world, old string) {
				w.person(func() { w.PutSecret(secret, "somebody-elses-version-of-this-secret") }, "secret")
				w.Advance(hour)
				w.adopts(old)
			},
			input: map[string]any{"overwrite": true},
			old:   none, new: active, told: "ready off done",
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
	} {
		t.Run(name, func(t *testing.T) {
			w, old := scene(t)
			if tt.arrange != nil {
				tt.arrange(w, old)
			}
			e := w.rotate(old, tt.input)
			if got := e.endName(); got != tt.want {
				t.Errorf("ended as %q, want %q: %v", got, tt.want, e.failure)
			}
			if got := e.stages(); got != tt.told {
				t.Errorf("told %q, want %q", got, tt.told)
			}
			w.wantKeys(cmp.Or(e.old(), old), tt.old, tt.new)
			if n := len(e.notices); n > 0 && !strings.Contains(flat(e.notices[n-1].Text), tt.says) {
				t.Errorf("the last notice does not say %q:\n%s", tt.says, e.notices[n-1].Text)
			}
			for f := range strings.FieldsSeq(tt.calls) {
				if e.count(f) > 0 {
					t.Errorf("%s was invoked", f)
				}
			}
			w.run(8 * day) // consumers go on
			w.conclude()
		})
	}
}

// flat brings a text onto one line.
func flat(text string) string { return strings.Join(strings.Fields(text), " ") }

// wantKeys compares the statuses of the user's keys, the one with that ID and one
// other, with these; "" stands for no key.
func (w *world) wantKeys(id string, old, other iamkeys.Status) {
	got := iamkeys.Status("")
	rest := slices.DeleteFunc(w.Keys(user), func(k iamkeys.AccessKey) bool { return k.AccessKeyID == id })
	if len(rest) > 0 {
		got = rest[0].Status
	}
	if w.look().status(id) != old || got != other || len(rest) > 1 {
		w.fail("the user's keys are %v; want %s %q and the other one %q", w.Keys(user), id, old, other)
	}
}

// TestRotationStartsAgain starts a rotation again that has ended early: it goes on
// from what it finds.
func TestRotationStartsAgain(t *testing.T) {
	const active, none = iamkeys.Active, iamkeys.Status("")
	named := map[string]any{"accessKeyId": "AKIAIAMKEYSTEST00001"}
	for name, tt := range map[string]struct {
		arrange func(w *world, old string)
		between func(w *world, old string) // after the first end
		pause   time.Duration              // default an hour
		input   map[string]any             // of the second one
		first   string
		want    string
		start   iamkeys.Start // where plan starts the second one, "" when it refuses
		told    string        // by the second one
		new     iamkeys.Status
	}{
		"the consumer that was in the way has moved": {
			arrange: func(w *world, old string) { w.stays(old) },
			between: func(w *world, old string) { w.consumers[0].holds = w.held() },
			first:   "KeyInUse", start: iamkeys.StartDeactivate, told: "ready off done", new: active,
		},
		"and the key is named": {
			arrange: func(w *world, old string) { w.stays(old) },
			between: func(w *world, old string) { w.consumers[0].holds = w.held() },
			input:   named,
			first:   "KeyInUse", start: iamkeys.StartDeactivate, told: "ready off done", new: active,
		},
		"people can be told again": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("notify", "sns:Publish", 1, 1, iamkeystest.Refused)
			},
			first: "NotifyFailed", start: iamkeys.StartDeactivate, told: "ready off done", new: active,
		},
		"the old key may be deleted now": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("delete", "iam:DeleteAccessKey", 1, 1, iamkeystest.Refused)
			},
			input: named,
			first: "AccessDenied", start: iamkeys.StartSoak, told: "off done", new: active,
		},
		"the old key is Inactive and not named": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("delete", "iam:DeleteAccessKey", 1, 1, iamkeystest.Refused)
			},
			first: "AccessDenied", want: "LimitExceeded", told: "failed", new: active,
		},
		"what still needed the reactivated key has moved": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.on("notify off", func() {
					w.in(3*day, func() { w.person(func() { w.SetStatus(user, old, iamkeys.Active) }, old) })
				})
			},
			first: "RolledBack", start: iamkeys.StartDeactivate, told: "ready off done", new: active,
		},
		"the reactivated key is in use": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.on("notify off", func() {
					w.in(3*day, func() { w.person(func() { w.SetStatus(user, old, iamkeys.Active) }, old) })
				})
			},
			between: func(w *world, old string) { w.stays(old) },
			first:   "RolledBack", want: "KeyInUse", start: iamkeys.StartDeactivate, told: "ready reminder failed", new: active,
		},
		"a key is left over that the secret does not hold": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("create", "secretsmanager:PutSecretValue", 2, always, iamkeystest.Unanswered)
			},
			between: func(w *world, old string) { w.undisturbed() },
			first:   "OrphanedKey", start: iamkeys.StartCreate, told: "ready off done", new: active,
		},
		"a key is left over, and the old one is named": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("create", "secretsmanager:PutSecretValue", 2, always, iamkeystest.Unanswered)
			},
			between: func(w *world, old string) { w.undisturbed() },
			input:   named,
			first:   "OrphanedKey", start: iamkeys.StartCreate, told: "ready off done", new: active,
		},
		"the key that seemed left over is delivered": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("create", "secretsmanager:PutSecretValue", 2, always, iamkeystest.Lost)
			},
			between: func(w *world, old string) { w.undisturbed() },
			first:   "OrphanedKey", start: iamkeys.StartDeactivate, told: "ready off done", new: active,
		},
		"create died each time": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("create", "iam:CreateAccessKey", 1, 4, iamkeystest.DiesAfter)
			},
			between: func(w *world, old string) { w.undisturbed() },
			first:   "Runtime.ExitError", start: iamkeys.StartCreate, told: "ready off done", new: active,
		},
		"create died each time, a minute ago": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("create", "iam:CreateAccessKey", 1, 4, iamkeystest.DiesAfter)
			},
			pause: time.Minute,
			first: "Runtime.ExitError", want: "InProgress", told: "failed", new: active,
		},
		"somebody has made room": {
			arrange: func(w *world, old string) { w.person(func() { w.AddKey(user, 80*day) }, "keys"); w.Advance(hour) },
			between: func(w *world, old string) {
				w.person(func() { w.DeleteKey(user, "AKIAIAMKEYSTEST00002") }, "AKIAIAMKEYSTEST00002")
				w.adopts(old)
			},
			first: "AmbiguousKeys", start: iamkeys.StartCreate, told: "ready off done", new: active,
		},
		"somebody has deleted the new key": {
			arrange: func(w *world, old string) { w.stays(old) },
			between: func(w *world, old string) {
				w.person(func() { w.DeleteKey(user, w.held()) }, w.held())
				w.consumers[0].reading = everyTime
			},
			first: "KeyInUse", start: iamkeys.StartCreate, told: "ready off done", new: active,
		},
		"it was stopped in the wait": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.on("notify ready", func() { w.in(day, func() { w.started[0].stopped = true }) })
			},
			start: iamkeys.StartDeactivate, told: "ready off done", new: active,
		},
		"it was stopped in the soak": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.on("notify off", func() { w.in(day, func() { w.started[0].stopped = true }) })
			},
			input: named,
			start: iamkeys.StartSoak, told: "off done", new: active,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, old := scene(t)
			tt.arrange(w, old)
			first := w.rotate(old, nil)
			if got := first.endName(); got != tt.first {
				t.Errorf("the first one ended as %q, want %q: %v", got, tt.first, first.failure)
			}
			if tt.pause == 0 {
				tt.pause = hour
			}
			w.run(tt.pause)
			if tt.between != nil {
				tt.between(w, old)
				w.run(time.Minute) // until lists show it
			}
			second := w.rotate("again", tt.input)
			if got := second.endName(); got != tt.want {
				t.Errorf("ended as %q, want %q: %v", got, tt.want, second.failure)
			}
			if got := second.plan.Start; got == nil && tt.start != "" || got != nil && *got != tt.start {
				t.Errorf("it started at %v, want %q", got, tt.start)
			}
			if n := second.count("create"); (n > 0) != (tt.start == iamkeys.StartCreate) {
				t.Errorf("create was invoked %d times", n)
			}
			if got := second.stages(); got != tt.told {
				t.Errorf("told %q, want %q", got, tt.told)
			}
			switch now := w.look(); {
			case tt.want == "" && len(now.keys) != 1, now.status(old) == none && tt.want != "", now.held != "" && now.held != old && now.status(now.held) != tt.new:
				t.Errorf("the user's keys are %v, and the secret holds %q", now.keys, now.held)
			}
			w.run(8 * day)
			w.conclude()
		})
	}
}

// endName is the name that the execution ended by, "" for success and when it was stopped.
func (e *execution) endName() string {
	if e.failure == nil {
		return ""
	}
	return e.failure.Name
}

// TestRotationBesideAnother: somebody starts a rotation by hand while the
// scheduled one runs. They share one new key, and the old one goes once.
func TestRotationBesideAnother(t *testing.T) {
	for _, after := range []time.Duration{0, time.Second, 5 * time.Second, time.Minute, 10 * time.Minute, 3 * day, 20 * day} {
		t.Run(after.String(), func(t *testing.T) {
			w, old := scene(t)
			w.adopts(old)
			w.trouble = func(*execution, string) trouble { return slow }
			first := w.start(0, old, rotation(), map[string]any{"userName": user}, nil)
			second := w.start(after, "by-hand", rotation(), map[string]any{"userName": user, "accessKeyId": old}, nil)
			w.run(0)
			if made := len(w.made); made != 1 {
				t.Errorf("%d keys were made", made)
			}
			w.wantKeys(old, "", iamkeys.Active)
			if first.failure != nil || second.failure != nil && second.failure.Name != "InProgress" { // plan saw the first one's create at work
				t.Errorf("they ended as %v and %v", first.failure, second.failure)
			}
			w.run(8 * day)
			w.conclude()
		})
	}
}
