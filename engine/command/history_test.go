// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atlas-edge/atlas/engine/authz"
)

// chooser picks a number below n: rapid, which shrinks, or a seeded stream.
type chooser func(what string, n int) int

// history is a random sequence of commands, decided by four machines that must agree: the slow twin, which keeps all
// versions; Apply on each command alone; and Apply through an Overlay over batches cut at random, twice. The last three
// see encoded commands and collect old versions and changes each at moments of its own.
type history struct {
	choose  chooser
	at      Timestamp
	slow    *model
	single  *model
	batched [2]*batchedModel
	pending []Timestamp // snapshots that transactions may still stand on
	kinds   []MutationKind
	worms   bool
	seen    map[string]int
}

// batchedModel is a model that gets its writes a batch at a time.
type batchedModel struct {
	base    *model
	overlay *Overlay
	queue   []func()
}

func (b *batchedModel) Put(rest []byte, at Timestamp, seq uint32, v Version) {
	b.queue = append(b.queue, func() { b.base.Put(rest, at, seq, v) })
}

func (b *batchedModel) Delete(rest []byte, at Timestamp, seq uint32, kind ChangeKind) {
	b.queue = append(b.queue, func() { b.base.Delete(rest, at, seq, kind) })
}

func (b *batchedModel) SetGrants(o authz.Object, g *authz.Grants) {
	b.queue = append(b.queue, func() { b.base.SetGrants(o, g) })
}

func (b *batchedModel) SetState(s GroupState) {
	b.queue = append(b.queue, func() { b.base.SetState(s) })
}

func (b *batchedModel) commit() {
	for _, write := range b.queue {
		write()
	}
	b.queue = b.queue[:0]
	b.overlay.Reset(b.base, b)
}

func newHistory(choose chooser) *history {
	group := []string{"g", "g", "g", "g", "atlas"}[choose("group", 5)]
	h := &history{choose: choose, at: 1_700_000_000_000_000_000, slow: newModel(group), single: newModel(group), seen: map[string]int{}}
	// Swarm: a history without grants, deletes or write-once keys goes further in what it has.
	h.kinds = []MutationKind{Put, Put, Put, Put}
	for _, more := range [][]MutationKind{{Delete, Delete}, {Expire}, {Grant, Revoke, ResetGrants}} {
		if h.oneIn("swarm", 2) {
			h.kinds = append(h.kinds, more...)
		}
	}
	h.worms = h.oneIn("worms", 2)
	for i := range h.batched {
		b := &batchedModel{base: newModel(group)}
		b.overlay = NewOverlay(b.base, b)
		h.batched[i] = b
	}
	return h
}

func (h *history) oneIn(what string, n int) bool { return h.choose(what, n) == n-1 }

func pick[T any](h *history, what string, from ...T) T { return from[h.choose(what, len(from))] }

var historyRests = []string{".a", ".b", ".c", "/t.a", "/t.b", ".principals.p"}

func (h *history) rest() []byte { return []byte(pick(h, "rest", historyRests...)) }

// run makes n commands and returns the first disagreement.
func (h *history) run(n int) error {
	for i := range n {
		step := pick[Timestamp](h, "wait", 1, 1, 1, Timestamp(time.Second), Timestamp(20*time.Second), Timestamp(2*time.Minute))
		h.at += step
		c := h.command()
		if err := c.Validate(); err != nil {
			h.seen["refused by Validate"]++
			continue
		}
		if err := h.decide(c); err != nil {
			return fmt.Errorf("command %d at %d, %s: %w", i, h.at, describe(c), err)
		}
		h.pending = append(h.pending, h.at)
	}
	for _, b := range h.batched {
		b.commit()
	}
	return h.compare()
}

// decide gives one command to all machines.
func (h *history) decide(c *Command) error {
	guarded := h.writeOnce()
	unchanged := true
	if c.Reads != nil {
		unchanged = h.reads(c.Reads, c.Reads.Snapshot) == h.reads(c.Reads, h.at)
	}
	encoded := c.AppendTo(make([]byte, 0, c.EncodedSize()))
	if len(encoded) != c.EncodedSize() {
		return fmt.Errorf("encoded to %d bytes, EncodedSize is %d", len(encoded), c.EncodedSize())
	}
	before := h.single.hash()
	got, err := ApplyEncoded(h.single, h.single, h.at, new(Command), encoded)
	if err != nil {
		return fmt.Errorf("alone: %w", err)
	}
	h.seen[got.Outcome.String()]++
	if got.Outcome == Applied && c.Reads != nil {
		h.seen["transactions applied"]++
	}
	if strings.Contains(got.Text, "has changed since") {
		h.seen["transactions refused for a change"]++
	}
	if strings.Contains(got.Text, "write-once") {
		h.seen["refused as write-once"]++
	}
	if want := slowApply(h.slow, h.at, c); got.Outcome != want {
		return fmt.Errorf("decided %v (%s), the twin says %v", got.Outcome, got.Text, want)
	}
	if err := checkResult(got, h.at); err != nil {
		return err
	}
	if got.Outcome != Applied && h.single.hash() != before {
		return fmt.Errorf("refused (%s), and the state changed", got.Text)
	}
	if got.Outcome == Applied && !unchanged {
		return fmt.Errorf("applied on reads that are stale: not serializable")
	}
	if err := h.checkWriteOnce(guarded); err != nil {
		return err
	}
	for i, b := range h.batched {
		again, err := ApplyEncoded(b.overlay, b.overlay, h.at, new(Command), bytes.Clone(encoded))
		if err != nil {
			return fmt.Errorf("in batches %d: %w", i, err)
		}
		if again != got {
			return fmt.Errorf("in batches %d: %+v, alone: %+v", i, again, got)
		}
		if h.oneIn("commit", []int{3, 40}[i]) {
			b.commit()
		}
	}
	h.collect()
	return h.compare()
}

// compare compares the states of the machines that have no batch open.
func (h *history) compare() error {
	if h.slow.hash() != h.single.hash() {
		return fmt.Errorf("state %s, the twin has %s", h.single.hash(), h.slow.hash())
	}
	for i, b := range h.batched {
		if len(b.queue) == 0 && b.base.hash() != h.single.hash() {
			return fmt.Errorf("state in batches %d differs from the state alone", i)
		}
	}
	return nil
}

// collect lets the machines forget, up to the oldest moment that a command yet to come may look back to.
func (h *history) collect() {
	if h.at < Timestamp(SnapshotAgeMax) {
		return
	}
	floor := h.at - Timestamp(SnapshotAgeMax)
	for _, m := range []*model{h.single, h.batched[0].base, h.batched[1].base} {
		if h.oneIn("collect", 8) {
			m.collect(floor)
		}
	}
}

func checkResult(r Result, at Timestamp) error {
	switch {
	case r.Version != at:
		return fmt.Errorf("version %d", r.Version)
	case (r.Outcome == Applied) != (r.Text == ""):
		return fmt.Errorf("outcome %v with text %q", r.Outcome, r.Text)
	case strings.ContainsFunc(r.Text, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return fmt.Errorf("text %q holds a control character", r.Text)
	case r.Outcome != Applied && r.Changes != 0:
		return fmt.Errorf("refused with %d changes", r.Changes)
	}
	return nil
}

// writeOnce is the keys that may not change now, with their versions.
func (h *history) writeOnce() map[string]Timestamp {
	guarded := map[string]Timestamp{}
	for _, rest := range historyRests {
		if v, ok := h.slow.readAt(rest, h.at); ok && v.meta.WormUntil > h.at {
			guarded[rest] = v.meta.Version
		}
	}
	return guarded
}

func (h *history) checkWriteOnce(guarded map[string]Timestamp) error {
	for rest, version := range guarded {
		if v, ok := h.single.readAt(rest, h.at); !ok || v.meta.Version != version {
			return fmt.Errorf("write-once key %s at %d is now at %d", rest, version, v.meta.Version)
		}
	}
	return nil
}

// reads is what a read set sees at a time, as text.
func (h *history) reads(s *ReadSet, at Timestamp) string {
	var b strings.Builder
	for _, rest := range historyRests {
		if v, ok := h.slow.readAt(rest, at); ok && readSetHolds(s, rest) {
			fmt.Fprintf(&b, "%s@%d ", rest, v.meta.Version)
		}
	}
	return b.String()
}

func (h *history) command() *Command {
	c := &Command{
		Principal: pick(h, "principal", "alice", "alice", "bob", "carol", ""),
		Admin:     h.oneIn("admin", 12),
		System:    h.oneIn("system", 6),
	}
	for range h.choose("conditions", 5) / 3 {
		c.Conditions = append(c.Conditions, h.condition())
	}
	for range 1 + h.choose("mutations", 4) {
		m := h.mutation()
		if !slices.ContainsFunc(c.Mutations, func(o Mutation) bool { return o.sameTarget(&m) }) || h.oneIn("twice", 20) {
			c.Mutations = append(c.Mutations, m)
		}
	}
	if h.oneIn("transaction", 2) {
		c.Reads = h.readSet()
	}
	return c
}

func (h *history) condition() Condition {
	rest := h.rest()
	switch h.choose("condition", 4) {
	case 0:
		return Condition{Kind: Absent, Rest: rest}
	case 1:
		return Condition{Kind: VersionIs, Rest: rest, Version: pick(h, "version", 0, h.at, h.at-1)}
	default:
		v, _ := h.slow.readAt(string(rest), h.at)
		return Condition{Kind: VersionIs, Rest: rest, Version: v.meta.Version}
	}
}

func (h *history) mutation() Mutation {
	m := Mutation{Kind: pick(h, "mutation", h.kinds...), Rest: h.rest()}
	switch m.Kind {
	case Put:
		m.Value = []byte{byte('a' + h.choose("value", 26))}
		soon := []time.Duration{1, time.Second, time.Minute, 10 * time.Minute}
		lifetime := h.choose("lifetime", 10)
		if !h.worms {
			lifetime %= 5
		}
		switch lifetime {
		case 0, 1:
			m.TTL = pick(h, "ttl", soon...)
		case 2:
			m.Expires = h.at + Timestamp(pick(h, "expires", soon...)) - Timestamp(h.choose("early", 3))
		case 5:
			m.WormTTL = pick(h, "worm ttl", soon...)
		case 6:
			m.WormUntil = h.at + Timestamp(pick(h, "worm", soon...)) - Timestamp(h.choose("early", 3))
		case 7:
			m.TTL, m.WormTTL = pick(h, "ttl", soon...), pick(h, "worm ttl", soon...)
		}
	case Expire:
		v, _ := h.slow.readAt(string(m.Rest), h.at)
		m.Version = v.meta.Version - Timestamp(h.choose("off", 8)/7)
	case Grant, Revoke, ResetGrants:
		m.Object = pick(h, "object", authz.KindKey, authz.KindTable)
		if m.Object == authz.KindTable {
			m.Rest = authz.Object{Kind: authz.KindKey, Rest: m.Rest}.Table().Rest
		}
		if m.Kind != ResetGrants {
			m.Principal = pick(h, "to", "alice", "bob", "carol")
			m.Perms = authz.Perm(1 + h.choose("perms", 7))
		}
	}
	return m
}

// readSet is an honest one: ValidUntil is what a reader at the snapshot would have seen.
func (h *history) readSet() *ReadSet {
	s := &ReadSet{Snapshot: h.at - 1 - Timestamp(h.choose("ago", 3))}
	if n := len(h.pending); n > 0 {
		s.Snapshot = h.pending[n-1-min(h.choose("back", 6), n-1)]
	}
	for range h.choose("keys", 8) {
		s.Keys = append(s.Keys, h.rest())
	}
	for range h.choose("ranges", 6) / 3 {
		r := Range{Lower: h.rest(), Upper: append(h.rest(), pick(h, "upper", "", "\x00", "z")...)}
		if bytes.Compare(r.Lower, r.Upper) > 0 && !h.oneIn("backwards", 20) {
			r.Lower, r.Upper = r.Upper, r.Lower
		}
		if h.oneIn("open", 5) {
			r.Upper = nil
		}
		s.Ranges = append(s.Ranges, r)
	}
	for _, rest := range historyRests {
		v, ok := h.slow.readAt(rest, s.Snapshot)
		if e := v.meta.Expires; ok && e != 0 && readSetHolds(s, rest) && (s.ValidUntil == 0 || e < s.ValidUntil) {
			s.ValidUntil = e
		}
	}
	return s
}

func describe(c *Command) string {
	text := fmt.Sprintf("%q admin=%v system=%v if %+v do", c.Principal, c.Admin, c.System, c.Conditions)
	for _, m := range c.Mutations {
		text += fmt.Sprintf(" %+v", m)
	}
	if c.Reads != nil {
		text += fmt.Sprintf(" having read %+v", *c.Reads)
	}
	return text
}

// TestHistories compares all machines, shrinking what it finds.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(t, what) })
		if err := h.run(rapid.IntRange(1, 60).Draw(t, "commands")); err != nil {
			t.Fatal(err)
		}
	})
}

var historySeed = flag.Uint64("seed", 0, "seed of TestLongHistories; 0 = the fixed one")

// TestLongHistories runs long ones, and shows that they come everywhere.
func TestLongHistories(t *testing.T) {
	seed := *historySeed
	if seed == 0 {
		seed = 20_260_101
	}
	runs := 20
	if os.Getenv("ATLAS_LONG") != "" {
		runs = 3000
	}
	t.Logf("seed=%d runs=%d; replay: go test ./engine/command -run TestLongHistories -seed %d", seed, runs, seed)
	seen := map[string]int{}
	for i := range runs {
		h := seededHistory(seed + uint64(i))
		if err := h.run(400); err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./engine/command -run TestLongHistories -seed %d", seed+uint64(i), err, seed+uint64(i))
		}
		for what, n := range h.seen {
			seen[what] += n
		}
	}
	t.Logf("commands: %v", seen)
	for _, what := range []string{
		"applied", "denied", "conflict", "invalid", "transactions applied", "transactions refused for a change", "refused as write-once",
	} {
		if seen[what] < 100 {
			t.Errorf("%s: only %d", what, seen[what])
		}
	}
}

func seededHistory(seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 1))
	return newHistory(func(_ string, n int) int { return rng.IntN(n) })
}
