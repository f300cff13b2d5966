// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

var repeatedByte = regexp.MustCompile(`\\\*\((\d+),(\\s|.)\)`)

// unescape reads the escapes of the table and of transcripts.
func unescape(t testing.TB, s string) string {
	t.Helper()
	s = repeatedByte.ReplaceAllStringFunc(s, func(m string) string {
		parts := repeatedByte.FindStringSubmatch(m)
		n, err := strconv.Atoi(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		return strings.Repeat(parts[2], n)
	})
	s = strings.ReplaceAll(s, `\s`, " ")
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return out
}

// logged keeps what is logged at info and above.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// G22, G23, G25, G26: TestHostileInput plays testdata/hostile.txt: for each row the exact answer or close, another client served, nothing
// changed, nothing left behind, and no secret or input in the log.
func TestHostileInput(t *testing.T) {
	raw, err := os.ReadFile("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	logs := new(logged)
	f := newFake()
	s := start(t, f, Options{Logger: slog.New(slog.NewTextHandler(logs, nil)), AuthDelay: AuthDelayMin})
	other := dial(t, s)
	goroutines := runtime.NumGoroutine()
	rows := 0
	for line := range strings.SplitSeq(string(raw), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		row, writes := strings.CutPrefix(line, "writes: ")
		sent, want, ok := strings.Cut(row, " ==> ")
		if !ok {
			t.Fatalf("row without ==>: %s", row)
		}
		rows++
		f.mu.Lock()
		before := maps.Clone(f.rows)
		f.mu.Unlock()
		c := dial(t, s)
		c.send(unescape(t, sent))
		closed := false
		for answer := range strings.SplitSeq(want, " || ") {
			if closed = answer == "closed"; closed {
				c.wantClosed()
				break
			}
			if strings.Contains(answer, `\u`) {
				answer = unescape(t, answer)
			}
			if got := c.line(); got != answer {
				t.Fatalf("row %s\n got line %q\nwant line %q", row, got, answer)
			}
		}
		if !closed {
			c.send("NODE PING 1\r\n")
			c.want("PONG node=1 rtt_ms=0", "OK")
		}
		if err := c.nc.Close(); err != nil {
			t.Fatal(err)
		}
		if got := other.do("PRINCIPAL WHOAMI"); got != "PRINCIPAL (none)\nOK\n" {
			t.Fatalf("row %s: another client got %q", row, got)
		}
		f.mu.Lock()
		same := maps.EqualFunc(before, f.rows, func(a, b fakeRow) bool { return a.version == b.version })
		f.mu.Unlock()
		if same == writes {
			t.Fatalf("row %s: stored rows are unchanged: %v", row, same)
		}
	}
	if rows < 100 {
		t.Fatalf("only %d rows", rows)
	}
	t.Logf("%d cases of bad input", rows)
	eventually(t, "sessions end", func() bool { return f.sessions() == 1 })
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+workersIdleMax })
	if text := logs.String(); strings.Count(text, "\n") > 1 || strings.Contains(text, "canary") {
		t.Errorf("log:\n%s", text)
	}
}
