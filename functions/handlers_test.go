package functions

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awss3"
	"iamkeys/pkg/awssecrets"
	"iamkeys/pkg/awssecurityhub"
	"iamkeys/pkg/awssfn"
	"iamkeys/pkg/awssns"
	"iamkeys/pkg/awssts"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// stack is the template with its defaults, except that every audit is told of.
var stack = functionstest.New(map[string]string{"Notify": "always", "ReportWaitSeconds": "60"})

// behind puts a function together on the account's clock, with the SDK's requests
// answered by the account's server.
func behind(name string, account *iamkeystest.Account, server *iamkeystest.Server, log *slog.Logger) functionstest.Function {
	config := awsconfig.At("http://aws", "eu-west-1", "function", "function")
	config.HTTPClient = &http.Client{Transport: server}
	env, iam := stack.Environment(name), awsiam.New(config)
	return stack.Function(name, functionstest.Surroundings{
		Port: func(service string) any {
			switch service {
			case "IAM":
				return iam
			case "SecretsManager":
				return awssecrets.New(config, env["SECRET_KMS_KEY_ARN"])
			case "STS":
				return awssts.New(config)
			case "S3":
				return awss3.New(config, env["REPORT_BUCKET"])
			case "SNS":
				return awssns.New(config, env["NOTIFICATION_TOPIC_ARN"])
			case "StepFunctions":
				return awssfn.New(config, map[iamkeys.Workflow]string{iamkeys.RotationWorkflow: env["ROTATION_STATE_MACHINE_ARN"], iamkeys.RetirementWorkflow: env["RETIREMENT_STATE_MACHINE_ARN"]})
			case "SecurityHub":
				return awssecurityhub.New(config)
			}
			panic("no adapter for " + service)
		},
		Now: account.Now, Sleep: account.Sleep, Log: log, Calls: iam.Calls, Emit: func(m []audit.Metric) { log.Debug("metrics", "metrics", m) },
	})
}

// invoke runs a function as Lambda does, and gives its answer or error.
func invoke(f functionstest.Function, event string) (answer string, failure messages.InvokeResponse_Error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.Timeout)
	defer cancel()
	out, err := f.Handler.Invoke(lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: "request-1"}), []byte(event))
	if err != nil {
		failure = err.(messages.InvokeResponse_Error)
	}
	return string(out), failure
}

// shows tells whether text holds a secret of the account, whichever way it is written.
func shows(text string) bool {
	const mark = "wJalr/SECRET/of/" // with which iamkeystest's secrets begin
	if !strings.HasPrefix(iamkeystest.SecretOf("AKIA"), mark) {
		panic("the secrets of iamkeystest begin in another way")
	}
	for _, written := range []string{mark, "wJalr%2FSECRET", "XUtnFEMI", hex.EncodeToString([]byte(mark)), base64.StdEncoding.EncodeToString([]byte(mark))[:20], fmt.Sprint([]byte(mark))[1:40]} {
		if strings.Contains(text, written) {
			return true
		}
	}
	return false
}

// Whatever happens to whichever call of a create, its secret shows in no answer,
// error or log line at debug level, and a key that was made is delivered,
// removed or named.
func TestNoSecretLeaves(t *testing.T) {
	events := map[string]string{
		"new":         `{"userName":"alice"}`,
		"replaces":    `{"userName":"bob","replaces":"%s"}`,
		"unverified":  `{"userName":"alice","verify":false}`,
		"from a dead": `{"userName":"carol"}`,
		"lagging":     `{"userName":"alice"}`,
	}
	delivered, seen := 0, map[string]int{}
	for name, event := range events {
		for n := 1; ; n++ {
			reached := false
			for _, trouble := range append([]iamkeystest.Trouble{iamkeystest.Smooth}, iamkeystest.Troubles...) {
				for _, refused := range []bool{false, true} {
					if refused && trouble != iamkeystest.Smooth {
						continue
					}
					t.Run(fmt.Sprintf("%s/%d %s %t", name, n, trouble, refused), func(t *testing.T) {
						account := iamkeystest.NewAccount()
						for _, user := range []string{"alice", "bob", "carol"} {
							account.AddUser(user)
						}
						event := event
						if name == "replaces" {
							event = fmt.Sprintf(event, account.AddKey("bob", 100*24*time.Hour))
						}
						if name == "lagging" { // as AWS's reads do behind its writes
							account.ListLag, account.WriteLag, account.SecretLag, account.Propagation = 4*time.Second, 3*time.Second, 2*time.Second, 8*time.Second
						}
						if name == "from a dead" { // one died right after it made a key
							dead := account.Start()
							dead.Fault = func(_ int, action string) iamkeystest.Fault {
								if action == "iam:CreateAccessKey" {
									return iamkeystest.DiesAfter
								}
								return iamkeystest.None
							}
							create := iamkeys.Create{IAM: dead, SecretsManager: dead, STS: dead, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"}, Now: account.Now, Sleep: account.Sleep, Log: slog.New(slog.DiscardHandler)}
							if !dead.Run(func() { _, _ = create.Run(t.Context(), iamkeys.CreateInput{UserName: "carol"}) }) {
								t.Fatal("it did not die")
							}
							account.Advance(iamkeys.CreateTimeout + time.Minute)
						}
						user := map[string]string{"new": "alice", "replaces": "bob", "unverified": "alice", "from a dead": "carol", "lagging": "alice"}[name]
						before := account.Keys(user)
						server := account.Serve(t)
						server.Trouble = func(i int, _ string) iamkeystest.Trouble {
							if i == n {
								return trouble
							}
							return iamkeystest.Smooth
						}
						server.Fault = func(i int, _ string) iamkeystest.Fault {
							if refused && i == n {
								return iamkeystest.Refused
							}
							return iamkeystest.None
						}
						synctest.Test(t, func(t *testing.T) {
							var jsonLog, textLog bytes.Buffer
							log := slog.New(slog.NewMultiHandler(
								slog.NewJSONHandler(&jsonLog, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}),
								slog.NewTextHandler(&textLog, &slog.HandlerOptions{Level: slog.LevelDebug})))
							answer, failure := invoke(behind("create", account, server, log), event)
							for what, text := range map[string]string{"answer": answer, "error": fmt.Sprintf("%#v", failure), "JSON log": jsonLog.String(), "text log": textLog.String()} {
								if shows(text) {
									t.Errorf("the %s shows the secret: %s", what, text)
								}
							}
							held := account.Held("iamkeys/" + user + "/access-key")
							for _, key := range account.Keys(user) {
								old := slices.ContainsFunc(before, func(b iamkeys.AccessKey) bool { return b.AccessKeyID == key.AccessKeyID })
								stays := old && (name == "replaces" || failure.Type != "") // a dead one's key is left to the next run
								named := strings.Contains(failure.Message, key.AccessKeyID)
								if !stays && key.AccessKeyID != held && !named {
									t.Errorf("key %s is neither delivered, removed nor named: %s %s", key.AccessKeyID, failure.Type, failure.Message)
								}
							}
							if held != "" && failure.Type == "" {
								if delivered++; !shows(server.SecretString("iamkeys/" + user + "/access-key")) {
									t.Error("the secret holds no secret access key: then this test looks for the wrong one")
								}
							}
							seen[failure.Type]++
							reached = reached || len(server.Requests) >= n
						})
					})
				}
			}
			if !reached {
				break
			}
		}
	}
	t.Logf("%d delivered; errors: %v", delivered, seen)
	for _, code := range []string{"", "AccessDenied", "DeliveryFailed", "SecretUnavailable"} {
		if seen[code] == 0 {
			t.Errorf("no run ended with %q; errors: %v", code, seen)
		}
	}
	if delivered < 20 {
		t.Errorf("only %d runs delivered a key", delivered)
	}
}

// The other functions never hold a secret; on an account full of them they show none.
func TestNoSecretShows(t *testing.T) {
	account := iamkeystest.NewAccount()
	account.AddUser("alice", iamkeys.Tag{Key: iamkeys.TagRotate, Value: "on"}, iamkeys.Tag{Key: "owner", Value: "team"})
	old := account.AddKey("alice", 100*24*time.Hour)
	account.UsedAgo(old, 30*24*time.Hour, "s3", "eu-west-1")
	server := account.Serve(t)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		var out strings.Builder
		must := func(function, event string) string {
			t.Helper()
			answer, failure := invoke(behind(function, account, server, logger), event)
			if failure.Type != "" {
				t.Fatalf("%s %s: %s %s", function, event, failure.Type, failure.Message)
			}
			out.WriteString(answer + "\n")
			return answer
		}
		due := must("due", `{}`)
		must("notify", `{"stage":"planned","due":`+due+`}`)
		rotation := must("plan", `{"userName":"alice"}`)
		created := must("create", `{"userName":"alice","replaces":"`+old+`"}`)
		var key struct{ AccessKeyId, SecretArn string }
		if err := json.Unmarshal([]byte(created), &key); err != nil {
			t.Fatal(err)
		}
		for _, stage := range []string{"ready", "reminder", "off", "done"} {
			must("notify", `{"stage":"`+stage+`","rotation":`+rotation+`}`)
		}
		must("notify", `{"stage":"failed","rotation":`+rotation+`,"error":{"name":"KeyInUse","message":"In use."}}`)
		must("list", `{"userName":"alice"}`)
		must("lastused", `{"userName":"alice"}`)
		account.Advance(10 * 24 * time.Hour)
		account.Use(key.AccessKeyId, "s3", "eu-west-1")
		must("deactivate", `{"userName":"alice","accessKeyId":"`+old+`","replacedBy":"`+key.AccessKeyId+`","secretId":"`+key.SecretArn+`"}`)
		must("activate", `{"userName":"alice","accessKeyId":"`+old+`"}`)
		must("deactivate", `{"userName":"alice","accessKeyId":"`+old+`","quietHours":0}`)
		must("delete", `{"userName":"alice","accessKeyId":"`+old+`","replacedBy":"`+key.AccessKeyId+`","secretId":"`+key.SecretArn+`"}`)
		must("audit", `{"detail-type":"Scheduled Event","time":"2026-12-03T06:00:00Z","detail":"{}"}`)
		for _, m := range account.Messages() {
			out.WriteString(m.Subject + m.Body())
		}
		for _, o := range account.Objects() {
			out.Write(o.Content)
		}
		if len(account.Messages()) < 6 || len(account.Objects()) < 5 {
			t.Errorf("%d messages and %d objects: not everything ran", len(account.Messages()), len(account.Objects()))
		}
		if shows(out.String()) || shows(log.String()) {
			t.Errorf("a secret shows in\n%s\n%s", out.String(), log.String())
		}
	})
}

// The audit behind the wire is the audit: the adapters neither lose nor add anything.
func TestAuditBehindTheWire(t *testing.T) {
	report := func(t *testing.T, run func(*iamkeystest.Account, *iamkeystest.Server)) audit.Report {
		account := iamkeystest.NewAccount()
		account.AddRootKey(time.Hour)
		for n := range 40 {
			name := fmt.Sprintf("user-%02d,=+@", n)
			account.AddUser(name, iamkeys.Tag{Key: "Owner", Value: fmt.Sprintf("<team %d> & \"others\"", n)})
			for k := range n % 4 {
				key := account.AddKey(name, time.Duration(n*k*7)*24*time.Hour)
				if n%3 == 0 {
					account.SetStatus(name, key, iamkeys.Inactive)
				}
				if n%5 == 0 {
					account.UsedAgo(key, time.Duration(n)*24*time.Hour, "s3", "")
				}
			}
		}
		account.Attach("user-07,=+@", "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV2")
		server := account.Serve(t)
		server.PageSize = 7
		run(account, server)
		var r audit.Report
		if err := json.Unmarshal(account.Objects()["reports/123456789012/latest.json"].Content, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	log := slog.New(slog.DiscardHandler)
	const event = `{"detail-type":"Scheduled Event","time":"2026-11-23T06:00:00Z","detail":{}}`
	wired := report(t, func(account *iamkeystest.Account, server *iamkeystest.Server) {
		synctest.Test(t, func(t *testing.T) {
			if _, failure := invoke(behind("audit", account, server, log), event); failure.Type != "" {
				t.Fatal(failure.Message)
			}
		})
	})
	direct := report(t, func(account *iamkeystest.Account, _ *iamkeystest.Server) {
		p := account.Start()
		direct := stack.Function("audit", functionstest.Surroundings{Port: func(string) any { return p }, Now: account.Now, Sleep: account.Sleep, Log: log, Calls: p.IAMCalls})
		_, err := direct.Operation.(audit.Audit).Run(t.Context(), audit.Input{EventTime: time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)})
		if err != nil {
			t.Fatal(err)
		}
	})
	got, want := mustJSON(t, wired), mustJSON(t, direct)
	if got != want {
		t.Errorf("behind the wire the report is\n%s\nwant\n%s", got, want)
	}
	if len(direct.Findings) < 20 {
		t.Errorf("only %d findings to compare", len(direct.Findings))
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	content, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
