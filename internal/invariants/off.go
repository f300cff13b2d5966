// SPDX-License-Identifier: AGPL-3.0-only

//go:build !race && !invariants

package invariants

// Enabled says that dear checks run: the build has the race detector or the tag `invariants`.
const Enabled = false
