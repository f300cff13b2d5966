// SPDX-License-Identifier: AGPL-3.0-only

// Package lint checks this repository against the rules of its style that a machine can check: which package may import
// what, the purity of the consensus core, goroutines without an owner, mutable package variables, and so on.
//
// `go test ./internal/lint` runs every rule over the tree and prints each violation with its place and the rule's
// reason. Rules look at syntax only, one file or one package at a time: no type checking, so that the whole tree takes a
// second. Where a rule can only approximate, its comment says how. The rules and the comment that justifies an exception
// to each are listed in CONTRIBUTING.md. The package keeps no state and starts no goroutine.
package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Violation is one place that breaks one rule.
type Violation struct {
	File   string
	Line   int
	Rule   string
	Text   string
	Reason string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s:%d: %s: %s (%s)", v.File, v.Line, v.Rule, v.Text, v.Reason)
}

// rule is one check over the whole tree. reason is printed with each violation.
type rule struct {
	name   string
	reason string
	check  func(*Tree, reporter)
}

// reporter takes one violation of the rule at hand.
type reporter func(file string, line int, format string, args ...any)

// goFile is one parsed Go file.
type goFile struct {
	path      string // slash separated, from the root
	dir       string // "." for the root
	src       []byte
	syntax    *ast.File
	test      bool // name ends in _test.go
	generated bool
	comments  map[int]string // text of the comment that ends on a line
	code      map[int]bool   // lines that hold more than a comment
}

// Tree is a repository, parsed.
type Tree struct {
	module string
	fset   *token.FileSet
	files  []*goFile
	text   map[string][]byte // documents, scripts and the like, by path
}

// textSuffixes are the files besides Go that rules look at.
var textSuffixes = []string{".md", ".sh", ".atlas", ".table", ".matrix", "Makefile", "Caddyfile", "Caddyfile2", ".ci/run", ".ci/long"}

// Load parses the tree under fsys of the module named. Folders named testdata hold no Go that counts, and hidden
// folders but .ci nothing that does.
func Load(fsys fs.FS, module string) (*Tree, error) {
	t := &Tree{module: module, fset: token.NewFileSet(), text: map[string][]byte{}}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != "." && name != ".ci" && (strings.HasPrefix(name, ".") || name == "bin" || name == "artifacts") {
				return fs.SkipDir
			}
			return nil
		}
		isGo := strings.HasSuffix(name, ".go") && !strings.Contains("/"+p, "/testdata/")
		isText := slices.ContainsFunc(textSuffixes, func(s string) bool { return strings.HasSuffix(p, s) })
		if !isGo && !isText {
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		if !isGo {
			t.text[p] = src
			return nil
		}
		return t.addGo(p, src)
	})
	return t, err
}

func (t *Tree) addGo(p string, src []byte) error {
	syntax, err := parser.ParseFile(t.fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	f := &goFile{
		path: p, dir: path.Dir(p), src: src, syntax: syntax,
		test: strings.HasSuffix(p, "_test.go"), generated: ast.IsGenerated(syntax),
		comments: map[int]string{}, code: map[int]bool{},
	}
	for _, group := range syntax.Comments {
		for _, c := range group.List {
			f.comments[t.fset.Position(c.End()).Line] = strings.TrimSpace(strings.TrimPrefix(c.Text, "//"))
		}
	}
	for i, line := range bytes.Split(src, []byte("\n")) {
		line = bytes.TrimSpace(line)
		f.code[i+1] = len(line) > 0 && !bytes.HasPrefix(line, []byte("//"))
	}
	t.files = append(t.files, f)
	return nil
}

// Check runs every rule, and returns the violations by file and line.
func (t *Tree) Check() []Violation {
	var out []Violation
	for _, r := range rules {
		r.check(t, func(file string, line int, format string, args ...any) {
			out = append(out, Violation{
				File: file, Line: line, Rule: r.name, Text: fmt.Sprintf(format, args...), Reason: r.reason,
			})
		})
	}
	slices.SortStableFunc(out, func(a, b Violation) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return out
}

func (t *Tree) line(n ast.Node) int { return t.fset.Position(n.Pos()).Line }

// justified says whether the line, or the comment lines right above it, hold a comment in which a reason follows `mark`.
// An empty mark takes any comment, but only on the line itself.
func (f *goFile) justified(line int, mark string) bool {
	if mark == "" {
		return f.comments[line] != ""
	}
	has := func(l int) bool {
		before, reason, ok := strings.Cut(f.comments[l], mark)
		return ok && strings.TrimSpace(reason) != "" && (before == "" || strings.HasSuffix(before, " "))
	}
	if has(line) {
		return true
	}
	for l := line - 1; l > 0 && !f.code[l] && f.comments[l] != ""; l-- {
		if has(l) {
			return true
		}
	}
	return false
}

// packages groups the files by folder, in order.
func (t *Tree) packages() (dirs []string, files map[string][]*goFile) {
	files = map[string][]*goFile{}
	for _, f := range t.files {
		if files[f.dir] == nil {
			dirs = append(dirs, f.dir)
		}
		files[f.dir] = append(files[f.dir], f)
	}
	slices.Sort(dirs)
	return dirs, files
}

// importName is the name by which the file knows the import.
func importName(spec *ast.ImportSpec) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	p := importPath(spec)
	base := path.Base(p)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(p))
	}
	return base
}

func importPath(spec *ast.ImportSpec) string { return strings.Trim(spec.Path.Value, `"`) }

// under says whether p is prefix or lies below it.
func under(p, prefix string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }
