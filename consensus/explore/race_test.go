// SPDX-License-Identifier: AGPL-3.0-only

//go:build race

package explore

// raceStates cuts explorations under the race detector, which slows them tenfold and has nothing to find in one goroutine.
const raceStates = 5_000
