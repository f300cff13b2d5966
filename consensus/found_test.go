// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"testing"
)

// Bugs that reviews found and that no story tells: each test failed before it was mended.

// settle does all Readies that there are.
func settle(t *testing.T, c *Core) (last Ready) {
	t.Helper()
	for c.HasReady() {
		r := c.Ready()
		if r.Snapshot != nil {
			last.Snapshot = r.Snapshot
		}
		c.Advance()
		if err := c.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

// TestLateStateForABallotThatIsOver: the state that answers a Fetch came when its ballot was over and another's log accepted. It was taken
// into that log, and the next entry of the other owner, in full accord with what it had sent, stopped the node.
func TestLateStateForABallotThatIsOver(t *testing.T) {
	q := layout([]int{3}, 1, 0)
	c, err := New(Options{Self: 2, Configurations: configs(1, q), Log: failingLog{}})
	if err != nil {
		t.Fatal(err)
	}
	step := func(m Message) {
		t.Helper()
		m.To = 2
		if err := c.Step(m); err != nil {
			t.Fatalf("%s: %v", m, err)
		}
	}
	if err := c.Campaign(Global); err != nil {
		t.Fatal(err)
	}
	settle(t, c)
	step(Message{Type: PrePromise, From: 3, Ballot: c.Status().Ballot})
	settle(t, c)
	own := c.Status().Ballot
	if c.Status().State != Preparing {
		t.Fatalf("%+v", c.Status())
	}

	b := Ballot{1, own.Round + 4, 1}
	entry := func(before uint64, slot Slot, at Timestamp, payload string) Entry {
		e := Entry{Slot: slot, Ballot: b, Time: at, Payload: []byte(payload)}
		e.Chain = chain(before, &e)
		return e
	}
	y := entry(0, 1, 5, "y")
	z := entry(y.Chain, 2, 6, "z")
	x := Entry{Slot: 1, Ballot: Ballot{1, own.Round + 8, 3}, Time: 9, Payload: []byte("x")}
	x.Chain = chain(0, &x)

	step(Message{Type: AcceptSync, From: 1, Ballot: b, Home: q.All()})
	step(Message{Type: Accept, From: 1, Ballot: b, Entries: []Entry{y}})
	settle(t, c)
	step(Message{Type: Snapshot, From: 3, Ballot: own, Slot: 1, Chain: x.Chain, Time: x.Time, Commit: 1, Home: q.All()})
	if r := settle(t, c); r.Snapshot != nil {
		t.Errorf("took the state of %+v", *r.Snapshot)
	}
	step(Message{Type: Accept, From: 1, Ballot: b, Slot: 1, Chain: y.Chain, Entries: []Entry{z}})
	settle(t, c)
	if s := c.Status(); s.Last != 2 || s.Commit != 0 {
		t.Errorf("%+v", s)
	}
}

// TestTimeThatDoesNotRise: an AcceptSync whose first entry is no later than the log before it stopped the node, after it had been promised.
func TestTimeThatDoesNotRise(t *testing.T) {
	rec, tail := logOf(0, 0, "a", "b")
	q := layout([]int{3}, 1, 0)
	c, err := New(Options{Self: 2, Configurations: configs(1, q), Record: rec, Tail: tail, Log: failingLog{}})
	if err != nil {
		t.Fatal(err)
	}
	before := c.rec
	b := Ballot{1, 2, 3}
	e := Entry{Slot: 3, Ballot: b, Time: 1, Payload: []byte("x")}
	e.Chain = chain(tail[1].Chain, &e)
	err = c.Step(Message{Type: AcceptSync, From: 3, To: 2, Ballot: b, Slot: 2, Chain: tail[1].Chain, Entries: []Entry{e}, Home: q.All()})
	if !errors.Is(err, ErrInvalid) || c.rec != before || c.Err() != nil {
		t.Errorf("%v; %+v", err, c.rec)
	}
}

// TestSnapshotOfAWrongTime: a Snapshot of a slot that is in the own log, with another time, made a Record that could not be read again.
func TestSnapshotOfAWrongTime(t *testing.T) {
	rec, tail := logOf(0, 0, "a", "b", "c")
	q := layout([]int{3}, 1, 0)
	c, err := New(Options{Self: 2, Configurations: configs(1, q), Record: rec, Tail: tail, Log: failingLog{}})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Step(Message{Type: Snapshot, From: 1, To: 2, Ballot: Ballot{1, 1, 1}, Slot: 2, Chain: tail[1].Chain, Time: 1 << 40, Commit: 2, Home: q.All()})
	if !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if r := c.Ready(); r.Record != nil {
		if err := r.Record.check(); err != nil {
			t.Error(err)
		}
	}
}

// TestEstablishedIsDurableBeforeItIsTold: an acceptor told its owner which configuration it knew to be established, and forgot it in a
// crash. The owner never said it again, and the node went on to list the group as one that is to be moved.
func TestEstablishedIsDurableBeforeItIsTold(t *testing.T) {
	q := layout([]int{3}, 1, 0)
	c, err := New(Options{Self: 2, Configurations: configs(1, q), Log: memoryLog(nil)})
	if err != nil {
		t.Fatal(err)
	}
	b := Ballot{1, 1, 1}
	if err := c.Step(Message{Type: AcceptSync, From: 1, To: 2, Ballot: b, Home: q.All()}); err != nil {
		t.Fatal(err)
	}
	settle(t, c)
	if err := c.Step(Message{Type: Accept, From: 1, To: 2, Ballot: b, Established: 1}); err != nil {
		t.Fatal(err)
	}
	r := c.Ready()
	if len(r.MsgsAfterSync) != 1 || r.MsgsAfterSync[0].Established != 1 || !r.MustSync {
		t.Errorf("must sync %t: %v", r.MustSync, r.MsgsAfterSync)
	}
}

// TestWonBallotCanBeGivenUp: an owner whose home lost its quorum before it had recovered the log could neither release the group nor
// give up its ballot, and a campaign did nothing: acceptors that were tied to it kept the group for it.
func TestWonBallotCanBeGivenUp(t *testing.T) {
	c := ownerOf(t, Options{Log: memoryLog(nil)})
	settle(t, c)
	b := c.ballot
	if err := c.Release(2); err != nil {
		t.Fatalf("%v; %+v", err, c.Status())
	}
	if list := sent(t, c, 2); len(list) != 1 || list[0].Type != Release || list[0].Ballot != b {
		t.Errorf("%v", list)
	}
	c = ownerOf(t, Options{Log: memoryLog(nil)})
	settle(t, c)
	b = c.ballot
	c.Abandon()
	if err := c.Campaign(Global); err != nil || c.Status().State != Probing || !b.Less(c.ballot) {
		t.Errorf("%v; %+v", err, c.Status())
	}
	if _, _, err := c.Propose(1, Proposal{}); !errors.Is(err, ErrNotOwner) {
		t.Error(err)
	}
}

// TestSealedAnswersWithNoState: after Seal a state that was asked for at a sealed ballot still left.
func TestSealedAnswersWithNoState(t *testing.T) {
	q := layout([]int{3}, 1, 0)
	rec, _ := logOf(3, 3, "a", "b", "c")
	rec.First = 4
	c, err := New(Options{Self: 2, Configurations: append(configs(1, q), Configuration{Version: 2, Quorums: q}), Record: rec, Log: memoryLog(nil)})
	if err != nil {
		t.Fatal(err)
	}
	b := Ballot{1, 2, 3}
	for _, m := range []Message{{Type: Prepare, Home: q.All()}, {Type: Fetch, Last: 3, Seq: 1}} {
		m.From, m.To, m.Ballot = 3, 2, b
		if err := c.Step(m); err != nil {
			t.Fatal(err)
		}
	}
	c.Seal(2)
	if list := sent(t, c, 3); len(list) != 0 {
		t.Errorf("%v", list)
	}
}

// TestStateFromAnotherPeer: a proposer that lacked trimmed slots asked one peer for the state, and never another that had promised with
// the same log.
func TestStateFromAnotherPeer(t *testing.T) {
	q := layout([]int{3}, 1, 0)
	c, err := New(Options{Self: 1, Configurations: configs(1, q), Log: memoryLog(nil)})
	if err != nil {
		t.Fatal(err)
	}
	campaign(t, c)
	campaign(t, c) // above round 1
	settle(t, c)
	rec, _ := logOf(3, 3, "a", "b", "c")
	for from := NodeID(2); from <= 3; from++ {
		err := c.Step(Message{
			Type: Promise, From: from, To: 1, Ballot: c.ballot, Accepted: Ballot{1, 1, 2}, AcceptedHome: q.All(),
			Last: 3, Chain: rec.LastChain, Commit: 3, First: 4,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	asked := map[NodeID]bool{}
	for now := Timestamp(0); now <= 3*c.tuning.SnapshotRetryAfter; now += c.tuning.SnapshotRetryAfter {
		c.Tick(now)
		for from := NodeID(2); from <= 3; from++ {
			for _, m := range sent(t, c.Clone(c.log, c.fabric), from) {
				asked[from] = asked[from] || m.Type == Fetch && m.Seq != 0
			}
		}
		settle(t, c)
	}
	if !c.Status().Behind || !asked[2] || !asked[3] {
		t.Errorf("behind %t, asked %v", c.Status().Behind, asked)
	}
}
