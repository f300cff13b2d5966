// SPDX-License-Identifier: AGPL-3.0-only

// Package quorum says which sets of nodes are a phase-1 or a phase-2 quorum. It consists of pure functions.
package quorum

import "errors"

// NodeID names a node for ever; 0 is no node.
type NodeID uint64

// Region names a failure domain of nodes.
type Region string

// Voter is a node that votes, and where it stands.
type Voter struct {
	Node   NodeID
	Region Region
}

// ErrInvalid is what every error of this package is.
var ErrInvalid = errors.New("invalid quorum configuration")

// Config is a set of voters with the losses that it is to bear. It never changes.
type Config struct {
	voters []Voter
	fn, fz int
}

// New makes a Config.
func New(voters []Voter, fn, fz int) (*Config, error) {
	return &Config{voters: voters, fn: fn, fz: fz}, nil
}

// SoleVoter reports whether id is the only voter.
func (c *Config) SoleVoter(id NodeID) bool { return len(c.voters) == 1 && c.voters[0].Node == id }
