// SPDX-License-Identifier: AGPL-3.0-only

package main

import "slices"

// spread is a figure over the rounds.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf needs at least one value.
func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

func spreadBy(samples []sample, figure func(*sample) float64) spread {
	values := make([]float64, len(samples))
	for i := range samples {
		values[i] = figure(&samples[i])
	}
	return spreadOf(values)
}

// ratioOf compares rates round by round, so that noise which lasts longer than two neighbouring slots falls out.
// Requires: as many samples of each, at least one.
func ratioOf(a, b []sample) spread {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i].rate() / b[i].rate()
	}
	return spreadOf(ratios)
}

// cpuPerUnit is the server's CPU time over all rounds by all units, in microseconds: the kernel counts it in ticks of 10
// ms, which one slot alone shows.
func cpuPerUnit(samples []sample) float64 {
	cpu, units := 0.0, 0.0
	for i := range samples {
		cpu += samples[i].ServerCPU
		units += samples[i].Units
	}
	return cpu * 1e6 / units
}
