// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/internal/invariants"
)

// long says whether the long runs were asked for.
func long() bool { return os.Getenv("ATLAS_LONG") != "" }

// repeat sends n times the byte c, without holding them.
func (c *client) repeat(b byte, n int) error {
	piece := bytes.Repeat([]byte{b}, min(n, 1<<20))
	for n > 0 {
		k, err := c.nc.Write(piece[:min(n, len(piece))])
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// G25, G26: a line of exactly the limit is a command, one byte more ends the connection, for the client and nobody else.
func TestLineLimit(t *testing.T) {
	s := start(t, newFake(), Options{})
	other := dial(t, s)
	const command = "KEY PUT l.a "
	ends, begins := []string{"\r\n"}, []string{"", "[ID:x] " + command}
	if long() {
		ends, begins = append(ends, "\n"), append(begins, command)
	}
	for _, eol := range ends {
		c := dial(t, s)
		c.send(command)
		if err := c.repeat('v', LineMax-len(command)); err != nil {
			t.Fatal(err)
		}
		c.send(eol)
		c.want("OK")
		c.send("KEY GET l.a\r\n")
		c.wantBytes([]byte("VALUE:"))
		c.discard(LineMax - len(command))
		c.want("", "OK")
	}
	for _, begin := range begins {
		c := dial(t, s)
		c.send(begin)
		sent := make(chan error, 1)
		go func() { // owner: joined below
			err := c.repeat('v', LineMax+1-len(begin))
			if err == nil {
				_, err = io.WriteString(c.nc, "\r\n")
			}
			sent <- err
		}()
		c.want("ERROR FATAL command exceeded maximum length")
		c.wantClosed()
		if err := c.nc.Close(); err != nil {
			t.Fatal(err)
		}
		<-sent // it may have failed
	}
	if got := other.do("COUNT l"); got != "COUNT:1\nOK\n" {
		t.Fatalf("another client got %q", got)
	}
}

// discard reads n bytes.
func (c *client) discard(n int) {
	c.t.Helper()
	if n, err := io.CopyN(io.Discard, c.r, int64(n)); err != nil {
		c.t.Fatalf("after %d bytes: %v", n, err)
	}
}

// G9, G25: a payload of the limit is stored; one byte more is refused at once, and its bytes are consumed.
func TestPayloadLimit(t *testing.T) {
	s := start(t, newFake(), Options{})
	c := dial(t, s)
	c.send(fmt.Sprintf("KEY BLOB SET b.a %d\r\n", ValueMax))
	if err := c.repeat('b', ValueMax); err != nil {
		t.Fatal(err)
	}
	c.want("OK")
	c.send("KEY BLOB GET b.a\r\n")
	c.want("BLOB " + strconv.Itoa(ValueMax))
	c.discard(ValueMax)
	c.want("OK")
	for _, tag := range []string{"", "[ID:x] "} {
		c.send(fmt.Sprintf("%sKEY BLOB SET b.a %d\r\n", tag, ValueMax+1))
		c.want(fmt.Sprintf("%sERROR WARN too_large: blob length %d exceeds limit %d", tag, ValueMax+1, ValueMax))
		if err := c.repeat('\n', ValueMax+1); err != nil {
			t.Fatal(err)
		}
		c.send("NODE PING 1\r\n")
		c.want("PONG node=1 rtt_ms=0", "OK")
	}
}

// G25: what the line of an upload decides is refused before its payload is there, which is consumed all the same. A key that is none, or too
// long, once was when all of the payload had come.
func TestUploadRefusedAtOnce(t *testing.T) {
	s := start(t, newFake(), Options{})
	c := dial(t, s)
	for _, r := range []struct{ line, refusal string }{
		{"noRow 4", `invalid: key "noRow" has no row: want table.row`},
		{"t. 4", `invalid: key "t." has an empty row: want table.row`},
		{"/t.a 4", `invalid: table name "/t" has an empty group`},
		{`."t" 4`, `invalid: key "t" has no row: want table.row`},
		{"t." + strings.Repeat("k", key.LenMax-1) + " 4", "too_large: key length 4097 exceeds limit 4096"},
		{strings.Repeat("t", key.TableLenMax+1) + ".a 4", "too_large: table name length 129 exceeds limit 128"},
		{"t.a 4 TTL 0s", `invalid: TTL "0s": want a duration`},
		{"t.a 4 FOR ever", "invalid: usage: KEY BLOB SET "},
	} {
		for _, tag := range []string{"", "[ID:x] "} {
			c.send(tag + "KEY BLOB SET " + r.line + "\r\n")
			c.wantPrefix(tag + "ERROR WARN " + r.refusal)
			c.send("no\r\n")
			c.ask("NODE PING 1", "PONG node=1 rtt_ms=0", "OK")
		}
	}
}

// G25: memory follows the bytes received, not the length claimed; the budget bounds it over all connections, and what does not
// fit is refused with its bytes consumed.
func TestFrameMemory(t *testing.T) {
	s := start(t, newFake(), Options{MemoryMax: 4 << 20})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var claims []*client
	for range 20 {
		c := dial(t, s)
		c.send(fmt.Sprintf("KEY BLOB SET b.a %d\r\nsome bytes", ValueMax))
		claims = append(claims, c)
	}
	eventually(t, "claims are read", func() bool {
		n := 0
		for _, c := range s.snapshot(nil) {
			if c.rd.since.Load() != 0 {
				n++
			}
		}
		return n == len(claims)
	})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("20 claims of 128 MiB took %d bytes", grown)
	}
	for _, c := range claims {
		if err := c.nc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "memory comes back", func() bool { return s.budget.used.Load() == 0 })

	c := dial(t, s)
	too := "frame exceeds the server's memory for large frames, 4194304 bytes"
	c.send("KEY BLOB SET b.a 5000000\r\n")
	if err := c.repeat('x', 5_000_000); err != nil {
		t.Fatal(err)
	}
	c.want("ERROR WARN too_large: " + too)
	c.send("[ID:7] KEY PUT b.a ")
	if err := c.repeat('y', 5_000_000); err != nil {
		t.Fatal(err)
	}
	c.send("\r\n")
	if got := c.line(); got != "[ID:7] ERROR WARN too_large: "+too && got != "[ID:7] ERROR WARN unavailable: "+errFrames.Text {
		t.Fatalf("got %q", got)
	}
	if got := c.do("KEY GET b.a"); got != "NOT_FOUND\nOK\n" {
		t.Fatalf("got %q", got)
	}

	// One holds the budget while another asks for some.
	holder := dial(t, s)
	holder.send("KEY BLOB SET b.h 3000000\r\n")
	if err := holder.repeat('h', 2_900_000); err != nil {
		t.Fatal(err)
	}
	eventually(t, "budget is held", func() bool { return s.budget.used.Load() >= 2_900_000 })
	for _, tag := range []string{"", "[ID:8] "} {
		c.send(tag + "KEY BLOB SET b.a 3000000\r\n")
		if err := c.repeat('x', 3_000_000); err != nil {
			t.Fatal(err)
		}
		c.want(tag + "ERROR WARN unavailable: " + errFrames.Text)
		c.send(tag + "KEY PUT b.a ")
		if err := c.repeat('z', 3_000_000); err != nil {
			t.Fatal(err)
		}
		c.send("\r\n")
		c.want(tag + "ERROR WARN unavailable: " + errFrames.Text)
	}
	if err := holder.repeat('h', 100_000); err != nil {
		t.Fatal(err)
	}
	holder.want("OK")
	c.send("KEY BLOB SET b.a 3000000\r\n")
	if err := c.repeat('x', 3_000_000); err != nil {
		t.Fatal(err)
	}
	c.want("OK")
}

// G26: a tagged command that goes on for long holds no memory of frames that are over, nor of its own line's blanks: a few watches could
// take all of it from everybody, for as long as they run.
func TestWatchHoldsNoFrameMemory(t *testing.T) {
	for _, sent := range []string{
		"[ID:w] WATCH t" + strings.Repeat(" ", 100_000) + "\r\n",
		"KEY PUT t.a " + strings.Repeat("v", 100_000) + "\r\n[ID:w] WATCH t\r\n",
		"KEY PUT t.a " + strings.Repeat("v", 100_000) + "\r\n[ID:w] KEY BLOB GET t.wait\r\n",
	} {
		f := newFake()
		free := make(chan struct{})
		f.hook = func(_ context.Context, op string, key []byte) error {
			if op == "get" && string(key) == "t.wait" {
				<-free
			}
			return nil
		}
		s := start(t, f, Options{})
		c := dial(t, s)
		c.send(sent + "PRINCIPAL WHOAMI\r\n")
		for c.line() != "PRINCIPAL (none)" {
		}
		c.want("OK")
		eventually(t, fmt.Sprintf("memory comes back after %.20q", sent), func() bool { return s.budget.used.Load() == 0 })
		if n := len(s.snapshot(nil)[0].slots); n != 1 {
			t.Errorf("%.20q: %d tagged commands run, want 1", sent, n)
		}
		close(free)
	}
}

// A line for which there is no memory may be an upload whose length was not seen: what follows is its payload, or commands, and nobody
// knows.
func TestUploadLineWithoutMemory(t *testing.T) {
	for _, line := range []string{
		"KEY BLOB SET b." + strings.Repeat("k", 40_000) + " 14",
		"key" + strings.Repeat(" ", 40_000) + "blob set b.k 14",
		strings.Repeat(" ", 40_000) + "KEY BLOB SET b.k 14",
		"[ID:1] KEY BLOB \t " + strings.Repeat("\t", 40_000) + "SET b.k 14",
	} {
		f := newFake()
		s := start(t, f, Options{MemoryMax: MemoryMaxMin})
		if !s.budget.take(s.budget.max) {
			t.Fatal("no budget")
		}
		c := dial(t, s)
		c.send(line + "\r\nKEY PUT b.x y\r\n")
		if got := c.line(); !strings.Contains(got, "ERROR FATAL unavailable: ") {
			t.Errorf("%.30q: got %q", line, got)
		}
		c.wantClosed()
		s.budget.give(s.budget.max)
		if _, ok := f.rows["b.x"]; ok {
			t.Errorf("%.30q: its payload was run as a command", line)
		}
	}
}

// G25: samples take memory until their client has read them, and it is bounded.
func TestSampleMemory(t *testing.T) {
	f := newFake()
	for i := range 2000 {
		f.rows[fmt.Sprintf("s.%03000d", i)] = fakeRow{version: 1}
	}
	s := start(t, f, Options{MemoryMax: 32 << 20})
	c := dial(t, s)
	const many = 200
	for i := range many {
		c.send(fmt.Sprintf("[ID:%d] SAMPLE s 2000\r\n", i))
	}
	eventually(t, "all are answered or wait for the client", func() bool { return s.budget.used.Load() > s.budget.max/2 })
	refused := 0
	for range many {
		lines := strings.Count(c.answer(), "\n")
		if lines == 1 {
			refused++
		} else if lines != 2002 {
			t.Fatalf("%d lines", lines)
		}
	}
	if refused == 0 {
		t.Error("200 samples of 6 MiB fit in 32 MiB")
	}
	eventually(t, "memory comes back", func() bool { return s.budget.used.Load() == 0 })
	if got := c.do("SAMPLE s 2000"); strings.Count(got, "\n") != 2002 {
		t.Errorf("got %.100q", got)
	}
}

// Past the most connections a client is told and cut; when one goes, the next is served.
func TestConnectionsMax(t *testing.T) {
	s := start(t, newFake(), Options{ConnectionsMax: 3})
	var all []*client
	for range 3 {
		all = append(all, dial(t, s))
	}
	for range 3 {
		c := dialRaw(t, s)
		c.want("ERROR FATAL unavailable: too many connections")
		c.wantClosed()
	}
	if got := all[0].do("KEY GET a.b"); got != "NOT_FOUND\nOK\n" {
		t.Fatalf("got %q", got)
	}
	if err := all[1].nc.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "room is made", func() bool { return len(s.snapshot(nil)) == 2 })
	dial(t, s)
}

// At most TaggedMax tagged commands run at once; past that the server stops reading until one ends.
func TestTaggedMax(t *testing.T) {
	f := newFake()
	free := make(chan struct{})
	var mu sync.Mutex
	running, most := 0, 0
	f.hook = func(ctx context.Context, op string, _ []byte) error {
		if op != "put" {
			return nil
		}
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
		}
		mu.Lock()
		running--
		mu.Unlock()
		return nil
	}
	s := start(t, f, Options{})
	c := dial(t, s)
	const n = TaggedMax + 500
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "[ID:%d] KEY PUT t.k%d x\r\n", i, i)
	}
	c.send(out.String())
	eventually(t, "all that may run do", func() bool { mu.Lock(); defer mu.Unlock(); return running == TaggedMax })
	if got := dial(t, s).do("NODE PING 1"); got != "PONG node=1 rtt_ms=0\nOK\n" {
		t.Fatalf("another client got %q", got)
	}
	close(free)
	seen := map[string]bool{}
	for range n {
		tag, body := cutTag(c.line())
		if body != "OK" || seen[tag] {
			t.Fatalf("tag %q: %q", tag, body)
		}
		seen[tag] = true
	}
	if most != TaggedMax {
		t.Errorf("%d ran at once, want %d", most, TaggedMax)
	}
	eventually(t, "workers go", func() bool {
		s.workers.mu.Lock()
		defer s.workers.mu.Unlock()
		return len(s.workers.idle) <= workersIdleMax
	})
}

// A connection's watches are bounded below TaggedMax, so that UNWATCH is always read.
func TestWatchesMax(t *testing.T) {
	s := start(t, newFake(), Options{})
	c := dial(t, s)
	for i := range WatchesMax + 1 {
		c.send(fmt.Sprintf("[ID:%d] WATCH t\r\n", i))
	}
	c.want(fmt.Sprintf("[ID:%d] ERROR WARN too_large: connection has %d watches, the limit", WatchesMax, WatchesMax))
	c.send("UNWATCH 0\r\n")
	c.want("[ID:0] OK", "OK")
	c.send("[ID:again] WATCH t\r\nKEY PUT t.a x\r\n")
	events := 0
	for range WatchesMax + 1 {
		if _, body := cutTag(c.line()); strings.HasPrefix(body, "EVENT PUT ") {
			events++
		}
	}
	if events != WatchesMax {
		t.Errorf("%d events, want %d", events, WatchesMax)
	}
}

// G9: answers of every size around the buffers' sizes come out whole, tagged and not, with and without values.
func TestAnswerSizes(t *testing.T) {
	s := start(t, newFake(), Options{})
	c := dial(t, s)
	sizes := []int{0, 1, 100, bufferSize - 30, bufferSize, bufferSize + 1, flushAt, smallReplyMax - 1, smallReplyMax, smallReplyMax + 1, 256<<10 + 1, 1 << 20}
	for _, n := range sizes {
		for _, binary := range []bool{false, true} {
			v := bytes.Repeat([]byte("ä"), n/2+1)[:n]
			if n%2 == 1 {
				v[n-1] = 'x'
			}
			if binary && n > 0 {
				v[n/2] = 0
			}
			c.send(fmt.Sprintf("KEY BLOB SET s%d.v %d\r\n%s", n, n, v))
			c.want("OK")
			for _, tag := range []string{"", "[ID:7] "} {
				c.send(fmt.Sprintf("%sKEY BLOB GET s%d.v\r\n", tag, n))
				c.want(fmt.Sprintf("%sBLOB %d", tag, n))
				c.wantBytes(v)
				c.want(tag + "OK")
				c.send(fmt.Sprintf("%sKEY GET s%d.v VERSION\r\n", tag, n))
				if binary && n > 0 {
					c.want(tag + "ERROR WARN invalid: value is binary, use KEY BLOB GET")
				} else {
					c.wantPrefix(tag + "VERSION:")
					c.want(tag+"VALUE:"+string(v), tag+"OK")
				}
				c.send(fmt.Sprintf("%sSCAN s%d VALUES\r\n", tag, n))
				c.want(tag+"KEYS:1", fmt.Sprintf("%ss%d.v", tag, n))
				if (binary && n > 0) || n > TextInlineMax {
					c.want(fmt.Sprintf("%sBLOB %d", tag, n))
					c.wantBytes(v)
				} else {
					c.want(tag + "VALUE:" + string(v))
				}
				c.want(tag + "OK")
			}
		}
	}
}

// Scans of every length around what is held come out whole.
func TestScanSizes(t *testing.T) {
	f := newFake()
	s := start(t, f, Options{})
	c := dial(t, s)
	for _, n := range []int{1, 100, 1000, 30_000} {
		for i := range n {
			f.rows[fmt.Sprintf("s%d.%08d", n, i)] = fakeRow{value: []byte(strings.Repeat("v", i%200)), version: 1}
		}
		f.rows[fmt.Sprintf("s%d.large", n)] = fakeRow{value: bytes.Repeat([]byte("l"), 100_000), version: 1}
		for _, tag := range []string{"", "[ID:7] "} {
			c.send(fmt.Sprintf("%sSCAN s%d\r\n", tag, n))
			c.want(fmt.Sprintf("%sKEYS:%d", tag, n+1))
			for i := range n {
				c.want(fmt.Sprintf("%ss%d.%08d", tag, n, i))
			}
			c.want(fmt.Sprintf("%ss%d.large", tag, n), tag+"OK")
			c.send(fmt.Sprintf("%sSCAN s%d VALUES\r\n", tag, n))
			c.want(fmt.Sprintf("%sKEYS:%d", tag, n+1))
			for i := range n {
				c.want(fmt.Sprintf("%ss%d.%08d", tag, n, i), tag+"VALUE:"+strings.Repeat("v", i%200))
			}
			c.want(fmt.Sprintf("%ss%d.large", tag, n), tag+"BLOB 100000")
			c.wantBytes(bytes.Repeat([]byte("l"), 100_000))
			c.want(tag + "OK")
		}
	}
}

// An answer that broke off after its count was sent ends the connection, and the client is told once.
func TestScanBreaksOff(t *testing.T) {
	f := newFake()
	f.forgetful = true
	for i := range 30_000 {
		f.rows[fmt.Sprintf("s.%060d", i)] = fakeRow{version: 1}
	}
	s := start(t, f, Options{})
	for _, tag := range []string{"", "[ID:7] "} {
		c := dial(t, s)
		c.send(tag + "SCAN s\r\n")
		c.want(tag + "KEYS:30000")
		line := c.line()
		for strings.HasPrefix(line, tag+"s.") {
			line = c.line()
		}
		if want := tag + "ERROR FATAL unavailable: grants changed within the answer: 29999 keys could be read of 30000 that were counted"; line != want {
			t.Errorf("got %q, want %q", line, want)
		}
		c.wantClosed()
	}
}

// A hundred thousand pipelined commands are answered in order, though the client reads only when all are sent.
func TestPipelining(t *testing.T) {
	s := start(t, newFake(), Options{})
	c := dial(t, s)
	const n = 100_000
	sent := make(chan error, 1)
	go func() { // owner: joined below
		w := bufio.NewWriter(c.nc)
		for i := range n {
			fmt.Fprintf(w, "KEY PUT p.k%d %d\r\nKEY GET p.k%d\r\n", i%10, i, i%10)
		}
		sent <- w.Flush()
	}()
	for i := range n {
		c.want("OK", "VALUE:"+strconv.Itoa(i), "OK")
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// G22: pipelined writes share syncs, and still take effect and are answered one after the other: among them refusals, reads that
// must see all before them, and writes to other groups.
func TestPipelinedWrites(t *testing.T) {
	s := start(t, openEngine(t), Options{})
	c := dial(t, s)
	c.send("[ID:w] WATCH p\r\n")
	const n = 5000
	var out strings.Builder
	var want []string
	events := 0
	for i := range n {
		fmt.Fprintf(&out, "KEY PUT p.k %d\r\n", i)
		want = append(want, "OK")
		events++
		switch {
		case i%7 == 3:
			out.WriteString("KEY WRITE p.k IF ABSENT VALUE never\r\n")
			want = append(want, "ERROR WARN conflict: ")
		case i%11 == 5:
			out.WriteString("KEY PUT q.k other group\r\nKEY PUT p/x.k other group\r\n")
			want = append(want, "OK", "OK")
		case i%13 == 7:
			out.WriteString("KEY PUT p\r\nKEY PUT p. x\r\n")
			want = append(want, "ERROR WARN invalid: ", "ERROR WARN invalid: ")
		case i%17 == 9:
			out.WriteString("KEY WRITE p.w VALUE x\r\nKEY DEL p.w\r\n")
			want = append(want, "VERSION:", "OK", "OK")
			events += 2
		case i%97 == 11:
			out.WriteString("KEY GET p.k\r\n")
			want = append(want, "VALUE:"+strconv.Itoa(i), "OK")
		}
	}
	sent := make(chan error, 1)
	go func() { // owner: joined below
		_, err := io.WriteString(c.nc, out.String())
		sent <- err
	}()
	last := uint64(0)
	seen := 0
	event := func(body string) {
		var v uint64
		var kind, key string
		if _, err := fmt.Sscanf(body, "EVENT %s %d %s", &kind, &v, &key); err != nil || v <= last {
			t.Fatalf("event %q after version %d", body, last)
		}
		last = v
		seen++
	}
	for i := 0; i < len(want); {
		tag, body := cutTag(c.line())
		if tag == "w" {
			event(body)
			continue
		}
		if !strings.HasPrefix(body, want[i]) {
			t.Fatalf("answer %d is %q, want %q", i, body, want[i])
		}
		i++
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	c.send("[ID:w] UNWATCH\r\n")
	for {
		_, body := cutTag(c.line())
		if body == "OK" {
			break
		}
		event(body)
	}
	if seen != events {
		t.Errorf("%d events, want %d", seen, events)
	}
}

// Idle connections hold no buffers: 10,000 of them cost less than 20 KiB each, the client's side included here.
func TestIdleConnections(t *testing.T) {
	n := 1000
	if long() {
		n = 9000
	}
	s := startCalm(t, newFake(), Options{}) // those that are woken all the time are not idle
	var before, after runtime.MemStats
	debug.FreeOSMemory() // what other tests left
	runtime.GC()
	runtime.ReadMemStats(&before)
	var conns []net.Conn
	for range n {
		nc, err := net.Dial("unix", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := io.WriteString(nc, "HELLO 1.0 x\r\nKEY PUT i.a x\r\n"); err != nil {
			t.Fatal(err)
		}
		answer := "WELCOME 1.0 Chronalys/1.0\r\nREADY\r\nOK\r\n"
		if _, err := io.ReadFull(nc, make([]byte, len(answer))); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, nc)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse)) / int64(n)
	t.Logf("%d idle connections: %d bytes each", n, per)
	most := int64(12 << 10)
	if invariants.Enabled {
		most = 32 << 10 // the race detector makes frames larger, and a stack doubles
	}
	if per > most {
		t.Errorf("an idle connection costs %d bytes", per)
	}
	runtime.KeepAlive(conns)
}

// failing is a listener that fails first, as one does without file descriptors.
type failing struct {
	net.Listener
	mu    sync.Mutex
	fails int
	calls []time.Time
}

func (l *failing) Accept() (net.Conn, error) {
	l.mu.Lock()
	l.calls = append(l.calls, time.Now())
	fail := l.fails > 0
	l.fails--
	l.mu.Unlock()
	if fail {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// Accepting backs off while it fails, and goes on when it can; one line is logged for it.
func TestAcceptBackoff(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &failing{Listener: inner, fails: 6}
	s := start(t, newFake(), Options{Listener: l})
	c := dial(t, s)
	if got := c.do("NODE PING 1"); got != "PONG node=1 rtt_ms=0\nOK\n" {
		t.Fatalf("got %q", got)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) < 7 || l.calls[6].Sub(l.calls[0]) < 300*time.Millisecond { // 5+10+20+40+80+160 ms
		t.Errorf("%d calls within %v", len(l.calls), l.calls[len(l.calls)-1].Sub(l.calls[0]))
	}
}

// G15: TCP clients are never trusted, whoever they say they are.
func TestTCPIsNotTrusted(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, newFake(), Options{Listener: inner})
	c := dial(t, s)
	if got := c.do("PRINCIPAL ASSUME root"); !strings.HasPrefix(got, "ERROR WARN denied: ") {
		t.Fatalf("got %q", got)
	}
	if got := c.do("PRINCIPAL AUTH alice right"); got != "OK\n" {
		t.Fatalf("got %q", got)
	}
}

// Connections that come and go leave nothing.
func TestConnectStorm(t *testing.T) {
	f := newFake()
	s := start(t, f, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				nc, err := net.Dial("unix", s.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				switch (i + j) % 4 {
				case 1:
					_, err = io.WriteString(nc, "HELLO 1.0 x\r\nKEY GET a")
				case 2:
					_, err = io.WriteString(nc, "HELLO 1.0 x\r\nKEY BLOB SET a.b 100000\r\nxx")
				case 3:
					_, err = io.WriteString(nc, "HELLO 1.0 x\r\n[ID:1] WATCH a\r\n[ID:2] KEY PUT a.b x\r\n")
				}
				if err != nil {
					t.Error(err)
				}
				if err := nc.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "connections end", func() bool { return len(s.snapshot(nil)) == 0 && f.sessions() == 0 })
}
