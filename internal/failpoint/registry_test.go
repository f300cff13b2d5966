// SPDX-License-Identifier: AGPL-3.0-only

package failpoint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// declared reads sites.go: the constants of type Site, by name.
func declared(t *testing.T) map[string]Site {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "sites.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]Site{}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			v := spec.(*ast.ValueSpec)
			lit, ok := v.Values[0].(*ast.BasicLit)
			if !ok || len(v.Names) != 1 {
				t.Fatalf("%s is not one constant with a literal", v.Names[0].Name)
			}
			value, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(v.Doc.Text(), v.Names[0].Name+" ") {
				t.Errorf("%s has no sentence that says what goes wrong there", v.Names[0].Name)
			}
			names[v.Names[0].Name] = Site(value)
		}
	}
	return names
}

// TestRegistry: the constants of sites.go, the list of sites and the uses in the tree are the same set.
func TestRegistry(t *testing.T) {
	names := declared(t)
	form := regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)+$`)
	listed := sites()
	if !slices.IsSorted(listed) {
		t.Errorf("sites() is not in alphabetical order: %q", listed)
	}
	byValue := map[Site]string{}
	for name, site := range names {
		if other, twice := byValue[site]; twice {
			t.Errorf("%s and %s are both %q", name, other, site)
		}
		byValue[site] = name
		if !form.MatchString(string(site)) {
			t.Errorf("%s = %q: want its package's name, a dash and what goes wrong", name, site)
		}
		if !slices.Contains(listed, site) {
			t.Errorf("%s is not in sites()", name)
		}
	}
	if len(listed) != len(names) {
		t.Errorf("%d sites listed, %d declared", len(listed), len(names))
	}
	used := uses(t, names)
	for name := range names {
		if len(used[name]) == 0 {
			t.Errorf("%s is used nowhere", name)
		}
	}
}

// uses finds the sites asked for in product files, by the constant's name. A site that is not a constant of sites.go is an error.
func uses(t *testing.T, names map[string]Site) map[string][]string {
	t.Helper()
	used := map[string][]string{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "failpoint") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil // a file that does not parse is the compiler's to report
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !isFailpoint(call.Fun, "Enabled") {
				return true
			}
			sel, ok := call.Args[0].(*ast.SelectorExpr)
			if !ok || !isFailpoint(sel, sel.Sel.Name) || names[sel.Sel.Name] == "" {
				t.Errorf("%s: the site is not a constant of sites.go", fset.Position(call.Pos()))
				return true
			}
			used[sel.Sel.Name] = append(used[sel.Sel.Name], fset.Position(call.Pos()).String())
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}

func isFailpoint(e ast.Expr, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == "failpoint"
}
