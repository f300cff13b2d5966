// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/cli/progress"
	"github.com/atlas-edge/atlas/client/wire"
)

const (
	inFlightMax = 1024
	heldMax     = 64 << 20        // bytes of values that await their writes
	stateEvery  = time.Second     // how often the state file is written
	retryFor    = 2 * time.Minute // how long a write is tried again while the server is away
	clocksApart = time.Minute     // how far the server's clock may be ahead of ours where ends of values are near
)

func importFile(ctx context.Context, o ImportOptions, s cli.Streams) (err error) {
	if o.InFlight == 0 {
		o.InFlight = 256
	}
	standard := o.Path == "" || o.Path == "-"
	name := o.Path
	if standard {
		name = "standard input"
	}
	switch {
	case o.InFlight < 1 || o.InFlight > inFlightMax:
		return fmt.Errorf("%w: %d writes in flight are not within 1 to %d", errUsage, o.InFlight, inFlightMax)
	case standard && cli.IsTerminal(s.In):
		return fmt.Errorf("%w: an import is not from a terminal: name a file", errUsage)
	case o.Resume && standard:
		return fmt.Errorf("%w: only the import of a file can be continued", errUsage)
	case o.Verify && (o.CheckOnly || o.Resume || o.IfAbsent), o.CheckOnly && o.Resume:
		return fmt.Errorf("%w: --verify and --check exclude each other, and what goes with writing", errUsage)
	}
	file := io.ReadCloser(nopCloser{s.In})
	size := int64(-1)
	if f, ok := s.In.(*os.File); ok && standard {
		if file, err = cli.NewInput(ctx, f); err != nil {
			return err
		}
	}
	if !standard {
		f, err := os.Open(o.Path)
		if err != nil {
			return err
		}
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		file = f
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	bar := (*progress.Bar)(nil)
	if !o.Quiet {
		bar = progress.Bytes(s.Err, "import", size)
		defer bar.Done()
	}
	rd, err := newReader(bar.Reader(file))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case o.CheckOnly:
		err = checkFile(rd)
	case o.Verify:
		err = reason(ctx, verify(ctx, o, s, rd, bar))
	default:
		err = load(ctx, o, s, rd, bar)
	}
	if err != nil {
		return err
	}
	bar.Done()
	if o.CheckOnly {
		note(s, o.Quiet, "%d records, %d bytes of values: every checksum is right", rd.Records, rd.Bytes)
	}
	return nil
}

// checkFile reads everything.
func checkFile(rd *reader) error {
	for {
		if _, err := rd.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// job is a record to be written.
type job struct {
	seq   uint64
	value []byte
	record
}

// loader writes records with several goroutines.
type loader struct {
	c      *client.Client
	o      ImportOptions
	cancel context.CancelCauseFunc
	jobs   chan job
	held   *budget
	// waits tells the user, once, that writes are tried again.
	waits func(why error)
	told  sync.Once

	mu      sync.Mutex
	next    uint64              // every record before this one is written
	done    map[uint64]struct{} // those beyond it
	skipped uint64
	expired uint64
	grants  uint64
}

// load writes the records of a file.
func load(ctx context.Context, o ImportOptions, s cli.Streams, rd *reader, bar *progress.Bar) (err error) {
	c, err := dial(ctx, &o.Target, func(co *client.Options) { co.ExclusiveMax = 16 })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	node, err := identity(ctx, c)
	if err != nil {
		return err
	}
	st, skip, err := openState(o, s, rd, node)
	if err != nil {
		return err
	}
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &loader{c: c, o: o, cancel: cancel, jobs: make(chan job), held: newBudget(heldMax), next: skip, done: make(map[uint64]struct{})}
	l.waits = func(why error) {
		l.told.Do(func() { note(s, o.Quiet, "%v; trying again for up to %v", why, retryFor) })
	}
	var wg sync.WaitGroup
	for range o.InFlight {
		wg.Go(func() { l.work(ctx) })
	}
	err = l.read(ctx, rd, skip, st)
	close(l.jobs)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the first failure, of which others follow
	}
	if serr := st.save(l.next); err == nil {
		err = serr
	}
	if errors.Is(err, client.ErrDenied) && l.grants > 0 {
		err = fmt.Errorf("%w\n  import as an admin, or leave what was granted out by --no-grants", err)
	}
	if err != nil {
		next := ""
		switch {
		case st.path == "": // nothing is known of it the next time
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrIncomplete):
			next = "; once the file is whole, go on with --resume"
		default:
			next = "; go on with --resume"
		}
		return fmt.Errorf("%w\n  %d records are written%s", err, l.next, next)
	}
	bar.Done()
	left := ""
	if skip > 0 {
		left += fmt.Sprintf(" (%d were written before)", skip)
	}
	if l.skipped > 0 {
		left += fmt.Sprintf(" (%d were there already)", l.skipped)
	}
	if l.expired > 0 {
		left += fmt.Sprintf(" (%d had expired)", l.expired)
	}
	granted := ""
	if l.grants > 0 {
		granted = fmt.Sprintf(", and %d grants", l.grants)
	}
	note(s, o.Quiet, "imported %d records%s, %d bytes of values%s, in %v", rd.Records-skip-l.skipped-l.expired, left, rd.Bytes, granted, time.Since(began).Round(time.Millisecond))
	return st.remove()
}

// read hands the records to the writers; long ones it writes itself, as they are read, and grants before the keys behind them.
func (l *loader) read(ctx context.Context, rd *reader, skip uint64, st *state) error {
	saved := time.Now()
	for seq := uint64(0); ; {
		r, err := rd.next()
		if errors.Is(err, io.EOF) {
			if seq < skip {
				return fmt.Errorf("%w: the state file is of a longer export", errUsage)
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case r.grant != nil:
			if err := l.grant(ctx, *r.grant); err != nil {
				return err
			}
			continue
		case seq < skip:
		case r.size > streamMin:
			if err := l.stream(ctx, r, rd); err != nil {
				return fmt.Errorf("write %s: %w", wire.Visible(r.key), err)
			}
			l.finished(seq)
		default:
			if err := l.hand(ctx, seq, r, rd); err != nil {
				return err
			}
		}
		seq++
		if time.Since(saved) > stateEvery {
			saved = time.Now()
			if err := st.save(l.position()); err != nil {
				return err
			}
		}
	}
}

// grant grants anew. To grant what is granted already changes nothing.
func (l *loader) grant(ctx context.Context, g client.Grant) error {
	if l.o.NoGrants {
		return nil
	}
	err := l.patiently(ctx, func() error {
		if g.Perm != "" {
			return l.c.Grant(ctx, g.Object, g.Principal, g.Perm)
		}
		// A list without entries is what is left of one.
		if err := l.c.Grant(ctx, g.Object, closer, client.Owner); err != nil {
			return err
		}
		return l.c.Revoke(ctx, g.Object, closer, client.Owner)
	})
	l.grants++ // one goroutine grants
	if err != nil {
		return fmt.Errorf("grant on %s: %w", wire.Visible(g.Object), err)
	}
	return nil
}

// closer is who is granted something for a moment, to close an object to all but admins. An admin needs no grant.
const closer = "admin"

func (l *loader) hand(ctx context.Context, seq uint64, r record, value io.Reader) error {
	if !l.held.take(ctx, r.size) {
		return context.Cause(ctx)
	}
	j := job{seq: seq, value: make([]byte, r.size), record: r}
	if _, err := io.ReadFull(value, j.value); err != nil {
		l.held.give(r.size)
		return err
	}
	select {
	case l.jobs <- j:
		return nil
	case <-ctx.Done():
		l.held.give(r.size)
		return context.Cause(ctx)
	}
}

func (l *loader) work(ctx context.Context) {
	for j := range l.jobs {
		err := l.write(ctx, j)
		l.held.give(int64(len(j.value)))
		if err != nil {
			l.cancel(fmt.Errorf("write %s: %w", wire.Visible(j.key), err))
			continue
		}
		l.finished(j.seq)
	}
}

// request is the write of the record at a time. live is false when the value has expired by then, and a write-once end that has
// passed is left out.
func (l *loader) request(r record, at time.Time) (w client.WriteRequest, live bool) {
	w = client.WriteRequest{Key: r.key, Expires: r.expires, IfAbsent: l.o.IfAbsent}
	if r.wormUntil.After(at) {
		w.WormUntil = r.wormUntil
	}
	return w, r.expires.IsZero() || r.expires.After(at)
}

// write writes a record, again and again while the server is away.
func (l *loader) write(ctx context.Context, j job) error {
	w, live := l.request(j.record, time.Now())
	for soon := false; live; soon = true {
		err := l.patiently(ctx, func() error {
			w.Value = j.value
			_, err := l.c.Write(ctx, w)
			return err
		})
		if !errors.Is(err, client.ErrInvalid) || soon || w.Expires.IsZero() && w.WormUntil.IsZero() {
			return l.settle(ctx, j.record, bytes.NewReader(j.value), err)
		}
		// An end may have passed on the server's clock and not on ours.
		var then client.WriteRequest
		if then, live = l.request(j.record, time.Now().Add(clocksApart)); live && then.WormUntil.Equal(w.WormUntil) {
			return err
		}
		w = then
	}
	l.count(&l.expired)
	return nil
}

// patiently runs f again and again while the server is away.
func (l *loader) patiently(ctx context.Context, f func() error) error {
	began := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := f()
		again := errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrUnknown)
		if err == nil || !again || ctx.Err() != nil || time.Since(began) > retryFor {
			return err
		}
		l.waits(err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// settle is how the write of a record ended: a key that is there and shall be left counts as written, and so does a write-once one
// that is there as the record has it, since the import was continued, or an answer was lost.
func (l *loader) settle(ctx context.Context, r record, value io.Reader, err error) error {
	switch {
	case l.o.IfAbsent && errors.Is(err, client.ErrConflict):
		l.count(&l.skipped)
		return nil
	case !errors.Is(err, client.ErrDenied):
		return err
	}
	m, merr := l.c.Meta(ctx, r.key)
	switch {
	case merr != nil || m.WormUntil.IsZero():
		return err // it was not for its being write-once
	case l.o.IfAbsent:
		l.count(&l.skipped)
		return nil
	}
	if same, serr := l.holds(ctx, r, m, value); serr != nil || !same {
		return errors.Join(err, serr)
	}
	return nil
}

// holds tells whether the server holds the record. Of a record that it may not hold, the value is not read.
func (l *loader) holds(ctx context.Context, r record, m client.Meta, value io.Reader) (same bool, err error) {
	if m.Size != r.size || !sameEnds(r, m, time.Now()) {
		return false, nil
	}
	blob, err := l.c.GetBlob(ctx, r.key)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	var ours, theirs [32 << 10]byte
	for left := r.size; left > 0; {
		n := min(left, int64(len(ours)))
		if _, err := io.ReadFull(value, ours[:n]); err != nil {
			return false, err
		}
		if _, err := io.ReadFull(blob, theirs[:n]); err != nil {
			return false, err
		}
		if !bytes.Equal(ours[:n], theirs[:n]) {
			return false, nil
		}
		left -= n
	}
	return true, nil
}

// stream writes a long record as it is read, so that it is not tried again. A write-once one is looked for first.
func (l *loader) stream(ctx context.Context, r record, value io.Reader) error {
	w, live := l.request(r, time.Now())
	if !live {
		l.count(&l.expired)
		return nil
	}
	if !w.WormUntil.IsZero() && !l.o.IfAbsent {
		m, err := l.c.Meta(ctx, r.key)
		if err == nil && m.Size == r.size && m.WormUntil.Equal(r.wormUntil) {
			same, err := l.holds(ctx, r, m, value)
			if err == nil && !same {
				err = &client.Error{Class: client.ErrDenied, Text: "it is write-once, and another value"}
			}
			return err
		}
		if err != nil && !errors.Is(err, client.ErrNotFound) {
			return err
		}
	}
	_, err := l.c.WriteBlob(ctx, w, value, r.size)
	return l.settle(ctx, r, value, err)
}

// count adds one.
func (l *loader) count(n *uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*n++
}

// finished counts a record as written.
func (l *loader) finished(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done[seq] = struct{}{}
	for {
		if _, ok := l.done[l.next]; !ok {
			return
		}
		delete(l.done, l.next)
		l.next++
	}
}

func (l *loader) position() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// budget bounds the bytes that are held.
type budget struct {
	mu    sync.Mutex
	left  int64
	freed chan struct{} // capacity 1
}

func newBudget(n int64) *budget { return &budget{left: n, freed: make(chan struct{}, 1)} }

// take waits for n bytes. One goroutine takes. Requires: n does not exceed the whole budget.
func (b *budget) take(ctx context.Context, n int64) bool {
	for {
		b.mu.Lock()
		ok := b.left >= n
		if ok {
			b.left -= n
		}
		b.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-b.freed:
		case <-ctx.Done():
			return false
		}
	}
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.left += n
	b.mu.Unlock()
	select {
	case b.freed <- struct{}{}:
	default:
	}
}

// state is the file that keeps how far an import has come.
type state struct {
	path string // "": none is kept
	stateFile
}

type stateFile struct {
	Format  int    `json:"format"`
	Export  string `json:"export"`  // identifies the export file: a checksum of its head
	Node    string `json:"node"`    // identifies the node, see identity; "": it does not show it
	Records uint64 `json:"records"` // all before this one are written
}

// stateFormat is the format of state files. Format 1 had no Node.
const stateFormat = 2

// openState reads how far an import into the node has come.
func openState(o ImportOptions, s cli.Streams, rd *reader, node string) (*state, uint64, error) {
	st := &state{path: o.StatePath, stateFile: stateFile{Format: stateFormat, Export: headSum(rd), Node: node}}
	if o.Path == "" || o.Path == "-" {
		st.path = ""
		return st, 0, nil
	}
	if st.path == "" {
		st.path = o.Path + ".import-state"
	}
	if !o.Resume {
		return st, 0, nil
	}
	data, err := os.ReadFile(st.path)
	if errors.Is(err, fs.ErrNotExist) {
		note(s, o.Quiet, "%s is not there: beginning with the first record", st.path)
		return st, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	const anew = "import without --resume, from the first record on"
	var old stateFile
	switch err := json.Unmarshal(data, &old); {
	case err != nil || old.Format == 0:
		return nil, 0, fmt.Errorf("%w: %s is no state of an import", errUsage, st.path)
	case old.Format != stateFormat:
		return nil, 0, fmt.Errorf("%w: %s is of another version of this program and does not say which node it is of: %s", errUsage, st.path, anew)
	case old.Export != st.Export:
		return nil, 0, fmt.Errorf("%w: %s is of another export file: %s", errUsage, st.path, anew)
	case node == "":
		return nil, 0, fmt.Errorf("%w: this node does not show by what it could be known again: %s", errUsage, anew)
	case old.Node != node:
		return nil, 0, fmt.Errorf("%w: %s is of an import into another node, or into this one before it was set up or configured anew: %s", errUsage, st.path, anew)
	}
	return st, old.Records, nil
}

// headSum identifies an export file.
func headSum(rd *reader) string {
	return hex.EncodeToString(rd.hash.Sum(nil)[:sha256.Size])
}

func (st *state) save(records uint64) error {
	if st.path == "" {
		return nil
	}
	st.Records = records
	data, err := json.Marshal(st.stateFile)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(st.path), ".import-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), st.path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

func (st *state) remove() error {
	if st.path == "" {
		return nil
	}
	return os.Remove(st.path)
}
