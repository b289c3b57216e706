package render

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
)

var berlin = time.FixedZone("CET", 3600)

// nasties are texts that have broken reports elsewhere.
var nasties = []string{
	`<script>alert(1)</script>`, `</style><script src=//evil.example></script>`, `"><img src=x onerror=alert(1)>`, `</td></tr></table>`, `<!--`, `]]>`, `&lt;b&gt;`,
	`javascript:alert(1)`, `' onmouseover='alert(1)`, "=1+1", "=HYPERLINK(\"http://evil.example\")", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "'=1", "\"=1",
	"＝1+1", "＋1", "－1", "＠SUM", "\u200b=1", "\u00a0=1", "\ufeff=1", "x;=1+1", "x; \"=1", "x\t=1", "=", ";", `"`, ",", "\r\n", "a,\"b\"\r\nc;d",
	"\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x00", "\x7f", "\u0085", "\u009b31m", "\u202egnp.exe", "\u2066x\u2069", "\u200f", "\u061c", "\u2028=1", "\u2029",
	"\xff\xfe", "\xed\xa0\x80", "a\xc0\xafb", "Z\u0335\u0321a\u0327\u0338l\u0336g\u0334o", "👩‍👩‍👧‍👧", "所有者は営業部の田中太郎です", "צוות הבנייה", strings.Repeat("long", 64), strings.Repeat("所", 256), strings.Repeat("a b ", 99),
	"", " ", "\n", "user+tag=x,y.z@example.com_-",
}

// fill sets every string of the report that a tag, a user or a stored file can
// reach, in lists of findings too.
func fill(r *audit.Report, next func() string) {
	severity := reflect.TypeFor[audit.Severity]()
	var visit func(v reflect.Value)
	visit = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			if v.Type() != severity {
				v.SetString(next())
			}
		case reflect.Pointer:
			if v.IsNil() && v.Type().Elem().Kind() == reflect.String {
				v.Set(reflect.New(v.Type().Elem()))
			}
			if !v.IsNil() && v.Type() != reflect.TypeFor[*time.Time]() {
				fresh := reflect.New(v.Type().Elem()) // findings share some
				fresh.Elem().Set(v.Elem())
				v.Set(fresh)
				visit(fresh.Elem())
			}
		case reflect.Slice:
			v.Set(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v)) // rules share some
			for i := range v.Len() {
				visit(v.Index(i))
			}
		case reflect.Struct:
			if v.Type() != reflect.TypeFor[time.Time]() {
				for i := range v.NumField() {
					visit(v.Field(i))
				}
			}
		}
	}
	visit(reflect.ValueOf(r).Elem())
}

// hostile is a report whose users and tags are, as far as the schema lets them.
func hostile() audit.Report {
	r := weekly()
	i := 0
	next := func() string { i++; return nasties[i%len(nasties)] }
	pointer := func() *string { s := next(); return &s }
	r.Summary.Notes = nasties[:12]
	for _, list := range [][]audit.Finding{r.Findings, r.Exempt, r.Resolved} {
		for j := range list {
			f := &list[j]
			f.UserName, f.UserARN, f.Owner, f.ServiceName, f.Region, f.Remedy = next(), next(), pointer(), pointer(), pointer(), next()
			if f.Exemption != nil {
				f.Exemption.Reason = next()
			} else {
				f.Exemption = &iamkeys.Exemption{Reason: next(), Until: next(), Invalid: pointer()}
			}
		}
	}
	return r
}

// A failer is a test, a fuzz target or a rapid property.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// sound checks what holds for a form of any report.
func sound(t failer, r audit.Report, content []byte, form string) {
	t.Helper()
	switch form {
	case "txt":
		soundText(t, string(content))
	case "csv":
		soundCSV(t, r, content)
	case "html":
		soundHTML(t, string(content))
	}
}

func soundText(t failer, text string) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		for _, c := range line {
			if c != ' ' && !unicode.IsGraphic(c) || c == '\u2028' || c == '\u2029' {
				t.Fatalf("the mail holds the control or format character %U: %q", c, line)
			}
		}
		width := notice.Columns(line)
		if words := strings.Fields(line); width > notice.MailColumns && (len(words) > 1 || width == 2*utf8.RuneCountInString(line)) {
			t.Fatalf("a line of the mail is %d columns wide, though it could be broken: %q", width, line)
		}
	}
	if !utf8.ValidString(text) {
		t.Fatal("the mail is not valid UTF-8")
	}
}

// formula reports whether a spreadsheet may take the cell for one.
func formula(cell string) bool {
	// A program may strip white space and what it cannot show; a quote that opens
	// the cell is syntax to it.
	bare := strings.TrimLeftFunc(cell, func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == '"' || r == unicode.ReplacementChar
	})
	first, _ := utf8.DecodeRuneInString(bare)
	return strings.ContainsRune("=+-@＝＋－＠", first) || strings.ContainsAny(cell, "\t\r\n")
}

func soundCSV(t failer, r audit.Report, content []byte) {
	t.Helper()
	reader := csv.NewReader(bytes.NewReader(content))
	reader.FieldsPerRecord = len(header)
	rows, err := reader.ReadAll()
	if err != nil {
		t.Fatalf("the CSV cannot be read: %v", err)
	}
	findings := slices.Concat(r.Findings, r.Exempt, r.Resolved)
	if len(rows) != 1+len(findings) || bytes.Count(content, []byte("\r\n")) != len(rows) || bytes.Count(content, []byte("\n")) != len(rows) {
		t.Fatalf("the CSV has %d rows on %d lines, want 1 + %d", len(rows), bytes.Count(content, []byte("\n")), len(findings))
	}
	for i, row := range rows {
		for j, cell := range row {
			for _, part := range strings.Split(cell, ";") {
				if formula(part) {
					t.Fatalf("column %s may be taken for a formula: %q", header[j], cell)
				}
			}
			if !utf8.ValidString(cell) {
				t.Fatalf("column %s is not valid UTF-8: %q", header[j], cell)
			}
		}
		if i == 0 {
			continue
		}
		// A cell's value is the text's, up to what clean takes and the apostrophes that inert puts in.
		got := strings.ReplaceAll(row[slices.Index(header, "userName")], "'", "")
		if want := strings.ReplaceAll(clean(findings[i-1].UserName), "'", ""); got != want {
			t.Fatalf("row %d has user name %q, want %q", i, got, want)
		}
	}
}

// readable is the page's text as a reader sees it.
func readable(page string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			b.WriteString(z.Token().Data)
		case html.StartTagToken, html.EndTagToken:
			if name, _ := z.TagName(); !slices.Contains([]string{"b", "bdi", "code", "strong", "mark", "a", "span"}, string(name)) {
				b.WriteByte(' ')
			}
		}
	}
}

// The elements and attributes that the page is made of; nothing else may be in it.
var (
	elements   = strings.Fields("html head meta title style body header main footer section h1 h2 p b bdi strong ul li dl div dt dd a span table thead tbody tr th td small code mark figure figcaption svg desc line rect text")
	attributes = strings.Fields("lang charset name content http-equiv class role id aria-labelledby href scope rowspan colspan width height x y x1 x2 y1 y2 dx dy text-anchor overflow")
	void       = []string{"meta"}
)

func soundHTML(t failer, page string) {
	t.Helper()
	if !utf8.ValidString(page) {
		t.Fatal("the page is not valid UTF-8")
	}
	z := html.NewTokenizer(strings.NewReader(page))
	var open []string
	ids, references := map[string]int{}, []string{}
	level, tables, heads := 0, 0, 0
	for {
		kind := z.Next()
		token := z.Token()
		switch kind {
		case html.ErrorToken:
			if z.Err() != io.EOF {
				t.Fatal(z.Err())
			}
			if len(open) != 0 {
				t.Fatalf("elements are left open: %v", open)
			}
			for _, id := range references {
				if ids[id] != 1 {
					t.Fatalf("%d elements have the ID %q that is referred to, want 1", ids[id], id)
				}
			}
			if tables != heads {
				t.Fatalf("%d tables have %d heads", tables, heads)
			}
			return
		case html.TextToken:
			for _, c := range token.Data {
				if c != '\n' && c != '\t' && !unicode.IsGraphic(c) {
					t.Fatalf("the page holds the control or format character %U", c)
				}
			}
		case html.CommentToken:
			t.Fatalf("the page holds a comment: %q", token.Data)
		case html.StartTagToken, html.SelfClosingTagToken:
			if !slices.Contains(elements, token.Data) {
				t.Fatalf("the page holds an element %s: %s", token.Data, token)
			}
			if !slices.Contains(void, token.Data) && kind == html.StartTagToken {
				open = append(open, token.Data)
			}
			scope := false
			for _, a := range token.Attr {
				if !slices.Contains(attributes, a.Key) {
					t.Fatalf("the page holds an attribute %s: %s", a.Key, token)
				}
				switch a.Key {
				case "id":
					ids[a.Val]++
				case "aria-labelledby":
					references = append(references, strings.Fields(a.Val)...)
				case "href":
					if !strings.HasPrefix(a.Val, "#") {
						t.Fatalf("the page refers to %s", a.Val)
					}
					references = append(references, a.Val[1:])
				case "scope":
					scope = true
				}
			}
			switch token.Data {
			case "h1", "h2":
				if next := int(token.Data[1] - '0'); next > level+1 {
					t.Fatalf("a heading of level %d follows one of level %d", next, level)
				} else {
					level = next
				}
			case "th":
				if !scope {
					t.Fatal("a table header does not say what it heads")
				}
			case "table":
				tables++
			case "thead":
				heads++
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("%s is closed within %v", token.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
}

func TestStylesheetFetchesNothing(t *testing.T) {
	for _, bad := range []string{"url(", "@import", "@font-face", "image-set(", "expression(", "<", "//"} {
		if strings.Contains(stylesheet, bad) {
			t.Errorf("page.css holds %q: the page must fetch nothing and its style must end where it ends", bad)
		}
	}
}

// soundForms fills a report with such strings and checks all its forms.
func soundForms(t failer, next func() string) {
	t.Helper()
	r := incomplete()
	r.Resolved = weekly().Resolved
	fill(&r, next)
	page, err := HTML(r)
	if err != nil {
		t.Fatal(err)
	}
	soundHTML(t, string(page))
	soundCSV(t, r, CSV(r))
	soundText(t, string(Text(r, next(), 0)))
	soundText(t, string(Text(r, next(), 3)))
	j, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back audit.Report
	if err := json.Unmarshal(j, &back); err != nil {
		t.Fatalf("the JSON cannot be read back: %v", err)
	}
	for i, f := range r.Findings {
		if want := strings.ToValidUTF8(f.UserName, "\uFFFD"); strings.ToValidUTF8(back.Findings[i].UserName, "\uFFFD") != want && utf8.ValidString(f.UserName) {
			t.Fatalf("JSON gives user name %q back as %q", want, back.Findings[i].UserName)
		}
	}
}

func TestHostileText(t *testing.T) {
	for _, nasty := range nasties {
		soundForms(t, func() string { return nasty })
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.SampledFrom(nasties), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		some := rapid.SliceOfN(text, 1, 12).Draw(t, "texts")
		i := 0
		soundForms(t, func() string { i++; return some[i%len(some)] })
	})
}

func FuzzHostileText(f *testing.F) {
	for _, nasty := range nasties {
		f.Add(nasty, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		i := 0
		soundForms(t, func() string { i++; return []string{a, b, a + b, b + ";" + a}[i%4] })
	})
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                      "plain",
		"two\nlines \t and\u00a0a":   "two lines and a",
		"\x1b[31mred":                "\uFFFD[31mred",
		"\u202egnp.exe":              "\uFFFDgnp.exe",
		"Büro 東京":                    "Büro 東京",
		"e\u0301":                    "e\u0301",
		"\xff":                       "\uFFFD",
		" \u3000 ":                   "",
		"soft\u00adhyphen\u200bzwsp": "soft\uFFFDhyphen\uFFFDzwsp",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestInert(t *testing.T) {
	for in, want := range map[string]string{
		"user+tag=x,y.z@example.com_-": "user+tag=x,y.z@example.com_-",
		"=1":                           "'=1",
		"＝1":                           "'＝1",
		"  @x":                         "'@x",
		"\t+x":                         "'+x",
		"\u200b-x":                     "'\uFFFD-x",
		`"=x`:                          `'"=x`,
		"a;=b; -c;d":                   "a;'=b;' -c;d",
		"1-1":                          "1-1",
		"":                             "",
	} {
		if got := inert(in); got != want {
			t.Errorf("inert(%q) = %q, want %q", in, got, want)
		}
	}
}
