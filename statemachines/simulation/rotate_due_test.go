package simulation

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// dueScene is an account of users who have and have not opted in, and whose keys
// are and are not due.
func dueScene(t reporter) *world {
	w := newWorld(t)
	tag := func(key, value string) iamkeys.Tag { return iamkeys.Tag{Key: key, Value: value} }
	on := tag(iamkeys.TagRotate, "on")
	add := func(name string, age, idle time.Duration, tags ...iamkeys.Tag) string {
		w.AddUser(name, tags...)
		id := w.AddKey(name, age)
		w.UsedAgo(id, idle, "s3", "eu-west-1")
		return id
	}
	add(user, 85*day, 20*day, on, tag("owner", "team-ci"))
	add("older", 100*day, 20*day, on)
	add("young", 60*day, day, on)
	add("opted-out", 100*day, day)
	add("exempt", 100*day, day, on, tag(iamkeys.TagExemptUntil, iamkeystest.Epoch.Add(90*day).Format(time.DateOnly)), tag(iamkeys.TagExemptReason, "an appliance"))
	add("unused", 100*day, 50*day, on)
	add("elsewhere", 100*day, day, on, tag(iamkeys.TagSecret, "not/under/the/prefix"))
	add("two-keys", 100*day, day, on)
	w.AddKey("two-keys", 3*day)
	w.Advance(time.Minute)
	w.history = append(w.history, w.look())
	return w
}

// rotateDue runs the scheduled rotation to its end, as the schedule starts it.
func (w *world) rotateDue(mode string) *execution {
	w.deploy(map[string]string{"RotationMode": mode})
	e := w.start(0, "scheduled", workflow("rotate-due", "RotateDueStateMachine", w.stack.Deployment), map[string]any{"version": "0", "source": "aws.scheduler", "time": w.Now().Format(time.RFC3339)}, nil)
	for !e.ended {
		w.run(time.Second)
	}
	return e
}

// accountState is all that the scheduled rotation could change.
func (w *world) accountState() string {
	var s strings.Builder
	for _, name := range []string{user, "older", "young", "opted-out", "exempt", "unused", "elsewhere", "two-keys"} {
		fmt.Fprintln(&s, w.Keys(name), w.Held("iamkeys/"+name+"/access-key"), w.Labels("iamkeys/"+name+"/access-key"))
	}
	return s.String()
}

// due gives what the execution's output says is due, oldest first.
func (e *execution) due() (rotations []string) {
	out, _ := e.output.(map[string]any)
	all, _ := out["rotations"].([]any)
	for _, r := range all {
		rotations = append(rotations, r.(map[string]any)["userName"].(string))
	}
	return rotations
}

// By default the scheduled rotation changes nothing (promise 7): it tells what it
// would rotate. Off, it does not even look.
func TestRotateDueChangesNothingByDefault(t *testing.T) {
	for mode, wantCalls := range map[string]bool{"off": false, stack().Parameter("RotationMode"): true} {
		t.Run(mode, func(t *testing.T) {
			w := dueScene(t)
			before := w.accountState()
			e := w.rotateDue(mode)
			if e.failure != nil {
				t.Fatal(e.failure)
			}
			w.run(100 * day)
			if got := w.accountState(); got != before {
				t.Errorf("it changed\n%sinto\n%s", before, got)
			}
			if len(w.started) != 1 {
				t.Errorf("it started %d rotations", len(w.started)-1)
			}
			if (w.calls > 0) != wantCalls {
				t.Errorf("it made %d calls", w.calls)
			}
			if !wantCalls {
				return
			}
			if got, want := e.due(), []string{"older", user}; !slices.Equal(got, want) {
				t.Errorf("due are %v, want %v", got, want)
			}
			if got := e.stages(); got != "planned" {
				t.Fatalf("told %q", got)
			}
			text := flat(e.notices[0].Text)
			for _, says := range []string{"changed nothing", "older", user, "team-ci", "exempt 1", "unused 1", "noFreeSlot 1", "secretOutsidePrefix 1"} {
				if !strings.Contains(text, says) {
					t.Errorf("the notice does not say %q:\n%s", says, e.notices[0].Text)
				}
			}
			for _, hides := range []string{"young", "opted-out"} {
				if strings.Contains(text, hides) {
					t.Errorf("the notice speaks of %s:\n%s", hides, e.notices[0].Text)
				}
			}
		})
	}
}

// In apply mode each key that is due gets its own rotation, once.
func TestRotateDueApplies(t *testing.T) {
	w := dueScene(t)
	old := map[string]string{user: w.Keys(user)[0].AccessKeyID, "older": w.Keys("older")[0].AccessKeyID}
	others := func() string {
		var s string
		for _, name := range []string{"young", "opted-out", "exempt", "unused", "elsewhere", "two-keys"} {
			s += fmt.Sprintln(w.Keys(name))
		}
		return s
	}
	before := others()
	first := w.rotateDue("apply")
	if first.failure != nil || first.stages() != "started" || !slices.Equal(first.due(), []string{"older", user}) {
		t.Fatalf("%v, told %q, due are %v", first.failure, first.stages(), first.due())
	}
	for i, name := range []string{"older", user} {
		e := w.started[i+1]
		if e.name != old[name] || !reflect.DeepEqual(e.input, map[string]any{"userName": name, "accessKeyId": old[name], "secretId": "iamkeys/" + name + "/access-key"}) {
			t.Errorf("rotation %d is %s with %v", i, e.name, e.input)
		}
	}

	// A day later the rotations are at work, and nothing is due.
	w.run(day)
	if again := w.rotateDue("apply"); again.failure != nil || len(again.due()) > 0 || again.stages() != "" || len(w.started) != 4 {
		t.Errorf("the next day: %v, due are %v, told %q, started %d", again.failure, again.due(), again.stages(), len(w.started))
	}

	// The consumers adopt, and both rotations end well.
	for name, id := range old {
		if w.Held("iamkeys/"+name+"/access-key") == id {
			t.Errorf("%s has no new key", name)
		}
		w.Use(w.Held("iamkeys/"+name+"/access-key"), "s3", "eu-west-1")
	}
	w.used[w.Held(secret)] = append(w.used[w.Held(secret)], use{w.Now(), "s3"})
	w.run(0)
	for name, id := range old {
		if keys := w.Keys(name); len(keys) != 1 || keys[0].AccessKeyID == id || keys[0].AccessKeyID != w.Held("iamkeys/"+name+"/access-key") {
			t.Errorf("%s has the keys %v", name, keys)
		}
	}
	for _, e := range w.started[1:3] {
		if e.failure != nil {
			t.Errorf("%s ended as %v", e.name, e.failure)
		}
	}
	if got := others(); got != before {
		t.Errorf("it changed the keys\n%sinto\n%s", before, got)
	}
}

// More keys than a run may start wait for a later one; the oldest come first.
func TestRotateDueKeepsToItsLimit(t *testing.T) {
	w := dueScene(t)
	w.deploy(map[string]string{"MaxRotationsPerRun": "1"})
	first := w.rotateDue("apply")
	if first.failure != nil || !slices.Equal(first.due(), []string{"older"}) || !strings.Contains(flat(first.notices[0].Text), "overLimit 1") {
		t.Fatalf("%v, due are %v", first.failure, first.due())
	}
	w.run(day)
	if second := w.rotateDue("apply"); second.failure != nil || !slices.Equal(second.due(), []string{user}) {
		t.Errorf("the next day: %v, due are %v", second.failure, second.due())
	}
}

// The schedule's event may come twice, late, and beside itself: the limit holds for all
// that was started in the last 20 hours, however late Step Functions lists it.
func TestRotateDueTwiceKeepsToItsLimit(t *testing.T) {
	for _, later := range []time.Duration{0, 5 * time.Second, time.Minute, 59 * time.Minute, 19 * hour} {
		t.Run(later.String(), func(t *testing.T) {
			w := dueScene(t)
			w.ExecutionsLag = 9 * time.Second
			w.deploy(map[string]string{"MaxRotationsPerRun": "1"})
			w.rotateDue("apply")
			if later > 0 {
				w.run(later)
			}
			second := w.rotateDue("apply")
			rotations := 0
			for _, e := range w.started {
				if e.machine == rotation() {
					rotations++
				}
			}
			if second.failure != nil || rotations != 1 {
				t.Errorf("the event came again %v later: %v, and %d rotations were started, want 1", later, second.failure, rotations)
			}
		})
	}
}

// An execution of that name that exists already is success: Step Functions has
// refused a second rotation of the same key. The others are started.
func TestRotateDueFindsNamesInUse(t *testing.T) {
	w := dueScene(t)
	taken := w.Keys("older")[0].AccessKeyID
	// Started after due has looked: the race that only the name settles.
	w.on("notify started", func() {
		w.start(0, taken, rotation(), map[string]any{"userName": "older", "accessKeyId": taken}, nil)
	})
	e := w.rotateDue("apply")
	if e.failure != nil || !slices.Equal(e.due(), []string{"older", user}) || len(w.started) != 3 || w.started[2].input["userName"] != user {
		t.Errorf("%v, due are %v, started %d", e.failure, e.due(), len(w.started))
	}
	w.run(0)
	if n := len(w.Keys("older")); n != 2 {
		t.Errorf("%d keys, want the old one and one new one", n)
	}
}

// A key whose rotation has failed is left to a person, and so is one whose
// rotation was stopped.
func TestRotateDueLeavesFailedOnes(t *testing.T) {
	for status, reason := range map[iamkeys.ExecutionStatus]string{"FAILED": "failed", "ABORTED": "failed", "TIMED_OUT": "failed", "RUNNING": "rotating", "PENDING_REDRIVE": "rotating"} {
		w := dueScene(t)
		w.SetExecution(iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: w.Keys("older")[0].AccessKeyID, Status: status})
		e := w.rotateDue("apply")
		out, _ := json.Marshal(e.output)
		if e.failure != nil || len(w.started) != 2 || !strings.Contains(string(out), `{"reason":"`+reason+`","userName":"older"}`) {
			t.Errorf("%s: %v, started %d, output %s", status, e.failure, len(w.started), out)
		}
	}
}

// What could not be examined is in the notice, not left out of it.
func TestRotateDueSaysWhatItDidNotExamine(t *testing.T) {
	w := dueScene(t)
	w.fault = func(h *hand, _ int, action string) iamkeystest.Fault {
		if action == "iam:GetAccessKeyLastUsed" || action == "iam:GenerateCredentialReport" {
			return iamkeystest.Refused
		}
		return iamkeystest.None
	}
	if e := w.rotateDue("plan"); e.failure == nil || e.failure.Name != "InventoryUnavailable" {
		t.Errorf("nobody could be examined: %v", e.failure)
	}
	w.undisturbed()
	w.fails("due", "iam:ListAccessKeys", 1, 1, iamkeystest.Refused)
	e := w.rotateDue("plan")
	if e.failure != nil || len(e.due()) == 0 { // whose list fails is chance: users are read side by side
		t.Fatalf("%v, due are %v", e.failure, e.due())
	}
	if text := e.notices[0].Text; !strings.Contains(text, "Incomplete: 1 of 8 users") || !strings.Contains(flat(text), "unexamined 1") {
		t.Errorf("the notice hides that a user was not examined:\n%s", text)
	}
}

// The states of the scheduled rotation stay small with as much due and skipped
// as there can be, and the longest names, tags and owners that IAM takes.
func TestRotateDueStaysSmall(t *testing.T) {
	w := newWorld(t)
	for i := range 160 {
		name := fmt.Sprintf("%064d", i)
		w.AddUser(name, iamkeys.Tag{Key: iamkeys.TagRotate, Value: "on"}, iamkeys.Tag{Key: "owner", Value: strings.Repeat("界", 256)},
			iamkeys.Tag{Key: iamkeys.TagSecret, Value: "iamkeys/" + name + "/" + strings.Repeat("s", 183)})
		id, idle := w.AddKey(name, 100*day), day
		if i >= 50 {
			idle = 60 * day
		}
		w.UsedAgo(id, idle, "s3", "eu-west-1")
	}
	w.history = append(w.history, w.look())
	w.deploy(map[string]string{"MaxRotationsPerRun": "50"})
	if e := w.rotateDue("plan"); e.failure != nil || len(e.due()) != 50 {
		t.Errorf("%v, %d are due", e.failure, len(e.due()))
	}
	t.Logf("the largest state has %d bytes", w.largest) // the witness has held it to 32 KiB
}

// A person who gets the mail must be able to rely on it: a topic that is down is waited
// for, two days at most, and what nobody was told of goes no further.
func TestRotateDueCannotTell(t *testing.T) {
	for mode, started := range map[string]int{"plan": 0, "apply": 2} {
		for failures, want := range map[int]string{48: "", 49: "NotifyFailed"} {
			w := dueScene(t)
			w.fails("notify", "sns:Publish", 1, failures, iamkeystest.Refused)
			e := w.rotateDue(mode)
			if n := len(w.started) - 1; e.endName() != want || want == "" && n != started || want != "" && n != 0 {
				t.Errorf("%s, the topic down for %d hours: %v, started %d", mode, failures, e.failure, n)
			}
		}
	}
}
