package notice

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A matter is what a notice is about.
type matter struct {
	of       way
	start    iamkeys.Start // the step that is next, unplanned where none was planned
	userName string        // "" of a list
	owner    string        // as the user's tag names it
	count    int           // of a list
	check    func(Stage) error
	facts    func(row) []fact // what stands above the text
	list     func() []string  // what stands below it
}

// A fact is a line above a text: its name, and what is known of it; "" leaves it out.
type fact struct{ name, value string }

// A situation is all that a text is made from.
type situation struct {
	Input
	matter
	row row
	now time.Time
}

// A text is what a notice says: what happened, then what to do, by when, and how to stop.
type text struct{ said, todo []string }

func say(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// in gives the time that many seconds ahead.
func (s situation) in(seconds int) string {
	return s.now.Add(time.Duration(seconds) * time.Second).UTC().Format("2006-01-02 15:04 MST")
}

// saying gives the headline.
func (s situation) saying() string {
	switch one, more, of := strings.Cut(s.row.headline, "/"); {
	case of:
		if s.count != 1 {
			one = more
		}
		return Count(s.count) + " " + one
	case s.row.headline == failedWith && s.Error.code() == "":
		return "failed"
	case s.row.headline == failedWith:
		return fmt.Sprintf(failedWith, Printable(s.Error.Name))
	}
	return s.row.headline
}

// message writes the notice.
func message(s situation) iamkeys.Message {
	headline := s.saying()
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", Capital(headline))
	if s.facts != nil {
		facts := s.facts(s.row)
		if s.Error != nil {
			facts = append(facts, fact{"Error", Printable(s.Error.Name)})
		}
		for _, f := range facts {
			if f.value != "" {
				fmt.Fprintf(&b, "%-9s %s\n", f.name, f.value)
			}
		}
		b.WriteByte('\n')
	}
	t := s.row.text(s)
	for i, paragraph := range append(t.said, t.todo...) {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(Wrap("", "", Printable(paragraph)) + "\n")
	}
	if s.list != nil {
		b.WriteByte('\n')
		for _, line := range s.list() {
			b.WriteString(line + "\n")
		}
	}
	tell := func(introduction string, e *StepError) {
		if e != nil {
			fmt.Fprintf(&b, "\n%s\n", Wrap("", "", Printable(introduction+" "+e.Name+":")))
			fmt.Fprintf(&b, "%s\n", Wrap("  ", "  ", Printable(cmp.Or(e.Message, "no details were given"))))
		}
	}
	tell("The last thing reported was", s.Error)
	tell("Before that, an attempt to switch the old key off met", s.EarlierError)
	about := "IAM key " + string(s.of.kind)
	if s.userName != "" {
		about += " " + s.userName
	}
	content, _ := json.Marshal(struct {
		Kind Kind `json:"kind"`
		Input
	}{s.of.kind, s.Input}) // strings and numbers always marshal
	return iamkeys.Message{
		Subject: subject(about + ": " + headline), Text: b.String(), JSON: content,
		Attributes: []iamkeys.Attribute{
			{Name: "kind", Value: string(s.of.kind)},
			{Name: "stage", Value: string(s.Stage)},
			{Name: "userName", Value: s.userName},
			{Name: "owner", Value: attributeText(s.owner)},
		},
	}
}
