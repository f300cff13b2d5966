// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// answers of one connection, taken apart by request id. Each command's own expectations are a script of what its lines and
// payloads must be, in order.
type script struct {
	steps []string // a line without its tag; after BLOB n, "payload" and then the bytes
}

// G22: TestTearing runs many commands at once on one connection, with answers of all sizes, while untagged ones are pipelined
// between them and a watch reports. Every line and payload must belong to one answer, whole and in its order.
func TestTearing(t *testing.T) {
	f := newFake()
	s := start(t, f, Options{})
	const values = 16
	value := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 1<<i+i) } // up to 32 KiB, then more
	for i := range values {
		f.rows[fmt.Sprintf("v.%02d", i)] = fakeRow{value: value(i), version: 1}
	}
	f.rows["big.a"] = fakeRow{value: bytes.Repeat([]byte("B"), 300_000), version: 1}
	for i := range 3000 {
		f.rows[fmt.Sprintf("rows.%05d", i)] = fakeRow{value: []byte(strconv.Itoa(i)), version: 1}
	}

	commands := []struct {
		text  string
		steps func() []string
	}{
		{"KEY GET v.09", func() []string { return []string{"VALUE:" + string(value(9)), "OK"} }},
		{"KEY BLOB GET v.15", func() []string {
			return []string{fmt.Sprintf("BLOB %d", len(value(15))), "payload", string(value(15)), "OK"}
		}},
		{"KEY BLOB GET big.a", func() []string {
			return []string{"BLOB 300000", "payload", strings.Repeat("B", 300_000), "OK"}
		}},
		{"KEY GET big.a", func() []string { return []string{"VALUE:" + strings.Repeat("B", 300_000), "OK"} }},
		{"KEY GET v.none", func() []string { return []string{"NOT_FOUND", "OK"} }},
		{"KEY PUT w.x 1", func() []string { return []string{"OK"} }},
		{"COUNT rows", func() []string { return []string{"COUNT:3000", "OK"} }},
		{"NOSUCH", func() []string {
			return []string{`ERROR WARN invalid: unknown command "NOSUCH": HELP lists what there is`}
		}},
		{"SCAN rows VALUES", func() []string {
			steps := []string{"KEYS:3000"}
			for i := range 3000 {
				steps = append(steps, fmt.Sprintf("rows.%05d", i), "VALUE:"+strconv.Itoa(i))
			}
			return append(steps, "OK")
		}},
		{"SCAN v VALUES", func() []string {
			steps := []string{fmt.Sprintf("KEYS:%d", values)}
			for i := range values {
				steps = append(steps, fmt.Sprintf("v.%02d", i), "VALUE:"+string(value(i)))
			}
			return append(steps, "OK")
		}},
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	n := 600
	if long() {
		n = 20_000
	}
	c := dial(t, s)
	c.send("[ID:watch] WATCH w\r\n")
	expected := map[string]*script{}
	var untagged []string
	var out strings.Builder
	for i := range n {
		k := commands[rng.IntN(len(commands))]
		if rng.IntN(4) == 0 {
			out.WriteString(k.text + "\r\n")
			untagged = append(untagged, k.steps()...)
			continue
		}
		id := strconv.Itoa(i)
		fmt.Fprintf(&out, "[ID:%s] %s\r\n", id, k.text)
		expected[id] = &script{k.steps()}
	}
	expected[""] = &script{append(untagged, "PONG node=1 rtt_ms=0", "OK")}
	out.WriteString("NODE PING 1\r\n")
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := io.WriteString(c.nc, out.String()); err != nil {
			t.Error(err)
		}
	})
	defer sending.Wait()
	events := 0
	for len(expected) > 0 {
		tag, body := cutTag(c.line())
		if tag == "watch" {
			if !strings.HasPrefix(body, "EVENT PUT ") || !strings.HasSuffix(body, " w.x") {
				t.Fatalf("watch says %q", body)
			}
			events++
			continue
		}
		want := expected[tag]
		if want == nil {
			t.Fatalf("line %.100q of id %q, whose answer is over", body, tag)
		}
		if body != want.steps[0] {
			t.Fatalf("id %q: got line %.100q, want %.100q", tag, body, want.steps[0])
		}
		want.steps = want.steps[1:]
		if len(want.steps) > 0 && want.steps[0] == "payload" {
			c.wantBytes([]byte(want.steps[1]))
			want.steps = want.steps[2:]
		}
		if len(want.steps) == 0 {
			delete(expected, tag)
		}
	}
	c.send("UNWATCH watch\r\n")
	for {
		tag, body := cutTag(c.line())
		if tag == "" {
			if body != "OK" {
				t.Fatalf("UNWATCH says %q", body)
			}
			break
		}
		if strings.HasPrefix(body, "EVENT PUT ") {
			events++
		}
	}
	if want := strings.Count(out.String(), "KEY PUT w.x"); events != want {
		t.Errorf("%d events for %d writes", events, want)
	}
}

// G15: a tagged command runs as the principal in force when it was read, whatever the connection does meanwhile.
func TestPrincipalWhenRead(t *testing.T) {
	s := start(t, openEngine(t), Options{})
	c := dial(t, s)
	for _, command := range []string{"PRINCIPAL ASSUME alice", "KEY PUT users.alice 0", "ACL GRANT users.alice alice PERMS OWNER"} {
		if got := c.do(command); !strings.HasSuffix(got, "OK\n") {
			t.Fatalf("%s: %q", command, got)
		}
	}
	const rounds = 200
	for i := range rounds {
		c.send(fmt.Sprintf("[ID:a%d] KEY PUT users.alice %d\r\nPRINCIPAL ASSUME bob\r\n[ID:b%d] KEY PUT users.alice never\r\n"+
			"[ID:c%d] KEY GET users.alice\r\nPRINCIPAL ASSUME alice\r\n", i, i, i, i))
	}
	got := map[string][]string{}
	for range rounds * (1 + 1 + 1 + 2 + 1) {
		tag, body := cutTag(c.line())
		got[tag] = append(got[tag], body)
	}
	for i := range rounds {
		for tag, want := range map[string]string{
			fmt.Sprintf("a%d", i): "OK", fmt.Sprintf("b%d", i): `ERROR WARN denied: principal "bob" may not write users.alice`,
			fmt.Sprintf("c%d", i): "NOT_FOUND OK",
		} {
			if answer := strings.Join(got[tag], " "); answer != want {
				t.Errorf("id %s: %q, want %q", tag, answer, want)
			}
		}
	}
	if answer := strings.Join(got[""], " "); answer != strings.TrimSpace(strings.Repeat("OK ", 2*rounds)) {
		t.Errorf("untagged answers: %.100q", answer)
	}
}
