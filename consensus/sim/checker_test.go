// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/liveness"
	"github.com/atlas-edge/atlas/consensus/reconfig"
)

// stage is a world of three nodes in which nothing runs: a test writes to the disks by hand, and hears what the checker says.
type stage struct{ *World }

func newStage(t *testing.T, regions string) *stage {
	t.Helper()
	o := Draw(1)
	if err := o.SetAll(regions + " fz=0 groups=3 clients=1 keys=2 drift=0"); err != nil {
		t.Fatal(err)
	}
	return &stage{NewWorld(o, Setup{})}
}

func ballot(cfg, round, node uint64) consensus.Ballot {
	return consensus.Ballot{Cfg: cfg, Round: round, Node: consensus.NodeID(node)}
}

// made is a chain of entries as one owner makes it: command i writes value i, in its own slot.
func (s *stage) made(b consensus.Ballot, values ...uint64) []consensus.Entry {
	var list []consensus.Entry
	for i, v := range values {
		c := command{verb: verbPut, value: v}
		e := consensus.Entry{
			Slot: consensus.Slot(i + 1), Ballot: b, Time: uint64(100 * (i + 1)), Payload: c.appendTo(nil), Session: 1, Seq: v,
			Chain: mix(v + uint64(i)<<32),
		}
		if i == 0 { // the session
			c = command{verb: verbOpen}
			e.Payload, e.Session, e.Seq = c.appendTo(nil), 0, 0
		}
		s.check.groups[0].places[place{b, e.Slot}] = proposal{session: e.Session, seq: e.Seq, command: c}
		list = append(list, e)
	}
	return list
}

// promised is the record of who has promised a global ballot, and nothing else.
func promised(b consensus.Ballot) consensus.Record {
	rec := consensus.Record{Promised: b, First: 1}
	rec.GlobalPromises[0].Ballot = b
	return rec
}

// store makes a record and a log durable on a node, as one batch.
func (s *stage) store(id consensus.NodeID, rec consensus.Record, log []consensus.Entry, committed int) {
	n := s.node(id)
	if !rec.Accepted.IsZero() {
		rec.AcceptedHome = s.configuration(rec.Accepted.Cfg).Quorums.All()
	}
	n.groups = make([]*replica, s.o.Groups)
	n.groups[0] = &replica{n: n}
	gw := groupWrite{record: rec.Append(nil), truncateFrom: 1, rec: rec}
	for _, e := range log {
		gw.entries = append(gw.entries, logged{bytes: e.AppendTo(nil), entry: e})
	}
	if im := n.disk.view.groups[0]; im != nil {
		committed -= int(im.machine.applied)
		gw.committed = log[im.machine.applied:][:committed]
	} else {
		gw.committed = log[:committed]
	}
	s.must(n.write(batch{groups: []groupWrite{gw}}, nil))
	s.must(n.sync())
}

// accepted is the record of a node that has accepted a log at a ballot.
func accepted(b consensus.Ballot, log []consensus.Entry, commit, applied int) consensus.Record {
	rec := consensus.Record{Promised: b, Accepted: b, Commit: consensus.Slot(commit), Applied: consensus.Slot(applied), First: 1}
	if n := len(log); n > 0 {
		rec.Last, rec.LastChain, rec.LastTime = log[n-1].Slot, log[n-1].Chain, log[n-1].Time
	}
	if applied > 0 {
		rec.AppliedChain, rec.AppliedTime = log[applied-1].Chain, log[applied-1].Time
	}
	return rec
}

// TestCheckerSees plants one violation a case, and says which invariant has to name it.
func TestCheckerSees(t *testing.T) {
	b1, b2 := ballot(1, 1, 1), ballot(1, 2, 2)
	for _, c := range []struct {
		name, want string
		do         func(s *stage)
	}{
		{"nothing is wrong", "", func(s *stage) {
			log := s.made(b1, 1, 2, 3)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 3, 2), log, 2)
			s.store(2, accepted(b1, log, 3, 3), log, 3)
		}},
		{"two values at a ballot", "I1", func(s *stage) {
			log, other := s.made(b1, 1, 2), s.made(b1, 1, 3)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, other, 0, 0), other, 0)
		}},
		{"two values chosen", "I2", func(s *stage) {
			log, other := s.made(b1, 1, 2), s.made(b2, 1, 3)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(3, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b2, other, 0, 0), other, 0)
			s.store(3, accepted(b2, other, 0, 0), other, 0)
		}},
		{"committed and not chosen", "I2", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 1, 0), log, 0)
		}},
		{"nobody proposed it", "I2", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.check.groups[0].places = map[place]proposal{}
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
		}},
		{"promise falls", "I3", func(s *stage) {
			s.store(1, consensus.Record{Promised: b2, First: 1}, nil, 0)
			s.store(1, consensus.Record{Promised: b1, First: 1}, nil, 0)
		}},
		{"accepted above promised", "I3", func(s *stage) {
			log := s.made(b2, 1)
			rec := accepted(b2, log, 0, 0)
			rec.Promised = b1
			n := s.node(1)
			s.check.durable(n, 0, &groupWrite{record: []byte{1}}, &image{rec: rec, first: 1, machine: s.blank})
		}},
		{"promise before it is durable", "I4", func(s *stage) {
			s.check.sent(s.node(2), 0, &consensus.Message{Type: consensus.Promise, From: 2, To: 1, Ballot: b1})
		}},
		{"ack before it is durable", "I4", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(2, accepted(b1, log[:1], 0, 0), log[:1], 0)
			s.check.sent(s.node(2), 0, &consensus.Message{Type: consensus.Accepted, From: 2, To: 1, Ballot: b1, Slot: 2})
		}},
		{"prepare before it is durable", "I4", func(s *stage) {
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.Prepare, From: 1, To: 2, Ballot: b1})
		}},
		{"a ballot is over that could come again", "I4", func(s *stage) {
			s.store(2, consensus.Record{Promised: b1, First: 1}, nil, 0)
			s.check.sent(s.node(2), 0, &consensus.Message{Type: consensus.PrePromise, From: 2, To: 1, Ballot: b2, Release: ballot(1, 2, 2)})
		}},
		{"record beyond the log", "I5", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log[:1], 0)
		}},
		{"applied more than the record says", "I6", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 1)
		}},
		{"commit falls", "I6", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 2, 0), log, 0)
			s.store(2, accepted(b1, log, 1, 0), log, 0)
		}},
		{"time runs back", "I9", func(s *stage) {
			log := s.made(b1, 1, 2)
			log[1].Time = log[0].Time
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
		}},
		{"claims and stale reads that hold", "", func(s *stage) {
			log := s.made(b1, 1, 2, 3)
			s.store(1, accepted(b1, log[:2], 0, 0), log[:2], 0)
			s.store(2, accepted(b1, log[:2], 2, 2), log[:2], 2)
			s.check.closed(s.node(1), 0, consensus.Closed{Slot: 1, Time: 199})
			s.check.closed(s.node(1), 0, consensus.Closed{Slot: 2, Time: 299})
			s.check.closed(s.node(1), 0, consensus.Closed{Slot: 3, Time: 400}) // slot 3 may yet be of any time
			s.check.staleRead(s.node(2), 0, 299, s.node(2).disk.view.groups[0].machine)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 2, 2), log, 2)
		}},
		{"closed below what is chosen", "I9", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
			s.check.closed(s.node(1), 0, consensus.Closed{Slot: 1, Time: 200})
		}},
		{"chosen at a time that is closed", "I9", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log[:1], 0, 0), log[:1], 0)
			s.check.closed(s.node(1), 0, consensus.Closed{Slot: 1, Time: 200}) // before anything is known to be chosen
			s.store(2, accepted(b1, log[:1], 0, 0), log[:1], 0)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
		}},
		{"a stale read that lacks what is chosen", "I9", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 2, 1), log, 1)
			s.check.staleRead(s.node(2), 0, 200, s.node(2).disk.view.groups[0].machine)
		}},
		{"chosen at a time that was read", "I9", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log[:1], 0, 0), log[:1], 0)
			s.store(2, accepted(b1, log[:1], 0, 0), log[:1], 0)
			s.store(2, accepted(b1, log[:1], 1, 1), log[:1], 1)
			s.check.staleRead(s.node(2), 0, 200, s.node(2).disk.view.groups[0].machine)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 1, 1), log, 1)
		}},
		{"a clock is told that is not durable", "I4", func(s *stage) {
			s.check.sentLive(s.node(1), &liveness.Message{Type: liveness.HeartbeatAck, HLC: 1})
		}},
		{"accepts what it has sealed", "I10", func(s *stage) {
			n := s.node(1)
			s.must(n.write(batch{minCfg: 2}, nil))
			s.must(n.sync())
			log := s.made(b1, 1)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
		}},
		{"goes on after a stop-sign", "I10", func(s *stage) {
			log := s.made(b1, 1, 2, 3)
			log[1] = consensus.Entry{Slot: 2, Ballot: b1, Time: 200, Kind: consensus.StopSign, Next: 2, Chain: 7}
			s.store(1, accepted(b1, log, 0, 0), log, 0)
		}},
		{"chosen in a configuration that is retired", "I10", func(s *stage) {
			s.retired = 1
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
		}},
		{"established by nobody", "I11", func(s *stage) {
			s.store(1, consensus.Record{Promised: b1, First: 1, Established: 2}, nil, 0)
		}},
		{"takes effect twice", "I12", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.check.groups[0].effects[requestKey{1, 2}] = result{}
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
		}},
		{"another state", "I14", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
			s.node(2).disk.durable.groups[0].machine.hash++
			s.store(2, accepted(b1, log, 2, 2), log, 2)
		}},
		{"other contents", "I14", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 2, 2), log, 2)
			s.node(2).disk.view.groups[0].machine.keys[0].value++
			s.check.agree()
		}},
		{"less is committed than was", "I6", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 2, 0), log, 0)
			s.store(2, accepted(b1, log, 1, 0), log, 0)
		}},
		{"what was accepted is gone", "I5", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(1, accepted(b1, log[:1], 0, 0), log[:1], 0)
		}},
		{"an older state is taken over", "I6", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 2, 2), log, 2)
			n, older := s.node(2), newMachine(s.o.sessionLife())
			_, _, err := older.apply(&log[0])
			s.must(err)
			rec := accepted(b1, log, 1, 1)
			s.must(n.write(batch{groups: []groupWrite{{record: rec.Append(nil), rec: rec, snapshot: older}}}, nil))
			s.must(n.sync())
		}},
		{"another establishes less", "I11", func(s *stage) {
			s.check.groups[0].est[2] = true
			s.store(1, consensus.Record{Promised: b1, First: 1, Established: 2}, nil, 0)
			s.store(1, consensus.Record{Promised: b1, First: 1, Established: 1}, nil, 0)
		}},
		{"tied to an earlier life", "I16", func(s *stage) {
			for epoch := uint64(2); epoch > 0; epoch-- {
				log := s.made(b1, 1)
				rec := accepted(b1, log, 0, 0)
				rec.Fort = consensus.Fort{Owner: 1, Epoch: epoch}
				s.store(2, rec, log, 0)
			}
		}},
		{"untied for nothing", "I16", func(s *stage) {
			log := s.made(b1, 1)
			rec := accepted(b1, log, 0, 0)
			rec.Fort = consensus.Fort{Owner: 1, Epoch: 1}
			s.store(2, rec, log, 0)
			rec.Fort = consensus.Fort{}
			s.check.groups[0].released[1] = b1
			s.store(2, rec, log, 0)
		}},
		{"a global promise is forgotten", "I3", func(s *stage) {
			rec := consensus.Record{Promised: b1, First: 1}
			rec.GlobalPromises[0].Ballot = b1
			s.store(2, rec, nil, 0)
			s.store(2, consensus.Record{Promised: b1, First: 1}, nil, 0)
		}},
		{"a global promise that was given up", "", func(s *stage) {
			rec := consensus.Record{Promised: b1, First: 1}
			rec.GlobalPromises[0].Ballot = b1
			s.store(2, rec, nil, 0)
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.Cancel, From: 1, To: 2, Ballot: b1})
			s.store(2, consensus.Record{Promised: b1, First: 1}, nil, 0)
		}},
		{"gives up what it has won", "I3", func(s *stage) {
			s.check.log(0, b1).won = true
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.Cancel, From: 1, To: 2, Ballot: b1})
		}},
		{"writes at a ballot that is not won", "I3", func(s *stage) {
			s.store(1, promised(b1), nil, 0)
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.AcceptSync, From: 1, To: 2, Ballot: b1})
		}},
		{"writes at a ballot of too few of a home", "I3", func(s *stage) {
			s.store(1, consensus.Record{Promised: b1, First: 1}, nil, 0)
			all := s.configuration(1).Quorums.All()
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.Prepare, From: 1, To: 2, Ballot: b1, Scope: consensus.Local, Home: all})
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.AcceptSync, From: 1, To: 2, Ballot: b1})
		}},
		{"writes at a ballot that is won", "", func(s *stage) {
			s.store(1, promised(b1), nil, 0)
			s.store(2, promised(b1), nil, 0)
			s.check.sent(s.node(2), 0, &consensus.Message{Type: consensus.Promise, From: 2, To: 1, Ballot: b1})
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.AcceptSync, From: 1, To: 2, Ballot: b1})
			s.check.sent(s.node(2), 0, &consensus.Message{Type: consensus.PrePrepare, From: 2, To: 3, Ballot: b2, Accepted: b1})
		}},
		{"gives its state at a ballot that is not won", "I3", func(s *stage) {
			s.store(1, promised(b1), nil, 0)
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.Snapshot, From: 1, To: 2, Ballot: b1})
		}},
		{"shows a ballot for won that is not", "I3", func(s *stage) {
			s.store(1, promised(b1), nil, 0)
			s.store(2, promised(b1), nil, 0)
			s.check.sent(s.node(2), 0, &consensus.Message{Type: consensus.PrePrepare, From: 2, To: 3, Ballot: b2, Accepted: b1})
		}},
		{"wins without what is chosen", "I2", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(3, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b2, log[:1], 0, 0), log[:1], 0)
		}},
		{"is won without what is chosen below it", "I2", func(s *stage) {
			log := s.made(b1, 1, 2)
			s.store(2, accepted(b2, log[:1], 0, 0), log[:1], 0)
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(3, accepted(b1, log, 0, 0), log, 0)
		}},
		{"chosen elsewhere than proposed", "I2", func(s *stage) {
			log := s.made(b1, 1, 2)
			places := s.check.groups[0].places
			places[place{b1, 3}] = places[place{b1, 2}]
			delete(places, place{b1, 2})
			s.store(1, accepted(b1, log, 0, 0), log, 0)
			s.store(2, accepted(b1, log, 0, 0), log, 0)
		}},
		{"tells for chosen what is not", "I2", func(s *stage) {
			s.store(1, consensus.Record{Promised: b1, First: 1}, nil, 0)
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.Accept, From: 1, To: 2, Ballot: b1, Commit: 1})
		}},
		{"promises with another log than it has", "I4", func(s *stage) {
			log := s.made(b1, 1)
			rec := accepted(b1, log, 0, 0)
			rec.Promised = b2
			s.store(3, rec, log, 0)
			s.check.sent(s.node(3), 0, &consensus.Message{Type: consensus.Promise, From: 3, To: 2, Ballot: b2})
		}},
		{"a key of an untouched group", "I15", func(s *stage) {
			s.store(1, consensus.Record{Promised: b1, First: 1}, nil, 0)
			s.check.untouched()
		}},
		{"a read below what was returned", "I8", func(s *stage) {
			s.check.finished(&Op{verb: verbGet, Outcome: Done, Version: 3, Floor: 4})
		}},
		{"a read of what the log has not", "I8", func(s *stage) {
			s.check.finished(&Op{verb: verbGet, Outcome: Done, Version: 3, Value: 9})
		}},
		{"certainly not done, and done", "I8", func(s *stage) {
			s.check.groups[0].effects[requestKey{1, 2}] = result{status: statusDone, version: 2}
			s.check.notDone([]Op{{verb: verbPut, Outcome: NotDone, session: 1, seq: 2}})
		}},
		{"comes back with less than it said", "I3", func(s *stage) {
			s.check.groups[0].nodes[1].said = b2
			s.node(1).boot()
			s.node(1).open(0)
		}},
		{"a ballot of an earlier core", "earlier core", func(s *stage) {
			s.store(1, consensus.Record{Promised: b1, First: 1}, nil, 0)
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.Prepare, From: 1, To: 2, Ballot: b1})
			s.check.groups[0].nodes[1].made++
			s.check.sent(s.node(1), 0, &consensus.Message{Type: consensus.Prepare, From: 1, To: 2, Ballot: b1})
		}},
		{"a voter of another configuration", "no voter", func(s *stage) {
			c := s.registry.Newest()
			c.Version, c.Voters = 2, c.Voters[:2]
			s.must(s.proposeSystem(reconfig.Entry{Kind: reconfig.SetConfig, Config: c}))
			b := ballot(2, 1, 1)
			log := s.made(b, 1)
			s.store(3, accepted(b, log, 0, 0), log, 0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, "regions=3 fn=1")
			c.do(s)
			switch {
			case c.want == "" && s.err != nil:
				t.Errorf("says %v of what is fine", s.err)
			case c.want != "" && (s.err == nil || !strings.Contains(s.err.Error(), c.want)):
				t.Errorf("says %v, want %s", s.err, c.want)
			}
		})
	}
}

// TestCheckerSeesWhoWasAlone: where each region has one node, a local ballot of its home needs nobody else, and a global one that nobody
// heard of is not won.
func TestCheckerSeesWhoWasAlone(t *testing.T) {
	b1, b2 := ballot(1, 1, 1), ballot(1, 2, 2)
	for name, c := range map[string]struct {
		rec  consensus.Record
		want string
	}{
		"local":  {consensus.Record{Promised: b1, First: 1}, ""},
		"global": {promised(b1), "I3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, "regions=1+1+1 fn=0")
			s.store(1, c.rec, nil, 0)
			s.check.sent(s.node(2), 0, &consensus.Message{Type: consensus.PrePrepare, From: 2, To: 3, Ballot: b2, Accepted: b1})
			if c.want == "" && s.err != nil || c.want != "" && (s.err == nil || !strings.Contains(s.err.Error(), c.want)) {
				t.Errorf("says %v, want %q", s.err, c.want)
			}
		})
	}
}
