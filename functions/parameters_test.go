package functions

import (
	"fmt"
	"go/ast"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/lambdafn"
)

// A function's environment is what its main reads, and the template's values are
// such as the function accepts: one that does not start helps nobody.
func TestEnvironmentIsWhatMainReads(t *testing.T) {
	getters := functionstest.Getters()
	for folder, properties := range template().Functions() {
		read := map[string]bool{}
		ast.Inspect(source(t, folder+"/main.go"), func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if s, ok := call.Fun.(*ast.SelectorExpr); ok && fmt.Sprint(s.X) == "env" {
					for _, v := range getters[s.Sel.Name] {
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
			if name == "" {
				name, _ = at(value, "Fn::Sub").(string)
			}
			if branches := list(at(value, "Fn::If")); branches != nil && branches[2] == "" { // a resource that is there on a condition
				name, _ = at(branches[1], "Ref").(string)
			}
			special := map[string]string{
				"ACCOUNT_ID": "AWS::AccountId", "PARTITION": "AWS::Partition", "NOTIFICATION_TOPIC_ARN": "NotificationTopic", "CHAT_TOPIC_ARN": "ChatTopic",
				"SECRETS_ARN":                  "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret",
				"ROTATION_STATE_MACHINE_ARN":   "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:${AWS::StackName}-Rotation",
				"RETIREMENT_STATE_MACHINE_ARN": "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:${AWS::StackName}-Retirement",
			}[v]
			if name == "" || name != special && !strings.EqualFold(name, strings.ReplaceAll(v, "_", "")) {
				t.Errorf("%s: %s is %v; it must be the parameter or resource of that name", folder, v, value)
			}
		}
	}
}

func TestParameters(t *testing.T) {
	tpl := template()
	defaults := map[string]string{} // environment variable → what the template gives
	for folder := range operations() {
		maps.Copy(defaults, functionstest.New(nil).Environment(folder))
	}
	methods := map[string]string{} // environment variable, without _, in lower case → method of Settings
	for method, variables := range functionstest.Getters() {
		for _, v := range variables {
			methods[strings.ToLower(strings.ReplaceAll(v, "_", ""))] = method
		}
	}
	for name, p := range at(tpl.Object, "Parameters").(object) {
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
		if uses := strings.Count(tpl.Text, "!Ref "+name+"\n") + strings.Count(tpl.Text, "${"+name+"}") + strings.Count(tpl.Text, "!Ref "+name+",") + strings.Count(tpl.Text, "!Ref "+name+"]"); uses == 0 {
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
			settings := lambdafn.NewSettings(func(v string) (string, bool) {
				if strings.EqualFold(strings.ReplaceAll(v, "_", ""), name) {
					return fmt.Sprint(value), true
				}
				return defaults[v], true
			})
			reflect.ValueOf(settings).MethodByName(method).Call(nil)
			if err := settings.Err(); err != nil {
				t.Errorf("parameter %s admits %v, with which a function would not start: %v", name, value, err)
			}
		}
	}
	for _, name := range []string{
		"AuditSchedule", "ScheduleTimezone", "NotificationEmail", "Notify", "MaxAgeDays", "WarnAgeDays", "UnusedDays", "LingerDays", "OwnerTag", "SecretPrefix", "SecretKmsKeyArn",
		"UserPath", "QuietHours", "PollHours", "MaxWaitDays", "SoakDays", "PropagationSeconds", "ReportWaitSeconds", "RotateAgeDays", "MaxRotationsPerRun", "RotationMode",
		"RotationSchedule", "LogRetentionDays", "Architecture", "MemberRole", "ExternalId", "ExcludeAccounts", "AccountsAtOnce", "SecurityHub",
		"RetirementMode", "RetirementSchedule", "MaxRetirementsPerRun", "RetireAfterDays", "NoticeDays", "RetireSoakDays", "ActDays", "ExposureMode", "SenderAddress", "OwnerMailDomains", "Chat",
		"KmsKeyArn", "CodeSigningConfigArn", "UseFips", "AlarmTopicArn", "PermissionsBoundaryArn", "RolePath",
	} {
		if at(tpl.Object, "Parameters", name) == nil {
			t.Errorf("parameter %s is missing", name)
		}
	}
	if mode := at(tpl.Object, "Parameters", "ExposureMode", "Default"); mode != "tell" {
		t.Errorf("ExposureMode is %v by default; it must be tell: a key is switched off by a person's word, given before or then", mode)
	}
	for _, name := range []string{"RotationMode", "RetirementMode"} {
		if mode := at(tpl.Object, "Parameters", name, "Default"); mode != "plan" {
			t.Errorf("%s is %v by default; it must be plan: nothing changes keys that no person named, unless told to", name, mode)
		}
	}
	// What each function is given by default must get it going.
	for folder := range tpl.Functions() {
		env := functionstest.New(nil).Environment(folder)
		settings := lambdafn.NewSettings(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		for name := range env {
			if method, ok := methods[strings.ToLower(strings.ReplaceAll(name, "_", ""))]; ok {
				reflect.ValueOf(settings).MethodByName(method).Call(nil)
			}
		}
		if err := settings.Err(); err != nil {
			t.Errorf("%s does not start with the template's defaults: %v", folder, err)
		}
	}
}

// What retirement, exposure and owner mail begin with, and within which bounds: these
// figures are the contract's.
func TestParametersOfTheWays(t *testing.T) {
	tpl := template()
	for name, want := range map[string]struct{ standard, least, most, values any }{
		"RetirementMode":       {standard: "plan", values: []any{"off", "plan", "apply"}},
		"MaxRetirementsPerRun": {standard: 10, least: 1, most: 50},
		"RetireAfterDays":      {standard: 100, least: 45, most: 365},
		"NoticeDays":           {standard: 14, least: 4, most: 339},
		"RetireSoakDays":       {standard: 90, least: 1, most: 336},
		"ActDays":              {standard: "MON-THU"},
		"ExposureMode":         {standard: "tell", values: []any{"off", "tell", "deactivate"}},
		"SenderAddress":        {standard: ""},
		"OwnerMailDomains":     {standard: ""},
		"Chat":                 {standard: "off", values: []any{"off", "on"}},
	} {
		p := tpl.Object["Parameters"].(object)[name].(object)
		if p["Default"] != want.standard || p["MinValue"] != want.least || p["MaxValue"] != want.most || !reflect.DeepEqual(p["AllowedValues"], want.values) {
			t.Errorf("%s is %v, %v to %v or one of %v; want %+v", name, p["Default"], p["MinValue"], p["MaxValue"], p["AllowedValues"], want)
		}
	}
	for name, cases := range map[string]struct{ admitted, refused []string }{
		"ActDays":          {[]string{"MON-THU", "SUN", "MON,WED,FRI", "FRI-MON,WED"}, []string{"", "MON-", "Monday", "1-5", "MON,,TUE", "mon", "MON-TUE-WED", "*"}},
		"OwnerMailDomains": {[]string{"", "example.com", "example.com,mail.example.org"}, []string{"example", "@example.com", "example.com, example.org", "*.example.com", ".com", "example.com,"}},
		"SenderAddress":    {[]string{"", "iamkeys@example.com"}, []string{"iamkeys", "a@b@example.com", "IAM <iamkeys@example.com>", "a@example.com,b@example.com", "a b@example.com"}},
	} {
		pattern := regexp.MustCompile(fmt.Sprint(at(tpl.Object, "Parameters", name, "AllowedPattern")))
		for _, value := range append(cases.admitted, cases.refused...) {
			if got, want := pattern.MatchString(value), slices.Contains(cases.admitted, value); got != want {
				t.Errorf("%s admits %q: %t, want %t", name, value, got, want)
			}
		}
	}
	if weekly := at(tpl.Object, "Parameters", "RetirementSchedule", "Default"); weekly != "cron(0 8 ? * MON *)" {
		t.Errorf("RetirementSchedule is %v, which is not weekly", weekly)
	}
	// The rule lets through the six codes that have been seen, and is off in mode off alone.
	rule := tpl.Resources("AWS::Events::Rule")["ExposureRule"]
	want := object{"source": []any{"aws.health"}, "detail": object{"service": []any{"RISK"}, "eventTypeCode": []any{object{"prefix": "AWS_RISK_CREDENTIALS_"}, object{"prefix": "AWS_RISK_IAM_QUARANTINE"}}}}
	if !reflect.DeepEqual(rule["EventPattern"], want) || !reflect.DeepEqual(rule["State"], object{"Fn::If": []any{"ExposureIsOff", "DISABLED", "ENABLED"}}) {
		t.Errorf("ExposureRule is %v for %v", rule["State"], rule["EventPattern"])
	}
}
