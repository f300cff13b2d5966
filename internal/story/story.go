// SPDX-License-Identifier: AGPL-3.0-only

// Package story runs the stories of the consensus cores, and holds them against the planted mistakes that they name.
//
// A story is a transcript: one file of commands and of what came of them, which opens with a comment that says what happens and
// why. For each planted mistake (package failpoint) that it guards against, the opening comment has a line
//
//	# Plant: consensus-q2-short. What goes wrong without the rule, in a sentence or two.
//
// Check finds the sites of the cores that no story of their package names, and the names that are no site. With the tag `plants`
// RunArmed tells each story again with each plant that it names, and fails where nothing is told differently.
//
// CheckFound and CheckDepartures hold the lists of the documents, of bugs that were found and of departures from the paper, against the
// stories and tests that they name.
//
// The package is for tests only. What the commands mean is left to the package whose stories they are.
package story

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// World takes the commands of one story, one after the other, and says what came of each.
type World func(t *testing.T, d *datadriven.TestData) string

// Run tells each story below a folder to a new world.
func Run(t *testing.T, dir string, begin func() World) {
	datadriven.Walk(t, dir, func(t *testing.T, file string) {
		if strings.Contains(file, "fuzz") {
			return
		}
		w := begin()
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string { return tell(t, w, d) })
	})
}

func tell(t *testing.T, w World, d *datadriven.TestData) string {
	if out := w(t, d); out != "" {
		return out
	}
	return "ok\n"
}

// home is where the stories of a family of sites are, by the first word of their names.
// shared: only read.
var home = map[string]string{
	"consensus": "consensus/testdata/stories",
	"liveness":  "consensus/liveness/testdata",
	"sim":       "consensus/sim/testdata/stories",
}

const sitesFile = "internal/failpoint/sites.go"

var (
	plantLine = regexp.MustCompile(`(?m)^# Plant: ([a-z][a-z0-9-]*)\. \S`)
	siteLine  = regexp.MustCompile(`(?m)^\t\w+ +Site = "([^"]+)"$`)
)

// Plants are the planted mistakes that a story names, in its order.
func Plants(text string) []failpoint.Site {
	var sites []failpoint.Site
	for _, m := range plantLine.FindAllStringSubmatch(opening(text), -1) {
		sites = append(sites, failpoint.Site(m[1]))
	}
	return sites
}

// opening is the comment that a story opens with.
func opening(text string) string {
	end := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			break
		}
		end += len(line)
	}
	return text[:end]
}

// Check says what is wrong with the names of plants in the stories of a repository: sites that no story names, names that are no
// site or are not at home there, and lines that seem to name one and do not.
func Check(repository fs.FS) ([]string, error) {
	src, err := fs.ReadFile(repository, sitesFile)
	if err != nil {
		return nil, err
	}
	named := map[failpoint.Site]bool{}
	for _, m := range siteLine.FindAllSubmatch(src, -1) {
		if site := string(m[1]); home[family(site)] != "" {
			named[failpoint.Site(site)] = false
		}
	}
	var wrong []string
	for _, word := range slices.Sorted(maps.Keys(home)) {
		dir := home[word]
		entries, err := fs.ReadDir(repository, dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			file := path.Join(dir, e.Name())
			text, err := fs.ReadFile(repository, file)
			if err != nil {
				return nil, err
			}
			wrong = append(wrong, checkStory(file, string(text), word, named)...)
		}
	}
	for _, site := range slices.Sorted(maps.Keys(named)) {
		if !named[site] {
			wrong = append(wrong, fmt.Sprintf("%s: no story in %s names it", site, home[family(string(site))]))
		}
	}
	return wrong, nil
}

// checkStory checks the names in one story, and notes them.
func checkStory(file, text, word string, named map[failpoint.Site]bool) (wrong []string) {
	if opening(text) == "" {
		wrong = append(wrong, file+": opens with no comment")
	}
	plants := Plants(text)
	if seem := strings.Count(strings.ToLower(text), "plant:"); seem != len(plants) {
		wrong = append(wrong, fmt.Sprintf("%s: %d lines seem to name a plant, and %d do: want `# Plant: site. What goes wrong.` in the opening comment", file, seem, len(plants)))
	}
	for _, site := range plants {
		switch _, known := named[site]; {
		case !known:
			wrong = append(wrong, fmt.Sprintf("%s: %s is no planted mistake of the cores", file, site))
		case family(string(site)) != word:
			wrong = append(wrong, fmt.Sprintf("%s: %s is at home in %s", file, site, home[family(string(site))]))
		default:
			named[site] = true
		}
	}
	return wrong
}

func family(site string) string {
	word, _, _ := strings.Cut(site, "-")
	return word
}
