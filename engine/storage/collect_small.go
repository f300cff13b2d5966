// SPDX-License-Identifier: AGPL-3.0-only

package storage

import "bytes"

// small says where a round goes on behind the change index, in a state that has all of so many commits: more is false if no small group can
// have anything to be collected.
func (c *collector) small(carrying uint64) (cursor []byte, more bool) {
	c.began, c.left = carrying+1, false
	if c.began == c.idle {
		return nil, false
	}
	return []byte{kindRecord, 0}, true
}

// smallDone ends a round.
func (c *collector) smallDone() {
	if !c.left {
		c.idle = c.began
	}
}

// small does with the group whose acceptor record is under the iterator.
func (c *collection) small() (ok bool, err error) {
	c.stats.Looked++
	group, _, err := cutGroup(c.changes.Key(), kindRecord)
	if err != nil {
		return false, err
	}
	stored, err := c.changes.ValueAndErr()
	if err != nil {
		return false, err
	}
	a, after, err := openAcceptor(stored)
	if carries := c.s.collect.carries; err == nil && a.Small && (carries == nil || carries(string(group))) {
		err = c.smallGroup(string(group), after)
	}
	if err != nil {
		return false, err
	}
	return c.changes.Next(), nil
}

// smallGroup removes of each key what is older than its newest version not later than floor, if that one is later than after, and so
// carries a stamp. Versions not later than after are the index's affair, but for the newest of them, which one with a stamp may have made old.
func (c *collection) smallGroup(group string, after Timestamp) error {
	var (
		key     []byte    // the one at hand
		newer   Timestamp // its version before the one at hand; 0 for none
		reached bool      // one not later than floor was met
		done    bool      // by the index, in this same state
	)
	return eachVersion(c.versions, group, func(rest []byte, t Timestamp) (older bool, err error) {
		c.stats.Looked++
		full := c.versions.Key()
		if bare := full[:len(full)-versionLen]; !bytes.Equal(bare, key) {
			key, newer, reached = append(key[:0], bare...), 0, false
			_, done = c.seen[string(bare)]
		}
		switch {
		case reached && done:
			return false, nil
		case reached:
			v, err := versionAt(c.versions, groupLen(group))
			if err == nil {
				err = c.raise()
			}
			if err != nil {
				return false, err
			}
			c.remove(group, rest, &v)
		case newer != 0: // made old by one that is later than floor
			c.passed(newer)
			c.s.collect.left = true
		}
		reached = reached || t <= c.floor
		newer = t
		return t > after, nil
	})
}
