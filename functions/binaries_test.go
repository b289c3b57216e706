package functions

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// build builds every function's binary as the Makefile does, for this machine.
func build(t *testing.T) (folder string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds every function")
	}
	folder = t.TempDir()
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", folder+string(filepath.Separator), "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return folder
}

// environment is what a function's process starts with: Lambda's variables, and the
// template's with its defaults, but without waits.
func environment(folder string) map[string]string {
	variables := map[string]string{
		"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "function", "AWS_SECRET_ACCESS_KEY": "function",
		"AWS_LAMBDA_FUNCTION_NAME": "function", "AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "DEBUG",
	}
	maps.Copy(variables, functionstest.New(map[string]string{"PropagationSeconds": "0", "Notify": "always", "ReportWaitSeconds": "60"}).Environment(folder))
	return variables
}

// A process is a function's binary at work, behind Lambda's runtime API:
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
type process struct {
	cmd     *exec.Cmd
	events  chan string
	results chan result
	polled  chan struct{} // closed at the first poll
	done    chan struct{} // closed when the process has ended

	stdout, stderr *os.File // files, not pipes: what was written is there to be read at once
}

// A result is what an invocation came to; the type is empty for an answer.
type result struct {
	body      string
	ErrorType string `json:"errorType"`
	Message   string `json:"errorMessage"`
}

// output gives what the process has written so far.
func (p *process) output(t *testing.T) (stdout, stderr string) {
	t.Helper()
	read := func(f *os.File) string {
		content, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	return read(p.stdout), read(p.stderr)
}

// start starts a binary on an account's server; changes go on top of its environment.
func start(t *testing.T, binary, endpoint string, changes map[string]string) *process {
	t.Helper()
	folder := filepath.Base(binary)
	p := &process{events: make(chan string), results: make(chan result), polled: make(chan struct{}), done: make(chan struct{})}
	var first sync.Once
	n := 0
	runtime := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/invocation/next"):
			first.Do(func() { close(p.polled) })
			select {
			case event := <-p.events:
				n++
				w.Header().Set("Lambda-Runtime-Aws-Request-Id", fmt.Sprintf("request-%d", n))
				w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(template().Timeout(folder)).UnixMilli()))
				_, _ = io.WriteString(w, event)
			case <-r.Context().Done():
			}
		default:
			body, _ := io.ReadAll(r.Body)
			result := result{body: string(body)}
			if strings.HasSuffix(r.URL.Path, "/error") {
				if err := json.Unmarshal(body, &result); err != nil {
					result.ErrorType = "?"
				}
			}
			w.WriteHeader(http.StatusAccepted)
			p.results <- result
		}
	}))
	p.cmd = exec.Command(binary)
	for _, f := range []**os.File{&p.stdout, &p.stderr} {
		var err error
		if *f, err = os.CreateTemp(t.TempDir(), "output"); err != nil {
			t.Fatal(err)
		}
	}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	variables := environment(folder)
	maps.Copy(variables, map[string]string{"AWS_LAMBDA_RUNTIME_API": strings.TrimPrefix(runtime.URL, "http://"), "AWS_ENDPOINT_URL": endpoint})
	maps.Copy(variables, changes)
	for name, value := range variables {
		if value != "unset" {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		_, _ = p.stdout.Close(), p.stderr.Close()
		runtime.CloseClientConnections()
		runtime.Close()
	})
	return p
}

// invoke runs one event.
func (p *process) invoke(t *testing.T, event string) result {
	t.Helper()
	select {
	case p.events <- event:
	case <-p.done:
		_, stderr := p.output(t)
		t.Fatalf("the function has ended: %s", stderr)
	}
	select {
	case r := <-p.results:
		return r
	case <-p.done:
		_, stderr := p.output(t)
		t.Fatalf("the function has died: %s", stderr)
	}
	return result{}
}

// The functions as they are deployed: their own main, their own binary, Lambda's
// protocol on one side and AWS's on the other, at debug level.
func TestBinaries(t *testing.T) {
	folder := build(t)
	t.Run("work", func(t *testing.T) { work(t, folder) })
	t.Run("refuse to start", func(t *testing.T) { refuseToStart(t, folder) })
}

func work(t *testing.T, folder string) {
	account := iamkeystest.NewAccount()
	real := func() { account.Advance(time.Since(account.Now())) } // the clock that functions read
	real()
	account.AddUser("alice")
	account.AddUser("bob", iamkeys.Tag{Key: iamkeys.TagRotate, Value: "on"})
	stale := account.AddKey("bob", 100*24*time.Hour)
	account.UsedAgo(stale, 24*time.Hour, "s3", "")
	server := account.Serve(t)
	server.Before = func(int, string) { real() }
	functions := map[string]*process{}
	for name := range operations() {
		functions[name] = start(t, filepath.Join(folder, name), server.URL, nil)
	}
	must := func(name, event string) string {
		t.Helper()
		r := functions[name].invoke(t, event)
		if r.ErrorType != "" {
			t.Fatalf("%s %s: %s: %s", name, event, r.ErrorType, r.Message)
		}
		return r.body
	}
	refused := func(name, event, code string) result {
		t.Helper()
		r := functions[name].invoke(t, event)
		if r.ErrorType != code {
			t.Errorf("%s %s: got %q %s%s, want %s", name, event, r.ErrorType, r.Message, r.body, code)
		}
		return r
	}

	// Bad input: refused by name, before any call to AWS.
	bad := []string{``, `null`, `[]`, `"alice"`, `{`, `{} {}`, `{"userName":1}`, `{"username":"alice"}`, `{"userName":"alice","userName":"alice"}`, `{"user":"alice"}`,
		`{"userName":"` + strings.Repeat("a", 129) + `"}`, `{"userName":"a b"}`, `{"userName":"älice"}`, `{"userName":"alice","accessKeyId":"AKIA"}`, `{"stage":1,"userName":{}}`,
		`{"asOf":"yesterday","limit":"many","userName":[]}`}
	for name := range operations() {
		for _, event := range bad {
			r := refused(name, event, "InvalidInput")
			if len(r.Message) < 20 {
				t.Errorf("%s %s: %q does not say what is accepted", name, event, r.Message)
			}
		}
		if name != "audit" && name != "due" && name != "unused" { // of theirs every field is optional
			refused(name, `{}`, "InvalidInput")
			refused(name, `{"userName":null}`, "InvalidInput")
		}
		stdout, stderr := functions[name].output(t)
		if stderr != "" {
			t.Errorf("%s wrote to stderr: %s", name, stderr)
		}
		want := len(bad)
		if name != "audit" && name != "due" && name != "unused" {
			want += 2
		}
		if got := strings.Count(stdout, "\n"); got != want {
			t.Errorf("%s logged %d lines for %d refusals, want one each:\n%s", name, got, want, stdout)
		}
		for line := range strings.Lines(stdout) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["code"] != "InvalidInput" || !strings.HasPrefix(fmt.Sprint(fields["requestId"]), "request-") || fields["level"] != "INFO" || fields["version"] != iamkeys.Version {
				t.Errorf("%s logged %s, want JSON with code, request ID and version", name, line)
			}
		}
	}
	if len(server.Requests) > 0 {
		t.Errorf("bad input led to %v", server.Requests)
	}

	// A key's life.
	created := must("create", `{"userName":"alice"}`)
	var key struct {
		AccessKeyID                string `json:"accessKeyId"`
		SecretARN, SecretVersionID string
		Created, Verified          bool
		UserName                   string
		CreateDate                 time.Time
	}
	if err := json.Unmarshal([]byte(created), &key); err != nil || !key.Created || !key.Verified || key.UserName != "alice" {
		t.Fatalf("created %s, %v", created, err)
	}
	if again := must("create", `{"userName":"alice","secretId":null}`); !strings.Contains(again, `"created":false`) || !strings.Contains(again, key.AccessKeyID) {
		t.Errorf("created again %s, want the same key", again)
	}
	user := fmt.Sprintf(`"userName":"alice","accessKeyId":"%s"`, key.AccessKeyID)
	must("list", `{"userName":"alice"}`)
	must("lastused", `{`+user+`}`)
	refused("deactivate", `{`+user+`}`, "KeyInUse")
	refused("delete", `{`+user+`}`, "KeyActive")
	must("deactivate", `{`+user+`,"quietHours":0}`)
	must("activate", `{`+user+`}`)
	must("deactivate", `{`+user+`,"quietHours":0,"replacedBy":null}`)
	must("delete", `{`+user+`}`)
	if again := must("delete", `{`+user+`}`); !strings.Contains(again, `"deleted":false`) {
		t.Errorf("deleted again %s", again)
	}
	refused("list", `{"userName":"nobody"}`, "NoSuchEntity")
	rotation := must("plan", `{"userName":"bob"}`)
	must("notify", `{"stage":"planned","due":`+must("due", `{}`)+`}`)
	must("notify", `{"stage":"planned","unused":`+must("unused", `{}`)+`}`)
	must("notify", `{"stage":"ready","rotation":`+rotation+`}`)
	must("audit", `{"detail-type":"Scheduled Event","time":"`+time.Now().UTC().Format(time.RFC3339)+`","detail":"{}"}`)
	if stdout, _ := functions["audit"].output(t); !strings.Contains(stdout, `"_aws":{`) {
		t.Error("the audit wrote no metrics")
	}

	// A create that meets trouble when its key has been made, or may have.
	for action, met := range map[string]struct {
		trouble iamkeystest.Trouble
		code    string
	}{
		"iam:CreateAccessKey":           {iamkeystest.Cut, "OrphanedKey"},
		"sts:GetCallerIdentity":         {iamkeystest.Throttling, ""},
		"secretsmanager:PutSecretValue": {iamkeystest.HangUp, ""},
	} {
		name := strings.ReplaceAll(action, ":", "-")
		account.AddUser(name)
		made, struck := len(account.Made()), false
		server.Trouble = func(_ int, asked string) iamkeystest.Trouble {
			if asked != action || struck || len(account.Made()) == made && action != "iam:CreateAccessKey" {
				return iamkeystest.Smooth
			}
			struck = true
			return met.trouble
		}
		if r := functions["create"].invoke(t, `{"userName":"`+name+`"}`); !struck || r.ErrorType != met.code {
			t.Errorf("%s met with trouble (%t): %+v", action, struck, r)
		}
		if keys := account.Keys(name); len(keys) != 1 {
			t.Errorf("%s: the user has %v", action, keys)
		}
	}
	server.Trouble = nil

	stored := server.SecretString("iamkeys/alice/access-key")
	if !shows(stored) {
		t.Errorf("the secret holds %q: then this test looks for the wrong thing", stored)
	}
	if shows(created) {
		t.Error("create's answer shows the secret")
	}
	for name, p := range functions {
		if stdout, stderr := p.output(t); shows(stdout) || shows(stderr) {
			t.Errorf("%s shows a secret:\n%s\n%s", name, stdout, stderr)
		}
	}
}

// A function with a bad setting never takes an event: it ends, and says why.
func refuseToStart(t *testing.T, folder string) {
	tests := []struct {
		functions []string
		setting   string
		value     string
		says      string
	}{
		{slices.Collect(maps.Keys(operations())), "AWS_REGION", "unset", "AWS_REGION is not set"},
		{[]string{"deactivate", "plan"}, "QUIET_HOURS", "-1", "QUIET_HOURS must be 24 to 8760 hours"},
		{[]string{"create", "deactivate", "delete", "plan", "due"}, "SECRET_PREFIX", "iamkeys", `SECRET_PREFIX must be`},
		{[]string{"create"}, "PROPAGATION_SECONDS", "unset", "PROPAGATION_SECONDS is not set"},
		{[]string{"audit"}, "WARN_AGE_DAYS", "90", "WARN_AGE_DAYS (90) must be less than MAX_AGE_DAYS (90)"},
		{[]string{"notify", "audit"}, "NOTIFICATION_TOPIC_ARN", "", "NOTIFICATION_TOPIC_ARN must be the ARN of an SNS topic"},
		{[]string{"due"}, "MAX_ROTATIONS_PER_RUN", "0", "MAX_ROTATIONS_PER_RUN must be"},
		{[]string{"unused"}, "MAX_RETIREMENTS_PER_RUN", "51", "MAX_RETIREMENTS_PER_RUN must be"},
	}
	for _, test := range tests {
		for _, name := range test.functions {
			p := start(t, filepath.Join(folder, name), "http://127.0.0.1:9", map[string]string{test.setting: test.value})
			select {
			case <-p.polled:
				t.Errorf("%s with %s=%q asks for events", name, test.setting, test.value)
				continue
			case <-p.done:
			}
			_, stderr := p.output(t)
			if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr, test.says) || strings.Contains(stderr, "goroutine") {
				t.Errorf("%s with %s=%q ends with %d and %q, want 1 and %q", name, test.setting, test.value, code, stderr, test.says)
			}
		}
	}
}
