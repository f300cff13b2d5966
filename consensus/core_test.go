// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// logOf makes a chained log of the payloads, accepted at ballot 1.1.1, and the record that goes with it.
func logOf(applied, commit Slot, payloads ...string) (Record, []Entry) {
	b := Ballot{Cfg: 1, Round: 1, Node: 1}
	r := Record{Promised: b, Accepted: b, Last: Slot(len(payloads)), Commit: commit, Applied: applied, First: 1}
	var entries []Entry
	before := uint64(0)
	for i, p := range payloads {
		e := Entry{Slot: Slot(i + 1), Ballot: b, Time: Timestamp(i + 10), Payload: []byte(p)}
		e.Chain = chain(before, &e)
		before = e.Chain
		if entries = append(entries, e); e.Slot == applied {
			r.AppliedTime, r.AppliedChain = e.Time, e.Chain
		}
		r.LastTime, r.LastChain = e.Time, e.Chain
	}
	return r, entries[applied:]
}

// failingLog is a Log that gives what it is told.
type failingLog struct {
	entries []Entry
	err     error
}

func (l failingLog) Entries(Slot, Slot, int) ([]Entry, error) { return l.entries, l.err }

// TestNewRefuses gives New what cannot be, and wants the class that tells a caller's mistake from a wrong disk.
func TestNewRefuses(t *testing.T) {
	three, tuning := layout([]int{3}, 1, 0), DefaultTuning()
	for _, tc := range []struct {
		name  string
		f     func(*Options)
		class error
		want  string
	}{
		{"sound", func(*Options) {}, nil, ""},
		{"no node", func(o *Options) { o.Self = 0 }, ErrInvalid, "node 0"},
		{"no configuration", func(o *Options) { o.Configurations = nil }, ErrInvalid, "0 configurations"},
		{"no log", func(o *Options) { o.Log = nil }, ErrInvalid, "no log to read"},
		{"a later configuration", func(o *Options) { o.Configurations = configs(0, three) }, ErrInvalid, "ballot 1.1.1 of a later configuration than 0"},
		{"bad tuning", func(o *Options) { tn := tuning; tn.MessageBytes, tn.RetryAfter = 0, 0; o.Tuning = &tn }, ErrInvalid, "RetryAfter is 0 ns"},
		{"bad record", func(o *Options) { o.Record.Commit = 9 }, ErrCorrupt, "do not rise"},
		{"tail too short", func(o *Options) { o.Tail = o.Tail[:1] }, ErrCorrupt, "log has 1 entries after slot 1, record wants 2"},
		{"no tail", func(o *Options) { o.Tail = nil }, ErrCorrupt, "log has 0 entries"},
		{"tail too long", func(o *Options) { o.Tail = append(o.Tail, o.Tail[0]) }, ErrCorrupt, "log has 3 entries"},
		{"tail from another slot", func(o *Options) { o.Tail[0], o.Tail[1] = o.Tail[1], o.Tail[0] }, ErrBroken, "slot 3 follows slot 1"},
		{"changed payload", func(o *Options) { o.Tail[1].Payload = []byte("x") }, ErrBroken, "slot 3: chain"},
		{"changed time", func(o *Options) { o.Tail[0].Time++ }, ErrBroken, "slot 2: chain"},
		{"another beginning", func(o *Options) { o.Record.AppliedChain++ }, ErrBroken, "slot 2: chain"},
		{"another end", func(o *Options) { o.Record.LastChain++ }, ErrBroken, "slot 3 has chain"},
		{"another last time", func(o *Options) { o.Record.LastTime++ }, ErrBroken, "slot 3 has chain"},
	} {
		o := Options{Self: 1, Configurations: configs(1, three), Log: failingLog{}}
		o.Record, o.Tail = logOf(1, 2, "a", "b", "c")
		tc.f(&o)
		_, err := New(o)
		if tc.class == nil && err != nil || tc.class != nil && (!errors.Is(err, tc.class) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

// TestTuningReportsEveryProblem checks the bounds of each field, all at once.
func TestTuningReportsEveryProblem(t *testing.T) {
	sound := DefaultTuning()
	if err := sound.validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	least := Tuning{1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1}
	if err := least.validate(); err != nil {
		t.Errorf("least: %v", err)
	}
	bad := Tuning{UncommittedEntriesMax + 1, 0, 0, 0, -1, -1, 0, TimeMax + 1, 0, 0, 0}
	err := fmt.Sprint(bad.validate())
	for _, field := range []string{"UncommittedEntries", "UncommittedBytes", "MessageBytes", "InflightMessages", "RetainedEntries", "RetainedBytes", "FlushAfter", "RetryAfter", "LearnAfter", "LearnBytes", "SnapshotRetryAfter"} {
		if !strings.Contains(err, field) {
			t.Errorf("%s is not reported by: %s", field, err)
		}
	}
}

// TestSoleVoterInheritsLog gives the only voter a log from a time with others: it is applied in the first batch, with what is
// proposed, and then no log is kept.
func TestSoleVoterInheritsLog(t *testing.T) {
	q := layout([]int{1}, 0, 0)
	rec, tail := logOf(1, 1, "a", "b", "c")
	c, err := New(Options{Self: 1, Configurations: configs(1, q), Record: rec, Tail: tail})
	if err != nil {
		t.Fatal(err)
	}
	if c.MayServeLocal() || c.HasReady() {
		t.Error("an unapplied log is not the newest state, and asks for nothing")
	}
	if err := c.Campaign(Global); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Propose(1, Proposal{Payload: []byte("d")}); err != nil {
		t.Fatal(err)
	}
	r := c.Ready()
	if got := describeEntries(r.Committed); got != "2@1.1.1:b 3@1.1.1:c 4@1.2.1:d" || !r.Atomic || r.TruncateFrom != 1 || r.Record.First != 5 {
		t.Errorf("committed %s, ready %+v, record %+v", got, r, r.Record)
	}
	c.Advance()
	if _, _, err := c.Propose(1, Proposal{Payload: []byte("e")}); err != nil {
		t.Fatal(err)
	}
	if r := c.Ready(); r.TruncateFrom != 0 || len(r.Committed) != 1 {
		t.Errorf("second ready %+v", r)
	}
}

// TestProposeAtTheLimits checks that nothing overflows: slots, times, rounds and payloads end with a refusal.
func TestProposeAtTheLimits(t *testing.T) {
	q := layout([]int{1}, 0, 0)
	at := func(f func(*Record)) *Core {
		t.Helper()
		r := Record{First: 8, Last: 7, Commit: 7, Applied: 7, LastTime: 5, AppliedTime: 5, Promised: Ballot{1, 1, 1}, Accepted: Ballot{1, 1, 1}}
		f(&r)
		r.AppliedTime = r.LastTime
		c, err := New(Options{Self: 1, Configurations: configs(1, q), Record: r})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	c := at(func(r *Record) { r.Promised.Round, r.Accepted.Round = RoundMax, RoundMax })
	refused("campaign after the last round", c.Campaign(Global))
	if c.HasReady() {
		t.Error("a refused campaign has something to write")
	}

	propose := func(c *Core, now Timestamp, payload []byte) error {
		t.Helper()
		if err := c.Campaign(Global); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.Propose(now, Proposal{Payload: payload})
		return err
	}
	last := Slot(SlotMax)
	c = at(func(r *Record) { r.Last, r.Commit, r.Applied, r.First = last-1, last-1, last-1, last })
	if err := propose(c, 9, nil); err != nil {
		t.Errorf("the last slot: %v", err)
	}
	refused("slot after the last", propose(c, 9, nil))
	c = at(func(r *Record) { r.LastTime = TimeMax - 1 })
	if err := propose(c, 9, nil); err != nil {
		t.Errorf("the last time: %v", err)
	}
	refused("time after the last", propose(c, 9, nil))
	refused("now beyond the last time", propose(at(func(*Record) {}), TimeMax+1, nil))
	refused("payload beyond the limit", propose(at(func(*Record) {}), 9, make([]byte, PayloadLenMax+1)))

	// One payload may pass the bound on what is not committed.
	long := make([]byte, DefaultTuning().UncommittedBytes+1)
	c = at(func(*Record) {})
	if err := propose(c, 9, long); err != nil {
		t.Errorf("a long payload: %v", err)
	}
	if err := propose(c, 9, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("behind a long payload: %v", err)
	}
	c.Ready()
	if err := propose(c, 9, nil); err != nil {
		t.Errorf("when that is handed out: %v", err)
	}
}

// TestLogThatFailsStopsTheCore lets the disk fail, and lie, when an owner reads old entries for a peer that lags.
func TestLogThatFailsStopsTheCore(t *testing.T) {
	failed := errors.New("disk says no")
	rec, _ := logOf(3, 3, "a", "b", "c")
	_, all := logOf(0, 0, "a", "b", "c")
	for _, tc := range []struct {
		name string
		log  failingLog
		want error
	}{
		{"error", failingLog{err: failed}, failed},
		{"nothing", failingLog{}, ErrCorrupt},
		{"another slot", failingLog{entries: all[1:2]}, ErrCorrupt},
		{"too many", failingLog{entries: append(all[:3:3], all...)}, ErrCorrupt},
	} {
		c, err := New(Options{Self: 1, Configurations: configs(1, layout([]int{3}, 1, 0)), Record: rec, Log: tc.log})
		if err != nil {
			t.Fatal(err)
		}
		campaign(t, c)
		c.Ready()
		c.Advance()
		// Node 2 promises an empty log: it needs all of ours.
		if err := c.Step(Message{Type: Promise, From: 2, To: 1, Ballot: c.Status().Ballot, First: 1}); err != nil {
			t.Fatal(err)
		}
		if r := c.Ready(); len(r.MsgsNow) != 0 || r.Record != nil {
			t.Errorf("%s: ready %+v", tc.name, r)
		}
		if !errors.Is(c.Err(), tc.want) || errors.Is(c.Err(), ErrInvalid) {
			t.Errorf("%s: stopped by %v, want %v", tc.name, c.Err(), tc.want)
		}
		if _, _, err := c.Propose(1, Proposal{}); !errors.Is(err, tc.want) || c.HasReady() || c.NeedsTick() || c.MayServeLocal() {
			t.Errorf("%s: goes on: %v", tc.name, err)
		}
	}
}

// TestTrimmedLogNeedsSnapshot checks both ends of a log that is no longer kept from where the other's ends: a proposer gives
// up and says why, an owner leaves the peer alone, and nobody stops.
func TestTrimmedLogNeedsSnapshot(t *testing.T) {
	q := layout([]int{3}, 1, 0)
	c, err := New(Options{Self: 1, Configurations: configs(1, q), Log: failingLog{err: errors.New("not kept")}})
	if err != nil {
		t.Fatal(err)
	}
	campaign(t, c)
	c.Ready()
	c.Advance()
	if err := c.Step(Message{
		Type: Promise, From: 2, To: 1, Ballot: c.Status().Ballot, Last: 9, Commit: 9, First: 5, Chain: 1,
	}); err != nil {
		t.Fatal(err)
	}
	if st := c.Status(); st.State != Preparing || !st.Behind {
		t.Errorf("proposer is %+v", st)
	}

	rec, _ := logOf(3, 3, "a", "b", "c")
	rec.First = 4
	c, err = New(Options{Self: 1, Configurations: configs(1, q), Record: rec, Log: failingLog{err: errors.New("not kept")}})
	if err != nil {
		t.Fatal(err)
	}
	campaign(t, c)
	c.Ready()
	c.Advance()
	if err := c.Step(Message{Type: Promise, From: 2, To: 1, Ballot: c.Status().Ballot, First: 1}); err != nil {
		t.Fatal(err)
	}
	offered := 0
	for _, m := range c.Ready().MsgsNow {
		if m.To == 2 && m.Type == Snapshot && m.Slot == 3 && m.Time == rec.LastTime && m.Chain == rec.LastChain {
			offered++
		} else if m.To == 2 {
			t.Errorf("sent %v to a node that needs a snapshot", m)
		}
	}
	if offered != 1 {
		t.Errorf("%d snapshots were offered", offered)
	}
	c.Advance()
	c.Tick(1e9)
	if err := c.Err(); err != nil || c.Status().State != Won {
		t.Errorf("owner is %+v, %v", c.Status(), err)
	}
}

func TestBallotsAreOrdered(t *testing.T) {
	rising := []Ballot{{}, {0, 1, 9}, {0, 2, 1}, {0, 2, 2}, {1, 1, 1}, {1, 1, 1 << 63}, {1, 1 << 62, 1}, {1 << 63, 1, 1}}
	for i, a := range rising {
		for j, b := range rising {
			if got, want := a.Compare(b), sign(i-j); got != want || a.Less(b) != (want < 0) {
				t.Errorf("%s compared to %s is %d, want %d", a, b, got, want)
			}
		}
	}
	if got := (Ballot{4, 5, 6}).String(); got != "4.5.6" || (Ballot{}).String() != "-" || !(Ballot{}).IsZero() || rising[1].IsZero() {
		t.Errorf("ballot 4.5.6 is %s", got)
	}
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// TestReadyOutlivesInputs checks that what was handed out stays as it was while the log is replaced behind it.
func TestReadyOutlivesInputs(t *testing.T) {
	c, err := New(Options{Self: 2, Configurations: configs(1, layout([]int{3}, 1, 0)), Log: failingLog{}})
	if err != nil {
		t.Fatal(err)
	}
	step := func(from NodeID, round uint64, payloads ...string) {
		t.Helper()
		m := Message{Type: AcceptSync, From: from, To: 2, Ballot: Ballot{1, round, from}, Home: c.newest().Quorums.All()}
		before := uint64(0)
		for i, p := range payloads {
			e := Entry{Slot: Slot(i + 1), Ballot: m.Ballot, Time: Timestamp(i + 1), Payload: []byte(p)}
			e.Chain = chain(before, &e)
			before = e.Chain
			m.Entries = append(m.Entries, e)
		}
		if err := c.Step(m); err != nil {
			t.Fatal(err)
		}
	}
	step(1, 1, "a", "b", "c")
	r := c.Ready()
	step(3, 2, "x", "y")
	if got := describeEntries(r.Entries); got != "1@1.1.1:a 2@1.1.1:b 3@1.1.1:c" || r.Record.Last != 3 {
		t.Errorf("the Ready that is out became %s, %+v", got, r.Record)
	}
	c.Advance()
	r = c.Ready()
	if got := describeEntries(r.Entries); got != "1@1.2.3:x 2@1.2.3:y" || r.TruncateFrom != 1 || r.Record.Last != 2 {
		t.Errorf("the next is %s, %+v", got, r)
	}
	if len(r.MsgsAfterSync) != 1 || r.MsgsAfterSync[0].To != 3 || r.MsgsAfterSync[0].Slot != 2 {
		t.Errorf("sends %v", r.MsgsAfterSync)
	}
}

// TestRecoveryMistrusts gives a proposer promises and replies that contradict each other or what it holds: what is only the
// end of its own log gives way, a sender's mistake is refused, and a contradiction of what is committed stops the node.
func TestRecoveryMistrusts(t *testing.T) {
	own, tail := logOf(1, 1, "a", "b")
	other, others := logOf(0, 1, "a", "x", "y")
	foreign, _ := logOf(0, 1, "z", "x", "y")
	ballot := Ballot{1, 2, 1}
	promise := func(r Record, last, commit Slot) Message {
		return Message{Type: Promise, From: 2, To: 1, Ballot: ballot, Accepted: r.Accepted, AcceptedHome: layout([]int{3}, 1, 0).All(), Last: last, Commit: commit, Chain: r.LastChain, First: 1}
	}
	reply := func(after Slot, before uint64, entries ...Entry) Message {
		return Message{Type: FetchReply, From: 2, To: 1, Ballot: ballot, Slot: after, Chain: before, Entries: entries, Commit: 1}
	}
	for _, tc := range []struct {
		name  string
		steps []Message
		class error
		state State
		log   string // after a Ready
	}{
		{"another end", []Message{
			promise(other, 3, 1), reply(2, others[1].Chain, others[2]), reply(1, others[0].Chain, others[1:]...),
		}, nil, Won, "truncate=2 2@1.1.1:x 3@1.1.1:y"},
		{"in pieces", []Message{
			promise(other, 3, 1), reply(2, others[1].Chain, others[2]), reply(1, others[0].Chain, others[1]), reply(2, others[1].Chain, others[2]),
		}, nil, Won, "truncate=2 2@1.1.1:x 3@1.1.1:y"},
		{"chosen while it is fetched", []Message{
			promise(other, 3, 2), reply(2, others[1].Chain, others[2]), reply(1, others[0].Chain, others[1]),
		}, nil, Preparing, "truncate=2 2@1.1.1:x"},
		{"more than was promised", []Message{promise(other, 3, 1), reply(2, tail[0].Chain, extend(tail[0], "c", "d")...)}, ErrInvalid, Preparing, "truncate=0 "},
		{"another log than was promised", []Message{promise(other, 3, 1), reply(2, tail[0].Chain, extend(tail[0], "c")...)}, ErrInvalid, Preparing, "truncate=0 "},
		{"pieces of two logs", []Message{
			promise(other, 3, 1), reply(2, others[1].Chain, others[2]), reply(1, others[0].Chain, others[1]), reply(2, 77, Entry{Slot: 3, Ballot: ballot, Time: 99}.chained(77)),
		}, ErrInvalid, Preparing, "truncate=0 "},
		{"promise below a commit", []Message{promise(other, 3, 1), {Type: Promise, From: 3, To: 1, Ballot: ballot, Last: 5, Commit: 5, First: 1}}, nil, Preparing, "truncate=0 "},
		{"commit beyond every log", []Message{{Type: Promise, From: 2, To: 1, Ballot: ballot, Last: 5, Commit: 5, First: 1}}, ErrBroken, Preparing, ""},
		{"another committed slot", []Message{promise(foreign, 3, 1), reply(2, 77, Entry{Slot: 3, Ballot: ballot, Time: 99}.chained(77)), reply(1, foreign.AppliedChain, Entry{Slot: 2, Ballot: ballot, Time: 99}.chained(foreign.AppliedChain))}, ErrBroken, Preparing, ""},
	} {
		c, err := New(Options{Self: 1, Configurations: configs(1, layout([]int{3}, 1, 0)), Record: own, Tail: append([]Entry(nil), tail...), Log: failingLog{err: errors.New("not needed")}})
		if err != nil {
			t.Fatal(err)
		}
		campaign(t, c)
		c.Ready()
		c.Advance()
		for i, m := range tc.steps {
			if err = c.Step(m); err != nil && i < len(tc.steps)-1 {
				t.Fatalf("%s: step %d: %v", tc.name, i+1, err)
			}
		}
		if !errors.Is(err, tc.class) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.class)
		}
		if got := c.Status().State; got != tc.state {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.state)
		}
		if r := c.Ready(); tc.class != ErrBroken && fmt.Sprintf("truncate=%d %s", r.TruncateFrom, describeEntries(r.Entries)) != tc.log {
			t.Errorf("%s: truncate=%d %s, want %s", tc.name, r.TruncateFrom, describeEntries(r.Entries), tc.log)
		}
	}
}

// chained is the entry behind a slot of this chain.
func (e Entry) chained(before uint64) Entry {
	e.Chain = chain(before, &e)
	return e
}

// extend makes entries that follow on one.
func extend(e Entry, payloads ...string) []Entry {
	var entries []Entry
	for _, p := range payloads {
		e = Entry{Slot: e.Slot + 1, Ballot: e.Ballot, Time: e.Time + 1, Payload: []byte(p)}.chained(e.Chain)
		entries = append(entries, e)
	}
	return entries
}

// campaign begins a ballot of a core with peers, as if those whose promises it needs had been asked.
func campaign(t *testing.T, c *Core) {
	t.Helper()
	if err := c.Campaign(Global); err != nil {
		t.Fatal(err)
	}
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	c.now = nil
}
