// SPDX-License-Identifier: AGPL-3.0-only

// Package failpoint marks the places in the code where a build with the tag `plants` can go wrong on purpose.
//
// A site is a name in sites.go and a call `failpoint.Enabled(failpoint.SomeSite)` in the code it stands in. Without the
// tag Enabled is the constant false: the branch is not even compiled in. With the tag a test arms sites, each with a
// probability and a seed, and asks afterwards how often each was reached and how often it fired, so that a test of a
// fault can prove that the fault happened.
//
// A test of this package reads the whole tree: each site is registered once, described, and used; each use is registered. Package
// internal/story wants a story for each site of the consensus cores and of their simulator.
package failpoint

// Site names one place.
type Site string
