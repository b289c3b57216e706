package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

func (c *Cloud) showLifecycle(ctx context.Context, w io.Writer) error {
	input := fmt.Sprintf(`{"userName": %q}`, demoLifecycleUser)
	e, err := c.Execute(ctx, "LifecycleStateMachine", "", []byte(input))
	if err != nil {
		return err
	}
	if e.Status != "SUCCEEDED" {
		return fmt.Errorf("the lifecycle workflow ended as %s: %s: %s", e.Status, e.Error, e.Cause)
	}
	var out struct {
		Before, AfterCreate, LastUsed, AfterDeactivate, AfterDelete keys

		Created     struct{ AccessKeyID, SecretARN string }
		Deactivated struct{ AccessKeyID, Status string }
		Deleted     struct{ Deleted bool }
	}
	if err := json.Unmarshal(e.Output, &out); err != nil {
		return fmt.Errorf("reading the lifecycle workflow's output: %w", err)
	}
	show := func(step, format string, args ...any) {
		fmt.Fprintf(w, "   %-11s %s\n", step, fmt.Sprintf(format, args...))
	}
	show("list", "%s", out.Before)
	show("create", "%s, proven by GetCallerIdentity and delivered to the secret", out.Created.AccessKeyID)
	show("", "%s", out.Created.SecretARN[strings.LastIndex(out.Created.SecretARN, ":")+1:])
	show("list", "%s", out.AfterCreate)
	for _, k := range out.LastUsed.AccessKeys {
		used := "never"
		if k.LastUsedDate != nil {
			used = k.LastUsedDate.UTC().Format("2006-01-02 15:04") + " UTC, " + k.ServiceName
		}
		show("last used", "%s %s", k.AccessKeyID, used)
	}
	show("deactivate", "%s is %s", out.Deactivated.AccessKeyID, out.Deactivated.Status)
	show("list", "%s", out.AfterDeactivate)
	show("delete", "%s is deleted", out.Created.AccessKeyID)
	show("list", "%s", out.AfterDelete)
	return nil
}
