// SPDX-License-Identifier: AGPL-3.0-only

// Package command is the replicated state machine of a group.
package command

import (
	"errors"
	"time"

	"github.com/atlas-edge/atlas/engine/authz"
)

// Timestamp is nanoseconds since the Unix epoch from the hybrid logical clock; 0 = none. A value's version is its commit time.
type Timestamp = uint64

// Command is one atomic step of a group.
type Command struct {
	Principal  string // "" = none
	Admin      bool   // the principal held the admin grant when the command was built
	System     bool   // built by the engine itself: passes authorisation, may write table atlas. Never set from a client's input
	Conditions []Condition
	Mutations  []Mutation
	Reads      *ReadSet // nil = none
}

// MutationKind says what a mutation does.
type MutationKind uint8

// The kinds of mutations, with the fields they use besides Rest.
const (
	Put         MutationKind = iota + 1 // Value, TTL or Expires, WormTTL or WormUntil
	Delete                              //
	Expire                              // Version. System only: deletes if that version is still the newest, and expired
	Grant                               // Object, Principal, Perms
	Revoke                              // Object, Principal, Perms
	ResetGrants                         // Object. Admin only: drops the list, the object is as if nothing had ever been granted
)

// Mutation is one change. At most one per key, and one per object of grants, in a command.
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

// ReadSet is what a transaction read at Snapshot: it must be the same at the commit time.
type ReadSet struct {
	Snapshot   Timestamp
	ValidUntil Timestamp // the earliest expiry of any value that was read; 0 = none expires
	Keys       [][]byte  // rests, found or not
	Ranges     []Range
}

// Range is the rests from Lower to before Upper; an empty Upper has no end.
type Range struct {
	Lower, Upper []byte
}

// Outcome is the class of a result.
type Outcome uint8

// The outcomes.
const (
	Applied Outcome = iota + 1
	Denied
	Conflict
	Invalid
)

// Result is what Apply found: the same on every node.
type Result struct {
	Outcome Outcome
	Text    string    // of a refusal: one line without control bytes, without the class word
	Version Timestamp // the commit time
	Found   Timestamp // of a conflict on a condition: the live version there, 0 = absent
	Changes int       // keys and lists changed; 0 = there was nothing to do (deleting what is absent)
}

// Meta is what Apply must know of the newest version of a key, of whatever time.
type Meta struct {
	Version   Timestamp // 0 = the key has no version
	Deleted   bool
	Expires   Timestamp // 0 = never
	WormUntil Timestamp // 0 = not write-once
}

// ChangeKind says what a change record tells.
type ChangeKind uint8

// The kinds of changes: as storage's change index has them.
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

// GroupState is the little that Apply keeps about a group as a whole. It is replicated state, stored under StateName.
// The zero value is that of a group that nothing was written to.
type GroupState struct {
	TableLists   uint64    // tables with a list of grants
	KeyLists     uint64    // keys with a list of grants
	WormUntilMax Timestamp // no key of the group is write-once at or after this
	Retention    time.Duration
}

// StateName is the name of the encoded GroupState among a group's state records.
const StateName = "meta"

// View is what Apply reads: the group's state with the effects of all earlier commands, those of the same batch
// included. An error means that the disk could not be read, not that something is absent.
type View interface {
	Group() string
	State() (GroupState, error)
	Latest(rest []byte) (Meta, error)
	// EachChange calls fn for the changes with Time > after, by (time, seq), until fn returns false.
	EachChange(after Timestamp, fn func(Change) bool) error
	// Grants is the list on an object; nil if there is none.
	Grants(o authz.Object) (*authz.Grants, error)
	// HasKeyGrants says whether any key of the table has a list.
	HasKeyGrants(tableRest []byte) (bool, error)
}

// Version is what Apply writes for a key.
type Version struct {
	Value     []byte
	Expires   Timestamp
	WormUntil Timestamp
}

// Writer takes the effects of a command. seq numbers the changes of one command from 0. The slices belong to the
// command's encoding and stay unchanged as long as that.
type Writer interface {
	Put(rest []byte, at Timestamp, seq uint32, v Version)
	Delete(rest []byte, at Timestamp, seq uint32, kind ChangeKind) // kind: ChangeDelete or ChangeExpire
	SetGrants(o authz.Object, g *authz.Grants)                     // nil removes the list
	SetState(s GroupState)
}

// ErrCodec is what every decoding error of this package is.
var ErrCodec = errors.New("bad command encoding")

// Validate checks the form of a command against the limits; it needs no state.
func (c *Command) Validate() error { return nil }

// EncodedSize is the exact length of what AppendTo appends.
func (c *Command) EncodedSize() int { return 0 }

// AppendTo appends the encoding. Requires: Validate returned nil.
func (c *Command) AppendTo(dst []byte) []byte { return dst }

// Decode reads an encoding; the command aliases b.
func Decode(b []byte) (*Command, error) {
	c := new(Command)
	return c, c.DecodeFrom(b)
}

// DecodeFrom is Decode into a command whose memory is used again.
func (c *Command) DecodeFrom(b []byte) error { return ErrCodec }

// Apply decides the command at its commit time and writes its effects, all or none. An error comes from the view alone:
// the command was not decided and the node must not go on as if it had been.
func Apply(v View, w Writer, at Timestamp, c *Command) (Result, error) {
	return Result{Outcome: Invalid, Text: "not built", Version: at}, nil
}

// ApplyEncoded is DecodeFrom and Apply; an encoding that cannot be read is refused as invalid, on every node alike.
func ApplyEncoded(v View, w Writer, at Timestamp, scratch *Command, encoded []byte) (Result, error) {
	if err := scratch.DecodeFrom(encoded); err != nil {
		return Result{Outcome: Invalid, Text: err.Error(), Version: at}, nil
	}
	return Apply(v, w, at, scratch)
}

// DecodeGroupState reads what GroupState.AppendTo wrote; nothing stored (nil) is the zero state.
func DecodeGroupState(b []byte) (GroupState, error) { return GroupState{}, nil }

// AppendTo appends the encoding of the state.
func (s GroupState) AppendTo(dst []byte) []byte { return dst }

// Overlay is a View and a Writer: it passes writes on and remembers them, so that later commands of the same batch see
// them above a base that does not have them yet. Reset it after the batch is committed or dropped.
type Overlay struct {
	base View
	next Writer
}

// NewOverlay returns an empty overlay.
func NewOverlay(base View, next Writer) *Overlay { return &Overlay{base: base, next: next} }

// Reset forgets all that was remembered and takes a new base and writer.
func (o *Overlay) Reset(base View, next Writer) { o.base, o.next = base, next }

// Group is the base's.
func (o *Overlay) Group() string { return o.base.Group() }

// State is the newest one.
func (o *Overlay) State() (GroupState, error) { return o.base.State() }

// Latest is the newest version of the rest, one written in this batch before the base's.
func (o *Overlay) Latest(rest []byte) (Meta, error) { return o.base.Latest(rest) }

// EachChange gives the base's changes, then the batch's.
func (o *Overlay) EachChange(after Timestamp, fn func(Change) bool) error {
	return o.base.EachChange(after, fn)
}

// Grants is the newest list on the object.
func (o *Overlay) Grants(obj authz.Object) (*authz.Grants, error) { return o.base.Grants(obj) }

// HasKeyGrants looks at the batch and at the base.
func (o *Overlay) HasKeyGrants(tableRest []byte) (bool, error) { return o.base.HasKeyGrants(tableRest) }

// Put passes on and remembers.
func (o *Overlay) Put(rest []byte, at Timestamp, seq uint32, v Version) { o.next.Put(rest, at, seq, v) }

// Delete passes on and remembers.
func (o *Overlay) Delete(rest []byte, at Timestamp, seq uint32, kind ChangeKind) {
	o.next.Delete(rest, at, seq, kind)
}

// SetGrants passes on and remembers.
func (o *Overlay) SetGrants(obj authz.Object, g *authz.Grants) { o.next.SetGrants(obj, g) }

// SetState passes on and remembers.
func (o *Overlay) SetState(s GroupState) { o.next.SetState(s) }

var (
	_ View   = (*Overlay)(nil)
	_ Writer = (*Overlay)(nil)
)
