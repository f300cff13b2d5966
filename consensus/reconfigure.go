// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// Configuration is who decides for a group, from one version of the system log on.
type Configuration struct {
	Version uint64
	Quorums *quorum.Config
	// Learners get what is chosen and have no vote.
	Learners []NodeID
}

// Scope says where phase 1 of a ballot looks.
type Scope uint8

// The scopes.
const (
	// Global: a phase-1 quorum of every configuration that may have chosen something.
	Global Scope = iota
	// Local: the home of the ballot before it, which stays the home.
	Local
)

// String is the name of the scope.
func (s Scope) String() string {
	switch s {
	case Global:
		return "Global"
	case Local:
		return "Local"
	}
	return fmt.Sprintf("Scope(%d)", uint8(s))
}

// stopSign is the slot of a stop-sign and the configuration that it leads to; zero for none. Nothing follows it at a ballot of a
// lower one: so once it is chosen, the log of all lower configurations is complete.
type stopSign struct {
	slot Slot
	next uint64
}

// checkConfigurations refuses a list that Options.Configurations cannot be.
func checkConfigurations(list []Configuration) error {
	if n := len(list); n == 0 || n > ConfigurationsMax {
		return fmt.Errorf("%d configurations, not between 1 and %d", n, ConfigurationsMax)
	}
	for i := range list {
		if list[i].Quorums == nil {
			return fmt.Errorf("configuration %d has no quorums", list[i].Version)
		}
		if i > 0 && list[i].Version <= list[i-1].Version {
			return fmt.Errorf("configuration %d follows %d", list[i].Version, list[i-1].Version)
		}
	}
	return nil
}

// newest is the configuration of the next campaign.
func (c *Core) newest() *Configuration { return &c.configs[len(c.configs)-1] }

// config is the configuration of this version; nil if it is not known, or retired.
func (c *Core) config(version uint64) *Configuration {
	for i := range c.configs {
		if c.configs[i].Version == version {
			return &c.configs[i]
		}
	}
	return nil
}

// floor is the configuration below which nothing is answered.
func (c *Core) floor() uint64 { return max(c.minCfg, c.configs[0].Version) }

// member reports whether the node is a voter or a learner of a configuration that is not retired.
func (c *Core) member(id NodeID) bool {
	for i := range c.configs {
		if _, ok := c.configs[i].Quorums.Index(id); ok || slices.Contains(c.configs[i].Learners, id) {
			return true
		}
	}
	return false
}

// isSole reports whether this node is every quorum of every configuration, and no learner wants the log.
func (c *Core) isSole() bool {
	for i := range c.configs {
		if !c.configs[i].Quorums.SoleVoter(c.self) || len(c.configs[i].Learners) > 0 {
			return false
		}
	}
	return true
}

// SetHome sets the regions whose voters are to vote in phase 2 of own global ballots, from the next campaign on; none for all.
// Regions that have no voter in the configuration of that campaign are left out, and this node's own is always in; if they are
// then too few for a phase-2 quorum, all regions are. ErrInvalid for a list that is too long.
func (c *Core) SetHome(regions []quorum.Region) error {
	if len(regions) > quorum.VotersMax {
		return fmt.Errorf("%w: home of %d regions exceeds limit %d", ErrInvalid, len(regions), quorum.VotersMax)
	}
	c.wanted = slices.Clone(regions)
	return nil
}

// wantedHome is the home of an own global ballot of the newest configuration.
func (c *Core) wantedHome() quorum.Home {
	q := c.newest().Quorums
	if len(c.wanted) == 0 {
		return q.All()
	}
	var regions []quorum.Region
	for _, z := range q.Regions() {
		if slices.Contains(c.wanted, z.Region) {
			regions = append(regions, z.Region)
		}
	}
	if i, ok := q.Index(c.self); ok && !slices.Contains(regions, q.Voter(i).Region) {
		regions = append(regions, q.Voter(i).Region)
	}
	home, err := q.HomeOf(regions...)
	if err != nil { // too few
		return q.All()
	}
	return home
}

// Configure tells of a newer configuration. An own ballot goes on as it is: the next Campaign uses this one. A version that is
// known already is no error; ErrInvalid for one that is not above all known, or one too many.
func (c *Core) Configure(cfg Configuration) error {
	switch {
	case c.err != nil:
		return c.err
	case cfg.Quorums == nil:
		return fmt.Errorf("%w: configuration %d has no quorums", ErrInvalid, cfg.Version)
	case c.config(cfg.Version) != nil:
		return nil
	case cfg.Version < c.newest().Version:
		return fmt.Errorf("%w: configuration %d after %d", ErrInvalid, cfg.Version, c.newest().Version)
	case len(c.configs) >= ConfigurationsMax:
		return fmt.Errorf("%w: configuration %d, and %d are not retired", ErrInvalid, cfg.Version, len(c.configs))
	case c.log == nil && !(cfg.Quorums.SoleVoter(c.self) && len(cfg.Learners) == 0):
		return fmt.Errorf("%w: configuration %d, and no log to read", ErrInvalid, cfg.Version)
	}
	c.configs = append(slices.Clip(c.configs), cfg)
	c.refit()
	return nil
}

// Retire drops the configurations up to and with version. Requires: it is sealed by a phase-1 quorum of it, and whatever was
// chosen in it is chosen in a later one too (Status.Established). The newest cannot be retired: ErrInvalid.
func (c *Core) Retire(version uint64) error {
	if c.err != nil {
		return c.err
	}
	if version >= c.newest().Version {
		return fmt.Errorf("%w: retire %d, and %d is the newest", ErrInvalid, version, c.newest().Version)
	}
	n := 0
	for c.configs[n].Version <= version {
		n++
	}
	c.configs = c.configs[n:]
	c.shut()
	if c.p != nil && c.state == Preparing { // older voters need not be waited for any more
		if err := c.p.choose(c); err != nil {
			return err
		}
	}
	c.refit()
	return nil
}

// Seal refuses everything at ballots of configurations below minCfg from now on. Requires, before anyone is told of it: minCfg is
// durable on this node, and so are the batches of all Readies that are out.
func (c *Core) Seal(minCfg uint64) {
	if c.minCfg < minCfg {
		c.minCfg = minCfg
		c.shut()
	}
}

// shut ends what is below the floor: the own ballot, and answers that have not left yet.
func (c *Core) shut() {
	floor := c.floor()
	if c.state != Follower && c.ballot.Cfg < floor {
		c.stepDown()
	}
	stale := func(m Message) bool { return m.Ballot.Cfg < floor && !m.Type.fromProposer() && m.Type != Nack }
	c.now, c.after, c.owed = slices.DeleteFunc(c.now, stale), slices.DeleteFunc(c.after, stale), slices.DeleteFunc(c.owed, stale)
}

// ProposeStopSign puts a stop-sign behind the own log, which ends it for ballots of configurations below next: from now on
// Propose, ReadIndex and Release give ErrStopped, and no lease is held. Once it is chosen, a campaign in next need not ask the
// older configurations. Requires: a won ballot of a configuration below next, which is
// known here, else ErrNotOwner or ErrInvalid.
func (c *Core) ProposeStopSign(now Timestamp, next uint64) (Slot, error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case c.state < Won:
		return 0, ErrNotOwner
	case next <= c.ballot.Cfg:
		return 0, fmt.Errorf("%w: a stop-sign to configuration %d at ballot %s", ErrInvalid, next, c.ballot)
	case c.config(next) == nil: // one that never came would end the group for good
		return 0, fmt.Errorf("%w: a stop-sign to configuration %d, which is not known here", ErrInvalid, next)
	case c.stopped():
		return 0, ErrStopped
	}
	slot, _, err := c.propose(now, Entry{Kind: StopSign, Next: next})
	if err == nil && c.p != nil {
		c.p.loseReads(c)
	}
	return slot, err
}

// stopped reports whether there is a stop-sign in the own log that ends it for the own ballot.
func (c *Core) stopped() bool { return c.stop.next > c.ballot.Cfg }

// findStop looks for the last stop-sign in the log.
func (c *Core) findStop() {
	c.stop = stopSign{c.rec.StopSlot, c.rec.StopNext}
	for i := len(c.tail) - 1; i >= 0 && c.tail[i].Slot > c.stop.slot; i-- {
		if c.tail[i].Kind == StopSign {
			c.stop = stopSign{c.tail[i].Slot, c.tail[i].Next}
			return
		}
	}
}

// refit changes between the ways of a sole voter and of one with others. The latter serves for both, so that it may wait until
// nothing is under way.
func (c *Core) refit() {
	sole := c.isSole()
	switch {
	case c.sole && !sole:
		c.sole = false
		if c.state < Won {
			return
		}
		c.p = newProposer(c)
		own := &c.p.peer[c.p.me]
		c.p.source, own.answer = c.p.me, given
		own.acked, own.match = c.state > Won, c.applied
		for i := range c.p.peer[:c.p.members] {
			c.p.peer[i].begin(c, false)
		}
	case !c.sole && sole:
		if c.ready || c.HasReady() || c.rec.Applied < c.rec.Last || c.state != Follower && c.state < Won {
			return
		}
		c.sole, c.p = true, nil
	}
}
