// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"fmt"

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

var errNotYet = errors.New("not built yet")

// SetHome sets the regions whose voters are to vote in phase 2 of own global ballots from the next campaign on; none for all.
func (c *Core) SetHome([]quorum.Region) error { return errNotYet }

// ProposeStopSign ends the log for ballots of configurations below next.
func (c *Core) ProposeStopSign(Timestamp, uint64) (Slot, error) { return 0, errNotYet }

// Release ends the own ballot in favour of another node.
func (c *Core) Release(NodeID) error { return errNotYet }

// ReadIndex asks for a read that sees all that was chosen before.
func (c *Core) ReadIndex(uint64) error { return errNotYet }

// HoldsLease reports whether reads may be answered from the applied state, now.
func (c *Core) HoldsLease() bool { return c.MayServeLocal() }

// Compact trims the log up to and with the slot, as far as it is applied.
func (c *Core) Compact(Slot) {}

// Configure adds a newer configuration.
func (c *Core) Configure(Configuration) error { return errNotYet }

// Retire drops the configurations up to and with this one.
func (c *Core) Retire(uint64) error { return errNotYet }

// Seal refuses all ballots of configurations below minCfg from now on.
func (c *Core) Seal(uint64) {}

// Clone is a copy that shares nothing that changes.
func (c *Core) Clone(Log, Fabric) *Core { panic(errNotYet) }

// AppendState appends everything that later outputs can depend on.
func (c *Core) AppendState(dst []byte) []byte { panic(errNotYet) }
