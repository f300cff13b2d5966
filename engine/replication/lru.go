// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"time"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/command"
)

// lru is a list of groups by use: newest ... oldest. Its methods are its only writers, and a loop's run alone calls them.
type lru struct {
	newest, oldest *group
	len            int
}

func (l *lru) push(g *group) {
	g.list, g.older, g.newer = l, l.newest, nil
	if l.newest != nil {
		l.newest.newer = g
	}
	l.newest = g
	if l.oldest == nil {
		l.oldest = g
	}
	l.len++
}

func (l *lru) remove(g *group) {
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		l.newest = g.older
	}
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		l.oldest = g.newer
	}
	g.list, g.newer, g.older = nil, nil, nil
	l.len--
}

// listOf is the list that the group belongs to. To bring a light one in again asks the disk for nothing, so that few of them are kept:
// what is used again and again in between stays in the processor's caches.
func (l *loop) listOf(g *group) *lru {
	if g.state == (command.GroupState{}) {
		return &l.light
	}
	return &l.heavy
}

// enter brings a group into memory, at the newest end.
func (l *loop) enter(name string, shard *registryShard, hash uint64) (*group, error) {
	g, err := l.load(name, shard, hash)
	if err != nil {
		return nil, err
	}
	l.listOf(g).push(g)
	l.r.registry.enter(g)
	l.r.metrics.GroupLoads.Add(1)
	return g, nil
}

// leave takes a group out of memory, and parks it if the disk holds what its core says. Requires: it has no part in a round that is not
// told yet, other than one that was not committed: if its core did anything in that, it has a Ready out or one to give, and is not parked.
func (l *loop) leave(g *group) {
	g.list.remove(g)
	rec, known := g.core.Stored()
	at := stored{record: rec, small: g.small}
	l.r.registry.leave(g, &at, known && g.state == (command.GroupState{}))
	l.r.metrics.GroupEvictions.Add(1)
	if known && len(l.spare) < spareCoresMax { // else it holds proposals, which may be large
		l.spare = append(l.spare, g.core)
	}
	g.core = nil
}

// spareCore gives a core to be renewed: one that a group has left behind, or a new one.
func (l *loop) spareCore() *consensus.Core {
	n := len(l.spare) - 1
	if n < 0 {
		return new(consensus.Core)
	}
	core := l.spare[n]
	l.spare[n], l.spare = nil, l.spare[:n]
	return core
}

// use moves the group to the newest end.
func (l *loop) use(g *group, now int64) {
	g.usedAt = now
	if list := l.listOf(g); g.list != list || list.newest != g {
		g.list.remove(g)
		list.push(g)
	}
}

// evictIdle takes groups out that were not used for GroupIdle.
func (l *loop) evictIdle() {
	limit := time.Now().Add(-l.r.opts.GroupIdle).UnixNano()
	for _, list := range []*lru{&l.light, &l.heavy} {
		for list.oldest != nil && list.oldest.usedAt < limit && list.oldest.inFlight.Load() == 0 {
			l.leave(list.oldest)
		}
	}
}

// evictSurplus takes the longest unused groups out while there are too many: of the light ones, or of both.
func (l *loop) evictSurplus() {
	for l.light.len > l.mostLight || l.light.len+l.heavy.len > l.most {
		g := l.light.oldest
		if h := l.heavy.oldest; l.light.len <= l.mostLight && h != nil && (g == nil || h.usedAt < g.usedAt) {
			g = h
		}
		if g.inFlight.Load() > 0 {
			l.drain(0) // only where the rounds under way have more groups than may be in memory
		}
		l.leave(g)
	}
}
