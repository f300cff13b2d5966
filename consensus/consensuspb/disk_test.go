// SPDX-License-Identifier: AGPL-3.0-only

package consensuspb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/atlas-edge/atlas/consensus/consensuspb"
)

func onDisk(t interface{ Fatal(...any) }, m proto.Message) []byte {
	b, err := consensuspb.AppendOnDisk([]byte("before"), m)
	if err != nil {
		t.Fatal(err)
	}
	return b[len("before"):]
}

func sealed(version byte, body string) []byte {
	b := append([]byte{version}, body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func aNodeRecord() *consensuspb.NodeRecord {
	return &consensuspb.NodeRecord{Epoch: 12, MinCfg: 5, MinEpochs: []*consensuspb.MinEpoch{{Node: 2, Epoch: 8}, {Node: 3, Epoch: 1}}}
}

func aSetConfig() *consensuspb.SystemEntry {
	return &consensuspb.SystemEntry{SetConfig: &consensuspb.SetConfig{Configuration: &consensuspb.Configuration{
		Version: 5, Voters: []*consensuspb.Voter{{Node: 1, Region: "eu"}, {Node: 2, Region: "us"}}, Fn: 1, Learners: []uint64{9},
	}}}
}

func TestOnDiskRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &consensuspb.NodeRecord{Epoch: rapid.Uint64().Draw(t, "epoch"), MinCfg: rapid.Uint64().Draw(t, "min cfg")}
		for range rapid.IntRange(0, 5).Draw(t, "min epochs") {
			r.MinEpochs = append(r.MinEpochs, &consensuspb.MinEpoch{Node: rapid.Uint64().Draw(t, "node"), Epoch: rapid.Uint64().Draw(t, "epoch")})
		}
		var again consensuspb.NodeRecord
		if err := consensuspb.DecodeOnDisk(onDisk(t, r), consensuspb.NodeRecordLenMax, &again); err != nil || !proto.Equal(r, &again) {
			t.Fatalf("%v comes back as %v, %v", r, &again, err)
		}
	})
}

// TestLargestFit builds the largest of what the limits allow.
func TestLargestFit(t *testing.T) {
	r := &consensuspb.NodeRecord{Epoch: math.MaxUint64, MinCfg: math.MaxUint64}
	for range 1 << 16 {
		r.MinEpochs = append(r.MinEpochs, &consensuspb.MinEpoch{Node: math.MaxUint64, Epoch: 1 << 62})
	}
	if n := len(onDisk(t, r)); n > consensuspb.NodeRecordLenMax {
		t.Errorf("the largest node record has %d bytes", n)
	}
	c := &consensuspb.Configuration{Version: math.MaxUint64, Fn: 256, Fz: 256}
	for range 256 {
		c.Voters = append(c.Voters, &consensuspb.Voter{Node: math.MaxUint64, Region: strings.Repeat("r", 128)})
	}
	for range 1 << 10 {
		c.Learners = append(c.Learners, math.MaxUint64)
	}
	if n := len(onDisk(t, &consensuspb.SystemEntry{SetConfig: &consensuspb.SetConfig{Configuration: c}})); n > consensuspb.SystemEntryLenMax {
		t.Errorf("the largest configuration has %d bytes", n)
	}
}

func TestDecodeOnDiskRefuses(t *testing.T) {
	good := onDisk(t, aNodeRecord())
	for bit := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := consensuspb.DecodeOnDisk(bad, consensuspb.NodeRecordLenMax, &consensuspb.NodeRecord{}); !errors.Is(err, consensuspb.ErrCorrupt) {
			t.Errorf("flipped bit %d: %v", bit, err)
		}
	}
	for n := range good {
		if err := consensuspb.DecodeOnDisk(good[:n], consensuspb.NodeRecordLenMax, &consensuspb.NodeRecord{}); !errors.Is(err, consensuspb.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	for _, tc := range []struct {
		name string
		src  []byte
		want string
	}{
		{"too long", make([]byte, consensuspb.NodeRecordLenMax+1), "2097153 bytes exceed limit 2097152"},
		{"version 1", sealed(1, ""), "version 1, this program reads 2"},
		{"unknown field", sealed(2, "\x08\x01\x20\x01"), "a newer program"},
		{"unknown field within", sealed(2, "\x08\x01\x1a\x02\x18\x01"), "a newer program"},
		{"zero", sealed(2, "\x08\x00"), "not in canonical form"},
		{"twice", sealed(2, "\x08\x01\x08\x01"), "not in canonical form"},
		{"out of order", sealed(2, "\x10\x01\x08\x01"), "not in canonical form"},
		{"long varint", sealed(2, "\x08\x81\x00"), "not in canonical form"},
		{"ends in a field", sealed(2, "\x1a\x7f"), "NodeRecord: proto"},
		{"4 GiB", sealed(2, "\x1a\xff\xff\xff\xff\x0f"), "NodeRecord: proto"},
	} {
		err := consensuspb.DecodeOnDisk(tc.src, consensuspb.NodeRecordLenMax, &consensuspb.NodeRecord{})
		if !errors.Is(err, consensuspb.ErrCorrupt) || !strings.Contains(strings.ReplaceAll(err.Error(), "\u00a0", " "), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
	bad := &consensuspb.Voter{Region: "\xff"}
	if b, err := consensuspb.AppendOnDisk([]byte("x"), bad); err == nil || string(b) != "x" {
		t.Errorf("not UTF-8: %q, %v", b, err)
	}
}

func FuzzNodeRecord(f *testing.F) {
	f.Add(onDisk(f, &consensuspb.NodeRecord{}))
	f.Add(onDisk(f, aNodeRecord()))
	f.Fuzz(func(t *testing.T, src []byte) {
		fuzz(t, src, func() proto.Message { return &consensuspb.NodeRecord{} })
	})
}

func FuzzSystemEntry(f *testing.F) {
	f.Add(onDisk(f, aSetConfig()))
	f.Add(onDisk(f, &consensuspb.SystemEntry{AddNode: &consensuspb.AddNode{Node: 7, Region: "zürich-1"}}))
	f.Add(onDisk(f, &consensuspb.SystemEntry{Retire: &consensuspb.Retire{Version: 4, Sealed: []uint64{1, 2, 300}}}))
	f.Fuzz(func(t *testing.T, src []byte) {
		fuzz(t, src, func() proto.Message { return &consensuspb.SystemEntry{} })
	})
}

// fuzz decodes the bytes as they are and with a right checksum. What decodes has these bytes and no others.
func fuzz(t *testing.T, src []byte, empty func() proto.Message) {
	tries := [][]byte{src}
	if n := len(src) - 4; n > 0 {
		tries = append(tries, sealed(src[0], string(src[1:n])))
	}
	for _, b := range tries {
		m := empty()
		if err := consensuspb.DecodeOnDisk(b, 1<<16, m); err != nil {
			if !errors.Is(err, consensuspb.ErrCorrupt) {
				t.Fatalf("error %v is not ErrCorrupt", err)
			}
		} else if again := onDisk(t, m); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes, and encodes to %x", b, again)
		}
	}
}
