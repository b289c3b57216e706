package iamkeys_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var plant = flag.Bool("defects", false, "plant each defect in a copy of the tree and see its test fail (minutes)")

// A defect takes one guard out. Its test was seen to fail by that, and fails
// again with -defects.
type defect struct {
	Promise int    // its number in the package documentation
	Guard   string // what the guard sees to
	File    string
	Code    string // the guard, as it stands there once
	Without string // what stands there when it is taken out
	Test    string // the test that fails then
}

// TestDefects holds the table of promises, guards and tests (docs/promises.md)
// to the code: every guard is still there. With -defects it takes each out.
func TestDefects(t *testing.T) {
	content, err := os.ReadFile("testdata/defects.json")
	if err != nil {
		t.Fatal(err)
	}
	var defects []defect
	if err := json.Unmarshal(content, &defects); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(defects, func(a, b defect) int { return a.Promise - b.Promise })
	root := filepath.Join("..", "..")
	promised := map[int]bool{}
	var table strings.Builder
	table.WriteString("# Promises, guards, tests\n\nEach row: a promise (its text is in the documentation of `pkg/iamkeys`), one guard that keeps it, and the test that\n" +
		"was seen to fail with the guard taken out. `make defects` takes each out again and wants its test to fail.\n\n" +
		"| promise | guard | in | test that fails without it |\n|---|---|---|---|\n")
	for _, d := range defects {
		promised[d.Promise] = true
		fmt.Fprintf(&table, "| %d | %s | `%s` | `%s` |\n", d.Promise, d.Guard, d.File, d.Test)
		source, err := os.ReadFile(filepath.Join(root, d.File))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), d.Code); n != 1 {
			t.Errorf("%s: the guard %q stands %d times in it: bring testdata/defects.json in line", d.File, d.Guard, n)
			continue
		}
		if *plant {
			t.Run(d.Guard, func(t *testing.T) { d.plant(t, root, string(source)) })
		}
	}
	for promise := 1; promise <= 9; promise++ {
		if !promised[promise] {
			t.Errorf("no guard of promise %d is in the table", promise)
		}
	}
	path := filepath.Join(root, "docs", "promises.md")
	if *update {
		if err := os.WriteFile(path, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(path); string(got) != table.String() {
		t.Errorf("%s is not what testdata/defects.json says; run with -update", path)
	}
}

// plant runs the test in a copy of the tree without the guard.
func (d defect) plant(t *testing.T, root, source string) {
	tree := t.TempDir()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && strings.HasPrefix(e.Name(), ".") && name != ".":
			return filepath.SkipDir
		case e.IsDir():
			return os.MkdirAll(filepath.Join(tree, name), 0o755)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(tree, name), content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, d.File), []byte(strings.Replace(source, d.Code, d.Without, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	dir, name, _ := strings.Cut(d.Test, ".")
	test := exec.Command("go", "test", "-count=1", "-run", "^"+name+"$", "./"+dir)
	test.Dir = tree
	out, err := test.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: "+name) {
		t.Errorf("%s does not fail without it: %v\n%.2000s", d.Test, err, out)
	}
}

// TestMain makes property tests thorough unless the command line says otherwise.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "3000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
