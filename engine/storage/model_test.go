// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// The model: what a store holds, as plain maps, built without any of the store's encodings.
type model struct {
	commits uint64 // the number of the last commit applied; each writes it, so that a prefix can be told
	records map[string]string
	entries map[string]map[uint64]string
	state   map[string]map[string]string
	data    map[string]map[string][]Version // by group and rest, oldest first
	changes map[string][]modelChange
	small   map[string]*modelSmall // nil for a group that is not
	swept   Timestamp              // changes up to it are not compared
}

type modelChange struct {
	time Timestamp
	seq  uint32
	kind ChangeKind
	rest string
	end  Timestamp // of its record in the index; 0 while it is not there, as a version stands for it
}

// modelSmall is a small group.
type modelSmall struct {
	stamp string
	at    Timestamp
	Smallness
}

func newModel() *model {
	return &model{
		records: map[string]string{}, entries: map[string]map[uint64]string{}, state: map[string]map[string]string{},
		data: map[string]map[string][]Version{}, changes: map[string][]modelChange{}, small: map[string]*modelSmall{},
	}
}

// mutation is one call on a batch.
type mutation struct {
	op    string // record entry truncate trim state unstate put carry index small
	group string
	name  string // of state; the rest of a put
	slot  uint64 // or which version carries a stamp
	bytes []byte // of a record, or of what else it is; of a carry the stamp
	at    Timestamp
	seq   uint32
	v     Version
}

// commit is one batch.
type commit struct {
	n     uint64
	muts  []mutation
	sync  bool
	floor Timestamp // not 0: no batch, but a collection behind it
}

const counterGroup = "counter"

func (c *commit) fill(b *Batch) {
	for i := range c.muts {
		switch m := &c.muts[i]; m.op {
		case "record":
			b.SetRecord(m.group, m.bytes)
		case "entry":
			b.AppendEntry(m.group, m.slot, m.bytes)
		case "truncate":
			b.DeleteEntriesFrom(m.group, m.slot)
		case "trim":
			b.DeleteEntriesBelow(m.group, m.slot)
		case "state":
			b.SetState(m.group, m.name, m.bytes)
		case "unstate":
			b.DeleteState(m.group, m.name)
		case "put":
			b.PutVersion(m.group, []byte(m.name), m.at, m.seq, m.v)
		case "carry":
			b.PutCarrying(m.group, []byte(m.name), m.at, m.v, m.bytes, int(m.slot))
		case "index":
			_, err := b.IndexCarried(m.group)
			b.note(err)
		case "small":
			b.SetSmallRecord(m.group, m.bytes, m.at, len(testRests))
		}
	}
	b.SetState(counterGroup, "n", binary.BigEndian.AppendUint64(nil, c.n))
}

func inner[K comparable, V any](m map[string]map[K]V, group string) map[K]V {
	if m[group] == nil {
		m[group] = map[K]V{}
	}
	return m[group]
}

func (m *model) apply(c *commit) {
	m.commits = c.n
	for i := range c.muts {
		switch u := &c.muts[i]; u.op {
		case "record":
			m.records[u.group] = string(u.bytes)
			delete(m.small, u.group)
		case "small":
			m.records[u.group] = string(u.bytes)
			m.small[u.group] = &modelSmall{Smallness: Smallness{Small: true, Keys: len(testRests)}}
		case "index":
			m.changes[u.group] = slices.DeleteFunc(m.changes[u.group], func(c modelChange) bool { return c.end == 0 && c.time <= m.swept })
			list := m.changes[u.group]
			for i := range list {
				if list[i].end == 0 {
					list[i].end = list[len(list)-1].time // nothing later is in the index
				}
			}
		case "entry":
			inner(m.entries, u.group)[u.slot] = string(u.bytes)
		case "truncate":
			maps.DeleteFunc(inner(m.entries, u.group), func(s uint64, _ string) bool { return s >= u.slot })
		case "trim":
			maps.DeleteFunc(inner(m.entries, u.group), func(s uint64, _ string) bool { return s < u.slot })
		case "state":
			inner(m.state, u.group)[u.name] = string(u.bytes)
		case "unstate":
			delete(inner(m.state, u.group), u.name)
		case "put", "carry":
			if u.op == "carry" {
				m.small[u.group] = &modelSmall{stamp: string(u.bytes), at: u.at, Smallness: Smallness{Small: true, Keys: len(testRests), Carried: int(u.slot)}}
			}
			v := u.v
			v.Time, v.Size = u.at, int64(len(v.Value))
			d := inner(m.data, u.group)
			d[u.name] = append(d[u.name], v)
			kind := ChangePut
			if v.Deleted {
				kind = ChangeDelete
			}
			if v.Expired {
				kind = ChangeExpire
			}
			end := u.at
			if u.op == "carry" {
				end = 0
			}
			m.changes[u.group] = append(m.changes[u.group], modelChange{u.at, u.seq, kind, u.name, end})
		}
	}
}

// collect is what CollectBefore promises. It says whether there was anything to collect.
func (m *model) collect(floor Timestamp) (found bool) {
	for group, rests := range m.data {
		touched := map[string]bool{}
		m.changes[group] = slices.DeleteFunc(m.changes[group], func(c modelChange) bool {
			old := c.end != 0 && c.end <= floor
			if old {
				touched[c.rest] = true
			}
			return old
		})
		found = found || len(touched) > 0
		for rest := range rests {
			if !touched[rest] && !m.stamped(group, rest, floor) {
				continue
			}
			if m.collectKey(group, rest, floor, touched[rest]) {
				found = true
			}
		}
	}
	return found
}

// stamped says whether a key's newest version not later than t stands for its change.
func (m *model) stamped(group, rest string, t Timestamp) bool {
	v, ok := m.at(group, rest, t)
	return ok && slices.ContainsFunc(m.changes[group], func(c modelChange) bool { return c.end == 0 && c.time == v.Time && c.rest == rest })
}

// sweep is a collection. Where nothing is old all history is kept.
func (m *model) sweep(floor Timestamp) {
	if m.collect(floor) {
		m.swept = max(m.swept, floor)
	}
}

// collectKey removes what is old of a key, of which the index says so or not, and says whether there was any of that.
func (m *model) collectKey(group, rest string, floor Timestamp, indexed bool) bool {
	vs := m.data[group][rest]
	last := -1 // newest not later than floor
	for i := range vs {
		if vs[i].Time <= floor {
			last = i
		}
	}
	if last >= 0 && vs[last].Deleted && indexed {
		last++
	}
	n := max(last, 0)
	for i := range vs[:n] {
		m.changes[group] = slices.DeleteFunc(m.changes[group], func(c modelChange) bool { return c.end == 0 && c.time == vs[i].Time && c.rest == rest })
	}
	if m.data[group][rest] = slices.Delete(vs, 0, n); len(m.data[group][rest]) == 0 {
		delete(m.data[group], rest)
	}
	return n > 0
}

// at finds the newest version not later than t.
func (m *model) at(group, rest string, t Timestamp) (Version, bool) {
	vs := m.data[group][rest]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].Time <= t {
			return vs[i], true
		}
	}
	return Version{}, false
}

// scan lists the live keys between two rests.
func (m *model) scan(o ScanOptions) (rests []string) {
	for rest := range m.data[o.Group] {
		v, ok := m.at(o.Group, rest, o.At)
		if !ok || v.Deleted || v.Expires != 0 && v.Expires <= o.Now {
			continue
		}
		if rest < string(o.Lower) || o.Upper != nil && rest >= string(o.Upper) {
			continue
		}
		rests = append(rests, rest)
	}
	slices.Sort(rests)
	if o.Reverse {
		slices.Reverse(rests)
	}
	return rests
}

func digest(b []byte) string {
	if len(b) <= 16 {
		return fmt.Sprintf("%q", b)
	}
	h := fnv.New64a()
	_, _ = h.Write(b)
	return fmt.Sprintf("%d:%016x", len(b), h.Sum64())
}

func dumpVersion(w *strings.Builder, group, rest string, v *Version, value []byte) {
	fmt.Fprintf(w, "data %s%s @%d del=%v exp=%v worm=%d expires=%d size=%d %s\n", group, rest, v.Time, v.Deleted, v.Expired, v.WormUntil, v.Expires, v.Size, digest(value))
}

// dump writes everything down, for a comparison.
func (m *model) dump() string {
	var w strings.Builder
	fmt.Fprintf(&w, "commits %d\n", m.commits)
	for _, g := range slices.Sorted(maps.Keys(m.records)) {
		small := m.small[g]
		if small == nil {
			small = &modelSmall{}
		}
		fmt.Fprintf(&w, "record %s %s %x %d %+v\n", g, digest([]byte(m.records[g])), small.stamp, small.at, small.Smallness)
	}
	for _, g := range testGroups {
		for _, slot := range slices.Sorted(maps.Keys(m.entries[g])) {
			fmt.Fprintf(&w, "entry %s %d %s\n", g, slot, digest([]byte(m.entries[g][slot])))
		}
		for _, n := range slices.Sorted(maps.Keys(m.state[g])) {
			fmt.Fprintf(&w, "state %s %q %s\n", g, n, digest([]byte(m.state[g][n])))
		}
		for _, c := range m.changes[g] {
			if c.time <= m.swept {
				continue
			}
			fmt.Fprintf(&w, "change %s %d %d %d %q\n", g, c.time, c.seq, c.kind, c.rest)
		}
		for _, rest := range slices.Sorted(maps.Keys(m.data[g])) {
			vs := m.data[g][rest]
			for i := len(vs) - 1; i >= 0; i-- {
				dumpVersion(&w, g, rest, &vs[i], vs[i].Value)
			}
		}
	}
	return w.String()
}

// dumpStore writes down what a reader sees, in the form of model.dump.
func dumpStore(r Reader) (string, error) {
	var w strings.Builder
	n, _, err := r.State(counterGroup, "n")
	if err != nil {
		return "", err
	}
	if n == nil {
		n = make([]byte, 8)
	}
	fmt.Fprintf(&w, "commits %d\n", binary.BigEndian.Uint64(n))
	gs, err := r.Groups("")
	if err != nil {
		return "", err
	}
	for gs.Next() {
		a, err := gs.Acceptor()
		if err != nil {
			break // Err says so
		}
		fmt.Fprintf(&w, "record %s %s %x %d %+v\n", gs.Group(), digest(a.Record), a.Stamp, a.At, a.Smallness)
	}
	if err := errors.Join(gs.Err(), gs.Close()); err != nil {
		return "", err
	}
	for _, g := range testGroups {
		if err := dumpGroup(&w, r, g); err != nil {
			return "", err
		}
	}
	return w.String(), nil
}

func dumpGroup(w *strings.Builder, r Reader, g string) error {
	err := r.EachEntry(g, 0, ^uint64(0), func(slot uint64, data []byte) error {
		fmt.Fprintf(w, "entry %s %d %s\n", g, slot, digest(data))
		return nil
	})
	if err != nil {
		return err
	}
	err = r.EachState(g, "", func(name string, val []byte) error {
		fmt.Fprintf(w, "state %s %q %s\n", g, name, digest(val))
		return nil
	})
	if err != nil {
		return err
	}
	cs, err := r.Changes(g, 0)
	if err != nil {
		return err
	}
	for cs.Next() {
		c := cs.Change()
		fmt.Fprintf(w, "change %s %d %d %d %q\n", g, c.Time, c.Seq, c.Kind, c.Rest)
	}
	if err := errors.Join(cs.Err(), cs.Close()); err != nil {
		return err
	}
	rests := slices.Clone(testRests)
	slices.Sort(rests)
	for _, rest := range rests {
		if err := dumpKey(w, r, g, rest); err != nil {
			return err
		}
	}
	return nil
}

func dumpKey(w *strings.Builder, r Reader, g, rest string) error {
	for t := newest; ; {
		h, live, err := r.GetAt(g, []byte(rest), t)
		if err != nil {
			return err
		}
		if h == nil {
			return nil
		}
		v := h.Version()
		val, err := h.Bytes()
		if err := errors.Join(err, h.Close()); err != nil {
			return err
		}
		if live == v.Deleted {
			return fmt.Errorf("%s%s@%d: found=%v but deleted=%v", g, rest, v.Time, live, v.Deleted)
		}
		dumpVersion(w, g, rest, &v, val)
		t = v.Time - 1
	}
}

// The universe of the random runs: names that are prefixes of one another, hold NULs and high bytes.
var (
	testGroups = []string{"a", "a-b", "ab", "shop"}
	testRests  = []string{".x", ".x\x00", ".x\x00y", ".xy", "/t.a", "/t.\xff", "/t.\xff\xff", "/tt.a"}
)

// maker draws commits.
type maker struct {
	rng   *rand.Rand
	n     uint64
	now   Timestamp
	large int            // one value in so many is large; 0 for none
	small map[string]int // of small groups, how many versions carry stamps; nil for none ever
}

func (k *maker) pick(from []string) string { return from[k.rng.IntN(len(from))] }

func (k *maker) blob(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], k.rng.Uint64())
		copy(b[i:], w[:])
	}
	return b
}

// record is an acceptor record. Where some may be those of small groups it begins with the version that they have.
func (k *maker) record() []byte {
	b := k.blob(8 + k.rng.IntN(100))
	if k.small != nil {
		b[0] = 2
	}
	return b
}

func (k *maker) commit() *commit {
	k.n++
	k.now += 1 + k.rng.Uint64N(3)
	c := &commit{n: k.n, sync: k.rng.IntN(2) == 0}
	used := map[string]bool{} // keys; of small groups the whole, once a version carries a stamp
	for seq := range uint32(1 + k.rng.IntN(4)) {
		g := k.pick(testGroups)
		switch k.rng.IntN(10) {
		case 0:
			if !used[g] {
				c.muts = append(c.muts, mutation{op: "record", group: g, bytes: k.record()})
			}
		case 1:
			c.muts = append(c.muts, mutation{op: "entry", group: g, slot: k.rng.Uint64N(20), bytes: k.blob(k.rng.IntN(200))})
		case 2:
			op := []string{"truncate", "trim"}[k.rng.IntN(2)]
			c.muts = append(c.muts, mutation{op: op, group: g, slot: k.rng.Uint64N(20)})
		case 3:
			c.muts = append(c.muts, mutation{op: "state", group: g, name: k.pick(testRests), bytes: k.blob(k.rng.IntN(50))})
		case 4:
			c.muts = append(c.muts, mutation{op: "unstate", group: g, name: k.pick(testRests)})
		default:
			rest := k.pick(testRests)
			if used[g+rest] || used[g] {
				continue // a key gets one version at one time
			}
			used[g+rest] = true
			m := mutation{op: "put", group: g, name: rest, at: k.now, seq: seq, v: k.version()}
			if k.carries(c, &m) {
				used[g] = true
			}
			c.muts = append(c.muts, m)
		}
	}
	k.settle(c)
	return c
}

// carries lets the version of a small group carry a stamp, if it is the first thing that the commit does to it, and chance wills.
func (k *maker) carries(c *commit, m *mutation) bool {
	nth, small := k.small[m.group]
	if !small || nth == CarriedMax || !MayCarry(&m.v) || k.rng.IntN(4) == 0 ||
		slices.ContainsFunc(c.muts, func(o mutation) bool { return o.group == m.group && (o.op == "put" || o.op == "record") }) {
		return false
	}
	k.small[m.group]++
	m.op, m.seq, m.slot, m.bytes = "carry", 0, uint64(nth+1), k.blob(k.rng.IntN(StampLenMax+1))
	return true
}

// settle stores the records of the small groups to which the commit does more, and of others now and then as of small ones.
func (k *maker) settle(c *commit) {
	if k.small == nil {
		return
	}
	for _, g := range testGroups {
		of := func(op string) bool {
			return slices.ContainsFunc(c.muts, func(m mutation) bool { return m.group == g && m.op == op })
		}
		_, small := k.small[g]
		if !of("put") && !of("record") || !small && k.rng.IntN(2) == 0 {
			continue
		}
		c.muts = slices.DeleteFunc(c.muts, func(m mutation) bool { return m.group == g && m.op == "record" })
		if small {
			c.muts = slices.Insert(c.muts, 0, mutation{op: "index", group: g})
		}
		m := mutation{op: "small", group: g, bytes: k.record(), at: k.now}
		if delete(k.small, g); k.rng.IntN(4) == 0 {
			m.op = "record"
		} else {
			k.small[g] = 0
		}
		c.muts = append(c.muts, m)
	}
}

// follow goes on from what the model holds.
func (k *maker) follow(m *model) {
	clear(k.small)
	for g, small := range m.small {
		k.small[g] = small.Carried
	}
}

func (k *maker) version() Version {
	var v Version
	switch k.rng.IntN(6) {
	case 0:
		return Version{Deleted: true, Expired: k.rng.IntN(2) == 0}
	case 1:
		v.WormUntil = k.now + k.rng.Uint64N(100)
	case 2:
		v.Expires = k.now + 1 + k.rng.Uint64N(100)
	}
	v.Value = k.blob(k.rng.IntN(120))
	if k.large > 0 && k.rng.IntN(k.large) == 0 {
		v.Value = k.blob(InlineLenMax + 1 + k.rng.IntN(4*ChunkLen))
	}
	return v
}

// diff shows the first line in which two dumps differ.
func diff(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d:\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	if len(g) != len(w) {
		return fmt.Sprintf("%d lines, want %d", len(g), len(w))
	}
	return ""
}

// checkScans compares scans, counts and tables at a timestamp with the model.
func checkScans(r Reader, m *model, rng *rand.Rand, at Timestamp) error {
	for _, g := range testGroups {
		o := ScanOptions{Group: g, At: at, Reverse: rng.IntN(2) == 0, KeysOnly: rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			o.Now = at
		}
		if rng.IntN(2) == 0 {
			o.Lower = []byte(testRests[rng.IntN(len(testRests))])
		}
		if rng.IntN(2) == 0 {
			o.Upper = []byte(testRests[rng.IntN(len(testRests))])
			if bytes.Compare(o.Lower, o.Upper) > 0 {
				o.Lower, o.Upper = o.Upper, o.Lower
			}
		}
		want := m.scan(o)
		got, err := collectScan(r, m, o)
		if err != nil {
			return err
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("scan %+v gives %q, want %q", o, got, want)
		}
		n, err := r.Count(ctxForTest, o)
		if err != nil || n != int64(len(want)) {
			return fmt.Errorf("count %+v gives %d, %w, want %d", o, n, err, len(want))
		}
	}
	return nil
}

func collectScan(r Reader, m *model, o ScanOptions) (got []string, err error) {
	sc, err := r.NewScan(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sc.Err(), sc.Close()) }()
	for sc.Next() {
		rest := string(sc.Rest())
		got = append(got, rest)
		want, _ := m.at(o.Group, rest, o.At)
		v := sc.Version()
		if v.Time != want.Time || v.Expires != want.Expires || v.WormUntil != want.WormUntil || v.Size != want.Size {
			return nil, fmt.Errorf("scan gives %s%s as %+v, want %+v", o.Group, rest, v, want)
		}
		if o.KeysOnly {
			continue
		}
		val, err := sc.Bytes()
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(val, want.Value) {
			return nil, fmt.Errorf("scan gives %s%s as %s, want %s", o.Group, rest, digest(val), digest(want.Value))
		}
	}
	return got, nil
}
