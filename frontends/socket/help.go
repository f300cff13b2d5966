// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"strings"
)

// usages are the lines of HELP, in its order. None begins as a line that ends an answer, or as a request id.
var usages = []string{
	getUsage,
	putUsage,
	"KEY SET is KEY PUT",
	writeUsage,
	delUsage,
	blobSetUsage + ", then <length> bytes",
	blobGetUsage,
	scanUsage,
	"COUNT <table[.prefix]>",
	sampleUsage,
	watchUsage,
	"UNWATCH <id> | [ID:<id>] UNWATCH",
	"BEGIN | COMMIT | ROLLBACK",
	consistencyUsage,
	whoamiUsage,
	assumeUsage,
	authUsage,
	secretUsage,
	grantUsage,
	revokeUsage,
	"TABLE LIST",
	"TABLE INFO <table>",
	"TABLE MOVE | REGIONS | PIN | UNPIN: unavailable, " + oneNode,
	"GROUP LIST",
	"GROUP INFO <group>",
	"NODE LIST",
	"NODE INFO <id>",
	"NODE PING <id>",
	"NODE DRAIN | REMOVE: unavailable, " + oneNode,
	quorumUsage,
	"QUORUM SET: unavailable, " + oneNode,
	"SQL <statement>: unavailable, this node serves no SQL",
	"HELP [command]",
	"QUIT",
}

// help sends the usage of all commands, or of those that begin with the words given.
func (q *request) help() error {
	wanted := strings.ToUpper(strings.Join(strings.Fields(string(q.cmd.name[:min(len(q.cmd.name), 64)])), " "))
	var lines []byte
	for _, usage := range usages {
		if isTopic(usage, wanted) {
			lines = appendLine(lines, q.tag, usage)
		}
	}
	if lines == nil {
		return invalid("no command begins with %s: HELP lists what there is", show([]byte(wanted)))
	}
	return q.send(appendOK(lines, q.tag))
}

// isTopic says whether a usage line tells of the command that the words begin.
func isTopic(usage, wanted string) bool {
	if wanted == "" {
		return true
	}
	if strings.HasPrefix(usage+" ", wanted+" ") {
		return true
	}
	// BEGIN | COMMIT | ROLLBACK
	for part := range strings.SplitSeq(usage, " | ") {
		if part == wanted {
			return true
		}
	}
	return false
}
