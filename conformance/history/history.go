// SPDX-License-Identifier: AGPL-3.0-only

// Package history records what concurrent clients did to single keys, and checks that it could have happened.
//
// Two checkers judge a history. Witness is the first: every answered operation carries the version that it wrote or
// read, so that one pass over the operations in order of their calls finds a stale read, a lost write or a version given
// twice, and names the two operations that contradict each other. Linearizable is the second, and independent of the
// first: porcupine's search, key by key, against a register with versions. The search does not end in useful time when many
// outcomes are unknown, so Resolve settles those first from the log of changes that the node keeps.
//
// Times are nanoseconds of one monotonic clock. The package keeps no state and starts no goroutine; porcupine starts its
// own and waits for them.
package history

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Kind is what an operation does.
type Kind uint8

// The kinds of operations.
const (
	Read Kind = iota + 1
	Write
	Delete
)

// Outcome is what the client learned.
type Outcome uint8

// The outcomes. A refused operation was answered and did nothing; an unknown one was not answered.
const (
	Done Outcome = iota + 1
	Refused
	Unknown
)

// Never is the return time of an operation whose answer did not come.
const Never = math.MaxInt64

// Op is one operation of one client on one key.
type Op struct {
	Client       int
	Key          string
	Kind         Kind
	Outcome      Outcome
	Call, Return int64
	// Value is what was written or read; writes of a key are all different. Present is false when a read found nothing.
	Value   string
	Present bool
	// Version is the version written or read; of a Done read that found nothing it is 0.
	Version uint64
	// Conditional says that the write was to happen only if the key's version was Expect; 0 expects an absent key.
	Conditional bool
	Expect      uint64
}

func (o Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client %d [%d, ", o.Client, o.Call)
	if o.Return == Never {
		b.WriteString("never] ")
	} else {
		fmt.Fprintf(&b, "%d] ", o.Return)
	}
	switch o.Kind {
	case Read:
		fmt.Fprintf(&b, "read %s", o.Key)
		if o.Outcome == Done && !o.Present {
			b.WriteString(" -> nothing")
		} else if o.Outcome == Done {
			fmt.Fprintf(&b, " -> %q @%d", o.Value, o.Version)
		}
	case Write, Delete:
		verb := map[Kind]string{Write: "write", Delete: "delete"}[o.Kind]
		fmt.Fprintf(&b, "%s %s %q", verb, o.Key, o.Value)
		if o.Conditional {
			fmt.Fprintf(&b, " if @%d", o.Expect)
		}
		if o.Outcome == Done {
			fmt.Fprintf(&b, " -> @%d", o.Version)
		}
	}
	switch o.Outcome {
	case Refused:
		b.WriteString(" -> refused")
	case Unknown:
		b.WriteString(" -> unknown")
	case Done:
	}
	return b.String()
}

// Change is one entry of the log of changes of a key, as a watch delivers it.
type Change struct {
	Key     string
	Version uint64
	Deleted bool
}

// ErrAssumption is what a history fails with when it is not one that the checkers can judge: the recorder is wrong.
var ErrAssumption = errors.New("history breaks an assumption")

// Assumptions checks what the checkers rely on: clients are sequential, calls precede returns, written values differ.
func Assumptions(ops []Op) error {
	last := map[int]int64{}
	written := map[string]bool{}
	for _, o := range byCall(ops) {
		if o.Return < o.Call {
			return fmt.Errorf("%w: %v returns before its call", ErrAssumption, o)
		}
		if o.Call < last[o.Client] {
			return fmt.Errorf("%w: %v begins before the client's last operation ended", ErrAssumption, o)
		}
		if o.Outcome != Unknown {
			last[o.Client] = o.Return
		}
		if o.Kind == Write {
			if id := o.Key + "\x00" + o.Value; written[id] {
				return fmt.Errorf("%w: %v writes a value written before", ErrAssumption, o)
			} else {
				written[id] = true
			}
		}
	}
	return nil
}

// byCall is a copy of the operations in order of their calls.
func byCall(ops []Op) []Op {
	sorted := slices.Clone(ops)
	slices.SortStableFunc(sorted, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
	return sorted
}

// byKey splits operations by key, each part in order of calls.
func byKey(ops []Op) map[string][]Op {
	keys := map[string][]Op{}
	for _, o := range byCall(ops) {
		keys[o.Key] = append(keys[o.Key], o)
	}
	return keys
}

// Resolve settles the unknown operations with the complete log of changes of the keys: an unknown write that is in the
// log becomes Done, with its version and the latest time at which it can have taken effect; one that is not becomes
// absent. Unknown reads are dropped. It fails when the log and the answered operations contradict each other: an
// answered change that is missing, a change that nobody made, a value that was read and never written.
func Resolve(ops []Op, log []Change) ([]Op, error) {
	logs := map[string][]Change{}
	for _, c := range log {
		logs[c.Key] = append(logs[c.Key], c)
	}
	keys := byKey(ops)
	for key := range logs {
		if keys[key] == nil {
			return nil, fmt.Errorf("the log changes %s, which nobody wrote", key)
		}
	}
	var out []Op
	for key, ops := range keys {
		resolved, err := resolveKey(ops, logs[key])
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", key, err)
		}
		out = append(out, resolved...)
	}
	return byCall(out), nil
}

func resolveKey(ops []Op, log []Change) ([]Op, error) {
	slices.SortFunc(log, func(a, b Change) int { return cmp.Compare(a.Version, b.Version) })
	free := map[uint64]Change{}
	for _, c := range log {
		if _, twice := free[c.Version]; twice {
			return nil, fmt.Errorf("the log has version %d twice", c.Version)
		}
		free[c.Version] = c
	}
	readAs := map[string]uint64{} // value -> version under which it was read
	var known, unknown []Op
	for _, o := range ops {
		switch {
		case o.Outcome == Unknown && o.Kind != Read:
			unknown = append(unknown, o)
		case o.Outcome == Done && o.Kind != Read:
			c, ok := free[o.Version]
			if !ok || c.Deleted != (o.Kind == Delete) {
				return nil, fmt.Errorf("%v was answered, and the log has no such change", o)
			}
			delete(free, o.Version)
			known = append(known, o)
		case o.Outcome != Unknown:
			known = append(known, o)
			if o.Kind == Read && o.Present {
				readAs[o.Value] = o.Version
			}
		}
	}
	// First those whose value somebody read: there is no choice. Then the others, in order of versions. What limits a
	// version's write is its condition, and that it began before anybody saw that version or a later one. A conditional
	// write that fits goes first, for it fits hardly anywhere else; among equals the one that was called first.
	rest := unknown[:0:0]
	for _, o := range unknown {
		v, read := readAs[o.Value]
		if c, ok := free[v]; o.Kind == Write && read && ok && !c.Deleted {
			delete(free, v)
			known = append(known, settle(o, v, known))
			continue
		}
		rest = append(rest, o)
	}
	for i, c := range log {
		if _, open := free[c.Version]; !open {
			continue
		}
		var live uint64
		if i > 0 && !log[i-1].Deleted {
			live = log[i-1].Version
		}
		best := -1
		for j, o := range rest {
			fits := (o.Kind == Delete) == c.Deleted && (!o.Conditional || o.Expect == live) && o.Call < seen(c.Version, known)
			if fits && (best < 0 || (o.Conditional && !rest[best].Conditional)) {
				best = j
			}
		}
		if best < 0 {
			return nil, fmt.Errorf("the log has a change @%d that nobody made", c.Version)
		}
		known = append(known, settle(rest[best], c.Version, known))
		rest = slices.Delete(rest, best, best+1)
	}
	return known, nil
}

// settle makes an unknown write a done one. It ended at the latest when its version, or a later one, was first seen.
func settle(o Op, version uint64, known []Op) Op {
	o.Outcome, o.Version = Done, version
	o.Return = max(o.Call, seen(version, known))
	return o
}

// seen is when the first operation returned that saw or made a version at least as high.
func seen(version uint64, known []Op) int64 {
	first := int64(Never)
	for _, k := range known {
		if k.Outcome == Done && k.Version >= version {
			first = min(first, k.Return)
		}
	}
	return first
}
