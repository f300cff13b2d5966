// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
)

// ReadView is how a group is to be read.
type ReadView struct {
	// At is the time to read at.
	At Timestamp
	// Now is the time to judge by what has expired: what expires at or before it is gone. It is not before At, and every command that
	// is not visible at At will have had a time at or after it. So nobody finds a value gone that a command then finds there, and renews.
	Now Timestamp
	// TableLists and KeyLists say whether the group has lists of grants on tables and on keys.
	TableLists, KeyLists bool
}

// lists is a set of bits: which kinds of lists of grants a group has.
type lists uint32

const (
	listsOfTables lists = 1 << iota
	listsOfKeys
)

func listsOf(s command.GroupState) lists {
	var l lists
	if s.TableLists > 0 {
		l |= listsOfTables
	}
	if s.KeyLists > 0 {
		l |= listsOfKeys
	}
	return l
}

func (l lists) view(at, now Timestamp) ReadView {
	return ReadView{At: at, Now: max(at, now), TableLists: l&listsOfTables != 0, KeyLists: l&listsOfKeys != 0}
}

// registry is where readers find the groups that are in memory, and what they need of those that are not.
type registry struct {
	store  *storage.Store
	seed   maphash.Seed
	count  atomic.Int64
	shards [64]registryShard
}

type registryShard struct {
	mu     sync.RWMutex
	groups map[string]*group
	// cold remembers the lists of groups that are not in memory; they cannot change while the group stays out of it.
	cold map[string]lists
	// entered counts the groups that came in, so that a reader does not store in cold what it read before one did.
	entered uint64
}

func newRegistry(store *storage.Store) *registry {
	r := &registry{store: store, seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].groups = make(map[string]*group)
		r.shards[i].cold = make(map[string]lists)
	}
	return r
}

func (r *registry) shard(name string) *registryShard {
	return &r.shards[maphash.String(r.seed, name)%uint64(len(r.shards))]
}

func (r *registry) len() int { return int(r.count.Load()) }

// enter makes the group known to readers. Only the loop that owns the name may call it.
func (r *registry) enter(g *group) {
	s := r.shard(g.name)
	s.mu.Lock()
	s.groups[g.name] = g
	delete(s.cold, g.name)
	s.entered++
	s.mu.Unlock()
	r.count.Add(1)
}

// leave forgets the group. Requires: all that it wrote is durable, or was never written.
func (r *registry) leave(g *group) {
	s := r.shard(g.name)
	s.mu.Lock()
	delete(s.groups, g.name)
	s.mu.Unlock()
	r.count.Add(-1)
}

func (r *registry) find(name string) *group {
	s := r.shard(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.groups[name]
}

// view is ReadView for a reader that read the clock before, first by Wall and then by Read.
func (r *registry) view(name string, wall, now Timestamp) (ReadView, error) {
	s := r.shard(name)
	s.mu.RLock()
	g := s.groups[name]
	cold, known := s.cold[name]
	entered := s.entered
	s.mu.RUnlock()
	if g != nil {
		g.reads.Add(1)
		began := g.began.Load() // before inFlight, so that what it stands for is visible or under way
		// Without a round under way, all that was drawn is durable, and every time yet to be drawn is above the clock reading that the caller came with.
		idle := g.inFlight.Load() == 0
		at := g.visible.Load()
		if !idle {
			return lists(g.lists.Load()).view(at, began), nil
		}
		return lists(g.lists.Load()).view(max(at, now), wall), nil
	}
	if known {
		return cold.view(now, wall), nil
	}
	state, err := loadState(r.store, name)
	if err != nil {
		return ReadView{}, err
	}
	l := listsOf(state)
	s.mu.Lock()
	if s.entered == entered {
		if len(s.cold) >= coldMax {
			clear(s.cold)
		}
		s.cold[name] = l
	}
	s.mu.Unlock()
	return l.view(now, wall), nil
}

// loadState reads what Apply keeps about a group as a whole.
func loadState(store *storage.Store, name string) (command.GroupState, error) {
	raw, _, err := store.State(name, command.StateName)
	if err != nil {
		return command.GroupState{}, fmt.Errorf("state of group %q: %w", name, err)
	}
	state, err := command.DecodeGroupState(raw)
	if err != nil {
		return command.GroupState{}, damage(fmt.Errorf("state of group %q: %w", name, err))
	}
	return state, nil
}
