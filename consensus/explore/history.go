// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// history is what has happened, as far as the invariants need it: it is part of a state, so that two runs that end alike are
// one only if they are judged alike from there on. It never changes: a fact makes another one.
type history struct {
	ballots []ballotFacts  // rising
	chosen  chains         // by slot; 0 is nothing
	acked   uint8          // the highest slot that anybody committed: somebody may have been told
	reads   [readsMax]read // by id-1
}

// ballotFacts are those of one ballot that somebody won.
type ballotFacts struct {
	ballot   consensus.Ballot
	won      bool // home, sync and log say how
	home     quorum.Home
	sync     uint8           // where the log that was adopted ends
	log      chains          // of the owner
	accepted [nodesMax]uint8 // durable at this ballot there: the last slot and 1; 0 is nothing
	choice   uint8           // the log that is chosen at this ballot: its last slot and 1; 0 is nothing, not even an empty one
}

type read struct {
	asked  bool
	needed uint8 // acked when it was asked
}

func (h *history) clone() history {
	n := *h
	n.ballots = slices.Clone(h.ballots)
	return n
}

func (h *history) ballot(b consensus.Ballot) *ballotFacts {
	i, ok := slices.BinarySearchFunc(h.ballots, b, func(f ballotFacts, b consensus.Ballot) int { return f.ballot.Compare(b) })
	if !ok {
		h.ballots = slices.Insert(h.ballots, i, ballotFacts{ballot: b})
	}
	return &h.ballots[i]
}

// wonAbove reports whether a ballot above b is won.
func (h *history) wonAbove(b consensus.Ballot) (consensus.Ballot, bool) {
	for i := len(h.ballots) - 1; i >= 0 && b.Less(h.ballots[i].ballot); i-- {
		if h.ballots[i].won {
			return h.ballots[i].ballot, true
		}
	}
	return consensus.Ballot{}, false
}

func (h *history) appendTo(dst []byte) []byte {
	dst = append(dst, byte(len(h.ballots)), h.acked)
	for i := range h.ballots {
		b := &h.ballots[i]
		dst = fmt.Appendf(dst, "%s%v%v", b.ballot, b.won, b.home)
		dst = append(dst, b.sync, b.choice)
		dst = append(dst, b.accepted[:]...)
		dst = b.log.appendTo(dst)
	}
	dst = h.chosen.appendTo(dst)
	for _, r := range h.reads {
		if r.asked {
			dst = append(dst, 1+r.needed)
		} else {
			dst = append(dst, 0)
		}
	}
	return dst
}

func (c *chains) appendTo(dst []byte) []byte {
	for _, v := range c {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// learn is the history after node showed f, and the invariant that f breaks.
func (x *explorer) learn(h *history, node int, f *fact) (history, error) {
	n := h.clone()
	if err := n.owns(f); err != nil {
		return n, err
	}
	if err := n.accepts(node, f); err != nil {
		return n, err
	}
	if err := x.choose(&n); err != nil {
		return n, err
	}
	if err := n.leaderComplete(); err != nil {
		return n, err
	}
	return n, n.commits(f)
}

// owns notes a won ballot.
func (h *history) owns(f *fact) error {
	if f.own.IsZero() {
		return nil
	}
	b := h.ballot(f.own)
	if !b.won {
		b.won, b.home, b.sync = true, f.home, f.ownLast
	}
	return b.agree(&f.ownLog, f.ownLast)
}

// accepts notes what a node has durably accepted, with nothing promised above.
func (h *history) accepts(node int, f *fact) error {
	if f.accepted.IsZero() {
		return nil
	}
	b := h.ballot(f.accepted)
	if !b.won && int(f.accepted.Node) == node+1 {
		// Won and ended by the inputs of one Ready.
		b.won, b.home, b.sync = true, f.home, f.last
	}
	if !b.won {
		return fmt.Errorf("node %d has accepted at %s, which nobody has won", node+1, f.accepted)
	}
	if f.last < b.sync {
		return fmt.Errorf("node %d has accepted slots to %d at %s, whose recovered log ends at %d", node+1, f.last, f.accepted, b.sync)
	}
	b.accepted[node] = max(b.accepted[node], f.last+1)
	return b.agree(&f.log, f.last)
}

// agree judges I1 at one ballot: every log accepted there is its owner's.
func (b *ballotFacts) agree(log *chains, last uint8) error {
	for s := uint8(1); s <= last; s++ {
		switch {
		case log[s] == 0:
		case b.log[s] == 0:
			b.log[s] = log[s]
		case b.log[s] != log[s]:
			return fmt.Errorf("I1: two values at %s in slot %d: chains %016x and %016x", b.ballot, s, b.log[s], log[s])
		}
	}
	return nil
}

// choose computes what is chosen, from the durable accepts and the quorums alone.
func (x *explorer) choose(h *history) error {
	for i := range h.ballots {
		b := &h.ballots[i]
		q := x.quorums(b.ballot.Cfg)
		if q == nil {
			return fmt.Errorf("ballot %s is of no configuration", b.ballot)
		}
		for _, end := range b.accepted {
			if end <= b.choice {
				continue
			}
			var set quorum.Set
			for n, other := range b.accepted {
				if index, ok := q.Index(consensus.NodeID(n + 1)); ok && other >= end {
					set = set.With(index)
				}
			}
			if q.IsQ2(set, b.home) {
				b.choice = end
			}
		}
		for s := uint8(1); s < b.choice; s++ {
			switch {
			case b.log[s] == 0:
			case h.chosen[s] == 0:
				h.chosen[s] = b.log[s]
			case h.chosen[s] != b.log[s]:
				return fmt.Errorf("I1: slot %d is chosen twice: with chain %016x, and at %s with %016x", s, h.chosen[s], b.ballot, b.log[s])
			}
		}
	}
	return nil
}

// leaderComplete: what is chosen at a ballot is in the log that every higher won ballot adopted.
func (h *history) leaderComplete() error {
	for i := range h.ballots {
		low := &h.ballots[i]
		for j := i + 1; low.choice > 1 && j < len(h.ballots); j++ {
			high := &h.ballots[j]
			if !high.won {
				continue
			}
			if high.sync+1 < low.choice {
				return fmt.Errorf("LeaderComplete: slot %d is chosen at %s, %s was won with a log to slot %d", low.choice-1, low.ballot, high.ballot, high.sync)
			}
			for s := uint8(1); s < low.choice; s++ {
				if low.log[s] != 0 && high.log[s] != 0 && low.log[s] != high.log[s] {
					return fmt.Errorf("LeaderComplete: slot %d is chosen at %s with chain %016x, %s was won with %016x", s, low.ballot, low.log[s], high.ballot, high.log[s])
				}
			}
		}
	}
	return nil
}

// commits judges I2: what a node takes for chosen is chosen. And I11: a configuration is established only by a log chosen
// in it.
func (h *history) commits(f *fact) error {
	if s := f.commit; s > 0 {
		if h.chosen[s] == 0 {
			return fmt.Errorf("I2: slot %d is committed and not chosen", s)
		}
		if h.chosen[s] != f.commitChain {
			return fmt.Errorf("I2: slot %d is committed with chain %016x, chosen with %016x", s, f.commitChain, h.chosen[s])
		}
	}
	h.acked = max(h.acked, f.commit)
	if f.established > 0 {
		for i := range h.ballots {
			b := &h.ballots[i]
			if b.won && b.ballot.Cfg == f.established && b.choice > b.sync {
				return nil
			}
		}
		return fmt.Errorf("I11: configuration %d is established, and no log is chosen in it", f.established)
	}
	return nil
}
