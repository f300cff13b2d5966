// SPDX-License-Identifier: AGPL-3.0-only

package story

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// TestEachPlantHasAStory holds the stories of the repository against the sites.
func TestEachPlantHasAStory(t *testing.T) {
	wrong, err := Check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
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
