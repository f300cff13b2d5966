// SPDX-License-Identifier: AGPL-3.0-only

package lint

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/atlas-edge/atlas"

// TestTree holds the repository to the rules.
func TestTree(t *testing.T) {
	tree, err := Load(os.DirFS("../.."), module)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.files) < 20 {
		t.Fatalf("found %d Go files: is this the root of the repository?", len(tree.files))
	}
	for _, v := range tree.Check() {
		t.Error(v)
	}
}

// planted is a small tree with one mistake, and what the rules must say of it.
type planted struct {
	rule  string
	name  string
	files map[string]string
	want  string // part of the one violation; empty when there must be none
}

const head = spdx + "\n// Package p is here.\npackage p\n\n"

func plants() []planted {
	one := func(rule, name, dir, body, want string) planted {
		return planted{rule, name, map[string]string{dir + "/p.go": body}, want}
	}
	test := func(rule, name, dir, body, want string) planted {
		return planted{rule, name, map[string]string{dir + "/p.go": head, dir + "/p_test.go": body}, want}
	}
	imp := func(paths ...string) string {
		s := head
		for _, p := range paths {
			s += "import _ \"" + p + "\"\n"
		}
		return s
	}
	return []planted{
		one("imports", "up", "engine/storage", imp(module+"/engine"), "may not import engine"),
		one("imports", "up to a frontend", "engine", imp(module+"/frontends"), "may not import frontends"),
		one("imports", "between frontends", "frontends/sql", imp(module+"/frontends/socket"), "may not import frontends/socket"),
		one("imports", "past the engine", "frontends/socket", imp(module+"/engine/storage"), "may not import engine/storage"),
		one("imports", "third party", "engine/key", imp("github.com/cockroachdb/pebble/v2"), "may not import github.com/cockroachdb"),
		one("imports", "of tests", "engine/storage", imp("pgregory.net/rapid"), "may not import pgregory.net/rapid"),
		one("imports", "another file", "engine/replication", imp("github.com/prometheus/client_golang/prometheus"), "may not import github.com/prom"),
		one("imports", "no row", "tools/x", head, "no row in the table"),
		one("imports", "fine", "engine/storage", imp("github.com/cockroachdb/pebble/v2/vfs", "time", module+"/internal/invariants"), ""),
		test("imports", "fine in tests", "engine/storage", imp("pgregory.net/rapid"), ""),

		one("pure", "clock", "consensus", imp("time"), "imports time"),
		one("pure", "random", "consensus/quorum", imp("math/rand/v2"), "imports math/rand/v2"),
		one("pure", "logger", "consensus", imp("log/slog"), "imports log/slog"),
		one("pure", "goroutine", "consensus", head+"func f() {\n\tgo f() // owner: nobody\n}\n", "starts a goroutine"),

		one("map-order", "field", "consensus", head+"type t struct{ m map[int]int }\n\nfunc (x t) f() {\n\tfor range x.m {\n\t}\n}\n", "ranges over a map"),
		one("map-order", "local", "consensus", head+"func f() {\n\tm := make(map[int]int)\n\tfor range m {\n\t}\n}\n", "ranges over a map"),
		one("map-order", "keys", "consensus", head+"import \"maps\"\n\nfunc f(m map[int]int) {\n\tfor range maps.Keys(m) {\n\t}\n}\n", "ranges over a map"),
		one("map-order", "reason", "consensus", head+"func f(m map[int]int) (n int) {\n\tfor range m { // order: a count has none\n\t\tn++\n\t}\n\treturn n\n}\n", ""),

		one("go-statement", "bare", "engine", head+"func f() {\n\tgo f()\n}\n", "without an owner"),
		one("go-statement", "empty reason", "engine", head+"func f() {\n\tgo f() // owner:\n}\n", "without an owner"),
		one("go-statement", "owner", "engine", head+"func f() {\n\t// owner: Close stops it and waits.\n\tgo f()\n}\n", ""),
		test("go-statement", "in tests", "engine", head+"func f() {\n\tgo f()\n}\n", "without an owner"),

		one("package-var", "written", "engine", head+"var x = 1\n\nfunc f() { x = 2 }\n", "is written to"),
		one("package-var", "element written", "engine", head+"var x = []int{1}\n\nfunc f() { x[0]++ }\n", "is written to"),
		one("package-var", "field written", "engine", head+"var x = struct{ a int }{1}\n\nfunc f() { x.a = 2 }\n", "is written to"),
		one("package-var", "unset", "engine", head+"var x int\n", "has no value"),
		one("package-var", "lock", "engine", head+"import \"sync\"\n\nvar x = sync.Mutex{}\n", "exists to be changed"),
		one("package-var", "map", "engine", head+"var x = make(map[int]int)\n", "exists to be changed"),
		one("package-var", "table", "engine", head+"import \"errors\"\n\nvar (\n\terrX = errors.New(\"x\")\n\ttable = []int{1}\n)\n\nvar _ = table\n", ""),
		one("package-var", "reason", "engine", head+"import \"sync\"\n\n// shared: buffers hold nothing of a node.\nvar x = sync.Pool{}\n", ""),

		one("package-name", "util", "engine/util", spdx+"\n// Package util is here.\npackage util\n", "says nothing"),
		one("package-comment", "none", "engine", spdx+"\npackage engine\n", "no comment"),
		one("package-comment", "other words", "engine", spdx+"\n// Here it is.\npackage engine\n", "no comment"),
		one("spdx", "none", "engine", "// Package p is here.\npackage p\n", "first line"),
		one("init", "work", "engine", head+"func init() {\n\tprintln()\n}\n", "more than register"),
		one("init", "register", "engine", head+"func register() {}\n\nfunc init() { register() }\n", ""),
		one("emoji", "code", "engine", head+"// \U0001F600\n", "holds"),
		{"emoji", "document", map[string]string{"docs/x.md": "done \u2705\n"}, "holds"},

		test("sleep", "bare", "engine", head+"import \"time\"\n\nfunc f() { time.Sleep(1) }\n", "sleeps"),
		test("sleep", "renamed", "engine", head+"import t \"time\"\n\nfunc f() { t.Sleep(1) }\n", "sleeps"),
		test("sleep", "reason", "engine", head+"import \"time\"\n\nfunc f() {\n\ttime.Sleep(1) // sleep: the pause between two polls\n}\n", ""),

		one("ignored-error", "bare", "engine", head+"func f() error { return nil }\n\nfunc g() { _ = f() }\n", "without a reason"),
		one("ignored-error", "reason", "engine", head+"func f() error { return nil }\n\nfunc g() {\n\t_ = f() // only a hint\n}\n", ""),
		one("atomics", "function", "engine", head+"import \"sync/atomic\"\n\nfunc f(x *int64) { atomic.AddInt64(x, 1) }\n", "atomic.AddInt64"),

		one("exported-types", "parameter", "engine/key", head+"import \"github.com/x/y\"\n\nfunc F(a *y.T) {}\n", "y.T of github.com/x/y"),
		one("exported-types", "field", "engine/key", head+"import \"github.com/x/y/v2\"\n\ntype T struct{ A []y.T }\n", "y.T of github.com/x/y/v2"),
		one("exported-types", "inside", "engine/key", head+"import \"github.com/x/y\"\n\ntype T struct{ a y.T }\n\nfunc f(y.T) {}\n", ""),
		one("exported-types", "wrapped", "engine/storage", head+"import \"github.com/cockroachdb/pebble/v2/vfs\"\n\ntype FS = vfs.FS\n", ""),

		one("file-length", "long", "engine", head+strings.Repeat("// x\n", lineMax), "lines"),
		one("file-length", "generated", "engine", "// Code generated by x. DO NOT EDIT.\n\n"+head+strings.Repeat("// x\n", lineMax), ""),
		one("unfinished", "method", "engine", head+"func f() { panic(\"not implemented\") }\n", "not implemented"),
		{"links", "broken", map[string]string{"docs/x.md": "[a](y.md) [b](https://x.y/z) [c](#here)\n"}, "link to docs/y.md"},
		{"links", "whole", map[string]string{"docs/x.md": "[a](y.md#b) [e](../engine/)\n", "docs/y.md": "", "engine/p.go": head}, ""},

		{"guarantees", "unknown", map[string]string{
			guarantees: "- **G1 X.**\n", "engine/p.go": head, "engine/p_test.go": head + "// G1 and G2 hold.\n",
		}, "cites G2"},
		{"guarantees", "untested", map[string]string{
			guarantees: "- **G1 X.**\n", "engine/p.go": head + "// G1 is kept here.\n",
		}, "cited by no test"},
		{"guarantees", "twice", map[string]string{
			guarantees: "- **G1 X.**\n- **G1 Y.**\n", "conformance/testdata/a.atlas": "# G1\n",
		}, "there twice"},
	}
}

// TestPlanted proves that each rule sees what it is for, and passes over what is fine.
func TestPlanted(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range plants() {
		t.Run(p.rule+"/"+p.name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for name, src := range p.files {
				fsys[name] = &fstest.MapFile{Data: []byte(src)}
			}
			tree, err := Load(fsys, module)
			if err != nil {
				t.Fatal(err)
			}
			var got []Violation
			for _, v := range tree.Check() {
				if v.Rule == p.rule {
					got = append(got, v)
				}
			}
			switch {
			case p.want == "" && len(got) > 0:
				t.Errorf("found %v in a tree that is fine", got)
			case p.want != "" && (len(got) != 1 || !strings.Contains(got[0].String(), p.want)):
				t.Errorf("found %v, want one that says %q", got, p.want)
			}
		})
		seen[p.rule] = seen[p.rule] || p.want != ""
	}
	for _, r := range rules {
		if !seen[r.name] {
			t.Errorf("no violation is planted for rule %s", r.name)
		}
	}
}
