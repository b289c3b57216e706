package render

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math/rand/v2"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// The account that the golden files and README's picture tell of.
const account = "123456789012"

var (
	today      = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	thresholds = audit.Thresholds{UnusedDays: 45, MaxAgeDays: 90, WarnAgeDays: 75, LingerDays: 90, MaxWaitDays: 45}
)

func daysAgo(n int) time.Time { return today.Add(-time.Duration(n)*24*time.Hour - 3*time.Hour) }

// user makes a user with tags, given as key and value in turn.
func user(name string, tags ...string) audit.UserFacts {
	u := audit.UserFacts{User: iamkeys.User{UserName: name, ARN: "arn:aws:iam::" + account + ":user/" + name, PoliciesRead: true}}
	for i := 0; i < len(tags); i += 2 {
		u.Tags = append(u.Tags, iamkeys.Tag{Key: tags[i], Value: tags[i+1]})
	}
	return u
}

// with adds a key of that age; used says how many days ago, -1 for never.
func with(u audit.UserFacts, status iamkeys.Status, age, used int, service string) audit.UserFacts {
	sum := sha256.Sum256([]byte(fmt.Sprint(u.UserName, age, len(u.Keys))))
	k := audit.KeyFacts{
		AccessKey: iamkeys.AccessKey{
			UserName: u.UserName, AccessKeyID: "AKIAEXAMPLE" + base32.StdEncoding.EncodeToString(sum[:])[:9], Status: status, CreateDate: daysAgo(age),
		},
		LastUsed: &iamkeys.LastUsed{UserName: u.UserName},
	}
	if used >= 0 {
		k.LastUsed.Date, k.LastUsed.ServiceName, k.LastUsed.Region = daysAgo(used), service, "eu-central-1"
	}
	u.Keys = append(u.Keys, k)
	return u
}

// crowd gives n users without a finding.
func crowd(n int) []audit.UserFacts {
	random := rand.New(rand.NewPCG(7, 7))
	var users []audit.UserFacts
	for i := range n {
		u := user(fmt.Sprintf("service-%04d", i), "owner", "platform")
		users = append(users, with(u, iamkeys.Active, int(75*random.Float64()*random.Float64()), 0, "s3"))
	}
	return users
}

// story is an account in which every rule finds something, save those about what could not be examined.
func story() audit.Inventory {
	root := audit.UserFacts{User: iamkeys.User{UserName: audit.RootName, ARN: "arn:aws:iam::" + account + ":root", PoliciesRead: true}, Root: true, RootKey: true}
	leaked := with(user("partner-acme-upload", "owner", "partner-integrations"), iamkeys.Active, 61, 1, "s3")
	leaked.AttachedPolicies = []string{"arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3"}
	jenkins := with(with(user("legacy-jenkins", "owner", "build-team"), iamkeys.Active, 812, 0, "ecr"), iamkeys.Active, 404, 219, "codecommit")
	jenkins = with(jenkins, iamkeys.Inactive, 1204, 831, "ec2")

	jenkins.GroupPolicies = []string{"arn:aws:iam::aws:policy/AdministratorAccess"}
	terraform := with(user("terraform-cloud", "owner", "platform"), iamkeys.Active, 88, 0, "sts")
	terraform.AttachedPolicies = []string{"arn:aws:iam::aws:policy/PowerUserAccess"}
	telemetry := with(user("telemetry-gateway"), iamkeys.Active, 203, 1, "firehose")
	telemetry.PoliciesRead = false

	users := append(crowd(96),
		leaked, jenkins, terraform, telemetry,
		with(user("backup-nas-muenchen", "owner", "Büro München"), iamkeys.Active, 377, 131, "s3"),
		with(user("ci-nightly", "owner", "build-team"), iamkeys.Active, 118, -1, ""),
		with(user("ses-smtp-relay", "owner", "mail@example.com"), iamkeys.Active, 412, 0, "ses"),
		with(user("billing-export", "owner", "finance"), iamkeys.Active, 96, 2, "s3"),
		with(user("grafana-reader", "owner", "observability"), iamkeys.Active, 79, 0, "monitoring"),
		with(with(user("warehouse-sync", "owner", "data"), iamkeys.Active, 74, 3, "redshift"), iamkeys.Active, 59, 0, "redshift"),
		with(with(user("mobile-push", "owner", "apps"), iamkeys.Inactive, 301, 214, "sns"), iamkeys.Active, 29, 0, "sns"),
		with(user("tape-library", "owner", "datacentre", iamkeys.TagExemptUntil, "2027-03-31", iamkeys.TagExemptReason, "firmware accepts one key only; replaced in March"), iamkeys.Active, 540, 5, "s3"),
		with(user("badge-printer", "owner", "facilities", iamkeys.TagExemptUntil, "2026-10-31", iamkeys.TagExemptReason, "vendor visit planned"), iamkeys.Active, 266, 12, "sqs"),
	)
	return audit.Inventory{Account: account, Source: audit.FromCredentialReport, GeneratedTime: today.Add(-12 * time.Minute), Users: users, Root: root}
}

func judge(inv audit.Inventory) audit.Report {
	r := audit.Judge(inv, thresholds, "owner", today)
	r.Summary.RunID = "20261123T060000Z"
	return r
}

// weekly is the story a week after another report: some findings are new, some
// have been resolved since.
func weekly() audit.Report {
	inv := story()
	before := audit.Judge(inv, thresholds, "owner", today.Add(-7*24*time.Hour))
	dated(before.Findings, 40)
	for _, gone := range []audit.UserFacts{
		with(user("old-deploy-bot", "owner", "build-team"), iamkeys.Active, 97, 60, "codedeploy"),
		with(user("intern-2025"), iamkeys.Active, 180, 120, "ec2"),
	} {
		before.Findings = append(before.Findings, audit.Judge(audit.Inventory{Users: []audit.UserFacts{gone}}, thresholds, "owner", today.Add(-7*24*time.Hour)).Findings...)
	}
	dated(before.Findings, 12)
	before.Findings = before.Findings[1:] // the root user's key is new
	r := judge(inv)
	r.Compare(&before, inv)
	return r
}

// dated gives findings without one the day of their first sight.
func dated(findings []audit.Finding, days int) {
	for i := range findings {
		if findings[i].FirstSeen == nil {
			first := daysAgo(days - i%9).Truncate(24 * time.Hour)
			findings[i].FirstSeen = &first
		}
	}
}

// incomplete is the weekly report of a run that could not read everything.
func incomplete() audit.Report {
	inv := story()
	for i := range 2 {
		inv.Users[i].Unexamined = "ListAccessKeys was throttled to the end of the retries"
		inv.Users[i].Keys[0].LastUsed = nil
	}
	inv.Source = audit.FromLive
	inv.Notes = []string{
		"The credential report could not be had (AWS was out of capacity for it): every user was read live.",
		"The report before was damaged: every finding counts as new.",
	}
	r := judge(inv)
	r.Compare(nil, inv)
	return r
}

// fine is an account without a finding.
func fine() audit.Report {
	inv := story()
	inv.Root.RootKey, inv.Users = false, crowd(96)
	r := judge(inv)
	r.Compare(nil, inv)
	return r
}

// deserted is an account without IAM users.
func deserted() audit.Report {
	inv := story()
	inv.Root.RootKey, inv.Users = false, nil
	return judge(inv)
}

// many is a report of n findings.
func many(n int) audit.Report {
	random := rand.New(rand.NewPCG(1, 2))
	inv := story()
	inv.Users = crowd(n / 4)
	for i := range n {
		owner := []string{"platform", "build-team", "data", "mail@example.com"}[random.IntN(4)]
		u := user(fmt.Sprintf("team-%02d-service-%05d", i%40, i), "owner", owner)
		if i%50 == 0 {
			u.AttachedPolicies = []string{"arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3"}
		}
		age := 76 + int(600*random.Float64()*random.Float64())
		u = with(u, iamkeys.Active, age, min(age-1, int(70*random.Float64())), "s3")
		inv.Users = append(inv.Users, u)
	}
	r := judge(inv)
	dated(r.Findings, 60)
	r.Findings = r.Findings[:min(n, len(r.Findings))]
	before := r
	before.Findings = r.Findings[n/10:]
	r = audit.Report{Summary: r.Summary, Findings: r.Findings}
	r.Compare(&before, inv)
	return r
}
