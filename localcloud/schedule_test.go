package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// TestSchedule deploys the stack with a schedule that rings every minute, as
// often as one can, and waits for it. It is the only test that waits, and the
// last one, in the last file: audits that it began may still run after it.
func TestSchedule(t *testing.T) {
	c := deployedStack(t)
	if testing.Short() {
		t.Skip("waits for the schedule")
	}
	inTime := c.scheduled(t)
	// The schedule starts the organization's audit; there may be one already.
	if err := (wire{c.moto.String(), demoManagement}).target(t.Context(), "organizations", "AWSOrganizationsV20161128.DescribeOrganization", map[string]any{}, nil); err != nil {
		if err := c.organize(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.seed(t, "schedule-stale", AccessKey{CreateDate: ago(200 * day)})
	c.configure(t, map[string]string{"AuditSchedule": "cron(* * * * ? *)", "Notify": "always"})
	for limit := time.Now().Add(5 * time.Minute); time.Now().Before(limit); {
		if mails := c.Published(); len(mails) > 0 {
			if kind := mails[0].Attributes["kind"]; kind != "organization" {
				t.Errorf("the schedule's run sent a message of kind %s", kind)
			}
			if !strings.Contains(mails[0].Text("email"), "schedule-stale") {
				t.Errorf("the mail does not have the stale user:\n%s", mails[0].Text("email"))
			}
			inTime()
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Error("the schedule did not ring within five minutes")
}

// scheduled makes a schedule whose Input asks for its time, as the
// organization's has, and returns what looks at what it sent.
func (c *Cloud) scheduled(t *testing.T) func() {
	t.Helper()
	queue, err := sqs.NewFromConfig(c.Config()).CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("scheduled")})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Truncate(time.Second)
	err = c.wire().rest(t.Context(), "scheduler", http.MethodPost, "/schedules/asks-its-time", map[string]any{
		"ScheduleExpression": "at(" + began.UTC().Format("2006-01-02T15:04:05") + ")", "FlexibleTimeWindow": map[string]any{"Mode": "OFF"},
		"Target": map[string]any{"Arn": "arn:aws:sqs:" + region + ":" + accountID + ":scheduled", "RoleArn": "arn:aws:iam::" + accountID + ":role/test",
			"Input": `{"time": "<aws.scheduler.scheduled-time>", "of": "<aws.scheduler.schedule-arn>"}`}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		body, _ := c.receive(t, *queue.QueueUrl)
		var sent struct {
			Time time.Time
			Of   string
		}
		if err := json.Unmarshal([]byte(body), &sent); err != nil || sent.Time.Before(began) || sent.Time.After(time.Now()) || !strings.HasSuffix(sent.Of, "/asks-its-time") {
			t.Errorf("the schedule sent %s (%v)", body, err)
		}
	}
}
