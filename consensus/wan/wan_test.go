// SPDX-License-Identifier: AGPL-3.0-only

package wan

import (
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/internal/invariants"
)

var rewrite = flag.Bool("rewrite", false, "write docs/performance-wan.md; wants ATLAS_LONG=1")

// document is what -rewrite writes.
const document = "../../docs/performance-wan.md"

const oregon, california, virginia = 2, 0, 4

// options of a run, small enough for every test run, or as the paper has it.
func options(long bool) Options {
	o := Options{Seed: 1, Objects: 25, Nodes: 3, Fn: 1, LeaderRegion: virginia, Rate: 4, Warm: 5 * Second, Measure: 40 * Second, Sync: Millisecond}
	if long {
		o.Objects, o.Rate, o.Measure = 1000, 60, 60*Second
	}
	return o
}

func mustRun(t *testing.T, o Options) *Result {
	t.Helper()
	if o.Mode == Adaptive {
		o.Warm = 240 * Second // the policy wants a minute of dwell and three windows
	}
	r, err := Run(o)
	if err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
	// Latencies are of what was answered: a run in which something was not would show only what went well.
	if lost := slices.Max(r.Unanswered); lost > 0 && len(o.Kill) == 0 {
		t.Errorf("%+v: requests that were never answered, by region: %v", o, r.Unanswered)
	}
	for region, list := range r.Latency {
		if len(list) == 0 && len(o.Kill) == 0 {
			t.Errorf("%+v: %s was never answered", o, Regions[region])
		}
	}
	t.Logf("%s, locality %s, Fz=%d: %d events, %d messages, %d requests sent again", r.Owners(), name(o.Locality), o.Fz, r.Events, r.Messages, r.Again)
	return r
}

// TestTable prints latencies by locality, Fz and where owners stand: short by default, whole with ATLAS_LONG=1.
func TestTable(t *testing.T) {
	// A race build takes ten times as long and has one goroutine to look at.
	long := os.Getenv("ATLAS_LONG") == "1" && !invariants.Enabled
	localities, fzs, modes := []float64{0.7, 0.9}, []int{0}, []Mode{Adaptive, Scattered}
	leaders := []int{virginia}
	if long {
		localities, fzs, modes = []float64{0.5, 0.7, 0.9, 0.95, 0}, []int{0, 1, 2}, []Mode{Adaptive, Scattered, Placed}
		leaders = []int{0, 1, 2, 3, 4}
	}
	var rows, baseline []*Result
	for _, r := range leaders {
		o := options(long)
		o.Mode, o.LeaderRegion, o.Locality = Leader, r, 0.7 // locality is nothing to a leader
		baseline = append(baseline, mustRun(t, o))
	}
	best := baseline[0]
	for _, r := range baseline {
		if Mean(r.All()) < Mean(best.All()) {
			best = r
		}
	}
	ratios := ""
	for _, locality := range localities {
		for _, fz := range fzs {
			var adaptive, scattered *Result
			for _, mode := range modes {
				o := options(long)
				o.Mode, o.Locality, o.Fz = mode, locality, fz
				r := mustRun(t, o)
				rows = append(rows, r)
				switch mode {
				case Adaptive:
					adaptive = r
				case Scattered:
					scattered = r
				}
			}
			a, s, l := Mean(adaptive.All()), Mean(scattered.All()), Mean(best.All())
			ratios += fmt.Sprintf("| %s | %d | %.1f ms | %.1f ms | %.1f ms | %.1f x | %.1f x |\n", name(locality), fz, a, s, l, s/a, l/a)
			if locality > 0 && a >= s {
				t.Errorf("locality %.2f, Fz=%d: %.1f ms with moves, %.1f without", locality, fz, a, s)
			}
			if locality >= 0.7 && (a >= l || fz == 0 && a*3 > l) {
				t.Errorf("locality %.2f, Fz=%d: %.1f ms with moves, a leader has %.1f", locality, fz, a, l)
			}
		}
	}
	text := Table(append(rows, baseline...))
	t.Log("\n" + text + "\n" + ratios)
	if *rewrite {
		if !long {
			t.Fatal("-rewrite wants ATLAS_LONG=1")
		}
		doc := fmt.Sprintf(page, distances(), text, ratios, shift(t, long), losses(t, long))
		if err := os.WriteFile(document, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func name(locality float64) string {
	if locality == 0 {
		return "random"
	}
	return fmt.Sprintf("%.2f", locality)
}

func distances() string {
	var b strings.Builder
	b.WriteString("| ms |")
	for _, r := range Regions {
		fmt.Fprintf(&b, " %s |", r)
	}
	b.WriteString("\n|" + strings.Repeat(" --- |", 1+len(Regions)) + "\n")
	for i, row := range roundTrip {
		fmt.Fprintf(&b, "| %s |", Regions[i])
		for _, ms := range row {
			fmt.Fprintf(&b, " %d |", ms)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// losses are the runs in which nodes die: what Oregon sees of its own objects, before and after.
func losses(t *testing.T, long bool) string {
	t.Helper()
	o := options(long)
	o.Mode, o.Locality, o.Owners = Placed, 0.999, 2
	line := func(what string, o Options, kill ...quorum.NodeID) (before, after float64) {
		o.Kill = nil
		b := mustRun(t, o).Latency[oregon]
		o.Kill = kill
		r := mustRun(t, o)
		a := r.Latency[oregon]
		if lost := r.Unanswered[oregon]; lost*20 > len(a) {
			t.Errorf("%s: %d of Oregon's requests are answered, %d never", what, len(a), lost)
		}
		before, after = Quantile(b, 0.5), Quantile(a, 0.5)
		out.WriteString(fmt.Sprintf("| %s | %.1f ms | %.1f ms |\n", what, before, after))
		return before, after
	}
	out.Reset()
	var one []quorum.NodeID
	for r := range Regions {
		one = append(one, o.NodeOf(r, 2))
	}
	if b, a := line("a node of each region dies that owns nothing, Fn=1, Fz=0", o, one...); math.Abs(a-b) > 1 {
		t.Errorf("a node's death takes the median from %.1f to %.1f ms", b, a)
	}
	o.Fz, o.WideHome = 1, true
	b, a := line("the nearest region (California) dies, Fn=1, Fz=1, all regions vote", o, o.NodeOf(california, 0), o.NodeOf(california, 1), o.NodeOf(california, 2))
	if a < b+20 {
		t.Errorf("the nearest region's death takes the median from %.1f to %.1f ms", b, a)
	}
	return out.String()
}

// out collects the lines of losses.
var out strings.Builder

// A node's death with Fn=1 is not felt, and that of the nearest region with Fz=1 costs the way to the next.
func TestLosses(t *testing.T) { t.Log("\n" + losses(t, false)) }

// shift is the run in which the load moves from each region to the next: what the clients see from then on.
func shift(t *testing.T, long bool) string {
	t.Helper()
	o := options(long)
	o.Locality, o.Shift, o.Measure = 0.9, true, 160*Second
	if long {
		o.Measure = 240 * Second
	}
	r := mustRun(t, o)
	var b strings.Builder
	mean := func(s *Slice) float64 { return float64(s.Sum) / float64(Millisecond) / float64(max(1, s.Requests)) }
	for i := range r.Slices {
		s := &r.Slices[i]
		at := i * int(SliceLen/Second)
		fmt.Fprintf(&b, "| %d to %d s | %.1f ms | %.0f %% |\n", at, at+int(SliceLen/Second), mean(s), 100*float64(s.Local)/float64(max(1, s.Requests)))
	}
	if first, last := mean(&r.Slices[0]), mean(&r.Slices[len(r.Slices)-1]); last*2 > first {
		t.Errorf("the load moved, and latency went from %.1f to %.1f ms only", first, last)
	}
	return b.String()
}

// Owners follow a load that moves.
func TestShift(t *testing.T) { t.Log("\n" + shift(t, false)) }

// A request whose owner is dead is counted as not answered, and in no latency.
func TestUnanswered(t *testing.T) {
	o := options(false)
	o.Mode, o.Locality, o.Owners = Placed, 0.9, 1
	o.Kill = []quorum.NodeID{o.NodeOf(california, 0)}
	r := mustRun(t, o)
	if asked := r.Unanswered[california] + len(r.Latency[california]); r.Unanswered[california]*2 < asked {
		t.Errorf("of about %d requests from California, whose owner is dead, %d are not answered", asked, r.Unanswered[california])
	}
}

// Equal options give equal results, another seed another.
func TestDeterminism(t *testing.T) {
	o := options(false)
	o.Locality, o.Fz = 0.7, 1
	o.Warm, o.Measure = 70*Second, 5*Second
	first, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Run(o)
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Fatalf("two runs differ: %v", err)
	}
	o.Seed++
	third, err := Run(o)
	if err != nil || reflect.DeepEqual(first.Latency, third.Latency) {
		t.Fatalf("another seed gives the same: %v", err)
	}
}

// The load has the locality that it was asked for.
func TestLocality(t *testing.T) {
	for _, want := range []float64{0.5, 0.7, 0.9, 0.95} {
		l := newLoad(&Options{Seed: 1, Objects: 1000, Locality: want})
		near := 0
		for i := range 50_000 {
			if region := i % len(Regions); l.homeOf(l.object(region)) == region {
				near++
			}
		}
		if got := float64(near) / 50_000; math.Abs(got-want) > 0.03 {
			t.Errorf("locality %.3f, want %.2f", got, want)
		}
	}
}
