// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestNewDirectoryIsPrivateWhateverTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o777} {
		dir := filepath.Join(t.TempDir(), "missing", "parents", "atlas")
		old := syscall.Umask(mask)
		s, err := Open(Options{Dir: dir + "/"})
		if err == nil {
			put(t, s, "g", ".a", 1, Version{Value: []byte("x")})
			err = errors.Join(s.db.Flush(), s.Close())
		}
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		err = filepath.WalkDir(filepath.Dir(filepath.Dir(dir)), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			if err != nil {
				return err
			}
			want := fs.FileMode(0o600)
			if d.IsDir() {
				want = 0o700
			}
			if seen++; fi.Mode().Perm() != want {
				t.Errorf("umask %o: %s has mode %o, want %o", mask, path, fi.Mode().Perm(), want)
			}
			return nil
		})
		if err != nil || seen < 10 {
			t.Fatal(seen, err)
		}
	}
}

func TestLooseDirectoryIsTightened(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, Options{Dir: dir}))
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Fatal(fi.Mode(), err)
	}
}

func TestIdentityStaysAndStartsRise(t *testing.T) {
	mem := vfs.NewMem()
	s := mustOpen(t, memOptions(mem))
	first := s.Identity()
	if len(first.ClusterID) != 32 || first.NodeID != 1 || first.Created == 0 || first.Starts != 1 {
		t.Fatalf("%+v", first)
	}
	if err := s.SetCeiling(500); err != nil {
		t.Fatal(err)
	}
	if err := s.SetCeiling(400); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, memOptions(mem))
	defer mustClose(t, s)
	second := s.Identity()
	if second.Starts != 2 {
		t.Fatalf("%+v", second)
	}
	if second.Starts = 1; second != first {
		t.Fatalf("%+v, was %+v", second, first)
	}
	if c, err := s.Ceiling(); c != 500 || err != nil {
		t.Fatal(c, err)
	}
	other := mustOpen(t, memOptions(vfs.NewMem()))
	defer mustClose(t, other)
	if other.Identity().ClusterID == first.ClusterID {
		t.Fatal("two clusters of one name")
	}
	o := memOptions(vfs.NewMem())
	o.ClusterID, o.NewNodeID = "prod-1", 7
	named := mustOpen(t, o)
	defer mustClose(t, named)
	if id := named.Identity(); id.ClusterID != "prod-1" || id.NodeID != 7 {
		t.Fatalf("%+v", id)
	}
}

// snapshotTree reads a directory whole, to see that nothing in it changes.
func snapshotTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		tree[path] = fmt.Sprint(fi.ModTime(), string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestRefusalsChangeNothing(t *testing.T) {
	made := func(t *testing.T) string {
		dir := filepath.Join(t.TempDir(), "atlas")
		s := mustOpen(t, Options{Dir: dir, BallastBytes: -1})
		put(t, s, "g", ".a", 1, Version{Value: []byte("x")})
		mustClose(t, s)
		return dir
	}
	edit := func(t *testing.T, path, old, with string) {
		b, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(b), old) {
			t.Fatal(string(b), err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, with, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write := func(t *testing.T, path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name string
		dir  func(t *testing.T) string
		o    Options
		want error
		text string
	}{
		{"newer format", func(t *testing.T) string {
			dir := made(t)
			write(t, dir+"/ATLAS", string(marker{format: Format + 1, ready: true, cluster: "c"}.encode()))
			return dir
		}, Options{}, ErrNewerFormat, "knows formats up to"},
		{"newer format of unknown layout", func(t *testing.T) string {
			dir := made(t)
			write(t, dir+"/ATLAS", "Atlas data directory\nformat 77\nstate ready\ncluster x\nsomething else\n")
			return dir
		}, Options{}, ErrNewerFormat, "format 77"},
		{"newer Pebble", func(t *testing.T) string {
			dir := made(t)
			m, err := filepath.Glob(dir + "/pebble/marker.format-version.*")
			if err != nil || len(m) != 1 {
				t.Fatal(m, err)
			}
			if err := os.Rename(m[0], dir+"/pebble/marker.format-version.000099.023"); err != nil {
				t.Fatal(err)
			}
			return dir
		}, Options{}, ErrNewerFormat, "Pebble format"},
		{"foreign cluster", made, Options{ClusterID: "another"}, ErrForeignCluster, "wanted another"},
		{"somebody's files", func(t *testing.T) string {
			dir := t.TempDir()
			write(t, dir+"/photos.zip", "x")
			return dir
		}, Options{}, ErrForeignDir, "photos.zip"},
		{"Pebble of another application", func(t *testing.T) string {
			dir := t.TempDir()
			db, err := pebble.Open(dir+"/pebble", &pebble.Options{Logger: &pebbleLogger{log: (&recorder{}).logger()}})
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return dir
		}, Options{}, ErrForeignDir, "pebble"},
		{"a file", func(t *testing.T) string {
			write(t, t.TempDir()+"/f", "x")
			dir := t.TempDir() + "/f"
			write(t, dir, "x")
			return dir
		}, Options{}, ErrForeignDir, "not a directory"},
		{"damaged marker", func(t *testing.T) string {
			dir := made(t)
			edit(t, dir+"/ATLAS", "cluster ", "cluster 1")
			return dir
		}, Options{}, ErrCorrupt, "checksum"},
		{"empty marker", func(t *testing.T) string {
			dir := made(t)
			write(t, dir+"/ATLAS", "")
			return dir
		}, Options{}, ErrCorrupt, "ATLAS"},
		{"database gone", func(t *testing.T) string {
			dir := made(t)
			if err := os.RemoveAll(dir + "/pebble"); err != nil {
				t.Fatal(err)
			}
			return dir
		}, Options{}, ErrCorrupt, "missing"},
		{"read-only of nothing", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") }, Options{ReadOnly: true}, ErrReadOnly, "does not exist"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := c.o
			o.Dir, o.BallastBytes = c.dir(t), -1
			before := map[string]string{}
			if fi, err := os.Stat(o.Dir); err == nil && fi.IsDir() {
				before = snapshotTree(t, o.Dir)
			}
			s, err := Open(o)
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) || !strings.Contains(fmt.Sprint(err), filepath.Base(o.Dir)) && c.want != ErrCorrupt {
				t.Fatalf("%v, want %v with %q", err, c.want, c.text)
			}
			if len(before) == 0 {
				return
			}
			after := snapshotTree(t, o.Dir)
			for path, content := range after {
				if before[path] != content {
					t.Errorf("%s was changed", path)
				}
			}
			if len(after) != len(before) {
				t.Errorf("%d files, were %d", len(after), len(before))
			}
		})
	}
}

func TestMissingLogIsNoticed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "atlas")
	s := mustOpen(t, Options{Dir: dir, BallastBytes: -1})
	put(t, s, "g", ".a", 1, Version{Value: []byte("x")})
	mustClose(t, s)
	logs, err := filepath.Glob(dir + "/pebble/*.log")
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, l := range logs {
		if err := os.Remove(l); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(Options{Dir: dir, BallastBytes: -1}); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestSocketInDirectoryIsNotForeign(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "atlas-socket-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	l, err := net.Listen("unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	mustClose(t, mustOpen(t, Options{Dir: dir, BallastBytes: -1}))
	mustClose(t, mustOpen(t, Options{Dir: dir, BallastBytes: -1}))
}

func TestCorruptIdentity(t *testing.T) {
	for name, val := range map[string][]byte{
		"checksum":                       append(Identity{ClusterID: "c", NodeID: 1}.encode(), 1, 2, 3, 4),
		"short":                          {1, 2, 3},
		"sealed, but of node 0":          sealNode(nodeIdentity, Identity{ClusterID: "c"}.encode()),
		"sealed, but of another cluster": sealNode(nodeIdentity, Identity{ClusterID: "c", NodeID: 1}.encode()),
	} {
		mem := vfs.NewMem()
		s := mustOpen(t, memOptions(mem))
		if err := s.db.Set(appendNodeKey(nil, nodeIdentity), val, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
		if _, err := Open(memOptions(mem)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mem := vfs.NewMem()
	s := mustOpen(t, memOptions(mem))
	if err := s.db.Delete(appendNodeKey(nil, nodeIdentity), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	if _, err := Open(memOptions(mem)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "no identity") {
		t.Error(err)
	}
}

func TestOpenTwice(t *testing.T) {
	mem := vfs.NewMem()
	s := mustOpen(t, memOptions(mem))
	if _, err := Open(memOptions(mem)); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "/data/atlas") {
		t.Fatal(err)
	}
	mustClose(t, s)
	mustClose(t, mustOpen(t, memOptions(mem)))
}

const lockHelperEnv = "ATLAS_TEST_LOCK_DIR"

// TestLockHelper is the other process of TestTwoProcesses.
// TestOpenTwiceByTwoNames opens a directory that has two names in this process, as a link or a second mount gives it: the locks of the
// system are the process's, so that both stores would write to it.
func TestOpenTwiceByTwoNames(t *testing.T) {
	dir, name := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, name); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := mustOpen(t, Options{Dir: dir})
		if twice, err := Open(Options{Dir: name}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), name) {
			if err == nil {
				mustClose(t, twice)
			}
			t.Errorf("opened by another name: %v", err)
		}
		other := mustOpen(t, Options{Dir: t.TempDir()})
		mustClose(t, s)
		mustClose(t, other)
		mustClose(t, mustOpen(t, Options{Dir: name}))
	}
}

func TestLockHelper(t *testing.T) {
	dir := os.Getenv(lockHelperEnv)
	if dir == "" {
		t.Skip("runs in a process of its own")
	}
	_, err := Open(Options{Dir: dir, BallastBytes: -1})
	fmt.Println("opened:", err)
}

func TestTwoProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "atlas")
	s := mustOpen(t, Options{Dir: dir, BallastBytes: -1})
	defer mustClose(t, s)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestLockHelper$", "-test.v")
	cmd.Env = append(os.Environ(), lockHelperEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text := string(out); !strings.Contains(text, ErrLocked.Error()) || !strings.Contains(text, dir) || !strings.Contains(text, "another process holds it") {
		t.Fatal(text)
	}
	put(t, s, "g", ".a", 1, Version{Value: []byte("x")})
}

func TestReadOnlyDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root may write anywhere: the file system says no instead.
		mem := vfs.NewMem()
		if _, err := Open(memOptions(readOnlyFS{mem})); !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), "/data") {
			t.Fatal(err)
		}
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir + "/atlas"}); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
}

type readOnlyFS struct{ vfs.FS }

func (readOnlyFS) MkdirAll(string, os.FileMode) error {
	return &os.PathError{Op: "mkdir", Path: "/data", Err: syscall.EROFS}
}

func TestOpenReadOnly(t *testing.T) {
	mem := vfs.NewMem()
	s := mustOpen(t, memOptions(mem))
	put(t, s, "g", ".a", 1, Version{Value: []byte("x")})
	mustClose(t, s)
	o := memOptions(mem)
	o.ReadOnly = true
	s = mustOpen(t, o)
	v, ok, err := s.GetAt("g", []byte(".a"), newest)
	if err != nil || !ok || string(v.Version().Value) != "x" || s.Identity().Starts != 1 {
		t.Fatal(v.Version(), ok, err, s.Identity())
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	b := s.NewBatch()
	b.SetState("g", "n", nil)
	if err := b.Commit(true); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
	b.Close()
	mustClose(t, s)
}

func TestUseAfterClose(t *testing.T) {
	s := mustOpen(t, memOptions(vfs.NewMem()))
	put(t, s, "g", ".a", 1, Version{Value: []byte("x")})
	snap := s.NewSnapshot()
	o := s.opts
	if err := snap.Close(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	b := s.NewBatch()
	b.SetState("g", "n", nil)
	if err := b.Commit(true); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	b.Close()
	if _, _, err := s.GetAt("g", []byte(".a"), newest); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, _, err := s.NewSnapshot().Record("g"); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := s.NewScan(ScanOptions{Group: "g"}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	mustClose(t, s) // twice is allowed
	if o.Dir != "/data/atlas" {
		t.Fatal(o.Dir)
	}
}

func TestOptionsReportAllProblems(t *testing.T) {
	o := Options{CacheBytes: 1, MemTableBytes: 1, CompactionWorkers: 100, OpenFiles: 1, ClusterID: "a b"}
	o.EnsureDefaults()
	err := o.Validate()
	for _, want := range []string{"Dir", "CacheBytes", "MemTableBytes", "CompactionWorkers", "OpenFiles", "ClusterID"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// TestClusterIDBounds holds CheckClusterID and the options to one rule, at its limits and one past them. What configures a node
// calls CheckClusterID: it once had a rule of its own, and said yes to ids with which no start succeeded.
func TestClusterIDBounds(t *testing.T) {
	for _, c := range []struct{ id, want string }{
		{"a", ""},
		{"-", ""},
		{"09-azAZ", ""},
		{newClusterID(), ""},
		{strings.Repeat("x", ClusterIDLenMax), ""},
		{strings.Repeat("x", ClusterIDLenMax+1), "length 65 exceeds limit 64"},
		{"", "is empty"},
		{"my_cluster", `"my_cluster" holds more than letters, digits and dashes`},
		{"a.b", "holds more than"},
		{"a b", "holds more than"},
		{"é", "holds more than"},
		{"a\n", "holds more than"},
		{"{env.A}", "holds more than"},
	} {
		if err := CheckClusterID(c.id); (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.id, err, c.want)
		}
		o := Options{Dir: "x", ClusterID: c.id}
		o.EnsureDefaults()
		if err := o.Validate(); c.id != "" && (err == nil) != (c.want == "") {
			t.Errorf("options with %q: %v, want %q", c.id, err, c.want)
		}
	}
}

func TestMarkerRoundTrip(t *testing.T) {
	for _, m := range []marker{{1, false, "a"}, {Format, true, newClusterID()}} {
		got, err := decodeMarker(m.encode())
		if err != nil || got != m {
			t.Fatal(got, err)
		}
	}
}

func FuzzDecoders(f *testing.F) {
	f.Add([]byte{recordMark, 0}, uint64(1))
	f.Add(marker{1, true, "a"}.encode(), uint64(2))
	f.Add(appendExpiryKey(nil, 3, "g", []byte(".a"), 4), uint64(3))
	f.Add(appendDataKey(nil, "g", []byte(".a"), 4), uint64(3))
	f.Add(claim{1, 2, 3}.encode(), uint64(3))
	f.Add(Identity{ClusterID: "a", NodeID: 1}.encode(), uint64(3))
	for _, v := range []Version{{Value: []byte("x")}, {Deleted: true}, {Deleted: true, Expired: true}, {WormUntil: 1, Expires: 2}, {chunked: true, Size: InlineLenMax + 1}} {
		b := make([]byte, versionHeaderLen(&v)+len(v.Value))
		putVersion(b, &v, carried{})
		f.Add(b, uint64(9))
	}
	for _, c := range []carried{{stamp: []byte("stamp"), nth: 1}, {nth: CarriedMax}} {
		v := Version{Value: []byte("x"), Expires: 2}
		b := make([]byte, versionHeaderLen(&v)+c.len()+len(v.Value))
		putVersion(b, &v, c)
		f.Add(b, uint64(9))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint64) {
		if v, err := decodeVersion(b, at); err == nil {
			var c carried
			if v.carries != 0 {
				c, _, _ = openCarried(b[v.carries:])
			}
			again := make([]byte, versionHeaderLen(&v)+c.len()+len(v.Value))
			putVersion(again, &v, c)
			w, err := decodeVersion(again, at)
			if err != nil || fmt.Sprint(w) != fmt.Sprint(v) {
				t.Fatalf("%+v became %+v, %v", v, w, err)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if m, err := decodeMarker(b); err == nil && m.format <= Format && string(m.encode()) != string(b) {
			t.Fatalf("marker %+v is not its own encoding", m)
		}
		if id, err := decodeIdentity(b); err == nil && string(id.encode()) != string(b) {
			t.Fatalf("identity %+v is not its own encoding", id)
		}
		if c := decodeClaim(b); c != (claim{}) && string(c.encode()) != string(b[:proofSlotLen]) {
			t.Fatalf("claim %+v is not its own encoding", c)
		}
		if e, g, r, at, err := splitExpiryKey(b); err == nil && string(appendExpiryKey(nil, e, string(g), r, at)) != string(b) {
			t.Fatalf("TTL key %x is not its own encoding", b)
		}
		if g, at, seq, err := splitTimedKey(b, kindChange); err == nil && string(appendChangeKey(nil, string(g), at, seq)) != string(b) {
			t.Fatalf("change key %x is not its own encoding", b)
		}
		if rest, at, err := splitDataKey(b, 3); err == nil && (len(b) < 3 || string(appendVersion(append(append(b[:3:3], rest...), 0), at)) != string(b)) {
			t.Fatalf("data key %x is not its own encoding", b)
		}
		var record changeRecord
		if record.open(1, 1, b) == nil {
			for ok := true; ok; {
				_, ok, _ = record.change()
			}
		}
		_, _ = chunkPart(b)
		_, _ = openNode("x", b)
		_, _, _ = cutGroup(b, kindRecord)
		_, _ = entrySlot(b, 12)
	})
}

func TestKeysSortAsTheirParts(t *testing.T) {
	// The slow twin: tuples compared part by part.
	less := func(a, b [3]string) int {
		for i := range a {
			if c := strings.Compare(a[i], b[i]); c != 0 {
				return c
			}
		}
		return 0
	}
	var tuples [][3]string
	for _, g := range []string{"a", "a!", "aa", "b"} {
		for _, r := range testRests {
			for _, at := range []uint64{1, 2, 1 << 40} {
				// Versions sort from the newest to the oldest.
				tuples = append(tuples, [3]string{g, r, string(binary.BigEndian.AppendUint64(nil, ^at))})
			}
		}
	}
	key := func(x [3]string) []byte {
		return appendDataKey(nil, x[0], []byte(x[1]), ^binary.BigEndian.Uint64([]byte(x[2])))
	}
	cmp := pebbleOptions(&Options{}, nil, newHealth(nil), nil).Comparer.Compare
	for _, a := range tuples {
		for _, b := range tuples {
			if got, want := cmp(key(a), key(b)), less(a, b); got != want {
				t.Fatalf("%q and %q: %d, want %d", a, b, got, want)
			}
		}
	}
}
