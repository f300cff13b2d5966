// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/atlas-edge/atlas/consensus"
)

// Options are a world and how badly it behaves. Draw makes them from a seed; Set changes some by name. Faults in ppm are
// chances of a message, those that end in Every mean times between two; 0 is never.
type Options struct {
	Seed uint64

	// The grid of the first configuration: voters by region, and what it is to bear losing.
	Regions []int64
	Fn, Fz  int64
	Groups  int64 // of which the last stays untouched if there are three or more
	Keys    int64 // of a group
	Skew    int64 // in percent: how much of the traffic goes to the first group
	Clients int64

	// Safety is how long faults go on, Heal how long progress may take once they have ended.
	Safety, Heal Time

	// The network: one way inside a region and between two, and how much of it varies.
	Near, Far, Jitter Time
	Drop, Duplicate   int64 // ppm
	Reorder           int64 // ppm of messages that may overtake others
	Delay             int64 // ppm of messages that are late by up to DelayMost
	DelayMost         Time
	Forge             int64 // ppm of messages that are sent again with fields forged
	Stale             int64 // ppm of messages that are kept, and sent again after their sender has restarted
	CutEvery          Time  // links between some nodes, one way or both
	CutRegionEvery    Time
	ClogEvery         Time // links hold messages back
	SwizzleEvery      Time // the links of some nodes clog one after the other, and open in another order
	CutLinksEvery     Time // single links, so that nodes that hear each other hear different others
	FaultFor          Time // mean length of the faults above

	// Nodes and their disks.
	CrashEvery     Time
	CrashInside    int64 // percent of crashes that wait for a certain step of the event loop
	KeepUnsynced   bool  // a crash may keep some batches that were not synced
	Torn           bool  // and of the next one what some groups wrote
	DownFor        Time  // mean
	SuspendEvery   Time
	SuspendFor     Time
	SyncTime       Time // mean
	LazySync       bool // batches that need no sync get none
	QueueInSync    bool // messages wait while the disk syncs
	SyncFailEvery  Time
	DiskFullEvery  Time
	DiskSlowEvery  Time
	TickEvery      Time // of a node with rate 1
	TickSpread     int64
	EvictAfter     Time
	EvictAnyway    int64 // ppm of loop turns in which some idle core is dropped
	SnapshotsTake  int64 // percent of snapshots that carry a newer state than they were asked for
	SnapshotTime   Time  // transfer
	LearnSystemLog Time  // mean delay until a node sees an entry of the system log

	// Clocks.
	Leases         bool
	Drift          int64 // ppm, at most, either way
	DriftBound     int64 // ppm that the leases allow for
	ClockFreeze    int64 // percent of suspensions in which the monotonic clock stands still
	DriftEvery     Time  // a monotonic clock goes on at another rate
	WallSkew       Time
	ClockStepEvery Time

	// Ownership, truncation, configurations.
	StealEvery    Time
	ReleaseEvery  Time
	LocalShare    int64 // percent of campaigns that are local where they can be
	Homes         bool  // owners take a home of some regions
	CompactEvery  Time
	LogKeep       int64 // entries that the policy keeps behind the applied slot; 0 is no policy
	Adaptive      bool  // owners go where the load is
	PolicyScale   Time  // the half-life of the policy, and the measure of its other times
	ReconfigEvery Time
	ReconfigByH   int64 // percent of groups that a live owner migrates with a stop-sign
	WipeEvery     Time

	// Clients.
	Think         Time
	AttemptFor    Time
	Attempts      int64
	Gets          int64 // percent
	Cases         int64 // percent of writes that are conditional
	Deletes       int64 // percent
	ConfirmReads  int64 // percent of reads that use a read index even under a lease
	FollowerReads int64 // percent of reads that ask the owner for its read index, and read where the client is
	AnswerEarly   bool  // what is applied is answered before its batch is durable
	ReadPause     int64 // ppm of reads in which the node stands still between the state and the lease
	MoveLoadEvery Time
	SessionLife   Time

	// The core's tuning.
	UncommittedEntries, MessageBytes, InflightMessages, RetainedEntries, RetainedBytes int64
	RetryAfter, FlushAfter                                                             Time

	// Support is D of the leases, Interval the time between heartbeats.
	Support, Interval Time

	// CloseEvery is the mean time between two closings of what a node owns, and CeilingStep how far ahead of its clock the durable
	// ceiling of that is written.
	CloseEvery, CeilingStep Time
}

// grids are shapes to draw from: voters by region, Fn, Fz.
// shared: only read.
var grids = []struct {
	regions []int64
	fn, fz  int64
}{
	{[]int64{3}, 1, 0},
	{[]int64{5}, 2, 0},
	{[]int64{4}, 1, 0},
	{[]int64{1, 1, 1}, 0, 1},
	{[]int64{1, 1, 1}, 0, 0},
	{[]int64{1, 1, 1}, 0, 2},
	{[]int64{2, 3}, 1, 1},
	{[]int64{2, 3}, 1, 0},
	{[]int64{1, 2, 2}, 0, 1},
	{[]int64{3, 3, 3}, 1, 1},
	{[]int64{3, 3, 3}, 1, 0},
	{[]int64{3, 3}, 1, 0},
	{[]int64{2, 2, 2}, 1, 1},
	{[]int64{1, 1, 1, 1, 1}, 0, 2},
	{[]int64{1, 1, 1, 1}, 0, 1},
	{[]int64{2, 2, 2, 2}, 0, 1},
	{[]int64{3, 3, 3, 3, 3}, 1, 1},
	{[]int64{3, 3, 3, 3, 3}, 1, 0},
	{[]int64{3, 1, 1}, 1, 1},
	{[]int64{5, 5}, 2, 1},
	{[]int64{1}, 0, 0},
	{[]int64{1}, 1, 1},
	{[]int64{2}, 0, 0},
	{[]int64{1, 1}, 0, 1},
}

// Draw makes the options of a seed. Each fault is off in half of the seeds, whatever the others are.
func Draw(seed uint64) Options {
	r := newStream(seed, streamOptions)
	g := grids[r.IntN(len(grids))]
	o := Options{Seed: seed, Regions: slices.Clone(g.regions), Fn: g.fn, Fz: g.fz}
	rate := func(most int64) int64 { // ppm
		off, n := r.chance(2), 1+r.Int64N(most)
		if off {
			return 0
		}
		return n
	}
	every := func(lo, hi Time) Time {
		off, t := r.chance(2), r.spread(lo, hi)
		if off {
			return 0
		}
		return t
	}
	o.Groups = []int64{1, 1, 1, 2, 3, 4, 8, 16, 64}[r.IntN(9)]
	o.Keys, o.Skew = 1+r.Int64N(5), r.Int64N(100)
	o.Clients = 1 + r.Int64N(16)
	o.Safety, o.Heal = r.spread(2*Second, 30*Second), 3*Minute

	o.Near, o.Far = r.spread(50*Microsecond, 5*Millisecond), r.spread(1*Millisecond, 120*Millisecond)
	o.Jitter = r.spread(10*Microsecond, 20*Millisecond)
	o.Drop, o.Duplicate, o.Reorder = rate(200_000), rate(200_000), rate(300_000)
	o.Delay, o.DelayMost = rate(20_000), r.spread(100*Millisecond, 2*Minute)
	o.Forge, o.Stale = rate(10_000), rate(10_000)
	o.CutEvery, o.CutRegionEvery = every(500*Millisecond, 20*Second), every(2*Second, 40*Second)
	o.ClogEvery, o.SwizzleEvery = every(500*Millisecond, 20*Second), every(2*Second, 40*Second)
	o.FaultFor = r.spread(100*Millisecond, 10*Second)

	o.CrashEvery, o.CrashInside, o.KeepUnsynced = every(300*Millisecond, 20*Second), r.Int64N(101), r.chance(2)
	o.DownFor = r.spread(1*Millisecond, 5*Second)
	o.SuspendEvery, o.SuspendFor = every(1*Second, 20*Second), r.spread(10*Millisecond, 10*Second)
	o.SyncTime, o.LazySync, o.QueueInSync = r.spread(20*Microsecond, 20*Millisecond), r.chance(2), r.chance(2)
	o.SyncFailEvery, o.DiskFullEvery, o.DiskSlowEvery = every(2*Second, 40*Second), every(2*Second, 40*Second), every(2*Second, 40*Second)
	o.TickEvery, o.TickSpread = r.spread(10*Millisecond, 100*Millisecond), r.Int64N(101)
	o.EvictAfter, o.EvictAnyway = r.spread(200*Millisecond, 30*Second), rate(20_000)
	o.SnapshotsTake, o.SnapshotTime = r.Int64N(101), r.spread(1*Millisecond, 1*Second)
	o.LearnSystemLog = r.spread(1*Millisecond, 2*Second)

	o.Leases = !r.chance(4)
	o.DriftBound = 500 + r.Int64N(50_000)
	o.Drift = r.Int64N(o.DriftBound + 1)
	o.WallSkew, o.ClockStepEvery = r.spread(1*Microsecond, 10*Second), every(1*Second, 30*Second)
	if !o.Leases && r.chance(2) {
		o.Drift = 300_000 // beyond what any bound allows for
	}

	o.StealEvery, o.ReleaseEvery = every(200*Millisecond, 10*Second), every(200*Millisecond, 10*Second)
	o.LocalShare, o.Homes = r.Int64N(101), r.chance(2)
	o.Adaptive, o.PolicyScale = r.chance(2), r.spread(1*Second, 10*Second)
	o.CompactEvery, o.LogKeep = every(100*Millisecond, 5*Second), r.Int64N(30)
	o.ReconfigEvery, o.ReconfigByH = every(2*Second, 30*Second), r.Int64N(101)
	o.WipeEvery = every(5*Second, 40*Second)

	o.Think, o.AttemptFor, o.Attempts = r.spread(1*Millisecond, 500*Millisecond), r.spread(100*Millisecond, 3*Second), 1+r.Int64N(6)
	o.Gets, o.Cases, o.Deletes = r.Int64N(80), r.Int64N(60), r.Int64N(20)
	o.ConfirmReads, o.ReadPause = r.Int64N(101), rate(100_000)
	o.FollowerReads, o.AnswerEarly = r.Int64N(60), r.chance(2)
	o.MoveLoadEvery = every(1*Second, 20*Second)
	o.SessionLife = r.spread(500*Millisecond, 10*Minute)

	o.UncommittedEntries, o.InflightMessages = 1+r.Int64N(60), 1+r.Int64N(8)
	o.MessageBytes = int64(r.spread(1, 4096))
	o.RetainedEntries, o.RetainedBytes = r.Int64N(30), int64(r.spread(1, 4096))
	o.RetryAfter, o.FlushAfter = r.spread(20*Millisecond, 1*Second), r.spread(1*Millisecond, 100*Millisecond)
	o.Interval = r.spread(50*Millisecond, 1*Second)
	o.Support = 3 * o.Interval
	if r.chance(2) {
		o.Drift = max(o.Drift, o.DriftBound)
	}
	if r.chance(2) {
		o.ClockFreeze = r.Int64N(101)
	}
	o.drawLater()
	// From a source of their own, so that the seeds from before stay what they were.
	r = newStream(seed, streamClosedOptions)
	o.CloseEvery, o.CeilingStep = every(10*Millisecond, 1*Second), r.spread(1*Millisecond, 10*Second)
	// An acceptor that lags is taught one message a round trip: over a long way, with an entry in each, thousands of slots take longer than Heal.
	if o.Far > 50*Millisecond {
		o.MessageBytes = max(o.MessageBytes, int64(4*o.Far/Millisecond))
	}
	return o
}

// drawLater draws what came later, from a stream of its own.
func (o *Options) drawLater() {
	r := newStream(o.Seed, streamLater)
	if r.chance(2) {
		o.CutLinksEvery = r.spread(500*Millisecond, 20*Second)
	}
	if r.chance(2) {
		o.DriftEvery = r.spread(200*Millisecond, 10*Second)
	}
	o.Torn = !r.chance(4)
}

// clockJump is by how much the clocks of a node may part before it mistrusts them: more than drift can do.
func (o *Options) clockJump() Time { return 100*Millisecond + o.Support/1000*o.driftBound()/250 }

func (o *Options) driftBound() Time { return Time(o.DriftBound) }

func (o *Options) sessionLife() consensus.Timestamp { return consensus.Timestamp(o.SessionLife) }

// faults are the options that the shrinker sets to nothing, one by one.
// shared: only read.
var faults = []string{
	"wipeevery", "reconfigevery", "forge", "stale", "syncfailevery", "diskfullevery", "diskslowevery", "suspendevery", "clockstepevery",
	"swizzleevery", "clogevery", "cutregionevery", "cutevery", "delay", "duplicate", "reorder", "drop", "compactevery", "logkeep",
	"readpause", "evictanyway", "moveloadevery", "localshare", "releaseevery", "stealevery", "crashevery", "tickspread", "clockfreeze", "cutlinksevery", "torn", "driftevery", "drift", "leases", "homes", "adaptive", "followerreads", "answerearly", "closeevery",
}

// Set changes one option: `name=value`, with the name of a field in small letters, times as in 1.5s or in nanoseconds, and
// regions as in 3+3+3.
func (o *Options) Set(setting string) error {
	name, value, ok := strings.Cut(setting, "=")
	if !ok {
		return fmt.Errorf("option %q: want name=value", setting)
	}
	f := reflect.ValueOf(o).Elem().FieldByNameFunc(func(s string) bool { return strings.ToLower(s) == name })
	if !f.IsValid() {
		return fmt.Errorf("option %q: no such option", name)
	}
	var err error
	switch f.Interface().(type) {
	case Time:
		var t Time
		if t, err = parseTime(value); err == nil {
			f.SetInt(int64(t))
		}
	case bool:
		var b bool
		if b, err = strconv.ParseBool(value); err == nil {
			f.SetBool(b)
		}
	case uint64:
		var n uint64
		if n, err = strconv.ParseUint(value, 10, 64); err == nil {
			f.SetUint(n)
		}
	case []int64:
		var list []int64
		for word := range strings.SplitSeq(value, "+") {
			n, e := strconv.ParseInt(word, 10, 64)
			list, err = append(list, n), errors.Join(err, e)
		}
		if err == nil {
			f.Set(reflect.ValueOf(list))
		}
	default:
		var n int64
		if n, err = strconv.ParseInt(value, 10, 64); err == nil {
			f.SetInt(n)
		}
	}
	if err != nil {
		return fmt.Errorf("option %q: %w", setting, err)
	}
	return nil
}

// SetAll changes the options of a list that spaces or commas part.
func (o *Options) SetAll(list string) error {
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' }) {
		if err := o.Set(s); err != nil {
			return err
		}
	}
	return nil
}

func parseTime(s string) (Time, error) {
	unit := Time(1)
	for _, u := range []struct {
		name string
		unit Time
	}{{"ms", Millisecond}, {"us", Microsecond}, {"ns", 1}, {"s", Second}, {"m", Minute}} {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, unit = rest, u.unit
			break
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return Time(f * float64(unit)), err
}

// String is all options as Set takes them.
func (o *Options) String() string {
	var b strings.Builder
	v := reflect.ValueOf(o).Elem()
	for i := range v.NumField() {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=", strings.ToLower(v.Type().Field(i).Name))
		switch x := v.Field(i).Interface().(type) {
		case []int64:
			words := make([]string, len(x))
			for j, n := range x {
				words[j] = strconv.FormatInt(n, 10)
			}
			b.WriteString(strings.Join(words, "+"))
		case Time:
			b.WriteString(x.String())
		default:
			fmt.Fprint(&b, x)
		}
	}
	return b.String()
}

// String is the time in the largest unit that gives no fraction.
func (t Time) String() string {
	for _, u := range []struct {
		name string
		unit Time
	}{{"s", Second}, {"ms", Millisecond}, {"us", Microsecond}} {
		if t%u.unit == 0 {
			return strconv.FormatInt(int64(t/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(t), 10) + "ns"
}
