// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"
)

// modelled is a random walk of one client beside a model that is as plain as can be: a map, and a copy of it for an open
// transaction. Every answer is foretold in full.
type modelled struct {
	c     *conn
	rng   *rand.Rand
	table string
	rows  map[string]string // what is committed, by whole key
	txn   map[string]string // what the open transaction sees; nil when there is none
	log   []string
}

// oneClient walks at random over the commands of one client, in and out of transactions. (G8, G9, G16)
func (e *env) oneClient(ctx context.Context) error {
	return e.with(ctx, func(c *conn) error {
		m := &modelled{c: c, rng: e.rng(500), table: e.freshTable(), rows: map[string]string{}}
		for i := range e.scaled(3000) {
			command, want := m.next()
			m.log = append(m.log, command)
			var err error
			if want == nil {
				_, err = c.must(command)
			} else {
				err = c.want(command, want...)
			}
			if err != nil {
				return fmt.Errorf("step %d, after %q: %w", i, m.log[max(0, i-8):i], err)
			}
			e.operations.Add(1)
		}
		return nil
	})
}

// seen is what the client must see now.
func (m *modelled) seen() map[string]string {
	if m.txn != nil {
		return m.txn
	}
	return m.rows
}

// keyAt is one of few keys, some of which begin with others.
func (m *modelled) keyAt() string {
	rows := []string{"a", "aa", "ab", "b", "b.c", "b/c", "ba", "c", "Z", "é", "~"}
	table := m.table
	if m.rng.IntN(4) == 0 {
		table += "/sub"
	}
	return table + "." + rows[m.rng.IntN(len(rows))]
}

// next draws a command and foretells its answer; of a COMMIT only that it succeeds.
func (m *modelled) next() (command string, want []string) {
	key := m.keyAt()
	value, present := m.seen()[key]
	switch n := m.rng.IntN(20); {
	case n < 5:
		v := strings.Repeat("v", m.rng.IntN(3)) + fmt.Sprint(m.rng.IntN(1000))
		m.seen()[key] = v
		return "KEY PUT " + key + " " + v, []string{"OK"}
	case n < 7:
		delete(m.seen(), key)
		return "KEY DEL " + key, []string{"OK"}
	case n < 10:
		if !present {
			return "KEY GET " + key, []string{"NOT_FOUND", "OK"}
		}
		return "KEY GET " + key, []string{"VALUE:" + value, "OK"}
	case n < 15:
		return m.scan()
	case n < 17:
		prefix := m.prefix()
		return "COUNT " + prefix, []string{fmt.Sprintf("COUNT:%d", len(m.under(prefix))), "OK"}
	case m.txn == nil:
		m.txn = maps.Clone(m.rows)
		return "BEGIN", []string{"OK"}
	case n < 19:
		m.rows, m.txn = m.txn, nil
		return "COMMIT", nil
	}
	m.txn = nil
	return "ROLLBACK", []string{"OK"}
}

func (m *modelled) prefix() string {
	if m.rng.IntN(3) == 0 {
		return m.table
	}
	key := m.keyAt()
	if short := key[:len(key)-m.rng.IntN(2)]; utf8.ValidString(short) {
		return short
	}
	return key
}

// under lists the keys that a prefix covers, in order.
func (m *modelled) under(prefix string) []string {
	if !strings.Contains(prefix, ".") {
		prefix += "."
	}
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(m.seen())) {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	return keys
}

func (m *modelled) scan() (command string, want []string) {
	prefix := m.prefix()
	keys := m.under(prefix)
	command = "SCAN " + prefix
	reverse, values := m.rng.IntN(2) == 0, m.rng.IntN(2) == 0
	if reverse {
		command += " REVERSE"
		slices.Reverse(keys)
	}
	if m.rng.IntN(3) == 0 {
		table, _, _ := strings.Cut(prefix, ".")
		_, row, _ := strings.Cut(m.keyAt(), ".")
		after := table + "." + row
		command += " AFTER " + after
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == after || (k < after) != reverse })
	}
	if m.rng.IntN(3) == 0 {
		n := 1 + m.rng.IntN(4)
		command += fmt.Sprintf(" LIMIT %d", n)
		keys = keys[:min(n, len(keys))]
	}
	want = []string{fmt.Sprintf("KEYS:%d", len(keys))}
	for _, k := range keys {
		want = append(want, k)
		if values {
			want = append(want, "VALUE:"+m.seen()[k])
		}
	}
	if values {
		command += " VALUES"
	}
	return command, append(want, "OK")
}
