package functions

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/lambdafn"
)

// What companies ask of a stack before they take it: tags, a second one beside the first,
// updates that lose nothing, other partitions.

// untagged are the types that CloudFormation gives no tags.
var untagged = []string{
	"AWS::SNS::TopicPolicy", "AWS::SNS::Subscription", "AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy",
	"AWS::Lambda::EventInvokeConfig", "AWS::Lambda::Permission",
}

func TestTags(t *testing.T) {
	tpl := template()
	for _, kind := range []string{"Function", "StateMachine"} {
		if at(tpl.Object, "Globals", kind, "PropagateTags") != true {
			t.Errorf("Globals.%s does not propagate tags: the roles that SAM makes would have none", kind)
		}
	}
	resources := maps.Clone(at(tpl.Object, "Resources").(object))
	maps.Copy(resources, at(functionstest.Load("member.yaml").Object, "Resources").(object))
	for id, r := range resources {
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
	"AWS::Serverless::Function":     {"FunctionName", "PackageType", "TenancyConfig"},
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

// What AWS's services may do in the stack's name they may do for this account alone: each
// statement that names one says so, or names the resource that it acts for.
func TestServicesActForThisAccount(t *testing.T) {
	account, found := ref("AWS::AccountId"), 0
	var visit func(where string, value any)
	visit = func(where string, value any) {
		switch value := value.(type) {
		case []any:
			for _, v := range value {
				visit(where, v)
			}
		case object:
			for name, v := range value {
				visit(where+" "+name, v)
			}
			service := at(value, "Principal", "Service")
			if service == nil || value["Effect"] != "Allow" {
				return
			}
			found++
			forAccount := reflect.DeepEqual(at(value, "Condition", "StringEquals", "aws:SourceAccount"), account)
			if forResource := at(value, "Condition", "ArnEquals", "aws:SourceArn") != nil; !forAccount && !forResource {
				t.Errorf("%s: %v is admitted whoever it acts for (%v): want aws:SourceAccount or aws:SourceArn", where, service, value["Condition"])
			}
			alarms := object{"Fn::Sub": "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*"}
			if value["Action"] == "sns:Publish" && !reflect.DeepEqual(at(value, "Condition", "ArnLike", "aws:SourceArn"), alarms) {
				t.Errorf("%s: %v may publish for %v, want this account's alarms alone", where, service, value["Condition"])
			}
		}
	}
	visit("", at(template().Object, "Resources"))
	if found < 8 { // five roles' trust, the topic, its key, the queue
		t.Errorf("found only %d statements", found)
	}
}

// What a scanner finds and the template leaves says why, in a sentence.
func TestWhatScannersFindIsExplained(t *testing.T) {
	left := map[string]string{}
	for id, r := range at(template().Object, "Resources").(object) {
		for _, skip := range list(at(r, "Metadata", "checkov", "skip")) {
			check, why := fmt.Sprint(at(skip, "id")), fmt.Sprint(at(skip, "comment"))
			if len(strings.Fields(why)) < 5 || !strings.HasSuffix(why, ".") {
				t.Errorf("%s leaves %s for the reason %q", id, check, why)
			}
			if said, ok := left[check]; ok && said != why {
				t.Errorf("%s leaves %s because %q, others because %q", id, check, why, said)
			}
			left[check] = why
		}
	}
	if got, want := slices.Sorted(maps.Keys(left)), []string{"CKV_AWS_115", "CKV_AWS_116", "CKV_AWS_117", "CKV_AWS_18", "CKV_AWS_27"}; !slices.Equal(got, want) {
		t.Errorf("the template leaves %v, want %v", got, want)
	}
}

// In each partition a function calls that partition's AWS, with UseFips by the endpoints
// that are for it, and says which release of iamkeys calls.
func TestCalls(t *testing.T) {
	for _, call := range []struct{ region, fips, sts, secrets, iam string }{
		{"eu-west-1", "false", "sts.eu-west-1.amazonaws.com", "secretsmanager.eu-west-1.amazonaws.com", "iam.amazonaws.com"},
		{"us-east-1", "true", "sts-fips.us-east-1.amazonaws.com", "secretsmanager-fips.us-east-1.amazonaws.com", "iam-fips.amazonaws.com"},
		{"us-gov-west-1", "true", "sts.us-gov-west-1.amazonaws.com", "secretsmanager-fips.us-gov-west-1.amazonaws.com", "iam.us-gov.amazonaws.com"},
		{"us-gov-west-1", "false", "sts.us-gov-west-1.amazonaws.com", "secretsmanager.us-gov-west-1.amazonaws.com", "iam.us-gov.amazonaws.com"},
		{"cn-north-1", "false", "sts.cn-north-1.amazonaws.com.cn", "secretsmanager.cn-north-1.amazonaws.com.cn", "iam.cn-north-1.amazonaws.com.cn"},
	} {
		for name, value := range map[string]string{"AWS_REGION": call.region, "AWS_USE_FIPS_ENDPOINT": call.fips, "AWS_ENDPOINT_URL": "", "AWS_ACCESS_KEY_ID": "function", "AWS_SECRET_ACCESS_KEY": "function"} {
			t.Setenv(name, value)
		}
		settings := lambdafn.Environment()
		config := settings.AWS()
		if err := settings.Err(); err != nil {
			t.Fatal(err)
		}
		var asked []string
		config.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.Scheme+"://"+r.URL.Host)
			if agent := r.Header.Get("User-Agent"); !strings.Contains(agent, "app/iamkeys-"+iamkeys.Version) {
				t.Errorf("the user agent is %s", agent)
			}
			return nil, errors.New("not sent")
		})
		config.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
		_, _ = sts.NewFromConfig(config).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		_, _ = secretsmanager.NewFromConfig(config).DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("x")})
		_, _ = iam.NewFromConfig(config).ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{})
		if want := []string{"https://" + call.sts, "https://" + call.secrets, "https://" + call.iam}; !slices.Equal(asked, want) {
			t.Errorf("%s, FIPS %s: called %v, want %v", call.region, call.fips, asked, want)
		}
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// In GovCloud and China ARNs, domains and service names are others.
func TestPartitions(t *testing.T) {
	tpl := template()
	text := regexp.MustCompile(`(?m)^\s+AllowedPattern: .*$`).ReplaceAllString(tpl.Text+functionstest.Load("member.yaml").Text, "")
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
