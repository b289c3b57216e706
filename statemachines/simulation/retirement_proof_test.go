package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"pgregory.net/rapid"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/statemachines/asl"
)

// retirementRuns is how many random runs TestRetirementKeepsItsPromises does.
const retirementRuns = runs

// TestRetirementKeepsItsPromises runs the retirement as its file has it over the real
// functions, while consumers use the key, people switch it, protect, exempt and delete
// it, take RetirementMode from apply, rotate the same user, calls fail and functions die.
// Every change of the key is held to the promises.
func TestRetirementKeepsItsPromises(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	others := checks.Value.String()
	defer func() { _ = flag.Set("rapid.checks", others) }()
	if err := flag.Set("rapid.checks", fmt.Sprint(retirementRuns)); err != nil {
		t.Fatal(err)
	}
	deployed := map[bool]*functionstest.Stack{ // whether RetirementMode is apply
		true:  functionstest.New(map[string]string{"RetirementMode": "apply", "RetireSoakDays": "5"}),
		false: functionstest.New(map[string]string{"RetirementMode": "plan", "RetireSoakDays": "5"}),
	}
	machine := workflow("retirement", "RetirementStateMachine", deployed[true].Deployment)
	ends := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) { ends[randomRetirement(rt, deployed, machine)]++ })
	t.Logf("ended: %v", ends)
	for _, want := range []string{"kept", "rolledBack", "removed"} {
		if ends[want] == 0 && !t.Failed() {
			t.Errorf("no run ended as %s: %v", want, ends)
		}
	}
}

// randomRetirement is one run; it gives the outcome, or the name that it failed by.
func randomRetirement(rt *rapid.T, deployed map[bool]*functionstest.Stack, machine *asl.Machine) string {
	pick := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) }
	a := iamkeystest.NewAccount()
	a.AddUser(user, iamkeys.Tag{Key: "owner", Value: "team-ci"})
	key := a.AddKey(user, 400*day)
	a.Advance(time.Duration(pick(7*24, "begins after hours"))*time.Hour + time.Minute)
	idle := time.Duration(101+pick(100, "idle days")) * day
	a.UsedAgo(key, idle, "s3", "eu-west-1")
	a.LastUsedLag = time.Duration(pick(7, "last-use lag in hours")) * time.Hour
	a.ListLag = []time.Duration{0, 4 * time.Second, 10 * time.Second}[pick(3, "list lag")]
	a.DeniesUnknown = pick(3, "denies what does not exist") == 2
	a.ExecutionsLag = []time.Duration{0, 9 * time.Second}[pick(2, "executions are listed late")]
	insist := pick(4, "a person insists") == 3
	uses := []time.Time{a.Now().Add(-idle)}
	status := func() iamkeys.Status {
		for _, k := range a.Keys(user) {
			if k.AccessKeyID == key {
				return k.Status
			}
		}
		return ""
	}

	told := map[string]time.Time{} // stage → when it was published first
	var off, reactivated time.Time // by the retirement; by a person since
	unsure := false                // an attempt to switch it off ended in anything but Throttled: what is off then counts as the retirement's
	apply, kept := true, ""        // RetirementMode; why the key must not be switched off, by what the latest Retire could see
	keeps := ""                    // why it must not, by what people did
	touched, faults := false, []int{0, 0, 80, 15}[pick(4, "faults")]
	people := []int{0, 60, 15}[pick(3, "people")]
	act := func() {
		if people == 0 || pick(people, "does a person act") != people-1 {
			return
		}
		now := status()
		switch pick(8, "act") {
		case 0, 1:
			if a.Use(key, "s3", "eu-west-1") {
				uses = append(uses, a.Now())
			}
		case 2:
			if now == iamkeys.Inactive {
				a.SetStatus(user, key, iamkeys.Active)
				reactivated, touched = a.Now(), true
			}
		case 3:
			if now == iamkeys.Active {
				a.SetStatus(user, key, iamkeys.Inactive)
				touched = true
			}
		case 4:
			if now != "" {
				a.SetTags(user, iamkeys.Tag{Key: iamkeys.TagProtect, Value: "yes"})
				keeps = "it is protected"
			}
		case 6:
			if now != "" && keeps == "" {
				a.SetTags(user, iamkeys.Tag{Key: iamkeys.TagExemptUntil, Value: a.Now().AddDate(0, 0, 399).Format(time.DateOnly)}, iamkeys.Tag{Key: iamkeys.TagExemptReason, Value: "half-yearly"})
				keeps = "it is exempt"
			}
		case 7:
			apply = !apply
		case 5:
			if now != "" {
				a.DeleteKey(user, key)
				touched = true
			}
		}
	}

	invoke := func(ctx context.Context, function string, payload any) (any, error) {
		act()
		in := payload.(map[string]any)
		event, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		p, began, before := a.Start(), a.Now(), status()
		if function == "retire" {
			kept = keeps
			if !apply && !insist {
				kept = "RetirementMode is plan"
			}
		}
		p.Fault = func(int, string) iamkeystest.Fault {
			if faults > 0 && pick(faults, "fault") == faults-1 {
				return iamkeystest.Faults[pick(len(iamkeystest.Faults), "which")]
			}
			return iamkeystest.None
		}
		published := len(a.Messages())
		var out []byte
		died := p.Run(func() {
			f := deployed[apply].Function(function, functionstest.Surroundings{Port: func(string) any { return p }, Now: a.Now, Sleep: a.Sleep, Log: slog.New(slog.DiscardHandler)})
			out, err = f.Handler.Invoke(ctx, event)
		})
		if stage, _ := in["stage"].(string); function == "notify" && len(a.Messages()) > published && told[stage].IsZero() {
			told[stage] = a.Now()
		}
		switch after := status(); {
		case after == before:
		case function == "deactivate" && before == iamkeys.Active && after == iamkeys.Inactive:
			if told["warning"].IsZero() || told["final"].IsZero() || a.Now().Sub(told["final"]) < 3*day {
				rt.Errorf("promise 8: switched off at %v, and told: %v", a.Now(), told)
			}
			for _, u := range uses {
				if u.After(a.Now().Add(-100*day-iamkeys.LastUsedLag+noted)) && !u.After(began.Add(-a.LastUsedLag)) {
					rt.Errorf("promise 2: switched off %v after a use that IAM showed", a.Now().Sub(u))
				}
			}
			if kept != "" {
				rt.Errorf("switched off, although %s", kept)
			}
			if !reactivated.IsZero() && !off.IsZero() {
				rt.Errorf("promise 8: switched off again, and a person had reactivated it")
			}
			off = a.Now()
		case function == "delete" && in["check"] == nil && (before == iamkeys.Inactive || began.Sub(reactivated) <= a.ListLag) && after == "": // a list may be ten seconds old
			switch {
			case off.IsZero():
				rt.Errorf("promise 8: deleted, and the retirement did not switch it off")
			case kept != "":
				rt.Errorf("deleted, although %s", kept)
			case told["retired"].IsZero():
				rt.Errorf("promise 8: deleted, and nobody was told that it is off")
			case a.Now().Sub(off) < 5*day:
				rt.Errorf("promise 8: deleted %v after it was switched off", a.Now().Sub(off))
			}
			for _, u := range uses {
				if u.After(off) && !u.After(began.Add(-a.LastUsedLag-noted)) {
					rt.Errorf("promise 8: deleted %v after a use in its soak that IAM showed", a.Now().Sub(u))
				}
			}
		default:
			rt.Errorf("promise 3: %s made the key %q of %q", function, after, before)
		}
		if function == "deactivate" {
			named, failed := errors.AsType[messages.InvokeResponse_Error](err)
			unsure = unsure || died || failed && named.Type != string(iamkeys.Throttled)
			if !died && !failed && off.IsZero() && (unsure || bytes.Contains(out, []byte(`"changed":true`))) { // also where a person was quicker, and the list did not show it yet
				off = a.Now()
			}
		}
		if died {
			names := []string{"Runtime.ExitError", "Lambda.Unknown", "Sandbox.Timedout"}
			return nil, &asl.Error{Name: names[pick(len(names), "death")], Cause: "the function is gone"}
		}
		if named, ok := errors.AsType[messages.InvokeResponse_Error](err); ok {
			return nil, &asl.Error{Name: named.Type, Cause: named.Message}
		} else if err != nil {
			return nil, err
		}
		var answer any
		err = json.Unmarshal(out, &answer)
		return answer, err
	}
	e := asl.Execution{Name: "retire-" + key, Started: a.Now(), Task: asl.Lambda(invoke)}
	e.Wait = func(_ context.Context, d time.Duration) error { a.Advance(d); return nil }
	input := map[string]any{"userName": user, "accessKeyId": key}
	if insist {
		input["insist"] = true
	}
	text, _ := json.Marshal(input) // of plain values alone
	// Of the user's rotation and retirement the one begun first goes on, at the same
	// instant the one of the lesser name: a key's ID is less than "retire-".
	beside := pick(4, "a rotation beside")
	if rotation := (iamkeys.Execution{Workflow: iamkeys.RotationWorkflow, Name: key, Input: text}); beside > 0 {
		rotation.Started = []time.Time{a.Now().Add(-time.Hour), a.Now(), a.Now().Add(time.Second)}[beside-1]
		a.SetExecution(rotation)
	}
	a.SetExecution(iamkeys.Execution{Workflow: iamkeys.RetirementWorkflow, Name: e.Name, Input: text})
	out, err := machine.Run(context.Background(), &e, input)
	if failed, ok := errors.AsType[*asl.Error](err); ok {
		if told["failed"].IsZero() && failed.Name != "NotifyFailed" && faults == 0 {
			rt.Errorf("failed as %v, and nobody was told: %v", failed, told)
		}
		return failed.Name
	} else if err != nil {
		rt.Fatal(err)
	}
	outcome, _ := out.(map[string]any)["outcome"].(string)
	if (beside == 1 || beside == 2) && (!off.IsZero() || len(told) > 0) {
		rt.Errorf("a rotation of the user began first, and the retirement went on: %s, told %v", outcome, told)
	}
	switch now := status(); {
	case outcome == "removed" && now != "" && !touched,
		outcome == "rolledBack" && now == "" && !touched,
		outcome == "kept" && now == "" && !touched:
		rt.Errorf("the outcome is %s, and the key is %q", outcome, now)
	case !told["warning"].IsZero() && told[outcome].IsZero():
		rt.Errorf("the outcome is %s, and people were told %v", outcome, told)
	}
	return outcome
}
