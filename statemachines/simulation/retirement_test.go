package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/statemachines/asl"
)

// A retiring is one retirement, carried out by the deployed functions.
type retiring struct {
	*iamkeystest.Account
	key  string
	at   map[string]func() // what people and consumers do before a step: function, with its stage
	told []string          // stages of the notices

	history asl.History
	invoked int // functions
	called  []*iamkeystest.Process
	largest int // payload of a function's call or answer, bytes
}

// run runs the retirement's workflow with that input; it gives the outcome, or the
// name that the execution failed by.
func (r *retiring) run(t testing.TB, parameters map[string]string, input map[string]any) string {
	t.Helper()
	deployed := functionstest.New(parameters)
	m := workflow("retirement", "RetirementStateMachine", deployed.Deployment)
	text, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	e := asl.Execution{Name: "retire-" + r.key, Started: r.Now()}
	r.SetExecution(iamkeys.Execution{Workflow: iamkeys.RetirementWorkflow, Name: e.Name, Input: text})
	e.Wait = func(_ context.Context, d time.Duration) error { r.Advance(d); return nil }
	e.Task = asl.Lambda(func(ctx context.Context, function string, payload any) (any, error) {
		in := payload.(map[string]any)
		stage, _ := in["stage"].(string)
		step := strings.TrimSpace(function + " " + stage)
		if in["check"] == true {
			step = "look"
		}
		if do := r.at[step]; do != nil {
			delete(r.at, step)
			do()
		}
		event, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		f := deployed.Function(function, functionstest.Surroundings{
			Port: func(string) any {
				p := r.Start()
				r.called = append(r.called, p)
				return p
			}, Now: r.Now, Sleep: r.Sleep, Log: slog.New(slog.DiscardHandler),
		})
		out, err := f.Handler.Invoke(ctx, event)
		r.invoked, r.largest = r.invoked+1, max(r.largest, len(event), len(out))
		if named, ok := errors.AsType[messages.InvokeResponse_Error](err); ok {
			return nil, &asl.Error{Name: named.Type, Cause: named.Message}
		} else if err != nil {
			return nil, err
		}
		if function == "notify" {
			r.told = append(r.told, stage)
		}
		var answer any
		err = json.Unmarshal(out, &answer)
		return answer, err
	})
	var in any
	if err := json.Unmarshal(text, &in); err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(t.Context(), &e, in)
	r.history = e.History
	if failed, ok := errors.AsType[*asl.Error](err); ok {
		return failed.Name
	} else if err != nil {
		t.Fatal(err)
	}
	outcome, _ := out.(map[string]any)["outcome"].(string)
	return outcome
}

// TestRetirement runs retirements by the functions as they are deployed: what people
// and consumers do meanwhile decides how each ends.
func TestRetirement(t *testing.T) {
	apply := map[string]string{"RetirementMode": "apply"}
	for name, c := range map[string]struct {
		parameters map[string]string
		insist     bool
		meanwhile  func(r *retiring) map[string]func()
		outcome    string
		told       string
		status     iamkeys.Status // "" for deleted
	}{
		"undisturbed":         {parameters: apply, outcome: "removed", told: "warning final retired removed"},
		"a person insists":    {insist: true, outcome: "removed", told: "warning final retired removed"},
		"retirements are off": {outcome: "kept", status: iamkeys.Active},
		"used after the warning": {parameters: apply, meanwhile: func(r *retiring) map[string]func() {
			return map[string]func(){"retire final": func() { r.Use(r.key, "s3", "") }}
		}, outcome: "kept", told: "warning kept", status: iamkeys.Active},
		"exempt after the last one": {parameters: apply, meanwhile: func(r *retiring) map[string]func() {
			return map[string]func(){"retire off": func() { r.SetTags(user, iamkeys.Tag{Key: iamkeys.TagProtect}) }}
		}, outcome: "kept", told: "warning final kept", status: iamkeys.Active},
		"off by another hand": {parameters: apply, meanwhile: func(r *retiring) map[string]func() {
			return map[string]func(){"deactivate": func() { r.SetStatus(user, r.key, iamkeys.Inactive) }}
		}, outcome: "kept", told: "warning final kept", status: iamkeys.Inactive},
		"gone by another hand": {parameters: apply, meanwhile: func(r *retiring) map[string]func() {
			return map[string]func(){"retire final": func() { r.DeleteKey(user, r.key) }}
		}, outcome: "removed", told: "warning removed"},
		"reactivated in the soak": {parameters: apply, meanwhile: func(r *retiring) map[string]func() {
			return map[string]func(){"look": func() { r.SetStatus(user, r.key, iamkeys.Active) }}
		}, outcome: "rolledBack", told: "warning final retired rolledBack", status: iamkeys.Active},
		"used shortly before it was off": {parameters: apply, meanwhile: func(r *retiring) map[string]func() {
			r.LastUsedLag = iamkeys.LastUsedLag
			return map[string]func(){"deactivate": func() { r.Use(r.key, "s3", ""); r.Advance(time.Hour) }}
		}, outcome: "rolledBack", told: "warning final retired rolledBack", status: iamkeys.Inactive},
	} {
		t.Run(name, func(t *testing.T) {
			r := &retiring{Account: iamkeystest.NewAccount()}
			r.AddUser(user, iamkeys.Tag{Key: "owner", Value: "team-ci"})
			r.key = r.AddKey(user, 400*day)
			r.UsedAgo(r.key, 200*day, "s3", "eu-west-1")
			r.Advance(time.Minute)
			if c.meanwhile != nil {
				r.at = c.meanwhile(r)
			}
			input := map[string]any{"userName": user, "accessKeyId": r.key}
			if c.insist {
				input["insist"] = true
			}
			if got := r.run(t, c.parameters, input); got != c.outcome {
				t.Errorf("ended as %q, want %q", got, c.outcome)
			}
			if got := strings.Join(r.told, " "); got != c.told {
				t.Errorf("told %q, want %q", got, c.told)
			}
			status := iamkeys.Status("")
			for _, k := range r.Keys(user) {
				status = k.Status
			}
			if status != c.status {
				t.Errorf("the key is %q, want %q", status, c.status)
			}
		})
	}
}

// Whatever the day on which a retirement begins, the key goes off on a day to act.
func TestRetirementActsOnActDays(t *testing.T) {
	for begins := range 7 {
		r := &retiring{Account: iamkeystest.NewAccount()}
		r.AddUser(user)
		r.key = r.AddKey(user, 400*day)
		r.Advance(time.Duration(begins)*day + 5*time.Hour)
		var off time.Time
		r.at = map[string]func(){"deactivate": func() { off = r.Now() }}
		if got := r.run(t, map[string]string{"RetirementMode": "apply"}, map[string]any{"userName": user, "accessKeyId": r.key}); got != "removed" {
			t.Errorf("ended as %q", got)
		}
		if d := off.Weekday(); d < time.Monday || d > time.Thursday {
			t.Errorf("begun %d days after a Monday, the key went off on a %s", begins, d)
		}
		if waited := off.Sub(iamkeystest.Epoch.Add(time.Duration(begins)*day + 5*time.Hour)); waited < 14*day {
			t.Errorf("the key went off %v after the first warning", waited)
		}
	}
}

// A use just before a switch-off whose answer was lost is shown only after it, and
// brings the key back to people all the same: nothing is deleted.
func TestRetirementForgetsNoUse(t *testing.T) {
	w := newWorld(t)
	w.stack = retiringStacks()[0].Stack
	w.LastUsedLag = iamkeys.LastUsedLag
	w.AddUser(user)
	key := w.AddKey(user, 400*day)
	w.UsedAgo(key, 200*day, "s3", "eu-west-1")
	w.Advance(time.Minute)
	w.history = append(w.history, w.look())
	w.on("deactivate", func() {
		w.Use(key, "s3", "eu-west-1")
		w.used[key] = append(w.used[key], use{w.Now(), "s3"})
	})
	w.fails("deactivate", "iam:UpdateAccessKey", 1, 1, iamkeystest.DiesAfter)
	e := w.start(0, "retire-"+key, retirement(), map[string]any{"userName": user, "accessKeyId": key}, nil)
	w.run(0)
	if keys := w.Keys(user); e.failure != nil || e.outcome() != "rolledBack" || len(keys) != 1 || keys[0].Status != iamkeys.Inactive {
		t.Errorf("ended as %q, %v, with %v", e.outcome(), e.failure, keys)
	}
}
