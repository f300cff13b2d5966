// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/key"
)

func rests(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, ".%d", i)
	}
	return out
}

func puts(n int) *Command {
	c := &Command{}
	for _, rest := range rests(n) {
		c.Mutations = append(c.Mutations, Mutation{Kind: Put, Rest: rest})
	}
	return c
}

// TestLimits tries each limit at its value and one past it.
func TestLimits(t *testing.T) {
	value := make([]byte, ValueLenMax+1) // untouched pages: it costs no memory
	for _, c := range []struct {
		name string
		at   *Command
		past *Command
		text string
	}{
		{"mutations", puts(MutationsMax), puts(MutationsMax + 1), "number of mutations 65537 exceeds limit 65536"},
		{
			"conditions",
			&Command{Conditions: make65k(ConditionsMax)}, &Command{Conditions: make65k(ConditionsMax + 1)}, "number of conditions 65537 exceeds limit 65536",
		},
		{
			"keys read", &Command{Reads: &ReadSet{Keys: rests(ReadKeysMax)}}, &Command{Reads: &ReadSet{Keys: rests(ReadKeysMax + 1)}},
			"number of keys read 65537 exceeds limit 65536",
		},
		{
			"ranges read", &Command{Reads: &ReadSet{Ranges: make([]Range, ReadRangesMax)}}, &Command{Reads: &ReadSet{Ranges: make([]Range, ReadRangesMax+1)}},
			"number of ranges read 65537 exceeds limit 65536",
		},
		{
			"value", &Command{Mutations: []Mutation{{Kind: Put, Rest: []byte(".k"), Value: value[:ValueLenMax]}}},
			&Command{Mutations: []Mutation{{Kind: Put, Rest: []byte(".k"), Value: value}}}, "value length 134217729 exceeds limit 134217728",
		},
		{
			"command", &Command{Mutations: []Mutation{{Kind: Put, Rest: []byte(".k"), Value: value[:ValueLenMax]}, {Kind: Put, Rest: []byte(".l"), Value: value[:32<<20-64]}}},
			&Command{Mutations: []Mutation{{Kind: Put, Rest: []byte(".k"), Value: value[:ValueLenMax]}, {Kind: Put, Rest: []byte(".l"), Value: value[:32<<20]}}},
			"length of the encoded command 167772183 exceeds limit 167772160",
		},
		{
			"bound of a range", &Command{Reads: &ReadSet{Ranges: []Range{{Upper: make([]byte, key.LenMax+1)}}}},
			&Command{Reads: &ReadSet{Ranges: []Range{{Upper: make([]byte, key.LenMax+2)}}}}, "length of a range's bound 4098 exceeds limit 4097",
		},
	} {
		if err := c.at.Validate(); err != nil {
			t.Errorf("%s at the limit: %v", c.name, err)
		}
		var invalid *InvalidError
		if err := c.past.Validate(); !errors.As(err, &invalid) || !invalid.TooLarge || err.Error() != c.text {
			t.Errorf("%s past the limit: %v, want %s", c.name, err, c.text)
		}
	}
	if c := (&Command{Principal: strings.Repeat("\U0001F600", authz.PrincipalRunesMax)}); c.Validate() != nil {
		t.Errorf("principal at the limit: %v", c.Validate())
	}
}

func make65k(n int) []Condition {
	out := make([]Condition, n)
	for i := range out {
		out[i] = Condition{Kind: Absent, Rest: []byte(".k")}
	}
	return out
}

func TestValidateRefuses(t *testing.T) {
	row := []byte(".k")
	for text, c := range map[string]*Command{
		"principal holds a control character":            {Principal: "a\nb"},
		"principal of 257 runes exceeds limit 256":       {Principal: strings.Repeat("x", 257)},
		"unknown condition 0":                            {Conditions: []Condition{{Rest: row}}},
		"condition of absence names a version":           {Conditions: []Condition{{Kind: Absent, Rest: row, Version: 1}}},
		"unknown mutation 9":                             {Mutations: []Mutation{{Kind: 9, Rest: row}}},
		"duration is negative":                           {Mutations: []Mutation{{Kind: Put, Rest: row, TTL: -1}}},
		"both a TTL and a time of expiry":                {Mutations: []Mutation{{Kind: Put, Rest: row, TTL: 1, Expires: 1}}},
		"both a WORM TTL and a WORM end":                 {Mutations: []Mutation{{Kind: Put, Rest: row, WormTTL: 1, WormUntil: 1}}},
		"time lies after the year 2262":                  {Mutations: []Mutation{{Kind: Put, Rest: row, WormUntil: TimestampMax + 1}}},
		`two mutations of .k in one command`:             {Mutations: []Mutation{{Kind: Put, Rest: row}, {Kind: Delete, Rest: row}}},
		`two mutations of ".\n" in one command`:          {Mutations: []Mutation{{Kind: Put, Rest: []byte(".\n")}, {Kind: Delete, Rest: []byte(".\n")}}},
		"range ends before it begins":                    {Reads: &ReadSet{Ranges: []Range{{Lower: []byte("b"), Upper: []byte("a")}}}},
		"principal is empty":                             {Mutations: []Mutation{{Kind: Grant, Object: authz.KindKey, Rest: row, Perms: 1}}},
		"object of a reset is neither a table nor a key": {Mutations: []Mutation{{Kind: ResetGrants, Rest: row}}},
		`key "x" after the group has no row`:             {Reads: &ReadSet{Keys: [][]byte{[]byte("x")}}},
	} {
		var invalid *InvalidError
		if err := c.Validate(); !errors.As(err, &invalid) || invalid.TooLarge || err.Error() != text {
			t.Errorf("Validate = %v, want %s", err, text)
		}
	}
	both := &Command{Mutations: []Mutation{
		{Kind: Put, Rest: row},
		{Kind: Grant, Object: authz.KindKey, Rest: row, Principal: "bob", Perms: 1},
		{Kind: Grant, Object: authz.KindTable, Principal: "bob", Perms: 1},
		{Kind: Revoke, Object: authz.KindTable, Rest: []byte("/t"), Principal: "bob", Perms: 1},
	}}
	if err := both.Validate(); err != nil {
		t.Errorf("a value and lists beside each other: %v", err)
	}
}

// TestDistinctTwin compares the test for doubles, pairwise and by index, with a map.
func TestDistinctTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &Command{}
		seen := map[string]bool{}
		twice := false
		for range rapid.IntRange(0, 60).Draw(t, "mutations") {
			m := Mutation{Kind: rapid.SampledFrom([]MutationKind{Put, Delete, Grant}).Draw(t, "kind"), Rest: fmt.Appendf(nil, ".%d", rapid.IntRange(0, 400).Draw(t, "rest"))}
			if m.Kind == Grant {
				m.Object, m.Principal, m.Perms = authz.KindKey, "bob", 1
			}
			id := fmt.Sprint(m.Kind == Grant, string(m.Rest))
			twice = twice || seen[id]
			seen[id] = true
			c.Mutations = append(c.Mutations, m)
		}
		if err := c.Validate(); (err != nil) != twice {
			t.Fatalf("Validate = %v, twice = %v", err, twice)
		}
	})
}

func TestIndexTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index
		var stored [][]byte
		twin := map[string]int{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			rest := fmt.Appendf(nil, ".%d", rapid.IntRange(0, 100).Draw(t, "rest"))
			same := func(i int) bool { return bytes.Equal(stored[i], rest) }
			if x.full() {
				x.grow(len(stored) + 1)
				for at, i := range twin {
					slot, found := x.find([]byte(at), func(j int) bool { return string(stored[j]) == at })
					if found {
						t.Fatal("found in an empty index")
					}
					x.set(slot, i)
				}
			}
			slot, found := x.find(rest, same)
			want, known := twin[string(rest)]
			if found != known || (found && x.at(slot) != want) {
				t.Fatalf("find(%s) = %v, want %v at %d", rest, found, known, want)
			}
			stored = append(stored, rest)
			x.set(slot, len(stored)-1)
			twin[string(rest)] = len(stored) - 1
		}
		x.clear()
		if _, found := x.find(stored[0], func(int) bool { return true }); found {
			t.Fatal("found after clear")
		}
	})
}
