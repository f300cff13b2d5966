// SPDX-License-Identifier: AGPL-3.0-only

package migrations

import "context"

// Format 2 to 3. Acceptor records got a second layout, which is protobuf in an envelope. The first is still read, and a record gets
// the second when it is next written, so that there is nothing to rewrite: the step is there for the marker, by which a version
// that knows the first layout alone refuses the directory instead of calling such a record corrupt.
func nothing(_ context.Context, _ Store, _ []byte, progress func(int64)) error {
	progress(0)
	return nil
}
