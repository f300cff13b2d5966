// SPDX-License-Identifier: AGPL-3.0-only

package lint

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// guarantees is the page of numbered promises.
const guarantees = "docs/guarantees.md"

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	promise  = regexp.MustCompile(`(?m)^- \*\*(G[0-9]+) `)
	citation = regexp.MustCompile(`\bG[1-9][0-9]?\b`)
)

// checkLinks follows relative links of documents to files and folders that the tree holds.
func checkLinks(t *Tree, report reporter) {
	known := map[string]bool{"LICENSE": true, "go.mod": true}
	add := func(p string) {
		for ; p != "." && p != "/"; p = path.Dir(p) {
			known[p] = true
		}
	}
	for p := range t.text {
		add(p)
	}
	for _, f := range t.files {
		add(f.path)
	}
	for _, p := range slices.Sorted(maps.Keys(t.text)) {
		if !strings.HasSuffix(p, ".md") || strings.Contains(p, "testdata/") {
			continue
		}
		for i, line := range strings.Split(string(t.text[p]), "\n") {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				to, _, _ := strings.Cut(m[1], "#")
				if to == "" || strings.Contains(to, ":") {
					continue
				}
				if to = path.Join(path.Dir(p), to); !known[to] {
					report(p, i+1, "link to %s, which is not there", to)
				}
			}
		}
	}
}

// checkGuarantees holds the numbers in comments of Go files and of conformance's data files against the page of promises.
// What cites a promise as a test is a _test.go file or anything in conformance/, which is tests throughout.
func checkGuarantees(t *Tree, report reporter) {
	page := t.text[guarantees]
	if page == nil {
		return
	}
	promised := map[string]int{}
	for i, line := range strings.Split(string(page), "\n") {
		if m := promise.FindStringSubmatch(line); m != nil {
			if promised[m[1]] != 0 {
				report(guarantees, i+1, "%s is there twice", m[1])
			}
			promised[m[1]] = i + 1
		}
	}
	tested := map[string]bool{}
	cite := func(file string, line int, text string, test bool) {
		for _, g := range citation.FindAllString(text, -1) {
			if promised[g] == 0 {
				report(file, line, "cites %s, which is not promised", g)
			}
			tested[g] = tested[g] || test
		}
	}
	for _, f := range t.files {
		if under(f.dir, "internal/lint") {
			continue
		}
		for _, group := range f.syntax.Comments {
			for _, c := range group.List {
				cite(f.path, t.line(c), c.Text, f.test || under(f.dir, "conformance"))
			}
		}
	}
	for p, src := range t.text {
		if slices.Contains([]string{".atlas", ".table", ".matrix"}, path.Ext(p)) {
			for i, line := range strings.Split(string(src), "\n") {
				if strings.HasPrefix(line, "#") {
					cite(p, i+1, line, true)
				}
			}
		}
	}
	for g, line := range promised {
		if !tested[g] {
			report(guarantees, line, "%s is cited by no test", g)
		}
	}
}
