// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"slices"
	"testing"
)

// TestStateSaysAll holds what outcomes are looked up by against the core: two locals that AppendState does not tell apart, come
// to on different ways, must do the same on every message there is, on a Tick and on every command.
func TestStateSaysAll(t *testing.T) {
	for _, s := range []Setup{
		{Name: "steal", Nodes: 3, Bounds: Bounds{Campaigns: 2, Slots: 1, Crashes: 1, Ticks: true, Inflight: 1, Proposers: nodes(1, 2), States: 20_000}},
		{Name: "any order", Nodes: 3, Bounds: Bounds{Campaigns: 1, Slots: 2, Network: Reorder, Ticks: true, Proposers: nodes(1), States: 20_000}},
		{Name: "lease", Nodes: 3, Fabric: true, Prelude: steady, Bounds: Bounds{Campaigns: 1, Slots: 1, Reads: 1, Leases: true, Epochs: 1, Inflight: 1, Proposers: nodes(1, 2), States: 20_000}},
		{Name: "snapshot", Nodes: 3, Prelude: []string{"campaign 1", "run", "propose 1", "run 1 2"}, Bounds: Bounds{Campaigns: 1, Slots: 1, Compacts: 1, Ticks: true, Stalls: 1, Proposers: nodes(2, 3), Inflight: 1, States: 20_000}},
	} {
		s.Configurations, s.Bounds.Asymmetric = only(three), true // what is tried here is the origin of no state
		s.Bounds.States = min(s.Bounds.States, raceStates)
		pairs, inputs := 0, 0
		var hook func(x *explorer, id uint32, l *local)
		hook = func(x *explorer, id uint32, l *local) {
			known := x.locals[id]
			if known.core == l.core {
				return
			}
			pairs++
			x.again = nil
			node := uint8(l.self - 1)
			v := &view{self: node}
			for i := range x.views {
				if x.views[i].self == node {
					v = &x.views[i]
				}
			}
			try := []action{{kind: tick, node: node}, {kind: release, node: node, arg: uint16(node+1) % 3}}
			for _, k := range []kind{campaign, campaignLocal, propose, readIndex, askLease, compact} {
				try = append(try, action{kind: k, node: node, arg: 1})
			}
			for m := max(0, len(x.messages)-40); m < len(x.messages); m++ {
				if x.messages[m].message.To == l.self {
					try = append(try, action{kind: deliver, node: node, arg: uint16(m)})
				}
			}
			for _, a := range try {
				inputs++
				one, two := x.do(known, v, a), x.do(l, v, a)
				if one.refused != two.refused || one.next != two.next || !slices.Equal(one.sent, two.sent) || (one.bad == nil) != (two.bad == nil) {
					t.Fatalf("%s: on %s two equal states of node %d differ: %+v and %+v", s.Name, x.text(a), l.self, one, two)
				}
			}
			x.again = func(id uint32, l *local) { hook(x, id, l) }
		}
		_, v := explore(&s, func(x *explorer, _ *world) {
			if x.again == nil {
				x.again = func(id uint32, l *local) { hook(x, id, l) }
			}
		})
		if v != nil {
			t.Fatal(v)
		}
		t.Logf("%s: %d pairs of equal states, %d inputs", s.Name, pairs, inputs)
		if pairs == 0 {
			t.Errorf("%s: nothing was compared", s.Name)
		}
	}
}
