package main

import (
	"strings"
	"testing"
	"time"
)

// TestSchedule deploys the stack with a schedule that rings every minute, as
// often as one can, and waits for it. It is the only test that waits, and the
// last one, in the last file: from here on audits may run at any moment.
func TestSchedule(t *testing.T) {
	c := deployedStack(t)
	if testing.Short() {
		t.Skip("waits for the schedule")
	}
	c.seed(t, "schedule-stale", AccessKey{CreateDate: ago(200 * day)})
	if err := c.Deploy(t.Context(), map[string]string{"PropagationSeconds": "0", "AuditSchedule": "rate(1 minute)", "Notify": "always"}); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(5 * time.Minute); time.Now().Before(limit); {
		if mails := c.Published(); len(mails) > 0 {
			if !strings.Contains(mails[0].Text("email"), "schedule-stale") {
				t.Errorf("the mail does not have the stale user:\n%s", mails[0].Text("email"))
			}
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Error("the schedule did not ring within five minutes")
}
