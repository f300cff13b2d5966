// SPDX-License-Identifier: AGPL-3.0-only

//go:build race

package sim

// raceSlows is by how much the race detector makes seeds dearer.
const raceSlows = 10
