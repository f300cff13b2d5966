// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/session"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// verb is what a command does.
type verb uint8

const (
	verbOpen   verb = iota + 1 // opens a session, named by its slot
	verbPut                    // writes value
	verbCas                    // writes value if the key's version is expect
	verbDelete                 // leaves nothing, at a version
	verbGet                    // reads; never in a log
)

var verbNames = [...]string{verbOpen: "open", verbPut: "put", verbCas: "cas", verbDelete: "delete", verbGet: "get"}

func (v verb) String() string { return verbNames[v] }

// command is the payload of an entry. The value names its operation, so that no two operations write one value.
type command struct {
	verb   verb
	key    uint8
	value  uint64
	expect consensus.Slot
}

func (c *command) appendTo(dst []byte) []byte {
	dst = append(dst, byte(c.verb), c.key)
	dst = binary.AppendUvarint(dst, c.value)
	return binary.AppendUvarint(dst, uint64(c.expect))
}

var errCommand = errors.New("no command of the simulator")

func decodeCommand(src []byte) (command, error) {
	if len(src) < 4 || src[0] == 0 || verb(src[0]) >= verbGet || src[1] >= keysMax {
		return command{}, errCommand
	}
	c := command{verb: verb(src[0]), key: src[1]}
	value, n := binary.Uvarint(src[2:])
	if n <= 0 {
		return command{}, errCommand
	}
	expect, m := binary.Uvarint(src[2+n:])
	if m <= 0 || 2+n+m != len(src) {
		return command{}, errCommand
	}
	c.value, c.expect = value, consensus.Slot(expect)
	return c, nil
}

// status is what became of a command when it was applied.
type status uint8

const (
	statusDone    status = iota + 1
	statusRefused        // the condition did not hold
	statusExpired        // the session is not there
	statusForgot         // applied before, and the answer is no longer known
	statusFull           // too many sessions
)

// result is the answer of a command or a read.
type result struct {
	status  status
	version consensus.Slot // written, or read; 0 is a key without a version
	value   uint64         // read; 0 is nothing
}

func (r *result) appendTo(dst []byte) []byte {
	dst = append(dst, byte(r.status))
	return binary.AppendUvarint(dst, uint64(r.version))
}

func decodeResult(src []byte) result {
	version, _ := binary.Uvarint(src[1:])
	return result{status: status(src[0]), version: consensus.Slot(version)}
}

// keysMax bounds the keys of a group.
const keysMax = 8

// cell is one key.
type cell struct {
	value   uint64         // 0 is nothing
	version consensus.Slot // of the last change, a deletion too
}

// machine is the replicated state of a group: a few keys and the sessions. Its hash goes with every slot that it applies.
type machine struct {
	keys    [keysMax]cell
	table   *session.Table
	applied consensus.Slot
	time    consensus.Timestamp
	// content is the keys', kept up with each change; hash is that of all contents and results so far.
	content, hash uint64
	duplicates    uint64 // suppressed here
}

func newMachine(lifetime consensus.Timestamp) *machine {
	table, err := session.New(session.Options{SessionsMax: 64, ResultBytesMax: 1 << 10, Lifetime: lifetime})
	if err != nil {
		panic(err) // our own constants
	}
	return &machine{table: table}
}

func (m *machine) clone() *machine {
	c := *m
	c.table = m.table.Clone()
	return &c
}

// mix is a bijection that moves half of the bits.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (c *cell) hash(key int) uint64 {
	if c.version == 0 {
		return 0
	}
	return mix(mix(mix(uint64(key)+1)^c.value) ^ uint64(c.version))
}

// contents computes content from the keys.
func (m *machine) contents() uint64 {
	h := uint64(0)
	for i := range m.keys {
		h ^= m.keys[i].hash(i)
	}
	return h
}

// tableHash is that of the sessions.
func (m *machine) tableHash() uint64 {
	return uint64(crc32.ChecksumIEEE(m.table.AppendTo(nil)))
}

// apply applies one entry: the next one. It says what came of it, and whether it took effect now.
func (m *machine) apply(e *consensus.Entry) (r result, effective bool, err error) {
	if e.Slot != m.applied+1 {
		return result{}, false, fmt.Errorf("slot %d is applied after slot %d", e.Slot, m.applied)
	}
	if e.Time <= m.time {
		return result{}, false, fmt.Errorf("slot %d of time %d is applied after time %d", e.Slot, e.Time, m.time)
	}
	m.applied, m.time = e.Slot, e.Time
	if e.Kind == consensus.Command {
		r, effective, err = m.run(e)
	}
	m.hash = mix(m.hash ^ m.content ^ uint64(r.status)<<56 ^ uint64(r.version)<<8)
	return r, effective, err
}

func (m *machine) run(e *consensus.Entry) (r result, effective bool, err error) {
	c, err := decodeCommand(e.Payload)
	if err != nil {
		return result{}, false, fmt.Errorf("slot %d: %w", e.Slot, err)
	}
	if c.verb == verbOpen {
		if m.table.Open(session.ID(e.Slot), e.Time) != nil {
			return result{status: statusFull}, false, nil
		}
		return result{status: statusDone, version: e.Slot}, true, nil
	}
	switch d := m.table.Apply(session.ID(e.Session), e.Seq, e.Time); {
	case d.Outcome == session.Duplicate && failpoint.Enabled(failpoint.SimDedupAtOwner):
	case d.Outcome == session.Duplicate && d.Kept:
		m.duplicates++
		return decodeResult(d.Result), false, nil
	case d.Outcome == session.Duplicate || d.Outcome == session.TooOld:
		return result{status: statusForgot}, false, nil
	case d.Outcome == session.Expired:
		return result{status: statusExpired}, false, nil
	}
	r = result{status: statusRefused, version: m.keys[c.key].version}
	if c.verb != verbCas || c.expect == r.version {
		m.content ^= m.keys[c.key].hash(int(c.key))
		m.keys[c.key] = cell{c.value, e.Slot}
		m.content ^= m.keys[c.key].hash(int(c.key))
		r = result{status: statusDone, version: e.Slot}
	}
	m.table.Keep(session.ID(e.Session), e.Seq, r.appendTo(nil))
	return r, true, nil
}

// read answers a read from this state.
func (m *machine) read(key uint8) result {
	c := &m.keys[key]
	return result{status: statusDone, version: c.version, value: c.value}
}

// peek answers a command that was applied before. It may be asked of any state: what was applied stays so.
func (m *machine) peek(id, seq uint64) (result, bool) {
	if d := m.table.Peek(session.ID(id), seq); d.Outcome == session.Duplicate && d.Kept {
		return decodeResult(d.Result), true
	}
	return result{}, false
}
