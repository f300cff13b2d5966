// SPDX-License-Identifier: AGPL-3.0-only

package story

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// holds reports what a check finds wrong with this repository.
func holds(t *testing.T, check func(fs.FS) ([]string, error)) {
	t.Helper()
	wrong, err := check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

// TestWhatWasFoundIsKept holds the list of bugs in the documents against what is kept of them.
func TestWhatWasFoundIsKept(t *testing.T) {
	holds(t, CheckFound)
}

// TestEachDepartureIsShown holds the departures from the paper against the stories.
func TestEachDepartureIsShown(t *testing.T) {
	holds(t, CheckDepartures)
}

// TestEachPlantHasAStory holds the stories of the repository against the sites.
func TestEachPlantHasAStory(t *testing.T) {
	holds(t, Check)
}

func TestPlants(t *testing.T) {
	text := "# A story.\n#\n# Plant: consensus-a. It breaks,\n# and more.\n# Plant: consensus-b-2. So does this.\n\nrun\n----\nok\n\n# Plant: consensus-late. Not here.\n"
	if got, want := Plants(text), []failpoint.Site{"consensus-a", "consensus-b-2"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestCheckSees: each way to be wrong is seen, and nothing else.
func TestCheckSees(t *testing.T) {
	const sites = "package failpoint\n\nconst (\n\t// ConsensusA is one.\n\tConsensusA Site = \"consensus-a\"\n\tLivenessA Site = \"liveness-a\"\n\tSimA Site = \"sim-a\"\n\tCommandA Site = \"command-a\"\n)\n"
	for _, c := range []struct{ name, file, text, want string }{
		{"fine", "", "", ""},
		{"site without a story", "consensus/testdata/stories/a", "# A story.\n\nrun\n", "consensus-a: no story in consensus/testdata/stories names it"},
		{"name that is no site", "consensus/testdata/stories/b", "# Plant: consensus-b. It breaks.\n", "consensus-b is no planted mistake"},
		{"site of another family", "consensus/testdata/stories/b", "# Plant: command-a. It breaks.\n", "command-a is no planted mistake"},
		{"not at home", "consensus/testdata/stories/b", "# Plant: sim-a. It breaks.\n", "sim-a is at home in consensus/sim"},
		{"without a sentence", "consensus/testdata/stories/b", "# Plant: consensus-a\n", "seem to name a plant"},
		{"not in the opening", "consensus/testdata/stories/b", "# A story.\n\nrun\n----\nok\n\n# Plant: consensus-a. It breaks.\n", "seem to name a plant"},
		{"small letters", "consensus/testdata/stories/b", "# A story.\n# plant: consensus-a. It breaks.\n", "seem to name a plant"},
		{"no comment", "consensus/testdata/stories/b", "run\n", "opens with no comment"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := fstest.MapFS{
				sitesFile:                          {Data: []byte(sites)},
				"consensus/testdata/stories/a":     {Data: []byte("# Plant: consensus-a. It breaks.\n")},
				"consensus/liveness/testdata/a":    {Data: []byte("# Plant: liveness-a. It breaks.\n")},
				"consensus/sim/testdata/stories/a": {Data: []byte("# Plant: sim-a. It breaks.\n")},
			}
			if c.file != "" {
				fsys[c.file] = &fstest.MapFile{Data: []byte(c.text)}
			}
			wrong, err := Check(fsys)
			switch {
			case err != nil:
				t.Fatal(err)
			case c.want == "" && len(wrong) > 0:
				t.Errorf("found %q", wrong)
			case c.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], c.want)):
				t.Errorf("found %q, not %q", wrong, c.want)
			}
		})
	}
}

// TestCheckFoundSees: each way to be wrong is seen, and nothing else.
func TestCheckFoundSees(t *testing.T) {
	const page = "# Why\n\n| what was wrong | kind | found by | kept as |\n| --- | --- | --- | --- |\n" +
		"| a was wrong | safety | review | story `story_a`; plant `consensus-a` |\n| b was wrong | progress | simulator | seeds 7, 8; `TestB` of b |\n"
	for _, c := range []struct{ name, row, file, text, want string }{
		{"fine", "", "", "", ""},
		{"a row more", "| c | safety | explorer | `trace_c` |\n", "consensus/explore/testdata/found/trace_c", "# x\n", ""},
		{"nothing is kept", "| c | safety | review | a good memory |\n", "", "", "c: names nothing that is kept"},
		{"no such story", "| c | safety | review | story `story_c` |\n", "", "", "c: story_c is not there"},
		{"no such test", "| c | safety | review | `TestC` |\n", "", "", "c: TestC is not there"},
		{"no such plant", "| c | safety | review | plant `consensus-c` |\n", "", "", "c: consensus-c is not there"},
		{"no such seed", "| c | safety | review | seed 10 |\n", "", "", "c: seed 10 is not there"},
		{"a trace in no row", "", "consensus/explore/testdata/found/trace_c", "# x\n", "no row names trace_c"},
		{"a story in no row", "", "consensus/testdata/stories/story_c", "# C is so. (Found by a\n# reader: it was not.)\n", "no row names story_c"},
		{"a seed in no row", "", seedsFile, "7 # b\n8 # b\n9 # sim: not the core\n11 x=1 # c\n", "no row names seed 11"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := keeping(page + c.row + "\nMore.\n")
			if c.file != "" {
				fsys[c.file] = &fstest.MapFile{Data: []byte(c.text)}
			}
			wrong, err := CheckFound(fsys)
			switch {
			case err != nil:
				t.Fatal(err)
			case c.want == "" && len(wrong) > 0:
				t.Errorf("found %q", wrong)
			case c.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], c.want)):
				t.Errorf("found %q, not %q", wrong, c.want)
			}
		})
	}
}

// keeping is a small repository that keeps a story, a trace, seeds, a plant and a test.
func keeping(page string) fstest.MapFS {
	return fstest.MapFS{
		foundFile:                            {Data: []byte(page)},
		sitesFile:                            {Data: []byte("\tConsensusA Site = \"consensus-a\"\n")},
		seedsFile:                            {Data: []byte("# Seeds.\n7 # b\n8 # b\n9 # sim: not the core\n")},
		"b/b_test.go":                        {Data: []byte("package b\n\nfunc TestB(t *testing.T) {}\n")},
		"consensus/testdata/stories/story_a": {Data: []byte("# A. (Found by a reader.)\n")},
		"consensus/liveness/testdata/x":      {Data: []byte("# X.\n")},
		"consensus/sim/testdata/stories/x":   {Data: []byte("# X.\n")},
		tracesDir + "/story_a":               {Data: []byte("# A.\n")},
	}
}

// TestCheckDeparturesSees: each way to be wrong is seen, and nothing else.
func TestCheckDeparturesSees(t *testing.T) {
	const head = "| the paper | Atlas | why | shown by |\n| --- | --- | --- | --- |\n| p | a | w | `story_a`, `TestB` |\n"
	for _, c := range []struct{ name, page, want string }{
		{"fine", head, ""},
		{"no column", "| the paper | Atlas | why |\n| --- | --- | --- |\n| p | a | `story_a` |\n", "does not say what shows it"},
		{"nothing", head + "| q | a | w | |\n", "q: names nothing that is kept"},
		{"no such story", head + "| q | a | w | `story_b` |\n", "q: story_b is not there"},
		{"no rows", "# Where\n", "no departure is listed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := keeping("")
			fsys[departuresFile] = &fstest.MapFile{Data: []byte(c.page)}
			wrong, err := CheckDepartures(fsys)
			switch {
			case err != nil:
				t.Fatal(err)
			case c.want == "" && len(wrong) > 0:
				t.Errorf("found %q", wrong)
			case c.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], c.want)):
				t.Errorf("found %q, not %q", wrong, c.want)
			}
		})
	}
}
