// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come: far longer than it ever takes.
const patience = 30 * time.Second

// eventually polls a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(time.Millisecond) // sleep: polling with a deadline
	}
}

// socketDir is a short directory: a Unix socket's path has at most 107 bytes.
func socketDir(t testing.TB) string {
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

// start serves a backend until the test ends, and checks that nothing is left then. Connections have no peace meanwhile, but in benchmarks.
func start(t testing.TB, b backend, o Options) *Server {
	t.Helper()
	s, served := serve(t, b, o)
	end := func() {}
	if _, ok := t.(*testing.T); ok {
		end = tireless(s)
	}
	t.Cleanup(func() { defer end(); stop(t, b, s, served) })
	return s
}

// startCalm is start where a test has connections rest by itself.
func startCalm(t testing.TB, b backend, o Options) *Server {
	t.Helper()
	s, served := serve(t, b, o)
	t.Cleanup(func() { stop(t, b, s, served) })
	return s
}

func serve(t testing.TB, b backend, o Options) (*Server, <-chan error) {
	t.Helper()
	if o.Path == "" && o.Listener == nil {
		o.Path = filepath.Join(socketDir(t), "socket")
	}
	s, err := newServer(b, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }() // owner: stop
	return s, served
}

func stop(t testing.TB, b backend, s *Server, served <-chan error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if n := s.budget.used.Load(); n != 0 {
		t.Errorf("%d bytes of the budget are still taken", n)
	}
	if f, ok := b.(*fake); ok && f.sessions() != 0 {
		t.Errorf("%d sessions are still open", f.sessions())
	}
}

// tireless has connections rest as often as can be, so that every test tries what it does with that, too. It returns what ends it.
func tireless(s *Server) (end func()) {
	var running sync.WaitGroup
	done := make(chan struct{})
	running.Go(func() {
		tick := time.NewTicker(100 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for _, c := range s.snapshot(nil) {
				c.tire(time.Now(), 0)
			}
		}
	})
	return func() { close(done); running.Wait() }
}

// client is a test's side of a connection.
type client struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func dialRaw(t testing.TB, s *Server) *client {
	t.Helper()
	a := s.Addr()
	nc, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, nc)
}

func wrap(t testing.TB, nc net.Conn) *client {
	c := &client{t: t, nc: nc, r: bufio.NewReaderSize(nc, 64<<10)}
	t.Cleanup(func() { _ = nc.Close() })
	return c
}

// dial connects and shakes hands.
func dial(t testing.TB, s *Server) *client {
	t.Helper()
	c := dialRaw(t, s)
	c.greet()
	return c
}

func (c *client) greet() {
	c.t.Helper()
	c.want("WELCOME 1.0 Chronalys/1.0")
	c.send("HELLO 1.0 clientId=test\r\n")
	c.want("READY")
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// line reads one line; it must end in CR LF.
func (c *client) line() string {
	c.t.Helper()
	line, err := c.tryLine()
	if err != nil {
		c.t.Fatalf("read a line: %v (got %q)", err, line)
	}
	if saysTwice.MatchString(line) {
		c.t.Errorf("the line says the word of its class twice: %s", line)
	}
	return line
}

// saysTwice matches an error line whose text begins with the word that stands before it.
var saysTwice = regexp.MustCompile(`ERROR (WARN|FATAL) (invalid: invalid|denied: denied|not_found: not[ _]found|conflict: conflict|` +
	`unavailable: unavailable|unknown: unknown|too_large: too|corrupt: corrupt)\b`)

func (c *client) tryLine() (string, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return line, err
	}
	if !strings.HasSuffix(line, "\r\n") {
		return line, errors.New("line does not end in CR LF")
	}
	return line[:len(line)-2], nil
}

func (c *client) want(lines ...string) {
	c.t.Helper()
	for _, want := range lines {
		if got := c.line(); got != want {
			c.t.Fatalf("got line %q, want %q", got, want)
		}
	}
}

// ask sends a command and reads the lines of its answer.
func (c *client) ask(command string, lines ...string) {
	c.t.Helper()
	c.send(command + "\r\n")
	c.want(lines...)
}

// wantPrefix reads a line that begins so, and gives it.
func (c *client) wantPrefix(prefix string) string {
	c.t.Helper()
	got := c.line()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got line %q, want one that begins %q", got, prefix)
	}
	return got
}

func (c *client) wantBytes(want []byte) {
	c.t.Helper()
	got := make([]byte, len(want))
	if err := c.nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.ReadFull(c.r, got); err != nil {
		c.t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		c.t.Fatalf("got %d bytes that differ from those wanted", len(got))
	}
}

// wantClosed reads to the end, which must be there.
func (c *client) wantClosed() {
	c.t.Helper()
	line, err := c.tryLine()
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("connection is open: read %q, %v", line, err)
	}
}

// do sends a command and reads its answer, blobs shown as their bytes. It ends with OK or ERROR.
func (c *client) do(command string) string {
	c.t.Helper()
	c.send(command + "\r\n")
	return c.answer()
}

func (c *client) answer() string {
	c.t.Helper()
	var out strings.Builder
	for {
		line := c.line()
		out.WriteString(line + "\n")
		_, body := cutTag(line)
		if body == "OK" || strings.HasPrefix(body, "ERROR ") {
			return out.String()
		}
		if n, ok := strings.CutPrefix(body, "BLOB "); ok {
			out.WriteString(c.blob(n) + "\n")
		}
	}
}

func (c *client) blob(length string) string {
	c.t.Helper()
	n, err := strconv.Atoi(length)
	if err != nil {
		c.t.Fatalf("blob length %q", length)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		c.t.Fatalf("read blob: %v", err)
	}
	if n > 200 {
		return fmt.Sprintf("<%d bytes>", n)
	}
	return strconv.Quote(string(payload))
}

// cutTag takes the tag off a line.
func cutTag(line string) (tag, body string) {
	if strings.HasPrefix(line, "[ID:") {
		if i := strings.Index(line, "] "); i >= 0 {
			return line[4:i], line[i+2:]
		}
	}
	return "", line
}
