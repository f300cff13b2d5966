// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
)

const (
	// expireBatchMax bounds the keys that one command expires, and expireRoundMax those of one round of the sweeper.
	expireBatchMax = 256
	expireRoundMax = 4096
	// collectBudget bounds the change records that one call of the collector looks at.
	collectBudget = 4096
	// collectRounds bounds the rounds of the collector within the time that history is kept.
	collectRounds = 20
	// sweepShare is the part of the time that the sweeper may be at work when there is always more to do.
	sweepShare = 4
)

// sweep is the node's housekeeping: it deletes what has expired, through the log like any other delete, and removes versions that no read
// can reach any more. It is owned by the engine and ends with ctx.
func (e *Engine) sweep(ctx context.Context) {
	timer := time.NewTimer(e.opts.SweepInterval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		more, err := e.expire(ctx)
		err = errors.Join(err, e.collect(ctx))
		if ctx.Err() == nil && e.Ready() == nil {
			e.metrics.swept(err)
		}
		timer.Reset(e.pause(more && err == nil, time.Since(began)))
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pause is how long the sweeper rests after a round that took so long.
func (e *Engine) pause(more bool, took time.Duration) time.Duration {
	rest := (sweepShare - 1) * took
	if more {
		return rest
	}
	return max(e.opts.SweepInterval, rest)
}

// expire proposes the deletion of keys whose time to live has passed, and says whether there are more than a round takes. Readers
// pass over them already; what this adds is the event for watchers, and the space.
func (e *Engine) expire(ctx context.Context) (more bool, err error) {
	due, more, err := e.store.Expired(e.clock.Wall(), expireRoundMax)
	if err != nil {
		return false, err
	}
	byGroup := make(map[string][]storage.ExpiredKey)
	var order []string
	for _, k := range due {
		if byGroup[k.Group] == nil {
			order = append(order, k.Group)
		}
		byGroup[k.Group] = append(byGroup[k.Group], k)
	}
	var errs []error // a group that fails does not keep the others from expiring
	for _, group := range order {
		for keys := byGroup[group]; len(keys) > 0; {
			n := min(len(keys), expireBatchMax)
			if err := e.expireKeys(ctx, group, keys[:n]); err != nil {
				errs = append(errs, err)
				break
			}
			keys = keys[n:]
		}
		if ctx.Err() != nil {
			break
		}
	}
	return more, errors.Join(errs...)
}

// expireKeys expires keys of one group. The versions were the newest of their keys when they were listed; that they still are is
// judged when the command is applied. Their entries in the index go once they are not, with the next listing.
func (e *Engine) expireKeys(ctx context.Context, group string, keys []storage.ExpiredKey) error {
	c := &command.Command{System: true}
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		if !seen[string(k.Rest)] { // a key may be listed at two versions when it was written in between
			seen[string(k.Rest)] = true
			c.Mutations = append(c.Mutations, command.Mutation{Kind: command.Expire, Rest: k.Rest, Version: k.Time})
		}
	}
	result, err := e.propose(ctx, group, c)
	if err != nil {
		return err
	}
	e.metrics.expired(result.Changes)
	return nil
}

// collecting is where the collection of old versions stands. The sweeper alone touches it.
type collecting struct {
	due      uint64 // no round begins while the floor is below
	began    uint64 // the time at which the round at hand began
	earliest uint64 // the oldest change that the round passed over; 0 for none
}

// collect removes old versions and changes of all groups that have some behind the retention. A round looks at every group that was
// written within the retention, so it is begun only when something has become due, and not more often than collectRounds
// times in the time that history is kept.
func (e *Engine) collect(ctx context.Context) error {
	now := e.clock.Wall()
	// A transaction's reads are checked against the changes since its snapshot, so those are kept for as long as one may be.
	keep := uint64(max(e.opts.Retention, command.SnapshotAgeMax) + collectSlack)
	at := &e.collecting
	if !e.replicator.IsAhead() {
		return nil // until then every small group would have to be walked
	}
	if now <= keep || now-keep < at.due {
		return nil
	}
	// While nothing is written times to read at stand still, so the clock is moved on; on a full disk it may not be.
	_, _ = e.clock.Now() // see above
	now = e.clock.Read()
	if now <= keep || now-keep < at.due {
		return nil
	}
	floor := now - keep
	if at.began == 0 {
		at.began, at.earliest = now, 0
	}
	restore := func() {}
	if at.due == 0 { // soon after the start: what a walk reads that finds nothing must not be what the cache is filled with
		restore = sync.OnceFunc(e.store.LimitCache())
	}
	defer func() { restore() }()
	for more := true; more; {
		began := time.Now()
		var stats storage.CollectStats
		var err error
		if stats, more, err = e.store.CollectBefore(ctx, floor, collectBudget); err != nil {
			return err
		}
		if stats.Changes+stats.Versions > 0 {
			restore()
		}
		if more { // much may have become old at once, as while the node was down
			pause(ctx, time.Since(began))
		}
		e.metrics.collected(stats)
		if stats.Earliest != 0 && (at.earliest == 0 || stats.Earliest < at.earliest) {
			at.earliest = stats.Earliest
		}
	}
	// What was written since the round began is later than its beginning. That a round comes too late does no harm.
	at.due = at.began
	if at.earliest != 0 {
		at.due = min(at.due, at.earliest)
	}
	at.due = max(at.due, floor+keep/collectRounds)
	at.began = 0
	return nil
}
