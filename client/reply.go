// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/atlas-edge/atlas/client/wire"
)

// Reply is the answer to Do: its data frames, without the OK.
type Reply struct{ Frames []Frame }

// Frame is a line of a reply, or a blob.
type Frame struct {
	Line string // without line end; for a blob, its `BLOB <n>` line
	Blob []byte // not nil for a blob
}

// Do sends a command line as it is, with body after it, and returns the answer; a refusal is an *Error. Only KEY BLOB SET has
// a body, of exactly the length that its line says. Whether a command may be sent a second time after a lost connection is decided by its first words: only what is known to read is. On a Client, the
// commands that change the state of a connection (PRINCIPAL ASSUME and AUTH, CONSISTENCY, BEGIN, COMMIT, ROLLBACK, WATCH,
// UNWATCH, QUIT) are refused, for a connection is not the caller's own there: use Session, Begin, Watch, Assume.
func (c commands) Do(ctx context.Context, line string, body []byte) (*Reply, error) {
	if strings.ContainsAny(line, "\r\n\x00") || strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimLeft(line, blanks), "[") {
		return nil, &Error{Class: wire.Invalid, Text: "a command is one line that begins with a word"}
	}
	if len(line) > wire.CommandLenMax-wire.TagLenMax {
		return nil, &Error{Class: wire.TooLarge, Text: "command length " + strconv.Itoa(len(line)) + " exceeds limit"}
	}
	if err := checkBody(line, body); err != nil {
		return nil, err
	}
	verb, sub := firstWords(line)
	if _, shared := c.x.(*Client); shared && bindsConnection(verb, sub) {
		return nil, &Error{Class: wire.Invalid, Text: strings.TrimRight(verb+" "+sub, " ") + " changes the state of a connection: use a Session"}
	}
	cl := newCall("")
	defer cl.release()
	cl.out, cl.body, cl.write = append(cl.out, line...), body, !onlyReads(verb, sub)
	if err := c.x.exec(ctx, cl); err != nil {
		return nil, err
	}
	r := &Reply{Frames: make([]Frame, 0, len(cl.frames))}
	for i, f := range cl.frames {
		if f.blob {
			r.Frames = append(r.Frames, Frame{Line: "BLOB " + strconv.Itoa(f.end-f.start), Blob: append([]byte{}, cl.text(i)...)})
		} else {
			r.Frames = append(r.Frames, Frame{Line: string(cl.text(i))})
		}
	}
	return r, nil
}

// blanks part words, for the server as for us.
const blanks = " \t"

func cutWord(line string) (word, rest string) {
	line = strings.TrimLeft(line, blanks)
	if i := strings.IndexAny(line, blanks); i >= 0 {
		return line[:i], line[i:]
	}
	return line, ""
}

func firstWords(line string) (verb, sub string) {
	verb, rest := cutWord(line)
	sub, _ = cutWord(rest)
	return strings.ToUpper(verb), strings.ToUpper(sub)
}

// checkBody refuses a body that the server would take for the next commands of the connection, and a line for which it would
// wait for bytes that do not come.
func checkBody(line string, body []byte) error {
	var words [5]string
	for i := range words {
		words[i], line = cutWord(line)
	}
	isUpload := strings.EqualFold(words[0], "KEY") && strings.EqualFold(words[1], "BLOB") && strings.EqualFold(words[2], "SET")
	switch {
	case isUpload && words[4] != strconv.Itoa(len(body)):
		return &Error{Class: wire.Invalid, Text: "KEY BLOB SET must say the length of its body, " + strconv.Itoa(len(body))}
	case !isUpload && len(body) > 0:
		return &Error{Class: wire.Invalid, Text: "only KEY BLOB SET has a body"}
	}
	return nil
}

func bindsConnection(verb, sub string) bool {
	switch verb {
	case "PRINCIPAL":
		return sub == "ASSUME" || sub == "AUTH"
	case "CONSISTENCY", "BEGIN", "COMMIT", "ROLLBACK", "WATCH", "UNWATCH", "QUIT":
		return true
	}
	return false
}

func onlyReads(verb, sub string) bool {
	switch verb {
	case "KEY":
		return sub == "GET" || sub == "META"
	case "ACL":
		return sub == "LIST"
	case "SCAN", "COUNT", "SAMPLE", "HELP", "BEGIN", "ROLLBACK", "CONSISTENCY", "WATCH", "UNWATCH":
		return true
	case "PRINCIPAL":
		return sub != "SECRET"
	case "NODE", "QUORUM", "TABLE", "GROUP":
		return sub == "LIST" || sub == "INFO" || sub == "PING"
	}
	return false
}

// Node is a node as NODE LIST, NODE INFO and QUORUM INFO show it.
type Node struct {
	ID     uint64
	Region string
	Addr   string
	Port   int
	Status string            // "" where the server does not say
	Fields map[string]string // all of the line's name=value pairs
}

// parseFields reads `name=value` pairs; words without `=` are passed over.
func parseFields(line string) map[string]string {
	fields := make(map[string]string)
	for _, w := range strings.Fields(line) {
		if name, value, ok := strings.Cut(w, "="); ok {
			fields[name] = value
		}
	}
	return fields
}

func parseNode(line string) (Node, error) {
	f := parseFields(line)
	id, err := strconv.ParseUint(f["id"], 10, 64)
	if err != nil {
		return Node{}, protocolError("node line %q", wire.Visible(shorten(line)))
	}
	port, _ := strconv.Atoi(f["port"]) // 0 where the server does not say
	return Node{ID: id, Region: f["region"], Addr: f["addr"], Port: port, Status: f["status"], Fields: f}, nil
}

// lines runs a command whose answer is lines of text.
func (c commands) lines(ctx context.Context, cl *call) ([]string, error) {
	defer cl.release()
	if err := c.x.exec(ctx, cl); err != nil {
		return nil, err
	}
	lines := make([]string, 0, len(cl.frames))
	for i, f := range cl.frames {
		if f.blob {
			return nil, protocolError("%s answered with a blob", shorten(string(cl.out)))
		}
		lines = append(lines, string(cl.text(i)))
	}
	return lines, nil
}

// WhoAmI is the principal in force, "" when there is none.
func (c commands) WhoAmI(ctx context.Context) (string, error) {
	lines, err := c.lines(ctx, newCall("PRINCIPAL WHOAMI"))
	if err != nil {
		return "", err
	}
	if len(lines) == 1 {
		if name, ok := strings.CutPrefix(lines[0], "PRINCIPAL "); ok {
			if name == "(none)" {
				name = ""
			}
			return name, nil
		}
	}
	return "", protocolError("PRINCIPAL WHOAMI answered with %d lines", len(lines))
}

// Perm is a permission.
type Perm string

// The permissions.
const (
	Read  Perm = "READ"  // read, and see in scans
	Write Perm = "WRITE" // write
	Owner Perm = "OWNER" // both, and grant
)

// Grant lets principal act on a table or a key.
func (c commands) Grant(ctx context.Context, object, principal string, p Perm) error {
	return c.acl(ctx, "ACL GRANT", object, principal, p)
}

// Revoke takes back a grant.
func (c commands) Revoke(ctx context.Context, object, principal string, p Perm) error {
	return c.acl(ctx, "ACL REVOKE", object, principal, p)
}

func (c commands) acl(ctx context.Context, verb, object, principal string, p Perm) error {
	cl := newWrite(verb)
	cl.key(object)
	cl.word("principal", principal)
	cl.literal(" PERMS")
	cl.word("permission", string(p))
	_, err := c.lines(ctx, cl)
	return err
}

// Nodes lists the cluster's nodes.
func (c commands) Nodes(ctx context.Context) ([]Node, error) {
	lines, err := c.lines(ctx, newCall("NODE LIST"))
	if err != nil {
		return nil, err
	}
	nodes := make([]Node, 0, len(lines))
	for _, line := range lines {
		if !strings.HasPrefix(line, "NODE ") {
			continue // a heading
		}
		n, err := parseNode(line)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// Node describes one node.
func (c commands) Node(ctx context.Context, id uint64) (Node, error) {
	cl := newCall("NODE INFO")
	cl.unsigned(id)
	lines, err := c.lines(ctx, cl)
	if err != nil {
		return Node{}, err
	}
	return parseNode(strings.Join(lines, " "))
}

// PingNode asks this client's server to ping a node and returns what it says about it, such as rtt_ms.
func (c commands) PingNode(ctx context.Context, id uint64) (map[string]string, error) {
	cl := newCall("NODE PING")
	cl.unsigned(id)
	lines, err := c.lines(ctx, cl)
	if err != nil {
		return nil, err
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "PONG ") {
		return nil, protocolError("NODE PING answered with %d lines", len(lines))
	}
	return parseFields(lines[0]), nil
}

// Quorum is the phase-1 and phase-2 quorum that a table's group has now.
type Quorum struct{ Q1, Q2 []Node }

// Quorum describes the quorums of a table's group.
func (c commands) Quorum(ctx context.Context, table string) (Quorum, error) {
	cl := newCall("QUORUM INFO")
	cl.key(table)
	lines, err := c.lines(ctx, cl)
	if err != nil {
		return Quorum{}, err
	}
	var q Quorum
	into := (*[]Node)(nil)
	sizes := make(map[*[]Node]string)
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "Q1 "):
			into = &q.Q1
		case strings.HasPrefix(line, "Q2 "):
			into = &q.Q2
		case into == nil:
			return Quorum{}, protocolError("QUORUM INFO begins with %q", wire.Visible(shorten(line)))
		default:
			n, err := parseNode(line)
			if err != nil {
				return Quorum{}, err
			}
			*into = append(*into, n)
			continue
		}
		sizes[into] = parseFields(line)["size"]
	}
	for _, side := range []*[]Node{&q.Q1, &q.Q2} {
		if sizes[side] != strconv.Itoa(len(*side)) {
			return Quorum{}, protocolError("QUORUM INFO promises %s nodes and names %d", shorten(sizes[side]), len(*side))
		}
	}
	return q, nil
}

// Tables lists the names of the tables, sorted.
func (c commands) Tables(ctx context.Context) ([]string, error) {
	return c.names(ctx, "TABLE")
}

// Groups lists the names of the groups, sorted.
func (c commands) Groups(ctx context.Context) ([]string, error) {
	return c.names(ctx, "GROUP")
}

func (c commands) names(ctx context.Context, kind string) ([]string, error) {
	lines, err := c.lines(ctx, newCall(kind+" LIST"))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(lines))
	for _, line := range lines {
		if name := ListedName(kind, line); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// ListedName is the name in a line of TABLE LIST or GROUP LIST (kind is TABLE or GROUP): `TABLE <name> ...`,
// `TABLE name=<name> ...` or a bare `<name>`, in its plain form or the quoted one; "" for a heading such as `TABLES:3`.
func ListedName(kind, line string) string {
	if strings.HasPrefix(line, kind+"S:") {
		return ""
	}
	words := strings.Fields(line)
	if len(words) > 1 && words[0] == kind {
		words = words[1:]
	}
	if len(words) == 0 {
		return ""
	}
	name := words[0]
	for _, prefix := range []string{"name=", strings.ToLower(kind) + "="} {
		if after, ok := strings.CutPrefix(name, prefix); ok {
			name = after
			break
		}
	}
	if plain, ok := wire.ParseKey([]byte(name)); ok {
		return plain
	}
	return name // for the server to judge
}

// Info is what the server says about a table or a group: its lines, and the name=value pairs in them.
type Info struct {
	Lines  []string
	Fields map[string]string
}

// Table describes a table.
func (c commands) Table(ctx context.Context, table string) (Info, error) {
	return c.info(ctx, "TABLE INFO", table)
}

// Group describes a group.
func (c commands) Group(ctx context.Context, group string) (Info, error) {
	return c.info(ctx, "GROUP INFO", group)
}

func (c commands) info(ctx context.Context, verb, name string) (Info, error) {
	cl := newCall(verb)
	cl.key(name)
	lines, err := c.lines(ctx, cl)
	if err != nil {
		return Info{}, err
	}
	return Info{Lines: lines, Fields: parseFields(strings.Join(lines, " "))}, nil
}

// Ping asks the server for the shortest answer there is.
func (c commands) Ping(ctx context.Context) error {
	_, err := c.WhoAmI(ctx)
	return err
}

func asError(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

func cutPrefix(line []byte, prefix string) ([]byte, bool) {
	return bytes.CutPrefix(line, []byte(prefix))
}
