// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/atlas-edge/atlas/consensus"
)

// phase is how far a node has got with its Ready.
type phase uint8

const (
	idle    phase = iota // nothing is to be done
	queued               // inputs were taken since, the Ready was not
	written              // it was taken and written, and its MsgsNow are sent
)

// local is the state of one node. It never changes: an input makes another one. Equal locals are one, with one number.
type local struct {
	self    consensus.NodeID
	core    *consensus.Core
	durable image   // what a crash leaves
	pending []batch // written since, not synced
	written image   // durable and pending
	phase   phase
	ready   consensus.Ready // in phase written
	life    uint8           // how often it was started again
	known   uint8           // index of the newest configuration that it knows
	retired uint8           // index of the oldest
	ticks   uint64          // no part of the state: see tick
	// withdrawn is what the node's liveness has withdrawn for good, durably or not.
	withdrawn []minEpoch

	status  consensus.Status
	settled uint32 // the number, and 1, of this local with all synced
	from    asking // how it came to be first
}

// appendTo appends what tells one local from another.
func (l *local) appendTo(dst []byte, x *explorer, node int) []byte {
	dst = append(dst, byte(node), byte(l.phase), l.life, l.known, l.retired)
	dst = l.durable.appendTo(dst)
	for _, e := range l.withdrawn {
		dst = append(dst, 'w', e.node, e.epoch)
	}
	dst = append(dst, byte(len(l.pending)))
	for i := range l.pending {
		dst = l.pending[i].appendTo(dst)
	}
	if l.phase == written {
		for _, list := range [2][]consensus.Message{l.ready.MsgsAfterSync, {}} {
			dst = append(dst, byte(len(list)))
			for i := range list {
				dst = binary.LittleEndian.AppendUint16(dst, x.message(&list[i]))
			}
		}
		if l.ready.MustSync {
			dst = append(dst, 1)
		}
	}
	return l.core.AppendState(dst)
}

// plainRecord prints all fields.
type plainRecord consensus.Record

func (im *image) appendTo(dst []byte) []byte {
	dst = fmt.Appendf(dst, "%+v", plainRecord(im.rec))
	dst = appendEntries(dst, im.log)
	dst = append(dst, byte(im.slot), byte(im.minCfg), byte(len(im.minEps)))
	dst = binary.LittleEndian.AppendUint64(dst, im.chain)
	for _, e := range im.minEps {
		dst = append(dst, e.node, e.epoch)
	}
	return dst
}

func appendEntries(dst []byte, log []consensus.Entry) []byte {
	dst = append(dst, byte(len(log)))
	for i := range log {
		dst = binary.LittleEndian.AppendUint64(append(dst, byte(log[i].Slot)), log[i].Chain)
	}
	return dst
}

func (b *batch) appendTo(dst []byte) []byte {
	if b.rec != nil {
		dst = fmt.Appendf(dst, "%+v", plainRecord(*b.rec))
	}
	dst = append(dst, byte(b.truncate), byte(b.compact))
	dst = appendEntries(dst, b.entries)
	dst = appendEntries(dst, b.committed)
	if b.snapshot {
		dst = binary.LittleEndian.AppendUint64(append(dst, byte(b.snapSlot)), b.snapChain)
	}
	for _, e := range b.withdrawal {
		dst = append(dst, 'w', e.node, e.epoch)
	}
	return dst
}

// outcome is what an input does to one local under one view.
type outcome struct {
	refused  bool // the input changed nothing, or was not possible
	next     uint32
	sent     []uint16 // messages
	facts    []uint32 // what others may know of the node on the way, in order
	reads    []consensus.ReadState
	lost     []uint64
	variants []mode // of crashing in the course of it
	bad      error  // a violation that the node shows by itself
}

// run is one input being done.
type run struct {
	x        *explorer
	node     int
	local    local
	log      *logView
	eyes     eyes
	out      outcome
	stop     mode // the crash that is to come, or whole
	readies  int
	crashed  bool
	lastFact uint32
}

// do computes the outcome of an input.
func (x *explorer) do(l *local, v *view, a action) outcome {
	r := run{x: x, node: int(a.node), local: *l, log: new(logView), stop: a.mode}
	r.eyes = eyes{view: *v, withdrawn: l.withdrawn}
	r.local.core = l.core.Clone(r.log, r.fabric())
	r.log.im = &r.local.written
	r.local.pending = l.pending[:len(l.pending):len(l.pending)]
	switch {
	case a.kind == crash:
		r.crash(int(a.arg))
	case a.kind == take:
		r.take()
	case a.kind == finish:
		r.finish()
		r.drain()
	default:
		if !r.input(a) {
			r.out.refused = true
			return r.out
		}
		switch {
		case r.out.bad != nil:
		case l.phase != idle:
		case a.mode == hold:
			r.local.phase = queued
			if !r.local.core.HasReady() {
				r.out.refused = true // the same as doing it at once
				return r.out
			}
		default:
			r.drain()
		}
	}
	if r.out.bad == nil {
		r.out.bad = r.local.core.Err()
	}
	if r.stop >= crashIn && !r.crashed {
		r.out.refused = true
		return r.out
	}
	r.local.withdrawn = r.eyes.withdrawn
	r.out.next = x.local(&r.local, r.node)
	return r.out
}

func (r *run) fail(format string, args ...any) {
	if r.out.bad == nil {
		r.out.bad = fmt.Errorf(format, args...)
	}
}

// drain takes Readies and does them until there is none.
func (r *run) drain() {
	for r.out.bad == nil && !r.crashed && r.local.core.HasReady() {
		r.take()
		if r.out.bad != nil {
			return
		}
		if r.stop == whole {
			for keep := 0; keep <= len(r.local.pending) && keep < crashKeeps; keep++ {
				r.out.variants = append(r.out.variants, crashMode(r.readies, keep))
			}
		} else if r.stop >= crashIn {
			if readies, keep := r.stop.crash(); readies == r.readies {
				r.crash(keep)
				return
			}
		}
		r.readies++
		r.finish()
	}
	if !r.crashed {
		r.local.phase = idle
	}
}

// take writes the Ready's batch and sends what need not wait.
func (r *run) take() {
	l := &r.local
	l.ready = l.core.Ready()
	if err := l.core.Err(); err != nil {
		r.fail("%w", err)
		return
	}
	l.phase = written
	b := toBatch(&l.ready)
	if !b.empty() {
		l.pending = append(l.pending, b)
		if err := l.written.write(&b); err != nil {
			r.fail("%w", err)
			return
		}
	}
	r.send(l.ready.MsgsNow)
	r.answers(&l.ready)
	r.observe()
}

// finish syncs, if that is asked for, sends the rest and advances.
func (r *run) finish() {
	l := &r.local
	if l.ready.MustSync {
		for i := range l.pending {
			if err := l.durable.write(&l.pending[i]); err != nil {
				r.fail("%w", err)
			}
		}
		l.pending = nil
		r.observe()
	}
	r.send(l.ready.MsgsAfterSync)
	l.core.Advance()
	l.ready = consensus.Ready{}
	l.phase = idle
	if l.core.HasReady() {
		l.phase = queued // drain follows
	}
}

// crash loses all unsynced batches but the first keep, and starts the node again.
func (r *run) crash(keep int) {
	l := &r.local
	if keep > len(l.pending) {
		r.out.refused = true
		return
	}
	for i := range l.pending[:keep] {
		if err := l.durable.write(&l.pending[i]); err != nil {
			r.fail("%w", err)
		}
	}
	l.pending, l.ready, l.phase = nil, consensus.Ready{}, idle
	l.written, r.eyes.withdrawn = l.durable, l.durable.minEps
	l.life++
	r.crashed = true
	core, err := r.x.start(r.node, l, r.log, r.fabric())
	if err != nil {
		r.fail("start after a crash: %w", err)
		return
	}
	l.core = core
	if s := core.Status(); s.State != consensus.Follower || !s.Ballot.IsZero() {
		r.fail("D18: %s at %s after a restart", s.State, s.Ballot)
	}
	r.observe()
	// What the start brings with it, an ack of what is on disk, is done too.
	r.stop = whole
	for r.out.bad == nil && core.HasReady() {
		r.take()
		r.finish()
	}
}

// input gives the core one input, and says whether that was possible.
func (r *run) input(a action) bool {
	l := &r.local
	switch a.kind {
	case deliver:
		return r.deliver(&r.x.messages[a.arg].message)
	case tick:
		l.ticks++
		l.core.Tick(l.ticks * tickLen)
		return true
	}
	return r.command(a)
}

// tickLen is later than every delay of the core: each Tick is late for all that waits, and how long it waited is no part of
// the state.
const tickLen = 1e12

func (r *run) deliver(m *consensus.Message) bool {
	err := r.local.core.Step(*m)
	switch {
	case err == nil:
		return true
	case errors.Is(err, consensus.ErrInvalid):
		if !r.member(m.From) {
			return false // removed since
		}
		r.fail("a peer's message is refused: %w", err)
		return true
	case unknownConfiguration(err):
		return false
	}
	r.fail("%w", err)
	return true
}

// member reports whether the node stands in a configuration that the core knows.
func (r *run) member(id consensus.NodeID) bool {
	for _, c := range r.x.setup.Configurations[r.local.retired : r.local.known+1] {
		if _, ok := c.Quorums.Index(id); ok {
			return true
		}
	}
	return false
}

// answers keeps what the Ready says of reads.
func (r *run) answers(ready *consensus.Ready) {
	r.out.reads, r.out.lost = append(r.out.reads, ready.Reads...), append(r.out.lost, ready.ReadsLost...)
}

func (r *run) send(list []consensus.Message) {
	for i := range list {
		m := &list[i]
		if err := r.local.durable.covers(m); err != nil {
			r.fail("%w", err)
		}
		if int(m.To) < 1 || int(m.To) > r.x.setup.Nodes {
			r.fail("message to node %d", m.To)
			return
		}
		r.out.sent = append(r.out.sent, r.x.message(m))
	}
}

// covers judges I4, what a message says rests on what is durable, and I10 as far as it is about the seal.
func (im *image) covers(m *consensus.Message) error {
	r := &im.rec
	switch m.Type {
	case consensus.Promise, consensus.Accepted, consensus.Learned, consensus.Fortified, consensus.Confirmed:
		if m.Ballot.Cfg < im.minCfg {
			return fmt.Errorf("I10: %s of %s sent, sealed below %d", m.Type, m.Ballot, im.minCfg)
		}
	}
	switch m.Type {
	case consensus.Promise:
		if r.Promised.Less(m.Ballot) {
			return fmt.Errorf("I4: promise of %s sent, durable is %s", m.Ballot, r.Promised)
		}
	case consensus.PrePromise:
		// That own ballots up to Release are over rests on a promise that makes the next one higher.
		if over := m.Release; over.Cfg > r.Promised.Cfg || over.Cfg == r.Promised.Cfg && over.Round > r.Promised.Round {
			return fmt.Errorf("I4: own ballots up to %s told to be over, durable promise is %s", over, r.Promised)
		}
	case consensus.Accepted:
		if r.Promised.Less(m.Ballot) || r.Promised == m.Ballot && (r.Accepted != m.Ballot || r.Last < m.Slot) {
			return fmt.Errorf("I4: slot %d at %s acknowledged, durable is slot %d at %s", m.Slot, m.Ballot, r.Last, r.Accepted)
		}
		return im.coversFort(m)
	case consensus.Fortified:
		return im.coversFort(m)
	case consensus.Learned:
		if r.Last < m.Slot {
			return fmt.Errorf("I4: slot %d learned, durable is slot %d", m.Slot, r.Last)
		}
	case consensus.Prepare, consensus.AcceptSync, consensus.Accept, consensus.Learn, consensus.Confirmed, consensus.Fortify, consensus.Confirm:
		if r.Promised.Less(m.Ballot) {
			return fmt.Errorf("I4: %s at %s sent, the own promise that is durable is %s", m.Type, m.Ballot, r.Promised)
		}
	}
	return nil
}

// coversFort: an acceptor that says that it is tied to a life is durably so, unless it has promised another since.
func (im *image) coversFort(m *consensus.Message) error {
	fort := im.rec.Fort
	if m.FortEpoch != 0 && im.rec.Promised == m.Ballot && (fort.Owner != m.Ballot.Node || fort.Epoch < m.FortEpoch) {
		return fmt.Errorf("I4: tie to epoch %d of node %d told, durable is epoch %d of node %d", m.FortEpoch, m.Ballot.Node, fort.Epoch, fort.Owner)
	}
	return nil
}

func (r *run) observe() {
	f := r.x.fact(&r.local)
	if f == r.lastFact {
		return
	}
	r.lastFact = f
	r.out.facts = append(r.out.facts, f)
}
