// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"runtime"
	"testing"
)

// BenchmarkThreeVoters is one command through three cores in one goroutine, with no disk and no network, in batches of so
// many commands a Ready: what the state machine itself costs.
func BenchmarkThreeVoters(b *testing.B) {
	for _, batch := range []int{1, 16, 256} {
		b.Run(map[int]string{1: "batch=1", 16: "batch=16", 256: "batch=256"}[batch], func(b *testing.B) {
			w := newBenchWorld(b)
			payload := make([]byte, 100)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i++ {
				if _, _, err := w.cores[0].Propose(Timestamp(i), Proposal{Payload: payload}); err != nil {
					b.Fatal(err)
				}
				if i%batch == batch-1 {
					w.run(b)
				}
			}
			w.run(b)
			if st := w.cores[0].Status(); st.Applied != Slot(b.N) {
				b.Fatalf("%d proposed, status %+v", b.N, st)
			}
		})
	}
}

type benchWorld struct {
	cores []*Core
	net   []Message
	sent  func(*Message) // unless nil
}

func newBenchWorld(b *testing.B) *benchWorld {
	q := layout([]int{3}, 1, 0)
	w := &benchWorld{}
	for i := range 3 {
		c, err := New(Options{Self: NodeID(i + 1), Configurations: configs(0, q), Log: noLog{b}})
		if err != nil {
			b.Fatal(err)
		}
		w.cores = append(w.cores, c)
	}
	if err := w.cores[0].Campaign(Global); err != nil {
		b.Fatal(err)
	}
	w.run(b)
	if st := w.cores[0].Status(); st.State != Serving {
		b.Fatalf("status %+v", st)
	}
	return w
}

type noLog struct{ b testing.TB }

func (n noLog) Entries(lo, hi Slot, _ int) ([]Entry, error) {
	n.b.Fatalf("slots %d..%d read from disk", lo, hi)
	return nil, nil
}

// run goes on until nothing is left to do.
func (w *benchWorld) run(b *testing.B) {
	for more := true; more; {
		more = false
		for _, c := range w.cores {
			for c.HasReady() {
				more = true
				r := c.Ready()
				w.net = append(append(w.net, r.MsgsNow...), r.MsgsAfterSync...)
				c.Advance()
			}
		}
		for _, m := range w.net {
			if w.sent != nil {
				w.sent(&m)
			}
			if err := w.cores[m.To-1].Step(m); err != nil {
				b.Fatal(err)
			}
		}
		w.net = w.net[:0]
	}
}

// BenchmarkStep is one steady-state message with one command of 100 bytes: an Accept through an acceptor's Step, Ready and
// Advance, and a Propose, Ready, Advance and the Accepted of one peer through an owner.
func BenchmarkStep(b *testing.B) {
	payload := make([]byte, 100)
	b.Run("Accept", func(b *testing.B) {
		w := newBenchWorld(b)
		owner, a := w.cores[0], w.cores[1]
		b.ReportAllocs()
		var queue []Message
		for i := 0; i < b.N; i++ {
			if len(queue) == 0 {
				b.StopTimer()
				for n := range 512 {
					if _, _, err := owner.Propose(Timestamp(n), Proposal{Payload: payload}); err != nil {
						b.Fatal(err)
					}
					for _, m := range owner.Ready().MsgsNow {
						if m.To == 2 && len(m.Entries) > 0 {
							queue = append(queue, m)
						}
					}
					owner.Advance()
					// Its own ack and node 3's are a Q2: node 2 may lag.
					m := Message{Type: Accepted, From: 3, To: 1, Ballot: owner.ballot, Slot: owner.rec.Last, Commit: owner.rec.Commit}
					if err := owner.Step(m); err != nil {
						b.Fatal(err)
					}
					m.From = 2
					if err := owner.Step(m); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
			}
			if err := a.Step(queue[0]); err != nil {
				b.Fatal(err)
			}
			queue = queue[1:]
			a.Ready()
			a.Advance()
		}
	})
	b.Run("Accepted", func(b *testing.B) {
		c := newBenchWorld(b).cores[0]
		b.ReportAllocs()
		for i := 0; i < b.N; i++ {
			slot, _, err := c.Propose(Timestamp(i), Proposal{Payload: payload})
			if err != nil {
				b.Fatal(err)
			}
			c.Ready()
			c.Advance()
			m := Message{Type: Accepted, From: NodeID(2 + i%2), To: 1, Ballot: c.ballot, Slot: slot, Commit: c.rec.Commit}
			if err := c.Step(m); err != nil {
				b.Fatal(err)
			}
			if m.From = 5 - m.From; i%64 == 63 {
				if err := c.Step(m); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkWire is the bytes of all messages that replicate one command of 100 bytes to two peers, with so many commands a
// Ready, as the codec writes them: Accepts and what answers them.
func BenchmarkWire(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run(map[int]string{1: "batch=1", 64: "batch=64"}[batch], func(b *testing.B) {
			w := newBenchWorld(b)
			payload := make([]byte, 100)
			bytes, commands := 0, 0
			w.sent = func(m *Message) { bytes += len(m.AppendTo(nil)) }
			for b.Loop() {
				for range batch {
					if _, _, err := w.cores[0].Propose(1_700_000_000_000_000_000, Proposal{Payload: payload, Session: 1 << 40, Seq: uint64(commands + 1)}); err != nil {
						b.Fatal(err)
					}
					commands++
				}
				w.run(b)
			}
			b.ReportMetric(float64(bytes)/float64(commands), "wire-B/command")
		})
	}
}

// BenchmarkMemory is the heap of a group in memory: one that is idle at a follower, and one that is owned, with three voters.
func BenchmarkMemory(b *testing.B) {
	measure := func(b *testing.B, of func() []*Core) {
		var before, after runtime.MemStats
		for b.Loop() {
			var kept [][]*Core
			runtime.GC()
			runtime.ReadMemStats(&before)
			for range 1000 {
				kept = append(kept, of())
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(kept)*len(kept[0])), "heap-B/group")
			runtime.KeepAlive(kept)
		}
	}
	owned := func() *benchWorld { return newBenchWorld(b) }
	b.Run("owner", func(b *testing.B) {
		measure(b, func() []*Core { return []*Core{owned().cores[0]} })
	})
	b.Run("follower", func(b *testing.B) {
		measure(b, func() []*Core { return []*Core{owned().cores[1]} })
	})
	b.Run("sole", func(b *testing.B) {
		list := configs(0, soleConfig(b))
		measure(b, func() []*Core {
			c, err := New(Options{Self: 7, Configurations: list})
			if err != nil {
				b.Fatal(err)
			}
			return []*Core{c}
		})
	})
}
