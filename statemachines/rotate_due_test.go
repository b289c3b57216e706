package statemachines_test

import (
	"strings"
	"testing"
)

func TestRotateDue(t *testing.T) {
	for name, tt := range map[string]struct {
		mode   string
		script script
		called string
		want   string
	}{
		"off":                        {"off", script{due: []string{"A"}}, "", ""},
		"plan":                       {"plan", script{due: []string{"A", "B"}}, "due notify-planned", ""},
		"plan, nothing due":          {"plan", script{}, "due notify-planned", ""},
		"plan, cannot tell":          {"plan", script{due: []string{"A"}, answers: map[string][]string{"notify planned": repeat(49, "NotifyFailed")}}, "due" + strings.Repeat(" notify-planned", 49), "NotifyFailed"},
		"an unknown mode only tells": {"Apply", script{due: []string{"A"}}, "due notify-planned", ""},
		"apply":                      {"apply", script{due: []string{"A", "B"}}, "due notify-started start-A start-B", ""},
		"apply, nothing due":         {"apply", script{}, "due notify-started", ""},
		"apply, started before":      {"apply", script{due: []string{"A", "B"}, exists: []string{"A"}, answers: map[string][]string{"start": {"StepFunctions.ExecutionAlreadyExistsException"}}}, "due notify-started start-A start-B", ""},
		"apply, other spelling":      {"apply", script{due: []string{"A", "B"}, exists: []string{"A"}, answers: map[string][]string{"start": {"ExecutionAlreadyExists"}}}, "due notify-started start-A start-B", ""},
		"apply, cannot start":        {"apply", script{due: []string{"A", "B"}, exists: []string{"A"}, answers: map[string][]string{"start": {"StepFunctions.AccessDeniedException"}}}, "due notify-started start-A", "StepFunctions.AccessDeniedException"},
		"apply, cannot tell":         {"apply", script{due: []string{"A"}, answers: map[string][]string{"notify started": repeat(49, "NotifyFailed")}}, "due" + strings.Repeat(" notify-started", 49), "NotifyFailed"},
		"due fails":                  {"apply", script{due: []string{"A"}, answers: map[string][]string{"due": {"InventoryUnavailable"}}}, "due", "InventoryUnavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &tt.script
			out, failed, _ := s.run(t, "rotate-due", tt.mode, `{"source": "aws.scheduler", "time": "2026-11-23T07:00:00Z"}`)
			if got := dashed(s.called); got != tt.called {
				t.Errorf("called %q, want %q", got, tt.called)
			}
			if tt.want != "" {
				if failed == nil || failed.Name != tt.want {
					t.Errorf("ended with %v, %v, want %s", out, failed, tt.want)
				}
				return
			}
			if failed != nil {
				t.Fatal(failed)
			}
			if due, _ := out.(map[string]any); tt.mode != "off" && len(due["rotations"].([]any)) != len(tt.script.due) {
				t.Errorf("the output is %v, want what was due", out)
			}
			for _, in := range s.inputs {
				if len(in) != 3 || in["userName"] != "user-"+in["accessKeyId"].(string) || in["secretId"] != "iamkeys/"+in["accessKeyId"].(string) {
					t.Errorf("started with %v", in)
				}
			}
		})
	}
}
