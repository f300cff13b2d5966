// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/hlc"
	"github.com/atlas-edge/atlas/engine/storage"
	"github.com/atlas-edge/atlas/internal/invariants"
)

// group is one group in memory. Its loop's run alone touches it, but for the atomics, which publish changes and readers load.
type group struct {
	name  string
	core  *consensus.Core
	state command.GroupState // of everything applied, durable or not yet

	// visible is a time up to which all that was committed is durable, and inFlight counts the rounds that have drawn times above
	// it, or may have, and are not told yet. begin counts a round before its first draw, publish takes it off after it has moved
	// visible: see registry.view. While inFlight is 0 run alone changes both, else publish alone changes visible.
	visible  atomic.Uint64
	inFlight atomic.Int32
	// began is a time of Clock.Wall from before the oldest of these rounds drew its first: none of them has one before it.
	began atomic.Uint64
	lists atomic.Uint32

	commands, reads atomic.Uint64 // since the group came into memory

	usedAt       int64    // of the loop's coarse clock, nanoseconds
	newer, older *group   // the loop's list by use
	round        *inRound // of the round at hand; nil when it has no part in it
}

// begin counts a round in, before it draws a time. The group is in the registry by now: a reader who looked before read an earlier time.
func (g *group) begin(clock *hlc.Clock) {
	for {
		n := g.inFlight.Load()
		if n == 0 {
			// So that readers do not go back from the times that they read at, and judged by, while nothing was under way.
			g.began.Store(clock.Wall())
			g.visible.Store(max(g.visible.Load(), clock.Read()))
		}
		if g.inFlight.CompareAndSwap(n, n+1) {
			return
		}
	}
}

// loadGroup makes a group from what was parked of it, or from the disk; one never written has the zero record.
func loadGroup(r *Replicator, name string) (*group, error) {
	rec, parked := r.registry.record(name)
	var state command.GroupState
	if !parked {
		r.metrics.GroupReads.Add(1)
		var err error
		if rec, state, err = loadStored(r.opts.Store, name); err != nil {
			return nil, err
		}
	}
	core, err := consensus.New(r.coreOptions(rec))
	if err != nil {
		return nil, damage(fmt.Errorf("group %q: %w", name, err))
	}
	if parked && invariants.Enabled {
		if err := r.checkParked(name, core); err != nil {
			return nil, err
		}
	}
	g := &group{name: name, core: core, state: state}
	g.visible.Store(rec.LastTime)
	g.lists.Store(uint32(listsOf(state)))
	return g, nil
}

// checkParked holds a core that was made of what was parked against what the disk holds, as a core has it: New fills in what old records lack.
func (r *Replicator) checkParked(name string, core *consensus.Core) error {
	rec, state, err := loadStored(r.opts.Store, name)
	if err != nil {
		return err
	}
	other, err := consensus.New(r.coreOptions(rec))
	if err != nil {
		return damage(fmt.Errorf("group %q: %w", name, err))
	}
	parked, _ := core.Stored()
	stored, _ := other.Stored()
	if parked != stored || state != (command.GroupState{}) {
		invariants.Failf("group %q was parked with %+v, and the disk holds %+v, %+v", name, parked, stored, state)
	}
	return nil
}

// loadStored reads what the disk holds of a group.
func loadStored(store *storage.Store, name string) (consensus.Record, command.GroupState, error) {
	rec, err := loadRecord(store, name)
	if err != nil {
		return consensus.Record{}, command.GroupState{}, err
	}
	state, err := loadState(store, name)
	return rec, state, err
}

func loadRecord(store *storage.Store, name string) (consensus.Record, error) {
	raw, ok, err := store.Record(name)
	if err != nil || !ok {
		return consensus.Record{}, err
	}
	rec, err := consensus.DecodeRecord(raw)
	if err != nil {
		return consensus.Record{}, damage(fmt.Errorf("acceptor record of group %q: %w", name, err))
	}
	return rec, nil
}

// damage marks an error of decoding: what is stored cannot be what was written. It stops the node where it is found.
func damage(err error) error { return fmt.Errorf("%w: %w", storage.ErrCorrupt, err) }

// NewestTime is the commit time of the newest command on the disk, of any group; 0 if there is none.
func NewestTime(store *storage.Store) (newest Timestamp, err error) {
	groups, err := store.Groups("")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, groups.Close()) }()
	for groups.Next() {
		rec, err := consensus.DecodeRecord(groups.Record())
		if err != nil {
			return 0, damage(fmt.Errorf("acceptor record of group %q: %w", groups.Group(), err))
		}
		newest = max(newest, rec.LastTime)
	}
	return newest, groups.Err()
}

// parkAll offers to the registry what the disk holds, so that groups of before this start need not be read one by one. It ends early when the
// registry has no room for more, and when the Replicator is closed.
func (r *Replicator) parkAll() {
	if err := r.offerAll(); err != nil {
		r.FailIfDamaged(err)
		if !r.closing.Load() {
			r.opts.Logger.Warn("groups were not all read ahead; each will be when it is used", "error", err)
		}
	}
}

func (r *Replicator) offerAll() (err error) {
	groups, err := r.opts.Store.Groups("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, groups.Close()) }()
	for groups.Next() && !r.closing.Load() {
		if has, err := groups.HasState(); err != nil || has {
			if err != nil {
				return err
			}
			continue
		}
		rec, err := consensus.DecodeRecord(groups.Record())
		if err != nil {
			return damage(fmt.Errorf("acceptor record of group %q: %w", groups.Group(), err))
		}
		if !r.registry.offer(groups.Group(), &rec) {
			return nil
		}
	}
	return groups.Err()
}

// view is a group's durable state as command.Apply reads it. What the batch at hand adds is command.Overlay's part.
type view struct {
	store *storage.Store
	g     *group
}

var _ command.View = (*view)(nil)

func (v *view) Group() string { return v.g.name }

func (v *view) State() (command.GroupState, error) { return v.g.state, nil }

func (v *view) Latest(rest []byte) (command.Meta, error) {
	found, ok, err := v.store.Latest(v.g.name, rest)
	if err != nil || !ok {
		return command.Meta{}, err
	}
	return command.Meta{Version: found.Time, Deleted: found.Deleted, Expires: found.Expires, WormUntil: found.WormUntil}, nil
}

func (v *view) EachChange(after Timestamp, fn func(command.Change) bool) error {
	scan, err := v.store.Changes(v.g.name, after)
	if err != nil {
		return err
	}
	for scan.Next() {
		c := scan.Change()
		if !fn(command.Change{Time: c.Time, Kind: command.ChangeKind(c.Kind), Rest: c.Rest}) {
			break
		}
	}
	if err := scan.Err(); err != nil {
		_ = scan.Close() // the scan's own error says more
		return err
	}
	if err := scan.Close(); err != nil {
		return err
	}
	// Asked last: what was read was whole if history is whole now. It is not where the process stood still for minutes after the
	// command drew its time, and collection was the first to go on.
	swept, err := v.store.SweptTo()
	if err == nil && swept > after {
		err = fmt.Errorf("changes after %d are no longer all kept, only those after %d", after, swept)
	}
	return err
}

func (v *view) Grants(o authz.Object) (*authz.Grants, error) {
	return LoadGrants(v.store, o)
}

func (v *view) EachKeyList(tableRest []byte, fn func(rest []byte) bool) error {
	err := v.store.EachState(v.g.name, authz.KeyStatePrefix(tableRest), func(name string, _ []byte) error {
		if !fn([]byte(name[1:])) { // behind the letter that marks a key's list
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// LoadGrants reads the list on an object; nil if there is none.
func LoadGrants(store storage.Reader, o authz.Object) (*authz.Grants, error) {
	raw, ok, err := store.State(o.Group, o.StateName())
	if err != nil || !ok {
		return nil, err
	}
	g, err := authz.DecodeGrants(raw)
	if err != nil {
		return nil, damage(fmt.Errorf("grants %q of group %q: %w", o.StateName(), o.Group, err))
	}
	return g, nil
}

// writer puts the effects of commands into a batch.
type writer struct {
	batch   *storage.Batch
	g       *group
	changed []change
}

// change is a key of the batch at hand, by its rest, which is part of the command's encoding.
type change struct {
	rest []byte
	at   Timestamp
}

var _ command.Writer = (*writer)(nil)

func (w *writer) Put(rest []byte, at Timestamp, seq uint32, v command.Version) {
	w.changed = append(w.changed, change{rest, at})
	w.batch.PutVersion(w.g.name, rest, at, seq, storage.Version{
		Time: at, Seq: seq, Value: v.Value, Size: int64(len(v.Value)), Expires: v.Expires, WormUntil: v.WormUntil,
	})
}

func (w *writer) Delete(rest []byte, at Timestamp, seq uint32, kind command.ChangeKind) {
	w.changed = append(w.changed, change{rest, at})
	w.batch.PutVersion(w.g.name, rest, at, seq, storage.Version{Time: at, Seq: seq, Deleted: true, Expired: kind == command.ChangeExpire})
}

func (w *writer) SetGrants(o authz.Object, g *authz.Grants) {
	if g == nil {
		w.batch.DeleteState(o.Group, o.StateName())
		return
	}
	w.batch.SetState(o.Group, o.StateName(), g.AppendTo(nil))
}

func (w *writer) SetState(s command.GroupState) {
	w.g.state = s
	w.batch.SetState(w.g.name, command.StateName, s.AppendTo(nil))
}
