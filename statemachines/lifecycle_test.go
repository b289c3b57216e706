package statemachines_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/pkg/lambdafn"
	"iamkeys/statemachines"
	"iamkeys/statemachines/asl"
)

const aUser = "ci-deploy"

// functions are the key operations on an account, called as Lambda calls them:
// JSON in, JSON or a named error out.
type functions struct {
	*iamkeystest.Account
	denied string         // "create iam:DeleteAccessKey": this action in this function is not permitted
	dead   map[string]int // so many calls of this function die before they begin,
	spared map[string]int // after so many that do not
	called []string

	meanwhile func(function string) // what others do before a call; nil for nothing
}

func (f *functions) handler(function string) lambda.Handler {
	p, log := f.Start(), slog.New(slog.DiscardHandler)
	p.Fault = func(_ int, action string) iamkeystest.Fault {
		if f.denied == function+" "+action {
			return iamkeystest.Refused
		}
		return iamkeystest.None
	}
	secrets := iamkeys.SecretNames{Prefix: "iamkeys/"}
	switch function {
	case "list":
		return lambdafn.Handler(iamkeys.List{IAM: p, Now: f.Now}.Run, log)
	case "lastused":
		return lambdafn.Handler(iamkeys.FindLastUsed{IAM: p, Now: f.Now}.Run, log)
	case "create":
		return lambdafn.Handler(iamkeys.Create{IAM: p, SecretsManager: p, STS: p, Secrets: secrets, Now: f.Now, Sleep: f.Sleep, Log: log}.Run, log)
	case "deactivate":
		return lambdafn.Handler(iamkeys.Deactivate{IAM: p, SecretsManager: p, Secrets: secrets, QuietHours: 168, Now: f.Now, Log: log}.Run, log)
	case "delete":
		return lambdafn.Handler(iamkeys.Delete{IAM: p, SecretsManager: p, Secrets: secrets, Log: log}.Run, log)
	}
	return nil
}

func (f *functions) invoke(ctx context.Context, function string, payload any) (any, error) {
	f.called = append(f.called, function)
	if f.meanwhile != nil {
		f.meanwhile(function)
	}
	switch {
	case f.spared[function] > 0:
		f.spared[function]--
	case f.dead[function] > 0:
		f.dead[function]--
		return nil, &asl.Error{Name: "Lambda.Unknown", Cause: "The cause could not be determined because Lambda did not return an error type."}
	}
	event, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	h := f.handler(function)
	if h == nil {
		return nil, fmt.Errorf("no function %q", function)
	}
	answer, err := h.Invoke(ctx, event)
	if named, ok := errors.AsType[messages.InvokeResponse_Error](err); ok {
		cause, _ := json.Marshal(map[string]string{"errorType": named.Type, "errorMessage": named.Message})
		return nil, &asl.Error{Name: named.Type, Cause: string(cause)}
	}
	var out any
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, err
	}
	return out, nil
}

func (f *functions) run(t *testing.T, workflow, input string) (map[string]any, *asl.Error) {
	t.Helper()
	m, err := statemachines.Load(workflow, functionARNs)
	if err != nil {
		t.Fatal(err)
	}
	var in any
	if err := json.Unmarshal([]byte(input), &in); err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(t.Context(), &asl.Execution{Task: asl.Lambda(f.invoke), Wait: f.Sleep}, in)
	if failed, ok := errors.AsType[*asl.Error](err); ok {
		return nil, failed
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.(map[string]any), nil
}

// statuses gives the user's keys as they are, without any lag.
func (f *functions) statuses(userName string) map[string]iamkeys.Status {
	all := map[string]iamkeys.Status{}
	for _, k := range f.Keys(userName) {
		all[k.AccessKeyID] = k.Status
	}
	return all
}

// ids gives the key IDs in a step's output, nil when the step did not run.
func ids(step any) []string {
	object, _ := step.(map[string]any)
	keys, _ := object["accessKeys"].([]any)
	var found []string
	for _, k := range keys {
		found = append(found, k.(map[string]any)["accessKeyId"].(string))
	}
	return found
}

func TestLifecycle(t *testing.T) {
	f := &functions{Account: iamkeystest.NewAccount()}
	f.AddUser(aUser)
	old := f.AddKey(aUser, 100*24*time.Hour)
	// What AWS's delays are like: the run must get along with them.
	f.Advance(time.Minute)
	f.ListLag, f.WriteLag, f.SecretLag, f.Propagation = 3*time.Second, 3*time.Second, 2*time.Second, 8*time.Second

	out, failed := f.run(t, "lifecycle", `{"userName": "ci-deploy"}`)
	if failed != nil {
		t.Fatal(failed)
	}
	made := f.Made()[len(f.Made())-1].AccessKeyID
	if got, want := f.called, []string{"list", "create", "list", "lastused", "deactivate", "list", "delete", "list"}; !slices.Equal(got, want) {
		t.Errorf("called %v, want %v", got, want)
	}
	if got := f.statuses(aUser); !maps.Equal(got, map[string]iamkeys.Status{old: iamkeys.Active}) {
		t.Errorf("the user is left with %v, want the old key only", got)
	}
	for step, want := range map[string][]string{"before": {old}, "afterCreate": {old, made}, "lastUsed": {old, made}, "afterDeactivate": {old, made}} {
		if got := ids(out[step]); !slices.Equal(got, want) {
			t.Errorf("%s saw %v, want %v", step, got, want)
		}
	}
	created, deactivated, deleted := out["created"].(map[string]any), out["deactivated"].(map[string]any), out["deleted"].(map[string]any)
	if created["accessKeyId"] != made || created["created"] != true || deactivated["status"] != "Inactive" || deleted["deleted"] != true {
		t.Errorf("created %v, deactivated %v, deleted %v", created, deactivated, deleted)
	}
	if out["userName"] != aUser {
		t.Errorf("userName is %v", out["userName"])
	}
}

func TestLifecycleSwitches(t *testing.T) {
	for name, tt := range map[string]struct {
		input  string
		called []string
		keys   int // left at the end
		ran    []string
	}{
		"look only":       {`{"userName": "ci-deploy", "createKey": false}`, []string{"list", "lastused"}, 1, []string{"before", "lastUsed"}},
		"keep":            {`{"userName": "ci-deploy", "deleteKey": false}`, []string{"list", "create", "list", "lastused"}, 2, []string{"before", "created", "afterCreate", "lastUsed"}},
		"both spelled":    {`{"userName": "ci-deploy", "createKey": true, "deleteKey": true}`, []string{"list", "create", "list", "lastused", "deactivate", "list", "delete", "list"}, 1, nil},
		"null is absent":  {`{"userName": "ci-deploy", "createKey": null, "deleteKey": null, "secretId": null}`, []string{"list", "create", "list", "lastused", "deactivate", "list", "delete", "list"}, 1, nil},
		"neither":         {`{"userName": "ci-deploy", "createKey": false, "deleteKey": false}`, []string{"list", "lastused"}, 1, []string{"before", "lastUsed"}},
		"a chosen secret": {`{"userName": "ci-deploy", "secretId": "iamkeys/elsewhere", "deleteKey": false}`, []string{"list", "create", "list", "lastused"}, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := &functions{Account: iamkeystest.NewAccount()}
			f.AddUser(aUser)
			f.AddKey(aUser, time.Hour)
			out, failed := f.run(t, "lifecycle", tt.input)
			if failed != nil {
				t.Fatal(failed)
			}
			if !slices.Equal(f.called, tt.called) {
				t.Errorf("called %v, want %v", f.called, tt.called)
			}
			if got := len(f.statuses(aUser)); got != tt.keys {
				t.Errorf("%d keys are left, want %d", got, tt.keys)
			}
			if tt.ran != nil {
				for _, step := range []string{"before", "created", "afterCreate", "lastUsed", "deactivated", "afterDeactivate", "deleted", "afterDelete"} {
					if got, want := out[step] != nil, slices.Contains(tt.ran, step); got != want {
						t.Errorf("%s: %v; it must be null unless the step ran", step, out[step])
					}
				}
			}
			if name == "a chosen secret" && f.Held("iamkeys/elsewhere") == "" {
				t.Error("nothing was delivered to the secret that the input names")
			}
		})
	}
}

// A key that an earlier run made, or anybody, is none of this run's business.
func TestLifecycleDeletesOnlyItsOwn(t *testing.T) {
	f := &functions{Account: iamkeystest.NewAccount()}
	f.AddUser(aUser)
	if _, failed := f.run(t, "lifecycle", `{"userName": "ci-deploy", "deleteKey": false}`); failed != nil {
		t.Fatal(failed)
	}
	before := f.statuses(aUser)
	out, failed := f.run(t, "lifecycle", `{"userName": "ci-deploy"}`)
	if failed != nil {
		t.Fatal(failed)
	}
	if got := f.statuses(aUser); !maps.Equal(got, before) || len(got) != 1 {
		t.Errorf("left with %v, want the key of the first run: %v", got, before)
	}
	if out["created"].(map[string]any)["created"] != false || out["deactivated"] != nil || out["deleted"] != nil {
		t.Errorf("got %v", out)
	}
}

// If somebody deletes the new key meanwhile, nothing is left to be done by hand.
func TestLifecycleKeyGone(t *testing.T) {
	for _, before := range []string{"deactivate", "delete"} {
		f := &functions{Account: iamkeystest.NewAccount()}
		f.AddUser(aUser)
		f.meanwhile = func(function string) {
			if function == before {
				f.DeleteKey(aUser, f.Made()[0].AccessKeyID)
			}
		}
		out, failed := f.run(t, "lifecycle", `{"userName": "ci-deploy"}`)
		if failed != nil || len(ids(out["afterDelete"])) > 0 {
			t.Errorf("gone before %s: got %v, %v", before, out, failed)
		}
	}
}

// A list that lags hides the key from deactivate or delete, which take it for
// gone; the last list shows that it is not.
func TestLifecycleKeyHidden(t *testing.T) {
	for _, during := range []string{"deactivate", "delete"} {
		f := &functions{Account: iamkeystest.NewAccount()}
		f.AddUser(aUser)
		f.meanwhile = func(function string) {
			f.ListLag = 0
			if function == during {
				f.ListLag = time.Hour
			}
		}
		out, failed := f.run(t, "lifecycle", `{"userName": "ci-deploy"}`)
		made := f.Made()[0].AccessKeyID
		if failed == nil || failed.Name != "OrphanedKey" || failed.Cause != made {
			t.Errorf("hidden from %s: got %v, %v, want OrphanedKey for %s, which is %s", during, out, failed, made, f.statuses(aUser)[made])
		}
	}
}

// What Deactivate calls gone and the last list still shows is not gone.
func TestLifecycleKeyStillListed(t *testing.T) {
	s := &script{answers: map[string][]string{"deactivate": {"NoSuchEntity"}}, keys: []string{newKey}}
	if out, failed, _ := s.run(t, "lifecycle", "", `{"userName": "ci-deploy"}`); failed == nil || failed.Name != "OrphanedKey" || failed.Cause != newKey {
		t.Errorf("got %v, %v, want OrphanedKey for %s", out, failed, newKey)
	}
}

func TestLifecycleFails(t *testing.T) {
	for name, tt := range map[string]struct {
		input   string
		keys    int    // before
		denied  string // an action that is not permitted in a function
		dead    map[string]int
		want    string // the execution's error
		cause   string // "made": the ID of the key that the run made
		changed bool
		spared  map[string]int
	}{
		"no user":                 {`{"userName": "nobody"}`, 0, "", nil, "NoSuchEntity", "", false, nil},
		"full":                    {`{"userName": "ci-deploy"}`, 2, "", nil, "LimitExceeded", "", false, nil},
		"no input":                {`{}`, 1, "", nil, "InvalidInput", "", false, nil},
		"null user":               {`{"userName": null}`, 1, "", nil, "InvalidInput", "", false, nil},
		"bad user":                {`{"userName": "a b"}`, 1, "", nil, "InvalidInput", "", false, nil},
		"no as a word":            {`{"userName": "ci-deploy", "createKey": "no"}`, 1, "", nil, "InvalidInput", "", false, nil},
		"0 for false":             {`{"userName": "ci-deploy", "deleteKey": 0}`, 1, "", nil, "InvalidInput", "", false, nil},
		"create dies":             {`{"userName": "ci-deploy"}`, 1, "", map[string]int{"create": 1}, "Lambda.Unknown", "", false, nil},
		"cannot create":           {`{"userName": "ci-deploy"}`, 1, "create iam:CreateAccessKey", nil, "AccessDenied", "", false, nil},
		"cannot look":             {`{"userName": "ci-deploy", "createKey": false}`, 1, "lastused iam:GetAccessKeyLastUsed", nil, "AccessDenied", "", false, nil},
		"cannot look, kept":       {`{"userName": "ci-deploy", "deleteKey": false}`, 1, "lastused iam:GetAccessKeyLastUsed", nil, "AccessDenied", "", true, nil},
		"cannot look, left":       {`{"userName": "ci-deploy"}`, 1, "lastused iam:GetAccessKeyLastUsed", nil, "AccessDenied", "", false, nil},
		"cannot look or delete":   {`{"userName": "ci-deploy"}`, 1, "delete iam:DeleteAccessKey", map[string]int{"list": 3}, "OrphanedKey", "made", true, map[string]int{"list": 1}},
		"cannot switch off":       {`{"userName": "ci-deploy"}`, 1, "deactivate iam:UpdateAccessKey", nil, "OrphanedKey", "made", true, nil},
		"deactivate dies":         {`{"userName": "ci-deploy"}`, 1, "", map[string]int{"deactivate": 3}, "OrphanedKey", "made", true, nil},
		"cannot delete":           {`{"userName": "ci-deploy"}`, 1, "delete iam:DeleteAccessKey", nil, "OrphanedKey", "made", true, nil},
		"delete dies":             {`{"userName": "ci-deploy"}`, 1, "", map[string]int{"delete": 3}, "OrphanedKey", "made", true, nil},
		"cannot list, deleted":    {`{"userName": "ci-deploy"}`, 1, "delete iam:ListAccessKeys", nil, "OrphanedKey", "made", true, nil},
		"list dies, created":      {`{"userName": "ci-deploy"}`, 1, "", map[string]int{"list": 3}, "Lambda.Unknown", "", false, map[string]int{"list": 1}},
		"list dies, kept":         {`{"userName": "ci-deploy", "deleteKey": false}`, 1, "", map[string]int{"list": 3}, "Lambda.Unknown", "", true, map[string]int{"list": 1}},
		"list dies, switched off": {`{"userName": "ci-deploy"}`, 1, "", map[string]int{"list": 3}, "Lambda.Unknown", "", false, map[string]int{"list": 2}},
		"list dies, deleted":      {`{"userName": "ci-deploy"}`, 1, "", map[string]int{"list": 3}, "Lambda.Unknown", "", false, map[string]int{"list": 3}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &functions{Account: iamkeystest.NewAccount(), denied: tt.denied, dead: tt.dead, spared: tt.spared}
			f.AddUser(aUser)
			for range tt.keys {
				f.AddKey(aUser, time.Hour)
			}
			before := f.statuses(aUser)
			out, failed := f.run(t, "lifecycle", tt.input)
			if failed == nil || failed.Name != tt.want {
				t.Fatalf("got %v, %v, want %s", out, failed, tt.want)
			}
			if got := !maps.Equal(f.statuses(aUser), before); got != tt.changed {
				t.Errorf("keys before %v, after %v", before, f.statuses(aUser))
			}
			if tt.cause == "made" {
				made := f.Made()[len(f.Made())-1].AccessKeyID
				if failed.Cause != made {
					t.Errorf("the cause is %q; a person must find in it the key to be deleted by hand, %s", failed.Cause, made)
				}
				if _, exists := f.statuses(aUser)[made]; !exists {
					t.Errorf("OrphanedKey names %s, which does not exist", made)
				}
			}
		})
	}
}
