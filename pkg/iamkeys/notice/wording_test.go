package notice_test

import (
	"strings"
	"testing"

	"iamkeys/pkg/iamkeys/notice"
)

func TestColumns(t *testing.T) {
	for word, want := range map[string]int{"abc": 3, "Büro": 4, "e\u0301": 1, "東京": 4, "ﾊﾝｶｸ": 8, "＝": 2, "": 0} {
		if got := notice.Columns(word); got != want {
			t.Errorf("Columns(%q) = %d, want %d", word, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":             {"", ""},
		"one line":            {strings.Repeat("a", 70), "  " + strings.Repeat("a", 70)},
		"one word more":       {strings.Repeat("a", 68) + " b c", "  " + strings.Repeat("a", 68) + " b\n    c"},
		"a word too wide":     {"a " + strings.Repeat("b", 80) + " c", "  a\n    " + strings.Repeat("b", 80) + "\n    c"},
		"accents":             {strings.Repeat("é", 68) + " é", "  " + strings.Repeat("é", 68) + " é"},
		"without spaces":      {strings.Repeat("東", 70), "  " + strings.Repeat("東", 35) + "\n    " + strings.Repeat("東", 34) + "\n    東"},
		"half a column short": {"a" + strings.Repeat("東", 35), "  a" + strings.Repeat("東", 34) + "\n    東"},
	} {
		if got := notice.Wrap("  ", "    ", c.in); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}
