// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// scope bounds an exploration: node 1 is the supporter and only acceptor, nodes 2 and 3 want its lease.
type scope struct {
	name string
	// steps of true time; a clock goes on by its node's rate in each.
	steps int
	rates [3]Timestamp
	// How often each may happen.
	// Nodes 2 and 3 campaign in turn.
	campaigns, restarts, repeats int
	// inflight is how many messages may be under way; what would be more is not sent now.
	inflight int
}

// scene is one state of the explored system.
type scene struct {
	members  [3]*member
	clocks   [3]Timestamp
	net      []parcel // sorted
	time     int
	left     [3]int // campaigns, restarts, repeats
	campaign uint64
}

func (s *scene) clone(touched int) *scene {
	d := *s
	d.net = slices.Clone(s.net)
	if touched >= 0 {
		d.members[touched] = s.members[touched].clone()
	}
	return &d
}

// The wall clock stands still beside the boot clock, as far as the comparison of the two can tell.
const exploreWall = 1 << 40

func (s *scene) tick(i int) { s.members[i].core.Tick(s.clocks[i], s.clocks[i]+exploreWall) }

func (s *scene) send(ps []parcel) {
	s.net = append(s.net, ps...)
	slices.SortFunc(s.net, compareParcels)
}

// toSupporter leaves out what contenders say to each other: it changes nothing here.
func toSupporter(p parcel) bool { return p.from == 1 || p.to == 1 }

func compareParcels(a, b parcel) int {
	return slices.Compare(a.key(), b.key())
}

func (p parcel) key() []uint64 {
	return []uint64{
		uint64(p.kind), uint64(p.from), uint64(p.to), p.ballot, p.epoch,
		uint64(p.live.Type), p.live.Epoch, p.live.Seq, p.live.Support, p.live.MinEpoch,
	}
}

// appendTo encodes all that the future rests on. Times are relative to the clocks, so that states of different times meet.
func (s *scene) appendTo(dst []byte) []byte {
	u := func(vs ...uint64) {
		for _, v := range vs {
			dst = binary.AppendUvarint(dst, v)
		}
	}
	u(uint64(s.time), uint64(s.left[0]), uint64(s.left[1]), uint64(s.left[2]))
	for i, m := range s.members {
		dst = m.core.AppendState(dst)
		u(m.disk.epoch, m.disk.tie.promised, uint64(m.disk.tie.owner), m.disk.tie.epoch, m.tie.promised, uint64(m.tie.owner), m.tie.epoch, m.ballot)
		for n := range m.disk.minEpochs {
			u(m.disk.minEpochs[n], m.votes[n].epoch)
		}
		flags := uint64(i)
		for j, b := range []bool{m.dirty, m.syncing, m.votes[1].taken} {
			if b {
				flags |= 4 << j
			}
		}
		u(flags, uint64(len(m.answers)), uint64(len(m.after)))
		for _, p := range slices.Concat(m.answers, m.after) {
			u(p.key()...)
		}
		if m.syncing {
			u(m.batch.epoch, m.batch.tie.promised, uint64(m.batch.tie.owner), m.batch.tie.epoch)
			u(m.batch.minEpochs[:]...)
		}
	}
	for _, p := range s.net {
		u(p.key()...)
	}
	return dst
}

// explorer goes through all states of a scope, depth first.
type explorer struct {
	scope scope
	seen  map[[16]byte]struct{} // states by hash: 128 bits do not meet by chance
	buf   []byte
	steps int // transitions taken
	held  int // states in which somebody holds the lease
	path  []string
}

func (x *explorer) first() (*scene, error) {
	s := &scene{left: [3]int{x.scope.campaigns, x.scope.restarts, x.scope.repeats}}
	for i := range s.members {
		// In a step the slowest clock goes on by 9, the fastest by 11: ρ is 0.1.
		o := Options{Interval: 10, Support: 20, DriftPPM: 100_000, SyncStall: 1e6, ClockJumpMax: 1e6, Peers: []NodeID{1, 2, 3}}
		if i > 0 {
			o.Peers = []NodeID{1}
		}
		s.members[i] = &member{id: NodeID(i + 1), options: o, acceptors: []NodeID{1}, quorum: 1}
		s.clocks[i] = 100
		if err := s.members[i].start(); err != nil {
			return nil, err
		}
		s.tick(i)
		s.pumpAll(i, x.scope.inflight)
	}
	return s, nil
}

// pumpAll lets a member send, as far as the network has room: what does not fit is lost.
func (s *scene) pumpAll(i, inflight int) {
	out := slices.DeleteFunc(s.members[i].pump(), func(p parcel) bool { return !toSupporter(p) })
	// The supporter's own heartbeats change nothing in this scope.
	out = slices.DeleteFunc(out, func(p parcel) bool { return p.kind == live && p.from == 1 && p.live.Type == Heartbeat })
	s.send(out[:min(len(out), max(0, inflight-len(s.net)))])
}

// idle reports whether a message can do nothing any more, whatever happens next.
func (s *scene) idle(p parcel) bool {
	m := s.members[p.to-1]
	switch {
	case p.kind == taken:
		return p.ballot != m.ballot
	case p.kind != live:
		return p.ballot < m.disk.tie.promised
	case p.live.Type == Heartbeat:
		q := m.core.find(p.from)
		return s.left[1] == 0 && (p.live.Epoch < q.epoch || (p.live.Epoch == q.epoch && p.live.Seq <= q.seq))
	}
	sent := m.core.sentAt[p.live.Seq%RoundsMax]
	return p.live.Epoch < m.core.epoch || p.live.Seq <= m.core.find(p.from).heldSeq ||
		(p.live.Support > 0 && sent+p.live.Support <= m.core.mono)
}

// visit judges a state and goes on from it, unless it was seen.
func (x *explorer) visit(s *scene) error {
	x.steps++
	s.net = slices.DeleteFunc(s.net, s.idle)
	x.buf = s.appendTo(x.buf[:0])
	sum := sha256.Sum256(x.buf)
	key := [16]byte(sum[:16])
	if _, ok := x.seen[key]; ok {
		return nil
	}
	x.seen[key] = struct{}{}
	if err := judge(s.members[:], 0); err != nil {
		return fmt.Errorf("%w, after:\n%s", err, strings.Join(x.path, "\n"))
	}
	if s.members[1].holds() || s.members[2].holds() {
		x.held++
	}
	return x.successors(s)
}

func (x *explorer) try(what string, s *scene) error {
	x.path = append(x.path, what)
	err := x.visit(s)
	x.path = x.path[:len(x.path)-1]
	return err
}

// successors tries each thing that can happen next.
func (x *explorer) successors(s *scene) error {
	if s.time < x.scope.steps {
		d := s.clone(-1)
		d.time++
		for i := range d.members {
			d.members[i] = d.members[i].clone()
			d.clocks[i] += x.scope.rates[i]
			d.tick(i)
			d.pumpAll(i, x.scope.inflight)
		}
		if err := x.try("time goes on", d); err != nil {
			return err
		}
	}
	for i := range s.net {
		if i > 0 && s.net[i] == s.net[i-1] {
			continue
		}
		if err := x.deliveries(s, i); err != nil {
			return err
		}
	}
	for i := range s.members {
		if err := x.local(s, i); err != nil {
			return err
		}
	}
	return nil
}

// deliveries of one message: it comes, comes and stays under way, or is lost.
func (x *explorer) deliveries(s *scene, i int) error {
	p := s.net[i]
	to := int(p.to) - 1
	for _, repeat := range []bool{false, true} {
		if repeat && s.left[2] == 0 {
			continue
		}
		d := s.clone(to)
		what := "comes: "
		if repeat {
			what = "comes, and once more later: "
			d.left[2]--
		} else {
			d.net = slices.Delete(d.net, i, i+1)
		}
		if err := d.members[to].step(p); err != nil {
			return fmt.Errorf("%w, on %v, after:\n%s", err, p, strings.Join(x.path, "\n"))
		}
		d.pumpAll(to, x.scope.inflight)
		if err := x.try(what+p.String(), d); err != nil {
			return err
		}
	}
	if len(s.net) < x.scope.inflight {
		return nil // one that stays under way is as good as lost
	}
	d := s.clone(-1)
	d.net = slices.Delete(d.net, i, i+1)
	return x.try("is lost: "+p.String(), d)
}

// local is what a member does by itself: its disk syncs, it crashes and starts, it campaigns or renews.
func (x *explorer) local(s *scene, i int) error {
	m := s.members[i]
	if m.syncing {
		d := s.clone(i)
		d.send(slices.DeleteFunc(d.members[i].sync(), func(parcel) bool { return len(d.net) >= x.scope.inflight }))
		d.pumpAll(i, x.scope.inflight)
		if err := x.try(fmt.Sprintf("node %d has synced", m.id), d); err != nil {
			return err
		}
	}
	if s.left[1] > 0 {
		d := s.clone(i)
		d.left[1]--
		d.members[i].crash()
		if err := d.members[i].start(); err != nil {
			return err
		}
		d.tick(i)
		d.pumpAll(i, x.scope.inflight)
		if err := x.try(fmt.Sprintf("node %d starts again", m.id), d); err != nil {
			return err
		}
	}
	if i == 0 || len(s.net) >= x.scope.inflight {
		return nil
	}
	if next := x.scope.campaigns - s.left[0]; s.left[0] > 0 && next%2 == i-1 {
		d := s.clone(i)
		d.left[0]--
		d.campaign++
		d.send(d.members[i].campaign(d.campaign))
		if err := x.try(fmt.Sprintf("node %d campaigns", m.id), d); err != nil {
			return err
		}
	}
	if m.ballot != 0 && m.votes[1].taken && m.votes[1].epoch != m.core.Epoch() {
		d := s.clone(i)
		if ps := d.members[i].renew(); len(ps) > 0 && !slices.Contains(s.net, ps[0]) {
			d.send(ps)
			return x.try(fmt.Sprintf("node %d renews", m.id), d)
		}
	}
	return nil
}

func (x *explorer) run() error {
	x.seen = map[[16]byte]struct{}{}
	s, err := x.first()
	if err != nil {
		return err
	}
	return x.visit(s)
}

// scopes are explored by default; the longer by ATLAS_LONG. Supporter fast and contenders slow is the worst for rule A2.
func scopes() []scope {
	worst, mixed := [3]Timestamp{11, 9, 9}, [3]Timestamp{9, 11, 9}
	list := []scope{
		{name: "two contenders", steps: 3, rates: worst, campaigns: 2, inflight: 2},
		{name: "restart", steps: 3, rates: worst, restarts: 1, inflight: 2},
		{name: "repeat", steps: 4, rates: worst, repeats: 1, inflight: 2},
		{name: "other clocks", steps: 3, rates: mixed, campaigns: 1, inflight: 2},
	}
	if slow {
		return list[1:3]
	}
	if os.Getenv("ATLAS_LONG") != "" {
		list = append(list,
			scope{name: "long contenders", steps: 4, rates: worst, campaigns: 2, inflight: 2},
			scope{name: "long restart", steps: 3, rates: worst, campaigns: 2, restarts: 1, inflight: 2},
			scope{name: "long repeat", steps: 3, rates: worst, campaigns: 2, repeats: 1, inflight: 2},
			scope{name: "long other clocks", steps: 3, rates: mixed, campaigns: 2, restarts: 1, inflight: 2},
		)
	}
	return list
}

// TestExplore goes through every state of two contenders and one supporter within each scope: all orders of time going on, messages coming,
// coming twice or being lost, syncs, crashes and campaigns. In none are there two leases, or support counted on that is not given.
func TestExplore(t *testing.T) {
	for _, sc := range scopes() {
		t.Run(sc.name, func(t *testing.T) {
			x := &explorer{scope: sc}
			if err := x.run(); err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v: %d distinct states, %d with a lease, %d transitions", sc, len(x.seen), x.held, x.steps)
			if x.held == 0 && sc.campaigns > 0 {
				t.Error("nobody ever held the lease, so that nothing is proved")
			}
		})
	}
}
