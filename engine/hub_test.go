// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestHubWakesOnlyTheGroup(t *testing.T) {
	h := newHub()
	h.advance("nobody")
	h.subscribe("a")
	h.subscribe("a")
	h.subscribe("b")
	a, b := h.moved("a"), h.moved("b")
	h.advance("a")
	select {
	case <-a:
	default:
		t.Fatal("the watcher of a was not woken")
	}
	select {
	case <-b:
		t.Fatal("the watcher of b was woken by a")
	default:
	}
	select {
	case <-h.moved("a"):
		t.Fatal("one advance woke twice")
	default:
	}
	for _, g := range []string{"a", "a", "b"} {
		h.unsubscribe(g)
	}
	for i := range h.shards {
		if n := len(h.shards[i].topics); n != 0 {
			t.Fatalf("shard %d keeps %d topics without watchers", i, n)
		}
	}
}

// TestOverlayAgainstCopies compares the overlay with the obvious thing: a copy of a map at every mark.
func TestOverlayAgainstCopies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOverlay()
		type state = map[string]string
		states := []state{{}}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			rest := rapid.StringMatching(`\.[a-d]{1,2}`).Draw(t, "rest")
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0:
				mark := rapid.IntRange(0, o.mark()).Draw(t, "mark")
				o.rollback(mark)
				states = states[:mark+1]
			default:
				next := state{}
				for k, v := range states[len(states)-1] {
					next[k] = v
				}
				next[rest] = fmt.Sprint(len(states))
				o.put(rest, pending{value: []byte(next[rest])})
				states = append(states, next)
			}
			limit := rapid.IntRange(0, o.mark()).Draw(t, "limit")
			for _, r := range []string{rest, ".a", ".b", ".cc"} {
				want, ok := states[limit][r]
				got := o.get(r, limit)
				if (got != nil) != ok || ok && string(got.value) != want {
					t.Fatalf("get %s at %d: %v, want %q %v", r, limit, got, want, ok)
				}
			}
			if !slices.IsSorted(o.keys) || len(o.keys) != len(states[len(states)-1]) {
				t.Fatalf("keys %v against %v", o.keys, states[len(states)-1])
			}
		}
	})
}
