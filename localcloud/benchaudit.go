package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

const (
	benchLatency = 20 * time.Millisecond // of every answer of the stub server
	benchFlagged = 50                    // users with one overdue key
)

// benchAudit runs the audit's binary on accounts of 100, 1,000 and 5,000 users
// with two keys each, of whom 50 have one that is overdue, beside the naive walk
// (every user, every user's keys, every key's last use, one after the other):
// first on a stub server that takes 20 ms for each answer and gives 1,000 users
// a page, then on moto.
func (c *Cloud) benchAudit(ctx context.Context, w io.Writer) error {
	fmt.Fprintf(w, "\nAudit of U users with two keys each, %d of them overdue, beside the naive walk in the same run\n", benchFlagged)
	fmt.Fprintf(w, "  %-14s %6s %7s %8s %8s %12s %9s\n", "server", "users", "calls", "budget", "s", "memory MiB", "findings")
	for _, users := range []int{100, 1_000, 5_000} {
		if err := c.benchAuditOn(ctx, w, "stub, 20 ms", users, func() (account, error) { return stubAccount(users) }); err != nil {
			return err
		}
	}
	for _, users := range []int{100, 1_000, 5_000} {
		if err := c.benchAuditOn(ctx, w, "moto", users, func() (account, error) { return c.motoAccount(ctx, users) }); err != nil {
			return err
		}
	}
	return nil
}

// An account is a server with an account to audit.
type account struct {
	endpoint string
	calls    func() map[string]int // since the last time it was asked, IAM's and STS's by action
	stop     func() error
}

// flagged reports whether the i-th of the account's users has an overdue key.
func flagged(i, users int) bool {
	return i%(users/benchFlagged) == 0 && i/(users/benchFlagged) < benchFlagged
}

// stubAccount serves the account in memory.
func stubAccount(users int) (account, error) {
	a := iamkeystest.NewAccount()
	a.Advance(time.Until(a.Now())) // its clock is ours
	for i := range users {
		name := fmt.Sprintf("user-%05d", i)
		a.AddUser(name)
		age := 30 * day
		if flagged(i, users) {
			age = 100 * day
		}
		for _, age := range []time.Duration{age, 5 * day} {
			a.UsedAgo(a.AddKey(name, age), day, "s3", "")
		}
	}
	return serveSlowly(a)
}

// serveSlowly serves an account in memory, with 20 ms for each answer.
func serveSlowly(a *iamkeystest.Account) (account, error) {
	var closers closers
	s := a.Serve(&closers)
	s.PageSize = 1_000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return account{}, fmt.Errorf("serving the account: %w", err)
	}
	var mu sync.Mutex
	counts := map[string]int{}
	slow := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(benchLatency)
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		service, _ := scope(r)
		mu.Lock()
		counts[service+":"+actionOf(service, r, body)]++
		mu.Unlock()
		s.ServeHTTP(w, r)
	})}
	go slow.Serve(l) // ends with Close
	return account{
		endpoint: "http://" + l.Addr().String(),
		calls: func() map[string]int {
			mu.Lock()
			defer mu.Unlock()
			were := counts
			counts = map[string]int{}
			return were
		},
		stop: func() error {
			closers.close()
			return slow.Close()
		},
	}, nil
}

type closers struct{ all []func() }

func (c *closers) Cleanup(f func()) { c.all = append(c.all, f) }

func (c *closers) close() {
	for _, f := range c.all {
		f()
	}
}

// motoAccount makes the account in a moto of its own.
func (c *Cloud) motoAccount(ctx context.Context, users int) (account, error) {
	m, err := Start(ctx, Options{Root: c.root, Progress: io.Discard})
	if err != nil {
		return account{}, err
	}
	now := time.Now()
	var seeds []User
	for i := range users {
		age := 30 * day
		if flagged(i, users) {
			age = 100 * day
		}
		seeds = append(seeds, User{UserName: fmt.Sprintf("user-%05d", i), AccessKeys: []AccessKey{
			{CreateDate: now.Add(-age), LastUsedDate: now.Add(-day)}, {CreateDate: now.Add(-5 * day), LastUsedDate: now.Add(-day)},
		}})
	}
	_, err = m.Seed(ctx, seeds...)
	if err == nil {
		_, err = s3.NewFromConfig(m.Config(), func(o *s3.Options) { o.UsePathStyle = true }).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("bench")})
	}
	if err == nil {
		_, err = sns.NewFromConfig(m.Config()).CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("bench")})
	}
	if err != nil {
		return account{}, errors.Join(err, m.Stop())
	}
	return account{
		endpoint: m.door,
		calls: func() map[string]int {
			counts := map[string]int{}
			for _, call := range m.Calls() {
				counts[call.Action]++
			}
			m.Forget()
			return counts
		},
		stop: m.Stop,
	}, nil
}

func (c *Cloud) benchAuditOn(ctx context.Context, w io.Writer, server string, users int, start func() (account, error)) (err error) {
	fmt.Fprintf(os.Stderr, "Auditing %d users on %s ...\n", users, server)
	b, err := start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	b.calls()
	m, answer, err := c.runAudit(ctx, b.endpoint)
	if err != nil {
		return err
	}
	calls, polls := 0, 0
	by := b.calls()
	for action, n := range by {
		if strings.HasPrefix(action, "iam:") || strings.HasPrefix(action, "sts:") {
			calls += n
		}
	}
	polls = max(0, by["iam:GenerateCredentialReport"]-1)
	calls -= polls
	budget := 5 + (users+999)/1_000 + benchFlagged
	over := ""
	if calls > budget {
		over = "  OVER BUDGET"
	}
	findings := answer.New + answer.Open
	fmt.Fprintf(w, "  %-14s %6d %7d %8d %8.1f %12s %9d%s\n", server, users, calls, budget, m.took.Seconds(), m.peak, findings, over)
	fmt.Fprintf(w, "    %v\n", by)

	began := time.Now()
	found, err := naiveWalk(ctx, b.endpoint)
	if err != nil {
		return err
	}
	total := 0
	for _, n := range b.calls() {
		total += n
	}
	fmt.Fprintf(w, "    naive walk %15d %17.1f %22d\n", total, time.Since(began).Seconds(), found)
	return nil
}

// runAudit measures one invocation of the audit's binary.
func (c *Cloud) runAudit(ctx context.Context, endpoint string) (m measured, answer struct{ New, Open int }, err error) {
	m, err = measure(ctx, filepath.Join(c.Dir, "build", "AuditFunction", "bootstrap"), []string{
		"AWS_ENDPOINT_URL=" + endpoint, "AWS_REGION=" + region,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_LAMBDA_FUNCTION_NAME=bench", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
		"ACCOUNT_ID=123456789012", "NOTIFICATION_TOPIC_ARN=arn:aws:sns:" + region + ":123456789012:bench", "NOTIFY=always", "REPORT_BUCKET=bench",
		"MAX_AGE_DAYS=90", "WARN_AGE_DAYS=75", "UNUSED_DAYS=45", "LINGER_DAYS=90", "MAX_WAIT_DAYS=30", "OWNER_TAG=owner", "REPORT_WAIT_SECONDS=300",
		"CHAT_TOPIC_ARN=", "SECURITY_HUB=off", "PARTITION=aws", "ROLE_PATH=/", "MEMBER_ROLE=", "EXTERNAL_ID=",
	}, `{"notify": "always"}`)
	if err != nil {
		return m, answer, err
	}
	if err := json.Unmarshal(m.answer, &answer); err != nil || strings.Contains(string(m.answer), `"errorType"`) {
		return m, answer, fmt.Errorf("the audit failed: %s\n%s", m.answer, m.log)
	}
	return m, answer, nil
}

// peakMemory gives the most resident memory that a running process has had, in
// MiB; only Linux tells. Its usage of an ended child would count what it was
// forked from, too.
func peakMemory(pid int) (string, error) {
	if runtime.GOOS != "linux" {
		return "unknown", nil
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", fmt.Errorf("reading the memory of the audit: %w", err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(after + " ?")[0], 10, 64)
	if err != nil {
		return "", fmt.Errorf("reading the memory of the audit: %w", err)
	}
	return fmt.Sprintf("%.0f", float64(kib)/1024), nil
}

// naiveWalk asks for every user, every user's keys and every key's last use, one
// after the other, and counts the keys older than 90 days.
func naiveWalk(ctx context.Context, endpoint string) (overdue int, err error) {
	client := iam.NewFromConfig(awsconfig.At(endpoint, region, "test", "test"))
	users := iam.NewGetAccountAuthorizationDetailsPaginator(client, &iam.GetAccountAuthorizationDetailsInput{Filter: []types.EntityType{types.EntityTypeUser}, MaxItems: aws.Int32(1_000)})
	for users.HasMorePages() {
		page, err := users.NextPage(ctx)
		if err != nil {
			return 0, fmt.Errorf("naive walk: %w", err)
		}
		for _, u := range page.UserDetailList {
			keys, err := client.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: u.UserName})
			if err != nil {
				return 0, fmt.Errorf("naive walk: %w", err)
			}
			for _, k := range keys.AccessKeyMetadata {
				if _, err := client.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: k.AccessKeyId}); err != nil {
					return 0, fmt.Errorf("naive walk: %w", err)
				}
				if time.Since(*k.CreateDate) > 90*day {
					overdue++
				}
			}
		}
	}
	return overdue, nil
}
