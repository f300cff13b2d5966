// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// space keeps the store alive on a full disk. Three things stand behind one another:
//
//	the watermark  a batch is refused, with nothing applied, while the file system has less than MinFreeBytes free. The
//	               figure is at most 100 ms or an eighth of the watermark's bytes old. This is what a full disk looks
//	               like in practice: Pebble never meets it.
//	the ballast    when the disk is full all the same (another program, a quota), a file of BallastBytes is removed, so
//	               that the batches already on their way, and the MANIFEST, find room.
//	the wait       when that is not enough either, what has begun waits for room, up to SpaceWait, and then fails for good.
//
// Once the disk has been full, the gate stays closed until room is proven: enough is free, and the ballast could be made
// again (or, without one, a probe could be written).
type space struct {
	fs     vfs.FS // the disk itself, not the guard
	dir    string
	health *health
	retry  time.Duration
	wait   time.Duration
	atEnd  time.Duration // wait, once Close has begun

	minFree int64
	ballast int64

	latched atomic.Bool // the disk was full, and room has not been proven since
	handles atomic.Bool // what was last lacking are file handles
	held    atomic.Bool // the ballast is in place
	opening atomic.Bool // Open is under way: do not wait
	cutOff  atomic.Bool // Close could not write the end of the log
	pauses  atomic.Int32
	waiting atomic.Int32

	checkedAt  atomic.Int64
	free       atomic.Int64
	sinceCheck atomic.Int64
	queued     atomic.Int64 // of batches whose sync is waited for: perhaps not yet among sinceCheck
	refusals   atomic.Int64
	low        atomic.Bool // the last answer of the watermark, to log changes only

	mu     sync.Mutex // of the ballast file; held across its I/O, which nothing else waits for but its own kind
	wake   chan struct{}
	stop   chan struct{}
	ended  chan struct{}
	closer sync.Once
}

const (
	ballastName  = "ballast"
	probeName    = "probe"
	probeLen     = 256 << 10
	spaceCheck   = 100 * time.Millisecond
	pausesAtOpen = 3
)

func newSpace(fs vfs.FS, o *Options, h *health) *space {
	s := &space{
		fs: fs, dir: o.Dir, health: h, retry: o.SpaceRetry, wait: o.SpaceWait, atEnd: min(o.SpaceWait, o.CloseWait),
		minFree: o.MinFreeBytes, ballast: o.BallastBytes,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	s.free.Store(1 << 62)
	s.opening.Store(true)
	return s
}

// start lays the ballast and begins to watch for room, with a call of tick once a second. Requires: the directory is
// locked by this store.
func (s *space) start(tick func()) {
	s.opening.Store(false)
	s.measure()
	s.layBallast()
	go s.watch(tick) // owner: space.close stops it and waits
}

func (s *space) close() {
	s.closer.Do(func() { close(s.stop) })
	<-s.ended
}

// urgency says how far below the watermark a batch may go.
type urgency byte

const (
	ordinary urgency = iota
	reclaims         // frees space in the end: a quarter of the watermark
	urgent           // a few bytes that reads need to go on: no watermark
)

// admit says whether a batch of n bytes may begin.
func (s *space) admit(n int, u urgency) error {
	if s.opening.Load() {
		return nil // Pebble has written more than n by now, and found room or failed
	}
	if s.latched.Load() {
		s.refusals.Add(1)
		if s.handles.Load() {
			return fmt.Errorf("%w: waiting for some; the process has too many files and connections open for its limit", noHandlesError{})
		}
		return fmt.Errorf("%w: waiting for space on the file system of %s", ErrDiskFull, s.dir)
	}
	if s.minFree == 0 || u == urgent {
		return nil
	}
	if now := s.health.mono(); now-s.checkedAt.Load() > int64(spaceCheck) || s.sinceCheck.Load() > s.minFree/8 {
		s.measure()
	}
	want := s.minFree
	if u == reclaims {
		want /= 4
	}
	free := s.free.Load() - s.sinceCheck.Load() - s.queued.Load()
	if free-int64(n) >= want {
		if free-int64(n) >= s.minFree {
			s.raised(free)
		}
		return nil
	}
	s.refusals.Add(1)
	if s.low.CompareAndSwap(false, true) {
		s.health.log.Error("disk is nearly full, writes are refused", "freeBytes", free, "wantBytes", want)
	}
	return fmt.Errorf("%w: %d bytes free on the file system of %s, writes need %d", ErrDiskFull, max(free, 0), s.dir, want)
}

// raised notes that there is room above the watermark: for all writes, not only for those that free space.
func (s *space) raised(free int64) {
	if s.low.Load() && s.low.CompareAndSwap(true, false) {
		s.health.log.Info("disk has room again", "freeBytes", free)
	}
}

// measure asks the file system. One that cannot tell (a test's) is taken to have room.
func (s *space) measure() {
	s.checkedAt.Store(s.health.mono())
	s.sinceCheck.Store(0)
	u, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		s.free.Store(1 << 62)
		return
	}
	s.free.Store(int64(min(u.AvailBytes, 1<<62)))
}

func (s *space) wrote(n int) { s.sinceCheck.Add(int64(n)) }

// full reports whether writes are refused now.
func (s *space) full() bool { return s.latched.Load() || s.low.Load() }

func (s *space) latch(err error) {
	s.handles.Store(lacksHandles(err))
	if s.latched.CompareAndSwap(false, true) {
		s.health.log.Error(roomError(err).Error()+", writes are refused", "error", err)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// waiting is the patience of one operation.
type waiting struct {
	since int64
}

// await is called by an operation that met a full disk and must not fail. It returns when the operation is to be tried
// again, or false when it has waited too long.
func (s *space) await(w *waiting, err error) bool {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	s.latch(err)
	if s.dropBallast() {
		return true
	}
	now := s.health.mono()
	if w.since == 0 {
		w.since = now
	}
	limit := s.wait
	if s.stopped() {
		limit = s.atEnd
	}
	if s.opening.Load() || now-w.since > int64(limit) {
		return false
	}
	return s.rest()
}

// pause is called when a table met a full disk, before the error goes to Pebble, which would try again at once and for
// ever. False means that it should not.
func (s *space) pause(err error) bool {
	s.latch(err)
	if s.opening.Load() {
		s.dropBallast()
		return s.pauses.Add(1) <= pausesAtOpen
	}
	return s.rest()
}

// rest waits a little; false when the store has failed meanwhile.
func (s *space) rest() bool {
	t := time.NewTimer(s.retry)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.health.failed:
		return false
	}
}

// stopped says whether Close has begun.
func (s *space) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

func (s *space) path(name string) string { return s.fs.PathJoin(s.dir, name) }

// dropBallast removes the ballast; false if there was none.
func (s *space) dropBallast() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening.Load() {
		if _, err := s.fs.Stat(s.path(ballastName)); err != nil {
			return false
		}
	} else if !s.held.Load() {
		return false
	}
	s.held.Store(false)
	if err := s.fs.Remove(s.path(ballastName)); err != nil {
		s.health.log.Warn("the ballast cannot be removed", "error", err)
		return false
	}
	s.health.log.Warn("the ballast was given up for space", "bytes", s.ballast)
	return true
}

// layBallast puts the ballast in place if it is not there and there is room for it; false if not.
func (s *space) layBallast() bool {
	if s.ballast == 0 || s.held.Load() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free.Load() < s.minFree+s.ballast {
		// There is no room to lay it anew; one that is there, from an earlier start, is as good.
		_, err := s.fs.Stat(s.path(ballastName))
		s.held.Store(err == nil)
		return err == nil
	}
	if err := s.fill(ballastName, s.ballast); err != nil {
		s.health.log.Warn("the ballast cannot be laid", "bytes", s.ballast, "error", err)
		_ = s.fs.Remove(s.path(ballastName)) // what there is of it; it is tried again later
		return false
	}
	s.held.Store(true)
	return true
}

// probe proves that a little can be written.
func (s *space) probe() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.fill(probeName, probeLen)
	if rerr := s.fs.Remove(s.path(probeName)); err == nil {
		err = rerr
	}
	return err == nil
}

// fill makes a file that occupies n bytes: reserved where the file system can do that, else written. On a file system
// that compresses or copies on write neither is a promise, and the watermark has to do.
func (s *space) fill(name string, n int64) (err error) {
	f, err := s.fs.OpenReadWrite(s.path(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if f.Fd() != vfs.InvalidFd && f.Preallocate(0, n) == nil {
		return nil
	}
	block := make([]byte, min(n, 1<<20))
	for done := int64(0); done < n; done += int64(len(block)) {
		if _, err := f.Write(block[:min(int64(len(block)), n-done)]); err != nil {
			return err
		}
	}
	return f.Sync()
}

// watch opens the gate again.
func (s *space) watch(tick func()) {
	defer close(s.ended)
	seconds := time.NewTicker(time.Second)
	defer seconds.Stop()
	soon := time.NewTimer(s.retry)
	defer soon.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-seconds.C:
			tick()
			if s.ballast > 0 && !s.held.Load() && !s.latched.Load() {
				s.measure()
				s.layBallast()
			}
			s.recheck()
		case <-s.wake:
			soon.Reset(s.retry)
		case <-soon.C:
			if s.latched.Load() {
				s.reopen()
				soon.Reset(s.retry)
			}
		}
	}
}

// recheck looks whether the disk has room again when nobody writes.
func (s *space) recheck() {
	if !s.low.Load() {
		return
	}
	s.measure()
	if free := s.free.Load() - s.queued.Load(); free >= s.minFree {
		s.raised(free)
	}
}

// reopen takes writes again if there is room for them.
func (s *space) reopen() {
	if s.waiting.Load() > 0 || s.health.Err() != nil {
		return
	}
	s.measure()
	free := s.free.Load()
	if free < s.minFree || !s.layBallast() || !s.probe() {
		return
	}
	s.latched.Store(false)
	s.health.log.Info("disk has room again, writes are taken", "freeBytes", free)
}
