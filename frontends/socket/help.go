// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"slices"
	"strings"
	"unicode"
)

// usage is a command's form, and what is to be known about it beyond the form: lines that HELP adds when it is asked for this
// command. None begins as a line that ends an answer, or as a request id.
type usage struct {
	form  string
	about []string
}

const (
	aboutOptions = "IF: only if the key is absent, or still has that version; else conflict. TTL, EXPIRES: it expires after that, or then."
	aboutWorm    = "WORM: write-once until then: nobody overwrites or deletes it. PRINCIPAL: write as that one."
	aboutPrefix  = "<table[.prefix]> is a table, or the rows of one that begin so: users, users.al"
	aboutACL     = "READ reads, WRITE writes, OWNER does both and grants. Without any grant a table or key is public."
)

// usages are the lines of HELP, in its order.
var usages = []usage{
	{getUsage, []string{"Shows a value that is a line of text, or NOT_FOUND. VERSION: its version before it."}},
	{metaUsage, []string{"Shows a value's version and size, when it expires and until when it is write-once; or NOT_FOUND."}},
	{putUsage, []string{"Writes what follows the one blank, to the end of the line. KEY WRITE has conditions and TTL.", aboutWorm}},
	{"KEY SET is KEY PUT", nil},
	{writeUsage, []string{"Writes what follows VALUE and one blank, and shows the new version.", aboutOptions, aboutWorm}},
	{delUsage, []string{"Deletes; of what is absent it is OK. IF: only if it still has that version; else conflict."}},
	{blobSetUsage + ", then <length> bytes", []string{"Writes any bytes, up to 128 MiB. VERSION, or any option: shows the new version.", aboutOptions, aboutWorm}},
	{blobGetUsage, []string{"Sends BLOB <length> and the bytes, or EMPTY."}},
	{scanUsage, []string{
		"Lists keys in order, of one moment. VALUES: with their values. META: as KEY META. AFTER: from behind that key, as the next page does.", aboutPrefix,
	}},
	{"COUNT <table[.prefix]>", []string{"Counts keys.", aboutPrefix}},
	{sampleUsage, []string{"Picks up to n keys at random, without reading the table.", aboutPrefix}},
	{watchUsage, []string{
		"Sends EVENT PUT|DEL <version> <key> for each change, until UNWATCH: [ID:w] WATCH users. FROM: after that version.", aboutPrefix,
	}},
	{"UNWATCH <id> | [ID:<id>] UNWATCH", []string{"Ends the watch of that id."}},
	{"BEGIN | COMMIT | ROLLBACK", []string{"What stands between BEGIN and COMMIT is done as a whole, or not at all: conflict. One group's keys."}},
	{consistencyUsage, []string{"How fresh reads are: STRONG sees all that was answered before, BOUNDED may be that stale, LOCAL any."}},
	{whoamiUsage, []string{"Shows who acts on this connection."}},
	{assumeUsage, []string{"Acts as that one, where the server trusts this client, or after AUTH what was granted."}},
	{authUsage, []string{"Acts as that one, proven by the secret."}},
	{secretUsage, []string{"Sets the secret of a principal, 8 to 1024 bytes: one's own, or as an admin any."}},
	{grantUsage, []string{aboutACL}},
	{revokeUsage, []string{"Takes a grant back; of what is not granted it is OK.", aboutACL}},
	{grantsUsage, []string{"Shows what is granted on a table and its keys, as far as one may grant there; (none): closed to all but admins."}},
	{"TABLE LIST", []string{"Lists the tables that have rows."}},
	{"TABLE INFO <table>", []string{"Shows a table's group, owner, rows, size and requests."}},
	{"TABLE MOVE | REGIONS | PIN | UNPIN: unavailable, " + oneNode, nil},
	{"GROUP LIST", []string{"Lists the groups: tables that share the name before / have one log, and one transaction may span them."}},
	{"GROUP INFO <group>", []string{"Shows a group's owner, ballot, log and tables."}},
	{"NODE LIST", []string{"Lists the nodes."}},
	{"NODE INFO <id>", []string{"Shows one node."}},
	{"NODE PING <id>", []string{"Measures the way to a node."}},
	{"NODE DRAIN | REMOVE: unavailable, " + oneNode, nil},
	{quorumUsage, []string{"Shows the nodes that a table's group needs for a new owner (Q1) and for a write (Q2). SURVIVES: which losses."}},
	{"QUORUM SET: unavailable, " + oneNode, nil},
	{"SQL <statement>: unavailable, this node serves no SQL", nil},
	{"HELP [command]", []string{"Lists the commands; or explains those that begin so, or have a word: HELP KEY WRITE, HELP TTL."}},
	{"QUIT", []string{"Closes the connection."}},
}

// help sends the forms of all commands, or those that begin with the words given, explained; where none does, those in whose form
// the words stand.
func (q *request) help() error {
	wanted := strings.ToUpper(strings.Join(strings.Fields(string(q.cmd.name[:min(len(q.cmd.name), 64)])), " "))
	found := slices.DeleteFunc(slices.Clone(usages), func(u usage) bool { return !u.begins(wanted) })
	if len(found) == 0 {
		found = slices.DeleteFunc(slices.Clone(usages), func(u usage) bool { return !u.mentions(wanted) })
	}
	if len(found) == 0 {
		return invalid("no command begins with or holds %s: HELP lists what there is", show([]byte(wanted)))
	}
	var lines []byte
	var told []string
	for _, u := range found {
		lines = appendLine(lines, q.tag, u.form)
		for _, about := range u.about {
			if wanted != "" && !slices.Contains(told, about) {
				lines = appendLine(lines, q.tag, "  "+about)
				told = append(told, about)
			}
		}
	}
	return q.send(appendOK(lines, q.tag))
}

// begins says whether the command begins with the words.
func (u usage) begins(wanted string) bool {
	if wanted == "" || strings.HasPrefix(u.form+" ", wanted+" ") {
		return true
	}
	return slices.Contains(strings.Split(u.form, " | "), wanted) // BEGIN | COMMIT | ROLLBACK
}

// mentions says whether the words stand in the command's form, as words of their own: together, or the first of them where the
// command begins and the others further on, as in TABLE PIN, KEY TTL.
func (u usage) mentions(wanted string) bool {
	words := strings.FieldsFunc(u.form, func(r rune) bool { return !unicode.IsLetter(r) })
	form := " " + strings.Join(words, " ") + " "
	first, rest, _ := strings.Cut(wanted, " ")
	return strings.Contains(form, " "+wanted+" ") || rest != "" && words[0] == first && strings.Contains(form, " "+rest+" ")
}
