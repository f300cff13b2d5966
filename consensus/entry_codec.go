// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import "fmt"

// entryVersion is the version byte of an entry on disk. Version 1 reached no disk: it was a sole voter's, which writes none.
const entryVersion = 2

const (
	// entryOverheadMax bounds what an entry takes besides its payload, on disk.
	entryOverheadMax = 128
	// entryLenMax bounds an entry.
	entryLenMax = PayloadLenMax + entryOverheadMax
)

// Fields of consensuspb.Entry.
const (
	entrySlot = iota + 1
	entryBallot
	entryTime
	entryChain
	entryKind
	entrySession
	entrySeq
	entryNext
	entryPayload
)

// AppendTo appends e as it lies on disk: the version byte, consensuspb.Entry in its canonical form, and the CRC-32C of both.
func (e *Entry) AppendTo(dst []byte) []byte {
	start := len(dst)
	w := newWriter(dst, entryOverheadMax+len(e.Payload))
	w.byte(entryVersion)
	e.appendFields(&w)
	return w.checksum(start)
}

func (e *Entry) appendFields(w *writer) {
	w.uint(entrySlot, uint64(e.Slot))
	w.ballot(entryBallot, e.Ballot)
	w.fixed64(entryTime, e.Time)
	w.fixed64(entryChain, e.Chain)
	w.uint(entryKind, uint64(e.Kind))
	w.uint(entrySession, e.Session)
	w.uint(entrySeq, e.Seq)
	w.uint(entryNext, e.Next)
	w.bytes(entryPayload, e.Payload)
}

// fieldsLen is how many bytes appendFields appends.
func (e *Entry) fieldsLen() int {
	n := fieldLen(uint64(e.Slot)) + ballotLen(e.Ballot) + fieldLen(uint64(e.Kind)) + fieldLen(e.Session) + fieldLen(e.Seq) + fieldLen(e.Next)
	if e.Time != 0 {
		n += 9
	}
	if e.Chain != 0 {
		n += 9
	}
	if len(e.Payload) > 0 {
		n += fieldLen(uint64(len(e.Payload))) + len(e.Payload)
	}
	return n
}

// DecodeEntry reads what AppendTo wrote, and nothing after it. Payload aliases src. Every error is ErrCorrupt.
func DecodeEntry(src []byte) (Entry, error) {
	var e Entry
	version, body, err := onDisk(src, "entry")
	if err != nil {
		return Entry{}, err
	}
	f := fields{src: body, what: "entry", kind: ErrCorrupt}
	if version != entryVersion {
		f.fail("version %d, this program reads %d", version, entryVersion)
	}
	e.decodeFields(&f)
	if f.err != nil {
		return Entry{}, f.err
	}
	if err := e.check(); err != nil {
		return Entry{}, fmt.Errorf("%w: entry: %w", ErrCorrupt, err)
	}
	return e, nil
}

func (e *Entry) decodeFields(f *fields) {
	for f.next() {
		switch f.number {
		case entrySlot:
			e.Slot = Slot(f.uint())
		case entryBallot:
			e.Ballot = f.ballot()
		case entryTime:
			e.Time = f.fixed64()
		case entryChain:
			e.Chain = f.fixed64()
		case entryKind:
			e.Kind = EntryKind(f.enum(uint64(StopSign)))
		case entrySession:
			e.Session = f.uint()
		case entrySeq:
			e.Seq = f.uint()
		case entryNext:
			e.Next = f.uint()
		case entryPayload:
			if e.Payload = f.bytes(PayloadLenMax); f.err == nil && len(e.Payload) == 0 {
				f.fail("field %d is written though it is empty", f.number)
			}
		default:
			f.unknown()
		}
	}
}
