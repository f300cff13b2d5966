// SPDX-License-Identifier: AGPL-3.0-only

package lint

import (
	"go/ast"
	"go/token"
)

// checkExportedTypes looks for third-party types in what a package exports: parameters and results of functions and of
// methods of exported types, exported fields, methods of interfaces, types of variables. An alias, or a defined type over
// a third-party one, is how a wrapping package gives a type its own name; it is judged where it is declared.
func checkExportedTypes(t *Tree, report reporter) {
	for _, f := range t.files {
		l := layerOf(f.dir)
		if f.test || f.generated || l == nil || f.syntax.Name.Name == "main" {
			continue
		}
		foreign := map[string]string{} // local name -> import path, of third parties not wrapped here
		for _, spec := range f.syntax.Imports {
			p := importPath(spec)
			if !isThird(p) || under(p, t.module) {
				continue
			}
			if x := l.allowsThird(p, f); x == nil || !x.wraps {
				foreign[importName(spec)] = p
			}
		}
		if len(foreign) == 0 {
			continue
		}
		for _, decl := range f.syntax.Decls {
			for _, e := range exportedTypes(decl) {
				ast.Inspect(e, func(n ast.Node) bool {
					sel, ok := n.(*ast.SelectorExpr)
					if !ok {
						return true
					}
					if id, ok := sel.X.(*ast.Ident); ok && foreign[id.Name] != "" {
						report(f.path, t.line(sel), "%s.%s of %s in an exported signature", id.Name, sel.Sel.Name, foreign[id.Name])
					}
					return true
				})
			}
		}
	}
}

// exportedTypes are the type expressions of a declaration that a user of the package can see.
func exportedTypes(decl ast.Decl) (out []ast.Node) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || receiverExported(d.Recv)) {
			out = append(out, d.Type)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					out = append(out, visible(s.Type)...)
				}
			case *ast.ValueSpec:
				for _, id := range s.Names {
					if d.Tok == token.VAR && id.IsExported() && s.Type != nil {
						out = append(out, s.Type)
					}
				}
			}
		}
	}
	return out
}

func receiverExported(recv *ast.FieldList) bool {
	e := recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// visible are the parts of a type that its users see: of a struct the exported fields, else all of it.
func visible(e ast.Expr) (out []ast.Node) {
	s, ok := e.(*ast.StructType)
	if !ok {
		return []ast.Node{e}
	}
	for _, field := range s.Fields.List {
		shown := len(field.Names) == 0
		for _, id := range field.Names {
			shown = shown || id.IsExported()
		}
		if shown {
			out = append(out, visible(field.Type)...)
		}
	}
	return out
}
