// SPDX-License-Identifier: AGPL-3.0-only

package hlc

import (
	"errors"
	"sync"
	"testing"
	"time"
)

type memCeiling struct {
	mu     sync.Mutex
	v      Timestamp
	writes int
	err    error
}

func (m *memCeiling) Ceiling() (Timestamp, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.v, nil
}

func (m *memCeiling) SetCeiling(t Timestamp) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.writes++
	m.v = t
	return nil
}

func open(t testing.TB, m *memCeiling, wall func() time.Time) *Clock {
	t.Helper()
	c, err := Open(m, wall, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRisesUnderConcurrencyAndWithAWallClockThatStands(t *testing.T) {
	m := &memCeiling{}
	c := open(t, m, func() time.Time { return time.Unix(1000, 0) })
	const workers, each = 8, 2000
	got := make([][]Timestamp, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				now, err := c.Now()
				if err != nil {
					t.Error(err)
					return
				}
				got[w] = append(got[w], now)
			}
		})
	}
	wg.Wait()
	seen := map[Timestamp]bool{}
	for _, g := range got {
		for i, v := range g {
			if seen[v] {
				t.Fatalf("reading %d given out twice", v)
			}
			seen[v] = true
			if i > 0 && v <= g[i-1] {
				t.Fatalf("reading %d after %d", v, g[i-1])
			}
			if v > m.v {
				t.Fatalf("reading %d above the durable ceiling %d", v, m.v)
			}
		}
	}
	if len(seen) != workers*each {
		t.Fatalf("%d readings, want %d", len(seen), workers*each)
	}
}

func TestRestartWithWallClockSetBack(t *testing.T) {
	m := &memCeiling{}
	wall := time.Unix(5000, 0)
	c := open(t, m, func() time.Time { return wall })
	var last Timestamp
	for range 100 {
		wall = wall.Add(time.Second)
		var err error
		if last, err = c.Now(); err != nil {
			t.Fatal(err)
		}
	}
	if m.writes > 25 {
		t.Fatalf("%d ceiling writes in 100 s, want at most one per %s", m.writes, time.Duration(Headroom/2))
	}
	wall = time.Unix(10, 0)
	again := open(t, m, func() time.Time { return wall })
	if r := again.Read(); r < last {
		t.Fatalf("read time %d after a restart is below %d", r, last)
	}
	now, err := again.Now()
	if err != nil {
		t.Fatal(err)
	}
	if now <= last {
		t.Fatalf("reading %d after a restart is not above %d", now, last)
	}
}

func TestFullDiskStopsNowButNotRead(t *testing.T) {
	m := &memCeiling{}
	wall := time.Unix(100, 0)
	c := open(t, m, func() time.Time { return wall })
	if _, err := c.Now(); err != nil {
		t.Fatal(err)
	}
	m.err = errors.New("no space left on device")
	wall = wall.Add(time.Duration(Headroom) - time.Second)
	if _, err := c.Now(); err != nil {
		t.Fatalf("the old ceiling still covers this reading: %v", err)
	}
	wall = wall.Add(time.Hour)
	if _, err := c.Now(); !errors.Is(err, m.err) {
		t.Fatalf("got %v, want the store's error", err)
	}
	if r := c.Read(); r > m.v {
		t.Fatalf("read time %d above the durable ceiling %d", r, m.v)
	}
	gone := c.Wall()
	if gone < Timestamp(wall.UnixNano()) {
		t.Fatalf("what expires is judged at %d, the wall clock shows %d", gone, wall.UnixNano())
	}
	m.err = nil
	now, err := c.Now()
	if err != nil || now < Timestamp(wall.UnixNano()) {
		t.Fatalf("after space returned: %d, %v", now, err)
	}
}

func TestObserve(t *testing.T) {
	m := &memCeiling{}
	c := open(t, m, func() time.Time { return time.Unix(1, 0) })
	const far = Timestamp(1e15)
	if err := c.Observe(far); err != nil {
		t.Fatal(err)
	}
	if w := c.Wall(); w < far {
		t.Fatalf("wall time %d below the observed %d", w, far)
	}
	if now, err := c.Now(); err != nil || now <= far || m.v <= far {
		t.Fatalf("now %d ceiling %d after observing %d (%v)", now, m.v, far, err)
	}
}

// TestWallClockOutOfRange: a wall clock that shows a time which nanoseconds since 1970 cannot say counts as one that stands. Such a time,
// taken as it is, was later than every other: it went into the stored ceiling, and the directory took no write ever after.
func TestWallClockOutOfRange(t *testing.T) {
	good := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, bad := range []time.Time{
		{},
		time.Unix(0, -1), time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(0, 1<<63-1).Add(1),
		time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2600, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		wall := good
		m := &memCeiling{}
		c := open(t, m, func() time.Time { return wall })
		last, err := c.Now()
		if err != nil {
			t.Fatal(err)
		}
		wall = bad
		for range 2 {
			now, err := c.Now()
			if err != nil || now != last+1 {
				t.Fatalf("at %s: reading %d after %d (%v)", bad, now, last, err)
			}
			if r, w := c.Read(), c.Wall(); r != now || w != now {
				t.Fatalf("at %s: to read at %d, to judge by %d, want %d", bad, r, w, now)
			}
			last = now
			if c, err = Open(m, func() time.Time { return wall }, func() (Timestamp, error) { return now, nil }); err != nil {
				t.Fatal(err)
			}
		}
		if m.v > Timestamp(good.UnixNano())+2*Headroom {
			t.Fatalf("at %s: the ceiling was raised to %d", bad, m.v)
		}
		wall = good.Add(time.Hour)
		if now, err := c.Now(); err != nil || now != Timestamp(wall.UnixNano()) {
			t.Fatalf("after %s: reading %d (%v), want %d", bad, now, err, wall.UnixNano())
		}
	}
}

func BenchmarkNow(b *testing.B) {
	c := open(b, &memCeiling{}, nil)
	for b.Loop() {
		if _, err := c.Now(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRestartGoesOnFromTheNewestCommit restarts once a second: the clock stays with the wall clock and does not climb from ceiling to ceiling.
func TestRestartGoesOnFromTheNewestCommit(t *testing.T) {
	m := &memCeiling{}
	wall := time.Unix(5000, 0)
	var last Timestamp
	restart := func() *Clock {
		c, err := Open(m, func() time.Time { return wall }, func() (Timestamp, error) { return last, nil })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	take := func(c *Clock) Timestamp {
		t.Helper()
		if r := c.Read(); r < last {
			t.Fatalf("read time %d below the newest commit %d", r, last)
		}
		now, err := c.Now()
		if err != nil || now <= last || now > m.v {
			t.Fatalf("reading %d after %d under ceiling %d: %v", now, last, m.v, err)
		}
		last = now
		return now
	}
	for range 20 {
		wall = wall.Add(time.Second)
		c := restart()
		if now := take(c); now > Timestamp(wall.UnixNano())+1 {
			t.Fatalf("reading %d, the wall clock shows %d", now, wall.UnixNano())
		}
		take(c)
	}
	reached := last
	wall = time.Unix(10, 0) // set back
	for range 20 {
		take(restart())
	}
	if ahead := last - reached; ahead > Headroom {
		t.Fatalf("20 restarts with a wall clock set back took the clock %s ahead", time.Duration(ahead))
	}
	if _, err := Open(m, func() time.Time { return wall }, func() (Timestamp, error) { return 0, errors.New("damaged") }); err == nil {
		t.Fatal("opened without knowing the newest commit")
	}
}
