// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

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

// So is one that came while the watch asked whether its own end or UNWATCH had stopped it. G19.
func TestUnwatchBetweenQuestions(t *testing.T) {
	f := newFake()
	s := startCalm(t, f, Options{})
	c := dial(t, s)
	sc := s.snapshot(nil)[0]
	eventually(t, "handshake", sc.ready.Load)
	inner, cancel := context.WithCancel(t.Context())
	w := &watching{cancel: cancel, done: make(chan struct{})}
	var once sync.Once
	ctx := askedContext{inner, func() {
		once.Do(func() {
			f.mu.Lock()
			f.change(engine.EventPut, "t.a", fakeRow{})
			f.mu.Unlock()
			w.asked.Store(true)
			w.cancel()
		})
	}}
	var err error
	if w.w, err = sc.sess.Watch(ctx, engine.WatchRequest{Prefix: []byte("t")}); err != nil {
		t.Fatal(err)
	}
	q := &request{c: sc, ctx: ctx, sess: sc.sess, tag: []byte("[ID:w] "), watch: w}
	if err := q.runWatch(); err != nil {
		t.Fatal(err)
	}
	sc.out.flush()
	c.want("[ID:w] EVENT PUT 1 t.a", "[ID:w] OK")
}

// A watch that fails has ended when its error is on its way, not before: else the OK of an UNWATCH, or the answer of a command that takes
// its id, may overtake the error and be taken for its. G22.
func TestWatchEndsWithItsError(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Server, dial func() *client) {
		f.rows["b.large"] = fakeRow{value: make([]byte, smallReplyMax)}
		c := dial()
		c.greet()
		const blobs = pendingMax/smallReplyMax + 2
		c.send("[ID:w] WATCH t\r\n" + strings.Repeat("[ID:b] KEY BLOB GET b.large\r\n", blobs))
		synctest.Wait() // one worker waits for the client, the answers of the others are pending
		sc := s.snapshot(nil)[0]
		if sc.out.fill < pendingMax {
			t.Fatalf("%d bytes are pending, want %d", sc.out.fill, pendingMax)
		}
		f.mu.Lock()
		f.gone = engine.Errorf(engine.ClassNotFound, "changes are no longer all kept")
		f.change(engine.EventPut, "other.a", fakeRow{})
		f.mu.Unlock()
		synctest.Wait()
		if sc.watches["w"].ended() {
			t.Error("the watch has ended before its error could be written")
		}
		told := 0
		for range blobs + 1 { // in any order
			if c.answer() == "[ID:w] ERROR WARN not_found: changes are no longer all kept\n" {
				told++
			}
		}
		if told != 1 {
			t.Errorf("the watch's error came %d times", told)
		}
	})
}

// askedContext tells when it is asked whether it has ended.
type askedContext struct {
	context.Context
	asked func()
}

func (c askedContext) Err() error {
	c.asked()
	return c.Context.Err()
}
