// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// What no correct peer sends is refused before anything is done with it. The checks look at the message, the configurations and
// the highest round promised, and change nothing but roundSlack. Their errors have no class: Step adds it.

// checkEnvelope checks what can be said whatever the configuration.
func (c *Core) checkEnvelope(m *Message) error {
	switch {
	case m.Type == 0 || int(m.Type) >= len(messageNames):
		return fmt.Errorf("unknown type %d", uint8(m.Type))
	case m.To != c.self:
		return fmt.Errorf("it is for node %d, this is %d", m.To, c.self)
	case m.From == c.self || m.From == 0:
		return fmt.Errorf("it is from node %d", m.From)
	}
	if err := checkBallot(m.Ballot); err != nil {
		return err
	}
	proposer := m.To
	if c.asks(m) {
		proposer = m.From
	}
	if m.Ballot.Node != proposer {
		return fmt.Errorf("ballot %s is not of node %d", m.Ballot, proposer)
	}
	for _, s := range [...]Slot{m.Slot, m.Last, m.Commit, m.First, m.StopSlot} {
		if s > SlotMax {
			return fmt.Errorf("slot %d exceeds limit %d", s, SlotMax)
		}
	}
	for _, e := range [...]uint64{m.Epoch, m.FortEpoch} {
		if e > EpochMax {
			return fmt.Errorf("epoch %d exceeds limit %d", e, uint64(EpochMax))
		}
	}
	if m.Time > TimeMax || m.LeasedFor > TimeMax {
		return fmt.Errorf("time %d or duration %d exceeds limit %d", m.Time, m.LeasedFor, TimeMax)
	}
	return nil
}

// asks reports whether the message comes from the proposer of its ballot; else it is for it. A Snapshot can be either.
func (c *Core) asks(m *Message) bool {
	return m.Type.fromProposer() && !(m.Type == Snapshot && m.Ballot.Node == c.self)
}

// checkKnown finds out whether the message speaks of a configuration that this node is still to hear of.
func (c *Core) checkKnown(m *Message) error {
	newest := c.newest().Version
	if m.Ballot.Cfg > newest {
		return fmt.Errorf("ballot %s, known is %d", m.Ballot, newest)
	}
	if (m.Type == Nack || m.Type == PrePromise) && m.Promised.Cfg > newest {
		return fmt.Errorf("promised %s, known is %d", m.Promised, newest)
	}
	return nil
}

// checkMessage checks the rest. Requires: checkEnvelope, and a configuration that is neither too new nor below the floor.
func (c *Core) checkMessage(m *Message) error {
	cfg := c.config(m.Ballot.Cfg)
	if cfg == nil {
		return fmt.Errorf("ballot %s is of no configuration of this group", m.Ballot)
	}
	if c.asks(m) {
		if _, ok := cfg.Quorums.Index(m.From); !ok {
			return fmt.Errorf("node %d is no voter of configuration %d", m.From, cfg.Version)
		}
	}
	for _, b := range [...]Ballot{m.Ballot, m.Promised, m.Accepted, m.GlobalPromised, m.Release} {
		if err := c.checkRound(b); err != nil {
			return err
		}
	}
	if err := c.checkHomes(m, cfg); err != nil {
		return err
	}
	return c.checkFields(m)
}

// checkRound refuses a round that no campaign can have reached: see RoundJumpMax. It is what keeps a hostile ballot from
// using up the rounds, since it is never promised, and never the base of an own round.
func (c *Core) checkRound(b Ballot) error {
	if b.IsZero() {
		return nil
	}
	if err := checkBallot(b); err != nil {
		return err
	}
	if limit := c.rec.Promised.Round + RoundJumpMax + c.roundSlack; b.Round > limit {
		c.roundSlack = min(c.roundSlack+RoundJumpMax, RoundMax)
		return fmt.Errorf("ballot %s: round is more than %d above the %d promised here", b, limit-c.rec.Promised.Round, c.rec.Promised.Round)
	}
	return nil
}

// checkHomes checks that homes are ones of their configuration, and that this node is where it is taken to be.
func (c *Core) checkHomes(m *Message, cfg *Configuration) error {
	switch m.Type {
	case Prepare, AcceptSync, Learn, Snapshot, Release:
		if !c.asks(m) {
			return nil
		}
		if m.Scope > Local {
			return fmt.Errorf("unknown scope %d", uint8(m.Scope))
		}
		if err := cfg.Quorums.CheckHome(m.Home); err != nil {
			return err
		}
		if !cfg.Quorums.InHome(m.From, m.Home) {
			return fmt.Errorf("node %d does not stand in the home of ballot %s", m.From, m.Ballot)
		}
	case Promise:
		if at := c.config(m.Accepted.Cfg); at != nil && !m.Accepted.IsZero() {
			return at.Quorums.CheckHome(m.AcceptedHome)
		}
		return nil
	default:
		return nil
	}
	inside := cfg.Quorums.InHome(c.self, m.Home) || m.Type == AcceptSync && failpoint.Enabled(failpoint.ConsensusCountNonMember)
	switch {
	case m.Type == AcceptSync && !inside && !failpoint.Enabled(failpoint.ConsensusAcceptOutside), m.Type == Prepare && m.Scope == Local && !inside:
		return fmt.Errorf("node %d does not stand in the home of ballot %s", c.self, m.Ballot)
	case m.Type == AcceptSync && m.Ballot == c.rec.Accepted && m.Home != c.rec.AcceptedHome:
		return fmt.Errorf("ballot %s has another home than before", m.Ballot)
	}
	return nil
}

func (c *Core) checkFields(m *Message) error {
	if m.Established > m.Ballot.Cfg {
		return fmt.Errorf("configuration %d established, ballot %s", m.Established, m.Ballot)
	}
	if (m.StopSlot == 0) != (m.StopNext == 0) {
		return fmt.Errorf("stop-sign to configuration %d in slot %d", m.StopNext, m.StopSlot)
	}
	own := c.reading()
	if own == 0 && m.Time != 0 && m.Type == AcceptSync {
		return fmt.Errorf("the owner is bound to times above %d, and without a clock here that would be forgotten", m.Time)
	}
	if own != 0 && m.Time > own+ClockAheadMax && (m.Type == Promise || m.Type == AcceptSync) {
		return fmt.Errorf("time %d is more than %d ahead of the clock, at %d", m.Time, ClockAheadMax, own)
	}
	switch m.Type {
	case PrePrepare, Prepare:
		if !m.Accepted.Less(m.Ballot) {
			return fmt.Errorf("ballot %s is not above %s, which was won before", m.Ballot, m.Accepted)
		}
	case Promise:
		if m.Last == 0 && m.Chain != 0 {
			return fmt.Errorf("chain %016x before the first slot", m.Chain)
		}
		if m.Commit < m.Last && m.Last-m.Commit > EntriesPerMessageMax { // its owner could not have brought it here
			return fmt.Errorf("%d slots behind commit %d exceed limit %d", m.Last-m.Commit, m.Commit, EntriesPerMessageMax)
		}
		if m.Commit > m.Last || m.First == 0 || m.First > m.Commit+2 || m.First > m.Last+1 || m.StopSlot > m.Commit || !m.Accepted.Less(m.Ballot) || !m.GlobalPromised.Less(m.Ballot) {
			return fmt.Errorf("commit %d, last %d, first %d, stop-sign in %d, accepted %s, promised globally %s do not go together",
				m.Commit, m.Last, m.First, m.StopSlot, m.Accepted, m.GlobalPromised)
		}
	case PrePromise:
		if !m.Release.IsZero() && m.Release.Node != m.From {
			return fmt.Errorf("release of ballot %s", m.Release)
		}
	case Nack:
		if m.Slot == 0 || m.Promised.Less(m.Accepted) {
			return fmt.Errorf("expected slot %d, promised %s, accepted %s do not go together", m.Slot, m.Promised, m.Accepted)
		}
	case Snapshot:
		if m.Slot == 0 || m.Time == 0 || m.StopSlot > m.Slot {
			return fmt.Errorf("state at slot %d, time %d, stop-sign in %d do not go together", m.Slot, m.Time, m.StopSlot)
		}
	case Confirm, Confirmed:
		if m.Seq == 0 {
			return fmt.Errorf("question 0")
		}
	case Fortify:
		if m.Epoch == 0 {
			return fmt.Errorf("epoch 0")
		}
	case FetchReply, AcceptSync, Accept, Learn:
		return checkEntries(m)
	}
	if len(m.Entries) > 0 {
		return fmt.Errorf("%s with entries", m.Type)
	}
	return nil
}

func checkEntries(m *Message) error {
	if m.Slot == 0 && m.Chain != 0 {
		return fmt.Errorf("chain %016x before the first slot", m.Chain)
	}
	if n := len(m.Entries); n > EntriesPerMessageMax {
		return fmt.Errorf("%d entries exceed limit %d", n, EntriesPerMessageMax)
	}
	if err := checkRun(m.Slot, m.Chain, m.Entries); err != nil {
		return err
	}
	for i := range m.Entries {
		if e := &m.Entries[i]; m.Ballot.Less(e.Ballot) {
			return fmt.Errorf("slot %d: ballot %s is above the message's", e.Slot, e.Ballot)
		}
	}
	end := m.Slot + Slot(len(m.Entries))
	switch {
	case m.Type == Learn && end > m.Commit:
		return fmt.Errorf("slot %d is above commit %d", end, m.Commit)
	case m.Type == FetchReply && len(m.Entries) == 0 && m.First <= m.Slot+1:
		return fmt.Errorf("no entries, and the log is kept from %d", m.First)
	}
	return nil
}
