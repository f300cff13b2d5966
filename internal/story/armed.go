// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package story

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// RunArmed tells each story below a folder once for each plant that it names, with that plant armed, and requires that something is
// told differently. It stops there: what follows on a mistake is told to nobody.
func RunArmed(t *testing.T, dir string, begin func() World) {
	told := 0
	datadriven.Walk(t, dir, func(t *testing.T, file string) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, site := range Plants(string(text)) {
			told++
			t.Run(string(site), func(t *testing.T) { runArmed(t, file, string(text), site, begin()) })
		}
	})
	if told == 0 {
		t.Errorf("no story in %s names a plant", filepath.Clean(dir))
	}
}

func runArmed(t *testing.T, file, text string, site failpoint.Site, w World) {
	disarm, err := failpoint.Arm(site, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer disarm()
	at, got, want := "", "", ""
	datadriven.RunTestFromString(t, text, func(t *testing.T, d *datadriven.TestData) string {
		if at == "" {
			if out := tell(t, w, d); out != d.Expected {
				at, got, want = strings.TrimPrefix(d.Pos, "<string>"), out, d.Expected
			}
		}
		return d.Expected
	})
	reached, fired := failpoint.Counts(site)
	switch {
	case at == "":
		t.Errorf("%s is told as ever with %s, which was reached %d times and fired %d", file, site, reached, fired)
	case fired == 0:
		t.Errorf("%s%s differs, and %s never fired", file, at, site)
	default:
		g, w := firstDifference(got, want)
		t.Logf("%s%s\n  told: %s\n  with: %s", file, at, w, g)
	}
}

// firstDifference is the first line of each text that is not in the other at that place.
func firstDifference(a, b string) (string, string) {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return as[i], bs[i]
		}
	}
	return "", ""
}
