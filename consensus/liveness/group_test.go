// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// group is a real group's core in the place of the small lease protocol, with a log that is never trimmed.
type group struct {
	config consensus.Configuration
	core   *consensus.Core // nil while the node is down
	ready  consensus.Ready
	out    bool
	record consensus.Record
	log    []consensus.Entry // slots from 1; what was written, durable or not
	// What the disk has for sure.
	durable struct {
		record consensus.Record
		log    []consensus.Entry
	}
}

// Entries is the log, for the core.
func (g *group) Entries(lo, hi consensus.Slot, _ int) ([]consensus.Entry, error) {
	return slices.Clone(g.log[lo-1 : hi]), nil
}

func (g *group) start(id NodeID, fabric consensus.Fabric) error {
	g.record, g.log, g.out = g.durable.record, slices.Clone(g.durable.log), false
	var err error
	g.core, err = consensus.New(consensus.Options{
		Self: id, Configurations: []consensus.Configuration{g.config}, Record: g.record,
		Tail: slices.Clone(g.log[g.record.Applied:]), Log: g, Fabric: fabric,
	})
	return err
}

// take takes the Ready and writes it. Promises that took support away are written in the batch.
func (g *group) take(id NodeID, minEpochs *[membersMax + 1]uint64) (now []parcel, mustSync bool) {
	if !g.core.HasReady() {
		return nil, false
	}
	g.ready, g.out = g.core.Ready(), true
	r := &g.ready
	if r.TruncateFrom > 0 {
		g.log = g.log[:r.TruncateFrom-1]
	}
	g.log = append(g.log, r.Entries...)
	if r.Record != nil {
		g.record = *r.Record
	}
	for _, w := range r.Withdrawals {
		if w.Node != id {
			minEpochs[w.Node] = max(minEpochs[w.Node], w.Epoch)
		}
	}
	return grouped(r.MsgsNow), r.MustSync
}

// synced ends the Ready.
func (g *group) synced() []parcel {
	if !g.out {
		return nil
	}
	g.durable.record, g.durable.log = g.record, slices.Clone(g.log)
	after := grouped(g.ready.MsgsAfterSync)
	g.out = false
	g.core.Advance()
	return after
}

func grouped(ms []consensus.Message) []parcel {
	var out []parcel
	for _, m := range ms {
		out = append(out, parcel{kind: ofGroup, from: m.From, to: m.To, group: &m})
	}
	return out
}

// newGroup is a group of all nodes; the shape depends on how many they are.
func newGroup(nodes []NodeID) (*group, error) {
	var voters []quorum.Voter
	for i, n := range nodes {
		region := quorum.Region("a")
		if len(nodes) == 5 && i >= 3 {
			region = "b"
		}
		voters = append(voters, quorum.Voter{Node: n, Region: region})
	}
	q, err := quorum.New(voters, 1, 0)
	if err != nil {
		return nil, err
	}
	return &group{config: consensus.Configuration{Version: 1, Quorums: q}}, nil
}

// campaign makes a node want the group, by whatever way there is: by force, inside the home, or with consent.
func (w *world) campaignGroup(h *host) error {
	for _, o := range w.hosts {
		if o.core != nil && !o.paused && o != h && w.rng.IntN(4) == 0 {
			w.tick(o)
			if err := o.g.core.Release(h.id); err == nil {
				w.note("node %d releases to node %d", o.id, h.id)
				w.pump(o)
				return nil
			}
		}
	}
	scope := consensus.Scope(w.rng.IntN(2))
	err := h.g.core.Campaign(scope)
	w.note("node %d campaigns %v: %v", h.id, scope, err)
	if errors.Is(err, consensus.ErrInvalid) {
		err = h.g.core.Campaign(consensus.Global)
	}
	return err
}

// propose has everybody who can propose do so; the lease is asked for, so that ties are renewed.
func (w *world) propose(h *host) {
	if w.rng.IntN(1000) >= w.proposePM {
		h.g.core.HoldsLease()
		return
	}
	if _, _, err := h.g.core.Propose(Timestamp(w.now)+1e18, consensus.Proposal{Payload: []byte{byte(w.round)}}); err == nil {
		w.marks.proposed++
	}
	h.g.core.HoldsLease()
}

// judgeGroup: whoever holds the lease knows of all that anyone else knows to be chosen.
func (w *world) judgeGroup() error {
	for _, h := range w.hosts {
		if h.core == nil || h.paused || !h.holds() {
			continue
		}
		for _, o := range w.hosts {
			if o.core == nil {
				continue
			}
			if mine, other := h.g.core.Status().Commit, o.g.core.Status().Commit; mine < other {
				return fmt.Errorf("I8: node %d holds the lease and knows slots to %d to be chosen, node %d to %d", h.id, mine, o.id, other)
			}
		}
	}
	return nil
}

// TestGroupSimulation is TestSimulation with the real core of a group: steals, releases, local ballots and renewed ties, over the real
// liveness of each node.
func TestGroupSimulation(t *testing.T) {
	first, n := uint64(1), uint64(8)
	switch {
	case *seedFlag > 0:
		first, n = *seedFlag, 1
	case *seedsFlag > 0:
		n = *seedsFlag
	case os.Getenv("ATLAS_LONG") != "":
		n = 300
	case slow:
		n = 5
	}
	t.Logf("seeds %d to %d", first, first+n-1)
	var sum marks
	for seed := first; seed < first+n; seed++ {
		var trace *strings.Builder
		if *seedFlag > 0 {
			trace = &strings.Builder{}
		}
		m, err := simulate(seed, settings{group: true}, trace)
		sum.add(&m)
		if trace != nil {
			t.Log(trace.String())
		}
		if err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./consensus/liveness -run TestGroupSimulation -v -liveness.seed=%d", seed, err, seed)
		}
	}
	t.Logf("%+v", sum)
	// That an owner outlives the withdrawal of its support, and takes a new epoch, is rare here: most say before that they are over.
	if n >= 8 && (sum.leases == 0 || sum.withdrawals == 0 || n >= 100 && sum.bumps == 0 || sum.proposed == 0 || sum.owners < 30) {
		t.Errorf("too little happened: %+v", sum)
	}
}
