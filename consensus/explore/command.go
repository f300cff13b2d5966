// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"errors"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// tuning lets nothing depend on sizes: memory holds what the bounds allow.
var tuning = func() consensus.Tuning {
	t := consensus.DefaultTuning()
	return t
}

// newCore makes the core of a node (index), which knows the configurations up to known.
func newCore(s *Setup, node int, rec consensus.Record, tail []consensus.Entry, known, retired int, minCfg uint64, log consensus.Log, f consensus.Fabric) (*consensus.Core, error) {
	t := tuning()
	return consensus.New(consensus.Options{
		Self: consensus.NodeID(node + 1), Configurations: s.Configurations[retired : known+1], MinCfg: minCfg, Home: s.Homes[consensus.NodeID(node+1)],
		Record: rec, Tail: tail, Log: log, Fabric: f, Tuning: &t,
	})
}

func (r *run) command(a action) bool {
	l := &r.local
	var err error
	switch a.kind {
	case campaign:
		err = l.core.Campaign(consensus.Global)
	case campaignLocal:
		err = l.core.Campaign(consensus.Local)
	case propose:
		_, _, err = l.core.Propose(1, consensus.Proposal{Payload: []byte{'a' + l.life}})
	case release:
		err = l.core.Release(consensus.NodeID(a.arg + 1))
	case readIndex:
		err = l.core.ReadIndex(uint64(a.arg))
	case askLease:
		l.core.HoldsLease()
	case stopSign:
		_, err = l.core.ProposeStopSign(1, r.x.setup.Configurations[l.known].Version)
	case configure:
		l.known = uint8(a.arg)
		err = l.core.Configure(r.x.setup.Configurations[a.arg])
	case seal:
		v := r.x.setup.Configurations[a.arg].Version + 1
		l.durable.minCfg, l.written.minCfg = v, v
		l.core.Seal(v)
	case retire:
		l.retired = uint8(a.arg) + 1
		err = l.core.Retire(r.x.setup.Configurations[a.arg].Version)
	case compact:
		l.core.Compact(l.core.Status().Last) // more than it may do
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, consensus.ErrInvalid), errors.Is(err, consensus.ErrNotOwner), errors.Is(err, consensus.ErrBusy),
		errors.Is(err, consensus.ErrNotVoter), errors.Is(err, consensus.ErrStopped), unknownConfiguration(err):
		return false
	}
	r.fail("%s: %w", kindNames[a.kind], err)
	return true
}

func unknownConfiguration(err error) bool { return errors.Is(err, consensus.ErrUnknownConfiguration) }

// stops reports whether a is a stop-sign that b may not follow.
func stops(a, b *consensus.Entry) bool {
	return a.Kind == consensus.StopSign && b.Ballot.Cfg < a.Next
}

// homeOf is the home of a ballot; one that is not given is all regions.
func homeOf(h quorum.Home, b consensus.Ballot, setup *Setup) quorum.Home {
	for i := range setup.Configurations {
		if c := &setup.Configurations[i]; h.IsZero() && c.Version == b.Cfg {
			return c.Quorums.All()
		}
	}
	return h
}

func toBatch(r *consensus.Ready) batch {
	b := batch{truncate: r.TruncateFrom, compact: r.CompactTo, entries: r.Entries, committed: r.Committed}
	if r.Record != nil {
		rec := *r.Record
		b.rec = &rec
	}
	if s := r.Snapshot; s != nil {
		b.snapshot, b.snapSlot, b.snapChain = true, s.Slot, s.Chain
	}
	for _, w := range r.Withdrawals {
		b.withdrawal = append(b.withdrawal, minEpoch{uint8(w.Node - 1), uint8(w.Epoch)})
	}
	return b
}
