// The tests in this folder hold the stack together: the template, the functions'
// folders, their policies and imports, the workflows and the event files. Each
// failure says why its rule is there.
package functions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	yamlast "github.com/goccy/go-yaml/ast"
	yamlparser "github.com/goccy/go-yaml/parser"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/lambdafn"
	"iamkeys/statemachines"
	"iamkeys/statemachines/asl"
)

// operations are the operation that each folder's main serves.
var operations = map[string]any{
	"list":       iamkeys.List{},
	"lastused":   iamkeys.FindLastUsed{},
	"create":     iamkeys.Create{},
	"deactivate": iamkeys.Deactivate{},
	"activate":   iamkeys.Activate{},
	"delete":     iamkeys.Delete{},
	"audit":      audit.Audit{},
	"due":        audit.Due{},
	"plan":       iamkeys.Plan{},
	"notify":     notice.Notify{},
}

// services are the IAM prefix and the SDK's package of each port's field.
// GetCallerIdentity needs no permission: it is signed with the new key.
var services = map[string]struct{ prefix, sdk string }{
	"IAM":            {"iam", "iam"},
	"SecretsManager": {"secretsmanager", "secretsmanager"},
	"STS":            {"", "sts"},
	"S3":             {"s3", "s3"},
	"SNS":            {"sns", "sns"},
	"StepFunctions":  {"states", "sfn"},
}

// dependsOn are the permissions that an action needs beside its own.
var dependsOn = map[string][]string{
	"s3:GetObject":                  {"s3:ListBucket"}, // or a missing object is AccessDenied
	"sns:Publish":                   {"kms:GenerateDataKey", "kms:Decrypt"},
	"secretsmanager:PutSecretValue": {"kms:GenerateDataKey", "kms:Decrypt"},
}

// changing are the actions that change keys.
var changing = []string{"iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey"}

const userARN, secretARN = "arn:${AWS::Partition}:iam::${AWS::AccountId}:user", "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${SecretPrefix}*"

type object = map[string]any

// A template is template.yaml, with !Ref and the like in their long form.
type template struct {
	object
	text string
}

func loadTemplate(t *testing.T) template {
	t.Helper()
	text, err := os.ReadFile("../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := yamlparser.ParseBytes(text, 0)
	if err != nil {
		t.Fatal(err)
	}
	value, ok := fromYAML(t, file.Docs[0].Body).(object)
	if !ok {
		t.Fatal("template.yaml is not an object")
	}
	return template{value, string(text)}
}

func fromYAML(t *testing.T, n yamlast.Node) any {
	t.Helper()
	switch n := n.(type) {
	case *yamlast.TagNode:
		name, value := strings.TrimPrefix(n.Start.Value, "!"), fromYAML(t, n.Value)
		switch name {
		case "GetAtt":
			return object{"Fn::GetAtt": value}
		case "Ref", "Condition":
			return object{name: value}
		}
		return object{"Fn::" + name: value}
	case *yamlast.MappingNode:
		m := object{}
		for _, v := range n.Values {
			m[fromYAML(t, v.Key).(string)] = fromYAML(t, v.Value)
		}
		return m
	case *yamlast.MappingValueNode:
		return object{fromYAML(t, n.Key).(string): fromYAML(t, n.Value)}
	case *yamlast.SequenceNode:
		s := []any{}
		for _, v := range n.Values {
			s = append(s, fromYAML(t, v))
		}
		return s
	}
	var value any
	if err := yaml.NodeToValue(n, &value); err != nil {
		t.Fatal(err)
	}
	switch v := value.(type) {
	case uint64:
		return int(v)
	case int64:
		return int(v)
	}
	return value
}

// at follows the names into nested objects; nil where they lead nowhere.
func at(v any, names ...string) any {
	for _, name := range names {
		o, _ := v.(object)
		v = o[name]
	}
	return v
}

// list gives a value that may be one or several.
func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

func words(v any) []string {
	var all []string
	for _, x := range list(v) {
		all = append(all, fmt.Sprint(x))
	}
	return all
}

func ref(name string) any { return object{"Ref": name} }

// resources gives the properties of all resources of a type, by logical ID.
func (tpl template) resources(kind string) map[string]object {
	found := map[string]object{}
	for id, r := range at(tpl.object, "Resources").(object) {
		if at(r, "Type") == kind {
			properties, _ := at(r, "Properties").(object)
			found[id] = properties
		}
	}
	return found
}

// functions gives the functions' properties by folder, such as lastused.
func (tpl template) functions() map[string]object {
	found := map[string]object{}
	for id, properties := range tpl.resources("AWS::Serverless::Function") {
		found[folderOf(id)] = properties
	}
	return found
}

func folderOf(logicalID string) string {
	return strings.ToLower(strings.TrimSuffix(logicalID, "Function"))
}

func TestTemplateLints(t *testing.T) {
	if os.Getenv("IAMKEYS_LOCALCLOUD") == "" {
		t.Skip("needs the SAM CLI, which the local cloud brings: run go run ./localcloud test")
	}
	sam := "../.localcloud/sam/bin/sam"
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

// A statement is one of a policy, with its actions and resources as lists.
type statement struct {
	effect             string
	actions, resources []string
	condition          object
}

// statements gives the statements of a resource's Policies; those under !If too.
func statements(properties object) []statement {
	var found []statement
	for _, policy := range list(properties["Policies"]) {
		for _, s := range list(at(policy, "Statement")) {
			if branches := list(at(s, "Fn::If")); branches != nil {
				s = branches[1]
			}
			st := statement{effect: fmt.Sprint(at(s, "Effect")), actions: words(at(s, "Action"))}
			st.condition, _ = at(s, "Condition").(object)
			for _, r := range list(at(s, "Resource")) {
				if sub, ok := at(r, "Fn::Sub").(string); ok {
					st.resources = append(st.resources, sub)
				} else if attribute, ok := at(r, "Fn::GetAtt").(string); ok {
					st.resources = append(st.resources, attribute)
				} else if name, ok := at(r, "Ref").(string); ok {
					st.resources = append(st.resources, name)
				} else {
					st.resources = append(st.resources, fmt.Sprint(r))
				}
			}
			found = append(found, st)
		}
	}
	return found
}

// ports gives the interfaces that an operation, and what it is made of, asks AWS
// by: fields named after a service.
func ports(operation reflect.Type) map[string][]reflect.Type {
	found := map[string][]reflect.Type{}
	for i := range operation.NumField() {
		f := operation.Field(i)
		switch {
		case f.Type.Kind() == reflect.Interface && services[f.Name].sdk != "":
			found[f.Name] = append(found[f.Name], f.Type)
		case f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == operation.PkgPath():
			for name, types := range ports(f.Type) {
				found[name] = append(found[name], types...)
			}
		}
	}
	return found
}

// actionsOf gives the IAM actions that an operation's ports stand for.
func actionsOf(operation any) []string {
	actions := map[string]bool{}
	for field, types := range ports(reflect.TypeOf(operation)) {
		for _, port := range types {
			for i := range port.NumMethod() {
				if prefix := services[field].prefix; prefix != "" {
					actions[prefix+":"+port.Method(i).Name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(actions))
}

// source parses a Go file.
func source(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTemplateAndFoldersAgree(t *testing.T) {
	functions := loadTemplate(t).functions()
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
	if want := slices.Sorted(maps.Keys(operations)); !slices.Equal(have, want) {
		t.Errorf("folders with a main.go: %v; operations that this test knows: %v. One that it does not know is not checked at all", have, want)
	}
	for folder, operation := range operations {
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
	tpl := loadTemplate(t)
	globals := at(tpl.object, "Globals", "Function").(object)
	same := object{
		"CodeUri": ".", "Handler": "bootstrap", "Runtime": "provided.al2023", "MemorySize": 256,
		"Architectures": []any{ref("Architecture")},
		"LoggingConfig": object{"LogFormat": "JSON", "LogGroup": ref("FunctionLogGroup")},
		"Environment":   object{"Variables": object{"AWS_ENDPOINT_URL": ""}},
	}
	for name, want := range same {
		if !reflect.DeepEqual(globals[name], want) {
			t.Errorf("Globals: %s is %v, want %v", name, globals[name], want)
		}
	}
	for id := range tpl.resources("AWS::Serverless::Function") {
		r := at(tpl.object, "Resources", id)
		if at(r, "Metadata", "BuildMethod") != "makefile" {
			t.Errorf("%s: BuildMethod is not makefile. SAM allows no Metadata in Globals, and its own Go builder links the C library on a host of the same processor", id)
		}
		for _, name := range []string{"CodeUri", "Handler", "Runtime", "MemorySize", "Architectures", "LoggingConfig", "FunctionName", "Role"} {
			if at(r, "Properties", name) != nil {
				t.Errorf("%s sets %s for itself: one function that differs is one that surprises, and a fixed name keeps a second stack out of the account", id, name)
			}
		}
		if at(r, "Properties", "Timeout") == nil || at(r, "Properties", "Description") == nil {
			t.Errorf("%s needs a Timeout (Lambda's default is 3 s) and a Description", id)
		}
	}
	if got := at(tpl.functions()["create"], "Timeout"); got != int(iamkeys.CreateTimeout/time.Second) {
		t.Errorf("create's Timeout is %v s, and iamkeys.CreateTimeout %v: by that a later create tells whether an earlier one may still be at work", got, iamkeys.CreateTimeout)
	}
	if text, err := os.ReadFile("../samconfig.toml"); err != nil || !bytes.Contains(text, []byte("\ncached = false\n")) || !bytes.Contains(text, []byte("\nbuild_in_source = true\n")) {
		t.Errorf("samconfig.toml must say cached = false (SAM's cache does not see a change in pkg/) and build_in_source = true (else the tree is copied for every function): %v", err)
	}
}

func TestPoliciesAreTheOperationsActions(t *testing.T) {
	for folder, properties := range loadTemplate(t).functions() {
		allowed := map[string]bool{}
		for _, s := range statements(properties) {
			for _, action := range s.actions {
				if s.effect == "Allow" {
					allowed[action] = true
				}
			}
		}
		wanted := map[string]bool{}
		for _, action := range actionsOf(operations[folder]) {
			wanted[action] = true
			for _, dependency := range dependsOn[action] {
				wanted[dependency] = true
			}
		}
		for action := range wanted {
			if !allowed[action] {
				t.Errorf("%s calls %s, and its policy does not allow it: on AWS that is AccessDenied", folder, action)
			}
		}
		for action := range allowed {
			if !wanted[action] {
				t.Errorf("%s may call %s, which its operation has no method for: each function holds what it uses and no more", folder, action)
			}
		}
	}
}

func TestPoliciesAreScoped(t *testing.T) {
	// IAM offers no resource for these.
	everywhere := []string{"iam:GenerateCredentialReport", "iam:GetCredentialReport", "iam:GetAccountAuthorizationDetails", "iam:GetAccountSummary"}
	for folder, properties := range loadTemplate(t).functions() {
		users := userARN + "${UserPath}*"
		if folder == "audit" || folder == "due" {
			users = userARN + "/*" // they look at all users and change none
		}
		var changes, denied []string
		for _, s := range statements(properties) {
			for _, action := range s.actions {
				if s.effect == "Deny" {
					condition := object{"StringEqualsIgnoreCase": object{"aws:ResourceTag/iamkeys:protect": "true"}}
					if !slices.Equal(s.resources, []string{userARN + "/*"}) || !reflect.DeepEqual(s.condition, condition) {
						t.Errorf("%s: the Deny must be for every user tagged iamkeys:protect = true: it is on %v if %v", folder, s.resources, s.condition)
					}
					denied = append(denied, action)
					continue
				}
				if slices.Contains(changing, action) {
					changes = append(changes, action)
				}
				var want string
				switch prefix, _, _ := strings.Cut(action, ":"); {
				case slices.Contains(everywhere, action):
					want = "*"
				case prefix == "iam":
					want = users
				case prefix == "secretsmanager":
					want = secretARN
				case action == "s3:ListBucket":
					want = "ReportBucket.Arn"
				case prefix == "s3":
					want = "${ReportBucket.Arn}/reports/*"
				case prefix == "sns":
					want = "NotificationTopic"
				case prefix == "kms" && folder == "create":
					want = "SecretKmsKeyArn"
				case prefix == "kms":
					want = "TopicKey.Arn"
				case action == "states:DescribeExecution":
					want = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${RotationStateMachine.Name}:*"
				}
				if !slices.Equal(s.resources, []string{want}) {
					t.Errorf("%s: %s is allowed on %v, want %s: a function reaches only what this stack is for", folder, action, s.resources, want)
				}
			}
		}
		slices.Sort(changes)
		slices.Sort(denied)
		if !slices.Equal(changes, denied) {
			t.Errorf("%s may do %v, and for users tagged iamkeys:protect = true %v is denied: the tag must stop every change", folder, changes, denied)
		}
	}
}

// A function's environment is what its main reads, and the template's values are
// such as the function accepts: one that does not start helps nobody.
func TestEnvironmentIsWhatMainReads(t *testing.T) {
	variables := settingsVariables(t)
	for folder, properties := range loadTemplate(t).functions() {
		read := map[string]bool{}
		ast.Inspect(source(t, folder+"/main.go"), func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if s, ok := call.Fun.(*ast.SelectorExpr); ok && fmt.Sprint(s.X) == "env" {
					for _, v := range variables[s.Sel.Name] {
						read[v] = true
					}
				}
			}
			return true
		})
		set, _ := at(properties, "Environment", "Variables").(object)
		for v := range read {
			if _, ok := set[v]; !ok {
				t.Errorf("%s reads %s, which the template does not give it: it would not start", folder, v)
			}
		}
		for v, value := range set {
			if !read[v] {
				t.Errorf("%s is given %s, which it does not read: a parameter that does nothing misleads", folder, v)
			}
			name, _ := at(value, "Ref").(string)
			special := map[string]string{"ACCOUNT_ID": "AWS::AccountId", "NOTIFICATION_TOPIC_ARN": "NotificationTopic", "ROTATION_STATE_MACHINE_ARN": "RotationStateMachine"}[v]
			if name == "" || name != special && !strings.EqualFold(name, strings.ReplaceAll(v, "_", "")) {
				t.Errorf("%s: %s is %v; it must be the parameter or resource of that name", folder, v, value)
			}
		}
	}
}

// settingsVariables gives the environment variables that each method of
// lambdafn.Settings reads.
func settingsVariables(t *testing.T) map[string][]string {
	found := map[string][]string{}
	for _, decl := range source(t, "../pkg/lambdafn/settings.go").Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv == nil || !f.Name.IsExported() {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); ok && (s.Sel.Name == "text" || s.Sel.Name == "number") && len(call.Args) > 0 {
				if lit, ok := call.Args[0].(*ast.BasicLit); ok {
					name, _ := strconv.Unquote(lit.Value)
					found[f.Name.Name] = append(found[f.Name.Name], name)
				}
			}
			return true
		})
	}
	if len(found) < 10 {
		t.Fatalf("found only %v in settings.go: this test no longer understands it", found)
	}
	return found
}

func TestParameters(t *testing.T) {
	tpl := loadTemplate(t)
	methods := map[string]string{} // environment variable, without _, in lower case → method of Settings
	for method, variables := range settingsVariables(t) {
		for _, v := range variables {
			methods[strings.ToLower(strings.ReplaceAll(v, "_", ""))] = method
		}
	}
	for name, p := range at(tpl.object, "Parameters").(object) {
		if at(p, "Default") == nil || at(p, "Description") == nil || at(p, "ConstraintDescription") == nil {
			t.Errorf("parameter %s needs a Default (safe as it is), a Description and a ConstraintDescription (CloudFormation shows a bare pattern otherwise)", name)
		}
		number := at(p, "Type") == "Number"
		if at(p, "AllowedValues") == nil && (number && (at(p, "MinValue") == nil || at(p, "MaxValue") == nil) || !number && at(p, "AllowedPattern") == nil) {
			t.Errorf("parameter %s has no bounds: a wrong value must be refused at deployment, not at night", name)
		}
		if pattern, ok := at(p, "AllowedPattern").(string); ok && !regexp.MustCompile(pattern).MatchString(fmt.Sprint(at(p, "Default"))) {
			t.Errorf("parameter %s: its Default %q does not match its AllowedPattern", name, at(p, "Default"))
		}
		if uses := strings.Count(tpl.text, "!Ref "+name+"\n") + strings.Count(tpl.text, "${"+name+"}") + strings.Count(tpl.text, "!Ref "+name+",") + strings.Count(tpl.text, "!Ref "+name+"]"); uses == 0 {
			t.Errorf("parameter %s is not used", name)
		}
		method, ok := methods[strings.ToLower(name)]
		if !ok {
			continue
		}
		values := append([]any{at(p, "Default")}, list(at(p, "AllowedValues"))...)
		if number {
			values = append(values, at(p, "MinValue"), at(p, "MaxValue"))
		}
		for _, value := range values {
			settings := lambdafn.NewSettings(func(string) (string, bool) { return fmt.Sprint(value), true })
			reflect.ValueOf(settings).MethodByName(method).Call(nil)
			if err := settings.Err(); err != nil {
				t.Errorf("parameter %s admits %v, with which a function would not start: %v", name, value, err)
			}
		}
	}
	for _, name := range []string{
		"AuditSchedule", "ScheduleTimezone", "NotificationEmail", "Notify", "MaxAgeDays", "WarnAgeDays", "UnusedDays", "LingerDays", "OwnerTag", "SecretPrefix", "SecretKmsKeyArn",
		"UserPath", "QuietHours", "PollHours", "MaxWaitDays", "SoakDays", "PropagationSeconds", "ReportWaitSeconds", "RotateAgeDays", "MaxRotationsPerRun", "RotationMode",
		"RotationSchedule", "LogRetentionDays", "Architecture",
	} {
		if at(tpl.object, "Parameters", name) == nil {
			t.Errorf("parameter %s is missing", name)
		}
	}
	if mode := at(tpl.object, "Parameters", "RotationMode", "Default"); mode != "plan" {
		t.Errorf("RotationMode is %v by default; it must be plan: nothing changes keys that no person named, unless told to", mode)
	}
	// What each function is given by default must get it going.
	for folder, properties := range tpl.functions() {
		set, _ := at(properties, "Environment", "Variables").(object)
		settings := lambdafn.NewSettings(func(name string) (string, bool) {
			value, ok := set[name]
			if !ok {
				return "", false
			}
			referred, _ := at(value, "Ref").(string)
			if p := at(tpl.object, "Parameters", referred); p != nil {
				return fmt.Sprint(at(p, "Default")), true
			}
			return map[string]string{
				"AWS::AccountId": "123456789012", "NotificationTopic": "arn:aws:sns:us-east-1:123456789012:iamkeys-NotificationTopic-X",
				"ReportBucket": "iamkeys-reportbucket-x", "RotationStateMachine": "arn:aws:states:us-east-1:123456789012:stateMachine:RotationStateMachine-X",
			}[referred], true
		})
		for name := range set {
			reflect.ValueOf(settings).MethodByName(methods[strings.ToLower(strings.ReplaceAll(name, "_", ""))]).Call(nil)
		}
		if err := settings.Err(); err != nil {
			t.Errorf("%s does not start with the template's defaults: %v", folder, err)
		}
	}
}

// inputOf and outputOf give what an operation's Run takes and returns.
func inputOf(operation any) reflect.Type {
	run, _ := reflect.TypeOf(operation).MethodByName("Run")
	return run.Type.In(2)
}

func outputOf(operation any) reflect.Type {
	run, _ := reflect.TypeOf(operation).MethodByName("Run")
	return run.Type.Out(0)
}

// accepts decodes an event as the operation's input and validates it. Fields
// that the input does not have are refused.
func accepts(operation any, event []byte) error {
	in := reflect.New(inputOf(operation))
	d := json.NewDecoder(bytes.NewReader(event))
	d.DisallowUnknownFields()
	if err := d.Decode(in.Interface()); err != nil {
		return err
	}
	var fields map[string]any
	if err := json.Unmarshal(event, &fields); err != nil {
		return err
	}
	for name := range fields { // encoding/json does not mind the letter case, and functions do
		if _, known := fieldsOf(inputOf(operation))[name]; !known {
			return fmt.Errorf("unknown field %q", name)
		}
	}
	return in.Elem().Interface().(lambdafn.Input).Validate()
}

func TestEventFiles(t *testing.T) {
	for folder, operation := range operations {
		event, err := os.ReadFile(folder + "/event.json")
		if err != nil {
			t.Errorf("%s has no event for sam local invoke: %v", folder, err)
			continue
		}
		if bytes.Contains(event, []byte(`"detail-type"`)) {
			var started time.Time
			handler := lambdafn.ScheduledHandler(
				func(context.Context, audit.Input) (any, error) { return nil, nil },
				func(at time.Time) audit.Input { started = at; return audit.Input{} },
				slog.New(slog.DiscardHandler))
			if _, err := handler.Invoke(t.Context(), event); err != nil || started.IsZero() {
				t.Errorf("%s: event.json is not understood as the schedule's event: %v", folder, err)
			}
			continue
		}
		if err := accepts(operation, event); err != nil {
			t.Errorf("%s refuses its own event.json: %v", folder, err)
		}
	}
}

// machine is a workflow with its resource in the template.
type machine struct {
	*asl.Machine
	id         string
	properties object
	text       string
}

func machines(t *testing.T, tpl template) map[string]machine {
	t.Helper()
	found := map[string]machine{}
	for id, properties := range tpl.resources("AWS::Serverless::StateMachine") {
		path := fmt.Sprint(properties["DefinitionUri"])
		name := strings.TrimSuffix(filepath.Base(path), ".asl.json")
		m, err := statemachines.Load(name, nil)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		text, err := os.ReadFile("../" + path)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = machine{m, id, properties, string(text)}
	}
	return found
}

// tasks visits every task of a workflow, those inside a Map too.
func tasks(m *asl.Machine, visit func(name string, s *asl.State)) {
	for name, s := range m.AllStates() {
		if s.Type == "Task" {
			visit(name, s)
		}
	}
}

var substitution = regexp.MustCompile(`\$\{(\w+)\}`)

// functionOf gives the logical ID of the function that a task calls, "" for none.
func functionOf(s *asl.State) string {
	name, _ := at(s.Arguments, "FunctionName").(string)
	m := substitution.FindStringSubmatch(name)
	if m == nil {
		return ""
	}
	return strings.TrimSuffix(m[1], "Arn")
}

func TestWorkflowsAndTemplateAgree(t *testing.T) {
	tpl := loadTemplate(t)
	all := machines(t, tpl)
	for _, m := range all {
		substitutions, _ := m.properties["DefinitionSubstitutions"].(object)
		used := map[string]bool{}
		for _, s := range substitution.FindAllStringSubmatch(m.text, -1) {
			used[s[1]] = true
		}
		for name := range used {
			if substitutions[name] == nil {
				t.Errorf("%s: the definition has ${%s}, which DefinitionSubstitutions does not fill in: Step Functions would take it literally", m.id, name)
			}
		}
		for name, value := range substitutions {
			if !used[name] {
				t.Errorf("%s: the substitution %s is not in the definition", m.id, name)
			}
			want := any(nil)
			switch {
			case name == "Partition":
				want = ref("AWS::Partition")
			case name == "RotationMode":
				want = ref("RotationMode")
			case name == "RotationStateMachineArn":
				want = ref("RotationStateMachine")
			case strings.HasSuffix(name, "FunctionArn"):
				want = object{"Fn::GetAtt": strings.TrimSuffix(name, "Arn") + ".Arn"}
			}
			if !reflect.DeepEqual(value, want) {
				t.Errorf("%s: the substitution %s is %v, want %v: a name that means another function calls the wrong one", m.id, name, value, want)
			}
		}

		called, may := map[string]bool{}, map[string]bool{}
		starts := false
		tasks(m.Machine, func(name string, s *asl.State) {
			id := functionOf(s)
			switch {
			case strings.HasSuffix(s.Resource, ":states:::lambda:invoke"):
				timeout, _ := at(tpl.functions()[folderOf(id)], "Timeout").(int)
				if called[id+".Arn"] = true; timeout == 0 || s.TimeoutSeconds <= timeout {
					t.Errorf("%s, state %q: TimeoutSeconds %d is not above the %d s of %s: the workflow would give up on a function that still works, and start it again beside itself", m.id, name, s.TimeoutSeconds, timeout, id)
				}
			case strings.HasSuffix(s.Resource, ":states:::states:startExecution"):
				starts = true
			default:
				t.Errorf("%s, state %q: %s. Tasks call functions or start a rotation: an AWS call of the workflow's own would put its result into the history", m.id, name, s.Resource)
			}
		})
		for _, s := range statements(m.properties) {
			switch s.actions[0] {
			case "lambda:InvokeFunction":
				for _, r := range s.resources {
					may[r] = true
				}
			case "states:StartExecution":
				if !starts || !slices.Equal(s.resources, []string{"RotationStateMachine"}) {
					t.Errorf("%s may start %v; it starts rotations: %v", m.id, s.resources, starts)
				}
				starts = false
			default:
				t.Errorf("%s: its policy has %v, which no task needs", m.id, s.actions)
			}
		}
		if starts {
			t.Errorf("%s starts executions and may not", m.id)
		}
		if !maps.Equal(called, may) {
			t.Errorf("%s calls %v and may call %v: a workflow reaches the functions that it calls, and no others", m.id, called, may)
		}

		want := object{"Level": "ALL", "IncludeExecutionData": false, "Destinations": []any{object{"CloudWatchLogsLogGroup": object{"LogGroupArn": object{"Fn::GetAtt": "StateMachineLogGroup.Arn"}}}}}
		if !reflect.DeepEqual(m.properties["Logging"], want) {
			t.Errorf("%s: Logging is %v, want %v: every step, and none of the data", m.id, m.properties["Logging"], want)
		}
		if m.properties["Type"] != nil || m.properties["Name"] != nil {
			t.Errorf("%s sets Type or Name: only Standard executions last for weeks and refuse a name in use, and a fixed name keeps a second stack out of the account", m.id)
		}
	}
	deployed := slices.Sorted(maps.Keys(all))
	for _, name := range statemachines.Names() {
		if !slices.Contains(deployed, name) {
			t.Errorf("workflow %s is not in the template", name)
		}
	}
}

// Every error that a workflow waits for must be one that can come: a misspelled
// name is a path that is never taken.
func TestErrorsThatWorkflowsNameExist(t *testing.T) {
	known := map[string]bool{
		"States.ALL": true, "States.Timeout": true,
		// Lambda's own: not reached, not allowed in, or the function died.
		"Lambda.ServiceException": true, "Lambda.AWSLambdaException": true, "Lambda.SdkClientException": true, "Lambda.TooManyRequestsException": true,
		"Lambda.Unknown": true, "Sandbox.Timedout": true, "Runtime.ExitError": true,
		// Step Functions': a name in use, in the words of AWS and of the local cloud.
		"StepFunctions.ExecutionAlreadyExistsException": true, "ExecutionAlreadyExists": true,
	}
	for _, row := range iamkeys.ErrorTable {
		known[string(row.Code)] = true
	}
	for _, m := range machines(t, loadTemplate(t)) {
		tasks(m.Machine, func(name string, s *asl.State) {
			var named []string
			for _, r := range s.Retry {
				named = append(named, r.ErrorEquals...)
			}
			for _, c := range s.Catch {
				named = append(named, c.ErrorEquals...)
			}
			for _, e := range named {
				if !known[e] {
					t.Errorf("%s, state %q waits for %q, which no function and no service gives", m.id, name, e)
				}
			}
		})
		for name, s := range m.States {
			if e, ok := s.Error.(string); ok && !known[e] {
				t.Errorf("%s, state %q fails as %q, which is not one of the errors that README explains", m.id, name, e)
			}
		}
	}
}

// fieldsOf gives a struct's JSON fields, and whether each is always there.
func fieldsOf(t reflect.Type) map[string]bool {
	found := map[string]bool{}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			maps.Copy(found, fieldsOf(f.Type))
		} else if f.IsExported() && name != "" && name != "-" {
			found[name] = !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero")
		}
	}
	return found
}

// What a workflow sends must be a field of the function's input, and what it
// reads must be there in every output: Step Functions fails on a field that is
// missing, and functions refuse one that they do not know.
func TestWorkflowsSendAndReadFieldsThatExist(t *testing.T) {
	read := regexp.MustCompile(`\$(?:states\.result\.Payload|(\w+))\.(\w+)`)
	for _, m := range machines(t, loadTemplate(t)) {
		variables := map[string]map[string]bool{} // variable → fields of the output that it holds
		tasks(m.Machine, func(name string, s *asl.State) {
			operation, ok := operations[folderOf(functionOf(s))]
			if !ok {
				return
			}
			in, out := fieldsOf(inputOf(operation)), fieldsOf(outputOf(operation))
			if payload, ok := at(s.Arguments, "Payload").(object); ok {
				for field := range payload {
					if _, ok := in[field]; !ok {
						t.Errorf("%s, state %q sends %s, which is not in the input of %s", m.id, name, field, functionOf(s))
					}
				}
			}
			for variable, value := range s.Assign {
				text := fmt.Sprint(value)
				if text == "$states.result.Payload" {
					variables[variable] = out
				}
				for _, x := range read.FindAllStringSubmatch(text, -1) {
					if always, ok := out[x[2]]; x[1] == "" && (!ok || !always) {
						t.Errorf("%s, state %q reads %s from the output of %s, where it is not always", m.id, name, x[2], functionOf(s))
					}
				}
			}
		})
		// A variable that a workflow builds anew must be as whole as the output it replaces.
		rebuilt := func(name string, assign map[string]any) {
			for variable, value := range assign {
				fields, known := variables[variable]
				if literal, ok := value.(object); known && ok && !slices.Equal(slices.Sorted(maps.Keys(literal)), slices.Sorted(maps.Keys(fields))) {
					t.Errorf("%s, state %q makes $%s with %v, and the output that it stands for has %v", m.id, name, variable, slices.Sorted(maps.Keys(literal)), slices.Sorted(maps.Keys(fields)))
				}
			}
		}
		for name, s := range m.States {
			rebuilt(name, s.Assign)
			for _, c := range s.Catch {
				rebuilt(name, c.Assign)
			}
		}
		for _, x := range read.FindAllStringSubmatch(m.text, -1) {
			if fields, ok := variables[x[1]]; ok && !fields[x[2]] {
				t.Errorf("%s reads $%s.%s, which is not always there", m.id, x[1], x[2])
			}
		}
	}
}

func TestSchedules(t *testing.T) {
	tpl := loadTemplate(t)
	count := 0
	for _, kind := range []string{"AWS::Serverless::Function", "AWS::Serverless::StateMachine"} {
		for id, properties := range tpl.resources(kind) {
			events, _ := properties["Events"].(object)
			for _, e := range events {
				count++
				p, _ := at(e, "Properties").(object)
				if at(e, "Type") != "ScheduleV2" {
					t.Errorf("%s is started by %v, not by EventBridge Scheduler (ScheduleV2), which knows time zones and dead letters", id, at(e, "Type"))
				}
				if p["Input"] != nil {
					t.Errorf("%s: the schedule has an Input, which replaces the notification that carries the scheduled time", id)
				}
				if p["OmitName"] != true {
					t.Errorf("%s: without OmitName SAM names the schedule the same in every stack of the account", id)
				}
				if p["RetryPolicy"] == nil || !reflect.DeepEqual(p["DeadLetterConfig"], object{"Arn": object{"Fn::GetAtt": "DeadLetterQueue.Arn"}}) {
					t.Errorf("%s: the schedule needs a RetryPolicy and the dead-letter queue: a run that did not start must not go unseen", id)
				}
			}
		}
	}
	if count == 0 {
		t.Error("nothing is scheduled")
	}
	onFailure := at(tpl.functions()["audit"], "EventInvokeConfig", "DestinationConfig", "OnFailure")
	if !reflect.DeepEqual(onFailure, object{"Type": "SQS", "Destination": object{"Fn::GetAtt": "DeadLetterQueue.Arn"}}) {
		t.Errorf("audit's OnFailure is %v: Scheduler only hands the event over, so an audit that fails for good must reach the dead-letter queue from Lambda", onFailure)
	}
}

func TestWhereThingsAreKept(t *testing.T) {
	tpl := loadTemplate(t)
	for id, p := range tpl.resources("AWS::Logs::LogGroup") {
		if !reflect.DeepEqual(p["RetentionInDays"], ref("LogRetentionDays")) {
			t.Errorf("%s keeps its logs for ever", id)
		}
	}
	policies := map[string]string{"AWS::SNS::TopicPolicy": "sns:Publish", "AWS::S3::BucketPolicy": "s3:*", "AWS::SQS::QueuePolicy": "sqs:*"}
	for kind, action := range policies {
		found := false
		for _, p := range tpl.resources(kind) {
			for _, s := range list(at(p, "PolicyDocument", "Statement")) {
				found = found || at(s, "Effect") == "Deny" && at(s, "Principal") == "*" && slices.Equal(words(at(s, "Action")), []string{action}) &&
					reflect.DeepEqual(at(s, "Condition"), object{"Bool": object{"aws:SecureTransport": "false"}})
			}
		}
		if !found {
			t.Errorf("%s must deny %s without TLS", kind, action)
		}
	}
	bucket := at(tpl.object, "Resources", "ReportBucket")
	if at(bucket, "DeletionPolicy") != "Retain" || at(bucket, "UpdateReplacePolicy") != "Retain" {
		t.Error("the report bucket must outlive the stack: it is the evidence for an auditor")
	}
	for _, setting := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
		if at(bucket, "Properties", "PublicAccessBlockConfiguration", setting) != true {
			t.Errorf("the report bucket needs %s", setting)
		}
	}
	if at(bucket, "Properties", "BucketEncryption") == nil || at(bucket, "Properties", "LifecycleConfiguration") == nil || at(bucket, "Properties", "VersioningConfiguration", "Status") != "Enabled" {
		t.Error("the report bucket must be encrypted, versioned, and expire its reports")
	}
	if at(tpl.object, "Resources", "DeadLetterQueue", "Properties", "SqsManagedSseEnabled") != true {
		t.Error("the dead-letter queue must be encrypted by SQS's own key: with a KMS key Scheduler's role could not send to it")
	}
	if !reflect.DeepEqual(at(tpl.object, "Resources", "NotificationTopic", "Properties", "KmsMasterKeyId"), ref("TopicKey")) {
		t.Error("the topic must be encrypted by the stack's key")
	}
	admitted := false
	for _, s := range list(at(tpl.object, "Resources", "TopicKey", "Properties", "KeyPolicy", "Statement")) {
		admitted = admitted || at(s, "Principal", "Service") == "cloudwatch.amazonaws.com" && slices.Equal(words(at(s, "Action")), []string{"kms:GenerateDataKey*", "kms:Decrypt"})
	}
	if !admitted {
		t.Error("the topic's key must admit CloudWatch: without that alarms never arrive, and nobody is told so")
	}
	if strings.Contains(strings.ReplaceAll(tpl.text, "^arn:aws[a-z-]*:", ""), "arn:aws") {
		t.Error("an ARN begins with arn:aws: in China and GovCloud it does not; use ${AWS::Partition}")
	}
}

func TestAlarmsArrive(t *testing.T) {
	tpl := loadTemplate(t)
	names := sourceStrings(t, "../pkg")
	for id, p := range tpl.resources("AWS::CloudWatch::Alarm") {
		if !reflect.DeepEqual(p["AlarmActions"], []any{ref("NotificationTopic")}) {
			t.Errorf("%s does not go to the topic", id)
		}
		if p["TreatMissingData"] == nil || p["AlarmDescription"] == nil {
			t.Errorf("%s must say what missing data means and, to whoever gets it, what happened", id)
		}
		if p["Namespace"] == "iamkeys" && !names[fmt.Sprint(p["MetricName"])] {
			t.Errorf("%s watches %v, which no function writes: it would never go off", id, p["MetricName"])
		}
	}
	if at(tpl.object, "Resources", "AuditMissingAlarm", "Properties", "TreatMissingData") != "breaching" {
		t.Error("AuditMissingAlarm must take missing data for breaching: an audit that does not run writes none")
	}
	var body struct {
		Widgets []struct {
			Properties struct{ Metrics [][]any }
		}
	}
	text, _ := at(tpl.object, "Resources", "Dashboard", "Properties", "DashboardBody", "Fn::Sub").(string)
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

// sourceStrings gives every string in the Go sources under the folder.
func sourceStrings(t *testing.T, folder string) map[string]bool {
	found := map[string]bool{}
	eachSource(t, folder, func(_ string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					found[s] = true
				}
			}
			return true
		})
	})
	return found
}

// eachSource visits the Go files under a folder, without tests.
func eachSource(t *testing.T, folder string, visit func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			visit(path, source(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What stops a process belongs into main: below it, the caller decides, and the
// deferred undo of a key that could not be delivered must run.
func TestNothingBelowMainStopsTheProcess(t *testing.T) {
	eachSource(t, "../pkg", func(path string, file *ast.File) {
		if strings.Contains(path, "iamkeystest") {
			return // its processes die on purpose
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init: what runs unasked cannot be tested, and slows every start", path)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch f := call.Fun.(type) {
			case *ast.Ident:
				if f.Name == "panic" {
					t.Errorf("%s panics: errors are returned, and named once at the edge", path)
				}
			case *ast.SelectorExpr:
				if name := fmt.Sprint(f.X) + "." + f.Sel.Name; name == "os.Exit" || strings.HasPrefix(name, "log.Fatal") || strings.HasPrefix(name, "log.Panic") {
					t.Errorf("%s calls %s: only main may end the process", path, name)
				}
			}
			return true
		})
	})
}

// A pkg is what go list says of a package.
type pkg struct {
	ImportPath, Doc string
	Standard        bool
	GoFiles         []string
	Imports, Deps   []string
}

// goList asks go list, with the tags that the functions are built with.
func goList(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-tags", "lambda.norpc", "-json=ImportPath,Doc,Standard,GoFiles,Imports,Deps"}, args...)...)
	cmd.Dir, cmd.Stderr = "..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

const module = "iamkeys/"

// order is that of imports.
const order = "functions → lambdafn, render, adapters → awserr, awsconfig → iamkeys/notice → iamkeys/audit → iamkeys → standard library"

func TestImportsRunOneWay(t *testing.T) {
	adapter := regexp.MustCompile(`^pkg/aws[a-z0-9]+$`)
	standard := map[string]bool{}
	for _, p := range goList(t, "std") {
		standard[p.ImportPath] = true
	}
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		var may []string // what of ours it may import
		switch core := []string{"pkg/iamkeys", "pkg/iamkeys/audit", "pkg/iamkeys/notice"}; {
		case slices.Contains(core, name):
			may = core[:slices.Index(core, name)]
		case name == "pkg/awsconfig", name == "statemachines/asl":
		case name == "statemachines":
			may = []string{"statemachines/asl"}
		case name == "statemachines/simulation":
			may = append(core, "pkg/iamkeys/iamkeystest", "pkg/lambdafn", "statemachines", "statemachines/asl", "functions/functionstest")
		case name == "pkg/awserr", name == "pkg/render", name == "pkg/iamkeys/iamkeystest":
			may = core
		case name == "pkg/lambdafn":
			may = append(core, "pkg/awsconfig")
		case adapter.MatchString(name):
			may = append(core, "pkg/awserr", "pkg/awsconfig")
		case strings.HasPrefix(name, "functions/"):
			may = append(core, "pkg/lambdafn", "pkg/render")
			for _, i := range p.Imports {
				if i := strings.TrimPrefix(i, module); adapter.MatchString(i) && i != "pkg/awserr" {
					may = append(may, i)
				}
			}
		case name == "localcloud", name == "functions":
			continue
		default:
			t.Errorf("package %s has no place in the order %s", name, order)
		}
		for _, i := range p.Imports {
			ours, isOurs := strings.CutPrefix(i, module)
			switch {
			case isOurs && !slices.Contains(may, ours):
				t.Errorf("%s imports %s: imports run one way, %s, and adapters do not know each other", name, ours, order)
			case i == "github.com/aws/aws-sdk-go-v2/aws/transport/http" && name != "pkg/awsconfig":
				t.Errorf("%s imports %s, whose client may lose an answer: pkg/awsconfig makes one that does not", name, i)
			case i == "html/template" || i == "text/template":
				t.Errorf("%s imports %s, which switches off the linker's dead-code elimination: 6 MB in every binary", name, i)
			case !isOurs && !standard[i] && (strings.HasPrefix(name, "pkg/iamkeys") || name == "statemachines" || name == "statemachines/asl"):
				t.Errorf("%s imports %s: the core is the standard library only, so that it can be read, tested and trusted without AWS", name, i)
			}
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range goList(t, "./...") {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("package %s has no documentation: its first sentence says what it is for", p.ImportPath)
		}
		for _, part := range strings.Split(p.ImportPath, "/") {
			if slices.Contains([]string{"utils", "util", "common", "types", "models", "helpers", "handlers"}, part) {
				t.Errorf("package %s: %s is no name; what has none of its own belongs to its caller", p.ImportPath, part)
			}
		}
	}
}

// Each binary links the services that its operation uses: every other one is
// start-up time, size and attack surface for nothing.
func TestBinariesLinkOnlyTheirServices(t *testing.T) {
	const sdk = "github.com/aws/aws-sdk-go-v2/service/"
	for _, p := range goList(t, "./functions/...") {
		folder := strings.TrimPrefix(p.ImportPath, module+"functions/")
		operation, ok := operations[folder]
		if !ok {
			continue
		}
		want := map[string]bool{}
		for field := range ports(reflect.TypeOf(operation)) {
			want[services[field].sdk] = true
		}
		got := map[string]bool{}
		for _, d := range p.Deps {
			service, isService := strings.CutPrefix(d, sdk)
			if isService && !strings.Contains(service, "/") {
				got[service] = true
			}
			known := slices.ContainsFunc([]string{"github.com/aws/", "github.com/a-h/templ", "golang.org/x/time/rate"}, func(prefix string) bool { return strings.HasPrefix(d, prefix) })
			if third := strings.SplitN(d, "/", 2)[0]; strings.Contains(third, ".") && !known {
				t.Errorf("%s links %s: a function is the SDK, the Lambda library and this module, with the page's templates and the calls' rate", folder, d)
			}
		}
		if slices.Contains(p.Deps, "github.com/aws/aws-sdk-go-v2/config") {
			for _, service := range []string{"sts", "sso", "ssooidc", "signin"} { // the SDK's configuration brings these
				if !want[service] {
					delete(got, service)
				}
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s links %v, and its operation uses %v", folder, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		for _, d := range p.Deps {
			if d == "testing" || strings.HasSuffix(d, "/iamkeystest") {
				t.Errorf("%s links %s: tests stay out of binaries", folder, d)
			}
		}
	}
}
