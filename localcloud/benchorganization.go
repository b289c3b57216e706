package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/lambdafn"
	"iamkeys/pkg/render"
)

// AWS's prices in us-east-1, November 2026, in dollars; arm64, nothing of the free tier.
const (
	perTransition = 0.025 / 1_000
	perInvocation = 0.20 / 1_000_000
	perGBSecond   = 0.0000133334
	perPut        = 0.005 / 1_000
	perGet        = 0.0004 / 1_000
	perMessage    = 0.50 / 1_000_000

	auditGB, mergeGB = 0.25, 0.5 // the functions' memory, as the template has it
	organizationCost = 0.20      // the budget of a run over 1,000 accounts
)

// benchOrganization measures the organization's audit with 10, 100 and 1,000 accounts,
// where each call takes 20 ms: first the audits of accounts of 20 users in this process,
// on accounts in memory, then the merge function's binary, on a stub server, where each
// account has 50 findings.
func benchOrganization(ctx context.Context, root string, w io.Writer) error {
	dir, err := os.MkdirTemp("", "iamkeys-bench-")
	if err != nil {
		return fmt.Errorf("making a place for the merge function: %w", err)
	}
	defer os.RemoveAll(dir)
	merge := filepath.Join(dir, "bootstrap")
	build := command(ctx, "go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", merge, "./functions/merge")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the merge function: %w\n%s", err, out)
	}
	fmt.Fprintf(w, "\nOrganization: accounts of 20 users with two keys each, one key overdue, 20 ms a call, in process.\n")
	fmt.Fprintf(w, "Naive is each account one after the other: computed, calls x 20 ms. Calls an account are those to IAM and\nSTS, the most of any; F is its users with a finding and its last uses read live. S3 counts the audits' alone.\n")
	fmt.Fprintf(w, "  %-9s %7s %9s %9s %9s %9s %7s %8s %8s\n", "accounts", "at once", "wall s", "naive s", "calls", "budget", "S3 GET", "S3 PUT", "GB-s")
	runs := map[int]counted{}
	for _, n := range []int{10, 100, 1_000} {
		fmt.Fprintf(os.Stderr, "Auditing %d accounts ...\n", n)
		o := benchOrganizationOf(n, 20, 1)
		for _, atOnce := range []int{20, 50} {
			run, all, err := auditAccounts(ctx, o, atOnce, benchLatency)
			if err != nil {
				return err
			}
			over := ""
			if all.most > all.budget {
				over = "  OVER BUDGET"
			}
			fmt.Fprintf(w, "  %-9d %7d %9.1f %9.0f %9d %9s %7d %8d %8.1f%s\n", n, atOnce, all.wall.Seconds(), (time.Duration(all.calls) * benchLatency).Seconds(), all.most,
				fmt.Sprintf("6+%d", all.budget-6), all.gets, all.puts, all.gbSeconds, over)
			runs[n] = all
			if err := mergeInProcess(ctx, o, run); err != nil {
				return err
			}
			o.Advance(day)
		}
	}
	fmt.Fprintf(w, "\nMerge's binary on a stub server, 20 ms a call, 50 findings an account, all new; and the price of a run with it:\ntransitions (2 an account, 8 of the organization's), invocations, GB-seconds on this machine, S3, one message;\nowners' digests aside. Budgets at 1,000 accounts: 60 s, 256 MiB, $%.2f\n", organizationCost)
	fmt.Fprintf(w, "  %-9s %9s %9s %11s %7s %7s %12s %8s %8s\n", "accounts", "findings", "merge s", "memory MiB", "S3 GET", "S3 PUT", "transitions", "GB-s", "$ a run")
	for _, n := range []int{10, 100, 1_000} {
		fmt.Fprintf(os.Stderr, "Merging %d accounts ...\n", n)
		m, by, findings, err := mergeBinary(ctx, merge, n)
		if err != nil {
			return err
		}
		all := runs[n]
		transitions := 2*n + 8
		gets, puts := all.gets+by["s3:GetObject"]+1, all.puts+by["s3:PutObject"]+2 // the list's, too
		gb := all.gbSeconds + m.took.Seconds()*mergeGB + (time.Duration(n/20+4)*benchLatency).Seconds()*auditGB
		price := float64(transitions)*perTransition + float64(n+3)*perInvocation + gb*perGBSecond + float64(gets)*perGet + float64(puts)*perPut + perMessage
		over := ""
		if mib, err := strconv.Atoi(m.peak); price > organizationCost || m.took > time.Minute || err == nil && mib > 256 {
			over = "  OVER BUDGET"
		}
		fmt.Fprintf(w, "  %-9d %9d %9.1f %11s %7d %7d %12d %8.1f %8.4f%s\n", n, findings, m.took.Seconds(), m.peak, gets, puts, transitions, gb, price, over)
	}
	return nil
}

// benchOrganizationOf gives a hub and accounts, n in all, of that many users with two
// keys each, of whom so many have one that is overdue.
func benchOrganizationOf(n, users, overdue int) *iamkeystest.Organization {
	o := iamkeystest.NewOrganization()
	o.Advance(time.Until(o.Hub.Now())) // its clock is ours
	for i := 1; i < n; i++ {
		o.Add(fmt.Sprintf("3%011d", i), fmt.Sprintf("account %d", i), memberRole)
	}
	for _, m := range o.Members() {
		for i := range users {
			name := fmt.Sprintf("user-%03d", i)
			m.AddUser(name, iamkeys.Tag{Key: "owner", Value: "team@example.com"})
			age := 30 * day
			if i < overdue {
				age = 100 * day
			}
			for _, age := range []time.Duration{age, 5 * day} {
				m.UsedAgo(m.AddKey(name, age), day, "s3", "")
			}
		}
	}
	return o
}

// What the audits of a run over all accounts came to.
type counted struct {
	wall         time.Duration
	calls        int // to every service
	most, budget int // to IAM and STS: of the account with the most beyond its budget, and that
	gets, puts   int
	gbSeconds    float64
}

// auditAccounts lists the accounts, and audits each as the workflow's Map does, so many
// at once, in a process of its own, where each call takes that long.
func auditAccounts(ctx context.Context, o *iamkeystest.Organization, atOnce int, latency time.Duration) (run audit.AccountsOutput, all counted, err error) {
	quiet := slog.New(slog.DiscardHandler)
	slow := func(context.Context, string) { time.Sleep(latency) }
	p := o.Start()
	now := o.Hub.Now()
	run, err = audit.Accounts{Organizations: p, S3: p, Account: p.ID, Bucket: "bench", AtOnce: atOnce, Log: quiet}.Run(ctx, audit.AccountsInput{Started: &now})
	if err != nil {
		return run, all, err
	}
	var list []audit.Member
	if err := json.Unmarshal(o.Hub.Objects()[run.List.Key].Content, &list); err != nil {
		return run, all, fmt.Errorf("reading the run's list: %w", err)
	}
	var mu sync.Mutex
	var failed error
	processes := map[string]*iamkeystest.HubProcess{}
	items := make(chan audit.Member)
	var working sync.WaitGroup
	began := time.Now()
	for range atOnce {
		working.Go(func() {
			for m := range items {
				p := o.Start()
				p.Wait = slow
				started := time.Now()
				_, err := memberAudit(p, quiet).Run(ctx, audit.Input{Account: m.Account, Name: m.Name, RunID: m.RunID, Day: m.Day})
				took := time.Since(started)
				mu.Lock()
				failed = errors.Join(failed, err)
				processes[m.Account] = p
				all.gbSeconds += took.Seconds() * auditGB
				mu.Unlock()
			}
		})
	}
	for _, m := range list {
		items <- m
	}
	close(items)
	working.Wait()
	all.wall = time.Since(began)
	if failed != nil {
		return run, all, failed
	}
	objects := o.Hub.Objects()
	for account, p := range processes {
		var r audit.Report
		if err := json.Unmarshal(objects["reports/"+account+"/"+strings.ReplaceAll(run.Day, "-", "/")+"/"+run.RunID+".json"].Content, &r); err != nil {
			return run, all, fmt.Errorf("reading the report of account %s: %w", account, err)
		}
		users := map[string]bool{}
		for _, f := range r.Findings {
			users[f.UserName] = true
		}
		calls, budget := 0, 6+len(users)+p.Count("iam:GetAccessKeyLastUsed")
		for _, c := range p.Calls {
			if strings.HasPrefix(c, "iam:") || strings.HasPrefix(c, "sts:") {
				calls++
			}
		}
		if all.budget == 0 || calls-budget > all.most-all.budget {
			all.most, all.budget = calls, budget
		}
		all.calls += len(p.Calls)
		all.gets += p.Count("s3:GetObject")
		all.puts += p.Count("s3:PutObject")
	}
	return run, all, nil
}

// memberAudit is the audit function of a process in the hub, with the real forms.
func memberAudit(p *iamkeystest.HubProcess, log *slog.Logger) audit.Audit {
	return audit.Audit{
		Inventory: audit.TakeInventory{IAM: p, ReportWait: 5 * time.Minute, Now: p.Now, Sleep: p.Organization.Sleep, Log: log},
		S3:        p, SNS: p, STS: p,
		As:      func(s iamkeys.Session) audit.Access { return audit.Access{IAM: p.As(s), Calls: p.IAMCalls} },
		Role:    audit.MemberRole{Partition: "aws", Path: "/", Name: memberRole},
		Render:  audit.Renderer{Text: render.Text, CSV: render.CSV, HTML: render.HTML},
		Message: notice.Report(render.Text), Account: p.ID, Bucket: "bench",
		Thresholds: audit.Thresholds{UnusedDays: 45, MaxAgeDays: 90, WarnAgeDays: 75, LingerDays: 90, MaxWaitDays: 30},
		OwnerTag:   "owner", Tell: audit.TellChanges, RequestID: func(context.Context) string { return "bench" },
		Calls: p.IAMCalls, Emit: func([]audit.Metric) {}, Now: p.Now, Log: log,
	}
}

// mergeInProcess ends a run, so that the next one compares with it.
func mergeInProcess(ctx context.Context, o *iamkeystest.Organization, run audit.AccountsOutput) error {
	p := o.Start()
	_, err := audit.Merge{
		S3: p, SNS: p, Message: notice.Organization(render.OrganizationText), Spool: lambdafn.Spool, Account: p.ID, Bucket: "bench",
		Render: audit.OrganizationRenderer{Text: render.OrganizationText, HTML: render.OrganizationHTML, CSV: render.OrganizationCSV},
		Tell:   audit.TellChanges, Emit: func([]audit.Metric) {}, Now: p.Now, Log: slog.New(slog.DiscardHandler),
	}.Run(ctx, run)
	return err
}

// mergeBinary measures one invocation of the merge function's binary over n accounts with
// 50 findings each, and counts its calls by action.
func mergeBinary(ctx context.Context, binary string, n int) (m measured, by map[string]int, findings int, err error) {
	o := benchOrganizationOf(n, 50, 50)
	run, _, err := auditAccounts(ctx, o, 2, 0)
	if err != nil {
		return m, nil, 0, err
	}
	event, err := json.Marshal(run)
	if err != nil {
		return m, nil, 0, fmt.Errorf("writing the merge's input: %w", err)
	}
	s, err := serveSlowly(o.Hub)
	if err != nil {
		return m, nil, 0, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	m, err = measure(ctx, binary, []string{
		"AWS_ENDPOINT_URL=" + s.endpoint, "AWS_REGION=" + region, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"AWS_LAMBDA_FUNCTION_NAME=bench", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512", "TMPDIR=" + filepath.Dir(binary),
		"ACCOUNT_ID=" + o.Hub.ID, "NOTIFICATION_TOPIC_ARN=arn:aws:sns:" + region + ":" + o.Hub.ID + ":bench", "CHAT_TOPIC_ARN=", "NOTIFY=always", "REPORT_BUCKET=bench",
	}, string(event))
	if err != nil {
		return m, nil, 0, err
	}
	var answer struct{ New, Open int }
	if err := json.Unmarshal(m.answer, &answer); err != nil || strings.Contains(string(m.answer), `"errorType"`) {
		return m, nil, 0, fmt.Errorf("the merge failed: %s\n%s", m.answer, m.log)
	}
	return m, s.calls(), answer.New + answer.Open, nil
}
