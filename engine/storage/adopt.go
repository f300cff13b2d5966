// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/atlas-edge/atlas/migrations"
)

// adopt makes sure that the database is the one that the marker speaks of, gives a new one its identity, migrates an old
// one, and counts the start.
func (s *Store) adopt(m *marker) error {
	id, found, err := s.loadIdentity()
	if err != nil {
		return err
	}
	if !found {
		if m.ready {
			return fmt.Errorf("%w: the database has no identity record", ErrCorrupt)
		}
		empty, err := s.isEmpty()
		if err != nil {
			return err
		}
		if !empty {
			return fmt.Errorf("%w: its database holds records but no identity", ErrForeignDir)
		}
		id = Identity{ClusterID: m.cluster, NodeID: s.opts.NewNodeID, Created: Timestamp(s.opts.Now().UnixNano())}
	} else if id.ClusterID != m.cluster {
		return fmt.Errorf("%w: file %s names cluster %s, the database cluster %s", ErrCorrupt, markerName, m.cluster, id.ClusterID)
	}
	s.id = id
	if s.opts.ReadOnly {
		return s.loadTimes()
	}
	if err := s.migrate(m, found); err != nil {
		return err
	}
	s.id.Starts++
	b := s.NewBatch()
	defer b.Close()
	b.urgency = urgent
	b.setNode(nodeIdentity, s.id.encode())
	if !found {
		b.setNode(nodeFormat, binary.BigEndian.AppendUint32(nil, Format))
	}
	if err := b.Commit(true); err != nil {
		return err
	}
	if !m.ready {
		m.ready = true
		if err := writeMarker(s.base, s.opts.Dir, *m); err != nil {
			return err
		}
	}
	return s.loadTimes()
}

// isEmpty says whether the database holds nothing.
func (s *Store) isEmpty() (bool, error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return false, err
	}
	empty := !it.First()
	return empty, errors.Join(it.Error(), it.Close())
}

func (s *Store) loadIdentity() (Identity, bool, error) {
	b, found, err := s.node(nodeIdentity)
	if err != nil || !found {
		return Identity{}, false, err
	}
	id, err := decodeIdentity(b)
	return id, true, err
}

func (s *Store) loadTimes() error {
	for name, d := range map[string]*durableTime{nodeCeiling: &s.ceiling, nodeSweptTo: &s.swept} {
		b, found, err := s.node(name)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		if len(b) != 8 {
			return fmt.Errorf("%w: node record %q of %d bytes", ErrCorrupt, name, len(b))
		}
		d.now.Store(binary.BigEndian.Uint64(b))
	}
	return nil
}

func appendTime(dst []byte, t Timestamp) []byte { return binary.BigEndian.AppendUint64(dst, t) }

// node reads a node record, without its checksum. The bytes are the caller's.
func (s *Store) node(name string) ([]byte, bool, error) {
	v, closer, err := s.db.Get(appendNodeKey(nil, name))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, s.readError(err)
	}
	body, err := openNode(name, v)
	body = append([]byte(nil), body...)
	return body, true, errors.Join(err, closer.Close())
}

// migrate brings an older database to the current format.
func (s *Store) migrate(m *marker, found bool) error {
	if !found {
		return nil
	}
	b, has, err := s.node(nodeFormat)
	if err != nil {
		return err
	}
	if !has || len(b) != 4 {
		return fmt.Errorf("%w: the database has no format record", ErrCorrupt)
	}
	from := binary.BigEndian.Uint32(b)
	if from > m.format {
		return fmt.Errorf("%w: file %s says format %d, the database says %d", ErrCorrupt, markerName, m.format, from)
	}
	if from == Format {
		return nil
	}
	t := &migrationTarget{s: s, m: m}
	return migrations.Run(context.Background(), t, from, s.opts.Logger)
}
