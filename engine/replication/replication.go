// SPDX-License-Identifier: AGPL-3.0-only

// Package replication drives the consensus cores of a node's groups.
//
// A few event loops own the cores: every group belongs to one loop, by its shard of the registry, which is by the hash of its name. A round of a loop takes what is
// waiting, gives it to the cores, applies what the cores call committed, and writes all of that, for all groups, as one batch
// with one sync. Once the batch is in the disk's order the cores are advanced. Only after the sync does anybody see an effect:
// the groups' visible times move, watchers are told, and those who waited get their results.
//
//	Propose -> queue of the loop -> Core.Propose -> Core.Ready -> command.Apply -> batch -> Core.Advance -> sync -> visible -> result
//
// Invariants:
//
//   - A group's visible time is the commit time of its newest durable command. A group that is not in memory has nothing
//     that is not durable; it enters the registry before a clock reading is drawn for its first command. Hence ReadView.
//   - A batch that was refused leaves nothing behind, and nothing is built on it: that is known before the next round. The
//     cores of its groups are dropped and made anew from the disk.
//   - A result is reported once its batch is durable, or as not applied when the batch was refused as a whole (full
//     disk), or as unknown when the disk failed in between. After that the node stops.
//   - Memory is bounded: waiting proposals by number and bytes, groups in memory by number, what is parked of others by bytes.
//
// The package leaves to others what a command means (engine/command), what is on the disk (engine/storage), who may
// do what (engine/authz), and waking watchers (the Observer).
package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/hlc"
	"github.com/atlas-edge/atlas/engine/storage"
)

// Timestamp is nanoseconds since the Unix epoch, from the hybrid logical clock.
type Timestamp = uint64

// Errors of Propose. Each says what is known of the command.
var (
	// ErrUnavailable: the command was not applied and never will be.
	ErrUnavailable = errors.New("not applied")
	// ErrUnknown: the command may have been applied, or may be applied later.
	ErrUnknown = errors.New("result is not known")
	// ErrTooLarge: the command exceeds a limit; it was not applied.
	ErrTooLarge = errors.New("too large")
)

// Observer is told of durable progress. Its methods are called by the event loops and must not block.
type Observer interface {
	// Changing tells, for each change of a durable batch, that the key gets a version of that time, before any reader gets a time to
	// read at that shows it. rest is valid during the call only.
	Changing(group string, rest []byte, at Timestamp)
	// Advanced tells, once a group and batch, that the group's visible time has moved.
	Advanced(group string)
}

// Options configure a Replicator; every field is required unless it says otherwise.
type Options struct {
	Store    *storage.Store
	Clock    *hlc.Clock
	Self     consensus.NodeID
	Quorums  *quorum.Config
	Cfg      uint64
	Observer Observer
	Logger   *slog.Logger
	// Loops is the number of event loops.
	Loops int
	// Depth is how many rounds of a loop may be under way, 1 to 8; 0 is 1. With more, a round is applied while the one before it is
	// being synced: rounds get smaller and syncs more, which pays only where neither processors nor the disk are short (ADR 0012).
	Depth int
	// Failed is called once, when the loops have stopped for good; Err says why.
	Failed func()
	// GroupIdle is how long a group without commands stays in memory.
	GroupIdle time.Duration
}

// Replicator owns the event loops. Its methods are safe for concurrent use.
type Replicator struct {
	opts     Options
	registry *registry
	loops    []*loop
	running  sync.WaitGroup
	closing  atomic.Bool
	ahead    atomic.Bool // reading ahead has ended
	failure  atomic.Pointer[error]
	metrics  Metrics

	configurations []consensus.Configuration // of every core
}

// Metrics counts what the loops did since the start.
type Metrics struct {
	Batches, Commands, Refused, Failed atomic.Uint64
	BatchNanos                         atomic.Uint64
	// GroupReads are the loads for which the disk had to be asked.
	GroupLoads, GroupReads, GroupEvictions atomic.Uint64
	// Carried are the acceptor records that a version carried.
	Carried atomic.Uint64
}

// New starts the event loops. The caller ends them with Close.
func New(o Options) (*Replicator, error) {
	if !o.Quorums.SoleVoter(o.Self) {
		return nil, fmt.Errorf("node %d is not the only voter: replication to peers is not built yet", o.Self)
	}
	if o.Depth == 0 {
		o.Depth = depthDefault
	}
	if o.Depth < 1 || o.Depth > depthMax {
		return nil, fmt.Errorf("%d rounds under way, want 1 to %d", o.Depth, depthMax)
	}
	r := &Replicator{opts: o, registry: newRegistry(o.Store)}
	r.configurations = []consensus.Configuration{{Version: o.Cfg, Quorums: o.Quorums}}
	for i := range o.Loops {
		l := newLoop(r, i, groupsMax/o.Loops, groupsLightMax/o.Loops)
		r.loops = append(r.loops, l)
	}
	for _, l := range r.loops {
		r.running.Go(l.run)
		r.running.Go(l.publish)
	}
	return r, nil
}

// ReadAhead begins to read what the disk holds of groups that were written before, in the background, so that it need not be asked when they
// are used. Damage that it finds stops the Replicator, as wherever it is found. Requires: it is called once at most, before Close.
func (r *Replicator) ReadAhead() {
	r.running.Go(func() {
		r.parkAll()
		r.ahead.Store(true)
	})
}

// IsAhead says whether reading ahead has ended.
func (r *Replicator) IsAhead() bool { return r.ahead.Load() }

// Carries says whether versions of the group may carry stamps that are later than its acceptor record: see storage.Store.CollectKnowing.
func (r *Replicator) Carries(group string) bool { return r.registry.carries(group) }

// Close lets what is waiting finish, then stops the loops.
func (r *Replicator) Close() error {
	if !r.closing.CompareAndSwap(false, true) {
		return nil
	}
	for _, l := range r.loops {
		l.queue.close()
	}
	r.running.Wait()
	return nil
}

// Err is the failure that stopped the loops, or nil.
func (r *Replicator) Err() error {
	if p := r.failure.Load(); p != nil {
		return *p
	}
	return r.opts.Store.Err()
}

// Metrics gives the counters.
func (r *Replicator) Metrics() *Metrics { return &r.metrics }

// GroupsParked is the number of groups that can be brought into memory without asking the disk, with those there that were so before.
func (r *Replicator) GroupsParked() int { return r.registry.parkedLen() }

// GroupsInMemory is the number of groups that have a core now.
func (r *Replicator) GroupsInMemory() int { return r.registry.len() }

// Propose has the encoded command decided and gives its result once that is durable. ctx bounds the waiting alone: a
// command that was handed over is finished, and reported unknown to one who no longer waits. payload is kept.
func (r *Replicator) Propose(ctx context.Context, group string, payload []byte) (command.Result, error) {
	t, err := r.Submit(ctx, group, payload, nil)
	if err != nil {
		return command.Result{}, err
	}
	return t.Wait(ctx)
}

// Ticket is a command that was handed over and whose result was not asked for yet.
type Ticket struct{ p *proposal }

// Submit is the first half of Propose: it hands the command over and does not wait. Commands of a group are decided in the
// order in which they were submitted. free, unless it is nil, owns the memory of payload: it is called once, whatever becomes of the command,
// when nobody reads that any more, at the latest before Wait has a result. Requires: Wait is called once if the error is nil.
func (r *Replicator) Submit(ctx context.Context, group string, payload []byte, free func()) (Ticket, error) {
	p := newProposal(group, payload, free)
	p.shard, p.hash = r.registry.shard(group)
	if err := ctx.Err(); err != nil {
		p.release()
		return Ticket{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := r.loopOf(p.shard).queue.push(p); err != nil {
		p.release()
		return Ticket{}, err
	}
	return Ticket{p}, nil
}

// Wait is the second half of Propose.
func (t Ticket) Wait(ctx context.Context) (command.Result, error) {
	select {
	case <-t.p.done:
		result, err := t.p.result, t.p.err
		t.p.release()
		return result, err
	case <-ctx.Done():
		// The loop still holds the proposal: it is left to the collector.
		return command.Result{}, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

// ReadView says at which time the group is to be read now, by which time expiry is judged, and whether it has lists of grants.
// Everything acknowledged before the call is visible at that time, nothing that is not durable is, and reads of storage must begin
// after the call.
func (r *Replicator) ReadView(group string) (ReadView, error) {
	// The clock is read before the registry is asked: a group that enters later draws later times.
	wall := r.opts.Clock.Wall()
	now := r.opts.Clock.Read()
	v, err := r.registry.view(group, wall, now)
	if err != nil {
		r.FailIfDamaged(err)
		return ReadView{}, err
	}
	// Asked last: a failed batch is recorded before its groups leave the registry, and what it wrote may be readable but not durable.
	if err := r.Err(); err != nil {
		return ReadView{}, fmt.Errorf("%w: the node has stopped: %w", ErrUnavailable, err)
	}
	return v, nil
}

// Counters gives the commands decided and the reads begun since the group came into memory; zero when it is not there.
func (r *Replicator) Counters(group string) (commands, reads uint64) {
	if g := r.registry.find(group); g != nil {
		return g.commands.Load(), g.reads.Load()
	}
	return 0, 0
}

// Record is the durable consensus state of a group, and whether it has any: a group never written has none.
func (r *Replicator) Record(group string) (consensus.Record, bool, error) {
	at, err := loadRecord(r.opts.Store, group)
	return at.record, err == nil && at.record.Last > 0, err
}

func (r *Replicator) coreOptions(rec consensus.Record) consensus.Options {
	return consensus.Options{Self: r.opts.Self, Configurations: r.configurations, Record: rec}
}

// loopOf is the loop that owns the groups of a shard.
func (r *Replicator) loopOf(s *registryShard) *loop { return r.loops[s.index%len(r.loops)] }

// fail records the failure that stops the node; the first one counts.
func (r *Replicator) fail(err error) {
	if r.failure.CompareAndSwap(nil, &err) {
		r.opts.Logger.Error("replication stopped", "error", err)
		r.opts.Failed()
	}
}

// FailIfDamaged stops the node over stored state that cannot be read, or that is ahead of its log. Whoever reads such state past the
// Replicator tells it of the error.
func (r *Replicator) FailIfDamaged(err error) {
	if errors.Is(err, storage.ErrCorrupt) || errors.Is(err, command.ErrTimeNotAfter) {
		r.fail(err)
	}
}
