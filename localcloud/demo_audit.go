package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// scheduleEvent is what EventBridge Scheduler sends to a target without an
// input of its own.
func scheduleEvent(at time.Time) []byte {
	event, err := json.Marshal(map[string]any{
		"version": "0", "id": "6f1c2f1e-6d0c-4b0e-9f0a-2b7a1f0d9c11", "source": "aws.scheduler", "account": accountID,
		"time": at.UTC().Format("2006-01-02T15:04:05Z"), "region": region, "detail-type": "Scheduled Event", "detail": "{}",
		"resources": []string{"arn:aws:scheduler:" + region + ":" + accountID + ":schedule/default/iamkeys-audit"},
	})
	if err != nil {
		panic(err) // strings alone always encode
	}
	return event
}

func (c *Cloud) showAudit(ctx context.Context, w io.Writer) error {
	return c.audit(ctx, w, time.Now(), "", "report.html")
}

// audit sends the audit its schedule's event, prints the mail, up to a line
// that begins with until, and keeps the report for people under that name in
// .localcloud.
func (c *Cloud) audit(ctx context.Context, w io.Writer, at time.Time, until, name string) error {
	c.Forget()
	var out struct {
		Report struct{ Bucket, Prefix string }
	}
	if _, err := c.call(ctx, "AuditFunction", scheduleEvent(at), &out); err != nil {
		return err
	}
	mails := c.Published()
	if len(mails) == 0 {
		return errors.New("the audit published nothing")
	}
	showMail(w, mails[len(mails)-1], until)

	object, err := s3.NewFromConfig(c.Config(), func(o *s3.Options) { o.UsePathStyle = true }).GetObject(ctx,
		&s3.GetObjectInput{Bucket: &out.Report.Bucket, Key: aws.String(out.Report.Prefix + ".html")})
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	defer object.Body.Close()
	page, err := io.ReadAll(object.Body)
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(c.root, ".localcloud", name), page, 0o644); err != nil {
		return fmt.Errorf("keeping the report: %w", err)
	}
	fmt.Fprintf(w, "   The same report as a page, for a browser: .localcloud/%s\n", name)
	return nil
}

func (c *Cloud) showProgress(ctx context.Context, w io.Writer) error {
	event := fmt.Sprintf(`{"userName": %q, "accessKeyId": %q}`, demoUnusedUser, demoUnusedKey)
	fmt.Fprintf(w, "   deactivate  %s\n", event)
	if _, err := c.call(ctx, "DeactivateFunction", []byte(event), nil); err != nil {
		return err
	}
	return c.audit(ctx, w, time.Now(), "HIGH:", "report-after.html") // the open ones were seen above
}
