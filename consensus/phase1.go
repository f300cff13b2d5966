// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// Phase 1: how a ballot is won. A global one first asks, without any promise, whether a quorum would promise (Probing), so that
// an attempt that cannot succeed leaves no trace. Then this node promises it, durably, and asks the others (Preparing), adopts
// the log of the best promise, and has won.
//
// A global ballot needs a Q1 of every configuration from the lowest on that can still have chosen something that no later one
// has: that is the highest in which anyone who promised knows a log to be chosen (Established), or to which a stop-sign that is
// known to be chosen leads. A local ballot needs a QL of the home of the log that it adopts, and no promise to a global ballot
// above that log.

// Campaign begins phase 1 of a ballot of the newest configuration. Nothing but a PrePrepare is sent at a ballot before it is durable
// as this node's promise, and a restart takes another. If a ballot of that configuration, and for Global of the home that is wanted, is
// won and not lost, it does nothing (Abandon it to begin anew); any other own ballot ends. A sole voter has won at once.
//
// ErrNotVoter if this node is none; ErrInvalid for Local if the log was last accepted in another configuration, or in a home
// that this node does not stand in. If an owner keeps this node from its own promise there is no error: see Status.LeasedBy.
func (c *Core) Campaign(s Scope) error {
	if c.err != nil {
		return c.err
	}
	if err := c.mayCampaign(); err != nil {
		return err
	}
	newest, home := c.newest(), c.rec.AcceptedHome
	switch {
	case s == Global:
		home = c.wantedHome()
	case s != Local:
		return fmt.Errorf("%w: scope %d", ErrInvalid, s)
	case c.rec.Accepted.IsZero() || c.rec.Accepted.Cfg != newest.Version || !newest.Quorums.InHome(c.self, home):
		return fmt.Errorf("%w: a local campaign in configuration %d, on a log accepted at %s", ErrInvalid, newest.Version, c.rec.Accepted)
	}
	if c.state >= Won && c.ballot.Cfg == newest.Version && (s == Local || home == c.home) {
		return nil
	}
	return c.campaign(s, home)
}

// mayCampaign says why there can be no ballot of this node in the newest configuration.
func (c *Core) mayCampaign() error {
	newest := c.newest()
	if _, ok := newest.Quorums.Index(c.self); !ok {
		return fmt.Errorf("%w: of configuration %d", ErrNotVoter, newest.Version)
	}
	if newest.Version < c.minCfg {
		return fmt.Errorf("%w: %d is sealed, up to %d", ErrUnknownConfiguration, newest.Version, c.minCfg)
	}
	return nil
}

// Abandon gives up the own ballot, if there is one. Those who promised one that is not won may forget it. One that is won goes
// as if another had ended it (duty 7): for an owner that does not come to serve, and would campaign anew.
func (c *Core) Abandon() {
	if c.err == nil && c.state != Follower {
		c.stepDown()
	}
}

// campaign begins with all that Campaign checked.
func (c *Core) campaign(s Scope, home quorum.Home) error {
	release := c.release
	c.stepDown()
	c.release = release
	c.behind, c.needGlobal, c.leasedBy = false, false, LeasedBy{}
	if err := c.nextBallot(c.newest().Version); err != nil {
		return err
	}
	c.scope, c.home = s, home
	if c.sole {
		c.rec.Promised = c.ballot
		c.acceptAt(c.ballot, home)
		c.state, c.recovered, c.timeBound = Won, c.rec.Last, c.reading()
		return nil
	}
	c.p = newProposer(c)
	if s == Local || !c.release.IsZero() || c.p.alone() {
		return c.prepare()
	}
	c.state = Probing
	if err := c.p.probeSelf(c); err != nil || c.state != Probing {
		return err
	}
	c.p.ask(c, PrePrepare)
	return nil
}

// nextBallot makes the own ballot one above all that was seen.
func (c *Core) nextBallot(cfg uint64) error {
	round := max(c.rec.Promised.Round, c.roundSeen) + 1
	if failpoint.Enabled(failpoint.ConsensusResumeBallot) && c.rec.Promised.Node == c.self && c.rec.Promised.Cfg == cfg {
		round = c.rec.Promised.Round
	}
	if round > RoundMax {
		c.stepDown()
		return fmt.Errorf("%w: round %d exceeds limit %d", ErrInvalid, round, uint64(RoundMax))
	}
	c.ballot = Ballot{Cfg: cfg, Round: round, Node: c.self}
	return nil
}

// probeSelf is the own answer to PrePrepare.
func (p *proposer) probeSelf(c *Core) error {
	own := &p.peer[p.me]
	if by, yes := c.blocked(c.ballot, own.shown, Ballot{}); yes {
		c.leasedBy = by
		own.answer, own.tiedTo = refused, by.Owner
		if p.showOver(c) {
			return p.probeSelf(c)
		}
		return p.probed(c)
	}
	own.hear(c.rec.Established, c.rec.StopSlot, c.rec.StopNext)
	return p.probed(c)
}

// probed goes on if enough would promise, and gives up if there is no hope.
func (p *proposer) probed(c *Core) error {
	switch {
	case p.peer[p.me].answer == given && p.enough(c):
		return c.prepare()
	case p.hopeless(c):
		c.stepDown()
	}
	return nil
}

// blockedItself ends an attempt that this node's own acceptor would not promise.
func (c *Core) blockedItself() bool {
	by, yes := c.blocked(c.ballot, c.p.peer[c.p.me].shown, Ballot{})
	if yes {
		c.stepDown()
		c.leasedBy = by
	}
	return yes
}

// prepare promises the own ballot and asks for the promises of others.
func (c *Core) prepare() error {
	if c.blockedItself() {
		return nil
	}
	if err := c.nextBallot(c.ballot.Cfg); err != nil {
		return err
	}
	c.vow(c.ballot, c.scope, c.p.peer[c.p.me].shown, Ballot{})
	c.dirty, c.mustSync = true, true
	c.state = Preparing
	for i := range c.p.peer {
		c.p.peer[i].answer = unheard
	}
	c.p.ask(c, Prepare)
	return c.err
}

// stepDown ends the own ballot. One that was prepared and not won is given up for good: whoever promised it may forget that.
func (c *Core) stepDown() {
	if c.state == Preparing && c.scope == Global {
		c.after = append(c.after, c.p.all(c, Message{Type: Cancel})...)
		if c.rec.cancelGlobalPromise(c.ballot) {
			c.dirty = true
		}
	}
	if c.p != nil {
		c.p.loseReads(c)
	}
	if c.sole && c.unstable <= c.rec.Last {
		// No Ready of a sole voter writes entries, so that what none has handed out would be in the record and not in the log. It was
		// told to nobody, and goes.
		_ = c.truncate(c.unstable - 1) // kept in err
	}
	c.state, c.scope, c.ballot, c.home, c.release = Follower, Global, Ballot{}, quorum.Home{}, Ballot{}
	c.recovered, c.timeBound, c.p, c.uncommittedBytes, c.behind = 0, 0, nil, 0, false
}

// all addresses a message at the own ballot to everyone who is asked in phase 1.
func (p *proposer) all(c *Core, m Message) []Message {
	var list []Message
	for i := range p.peer {
		if i != p.me && p.votes(c, i) {
			m.From, m.To, m.Ballot = c.self, p.peer[i].id, c.ballot
			list = append(list, m)
		}
	}
	return list
}

// votes reports whether the peer is asked in phase 1.
func (p *proposer) votes(c *Core, i int) bool {
	if c.scope == Local {
		return i < p.voters && p.peer[i].role == acceptor
	}
	return p.peer[i].asked
}

// ask sends a question of phase 1 to all who did not answer it. A Prepare rests on the own promise, which may not be durable
// yet.
func (p *proposer) ask(c *Core, t MessageType) {
	p.askedAt = c.clock
	m := Message{Type: t, Scope: c.scope, Home: c.home, Accepted: c.rec.Accepted}
	if g := c.rec.globalPromised(c.ballot); m.Accepted.Less(g) && failpoint.Enabled(failpoint.ConsensusShowPromised) {
		m.Accepted = g
	}
	for _, q := range p.all(c, m) {
		if pr := &p.peer[p.find(q.To)]; pr.answer != given {
			pr.answer, q.Release = unheard, pr.shown
			if t == PrePrepare {
				c.now = append(c.now, q)
			} else {
				c.after = append(c.after, q)
			}
		}
	}
}

// enough reports whether those who gave their answer are a phase-1 quorum of the ballot.
func (p *proposer) enough(c *Core) bool {
	if c.scope == Local {
		return p.q.IsQL(p.answered(p.q, given), c.home)
	}
	from := p.from(c)
	for i := range c.configs {
		cfg := &c.configs[i]
		old := cfg.Version < c.ballot.Cfg
		if cfg.Version < from || cfg.Version > c.ballot.Cfg || old && failpoint.Enabled(failpoint.ConsensusSkipOldQ1) {
			continue
		}
		if !cfg.Quorums.IsQ1(p.answered(cfg.Quorums, given)) {
			return false
		}
	}
	return true
}

// hopeless reports whether so many refused that there is no quorum among the rest, whatever they say.
func (p *proposer) hopeless(c *Core) bool {
	var rest quorum.Set
	for i := range p.peer[:p.voters] {
		pr := &p.peer[i]
		if pr.answer != refused || p.mayUntie(pr.tiedTo) {
			rest = rest.With(i)
		}
	}
	if c.scope == Local {
		return !p.q.IsQL(rest, c.home)
	}
	return !p.q.IsQ1(rest) || !rest.Has(p.me)
}

// answered is the voters of q that have one of these answers.
func (p *proposer) answered(q *quorum.Config, want ...answer) quorum.Set {
	var s quorum.Set
	for i := range p.peer {
		for _, a := range want {
			if p.peer[i].answer != a {
				continue
			}
			if at, ok := q.Index(p.peer[i].id); ok {
				s = s.With(at)
			}
		}
	}
	return s
}

// from is the lowest configuration that phase 1 has to ask.
func (p *proposer) from(c *Core) uint64 {
	return max(p.established(), p.stopped(c).next)
}

// established is the highest configuration in which anyone who answered knows a log to be chosen.
func (p *proposer) established() uint64 {
	cfg := uint64(0)
	for i := range p.peer {
		if pr := &p.peer[i]; pr.answer == given {
			cfg = max(cfg, pr.established)
		}
	}
	return cfg
}

func (c *Core) onPrePromise(i int, m *Message) error {
	p := c.p
	if c.state != Probing || p.peer[i].answer == given {
		return nil
	}
	c.roundSeen = max(c.roundSeen, m.Promised.Round)
	p.peer[i].hear(m.Established, m.StopSlot, m.StopNext)
	if p.peer[i].over = m.Release; !m.Release.IsZero() && p.showOver(c) {
		return p.probeSelf(c)
	}
	return p.probed(c)
}

// mayUntie reports whether the owner is still to say whether it owns the log at all.
func (p *proposer) mayUntie(owner NodeID) bool {
	i := p.find(owner)
	return i >= 0 && p.peer[i].answer == unheard
}

// showOver asks those again who refused because of an owner that has lost its ballot since, as it says itself, and shows them
// that. It reports whether this node is one of them.
func (p *proposer) showOver(c *Core) bool {
	own := false
	for i := range p.peer {
		pr := &p.peer[i]
		at := p.find(pr.tiedTo)
		if pr.answer != refused || at < 0 || p.peer[at].over.IsZero() || !pr.shown.Less(p.peer[at].over) {
			continue
		}
		pr.answer, pr.shown = unheard, p.peer[at].over
		if i == p.me {
			own = true
			continue
		}
		c.now = append(c.now, Message{Type: PrePrepare, From: c.self, To: pr.id, Ballot: c.ballot, Release: pr.shown, Accepted: c.rec.Accepted})
	}
	return own
}

func (c *Core) onPromise(i int, m *Message) error {
	p, pr := c.p, &c.p.peer[i]
	if c.state != Preparing || pr.answer == given || !p.votes(c, i) {
		return nil
	}
	pr.hear(m.Established, m.StopSlot, m.StopNext)
	pr.accepted, pr.acceptedHome, pr.globalPromised = m.Accepted, m.AcceptedHome, m.GlobalPromised
	pr.last, pr.chain, pr.commit, pr.first, pr.clock = m.Last, m.Chain, m.Commit, m.First, m.Time
	return p.choose(c)
}

// ownPromise counts the own promise, which is durable now.
func (p *proposer) ownPromise(c *Core) {
	own := &p.peer[p.me]
	own.hear(c.rec.Established, c.rec.StopSlot, c.rec.StopNext)
	own.accepted, own.acceptedHome, own.globalPromised = c.rec.Accepted, c.rec.AcceptedHome, c.rec.globalPromised(c.ballot)
	own.last, own.chain, own.commit, own.first, own.clock = c.rec.Last, c.rec.LastChain, c.rec.Commit, c.rec.First, c.reading()
	_ = p.choose(c) // kept in err
}

// refused takes a Nack of phase 1 that speaks of an owner.
func (p *proposer) refused(c *Core, i int, m *Message) {
	if c.state != Probing && c.state != Preparing || p.peer[i].answer == given || p.peer[i].shown != m.Release {
		return // of what is over, or to a question that was asked anew with a release since
	}
	c.leasedBy = LeasedBy{m.LeasedOwner, m.LeasedFor}
	p.peer[i].answer, p.peer[i].tiedTo = refused, m.LeasedOwner
	if c.state == Probing && p.showOver(c) {
		_ = p.probeSelf(c) // of rounds that are used up there is nothing to say here
		return
	}
	if p.hopeless(c) {
		c.stepDown()
	}
}

// choose takes, once a quorum has promised, the whole log of the highest (accepted, last) among the promises: it holds all that
// is or can be chosen below the own ballot. The own log is preferred to an equal one. The one exception is a log that ends with
// a stop-sign that is known to be chosen: if nobody accepted anything in the configuration that it leads to, or a later one,
// that log is it, since nothing else can follow.
func (p *proposer) choose(c *Core) error {
	if p.source >= 0 || p.peer[p.me].answer != given || !p.enough(c) {
		return nil
	}
	best, next := p.best(), p.stopped(c)
	if c.scope == Local && !p.mayAdoptLocally(c, best) {
		p.short = true
		if p.unanswered(c) {
			return nil // one more promise can make it good
		}
		return p.giveUpLocal(c)
	}
	if c.scope == Global && next.next > p.peer[best].accepted.Cfg {
		var err error
		if best, err = p.endOf(c, next); err != nil {
			return err
		}
	}
	for i := range p.peer {
		if p.peer[i].answer == given {
			p.commit = max(p.commit, p.peer[i].commit)
		}
	}
	if failpoint.Enabled(failpoint.ConsensusIgnoreAccepted) {
		best = p.me
		p.commit = p.peer[best].commit
	}
	b := &p.peer[best]
	p.source = best
	if p.commit > b.last {
		return c.fail("slot %d is chosen, and the longest log promised, accepted at %s, ends at %d", p.commit, b.accepted, b.last)
	}
	// A log accepted at the ballot of ours is longer than ours, which is its beginning; of another, only what is committed
	// is sure to be.
	p.base = c.rec.Commit
	if b.accepted == c.rec.Accepted && b.last >= c.rec.Last {
		p.base = c.rec.Last
	}
	return p.fetch(c)
}

// best is who promised with the highest (accepted, last).
func (p *proposer) best() int {
	best := p.me
	for i := range p.peer {
		if p.peer[i].answer != given {
			continue
		}
		if order := p.peer[i].accepted.Compare(p.peer[best].accepted); order > 0 || order == 0 && p.peer[i].last > p.peer[best].last {
			best = i
		}
	}
	return best
}

// stopped is the stop-sign known to be chosen that leads to the highest configuration, unless a log is chosen there already, or
// it is above the own.
func (p *proposer) stopped(c *Core) stopSign {
	var stop stopSign
	for i := range p.peer {
		if pr := &p.peer[i]; pr.answer == given && pr.stop.next > stop.next && pr.stop.next <= c.ballot.Cfg {
			stop = pr.stop
		}
	}
	if p.established() >= stop.next {
		return stopSign{}
	}
	return stop
}

// endOf is who has the log that ends with this stop-sign; this node if it has.
func (p *proposer) endOf(c *Core, stop stopSign) (int, error) {
	found := -1
	for i := range p.peer {
		if pr := &p.peer[i]; pr.answer == given && pr.stop == stop && (found < 0 || i == p.me) {
			found = i
		}
	}
	if last := p.peer[found].last; last != stop.slot {
		return 0, c.fail("the stop-sign to configuration %d in slot %d is chosen, and node %d has slots to %d with nothing accepted there",
			stop.next, stop.slot, p.peer[found].id, last)
	}
	return found, nil
}

// mayAdoptLocally reports whether the log can be adopted by a local ballot: it was accepted in the same configuration and home,
// and no global ballot above it has looked at these nodes, which may have chosen another elsewhere.
func (p *proposer) mayAdoptLocally(c *Core, best int) bool {
	b := &p.peer[best]
	if b.accepted.Cfg != c.ballot.Cfg || b.acceptedHome != c.home {
		return false
	}
	for i := range p.peer {
		if pr := &p.peer[i]; pr.answer == given && b.accepted.Less(pr.globalPromised) && !failpoint.Enabled(failpoint.ConsensusLocalByPromise) {
			return false
		}
	}
	return true
}

func (p *proposer) unanswered(c *Core) bool {
	for i := range p.peer {
		if p.votes(c, i) && p.peer[i].answer == unheard {
			return true
		}
	}
	return false
}

// giveUpLocal ends a local attempt that only a global one can help. With a release at hand that follows at once.
func (p *proposer) giveUpLocal(c *Core) error {
	if !c.release.IsZero() && c.mayCampaign() == nil {
		if err := c.campaign(Global, c.wantedHome()); err != nil {
			return err
		}
		return nil
	}
	c.stepDown()
	c.needGlobal = true
	return nil
}

// tickPhase1 asks again.
func (p *proposer) tickPhase1(c *Core) {
	wait := c.tuning.RetryAfter
	if c.behind {
		wait = c.tuning.SnapshotRetryAfter
	}
	if c.clock < p.askedAt+wait {
		return
	}
	switch {
	case c.state == Probing:
		p.ask(c, PrePrepare)
		_ = p.probeSelf(c) // of rounds that are used up there is nothing to say here
	case p.peer[p.me].answer != given: // the own promise is not durable yet
	case p.source >= 0:
		p.askedAt = c.clock
		if from := p.base + Slot(len(p.fetched)); !p.askAnother(from) && c.behind {
			p.askAnother(SlotMax) // for its state, which the next has as well
		}
		_ = p.fetch(c) // kept in err
	case p.short:
		_ = p.giveUpLocal(c) // the same
	default:
		p.ask(c, Prepare)
	}
}
