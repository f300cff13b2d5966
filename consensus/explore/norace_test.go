// SPDX-License-Identifier: AGPL-3.0-only

//go:build !race

package explore

const raceStates = 1 << 40
