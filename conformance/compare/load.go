// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// valueLen is the size of the values written and read.
const valueLen = 100

// stepper is one connection that is put to work by one goroutine.
type stepper interface {
	// step does the next piece of work, as a rule one request and the whole of its answer, and returns how many units it
	// was: operations, rows or bytes.
	step(s *source) (int, error)
	close() error
}

// source draws the keys and values of one connection. Keys are uniform over [0, keys), or, while a store is filled,
// every stride-th from next on.
type source struct {
	rng          *rand.Rand
	keys         int
	next, stride int
	text         []byte
}

// textLen is how much random text values are cut from.
const textLen = 64 << 10

// newText makes what values are cut from: letters and digits, so that every protocol can carry them and that no store
// gains much by compression.
func newText(seed uint64) []byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	rng := rand.New(rand.NewPCG(seed, 1))
	text := make([]byte, textLen)
	for i := range text {
		text[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return text
}

func newSource(seed uint64, worker, keys int, text []byte) *source {
	return &source{rng: rand.New(rand.NewPCG(seed, uint64(worker)+2)), keys: keys, text: text}
}

func (s *source) key() int {
	if s.stride == 0 {
		return s.rng.IntN(s.keys)
	}
	k := s.next
	s.next += s.stride
	return k
}

// value fills dst, which is shorter than textLen.
func (s *source) value(dst []byte) {
	at := s.rng.IntN(len(s.text) - len(dst))
	copy(dst, s.text[at:])
}

// keyShape writes key number k over dst, which has the shape's length.
type keyShape struct {
	len int
	put func(dst []byte, k int)
}

// putDigits writes k in decimal over all of dst.
func putDigits(dst []byte, k int) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + k%10)
		k /= 10
	}
}

// prefixed is the shape of keys that are a prefix and 8 digits.
func prefixed(prefix string) keyShape {
	return keyShape{len(prefix) + 8, func(dst []byte, k int) {
		copy(dst, prefix)
		putDigits(dst[len(prefix):], k)
	}}
}

// slot is one turn of one peer: conns connections work for warm without being measured, then for dur.
type slot struct {
	Conns int
	Warm  time.Duration
	Dur   time.Duration
}

// sample is what one slot gave.
type sample struct {
	Units     float64 `json:"units"`
	Seconds   float64 `json:"seconds"`
	ServerCPU float64 `json:"server_cpu_s"`
	ClientCPU float64 `json:"client_cpu_s"`
	// Elsewhere is the share of the machine's CPU time that went to neither client nor server.
	Elsewhere float64    `json:"elsewhere"`
	Latency   *histogram `json:"-"`
	P50       float64    `json:"p50_us"`
	P99       float64    `json:"p99_us"`
}

func (s *sample) rate() float64 { return s.Units / s.Seconds }

// cpuMicros is the server's CPU time for one unit.
func (s *sample) cpuMicros() float64 { return s.ServerCPU * 1e6 / s.Units }

// worker is a stepper with its counters. The padding keeps the counters of two workers off one cache line.
type worker struct {
	stepper
	src     *source
	units   atomic.Int64
	latency histogram
	err     error
	_       [64]byte
}

// hurry is how long past its end a slot may last before its connections are cut.
const hurry = 30 * time.Second

// measure runs one slot. The counters and CPU clocks are read at both ends of the measured time while the work goes on,
// so that neither connecting nor the last stragglers count. cpu is the server's CPU time so far; nil when the work is
// done in this process.
func measure(ctx context.Context, sl slot, cpu func() (time.Duration, error), dial func(i int) (stepper, *source, error)) (sample, error) {
	workers := make([]worker, sl.Conns)
	defer closeAll(workers)
	for i := range workers {
		st, src, err := dial(i)
		if err != nil {
			return sample{}, fmt.Errorf("connection %d of %d: %w", i+1, sl.Conns, err)
		}
		workers[i].stepper, workers[i].src = st, src
	}
	var stop, measured atomic.Bool
	var wg sync.WaitGroup
	failed := make(chan struct{}, len(workers))
	for i := range workers {
		wg.Go(func() {
			if workers[i].err = workers[i].run(&stop, &measured); workers[i].err != nil {
				failed <- struct{}{}
			}
		})
	}
	cut := time.AfterFunc(sl.Warm+sl.Dur+hurry, func() { closeAll(workers) })
	defer cut.Stop()

	var s sample
	err := pause(ctx, sl.Warm, failed)
	if err == nil {
		s, err = window(ctx, workers, sl.Dur, cpu, &measured, failed)
	}
	stop.Store(true)
	wg.Wait()
	for i := range workers {
		if workers[i].err != nil {
			return sample{}, workers[i].err
		}
	}
	if err != nil {
		return sample{}, err
	}
	for i := range workers {
		s.Latency.add(&workers[i].latency)
	}
	s.P50, s.P99 = s.Latency.quantile(0.50)/1e3, s.Latency.quantile(0.99)/1e3
	return s, nil
}

// window reads all counters, waits, and reads them again.
func window(ctx context.Context, workers []worker, dur time.Duration, cpu func() (time.Duration, error), measured *atomic.Bool, failed <-chan struct{}) (sample, error) {
	before, err := readClocks(workers, cpu)
	if err != nil {
		return sample{}, err
	}
	measured.Store(true)
	if err := pause(ctx, dur, failed); err != nil {
		return sample{}, err
	}
	measured.Store(false)
	after, err := readClocks(workers, cpu)
	if err != nil {
		return sample{}, err
	}
	s := sample{
		Units:     float64(after.units - before.units),
		Seconds:   after.at.Sub(before.at).Seconds(),
		ServerCPU: (after.server - before.server).Seconds(),
		ClientCPU: (after.client - before.client).Seconds(),
		Latency:   &histogram{},
	}
	if all := (after.total - before.total).Seconds(); all > 0 {
		s.Elsewhere = max(0, (after.busy-before.busy).Seconds()-s.ServerCPU-s.ClientCPU) / all
	}
	if s.Units == 0 {
		return sample{}, errors.New("nothing was done in the measured time")
	}
	return s, nil
}

// run steps until told to stop. A latency is the time from one answer to the next, as there is no pause between.
func (w *worker) run(stop, measured *atomic.Bool) error {
	last := time.Now()
	for !stop.Load() {
		n, err := w.step(w.src)
		if err != nil {
			return err
		}
		w.units.Add(int64(n))
		now := time.Now()
		if measured.Load() {
			w.latency.record(now.Sub(last))
		}
		last = now
	}
	return nil
}

func closeAll(workers []worker) {
	for i := range workers {
		if workers[i].stepper != nil {
			_ = workers[i].close() // nothing is written that was not answered
		}
	}
}

// pause waits for d, or until a worker failed or ctx ended.
func pause(ctx context.Context, d time.Duration, failed <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-failed:
		return errors.New("a connection failed")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// clocks are the counters at one moment.
type clocks struct {
	at             time.Time
	units          int64
	server, client time.Duration
	busy, total    time.Duration // of the whole machine
}

func readClocks(workers []worker, cpu func() (time.Duration, error)) (clocks, error) {
	c := clocks{}
	var err error
	if c.client, err = ownCPU(); err != nil {
		return c, err
	}
	if cpu == nil {
		c.server, c.client = c.client, 0
	} else if c.server, err = cpu(); err != nil {
		return c, err
	}
	if c.busy, c.total, err = machineCPU(); err != nil {
		return c, err
	}
	c.at = time.Now()
	for i := range workers {
		c.units += workers[i].units.Load()
	}
	return c, nil
}

// fill writes every key once over conns connections. dial gives connections that write.
func fill(ctx context.Context, conns, keys int, dial func(i int) (stepper, *source, error)) error {
	workers := make([]worker, min(conns, keys))
	defer closeAll(workers)
	for i := range workers {
		st, src, err := dial(i)
		if err != nil {
			return err
		}
		src.next, src.stride = i, len(workers)
		workers[i].stepper, workers[i].src = st, src
	}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { workers[i].err = workers[i].drain(ctx, keys) })
	}
	wg.Wait()
	for i := range workers {
		if workers[i].err != nil {
			return fmt.Errorf("fill: %w", workers[i].err)
		}
	}
	return nil
}

func (w *worker) drain(ctx context.Context, keys int) error {
	for w.src.next < keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := w.step(w.src); err != nil {
			return err
		}
	}
	return nil
}
