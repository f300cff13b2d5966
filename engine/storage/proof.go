// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// proof remembers how much of the newest log and of the newest MANIFESTs was synced, and the checksum of that much, so
// that damage in them is told from the torn end that a power failure leaves. Pebble v2.1.7 cannot tell the two apart in
// the last 32 KiB of a log (record.Reader looks for a later sync only from the next block on), nor anywhere in a
// MANIFEST: it takes the first bad record as the end, and what was acknowledged after it is gone without a word.
//
// The file holds three slots: the newest log, and two MANIFESTs in turn, because a crash may fall between the sync of a
// new MANIFEST and the marker that names it. A slot is written, in place, after the sync that it speaks of has returned,
// and not synced by itself: it costs one small write for each sync of the log. So it never claims too much. After the
// end of the process it says exactly what was synced; after a power failure it may be older, or gone, and then proves
// less. Only what it says of a log that is removed before there is a newer one is taken back, and that durably, first.
//
//	slot: number:8 length:8 crc:4 of the file's first length bytes, check:4 of the slot before it
type proof struct {
	fs    vfs.FS
	dir   string
	warn  func(error)
	known [proofSlots]claim // what the file said when it was read

	mu    sync.Mutex // guards what follows; held across small writes to the file, which nothing else waits for
	file  vfs.File
	newer int // the slot of the newest MANIFEST
	last  uint64
	log   uint64 // the log that the file speaks of; 0 for none
	bad   bool
}

// claim is what a slot says.
type claim struct {
	number uint64
	length int64
	sum    uint32
}

const (
	proofName     = "synced"
	proofSlotLen  = 8 + 8 + 4 + 4
	proofSlots    = 3
	proofLog      = 0
	proofManifest = 1 // and 2
)

func (c claim) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, c.number)
	b = binary.BigEndian.AppendUint64(b, uint64(c.length))
	b = binary.BigEndian.AppendUint32(b, c.sum)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeClaim reads a slot. One that was torn, or never written, claims nothing.
func decodeClaim(b []byte) claim {
	if len(b) < proofSlotLen || crc32.Checksum(b[:proofSlotLen-4], castagnoli) != binary.BigEndian.Uint32(b[proofSlotLen-4:]) {
		return claim{}
	}
	length := binary.BigEndian.Uint64(b[8:])
	if length > 1<<62 {
		return claim{}
	}
	return claim{binary.BigEndian.Uint64(b), int64(length), binary.BigEndian.Uint32(b[16:])}
}

// readProof reads what the last process left.
func readProof(fs vfs.FS, dir string, warn func(error)) (*proof, error) {
	p := &proof{fs: fs, dir: dir, warn: warn, newer: proofManifest}
	f, err := fs.Open(fs.PathJoin(dir, proofName))
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, dirError(dir, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, proofSlots*proofSlotLen))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, dirError(dir, err)
	}
	for i := range p.known {
		if len(b) >= (i+1)*proofSlotLen {
			p.known[i] = decodeClaim(b[i*proofSlotLen:])
		}
	}
	return p, nil
}

// begin makes the file writable, with the slots that were read.
func (p *proof) begin() error {
	f, err := p.fs.OpenReadWrite(p.fs.PathJoin(p.dir, proofName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return dirError(p.dir, err)
	}
	p.file = f
	if p.known[proofManifest].number < p.known[proofManifest+1].number {
		p.newer = proofManifest + 1 // the next one goes to the other slot
	}
	p.log = p.known[proofLog].number
	var b []byte
	for _, c := range p.known {
		b = append(b, c.encode()...)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		p.failed(err) // no more than proof is lost
	}
	return dirError(p.dir, syncDir(p.fs, p.dir))
}

// end syncs and closes the file.
func (p *proof) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	err := errors.Join(p.file.Sync(), p.file.Close())
	p.file = nil
	return err
}

// missing says whether the log that was synced last, or a later one, ought to be among the names and is not.
func (p *proof) missing(names []string) bool {
	want := p.known[proofLog].number
	if want == 0 {
		return false
	}
	for _, n := range names {
		if number, slot, ok := provable(n); ok && slot == proofLog && number >= want {
			return false
		}
	}
	return true
}

// provable says whether the file is a log or a MANIFEST, and which.
func provable(name string) (number uint64, slot int, ok bool) {
	digits, slot := "", proofManifest
	if cut, isLog := strings.CutSuffix(name, ".log"); isLog {
		digits, slot = cut, proofLog
	} else if cut, isManifest := strings.CutPrefix(name, "MANIFEST-"); isManifest {
		digits = cut
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, slot, err == nil
}

// synced notes that the first c.length bytes of a log or MANIFEST are durable.
func (p *proof) synced(slot int, c claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return
	}
	if slot == proofManifest {
		if c.number != p.last {
			p.last, p.newer = c.number, proofManifest+1-(p.newer-proofManifest)
		}
		slot = p.newer
	} else {
		p.log = c.number
	}
	if _, err := p.file.WriteAt(c.encode(), int64(slot)*proofSlotLen); err != nil {
		p.failed(err)
	}
}

// removing is told before Pebble removes a log: the newest one goes at every start, once its commits are in tables and before there is
// another. A start that is cut off in between must not find a log missing, so that the file claims none before the log goes.
func (p *proof) removing(number uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil || number != p.log {
		return nil
	}
	if _, err := p.file.WriteAt(claim{}.encode(), proofLog*proofSlotLen); err != nil {
		return err
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	p.log = 0
	return nil
}

func (p *proof) failed(err error) {
	if !p.bad {
		p.bad = true
		p.warn(err)
	}
}

// claimed finds what is known of a file.
func (p *proof) claimed(number uint64, slot int) claim {
	for i, c := range p.known {
		if c.number == number && c.length > 0 && (i == proofLog) == (slot == proofLog) {
			return c
		}
	}
	return claim{}
}

// provenFile reads a file and checks the part of it that is known to have been synced.
type provenFile struct {
	vfs.File
	g    *guardFS
	name string
	want claim
	done int64
	sum  uint32
}

func (f *provenFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	if rest := f.want.length - f.done; n > 0 && rest > 0 {
		part := b[:min(int64(n), rest)]
		f.sum = crc32.Update(f.sum, castagnoli, part)
		if f.done += int64(len(part)); f.done == f.want.length && f.sum != f.want.sum {
			return 0, f.damaged("checksum %08x of its first %d bytes, synced as %08x", f.sum, f.done, f.want.sum)
		}
	}
	if errors.Is(err, io.EOF) && f.done < f.want.length {
		return n, f.damaged("it ends after %d bytes of %d that were synced", f.done, f.want.length)
	}
	return n, err
}

// damaged freezes the directory, so that Pebble does not go on from where it believes the end to be and remove the rest.
func (f *provenFile) damaged(format string, args ...any) error {
	err := fmt.Errorf("%w: file %s: "+format, append([]any{ErrCorrupt, f.g.PathBase(f.name)}, args...)...)
	f.g.freeze(err)
	return err
}

// Close reads on when the reader believed to be at the end too soon.
func (f *provenFile) Close() error {
	b := make([]byte, 32<<10)
	for f.done < f.want.length && f.g.health.Err() == nil {
		if _, err := f.Read(b); err != nil {
			f.g.freeze(err)
		}
	}
	return f.File.Close()
}
