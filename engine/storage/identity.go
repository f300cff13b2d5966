// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Identity says who this node is. It never changes but for Starts.
type Identity struct {
	// ClusterID is random and the same on all nodes of a cluster.
	ClusterID string
	// NodeID is the node's number in its cluster.
	NodeID uint64
	// Created is when the directory was made, by its node's clock.
	Created Timestamp
	// Starts counts the times that the directory was opened for writing. It is raised, and durable, before Open returns.
	Starts uint64
}

// Node records, under kind 01. Each value ends in the CRC-32C of the name and of what stands before it.
const (
	nodeIdentity = "identity" // mark 1, node:8 created:8 starts:8 cluster
	nodeFormat   = "format"   // format:4
	nodeCeiling  = "ceiling"  // time:8
	nodeSweptTo  = "swept-to" // time:8
	nodeProgress = "progress" // of the migration that is under way: format:4, then what its step wrote
	nodeNewest   = "newest/"  // and the number of an event loop: time:8
)

const identityMark = 1

func (id Identity) encode() []byte {
	b := []byte{identityMark}
	b = binary.BigEndian.AppendUint64(b, id.NodeID)
	b = binary.BigEndian.AppendUint64(b, id.Created)
	b = binary.BigEndian.AppendUint64(b, id.Starts)
	return append(b, id.ClusterID...)
}

func decodeIdentity(b []byte) (Identity, error) {
	if len(b) < 1+3*8 || b[0] != identityMark {
		return Identity{}, fmt.Errorf("%w: identity record of %d bytes", ErrCorrupt, len(b))
	}
	id := Identity{
		NodeID:    binary.BigEndian.Uint64(b[1:]),
		Created:   binary.BigEndian.Uint64(b[9:]),
		Starts:    binary.BigEndian.Uint64(b[17:]),
		ClusterID: string(b[25:]),
	}
	if id.NodeID == 0 || CheckClusterID(id.ClusterID) != nil {
		return Identity{}, fmt.Errorf("%w: identity record names node %d and a cluster of %d bytes", ErrCorrupt, id.NodeID, len(id.ClusterID))
	}
	return id, nil
}

// sealNode appends the checksum to a node record.
func sealNode(name string, body []byte) []byte {
	sum := crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, body)
	return binary.BigEndian.AppendUint32(body, sum)
}

// openNode checks the checksum of a node record and takes it off.
func openNode(name string, b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: node record %q of %d bytes", ErrCorrupt, name, len(b))
	}
	body := b[:len(b)-4]
	sum := crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, body)
	if got := binary.BigEndian.Uint32(b[len(b)-4:]); got != sum {
		return nil, fmt.Errorf("%w: node record %q has checksum %08x, holds %08x", ErrCorrupt, name, sum, got)
	}
	return body, nil
}
