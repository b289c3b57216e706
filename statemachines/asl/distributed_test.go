package asl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// fanOut audits each account of a list by a child that catches whatever ends its work.
const fanOut = `{"StartAt": "Accounts", "States": {
	"Accounts": {"QueryLanguage": "JSONata", "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "TimeoutSeconds": 1, "Arguments": {"FunctionName": "accounts", "Payload": {"started": "{% $states.context.Execution.StartTime %}"}},
		"Output": "{% $states.result.Payload %}", "Next": "Each"},
	"Each": {"Type": "Map", "ItemReader": {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON"}, "Parameters": {"Bucket.$": "$.list.bucket", "Key.$": "$.list.key"}},
		"MaxConcurrencyPath": "$.atOnce", "ToleratedFailurePercentage": TOLERATED, "ResultPath": null,
		"ItemProcessor": {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, "StartAt": "Audit", "States": {
			"Audit": {"QueryLanguage": "JSONata", "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "TimeoutSeconds": 1, "Arguments": {"FunctionName": "audit", "Payload": "{% $states.input %}"},
				"Catch": [{"ErrorEquals": ["Known"], "Next": "Caught"}], "Output": {}, "End": true},
			"Caught": {"QueryLanguage": "JSONata", "Type": "Pass", "Output": {}, "End": true}}},
		"Next": "Merge"},
	"Merge": {"QueryLanguage": "JSONata", "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "TimeoutSeconds": 1, "Arguments": {"FunctionName": "merge", "Payload": "{% $states.input %}"}, "End": true}}}`

// A distributed Map reads its items from S3, runs so many children at once, tolerates
// those that fail, and gives its input on.
func TestDistributedMap(t *testing.T) {
	for name, tt := range map[string]struct {
		list      string
		tolerated string
		fails     map[string]string // account → its child's error
		want      string            // the execution's error
		audited   string
	}{
		"all succeed":           {`[{"account": "a"}, {"account": "b"}]`, "0", nil, "", "a b"},
		"nobody":                {`[]`, "0", nil, "", ""},
		"one is caught":         {`[{"account": "a"}, {"account": "b"}]`, "0", map[string]string{"a": "Known"}, "", "a b"},
		"one fails":             {`[{"account": "a"}, {"account": "b"}]`, "0", map[string]string{"a": "Lambda.Unknown"}, "States.ExceedToleratedFailureThreshold", "a b"},
		"one may fail":          {`[{"account": "a"}, {"account": "b"}]`, "50", map[string]string{"a": "Lambda.Unknown"}, "", "a b"},
		"all may fail":          {`[{"account": "a"}, {"account": "b"}]`, "100", map[string]string{"a": "Lambda.Unknown", "b": "States.Timeout"}, "", "a b"},
		"more than may":         {`[{"account": "a"}, {"account": "b"}]`, "50", map[string]string{"a": "Lambda.Unknown", "b": "States.Timeout"}, "States.ExceedToleratedFailureThreshold", "a b"},
		"no list":               {"", "100", nil, "States.ItemReaderFailed", ""},
		"the list is no array":  {`{}`, "100", nil, "States.ItemReaderFailed", ""},
		"the list is not there": {"-", "100", nil, "States.ItemReaderFailed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Parse([]byte(strings.Replace(fanOut, "TOLERATED", tt.tolerated, 1)))
			if err != nil {
				t.Fatal(err)
			}
			var audited []string
			merged := ""
			task := Lambda(func(_ context.Context, function string, payload any) (any, error) {
				in := payload.(map[string]any)
				switch function {
				case "accounts":
					if in["started"] != "2026-11-23T09:00:00.000Z" {
						t.Errorf("accounts was told that it started at %v", in["started"])
					}
					return map[string]any{"list": map[string]any{"bucket": "reports", "key": "list.json"}, "atOnce": 7.0, "runId": "r"}, nil
				case "audit":
					account := in["account"].(string)
					audited = append(audited, account)
					if name := tt.fails[account]; name != "" {
						return nil, &Error{Name: name}
					}
				case "merge":
					merged = in["runId"].(string)
				}
				return map[string]any{}, nil
			})
			e := &Execution{Task: task, Started: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
			e.Read = func(_ context.Context, bucket, key string) ([]byte, error) {
				if bucket != "reports" || key != "list.json" || tt.list == "-" {
					return nil, fmt.Errorf("%s %s is not there", bucket, key)
				}
				return []byte(tt.list), nil
			}
			e.Child = func(any) *Execution { return &Execution{Task: task} }
			e.Together = func(children []func(), atOnce int) {
				if atOnce != 7 {
					t.Errorf("%d children at once, want 7", atOnce)
				}
				for _, run := range children {
					run()
				}
			}
			_, err = m.Run(t.Context(), e, map[string]any{})
			failed, _ := errors.AsType[*Error](err)
			if got := strings.Join(audited, " "); got != tt.audited {
				t.Errorf("audited %q, want %q", got, tt.audited)
			}
			if tt.want == "" && (err != nil || merged != "r") || tt.want != "" && (failed == nil || failed.Name != tt.want || merged != "") {
				t.Errorf("ended as %v after merging %q, want %q", err, merged, tt.want)
			}
		})
	}
}
