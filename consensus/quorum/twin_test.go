// SPDX-License-Identifier: AGPL-3.0-only

package quorum_test

// The slow twin: the definitions of the package comment once more, written from the text by another way and sharing no code
// with the package. It knows a set by how many voters it holds in each region, since the definitions see no more of it.

type twin struct {
	n      []int // voters of each region
	fn, fz int
}

func (w twin) losses(z int) int {
	// The most f with f <= Fn that leaves the other n-f a majority, found by trying.
	best := 0
	for f := 0; f <= w.fn; f++ {
		if 2*(w.n[z]-f) > w.n[z] {
			best = f
		}
	}
	return best
}

func (w twin) regionLosses() int {
	best := 0
	for f := 0; f <= w.fz && f < len(w.n); f++ {
		best = f
	}
	return best
}

func (w twin) isQ1(count []int) bool {
	missing := 0 // regions that lack their part: at most fz may
	for z := range w.n {
		if count[z] <= w.losses(z) {
			missing++
		}
	}
	return missing <= w.regionLosses()
}

func (w twin) full(count []int, home []bool) (full, lacking int) {
	for z := range w.n {
		switch absent := w.n[z] - count[z]; {
		case !home[z]:
		case absent <= w.losses(z):
			full++
		default:
			lacking++
		}
	}
	return full, lacking
}

func (w twin) isQ2(count []int, home []bool) bool {
	full, _ := w.full(count, home)
	return full > w.regionLosses()
}

func (w twin) isQL(count []int, home []bool) bool {
	full, lacking := w.full(count, home)
	return full > w.regionLosses() && lacking <= w.regionLosses()
}

// vectors calls f with every way to hold some voters of each region. It reuses the slice.
func (w twin) vectors(f func(count []int)) {
	count := make([]int, len(w.n))
	for {
		f(count)
		z := 0
		for ; z < len(count); z++ {
			if count[z] < w.n[z] {
				count[z]++
				break
			}
			count[z] = 0
		}
		if z == len(count) {
			return
		}
	}
}

// vectorsIn calls f with every way to hold some voters of each region of the home, with other ones outside each time.
func (w twin) vectorsIn(home []bool, f func(count []int)) {
	inside := twin{n: make([]int, len(w.n))}
	for z := range w.n {
		if home[z] {
			inside.n[z] = w.n[z]
		}
	}
	turn := 0
	both := make([]int, len(w.n))
	inside.vectors(func(count []int) {
		for z := range w.n {
			if both[z] = count[z]; !home[z] {
				both[z] = turn % (w.n[z] + 1)
				turn++
			}
		}
		f(both)
	})
}

// minimal lists the vectors that hold and hold no longer with one voter less, in any region.
func (w twin) minimal(holds func(count []int) bool) [][]int {
	var found [][]int
	w.vectors(func(count []int) {
		if !holds(count) {
			return
		}
		for z := range count {
			if count[z] == 0 {
				continue
			}
			count[z]--
			less := holds(count)
			count[z]++
			if less {
				return
			}
		}
		found = append(found, append([]int(nil), count...))
	})
	return found
}

// canBeDisjoint reports whether sets with these counts can be chosen without a common voter.
func (w twin) canBeDisjoint(a, b []int) bool {
	for z := range w.n {
		if a[z]+b[z] > w.n[z] {
			return false
		}
	}
	return true
}

// homes lists the sets of regions in which a Q2 exists: at least fz+1 regions.
func (w twin) homes() [][]bool {
	var found [][]bool
	for mask := 0; mask < 1<<len(w.n); mask++ {
		home, size := make([]bool, len(w.n)), 0
		for z := range w.n {
			if mask>>z&1 == 1 {
				home[z] = true
				size++
			}
		}
		if size > w.regionLosses() {
			found = append(found, home)
		}
	}
	return found
}

// grids calls f with every list of up to regionsMax regions of 1 to nodesMax voters, up to the order of the regions.
func grids(regionsMax, nodesMax int, f func(n []int)) {
	var extend func(n []int)
	extend = func(n []int) {
		if len(n) > 0 {
			f(n)
		}
		if len(n) == regionsMax {
			return
		}
		from := 1
		if len(n) > 0 {
			from = n[len(n)-1]
		}
		for size := from; size <= nodesMax; size++ {
			extend(append(n[:len(n):len(n)], size))
		}
	}
	extend(nil)
}
