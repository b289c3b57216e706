package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

// The people of the demo's account. Each user's keys tell a story that an
// engineer knows; the comments name it.
func demoAccount(now time.Time) []User {
	ago := func(d time.Duration) time.Time { return now.Add(-d).Truncate(time.Second) }
	key := func(id string, age, idle time.Duration, service string) AccessKey {
		k := AccessKey{AccessKeyID: "AKIADEMO" + id, CreateDate: ago(age), ServiceName: service, Region: "eu-central-1"}
		if idle > 0 {
			k.LastUsedDate = ago(idle)
		}
		return k
	}
	inactive := func(k AccessKey) AccessKey { k.Status = "Inactive"; return k }
	user := func(name, owner string, keys ...AccessKey) User {
		return User{UserName: name, CreateDate: ago(500 * day), Tags: map[string]string{"owner": owner}, AccessKeys: keys}
	}
	// The key of the functions' event files.
	healthyKey := key("", 20*day, 2*time.Hour, "s3")
	healthyKey.AccessKeyID = "AKIAIOSFODNN7EXAMPLE"
	exempt := func(u User, until time.Time, reason string) User {
		u.Tags["iamkeys:exempt-until"], u.Tags["iamkeys:exempt-reason"] = until.UTC().Format(time.DateOnly), reason
		return u
	}
	rotated := func(u User) User { u.Tags["iamkeys:rotate"] = "on"; return u }
	return []User{
		// Healthy: young, and in use.
		user("ci-deploy", "platform", healthyKey),
		// Stale, yet in use every night: the one nobody dares to touch.
		user("billing-export", "finance", key("BILLING00001", 412*day, 9*time.Hour, "s3")),
		// The partner left in summer; the key did not.
		user("partner-sftp", "sales", key("PARTNER00001", 230*day, 96*day, "s3")),
		// Made for a trial, never used once.
		user("vendor-trial", "procurement", key("VENDOR000001", 61*day, 0, "")),
		// Two Active keys: a replacement that was begun and never finished.
		user("reporting", "data", key("REPORTING001", 301*day, 3*day, "athena"), key("REPORTING002", 88*day, 5*time.Hour, "athena")),
		// An old key switched off long ago and never deleted.
		user("mailer", "platform", inactive(key("MAILER000001", 390*day, 150*day, "ses")), key("MAILER000002", 33*day, time.Hour, "ses")),
		// Old, and known to be: an appliance that cannot be changed before spring.
		exempt(user("warehouse-scanner", "logistics", key("SCANNER00001", 610*day, 4*time.Hour, "sqs")), now.Add(120*day), "firmware update planned for spring"),
		// Used once a month, and its owner opted in: quiet enough to be rotated today.
		rotated(user(demoRotationUser, "finance", key("PAYROLL00001", 118*day, 12*day, "s3"))),
		// The user whose key lives its whole life below.
		user(demoLifecycleUser, "platform", key("BUILDAGENT01", 12*day, 20*time.Minute, "ecr")),
	}
}

const (
	demoLifecycleUser = "build-agent"
	demoRotationUser  = "payroll-batch"
	demoRotationKey   = "AKIADEMOPAYROLL00001"
	demoInUseUser     = "billing-export"
	demoInUseKey      = "AKIADEMOBILLING00001"
	demoUnusedUser    = "vendor-trial"
	demoUnusedKey     = "AKIADEMOVENDOR000001"
	demoMail          = "cloud-team@example.com"
)

// demoParameters deploy the demo's stack: with a reader for the mail, mail for owners, a
// standing word to switch exposed keys off, for an organization, without the wait for
// other Regions to accept a new key and for a day of the week, since no clock moves here
// while a workflow waits.
var demoParameters = map[string]string{
	"NotificationEmail": demoMail, "PropagationSeconds": "0", "MemberRole": memberRole, "ExternalId": demoExternalID,
	"SenderAddress": demoSender, "OwnerMailDomains": "example.com", "ExposureMode": "deactivate", "ActDays": "SUN-SAT",
}

// showAccount seeds the account and prints its keys.
func (c *Cloud) showAccount(ctx context.Context, w io.Writer) error {
	now := time.Now()
	account := demoAccount(now)
	if _, err := c.Seed(ctx, account...); err != nil {
		return err
	}
	fmt.Fprintf(w, "   %-18s %-21s %-9s %9s  %s\n", "user", "access key", "status", "age", "last used")
	for _, u := range account {
		for _, k := range u.AccessKeys {
			status, used := "Active", "never"
			if k.Status != "" {
				status = k.Status
			}
			if !k.LastUsedDate.IsZero() {
				used = fmt.Sprintf("%s ago, %s", span(now.Sub(k.LastUsedDate)), k.ServiceName)
			}
			fmt.Fprintf(w, "   %-18s %-21s %-9s %9s  %s\n", u.UserName, k.AccessKeyID, status, span(now.Sub(k.CreateDate)), used)
		}
	}
	return nil
}
