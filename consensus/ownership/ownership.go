// SPDX-License-Identifier: AGPL-3.0-only

// Package ownership says where the owner of a group should stand, and who steals when it is gone. It is a policy: nothing that
// it says can harm a log, only make it slow.
//
// The owner decides. Of each group that is in use it keeps a [Group]: request rates by region of origin, which halve every
// Options.HalfLife. With the round-trip times between the regions, the [Map], an owner in region z would cost
//
//	J(z) = sum over origins k of (reads_k + writes_k) x rtt(k,z) + writes_k x commit(z)
//
// where commit(z) is the round trip to the nearest Q2 of live nodes of the home that z would have: z and the fz regions nearest to it. The
// group moves to the region of the lowest J when all of this holds, and says why in the [Move]:
//
//   - the gain is at least Options.GainPercent of J, and at least Options.GainPerRequest for the mean request,
//   - in Options.Windows windows in a row, each of Options.Window, for the same region,
//   - the owner had the group for its dwell: Options.Dwell, doubled up to Options.DwellMax each time that the group was moved
//     again within RestlessFactor times its dwell, and halved each time that it stayed longer,
//   - over Options.Horizon it gains more than the move costs: all requests wait for a round trip to the farthest region of a
//     Q1, and the work itself counts as Options.MoveRequests requests that wait,
//   - the node's churn budget has a move left.
//
// An owner whose own region sent nothing for Options.Abandoned, while some region sent Options.AbandonedRequests since, moves at
// once: dwell and budget hold, J need only be lower, and what the own region asked before does not count. An owner outside of
// the pinned or allowed regions moves as soon as the budget allows and one of these could commit. An owner that has not
// reached a Q2 for Options.StallAfter releases, to whoever could: see Policy.Stalled.
//
// Moves go by consent, and with a [Handover]: the new owner knows from it how restless the group is, and the last moves with
// their reasons. A node that steals starts without one.
//
// The package leaves to its caller: measuring round-trip times, knowing who is alive, bringing the target up to date, the
// Release itself, and dropping the Group of a group that is idle. No timer is needed: a decision falls on a request. A Group
// takes about 180 bytes and at most GroupBytesMax; an idle group, having none, nothing. A request costs about 30 ns, and a
// decision, once in a Window, some microseconds.
//
// Everything is in integers and in a fixed order: the same calls give the same decisions on every machine. No clock,
// randomness, goroutine or package state.
package ownership

import (
	"errors"
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

type (
	// NodeID names a node for ever; 0 is no node.
	NodeID = quorum.NodeID
	// Region names a failure domain of nodes.
	Region = quorum.Region
	// Timestamp is a time in nanoseconds since the Unix epoch, or a span of nanoseconds.
	Timestamp = uint64
)

const (
	microsecond Timestamp = 1_000
	millisecond           = 1_000 * microsecond
	second                = 1_000 * millisecond
	hour                  = 3_600 * second
)

// Limits.
const (
	// OriginsMax is how many regions of origin a Group tells apart; beyond it the one that asked least is forgotten.
	OriginsMax = 16
	// HistoryMax is how many moves a Group remembers.
	HistoryMax = 4
	// RegionsMax bounds a Map.
	RegionsMax = 64
	// RTTMax bounds a round-trip time; longer ones count as this.
	RTTMax = 2 * second
	// RestlessFactor is how many dwells a group must stay for its next move not to be one too soon.
	RestlessFactor = 4
	// GroupBytesMax is what a Group takes at most, region names aside.
	GroupBytesMax = 1280
)

// ErrInvalid is the class of an option or a map out of its bounds.
var ErrInvalid = errors.New("invalid ownership policy")

// Options are the numbers of the policy. Nodes need not agree on them. Times are in nanoseconds.
type Options struct {
	// HalfLife is how long until half of a request is forgotten. 1 s to 1 h, default 60 s. Short: follows noise. Long: follows
	// slowly.
	HalfLife Timestamp
	// Window and Windows: the gain must show in so many windows in a row, of this length. 100 ms to 1 h, default 10 s; 1 to 100,
	// default 3. Small: follows noise. Large: follows slowly.
	Window  Timestamp
	Windows int
	// GainPercent of the present cost must be gained. 1 to 99, default 20.
	GainPercent int
	// GainPerRequest is what the mean request must gain. 0 is the default; 1 ns to RTTMax, default 5 ms.
	GainPerRequest Timestamp
	// Dwell is how long an owner keeps a group at least; DwellMax is what doubling it leads to. 1 s to 24 h, default 60 s and
	// 1 h, or Dwell; DwellMax is at least Dwell. Short: groups thrash. Long: follows slowly.
	Dwell    Timestamp
	DwellMax Timestamp
	// Horizon is how long the present load is taken to go on, for weighing a move against its cost. 1 s to 1 h and at most 16
	// HalfLife, default 60 s or that.
	Horizon Timestamp
	// MoveRequests is what a move costs besides the pause, as requests that wait for the pause. 0 is the default; 1 to 1,000,
	// default 4.
	MoveRequests int
	// Abandoned is how long an owner's region must have sent nothing, and AbandonedRequests what another must have sent since,
	// for a move at once. 1 s to 24 h, default two half-lives; 1 to 1,000, default 3.
	Abandoned         Timestamp
	AbandonedRequests int
	// MovesPerMinute is the churn budget of the node, and MovesBurst what of it may be saved up. 1 to 1,000,000, default 600
	// and 100. Small: a shift of many groups takes long. Large: the moves themselves are load.
	MovesPerMinute int
	MovesBurst     int
	// StallAfter is how long an owner may have an entry that does not commit, or a read that is not confirmed. 100 ms to 1 h, default 5 s.
	StallAfter Timestamp
	// HomeSpare is how many regions a default home has beyond owner's region and the Fz nearest. 0 to RegionsMax, default 0.
	// With one spare, writes outlive the loss of a region of the home without a new home.
	HomeSpare int
	// StealBackoff and StealBackoffMax bound how long a candidate waits after a campaign that failed: doubled each time. 1 ms
	// to 1 h, default 200 ms and 10 s, or StealBackoff; the bound is at least that.
	StealBackoff    Timestamp
	StealBackoffMax Timestamp
	// UnknownRTT stands for a round-trip time that is not known. 0 is the default; 1 ns to RTTMax, default 300 ms.
	UnknownRTT Timestamp
}

// EnsureDefaults fills the fields that are 0.
func (o *Options) EnsureDefaults() {
	for _, f := range [...]struct {
		field *Timestamp
		value Timestamp
	}{
		{&o.HalfLife, 60 * second},
		{&o.Window, 10 * second},
		{&o.GainPerRequest, 5 * millisecond},
		{&o.Dwell, 60 * second},
		{&o.StallAfter, 5 * second},
		{&o.StealBackoff, 200 * millisecond},
		{&o.UnknownRTT, 300 * millisecond},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	if o.DwellMax == 0 {
		o.DwellMax = max(hour, o.Dwell)
	}
	if o.Abandoned == 0 {
		o.Abandoned = 2 * o.HalfLife
	}
	if o.Horizon == 0 {
		o.Horizon = min(60*second, 16*o.HalfLife)
	}
	if o.StealBackoffMax == 0 {
		o.StealBackoffMax = max(10*second, o.StealBackoff)
	}
	for _, f := range [...]struct {
		field *int
		value int
	}{
		{&o.Windows, 3},
		{&o.GainPercent, 20},
		{&o.MoveRequests, 4},
		{&o.AbandonedRequests, 3},
		{&o.MovesPerMinute, 600},
		{&o.MovesBurst, 100},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
}

// Validate reports every field that is out of its bounds.
func (o *Options) Validate() error {
	var errs []error
	for _, f := range [...]struct {
		name           string
		have, min, max Timestamp
	}{
		{"HalfLife", o.HalfLife, second, hour},
		{"Window", o.Window, 100 * millisecond, hour},
		{"GainPerRequest", o.GainPerRequest, 1, RTTMax},
		{"Dwell", o.Dwell, second, 24 * hour},
		{"DwellMax", o.DwellMax, o.Dwell, 24 * hour},
		{"Horizon", o.Horizon, second, min(hour, 16*o.HalfLife)},
		{"Abandoned", o.Abandoned, second, 24 * hour},
		{"StallAfter", o.StallAfter, 100 * millisecond, hour},
		{"StealBackoff", o.StealBackoff, millisecond, hour},
		{"StealBackoffMax", o.StealBackoffMax, o.StealBackoff, hour},
		{"UnknownRTT", o.UnknownRTT, 1, RTTMax},
	} {
		if f.have < f.min || f.have > f.max {
			errs = append(errs, fmt.Errorf("%w: %s is %d ns, not between %d and %d", ErrInvalid, f.name, f.have, f.min, f.max))
		}
	}
	for _, f := range [...]struct {
		name           string
		have, min, max int
	}{
		{"Windows", o.Windows, 1, 100},
		{"GainPercent", o.GainPercent, 1, 99},
		{"MoveRequests", o.MoveRequests, 1, 1_000},
		{"AbandonedRequests", o.AbandonedRequests, 1, 1_000},
		{"MovesPerMinute", o.MovesPerMinute, 1, 1_000_000},
		{"MovesBurst", o.MovesBurst, 1, 1_000_000},
		{"HomeSpare", o.HomeSpare, 0, RegionsMax},
	} {
		if f.have < f.min || f.have > f.max {
			errs = append(errs, fmt.Errorf("%w: %s is %d, not between %d and %d", ErrInvalid, f.name, f.have, f.min, f.max))
		}
	}
	return errors.Join(errs...)
}

// Reason says why a group got its owner.
type Reason uint8

// The reasons.
const (
	// Cheaper: the load is cheaper to serve from there, for long enough.
	Cheaper Reason = iota + 1
	// Abandoned: the owner's own region sends nothing any more.
	Abandoned
	// Pinned: the group is pinned to the region.
	Pinned
	// Disallowed: the owner stood in a region that the group may not be in.
	Disallowed
	// Stalled: the owner could not commit.
	Stalled
	// Stolen: the owner before was gone, or nobody owned the group. No Move has it.
	Stolen
)

// String is the reason in words.
func (r Reason) String() string {
	names := [...]string{
		"no reason", "cheaper there", "own region silent", "pinned there", "region not allowed", "could not commit", "owner was gone",
	}
	if int(r) >= len(names) {
		r = 0
	}
	return names[r]
}

// Bounds are where a group may be. They may be shared by many groups.
type Bounds struct {
	// Config is the group's newest configuration.
	Config *quorum.Config
	// Allowed are the regions in which the owner may stand; empty means all.
	Allowed []Region
	// Pinned is the only region in which the owner may stand; empty means that it is not pinned.
	Pinned Region
	// Home is the home that every owner takes; empty means the default home: see Policy.Home.
	Home []Region
}

// allows reports whether the owner may stand in r.
func (b *Bounds) allows(r Region) bool {
	if b.Pinned != "" {
		return r == b.Pinned
	}
	for _, a := range b.Allowed {
		if a == r {
			return true
		}
	}
	return len(b.Allowed) == 0
}

// PastMove is one move of a group.
type PastMove struct {
	At       Timestamp
	From, To Region
	Reason   Reason
	// Gain is what the mean request was to gain.
	Gain Timestamp
}

// Handover is what a new owner is told of a group, by the one before.
type Handover struct {
	// Level is how often the dwell is doubled.
	Level int
	// History is the last moves with the one under way, oldest first, at most HistoryMax.
	History []PastMove
}

// Move is a decision: release the group to the node.
type Move struct {
	To       NodeID
	Region   Region
	Reason   Reason
	Gain     Timestamp // what the mean request gains
	Handover Handover  // for the new owner
}
