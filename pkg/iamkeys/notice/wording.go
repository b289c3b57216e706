package notice

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxSubject is how long a subject may be: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
const maxSubject = 99

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

// Count writes a number the way people read it: 10,000.
func Count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Several writes a number of things: 1 user, 2 users.
func Several(n int, thing string) string { return Count(n) + " " + Plural(thing, n) }

// Plural gives the thing's name as it goes with that number.
func Plural(thing string, n int) string {
	if n == 1 {
		return thing
	}
	return thing + "s"
}

// Date and Moment are in UTC, as everything in a report.
func Date(t time.Time) string   { return t.UTC().Format(time.DateOnly) }
func Moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Capital makes the start of a sentence, of English words.
func Capital(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func join(id, state string) string {
	if id == "" {
		return ""
	}
	return Printable(id) + "  " + state
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
