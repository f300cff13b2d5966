// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// What the errors of this package are.
var (
	// ErrInvalid: the input was refused and changed nothing. From Step it is the sender's fault.
	ErrInvalid = errors.New("invalid liveness input")
	// ErrUnknownPeer: the message is from a node that is no peer, perhaps not yet or not any more. It changed nothing.
	ErrUnknownPeer = errors.New("unknown peer")
	// ErrBroken: support was taken away while it was given (duty 4). The node must stop, before it sends anything more.
	ErrBroken = consensus.ErrBroken
)

// Ready is what the caller must do now. Its slices are the core's own: read only, and valid until Advance. The duties are
// numbered in the package comment.
type Ready struct {
	// Epoch to write as this node's, 0 if unchanged (duty 3).
	Epoch uint64
	// MinEpochs to write, each in place of what was written of its node (duty 3).
	MinEpochs []MinEpoch
	// MustSync: the batch must be durable before Advance.
	MustSync bool
	// MsgsNow may be sent at once; nothing of this package waits for a sync of its own (duty 3).
	MsgsNow []Message
}

// Status says where a Core stands.
type Status struct {
	// Epoch of this node, durable. NextEpoch, unless 0, is to follow it when it is.
	Epoch, NextEpoch uint64
	// Rounds of heartbeats sent in this life.
	Rounds uint64
	// Stalled: the disk does not sync, no heartbeats are sent (rule A6).
	Stalled bool
	// Backwards: the boot clock ran back by more than ClockJumpMax. Nothing is counted on until it is where it was.
	Backwards bool
	// ClockJumps of the wall clock against the boot clock, or of the boot clock backwards, in this life (rule A7).
	ClockJumps uint64
}

// peer is what is known of another node. Its fields stay when it stops to be a peer: a promise is a promise.
type peer struct {
	node   NodeID
	active bool // a peer now: heartbeats go to it, and come from it

	// What this node gives it: see supporter.go.
	epoch    uint64    // the highest that a supported heartbeat had
	seq      uint64    // of the newest heartbeat of epoch
	until    Timestamp // supported while the boot clock is below
	minEpoch uint64    // lower ones are not supported, durable
	minDirty bool      // minEpoch is in Core.withdrawn
	ackDue   bool      // ack is in Core.due
	ack      Message

	// What it gives this node: see holder.go.
	heldSeq   uint64    // the newest round that it supported or refused at the present epoch
	heldUntil Timestamp // counted on while the boot clock is below

	// What it says of itself.
	rtt          Timestamp // to it and back, smoothed; 0 is unknown
	hlc, hlcCeil Timestamp
	row          []uint32 // its round trips in microseconds, by the index of the other node; nil before the first, 0 is unknown
}

// Core is the state machine of one node. It is not safe for concurrent use.
type Core struct {
	self  NodeID
	o     Options  // without the slices
	peers []peer   // by node
	ids   []NodeID // of peers

	// The clocks, as Tick last brought them.
	started          bool
	mono             Timestamp // boot clock, never runs back
	backwards        bool
	anchorMono       Timestamp // the two clocks when they were last taken to agree
	anchorWall       Timestamp
	jumps            uint64
	quarantined      Timestamp // until then
	pendingSince     Timestamp // of the sync under way, 0 for none
	hlc, hlcCeil     Timestamp
	epoch, nextEpoch uint64
	seq              uint64               // the last round
	sentAt           [RoundsMax]Timestamp // when round seq was sent, at seq % RoundsMax
	earnFrom         uint64               // acks of rounds before it count for nothing
	nextRound        Timestamp            // when it is due
	gossip           int                  // index of the peer whose round trip the next round tells
	due              []NodeID             // acks to send, in the order of their heartbeats
	withdrawn        []NodeID             // minEpochs to write
	active           int
	ready            bool
	readyEpoch       uint64
	msgs             []Message
	minEpochs        []MinEpoch
	roundDue         bool
}

// New makes the core of a node. Options out of their bounds are ErrInvalid.
func New(o Options) (*Core, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("liveness options: %w", err)
	}
	c := &Core{self: o.Self, epoch: o.Epoch, earnFrom: 1}
	for _, m := range o.MinEpochs {
		switch {
		case m.Node != o.Self:
			p := c.ensure(m.Node)
			p.minEpoch = max(p.minEpoch, m.Epoch)
		case m.Epoch > o.Epoch:
			return nil, fmt.Errorf("liveness options: %w: epoch %d of this node is below its minimal epoch %d", ErrInvalid, o.Epoch, m.Epoch)
		}
	}
	peers := o.Peers
	o.Peers, o.MinEpochs = nil, nil
	c.o = o
	return c, c.SetPeers(peers)
}

// SetPeers says who the other nodes are from now on, in any order; this node among them is left out. Round trips between others are
// learned anew. What a node that is left out was promised is kept. More than PeersMax, or node 0, is ErrInvalid and changes nothing.
func (c *Core) SetPeers(nodes []NodeID) error {
	if len(nodes) > PeersMax || slices.Contains(nodes, 0) {
		return fmt.Errorf("%w: %d peers, or node 0 among them: the limit is %d", ErrInvalid, len(nodes), PeersMax)
	}
	for i := range c.peers {
		p := &c.peers[i]
		p.active = false
		p.row = nil
	}
	for _, n := range nodes {
		if n != c.self {
			c.ensure(n).active = true
		}
	}
	// One that is no peer is kept while there is something that a later heartbeat of it must find.
	c.peers = slices.DeleteFunc(c.peers, func(p peer) bool {
		return !p.active && p.minEpoch == 0 && p.until <= c.mono
	})
	c.active, c.ids = 0, c.ids[:0]
	for i := range c.peers {
		p := &c.peers[i]
		c.ids = append(c.ids, p.node)
		if p.active {
			c.active++
		} else {
			p.heldUntil, p.ackDue = 0, false
		}
	}
	c.due = slices.DeleteFunc(c.due, func(n NodeID) bool { p := c.find(n); return p == nil || !p.ackDue })
	return nil
}

// find is the peer, nil if there is none.
func (c *Core) find(n NodeID) *peer {
	i, ok := c.index(n)
	if !ok {
		return nil
	}
	return &c.peers[i]
}

func (c *Core) index(n NodeID) (int, bool) {
	return slices.BinarySearch(c.ids, n)
}

// ensure is the peer, made if there is none. What others tell of those behind it moves with them.
func (c *Core) ensure(n NodeID) *peer {
	i, ok := c.index(n)
	if !ok {
		c.peers, c.ids = slices.Insert(c.peers, i, peer{node: n}), slices.Insert(c.ids, i, n)
		for k := range c.peers {
			if row := c.peers[k].row; i < len(row) {
				c.peers[k].row = slices.Insert(row, i, 0)
			}
		}
	}
	return &c.peers[i]
}

// Tick brings the time: mono is the boot clock, wall the wall clock since 1970 (duty 2). A boot clock that runs back is ignored
// until it is where it was; if it ran back by more than ClockJumpMax, nothing is counted on until then.
func (c *Core) Tick(mono, wall Timestamp) {
	mono, wall = min(mono, consensus.TimeMax), min(wall, consensus.TimeMax)
	if !c.started {
		c.started, c.mono = true, mono
		c.anchorMono, c.anchorWall = mono, wall
		if c.epoch > 1 && !failpoint.Enabled(failpoint.LivenessSkipQuarantine) {
			c.quarantine(c.o.Quarantine)
		}
		c.roundDue = true
	}
	gained := c.gained(mono, wall)
	if mono < c.mono {
		// A little may be readings that come in another order than they were taken.
		if limit := c.o.ClockJumpMax; !c.backwards && (c.mono-mono > limit || gained < -int64(limit)) {
			c.backwards = true
			c.jumped()
		}
		return
	}
	c.mono = mono
	if c.backwards {
		// What was sent meanwhile was noted with a time that is too late, and what was given then may end too early if the clock
		// has stepped forward again.
		c.backwards = false
		c.dropHeld()
		c.quarantine(c.o.Support)
	}
	c.compareClocks(gained, wall)
	if mono >= c.nextRound {
		c.roundDue = true
	}
}

// gained is how far the boot clock went on more than the wall clock since the two were last taken to agree.
func (c *Core) gained(mono, wall Timestamp) int64 {
	return (int64(mono) - int64(c.anchorMono)) - (int64(wall) - int64(c.anchorWall))
}

// compareClocks is rule A7.
func (c *Core) compareClocks(gained int64, wall Timestamp) {
	limit := int64(c.o.ClockJumpMax)
	if gained >= -limit && gained <= limit {
		if c.mono-c.anchorMono > c.o.Support {
			c.anchorMono, c.anchorWall = c.mono, wall
		}
		return
	}
	c.anchorMono, c.anchorWall = c.mono, wall
	c.jumped()
	if gained > 0 {
		c.quarantine(c.o.Support)
	}
}

func (c *Core) quarantine(t Timestamp) { c.quarantined = max(c.quarantined, c.mono+t) }

func (c *Core) jumped() {
	c.jumps++
	if !failpoint.Enabled(failpoint.LivenessKeepAfterJump) {
		c.dropHeld()
	}
}

// DiskProgress says since when, on the boot clock, the disk has had work that is not synced; 0 for no such work (rule A6).
func (c *Core) DiskProgress(pendingSince Timestamp) { c.pendingSince = pendingSince }

func (c *Core) stalled() bool {
	return c.pendingSince != 0 && c.mono > c.pendingSince && c.mono-c.pendingSince > c.o.SyncStall
}

// SetHLC brings the hybrid logical clock to hlc at least, and says up to where it is sure never to run back, in no later life of this
// node: its durable ceiling (duty 7). Neither falls. Nothing is told of the clock, nor taken from others, beyond the ceiling.
func (c *Core) SetHLC(hlc, ceil Timestamp) {
	c.hlc, c.hlcCeil = max(c.hlc, min(hlc, consensus.TimeMax)), max(c.hlcCeil, min(ceil, consensus.TimeMax))
}

// Observe brings the hybrid logical clock to t at least, be it beyond the ceiling.
func (c *Core) Observe(t Timestamp) { c.hlc = max(c.hlc, min(t, consensus.TimeMax)) }

// Clock is the hybrid logical clock as it was last set or merged; 0 is unknown.
func (c *Core) Clock() Timestamp { return c.hlc }

// ClockFrom is the latest that the node has told of its hybrid logical clock, of this node what it tells others; 0 is unknown. The
// clock is never below that, in no life of the node.
func (c *Core) ClockFrom(node NodeID) Timestamp {
	if node == c.self {
		return min(c.hlc, c.hlcCeil)
	}
	if p := c.find(node); p != nil {
		return p.hlc
	}
	return 0
}

// Step takes a message from another node, just after a Tick (duty 2). ErrInvalid and ErrUnknownPeer changed nothing. A message that came
// too late or twice is no error. Before the first Tick messages are as good as lost.
func (c *Core) Step(m Message) error {
	p, err := c.check(&m)
	if err != nil {
		return fmt.Errorf("%s from node %d: %w", m.Type, m.From, err)
	}
	if !c.started {
		return nil
	}
	if m.Type == Heartbeat {
		c.onHeartbeat(p, &m)
	} else {
		c.onAck(p, &m)
	}
	return nil
}

// check refuses what no correct peer sends. It changes nothing.
func (c *Core) check(m *Message) (*peer, error) {
	switch {
	case m.Type != Heartbeat && m.Type != HeartbeatAck:
		return nil, fmt.Errorf("%w: unknown type", ErrInvalid)
	case m.To != c.self:
		return nil, fmt.Errorf("%w: it is for node %d, this is %d", ErrInvalid, m.To, c.self)
	case m.From == c.self:
		return nil, fmt.Errorf("%w: it is from this node", ErrInvalid)
	case m.Epoch < 1 || m.Epoch > EpochMax || m.Seq < 1:
		return nil, fmt.Errorf("%w: epoch %d, seq %d: want an epoch from 1 to %d, and a seq", ErrInvalid, m.Epoch, m.Seq, uint64(EpochMax))
	case m.HLC > consensus.TimeMax || m.HLCCeil > consensus.TimeMax:
		return nil, fmt.Errorf("%w: time %d or %d exceeds limit %d", ErrInvalid, m.HLC, m.HLCCeil, consensus.TimeMax)
	}
	p := c.find(m.From)
	if p == nil || !p.active {
		return nil, ErrUnknownPeer
	}
	if m.Type == Heartbeat {
		if m.Support < 1 || m.Support > SupportMax || m.MinEpoch != 0 {
			return nil, fmt.Errorf("%w: it asks for support of %d ns, minimal epoch %d: want 1 to %d, and none", ErrInvalid, m.Support, m.MinEpoch, SupportMax)
		}
		return p, nil
	}
	return p, c.checkAck(m)
}

// HasReady reports whether Ready has something, which it does not while one is out.
func (c *Core) HasReady() bool {
	return !c.ready && (c.nextEpoch != 0 || len(c.withdrawn) > 0 || len(c.due) > 0 || c.sendsRound())
}

// sendsRound reports whether a round of heartbeats is to leave now.
func (c *Core) sendsRound() bool {
	return c.roundDue && c.active > 0 && !c.backwards && !c.stalled()
}

// Ready returns all that is to be done, and is followed by Advance when it is done. While one Ready is out it returns an
// empty one. What any method causes in between is in the next.
func (c *Core) Ready() Ready {
	if !c.HasReady() {
		return Ready{}
	}
	c.ready = true
	c.msgs, c.minEpochs = c.msgs[:0], c.minEpochs[:0]
	for _, n := range c.withdrawn {
		p := c.find(n)
		p.minDirty = false
		c.minEpochs = append(c.minEpochs, MinEpoch{n, p.minEpoch})
	}
	c.withdrawn = c.withdrawn[:0]
	c.sendAcks()
	c.readyEpoch = c.nextEpoch
	if c.readyEpoch != 0 && failpoint.Enabled(failpoint.LivenessBumpBeforeSync) {
		c.takeEpoch(c.readyEpoch)
	}
	if c.sendsRound() {
		c.sendRound()
	}
	return Ready{
		Epoch: c.readyEpoch, MinEpochs: c.minEpochs, MustSync: c.readyEpoch != 0 || len(c.minEpochs) > 0, MsgsNow: c.msgs,
	}
}

// Advance says that the Ready is done: what it said to write is durable. Requires: a Ready is out; else it does nothing.
func (c *Core) Advance() {
	if !c.ready {
		return
	}
	c.ready = false
	if c.readyEpoch != 0 {
		c.takeEpoch(c.readyEpoch)
		if c.nextEpoch <= c.epoch {
			c.nextEpoch = 0
		}
	}
}

// Quarantined reports whether this node may have promised support that it does not know of, and for how many nanoseconds more
// (rule A5, and A7): while it may, it must treat everybody's support as given.
func (c *Core) Quarantined() (remaining Timestamp, ok bool) {
	if !c.started {
		return c.o.Quarantine, c.epoch > 1
	}
	if c.mono >= c.quarantined {
		return 0, false
	}
	return c.quarantined - c.mono, true
}

// Status says where the core stands.
func (c *Core) Status() Status {
	return Status{
		Epoch: c.epoch, NextEpoch: c.nextEpoch, Rounds: c.seq, Stalled: c.stalled(), Backwards: c.backwards, ClockJumps: c.jumps,
	}
}

// Clone is a copy that shares nothing.
func (c *Core) Clone() *Core {
	d := *c
	d.peers, d.ids = slices.Clone(c.peers), slices.Clone(c.ids)
	for i := range d.peers {
		d.peers[i].row = slices.Clone(d.peers[i].row)
	}
	d.due, d.withdrawn = slices.Clone(c.due), slices.Clone(c.withdrawn)
	d.msgs, d.minEpochs = slices.Clone(c.msgs), slices.Clone(c.minEpochs)
	return &d
}

// AppendState appends an encoding of all that epochs, support and heartbeats to come rest on, with times as they lie from
// now: two cores of equal options and bytes do the same from here on, whatever the time is. Round trips and hybrid clocks, on which
// none of that rests, are left out, and so is what a Ready that is out has handed out.
func (c *Core) AppendState(dst []byte) []byte {
	u := func(v uint64) { dst = binary.AppendUvarint(dst, v) }
	flag := func(b bool) {
		if b {
			u(1)
		} else {
			u(0)
		}
	}
	left := func(t Timestamp) { u(t - min(t, c.mono)) }
	u(uint64(c.self))
	u(c.epoch)
	u(c.nextEpoch)
	flag(c.ready)
	if c.ready {
		u(c.readyEpoch)
	}
	flag(c.started)
	flag(c.backwards)
	flag(c.roundDue)
	flag(c.stalled())
	pending := Timestamp(0)
	if c.pendingSince != 0 && !c.stalled() {
		pending = 1 + c.mono - min(c.pendingSince, c.mono)
	}
	u(pending)
	u(c.mono - c.anchorMono)
	u(c.anchorWall - c.anchorMono)
	left(c.quarantined)
	left(c.nextRound)
	u(c.seq)
	u(c.earnFrom)
	// A round whose ack could give nothing any more is as good as forgotten.
	for s := c.seq; s >= c.earnFrom && s > 0 && c.remembers(s); s-- {
		if age := c.mono - c.sentAt[s%RoundsMax]; age < c.o.Support {
			u(1 + age)
		}
	}
	u(0)
	for _, n := range c.due {
		u(uint64(n))
	}
	u(0)
	for _, n := range c.withdrawn {
		u(uint64(n))
	}
	u(0)
	for i := range c.peers {
		dst = c.peers[i].appendState(dst, c.mono)
	}
	return dst
}

func (p *peer) appendState(dst []byte, mono Timestamp) []byte {
	if !p.active {
		dst = append(dst, 0)
	} else {
		dst = append(dst, 1)
	}
	for _, v := range [...]uint64{
		uint64(p.node), p.epoch, p.seq, p.until - min(p.until, mono), p.minEpoch, p.heldSeq, p.heldUntil - min(p.heldUntil, mono),
	} {
		dst = binary.AppendUvarint(dst, v)
	}
	if p.ackDue {
		for _, v := range [...]uint64{p.ack.Epoch, p.ack.Seq, p.ack.Support, p.ack.MinEpoch} {
			dst = binary.AppendUvarint(dst, v)
		}
	}
	return dst
}
