// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
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

type noLog struct{ b *testing.B }

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
			if err := w.cores[m.To-1].Step(m); err != nil {
				b.Fatal(err)
			}
		}
		w.net = w.net[:0]
	}
}
