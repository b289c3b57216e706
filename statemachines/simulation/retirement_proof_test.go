package simulation

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/statemachines/asl"
)

// TestRetirementKeepsItsPromises runs the retirement, and beside it rotations, other
// retirements, the schedules that start both, and AWS Health's events of keys in public,
// as their files have them over the real functions, on one user: while consumers use the keys, people switch, protect, exempt
// and delete them, take RetirementMode from apply, calls fail and functions die. A
// witness holds every change to the promises.
func TestRetirementKeepsItsPromises(t *testing.T) {
	prove(t, randomRetirement, "kept", "rolledBack", "removed", "success", "NotAdopted", "InProgress", "AccessDenied", "NotifyFailed", "NoSuchEntity", "stopped")
}

// A retiringStack is a deployment of a RetirementMode, with the workflows that its schedules start.
type retiringStack struct {
	*functionstest.Stack
	rotateDue, retireUnused, exposure *asl.Machine
}

// retiringStacks are those where all is done, and where all is only told.
var retiringStacks = sync.OnceValue(func() (all []retiringStack) {
	for _, mode := range []map[string]string{{"RetirementMode": "apply", "ExposureMode": "deactivate"}, {"RetirementMode": "plan", "ExposureMode": "tell"}} {
		mode["RotationMode"], mode["RetireSoakDays"] = "apply", fmt.Sprint(int(retireSoak/day))
		s := functionstest.New(mode)
		all = append(all, retiringStack{
			s, workflow("rotate-due", "RotateDueStateMachine", s.Deployment), workflow("retire-unused", "RetireUnusedStateMachine", s.Deployment),
			workflow("exposure", "ExposureStateMachine", s.Deployment),
		})
	}
	return all
})

// keepActs are what people do who want a key kept, or find a use for it.
var keepActs = slices.Concat(acts, []act{
	{"protect the user", func(w *world) { w.keepWith(iamkeys.Tag{Key: iamkeys.TagProtect, Value: "yes"}) }},
	{"exempt the user", func(w *world) {
		w.keepWith(iamkeys.Tag{Key: iamkeys.TagExemptUntil, Value: w.Now().AddDate(0, 0, 399).Format(time.DateOnly)}, iamkeys.Tag{Key: iamkeys.TagExemptReason, Value: "half-yearly"})
	}},
	{"change RetirementMode and ExposureMode", func(w *world) {
		mode := retiringStacks()[w.pick(2, "modes")].Stack
		if w.stack == mode {
			return
		}
		w.stack, w.modeAt = mode, w.Now()
		for _, e := range w.started { // Retire and Exposed may be at work in both modes
			if strings.Contains(e.kept, "Mode is ") {
				e.kept = ""
			}
		}
	}},
	{"use a key", func(w *world) {
		k, ok := w.anyKey(iamkeys.Active)
		if ok = ok && (w.made[k] == nil || w.holding[k]); ok && w.Use(k, "s3", "eu-west-1") { // else nobody has its secret
			w.used[k] = append(w.used[k], use{w.Now(), "s3"})
		}
	}},
})

// keepWith tags the user so that its keys are kept.
func (w *world) keepWith(tags ...iamkeys.Tag) {
	if w.tagged != "" || w.touched["user"] {
		return
	}
	w.SetTags(user, tags...)
	w.tagged, w.taggedAt = tags[0].Key, w.Now()
}

// randomRetirement makes an account with a key that nobody uses, lets a retirement and
// what else there is run on it, and holds it to the promises.
func randomRetirement(rt *rapid.T) *world {
	w := newWorld(rt)
	w.pick = func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) }
	w.lags()
	stacks := retiringStacks()
	w.stack = stacks[w.pick(8, "mode at first")/7].Stack

	// The user, its keys and its secret.
	w.Advance(time.Duration(w.pick(7*24, "begins after hours"))*time.Hour + time.Minute)
	w.AddUser(user, iamkeys.Tag{Key: "owner", Value: "team-ci"}, iamkeys.Tag{Key: iamkeys.TagRotate, Value: "on"})
	old := w.AddKey(user, 400*day)
	idle := time.Duration(95+w.pick(60, "idle days")) * day
	if w.pick(3, "a consumer comes back") == 2 {
		w.employ(&consumer{holds: old, service: "s3", every: idle + time.Duration(w.pick(30*24, "after hours"))*hour, reading: reading(w.pick(int(readings), "reading")), period: day}, idle)
	} else {
		w.used[old] = append(w.used[old], use{w.Now().Add(-idle), "s3"})
		w.UsedAgo(old, idle, "s3", "eu-west-1")
	}
	if w.chance(4, "another key is in use") {
		w.employ(&consumer{holds: w.AddKey(user, w.one("its age", 10*day, 100*day, 300*day)), service: "s3", every: 5 * hour, reading: everyTime}, hour)
	}
	if w.chance(3, "its secret delivers it") {
		w.Deliver(w.secretID, user, old)
	}
	w.Advance(time.Minute)
	w.history = append(w.history, w.look())
	w.holding[w.held()] = true

	wait := 18 * day
	w.goesWrong(wait, retireSoak, "retire", "deactivate", "delete", "notify", "plan", "create")
	w.interfere(wait, retireSoak, keepActs)

	// The retirement, and what is started beside it: before, at the same instant, and at any time after.
	input := map[string]any{"userName": user, "accessKeyId": old}
	if w.chance(4, "a person insists") {
		input["insist"] = true
	}
	when := func(what string) time.Duration {
		return w.one(what, 0, hour, hour, hour+time.Second, 2*hour, 3*day, (wait+retireSoak)/32*time.Duration(w.pick(32, what+" in")))
	}
	w.start(hour, "retire-"+old, retirement(), input, nil)
	for range []int{0, 0, 1, 1, 2, 3}[w.pick(6, "beside")] {
		switch w.pick(7, "what") {
		case 0, 1:
			wait := w.one("rotation waits", 2*day, 4*day)
			rotate := map[string]any{"userName": user, "accessKeyId": old, "quietHours": 24, "maxWaitDays": int(wait / day), "soakDays": 1 + w.pick(3, "rotation's soak"), "pollHours": 24}
			if w.pick(2, "name the key") == 0 {
				delete(rotate, "accessKeyId")
			}
			w.start(when("a rotation at"), fmt.Sprint(old, "-beside-", len(w.started)), rotation(), rotate, nil)
		case 2:
			keys := w.Keys(user)
			key := keys[w.pick(len(keys), "of key")].AccessKeyID
			w.start(when("another retirement at"), fmt.Sprint("retire-", key, "-", len(w.started)), retirement(), map[string]any{"userName": user, "accessKeyId": key}, nil)
		case 5, 6: // an event comes twice, and again as AWS updates it
			keys := w.Keys(user)
			h := healthEvent{arn: fmt.Sprint("arn:aws:health:us-east-1::event/RISK/", len(w.started)), code: "AWS_RISK_CREDENTIALS_EXPOSED", status: "open"}
			if w.chance(6, "quarantined") {
				h.code = "AWS_RISK_IAM_QUARANTINE"
			}
			h.entities = [][]string{{keys[0].AccessKeyID}, {keys[len(keys)-1].AccessKeyID}, {user, keys[0].AccessKeyID}, {"AKIANOSUCHKEY0000000", keys[0].AccessKeyID}}[w.pick(4, "entities")]
			m := stacks[0].exposure
			at := when("an exposure at")
			w.expose(at, m, h)
			if w.chance(2, "the event again") {
				w.expose(at+w.one("later", 0, time.Second, time.Minute, day, 6*day), m, h)
			}
			if w.chance(3, "updated") {
				h.status = "closed"
				w.expose(at+w.one("updated after", time.Second, hour, 3*day), m, h)
			}
		case 3, 4: // the schedules' events come twice, late and out of order
			kind := w.pick(2, "schedule")
			for range 1 + w.pick(2, "again") {
				at := when("an event at")
				w.in(at, func() {
					s := stacks[slices.IndexFunc(stacks, func(s retiringStack) bool { return s.Stack == w.stack })]
					m := []*asl.Machine{s.retireUnused, s.rotateDue}[kind]
					w.start(0, fmt.Sprint("scheduled-", len(w.started)), m, map[string]any{"version": "0", "source": "aws.scheduler", "time": w.Now().Add(-at).Format(time.RFC3339)}, nil)
				})
			}
		}
	}
	w.run(0)
	if left := w.undelivered(); len(left) > 0 {
		w.heal(left)
	}
	w.run(37 * hour)
	w.conclude()
	return w
}
