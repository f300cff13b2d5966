// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"net"
	"runtime/debug"
	gometrics "runtime/metrics"
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

// deadlines counts those that are set.
type deadlines struct {
	net.Conn
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error { d.set++; return nil }
