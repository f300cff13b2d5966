// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"github.com/atlas-edge/atlas/engine"
)

const (
	whoamiUsage      = "PRINCIPAL WHOAMI"
	assumeUsage      = "PRINCIPAL ASSUME <name>"
	authUsage        = "PRINCIPAL AUTH <name> <secret>"
	secretUsage      = "PRINCIPAL SECRET <name> <secret>"
	principalUsage   = "PRINCIPAL WHOAMI | ASSUME <name> | AUTH <name> <secret> | SECRET <name> <secret>"
	grantUsage       = "ACL GRANT <table or key> <principal> PERMS <READ|WRITE|OWNER>"
	revokeUsage      = "ACL REVOKE <table or key> <principal> PERMS <READ|WRITE|OWNER>"
	grantsUsage      = "ACL LIST <table[.prefix]>"
	aclUsage         = "ACL GRANT|REVOKE <table or key> <principal> PERMS <READ|WRITE|OWNER>, or ACL LIST <table[.prefix]>"
	nodeUsage        = "NODE LIST | INFO <id> | PING <id>"
	quorumUsage      = "QUORUM INFO <table> [SURVIVES]"
	tableUsage       = "TABLE LIST | INFO <table>"
	groupUsage       = "GROUP LIST | INFO <group>"
	consistencyUsage = "CONSISTENCY STRONG | BOUNDED <duration> | LOCAL"
)

func parsePrincipal(w *cursor, c *command) error {
	word := w.next()
	switch {
	case isWord(word, "WHOAMI"):
		return c.bare(w, verbWhoAmI, whoamiUsage)
	case isWord(word, "ASSUME"):
		c.verb = verbAssume
		if err := c.principalWord(w, assumeUsage); err != nil {
			return err
		}
		return w.end(assumeUsage)
	case isWord(word, "AUTH"):
		c.verb = verbAuth
		return parseSecret(w, c, authUsage)
	case isWord(word, "SECRET"):
		c.verb = verbSecret
		return parseSecret(w, c, secretUsage)
	}
	return usageError(principalUsage)
}

// parseSecret takes a name and, as a value, the rest of the line: a secret may hold blanks.
func parseSecret(w *cursor, c *command, usage string) error {
	if err := c.principalWord(w, usage); err != nil {
		return err
	}
	v, found := w.value()
	switch {
	case !found || len(v) == 0:
		return usageError(usage)
	case len(v) > SecretMax:
		return engine.Errorf(engine.ClassTooLarge, "secret of %d bytes exceeds limit %d", len(v), SecretMax)
	case !isText(v):
		return invalid("secret is not one line of UTF-8 text")
	}
	c.value = v
	return nil
}

func parseACL(w *cursor, c *command) error {
	word, usage := w.next(), grantUsage
	switch {
	case isWord(word, "GRANT"):
		c.verb = verbGrant
	case isWord(word, "LIST"):
		c.verb = verbGrants
		return c.onlyPrefix(w, grantsUsage)
	case isWord(word, "REVOKE"):
		c.verb, usage = verbRevoke, revokeUsage
	default:
		return usageError(aclUsage)
	}
	if err := c.keyWord(w, usage); err != nil {
		return err
	}
	if err := c.principalWord(w, usage); err != nil {
		return err
	}
	if !w.take("PERMS") {
		return usageError(usage)
	}
	switch {
	case w.take("READ"):
		c.perm = engine.PermRead
	case w.take("WRITE"):
		c.perm = engine.PermWrite
	case w.take("OWNER"):
		c.perm = engine.PermOwner
	default:
		return usageError(usage)
	}
	return w.end(usage)
}

const oneNode = "needs a cluster of more than one node"

func parseNode(w *cursor, c *command) (err error) {
	word := w.next()
	switch {
	case isWord(word, "LIST"):
		return c.bare(w, verbNodeList, nodeUsage)
	case isWord(word, "INFO"):
		c.verb = verbNodeInfo
	case isWord(word, "PING"):
		c.verb = verbNodePing
	case isWord(word, "DRAIN"):
		return elsewhere(c, "NODE DRAIN "+oneNode)
	case isWord(word, "REMOVE"):
		return elsewhere(c, "NODE REMOVE "+oneNode)
	default:
		return usageError(nodeUsage)
	}
	if c.number, err = numberArgument(w, "node id"); err != nil {
		return err
	}
	return w.end(nodeUsage)
}

func parseQuorum(w *cursor, c *command) error {
	switch {
	case w.take("SET"):
		return elsewhere(c, "QUORUM SET "+oneNode)
	case !w.take("INFO"):
		return usageError(quorumUsage)
	}
	c.verb = verbQuorumInfo
	if err := c.keyWord(w, quorumUsage); err != nil {
		return err
	}
	c.survives = w.take("SURVIVES")
	return w.end(quorumUsage)
}

func parseTable(w *cursor, c *command) error {
	word := w.next()
	switch {
	case isWord(word, "LIST"):
		return c.bare(w, verbTableList, tableUsage)
	case isWord(word, "INFO"):
		c.verb = verbTableInfo
		return c.onlyPrefix(w, tableUsage)
	case isWord(word, "MOVE"):
		return elsewhere(c, "TABLE MOVE "+oneNode)
	case isWord(word, "REGIONS"):
		return elsewhere(c, "TABLE REGIONS "+oneNode)
	case isWord(word, "PIN"):
		return elsewhere(c, "TABLE PIN "+oneNode)
	case isWord(word, "UNPIN"):
		return elsewhere(c, "TABLE UNPIN "+oneNode)
	}
	return usageError(tableUsage)
}

func parseGroup(w *cursor, c *command) error {
	word := w.next()
	switch {
	case isWord(word, "LIST"):
		return c.bare(w, verbGroupList, groupUsage)
	case isWord(word, "INFO"):
		c.verb = verbGroupInfo
		return c.onlyPrefix(w, groupUsage)
	}
	return usageError(groupUsage)
}

func parseConsistency(w *cursor, c *command) (err error) {
	c.verb = verbConsistency
	switch {
	case w.take("STRONG"):
		c.consistency.Level = engine.Strong
	case w.take("LOCAL"):
		c.consistency.Level = engine.Local
	case w.take("BOUNDED"):
		c.consistency.Level = engine.Bounded
		if c.consistency.MaxStaleness, err = durationArgument(w, "BOUNDED"); err != nil {
			return err
		}
	default:
		return usageError(consistencyUsage)
	}
	return w.end(consistencyUsage)
}
