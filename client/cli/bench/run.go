// SPDX-License-Identifier: AGPL-3.0-only

package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
)

// How long the replies under way are awaited after the end.
const drainWait = 10 * time.Second

// runner runs the phases: prefill, warm-up, measurement.
type runner struct {
	o        Options
	s        cli.Streams
	pid      int
	dialling bool // connecting is what failed
}

func (r *runner) run(ctx context.Context) (*Result, error) {
	w := newWorkload(r.o)
	if r.o.Prefill {
		if err := r.prefill(ctx, w); err != nil {
			return nil, fmt.Errorf("prefill: %w", err)
		}
	}
	nets, err := r.dial(ctx, r.o.Connections)
	if err != nil {
		return nil, err
	}
	conns := make([]*conn, len(nets))
	for i := range conns {
		conns[i] = newConn(newGenerator(w, i), r.o.Depth, r.o.Tagged)
	}
	cl := newClock()
	r.schedule(cl, conns)
	m, all, err := r.measure(ctx, cl, conns, nets)
	if err != nil {
		return nil, err
	}
	return r.result(m, all), nil
}

// schedule shares the rate out, each connection's requests between those of the others.
func (r *runner) schedule(cl *clock, conns []*conn) {
	if r.o.Rate == 0 {
		return
	}
	gap := float64(time.Second) / r.o.Rate
	for i, c := range conns {
		c.interval = max(int64(gap*float64(len(conns))), 1)
		c.due = cl.now() + int64(gap*float64(i)) + 1
	}
}

func (r *runner) dial(ctx context.Context, n int) (nets []net.Conn, err error) {
	o, err := r.o.ClientOptions()
	if err != nil {
		return nil, err
	}
	o.ClientID = "atlas-bench"
	for range n {
		c, err := client.Connect(ctx, o)
		if err != nil {
			r.dialling = true
			for _, nc := range nets {
				_ = nc.Close() // not used
			}
			return nil, err
		}
		nets = append(nets, c.Conn)
	}
	if r.pid = r.o.ServerPID; r.pid == 0 {
		r.pid = peerPID(nets[0])
	}
	return nets, nil
}

// prefill writes every key once, and the blobs.
func (r *runner) prefill(ctx context.Context, w *workload) error {
	began := time.Now()
	nets, err := r.dial(ctx, min(r.o.Connections, 16))
	if err != nil {
		return err
	}
	conns := make([]*conn, len(nets))
	for i := range conns {
		g := newGenerator(w, i)
		g.prefill, g.next, g.step = true, i, len(conns)
		conns[i] = newConn(g, max(1, min(64, 16<<20/r.o.ValueSize)), true)
	}
	if w.blob != nil {
		if err := r.prefillBlobs(ctx, w); err != nil {
			return err
		}
	}
	cl := newClock()
	cl.from.Store(0)
	stop := r.progress(cl, "prefill", int64(r.o.Keys))
	all, err := r.drive(ctx, cl, conns, nets)
	stop()
	if err != nil {
		return err
	}
	st := merge(all)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case st.lost > 0:
		return st.lostBy
	case len(st.errs) > 0:
		for class, text := range st.example {
			return fmt.Errorf("%d writes failed, such as %s", st.errs[class], text)
		}
	}
	r.say("prefilled %d keys in %v", r.o.Keys, time.Since(began).Round(time.Millisecond))
	return nil
}

func (r *runner) prefillBlobs(ctx context.Context, w *workload) error {
	o, err := r.o.ClientOptions()
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, o)
	if err != nil {
		return err
	}
	for i := range blobKeys {
		if _, perr := c.Put(ctx, r.o.Table+"-blob.b"+strconv.Itoa(i), w.blob); perr != nil {
			return errors.Join(perr, c.Close())
		}
	}
	return c.Close()
}

// drive runs connections to their end, with event loops where that is possible. When ctx ends they are cut.
func (r *runner) drive(ctx context.Context, cl *clock, conns []*conn, nets []net.Conn) ([]*stats, error) {
	if canLoop(nets[0]) {
		return driveLoops(cl, conns, nets, r.o.Workers, ctx.Done())
	}
	defer context.AfterFunc(ctx, func() {
		for _, nc := range nets {
			_ = nc.Close() // that is the cut
		}
	})()
	all := drive(cl, conns, nets)
	for _, nc := range nets {
		_ = nc.Close() // every reply that counts has come
	}
	return all, nil
}

// window is the measured time.
type window struct {
	elapsed   time.Duration
	ops       int64
	server    time.Duration // CPU time; negative: not known
	own       time.Duration
	cancelled bool
}

// measure runs the warm-up and the measurement.
func (r *runner) measure(ctx context.Context, cl *clock, conns []*conn, nets []net.Conn) (window, []*stats, error) {
	var m window
	cut, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan struct{})
	var phases sync.WaitGroup
	stop := r.progress(cl, "run", 0)
	if r.o.Count > 0 {
		cl.from.Store(0) // there is no warm-up
		for i, c := range conns {
			c.quota = r.o.Count / int64(len(conns))
			if int64(i) < r.o.Count%int64(len(conns)) {
				c.quota++
			}
		}
	}
	phases.Go(func() {
		m = r.phases(ctx, cl, ended)
		cl.halted.Store(true)
		timer := time.NewTimer(drainWait)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
			cancel()
		}
	})
	all, err := r.drive(cut, cl, conns, nets)
	close(ended)
	phases.Wait()
	stop()
	return m, all, err
}

// phases waits for the warm-up and the measurement to pass, and looks at the clocks between.
func (r *runner) phases(ctx context.Context, cl *clock, ended <-chan struct{}) (m window) {
	wait := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			m.cancelled = true
		case <-ended:
		}
		return false
	}
	if r.o.WarmUp > 0 && r.o.Count == 0 && !wait(r.o.WarmUp) {
		return m
	}
	if r.o.Count == 0 {
		cl.from.Store(cl.now())
	}
	began, ops, own, server := time.Now(), cl.total.Load(), ownCPU(), processCPU(r.pid)
	duration := r.o.Duration
	if r.o.Count > 0 {
		duration = max(duration, 24*time.Hour)
		ops = 0
	}
	wait(duration)
	m.elapsed, m.ops, m.own = time.Since(began), cl.total.Load()-ops, ownCPU()-own
	if m.server = processCPU(r.pid) - server; server < 0 {
		m.server = -1
	}
	return m
}

// clockTick is the unit of times in /proc, the same on every Linux.
const clockTick = 10 * time.Millisecond

// processCPU is the CPU time that a process has used, negative when it cannot be found out.
func processCPU(pid int) time.Duration {
	if pid <= 0 {
		return -1
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return -1
	}
	_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return -1
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return -1
	}
	return time.Duration(user+system) * clockTick
}

// progress shows a line that changes, on a terminal. The returned function ends it.
func (r *runner) progress(cl *clock, what string, total int64) (stop func()) {
	if r.o.Quiet || !cli.IsTerminal(r.s.Err) {
		return func() {}
	}
	var wg sync.WaitGroup
	quit := make(chan struct{})
	wg.Go(func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		began, last, when := time.Now(), int64(0), time.Now()
		for {
			select {
			case <-quit:
				_, _ = fmt.Fprint(r.s.Err, "\r\x1b[K") // progress is not worth an error
				return
			case now := <-ticker.C:
				done := cl.total.Load()
				rate := float64(done-last) / now.Sub(when).Seconds()
				last, when = done, now
				text := fmt.Sprintf("%s: %s operations, %s/s, %.0f s", what, group(float64(done)), group(rate), now.Sub(began).Seconds())
				if total > 0 {
					text += fmt.Sprintf(", %d %%", 100*done/total)
				}
				_, _ = fmt.Fprint(r.s.Err, "\r\x1b[K"+text) // as above
			}
		}
	})
	return func() {
		close(quit)
		wg.Wait()
	}
}

func (r *runner) say(format string, args ...any) {
	if !r.o.Quiet {
		_, _ = fmt.Fprintf(r.s.Err, format+"\n", args...) // as in progress
	}
}
