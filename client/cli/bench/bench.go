// SPDX-License-Identifier: AGPL-3.0-only

// Package bench is a load generator for the native protocol.
//
// It shares the machine with the server it measures, so it is built to cost little: each connection is a small state
// machine (conn.go) that formats requests into, and takes replies out of, reused buffers. On Linux, without TLS, an event
// loop a worker drives many of them over epoll with one read and one write for each request (loop_linux.go); elsewhere a
// goroutine drives each (loop.go). Latencies go into HDR histograms. With a rate, they count from when a request was due,
// not from when it could be sent: what is called correcting for coordinated omission.
//
// Run owns all goroutines it starts and awaits them.
package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
)

// Options configure Run. The zero value of a field means its default.
type Options struct {
	cli.Target
	Connections int           // 1 to 20,000; default 64
	Depth       int           // requests in flight on each connection, 1 to 1,024; default 1
	Tagged      bool          // give each request an id, so that the server may run those of one connection at once
	Mix         string        // operations and weights, such as "put=50,get=50,scan=1"; default "get". See Operations
	Table       string        // default "bench"
	Tables      int           // spread the keys over this many tables, 1 to 10,000,000; default 1
	Keys        int           // 1 to 1,000,000,000; default 100,000
	Skew        string        // "uniform" (default), "zipf" or "zipf:1.1" (the exponent, above 1)
	ValueSize   int           // bytes, 1 to 128 MiB; default 100
	BlobSize    int           // bytes, 1 to 128 MiB; default 1 MiB
	ScanLimit   int           // rows a scan asks for; default 100
	Duration    time.Duration // default 10 s, unless Count is set
	Count       int64         // measured operations to do in all; 0: run for Duration
	WarmUp      time.Duration // not measured; default 1 s; negative: none
	Rate        float64       // operations a second in all; 0: as fast as answers come
	Prefill     bool          // write every key once before
	ServerPID   int           // whose CPU time to report; 0: ask the Unix socket; -1: none
	Workers     int           // event loops; default 1, which two cores shared with the server bear best
	Seed        uint64        // of keys and values; default 1
	JSON        bool          // print the result as one JSON object
	Quiet       bool          // no line of progress
}

// Operations are the names that Options.Mix takes, and what each sends.
var operations = [...]struct{ name, help string }{
	opGet:     {"get", "KEY GET of a random key"},
	opPut:     {"put", "KEY PUT of a random key"},
	opDel:     {"del", "KEY DEL of a random key"},
	opScan:    {"scan", "SCAN VALUES of --scan-limit rows after a random key"},
	opKeys:    {"keys", "SCAN of --scan-limit keys after a random key"},
	opCount:   {"count", "COUNT of a table"},
	opSample:  {"sample", "SAMPLE of 10 keys"},
	opBlobGet: {"blobget", "KEY BLOB GET of one of 16 blobs of --blob-size bytes"},
	opBlobPut: {"blobput", "KEY BLOB SET of one of 16 blobs of --blob-size bytes"},
}

// Help lists the operations of Options.Mix.
func Help() string {
	var b strings.Builder
	for _, o := range operations {
		fmt.Fprintf(&b, "%-8s %s\n", o.name, o.help)
	}
	b.WriteString("blob     blobget and blobput, half and half\n")
	return b.String()
}

type op uint8

const (
	opGet op = iota
	opPut
	opDel
	opScan
	opKeys
	opCount
	opSample
	opBlobGet
	opBlobPut
	opKinds // how many there are
)

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	setDefault(&o.Connections, 64)
	setDefault(&o.Depth, 1)
	setDefault(&o.Mix, "get")
	setDefault(&o.Table, "bench")
	setDefault(&o.Tables, 1)
	setDefault(&o.Keys, 100_000)
	setDefault(&o.Skew, "uniform")
	setDefault(&o.ValueSize, 100)
	setDefault(&o.BlobSize, 1<<20)
	setDefault(&o.ScanLimit, 100)
	if o.Count == 0 {
		setDefault(&o.Duration, 10*time.Second)
	}
	setDefault(&o.WarmUp, time.Second)
	setDefault(&o.Workers, 1)
	setDefault(&o.Seed, 1)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports everything that is wrong with o.
func (o *Options) Validate() error {
	var errs []error
	within := func(what string, n, least, most int) {
		if n < least || n > most {
			errs = append(errs, fmt.Errorf("%s %d is not within %d to %d", what, n, least, most))
		}
	}
	within("connections", o.Connections, 1, 20_000)
	within("depth", o.Depth, 1, 1024)
	within("tables", o.Tables, 1, 10_000_000)
	within("keys", o.Keys, 1, 1_000_000_000)
	within("value size", o.ValueSize, 1, client.ValueLenMax)
	within("blob size", o.BlobSize, 1, client.ValueLenMax)
	within("scan limit", o.ScanLimit, 1, 1_000_000_000)
	within("workers", o.Workers, 1, 64)
	if o.Rate < 0 || o.Duration < 0 || o.Count < 0 {
		errs = append(errs, errors.New("rate, duration and count cannot be negative"))
	}
	if o.Table == "" || len(o.Table) > 100 || strings.ContainsAny(o.Table, " .\t\r\n\x00") {
		errs = append(errs, fmt.Errorf("%q is no table's name", o.Table))
	}
	if _, err := parseMix(o.Mix); err != nil {
		errs = append(errs, err)
	}
	if _, err := parseSkew(o.Skew); err != nil {
		errs = append(errs, err)
	}
	if _, err := o.ClientOptions(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// parseMix reads `name[=weight],...`.
func parseMix(s string) (weights [opKinds]int, err error) {
	total := 0
	for part := range strings.SplitSeq(s, ",") {
		name, number, weighted := strings.Cut(strings.TrimSpace(part), "=")
		weight := 1
		if weighted {
			if weight, err = strconv.Atoi(number); err != nil || weight < 0 || weight > 1_000_000 {
				return weights, fmt.Errorf("mix: weight %q of %s is not within 0 to 1000000", number, name)
			}
		}
		total += weight
		if name == "blob" {
			weights[opBlobGet] += weight
			weights[opBlobPut] += weight
			continue
		}
		known := false
		for kind := range operations {
			if operations[kind].name == name {
				weights[kind] += weight
				known = true
			}
		}
		if !known {
			return weights, fmt.Errorf("mix: no operation is called %q", name)
		}
	}
	if total == 0 {
		return weights, errors.New("mix: every weight is 0")
	}
	return weights, nil
}

// parseSkew returns the exponent of a zipf distribution, 0 for a uniform one.
func parseSkew(s string) (float64, error) {
	name, number, given := strings.Cut(s, ":")
	switch {
	case name == "uniform" && !given:
		return 0, nil
	case name == "zipf" && !given:
		return 1.1, nil
	case name == "zipf":
		if z, err := strconv.ParseFloat(number, 64); err == nil && z > 1 && z <= 10 {
			return z, nil
		}
	}
	return 0, fmt.Errorf("skew %q is neither uniform nor zipf nor zipf:EXPONENT with an exponent above 1", s)
}

// Run generates the load and prints the figures. It returns an exit code of package cli: ExitError when the server answered
// errors, ExitConnect when connections failed.
func Run(ctx context.Context, o Options, s cli.Streams) int {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		_, _ = fmt.Fprintln(s.Err, err) // there is nowhere else to say it
		return cli.ExitUsage
	}
	r := &runner{o: o, s: s}
	result, err := r.run(ctx)
	if err != nil {
		text := err.Error()
		if r.dialling {
			text = o.Explain(err)
		}
		_, _ = fmt.Fprintln(s.Err, text) // as above
		return cli.ExitConnect
	}
	if err := result.print(s.Out, o.JSON); err != nil {
		_, _ = fmt.Fprintln(s.Err, err) // as above
		return cli.ExitError
	}
	switch {
	case result.Lost > 0:
		return cli.ExitConnect
	case len(result.Errors) > 0:
		return cli.ExitError
	}
	return cli.ExitOK
}
