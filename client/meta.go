// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client/wire"
)

// Meta is what is known of a value beside its bytes.
type Meta struct {
	Version   uint64    // 0 for what the transaction that asks wrote itself, which has no ends either
	Size      int64     // of the value, bytes
	Expires   time.Time // zero: never
	WormUntil time.Time // write-once until then; zero: it is not
}

// Meta returns what is known of the value of key, and ErrNotFound as Get does.
func (c commands) Meta(ctx context.Context, key string) (Meta, error) {
	cl := newCall("KEY META")
	cl.key(key)
	lines, err := c.lines(ctx, cl)
	switch {
	case err != nil:
		return Meta{}, err
	case len(lines) == 1 && lines[0] == "NOT_FOUND":
		return Meta{}, notFound(key)
	case len(lines) != 1:
		return Meta{}, protocolError("KEY META answered with %d lines", len(lines))
	}
	m, ok := parseMeta([]byte(lines[0]))
	if !ok {
		return Meta{}, protocolError("KEY META answered with %q", wire.Visible(shorten(lines[0])))
	}
	return m, nil
}

// parseMeta reads a META line. Fields that it does not know are passed over.
func parseMeta(line []byte) (m Meta, ok bool) {
	words := strings.Fields(string(line))
	if len(words) == 0 || words[0] != "META" {
		return Meta{}, false
	}
	versioned, sized := false, false
	for _, word := range words[1:] {
		name, text, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "version":
			m.Version, err = strconv.ParseUint(text, 10, 64)
			versioned = true
		case "size":
			var size uint64
			size, err = strconv.ParseUint(text, 10, 62)
			m.Size, sized = int64(size), true
		case "expires":
			m.Expires, err = time.Parse(time.RFC3339Nano, text)
		case "worm_until":
			m.WormUntil, err = time.Parse(time.RFC3339Nano, text)
		}
		if err != nil {
			return Meta{}, false
		}
	}
	return m, versioned && sized
}
