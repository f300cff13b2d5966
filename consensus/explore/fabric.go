// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"fmt"

	"github.com/atlas-edge/atlas/consensus"
)

// none is no epoch.
const none = -1

// fabric is the liveness layer of all nodes without its clocks. What is left of time is one rule: a node stops supporting
// another only after the other has stopped believing in it, which is what the drift bound of the real one is for (I16).
type fabric struct {
	epoch  [nodesMax]uint8
	gives  [nodesMax][nodesMax]int8 // [n][o]: the epoch of o that n supports
	has    [nodesMax][nodesMax]int8 // [o][n]: the own epoch in which o believes that n supports it
	silent [nodesMax]bool           // restarted, and quarantined
}

// newFabric: everybody supports everybody, in epoch 1.
func newFabric(nodes int) fabric {
	var f fabric
	for n := range nodesMax {
		for o := range nodesMax {
			f.gives[n][o], f.has[n][o] = none, none
			if n != o && n < nodes && o < nodes {
				f.gives[n][o], f.has[n][o] = 1, 1
			}
		}
		if n < nodes {
			f.epoch[n] = 1
		}
	}
	return f
}

// restart is what a crash does to it: what the node supported and believed is gone, its epoch is a new one.
func (f *fabric) restart(n int) {
	f.epoch[n]++
	for o := range nodesMax {
		f.gives[n][o], f.has[n][o] = none, none
		if f.has[o][n] != none {
			f.silent[n] = true
		}
	}
}

// next does a fabric action, if it is possible. minEps are what the node n has withdrawn from for good.
func (f *fabric) next(a action, minEps []minEpoch) bool {
	n, o := int(a.node), int(a.arg)
	switch a.kind {
	case lose:
		if f.has[n][o] == none {
			return false
		}
		f.has[n][o] = none
	case expire:
		if f.gives[n][o] == none || f.has[o][n] == f.gives[n][o] {
			return false
		}
		f.gives[n][o] = none
	case bump:
		f.epoch[n]++
		for o := range nodesMax {
			f.has[n][o] = none
		}
	case support:
		e := int8(f.epoch[o])
		if f.gives[n][o] >= e {
			return false
		}
		for _, w := range minEps {
			if int(w.node) == o && int8(w.epoch) > e {
				return false
			}
		}
		f.gives[n][o] = e
	case gain:
		if f.has[n][o] != none || f.gives[o][n] != int8(f.epoch[n]) {
			return false
		}
		f.has[n][o] = f.gives[o][n]
	case settle:
		if !f.silent[n] {
			return false
		}
		for o := range nodesMax {
			if f.has[o][n] != none && f.has[o][n] != f.gives[n][o] {
				return false
			}
		}
		f.silent[n] = false
	}
	return true
}

// view is what one node sees of the fabric.
type view struct {
	self   uint8
	on     bool
	epoch  uint8
	gives  [nodesMax]int8
	has    [nodesMax]bool
	silent bool
}

func (f *fabric) view(n int) view {
	v := view{self: uint8(n), on: true, epoch: f.epoch[n], gives: f.gives[n], silent: f.silent[n]}
	for o := range nodesMax {
		v.has[o] = f.has[n][o] == int8(f.epoch[n])
	}
	return v
}

// eyes show a core the view of the moment; they implement consensus.Fabric.
type eyes struct {
	view
	withdrawn []minEpoch
}

// fabric is what the core of the run is given.
func (r *run) fabric() consensus.Fabric {
	if !r.x.setup.Fabric {
		return nil
	}
	return &r.eyes
}

// Epoch implements consensus.Fabric.
func (v *eyes) Epoch() uint64 { return uint64(v.epoch) }

// Supports implements consensus.Fabric.
func (v *eyes) Supports(node consensus.NodeID, epoch uint64) (remaining consensus.Timestamp, ok bool) {
	i := int(node) - 1
	if i == int(v.self) {
		return 1, epoch == uint64(v.epoch)
	}
	return 1, i >= 0 && i < nodesMax && v.gives[i] != none && uint64(v.gives[i]) == epoch
}

// SupportFrom implements consensus.Fabric.
func (v *eyes) SupportFrom(node consensus.NodeID) bool {
	i := int(node) - 1
	return i == int(v.self) || i >= 0 && i < nodesMax && v.has[i]
}

// Quarantined implements consensus.Fabric.
func (v *eyes) Quarantined() (remaining consensus.Timestamp, ok bool) { return 1, v.silent }

// Withdraw implements consensus.Fabric.
func (v *eyes) Withdraw(node consensus.NodeID, minEp uint64) error {
	i := int(node) - 1
	if g := v.gives[i]; g != none && uint64(g) < minEp {
		return fmt.Errorf("I16: epoch %d of node %d is supported, and to be withdrawn below %d", g, node, minEp)
	}
	v.withdrawn = raise(v.withdrawn, minEpoch{uint8(i), uint8(minEp)})
	return nil
}

// Clock implements consensus.Fabric: no clock is known, and nothing is closed.
func (v *eyes) Clock() consensus.Timestamp { return 0 }

// ClockFrom implements consensus.Fabric.
func (v *eyes) ClockFrom(consensus.NodeID) consensus.Timestamp { return 0 }

// Observe implements consensus.Fabric.
func (v *eyes) Observe(consensus.Timestamp) {}

func (f *fabric) text(n, nodes int) string {
	s := fmt.Sprintf("epoch=%d", f.epoch[n])
	for o := range nodes {
		if o != n {
			s += fmt.Sprintf(" %d:gives=%d,has=%d", o+1, f.gives[n][o], f.has[n][o])
		}
	}
	if f.silent[n] {
		s += " quarantined"
	}
	return s
}
