// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"bytes"
	"errors"
	"slices"
	"sort"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/key"
)

// How a read set is checked. It holds if nothing in it expired and the group has, after the snapshot, no change of any
// grants and no put and no delete of a key that is in it. There are two ways to find out. Looking up a key's newest version is exact but for one
// case: an expiry's tombstone may hide a put or a delete before it. Going through the changes since the snapshot is exact
// always, and the only way for ranges, but takes as long as the group was busy. So a few keys are looked up; more keys go
// through the changes, unless these turn out to be many more than the keys; ranges go through the changes.
const (
	lookupKeysMax = 4 // keys up to which looking up is cheaper than opening an iterator and building an index
	changesPerKey = 4 // changes per key after which looking up is cheaper after all
)

func (a *decision) checkReads(s *ReadSet) error {
	switch {
	case s.Snapshot >= a.at:
		return conflictf("snapshot %d of the transaction is not before the commit time %d", s.Snapshot, a.at)
	case a.at-s.Snapshot > Timestamp(SnapshotAgeMax):
		return conflictf("snapshot %d of the transaction is more than %s before the commit time", s.Snapshot, SnapshotAgeMax)
	case s.ValidUntil != 0 && s.ValidUntil <= a.at:
		return conflictf("a value that was read at snapshot %d has expired", s.Snapshot)
	case s.Snapshot < a.state.ListsChanged && !a.c.System:
		// What the principal saw rested on the grants then: a revoke holds for a transaction that was open, too.
		return conflictf("grants in group %s have changed since snapshot %d", key.Text([]byte(a.group)), s.Snapshot)
	case len(s.Ranges) == 0 && len(s.Keys) == 0:
		return nil
	case len(s.Ranges) == 0 && len(s.Keys) <= lookupKeysMax:
		return a.lookUpReads(s)
	}
	budget := -1
	if len(s.Ranges) == 0 {
		budget = changesPerKey * len(s.Keys)
	}
	within, err := a.scanReads(s.Snapshot, s.Keys, s.Ranges, budget)
	if err != nil || within {
		return err
	}
	return a.lookUpReads(s)
}

// lookUpReads decides by the newest versions of single keys.
func (a *decision) lookUpReads(s *ReadSet) error {
	var unsure [][]byte
	for _, rest := range s.Keys {
		meta, err := a.latest(rest)
		switch {
		case err != nil:
			return err
		case meta.Version <= s.Snapshot:
		case meta.Deleted:
			unsure = append(unsure, rest)
		default:
			return a.readConflict(rest, s.Snapshot)
		}
	}
	if len(unsure) == 0 {
		return nil
	}
	_, err := a.scanReads(s.Snapshot, unsure, nil, -1)
	return err
}

// scanReads decides by the changes since the snapshot. It gives up after budget changes (-1 = never): within is false.
func (a *decision) scanReads(snapshot Timestamp, keys [][]byte, ranges []Range, budget int) (within bool, err error) {
	scan := newReadScan(keys, ranges, budget)
	if err := a.view.EachChange(snapshot, scan.visit); err != nil {
		return false, err
	}
	if scan.hit != nil {
		return false, a.readConflict(scan.hit, snapshot)
	}
	return scan.budget != 0, nil
}

// readConflict names the key only to one who may read it: else a range over keys of others would tell which these are.
func (a *decision) readConflict(rest []byte, snapshot Timestamp) error {
	var denied *authz.Refusal
	err := a.check(authz.VerbRead, rest)
	switch {
	case err == nil:
		return conflictf("%s has changed since snapshot %d", a.show(rest), snapshot)
	case errors.As(err, &denied):
		return conflictf("something that was read has changed since snapshot %d", snapshot)
	}
	return err
}

// readScan looks for the first change that breaks a read set.
type readScan struct {
	keys   [][]byte
	index  index
	ranges []Range // by Lower, disjoint
	budget int     // changes yet to be looked at; below 0 = any number
	hit    []byte
}

func newReadScan(keys [][]byte, ranges []Range, budget int) *readScan {
	s := &readScan{keys: keys, ranges: mergeRanges(ranges), budget: budget}
	if len(keys) == 0 {
		return s
	}
	s.index.grow(len(keys))
	for i, rest := range keys {
		slot, _ := s.index.find(rest, func(j int) bool { return bytes.Equal(keys[j], rest) })
		s.index.set(slot, i)
	}
	return s
}

func (s *readScan) visit(c Change) bool {
	if s.budget == 0 {
		return false
	}
	s.budget--
	if c.Kind == ChangeExpire || !s.reads(c.Rest) {
		return true
	}
	s.hit = bytes.Clone(c.Rest)
	return false
}

func (s *readScan) reads(rest []byte) bool {
	if len(s.keys) > 0 {
		if _, found := s.index.find(rest, func(j int) bool { return bytes.Equal(s.keys[j], rest) }); found {
			return true
		}
	}
	i := sort.Search(len(s.ranges), func(i int) bool { return bytes.Compare(s.ranges[i].Lower, rest) > 0 })
	return i > 0 && s.ranges[i-1].before(rest)
}

// before says that the range ends after the rest.
func (r Range) before(rest []byte) bool { return len(r.Upper) == 0 || bytes.Compare(rest, r.Upper) < 0 }

// mergeRanges sorts the ranges and joins those that overlap or touch.
func mergeRanges(ranges []Range) []Range {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int { return bytes.Compare(a.Lower, b.Lower) })
	merged := sorted[:0]
	for _, r := range sorted {
		if n := len(merged); n > 0 && (len(merged[n-1].Upper) == 0 || bytes.Compare(r.Lower, merged[n-1].Upper) <= 0) {
			if last := &merged[n-1]; len(last.Upper) != 0 && (len(r.Upper) == 0 || bytes.Compare(r.Upper, last.Upper) > 0) {
				last.Upper = r.Upper
			}
			continue
		}
		merged = append(merged, r)
	}
	return merged
}
