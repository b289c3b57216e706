package statemachines_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/lambdafn"
	"iamkeys/statemachines/asl"
)

var update = flag.Bool("update", false, "record today's inputs when they differ from the last recorded ones")

// An execution runs for weeks by the definition that it was started with, while
// the functions are deployed anew beside it. So what the workflows of earlier
// releases send is kept, one file for each change (testdata/inputs/1.json,
// 2.json ...), and every function must go on accepting it. A file may go once no
// execution of its time can be running: after a year.
const recordings = "testdata/inputs"

// sent is what a task sent to a function.
type sent struct {
	Workflow string          `json:"workflow"`
	State    string          `json:"state"`
	Function string          `json:"function"`
	Payload  json.RawMessage `json:"payload"`
}

// todaysInputs runs every workflow on ways that lead through all of its tasks,
// and gives what each task sent, with and without what is optional.
func todaysInputs(t *testing.T) []sent {
	t.Helper()
	var all []sent
	reached := map[string]bool{}
	record := func(workflow, mode, input string, s caller) {
		t.Helper()
		m := load(t, workflow, mode)
		wait := func(context.Context, time.Duration) error { return nil }
		e := &asl.Execution{Wait: wait, Name: map[string]string{"retirement": "retire-"}[workflow] + oldKey, Started: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
		task := func(e *asl.Execution) func(context.Context, string, any) (any, error) {
			return func(ctx context.Context, resource string, arguments any) (any, error) {
				state := e.History.States[len(e.History.States)-1]
				reached[workflow+" "+state] = true
				if object := arguments.(map[string]any); object["FunctionName"] != nil {
					payload, err := json.Marshal(object["Payload"])
					if err != nil {
						return nil, err
					}
					one := sent{workflow, state, object["FunctionName"].(string), payload}
					if !slices.ContainsFunc(all, func(x sent) bool {
						return x.Workflow == one.Workflow && x.State == one.State && bytes.Equal(x.Payload, one.Payload)
					}) {
						all = append(all, one)
					}
				}
				return s.task(ctx, resource, arguments)
			}
		}
		e.Task = task(e)
		if o, ok := s.(*organization); ok {
			e.Read = o.read
			e.Child = func(any) *asl.Execution {
				child := &asl.Execution{Wait: wait}
				child.Task = task(child)
				return child
			}
		}
		var in any
		if err := json.Unmarshal([]byte(input), &in); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Run(t.Context(), e, in); err != nil {
			if _, failed := errors.AsType[*asl.Error](err); !failed {
				t.Fatal(err)
			}
		}
	}
	keys := []string{newKey}
	record("lifecycle", "", `{"userName": "ci-deploy"}`, &script{keys: keys})
	record("lifecycle", "", `{"userName": "ci-deploy", "secretId": "iamkeys/elsewhere"}`, &script{keys: keys})
	record("rotation", "", `{"userName": "ci-deploy"}`, &script{answers: map[string][]string{"deactivate": {"KeyInUse", "AccessDenied", "NoSuchEntity"}}, keys: []string{oldKey}})
	record("rotation", "", `{"userName": "ci-deploy", "accessKeyId": "`+oldKey+`", "secretId": "iamkeys/x", "overwrite": true, "quietHours": 24, "pollHours": 1, "maxWaitDays": 2, "soakDays": 3}`,
		&script{answers: map[string][]string{"delete": {"KeyActive"}}})
	record("rotation", "", `{"userName": "ci-deploy"}`, &script{answers: map[string][]string{"plan": {"AmbiguousKeys"}}})
	record("rotate-due", "apply", `{}`, &script{due: []string{oldKey}, starts: "rotation"})
	record("rotate-due", "plan", `{}`, &script{due: []string{oldKey}})
	const found = `{"source": "aws.health", "account": "123456789012", "detail": {"eventArn": "arn:event", "eventTypeCode": "AWS_RISK_CREDENTIALS_EXPOSED", "service": "RISK"}}`
	record("exposure", "", found, &exposed{keys: []string{"AKIAEXPOSED000000001 off", "AKIAEXPOSED000000002"}, answers: map[string][]string{"deactivate AKIAEXPOSED000000001": repeat(4, "Throttled")}})
	record("exposure", "", found, &exposed{keys: []string{"AKIAEXPOSED000000001 off"}, answers: map[string][]string{"deactivate AKIAEXPOSED000000001": {"AccessDenied"}}, active: []string{"AKIAEXPOSED000000001"}})
	record("exposure", "", found, &exposed{keys: []string{"AKIAEXPOSED000000001 off"}, answers: map[string][]string{"deactivate AKIAEXPOSED000000001": repeat(4, "Throttled")}, active: []string{"AKIAEXPOSED000000001"}})
	record("exposure", "", found, &exposed{answers: map[string][]string{"exposed": {"Internal"}}})
	unused := `{"userName": "ci-deploy", "accessKeyId": "` + oldKey + `"}`
	record("retirement", "", `{"userName": "ci-deploy", "accessKeyId": "`+oldKey+`", "insist": true}`, &script{})
	record("retirement", "", unused, &script{answers: map[string][]string{"retire final": {"KeyInUse"}}})
	record("retirement", "", unused, &script{answers: map[string][]string{"look": {"KeyActive"}}})
	record("retirement", "", unused, &script{answers: map[string][]string{"deactivate": {"Lambda.Unknown"}, "retire off": {"", "KeyExempt"}}})
	record("retirement", "", unused, &script{answers: map[string][]string{"retire warning": {"AccessDenied"}}})
	record("retire-unused", "apply", `{}`, &script{due: []string{oldKey}, starts: "retirement"})
	record("retire-unused", "plan", `{}`, &script{due: []string{oldKey}})
	record("organization-audit", "", `{"time": "2026-11-23T08:58:00Z"}`, &organization{accounts: []string{"111111111111", "222222222222"}, reasons: map[string]any{}, answers: map[string][]string{"222222222222": {"RoleUnavailable"}}})
	each(t, func(t *testing.T, m *asl.Machine) {
		workflow := filepath.Base(t.Name())
		for name, s := range m.AllStates() {
			if s.Type == "Task" && !reached[workflow+" "+name] {
				t.Errorf("state %q was not reached, so what it sends is not recorded", name)
			}
		}
	})
	slices.SortFunc(all, func(a, b sent) int {
		return strings.Compare(a.Workflow+"\n"+a.State+"\n"+string(a.Payload), b.Workflow+"\n"+b.State+"\n"+string(b.Payload))
	})
	return all
}

// A caller stands in for what a workflow's tasks call.
type caller interface {
	task(ctx context.Context, resource string, arguments any) (any, error)
}

func recorded(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(recordings + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }) // 9 before 10
	return files
}

func TestTodaysInputsAreRecorded(t *testing.T) {
	today, err := json.MarshalIndent(todaysInputs(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	today = append(today, '\n')
	files := recorded(t)
	var last []byte
	if len(files) > 0 {
		if last, err = os.ReadFile(files[len(files)-1]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if bytes.Equal(today, last) {
		return
	}
	if !*update {
		t.Fatalf("the workflows send something else than %v has: go test ./statemachines -update records it in a new file, beside the old ones, which executions of earlier releases still send", files)
	}
	if err := os.MkdirAll(recordings, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("%s/%d.json", recordings, len(files)+1), today, 0o644); err != nil {
		t.Fatal(err)
	}
}

// decoder gives a handler that decodes and validates as the function does, and
// then does nothing.
func decoder[In lambdafn.Input, Out any](func(context.Context, In) (Out, error)) lambda.Handler {
	return lambdafn.Handler(func(context.Context, In) (any, error) { return nil, nil }, slog.New(slog.DiscardHandler))
}

func TestFunctionsAcceptRecordedInputs(t *testing.T) {
	handlers := map[string]lambda.Handler{
		"list": decoder(iamkeys.List{}.Run), "lastused": decoder(iamkeys.FindLastUsed{}.Run), "create": decoder(iamkeys.Create{}.Run), "deactivate": decoder(iamkeys.Deactivate{}.Run),
		"delete": decoder(iamkeys.Delete{}.Run), "plan": decoder(iamkeys.Plan{}.Run), "notify": decoder(notice.Notify{}.Run), "due": decoder(audit.Due{}.Run),
		"exposed": decoder(iamkeys.Exposed{}.Run), "retire": decoder(iamkeys.Retire{}.Run), "unused": decoder(audit.FindUnused{}.Run), "accounts": decoder(audit.Accounts{}.Run),
		"audit": decoder(audit.Audit{}.Run), "merge": decoder(audit.Merge{}.Run), "digest": decoder(notice.Digest{}.Run),
	}
	files := recorded(t)
	if len(files) == 0 {
		t.Fatal("nothing is recorded")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var inputs []sent
		if err := json.Unmarshal(text, &inputs); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, in := range inputs {
			if _, err := handlers[in.Function].Invoke(t.Context(), in.Payload); err != nil {
				t.Errorf("%s refuses what state %q of %s sends (%s): %v. Executions that were started before this release would fail", in.Function, in.State, in.Workflow, file, err)
			}
		}
	}
}
