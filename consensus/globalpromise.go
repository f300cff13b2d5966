// SPDX-License-Identifier: AGPL-3.0-only

package consensus

// The promises to global ballots above Accepted, apart from Promised: what a local ballot has to look at. See acceptor.go.

// addGlobalPromise adds the highest ballot promised so far. If there are too many, the two lowest become one, which then stands
// for both and is not cancelled.
func (r *Record) addGlobalPromise(b Ballot) {
	n := r.globalPromises()
	if n > 0 && r.GlobalPromises[n-1].Ballot == b {
		return
	}
	if n == GlobalPromisesMax {
		copy(r.GlobalPromises[:], r.GlobalPromises[1:])
		r.GlobalPromises[0].Sticky = true
		n--
	}
	r.GlobalPromises[n] = GlobalPromise{Ballot: b}
}

// globalPromises is how many there are.
func (r *Record) globalPromises() int {
	n := 0
	for n < GlobalPromisesMax && !r.GlobalPromises[n].Ballot.IsZero() {
		n++
	}
	return n
}

// globalPromised is the highest of them that is not b; none is zero.
func (r *Record) globalPromised(b Ballot) Ballot {
	for n := r.globalPromises(); n > 0; n-- {
		if g := r.GlobalPromises[n-1].Ballot; g != b {
			return g
		}
	}
	return Ballot{}
}

// cancelGlobalPromise drops b, and says whether it was there and could be.
func (r *Record) cancelGlobalPromise(b Ballot) bool {
	for i := range r.globalPromises() {
		if g := &r.GlobalPromises[i]; g.Ballot == b && !g.Sticky {
			copy(r.GlobalPromises[i:], r.GlobalPromises[i+1:])
			r.GlobalPromises[GlobalPromisesMax-1] = GlobalPromise{}
			return true
		}
	}
	return false
}

// dropGlobalPromises drops those that Accepted has reached.
func (r *Record) dropGlobalPromises() {
	n := 0
	for n < r.globalPromises() && !r.Accepted.Less(r.GlobalPromises[n].Ballot) {
		n++
	}
	if n == 0 {
		return
	}
	rest := copy(r.GlobalPromises[:], r.GlobalPromises[n:])
	clear(r.GlobalPromises[rest:])
}
