// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"testing"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// FuzzStep gives the core of one of three nodes messages made of any bytes, between proposals, campaigns, ticks, Readies and
// restarts. Whatever comes, nothing panics, an error is a refusal or the core's stop, what is written is a sound record and
// log, and what was promised or committed stays.
func FuzzStep(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"))
	// A won ballot and proposals, then noise.
	f.Add([]byte{200, 210, 210, 210, 1, 2, 1, 2, 0, 0, 0, 0, 0, 0, 210, 1, 3, 2, 0, 0, 0, 0, 0, 0, 220, 220, 210, 210, 240, 5, 210, 250, 210})
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 4096 {
			return
		}
		h := hostile{t: t, src: src, clock: 1}
		if h.byte()%2 == 0 {
			h.n = newTestNode(1, layout([]int{3}, 1, 0), nil, func(Message) {})
		} else { // with a home, a lease, a learner and two configurations
			h.n = newTestNode(1, layout([]int{1, 1, 1}, 0, 0), nil, func(Message) {})
			h.n.home = regionsOf([]string{"a", "b"})
			h.n.configs = append(h.n.configs, Configuration{Version: 2, Quorums: layout([]int{2}, 0, 0), Learners: []NodeID{3}})
			h.n.fabric = &testFabric{epoch: 3, supports: map[NodeID]uint64{2: 3}, from: map[NodeID]bool{2: true}}
		}
		h.n.onReady = func(n *testNode, r *Ready) { h.handed(r) }
		if err := h.n.start(); err != nil {
			t.Fatal(err)
		}
		for len(h.src) > 0 && h.op() {
		}
	})
}

// hostile turns bytes into inputs.
type hostile struct {
	t        *testing.T
	src      []byte
	n        *testNode
	clock    Timestamp
	promised Ballot
	commit   Slot
}

func (h *hostile) byte() byte {
	if len(h.src) == 0 {
		return 0
	}
	b := h.src[0]
	h.src = h.src[1:]
	return b
}

// number is small, near a slot or round of the node, or huge.
func (h *hostile) number(near uint64) uint64 {
	switch b := h.byte(); {
	case b < 32:
		return uint64(b)
	case b < 224:
		return near + uint64(b%16) - 8
	default:
		return uint64(1)<<(b%64) - uint64(b>>6)
	}
}

func (h *hostile) ballot() Ballot {
	b := h.byte()
	if b == 0 {
		return Ballot{}
	}
	return Ballot{Cfg: 1 + uint64(b/64%3), Round: h.number(h.n.core.rec.Promised.Round), Node: NodeID(1 + b%3)}
}

func (h *hostile) message() Message {
	c := h.n.core
	m := Message{Type: MessageType(1 + h.byte()%20), From: NodeID(2 + h.byte()%2), To: 1, Ballot: h.ballot()}
	switch h.byte() % 4 {
	case 0:
		m.Ballot = c.rec.Promised
	case 1:
		m.Ballot = c.ballot
	case 2:
		m.Ballot.Node = m.From
	}
	m.Slot, m.Last, m.Commit, m.First = Slot(h.number(uint64(c.rec.Last))), Slot(h.number(uint64(c.rec.Last))), Slot(h.number(uint64(c.rec.Commit))), Slot(h.number(uint64(c.rec.First)))
	m.Accepted, m.Promised = h.ballot(), h.ballot()
	if cfg := c.config(m.Ballot.Cfg); cfg != nil {
		m.Home = cfg.Quorums.All()
	}
	if cfg := c.config(m.Accepted.Cfg); cfg != nil && !m.Accepted.IsZero() {
		m.AcceptedHome = cfg.Quorums.All()
	}
	switch b := h.byte(); b % 8 {
	case 0:
		m.Home = quorum.Home{}
	case 1:
		m.Scope = Scope(b / 8 % 3)
	case 2:
		m.GlobalPromised, m.Release = h.ballot(), h.ballot()
	case 3:
		m.Epoch, m.FortEpoch, m.Seq = h.number(1), h.number(1), h.number(1)
	case 4:
		m.StaleCfg, m.LeasedOwner, m.LeasedFor, m.Established = h.number(1), NodeID(h.number(1)), h.number(1), h.number(1)
	case 5:
		m.StopSlot, m.StopNext, m.Time = Slot(h.number(uint64(c.rec.Commit))), h.number(1), h.number(c.rec.LastTime)
	}
	m.Chain, _ = c.chainAt(m.Slot)
	if m.Type == Promise {
		m.Chain, _ = c.chainAt(m.Last)
	}
	before := m.Chain
	for i := range Slot(h.byte() % 4) {
		e := Entry{Slot: m.Slot + i + 1, Ballot: m.Ballot, Time: c.rec.LastTime + Timestamp(h.number(1)), Payload: []byte{h.byte()}}
		e.Chain = chain(before, &e)
		before = e.Chain
		m.Entries = append(m.Entries, e)
	}
	if h.byte()%16 == 0 {
		m.Chain++
	}
	return m
}

// op does one input, and says whether the node goes on.
func (h *hostile) op() bool {
	c := h.n.core
	var err error
	switch b := h.byte(); {
	case b < 192:
		err = c.Step(h.message())
	case b < 198:
		err = c.Campaign(Scope(b % 2))
	case b < 200:
		err = c.Release(2)
	case b < 202:
		_, err = c.ProposeStopSign(h.clock, 2)
	case b < 203:
		err = c.ReadIndex(uint64(b))
		c.Compact(Slot(h.byte()))
	case b < 204:
		c.HoldsLease()
	case b < 232:
		for range 3 {
			if err == nil && h.n.busy() {
				err = h.n.progress(b%2 == 0)
			}
		}
	case b < 242:
		h.clock += Timestamp(h.byte()) * 10e6
		c.Tick(h.clock)
	case b < 252:
		_, _, err = c.Propose(Timestamp(h.number(h.clock)), Proposal{Payload: []byte{b}})
	default:
		h.n.crash(int(b) % (len(h.n.pending) + 1))
		h.promised, h.commit = h.n.record().Promised, h.n.record().Commit
		if err := h.n.start(); err != nil {
			h.t.Fatalf("restart: %v", err)
		}
		return true
	}
	switch {
	case err == nil, errors.Is(err, ErrInvalid), errors.Is(err, ErrNotOwner), errors.Is(err, ErrBusy), errors.Is(err, ErrUnknownConfiguration), errors.Is(err, ErrStopped):
		return true
	case errors.Is(err, ErrBroken):
		if c.HasReady() || c.Err() == nil {
			h.t.Fatalf("a stopped core goes on: %v", err)
		}
		return false
	}
	h.t.Fatalf("error of no class: %v", err)
	return false
}

func (h *hostile) handed(r *Ready) {
	if r.Record == nil {
		return
	}
	if err := r.Record.check(); err != nil {
		h.t.Fatal(err)
	}
	if r.Record.Promised.Less(h.promised) || r.Record.Commit < h.commit {
		h.t.Fatalf("promised %s and commit %d fell to %+v", h.promised, h.commit, *r.Record)
	}
	h.promised, h.commit = r.Record.Promised, r.Record.Commit
	for i := range r.Entries {
		if e := &r.Entries[i]; e.check() != nil || i > 0 && e.Slot != r.Entries[i-1].Slot+1 {
			h.t.Fatalf("entry %+v", *e)
		}
	}
}
