// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
)

// loadedGroup is a group of TestParkedUnderLoad, and what those who wrote to it were told.
type loadedGroup struct {
	name    string
	kind    int           // 0 gets write-once keys, 1 grants that go and come, 2 grants that stay, the others no state
	slots   atomic.Uint64 // that were decided, with a refusal too
	newest  atomic.Uint64 // version that was acknowledged
	granted atomic.Bool   // and of kind 2
}

// write proposes something and notes the answer.
func (g *loadedGroup) write(n *node, rng *rand.Rand) error {
	c := command.Command{System: true, Mutations: []command.Mutation{{Kind: command.Put, Rest: []byte(".k"), Value: []byte("v")}}}
	m := &c.Mutations[0]
	switch dice := rng.IntN(12); {
	case dice == 0:
		c.Conditions = []command.Condition{{Kind: command.VersionIs, Rest: []byte(".k"), Version: 1}} // never
	case dice == 1 && g.kind == 0:
		m.Rest, m.WormTTL = fmt.Appendf(nil, ".w%d", rng.Uint64()), time.Hour
	case dice <= 2 && (g.kind == 1 || g.kind == 2):
		*m = command.Mutation{Kind: command.Grant, Object: authz.KindTable, Perms: authz.PermOwner, Principal: "p"}
	case dice <= 4 && g.kind == 1:
		*m = command.Mutation{Kind: command.ResetGrants, Object: authz.KindTable}
	}
	result, err := n.Propose(context.Background(), g.name, c.AppendTo(nil))
	switch {
	case errors.Is(err, ErrUnavailable): // the disk was full: it has no slot
		time.Sleep(time.Millisecond) // sleep: so that the disk is still full for others
		return nil
	case err != nil:
		return err
	case len(c.Conditions) == 0 && result.Outcome != command.Applied:
		return fmt.Errorf("group %q: %v", g.name, result)
	}
	g.slots.Add(1)
	if m.Kind == command.Grant && g.kind == 2 {
		g.granted.Store(true)
	}
	for at := g.newest.Load(); at < result.Version && !g.newest.CompareAndSwap(at, result.Version); {
		at = g.newest.Load()
	}
	return nil
}

// read holds what a reader is given against what was acknowledged before.
func (g *loadedGroup) read(n *node) error {
	newest, granted := g.newest.Load(), g.granted.Load()
	v, err := n.ReadView(g.name)
	if err != nil {
		return err
	}
	if v.At < newest || granted && !v.TableLists || v.TableLists && g.kind != 1 && g.kind != 2 || v.KeyLists {
		return fmt.Errorf("group %q, newest %d, grants %v: read as %+v", g.name, newest, granted, v)
	}
	return nil
}

// check holds what the disk has of the group against what was acknowledged, and what is remembered against the disk. Requires: nothing
// is under way.
func (g *loadedGroup) check(n *node) (parked bool, err error) {
	onDisk, err := loadRecord(n.opts.Store, g.name)
	if err != nil {
		return false, err
	}
	if rec := &onDisk.record; rec.Last != consensus.Slot(g.slots.Load()) || rec.LastTime < g.newest.Load() {
		return false, fmt.Errorf("group %q: the disk holds %+v, %d were decided, the last at %d", g.name, rec, g.slots.Load(), g.newest.Load())
	}
	state, err := loadState(n.opts.Store, g.name)
	if err != nil {
		return false, err
	}
	view, err := n.ReadView(g.name)
	if err != nil {
		return false, err
	}
	if want := listsOf(state).view(view.At, view.Now); view != want {
		return false, fmt.Errorf("group %q: read as %+v, want %+v", g.name, view, want)
	}
	rec, parked := n.registry.recordOf(g.name)
	if parked = parked && n.registry.find(g.name) == nil; parked && (rec != onDisk || state != (command.GroupState{})) {
		err = fmt.Errorf("group %q is parked as %+v, the disk holds %+v, state %+v", g.name, rec, onDisk, state)
	}
	return parked, err
}

// TestParkedUnderLoad writes to many more groups than may be in memory, from several goroutines at a time, while they are read ahead, the
// disk is full now and then, and there is room for few to be remembered; reads them too; and starts again. Whatever is acknowledged is
// there and in its order, no reader is given a time before it or lists that are not the group's, and what is parked is what the disk holds.
func TestParkedUnderLoad(t *testing.T) {
	const starts, writers, writes = 4, 8, 300
	seed := rand.Uint64()
	t.Logf("seed %d, of which all is drawn but the order of the goroutines", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	groups := make([]*loadedGroup, 500)
	for i := range groups {
		name := fmt.Sprintf("%d%s", i, strings.Repeat("n", rng.IntN(storage.GroupLenMax-3)))
		groups[i] = &loadedGroup{name: name, kind: rng.IntN(12)}
	}
	fs := newHoldFS()
	var parked, evictions, refused uint64
	for start := range starts {
		n := openNodeOn(t, fs, 2, 1+rng.IntN(depthMax), time.Hour)
		for _, l := range n.loops {
			l.most = 1 + rng.IntN(20)
		}
		few := start%3 == 2 // have room to be remembered
		if few {
			n.registry.bound()
		}
		var all sync.WaitGroup
		var left atomic.Int32 // writers
		left.Store(writers)
		for range writers {
			rng := rand.New(rand.NewPCG(rng.Uint64(), 2))
			all.Go(func() {
				defer left.Add(-1)
				for range writes {
					g := groups[min(rng.IntN(len(groups)), rng.IntN(len(groups)))]
					if few && rng.IntN(20) == 0 {
						n.registry.turn(g.name, rng)
					}
					if err := errors.Join(g.write(n, rng), g.read(n), groups[rng.IntN(len(groups))].read(n)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for start%2 == 1 && left.Load() > 0 { // the store looks at it every 100 ms
			fs.free.Store(0)
			before := n.Metrics().Failed.Load()
			eventually(t, "a full disk", func() bool { return n.Metrics().Failed.Load() > before+2 || left.Load() == 0 })
			fs.free.Store(1 << 40)
			before = n.Metrics().Commands.Load()
			eventually(t, "room", func() bool { return n.Metrics().Commands.Load() > before+20 || left.Load() == 0 })
		}
		all.Wait()
		refused += n.Metrics().Failed.Load()
		evictions += n.Metrics().GroupEvictions.Load()
		if err := n.Close(); err != nil { // the loops end; what they know stays
			t.Fatal(err)
		}
		for _, g := range groups {
			known, err := g.check(n)
			if err != nil {
				t.Fatal(err)
			}
			if known {
				parked++
			}
		}
		if err := n.store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d parked, %d evictions, %d batches refused", parked, evictions, refused)
	if parked == 0 || evictions == 0 || refused == 0 {
		t.Fatal("something never happened: nothing was tested")
	}
}
