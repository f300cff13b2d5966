// SPDX-License-Identifier: AGPL-3.0-only

package reconfig

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// An entry is a consensuspb.SystemEntry on disk: see there. Layout of a registry:
//
//	1    version, 1
//	v    number of nodes, then for each, by number: v the number less the one before, region, 1 removed
//	1    live versions, 1 or 2, then for each: configuration
//	4    CRC-32C of all that, little endian
//
//	configuration   v version, v Fn, v Fz, v number of voters, then for each, by (region, node): v node, region; then nodes: learners
//	nodes           v number, then for each, rising: v the node less the one before
//	region          v length, the name
//
// v is an unsigned varint in its shortest form, so that a registry has one layout only.
const (
	registryVersion = 1
	checksumLen     = 4
)

// castagnoli is the polynomial that processors compute.
// shared: only read.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendTo appends the registry as it lies in a snapshot of the system group: equal registries have equal bytes.
func (r *Registry) AppendTo(dst []byte) []byte {
	w := writer{registryVersion}
	w.uvarint(uint64(len(r.nodes)))
	last := NodeID(0)
	for _, m := range r.nodes {
		w.uvarint(uint64(m.id - last))
		last = m.id
		w.region(m.region)
		removed := byte(0)
		if m.removed {
			removed = 1
		}
		w = append(w, removed)
	}
	w = append(w, byte(len(r.live)))
	for i := range r.live {
		w.config(&r.live[i].config)
	}
	return append(dst, w.checksum()...)
}

// Decode reads a registry, and nothing after it. It keeps no reference to src. Every error is ErrCorrupt.
func Decode(src []byte) (*Registry, error) {
	r := newReader(src, registryVersion)
	reg := &Registry{}
	n := r.count(NodesMax, 4)
	last := NodeID(0)
	for range n {
		m := member{id: last + NodeID(r.uvarint()), region: r.region()}
		flag := r.byte()
		if m.id <= last || flag > 1 {
			r.fail("node %d after node %d, removed %d", m.id, last, flag)
		}
		if _, err := quorum.New([]quorum.Voter{{Node: m.id, Region: m.region}}, 0, 0); r.err == nil && err != nil {
			r.fail("%s", err)
		}
		m.removed, last = flag == 1, m.id
		reg.nodes = append(reg.nodes, m)
	}
	versions := int(r.byte())
	if versions < 1 || versions > 2 {
		r.fail("%d live versions", versions)
	}
	for range versions {
		c := r.config()
		if r.err != nil {
			break
		}
		v, err := reg.check(c)
		switch {
		case err != nil:
			r.fail("%s", err)
		case len(reg.live) == 1 && c.Version != reg.live[0].config.Version+1:
			r.fail("version %d does not follow", c.Version)
		}
		reg.live = append(reg.live, v)
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	return reg, nil
}

// writer is a layout that begins where it does.
type writer []byte

func (w *writer) uvarint(v uint64) { *w = binary.AppendUvarint(*w, v) }

func (w *writer) region(r Region) {
	w.uvarint(uint64(len(r)))
	*w = append(*w, r...)
}

func (w *writer) nodes(ids []NodeID) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	w.uvarint(uint64(len(ids)))
	last := NodeID(0)
	for _, id := range ids {
		w.uvarint(uint64(id - last))
		last = id
	}
}

func (w *writer) config(c *Config) {
	w.uvarint(c.Version)
	w.uvarint(uint64(c.Fn))
	w.uvarint(uint64(c.Fz))
	voters := slices.Clone(c.Voters)
	slices.SortFunc(voters, compareVoters)
	w.uvarint(uint64(len(voters)))
	for _, v := range voters {
		w.uvarint(uint64(v.Node))
		w.region(v.Region)
	}
	w.nodes(c.Learners)
}

func compareVoters(a, b quorum.Voter) int {
	switch {
	case a.Region < b.Region, a.Region == b.Region && a.Node < b.Node:
		return -1
	case a == b:
		return 0
	default:
		return 1
	}
}

func (w *writer) checksum() []byte {
	return binary.LittleEndian.AppendUint32(*w, crc32.Checksum(*w, castagnoli))
}

// reader takes fields from the front of src. The first thing that is wrong stays in err; every field after it is 0.
type reader struct {
	src []byte
	err error
}

func newReader(src []byte, version byte) reader {
	var r reader
	if len(src) < 1+checksumLen {
		r.fail("%d bytes, want at least %d", len(src), 1+checksumLen)
		return r
	}
	body, sum := src[:len(src)-checksumLen], binary.LittleEndian.Uint32(src[len(src)-checksumLen:])
	switch got := crc32.Checksum(body, castagnoli); {
	case got != sum:
		r.fail("checksum %08x, computed %08x", sum, got)
	case body[0] != version:
		r.fail("version %d, this program reads %d", body[0], version)
	default:
		r.src = body[1:]
	}
	return r
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	r.src = nil
}

func (r *reader) close() error {
	if r.err == nil && len(r.src) > 0 {
		r.fail("%d bytes too many", len(r.src))
	}
	return r.err
}

func (r *reader) byte() byte {
	if len(r.src) == 0 {
		r.fail("ends in a field")
		return 0
	}
	b := r.src[0]
	r.src = r.src[1:]
	return b
}

// uvarint refuses a longer form than is needed.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.src)
	if n <= 0 || n > 1 && r.src[n-1] == 0 {
		r.fail("bad varint")
		return 0
	}
	r.src = r.src[n:]
	return v
}

// count is a number of things, each of at least size bytes: it is held against what is left before anything is made for it.
func (r *reader) count(limit, size int) int {
	n := r.uvarint()
	if n > uint64(limit) || n > uint64(len(r.src)/size) {
		r.fail("count %d exceeds limit %d or the %d bytes left", n, limit, len(r.src))
		return 0
	}
	return int(n)
}

func (r *reader) region() Region {
	n := r.count(quorum.RegionLenMax, 1)
	name := Region(r.src[:n])
	r.src = r.src[n:]
	return name
}

func (r *reader) nodes(limit int) []NodeID {
	n := r.count(limit, 1)
	var ids []NodeID
	last := NodeID(0)
	for range n {
		id := last + NodeID(r.uvarint())
		if id <= last {
			r.fail("node %d after node %d", id, last)
			return nil
		}
		ids, last = append(ids, id), id
	}
	return ids
}

func (r *reader) config() Config {
	c := Config{Version: r.uvarint(), Fn: r.upTo(FaultsMax), Fz: r.upTo(FaultsMax)}
	n := r.count(quorum.VotersMax, 2)
	for range n {
		v := quorum.Voter{Node: NodeID(r.uvarint()), Region: r.region()}
		if k := len(c.Voters); k > 0 && compareVoters(c.Voters[k-1], v) >= 0 {
			r.fail("voter %d is not in order", v.Node)
			return Config{}
		}
		c.Voters = append(c.Voters, v)
	}
	c.Learners = r.nodes(LearnersMax)
	return c
}

// upTo is a number of nothing that follows.
func (r *reader) upTo(limit uint64) int {
	n := r.uvarint()
	if n > limit {
		r.fail("%d exceeds limit %d", n, limit)
		return 0
	}
	return int(n)
}
