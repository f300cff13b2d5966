// SPDX-License-Identifier: AGPL-3.0-only

package reconfig

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus/consensuspb"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// EntryKind says what an entry does.
type EntryKind uint8

// The entries of the system log that concern configurations.
const (
	// AddNode makes a node known, with its region. It may then be a member of a configuration.
	AddNode EntryKind = iota + 1
	// SetConfig makes a configuration live beside the present one.
	SetConfig
	// Retire ends the older of two live versions.
	Retire
)

// Entry is one entry of the system log, in its meaning for configurations.
type Entry struct {
	Kind EntryKind
	// Node and Region of AddNode.
	Node   NodeID
	Region Region
	// Config of SetConfig. Its Version is one above the newest.
	Config Config
	// Version and Sealed of Retire: the version that ends, and the nodes that have sealed it and listed all of theirs.
	Version uint64
	Sealed  []NodeID
}

// AppendTo appends the entry as the payload of the system log has it: a consensuspb.SystemEntry on disk. Nodes are sorted, and
// kept once. ErrInvalid, with dst as it was: what DecodeEntry would refuse, at every node that applies it. That is a kind that is none, a
// negative Fn or Fz, a region that is not UTF-8, a voter that stands twice, and more than a limit allows.
func (e *Entry) AppendTo(dst []byte) ([]byte, error) {
	m := &consensuspb.SystemEntry{}
	switch e.Kind {
	case AddNode:
		m.AddNode = &consensuspb.AddNode{Node: uint64(e.Node), Region: string(e.Region)}
	case SetConfig:
		c := &e.Config
		if c.Fn < 0 || c.Fz < 0 {
			return dst, fmt.Errorf("%w: Fn %d, Fz %d", ErrInvalid, c.Fn, c.Fz)
		}
		p := &consensuspb.Configuration{Version: c.Version, Fn: uint64(c.Fn), Fz: uint64(c.Fz), Learners: numbers(c.Learners)}
		voters := slices.Clone(c.Voters)
		slices.SortFunc(voters, compareVoters)
		for _, v := range voters {
			p.Voters = append(p.Voters, &consensuspb.Voter{Node: uint64(v.Node), Region: string(v.Region)})
		}
		m.SetConfig = &consensuspb.SetConfig{Configuration: p}
	case Retire:
		m.Retire = &consensuspb.Retire{Version: e.Version, Sealed: numbers(e.Sealed)}
	default:
		return dst, fmt.Errorf("%w: entry of kind %d", ErrInvalid, e.Kind)
	}
	out, err := consensuspb.AppendOnDisk(dst, m)
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := DecodeEntry(out[len(dst):]); err != nil {
		return dst, fmt.Errorf("%w: %s", ErrInvalid, err)
	}
	return out, nil
}

// numbers is the nodes, rising, each once.
func numbers(ids []NodeID) []uint64 {
	var out []uint64
	for _, id := range ids {
		out = append(out, uint64(id))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// DecodeEntry reads what AppendTo wrote, and nothing after it. It keeps no reference to src. Every error is ErrCorrupt. What
// the entry says is judged by Apply.
func DecodeEntry(src []byte) (*Entry, error) {
	m := &consensuspb.SystemEntry{}
	if err := consensuspb.DecodeOnDisk(src, consensuspb.SystemEntryLenMax, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	var (
		e   Entry
		err error
	)
	kinds := 0
	if a := m.AddNode; a != nil {
		kinds++
		e = Entry{Kind: AddNode, Node: NodeID(a.Node), Region: Region(a.Region)}
	}
	if s := m.SetConfig; s != nil {
		kinds++
		e = Entry{Kind: SetConfig}
		e.Config, err = decodeConfig(s.Configuration)
	}
	if r := m.Retire; r != nil {
		kinds++
		e = Entry{Kind: Retire, Version: r.Version}
		e.Sealed, err = decodeNodes(r.Sealed, quorum.VotersMax)
	}
	if kinds != 1 {
		err = fmt.Errorf("an entry of %d kinds", kinds)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return &e, nil
}

func decodeConfig(p *consensuspb.Configuration) (Config, error) {
	if p == nil { // an empty one is there, and is another layout
		return Config{}, errors.New("a change to no configuration")
	}
	if p.GetFn() > FaultsMax || p.GetFz() > FaultsMax || len(p.GetVoters()) > quorum.VotersMax {
		return Config{}, fmt.Errorf("losses of %d and %d or %d voters are above the limits", p.GetFn(), p.GetFz(), len(p.GetVoters()))
	}
	c := Config{Version: p.GetVersion(), Fn: int(p.GetFn()), Fz: int(p.GetFz())}
	for i, v := range p.GetVoters() {
		c.Voters = append(c.Voters, quorum.Voter{Node: NodeID(v.GetNode()), Region: Region(v.GetRegion())})
		if i > 0 && compareVoters(c.Voters[i-1], c.Voters[i]) >= 0 {
			return Config{}, fmt.Errorf("voter %d is not in order", v.GetNode())
		}
	}
	var err error
	c.Learners, err = decodeNodes(p.GetLearners(), LearnersMax)
	return c, err
}

func decodeNodes(list []uint64, limit int) ([]NodeID, error) {
	if len(list) > limit {
		return nil, fmt.Errorf("%d nodes exceed limit %d", len(list), limit)
	}
	var ids []NodeID
	for i, n := range list {
		if i > 0 && n <= list[i-1] {
			return nil, fmt.Errorf("node %d after node %d", n, list[i-1])
		}
		ids = append(ids, NodeID(n))
	}
	return ids, nil
}
