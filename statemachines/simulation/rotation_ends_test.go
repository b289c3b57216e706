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
	if named, ok := in["accessKeyId"].(string); ok && !strings.HasPrefix(name, named) {
		name = named + "-" + name
	}
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

// An ending is one way in which a rotation ends.
type ending struct {
	arrange  func(w *world, old string)
	input    map[string]any
	want     string         // the execution's name of its end, "" for success
	old, new iamkeys.Status // in the end; none when there is no such key
	told     string         // the notices
	says     string         // what the last one says, among other things
	calls    string         // functions never invoked
}

const active, inactive, none = iamkeys.Active, iamkeys.Inactive, iamkeys.Status("")

// TestRotationEnds has every way in which a rotation ends, by kind.
func TestRotationEnds(t *testing.T) {
	for kind, endings := range map[string]map[string]ending{
		"consumers": consumerEndings, "people": peopleEndings, "create": createEndings, "notices": noticeEndings, "plan": planEndings, "steps": stepEndings,
	} {
		t.Run(kind, func(t *testing.T) {
			for name, tt := range endings {
				t.Run(name, tt.test)
			}
		})
	}
}

func (tt ending) test(t *testing.T) {
	w, old := scene(t)
	if tt.arrange != nil {
		tt.arrange(w, old)
	}
	name := old
	if w.look().status(old) == "" { // another key took its place
		name = w.toRotate(map[string]any{"userName": user})
	}
	e := w.rotate(name, tt.input)
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
				w.fails("notify", "sns:Publish", 1, 49, iamkeystest.Refused)
			},
			first: "NotifyFailed", start: iamkeys.StartDeactivate, told: "ready off done", new: active,
		},
		"the old key may be deleted now": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("delete", "iam:DeleteAccessKey", 1, 1, iamkeystest.Refused)
			},
			input: named,
			first: "AccessDenied", start: iamkeys.StartDeactivate, told: "ready off done", new: active,
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
				w.fails("create", "iam:CreateAccessKey", 1, 4, iamkeystest.Dies)
			},
			between: func(w *world, old string) { w.undisturbed() },
			first:   "Runtime.ExitError", start: iamkeys.StartCreate, told: "ready off done", new: active,
		},
		"create died each time, a minute ago": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.fails("create", "iam:CreateAccessKey", 1, 4, iamkeystest.Dies)
			},
			pause: time.Minute,
			first: "Runtime.ExitError", start: iamkeys.StartCreate, told: "ready off done", new: active, // plan waits until the lock is dead
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
				w.on("notify ready", func() { w.in(day, func() { w.started[0].stop() }) })
			},
			start: iamkeys.StartDeactivate, told: "ready off done", new: active,
		},
		"it was stopped in the soak": {
			arrange: func(w *world, old string) {
				w.adopts(old)
				w.on("notify off", func() { w.in(day, func() { w.started[0].stop() }) })
			},
			input: named,
			start: iamkeys.StartDeactivate, told: "ready off done", new: active,
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
			second := w.rotate(old+"-again", tt.input)
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
			second := w.start(after, old+"-by-hand", rotation(), map[string]any{"userName": user, "accessKeyId": old}, nil)
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
