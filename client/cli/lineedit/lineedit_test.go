// SPDX-License-Identifier: AGPL-3.0-only

package lineedit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rivo/uniseg"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// screen is as much of a terminal as the editor uses.
type screen struct {
	width    int
	rows     [][]string // cells; a wide character's second cell is ""
	row, col int
	bells    int
	cleared  int // times that all of it was cleared from its first cell on, which some terminals keep as history
	partial  []byte
}

func newScreen(width int) *screen { return &screen{width: width, rows: [][]string{{}}} }

func (s *screen) Write(p []byte) (int, error) {
	text := string(append(s.partial, p...))
	s.partial = nil
	for state := -1; len(text) > 0; {
		var cluster string
		switch text[0] {
		case '\a':
			s.bells++
			text = text[1:]
			continue
		case '\r':
			s.col = 0
			text = text[1:]
			continue
		case '\n':
			s.down()
			text = text[1:]
			continue
		case 0x1b:
			end := strings.IndexFunc(text[2:], func(r rune) bool { return r >= '@' && r <= '~' }) + 2
			s.escape(text[2:end], text[end])
			text, state = text[end+1:], -1
			continue
		}
		cluster, text, _, state = uniseg.FirstGraphemeClusterInString(text, state)
		s.put(cluster)
	}
	return len(p), nil
}

func (s *screen) down() {
	s.row++
	for len(s.rows) <= s.row {
		s.rows = append(s.rows, nil)
	}
}

func (s *screen) put(cluster string) {
	w := uniseg.StringWidth(cluster)
	if s.col+w > s.width {
		s.col = 0
		s.down()
	}
	line := s.rows[s.row]
	for len(line) < s.col+w {
		line = append(line, " ")
	}
	line[s.col] = cluster
	if w == 2 {
		line[s.col+1] = ""
	}
	s.rows[s.row] = line
	s.col += w
}

func (s *screen) escape(params string, final byte) {
	n, err := strconv.Atoi(params)
	if err != nil {
		n = 1
	}
	switch final {
	case 'A':
		s.row = max(0, s.row-n)
	case 'C':
		s.col = min(s.width-1, min(s.col, s.width-1)+n)
	case 'H':
		s.row, s.col = 0, 0
	case 'K':
		if s.col < len(s.rows[s.row]) {
			s.rows[s.row] = s.rows[s.row][:s.col]
		}
	case 'J':
		if params == "2" {
			s.rows, s.row = [][]string{{}}, 0
			return
		}
		if s.row == 0 && s.col == 0 {
			s.cleared++
		}
		s.rows = s.rows[:s.row+1]
		if s.col < len(s.rows[s.row]) {
			s.rows[s.row] = s.rows[s.row][:s.col]
		}
	default:
		panic("unknown sequence " + params + string(final))
	}
}

func (s *screen) String() string {
	var b strings.Builder
	for _, row := range s.rows {
		b.WriteString(strings.TrimRight(strings.Join(row, ""), " "))
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n")
}

// session types keys at an editor with prompt "> " and returns the lines it got, in quotes, errors as they are.
func session(t *testing.T, keys string, width int, change func(*Options)) (string, *screen) {
	t.Helper()
	scr := newScreen(width)
	o := Options{In: iotest.OneByteReader(strings.NewReader(keys)), Out: scr, Width: func() int { return width }}
	if change != nil {
		change(&o)
	}
	e := New(o)
	var got []string
	for {
		line, err := e.ReadLine("> ")
		switch {
		case errors.Is(err, ErrInterrupt):
			got = append(got, "^C")
			continue
		case errors.Is(err, io.EOF):
			return strings.Join(got, " "), scr
		case err != nil:
			t.Fatal(err)
		}
		got = append(got, strconv.Quote(line))
		_ = e.o.History.Add(line)
	}
}

func TestEditing(t *testing.T) {
	tests := []struct{ name, keys, want string }{
		{"plain", "KEY GET a.b\r", `"KEY GET a.b"`},
		{"two lines, LF", "a\nb\n", `"a" "b"`},
		{"backspace", "abx\x7fc\r", `"abc"`},
		{"backspace on nothing", "\x7f\x08a\r", `"a"`},
		{"arrows", "ac\x1b[Db\r", `"abc"`},
		{"home and end", "bc\x01a\x05d\r", `"abcd"`},
		{"home and end by sequences", "bc\x1b[Ha\x1b[Fd\x1b[1~_\x1b[4~!\x1bOH-\r", `"-_abcd!"`},
		{"delete", "abc\x01\x1b[3~\x04\r", `"c"`},
		{"end of input on an empty line only", "a\x04\r\x04", `"a"`},
		{"interrupt drops", "abc\x03def\r", `^C "def"`},
		{"kill and yank", "one two\x01\x0b\x19\x19\r", `"one twoone two"`},
		{"kill to the start", "one two\x1bb\x15\r", `"two"`},
		{"kill a blank-separated word", "key users.alice x\x17\x17\r", `"key "`},
		{"words", "one.two three\x1bb\x1bbX\x1bfY\x1b[1;5DZ\r", `"one.ZXtwoY three"`},
		{"kill words", "one two three\x1b\x7f\x01\x1bd\r", `" two "`},
		{"transpose", "abdc\x14\x01\x06\x14\r", `"bacd"`},
		{"wide and combined characters", "漢字e\u0301x\x1b[D\x1b[D\x7f\x1b[D!\r", "\"!漢e\u0301x\""},
		{"a word ends behind its accent", "xe\u0301 y\x01\x1bf\x7f\r", `"x y"`},
		{"a word begins before its accent", "-\u0301a\x1bb\x7f\r", `"a"`},
		{"flag is one character", "\U0001f1e9\U0001f1eaa\x1b[D\x7f\r", `"a"`},
		{"invalid bytes", "a\xffb\r", "\"a\ufffdb\""},
		{"unknown sequences", "a\x1b[99~\x1b[?1;2c\x1bzb\r", `"ab"`},
		{"history", "one\rtwo\r\x1b[A\x1b[A\r\x10\x1b[A\x1b[B\x0e\x0eend\r", `"one" "two" "one" "end"`},
		{"history keeps what was typed", "one\rtw\x1b[A\x1b[Bo\r", `"one" "two"`},
		{"search", "KEY GET a.b\rSCAN t\rKEY PUT a.b c\r\x12KEY\x12\r", `"KEY GET a.b" "SCAN t" "KEY PUT a.b c" "KEY GET a.b"`},
		{"search in either case", "KEY GET a.b\rscan T\r\x12key\r\x12SCAN\x07x\r", `"KEY GET a.b" "scan T" "KEY GET a.b" "x"`},
		{"search then edit", "alpha\rbeta\r\x12alp\x05s\r", `"alpha" "beta" "alphas"`},
		{"search given up", "alpha\rmine\x12alp\x07!\r", `"alpha" "mine!"`},
		{"search backspace, nothing found", "alpha\r\x12x\x7falp\r", `"alpha" "alpha"`},
		{"paste of a word", "KEY \x1b[200~GET a.b\x1b[201~\r", `"KEY GET a.b"`},
		{"paste of lines", "\x1b[200~one\r\ntwo\rthree\nfo\x1b[201~ur\r", `"one" "two" "three" "four"`},
		{"paste in the middle", "ad\x1b[D\x1b[200~b\nc\x1b[201~\r", `"ab" "cd"`},
		{"paste of control characters", "\x1b[200~a\x03\x04\x1b[A\tb\n\x1b[201~", `"a\x03\x04\x1b[A\tb"`},
		{"empty lines", "\r\r", `"" ""`},
		{"clear", "abc\x0cd\r", `"abcd"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := session(t, tt.keys, 40, nil); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestScreen(t *testing.T) {
	tests := []struct{ name, keys, want string }{
		{"a line", "hello\r", "> hello\n>"},
		{"typed over the margin", "abcdefghijklmnop\r", "> abcdefgh\nijklmnop\n>"},
		{"exactly to the margin", "abcdefgh\r", "> abcdefgh\n\n>"},
		{"inserted before the margin", "abcdefghij\x01XY\r", "> XYabcdef\nghij\n>"},
		{"taken away over the margin", "abcdefghijklm\x01\x04\x04\x04\x04\x04\x04\r", "> ghijklm\n>"},
		{"wide at the margin", "abcdefg漢x\r", "> abcdefg\n漢x\n>"},
		{"control characters", "\x1b[200~a\x1b[31m\tb\x1b[201~\r", "> a^[[31m\nb\n>"},
		{"interrupt", "ab\x03", "> ab^C\n>"},
		{"interrupt in the middle", "abcdefghijk\x01\x03", "> abcdefgh\nijk^C\n>"},
		{"pasted lines are echoed", "\x1b[200~one\ntwo\nthr\x1b[201~\r", "> one\n> two\n> thr\n>"},
		{"search", "alpha\r\x12ph\r", "> alpha\n> alpha\n>"},
		{"clear screen", "one\rtw\x0co\r", "> two\n>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, scr := session(t, tt.keys, 10, nil); scr.String() != tt.want {
				t.Errorf("got\n%s\nwant\n%s", scr, tt.want)
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	words := []string{"KEY", "KEYS", "SCAN", "users.", "users2."}
	complete := func(line string, pos int) (int, []Candidate) {
		start := strings.LastIndexByte(line[:pos], ' ') + 1
		var out []Candidate
		for _, w := range words {
			if strings.HasPrefix(w, line[start:pos]) {
				out = append(out, Candidate{Text: w})
			}
		}
		return start, out
	}
	for _, tt := range []struct{ name, keys, want, screen string }{
		{"one", "SC\tusers2\t\r", `"SCAN users2."`, ""},
		{"shared beginning", "K\t\x7fX\r", `"KEX"`, ""},
		{"listed at the second", "us\t\t\t.\r", `"users."`, "> users\nusers.   users2.\n> users.\n>"},
		{"none", "zz\tz\r", `"zzz"`, ""},
		{"in the middle", "SC users\x01\x1b[C\x1b[C\t\r", `"SCAN users"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, scr := session(t, tt.keys, 30, func(o *Options) { o.Complete = complete })
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if tt.screen != "" && scr.String() != tt.screen {
				t.Errorf("screen\n%s\nwant\n%s", scr, tt.screen)
			}
		})
	}
}

// Whatever is typed, the screen shows the prompt and the line, with the cursor in its place, and nothing breaks.
func TestScreenShowsTheLine(t *testing.T) {
	pieces := []string{"a", "word ", "漢", "e\u0301", "\U0001f1e9\U0001f1ea", "\x1b[D", "\x1b[C", "\x01", "\x05", "\x7f", "\x1b[3~", "\x0b", "\x19", "\x17", "\x1b[A", "\x1b[B", "\x14", "\x1bb", "\x1bf", "\x12a\x07", "\x1b[200~p q\x1b[201~"}
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(8, 20).Draw(t, "width")
		keys := strings.Join(rapid.SliceOf(rapid.SampledFrom(pieces)).Draw(t, "keys"), "")
		scr := newScreen(width)
		h := &History{}
		_ = h.Add("an older line that is long")
		e := New(Options{In: strings.NewReader(keys), Out: scr, Width: func() int { return width }, History: h})
		if _, err := e.ReadLine("> "); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		fresh := newScreen(width)
		_, _ = io.WriteString(fresh, "> "+e.line)
		if strings.TrimRight(scr.String(), "\n ") != strings.TrimRight(fresh.String(), "\n ") {
			t.Fatalf("line %q\nscreen\n%s\nwant\n%s", e.line, scr, fresh)
		}
		if scr.cleared > 0 {
			t.Fatalf("tmux has %d copies of the line in its history", scr.cleared)
		}
		row, col := e.place(e.line, e.pos)
		if scr.row != row || scr.col != col {
			t.Fatalf("cursor at %d,%d, want %d,%d", scr.row, scr.col, row, col)
		}
	})
}

func TestHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "history")
	h, err := OpenHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one", "one", "", " hidden", "two", "a\nb", strings.Repeat("x", historyLineMax+1)} {
		if err := h.Add(line); err != nil {
			t.Error(err)
		}
	}
	again, err := OpenHistory(path)
	if err != nil || fmt.Sprint(again.lines) != "[one two]" {
		t.Errorf("%q, %v", again.lines, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("line\nother\n", 3*HistoryLinesMax)+"last\n\xff\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err = OpenHistory(path); err != nil || again.Len() != HistoryLinesMax || again.At(HistoryLinesMax-1) != "last" {
		t.Errorf("%d lines, %v", again.Len(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() > 20*HistoryLinesMax {
		t.Errorf("%v, %d bytes, %v", info.Mode(), info.Size(), err)
	}
	if h, err := OpenHistory(t.TempDir()); err == nil || h == nil {
		t.Errorf("a directory: %v", err)
	}
}

func FuzzEditor(f *testing.F) {
	f.Add("KEY GET a.b\r\x1b[A\t\x12x\x03\x1b[200~a\nb\x1b[201~", uint8(20))
	f.Add("\x1b[\x1bO\x1b\x1b\xff\xf0\x9f", uint8(1))
	f.Fuzz(func(t *testing.T, keys string, width uint8) {
		e := New(Options{
			In: strings.NewReader(keys), Out: io.Discard, Width: func() int { return int(width) },
			Complete: func(_ string, pos int) (int, []Candidate) { return pos, []Candidate{{Text: "ab"}, {Text: "ac"}} },
		})
		for {
			line, err := e.ReadLine("> ")
			if err != nil && !errors.Is(err, ErrInterrupt) {
				return
			}
			_ = e.o.History.Add(line)
		}
	})
}
