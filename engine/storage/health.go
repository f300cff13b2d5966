// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"fmt"
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// health remembers the first failure that is not retried past, and how the log's syncs go.
type health struct {
	log    *slog.Logger
	once   sync.Once
	err    atomic.Pointer[error]
	failed chan struct{} // closed by fail

	syncs   latencies
	syncing atomic.Int64 // when the sync of the log that is under way began, 0 for none; nanoseconds on the monotonic clock
	epoch   time.Time    // zero of that clock

	backgroundErrors atomic.Int64 // in a row
	removeErrors     atomic.Int64
}

func newHealth(log *slog.Logger) *health {
	return &health{log: log, failed: make(chan struct{}), epoch: time.Now()}
}

// fail makes the store stop: every later call returns err. The first failure stays.
func (h *health) fail(err error) {
	h.once.Do(func() {
		err = fmt.Errorf("%w: %w", ErrFatal, err)
		h.err.Store(&err)
		close(h.failed)
		h.log.Error("storage failed for good", "error", err)
	})
}

// Err is nil until fail.
func (h *health) Err() error {
	if p := h.err.Load(); p != nil {
		return *p
	}
	return nil
}

func (h *health) mono() int64 { return int64(time.Since(h.epoch)) + 1 }

// syncStall is how long the sync under way has taken so far.
func (h *health) syncStall() time.Duration {
	if began := h.syncing.Load(); began != 0 {
		return time.Duration(h.mono() - began)
	}
	return 0
}

// latencies is a histogram with four buckets to each power of two of microseconds.
type latencies struct {
	count   atomic.Int64
	max     atomic.Int64
	buckets [4 * 32]atomic.Int64
}

func (l *latencies) observe(d time.Duration) {
	l.count.Add(1)
	for {
		m := l.max.Load()
		if int64(d) <= m || l.max.CompareAndSwap(m, int64(d)) {
			break
		}
	}
	l.buckets[bucketOf(d)].Add(1)
}

func bucketOf(d time.Duration) int {
	us := uint64(max(d/time.Microsecond, 1))
	exp := bits.Len64(us) - 1
	quarter := 0
	if exp >= 2 {
		quarter = int(us>>(exp-2)) & 3
	}
	return min(4*exp+quarter, 4*32-1)
}

// bucketTop is the upper bound of a bucket.
func bucketTop(i int) time.Duration {
	exp, quarter := i/4, i%4
	if exp < 2 {
		return time.Duration(1<<(exp+1)) * time.Microsecond
	}
	return time.Duration(uint64(5+quarter)<<(exp-2)) * time.Microsecond
}

// quantile is an upper bound of the q-th part of the observations.
func (l *latencies) quantile(q float64) time.Duration {
	want := int64(q * float64(l.count.Load()))
	var seen int64
	for i := range l.buckets {
		if n := l.buckets[i].Load(); n > 0 {
			if seen += n; seen > want {
				return min(bucketTop(i), time.Duration(l.max.Load()))
			}
		}
	}
	return time.Duration(l.max.Load())
}

// timeSince is the time since a reading of mono.
func timeSince(h *health, began int64) time.Duration { return time.Duration(h.mono() - began) }
