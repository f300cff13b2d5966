// SPDX-License-Identifier: AGPL-3.0-only

package wan

// page is docs/performance-wan.md, with room for the distances, the table, the ratios, the load that moves and the losses.
const page = `# Latency over wide areas

What each region sees when regions lie far apart: the real consensus core and the real ownership policy in virtual time (package
[consensus/wan](../consensus/wan/wan.go)). Generated; do not edit:

    ATLAS_LONG=1 go test ./consensus/wan -run TestTable -rewrite -timeout 2h

Everything here is **simulated**: it depends on no machine, and the same commit gives the same figures. A message takes half a round trip, a
sync 1 ms; nodes, links and disks are never busy, so the figures are of distance and of the protocol's steps, not of load.

## The world

Five regions of three nodes, Fn=1, 1,000 objects (groups), 60 writes a second from each region at random times. As in the WPaxos paper, a region's
requests are normally distributed around a mean of its own; the means lie evenly on the circle of all objects, and the width is such that the share of
requests that fall nearer to the own mean than to any other is the locality. Random: every region asks for every object alike.

Round trips are typical public ones between these five AWS regions, rounded. They are **not** the paper's measurements:

%s
Owners:

- *adaptive*: anywhere at first, then moved by the ownership policy with its defaults, for 240 s before the measuring begins, and while it goes on.
- *scattered*: anywhere, and never moved.
- *placed*: in the region that asks most, from the beginning: a partition by hand that never changes.
- *leader*: the plain baseline. The same core, one node that owns everything, all 15 nodes in one quorum system with majorities (Q1 = Q2 = 8 of 15).
  It bears the loss of any two regions: what is like it is Fz=2. Rows with Fz=0 or 1 are quicker than those because they bear less.

The home of an owner is its region and the Fz nearest. Requests are writes, from a client in the region to the owner and back; a read under a lease
would be the same way without the commit.

## Latency by region

In each cell: **mean** (median, 95th percentile, 99th percentile), in milliseconds.

%s
"Moves" counts releases of an object to another node, those before the measuring included, and the pause is the mean time from the release's arrival
there until that node proposes.

## Against the baseline

| locality | Fz | adaptive, mean | scattered, mean | best leader, mean | scattered / adaptive | leader / adaptive |
| --- | --- | --- | --- | --- | --- | --- |
%s
## When the load moves

Locality 0.90, Fz=0, adaptive. Owners stand where the load is; then, at 0 s, every region asks for what its neighbour on the circle asked for.

| sent | mean | answered in the region |
| --- | --- | --- |
%s
## When nodes die

Median latency that Oregon sees of its own objects, of runs with and without the loss.

| loss | before | after |
| --- | --- | --- |
%s
## What the paper says

These figures are the WPaxos paper's (five AWS regions, three nodes each, 1,000 objects), not ours:

- average latency 15 times below that of EPaxos at about 70 %% locality, 39 times at about 90 %%;
- the crash of a node with fn=1 has no effect;
- with fz=1, latency goes from 11 to 60 ms when the nearest region dies;
- from 1,000 to 1,000,000 objects, flat.

They do not compare number by number: the paper measures on machines, against EPaxos, which is not built here; ours is a model of distance, against a
leader with majorities; and an object of ours moves once it has been cheaper elsewhere for half a minute. What should agree, and does, is the
shape: with locality, most requests cost a round trip inside of a region, a lost node costs nothing, and a lost near region costs the way to the next.
`
