// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// timesOf lists the versions that are kept of a key, the newest first.
func timesOf(tb testing.TB, r Reader, group, rest string) (times []Timestamp) {
	tb.Helper()
	for at := newest; ; {
		h, _, err := r.GetAt(group, []byte(rest), at)
		if err != nil {
			tb.Fatal(err)
		}
		if h == nil {
			return times
		}
		times = append(times, h.Version().Time)
		at = h.Version().Time - 1
		if err := h.Close(); err != nil {
			tb.Fatal(err)
		}
	}
}

// collectAll collects up to floor, to the end of a round.
func collectAll(tb testing.TB, s *Store, floor Timestamp) CollectStats {
	tb.Helper()
	stats, more, err := s.CollectBefore(ctxForTest, floor, 1<<30)
	if err != nil || more {
		tb.Fatalf("collect up to %d: more %v, %v", floor, more, err)
	}
	return stats
}

// meddler is a context that does something when it is asked for its error, once.
type meddler struct {
	context.Context
	do func()
}

func (m *meddler) Err() error {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return nil
}

// TestCollectOfWhatCameMeanwhile commits a version while a round is in the change index: the round does not see it in the state that it
// walks, and once counted it as seen, so that what it made old was kept until some other small group was written.
func TestCollectOfWhatCameMeanwhile(t *testing.T) {
	s := openMem(t)
	storeSmall(t, s, "g", 1)
	carry(t, s, "g", ".a", 10, 1)
	put(t, s, "other", ".x", 30, Version{})
	ctx := &meddler{ctxForTest, func() { carry(t, s, "g", ".a", 20, 2) }}
	if _, more, err := s.CollectBefore(ctx, 5, 1<<30); err != nil || more || ctx.do != nil {
		t.Fatalf("more %v, %v, context asked: %v", more, err, ctx.do == nil)
	}
	if collectAll(t, s, 25); len(timesOf(t, s, "g", ".a")) != 1 {
		t.Errorf("versions %d are kept", timesOf(t, s, "g", ".a"))
	}
}

// TestCollectOfWhatIsBeingCommitted lets a whole round pass between the moment at which a commit begins and that at which its versions
// are there to be seen: it was counted at the former, with the same end.
func TestCollectOfWhatIsBeingCommitted(t *testing.T) {
	s := openMem(t)
	storeSmall(t, s, "g", 1)
	carry(t, s, "g", ".a", 10, 1)
	b := s.NewBatch()
	defer b.Close()
	b.PutCarrying("g", []byte(".a"), 20, Version{}, nil, 2)
	if err := b.begin(); err != nil {
		t.Fatal(err)
	}
	collectAll(t, s, 5)
	if err := s.apply(b.b, true); err != nil {
		t.Fatal(err)
	}
	b.leave()
	if collectAll(t, s, 25); len(timesOf(t, s, "g", ".a")) != 1 {
		t.Errorf("versions %d are kept", timesOf(t, s, "g", ".a"))
	}
}

// TestIndexCarriedBeforeTheCollection stores a group's record by itself after SweptTo has passed its versions, and before the collection has
// come to the group, or after a crash that took back what that had removed. What the index then was not told of was never collected: the
// group need not be small any more, and if it is it has no stamp.
func TestIndexCarriedBeforeTheCollection(t *testing.T) {
	for _, small := range []bool{false, true} {
		s := openMem(t)
		s.CollectKnowing(func(string) bool { return false })
		storeSmall(t, s, "g", 1)
		carry(t, s, "g", ".a", 10, 1)
		carry(t, s, "g", ".a", 11, 2)
		carry(t, s, "g", ".b", 12, 3)
		if err := s.SetSweptTo(20); err != nil {
			t.Fatal(err)
		}
		write(t, s, func(b *Batch) {
			if keys, err := b.IndexCarried("g"); err != nil || keys != 2 {
				t.Fatalf("%d keys, %v", keys, err)
			}
			if small {
				b.SetSmallRecord("g", []byte("record"), 20, 2)
			} else {
				b.SetRecord("g", []byte("record"))
			}
		})
		collectAll(t, s, 20)
		if a, b := timesOf(t, s, "g", ".a"), timesOf(t, s, "g", ".b"); len(a) != 1 || len(b) != 1 {
			t.Errorf("small %v: versions %d and %d are kept", small, a, b)
		}
	}
}

// TestCollectKeepsToItsBudget collects in a small group of which a great many versions are kept, as of a counter that is written all the
// time: each round once walked all of them, in one call, whatever its budget.
func TestCollectKeepsToItsBudget(t *testing.T) {
	s := openMem(t)
	const n = 2000 // one record of the index
	write(t, s, func(b *Batch) {
		for at := range Timestamp(n) {
			b.PutVersion("g", []byte(".a"), 101+at, 0, Version{})
		}
		b.SetSmallRecord("g", []byte("record"), 100+n, 1)
	})
	for i := range Timestamp(CarriedMax) {
		carry(t, s, "g", ".a", 101+n+i, int(i)+1)
	}
	const most = 2 + CarriedMax + 1 // two records, the versions with stamps, and that which the oldest of them made old
	if stats := collectAll(t, s, 50); stats.Looked > most || stats.Earliest != 100+n {
		t.Errorf("looked at %d, want %d at most; earliest %d", stats.Looked, most, stats.Earliest)
	}
	collectAll(t, s, 100+n)
	if got := timesOf(t, s, "g", ".a"); len(got) != CarriedMax+1 {
		t.Errorf("%d versions are kept, want %d", len(got), CarriedMax+1)
	}
	stats := collectAll(t, s, 110+n)
	if got := timesOf(t, s, "g", ".a"); len(got) != CarriedMax-9 || stats.Versions != 10 || stats.Looked > most || stats.Earliest != 111+n {
		t.Errorf("%d versions are kept, %+v", len(got), stats)
	}
}

// TestRecordCutShortStopsTheCollection: a record that cannot be read does not pass for one of a group that is not small.
func TestRecordCutShortStopsTheCollection(t *testing.T) {
	s := mustOpen(t, memOptions(vfs.NewMem()))
	if err := s.db.Set(appendRecordKey(nil, "g"), []byte{smallMark}, nil); err != nil {
		t.Fatal(err)
	}
	if _, more, err := s.CollectBefore(ctxForTest, 1, 1000); !more || !errors.Is(err, ErrCorrupt) {
		t.Errorf("more %v, %v", more, err)
	}
	if err := s.Close(); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

// TestCollectPassesOver: a round looks at the small groups only if the one before left something there, or a stamp has come since.
func TestCollectPassesOver(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, memOptions(fs))
	looks := func(what string, floor Timestamp, want int, earliest Timestamp) {
		t.Helper()
		if stats := collectAll(t, s, floor); stats.Looked != want || stats.Earliest != earliest {
			t.Errorf("%s: looked at %d, want %d; earliest %d, want %d", what, stats.Looked, want, stats.Earliest, earliest)
		}
	}
	storeSmall(t, s, "g", 1)
	write(t, s, func(b *Batch) { b.SetRecord("plain", []byte("record")) })
	looks("first round", 2, 2, 0)
	looks("nothing new", 3, 0, 0)
	carry(t, s, "g", ".a", 10, 1)
	looks("a stamp", 4, 3, 0)
	looks("a stamp that nothing is older than", 20, 0, 0)
	carry(t, s, "g", ".a", 30, 2)
	looks("a version made old later than the floor", 25, 4, 30)
	looks("what was left", 26, 4, 30)
	if got := timesOf(t, s, "g", ".a"); len(got) != 2 {
		t.Errorf("versions %d are kept", got)
	}
	looks("what can go now", 30, 4, 0)
	if got := timesOf(t, s, "g", ".a"); len(got) != 1 {
		t.Errorf("versions %d are kept", got)
	}
	looks("nothing left", 31, 0, 0)
	put(t, s, "plain", ".a", 40, Version{})
	looks("a change that the index has", 35, 1, 40)
	looks("and can go", 40, 1, 0)
	b := s.NewBatch()
	b.PutCarrying("g", []byte(".b"), 50, Version{}, nil, 3)
	if err := errors.Join(b.CommitLater(), b.Wait()); err != nil {
		t.Fatal(err)
	}
	b.Close()
	looks("a stamp that was committed later", 41, 4, 0)
	looks("nothing left again", 42, 0, 0)
	mustClose(t, s)
	s = mustOpen(t, memOptions(fs))
	looks("a start", 43, 4, 0)
	looks("nothing left after a start", 44, 0, 0)
	mustClose(t, s)
}

// TestCollectGoesOnWithARound stops a round over small groups in each, and goes on. What one of them leaves keeps the next round from
// being passed over, whichever call it was in.
func TestCollectGoesOnWithARound(t *testing.T) {
	s := openMem(t)
	groups := []string{"a", "b", "c"}
	for _, g := range groups {
		storeSmall(t, s, g, 1)
		carry(t, s, g, ".a", 10, 1)
	}
	carry(t, s, "a", ".a", 20, 2)
	round := func(floor Timestamp) (calls, looked int) {
		t.Helper()
		for more := true; more; calls++ {
			var stats CollectStats
			var err error
			if stats, more, err = s.CollectBefore(ctxForTest, floor, 1); err != nil {
				t.Fatal(err)
			}
			looked += stats.Looked
		}
		return calls, looked
	}
	for range 2 {
		if calls, looked := round(15); calls != len(groups) || looked != 3+2+2 {
			t.Errorf("%d calls looked at %d", calls, looked)
		}
	}
	if round(20); len(timesOf(t, s, "a", ".a")) != 1 {
		t.Errorf("versions %d are kept", timesOf(t, s, "a", ".a"))
	}
	if calls, looked := round(30); calls != 1 || looked != 0 {
		t.Errorf("%d calls looked at %d", calls, looked)
	}
}

// TestCollectKnowing: of small groups, and of no others, it is asked which may have a stamp, and passes those over that have none.
func TestCollectKnowing(t *testing.T) {
	s := openMem(t)
	var asked []string
	s.CollectKnowing(func(group string) bool {
		asked = append(asked, group)
		return group != "b"
	})
	write(t, s, func(b *Batch) { b.SetRecord("plain", []byte("record")) })
	for _, g := range []string{"a", "b", "c"} {
		storeSmall(t, s, g, 1)
		carry(t, s, g, ".a", 10, 1)
		carry(t, s, g, ".a", 20, 2)
	}
	stats := collectAll(t, s, 20)
	if !slices.Equal(asked, []string{"a", "b", "c"}) || stats.Looked != 4+2+2 || stats.Versions != 2 {
		t.Errorf("asked about %q, %+v", asked, stats)
	}
	for g, want := range map[string]int{"a": 1, "b": 2, "c": 1} {
		if got := timesOf(t, s, g, ".a"); len(got) != want {
			t.Errorf("%s: versions %d are kept, want %d", g, got, want)
		}
	}
}
