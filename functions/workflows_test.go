package functions

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/statemachines"
	"iamkeys/statemachines/asl"
)

// machine is a workflow with its resource in the template.
type machine struct {
	*asl.Machine
	id         string
	properties object
	text       string
}

func machines(t *testing.T, tpl functionstest.Template) map[string]machine {
	t.Helper()
	found := map[string]machine{}
	for id, properties := range tpl.Resources("AWS::Serverless::StateMachine") {
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
	tpl := template()
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
			case strings.HasSuffix(name, "StateMachineArn"):
				want = ref(strings.TrimSuffix(name, "Arn"))
			case at(tpl.Object, "Parameters", name) != nil:
				want = ref(name)
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
				timeout, _ := at(tpl.Functions()[folderOf(id)], "Timeout").(int)
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
				started := fmt.Sprint(at(substitutions[strings.Join(s.resources, "")+"Arn"], "Ref"))
				if !starts || !slices.Equal(s.resources, []string{started}) {
					t.Errorf("%s may start %v; it starts executions: %v", m.id, s.resources, starts)
				}
				starts = false
			case "s3:GetObject", "kms:Decrypt": // of a Map that reads its items from S3
				if want := map[string]string{"s3:GetObject": "s3:GetObject on ${ReportBucket.Arn}/reports/organization/*", "kms:Decrypt": "kms:Decrypt on KmsKeyArn if HasKmsKey through s3"}[s.actions[0]]; !strings.Contains(m.text, "s3:getObject") || !slices.Equal(s.rights(), []string{want}) {
					t.Errorf("%s has %v, want %s", m.id, s.rights(), want)
				}
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
		if name := at(m.properties["Name"], "Fn::Sub"); m.properties["Type"] != nil || m.properties["Name"] != nil && name != "${AWS::StackName}-"+strings.TrimSuffix(m.id, "StateMachine") {
			t.Errorf("%s sets Type, or the Name %v: only Standard executions last for weeks and refuse a name in use, and a fixed name keeps a second stack out of the account", m.id, name)
		}
	}
	deployed := slices.Sorted(maps.Keys(all))
	for _, name := range statemachines.Names() {
		if !slices.Contains(deployed, name) {
			t.Errorf("workflow %s is not in the template", name)
		}
	}
}

// A Distributed Map starts, looks at and stops executions of its own workflow, and of no
// other: the role may start nothing else, and what it may must not hang on a name alone.
func TestMapsStartOnlyTheirOwnChildren(t *testing.T) {
	tpl := template()
	policies := tpl.Resources("AWS::IAM::Policy")
	for _, m := range machines(t, tpl) {
		maps := 0
		for name, s := range m.AllStates() {
			if !s.ItemProcessor.Distributed() {
				continue
			}
			maps++
			const child = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${"
			policy := policies[strings.TrimSuffix(m.id, "StateMachine")+"MapPolicy"]
			if want := []any{ref(m.id + "Role")}; !reflect.DeepEqual(policy["Roles"], want) {
				t.Errorf("%s, state %q: its policy is for %v, want %v", m.id, name, policy["Roles"], want)
			}
			want := []any{
				object{"Effect": "Allow", "Action": "states:StartExecution", "Resource": ref(m.id)},
				object{"Effect": "Allow", "Action": []any{"states:DescribeExecution", "states:StopExecution"}, "Resource": []any{
					object{"Fn::Sub": child + m.id + ".Name}:*"}, object{"Fn::Sub": child + m.id + ".Name}/*"},
				}},
			}
			if got := at(policy, "PolicyDocument", "Statement"); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, state %q: its policy is\n%v, want\n%v", m.id, name, got, want)
			}
		}
		if (maps > 0) != (m.id == "OrganizationAuditStateMachine") {
			t.Errorf("%s has %d distributed Maps", m.id, maps)
		}
	}
	if len(policies) != 1 {
		t.Errorf("%d policies stand for themselves, want the Map's alone", len(policies))
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
	for _, m := range machines(t, template()) {
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
	merge := regexp.MustCompile(`"(\w+)": "{% \$merge\(\[\$(\w+)(?:\.[\w.]+)?, {(.*)}\]\) %}"`) // variable, what it is made from, the fields that are added
	member := regexp.MustCompile(`'(\w+)': `)
	for _, m := range machines(t, template()) {
		variables := map[string]map[string]bool{} // variable → fields of the output that it holds
		tasks(m.Machine, func(name string, s *asl.State) {
			operation, ok := operations()[folderOf(functionOf(s))]
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
			if payload := fmt.Sprint(at(s.Arguments, "Payload")); strings.HasPrefix(payload, "$merge(") {
				for _, field := range member.FindAllStringSubmatch(payload, -1) {
					if _, ok := in[field[1]]; !ok {
						t.Errorf("%s, state %q sends %s, which is not in the input of %s", m.id, name, field[1], functionOf(s))
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
		for _, x := range merge.FindAllStringSubmatch(m.text, -1) {
			if fields, known := variables[x[2]]; known {
				more := maps.Clone(fields)
				maps.Copy(more, variables[x[1]])
				for _, field := range member.FindAllStringSubmatch(x[3], -1) {
					more[field[1]] = true
				}
				variables[x[1]] = more
			}
		}
		for _, at := range read.FindAllStringSubmatchIndex(m.text, -1) {
			if at[2] < 0 || strings.HasPrefix(m.text[at[1]:], " = true") { // what is not there is not true, and no failure
				continue
			}
			variable, field := m.text[at[2]:at[3]], m.text[at[4]:at[5]]
			if fields, ok := variables[variable]; ok && !fields[field] {
				t.Errorf("%s reads $%s.%s, which is not always there", m.id, variable, field)
			}
		}
	}
}
