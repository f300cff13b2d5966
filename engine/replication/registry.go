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
	memory arena // of what is parked
	count  atomic.Int64
	shards [registryShards]registryShard
}

const registryShards = 64

type registryShard struct {
	index int
	mu    sync.RWMutex
	// groups are written by the run of one loop, with mu held: it reads them without.
	groups map[string]*group
	// parked and cold remember groups that are not in memory: those that are written, and the lists of those that are read. Neither can
	// change while the group stays out of it.
	parked parked
	cold   map[string]lists
	// entered counts the groups that came in, so that a reader does not store in cold what it read before one did.
	entered uint64
}

func newRegistry(store *storage.Store) *registry {
	r := &registry{store: store, seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].index = i
		r.shards[i].groups = make(map[string]*group)
		r.shards[i].cold = make(map[string]lists)
		r.shards[i].parked = newParked(r.seed, parkedBytesMax/registryShards, &r.memory)
	}
	return r
}

// shard gives the shard of a name, and the name's hash within it.
func (r *registry) shard(name string) (*registryShard, uint64) {
	h := maphash.String(r.seed, name)
	return &r.shards[h%registryShards], parkedHash(h)
}

func (r *registry) len() int { return int(r.count.Load()) }

// enter makes the group known to readers. Only the loop that owns the name may call it.
func (r *registry) enter(g *group) {
	s := g.shard
	s.mu.Lock()
	s.groups[g.name] = g
	delete(s.cold, g.name)
	s.entered++
	s.mu.Unlock()
	r.count.Add(1)
}

// leave forgets the group, but for at if park is true. Requires: all that it wrote is durable, or was never written; if park is true the
// disk holds that of it, and no state.
func (r *registry) leave(g *group, at *stored, park bool) {
	s := g.shard
	s.mu.Lock()
	delete(s.groups, g.name)
	if park {
		s.parked.put(g.name, g.hash, at, g.entry)
	} else {
		s.parked.forget(g.name, g.hash)
	}
	s.mu.Unlock()
	r.count.Add(-1)
}

// carries says whether versions of the group may carry stamps that are later than its record.
func (r *registry) carries(name string) bool {
	s, hash := r.shard(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.groups[name] != nil {
		return true
	}
	at, _, known := s.parked.find(name, hash)
	return !known || at.small.Carried > 0
}

// parkedLen is the number of groups of which a record is parked, in memory or not.
func (r *registry) parkedLen() (n int) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		n += s.parked.known()
		s.mu.RUnlock()
	}
	return n
}

func (r *registry) find(name string) *group {
	s, _ := r.shard(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.groups[name]
}

// record gives what is stored of a group that is not in memory and has no state, and where that is noted; false if the disk must be asked.
func (s *registryShard) record(name string, hash uint64) (stored, parkedEntry, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.parked.find(name, hash)
}

// offer notes what was read of a group without state some time ago, unless it has been in memory since. False if there is no room, or
// something was forgotten for want of it, so that this cannot be known: more need not be offered.
func (r *registry) offer(name string, at *stored) bool {
	s, hash := r.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parked.lost || !s.parked.room(name) {
		return false
	}
	if s.groups[name] == nil && !s.parked.has(name, hash) {
		s.parked.put(name, hash, at, parkedEntry{})
	}
	return true
}

// view is ReadView for a reader that read the clock before, first by Wall and then by Read.
func (r *registry) view(name string, wall, now Timestamp) (ReadView, error) {
	s, hash := r.shard(name)
	s.mu.RLock()
	g := s.groups[name]
	cold, known := s.cold[name]
	if g == nil && !known {
		known = s.parked.knows(name, hash) // has no lists
	}
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
