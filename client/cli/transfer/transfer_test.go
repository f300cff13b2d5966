// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/internal/fakenode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// filled is a node with the rows of fill, and where it is.
func filled(t *testing.T) (*fakenode.Node, cli.Target) {
	t.Helper()
	n := &fakenode.Node{}
	fill(n)
	return n, cli.Target{Endpoint: n.Start(t)}
}

// fill puts values of many kinds into three tables and one of the system's.
func fill(n *fakenode.Node) (records int) {
	r := rand.New(rand.NewPCG(1, 2))
	binary := func(size int) string {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	for i := range 300 {
		n.Put(fmt.Sprintf("users.%03d", i), fmt.Sprintf("value %d", i))
		n.Put(fmt.Sprintf("shop/orders.%03d", i), binary(i))
	}
	n.Put("blobs.empty", "")
	n.Put("blobs.exact", binary(chunkLen))
	n.Put("blobs.exact2", binary(2*chunkLen))
	n.Put("blobs.large", binary(3<<20+17))
	n.Put("blobs.odd key \xff\n", "v")
	n.Put("user.other", "not of users")
	n.Put("atlas.nodes.1", "the system's")
	return 606
}

func run(t *testing.T, f func(cli.Streams) int, in io.Reader) (out []byte, notes string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = f(cli.Streams{In: in, Out: &o, Err: &e})
	return o.Bytes(), e.String(), code
}

func mustExport(t *testing.T, o ExportOptions, want int) string {
	t.Helper()
	_, notes, code := run(t, func(s cli.Streams) int { return Export(t.Context(), o, s) }, nil)
	if code != want {
		t.Fatalf("export: exit %d, want %d: %s", code, want, notes)
	}
	return notes
}

func mustImport(t *testing.T, o ImportOptions, want int) string {
	t.Helper()
	_, notes, code := run(t, func(s cli.Streams) int { return Import(t.Context(), o, s) }, nil)
	if code != want {
		t.Fatalf("import: exit %d, want %d: %s", code, want, notes)
	}
	return notes
}

func sameData(t *testing.T, a, b *fakenode.Node) {
	t.Helper()
	for _, key := range a.Keys() {
		if strings.HasPrefix(key, "atlas.") {
			continue
		}
		want, _ := a.Get(key)
		got, ok := b.Get(key)
		if !ok || got != want {
			t.Errorf("%q: %d bytes, want %d", key, len(got), len(want))
		}
	}
}

func TestThereAndBack(t *testing.T) {
	from, to := &fakenode.Node{}, &fakenode.Node{}
	records := fill(from)
	source, sink := cli.Target{Endpoint: from.Start(t)}, cli.Target{Endpoint: to.Start(t)}
	path := filepath.Join(t.TempDir(), "x")
	for _, rows := range []int{0, 7} {
		notes := mustExport(t, ExportOptions{Target: source, Path: path, PageRows: rows, Force: true}, cli.ExitOK)
		if !strings.Contains(notes, fmt.Sprintf("exported %d records", records)) {
			t.Errorf("notes: %s", notes)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	mustImport(t, ImportOptions{Path: path, CheckOnly: true}, cli.ExitOK)
	mustImport(t, ImportOptions{Target: source, Path: path, Verify: true}, cli.ExitOK)
	if notes := mustImport(t, ImportOptions{Target: sink, Path: path, Verify: true}, cli.ExitError); !strings.Contains(notes, "0 records are the same, 606 missing, 0 different") {
		t.Errorf("verify against nothing: %s", notes)
	}
	mustImport(t, ImportOptions{Target: sink, Path: path}, cli.ExitOK)
	sameData(t, from, to)
	if _, err := os.Stat(path + ".import-state"); err == nil {
		t.Error("the state file stays")
	}
	to.Put("users.000", "changed")
	to.Put("users.only-here", "x")
	if notes := mustImport(t, ImportOptions{Target: sink, Path: path, Verify: true}, cli.ExitError); !strings.Contains(notes, "different: users.000\n605 records are the same, 0 missing, 1 different; 1 keys are only") {
		t.Errorf("verify: %s", notes)
	}
	if notes := mustImport(t, ImportOptions{Target: sink, Path: path, IfAbsent: true}, cli.ExitOK); !strings.Contains(notes, "imported 0 records (606 were there already)") {
		t.Errorf("if absent: %s", notes)
	}
	if v, _ := to.Get("users.000"); v != "changed" {
		t.Error("if absent: overwritten")
	}
	mustExport(t, ExportOptions{Target: source, Path: path}, cli.ExitUsage)
}

func TestPrefixesAndStreams(t *testing.T) {
	from, to := &fakenode.Node{}, &fakenode.Node{}
	fill(from)
	source, sink := cli.Target{Endpoint: from.Start(t)}, cli.Target{Endpoint: to.Start(t)}
	o := ExportOptions{Target: source, Path: "-", Prefixes: []string{"users.1", "shop/orders.00", "users.10"}}
	data, notes, code := run(t, func(s cli.Streams) int { return Export(t.Context(), o, s) }, nil)
	if code != 0 {
		t.Fatal(notes)
	}
	_, notes, code = run(t, func(s cli.Streams) int { return Import(t.Context(), ImportOptions{Target: sink}, s) }, bytes.NewReader(data))
	if code != 0 || len(to.Keys()) != 110 {
		t.Errorf("exit %d, %d keys: %s", code, len(to.Keys()), notes)
	}
	mustExport(t, ExportOptions{Target: source, Path: "-", Resume: true}, cli.ExitUsage)
	mustExport(t, ExportOptions{Target: source, Prefixes: []string{""}}, cli.ExitUsage)
	mustExport(t, ExportOptions{Target: cli.Target{Endpoint: "/nonexistent/s"}}, cli.ExitConnect)
	mustImport(t, ImportOptions{Path: "/nonexistent/file"}, cli.ExitError)
	mustImport(t, ImportOptions{Path: "/nonexistent/file", Verify: true, CheckOnly: true}, cli.ExitUsage)
	mustImport(t, ImportOptions{InFlight: 5000}, cli.ExitUsage)
}

// An export cut at any byte is continued to the same records, and never taken for a whole one.
func TestExportResumes(t *testing.T) {
	_, source := filled(t)
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	mustExport(t, ExportOptions{Target: source, Path: whole}, cli.ExitOK)
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 25 {
		cut := r.IntN(len(data))
		path := filepath.Join(dir, fmt.Sprint(cut))
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		mustImport(t, ImportOptions{Path: path, CheckOnly: true}, cli.ExitError)
		if cut > 0 && cut < 200 { // within the head: nothing to go on from
			continue
		}
		mustExport(t, ExportOptions{Target: source, Path: path, Resume: true}, cli.ExitOK)
		got, err := os.ReadFile(path)
		if err != nil || cut > 0 && !bytes.Equal(got, data) {
			t.Errorf("cut at %d: %d bytes, want %d, %v", cut, len(got), len(data), err)
		}
	}
	if notes := mustExport(t, ExportOptions{Target: source, Path: whole, Resume: true}, cli.ExitOK); !strings.Contains(notes, "is complete: 606") {
		t.Errorf("notes: %s", notes)
	}
	mustExport(t, ExportOptions{Target: source, Path: whole, Resume: true, Prefixes: []string{"users"}}, cli.ExitUsage)
	if err := os.WriteFile(whole, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustExport(t, ExportOptions{Target: source, Path: whole, Resume: true}, cli.ExitError)
}

// An export that lost its server keeps what it has and can be continued.
func TestExportLosesServer(t *testing.T) {
	from := &fakenode.Node{}
	fill(from)
	var scans atomic.Int64
	from.Hook = func(_ *fakenode.Conn, _, line string) (bool, error) {
		if strings.HasPrefix(line, "SCAN") && scans.Add(1) == 30 {
			return true, errors.New("cut")
		}
		return false, nil
	}
	source := cli.Target{Endpoint: from.Start(t)}
	path := filepath.Join(t.TempDir(), "x")
	mustExport(t, ExportOptions{Target: source, Path: path, PageRows: 10}, cli.ExitConnect)
	mustExport(t, ExportOptions{Target: source, Path: path, PageRows: 10, Resume: true}, cli.ExitOK)
	mustImport(t, ImportOptions{Target: source, Path: path, Verify: true}, cli.ExitOK)
}

// An import that fails is continued where it stopped, and lost answers do no harm.
func TestImportResumes(t *testing.T) {
	for _, inFlight := range []int{1, 8} {
		t.Run(fmt.Sprintf("%d in flight", inFlight), func(t *testing.T) { testImportResumes(t, inFlight) })
	}
}

func testImportResumes(t *testing.T, inFlight int) {
	const failAt, cutEvery = 150, 40
	from, to := &fakenode.Node{}, &fakenode.Node{}
	records := int64(fill(from))
	var writes, fail atomic.Int64
	fail.Store(failAt)
	to.Hook = func(c *fakenode.Conn, tag, line string) (bool, error) {
		if !strings.HasPrefix(line, "KEY WRITE") && !strings.HasPrefix(line, "KEY BLOB SET") {
			return false, nil
		}
		switch n := writes.Add(1); {
		case n%cutEvery == 0:
			return false, errors.New("cut") // the outcome is unknown
		case n == fail.Load():
			if tag != "" {
				tag = "[ID:" + tag + "] "
			}
			c.Raw(tag + "ERROR WARN denied: no\r\n")
			return true, nil
		}
		return false, nil
	}
	source, sink := cli.Target{Endpoint: from.Start(t)}, cli.Target{Endpoint: to.Start(t)}
	path := filepath.Join(t.TempDir(), "x")
	mustExport(t, ExportOptions{Target: source, Path: path}, cli.ExitOK)
	notes := mustImport(t, ImportOptions{Target: sink, Path: path, InFlight: inFlight}, cli.ExitError)
	if !strings.Contains(notes, "denied: no") || !strings.Contains(notes, "go on with --resume") {
		t.Errorf("notes: %s", notes)
	}
	var state stateFile
	if data, err := os.ReadFile(path + ".import-state"); err != nil || json.Unmarshal(data, &state) != nil {
		t.Fatalf("state %s: %v", data, err)
	}
	// One after the other all but the last and those that were tried again are written. With several the first may be the last.
	if want := uint64(failAt - 1 - failAt/cutEvery); inFlight == 1 && state.Records != want {
		t.Errorf("%d records written, want %d", state.Records, want)
	}
	before := writes.Load()
	fail.Store(-1)
	mustImport(t, ImportOptions{Target: sink, Path: path, InFlight: inFlight, Resume: true}, cli.ExitOK)
	sameData(t, from, to)
	again := writes.Load() - before
	if most := records - int64(state.Records) + int64(inFlight)*(again/cutEvery+1); again > most {
		t.Errorf("%d writes the second time behind the %d records of the first, want at most %d", again, state.Records, most)
	}
	other := filepath.Join(t.TempDir(), "other")
	mustExport(t, ExportOptions{Target: source, Path: other, Prefixes: []string{"users"}}, cli.ExitOK)
	if err := os.WriteFile(other+".import-state", []byte(`{"format":1,"export":"x","records":5}`), 0o600); err != nil {
		t.Fatal(err)
	}
	mustImport(t, ImportOptions{Target: sink, Path: other, Resume: true}, cli.ExitUsage)
}

// Every single bit that is flipped, and every byte that is missing, is noticed before it does harm.
func TestDamageIsNoticed(t *testing.T) {
	var file bytes.Buffer
	w, err := newWriter(&file, Meta{Prefixes: []string{"t."}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.grant(client.Grant{Object: "t", Principal: "alice", Perm: client.Read}), w.grant(client.Grant{Object: "t.0"})); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"t alice READ": "", "t.0  ": "", "t.0": "", "t.1": "one 2001-09-09T01:46:40.000000001Z 2001-09-09T01:46:40Z", "t.2": strings.Repeat("two", 30),
	}
	for i, value := range []string{"", "one", strings.Repeat("two", 30)} {
		r := record{key: fmt.Sprintf("t.%d", i), size: int64(len(value))}
		if i == 1 {
			r.expires, r.wormUntil = time.Unix(1e9, 1).UTC(), time.Unix(1e9, 0).UTC()
		}
		if err := w.key(r); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	data := file.Bytes()
	if got, err := readAll(bytes.NewReader(data)); err != nil || !maps.Equal(got, want) {
		t.Fatalf("%q, %v", got, err)
	}
	if w.written != int64(len(data)) {
		t.Errorf("counted %d bytes of %d", w.written, len(data))
	}
	for i := range data {
		for bit := range 8 {
			bad := bytes.Clone(data)
			bad[i] ^= 1 << bit
			got, err := readAll(bytes.NewReader(bad))
			if err == nil {
				t.Errorf("byte %d bit %d: not noticed", i, bit)
			}
			for key, value := range got {
				if w, ok := want[key]; !ok || w != value {
					t.Errorf("byte %d bit %d: %q is %q", i, bit, key, value)
				}
			}
		}
		if _, err := readAll(iotest.OneByteReader(bytes.NewReader(data[:i]))); err == nil {
			t.Errorf("cut at %d: not noticed", i)
		}
	}
	if _, err := readAll(bytes.NewReader(append(bytes.Clone(data), 0))); !errors.Is(err, ErrDamaged) {
		t.Errorf("trailing byte: %v", err)
	}
	newer := bytes.Clone(data)
	newer[8] = FormatVersion + 1
	if _, err := readAll(bytes.NewReader(newer)); !errors.Is(err, ErrFormat) {
		t.Errorf("newer format: %v", err)
	}
	if _, err := w.Write([]byte("more")); err == nil {
		t.Error("a value longer than its length")
	}
}

func readAll(r io.Reader) (map[string]string, error) {
	got := make(map[string]string)
	rd, err := newReader(r)
	if err != nil {
		return nil, err
	}
	for {
		r, err := rd.next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		if r.grant != nil {
			got[r.grant.Object+" "+r.grant.Principal+" "+string(r.grant.Perm)] = ""
			continue
		}
		value, err := io.ReadAll(rd)
		if err != nil {
			return got, err
		}
		if int64(len(value)) != r.size {
			return got, errors.New("size")
		}
		if !r.expires.IsZero() || !r.wormUntil.IsZero() {
			value = fmt.Appendf(value, " %s %s", r.expires.Format(time.RFC3339Nano), r.wormUntil.Format(time.RFC3339Nano))
		}
		got[r.key] = string(value)
	}
}

func FuzzReader(f *testing.F) {
	var file bytes.Buffer
	w, err := newWriter(&file, Meta{})
	if err != nil {
		f.Fatal(err)
	}
	grant := w.grant(client.Grant{Object: "t", Principal: "alice", Perm: client.Owner})
	ends := record{key: "t.b", expires: time.Unix(1e9, 1), wormUntil: time.Unix(1e9, 0)}
	if err := errors.Join(grant, w.key(record{key: "t.a", size: 5}), func() error { _, err := w.Write([]byte("hello")); return err }(), w.key(ends), w.end()); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add(file.Bytes()[:30])
	f.Fuzz(func(t *testing.T, data []byte) {
		a, aerr := readAll(bytes.NewReader(data))
		b, berr := readAll(iotest.OneByteReader(bytes.NewReader(data)))
		if len(a) != len(b) || (aerr == nil) != (berr == nil) {
			t.Errorf("%d records, %v; byte by byte %d, %v", len(a), aerr, len(b), berr)
		}
		if rd, at, _, _, err := resumeAt(bytes.NewReader(data)); err == nil {
			sum := sha256.Sum256(data[:at.offset])
			wr, err := resumeWriter(io.Discard, at)
			if err != nil || string(wr.hash.Sum(nil)) != string(sum[:]) || rd == nil {
				t.Errorf("goes on with another checksum, %v", err)
			}
		}
	})
}

// What went wrong is said by the names that a user can give.
func TestMessages(t *testing.T) {
	n := &fakenode.Node{}
	target := cli.Target{Endpoint: n.Start(t)}
	n.Put("users.a", "x")
	path := filepath.Join(t.TempDir(), "f.atlas")
	mustExport(t, ExportOptions{Target: target, Path: path}, cli.ExitOK)
	if notes := mustExport(t, ExportOptions{Target: target, Path: path}, cli.ExitUsage); notes != path+" exists: replace it by --force, or go on with it by --resume if it is not whole\n" {
		t.Errorf("existing file: %q", notes)
	}
	_, notes, code := run(t, func(s cli.Streams) int { return Import(t.Context(), ImportOptions{Target: target}, s) }, strings.NewReader(""))
	if code != cli.ExitError || !strings.HasPrefix(notes, "standard input: not an export file") {
		t.Errorf("empty input: exit %d, %q", code, notes)
	}
}

// An import waits for a node that takes no writes for a while; it did so for two minutes without a word.
func TestImportSaysThatItWaits(t *testing.T) {
	n := &fakenode.Node{}
	target := cli.Target{Endpoint: n.Start(t)}
	for i := range 20 {
		n.Put(fmt.Sprintf("users.%d", i), "x")
	}
	path := filepath.Join(t.TempDir(), "f.atlas")
	mustExport(t, ExportOptions{Target: target, Path: path}, cli.ExitOK)
	var refused atomic.Int64
	n.SetHook(func(c *fakenode.Conn, tag, line string) (bool, error) {
		if !strings.HasPrefix(line, "KEY WRITE ") || refused.Add(1) > 30 {
			return false, nil
		}
		c.Raw("[ID:" + tag + "] ERROR WARN unavailable: not applied: disk is full\r\n")
		return true, nil
	})
	notes := mustImport(t, ImportOptions{Target: target, Path: path}, cli.ExitOK)
	if want := "unavailable: not applied: disk is full; trying again for up to 2m0s\n"; strings.Count(notes, want) != 1 {
		t.Errorf("got %q", notes)
	}
	if refused.Load() <= 30 {
		t.Errorf("only %d writes were refused", refused.Load())
	}
}
