package awssecurityhub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/iamkeys"
)

// at gives a SecurityHub whose every call is answered so, and what it was asked last.
func at(t *testing.T, status int, kind, answer string) (hub *SecurityHub, asked *string) {
	asked = new(string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*asked = r.Method + " " + r.URL.Path + " " + string(body)
		w.Header().Set("X-Amzn-Errortype", kind)
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	return New(awsconfig.At(server.URL, "eu-west-1", "function", "function")), asked
}

// Every field that the core writes reaches Security Hub: the golden findings of the audit
// come out as they went in.
func TestNothingIsLost(t *testing.T) {
	content, err := os.ReadFile("../iamkeys/audit/testdata/asff.json")
	if err != nil {
		t.Fatal(err)
	}
	var findings []iamkeys.SecurityFinding
	if err := json.Unmarshal(content, &findings); err != nil || len(findings) < 8 {
		t.Fatalf("%d findings: %v", len(findings), err)
	}
	hub, asked := at(t, http.StatusOK, "", `{"FailedCount":1,"SuccessCount":1,"FailedFindings":[{"Id":"iamkeys/unused/1","ErrorCode":"InvalidInput","ErrorMessage":"Too long."}]}`)
	refused, err := hub.BatchImportFindings(t.Context(), findings)
	if want := []iamkeys.RefusedFinding{{ID: "iamkeys/unused/1", Code: "InvalidInput", Message: "Too long."}}; err != nil || !reflect.DeepEqual(refused, want) {
		t.Errorf("got %v, %v", refused, err)
	}
	body, ok := strings.CutPrefix(*asked, "POST /findings/import ")
	var sent struct{ Findings any }
	var want any
	if !ok || json.Unmarshal([]byte(body), &sent) != nil || json.Unmarshal(content, &want) != nil {
		t.Fatalf("asked %.200s", *asked)
	}
	if !reflect.DeepEqual(sent.Findings, want) {
		t.Errorf("sent %v\nwant %v", sent.Findings, want)
	}
}

func TestRefusals(t *testing.T) {
	for kind, c := range map[string]struct {
		status int
		answer string
		want   iamkeys.Code
	}{
		"InvalidAccessException": {http.StatusUnauthorized, `{"Message":"Account 1 is not subscribed to AWS Security Hub"}`, iamkeys.NoSuchEntity},
		"AccessDeniedException":  {http.StatusForbidden, `{"Message":"not authorized"}`, iamkeys.AccessDenied},
		"InvalidInputException":  {http.StatusBadRequest, `{"Message":"no"}`, iamkeys.Internal},
		"":                       {http.StatusOK, `{"FailedCount":3,"SuccessCount":0,"FailedFindings":[]}`, iamkeys.Internal},
	} {
		hub, _ := at(t, c.status, kind, c.answer)
		refused, err := hub.BatchImportFindings(t.Context(), []iamkeys.SecurityFinding{{ID: "iamkeys/unused/1", Resources: []iamkeys.SecurityResource{}}})
		if iamkeys.CodeOf(err) != c.want || refused != nil {
			t.Errorf("%s: got %v, %v; want %s", kind, refused, err, c.want)
		}
	}
}
