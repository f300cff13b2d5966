// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzConnection sends any bytes as one connection, from after the handshake, and reads all that comes back: it must be
// frames of the protocol, of the commands sent or not, to the end; and another client is served. (G22, G23, G26)
func FuzzConnection(f *testing.F) {
	disk := &faultyFS{FS: vfs.NewMem()}
	dir := f.TempDir()
	n, err := openNode(context.Background(), nodeOptions{dir: "/data", fs: disk}, filepath.Join(dir, "s"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := n.close(); err != nil {
			f.Error(err)
		}
	})
	e := &env{network: "unix", address: n.path, prefix: "fuzz"}
	for _, seed := range fuzzSeeds(f) {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if err := e.sendAnything(t.Context(), input); err != nil {
			t.Error(err)
		}
	})
}

// fuzzSeeds are the inputs of all transcripts and hostile tables.
func fuzzSeeds(f *testing.F) (seeds []string) {
	p := &player{vars: map[string]string{"T": "t", "W": "w"}}
	add := func(text, end string) {
		// What an answer would have named is some number here.
		for name, v := range map[string]string{"v": "1", "v1": "1", "v2": "2", "v3": "3", "b1": "1"} {
			p.vars[name] = v
		}
		if s, err := p.expand(text); err == nil && len(s) < 4096 {
			seeds = append(seeds, s+end)
		}
	}
	err := fs.WalkDir(testdata, "testdata", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		src, err := fs.ReadFile(testdata, name)
		if err != nil {
			return err
		}
		switch path.Ext(name) {
		case ".atlas":
			steps, err := parseTranscript(string(src))
			if err != nil {
				return err
			}
			var all strings.Builder
			for _, s := range steps {
				if s.op == ">" || s.op == ">=" {
					all.WriteString(s.text + map[string]string{">": `\r\n`, ">=": ""}[s.op])
				}
			}
			add(all.String(), "")
		case ".table":
			rows, err := parseHostile(string(src))
			if err != nil {
				return err
			}
			for _, r := range rows {
				add(r.send, "")
			}
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return seeds
}

// sendAnything sends the bytes and then nothing more, and judges the answer.
func (e *env) sendAnything(ctx context.Context, input []byte) error {
	c, err := e.session(ctx)
	if err != nil {
		return err
	}
	got, err := c.exchange(input)
	if err = errors.Join(err, c.close()); err != nil {
		return err
	}
	if err := checkFrames(got); err != nil {
		return fmt.Errorf("%w in the answer %.2000q", err, got)
	}
	return e.with(ctx, func(c *conn) error { return c.want("PRINCIPAL WHOAMI", "PRINCIPAL (none)", "OK") })
}

// exchange sends everything, closes our half, and reads to the end.
func (c *conn) exchange(input []byte) ([]byte, error) {
	sent := make(chan struct{})
	// owner: the receive below waits for it.
	go func() {
		defer close(sent)
		// The server may end the connection at any moment.
		if c.send(string(input)) == nil {
			_ = c.closeWrite() // it may be gone by now
		}
	}()
	if err := c.nc.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return nil, err
	}
	got, err := io.ReadAll(c.r)
	<-sent
	if err != nil && !isEnd(err) {
		return nil, fmt.Errorf("the answer does not end: %w", err)
	}
	return got, nil
}

var (
	tagFrame  = regexp.MustCompile(`^\[ID:[^\]]{1,128}\] `)
	textFrame = regexp.MustCompile(`^(OK|READY|NOT_FOUND|EMPTY|(  |ERROR (WARN|FATAL)|VALUE:|VERSION:|KEYS:|COUNT:|META |PRINCIPAL|ACL|NODE|PONG|Q1|Q2|id=|TABLE|GROUP|EVENT|SURVIVES|KEY|SCAN|SAMPLE|QUORUM|CONSISTENCY|BEGIN|COMMIT|ROLLBACK|WATCH|UNWATCH|\[ID|HELP|QUIT|SQL|HELLO).*)$`)
)

// checkFrames takes an answer apart: lines that end in CRLF, with nothing in them that is no text, and blobs. A line that is
// no frame by its first word must be a key: it has a dot and no blank.
func checkFrames(b []byte) error {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 1 || b[end-1] != '\r' {
			return fmt.Errorf("a line that does not end: %.200q", b)
		}
		line := string(b[:end-1])
		b = b[end+1:]
		if strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && unprintable(r) && r != '\u2028' && r != '\u2029' }) {
			return fmt.Errorf("a line with control characters: %.200q", line)
		}
		if tag := tagFrame.FindString(line); tag != "" {
			line = line[len(tag):]
		}
		if strings.HasPrefix(line, "ERROR ") {
			if err := checkErrorLine(line); err != nil {
				return err
			}
		}
		if size, ok := strings.CutPrefix(line, "BLOB "); ok {
			n, err := strconv.Atoi(size)
			if err != nil || n > len(b) {
				return fmt.Errorf("a blob of %q bytes with %d left", size, len(b))
			}
			b = b[n:]
			continue
		}
		if !textFrame.MatchString(line) && (strings.ContainsAny(line, " \t") || !strings.Contains(line, ".")) {
			return fmt.Errorf("no frame of the protocol: %.200q", line)
		}
	}
	return nil
}
