// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/engine"
)

// G24: the sessions of the protocol's document, byte for byte.
func TestDocumentedSessions(t *testing.T) {
	sessions := []string{
		`> PRINCIPAL ASSUME alice
OK
> KEY PUT sample.row hello world
OK
> KEY GET sample.row
VALUE:hello world
OK
> KEY GET sample.none
NOT_FOUND
OK
> QUORUM INFO atlas.nodes
Q1 size=1
id=1 region=local addr=localhost port=4444
Q2 size=1
id=1 region=local addr=localhost port=4444
OK
`,
		`> PRINCIPAL ASSUME alice
OK
> KEY PUT users.alice {"session":"s1"}
OK
> PRINCIPAL ASSUME bob
OK
> KEY PUT users.bob {"session":"s2"}
OK
> SCAN users
KEYS:2
users.alice
users.bob
OK
`,
	}
	s := start(t, openEngine(t), Options{})
	for _, session := range sessions {
		c := dial(t, s)
		for _, line := range strings.SplitAfter(session, "\n") {
			if command, typed := strings.CutPrefix(line, "> "); typed {
				c.send(strings.TrimSuffix(command, "\n") + "\r\n")
			} else if line != "" {
				c.wantBytes([]byte(strings.TrimSuffix(line, "\n") + "\r\n"))
			}
		}
	}
}

// A change that was acknowledged before UNWATCH is reported by the watch, also if it came after the watch had last looked. G19.
func TestUnwatchAfterALook(t *testing.T) {
	f := newFake()
	s := start(t, f, Options{})
	looks := 0
	f.looked = func() {
		if looks++; looks > 1 {
			return
		}
		f.mu.Lock()
		f.change(engine.EventPut, "t.a", fakeRow{})
		f.mu.Unlock()
		w := s.snapshot(nil)[0].watches["w"]
		w.asked.Store(true)
		w.cancel()
	}
	c := dial(t, s)
	c.send("[ID:w] WATCH t\r\n")
	c.want("[ID:w] EVENT PUT 1 t.a")
	c.want("[ID:w] OK")
}
