// SPDX-License-Identifier: AGPL-3.0-only

// Package consensus is the state machine of one group's replicated log.
package consensus

import (
	"errors"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

type (
	// NodeID names a node for ever.
	NodeID = quorum.NodeID
	// Slot is a position in a group's log; the first is 1.
	Slot uint64
	// Timestamp is nanoseconds since the Unix epoch, from a hybrid logical clock.
	Timestamp = uint64
)

// Ballot orders the attempts at owning a group.
type Ballot struct {
	Cfg, Round uint64
	Node       NodeID
}

// Compare is -1, 0 or 1.
func (b Ballot) Compare(o Ballot) int { return 0 }

// Less reports b < o.
func (b Ballot) Less(o Ballot) bool { return b.Compare(o) < 0 }

// IsZero reports whether b is no ballot.
func (b Ballot) IsZero() bool { return b == Ballot{} }

// String is cfg.round.node.
func (b Ballot) String() string { return "" }

// Entry is one slot of a log.
type Entry struct {
	Slot    Slot
	Ballot  Ballot
	Time    Timestamp
	Payload []byte
	Chain   uint64
}

// AppendTo appends the entry's disk and wire layout.
func (e *Entry) AppendTo(dst []byte) []byte { return dst }

// DecodeEntry reads one; Payload aliases src.
func DecodeEntry(src []byte) (Entry, error) { return Entry{}, nil }

// Record is the acceptor's durable state.
type Record struct {
	Promised, Accepted                     Ballot
	Last, Commit, Applied, First, HaveFrom Slot
	LastTime                               Timestamp
	LastChain, AppliedChain                uint64
	Established                            uint64
}

// Append appends the record's disk layout.
func (r *Record) Append(dst []byte) []byte { return dst }

// DecodeRecord reads one.
func DecodeRecord(src []byte) (Record, error) { return Record{}, nil }

// Errors of Propose, Campaign, Step and New.
var (
	ErrNotOwner = errors.New("not the owner")                 // Propose: nothing was proposed
	ErrBusy     = errors.New("too much is waiting")           // Propose: nothing was proposed; take a Ready first
	ErrInvalid  = errors.New("invalid input")                 // the input was refused and changed nothing
	ErrBroken   = errors.New("consensus invariant is broken") // fatal: the node must stop
	ErrCorrupt  = errors.New("corrupt consensus record")      // decoders: checksum, version, bounds
)

// Log reads entries that a Ready wrote before. Nil for a sole voter.
type Log interface {
	// Entries returns slots lo.. in order, at most hi, at least one, stopping once maxBytes of payload are passed.
	Entries(lo, hi Slot, maxBytes int) ([]Entry, error)
}

// Options of a Core.
type Options struct {
	Self    NodeID
	Quorums *quorum.Config
	Cfg     uint64
	Record  Record  // zero: untouched
	Tail    []Entry // slots Applied+1..Last, empty for a sole voter
	Log     Log     // nil for a sole voter
}

// Message goes from one node's core to another's.
type Message struct {
	Type     uint8
	From, To NodeID
	Ballot   Ballot
	Entries  []Entry
}

// State of the proposer.
type State uint8

// States.
const (
	Follower State = iota
	Preparing
	Won
	Recovered
	Serving
)

// Status is a snapshot of a Core.
type Status struct {
	State                 State
	Ballot                Ballot // the own ballot when State is not Follower
	Owner                 NodeID // whose ballot was accepted last; 0: none
	Last, Commit, Applied Slot
	LastTime              Timestamp
	SoleVoter             bool
}

// Ready is what the caller must do. It is valid until Advance.
type Ready struct {
	Record        *Record
	Entries       []Entry
	TruncateFrom  Slot // 0: nothing; else delete log entries >= it, before Entries are written
	MustSync      bool
	MsgsNow       []Message
	MsgsAfterSync []Message
	Committed     []Entry
	Atomic        bool
}

// Core is one group's state machine.
type Core struct{}

func New(Options) (*Core, error) { return nil, ErrInvalid }
func (c *Core) Campaign() error  { return nil }
func (c *Core) Propose(now Timestamp, payload []byte) (Slot, Timestamp, error) {
	return 0, 0, ErrNotOwner
}
func (c *Core) Step(m Message) error { return nil }
func (c *Core) Tick(now Timestamp)   {}
func (c *Core) HasReady() bool       { return false }
func (c *Core) Ready() Ready         { return Ready{} }
func (c *Core) Advance()             {}
func (c *Core) Status() Status       { return Status{} }
func (c *Core) MayServeLocal() bool  { return false }
