// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// checker holds everything that nodes write, send and answer against what it works out by itself: from the disks alone it
// knows which log is accepted at which ballot by whom, hence what is chosen, and it applies the chosen log to a state of its
// own. The names in its errors (I1 to I16) are those of the design, section 10.
type checker struct {
	w      *World
	groups []groupCheck
}

// requestKey names a request of a group.
type requestKey struct{ session, seq uint64 }

// groupCheck is what is known of one group.
type groupCheck struct {
	chosen    []chosenEntry // by slot-1
	machine   *machine      // all of chosen applied
	ballots   map[consensus.Ballot]*ballotLog
	order     []*ballotLog
	effects   map[requestKey]result
	writes    map[consensus.Slot]write              // effective changes of keys
	places    map[place]proposal                    // that were proposed, and where
	floor     [keysMax]consensus.Slot               // the highest version of a key that a client was told
	est       map[uint64]bool                       // configurations in which a log was chosen
	stopping  uint64                                // the highest configuration that a stop-sign on some disk leads to
	released  map[consensus.NodeID]consensus.Ballot // the highest that its owner has said is over
	stops     uint64                                // stop-signs chosen
	ends      []uint64                              // the configurations that they lead to
	cancelled map[consensus.Ballot]bool             // that their proposers gave up
	nodes     []acceptorCheck                       // by node
	claims    []consensus.Closed                    // to slots that are not chosen yet
	closedTo  consensus.Timestamp                   // the latest of the others: what is chosen next is later
}

type write struct {
	key   uint8
	value uint64
}

type chosenEntry struct {
	entry  consensus.Entry
	hash   uint64 // of the state once it is applied
	at     Time
	ballot consensus.Ballot // at which it was first chosen
}

// acceptorCheck is what a node has on disk and has said of a group.
type acceptorCheck struct {
	promised, accepted consensus.Ballot // durable
	fort               consensus.Fort   // durable
	rec                consensus.Record // all of what is durable
	said               consensus.Ballot // the highest that it told others it promised or accepted
	made               int              // cores made
}

// ballotLog is the log of one ballot, and who has accepted how much of it.
type ballotLog struct {
	ballot   consensus.Ballot
	quorums  *quorum.Config
	home     quorum.Home
	homeSeen bool
	base     consensus.Slot // the log is known from here on
	entries  []consensus.Entry
	votes    []voteUpTo // by node
	pledged  []bool     // by node: it has told its owner that it promised, or is the owner and has it on disk
	global   bool       // its owner promised it as a global one, on its disk
	asked    bool       // its owner has said its home
	wanted   quorum.Home
	chosenTo consensus.Slot
	node     int                 // incarnation of the proposer: life and core
	bound    consensus.Timestamp // of its owner's times, as first told
	won      bool                // somebody relied on that, and a phase-1 quorum had promised it
	owned    bool                // its owner has accepted its log
	used     bool
}

type voteUpTo struct {
	yes  bool
	slot consensus.Slot
}

func newChecker(w *World) *checker {
	k := &checker{w: w, groups: make([]groupCheck, w.o.Groups)}
	for g := range k.groups {
		k.groups[g] = groupCheck{
			machine: newMachine(w.o.sessionLife()), ballots: map[consensus.Ballot]*ballotLog{}, effects: map[requestKey]result{},
			writes: map[consensus.Slot]write{}, est: map[uint64]bool{}, released: map[consensus.NodeID]consensus.Ballot{},
			places: map[place]proposal{}, cancelled: map[consensus.Ballot]bool{}, nodes: make([]acceptorCheck, nodesMax+1),
		}
	}
	return k
}

func (k *checker) fail(format string, args ...any) { k.w.fail(format, args...) }

// log is what is known of a ballot.
func (k *checker) log(g int, b consensus.Ballot) *ballotLog {
	gc := &k.groups[g]
	bl := gc.ballots[b]
	if bl == nil {
		cfg := k.w.configuration(b.Cfg)
		if cfg == nil {
			k.fail("ballot %v of a configuration that was never set", b)
			cfg = k.w.configuration(1)
		}
		bl = &ballotLog{ballot: b, quorums: cfg.Quorums, home: cfg.Quorums.All(), votes: make([]voteUpTo, nodesMax+1), pledged: make([]bool, nodesMax+1)}
		gc.ballots[b] = bl
		gc.order = append(gc.order, bl)
	}
	return bl
}

// durable is told what a batch of node n has made durable of a group.
func (k *checker) durable(n *node, sealed uint64, gw *groupWrite, im *image) {
	if gw.record == nil || k.w.failed() {
		return
	}
	gc, rec := &k.groups[gw.group], &im.rec
	ac := &gc.nodes[n.id]
	switch {
	case rec.Promised.Less(ac.promised):
		k.fail("I3: node %d group %d: promise fell from %v to %v", n.id, gw.group, ac.promised, rec.Promised)
	case rec.Accepted.Less(ac.accepted):
		k.fail("I3: node %d group %d: accepted fell from %v to %v", n.id, gw.group, ac.accepted, rec.Accepted)
	case rec.Promised.Less(rec.Accepted):
		k.fail("I3: node %d group %d: accepted %v above promised %v", n.id, gw.group, rec.Accepted, rec.Promised)
	case rec.First > rec.Applied+1 || rec.Applied > rec.Commit || rec.Commit > rec.Last:
		k.fail("I6: node %d group %d: first %d, applied %d, commit %d, last %d", n.id, gw.group, rec.First, rec.Applied, rec.Commit, rec.Last)
	}
	k.checkUntied(n, gw.group, ac, rec)
	k.follows(n, gw.group, &ac.rec, rec)
	ac.rec = *rec
	ac.promised, ac.accepted, ac.fort = rec.Promised, rec.Accepted, rec.Fort
	if b := rec.Promised; b.Node == n.id {
		k.log(gw.group, b).promisedItself(rec)
	}
	k.checkImage(n, gw.group, im)
	if k.w.failed() {
		return
	}
	// A log that was accepted below the promise is no new vote.
	if rec.Accepted == rec.Promised && !rec.Accepted.IsZero() {
		k.vote(n, sealed, gw, im)
	}
	k.checkApplied(n, gw.group, im)
}

// checkImage holds a record against the log beside it: I5.
func (k *checker) checkImage(n *node, g int, im *image) {
	rec := &im.rec
	if im.machine.applied != rec.Applied {
		k.fail("I6: node %d group %d: record counts %d applied, the state is of slot %d", n.id, g, rec.Applied, im.machine.applied)
	}
	if len(im.log) == 0 {
		if rec.Last != rec.Applied {
			k.fail("I5: node %d group %d: no log, and the record goes from %d to %d", n.id, g, rec.Applied, rec.Last)
		}
		return
	}
	if im.last() != rec.Last || im.first > rec.First && rec.First <= rec.Last {
		k.fail("I5: node %d group %d: log %d..%d, record %d..%d", n.id, g, im.first, im.last(), rec.First, rec.Last)
		return
	}
	if end := &im.log[len(im.log)-1].entry; end.Chain != rec.LastChain || end.Time != rec.LastTime {
		k.fail("I5: node %d group %d: record and log differ at slot %d", n.id, g, rec.Last)
	}
}

// vote counts what a node has accepted at a ballot.
func (k *checker) vote(n *node, sealed uint64, gw *groupWrite, im *image) {
	rec := &im.rec
	b := rec.Accepted
	bl := k.log(gw.group, b)
	before := bl.votes[n.id]
	if before.yes && before.slot >= rec.Last {
		return
	}
	if b.Cfg < sealed {
		k.fail("I10: node %d group %d accepts at %v, and has sealed all below configuration %d", n.id, gw.group, b, sealed)
	}
	if !bl.homeSeen {
		bl.homeSeen = true
		bl.home = rec.AcceptedHome
	} else if !bl.home.Equal(rec.AcceptedHome) {
		k.fail("I1: group %d: ballot %v has two homes", gw.group, b)
	}
	k.extend(n, gw, im, bl, before)
	if _, voter := bl.quorums.Index(n.id); !voter {
		k.fail("I1: group %d: node %d accepts at %v, and is no voter of it", gw.group, n.id, b)
		return
	}
	bl.votes[n.id] = voteUpTo{true, rec.Last}
	if b.Node == n.id && !before.yes {
		k.complete(n, gw.group, bl, im)
	}
	k.count(gw.group, bl)
}

// extend notes the entries of a log that a ballot has: I1.
func (k *checker) extend(n *node, gw *groupWrite, im *image, bl *ballotLog, before voteUpTo) {
	if len(bl.entries) == 0 && !before.yes && bl.base == 0 {
		bl.base = min(im.rec.Commit, im.rec.Last)
		if len(im.log) == 0 {
			bl.base = im.rec.Last - consensus.Slot(len(gw.committed))
		}
	}
	from := bl.base + 1
	if before.yes {
		from = max(from, before.slot+1)
	}
	for s := from; s <= im.rec.Last; s++ {
		var e *consensus.Entry
		if l := im.at(s); l != nil {
			e = &l.entry
		} else if i := int(s) - int(im.rec.Last) + len(gw.committed) - 1; i >= 0 && len(im.log) == 0 {
			e = &gw.committed[i] // a sole voter keeps no log
		}
		if e == nil {
			continue // trimmed, and so chosen: checkApplied has seen it
		}
		k.note(n, gw.group, bl, s, e)
		if k.w.failed() {
			return
		}
	}
}

func (k *checker) note(n *node, g int, bl *ballotLog, s consensus.Slot, e *consensus.Entry) {
	if gc := &k.groups[g]; e.Kind == consensus.StopSign {
		gc.stopping = max(gc.stopping, e.Next)
	}
	at := int(s - bl.base - 1)
	for len(bl.entries) < at {
		bl.entries = append(bl.entries, consensus.Entry{}) // not known
	}
	if at == len(bl.entries) {
		bl.entries = append(bl.entries, *e)
		if at > 0 {
			if prev := &bl.entries[at-1]; prev.Kind == consensus.StopSign && prev.Slot != 0 && bl.ballot.Cfg < prev.Next {
				k.fail("I10: group %d: slot %d follows a stop-sign to configuration %d at ballot %v", g, s, prev.Next, bl.ballot)
			}
		}
		return
	}
	switch have := &bl.entries[at]; {
	case have.Slot == 0:
		*have = *e
	case have.Chain != e.Chain:
		k.fail("I1: group %d: two values for slot %d at ballot %v: %s, and %s at node %d", g, s, bl.ballot, describe(have), describe(e), n.id)
	}
}

// count finds what a Q2 of the ballot has accepted.
func (k *checker) count(g int, bl *ballotLog) {
	gc := &k.groups[g]
	best, found := consensus.Slot(0), false
	for _, v := range bl.quorums.Voters() {
		s := bl.votes[v.Node]
		if !s.yes || found && s.slot <= best {
			continue
		}
		var set quorum.Set
		for j, o := range bl.quorums.Voters() {
			if ov := bl.votes[o.Node]; ov.yes && ov.slot >= s.slot {
				set = set.With(j)
			}
		}
		if bl.quorums.IsQ2(set, bl.home) {
			best, found = s.slot, true
		}
	}
	if !found {
		return
	}
	if !gc.est[bl.ballot.Cfg] {
		gc.est[bl.ballot.Cfg] = true
		if bl.ballot.Cfg > 1 {
			k.w.sometimes("a configuration was established")
		}
	}
	if best <= bl.chosenTo {
		return
	}
	bl.chosenTo = best
	k.completeAbove(g, bl, best)
	k.choose(g, bl, best)
}

// choose makes a ballot's log up to a slot chosen: I2.
func (k *checker) choose(g int, bl *ballotLog, upTo consensus.Slot) {
	gc := &k.groups[g]
	if n := min(upTo, consensus.Slot(len(gc.chosen))); n > bl.base {
		if e := &bl.entries[n-bl.base-1]; e.Slot != 0 && e.Chain != gc.chosen[n-1].entry.Chain {
			k.fail("I2: group %d: slot %d is chosen as %s at %v, and as %s at %v", g, n,
				describe(&gc.chosen[n-1].entry), gc.chosen[n-1].ballot, describe(e), bl.ballot)
			return
		}
	}
	for s := consensus.Slot(len(gc.chosen)) + 1; s <= upTo; s++ {
		if s <= bl.base || bl.entries[s-bl.base-1].Slot == 0 {
			k.fail("I2: group %d: slot %d is chosen at %v, and nobody has it", g, s, bl.ballot)
			return
		}
		if v := k.w.retired; bl.ballot.Cfg <= v {
			k.fail("I10: group %d: slot %d is chosen at %v, and configuration %d is retired", g, s, bl.ballot, v)
			return
		}
		e := bl.entries[s-bl.base-1]
		if s > 1 && gc.chosen[s-2].entry.Time >= e.Time {
			k.fail("I9: group %d: slot %d has time %d, the slot before %d", g, s, e.Time, gc.chosen[s-2].entry.Time)
		}
		k.notClosed(g, &e)
		k.append(g, bl.ballot, &e)
		if k.w.failed() {
			return
		}
	}
}

// append applies a chosen entry to the checker's own state: I12.
func (k *checker) append(g int, b consensus.Ballot, e *consensus.Entry) {
	gc := &k.groups[g]
	r, effective, err := gc.machine.apply(e)
	if err != nil {
		k.fail("I2: group %d: %v", g, err)
		return
	}
	if e.Kind == consensus.StopSign {
		gc.stops++
		gc.ends = append(gc.ends, e.Next)
		k.w.stats.StopSigns++
		k.w.sometimes("stop-sign chosen")
	} else if !gc.wanted(e) {
		k.fail("I2: group %d: slot %d is chosen with what nobody proposed there: %s", g, e.Slot, describe(e))
	}
	if mark := sessionMarks[r.status]; mark != "" {
		k.w.sometimes(mark)
	}
	if e.Seq != 0 {
		key := requestKey{e.Session, e.Seq}
		if effective {
			if _, twice := gc.effects[key]; twice {
				k.fail("I12: group %d: request %d/%d takes effect a second time in slot %d", g, e.Session, e.Seq, e.Slot)
			}
			gc.effects[key] = r
			c, _ := decodeCommand(e.Payload)
			if r.status == statusDone {
				gc.writes[e.Slot] = write{c.key, c.value}
			}
		} else if r.status == statusDone || r.status == statusRefused {
			k.w.sometimes("session duplicate suppressed at apply")
		}
	}
	gc.chosen = append(gc.chosen, chosenEntry{*e, gc.machine.hash, k.w.now, b})
	k.w.stats.Chosen++
}

// sessionMarks are the ways in which a session is refused when a request is applied.
// shared: only read.
var sessionMarks = map[status]string{
	statusExpired: "a session had expired", statusForgot: "an answer was no longer known", statusFull: "there were too many sessions",
}

// checkApplied checks what a disk says is committed and applied: I2, I14.
func (k *checker) checkApplied(n *node, g int, im *image) {
	gc, rec := &k.groups[g], &im.rec
	if rec.Commit > consensus.Slot(len(gc.chosen)) {
		k.fail("I2: node %d group %d holds slot %d committed, chosen are %d", n.id, g, rec.Commit, len(gc.chosen))
		return
	}
	if s := rec.Commit; s > 0 {
		chain, known := uint64(0), false
		if l := im.at(s); l != nil {
			chain, known = l.entry.Chain, true
		} else if s == rec.Applied {
			chain, known = rec.AppliedChain, true
		}
		if want := gc.chosen[s-1].entry.Chain; known && chain != want {
			k.fail("I2: node %d group %d holds slot %d committed with chain %016x, chosen is %016x", n.id, g, s, chain, want)
		}
	}
	k.checkState(n, g, im.machine)
	if rec.Applied > 0 && rec.Applied == consensus.Slot(len(gc.chosen)) && slices.Contains(k.w.registry.Newest().Learners, n.id) {
		k.w.sometimes("learner caught up")
	}
	if est := rec.Established; est > 1 && !k.anyEst(gc, est) {
		k.fail("I11: node %d group %d holds configuration %d established, and no log was chosen in it", n.id, g, est)
	}
	if rec.StopSlot != 0 {
		if rec.StopSlot > consensus.Slot(len(gc.chosen)) || gc.chosen[rec.StopSlot-1].entry.Kind != consensus.StopSign {
			k.fail("I10: node %d group %d holds slot %d for a chosen stop-sign", n.id, g, rec.StopSlot)
		}
	}
}

func (k *checker) anyEst(gc *groupCheck, cfg uint64) bool { return gc.est[cfg] }

// checkState holds a state against the checker's of the same slot.
func (k *checker) checkState(n *node, g int, m *machine) {
	gc := &k.groups[g]
	if m.applied == 0 {
		return
	}
	if m.applied > consensus.Slot(len(gc.chosen)) {
		k.fail("I2: node %d group %d has applied slot %d, chosen are %d", n.id, g, m.applied, len(gc.chosen))
		return
	}
	if want := gc.chosen[m.applied-1].hash; m.hash != want {
		k.fail("I14: node %d group %d has state %016x at slot %d, others %016x", n.id, g, m.hash, m.applied, want)
	}
	if m.applied == gc.machine.applied && m.content != gc.machine.content {
		k.fail("I14: node %d group %d has other contents at slot %d", n.id, g, m.applied)
	}
}

// applied is told each entry that is applied to the state that clients see, durable or not.
func (k *checker) applied(n *node, g int, e *consensus.Entry, _ result, _ bool) {
	if n.groups[g].ready.Atomic {
		return // chosen when it is durable
	}
	gc := &k.groups[g]
	if e.Slot > consensus.Slot(len(gc.chosen)) {
		k.fail("I2: node %d group %d applies slot %d, chosen are %d", n.id, g, e.Slot, len(gc.chosen))
	} else if want := gc.chosen[e.Slot-1].entry.Chain; e.Chain != want {
		k.fail("I2: node %d group %d applies slot %d with chain %016x, chosen is %016x", n.id, g, e.Slot, e.Chain, want)
	}
}

// ready checks what a core hands out, by itself.
func (k *checker) ready(n *node, r *replica) {
	rd := &r.ready
	if rd.Record == nil {
		if len(rd.Entries) > 0 || len(rd.Committed) > 0 || rd.TruncateFrom != 0 || rd.CompactTo != 0 || len(rd.Withdrawals) > 0 || rd.Snapshot != nil || rd.Clock != 0 {
			k.fail("node %d group %d: a Ready that writes without its record", n.id, r.g)
		}
		return
	}
	if len(rd.Committed) > 0 && rd.Committed[len(rd.Committed)-1].Slot != rd.Record.Applied {
		k.fail("I6: node %d group %d: record counts %d applied, the Ready ends at %d", n.id, r.g, rd.Record.Applied, rd.Committed[len(rd.Committed)-1].Slot)
	}
	if !rd.MustSync && (len(rd.Entries) > 0 || rd.TruncateFrom != 0 || len(rd.Withdrawals) > 0 || rd.Clock != 0) {
		k.fail("I4: node %d group %d: a log, a withdrawal or a clock that need not be durable", n.id, r.g)
	}
	if rd.CompactTo > rd.Record.Applied {
		k.fail("I6: node %d group %d: log compacted to %d, applied is %d", n.id, r.g, rd.CompactTo, rd.Record.Applied)
	}
	if rd.Atomic && (!rd.MustSync && len(rd.Committed) > 0 || len(rd.Entries) > 0) {
		k.fail("node %d group %d: an atomic Ready that need not be durable, or writes a log", n.id, r.g)
	}
}

// describe is an entry in a few words.
func describe(e *consensus.Entry) string {
	return fmt.Sprintf("%d@%v:%d/%d:%x", e.Slot, e.Ballot, e.Session, e.Seq, e.Payload)
}

// proposed is told what a node proposes for a client.
func (k *checker) proposed(n *node, g int, slot consensus.Slot, q *rpc) {
	gc := &k.groups[g]
	st := n.groups[g].core.Status()
	if st.State < consensus.Won || st.Ballot.Node != n.id {
		k.fail("node %d group %d proposed slot %d as %v", n.id, g, slot, st.State)
	}
	// What a sole voter proposes is lost without a trace, its ballot too, if its batch is: then both can come again.
	at, made := place{st.Ballot, slot}, gc.nodes[n.id].made
	if prior, twice := gc.places[at]; twice && (prior.made == made || !prior.sole) {
		k.fail("I1: node %d group %d proposes a second time in slot %d at %v", n.id, g, slot, st.Ballot)
	}
	gc.places[at] = proposal{q.session, q.seq, q.command, made, st.SoleVoter}
}

// wanted reports whether some client asked for what an entry holds, and its owner put it there.
func (gc *groupCheck) wanted(e *consensus.Entry) bool {
	c, err := decodeCommand(e.Payload)
	p, ok := gc.places[place{e.Ballot, e.Slot}]
	return err == nil && ok && p == proposal{e.Session, e.Seq, c, p.made, p.sole}
}

// untouched checks that no key of a group that nobody used is on any disk: I15.
func (k *checker) untouched() {
	for g := range k.groups {
		if k.w.used[g] {
			continue
		}
		for _, n := range k.w.nodes {
			if n.disk.durable.groups[g] != nil || n.disk.view.groups[g] != nil {
				k.fail("I15: group %d was never used, and node %d has a record of it", g, n.id)
			}
		}
	}
}

// agree checks at the end that states of one slot are equal in all that they hold.
func (k *checker) agree() {
	for g := range k.groups {
		tables := map[consensus.Slot]uint64{}
		for _, n := range k.w.nodes {
			im := n.disk.view.groups[g]
			if im == nil || im.machine.applied == 0 || n.gone {
				continue
			}
			if im.machine.contents() != im.machine.content {
				k.fail("I14: node %d group %d: contents are not what they were", n.id, g)
			}
			h := mix(im.machine.tableHash()) ^ im.machine.content
			if have, seen := tables[im.machine.applied]; seen && have != h {
				k.fail("I14: group %d: node %d has other sessions or keys at slot %d", g, n.id, im.machine.applied)
			}
			tables[im.machine.applied] = h
		}
	}
}
