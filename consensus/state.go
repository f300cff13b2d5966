// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"encoding/binary"
	"slices"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// For explorers and simulators: copies of a core, and what tells two cores apart.

// Clone is a copy that shares nothing with c that either changes, over another log and fabric.
func (c *Core) Clone(log Log, fabric Fabric) *Core {
	d := *c
	d.log, d.fabric = log, fabric
	d.tail, d.released = slices.Clone(c.tail), 0
	d.withdrawals, d.reads, d.readsLost = slices.Clone(c.withdrawals), slices.Clone(c.reads), slices.Clone(c.readsLost)
	d.now, d.after, d.owed = slices.Clone(c.now), slices.Clone(c.after), slices.Clone(c.owed)
	if c.p != nil {
		p := *c.p
		p.peer, p.fetched, p.waiting = slices.Clone(p.peer), slices.Clone(p.fetched), slices.Clone(p.waiting)
		for i := range p.peer {
			p.peer[i].ends = slices.Clone(p.peer[i].ends)
		}
		d.p = &p
	}
	return &d
}

// AppendState appends everything that what the core will do can depend on, except times: two cores of one node with the same log
// on disk and equal bytes here do the same from then on, up to when they repeat themselves. An entry stands here with its chain,
// which covers the rest of it and of the log before it.
func (c *Core) AppendState(dst []byte) []byte {
	w := stateWriter{dst}
	w.n(uint64(c.self), c.minCfg, uint64(len(c.configs)))
	for i := range c.configs {
		w.n(c.configs[i].Version)
	}
	w.flags(c.sole, c.err != nil, c.dirty, c.mustSync, c.ackDue, c.ready, c.snapshot != nil, c.behind, c.needGlobal)
	w.n(uint64(len(c.wanted)))
	for _, r := range c.wanted {
		w.n(uint64(len(r)))
		w.buf = append(w.buf, r...)
	}
	w.record(&c.rec)
	if c.ready {
		w.record(&c.readyRec)
	}
	w.n(uint64(c.stop.slot), c.stop.next, uint64(c.unstable), uint64(c.truncateFrom), uint64(c.compactTo), uint64(c.applied))
	w.entries(c.tail)
	w.n(uint64(len(c.withdrawals)))
	for _, d := range c.withdrawals {
		w.n(uint64(d.Node), d.Epoch)
	}
	w.n(uint64(len(c.reads)))
	for _, r := range c.reads {
		w.n(r.ID, uint64(r.Slot))
	}
	w.n(uint64(len(c.readsLost)))
	w.n(c.readsLost...)
	w.messages(c.now)
	w.messages(c.after)
	w.messages(c.owed)
	w.n(c.timeBound, c.observed, uint64(c.state), uint64(c.scope), uint64(c.recovered), max(c.roundSeen, c.rec.Promised.Round), c.roundSlack, uint64(c.uncommittedBytes), uint64(c.hellos), c.staleCfg, uint64(c.leasedBy.Owner))
	w.ballots(c.ballot, c.release)
	w.n(homeWords(c.home)...)
	w.flags(c.p != nil)
	if c.p != nil {
		c.p.appendState(&w, c.state >= Won)
	}
	return w.buf
}

// appendState leaves out what phase 1 found once it is won: nothing depends on it any more.
func (p *proposer) appendState(w *stateWriter, won bool) {
	if !won {
		w.n(uint64(p.source+1), uint64(p.commit), uint64(p.base))
	}
	w.n(p.seq, uint64(len(p.peer)))
	w.flags(p.short, p.fortifying, p.fortifyDue, p.confirmDue)
	w.entries(p.fetched)
	w.n(uint64(len(p.waiting)))
	for _, r := range p.waiting {
		w.n(r.id, uint64(r.slot), r.seq)
	}
	for i := range p.peer {
		pr := &p.peer[i]
		w.n(uint64(pr.id), uint64(pr.role))
		if !won {
			w.n(uint64(pr.answer), uint64(pr.tiedTo), pr.established, uint64(pr.stop.slot), pr.stop.next)
			w.ballots(pr.accepted, pr.globalPromised, pr.over, pr.shown)
			w.n(homeWords(pr.acceptedHome)...)
			w.n(uint64(pr.last), pr.chain, uint64(pr.commit), uint64(pr.first), pr.clock)
		}
		w.n(uint64(pr.mode), uint64(pr.base), uint64(pr.next), uint64(pr.match), uint64(pr.nacked), uint64(pr.commitSent), uint64(pr.commitKnown), uint64(pr.unsent))
		w.n(pr.sentEstablished, pr.knownEstablished, pr.fort, pr.confirmed, uint64(len(pr.ends)))
		for _, s := range pr.ends {
			w.n(uint64(s))
		}
		w.flags(pr.asked, pr.acked, pr.silent, pr.waiting, pr.flush)
	}
}

// stateWriter writes numbers.
type stateWriter struct{ buf []byte }

func (w *stateWriter) n(numbers ...uint64) {
	for _, v := range numbers {
		w.buf = binary.AppendUvarint(w.buf, v)
	}
}

func (w *stateWriter) flags(flags ...bool) {
	v := uint64(0)
	for i, f := range flags {
		if f {
			v |= 1 << i
		}
	}
	w.n(v)
}

func (w *stateWriter) ballots(ballots ...Ballot) {
	for _, b := range ballots {
		w.n(b.Cfg, b.Round, uint64(b.Node))
	}
}

func homeWords(h quorum.Home) []uint64 {
	words := h.Words()
	return words[:]
}

func (w *stateWriter) record(r *Record) {
	w.ballots(r.Promised, r.Accepted)
	w.n(homeWords(r.AcceptedHome)...)
	w.n(uint64(r.Last), uint64(r.Commit), uint64(r.Applied), uint64(r.First), r.LastTime, r.AppliedTime, r.LastChain, r.AppliedChain)
	w.n(r.Established, uint64(r.Fort.Owner), r.Fort.Epoch, uint64(r.StopSlot), r.StopNext)
	for i := range r.GlobalPromises {
		w.ballots(r.GlobalPromises[i].Ballot)
		w.flags(r.GlobalPromises[i].Sticky)
	}
}

func (w *stateWriter) entries(entries []Entry) {
	w.n(uint64(len(entries)))
	for i := range entries {
		w.n(uint64(entries[i].Slot), entries[i].Chain)
	}
}

func (w *stateWriter) messages(list []Message) {
	w.n(uint64(len(list)))
	for i := range list {
		m := &list[i]
		w.n(uint64(m.Type), uint64(m.From), uint64(m.To), uint64(m.Slot), m.Chain, uint64(m.Commit), uint64(m.Last), uint64(m.First), m.Established)
		w.ballots(m.Ballot, m.Promised, m.Accepted, m.GlobalPromised, m.Release)
		w.n(m.Time, uint64(m.Scope), m.Epoch, m.FortEpoch, m.Seq, m.StaleCfg, uint64(m.LeasedOwner), uint64(m.StopSlot), m.StopNext)
		w.n(homeWords(m.Home)...)
		w.n(homeWords(m.AcceptedHome)...)
		w.entries(m.Entries)
	}
}
