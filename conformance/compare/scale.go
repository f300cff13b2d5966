// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// scaleOptions say what the scale mode measures.
type scaleOptions struct {
	tables, idle, rounds int
	slot                 time.Duration
	profile              string // directory; empty: none
}

// scaleFigure is one line of the scale mode's table.
type scaleFigure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Over is the spread when it was measured more than once; Value is its median.
	Over *spread `json:"over,omitempty"`
}

// scaleRun gathers figures and aims.
type scaleRun struct {
	*scaleOptions
	env     *environment
	say     func(string, ...any)
	figures []scaleFigure
	aims    []aim
}

const (
	fewTables   = 10
	restarts    = 3
	loadConns   = 256
	blobLen     = 128 << 20
	blobsInARow = 6
	settle      = 10 * time.Second // before resident memory is read: what was used and given back is gone by then
	// memtableSlots is how many slots last as long as many connections take to fill some memtables: a shorter one has a flush and a compaction, which cost
	// as much as all the rest, or has none.
	memtableSlots = 4
	quietLook     = 200 * time.Millisecond
	quietMax      = 10 * time.Second
	memoryAim     = 300.0
	idleAim       = 200.0
	startAim      = 3.0
	sameAim       = 1.2
	mib           = float64(1 << 20)
	doubleBuffer  = 2 * blobLen / mib
)

// oneRowKeys are a table for each number, of one row.
func oneRowKeys() keyShape {
	return keyShape{len("t00000000.r"), func(dst []byte, k int) {
		copy(dst, "t00000000.r")
		putDigits(dst[1:9], k)
	}}
}

// fewTablesKeys spread the numbers over ten tables, which are the first ten of oneRowKeys too. kind begins the row.
func fewTablesKeys(kind byte) keyShape {
	return keyShape{len("t00000000.r0000000"), func(dst []byte, k int) {
		copy(dst, "t00000000.r0000000")
		dst[8] = byte('0' + k%fewTables)
		dst[10] = kind
		putDigits(dst[11:], k/fewTables)
	}}
}

// groupedKeys are as many tables of one row as there are numbers, in ten groups.
func groupedKeys() keyShape {
	return keyShape{len("group0/t0000000.r"), func(dst []byte, k int) {
		copy(dst, "group0/t0000000.r")
		dst[5] = byte('0' + k%fewTables)
		putDigits(dst[8:15], k/fewTables)
	}}
}

func (o *scaleOptions) run(ctx context.Context, env *environment, say func(string, ...any)) ([]scaleFigure, []aim, error) {
	r := &scaleRun{scaleOptions: o, env: env, say: say}
	for _, part := range []func(context.Context) error{r.tablesPart, r.idlePart, r.blobPart} {
		if err := part(ctx); err != nil {
			return nil, nil, err
		}
	}
	return r.figures, r.aims, nil
}

func (r *scaleRun) add(name, unit string, values ...float64) {
	over := spreadOf(values)
	f := scaleFigure{Name: name, Unit: unit, Value: over.Median}
	if len(values) > 1 {
		f.Over = &over
	}
	r.figures = append(r.figures, f)
	r.say("%s: %s %s", name, grouped(f.Value), unit)
}

// must adds a figure with an upper bound.
func (r *scaleRun) must(name string, limit float64, unit string, got spread) {
	r.aims = append(r.aims, aim{Name: name, Must: true, Limit: limit, Below: true, Unit: unit, Got: &got})
}

// tablesPart measures nodes with a table for each row, and beside them one with ten tables, and one with as many tables in ten groups.
func (r *scaleRun) tablesPart(ctx context.Context) (err error) {
	many, err := startAtlas(ctx, r.env, r.profile != "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, many.stop()) }()
	count := grouped(float64(r.tables))
	if err := r.load(ctx, many, oneRowKeys(), count+" tables of one row"); err != nil {
		return err
	}
	if err := r.memoryNow(many, "resident after writing "+count+" tables"); err != nil {
		return err
	}
	if err := r.restartPart(ctx, many, count); err != nil {
		return err
	}
	// Each load has a node of its own: what one leaves to be compacted is not done while another is measured.
	same, err := r.loaded(ctx, oneRowKeys(), count+" tables of one row on another node")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, same.stop()) }()
	few, err := r.loaded(ctx, fewTablesKeys('r'), "10 tables with as many rows")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, few.stop()) }()
	grouped, err := r.loaded(ctx, groupedKeys(), count+" tables of one row in 10 groups")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, grouped.stop()) }()
	if err := pause(ctx, settle, nil); err != nil { // what loading left to be compacted
		return err
	}
	for _, conns := range []int{1, aimConns} {
		if err := r.putPart(ctx, putNodes{few: few, same: same, grouped: grouped, many: many}, count, conns); err != nil {
			return err
		}
	}
	if r.profile == "" {
		return nil
	}
	return many.profileUnder(ctx, r.profile, "put-any-table", r.say, func(dur time.Duration) error {
		_, err := measure(ctx, slot{Conns: aimConns, Dur: dur}, many.process.cpu, many.connectShape(oneRowKeys(), r.tables))
		return err
	})
}

// loaded starts a node and writes to it.
func (r *scaleRun) loaded(ctx context.Context, shape keyShape, what string) (*node, error) {
	n, err := startAtlas(ctx, r.env, false)
	if err != nil {
		return nil, err
	}
	if err := r.load(ctx, n, shape, what); err != nil {
		return nil, errors.Join(err, n.stop())
	}
	return n, nil
}

func (r *scaleRun) load(ctx context.Context, n *node, shape keyShape, what string) error {
	began := time.Now()
	if err := fill(ctx, loadConns, r.tables, n.connectShape(shape, r.tables)); err != nil {
		return err
	}
	r.add("write "+what+", durable, 256 connections", "s", time.Since(began).Seconds())
	return nil
}

// connectShape dials connections that PUT keys of a shape.
func (n *node) connectShape(shape keyShape, keys int) func(i int) (stepper, *source, error) {
	return func(i int) (stepper, *source, error) {
		st, err := atlasStepper(n.socket, load{Kind: kindPut, Depth: 1}, shape, keys)
		return st, newSource(n.env.seed, i, keys, n.env.text), err
	}
}

func (r *scaleRun) memoryNow(n *node, name string) error {
	m, err := processMemory(n.process.pid())
	if err != nil {
		return err
	}
	r.add(name, "MiB", float64(m.RSS)/mib)
	return nil
}

// restartPart starts the node again and again, after a stop and after SIGKILL. The pages of its files are in the system's
// cache: what is measured is the work of the node.
func (r *scaleRun) restartPart(ctx context.Context, n *node, count string) error {
	killed := func() error { return errors.Join(r.touch(ctx, n), n.process.kill()) }
	for _, how := range []struct {
		name string
		end  func() error
	}{{"a stop", n.stop}, {"SIGKILL", killed}} {
		took := make([]float64, restarts)
		for i := range took {
			if err := how.end(); err != nil {
				return err
			}
			began := time.Now()
			if err := n.start(ctx); err != nil {
				return err
			}
			took[i] = time.Since(began).Seconds()
		}
		r.add("from start to first answer after "+how.name+", "+count+" tables", "s", took...)
		r.must("first answer after "+how.name+", "+count+" tables", startAim, "s", spreadOf(took))
	}
	before, err := n.process.cpu()
	if err != nil {
		return err
	}
	if err := pause(ctx, settle, nil); err != nil {
		return err
	}
	after, err := n.process.cpu()
	if err != nil {
		return err
	}
	m, err := processMemory(n.process.pid())
	if err != nil {
		return err
	}
	rss := float64(m.RSS) / mib
	r.add("CPU of one core while idle after a restart, "+count+" tables", "%", 100*(after-before).Seconds()/settle.Seconds())
	r.add("resident after a restart and idle, "+count+" tables", "MiB", rss)
	r.must("resident after a restart, "+count+" tables", memoryAim, "MiB", spreadOf([]float64{rss}))
	return nil
}

// touch writes for a moment, so that a killed node has something in its log.
func (r *scaleRun) touch(ctx context.Context, n *node) error {
	sl := slot{Conns: aimConns, Dur: time.Second}
	_, err := measure(ctx, sl, n.process.cpu, n.connectShape(oneRowKeys(), r.tables))
	return err
}

// putNodes are the nodes that putPart measures: with ten tables; two with many, of which ten are written on one, and any on the other; and with as
// many tables in ten groups.
type putNodes struct{ few, same, grouped, many *node }

// putPart compares the price of a PUT: at ten tables, at any table of many that are ten groups, and at any of as many groups.
func (r *scaleRun) putPart(ctx context.Context, n putNodes, count string, conns int) error {
	turns := []struct {
		name  string
		node  *node
		shape keyShape
		got   []sample
	}{
		{name: "into 10 tables of 10", node: n.few, shape: fewTablesKeys('x')},
		{name: "into 10 tables of " + count, node: n.same, shape: fewTablesKeys('x')},
		{name: "into any table of " + count + " in 10 groups", node: n.grouped, shape: groupedKeys()},
		{name: "into any table of " + count, node: n.many, shape: oneRowKeys()},
	}
	sl := slot{Conns: conns, Warm: r.slot / 4, Dur: r.slot}
	if conns > 1 {
		sl.Dur *= memtableSlots
	}
	for round := range r.rounds {
		for i := range turns {
			t := &turns[(i+round)%len(turns)]
			if err := quiet(ctx, n.few, n.same, n.grouped, n.many); err != nil {
				return err
			}
			s, err := measure(ctx, sl, t.node.process.cpu, t.node.connectShape(t.shape, r.tables))
			if err != nil {
				return fmt.Errorf("PUT %s: %w", t.name, err)
			}
			t.got = append(t.got, s)
		}
	}
	wall := func(s *sample) float64 { return 1e9 / s.rate() }
	ratio := func(a, b []sample, figure func(*sample) float64) spread {
		v := make([]float64, len(a))
		for i := range a {
			v[i] = figure(&a[i]) / figure(&b[i])
		}
		return spreadOf(v)
	}
	at := ", " + plural(conns, "connection")
	for i := range turns {
		t := &turns[i]
		r.add("PUT "+t.name+at+": time", "ns", each(t.got, wall)...)
		r.add("PUT "+t.name+at+": server CPU", "us", each(t.got, (*sample).cpuMicros)...)
		if i == 0 {
			continue
		}
		r.must("time of a PUT "+t.name+at, sameAim, "x", ratio(t.got, turns[0].got, wall))
		r.must("CPU of a PUT "+t.name+at, sameAim, "x", ratio(t.got, turns[0].got, (*sample).cpuMicros))
	}
	return nil
}

// quiet waits until the nodes have done with what the last slot left to be compacted, or quietMax: it would take time and processor from the
// next, of another load on the same node too.
func quiet(ctx context.Context, nodes ...*node) error {
	spent := func() (sum time.Duration, err error) {
		for _, n := range nodes {
			d, err := n.process.cpu()
			if err != nil {
				return 0, err
			}
			sum += d
		}
		return sum, nil
	}
	before, err := spent()
	for began := time.Now(); err == nil && time.Since(began) < quietMax; {
		if err := pause(ctx, quietLook, nil); err != nil {
			return err
		}
		var now time.Duration
		if now, err = spent(); err == nil && now-before < quietLook/10 {
			return nil
		}
		before = now
	}
	return err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func each(samples []sample, figure func(*sample) float64) []float64 {
	v := make([]float64, len(samples))
	for i := range samples {
		v[i] = figure(&samples[i])
	}
	return v
}

// idlePart measures what connections cost that do nothing, before and after each has been used once.
func (r *scaleRun) idlePart(ctx context.Context) (err error) {
	n, err := startAtlas(ctx, r.env, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	base, err := r.settled(ctx, n)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, 0, r.idle)
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	for range r.idle {
		c, err := dialAtlas(n.socket)
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", len(conns)+1, r.idle, err)
		}
		conns = append(conns, c)
	}
	count := grouped(float64(r.idle))
	fresh, err := r.settled(ctx, n)
	if err != nil {
		return err
	}
	for i, c := range conns {
		if err := putAndGet(c, "idle.k"+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	used, err := r.settled(ctx, n)
	if err != nil {
		return err
	}
	r.add("resident without connections", "MiB", base)
	r.add(count+" idle connections, over that", "MiB", fresh-base)
	r.add(count+" idle connections after a PUT and a GET each", "MiB", used-base)
	r.must(count+" idle connections", idleAim, "MiB", spreadOf([]float64{fresh - base}))
	r.must(count+" idle connections, each used", idleAim, "MiB", spreadOf([]float64{used - base}))
	return nil
}

func putAndGet(c net.Conn, key string) error {
	if _, err := io.WriteString(c, "KEY PUT "+key+" value\r\nKEY GET "+key+"\r\n"); err != nil {
		return err
	}
	const want = "OK\r\nVALUE:value\r\nOK\r\n"
	_, err := readAtLeast(c, make([]byte, len(want)), []byte(want))
	return err
}

// settled waits and returns the resident memory in MiB.
func (r *scaleRun) settled(ctx context.Context, n *node) (float64, error) {
	if err := pause(ctx, settle, nil); err != nil {
		return 0, err
	}
	m, err := processMemory(n.process.pid())
	return float64(m.RSS) / mib, err
}

// blobPart measures the peak of resident memory while the largest blob goes in, and, on a node that was started again,
// while it comes out.
func (r *scaleRun) blobPart(ctx context.Context) (err error) {
	n, err := startAtlas(ctx, r.env, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	in := func() error { return putAtlasBlob(n.socket, blobLen, r.env.text) }
	if err := r.peak(ctx, n, "in", 1, in); err != nil {
		return err
	}
	if err := r.peak(ctx, n, "in", blobsInARow, in); err != nil {
		return err
	}
	if err := n.stop(); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	return r.peak(ctx, n, "out", 1, func() error { return readBlob(n.socket) })
}

// peak measures times uses of a blob, one behind the other. There is a limit for one.
func (r *scaleRun) peak(ctx context.Context, n *node, way string, times int, do func() error) error {
	base, err := r.settled(ctx, n)
	if err != nil {
		return err
	}
	if err := resetPeak(n.process.pid()); err != nil {
		return err
	}
	began := time.Now()
	for range times {
		if err := do(); err != nil {
			return fmt.Errorf("blob %s: %w", way, err)
		}
	}
	took := time.Since(began).Seconds()
	m, err := processMemory(n.process.pid())
	if err != nil {
		return err
	}
	over := float64(m.Peak)/mib - base
	if times > 1 {
		r.add(fmt.Sprintf("%d blobs of 128 MiB %s, one behind the other: peak over the baseline", times, way), "MiB", over)
		return nil
	}
	r.add("a blob of 128 MiB "+way+": peak resident over the baseline", "MiB", over)
	r.add("a blob of 128 MiB "+way, "MB/s", blobLen/1e6/took)
	r.must("peak resident for 128 MiB "+way, doubleBuffer, "MiB", spreadOf([]float64{over}))
	return nil
}

// readBlob reads the blob once.
func readBlob(socket string) error {
	st, err := atlasStepper(socket, load{Kind: kindBlob, Size: blobLen}, keyShape{}, 0)
	if err != nil {
		return err
	}
	t := st.(*stream)
	for {
		if _, err := t.step(nil); err != nil {
			return errors.Join(err, t.close())
		}
		if t.left == 0 {
			return t.close()
		}
	}
}

func (f *scaleFigure) print(b *strings.Builder) {
	over := ""
	if f.Over != nil {
		over = rangeText(*f.Over)
	}
	line := fmt.Sprintf("%-74s %10s %-5s %s", f.Name, grouped(f.Value), f.Unit, over)
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
