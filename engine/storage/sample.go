// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// How Sample draws.
//
// A range of up to sampleExact keys is read whole, and a reservoir gives an exactly uniform sample.
//
// Of a larger one only parts are read. The range is cut again and again, at the key half way between the bounds of the
// larger halves as bytes go, into leaves of at most sampleLeaf bytes on disk as Pebble estimates them from its index
// blocks; only the branches that a draw falls into are cut. A draw picks a leaf with a probability in proportion to its
// bytes, leafDraws of them for each key wanted. The leaves drawn are read, and the keys in them are weighed by what makes
// up for the bytes: a key of a leaf with b bytes and k live keys counts b/k per draw, so leaves of large values, of many
// versions or of tombstones are not preferred as their bytes would have it. What is left of a bias comes from the
// estimate: it counts whole blocks (about 32 KiB), and it does not see memtables. The latter are flushed first, at most
// once in sampleFlush, so what it misses is what was written since.
const (
	sampleExact  = 16 << 10
	sampleLeaf   = 128 << 10
	leafDraws    = 2
	leafKeysMax  = 16 << 10
	cutsMax      = 512 // deeper than any two different keys of RestLenMax need on the bytes that count
	sampleFlushS = 10
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
	p := sampler{r: r, ctx: ctx, o: o, rng: rng, leaves: map[string]*leaf{}}
	if p.wholeBytes, err = p.size(o.Lower, o.Upper); err != nil {
		return nil, err
	}
	if r.s.flushForSample(p.wholeBytes) {
		if p.wholeBytes, err = p.size(o.Lower, o.Upper); err != nil {
			return nil, err
		}
	}
	if p.wholeBytes < 4*sampleLeaf {
		// Hardly anything is on disk yet: there is nothing to go by, and little to read.
		keys, _, err := r.reservoir(ctx, o, n, math.MaxInt, rng)
		return keys, err
	}
	return p.draw(n)
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
	if last != 0 && now-last < sampleFlushS*1e9 || !s.flushedAt.CompareAndSwap(last, now) {
		return false
	}
	return s.db.Flush() == nil
}

// leaf is a part of the range that was drawn.
type leaf struct {
	lower, upper []byte
	bytes        uint64
	draws        int
}

// sampler is one Sample of a large range.
type sampler struct {
	r          *reader
	ctx        context.Context
	o          ScanOptions
	rng        *rand.Rand
	wholeBytes uint64
	leaves     map[string]*leaf
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

// draw picks the leaves, then the keys.
func (p *sampler) draw(n int) ([][]byte, error) {
	if err := p.cut(p.o.Lower, p.o.Upper, p.wholeBytes, leafDraws*n, cutsMax); err != nil {
		return nil, err
	}
	// From the keys drawn, each with its weight, n are taken without putting back, by the method of Efraimidis and
	// Spirakis: the largest u^(1/weight) win.
	type weighed struct {
		score float64
		key   []byte
	}
	var all []weighed
	names := make([]string, 0, len(p.leaves))
	for name := range p.leaves {
		names = append(names, name)
	}
	slices.Sort(names) // so that a seed fixes the sample
	for _, name := range names {
		l := p.leaves[name]
		keys, err := p.read(l)
		if err != nil {
			return nil, err
		}
		// Each draw takes one key of the leaf; its weight makes up for the leaf's chance of having been drawn.
		for range min(l.draws, len(keys)) {
			i := p.rng.IntN(len(keys))
			weight := float64(len(keys)) / float64(max(l.bytes, 1))
			all = append(all, weighed{math.Log(1-p.rng.Float64()) / weight, keys[i]})
			keys[i] = keys[len(keys)-1]
			keys = keys[:len(keys)-1]
		}
	}
	slices.SortFunc(all, func(a, b weighed) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return bytes.Compare(a.key, b.key)
	})
	out := make([][]byte, 0, n)
	for _, w := range all[:min(n, len(all))] {
		out = append(out, w.key)
	}
	slices.SortFunc(out, bytes.Compare)
	return out, nil
}

// cut hands the draws that fall into a part of the range down to its leaves.
func (p *sampler) cut(lower, upper []byte, size uint64, draws, depth int) error {
	if draws == 0 {
		return nil
	}
	mid := middle(lower, upper)
	if size <= sampleLeaf || mid == nil || depth == 0 {
		l := p.leaves[string(lower)]
		if l == nil {
			l = &leaf{lower: lower, upper: upper, bytes: size}
			p.leaves[string(lower)] = l
		}
		l.draws += draws
		return nil
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	left, err := p.size(lower, mid)
	if err != nil {
		return err
	}
	right, err := p.size(mid, upper)
	if err != nil {
		return err
	}
	if left+right == 0 {
		left, right = 1, 1
	}
	inLeft := 0
	for range draws {
		if p.rng.Uint64N(left+right) < left {
			inLeft++
		}
	}
	if err := p.cut(lower, mid, left, inLeft, depth-1); err != nil {
		return err
	}
	return p.cut(mid, upper, right, draws-inLeft, depth-1)
}

// read gives the live keys of a leaf, at most leafKeysMax.
func (p *sampler) read(l *leaf) (keys [][]byte, err error) {
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
