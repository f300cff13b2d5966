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
	// Promise, A to P: A promised Ballot. It describes A's log: Accepted, Last, Chain (of Last), Commit, First, Established;
	// and its clock, Time.
	Promise
	// Fetch, P to A, which promised Ballot: send the slots Slot+1..Last of your log. If Seq is not 0, a Snapshot will do.
	Fetch
	// FetchReply, A to P: Entries from Slot+1 on, not always all. Chain is that of Slot. Without entries, A keeps its log from
	// First only.
	FetchReply
	// AcceptSync, P to A: accept at Ballot this log: the own one up to Slot, where its chain is Chain, then Entries, then
	// nothing. Entries reach at least to where P's recovered log ended. A's clock is Time at least from now on.
	AcceptSync
	// Accept, P to A, which has accepted at Ballot: append Entries from Slot+1 on; Chain is that of Slot. Without entries it
	// only brings Commit.
	Accept
	// Accepted, A to P: the log up to Slot is accepted at Ballot and durable, and known to be chosen up to Commit and in
	// configuration Established. FortEpoch is P's life that A is tied to.
	Accepted
	// Learn, P to A: the Entries from Slot+1 on, all up to Commit, are chosen; Chain is that of Slot. It is state, for a node
	// that lags, stands outside of the home or has no vote, and no vote. Without entries it asks how far A has learned.
	Learn
	// Learned, A to P: the log up to Slot, chosen, is durable, and Established known.
	Learned
	// Nack, A to P: a message at Ballot was refused. Promised is what A has promised: if it is above Ballot, that is why. Else
	// Slot is the slot that A expects next: after its log if Accepted, where A last accepted, is Ballot; after its Commit if
	// it is not, which asks for an AcceptSync or a Learn from there.
	Nack
	// PrePrepare, P to A: would you promise Ballot? Nothing is promised by asking or answering.
	PrePrepare
	// PrePromise, A to P: A would promise Ballot, or a higher one of the same node: it has promised Promised. Established and
	// the stop-sign are as in a Promise. Release, if any, says that A holds no lease at any own
	// ballot up to it and never will.
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
	// Snapshot, P to A, or A to P when it was asked for by a Fetch: the state at Slot, of this Chain and Time, travels beside
	// this message.
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
	case Prepare, Fetch, AcceptSync, Accept, Learn, PrePrepare, Cancel, Release, Fortify, Confirm, Snapshot:
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
	// Promise and Nack. Accepted also of PrePrepare and Prepare: the ballot of the sender's log, which was won.
	Promised, Accepted Ballot
	Last               Slot // also Fetch
	// Promise.
	First       Slot
	Established uint64

	Time           Timestamp   // Snapshot: of Slot; Promise: A's clock; AcceptSync: up to here P proposes nothing new
	Scope          Scope       // of Ballot
	Home           quorum.Home // of Ballot, relative to its configuration
	AcceptedHome   quorum.Home // of Accepted, relative to its configuration
	GlobalPromised Ballot      // Promise: the highest promise to a global ballot above Accepted
	Release        Ballot      // PrePrepare and Prepare: up to this ballot its node holds no lease, as it said itself; Nack: what was shown
	Epoch          uint64      // of the owner's life: AcceptSync, Accept, Fortify
	FortEpoch      uint64      // of the owner's life that the acceptor is tied to, 0 for none: Accepted, Fortified
	Seq            uint64      // Confirm, Confirmed
	StaleCfg       uint64      // Nack, if not 0: ballots of configurations below it are not answered any more
	LeasedOwner    NodeID      // Nack, if not 0: the acceptor is tied to this owner
	LeasedFor      Timestamp   // and for so many nanoseconds more
	StopSlot       Slot        // Promise, Snapshot: of the last stop-sign known to be chosen, 0 for none
	StopNext       uint64      // and the configuration that it leads to
}

// String is one line for transcripts and traces; payloads stay out of it, and what is as usual.
func (m Message) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d->%d %s %s", m.From, m.To, m.Type, m.Ballot)
	put := func(show bool, format string, args ...any) {
		if show {
			fmt.Fprintf(&b, " "+format, args...)
		}
	}
	put(m.Scope != Global, "%s", m.Scope)
	switch m.Type {
	case Promise:
		put(true, "accepted=%s last=%d commit=%d first=%d", m.Accepted, m.Last, m.Commit, m.First)
		put(!m.GlobalPromised.IsZero(), "global-promised=%s", m.GlobalPromised)
		put(m.Time != 0, "clock=%d", m.Time)
	case PrePrepare, Prepare:
		put(!m.Accepted.IsZero(), "won=%s", m.Accepted)
	case PrePromise:
		put(true, "promised=%s", m.Promised)
	case Fetch:
		put(true, "slots=%d..%d", m.Slot+1, m.Last)
	case FetchReply, AcceptSync, Accept, Learn:
		put(true, "after=%d entries=%d commit=%d", m.Slot, len(m.Entries), m.Commit)
		put(m.Time != 0, "bound=%d", m.Time)
	case Accepted:
		put(true, "upTo=%d commit=%d", m.Slot, m.Commit)
	case Learned:
		put(true, "upTo=%d", m.Slot)
	case Nack:
		put(true, "promised=%s accepted=%s expect=%d", m.Promised, m.Accepted, m.Slot)
		put(m.StaleCfg != 0, "stale-cfg=%d", m.StaleCfg)
		put(m.LeasedOwner != 0, "leased-by=%d for=%dms", m.LeasedOwner, m.LeasedFor/1e6)
	case Release:
		put(true, "last=%d commit=%d", m.Last, m.Commit)
	case Confirm, Confirmed:
		put(true, "seq=%d", m.Seq)
	case Snapshot:
		put(true, "slot=%d commit=%d", m.Slot, m.Commit)
	}
	put(!m.Release.IsZero(), "release=%s", m.Release)
	put(m.Epoch != 0, "epoch=%d", m.Epoch)
	put(m.FortEpoch != 0 || m.Type == Fortified, "fort=%d", m.FortEpoch)
	put(m.StopSlot != 0, "stop=%d->%d", m.StopSlot, m.StopNext)
	return b.String()
}
