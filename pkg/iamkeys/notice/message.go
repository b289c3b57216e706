package notice

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
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
	severity string        // attribute; "" for none
	named    string        // what the subject names, where that is not the user
	check    func(Stage) error
	facts    func(row) []fact // what stands above the text
	list     func() []string  // what stands below it
}

// A fact is a line above a text: its name, and what is known of it; "" leaves it out.
type fact struct{ name, value string }

// line writes the fact as a mail has it.
func (f fact) line() string {
	name := fmt.Sprintf("%-9s ", f.name)
	if Columns(name+f.value) <= MailColumns {
		return name + f.value
	}
	return Wrap(name, strings.Repeat(" ", len(name)), f.value)
}

// A situation is all that a text is made from.
type situation struct {
	Input
	matter
	row     row
	account string
	now     time.Time
	zone    *time.Location
}

// A text is what a notice says: what happened, then what to do, by when, and how to stop.
type text struct{ said, todo []paragraph }

// A paragraph is words, or a command to paste.
type paragraph struct {
	words   string
	command []string // by arguments
}

func say(format string, args ...any) paragraph { return paragraph{words: fmt.Sprintf(format, args...)} }

func paste(arguments ...string) paragraph { return paragraph{command: arguments} }

func paragraphs(all ...paragraph) []paragraph { return all }

// in gives the time that many seconds ahead, where people are.
func (s situation) in(seconds int) string {
	return s.at(seconds).Format("Mon 2006-01-02 15:04 MST")
}

func (s situation) at(seconds int) time.Time {
	return s.now.Add(time.Duration(seconds) * time.Second).In(s.zone)
}

// mail writes the paragraph as a mail has it.
func (p paragraph) mail() string {
	if p.command == nil {
		return Wrap("", "", Printable(p.words))
	}
	var lines []string // never broken between an option and its value
	value := true
	for i, argument := range p.command {
		written, option := shellWord(argument), strings.HasPrefix(argument, "--")
		whole := written
		if option && i+1 < len(p.command) {
			whole += " " + shellWord(p.command[i+1])
		}
		last := len(lines) - 1
		switch {
		case i == 0:
			lines = append(lines, "  "+written)
		case (option || !value) && Columns(lines[last]+" "+whole) > MailColumns-2:
			lines = append(lines, "    "+written)
		default:
			lines[last] += " " + written
		}
		value = option
	}
	return strings.Join(lines, " \\\n")
}

// shellWord is [iamkeys.ShellWord] of what shows.
func shellWord(s string) string { return iamkeys.ShellWord(Printable(s)) }

// saying gives the headline.
func (s situation) saying() string {
	headline := s.row.headline
	switch one, more, of := strings.Cut(headline, "/"); {
	case of && s.count == 0: // it is not known how many
		return more
	case of && s.count == 1:
		return "1 " + one
	case of:
		return Count(s.count) + " " + more
	case headline == failedWith && s.Error.code() == "":
		return "failed"
	case headline == failedWith:
		return fmt.Sprintf(headline, Printable(s.Error.Name))
	case strings.Contains(headline, "%s"):
		return fmt.Sprintf(headline, s.at(s.offIn()).Format("Mon 2006-01-02"))
	}
	return headline
}

// message writes the notice, with as many exposed keys as it holds, and to the owner of
// each what is theirs.
func message(s situation) iamkeys.Message {
	if s.Exposure == nil {
		return write(s)
	}
	of := func(keys []ExposedKey, omitted int) situation {
		part := s
		e := *s.Exposure
		e.Keys, e.Omitted = keys, omitted
		part.Exposure, part.matter = &e, ofExposure(e)
		return part
	}
	all := s.Exposure.Keys
	m := fit(len(all), func(most int) iamkeys.Message { return write(of(all[:most], len(all)-most)) })
	if m.Mails == nil {
		owners := map[string][]ExposedKey{}
		for _, k := range all {
			if owner := value(k.Owner); owner != "" {
				owners[owner] = append(owners[owner], k)
			}
		}
		for _, owner := range slices.Sorted(maps.Keys(owners)) {
			mine := write(of(owners[owner], 0))
			m.Mails = append(m.Mails, iamkeys.Mail{Owner: owner, Subject: mine.Subject, Text: mine.Text + "\n" + why("of their users")})
		}
	}
	return m
}

// write writes the notice.
func write(s situation) iamkeys.Message {
	headline, t := s.saying(), s.row.text(s)
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", Capital(headline))
	brief := lines(t.said)
	if s.facts != nil {
		facts := s.facts(s.row)
		if facts[0].name != "Account" {
			facts = append([]fact{{"Account", s.account}}, facts...)
		}
		if s.Error != nil {
			facts = append(facts, fact{"Error", Printable(s.Error.Name)})
		}
		for _, f := range facts {
			if f.value != "" {
				b.WriteString(f.line() + "\n")
				brief = append(brief, f.name+": "+f.value)
			}
		}
		b.WriteByte('\n')
	}
	for i, p := range slices.Concat(t.said, t.todo) {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.mail() + "\n")
	}
	if s.list != nil {
		b.WriteByte('\n')
		for _, line := range s.list() {
			b.WriteString(line + "\n")
			brief = append(brief, strings.TrimSpace(line))
		}
	}
	tell := func(introduction string, e *StepError) {
		if e != nil {
			name := nonempty(Printable(e.Name), "an error without a name")
			fmt.Fprintf(&b, "\n%s\n", Wrap("", "", introduction+" "+name+":"))
			message := Printable(cmp.Or(e.Message, "no details were given"))
			fmt.Fprintf(&b, "%s\n", Wrap("  ", "  ", message))
			brief = append(brief, name+": "+message)
		}
	}
	tell("The last thing reported was", s.Error)
	tell("Before that, an attempt to switch the old key off met", s.EarlierError)
	about := "IAM key " + string(s.of.kind)
	if name := cmp.Or(s.userName, s.named); name != "" {
		if room := maxSubject - len(about+" "+": "+headline); len(name) > room { // what has happened goes before a long name
			name = name[:max(0, room-3)] + "..."
		}
		about += " " + name
	}
	content, _ := json.Marshal(struct {
		Kind Kind `json:"kind"`
		Input
	}{s.of.kind, s.Input}) // strings and numbers always marshal
	m := iamkeys.Message{
		Subject: subject(about + ": " + headline), Text: b.String(), JSON: content,
		Brief: strings.Join(brief, "\n"), NextSteps: lines(t.todo),
		Attributes: []iamkeys.Attribute{
			{Name: "kind", Value: string(s.of.kind)},
			{Name: "stage", Value: string(s.Stage)},
			{Name: "severity", Value: s.severity},
			{Name: "userName", Value: attributeText(s.userName)},
			{Name: "account", Value: attributeText(s.named)},
			{Name: "owner", Value: attributeText(s.owner)},
		},
	}
	if s.owner != "" {
		m.Mails = []iamkeys.Mail{{Owner: s.owner, Subject: m.Subject, Text: m.Text + "\n" + why("of IAM user "+Printable(s.userName))}}
	}
	return m
}

// why tells an owner why the mail came.
func why(users string) string {
	return Wrap("", "", "You get this mail because the owner tag "+users+" is your address.") + "\n"
}

// fit gives the message that has as many of n things as SNS takes.
func fit(n int, build func(most int) iamkeys.Message) iamkeys.Message {
	if m := build(n); m.Fits() {
		return m
	}
	tooMany := sort.Search(n, func(most int) bool { return !build(most).Fits() })
	return build(max(0, tooMany-1))
}

// lines gives each paragraph as one line.
func lines(all []paragraph) (written []string) {
	for _, p := range all {
		line := p.words
		if p.command != nil {
			words := make([]string, len(p.command))
			for i, argument := range p.command {
				words[i] = shellWord(argument)
			}
			line = strings.Join(words, " ")
		}
		written = append(written, Printable(line))
	}
	return written
}
