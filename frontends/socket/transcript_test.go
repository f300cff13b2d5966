// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cockroachdb/datadriven"
)

// TestTranscripts plays testdata/transcripts on a real engine, each file on a server of its own.
//
//	connect <name>    connects and shakes hands;  raw <name>  connects only
//	send <name>       sends each line with CR LF (eol=lf, eol=none) and shows the answers: one for each line that is not
//	                  empty, or answers=<n>; with closed, everything until the server closes; with sort, by request id
//	half <name>       closes the client's writing side and shows everything until the server closes
//
// In what is sent, \s is a blank, \r \n \t \\ \xNN \uNNNN are as in Go, \*(n,c) is n times c, and {v1} is the first version
// that was shown. In what is shown, versions are {v1}, {v2}, ... and a blob's payload is a line of its own.
func TestTranscripts(t *testing.T) {
	const dir = "testdata/transcripts"
	if files, err := os.ReadDir(dir); err != nil || len(files) < 10 {
		t.Fatalf("found %d transcripts, %v", len(files), err)
	}
	datadriven.Walk(t, dir, func(t *testing.T, path string) {
		p := &player{t: t, s: start(t, openEngine(t), Options{}), conns: map[string]*client{}}
		datadriven.RunTest(t, path, p.run)
	})
}

type player struct {
	t        *testing.T
	s        *Server
	conns    map[string]*client
	versions []string
}

func (p *player) run(t *testing.T, d *datadriven.TestData) string {
	name := d.CmdArgs[0].Key
	switch d.Cmd {
	case "connect":
		p.conns[name] = dial(t, p.s)
		return ""
	case "raw":
		p.conns[name] = dialRaw(t, p.s)
		return p.show(p.conns[name].line()) + "\n"
	case "send":
		return p.send(p.conns[name], d)
	case "half":
		c := p.conns[name]
		if err := c.nc.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		return p.rest(c)
	}
	t.Fatalf("unknown directive %s", d.Cmd)
	return ""
}

func (p *player) send(c *client, d *datadriven.TestData) string {
	eol := "\r\n"
	if d.HasArg("eol") {
		var kind string
		d.ScanArgs(p.t, "eol", &kind)
		eol = map[string]string{"lf": "\n", "none": ""}[kind]
	}
	answers := 0
	var out strings.Builder
	for line := range strings.SplitSeq(d.Input, "\n") {
		line = p.unescape(line)
		if strings.Trim(line, " \t") != "" {
			answers++
		}
		out.WriteString(line + eol)
	}
	if d.HasArg("answers") {
		d.ScanArgs(p.t, "answers", &answers)
	}
	c.send(out.String())
	if d.HasArg("closed") {
		return p.rest(c)
	}
	var shown []string
	for range answers {
		shown = append(shown, p.answer(c)...)
	}
	if d.HasArg("sort") {
		slices.SortStableFunc(shown, func(a, b string) int {
			x, _ := cutTag(a)
			y, _ := cutTag(b)
			return strings.Compare(x, y)
		})
	}
	return strings.Join(shown, "")
}

// answer reads lines until one that ends an answer.
func (p *player) answer(c *client) (shown []string) {
	for {
		line := c.line()
		tag, body := cutTag(line)
		if n, ok := strings.CutPrefix(body, "BLOB "); ok {
			if tag != "" {
				tag = "[ID:" + tag + "] "
			}
			shown = append(shown, p.show(line)+"\n", tag+"payload "+c.blob(n)+"\n")
			continue
		}
		shown = append(shown, p.show(line)+"\n")
		if body == "OK" || strings.HasPrefix(body, "ERROR ") {
			return shown
		}
	}
}

// rest reads until the server closes.
func (p *player) rest(c *client) string {
	var out strings.Builder
	for {
		line, err := c.tryLine()
		if err != nil {
			if line != "" {
				fmt.Fprintf(&out, "cut off: %s\n", p.show(line))
			}
			if err != io.EOF {
				fmt.Fprintf(&out, "%v\n", err)
			}
			return out.String() + "closed\n"
		}
		out.WriteString(p.show(line) + "\n")
	}
}

// volatile are figures that depend on more than the transcript.
var volatile = regexp.MustCompile(`\b(size_bytes|reads|writes)=\d+`)

var (
	versionShown = regexp.MustCompile(`\b1\d{18}\b`) // nanoseconds since 1970
	timeShown    = regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z`)
)

// show makes a line printable and versions comparable.
func (p *player) show(line string) string {
	line = versionShown.ReplaceAllStringFunc(line, func(version string) string {
		i := slices.Index(p.versions, version)
		if i < 0 {
			i = len(p.versions)
			p.versions = append(p.versions, version)
		}
		return fmt.Sprintf("{v%d}", i+1)
	})
	line = timeShown.ReplaceAllString(line, "{time}")
	line = volatile.ReplaceAllString(line, "$1=*")
	var out strings.Builder
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, line[i])
		case r != ' ' && isUnprintable(r):
			out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			out.WriteString(line[i : i+size])
		}
		i += size
	}
	return out.String()
}

var versionNamed = regexp.MustCompile(`\{v(\d+)\}`)

func (p *player) unescape(line string) string {
	line = versionNamed.ReplaceAllStringFunc(line, func(m string) string {
		i, err := strconv.Atoi(m[2 : len(m)-1])
		if err != nil || i > len(p.versions) {
			p.t.Fatalf("no version %s was shown", m)
		}
		return p.versions[i-1]
	})
	return unescape(p.t, line)
}
