// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"errors"
	"fmt"
	"time"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
	"github.com/atlas-edge/atlas/internal/invariants"
)

// errStop ends an iteration that found what it looked for.
var errStop = errors.New("stop")

// loop is one event loop: the goroutine of run owns everything in it but the queue.
type loop struct {
	r      *Replicator
	index  int
	queue  *queue
	most   int // groups in memory
	groups map[string]*group
	// newest and oldest end the list of groups by use.
	newest, oldest *group

	// Kept between rounds for their memory.
	taken   []*proposal
	dirty   []*group
	rounds  []*inRound
	scratch command.Command
	record  []byte
}

// inRound is what a group has in the batch at hand.
type inRound struct {
	waiting []waiting
	ready   consensus.Ready
	view    view
	writer  writer
	overlay *command.Overlay
}

// waiting is a proposal that was given a slot.
type waiting struct {
	slot consensus.Slot
	p    *proposal
}

func newLoop(r *Replicator, index, most int) *loop {
	return &loop{r: r, index: index, queue: newQueue(), most: max(most, 1), groups: make(map[string]*group)}
}

// run is the loop's goroutine, owned by the Replicator. It ends when the queue is closed and empty.
func (l *loop) run() {
	evict := time.NewTicker(l.r.opts.GroupIdle)
	defer evict.Stop()
	for {
		select {
		case <-l.queue.wake:
		case <-evict.C:
			l.evictIdle()
			continue
		}
		var finished bool
		l.taken, finished = l.queue.take(l.taken[:0])
		if len(l.taken) > 0 {
			l.round(l.taken)
			clear(l.taken)
		}
		if finished {
			return
		}
	}
}

// round decides the proposals, in order, as one batch.
func (l *loop) round(taken []*proposal) {
	if err := l.r.Err(); err != nil {
		answerAll(taken, fmt.Errorf("%w: the node has stopped: %w", ErrUnavailable, err))
		return
	}
	began := time.Now()
	for _, p := range taken {
		if err := l.propose(p, began.UnixNano()); err != nil {
			l.r.metrics.Refused.Add(1)
			l.r.failIfDamaged(err)
			p.answer(command.Result{}, fmt.Errorf("%w: %w", ErrUnavailable, err))
		}
	}
	if len(l.dirty) == 0 {
		return
	}
	batch := l.r.opts.Store.NewBatch()
	results, err := l.fill(batch)
	if err == nil {
		if err = batch.Commit(true); err != nil {
			err = l.afterFailedCommit(err)
		}
	} else {
		err = l.afterFailedApply(err)
	}
	batch.Close()
	if err != nil {
		l.abandon(err)
	} else {
		l.publish(results)
		l.r.metrics.Batches.Add(1)
		l.r.metrics.BatchNanos.Add(uint64(time.Since(began)))
	}
	l.dirty = l.dirty[:0]
	l.evictSurplus()
}

// propose gives the command a slot in its group's log.
func (l *loop) propose(p *proposal, now int64) error {
	g := l.groups[p.group]
	if g == nil {
		var err error
		if g, err = l.enter(p.group); err != nil {
			return err
		}
	}
	l.use(g, now)
	// The group is in the registry by now: a reader who looked before read an earlier time than this one.
	if g.round == nil {
		g.visible.Store(max(g.visible.Load(), l.r.opts.Clock.Read()))
		g.inFlight.Store(true)
		g.round = l.newRound()
		l.dirty = append(l.dirty, g)
	}
	at, err := l.r.opts.Clock.Now()
	if err != nil {
		return err
	}
	slot, _, err := g.core.Propose(at, consensus.Proposal{Payload: p.payload})
	if errors.Is(err, consensus.ErrNotOwner) {
		if err = g.core.Campaign(consensus.Global); err == nil {
			slot, _, err = g.core.Propose(at, consensus.Proposal{Payload: p.payload})
		}
	}
	if err != nil {
		return fmt.Errorf("group %q: %w", g.name, err)
	}
	g.round.waiting = append(g.round.waiting, waiting{slot: slot, p: p})
	return nil
}

// fill puts what the cores ask for into the batch, applying what they call committed.
func (l *loop) fill(batch *storage.Batch) ([]command.Result, error) {
	var results []command.Result
	for _, g := range l.dirty {
		if !g.core.HasReady() {
			continue // its only proposal was refused
		}
		in := g.round
		in.ready = g.core.Ready()
		// Only a sole voter is driven yet: nothing to send, and what is committed rests on this very batch.
		invariants.Check(in.ready.Atomic && len(in.ready.MsgsNow)+len(in.ready.MsgsAfterSync) == 0,
			"group %q: a core with peers, driven without a transport", g.name)
		if in.ready.Record != nil {
			l.record = in.ready.Record.Append(l.record[:0])
			batch.SetRecord(g.name, l.record)
		}
		in.view = view{store: l.r.opts.Store, g: g}
		in.writer = writer{batch: batch, g: g, changed: in.writer.changed[:0]}
		in.overlay.Reset(&in.view, &in.writer)
		for i := range in.ready.Committed {
			e := &in.ready.Committed[i]
			result, err := command.ApplyEncoded(in.overlay, in.overlay, e.Time, &l.scratch, e.Payload)
			if err != nil {
				return nil, fmt.Errorf("apply slot %d of group %q: %w", e.Slot, g.name, err)
			}
			results = append(results, result)
		}
	}
	return results, nil
}

// publish makes a durable batch visible and answers those who wait, in the order of the slots.
func (l *loop) publish(results []command.Result) {
	for _, g := range l.dirty {
		in := g.round
		if n := len(in.ready.Committed); n > 0 {
			for _, c := range in.writer.changed {
				l.r.opts.Observer.Changing(g.name, c.rest, c.at)
			}
			// Lists first: whoever reads the new data is bound by the grants that came with it.
			g.lists.Store(uint32(listsOf(g.state)))
			g.visible.Store(in.ready.Committed[n-1].Time)
			l.r.opts.Observer.Advanced(g.name)
			l.r.metrics.Commands.Add(uint64(n))
			g.commands.Add(uint64(n))
		}
		next := 0
		for i := range in.ready.Committed {
			if next < len(in.waiting) && in.waiting[next].slot == in.ready.Committed[i].Slot {
				in.waiting[next].p.answer(results[i], nil)
				next++
			}
		}
		invariants.Check(next == len(in.waiting), "group %q: %d of %d proposals were committed", g.name, next, len(in.waiting))
		results = results[len(in.ready.Committed):]
		if in.ready.Record != nil {
			g.core.Advance() // last: what the Ready points to is the core's again
		}
		l.dropRound(g)
	}
}

// afterFailedApply says what it means that commands could not be decided: nothing of the batch was written. A read that failed may
// work again; a state that is damaged never will, and would hold up whatever shares a batch with its group.
func (l *loop) afterFailedApply(err error) error {
	l.r.failIfDamaged(err)
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// afterFailedCommit says what a failed commit means to those who wait.
func (l *loop) afterFailedCommit(err error) error {
	l.r.metrics.Failed.Add(1)
	if errors.Is(err, storage.ErrDiskFull) || errors.Is(err, storage.ErrTooLarge) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	err = fmt.Errorf("commit of a batch: %w", err)
	l.r.fail(err)
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// abandon answers all who wait with err and drops the cores, which have gone further than the disk.
func (l *loop) abandon(err error) {
	for _, g := range l.dirty {
		for _, w := range g.round.waiting {
			w.p.answer(command.Result{}, err)
		}
		l.leave(g)
		l.dropRound(g)
	}
}

func (l *loop) newRound() *inRound {
	if n := len(l.rounds); n > 0 {
		in := l.rounds[n-1]
		l.rounds = l.rounds[:n-1]
		return in
	}
	return &inRound{overlay: command.NewOverlay(nil, nil)}
}

func (l *loop) dropRound(g *group) {
	in := g.round
	g.round = nil
	g.inFlight.Store(false)
	clear(in.waiting)
	in.waiting = in.waiting[:0]
	in.ready = consensus.Ready{}
	clear(in.writer.changed)
	in.writer = writer{changed: in.writer.changed[:0]}
	in.overlay.Reset(nil, nil)
	if len(l.rounds) < batchLenMax {
		l.rounds = append(l.rounds, in)
	}
}

func answerAll(ps []*proposal, err error) {
	for _, p := range ps {
		p.answer(command.Result{}, err)
	}
}
