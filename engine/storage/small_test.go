// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"context"
	"fmt"
	"testing"
)

// write commits what fill puts into a batch.
func write(tb testing.TB, s *Store, fill func(b *Batch)) {
	tb.Helper()
	b := s.NewBatch()
	defer b.Close()
	fill(b)
	if err := b.Commit(true); err != nil {
		tb.Fatal(err)
	}
}

// storeSmall stores a group's record as that of a small group as of a time.
func storeSmall(tb testing.TB, s *Store, group string, after Timestamp) {
	tb.Helper()
	write(tb, s, func(b *Batch) { b.SetSmallRecord(group, []byte("record"), after, 1) })
}

// carry commits a version that carries a stamp.
func carry(tb testing.TB, s *Store, group, rest string, at Timestamp, nth int) {
	tb.Helper()
	write(tb, s, func(b *Batch) {
		b.PutCarrying(group, []byte(rest), at, Version{Value: fmt.Append(nil, at)}, fmt.Append(nil, "stamp ", at), nth)
	})
}

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

// TestIndexCarriedOfAGroupThatIsNotSmall: the index has all of it. Its versions, which carry nothing, were once taken for damage, which
// stops the store.
func TestIndexCarriedOfAGroupThatIsNotSmall(t *testing.T) {
	s := openMem(t)
	write(t, s, func(b *Batch) {
		b.PutVersion("g", []byte(".a"), 1, 0, Version{})
		b.PutVersion("g", []byte(".a"), 2, 0, Version{Deleted: true})
		b.PutVersion("g", []byte(".b"), 3, 0, Version{})
		b.SetRecord("g", []byte("record"))
		b.PutVersion("unrecorded", []byte(".a"), 3, 0, Version{})
	})
	b := s.NewBatch()
	defer b.Close()
	for group, want := range map[string]int{"g": 2, "unrecorded": 1, "absent": 0} {
		if keys, err := b.IndexCarried(group); err != nil || keys != want || !b.Empty() {
			t.Errorf("%s: %d keys, %v, empty %v", group, keys, err, b.Empty())
		}
	}
}

// TestIndexCarriedIsNotNothing: a batch of nothing but what the index lacks once said that it was empty.
func TestIndexCarriedIsNotNothing(t *testing.T) {
	s := openMem(t)
	storeSmall(t, s, "g", 1)
	carry(t, s, "g", ".a", 10, 1)
	b := s.NewBatch()
	defer b.Close()
	if _, err := b.IndexCarried("g"); err != nil || b.Empty() || b.Len() == 0 {
		t.Errorf("%v, empty %v, %d bytes", err, b.Empty(), b.Len())
	}
	if b.Reset(); !b.Empty() {
		t.Error("it is not empty after Reset")
	}
}
