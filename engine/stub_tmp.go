// SPDX-License-Identifier: AGPL-3.0-only

// Package engine is the database that frontends use.
package engine

import (
	"context"
)

// PLACEHOLDER FILE: bodies are being written; signatures are fixed.

type Engine struct{}

func Open(ctx context.Context, o Options) (*Engine, error) { return nil, ErrUnavailable }
func (e *Engine) Close() error                             { return nil }

// Ready is nil while the node serves; otherwise it says why it does not.
func (e *Engine) Ready() error { return ErrUnavailable }

// Done is closed when the node has stopped for good because of its own disk; Ready says why.
func (e *Engine) Done() <-chan struct{}                { return nil }
func (e *Engine) NewSession(o SessionOptions) *Session { return nil }
func (e *Engine) ClusterID() string                    { return "" }
func (e *Engine) NodeID() uint64                       { return 0 }

// Session is the state of one client: principal, consistency, open transaction. One goroutine at a time may call it;
// a frontend that runs commands side by side gives each its own Fork.
type Session struct{}

func (s *Session) Fork() *Session    { return nil }
func (s *Session) Close() error      { return nil } // rolls an open transaction back
func (s *Session) Principal() string { return "" }  // "" is none
func (s *Session) Assume(ctx context.Context, name string) error { return ErrUnavailable }

func (s *Session) Authenticate(ctx context.Context, name, secret string) error { return ErrUnavailable }

func (s *Session) SetSecret(ctx context.Context, name, secret string) error { return ErrUnavailable }

func (s *Session) Consistency() Consistency { return Consistency{} }

func (s *Session) SetConsistency(c Consistency) error { return ErrUnavailable }

// Get gives the newest value of a key, or ErrNotFound.
func (s *Session) Get(ctx context.Context, key []byte) (*Item, error) { return nil, ErrUnavailable }

// Put stores a value and returns its version (0 inside a transaction: Commit tells it).
func (s *Session) Put(ctx context.Context, r PutRequest) (uint64, error) { return 0, ErrUnavailable }

func (s *Session) Delete(ctx context.Context, r DeleteRequest) (uint64, error) {
	return 0, ErrUnavailable
}

func (s *Session) Scan(ctx context.Context, r ScanRequest) (*Scan, error) { return nil, ErrUnavailable }

func (s *Session) Count(ctx context.Context, prefix []byte) (int64, error) { return 0, ErrUnavailable }

// Sample gives at most n keys, picked at random, sorted.
func (s *Session) Sample(ctx context.Context, prefix []byte, n int) ([][]byte, error) {
	return nil, ErrUnavailable
}

func (s *Session) Watch(ctx context.Context, r WatchRequest) (*Watch, error) {
	return nil, ErrUnavailable
}

// Grant and Revoke take a table's name or a whole key.
func (s *Session) Grant(ctx context.Context, object []byte, principal string, p Perm) error {
	return ErrUnavailable
}

func (s *Session) Revoke(ctx context.Context, object []byte, principal string, p Perm) error {
	return ErrUnavailable
}
func (s *Session) Begin(ctx context.Context) error            { return ErrUnavailable }
func (s *Session) Commit(ctx context.Context) (uint64, error) { return 0, ErrUnavailable }
func (s *Session) Rollback() error                            { return ErrUnavailable }
func (s *Session) InTxn() bool                                { return false }
func (s *Session) Tables(ctx context.Context, after string, limit int) ([]string, error) {
	return nil, ErrUnavailable
}

func (s *Session) TableInfo(ctx context.Context, table string) (TableInfo, error) {
	return TableInfo{}, ErrUnavailable
}

func (s *Session) Groups(ctx context.Context, after string, limit int) ([]string, error) {
	return nil, ErrUnavailable
}

func (s *Session) GroupInfo(ctx context.Context, group string) (GroupInfo, error) {
	return GroupInfo{}, ErrUnavailable
}
func (s *Session) Nodes(ctx context.Context) ([]NodeInfo, error) { return nil, ErrUnavailable }
func (s *Session) Node(ctx context.Context, id uint64) (NodeInfo, error) {
	return NodeInfo{}, ErrUnavailable
}

func (s *Session) Ping(ctx context.Context, id uint64) (NodeInfo, error) {
	return NodeInfo{}, ErrUnavailable
}

func (s *Session) Quorum(ctx context.Context, table string) (QuorumInfo, error) {
	return QuorumInfo{}, ErrUnavailable
}

// Scan walks the keys of a ScanRequest. Key and Item are valid until the next call of Next.
type Scan struct{}

func (s *Scan) Next() bool   { return false }
func (s *Scan) Key() []byte  { return nil }
func (s *Scan) Item() *Item  { return nil }
func (s *Scan) Err() error   { return nil }
func (s *Scan) Close() error { return nil }

// Watch gives events in the order of the group's log. Next blocks; ErrUnavailable tells that the watcher fell behind
// what is kept, with the version to begin from again in the text.
type Watch struct{}

func (w *Watch) Next(ctx context.Context) (Event, error) { return Event{}, ErrUnavailable }
func (w *Watch) Close() error                            { return nil }
