package notice

import (
	"cmp"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"iamkeys/pkg/iamkeys"
)

// The lengths that a chat shows, in characters. AWS does not name its limits; these are safe.
const (
	maxTitle       = 250
	maxDescription = 2000
	maxStep        = 500
	maxSteps       = 10
)

// chat writes the message in the custom notification schema of Amazon Q Developer in
// chat applications; whatever else is on its topic it drops.
// https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html
func chat(m iamkeys.Message) iamkeys.Message {
	type content struct {
		TextType    string   `json:"textType"`
		Title       string   `json:"title"`
		Description string   `json:"description"`
		NextSteps   []string `json:"nextSteps,omitempty"`
		Keywords    []string `json:"keywords,omitempty"`
	}
	type metadata struct {
		ThreadID          string            `json:"threadId"`
		Summary           string            `json:"summary"`
		EventType         string            `json:"eventType"`
		AdditionalContext map[string]string `json:"additionalContext"`
	}
	attributes := map[string]string{} // those whose values are ours
	var user, account string
	for _, a := range m.Attributes {
		switch a.Name {
		case "kind", "stage", "severity", "new", "findings":
			if a.Value != "" {
				attributes[a.Name] = a.Value
			}
		case "userName":
			user = a.Value
		case "account":
			account = a.Value
		}
	}
	kind := attributes["kind"]
	title := cut(escape(m.Subject), maxTitle)
	steps := m.NextSteps[:min(len(m.NextSteps), maxSteps)]
	written := make([]string, len(steps))
	for i, s := range steps {
		written[i] = cut(escape(s), maxStep)
	}
	keywords := []string{"iamkeys", kind}
	if stage := attributes["stage"]; stage != "" {
		keywords = append(keywords, stage)
	}
	body, _ := json.Marshal(struct {
		Version  string   `json:"version"`
		Source   string   `json:"source"`
		Content  content  `json:"content"`
		Metadata metadata `json:"metadata"`
	}{
		"1.0", "custom",
		content{"client-markdown", title, cut(escape(cmp.Or(m.Brief, m.Text)), maxDescription), written, keywords},
		metadata{cut(escape(cmp.Or(user, account, kind)), maxTitle), title, "iamkeys " + kind, attributes},
	}) // strings always marshal
	return iamkeys.Message{JSON: body, Attributes: m.Attributes}
}

// escape makes text of untrusted words that a chat shows as it is: no Markdown, no
// entity, no mention of a person or channel comes of it. Its lines stay.
func escape(s string) string {
	var b strings.Builder
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		runes := []rune(Printable(line))
		word := func(i int) bool {
			return i >= 0 && i < len(runes) && (unicode.IsLetter(runes[i]) || unicode.IsDigit(runes[i]))
		}
		for i, r := range runes {
			switch {
			case r == '&':
				b.WriteString("&amp;")
			case r == '<':
				b.WriteString("&lt;")
			case r == '>':
				b.WriteString("&gt;")
			case r == '@' && (!word(i-1) || unicode.IsDigit(runes[i-1]) && runes[i-1] > '9'): // a mention, and not a mail address
				b.WriteString("@\u200b")
			case r == '_' && word(i-1) && word(i+1): // within a word it means nothing
				b.WriteRune(r)
			case strings.ContainsRune("\\`*_~[]|#", r):
				b.WriteByte('\\')
				b.WriteRune(r)
			default:
				b.WriteRune(r)
			}
		}
	}
	return strings.TrimSpace(b.String())
}

// cut shortens text that was escaped to that many characters, and not within an escape.
func cut(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	kept := []rune(s)[:most-4]
	for i := len(kept) - 1; i >= max(0, len(kept)-5); i-- { // the longest escape has five characters
		if kept[i] == '&' {
			kept = kept[:i]
			break
		}
	}
	backslashes := 0
	for i := len(kept) - 1; i >= 0 && kept[i] == '\\'; i-- {
		backslashes++
	}
	return string(kept[:len(kept)-backslashes%2]) + " ..."
}
