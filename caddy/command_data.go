// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/cli/bench"
	"github.com/atlas-edge/atlas/client/cli/transfer"
	"github.com/atlas-edge/atlas/conformance"
)

func benchCommand() *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use:   "bench <socket>",
		Short: "Generates load and measures it",
		Long: `Generates load on a node and prints operations a second, latency percentiles and the server's CPU time for each
operation. It writes to tables named after --table.

Operations of --mix:
` + indent(bench.Help()),
		Example: `  atlasdb atlas bench /tmp/atlas2/socket --mix put=50,get=50 --connections 64
  atlasdb atlas bench /tmp/atlas2/socket --mix get --depth 16 --prefill`,
		Args: exactly("a socket"),
	}
	targetFlags(cmd, &o.Target)
	f := cmd.Flags()
	f.IntVarP(&o.Connections, "connections", "c", 64, "connections")
	f.IntVar(&o.Depth, "depth", 1, "requests in flight on each connection")
	f.BoolVar(&o.Tagged, "tagged", false, "give each request an id, so that those of one connection may run at once")
	f.StringVar(&o.Mix, "mix", "get", "operations with `weights`, such as put=50,get=50")
	f.StringVar(&o.Table, "table", "bench", "`name` of the table")
	f.IntVar(&o.Tables, "tables", 1, "spread the keys over this many tables")
	f.IntVar(&o.Keys, "keys", 100_000, "number of keys")
	f.StringVar(&o.Skew, "skew", "uniform", "how keys are chosen: uniform, zipf or zipf:`S`")
	f.IntVar(&o.ValueSize, "value-size", 100, "`bytes` of a value")
	f.IntVar(&o.BlobSize, "blob-size", 1<<20, "`bytes` of a blob")
	f.IntVar(&o.ScanLimit, "scan-limit", 100, "rows that a scan asks for")
	f.DurationVarP(&o.Duration, "duration", "t", 10*time.Second, "how long to measure, unless --count is given")
	f.Int64VarP(&o.Count, "count", "n", 0, "operations to do in all")
	f.DurationVar(&o.WarmUp, "warm-up", time.Second, "how long to run before measuring")
	f.Float64Var(&o.Rate, "rate", 0, "operations a second in all; 0: as fast as answers come")
	f.BoolVar(&o.Prefill, "prefill", false, "write every key once before")
	f.IntVar(&o.ServerPID, "server-pid", 0, "`process` whose CPU time to report; 0: ask the socket; -1: none")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of keys and values")
	f.BoolVar(&o.JSON, "json", false, "print the result as one JSON object")
	// To bench, 0 means its default; who gives it as a number of something meant something else.
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, name := range []string{"connections", "depth", "tables", "keys", "value-size", "blob-size", "scan-limit", "seed"} {
			if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "0" {
				return usageError(cmd, "--%s 0: want at least 1", name)
			}
		}
		if o.Duration == 0 && o.Count == 0 {
			return usageError(cmd, "--duration 0s: want more than 0, or --count")
		}
		if o.WarmUp < 0 {
			return usageError(cmd, "--warm-up %v: want at least 0s", o.WarmUp)
		}
		o.WarmUp = noWarmUp(o.WarmUp)
		return nil
	}
	program(cmd, func(ctx context.Context, args []string) int {
		return target(cmd, &o.Target, args[0], func() int { return bench.Run(ctx, o, cli.OSStreams()) })
	})
	return cmd
}

// noWarmUp is what bench wants for none at all: 0 is its default.
func noWarmUp(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// indent sets the lines of a help text apart from what is around.
func indent(lines string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(lines, "\n"), "\n", "\n  ")
}

func exportCommand() *cobra.Command {
	var o transfer.ExportOptions
	cmd := &cobra.Command{
		Use:   "export <socket> [<table>...]",
		Short: "Writes tables to a file",
		Long: `Writes tables, or keys with a prefix such as users.al, to a file that import reads. Without a table, all but the
system's. Each is one snapshot, unless --page-rows is given. A name that no key begins with is an error.

The file is FILE.partial until it is whole; only then it takes its name, and with --force the place of what was there. An
interrupted export leaves FILE.partial, and goes on with --resume, at the same node only.

The file holds what the principal may read: keys and values, and when a value expires (TTL) and until when it is write-once
(WORM). It also holds the grants on these tables and their keys, as far as the principal may change them: all of them if it
is an admin (--principal admin). It does not hold versions, and principals with their secrets. The grants on a table without
a row, whose name holds a /, are only there when the table is named.

` + exitStatuses,
		Example: `  atlasdb atlas export /tmp/atlas2/socket users orders --output backup.atlas`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd, "want a socket")
			}
			return nil
		},
	}
	targetFlags(cmd, &o.Target)
	f := cmd.Flags()
	f.StringVarP(&o.Path, "output", "o", "-", "`file` to write; - is standard output")
	f.BoolVar(&o.Resume, "resume", false, "go on with the file of an interrupted export")
	f.BoolVar(&o.Force, "force", false, "replace an existing file, once the new one is whole")
	f.IntVar(&o.PageRows, "page-rows", 0, "read this many rows at a time, each page a snapshot of its own; 0: one snapshot")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "show no progress")
	_ = cmd.MarkFlagFilename("output") // the flag exists
	cmd.MarkFlagsMutuallyExclusive("resume", "force")
	program(cmd, func(ctx context.Context, args []string) int {
		o.Prefixes = args[1:]
		return target(cmd, &o.Target, args[0], func() int { return transfer.Export(ctx, o, cli.OSStreams()) })
	})
	return cmd
}

func importCommand() *cobra.Command {
	var o transfer.ImportOptions
	cmd := &cobra.Command{
		Use:   "import <socket> [<file>]",
		Short: "Reads a file that export wrote into tables, or checks it",
		Long: `Reads a file that export wrote, or standard input, and stores its rows. An interrupted import goes on with --resume,
into the same node only: one whose data was removed, or whose address was changed, is another one.

What has expired since the export is left out. What was granted is granted again, before the rows are written, beside what is
granted already; that takes an admin (--principal admin), or --no-grants. See export --help for what the file does not hold.

` + exitStatuses,
		Example: `  atlasdb atlas import /tmp/atlas2/socket backup.atlas
  atlasdb atlas import /tmp/atlas2/socket backup.atlas --verify
  atlasdb atlas import --check backup.atlas`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 || len(args) < 1 && !o.CheckOnly {
				return usageError(cmd, "want a socket and at most one file, found %d arguments", len(args))
			}
			return nil
		},
	}
	targetFlags(cmd, &o.Target)
	f := cmd.Flags()
	f.StringVar(&o.StatePath, "state", "", "`file` that keeps how far the import has come (default: FILE.import-state)")
	f.BoolVar(&o.Resume, "resume", false, "go on where an interrupted import stopped")
	f.BoolVar(&o.IfAbsent, "if-absent", false, "leave keys that exist as they are")
	f.BoolVar(&o.NoGrants, "no-grants", false, "leave out what was granted")
	f.BoolVar(&o.Verify, "verify", false, "write nothing: compare the file with what the node holds")
	f.BoolVar(&o.CheckOnly, "check", false, "ask no node, and want no socket: read the file and check its checksums")
	f.IntVar(&o.InFlight, "in-flight", 256, "writes under way at once")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "show no progress")
	cmd.MarkFlagsMutuallyExclusive("verify", "check", "resume")
	program(cmd, func(ctx context.Context, args []string) int {
		socket := ""
		if !o.CheckOnly || len(args) == 2 || len(args) == 1 && isSocket(args[0]) {
			socket, args = args[0], args[1:]
		}
		if len(args) == 1 {
			o.Path = args[0]
		}
		return target(cmd, &o.Target, socket, func() int { return transfer.Import(ctx, o, cli.OSStreams()) })
	})
	return cmd
}

// isSocket tells whether an argument cannot be meant as a file to read.
func isSocket(arg string) bool {
	info, err := os.Stat(arg)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

func conformanceCommand() *cobra.Command {
	var o conformance.Options
	var t cli.Target
	cmd := &cobra.Command{
		Use:   "conformance <socket>",
		Short: "Judges a running node by the protocol's document",
		Long: `Runs the black-box suite against a node: transcripts, hostile input, concurrency. It writes only to tables whose names
begin with the run's own prefix. Where the node does not trust its clients, give a principal with its secret; it must not be
an admin, or grants do not bind it.`,
		Example: `  atlasdb atlas conformance /tmp/atlas2/socket --run transcript
  atlasdb atlas conformance tls://db.example:4445 --principal tester --secret-file tester.secret`,
		Args: exactly("a socket"),
	}
	targetFlags(cmd, &t)
	f := cmd.Flags()
	f.StringVar(&o.Filter, "run", "", "run the cases whose names match this regular `expression`")
	f.BoolVarP(&o.Verbose, "verbose", "v", false, "print each case as it passes")
	f.BoolVar(&o.Fresh, "fresh", false, "the node was just started, holds no data and is the readme's: run what needs that, too")
	f.BoolVar(&o.Long, "long", false, "run more operations where a case takes a number of them")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of every random choice; 0: draw one and print it")
	f.StringVar(&o.Artifacts, "artifacts", "", "keep what helps to understand a failure in this `directory`")
	_ = cmd.MarkFlagDirname("artifacts") // the flag exists
	program(cmd, func(ctx context.Context, args []string) int {
		o.Out = cmd.OutOrStdout()
		return target(cmd, &t, args[0], func() int { return judge(ctx, cmd, &t, o) })
	})
	return cmd
}

// judge runs the conformance suite against the target.
func judge(ctx context.Context, cmd *cobra.Command, t *cli.Target, o conformance.Options) int {
	endpoint, err := t.ClientOptions()
	if err == nil && t.Principal != "" && t.Secret == "" {
		err = errors.New("the suite proves its principal: want --secret-file, too")
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", cmd.CommandPath(), err)
		return cli.ExitUsage
	}
	o.Network, o.Address, o.TLS, o.DialTimeout = endpoint.Network, endpoint.Address, endpoint.TLS, t.DialTimeout
	o.Principal, o.Secret = t.Principal, t.Secret
	_, err = conformance.Run(ctx, o)
	switch {
	case err == nil:
		return cli.ExitOK
	case errors.Is(err, conformance.ErrFailed):
		return cli.ExitError
	default:
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", cmd.CommandPath(), err)
		return cli.ExitConnect
	}
}
