// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"errors"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/engine/key"
)

const (
	getUsage     = "KEY GET <key> [VERSION]"
	putUsage     = "KEY PUT <key> [PRINCIPAL <name>] [WORM TTL <duration> | WORM EXPIRES <RFC3339>] <value>"
	writeUsage   = "KEY WRITE <key> [IF ABSENT | IF VERSION <v>] [TTL <duration> | EXPIRES <RFC3339>] [WORM TTL <duration> | WORM EXPIRES <RFC3339>] [PRINCIPAL <name>] VALUE <value>"
	delUsage     = "KEY DEL <key> [IF VERSION <v>]"
	blobSetUsage = "KEY BLOB SET <key> <length> [IF ABSENT | IF VERSION <v>] [TTL <duration> | EXPIRES <RFC3339>] [WORM TTL <duration> | WORM EXPIRES <RFC3339>] [PRINCIPAL <name>] [VERSION]"
	blobGetUsage = "KEY BLOB GET <key> [VERSION]"
	metaUsage    = "KEY META <key>"
	keyUsage     = "KEY GET | META | PUT | SET | WRITE | DEL | BLOB GET | BLOB SET"
)

func parseKeyCommand(w *cursor, c *command) error {
	word := w.next()
	switch {
	case isWord(word, "GET"):
		c.verb = verbKeyGet
		return parseGet(w, c, getUsage)
	case isWord(word, "META"):
		c.verb = verbKeyMeta
		return c.onlyPrefix(w, metaUsage)
	case isWord(word, "PUT"), isWord(word, "SET"):
		c.verb = verbKeyPut
		return parsePut(w, c)
	case isWord(word, "DEL"):
		c.verb = verbKeyDel
		return parseDel(w, c)
	case isWord(word, "WRITE"):
		c.verb = verbKeyWrite
		return parseWrite(w, c)
	case isWord(word, "BLOB"):
		switch sub := w.next(); {
		case isWord(sub, "GET"):
			c.verb = verbBlobGet
			return parseGet(w, c, blobGetUsage)
		case isWord(sub, "SET"):
			c.verb = verbBlobSet
			return parseBlobSet(w, c)
		}
	}
	return usageError(keyUsage)
}

func parseGet(w *cursor, c *command, usage string) error {
	if err := c.keyWord(w, usage); err != nil {
		return err
	}
	c.version = w.take("VERSION")
	return w.end(usage)
}

func parseDel(w *cursor, c *command) (err error) {
	if err := c.keyWord(w, delUsage); err != nil {
		return err
	}
	if w.take("IF") {
		if !w.take("VERSION") {
			return usageError(delUsage)
		}
		c.hasVersion, c.version = true, true
		if c.ifVersion, err = numberArgument(w, "IF VERSION"); err != nil {
			return err
		}
	}
	return w.end(delUsage)
}

// parsePut keeps the oldest grammar: options stand before the value, and what does not have the whole form of an option
// begins the value. So `KEY PUT a.b WORM is its name` stores `WORM is its name`; what has the form and a wrong duration
// is refused, since the writer meant to protect the key.
func parsePut(w *cursor, c *command) (err error) {
	if err := c.keyWord(w, putUsage); err != nil {
		return err
	}
	options := false
	for {
		ahead := *w
		switch {
		case ahead.take("PRINCIPAL") && !ahead.done():
			if err := c.principalWord(&ahead, putUsage); err != nil {
				return err
			}
		case ahead.take("WORM") && isWormForm(ahead):
			if err = c.wormOption(&ahead, putUsage); err != nil {
				return err
			}
		default:
			v, found := w.value()
			if !found && !options {
				return usageError(putUsage + ": one blank after the key, even for an empty value")
			}
			c.value = v
			return nil
		}
		*w, options = ahead, true
	}
}

// isWormForm says whether TTL or EXPIRES and another word come next.
func isWormForm(w cursor) bool {
	return (w.take("TTL") || w.take("EXPIRES")) && !w.done()
}

// wormOption takes what follows WORM. A later one replaces an earlier.
func (c *command) wormOption(w *cursor, usage string) (err error) {
	switch {
	case w.take("TTL"):
		c.wormTTL, err = durationArgument(w, "WORM TTL")
	case w.take("EXPIRES"):
		c.wormUntil, err = instantArgument(w, "WORM EXPIRES")
	default:
		err = usageError(usage)
	}
	if err == nil && c.wormTTL != 0 && !c.wormUntil.IsZero() {
		err = invalid("WORM TTL and WORM EXPIRES exclude each other")
	}
	return err
}

// writeOption takes one option of KEY WRITE and KEY BLOB SET; found is false when there is none. Each may be given once.
func (c *command) writeOption(w *cursor, usage string) (found bool, err error) {
	switch {
	case w.take("IF"):
		switch {
		case c.ifAbsent || c.hasVersion:
			err = invalid("IF is given twice")
		case w.take("ABSENT"):
			c.ifAbsent = true
		case w.take("VERSION"):
			c.hasVersion = true
			c.ifVersion, err = numberArgument(w, "IF VERSION")
		default:
			err = usageError(usage)
		}
	case w.take("TTL"):
		if err := c.oneExpiry("TTL"); err != nil {
			return true, err
		}
		c.ttl, err = durationArgument(w, "TTL")
	case w.take("EXPIRES"):
		if err := c.oneExpiry("EXPIRES"); err != nil {
			return true, err
		}
		c.expires, err = instantArgument(w, "EXPIRES")
	case w.take("WORM"):
		if c.wormTTL != 0 || !c.wormUntil.IsZero() {
			return true, invalid("WORM is given twice")
		}
		err = c.wormOption(w, usage)
	case w.take("PRINCIPAL"):
		if c.name != nil {
			return true, invalid("PRINCIPAL is given twice")
		}
		err = c.principalWord(w, usage)
	default:
		return false, nil
	}
	return true, err
}

// oneExpiry refuses a second TTL or EXPIRES.
func (c *command) oneExpiry(word string) error {
	switch {
	case c.ttl == 0 && c.expires.IsZero():
		return nil
	case (c.ttl != 0) == (word == "TTL"):
		return invalid("%s is given twice", word)
	}
	return invalid("TTL and EXPIRES exclude each other")
}

func parseWrite(w *cursor, c *command) error {
	c.version = true
	if err := c.keyWord(w, writeUsage); err != nil {
		return err
	}
	for !w.take("VALUE") {
		found, err := c.writeOption(w, writeUsage)
		if err != nil {
			return err
		}
		if !found {
			return usageError(writeUsage)
		}
	}
	c.value, _ = w.value()
	return nil
}

// parseBlobSet must find the length, or nobody knows where the next command begins. Once it is known, every refusal is
// kept in c.refused, so that the payload is still skipped.
func parseBlobSet(w *cursor, c *command) error {
	keyWord, lengthWord := w.next(), w.next()
	length, ok := parseUint(lengthWord)
	switch {
	case lengthWord == nil:
		return &fatalError{"invalid: usage: KEY BLOB SET <key> <length>, then that many bytes"}
	case !ok:
		return &fatalError{"invalid: blob length " + show(lengthWord) + ": want " + wantNumber(lengthWord)}
	case length > BlobSkipMax:
		return &fatalError{engine.Errorf(engine.ClassTooLarge, "blob length %d exceeds limit %d", length, int64(ValueMax)).Error()}
	}
	c.length = int64(length)
	if length > ValueMax {
		c.refused = engine.Errorf(engine.ClassTooLarge, "blob length %d exceeds limit %d", length, int64(ValueMax))
		return nil
	}
	if c.key, c.refused = keyArgument(&cursor{keyWord}, blobSetUsage); c.refused != nil {
		return nil
	}
	if c.refused = checkKey(c.key); c.refused != nil {
		return nil
	}
	for asked := false; !w.done(); {
		found, err := c.writeOption(w, blobSetUsage)
		if err == nil && !found {
			switch {
			case !w.take("VERSION"):
				err = usageError(blobSetUsage)
			case asked:
				err = invalid("VERSION is given twice")
			}
			asked = true
		}
		if err != nil {
			c.refused = err
			return nil
		}
		c.version = true // after any option, as it always was
	}
	return nil
}

// checkKey refuses what the engine would refuse as a key whatever it holds, in the engine's words.
func checkKey(word []byte) error {
	_, err := key.Parse(word)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, key.ErrTooLong):
		return engine.Errorf(engine.ClassTooLarge, "%w", err)
	}
	return invalid("%w", err)
}
