// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/conformance/history"
)

const (
	crashClients = 6
	crashKeys    = 4
)

// crashRounds is how many crashes of a kind a test makes.
func crashRounds() int {
	if long() {
		return 100
	}
	return 10
}

// crashLoad is what clients do to one table while its node crashes, and what they were told. Nothing acknowledged may be
// lost, nothing refused may appear, nothing may be half there. (G1, G2, G3, G4, G30)
type crashLoad struct {
	e     *env
	table string
	from  uint64 // version before the first write
	rec   *recorder
	rng   *rand.Rand

	enough    int64 // acknowledged operations after which the crash comes
	acked     atomic.Int64
	reached   chan struct{} // closed when enough was acknowledged, or a client ended before
	once      sync.Once
	mu        sync.Mutex
	uploads   []upload
	pair      []upload // values written to both keys of the pair, in order
	story     []told   // what a live watch told
	cutOff    int      // clients whose connection broke
	unplanned error    // an answer that no client should get
}

// upload is a value sent and when it was acknowledged; history.Never when it was not.
type upload struct {
	key, value string
	call, done int64
}

// told is an event and when it came.
type told struct {
	history.Change
	at int64
}

func newCrashLoad(t *testing.T, e *env, rng *rand.Rand) *crashLoad {
	t.Helper()
	l := &crashLoad{
		e: e, table: e.freshTable(), rec: newRecorder(), rng: rng, enough: 100 + rng.Int64N(250), reached: make(chan struct{}),
	}
	var err error
	if l.from, err = e.mark(t.Context(), l.table); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *crashLoad) ack() {
	if l.acked.Add(1) == l.enough {
		l.once.Do(func() { close(l.reached) })
	}
}

// client runs one client until its connection breaks.
func (l *crashLoad) client(c *conn, body func(*conn) error) {
	var err error
	for err == nil {
		err = body(c)
	}
	l.once.Do(func() { close(l.reached) })
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Contains(err.Error(), "answered") || strings.Contains(err.Error(), "refused with") {
		l.unplanned = errors.Join(l.unplanned, err)
	}
	l.cutOff++
	// The connection is broken already; closing it only gives its descriptor back.
	_ = c.close() // its error says nothing new
}

// run loads the node and has it crash when enough was acknowledged. It returns when all clients are gone.
func (l *crashLoad) run(ctx context.Context, crash func()) error {
	bodies := []func(*conn) error{l.uploader(rand.New(rand.NewPCG(l.rng.Uint64(), 1))), l.pairer(), l.follower()}
	for i := range crashClients {
		bodies = append(bodies, l.writer(i, rand.New(rand.NewPCG(l.rng.Uint64(), 0))))
	}
	// All are connected before the first begins: a crash that comes early must find everybody there.
	conns := make([]*conn, len(bodies))
	for i := range conns {
		var err error
		if conns[i], err = l.e.session(ctx); err != nil {
			return err
		}
	}
	return together(len(bodies)+1, func(i int) error {
		if i < len(bodies) {
			l.client(conns[i], bodies[i])
			return nil
		}
		<-l.reached
		crash()
		return nil
	})
}

// writer reads and writes single keys.
func (l *crashLoad) writer(id int, rng *rand.Rand) func(*conn) error {
	var k *keyClient
	return func(c *conn) error {
		if k == nil {
			k = &keyClient{c: c, id: id, table: l.table, keys: crashKeys, rng: rng, rec: l.rec, seen: map[string]uint64{}}
		}
		err := k.next()
		if err == nil {
			l.ack()
		}
		return err
	}
}

// uploader stores blobs, small ones and some that take many pieces on disk, each under a key of its own.
func (l *crashLoad) uploader(rng *rand.Rand) func(*conn) error {
	sizes := []int{0, 10, 5000, 70 << 10, 300 << 10, 900 << 10}
	n := 0
	return func(c *conn) error {
		n++
		u := upload{key: fmt.Sprintf("%s.b%d", l.table, n), call: l.rec.now(), done: history.Never}
		u.value = pattern(u.key, sizes[rng.IntN(len(sizes))])
		err := c.upload(u.key, u.value)
		if err == nil {
			u.done = l.rec.now()
			l.ack()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.uploads = append(l.uploads, u)
		return err
	}
}

// pairer writes one value to two keys in each transaction.
func (l *crashLoad) pairer() func(*conn) error {
	n := 0
	return func(c *conn) error {
		n++
		u := upload{value: fmt.Sprintf("pair-%d", n), call: l.rec.now(), done: history.Never}
		err := c.txn(func() error {
			for _, key := range []string{".p0", ".p1"} {
				if _, err := c.must("KEY PUT " + l.table + key + " " + u.value); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			u.done = l.rec.now()
			l.ack()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pair = append(l.pair, u)
		return err
	}
}

// follower watches the table.
func (l *crashLoad) follower() func(*conn) error {
	var w *watcher
	return func(c *conn) (err error) {
		if w == nil {
			if w, err = c.watch(l.table, l.from); err != nil {
				return err
			}
		}
		ev, err := w.next()
		if err == nil {
			l.mu.Lock()
			l.story = append(l.story, told{ev, l.rec.now()})
			l.mu.Unlock()
		}
		return err
	}
}

// cut makes what was told after the state was taken, between two moments, what it is for the state that was kept: an
// operation that ended after the first is unknown, one that began after the second never was.
func (l *crashLoad) cut(before, after int64) {
	var kept []history.Op
	for _, o := range l.rec.ops {
		switch {
		case o.Return <= before:
		case o.Call > after, o.Kind == history.Read:
			continue
		case o.Outcome == history.Refused:
			o.Conditional = false // by a state that is gone
		default:
			o.Outcome, o.Return, o.Version = history.Unknown, history.Never, 0
		}
		kept = append(kept, o)
	}
	l.rec.ops = kept
	for _, list := range []*[]upload{&l.uploads, &l.pair} {
		var kept []upload
		for _, u := range *list {
			if u.done > before {
				u.done = history.Never
			}
			if u.call <= after {
				kept = append(kept, u)
			}
		}
		*list = kept
	}
	for i, s := range l.story {
		if s.at > before {
			l.story = l.story[:i]
			break
		}
	}
}

// verify asks the node that came after the crash for everything, and holds it against what the clients were told.
func (l *crashLoad) verify(ctx context.Context, e *env) error {
	if l.unplanned != nil {
		return l.unplanned
	}
	if l.cutOff != crashClients+3 {
		return fmt.Errorf("%d of %d clients were cut off: there was no crash", l.cutOff, crashClients+3)
	}
	err := e.with(ctx, func(c *conn) error {
		k := &keyClient{c: c, id: crashClients, table: l.table, rec: l.rec, seen: map[string]uint64{}}
		for i := range crashKeys {
			if err := k.read(k.key(i)); err != nil {
				return err
			}
		}
		return errors.Join(l.verifyUploads(c), l.verifyPair(c))
	})
	if err != nil {
		return err
	}
	log, err := e.replay(ctx, l.table, l.from)
	if err != nil {
		return err
	}
	// What a watch told before the crash was durable: it is how the log begins, up to the changes of other keys with the same
	// version, which it may not have come to.
	if len(l.story) > len(log) {
		return fmt.Errorf("a watch told %d changes before the crash, and %d are left", len(l.story), len(log))
	}
	for i, s := range l.story {
		if s.Change != log[i] {
			return fmt.Errorf("a watch told %v before the crash, and the log has %v in its place", s.Change, log[i])
		}
	}
	var single []history.Change
	for _, c := range log {
		if strings.HasPrefix(c.Key, l.table+".k") {
			single = append(single, c)
		}
	}
	return e.judge(l.rec.all(), single)
}

func (l *crashLoad) verifyUploads(c *conn) error {
	for _, u := range l.uploads {
		r, err := c.do("KEY BLOB GET " + u.key)
		if err != nil {
			return err
		}
		switch {
		case len(r.blobs) == 1 && string(r.blobs[0]) == u.value:
		case len(r.blobs) == 0 && u.done == history.Never && r.lines[0] == "EMPTY":
		default:
			return fmt.Errorf("%s, %d bytes, acknowledged: %v: gives %.100q", u.key, len(u.value), u.done != history.Never, r.lines)
		}
	}
	return nil
}

func (l *crashLoad) verifyPair(c *conn) error {
	a, err := c.must("KEY GET " + l.table + ".p0")
	if err != nil {
		return err
	}
	b, err := c.must("KEY GET " + l.table + ".p1")
	if err != nil {
		return err
	}
	if a[0] != b[0] {
		return fmt.Errorf("half of a transaction: %q and %q", a, b)
	}
	// The last that was acknowledged, or one after it.
	allowed := []string{"NOT_FOUND"}
	for _, u := range l.pair {
		if u.done != history.Never {
			allowed = nil
		}
		allowed = append(allowed, "VALUE:"+u.value)
	}
	for _, want := range allowed {
		if a[0] == want {
			return nil
		}
	}
	return fmt.Errorf("the pair is %q, want one of %q", a[0], allowed)
}

// settled is the state of a table after its round, which later rounds must not change.
type settled struct {
	table string
	keys  []string
}

func settle(ctx context.Context, e *env, table string) (s settled, err error) {
	s.table = table
	err = e.with(ctx, func(c *conn) error {
		s.keys, err = c.must("SCAN " + table + " VALUES")
		return err
	})
	return s, err
}

func (s settled) check(ctx context.Context, e *env) error {
	again, err := settle(ctx, e, s.table)
	if err == nil && strings.Join(again.keys, "\n") != strings.Join(s.keys, "\n") {
		err = fmt.Errorf("table %s changed after its round", s.table)
	}
	return err
}

// crashSeed prints the seed and how to replay it.
func crashSeed(t *testing.T) *rand.Rand {
	t.Helper()
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("seed=%d; replay with go test ./conformance -run %s -seed %d", n, t.Name(), n)
	return rand.New(rand.NewPCG(n, 0))
}

// TestKill kills the real binary under load, again and again on one directory, and checks after each restart.
// (G1, G2, G3, G4, G21, G29, G30)
func TestKill(t *testing.T) {
	own(t)
	rng := crashSeed(t)
	dir, path := filepath.Join(t.TempDir(), "data"), filepath.Join(socketDir(t), "s")
	p := startProcess(t, dir, path, 0)
	var past []settled
	for round := range crashRounds() {
		e := crashEnv(t, path)
		l := newCrashLoad(t, e, rng)
		if err := l.run(t.Context(), func() { p.kill(t) }); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		p = startProcess(t, dir, path, 0)
		past = crashRound(t, e, l, round, past)
	}
	addRounds("SIGKILL", crashRounds())
}

// TestStop asks the real binary to stop while clients load it: it does, and what was answered is there afterwards, and
// what was not is there whole or not at all. (G1, G2, G4)
func TestStop(t *testing.T) {
	own(t)
	rng := crashSeed(t)
	dir, path := filepath.Join(t.TempDir(), "data"), filepath.Join(socketDir(t), "s")
	p := startProcess(t, dir, path, 0)
	e := crashEnv(t, path)
	l := newCrashLoad(t, e, rng)
	if err := l.run(t.Context(), func() { p.stop(t) }); err != nil {
		t.Fatal(err)
	}
	if p.cmd.ProcessState == nil || p.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("the node ended with %v:\n%s", p.cmd.ProcessState, p.log.tail())
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a node that stopped leaves its socket: %v", err)
	}
	startProcess(t, dir, path, 0)
	crashRound(t, e, l, 0, nil)
	addRounds("SIGTERM", 1)
}

// TestPowerLoss runs a node on a file system in memory that keeps, at a crash, what was synced and a part of what was
// not, and goes on from there. (G1, G2, G3, G4, G5, G21, G30)
func TestPowerLoss(t *testing.T) {
	own(t)
	rng := crashSeed(t)
	mem := vfs.NewCrashableMem()
	dir := socketDir(t)
	open := func(round int) *node {
		n, err := openNode(t.Context(), nodeOptions{dir: "/atlas/data", fs: &faultyFS{FS: mem}}, filepath.Join(dir, fmt.Sprintf("s%d", round)))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		return n
	}
	n := open(0)
	var past []settled
	for round := range crashRounds() {
		e := crashEnv(t, n.path)
		l := newCrashLoad(t, e, rng)
		keep := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[round%3], RNG: rand.New(rand.NewPCG(rng.Uint64(), 0))}
		var before, after int64
		err := l.run(t.Context(), func() {
			before = l.rec.now()
			mem = mem.CrashClone(keep)
			after = l.rec.now()
			// What the old node still does concerns nobody: its disk is gone.
			if err := n.cut(); err != nil {
				t.Logf("round %d: close the node that lost its power: %v", round, err)
			}
		})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		l.cut(before, after)
		n = open(round + 1)
		e.address = n.path
		past = crashRound(t, e, l, round, past)
	}
	if err := n.close(); err != nil {
		t.Error(err)
	}
	addRounds("power loss", crashRounds())
}

func crashEnv(t *testing.T, address string) *env {
	t.Helper()
	e, err := newEnv(t.Context(), Options{Address: address, Artifacts: t.ArtifactDir()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// crashRound checks one round and all before it, and counts it.
func crashRound(t *testing.T, e *env, l *crashLoad, round int, past []settled) []settled {
	t.Helper()
	if err := l.verify(t.Context(), e); err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	for _, s := range past {
		if err := s.check(t.Context(), e); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	s, err := settle(t.Context(), e, l.table)
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	total.Lock()
	defer total.Unlock()
	total.Operations += int(e.operations.Load()) + len(l.uploads) + len(l.pair)
	if len(past) == 5 {
		past = past[1:]
	}
	return append(past, s)
}

// TestCut: what is told about a state that is gone is no evidence, in the oracle's own terms.
func TestCut(t *testing.T) {
	op := func(call, ret int64, kind history.Kind, out history.Outcome) history.Op {
		return history.Op{Call: call, Return: ret, Kind: kind, Outcome: out, Version: 7, Conditional: true}
	}
	l := &crashLoad{rec: newRecorder()}
	l.rec.ops = []history.Op{
		op(1, 2, history.Write, history.Done), op(3, 12, history.Write, history.Done), op(11, 30, history.Write, history.Done),
		op(21, 30, history.Write, history.Done), op(3, 12, history.Read, history.Done), op(3, 12, history.Write, history.Refused),
	}
	l.uploads = []upload{{done: 9}, {done: 11}, {call: 21, done: 30}}
	l.story = []told{{at: 5}, {at: 10}, {at: 11}}
	l.cut(10, 20)
	want := []history.Outcome{history.Done, history.Unknown, history.Unknown, history.Refused}
	for i, o := range l.rec.ops {
		if i >= len(want) || o.Outcome != want[i] || (o.Outcome == history.Unknown) != (o.Return == math.MaxInt64) {
			t.Errorf("operation %d is %v", i, o)
		}
	}
	if len(l.rec.ops) != len(want) || len(l.uploads) != 2 || l.uploads[1].done != history.Never || len(l.story) != 2 {
		t.Errorf("left are %v, %v, %v", l.rec.ops, l.uploads, l.story)
	}
}
