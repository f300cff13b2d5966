// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/datadriven"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// testFabric says what it is told to.
type testFabric struct {
	epoch      uint64
	supports   map[NodeID]uint64 // the life that this node supports
	from       map[NodeID]bool   // who supports this node
	quarantine Timestamp
	clock      Timestamp            // hybrid
	clocks     map[NodeID]Timestamp // what others have told of theirs
	withdrawn  map[NodeID]uint64
}

var _ Fabric = (*testFabric)(nil)

func (f *testFabric) Epoch() uint64 { return f.epoch }

func (f *testFabric) Supports(node NodeID, epoch uint64) (Timestamp, bool) {
	return 3e9, f.supports[node] == epoch && epoch >= f.withdrawn[node]
}

func (f *testFabric) SupportFrom(node NodeID) bool { return f.from[node] }

func (f *testFabric) Quarantined() (Timestamp, bool) { return f.quarantine, f.quarantine > 0 }

func (f *testFabric) Withdraw(node NodeID, minEpoch uint64) error {
	if e := f.supports[node]; e != 0 && e < minEpoch {
		return fmt.Errorf("node %d is supported at epoch %d", node, e)
	}
	if f.withdrawn == nil {
		f.withdrawn = map[NodeID]uint64{}
	}
	f.withdrawn[node] = max(f.withdrawn[node], minEpoch)
	return nil
}

func (f *testFabric) Clock() Timestamp { return f.clock }

func (f *testFabric) ClockFrom(node NodeID) Timestamp { return f.clocks[node] }

func (f *testFabric) Observe(t Timestamp) { f.clock = max(f.clock, t) }

// ties is what a record holds besides the log.
func ties(r *Record) string {
	var b strings.Builder
	for _, g := range r.GlobalPromises {
		if !g.Ballot.IsZero() && g.Ballot != r.Promised {
			fmt.Fprintf(&b, " global-promise=%s", g.Ballot)
			if g.Sticky {
				b.WriteString("(sticky)")
			}
		}
	}
	if r.Fort != (Fort{}) {
		fmt.Fprintf(&b, " tied-to=%d@%d", r.Fort.Owner, r.Fort.Epoch)
	}
	if r.StopSlot != 0 {
		fmt.Fprintf(&b, " stop=%d->%d", r.StopSlot, r.StopNext)
	}
	if r.Established > 1 {
		fmt.Fprintf(&b, " established=%d", r.Established)
	}
	return b.String()
}

func regionsOf(names []string) []quorum.Region {
	var regions []quorum.Region
	for _, name := range names {
		regions = append(regions, quorum.Region(name))
	}
	return regions
}

func (s *story) number(arg string) uint64 {
	v, err := strconv.ParseUint(arg, 10, 64)
	s.must(err)
	return v
}

// inputs are what a caller may do besides what every story needs.
func (s *story) inputs(d *datadriven.TestData) {
	if d.Cmd == "configure" {
		s.configure(d)
		return
	}
	if d.Cmd == "node" {
		s.must(s.addNode(NodeID(s.number(d.CmdArgs[0].Key))).start())
		return
	}
	n := s.node(d)
	switch d.Cmd {
	case "retire":
		v := s.number(d.CmdArgs[1].Key)
		err := n.core.Retire(v)
		s.failed("retire", err)
		for err == nil && n.configs[0].Version <= v {
			n.configs = n.configs[1:]
		}
	case "seal":
		n.minCfg = s.number(d.CmdArgs[1].Key)
		n.core.Seal(n.minCfg)
	case "home":
		var names []string
		for _, a := range d.CmdArgs[1:] {
			names = append(names, a.Key)
		}
		n.home = regionsOf(names)
		s.failed("home", n.core.SetHome(n.home))
	case "compact":
		n.core.Compact(Slot(s.number(d.CmdArgs[1].Key)))
	case "release":
		var to int
		d.ScanArgs(s.t, "to", &to)
		s.failed("release", n.core.Release(NodeID(to)))
	case "lease":
		s.printf("%v", n.core.HoldsLease())
	case "read":
		s.failed("read", n.core.ReadIndex(s.number(d.CmdArgs[1].Key)))
	case "close":
		var at uint64
		d.ScanArgs(s.t, "at", &at)
		claim, err := n.core.Close(at)
		s.failed("close", err)
		if err == nil {
			s.printf("up to time %d all is chosen in slots up to %d", claim.Time, claim.Slot)
		}
	case "stop-sign":
		var at, next uint64
		d.ScanArgs(s.t, "at", &at)
		d.ScanArgs(s.t, "next", &next)
		slot, err := n.core.ProposeStopSign(at, next)
		s.failed("stop-sign", err)
		if err == nil {
			s.printf("slot %d", slot)
		}
	}
}

// configure tells one node, or all, of a configuration.
func (s *story) configure(d *datadriven.TestData) {
	var (
		cfg    Configuration
		fn, fz int
		ids    []NodeID
		sizes  []int
		voters []quorum.Voter
	)
	d.ScanArgs(s.t, "version", &cfg.Version)
	d.MaybeScanArgs(s.t, "fn", &fn)
	d.MaybeScanArgs(s.t, "fz", &fz)
	for _, a := range d.CmdArgs {
		for _, v := range a.Vals {
			switch a.Key {
			case "regions":
				sizes = append(sizes, int(s.number(v)))
			case "nodes":
				ids = append(ids, NodeID(s.number(v)))
			case "learners":
				cfg.Learners = append(cfg.Learners, NodeID(s.number(v)))
			}
		}
	}
	for z, size := range sizes {
		for range size {
			id := NodeID(len(voters) + 1)
			if len(ids) > 0 {
				id = ids[len(voters)]
			}
			voters = append(voters, quorum.Voter{Node: id, Region: quorum.Region(rune('a' + z))})
		}
	}
	var err error
	cfg.Quorums, err = quorum.New(voters, fn, fz)
	s.must(err)
	nodes := s.nodes
	if id := d.CmdArgs[0].Key; id != "all" {
		nodes = []*testNode{s.byID(id)}
	}
	for _, n := range nodes {
		n.configs = append(n.configs[:len(n.configs):len(n.configs)], cfg)
		if n.core != nil {
			s.failed(fmt.Sprintf("node %d", n.id), n.core.Configure(cfg))
		}
	}
}

// fabrics sets what the nodes know of each other's lives.
func (s *story) fabrics(d *datadriven.TestData) {
	of := func(id string) *testFabric { return s.byID(id).fabric.(*testFabric) }
	switch d.Cmd {
	case "epoch":
		of(d.CmdArgs[0].Key).epoch = s.number(d.CmdArgs[1].Key)
	case "clock":
		id, t := d.CmdArgs[0].Key, s.number(d.CmdArgs[1].Key)
		of(id).clock = t
		for _, n := range s.nodes {
			if f := n.fabric.(*testFabric); n.id == s.byID(id).id || !d.HasArg("untold") {
				f.clocks[s.byID(id).id] = t
			}
		}
	case "quarantine":
		of(d.CmdArgs[0].Key).quarantine = s.number(d.CmdArgs[1].Key) * 1e6
	default:
		for _, a := range d.CmdArgs {
			by, who, _ := strings.Cut(a.Key, "->")
			supporter, holder := s.byID(by), s.byID(who)
			if d.Cmd == "support" {
				of(by).supports[holder.id] = of(who).epoch
				of(who).from[supporter.id] = true
			} else {
				delete(of(by).supports, holder.id)
				delete(of(who).from, supporter.id)
			}
		}
	}
}
