// SPDX-License-Identifier: AGPL-3.0-only

// Package session is the replicated table that makes a request take effect at most once: of each client's session it keeps
// which sequence numbers were applied and what they answered.
//
// A request carries (session, seq). The table decides when the request's entry is applied, and so alike at every node:
//
//	Fresh      not applied yet: apply it, then Keep its result
//	Duplicate  applied before: the kept result is the answer, and nothing is applied
//	TooOld     below the window: whether it was applied is no longer known. Nothing is applied, and the answer is an error
//	Expired    the session is unknown, or was closed or forgotten: nothing is applied, and the answer is an error
//
// A session is opened by an entry and named by a number that was never a session's name before: the slot of that entry will
// do. Its sequence numbers count from 1. The window is the highest number that came and the WindowLen-1 below it; a client
// has no more than that many requests outstanding, and a number above the window moves it up. Each use renews a session. One
// that was not used for Options.Lifetime of LOG time, which is the commit times of the entries, is forgotten; no clock has a
// part in it. A client that is told Expired cannot know what became of its outstanding requests: their outcome is unknown.
//
// The package leaves to its caller: which entry opens, closes and uses a session, what a result is, the disk, and requests
// that were proposed and are not applied yet, of which the table knows nothing.
//
// Invariants: equal calls give equal tables, and equal tables equal bytes. The table is part of what is applied: it is written
// with Applied, and travels in snapshots. At most Options.SessionsMax sessions, each with at most WindowLen results of
// together at most Options.ResultBytesMax. No clock, randomness, goroutine or package state.
//
// # Layout of a table
//
//	1        version, 1
//	v v v    Options: SessionsMax, ResultBytesMax, Lifetime
//	v v      log time, highest session ever opened
//	v        number of sessions, then for each, by number:
//	  v v      session, less that of the one before; log time less the time of its last use
//	  v        highest sequence number
//	  v v      bits: applied, and applied without a kept result; bit i is of the number highest-i
//	  v        number of results that are not empty, then for each, by sequence number:
//	    v v ...  highest sequence number less its own; length; the result
//	4        CRC-32C of all that, little endian
//
// v is an unsigned varint in its shortest form, so that a table has one layout only.
package session

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// ID names a session of one group for ever; 0 is none.
type ID uint64

// Timestamp is a commit time: nanoseconds since the Unix epoch.
type Timestamp = uint64

// WindowLen is how many sequence numbers of a session may be outstanding at once.
const WindowLen = 64

// Limits of Options.
const (
	// SessionsLimit bounds Options.SessionsMax.
	SessionsLimit = 1 << 20
	// ResultBytesLimit bounds Options.ResultBytesMax.
	ResultBytesLimit = 1 << 20
	// LifetimeLimit bounds Options.Lifetime: a year, in nanoseconds.
	LifetimeLimit = 365 * 24 * 3600 * 1_000_000_000
)

var (
	// ErrInvalid is the class of an option out of its bounds, and of an Open of a name that was a session's before.
	ErrInvalid = errors.New("invalid session")
	// ErrFull is the class of an Open that found SessionsMax sessions: the client may try again later.
	ErrFull = errors.New("too many sessions")
	// ErrCorrupt is the class of what Decode refuses.
	ErrCorrupt = errors.New("corrupt session table")
)

// Options are replicated state: all nodes of a group must have the same, which the layout of the table carries.
type Options struct {
	// SessionsMax is how many sessions are open at once; Open refuses more. 1 to SessionsLimit, default 65,536. Small: clients
	// are turned away. Large: memory, about 200 bytes a session besides its results.
	SessionsMax int
	// ResultBytesMax is how many bytes of results a session keeps; the oldest give way, and a result longer than this is not
	// kept at all: its Duplicate then has no answer. 0 is the default; 1 to ResultBytesLimit, default 16 KiB.
	ResultBytesMax int
	// Lifetime is how long a session lives without use, in nanoseconds of log time. 1 to LifetimeLimit, default 1 hour. Short:
	// a client that is cut off for longer does not learn what became of its requests. Long: memory.
	Lifetime Timestamp
}

// EnsureDefaults fills the fields that are 0.
func (o *Options) EnsureDefaults() {
	if o.SessionsMax == 0 {
		o.SessionsMax = 1 << 16
	}
	if o.ResultBytesMax == 0 {
		o.ResultBytesMax = 16 << 10
	}
	if o.Lifetime == 0 {
		o.Lifetime = 3600 * 1_000_000_000
	}
}

// Validate reports every field that is out of its bounds.
func (o *Options) Validate() error {
	var errs []error
	if o.SessionsMax < 1 || o.SessionsMax > SessionsLimit {
		errs = append(errs, fmt.Errorf("%w: SessionsMax is %d, not between 1 and %d", ErrInvalid, o.SessionsMax, SessionsLimit))
	}
	if o.ResultBytesMax < 1 || o.ResultBytesMax > ResultBytesLimit {
		errs = append(errs, fmt.Errorf("%w: ResultBytesMax is %d, not between 1 and %d", ErrInvalid, o.ResultBytesMax, ResultBytesLimit))
	}
	if o.Lifetime < 1 || o.Lifetime > LifetimeLimit {
		errs = append(errs, fmt.Errorf("%w: Lifetime is %d ns, not between 1 and %d", ErrInvalid, o.Lifetime, uint64(LifetimeLimit)))
	}
	return errors.Join(errs...)
}

// Outcome is what the table says of a request.
type Outcome uint8

// The outcomes; see the package comment.
const (
	Fresh Outcome = iota + 1
	Duplicate
	TooOld
	Expired
)

// String is the outcome in words.
func (o Outcome) String() string {
	switch o {
	case Fresh:
		return "fresh"
	case Duplicate:
		return "duplicate"
	case TooOld:
		return "too old"
	case Expired:
		return "expired"
	default:
		return "no outcome"
	}
}

// Decision is the table's word on one request.
type Decision struct {
	Outcome Outcome
	// Kept says of a Duplicate that Result is what the request answered. Otherwise the result was too long, gave way to later
	// ones, or has not been kept yet: the request took effect, and its answer is not known. Result belongs to the table and
	// does not change.
	Kept   bool
	Result []byte
}

// Table is the sessions of one group. It is not safe for concurrent use.
type Table struct {
	options Options
	now     Timestamp // the latest log time
	opened  ID        // the highest session ever opened
	byID    map[ID]*session
	// All sessions in a ring through this one, by last use: oldest is what follows it.
	ring session
}

// session is one client's.
type session struct {
	id      ID
	used    Timestamp
	max     uint64 // highest sequence number that came
	applied uint64 // bit i: max-i was applied
	dropped uint64 // bit i: max-i was applied and its result is not kept
	results []result
	bytes   int // of results

	older, newer *session
}

// result is an answer that is not empty. Of an applied number without one that is not dropped, the answer was empty.
type result struct {
	seq  uint64
	body []byte
}

// New makes an empty table. Fields of o that are 0 have their default.
func New(o Options) (*Table, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	t := &Table{options: o, byID: map[ID]*session{}}
	t.ring.older, t.ring.newer = &t.ring, &t.ring
	return t, nil
}

// Len is the number of sessions.
func (t *Table) Len() int { return len(t.byID) }

// Now is the latest log time that the table has seen.
func (t *Table) Now() Timestamp { return t.now }

// Advance takes the commit time of an entry, and forgets the sessions whose time is over by it. Open, Apply and Close do it
// too. A time below the latest counts as the latest.
func (t *Table) Advance(now Timestamp) {
	t.now = max(t.now, now)
	for s := t.ring.newer; s != &t.ring && t.now-s.used > t.options.Lifetime; s = t.ring.newer {
		t.remove(s)
	}
}

// Open opens a session when the entry that asks for it, of this commit time, is applied. Requires: id is above every session
// opened before, as the slot of that entry is; else ErrInvalid. ErrFull when there are too many. After an error nothing is
// open that was not before.
func (t *Table) Open(id ID, now Timestamp) error {
	t.Advance(now)
	if id <= t.opened {
		return fmt.Errorf("%w: %d is not above %d, the last that was opened", ErrInvalid, id, t.opened)
	}
	if len(t.byID) >= t.options.SessionsMax {
		return fmt.Errorf("%w: %d are open, the limit", ErrFull, len(t.byID))
	}
	t.opened = id
	s := &session{id: id}
	t.byID[id] = s
	t.touch(s)
	return nil
}

// Close ends a session when the entry that asks for it is applied; it reports whether there was one.
func (t *Table) Close(id ID, now Timestamp) bool {
	t.Advance(now)
	s := t.byID[id]
	if s == nil {
		return false
	}
	t.remove(s)
	return true
}

// Apply decides about a request when its entry, of this commit time, is applied, and renews its session. After Fresh the
// number counts as applied: the caller applies the request in the same batch, and calls Keep.
func (t *Table) Apply(id ID, seq uint64, now Timestamp) Decision {
	t.Advance(now)
	s := t.byID[id]
	if s == nil {
		return Decision{Outcome: Expired}
	}
	t.touch(s)
	d := s.decide(seq)
	if d.Outcome == Fresh {
		s.raise(seq)
		bit := uint64(1) << (s.max - seq)
		s.applied |= bit
		s.dropped |= bit // until Keep
	}
	return d
}

// Peek says what Apply would, as far as that is settled: any outcome but Fresh is final. It changes nothing, and may be
// asked of any applied state; a session that this state does not have yet is Fresh, since Apply decides.
func (t *Table) Peek(id ID, seq uint64) Decision {
	if s := t.byID[id]; s != nil {
		return s.decide(seq)
	}
	if id > t.opened {
		return Decision{Outcome: Fresh}
	}
	return Decision{Outcome: Expired}
}

// Keep keeps a copy of the answer of a request that Apply called Fresh. It reports whether it was kept: not if it is longer
// than Options.ResultBytesMax, was kept before, or is not of an applied request in the window.
func (t *Table) Keep(id ID, seq uint64, body []byte) bool {
	s := t.byID[id]
	if s == nil || seq > s.max || s.max-seq >= WindowLen || len(body) > t.options.ResultBytesMax {
		return false
	}
	bit := uint64(1) << (s.max - seq)
	if s.dropped&bit == 0 {
		return false
	}
	s.dropped &^= bit
	if len(body) == 0 {
		return true
	}
	at, _ := slices.BinarySearchFunc(s.results, seq, compareSeq)
	s.results = slices.Insert(s.results, at, result{seq: seq, body: slices.Clone(body)})
	s.bytes += len(body)
	for s.bytes > t.options.ResultBytesMax {
		oldest := &s.results[0]
		if oldest.seq == seq { // all below it are gone: the next gives way, not the one just kept
			oldest = &s.results[1]
		}
		s.dropped |= 1 << (s.max - oldest.seq)
		s.forget(oldest.seq)
	}
	return true
}

func compareSeq(r result, seq uint64) int {
	switch {
	case r.seq < seq:
		return -1
	case r.seq > seq:
		return 1
	default:
		return 0
	}
}

// decide judges a sequence number. 0 is below every window.
func (s *session) decide(seq uint64) Decision {
	switch {
	case seq == 0:
		return Decision{Outcome: TooOld}
	case seq > s.max:
		return Decision{Outcome: Fresh}
	case s.max-seq >= WindowLen:
		return Decision{Outcome: TooOld}
	}
	bit := uint64(1) << (s.max - seq)
	switch {
	case s.applied&bit == 0:
		return Decision{Outcome: Fresh}
	case s.dropped&bit != 0:
		return Decision{Outcome: Duplicate}
	}
	d := Decision{Outcome: Duplicate, Kept: true}
	if at, ok := slices.BinarySearchFunc(s.results, seq, compareSeq); ok {
		d.Result = s.results[at].body
	}
	return d
}

// raise moves the window up to seq, if that is above it. A shift by more than the window's width leaves no bit.
func (s *session) raise(seq uint64) {
	if seq <= s.max {
		return
	}
	by := seq - s.max
	s.max = seq
	s.applied <<= by
	s.dropped <<= by
	for len(s.results) > 0 && s.max-s.results[0].seq >= WindowLen {
		s.forget(s.results[0].seq)
	}
}

// forget lets go of the result of seq. Requires: there is one.
func (s *session) forget(seq uint64) {
	at, _ := slices.BinarySearchFunc(s.results, seq, compareSeq)
	s.bytes -= len(s.results[at].body)
	s.results = slices.Delete(s.results, at, at+1)
}

// touch puts s at the young end of the ring.
func (t *Table) touch(s *session) {
	if s.older != nil {
		s.older.newer, s.newer.older = s.newer, s.older
	}
	s.used = t.now
	s.older, s.newer = t.ring.older, &t.ring
	s.older.newer, s.newer.older = s, s
}

func (t *Table) remove(s *session) {
	s.older.newer, s.newer.older = s.newer, s.older
	delete(t.byID, s.id)
}

// Outstanding is how many numbers below the highest of this session's window have not been applied: for display.
func (t *Table) Outstanding(id ID) int {
	s := t.byID[id]
	if s == nil {
		return 0
	}
	return int(min(s.max, WindowLen)) - bits.OnesCount64(s.applied)
}

// Clone is a deep copy, but for the results, which never change.
func (t *Table) Clone() *Table {
	c := &Table{options: t.options, now: t.now, opened: t.opened, byID: make(map[ID]*session, len(t.byID))}
	c.ring.older, c.ring.newer = &c.ring, &c.ring
	for s := t.ring.newer; s != &t.ring; s = s.newer {
		n := *s
		n.results = slices.Clone(s.results)
		c.link(&n)
	}
	return c
}

// link adds s at the young end, as it is.
func (t *Table) link(s *session) {
	t.byID[s.id] = s
	s.older, s.newer = t.ring.older, &t.ring
	s.older.newer, s.newer.older = s, s
}
