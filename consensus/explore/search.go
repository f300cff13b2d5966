// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/atlas-edge/atlas/consensus"
)

// Violation is a broken invariant, and the shortest way to it.
type Violation struct {
	Setup *Setup
	Err   error
	// Trace is the actions after the prelude, as a transcript has them.
	Trace []string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%v\nafter %d actions:\n%s", v.Err, len(v.Trace), strings.Join(v.Trace, "\n"))
}

// Explore visits every state of s within its bounds, breadth first, and returns what it counted and the first violation, nil
// if there is none. No trace that breaks an invariant is shorter than the one that it returns.
func Explore(s *Setup) (Stats, *Violation) { return explore(s, nil) }

// explore shows each new state to see, unless that is nil.
func explore(s *Setup, see func(*explorer, *world)) (Stats, *Violation) {
	x := newExplorer(s)
	start, err := x.begin()
	if err != nil {
		return x.stats, &Violation{Setup: s, Err: err}
	}
	var (
		v     = newVisited()
		cur   frontier
		next  frontier
		from  world
		to    world
		moves []action
		bytes []byte
		index uint32
	)
	x.symmetry = newSymmetry(x, &start)
	x.stats.Reached = Reached{}
	bytes = start.encode(nil, s.Nodes)
	v.add(hashOf(bytes), 0, 0)
	cur.add(bytes)
	for cur.len() > 0 && !x.stats.Cut {
		x.stats.Frontier = max(x.stats.Frontier, cur.len())
		for i := range cur.len() {
			from.decode(cur.at(i), s.Nodes)
			moves = x.moves(&from, moves[:0])
			for _, a := range moves {
				ok, bad := x.step(&from, a, &to)
				if bad != nil {
					x.count(v)
					return x.stats, &Violation{Setup: s, Err: bad, Trace: x.trace(start, append(v.path(index), a.pack()))}
				}
				if !ok {
					continue
				}
				x.stats.Transitions++
				if x.symmetry != nil {
					if x.symmetry.canonical(&to); x.symmetry.uneven != nil {
						return x.unevenly(see)
					}
				}
				bytes = to.encode(bytes[:0], s.Nodes)
				if v.add(hashOf(bytes), index, a.pack()) {
					x.reach(&to)
					if see != nil {
						see(x, &to)
					}
					next.add(bytes)
				}
			}
			index++
			if s.Bounds.States > 0 && v.len() >= s.Bounds.States {
				x.stats.Cut = true
				break
			}
		}
		cur, next = next, cur
		next.reset()
		x.stats.Depth++
	}
	x.count(v)
	return x.stats, nil
}

// unevenly explores again without the symmetry that the core does not have.
func (x *explorer) unevenly(see func(*explorer, *world)) (Stats, *Violation) {
	s := *x.setup
	s.Bounds.Asymmetric = true
	stats, v := explore(&s, see)
	stats.Uneven = x.symmetry.uneven
	return stats, v
}

func (x *explorer) count(v *visited) {
	x.stats.States, x.stats.Locals, x.stats.Histories = v.len(), len(x.locals), len(x.histories)
	if x.symmetry != nil {
		x.stats.Symmetry = len(x.symmetry.perms) + 1
	}
	x.stats.Fabrics, x.stats.Messages = len(x.fabrics), len(x.messages)
}

// trace is the text of these actions. With symmetry each was done in the least image of a world: here they are done again, and
// named as in the world itself.
func (x *explorer) trace(start world, packed []uint32) []string {
	var (
		lines []string
		to    world
		w     = start
	)
	for _, p := range packed {
		a := unpack(p)
		if x.symmetry != nil {
			least := w
			least.net = slices.Clone(w.net)
			if i := x.symmetry.canonical(&least); i >= 0 {
				back := slices.Index(x.symmetry.perms, x.symmetry.perms[i].inverse())
				a = x.symmetry.action(back, a)
			}
		}
		lines = append(lines, x.text(a))
		if ok, _ := x.step(&w, a, &to); ok {
			w = to
			w.net = slices.Clone(to.net)
		}
	}
	return lines
}

// frontier is worlds by their bytes.
type frontier struct {
	data []byte
	ends []int
}

func (f *frontier) add(b []byte) {
	f.data = append(f.data, b...)
	f.ends = append(f.ends, len(f.data))
}

func (f *frontier) len() int { return len(f.ends) }

func (f *frontier) at(i int) []byte {
	start := 0
	if i > 0 {
		start = f.ends[i-1]
	}
	return f.data[start:f.ends[i]]
}

func (f *frontier) reset() { f.data, f.ends = f.data[:0], f.ends[:0] }

// begin is the world after the prelude.
func (x *explorer) begin() (world, error) {
	w, err := x.initial()
	if err != nil || len(x.setup.Prelude) == 0 {
		return w, err
	}
	for _, line := range x.setup.Prelude {
		if rest, ok := strings.CutPrefix(line, "run"); ok {
			w, err = x.runAll(w, rest)
		} else {
			w, err = x.script(w, line)
		}
		if err != nil {
			return w, fmt.Errorf("prelude: %s: %w", line, err)
		}
	}
	w.used, w.net = [usedLen]uint8{}, nil
	return w, nil
}

// script does the action of this text, whatever the bounds say. Of a message it is enough to give some words: the first in which
// they all occur is taken.
func (x *explorer) script(w world, line string) (world, error) {
	bounds := x.setup.Bounds
	defer func() { x.setup.Bounds = bounds }()
	x.setup.Bounds = Bounds{
		Network: bounds.Network, Inflight: bounds.Inflight, Repeats: 255, Campaigns: 255, Locals: 255, Slots: slotsMax, Ticks: true,
		Crashes: 255, Stalls: 255, Reads: readsMax, Releases: 255, Leases: true, Epochs: 255, Renewals: 255, StopSigns: 255,
		Configure: true, Seals: true, Compacts: 255,
	}
	moves := x.moves(&w, nil)
	at := slices.IndexFunc(moves, func(a action) bool { return x.text(a) == line })
	if at < 0 {
		words := strings.Fields(line)
		at = slices.IndexFunc(moves, func(a action) bool {
			if a.kind != deliver || a.mode != whole && !strings.HasSuffix(line, x.modeText(a)) {
				return false
			}
			text := strings.Fields(fmt.Sprintf("%s ~%04x", x.text(a), x.messages[a.arg].hash))
			return !slices.ContainsFunc(words, func(w string) bool { return !slices.Contains(text, w) })
		})
	}
	if at < 0 {
		return w, fmt.Errorf("not possible")
	}
	var to world
	ok, err := x.step(&w, moves[at], &to)
	if err == nil && !ok {
		err = fmt.Errorf("it changes nothing")
	}
	return to, err
}

// runAll delivers all messages, oldest first, each once, and those that follow. If it is told nodes, others get none.
func (x *explorer) runAll(w world, only string) (world, error) {
	done := map[uint16]bool{}
	for {
		i := slices.IndexFunc(w.net, func(id uint16) bool {
			return !done[id] && (only == "" || strings.Contains(only, fmt.Sprintf(" %d", x.messages[id].to+1)))
		})
		if i < 0 {
			w.net = nil
			return w, nil
		}
		id := w.net[i]
		done[id] = true
		var to world
		ok, err := x.step(&w, action{kind: deliver, node: x.messages[id].to, arg: id}, &to)
		if err != nil {
			return w, err
		}
		if ok {
			w = to
			w.net = slices.Clone(to.net)
		}
	}
}

// moves appends the actions that the bounds allow in w. Not all of them are possible.
func (x *explorer) moves(w *world, dst []action) []action {
	b := &x.setup.Bounds
	base := len(dst)
	for _, id := range w.net {
		dst = append(dst, action{kind: deliver, node: x.messages[id].to, arg: id})
		if w.used[usedRepeats] < b.Repeats {
			dst = append(dst, action{kind: deliver, node: x.messages[id].to, arg: id, again: true})
		}
	}
	for n := range x.setup.Nodes {
		dst = x.inputs(w, n, dst)
	}
	for _, a := range dst[base:] {
		if x.locals[w.node[a.node]].phase != idle || a.kind >= take || a.again {
			continue
		}
		if w.used[usedStalls] < b.Stalls {
			a.mode = hold
			dst = append(dst, a)
		}
		if w.used[usedCrashes] < b.Crashes {
			for _, m := range x.ask(w.node[a.node], x.view(w.fab, int(a.node)), x.numbered(w, a)).variants {
				a.mode = m
				dst = append(dst, a)
			}
		}
	}
	if x.setup.Fabric {
		dst = x.lives(w, dst)
	}
	return dst
}

// numbered gives a read its number.
func (x *explorer) numbered(w *world, a action) action {
	if a.kind == readIndex {
		a.arg = uint16(w.used[usedReads]) + 1
	}
	a.mode = whole
	return a
}

// inputs are those of one node other than messages.
func (x *explorer) inputs(w *world, n int, dst []action) []action {
	b, l := &x.setup.Bounds, x.locals[w.node[n]]
	add := func(k kind, arg int) { dst = append(dst, action{kind: k, node: uint8(n), arg: uint16(arg)}) }
	state := l.status.State
	mayOwn := len(b.Proposers) == 0 || slices.Contains(b.Proposers, consensus.NodeID(n+1))
	if mayOwn && state < consensus.Won {
		if w.used[usedCampaigns] < b.Campaigns {
			add(campaign, 0)
		}
		if w.used[usedLocals] < b.Locals {
			add(campaignLocal, 0)
		}
	}
	if state >= consensus.Won {
		x.ownerInputs(w, n, add)
	}
	if b.Ticks {
		add(tick, 0)
	}
	x.changes(w, n, add)
	switch l.phase {
	case queued:
		add(take, 0)
	case written:
		add(finish, 0)
	}
	if w.used[usedCrashes] < b.Crashes {
		for keep := 0; keep <= len(l.pending) && keep < crashKeeps; keep++ {
			add(crash, keep)
		}
	}
	return dst
}

func (x *explorer) ownerInputs(w *world, n int, add func(kind, int)) {
	b, l := &x.setup.Bounds, x.locals[w.node[n]]
	if l.status.Last < b.Slots {
		add(propose, 0)
	}
	if w.used[usedReads] < b.Reads {
		add(readIndex, 0)
	}
	if b.Leases {
		add(askLease, 0)
	}
	if w.used[usedStopSigns] < b.StopSigns && l.known > 0 && l.status.Last < slotsMax {
		add(stopSign, 0)
	}
	if w.used[usedReleases] < b.Releases {
		for to := range x.setup.Nodes {
			if to != n && (len(b.Proposers) == 0 || slices.Contains(b.Proposers, consensus.NodeID(to+1))) {
				add(release, to)
			}
		}
	}
}

// changes are of configurations and of the log's beginning.
func (x *explorer) changes(w *world, n int, add func(kind, int)) {
	b, l := &x.setup.Bounds, x.locals[w.node[n]]
	if b.Configure && int(l.known)+1 < len(x.setup.Configurations) {
		add(configure, int(l.known)+1)
	}
	if b.Seals && len(x.setup.Configurations) > 1 {
		if l.durable.minCfg == 0 && l.phase == idle {
			add(seal, 0)
		}
		if l.retired == 0 && l.known > 0 && x.mayRetire(w) {
			add(retire, 0)
		}
	}
	if w.used[usedCompacts] < b.Compacts && l.status.Last >= max(l.written.rec.First, 1) {
		add(compact, 0)
	}
}

// mayRetire is the reconfiguration's rule R4: a Q1 of the first configuration has sealed it, and if one of these holds anything
// of it, a log is chosen in a later one.
func (x *explorer) mayRetire(w *world) bool {
	if x.setup.Unsealed {
		return true
	}
	q := x.setup.Configurations[0].Quorums
	var ids []consensus.NodeID
	holds, moved := false, false
	for n := range x.setup.Nodes {
		l := x.locals[w.node[n]]
		if l.durable.minCfg > 0 {
			ids = append(ids, consensus.NodeID(n+1))
			holds = holds || !l.durable.rec.Accepted.IsZero()
		}
		moved = moved || l.durable.rec.Established > x.setup.Configurations[0].Version
	}
	return q.IsQ1(q.SetOf(ids...)) && (moved || !holds)
}

// lives are the fabric's actions, between owners and others. Support matters from when a ballot is won, which is before any tie
// to its owner is made, until nobody is tied to it: what happens to it at other times may as well happen then.
func (x *explorer) lives(w *world, dst []action) []action {
	b, f := &x.setup.Bounds, &x.fabrics[w.fab]
	for o := range x.setup.Nodes {
		if f.silent[o] {
			dst = append(dst, action{kind: settle, node: uint8(o)})
		}
		if !x.leads(w, o) {
			continue
		}
		if w.used[usedEpochs] < b.Epochs {
			dst = append(dst, action{kind: bump, node: uint8(o)})
		}
		for n := range x.setup.Nodes {
			if n == o {
				continue
			}
			dst = append(dst, action{kind: lose, node: uint8(o), arg: uint16(n)}, action{kind: expire, node: uint8(n), arg: uint16(o)},
				action{kind: gain, node: uint8(o), arg: uint16(n)})
			if w.used[usedRenewals] < b.Renewals {
				dst = append(dst, action{kind: support, node: uint8(n), arg: uint16(o)})
			}
		}
	}
	return dst
}

// leads reports whether o owns, or somebody is tied to it.
func (x *explorer) leads(w *world, o int) bool {
	if x.locals[w.node[o]].status.State >= consensus.Won {
		return true
	}
	for n := range x.setup.Nodes {
		l := x.locals[w.node[n]]
		if id := consensus.NodeID(o + 1); l.durable.rec.Fort.Owner == id || l.written.rec.Fort.Owner == id {
			return true
		}
	}
	return false
}
