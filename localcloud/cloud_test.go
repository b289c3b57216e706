package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// Pass lets time pass for IAM: all users, keys and last uses grow older by d.
// The clocks of functions and workflows stay as they are.
func (c *Cloud) Pass(ctx context.Context, d time.Duration) error {
	var nothing struct{}
	if err := c.post(ctx, "localcloud/pass", map[string]any{"seconds": d.Seconds()}, &nothing); err != nil {
		return fmt.Errorf("letting time pass: %w", err)
	}
	return nil
}

// History returns the events of an execution, oldest first.
func (c *Cloud) History(ctx context.Context, executionARN string) ([]sfntypes.HistoryEvent, error) {
	var events []sfntypes.HistoryEvent
	pages := sfn.NewGetExecutionHistoryPaginator(sfn.NewFromConfig(c.Config()),
		&sfn.GetExecutionHistoryInput{ExecutionArn: aws.String(executionARN)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading the history of %s: %w", executionARN, err)
		}
		events = append(events, page.Events...)
	}
	return events, nil
}

// Logs returns everything that the functions logged so far.
func (c *Cloud) Logs(ctx context.Context) (string, error) {
	groups := struct {
		LogGroups []struct{ LogGroupName string }
	}{}
	if err := c.cloudWatchLogs(ctx, "DescribeLogGroups", map[string]any{}, &groups); err != nil {
		return "", err
	}
	var all strings.Builder
	for _, group := range groups.LogGroups {
		request := map[string]any{"logGroupName": group.LogGroupName}
		for {
			var page struct {
				Events    []struct{ Message string }
				NextToken string
			}
			if err := c.cloudWatchLogs(ctx, "FilterLogEvents", request, &page); err != nil {
				return "", err
			}
			for _, event := range page.Events {
				fmt.Fprintln(&all, event.Message)
			}
			if page.NextToken == "" || page.NextToken == request["nextToken"] {
				break
			}
			request["nextToken"] = page.NextToken
		}
	}
	return all.String(), nil
}

// cloudWatchLogs calls CloudWatch Logs, for whose two calls a client of its own
// would be too much. Nobody checks the signature.
func (c *Cloud) cloudWatchLogs(ctx context.Context, action string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding logs:%s: %w", action, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("calling logs:%s: %w", action, err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Logs_20140328."+action)
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/"+region+"/logs/aws4_request, SignedHeaders=host, Signature=none")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("calling logs:%s: %w", action, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("logs:%s answered %s %.300s (%v)", action, resp.Status, answer, err)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("reading the answer of logs:%s: %w", action, err)
	}
	return nil
}
