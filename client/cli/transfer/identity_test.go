// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/internal/fakenode"
	"github.com/atlas-edge/atlas/client/internal/realnode"
)

// A node shows the same identity each time, and no other node the same.
func TestIdentity(t *testing.T) {
	identity := func(path string) string {
		c, err := dial(t.Context(), &cli.Target{Endpoint: path}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}()
		id, err := identity(t.Context(), c)
		if err != nil || id == "" {
			t.Fatalf("identity %q, %v", id, err)
		}
		return id
	}
	one, two := realnode.Start(t), realnode.Start(t)
	if a, again, b := identity(one), identity(one), identity(two); a != again || a == b {
		t.Errorf("%s, then %s; another node %s", a, again, b)
	}
}

// failWrites refuses all writes from the nth on.
func failWrites(n *fakenode.Node, nth int64) {
	var writes atomic.Int64
	n.SetHook(func(c *fakenode.Conn, tag, line string) (bool, error) {
		if strings.HasPrefix(line, "KEY WRITE") && writes.Add(1) >= nth {
			c.Raw("[ID:" + tag + "] ERROR WARN denied: no\r\n")
			return true, nil
		}
		return false, nil
	})
}

// An import that went on into another node left out the rows that the first one has, and said that they were there already.
func TestImportResumesIntoTheSameNode(t *testing.T) {
	from, to, other := &fakenode.Node{}, &fakenode.Node{}, &fakenode.Node{}
	fill(from)
	source, sink, wrong := cli.Target{Endpoint: from.Start(t)}, cli.Target{Endpoint: to.Start(t)}, cli.Target{Endpoint: other.Start(t)}
	path := filepath.Join(t.TempDir(), "x")
	mustExport(t, ExportOptions{Target: source, Path: path, Prefixes: []string{"users"}}, cli.ExitOK)
	failWrites(to, 100)
	mustImport(t, ImportOptions{Target: sink, Path: path, InFlight: 1}, cli.ExitError)
	state := mustRead(t, path+".import-state")

	notes := mustImport(t, ImportOptions{Target: wrong, Path: path, Resume: true}, cli.ExitUsage)
	if want := path + ".import-state is of an import into another node, or into this one before it was set up or configured anew: import without --resume, from the first record on\n"; notes != want {
		t.Errorf("another node: got\n%swant\n%s", notes, want)
	}
	if n := len(other.Keys()); n != 0 {
		t.Errorf("%d rows were written", n)
	}
	if err := os.WriteFile(path+".import-state", []byte(strings.Replace(string(state), `"format":2`, `"format":1`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	notes = mustImport(t, ImportOptions{Target: sink, Path: path, Resume: true}, cli.ExitUsage)
	if want := path + ".import-state is of another version of this program and does not say which node it is of: import without --resume, from the first record on\n"; notes != want {
		t.Errorf("old state: got\n%swant\n%s", notes, want)
	}
	if err := os.WriteFile(path+".import-state", state, 0o600); err != nil {
		t.Fatal(err)
	}
	to.SetHook(nil)
	notes = mustImport(t, ImportOptions{Target: sink, Path: path, Resume: true}, cli.ExitOK)
	if !strings.HasPrefix(notes, "imported 201 records (99 were written before), ") {
		t.Errorf("notes: %s", notes)
	}
	sameTable(t, from, to)
	mustImport(t, ImportOptions{Target: wrong, Path: path}, cli.ExitOK)
	sameTable(t, from, other)
}

func sameTable(t *testing.T, a, b *fakenode.Node) {
	t.Helper()
	for i := range 300 {
		key := fmt.Sprintf("users.%03d", i)
		want, _ := a.Get(key)
		if got, ok := b.Get(key); !ok || got != want {
			t.Errorf("%s is %q, %v", key, got, ok)
		}
	}
}

// An export that went on at another node put rows of two nodes into one file.
func TestExportResumesAtTheSameNode(t *testing.T) {
	from, other := &fakenode.Node{}, &fakenode.Node{}
	fill(from)
	fill(other)
	source, wrong := cli.Target{Endpoint: from.Start(t)}, cli.Target{Endpoint: other.Start(t)}
	path := filepath.Join(t.TempDir(), "bk")
	cutAt(from, 30)
	mustExport(t, ExportOptions{Target: source, Path: path, PageRows: 10}, cli.ExitConnect)
	before := mustRead(t, path+".partial")
	notes := mustExport(t, ExportOptions{Target: wrong, Path: path, Resume: true}, cli.ExitUsage)
	if want := path + ".partial is an export of another node, or of this one before it was set up or configured anew: begin anew by --force\n"; !strings.HasSuffix(notes, want) {
		t.Errorf("another node: got\n%swant\n%s", notes, want)
	}
	if string(mustRead(t, path+".partial")) != string(before) {
		t.Error("the file is changed")
	}
	mustExport(t, ExportOptions{Target: source, Path: path, Resume: true}, cli.ExitOK)
	mustImport(t, ImportOptions{Target: source, Path: path, Verify: true}, cli.ExitOK)
}

// An import or export that had nothing to go on with began anew and did not say so.
func TestResumesNothing(t *testing.T) {
	_, target := filled(t)
	path := filepath.Join(t.TempDir(), "x")
	notes := mustExport(t, ExportOptions{Target: target, Path: path, Resume: true}, cli.ExitOK)
	if want := path + ": there is nothing to go on with: beginning with the first record\n"; !strings.HasPrefix(notes, want) {
		t.Errorf("export: got\n%swant\n%s", notes, want)
	}
	notes = mustImport(t, ImportOptions{Target: target, Path: path, Resume: true}, cli.ExitOK)
	if want := path + ".import-state is not there: beginning with the first record\nimported 606 records, "; !strings.HasPrefix(notes, want) {
		t.Errorf("import: got\n%swant\n%s", notes, want)
	}
}
