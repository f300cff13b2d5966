// SPDX-License-Identifier: AGPL-3.0-only

// Package command is the replicated state machine of a group.
//
// A Command is conditions, mutations and the principal that wishes them. The engine builds it, Validate checks its form,
// AppendTo encodes it, consensus gives it a place in the group's log and a commit time, and Apply decides it on every
// node: against equal state each comes to the equal Result and writes the equal effects, or none. Whatever was checked
// before proposing is checked again here, where the state can no longer change underneath.
//
// Apply decides in this order, and the first refusal is the result:
//
//  1. grants: writing needs WRITE, testing a condition needs READ, changing grants follows authz.ChangeGrants; the
//     system table is written by System commands only                                         -> denied (or conflict)
//  2. times: an expiry and a write-once end lie after the commit time, the expiry not first   -> invalid
//  3. write-once: a newest version with WormUntil after the commit time stays as it is        -> denied
//  4. conditions                                                                              -> conflict
//  5. the read set: nothing that was read at its snapshot has changed or expired since, nor have the group's grants,
//     on which it depends what a principal sees                                               -> conflict
//
// A refused command writes nothing. Expiry is judged by the commit time: a value is live at t if its Expires is 0 or
// after t, whether or not it was swept already. That is also why a change of kind ChangeExpire never breaks a read set:
// it shows nothing that the expiry had not shown before.
//
// What the package reads of a group is its View, what it writes goes to its Writer; Overlay stands between the two and a
// storage batch. The package reads no clock, file or randomness (a hash seed that no result depends on excepted), starts
// no goroutine and holds no state.
//
// # Encoding, version 1
//
// Numbers are uvarints in their shortest form; `bytes` is a number and that many bytes. One command has one encoding.
//
//	byte     version = 1
//	byte     flags: 1 Admin, 2 System, 4 a read set follows at the end
//	bytes    principal
//	number   conditions; each: byte kind (1 Absent, 2 VersionIs), bytes rest, VersionIs: number version
//	number   mutations; each: byte kind, then
//	           1 Put      byte fields (1 TTL, 2 Expires, 4 WormTTL, 8 WormUntil), bytes rest, a number for each field, bytes value
//	           2 Delete   bytes rest
//	           3 Expire   bytes rest, number version
//	           4 Grant    byte object (1 table, 2 key), byte perms (1 READ, 2 WRITE, 4 OWNER), bytes rest, bytes principal
//	           5 Revoke   as Grant
//	           6 ResetGrants  byte object, bytes rest
//	if any:  number snapshot, number valid until,
//	         number keys; each: bytes rest,
//	         number ranges; each: bytes lower, bytes upper
package command

import (
	"time"

	"github.com/atlas-edge/atlas/engine/authz"
)

// Timestamp is nanoseconds since the Unix epoch from the hybrid logical clock; 0 = none. A value's version is the commit
// time of the command that wrote it.
type Timestamp = uint64

// Command is one atomic step of a group.
type Command struct {
	Principal  string // "" = none
	Admin      bool   // the principal held the admin grant when the command was built: group atlas has a log of its own, not ordered with this one
	System     bool   // built by the engine for itself: passes every grant, may write the system table. Never from a client's wish
	Conditions []Condition
	Mutations  []Mutation
	Reads      *ReadSet // nil = none
}

// MutationKind says what a mutation does.
type MutationKind uint8

// The kinds of mutations, with the fields they use besides Rest.
const (
	Put         MutationKind = iota + 1 // Value; TTL or Expires; WormTTL or WormUntil
	Delete                              // what is absent is left alone: no tombstone, no change
	Expire                              // Version. System only: deletes if that version is still the newest, and expired
	Grant                               // Object, Principal, Perms
	Revoke                              // Object, Principal, Perms
	ResetGrants                         // Object. Admins only: drops the list, as if nothing had ever been granted there
)

// Mutation is one change. A command has at most one per key, and at most one per object of grants.
type Mutation struct {
	Kind      MutationKind
	Object    authz.Kind    // of Grant, Revoke, ResetGrants: what Rest names
	Perms     authz.Perm    // of Grant and Revoke
	Rest      []byte        // key.Rest, or key.TableRest when Object is a table
	Value     []byte        // of Put
	TTL       time.Duration // of Put: expires at commit time + TTL; 0 = none
	Expires   Timestamp     // of Put: absolute; 0 = none
	WormTTL   time.Duration // of Put: write-once until commit time + WormTTL; 0 = none
	WormUntil Timestamp     // of Put: absolute; 0 = none
	Version   Timestamp     // of Expire
	Principal string        // of Grant and Revoke
}

// ConditionKind says what a condition asks.
type ConditionKind uint8

// The kinds of conditions. An expired or deleted key is absent.
const (
	Absent    ConditionKind = iota + 1
	VersionIs               // Version; 0 asks for absence
)

// Condition must hold at the commit time, else the command is refused as a conflict.
type Condition struct {
	Kind    ConditionKind
	Rest    []byte
	Version Timestamp
}

// ReadSet is what a transaction read at Snapshot: it must read the same at the commit time.
type ReadSet struct {
	// Snapshot is the time that was read at: every change up to it was visible, none after.
	Snapshot Timestamp
	// ValidUntil is the earliest Expires of any value that was read or passed over in a range; 0 = none expires. Who
	// builds the set must fill it, since an expiry leaves no trace in the log.
	ValidUntil Timestamp
	// Keys are the rests of single keys, whether they were found or not.
	Keys [][]byte
	// Ranges are what scans and counts went over, empty stretches included.
	Ranges []Range
}

// Range is the rests from Lower to before Upper; an empty Upper has no end.
type Range struct {
	Lower, Upper []byte
}

// Outcome is the class of a result.
type Outcome uint8

// The outcomes. All but Applied are refusals and write nothing.
const (
	Applied Outcome = iota + 1
	Denied
	Conflict
	Invalid
)

// String is the protocol's word for the class.
func (o Outcome) String() string {
	switch o {
	case Applied:
		return "applied"
	case Denied:
		return "denied"
	case Conflict:
		return "conflict"
	case Invalid:
		return "invalid"
	default:
		return "no outcome"
	}
}

// Result is what Apply found: the same on every node.
type Result struct {
	Outcome Outcome
	Text    string    // of a refusal: one line without control bytes, without the class word
	Version Timestamp // the commit time
	Found   Timestamp // of a condition that did not hold: the live version there, 0 = absent
	Changes int       // keys and lists changed; 0 = there was nothing to do, as in deleting what is absent
}

// Meta is what Apply must know of the newest version of a key, of whatever time and kind.
type Meta struct {
	Version   Timestamp // 0 = the key has no version
	Deleted   bool
	Expires   Timestamp // 0 = never
	WormUntil Timestamp // 0 = not write-once
}

// LiveAt says whether the version can be read at a time not before its own.
func (m Meta) LiveAt(at Timestamp) bool {
	return m.Version != 0 && !m.Deleted && (m.Expires == 0 || m.Expires > at)
}

// ChangeKind says what a change record tells.
type ChangeKind uint8

// The kinds of changes, as storage's change index has them.
const (
	ChangePut ChangeKind = iota + 1
	ChangeDelete
	ChangeExpire
)

// Change is one record of the change index.
type Change struct {
	Time Timestamp
	Kind ChangeKind
	Rest []byte // valid during the call only
}

// View is what Apply reads: the group's state with the effects of all earlier commands, those of the same batch
// included. An error means that the state could not be read, never that something is absent.
type View interface {
	// Group is the group's name.
	Group() string
	// State is what SetState set last; the zero value if nothing was.
	State() (GroupState, error)
	// Latest is the newest version of the key.
	Latest(rest []byte) (Meta, error)
	// EachChange calls fn for the changes with Time > after, by (time, seq), until fn returns false. Requires: after is at
	// most SnapshotAgeMax before the commit time that is being decided.
	EachChange(after Timestamp, fn func(Change) bool) error
	// Grants is the list on an object; nil if there is none.
	Grants(o authz.Object) (*authz.Grants, error)
	// EachKeyList calls fn with the rest of each key of the table that has a list, in any order, until fn returns false.
	EachKeyList(tableRest []byte, fn func(rest []byte) bool) error
}

// Version is what Apply writes for a key.
type Version struct {
	Value     []byte
	Expires   Timestamp // 0 = never
	WormUntil Timestamp // 0 = not write-once
}

// Writer takes the effects of a command that was decided. seq numbers the changes of one command from 0. The slices
// belong to the command's encoding and stay unchanged as long as that.
type Writer interface {
	Put(rest []byte, at Timestamp, seq uint32, v Version)
	// Delete writes a tombstone; kind is ChangeDelete or ChangeExpire.
	Delete(rest []byte, at Timestamp, seq uint32, kind ChangeKind)
	// SetGrants stores the list on an object; nil removes it.
	SetGrants(o authz.Object, g *authz.Grants)
	SetState(s GroupState)
}
