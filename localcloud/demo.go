package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const day = 24 * time.Hour

// A chapter of the demo's story. It stands in a file of its own, demo_*.go, and
// finds the account as the ones before it left it.
type chapter struct {
	title string
	tell  func(c *Cloud, ctx context.Context, w io.Writer) error
}

var chapters = []chapter{
	{"An account with a past", (*Cloud).showAccount},
	{"The audit gets its schedule's event, and writes its mail", (*Cloud).showAudit},
	{"A key's whole life in one workflow, for " + demoLifecycleUser, (*Cloud).showLifecycle},
	{"A key in use is not switched off", (*Cloud).showRefusal},
	{"A rotation, from plan to deletion; its days pass in a moment here", (*Cloud).showRotation},
	{"A rotation of the key in use: it waits, asks for help and gives up", (*Cloud).showRotationRefused},
	{"Somebody switches off the key that was never used, and the audit runs again", (*Cloud).showProgress},
	{"Unused keys: whom retirement would warn; one is used after the last warning, one is brought back", (*Cloud).showRetirement},
	{"AWS finds a key in public", (*Cloud).showExposure},
	{"One audit over a dozen accounts: one without the role, one suspended, one whose root user has a key", (*Cloud).showOrganization},
}

// demo tells the whole story on w, and leaves nothing running.
func demo(ctx context.Context, root string, w io.Writer) (err error) {
	began := time.Now()
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

	say("iamkeys: the life of IAM users' access keys, on a local AWS\n")
	say("1. A local AWS starts, and the real template is built and deployed to it")
	c, err := Start(ctx, Options{Root: root, Progress: w})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	say("   up at %s: moto for IAM and what belongs to it, ministack for the rest", c.Endpoint)
	step := time.Now()
	if err := c.Deploy(ctx, demoParameters); err != nil {
		return err
	}
	say("   template.yaml is deployed by SAM: %s (%.0f s)", c.inventory(), time.Since(step).Seconds())
	for i, chapter := range chapters {
		say("\n%d. %s", i+2, chapter.title)
		if err := chapter.tell(c, ctx, w); err != nil {
			return err
		}
	}
	if err := c.Stop(); err != nil {
		return err
	}
	say("\nEverything is stopped. %.0f s in all.", time.Since(began).Seconds())
	return nil
}

// inventory counts what the stack has that this demo shows.
func (c *Cloud) inventory() string {
	machines := 0
	for id := range c.resources {
		if strings.HasSuffix(id, "StateMachine") {
			machines++
		}
	}
	return fmt.Sprintf("%s, %s", count(len(c.functionIDs()), "function"), count(machines, "workflow"))
}

// showMail prints what a mail subscriber of the topic finds in the inbox, up to
// a line that begins with until.
func showMail(w io.Writer, m Message, until string) {
	fmt.Fprintf(w, "   | From:    AWS Notifications <no-reply@sns.amazonaws.com>\n   | To:      %s\n   | Subject: %s\n   |\n", demoMail, m.Subject)
	for line := range strings.Lines(strings.TrimRight(m.Text("email"), "\n")) {
		if until != "" && strings.HasPrefix(line, until) {
			fmt.Fprintln(w, "   | ... and so on; the page has it all.")
			return
		}
		fmt.Fprintln(w, strings.TrimRight("   | "+line, " \n"))
	}
}

func showNotice(w io.Writer, notice Message) {
	fmt.Fprintf(w, "   notice %-9s %s\n", notice.Attributes["stage"], notice.Subject)
}

// keys is what list and the lifecycle workflow show of a user.
type keys struct {
	AccessKeys []struct {
		AccessKeyID  string     `json:"accessKeyId"`
		Status       string     `json:"status"`
		LastUsedDate *time.Time `json:"lastUsedDate"`
		ServiceName  string     `json:"serviceName"`
	} `json:"accessKeys"`
}

func (k keys) String() string {
	var all []string
	for _, key := range k.AccessKeys {
		all = append(all, key.AccessKeyID+" "+key.Status)
	}
	return strings.Join(all, ", ")
}

// showKeys prints what is left of a user's keys.
func (c *Cloud) showKeys(ctx context.Context, w io.Writer, userName string) error {
	var left keys
	if _, err := c.call(ctx, "ListFunction", fmt.Appendf(nil, `{"userName": %q}`, userName), &left); err != nil {
		return err
	}
	fmt.Fprintf(w, "   %-16s %s\n", userName, left)
	return nil
}

// call invokes a function that must succeed and decodes its answer into out.
func (c *Cloud) call(ctx context.Context, logicalID string, payload []byte, out any) (Result, error) {
	r, err := c.Invoke(ctx, logicalID, payload)
	if err != nil {
		return Result{}, err
	}
	if r.ErrorType != "" {
		return r, fmt.Errorf("%s answered %s: %s", logicalID, r.ErrorType, r.Message)
	}
	if out == nil {
		return r, nil
	}
	if err := json.Unmarshal(r.Payload, out); err != nil {
		return r, fmt.Errorf("reading the answer of %s: %w", logicalID, err)
	}
	return r, nil
}

// span is a length of time as a person says it, in its largest whole unit.
func span(d time.Duration) string {
	switch {
	case d >= day:
		return count(int(d/day), "day")
	case d >= time.Hour:
		return count(int(d/time.Hour), "hour")
	default:
		return count(int(d/time.Minute), "minute")
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
