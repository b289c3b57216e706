package functions

import (
	"reflect"
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
	onFailure := at(tpl.Functions()["audit"], "EventInvokeConfig", "DestinationConfig", "OnFailure")
	if !reflect.DeepEqual(onFailure, object{"Type": "SQS", "Destination": object{"Fn::GetAtt": "DeadLetterQueue.Arn"}}) {
		t.Errorf("audit's OnFailure is %v: Scheduler only hands the event over, so an audit that fails for good must reach the dead-letter queue from Lambda", onFailure)
	}
}
