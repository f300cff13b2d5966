// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// How Sample draws.
//
// A range of up to sampleExact keys is read whole, and a reservoir gives an exactly uniform sample.
//
// Of a larger one only parts are read. A draw goes down from the whole range: it is cut at the key half way between its
// first and last key, and the draw takes one of the halves with a probability in proportion to their bytes on disk, as Pebble
// estimates them from its index blocks, until the part has at most sampleLeaf bytes. This leaf is read and one of its
// live keys taken. So far a key's chance is q/k: the chance q of the leaf, which is the product of those on the way, over
// the number k of its keys. Each draw is therefore kept only with a probability in proportion to k/q, which makes the
// chance of all keys the same whatever the estimates were; draws go on until enough are kept or drawsMax are done, and
// then the best of the others fill the sample. How good the estimates are decides only how many draws are thrown away.
// They do not see memtables, which are flushed first, at most once in sampleFlush; a part that they call empty keeps a
// small chance all the same.
const (
	sampleExact   = 16 << 10
	sampleLeaf    = 64 << 10
	partBytesMin  = 1 << 10 // what an empty part counts as
	leafKeysMax   = 16 << 10
	cutsMax       = 512 // deeper than any two different keys need on the bytes that count
	drawsMax      = 16  // for each key wanted
	sampleFlush   = 10 * time.Second
	wholeBytesMin = 4 * sampleLeaf
)

func (r *reader) Sample(ctx context.Context, o ScanOptions, n int, seed uint64) ([][]byte, error) {
	if n < 0 || n > SampleMax {
		return nil, fmt.Errorf("%w: sample of %d keys, at most %d", ErrTooLarge, n, SampleMax)
	}
	if n == 0 {
		return nil, r.s.health.Err()
	}
	o.KeysOnly, o.Reverse = true, false
	rng := rand.New(rand.NewPCG(seed, 0x5a3c))
	keys, whole, err := r.reservoir(ctx, o, n, sampleExact, rng)
	if err != nil || whole {
		return keys, err
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.s.gate.leave()
	p := sampler{r: r, ctx: ctx, o: o, rng: rng}
	bytesOnDisk, err := p.size(o.Lower, o.Upper)
	if err != nil {
		return nil, err
	}
	if r.s.flushForSample(bytesOnDisk) {
		if bytesOnDisk, err = p.size(o.Lower, o.Upper); err != nil {
			return nil, err
		}
	}
	if bytesOnDisk < wholeBytesMin {
		// Hardly anything is on disk yet: there is nothing to go by, and little to read.
		keys, _, err := r.reservoir(ctx, o, n, math.MaxInt, rng)
		return keys, err
	}
	lower, upper := scanBounds(&o)
	if p.it, err = r.src.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper}); err != nil {
		return nil, r.settle(err)
	}
	keys, err = p.sample(n, bytesOnDisk)
	return keys, errors.Join(err, p.it.Close())
}

// reservoir reads at most limit keys; whole says that there were no more.
func (r *reader) reservoir(ctx context.Context, o ScanOptions, n, limit int, rng *rand.Rand) (keys [][]byte, whole bool, err error) {
	s, err := r.NewScan(o)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	type slot struct {
		at  int
		key []byte
	}
	var kept []slot
	seen := 0
	for s.Next() {
		if seen++; seen > limit {
			return nil, false, nil
		}
		if seen%1024 == 0 && ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		if len(kept) < n {
			kept = append(kept, slot{seen, bytes.Clone(s.Rest())})
		} else if i := rng.IntN(seen); i < n {
			kept[i] = slot{seen, bytes.Clone(s.Rest())}
		}
	}
	slices.SortFunc(kept, func(a, b slot) int { return a.at - b.at })
	for i := range kept {
		keys = append(keys, kept[i].key)
	}
	return keys, true, s.Err()
}

// flushForSample flushes the memtables if they may hold much of the range, and says whether it did.
func (s *Store) flushForSample(rangeBytes uint64) bool {
	if s.opts.ReadOnly || s.space.full() || s.db.Metrics().MemTable.Size*20 < rangeBytes {
		return false
	}
	now := s.health.mono()
	last := s.flushedAt.Load()
	if last != 0 && now-last < int64(sampleFlush) || !s.flushedAt.CompareAndSwap(last, now) {
		return false
	}
	return s.db.Flush() == nil
}

// part is a part of the range: a leaf, or cut in two once a draw has come by.
type part struct {
	lower, upper []byte
	bytes        uint64
	chance       float64 // of a draw coming by
	left, right  *part
	leaf         bool
	keys         [][]byte // of a leaf that was read
}

// sampler is one Sample of a large range.
type sampler struct {
	r   *reader
	ctx context.Context
	o   ScanOptions
	rng *rand.Rand
	it  *pebble.Iterator // over all versions in the range
	key []byte
}

// first is the first key at or after rest, last the last before it, both copied.
func (p *sampler) first(rest []byte) ([]byte, bool, error) {
	p.key = appendDataPrefix(p.key[:0], p.o.Group, rest)
	return p.found(p.it.SeekGE(p.key))
}

func (p *sampler) last(rest []byte) ([]byte, bool, error) {
	p.key = appendDataPrefix(p.key[:0], p.o.Group, rest)
	return p.found(p.it.SeekLT(p.key))
}

func (p *sampler) found(ok bool) ([]byte, bool, error) {
	if !ok {
		return nil, false, p.r.settle(p.it.Error())
	}
	rest, _, err := splitDataKey(p.it.Key(), groupLen(p.o.Group))
	return bytes.Clone(rest), true, p.r.settle(err)
}

// size estimates the bytes on disk of a part of the range.
func (p *sampler) size(lower, upper []byte) (uint64, error) {
	o := ScanOptions{Group: p.o.Group, Lower: lower, Upper: upper}
	lo, hi := scanBounds(&o)
	if bytes.Compare(lo, hi) >= 0 {
		return 0, nil
	}
	n, err := p.r.s.db.EstimateDiskUsage(lo, hi)
	if err != nil {
		return 0, p.r.settle(err)
	}
	return n, nil
}

// candidate is a key that was drawn; it is kept when its luck is below its weight over the largest.
type candidate struct {
	key          []byte
	weight, luck float64
}

// sample draws until n different keys are kept.
func (p *sampler) sample(n int, bytesOnDisk uint64) ([][]byte, error) {
	first, some, err := p.first(p.o.Lower)
	if err != nil || !some {
		return nil, err
	}
	last, _, err := p.found(p.it.Last())
	if err != nil {
		return nil, err
	}
	whole := &part{lower: first, upper: append(last, 0), bytes: bytesOnDisk, chance: 1}
	var drawn []candidate
	seen := map[string]struct{}{}
	most := 0.0
	for round := 0; round < drawsMax; round++ {
		for range n {
			l, err := p.draw(whole)
			if err != nil {
				return nil, err
			}
			luck := p.rng.Float64()
			if len(l.keys) == 0 {
				continue
			}
			key := l.keys[p.rng.IntN(len(l.keys))]
			if _, again := seen[string(key)]; again {
				continue
			}
			seen[string(key)] = struct{}{}
			w := float64(len(l.keys)) / l.chance
			most = max(most, w)
			drawn = append(drawn, candidate{key, w, luck})
		}
		kept := 0
		for _, c := range drawn {
			if c.luck*most < c.weight {
				kept++
			}
		}
		if kept >= n {
			break
		}
	}
	// The kept come first, in the order in which they were drawn; then the others, the least unlucky first.
	slices.SortStableFunc(drawn, func(a, b candidate) int {
		return cmp.Compare(max(a.luck*most/a.weight, 1), max(b.luck*most/b.weight, 1))
	})
	keys := make([][]byte, 0, n)
	for _, c := range drawn[:min(n, len(drawn))] {
		keys = append(keys, c.key)
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys, nil
}

// draw goes down to a leaf.
func (p *sampler) draw(at *part) (*part, error) {
	for depth := 0; ; depth++ {
		if at.leaf {
			return at, nil
		}
		if at.left == nil {
			if err := p.ctx.Err(); err != nil {
				return nil, err
			}
			if err := p.cut(at, depth); err != nil {
				return nil, err
			}
			continue
		}
		if p.rng.Float64()*at.chance < at.left.chance {
			at = at.left
		} else {
			at = at.right
		}
	}
}

// cut cuts a part in two, each with keys in it, or reads it as a leaf.
func (p *sampler) cut(at *part, depth int) (err error) {
	for ; at.bytes > sampleLeaf && depth < cutsMax; depth++ {
		mid := middle(at.lower, at.upper)
		if mid == nil {
			break
		}
		last, before, err := p.last(mid)
		if err != nil {
			return err
		}
		first, after, err := p.first(mid)
		if err != nil {
			return err
		}
		// What lies outside the part is not in this half of it.
		switch {
		case !after || bytes.Compare(first, at.upper) >= 0:
			at.upper = mid
		case !before || bytes.Compare(last, at.lower) < 0:
			at.lower = first
		default:
			return p.halve(at, last, first)
		}
	}
	at.leaf = true
	at.keys, err = p.read(at)
	return err
}

func (p *sampler) halve(at *part, last, first []byte) (err error) {
	left, right := &part{lower: at.lower, upper: append(last, 0)}, &part{lower: first, upper: at.upper}
	if left.bytes, err = p.size(left.lower, left.upper); err != nil {
		return err
	}
	if right.bytes, err = p.size(right.lower, right.upper); err != nil {
		return err
	}
	l, r := float64(max(left.bytes, partBytesMin)), float64(max(right.bytes, partBytesMin))
	left.chance, right.chance = at.chance*l/(l+r), at.chance*r/(l+r)
	at.left, at.right = left, right
	return nil
}

// read gives the live keys of a leaf, at most leafKeysMax.
func (p *sampler) read(l *part) (keys [][]byte, err error) {
	o := p.o
	o.Lower, o.Upper = l.lower, l.upper
	s, err := p.r.NewScan(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for len(keys) < leafKeysMax && s.Next() {
		keys = append(keys, bytes.Clone(s.Rest()))
	}
	return keys, s.Err()
}

// middle is a key between the bounds: their common beginning and half the way between the eight bytes after it. Nil
// means that there is none.
func middle(lower, upper []byte) []byte {
	common := 0
	if upper != nil {
		for common < len(lower) && common < len(upper) && lower[common] == upper[common] {
			common++
		}
	}
	window := func(b []byte, none uint64) uint64 {
		if b == nil {
			return none
		}
		var w [8]byte
		copy(w[:], b[min(common, len(b)):])
		return binary.BigEndian.Uint64(w[:])
	}
	lo, hi := window(lower, 0), window(upper, math.MaxUint64)
	if hi <= lo+1 {
		return nil
	}
	m := binary.BigEndian.AppendUint64(bytes.Clone(lower[:common]), lo+(hi-lo)/2)
	if bytes.Compare(m, lower) <= 0 || upper != nil && bytes.Compare(m, upper) >= 0 {
		return nil
	}
	return bytes.TrimRight(m, "\x00")
}

// DiskUsage estimates the bytes on disk of a group: its records, log, data, state and changes. It does not see memtables.
func (s *Store) DiskUsage(group string) (int64, error) {
	if err := checkNames(group, nil); err != nil {
		return 0, err
	}
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.gate.leave()
	var total uint64
	for kind := byte(kindRecord); kind <= kindChange; kind++ {
		lower := appendGroup(nil, kind, group)
		if kind != kindRecord {
			lower = append(lower, 0)
		}
		n, err := s.db.EstimateDiskUsage(lower, appendGroupEnd(nil, kind, group))
		if err != nil {
			return 0, s.settle(err)
		}
		total += n
	}
	return int64(total), s.settle(nil)
}

// ApproxCount estimates the keys of a group between two rests, of any state: exactly by reading up to a few thousand,
// beyond that by the bytes on disk that these take up.
func (s *Store) ApproxCount(group string, lower, upper []byte) (n int64, err error) {
	sc, err := s.NewScan(ScanOptions{Group: group, Lower: lower, Upper: upper, At: newest, KeysOnly: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sc.Close()) }()
	p := sampler{r: &s.reader, o: sc.o}
	for sc.Next() {
		if n++; n%approxStep != 0 {
			continue
		}
		seen, err := p.size(lower, sc.Rest())
		if err != nil {
			return 0, err
		}
		if seen < approxBytes {
			continue // mostly in memtables, or small: go on reading
		}
		whole, err := p.size(lower, upper)
		if err != nil {
			return 0, err
		}
		return int64(float64(n) * max(1, float64(whole)/float64(seen))), nil
	}
	return n, sc.Err()
}

const (
	approxStep  = 4096
	approxBytes = 1 << 20
)
