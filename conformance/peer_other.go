// SPDX-License-Identifier: AGPL-3.0-only

//go:build !linux

package conformance

import "errors"

// peerOf: only Linux is asked.
func peerOf(int) (int, error) { return 0, errors.New("not known on this system") }
