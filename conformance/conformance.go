// SPDX-License-Identifier: AGPL-3.0-only

// Package conformance judges a running Atlas endpoint from outside: it speaks the native protocol over raw connections,
// compares answers byte for byte with transcripts, sends hostile input, and checks histories of concurrent operations.
//
// The cases are data where they can be: transcripts in testdata/transcripts, tables of hostile input in testdata/hostile,
// the permission matrix in testdata/permissions. The suite uses its own small line client and nothing of package client,
// so that a fault of the one is seen by the other. It owns every goroutine that it starts and waits for it before Run
// returns. It writes only to tables whose names begin with a prefix of the run, and leaves them behind.
//
// The tests of the package run the same cases against a node that they start, and crash such nodes under load: by
// SIGKILL of the real binary, and by loss of power on a file system in memory.
package conformance

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

//go:embed testdata/transcripts testdata/hostile testdata/permissions
var testdata embed.FS

// Options says what to judge and how.
type Options struct {
	// Network is "unix" or "tcp"; empty means "unix".
	Network string
	// Address is the socket's path or host:port.
	Address string
	// TLS, when set, is spoken over Network "tcp"; it names the server and whom to trust.
	TLS *tls.Config
	// DialTimeout bounds connecting; 0 is 30 s.
	DialTimeout time.Duration
	// Principal and Secret are proven on each connection that needs it; empty proves nothing, which is enough where the
	// endpoint trusts its clients. The principal must not be an admin, or grants do not bind it.
	Principal, Secret string
	// Out receives progress and the report; nil discards it.
	Out io.Writer
	// Filter is a regular expression over the names of cases; empty runs all.
	Filter string
	// Verbose prints each case as it passes, not only those that fail.
	Verbose bool
	// Fresh says that the endpoint was just started and holds no data, and that its node is the readme's: id 1, region
	// local, advertised as localhost:4444. Some transcripts need that.
	Fresh bool
	// Long runs more operations where a case takes a number of them.
	Long bool
	// Seed seeds every random choice; 0 draws one. It is the first line printed.
	Seed uint64
	// Artifacts is a directory for what helps to understand a failure, such as drawn histories; empty keeps nothing.
	Artifacts string
}

// Report counts what was tried.
type Report struct {
	// Cases is the number of cases run; Failed of them failed. Skipped did not apply to the endpoint.
	Cases, Failed, Skipped int
	// BadInputs is the number of designed bad inputs tried.
	BadInputs int
	// Operations is the number of operations that a checker of histories looked at.
	Operations int
	// Permissions is the number of cells of the permission matrix tried.
	Permissions int
}

func (r Report) String() string {
	return fmt.Sprintf("cases: %d run, %d failed, %d skipped\nbad inputs tried: %d\noperations checked: %d\npermission cells: %d",
		r.Cases, r.Failed, r.Skipped, r.BadInputs, r.Operations, r.Permissions)
}

// ErrFailed is returned by Run, wrapped, when a case failed.
var ErrFailed = errors.New("conformance cases failed")

// env is one run against one endpoint.
type env struct {
	Options
	network, address string
	prefix           string        // of this run's table names
	trusted          bool          // the endpoint lets this client assume any principal
	patience         time.Duration // replaces the usual one when set
	tables           atomic.Int64
	badInputs        atomic.Int64
	operations       atomic.Int64
	permissions      atomic.Int64
}

// testCase is one thing to judge.
type testCase struct {
	name string
	run  func(*env, context.Context) error
}

// cases lists everything in the order in which it runs: what needs fresh data first, hostile input before the long ones.
func cases() ([]testCase, error) {
	var all []testCase
	for _, kind := range []struct {
		dir string
		run func(*env, context.Context, string) error
	}{
		{"transcripts", (*env).runTranscript},
		{"permissions", (*env).runPermissions},
		{"hostile", (*env).runHostile},
	} {
		files, err := fs.ReadDir(testdata, path.Join("testdata", kind.dir))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			src, err := fs.ReadFile(testdata, path.Join("testdata", kind.dir, f.Name()))
			if err != nil {
				return nil, err
			}
			all = append(all, testCase{
				name: kind.dir + "/" + strings.TrimSuffix(f.Name(), path.Ext(f.Name())),
				run:  func(e *env, ctx context.Context) error { return kind.run(e, ctx, string(src)) },
			})
		}
	}
	return append(all, programmed...), nil
}

// programmed are the cases that no data file can state.
var programmed = []testCase{
	{"connections/tagged answers never tear", (*env).taggedNeverTear},
	{"connections/pipelined answers keep their order", (*env).pipelined},
	{"connections/tagged commands beyond the limit wait", (*env).taggedBeyondLimit},
	{"connections/a connection's end loses nothing answered", (*env).endOfConnection},
	{"connections/slow, silent and idle clients hurt nobody", (*env).slowClients},
	{"connections/a claimed length takes no memory", (*env).claimedLength},
	{"connections/a storm of connections", (*env).storm},
	{"connections/a watcher that does not read", (*env).deafWatcher},
	{"connections/watches up to their limit", (*env).manyWatches},
	{"values/a model of one client", (*env).oneClient},
	{"values/transactions up to their limit", (*env).largeTransaction},
	{"values/every length around the limits", (*env).valueLengths},
	{"values/blobs of any bytes", (*env).anyBytes},
	{"permissions/revoked while in use", (*env).revokedInUse},
	{"permissions/secrets are proven", (*env).secretsAreProven},
	{"time/expiry", (*env).expiry},
	{"time/write-once ends", (*env).writeOnceEnds},
	{"time/history is whole", (*env).historyIsWhole},
	{"history/single keys", (*env).singleKeys},
	{"history/one snapshot a scan", (*env).scanSnapshots},
	{"history/transactions keep a total", (*env).bank},
	{"history/no write skew", (*env).writeSkew},
	{"history/watches", (*env).watches},
	{"history/pages join", (*env).pages},
}

// Run judges the endpoint and returns what was tried. The error is ErrFailed when a case failed, else says why the run
// could not be made.
func Run(ctx context.Context, o Options) (Report, error) {
	var report Report
	e, err := newEnv(ctx, o)
	if err != nil {
		return report, err
	}
	filter, err := regexp.Compile(o.Filter)
	if err != nil {
		return report, fmt.Errorf("filter: %w", err)
	}
	all, err := cases()
	if err != nil {
		return report, err
	}
	e.printf("seed=%d endpoint=%s:%s\n", e.Seed, e.network, e.address)
	for _, c := range all {
		if !filter.MatchString(c.name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return report, err
		}
		start := time.Now()
		err := c.run(e, ctx)
		var skip errSkip
		switch took := time.Since(start).Round(time.Millisecond); {
		case errors.As(err, &skip):
			report.Skipped++
			e.printf("skip  %s: %s\n", c.name, string(skip))
		case err != nil:
			report.Cases++
			report.Failed++
			e.printf("FAIL  %s (%v): %v\n", c.name, took, err)
		default:
			report.Cases++
			if o.Verbose {
				e.printf("ok    %s (%v)\n", c.name, took)
			}
		}
	}
	e.count(&report)
	e.printf("%v\n", report)
	if report.Failed > 0 {
		return report, fmt.Errorf("%w: %d of %d", ErrFailed, report.Failed, report.Cases)
	}
	return report, nil
}

func (e *env) count(r *Report) {
	r.BadInputs = int(e.badInputs.Load())
	r.Operations = int(e.operations.Load())
	r.Permissions = int(e.permissions.Load())
}

func (e *env) printf(format string, args ...any) {
	// A report that cannot be printed is still returned.
	_, _ = fmt.Fprintf(e.Out, format, args...) // the caller's writer is the caller's concern
}

// newEnv finds out what the endpoint is to this client.
func newEnv(ctx context.Context, o Options) (*env, error) {
	if o.Network == "" {
		o.Network = "unix"
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	if o.Seed == 0 {
		for _, b := range random {
			o.Seed = o.Seed<<8 | uint64(b)
		}
	}
	e := &env{Options: o, network: o.Network, address: o.Address, prefix: fmt.Sprintf("c%x", random[:4])}
	c, err := e.session(ctx)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s:%s: %w", o.Network, o.Address, err)
	}
	r, err := c.do("PRINCIPAL ASSUME conformance")
	if err = errors.Join(err, c.close()); err != nil {
		return nil, fmt.Errorf("endpoint %s:%s: %w", o.Network, o.Address, err)
	}
	e.trusted = r.fail == ""
	return e, nil
}

// freshTable is a prefix of table names that nothing else uses.
func (e *env) freshTable() string {
	return fmt.Sprintf("%sn%d", e.prefix, e.tables.Add(1))
}

// requires skips the case where the endpoint is not what it needs.
func (e *env) requires(what string) error {
	switch what {
	case "fresh":
		if !e.Fresh {
			return errSkip("needs a node without data")
		}
	case "trusted":
		if !e.trusted {
			return errSkip("needs a client that may assume any principal")
		}
	default:
		return fmt.Errorf("nothing is called %q", what)
	}
	return nil
}

// scaled is a number of operations: n, or ten times as many in a long run.
func (e *env) scaled(n int) int {
	if e.Long {
		return 10 * n
	}
	return n
}
