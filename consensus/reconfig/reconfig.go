// SPDX-License-Identifier: AGPL-3.0-only

// Package reconfig takes all groups from one configuration to the next. The [Registry] is the list of nodes and of
// configurations, a replicated state machine in the log of the system group; the [Driver] does the work that a change is,
// and is a pure state machine of one node, the owner of the system group.
//
// A change of the configuration v to v+1 is one entry, SetConfig, and from when a node has applied it, two versions are live:
// a new ballot is of v+1 and needs a Q1 of both. Nothing waits for a group that nobody asks for. But v ends only when no group
// can have anything in it that v+1 does not know, for which the driver goes over all that was ever written:
//
//	upgrade    each live voter of v moves the groups that it owns: by StopSign, which needs nobody of v but a Q2        (H)
//	seal       voters of v refuse ballots below v+1 from now on, durably, and list their groups below v+1, page by page
//	migrate    each group of a page is moved to v+1 by any proposer, whose phase 1 asks a Q1 of v and one of v+1        (V)
//	retire     when a Q1 of v has sealed and listed all, and every group listed is established above v: the entry Retire
//
// After Retire only v+1 is live. Nodes that it does not have may then be wiped, not before, and never come back under their
// number. There is nothing to undo: a change that is not wanted any more is ended, and followed by one that leads back.
//
// # What is durable
//
// The entries AddNode, SetConfig and Retire, with the Registry that they make. The seal of each node, which is the node's own.
// Nothing else: a driver that is made again, on any node and at any step, asks the nodes again, and they answer for what is
// left. Two drivers at once do no harm: orders may come twice, late and out of order, and Retire is judged when it is applied.
//
// # The node's duties
//
//  1. Apply the system log in order, and give each new configuration to the cores (Configure, Retire) before it answers orders
//     of that version.
//  2. Upgrade: for each group that it owns at a ballot below the version, go the way that Plan says; answer with how many are
//     left, until none is. A node that is no voter of the version cannot campaign in it: it releases what it owns to one that
//     is, and gives up no ballot without a release while it lives, or acceptors keep to its lease for as long.
//  3. Seal: make minCfg durable, give it to all cores, have no ballot below it answered any more. Only then answer Sealed.
//  4. List: only after its seal is durable. The names of the groups whose record is Below the version, in order of their bytes,
//     after the name given, at most the limit; More unless these are the last.
//  5. Migrate: if its record of the group is established at the version, answer so at once. Else take the group there as Plan
//     says, and answer when its record is established, or that it failed.
//  6. ProposeRetire: propose the entry. A wiped disk is a new node, with a new number (R6).
//
// # What must be true
//
// R1 ballots order by configuration first, R2 phase 1 at k covers every live version up to k, and R3 nothing follows a
// stop-sign in its version, are the core's. Here: R4, Retire only after a Q1(v) sealed and listed, with every listed group
// established above v: the driver proposes it only then, and the Registry refuses a Retire whose sealed nodes are no Q1(v).
// R5, the configurations are a function of the entries alone. R6, a node that was removed is never a member again. At most two
// versions are live. Unsafe recovery, for a region that is lost for good with Fz=0, is not built: without a Q1(v) nothing is
// sealed, groups whose owners live go on in v+1 by StopSign, and v stays live until the region is back.
//
// Not built either: configurations of single tables. A version is of all groups.
//
// A driver holds one page of names for each voter of v, and Options.Inflight moves; progress is in the Registry and in the
// groups. No clock, randomness, goroutine or package state. The layout of the registry is in
// codec.go; entries are those of consensuspb.
package reconfig

import (
	"errors"
	"fmt"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

type (
	// NodeID names a node for ever; 0 is no node.
	NodeID = quorum.NodeID
	// Region names a failure domain of nodes.
	Region = quorum.Region
	// Timestamp is a time of the driver's node, or a span, in nanoseconds.
	Timestamp = uint64
)

var (
	// ErrInvalid is the class of an entry, answer or option that makes no sense.
	ErrInvalid = errors.New("invalid reconfiguration")
	// ErrOverlap is the class of a change while the one before is under way: it would make a third live version.
	ErrOverlap = errors.New("a change of the configuration is under way")
	// ErrStale is the class of an entry that names another version than is its turn: somebody was faster.
	ErrStale = errors.New("stale version of the configuration")
	// ErrUnknownNode is the class of a change that names a node that was never added, stands in another region, or was removed.
	ErrUnknownNode = errors.New("unknown node")
	// ErrNoQuorum is the class of a change that would leave no quorum among the nodes that are alive.
	ErrNoQuorum = errors.New("no quorum")
	// ErrCorrupt is the class of what Decode and DecodeEntry refuse.
	ErrCorrupt = errors.New("corrupt reconfiguration record")
)

// Path is how a node takes one group to a newer version.
type Path uint8

// The paths.
const (
	// Nothing is to be done.
	Nothing Path = iota
	// ByStopSign is H: the owner ends the log of the old version, then campaigns at the new one.
	ByStopSign
	// ByCampaign is V: a campaign at the new version, which asks both.
	ByCampaign
)

// Plan says how a node takes a group to the version next. established is that of its record; owned is the configuration of the
// ballot at which it serves the group, 0 if it does not; minCfg is the node's seal. A sealed node refuses its own ballots too,
// so that it can only campaign.
func Plan(established, owned, minCfg, next uint64) Path {
	switch {
	case established >= next:
		return Nothing
	case owned >= next: // the campaign is over; established follows
		return Nothing
	case owned > 0 && minCfg < next:
		return ByStopSign
	default:
		return ByCampaign
	}
}

// Below reports whether a node has to list a group: something may be chosen in it, or an owner may hold a lease on it, that is
// not established at next. An empty log has nothing chosen in it, whatever was promised, but its owner can answer reads
// with nothing for as long as acceptors are tied to it: it has to be moved too, by a phase 1 that waits for the lease. A
// group whose log comes out empty is established all the same.
func Below(r *consensus.Record, next uint64) bool {
	return r.Established < next && (r.Last > 0 || r.Fort.Owner != 0)
}

// Options are the numbers of a Driver. Times are in nanoseconds.
type Options struct {
	// PageLen is how many names a node is asked for at once. 1 to PageLenMax, default 1,000. Large: memory.
	PageLen int
	// Inflight is how many groups are on the move at once, and PerSecond how many may begin in a second. 1 to 65,536, default
	// 64; 1 to 1,000,000, default 500. Small: a change takes long. Large: it is felt by who uses the groups.
	Inflight  int
	PerSecond int
	// RetryAfter is how long an order waits for its answer before it is sent again, and a move that failed for its next try.
	// 1 ms to 1 h, default 2 s.
	RetryAfter Timestamp
	// UpgradeFor is how long live owners have to move their own groups before v is sealed all the same: the rest goes by
	// campaigns. 1 ms to 24 h, default 5 min.
	UpgradeFor Timestamp
}

// PageLenMax bounds Options.PageLen and the names of a page.
const PageLenMax = 10_000

// EnsureDefaults fills the fields that are 0.
func (o *Options) EnsureDefaults() {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&o.PageLen, 1_000)
	set(&o.Inflight, 64)
	set(&o.PerSecond, 500)
	if o.RetryAfter == 0 {
		o.RetryAfter = 2e9
	}
	if o.UpgradeFor == 0 {
		o.UpgradeFor = 300e9
	}
}

// Validate reports every field that is out of its bounds.
func (o *Options) Validate() error {
	var errs []error
	for _, f := range [...]struct {
		name           string
		have, min, max uint64
	}{
		{"PageLen", uint64(o.PageLen), 1, PageLenMax},
		{"Inflight", uint64(o.Inflight), 1, 1 << 16},
		{"PerSecond", uint64(o.PerSecond), 1, 1_000_000},
		{"RetryAfter", o.RetryAfter, 1e6, 3600e9},
		{"UpgradeFor", o.UpgradeFor, 1e6, 24 * 3600e9},
	} {
		if f.have < f.min || f.have > f.max {
			errs = append(errs, fmt.Errorf("%w: %s is %d, not between %d and %d", ErrInvalid, f.name, int64(f.have), f.min, f.max))
		}
	}
	return errors.Join(errs...)
}

// OrderKind says what an order asks for.
type OrderKind uint8

// The orders; see the package comment.
const (
	Upgrade OrderKind = iota + 1
	Seal
	List
	Migrate
	ProposeRetire
)

// Order is a request of the driver to a node; ProposeRetire is to the driver's own.
type Order struct {
	Kind OrderKind
	To   NodeID
	// Version is v+1; of ProposeRetire, v.
	Version uint64
	After   string // List: names after this
	Limit   int    // List
	Group   string // Migrate
	// Entry is what ProposeRetire is to propose.
	Entry *Entry
}

// Answer is a node's to an order of the same Kind and Version.
type Answer struct {
	Kind    OrderKind
	From    NodeID
	Version uint64
	Left    uint64   // Upgrade: groups that the node still owns below Version
	After   string   // List: as in the order
	Groups  []string // List: the names, rising
	More    bool     // List: there are names after these
	Group   string   // Migrate
	// Established of Migrate is that of the group's record; below Version, the move failed.
	Established uint64
}
