// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"encoding/binary"
)

// Limits of what goes over the wire.
const (
	// MessageLenMax bounds an encoded message, in bytes: what an owner may have uncommitted, recovered with the largest payload
	// on top. A sender stays far below it: see Tuning.MessageBytes.
	MessageLenMax = 1 << 30
	// messageOverheadMax bounds what a message takes besides its entries.
	messageOverheadMax = 512
	// entryLenMin is the least that an entry takes in a message, since it has a commit time: what a decoder allocates stays
	// within ten times of what was sent.
	entryLenMin = 9
)

// The message fields of consensuspb.Message.
const (
	fieldType = iota + 1
	fieldFrom
	fieldTo
	fieldBallot
	fieldSlot
	fieldChain
	fieldEntries
	fieldCommit
	fieldEpoch
	fieldFortEpoch
	fieldPromised
	fieldAccepted
	fieldLast
	fieldFirst
	fieldEstablished
	fieldTime
	fieldScope
	fieldHome
	fieldAcceptedHome
	fieldGlobalPromised
	fieldRelease
	fieldSeq
	fieldStaleCfg
	fieldLeasedOwner
	fieldLeasedFor
	fieldStopSlot
	fieldStopNext
)

// AppendTo appends m as it goes over the wire: consensuspb.Message in its canonical form, in which an entry leaves out its slot
// when that follows from m.Slot and its place, and its ballot when that is m.Ballot. It does not check m.
func (m *Message) AppendTo(dst []byte) []byte {
	w := newWriter(dst, messageOverheadMax)
	w.uint(fieldType, uint64(m.Type))
	w.uint(fieldFrom, uint64(m.From))
	w.uint(fieldTo, uint64(m.To))
	w.ballot(fieldBallot, m.Ballot)
	w.uint(fieldSlot, uint64(m.Slot))
	w.fixed64(fieldChain, m.Chain)
	if len(m.Entries) > 0 {
		m.appendEntries(&w)
	}
	w.uint(fieldCommit, uint64(m.Commit))
	w.uint(fieldEpoch, m.Epoch)
	w.uint(fieldFortEpoch, m.FortEpoch)
	w.ballot(fieldPromised, m.Promised)
	w.ballot(fieldAccepted, m.Accepted)
	w.uint(fieldLast, uint64(m.Last))
	w.uint(fieldFirst, uint64(m.First))
	w.uint(fieldEstablished, m.Established)
	w.fixed64(fieldTime, m.Time)
	w.uint(fieldScope, uint64(m.Scope))
	w.home(fieldHome, m.Home)
	w.home(fieldAcceptedHome, m.AcceptedHome)
	w.ballot(fieldGlobalPromised, m.GlobalPromised)
	w.ballot(fieldRelease, m.Release)
	w.uint(fieldSeq, m.Seq)
	w.uint(fieldStaleCfg, m.StaleCfg)
	w.uint(fieldLeasedOwner, uint64(m.LeasedOwner))
	w.uint(fieldLeasedFor, m.LeasedFor)
	w.uint(fieldStopSlot, uint64(m.StopSlot))
	w.uint(fieldStopNext, m.StopNext)
	return w.written()
}

func (m *Message) appendEntries(w *writer) {
	for i := range m.Entries {
		e := implied(&m.Entries[i], m.Slot+Slot(i)+1, m.Ballot)
		n := e.fieldsLen()
		w.need(n + 1 + binary.MaxVarintLen64 + messageOverheadMax)
		w.tag(fieldEntries, wireBytes)
		w.uvarint(uint64(n))
		e.appendFields(w)
	}
}

// implied is e without what follows from the message.
func implied(e *Entry, slot Slot, ballot Ballot) Entry {
	left := *e
	if left.Slot == slot {
		left.Slot = 0
	}
	if left.Ballot == ballot {
		left.Ballot = Ballot{}
	}
	return left
}

// DecodeMessage reads what AppendTo wrote, and nothing after it. Payloads alias src, and Step keeps them: src must not be used
// again, and stays in memory as long as one of them. Fields of the message that this program does
// not know are skipped, those of its entries and ballots are refused: they would be lost on the way to the disk. All else that
// AppendTo could not have written is refused too, with an error that is ErrInvalid, before anything is
// allocated for it. From and To may be absent: whoever knows them sets them then, and holds them against the connection if
// not. What the message says is not looked at: Step does that.
func DecodeMessage(src []byte) (Message, error) {
	var m Message
	f := fields{what: "message", kind: ErrInvalid, lenient: true}
	if len(src) > MessageLenMax {
		f.fail("length %d exceeds limit %d", len(src), MessageLenMax)
		return Message{}, f.err
	}
	f.src = src
	var entries []byte // from behind the first one's tag
	n := 0
	for f.next() {
		if f.number != fieldEntries {
			m.decodeField(&f)
			continue
		}
		if n++; n == 1 {
			entries = src[f.at:]
		}
		if e := f.bytes(entryLenMax); f.err == nil && len(e) < entryLenMin {
			f.fail("entry %d of %d bytes, want at least %d", n, len(e), entryLenMin)
		}
		if n > EntriesPerMessageMax {
			f.fail("more than %d entries", EntriesPerMessageMax)
		}
		f.repeats()
	}
	if f.err == nil && m.Type == 0 {
		f.fail("no type")
	}
	if f.err == nil && n > 0 {
		m.decodeEntries(&f, entries, n)
	}
	if f.err != nil {
		return Message{}, f.err
	}
	return m, nil
}

func (m *Message) decodeField(f *fields) {
	switch f.number {
	case fieldType:
		m.Type = MessageType(f.enum(uint64(len(messageNames) - 1)))
	case fieldFrom:
		m.From = NodeID(f.uint())
	case fieldTo:
		m.To = NodeID(f.uint())
	case fieldBallot:
		m.Ballot = f.ballot()
	case fieldSlot:
		m.Slot = Slot(f.uint())
	case fieldChain:
		m.Chain = f.fixed64()
	case fieldCommit:
		m.Commit = Slot(f.uint())
	case fieldEpoch:
		m.Epoch = f.uint()
	case fieldFortEpoch:
		m.FortEpoch = f.uint()
	case fieldPromised:
		m.Promised = f.ballot()
	case fieldAccepted:
		m.Accepted = f.ballot()
	case fieldLast:
		m.Last = Slot(f.uint())
	case fieldFirst:
		m.First = Slot(f.uint())
	case fieldEstablished:
		m.Established = f.uint()
	case fieldTime:
		m.Time = f.fixed64()
	case fieldScope:
		m.Scope = Scope(f.enum(uint64(Local)))
	case fieldHome:
		m.Home = f.home()
	case fieldAcceptedHome:
		m.AcceptedHome = f.home()
	case fieldGlobalPromised:
		m.GlobalPromised = f.ballot()
	case fieldRelease:
		m.Release = f.ballot()
	case fieldSeq:
		m.Seq = f.uint()
	case fieldStaleCfg:
		m.StaleCfg = f.uint()
	case fieldLeasedOwner:
		m.LeasedOwner = NodeID(f.uint())
	case fieldLeasedFor:
		m.LeasedFor = f.uint()
	case fieldStopSlot:
		m.StopSlot = Slot(f.uint())
	case fieldStopNext:
		m.StopNext = f.uint()
	default:
		f.unknown()
	}
}

// decodeEntries reads the n entries, the first of which src begins with, and fills in what they left out.
func (m *Message) decodeEntries(f *fields, src []byte, n int) {
	m.Entries = make([]Entry, n)
	run := fields{src: src, what: f.what, kind: f.kind, number: fieldEntries, wire: wireBytes}
	for i := range m.Entries {
		e := &m.Entries[i]
		in := run.within(entryLenMax)
		e.decodeFields(&in)
		run.absorb(&in)
		slot := m.Slot + Slot(i) + 1
		switch {
		case run.err != nil:
		case e.Slot == slot || !e.Ballot.IsZero() && e.Ballot == m.Ballot:
			run.fail("entry %d says what follows from the message", i+1)
		}
		if e.Slot == 0 {
			e.Slot = slot
		}
		if e.Ballot.IsZero() {
			e.Ballot = m.Ballot
		}
		if run.repeats(); i < n-1 && !run.next() {
			break
		}
	}
	f.absorb(&run)
}
