// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atlas-edge/atlas/engine"
)

// memListener hands out connections in memory, which synctest's clock governs.
type memListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newMemListener() *memListener {
	return &memListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (l *memListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// bubble runs a test with a server on a clock of its own.
func bubble(t *testing.T, o Options, test func(t *testing.T, f *fake, s *Server, dial func() *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newMemListener()
		o.Listener = l
		f := newFake()
		s, err := newServer(f, o)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(context.Background()) }() // owner: the cleanup below
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
		test(t, f, s, func() *client { return wrap(t, l.dial()) })
	})
}

// forever takes the deadline off reads; one who was cut has none.
func (c *client) forever() {
	c.t.Helper()
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		c.t.Fatal(err)
	}
}

// wantAfter reads lines until the server closes, and says how long that took.
func (c *client) wantAfter(begin time.Time, least, most time.Duration, lines ...string) {
	c.t.Helper()
	c.forever()
	for _, want := range lines {
		got, err := c.r.ReadString('\n')
		if err != nil || got != want+"\r\n" {
			c.t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	if got, err := c.r.ReadString('\n'); err == nil {
		c.t.Fatalf("got %q, want the end", got)
	}
	if took := time.Since(begin); took < least || took > most {
		c.t.Errorf("cut after %v, want %v to %v", took, least, most)
	}
}

// G26: a client that is slow in the handshake is cut, whether it says nothing or a byte now and then.
func TestSlowHandshake(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, _ *fake, _ *Server, dial func() *client) {
		mute, drip := dial(), dial()
		begin := time.Now()
		mute.want(welcome)
		drip.want(welcome)
		dripping(t, drip.nc, "HELLO 1.0 "+strings.Repeat("x", 100), 3*time.Second)
		mute.wantAfter(begin, 10*time.Second, 12*time.Second, "ERROR FATAL invalid handshake")
		drip.wantAfter(begin, 10*time.Second, 12*time.Second, "ERROR FATAL invalid handshake")
	})
}

// dripping sends a byte at a time, aside, until the connection's end.
func dripping(t *testing.T, nc net.Conn, text string, pause time.Duration) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range text {
			if _, err := nc.Write([]byte{text[i]}); err != nil {
				return
			}
			time.Sleep(pause) // sleep: the test is about slowness, on a clock of its own
		}
	})
	t.Cleanup(wg.Wait)
}

// One byte every ten seconds, in a line or in a payload, is cut after the frame's time; idling between frames is not.
func TestSlowFrame(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, _ *fake, _ *Server, dial func() *client) {
		for _, begin := range []string{"", "KEY BLOB SET a.b 100\r\n"} {
			c := dial()
			c.greet()
			time.Sleep(5 * time.Minute) // sleep: idle on the test's own clock
			start := time.Now()
			c.send(begin)
			dripping(t, c.nc, strings.Repeat("x", 100), 10*time.Second)
			c.wantAfter(start, 30*time.Second, 33*time.Second, "ERROR FATAL unavailable: command was not complete in time")
		}
		for _, begin := range []string{"KEY BLOB SET a.b 5\r\n", "KEY BLOB SET a.b 50000\r\n", "KEY BLOB SET a.b 5000000\r\n", "[ID:1] KEY BLOB SET a.b 5\r\n"} {
			c := dial()
			c.greet()
			c.send(begin)
			c.wantAfter(time.Now(), 30*time.Second, 32*time.Second, "ERROR FATAL unavailable: command was not complete in time")
		}
	})
}

// A large frame gets a second for each 64 KiB that has arrived.
func TestSlowLargeFrame(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, _ *Server, dial func() *client) {
		c := dial()
		c.greet()
		c.send("KEY BLOB SET a.b 12800000\r\n")
		for range 100 { // 125 KiB a second and a half
			time.Sleep(1500 * time.Millisecond) // sleep: the client is slow on the test's own clock
			c.send(strings.Repeat("x", 128_000))
		}
		c.want("OK")
	})
}

// An idle timeout cuts only who does nothing.
func TestIdleTimeout(t *testing.T) {
	bubble(t, Options{IdleTimeout: time.Minute}, func(t *testing.T, f *fake, _ *Server, dial func() *client) {
		f.hook = func(_ context.Context, op string, _ []byte) error {
			if op == "scan" {
				time.Sleep(5 * time.Minute) // sleep: a long command on the test's own clock
			}
			return nil
		}
		idle, busy, tagged, watching := dial(), dial(), dial(), dial()
		for _, c := range []*client{idle, busy, tagged, watching} {
			c.greet()
		}
		begin := time.Now()
		tagged.send("[ID:1] SCAN a\r\n")
		watching.send("[ID:1] WATCH a\r\n")
		busy.send("SCAN a\r\n")
		idle.wantAfter(begin, time.Minute, time.Minute+2*time.Second, "ERROR FATAL unavailable: connection was idle for too long")
		for _, c := range []*client{busy, tagged} {
			c.forever()
			for range 2 {
				if _, err := c.r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
		}
		if took := time.Since(begin); took < 5*time.Minute || took > 5*time.Minute+time.Second {
			t.Errorf("answers after %v", took)
		}
		begin = time.Now()
		tagged.wantAfter(begin, time.Minute, time.Minute+2*time.Second, "ERROR FATAL unavailable: connection was idle for too long")
		watching.send("UNWATCH 1\r\n")
		watching.want("[ID:1] OK", "OK")
	})
}

// G26: a client that never reads is cut after the write timeout, and its commands end; another is served meanwhile.
func TestClientNeverReads(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Server, dial func() *client) {
		f.rows["a.b"] = fakeRow{value: make([]byte, 1<<20), version: 1}
		c, other := dial(), dial()
		c.greet()
		other.greet()
		begin := time.Now()
		for i := range 3 {
			c.send("[ID:" + string(rune('a'+i)) + "] KEY BLOB GET a.b\r\n")
		}
		if got := other.do("NODE PING 1"); got != "PONG node=1 rtt_ms=0\nOK\n" {
			t.Fatalf("another client got %q", got)
		}
		c.forever()
		for len(s.snapshot(nil)) == 2 {
			time.Sleep(time.Second) // sleep: polling on the test's own clock
		}
		if took := time.Since(begin); took < time.Minute || took > time.Minute+3*time.Second {
			t.Errorf("cut after %v", took)
		}
		if n, err := io.Copy(io.Discard, c.nc); err != nil || n > 0 {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if got := other.do("NODE PING 1"); got != "PONG node=1 rtt_ms=0\nOK\n" {
			t.Fatalf("another client got %q", got)
		}
	})
}

// A client that reads slowly, but reads, is not cut.
func TestClientReadsSlowly(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, _ *Server, dial func() *client) {
		const size = 4 << 20
		f.rows["a.b"] = fakeRow{value: make([]byte, size), version: 1}
		c := dial()
		c.greet()
		c.send("KEY BLOB GET a.b\r\n")
		c.want("BLOB 4194304")
		c.forever()
		for got := 0; got < size; {
			time.Sleep(10 * time.Second) // sleep: the client is slow on the test's own clock
			n, err := io.ReadFull(c.r, make([]byte, min(64<<10, size-got)))
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		c.want("OK")
	})
}

// The same timeouts on a real socket, whose reads take another way.
func TestSlowOnASocket(t *testing.T) {
	s := start(t, newFake(), Options{
		HandshakeTimeout: 50 * time.Millisecond, FrameTimeout: 50 * time.Millisecond, WriteTimeout: 50 * time.Millisecond,
	})
	c := dialRaw(t, s)
	c.want(welcome, "ERROR FATAL invalid handshake")
	c.wantClosed()
	for _, begin := range []string{"KEY GE", "KEY BLOB SET a.b 5\r\n", "KEY BLOB SET a.b 50000\r\n", "KEY BLOB SET a.b 5\r\nabc", "KEY BLOB SET a.b 50000\r\nabc", "KEY BLOB SET a 5\r\nabc"} {
		c = dial(t, s)
		c.send(begin)
		if begin == "KEY BLOB SET a 5\r\nabc" {
			c.want(`ERROR WARN invalid: key "a" has no row: want table.row`) // before the payload
			c.send("d")
		}
		c.want("ERROR FATAL unavailable: command was not complete in time")
		c.wantClosed()
	}
	c = dial(t, s)
	c.send("KEY BLOB SET a.b 10000000\r\n")
	if err := c.repeat('x', 10_000_000); err != nil {
		t.Fatal(err)
	}
	c.want("OK")
	c.send("[ID:1] KEY BLOB GET a.b\r\n")
	eventually(t, "who does not read is cut", func() bool { return len(s.snapshot(nil)) == 0 })
	if _, err := io.Copy(io.Discard, c.nc); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

// Shutdown: who runs nothing is closed without a word, running commands finish and are answered, watches are told, a
// half-sent command is dropped, what was pipelined behind is not begun, and nobody new is let in.
func TestDrain(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Server, dial func() *client) {
		f.hook = func(_ context.Context, op string, _ []byte) error {
			if op == "put" {
				time.Sleep(3 * time.Second) // sleep: a long command on the test's own clock
			}
			return nil
		}
		idle, untagged, tagged, watching, half, early := dial(), dial(), dial(), dial(), dial(), dial()
		for _, c := range []*client{idle, untagged, tagged, watching, half} {
			c.greet()
		}
		early.want(welcome)
		untagged.send("KEY PUT d.a 1\r\nKEY PUT d.pipelined 2\r\n")
		tagged.send("[ID:1] KEY PUT d.b 1\r\n[ID:2] KEY PUT d.c 1\r\n")
		watching.send("[ID:w] WATCH x\r\n")
		half.send("KEY BLOB SET d.half 5\r\nab")
		synctest.Wait()
		begin := time.Now()
		down := make(chan error, 1)
		go func() { down <- s.Shutdown(t.Context()) }() // owner: joined below
		for _, c := range []*client{idle, early, half} {
			c.wantAfter(begin, 0, 0)
		}
		watching.wantAfter(begin, 0, 0, "[ID:w] ERROR WARN unavailable: the server is stopping")
		untagged.wantAfter(begin, 3*time.Second, 3*time.Second, "OK")
		answers := tagged.rest(t)
		if answers != "[ID:1] OK\r\n[ID:2] OK\r\n" && answers != "[ID:2] OK\r\n[ID:1] OK\r\n" {
			t.Errorf("tagged answers %q", answers)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		if _, ok := f.rows["d.pipelined"]; ok || len(f.rows) != 3 {
			t.Errorf("%d rows", len(f.rows))
		}
		if err := s.Serve(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("serve after shutdown: %v", err)
		}
	})
}

func (c *client) rest(t *testing.T) string {
	t.Helper()
	c.forever()
	b, err := io.ReadAll(c.r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What does not finish in time is cut at the deadline.
func TestDrainDeadline(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Server, dial func() *client) {
		f.hook = func(ctx context.Context, op string, _ []byte) error {
			if op == "put" {
				<-ctx.Done()
				return engine.Errorf(engine.ClassUnknown, "interrupted")
			}
			return nil
		}
		c := dial()
		c.greet()
		c.send("KEY PUT d.a 1\r\n")
		synctest.Wait()
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		if text := c.rest(t); strings.Contains(text, "OK") {
			t.Errorf("got %q", text)
		}
	})
}

// The end of Serve's context cuts everybody at once.
func TestServeContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemListener()
		s, err := newServer(newFake(), Options{Listener: l})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx) }() // owner: joined below
		c := wrap(t, l.dial())
		c.greet()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if text := c.rest(t); text != "" {
			t.Errorf("got %q", text)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// G19, G26: a watcher that never reads is cut after the write timeout; who writes what it watches notices nothing.
func TestWatcherNeverReads(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Server, dial func() *client) {
		watcher, writer := dial(), dial()
		watcher.greet()
		writer.greet()
		watcher.send("[ID:w] WATCH a\r\n")
		begin := time.Now()
		for i := range 20_000 {
			if got := writer.do("KEY PUT a.b x"); got != "OK\n" {
				t.Fatalf("write %d: %q", i, got)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the writer waited %v", took)
		}
		for _, c := range s.snapshot(nil) {
			c.out.mu.Lock()
			if c.out.fill > pendingMax+bufferSize {
				t.Errorf("%d bytes of events wait", c.out.fill)
			}
			c.out.mu.Unlock()
		}
		for len(s.snapshot(nil)) == 2 {
			time.Sleep(time.Second) // sleep: polling on the test's own clock
		}
		if took := time.Since(begin); took < time.Minute || took > time.Minute+3*time.Second {
			t.Errorf("cut after %v", took)
		}
		if got := writer.do("KEY PUT a.b x"); got != "OK\n" {
			t.Fatalf("got %q", got)
		}
	})
}
