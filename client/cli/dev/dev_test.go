// SPDX-License-Identifier: AGPL-3.0-only

package dev

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/internal/fakenode"
)

// TestMain is also the node that Run starts: this binary with other arguments.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		os.Exit(childNode())
	}
	goleak.VerifyTestMain(m)
}

// childNode serves the socket that the configuration names, and does what a file in its directory tells it.
func childNode() int {
	config, err := os.ReadFile(os.Args[3])
	if err != nil || os.Args[2] != "--config" || os.Args[4] != "--adapter" || os.Args[5] != "caddyfile" {
		fmt.Fprintln(os.Stderr, "unexpected arguments", os.Args, err)
		return 3
	}
	orders, _ := os.ReadFile("orders")
	if string(orders) == "fail" {
		fmt.Fprintln(os.Stderr, "error: data directory is locked by another process")
		return 1
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if string(orders) != "hang" {
		path := regexp.MustCompile("\tsocket `(.*)`").FindStringSubmatch(string(config))[1]
		_ = os.Remove(path)
		l, err := net.Listen("unix", path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		n := &fakenode.Node{}
		if string(orders) == "die" {
			n.Hook = func(c *fakenode.Conn, _, _ string) (bool, error) {
				c.Raw("OK\r\n")
				os.Exit(7)
				return true, nil
			}
		}
		n.Put("sample.row", "from the child")
		n.Serve(l)
		defer n.Close()
	}
	<-stop
	if string(orders) == "stubborn" {
		<-stop
	}
	fmt.Fprintln(os.Stderr, "stopped")
	return 0
}

func run(t *testing.T, o Options, script string) (out, notes string, code int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Executable = exe
	var ob, eb bytes.Buffer
	code = Run(t.Context(), o, cli.Streams{In: strings.NewReader(script), Out: &ob, Err: &eb})
	return ob.String(), eb.String(), code
}

func TestStartsAndStops(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b", "data")
	for range 2 {
		out, notes, code := run(t, Options{DataDir: dir}, "KEY GET sample.row\n")
		if code != cli.ExitOK || out != "VALUE:from the child\nOK\n" || !strings.Contains(notes, "node on "+dir+", socket "+dir+"/socket, log "+dir+"/node.log") {
			t.Fatalf("exit %d, %q, %q", code, out, notes)
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "node.log"))
	if err != nil || string(log) != "stopped\n" {
		t.Errorf("log %q, %v", log, err)
	}
	for name, mode := range map[string]os.FileMode{".": 0o700, "dev.caddyfile": 0o600, "credentials": 0o600, "node.log": 0o600, "node.log.1": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if _, _, code := run(t, Options{DataDir: dir}, "NONSENSE\n"); code != cli.ExitError {
		t.Errorf("a script with an error: exit %d", code)
	}
}

func TestAttaches(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	n := &fakenode.Node{}
	n.Put("sample.row", "from the one that runs")
	n.Serve(l)
	defer n.Close()
	out, notes, code := run(t, Options{DataDir: dir}, "KEY GET sample.row\n")
	if code != cli.ExitOK || out != "VALUE:from the one that runs\nOK\n" || !strings.Contains(notes, "already") {
		t.Errorf("exit %d, %q, %q", code, out, notes)
	}
	if _, err := os.Stat(filepath.Join(dir, "dev.caddyfile")); err == nil {
		t.Error("a configuration was written")
	}
}

// Whose node ended was asked whether it runs, and not told where to look.
func TestNodeEnds(t *testing.T) {
	dir := t.TempDir()
	n := &fakenode.Node{Hook: func(_ *fakenode.Conn, _, line string) (bool, error) {
		return true, errors.New("cut")
	}}
	n.StartAt(t, filepath.Join(dir, "socket"))
	_, notes, code := run(t, Options{DataDir: dir}, "KEY GET sample.row\n")
	if want := "lost\n  if the node has ended, its log says why: " + dir + "/node.log; end this shell and start make run (atlas dev) again\n"; code != cli.ExitConnect || !strings.HasSuffix(notes, want) {
		t.Errorf("exit %d, got\n%swant\n%s", code, notes, want)
	}
}

// A node that had died under the shell was not spoken of when the shell ended, and the status was that of success.
func TestNodeDies(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "orders"), []byte("die"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, notes, code := run(t, Options{DataDir: dir}, "KEY GET sample.row\n")
	if want := "\nthe node did not end well: exit status 7; its log says why: " + dir + "/node.log\n"; code != cli.ExitConnect || out != "OK\n" || !strings.HasSuffix(notes, want) {
		t.Errorf("exit %d, %q, %q", code, out, notes)
	}
}

func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	order := func(what string) {
		if err := os.WriteFile(filepath.Join(dir, "orders"), []byte(what), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	order("fail")
	_, notes, code := run(t, Options{DataDir: dir}, "")
	if code != cli.ExitConnect || !strings.Contains(notes, "  | error: data directory is locked by another process\n  hint: another process uses "+dir+"/db") {
		t.Errorf("exit %d, %q", code, notes)
	}
	order("hang")
	_, notes, code = run(t, Options{DataDir: dir, StartTimeout: 300 * time.Millisecond}, "")
	if code != cli.ExitConnect || !strings.Contains(notes, "does not answer after 300ms") {
		t.Errorf("exit %d, %q", code, notes)
	}
	order("stubborn")
	_, notes, code = run(t, Options{DataDir: dir, StopTimeout: 300 * time.Millisecond}, "")
	if code != cli.ExitError || !strings.Contains(notes, "was killed") {
		t.Errorf("exit %d, %q", code, notes)
	}
	for _, o := range []Options{{}, {DataDir: dir + "/{x}"}, {DataDir: dir, Socket: "/tmp/" + strings.Repeat("x", 120)}} {
		if _, notes, code := run(t, o, ""); code != cli.ExitUsage || notes == "" {
			t.Errorf("%+v: exit %d", o, code)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "credentials"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, notes, code := run(t, Options{DataDir: dir}, ""); code != cli.ExitConnect || !strings.Contains(notes, "no usable secret") {
		t.Errorf("exit %d, %q", code, notes)
	}
}

// A directory whose socket path would be too long gets its socket elsewhere.
func TestLongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	out, notes, code := run(t, Options{DataDir: dir}, "KEY GET sample.row\n")
	if code != cli.ExitOK || out != "VALUE:from the child\nOK\n" {
		t.Errorf("exit %d, %q, %q", code, out, notes)
	}
	if i := strings.Index(notes, "socket "); i >= 0 {
		path, _, _ := strings.Cut(notes[i+len("socket "):], ",")
		private := filepath.Dir(path)
		if err := os.Chmod(private, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, notes, code := run(t, Options{DataDir: dir}, ""); code != cli.ExitUsage || !strings.Contains(notes, "not a directory of ours alone") {
			t.Errorf("exit %d, %q", code, notes)
		}
		if err := os.RemoveAll(private); err != nil || !strings.HasPrefix(path, os.TempDir()) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Of several words in a log that have a hint, the same one decides each time: the last in the list, which is the most particular.
func TestHints(t *testing.T) {
	p := &place{o: Options{}, log: filepath.Join(t.TempDir(), "log"), database: "DB", socket: "S"}
	for _, tt := range []struct{ log, want string }{
		{"nothing known", "look into " + p.log},
		{"data directory is read-only: mkdir: permission denied", "the directory or a file in it belongs to another user, or cannot be written to"},
		{"data directory is read-only: LOCK: read-only file system", "the directory or a file in it belongs to another user, or cannot be written to"},
		{"directory is not an Atlas data directory: it holds 1 other entries", "DB holds something else"},
		{"data directory belongs to another cluster: DB is of a", "the directory holds another cluster's data"},
		{`socket "S" is in use by a running process`, "another process listens on S"},
		{"stored data is corrupt: checksum", "DB is damaged: keep a copy before anything else"},
		{"open LOCK: permission denied; data directory is locked", "another process uses DB"},
		{"data directory is locked; unavailable: disk is full: no space left on device", "the disk is full"},
	} {
		if err := os.WriteFile(p.log, []byte(tt.log), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if got := p.failed("it failed").Error(); !strings.HasSuffix(got, "  hint: "+tt.want) {
				t.Fatalf("%q: %q", tt.log, got)
			}
		}
	}
}
