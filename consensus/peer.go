// SPDX-License-Identifier: AGPL-3.0-only

package consensus

// mode is what an owner is doing about a peer.
type mode uint8

const (
	// syncing: an AcceptSync goes out next.
	syncing mode = iota
	// learning: the peer lags behind what is in memory, and gets chosen entries, one Learn at a time.
	learning
	// streaming: the AcceptSync is out, and Accepts follow without waiting for answers.
	streaming
	// lost: the log is no longer kept from where the peer's ends. It needs a snapshot.
	lost
)

// peer is what an owner knows of a voter.
type peer struct {
	id NodeID

	// What it promised.
	accepted Ballot
	last     Slot
	chain    uint64
	commit   Slot
	first    Slot

	// What it holds of the own log.
	mode   mode
	base   Slot   // syncing, learning: the peer's log is the own one up to here, as far as is known
	next   Slot   // streaming: the first slot not yet sent
	match  Slot   // accepted at the own ballot, durable there
	acked  bool   // match is set: also 0 is accepted
	ends   []Slot // of the Accepts on the way, rising
	nacked Slot   // streaming: began again from here because of a Nack, and no progress since; learning: asked for by a Nack

	waiting     bool      // learning: a Learn is out
	since       Timestamp // when the oldest unanswered question was asked, or the last was answered if that is later
	sentAt      Timestamp // anything
	commitSent  Slot
	commitKnown Slot // by the peer
	flush       bool
}

// begin starts phase 2 towards a peer. A log that is the beginning of ours is continued; of another one only what it knew to
// be chosen is sure. A peer that did not promise is asked from our commit on, and says if that is too far.
func (pr *peer) begin(c *Core, promised bool) {
	pr.mode, pr.base = syncing, c.rec.Commit
	if !promised {
		return
	}
	pr.base = min(pr.commit, c.rec.Last)
	if have, known := c.chainAt(pr.last); known && have == pr.chain {
		pr.base = pr.last
	}
}

func (pr *peer) onAccepted(c *Core, upTo, commit Slot) {
	pr.commitKnown = max(pr.commitKnown, commit)
	if pr.acked && upTo <= pr.match {
		return
	}
	pr.acked, pr.match, pr.nacked, pr.since = true, upTo, 0, c.clock
	n := 0
	for n < len(pr.ends) && pr.ends[n] <= upTo {
		n++
	}
	pr.ends = pr.ends[n:]
	if pr.mode != streaming || pr.next <= upTo {
		pr.mode, pr.next = streaming, max(pr.next, upTo+1)
	}
}

func (pr *peer) onLearned(c *Core, upTo Slot) {
	if pr.mode != learning || upTo < pr.base {
		return
	}
	pr.base, pr.nacked, pr.waiting = upTo, 0, false
	pr.toSync(c)
}

// onNack begins again from where the peer says. A Nack that was overtaken changes nothing.
func (pr *peer) onNack(c *Core, m *Message) {
	if m.Accepted == c.ballot {
		if pr.mode != streaming { // it has taken an AcceptSync that it seemed to lack
			pr.mode, pr.next, pr.ends = streaming, m.Slot, nil
		} else if m.Slot > pr.match && m.Slot < pr.next && m.Slot != pr.nacked {
			pr.next, pr.nacked, pr.ends = m.Slot, m.Slot, nil
		}
		return
	}
	if pr.acked {
		return
	}
	if pr.mode == learning {
		pr.nacked = m.Slot // for tick: it may have forgotten, or this Nack be older than what it learned
		return
	}
	if base := m.Slot - 1; pr.mode != streaming || base != pr.base {
		pr.mode, pr.base, pr.ends = syncing, base, nil
		pr.toSync(c)
	}
}

// toSync chooses between an AcceptSync and, for a peer that lacks more than is in memory, a Learn before it.
func (pr *peer) toSync(c *Core) {
	switch {
	case !c.keeps(pr.base + 1):
		pr.mode = lost
	case pr.base+1 >= c.tailFirst():
		pr.mode = syncing
	default:
		pr.mode = learning
	}
}

func (pr *peer) wantsSend(c *Core) bool {
	switch pr.mode {
	case syncing:
		return true
	case learning:
		return !pr.waiting
	case streaming:
		return pr.next <= c.rec.Last && len(pr.ends) < c.tuning.InflightMessages || pr.flush
	}
	return false
}

// send puts out what the peer is to have. What it sends rests on the own promise only, which is durable: also entries that
// are not yet written here may go.
func (pr *peer) send(c *Core) {
	if pr.mode == syncing {
		pr.toSync(c)
	}
	switch pr.mode {
	case syncing:
		pr.sendSync(c)
	case learning:
		pr.sendLearn(c)
	}
	if pr.mode == streaming {
		pr.sendAccepts(c)
	}
}

func (pr *peer) put(c *Core, m Message) {
	m.From, m.To, m.Ballot, m.Commit = c.self, pr.id, c.ballot, c.rec.Commit
	c.now = append(c.now, m)
	pr.sentAt, pr.commitSent, pr.flush = c.clock, c.rec.Commit, false
}

// sendSync sends the log from base on, at least to where the recovered log ended: an acceptor takes that whole or not at all.
func (pr *peer) sendSync(c *Core) {
	before, err := c.chainBefore(pr.base + 1)
	if err != nil {
		return // kept in c.err
	}
	entries := c.slots(pr.base+1, c.rec.Last)
	if whole := c.recovered; pr.base < whole {
		entries = append(entries[:whole-pr.base:whole-pr.base], cut(entries[whole-pr.base:], c.tuning.MessageBytes)...)
	} else {
		entries = cut(entries, c.tuning.MessageBytes)
	}
	pr.put(c, Message{Type: AcceptSync, Slot: pr.base, Chain: before, Entries: entries})
	pr.mode, pr.next, pr.ends, pr.since = streaming, pr.base+Slot(len(entries))+1, nil, c.clock
}

func (pr *peer) sendLearn(c *Core) {
	if pr.waiting {
		return
	}
	before, entries, err := c.read(pr.base+1, c.rec.Commit)
	if err != nil {
		return // kept in c.err
	}
	pr.put(c, Message{Type: Learn, Slot: pr.base, Chain: before, Entries: entries})
	pr.waiting, pr.since = true, c.clock
}

func (pr *peer) sendAccepts(c *Core) {
	if pr.acked && pr.match+1 == pr.next {
		pr.since = c.clock
	}
	for pr.next <= c.rec.Last && len(pr.ends) < c.tuning.InflightMessages {
		if !c.keeps(pr.next) {
			pr.mode = lost
			return
		}
		before, entries, err := c.read(pr.next, c.rec.Last)
		if err != nil {
			return // kept in c.err
		}
		pr.put(c, Message{Type: Accept, Slot: pr.next - 1, Chain: before, Entries: entries})
		pr.next += Slot(len(entries))
		pr.ends = append(pr.ends, pr.next-1)
	}
	if pr.flush {
		pr.flush = false
		if before, known := c.chainAt(pr.next - 1); known { // else it lags, and other messages bring the commit
			pr.put(c, Message{Type: Accept, Slot: pr.next - 1, Chain: before})
		}
	}
}

// tick sends again what was not answered, and a commit that nothing carried.
func (pr *peer) tick(c *Core) {
	late := c.clock >= pr.since+c.tuning.RetryAfter
	switch {
	case pr.mode == learning && late:
		if pr.nacked != 0 {
			pr.base = min(pr.base, pr.nacked-1)
		}
		pr.nacked, pr.waiting, pr.since = 0, false, c.clock
		pr.toSync(c)
	case pr.mode == streaming && late && !pr.acked:
		pr.mode, pr.ends, pr.since = syncing, nil, c.clock
	case pr.mode == streaming && late && pr.match+1 < pr.next:
		pr.next, pr.nacked, pr.ends, pr.since = pr.match+1, 0, nil, c.clock
	case pr.mode == streaming && pr.commitKnown < c.rec.Commit:
		wait := c.tuning.RetryAfter
		if pr.commitSent < c.rec.Commit {
			wait = c.tuning.FlushAfter
		}
		pr.flush = c.clock >= pr.sentAt+wait
	}
}

// idle reports whether the peer has all there is.
func (pr *peer) idle(c *Core) bool {
	return pr.mode == lost || pr.mode == streaming && pr.acked && pr.match == c.rec.Last && pr.commitKnown >= c.rec.Commit
}
