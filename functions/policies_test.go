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
	"s3:GetObject":                  {"s3:ListBucket"}, // or a missing object is AccessDenied
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
				if prefix := functionstest.Services[field].Prefix; prefix != "" {
					actions[prefix+":"+port.Method(i).Name] = true
				}
			}
		}
	}
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
		for _, action := range actionsOf(operations()[folder]) {
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
	// IAM and Organizations offer no resource for these.
	everywhere := []string{"iam:GenerateCredentialReport", "iam:GetCredentialReport", "iam:GetAccountAuthorizationDetails", "iam:GetAccountSummary", "organizations:ListAccounts"}
	for folder, properties := range template().Functions() {
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
