// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"fmt"
	"slices"
	"strings"
)

// Transcript is the violation as a transcript that TestTranscripts replays: put it into testdata/found.
func (v *Violation) Transcript() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, found by the setup %q: %v\n\nreplay setup=%s\n", v.Setup.Name, v.Setup.Name, v.Err, v.Setup.Name)
	for _, line := range v.Trace {
		fmt.Fprintln(&b, line)
	}
	b.WriteString("----\n")
	b.WriteString(Replay(v.Setup, v.Trace))
	return b.String()
}

// Replay does the actions, as a Violation's Trace has them, and tells what each did. It ends at a violation, and at an action
// that is not possible.
func Replay(s *Setup, trace []string) string {
	var b strings.Builder
	x := newExplorer(s)
	w, err := x.begin()
	for _, line := range trace {
		if err != nil {
			break
		}
		before := w
		w, err = x.script(before, line)
		fmt.Fprintf(&b, "%s\n", line)
		if err == nil {
			x.tell(&b, &before, &w)
		}
	}
	if err != nil {
		fmt.Fprintf(&b, "  STOPS: %v\n", err)
	}
	return b.String()
}

// tell says what an action changed.
func (x *explorer) tell(b *strings.Builder, from, to *world) {
	for n := range x.setup.Nodes {
		if from.node[n] == to.node[n] {
			continue
		}
		l := x.locals[to.node[n]]
		s := &l.status
		fmt.Fprintf(b, "  node %d: %s", n+1, s.State)
		if !s.Ballot.IsZero() {
			fmt.Fprintf(b, " %s", s.Ballot)
		}
		fmt.Fprintf(b, " promised=%s accepted=%s last=%d commit=%d applied=%d", s.Promised, l.written.rec.Accepted, s.Last, s.Commit, s.Applied)
		if r := &l.durable.rec; r.Promised != s.Promised || r.Last != s.Last || r.Commit != s.Commit {
			fmt.Fprintf(b, " (durable: promised=%s accepted=%s last=%d commit=%d)", r.Promised, r.Accepted, r.Last, r.Commit)
		}
		b.WriteString("\n")
	}
	for _, id := range to.net {
		if !slices.Contains(from.net, id) {
			fmt.Fprintf(b, "  sent %s\n", x.messages[id].text)
		}
	}
	if from.fab != to.fab {
		f := &x.fabrics[to.fab]
		for n := range x.setup.Nodes {
			if before := x.fabrics[from.fab].text(n, x.setup.Nodes); before != f.text(n, x.setup.Nodes) {
				fmt.Fprintf(b, "  node %d lives: %s\n", n+1, f.text(n, x.setup.Nodes))
			}
		}
	}
	if h := x.histories[to.hist]; from.hist != to.hist && h.chosen != x.histories[from.hist].chosen {
		n := 0
		for n+1 < len(h.chosen) && h.chosen[n+1] != 0 {
			n++
		}
		fmt.Fprintf(b, "  chosen to slot %d\n", n)
	}
}
