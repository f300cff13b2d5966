// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/consensus/reconfig"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// orderPacket is an order of the driver, or its answer.
type orderPacket struct {
	order  *reconfig.Order
	answer *reconfig.Answer
}

// migration is a group that a node was told to bring to a version.
type migration struct {
	order reconfig.Order
	from  consensus.NodeID
	until Time
}

func groupName(g int) string { return fmt.Sprintf("%04d", g) }

func groupOf(name string) int {
	var g int
	_, _ = fmt.Sscanf(name, "%d", &g) // names come from groupName
	return g
}

// driveChange runs the driver on some node that is up: the owner of the system group. It moves when that node goes down, and
// sometimes for no reason.
func (w *World) driveChange() {
	if w.failed() {
		return
	}
	w.after(w.rndReconfig.spread(50*Millisecond, 500*Millisecond), w.driveChange)
	host := w.node(w.driverHost)
	if host == nil || !host.running() || host.driver == nil || !w.calm && w.rndReconfig.chance(50) {
		if host != nil {
			host.driver = nil
		}
		host = w.someRunning()
		if host == nil {
			return
		}
		host.learn(len(w.systemLog))
		if _, changing := w.registry.Changing(); changing && w.driverHost != 0 {
			w.sometimes("a change of the configuration outlived its driver")
		}
		d, err := reconfig.NewDriver(w.driverOptions(), host.registry)
		w.must(err)
		host.driver, w.driverHost = d, host.id
	}
	host.runDriver()
}

func (w *World) driverOptions() reconfig.Options {
	return reconfig.Options{PageLen: 3, Inflight: 8, RetryAfter: uint64(2 * Second), UpgradeFor: uint64(4 * Second)}
}

func (w *World) someRunning() *node {
	var up []*node
	for _, n := range w.nodes {
		if n.running() && !n.gone && !n.frozen {
			up = append(up, n)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[w.rndReconfig.IntN(len(up))]
}

func (n *node) runDriver() {
	w := n.w
	var live []consensus.NodeID
	for _, o := range w.nodes {
		if o == n || n.alive(o.id) {
			live = append(live, o.id)
		}
	}
	n.driver.Tick(uint64(w.now)+1, live)
	for _, o := range n.driver.Orders() {
		if o.Kind == reconfig.ProposeRetire {
			n.proposeRetire(&o)
			continue
		}
		order := o
		if o.To == n.id {
			n.obey(&order, n.id)
			continue
		}
		w.send(&packet{kind: packetOrder, from: n.id, to: o.To, order: orderPacket{order: &order}})
	}
}

func (n *node) proposeRetire(o *reconfig.Order) {
	err := n.w.proposeSystem(*o.Entry)
	if err != nil && !errors.Is(err, reconfig.ErrStale) {
		n.w.fail("node %d cannot retire configuration %d: %v", n.id, o.Version, err)
	}
	n.learn(len(n.w.systemLog))
}

// receiveOrder takes an order or an answer.
func (n *node) receiveOrder(from consensus.NodeID, p *orderPacket) {
	if p.order != nil {
		n.obey(p.order, from)
		return
	}
	if n.driver != nil {
		n.w.must(n.driver.Step(p.answer))
		n.runDriver()
	}
}

func (n *node) answerOrder(to consensus.NodeID, a *reconfig.Answer) {
	a.From = n.id
	if n.w.tracing() {
		n.w.trace(n.id, "answers %+v", *a)
	}
	if to == n.id {
		n.receiveOrder(to, &orderPacket{answer: a})
		return
	}
	n.w.send(&packet{kind: packetOrder, from: n.id, to: to, order: orderPacket{answer: a}})
}

// obey does what the driver asks of a node.
func (n *node) obey(o *reconfig.Order, from consensus.NodeID) {
	n.learn(len(n.w.systemLog)) // an order of a version comes after it
	if !n.up || n.registry.Newest().Version < o.Version {
		return
	}
	switch o.Kind {
	case reconfig.Upgrade:
		left := uint64(0)
		for _, r := range slices.Clone(n.active) {
			if n.bring(r, o.Version, true) {
				left++
			}
		}
		n.answerOrder(from, &reconfig.Answer{Kind: o.Kind, Version: o.Version, Left: left})
	case reconfig.Seal:
		if n.disk.durable.node.minCfg >= o.Version || failpoint.Enabled(failpoint.SimSealForgotten) {
			n.answerOrder(from, &reconfig.Answer{Kind: o.Kind, Version: o.Version})
			return
		}
		n.sealWanted = max(n.sealWanted, o.Version)
		n.planNow()
	case reconfig.List:
		n.list(o, from)
	case reconfig.Migrate:
		n.open(groupOf(o.Group))
		n.migrations = append(n.migrations, migration{*o, from, n.w.now + 2*Second})
		n.migrate()
	}
}

// list answers with the groups that this node holds below a version.
func (n *node) list(o *reconfig.Order, from consensus.NodeID) {
	a := reconfig.Answer{Kind: o.Kind, Version: o.Version, After: o.After}
	for g, im := range n.disk.durable.groups {
		name := groupName(g)
		if im == nil || im.record == nil || name <= o.After || !reconfig.Below(&im.rec, o.Version) {
			continue
		}
		if len(a.Groups) == o.Limit {
			a.More = true
			break
		}
		a.Groups = append(a.Groups, name)
	}
	n.answerOrder(from, &a)
}

// migrate goes on with the groups that this node is to bring to a version.
func (n *node) migrate() {
	n.migrations = slices.DeleteFunc(n.migrations, func(m migration) bool {
		r := n.open(groupOf(m.order.Group))
		if est := r.core.Status().Established; est >= m.order.Version || n.w.now > m.until {
			if est >= m.order.Version {
				n.w.stats.Migrations++
			}
			n.answerOrder(m.from, &reconfig.Answer{Kind: m.order.Kind, Version: m.order.Version, Group: m.order.Group, Established: est})
			return true
		}
		n.bring(r, m.order.Version, false)
		return false
	})
}

// bring takes a group one step towards a version; owned says that only what this node owns below it is meant. It reports
// whether there is more to do.
func (n *node) bring(r *replica, version uint64, owned bool) bool {
	w := n.w
	st := r.core.Status()
	at := uint64(0)
	if st.State >= consensus.Won {
		at = st.Ballot.Cfg
	}
	if owned && at == 0 {
		return r.stopping == version && st.State != consensus.Follower // campaigning behind its own stop-sign
	}
	path := reconfig.Plan(st.Established, at, n.disk.view.node.minCfg, version)
	if path == reconfig.ByStopSign && w.rndReconfig.Int64N(100) >= w.o.ReconfigByH {
		path = reconfig.ByCampaign
	}
	switch path {
	case reconfig.ByStopSign:
		if st.Stopped {
			if st.StopSlot <= st.Commit {
				n.campaign(r)
			}
			return true
		}
		if _, err := r.core.ProposeStopSign(n.clock.time(w.now), version); err != nil {
			if !w.harmless(err) {
				w.fail("node %d group %d cannot propose a stop-sign: %v", n.id, r.g, err)
			}
			return true
		}
		r.stopping = version
		w.trace(n.id, "g%d proposes a stop-sign to configuration %d", r.g, version)
		r.touched()
		n.plan()
	case reconfig.ByCampaign:
		if !n.votes(n.id) {
			if st.State >= consensus.Won {
				n.release(r, n.someVoter())
			}
			return true
		}
		if st.State >= consensus.Won { // its own ballot is in the way: a new core takes a new one
			n.dropAnswering(r)
			r = n.open(r.g)
			st = r.core.Status()
		}
		if w.now >= r.campaignAfter {
			n.campaign(r)
		}
	case reconfig.Nothing:
		return st.Established < version
	}
	return true
}

// someVoter is a voter of the newest configuration that this node takes for alive, if there is one.
func (n *node) someVoter() consensus.NodeID {
	voters := n.registry.Newest().Voters
	at := n.w.rndReconfig.IntN(len(voters))
	for i := range voters {
		if v := voters[(at+i)%len(voters)].Node; n.alive(v) {
			return v
		}
	}
	return voters[at].Node
}

// reconfigure proposes some change of the configuration.
func (w *World) reconfigure() {
	if _, changing := w.registry.Changing(); changing {
		return
	}
	c := w.registry.Newest()
	c.Version++
	c.Voters, c.Learners = slices.Clone(c.Voters), slices.Clone(c.Learners)
	for range 1 + w.rndReconfig.IntN(2) {
		w.change(&c)
	}
	var alive []consensus.NodeID
	for _, n := range w.nodes {
		if !n.gone {
			alive = append(alive, n.id)
		}
	}
	if _, err := w.registry.Foresee(&c, alive); err != nil {
		return
	}
	w.must(w.proposeSystem(reconfig.Entry{Kind: reconfig.SetConfig, Config: c}))
}

// change draws one change. What is gone is replaced first.
func (w *World) change(c *reconfig.Config) {
	r := w.rndReconfig
	for i, v := range c.Voters {
		if w.node(v.Node).gone {
			if n := w.newcomer(w.node(v.Node).site, v.Region); n != nil {
				w.sometimes("a wiped node came back under another name")
				c.Voters[i].Node = n.id
				return
			}
		}
	}
	switch i := r.IntN(len(c.Voters)); r.IntN(9) {
	case 0, 1: // one more
		if n := w.newcomer(w.node(c.Voters[i].Node).site, c.Voters[i].Region); n != nil {
			c.Voters = append(c.Voters, quorum.Voter{Node: n.id, Region: n.region})
		}
	case 2: // one less
		if len(c.Voters) > 1 {
			c.Voters = slices.Delete(c.Voters, i, i+1)
		}
	case 3: // a region less
		region := c.Voters[i].Region
		if rest := slices.DeleteFunc(slices.Clone(c.Voters), func(v quorum.Voter) bool { return v.Region == region }); len(rest) > 0 {
			c.Voters = rest
		}
	case 4: // a region more
		site := r.IntN(len(w.o.Regions))
		if n := w.newcomer(site, regionName(len(w.o.Regions)+len(w.nodes)%20)); n != nil {
			c.Voters = append(c.Voters, quorum.Voter{Node: n.id, Region: n.region})
		}
	case 5: // a voter that only learns from now on
		if len(c.Voters) > 1 {
			c.Learners = append(c.Learners, c.Voters[i].Node)
			c.Voters = slices.Delete(c.Voters, i, i+1)
		}
	case 6: // a learner that votes from now on
		if len(c.Learners) > 0 {
			c.Voters = append(c.Voters, quorum.Voter{Node: c.Learners[0], Region: w.node(c.Learners[0]).region})
			c.Learners = c.Learners[1:]
		}
	case 7: // other losses to bear
		c.Fn, c.Fz = r.IntN(3), r.IntN(3)
	default: // one that only learns, or one less of those
		if len(c.Learners) > 0 {
			c.Learners = c.Learners[1:]
		} else if n := w.newcomer(w.node(c.Voters[i].Node).site, c.Voters[i].Region); n != nil {
			c.Learners = append(c.Learners, n.id)
		}
	}
}

// newcomer adds a node; nil if there are enough.
func (w *World) newcomer(site int, region quorum.Region) *node {
	if len(w.nodes) >= nodesMax {
		return nil
	}
	n := w.addNode(region, site)
	n.registry = w.first.Clone()
	w.must(w.proposeSystem(reconfig.Entry{Kind: reconfig.AddNode, Node: n.id, Region: region}))
	for n.learned < len(w.systemLog) {
		w.must(n.registry.Apply(&w.systemLog[n.learned]))
		n.learned++
	}
	n.boot()
	return n
}

// wipeOne takes a node's disk for ever: any that was removed, or one without which there are still quorums.
func (w *World) wipeOne() {
	n := w.someNode()
	left := 0
	for _, o := range w.nodes {
		if !o.gone {
			left++
		}
	}
	if left < 2 {
		return
	}
	if !w.registry.Removed(n.id) {
		core := make([]bool, len(w.nodes)+1)
		for _, o := range w.nodes {
			core[o.id] = !o.gone && o != n
		}
		if !w.quorate(core) {
			return
		}
	}
	w.trace(n.id, "loses its disk")
	w.stats.Wipes++
	if n.up {
		n.crash()
	}
	n.gone = true
}
