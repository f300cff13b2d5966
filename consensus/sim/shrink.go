// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Result is what came of a run.
type Result struct {
	Err     error
	Hash    uint64
	Stats   Stats
	Marks   map[string]bool
	History []Op
}

// Run runs a seed with some options changed.
func Run(seed uint64, settings []string, trace io.Writer) (Result, error) {
	o := Draw(seed)
	if err := o.SetAll(strings.Join(settings, " ")); err != nil {
		return Result{}, err
	}
	w := NewWorld(o, Setup{Trace: trace})
	err := w.Run()
	r := Result{Err: err, Hash: w.Hash(), Stats: w.Stats(), Marks: w.Marks()}
	if err == nil {
		r.History = w.History()
	}
	return r, nil
}

// Command is what replays a run.
func Command(seed uint64, settings []string) string {
	c := fmt.Sprintf("go test ./consensus/sim -run TestSimulation -sim.seed=%d", seed)
	if len(settings) > 0 {
		c += fmt.Sprintf(" -sim.set='%s'", strings.Join(settings, " "))
	}
	return c
}

// alike reports whether two runs fail of the same thing: of one invariant, or with the same first words where none is named.
func alike(a, b error) bool {
	if kind := kindOfFailure(a); kind != "" || kindOfFailure(b) != "" {
		return kind == kindOfFailure(b)
	}
	return slices.Equal(firstWords(a), firstWords(b))
}

// firstWords are those without a digit.
func firstWords(err error) []string {
	words := slices.DeleteFunc(strings.Fields(err.Error()), func(w string) bool { return strings.ContainsAny(w, "0123456789") })
	return words[:min(4, len(words))]
}

// kindOfFailure is the invariant that is broken, or what stands for one; empty if the error names none.
func kindOfFailure(err error) string {
	text := err.Error()
	if head, _, ok := strings.Cut(text, ":"); ok && len(head) < 20 {
		return head
	}
	return ""
}

// Shrink looks for a smaller run that fails alike, in at most `runs` tries: it leaves out kinds of faults, then groups, clients and keys,
// and shortens the time. judge is what else a run can fail of, from its history. It returns the settings of the smallest that it found.
func Shrink(seed uint64, settings []string, failure error, runs int, judge func([]Op) error) (smallest []string, last error) {
	smallest, last = settings, failure
	events := 1 << 62 // of the smallest: a run that is simpler and much longer is not smaller
	try := func(setting string) bool {
		if runs <= 0 {
			return false
		}
		runs--
		candidate := append(smallest[:len(smallest):len(smallest)], setting)
		r, err := Run(seed, candidate, nil)
		if err == nil && r.Err == nil {
			r.Err = judge(r.History)
		}
		if err != nil || r.Err == nil || !alike(r.Err, failure) || r.Stats.Events > events+events/8 {
			return false
		}
		smallest, last, events = candidate, r.Err, min(events, r.Stats.Events)
		return true
	}
	o := Draw(seed)
	_ = o.SetAll(strings.Join(settings, " ")) // they ran once already
	if r, err := Run(seed, settings, nil); err == nil && r.Err != nil {
		events = r.Stats.Events
	}
	for range 2 {
		for _, f := range faults {
			if !o.off(f) {
				try(f + "=" + offValue(f))
			}
		}
		for _, n := range []struct {
			name string
			have int64
		}{{"groups", o.Groups}, {"clients", o.Clients}, {"keys", o.Keys}} {
			for v := int64(1); v < n.have; v *= 2 {
				if try(n.name + "=" + strconv.FormatInt(v, 10)) {
					break
				}
			}
		}
		before := o.String()
		_ = o.SetAll(strings.Join(smallest, " ")) // as above
		if o.String() == before {
			break
		}
	}
	for t := o.Safety / 16; t < o.Safety; t *= 2 {
		if try("safety=" + t.String()) {
			break
		}
	}
	return smallest, last
}

// off reports whether a fault is off.
func (o *Options) off(name string) bool {
	c := *o
	return c.Set(name+"="+offValue(name)) == nil && c.String() == o.String()
}

func offValue(name string) string {
	switch name {
	case "leases", "homes", "adaptive", "answerearly":
		return "false"
	}
	return "0"
}
