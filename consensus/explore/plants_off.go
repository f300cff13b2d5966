// SPDX-License-Identifier: AGPL-3.0-only

package explore

func plantNoQuarantine() bool   { return false }
func plantRetireUnsealed() bool { return false }
