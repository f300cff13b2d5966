// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/atlas-edge/atlas/engine/authz"
)

// TestStories runs testdata/apply: transcripts of commands and what they came to. Times are seconds.
//
//	new group=g                        begins anew
//	apply at=10 [principal=x] [admin] [system] [snapshot=s] [valid-until=s]
//	absent R | version R S             conditions
//	put R VALUE [ttl=s] [expires=s] [worm-ttl=s] [worm-until=s] | delete R | expire R S
//	grant|revoke table|key R PRINCIPAL PERM,... | reset table|key R
//	read R | range LOWER UPPER         the read set (needs snapshot=); - is no bound
//	show                               the state
//
// A rest is written as it is; "-" is the empty rest of a plain table.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/apply", func(t *testing.T, path string) {
		m := newModel("g")
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "new":
				group := "g"
				d.MaybeScanArgs(t, "group", &group)
				m = newModel(group)
				return ""
			case "show":
				return showModel(m)
			case "apply":
				at, c := parseStory(t, d)
				if err := c.Validate(); err != nil {
					return "refused before it was proposed: " + err.Error() + "\n"
				}
				encoded := c.AppendTo(nil)
				r, err := ApplyEncoded(m, m, at, new(Command), encoded)
				if err != nil {
					return "error: " + err.Error() + "\n"
				}
				m.last = max(m.last, at)
				return showResult(r)
			default:
				t.Fatalf("unknown command %s", d.Cmd)
				return ""
			}
		})
	})
}

const second = Timestamp(time.Second)

func showResult(r Result) string {
	text := fmt.Sprintf("%v: %s", r.Outcome, r.Text)
	if r.Outcome == Applied {
		text = fmt.Sprintf("applied: %d changes", r.Changes)
	}
	if r.Found != 0 {
		text += fmt.Sprintf(" (found %d)", r.Found)
	}
	return text + "\n"
}

func showModel(m *model) string {
	var b strings.Builder
	for _, rest := range slices.Sorted(maps.Keys(m.versions)) {
		vs := m.versions[rest]
		v := vs[len(vs)-1]
		fmt.Fprintf(&b, "%s%s @%s", m.group, rest, showSeconds(v.meta.Version))
		if v.meta.Deleted {
			b.WriteString(" deleted")
		} else {
			fmt.Fprintf(&b, " %q", v.value)
		}
		if v.meta.Expires != 0 {
			fmt.Fprintf(&b, " expires %s", showSeconds(v.meta.Expires))
		}
		if v.meta.WormUntil != 0 {
			fmt.Fprintf(&b, " write-once until %s", showSeconds(v.meta.WormUntil))
		}
		b.WriteByte('\n')
	}
	for _, name := range slices.Sorted(maps.Keys(m.lists)) {
		fmt.Fprintf(&b, "%s: %v\n", name, m.lists[name].Entries())
	}
	fmt.Fprintf(&b, "lists on %d tables, %d keys; write-once before %s\n", m.state.TableLists, m.state.KeyLists, showSeconds(m.state.WormUntilMax))
	return b.String()
}

func showSeconds(t Timestamp) string {
	return strconv.FormatFloat(float64(t)/float64(second), 'f', -1, 64)
}

func parseSeconds(t *testing.T, text string) Timestamp {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return Timestamp(v * float64(second))
}

func parseStory(t *testing.T, d *datadriven.TestData) (Timestamp, *Command) {
	t.Helper()
	c := &Command{Admin: d.HasArg("admin"), System: d.HasArg("system")}
	d.MaybeScanArgs(t, "principal", &c.Principal)
	var at, snapshot, validUntil string
	d.ScanArgs(t, "at", &at)
	if d.MaybeScanArgs(t, "snapshot", &snapshot) {
		c.Reads = &ReadSet{Snapshot: parseSeconds(t, snapshot)}
		if d.MaybeScanArgs(t, "valid-until", &validUntil) {
			c.Reads.ValidUntil = parseSeconds(t, validUntil)
		}
	}
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		switch words[0] {
		case "absent":
			c.Conditions = append(c.Conditions, Condition{Kind: Absent, Rest: storyRest(words[1])})
		case "version":
			c.Conditions = append(c.Conditions, Condition{Kind: VersionIs, Rest: storyRest(words[1]), Version: parseSeconds(t, words[2])})
		case "read":
			c.Reads.Keys = append(c.Reads.Keys, storyRest(words[1]))
		case "range":
			c.Reads.Ranges = append(c.Reads.Ranges, Range{storyRest(words[1]), storyRest(words[2])})
		default:
			c.Mutations = append(c.Mutations, storyMutation(t, words))
		}
	}
	return parseSeconds(t, at), c
}

func storyRest(word string) []byte {
	if word == "-" {
		return nil
	}
	return []byte(word)
}

func storyMutation(t *testing.T, words []string) Mutation {
	t.Helper()
	m := Mutation{Rest: storyRest(words[1])}
	switch words[0] {
	case "put":
		m.Kind, m.Value = Put, []byte(words[2])
		for _, option := range words[3:] {
			name, value, _ := strings.Cut(option, "=")
			s := parseSeconds(t, value)
			switch name {
			case "ttl":
				m.TTL = time.Duration(s)
			case "expires":
				m.Expires = s
			case "worm-ttl":
				m.WormTTL = time.Duration(s)
			case "worm-until":
				m.WormUntil = s
			default:
				t.Fatalf("option %q", option)
			}
		}
	case "delete":
		m.Kind = Delete
	case "expire":
		m.Kind, m.Version = Expire, parseSeconds(t, words[2])
	case "grant", "revoke", "reset":
		m.Kind = map[string]MutationKind{"grant": Grant, "revoke": Revoke, "reset": ResetGrants}[words[0]]
		m.Object = map[string]authz.Kind{"table": authz.KindTable, "key": authz.KindKey}[words[1]]
		m.Rest = storyRest(words[2])
		if m.Kind == ResetGrants {
			break
		}
		m.Principal = words[3]
		for word := range strings.SplitSeq(words[4], ",") {
			p, err := authz.ParsePerm(word)
			if err != nil {
				t.Fatal(err)
			}
			m.Perms |= p
		}
	default:
		t.Fatalf("unknown line %q", words)
	}
	return m
}
