// SPDX-License-Identifier: AGPL-3.0-only

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/internal/fakenode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func runBench(t *testing.T, o Options) (*Result, string, int) {
	t.Helper()
	o.JSON = true
	var out, notes bytes.Buffer
	code := Run(t.Context(), o, cli.Streams{Out: &out, Err: &notes})
	r := &Result{}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), r); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
	}
	return r, notes.String(), code
}

// Every operation is sent as often as was asked for, at any depth, with ids and without, over both drivers.
func TestCounts(t *testing.T) {
	n := &fakenode.Node{}
	unixTarget := cli.Target{Endpoint: n.Start(t)}
	for _, depth := range []int{1, 7} {
		for _, tagged := range []bool{false, true} {
			t.Run(fmt.Sprintf("depth=%d tagged=%v", depth, tagged), func(t *testing.T) {
				o := Options{
					Target: unixTarget, Connections: 3, Depth: depth, Tagged: tagged, Count: 500, Keys: 50, BlobSize: 5000, ScanLimit: 5,
					Mix: "get=5,put=5,del,scan,keys,count,sample,blob", Prefill: true, Workers: 2,
				}
				r, notes, code := runBench(t, o)
				if code != cli.ExitOK || r.Count != 500 {
					t.Fatalf("exit %d, %d operations: %+v %s", code, r.Count, r, notes)
				}
				var total int64
				for _, op := range r.Operations {
					total += op.Count
				}
				if total != 500 || len(r.Operations) != int(opKinds) || r.Rows == 0 || r.BytesIn == 0 || r.BytesOut == 0 {
					t.Errorf("%d latencies of %d kinds: %+v", total, len(r.Operations), r)
				}
			})
		}
	}
	if keys := n.Keys(); len(keys) < 40 {
		t.Errorf("prefilled %d keys", len(keys))
	}
}

func TestGoroutineDriver(t *testing.T) {
	for _, rate := range []float64{0, 2000} {
		target := cli.Target{Endpoint: (&fakenode.Node{}).Start(t)}
		r := &runner{o: Options{Target: target, Connections: 4, Depth: 3, Count: 400, Mix: "get,put", Keys: 10, Rate: rate}}
		r.o.EnsureDefaults()
		nets, err := r.dial(t.Context(), 4)
		if err != nil {
			t.Fatal(err)
		}
		var conns []*conn
		w := newWorkload(r.o)
		for i := range nets {
			c := newConn(newGenerator(w, i), 3, i%2 == 0)
			c.quota = 100
			conns = append(conns, c)
		}
		cl := newClock()
		cl.from.Store(0)
		r.schedule(cl, conns)
		st := merge(drive(cl, conns, nets))
		if got := st.latency[opGet].TotalCount() + st.latency[opPut].TotalCount(); got != 400 || st.lost > 0 {
			t.Errorf("%d operations, %d lost: %v", got, st.lost, st.lostBy)
		}
		for _, nc := range nets {
			_ = nc.Close()
		}
	}
}

// With a rate, a server that stops for a while shows in the latencies of all requests that were due meanwhile.
func TestRateCountsWaiting(t *testing.T) {
	stalled := false
	n := &fakenode.Node{}
	n.Hook = func(c *fakenode.Conn, _, line string) (bool, error) {
		if strings.HasPrefix(line, "KEY GET") && !stalled {
			stalled = true
			time.Sleep(200 * time.Millisecond) // sleep: the stall that is measured
		}
		return false, nil
	}
	r, notes, code := runBench(t, Options{Target: cli.Target{Endpoint: n.Start(t)}, Connections: 1, Count: 300, Rate: 1000})
	if code != cli.ExitOK {
		t.Fatal(notes)
	}
	// About 200 requests were due in the stall, at latencies from 200 ms down; without the correction one would be slow.
	if p50 := r.Operations[0].Latency.P50; p50 < 20_000 {
		t.Errorf("median %v us hides the stall", p50)
	}
	if r.Rate > 1100 {
		t.Errorf("rate %v exceeds 1000", r.Rate)
	}
}

func TestErrorsAndLosses(t *testing.T) {
	n := &fakenode.Node{}
	i := 0
	n.Hook = func(c *fakenode.Conn, _, line string) (bool, error) {
		if i++; strings.HasPrefix(line, "KEY GET") && i%2 == 0 {
			c.Raw("ERROR WARN unavailable: disk is full\r\n")
			return true, nil
		}
		return false, nil
	}
	target := cli.Target{Endpoint: n.Start(t)}
	r, _, code := runBench(t, Options{Target: target, Connections: 1, Count: 100})
	if code != cli.ExitError || len(r.Errors) != 1 || r.Errors[0].Class != "unavailable" || r.Errors[0].Count != 50 {
		t.Errorf("exit %d: %+v", code, r)
	}
	n.SetHook(func(c *fakenode.Conn, _, line string) (bool, error) { return true, errors.New("cut") })
	r, _, code = runBench(t, Options{Target: target, Connections: 3, Count: 100})
	if code != cli.ExitConnect || r.Lost != 3 {
		t.Errorf("exit %d: %+v", code, r)
	}
	n.SetHook(func(c *fakenode.Conn, _, line string) (bool, error) { c.Raw("OK\r\nOK\r\n"); return true, nil })
	if r, _, code = runBench(t, Options{Target: target, Connections: 1, Count: 100}); code != cli.ExitConnect || !strings.Contains(r.LostBy, "nothing asked for") {
		t.Errorf("exit %d: %+v", code, r)
	}
	if _, notes, code := runBench(t, Options{Target: cli.Target{Endpoint: "/nonexistent"}}); code != cli.ExitConnect || !strings.Contains(notes, "is the node running") {
		t.Errorf("exit %d: %s", code, notes)
	}
}

func TestStopsInTime(t *testing.T) {
	target := cli.Target{Endpoint: (&fakenode.Node{}).Start(t)}
	r, notes, code := runBench(t, Options{Target: target, Connections: 5, WarmUp: 20 * time.Millisecond, Duration: 100 * time.Millisecond, ServerPID: os.Getpid()})
	if code != cli.ExitOK || r.Seconds < 0.1 || r.Count == 0 || r.ServerCPU == nil || r.ClientCPU == nil {
		t.Errorf("exit %d: %+v %s", code, r, notes)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	if code := Run(ctx, Options{Target: target, Connections: 2, WarmUp: -1, Duration: time.Hour}, cli.Streams{Out: &out, Err: &out}); code != cli.ExitOK || !strings.Contains(out.String(), "stopped before the end") {
		t.Errorf("exit %d: %s", code, out.String())
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Connections: -1},
		{Depth: 2000},
		{Mix: "fly"},
		{Mix: "get=0"},
		{Mix: "get=x"},
		{Skew: "zipf:0.5"},
		{Skew: "normal"},
		{Table: "a.b"},
		{ValueSize: 200 << 20},
		{Rate: -1},
	} {
		o.Endpoint = "/tmp/x"
		if _, notes, code := runBench(t, o); code != cli.ExitUsage || notes == "" {
			t.Errorf("%+v: exit %d", o, code)
		}
	}
	w, err := parseMix("get=3, put ,blob=2")
	if err != nil || w[opGet] != 3 || w[opPut] != 1 || w[opBlobGet] != 2 || w[opBlobPut] != 2 {
		t.Errorf("%v, %v", w, err)
	}
	if !strings.Contains(Help(), "KEY GET") {
		t.Error("no help")
	}
}

// The generator's keys are within bounds, every one is reachable, and zipf's favourites are apart from each other.
func TestGenerator(t *testing.T) {
	o := Options{Keys: 1000, Tables: 3, Skew: "zipf:1.5"}
	o.EnsureDefaults()
	w := newWorkload(o)
	g := newGenerator(w, 0)
	seen := make(map[uint64]bool)
	for i := range uint64(1000) {
		seen[i*w.stride%1000] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d of 1000 keys are reachable", len(seen))
	}
	counts := make(map[int]int)
	for range 10_000 {
		n := g.pick()
		if n < 0 || n >= 1000 {
			t.Fatal(n)
		}
		counts[n]++
	}
	if counts[0] < 2000 || counts[1] > counts[int(w.stride)] {
		t.Errorf("counts %v", counts)
	}
	if got := string(g.key(nil, 7)); got != "bench1.007" {
		t.Error(got)
	}
	if out, _, _ := g.request(nil); !strings.HasPrefix(string(out), "KEY GET bench") || !strings.HasSuffix(string(out), "\r\n") {
		t.Errorf("%q", out)
	}
}

func TestNoAllocation(t *testing.T) {
	o := Options{Mix: "get,put"}
	o.EnsureDefaults()
	c := newConn(newGenerator(newWorkload(o), 0), 4, false)
	st := &stats{}
	reply := []byte("VALUE:hello\r\nOK\r\n")
	step := func() {
		c.fill(1)
		c.out = c.out[:0]
		if _, err := c.take(reply, 2, 0, st); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		step()
	}
	if n := testing.AllocsPerRun(1000, step); n > 0 {
		t.Errorf("%v allocations an operation", n)
	}
}

// Of the requests that were under way when measuring began the operations were not counted, but what was not found was: a run
// told of more keys not found than of operations.
func TestMissesAreOfOperations(t *testing.T) {
	for _, tagged := range []bool{false, true} {
		o := Options{Mix: "get"}
		o.EnsureDefaults()
		c := newConn(newGenerator(newWorkload(o), 0), 1, tagged)
		st := &stats{}
		reply := "NOT_FOUND\r\nOK\r\n"
		if tagged {
			reply = "[ID:0] NOT_FOUND\r\n[ID:0] OK\r\n"
		}
		for _, at := range []struct{ sent, answered int64 }{{5, 15}, {20, 25}, {30, 35}} {
			c.fill(at.sent)
			if _, err := c.take([]byte(reply), at.answered, 10, st); err != nil {
				t.Fatal(err)
			}
		}
		if n := st.latency[opGet].TotalCount(); n != 2 || st.missing != 2 {
			t.Errorf("tagged %v: %d operations, %d not found; want 2 and 2", tagged, n, st.missing)
		}
	}
}

func FuzzTake(f *testing.F) {
	f.Add([]byte("[ID:0] VALUE:x\r\n[ID:0] OK\r\n"), true)
	f.Add([]byte("BLOB 3\r\nabcOK\r\nKEYS:2\r\na\r\nb\r\nOK\r\nERROR WARN x\r\n"), false)
	f.Add([]byte("[ID:99999999999999999999] OK\r\nBLOB 99999999999999999999\r\n"), true)
	f.Fuzz(func(t *testing.T, in []byte, tagged bool) {
		o := Options{}
		o.EnsureDefaults()
		o.ValueSize = 1
		w := newWorkload(o)
		whole, pieces := newConn(newGenerator(w, 0), 8, tagged), newConn(newGenerator(w, 0), 8, tagged)
		whole.fill(1)
		pieces.fill(1)
		a, aerr := whole.take(in, 2, 0, &stats{})
		b := 0
		var berr error
		for i := range in {
			n, err := pieces.take(in[i:i+1], 2, 0, &stats{})
			b += n
			if berr = err; err != nil {
				break
			}
		}
		if a != b || (aerr == nil) != (berr == nil) {
			t.Errorf("%d replies, %v; byte by byte %d, %v", a, aerr, b, berr)
		}
	})
}

// Reads of keys that nobody wrote are told apart from reads of values, with what to do about them.
func TestNotFoundHint(t *testing.T) {
	for _, prefilled := range []bool{false, true} {
		var b strings.Builder
		if err := (&Result{Missing: 3, Prefilled: prefilled}).print(&b, false); err != nil {
			t.Fatal(err)
		}
		if text := b.String(); !strings.Contains(text, ", 3 not found") || strings.Contains(text, "--prefill") == prefilled {
			t.Errorf("prefilled %v: %q", prefilled, text)
		}
	}
}
