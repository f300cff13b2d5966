// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/hlc"
	"github.com/atlas-edge/atlas/engine/storage"
)

// advances counts what an Observer was told.
type advances struct {
	mu     sync.Mutex
	groups map[string]int
}

func (a *advances) Changing(string, []byte, Timestamp) {}

func (a *advances) Advanced(group string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.groups[group]++
}

type node struct {
	*Replicator
	store    *storage.Store
	observed *advances
	broken   bool // closing may fail
}

func openNode(t *testing.T, loops int, idle time.Duration) *node {
	t.Helper()
	return openNodeOn(t, vfs.NewMem(), loops, 2, idle)
}

func openNodeOn(t *testing.T, fs vfs.FS, loops, depth int, idle time.Duration) *node {
	t.Helper()
	store, err := storage.Open(storage.Options{Dir: "data", FS: fs, MinFreeBytes: 1 << 20, BallastBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	clock, err := hlc.Open(store, nil, func() (Timestamp, error) { return NewestTime(store) })
	if err != nil {
		t.Fatal(err)
	}
	q, err := quorum.New([]quorum.Voter{{Node: 1, Region: "local"}}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{store: store, observed: &advances{groups: map[string]int{}}}
	n.Replicator, err = New(Options{
		Store: store, Clock: clock, Self: 1, Quorums: q, Cfg: 1, Observer: n.observed, Logger: slog.New(slog.DiscardHandler),
		Failed: func() {}, Loops: loops, Depth: depth, GroupIdle: idle,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.ReadAhead()
	t.Cleanup(func() {
		if err := errors.Join(n.Close(), store.Close()); err != nil && !n.broken {
			t.Error(err)
		}
	})
	return n
}

func put(rest, value string) []byte {
	c := &command.Command{Mutations: []command.Mutation{{Kind: command.Put, Rest: []byte(rest), Value: []byte(value)}}}
	return c.AppendTo(nil)
}

// eventually polls a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond) // sleep: between two looks at a condition with a deadline
	}
}

func TestOnlySoleVoters(t *testing.T) {
	q, err := quorum.New([]quorum.Voter{{Node: 1, Region: "a"}, {Node: 2, Region: "a"}}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Self: 1, Quorums: q, Loops: 1}); err == nil {
		t.Fatal("a node with peers was started without a transport")
	}
}

// TestGroupsComeAndGo proposes to more groups than may be in memory, and reads each one back: groups leave, come again with
// their log, and are read at a time that shows what they hold, in memory or not.
func TestGroupsComeAndGo(t *testing.T) {
	n := openNode(t, 2, time.Hour)
	for _, l := range n.loops {
		l.most = 4
	}
	const groups = 40
	for round := 1; round <= 3; round++ {
		for i := range groups {
			g := fmt.Sprintf("g%d", i)
			result, err := n.Propose(t.Context(), g, put(".k", fmt.Sprint(round)))
			if err != nil || result.Outcome != command.Applied {
				t.Fatalf("round %d group %s: %v %v", round, g, result, err)
			}
			rec, ok, err := n.Record(g)
			if err != nil || !ok || int(rec.Applied) != round {
				t.Fatalf("round %d group %s: record %+v %v %v", round, g, rec, ok, err)
			}
		}
		for i := range groups {
			g := fmt.Sprintf("g%d", i)
			view, err := n.ReadView(g)
			if err != nil {
				t.Fatal(err)
			}
			v, ok, err := n.store.GetAt(g, []byte(".k"), view.At)
			if err != nil || !ok {
				t.Fatalf("round %d group %s: %v %v", round, g, ok, err)
			}
			if b, err := v.Bytes(); err != nil || string(b) != fmt.Sprint(round) {
				t.Fatalf("round %d group %s reads %q, %v", round, g, b, err)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// The surplus leaves after the answer: each loop may hold one more until it gets to it.
		eventually(t, "at most 8 groups in memory", func() bool { return n.GroupsInMemory() <= 8 })
	}
	for i := range groups {
		if got := n.observed.groups[fmt.Sprintf("g%d", i)]; got != 3 {
			t.Fatalf("the observer heard of g%d %d times, want 3", i, got)
		}
	}
	if n.Metrics().GroupEvictions.Load() == 0 {
		t.Fatal("no group left memory: nothing was tested")
	}
}

// TestIdleGroupsLeave: a group without commands for the idle time leaves memory by itself.
func TestIdleGroupsLeave(t *testing.T) {
	n := openNode(t, 1, 5*time.Millisecond)
	if _, err := n.Propose(t.Context(), "g", put(".k", "v")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no group in memory", func() bool { return n.GroupsInMemory() == 0 })
	if result, err := n.Propose(t.Context(), "g", put(".k", "w")); err != nil || result.Outcome != command.Applied {
		t.Fatalf("after it left: %v %v", result, err)
	}
}

// TestGivenUpIsUnknown: one who stops waiting for a command that was handed over is told that its result is not known, and before that
// that it was not applied.
func TestGivenUpIsUnknown(t *testing.T) {
	n := openNode(t, 1, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Propose(ctx, "g", put(".k", "v")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("given up before it was handed over: %v", err)
	}
	if _, ok, err := n.Record("g"); ok || err != nil {
		t.Fatalf("a command that was reported as not applied made a record: %v %v", ok, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Propose(t.Context(), "g", put(".k", "v")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("after closing: %v", err)
	}
}

// TestOneRoundManyCommands: commands of one round see each other's effects in order.
func TestOneRoundManyCommands(t *testing.T) {
	n := openNode(t, 1, time.Hour)
	const writers = 64
	outcomes := make(chan command.Outcome, writers)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			c := &command.Command{
				Conditions: []command.Condition{{Kind: command.Absent, Rest: []byte(".k")}},
				Mutations:  []command.Mutation{{Kind: command.Put, Rest: []byte(".k"), Value: []byte("v")}},
			}
			result, err := n.Propose(t.Context(), "g", c.AppendTo(nil))
			if err != nil {
				t.Error(err)
			}
			outcomes <- result.Outcome
		})
	}
	wg.Wait()
	close(outcomes)
	count := map[command.Outcome]int{}
	for o := range outcomes {
		count[o]++
	}
	if count[command.Applied] != 1 || count[command.Conflict] != writers-1 {
		t.Fatalf("of %d writers that expect absence: %v", writers, count)
	}
}

// A read set that reaches back beyond what is kept is decided by nobody: changes that break it may be gone. The age of its snapshot is
// judged by the commit time, and so says nothing of a command that is applied long after it drew its time.
func TestReadSetBeyondHistory(t *testing.T) {
	n := openNode(t, 1, time.Hour)
	first, err := n.Propose(t.Context(), "g", put(".k", "x"))
	if err != nil {
		t.Fatal(err)
	}
	c := command.Command{
		Mutations: []command.Mutation{{Kind: command.Put, Rest: []byte(".k"), Value: []byte("y")}},
		Reads:     &command.ReadSet{Snapshot: first.Version, Ranges: []command.Range{{Lower: []byte(".")}}},
	}
	swept := func(at Timestamp) {
		if err := n.store.SetSweptTo(at); err != nil {
			t.Fatal(err)
		}
	}
	swept(first.Version)
	last, err := n.Propose(t.Context(), "g", c.AppendTo(nil))
	if err != nil || last.Outcome != command.Applied {
		t.Fatalf("with all changes kept: %+v %v", last, err)
	}
	c.Reads.Snapshot = last.Version
	swept(last.Version + 1)
	if result, err := n.Propose(t.Context(), "g", c.AppendTo(nil)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("with changes gone: %+v %v", result, err)
	}
	if v, ok, err := n.store.Latest("g", []byte(".k")); err != nil || !ok || v.Time != last.Version {
		t.Fatalf("the key is at %d: %v %v", v.Time, ok, err)
	}
	if err := n.Err(); err != nil {
		t.Fatal(err)
	}
}
