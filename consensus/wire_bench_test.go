// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/atlas-edge/atlas/consensus/consensuspb"
)

// aBallot and aTime are as long as those of a node that has run for a while: node ids and times have no zeros to leave out.
const aTime Timestamp = 1_790_000_000_123_456_789

// shared: only read.
var aBallot = Ballot{Cfg: 4, Round: 12, Node: 0x1122334455667788}

// soleRecord is what a sole voter writes with every batch, acceptorRecord what a follower does.
func soleRecord() Record {
	return Record{
		Promised: aBallot, Accepted: aBallot, Last: 1234567, Commit: 1234567, Applied: 1234567, First: 1234568, LastTime: aTime, AppliedTime: aTime,
		LastChain: 0x9e3779b97f4a7c15, AppliedChain: 0x9e3779b97f4a7c15, Established: 4, AcceptedHome: homeOf(0),
	}
}

func acceptorRecord() Record {
	r := soleRecord()
	r.Commit, r.Applied, r.First = r.Last-40, r.Last-60, r.Last-1000
	r.AppliedTime, r.AppliedChain = aTime-1e6, 0x0102030405060708
	r.Fort = Fort{aBallot.Node, 12}
	return r
}

// anAccept has so many commands of 100 bytes, each of a session.
func anAccept(entries int) Message {
	m := Message{Type: Accept, Ballot: aBallot, Slot: 1234567, Chain: 0x9e3779b97f4a7c15, Commit: 1234560, Epoch: 12, Established: 4}
	before := m.Chain
	for i := range entries {
		e := Entry{
			Slot: m.Slot + Slot(i) + 1, Ballot: aBallot, Time: aTime + uint64(i), Payload: make([]byte, 100),
			Session: 0x1020304050607080, Seq: uint64(1000 + i),
		}
		e.Chain = chain(before, &e)
		before = e.Chain
		m.Entries = append(m.Entries, e)
	}
	return m
}

func anAccepted() Message {
	return Message{Type: Accepted, Ballot: aBallot, Slot: 1234568, Commit: 1234560, FortEpoch: 12}
}

// BenchmarkRecord is the acceptor record of the hot path, by hand and by the generated code.
func BenchmarkRecord(b *testing.B) {
	for name, r := range map[string]Record{"sole": soleRecord(), "acceptor": acceptorRecord()} {
		disk := r.Append(nil)
		p := pbRecord(&r)
		b.Run(name+"/append/hand", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				disk = r.Append(disk[:0])
			}
			b.ReportMetric(float64(len(disk)), "bytes")
		})
		b.Run(name+"/append/generated", func(b *testing.B) {
			benchMarshal(b, p)
		})
		b.Run(name+"/decode/hand", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeRecord(disk); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/decode/generated", func(b *testing.B) {
			benchUnmarshal(b, disk[1:len(disk)-checksumLen], &consensuspb.AcceptorRecord{})
		})
	}
}

// BenchmarkEntry is one entry of the log on disk, with a command of 100 bytes.
func BenchmarkEntry(b *testing.B) {
	e := anAccept(1).Entries[0]
	disk := e.AppendTo(nil)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			disk = e.AppendTo(disk[:0])
		}
		b.ReportMetric(float64(len(disk)), "bytes")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeEntry(disk); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAccept is an Accept with 1 and 64 commands of 100 bytes, and the answer to it.
func BenchmarkAccept(b *testing.B) {
	for _, tc := range []struct {
		name string
		m    Message
	}{{"entries=1", anAccept(1)}, {"entries=64", anAccept(64)}, {"accepted", anAccepted()}} {
		wire := tc.m.AppendTo(nil)
		p := pbMessage(&tc.m)
		b.Run(tc.name+"/marshal/hand", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				wire = tc.m.AppendTo(wire[:0])
			}
			b.ReportMetric(float64(len(wire)), "bytes")
		})
		b.Run(tc.name+"/marshal/generated", func(b *testing.B) {
			benchMarshal(b, p)
		})
		b.Run(tc.name+"/unmarshal/hand", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeMessage(wire); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(tc.name+"/unmarshal/generated", func(b *testing.B) {
			benchUnmarshal(b, wire, &consensuspb.Message{})
		})
	}
}

func benchMarshal(b *testing.B, p proto.Message) {
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		var err error
		if buf, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(buf[:0], p); err != nil {
			b.Fatal(err)
		}
	}
}

func benchUnmarshal(b *testing.B, src []byte, p proto.Message) {
	b.ReportAllocs()
	for b.Loop() {
		if err := proto.Unmarshal(src, p); err != nil {
			b.Fatal(err)
		}
	}
}

// TestBytesOnTheWire prints what one replicated command of 100 bytes takes on the wire to one peer and back, as frames with
// nothing else in them, and holds it against a bound.
func TestBytesOnTheWire(t *testing.T) {
	frame := func(m Message) int {
		return len(canonical(t, &consensuspb.Frame{From: uint64(aBallot.Node), To: 0x2233445566778899, Groups: []*consensuspb.GroupMessages{
			{Group: "shop", Messages: []*consensuspb.Message{pbMessage(&m)}},
		}}))
	}
	for _, tc := range []struct {
		batch   int
		session bool
		atMost  float64 // bytes per command
	}{{1, false, 251}, {1, true, 265}, {64, false, 125}, {64, true, 139}} {
		m, answer := anAccept(tc.batch), anAccepted()
		for i := range m.Entries {
			if e := &m.Entries[i]; !tc.session {
				e.Session, e.Seq = 0, 0
			}
		}
		accept, accepted := frame(m), frame(answer)
		each := float64(accept+accepted) / float64(tc.batch)
		t.Logf("batch=%d session=%v: Accept %d bytes (message %d), Accepted %d bytes (message %d), %.1f bytes per command of 100 bytes",
			tc.batch, tc.session, accept, len(m.AppendTo(nil)), accepted, len(answer.AppendTo(nil)), each)
		if each > tc.atMost {
			t.Errorf("batch %d: %.1f bytes per command, more than %.0f", tc.batch, each, tc.atMost)
		}
	}
	heartbeat := len(canonical(t, &consensuspb.Frame{From: uint64(aBallot.Node), To: 0x2233445566778899, Heartbeat: &consensuspb.Heartbeat{
		Epoch: 12, Seq: 100000, Support: 3e9, Hlc: aTime, HlcCeiling: aTime, About: uint64(aBallot.Node), Rtt: 80e6,
	}}))
	t.Logf("a frame with a heartbeat alone: %d bytes", heartbeat)
	for _, r := range []Record{soleRecord(), acceptorRecord()} {
		t.Logf("acceptor record: %d bytes", len(r.Append(nil)))
	}
	e := anAccept(1).Entries[0]
	t.Logf("log entry of a command of 100 bytes, on disk: %d bytes", len(e.AppendTo(nil)))
}
