// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// stale leaves a socket at path that nobody listens on, as a killed process does.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func listenAt(t *testing.T, o Options) (*Server, error) {
	t.Helper()
	s, err := newServer(newFake(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, s.Listen()
}

// What stands at the path and is not our own stale socket stays, and is named.
func TestSocketPathTaken(t *testing.T) {
	dir := socketDir(t)
	target := filepath.Join(dir, "target")
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"file":      {func(p string) error { return os.WriteFile(p, []byte("precious"), 0o600) }, "is taken by a file"},
		"empty":     {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "is taken by a file"},
		"directory": {func(p string) error { return os.Mkdir(p, 0o700) }, "is taken by a directory"},
		"fifo":      {func(p string) error { return syscall.Mkfifo(p, 0o600) }, "is taken by a special file"},
		"dangling":  {func(p string) error { return os.Symlink(filepath.Join(dir, "nowhere"), p) }, "is taken by a symbolic link"},
		"to stale": {func(p string) error {
			stale(t, target)
			return os.Symlink(target, p)
		}, "is taken by a symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", ""))
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := listenAt(t, Options{Path: path}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that says %q", err, c.want)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) {
				t.Errorf("it did not stay: %v", err)
			}
		})
	}
}

func TestSocketPathLive(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	s := start(t, newFake(), Options{Path: path})
	if _, err := listenAt(t, Options{Path: path}); err == nil || !strings.Contains(err.Error(), "is in use by a running process") {
		t.Errorf("got error %v", err)
	}
	if got := dial(t, s).do("NODE PING 1"); got != "PONG node=1 rtt_ms=0\nOK\n" {
		t.Errorf("the first server answers %q", got)
	}
}

// Another user's stale socket is not removed. Needs root, to make one.
func TestSocketPathForeign(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := filepath.Join(socketDir(t), "s")
	stale(t, path)
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := listenAt(t, Options{Path: path}); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("got error %v", err)
	}
}

// A stale socket is replaced, and the socket goes with its server, unless another has taken its place.
func TestSocketLifecycle(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	stale(t, path)
	s, err := listenAt(t, Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Errorf("listening twice: %v", err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after shutdown: %v", err)
	}
	if err := s.Listen(); !errors.Is(err, ErrStopped) {
		t.Errorf("listening after shutdown: %v", err)
	}

	s, err = listenAt(t, Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("another's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "another's" {
		t.Errorf("what took the place is %q, %v", b, err)
	}
}

// Of many servers that start on one stale socket at once, one gets it and the others are told.
func TestSocketRace(t *testing.T) {
	for range 20 {
		path := filepath.Join(socketDir(t), "s")
		stale(t, path)
		var wg sync.WaitGroup
		won := make(chan *Server, 8)
		for range cap(won) {
			s, err := newServer(newFake(), Options{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				if err := s.Listen(); err == nil {
					won <- s
				} else if !strings.Contains(err.Error(), "is in use by a running process") {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d servers listen", len(won))
		}
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(nc.Close(), (<-won).Shutdown(context.Background())); err != nil {
			t.Fatal(err)
		}
	}
}

// Modes are as asked whatever the umask, for the socket and for directories that were made for it.
func TestSocketModes(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		for _, mode := range []fs.FileMode{0, 0o600, 0o660, 0o666, 0o777} {
			dir := socketDir(t)
			path := filepath.Join(dir, "made", "deeper", "s")
			old := syscall.Umask(umask)
			_, err := listenAt(t, Options{Path: path, Mode: mode})
			syscall.Umask(old)
			if err != nil {
				t.Fatalf("umask %#o, mode %#o: %v", umask, mode, err)
			}
			if mode == 0 {
				mode = 0o600
			}
			for at, want := range map[string]fs.FileMode{
				path: fs.ModeSocket | mode, filepath.Dir(path): fs.ModeDir | 0o700, filepath.Join(dir, "made"): fs.ModeDir | 0o700,
			} {
				info, err := os.Lstat(at)
				if err != nil || info.Mode() != want {
					t.Errorf("umask %#o, mode %#o: %s has mode %v, %v; want %v", umask, mode, at, info.Mode(), err, want)
				}
			}
		}
	}
	// An existing directory keeps its mode.
	dir := socketDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := listenAt(t, Options{Path: filepath.Join(dir, "s")}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("directory has mode %v, %v", info.Mode(), err)
	}
}

func TestSocketPaths(t *testing.T) {
	dir := socketDir(t)
	long := func(n int) string { return filepath.Join(dir, strings.Repeat("p", n-len(dir)-1)) }
	for path, want := range map[string]string{
		long(107):         "",
		long(108):         "exceeds the limit of 107",
		long(4000):        "exceeds the limit of 107",
		dir + "/a\x00b":   "holds a NUL byte",
		"@abstract":       "begins with @",
		dir + "/x/../y/s": "",
	} {
		s, err := listenAt(t, Options{Path: path})
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("path of %d bytes: error %v, want %q", len(path), err, want)
		case want == "" && s.Addr().String() != filepath.Clean(path):
			t.Errorf("listens on %s", s.Addr())
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenAt(t, Options{Path: filepath.Join(dir, "file", "s")}); err == nil {
		t.Error("listens below a file")
	}
	t.Chdir(dir)
	s, err := listenAt(t, Options{Path: "relative"})
	if err != nil || !filepath.IsAbs(s.Addr().String()) {
		t.Errorf("relative path: %v, %v", s.Addr(), err)
	}
}

// Who connects over a Unix socket is known to be who he is.
func TestPeerCredentials(t *testing.T) {
	s := start(t, newFake(), Options{})
	dial(t, s)
	for _, c := range s.snapshot(nil) {
		if !c.peer.known || int(c.peer.uid) != os.Getuid() || !c.peer.trusted() {
			t.Errorf("peer %+v", c.peer)
		}
	}
	for _, c := range []struct {
		p    peerCredentials
		want bool
	}{
		{peerCredentials{}, false},
		{peerCredentials{known: false, uid: uint32(os.Geteuid())}, false},
		{peerCredentials{known: true, uid: 0}, true},
		{peerCredentials{known: true, uid: uint32(os.Geteuid())}, true},
		{peerCredentials{known: true, uid: 54321}, false},
		{peerCredentials{known: true, uid: 1<<32 - 1}, false},
	} {
		if got := c.p.trusted(); got != c.want {
			t.Errorf("%+v is trusted: %v", c.p, got)
		}
	}
}
