package render

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/format"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/a-h/templ/generator"
	parser "github.com/a-h/templ/parser/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"iamkeys/pkg/iamkeys/audit"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

const where = "s3://iamkeys-reports/reports/123456789012/2026/11/23/20261123T060000Z"

// samples are the reports that the golden files are of. weekly.html is also what
// the pictures in docs show, as Debian's chromium draws it with fonts-noto-core:
//
//	chromium --headless --no-sandbox --hide-scrollbars --window-size=1280,1222 \
//	    --screenshot=docs/report.png file://$PWD/pkg/render/testdata/weekly.html
//
// and docs/report-dark.png with --blink-settings=preferredColorScheme=0 as well.
var samples = map[string]func() audit.Report{
	"weekly":     weekly,
	"incomplete": incomplete,
	"fine":       fine,
	"deserted":   deserted,
	"hostile":    hostile,
}

func TestGolden(t *testing.T) {
	for name, sample := range samples {
		r := sample()
		page, err := HTML(r)
		if err != nil {
			t.Fatal(err)
		}
		for ext, got := range map[string][]byte{"txt": Text(r, where, 0), "csv": CSV(r), "html": page} {
			t.Run(name+"."+ext, func(t *testing.T) {
				file := filepath.Join("testdata", name+"."+ext)
				if *update {
					if err := os.WriteFile(file, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatalf("%v; go test ./pkg/render -update writes it", err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s is not what it was; look at what go test ./pkg/render -update changes. First difference: %s", file, difference(got, want))
				}
				sound(t, r, got, ext)
			})
		}
	}
}

func difference(got, want []byte) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	around := func(b []byte) string { return strconv.Quote(string(b[max(0, i-30):min(len(b), i+60)])) }
	return fmt.Sprintf("got %s, want %s", around(got), around(want))
}

// TestEveryRuleIsInTheGoldenFiles holds the samples to their purpose.
func TestEveryRuleIsInTheGoldenFiles(t *testing.T) {
	rules, states := map[audit.RuleID]bool{}, map[audit.State]bool{}
	for _, sample := range samples {
		r := sample()
		for _, f := range slices.Concat(r.Findings, r.Exempt, r.Resolved) {
			rules[f.Rule], states[f.State] = true, true
			if what(f) == string(f.Rule) {
				t.Errorf("rule %s has no words of its own", f.Rule)
			}
		}
	}
	for _, rule := range audit.Rules {
		if !rules[rule.ID] {
			t.Errorf("no sample has a finding of rule %s", rule.ID)
		}
		if rule.When(thresholds) == "" {
			t.Errorf("the page does not say what rule %s looks for", rule.ID)
		}
	}
	for _, state := range []audit.State{audit.New, audit.Open, audit.Exempt, audit.Resolved} {
		if !states[state] {
			t.Errorf("no sample has a finding that is %s", state)
		}
	}
}

// TestNothingIsHidden looks for every finding, with all that a reader needs, in each form.
func TestNothingIsHidden(t *testing.T) {
	for name, sample := range map[string]func() audit.Report{"weekly": weekly, "incomplete": incomplete, "many": func() audit.Report { return many(300) }} {
		r := sample()
		page, _ := HTML(r)
		forms := map[string]string{"text": string(Text(r, where, 0)), "CSV": string(CSV(r)), "HTML": string(page)}
		for form, content := range forms {
			if form == "HTML" {
				content = readable(content)
			}
			content = strings.Join(strings.Fields(content), " ")
			for _, f := range slices.Concat(r.Findings, r.Exempt, r.Resolved) {
				needs := []string{f.UserName, value(f.AccessKeyID)}
				if f.State == audit.New || f.State == audit.Open {
					needs = append(needs, f.Remedy, string(f.Rule), value(f.Owner), value(f.ServiceName), value(f.Region))
					if f.LastUsedDate != nil {
						needs = append(needs, date(*f.LastUsedDate))
					}
				}
				if f.AgeDays != nil && f.State != audit.Resolved && f.State != audit.Exempt && form != "CSV" {
					needs = append(needs, age(f))
				}
				if f.Exemption != nil {
					needs = append(needs, f.Exemption.Reason, f.Exemption.Until, value(f.Exemption.Invalid))
				}
				for _, need := range needs {
					if !strings.Contains(content, need) {
						t.Errorf("%s, %s: %q of %s, %s is not in it", name, form, need, f.UserName, f.Rule)
					}
				}
			}
			for _, note := range r.Summary.Notes {
				if form != "CSV" && !strings.Contains(content, note) {
					t.Errorf("%s, %s: the note %q is not in it", name, form, note)
				}
			}
		}
	}
}

func TestCoverage(t *testing.T) {
	c := func(users, usersExamined, keys, keysExamined int, complete bool) audit.Summary {
		return audit.Summary{Coverage: audit.Coverage{Users: users, UsersExamined: usersExamined, Keys: keys, KeysExamined: keysExamined, Complete: complete}}
	}
	found := func(s audit.Summary) audit.Summary {
		s.Severities.Medium, s.Severities.High, s.New = 2, 1, 3
		return s
	}
	for _, test := range []struct {
		summary            audit.Summary
		headline, coverage string
	}{
		{c(12, 12, 15, 15, true), "No findings", "Complete: 12 users, 15 access keys, and the root user."},
		{c(1, 1, 1, 1, true), "No findings", "Complete: 1 user, 1 access key, and the root user."},
		{c(0, 0, 0, 0, true), "No users", "The account has no IAM users; the root user was examined."},
		{found(c(1200, 1200, 1500, 1500, true)), "3 findings (3 new, 0 critical, 1 high)", "Complete: 1,200 users, 1,500 access keys, and the root user."},
		{c(12, 10, 15, 11, false), "INCOMPLETE, without 2 of 12 users", "Incomplete: 2 of 12 users and 4 of 15 access keys known were not examined."},
		{found(c(12, 12, 15, 14, false)), "INCOMPLETE, without 1 of 15 access keys; 3 findings (3 new, 0 critical, 1 high)", "Incomplete: 0 of 12 users and 1 of 15 access keys known were not examined."},
		{found(c(12, 0, 0, 0, false)), "INCOMPLETE, without 12 of 12 users; 3 findings (3 new, 0 critical, 1 high)", "Incomplete: 12 of 12 users and 0 of 0 access keys known were not examined."},
		{c(12, 12, 15, 15, false), "INCOMPLETE, without the root user", "Incomplete: the root user was not examined; 12 users and 15 access keys were."},
		{c(0, 0, 0, 0, false), "INCOMPLETE, without the root user; no users", "Incomplete: the root user was not examined; 0 users and 0 access keys were."},
	} {
		if got := headline(test.summary); got != test.headline {
			t.Errorf("headline of %+v = %q, want %q", test.summary.Coverage, got, test.headline)
		}
		if got := coverage(test.summary.Coverage); got != test.coverage {
			t.Errorf("coverage of %+v = %q, want %q", test.summary.Coverage, got, test.coverage)
		}
		r := audit.Report{Summary: test.summary}
		page, _ := HTML(r)
		for form, content := range map[string]string{"text": string(Text(r, "", 0)), "HTML": readable(string(page))} {
			content = strings.Join(strings.Fields(content), " ")
			if !strings.Contains(content, test.headline) || !strings.Contains(content, test.coverage) {
				t.Errorf("%s of %+v says neither %q nor %q plainly", form, test.summary.Coverage, test.headline, test.coverage)
			}
			if strings.Contains(content, "Nothing is known of what was not examined") == test.summary.Coverage.Complete {
				t.Errorf("%s of %+v warns of incomplete coverage when there is none, or does not when there is", form, test.summary.Coverage)
			}
		}
	}
}

func TestChanges(t *testing.T) {
	r := weekly()
	fresh := r.Summary
	fresh.ComparedWith = nil
	same := r.Summary
	same.New, same.Resolved = 0, 0
	unjudged := fresh
	unjudged.New = 0
	for want, s := range map[string]audit.Summary{
		"Since the report of 2026-11-16: 3 new, 17 still open, 5 resolved.":        r.Summary,
		"Nothing has changed since the report of 2026-11-16.":                      same,
		"There is no earlier report to compare with: every finding counts as new.": fresh,
		"Not compared with an earlier report.":                                     unjudged,
	} {
		if got := changes(s); got != want {
			t.Errorf("changes = %q, want %q", got, want)
		}
	}
}

func TestTextLimit(t *testing.T) {
	r := many(300)
	r.Exempt = append(r.Exempt, weekly().Exempt...)
	r.Summary.Exempt = 1
	fullIDs := func(text string) int { // findings in full name the rule in brackets at the end
		return len(regexp.MustCompile(`\((unused|overdue|exposed|root-key|aging)\)\n`).FindAllString(text, -1))
	}
	for _, test := range []struct{ limit, shown int }{{0, 300}, {-1, 300}, {1, 1}, {29, 29}, {30, 30}, {31, 31}, {299, 299}, {300, 300}, {9999, 300}} {
		text := string(Text(r, where, test.limit))
		if got := fullIDs(text); got != test.shown {
			t.Errorf("limit %d shows %d findings, want %d", test.limit, got, test.shown)
		}
		more := fmt.Sprintf("and %d more, in the whole report:", 300-test.shown)
		if strings.Contains(strings.Join(strings.Fields(text), " "), more) != (test.shown < 300) {
			t.Errorf("limit %d does not say %q, or says it for nothing", test.limit, more)
		}
		if got := strings.Count(text, "[new]"); got != min(30, test.shown) {
			t.Errorf("limit %d shows %d new findings, want %d: new ones come before those that stay open", test.limit, got, min(30, test.shown))
		}
	}
	r.Resolved = many(40).Findings
	if text := string(Text(r, "", 5)); !strings.Contains(text, "and 35 more\n") {
		t.Error("the mail does not count the resolved findings that it leaves out")
	}
}

// TestPageSize holds a page of 10,000 findings, of users with the longest names
// and long owners, to 5 MB.
func TestPageSize(t *testing.T) {
	r := many(10_000)
	for i := range r.Findings {
		f := &r.Findings[i]
		owner := strings.Repeat("owner", 9)
		f.UserName, f.Owner = f.UserName+strings.Repeat("x", 64-len(f.UserName)), &owner
	}
	page, err := HTML(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(page) > 5_000_000 {
		t.Errorf("the page takes %d bytes, want 5,000,000 or fewer", len(page))
	}
	soundHTML(t, string(page))
}

// TestSchema validates what the core writes against the schema, and makes sure
// that the schema refuses what it should.
func TestSchema(t *testing.T) {
	content, err := os.ReadFile("report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	// The rules that it admits are those of audit's table.
	var ids []string
	for _, rule := range audit.Rules {
		ids = append(ids, fmt.Sprintf("%q", rule.ID))
	}
	current := regexp.MustCompile(`"rule": \{ "enum": \[[^]]*\] \}`).ReplaceAll(content, []byte(`"rule": { "enum": [`+strings.Join(ids, ", ")+`] }`))
	current = regexp.MustCompile(`"minProperties": \d+`).ReplaceAll(current, fmt.Appendf(nil, `"minProperties": %d`, len(ids)))
	if !bytes.Equal(current, content) {
		if !*update {
			t.Error("report.schema.json admits other rules than there are: go test ./pkg/render -update")
		} else if err := os.WriteFile("report.schema.json", current, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("report.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	decode := func(t *testing.T, r audit.Report) map[string]any {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return v.(map[string]any)
	}
	for name, sample := range samples {
		if err := schema.Validate(decode(t, sample())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	cut := weekly()
	cut.Findings, cut.Omitted = cut.Findings[:3], new(len(cut.Findings)-3)
	if err := schema.Validate(decode(t, cut)); err != nil {
		t.Errorf("with omitted: %v", err)
	}

	// Every field is needed, none but the known ones is taken.
	whole := decode(t, cut)
	var visit func(path string, v any)
	visit = func(path string, v any) {
		switch v := v.(type) {
		case []any:
			if len(v) > 0 {
				visit(path+"[0]", v[0])
			}
		case map[string]any:
			v["stranger"] = "x"
			if schema.Validate(whole) == nil {
				t.Errorf("a strange field in %s is accepted", path)
			}
			delete(v, "stranger")
			for name, field := range v {
				delete(v, name)
				if schema.Validate(whole) == nil && name != "omitted" {
					t.Errorf("a report without %s.%s is accepted", path, name)
				}
				v[name] = []any{nil}
				if schema.Validate(whole) == nil {
					t.Errorf("%s.%s may be anything", path, name)
				}
				v[name] = field
				visit(path+"."+name, field)
			}
		}
	}
	visit("report", whole)
	for name, spoil := range map[string]func(*audit.Report){
		"schema version": func(r *audit.Report) { r.Summary.SchemaVersion++ },
		"local time":     func(r *audit.Report) { r.Summary.AsOf = r.Summary.AsOf.In(berlin) },
		"rule":           func(r *audit.Report) { r.Findings[0].Rule = "other" },
		"severity":       func(r *audit.Report) { r.Findings[0].Severity = "none" },
		"state":          func(r *audit.Report) { r.Findings[0].State = audit.Resolved },
		"null list":      func(r *audit.Report) { r.Exempt = nil },
	} {
		r := weekly()
		spoil(&r)
		if schema.Validate(decode(t, r)) == nil {
			t.Errorf("a report with a wrong %s is accepted", name)
		}
	}
}

// TestGenerated holds the generated Go to the pages' templates.
func TestGenerated(t *testing.T) {
	for _, page := range []string{"page", "organization"} {
		template, err := parser.Parse(page + ".templ")
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		committed, err := os.ReadFile(page + "_templ.go")
		if err != nil {
			t.Fatal(err)
		}
		version := regexp.MustCompile(`templ: version: (\S+)`).FindSubmatch(committed)
		if version == nil {
			t.Fatalf("%s_templ.go does not name templ's version", page)
		}
		if _, err := generator.Generate(template, &got, generator.WithVersion(string(version[1])), generator.WithFileName(page+".templ")); err != nil {
			t.Fatal(err)
		}
		want, err := format.Source(got.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if committed, err = format.Source(committed); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, want) {
			t.Errorf("%s_templ.go is not what %s.templ generates; run go generate ./pkg/render. First difference: %s", page, page, difference(committed, want))
		}
	}
}

// TestLinker holds the page to the size that it may cost: text/template, which
// templ imports and this package must not reach, would keep every method of every
// type in the binary.
func TestLinker(t *testing.T) {
	if testing.Short() {
		t.Skip("links a binary")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	overlay := filepath.Join(dir, "overlay.json")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	program := "package main\n\nimport (\n\t\"iamkeys/pkg/iamkeys/audit\"\n\t\"iamkeys/pkg/render\"\n\t\"os\"\n)\n\nfunc main() { b, _ := render.HTML(audit.Report{}); os.Stdout.Write(b) }\n"
	replaced, _ := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "linked", "main.go"): source}})
	for file, content := range map[string][]byte{source: []byte(program), overlay: replaced} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "linked")
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", binary, "./linked").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	symbols, err := exec.Command("go", "tool", "nm", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(symbols, []byte("iamkeys/pkg/render.HTML")) {
		t.Fatal("the binary does not hold the page at all")
	}
	if i := bytes.Index(symbols, []byte("text/template.(*state).evalField")); i >= 0 {
		t.Error("the page reaches text/template, which switches off the linker's dead-code elimination: six megabytes in the audit's binary")
	}
}

// TestContrast computes WCAG 2's contrast for the colours that text stands in, in
// both schemes; 4.5 is what level AA asks for.
//
// https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
func TestContrast(t *testing.T) {
	schemes := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(stylesheet, -1)
	for i, name := range []string{"light", "dark"} {
		colour := map[string]float64{}
		for _, m := range regexp.MustCompile(`--(\w+): #([0-9a-f]{3,6});`).FindAllStringSubmatch(schemes[i][1], -1) {
			hex := m[2]
			if len(hex) == 3 {
				hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
			}
			rgb, _ := strconv.ParseUint(hex, 16, 32)
			channel := func(shift int) float64 {
				c := float64(rgb>>shift&255) / 255
				if c <= .04045 {
					return c / 12.92
				}
				return math.Pow((c+.055)/1.055, 2.4)
			}
			colour[m[1]] = .2126*channel(16) + .7152*channel(8) + .0722*channel(0)
		}
		ratio := func(a, b string) float64 {
			x, y := colour[a], colour[b]
			return (max(x, y) + .05) / (min(x, y) + .05)
		}
		for _, pair := range []string{
			"ink paper", "ink card", "ink tint", "quiet paper", "quiet card", "critical card", "high card", "medium card", "low card", "card calm",
			"critical paper", "high paper", "medium paper", "low paper",
		} {
			a, b, _ := strings.Cut(pair, " ")
			if got := ratio(a, b); got < 4.5 || colour[a] == colour[b] {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want 4.5 or more", name, a, b, got)
			}
		}
	}
}

// BenchmarkForms gives size and time of each form; bytes is the size.
func BenchmarkForms(b *testing.B) {
	for _, n := range []int{0, 50, 10_000} {
		r := fine()
		if n > 0 {
			r = many(n)
		}
		for name, form := range map[string]func() []byte{
			"HTML": func() []byte { page, _ := HTML(r); return page },
			"CSV":  func() []byte { return CSV(r) },
			"text": func() []byte { return Text(r, where, 0) },
			"JSON": func() []byte { j, _ := json.Marshal(r); return j },
		} {
			b.Run(fmt.Sprintf("%s/findings=%d", name, n), func(b *testing.B) {
				size := 0
				for b.Loop() {
					size = len(form())
				}
				b.ReportMetric(float64(size), "bytes")
			})
		}
	}
}
