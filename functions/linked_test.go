package functions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"iamkeys/pkg/iamkeys"
)

// licences are those that this project may link, each told by words of its text.
var licences = map[string]string{
	"Apache-2.0":   "Apache License\n                           Version 2.0",
	"MIT":          "Permission is hereby granted, free of charge",
	"BSD-3-Clause": "Neither the name of",
}

// linked gives the modules that the functions link, and of each what the format says.
func linked(t *testing.T, format string) map[string]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-tags", "lambda.norpc", "-f", "{{with .Module}}{{.Path}} "+format+"{{end}}")
	for folder := range operations() {
		cmd.Args = append(cmd.Args, "./functions/"+folder)
	}
	cmd.Dir, cmd.Stderr = "..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, says, ok := strings.Cut(strings.TrimSpace(line), " "); ok && path != strings.TrimSuffix(module, "/") {
			modules[path] = says
		}
	}
	return modules
}

// THIRD-PARTY names what the binaries link, and under which licence.
func TestLinked(t *testing.T) {
	modules := linked(t, "{{.Dir}}")
	var page strings.Builder
	page.WriteString("What the functions link, and under which licence. The standard library of Go is BSD-3-Clause.\n\n")
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		fmt.Fprintf(&page, "%s %s\n", path, licence(t, modules[path]))
	}
	if *update {
		if err := os.WriteFile("../THIRD-PARTY", []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("../THIRD-PARTY"); err != nil || string(got) != page.String() {
		t.Errorf("THIRD-PARTY is not what is linked (%v): look at what is new, then run make update; want\n%s", err, page.String())
	}
	if len(modules) < 5 {
		t.Errorf("found only %v", modules)
	}
}

func licence(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "LICENSE*"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s has no licence", dir)
		return ""
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name, words := range licences {
			if strings.Contains(string(text), words) && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	if slices.Sort(found); len(found) == 0 {
		t.Errorf("%s: %v is none of the licences %v", dir, files, slices.Sorted(maps.Keys(licences)))
	}
	return strings.Join(found, " ")
}

// A bom is what we read of a list in CycloneDX's form.
type bom struct {
	Metadata struct {
		Tools     []map[string]any `json:"tools"`
		Component component        `json:"component"`
	} `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type component struct {
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Purl    string `json:"purl"`
	Hashes  any    `json:"hashes,omitempty"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// A release's list names the project by its version, and of all modules those that are
// linked, as they stand in the module graph, with the standard library; the same on each machine.
func TestSBOM(t *testing.T) {
	const commit = "v0.0.0-20261128000000-0123456789ab"
	var whole, want bom
	add := func(name, version string, linked bool) {
		c := component{"pkg:golang/" + name + "@" + version + "?type=module", name, version, "pkg:golang/" + name + "@" + version, []any{map[string]any{"alg": "SHA-256", "content": name}}}
		whole.Components = append(whole.Components, c)
		whole.Dependencies = append(whole.Dependencies, dependency{c.Ref, []string{"pkg:golang/std@go1.26.0?type=module", "pkg:golang/example.com/checks@" + commit + "?type=module"}})
		if linked {
			want.Components = append(want.Components, c)
			want.Dependencies = append(want.Dependencies, dependency{c.Ref, []string{"pkg:golang/std@go1.26.0?type=module"}})
		}
	}
	add("example.com/checks", commit, false)
	modules := linked(t, "{{.Version}}")
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		if name == "golang.org/x/time" { // one whose version looks like the project's
			modules[name] = commit
		}
		add(name, modules[name], true)
	}
	without := whole
	add("std", "go1.26.0", true)
	for _, b := range []*bom{&whole, &without, &want} {
		b.Metadata.Tools = []map[string]any{{"name": "cyclonedx-gomod"}}
		b.Metadata.Component = component{Ref: "pkg:golang/iamkeys@" + commit + "?type=module", Name: "iamkeys", Version: commit}
	}
	whole.Metadata.Tools[0]["hashes"] = []any{"another on each machine"}
	refs := []string{}
	for _, c := range whole.Components {
		refs = append(refs, c.Ref)
	}
	whole.Dependencies = append(whole.Dependencies, dependency{whole.Metadata.Component.Ref, refs})
	ours := "pkg:golang/iamkeys@" + iamkeys.Version
	want.Metadata.Component = component{Ref: ours, Name: "iamkeys", Version: iamkeys.Version, Purl: ours}
	want.Dependencies = slices.Insert(want.Dependencies, 0, dependency{ours, refs[1:]})

	release := func(b bom) ([]byte, error) {
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("python3", "../.ci/sbom", iamkeys.Version)
		cmd.Stdin = bytes.NewReader(text)
		return cmd.Output()
	}
	text, err := release(whole)
	if err != nil {
		t.Fatal(err)
	}
	var got bom
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if text, err := release(without); err == nil {
		t.Errorf("a list without the standard library became %s", text)
	}
}
