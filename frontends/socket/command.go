// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"time"

	"github.com/atlas-edge/atlas/engine"
)

// verb is what a command does. Its name is the only label that metrics take from what clients send.
type verb uint8

const (
	verbInvalid verb = iota // did not parse
	verbKeyGet
	verbKeyMeta
	verbKeyPut
	verbKeyWrite
	verbKeyDel
	verbBlobSet
	verbBlobGet
	verbScan
	verbCount
	verbSample
	verbWhoAmI
	verbAssume
	verbAuth
	verbSecret
	verbGrant
	verbRevoke
	verbGrants
	verbNodeList
	verbNodeInfo
	verbNodePing
	verbQuorumInfo
	verbConsistency
	verbBegin
	verbCommit
	verbRollback
	verbTableList
	verbTableInfo
	verbGroupList
	verbGroupInfo
	verbWatch
	verbUnwatch
	verbHelp
	verbQuit
	verbElsewhere // known words that this build or a single node does not serve
	verbCount_
)

// verbNames are the labels of metrics.
var verbNames = [verbCount_]string{
	verbInvalid: "invalid", verbKeyGet: "key_get", verbKeyMeta: "key_meta", verbKeyPut: "key_put", verbKeyWrite: "key_write", verbKeyDel: "key_del",
	verbBlobSet: "key_blob_set", verbBlobGet: "key_blob_get", verbScan: "scan", verbCount: "count", verbSample: "sample",
	verbWhoAmI: "principal_whoami", verbAssume: "principal_assume", verbAuth: "principal_auth",
	verbSecret: "principal_secret", verbGrant: "acl_grant", verbRevoke: "acl_revoke", verbGrants: "acl_list", verbNodeList: "node_list",
	verbNodeInfo: "node_info", verbNodePing: "node_ping", verbQuorumInfo: "quorum_info", verbConsistency: "consistency",
	verbBegin: "begin", verbCommit: "commit", verbRollback: "rollback", verbTableList: "table_list",
	verbTableInfo: "table_info", verbGroupList: "group_list", verbGroupInfo: "group_info", verbWatch: "watch",
	verbUnwatch: "unwatch", verbHelp: "help", verbQuit: "quit", verbElsewhere: "elsewhere",
}

// command is a parsed command. Its slices alias the line it was parsed from.
type command struct {
	verb verb
	// key is a key, a prefix, a table, or the object of a grant.
	key []byte
	// value is a value, or a secret.
	value []byte
	// name is a principal, or a request id for UNWATCH, or the words after HELP.
	name []byte
	// text says why a known command is not served here.
	text string

	version    bool // show the version
	ifAbsent   bool
	hasVersion bool // ifVersion, or FROM, is set
	ifVersion  uint64
	ttl        time.Duration
	wormTTL    time.Duration
	wormUntil  time.Time
	expires    time.Time

	values, reverse bool
	meta            bool
	after           []byte
	number          uint64 // LIMIT, the n of SAMPLE, a node's id
	length          int64  // of a payload
	refused         error  // why an upload whose length is known will be refused
	survives        bool
	consistency     engine.Consistency
	perm            engine.Perm
}

// fatalError is a mistake after which the client's bytes cannot be understood any more: it is told, and cut. The text goes
// out as it stands.
type fatalError struct{ text string }

func (e *fatalError) Error() string { return e.text }

func invalid(format string, args ...any) error {
	return engine.Errorf(engine.ClassInvalid, format, args...)
}
