// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/engine/storage"
)

// txnScan merges a snapshot's rows with the transaction's own writes. It remembers the range that it walked: from where
// it began to the last row it gave, or to its end.
type txnScan struct {
	t            *Txn
	base         *storage.Scan
	lower, upper []byte
	reverse      bool
	rangeAt      int // in the transaction's ranges
	sees         int

	own     []string // the transaction's keys in the range, in the order of the walk
	baseOK  bool     // base stands on a row that was not given yet
	ended   bool
	atOwn   *pending
	last    []byte
	started bool
	rewound bool
	closed  bool
}

var _ rowSource = (*txnScan)(nil)

// scan begins a scan, which keeps the transaction in use until it is closed.
func (t *Txn) scan(k key.Key, lower, upper []byte, reverse, keysOnly bool) (*txnScan, error) {
	if err := t.acquire(); err != nil {
		return nil, err
	}
	s, err := t.openScan(k, lower, upper, reverse, keysOnly)
	if err != nil {
		t.release()
	}
	return s, err
}

func (t *Txn) openScan(k key.Key, lower, upper []byte, reverse, keysOnly bool) (*txnScan, error) {
	if err := t.enter(k); err != nil {
		return nil, err
	}
	if err := t.roomForReads(len(lower) + len(upper)); err != nil {
		return nil, err
	}
	base, err := t.snapshot.NewScan(storage.ScanOptions{
		Group: t.group, Lower: lower, Upper: upper, At: t.at, Now: t.now, Reverse: reverse, KeysOnly: keysOnly,
	})
	if err != nil {
		return nil, t.e.readError(err)
	}
	s := &txnScan{t: t, base: base, lower: bytes.Clone(lower), upper: bytes.Clone(upper), reverse: reverse, sees: t.sees}
	s.rangeAt = len(t.ranges)
	t.ranges = append(t.ranges, command.Range{Lower: s.lower, Upper: s.upper})
	s.takeOwn()
	return s, nil
}

// takeOwn gathers the transaction's own keys in the range.
func (s *txnScan) takeOwn() {
	s.own = nil
	writes := s.t.writes
	for i := writes.seek(string(s.lower)); i < len(writes.keys); i++ {
		rest := writes.keys[i]
		if s.upper != nil && rest >= string(s.upper) {
			break
		}
		if writes.get(rest, s.sees) != nil {
			s.own = append(s.own, rest)
		}
	}
	if s.reverse {
		slices.Reverse(s.own)
	}
}

// Rewind begins again.
func (s *txnScan) Rewind() {
	s.base.Rewind()
	s.takeOwn()
	s.started, s.baseOK, s.ended, s.atOwn = false, false, false, nil
	s.rewound = true
}

// Next moves to the next row that the transaction sees.
func (s *txnScan) Next() bool {
	if !s.started {
		s.started = true
		s.baseOK = s.base.Next()
	} else if s.atOwn == nil && !s.ended {
		s.baseOK = s.base.Next()
	}
	for {
		s.atOwn = nil
		if !s.baseOK && len(s.own) == 0 {
			s.ended = true
			return false
		}
		order := s.order()
		if order > 0 { // the snapshot's row comes first
			s.t.lives(s.base.Version().Expires)
			return true
		}
		rest := s.own[0]
		s.own = s.own[1:]
		if order == 0 { // the own write hides it
			s.baseOK = s.base.Next()
		}
		p := s.t.writes.get(rest, s.sees)
		if p == nil || p.deleted { // nil: rolled back while the scan was open
			continue
		}
		s.atOwn, s.last = p, append(s.last[:0], rest...)
		return true
	}
}

// order compares the next own key with the snapshot's row, in the direction of the walk: negative when the own key comes first.
func (s *txnScan) order() int {
	switch {
	case len(s.own) == 0:
		return 1
	case !s.baseOK:
		return -1
	}
	c := strings.Compare(s.own[0], string(s.base.Rest()))
	if s.reverse {
		return -c
	}
	return c
}

func (s *txnScan) Rest() []byte {
	if s.atOwn != nil {
		return s.last
	}
	return s.base.Rest()
}

// Version has no time for a row that the transaction wrote: it gets one at the commit.
func (s *txnScan) Version() storage.Version {
	if s.atOwn != nil {
		return storage.Version{Size: int64(len(s.atOwn.value))}
	}
	return s.base.Version()
}

func (s *txnScan) Bytes() ([]byte, error) {
	if s.atOwn != nil {
		return s.atOwn.value, nil
	}
	return s.base.Bytes()
}

func (s *txnScan) WriteTo(w io.Writer) (int64, error) {
	if s.atOwn != nil {
		n, err := w.Write(s.atOwn.value)
		return int64(n), err
	}
	return s.base.WriteTo(w)
}

func (s *txnScan) Err() error { return s.base.Err() }

// Close narrows the range that was read to what was walked; of a walk that was begun again, the first may have been the
// longer one, so its range stays whole.
func (s *txnScan) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	defer s.t.release()
	if !s.rewound && !s.ended && !s.t.over && s.base.Err() == nil {
		walked := &s.t.ranges[s.rangeAt]
		switch {
		case !s.started:
			walked.Lower, walked.Upper = s.lower, s.lower
		case s.reverse:
			walked.Lower = bytes.Clone(s.Rest())
		default:
			walked.Upper = append(bytes.Clone(s.Rest()), 0)
		}
	}
	return s.base.Close()
}
