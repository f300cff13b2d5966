// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"errors"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS stands between Pebble and the disk and decides what a failure means, because Pebble v2.1.7 does not survive
// one: an error while it writes or syncs its log, its MANIFEST, a marker or their directory ends in Logger.Fatalf, in a
// panic with its mutexes held, or in the unlock of an unlocked mutex, which ends the process.
//
//	no room (ENOSPC, EDQUOT; also no file handles, EMFILE, ENFILE)
//	    table files: the error goes back after a pause; Pebble drops what it had written of the table and tries again.
//	    everything else: the ballast is given up and the operation repeated, a write from the byte it stopped at, until
//	    it succeeds. Meanwhile space refuses new batches. Past SpaceWait it counts as a failure, and so does a sync that
//	    finds no room (delayed allocation, quotas over a network): what it has dropped is not known.
//	any other error of a write, sync, create, rename or link
//	    the failure is recorded in health before Pebble hears of it. From then on the directory is frozen: nothing more
//	    reaches it, so nothing is retried past a failed sync, and Pebble is told that all is well, so that it neither
//	    panics nor hangs and can be closed. What it still writes goes to memory. Nobody can be misled by this: Commit
//	    and every read ask health after Pebble has answered, and health has known since before it did.
//	an error of a read, or of the removal of a file
//	    goes back to Pebble, which hands it to the reader or leaves the file until the next start. One exception: the
//	    listing at the end of pebble.Open. Its failure would leave compactions running on what Open has closed, so it
//	    stops the store instead.
//
// It also syncs the directory before a marker is made: a marker names a MANIFEST whose own entry in the directory Pebble
// has not synced yet, and on a file system that does not keep the order of entries a power failure could keep the marker
// and lose the MANIFEST.
//
// Paths outside the data directory (checkpoints) are none of its business and pass through.
type guardFS struct {
	vfs.FS
	dir     string
	health  *health
	space   *space
	proof   *proof
	overlay *vfs.MemFS
	frozen  atomic.Bool
	late    atomic.Bool // pebble.Open has started background work
}

func newGuardFS(base vfs.FS, dir string, h *health, sp *space, p *proof) *guardFS {
	return &guardFS{FS: base, dir: dir, health: h, space: sp, proof: p, overlay: vfs.NewMem()}
}

var errFrozen = errors.New("the store has failed and writes no more")

// ours says whether the path is in the data directory.
func (g *guardFS) ours(name string) bool {
	return name == g.dir || strings.HasPrefix(name, strings.TrimSuffix(g.dir, "/")+"/")
}

// isTable says whether Pebble can drop the file and write it again.
func (g *guardFS) isTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// lacksRoom says whether waiting may help.
func lacksRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || lacksHandles(err)
}

// freeze stops all writing for good. A disk that is still full at Close is no failure: what was synced is safe, and Close
// says that the rest is not.
func (g *guardFS) freeze(err error) {
	if lacksRoom(err) && g.space.stopped() {
		g.space.cutOff.Store(true)
	} else {
		g.health.fail(err)
	}
	if !g.frozen.Load() {
		// Requires: the overlay has the directories before anybody is sent there. Its own errors cannot happen.
		_ = g.overlay.MkdirAll(g.FS.PathJoin(g.dir, pebbleDirName), dirMode) // a directory in memory
		g.frozen.Store(true)
	}
}

// do carries out a mutation of the name space. It returns errFrozen for the caller to go on in the overlay, the error
// itself where Pebble can bear it, else nil.
func (g *guardFS) do(name string, op func() error) error {
	var w waiting
	for {
		if g.frozen.Load() {
			return errFrozen
		}
		err := op()
		switch {
		case err == nil:
			return nil
		case lacksRoom(err) && g.isTable(name):
			if !g.space.pause(err) {
				g.freeze(err)
				return errFrozen
			}
			return err
		case lacksRoom(err) && g.space.await(&w, err):
			continue
		}
		g.freeze(err)
		return errFrozen
	}
}

func (g *guardFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if !g.ours(name) {
		return g.FS.Create(name, category)
	}
	var f vfs.File
	err := g.do(name, func() (err error) {
		if strings.HasPrefix(g.PathBase(name), "marker.") {
			if err := syncDir(g.FS, g.PathDir(name)); err != nil {
				return err
			}
		}
		f, err = g.FS.Create(name, category)
		return err
	})
	return g.opened(f, name, err)
}

// opened wraps a file for writing, or gives one in memory.
func (g *guardFS) opened(f vfs.File, name string, err error) (vfs.File, error) {
	if errors.Is(err, errFrozen) {
		return g.overlay.Create(name, vfs.WriteCategoryUnspecified)
	}
	if err != nil {
		return nil, err
	}
	gf := &guardFile{File: f, g: g, table: g.isTable(name)}
	gf.claim.number, gf.slot, gf.proves = provable(g.PathBase(name))
	return gf, nil
}

func (g *guardFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	var f vfs.File
	var size int64
	err := g.do(newname, func() (err error) {
		if f, err = g.FS.ReuseForWrite(oldname, newname, category); err != nil {
			return err
		}
		fi, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		size = fi.Size()
		return nil
	})
	f, err = g.opened(f, newname, err)
	if gf, ok := f.(*guardFile); ok {
		gf.size = size
	}
	return f, err
}

func (g *guardFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	var f vfs.File
	err := g.do(name, func() (err error) { f, err = g.FS.OpenReadWrite(name, category, opts...); return err })
	return g.opened(f, name, err)
}

func (g *guardFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if g.frozen.Load() {
		if f, err := g.overlay.Open(name, opts...); err == nil {
			return f, nil
		}
	}
	f, err := g.FS.Open(name, opts...)
	if err != nil || !g.ours(name) {
		return f, g.told(name, err)
	}
	if number, slot, ok := provable(g.PathBase(name)); ok {
		if want := g.proof.claimed(number, slot); want.length > 0 {
			return &provenFile{File: f, g: g, name: name, want: want}, nil
		}
	}
	return f, nil
}

func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil || !g.ours(name) {
		return f, g.told(name, err)
	}
	return &guardFile{File: f, g: g}, nil
}

func (g *guardFS) Link(oldname, newname string) error {
	if !g.ours(newname) {
		return g.FS.Link(oldname, newname)
	}
	return unfrozen(g.do(newname, func() error { return g.FS.Link(oldname, newname) }))
}

func (g *guardFS) Rename(oldname, newname string) error {
	if strings.HasPrefix(g.PathBase(newname), "OPTIONS-") {
		g.late.Store(true)
	}
	err := g.do(newname, func() error { return g.FS.Rename(oldname, newname) })
	if errors.Is(err, errFrozen) {
		_ = g.overlay.Rename(oldname, newname) // absent when the file was made before the failure; nobody reads it again
	}
	return unfrozen(err)
}

func (g *guardFS) MkdirAll(dir string, perm os.FileMode) error {
	if !g.ours(dir) {
		return g.FS.MkdirAll(dir, perm)
	}
	return unfrozen(g.do(dir, func() error { return g.FS.MkdirAll(dir, perm) }))
}

func unfrozen(err error) error {
	if errors.Is(err, errFrozen) {
		return nil
	}
	return err
}

func (g *guardFS) Remove(name string) error {
	if g.frozen.Load() && g.ours(name) {
		_ = g.overlay.Remove(name) // absent when the file was made before the failure
		return nil
	}
	err := g.removing(name)
	if err == nil {
		err = g.FS.Remove(name)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) && g.ours(name) {
		g.health.removeErrors.Add(1)
		g.health.log.Warn("a file of no more use cannot be removed", "file", g.FS.PathBase(name), "error", err)
	}
	return err
}

// removing takes back what is claimed of the file.
func (g *guardFS) removing(name string) error {
	if !g.ours(name) {
		return nil
	}
	if number, slot, ok := provable(g.PathBase(name)); ok && slot == proofLog {
		return g.proof.removing(number)
	}
	return nil
}

func (g *guardFS) RemoveAll(name string) error {
	if g.frozen.Load() && g.ours(name) {
		return nil
	}
	return g.FS.RemoveAll(name)
}

func (g *guardFS) List(dir string) ([]string, error) {
	names, err := g.FS.List(dir)
	if err != nil && g.late.Load() && g.ours(dir) {
		g.freeze(err)
		return nil, nil
	}
	if err != nil || !g.frozen.Load() {
		return names, err
	}
	more, err := g.overlay.List(dir)
	if err != nil {
		return names, nil
	}
	for _, n := range more {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names, nil
}

func (g *guardFS) Stat(name string) (vfs.FileInfo, error) {
	if g.frozen.Load() {
		if fi, err := g.overlay.Stat(name); err == nil {
			return fi, nil
		}
	}
	fi, err := g.FS.Stat(name)
	return fi, g.told(name, err)
}

// told logs an error that Pebble may pass over, as it does where the file is wanted for read-ahead or statistics only.
func (g *guardFS) told(name string, err error) error {
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		g.health.log.Warn("a file of the store cannot be reached", "file", g.FS.PathBase(name), "error", err)
	}
	return err
}

func (g *guardFS) Unwrap() vfs.FS { return g.FS }

// guardFile is a file that Pebble writes, or a directory that it syncs.
type guardFile struct {
	vfs.File
	g      *guardFS
	table  bool
	proves bool // a log or a MANIFEST
	slot   int
	claim  claim // what has been written
	// size is that of the file: what was written, or was in a log that is used again, and zeroes.
	size int64
}

// end is what Pebble is told once the directory is frozen: that all is well, except for a table, of which it must not
// believe that it can be read.
func (f *guardFile) end() error {
	if f.table {
		return errFrozen
	}
	return nil
}

func (f *guardFile) Write(p []byte) (int, error) {
	var w waiting
	written := 0
	for {
		if f.g.frozen.Load() {
			return len(p), f.end()
		}
		var sum uint32
		if f.proves {
			sum = crc32.Update(f.claim.sum, castagnoli, p[written:]) // before: Write may change p
		}
		n, err := f.File.Write(p[written:])
		if n = max(n, 0); f.proves {
			if written+n < len(p) {
				sum = crc32.Update(f.claim.sum, castagnoli, p[written:written+n])
			}
			f.claim.sum = sum
			f.claim.length += int64(n)
		}
		written += n
		switch {
		case err == nil && written >= len(p):
			f.g.space.wrote(len(p))
			f.zeroAhead()
			return len(p), nil
		case err == nil:
			err = io.ErrShortWrite
		case lacksRoom(err) && f.table:
			if f.g.space.pause(err) {
				return written, err
			}
		case lacksRoom(err) && f.g.space.await(&w, err):
			continue
		}
		f.g.freeze(err)
	}
}

// zeroes are what a log has ahead of its end. shared: never written to.
var zeroes [logAheadLen]byte

// zeroAhead keeps zeroes ahead of a log's end. A sync behind which the file is no longer than before has no metadata to make durable: it takes half
// the time, and half the processor's. Pebble uses logs again for this reason, but the first ones of a start have nothing to go over.
// Zeroes end a log for its reader, as what is left of a log used again does.
func (f *guardFile) zeroAhead() {
	if !f.proves || f.slot != proofLog || f.claim.length <= f.size {
		return
	}
	f.size = f.claim.length
	n, err := f.File.WriteAt(zeroes[:], f.size)
	f.size += int64(max(n, 0))
	f.g.space.wrote(max(n, 0))
	// Without the room for it there are none ahead; any other failure is one of the log.
	if err != nil && !lacksRoom(err) {
		f.g.freeze(err)
	}
}

func (f *guardFile) sync(op func() error) error {
	if f.g.frozen.Load() {
		return f.end()
	}
	var err error
	if f.proves && f.slot == proofLog {
		h := f.g.health
		began := h.mono()
		h.syncing.Store(began)
		err = op()
		h.syncing.Store(0)
		h.syncs.observe(max(0, timeSince(h, began)))
	} else {
		err = op()
	}
	if err == nil && f.proves {
		f.g.proof.synced(f.slot, f.claim)
	}
	return f.ended(err)
}

// ended freezes on any error: after a failed sync nobody knows what the disk holds, and a second sync that succeeds
// proves nothing.
func (f *guardFile) ended(err error) error {
	if err == nil {
		return nil
	}
	f.g.freeze(err)
	return f.end()
}

func (f *guardFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *guardFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *guardFile) SyncTo(length int64) (fullSync bool, err error) {
	if f.g.frozen.Load() {
		return true, f.end()
	}
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.ended(err)
}

func (f *guardFile) WriteAt(p []byte, off int64) (int, error) {
	if f.g.frozen.Load() {
		return len(p), f.end()
	}
	n, err := f.File.WriteAt(p, off)
	if err != nil {
		return len(p), f.ended(err)
	}
	return n, nil
}

// Preallocate is a hint; that there is no room for it is found out by the write that needs the room.
func (f *guardFile) Preallocate(offset, length int64) error {
	if f.g.frozen.Load() {
		return nil
	}
	return f.File.Preallocate(offset, length)
}

// Close passes the error of a table on, which then is written again; any other file's is a failed write.
func (f *guardFile) Close() error {
	err := f.File.Close()
	if err == nil || f.g.frozen.Load() {
		return nil
	}
	return f.ended(err)
}
