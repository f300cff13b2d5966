// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/atlas-edge/atlas/migrations"
)

// migrationTarget is the database as migrations see it: raw records, without the encoding of cockroachkvs.
type migrationTarget struct {
	s      *Store
	m      *marker
	format uint32 // of the step under way
}

var _ migrations.Store = (*migrationTarget)(nil)

// plainKey takes the encoding off a stored key: the sentinel and, for versioned data, the version.
func plainKey(k []byte) (key []byte, version uint64) {
	if n := len(k); n > versionLen && k[0] == kindData && k[n-1] == versionLen {
		return k[:n-versionLen-sentinelLen], binary.BigEndian.Uint64(k[n-versionLen:])
	}
	return k[:len(k)-sentinelLen], 0
}

func storedKey(dst, key []byte, version uint64) []byte {
	dst = append(append(dst, key...), 0)
	if version != 0 {
		dst = appendVersion(dst, version)
	}
	return dst
}

func (t *migrationTarget) Each(lower, upper []byte, fn func(migrations.Record) (bool, error)) (err error) {
	it, err := t.s.db.NewIter(&pebble.IterOptions{LowerBound: storedKey(nil, lower, 0), UpperBound: storedKey(nil, upper, 0)})
	if err != nil {
		return t.s.readError(err)
	}
	defer func() { err = errors.Join(err, t.s.readError(it.Close())) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return t.s.readError(err)
		}
		key, version := plainKey(it.Key())
		more, err := fn(migrations.Record{Key: key, Version: version, Value: v})
		if err != nil || !more {
			return err
		}
	}
	return t.s.readError(it.Error())
}

func (t *migrationTarget) Write(records []migrations.Write, position []byte) error {
	b := t.s.NewBatch()
	defer b.Close()
	for _, r := range records {
		k := storedKey(nil, r.Key, r.Version)
		if r.Delete {
			b.note(b.b.Delete(k, nil))
		} else {
			b.note(b.b.Set(k, r.Value, nil))
		}
	}
	b.setNode(nodeProgress, append(binary.BigEndian.AppendUint32(nil, t.format), position...))
	return b.Commit(false)
}

func (t *migrationTarget) Position(format uint32) ([]byte, error) {
	b, found, err := t.s.node(nodeProgress)
	if err != nil || !found || len(b) < 4 || binary.BigEndian.Uint32(b) != format {
		return nil, err
	}
	return b[4:], nil
}

func (t *migrationTarget) Begin(format uint32) error {
	t.format = format
	if t.m.format >= format {
		return nil
	}
	t.m.format = format
	return writeMarker(t.s.base, t.s.opts.Dir, *t.m)
}

func (t *migrationTarget) Finish(format uint32) error {
	b := t.s.NewBatch()
	defer b.Close()
	b.setNode(nodeFormat, binary.BigEndian.AppendUint32(nil, format))
	b.note(b.b.Delete(appendNodeKey(nil, nodeProgress), nil))
	return b.Commit(true)
}
