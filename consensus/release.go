// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import "fmt"

// Release ends the own ballot in favour of another node, a voter of the newest configuration, which campaigns at once: acceptors
// that are tied to this node promise to it, since the release shows that the lease is gone. What was proposed and is not
// committed stays in the log (duty 7). If the message is lost, the group has no owner until someone campaigns.
//
// A Follower whose log was last accepted at its own ballot, one that it lost without another owner, can release that.
// ErrNotOwner for anyone else who has not won.
func (c *Core) Release(to NodeID) error {
	b, home, scope := c.ballot, c.home, c.scope
	switch {
	case c.err != nil:
		return c.err
	case c.state == Follower && c.rec.Accepted.Node == c.self:
		b, home, scope = c.rec.Accepted, c.rec.AcceptedHome, Global
	case c.state < Won:
		return ErrNotOwner
	}
	if _, ok := c.newest().Quorums.Index(to); !ok || to == c.self {
		return fmt.Errorf("%w: release to node %d, which is no other voter of configuration %d", ErrInvalid, to, c.newest().Version)
	}
	m := Message{
		Type: Release, From: c.self, To: to, Ballot: b, Last: c.rec.Last, Commit: c.rec.Commit, Scope: scope, Home: home,
	}
	c.stepDown() // first: from here on nothing is answered under the lease
	c.now = append(c.now, m)
	return nil
}

// onRelease campaigns with the release, and without asking before: the owner itself wants it. If the home is to stay as it is
// and this node stands in it, that is all that has to be asked.
func (c *Core) onRelease(m *Message) error {
	if c.mayCampaign() != nil || m.Ballot.Less(c.rec.Promised) {
		return nil // overtaken
	}
	newest := c.newest()
	scope, home := Global, c.wantedHome()
	if m.Ballot.Cfg == newest.Version && home == m.Home && newest.Quorums.InHome(c.self, m.Home) {
		scope = Local
	}
	c.release, c.roundSeen = m.Ballot, max(c.roundSeen, m.Ballot.Round)
	return c.campaign(scope, home)
}

// over is the ballot up to which no own ballot holds a lease or ever will; zero if that cannot be said. Acceptors that are tied
// to this node need not be, whoever asks. An own ballot to come is above all that was promised: so this rests on Promised, and
// leaves only when that is durable.
func (c *Core) over() Ballot {
	switch {
	case c.fabric == nil || c.rec.Promised.IsZero() || c.state == Preparing:
		return Ballot{}
	case c.state < Won:
		return Ballot{Cfg: c.rec.Promised.Cfg, Round: c.rec.Promised.Round, Node: c.self}
	case c.stopped():
		return c.ballot
	}
	return Ballot{}
}
