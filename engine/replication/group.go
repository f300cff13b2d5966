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
	shard *registryShard
	hash  uint64      // of the name, in shard
	entry parkedEntry // where it was parked
	core  *consensus.Core
	state command.GroupState // of everything applied, durable or not yet
	small storage.Smallness  // likewise
	shape *consensus.Record  // if small: that of the record as it is stored, which stamps keep
	crowd int                // rounds without stamps to come: see crowdRounds

	// visible is a time up to which all that was committed is durable, and inFlight counts the rounds that have drawn times above
	// it, or may have, and are not told yet. begin counts a round before its first draw, publish takes it off after it has moved
	// visible: see registry.view. While inFlight is 0 run alone changes both, else publish alone changes visible.
	visible  atomic.Uint64
	inFlight atomic.Int32
	// began is a time of Clock.Wall from before the oldest of these rounds drew its first: none of them has one before it.
	began atomic.Uint64
	lists atomic.Uint32

	commands, reads atomic.Uint64 // since the group came into memory

	usedAt       int64 // of the loop's coarse clock, nanoseconds
	list         *lru  // that the group is in
	newer, older *group
	round        *inRound // of the round at hand; nil when it has no part in it
}

// begin counts a round in, before it draws a time. The group is in the registry by now: a reader who looked before read an earlier time.
func (g *group) begin(clock *hlc.Clock) {
	for {
		n := g.inFlight.Load()
		if n == 0 {
			// Else Read stands where the clock stood when nobody wrote any more, and what is read meanwhile is as old. It may wait for the
			// disk, and so comes before what readers judge by; where that is full there is no more than Read.
			_, _ = clock.Now() // see above
			// So that readers do not go back from the times that they read at, and judged by, while nothing was under way.
			g.began.Store(clock.Wall())
			g.visible.Store(max(g.visible.Load(), clock.Read()))
		}
		if g.inFlight.CompareAndSwap(n, n+1) {
			return
		}
	}
}

// load makes a group from what was parked of it, or from the disk; one never written has the zero record.
func (l *loop) load(name string, shard *registryShard, hash uint64) (*group, error) {
	at, entry, parked := shard.record(name, hash)
	var state command.GroupState
	if !parked {
		l.r.metrics.GroupReads.Add(1)
		var err error
		if at, state, err = loadStored(l.r.opts.Store, name); err != nil {
			return nil, err
		}
	}
	core := l.spareCore()
	if err := core.Renew(l.r.coreOptions(at.record)); err != nil {
		return nil, damage(fmt.Errorf("group %q: %w", name, err))
	}
	if parked && invariants.Enabled {
		if err := l.r.checkParked(name, core, at.small); err != nil {
			return nil, err
		}
	}
	g := &group{name: name, shard: shard, hash: hash, entry: entry, core: core, state: state, small: at.small}
	if at.small.Small {
		shape, _ := shapeOf(&at.record)
		g.shape = l.shapes.keep(&shape)
	}
	g.visible.Store(at.record.LastTime)
	g.lists.Store(uint32(listsOf(state)))
	return g, nil
}

// checkParked holds a core that was made of what was parked against what the disk holds, as a core has it: New fills in what old records lack.
func (r *Replicator) checkParked(name string, core *consensus.Core, small storage.Smallness) error {
	at, state, err := loadStored(r.opts.Store, name)
	if err != nil {
		return err
	}
	other, err := consensus.New(r.coreOptions(at.record))
	if err != nil {
		return damage(fmt.Errorf("group %q: %w", name, err))
	}
	parked, _ := core.Stored()
	onDisk, _ := other.Stored()
	if parked != onDisk || small != at.small || state != (command.GroupState{}) {
		invariants.Failf("group %q was parked with %+v, %+v, and the disk holds %+v, %+v, %+v", name, parked, small, onDisk, at.small, state)
	}
	return nil
}

// stored is what the disk holds of a group without state.
type stored struct {
	record consensus.Record
	small  storage.Smallness
}

// loadStored reads what the disk holds of a group, and its state.
func loadStored(store *storage.Store, name string) (stored, command.GroupState, error) {
	at, err := loadRecord(store, name)
	if err != nil {
		return stored{}, command.GroupState{}, err
	}
	state, err := loadState(store, name)
	return at, state, err
}

func loadRecord(store *storage.Store, name string) (stored, error) {
	a, ok, err := store.Record(name)
	if err != nil || !ok {
		return stored{}, err
	}
	return openStored(name, &a)
}

func openStored(name string, a *storage.Acceptor) (stored, error) {
	rec, err := consensus.DecodeRecord(a.Record)
	if err != nil {
		return stored{}, damage(fmt.Errorf("acceptor record of group %q: %w", name, err))
	}
	if a.Carried > 0 {
		var ok bool
		if rec, ok = stamped(&rec, a.Stamp, a.Carried, a.At); !ok {
			return stored{}, damage(fmt.Errorf("acceptor record of group %q: stamp %x of version %d", name, a.Stamp, a.At))
		}
	}
	return stored{record: rec, small: a.Smallness}, nil
}

// damage marks an error of decoding: what is stored cannot be what was written. It stops the node where it is found.
func damage(err error) error { return fmt.Errorf("%w: %w", storage.ErrCorrupt, err) }

// NewestTime is not before the commit time of any command on the disk, and not after that of the newest; 0 if there is none.
func NewestTime(store *storage.Store) (newest Timestamp, err error) {
	if newest, err = store.Newest(); err != nil || newest > 0 {
		return newest, err
	}
	// Before format 5 nothing but the groups says so.
	groups, err := store.Groups("")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, groups.Close()) }()
	for groups.Next() {
		at, err := storedOf(groups)
		if err != nil {
			return 0, err
		}
		newest = max(newest, at.record.LastTime)
	}
	return newest, groups.Err()
}

// storedOf is what is stored of the group at hand.
func storedOf(groups *storage.GroupScan) (stored, error) {
	a, err := groups.Acceptor()
	if err != nil {
		return stored{}, err
	}
	return openStored(groups.Group(), &a)
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
	defer r.opts.Store.LimitCache()()
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
		at, err := storedOf(groups)
		if err != nil {
			return err
		}
		if !r.registry.offer(groups.Group(), &at) {
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
