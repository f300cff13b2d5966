// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// systemEntry is one entry of the system log: a configuration that is set, or one that is retired. The system group itself is
// not simulated: it is a log that is always there, whose beginning each node learns with a delay.
type systemEntry struct {
	set    *consensus.Configuration
	retire uint64
}

// firstConfiguration is what the world begins with.
func (w *World) firstConfiguration() {
	var voters []quorum.Voter
	for _, n := range w.nodes {
		voters = append(voters, quorum.Voter{Node: n.id, Region: n.region})
	}
	q, err := quorum.New(voters, int(w.o.Fn), int(w.o.Fz))
	if err != nil {
		w.fail("first configuration: %v", err)
		return
	}
	w.systemLog = []systemEntry{{set: &consensus.Configuration{Version: 1, Quorums: q}}}
	for _, n := range w.nodes {
		n.learned = 1
	}
	w.drawHomes()
}

// configuration finds a configuration, retired or not.
func (w *World) configuration(v uint64) *consensus.Configuration {
	for i := range w.systemLog {
		if c := w.systemLog[i].set; c != nil && c.Version == v {
			return c
		}
	}
	return nil
}

// newest is the configuration that was set last.
func (w *World) newest() *consensus.Configuration {
	for i := len(w.systemLog) - 1; ; i-- {
		if c := w.systemLog[i].set; c != nil {
			return c
		}
	}
}

// live is the configurations that are not retired, oldest first.
func (w *World) live() []consensus.Configuration {
	return configurations(w.systemLog)
}

func configurations(log []systemEntry) []consensus.Configuration {
	var list []consensus.Configuration
	for _, e := range log {
		if e.set != nil {
			list = append(list, *e.set)
			continue
		}
		for len(list) > 0 && list[0].Version <= e.retire {
			list = list[1:]
		}
	}
	return list
}

// replaySystemLog is what a node knows when it starts: what it had learned is on its disk.
func (n *node) replaySystemLog() {
	n.learned = max(n.learned, 1)
	n.configs = configurations(n.w.systemLog[:n.learned])
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

// learn takes over the system log up to an entry.
func (n *node) learn(upTo int) {
	for n.learned < upTo && !n.w.failed() {
		e := &n.w.systemLog[n.learned]
		n.learned++
		n.configs = configurations(n.w.systemLog[:n.learned])
		for _, r := range n.active {
			var err error
			if e.set != nil {
				err = r.core.Configure(*e.set)
			} else {
				err = r.core.Retire(e.retire)
			}
			if err != nil {
				n.w.fail("node %d group %d: system log entry %d: %v", n.id, r.g, n.learned, err)
			}
			r.touched()
		}
	}
	n.plan()
}

// drawHomes gives each node a home for its ballots: its region and so many others as a Q2 needs, or more.
func (w *World) drawHomes() {
	if !w.o.Homes {
		return
	}
	q := w.newest().Quorums
	var regions []quorum.Region
	for _, s := range q.Regions() {
		regions = append(regions, s.Region)
	}
	for _, n := range w.nodes {
		home := []quorum.Region{n.region}
		for _, i := range w.rndReconfig.Perm(len(regions)) {
			if len(home) >= q.RegionLosses()+1 && w.rndReconfig.chance(2) {
				break
			}
			if regions[i] != n.region {
				home = append(home, regions[i])
			}
		}
		w.homes[n.id] = home
	}
}

func (w *World) reconfigure() {}
func (w *World) wipeOne()     {}
