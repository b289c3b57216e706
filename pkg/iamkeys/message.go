package iamkeys

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Message is what goes to the notification topic: the audit's report and the
// notices of rotations alike.
type Message struct {
	Subject    string      // at most 99 printable ASCII characters
	Text       string      // what e-mail subscribers read
	JSON       []byte      // what all others get
	Attributes []Attribute // for subscription filters
}

// An Attribute is a message attribute; empty values are left out, since SNS refuses them.
type Attribute struct {
	Name, Value string
	Number      bool
}

// NotificationSNS is what sending a [Message] asks of SNS.
type NotificationSNS interface {
	// Publish publishes to the notification topic and gives the message's ID.
	Publish(ctx context.Context, m Message) (messageID string, err error)
}

// SNS's limits: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
const (
	maxMessageBytes = 262_144 // body and attributes together
	maxSubject      = 99
)

// Body gives the message as SNS takes it with MessageStructure json: the text
// for the protocol email, the JSON for all others.
func (m Message) Body() string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // <, > and & would take six bytes each
	// Two strings always marshal.
	_ = e.Encode(struct {
		Default string `json:"default"`
		Email   string `json:"email"`
	}{string(m.JSON), m.Text})
	return strings.TrimSuffix(b.String(), "\n")
}

// fits reports whether SNS takes a message of this size.
func (m Message) fits() bool {
	size := len(m.Subject) + len(m.Body())
	for _, a := range m.Attributes {
		size += len(a.Name) + len(a.Value) + len("String")
	}
	return size <= maxMessageBytes
}

// subject makes s fit for an SNS subject: printable ASCII, cut at its limit.
func subject(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxSubject {
		s = s[:maxSubject-3] + "..."
	}
	return s
}

// Printable makes one line of untrusted text that does nothing but show. White
// space of any kind, line ends too, becomes single spaces; whatever else has no
// shape of its own (control characters, terminal escapes, marks that turn the
// writing direction, invalid UTF-8) becomes U+FFFD.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
}

// attributeText makes s fit for an attribute, at most 256 bytes.
func attributeText(s string) string {
	s = Printable(s)
	for len(s) > 256 {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// MailColumns is the width that mail clients show plain text without wrapping.
const MailColumns = 72

// Wrap breaks one line of text into lines of at most [MailColumns]: at spaces, and
// within East Asian text where there are none. Only another word that is wider than
// a line stands out. The first line begins with indent, the others with hanging.
func Wrap(indent, hanging, s string) string {
	var b strings.Builder
	column := 0
	start := func(with string) {
		b.WriteString(with)
		column = len(with)
	}
	next := func() {
		b.WriteByte('\n')
		start(hanging)
	}
	for i, word := range strings.Fields(s) {
		switch {
		case i == 0:
			start(indent)
		case column+1+Columns(word) > MailColumns:
			next()
		default:
			b.WriteByte(' ')
			column++
		}
		for _, r := range word {
			w := columns(r)
			if w == 2 && column+w > MailColumns {
				next()
			}
			b.WriteRune(r)
			column += w
		}
	}
	return b.String()
}

// Columns is how many columns a terminal or mail client with a fixed pitch gives to
// s: two for each East Asian character and emoji, none for combining marks.
func Columns(s string) int {
	n := 0
	for _, r := range s {
		n += columns(r)
	}
	return n
}

func columns(r rune) int {
	switch {
	case r < utf8.RuneSelf:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul),
		r >= 0x3000 && r <= 0x303F, r >= 0xFF01 && r <= 0xFF60, r >= 0xFFE0 && r <= 0xFFE6, r >= 0x1F300 && r <= 0x1FAFF:
		return 2
	}
	return 1
}
