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

// dependsOn are the permissions that an action needs beside its own.
var dependsOn = map[string][]string{
	"s3:GetObject":                  {"s3:ListBucket", "kms:Decrypt"},               // ListBucket, or a missing object is AccessDenied
	"s3:PutObject":                  {"s3:PutObjectTagging", "kms:GenerateDataKey"}, // a run's files are tagged, to expire
	"sns:Publish":                   {"kms:GenerateDataKey", "kms:Decrypt"},
	"secretsmanager:PutSecretValue": {"kms:GenerateDataKey", "kms:Decrypt"},
}

// changing are the actions that change keys.
var changing = []string{"iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey"}

const userARN, secretARN = "arn:${AWS::Partition}:iam::${AWS::AccountId}:user", "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${SecretPrefix}*"

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
		if document := at(policy, "PolicyDocument"); document != nil { // a role's policy
			policy = document
		}
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

func TestPoliciesAreTheOperationsActions(t *testing.T) {
	for folder, properties := range template().Functions() {
		allowed := map[string]bool{}
		for _, s := range statements(properties) {
			for _, action := range s.actions {
				if s.effect == "Allow" {
					allowed[action] = true
				}
			}
		}
		wanted := map[string]bool{}
		marks := slices.ContainsFunc(statements(properties), func(s statement) bool { // nothing but markers, which never expire
			return slices.Contains(s.actions, "s3:PutObject") && slices.Equal(s.resources, []string{"${ReportBucket.Arn}/markers/*"})
		})
		for _, action := range actionsOf(operations()[folder]) {
			wanted[action] = true
			for _, dependency := range dependsOn[action] {
				wanted[dependency] = dependency != "s3:PutObjectTagging" || !marks
			}
		}
		for action, wants := range wanted {
			if wants && !allowed[action] {
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

// A scope is what a policy may allow an action on: these resources, and no others.
var scopes = map[string][]string{
	// IAM and Organizations offer no resource for these.
	"organizations:ListAccounts": {"*"}, "iam:GenerateCredentialReport": {"*"}, "iam:GetCredentialReport": {"*"}, "iam:GetAccountAuthorizationDetails": {"*"}, "iam:GetAccountSummary": {"*"},
	"s3:ListBucket": {"ReportBucket.Arn"}, // a condition on s3:prefix would never hold: GetObject carries none
	"s3:GetObject":  {"${ReportBucket.Arn}/reports/*", "${ReportBucket.Arn}/markers/*"}, "s3:PutObject": {"${ReportBucket.Arn}/reports/*", "${ReportBucket.Arn}/markers/*"},
	"s3:PutObjectTagging":             {"${ReportBucket.Arn}/reports/*"},
	"iam:ListAttachedGroupPolicies":   {"arn:${AWS::Partition}:iam::${AWS::AccountId}:group/*"},
	"sns:Publish":                     {"NotificationTopic", "ChatTopic"},
	"ses:SendEmail":                   {"arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:identity/*"},
	"sts:AssumeRole":                  {"arn:${AWS::Partition}:iam::*:role${RolePath}${MemberRole}"},
	"states:ListExecutions":           {"arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:${AWS::StackName}-Rotation", "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:${AWS::StackName}-Retirement"},
	"states:DescribeExecution":        {"arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${AWS::StackName}-Rotation:*", "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${AWS::StackName}-Retirement:*"},
	"securityhub:BatchImportFindings": {"arn:${AWS::Partition}:securityhub:${AWS::Region}:${AWS::AccountId}:product/${AWS::AccountId}/default"},
}

// keyOf is the KMS key that a service uses for a function.
var keyOf = map[string]string{"secretsmanager": "SecretKmsKeyArn", "sns": "TopicKey.Arn", "s3": "KmsKeyArn"}

func TestPoliciesAreScoped(t *testing.T) {
	for folder, properties := range template().Functions() {
		users := userARN + "${UserPath}*"
		if folder == "audit" || folder == "due" || folder == "exposed" || folder == "retire" || folder == "unused" {
			users = userARN + "/*" // they look at all users and change none
		}
		var changes, denied []string
		for _, s := range statements(properties) {
			for _, action := range s.actions {
				if s.effect == "Deny" {
					condition := object{"Null": object{"aws:ResourceTag/iamkeys:protect": "false"}}
					if !slices.Equal(s.resources, []string{userARN + "/*"}) || !reflect.DeepEqual(s.condition, condition) {
						t.Errorf("%s: the Deny must be for every user that has the tag iamkeys:protect, whatever its value: it is on %v if %v", folder, s.resources, s.condition)
					}
					denied = append(denied, action)
					continue
				}
				if slices.Contains(changing, action) {
					changes = append(changes, action)
				}
				may, ok := scopes[action]
				switch prefix, _, _ := strings.Cut(action, ":"); {
				case ok:
				case prefix == "iam":
					may = []string{users}
				case prefix == "secretsmanager":
					may = []string{secretARN}
				case prefix == "kms":
					through, _ := at(s.condition, "StringLike", "kms:ViaService", "Fn::Sub").(string)
					service, region, _ := strings.Cut(through, ".")
					if may = []string{keyOf[service]}; region != "${AWS::Region}.*" {
						t.Errorf("%s: %s is allowed if %v: a function uses a key through the service that encrypts with it, whose name ends otherwise in China", folder, action, s.condition)
					}
				}
				for _, resource := range s.resources {
					if !slices.Contains(may, resource) {
						t.Errorf("%s: %s is allowed on %s, want one of %v: a function reaches only what this stack is for", folder, action, resource, may)
					}
				}
			}
		}
		slices.Sort(changes)
		slices.Sort(denied)
		if !slices.Equal(changes, denied) {
			t.Errorf("%s may do %v, and for users tagged iamkeys:protect %v is denied: the tag must stop every change", folder, changes, denied)
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
