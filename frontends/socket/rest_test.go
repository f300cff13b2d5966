// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"io"
	"net"
	"os"
	"runtime/debug"
	gometrics "runtime/metrics"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deep takes so many kilobytes of stack.
//
//go:noinline
func deep(kilobytes int) byte {
	var page [1 << 10]byte
	if kilobytes > 0 {
		page[kilobytes] = deep(kilobytes - 1)
	}
	return page[kilobytes/2]
}

func stackBytes() int {
	s := []gometrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	gometrics.Read(s)
	return int(s[0].Value.Uint64())
}

// A connection that has run something deep and is idle gives the stack back, without a collection of garbage: it costs what one
// that was never used costs. G25.
func TestIdleConnectionsGiveStacksBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	f := newFake()
	f.hook = func(_ context.Context, op string, _ []byte) error {
		if op == "get" {
			deep(40)
		}
		return nil
	}
	s := start(t, f, Options{})
	const many, grown = 100, 64 << 10
	conns := make([]*client, many)
	for i := range conns {
		conns[i] = dial(t, s)
	}
	fresh := stackBytes()
	for range 2 {
		for _, c := range conns {
			c.send("KEY GET a.b\r\n")
			c.want("NOT_FOUND")
			c.want("OK")
		}
		eventually(t, "stacks as before", func() bool { return stackBytes() < fresh+many*grown/4 })
	}
}

// The janitor lets a connection rest that has run something and nothing since, for long enough, and lets it alone from then on.
func TestWhoRests(t *testing.T) {
	nc := new(deadlines)
	c := &conn{nc: nc}
	now := time.Unix(1_000_000, 0)
	tire := func(after time.Duration, want int, what string) {
		t.Helper()
		now = now.Add(after)
		if c.tire(now, time.Second); nc.set != want {
			t.Fatalf("%s: woken %d times, want %d", what, nc.set, want)
		}
	}
	c.use()
	tire(0, 0, "no raw connection")
	tire(time.Hour, 0, "no raw connection, later")
	c.rd.raw = struct{ syscall.RawConn }{}
	tire(0, 0, "used just now")
	tire(time.Second-1, 0, "not idle for a second yet")
	c.use()
	tire(1, 0, "used again")
	tire(time.Second, 1, "idle for a second")
	tire(time.Hour, 1, "resting")
	c.use()
	tire(0, 1, "used after its rest")
	tire(time.Second, 2, "idle once more")
}

// deadlines counts those that are set. It gives the outcomes of reads, one after the other.
type deadlines struct {
	net.Conn
	set   int
	onSet func()
	reads []error
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.set++
	if d.onSet != nil {
		d.onSet()
	}
	return nil
}

func (d *deadlines) CloseWrite() error { return nil }

func (d *deadlines) Read([]byte) (int, error) {
	err := d.reads[0]
	d.reads = d.reads[1:]
	return 0, err
}

// The janitor's look has a connection rest, and what it did is still there behind its rest: who it is, its transaction, its watch.
func TestRestsAndGoesOn(t *testing.T) {
	s := startCalm(t, openEngine(t), Options{})
	c := dial(t, s)
	c.ask("PRINCIPAL ASSUME alice", "OK")
	c.ask("KEY PUT t.a 1", "OK")
	c.send("[ID:w] WATCH t\r\n")
	c.ask("BEGIN", "OK")
	c.ask("KEY PUT t.b 2", "OK")
	sc := s.snapshot(nil)[0]
	now := time.Now()
	eventually(t, "a rest", func() bool { // again where the goroutine was about to note that it ran something
		sc.checkTime(now)
		sc.checkTime(now.Add(restAfter))
		return sc.used.Load() == usedNot
	})
	c.ask("PRINCIPAL WHOAMI", "PRINCIPAL alice", "OK")
	c.ask("KEY GET t.b", "VALUE:2", "OK")
	c.send("COMMIT\r\n")
	lines := []string{c.line(), c.line(), c.line()}
	if slices.Sort(lines); lines[0] != "OK" || !strings.HasPrefix(lines[1], "VERSION:") || !strings.HasPrefix(lines[2], "[ID:w] EVENT PUT ") {
		t.Fatalf("%q", lines)
	}
}

// Woken in the middle of a frame, at each of its places, a connection goes on with it.
func TestWokenInAFrame(t *testing.T) {
	long := strings.Repeat("v", 100_000)
	for name, x := range map[string]struct{ parts, want []string }{
		"line":          {[]string{"KEY GET", " a.b\r", "\n"}, []string{"NOT_FOUND", "OK"}},
		"payload":       {[]string{"KEY BLOB SET a.x 4\r\n", "QU", "IT"}, []string{"OK"}},
		"large payload": {[]string{"KEY BLOB SET a.x 100000\r\n", long[:50_000], long[50_000:]}, []string{"OK"}},
		"long line":     {[]string{"KEY PUT a.x " + long[:50_000], long[50_000:], "\r\n"}, []string{"OK"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startCalm(t, newFake(), Options{})
			c := dial(t, s)
			sc := s.snapshot(nil)[0]
			for _, part := range x.parts[:len(x.parts)-1] {
				c.send(part)
				eventually(t, "waiting in the frame", func() bool { return sc.rd.since.Load() != 0 })
				sc.use()
				sc.tire(time.Now(), 0)
				sc.tire(time.Now().Add(time.Second), 0)
			}
			c.send(x.parts[len(x.parts)-1])
			c.want(x.want...)
			c.ask("KEY GET a.none", "NOT_FOUND", "OK")
		})
	}
}

// Who is asked to end while it takes the deadline off ends, and does not wait for a client for ever.
func TestEndsInsteadOfResting(t *testing.T) {
	nc := new(deadlines)
	c := &conn{nc: nc}
	if !c.woken() {
		t.Error("ends though nobody asked it to")
	}
	nc.onSet = func() { c.ending.Store(endIdle) }
	if c.woken() {
		t.Error("rests though it is to end")
	}
}

// A connection that is being closed waits for its client's last bytes as long as always, also where it was woken to rest meanwhile.
func TestLingersThoughTired(t *testing.T) {
	nc := &deadlines{reads: []error{nil, os.ErrDeadlineExceeded, nil, os.ErrDeadlineExceeded, io.EOF}}
	c := &conn{nc: nc, srv: &Server{bufs: buffers{size: bufferSize}}}
	if c.linger(); len(nc.reads) != 0 {
		t.Errorf("%d reads are left", len(nc.reads))
	}
}

// Garbage is collected once a thousand goroutines have ended since the last time, and none more do.
func TestReclaimIsDue(t *testing.T) {
	var r reclaim
	for i, look := range []struct {
		ended, cycles uint64
		want          bool
	}{
		{0, 0, false},
		{reclaimAfter - 1, 0, false},
		{reclaimAfter - 1, 0, false}, // one too few
		{reclaimAfter, 0, false},
		{reclaimAfter, 0, true}, // when it is quiet
		{reclaimAfter, 1, false},
		{reclaimAfter, 1, false}, // once
		{3 * reclaimAfter, 1, false},
		{4 * reclaimAfter, 1, false},
		{4 * reclaimAfter, 1, true},
		{4 * reclaimAfter, 2, false},
		{6 * reclaimAfter, 2, false},
		{6 * reclaimAfter, 3, false}, // another collection came first
		{7*reclaimAfter - 1, 3, false},
		{7*reclaimAfter - 1, 3, false},
		{7 * reclaimAfter, 3, false},
		{7 * reclaimAfter, 3, true},
	} {
		if got := r.due(look.ended, look.cycles); got != look.want {
			t.Errorf("look %d, %+v: got %v", i, look, got)
		}
	}
}

// A thousand connections that come and go leave nothing that waits for the next collection.
func TestConnectionsThatEndAreReclaimed(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // none comes by itself
	s := start(t, newFake(), Options{})
	var r reclaim
	before := r.collections()
	for range reclaimAfter {
		c := dial(t, s)
		if err := c.nc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a collection", func() bool { return r.collections() > before })
}
