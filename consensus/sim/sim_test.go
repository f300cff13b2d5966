// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	simSeed   = flag.Uint64("sim.seed", 0, "run only this seed")
	simSeeds  = flag.Int("sim.seeds", 0, "run this many seeds (default 100, 20,000 with ATLAS_LONG=1, a tenth of it with -race)")
	simFrom   = flag.Uint64("sim.from", 1, "the first seed")
	simFor    = flag.Duration("sim.for", 0, "run seeds for this long")
	simSet    = flag.String("sim.set", "", "options that are not to be drawn: name=value ...")
	simTrace  = flag.String("sim.trace", "", "with -sim.seed: write the story of the run to this file, - for standard output")
	simShrink = flag.Int("sim.shrink", 100, "how many runs may go into making a failure smaller")
	simJobs   = flag.Int("sim.jobs", 0, "how many seeds run at once (default 1, with ATLAS_LONG=1 as many as there are cores)")
	simKeep   = flag.Bool("sim.keep", false, "go on after a failure")
)

const (
	seedsDefault = 100
	seedsLong    = 20_000
)

func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func long() bool { return os.Getenv("ATLAS_LONG") == "1" }

// run runs one seed, with porcupine behind it, and reports a failure as small as it gets.
func run(t *testing.T, seed uint64, settings []string) Result {
	t.Helper()
	r, err := Run(seed, settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Err == nil {
		r.Stats.Searched, r.Err = search(r.History)
	}
	if r.Err != nil {
		small, last := settings, r.Err
		if *simShrink > 0 {
			small, last = Shrink(seed, settings, r.Err, *simShrink, searchOnly)
		}
		keep(t, seed, small)
		if *simShrink > 0 {
			t.Errorf("seed %d: %.600v\nsmaller: %.2000v\n%s", seed, r.Err, last, Command(seed, small))
		} else {
			t.Errorf("seed %d: %.600v\n%s", seed, r.Err, Command(seed, small))
		}
	}
	return r
}

// keep writes the options and the story of a run that failed to the test's artifacts, which `go test -artifacts` keeps: they say what happened
// when the seed no longer means the same.
func keep(t *testing.T, seed uint64, settings []string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.ArtifactDir(), fmt.Sprintf("seed-%d.txt", seed)))
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = out.Close() }() // what is missing of it is no failure of the run
	o := Draw(seed)
	b := bufio.NewWriter(out)
	_ = o.SetAll(strings.Join(settings, " ")) // they ran once already
	fmt.Fprintf(b, "# commit=%s options: %s\n# %s\n", commit(), o.String(), Command(seed, settings))
	_, err = Run(seed, settings, b)
	if err := errors.Join(err, b.Flush()); err != nil {
		t.Error(err)
	}
}

func searchOnly(ops []Op) error {
	_, err := search(ops)
	return err
}

// TestShrinkKeepsTheFailure: what the shrinker takes for the same failure, and that it shrinks what only a search of the history sees.
func TestShrinkKeepsTheFailure(t *testing.T) {
	for _, row := range []struct {
		a, b string
		same bool
	}{
		{"I2: group 0: slot 3", "I2: group 4: slot 5", true},
		{"I2: group 0: slot 3", "I4: node 1 sends", false},
		{"node 3 group 1 cannot campaign: why", "node 12 group 7 cannot campaign: why not", true},
		{"node 3 group 1 cannot campaign: why", "node 3 group 1 cannot release: why", false},
		{"I2: group 0", "node 3 group 1 cannot release: why", false},
	} {
		if alike(errors.New(row.a), errors.New(row.b)) != row.same {
			t.Errorf("%q, %q: same %v", row.a, row.b, !row.same)
		}
	}
	wrong := errors.New("I8: somebody read")
	small, last := Shrink(1001, []string{"safety=1s", "clients=8"}, wrong, 12, func(ops []Op) error {
		if slices.ContainsFunc(ops, func(o Op) bool { return o.Read() }) {
			return wrong
		}
		return nil
	})
	if len(small) < 3 || last != wrong {
		t.Errorf("%v of %v", last, small)
	}
}

// TestSimulation runs seeds: first those that failed once, then new ones. The long suite must hit every coverage mark.
func TestSimulation(t *testing.T) {
	settings := strings.Fields(*simSet)
	if *simSeed != 0 {
		runOne(t, *simSeed, settings)
		return
	}
	fmt.Printf("seed=%d.. commit=%s options: drawn from the seed %s\n", *simFrom, commit(), *simSet)
	var sum Stats
	hits := map[string]int{}
	begin := time.Now()
	note := func(r *Result) {
		sum.Add(&r.Stats)
		for m := range r.Marks {
			hits[m]++
		}
	}
	for _, f := range failedOnce(t) {
		r := run(t, f.seed, f.settings)
		note(&r)
	}
	count := *simSeeds
	switch {
	case count != 0:
	case *simFor != 0:
		count = 1 << 40
	case long():
		count = seedsLong
	default:
		count = seedsDefault / raceSlows
	}
	running := *simJobs
	if running == 0 {
		running = 1
		if long() {
			running = runtime.GOMAXPROCS(0)
		}
	}
	next := *simFrom
	var mu sync.Mutex
	var jobs sync.WaitGroup
	for range running {
		jobs.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				mu.Unlock()
				if seed >= *simFrom+uint64(count) || *simFor != 0 && time.Since(begin) > *simFor || t.Failed() && !*simKeep {
					return
				}
				r := run(t, seed, settings)
				mu.Lock()
				note(&r)
				mu.Unlock()
			}
		})
	}
	jobs.Wait()
	sum.Print(os.Stdout, time.Since(begin).Seconds(), running)
	printMarks(t, hits, sum.Seeds)
	if never := sum.never(); len(never) > 0 && sum.Seeds >= seedsDefault {
		fmt.Printf("never happened: %s\n", strings.Join(never, ", "))
		if long() && sum.Seeds >= seedsLong {
			t.Errorf("never happened: %s", strings.Join(never, ", "))
		}
	}
}

func printMarks(t *testing.T, hits map[string]int, seeds int) {
	fmt.Printf("coverage marks hit: %d of %d\n", len(hits), len(marks))
	var missed []string
	for _, m := range marks {
		if hits[m] == 0 {
			missed = append(missed, m)
		}
		fmt.Printf("  %7d  %s\n", hits[m], m)
	}
	if long() && seeds >= seedsLong && len(missed) > 0 {
		t.Errorf("never hit: %s", strings.Join(missed, "; "))
	}
}

func runOne(t *testing.T, seed uint64, settings []string) {
	o := Draw(seed)
	if err := o.SetAll(strings.Join(settings, " ")); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("seed=%d commit=%s options: %s\n", seed, commit(), o.String())
	if *simTrace != "" {
		out := os.Stdout
		if *simTrace != "-" {
			var err error
			if out, err = os.Create(*simTrace); err != nil {
				t.Fatal(err)
			}
			defer out.Close()
		}
		b := bufio.NewWriter(out)
		r, err := Run(seed, settings, b)
		if err == nil {
			err = r.Err
		}
		if flushed := b.Flush(); flushed != nil {
			t.Error(flushed)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, Command(seed, settings))
		}
		return
	}
	begin := time.Now()
	r, err := Run(seed, settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Err == nil {
		r.Stats.Searched, r.Err = search(r.History)
	}
	r.Stats.Print(os.Stdout, time.Since(begin).Seconds(), 1)
	if r.Err != nil {
		t.Errorf("%v\n%s", r.Err, Command(seed, settings))
	}
}

// failure is a line of testdata/seeds.txt.
type failure struct {
	seed     uint64
	settings []string
	bug      string
}

// failedOnce reads every seed that ever failed: `seed [name=value ...] # what the bug was`.
func failedOnce(t *testing.T) []failure {
	t.Helper()
	data, err := os.ReadFile("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []failure
	for line := range strings.Lines(string(data)) {
		words, bug, _ := strings.Cut(line, "#")
		fields := strings.Fields(words)
		if len(fields) == 0 {
			continue
		}
		seed, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil || strings.TrimSpace(bug) == "" {
			t.Fatalf("testdata/seeds.txt: %q: want a seed, settings, and the name of the bug", line)
		}
		list = append(list, failure{seed, fields[1:], strings.TrimSpace(bug)})
	}
	return list
}

// TestReplay runs 50 seeds twice: the same things happen in the same order.
func TestReplay(t *testing.T) {
	for seed := uint64(1001); seed <= 1000+50/raceSlows; seed++ {
		settings := []string{"safety=2s", "groups=3"}
		a, err := Run(seed, settings, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Run(seed, settings, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a.Hash != b.Hash || !slices.Equal(a.History, b.History) {
			t.Errorf("seed %d: hashes %016x and %016x\n%s", seed, a.Hash, b.Hash, Command(seed, settings))
		}
	}
}

// TestOptionsAreUsed: an option that is drawn and that nobody looks at is a fault that never happens.
func TestOptionsAreUsed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); !ok || strings.HasSuffix(name, "_test.go") || f.Name.Name == "Draw" || f.Name.Name == "drawLater" {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					read[s.Sel.Name] = true
				}
				return true
			})
		}
	}
	for f := range reflect.TypeFor[Options]().Fields() {
		if !read[f.Name] {
			t.Errorf("option %s is drawn, and nobody looks at it", f.Name)
		}
	}
}

// TestOptionsReplay: what String says, Set takes.
func TestOptionsReplay(t *testing.T) {
	for seed := uint64(1); seed <= 200; seed++ {
		o := Draw(seed)
		c := Draw(seed + 1)
		if err := c.SetAll(o.String()); err != nil {
			t.Fatal(err)
		}
		if c.String() != o.String() {
			t.Errorf("seed %d:\n%s\n%s", seed, o.String(), c.String())
		}
	}
	var o Options
	for _, bad := range []string{"drop", "drop=x", "nothing=1", "regions=1+x", "leases=2", "far=1x"} {
		if o.Set(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, f := range faults {
		if err := o.Set(f + "=" + offValue(f)); err != nil {
			t.Error(err)
		}
	}
}
