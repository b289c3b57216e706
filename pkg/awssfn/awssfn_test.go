package awssfn

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/iamkeys"
)

func TestDescribeExecution(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			ExecutionArn string `json:"executionArn"`
		}
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &in)
		switch in.ExecutionArn {
		case "arn:aws:states:eu-west-1:123456789012:execution:Rotation:running":
			_, _ = io.WriteString(w, `{"status": "RUNNING"}`)
		case "arn:aws:states:eu-west-1:123456789012:execution:Rotation:forbidden":
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type": "com.amazon.coral.service#AccessDeniedException"}`)
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type": "com.amazonaws.swf.service.v2.model#ExecutionDoesNotExist"}`)
		}
	}))
	defer server.Close()
	s := New(awsconfig.At(server.URL, "eu-west-1", "function", "function"),
		"arn:aws:states:eu-west-1:123456789012:stateMachine:Rotation")
	for name, want := range map[string]iamkeys.Code{"running": "", "forbidden": iamkeys.AccessDenied, "unknown": iamkeys.NoSuchEntity} {
		status, err := s.DescribeExecution(t.Context(), name)
		if iamkeys.CodeOf(err) != want || (status == "RUNNING") != (want == "") {
			t.Errorf("%s: got %q, %v; want code %q", name, status, err, want)
		}
	}
}
