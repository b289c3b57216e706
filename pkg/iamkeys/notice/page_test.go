package notice_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// docs/retirement.md ends with the mails of a retirement, as the golden files have them.
func TestRetirementPage(t *testing.T) {
	const heading = "## What the owner gets, mail by mail\n"
	path := filepath.Join("..", "..", "..", "docs", "retirement.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(page), heading)
	if !ok {
		t.Fatalf("%s has no heading %q", path, heading)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\nThese are the tests' own golden files, of a stack in the time zone UTC: times are told in `ScheduleTimezone`. The security team gets the same on the topic.\n", before, heading)
	for _, m := range []struct{ file, says string }{
		{"warning", "**warning**: nothing has used the key for `RetireAfterDays`. What you can do: nothing, if nobody needs it; use it once; or exempt its user."},
		{"final", "**final**: three days before it may be switched off. You can do the same."},
		{"retired", "**retired**: the key is off, and you can switch it on again."},
		{"kept-in-use", "**kept**: something has stopped the retirement. The notice says what."},
		{"kept-after-off", "**kept**, after the key was switched off: nobody deletes it but you."},
		{"rolled-back", "**rolledBack**: somebody has switched the key on again."},
		{"rolled-back-used", "**rolledBack**, by a use: something may still need the key, and it is for you to say."},
		{"removed", "**removed**: the key is gone."},
		{"failed-after-off", "**failed**: the retirement could not go on."},
	} {
		content, err := os.ReadFile(filepath.Join("testdata", "notice-retirement-"+m.file+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		subject, rest, _ := strings.Cut(string(content), "\n")
		_, mail, _ := strings.Cut(rest, "\n\n") // after the attributes
		mail, _, _ = strings.Cut(mail, "\n{\"kind\"")
		fmt.Fprintf(&b, "\n%s\n\n```\n%s\n\n%s\n```\n", m.says, subject, strings.TrimSpace(mail))
	}
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if string(page) != b.String() && !*update {
		t.Errorf("%s does not have the mails of the golden files: run make update", path)
	}
}
