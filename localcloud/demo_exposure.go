package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// The user whose key somebody pushes to a public repository.
const (
	demoLeakedUser = "mobile-app"
	demoLeakedKey  = "AKIADEMOMOBILE000001"
)

// healthEvent is AWS Health's event about these entities, as EventBridge hands it to the
// rule's target. No program may send one: sources that begin with aws. are AWS's own.
// https://docs.aws.amazon.com/health/latest/ug/aws-health-events-eventbridge-schema.html
func healthEvent(id, account, typeCode, statusCode string, at time.Time, entities ...string) []byte {
	when := at.UTC().Format("Mon, 2 Jan 2006 15:04:05 GMT")
	affected := []any{}
	for _, entity := range entities {
		affected = append(affected, map[string]any{"entityValue": entity, "status": "IMPAIRED", "lastUpdatedTime": when})
	}
	event, err := json.Marshal(map[string]any{
		"version": "0", "id": "7bf73129-1428-4cd3-a780-95db273d1602", "detail-type": "AWS Health Event", "source": "aws.health",
		"account": account, "time": at.UTC().Format(time.RFC3339), "region": region, "resources": slices.Clone(entities),
		"detail": map[string]any{
			"eventArn": "arn:aws:health:" + region + "::event/RISK/" + typeCode + "/" + typeCode + "_" + id, "service": "RISK", "eventTypeCode": typeCode, "eventTypeCategory": "issue",
			"eventRegion": region, "startTime": when, "lastUpdatedTime": when, "statusCode": statusCode, "eventScopeCode": "ACCOUNT_SPECIFIC", "communicationId": id,
			"page": "1", "totalPages": "1", "affectedAccount": account, "backupEvent": "false",
			"eventDescription": []any{map[string]any{"language": "en_US", "latestDescription": "An access key was found in public."}},
			"affectedEntities": affected,
		},
	})
	if err != nil {
		panic(err) // strings alone always encode
	}
	return event
}

func (c *Cloud) showExposure(ctx context.Context, w io.Writer) error {
	now := time.Now()
	_, err := c.SeedAccount(ctx, Account{Senders: []string{"example.com"}, Users: []User{{
		UserName: demoLeakedUser, CreateDate: now.Add(-60 * day), Tags: map[string]string{"owner": "mobile@example.com"}, AttachedPolicies: []string{"AdministratorAccess"},
		AccessKeys: []AccessKey{{AccessKeyID: demoLeakedKey, CreateDate: now.Add(-60 * day), LastUsedDate: now.Add(-time.Minute)}},
	}}})
	if err != nil {
		return err
	}
	event := healthEvent("1a2b3c", accountID, "AWS_RISK_CREDENTIALS_EXPOSED", "open", now, demoLeakedKey)
	c.Forget()
	began := time.Now()
	e, err := c.Execute(ctx, "ExposureStateMachine", "", event)
	if err != nil {
		return err
	}
	took := time.Since(began)
	if e.Status != "SUCCEEDED" {
		return fmt.Errorf("the exposure's workflow ended as %s: %s: %s", e.Status, e.Error, e.Cause)
	}
	notices := c.Published()
	if len(notices) != 1 {
		return fmt.Errorf("%d notices were sent of one exposed key, want one", len(notices))
	}
	fmt.Fprintf(w, "   AWS Health       AWS_RISK_CREDENTIALS_EXPOSED %s\n", demoLeakedKey)
	showNotice(w, notices[0])
	showMail(w, notices[0], "")
	fmt.Fprintf(w, "   %s from the event to the end, with %s\n", seconds(took), count(len(c.Calls()), "AWS call"))
	if err := c.showKeys(ctx, w, demoLeakedUser); err != nil {
		return err
	}
	if err := c.showOwnerMails(ctx, w); err != nil {
		return err
	}
	// AWS Health sends an event again, and its updates: nobody is told twice.
	c.Forget()
	if _, err := c.Execute(ctx, "ExposureStateMachine", "", event); err != nil {
		return err
	}
	if again := len(c.Published()); again != 0 {
		return fmt.Errorf("the same event again was told %d times more", again)
	}
	fmt.Fprintln(w, "   the same event again: nothing is left to tell")
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
