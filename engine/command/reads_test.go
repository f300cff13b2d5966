// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestReadScanTwin compares the merged ranges and the index with going through the read set one by one.
func TestReadScanTwin(t *testing.T) {
	bound := rapid.StringMatching(`\.[a-d]{0,2}`)
	rapid.Check(t, func(t *rapid.T) {
		s := &ReadSet{}
		for range rapid.IntRange(0, 4).Draw(t, "keys") {
			s.Keys = append(s.Keys, []byte(bound.Draw(t, "key")))
		}
		for range rapid.IntRange(0, 6).Draw(t, "ranges") {
			r := Range{Lower: []byte(bound.Draw(t, "lower")), Upper: []byte(bound.Draw(t, "upper"))}
			if bytes.Compare(r.Lower, r.Upper) > 0 {
				r.Lower, r.Upper = r.Upper, r.Lower
			}
			if rapid.IntRange(0, 5).Draw(t, "open") == 0 {
				r.Upper = nil
			}
			s.Ranges = append(s.Ranges, r)
		}
		given := fmt.Sprintf("%q", s.Ranges)
		scan := newReadScan(s.Keys, s.Ranges, -1)
		if again := fmt.Sprintf("%q", s.Ranges); again != given {
			t.Fatalf("the ranges %s became %s", given, again)
		}
		for i, r := range scan.ranges {
			if i > 0 && bytes.Compare(scan.ranges[i-1].Upper, r.Lower) >= 0 {
				t.Fatalf("merged to %q", scan.ranges)
			}
		}
		for range 20 {
			rest := bound.Draw(t, "rest")
			if got, want := scan.reads([]byte(rest)), readSetHolds(s, rest); got != want {
				t.Fatalf("%q in %q and %q: %v, want %v", rest, s.Keys, s.Ranges, got, want)
			}
		}
	})
}

// TestReadsTwin sends read sets of keys through both ways of checking them, over logs of every mix: the answers agree with
// each other and with the definition.
func TestReadsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel("g")
		at := base
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			at++
			rest := fmt.Appendf(nil, ".%d", rapid.IntRange(0, 40).Draw(t, "rest"))
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				m.Delete(rest, at, 0, ChangeDelete)
			case 1:
				m.Delete(rest, at, 0, ChangeExpire)
			default:
				m.Put(rest, at, 0, Version{})
			}
		}
		at++
		s := &ReadSet{Snapshot: at - 1 - Timestamp(rapid.IntRange(0, 60).Draw(t, "ago"))}
		for range rapid.IntRange(1, 9).Draw(t, "keys") {
			s.Keys = append(s.Keys, fmt.Appendf(nil, ".%d", rapid.IntRange(0, 40).Draw(t, "key")))
		}
		want := slowReadsChanged(m, at, s)
		d := decision{view: m, group: "g", at: at, c: &Command{}}
		for name, check := range map[string]func() error{
			"as it comes": func() error { return d.checkReads(s) },
			"looking up":  func() error { return d.lookUpReads(s) },
			"scanning":    func() error { _, err := d.scanReads(s.Snapshot, s.Keys, nil, -1); return err },
		} {
			if err := check(); (err != nil) != want {
				t.Fatalf("%s: %v, the definition says %v", name, err, want)
			}
		}
	})
}

// TestBudgetEndsBeforeTheConflict: what the scan did not come to is looked up.
func TestBudgetEndsBeforeTheConflict(t *testing.T) {
	m := newModel("g")
	keys := rests(lookupKeysMax + 1)
	at := base
	for i := range changesPerKey * len(keys) {
		at++
		mustApply(t, m, at, &Command{Mutations: []Mutation{{Kind: Put, Rest: fmt.Appendf(nil, ".other%d", i)}}})
	}
	at++
	mustApply(t, m, at, &Command{Mutations: []Mutation{{Kind: Put, Rest: keys[0]}}})
	r := mustApply(t, m, at+1, &Command{Mutations: []Mutation{{Kind: Put, Rest: []byte(".z")}}, Reads: &ReadSet{Snapshot: base, Keys: keys}})
	if r.Outcome != Conflict {
		t.Errorf("%+v", r)
	}
}
