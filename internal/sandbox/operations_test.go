package sandbox

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// TestEveryOperationThatChangesNotesWhatItIsDoneTo reads the services' code: a
// handler must come to Call.On. The others are refused at run time (package api),
// but only once somebody calls them.
func TestEveryOperationThatChangesNotesWhatItIsDoneTo(t *testing.T) {
	found := 0
	for _, dir := range serviceDirs(t) {
		code := readCode(t, dir)
		for operation, handler := range code.operations {
			found++
			reads := slices.ContainsFunc([]string{"Describe", "Get", "List"}, func(verb string) bool { return strings.HasPrefix(operation, verb) })
			if !reads && !code.reaches(handler, map[string]bool{}) {
				t.Errorf("%s: %s (%s) never notes what it is done to; call Call.On before it changes anything", dir, operation, handler)
			}
		}
	}
	box, err := Open(t.Context(), Options{Listen: "127.0.0.1:0", Machines: None, Profile: clock.Instant, TimeScale: 1, Report: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	registered := 0
	for _, service := range box.services.apis() {
		registered += len(service.Operations())
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	if found != registered {
		t.Errorf("found %d operations in the code, but %d are registered", found, registered)
	}
}

// serviceDirs lists the folders in which operations are registered.
func serviceDirs(t *testing.T) []string {
	t.Helper()
	entries, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, path := range entries {
		if dir := filepath.Dir(path); !slices.Contains(dirs, dir) && dir != "api" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// code is which functions a package's functions name, and the handlers of its
// operations.
type code struct {
	names      map[string]map[string]bool
	operations map[string]string
}

func readCode(t *testing.T, dir string) code {
	t.Helper()
	packages, err := parser.ParseDir(token.NewFileSet(), dir, func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, 0) //nolint:staticcheck // types are not needed
	if err != nil {
		t.Fatal(err)
	}
	c := code{map[string]map[string]bool{}, map[string]string{}}
	for _, p := range packages {
		for _, file := range p.Files {
			for _, declaration := range file.Decls {
				if f, ok := declaration.(*ast.FuncDecl); ok {
					c.read(f)
				}
			}
		}
	}
	return c
}

func (c code) read(f *ast.FuncDecl) {
	if c.names[f.Name.Name] == nil {
		c.names[f.Name.Name] = map[string]bool{}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			c.names[f.Name.Name][n.Sel.Name] = true
		case *ast.Ident:
			c.names[f.Name.Name][n.Name] = true
		case *ast.CallExpr:
			c.register(n)
		}
		return true
	})
}

// register takes note of a call such as api.Register(r, "GetParameter", s.getParameter).
func (c code) register(call *ast.CallExpr) {
	function := nameOf(call.Fun)
	if n := len(call.Args); (function == "Register" || function == "add") && n > 2 {
		if name, ok := call.Args[n-2].(*ast.BasicLit); ok {
			c.operations[strings.Trim(name.Value, `"`)] = nameOf(call.Args[n-1])
		}
	}
}

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// reaches tells whether a function comes to On, by the names of those it calls.
func (c code) reaches(function string, seen map[string]bool) bool {
	if function == "On" {
		return true
	}
	if seen[function] {
		return false
	}
	seen[function] = true
	for name := range c.names[function] {
		if c.reaches(name, seen) {
			return true
		}
	}
	return false
}
