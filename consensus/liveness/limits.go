// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
)

// NodeID names a node, Timestamp is nanoseconds.
type (
	NodeID    = consensus.NodeID
	Timestamp = consensus.Timestamp
)

// Limits. What comes from another node is held against them before anything is done with it.
const (
	// PeersMax bounds Options.Peers.
	PeersMax = 4096
	// MinEpochsMax bounds Options.MinEpochs. It is the number of nodes that an atlas can ever have (reconfig.NodesMax), so that
	// what Withdraw has written can always be read again.
	MinEpochsMax = 1 << 16
	// EpochMax bounds an epoch, and EpochMax+1 a minimal epoch: that of a node that has none left. At one start a second it lasts
	// for longer than there are seconds.
	EpochMax = 1 << 62
	// SupportMax bounds Options.Support, in nanoseconds: one hour.
	SupportMax Timestamp = 3600e9
	// DriftPPMMax bounds Options.DriftPPM: a tenth.
	DriftPPMMax = 100_000
	// RoundsMax is how many rounds of heartbeats are remembered. An ack of an older one counts for nothing. Support may be at most
	// as many Intervals, less RoundsSpare for rounds that were sent out of turn.
	RoundsMax   = 64
	RoundsSpare = 4
	// RTTMax is the longest round trip time that is remembered, in nanoseconds: what 32 bits of microseconds hold.
	RTTMax Timestamp = (1<<32 - 1) * 1000
)

// The defaults of Options, in nanoseconds where they are times.
const (
	DefaultInterval     Timestamp = 1000e6
	DefaultSupport      Timestamp = 3000e6
	DefaultSyncStall    Timestamp = 500e6
	DefaultClockJumpMax Timestamp = 100e6
	DefaultDriftPPM               = 1000
)

// MinEpoch says that no epoch of Node below Epoch, at most EpochMax+1, may be supported.
type MinEpoch struct {
	Node  NodeID
	Epoch uint64
}

// Options make a Core. All times are in nanoseconds; zero takes the default where there is one.
type Options struct {
	// Self is this node.
	Self NodeID
	// Epoch of this life: durable, and above that of every life before. 1 is the first start ever of this NodeID, which then
	// needs no quarantine. At most EpochMax.
	Epoch uint64
	// MinEpochs are all that were ever written (Ready.MinEpochs), in any order.
	MinEpochs []MinEpoch
	// Peers are the other nodes, in any order; Self among them is left out. At most PeersMax.
	Peers []NodeID
	// Interval is the time from one round of heartbeats to the next. At least 1; default 1 s. Small: traffic. Large: Support must
	// be larger, and fail-over waits for it.
	Interval Timestamp
	// Support is how long a heartbeat is supported for. At least 2 Intervals, at most RoundsMax-RoundsSpare Intervals and
	// SupportMax; default 3 s. Small: leases end at each hiccup of the network. Large: the groups of a dead node wait. Nodes need not agree:
	// what is given is the lesser of what two nodes have.
	Support Timestamp
	// Quarantine is how long this node is quarantined after its start. At least Support; default Support. A node whose Support
	// was lowered needs the earlier one here, until it has run for that long once.
	Quarantine Timestamp
	// DriftPPM bounds how far the rate of any node's boot clock is from true time, in millionths. From 1 to DriftPPMMax; default 1000. Too
	// small: two nodes may hold a lease at once. Large: support is held for a shorter time. All nodes must be within it.
	DriftPPM uint64
	// SyncStall is how long a sync may take before heartbeats stop. At least 1; default 500 ms.
	SyncStall Timestamp
	// ClockJumpMax is how far the wall clock may move against the boot clock, within Support, before support held is dropped. At
	// least twice what two clocks at the ends of DriftPPM come apart by in Support; default 100 ms.
	ClockJumpMax Timestamp
}

// EnsureDefaults fills in what is zero and has a default.
func (o *Options) EnsureDefaults() {
	for _, f := range [...]struct {
		field *Timestamp
		value Timestamp
	}{
		{&o.Interval, DefaultInterval},
		{&o.Support, DefaultSupport},
		{&o.DriftPPM, DefaultDriftPPM},
		{&o.SyncStall, DefaultSyncStall},
		{&o.ClockJumpMax, DefaultClockJumpMax},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	if o.Quarantine == 0 {
		o.Quarantine = o.Support
	}
}

// Validate reports every problem at once. Each is ErrInvalid.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	if o.Self == 0 {
		bad("no node of its own")
	}
	if o.Epoch < 1 || o.Epoch > EpochMax {
		bad("epoch %d is not between 1 and %d", o.Epoch, uint64(EpochMax))
	}
	if len(o.Peers) > PeersMax {
		bad("%d peers exceed limit %d", len(o.Peers), PeersMax)
	}
	if slices.Contains(o.Peers, 0) {
		bad("node 0 is no peer")
	}
	if len(o.MinEpochs) > MinEpochsMax {
		bad("%d minimal epochs exceed limit %d", len(o.MinEpochs), MinEpochsMax)
	}
	for _, m := range o.MinEpochs {
		if m.Node == 0 || m.Epoch > EpochMax+1 {
			bad("minimal epoch %d of node %d: want a node, and at most %d", m.Epoch, m.Node, uint64(EpochMax+1))
		}
	}
	// Bounded first, so that no product below overflows.
	for _, f := range [...]struct {
		name      string
		have, max Timestamp
	}{
		{"Interval", o.Interval, SupportMax},
		{"Support", o.Support, SupportMax},
		{"Quarantine", o.Quarantine, 2 * SupportMax},
		{"DriftPPM", o.DriftPPM, DriftPPMMax},
		{"SyncStall", o.SyncStall, SupportMax},
		{"ClockJumpMax", o.ClockJumpMax, SupportMax},
	} {
		if f.have < 1 || f.have > f.max {
			bad("%s is %d, not between 1 and %d", f.name, f.have, f.max)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if lo, hi := 2*o.Interval, (RoundsMax-RoundsSpare)*o.Interval; o.Support < lo || o.Support > hi {
		bad("Support is %d, not between %d and %d, which is 2 and %d Intervals", o.Support, lo, hi, RoundsMax-RoundsSpare)
	}
	if o.Quarantine < o.Support {
		bad("Quarantine is %d, below the %d of Support", o.Quarantine, o.Support)
	}
	if drift := 2 * o.driftBound(o.Support); o.ClockJumpMax < drift {
		bad("ClockJumpMax is %d, below the %d that drift alone can do", o.ClockJumpMax, drift)
	}
	return errors.Join(errs...)
}

// driftBound is what two clocks can come apart by while one of them goes on by t, rounded up: 1-2ρ <= (1-ρ)/(1+ρ).
func (o *Options) driftBound(t Timestamp) Timestamp { return (t*2*o.DriftPPM + 1e6 - 1) / 1e6 }
