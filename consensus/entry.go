// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"
	"hash/crc32"
)

// Entry is one slot of a log. Entries are values that never change: the core hands out the slices that it keeps.
type Entry struct {
	Slot    Slot
	Ballot  Ballot    // at which its owner first proposed it; a later owner that adopts the log leaves it as it is
	Time    Timestamp // commit time, above that of the slot before
	Payload []byte    // of a command: opaque to this package, at most PayloadLenMax
	Chain   uint64    // see chain
	Kind    EntryKind
	// Session and Seq are the identity of the request that a command came from; 0 and 0 for none.
	Session, Seq uint64
	// Next, of a stop-sign, is the configuration that it leads to.
	Next uint64
}

// EntryKind says what an entry is.
type EntryKind uint8

// The kinds.
const (
	// Command is a payload for the state machine.
	Command EntryKind = iota
	// StopSign ends the log for ballots of configurations below Next.
	StopSign
)

// chain is the hash of a log up to and with e, from the chain of the slot before it (0 before the first). Logs with equal
// chains at a slot are equal up to there. It detects mistakes and decay; it does not authenticate: whoever can choose
// payloads can make two with one hash.
//
// The payload goes in as two CRCs of different polynomials, since the standard library computes those at memory speed.
func chain(before uint64, e *Entry) uint64 {
	h := mix(before ^ 0x9e3779b97f4a7c15)
	h = mix(h ^ uint64(e.Slot))
	h = mix(h ^ e.Ballot.Cfg)
	h = mix(h ^ e.Ballot.Round)
	h = mix(h ^ uint64(e.Ballot.Node))
	h = mix(h ^ e.Time)
	h = mix(h ^ (uint64(len(e.Payload)) | uint64(e.Kind)<<32))
	h = mix(h ^ e.Session)
	h = mix(h ^ e.Seq)
	h = mix(h ^ e.Next)
	return mix(h ^ (uint64(crc32.Checksum(e.Payload, castagnoli))<<32 | uint64(crc32.ChecksumIEEE(e.Payload))))
}

// mix is the finalizer of MurmurHash3: a bijection of 64 bits in which each bit of the input moves half of the output.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// check holds the entry against the limits. Its errors have no class: who calls knows where the entry came from.
func (e *Entry) check() error {
	switch {
	case e.Slot == 0 || e.Slot > SlotMax:
		return fmt.Errorf("slot %d is not between 1 and %d", e.Slot, SlotMax)
	case e.Time == 0 || e.Time > TimeMax:
		return fmt.Errorf("time %d is not between 1 and %d", e.Time, TimeMax)
	case len(e.Payload) > PayloadLenMax:
		return fmt.Errorf("payload of %d bytes exceeds limit %d", len(e.Payload), PayloadLenMax)
	case e.Kind > StopSign:
		return fmt.Errorf("unknown kind %d", e.Kind)
	case (e.Session == 0) != (e.Seq == 0):
		return fmt.Errorf("session %d and seq %d: only one of them is 0", e.Session, e.Seq)
	case e.Kind == Command && e.Next != 0:
		return fmt.Errorf("a command that leads to configuration %d", e.Next)
	case e.Kind == StopSign && (e.Next <= e.Ballot.Cfg || e.Session != 0 || len(e.Payload) > 0):
		return fmt.Errorf("a stop-sign to configuration %d at ballot %s, session %d, payload of %d bytes", e.Next, e.Ballot, e.Session, len(e.Payload))
	}
	return checkBallot(e.Ballot)
}

func checkBallot(b Ballot) error {
	if b.Round == 0 || b.Round > RoundMax || b.Node == 0 {
		return fmt.Errorf("ballot %s: want a node and a round between 1 and %d", b, uint64(RoundMax))
	}
	return nil
}

// checkRun checks that the entries are a piece of one log: each within the limits, slots without a gap from the one after
// `before`, times rising, chains that follow from chainBefore.
func checkRun(before Slot, chainBefore uint64, entries []Entry) error {
	var timeBefore Timestamp
	for i := range entries {
		e := &entries[i]
		if err := e.check(); err != nil {
			return err
		}
		if e.Slot != before+1 {
			return fmt.Errorf("slot %d follows slot %d", e.Slot, before)
		}
		if e.Time <= timeBefore {
			return fmt.Errorf("slot %d: time %d does not rise from %d", e.Slot, e.Time, timeBefore)
		}
		if want := chain(chainBefore, e); e.Chain != want {
			return fmt.Errorf("slot %d: chain %016x, computed %016x", e.Slot, e.Chain, want)
		}
		before, chainBefore, timeBefore = e.Slot, e.Chain, e.Time
	}
	return nil
}
