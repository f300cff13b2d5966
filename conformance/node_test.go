// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/frontends/socket"
)

// node is an engine and its socket in the test's own process.
type node struct {
	engine *engine.Engine
	server *socket.Server
	path   string
	served chan error
}

// nodeOptions are what tests vary.
type nodeOptions struct {
	dir      string
	fs       vfs.FS // nil is the disk
	logger   *slog.Logger
	listener net.Listener // nil listens on a Unix socket
}

// openNode starts a node; the caller closes it.
func openNode(ctx context.Context, o nodeOptions, socketPath string) (*node, error) {
	e, err := engine.Open(ctx, engine.Options{Dir: o.dir, FS: o.fs, Logger: o.logger, CacheBytes: 4 << 20})
	if err != nil {
		return nil, err
	}
	n := &node{engine: e, path: socketPath, served: make(chan error, 1)}
	n.server, err = socket.New(e, socket.Options{Path: socketPath, Listener: o.listener, Logger: o.logger})
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if err := n.server.Listen(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	go func() { n.served <- n.server.Serve(ctx) }() // owner: close waits for it
	return n, nil
}

// close stops a node and waits for all of it.
func (n *node) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := n.server.Shutdown(ctx)
	return errors.Join(err, <-n.served, n.engine.Close())
}

// cut stops a node without letting any client finish, and waits for all of it.
func (n *node) cut() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := n.server.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return errors.Join(err, <-n.served, n.engine.Close())
	}
	return errors.Join(<-n.served, n.engine.Close())
}

// startNode is a node for the length of a test.
func startNode(t *testing.T, o nodeOptions) *node {
	t.Helper()
	if o.dir == "" {
		o.dir = filepath.Join(t.TempDir(), "data")
	}
	n, err := openNode(t.Context(), o, filepath.Join(socketDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(); err != nil {
			t.Errorf("close the node: %v", err)
		}
	})
	return n
}

// socketDir is a directory whose path is short enough for the name of a Unix socket.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "atlas")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// build makes the binary once for all tests of the process. The directory is removed by TestMain.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "atlas-bin")
	if err != nil {
		return "", err
	}
	built = dir
	bin := filepath.Join(dir, "atlasdb")
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, "../caddy/cmd/atlasdb") // as the Makefile builds it, from one cache
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary: %w\n%s", err, out)
	}
	return bin, nil
})

// built is where the binary was built; empty when no test wanted it.
var built string

// process is the real binary, run from a Caddyfile.
type process struct {
	cmd    *exec.Cmd
	socket string
	log    *lockedBuffer
	done   chan struct{}
}

// startProcess runs the binary on a data directory until it answers on its socket: as a site with TLS on a port of the
// loopback, or as a node without HTTP when the port is 0. Requires: nothing else runs there; what a killed one left at the
// socket's path may be there.
func startProcess(t *testing.T, dir, socketPath string, port int) *process {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{socket: socketPath, log: &lockedBuffer{}, done: make(chan struct{})}
	config := filepath.Join(t.TempDir(), "Caddyfile")
	block := fmt.Sprintf(`atlas {
	advertise localhost:4444
	region local
	credentials mySecret
	db_path %s
	socket %s
}
`, dir, p.socket)
	text := "{\nadmin off\nauto_https disable_redirects\nskip_install_trust\n}\n" +
		fmt.Sprintf("https://localhost:%d {\nbind 127.0.0.1\n%stls internal\n}\n", port, block)
	if port == 0 {
		text = "{\nadmin off\n" + block + "}\n"
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(bin, "run", "--config", config, "--adapter", "caddyfile")
	p.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// owner: kill and the test's cleanup wait for it.
	go func() {
		_ = p.cmd.Wait() // it ends by our signal, or the test sees that it does not answer
		close(p.done)
	}()
	t.Cleanup(func() { p.kill(t) })
	p.await(t)
	return p
}

// await polls until the socket answers.
func (p *process) await(t *testing.T) {
	t.Helper()
	e := &env{network: "unix", address: p.socket}
	deadline := time.Now().Add(patience)
	for {
		c, err := e.session(t.Context())
		if err == nil {
			if err := c.close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		select {
		case <-p.done:
			t.Fatalf("the node ended:\n%s", p.log.tail())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node does not answer: %v\n%s", err, p.log.tail())
		}
		time.Sleep(10 * time.Millisecond) // sleep: the pause between two polls
	}
}

// stop asks the process to end and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	select {
	case <-p.done:
	case <-time.After(2 * patience):
		t.Errorf("the node does not stop:\n%s", p.log.tail())
	}
}

// kill ends the process without warning and waits for it.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	<-p.done
}

// freePort asks the kernel for a port that nobody has.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// lockedBuffer gathers a process's output.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) tail() string {
	s := l.String()
	return s[max(0, len(s)-4000):]
}
