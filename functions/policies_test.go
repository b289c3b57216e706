package functions

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"iamkeys/functions/functionstest"
)

// changing are the actions that change keys.
var changing = []string{"iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey"}

const (
	ourUsers, anyUser = "arn:${AWS::Partition}:iam::${AWS::AccountId}:user${UserPath}*", "arn:${AWS::Partition}:iam::${AWS::AccountId}:user/*"
	reports, markers  = "${ReportBucket.Arn}/reports/*", "${ReportBucket.Arn}/markers/*"
	states            = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:"
	rotations         = states + "execution:${AWS::StackName}-Rotation:*"
	retirements       = states + "execution:${AWS::StackName}-Retirement:*"
)

// reach is what an action is allowed on, by the action or, where it differs, by the
// function and the action; the rest are users and secrets.
var reach = map[string][]string{
	// IAM and Organizations offer no resource for these.
	"organizations:ListAccounts": {"*"}, "iam:GenerateCredentialReport": {"*"}, "iam:GetCredentialReport": {"*"}, "iam:GetAccountAuthorizationDetails": {"*"}, "iam:GetAccountSummary": {"*"},
	"iam:ListAttachedGroupPolicies": {"arn:${AWS::Partition}:iam::${AWS::AccountId}:group/*"},
	"s3:GetObject":                  {reports}, "exposed s3:GetObject": {markers}, "digest s3:GetObject": {reports, markers},
	"s3:PutObject": {reports}, "exposed s3:PutObject": {markers}, "digest s3:PutObject": {markers}, "notify s3:PutObject": {markers},
	"sns:Publish":                     {"NotificationTopic", "ChatTopic if HasChat"},
	"ses:SendEmail":                   {"arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:identity/* if HasSenderAddress from SenderAddress"},
	"sts:AssumeRole":                  {"arn:${AWS::Partition}:iam::*:role${RolePath}${MemberRole} if IsOrganization"},
	"states:ListExecutions":           {states + "stateMachine:${AWS::StackName}-Rotation", states + "stateMachine:${AWS::StackName}-Retirement"},
	"states:DescribeExecution":        {rotations, retirements},
	"due states:DescribeExecution":    {rotations},
	"unused states:DescribeExecution": {retirements},
	"securityhub:BatchImportFindings": {"arn:${AWS::Partition}:securityhub:${AWS::Region}:${AWS::AccountId}:product/${AWS::AccountId}/default if SendsFindings"},
}

// looking are the functions that look at all users; they change none.
var looking = []string{"audit", "due", "exposed", "retire", "unused"}

func reachOf(folder, action string) []string {
	for _, name := range []string{folder + " " + action, action} {
		if resources := reach[name]; resources != nil {
			return resources
		}
	}
	switch {
	case strings.HasPrefix(action, "secretsmanager:"):
		return []string{"arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${SecretPrefix}*"}
	case slices.Contains(looking, folder):
		return []string{anyUser}
	}
	return []string{ourUsers}
}

// beside are the rights that an action needs beside its own, by action or by right.
var beside = map[string][]string{
	"s3:GetObject":                  {"s3:ListBucket on ReportBucket.Arn", "kms:Decrypt on KmsKeyArn if HasKmsKey through s3"}, // ListBucket, or a missing object is AccessDenied
	"s3:PutObject":                  {"kms:GenerateDataKey on KmsKeyArn if HasKmsKey through s3"},
	"s3:PutObject on " + reports:    {"s3:PutObjectTagging on " + reports}, // a run's files are tagged, to expire
	"sns:Publish":                   {"kms:GenerateDataKey on TopicKey.Arn through sns", "kms:Decrypt on TopicKey.Arn through sns"},
	"secretsmanager:PutSecretValue": {"kms:GenerateDataKey on SecretKmsKeyArn if HasSecretKmsKey through secretsmanager", "kms:Decrypt on SecretKmsKeyArn if HasSecretKmsKey through secretsmanager"},
}

// A statement is one of a policy, with its actions and resources as lists.
type statement struct {
	effect             string
	actions, resources []string
	when               string // the template's condition under which it stands, "" for always
	condition          object
}

// statements gives the statements of a resource's Policies.
func statements(properties object) []statement {
	var found []statement
	for _, policy := range list(properties["Policies"]) {
		if document := at(policy, "PolicyDocument"); document != nil { // a role's policy
			policy = document
		}
		for _, s := range list(at(policy, "Statement")) {
			var st statement
			if branches := list(at(s, "Fn::If")); branches != nil {
				st.when, s = branches[0].(string), branches[1]
			}
			st.effect, st.actions = fmt.Sprint(at(s, "Effect")), words(at(s, "Action"))
			st.condition, _ = at(s, "Condition").(object)
			for _, r := range list(at(s, "Resource")) {
				name := r
				for _, function := range []string{"Fn::Sub", "Fn::GetAtt", "Ref"} {
					if of := at(r, function); of != nil {
						name = of
					}
				}
				st.resources = append(st.resources, fmt.Sprint(name))
			}
			found = append(found, st)
		}
	}
	return found
}

// rights gives each action on each resource that the statement is about, such as
// "kms:Decrypt on KmsKeyArn if HasKmsKey through s3".
func (s statement) rights() []string {
	on := ""
	if s.when != "" {
		on = " if " + s.when
	}
	switch through, _ := at(s.condition, "StringLike", "kms:ViaService", "Fn::Sub").(string); {
	case strings.HasSuffix(through, ".${AWS::Region}.*"): // a service's name ends otherwise in China
		on += " through " + strings.TrimSuffix(through, ".${AWS::Region}.*")
	case reflect.DeepEqual(s.condition, object{"StringEquals": object{"ses:FromAddress": ref("SenderAddress")}}):
		on += " from SenderAddress"
	case reflect.DeepEqual(s.condition, object{"Null": object{"aws:ResourceTag/iamkeys:protect": "false"}}): // the tag is there, whatever its value
		on += " that is protected"
	case s.condition != nil:
		on += fmt.Sprint(" given ", s.condition)
	}
	var all []string
	for _, action := range s.actions {
		for _, resource := range s.resources {
			all = append(all, action+" on "+resource+on)
		}
	}
	return all
}

// actionsOf gives the IAM actions that an operation's ports stand for.
func actionsOf(operation any) []string {
	actions := map[string]bool{}
	for field, types := range functionstest.Ports(operation) {
		for _, port := range types {
			for i := range port.NumMethod() {
				actions[functionstest.Services[field].Prefix+":"+port.Method(i).Name] = true
			}
		}
	}
	delete(actions, "sts:GetCallerIdentity") // signed with the new key, it needs no permission
	return slices.Sorted(maps.Keys(actions))
}

// A function's policy is what its operation calls, where this stack has it, and no more.
// What changes keys is denied for users that have the tag iamkeys:protect.
func TestPolicies(t *testing.T) {
	for folder, properties := range template().Functions() {
		wanted := map[string]bool{}
		for _, action := range actionsOf(operations()[folder]) {
			for _, resource := range reachOf(folder, action) {
				right := action + " on " + resource
				for _, r := range slices.Concat([]string{right}, beside[action], beside[right]) {
					wanted["Allow "+r] = true
				}
			}
			if slices.Contains(changing, action) {
				wanted["Deny "+action+" on "+anyUser+" that is protected"] = true
			}
		}
		has := map[string]bool{}
		for _, s := range statements(properties) {
			for _, r := range s.rights() {
				has[s.effect+" "+r] = true
			}
		}
		for r := range wanted {
			if !has[r] {
				t.Errorf("%s needs, and does not have: %s", folder, r)
			}
		}
		for r := range has {
			if !wanted[r] {
				t.Errorf("%s has, and its operation has no use for: %s", folder, r)
			}
		}
	}
}

// Functions that change keys do it at once or not at all: an order that waited in
// Lambda's queue could be carried out after the person who gave it has gone back on it.
func TestChangesAreNotRepeated(t *testing.T) {
	for folder, properties := range template().Functions() {
		changes := slices.ContainsFunc(actionsOf(operations()[folder]), func(action string) bool { return slices.Contains(changing, action) })
		at0 := at(properties, "EventInvokeConfig", "MaximumRetryAttempts") == 0 && at(properties, "EventInvokeConfig", "MaximumEventAgeInSeconds") == 60
		if changes != at0 {
			t.Errorf("%s changes keys: %t; takes no asynchronous retries and no event older than a minute: %t", folder, changes, at0)
		}
	}
}

// Every role takes the company's boundary and path: many accounts allow no role without.
func TestRoles(t *testing.T) {
	tpl := template()
	boundary, path := object{"Fn::If": []any{"HasPermissionsBoundary", ref("PermissionsBoundaryArn"), ref("AWS::NoValue")}}, ref("RolePath")
	bounded := func(what string, properties any, pathName string) {
		if !reflect.DeepEqual(at(properties, "PermissionsBoundary"), boundary) || !reflect.DeepEqual(at(properties, pathName), path) {
			t.Errorf("%s: PermissionsBoundary is %v and %s %v", what, at(properties, "PermissionsBoundary"), pathName, at(properties, pathName))
		}
	}
	bounded("Globals.Function", at(tpl.Object, "Globals", "Function"), "RolePath")
	for id, properties := range tpl.Resources("AWS::Serverless::StateMachine") {
		bounded(id, properties, "RolePath")
	}
	for id, properties := range tpl.Resources("AWS::IAM::Role") {
		bounded(id, properties, "Path")
		if properties["RoleName"] != nil {
			t.Errorf("%s has a name of its own: a second stack could not be deployed, and the first would need CAPABILITY_NAMED_IAM", id)
		}
	}
	for id, properties := range tpl.Resources("AWS::Serverless::Function") {
		for _, name := range []string{"PermissionsBoundary", "RolePath", "Role", "AssumeRolePolicyDocument"} {
			if properties[name] != nil {
				t.Errorf("%s sets %s for itself", id, name)
			}
		}
	}
	// What SAM would make a role for by itself, which takes no path.
	for _, kind := range []string{"AWS::Serverless::Function", "AWS::Serverless::StateMachine"} {
		for id, properties := range tpl.Resources(kind) {
			events, _ := properties["Events"].(object)
			for name, e := range events {
				if at(e, "Properties", "RoleArn") == nil {
					t.Errorf("%s, event %s has no RoleArn", id, name)
				}
			}
		}
	}
}
