package functions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"iamkeys/functions/functionstest"
)

// source parses a Go file.
func source(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// sourceStrings gives every string in the Go sources under the folder.
func sourceStrings(t *testing.T, folder string) map[string]bool {
	found := map[string]bool{}
	eachSource(t, folder, func(_ string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					found[s] = true
				}
			}
			return true
		})
	})
	return found
}

// eachSource visits the Go files under a folder, without tests.
func eachSource(t *testing.T, folder string, visit func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			visit(path, source(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What stops a process belongs into main: below it, the caller decides, and the
// deferred undo of a key that could not be delivered must run.
func TestNothingBelowMainStopsTheProcess(t *testing.T) {
	eachSource(t, "../pkg", func(path string, file *ast.File) {
		if strings.Contains(path, "iamkeystest") {
			return // its processes die on purpose
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init: what runs unasked cannot be tested, and slows every start", path)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch f := call.Fun.(type) {
			case *ast.Ident:
				if f.Name == "panic" {
					t.Errorf("%s panics: errors are returned, and named once at the edge", path)
				}
			case *ast.SelectorExpr:
				if name := fmt.Sprint(f.X) + "." + f.Sel.Name; name == "os.Exit" || strings.HasPrefix(name, "log.Fatal") || strings.HasPrefix(name, "log.Panic") {
					t.Errorf("%s calls %s: only main may end the process", path, name)
				}
			}
			return true
		})
	})
}

// A pkg is what go list says of a package.
type pkg struct {
	ImportPath, Doc string
	Standard        bool
	GoFiles         []string
	Imports, Deps   []string
}

// goList asks go list, with the tags that the functions are built with.
func goList(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-tags", "lambda.norpc", "-json=ImportPath,Doc,Standard,GoFiles,Imports,Deps"}, args...)...)
	cmd.Dir, cmd.Stderr = "..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

const module = "iamkeys/"

// order is that of imports.
const order = "functions → lambdafn, render, adapters → awserr, awsconfig → iamkeys/notice → iamkeys/audit → iamkeys → standard library"

func TestImportsRunOneWay(t *testing.T) {
	adapter := regexp.MustCompile(`^pkg/aws[a-z0-9]+$`)
	standard := map[string]bool{}
	for _, p := range goList(t, "std") {
		standard[p.ImportPath] = true
	}
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		var may []string // what of ours it may import
		switch core := []string{"pkg/iamkeys", "pkg/iamkeys/audit", "pkg/iamkeys/notice"}; {
		case slices.Contains(core, name):
			may = core[:slices.Index(core, name)]
		case name == "pkg/awsconfig", name == "statemachines/asl":
		case name == "statemachines":
			may = []string{"statemachines/asl"}
		case name == "statemachines/simulation":
			may = append(core, "pkg/iamkeys/iamkeystest", "pkg/lambdafn", "statemachines", "statemachines/asl", "functions/functionstest")
		case name == "functions/functionstest": // for tests alone
			may = append(core, "pkg/lambdafn", "pkg/render")
		case name == "pkg/awserr", name == "pkg/render", name == "pkg/iamkeys/iamkeystest":
			may = core
		case name == "pkg/lambdafn":
			may = append(core, "pkg/awsconfig")
		case adapter.MatchString(name):
			may = append(core, "pkg/awserr", "pkg/awsconfig")
		case strings.HasPrefix(name, "functions/"):
			may = append(core, "pkg/lambdafn", "pkg/render")
			for _, i := range p.Imports {
				if i := strings.TrimPrefix(i, module); adapter.MatchString(i) && i != "pkg/awserr" {
					may = append(may, i)
				}
			}
		case name == "localcloud", name == "functions":
			continue
		default:
			t.Errorf("package %s has no place in the order %s", name, order)
		}
		for _, i := range p.Imports {
			ours, isOurs := strings.CutPrefix(i, module)
			switch {
			case isOurs && !slices.Contains(may, ours):
				t.Errorf("%s imports %s: imports run one way, %s, and adapters do not know each other", name, ours, order)
			case i == "github.com/aws/aws-sdk-go-v2/aws/transport/http" && name != "pkg/awsconfig":
				t.Errorf("%s imports %s, whose client may lose an answer: pkg/awsconfig makes one that does not", name, i)
			case i == "html/template" || i == "text/template":
				t.Errorf("%s imports %s, which switches off the linker's dead-code elimination: 6 MB in every binary", name, i)
			case !isOurs && !standard[i] && (strings.HasPrefix(name, "pkg/iamkeys") || name == "statemachines" || name == "statemachines/asl"):
				t.Errorf("%s imports %s: the core is the standard library only, so that it can be read, tested and trusted without AWS", name, i)
			}
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range goList(t, "./...") {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("package %s has no documentation: its first sentence says what it is for", p.ImportPath)
		}
		for _, part := range strings.Split(p.ImportPath, "/") {
			if slices.Contains([]string{"utils", "util", "common", "types", "models", "helpers", "handlers"}, part) {
				t.Errorf("package %s: %s is no name; what has none of its own belongs to its caller", p.ImportPath, part)
			}
		}
	}
}

// Each binary links the services that its operation uses: every other one is
// start-up time, size and attack surface for nothing.
func TestBinariesLinkOnlyTheirServices(t *testing.T) {
	const sdk = "github.com/aws/aws-sdk-go-v2/service/"
	for _, p := range goList(t, "./functions/...") {
		folder := strings.TrimPrefix(p.ImportPath, module+"functions/")
		operation, ok := operations()[folder]
		if !ok {
			continue
		}
		want := map[string]bool{}
		for field := range functionstest.Ports(operation) {
			want[functionstest.Services[field].SDK] = true
		}
		got := map[string]bool{}
		for _, d := range p.Deps {
			service, isService := strings.CutPrefix(d, sdk)
			if isService && !strings.Contains(service, "/") {
				got[service] = true
			}
			known := slices.ContainsFunc([]string{"github.com/aws/", "github.com/a-h/templ", "golang.org/x/time/rate"}, func(prefix string) bool { return strings.HasPrefix(d, prefix) })
			if third := strings.SplitN(d, "/", 2)[0]; strings.Contains(third, ".") && !known {
				t.Errorf("%s links %s: a function is the SDK, the Lambda library and this module, with the page's templates and the calls' rate", folder, d)
			}
		}
		if slices.Contains(p.Deps, "github.com/aws/aws-sdk-go-v2/config") {
			for _, service := range []string{"sts", "sso", "ssooidc", "signin"} { // the SDK's configuration brings these
				if !want[service] {
					delete(got, service)
				}
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s links %v, and its operation uses %v", folder, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		for _, d := range p.Deps {
			if d == "testing" || strings.HasSuffix(d, "/iamkeystest") || strings.HasSuffix(d, "/functionstest") {
				t.Errorf("%s links %s: tests stay out of binaries", folder, d)
			}
		}
	}
}
