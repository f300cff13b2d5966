// SPDX-License-Identifier: AGPL-3.0-only

// Package authz is the one decision function that every read, write, scan and watch of every frontend passes.
//
// # Who may
//
// Grants stand on a table or on a key, in a list of (principal, permissions). The more specific list decides: a key's own
// list if it has one, else its table's. Where neither stands, the object is public: every subject may read and write it,
// one without a principal too. READ reads, WRITE writes, OWNER does both and grants. A subject with the admin grant may
// do all of it everywhere; the built-in principal `admin` has it, and so has each OWNER in the list on table `atlas`.
//
// Every table of group `atlas` is readable by all and written by the system alone, whatever the lists say; the rows
// `atlas.principals.*`, which hold the hashes of secrets, are read by nobody through the data path, admins included.
// In this group grants stand on two kinds of objects alone, and only admins give them: OWNER on table `atlas` makes a
// further admin, and WRITE on the row of a principal lets another principal assume that one.
//
// # Who may grant
//
//   - On a public object anyone may make the first grant. It ends the publicity, so it must leave an owner behind: the one
//     who makes it gets OWNER besides, and one without a principal may only give OWNER. An admin who makes it stays
//     outside the list.
//   - A first grant on a table whose keys have lists already is for admins: it would hand their owners' keys to whoever
//     comes first, since the OWNER of a table may grant on its keys.
//   - Afterwards granting and revoking need OWNER on the object, OWNER on its table, or the admin grant.
//   - A revoke that is applied means that the principal holds the permission no more. Where it would go on holding it
//     (the object is public, OWNER implies it, the table's list gives it) the revoke is a conflict and says so.
//   - The last OWNER of a list is revoked by an admin only. A list whose last entry goes stays, empty: the object is
//     closed to all but admins, never public again by accident. An admin's reset removes the list.
//
// The functions are pure: the caller brings the lists as they stand at the moment it decides for. Secrets are the
// exception, they need randomness and time: see HashSecret. The package starts no goroutine and keeps no state.
package authz

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/atlas-edge/atlas/engine/key"
)

// PrincipalAdmin is the built-in principal that holds the admin grant.
const PrincipalAdmin = "admin"

// secretsRest begins the rests, in group atlas, of the rows that hold secrets.
const secretsRest = ".principals."

// The classes of a Refusal, for errors.Is.
var (
	ErrDenied   = errors.New("denied")
	ErrConflict = errors.New("conflict")
	ErrInvalid  = errors.New("invalid")
)

// Refusal is a decision against the subject: a class and one line of text without control bytes.
type Refusal struct {
	Class error // ErrDenied, ErrConflict or ErrInvalid
	Text  string
}

// Error is the text, without the class word.
func (r *Refusal) Error() string { return r.Text }

// Unwrap is the class.
func (r *Refusal) Unwrap() error { return r.Class }

func refuse(class error, format string, args ...any) error {
	return &Refusal{Class: class, Text: fmt.Sprintf(format, args...)}
}

// Perm is a set of permissions.
type Perm uint8

// The permissions. PermOwner implies the other two, and to grant.
const (
	PermRead Perm = 1 << iota
	PermWrite
	PermOwner

	permAll = PermRead | PermWrite | PermOwner
)

// ParsePerm reads one of READ, WRITE, OWNER in any case.
func ParsePerm(word string) (Perm, error) {
	for _, p := range []Perm{PermRead, PermWrite, PermOwner} {
		if strings.EqualFold(word, p.String()) {
			return p, nil
		}
	}
	return 0, refuse(ErrInvalid, "permission %s is none of READ, WRITE, OWNER", key.Text([]byte(word)))
}

// String is the permissions' words, parted by commas.
func (p Perm) String() string {
	var words []string
	for i, word := range []string{"READ", "WRITE", "OWNER"} {
		if p&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, ",")
}

// effective adds what is implied.
func (p Perm) effective() Perm {
	if p&PermOwner != 0 {
		return permAll
	}
	return p
}

// Verb is what a subject wants to do.
type Verb uint8

// The verbs.
const (
	VerbRead  Verb = iota + 1 // read a value, see a key in a scan, a count, a sample or a watch, test a condition on it
	VerbWrite                 // put or delete
	VerbGrant                 // grant or revoke; ChangeGrants has the rules beyond
)

// String is the verb's word in messages.
func (v Verb) String() string {
	switch v {
	case VerbRead:
		return "read"
	case VerbWrite:
		return "write"
	case VerbGrant:
		return "grant on"
	default:
		return "verb " + strconv.Itoa(int(v))
	}
}

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

// KeyObject is the object of a key; it aliases it.
func KeyObject(k key.Key) Object { return Object{Group: k.Group(), Kind: KindKey, Rest: k.Rest()} }

// TableObject is the object of a key's table; it aliases it.
func TableObject(k key.Key) Object {
	return Object{Group: k.Group(), Kind: KindTable, Rest: k.TableRest()}
}

// Table is the object's table: itself, if it is one.
func (o Object) Table() Object {
	if o.Kind == KindKey {
		o.Rest = key.TableOfRest(o.Rest)
	}
	o.Kind = KindTable
	return o
}

// String shows the object in messages.
func (o Object) String() string {
	text := key.Text(key.FromParts(o.Group, o.Rest))
	if o.Kind == KindTable {
		return "table " + text
	}
	return text
}

// StateName is the name under which the object's list is stored among its group's state records.
func (o Object) StateName() string {
	if o.Kind == KindTable {
		return "t" + string(o.Rest)
	}
	return "k" + string(o.Rest)
}

// KeyStatePrefix begins the StateName of every key of a table, and no other.
func KeyStatePrefix(tableRest []byte) string { return "k" + string(tableRest) + "." }

// Subject is who asks.
type Subject struct {
	Principal string // "" = none
	Admin     bool   // holds the admin grant: see IsAdmin
	System    bool   // the engine itself, for its own records: every question is answered yes
}

// String shows the subject in messages.
func (s Subject) String() string {
	if s.Principal == "" {
		return "principal (none)"
	}
	return "principal " + strconv.Quote(s.Principal)
}

// Lists are the lists that bear on an object: the key's own (nil for a table) and its table's.
type Lists struct {
	Key, Table *Grants
}

// On is the list on the object itself; nil if nothing was granted there.
func (l Lists) On(o Object) *Grants {
	if o.Kind == KindKey {
		return l.Key
	}
	return l.Table
}

// deciding is the most specific list; nil means that the object is public.
func (l Lists) deciding(o Object) *Grants {
	if own := l.On(o); own != nil {
		return own
	}
	return l.Table
}

// IsAdmin says whether the principal holds the admin grant: it is the built-in one, or an OWNER in the list on table atlas.
func IsAdmin(principal string, system *Grants) bool {
	return principal == PrincipalAdmin || system.Perms(principal)&PermOwner != 0
}

// Allowed is the decision. The lists are those that stand on the object and on its table.
func Allowed(s Subject, v Verb, o Object, l Lists) bool {
	switch {
	case s.System:
		return true
	case o.Group == key.SystemGroup:
		return allowedSystem(s, v, o)
	case s.Admin:
		return true
	}
	list := l.deciding(o)
	if list == nil {
		return true
	}
	held := list.Perms(s.Principal).effective()
	switch v {
	case VerbRead:
		return held&PermRead != 0
	case VerbWrite:
		return held&PermWrite != 0
	case VerbGrant:
		return held&PermOwner != 0 || l.Table.Perms(s.Principal)&PermOwner != 0
	default:
		return false
	}
}

// allowedSystem decides in group atlas, for all but the system itself.
func allowedSystem(s Subject, v Verb, o Object) bool {
	switch v {
	case VerbRead:
		return o.Kind == KindTable || !IsSecret(o.Group, o.Rest)
	case VerbGrant:
		return s.Admin && (o.isSystemTable() || o.isPrincipal())
	default:
		return false
	}
}

// isSystemTable says whether the object is table atlas, whose owners are the admins.
func (o Object) isSystemTable() bool {
	return o.Group == key.SystemGroup && o.Kind == KindTable && len(o.Rest) == 0
}

// isPrincipal says whether the object is the row of a principal. WRITE on it lets another principal assume that one.
func (o Object) isPrincipal() bool { return o.Kind == KindKey && IsSecret(o.Group, o.Rest) }

// IsSecret says whether a row holds a principal's secret, which the data path shows to nobody.
func IsSecret(group string, rest []byte) bool {
	return group == key.SystemGroup && bytes.HasPrefix(rest, []byte(secretsRest))
}

// Check is Allowed with the reason of a refusal: a *Refusal that is ErrDenied.
func Check(s Subject, v Verb, o Object, l Lists) error {
	if Allowed(s, v, o, l) {
		return nil
	}
	return denial(s, v, o)
}

func denial(s Subject, v Verb, o Object) error {
	if o.Group == key.SystemGroup && v == VerbWrite {
		return refuse(ErrDenied, "%s is written by the system only", o.Table())
	}
	return refuse(ErrDenied, "%s may not %s %s", s, v, o)
}

// CheckPrincipal checks the form of a principal's name: 1 to PrincipalRunesMax runes of UTF-8, no control characters and
// no line separators.
func CheckPrincipal(name string) error {
	switch {
	case name == "":
		return refuse(ErrInvalid, "principal is empty")
	case len(name) > PrincipalLenMax:
		return refuse(ErrInvalid, "principal of %d bytes exceeds limit %d", len(name), PrincipalLenMax)
	case !utf8.ValidString(name):
		return refuse(ErrInvalid, "principal is not UTF-8")
	}
	if n := utf8.RuneCountInString(name); n > PrincipalRunesMax {
		return refuse(ErrInvalid, "principal of %d runes exceeds limit %d", n, PrincipalRunesMax)
	}
	for _, r := range name {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return refuse(ErrInvalid, "principal holds a control character")
		}
	}
	return nil
}

// MayAssume decides whether a principal that has proven itself may act as another, on whose row the list stands. Admins may, and who
// holds WRITE there. No list is no permission: that a thing is public does not extend to being somebody else.
func MayAssume(s Subject, row *Grants) bool {
	return s.System || s.Admin || s.Principal != "" && row.Perms(s.Principal)&(PermWrite|PermOwner) != 0
}

// SecretKey is the whole key of the row that holds a principal's secret.
func SecretKey(principal string) string { return key.SystemGroup + secretsRest + principal }
