// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/internal/failpoint"
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
	// ErrNoLease: Close was called without a lease, ErrCeiling with one under which no time can be claimed yet that is later than that of
	// the log. Nothing was claimed; try again.
	ErrNoLease = errors.New("no lease")
	ErrCeiling = errors.New("no later time can be closed")
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
	// The core asks only for slots First..Last of the Record, and sends on what it gets: entries and payloads must not change
	// afterwards. Any error stops the core for good.
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
	// Withdraw makes minEpoch the lowest life of the node that this one will ever support, from now on: a heartbeat on its way
	// must not bring support back for which a promise was given. It is told again, to be written, in Ready.Withdrawals. An
	// error says that a lower one is supported now; it stops the core.
	Withdraw(node NodeID, minEpoch uint64) error
	// Clock is this node's hybrid logical clock; 0 is unknown. It is never below what ClockFrom has told anybody of it, nor
	// below what Observe was told and was written: in no life of this node (duty 19).
	Clock() Timestamp
	// ClockFrom is the latest that the node has said of its Clock; of this node itself, what it may say: as much as is sure to
	// outlive a crash. 0 is unknown.
	ClockFrom(node NodeID) Timestamp
	// Observe brings Clock to this time at least. It is told again, to be written, in Ready.Clock.
	Observe(t Timestamp)
}

// Options make a Core.
type Options struct {
	// Self is this node, not 0. It need not be a voter: then the core learns only.
	Self NodeID
	// Configurations are those of the group that are not retired, oldest first: 1 to ConfigurationsMax, of rising versions
	// (duties 6 and 17). The core keeps the slice and does not change it.
	Configurations []Configuration
	// MinCfg is the configuration below which all is sealed: see Seal (duty 6).
	MinCfg uint64
	// Home is the regions whose voters are to vote in phase 2 of own global ballots; empty for all. See SetHome.
	Home []quorum.Region
	// Record is what was last written; zero for an untouched group (duty 6).
	Record Record
	// Tail is the slots Applied+1..Last of the log, which the core keeps (duty 6). Empty for a sole voter.
	Tail []Entry
	// Log reads the log, for peers that lag. Only a sole voter needs none.
	Log Log
	// Fabric says who is alive (duty 16); nil for a group without leases: then nobody is ever kept from a campaign.
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
	// Behind: nobody keeps the log to adopt from where this node's ends. A snapshot was asked for; whoever has more can be
	// quicker.
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
	// Released is the ballot that its owner released to this node, while the campaign with it lasts; zero for none.
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
	// CompactTo, unless 0, is the slot up to and with which the log on disk is deleted (duty 1).
	CompactTo Slot
	// Snapshot, unless nil, is the snapshot that was taken over: the state staged for it is ingested with this batch (duty 13).
	Snapshot *SnapshotMeta
	// Entries to write to the log (duty 1). None if Atomic.
	Entries []Entry
	// Withdrawals are lives that this node will not support any more: durable with the batch (duties 1 and 16). Its
	// Fabric knows them already.
	Withdrawals []Withdrawal
	// Clock, unless 0, is what Fabric.Clock must never be below from now on, in no life of this node: durable with the batch (duties 1
	// and 19). The Fabric knows it already.
	Clock Timestamp
	// MustSync: the batch must be durable before MsgsAfterSync are sent and before Advance (duty 2).
	MustSync bool
	// MsgsNow may be sent at once, also while the batch is being written (duty 3).
	MsgsNow []Message
	// MsgsAfterSync may be sent only once the batch is durable (duty 3).
	MsgsAfterSync []Message
	// Committed are to be applied in the same batch as Record, which counts them in Applied (duty 4).
	Committed []Entry
	// Reads may be answered from any state in which Slot is applied. ReadsLost cannot be answered here any more (duty 15).
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
	configs []Configuration // not retired, oldest first; a change makes a new slice
	minCfg  uint64
	wanted  []quorum.Region // home of own global ballots; none for all
	log     Log
	fabric  Fabric
	tuning  *Tuning
	sole    bool  // this node is every quorum, and nobody else wants the log: see refit
	err     error // once set, the core does nothing more

	// What the disk will hold when all that was and will be handed out is written.
	rec  Record
	stop stopSign // the last in the log, chosen or not
	tail []Entry  // the last len(tail) slots of the log: all above applied, and what an owner keeps for its peers
	room [1]Entry
	// tailBytes is the payloads in tail; released how many entries before it its array still holds, at most.
	tailBytes, released int
	// unstable is the first slot not yet handed out for writing; truncateFrom what is to be deleted first and compactTo what
	// is to be deleted of the front, 0 for nothing.
	unstable                Slot
	truncateFrom, compactTo Slot
	snapshot                *SnapshotMeta // taken over, not yet handed out
	withdrawals             []Withdrawal
	observed                Timestamp // not yet handed out: Ready.Clock
	reads                   []ReadState
	readsLost               []uint64
	dirty                   bool // rec differs from what was handed out
	mustSync                bool
	ackDue                  bool // the owner is to hear how far the log goes
	now, after              []Message
	owed                    []Message // snapshots to proposers, whose slot is not known yet

	// The Ready that is out, if any.
	ready    bool
	readyRec Record
	applied  Slot // through the last Advance

	// The own ballot: see State. While Probing its round is not final.
	state            State
	scope            Scope
	ballot           Ballot
	home             quorum.Home
	recovered        Slot      // the design's `sync`: where the adopted log ended
	timeBound        Timestamp // own proposals have later times: see closed.go
	roundSeen        uint64    // told by others
	roundSlack       uint64    // see RoundJumpMax
	uncommittedBytes int
	p                *proposer // nil for a Follower and for a sole voter

	// What came of the last campaign, and what the next may use.
	behind, needGlobal bool
	staleCfg           uint64
	leasedBy           LeasedBy
	release            Ballot // released to this node

	clock Timestamp
	// hellos is how often the owner is still to be told how far this node is, unless it says something; the last was at helloAt.
	hellos  int
	helloAt Timestamp
}

const hellosMax = 8

// New makes the core of a group from what was written of it. It refuses, with an error that is ErrInvalid, options that
// cannot be, and with ErrCorrupt or ErrBroken a record and tail that do not belong together; the node must then stop.
func New(o Options) (*Core, error) {
	c := new(Core)
	if err := c.Renew(o); err != nil {
		return nil, err
	}
	return c, nil
}

// Renew makes of c what New makes of o, in the same memory: for one who drives many groups and has few in memory. Nothing that c gave out may be
// looked at any more. After an error only Renew may be called.
func (c *Core) Renew(o Options) error {
	if o.Self == 0 {
		return fmt.Errorf("%w: node 0", ErrInvalid)
	}
	if err := checkConfigurations(o.Configurations); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := o.Record.check(); err != nil {
		return fmt.Errorf("%w: record: %w", ErrCorrupt, err)
	}
	tuning := &defaultTuning
	if o.Tuning != nil {
		tuning = o.Tuning
		if err := tuning.validate(); err != nil {
			return fmt.Errorf("%w: tuning: %w", ErrInvalid, err)
		}
	}
	*c = Core{
		self: o.Self, configs: o.Configurations, minCfg: o.MinCfg, log: o.Log, fabric: o.Fabric, tuning: tuning,
		rec: o.Record, applied: o.Record.Applied, unstable: o.Record.Last + 1,
	}
	if c.rec.Promised.Cfg > c.newest().Version {
		return fmt.Errorf("%w: record has ballot %s of a later configuration than %d", ErrInvalid, c.rec.Promised, c.newest().Version)
	}
	if err := c.SetHome(o.Home); err != nil {
		return err
	}
	if c.sole = c.isSole(); !c.sole && c.log == nil {
		return fmt.Errorf("%w: no log to read", ErrInvalid)
	}
	if c.rec.First == 0 {
		c.rec.First = 1
	}
	// Records of version 1 have no home: every region was.
	if cfg := c.config(c.rec.Accepted.Cfg); cfg != nil && !c.rec.Accepted.IsZero() && c.rec.AcceptedHome.IsZero() {
		c.rec.AcceptedHome = cfg.Quorums.All()
	}
	if err := c.loadTail(o.Tail); err != nil {
		return err
	}
	c.findStop()
	// What the owner was told of Commit may have been lost: it hears how far this node is, and tells what it lacks.
	if !c.sole && c.rec.Commit < c.rec.Last && c.rec.Accepted == c.rec.Promised && c.rec.Accepted.Node != c.self && !failpoint.Enabled(failpoint.ConsensusSilentStart) {
		c.ackDue, c.hellos = true, hellosMax
	}
	return nil
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

// Err is what stopped the core: ErrBroken, or what its Log returned. The caller looks at it after each Ready, Advance and Tick
// (duty 8).
func (c *Core) Err() error { return c.err }

// fail stops the core.
func (c *Core) fail(format string, args ...any) error {
	if c.err == nil {
		c.err = fmt.Errorf("%w: "+format, append([]any{ErrBroken}, args...)...)
	}
	return c.err
}

// Step takes a message from another node. An error that is ErrInvalid is the sender's fault and changed nothing (but see
// RoundJumpMax, and what is fetched of a log begins anew), and ErrUnknownConfiguration changed nothing either; any other stops the node. A message that came too late or
// twice is no error. The core keeps the message's entries.
func (c *Core) Step(m Message) error {
	if c.err != nil {
		return c.err
	}
	refused := func(class, err error) error {
		return fmt.Errorf("%w: %s from node %d: %w", class, m.Type, m.From, err)
	}
	if err := c.checkEnvelope(&m); err != nil {
		return refused(ErrInvalid, err)
	}
	if err := c.checkKnown(&m); err != nil {
		return refused(ErrUnknownConfiguration, err)
	}
	if m.Ballot.Cfg < c.floor() {
		if c.asks(&m) && m.Type != Cancel && m.Type != Release && c.checkRound(m.Ballot) == nil {
			c.nackStale(&m)
		}
		return nil
	}
	if !c.asks(&m) && !c.member(m.From) {
		return nil // of one that took part once
	}
	if err := c.checkMessage(&m); err != nil {
		return refused(ErrInvalid, err)
	}
	if c.asks(&m) {
		return c.stepAcceptor(&m)
	}
	return c.stepProposer(&m)
}

// Tick brings the time, of a clock that never steps, at least every Tuning.FlushAfter for a core with NeedsTick: it sends again what was not
// answered in Tuning.RetryAfter, and commits that found no message to ride on. A time that runs back is ignored.
func (c *Core) Tick(now Timestamp) {
	c.clock = max(c.clock, min(now, TimeMax))
	if c.err != nil {
		return
	}
	if c.p != nil {
		c.p.tick(c)
	}
	if c.hellos > 0 && c.clock >= c.helloAt+c.tuning.RetryAfter {
		c.hellos, c.helloAt, c.ackDue = c.hellos-1, c.clock, true
	}
}

// NeedsTick reports whether Tick can have something to do before the next input. A core without is idle.
func (c *Core) NeedsTick() bool {
	return c.err == nil && (c.hellos > 0 || c.p != nil && c.p.needsTick(c))
}

// Status says where the core stands.
func (c *Core) Status() Status {
	return Status{
		State: c.state, Ballot: c.ballot, Promised: c.rec.Promised, Owner: c.rec.Accepted.Node,
		Last: c.rec.Last, Commit: c.rec.Commit, Applied: c.applied, LastTime: c.rec.LastTime,
		SoleVoter: c.sole, Behind: c.behind, Cfg: c.newest().Version, Scope: c.scope, Home: c.home, NeedGlobal: c.needGlobal,
		StaleCfg: c.staleCfg, Stopped: c.stop.slot != 0 && c.stop.next > c.rec.Accepted.Cfg, StopSlot: c.stop.slot, StopNext: c.stop.next,
		Established: c.rec.Established, TrimTo: c.trimTo(), LeasedBy: c.leasedBy, Released: c.release,
	}
}

// Stored is the record that the disk holds once all that was handed out is written, or one that New makes of it, which fills in what old
// records lack; false while a Ready is out, or there is something for one.
func (c *Core) Stored() (Record, bool) {
	return c.rec, c.err == nil && !c.ready && !c.HasReady()
}

// MayServeLocal reports whether the local state is the newest there can be, without any ballot: this node is the only voter,
// and nothing is unapplied or stopped.
func (c *Core) MayServeLocal() bool {
	return c.err == nil && c.sole && c.applied == c.rec.Last && c.stop.next <= c.newest().Version && c.minCfg <= c.newest().Version
}
