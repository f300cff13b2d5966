// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Names of the peers, in the order of the tables.
const (
	atlasName  = "atlas"
	redisName  = "redis"
	etcdName   = "etcd"
	pebbleName = "pebble"
)

// cell is one load at one number of connections, for every peer that can do it.
type cell struct {
	load  load
	conns int
	peers []string
	// samples[i][r] is what peers[i] gave in round r.
	samples [][]sample
}

// speedOptions say what the speed mode measures.
type speedOptions struct {
	sections []string // of sectionNames
	conns    []int
	peers    []string
	rounds   int
	slot     time.Duration
	blobs    []int
	profile  string // directory; empty: none
}

// sectionNames are what -only chooses from.
var sectionNames = []string{"put", "get", "pipeline", "scan", "blob"}

// pipelineDepth is how many requests a pipelining connection sends at once.
const pipelineDepth = 16

// warmShare is how long a slot warms up, as a share of its measured time.
const warmShare = 0.2

// plan lays out the cells. Those that are compared with each other stand side by side, so that the same noise hits both.
func (o *speedOptions) plan() []*cell {
	var cells []*cell
	add := func(l load, conns int, peers ...string) {
		peers = slices.DeleteFunc(peers, func(p string) bool { return !slices.Contains(o.peers, p) })
		if len(peers) > 0 {
			cells = append(cells, &cell{load: l, conns: conns, peers: peers, samples: make([][]sample, len(peers))})
		}
	}
	has := func(section string) bool { return slices.Contains(o.sections, section) }
	for _, n := range o.conns {
		if has("put") {
			add(load{Kind: kindPut, Depth: 1}, n, atlasName, redisName, etcdName, pebbleName)
		}
	}
	for _, n := range o.conns {
		piped := has("pipeline") && (n == 1 || n == aimConns)
		switch {
		case has("get"):
			add(load{Kind: kindGet, Depth: 1}, n, atlasName, redisName, etcdName)
		case piped:
			add(load{Kind: kindGet, Depth: 1}, n, atlasName, redisName)
		}
		if piped {
			add(load{Kind: kindGet, Depth: pipelineDepth}, n, atlasName, redisName)
		}
	}
	if has("scan") {
		add(load{Kind: kindScan}, 1, atlasName)
	}
	if has("blob") {
		for _, size := range o.blobs {
			add(load{Kind: kindBlob, Size: size}, 1, atlasName, redisName)
		}
	}
	return cells
}

// speed runs the mode and returns the cells with their samples.
func (o *speedOptions) run(ctx context.Context, env *environment, say func(string, ...any)) (cells []*cell, err error) {
	cells = o.plan()
	peers := map[string]peer{}
	defer func() {
		for _, name := range o.peers {
			if p := peers[name]; p != nil {
				err = errors.Join(err, p.stop())
			}
		}
	}()
	for _, name := range o.peers {
		if !slices.ContainsFunc(cells, func(c *cell) bool { return slices.Contains(c.peers, name) }) {
			continue
		}
		p, err := o.startPeer(ctx, env, name)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
		peers[name] = p
		began := time.Now()
		if err := o.prepare(ctx, p, name, cells); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		say("%s holds %d keys after %v", name, env.keys, time.Since(began).Round(time.Millisecond))
	}
	began := time.Now()
	for r := range o.rounds {
		for _, c := range cells {
			if err := o.round(ctx, c, r, peers); err != nil {
				return nil, err
			}
		}
		say("round %d of %d done after %v", r+1, o.rounds, time.Since(began).Round(time.Second))
	}
	if n, ok := peers[atlasName].(*node); ok && o.profile != "" {
		return cells, o.profiles(ctx, n, cells, say)
	}
	return cells, nil
}

func (o *speedOptions) startPeer(ctx context.Context, env *environment, name string) (peer, error) {
	switch name {
	case atlasName:
		return startAtlas(ctx, env, o.profile != "")
	case redisName:
		return startRedis(ctx, env)
	case etcdName:
		return startEtcd(ctx, env)
	}
	return startPebble(ctx, env)
}

// prepare writes what the cells read.
func (o *speedOptions) prepare(ctx context.Context, p peer, name string, cells []*cell) error {
	if err := p.fill(ctx); err != nil {
		return err
	}
	for _, c := range cells {
		if c.load.Kind == kindBlob && slices.Contains(c.peers, name) {
			if err := p.fillBlob(c.load.Size); err != nil {
				return err
			}
		}
	}
	return nil
}

// round gives each peer of a cell one slot. Who begins changes from round to round, as what one leaves to be done by its
// disk or its background work hits the next.
func (o *speedOptions) round(ctx context.Context, c *cell, r int, peers map[string]peer) error {
	for i := range c.peers {
		i = (i + r) % len(c.peers)
		s, err := peers[c.peers[i]].measure(ctx, c.load, o.slotFor(c))
		if err != nil {
			return fmt.Errorf("%s, %s, %d connections: %w", c.peers[i], c.load.Kind, c.conns, err)
		}
		c.samples[i] = append(c.samples[i], s)
	}
	return nil
}

func (o *speedOptions) slotFor(c *cell) slot {
	return slot{Conns: c.conns, Warm: time.Duration(warmShare * float64(o.slot)), Dur: o.slot}
}

// profiles runs each load again after the measurement, as profiling slows it.
func (o *speedOptions) profiles(ctx context.Context, n *node, cells []*cell, say func(string, ...any)) error {
	for _, c := range cells {
		if !slices.Contains(c.peers, atlasName) || (c.conns != aimConns && c.conns != 1) {
			continue
		}
		err := n.profileUnder(ctx, o.profile, fmt.Sprintf("%s-%d", c.load, c.conns), say, func(dur time.Duration) error {
			_, err := n.measure(ctx, c.load, slot{Conns: c.conns, Dur: dur})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// String names the load in file names and tables.
func (l load) String() string {
	switch {
	case l.Kind == kindBlob:
		return fmt.Sprintf("blob%dMiB", l.Size>>20)
	case l.Depth > 1:
		return fmt.Sprintf("%s-depth%d", l.Kind, l.Depth)
	}
	return string(l.Kind)
}

// of returns the samples of a peer in a cell; nil when it was not measured.
func (c *cell) of(name string) []sample {
	if i := slices.Index(c.peers, name); i >= 0 {
		return c.samples[i]
	}
	return nil
}

// find returns the cell of a load; nil when it was not measured.
func find(cells []*cell, l load, conns int) *cell {
	if i := slices.IndexFunc(cells, func(c *cell) bool { return c.load == l && c.conns == conns }); i >= 0 {
		return cells[i]
	}
	return nil
}
