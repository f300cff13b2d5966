// SPDX-License-Identifier: AGPL-3.0-only

// Package invariants is how Atlas stops on a broken promise of its own code.
//
// Check and Failf stay on in every build: a node that knows its state to be wrong must not vote, answer or write on.
// They are for our own mistakes only. Nothing that a client, a peer or a file holds may reach them: such input is an
// error with a class, never a panic. Checks that cost more than the work they guard stand behind Enabled, which is a
// constant, so that they vanish from ordinary builds.
//
// The package keeps no state and starts no goroutine.
package invariants

import "fmt"

// Violation is the value of the panic, so that a harness can tell a broken invariant from another panic.
type Violation string

// Error makes the panic print as `invariant broken: ...`.
func (v Violation) Error() string { return "invariant broken: " + string(v) }

// Check panics with a Violation unless ok holds. Its arguments are boxed before ok is looked at: where that allocation
// would show in a profile, write `if !ok { invariants.Failf(...) }` instead.
func Check(ok bool, format string, args ...any) {
	if !ok {
		Failf(format, args...)
	}
}

// Failf panics with a Violation: the caller has found the invariant broken.
func Failf(format string, args ...any) {
	panic(Violation(fmt.Sprintf(format, args...)))
}
