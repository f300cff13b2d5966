// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/key"
)

// Nodes lists the nodes of the cluster, by id.
func (s *Session) Nodes(ctx context.Context) ([]NodeInfo, error) {
	if err := s.identified(); err != nil {
		return nil, err
	}
	self, err := s.e.self()
	if err != nil {
		return nil, err
	}
	return []NodeInfo{self}, ctx.Err()
}

// Node describes one node.
func (s *Session) Node(_ context.Context, id uint64) (NodeInfo, error) {
	if err := s.identified(); err != nil {
		return NodeInfo{}, err
	}
	if id != s.e.NodeID() {
		return NodeInfo{}, Errorf(ClassNotFound, "node %d", id)
	}
	return s.e.self()
}

// Ping describes a node after a round trip to it, whose time is the RTT.
func (s *Session) Ping(ctx context.Context, id uint64) (NodeInfo, error) { return s.Node(ctx, id) }

func (e *Engine) self() (NodeInfo, error) {
	host, port, err := splitAdvertise(e.opts.Advertise)
	if err != nil {
		return NodeInfo{}, Errorf(ClassInvalid, "%w", err)
	}
	return NodeInfo{
		ID: e.NodeID(), Region: e.opts.Region, Status: "ACTIVE", Host: host, Port: port,
		Started: e.started, Groups: e.replicator.GroupsInMemory(),
	}, nil
}

// Quorum gives the smallest quorums of a table's group, nearest nodes first. The table may be given as a key of it.
func (s *Session) Quorum(ctx context.Context, table string) (QuorumInfo, error) {
	if err := s.identified(); err != nil {
		return QuorumInfo{}, err
	}
	if _, err := key.ParsePrefix([]byte(table)); err != nil {
		return QuorumInfo{}, keyError(err)
	}
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return QuorumInfo{}, err
	}
	byID := make(map[uint64]NodeInfo, len(nodes))
	for _, n := range nodes {
		byID[n.ID] = n
	}
	q := s.e.quorums
	info := QuorumInfo{Survives: survives(q.Survives(q.All()))}
	for _, id := range q.SmallestQ1(nil) {
		info.Q1 = append(info.Q1, byID[uint64(id)])
	}
	for _, id := range q.SmallestQ2(nil, q.All()) {
		info.Q2 = append(info.Q2, byID[uint64(id)])
	}
	return info, nil
}

// survives puts what a shape bears into sentences.
func survives(s quorum.Survival) []string {
	lines := []string{
		fmt.Sprintf("%d regions may be unreachable with reads, writes and moves going on", s.RegionLosses),
		fmt.Sprintf("%d regions may be lost for good without losing an acknowledged write", s.RegionLossesDurable),
	}
	for _, r := range s.Regions {
		lines = append(lines, fmt.Sprintf("%d of %d nodes of region %s may be lost", r.Losses, r.Voters, r.Region))
	}
	for _, d := range s.Degraded {
		lines = append(lines, "degraded: "+d.String())
	}
	return lines
}

// Groups lists the groups that were ever written and that the caller may know of, by name, after the one named, at most limit.
func (s *Session) Groups(ctx context.Context, after string, limit int) ([]string, error) {
	if err := s.identified(); err != nil {
		return nil, err
	}
	if err := checkListed(limit); err != nil {
		return nil, err
	}
	var names []string
	err := s.e.eachGroup(ctx, after, func(group string) (bool, error) {
		known, err := s.knows(ctx, group)
		if known {
			names = append(names, group)
		}
		return len(names) < limit, err
	})
	return names, err
}

// knows says whether the caller may know that a group exists: it is public, has a table that the caller may read, or the
// caller is an admin. A group is often named as its table.
func (s *Session) knows(ctx context.Context, group string) (bool, error) {
	a, err := s.e.access(s.principal, group)
	if err != nil {
		return false, err
	}
	if a.open() {
		return true, nil
	}
	if admin, err := s.e.isAdmin(s.principal); admin || err != nil {
		return admin, err
	}
	tables, err := s.tablesOf(ctx, group, "", 1)
	return len(tables) > 0, err
}

// Tables lists the tables that the caller may read, and a row of them, after the one named, at most limit: by group, and within one in the
// order of their keys, in which shop/a-b is before shop/a.
func (s *Session) Tables(ctx context.Context, after string, limit int) ([]string, error) {
	if err := s.identified(); err != nil {
		return nil, err
	}
	if err := checkListed(limit); err != nil {
		return nil, err
	}
	var names []string
	add := func(group, tableAfter string) error {
		tables, err := s.tablesOf(ctx, group, tableAfter, limit-len(names))
		names = append(names, tables...)
		return err
	}
	if after != "" {
		k, err := key.ParseTable([]byte(after))
		if err != nil {
			return nil, keyError(err)
		}
		if err := add(k.Group(), after); err != nil {
			return nil, err
		}
		after = k.Group()
	}
	if len(names) == limit {
		return names, nil
	}
	err := s.e.eachGroup(ctx, after, func(group string) (bool, error) {
		err := add(group, "")
		return len(names) < limit, err
	})
	return names, err
}

func checkListed(limit int) error {
	if limit < 1 || limit > TablesListedMax {
		return Errorf(ClassInvalid, "limit %d is outside of 1 to %d", limit, TablesListedMax)
	}
	return nil
}

// tablesOf lists a group's tables that the caller may read, and a row of them.
func (s *Session) tablesOf(ctx context.Context, group, after string, limit int) ([]string, error) {
	a, err := s.e.access(s.principal, group)
	if err != nil {
		return nil, err
	}
	var names []string
	for len(names) < limit {
		found, err := s.e.store.Tables(group, a.view.At, a.view.Now, after, limit-len(names))
		if err != nil {
			return nil, s.e.readError(err)
		}
		if len(found) == 0 {
			break
		}
		for _, table := range found {
			if err := ctx.Err(); err != nil {
				return nil, s.e.readError(err)
			}
			err := a.tableObject(authz.VerbRead, []byte(table[len(group):]))
			shown := err == nil
			if shown && a.view.KeyLists { // all of its rows may be hidden, and then so is the table
				var rows int64
				rows, err = s.rows(ctx, table, 1)
				shown = rows > 0
			}
			switch {
			case err != nil && !errors.Is(err, ErrDenied):
				return nil, s.e.readError(err)
			case shown:
				names = append(names, table)
			}
		}
		after = found[len(found)-1]
	}
	return names, nil
}

// eachGroup calls fn for the groups after the one named, by name, until it returns false.
func (e *Engine) eachGroup(ctx context.Context, after string, fn func(group string) (bool, error)) (err error) {
	groups, err := e.store.Groups(after)
	if err != nil {
		return e.readError(err)
	}
	defer func() { err = errors.Join(err, groups.Close()) }()
	for n := 1; groups.Next(); n++ {
		if n%scanCheckEvery == 0 && ctx.Err() != nil {
			return e.readError(ctx.Err())
		}
		more, err := fn(groups.Group())
		if err != nil || !more {
			return err
		}
	}
	if err := groups.Err(); err != nil {
		return e.readError(err)
	}
	return nil
}

// TableInfo describes a table that the caller may read.
func (s *Session) TableInfo(ctx context.Context, table string) (TableInfo, error) {
	if err := s.identified(); err != nil {
		return TableInfo{}, err
	}
	k, err := key.ParseTable([]byte(table))
	if err != nil {
		return TableInfo{}, keyError(err)
	}
	a, err := s.e.access(s.principal, k.Group())
	if err != nil {
		return TableInfo{}, err
	}
	missing := Errorf(ClassNotFound, "table %s", key.Text([]byte(table)))
	if err := a.tableObject(authz.VerbRead, k.TableRest()); err != nil {
		if errors.Is(err, ErrDenied) {
			return TableInfo{}, missing
		}
		return TableInfo{}, s.e.readError(err)
	}
	info := TableInfo{Table: table, Group: k.Group(), Owner: s.e.NodeID()}
	if info.Rows, err = s.rows(ctx, table, RowsCountedMax); err != nil {
		return TableInfo{}, err
	}
	if info.Rows == 0 {
		return TableInfo{}, missing // also one whose rows are all hidden, which must not look different
	}
	info.RowsAtLeast = info.Rows == RowsCountedMax
	if info.SizeBytes, err = s.e.store.DiskUsage(k.Group()); err != nil {
		return TableInfo{}, s.e.readError(err)
	}
	commands, reads := s.e.replicator.Counters(k.Group())
	info.Writes, info.Reads = int64(commands), int64(reads)
	return info, nil
}

// rows counts a table's rows that the caller may read, at most limit.
func (s *Session) rows(ctx context.Context, table string, limit int) (n int64, err error) {
	outside := s.Fork() // not the view of an open transaction
	scan, err := outside.Scan(ctx, ScanRequest{Prefix: []byte(table), Limit: limit})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, scan.Close()) }()
	for scan.Next() {
		n++
	}
	return n, scan.Err()
}

// GroupInfo describes a group.
func (s *Session) GroupInfo(ctx context.Context, group string) (GroupInfo, error) {
	if err := s.identified(); err != nil {
		return GroupInfo{}, err
	}
	k, err := key.ParseTable([]byte(group))
	if err != nil {
		return GroupInfo{}, keyError(err)
	}
	if k.Group() != group {
		return GroupInfo{}, Errorf(ClassInvalid, "%s is a table of group %s, not a group", key.Text([]byte(group)), key.Text(k.GroupBytes()))
	}
	record, ok, err := s.e.replicator.Record(group)
	if err != nil {
		return GroupInfo{}, s.e.readError(err)
	}
	if ok {
		ok, err = s.knows(ctx, group)
	}
	if err != nil {
		return GroupInfo{}, s.e.readError(err)
	}
	if !ok {
		return GroupInfo{}, Errorf(ClassNotFound, "group %s", key.Text([]byte(group)))
	}
	tables, err := s.tablesOf(ctx, group, "", TablesListedMax)
	if err != nil {
		return GroupInfo{}, err
	}
	return GroupInfo{
		Group: group, Owner: uint64(record.Accepted.Node), Ballot: record.Accepted.String(),
		Committed: uint64(record.Commit), Applied: uint64(record.Applied),
		Version: record.LastTime, Tables: tables, TablesAll: len(tables) < TablesListedMax,
	}, nil
}
