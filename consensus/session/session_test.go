// SPDX-License-Identifier: AGPL-3.0-only

package session

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func newTable(t testing.TB, o Options) *Table {
	t.Helper()
	table, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func want(t *testing.T, d Decision, outcome Outcome, result string) {
	t.Helper()
	if d.Outcome != outcome || string(d.Result) != result {
		t.Fatalf("%s %q, want %s %q", d.Outcome, d.Result, outcome, result)
	}
}

// A request that comes again gets its first answer, and takes effect once.
func TestDuplicateHasTheFirstAnswer(t *testing.T) {
	table := newTable(t, Options{})
	if err := table.Open(5, 100); err != nil {
		t.Fatal(err)
	}
	want(t, table.Peek(5, 1), Fresh, "")
	want(t, table.Apply(5, 1, 101), Fresh, "")
	if d := table.Apply(5, 1, 102); d.Outcome != Duplicate || d.Kept {
		t.Fatalf("before Keep: %+v", d)
	}
	if !table.Keep(5, 1, []byte("one")) || table.Keep(5, 1, []byte("two")) {
		t.Fatal("Keep takes the first answer only")
	}
	want(t, table.Apply(5, 1, 103), Duplicate, "one")
	want(t, table.Peek(5, 1), Duplicate, "one")
	want(t, table.Apply(5, 3, 104), Fresh, "")
	table.Keep(5, 3, nil)
	if d := table.Peek(5, 3); d.Outcome != Duplicate || !d.Kept || len(d.Result) != 0 {
		t.Fatalf("an empty answer is an answer: %+v", d)
	}
	want(t, table.Apply(5, 2, 105), Fresh, "") // below 3, and in the window
}

func TestWindow(t *testing.T) {
	table := newTable(t, Options{})
	if err := table.Open(1, 1); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= 100; seq++ {
		want(t, table.Apply(1, seq, 1+seq), Fresh, "")
		table.Keep(1, seq, fmt.Append(nil, seq))
	}
	want(t, table.Apply(1, 36, 200), TooOld, "")
	want(t, table.Apply(1, 37, 201), Duplicate, "37")
	want(t, table.Apply(1, 100, 202), Duplicate, "100")
	want(t, table.Apply(1, 0, 203), TooOld, "")
	want(t, table.Apply(1, 1<<63, 204), Fresh, "") // a jump moves the window past all that was kept
	want(t, table.Apply(1, 100, 205), TooOld, "")
	want(t, table.Apply(1, 1<<63-63, 206), Fresh, "")
	want(t, table.Apply(1, 1<<63-64, 207), TooOld, "")
	if got := table.Outstanding(1); got != 62 {
		t.Fatalf("%d outstanding, want 62", got)
	}
}

// A session is forgotten by log time, by whatever entry brings that time, and then is Expired for ever.
func TestExpiry(t *testing.T) {
	table := newTable(t, Options{Lifetime: 10})
	for id := ID(1); id <= 3; id++ {
		if err := table.Open(id, Timestamp(id)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, table.Apply(1, 1, 11), Fresh, "") // renews 1
	table.Advance(12)                         // 2 was used at 2, and lives up to and with 12
	want(t, table.Peek(2, 1), Fresh, "")
	table.Advance(13)
	want(t, table.Peek(2, 1), Expired, "")
	want(t, table.Apply(3, 1, 14), Expired, "") // the time of the entry itself counts
	want(t, table.Apply(1, 1, 15), Duplicate, "")
	if err := table.Open(2, 16); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a name is never used again: %v", err)
	}
	if !table.Close(1, 17) || table.Close(1, 18) {
		t.Fatal("Close reports whether there was one")
	}
	want(t, table.Apply(1, 1, 19), Expired, "")
	want(t, table.Peek(9, 1), Fresh, "") // not opened here yet: Apply decides
	want(t, table.Apply(9, 1, 20), Expired, "")
}

func TestBounds(t *testing.T) {
	table := newTable(t, Options{SessionsMax: 2, ResultBytesMax: 10})
	for id := ID(1); id <= 2; id++ {
		if err := table.Open(id, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Open(3, 1); !errors.Is(err, ErrFull) || table.Len() != 2 {
		t.Fatalf("%v with %d sessions", err, table.Len())
	}
	for seq, body := range []string{"", "aaaa", "bbbb", "cccccccccccc", "dddd", "e"} {
		if seq == 0 {
			continue
		}
		want(t, table.Apply(1, uint64(seq), 2), Fresh, "")
		if got := table.Keep(1, uint64(seq), []byte(body)); got != (len(body) <= 10) {
			t.Fatalf("kept %q: %v", body, got)
		}
	}
	for seq, body := range []string{"", "-", "bbbb", "-", "dddd", "e"} {
		if seq == 0 {
			continue
		}
		d := table.Peek(1, uint64(seq))
		if body == "-" && (d.Outcome != Duplicate || d.Kept) || body != "-" && string(d.Result) != body {
			t.Fatalf("%d: %+v, want %q", seq, d, body)
		}
	}
	if _, err := New(Options{SessionsMax: -1, ResultBytesMax: ResultBytesLimit + 1, Lifetime: LifetimeLimit + 1}); err == nil ||
		strings.Count(err.Error(), ErrInvalid.Error()) != 3 {
		t.Fatalf("want three problems, got: %v", err)
	}
}

// The result that was just kept stays, even when its number is the lowest.
func TestLowestResultIsKept(t *testing.T) {
	table := newTable(t, Options{ResultBytesMax: 4})
	if err := table.Open(1, 1); err != nil {
		t.Fatal(err)
	}
	table.Apply(1, 2, 2)
	table.Keep(1, 2, []byte("bbb"))
	table.Apply(1, 1, 3)
	if !table.Keep(1, 1, []byte("aaa")) {
		t.Fatal("not kept")
	}
	want(t, table.Peek(1, 1), Duplicate, "aaa")
	want(t, table.Peek(1, 2), Duplicate, "")
}

// twin is the table, said slowly: every request ever applied, and every use of every session.
type twin struct {
	o       Options
	now     Timestamp
	opened  ID
	used    map[ID]Timestamp
	applied map[ID]map[uint64]*string // nil: no answer kept
}

func (w *twin) live(id ID) bool {
	used, ok := w.used[id]
	return ok && w.now-used <= w.o.Lifetime
}

func (w *twin) highest(id ID) (top uint64) {
	for seq := range w.applied[id] {
		top = max(top, seq)
	}
	return top
}

func (w *twin) decide(id ID, seq uint64) Decision {
	top := w.highest(id)
	switch answer, ok := w.applied[id][seq]; {
	case !w.live(id):
		return Decision{Outcome: Expired}
	case seq == 0 || seq+WindowLen <= top:
		return Decision{Outcome: TooOld}
	case !ok:
		return Decision{Outcome: Fresh}
	case answer == nil:
		return Decision{Outcome: Duplicate}
	default:
		return Decision{Outcome: Duplicate, Kept: true, Result: []byte(*answer)}
	}
}

// keep lets the oldest answers in the window go until the rest fits.
func (w *twin) keep(id ID, seq uint64, body string) {
	if len(body) > w.o.ResultBytesMax {
		return
	}
	w.applied[id][seq] = &body
	top, sum := w.highest(id), 0
	var kept []uint64
	for s, answer := range w.applied[id] {
		if answer != nil && len(*answer) > 0 && s+WindowLen > top {
			kept, sum = append(kept, s), sum+len(*answer)
		}
	}
	slices.Sort(kept)
	for _, s := range kept {
		if sum > w.o.ResultBytesMax && s != seq {
			sum -= len(*w.applied[id][s])
			w.applied[id][s] = nil
		}
	}
}

// Random histories: the table says what its twin says, its copies and what it decodes to go on alike, byte for byte.
func TestTwin(t *testing.T) {
	for seed := range uint64(300) {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { twinHistory(t, seed) }) {
			t.Fatalf("replay: go test ./consensus/session -run 'TestTwin/^%d$'", seed)
		}
	}
}

func twinHistory(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	o := Options{SessionsMax: 1 + rng.IntN(6), ResultBytesMax: 1 + rng.IntN(60), Lifetime: 1 + rng.Uint64N(200)}
	table := newTable(t, o)
	w := &twin{o: o, used: map[ID]Timestamp{}, applied: map[ID]map[uint64]*string{}}
	pick := func() ID { return ID(max(0, int(w.opened)-rng.IntN(8))) + ID(rng.IntN(2)) }
	for range 300 {
		w.now += rng.Uint64N(1 + o.Lifetime/10)
		switch op := rng.IntN(12); op {
		case 0:
			id, live := w.opened+ID(rng.IntN(3)), 0
			for other := range w.used {
				if w.live(other) {
					live++
				}
			}
			ok := id > w.opened && live < o.SessionsMax
			if err := table.Open(id, w.now); (err == nil) != ok {
				t.Fatalf("open %d: %v, want %v", id, err, ok)
			}
			if ok {
				w.opened, w.used[id], w.applied[id] = id, w.now, map[uint64]*string{}
			}
		case 1:
			id := pick()
			if got := table.Close(id, w.now); got != w.live(id) {
				t.Fatalf("close %d: %v", id, got)
			}
			delete(w.used, id)
		case 2:
			raw := table.AppendTo(nil)
			back, err := Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			if c := table.Clone(); !bytes.Equal(c.AppendTo(nil), raw) || !bytes.Equal(back.AppendTo(nil), raw) || c.Hash() != back.Hash() {
				t.Fatal("a copy has other bytes")
			}
			table = back
			if rng.IntN(2) == 0 {
				table = table.Clone()
			}
		default:
			id := pick()
			top := w.highest(id)
			seq := top + 1 + rng.Uint64N(4) - min(top, rng.Uint64N(8)*rng.Uint64N(12))
			table.Advance(w.now)
			expect := w.decide(id, seq)
			if got := table.Peek(id, seq); id <= w.opened && !same(got, expect) {
				t.Fatalf("peek %d/%d: %+v, want %+v", id, seq, got, expect)
			}
			if got := table.Apply(id, seq, w.now); !same(got, expect) {
				t.Fatalf("apply %d/%d: %+v, want %+v", id, seq, got, expect)
			}
			if expect.Outcome != Expired {
				w.used[id] = w.now
			}
			if expect.Outcome != Fresh {
				continue
			}
			w.applied[id][seq] = nil
			if rng.IntN(8) > 0 {
				body := strings.Repeat("x", rng.IntN(20))
				table.Keep(id, seq, []byte(body))
				w.keep(id, seq, body)
			}
		}
	}
}

func same(a, b Decision) bool {
	return a.Outcome == b.Outcome && a.Kept == b.Kept && bytes.Equal(a.Result, b.Result)
}

// A copy shares nothing that changes.
func TestCloneStandsAlone(t *testing.T) {
	table := newTable(t, Options{})
	if err := table.Open(1, 1); err != nil {
		t.Fatal(err)
	}
	table.Apply(1, 1, 2)
	table.Keep(1, 1, []byte("one"))
	before := table.AppendTo(nil)
	c := table.Clone()
	c.Apply(1, 2, 3)
	c.Keep(1, 2, []byte("two"))
	c.Close(1, 4)
	if !bytes.Equal(table.AppendTo(nil), before) {
		t.Fatal("the original changed")
	}
}

// The layout is fixed: a change of these bytes is a new version.
func TestGolden(t *testing.T) {
	table := newTable(t, Options{SessionsMax: 3, ResultBytesMax: 8, Lifetime: 1000})
	for _, id := range []ID{7, 9} {
		if err := table.Open(id, 1000); err != nil {
			t.Fatal(err)
		}
	}
	table.Apply(7, 1, 1100)
	table.Keep(7, 1, []byte("ok"))
	table.Apply(7, 3, 1200)
	const golden = "01 03 08 e807 b009 09 02 07 00 03 05 01 01 02 02 6f6b 02 c801 00 00 00 00"
	raw := table.AppendTo(nil)
	if got := fmt.Sprintf("%x", raw[:len(raw)-checksumLen]); got != strings.ReplaceAll(golden, " ", "") {
		t.Fatalf("layout %s", got)
	}
}

// FuzzDecode: whatever comes, Decode refuses it or returns a table with exactly these bytes.
func FuzzDecode(f *testing.F) {
	table, err := New(Options{SessionsMax: 3, ResultBytesMax: 8, Lifetime: 1000})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(table.AppendTo(nil)[1:])
	_ = table.Open(7, 1000) // cannot fail: it is the first
	table.Apply(7, 1, 1100)
	table.Keep(7, 1, []byte("ok"))
	f.Add(table.AppendTo(nil)[1:])
	f.Fuzz(func(t *testing.T, body []byte) {
		raw := seal(body)
		table, err := Decode(raw)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("class of %v", err)
			}
			return
		}
		if !bytes.Equal(table.AppendTo(nil), raw) {
			t.Fatalf("%x has two layouts", raw)
		}
		table.Apply(7, 2, table.Now()+1)
		table.Keep(7, 2, []byte("x"))
	})
}

// seal puts the version in front and a checksum over the checksum of before, so that the fuzzer gets past it.
func seal(body []byte) []byte {
	raw := append([]byte{tableVersion}, body[:max(0, len(body)-checksumLen)]...)
	return appendChecksum(raw)
}

func TestDecodeRefuses(t *testing.T) {
	table := newTable(t, Options{SessionsMax: 3, ResultBytesMax: 8, Lifetime: 1000})
	if err := table.Open(7, 1000); err != nil {
		t.Fatal(err)
	}
	table.Apply(7, 1, 1100)
	table.Keep(7, 1, []byte("ok"))
	raw := table.AppendTo(nil)
	if _, err := Decode(raw); err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			bad := slices.Clone(raw)
			bad[i] ^= 1 << bit
			if _, err := Decode(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
		}
		if _, err := Decode(raw[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	for name, body := range map[string][]byte{
		"more sessions than the limit": {3, 8, 0xe8, 7, 10, 9, 4},
		"a session twice":              {3, 8, 0xe8, 7, 10, 9, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"a session never opened":       {3, 8, 0xe8, 7, 10, 6, 1, 7, 0, 0, 0, 0, 0},
		"applied above the highest":    {3, 8, 0xe8, 7, 10, 9, 1, 7, 0, 1, 3, 0, 0},
		"highest not applied":          {3, 8, 0xe8, 7, 10, 9, 1, 7, 0, 2, 2, 0, 0},
		"an empty result":              {3, 8, 0xe8, 7, 10, 9, 1, 7, 0, 1, 1, 0, 1, 0, 0},
		"a result that was dropped":    {3, 8, 0xe8, 7, 10, 9, 1, 7, 0, 1, 1, 1, 1, 0, 1, 65},
		"too many bytes of results":    {3, 1, 0xe8, 7, 10, 9, 1, 7, 0, 1, 1, 0, 1, 0, 2, 65, 65},
		"used before the first time":   {3, 8, 0xe8, 7, 10, 9, 1, 7, 11, 0, 0, 0, 0},
		"no limit on sessions":         {0, 8, 0xe8, 7, 10, 9, 0},
		"bytes after the end":          {3, 8, 0xe8, 7, 10, 9, 0, 0},
		"a long varint":                {0x83, 0, 8, 0xe8, 7, 10, 9, 0},
	} {
		if _, err := Decode(appendChecksum(append([]byte{tableVersion}, body...))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Decode(appendChecksum([]byte{tableVersion + 1, 3, 8, 0xe8, 7, 10, 9, 0})); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a later version: %v", err)
	}
}

func BenchmarkApply(b *testing.B) {
	table := newTable(b, Options{})
	for id := ID(1); id <= 1000; id++ {
		if err := table.Open(id, 1); err != nil {
			b.Fatal(err)
		}
	}
	body := []byte("OK 1234567890")
	b.ReportAllocs()
	seq := uint64(0)
	for b.Loop() {
		id := ID(1 + seq%1000)
		seq++
		table.Apply(id, seq, seq)
		table.Keep(id, seq, body)
	}
}
