// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"errors"
	"fmt"
	"time"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
	"github.com/atlas-edge/atlas/internal/failpoint"
	"github.com/atlas-edge/atlas/internal/invariants"
)

// errStop ends an iteration that found what it looked for.
var errStop = errors.New("stop")

// loop is one event loop. It is two goroutines: run decides, and publish tells.
//
//	queue -> run: propose, apply, CommitLater, Advance -> flights -> publish: Wait, visible, answers -> free -> run
//
// A round is in one flight from its first proposal until it is told, and run takes no proposals before it has a free one, so that
// Options.Depth rounds are under way at most. With more than one, what run decides may rest on rounds that are applied and not
// durable: a crash keeps a beginning of the rounds, and publish tells of none before those before it. run owns the groups, but
// for their atomics, and everything here but the channels; a flight belongs to whom it was handed to.
type loop struct {
	r     *Replicator
	index int
	queue *queue
	// light and heavy list the groups in memory, which the registry's shards hold: at most so many, and so many light ones.
	light, heavy    lru
	most, mostLight int

	flights chan *flight // from run to publish, in order
	free    chan *flight // those that hold no round

	// Kept between rounds for their memory.
	taken   []*proposal
	scratch command.Command
	record  []byte
	overlay *command.Overlay
	view    view
	writer  writer
	spare   []*consensus.Core // see spareCore
	shapes  shapes
}

// flight is one round on its way: a batch, and what is told once that is durable.
type flight struct {
	batch *storage.Batch
	began time.Time
	dirty []*inRound // a prefix of rounds
	// rounds are kept for their memory.
	rounds []*inRound
}

// inRound is what a group has in a round.
type inRound struct {
	g       *group
	waiting []waiting
	changed []change
	ready   consensus.Ready // of run, until Advance
	// What publish makes known.
	commands int
	lastTime Timestamp
	lists    lists
}

// waiting is a proposal that was given a slot, and its result once it is applied.
type waiting struct {
	slot   consensus.Slot
	p      *proposal
	result command.Result
}

func newLoop(r *Replicator, index, most, mostLight int) *loop {
	l := &loop{
		r: r, index: index, queue: newQueue(), most: max(most, 1), mostLight: max(mostLight, 1),
		flights: make(chan *flight, r.opts.Depth), free: make(chan *flight, r.opts.Depth), overlay: command.NewOverlay(nil, nil),
	}
	for range r.opts.Depth {
		l.free <- new(flight)
	}
	return l
}

// run is the goroutine that decides, owned by the Replicator. It ends when the queue is closed and empty, and publish after it.
func (l *loop) run() {
	defer close(l.flights)
	evict := time.NewTicker(l.r.opts.GroupIdle)
	defer evict.Stop()
	for {
		select {
		case <-l.queue.wake:
		case <-evict.C:
			l.evictIdle()
			continue
		}
		f := <-l.free // taken before the proposals: what comes while all are under way is one round
		var finished bool
		l.taken, finished = l.queue.take(l.taken[:0])
		if !l.round(f, l.taken) {
			l.free <- f
		}
		clear(l.taken)
		if finished {
			return
		}
	}
}

// publish is the goroutine that tells, owned by the Replicator.
func (l *loop) publish() {
	for f := range l.flights {
		if failpoint.Enabled(failpoint.ReplicationTellBeforeSync) {
			l.tell(f)
		}
		if err := f.batch.Wait(); err != nil {
			l.abandon(f, l.afterFailedCommit(err))
		} else {
			l.tell(f)
			l.r.metrics.Batches.Add(1)
			l.r.metrics.BatchNanos.Add(uint64(time.Since(f.began)))
		}
		f.batch.Close()
		f.batch = nil
		l.free <- f
	}
}

// drain waits until every round is told but the one that run holds: held is 1 if it holds one, else 0.
func (l *loop) drain(held int) {
	others := make([]*flight, cap(l.free)-held)
	for i := range others {
		others[i] = <-l.free
	}
	for _, f := range others {
		l.free <- f
	}
}

// round decides the proposals, in order, as one batch, and hands it to publish; false if there is nothing for it to do.
func (l *loop) round(f *flight, taken []*proposal) bool {
	if err := l.r.Err(); err != nil {
		answerAll(taken, fmt.Errorf("%w: the node has stopped: %w", ErrUnavailable, err))
		return false
	}
	f.began = time.Now()
	for _, p := range taken {
		if err := l.propose(f, p, f.began.UnixNano()); err != nil {
			l.r.metrics.Refused.Add(1)
			l.r.FailIfDamaged(err)
			p.answer(command.Result{}, fmt.Errorf("%w: %w", ErrUnavailable, err))
		}
	}
	if len(f.dirty) == 0 {
		return false
	}
	f.batch = l.r.opts.Store.NewBatch()
	err := l.fill(f)
	if err != nil {
		err = l.afterFailedApply(err)
	} else if err = f.batch.CommitLater(); err != nil {
		err = l.afterFailedCommit(err)
	}
	if err != nil {
		l.drop(f, err)
		return false
	}
	for _, in := range f.dirty {
		in.g.round = nil
		if in.ready.Record != nil {
			in.g.core.Advance() // what the Ready points to is the core's again
		}
		if err := in.g.core.Err(); err != nil {
			l.r.fail(fmt.Errorf("group %q: %w", in.g.name, err)) // nobody can know what its state is
		}
		in.ready = consensus.Ready{}
	}
	l.flights <- f // has room for all there are
	l.evictSurplus()
	return true
}

// propose gives the command a slot in its group's log.
func (l *loop) propose(f *flight, p *proposal, now int64) error {
	g := p.shard.groups[p.group] // without its mutex: this loop alone writes them
	if g == nil {
		var err error
		if g, err = l.enter(p.group, p.shard, p.hash); err != nil {
			return err
		}
	}
	l.use(g, now)
	if g.round == nil {
		g.round = f.add(g)
		g.begin(l.r.opts.Clock)
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
func (l *loop) fill(f *flight) error {
	var newest Timestamp
	for _, in := range f.dirty {
		g := in.g
		if !g.core.HasReady() {
			continue // its only proposal was refused
		}
		in.ready = g.core.Ready()
		// Only a sole voter is driven yet: nothing to send, and what is committed rests on this very batch.
		invariants.Check(in.ready.Atomic && len(in.ready.MsgsNow)+len(in.ready.MsgsAfterSync) == 0,
			"group %q: a core with peers, driven without a transport", g.name)
		if err := l.apply(f.batch, in); err != nil {
			return err
		}
		newest = max(newest, in.lastTime)
	}
	if newest > 0 {
		f.batch.SetNewest(l.index, newest)
	}
	return nil
}

// apply decides what is committed, in order, writes the acceptor record, and notes what is to be told of it.
func (l *loop) apply(batch *storage.Batch, in *inRound) error {
	w := &l.writer
	*w = writer{batch: batch, g: in.g, changed: in.changed}
	l.view = view{store: l.r.opts.Store, g: in.g}
	l.overlay.Reset(&l.view, w)
	defer func() {
		l.overlay.Reset(nil, nil)
		l.view, l.writer = view{}, writer{}
	}()
	next := 0
	for i := range in.ready.Committed {
		e := &in.ready.Committed[i]
		result, err := command.ApplyEncoded(l.overlay, l.overlay, e.Time, &l.scratch, e.Payload)
		if err != nil {
			return fmt.Errorf("apply slot %d of group %q: %w", e.Slot, in.g.name, err)
		}
		if next < len(in.waiting) && in.waiting[next].slot == e.Slot {
			in.waiting[next].result = result
			next++
		}
		in.lastTime = e.Time
	}
	invariants.Check(next == len(in.waiting), "group %q: %d of %d proposals were committed", in.g.name, next, len(in.waiting))
	if err := l.settle(in, w); err != nil {
		return fmt.Errorf("record of group %q: %w", in.g.name, err)
	}
	in.commands, in.changed, in.lists = len(in.ready.Committed), w.changed, listsOf(in.g.state)
	return nil
}

// tell makes a durable round visible and answers those who wait, in the order of the slots.
func (l *loop) tell(f *flight) {
	for _, in := range f.dirty {
		g := in.g
		if in.commands > 0 {
			for _, c := range in.changed {
				l.r.opts.Observer.Changing(g.name, c.rest, c.at)
			}
			// Lists first: whoever reads the new data is bound by the grants that came with it.
			g.lists.Store(uint32(in.lists))
			g.visible.Store(in.lastTime)
			l.r.opts.Observer.Advanced(g.name)
			l.r.metrics.Commands.Add(uint64(in.commands))
			g.commands.Add(uint64(in.commands))
		}
		g.inFlight.Add(-1) // first: for who was answered, the group's time goes on
		for i := range in.waiting {
			in.waiting[i].p.answer(in.waiting[i].result, nil)
		}
	}
	f.clear()
}

// afterFailedApply says what it means that commands could not be decided: nothing of the batch was written. A read that failed may
// work again; a state that is damaged never will, and would hold up whatever shares a batch with its group.
func (l *loop) afterFailedApply(err error) error {
	l.r.FailIfDamaged(err)
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

// abandon answers all who wait for a round with err.
func (l *loop) abandon(f *flight, err error) {
	for _, in := range f.dirty {
		in.g.inFlight.Add(-1)
		for i := range in.waiting {
			in.waiting[i].p.answer(command.Result{}, err)
		}
	}
	f.clear()
}

// drop abandons a round that was not committed, and the cores of its groups, which have gone further than the disk. The rounds before it
// are told first: the groups are read from the disk anew, and what is there must be durable by then. None was built on this one.
func (l *loop) drop(f *flight, err error) {
	l.drain(1)
	for _, in := range f.dirty {
		in.g.round = nil
		l.leave(in.g)
	}
	l.abandon(f, err)
	f.batch.Close()
	f.batch = nil
}

// add gives a group a part in the round.
func (f *flight) add(g *group) *inRound {
	n := len(f.dirty)
	if n == len(f.rounds) {
		f.rounds = append(f.rounds, new(inRound))
	}
	in := f.rounds[n]
	in.g = g
	f.dirty = f.rounds[:n+1]
	return in
}

// clear empties the flight but for its memory.
func (f *flight) clear() {
	for _, in := range f.dirty {
		clear(in.waiting)
		clear(in.changed)
		*in = inRound{waiting: in.waiting[:0], changed: in.changed[:0]}
	}
	f.dirty = nil
}

func answerAll(ps []*proposal, err error) {
	for _, p := range ps {
		p.answer(command.Result{}, err)
	}
}
