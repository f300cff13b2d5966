// SPDX-License-Identifier: AGPL-3.0-only

package repl

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atlas-edge/atlas/client/cli/lineedit"
	"github.com/atlas-edge/atlas/client/wire"
)

// filesMax bounds the entries of a directory that a Tab looks at.
const filesMax = 10_000

// fileCandidates are the names that begin as the one that was typed; of hidden files only when a dot was. A name in quotes is
// left to who types it, as are names that a line cannot hold.
func fileCandidates(typed string) (out []lineedit.Candidate) {
	if strings.HasPrefix(typed, `"`) || strings.HasPrefix(typed, "'") {
		return nil
	}
	typedDir, begin := filepath.Split(typed)
	dir, err := os.Open(cmp.Or(fileName(typedDir), "."))
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }()  // only read
	entries, _ := dir.ReadDir(filesMax) // what was read before an error will do
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, begin) || begin == "" && name[0] == '.' || name != strings.TrimSpace(name) || wire.Visible(name) != name {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir.Name(), name)); err == nil && info.IsDir() {
			name += string(filepath.Separator)
		}
		out = append(out, lineedit.Candidate{Text: typedDir + name})
	}
	slices.SortFunc(out, func(a, b lineedit.Candidate) int { return strings.Compare(a.Text, b.Text) })
	return out
}
