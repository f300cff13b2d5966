// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// What the errors of this package are.
var (
	// ErrNotOwner: Propose was called without a won ballot. Nothing was proposed.
	ErrNotOwner = errors.New("not the owner")
	// ErrBusy: Propose found the bounds on what is not committed reached (Tuning.UncommittedEntries, UncommittedBytes). Nothing was proposed.
	// Take the Ready, or wait for peers, and try again.
	ErrBusy = errors.New("too much is not committed yet")
	// ErrNotVoter: Campaign was called on a node that is no voter of the newest configuration.
	ErrNotVoter = errors.New("not a voter")
	// ErrStopped: a stop-sign is in the log: nothing more is proposed or read in this configuration. Nothing was done.
	ErrStopped = errors.New("stopped for a newer configuration")
	// ErrUnknownConfiguration: Step found a ballot of a configuration above all that are known here. Nothing was changed: tell
	// the core of it with Configure and give it the message again, or drop the message.
	ErrUnknownConfiguration = errors.New("unknown configuration")
	// ErrInvalid: the input was refused and changed nothing. From Step it is the sender's fault.
	ErrInvalid = errors.New("invalid consensus input")
	// ErrCorrupt: a record, an entry or a log on disk is not what was written. The node must stop.
	ErrCorrupt = errors.New("corrupt consensus state")
	// ErrBroken: an invariant of the protocol does not hold: two nodes hold different chosen logs, or this node's state is not
	// what it was. The node must stop. Once a Core has returned it, or ErrCorrupt from its Log, it does nothing more.
	ErrBroken = errors.New("consensus invariant broken")
)

// Log reads entries that earlier Readies told the caller to write.
type Log interface {
	// Entries returns slots from lo on, in order: at least lo, at most to hi, and no more once the payloads exceed maxBytes.
	// The core asks only for slots First..Last of the Record. Any error stops the core for good.
	Entries(lo, hi Slot, maxBytes int) ([]Entry, error)
}

// Fabric is what the node knows of the lives of nodes, its own included: *liveness.Core fits it. All answers are of now.
type Fabric interface {
	// Epoch is this node's own present life; 0 is none.
	Epoch() uint64
	// Supports reports whether this node supports exactly this life of the node, and for how many nanoseconds more.
	Supports(node NodeID, epoch uint64) (remaining Timestamp, ok bool)
	// SupportFrom reports whether the node supports this node's present life, counted from when this node asked.
	SupportFrom(node NodeID) bool
	// Quarantined reports whether this node started so recently that it may support lives that it has forgotten, and for how
	// many nanoseconds more that lasts.
	Quarantined() (remaining Timestamp, ok bool)
}

// Options make a Core.
type Options struct {
	// Self is this node. It need not be a voter: then the core learns only.
	Self NodeID
	// Configurations are those of the group that are not retired, oldest first: 1 to ConfigurationsMax, of rising versions.
	Configurations []Configuration
	// MinCfg is the configuration below which all is sealed: see Seal.
	MinCfg uint64
	// Home is the regions whose voters are to vote in phase 2 of own global ballots; empty for all. See SetHome.
	Home []quorum.Region
	// Record is what was last written; zero for an untouched group (duty 6).
	Record Record
	// Tail is the slots Applied+1..Last of the log, which the core keeps (duty 6). Empty for a sole voter.
	Tail []Entry
	// Log reads the log, for peers that lag. Only a sole voter needs none.
	Log Log
	// Fabric says who is alive; nil for a group without leases: then nobody is ever kept from a campaign.
	Fabric Fabric
	// Tuning bounds memory and sets delays; nil for DefaultTuning. The core keeps the pointer, which many may share.
	Tuning *Tuning
}

// State is how far the own ballot has come: see the diagram in the package comment.
type State uint8

// The states, in the order in which they are gone through.
const (
	// Follower: no own ballot, or one that a higher has ended.
	Follower State = iota
	// Probing: a global ballot is wanted, and those whose promises it needs are asked whether they would give them.
	Probing
	// Preparing: the own ballot waits for promises, then for the log to adopt.
	Preparing
	// Won: the log is adopted and Propose works, but what others owned before may not be chosen yet.
	Won
	// Recovered: the adopted log is chosen at the own ballot.
	Recovered
	// Serving: it is applied too. Answers that rest on the state may be given as far as the lease rules allow.
	Serving
)

var stateNames = [...]string{Follower: "Follower", Probing: "Probing", Preparing: "Preparing", Won: "Won", Recovered: "Recovered", Serving: "Serving"}

// String is the name of the state.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return stateNames[s]
}

// Status says where a Core stands. Slots and times count what is still to be written, except Applied.
type Status struct {
	State     State
	Ballot    Ballot // the own ballot; zero for a Follower
	Promised  Ballot // the highest promised
	Owner     NodeID // of the log: who owned it when it was last accepted here; 0 is nobody
	Last      Slot
	Commit    Slot
	Applied   Slot // through the last Advance
	LastTime  Timestamp
	SoleVoter bool
	// Behind: the last campaign ended because the log to adopt is not kept from where this node's ends.
	Behind bool
	// Cfg is the newest configuration known. Scope and Home are those of the own ballot, Home relative to Ballot.Cfg.
	Cfg   uint64
	Scope Scope
	Home  quorum.Home
	// NeedGlobal: the last campaign was local and cannot be won so.
	NeedGlobal bool
	// StaleCfg is the highest configuration below which a peer has said that it answers nothing. Above Cfg, configurations are
	// missing here.
	StaleCfg uint64
	// Stopped: a stop-sign is in the log, and nothing more can be proposed at a ballot of a configuration below StopNext. It is
	// known to be chosen when StopSlot <= Commit.
	Stopped  bool
	StopSlot Slot
	StopNext uint64
	// Established is the highest configuration in which a log is known here to be chosen.
	Established uint64
	// TrimTo is a slot up to which the log can be compacted without keeping it from anyone: see Compact.
	TrimTo Slot
	// LeasedBy is who kept the last campaign from its promises, Owner 0 if nobody.
	LeasedBy LeasedBy
	// Released is the ballot that its owner released to this node, until a campaign has used it; zero for none.
	Released Ballot
}

// LeasedBy is an owner to whose life acceptors are tied, and for how many nanoseconds more at least.
type LeasedBy struct {
	Owner     NodeID
	Remaining Timestamp
}

// Ready is what the caller must do now. Its slices and Record are the core's own: read only, and valid until Advance, except
// the Messages, which stay valid. The duties are numbered in the package comment.
type Ready struct {
	// Record to write, nil if unchanged (duty 1).
	Record *Record
	// TruncateFrom, unless 0, is the slot from which on the log on disk is deleted, before Entries are written (duty 1).
	TruncateFrom Slot
	// CompactTo, unless 0, is the slot up to and with which the log on disk is deleted.
	CompactTo Slot
	// Snapshot, unless nil, is the snapshot that was taken over: the state staged for it is ingested with this batch.
	Snapshot *SnapshotMeta
	// Entries to write to the log (duty 1). None if Atomic.
	Entries []Entry
	// Withdrawals are lives that this node will not support any more: durable with the batch, and the node's liveness told of
	// them before MsgsAfterSync are sent.
	Withdrawals []Withdrawal
	// MustSync: the batch must be durable before MsgsAfterSync are sent and before Advance (duty 2).
	MustSync bool
	// MsgsNow may be sent at once, also while the batch is being written (duty 3).
	MsgsNow []Message
	// MsgsAfterSync may be sent only once the batch is durable (duty 3).
	MsgsAfterSync []Message
	// Committed are to be applied in the same batch as Record, which counts them in Applied (duty 4).
	Committed []Entry
	// Reads may be answered from any state in which Slot is applied. ReadsLost cannot be answered here any more.
	Reads     []ReadState
	ReadsLost []uint64
	// Atomic, of every Ready of a sole voter: Committed are not chosen before this batch is durable, since this node alone
	// chooses. Nobody may see their effects before (duty 5).
	Atomic bool
}

// Withdrawal is the lowest life of a node that may be supported from now on.
type Withdrawal struct {
	Node  NodeID
	Epoch uint64
}

// ReadState answers ReadIndex: the read of this ID sees all that was chosen before it was asked for, from any state with Slot
// applied.
type ReadState struct {
	ID   uint64
	Slot Slot
}

// SnapshotMeta is what a Snapshot says of the state that came with it.
type SnapshotMeta struct {
	From        NodeID
	Ballot      Ballot
	Slot        Slot // of the state: everything up to it is applied, nothing after it
	Chain       uint64
	Time        Timestamp
	Established uint64
	StopSlot    Slot
	StopNext    uint64
}

// Core is the state machine of one group on one node. It is not safe for concurrent use.
type Core struct {
	self    NodeID
	cfg     uint64
	quorums *quorum.Config
	log     Log
	tuning  *Tuning
	sole    bool
	err     error // once set, the core does nothing more

	// What the disk will hold when all that was and will be handed out is written.
	rec  Record
	tail []Entry // the last len(tail) slots of the log: all above applied, and what an owner keeps for its peers
	room [1]Entry
	// tailBytes is the payloads in tail; released how many entries before it its array still holds, at most.
	tailBytes, released int
	// unstable is the first slot not yet handed out for writing; truncateFrom what is to be deleted first, 0 for nothing.
	unstable     Slot
	truncateFrom Slot
	dirty        bool // rec differs from what was handed out
	mustSync     bool
	ackDue       bool // the owner is to hear how far the log goes
	now, after   []Message

	// The Ready that is out, if any.
	ready    bool
	readyRec Record
	applied  Slot // through the last Advance

	// The own ballot.
	state            State
	ballot           Ballot
	recovered        Slot   // the design's `sync`: where the adopted log ended
	roundSeen        uint64 // told by Nacks
	roundSlack       uint64 // see RoundJumpMax
	behind           bool
	uncommittedBytes int
	p                *proposer // nil for a Follower and for a sole voter

	clock Timestamp
}

// New makes the core of a group from what was written of it. It refuses, with an error that is ErrInvalid, options that
// cannot be, and with ErrCorrupt or ErrBroken a record and tail that do not belong together; the node must then stop.
func New(o Options) (*Core, error) {
	if err := checkConfigurations(o.Configurations); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	newest := o.Configurations[len(o.Configurations)-1]
	sole := newest.Quorums.SoleVoter(o.Self)
	if !sole {
		if o.Log == nil {
			return nil, fmt.Errorf("%w: no log to read", ErrInvalid)
		}
	}
	if err := o.Record.check(); err != nil {
		return nil, fmt.Errorf("%w: record: %w", ErrCorrupt, err)
	}
	for _, b := range [2]Ballot{o.Record.Promised, o.Record.Accepted} {
		if !b.IsZero() && b.Cfg != newest.Version {
			return nil, fmt.Errorf("%w: record has ballot %s of another configuration than %d", ErrInvalid, b, newest.Version)
		}
	}
	tuning := &defaultTuning
	if o.Tuning != nil {
		tuning = o.Tuning
		if err := tuning.validate(); err != nil {
			return nil, fmt.Errorf("%w: tuning: %w", ErrInvalid, err)
		}
	}
	c := &Core{
		self: o.Self, cfg: newest.Version, quorums: newest.Quorums, log: o.Log, tuning: tuning, sole: sole,
		rec: o.Record, applied: o.Record.Applied, unstable: o.Record.Last + 1,
	}
	if c.rec.First == 0 {
		c.rec.First = 1
	}
	if err := c.loadTail(o.Tail); err != nil {
		return nil, err
	}
	return c, nil
}

// loadTail checks that the tail is what lies between the record's Applied and Last.
func (c *Core) loadTail(tail []Entry) error {
	if have, want := Slot(len(tail)), c.rec.Last-c.rec.Applied; have != want {
		return fmt.Errorf("%w: log has %d entries after slot %d, record wants %d", ErrCorrupt, have, c.rec.Applied, want)
	}
	if len(tail) == 0 {
		c.tail = c.room[:0]
		return nil
	}
	if err := checkRun(c.rec.Applied, c.rec.AppliedChain, tail); err != nil {
		return fmt.Errorf("%w: log: %w", ErrBroken, err)
	}
	if end := &tail[len(tail)-1]; end.Chain != c.rec.LastChain || end.Time != c.rec.LastTime {
		return fmt.Errorf("%w: slot %d has chain %016x and time %d, record %016x and %d",
			ErrBroken, end.Slot, end.Chain, end.Time, c.rec.LastChain, c.rec.LastTime)
	}
	c.tail = tail[:len(tail):len(tail)]
	for i := range tail {
		c.tailBytes += len(tail[i].Payload)
	}
	return nil
}

// Err is what stopped the core: ErrBroken, or what its Log returned. The caller looks at it after each Ready.
func (c *Core) Err() error { return c.err }

// fail stops the core.
func (c *Core) fail(format string, args ...any) error {
	if c.err == nil {
		c.err = fmt.Errorf("%w: "+format, append([]any{ErrBroken}, args...)...)
	}
	return c.err
}

// Step takes a message from another node. An error that is ErrInvalid is the sender's fault and changed nothing (but see RoundJumpMax); any other
// stops the node. A message that came too late or twice is no error. The core keeps the message's entries.
func (c *Core) Step(m Message) error {
	if c.err != nil {
		return c.err
	}
	if err := c.checkMessage(&m); err != nil {
		return fmt.Errorf("%w: %s from node %d: %w", ErrInvalid, m.Type, m.From, err)
	}
	if m.Type.fromProposer() {
		return c.stepAcceptor(&m)
	}
	return c.stepProposer(&m)
}

// Tick brings the time, at least every Tuning.FlushAfter for a core with NeedsTick: it sends again what was not
// answered in Tuning.RetryAfter, and commits that found no message to ride on. A time that runs back is ignored.
func (c *Core) Tick(now Timestamp) {
	c.clock = max(c.clock, min(now, TimeMax))
	if c.err == nil && c.p != nil {
		c.p.tick(c)
	}
}

// NeedsTick reports whether Tick can have something to do before the next input. A core without is idle.
func (c *Core) NeedsTick() bool { return c.err == nil && c.p != nil && c.p.needsTick(c) }

// Status says where the core stands.
func (c *Core) Status() Status {
	return Status{
		State: c.state, Ballot: c.ballot, Promised: c.rec.Promised, Owner: c.rec.Accepted.Node,
		Last: c.rec.Last, Commit: c.rec.Commit, Applied: c.applied, LastTime: c.rec.LastTime,
		SoleVoter: c.sole, Behind: c.behind,
	}
}

// MayServeLocal reports whether the local state is the newest there can be, without any ballot: this node is the only voter,
// and nothing is unapplied.
func (c *Core) MayServeLocal() bool { return c.err == nil && c.sole && c.applied == c.rec.Last }

// HasReady reports whether Ready has something, which it does not while one is out.
func (c *Core) HasReady() bool {
	if c.ready || c.err != nil {
		return false
	}
	if c.sole {
		return c.dirty
	}
	return c.dirty || c.ackDue || c.rec.Applied < c.rec.Commit || len(c.now) > 0 || len(c.after) > 0 || (c.p != nil && c.p.wantsSend(c))
}

// Ready returns all that is to be done, and is followed by Advance when it is done. While one Ready is out it returns an
// empty one. Step, Propose, Campaign and Tick may be called in between; what they cause is in the next.
func (c *Core) Ready() Ready {
	if c.ready || c.err != nil {
		return Ready{}
	}
	if c.sole {
		return c.readySole()
	}
	if c.p != nil {
		c.p.send(c)
		if c.err != nil {
			return Ready{}
		}
	}
	if c.ackDue {
		c.ackDue = false
		c.sendAccepted()
	}
	r := Ready{
		TruncateFrom: c.truncateFrom, Entries: c.slots(c.unstable, c.rec.Last), MustSync: c.mustSync,
		MsgsNow: c.now, MsgsAfterSync: c.after,
	}
	if c.rec.Applied < c.rec.Commit {
		r.Committed = c.slots(c.rec.Applied+1, c.rec.Commit)
		end := &r.Committed[len(r.Committed)-1]
		c.rec.Applied, c.rec.AppliedTime, c.rec.AppliedChain = end.Slot, end.Time, end.Chain
		c.dirty = true
	}
	c.handOut(&r)
	return r
}

// readySole commits at once: the batch that makes the log durable makes it chosen.
func (c *Core) readySole() Ready {
	var r Ready
	if !c.dirty {
		return r
	}
	r.MustSync, r.Atomic = c.mustSync, true
	if c.state >= Won && c.rec.Applied < c.rec.Last {
		r.Committed = c.slots(c.rec.Applied+1, c.rec.Last)
		if c.rec.First < c.unstable { // the log of a time with more voters: this batch applies its end, and then none is kept
			r.TruncateFrom = c.rec.First
		}
		c.rec.Commit, c.rec.Applied = c.rec.Last, c.rec.Last
		c.rec.AppliedTime, c.rec.AppliedChain = c.rec.LastTime, c.rec.LastChain
		c.rec.First = c.rec.Last + 1
		c.rec.Established = max(c.rec.Established, c.cfg)
		c.uncommittedBytes = 0
	}
	c.handOut(&r)
	return r
}

// handOut marks all as handed out.
func (c *Core) handOut(r *Ready) {
	if c.dirty {
		c.readyRec = c.rec
		r.Record = &c.readyRec
	}
	c.ready, c.dirty, c.mustSync = true, false, false
	c.unstable, c.truncateFrom = c.rec.Last+1, 0
	c.now, c.after = nil, nil
}

// Advance says that the Ready is done: its batch is written, and durable if MustSync, its Committed are applied, its
// messages are with the transport. Requires: a Ready is out; else it does nothing.
func (c *Core) Advance() {
	if !c.ready {
		return
	}
	c.ready = false
	if c.err != nil {
		return
	}
	handed := c.rec.Applied
	if c.sole {
		c.advanceSole()
	} else {
		c.advance()
	}
	c.applied = max(c.applied, handed)
	if c.state == Recovered && c.applied >= c.recovered {
		c.state = Serving
	}
}

func (c *Core) advanceSole() {
	n := len(c.tail) - int(c.rec.Last-c.rec.Applied)
	for i := range c.tail[:n] {
		c.tailBytes -= len(c.tail[i].Payload)
	}
	rest := copy(c.tail, c.tail[n:])
	clear(c.tail[rest:])
	c.tail = c.tail[:rest]
	if cap(c.tail) > c.tuning.RetainedEntries {
		c.tail = append(c.room[:0], c.tail...)
	}
	if c.state == Won {
		c.state = Recovered
	}
}

func (c *Core) advance() {
	// The log and the promise as they were handed out are durable; only what stands at the own ballot counts for it.
	if c.p != nil && c.readyRec.Promised == c.ballot {
		c.p.durable(c)
	}
	c.release()
}

// release lets go of entries that are applied, once no peer needs them or they are too many.
func (c *Core) release() {
	needed := c.rec.Last
	if c.p != nil {
		needed = c.p.needed(c)
	}
	n := 0
	for n < len(c.tail) && c.tail[n].Slot <= c.rec.Applied &&
		(c.tail[n].Slot <= needed || len(c.tail)-n > c.tuning.RetainedEntries || c.tailBytes > c.tuning.RetainedBytes) {
		c.tailBytes -= len(c.tail[n].Payload)
		n++
	}
	c.tail, c.released = c.tail[n:], c.released+n
	// Entries were handed out, so that they stay as they are; what holds only released ones is left to the collector.
	if c.released > len(c.tail) {
		c.tail, c.released = slices.Clone(c.tail), 0
	}
}

// slots is lo..hi of the tail, nil if that is empty. Requires: the tail holds them. The result does not grow into the tail.
func (c *Core) slots(lo, hi Slot) []Entry {
	if lo > hi {
		return nil
	}
	first := c.rec.Last + 1 - Slot(len(c.tail))
	return c.tail[lo-first : hi+1-first : hi+1-first]
}

// append puts an entry behind the log.
func (c *Core) append(e Entry) {
	c.tail = append(c.tail, e)
	c.tailBytes += len(e.Payload)
	c.rec.Last, c.rec.LastTime, c.rec.LastChain = e.Slot, e.Time, e.Chain
	c.dirty, c.mustSync = true, true
}
