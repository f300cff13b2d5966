// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"testing"
)

// What an owner sends stays within what a peer takes, however far the peer is behind and whatever it leaves unanswered.

// memoryLog is the log on disk, from slot 1 on.
type memoryLog []Entry

func (l memoryLog) Entries(lo, hi Slot, maxBytes int) ([]Entry, error) {
	size := 0
	for s := lo; s <= hi; s++ {
		if size += len(l[s-1].Payload); size > maxBytes {
			hi = s
		}
	}
	return l[lo-1 : hi], nil
}

// ownerOf makes node 1 of three the owner of its log: node 2 promised with the same one, and node 3 was not heard.
func ownerOf(t *testing.T, o Options) *Core {
	t.Helper()
	o.Self, o.Configurations = 1, configs(1, layout([]int{3}, 1, 0))
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	campaign(t, c)
	settle(t, c)
	r := &c.rec
	err = c.Step(Message{
		Type: Promise, From: 2, To: 1, Ballot: c.ballot, Accepted: r.Accepted, AcceptedHome: r.AcceptedHome,
		Last: r.Last, Chain: r.LastChain, Commit: r.Commit, First: 1,
	})
	if err != nil || c.state != Won {
		t.Fatalf("%v; %+v", err, c.Status())
	}
	return c
}

// sent does all Readies and gives what they send to a node.
func sent(t *testing.T, c *Core, to NodeID) (list []Message) {
	t.Helper()
	for c.HasReady() {
		r := c.Ready()
		for _, m := range append(r.MsgsNow, r.MsgsAfterSync...) {
			if m.To == to {
				list = append(list, m)
			}
		}
		c.Advance()
		if err := c.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// accepted steps the answer of a peer that has the log up to a slot.
func accepted(t *testing.T, c *Core, from NodeID, upTo, commit Slot) {
	t.Helper()
	if err := c.Step(Message{Type: Accepted, From: from, To: c.self, Ballot: c.ballot, Slot: upTo, Commit: commit}); err != nil {
		t.Fatal(err)
	}
}

// takes steps the messages at a fresh node 3, which has nothing.
func takes(t *testing.T, list []Message) {
	t.Helper()
	c, err := New(Options{Self: 3, Configurations: configs(1, layout([]int{3}, 1, 0)), Log: memoryLog(nil)})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		m.Home = layout([]int{3}, 1, 0).All()
		if err := c.Step(m); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
}

// long is how many entries are more than a message may hold.
const long = EntriesPerMessageMax + 10

// TestEntriesOfTheLogFitAMessage: a Log is bounded by bytes only, so that a message with many small entries of it was refused by
// whoever lacked them, each time anew.
func TestEntriesOfTheLogFitAMessage(t *testing.T) {
	rec, _ := logOf(long, long, make([]string, long)...)
	_, all := logOf(0, 0, make([]string, long)...)
	c := ownerOf(t, Options{Record: rec, Log: memoryLog(all)})
	accepted(t, c, 2, long, long)
	settle(t, c)
	if err := c.Step(Message{Type: Nack, From: 3, To: 1, Ballot: c.ballot, Promised: c.ballot, Slot: 1}); err != nil {
		t.Fatal(err)
	}
	list := sent(t, c, 3)
	if len(list) != 1 || list[0].Type != Learn || len(list[0].Entries) == 0 {
		t.Fatalf("%v", list)
	}
	takes(t, list)
}

// TestAcceptSyncFitsAMessage: an owner that kept much of its log in memory put all of it, and what it had proposed since, in one
// AcceptSync, which was refused each time anew. Here it keeps as much as one message holds, and more, which is learned before.
func TestAcceptSyncFitsAMessage(t *testing.T) {
	const half = UncommittedEntriesMax
	tuning := DefaultTuning()
	tuning.RetainedEntries, tuning.RetainedBytes = 4*half, 1<<40
	for _, pieces := range []Slot{2, 3} {
		rec, tail := logOf(0, 0, make([]string, half)...)
		all := append(tail, extend(tail[half-1], make([]string, (pieces-1)*half)...)...)
		c, err := New(Options{Self: 1, Configurations: configs(1, layout([]int{3}, 1, 0)), Record: rec, Tail: tail, Log: memoryLog(all), Tuning: &tuning})
		if err != nil {
			t.Fatal(err)
		}
		campaign(t, c)
		settle(t, c)
		step := func(from NodeID, m Message) {
			t.Helper()
			m.From, m.To, m.Ballot = from, 1, c.ballot
			if err := c.Step(m); err != nil {
				t.Fatal(err)
			}
		}
		end := pieces * half
		step(2, Message{
			Type: Promise, Accepted: rec.Accepted, AcceptedHome: layout([]int{3}, 1, 0).All(),
			Last: end, Chain: all[end-1].Chain, Commit: end - half, First: 1,
		})
		for s := Slot(half); s < end; s += half {
			step(2, Message{Type: FetchReply, Slot: s, Chain: all[s-1].Chain, Entries: all[s : s+half]})
		}
		step(2, Message{Type: Accepted, Slot: end})
		settle(t, c)
		for range 10 {
			if _, _, err := c.Propose(1, Proposal{}); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, c)
		step(3, Message{Type: Nack, Promised: c.ballot, Slot: 1})
		list := sent(t, c, 3)
		if want := map[Slot]MessageType{2: AcceptSync, 3: Learn}[pieces]; len(list) == 0 || list[0].Type != want {
			t.Errorf("want a %s: %v", want, list)
		}
		takes(t, list)
	}
}

// TestPromiseOfALogThatCannotBeRecovered: a peer could promise with a log without end, all of which was fetched into memory.
func TestPromiseOfALogThatCannotBeRecovered(t *testing.T) {
	c, err := New(Options{Self: 1, Configurations: configs(1, layout([]int{3}, 1, 0)), Log: memoryLog(nil)})
	if err != nil {
		t.Fatal(err)
	}
	campaign(t, c)
	campaign(t, c)
	settle(t, c)
	m := Message{
		Type: Promise, From: 2, To: 1, Ballot: c.ballot, Accepted: Ballot{1, 1, 3}, AcceptedHome: layout([]int{3}, 1, 0).All(),
		Last: 1 << 40, Chain: 7, First: 1,
	}
	if err := c.Step(m); !errors.Is(err, ErrInvalid) || c.p.source >= 0 {
		t.Errorf("%v; fetches from peer %d", err, c.p.source)
	}
}

// TestOneSnapshotForAPeerThatIsLost: each late ack of a peer whose next slots were trimmed offered it the state again.
func TestOneSnapshotForAPeerThatIsLost(t *testing.T) {
	tuning := DefaultTuning()
	tuning.MessageBytes, tuning.InflightMessages, tuning.RetainedEntries, tuning.RetainedBytes = 1, 4, 0, 0
	c := ownerOf(t, Options{Log: memoryLog(nil), Tuning: &tuning})
	accepted(t, c, 2, 0, 0)
	settle(t, c)
	accepted(t, c, 3, 0, 0)
	settle(t, c)
	for i := range 20 {
		if _, _, err := c.Propose(Timestamp(i+1), Proposal{Payload: []byte("ab")}); err != nil {
			t.Fatal(err)
		}
	}
	if list := sent(t, c, 3); len(list) != 4 {
		t.Fatalf("%v", list)
	}
	for s := Slot(4); s <= 20; s += 4 {
		accepted(t, c, 2, s, 0)
		settle(t, c)
	}
	c.Compact(20)
	settle(t, c)
	states := 0
	for s := Slot(1); s <= 4; s++ {
		accepted(t, c, 3, s, 0)
		for _, m := range sent(t, c, 3) {
			if m.Type == Snapshot {
				states++
			}
		}
	}
	if states != 1 {
		t.Errorf("%d states are on their way to one peer", states)
	}
	c.Tick(tuning.SnapshotRetryAfter)
	if list := sent(t, c, 3); len(list) != 1 || list[0].Type != Snapshot {
		t.Errorf("after SnapshotRetryAfter: %v", list)
	}
}

// TestSilentPeerIsProbed: what a peer did not answer was all sent again every RetryAfter, up to InflightMessages of MessageBytes,
// for as long as the peer was away.
func TestSilentPeerIsProbed(t *testing.T) {
	tuning := DefaultTuning()
	tuning.MessageBytes = 1
	for _, role := range []string{"acceptor", "learner"} {
		c := ownerOf(t, Options{Log: memoryLog(nil), Tuning: &tuning})
		if role == "learner" {
			c.p.peer[2].role = learner
			c.p.peer[2].begin(c, false)
		}
		accepted(t, c, 2, 0, 0)
		settle(t, c)
		answer := func(upTo Slot) {
			m := Message{Type: Learned, From: 3, To: 1, Ballot: c.ballot, Slot: upTo}
			if role == "acceptor" {
				m.Type, m.Commit = Accepted, upTo
			}
			if err := c.Step(m); err != nil {
				t.Fatal(err)
			}
		}
		answer(0)
		settle(t, c)
		for i := range 30 {
			if _, _, err := c.Propose(Timestamp(i+1), Proposal{Payload: []byte("ab")}); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, c)
		accepted(t, c, 2, 30, 0)
		settle(t, c)
		now := Timestamp(0)
		for range 10 {
			now += tuning.RetryAfter
			c.Tick(now)
			sent(t, c, 3)
			now += tuning.RetryAfter
			c.Tick(now)
			if list := sent(t, c, 3); len(list) != 1 || len(list[0].Entries) != 1 {
				t.Fatalf("%s: to one that is silent %d messages: %v", role, len(list), list)
			}
		}
		answer(1)
		if list := sent(t, c, 3); len(list) != 29 {
			t.Errorf("%s: to one that has answered: %v", role, list)
		}
	}
}

// TestLearnerThatMissedAnEmptyLearn: an empty Learn that a learner left unanswered counted as on the way for ever, since each look at what
// else there was began its time anew: the learner was told nothing more.
func TestLearnerThatMissedAnEmptyLearn(t *testing.T) {
	tuning := DefaultTuning()
	c := ownerOf(t, Options{Log: memoryLog(nil), Tuning: &tuning})
	c.p.peer[2].role = learner
	c.p.peer[2].begin(c, false)
	accepted(t, c, 2, 0, 0)
	settle(t, c)
	if err := c.Step(Message{Type: Learned, From: 3, To: 1, Ballot: c.ballot}); err != nil { // it does not know what is established
		t.Fatal(err)
	}
	now := Timestamp(0)
	tick := func(after Timestamp) []Message {
		now += after
		c.Tick(now)
		return sent(t, c, 3)
	}
	for range 2 {
		if list := tick(tuning.RetryAfter); len(list) != 1 || len(list[0].Entries) != 0 {
			t.Fatalf("to one that does not know what is established: %v", list)
		}
	}
	for slot := Slot(1); now < 10*tuning.RetryAfter; slot++ { // others are busy meanwhile
		if _, _, err := c.Propose(Timestamp(slot), Proposal{Payload: []byte("a")}); err != nil {
			t.Fatal(err)
		}
		settle(t, c)
		accepted(t, c, 2, slot, 0)
		if list := tick(tuning.LearnAfter); len(list) > 0 && len(list[0].Entries) > 0 {
			return
		}
	}
	t.Error("what was chosen was never told")
}
