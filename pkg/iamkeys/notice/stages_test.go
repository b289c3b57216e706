package notice

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// Every row says what a notice needs, once; every answer belongs to a row. The page of all
// notices is made of the rows.
func TestStages(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range stages {
		name := r.of.field + " " + string(r.stage)
		if seen[name] || r.text == nil || r.headline == "" || r.when == "" {
			t.Errorf("%s is there twice, or not in full", name)
		}
		seen[name] = true
		if r.of.list != strings.Contains(r.headline, "/") && r.of != exposure {
			t.Errorf("%s: the headline of a list, and of nothing else, has two forms: %q", name, r.headline)
		}
	}
	for i, a := range answers {
		if !seen[a.of.field+" "+string(a.stage)] {
			t.Errorf("answer %d is of no stage: %s %s", i, a.of.field, a.stage)
		}
		for _, b := range answers[:i] {
			covers := b.of == a.of && b.stage == a.stage && (b.start == anyStep || b.start == a.start) && b.codes == nil
			if covers {
				t.Errorf("answer %d (%s %s) is never reached: one above it fits all that it does", i, a.stage, a.start)
			}
		}
	}
	for _, of := range []way{rotation, retirement, exposure} {
		if !seen[of.field+" "+string(failed)] {
			t.Errorf("%s cannot be told to have failed", of.field)
		}
	}
}

// No text has a hole where something is not known: every row, and every answer, says what
// it says of the least that notify takes.
func TestNothingIsMissing(t *testing.T) {
	hole := regexp.MustCompile(`  |^ | $| [,;:)]| \.(\s|$)|\( |\(\)|(^|\s)-\d|--\d|%!|\bnil\b|''|""`)
	check := func(t *testing.T, in Input) {
		t.Helper()
		about, r, err := in.about()
		if err != nil {
			t.Errorf("refused: %v", err)
			return
		}
		s := situation{Input: in, matter: about, row: r, account: "123456789012", zone: time.UTC}
		said := r.text(s)
		texts := []string{s.saying()}
		if in.Exposure == nil || len(in.Exposure.Keys) == 0 { // whose texts below are all that a whole has
			whole := write(s)
			texts = append(texts, whole.Subject)
			for _, part := range append(strings.Split(whole.Text, "\n\n"), strings.Split(whole.Brief, "\n")...) {
				texts = append(texts, strings.Join(strings.Fields(part), " "))
			}
		}
		for _, p := range slices.Concat(said.said, said.todo) {
			texts = append(texts, p.words)
			if p.command != nil {
				texts = append(texts, strings.Join(p.command, " "))
				if slices.Contains(p.command, "") {
					t.Errorf("the command has an empty argument: %q", p.command)
				}
			}
		}
		if s.facts != nil {
			for _, f := range s.facts(r) {
				texts = append(texts, strings.Join(strings.Fields(f.value), " "))
			}
		}
		if s.list != nil {
			for _, line := range s.list() {
				texts = append(texts, strings.Join(strings.Fields(line), " "))
			}
		}
		for _, text := range texts {
			if at := hole.FindStringIndex(text); at != nil {
				t.Errorf("%q has a hole: %q", text[max(0, at[0]-30):min(len(text), at[1]+30)], text)
			}
		}
	}
	input := func(of way, stage Stage, start iamkeys.Start, e *StepError) (all []Input) {
		in := Input{Stage: stage, Error: e}
		switch of {
		case rotation:
			in.Rotation = &Rotation{Rotation: iamkeys.Rotation{UserName: "alice"}}
			if start != unplanned {
				in.Rotation.Start = &start
			}
			if stage != failed {
				in.Rotation.AccessKeyID, in.Rotation.SecretID = new("AKIAIOSFODNN7EXAMPLE"), new("iamkeys/alice")
			}
		case retirement:
			in.Retirement = &Retirement{Retirement: iamkeys.Retirement{UserName: "alice", AccessKeyID: "AKIAIOSFODNN7EXAMPLE"}}
			switch start {
			case ours, notOurs:
				in.Retirement.Ours = new(start == ours)
			case notBegun, anyStep:
				in.Retirement.SoakDays = 90
			}
		case due:
			in.Due = &audit.DueOutput{Rotations: []audit.DueRotation{{UserName: "alice", AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretID: "iamkeys/alice"}}}
		case unused:
			in.Unused = &audit.UnusedOutput{Retirements: []audit.UnusedKey{{UserName: "alice", AccessKeyID: "AKIAIOSFODNN7EXAMPLE"}}, Skipped: []audit.SkippedKey{{UserName: "bob", Reason: audit.SkipUnexamined}}, SkippedCounts: map[audit.SkipReason]int{audit.SkipUnexamined: 1}}
		case exposure:
			user, id, yes, no := "alice", "AKIAIOSFODNN7EXAMPLE", true, false
			active, inactive := iamkeys.Active, iamkeys.Inactive
			keys := [][]ExposedKey{nil, {{}}}
			for _, entity := range []string{"", id, user, "ASIAIOSFODNN7EXAMPLE", "root"} {
				for _, known := range []*bool{nil, &yes, &no} {
					for _, status := range []*iamkeys.Status{nil, &active, &inactive} {
						for n := range 16 {
							k := ExposedKey{ExposedKey: iamkeys.ExposedKey{Entity: entity, Known: known, Status: status, Deactivate: n&1 != 0, Power: iamkeys.UnknownPower}}
							if n&2 != 0 {
								k.UserName = &user
							}
							if n&4 != 0 {
								k.AccessKeyID = &id
							}
							if n&8 != 0 {
								k.Left = &id
							}
							keys = append(keys, []ExposedKey{k})
						}
					}
				}
			}
			for _, k := range keys {
				for _, account := range []string{"", "123456789012", "210987654321"} {
					one := in
					one.Exposure = &Exposure{Exposure: iamkeys.Exposure{Account: account, StatusCode: string(start), EventTypeCode: iamkeys.ExposedCode}, Keys: k}
					if start == suspected {
						one.Exposure.EventTypeCode = ""
					}
					all = append(all, one)
				}
			}
			return all
		}
		return []Input{in}
	}
	for _, r := range stages {
		errs := []*StepError{nil}
		if !r.of.list {
			errs = append(errs, &StepError{}, &StepError{Name: "States.Timeout"}, &StepError{Name: string(iamkeys.Throttled)})
		}
		t.Run(r.of.field+" "+string(r.stage), func(t *testing.T) {
			for _, e := range errs {
				for _, in := range input(r.of, r.stage, unplanned, e) {
					check(t, in)
				}
			}
		})
	}
	for _, a := range answers {
		codes := a.codes
		if codes == nil {
			codes = []iamkeys.Code{iamkeys.Throttled}
		}
		t.Run(a.of.field+" "+string(a.stage)+" "+string(a.start), func(t *testing.T) {
			for _, code := range codes {
				for _, in := range input(a.of, a.stage, a.start, &StepError{Name: string(code)}) {
					check(t, in)
				}
			}
		})
	}
}

// A new stage is one row and one text: whatever else a notice has is made of them.
func TestNewStage(t *testing.T) {
	before := stages
	defer func() { stages = before }()
	stages = append(before[:len(before):len(before)], row{rotation, "halfway", "half the soak is over", "half the soak is over", "Inactive", lastSeen, func(s situation) text {
		return text{said: paragraphs(say("Half of the soak of %s is over.", s.oldKey()))}
	}})
	in := Input{Stage: "halfway", Rotation: &Rotation{Rotation: iamkeys.Rotation{UserName: "alice", AccessKeyID: new("AKIAIOSFODNN7EXAMPLE"), SecretID: new("iamkeys/alice")}}}
	about, r, err := in.about()
	if err != nil {
		t.Fatal(err)
	}
	m := message(situation{Input: in, matter: about, row: r, account: "123456789012"})
	if m.Subject != "IAM key rotation alice: half the soak is over" || !strings.Contains(m.Text, "AKIAIOSFODNN7EXAMPLE  Inactive") || !strings.Contains(m.Text, "Half of the soak of") || !strings.Contains(string(m.JSON), `"stage":"halfway"`) {
		t.Errorf("got %+v\n%s", m, m.Text)
	}
	if err := (Input{Stage: "halfway"}).Validate(); iamkeys.CodeOf(err) != iamkeys.InvalidInput || !strings.Contains(err.Error(), "rotation") {
		t.Errorf("got %v", err)
	}
}

// docs/notices.md is the table.
func TestNoticesPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Notices\n\nWhat people are told of keys on their way, made from the table in `pkg/iamkeys/notice/stages.go`. Each goes to the notification topic; to the\nuser's owner, where owner mail is on; and into the chat, where that is on. Attributes for subscription filters: `kind`, `stage`, and where they are\n" +
		"known `userName`, `owner`, `account` and `severity`. [retirement](retirement.md) and [exposure](exposure.md) show mails in full.\n\n| kind | stage | sent when | the subject says | about |\n|---|---|---|---|---|\n")
	for _, r := range stages {
		headline := strings.NewReplacer("%s", "...", "/", ", or ").Replace(r.headline)
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | `%s` |\n", r.of.kind, r.stage, r.when, headline, r.of.field)
	}
	b.WriteString("\nBeside these: `audit` (an account's report), `organization` (all accounts'), `digest` (what no owner hears of; each owner's own digest is a mail alone).\n\n## How ways end early\n\nWhat the notice says instead when a step answered so; the first that fits.\n\n| kind | stage | next step | error | the subject says |\n|---|---|---|---|---|\n")
	for _, a := range answers {
		codes := make([]string, len(a.codes))
		for i, c := range a.codes {
			codes[i] = "`" + string(c) + "`"
			if c == noAnswer {
				codes[i] = "no answer"
			}
		}
		start := map[iamkeys.Start]string{anyStep: "any", unplanned: "none was planned", ours: "the soak", notOurs: "none: off by another hand", closed: "none: the event is closed", suspected: "none: it is another event"}[a.start]
		if start == "" {
			start = "`" + string(a.start) + "`"
		}
		headline := strings.Replace(a.headline, "/", ", or ", 1)
		if headline == "" {
			headline = "as ever"
		}
		said := strings.Join(codes, ", ")
		if said == "" {
			said = "any"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", a.of.kind, a.stage, start, said, headline)
	}
	path := filepath.Join("..", "..", "..", "docs", "notices.md")
	if *Update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != b.String() {
		t.Errorf("%s is not what the table says (%v): run make update", path, err)
	}
}
