// SPDX-License-Identifier: AGPL-3.0-only

package story

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Where the lists of what was found and of the departures from the paper are, and what is kept of bugs.
const (
	foundFile      = "docs/reliability.md"
	departuresFile = "docs/divergence.md"
	seedsFile      = "consensus/sim/testdata/seeds.txt"
	tracesDir      = "consensus/explore/testdata/found"
)

var (
	foundHead = "| what was wrong | kind | found by | kept as |\n"
	quoted    = regexp.MustCompile("`([^`]+)`")
	seedWord  = regexp.MustCompile(`\bseeds? ([0-9]+(?:, [0-9]+)*)`)
	testFunc  = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	foundBy   = regexp.MustCompile(`(?i)\bfound by (the|a|two) (reader|explorer|simulat)`)
)

// kept is what there is of bugs that were found, by name.
type kept struct {
	stories map[string]bool // and traces: true if they say that they were found
	tests   map[string]bool
	seeds   map[string]bool // true if the fault was not the simulator's own
	plants  map[string]bool
}

// CheckFound says what is wrong with the list of bugs in the repository's documents: rows that name no story, trace, seed, plant or
// test, names of what is not there, and what was kept of a bug that is in no row.
func CheckFound(repository fs.FS) ([]string, error) {
	k, err := keptIn(repository)
	if err != nil {
		return nil, err
	}
	page, err := fs.ReadFile(repository, foundFile)
	if err != nil {
		return nil, err
	}
	_, list, ok := strings.Cut(string(page), foundHead)
	if !ok {
		return []string{foundFile + ": has no list of what was found"}, nil
	}
	var wrong []string
	named := map[string]bool{}
	for row := range strings.Lines(list) {
		if !strings.HasPrefix(row, "| ") {
			break
		}
		if !strings.HasPrefix(row, "| ---") {
			wrong = append(wrong, k.checkRow(foundFile, row, named)...)
		}
	}
	for _, what := range []map[string]bool{k.stories, k.seeds} {
		for _, name := range slices.Sorted(maps.Keys(what)) {
			if what[name] && !named[name] {
				wrong = append(wrong, fmt.Sprintf("%s: no row names %s, which was kept", foundFile, name))
			}
		}
	}
	return wrong, nil
}

// CheckDepartures says which rows of the tables of departures from the paper name no story or test, and which of these are not there.
func CheckDepartures(repository fs.FS) ([]string, error) {
	k, err := keptIn(repository)
	if err != nil {
		return nil, err
	}
	page, err := fs.ReadFile(repository, departuresFile)
	if err != nil {
		return nil, err
	}
	var wrong []string
	rows := 0
	for row := range strings.Lines(string(page)) {
		switch {
		case !strings.HasPrefix(row, "| ") || strings.HasPrefix(row, "| ---"):
		case strings.HasPrefix(row, "| the paper |"):
			if !strings.HasSuffix(row, " | shown by |\n") {
				wrong = append(wrong, departuresFile+": a table does not say what shows it")
			}
		default:
			rows++
			wrong = append(wrong, k.checkRow(departuresFile, row, map[string]bool{})...)
		}
	}
	if rows == 0 {
		wrong = append(wrong, departuresFile+": no departure is listed")
	}
	return wrong, nil
}

// checkRow looks for all that the last cell of a row names, and notes it.
func (k *kept) checkRow(file, row string, named map[string]bool) (wrong []string) {
	cells := strings.Split(strings.TrimSpace(row), " | ")
	what, as, some := strings.TrimPrefix(cells[0], "| "), cells[len(cells)-1], false
	note := func(name string, there map[string]bool) {
		if _, ok := there[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s: %s: %s is not there", file, what, name))
		}
		named[name], some = true, true
	}
	for _, m := range quoted.FindAllStringSubmatch(as, -1) {
		switch name := m[1]; {
		case strings.HasPrefix(name, "Test"):
			note(name, k.tests)
		case strings.Contains(name, "-"):
			note(name, k.plants)
		default:
			note(name, k.stories)
		}
	}
	for _, m := range seedWord.FindAllStringSubmatch(as, -1) {
		for seed := range strings.SplitSeq(m[1], ", ") {
			note("seed "+seed, k.seeds)
		}
	}
	if !some {
		wrong = append(wrong, fmt.Sprintf("%s: %s: names nothing that is kept", file, what))
	}
	return wrong
}

func keptIn(repository fs.FS) (*kept, error) {
	k := &kept{stories: map[string]bool{}, tests: map[string]bool{}, seeds: map[string]bool{}, plants: map[string]bool{}}
	for _, dir := range append(slices.Sorted(maps.Values(home)), tracesDir) {
		entries, err := fs.ReadDir(repository, dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			text, err := fs.ReadFile(repository, path.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			words := strings.Join(strings.Fields(strings.ReplaceAll(opening(string(text)), "#", " ")), " ")
			k.stories[e.Name()] = k.stories[e.Name()] || dir == tracesDir || foundBy.MatchString(words)
		}
	}
	seeds, err := fs.ReadFile(repository, seedsFile)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(seeds)) {
		if seed, bug, ok := strings.Cut(line, "# "); ok && strings.TrimSpace(seed) != "" {
			k.seeds["seed "+strings.Fields(seed)[0]] = !strings.HasPrefix(bug, "sim:")
		}
	}
	sites, err := fs.ReadFile(repository, sitesFile)
	if err != nil {
		return nil, err
	}
	for _, m := range siteLine.FindAllSubmatch(sites, -1) {
		k.plants[string(m[1])] = true
	}
	return k, k.findTests(repository)
}

// findTests finds the names of all tests.
func (k *kept) findTests(repository fs.FS) error {
	return fs.WalkDir(repository, ".", func(file string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && file != "." && (strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata"):
			return fs.SkipDir
		case e.IsDir() || !strings.HasSuffix(file, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(repository, file)
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			k.tests[string(m[1])] = true
		}
		return err
	})
}
