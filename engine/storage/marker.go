// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// marker is the file ATLAS. It is read before anything is written, so that a directory of a newer format or of another
// cluster is refused untouched. Its format is the highest that any record in the database may have: it is raised, and
// synced, before a migration writes its first record, whereas the format record in the database (identity.go) is raised
// when the migration has ended. It is five lines of text, so that a person can read it:
//
//	Atlas data directory
//	format 2
//	state ready
//	cluster 3f2c...
//	crc 9a0b1c2d        CRC-32C of the lines above
type marker struct {
	format  uint32
	ready   bool // the database exists and has an identity
	cluster string
}

const (
	markerName  = "ATLAS"
	markerTemp  = "ATLAS.new"
	markerTitle = "Atlas data directory"
	markerMax   = 512
)

func (m marker) encode() []byte {
	state := "new"
	if m.ready {
		state = "ready"
	}
	b := fmt.Appendf(nil, "%s\nformat %d\nstate %s\ncluster %s\n", markerTitle, m.format, state, m.cluster)
	return fmt.Appendf(b, "crc %08x\n", crc32.Checksum(b, castagnoli))
}

// decodeMarker accepts exactly what encode writes.
func decodeMarker(b []byte) (marker, error) {
	var m marker
	var state string
	if !bytes.HasPrefix(b, []byte(markerTitle+"\n")) {
		return m, fmt.Errorf("%w: file %s does not begin with %q", ErrCorrupt, markerName, markerTitle)
	}
	body := string(b[len(markerTitle)+1:])
	if _, err := fmt.Sscanf(body, "format %d\nstate %s\ncluster %s\n", &m.format, &state, &m.cluster); err != nil {
		return m, fmt.Errorf("%w: file %s: %w", ErrCorrupt, markerName, err)
	}
	m.ready = state == "ready"
	if !bytes.Equal(m.encode(), b) || m.format == 0 || CheckClusterID(m.cluster) != nil {
		// A newer version may have changed the file's layout below its format line: say so rather than call it damaged.
		if m.format > Format {
			return m, nil
		}
		return m, fmt.Errorf("%w: file %s does not match its checksum", ErrCorrupt, markerName)
	}
	return m, nil
}

// readMarker reads the file; ok is false if there is none.
func readMarker(fs vfs.FS, dir string) (m marker, ok bool, err error) {
	f, err := fs.Open(fs.PathJoin(dir, markerName))
	if errors.Is(err, os.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, dirError(dir, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, markerMax+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return m, false, dirError(dir, err)
	}
	if len(b) > markerMax {
		return m, false, fmt.Errorf("%w: file %s is longer than %d bytes", ErrCorrupt, markerName, markerMax)
	}
	m, err = decodeMarker(b)
	return m, true, err
}

// writeMarker replaces the file in one step and syncs it.
func writeMarker(fs vfs.FS, dir string, m marker) error {
	temp := fs.PathJoin(dir, markerTemp)
	f, err := fs.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return dirError(dir, err)
	}
	_, err = f.Write(m.encode())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return dirError(dir, err)
	}
	if err := fs.Rename(temp, fs.PathJoin(dir, markerName)); err != nil {
		return dirError(dir, err)
	}
	return dirError(dir, syncDir(fs, dir))
}

// newClusterID draws 128 bits.
func newClusterID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process if the system has no randomness
	return hex.EncodeToString(b[:])
}

// CheckClusterID reports an id that no cluster can have: a cluster's is 1 to ClusterIDLenMax ASCII letters, digits and dashes.
// The caller puts before the error what the id was given as.
func CheckClusterID(id string) error {
	switch {
	case id == "":
		return errors.New("is empty")
	case len(id) > ClusterIDLenMax:
		return fmt.Errorf("length %d exceeds limit %d", len(id), ClusterIDLenMax)
	case strings.ContainsFunc(id, notInClusterID):
		return fmt.Errorf("%q holds more than letters, digits and dashes", id)
	}
	return nil
}

func notInClusterID(r rune) bool {
	return !(r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
}
