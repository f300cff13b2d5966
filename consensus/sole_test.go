// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"testing"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

func soleConfig(t testing.TB) *quorum.Config {
	t.Helper()
	q, err := quorum.New([]quorum.Voter{{Node: 7, Region: "local"}}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// TestSoleVoterWritesOnce checks that a sole voter's campaign, proposals, commits and applies are one Ready, and that from
// its record alone the next core goes on at a fresh round.
func TestSoleVoterWritesOnce(t *testing.T) {
	q := soleConfig(t)
	var disk Record
	for life := range 3 {
		c, err := New(Options{Self: 7, Configurations: configs(4, q), Record: disk})
		if err != nil {
			t.Fatal(err)
		}
		if !c.MayServeLocal() || c.HasReady() {
			t.Fatalf("life %d: fresh core: may serve %v, has ready %v", life, c.MayServeLocal(), c.HasReady())
		}
		disk.First = max(disk.First, 1) // as New fills in
		if rec, ok := c.Stored(); !ok || rec != disk {
			t.Fatalf("life %d: fresh core: stored is %+v %v, want %+v", life, rec, ok, disk)
		}
		if _, _, err := c.Propose(1, Proposal{}); !errors.Is(err, ErrNotOwner) {
			t.Fatalf("Propose before Campaign: %v", err)
		}
		if err := c.Campaign(Global); err != nil {
			t.Fatal(err)
		}
		first := Slot(3*life + 1)
		for i := range 3 {
			slot, at, err := c.Propose(100, Proposal{Payload: []byte{byte(life), byte(i)}})
			if err != nil || slot != first+Slot(i) || at != 100+Timestamp(slot)-1 {
				t.Fatalf("life %d: Propose %d: slot %d time %d, %v", life, i, slot, at, err)
			}
		}
		if c.MayServeLocal() {
			t.Fatal("may serve with proposals that are not applied")
		}
		_, before := c.Stored()
		r := c.Ready()
		if _, out := c.Stored(); before || out {
			t.Fatalf("life %d: all is stored before its Ready: %v, while that is out: %v", life, before, out)
		}
		last := first + 2
		want := Record{
			Promised: Ballot{4, uint64(life + 1), 7}, Accepted: Ballot{4, uint64(life + 1), 7},
			Last: last, Commit: last, Applied: last, First: last + 1,
			AcceptedHome: q.All(), LastTime: 100 + Timestamp(last) - 1, AppliedTime: 100 + Timestamp(last) - 1, Established: 4,
		}
		want.LastChain, want.AppliedChain = r.Record.LastChain, r.Record.LastChain
		if *r.Record != want {
			t.Fatalf("life %d:\n got %+v\nwant %+v", life, *r.Record, want)
		}
		if !r.Atomic || !r.MustSync || len(r.Entries) != 0 || r.TruncateFrom != 0 || len(r.MsgsNow)+len(r.MsgsAfterSync) != 0 {
			t.Fatalf("life %d: ready %+v", life, r)
		}
		if len(r.Committed) != 3 || r.Committed[0].Slot != first || r.Committed[2].Payload[1] != 2 {
			t.Fatalf("life %d: committed %+v", life, r.Committed)
		}
		disk = *r.Record
		c.Advance()
		if s := c.Status(); c.HasReady() || s.State != Serving || s.Applied != last || !c.MayServeLocal() || c.NeedsTick() {
			t.Fatalf("life %d: after Advance: %+v", life, s)
		}
		if rec, ok := c.Stored(); !ok || rec != disk {
			t.Fatalf("life %d: after Advance stored is %+v %v, want %+v", life, rec, ok, disk)
		}
	}
}

// TestSoleVoterProposesWhileWriting checks that what is proposed while a Ready is out comes whole in the next.
func TestSoleVoterProposesWhileWriting(t *testing.T) {
	c, err := New(Options{Self: 7, Configurations: configs(0, soleConfig(t))})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Campaign(Global); err != nil {
		t.Fatal(err)
	}
	next := Slot(1)
	for round := range 50 {
		var r Ready
		if r = c.Ready(); len(r.Committed) > 0 && r.Committed[0].Payload[0] != byte(round) {
			t.Fatalf("round %d: committed payload %v", round, r.Committed[0].Payload)
		}
		for range round % 5 {
			if slot, _, err := c.Propose(0, Proposal{Payload: []byte{byte(round + 1)}}); err != nil || slot != next {
				t.Fatalf("round %d: slot %d, want %d: %v", round, slot, next, err)
			}
			next++
		}
		if r.Record == nil {
			continue // nothing was proposed in the round before
		}
		if again := c.Ready(); again.Record != nil || again.Committed != nil || c.HasReady() {
			t.Fatalf("round %d: a second Ready while one is out: %+v", round, again)
		}
		for i := range r.Committed {
			if r.Committed[i].Payload[0] != byte(round) || r.Record.Applied < r.Committed[i].Slot {
				t.Fatalf("round %d: ready changed while out: %+v", round, r)
			}
		}
		c.Advance()
		if c.tailBytes != int(c.rec.Last-c.rec.Applied) {
			t.Fatalf("round %d: %d bytes in the tail of %d entries", round, c.tailBytes, c.rec.Last-c.rec.Applied)
		}
	}
}

// BenchmarkSoleVoterCold is one write to a group that is not in memory: the core is made from its record and dropped.
// TestSoleVoterEndsBeforeItWrites: a sole voter whose ballot ended, by a seal here, with proposals that no Ready had handed out, wrote a
// record that counted them and no entries, and could not start again.
func TestSoleVoterEndsBeforeItWrites(t *testing.T) {
	q := soleConfig(t)
	c, err := New(Options{Self: 7, Configurations: configs(4, q), Log: failingLog{}})
	if err != nil {
		t.Fatal(err)
	}
	begin := func() {
		t.Helper()
		if err := c.Campaign(Global); err != nil {
			t.Fatal(err)
		}
	}
	propose := func(payload string) {
		t.Helper()
		if _, _, err := c.Propose(100, Proposal{Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	propose("written")
	out := c.Ready()
	propose("not handed out")
	if err := c.Configure(Configuration{Version: 5, Quorums: q}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ProposeStopSign(100, 5); err != nil {
		t.Fatal(err)
	}
	c.Seal(5)
	if len(out.Committed) != 1 || string(out.Committed[0].Payload) != "written" {
		t.Fatalf("the Ready that is out has %+v", out.Committed)
	}
	c.Advance()
	r := c.Ready()
	c.Advance()
	if s := c.Status(); s.State != Follower || s.Last != 1 || s.Applied != 1 || s.Stopped {
		t.Fatalf("%+v", s)
	}
	if r.Record == nil || r.Record.Last != 1 || r.Record.Applied != 1 || len(r.Entries)+len(r.Committed) > 0 {
		t.Fatalf("%+v, record %+v", r, r.Record)
	}
	if c, err = New(Options{Self: 7, Configurations: configs(5, q), Record: *r.Record}); err != nil {
		t.Fatal(err)
	}
	begin()
	propose("later")
	if r := c.Ready(); len(r.Committed) != 1 || r.Committed[0].Slot != 2 || r.Record.Last != 2 {
		t.Fatalf("%+v", r)
	}
}

func BenchmarkSoleVoterCold(b *testing.B) {
	list := configs(0, soleConfig(b))
	payload := make([]byte, 100)
	var disk Record
	b.ReportAllocs()
	now := Timestamp(1)
	for b.Loop() {
		c, err := New(Options{Self: 7, Configurations: list, Record: disk})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Campaign(Global); err != nil {
			b.Fatal(err)
		}
		now++
		if _, _, err := c.Propose(now, Proposal{Payload: payload}); err != nil {
			b.Fatal(err)
		}
		r := c.Ready()
		if !r.Atomic || len(r.Committed) != 1 {
			b.Fatal("no atomic ready")
		}
		disk = *r.Record
		c.Advance()
	}
}

// BenchmarkSoleVoterWarm is one write to a group in memory.
func BenchmarkSoleVoterWarm(b *testing.B) {
	payload := make([]byte, 100)
	c, err := New(Options{Self: 7, Configurations: configs(0, soleConfig(b))})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Campaign(Global); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	now := Timestamp(1)
	for b.Loop() {
		now++
		if _, _, err := c.Propose(now, Proposal{Payload: payload}); err != nil {
			b.Fatal(err)
		}
		c.Ready()
		c.Advance()
	}
}
