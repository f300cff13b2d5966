// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"bytes"
	"fmt"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/key"
)

// InvalidError is what Validate finds: one line without control bytes, safe to show to a client.
type InvalidError struct {
	Text     string
	TooLarge bool // a size or a count exceeds its limit
}

// Error is the text.
func (e *InvalidError) Error() string { return e.Text }

func invalid(format string, args ...any) error {
	return &InvalidError{Text: fmt.Sprintf(format, args...)}
}

func tooLarge(what string, n, limit int) error {
	return &InvalidError{Text: fmt.Sprintf("%s %d exceeds limit %d", what, n, limit), TooLarge: true}
}

// Validate checks the form of a command against the limits, which needs no state; an error is an *InvalidError. Decode
// runs it on what it reads, so that Apply may rely on it.
func (c *Command) Validate() error {
	switch {
	case len(c.Conditions) > ConditionsMax:
		return tooLarge("number of conditions", len(c.Conditions), ConditionsMax)
	case len(c.Mutations) > MutationsMax:
		return tooLarge("number of mutations", len(c.Mutations), MutationsMax)
	}
	if c.Principal != "" {
		if err := authz.CheckPrincipal(c.Principal); err != nil {
			return invalid("%v", err)
		}
	}
	for i := range c.Conditions {
		if err := c.Conditions[i].validate(); err != nil {
			return err
		}
	}
	for i := range c.Mutations {
		if err := c.Mutations[i].validate(); err != nil {
			return err
		}
	}
	if err := c.checkDistinct(); err != nil {
		return err
	}
	if c.Reads != nil {
		if err := c.Reads.validate(); err != nil {
			return err
		}
	}
	if n := c.EncodedSize(); n > EncodedLenMax {
		return tooLarge("length of the encoded command", n, EncodedLenMax)
	}
	return nil
}

func (c *Condition) validate() error {
	if c.Kind != Absent && c.Kind != VersionIs {
		return invalid("unknown condition %d", c.Kind)
	}
	if c.Kind == Absent && c.Version != 0 {
		return invalid("condition of absence names a version")
	}
	return checkRest(c.Rest)
}

func (m *Mutation) validate() error {
	switch m.Kind {
	case Put:
		return m.validatePut()
	case Delete, Expire:
		return checkRest(m.Rest)
	case Grant, Revoke:
		if err := m.change("").Check(); err != nil {
			return invalid("%v", err)
		}
	case ResetGrants:
		if m.Object != authz.KindTable && m.Object != authz.KindKey {
			return invalid("object of a reset is neither a table nor a key")
		}
	default:
		return invalid("unknown mutation %d", m.Kind)
	}
	if m.Object == authz.KindKey {
		return checkRest(m.Rest)
	}
	if err := key.CheckTableRest(m.Rest); err != nil {
		return invalid("%v", err)
	}
	return nil
}

func (m *Mutation) validatePut() error {
	switch {
	case len(m.Value) > ValueLenMax:
		return tooLarge("value length", len(m.Value), ValueLenMax)
	case m.TTL < 0 || m.WormTTL < 0:
		return invalid("duration is negative")
	case m.TTL != 0 && m.Expires != 0:
		return invalid("both a TTL and a time of expiry")
	case m.WormTTL != 0 && m.WormUntil != 0:
		return invalid("both a WORM TTL and a WORM end")
	case m.Expires > TimestampMax || m.WormUntil > TimestampMax:
		return invalid("time lies after the year 2262")
	}
	return checkRest(m.Rest)
}

func (s *ReadSet) validate() error {
	if len(s.Keys) > ReadKeysMax {
		return tooLarge("number of keys read", len(s.Keys), ReadKeysMax)
	}
	if len(s.Ranges) > ReadRangesMax {
		return tooLarge("number of ranges read", len(s.Ranges), ReadRangesMax)
	}
	for _, k := range s.Keys {
		if err := checkRest(k); err != nil {
			return err
		}
	}
	for _, r := range s.Ranges {
		// A bound need not be a key; PrefixEnd can make it one byte shorter, a successor one byte longer than one.
		if n := max(len(r.Lower), len(r.Upper)); n > key.LenMax+1 {
			return tooLarge("length of a range's bound", n, key.LenMax+1)
		}
		if len(r.Upper) != 0 && bytes.Compare(r.Lower, r.Upper) > 0 {
			return invalid("range ends before it begins")
		}
	}
	return nil
}

func checkRest(rest []byte) error {
	if err := key.CheckRest(rest); err != nil {
		return invalid("%v", err)
	}
	return nil
}

// target is what a mutation changes: a value, or the list on a table or key.
func (m *Mutation) target() authz.Kind {
	switch m.Kind {
	case Grant, Revoke, ResetGrants:
		return m.Object
	default:
		return 0
	}
}

func (m *Mutation) sameTarget(o *Mutation) bool {
	return m.target() == o.target() && bytes.Equal(m.Rest, o.Rest)
}

// checkDistinct refuses two mutations of one thing: all mutations share the commit time, so their order would have to
// decide, and the change index would hold a change that no version bears witness of.
func (c *Command) checkDistinct() error {
	if len(c.Mutations) <= pairwiseMax {
		for i := range c.Mutations {
			for j := range i {
				if c.Mutations[i].sameTarget(&c.Mutations[j]) {
					return errTwice(&c.Mutations[i])
				}
			}
		}
		return nil
	}
	var seen index
	seen.grow(len(c.Mutations))
	for i := range c.Mutations {
		m := &c.Mutations[i]
		slot, found := seen.find(m.Rest, func(j int) bool { return c.Mutations[j].sameTarget(m) })
		if found {
			return errTwice(m)
		}
		seen.set(slot, i)
	}
	return nil
}

func errTwice(m *Mutation) error {
	return invalid("two mutations of %s in one command", key.Text(m.Rest))
}
