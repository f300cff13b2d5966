// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/atlas-edge/atlas/consensus/consensuspb"
)

// TestGolden fixes the bytes of every record, a file each in testdata/golden: the input is the record as text of the schema,
// the output its bytes, a field a line. A change of one of these is a new version. -rewrite writes them anew.
//
//	entry, record, message   by the codecs of this package, held against the generated ones
//	record-v1                hex of version 1 in; what it says, in version 2, out
//	schema NAME              any other message of the schema, by the generated code
//	disk NAME                the same with version and checksum around it
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "entry":
				var p consensuspb.Entry
				parse(t, d, &p)
				e := goEntry(&p)
				return goldenDisk(t, d, &p, e.AppendTo(nil), func(b []byte) (proto.Message, error) {
					e, err := DecodeEntry(b)
					return pbEntry(&e), err
				})
			case "record":
				var p consensuspb.AcceptorRecord
				parse(t, d, &p)
				r := goRecord(&p)
				return goldenDisk(t, d, &p, r.Append(nil), func(b []byte) (proto.Message, error) {
					r, err := DecodeRecord(b)
					return pbRecord(&r), err
				})
			case "message":
				var p consensuspb.Message
				parse(t, d, &p)
				m := goMessage(&p)
				got := m.AppendTo(nil)
				again, err := DecodeMessage(got)
				if want := canonical(t, &p); err != nil || !bytes.Equal(got, want) || !equalMessages(&m, &again) {
					d.Fatalf(t, "\n got %x\nwant %x, decoded %+v, %v", got, want, again, err)
				}
				return dump(t, p.ProtoReflect().Descriptor(), got)
			case "record-v1":
				r, err := DecodeRecord(unhex(t, d.Input))
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				return text(t, pbRecord(&r)) + "\n"
			case "schema", "disk":
				p := schemaMessage(t, d)
				parse(t, d, p)
				if d.Cmd == "schema" {
					return dump(t, p.ProtoReflect().Descriptor(), canonical(t, p))
				}
				b, err := consensuspb.AppendOnDisk(nil, p)
				if again := proto.Clone(p); err != nil || consensuspb.DecodeOnDisk(b, len(b), again) != nil || !proto.Equal(again, p) {
					d.Fatalf(t, "%x, %v", b, err)
				}
				return dumpDisk(t, p.ProtoReflect().Descriptor(), b)
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

func schemaMessage(t *testing.T, d *datadriven.TestData) proto.Message {
	for _, m := range []proto.Message{
		&consensuspb.Frame{}, &consensuspb.Heartbeat{}, &consensuspb.HeartbeatAck{}, &consensuspb.SnapshotMeta{},
		&consensuspb.SystemEntry{}, &consensuspb.NodeRecord{},
	} {
		if string(m.ProtoReflect().Descriptor().Name()) == d.CmdArgs[0].Key {
			return m
		}
	}
	d.Fatalf(t, "no message %s", d.CmdArgs[0].Key)
	return nil
}

func parse(t *testing.T, d *datadriven.TestData, m proto.Message) {
	t.Helper()
	if err := prototext.Unmarshal([]byte(d.Input), m); err != nil {
		d.Fatalf(t, "%v", err)
	}
}

func goldenDisk(t *testing.T, d *datadriven.TestData, p proto.Message, got []byte, decode func([]byte) (proto.Message, error)) string {
	t.Helper()
	again, err := decode(got)
	if want := diskForm(recordVersion, canonical(t, p)); err != nil || !bytes.Equal(got, want) || !proto.Equal(again, p) {
		d.Fatalf(t, "\n got %x\nwant %x, decoded %v, %v", got, want, again, err)
	}
	return dumpDisk(t, p.ProtoReflect().Descriptor(), got)
}

func dumpDisk(t *testing.T, d protoreflect.MessageDescriptor, b []byte) string {
	t.Helper()
	end := len(b) - checksumLen
	return fmt.Sprintf("%d bytes\n%02x version\n%s%x checksum\n", len(b), b[0], strings.SplitAfterN(dump(t, d, b[1:end]), "\n", 2)[1], b[end:])
}

// dump is a line for each field: its bytes, its number and name.
func dump(t *testing.T, d protoreflect.MessageDescriptor, b []byte) string {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "%d bytes\n", len(b))
	for len(b) > 0 {
		number, _, n := protowire.ConsumeField(b)
		if n < 0 {
			t.Fatalf("bad field in %x", b)
		}
		fmt.Fprintf(&out, "%s %d %s\n", hex.EncodeToString(b[:n]), number, d.Fields().ByNumber(number).Name())
		b = b[n:]
	}
	return out.String()
}

// text is one line, whose spaces the library does not choose at random.
func text(t *testing.T, m proto.Message) string {
	t.Helper()
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(strings.ReplaceAll(string(b), ", ", ","), ": ", ":")
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
