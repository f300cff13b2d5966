// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/internal/fakenode"
)

// files lists a directory.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// cutAt ends the connection at the nth SCAN that asks for values.
func cutAt(n *fakenode.Node, nth int64) {
	var scans atomic.Int64
	n.SetHook(func(_ *fakenode.Conn, _, line string) (bool, error) {
		if strings.HasPrefix(line, "SCAN") && strings.Contains(line, " VALUES") && scans.Add(1) == nth {
			return true, errors.New("cut")
		}
		return false, nil
	})
}

// An export with --force emptied the file that it was to replace before it knew whether there was a node.
func TestExportReplacesAtTheEnd(t *testing.T) {
	from := &fakenode.Node{}
	fill(from)
	source, nobody := cli.Target{Endpoint: from.Start(t)}, cli.Target{Endpoint: filepath.Join(t.TempDir(), "none")}
	dir := t.TempDir()
	path := filepath.Join(dir, "bk")

	mustExport(t, ExportOptions{Target: nobody, Path: path}, cli.ExitConnect)
	if got := files(t, dir); got != "" {
		t.Errorf("no node: left %s", got)
	}
	mustExport(t, ExportOptions{Target: source, Path: path}, cli.ExitOK)
	if got := files(t, dir); got != "bk" {
		t.Errorf("left %s", got)
	}
	good := mustRead(t, path)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	mustExport(t, ExportOptions{Target: nobody, Path: path, Force: true}, cli.ExitConnect)
	if got := files(t, dir); got != "bk" || !bytes.Equal(mustRead(t, path), good) {
		t.Errorf("no node: the old file is changed, or not alone: %s", got)
	}
	cutAt(from, 1)
	mustExport(t, ExportOptions{Target: source, Path: path, Force: true}, cli.ExitConnect)
	if got := files(t, dir); got != "bk" || !bytes.Equal(mustRead(t, path), good) {
		t.Errorf("lost before the first row: the old file is changed, or not alone: %s", got)
	}
	cutAt(from, 30)
	notes := mustExport(t, ExportOptions{Target: source, Path: path, PageRows: 10, Force: true}, cli.ExitConnect)
	if got := files(t, dir); got != "bk bk.partial" || !bytes.Equal(mustRead(t, path), good) {
		t.Errorf("lost in the middle: the old file is changed, or the new one not kept: %s", got)
	}
	if want := "records are in " + path + ".partial; go on with --resume\n"; !strings.Contains(notes, want) {
		t.Errorf("lost in the middle: %q, want %q", notes, want)
	}
	if notes := mustExport(t, ExportOptions{Target: source, Path: filepath.Join(dir, "bk"), PageRows: 10}, cli.ExitUsage); !strings.Contains(notes, path+" exists: ") {
		t.Errorf("notes: %q", notes)
	}
	mustExport(t, ExportOptions{Target: nobody, Path: path, Resume: true}, cli.ExitConnect)
	if got := files(t, dir); got != "bk bk.partial" {
		t.Errorf("left %s", got)
	}
	from.Put("users.zzz", "since then")
	mustExport(t, ExportOptions{Target: source, Path: path, PageRows: 10, Resume: true}, cli.ExitOK)
	if got := files(t, dir); got != "bk" || bytes.Equal(mustRead(t, path), good) {
		t.Errorf("went on: not the new file alone: %s", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode of the file that was replaced is not kept: %v, %v", info.Mode(), err)
	}
	mustImport(t, ImportOptions{Target: source, Path: path, Verify: true}, cli.ExitOK)
}

// What an interrupted export left is not written over unasked.
func TestExportKeepsPartial(t *testing.T) {
	from, source := filled(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "bk")
	cutAt(from, 30)
	mustExport(t, ExportOptions{Target: source, Path: path, PageRows: 10}, cli.ExitConnect)
	if got := files(t, dir); got != "bk.partial" {
		t.Errorf("left %s", got)
	}
	if notes := mustExport(t, ExportOptions{Target: source, Path: path}, cli.ExitUsage); !strings.Contains(notes, path+".partial exists: go on with it by --resume, or ") {
		t.Errorf("notes: %q", notes)
	}
	mustExport(t, ExportOptions{Target: source, Path: path, Force: true}, cli.ExitOK)
	if got := files(t, dir); got != "bk" {
		t.Errorf("left %s", got)
	}
	// Whole, but for its name: the end came between writing and renaming.
	if err := os.Rename(path, path+".partial"); err != nil {
		t.Fatal(err)
	}
	mustExport(t, ExportOptions{Target: source, Path: path, Resume: true}, cli.ExitOK)
	if got := files(t, dir); got != "bk" {
		t.Errorf("left %s", got)
	}
}

// A link stays one, and a file that is no regular one is written as it is.
func TestExportThroughLinks(t *testing.T) {
	_, source := filled(t)
	dir := t.TempDir()
	path, link, null := filepath.Join(dir, "bk"), filepath.Join(dir, "link"), filepath.Join(dir, "null")
	mustExport(t, ExportOptions{Target: source, Path: path, Prefixes: []string{"users"}}, cli.ExitOK)
	if err := errors.Join(os.Symlink("bk", link), os.Symlink(os.DevNull, null)); err != nil {
		t.Fatal(err)
	}
	mustExport(t, ExportOptions{Target: source, Path: link, Force: true}, cli.ExitOK)
	mustExport(t, ExportOptions{Target: source, Path: null, Force: true}, cli.ExitOK)
	mustExport(t, ExportOptions{Target: source, Path: null, Resume: true}, cli.ExitUsage)
	mustExport(t, ExportOptions{Target: source, Path: null}, cli.ExitUsage)
	mustImport(t, ImportOptions{Target: source, Path: path, Verify: true}, cli.ExitOK)
	if got := files(t, dir); got != "bk link null" {
		t.Errorf("left %s", got)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().IsRegular() {
		t.Errorf("the link is replaced: %v", err)
	}
}

// An export that was interrupted told of a lost connection and of a node that could not be reached, and not how to go on.
func TestInterrupted(t *testing.T) {
	n, target := filled(t)
	interrupted := func(command string, nth int64, run func(context.Context, cli.Streams) int) string {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		var seen atomic.Int64
		n.SetHook(func(_ *fakenode.Conn, _, line string) (bool, error) {
			if !strings.HasPrefix(line, command) || !strings.Contains(line, " VALUE") || seen.Add(1) < nth {
				return false, nil
			}
			cancel(errors.New("interrupt signal received"))
			return true, nil
		})
		defer n.SetHook(nil)
		var out, notes bytes.Buffer
		if code := run(ctx, cli.Streams{Out: &out, Err: &notes}); code != cli.ExitInterrupted {
			t.Errorf("%s: exit %d, want %d", command, code, cli.ExitInterrupted)
		}
		return notes.String()
	}
	path := filepath.Join(t.TempDir(), "bk")
	export := func(path string) func(context.Context, cli.Streams) int {
		return func(ctx context.Context, s cli.Streams) int {
			return Export(ctx, ExportOptions{Target: target, Path: path, Prefixes: []string{"users"}, PageRows: 10}, s)
		}
	}
	if got, want := interrupted("SCAN", 4, export(path)), "interrupt signal received\n  30 records are in "+path+".partial; go on with --resume\n"; got != want {
		t.Errorf("export: got\n%swant\n%s", got, want)
	}
	if got, want := interrupted("SCAN", 4, export("-")), "interrupt signal received\n  what was written is not whole\n"; got != want {
		t.Errorf("export to a stream: got\n%swant\n%s", got, want)
	}
	mustExport(t, ExportOptions{Target: target, Path: path, Prefixes: []string{"users"}, Resume: true}, cli.ExitOK)
	if got, want := interrupted("KEY WRITE", 11, func(ctx context.Context, s cli.Streams) int {
		return Import(ctx, ImportOptions{Target: target, Path: path, InFlight: 1}, s)
	}), "interrupt signal received\n  10 records are written; go on with --resume\n"; got != want {
		t.Errorf("import: got\n%swant\n%s", got, want)
	}
}

// A mistyped table made a valid file without a record, and exit status 0.
func TestExportOfNothing(t *testing.T) {
	n, target := filled(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "bk")
	o := ExportOptions{Target: target, Path: path, Prefixes: []string{"users", "nosuch", "shop/orders.x"}}
	want := "no key that may be read begins with nosuch. or shop/orders.x: nothing is exported\n"
	if notes := mustExport(t, o, cli.ExitError); notes != want || files(t, dir) != "" {
		t.Errorf("got %q, want %q; left %s", notes, want, files(t, dir))
	}
	o.Prefixes = []string{"users"}
	mustExport(t, o, cli.ExitOK)
	good := mustRead(t, path)
	o.Prefixes, o.Force = []string{"user"}, true // of which there is one
	mustExport(t, o, cli.ExitOK)
	o.Prefixes = []string{"use"}
	mustExport(t, o, cli.ExitError)
	if files(t, dir) != "bk" || bytes.Equal(mustRead(t, path), good) {
		t.Errorf("left %s", files(t, dir))
	}
	o.Path = "-"
	out, _, code := run(t, func(s cli.Streams) int { return Export(t.Context(), o, s) }, nil)
	if len(out) != 0 || code != cli.ExitError {
		t.Errorf("exit %d, %d bytes", code, len(out))
	}
	// A node without data has a backup, too.
	mustExport(t, ExportOptions{Target: cli.Target{Endpoint: (&fakenode.Node{}).Start(t)}, Path: filepath.Join(dir, "empty")}, cli.ExitOK)
	// What is exported already may be gone when the rest is.
	cutAt(n, 40)
	o = ExportOptions{Target: target, Path: filepath.Join(dir, "three"), Prefixes: []string{"blobs", "shop/orders", "users"}, PageRows: 10}
	mustExport(t, o, cli.ExitConnect)
	for _, key := range n.Keys() {
		if strings.HasPrefix(key, "blobs.") {
			n.Delete(key)
		}
	}
	o.Resume = true
	mustExport(t, o, cli.ExitOK)
}

// An export without a principal left out what was granted to others and did not say so: a backup that misses tables.
func TestExportSaysThatItIsNobodys(t *testing.T) {
	c, target := dialReal(t)
	mustWrite(t, c, client.WriteRequest{Key: "t.a", Value: []byte("v")}, client.WriteRequest{Key: "u.a", Value: []byte("v")})
	mustGrant(t, c, client.Grant{Object: "u", Principal: "alice", Perm: client.Owner})
	const hint = "no principal was given: what only some may read is left out, and so is what was granted; --principal admin exports all\n"
	o := ExportOptions{Target: target, Path: filepath.Join(t.TempDir(), "x"), Force: true}
	if notes := mustExport(t, o, cli.ExitOK); !strings.HasPrefix(notes, "exported 2 records, ") || strings.Contains(notes, hint) {
		t.Errorf("as admin: %q", notes)
	}
	o.Principal = ""
	if notes := mustExport(t, o, cli.ExitOK); !strings.HasPrefix(notes, "exported 1 records, ") || !strings.HasSuffix(notes, hint) {
		t.Errorf("as nobody: %q", notes)
	}
	o.Quiet = true
	if notes := mustExport(t, o, cli.ExitOK); notes != "" {
		t.Errorf("quiet: %q", notes)
	}
}

// fullDisk takes so many bytes and no more.
type fullDisk struct {
	io.Writer
	left int
}

var errFull = errors.New("no space left on device")

func (d *fullDisk) Write(p []byte) (int, error) {
	n, err := min(len(p), d.left), error(nil)
	if n < len(p) {
		err = errFull
	}
	d.left -= n
	done, werr := d.Writer.Write(p[:n])
	return done, errors.Join(err, werr)
}

// An export that filled the disk told of more records than it had left in the file, and gave the reason twice.
func TestExportFillsTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	out := &output{path: path, part: path + partialSuffix}
	if err := out.open(Meta{}); err != nil {
		t.Fatal(err)
	}
	out.w.w.Reset(&fullDisk{out.f, 1000})
	var why error
	for i := 0; why == nil; i++ {
		why = out.row(client.Row{Key: fmt.Sprint("t.", i), Value: make([]byte, 100), Size: 100})
	}
	got := out.abandon(why)
	if want := errFull.Error() + "\n  the records that are whole in " + out.part + " are kept; go on with --resume"; !errors.Is(got, errFull) || got.Error() != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
