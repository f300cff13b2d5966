// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/atlas-edge/atlas/engine/key"
)

// ScanOptions say which keys of a group a scan gives.
type ScanOptions struct {
	Group string
	// Lower and Upper bound the rests: Lower <= rest < Upper. Nil is no bound.
	Lower, Upper []byte
	// At is the timestamp read at: of each key the newest version not later counts.
	At Timestamp
	// Now leaves out what expired at or before it; 0 leaves nothing out.
	Now Timestamp
	// Reverse gives the keys from the last to the first.
	Reverse bool
	// KeysOnly leaves Value nil.
	KeysOnly bool
}

// Scan walks keys in order, in the state that the store had when the scan was made. It is for one goroutine, and must be
// closed. What it gives is valid until the next call of Next.
type Scan struct {
	r         *reader
	o         ScanOptions
	it        *pebble.Iterator
	prefixLen int
	started   bool
	rest      []byte
	ver       Version
	err       error

	bare  []byte // the key at hand without its version, when the iterator may have left it
	val   []byte // reverse: the record at hand, which the iterator has left
	seekB []byte
}

func (r *reader) NewScan(o ScanOptions) (*Scan, error) {
	if err := checkNames(o.Group, o.Lower); err != nil {
		return nil, err
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	s := &Scan{r: r, o: o, prefixLen: groupLen(o.Group)}
	lower, upper := scanBounds(&o)
	it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err := r.settle(err); err != nil {
		if it != nil {
			_ = it.Close() // the store has failed
		}
		r.s.gate.leave()
		return nil, err
	}
	s.it = it
	return s, nil
}

func scanBounds(o *ScanOptions) (lower, upper []byte) {
	lower = appendDataPrefix(nil, o.Group, o.Lower)
	if o.Upper != nil {
		return lower, appendDataPrefix(nil, o.Group, o.Upper)
	}
	return lower, appendGroupEnd(nil, kindData, o.Group)
}

// Next moves to the next key; false at the end and on an error, which Err gives.
func (s *Scan) Next() bool {
	if s.err != nil || s.it == nil {
		return false
	}
	var ok bool
	var err error
	if s.o.Reverse {
		ok, err = s.previous()
	} else {
		ok, err = s.next()
	}
	if err == nil && !ok {
		err = s.it.Error()
	}
	if s.err = s.r.settle(err); s.err != nil || !ok {
		s.rest, s.ver = nil, Version{}
		return false
	}
	if s.o.KeysOnly {
		s.ver.Value = nil
	}
	return true
}

// Rewind begins again, in the same state of the store. An error stays.
func (s *Scan) Rewind() {
	s.started = false
	s.rest, s.ver = nil, Version{}
}

// shows says whether the version at hand is a live value.
func (s *Scan) shows() bool {
	return !s.ver.Deleted && (s.ver.Expires == 0 || s.ver.Expires > s.o.Now)
}

func (s *Scan) next() (bool, error) {
	var ok bool
	if s.started {
		ok = s.it.NextPrefix()
	} else {
		s.started = true
		ok = s.it.First()
	}
	for ok {
		rest, t, err := splitDataKey(s.it.Key(), s.prefixLen)
		if err != nil {
			return false, err
		}
		if t > s.o.At {
			ok = s.skipNewer()
			continue
		}
		b, err := s.it.ValueAndErr()
		if err != nil {
			return false, err
		}
		if s.ver, err = decodeVersion(b, t); err != nil {
			return false, err
		}
		if s.shows() {
			s.rest = rest
			return true, nil
		}
		ok = s.it.NextPrefix()
	}
	return false, nil
}

// skipNewer leaves a version that is too new for the next older one, or for the next key.
func (s *Scan) skipNewer() bool {
	k := s.it.Key()
	s.bare = append(s.bare[:0], k[:len(k)-versionLen]...)
	for range nextsBeforeSeek {
		if !s.it.Next() {
			return false
		}
		if _, t, err := splitDataKey(s.it.Key(), s.prefixLen); err != nil || t <= s.o.At || !s.atBare() {
			return true // the caller finds the error
		}
	}
	s.seekB = appendVersion(append(s.seekB[:0], s.bare...), s.o.At)
	return s.it.SeekGE(s.seekB)
}

// atBare says whether the iterator is on a version of the key in s.bare.
func (s *Scan) atBare() bool {
	k := s.it.Key()
	return len(k) == len(s.bare)+versionLen && bytes.Equal(k[:len(s.bare)], s.bare)
}

// previous walks backwards. It meets a key's oldest version first, so it goes on to the newest that is old enough,
// keeping a copy, and ends on the key before.
func (s *Scan) previous() (bool, error) {
	ok := s.it.Valid()
	if !s.started {
		s.started = true
		ok = s.it.Last()
	}
	for ok {
		k := s.it.Key()
		if _, _, err := splitDataKey(k, s.prefixLen); err != nil {
			return false, err
		}
		s.bare = append(s.bare[:0], k[:len(k)-versionLen]...)
		var found bool
		var err error
		if ok, found, err = s.newestOf(); err != nil {
			return false, err
		}
		if found && s.shows() {
			s.rest = s.bare[s.prefixLen : len(s.bare)-sentinelLen]
			return true, nil
		}
	}
	return false, nil
}

// newestOf finds the newest version of the key in s.bare that is not too new, and leaves the iterator on the key before
// it (ok). Requires: the iterator is on the key's oldest version.
func (s *Scan) newestOf() (ok, found bool, err error) {
	ok = true
	for n := 0; ok && s.atBare(); n++ {
		_, t, err := splitDataKey(s.it.Key(), s.prefixLen)
		if err != nil {
			return false, false, err
		}
		if t > s.o.At {
			return s.it.SeekLT(s.bare), found, nil
		}
		if n == nextsBeforeSeek {
			s.seekB = appendVersion(append(s.seekB[:0], s.bare...), s.o.At)
			if !s.it.SeekGE(s.seekB) || !s.atBare() {
				if err := s.it.Error(); err != nil {
					return false, false, err
				}
				return false, false, fmt.Errorf("%w: a version of a key of %d bytes is there and not found", ErrCorrupt, len(s.bare))
			}
			if err := s.keep(); err != nil {
				return false, false, err
			}
			return s.it.SeekLT(s.bare), true, nil
		}
		if err := s.keep(); err != nil {
			return false, false, err
		}
		found = true
		ok = s.it.Prev()
	}
	if !ok { // at the first key of all, or because the version before could not be read, which may be the one
		err = s.it.Error()
	}
	return ok, found, err
}

// keep copies the record under the iterator.
func (s *Scan) keep() error {
	_, t, err := splitDataKey(s.it.Key(), s.prefixLen)
	if err != nil {
		return err
	}
	b, err := s.it.ValueAndErr()
	if err != nil {
		return err
	}
	s.val = append(s.val[:0], b...)
	s.ver, err = decodeVersion(s.val, t)
	return err
}

// Rest is the key without its group.
func (s *Scan) Rest() []byte { return s.rest }

// Version describes the value; its Value field holds a small value's bytes unless KeysOnly was asked for.
func (s *Scan) Version() Version { return s.ver }

// WriteTo writes the value at hand, also a large one, whatever KeysOnly says of small ones: with it they are empty.
func (s *Scan) WriteTo(w io.Writer) (n int64, err error) {
	if !s.ver.chunked {
		n, err := w.Write(s.ver.Value)
		return int64(n), err
	}
	it, err := s.it.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{}})
	if err != nil {
		return 0, s.r.settle(err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = s.r.settle(cerr)
		}
	}()
	return writeChunksTo(w, s.r.s, it, s.o.Group, &s.ver)
}

// Bytes is a copy of the value at hand.
func (s *Scan) Bytes() ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, s.ver.Size))
	_, err := s.WriteTo(b)
	return b.Bytes(), err
}

// Err is what ended the scan early, or nil.
func (s *Scan) Err() error { return s.err }

// Close gives the scan back. It repeats no error of Err.
func (s *Scan) Close() error {
	if s.it == nil {
		return nil
	}
	err := s.it.Close()
	s.it = nil
	s.r.s.gate.leave()
	if s.err != nil {
		return nil
	}
	return s.r.settle(err)
}

func (r *reader) Count(ctx context.Context, o ScanOptions) (n int64, err error) {
	o.KeysOnly, o.Reverse = true, false
	s, err := r.NewScan(o)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = cerr
		}
	}()
	for s.Next() {
		n++
		if n%1024 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return n, s.Err()
}

func (r *reader) Tables(group string, at, now Timestamp, after string, limit int) (names []string, err error) {
	s, err := r.NewScan(ScanOptions{Group: group, At: at, Now: now, KeysOnly: true, Lower: afterTable(group, after)})
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = cerr
		}
	}()
	for ok := s.Next(); ok && len(names) < limit; ok = s.Next() {
		table := key.TableOfRest(s.Rest())
		names = append(names, group+string(table))
		s.seek(append(bytes.Clone(table), '.'+1))
	}
	return names, s.Err()
}

// afterTable is a lower bound above the rows of the table of that full name. A name from elsewhere that sorts before the
// group bounds nothing.
func afterTable(group, after string) []byte {
	if len(after) < len(group) || after[:len(group)] != group {
		return nil
	}
	return append([]byte(after[len(group):]), '.'+1)
}

// seek makes Next go on from the first key at or after rest. Requires: not Reverse.
func (s *Scan) seek(rest []byte) {
	s.seekB = appendDataPrefix(s.seekB[:0], s.o.Group, rest)
	lower, upper := s.seekB, []byte(nil)
	if _, upper = scanBounds(&s.o); bytes.Compare(lower, upper) >= 0 {
		lower = upper
	}
	s.it.SetBounds(lower, upper)
	s.started = false
}
