// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import "fmt"

// RecordLenMax bounds a Record on disk, in bytes.
const RecordLenMax = 400

// recordVersion is the version byte of a record on disk. Version 1 is still read: see decodeRecordV1.
const recordVersion = 2

// Fields of consensuspb.AcceptorRecord.
const (
	recordAccepted = iota + 1
	recordPromised
	recordLast
	recordUncommitted
	recordUnapplied
	recordFirst
	recordLastTime
	recordLastChain
	recordAppliedTime
	recordAppliedChain
	recordEstablished
	recordAcceptedHome
	recordGlobalPromises
	recordFort
	recordStopSlot
	recordStopNext
)

// Append appends r as it lies on disk, at most RecordLenMax bytes: the version byte, consensuspb.AcceptorRecord in its
// canonical form, and the CRC-32C of both.
func (r *Record) Append(dst []byte) []byte {
	start := len(dst)
	w := newWriter(dst, RecordLenMax)
	w.byte(recordVersion)
	w.ballot(recordAccepted, r.Accepted)
	if r.Promised != r.Accepted {
		w.ballot(recordPromised, r.Promised)
	}
	w.uint(recordLast, uint64(r.Last))
	w.uint(recordUncommitted, uint64(r.Last-r.Commit))
	w.uint(recordUnapplied, uint64(r.Commit-r.Applied))
	w.uint(recordFirst, uint64(r.First))
	w.fixed64(recordLastTime, r.LastTime)
	w.fixed64(recordLastChain, r.LastChain)
	if r.Applied != r.Last {
		w.fixed64(recordAppliedTime, r.AppliedTime)
		w.fixed64(recordAppliedChain, r.AppliedChain)
	}
	w.uint(recordEstablished, r.Established)
	w.home(recordAcceptedHome, r.AcceptedHome)
	for i := range r.GlobalPromises {
		p := &r.GlobalPromises[i]
		if p.Ballot.IsZero() {
			break
		}
		at := w.open(recordGlobalPromises)
		w.ballot(1, p.Ballot)
		w.bool(2, p.Sticky)
		w.shut(at)
	}
	if r.Fort != (Fort{}) {
		at := w.open(recordFort)
		w.uint(1, uint64(r.Fort.Owner))
		w.uint(2, r.Fort.Epoch)
		w.shut(at)
	}
	w.uint(recordStopSlot, uint64(r.StopSlot))
	w.uint(recordStopNext, r.StopNext)
	return w.checksum(start)
}

// DecodeRecord reads what Append wrote, and nothing after it. It also reads version 1, which knew one configuration and no
// homes: AcceptedHome is then empty, and was all regions. Every error is ErrCorrupt.
func DecodeRecord(src []byte) (Record, error) {
	version, body, err := onDisk(src, "record")
	if err != nil {
		return Record{}, err
	}
	var rec Record
	switch version {
	case recordVersion:
		f := fields{src: body, what: "record", kind: ErrCorrupt}
		rec.decodeFields(&f)
		err = f.err
	case recordVersion1:
		rec, err = decodeRecordV1(body)
	default:
		err = fmt.Errorf("%w: record: version %d, this program reads %d and %d", ErrCorrupt, version, recordVersion1, recordVersion)
	}
	if err != nil {
		return Record{}, err
	}
	if err := rec.check(); err != nil {
		return Record{}, fmt.Errorf("%w: record: %w", ErrCorrupt, err)
	}
	return rec, nil
}

func (r *Record) decodeFields(f *fields) {
	var uncommitted, unapplied Slot
	promises := 0
	appliedApart := false
	for f.next() {
		switch f.number {
		case recordAccepted:
			r.Accepted = f.ballot()
		case recordPromised:
			r.Promised = f.ballot()
		case recordLast:
			r.Last = Slot(f.uint())
		case recordUncommitted:
			uncommitted = Slot(f.uint())
		case recordUnapplied:
			unapplied = Slot(f.uint())
		case recordFirst:
			r.First = Slot(f.uint())
		case recordLastTime:
			r.LastTime = f.fixed64()
		case recordLastChain:
			r.LastChain = f.fixed64()
		case recordAppliedTime:
			r.AppliedTime, appliedApart = f.fixed64(), true
		case recordAppliedChain:
			r.AppliedChain, appliedApart = f.fixed64(), true
		case recordEstablished:
			r.Established = f.uint()
		case recordAcceptedHome:
			r.AcceptedHome = f.home()
		case recordGlobalPromises:
			if promises == GlobalPromisesMax {
				f.fail("more than %d global promises", GlobalPromisesMax)
				return
			}
			r.GlobalPromises[promises] = f.globalPromise()
			promises++
			f.repeats()
		case recordFort:
			r.Fort = f.fort()
		case recordStopSlot:
			r.StopSlot = Slot(f.uint())
		case recordStopNext:
			r.StopNext = f.uint()
		default:
			f.unknown()
		}
	}
	switch {
	case r.Promised.IsZero():
		r.Promised = r.Accepted
	case r.Promised == r.Accepted:
		f.fail("promised is written though it is accepted")
	}
	// A difference that is more than it is taken from gives a slot above that, which check refuses.
	r.Commit = r.Last - uncommitted
	r.Applied = r.Commit - unapplied
	switch {
	case r.Applied != r.Last:
	case appliedApart:
		f.fail("applied is written though it is last")
	default:
		r.AppliedTime, r.AppliedChain = r.LastTime, r.LastChain
	}
}

func (f *fields) globalPromise() (p GlobalPromise) {
	in := f.within(messageWithinMax)
	for in.next() {
		switch in.number {
		case 1:
			p.Ballot = in.ballot()
		case 2:
			p.Sticky = in.bool()
		default:
			in.unknown()
		}
	}
	if f.absorb(&in); f.err == nil && p.Ballot.IsZero() {
		f.fail("field %d has no ballot", f.number)
	}
	return p
}

func (f *fields) fort() (t Fort) {
	in := f.within(messageWithinMax)
	for in.next() {
		switch in.number {
		case 1:
			t.Owner = NodeID(in.uint())
		case 2:
			t.Epoch = in.uint()
		default:
			in.unknown()
		}
	}
	if f.absorb(&in); f.err == nil && t == (Fort{}) {
		f.fail("field %d is empty", f.number)
	}
	return t
}
