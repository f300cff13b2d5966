// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"slices"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// role is what a peer is for the own ballot.
type role uint8

const (
	// acceptor: a voter in the home, whose vote counts in phase 2.
	acceptor role = iota
	// learner: a voter outside of the home, or a learner of the configuration, which gets what is chosen.
	learner
	// former: only a voter of an older configuration.
	former
)

// answer is what a peer said in phase 1.
type answer uint8

const (
	unheard answer = iota
	given
	refused
)

// mode is what an owner is doing about a peer.
type mode uint8

const (
	// syncing: an AcceptSync goes out next.
	syncing mode = iota
	// learning: the acceptor lags behind what is in memory, and gets chosen entries, one Learn at a time.
	learning
	// streaming: the acceptor's AcceptSync is out, and Accepts follow without waiting for answers.
	streaming
	// teaching: the learner gets what is chosen, without waiting for answers.
	teaching
	// lost: the log is no longer kept from where the peer's ends. It is offered a snapshot.
	lost
)

// peer is what an owner knows of another node. The own node is among its peers too.
type peer struct {
	id    NodeID
	role  role
	asked bool // in phase 1 of a global ballot: a voter of its configuration or an older one

	// Phase 1: what it answered, and what it promised with.
	answer         answer
	tiedTo         NodeID // refused: the owner
	over           Ballot // its own last ballot that was won and lost
	shown          Ballot // the release that is shown to it
	established    uint64
	stop           stopSign // known to be chosen
	accepted       Ballot
	acceptedHome   quorum.Home
	globalPromised Ballot
	last           Slot
	chain          uint64
	commit         Slot
	first          Slot
	clock          Timestamp

	// What it holds of the own log.
	mode   mode
	base   Slot   // syncing, learning, lost: the peer's log is the own one up to here, as far as is known
	next   Slot   // streaming, teaching: the first slot not yet sent
	match  Slot   // durable there: accepted at the own ballot; of a learner, learned
	acked  bool   // match is set: also 0 is accepted
	ends   []Slot // of the AcceptSync, Accepts or Learns on the way, rising
	nacked Slot   // streaming: began again from here because of a Nack, and no progress since; learning: asked for by a Nack

	silent      bool      // it did not answer in time, and has not since
	waiting     bool      // learning, lost: a Learn or a Snapshot is out
	since       Timestamp // when the oldest unanswered question was asked, or the last was answered if that is later
	sentAt      Timestamp // anything
	commitSent  Slot
	commitKnown Slot // by the peer
	// The configuration that it was told to be established, and that it knows to be.
	sentEstablished, knownEstablished uint64
	flush                             bool // streaming: the commit is to be sent; teaching: what is chosen is
	unsent                            int  // teaching: payload that is chosen and not yet sent
	unsentAt                          Timestamp

	fort      uint64 // the own life that it is tied to, at the own ballot
	confirmed uint64 // the highest question that it confirmed
}

// hear takes the answer to a question of phase 1.
func (pr *peer) hear(established uint64, stopSlot Slot, stopNext uint64) {
	pr.answer, pr.established, pr.stop = given, established, stopSign{stopSlot, stopNext}
}

// tied notes the own life that the peer is tied to. It is never tied to a lower one again at this ballot.
func (pr *peer) tied(epoch uint64) { pr.fort = max(pr.fort, epoch) }

// begin starts phase 2 towards a peer. A log that is the beginning of ours is continued; of another one only what it knew to
// be chosen is sure. A peer that did not promise is asked from our commit on, and says if that is too far.
func (pr *peer) begin(c *Core, promised bool) {
	pr.mode, pr.base = syncing, c.rec.Commit
	if promised {
		pr.base = min(pr.commit, c.rec.Last)
		if have, known := c.chainAt(pr.last); known && have == pr.chain && pr.role == acceptor {
			pr.base = pr.last
		}
	}
	if pr.role == learner {
		pr.teach(c, min(pr.base, c.rec.Commit))
	}
}

// teach goes on with what is chosen after base.
func (pr *peer) teach(c *Core, base Slot) {
	pr.base, pr.waiting, pr.nacked, pr.ends = base, false, 0, nil
	pr.mode, pr.next, pr.flush, pr.since = teaching, base+1, true, c.clock
	if !c.keeps(base + 1) {
		pr.mode = lost
	}
}

// committed notices that slots after before, of so many bytes, became chosen.
func (pr *peer) committed(c *Core, before Slot, size int) {
	if pr.mode != teaching || c.rec.Commit == before {
		return
	}
	if pr.next == before+1 {
		pr.unsent, pr.unsentAt = 0, c.clock
	}
	if pr.unsent += size; pr.unsent >= c.tuning.LearnBytes {
		pr.flush = true
	}
}

func (pr *peer) onAccepted(c *Core, m *Message) {
	upTo := m.Slot
	pr.silent = false
	if pr.commitKnown = max(pr.commitKnown, m.Commit); upTo >= pr.match {
		pr.commitKnown = m.Commit // also less than before: after a restart
	}
	pr.knownEstablished = max(pr.knownEstablished, m.Established)
	if pr.acked && upTo <= pr.match {
		return
	}
	pr.acked, pr.match, pr.nacked, pr.since = true, upTo, 0, c.clock
	pr.dropEnds(upTo)
	if pr.next = max(pr.next, upTo+1); pr.mode != lost || c.keeps(pr.next) {
		pr.mode = streaming
	}
}

func (pr *peer) onLearned(c *Core, upTo Slot) {
	pr.silent = false
	switch {
	case pr.role == learner && pr.mode == teaching:
		pr.dropEnds(upTo)
		if pr.acked && upTo <= pr.match {
			return
		}
		pr.acked, pr.match, pr.commitKnown, pr.nacked, pr.since = true, upTo, upTo, 0, c.clock
		pr.next = max(pr.next, upTo+1)
	case pr.mode == lost && upTo >= pr.base && c.keeps(upTo+1):
		pr.base, pr.waiting, pr.match = upTo, false, upTo
		if pr.role == learner {
			pr.acked = true
			pr.teach(c, upTo)
		} else {
			pr.match = 0
			pr.toSync(c)
		}
	case pr.mode == learning && upTo >= pr.base:
		pr.base, pr.nacked, pr.waiting = upTo, 0, false
		pr.toSync(c)
	}
}

// dropEnds forgets what was answered.
func (pr *peer) dropEnds(upTo Slot) {
	n := 0
	for n < len(pr.ends) && pr.ends[n] <= upTo {
		n++
	}
	pr.ends = pr.ends[n:]
}

// onNack begins again from where the peer says. A Nack that was overtaken changes nothing.
func (pr *peer) onNack(c *Core, m *Message) {
	pr.silent = false
	switch {
	case pr.mode == lost:
		return // what it lacks is not kept; the snapshot's Learned says more
	case pr.role == learner:
		if m.Slot > pr.match && m.Slot < pr.next && m.Slot != pr.nacked {
			nacked := m.Slot
			pr.teach(c, m.Slot-1)
			pr.nacked = nacked
		}
		return
	case m.Accepted == c.ballot:
		if pr.mode != streaming { // it has taken an AcceptSync that it seemed to lack
			pr.mode, pr.next, pr.ends = streaming, m.Slot, nil
		} else if m.Slot > pr.match && m.Slot < pr.next && m.Slot != pr.nacked {
			pr.next, pr.nacked, pr.ends = m.Slot, m.Slot, nil
		}
		return
	case pr.acked:
		return
	case pr.mode == learning:
		pr.nacked = m.Slot // for tick: it may have forgotten, or this Nack be older than what it learned
		return
	}
	if base := m.Slot - 1; pr.mode != streaming || base != pr.base {
		pr.mode, pr.base, pr.ends = syncing, base, nil
		pr.toSync(c)
	}
}

// toSync chooses between an AcceptSync and, for a peer that lacks more than is in memory or fits a message, a Learn before it.
func (pr *peer) toSync(c *Core) {
	switch {
	case !c.keeps(pr.base + 1):
		pr.mode, pr.waiting = lost, false
	case pr.base+1 >= c.tailFirst() && (pr.base >= c.rec.Commit || pr.syncFits(c)):
		pr.mode = syncing
	default:
		pr.mode = learning
	}
}

// syncFits reports whether what an AcceptSync has to hold, the recovered log after base, fits a message with one more payload
// on top. Where nothing of it is chosen it always does. Requires: it is in memory.
func (pr *peer) syncFits(c *Core) bool {
	if c.recovered > pr.base+EntriesPerMessageMax {
		return false
	}
	size := 0
	for _, e := range c.slots(pr.base+1, c.recovered) {
		size += len(e.Payload)
	}
	return size <= MessageLenMax/2
}

// room reports whether another message of entries may be on its way. To a peer that is silent there is one at a time.
func (pr *peer) room(c *Core) bool {
	return len(pr.ends) < c.tuning.InflightMessages && !(pr.silent && len(pr.ends) > 0)
}

func (pr *peer) wantsSend(c *Core) bool {
	switch pr.mode {
	case syncing:
		return true
	case learning, lost:
		return !pr.waiting
	case teaching:
		return pr.flush && pr.room(c)
	case streaming:
		return pr.next <= c.rec.Last && pr.room(c) || pr.flush
	}
	return false
}

// send puts out what the peer is to have. What it sends rests on the own promise only, which is durable: also entries that
// are not yet written here may go.
func (pr *peer) send(c *Core) {
	if pr.mode == syncing || pr.mode == learning && !pr.waiting {
		pr.toSync(c) // the log may have been trimmed since
	}
	switch pr.mode {
	case syncing:
		pr.sendSync(c)
	case learning:
		pr.sendLearn(c)
	case teaching:
		pr.sendLearns(c)
	}
	if pr.mode == streaming {
		pr.sendAccepts(c)
	}
	if pr.mode == lost && !pr.waiting {
		pr.sendSnapshot(c)
	}
}

func (pr *peer) put(c *Core, m Message) {
	m.From, m.To, m.Ballot, m.Commit, m.Established = c.self, pr.id, c.ballot, c.rec.Commit, c.rec.Established
	if c.now == nil {
		c.now = make([]Message, 0, c.p.members-1) // one for each, as a rule
	}
	c.now = append(c.now, m)
	pr.sentAt, pr.commitSent, pr.sentEstablished, pr.flush = c.clock, c.rec.Commit, c.rec.Established, false
}

// sendSync sends the log from base on, at least to where the recovered log ended: an acceptor takes that whole or not at all.
func (pr *peer) sendSync(c *Core) {
	before, err := c.chainBefore(pr.base + 1)
	if err != nil {
		return // kept in c.err
	}
	entries := c.slots(pr.base+1, max(c.recovered, pr.base))
	rest := cut(c.slots(max(c.recovered, pr.base)+1, c.rec.Last), c.tuning.MessageBytes)
	entries = append(slices.Clip(entries), rest[:max(0, min(len(rest), EntriesPerMessageMax-len(entries)))]...)
	pr.put(c, Message{
		Type: AcceptSync, Slot: pr.base, Chain: before, Entries: entries, Scope: c.scope, Home: c.home, Epoch: c.epoch(), Time: c.timeBound,
	})
	pr.mode, pr.next, pr.since = streaming, pr.base+Slot(len(entries))+1, c.clock
	pr.ends = append(pr.ends[:0], pr.next-1)
}

func (pr *peer) sendLearn(c *Core) {
	if pr.waiting {
		return
	}
	before, entries, err := c.read(pr.base+1, c.rec.Commit)
	if err != nil {
		return // kept in c.err
	}
	pr.put(c, Message{Type: Learn, Slot: pr.base, Chain: before, Entries: entries, Scope: c.scope, Home: c.home})
	pr.waiting, pr.since = true, c.clock
}

// sendLearns sends a learner what is chosen. The first message of a ballot may be empty: it asks how far the learner is.
func (pr *peer) sendLearns(c *Core) {
	if !pr.flush {
		return
	}
	if pr.acked && len(pr.ends) == 0 { // else an empty one is on the way, which has to be asked again
		pr.since = c.clock
	}
	for pr.room(c) {
		m := Message{Type: Learn, Slot: pr.next - 1, Scope: c.scope, Home: c.home}
		var err error
		switch {
		case !c.keeps(pr.next):
			pr.mode, pr.base, pr.waiting = lost, pr.next-1, false
			return
		case pr.next <= c.rec.Commit:
			m.Chain, m.Entries, err = c.read(pr.next, c.rec.Commit)
		case len(pr.ends) > 0 || pr.acked && pr.knownEstablished >= c.rec.Established:
			pr.flush, pr.unsent = false, 0
			return
		default:
			m.Chain, err = c.chainBefore(pr.next)
		}
		if err != nil {
			return // kept in c.err
		}
		pr.put(c, m)
		pr.next += Slot(len(m.Entries))
		pr.ends = append(pr.ends, pr.next-1)
		pr.flush = pr.next <= c.rec.Commit
	}
}

func (pr *peer) sendAccepts(c *Core) {
	if pr.acked && pr.match+1 == pr.next {
		pr.since = c.clock
	}
	epoch := c.epoch()
	for pr.next <= c.rec.Last && pr.room(c) {
		if !c.keeps(pr.next) {
			pr.mode, pr.base, pr.waiting = lost, pr.next-1, false
			return
		}
		before, entries, err := c.read(pr.next, c.rec.Last)
		if err != nil {
			return // kept in c.err
		}
		pr.put(c, Message{Type: Accept, Slot: pr.next - 1, Chain: before, Entries: entries, Epoch: epoch})
		pr.next += Slot(len(entries))
		pr.ends = append(pr.ends, pr.next-1)
	}
	if pr.flush {
		pr.flush = false
		if before, known := c.chainAt(pr.next - 1); known { // else it lags, and other messages bring the commit
			pr.put(c, Message{Type: Accept, Slot: pr.next - 1, Chain: before, Epoch: epoch})
		}
	}
}

// tick sends again what was not answered, and a commit that nothing carried.
func (pr *peer) tick(c *Core) {
	late := c.clock >= pr.since+c.tuning.RetryAfter
	switch {
	case pr.mode == lost:
		if pr.waiting && c.clock >= pr.since+c.tuning.SnapshotRetryAfter {
			pr.waiting = false
		}
	case pr.mode == teaching:
		if late && (!pr.acked || pr.knownEstablished < c.rec.Established || len(pr.ends) > 0) {
			acked, match := pr.acked, pr.match
			if !acked {
				match = pr.base
			}
			pr.silent = true
			pr.teach(c, match)
		}
		if (pr.next <= c.rec.Commit || pr.knownEstablished < c.rec.Established && len(pr.ends) == 0) && c.clock >= pr.unsentAt+c.tuning.LearnAfter {
			pr.flush = true
		}
	case pr.mode == learning && late:
		if pr.nacked != 0 {
			pr.base = min(pr.base, pr.nacked-1)
		}
		pr.nacked, pr.waiting, pr.since = 0, false, c.clock
		pr.toSync(c)
	case pr.mode == streaming && late && !pr.acked:
		pr.mode, pr.ends, pr.silent, pr.since = syncing, nil, true, c.clock
	case pr.mode == streaming && late && pr.match+1 < pr.next:
		pr.next, pr.nacked, pr.ends, pr.silent, pr.since = pr.match+1, 0, nil, true, c.clock
	case pr.mode == streaming && (pr.commitKnown < c.rec.Commit || pr.knownEstablished < c.rec.Established):
		wait := c.tuning.RetryAfter
		if pr.commitSent < c.rec.Commit || pr.sentEstablished < c.rec.Established {
			wait = c.tuning.FlushAfter
		}
		pr.flush = c.clock >= pr.sentAt+wait
	}
}

// idle reports whether the peer has all there is.
func (pr *peer) idle(c *Core) bool {
	if pr.mode == teaching {
		return pr.acked && pr.match >= c.rec.Commit && pr.knownEstablished >= c.rec.Established
	}
	return pr.mode == streaming && pr.acked && pr.match == c.rec.Last && pr.commitKnown >= c.rec.Commit && pr.knownEstablished >= c.rec.Established
}
