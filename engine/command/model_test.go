// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/atlas-edge/atlas/engine/authz"
)

// model is a group in memory that keeps every version of every key: a View and a Writer, and what twins look into.
type model struct {
	group    string
	last     Timestamp // the newest commit time
	state    GroupState
	versions map[string][]modelVersion // ascending
	changes  []Change
	lists    map[string]*authz.Grants
	relisted Timestamp // when slowApply last changed a list
	floor    Timestamp // changes and hidden versions up to here were collected
	lookups  int       // calls of Latest
	scanned  int       // changes given out
	fail     error     // what every read answers, if not nil
}

type modelVersion struct {
	meta  Meta
	value string
}

func newModel(group string) *model {
	return &model{group: group, versions: map[string][]modelVersion{}, lists: map[string]*authz.Grants{}}
}

func (m *model) clone() *model {
	c := *m
	c.versions = map[string][]modelVersion{}
	for k, v := range m.versions {
		c.versions[k] = slices.Clone(v)
	}
	c.changes = slices.Clone(m.changes)
	c.lists = maps.Clone(m.lists)
	return &c
}

func (m *model) Group() string { return m.group }

func (m *model) State() (GroupState, error) { return m.state, m.fail }

func (m *model) Latest(rest []byte) (Meta, error) {
	m.lookups++
	if vs := m.versions[string(rest)]; len(vs) > 0 {
		return vs[len(vs)-1].meta, m.fail
	}
	return Meta{}, m.fail
}

var errCollected = errors.New("changes since then were collected")

func (m *model) EachChange(after Timestamp, fn func(Change) bool) error {
	if after < m.floor {
		return errCollected
	}
	for _, c := range m.changes {
		if c.Time <= after {
			continue
		}
		m.scanned++
		if !fn(Change{Time: c.Time, Kind: c.Kind, Rest: bytes.Clone(c.Rest)}) {
			break
		}
	}
	return m.fail
}

func (m *model) Grants(o authz.Object) (*authz.Grants, error) { return m.lists[o.StateName()], m.fail }

func (m *model) EachKeyList(tableRest []byte, fn func([]byte) bool) error {
	for name := range m.lists {
		if strings.HasPrefix(name, authz.KeyStatePrefix(tableRest)) && !fn([]byte(name[1:])) {
			break
		}
	}
	return m.fail
}

func (m *model) Put(rest []byte, at Timestamp, seq uint32, v Version) {
	m.add(rest, at, seq, modelVersion{Meta{Version: at, Expires: v.Expires, WormUntil: v.WormUntil}, string(v.Value)}, ChangePut)
}

func (m *model) Delete(rest []byte, at Timestamp, seq uint32, kind ChangeKind) {
	m.add(rest, at, seq, modelVersion{meta: Meta{Version: at, Deleted: true}}, kind)
}

func (m *model) add(rest []byte, at Timestamp, seq uint32, v modelVersion, kind ChangeKind) {
	vs := m.versions[string(rest)]
	if at < m.last || (len(vs) > 0 && vs[len(vs)-1].meta.Version >= at) {
		panic(fmt.Sprintf("write of %q at %d out of order", rest, at))
	}
	if at > m.last && seq != 0 {
		panic("a command's changes do not begin at 0")
	}
	m.last = at
	m.versions[string(rest)] = append(vs, v)
	m.changes = append(m.changes, Change{Time: at, Kind: kind, Rest: bytes.Clone(rest)})
}

func (m *model) SetGrants(o authz.Object, g *authz.Grants) {
	if g == nil {
		delete(m.lists, o.StateName())
	} else {
		m.lists[o.StateName()] = g
	}
}

func (m *model) SetState(s GroupState) { m.state = s }

// readAt is the live version at a time, as a reader of a snapshot sees it.
func (m *model) readAt(rest string, at Timestamp) (modelVersion, bool) {
	for _, v := range slices.Backward(m.versions[rest]) {
		if v.meta.Version <= at {
			return v, v.meta.LiveAt(at)
		}
	}
	return modelVersion{}, false
}

// collect does what a collector may: it forgets changes and hidden versions up to a floor, tombstones among them.
func (m *model) collect(floor Timestamp) {
	m.floor = max(m.floor, floor)
	m.changes = slices.DeleteFunc(m.changes, func(c Change) bool { return c.Time <= floor })
	for rest, vs := range m.versions {
		for len(vs) > 1 && vs[1].meta.Version <= floor {
			vs = vs[1:]
		}
		if len(vs) > 0 && vs[0].meta.Version <= floor && vs[0].meta.Deleted {
			vs = vs[1:]
		}
		m.versions[rest] = vs
		if len(vs) == 0 {
			delete(m.versions, rest)
		}
	}
}

// hash is over all that later commands can depend on: newest versions that are no tombstone, lists and state.
func (m *model) hash() string {
	h := sha256.New()
	for _, rest := range slices.Sorted(maps.Keys(m.versions)) {
		if vs := m.versions[rest]; !vs[len(vs)-1].meta.Deleted {
			fmt.Fprintf(h, "%q %+v\n", rest, vs[len(vs)-1])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.lists)) {
		fmt.Fprintf(h, "%q %x\n", name, m.lists[name].AppendTo(nil))
	}
	fmt.Fprintf(h, "%+v\n", m.state)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// slowApply is Apply once more: on a model that keeps everything, in the order of the package comment, one obvious
// step after the other. Only the grants are left to authz, which has a twin of its own.
func slowApply(m *model, at Timestamp, c *Command) Outcome {
	subject := authz.Subject{Principal: c.Principal, Admin: c.Admin, System: c.System}
	listsOn := func(o authz.Object) authz.Lists {
		l := authz.Lists{Table: m.lists[o.Table().StateName()]}
		if o.Kind == authz.KindKey {
			l.Key = m.lists[o.StateName()]
		}
		return l
	}
	may := func(v authz.Verb, rest []byte) bool {
		o := authz.Object{Group: m.group, Kind: authz.KindKey, Rest: rest}
		return authz.Allowed(subject, v, o, listsOn(o))
	}
	newLists := map[string]*authz.Grants{}
	for _, mu := range c.Mutations {
		switch mu.Kind {
		case Put, Delete:
			if !may(authz.VerbWrite, mu.Rest) {
				return Denied
			}
		case Expire:
			if !c.System {
				return Invalid
			}
		default:
			change := mu.change(m.group)
			next, _, err := authz.ChangeGrants(subject, change, listsOn(change.Object), slowKeyLists(m, change.Object))
			switch {
			case errors.Is(err, authz.ErrDenied):
				return Denied
			case errors.Is(err, authz.ErrConflict):
				return Conflict
			case err != nil:
				return Invalid
			}
			newLists[change.Object.StateName()] = next
		}
	}
	for _, cond := range c.Conditions {
		if !may(authz.VerbRead, cond.Rest) {
			return Denied
		}
	}
	for _, mu := range c.Mutations {
		if expires, worm := mu.ends(at); mu.Kind == Put && ((expires != 0 && (expires <= at || expires < worm)) || (worm != 0 && worm <= at)) {
			return Invalid
		}
	}
	for _, mu := range c.Mutations {
		if v, ok := m.readAt(string(mu.Rest), at); ok && (mu.Kind == Put || mu.Kind == Delete) && v.meta.WormUntil > at {
			return Denied
		}
	}
	for _, cond := range c.Conditions {
		v, ok := m.readAt(string(cond.Rest), at)
		if cond.Kind == Absent && ok {
			return Conflict
		}
		if cond.Kind == VersionIs && cond.Version != 0 && (!ok || v.meta.Version != cond.Version) {
			return Conflict
		}
		if cond.Kind == VersionIs && cond.Version == 0 && ok {
			return Conflict
		}
	}
	if c.Reads != nil && (slowReadsChanged(m, at, c.Reads) || (!c.System && m.relisted > c.Reads.Snapshot)) {
		return Conflict
	}
	m.slowWrite(at, c, newLists)
	return Applied
}

func slowKeyLists(m *model, o authz.Object) bool {
	for name := range m.lists {
		if name[0] == 'k' && string(authz.Object{Kind: authz.KindKey, Rest: []byte(name[1:])}.Table().Rest) == string(o.Rest) {
			return true
		}
	}
	return false
}

// slowReadsChanged says whether some put or delete since the snapshot touched what was read, or some of it expired.
func slowReadsChanged(m *model, at Timestamp, s *ReadSet) bool {
	if s.Snapshot >= at || at-s.Snapshot > Timestamp(SnapshotAgeMax) || (s.ValidUntil != 0 && s.ValidUntil <= at) {
		return true
	}
	for _, c := range m.changes {
		if c.Time > s.Snapshot && c.Kind != ChangeExpire && readSetHolds(s, string(c.Rest)) {
			return true
		}
	}
	return false
}

// readSetHolds says whether a rest is in a read set.
func readSetHolds(s *ReadSet, rest string) bool {
	for _, k := range s.Keys {
		if string(k) == rest {
			return true
		}
	}
	for _, r := range s.Ranges {
		if string(r.Lower) <= rest && (len(r.Upper) == 0 || rest < string(r.Upper)) {
			return true
		}
	}
	return false
}

func (m *model) slowWrite(at Timestamp, c *Command, newLists map[string]*authz.Grants) {
	var seq uint32
	for _, mu := range c.Mutations {
		v, live := m.readAt(string(mu.Rest), at)
		switch {
		case mu.Kind == Put:
			expires, worm := mu.ends(at)
			m.Put(mu.Rest, at, seq, Version{mu.Value, expires, worm})
			seq++
		case mu.Kind == Delete && live:
			m.Delete(mu.Rest, at, seq, ChangeDelete)
			seq++
		case mu.Kind == Expire && !live && !v.meta.Deleted && v.meta.Version != 0 && v.meta.Version == mu.Version:
			m.Delete(mu.Rest, at, seq, ChangeExpire)
			seq++
		}
	}
	for name, g := range newLists {
		if (g == nil) != (m.lists[name] == nil) || !slices.Equal(g.Entries(), m.lists[name].Entries()) {
			m.relisted = at
		}
		if g == nil {
			delete(m.lists, name)
		} else {
			m.lists[name] = g
		}
	}
	m.state = m.slowState()
}

// slowState counts anew what Apply keeps count of. The horizon of write-once keys only rises, over any end it ever saw.
func (m *model) slowState() GroupState {
	s := GroupState{WormUntilMax: m.state.WormUntilMax, ListsChanged: m.relisted}
	for name := range m.lists {
		if name[0] == 't' {
			s.TableLists++
		} else {
			s.KeyLists++
		}
	}
	for _, vs := range m.versions {
		for _, v := range vs {
			if v.meta.WormUntil > s.WormUntilMax {
				s.WormUntilMax = (v.meta.WormUntil/wormStep + 1) * wormStep
				if v.meta.WormUntil%wormStep == 0 {
					s.WormUntilMax = v.meta.WormUntil
				}
			}
		}
	}
	return s
}
