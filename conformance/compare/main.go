// SPDX-License-Identifier: AGPL-3.0-only

// Command compare measures an Atlas node beside other stores on the same machine, in one run.
//
//	go run ./conformance/compare [speed] [flags]    throughput, latency and server CPU, beside Redis, etcd and raw Pebble
//	go run ./conformance/compare scale [flags]      a million tables, ten thousand connections, large blobs: memory and time
//
// Redis and etcd are used where their programs are found and skipped with a word where not; nothing is installed. Atlas
// is the real binary, built from this module unless -atlas names one. Every store gets a fresh directory on one disk, the
// same keys and values, and a load generator of one design: a goroutine for each connection, one request at a time,
// requests made before and patched in place, answers of known length compared with what must come. Slots of the peers
// alternate and ratios are taken between neighbours, so that noise hits all alike; figures are medians over rounds with
// the least and the most. docs/performance.md tells how to read them.
//
// The program owns every process it starts and ends them before it returns; should it be killed, the kernel ends them.
// It writes below its -dir and removes what it wrote.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// Exit codes.
const (
	exitOK     = 0
	exitError  = 1 // something did not run
	exitMissed = 2 // with -strict: a must was missed
	exitUsage  = 64
)

// options are the command line.
type options struct {
	mode   string
	dir    string
	atlas  string
	json   string
	seed   uint64
	keys   int
	quick  bool
	strict bool
	keep   bool
	speed  speedOptions
	scale  scaleOptions
}

func run(args []string) int {
	if len(args) == 1 && args[0] == childFlag {
		// A parent that is interrupted tells its child by closing its input; the terminal's signal reaches both.
		signal.Ignore(os.Interrupt, syscall.SIGTERM)
		if err := pebbleChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "raw Pebble:", err)
			return exitError
		}
		return exitOK
	}
	o, err := parse(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rep, err := o.do(ctx, args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitError
	}
	if err := rep.print(os.Stdout); err != nil {
		return exitError
	}
	if o.json != "" {
		if err := rep.write(o.json); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return exitError
		}
	}
	if o.strict && slices.ContainsFunc(rep.Aims, func(a aim) bool { return a.failed() }) {
		return exitMissed
	}
	return exitOK
}

// parse reads the command line. Flags left alone take the values of a full run, or of a quick one.
func parse(args []string, out io.Writer) (*options, error) {
	o := &options{mode: "speed"}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		o.mode, args = args[0], args[1:]
	}
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.dir, "dir", os.TempDir(), "put all data below this `directory`, which must be on a disk")
	f.StringVar(&o.atlas, "atlas", "", "measure this `binary` (default: build it)")
	f.StringVar(&o.json, "json", "", "write everything, each sample too, to this `file`")
	f.Uint64Var(&o.seed, "seed", 1, "draw keys and values with this `number`")
	f.BoolVar(&o.quick, "quick", false, "about a minute: fewer rounds and keys, shorter slots")
	f.BoolVar(&o.strict, "strict", false, "exit with status 2 when a must is missed")
	f.BoolVar(&o.keep, "keep", false, "leave the data and logs behind")
	f.IntVar(&o.keys, "keys", 0, "speed: write and read this `number` of keys (default 100000, quick 20000)")
	only := f.String("only", strings.Join(sectionNames, ","), "speed: `sections` to measure")
	conns := f.String("conns", "1,16,64,256", "speed: `numbers` of connections for put and get")
	peers := f.String("peers", "atlas,redis,etcd,pebble", "speed: `stores` to measure")
	blobs := f.String("blobs", "1,128", "speed: `MiB` of the blobs read")
	f.IntVar(&o.speed.rounds, "rounds", 0, "`number` of rounds (default 5, quick 3)")
	f.DurationVar(&o.speed.slot, "slot", 0, "measure each store for this `time` in a round (default 800ms, quick 350ms)")
	f.StringVar(&o.speed.profile, "profile", "", "profile the node under each load afterwards, into this `directory`")
	f.IntVar(&o.scale.tables, "tables", 0, "scale: `number` of tables (default 1000000, quick 100000)")
	f.IntVar(&o.scale.idle, "idle", 0, "scale: `number` of idle connections (default 10000, quick 2000)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is too much: the mode comes first, then flags", f.Arg(0))
	}
	o.fillDefaults()
	var errs [4]error
	o.speed.sections, errs[0] = chosen("-only", *only, sectionNames)
	o.speed.peers, errs[1] = chosen("-peers", *peers, []string{atlasName, redisName, etcdName, pebbleName})
	o.speed.conns, errs[2] = numbers("-conns", *conns, 10_000)
	o.speed.blobs, errs[3] = numbers("-blobs", *blobs, 128)
	for i := range o.speed.blobs {
		o.speed.blobs[i] <<= 20
	}
	return o, errors.Join(append(errs[:], o.check())...)
}

func (o *options) fillDefaults() {
	pick := func(p *int, full, quick int) {
		if *p != 0 {
			return
		}
		if *p = full; o.quick {
			*p = quick
		}
	}
	pick(&o.keys, 100_000, 20_000)
	pick(&o.speed.rounds, 5, 3)
	pick(&o.scale.tables, 1_000_000, 100_000)
	pick(&o.scale.idle, 10_000, 2_000)
	if o.speed.slot == 0 {
		if o.speed.slot = 800 * time.Millisecond; o.quick {
			o.speed.slot = 350 * time.Millisecond
		}
	}
	o.scale.rounds, o.scale.slot, o.scale.profile = o.speed.rounds, o.speed.slot, o.speed.profile
}

func (o *options) check() error {
	switch {
	case o.mode != "speed" && o.mode != "scale":
		return fmt.Errorf("no mode %q: speed or scale", o.mode)
	case o.keys < 1 || o.keys > 99_999_999:
		return fmt.Errorf("-keys %d is not in 1..99999999", o.keys)
	case o.speed.rounds < 1 || o.speed.slot < 10*time.Millisecond:
		return fmt.Errorf("-rounds %d and -slot %v: at least one of 10 ms", o.speed.rounds, o.speed.slot)
	case o.scale.tables < 100 || o.scale.tables > 99_999_999 || o.scale.idle < 1:
		return fmt.Errorf("-tables %d is not in 100..99999999, or -idle %d below 1", o.scale.tables, o.scale.idle)
	}
	return nil
}

// chosen splits a list of names, each of which must be one of all.
func chosen(flagName, list string, all []string) ([]string, error) {
	names := strings.Split(list, ",")
	for _, n := range names {
		if !slices.Contains(all, n) {
			return nil, fmt.Errorf("%s %s: choose from %s", flagName, n, strings.Join(all, ","))
		}
	}
	return names, nil
}

func numbers(flagName, list string, most int) ([]int, error) {
	var all []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("%s %s is not in 1..%d", flagName, s, most)
		}
		all = append(all, n)
	}
	return all, nil
}

// do runs the mode.
func (o *options) do(ctx context.Context, args []string) (rep *report, err error) {
	began := time.Now()
	env, err := newEnvironment(o.dir, o.seed, o.keys)
	if err != nil {
		return nil, err
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "data and logs stay in", env.dir)
	} else {
		defer func() { err = errors.Join(err, env.remove()) }()
	}
	rep = &report{Setting: describe(ctx, env, args)}
	rep.Setting.Plan = fmt.Sprintf("values of %d bytes; %d rounds of %v for each store", valueLen, o.speed.rounds, o.speed.slot)
	if o.mode == "speed" {
		rep.Setting.Plan += fmt.Sprintf("; %s keys, uniform; one request a connection outstanding", grouped(float64(o.keys)))
	}
	o.choosePeers(ctx, rep)
	if env.atlas, err = filepath.Abs(o.atlas); err != nil { // servers run in directories of their own
		return nil, err
	}
	if o.atlas == "" && (o.mode == "scale" || slices.Contains(o.speed.peers, atlasName)) {
		if env.atlas, err = buildAtlas(ctx, env.dir); err != nil {
			return nil, err
		}
	}
	before, err := syncTime(env.dir)
	if err != nil {
		return nil, err
	}
	say := func(format string, a ...any) {
		fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, a...))
	}
	if o.mode == "scale" {
		rep.Scale, rep.Aims, err = o.scale.run(ctx, env, say)
	} else {
		var cells []*cell
		cells, err = o.speed.run(ctx, env, say)
		if err == nil {
			rep.Cells, rep.Aims = cellReports(cells), speedAims(cells, o.speed.blobs)
		}
	}
	if err != nil {
		return nil, err
	}
	after, err := syncTime(env.dir)
	rep.Setting.SyncMicros = []float64{before, after}
	rep.Seconds = time.Since(began).Seconds()
	return rep, err
}

// choosePeers drops the peers that are not installed, and notes the versions of the others.
func (o *options) choosePeers(ctx context.Context, rep *report) {
	if o.mode == "scale" {
		return
	}
	o.speed.peers = slices.DeleteFunc(o.speed.peers, func(name string) bool {
		switch name {
		case redisName:
			if installed("redis-server") {
				rep.Setting.Versions = append(rep.Setting.Versions, version(ctx, "redis-server", "--version"))
				return false
			}
			rep.Skipped = append(rep.Skipped, "redis: redis-server is not installed (Debian: apt install redis-server)")
			return true
		case etcdName:
			if installed("etcd") {
				rep.Setting.Versions = append(rep.Setting.Versions, version(ctx, "etcd", "--version"))
				return false
			}
			rep.Skipped = append(rep.Skipped, "etcd: etcd is not installed (Debian: apt install etcd-server)")
			return true
		case pebbleName:
			rep.Setting.Versions = append(rep.Setting.Versions, pebbleVersion())
		}
		return false
	})
}
