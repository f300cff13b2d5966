// SPDX-License-Identifier: AGPL-3.0-only

//go:build !plants

package failpoint

// Built says whether the tag `plants` is set.
const Built = false

// Enabled says whether the site misbehaves now: never, in a build without the tag `plants`.
func Enabled(Site) bool { return false }
