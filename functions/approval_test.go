package functions

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What companies ask of a stack before they take it: tags, a second one beside the first,
// updates that lose nothing, other partitions.

// untagged are the types that CloudFormation gives no tags.
var untagged = []string{
	"AWS::SNS::TopicPolicy", "AWS::SNS::Subscription", "AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy", "AWS::CloudWatch::Dashboard",
	"AWS::Lambda::EventInvokeConfig", "AWS::Lambda::Permission",
}

func TestTags(t *testing.T) {
	tpl := template()
	for _, kind := range []string{"Function", "StateMachine"} {
		if at(tpl.Object, "Globals", kind, "PropagateTags") != true {
			t.Errorf("Globals.%s does not propagate tags: the roles that SAM makes would have none", kind)
		}
	}
	for id, r := range at(tpl.Object, "Resources").(object) {
		kind := fmt.Sprint(at(r, "Type"))
		have := at(r, "Properties", "Tags")
		switch {
		case kind == "AWS::Serverless::Function":
			have = at(tpl.Object, "Globals", "Function", "Tags")
			fallthrough
		case kind == "AWS::Serverless::StateMachine":
			if !reflect.DeepEqual(have, object{"application": "iamkeys"}) {
				t.Errorf("%s has the tags %v", id, have)
			}
		case !slices.Contains(untagged, kind) && !reflect.DeepEqual(have, []any{object{"Key": "application", "Value": "iamkeys"}}):
			t.Errorf("%s, a %s, has the tags %v: without application = iamkeys nobody can tell what it costs, or may write a policy for it", id, kind, have)
		}
	}
}

// Two stacks stand side by side in one account and Region: no name is the same in both,
// nothing is exported, and nothing is looked up by a name of the account's.
func TestTwoStacksSideBySide(t *testing.T) {
	tpl := template()
	for id, r := range at(tpl.Object, "Resources").(object) {
		properties, _ := at(r, "Properties").(object)
		for name, value := range properties {
			if name != "Name" && !strings.HasSuffix(name, "Name") || name == "OmitName" || name == "PolicyName" || name == "DisplayName" || name == "MetricName" {
				continue
			}
			if text := fmt.Sprint(at(value, "Fn::Sub")); !strings.Contains(text, "${AWS::StackName}") {
				t.Errorf("%s: %s is %v, the same in every stack", id, name, value)
			}
		}
	}
	outputs, _ := at(tpl.Object, "Outputs").(object)
	for name, o := range outputs {
		if at(o, "Export") != nil {
			t.Errorf("output %s is exported: its name would be taken", name)
		}
	}
	for _, p := range tpl.Resources("AWS::CloudWatch::Alarm") {
		if p["Namespace"] == "iamkeys" && len(list(p["Dimensions"])) == 0 {
			t.Errorf("an alarm on %v has no dimension: one stack's would go off for the other", p["MetricName"])
		}
	}
}

// replacing are the properties whose change makes CloudFormation replace a resource that
// holds something: reports, messages, subscriptions, logs, executions.
var replacing = map[string][]string{
	"AWS::S3::Bucket":               {"BucketName", "ObjectLockEnabled", "BucketNamePrefix", "BucketNamespace"},
	"AWS::SNS::Topic":               {"TopicName", "FifoTopic"},
	"AWS::SNS::Subscription":        {"Protocol", "TopicArn", "Endpoint"},
	"AWS::SQS::Queue":               {"QueueName", "FifoQueue"},
	"AWS::KMS::Key":                 {"KeySpec", "KeyUsage", "MultiRegion", "Origin"},
	"AWS::Logs::LogGroup":           {"LogGroupName"},
	"AWS::Serverless::StateMachine": {"Name", "Type"},
	"AWS::Serverless::Function":     {"FunctionName", "PackageType"},
}

// An update replaces nothing that holds something: what was released stays under its
// logical ID, as the type it is, with the properties that would replace it as they were.
// -update adds what is new; a difference from what was released is for a person to decide.
func TestUpdateReplacesNothingStateful(t *testing.T) {
	const path = "testdata/stateful.json"
	today := map[string]map[string]any{}
	for id, r := range at(template().Object, "Resources").(object) {
		kind := fmt.Sprint(at(r, "Type"))
		names, stateful := replacing[kind]
		if !stateful {
			continue
		}
		today[id] = map[string]any{"Type": kind}
		for _, name := range names {
			if value := at(r, "Properties", name); value != nil {
				today[id][name] = fmt.Sprint(value)
			}
		}
	}
	released := map[string]map[string]any{}
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, &released)
	}
	if err != nil && !*update {
		t.Fatal(err)
	}
	for id, was := range released {
		if !reflect.DeepEqual(today[id], was) {
			t.Errorf("%s was released as %v and is %v: an update would replace it, and what it holds would be gone", id, was, today[id])
		}
	}
	if *update {
		maps.Copy(today, released)
		text, err := json.MarshalIndent(today, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for id := range today {
		if released[id] == nil {
			t.Errorf("%s is not in %s: make update adds it", id, path)
		}
	}
}

// In GovCloud and China ARNs, domains and service names are others.
func TestPartitions(t *testing.T) {
	tpl := template()
	text := regexp.MustCompile(`(?m)^\s+AllowedPattern: .*$`).ReplaceAllString(tpl.Text, "")
	if m := regexp.MustCompile(`arn:aws.*`).FindString(text); m != "" {
		t.Errorf("%q: use ${AWS::Partition}", m)
	}
	// Service principals end in amazonaws.com everywhere for the services that this stack
	// trusts; endpoints and kms:ViaService do not.
	for _, m := range regexp.MustCompile(`\S*amazonaws\.com\S*`).FindAllString(text, -1) {
		if !regexp.MustCompile(`^(cloudwatch|scheduler|events|lambda|states|delivery\.logs)\.amazonaws\.com$`).MatchString(strings.Trim(m, `"'},`)) {
			t.Errorf("%s is no service principal that is the same in every partition", m)
		}
	}
	for id, r := range at(tpl.Object, "Parameters").(object) {
		if pattern, ok := at(r, "AllowedPattern").(string); ok && strings.Contains(pattern, "arn:") {
			for _, partition := range []string{"aws", "aws-cn", "aws-us-gov"} {
				sample := map[string]string{
					"SecretKmsKeyArn": "arn:%s:kms:x-y-1:123456789012:key/1-2", "KmsKeyArn": "arn:%s:kms:x-y-1:123456789012:key/1-2", "AlarmTopicArn": "arn:%s:sns:x-y-1:123456789012:alarms",
					"PermissionsBoundaryArn": "arn:%s:iam::123456789012:policy/boundary/b", "CodeSigningConfigArn": "arn:%s:lambda:x-y-1:123456789012:code-signing-config:csc-0123456789abcdef0",
				}[id]
				if arn := fmt.Sprintf(sample, partition); sample == "" || !regexp.MustCompile(pattern).MatchString(arn) {
					t.Errorf("parameter %s refuses %s", id, arn)
				}
			}
		}
	}
	// So in the code: an ARN is made of the partition that AWS tells, or compared without it.
	eachSource(t, "../pkg", func(path string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && strings.Contains(lit.Value, "arn:aws:") && !strings.Contains(path, "iamkeystest") {
				t.Errorf("%s holds %s, which is of one partition", path, lit.Value)
			}
			return true
		})
	})
}
