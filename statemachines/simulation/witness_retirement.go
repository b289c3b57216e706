package simulation

import (
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// retireAfter is how long a key has been idle, by what IAM shows, before a retirement
// switches it off: the template's RetireAfterDays.
const retireAfter = 100 * day

// keeps says why a retirement must keep the key, for as long at least; "" for nothing.
func (w *world) keeps(e *execution, long time.Duration) string {
	since := w.Now().Add(-long)
	mode := w.stack.Deployment.Parameter("RetirementMode")
	switch {
	case w.tagged != "" && !w.taggedAt.After(since):
		return "the user is tagged " + w.tagged
	case mode != "apply" && e.input["insist"] != true && !w.modeAt.After(since):
		return "RetirementMode is " + mode
	}
	return ""
}

// asks holds a change to what Retire said before it: it knows what was so when it was
// asked, and is asked within the day, but by an execution that a person redrove there.
func (v *witness) asks(e *execution, id, what string) {
	why := e.kept
	if why == "" && v.w.Now().Sub(e.redriven) > day {
		why = v.w.keeps(e, day)
	}
	if why != "" {
		v.fail("promise 9: %s was %s, although %s", id, what, why)
	}
}

// goesFirst holds a change of the user's keys to the rule of the one begun first:
// a rotation or retirement changes nothing while another one that was begun before
// it is at work, and at the same instant the one of the lesser name goes first.
// Retirements of the user's other keys are none of a retirement's business.
func (v *witness) goesFirst(h *hand) {
	e := h.execution
	for _, o := range v.w.started {
		aside := e.machine == retirement() && o.machine == retirement() && e.input["accessKeyId"] != o.input["accessKeyId"]
		if o == e || aside || e.workflow() == o.workflow() && e.machine == rotation() || o.workflow() == "" || o.began.IsZero() || o.ended || o.stopped || e.input["userName"] != o.input["userName"] {
			continue
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(o.name, iamkeys.RetirePrefix), "-")
		if !slices.ContainsFunc(v.w.Keys(user), func(k iamkeys.AccessKey) bool { return k.AccessKeyID == id }) {
			continue // it ends at its next look, and is not asked whose it is
		}
		if o.began.Before(e.began) || o.began.Equal(e.began) && o.name < e.name {
			v.fail("promise 6: %s of the %s %s changed a key while the %s %s, begun before it, was at work", h.function, e.workflow(), e.name, o.workflow(), o.name)
		}
	}
}

// retired holds a retirement's switch-off of a key to its promises.
func (v *witness) retired(h *hand, k iamkeys.AccessKey, record offRecord) {
	e, now, id := h.execution, v.w.Now(), k.AccessKeyID
	if h.function != "deactivate" || id != e.input["accessKeyId"] {
		v.fail("promise 2: %s switched off %s, which is not the key to be retired", h.function, id)
	}
	if record.quiet < retireAfter+iamkeys.LastUsedLag {
		v.fail("promise 2: %s was retired with a quiet window of %v", id, record.quiet)
	}
	if k.CreateDate.After(record.at.Add(-retireAfter)) {
		v.fail("promise 2: %s was retired %v after its creation", id, now.Sub(k.CreateDate))
	}
	for _, u := range v.used[id] {
		if record.forbids(u.at, v.w.LastUsedLag) {
			v.fail("promise 2: %s was retired %v after a use that IAM showed", id, now.Sub(u.at))
		}
	}
	if e.told["warning"].IsZero() || e.told["final"].IsZero() || now.Sub(e.told["final"]) < 3*day {
		v.fail("promise 8: %s was retired, and people were told %v", id, e.told)
	}
	v.asks(e, id, "retired")
	if !e.quiet.IsZero() && h.began.After(e.quiet) {
		v.fail("promise 8: %s was retired a second time: somebody had reactivated it", id)
	}
	e.off = now
}

// removed holds a retirement's deletion of a key to its promises, beside those of every deletion.
func (v *witness) removed(h *hand, k iamkeys.AccessKey) {
	e, now, id := h.execution, v.w.Now(), k.AccessKeyID
	if id != e.input["accessKeyId"] {
		v.fail("promise 3: %s was deleted, which is not the key to be retired", id)
	}
	if e.off.IsZero() {
		v.fail("promise 8: %s was deleted, and the retirement did not switch it off", id)
	}
	if e.told["retired"].IsZero() {
		v.fail("promise 8: %s was deleted, and nobody was told that it is off", id)
	}
	v.asks(e, id, "deleted")
	if got := h.began.Sub(e.quiet); e.quiet.IsZero() || got < retireSoak {
		v.fail("promise 8: %s was deleted %v after it was switched off", id, got)
	}
	for _, u := range v.used[id] {
		if since := e.off.Add(-retireAfter); u.at.After(since) && !u.at.After(h.began.Add(-v.w.LastUsedLag)) {
			v.fail("promise 8: %s was deleted %v after a use that IAM showed", id, now.Sub(u.at))
		}
	}
}

// outcome is how a retirement ended that has not failed.
func (e *execution) outcome() string {
	out, _ := e.output.(map[string]any)
	outcome, _ := out["outcome"].(string)
	return outcome
}

// endRetirement holds a retirement's end to what it says of the key, and to its notice:
// before anybody was warned, a key that is kept or gone needs none.
func (w *world) endRetirement(e *execution) {
	if e.failure != nil {
		w.state([]byte(e.failure.Cause))
		w.endTold(e, "failed")
		return
	}
	warned := slices.ContainsFunc(e.answers, func(a answer) bool { return a.function == "notify" && a.stage == "warning" })
	if warned {
		w.endTold(e, e.outcome())
	}
	id, _ := e.input["accessKeyId"].(string)
	status := w.look().status(id)
	switch outcome := e.outcome(); {
	case !slices.Contains([]string{"kept", "rolledBack", "removed"}, outcome):
		w.fail("the retirement ended as %q", outcome)
	case w.touched[id] || w.touched["user"] || !e.alone():
	case (outcome == "removed") != (status == ""):
		w.fail("the outcome is %s, and the key is %q", outcome, status)
	}
	if outcome := e.outcome(); outcome != "rolledBack" {
		return
	}
	// Said of a moment in which it was Active, or had been used.
	if !w.ever(e.off, func(s snapshot) bool { return s.status(id) == iamkeys.Active }) && !slices.ContainsFunc(w.used[id], func(u use) bool { return u.at.After(e.off.Add(-retireAfter)) }) {
		w.fail("the retirement was rolled back, and the key was neither Active nor used since %v", e.off)
	}
}

// retireSoak is the soak of the stacks that retire in a random run, RetireSoakDays.
const retireSoak = 5 * day
