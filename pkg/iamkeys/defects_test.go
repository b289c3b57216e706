package iamkeys_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false, "write docs/promises.md")
	plant  = flag.Bool("defects", false, "plant each defect in a copy of the tree and see its test fail (minutes)")
)

// A defect takes one guard out. Its test was seen to fail by that, and fails again
// with -defects. Defects stand in defects.json beside the code that they are planted
// in, and name guard and test by what they are, not by the file that holds them.
type defect struct {
	Promise int    // its number in the package documentation
	Guard   string // what the guard sees to
	File    string `json:",omitempty"` // from the project's folder; empty for a file beside defects.json
	In      string `json:",omitempty"` // the function or Type.Method that holds the guard, where Code alone stands more than once
	Code    string // the guard, as it stands there once
	Without string // what stands there when it is taken out
	Test    string // the test that fails then: of the same folder if it has one of this name, else the only one of the tree

	path, folder string // found: the file, and the folder of the test
	at           int    // of Code in the file
}

// TestDefects holds the table of promises, guards and tests (docs/promises.md)
// to the code: every guard is still there. With -defects it takes each out.
func TestDefects(t *testing.T) {
	root := filepath.Join("..", "..")
	defects, tests := tree(t, root)
	promised := map[int]bool{}
	var table strings.Builder
	table.WriteString("# Promises, guards, tests\n\nEach row: a promise (its text is in the documentation of `pkg/iamkeys`), one guard that keeps it, and the test that\n" +
		"was seen to fail with the guard taken out. `make defects` takes each out again and wants its test to fail.\n\n" +
		"What no list of guards foresees is sought at random, on an account in memory that is as weak as AWS's documentation lets AWS be. `pkg/iamkeys.TestCreateRandomly`:\n" +
		"creates, people and other tools, 12,000 runs in each `go test`, 240,000 once without a broken promise. In `statemachines/simulation` the workflows run over the functions,\n" +
		"with consumers, people, faults, deaths, repeats and redrives: `TestRotationKeepsItsPromises`, 10,000 runs in each `go test`, 202,000 once; `TestRetirementKeepsItsPromises`,\n" +
		"retirement, rotation, their schedules and keys found in public side by side on one user, 10,000 and 202,000 once.\n\n" +
		"| promise | guard | in | test that fails without it |\n|---|---|---|---|\n")
	for _, d := range defects {
		promised[d.Promise] = true
		if err := d.find(root, tests); err != nil {
			t.Errorf("the guard %q: %v: bring %s in line", d.Guard, err, filepath.Join(d.folder, "defects.json"))
			continue
		}
		fmt.Fprintf(&table, "| %d | %s | `%s` | `%s.%s` |\n", d.Promise, d.Guard, d.path, d.folder, d.Test)
		if *plant {
			t.Run(d.Guard, func(t *testing.T) { d.plant(t, root) })
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
		t.Errorf("%s is not what the files defects.json say; run with -update", path)
	}
}

// tree gives all defects, by promise, and the folders that have a test of each name.
func tree(t *testing.T, root string) (defects []*defect, tests map[string][]string) {
	tests = map[string][]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() && strings.HasPrefix(e.Name(), ".") && path != root {
			return cmp.Or(err, filepath.SkipDir)
		}
		folder, _ := filepath.Rel(root, filepath.Dir(path))
		switch {
		case e.Name() == "defects.json":
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var here []*defect
			if err := json.Unmarshal(content, &here); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			for _, d := range here {
				d.folder = filepath.ToSlash(folder)
			}
			defects = append(defects, here...)
		case strings.HasSuffix(e.Name(), "_test.go"):
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
					tests[f.Name.Name] = append(tests[f.Name.Name], filepath.ToSlash(folder))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(defects, func(a, b *defect) int { return a.Promise - b.Promise })
	return defects, tests
}

// find finds the guard and its test.
func (d *defect) find(root string, tests map[string][]string) error {
	files := []string{d.File}
	if d.File == "" {
		entries, err := os.ReadDir(filepath.Join(root, d.folder))
		if err != nil {
			return err
		}
		files = nil
		for _, e := range entries {
			if !e.IsDir() && !strings.HasSuffix(e.Name(), "_test.go") && e.Name() != "defects.json" {
				files = append(files, d.folder+"/"+e.Name())
			}
		}
	}
	found := 0
	for _, file := range files {
		from, to, err := d.scope(filepath.Join(root, file))
		if err != nil {
			return err
		}
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		if to < 0 {
			to = len(content)
		}
		if n := strings.Count(string(content[from:to]), d.Code); n > 0 {
			found += n
			d.path, d.at = file, from+strings.Index(string(content[from:to]), d.Code)
		}
	}
	if found != 1 {
		return fmt.Errorf("its code stands %d times", found)
	}
	in := tests[d.Test]
	switch {
	case slices.Contains(in, d.folder):
	case len(in) == 1:
		d.folder = in[0]
	default:
		return fmt.Errorf("%d folders have its test %s", len(in), d.Test)
	}
	return nil
}

// scope gives where in the file the guard is sought: to is -1 for its end.
func (d *defect) scope(path string) (from, to int, err error) {
	if d.In == "" {
		return 0, -1, nil
	}
	if !strings.HasSuffix(path, ".go") {
		return 0, 0, nil
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return 0, 0, err
	}
	for _, declared := range file.Decls {
		f, ok := declared.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil {
			receiver := f.Recv.List[0].Type
			if pointer, ok := receiver.(*ast.StarExpr); ok {
				receiver = pointer.X
			}
			if ident, ok := receiver.(*ast.Ident); ok {
				name = ident.Name + "." + name
			}
		}
		if name == d.In {
			return set.Position(f.Pos()).Offset, set.Position(f.End()).Offset, nil
		}
	}
	return 0, 0, nil
}

// plant runs the test in a copy of the tree without the guard.
func (d *defect) plant(t *testing.T, root string) {
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
		if filepath.ToSlash(name) == d.path {
			content = slices.Concat(content[:d.at], []byte(d.Without), content[d.at+len(d.Code):])
		}
		return os.WriteFile(filepath.Join(tree, name), content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	test := exec.Command("go", "test", "-count=1", "-run", "^"+d.Test+"$", "./"+d.folder)
	test.Dir = tree
	out, err := test.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: "+d.Test) {
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
