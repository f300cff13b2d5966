// SPDX-License-Identifier: AGPL-3.0-only

// Package lineedit reads lines from a terminal: with editing, history, search in it, completion, and pasting of many lines.
//
// It writes plain ANSI sequences and reads bytes; it knows nothing about file descriptors (terminal.go does, apart), so
// that a test drives it with strings. Keys are those of readline's emacs mode. It starts no goroutine.
//
// A paste (bracketed, as terminals mark it) that holds line ends is a queue of lines: ReadLine returns them one after
// another, each echoed behind its prompt, and what follows the last line end stays in the editor.
package lineedit

import (
	"errors"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// LineLenMax bounds a line being edited, in bytes; what is typed or pasted beyond it is dropped with a bell. History keeps
// shorter ones only.
const LineLenMax = 1 << 20

// ErrInterrupt is ReadLine's error when Ctrl-C was typed. The line is dropped.
var ErrInterrupt = errors.New("interrupted")

// Candidate is a way to complete a word.
type Candidate struct {
	Text string // what replaces the word
	Help string // shown beside it in a list
}

// Options configure New. In and Out are required.
type Options struct {
	// In gives what the terminal sends, in raw mode.
	In io.Reader
	// Out goes to the terminal.
	Out io.Writer
	// Width is the terminal's width in columns, asked for before each line and after each key. nil: 80.
	Width func() int
	// History is walked through with the arrow keys; nil: none. ReadLine does not add to it.
	History *History
	// Complete gives the ways to complete the word that ends at byte pos of line: candidates replace line[start:pos]. Behind the
	// only one a blank is put, unless it ends with a dot or a slash, behind which the word goes on. nil: none.
	Complete func(line string, pos int) (start int, candidates []Candidate)
}

// Editor reads lines. Not for concurrent use.
type Editor struct {
	o      Options
	in     []byte   // read and not yet used
	queue  []string // lines of a paste, to be returned
	rest   string   // what the last paste left behind its last line end
	out    strings.Builder
	prompt string
	width  int

	line   string
	pos    int    // of the cursor, in bytes
	row    int    // of the cursor below the prompt's row, on the screen
	killed string // by Ctrl-K and its kin, for Ctrl-Y
	at     int    // place in the history; its length: the line being typed
	typed  string // that line, while the history is walked through
	tabbed bool   // the last key was a Tab that changed nothing
}

// New returns an Editor.
func New(o Options) *Editor {
	if o.Width == nil {
		o.Width = func() int { return 80 }
	}
	if o.History == nil {
		o.History = &History{}
	}
	return &Editor{o: o}
}

// Pending tells whether lines of a paste wait.
func (e *Editor) Pending() bool { return len(e.queue) > 0 }

// DropPending drops what was pasted and not yet returned, and what was typed ahead.
func (e *Editor) DropPending() { e.queue, e.rest, e.in = nil, "", nil }

// ReadLine shows prompt and reads a line, returned without its end. Its errors are ErrInterrupt, io.EOF (Ctrl-D on an
// empty line, or the end of the input) and those of the streams.
func (e *Editor) ReadLine(prompt string) (string, error) {
	e.prompt, e.line, e.pos, e.row, e.tabbed = prompt, "", 0, 0, false
	e.at, e.typed = e.o.History.Len(), ""
	if len(e.queue) > 0 {
		e.line, e.queue = e.queue[0], e.queue[1:]
		e.pos = len(e.line)
		return e.accept()
	}
	e.line, e.rest = e.rest, ""
	e.pos = len(e.line)
	e.redraw()
	for {
		if err := e.flush(); err != nil {
			return "", err
		}
		k, err := e.key()
		if err != nil {
			return "", err
		}
		done, err := e.handle(k)
		if err != nil {
			return "", errors.Join(err, e.flush())
		}
		if done {
			return e.accept()
		}
	}
}

// accept shows the line as it is returned and moves below it.
func (e *Editor) accept() (string, error) {
	e.pos = len(e.line)
	e.redraw()
	e.out.WriteString("\r\n")
	return e.line, e.flush()
}

// handle acts on a key. Its errors end ReadLine.
func (e *Editor) handle(k key) (done bool, err error) {
	tabbed := e.tabbed
	e.tabbed = false
	switch k.code {
	case keyRune:
		e.insert(k.text)
	case keyEnter:
		return true, nil
	case keyPaste:
		return e.paste(k.text), nil
	case ctrl('C'):
		e.set(e.line, len(e.line))
		e.out.WriteString("^C\r\n")
		return false, ErrInterrupt
	case ctrl('D'):
		if e.line == "" {
			e.out.WriteString("\r\n")
			return false, io.EOF
		}
		e.set(e.line[:e.pos]+e.line[e.next(e.pos):], e.pos)
	case ctrl('I'):
		e.complete(tabbed)
	case ctrl('R'):
		return e.search()
	case ctrl('L'):
		e.out.WriteString("\x1b[H\x1b[2J")
		e.row = 0
		e.redraw()
	case keyUp, ctrl('P'):
		e.walk(-1)
	case keyDown, ctrl('N'):
		e.walk(+1)
	default:
		e.move(k.code)
		e.edit(k.code)
	}
	return false, nil
}

// move handles the keys that move the cursor.
func (e *Editor) move(code keyCode) {
	var to int
	switch code {
	case keyLeft, ctrl('B'):
		to = e.previous(e.pos)
	case keyRight, ctrl('F'):
		to = e.next(e.pos)
	case keyHome, ctrl('A'):
		to = 0
	case keyEnd, ctrl('E'):
		to = len(e.line)
	case keyWordLeft:
		to = e.wordLeft()
	case keyWordRight:
		to = e.wordRight()
	default:
		return
	}
	e.set(e.line, to)
}

// edit handles the keys that take away or put back.
func (e *Editor) edit(code keyCode) {
	kill := func(from, to int) {
		e.killed = e.line[from:to]
		e.set(e.line[:from]+e.line[to:], from)
	}
	switch code {
	case keyBackspace, ctrl('H'):
		from := e.previous(e.pos)
		e.set(e.line[:from]+e.line[e.pos:], from)
	case keyDelete:
		e.set(e.line[:e.pos]+e.line[e.next(e.pos):], e.pos)
	case ctrl('K'):
		kill(e.pos, len(e.line))
	case ctrl('U'):
		kill(0, e.pos)
	case ctrl('W'):
		from := strings.LastIndexByte(strings.TrimRight(e.line[:e.pos], " "), ' ') + 1
		kill(from, e.pos)
	case keyKillWordLeft:
		kill(e.wordLeft(), e.pos)
	case keyKillWordRight:
		kill(e.pos, e.wordRight())
	case ctrl('Y'):
		e.insert(e.killed)
	case ctrl('T'):
		e.transpose()
	}
}

func (e *Editor) transpose() {
	at := e.pos
	if at == len(e.line) {
		at = e.previous(at)
	}
	left, right := e.previous(at), e.next(at)
	if left == at || right == at {
		return
	}
	e.set(e.line[:left]+e.line[at:right]+e.line[left:at]+e.line[right:], right)
}

func (e *Editor) insert(s string) {
	if len(e.line)+len(s) > LineLenMax {
		e.out.WriteByte('\a')
		return
	}
	e.set(e.line[:e.pos]+s+e.line[e.pos:], e.pos+len(s))
}

// paste inserts text; with line ends in it, it makes the queue and tells that the first line is complete.
func (e *Editor) paste(text string) bool {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	if len(lines) == 1 {
		e.insert(text)
		return false
	}
	tail := e.line[e.pos:]
	e.set(e.line[:e.pos], e.pos)
	e.insert(lines[0])
	e.queue = append(e.queue, lines[1:len(lines)-1]...)
	e.rest = lines[len(lines)-1] + tail
	return true
}

// walk goes through the history by one.
func (e *Editor) walk(by int) {
	to := e.at + by
	if to < 0 || to > e.o.History.Len() {
		e.out.WriteByte('\a')
		return
	}
	if e.at == e.o.History.Len() {
		e.typed = e.line
	}
	e.at = to
	line := e.typed
	if to < e.o.History.Len() {
		line = e.o.History.At(to)
	}
	e.set(line, len(line))
}

// search is Ctrl-R: each key narrows the search, Ctrl-R goes further back, any other key acts on what was found.
func (e *Editor) search() (done bool, err error) {
	prompt, saved, savedPos := e.prompt, e.line, e.pos
	pattern, at := "", e.o.History.Len()
	find := func(from int) {
		for i := from; i >= 0; i-- {
			if j := indexSmart(e.o.History.At(i), pattern); j >= 0 && pattern != "" {
				at = i
				e.line, e.pos = e.o.History.At(i), j
				return
			}
		}
		e.out.WriteByte('\a')
	}
	for {
		e.prompt = "(search) `" + pattern + "': "
		e.redraw()
		if err := e.flush(); err != nil {
			return false, err
		}
		k, err := e.key()
		if err != nil {
			return false, err
		}
		switch k.code {
		case keyRune:
			pattern += k.text
			find(min(at, e.o.History.Len()-1))
		case ctrl('R'):
			find(at - 1)
		case keyBackspace, ctrl('H'):
			if pattern != "" {
				_, n := utf8.DecodeLastRuneInString(pattern)
				pattern = pattern[:len(pattern)-n]
			}
		case ctrl('G'), keyEscape:
			e.prompt = prompt
			e.set(saved, savedPos)
			return false, nil
		default:
			e.prompt = prompt
			e.at = min(at, e.o.History.Len())
			e.redraw()
			return e.handle(k)
		}
	}
}

// indexSmart finds pattern in line: in ASCII letters of either case, unless pattern holds a capital, which asks for these.
func indexSmart(line, pattern string) int {
	if i := strings.Index(line, pattern); i >= 0 || pattern != lowerASCII(pattern) {
		return i
	}
	return strings.Index(lowerASCII(line), pattern)
}

// lowerASCII leaves every byte where it is.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// complete is Tab: it inserts what all candidates share; when that is nothing, a second Tab lists them.
func (e *Editor) complete(again bool) {
	if e.o.Complete == nil {
		return
	}
	start, candidates := e.o.Complete(e.line, e.pos)
	if len(candidates) == 0 || start < 0 || start > e.pos {
		e.out.WriteByte('\a')
		return
	}
	shared := candidates[0].Text
	for _, c := range candidates[1:] {
		for !strings.HasPrefix(c.Text, shared) {
			_, n := utf8.DecodeLastRuneInString(shared)
			shared = shared[:len(shared)-n]
		}
	}
	if len(candidates) == 1 && !strings.HasSuffix(shared, ".") && !strings.HasSuffix(shared, "/") && !strings.HasPrefix(e.line[e.pos:], " ") {
		shared += " "
	}
	word := e.line[start:e.pos]
	if shared != word && len(shared) >= len(word) && len(e.line)+len(shared) <= LineLenMax {
		e.set(e.line[:start]+shared+e.line[e.pos:], start+len(shared))
		return
	}
	if !again {
		e.out.WriteByte('\a')
		e.tabbed = true
		return
	}
	e.list(candidates)
}

const listedMax = 200

// list shows candidates below the line, and the line again below them.
func (e *Editor) list(candidates []Candidate) {
	pos := e.pos
	e.set(e.line, len(e.line))
	widest, helped := 0, false
	for _, c := range candidates {
		widest = max(widest, textWidth(c.Text))
		helped = helped || c.Help != ""
	}
	columns := max(1, e.o.Width()/(widest+2))
	if helped {
		columns = 1
	}
	for i, c := range candidates[:min(len(candidates), listedMax)] {
		if i%columns == 0 {
			e.out.WriteString("\r\n")
		}
		e.out.WriteString(visible(c.Text) + strings.Repeat(" ", widest+2-textWidth(c.Text)) + visible(c.Help))
	}
	if len(candidates) > listedMax {
		e.out.WriteString("\r\n... and more")
	}
	e.out.WriteString("\r\n")
	e.row = 0
	e.pos = pos
	e.redraw()
}

// set changes the line and shows it.
func (e *Editor) set(line string, pos int) {
	appended := e.pos == len(e.line) && pos == len(line) && len(line) > len(e.line) && strings.HasPrefix(line, e.line)
	if appended {
		added := line[len(e.line):]
		_, before := e.place(e.line, len(e.line))
		if before > 0 && plain(added) && before+len(added) < e.width && e.width == e.o.Width() {
			e.line, e.pos = line, pos
			e.out.WriteString(added)
			return
		}
	}
	e.line, e.pos = line, pos
	e.redraw()
}

// plain tells whether s needs no thought: printable ASCII.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// redraw shows prompt and line, from the prompt's row on, and puts the cursor in place.
func (e *Editor) redraw() {
	if e.row > 0 {
		e.up(e.row)
	}
	e.width = max(e.o.Width(), 8)
	// Not `\r\x1b[J`: what is cleared from the first cell of the screen on, tmux keeps as history, a copy with each key.
	e.out.WriteString("\r\x1b[K")
	e.out.WriteString(visible(e.prompt))
	e.out.WriteString("\x1b[J")
	e.out.WriteString(visible(e.line))
	endRow, endColumn := e.place(e.line, len(e.line))
	if endColumn == 0 && endRow > 0 {
		e.out.WriteString("\r\n") // the terminal waits at the margin: go on to the next row
	}
	row, column := e.place(e.line, e.pos)
	if endRow > row {
		e.up(endRow - row)
	}
	e.out.WriteByte('\r')
	if column > 0 {
		e.out.WriteString("\x1b[" + itoa(column) + "C")
	}
	e.row = row
}

func (e *Editor) up(rows int) { e.out.WriteString("\x1b[" + itoa(rows) + "A") }

// place is where on the screen byte pos of line stands, from the prompt's beginning.
func (e *Editor) place(line string, pos int) (row, column int) {
	for _, part := range []string{e.prompt, line[:pos]} {
		state := -1
		for len(part) > 0 {
			var cluster string
			cluster, part, _, state = uniseg.FirstGraphemeClusterInString(part, state)
			w := clusterWidth(cluster)
			if column+w > e.width {
				row, column = row+1, 0
			}
			column += w
		}
	}
	if column >= e.width {
		row, column = row+1, 0
	}
	return row, column
}

func (e *Editor) flush() error {
	if e.out.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(e.o.Out, e.out.String())
	e.out.Reset()
	return err
}

// previous and next are the bounds of the character before and after byte i.
func (e *Editor) previous(i int) int {
	// A character is seldom longer than this; where it is, a part of it counts as one.
	from := max(0, i-64)
	for from > 0 && !utf8.RuneStart(e.line[from]) {
		from--
	}
	last := from
	for rest, at, state := e.line[from:i], from, -1; len(rest) > 0; {
		var cluster string
		last = at
		cluster, rest, _, state = uniseg.FirstGraphemeClusterInString(rest, state)
		at += len(cluster)
	}
	return last
}

func (e *Editor) next(i int) int {
	cluster, _, _, _ := uniseg.FirstGraphemeClusterInString(e.line[i:], -1)
	return i + len(cluster)
}

func (e *Editor) wordLeft() int {
	i := e.pos
	for _, inWord := range []bool{false, true} {
		for i > 0 {
			r, n := utf8.DecodeLastRuneInString(e.line[:i])
			if wordRune(r) != inWord {
				break
			}
			i -= n
		}
	}
	start, _ := e.around(i)
	return start
}

func (e *Editor) wordRight() int {
	i := e.pos
	for _, inWord := range []bool{false, true} {
		for i < len(e.line) {
			r, n := utf8.DecodeRuneInString(e.line[i:])
			if wordRune(r) != inWord {
				break
			}
			i += n
		}
	}
	_, end := e.around(i)
	return end
}

// around is i, twice, or where byte i is within a character, as between a letter and its accent, the bounds of that.
func (e *Editor) around(i int) (start, end int) {
	if start = e.previous(i); start < i {
		if end = e.next(start); end > i {
			return start, end
		}
	}
	return i, i
}

func wordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }

// clusterWidth is the number of columns a character takes, as visible shows it.
func clusterWidth(cluster string) int {
	if c := cluster[0]; c == '\t' {
		return 1
	} else if len(cluster) == 1 && (c < ' ' || c == 0x7f) {
		return 2
	} else if len(cluster) == 1 && c < utf8.RuneSelf {
		return 1
	}
	if r, _ := utf8.DecodeRuneInString(cluster); r == utf8.RuneError || unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) {
		return 1
	}
	return uniseg.StringWidth(cluster)
}

func textWidth(s string) (width int) {
	for state := -1; len(s) > 0; {
		var cluster string
		cluster, s, _, state = uniseg.FirstGraphemeClusterInString(s, state)
		width += clusterWidth(cluster)
	}
	return width
}

// visible replaces what would move the cursor: control characters are shown as ^X, other oddities as a question mark.
func visible(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for state := -1; len(s) > 0; {
		var cluster string
		cluster, s, _, state = uniseg.FirstGraphemeClusterInString(s, state)
		r, _ := utf8.DecodeRuneInString(cluster)
		switch c := cluster[0]; {
		case c == '\t':
			b.WriteByte(' ')
		case len(cluster) == 1 && (c < ' ' || c == 0x7f):
			b.WriteByte('^')
			b.WriteByte(c ^ 0x40)
		case c >= utf8.RuneSelf && (r == utf8.RuneError || unicode.In(r, unicode.C, unicode.Zl, unicode.Zp)):
			b.WriteByte('?')
		default:
			b.WriteString(cluster)
		}
	}
	return b.String()
}
