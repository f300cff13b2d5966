// SPDX-License-Identifier: AGPL-3.0-only

//go:build !race

package sim

// raceSlows is 1: nothing slows the seeds.
const raceSlows = 1
