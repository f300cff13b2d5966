// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/internal/fakenode"
	"github.com/atlas-edge/atlas/client/internal/realnode"
)

// dialReal starts a node and connects to it as its admin.
func dialReal(t *testing.T) (*client.Client, cli.Target) {
	t.Helper()
	target := cli.Target{Endpoint: realnode.Start(t), Principal: "admin"}
	c, err := dial(t.Context(), &target, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, target
}

func mustWrite(t *testing.T, c *client.Client, rows ...client.WriteRequest) {
	t.Helper()
	for _, r := range rows {
		if _, err := c.Write(t.Context(), r); err != nil {
			t.Fatalf("%s: %v", r.Key, err)
		}
	}
}

func mustGrant(t *testing.T, c *client.Client, grants ...client.Grant) {
	t.Helper()
	for _, g := range grants {
		if err := c.Grant(t.Context(), g.Object, g.Principal, g.Perm); err != nil {
			t.Fatalf("%+v: %v", g, err)
		}
	}
}

// ends is what a node holds of a table but the versions.
func ends(t *testing.T, c *client.Client, table string) (rows map[string]client.Meta, grants []client.Grant) {
	t.Helper()
	rows = make(map[string]client.Meta)
	for row, err := range c.Scan(t.Context(), table, client.ScanOptions{Meta: true}) {
		if err != nil {
			t.Fatal(err)
		}
		row.Meta.Version = 0
		rows[row.Key] = row.Meta
	}
	for g, err := range c.Grants(t.Context(), table) {
		if err != nil {
			t.Fatal(err)
		}
		grants = append(grants, g)
	}
	return rows, grants
}

var (
	inALongTime   = time.Date(2100, 1, 31, 0, 0, 0, 123456789, time.UTC)
	inALittleLess = inALongTime.Add(-time.Hour)
)

// An imported table neither expired nor was write-once, and was public, whatever it was where it was exported.
func TestEndsAndGrantsThereAndBack(t *testing.T) {
	from, source := dialReal(t)
	to, sink := dialReal(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 100<<10) // more than streamMin
	mustGrant(t, from, client.Grant{Object: "t", Principal: "bob", Perm: client.Read}, client.Grant{Object: "t", Principal: "bob", Perm: client.Write},
		client.Grant{Object: "t", Principal: "olga", Perm: client.Owner}, client.Grant{Object: "t.closed", Principal: "x", Perm: client.Read},
		client.Grant{Object: "t.none", Principal: "alice", Perm: client.Read})
	if err := from.Revoke(t.Context(), "t.closed", "x", client.Read); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, from, client.WriteRequest{Key: "t.plain", Value: []byte("v")}, client.WriteRequest{Key: "t.closed"},
		client.WriteRequest{Key: "t.expires", Value: []byte("v"), Expires: inALongTime},
		client.WriteRequest{Key: "t.worm", Value: []byte("a\x00b"), WormUntil: inALittleLess},
		client.WriteRequest{Key: "t.large", Value: large, WormUntil: inALittleLess, Expires: inALongTime})
	path := filepath.Join(t.TempDir(), "x")
	notes := mustExport(t, ExportOptions{Target: source, Path: path}, cli.ExitOK)
	if want := "exported 5 records, 1638405 bytes of values, and 5 grants, in "; !strings.HasPrefix(notes, want) {
		t.Errorf("export: got %q, want %q", notes, want)
	}
	if notes := mustImport(t, ImportOptions{Target: sink, Path: path, Verify: true}, cli.ExitError); !strings.Contains(notes, "not granted: t bob READ\n") ||
		!strings.HasSuffix(notes, "0 records are the same, 5 missing, 0 different; 0 keys are only at the server; 0 grants are the same, 5 missing\n") {
		t.Errorf("verify against nothing: %s", notes)
	}
	// Twice: what is write-once is not written again.
	for range 2 {
		notes = mustImport(t, ImportOptions{Target: sink, Path: path}, cli.ExitOK)
		if want := "imported 5 records, 1638405 bytes of values, and 5 grants, in "; !strings.HasPrefix(notes, want) {
			t.Errorf("import: got %q, want %q", notes, want)
		}
		notes = mustImport(t, ImportOptions{Target: sink, Path: path, Verify: true}, cli.ExitOK)
		if want := "5 records are the same, 0 missing, 0 different; 0 keys are only at the server; 5 grants are the same, 0 missing\n"; notes != want {
			t.Errorf("verify: got %q, want %q", notes, want)
		}
	}
	rows, grants := ends(t, from, "t")
	gotRows, gotGrants := ends(t, to, "t")
	for key, want := range rows {
		if gotRows[key] != want {
			t.Errorf("%s: got %+v, want %+v", key, gotRows[key], want)
		}
	}
	if len(gotRows) != len(rows) || !slices.Equal(gotGrants, grants) {
		t.Errorf("%d rows and %+v, want %d and %+v", len(gotRows), gotGrants, len(rows), grants)
	}
	notes = mustImport(t, ImportOptions{Target: sink, Path: path, IfAbsent: true}, cli.ExitOK)
	if want := "imported 0 records (5 were there already), "; !strings.HasPrefix(notes, want) {
		t.Errorf("if absent: got %q, want %q", notes, want)
	}
	// Another end is a difference, as is another value.
	mustWrite(t, to, client.WriteRequest{Key: "t.expires", Value: []byte("v"), Expires: inALittleLess}, client.WriteRequest{Key: "t.plain", Value: []byte("w")})
	notes = mustImport(t, ImportOptions{Target: sink, Path: path, Verify: true}, cli.ExitError)
	if want := "different: t.expires\ndifferent: t.plain\n3 records are the same, 0 missing, 2 different; "; !strings.HasPrefix(notes, want) {
		t.Errorf("verify: got %q, want %q", notes, want)
	}
}

// Grants are an admin's to give; who is none says so, or gets the rows alone.
func TestImportOfGrantsIsAnAdmins(t *testing.T) {
	from, source := dialReal(t)
	to, sink := dialReal(t)
	mustWrite(t, from, client.WriteRequest{Key: "t.a", Value: []byte("v")})
	mustGrant(t, from, client.Grant{Object: "t", Principal: "alice", Perm: client.Read})
	path := filepath.Join(t.TempDir(), "x")
	mustExport(t, ExportOptions{Target: source, Path: path}, cli.ExitOK)
	sink.Principal = ""
	notes := mustImport(t, ImportOptions{Target: sink, Path: path}, cli.ExitError)
	if !strings.HasPrefix(notes, "grant on t: denied: ") || !strings.Contains(notes, "\n  import as an admin, or leave what was granted out by --no-grants\n") {
		t.Errorf("got %q", notes)
	}
	if _, err := to.Get(t.Context(), "t.a"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a row was written before what was granted on its table: %v", err)
	}
	// Nobody may give a public table an owner, and may not write it from then on.
	mustWrite(t, from, client.WriteRequest{Key: "u.a", Value: []byte("v")})
	mustGrant(t, from, client.Grant{Object: "u", Principal: "alice", Perm: client.Owner})
	owned := filepath.Join(t.TempDir(), "owned")
	mustExport(t, ExportOptions{Target: source, Path: owned, Prefixes: []string{"u"}}, cli.ExitOK)
	notes = mustImport(t, ImportOptions{Target: sink, Path: owned}, cli.ExitError)
	if !strings.HasPrefix(notes, "write u.a: denied: ") || !strings.Contains(notes, "\n  import as an admin, or leave what was granted out by --no-grants\n") {
		t.Errorf("got %q", notes)
	}
	mustImport(t, ImportOptions{Target: sink, Path: path, NoGrants: true}, cli.ExitOK)
	if _, grants := ends(t, to, "t"); len(grants) != 0 {
		t.Errorf("granted: %+v", grants)
	}
	mustImport(t, ImportOptions{Target: sink, Path: path, Verify: true, NoGrants: true}, cli.ExitOK)
	mustImport(t, ImportOptions{Target: sink, Path: path, Verify: true}, cli.ExitError)
}

// fileOf makes an export file.
func fileOf(t *testing.T, rows map[string]record) string {
	t.Helper()
	var file bytes.Buffer
	w, err := newWriter(&file, Meta{})
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]string, 0, len(rows))
	for key := range rows {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		r := rows[key]
		r.key, r.size = key, 1
		if err := w.key(r); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "made")
	if err := errors.Join(w.end(), os.WriteFile(path, file.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// What has expired since is not brought back, and what was write-once until then is written as any value.
func TestImportOfWhatHasEnded(t *testing.T) {
	c, target := dialReal(t)
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	path := fileOf(t, map[string]record{
		"t.expired": {expires: past}, "t.worm": {wormUntil: past}, "t.both": {wormUntil: past, expires: inALongTime}, "t.plain": {},
	})
	for range 2 {
		notes := mustImport(t, ImportOptions{Target: target, Path: path}, cli.ExitOK)
		if want := "imported 3 records (1 had expired), "; !strings.HasPrefix(notes, want) {
			t.Errorf("got %q, want %q", notes, want)
		}
	}
	rows, _ := ends(t, c, "t")
	if len(rows) != 3 || rows["t.worm"] != (client.Meta{Size: 1}) || rows["t.both"] != (client.Meta{Size: 1, Expires: inALongTime}) {
		t.Errorf("got %+v", rows)
	}
	notes := mustImport(t, ImportOptions{Target: target, Path: path, Verify: true}, cli.ExitOK)
	if want := "3 records are the same, 0 missing, 0 different; 0 keys are only at the server; 1 records have expired\n"; notes != want {
		t.Errorf("got %q, want %q", notes, want)
	}
}

// A server whose clock is ahead of ours finds an end to have passed that we think is near.
func TestImportWhereClocksAreApart(t *testing.T) {
	n := &fakenode.Node{}
	target := cli.Target{Endpoint: n.Start(t)}
	soon := time.Now().Add(30 * time.Second)
	path := fileOf(t, map[string]record{"t.expired": {expires: soon}, "t.worm": {wormUntil: soon}, "t.late": {expires: inALongTime, wormUntil: soon}})
	n.SetHook(func(c *fakenode.Conn, tag, line string) (bool, error) {
		if strings.HasPrefix(line, "KEY WRITE") && strings.Contains(line, soon.UTC().Format("2006-01-02T15:04:05")) {
			c.Raw("[ID:" + tag + "] ERROR WARN invalid: not after the commit time\r\n")
			return true, nil
		}
		return false, nil
	})
	notes := mustImport(t, ImportOptions{Target: target, Path: path}, cli.ExitOK)
	if want := "imported 2 records (1 had expired), "; !strings.HasPrefix(notes, want) || !slices.Equal(n.Keys(), []string{"t.late", "t.worm"}) {
		t.Errorf("got %q and %q", notes, n.Keys())
	}
	n.SetHook(func(c *fakenode.Conn, tag, line string) (bool, error) {
		if strings.HasPrefix(line, "KEY WRITE") {
			c.Raw("[ID:" + tag + "] ERROR WARN invalid: something else\r\n")
			return true, nil
		}
		return false, nil
	})
	path = fileOf(t, map[string]record{"t.late": {expires: inALongTime}})
	if notes := mustImport(t, ImportOptions{Target: target, Path: path}, cli.ExitError); !strings.HasPrefix(notes, "write t.late: invalid: something else\n") {
		t.Errorf("got %q", notes)
	}
}

// A write-once key that holds something else is not taken for written.
func TestImportOverAnotherWriteOnceValue(t *testing.T) {
	c, target := dialReal(t)
	mustWrite(t, c, client.WriteRequest{Key: "t.a", Value: []byte("w"), WormUntil: inALongTime})
	path := fileOf(t, map[string]record{"t.a": {wormUntil: inALongTime}})
	if notes := mustImport(t, ImportOptions{Target: target, Path: path}, cli.ExitError); !strings.HasPrefix(notes, "write t.a: denied: t.a is write-once until 2100-01-31") {
		t.Errorf("got %q", notes)
	}
	long, other := bytes.Repeat([]byte("0"), streamMin+1), bytes.Repeat([]byte("1"), streamMin+1)
	mustWrite(t, c, client.WriteRequest{Key: "u.a", Value: long, WormUntil: inALongTime})
	from, source := dialReal(t)
	mustWrite(t, from, client.WriteRequest{Key: "u.a", Value: other, WormUntil: inALongTime})
	path = filepath.Join(t.TempDir(), "x")
	mustExport(t, ExportOptions{Target: source, Path: path}, cli.ExitOK)
	if notes := mustImport(t, ImportOptions{Target: target, Path: path}, cli.ExitError); !strings.HasPrefix(notes, "write u.a: denied: ") {
		t.Errorf("got %q", notes)
	}
	if got, err := c.Get(t.Context(), "u.a"); err != nil || !bytes.Equal(got, long) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A file that the first version wrote is imported and verified as ever; an interrupted one cannot be gone on with.
func TestFormat1(t *testing.T) {
	c, target := dialReal(t)
	path := filepath.Join(t.TempDir(), "old")
	data := mustRead(t, filepath.Join("testdata", "format1.atlas"))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	mustImport(t, ImportOptions{Target: target, Path: path}, cli.ExitOK)
	for key, want := range map[string]string{"old.text": "hello", "old.empty": "", "old.other": "x", "old.binary": "\x00\x01\n"} {
		if got, err := c.Get(context.Background(), key); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", key, got, err)
		}
	}
	mustWrite(t, c, client.WriteRequest{Key: "old.text", Value: []byte("hello"), Expires: inALongTime}) // of which the file says nothing
	notes := mustImport(t, ImportOptions{Target: target, Path: path, Verify: true}, cli.ExitOK)
	if want := "4 records are the same, 0 missing, 0 different; 0 keys are only at the server\n"; notes != want {
		t.Errorf("got %q, want %q", notes, want)
	}
	if err := os.WriteFile(path+".partial", data[:len(data)-60], 0o600); err != nil {
		t.Fatal(err)
	}
	notes = mustExport(t, ExportOptions{Target: target, Path: path, Prefixes: []string{"old"}, Resume: true}, cli.ExitUsage)
	if want := path + ".partial is of format 1, without what format 2 holds: begin anew by --force\n"; notes != want {
		t.Errorf("got %q, want %q", notes, want)
	}
}

// An export that ended among the grants, or behind them, goes on to the same file.
func TestExportResumesAmongGrants(t *testing.T) {
	from, source := dialReal(t)
	for _, table := range []string{"s", "t", "u"} {
		mustWrite(t, from, client.WriteRequest{Key: table + ".a", Value: []byte("v"), Expires: inALongTime}, client.WriteRequest{Key: table + ".b", Value: []byte("w")})
		mustGrant(t, from, client.Grant{Object: table, Principal: "alice", Perm: client.Read}, client.Grant{Object: table + ".b", Principal: "bob", Perm: client.Write})
	}
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	mustExport(t, ExportOptions{Target: source, Path: whole}, cli.ExitOK)
	data := mustRead(t, whole)
	rd, err := newReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for cut := rd.offset; cut < int64(len(data)); cut++ {
		path := filepath.Join(dir, "cut")
		if err := errors.Join(os.WriteFile(path+".partial", data[:cut], 0o600)); err != nil {
			t.Fatal(err)
		}
		notes := mustExport(t, ExportOptions{Target: source, Path: path, Resume: true}, cli.ExitOK)
		if want := "exported 6 records, 6 bytes of values, and 6 grants, in "; !strings.Contains(notes, want) {
			t.Fatalf("cut at %d: got %q, want %q", cut, notes, want)
		}
		if got := mustRead(t, path); !bytes.Equal(got, data) {
			t.Fatalf("cut at %d: %d bytes, want %d", cut, len(got), len(data))
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A table that begins as a request id does is listed in quotes. An export of all tables took these for a part of the name, and
// exported nothing at all: "no table or table.prefix".
func TestExportOfQuotedNames(t *testing.T) {
	c, source := dialReal(t)
	mustWrite(t, c, client.WriteRequest{Key: "[ID:a.1", Value: []byte("x")}, client.WriteRequest{Key: "b.1", Value: []byte("y")})
	mustGrant(t, c, client.Grant{Object: "[ID:a", Principal: "alice", Perm: client.Owner})
	to, target := dialReal(t)
	for _, prefixes := range [][]string{nil, {`."[ID:a"`, "b"}, {"[ID:a", "b."}, {`."[ID:a."`, `."b\x2e1"`}} {
		path := filepath.Join(t.TempDir(), "bk")
		mustExport(t, ExportOptions{Target: source, Path: path, Prefixes: prefixes}, cli.ExitOK)
		mustImport(t, ImportOptions{Target: target, Path: path}, cli.ExitOK)
		rows, grants := ends(t, to, "[ID:a")
		if len(rows) != 1 || len(grants) != 1 {
			t.Errorf("%q: %v, %v", prefixes, rows, grants)
		}
		if rows, _ := ends(t, to, "b"); len(rows) != 1 {
			t.Errorf("%q: %v", prefixes, rows)
		}
		mustImport(t, ImportOptions{Target: target, Path: path, Verify: true}, cli.ExitOK)
	}
	if notes := mustExport(t, ExportOptions{Target: source, Prefixes: []string{`."b`}}, cli.ExitUsage); !strings.Contains(notes, "is no table or table.prefix") {
		t.Error(notes)
	}
}

// What is granted on a table without a row was not exported, so that the table came back public; asked for by its name, it was said
// not to be there.
func TestExportOfGrantsWithoutRows(t *testing.T) {
	from, source := dialReal(t)
	mustWrite(t, from, client.WriteRequest{Key: "s/t.1", Value: []byte("v")})
	for _, table := range []string{"empty", "s/u", "s/t"} {
		mustGrant(t, from, client.Grant{Object: table, Principal: "alice", Perm: client.Owner})
	}
	for _, c := range []struct {
		prefixes []string
		granted  []string
	}{
		{nil, []string{"empty", "s/t"}}, // that there is s/u nobody says: no table of that name, and no group
		{[]string{"empty"}, []string{"empty"}},
		{[]string{"s/u", "s/t"}, []string{"s/u", "s/t"}},
	} {
		path := filepath.Join(t.TempDir(), "x")
		mustExport(t, ExportOptions{Target: source, Path: path, Prefixes: c.prefixes}, cli.ExitOK)
		to, sink := dialReal(t)
		mustImport(t, ImportOptions{Target: sink, Path: path}, cli.ExitOK)
		mustImport(t, ImportOptions{Target: sink, Path: path, Verify: true}, cli.ExitOK)
		for _, table := range []string{"empty", "s/u", "s/t"} {
			want := 0
			if slices.Contains(c.granted, table) {
				want = 1
			}
			if _, grants := ends(t, to, table); len(grants) != want {
				t.Errorf("%q: %v on %s, want %d", c.prefixes, grants, table, want)
			}
		}
	}
	if notes := mustExport(t, ExportOptions{Target: source, Prefixes: []string{"empty", "none"}}, cli.ExitError); !strings.HasPrefix(notes, "no key that may be read begins with none.: ") {
		t.Error(notes)
	}
	source.Principal = "" // who may not see the grants learns of no table by them
	mustExport(t, ExportOptions{Target: source, Prefixes: []string{"empty"}}, cli.ExitError)
}

// Who imported a damaged file was told to go on, with the same file; and from a pipe not even that a part of it was written.
func TestImportOfDamageSaysWhatIsWritten(t *testing.T) {
	to, sink := dialReal(t)
	file := fileOf(t, map[string]record{"t.a": {key: "t.a"}, "t.b": {key: "t.b"}})
	data := mustRead(t, file)
	for _, tt := range []struct {
		bytes []byte
		want  string
	}{
		{data[:len(data)-1], "export file is incomplete: it ends at byte "},
		{append(bytes.Clone(data), 'x'), "export file is damaged: bytes follow its end"},
	} {
		if err := os.WriteFile(file, tt.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		notes := mustImport(t, ImportOptions{Target: sink, Path: file}, cli.ExitError)
		if !strings.HasPrefix(notes, tt.want) || !strings.HasSuffix(notes, "\n  2 records are written; once the file is whole, go on with --resume\n") {
			t.Errorf("got %q", notes)
		}
		var o, e bytes.Buffer
		code := Import(t.Context(), ImportOptions{Target: sink, Quiet: true}, cli.Streams{In: bytes.NewReader(tt.bytes), Out: &o, Err: &e})
		if code != cli.ExitError || !strings.HasPrefix(e.String(), tt.want) || !strings.HasSuffix(e.String(), "\n  2 records are written\n") {
			t.Errorf("from a pipe: exit %d, %q", code, e.String())
		}
	}
	if rows, _ := ends(t, to, "t"); len(rows) != 2 {
		t.Errorf("%d rows", len(rows))
	}
}
