package simulation

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// shards is how many tests share the random runs, side by side.
const shards = 2

// TestMain sets the number of random runs, unless the command line does.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", fmt.Sprint(runs/shards)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestRotationKeepsItsPromises runs the rotation as its file has it over the real
// functions, on accounts where consumers adopt early, late or never, people
// interfere, AWS's answers lag, calls fail and functions die, run twice, or run
// beside themselves. A witness holds every change to the promises. In the end
// (of as many runs as there are without the race detector) every way in which a
// rotation may end must have come up.
func TestRotationKeepsItsPromises(t *testing.T) {
	prove(t, randomRun, "success", "KeyInUse", "NotAdopted", "RolledBack", "NotReplaced", "NoSuchEntity", "AmbiguousKeys", "LimitExceeded", "SecretInUse",
		"SecretUnavailable", "DeliveryFailed", "OrphanedKey", "InProgress", "AccessDenied", "Internal", "NotifyFailed", "Sandbox.Timedout", "Lambda.SdkClientException", "stopped")
}

// prove does the random runs, and reports which of these ends did not come up.
func prove(t *testing.T, run func(*rapid.T) *world, wanted ...string) {
	var ends tally
	t.Run("runs", func(t *testing.T) {
		for n := range shards {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(rt *rapid.T) { ends.add(run(rt)) })
			})
		}
	})
	t.Logf("%d runs ended: %s", ends.runs, &ends)
	if ends.runs < 10_000 {
		return
	}
	for _, name := range wanted {
		if ends.of[name] == 0 && !t.Failed() {
			t.Errorf("no run ended as %s: the runs do not reach all that they are to prove", name)
		}
	}
}

// A tally counts how executions ended.
type tally struct {
	mu   sync.Mutex
	runs int
	of   map[string]int
}

func (c *tally) add(w *world) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.runs++
	for _, e := range w.started {
		switch {
		case e.failure != nil:
			c.of[e.failure.Name]++
		case e.stopped:
			c.of["stopped"]++
		case !e.ended:
			c.of["at work"]++
		case e.machine == retirement():
			c.of[e.outcome()]++
		case e.event != nil:
			c.of["exposure told"]++
		case e.machine != rotation():
		default:
			c.of["success"]++
		}
	}
}

func (c *tally) String() string {
	var s string
	for _, name := range slices.SortedFunc(maps.Keys(c.of), func(a, b string) int { return cmp.Compare(c.of[b], c.of[a]) }) {
		s += fmt.Sprintf("%s %d, ", name, c.of[name])
	}
	return s
}

// randomRun makes an account, lets rotations run on it, and holds it to the promises.
func randomRun(rt *rapid.T) *world {
	w := newWorld(rt)
	w.pick = func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) }
	w.lags()

	// The rotation's lengths: those of the stack, or shorter ones.
	input := map[string]any{"userName": user}
	quiet, wait, soak := 216*hour, 45*day, 30*day
	if !w.chance(32, "stack's lengths") {
		quiet, wait, soak = w.one("quiet window", 24*hour, 24*hour, 48*hour, 168*hour), w.one("wait", 2*day, 4*day, 8*day), w.one("soak", day, 3*day)
		wait = max(wait, quiet.Truncate(day)+day) // or nothing is ever switched off
		input["quietHours"], input["maxWaitDays"], input["soakDays"] = int(quiet.Hours()), int(wait.Hours())/24, int(soak.Hours())/24
		input["pollHours"] = []int{6, 12, 24, 24, 48}[w.pick(5, "poll")]
	}

	// The user, its keys and its secret.
	w.Advance(time.Hour)
	w.AddUser(user, iamkeys.Tag{Key: "owner", Value: "team-ci"})
	if w.chance(6, "secret by tag") {
		w.secretID = "iamkeys/ci-deploy/elsewhere"
		w.SetTags(user, iamkeys.Tag{Key: iamkeys.TagSecret, Value: w.secretID})
	}
	old := w.AddKey(user, w.one("age", 90*day, 90*day, quiet/2))
	switch w.pick(6, "secret before") {
	case 4: // none
	case 5:
		if w.pick(2, "or none") == 0 {
			break
		}
		w.PutSecret(w.secretID, "somebody-elses-version-of-this-secret")
		w.foreign = w.Now().Add(-day)
		input["overwrite"] = w.pick(2, "overwrite") == 0
	default:
		w.Deliver(w.secretID, user, old)
	}
	if w.pick(2, "name the key") == 1 {
		input["accessKeyId"] = old
	}
	for range []int{1, 1, 2, 2, 3, 0}[w.pick(6, "consumers")] {
		c := &consumer{holds: old, service: []string{"s3", "sqs", "sts"}[w.pick(3, "service")], reading: reading(w.pick(int(readings), "reading"))}
		c.every = w.one("uses every", time.Hour, 5*time.Hour, quiet/4, quiet/2, quiet-20*time.Minute, quiet+12*time.Hour)
		c.period = (wait + soak) / 8 * time.Duration(w.pick(8, "reads after"))
		ago := c.every / 8 * time.Duration(w.pick(8, "used ago"))
		w.employ(c, ago)
	}
	w.Advance(time.Minute)
	w.history = append(w.history, w.look())
	w.holding[w.held()] = true

	w.goesWrong(wait, soak, "plan", "create", "deactivate", "delete", "notify")
	w.interfere(wait, soak, acts)

	// The rotation, and what people start when it has failed.
	restarts := w.pick(3, "restarts")
	var again func(e *execution)
	again = func(e *execution) {
		if e.status() == "SUCCEEDED" || restarts == 0 || len(w.started) > 5 {
			return
		}
		restarts--
		next := maps.Clone(input)
		switch w.pick(3, "name the key next time") {
		case 1:
			next["accessKeyId"] = old
		case 2:
			delete(next, "accessKeyId")
		}
		w.start(w.one("again after", 5*time.Minute, hour, day, 3*day), fmt.Sprint(old, "-again-", len(w.started)), rotation(), next, again)
	}
	w.start(0, old, rotation(), input, again)
	if w.chance(8, "a second execution") {
		w.start((wait+soak)/16*time.Duration(w.pick(16, "after")), old+"-second", rotation(), map[string]any{"userName": user, "accessKeyId": old}, nil)
	}
	w.run(0)
	if first := w.started[0]; !w.disturbed && len(w.touched) == 0 && len(w.started) == 1 && !slices.Contains([]string{"", "KeyInUse", "NotAdopted", "SecretInUse"}, first.endName()) {
		w.fail("nothing went wrong, and the rotation ended as %v", first.failure)
	}

	// Nobody and nothing interferes any more: one more rotation settles what is left
	// of a create, and consumers go on for a while.
	if left := w.undelivered(); len(left) > 0 {
		w.heal(left)
	}
	w.run(quiet + 13*hour)
	w.conclude()
	return w
}

// chance is one in n.
func (w *world) chance(n int, what string) bool { return w.pick(n, what) == n-1 }

// one picks one of these.
func (w *world) one(what string, of ...time.Duration) time.Duration {
	return of[w.pick(len(of), what)]
}

// lags sets AWS's delays.
func (w *world) lags() {
	w.ListLag, w.WriteLag = w.one("list lag", 0, 4*time.Second, 10*time.Second), w.one("write lag", 0, 3*time.Second)
	w.SecretLag, w.Propagation = w.one("secret lag", 0, 2*time.Second, 10*time.Second), w.one("propagation", 0, 8*time.Second, 12*time.Second)
	w.LastUsedLag, w.ExecutionsLag = w.one("last-use lag", 0, hour, 4*hour, 6*hour), w.one("executions lag", 0, 5*time.Second, 9*time.Second)
	w.DeniesUnknown, w.clocks = w.chance(3, "denies what does not exist"), w.chance(3, "clocks differ")
	if w.chance(3, "reads are late by chance") {
		reads := rand.New(rand.NewPCG(uint64(w.pick(1<<16, "lateness of reads")), 0)) // it decides inside of a call, where a run must not end
		w.Late = func(most time.Duration) time.Duration { return most * time.Duration(reads.IntN(3)) / 2 }
	}
}

// goesWrong lets calls and invocations fail in a run that waits and soaks for that
// long; connections get lost to one of the functions.
func (w *world) goesWrong(wait, soak time.Duration, functions ...string) {
	if odds := []int{0, 0, 60, 60, 10}[w.pick(5, "faults")]; odds > 0 {
		w.fault = func(*hand, int, string) iamkeystest.Fault {
			if w.chance(odds, "fault") {
				return iamkeystest.Faults[w.pick(len(iamkeystest.Faults), "which")]
			}
			return iamkeystest.None
		}
	}
	if w.chance(6, "outage") {
		w.outage(w.one("outage from", 0, time.Minute, wait/2, wait, wait+soak/2), w.one("outage for", time.Minute, hour, day, wait+soak))
	}
	if w.chance(10, "throttled") {
		w.in(w.one("throttled from", 0, hour, wait/2, wait, wait+soak/2), func() {
			w.ThrottledUntil = w.Now().Add(w.one("throttled for", time.Minute, hour, 12*hour))
			w.disturbed = true
		})
	}
	if w.chance(10, "topic down") {
		from := w.Now().Add(w.one("topic down from", 0, wait/2, wait, wait+soak-day))
		others := w.fault
		w.fault = func(h *hand, n int, action string) iamkeystest.Fault {
			if since := w.Now().Sub(from); action == "sns:Publish" && since >= 0 && since < day {
				return iamkeystest.Refused
			}
			return others(h, n, action)
		}
	}
	if odds := []int{0, 0, 15, 15, 4}[w.pick(5, "troubles")]; odds > 0 {
		w.trouble = func(*execution, string) trouble {
			if w.chance(odds, "trouble") {
				return trouble(1 + w.pick(int(troubles)-1, "kind"))
			}
			return smooth
		}
	}
	if w.chance(12, "connections get lost") {
		function, kind, others := functions[w.pick(len(functions), "to")], trouble(1+w.pick(int(troubles)-1, "kind")), w.trouble
		begins, length := w.Now().Add(w.one("from", 0, wait/2, wait)), w.one("for", time.Minute, hour, day, wait+soak)
		w.trouble = func(e *execution, called string) trouble {
			if since := w.Now().Sub(begins); called == function && since >= 0 && since < length {
				return kind
			}
			return others(e, called)
		}
	}
}

// interfere lets people act: at any time, while a step is at work, in the soak, or just
// before a key is switched off or deleted.
func (w *world) interfere(wait, soak time.Duration, of []act) {
	for range []int{0, 0, 0, 1, 1, 2, 3}[w.pick(7, "acts")] {
		act := of[w.pick(len(of), "act")]
		others := w.meanwhile
		switch w.pick(4, "when") {
		case 0:
			w.in((wait+soak)/64*time.Duration(w.pick(64, "after")), func() { act.do(w) })
		case 1:
			step := 1 + w.pick(12, "at step")
			w.meanwhile = func(e *execution, function string, payload map[string]any) {
				others(e, function, payload)
				if step--; step == 0 {
					w.in(time.Duration(w.pick(30, "seconds into it"))*time.Second, func() { act.do(w) })
				}
			}
		case 2:
			w.meanwhile = func(e *execution, function string, payload map[string]any) {
				others(e, function, payload)
				if payload["stage"] == "off" || payload["stage"] == "retired" {
					w.in(soak/16*time.Duration(1+w.pick(16, "into the soak")), func() { act.do(w) })
				}
			}
		case 3:
			step := 1 + w.pick(4, "at step")
			w.meanwhile = func(e *execution, function string, payload map[string]any) {
				others(e, function, payload)
				if function != "deactivate" && function != "delete" {
					return
				}
				if step--; step == 0 {
					act.do(w)
				}
			}
		}
	}
}

// outage makes one action fail for a while, however often it is tried.
func (w *world) outage(from, length time.Duration) {
	actions := []string{"iam:GetUser", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed", "iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey", "sts:GetCallerIdentity",
		"secretsmanager:DescribeSecret", "secretsmanager:CreateSecret", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage", "sns:Publish"}
	out := actions[w.pick(len(actions), "outage of")]
	how := []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Unanswered, iamkeystest.Lost}[w.pick(3, "outage by")]
	begins, others := w.Now().Add(from), w.fault
	w.fault = func(h *hand, n int, action string) iamkeystest.Fault {
		if since := w.Now().Sub(begins); action == out && since >= 0 && since < length {
			return how
		}
		return others(h, n, action)
	}
}

// heal runs a rotation that nothing disturbs, when every lock is dead. What a dead
// create has left is gone then, or named, unless a person has had a hand in it.
func (w *world) heal(left []string) {
	w.undisturbed()
	var e *execution
	w.in(10*time.Minute, func() {
		if w.tagged != "" && !w.touched["user"] { // Plan refuses who is protected
			w.SetTags(user)
			w.taggedAt = w.Now().AddDate(1, 0, 0) // and nobody tags it any more
		}
		e = w.start(0, "heal", rotation(), map[string]any{"userName": user, "quietHours": 24, "maxWaitDays": 2, "pollHours": 48, "soakDays": 1}, nil)
	})
	w.run(11 * time.Minute)
	w.run(0)
	if len(w.touched) > 0 {
		return
	}
	for _, id := range w.undelivered() {
		if named := e.failure != nil && e.failure.Name == "OrphanedKey" && strings.Contains(e.failure.Cause, id); slices.Contains(left, id) && !named {
			w.fail("promise 4: %s is undelivered, and the next rotation did not settle it; it ended as %v", id, e.failure)
		}
	}
}

// An act is what people do.
type act struct {
	name string
	do   func(w *world)
}

// acts are what people do to keys, users, secrets and executions.
var acts = []act{
	{"switch a key off", func(w *world) {
		if k, ok := w.anyKey(iamkeys.Active); ok {
			w.person(func() { w.SetStatus(w.holder(k), k, iamkeys.Inactive) }, k)
		}
	}},
	{"switch a key on", func(w *world) {
		if k, ok := w.anyKey(iamkeys.Inactive); ok {
			w.person(func() { w.SetStatus(w.holder(k), k, iamkeys.Active) }, k)
		}
	}},
	{"delete a key", func(w *world) {
		if k, ok := w.anyKey(""); ok {
			w.person(func() { w.DeleteKey(w.holder(k), k) }, k)
		}
	}},
	{"make a key", func(w *world) {
		if len(w.Keys(user)) < 2 && !w.touched["user"] {
			w.person(func() {
				k := w.AddKey(user, 0)
				w.touched[k] = true
				if w.pick(2, "for a consumer") == 1 {
					w.install(&consumer{holds: k, service: "s3", every: 5 * hour, reading: never}, time.Duration(1+w.pick(20, "used after minutes"))*time.Minute)
				}
			}, "keys")
		}
	}},
	{"put another value into the secret", func(w *world) {
		if !w.scrapped {
			w.person(func() {
				w.PutSecret(w.secretID, fmt.Sprintf("somebody-elses-version-number-%d", len(w.history)))
				w.foreign = w.Now()
			}, "secret")
		}
	}},
	{"put a key of the user into the secret", func(w *world) {
		// Whose secret somebody has: not one that a create has not delivered.
		if k, ok := w.anyKey(""); ok && !w.scrapped && (w.made[k] == nil || w.holding[k]) {
			w.person(func() { w.Deliver(w.secretID, user, k); w.foreign = time.Time{} }, "secret")
		}
	}},
	{"scrap the secret", func(w *world) {
		if w.Held(w.secretID) != "" || !w.foreign.IsZero() {
			w.person(func() { w.ScheduleDeletion(w.secretID); w.scrapped = true }, "secret")
		}
	}},
	{"delete the user", func(w *world) {
		if !w.touched["user"] && w.pick(2, "really") == 1 {
			w.person(func() {
				w.RemoveUser(user)
				if w.pick(2, "and make it again") == 1 {
					w.AddUser(user)
					w.install(&consumer{holds: w.AddKey(user, 0), service: "s3", every: 5 * hour, reading: never}, time.Minute)
				}
			}, "user")
		}
	}},
	{"rename the user", func(w *world) {
		if !w.touched["user"] && w.pick(2, "really") == 1 {
			w.person(func() {
				w.RenameUser(user, renamed)
				if w.pick(2, "and make another one") == 1 {
					w.AddUser(user)
					w.install(&consumer{holds: w.AddKey(user, 0), service: "s3", every: 5 * hour, reading: never}, time.Minute)
				}
			}, "user")
		}
	}},
	{"order a key off asynchronously, and think better of it", func(w *world) {
		if k, ok := w.anyKey(iamkeys.Active); ok {
			w.order("deactivate", k, map[string]any{"userName": user, "accessKeyId": k, "quietHours": 0})
			w.in(time.Duration(w.pick(30, "seconds until the change of mind"))*time.Second, func() {
				w.order("activate", k, map[string]any{"userName": user, "accessKeyId": k})
			})
		}
	}},
	{"order a key deleted asynchronously", func(w *world) {
		if k, ok := w.anyKey(iamkeys.Inactive); ok {
			w.order("delete", k, map[string]any{"userName": user, "accessKeyId": k})
		}
	}},
	{"stop an execution", func(w *world) {
		for _, e := range w.started {
			if !e.ended && !e.stopped {
				e.stop()
				return
			}
		}
	}},
}

// anyKey picks one of the user's keys with that status, "" for any.
func (w *world) anyKey(status iamkeys.Status) (string, bool) {
	keys := slices.DeleteFunc(w.look().keys, func(k iamkeys.AccessKey) bool { return status != "" && k.Status != status })
	if len(keys) == 0 {
		return "", false
	}
	return keys[w.pick(len(keys), "key")].AccessKeyID, true
}
