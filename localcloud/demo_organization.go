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

// The demo's organization: a dozen accounts. The stack's own is one of them, and may
// list the others by the organization's resource policy, and nothing else.
const (
	demoManagement = "210000000001" // has the role, by hand
	demoNoRole     = "210000000007"
	demoSuspended  = "210000000008"
	demoRootKey    = "210000000009"
	demoExternalID = "a-word-of-ours"
)

// demoMembers are the accounts beside the stack's own.
var demoMembers = []struct{ id, name string }{
	{demoManagement, "management"}, {"210000000002", "shop"}, {"210000000003", "shop-test"}, {"210000000004", "data"}, {"210000000005", "partners, <EU> & \"UK\""},
	{"210000000006", "sandbox"}, {demoNoRole, "acquired last week"}, {demoSuspended, "old billing"}, {demoRootKey, "legacy"}, {"210000000010", "media"}, {"210000000011", "empty"},
}

// organize makes the demo's organization, the role in its accounts and users with keys.
func (c *Cloud) organize(ctx context.Context) error {
	active, suspended := "ACTIVE", "SUSPENDED"
	o := Organization{
		ManagementAccount: demoManagement,
		Accounts:          []Member{{ID: accountID, Name: "security", State: &active}},
		ResourcePolicy: map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
			"Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::" + accountID + ":root"}, "Action": "organizations:ListAccounts", "Resource": "*"}}},
	}
	for _, m := range demoMembers {
		state := &active
		if m.id == demoSuspended {
			state = &suspended
		}
		o.Accounts = append(o.Accounts, Member{m.id, m.name, state})
	}
	id, err := c.Organize(ctx, o)
	if err != nil {
		return err
	}
	now := time.Now()
	ago := func(days int) time.Time { return now.Add(-time.Duration(days) * day).Truncate(time.Second) }
	for n, m := range demoMembers {
		account := Account{ID: m.id}
		if m.id != "210000000011" {
			for i := range 3 {
				account.Users = append(account.Users, User{
					UserName: fmt.Sprintf("%s-%d", []string{"ci", "export", "partner"}[i], n), CreateDate: ago(500), Tags: map[string]string{"owner": "team-" + fmt.Sprint(n)},
					AccessKeys: []AccessKey{{CreateDate: ago(20 + (n*37+i*61)%300), LastUsedDate: ago((n * i * 11) % 19)}},
				})
			}
		}
		if m.id == "210000000004" {
			account.Users[0].AttachedPolicies = []string{"AdministratorAccess"}
		}
		if m.id == demoRootKey {
			account.RootAccessKey = &AccessKey{CreateDate: ago(900)}
		}
		if _, err := c.SeedAccount(ctx, account); err != nil {
			return err
		}
		if m.id == demoNoRole || m.id == demoSuspended {
			continue
		}
		if err := c.DeployMember(ctx, m.id, id, map[string]string{"ExternalId": demoExternalID, "SecurityHub": "on"}); err != nil {
			return err
		}
	}
	return nil
}

// showOrganization runs one audit over every account.
func (c *Cloud) showOrganization(ctx context.Context, w io.Writer) error {
	if err := c.organize(ctx); err != nil {
		return err
	}
	c.Forget()
	began := time.Now()
	e, err := c.Execute(ctx, "OrganizationAuditStateMachine", "", []byte(`{}`))
	if err != nil {
		return err
	}
	if e.Status != "SUCCEEDED" {
		return fmt.Errorf("the organization's audit is %s: %s %s", e.Status, e.Error, e.Cause)
	}
	var out struct {
		Accounts struct{ Total, Examined, Skipped, NotExamined int }
		Report   struct{ Bucket, Prefix string }
	}
	if err := json.Unmarshal(e.Output, &out); err != nil {
		return fmt.Errorf("reading what the organization's audit says: %w", err)
	}
	fmt.Fprintf(w, "   %d accounts: %d examined, %d skipped, %d not examined, by one execution each (%.0f s); one mail, and a digest:\n", out.Accounts.Total, out.Accounts.Examined, out.Accounts.Skipped, out.Accounts.NotExamined, time.Since(began).Seconds())
	mails := c.Published()
	if len(mails) != 2 || mails[0].Attributes["kind"] != "organization" || mails[1].Attributes["kind"] != "digest" {
		return fmt.Errorf("%d mails were sent, want the organization's and the security team's digest", len(mails))
	}
	showMail(w, mails[0], "CRITICAL AND HIGH")
	fmt.Fprintf(w, "   digest           %s\n", mails[1].Subject)
	object, err := s3.NewFromConfig(c.Config(), func(o *s3.Options) { o.UsePathStyle = true }).GetObject(ctx, &s3.GetObjectInput{Bucket: &out.Report.Bucket, Key: aws.String(out.Report.Prefix + ".html")})
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	page, err := io.ReadAll(object.Body)
	if err = errors.Join(err, object.Body.Close()); err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	path := filepath.Join(c.root, ".localcloud", "organization.html")
	if err := os.WriteFile(path, page, 0o644); err != nil {
		return fmt.Errorf("keeping the report: %w", err)
	}
	fmt.Fprintln(w, "   The same report as a page, for a browser: .localcloud/organization.html")
	return nil
}
