// SPDX-License-Identifier: AGPL-3.0-only

package repl

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli/lineedit"
	"github.com/atlas-edge/atlas/client/wire"
)

// usage is a command for completion: its words, what stands behind them, and its options, in any order.
type usage struct {
	words   string
	args    []argument
	options []string
	help    string
}

type argument int

const (
	argKey argument = iota + 1 // a key, table or prefix: completed with the tables' names
	argTable
	argWord // something else
)

// grammar is the native protocol as far as completion goes. A command that is missing here works all the same.
var grammar = []usage{
	{"KEY GET", []argument{argKey}, []string{"VERSION"}, "read a value"},
	{"KEY META", []argument{argKey}, nil, "all of a value but its bytes"},
	{"KEY PUT", []argument{argKey}, []string{"PRINCIPAL", "WORM TTL", "WORM EXPIRES"}, "write a value"},
	{"KEY SET", []argument{argKey}, []string{"PRINCIPAL", "WORM TTL", "WORM EXPIRES"}, "write a value"},
	{"KEY WRITE", []argument{argKey}, []string{"IF ABSENT", "IF VERSION", "TTL", "EXPIRES", "WORM TTL", "WORM EXPIRES", "PRINCIPAL", "VALUE"}, "write with conditions"},
	{"KEY DEL", []argument{argKey}, []string{"IF VERSION"}, "delete a key"},
	{"KEY BLOB GET", []argument{argKey}, []string{"VERSION", ">"}, "read bytes"},
	{"KEY BLOB SET", []argument{argKey}, []string{"<", "IF ABSENT", "IF VERSION", "TTL", "EXPIRES", "WORM TTL", "WORM EXPIRES", "PRINCIPAL", "VERSION"}, "write bytes"},
	{"SCAN", []argument{argKey}, []string{"VALUES", "META", "LIMIT", "AFTER", "REVERSE"}, "list keys"},
	{"COUNT", []argument{argKey}, nil, "count keys"},
	{"SAMPLE", []argument{argKey, argWord}, nil, "pick keys at random"},
	{"WATCH", []argument{argKey}, []string{"FROM"}, "follow changes"},
	{"UNWATCH", nil, nil, "end a watch"},
	{"BEGIN", nil, nil, "start a transaction"},
	{"COMMIT", nil, nil, "apply the transaction"},
	{"ROLLBACK", nil, nil, "drop the transaction"},
	{"CONSISTENCY STRONG", nil, nil, "newest values"},
	{"CONSISTENCY BOUNDED", []argument{argWord}, nil, "values at most this old"},
	{"CONSISTENCY LOCAL", nil, nil, "what this node has"},
	{"PRINCIPAL WHOAMI", nil, nil, "who acts"},
	{"PRINCIPAL ASSUME", []argument{argWord}, nil, "act as"},
	{"PRINCIPAL AUTH", []argument{argWord, argWord}, nil, "act as, with proof"},
	{"PRINCIPAL SECRET", []argument{argWord, argWord}, nil, "set a secret"},
	{"ACL GRANT", []argument{argKey, argWord}, []string{"PERMS READ", "PERMS WRITE", "PERMS OWNER"}, "let a principal act"},
	{"ACL REVOKE", []argument{argKey, argWord}, []string{"PERMS READ", "PERMS WRITE", "PERMS OWNER"}, "take a grant back"},
	{"ACL LIST", []argument{argKey}, nil, "show grants"},
	{"TABLE LIST", nil, nil, "tables"},
	{"TABLE INFO", []argument{argTable}, nil, "one table"},
	{"TABLE MOVE", []argument{argTable}, []string{"TO"}, "move ownership"},
	{"TABLE REGIONS", []argument{argTable}, []string{"ALLOW", "DENY"}, "where it may be owned"},
	{"TABLE PIN", []argument{argTable}, nil, "keep its owner"},
	{"TABLE UNPIN", []argument{argTable}, nil, "let its owner change"},
	{"GROUP LIST", nil, nil, "groups"},
	{"GROUP INFO", []argument{argWord}, nil, "one group"},
	{"NODE LIST", nil, nil, "nodes"},
	{"NODE INFO", []argument{argWord}, nil, "one node"},
	{"NODE PING", []argument{argWord}, nil, "round trip to a node"},
	{"NODE DRAIN", []argument{argWord}, nil, "give away what it owns"},
	{"NODE REMOVE", []argument{argWord}, nil, "take it out of the cluster"},
	{"QUORUM INFO", []argument{argTable}, []string{"SURVIVES"}, "quorums of a table"},
	{"QUORUM SET", nil, []string{"FN", "FZ"}, "change the quorums"},
	{"SQL", nil, nil, "run a statement"},
	{"HELP", nil, nil, "usage"},
	{"QUIT", nil, nil, "close the connection"},
	{"EXIT", nil, nil, "leave the shell"},
}

// complete gives the ways to complete the word before pos.
func (sh *shell) complete(line string, pos int) (int, []lineedit.Candidate) {
	if c := parse(line[:pos] + "?"); c.file != "" { // the ? is a name where there is none yet
		typed := strings.TrimSuffix(c.file, "?")
		return pos - len(typed), fileCandidates(typed)
	}
	start := strings.LastIndexByte(line[:pos], ' ') + 1
	before := strings.Fields(line[:start])
	if len(before) > 0 && strings.HasPrefix(before[0], "[ID:") {
		before = before[1:]
	}
	if len(before) > 0 && strings.EqualFold(before[0], "HELP") {
		before = before[1:] // what HELP explains: a command
	}
	word := line[start:pos]
	var out []lineedit.Candidate
	add := func(text, help string) {
		if !slices.ContainsFunc(out, func(c lineedit.Candidate) bool { return c.Text == text }) {
			out = append(out, lineedit.Candidate{Text: text, Help: help})
		}
	}
	for _, u := range grammar {
		words := strings.Fields(u.words)
		if !beginsWith(words, before) && !beginsWith(before, words) {
			continue
		}
		if len(before) < len(words) {
			if strings.HasPrefix(words[len(before)], strings.ToUpper(word)) {
				help := ""
				if len(before) == len(words)-1 {
					help = u.help
				}
				add(words[len(before)], help)
			}
			continue
		}
		given := before[len(words):]
		if len(given) < len(u.args) {
			if arg := u.args[len(given)]; arg != argWord {
				for _, name := range sh.tableCandidates(word, arg) {
					add(name, "")
				}
			}
			continue
		}
		for _, option := range nextOptions(u.options, given[len(u.args):], word) {
			add(option, "")
		}
	}
	if len(out) > 1 && slices.ContainsFunc(out, func(c lineedit.Candidate) bool { return c.Help == "" }) {
		for i := range out {
			out[i].Help = ""
		}
	}
	return start, out
}

// beginsWith tells whether a begins with b, whatever the case.
func beginsWith(a, b []string) bool {
	return len(a) >= len(b) && slices.EqualFunc(a[:len(b)], b, strings.EqualFold)
}

// nextOptions are the words of options that can follow given and begin with word.
func nextOptions(options, given []string, word string) (out []string) {
	last := ""
	if len(given) > 0 {
		last = strings.ToUpper(given[len(given)-1])
	}
	if last == "VALUE" || last == "TTL" || last == "EXPIRES" || last == "VERSION" || last == "LIMIT" || last == "AFTER" || last == "FROM" {
		return nil // something of the user's own follows
	}
	for _, o := range options {
		first, second, two := strings.Cut(o, " ")
		candidate := first
		if two && last == first {
			candidate = second
		} else if slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, last+" ") }) && last != "" {
			continue
		}
		if strings.HasPrefix(candidate, strings.ToUpper(word)) {
			out = append(out, candidate)
		}
	}
	return out
}

// tableNames caches the names of the tables. They are asked for under a request id of their own, so that an answer that
// comes too late for one Tab is there for the next.
type tableNames struct {
	names []string
	next  []string
	when  time.Time
	asked bool // an answer is outstanding
}

const (
	tablesFresh = 5 * time.Second        // how long the names are used before they are asked for again
	tablesWait  = 150 * time.Millisecond // how long a Tab waits for them
	tablesMax   = 10_000                 // names that are kept
	tablesRare  = 10 * time.Minute       // how much longer so many names are used: asking again costs too much
)

func (t *tableNames) take(f wire.Frame) {
	if !f.End() {
		if name := client.ListedName("TABLE", string(f.Text)); name != "" && len(t.next) < tablesMax && wire.Token(name) {
			t.next = append(t.next, name)
		}
		return
	}
	t.when = time.Now()
	if f.Kind == wire.KindOK {
		if t.names = t.next; len(t.names) == tablesMax {
			t.when = t.when.Add(tablesRare)
		}
	}
	t.next, t.asked = nil, false
}

func (sh *shell) tableCandidates(word string, arg argument) (out []string) {
	sh.refreshTables()
	for _, name := range sh.tables.names {
		if arg == argKey {
			name += "."
		}
		if strings.HasPrefix(name, word) {
			out = append(out, name)
		}
	}
	return out
}

// refreshTables asks for the tables when that is due and waits a moment. It leaves the connection in step: what has not
// come by then is read with the next answer.
func (sh *shell) refreshTables() {
	if sh.conn == nil || !sh.tables.asked && time.Since(sh.tables.when) < tablesFresh {
		return
	}
	_ = sh.conn.SetDeadline(time.Now().Add(tablesWait)) // a connection that is gone fails below
	defer func() {
		if sh.conn != nil {
			_ = sh.conn.SetDeadline(time.Time{}) // as above
		}
	}()
	if !sh.tables.asked {
		sh.tables.next = nil
		if _, err := io.WriteString(sh.conn, "[ID:"+tablesTag+"] TABLE LIST\r\n"); err != nil {
			sh.drop()
			return
		}
		sh.tables.asked = true
	}
	for sh.tables.asked {
		f, err := sh.conn.Reader.Next()
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				sh.tables.asked = false
				sh.drop()
			}
			return
		}
		if string(f.Tag) == tablesTag {
			sh.tables.take(f)
		}
	}
}
