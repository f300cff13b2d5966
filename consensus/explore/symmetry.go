// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
)

// symmetry takes states for one that differ only in which of some interchangeable nodes does what. Nodes are interchangeable
// if they stand in the same region of every configuration and never campaign, so that their numbers stand in no ballot: ballots
// are ordered by node, and so proposers are not alike. Of all the worlds that the permutations make of one, the least is kept.
//
// The core is not asked to rename nodes. What a permutation makes of a local state is found by doing, from the first state of
// the other node on, the same inputs renamed: images of messages are plain to see. While this is done, it is checked that the
// core is indeed symmetric: the renamed input must send what the input sent, renamed. Where the core prefers one node to another,
// as when it fetches a log that two have, that fails, and the setup is explored without.
type symmetry struct {
	x     *explorer
	perms []permutation // without the identity
	// By permutation and number: the number of the image and 1, 0 if that is not known yet.
	locals, histories, messages [][]uint32
	uneven                      error // the core is not symmetric
	first                       [nodesMax]uint32
	least                       []byte
	tried                       []byte
	image                       world
}

// permutation says where each node goes, by index.
type permutation [nodesMax]uint8

func (p permutation) inverse() permutation {
	var q permutation
	for i, to := range p {
		q[to] = uint8(i)
	}
	return q
}

// interchangeable are the nodes that symmetry may permute.
func (s *Setup) interchangeable() []uint8 {
	if len(s.Bounds.Proposers) == 0 || s.Bounds.Asymmetric {
		return nil
	}
	classes := map[string][]uint8{}
	var best []uint8
	for n := range s.Nodes {
		id := consensus.NodeID(n + 1)
		if slices.Contains(s.Bounds.Proposers, id) || s.named(id) {
			continue
		}
		class := ""
		for _, c := range s.Configurations {
			if i, ok := c.Quorums.Index(id); ok {
				class += string(c.Quorums.Voter(i).Region)
			}
			class += fmt.Sprint("/", slices.Contains(c.Learners, id), "/")
		}
		if classes[class] = append(classes[class], uint8(n)); len(classes[class]) > len(best) {
			best = classes[class]
		}
	}
	return best
}

// named reports whether the prelude treats the node in its own way.
func (s *Setup) named(id consensus.NodeID) bool {
	for _, line := range s.Prelude {
		if line != "run" && bytes.ContainsAny([]byte(line), fmt.Sprint(id)) {
			return true
		}
	}
	return false
}

func newSymmetry(x *explorer, start *world) *symmetry {
	nodes := x.setup.interchangeable()
	if len(nodes) < 2 {
		return nil
	}
	s := &symmetry{x: x, first: x.first}
	var identity permutation
	for i := range identity {
		identity[i] = uint8(i)
	}
	var permute func(p permutation, k int)
	permute = func(p permutation, k int) {
		if k == len(nodes) {
			if p != identity {
				s.perms = append(s.perms, p)
				s.locals, s.histories, s.messages = append(s.locals, nil), append(s.histories, nil), append(s.messages, nil)
			}
			return
		}
		for i := k; i < len(nodes); i++ {
			q := p
			q[nodes[k]], q[nodes[i]] = p[nodes[i]], p[nodes[k]]
			permute(q, k+1)
		}
	}
	permute(identity, 0)
	for i := range s.perms { // the prelude must not have told them apart
		s.rename(i, start)
		if s.uneven != nil || !slices.Equal(s.image.encode(nil, x.setup.Nodes), start.encode(nil, x.setup.Nodes)) {
			return nil
		}
	}
	return s
}

// least makes w the least of its images, and says which permutation did that; -1 for none.
func (s *symmetry) canonical(w *world) int {
	nodes, which := s.x.setup.Nodes, -1
	s.least = w.encode(s.least[:0], nodes)
	for i := range s.perms {
		s.rename(i, w)
		s.tried = s.image.encode(s.tried[:0], nodes)
		if bytes.Compare(s.tried, s.least) < 0 {
			s.least, s.tried, which = s.tried, s.least, i
		}
	}
	if which >= 0 {
		w.decode(s.least, nodes)
	}
	return which
}

// rename makes image what permutation i makes of w.
func (s *symmetry) rename(i int, w *world) {
	p, x, to := &s.perms[i], s.x, &s.image
	to.used, to.hist = w.used, s.history(i, w.hist)
	for n := range x.setup.Nodes {
		to.node[p[n]] = s.local(i, w.node[n], n)
	}
	to.fab = w.fab
	if x.setup.Fabric {
		f := x.fabrics[w.fab].renamed(p)
		to.fab = x.fabric(&f)
	}
	to.net = to.net[:0]
	for _, id := range w.net {
		to.net = append(to.net, s.message(i, id))
	}
	if x.setup.Bounds.Network == Streams {
		slices.SortStableFunc(to.net, func(a, b uint16) int { return cmp.Compare(x.messages[a].stream, x.messages[b].stream) })
	} else {
		slices.Sort(to.net)
	}
}

// known is the image that was noted; note notes it.
func known(list []uint32, id uint32) (to uint32, ok bool) {
	if int(id) >= len(list) || list[id] == 0 {
		return 0, false
	}
	return list[id] - 1, true
}

func note(list *[]uint32, id, to uint32) {
	for int(id) >= len(*list) {
		*list = append(*list, 0)
	}
	(*list)[id] = to + 1
}

func (s *symmetry) history(i int, id uint32) uint32 {
	if to, ok := known(s.histories[i], id); ok {
		return to
	}
	p := &s.perms[i]
	h := s.x.histories[id].clone()
	for b := range h.ballots {
		before := h.ballots[b].accepted
		for n := range before {
			h.ballots[b].accepted[p[n]] = before[n]
		}
	}
	to := s.x.history(&h)
	note(&s.histories[i], id, to)
	return to
}

func (f *fabric) renamed(p *permutation) fabric {
	var g fabric
	for n := range nodesMax {
		g.epoch[p[n]], g.silent[p[n]] = f.epoch[n], f.silent[n]
		for o := range nodesMax {
			g.gives[p[n]][p[o]], g.has[p[n]][p[o]] = f.gives[n][o], f.has[n][o]
		}
	}
	return g
}

func (v *view) renamed(p *permutation) view {
	w := *v
	w.self = p[v.self]
	for o := range nodesMax {
		w.gives[p[o]], w.has[p[o]] = v.gives[o], v.has[o]
	}
	return w
}

func (s *symmetry) message(i int, id uint16) uint16 {
	if to, ok := known(s.messages[i], uint32(id)); ok {
		return uint16(to)
	}
	p := &s.perms[i]
	rename := func(id consensus.NodeID) consensus.NodeID {
		if id == 0 {
			return 0
		}
		return consensus.NodeID(p[id-1] + 1)
	}
	m := s.x.messages[id].message
	m.From, m.To, m.LeasedOwner = rename(m.From), rename(m.To), rename(m.LeasedOwner)
	to := s.x.message(&m)
	note(&s.messages[i], uint32(id), uint32(to))
	return to
}

// local is the state of the node that node becomes.
func (s *symmetry) local(i int, id uint32, node int) uint32 {
	if to, ok := known(s.locals[i], id); ok {
		return to
	}
	x, p := s.x, &s.perms[i]
	l := x.locals[id]
	var to uint32
	switch {
	case l.from.action == fromStart:
		to = s.first[p[node]]
	case l.from.action == fromSettling:
		to = x.settled(s.local(i, l.from.local, node), int(p[node]))
	default:
		v := x.views[l.from.view]
		if x.setup.Fabric {
			v = v.renamed(p)
		}
		a := s.action(i, unpack(l.from.action))
		before := s.local(i, l.from.local, node)
		out := x.ask(before, x.viewID(v), a)
		s.compare(i, x.ask(l.from.local, l.from.view, unpack(l.from.action)), out, a)
		to = out.next
	}
	note(&s.locals[i], id, to)
	return to
}

func (s *symmetry) action(i int, a action) action {
	a.node = s.perms[i][a.node]
	switch a.kind {
	case deliver:
		a.arg = s.message(i, a.arg)
	case release, lose, expire, support, gain:
		a.arg = uint16(s.perms[i][a.arg])
	}
	return a
}

// compare checks that the renamed input did what the input did, renamed.
func (s *symmetry) compare(i int, out, renamed *outcome, a action) {
	if s.uneven != nil {
		return
	}
	want := make([]uint16, 0, len(out.sent))
	for _, id := range out.sent {
		want = append(want, s.message(i, id))
	}
	have := slices.Clone(renamed.sent)
	slices.Sort(want)
	slices.Sort(have)
	if renamed.refused || renamed.bad != nil || !slices.Equal(want, have) {
		s.uneven = fmt.Errorf("%s: renamed, it does something else", s.x.text(a))
	}
}
