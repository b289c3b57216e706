package functions

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

var update = flag.Bool("update", false, "write the generated pages of docs")

// Four pages of docs say nothing but what the code's own tables say. Change those, and
// make update writes the pages.
func TestGeneratedPages(t *testing.T) {
	for name, page := range map[string]func(*testing.T) string{
		"functions": functionsPage, "errors": errorsPage, "parameters": parametersPage, "rules": rulesPage,
	} {
		path, want := filepath.Join("..", "docs", name+".md"), page(t)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not what the code's tables say (%v): run make update", path, err)
		}
	}
}

var refuses = regexp.MustCompile(`(?s)\s*It refuses with ([A-Za-z,\s]+)\.`)

// about gives what a function's main says of it, without the line of its errors, and
// these errors.
func about(t *testing.T, folder string) (text string, errors []iamkeys.Code) {
	t.Helper()
	text = strings.ReplaceAll(strings.TrimSpace(source(t, folder+"/main.go").Doc.Text()), "\n", " ")
	found := refuses.FindStringSubmatch(text)
	if found == nil {
		return text, nil
	}
	for _, name := range regexp.MustCompile(`[A-Z]\w+`).FindAllString(found[1], -1) {
		if !slices.ContainsFunc(iamkeys.ErrorTable, func(r iamkeys.ErrorRow) bool { return string(r.Code) == name }) {
			t.Errorf("%s/main.go: %s is no error of iamkeys", folder, name)
		}
		errors = append(errors, iamkeys.Code(name))
	}
	return refuses.ReplaceAllString(text, ""), errors
}

// comments are what the core says of its types and their fields, by "package.Type" and
// "package.Type.Field".
func comments(t *testing.T) map[string]string {
	found := map[string]string{}
	note := func(name string, groups ...*ast.CommentGroup) {
		for _, g := range groups {
			if text := strings.Join(strings.Fields(g.Text()), " "); text != "" {
				found[name] = text
			}
		}
	}
	eachSource(t, "../pkg/iamkeys", func(_ string, file *ast.File) {
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				ts, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				name := file.Name.Name + "." + ts.Name.Name
				note(name, g.Doc, ts.Doc)
				if s, ok := ts.Type.(*ast.StructType); ok {
					for _, f := range s.Fields.List {
						for _, n := range f.Names {
							note(name+"."+n.Name, f.Doc, f.Comment)
						}
					}
				}
			}
		}
	})
	return found
}

// jsonType names a type as a caller sees it.
func jsonType(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t == reflect.TypeFor[json.RawMessage](): // AWS's own, of which some fields are read
		return "object"
	case t.Kind() == reflect.Pointer:
		return jsonType(t.Elem()) + " or null"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return "object"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64, t.Kind() == reflect.Float64:
		return "number"
	}
	return "text"
}

// fieldRows writes a table's rows for a struct's fields, those of what it holds below it.
func fieldRows(w *strings.Builder, said map[string]string, t reflect.Type, prefix string, input bool, above ...reflect.Type) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if slices.Contains(above, t) {
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			fieldRows(w, said, f.Type, prefix, input, append(above, t)...)
			continue
		}
		if !f.IsExported() || name == "" || name == "-" {
			continue
		}
		kind := jsonType(f.Type)
		if strings.Contains(options, "omit") {
			kind = strings.TrimSuffix(kind, " or null")
			if input {
				kind += ", optional"
			} else {
				kind += ", may be absent"
			}
		}
		inner, of := f.Type, name
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			if inner.Kind() == reflect.Slice {
				of += "[]"
			}
			inner = inner.Elem()
		}
		below := inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]()
		if note := said[t.String()+"."+f.Name]; !below || note != "" || kind != "object" && kind != "list" {
			fmt.Fprintf(w, "| `%s%s` | %s | %s |\n", prefix, name, kind, cell(note))
		}
		if below {
			fieldRows(w, said, inner, prefix+of+".", input, append(above, t)...)
		}
	}
}

// cell makes text fit for a table.
func cell(text string) string { return strings.ReplaceAll(strings.TrimSuffix(text, "."), "|", `\|`) }

// capital begins a sentence.
func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func functionsPage(t *testing.T) string {
	var w strings.Builder
	w.WriteString(`# Functions

Each takes and returns one JSON object. Times are RFC 3339 in UTC; lengths carry their unit in the name. A field that is unknown,
missing, empty or malformed is ` + "`InvalidInput`" + `, which names it and what is accepted, before anything is called; ` + "`null`" + ` counts as left out.
Errors reach callers and Step Functions as ` + "`errorType`" + `; [errors.md](errors.md) says what each means. Beside those named here any function may
fail with ` + "`InvalidInput`, `Throttled`, `AccessDenied` or `Internal`" + `.

Call one by its logical ID: ` + "`sam remote invoke ListFunction --stack-name iamkeys --event '{\"userName\": \"ci-deploy\"}'`" + `.
`)
	said, all := comments(t), operations()
	logical := map[string]string{}
	for id := range template().Resources("AWS::Serverless::Function") {
		logical[folderOf(id)] = id
	}
	for _, folder := range slices.Sorted(maps.Keys(all)) {
		text, errors := about(t, folder)
		_, text, _ = strings.Cut(text, ": ")
		fmt.Fprintf(&w, "\n## `%s`\n\n%s\n\n`%s`, at most %.0f s.", folder, capital(text), logical[folder], template().Timeout(folder).Seconds())
		if len(errors) > 0 {
			fmt.Fprintf(&w, " Refuses with")
			for i, code := range errors {
				if i > 0 {
					w.WriteString(",")
				}
				fmt.Fprintf(&w, " `%s`", code)
			}
			w.WriteString(".")
		}
		for _, part := range []struct {
			name string
			of   reflect.Type
		}{{"input", inputOf(all[folder])}, {"output", outputOf(all[folder])}} {
			fmt.Fprintf(&w, "\n\n| %s | | |\n|---|---|---|\n", part.name)
			var rows strings.Builder
			fieldRows(&rows, said, part.of, "", part.name == "input")
			if text := what(said, part.of); text != "" {
				fmt.Fprintf(&rows, "\n%s", text)
			}
			w.WriteString(strings.TrimSuffix(rows.String(), "\n"))
		}
		event, err := os.ReadFile(folder + "/event.json")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&w, "\n\nFor example:\n\n```json\n%s\n```\n", bytes.TrimSpace(event))
	}
	return w.String()
}

var opening = regexp.MustCompile(`^\w+ is what \w+ (?:takes|returns)(?:, and \w+ (?:takes|returns))?[.:;,] ?`)

// what gives what is said of a type, without the words with which that begins
// ("ListInput is what List takes:") and with fields by their names in JSON.
func what(said map[string]string, t reflect.Type) string {
	text := capital(opening.ReplaceAllString(said[t.String()], ""))
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			text = regexp.MustCompile(`\b`+f.Name+`\b`).ReplaceAllString(text, "`"+name+"`")
		}
	}
	return text
}

func errorsPage(t *testing.T) string {
	var w strings.Builder
	w.WriteString(`# Errors

They reach callers and Step Functions as ` + "`errorType`" + `. The message says what happened, to which user and key, and what to do next; details
stand in the log, under the request ID.

| error | what it means | what to do | given by |
|---|---|---|---|
`)
	by := map[iamkeys.Code][]string{}
	for _, folder := range slices.Sorted(maps.Keys(operations())) {
		_, errors := about(t, folder)
		for _, code := range errors {
			by[code] = append(by[code], "`"+folder+"`")
		}
	}
	for _, code := range []iamkeys.Code{iamkeys.InvalidInput, iamkeys.Throttled, iamkeys.AccessDenied, iamkeys.Internal} {
		by[code] = []string{"any"}
	}
	by[iamkeys.RolledBack] = []string{"workflows"}
	for _, row := range iamkeys.ErrorTable {
		if by[row.Code] == nil {
			t.Errorf("%s: no main.go says that its function gives it", row.Code)
		}
		fmt.Fprintf(&w, "| `%s` | %s | %s | %s |\n", row.Code, cell(row.Meaning), cell(row.Remedy), strings.Join(by[row.Code], " "))
	}
	return w.String()
}

func parametersPage(t *testing.T) string {
	var w strings.Builder
	w.WriteString(`# Parameters

Of the template, as ` + "`sam deploy --parameter-overrides Name=value`" + ` takes them. A parameter that a later deployment does not name keeps its value.
`)
	tpl, said := template(), map[string]bool{}
	for _, group := range list(at(tpl.Object, "Metadata", "AWS::CloudFormation::Interface", "ParameterGroups")) {
		fmt.Fprintf(&w, "\n## %s\n\n| parameter | default | |\n|---|---|---|\n", at(group, "Label", "default"))
		for _, name := range words(at(group, "Parameters")) {
			p := at(tpl.Object, "Parameters", name)
			if p == nil || said[name] {
				t.Errorf("the group %v has %s, which is no parameter or stands in another group", at(group, "Label", "default"), name)
				continue
			}
			said[name] = true
			value := fmt.Sprint(at(p, "Default"))
			if value != "" {
				value = "`" + value + "`"
			}
			fmt.Fprintf(&w, "| `%s` | %s | %s %s. |\n", name, value, cell(strings.TrimSpace(fmt.Sprint(at(p, "Description"))))+".", capital(cell(fmt.Sprint(at(p, "ConstraintDescription")))))
		}
	}
	for name := range at(tpl.Object, "Parameters").(object) {
		if !said[name] {
			t.Errorf("parameter %s is in no group of the template's metadata: the console would show it last, under no heading", name)
		}
	}
	return w.String()
}

// Every getter is a parameter's or the template's own, so that no setting is without documentation.
func TestEverySettingComesFromTheTemplate(t *testing.T) {
	given := map[string]bool{}
	for folder := range operations() {
		for name := range functionstest.New(nil).Environment(folder) {
			given[name] = true
		}
	}
	for method, variables := range functionstest.Getters() {
		for _, v := range variables {
			if !given[v] {
				t.Errorf("lambdafn.Settings.%s reads %s, which the template gives to no function", method, v)
			}
		}
	}
}

// A link in a page that leads nowhere is found by its reader.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, top...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)|(?:src|srcset|href)="([^"#]+)"`).FindAllStringSubmatch(string(text), -1) {
			to := link[1] + link[2]
			if strings.HasPrefix(to, "http") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			if !exists(filepath.Join(filepath.Dir(page), to)) {
				t.Errorf("%s links to %s, which is not there", page, to)
			}
		}
	}
}

// A recipe that names a file which is no more sends its reader astray.
func TestRecipesNameFilesThatExist(t *testing.T) {
	text, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([A-Za-z/._-]+)`").FindAllStringSubmatch(string(text), -1)
	count := 0
	for _, m := range named {
		path := m[1]
		if !strings.Contains(path, "/") && filepath.Ext(path) == "" || strings.HasPrefix(path, ".localcloud/") || path == "main.go" || path == "defects.json" || strings.HasPrefix(path, "host.") {
			continue
		}
		if count++; !exists("../" + path) {
			t.Errorf("CONTRIBUTING.md names %s, which is not there", path)
		}
	}
	for _, recipe := range []string{"A function", "A rule", "A stage", "A parameter", "An error", "A workflow"} {
		if !bytes.Contains(text, []byte("\n**"+recipe+"**")) {
			t.Errorf("CONTRIBUTING.md has no recipe for %s", recipe)
		}
	}
	if count < 15 {
		t.Errorf("found only %d files in the recipes: this test no longer understands them", count)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func rulesPage(t *testing.T) string {
	var w strings.Builder
	w.WriteString(`# Rules of the audit

With the lengths that the parameters have by default. Each finding carries all its numbers in the CIS AWS Foundations Benchmark and in Security
Hub, as ` + "`controls`" + `, and its remedy; *a user* means one finding a user, not one a key.

| rule | severity | when | remedy | CIS v3.0.0 / Security Hub | of | can be exempted |
|---|---|---|---|---|---|---|
`)
	thresholds := operations()["audit"].(audit.Audit).Thresholds
	for _, r := range audit.Rules {
		var controls []string
		for _, c := range r.Controls {
			for _, of := range []string{"CIS v3.0.0 ", "Security Hub "} {
				if number, ok := strings.CutPrefix(c, of); ok {
					controls = append(controls, number)
				}
			}
		}
		of, exempts := "a key", "no"
		if r.OfUsers() {
			of = "a user"
		}
		if r.Exempts {
			exempts = "yes"
		}
		fmt.Fprintf(&w, "| `%s` | %s | %s | %s | %s | %s | %s |\n", r.ID, r.Severity, cell(r.When(thresholds)), cell(r.Remedy), strings.Join(controls, " / "), of, exempts)
	}
	return w.String()
}

// Every line of the threat model's tables is held by something that is there.
func TestThreatModelNamesWhatHoldsIt(t *testing.T) {
	text, err := os.ReadFile("../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	lines, assets := 0, false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "## ") { // what is worth something is held by all that follows
			assets = strings.Contains(line, "worth")
		}
		cells := strings.Split(strings.TrimSpace(line), "|")
		held := regexp.MustCompile("`(\\w[\\w/]*)\\.(Test\\w+)`").FindAllStringSubmatch(line, -1)
		for _, m := range held {
			folder, test := m[1], m[2]
			found := false
			files, _ := filepath.Glob("../" + folder + "/*_test.go")
			for _, file := range files {
				source, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				found = found || bytes.Contains(source, []byte("func "+test+"("))
			}
			if !found {
				t.Errorf("the threat model names %s.%s, which is not there", folder, test)
			}
		}
		if len(cells) < 5 || strings.HasPrefix(cells[1], "--") || strings.Contains(line, "held by") || strings.Contains(line, "what it is worth") || !strings.HasPrefix(line, "|") {
			continue
		}
		if lines++; len(held) == 0 && !strings.Contains(line, "left to you") && !assets {
			t.Errorf("nothing holds: %s", line)
		}
	}
	if lines < 20 {
		t.Errorf("found only %d lines: this test no longer understands the page", lines)
	}
}
