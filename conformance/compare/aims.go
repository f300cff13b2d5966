// SPDX-License-Identifier: AGPL-3.0-only

package main

// aimConns is the number of connections at which the aims are set.
const aimConns = 64

// aim is a figure that was set before the work began. A must that is missed is a failure; the others say how far it is.
type aim struct {
	Name  string `json:"name"`
	Must  bool   `json:"must"`
	Limit float64
	// Below says that the figure must not exceed Limit; else it must reach it.
	Below bool   `json:"below,omitempty"`
	Unit  string `json:"unit"`
	// Got is nil when it was not measured.
	Got *spread `json:"got"`
}

func (a *aim) reached() bool {
	switch {
	case a.Got == nil:
		return false
	case a.Below:
		return a.Got.Median <= a.Limit
	}
	return a.Got.Median >= a.Limit
}

// mark is the last column of the table of aims.
func (a *aim) mark() string {
	switch {
	case a.Got == nil:
		return "not measured"
	case a.reached():
		return "pass"
	case a.Must:
		return "FAIL"
	}
	return "short"
}

// failed tells whether a must was measured and missed.
func (a *aim) failed() bool { return a.mark() == "FAIL" }

// speedAims judges the cells.
func speedAims(cells []*cell, blobs []int) []aim {
	put, get := load{Kind: kindPut, Depth: 1}, load{Kind: kindGet, Depth: 1}
	against := func(l load, peer string) *spread {
		c := find(cells, l, aimConns)
		if c == nil || c.of(atlasName) == nil || c.of(peer) == nil {
			return nil
		}
		r := ratioOf(c.of(atlasName), c.of(peer))
		return &r
	}
	own := func(l load, conns int, figure func(*sample) float64) *spread {
		c := find(cells, l, conns)
		if c == nil || c.of(atlasName) == nil {
			return nil
		}
		s := spreadBy(c.of(atlasName), figure)
		return &s
	}
	piped := func(conns int) *spread {
		deep, flat := find(cells, load{Kind: kindGet, Depth: pipelineDepth}, conns), find(cells, get, conns)
		if deep == nil || flat == nil || deep.of(atlasName) == nil {
			return nil
		}
		r := ratioOf(deep.of(atlasName), flat.of(atlasName))
		return &r
	}
	aims := []aim{
		{Name: "PUT against raw Pebble, 64 connections", Must: true, Limit: 0.3, Unit: "x", Got: against(put, pebbleName)},
		{Name: "PUT against etcd put, 64 connections", Must: true, Limit: 3, Unit: "x", Got: against(put, etcdName)},
		{Name: "PUT against Redis SET, 64 connections", Must: true, Limit: 0.6, Unit: "x", Got: against(put, redisName)},
		{Name: "PUT level with Redis SET, 64 connections", Limit: 1, Unit: "x", Got: against(put, redisName)},
		{Name: "GET against etcd range, 64 connections", Must: true, Limit: 5, Unit: "x", Got: against(get, etcdName)},
		{Name: "GET against Redis GET, 64 connections", Must: true, Limit: 0.7, Unit: "x", Got: against(get, redisName)},
		{Name: "GET level with Redis GET, 64 connections", Limit: 1, Unit: "x", Got: against(get, redisName)},
		{Name: "server CPU of a PUT, 64 connections", Must: true, Limit: 40, Below: true, Unit: "us", Got: own(put, aimConns, (*sample).cpuMicros)},
		{Name: "server CPU of a GET, 64 connections", Must: true, Limit: 15, Below: true, Unit: "us", Got: own(get, aimConns, (*sample).cpuMicros)},
		{Name: "GET at depth 16 against depth 1, 64 connections", Must: true, Limit: 3, Unit: "x", Got: piped(aimConns)},
		{Name: "SCAN VALUES", Must: true, Limit: 500_000, Unit: "rows/s", Got: own(load{Kind: kindScan}, 1, (*sample).rate)},
	}
	for _, size := range blobs {
		l := load{Kind: kindBlob, Size: size}
		got := own(l, 1, func(s *sample) float64 { return s.rate() / 1e6 })
		aims = append(aims, aim{Name: "KEY BLOB GET of " + sizeText(size), Must: true, Limit: 500, Unit: "MB/s", Got: got})
	}
	return aims
}
