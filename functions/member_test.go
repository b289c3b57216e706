package functions

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys/audit"
)

// The members' role may do what the audit does in their accounts, and nothing else.
func TestMemberRole(t *testing.T) {
	tpl := functionstest.Load("member.yaml")
	role := at(tpl.Object, "Resources", "MemberRole", "Properties").(object)
	want := map[string]bool{}
	for field, types := range functionstest.Ports(audit.Access{}) {
		for _, port := range types {
			for i := range port.NumMethod() {
				want[functionstest.Services[field].Prefix+":"+port.Method(i).Name] = true
			}
		}
	}
	have := map[string]bool{}
	for _, s := range statements(role) {
		for _, action := range s.actions {
			have[action] = true
			resource := "*"
			switch {
			case reach[action] == nil && strings.HasPrefix(action, "iam:"):
				resource = anyUser
			case strings.HasPrefix(action, "securityhub:"):
				resource = "arn:${AWS::Partition}:securityhub:*:${AWS::AccountId}:product/${AWS::AccountId}/default"
			}
			if s.effect != "Allow" || !slices.Equal(s.resources, []string{resource}) {
				t.Errorf("%s is %s on %v, want it allowed on %s", action, s.effect, s.resources, resource)
			}
		}
	}
	if !maps.Equal(have, want) {
		t.Errorf("the role may do %v; the audit does %v in a member account", slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
	}
	for action := range have {
		if changes := regexp.MustCompile(`:(Create|Update|Delete|Put|Attach|Add|Tag|Set|\*)`); changes.MatchString(action) {
			t.Errorf("%s changes something: nothing in a member account can be changed through this role", action)
		}
	}

	trust := at(role, "AssumeRolePolicyDocument", "Statement").([]any)
	wantTrust := []any{object{
		"Effect": "Allow", "Action": "sts:AssumeRole",
		"Principal": object{"AWS": object{"Fn::Sub": "arn:${AWS::Partition}:iam::${HubAccountId}:root"}},
		"Condition": object{
			"ArnLike": object{"aws:PrincipalArn": object{"Fn::Sub": "arn:${AWS::Partition}:iam::${HubAccountId}:role${RolePath}${HubStackName}-AuditFunctionRole-*"}},
			"StringEquals": object{
				"aws:PrincipalOrgID": ref("OrganizationId"),
				"sts:ExternalId":     object{"Fn::If": []any{"HasExternalId", ref("ExternalId"), ref("AWS::NoValue")}},
			},
		},
	}}
	if !reflect.DeepEqual(trust, wantTrust) {
		t.Errorf("the role trusts %v\nwant %v", trust, wantTrust)
	}
	for name, want := range map[string]any{"RoleName": ref("RoleName"), "Path": ref("RolePath"), "PermissionsBoundary": object{"Fn::If": []any{"HasPermissionsBoundary", ref("PermissionsBoundaryArn"), ref("AWS::NoValue")}}} {
		if !reflect.DeepEqual(role[name], want) {
			t.Errorf("%s is %v, want %v", name, role[name], want)
		}
	}
}

func TestMemberParameters(t *testing.T) {
	tpl, hub := functionstest.Load("member.yaml"), template()
	parameters := at(tpl.Object, "Parameters").(object)
	if got, want := slices.Sorted(maps.Keys(parameters)), []string{"ExternalId", "HubAccountId", "HubStackName", "OrganizationId", "PermissionsBoundaryArn", "RoleName", "RolePath", "SecurityHub"}; !slices.Equal(got, want) {
		t.Errorf("parameters %v, want %v", got, want)
	}
	for name, p := range parameters {
		if at(p, "Description") == nil || at(p, "ConstraintDescription") == nil || at(p, "AllowedPattern") == nil && at(p, "AllowedValues") == nil {
			t.Errorf("parameter %s needs a Description, bounds and a ConstraintDescription", name)
		}
		if pattern, ok := at(p, "AllowedPattern").(string); ok && at(p, "Default") != nil && !regexp.MustCompile(pattern).MatchString(at(p, "Default").(string)) {
			t.Errorf("parameter %s: its Default does not match its AllowedPattern", name)
		}
	}
	for _, name := range []string{"ExternalId", "RolePath", "PermissionsBoundaryArn"} { // what hub and members must have alike
		if got, want := at(parameters[name], "AllowedPattern"), at(hub.Object, "Parameters", name, "AllowedPattern"); got != want {
			t.Errorf("parameter %s takes %v here and %v in template.yaml", name, got, want)
		}
	}
	// CloudFormation names a role stack-logical ID-12 characters or so, and cuts at 64.
	pattern := regexp.MustCompile(at(parameters["HubStackName"], "AllowedPattern").(string))
	if longest := strings.Repeat("x", 30); !pattern.MatchString(longest) || pattern.MatchString(longest+"x") || len(longest+"-AuditFunctionRole-")+13 > 64 {
		t.Error("HubStackName must be 30 characters at most, and all of them")
	}
}
