// The tests in this folder hold the stack together, a file a subject: the template,
// the functions' folders, their policies, settings and imports, the workflows, the
// schedules and the event files. Each failure says why its rule is there.
package functions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
)

// The template's reader, by short names.
var at, list, folderOf = functionstest.At, functionstest.List, functionstest.Folder

type object = functionstest.Object

func template() functionstest.Template { return functionstest.Load("template.yaml") }

// operations are the operation that each folder's main serves, with its settings.
var operations = sync.OnceValue(functionstest.New(nil).Operations)

func words(v any) []string {
	var all []string
	for _, x := range list(v) {
		all = append(all, fmt.Sprint(x))
	}
	return all
}

func ref(name string) any { return object{"Ref": name} }

func TestTemplateLints(t *testing.T) {
	if os.Getenv("IAMKEYS_LOCALCLOUD") == "" {
		t.Skip("needs the SAM CLI, which the local cloud brings: run go run ./localcloud test")
	}
	sam := "../.localcloud/python/bin/sam"
	if _, err := os.Stat(sam); err != nil {
		if sam, err = exec.LookPath("sam"); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(sam, "validate", "--lint", "--template-file", "../template.yaml")
	cmd.Env = append(os.Environ(), "SAM_CLI_TELEMETRY=0", "AWS_DEFAULT_REGION=us-east-1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("sam validate --lint: %v\n%s", err, out)
	}
}

func TestTemplateAndFoldersAgree(t *testing.T) {
	functions := template().Functions()
	folders, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, path := range folders {
		have = append(have, filepath.Dir(path))
	}
	if want := slices.Sorted(maps.Keys(functions)); !slices.Equal(have, want) {
		t.Errorf("folders with a main.go: %v; functions in the template: %v. make build-XFunction builds functions/x, so the two must be the same", have, want)
	}
	if want := slices.Sorted(maps.Keys(operations())); !slices.Equal(have, want) {
		t.Errorf("folders with a main.go: %v; operations that this test knows: %v. One that it does not know is not checked at all", have, want)
	}
	for folder, operation := range operations() {
		name, used := reflect.TypeOf(operation).String(), false
		path := folder + "/main.go"
		ast.Inspect(source(t, path), func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && fmt.Sprint(s.X)+"."+s.Sel.Name == name {
				used = true
			}
			return true
		})
		if !used {
			t.Errorf("%s does not serve %s: then its policy here is derived from the wrong operation", path, name)
		}
	}
}

func TestFunctionsAreBuiltAndRunAlike(t *testing.T) {
	tpl := template()
	globals := at(tpl.Object, "Globals", "Function").(object)
	same := object{
		"CodeUri": ".", "Handler": "bootstrap", "Runtime": "provided.al2023", "MemorySize": 256,
		"Architectures": []any{ref("Architecture")},
		"LoggingConfig": object{"LogFormat": "JSON", "LogGroup": ref("FunctionLogGroup")},
		"Environment":   object{"Variables": object{"AWS_ENDPOINT_URL": "", "AWS_USE_FIPS_ENDPOINT": ref("UseFips")}},
		"KmsKeyArn":     object{"Fn::If": []any{"HasKmsKey", ref("KmsKeyArn"), ref("AWS::NoValue")}},
	}
	for name, want := range same {
		if !reflect.DeepEqual(globals[name], want) {
			t.Errorf("Globals: %s is %v, want %v", name, globals[name], want)
		}
	}
	for id := range tpl.Resources("AWS::Serverless::Function") {
		r := at(tpl.Object, "Resources", id)
		if at(r, "Metadata", "BuildMethod") != "makefile" {
			t.Errorf("%s: BuildMethod is not makefile. SAM allows no Metadata in Globals, and its own Go builder links the C library on a host of the same processor", id)
		}
		var left []string
		for _, skip := range list(at(r, "Metadata", "checkov", "skip")) {
			left = append(left, fmt.Sprint(at(skip, "id")))
		}
		if want := []string{"CKV_AWS_115", "CKV_AWS_116", "CKV_AWS_117"}; !slices.Equal(left, want) {
			t.Errorf("%s leaves the scanner's %v, want %v with the words of the other functions: what is left is explained", id, left, want)
		}
		for _, name := range []string{"CodeUri", "Handler", "Runtime", "MemorySize", "Architectures", "LoggingConfig", "FunctionName", "Role"} {
			if at(r, "Properties", name) != nil && !(id == "MergeFunction" && name == "MemorySize") { // 512, by which it is faster
				t.Errorf("%s sets %s for itself: one function that differs is one that surprises, and a fixed name keeps a second stack out of the account", id, name)
			}
		}
		if want := (object{"Fn::If": []any{"HasCodeSigningConfig", ref("CodeSigningConfigArn"), ref("AWS::NoValue")}}); !reflect.DeepEqual(at(r, "Properties", "CodeSigningConfigArn"), want) {
			t.Errorf("%s does not take CodeSigningConfigArn: cfn-lint allows it in no Globals, so each function says it", id)
		}
		if at(r, "Properties", "Timeout") == nil || at(r, "Properties", "Description") == nil {
			t.Errorf("%s needs a Timeout (Lambda's default is 3 s) and a Description", id)
		}
	}
	if got := at(tpl.Functions()["create"], "Timeout"); got != int(iamkeys.CreateTimeout/time.Second) {
		t.Errorf("create's Timeout is %v s, and iamkeys.CreateTimeout %v: by that a later create tells whether an earlier one may still be at work", got, iamkeys.CreateTimeout)
	}
	if text, err := os.ReadFile("../samconfig.toml"); err != nil || !bytes.Contains(text, []byte("\ncached = false\n")) || !bytes.Contains(text, []byte("\nbuild_in_source = true\n")) {
		t.Errorf("samconfig.toml must say cached = false (SAM's cache does not see a change in pkg/) and build_in_source = true (else the tree is copied for every function): %v", err)
	}
}

func TestWhereThingsAreKept(t *testing.T) {
	tpl := template()
	for id, p := range tpl.Resources("AWS::Logs::LogGroup") {
		if !reflect.DeepEqual(p["RetentionInDays"], ref("LogRetentionDays")) {
			t.Errorf("%s keeps its logs for ever", id)
		}
		if !reflect.DeepEqual(p["KmsKeyId"], object{"Fn::If": []any{"HasKmsKey", ref("KmsKeyArn"), ref("AWS::NoValue")}}) {
			t.Errorf("%s is not encrypted by KmsKeyArn, where that is given", id)
		}
	}
	policies := map[string]string{"AWS::SNS::TopicPolicy": "sns:Publish", "AWS::S3::BucketPolicy": "s3:*", "AWS::SQS::QueuePolicy": "sqs:*"}
	for kind, action := range policies {
		found := false
		for _, p := range tpl.Resources(kind) {
			for _, s := range list(at(p, "PolicyDocument", "Statement")) {
				found = found || at(s, "Effect") == "Deny" && at(s, "Principal") == "*" && slices.Equal(words(at(s, "Action")), []string{action}) &&
					reflect.DeepEqual(at(s, "Condition"), object{"Bool": object{"aws:SecureTransport": "false"}})
			}
		}
		if !found {
			t.Errorf("%s must deny %s without TLS", kind, action)
		}
	}
	bucket := at(tpl.Object, "Resources", "ReportBucket")
	if at(bucket, "DeletionPolicy") != "Retain" || at(bucket, "UpdateReplacePolicy") != "Retain" {
		t.Error("the report bucket must outlive the stack: it is the evidence for an auditor")
	}
	for _, setting := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
		if at(bucket, "Properties", "PublicAccessBlockConfiguration", setting) != true {
			t.Errorf("the report bucket needs %s", setting)
		}
	}
	encryption := []any{object{
		"ServerSideEncryptionByDefault": object{"Fn::If": []any{"HasKmsKey", object{"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": ref("KmsKeyArn")}, object{"SSEAlgorithm": "AES256"}}},
		"BucketKeyEnabled":              object{"Fn::If": []any{"HasKmsKey", true, ref("AWS::NoValue")}},
	}}
	if got := at(bucket, "Properties", "BucketEncryption", "ServerSideEncryptionConfiguration"); !reflect.DeepEqual(got, encryption) {
		t.Errorf("the report bucket is encrypted by %v, want %v", got, encryption)
	}
	if got := at(bucket, "Properties", "OwnershipControls", "Rules"); !reflect.DeepEqual(got, []any{object{"ObjectOwnership": "BucketOwnerEnforced"}}) {
		t.Errorf("the report bucket has the ownership %v: with access lists its policy is not all that lets one in", got)
	}
	// A run's files alone expire: latest.json, securityhub.json and markers are what the next run goes by.
	expiring, evidence := 0, false
	for _, rule := range list(at(bucket, "Properties", "LifecycleConfiguration", "Rules")) {
		if at(rule, "ExpirationInDays") != nil {
			if expiring++; !reflect.DeepEqual(at(rule, "TagFilters"), []any{object{"Key": "iamkeys:report", "Value": "run"}}) {
				t.Errorf("lifecycle rule %v expires what does not carry the tag of a run's files", at(rule, "Id"))
			}
		}
		days, _ := at(rule, "NoncurrentVersionExpiration", "NoncurrentDays").(int)
		evidence = evidence || days >= 400 && at(rule, "Prefix") == nil && at(rule, "TagFilters") == nil
	}
	if expiring != 1 || !evidence {
		t.Errorf("%d rules expire reports, and what was overwritten is kept as long: %t", expiring, evidence)
	}
	if at(bucket, "Properties", "VersioningConfiguration", "Status") != "Enabled" {
		t.Error("the report bucket must be versioned")
	}
	if at(tpl.Object, "Resources", "DeadLetterQueue", "Properties", "SqsManagedSseEnabled") != true {
		t.Error("the dead-letter queue must be encrypted by SQS's own key: with a KMS key Scheduler's role could not send to it")
	}
	if !reflect.DeepEqual(at(tpl.Object, "Resources", "NotificationTopic", "Properties", "KmsMasterKeyId"), ref("TopicKey")) {
		t.Error("the topic must be encrypted by the stack's key")
	}
	if at(tpl.Object, "Resources", "TopicKey", "Properties", "EnableKeyRotation") != true {
		t.Error("the topic's key must rotate")
	}
	admitted := false
	for _, s := range list(at(tpl.Object, "Resources", "TopicKey", "Properties", "KeyPolicy", "Statement")) {
		admitted = admitted || at(s, "Principal", "Service") == "cloudwatch.amazonaws.com" && slices.Equal(words(at(s, "Action")), []string{"kms:GenerateDataKey*", "kms:Decrypt"})
	}
	if !admitted {
		t.Error("the topic's key must admit CloudWatch: without that alarms never arrive, and nobody is told so")
	}
	if strings.Contains(strings.ReplaceAll(tpl.Text, "^arn:aws[a-z-]*:", ""), "arn:aws") {
		t.Error("an ARN begins with arn:aws: in China and GovCloud it does not; use ${AWS::Partition}")
	}
}

func TestAlarmsArrive(t *testing.T) {
	tpl := template()
	names := sourceStrings(t, "../pkg")
	for id, p := range tpl.Resources("AWS::CloudWatch::Alarm") {
		if !reflect.DeepEqual(p["AlarmActions"], []any{ref("NotificationTopic"), object{"Fn::If": []any{"HasAlarmTopic", ref("AlarmTopicArn"), ref("AWS::NoValue")}}}) {
			t.Errorf("%s does not go to the topic and to the second one: an alarm that only a broken topic tells of is silent", id)
		}
		if p["TreatMissingData"] == nil || p["AlarmDescription"] == nil {
			t.Errorf("%s must say what missing data means and, to whoever gets it, what happened", id)
		}
		if p["Namespace"] == "iamkeys" && !names[fmt.Sprint(p["MetricName"])] {
			t.Errorf("%s watches %v, which no function writes: it would never go off", id, p["MetricName"])
		}
	}
	for id := range tpl.Resources("AWS::Serverless::StateMachine") {
		for _, end := range []string{"Failed", "Aborted", "TimedOut"} {
			alarm := strings.TrimSuffix(id, "StateMachine") + end + "Alarm"
			p := at(tpl.Object, "Resources", alarm, "Properties")
			if id == "LifecycleStateMachine" { // a person starts it, and sees how it ends
				continue
			}
			if at(p, "MetricName") != "Executions"+end || at(p, "Namespace") != "AWS/States" || !reflect.DeepEqual(at(p, "Dimensions"), []any{object{"Name": "StateMachineArn", "Value": ref(id)}}) {
				t.Errorf("%s does not watch executions of %s that end as %s", alarm, id, end)
			}
		}
	}
	if at(tpl.Object, "Resources", "AuditMissingAlarm", "Properties", "TreatMissingData") != "breaching" {
		t.Error("AuditMissingAlarm must take missing data for breaching: an audit that does not run writes none")
	}
	var body struct {
		Widgets []struct {
			Properties struct{ Metrics [][]any }
		}
	}
	text, _ := at(tpl.Object, "Resources", "Dashboard", "Properties", "DashboardBody", "Fn::Sub").(string)
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatalf("the dashboard's body: %v", err)
	}
	for _, w := range body.Widgets {
		namespace := ""
		for _, m := range w.Properties.Metrics {
			if len(m) < 2 {
				continue // an expression over other metrics
			}
			if m[0] != "." && m[0] != "..." {
				namespace = fmt.Sprint(m[0])
			}
			if namespace == "iamkeys" && !names[fmt.Sprint(m[1])] {
				t.Errorf("the dashboard shows %v, which no function writes", m[1])
			}
		}
	}
	if len(body.Widgets) == 0 {
		t.Error("the dashboard shows nothing")
	}
}

// The same source gives the same bytes, whoever builds: what would reach the binary from
// the environment is fixed in the recipe. make verify builds, and compares.
func TestRecipe(t *testing.T) {
	recipe := func(environment ...string) string {
		t.Helper()
		cmd := exec.Command("make", "-n", "build-ListFunction")
		cmd.Dir, cmd.Env = "..", append(append(os.Environ(), "ARTIFACTS_DIR=/tmp/out", "ARCH=arm64", "BUILD_OS=linux"), environment...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("make -n: %v\n%s", err, out)
		}
		return string(out)
	}
	want := recipe()
	hostile := recipe("GOFLAGS=-gcflags=-N", "GOARM64=v9.0", "GOAMD64=v4", "GOEXPERIMENT=nogreenteagc", "GOFIPS140=latest", "GOTOOLCHAIN=local", "GOWORK=/tmp/go.work", "GOENV=/tmp/env", "CGO_ENABLED=1", "GOOS=plan9", "GOARCH=386")
	if hostile != want {
		t.Errorf("the environment changes the recipe from\n%s\nto\n%s", want, hostile)
	}
	if text, err := os.ReadFile("../go.mod"); err != nil || !regexp.MustCompile(`(?m)^toolchain go1\.\d+\.\d+$`).Match(text) || !regexp.MustCompile(`toolchain=go1\.\d+\.\d+;`).MatchString(want) {
		t.Errorf("go.mod does not name the toolchain, or the recipe does not take it (%v):\n%s", err, want)
	}
	for _, fixed := range []string{"GOENV=off", "GOFLAGS=", "GOARM64=v8.0", "GOAMD64=v1", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64", "GOTOOLCHAIN=$toolchain GOOS=", "-trimpath", "-buildvcs=false", "-tags=lambda.norpc", "chmod 755"} {
		if !strings.Contains(want, fixed) {
			t.Errorf("the recipe does not fix %s:\n%s", fixed, want)
		}
	}
}

// One version, wherever it is said.
func TestVersion(t *testing.T) {
	tpl, version := template(), iamkeys.Version
	if description := fmt.Sprint(tpl.Object["Description"]); !strings.HasPrefix(description, "iamkeys "+version+": ") || len(description) > 1024 {
		t.Errorf("the template's description, which every stack shows, begins with %.30q; this is iamkeys %s", description, version)
	}
	application := at(tpl.Object, "Metadata", "AWS::ServerlessRepo::Application")
	if got := at(application, "SemanticVersion"); got != version {
		t.Errorf("the template's metadata say version %v, want %s", got, version)
	}
	// What the Serverless Application Repository asks for, and how long it may be.
	for name, longest := range map[string]int{"Name": 140, "Description": 256, "Author": 127, "SpdxLicenseId": 127} {
		if text, _ := at(application, name).(string); text == "" || len(text) > longest {
			t.Errorf("%s in the template's metadata is %q, want 1 to %d characters", name, text, longest)
		}
	}
	if labels := list(at(application, "Labels")); len(labels) == 0 || len(labels) > 10 {
		t.Errorf("labels %v, want 1 to 10", labels)
	}
	for _, file := range []string{"LicenseUrl", "ReadmeUrl"} {
		if !exists("../" + fmt.Sprint(at(application, file))) {
			t.Errorf("%s is %v, which is not there", file, at(application, file))
		}
	}
	if changes, err := os.ReadFile("../CHANGELOG.md"); err != nil || !bytes.Contains(changes, []byte("\n## "+version+"\n")) {
		t.Errorf("CHANGELOG.md does not tell of %s: %v", version, err)
	}
}
