// SPDX-License-Identifier: AGPL-3.0-only

package reconfig

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// Config is a configuration as it is written down.
type Config struct {
	Version  uint64
	Voters   []quorum.Voter
	Fn, Fz   int
	Learners []NodeID
}

// Limits.
const (
	// VersionMax bounds the version of a configuration.
	VersionMax = 1 << 62
	// NodesMax bounds the nodes ever added.
	NodesMax = 1 << 16
	// LearnersMax bounds the learners of a configuration.
	LearnersMax = 1 << 10
	// FaultsMax bounds Fn and Fz.
	FaultsMax = quorum.VotersMax
)

// Registry is the nodes and the live configurations: the state that the entries of the system log make, alike at every node.
type Registry struct {
	nodes []member // by number
	live  []version
}

// member is a node that was added.
type member struct {
	id      NodeID
	region  Region
	removed bool
}

// version is a live configuration.
type version struct {
	config  Config
	quorums *quorum.Config
}

// NewRegistry is the registry of an atlas that begins with this configuration, which has a version from 1 and no learners; its nodes
// are known.
func NewRegistry(first Config) (*Registry, error) {
	r := &Registry{}
	for _, v := range first.Voters {
		r.addNode(v.Node, v.Region)
	}
	v, err := r.check(first)
	if err != nil {
		return nil, err
	}
	r.live = []version{v}
	return r, nil
}

// Apply applies an entry. An error changes nothing, and is the same at every node: whoever proposed the entry is told it.
func (r *Registry) Apply(e *Entry) error {
	switch e.Kind {
	case AddNode:
		return r.applyAdd(e)
	case SetConfig:
		if err := r.Admits(&e.Config); err != nil {
			return err
		}
		v, err := r.check(e.Config)
		if err != nil {
			return err
		}
		r.live = append(r.live, v)
		return nil
	case Retire:
		return r.applyRetire(e)
	default:
		return fmt.Errorf("%w: entry of kind %d", ErrInvalid, e.Kind)
	}
}

func (r *Registry) applyAdd(e *Entry) error {
	if _, err := quorum.New([]quorum.Voter{{Node: e.Node, Region: e.Region}}, 0, 0); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(r.nodes) >= NodesMax {
		return fmt.Errorf("%w: %d nodes, the limit", ErrInvalid, len(r.nodes))
	}
	if !r.addNode(e.Node, e.Region) {
		return fmt.Errorf("%w: node %d was added before", ErrInvalid, e.Node)
	}
	return nil
}

func (r *Registry) addNode(id NodeID, region Region) bool {
	at, ok := r.find(id)
	if !ok {
		r.nodes = slices.Insert(r.nodes, at, member{id: id, region: region})
	}
	return !ok
}

func (r *Registry) find(id NodeID) (int, bool) {
	return slices.BinarySearchFunc(r.nodes, id, func(m member, id NodeID) int { return cmp.Compare(m.id, id) })
}

// Admits reports whether SetConfig of c would be applied now; its error is what Apply returns.
func (r *Registry) Admits(c *Config) error {
	newest := r.live[len(r.live)-1].config.Version
	if len(r.live) > 1 {
		return fmt.Errorf("%w: version %d is not retired yet, %d would be the third", ErrOverlap, r.live[0].config.Version, c.Version)
	}
	if c.Version != newest+1 {
		return fmt.Errorf("%w: %d, its turn has %d", ErrStale, c.Version, newest+1)
	}
	_, err := r.check(*c)
	return err
}

// check makes a version of c, which it copies. Each member must have been added, in that region, and not be removed (R6).
func (r *Registry) check(c Config) (version, error) {
	if c.Version == 0 || c.Version > VersionMax {
		return version{}, fmt.Errorf("%w: version %d is not between 1 and %d", ErrInvalid, c.Version, uint64(VersionMax))
	}
	if c.Fn > FaultsMax || c.Fz > FaultsMax || len(c.Learners) > LearnersMax {
		return version{}, fmt.Errorf("%w: Fn %d, Fz %d or %d learners above %d, %d, %d", ErrInvalid, c.Fn, c.Fz, len(c.Learners),
			FaultsMax, FaultsMax, LearnersMax)
	}
	q, err := quorum.New(c.Voters, c.Fn, c.Fz)
	if err != nil {
		return version{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c.Voters, c.Learners = slices.Clone(c.Voters), slices.Clone(c.Learners)
	for i := range c.Voters {
		c.Voters[i] = q.Voter(i)
	}
	slices.Sort(c.Learners)
	for _, v := range c.Voters {
		if err := r.checkMember(v.Node); err != nil {
			return version{}, err
		}
		if at, _ := r.find(v.Node); r.nodes[at].region != v.Region {
			return version{}, fmt.Errorf("%w: node %d stands in %q, not in %q", ErrUnknownNode, v.Node, r.nodes[at].region, v.Region)
		}
	}
	for i, id := range c.Learners {
		if err := r.checkMember(id); err != nil {
			return version{}, err
		}
		if _, votes := q.Index(id); votes || i > 0 && c.Learners[i-1] == id {
			return version{}, fmt.Errorf("%w: learner %d stands twice", ErrInvalid, id)
		}
	}
	return version{config: c, quorums: q}, nil
}

func (r *Registry) checkMember(id NodeID) error {
	at, ok := r.find(id)
	if !ok {
		return fmt.Errorf("%w: node %d was never added", ErrUnknownNode, id)
	}
	if r.nodes[at].removed {
		return fmt.Errorf("%w: node %d was removed, and comes back under another number only", ErrUnknownNode, id)
	}
	return nil
}

// applyRetire ends the older version, if a Q1 of it is sealed (R4). Its nodes that the newer one does not have are removed.
func (r *Registry) applyRetire(e *Entry) error {
	if len(r.live) < 2 || e.Version != r.live[0].config.Version {
		return fmt.Errorf("%w: retire %d, live is %d to %d", ErrStale, e.Version, r.live[0].config.Version, r.Newest().Version)
	}
	old := &r.live[0]
	if !old.quorums.IsQ1(old.quorums.SetOf(e.Sealed...)) {
		return fmt.Errorf("%w: %d nodes have sealed version %d, which are no phase-1 quorum of it", ErrNoQuorum, len(e.Sealed), e.Version)
	}
	next := &r.live[1]
	for _, id := range old.members() {
		if !slices.Contains(next.members(), id) {
			at, _ := r.find(id)
			r.nodes[at].removed = true
		}
	}
	r.live = []version{*next}
	return nil
}

func (v *version) members() []NodeID {
	var all []NodeID
	for _, voter := range v.config.Voters {
		all = append(all, voter.Node)
	}
	return append(all, v.config.Learners...)
}

// Configurations are the live versions, oldest first, as a core takes them.
func (r *Registry) Configurations() []consensus.Configuration {
	var out []consensus.Configuration
	for _, v := range r.live {
		out = append(out, consensus.Configuration{Version: v.config.Version, Quorums: v.quorums, Learners: slices.Clone(v.config.Learners)})
	}
	return out
}

// Newest is the newest configuration. The caller must not change its slices.
func (r *Registry) Newest() Config { return r.live[len(r.live)-1].config }

// Changing reports whether two versions are live, and the older of them.
func (r *Registry) Changing() (old uint64, ok bool) { return r.live[0].config.Version, len(r.live) > 1 }

// Removed reports whether a node was removed: its disk may be wiped, and no atlas ever asks it again.
func (r *Registry) Removed(id NodeID) bool {
	at, ok := r.find(id)
	return ok && r.nodes[at].removed
}

// Outlook is what a change would meet among the nodes that are alive.
type Outlook struct {
	// ByCampaign: a Q1 of the present configuration is alive, so that every group can move and the old version be retired.
	// Without it only groups whose owners live go on, by StopSign, and the change stays open until more nodes are back.
	ByCampaign bool
}

// Foresee judges a change before it is proposed, by who is alive: an error that is ErrNoQuorum if the new configuration would
// have no Q1 or no Q2, and what Admits says. It is advice, for the one who proposes; Apply does not look at who is alive.
func (r *Registry) Foresee(c *Config, live []NodeID) (Outlook, error) {
	if err := r.Admits(c); err != nil {
		return Outlook{}, err
	}
	v, err := r.check(*c)
	if err != nil {
		return Outlook{}, err
	}
	set := v.quorums.SetOf(live...)
	if !v.quorums.IsQ1(set) {
		return Outlook{}, fmt.Errorf("%w: the nodes alive are no phase-1 quorum of version %d", ErrNoQuorum, c.Version)
	}
	if !v.quorums.IsQ2(set, v.quorums.All()) {
		return Outlook{}, fmt.Errorf("%w: the nodes alive are no phase-2 quorum of version %d", ErrNoQuorum, c.Version)
	}
	now := r.live[0].quorums
	return Outlook{ByCampaign: now.IsQ1(now.SetOf(live...))}, nil
}

// Clone is a copy that shares nothing that changes.
func (r *Registry) Clone() *Registry {
	return &Registry{nodes: slices.Clone(r.nodes), live: slices.Clone(r.live)}
}
