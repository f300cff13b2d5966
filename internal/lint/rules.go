// SPDX-License-Identifier: AGPL-3.0-only

package lint

import (
	"bytes"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// rules are all checks, in the order of CONTRIBUTING.md.
var rules = []rule{
	{"imports", "dependencies run one way, and each dependency has one home", checkImports},
	{"pure", "the consensus core takes time, randomness and the disk as inputs and outputs, so that a run can be replayed", checkPure},
	{"map-order", "the order of a map must not reach an output of the core: sort first", checkMapOrder},
	{"go-statement", "whoever starts a goroutine stops it and waits for it: use a group, or say `// owner: ...`", checkGo},
	{"package-var", "two nodes must be able to run in one process: pass it in, or say `// shared: ...`", checkPackageVars},
	{"package-name", "a package is named for what it does", checkPackageNames},
	{"package-comment", "a package comment says what it does, leaves to others, and must keep true", checkPackageComments},
	{"spdx", "the licence is one line on top of each Go file", checkSPDX},
	{"init", "init only registers; what can fail or do work is called by the one who needs it", checkInit},
	{"emoji", "no emoji in code, logs, errors or documents", checkEmoji},
	{"sleep", "a test that sleeps to wait is slow and flaky: poll a condition or use synctest, or say `// sleep: ...`", checkSleep},
	{"ignored-error", "an ignored error needs a reason on its line", checkIgnored},
	{"atomics", "typed atomics cannot be read plainly by mistake and are aligned", checkAtomics},
	{"exported-types", "callers must not depend on a dependency of ours: wrap the type", checkExportedTypes},
	{"file-length", "split a file near 800 lines", checkLength},
	{"unfinished", "no method may be there and not do its work", checkUnfinished},
	{"links", "a document leads somewhere", checkLinks},
	{"guarantees", "promises are tested, and tests cite promises that exist", checkGuarantees},
}

const spdx = "// SPDX-License-Identifier: AGPL-3.0-only\n"

// lineMax is the longest a hand-written file may be.
const lineMax = 800

// impure are what the core may not import, with all that lies below each.
var impure = []string{"time", "sync", "context", "os", "net", "math/rand", "log", "io/fs", "crypto/rand", "runtime"}

// cores are the packages that are pure state machines or functions.
// shared: only read.
var cores = []string{"consensus", "consensus/quorum", "consensus/liveness", "consensus/session", "consensus/ownership", "consensus/reconfig"}

// isCore says whether the file is part of the pure core.
func isCore(f *goFile) bool { return !f.test && slices.Contains(cores, f.dir) }

func checkPure(t *Tree, report reporter) {
	for _, f := range t.files {
		if !isCore(f) {
			continue
		}
		for _, spec := range f.syntax.Imports {
			p := importPath(spec)
			if slices.ContainsFunc(impure, func(banned string) bool { return under(p, banned) }) {
				report(f.path, t.line(spec), "imports %s", p)
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				report(f.path, t.line(g), "starts a goroutine")
			}
			return true
		})
	}
}

// checkMapOrder approximates types by names: a field, parameter or variable that is declared anywhere in the package
// with a map's type, literal or make is a map wherever its name is ranged over.
func checkMapOrder(t *Tree, report reporter) {
	dirs, packages := t.packages()
	for _, dir := range dirs {
		core := slices.DeleteFunc(slices.Clone(packages[dir]), func(f *goFile) bool { return !isCore(f) })
		maps := map[string]bool{}
		for _, f := range core {
			ast.Inspect(f.syntax, func(n ast.Node) bool { noteMaps(n, maps); return true })
		}
		for _, f := range core {
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				r, ok := n.(*ast.RangeStmt)
				if ok && rangesOverMap(r.X, maps) && !f.justified(t.line(r), "order:") {
					report(f.path, t.line(r), "ranges over a map")
				}
				return true
			})
		}
	}
}

func noteMaps(n ast.Node, maps map[string]bool) {
	isMap := func(e ast.Expr) bool {
		switch e := e.(type) {
		case *ast.MapType:
			return true
		case *ast.CompositeLit:
			_, ok := e.Type.(*ast.MapType)
			return ok
		case *ast.CallExpr:
			if id, ok := e.Fun.(*ast.Ident); ok && id.Name == "make" && len(e.Args) > 0 {
				_, ok := e.Args[0].(*ast.MapType)
				return ok
			}
		}
		return false
	}
	switch n := n.(type) {
	case *ast.Field:
		if isMap(n.Type) {
			for _, id := range n.Names {
				maps[id.Name] = true
			}
		}
	case *ast.ValueSpec:
		for i, id := range n.Names {
			if (n.Type != nil && isMap(n.Type)) || (i < len(n.Values) && isMap(n.Values[i])) {
				maps[id.Name] = true
			}
		}
	case *ast.AssignStmt:
		for i, lhs := range n.Lhs {
			if id, ok := lhs.(*ast.Ident); ok && i < len(n.Rhs) && isMap(n.Rhs[i]) {
				maps[id.Name] = true
			}
		}
	}
}

func rangesOverMap(e ast.Expr, maps map[string]bool) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return maps[e.Name]
	case *ast.SelectorExpr:
		return maps[e.Sel.Name]
	case *ast.CallExpr:
		sel, ok := e.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		id, ok := sel.X.(*ast.Ident)
		return ok && id.Name == "maps" && slices.Contains([]string{"Keys", "Values", "All"}, sel.Sel.Name)
	}
	return false
}

// checkGo asks for an owner of each go statement. sync.WaitGroup.Go and an errgroup's Go are calls, not go statements:
// they carry their owner with them.
func checkGo(t *Tree, report reporter) {
	for _, f := range t.files {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok && !f.justified(t.line(g), "owner:") {
				report(f.path, t.line(g), "go statement without an owner")
			}
			return true
		})
	}
}

// checkPackageVars takes a package variable as constant when it is initialised and nothing in its package assigns to it,
// to a part of it, or takes its address; except for what only exists to be changed: locks, atomics, pools, channels, and
// what make and new return.
func checkPackageVars(t *Tree, report reporter) {
	dirs, packages := t.packages()
	for _, dir := range dirs {
		written := map[string]bool{}
		for _, f := range packages[dir] {
			if !f.test {
				ast.Inspect(f.syntax, func(n ast.Node) bool { noteWrites(n, written); return true })
			}
		}
		for _, f := range packages[dir] {
			if f.test || f.generated {
				continue
			}
			for _, decl := range f.syntax.Decls {
				if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.VAR {
					checkVarDecl(t, f, d, written, report)
				}
			}
		}
	}
}

func checkVarDecl(t *Tree, f *goFile, d *ast.GenDecl, written map[string]bool, report reporter) {
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		line := t.line(v)
		if f.justified(line, "shared:") || strings.HasPrefix(f.comments[line-1], "go:embed") {
			continue
		}
		for i, id := range v.Names {
			switch {
			case id.Name == "_":
			case written[id.Name]:
				report(f.path, line, "package variable %s is written to", id.Name)
			case len(v.Values) == 0:
				report(f.path, line, "package variable %s has no value, so something must set it", id.Name)
			case i < len(v.Values) && isMutable(v.Values[i]):
				report(f.path, line, "package variable %s holds what exists to be changed", id.Name)
			}
		}
	}
}

func isMutable(e ast.Expr) bool {
	if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.AND {
		e = u.X
	}
	switch e := e.(type) {
	case *ast.CompositeLit:
		sel, ok := e.Type.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		id, ok := sel.X.(*ast.Ident)
		return ok && (id.Name == "sync" || id.Name == "atomic")
	case *ast.CallExpr:
		id, ok := e.Fun.(*ast.Ident)
		return ok && (id.Name == "make" || id.Name == "new")
	}
	return false
}

// noteWrites gathers names that are assigned to as a whole or in part, counted up or down, or whose address is taken. A
// local variable of the same name makes a false alarm: rename it, shadowing a package variable is no help to a reader.
func noteWrites(n ast.Node, written map[string]bool) {
	note := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.Ident:
				written[x.Name] = true
				return
			case *ast.IndexExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			default:
				return
			}
		}
	}
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			for _, e := range n.Lhs {
				note(e)
			}
		}
	case *ast.IncDecStmt:
		note(n.X)
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			if id, ok := n.X.(*ast.Ident); ok {
				written[id.Name] = true
			}
		}
	}
}

func checkPackageNames(t *Tree, report reporter) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "types", "manager", "misc", "base"}
	dirs, packages := t.packages()
	for _, dir := range dirs {
		f := packages[dir][0]
		name := strings.TrimSuffix(f.syntax.Name.Name, "_test")
		if slices.Contains(empty, name) || slices.Contains(empty, path.Base(dir)) {
			report(f.path, t.line(f.syntax.Name), "package name %s says nothing", name)
		}
	}
}

func checkPackageComments(t *Tree, report reporter) {
	dirs, packages := t.packages()
	for _, dir := range dirs {
		var code *goFile
		documented := false
		for _, f := range packages[dir] {
			if f.test {
				continue
			}
			code = f
			doc := f.syntax.Doc.Text()
			want := "Package " + f.syntax.Name.Name + " "
			documented = documented || strings.HasPrefix(doc, want) || (f.syntax.Name.Name == "main" && doc != "")
		}
		if code != nil && !documented {
			report(code.path, t.line(code.syntax.Name), "package %s has no comment that begins `Package %s`",
				code.syntax.Name.Name, code.syntax.Name.Name)
		}
	}
}

func checkSPDX(t *Tree, report reporter) {
	for _, f := range t.files {
		if !f.generated && !bytes.HasPrefix(f.src, []byte(spdx)) {
			report(f.path, 1, "first line is not %q", strings.TrimSpace(spdx))
		}
	}
}

func checkInit(t *Tree, report reporter) {
	for _, f := range t.files {
		if f.generated {
			continue
		}
		for _, decl := range f.syntax.Decls {
			d, ok := decl.(*ast.FuncDecl)
			if !ok || d.Recv != nil || d.Name.Name != "init" || d.Body == nil {
				continue
			}
			for _, s := range d.Body.List {
				if !isRegistration(s) {
					report(f.path, t.line(s), "init does more than register")
				}
			}
		}
	}
}

func isRegistration(s ast.Stmt) bool {
	e, ok := s.(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := e.X.(*ast.CallExpr)
	if !ok {
		return false
	}
	name := ""
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		name = fun.Name
	case *ast.SelectorExpr:
		name = fun.Sel.Name
	}
	return strings.HasPrefix(strings.ToLower(name), "register")
}

func checkEmoji(t *Tree, report reporter) {
	scan := func(file string, src []byte) {
		for i, line := range strings.Split(string(src), "\n") {
			if j := strings.IndexFunc(line, isEmoji); j >= 0 {
				report(file, i+1, "holds %q", []rune(line[j:])[0])
			}
		}
	}
	for _, f := range t.files {
		scan(f.path, f.src)
	}
	for file, src := range t.text {
		scan(file, src)
	}
}

func isEmoji(r rune) bool {
	return (r >= 0x1f000 && r <= 0x1faff) || (r >= 0x2600 && r <= 0x27bf) || r == 0xfe0f || r == 0x2b50 || r == 0x2b55
}

func checkSleep(t *Tree, report reporter) {
	for _, f := range t.files {
		if f.test || under(f.dir, "conformance") {
			t.eachCall(f, "time", func(call *ast.CallExpr, name string) {
				if name == "Sleep" && !f.justified(t.line(call), "sleep:") {
					report(f.path, t.line(call), "sleeps")
				}
			})
		}
	}
}

// eachCall visits the calls of functions of an imported package.
func (t *Tree) eachCall(f *goFile, importPathWanted string, visit func(call *ast.CallExpr, name string)) {
	local := ""
	for _, spec := range f.syntax.Imports {
		if importPath(spec) == importPathWanted {
			local = importName(spec)
		}
	}
	if local == "" {
		return
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
				if id, ok := sel.X.(*ast.Ident); ok && id.Name == local {
					visit(call, sel.Sel.Name)
				}
			}
		}
		return true
	})
}

// checkIgnored sees what syntax shows: an assignment of a call's results to blanks only.
func checkIgnored(t *Tree, report reporter) {
	for _, f := range t.files {
		if f.test || f.generated {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			a, ok := n.(*ast.AssignStmt)
			if !ok || len(a.Rhs) != 1 || slices.ContainsFunc(a.Lhs, func(e ast.Expr) bool { return !isBlank(e) }) {
				return true
			}
			_, call := a.Rhs[0].(*ast.CallExpr)
			if end := t.fset.Position(a.End()).Line; call && !f.justified(t.line(a), "") && !f.justified(end, "") {
				report(f.path, t.line(a), "result ignored without a reason")
			}
			return true
		})
	}
}

func isBlank(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "_"
}

func checkAtomics(t *Tree, report reporter) {
	for _, f := range t.files {
		t.eachCall(f, "sync/atomic", func(call *ast.CallExpr, name string) {
			report(f.path, t.line(call), "calls atomic.%s", name)
		})
	}
}

func checkLength(t *Tree, report reporter) {
	for _, f := range t.files {
		if n := bytes.Count(f.src, []byte("\n")); n > lineMax && !f.generated {
			report(f.path, n, "has %d lines", n)
		}
	}
}

func checkUnfinished(t *Tree, report reporter) {
	for _, f := range t.files {
		if f.test || under(f.dir, "internal/lint") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s := strings.ToLower(lit.Value); strings.Contains(s, "not implemented") || strings.Contains(s, "unimplemented") {
					report(f.path, t.line(lit), "says %s", lit.Value)
				}
			}
			return true
		})
	}
}
