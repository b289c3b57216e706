package notice_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// These pages end with mails as the golden files have them.
func TestMailPages(t *testing.T) {
	type shown struct{ file, says string }
	for _, page := range []struct {
		name, heading, says string
		mails               []shown
	}{
		{"retirement.md", "## What the owner gets, mail by mail\n",
			"These are the tests' own golden files, of a stack in the time zone UTC: times are told in `ScheduleTimezone`. The security team gets the same on the topic,\nbut the digest, which is the owner's alone. What else may stop a retirement, or end it early, and how its subject says so: [notices](notices.md).",
			[]shown{
				{"digest-owner", "**digest**: an audit found something new of your keys. What you can do: what it says below each; or exempt the user, if it must stay as it is."},
				{"notice-retirement-warning", "**warning**: nothing has used the key for `RetireAfterDays`. What you can do: nothing, if nobody needs it; use it once; or exempt its user."},
				{"notice-retirement-final", "**final**: three days before it may be switched off. You can do the same."},
				{"notice-retirement-retired", "**retired**: the key is off, and you can switch it on again."},
				{"notice-retirement-kept-in-use", "**kept**: something has stopped the retirement. The notice says what."},
				{"notice-retirement-kept-after-off", "**kept**, after the key was switched off: nobody deletes it but you."},
				{"notice-retirement-rolled-back", "**rolledBack**: somebody has switched the key on again."},
				{"notice-retirement-rolled-back-used", "**rolledBack**, by a use: something may still need the key, and it is for you to say."},
				{"notice-retirement-removed", "**removed**: the key is gone."},
				{"notice-retirement-failed-after-off", "**failed**: the retirement could not go on."},
			}},
		{"exposure.md", "## What you get, mail by mail\n",
			"These are the tests' own golden files. The topic gets one message of all that the event names, and each owner, where owner mail is on, one of their own keys.",
			[]shown{
				{"exposure-told", "**exposed**, in mode `tell`: the command switches the key off."},
				{"exposure-switched-off", "**exposed**, in mode `deactivate`: the key is off already."},
				{"exposure-of-every-other", "**exposed**, of what is no Active key of a user here: a key that is off, unknown, temporary or the root user's, a user without one, and what is no key at all."},
				{"exposure-suspected", "**exposed**, of another event than `AWS_RISK_CREDENTIALS_EXPOSED`, with a user of another account in it."},
				{"exposure-another", "**exposed**, of another account's: whoever runs that one can act."},
				{"exposure-throttled", "**exposed**, where AWS throttled every try: a second notice follows within the hour, `off` or `failed`."},
				{"exposure-closed", "**exposed**, once AWS has closed its event."},
				{"exposure-left-late", "**failed**: the key may still be on."},
			}},
	} {
		t.Run(page.name, func(t *testing.T) {
			path := filepath.Join("..", "..", "..", "docs", page.name)
			there, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			before, _, ok := strings.Cut(string(there), page.heading)
			if !ok {
				t.Fatalf("%s has no heading %q", path, page.heading)
			}
			var b strings.Builder
			fmt.Fprintf(&b, "%s%s\n%s\n", before, page.heading, page.says)
			for _, m := range page.mails {
				content, err := os.ReadFile(filepath.Join("testdata", m.file+".txt"))
				if err != nil {
					t.Fatal(err)
				}
				mail := string(content)
				if subject, rest, attributes := strings.Cut(mail, "\nkind="); attributes {
					_, text, _ := strings.Cut(rest, "\n\n")
					mail = subject + "\n\n" + text
				} else {
					mail = mail[strings.Index(mail, "Subject: "):] // an owner's; who it goes to stands before
				}
				mail, _, _ = strings.Cut(mail, "\n{\"kind\"")
				fmt.Fprintf(&b, "\n%s\n\n```\n%s\n```\n", m.says, strings.TrimSpace(mail))
			}
			if *update {
				if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if string(there) != b.String() && !*update {
				t.Errorf("%s does not have the mails of the golden files: run make update", path)
			}
		})
	}
}
