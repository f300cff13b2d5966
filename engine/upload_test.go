// SPDX-License-Identifier: AGPL-3.0-only

//go:build unix

package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/engine/key"
)

// uploads makes uploads whose memory faults when it is touched after it was freed, and counts.
type uploads struct {
	t           testing.TB
	made, freed atomic.Int32
}

func (u *uploads) value(value []byte) *engine.Upload {
	u.t.Helper()
	mem, err := syscall.Mmap(-1, 0, engine.UploadRoom+len(value), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	must(u.t, err)
	copy(mem[engine.UploadRoom:], value)
	u.made.Add(1)
	var once atomic.Bool
	u.t.Cleanup(func() {
		if !once.Load() {
			u.t.Error("an upload was not freed")
		}
		if err := syscall.Munmap(mem); err != nil {
			u.t.Error(err)
		}
	})
	return engine.NewUpload(mem, func() {
		if !once.CompareAndSwap(false, true) {
			u.t.Error("an upload was freed twice")
		}
		u.freed.Add(1)
		if err := syscall.Mprotect(mem, syscall.PROT_NONE); err != nil {
			u.t.Error(err)
		}
	})
}

// ended wants all memory to be freed by now.
func (u *uploads) ended(t testing.TB) {
	t.Helper()
	if made, freed := u.made.Load(), u.freed.Load(); made != freed {
		t.Fatalf("%d of %d uploads are freed", freed, made)
	}
}

func blobOf(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i*i>>7)
	}
	return b
}

// TestUpload stores values of all sizes from memory that goes away, with everything that looks at writes looking.
func TestUpload(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	u := &uploads{t: t}
	zero := uint64(0)
	w := watch(t, s, "t", &zero)
	var writes []engine.Write
	sizes := []int{0, 1, 100, 64 << 10, 64<<10 + 1, 3 << 20, 5<<20 + 17}
	for i, n := range sizes {
		name := fmt.Sprintf("t.k%d", i)
		put(t, s, name, "old")
		if got := get(t, s, name); got != "old" { // now it is among the hot values
			t.Fatalf("%s reads %q", name, got)
		}
		later, err := s.PutLater(t.Context(), engine.PutRequest{Key: []byte(name), Upload: u.value(blobOf(n, byte(i)))})
		must(t, err)
		writes = append(writes, later)
	}
	for _, w := range writes {
		_, err := w.Wait(t.Context())
		must(t, err)
	}
	u.ended(t)
	for i, n := range sizes {
		if got := get(t, s, fmt.Sprintf("t.k%d", i)); got != string(blobOf(n, byte(i))) {
			t.Errorf("value of %d bytes is read as another of %d", n, len(got))
		}
	}
	for range 2 * len(sizes) {
		next(t, w)
	}
}

// TestUploadFillsItsRoom has the longest command around a value: key and condition, principal and times.
func TestUploadFillsItsRoom(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := as(t, e, strings.Repeat("\U0001F600", 256))
	u := &uploads{t: t}
	name := []byte("t." + strings.Repeat("r", key.LenMax-2))
	version := put(t, s, string(name), "old")
	value := blobOf(1<<20, 7)
	_, err := s.Put(t.Context(), engine.PutRequest{
		Key: name, Upload: u.value(value), IfVersion: &version, TTL: 90 * 365 * 24 * time.Hour, WormTTL: 80 * 365 * 24 * time.Hour,
	})
	must(t, err)
	u.ended(t)
	if got := get(t, s, string(name)); got != string(value) {
		t.Error("another value is read")
	}
}

// TestUploadOfRefusedRequests frees the memory once, whatever is wrong with the request.
func TestUploadOfRefusedRequests(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	u := &uploads{t: t}
	value := blobOf(1<<20, 1)
	put(t, s, "t.there", "x")
	_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.worm"), Upload: u.value(value), WormTTL: time.Hour})
	must(t, err)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	stranger := e.NewSession(engine.SessionOptions{})
	for _, c := range []struct {
		name string
		ctx  context.Context
		s    *engine.Session
		r    engine.PutRequest
		want error
	}{
		{"key", t.Context(), s, engine.PutRequest{Key: []byte("norow")}, engine.ErrInvalid},
		{"two values", t.Context(), s, engine.PutRequest{Key: []byte("t.a"), Value: []byte("x")}, engine.ErrInvalid},
		{"TTL", t.Context(), s, engine.PutRequest{Key: []byte("t.a"), TTL: -1}, engine.ErrInvalid},
		{"conditions", t.Context(), s, engine.PutRequest{Key: []byte("t.a"), IfAbsent: true, IfVersion: new(uint64)}, engine.ErrInvalid},
		{"stranger", t.Context(), stranger, engine.PutRequest{Key: []byte("t.a")}, engine.ErrDenied},
		{"context", canceled, s, engine.PutRequest{Key: []byte("t.a")}, engine.ErrUnavailable},
		{"condition", t.Context(), s, engine.PutRequest{Key: []byte("t.there"), IfAbsent: true}, engine.ErrConflict},
		{"worm", t.Context(), s, engine.PutRequest{Key: []byte("t.worm")}, engine.ErrDenied},
	} {
		c.r.Upload = u.value(value)
		if _, err := c.s.Put(c.ctx, c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", c.name, err, c.want)
		}
		u.ended(t)
	}
	_, err = s.Put(t.Context(), engine.PutRequest{Key: []byte("t.a"), Upload: u.value(make([]byte, engine.ValueLenMax+1))})
	wantErr(t, err, engine.ErrTooLarge)
	u.ended(t)
	if got := get(t, s, "t.there") + get(t, s, "t.a"); got != "x"+absent {
		t.Errorf("after refusals it reads %q", got)
	}
}

// TestUploadInTransaction: what a transaction keeps is a copy.
func TestUploadInTransaction(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	u := &uploads{t: t}
	value := blobOf(1<<20, 3)
	must(t, s.Begin(t.Context()))
	_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.a"), Upload: u.value(value)})
	must(t, err)
	u.ended(t)
	if got := get(t, s, "t.a"); got != string(value) {
		t.Error("the transaction reads another value")
	}
	_, err = s.Commit(t.Context())
	must(t, err)
	txn, err := s.BeginTxn(t.Context())
	must(t, err)
	must(t, txn.Put(engine.PutRequest{Key: []byte("t.b"), Upload: u.value(value)}))
	wantErr(t, txn.Put(engine.PutRequest{Key: []byte("norow"), Upload: u.value(value)}), engine.ErrInvalid)
	u.ended(t)
	_, err = txn.Commit(t.Context())
	must(t, err)
	if get(t, s, "t.a") != string(value) || get(t, s, "t.b") != string(value) {
		t.Error("another value is read")
	}
}

// TestUploadNobodyWaitsFor ends the wait for an upload whose sync is held up: its memory goes when the round is told.
func TestUploadNobodyWaitsFor(t *testing.T) {
	fs := newFaultFS()
	e := open(t, fs)
	s := trusted(e)
	u := &uploads{t: t}
	value := blobOf(1<<20, 5)
	put(t, s, "t.a", "old")
	fs.held.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.PutLater(ctx, engine.PutRequest{Key: []byte("t.a"), Upload: u.value(value)})
	must(t, err)
	eventually(t, "a sync", func() bool { return fs.waiting.Load() > 0 })
	cancel()
	_, err = w.Wait(ctx)
	wantErr(t, err, engine.ErrUnknown)
	if n := u.freed.Load(); n != 0 {
		t.Errorf("%d uploads are freed while their round is under way", n)
	}
	fs.held.Store(false)
	close(fs.release)
	eventually(t, "the end of the round", func() bool { return u.freed.Load() == u.made.Load() })
	if got := get(t, s, "t.a"); got != string(value) {
		t.Error("another value is read")
	}
}

// TestUploadOnFullDisk: a round that is refused as a whole gives the memory back, and later ones are not hurt by what it left.
func TestUploadOnFullDisk(t *testing.T) {
	space := &spaceFS{FS: vfs.NewMem()}
	space.free.Store(1 << 30)
	e := open(t, space, func(o *engine.Options) { o.MinFreeBytes = 64 << 20 })
	s := trusted(e)
	u := &uploads{t: t}
	value := blobOf(2<<20, 9)
	space.free.Store(1 << 20)
	eventually(t, "a refusal", func() bool {
		_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.a"), Upload: u.value(value)})
		if err != nil {
			wantErr(t, err, engine.ErrUnavailable)
		}
		u.ended(t)
		return err != nil
	})
	space.free.Store(1 << 30)
	eventually(t, "recovery", func() bool {
		_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.a"), Upload: u.value(value)})
		u.ended(t)
		return err == nil
	})
	if got := get(t, s, "t.a"); got != string(value) {
		t.Error("another value is read")
	}
}

// TestUploadOnFailedDisk: with the node the upload ends, and so do those that come later.
func TestUploadOnFailedDisk(t *testing.T) {
	fs := newFaultFS()
	e, err := engine.Open(t.Context(), engine.Options{Dir: "data", FS: fs, MinFreeBytes: -1})
	must(t, err)
	s := trusted(e)
	u := &uploads{t: t}
	value := bytes.Repeat([]byte("x"), 1<<20)
	fs.failing.Store(true)
	for _, want := range []error{engine.ErrUnknown, engine.ErrUnavailable} {
		_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.a"), Upload: u.value(value)})
		wantErr(t, err, want)
		u.ended(t)
	}
	if err := e.Close(); err == nil {
		t.Error("closing a node whose disk failed says nothing of it")
	}
	_, err = s.Put(t.Context(), engine.PutRequest{Key: []byte("t.a"), Upload: u.value(value)})
	wantErr(t, err, engine.ErrUnavailable)
	u.ended(t)
}
