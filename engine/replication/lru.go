// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"time"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/command"
)

// The groups of a loop form a list by use: newest ... oldest. These methods are its only writers.

// enter brings a group into memory, at the newest end.
func (l *loop) enter(name string, shard *registryShard, hash uint64) (*group, error) {
	g, err := l.load(name, shard, hash)
	if err != nil {
		return nil, err
	}
	l.groups++
	l.push(g)
	l.r.registry.enter(g)
	l.r.metrics.GroupLoads.Add(1)
	return g, nil
}

// leave takes a group out of memory, and parks it if the disk holds what its core says. Requires: it has no part in a round that is not
// told yet, other than one that was not committed: if its core did anything in that, it has a Ready out or one to give, and is not parked.
func (l *loop) leave(g *group) {
	l.unlink(g)
	l.groups--
	rec, known := g.core.Stored()
	at := stored{record: rec, small: g.small}
	l.r.registry.leave(g, &at, known && g.state == (command.GroupState{}))
	l.r.metrics.GroupEvictions.Add(1)
	if len(l.spare) < spareCoresMax {
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
	if l.newest != g {
		l.unlink(g)
		l.push(g)
	}
}

func (l *loop) push(g *group) {
	g.older, g.newer = l.newest, nil
	if l.newest != nil {
		l.newest.newer = g
	}
	l.newest = g
	if l.oldest == nil {
		l.oldest = g
	}
}

func (l *loop) unlink(g *group) {
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
	g.newer, g.older = nil, nil
}

// evictIdle takes groups out that were not used for GroupIdle.
func (l *loop) evictIdle() {
	limit := time.Now().Add(-l.r.opts.GroupIdle).UnixNano()
	for l.oldest != nil && l.oldest.usedAt < limit && l.oldest.inFlight.Load() == 0 {
		l.leave(l.oldest)
	}
}

// evictSurplus takes the longest unused groups out while there are too many.
func (l *loop) evictSurplus() {
	for l.groups > l.most {
		if l.oldest.inFlight.Load() > 0 {
			l.drain(0) // only where the rounds under way have more groups than may be in memory
		}
		l.leave(l.oldest)
	}
}
