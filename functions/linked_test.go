package functions

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// licences are those that this project may link, each told by words of its text.
var licences = map[string]string{
	"Apache-2.0":   "Apache License\n                           Version 2.0",
	"MIT":          "Permission is hereby granted, free of charge",
	"BSD-3-Clause": "Neither the name of",
}

// THIRD-PARTY names what the binaries link, and under which licence.
func TestLinked(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-tags", "lambda.norpc", "-f", "{{with .Module}}{{.Path}} {{.Dir}}{{end}}")
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
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok && path != strings.TrimSuffix(module, "/") {
			modules[path] = dir
		}
	}
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
