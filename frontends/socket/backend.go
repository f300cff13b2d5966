// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"io"
	"time"

	"github.com/atlas-edge/atlas/engine"
)

// backend is what the server calls of an engine.
type backend interface {
	NewSession(o engine.SessionOptions) session
}

// session is what commands call of an engine's session. The byte slices passed in are valid during the call only; an
// upload is given away.
type session interface {
	Fork() session
	Close() error
	Principal() string
	Assume(ctx context.Context, name string) error
	Authenticate(ctx context.Context, name, secret string) error
	SetSecret(ctx context.Context, name, secret string) error
	SetConsistency(c engine.Consistency) error

	Get(ctx context.Context, key []byte) (item, error)
	Put(ctx context.Context, r engine.PutRequest) (uint64, error)
	PutLater(ctx context.Context, r engine.PutRequest) (write, error)
	Delete(ctx context.Context, r engine.DeleteRequest) (uint64, error)
	Scan(ctx context.Context, r engine.ScanRequest) (scan, error)
	Count(ctx context.Context, prefix []byte) (int64, error)
	Sample(ctx context.Context, prefix []byte, n int) ([][]byte, error)
	Watch(ctx context.Context, r engine.WatchRequest) (watch, error)
	Grant(ctx context.Context, object []byte, principal string, p engine.Perm) error
	Revoke(ctx context.Context, object []byte, principal string, p engine.Perm) error
	Grants(ctx context.Context, prefix []byte, fn func(engine.GrantList) error) error

	Begin(ctx context.Context) error
	Commit(ctx context.Context) (uint64, error)
	Rollback() error
	InTxn() bool

	Tables(ctx context.Context, after string, limit int) ([]string, error)
	TableInfo(ctx context.Context, table string) (engine.TableInfo, error)
	Groups(ctx context.Context, after string, limit int) ([]string, error)
	GroupInfo(ctx context.Context, group string) (engine.GroupInfo, error)
	Nodes(ctx context.Context) ([]engine.NodeInfo, error)
	Node(ctx context.Context, id uint64) (engine.NodeInfo, error)
	Ping(ctx context.Context, id uint64) (engine.NodeInfo, error)
	Quorum(ctx context.Context, table string) (engine.QuorumInfo, error)
}

// item is one value. WriteTo may be called more than once.
type item struct {
	version   uint64
	size      int64
	expires   time.Time // zero: never
	wormUntil time.Time // zero: not write-once
	value     interface {
		Bytes() ([]byte, error)
		WriteTo(w io.Writer) (int64, error)
		Close() error
	}
}

// scan walks keys. Rewind begins again on the same snapshot.
type scan interface {
	Next() bool
	Key() []byte
	Item() item
	Rewind() error
	Err() error
	Close() error
}

// write is a write whose outcome was not asked for yet. Writes to one group take effect in the order in which they were made.
type write interface {
	Wait(ctx context.Context) (version uint64, err error)
}

// watch gives events; Next blocks until there is one.
type watch interface {
	Next(ctx context.Context) (engine.Event, error)
	Close() error
}

// engineBackend is the backend on a real engine.
type engineBackend struct{ e *engine.Engine }

func (b engineBackend) NewSession(o engine.SessionOptions) session {
	return engineSession{b.e.NewSession(o)}
}

// engineSession fits the engine's concrete types to the interfaces of this package.
type engineSession struct{ *engine.Session }

var _ session = engineSession{}

func (s engineSession) Fork() session { return engineSession{s.Session.Fork()} }

func (s engineSession) Get(ctx context.Context, key []byte) (item, error) {
	it, err := s.Session.Get(ctx, key)
	if err != nil {
		return item{}, err
	}
	return itemOf(it), nil
}

func itemOf(it *engine.Item) item {
	return item{version: it.Version, size: it.Size, expires: it.Expires, wormUntil: it.WormUntil, value: it}
}

func (s engineSession) PutLater(ctx context.Context, r engine.PutRequest) (write, error) {
	w, err := s.Session.PutLater(ctx, r)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (s engineSession) Scan(ctx context.Context, r engine.ScanRequest) (scan, error) {
	sc, err := s.Session.Scan(ctx, r)
	if err != nil {
		return nil, err
	}
	return engineScan{sc}, nil
}

func (s engineSession) Watch(ctx context.Context, r engine.WatchRequest) (watch, error) {
	w, err := s.Session.Watch(ctx, r)
	if err != nil {
		return nil, err
	}
	return w, nil
}

type engineScan struct{ *engine.Scan }

func (s engineScan) Item() item {
	return itemOf(s.Scan.Item())
}
