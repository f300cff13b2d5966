// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/consensus/reconfig"
)

// The system group is not simulated. It is a log that is always there: an entry is proposed and applied to the world's registry at
// once, and each node learns the log's beginning with a delay, and applies it to a registry of its own.

// firstConfiguration is what the world begins with.
func (w *World) firstConfiguration() {
	c := reconfig.Config{Version: 1, Fn: int(w.o.Fn), Fz: int(w.o.Fz)}
	for _, n := range w.nodes {
		c.Voters = append(c.Voters, quorum.Voter{Node: n.id, Region: n.region})
	}
	r, err := reconfig.NewRegistry(c)
	if err != nil {
		w.fail("first configuration: %v", err)
		return
	}
	w.registry, w.first = r, r.Clone()
	w.history = r.Configurations()
	for _, n := range w.nodes {
		n.registry = r.Clone()
	}
	w.drawHomes()
}

// configuration finds a configuration, retired or not.
func (w *World) configuration(v uint64) *consensus.Configuration {
	if v == 0 || v > uint64(len(w.history)) {
		return nil
	}
	return &w.history[v-1]
}

// propose appends an entry to the system log, unless it has no right to be there.
func (w *World) proposeSystem(e reconfig.Entry) error {
	if err := w.registry.Apply(&e); err != nil {
		return err
	}
	w.systemLog = append(w.systemLog, e)
	w.mix(uint64(e.Kind), uint64(len(w.systemLog)))
	switch e.Kind {
	case reconfig.SetConfig:
		list := w.registry.Configurations()
		w.history = append(w.history, list[len(list)-1])
		w.drawHomes()
		w.stats.Configurations++
		w.trace(0, "configuration %d: %v, Fn %d, Fz %d, learners %v", e.Config.Version, e.Config.Voters, e.Config.Fn, e.Config.Fz, e.Config.Learners)
	case reconfig.Retire:
		w.stats.Retired++
		w.retired = e.Version
		w.sometimes("a configuration was retired")
		w.trace(0, "configuration %d is retired, sealed by %v", e.Version, e.Sealed)
	}
	for _, n := range w.nodes {
		id := n.id
		w.after(w.rndReconfig.spread(1, 4*w.o.LearnSystemLog), func() {
			if n := w.node(id); n.up {
				n.learn(len(w.systemLog))
			}
		})
	}
	return nil
}

// learnSoon lets a node ask for the system log, and gives it the message again that it could not judge.
func (n *node) learnSoon(p *packet) {
	w := n.w
	life := n.life
	w.after(w.rndReconfig.upTo(2*w.o.LearnSystemLog), func() {
		if n.up && n.life == life {
			n.learn(len(w.systemLog))
			if p != nil {
				w.deliver(p)
			}
		}
	})
}

// learn takes over the system log up to an entry. What a node has learned is on its disk.
func (n *node) learn(upTo int) {
	for n.learned < upTo && n.up && !n.w.failed() {
		e := &n.w.systemLog[n.learned]
		n.learned++
		n.w.must(n.registry.Apply(e))
		switch e.Kind {
		case reconfig.AddNode:
			n.setPeers()
		case reconfig.SetConfig:
			list := n.registry.Configurations()
			for _, r := range n.active {
				n.tell(r, r.core.Configure(list[len(list)-1]))
				n.tell(r, r.core.SetHome(n.w.homeOf(n)))
			}
		case reconfig.Retire:
			for _, r := range n.active {
				n.tell(r, r.core.Retire(e.Version))
			}
		}
		if n.driver != nil {
			n.driver.Changed()
		}
	}
	if n.up {
		n.plan()
	}
}

// tell judges a core's answer to what it was told.
func (n *node) tell(r *replica, err error) {
	if err != nil && !n.w.harmless(err) {
		n.w.fail("node %d group %d: system log entry %d: %v", n.id, r.g, n.learned, err)
	}
	r.touched()
}

func (n *node) setPeers() {
	var peers []consensus.NodeID
	for _, o := range n.w.nodes {
		if o.id != n.id {
			peers = append(peers, o.id)
		}
	}
	n.w.must(n.live.SetPeers(peers))
}

// drawHomes gives each node a home for its ballots of the newest configuration: its region and so many others as a Q2 needs,
// or more. One that is no voter has none.
func (w *World) drawHomes() {
	w.homes = append(w.homes, make([][]quorum.Region, nodesMax+1))
	if !w.o.Homes || w.calm {
		return
	}
	q := w.history[len(w.history)-1].Quorums
	for id := consensus.NodeID(1); id <= nodesMax; id++ {
		i, ok := q.Index(id)
		if !ok {
			continue
		}
		w.homes[len(w.homes)-1][id] = drawHome(q, q.Voter(i).Region, w.rndReconfig)
	}
}

// drawHome is a region and so many others as a Q2 needs, or more.
func drawHome(q *quorum.Config, own quorum.Region, r stream) []quorum.Region {
	var regions []quorum.Region
	for _, s := range q.Regions() {
		regions = append(regions, s.Region)
	}
	home := []quorum.Region{own}
	for _, i := range r.Perm(len(regions)) {
		if len(home) > q.RegionLosses() && r.chance(2) {
			break
		}
		if regions[i] != own {
			home = append(home, regions[i])
		}
	}
	slices.Sort(home)
	return home
}

// homeOf is the home that a node's global ballots take; empty for all regions. Once the world is calm it is that: a home whose nodes are
// gone would have no Q2.
func (w *World) homeOf(n *node) []quorum.Region {
	if w.calm {
		return nil
	}
	return w.homes[n.registry.Newest().Version-1][n.id]
}
