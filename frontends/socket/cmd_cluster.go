// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"strconv"

	"github.com/atlas-edge/atlas/engine"
)

func (q *request) node() error {
	var lines []byte
	switch q.cmd.verb {
	case verbNodeList:
		nodes, err := q.sess.Nodes(q.ctx)
		if err != nil {
			return err
		}
		for i := range nodes {
			lines = appendNode(lines, q.tag, &nodes[i])
		}
	case verbNodeInfo:
		n, err := q.sess.Node(q.ctx, q.cmd.number)
		if err != nil {
			return err
		}
		lines = appendNode(lines, q.tag, &n)
	case verbNodePing:
		n, err := q.sess.Ping(q.ctx, q.cmd.number)
		if err != nil {
			return err
		}
		lines = append(append(lines, q.tag...), "PONG"...)
		lines = appendUintField(lines, "node", n.ID)
		lines = append(appendIntField(lines, "rtt_ms", n.RTT.Milliseconds()), crlf...)
	}
	return q.send(appendOK(lines, q.tag))
}

func appendNode(b, tag []byte, n *engine.NodeInfo) []byte {
	b = append(append(b, tag...), "NODE"...)
	b = appendUintField(b, "id", n.ID)
	b = appendField(b, "region", n.Region)
	b = appendField(b, "status", n.Status)
	b = appendIntField(b, "rtt_ms", n.RTT.Milliseconds())
	b = appendField(b, "addr", n.Host)
	b = appendIntField(b, "port", int64(n.Port))
	return append(b, crlf...)
}

// tableOf is the table of a word that may be a key or a prefix too, as in QUORUM INFO atlas.nodes.
func tableOf(word []byte) string {
	table, _, _ := bytes.Cut(word, []byte{'.'})
	return string(table)
}

func (q *request) quorum() error {
	info, err := q.sess.Quorum(q.ctx, tableOf(q.cmd.key))
	if err != nil {
		return err
	}
	lines := appendQuorum(nil, q.tag, "Q1 size=", info.Q1)
	lines = appendQuorum(lines, q.tag, "Q2 size=", info.Q2)
	if q.cmd.survives {
		for _, text := range info.Survives {
			lines = append(append(lines, q.tag...), "SURVIVES "...)
			lines = append(appendSafe(lines, text), crlf...)
		}
	}
	return q.send(appendOK(lines, q.tag))
}

func appendQuorum(b, tag []byte, head string, nodes []engine.NodeInfo) []byte {
	b = appendCount(b, tag, head, uint64(len(nodes)))
	for i := range nodes {
		n := &nodes[i]
		b = append(append(b, tag...), "id="...)
		b = strconv.AppendUint(b, n.ID, 10)
		b = appendField(b, "region", n.Region)
		b = appendField(b, "addr", n.Host)
		b = append(appendIntField(b, "port", int64(n.Port)), crlf...)
	}
	return b
}

func (q *request) setConsistency() error {
	if err := q.sess.SetConsistency(q.cmd.consistency); err != nil {
		return err
	}
	q.ok()
	return nil
}

// list sends the names of tables or groups, a page at a time; other answers' lines may come between pages.
func (q *request) list() error {
	page, word := q.sess.Tables, "TABLE "
	if q.cmd.verb == verbGroupList {
		page, word = q.sess.Groups, "GROUP "
	}
	after := ""
	var lines []byte
	for {
		names, err := page(q.ctx, after, listPage)
		if err != nil {
			return err
		}
		for _, name := range names {
			lines = append(append(lines, q.tag...), word...)
			lines = append(appendKey(lines, []byte(name)), crlf...)
			after = name
		}
		if len(names) < listPage {
			return q.send(appendOK(lines, q.tag))
		}
		if err := q.send(lines); err != nil {
			return err
		}
		if err := q.ctx.Err(); err != nil {
			return err
		}
		lines = lines[:0]
	}
}

func (q *request) tableInfo() error {
	info, err := q.sess.TableInfo(q.ctx, string(q.cmd.key))
	if err != nil {
		return err
	}
	b := q.c.out.begin()
	b = appendKey(append(append(b, q.tag...), "TABLE "...), []byte(info.Table))
	b = appendField(b, "group", info.Group)
	b = appendUintField(b, "owner", info.Owner)
	b = appendIntField(b, "rows", info.Rows)
	b = appendField(b, "rows_exact", strconv.FormatBool(!info.RowsAtLeast))
	b = appendIntField(b, "size_bytes", info.SizeBytes)
	b = appendIntField(b, "reads", info.Reads)
	b = appendIntField(b, "writes", info.Writes)
	b = append(b, crlf...)
	q.end(appendOK(b, q.tag))
	return nil
}

func (q *request) groupInfo() error {
	info, err := q.sess.GroupInfo(q.ctx, string(q.cmd.key))
	if err != nil {
		return err
	}
	lines := appendKey(append(append([]byte(nil), q.tag...), "GROUP "...), []byte(info.Group))
	lines = appendUintField(lines, "owner", info.Owner)
	lines = appendField(lines, "ballot", info.Ballot)
	lines = appendUintField(lines, "committed", info.Committed)
	lines = appendUintField(lines, "applied", info.Applied)
	lines = appendUintField(lines, "version", info.Version)
	lines = appendIntField(lines, "tables", int64(len(info.Tables)))
	lines = appendField(lines, "tables_complete", strconv.FormatBool(info.TablesAll))
	lines = append(lines, crlf...)
	for _, table := range info.Tables {
		lines = append(append(lines, q.tag...), "TABLE "...)
		lines = append(appendKey(lines, []byte(table)), crlf...)
	}
	return q.send(appendOK(lines, q.tag))
}
