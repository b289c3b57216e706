package functions

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSchedules(t *testing.T) {
	tpl := template()
	count := 0
	for _, kind := range []string{"AWS::Serverless::Function", "AWS::Serverless::StateMachine"} {
		for id, properties := range tpl.Resources(kind) {
			events, _ := properties["Events"].(object)
			for _, e := range events {
				count++
				p, _ := at(e, "Properties").(object)
				if at(e, "Type") != "ScheduleV2" {
					t.Errorf("%s is started by %v, not by EventBridge Scheduler (ScheduleV2), which knows time zones and dead letters", id, at(e, "Type"))
				}
				// A function understands the schedule's own notification; an execution takes the time alone.
				if input := map[string]any{"OrganizationAuditStateMachine": `{"time": "<aws.scheduler.scheduled-time>"}`}[id]; p["Input"] != input {
					t.Errorf("%s: the schedule has the Input %v, want %v: the scheduled time must get through", id, p["Input"], input)
				}
				if p["OmitName"] != true {
					t.Errorf("%s: without OmitName SAM names the schedule the same in every stack of the account", id)
				}
				// Nominations count those of the last 20 hours: an event may come twice, but not that late.
				if age, _ := at(p, "RetryPolicy", "MaximumEventAgeInSeconds").(int); age == 0 || strings.Contains(kind, "StateMachine") && age > 3600 {
					t.Errorf("%s: the schedule's event may be %d s old; one of a workflow is at most an hour old", id, age)
				}
				role := strings.TrimSuffix(fmt.Sprint(at(p, "RoleArn", "Fn::GetAtt")), ".Arn")
				var grants []string
				for _, s := range statements(object{"Policies": at(tpl.Object, "Resources", role, "Properties", "Policies")}) {
					grants = append(grants, s.effect+" "+strings.Join(s.actions, " ")+" "+strings.Join(s.resources, " "))
				}
				start := map[string]string{"AWS::Serverless::Function": "lambda:InvokeFunction " + id + ".Arn", "AWS::Serverless::StateMachine": "states:StartExecution " + id}[kind]
				if !slices.Equal(grants, []string{"Allow " + start, "Allow sqs:SendMessage DeadLetterQueue.Arn"}) {
					t.Errorf("%s: the schedule's role %s has %v; it starts %s and hands over dead letters", id, role, grants, id)
				}
				if p["RetryPolicy"] == nil || !reflect.DeepEqual(p["DeadLetterConfig"], object{"Arn": object{"Fn::GetAtt": "DeadLetterQueue.Arn"}}) {
					t.Errorf("%s: the schedule needs a RetryPolicy and the dead-letter queue: a run that did not start must not go unseen", id)
				}
			}
		}
	}
	// Either the account is audited or the organization, by a condition that both schedules name.
	account, organization := at(tpl.Functions()["audit"], "Events", "Schedule", "Properties", "State"), at(tpl.Resources("AWS::Serverless::StateMachine")["OrganizationAuditStateMachine"], "Events", "Schedule", "Properties", "State")
	if !reflect.DeepEqual(account, object{"Fn::If": []any{"IsOrganization", "DISABLED", "ENABLED"}}) || !reflect.DeepEqual(organization, object{"Fn::If": []any{"IsOrganization", "ENABLED", "DISABLED"}}) {
		t.Errorf("the account's schedule is %v, the organization's %v", account, organization)
	}
	if count == 0 {
		t.Error("nothing is scheduled")
	}
	for id, rule := range tpl.Resources("AWS::Events::Rule") {
		for _, target := range list(rule["Targets"]) {
			role := strings.TrimSuffix(fmt.Sprint(at(target, "RoleArn", "Fn::GetAtt")), ".Arn")
			started := fmt.Sprint(at(target, "Arn", "Ref"))
			granted := statements(object{"Policies": at(tpl.Object, "Resources", role, "Properties", "Policies")})
			if len(granted) != 1 || !slices.Equal(granted[0].actions, []string{"states:StartExecution"}) || !slices.Equal(granted[0].resources, []string{started}) {
				t.Errorf("%s: the role %s has %v; it starts %s", id, role, granted, started)
			}
			if at(target, "RetryPolicy") == nil || !reflect.DeepEqual(at(target, "DeadLetterConfig"), object{"Arn": object{"Fn::GetAtt": "DeadLetterQueue.Arn"}}) {
				t.Errorf("%s: the rule needs a RetryPolicy and the dead-letter queue", id)
			}
			admitted := false
			for _, s := range list(at(tpl.Object, "Resources", "DeadLetterQueuePolicy", "Properties", "PolicyDocument", "Statement")) {
				admitted = admitted || reflect.DeepEqual(at(s, "Condition"), object{"ArnEquals": object{"aws:SourceArn": object{"Fn::GetAtt": id + ".Arn"}}}) && at(s, "Principal", "Service") == "events.amazonaws.com"
			}
			if !admitted {
				t.Errorf("%s: the queue does not admit it, and its dead letters would be lost", id)
			}
		}
	}
	// Scheduler only hands the event over, and Lambda the audit's answer to digest: what fails for good after that must not go unseen.
	given := func(kind, target string) object {
		return object{"Type": kind, "Destination": object{"Fn::GetAtt": target + ".Arn"}}
	}
	for folder, want := range map[string]object{
		"audit":  {"OnFailure": given("SQS", "DeadLetterQueue"), "OnSuccess": given("Lambda", "DigestFunction")},
		"digest": {"OnFailure": given("SQS", "DeadLetterQueue")},
	} {
		if got := at(tpl.Functions()[folder], "EventInvokeConfig", "DestinationConfig"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: Lambda hands on %v, want %v", folder, got, want)
		}
	}
}
