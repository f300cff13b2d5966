// SPDX-License-Identifier: AGPL-3.0-only

// Package fakenode is a node in memory that speaks the native protocol, for the tests of the client and of its programs. It
// keeps no promise about durability or isolation; a hook lets a test misbehave in its place.
package fakenode

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/atlas-edge/atlas/client/wire"
)

// Node is a server. Set the fields before Serve.
type Node struct {
	// Hook sees each command line, without its id, before the node does. It may write to the connection itself, as raw
	// bytes; when it returns true the command is done, and when it returns an error the connection is closed.
	Hook func(c *Conn, tag, line string) (handled bool, err error)
	// SetUp is the version of its row of the system table, by which a node is known; 0: random.
	SetUp uint64
	// Plain answers as the first part of the protocol only: no VERSION from COMMIT or blobs.
	Plain bool

	l  net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	conns    map[*Conn]struct{}
	data     map[string]value
	version  uint64
	watchers map[*watcher]struct{}
	history  []event
}

type value struct {
	bytes   []byte
	version uint64
}

type event struct {
	kind    string
	version uint64
	key     string
}

type watcher struct {
	prefix string
	send   func(event)
}

// Conn is one client's connection.
type Conn struct {
	net.Conn
	Principal string

	node    *Node
	r       *bufio.Reader
	wmu     sync.Mutex
	txn     map[string]*value // nil: no transaction; a nil value: deleted
	running sync.WaitGroup
	watches map[string]*watcher // by tag, guarded by node.mu
}

// Serve starts a node on l. Close it.
func (n *Node) Serve(l net.Listener) *Node {
	if n.SetUp == 0 {
		n.SetUp = rand.Uint64() | 1
	}
	n.l, n.conns, n.watchers = l, make(map[*Conn]struct{}), make(map[*watcher]struct{})
	n.wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c := &Conn{Conn: nc, node: n, r: bufio.NewReader(nc), watches: make(map[string]*watcher)}
			n.mu.Lock()
			n.conns[c] = struct{}{}
			n.mu.Unlock()
			n.wg.Go(c.serve)
		}
	})
	return n
}

// Close stops the node and waits for it.
func (n *Node) Close() {
	_ = n.l.Close() // ends Accept
	n.CutAll()
	n.wg.Wait()
}

// SetHook changes Hook while the node runs.
func (n *Node) SetHook(hook func(c *Conn, tag, line string) (handled bool, err error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Hook = hook
}

// CutAll closes all connections.
func (n *Node) CutAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		_ = c.Close() // that is the cut
	}
}

// Conns is the number of connections.
func (n *Node) Conns() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

// Put sets a key.
func (n *Node) Put(key, val string) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.set(key, []byte(val))
}

// Delete removes a key.
func (n *Node) Delete(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.version++
	delete(n.data, key)
	n.publish(event{"DEL", n.version, key})
}

// Get reads a key.
func (n *Node) Get(key string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.data[key]
	return string(v.bytes), ok
}

// Keys lists the keys, sorted.
func (n *Node) Keys() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.keys("")
}

func (n *Node) keys(prefix string) []string {
	var out []string
	for k := range n.data {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func (n *Node) set(key string, b []byte) uint64 {
	if n.data == nil {
		n.data = make(map[string]value)
	}
	n.version++
	n.data[key] = value{b, n.version}
	n.publish(event{"PUT", n.version, key})
	return n.version
}

func (n *Node) publish(e event) {
	n.history = append(n.history, e)
	for w := range n.watchers {
		if strings.HasPrefix(e.key, w.prefix) {
			w.send(e)
		}
	}
}

// Raw writes bytes as they are.
func (c *Conn) Raw(s string) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, _ = io.WriteString(c.Conn, s) // a client that is gone reads nothing
}

func (c *Conn) serve() {
	defer func() {
		_ = c.Close() // all was said
		c.running.Wait()
		c.node.mu.Lock()
		delete(c.node.conns, c)
		for _, w := range c.watches {
			delete(c.node.watchers, w)
		}
		c.node.mu.Unlock()
	}()
	c.Raw("WELCOME 1.0 Chronalys/1.0\r\n")
	hello, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(hello, "HELLO 1.0 ") {
		c.Raw("ERROR FATAL invalid handshake\r\n")
		return
	}
	c.Raw("READY\r\n")
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := c.command(line); err != nil {
			return
		}
	}
}

var errQuit = errors.New("quit")

func (c *Conn) command(line string) error {
	tag := ""
	if rest, ok := strings.CutPrefix(line, "[ID:"); ok {
		tag, line, _ = strings.Cut(rest, "] ")
	}
	var body []byte
	words := strings.Fields(line)
	if len(words) >= 5 && strings.EqualFold(words[0]+words[1]+words[2], "KEYBLOBSET") {
		size, err := strconv.Atoi(words[4])
		if err != nil || size < 0 || size > 128<<20 {
			c.Raw(prefix(tag) + "ERROR FATAL invalid: length\r\n")
			return errQuit
		}
		body = make([]byte, size)
		if _, err := io.ReadFull(c.r, body); err != nil {
			return err
		}
	}
	c.node.mu.Lock()
	hook := c.node.Hook
	c.node.mu.Unlock()
	if hook != nil {
		handled, err := hook(c, tag, line)
		if handled || err != nil {
			return err
		}
	}
	run := func() {
		out := c.run(tag, line, body)
		if tag != "" {
			out = c.tagged(tag, out)
		}
		c.Raw(string(bytes.Join(out, nil)))
	}
	switch {
	case strings.EqualFold(words[0], "QUIT"):
		c.Raw(prefix(tag) + "OK\r\n")
		return errQuit
	case tag != "" && c.txn == nil:
		c.running.Go(run)
	default:
		run()
	}
	return nil
}

func prefix(tag string) string {
	if tag == "" {
		return ""
	}
	return "[ID:" + tag + "] "
}

// tagged puts the id before every line; blobs are frames of their own that begin with none.
func (c *Conn) tagged(tag string, frames [][]byte) [][]byte {
	var out [][]byte
	for i, f := range frames {
		if i > 0 && bytes.HasPrefix(frames[i-1], []byte("BLOB ")) {
			out = append(out, f)
			continue
		}
		out = append(out, []byte(prefix(tag)), f)
	}
	return out
}

type reply struct{ frames [][]byte }

func (r *reply) line(format string, args ...any) {
	r.frames = append(r.frames, fmt.Appendf(nil, format+"\r\n", args...))
}

func (r *reply) value(v []byte) {
	if text(v) {
		r.line("VALUE:%s", v)
		return
	}
	r.blob(v)
}

func (r *reply) blob(v []byte) {
	r.line("BLOB %d", len(v))
	r.frames = append(r.frames, v)
}

func text(v []byte) bool {
	return utf8.Valid(v) && !bytes.ContainsAny(v, "\r\n\x00\x1b")
}

func fail(class, format string, args ...any) [][]byte {
	return [][]byte{fmt.Appendf(nil, "ERROR WARN "+class+": "+format+"\r\n", args...)}
}

func (c *Conn) run(tag, line string, body []byte) [][]byte {
	n := c.node
	n.mu.Lock()
	defer n.mu.Unlock()
	w := strings.Fields(line)
	verb := strings.ToUpper(w[0])
	sub := ""
	if len(w) > 1 {
		sub = strings.ToUpper(w[1])
	}
	var r reply
	switch verb {
	case "KEY":
		return c.key(sub, w, line, body)
	case "SCAN", "COUNT", "SAMPLE":
		return c.scan(verb, w)
	case "PRINCIPAL":
		switch {
		case sub == "WHOAMI":
			r.line("PRINCIPAL %s", orNone(c.Principal))
		case sub == "AUTH" && (len(w) != 4 || w[3] != "secret"):
			return fail("denied", "wrong name or secret")
		case len(w) < 3 || w[2] == "nobody":
			return fail("denied", "principal may not be assumed")
		default:
			c.Principal = w[2]
		}
	case "ACL":
		if sub == "LIST" {
			break // nothing is granted here
		}
		if len(w) != 6 {
			return fail("invalid", "usage: ACL GRANT|REVOKE <object> <principal> PERMS <permission>")
		}
		r.line("ACL %s %s on %s to %s", map[string]string{"GRANT": "granted", "REVOKE": "revoked"}[sub], w[5], w[2], w[3])
	case "NODE":
		switch {
		case sub == "PING" && len(w) == 3 && w[2] == "1":
			r.line("PONG node=1 rtt_ms=0")
		case sub == "LIST", sub == "INFO" && len(w) == 3 && w[2] == "1":
			r.line("NODE id=1 region=local status=ACTIVE rtt_ms=0 addr=localhost port=4444")
		default:
			return fail("not_found", "no such node")
		}
	case "QUORUM":
		for _, q := range []string{"Q1", "Q2"} {
			r.line("%s size=1", q)
			r.line("id=1 region=local addr=localhost port=4444")
		}
	case "CONSISTENCY":
	case "BEGIN":
		c.txn = make(map[string]*value)
	case "COMMIT", "ROLLBACK":
		if c.txn == nil {
			return fail("invalid", "no transaction")
		}
		txn := c.txn
		c.txn = nil
		if verb == "ROLLBACK" {
			break
		}
		n.version++
		if n.data == nil {
			n.data = make(map[string]value)
		}
		for k, v := range txn {
			if v == nil {
				delete(n.data, k)
				n.publish(event{"DEL", n.version, k})
			} else {
				n.data[k] = value{v.bytes, n.version}
				n.publish(event{"PUT", n.version, k})
			}
		}
		if !n.Plain {
			r.line("VERSION:%d", n.version)
		}
	case "TABLE", "GROUP":
		seen := map[string]bool{}
		for _, k := range n.keys("") {
			table, _, _ := strings.Cut(k, ".")
			if verb == "GROUP" {
				table, _, _ = strings.Cut(table, "/")
			}
			if !seen[table] && (sub == "LIST" || sub == "INFO" && len(w) == 3 && w[2] == table) {
				r.line("%s %s owner=1", verb, table)
			}
			seen[table] = true
		}
	case "WATCH":
		return c.watch(tag, w)
	case "UNWATCH":
		if old := c.watches[tag]; old != nil {
			delete(n.watchers, old)
			delete(c.watches, tag)
		}
	case "HELP":
		r.line("KEY GET <key> [VERSION]")
		r.line("[ID:xyz] COMMAND ... runs beside others")
	default:
		return fail("invalid", "unknown command")
	}
	r.line("OK")
	return r.frames
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func (c *Conn) get(key string) (value, bool) {
	if key == "atlas.nodes.1" {
		return value{[]byte(`{"id":1}`), c.node.SetUp}, true
	}
	if c.txn != nil {
		if v, ok := c.txn[key]; ok {
			if v == nil {
				return value{}, false
			}
			return *v, true
		}
	}
	v, ok := c.node.data[key]
	return v, ok
}

func (c *Conn) put(key string, b []byte) uint64 {
	if c.txn != nil {
		c.txn[key] = &value{bytes: b}
		return 0
	}
	return c.node.set(key, b)
}

func (c *Conn) key(sub string, w []string, line string, body []byte) [][]byte {
	var r reply
	if sub == "BLOB" && len(w) > 2 {
		sub = "BLOB " + strings.ToUpper(w[2])
		w = w[1:]
	}
	if len(w) < 3 || !strings.Contains(w[2], ".") || strings.HasPrefix(w[2], ".") && !strings.HasPrefix(w[2], `."`) {
		return fail("invalid", "usage")
	}
	key, _ := wire.ParseKey([]byte(w[2]))
	v, ok := c.get(key)
	versioned := len(w) > 3 && strings.EqualFold(w[3], "VERSION")
	switch sub {
	case "GET":
		if ok && !text(v.bytes) {
			return fail("invalid", "value is binary, use KEY BLOB GET")
		}
		if ok && versioned {
			r.line("VERSION:%d", v.version)
		}
		if ok {
			r.line("VALUE:%s", v.bytes)
		} else {
			r.line("NOT_FOUND")
		}
	case "BLOB GET":
		if versioned && c.node.Plain {
			return fail("invalid", "usage")
		}
		if ok && versioned {
			r.line("VERSION:%d", v.version)
		}
		if ok {
			r.blob(v.bytes)
		} else {
			r.line("EMPTY")
		}
	case "PUT", "SET":
		rest := strings.SplitN(line, " ", 4)
		if len(rest) < 4 {
			rest = append(rest, "")
		}
		c.put(key, []byte(rest[3]))
	case "WRITE", "BLOB SET":
		options, val, found := strings.Cut(line, " VALUE ")
		if sub == "BLOB SET" {
			options, val, found = line, string(body), true
		}
		if !found {
			return fail("invalid", "no VALUE")
		}
		if err := c.conditions(options, v, ok); err != nil {
			return err
		}
		if version := c.put(key, []byte(val)); version > 0 && (sub == "WRITE" || !c.node.Plain && len(strings.Fields(options)) > 5) {
			r.line("VERSION:%d", version)
		}
	case "DEL":
		if err := c.conditions(line, v, ok); err != nil {
			return err
		}
		if c.txn != nil {
			c.txn[key] = nil
		} else if ok {
			c.node.version++
			delete(c.node.data, key)
			c.node.publish(event{"DEL", c.node.version, key})
		}
	default:
		return fail("invalid", "unknown command")
	}
	r.line("OK")
	return r.frames
}

func (c *Conn) conditions(options string, v value, ok bool) [][]byte {
	w := strings.Fields(options)
	for i := range w {
		if w[i] != "IF" || i+1 == len(w) {
			continue
		}
		if w[i+1] == "ABSENT" && ok {
			return fail("conflict", "key exists, version %d", v.version)
		}
		if w[i+1] == "VERSION" && i+2 < len(w) && w[i+2] != strconv.FormatUint(v.version, 10) {
			return fail("conflict", "found version %d", v.version)
		}
	}
	return nil
}

func (c *Conn) scan(verb string, w []string) [][]byte {
	if len(w) < 2 {
		return fail("invalid", "usage")
	}
	prefix := w[1]
	if !strings.Contains(prefix, ".") {
		prefix += "."
	}
	keys := c.node.keys(prefix)
	for k, v := range c.txn {
		i, found := slices.BinarySearch(keys, k)
		switch {
		case v != nil && !found && strings.HasPrefix(k, prefix):
			keys = slices.Insert(keys, i, k)
		case v == nil && found:
			keys = slices.Delete(keys, i, i+1)
		}
	}
	var r reply
	if verb == "COUNT" {
		r.line("COUNT:%d", len(keys))
		r.line("OK")
		return r.frames
	}
	values, meta, limit, after, reverse := false, false, len(keys), "", false
	for i := 2; i < len(w); i++ {
		switch strings.ToUpper(w[i]) {
		case "VALUES":
			values = true
		case "META":
			meta = true
		case "REVERSE":
			reverse = true
		case "LIMIT":
			i++
			limit, _ = strconv.Atoi(w[i])
		case "AFTER":
			i++
			after, _ = wire.ParseKey([]byte(w[i]))
		default:
			limit, _ = strconv.Atoi(w[i]) // SAMPLE
			rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		}
	}
	if reverse {
		slices.Reverse(keys)
	}
	keys = slices.DeleteFunc(keys, func(k string) bool {
		return after != "" && (!reverse && k <= after || reverse && k >= after)
	})
	keys = keys[:min(limit, len(keys))]
	r.line("KEYS:%d", len(keys))
	for _, k := range keys {
		r.line("%s", wire.AppendKey(nil, k))
		v, _ := c.get(k)
		if meta {
			r.line("META version=%d size=%d", v.version, len(v.bytes))
		}
		if values {
			r.value(v.bytes)
		}
	}
	r.line("OK")
	return r.frames
}

func (c *Conn) watch(tag string, w []string) [][]byte {
	if tag == "" {
		return fail("invalid", "WATCH needs a request id")
	}
	if len(w) < 2 {
		return fail("invalid", "usage")
	}
	n := c.node
	prefix := w[1]
	if !strings.Contains(prefix, ".") {
		prefix += "."
	}
	var r reply
	line := func(e event) []byte {
		return fmt.Appendf(nil, "EVENT %s %d %s\r\n", e.kind, e.version, wire.AppendKey(nil, e.key))
	}
	if len(w) == 4 {
		from, _ := strconv.ParseUint(w[3], 10, 64)
		for _, e := range n.history {
			if e.version > from && strings.HasPrefix(e.key, prefix) {
				r.frames = append(r.frames, line(e))
			}
		}
	}
	watch := &watcher{prefix: prefix, send: func(e event) { c.Raw("[ID:" + tag + "] " + string(line(e))) }}
	n.watchers[watch] = struct{}{}
	c.watches[tag] = watch
	// Written here, under the node's lock, so that no event overtakes.
	c.Raw(string(bytes.Join(c.tagged(tag, r.frames), nil)))
	return nil
}
