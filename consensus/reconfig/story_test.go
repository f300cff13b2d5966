// SPDX-License-Identifier: AGPL-3.0-only

package reconfig

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// story is the world of one file in testdata: a fleet without losses and one driver. Its commands:
//
//	atlas fn=1 fz=0 nodes=(a1,a2,b3)         version 1; a1 is node 1 in region a
//	add c4                                   AddNode
//	set fn=1 fz=0 nodes=(...) [learners=(4)] SetConfig of the next version
//	foresee fn=1 fz=0 nodes=(...)            what the change would meet
//	write N g ...                            a client's write at node N, which gets to own the group first
//	down N ... | up N ...                    crash and restart
//	driver [page=N] [inflight=N] [rate=N]    a new driver, on the registry as it is
//	tick T                                   T in seconds; prints the orders
//	carry [N ...]                            the orders to these nodes, or all, are carried out and answered
//	run                                      tick, each second, and carry, until nothing is left to do
//	progress | owners
type story struct {
	f      *fleet
	now    Timestamp
	out    strings.Builder
	driver *Driver
}

func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			if err := s.command(t, d); err != nil {
				fmt.Fprintf(&s.out, "error: %v\n", err)
			}
			if s.out.Len() == 0 {
				return "ok\n"
			}
			return s.out.String()
		})
	})
}

func (s *story) config(t *testing.T, d *datadriven.TestData) Config {
	c := Config{Version: 1}
	if s.f != nil {
		c.Version = s.f.truth.Newest().Version + 1
	}
	d.MaybeScanArgs(t, "fn", &c.Fn)
	d.MaybeScanArgs(t, "fz", &c.Fz)
	for _, arg := range d.CmdArgs {
		for _, v := range arg.Vals {
			switch arg.Key {
			case "nodes":
				c.Voters = append(c.Voters, voter(v))
			case "learners":
				c.Learners = append(c.Learners, NodeID(number(v)))
			}
		}
	}
	return c
}

func voter(s string) quorum.Voter {
	return quorum.Voter{Node: NodeID(number(s[1:])), Region: Region(s[:1])}
}

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (s *story) command(t *testing.T, d *datadriven.TestData) (err error) {
	switch d.Cmd {
	case "atlas":
		s.f = nil
		if s.f, err = newFleet(1, s.config(t, d)); err != nil {
			return err
		}
		s.now = 0
		return s.newDriver(Options{})
	case "add":
		v := voter(d.CmdArgs[0].Key)
		s.f.addNode(v.Node)
		return s.f.propose(&Entry{Kind: AddNode, Node: v.Node, Region: v.Region})
	case "set":
		return s.f.propose(&Entry{Kind: SetConfig, Config: s.config(t, d)})
	case "foresee":
		c := s.config(t, d)
		o, err := s.f.truth.Foresee(&c, s.f.up())
		fmt.Fprintf(&s.out, "by campaign: %v\n", o.ByCampaign)
		return err
	case "write":
		return s.write(d)
	case "down", "up":
		for _, arg := range d.CmdArgs {
			n := s.f.nodes[NodeID(number(arg.Key))]
			n.up = d.Cmd == "up"
			clear(n.owned)
		}
	case "driver":
		var o Options
		d.MaybeScanArgs(t, "page", &o.PageLen)
		d.MaybeScanArgs(t, "inflight", &o.Inflight)
		d.MaybeScanArgs(t, "rate", &o.PerSecond)
		return s.newDriver(o)
	case "tick":
		s.now = number(d.CmdArgs[0].Key) * second
		return s.tick()
	case "carry":
		return s.carry(d)
	case "run":
		for range 100 {
			s.now += second
			if err := s.tick(); err != nil {
				return err
			}
			if err := s.carry(d); err != nil {
				return err
			}
		}
	case "progress":
		fmt.Fprintf(&s.out, "%+v\n", s.driver.Progress())
	default:
		t.Fatalf("no command %s", d.Cmd)
	}
	return nil
}

func (s *story) newDriver(o Options) (err error) {
	s.driver, err = NewDriver(o, s.f.truth)
	s.f.drivers, s.f.orders, s.f.answers = []*Driver{s.driver}, nil, nil
	return err
}

func (s *story) write(d *datadriven.TestData) error {
	n := s.f.nodes[NodeID(number(d.CmdArgs[0].Key))]
	for _, arg := range d.CmdArgs[1:] {
		for range 2 {
			if err := s.f.write(n, arg.Key); err != nil {
				return err
			}
		}
		b, ok := n.owned[arg.Key]
		fmt.Fprintf(&s.out, "%s: owned at %s: %v, chosen %v\n", arg.Key, b, ok, s.f.chosen[arg.Key])
	}
	return nil
}

func (s *story) tick() error {
	before := len(s.f.orders)
	retires := s.f.retires
	if err := s.f.tick(s.driver, s.now); err != nil {
		return err
	}
	for _, o := range s.f.orders[before:] {
		name := [...]string{Upgrade: "upgrade", Seal: "seal", List: "list", Migrate: "migrate"}[o.Kind]
		fmt.Fprintf(&s.out, "%ds: %s -> %d", s.now/second, name, o.To)
		if o.Kind == List {
			fmt.Fprintf(&s.out, " after %q", o.After)
		}
		if o.Kind == Migrate {
			fmt.Fprintf(&s.out, " %s", o.Group)
		}
		s.out.WriteByte('\n')
	}
	if s.f.retires > retires {
		fmt.Fprintf(&s.out, "%ds: retired; live is %d\n", s.now/second, s.f.truth.Newest().Version)
	}
	return nil
}

func (s *story) carry(d *datadriven.TestData) error {
	var left []Order
	for _, o := range s.f.orders {
		wanted := len(d.CmdArgs) == 0
		for _, arg := range d.CmdArgs {
			wanted = wanted || NodeID(number(arg.Key)) == o.To
		}
		if !wanted {
			left = append(left, o)
			continue
		}
		if err := s.f.carry(o); err != nil {
			return err
		}
		for _, a := range s.f.answers {
			switch {
			case a.Kind == Upgrade:
				fmt.Fprintf(&s.out, "  %d: owns %d below\n", a.From, a.Left)
			case a.Kind == Seal:
				fmt.Fprintf(&s.out, "  %d: sealed below %d\n", a.From, s.f.nodes[a.From].minCfg)
			case a.Kind == List:
				fmt.Fprintf(&s.out, "  %d: lists %v, more %v\n", a.From, a.Groups, a.More)
			case a.Established >= a.Version:
				fmt.Fprintf(&s.out, "  %d: %s is established at %d\n", a.From, a.Group, a.Established)
			default:
				fmt.Fprintf(&s.out, "  %d: %s failed\n", a.From, a.Group)
			}
			if err := s.driver.Step(&a); err != nil {
				return err
			}
		}
		s.f.answers = nil
	}
	s.f.orders = left
	return nil
}
