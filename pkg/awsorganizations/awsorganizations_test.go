package awsorganizations

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/iamkeys"
)

// organization answers as Organizations does, a page a token; what is not a page is a refusal.
func organization(t *testing.T, pages map[string]string) (o *Organizations, asked *[]string) {
	asked = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			MaxResults int
			NextToken  string
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ListAccounts") || in.MaxResults < 1 || in.MaxResults > 20 {
			t.Errorf("asked %s for %d accounts (%v)", r.Header.Get("X-Amz-Target"), in.MaxResults, err)
		}
		*asked = append(*asked, in.NextToken)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		answer := pages[in.NextToken]
		if !strings.Contains(answer, "Accounts") || strings.Contains(answer, "__type") {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	return New(awsconfig.At(server.URL, "eu-west-1", "function", "function")), asked
}

func TestListAccounts(t *testing.T) {
	o, asked := organization(t, map[string]string{
		"":  `{"Accounts":[{"Id":"111111111111","Name":"one","State":"ACTIVE","Status":"SUSPENDED"}],"NextToken":"b"}`,
		"b": `{"Accounts":[],"NextToken":"c"}`,
		"c": `{"Accounts":[{"Id":"222222222222","Name":"two, <2>","Status":"SUSPENDED"},{"Id":"333333333333"},{"Id":"444444444444","State":"SOMETHING_NEW"}]}`,
	})
	got, err := o.ListAccounts(t.Context())
	want := []iamkeys.Account{{ID: "111111111111", Name: "one", State: "ACTIVE"}, {ID: "222222222222", Name: "two, <2>", State: "SUSPENDED"}, {ID: "333333333333"}, {ID: "444444444444", State: "SOMETHING_NEW"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v (%v)\nwant %v", got, err, want)
	}
	if !reflect.DeepEqual(*asked, []string{"", "b", "c"}) {
		t.Errorf("asked for the pages %q", *asked)
	}
}

// A list that is not whole is no list.
func TestListAccountsFails(t *testing.T) {
	const first = `{"Accounts":[{"Id":"111111111111"}],"NextToken":"b"}`
	for name, c := range map[string]struct {
		second string
		want   iamkeys.Code
	}{
		"denied":             {`{"__type":"AccessDeniedException","Message":"You don't have permissions to access this resource."}`, iamkeys.AccessDenied},
		"no organization":    {`{"__type":"AWSOrganizationsNotInUseException"}`, iamkeys.NoSuchEntity},
		"the same page":      {first, iamkeys.Internal},
		"an account less":    {`{"Accounts":[{"Name":"nobody"}]}`, iamkeys.Internal},
		"something unheard ": {`{"__type":"ServiceException"}`, iamkeys.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := organization(t, map[string]string{"": first, "b": c.second})
			got, err := o.ListAccounts(t.Context())
			if iamkeys.CodeOf(err) != c.want || got != nil {
				t.Errorf("got %v, %v; want %s", got, err, c.want)
			}
		})
	}
}

func TestListAccountsThrottled(t *testing.T) {
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if n++; n < 3 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprint(w, `{"__type":"TooManyRequestsException"}`)
			return
		}
		_, _ = fmt.Fprint(w, `{"Accounts":[{"Id":"111111111111"}]}`)
	}))
	t.Cleanup(server.Close)
	began := time.Now()
	got, err := New(awsconfig.At(server.URL, "eu-west-1", "function", "function")).ListAccounts(t.Context())
	if err != nil || len(got) != 1 || n != 3 {
		t.Errorf("got %v, %v after %d calls in %v", got, err, n, time.Since(began))
	}
}
