package main

import (
	"context"
	"encoding/json"
	"fmt"
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
	logs := func(action string, in, out any) error {
		return c.wire().target(ctx, "logs", "Logs_20140328."+action, in, out)
	}
	if err := logs("DescribeLogGroups", map[string]any{}, &groups); err != nil {
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
			if err := logs("FilterLogEvents", request, &page); err != nil {
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

// AttachPolicy makes a service control policy and attaches it to an account of
// the organization; its Deny statements hold there.
func (c *Cloud) AttachPolicy(ctx context.Context, management, account string, policy map[string]any) error {
	content, err := json.Marshal(policy)
	if err != nil {
		return fmt.Errorf("encoding the policy for %s: %w", account, err)
	}
	organizations := func(action string, in map[string]any, out any) error {
		if err := (wire{c.moto.String(), management}).target(ctx, "organizations", "AWSOrganizationsV20161128."+action, in, out); err != nil {
			return fmt.Errorf("attaching a policy to %s: %w", account, err)
		}
		return nil
	}
	var made struct {
		Policy struct{ PolicySummary struct{ ID string } }
	}
	err = organizations("CreatePolicy", map[string]any{"Name": account, "Description": "", "Type": "SERVICE_CONTROL_POLICY", "Content": string(content)}, &made)
	if err != nil {
		return err
	}
	return organizations("AttachPolicy", map[string]any{"PolicyId": made.Policy.PolicySummary.ID, "TargetId": account}, nil)
}
