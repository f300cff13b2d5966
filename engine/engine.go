// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/hlc"
	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/engine/replication"
	"github.com/atlas-edge/atlas/engine/storage"
)

// Engine is one node's database. Its methods are safe for concurrent use.
type Engine struct {
	opts       Options
	store      *storage.Store
	clock      *hlc.Clock
	quorums    *quorum.Config
	replicator *replication.Replicator
	hub        *hub
	hot        *hot
	txns       *openTxns
	secrets    chan struct{} // a token for each secret that is being checked
	started    time.Time

	background sync.WaitGroup
	collecting collecting         // the sweeper's
	stop       context.CancelFunc // ends the background goroutines
	done       chan struct{}
	closing    chan struct{} // closed when Close begins
	failOnce   sync.Once
	closeOnce  sync.Once
	closeErr   error
	metrics    *metrics
}

// Open opens or makes the data directory and starts the node. ctx bounds the opening alone.
func Open(ctx context.Context, o Options) (*Engine, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, Errorf(ClassInvalid, "engine options: %w", err)
	}
	store, err := storage.Open(storage.Options{
		Dir: o.Dir, FS: o.FS, Logger: o.Logger, ClusterID: o.ClusterID, Now: o.Now,
		CacheBytes: o.CacheBytes, MinFreeBytes: o.MinFreeBytes,
		BallastBytes: min(o.MinFreeBytes, 0), // none where room is not looked at
	})
	if err != nil {
		return nil, Errorf(ClassUnavailable, "open %s: %w", o.Dir, err)
	}
	e, err := start(ctx, o, store)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return e, nil
}

func start(ctx context.Context, o Options, store *storage.Store) (*Engine, error) {
	id := store.Identity()
	quorums, err := quorum.New([]quorum.Voter{{Node: quorum.NodeID(id.NodeID), Region: quorum.Region(o.Region)}}, 0, 0)
	if err != nil {
		return nil, Errorf(ClassInvalid, "quorums of a single node: %w", err)
	}
	clock, err := hlc.Open(store, o.Now, func() (uint64, error) { return replication.NewestTime(store) })
	if err != nil {
		return nil, Errorf(ClassCorrupt, "clock: %w", err)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	e := &Engine{
		opts: o, store: store, clock: clock, quorums: quorums, hub: newHub(), hot: newHot(), txns: newOpenTxns(),
		secrets: make(chan struct{}, secretChecksMax), started: o.Now(),
		stop: stop, done: make(chan struct{}), closing: make(chan struct{}),
	}
	e.replicator, err = replication.New(replication.Options{
		Store: store, Clock: e.clock, Self: consensus.NodeID(id.NodeID), Quorums: quorums, Cfg: 1,
		Observer: e, Logger: o.Logger, Loops: o.Loops, GroupIdle: o.GroupIdle, Failed: e.fail,
	})
	if err != nil {
		stop()
		return nil, Errorf(ClassUnavailable, "start replication: %w", err)
	}
	store.CollectKnowing(e.replicator.Carries)
	if err := e.announce(ctx); err != nil {
		stop()
		return nil, errors.Join(err, e.replicator.Close())
	}
	if e.metrics, err = newMetrics(e, o.Registry); err != nil {
		stop()
		return nil, errors.Join(err, e.replicator.Close())
	}
	e.background.Go(func() { e.sweep(background) })
	e.background.Go(func() { e.reapTxns(background) })
	e.background.Go(func() { e.waitForFailure(background) })
	e.replicator.ReadAhead() // last: whether a node starts does not rest on how fast its disk is read
	o.Logger.Info("node started", "cluster", id.ClusterID, "node", id.NodeID, "region", o.Region, "dir", o.Dir, "starts", id.Starts)
	return e, nil
}

// Close finishes what is under way, stops the node's goroutines and closes the directory.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		close(e.closing)
		e.stop()
		e.background.Wait()
		e.metrics.unregister()
		e.closeErr = errors.Join(e.replicator.Close(), e.store.Close())
		e.opts.Logger.Info("node stopped", "node", e.NodeID())
	})
	return e.closeErr
}

// Ready is nil while the node serves; otherwise it says why it does not.
func (e *Engine) Ready() error {
	if err := e.replicator.Err(); err != nil {
		return Errorf(ClassUnavailable, "the node has stopped: %w", err)
	}
	return nil
}

// Done is closed when the node has stopped for good because of its own disk; Ready says why.
func (e *Engine) Done() <-chan struct{} { return e.done }

// ClusterID names the cluster that the data directory belongs to.
func (e *Engine) ClusterID() string { return e.store.Identity().ClusterID }

// NodeID is this node's.
func (e *Engine) NodeID() uint64 { return e.store.Identity().NodeID }

// Changing implements replication.Observer.
func (e *Engine) Changing(group string, rest []byte, at uint64) {
	var whole [128]byte // most keys fit
	e.hot.drop(append(append(whole[:0], group...), rest...), at)
}

// Advanced implements replication.Observer.
func (e *Engine) Advanced(group string) { e.hub.advance(group) }

func (e *Engine) fail() {
	e.failOnce.Do(func() { close(e.done) })
}

// waitForFailure turns a failed disk into Done. It is owned by the engine.
func (e *Engine) waitForFailure(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-e.store.Failed():
		e.fail()
	}
}

// announce writes this node's row of the system table, when it is not what is stored.
func (e *Engine) announce(ctx context.Context) error {
	row := fmt.Sprintf("%s.nodes.%d", key.SystemGroup, e.NodeID())
	value, err := json.Marshal(map[string]any{"id": e.NodeID(), "region": e.opts.Region, "advertise": e.opts.Advertise})
	if err != nil {
		return fmt.Errorf("describe node: %w", err)
	}
	k, err := key.Parse([]byte(row))
	if err != nil {
		return fmt.Errorf("describe node: %w", err)
	}
	if stored, err := e.readSystem(k); err != nil || string(stored) == string(value) {
		return err
	}
	_, err = e.propose(ctx, key.SystemGroup, &command.Command{
		System: true, Mutations: []command.Mutation{{Kind: command.Put, Rest: k.Rest(), Value: value}},
	})
	if ClassOf(err) == ClassUnavailable && err != nil {
		// A full disk must not keep the node from serving what it has.
		e.opts.Logger.Warn("node row was not written", "error", err)
		return nil
	}
	return err
}

// readSystem reads a row of the system table, nil if there is none.
func (e *Engine) readSystem(k key.Key) ([]byte, error) {
	view, err := e.replicator.ReadView(k.Group())
	if err != nil {
		return nil, e.readError(err)
	}
	value, ok, err := e.store.GetAt(k.Group(), k.Rest(), view.At)
	if err != nil {
		return nil, e.readError(err)
	}
	defer closeQuietly(value)
	if !ok {
		return nil, nil
	}
	return value.Bytes()
}

// propose has a command decided and turns a refusal into an error.
func (e *Engine) propose(ctx context.Context, group string, c *command.Command) (command.Result, error) {
	t, err := e.submit(ctx, group, c, nil)
	if err != nil {
		return command.Result{}, err
	}
	return e.outcome(t.Wait(ctx))
}

// submit hands a command over, to be decided behind those of its group that were submitted before. up, unless it is nil, holds
// the value of its only mutation.
func (e *Engine) submit(ctx context.Context, group string, c *command.Command, up *Upload) (replication.Ticket, error) {
	if err := c.Validate(); err != nil {
		return replication.Ticket{}, commandError(err)
	}
	payload, free := up.encode(c)
	t, err := e.replicator.Submit(ctx, group, payload, free)
	if err != nil {
		return replication.Ticket{}, proposeError(err)
	}
	return t, nil
}

// outcome makes an error of a refusal.
func (e *Engine) outcome(result command.Result, err error) (command.Result, error) {
	if err != nil {
		return command.Result{}, proposeError(err)
	}
	switch result.Outcome {
	case command.Applied:
		return result, nil
	case command.Denied:
		return result, Errorf(ClassDenied, "%s", result.Text)
	case command.Conflict:
		conflict := Errorf(ClassConflict, "%s", result.Text)
		conflict.Found = result.Found
		return result, conflict
	default:
		return result, Errorf(ClassInvalid, "%s", result.Text)
	}
}

// commandError classifies what Validate found wrong with a command.
func commandError(err error) error {
	if e, ok := errors.AsType[*command.InvalidError](err); ok && e.TooLarge {
		return Errorf(ClassTooLarge, "%w", err)
	}
	return Errorf(ClassInvalid, "%w", err)
}

func proposeError(err error) error {
	switch {
	case errors.Is(err, replication.ErrUnavailable):
		return Errorf(ClassUnavailable, "%w", err)
	case errors.Is(err, replication.ErrTooLarge):
		return Errorf(ClassTooLarge, "%w", err)
	}
	return Errorf(ClassUnknown, "%w", err)
}

// readError classifies an error of reading storage, and stops the node over damage.
func (e *Engine) readError(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, storage.ErrCorrupt):
		e.replicator.FailIfDamaged(err)
		return Errorf(ClassCorrupt, "%w", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Errorf(ClassUnavailable, "read stopped: %w", err)
	}
	return Errorf(ClassUnavailable, "%w", err)
}

// closeQuietly closes what was only read from: storage reports what it found wrong by the reads themselves.
func closeQuietly(c interface{ Close() error }) {
	_ = c.Close() // see above
}
