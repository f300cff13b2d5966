// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"
	"strings"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// MessageType says what a Message asks or answers.
type MessageType uint8

// The messages. P is the node of the message's ballot, the proposer; A any other voter.
const (
	// Prepare, P to A: promise Ballot.
	Prepare MessageType = iota + 1
	// Promise, A to P: A promised Ballot. It describes A's log: Accepted, Last, Chain (of Last), Commit, First, Established.
	Promise
	// Fetch, P to A, which promised Ballot: send the slots Slot+1..Last of your log.
	Fetch
	// FetchReply, A to P: Entries from Slot+1 on, not always all. Chain is that of Slot.
	FetchReply
	// AcceptSync, P to A: accept at Ballot this log: the own one up to Slot, where its chain is Chain, then Entries, then
	// nothing. Entries reach at least to where P's recovered log ended.
	AcceptSync
	// Accept, P to A, which has accepted at Ballot: append Entries from Slot+1 on; Chain is that of Slot. Without entries it
	// only brings Commit.
	Accept
	// Accepted, A to P: the log up to Slot is accepted at Ballot and durable, and known to be chosen up to Commit.
	Accepted
	// Learn, P to A: the Entries from Slot+1 on, all up to Commit, are chosen; Chain is that of Slot. It is state for a node
	// that lags, not a vote.
	Learn
	// Learned, A to P: the log up to Slot, chosen, is durable.
	Learned
	// Nack, A to P: a message at Ballot was refused. Promised is what A has promised: if it is above Ballot, that is why. Else
	// Slot is the slot that A expects next: after its log if Accepted, where A last accepted, is Ballot; after its Commit if
	// it is not, which asks for an AcceptSync or a Learn from there.
	Nack
	// PrePrepare, P to A: would you promise Ballot? Nothing is promised by asking or answering.
	PrePrepare
	// PrePromise, A to P: A would promise Ballot, or a higher one of the same node: it has promised Promised. Established is
	// as in a Promise.
	PrePromise
	// Cancel, P to A: P has given up Ballot, a global one, before it was won, and will never use it.
	Cancel
	// Release, from the owner of Ballot to the node that is to own next: the owner has ended Ballot. Its log went to Last, its
	// Commit is Commit, its home was Home.
	Release
	// Fortify, P to A, which has accepted at Ballot: tie yourself to Epoch of P.
	Fortify
	// Fortified, A to P: A is tied to FortEpoch of P, durably.
	Fortified
	// Confirm, P to A: say that Ballot is still the highest that you promised. Seq says which question this is.
	Confirm
	// Confirmed, A to P: at the time of question Seq, Ballot was the highest that A had promised.
	Confirmed
	// Snapshot, P to A: the state at Slot, of this Chain and Time, travels beside this message.
	Snapshot
)

var messageNames = [...]string{
	Prepare: "Prepare", Promise: "Promise", Fetch: "Fetch", FetchReply: "FetchReply", AcceptSync: "AcceptSync", Accept: "Accept",
	Accepted: "Accepted", Learn: "Learn", Learned: "Learned", Nack: "Nack",
	PrePrepare: "PrePrepare", PrePromise: "PrePromise", Cancel: "Cancel", Release: "Release", Fortify: "Fortify", Fortified: "Fortified",
	Confirm: "Confirm", Confirmed: "Confirmed", Snapshot: "Snapshot",
}

// String is the name of the message, as the documents have it.
func (t MessageType) String() string {
	if t == 0 || int(t) >= len(messageNames) {
		return fmt.Sprintf("MessageType(%d)", uint8(t))
	}
	return messageNames[t]
}

// fromProposer reports whether the node of the message's ballot sends it; else it receives it.
func (t MessageType) fromProposer() bool {
	switch t {
	case Prepare, Fetch, AcceptSync, Accept, Learn:
		return true
	}
	return false
}

// Message goes from one node's core to another's. Messages may be lost, repeated, delayed and reordered, but not changed.
// What the fields mean is said at the types.
type Message struct {
	Type     MessageType
	From, To NodeID
	Ballot   Ballot
	Slot     Slot
	Chain    uint64
	Entries  []Entry // shared with the core: read only
	Commit   Slot
	// Promise and Nack.
	Promised, Accepted Ballot
	Last               Slot // also Fetch
	// Promise.
	First       Slot
	Established uint64

	Time           Timestamp   // Snapshot: of Slot
	Scope          Scope       // of Ballot
	Home           quorum.Home // of Ballot, relative to its configuration
	AcceptedHome   quorum.Home // of Accepted, relative to its configuration
	GlobalPromised Ballot      // Promise: the highest promise to a global ballot above Accepted
	Release        Ballot      // PrePrepare and Prepare: the ballot that its owner released to the sender
	Epoch          uint64      // of the owner's life: AcceptSync, Accept, Fortify
	FortEpoch      uint64      // of the owner's life that the acceptor is tied to, 0 for none: Accepted, Fortified
	Seq            uint64      // Confirm, Confirmed
	StaleCfg       uint64      // Nack, if not 0: ballots of configurations below it are not answered any more
	LeasedOwner    NodeID      // Nack, if not 0: the acceptor is tied to this owner
	LeasedFor      Timestamp   // and for so many nanoseconds more
	StopSlot       Slot        // Promise, Snapshot: of the last stop-sign known to be chosen, 0 for none
	StopNext       uint64      // and the configuration that it leads to
}

// String is one line for transcripts and traces; payloads stay out of it.
func (m Message) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d->%d %s %s", m.From, m.To, m.Type, m.Ballot)
	switch m.Type {
	case Promise:
		fmt.Fprintf(&b, " accepted=%s last=%d commit=%d first=%d", m.Accepted, m.Last, m.Commit, m.First)
	case Fetch:
		fmt.Fprintf(&b, " slots=%d..%d", m.Slot+1, m.Last)
	case FetchReply, AcceptSync, Accept, Learn:
		fmt.Fprintf(&b, " after=%d entries=%d commit=%d", m.Slot, len(m.Entries), m.Commit)
	case Accepted:
		fmt.Fprintf(&b, " upTo=%d commit=%d", m.Slot, m.Commit)
	case Learned:
		fmt.Fprintf(&b, " upTo=%d", m.Slot)
	case Nack:
		fmt.Fprintf(&b, " promised=%s accepted=%s expect=%d", m.Promised, m.Accepted, m.Slot)
	}
	return b.String()
}

// checkMessage refuses what no correct peer sends. It looks at nothing but the message, the configuration and the highest
// round promised, and changes nothing but roundSlack.
func (c *Core) checkMessage(m *Message) error {
	switch {
	case m.Type == 0 || int(m.Type) >= len(messageNames):
		return fmt.Errorf("unknown type %d", uint8(m.Type))
	case m.To != c.self:
		return fmt.Errorf("it is for node %d, this is %d", m.To, c.self)
	case m.From == c.self:
		return fmt.Errorf("it is from this node")
	case m.Ballot.Cfg != c.cfg:
		return fmt.Errorf("ballot %s is of another configuration than %d", m.Ballot, c.cfg)
	}
	if _, ok := c.quorums.Index(m.From); !ok {
		return fmt.Errorf("node %d is no voter", m.From)
	}
	proposer := m.To
	if m.Type.fromProposer() {
		proposer = m.From
	}
	if m.Ballot.Node != proposer {
		return fmt.Errorf("ballot %s is not of node %d", m.Ballot, proposer)
	}
	if m.Slot > SlotMax || m.Last > SlotMax || m.Commit > SlotMax {
		return fmt.Errorf("slot %d, last %d or commit %d exceeds limit %d", m.Slot, m.Last, m.Commit, SlotMax)
	}
	for _, b := range [3]Ballot{m.Ballot, m.Promised, m.Accepted} {
		if err := c.checkRound(b); err != nil {
			return err
		}
	}
	return c.checkFields(m)
}

// checkRound refuses a round that no campaign can have reached: see RoundJumpMax. It is what keeps a hostile ballot from
// using up the rounds, since it is never promised, and never the base of an own round.
func (c *Core) checkRound(b Ballot) error {
	if b.IsZero() {
		return nil
	}
	if err := checkBallot(b); err != nil {
		return err
	}
	if limit := c.rec.Promised.Round + RoundJumpMax + c.roundSlack; b.Round > limit {
		c.roundSlack = min(c.roundSlack+RoundJumpMax, RoundMax)
		return fmt.Errorf("ballot %s: round is more than %d above the %d promised here", b, limit-c.rec.Promised.Round, c.rec.Promised.Round)
	}
	return nil
}

func (c *Core) checkFields(m *Message) error {
	if m.Ballot.IsZero() {
		return fmt.Errorf("no ballot")
	}
	switch m.Type {
	case Promise:
		if m.Last == 0 && m.Chain != 0 {
			return fmt.Errorf("chain %016x before the first slot", m.Chain)
		}
		if m.Commit > m.Last || m.First == 0 || m.First > m.Last+1 || !m.Accepted.Less(m.Ballot) {
			return fmt.Errorf("commit %d, last %d, first %d, accepted %s do not go together", m.Commit, m.Last, m.First, m.Accepted)
		}
	case Nack:
		if m.Slot == 0 || m.Promised.Less(m.Accepted) {
			return fmt.Errorf("expected slot %d, promised %s, accepted %s do not go together", m.Slot, m.Promised, m.Accepted)
		}
	case FetchReply, AcceptSync, Accept, Learn:
		return checkEntries(m)
	}
	if len(m.Entries) > 0 {
		return fmt.Errorf("%s with entries", m.Type)
	}
	return nil
}

func checkEntries(m *Message) error {
	if m.Slot == 0 && m.Chain != 0 {
		return fmt.Errorf("chain %016x before the first slot", m.Chain)
	}
	if n := len(m.Entries); n > EntriesPerMessageMax {
		return fmt.Errorf("%d entries exceed limit %d", n, EntriesPerMessageMax)
	}
	if err := checkRun(m.Slot, m.Chain, m.Entries); err != nil {
		return err
	}
	for i := range m.Entries {
		if e := &m.Entries[i]; m.Ballot.Less(e.Ballot) {
			return fmt.Errorf("slot %d: ballot %s is above the message's", e.Slot, e.Ballot)
		}
	}
	end := m.Slot + Slot(len(m.Entries))
	switch {
	case m.Type == Learn && end > m.Commit:
		return fmt.Errorf("slot %d is above commit %d", end, m.Commit)
	case (m.Type == Learn || m.Type == FetchReply) && len(m.Entries) == 0:
		return fmt.Errorf("no entries")
	}
	return nil
}
