// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"errors"
	"time"

	"github.com/atlas-edge/atlas/engine"
)

// request is one command being run, with the session it runs in. The connection has one for its untagged commands; each
// tagged command that runs aside has its own.
type request struct {
	c    *conn
	ctx  context.Context // ends when the connection is cut, or the watch ended
	sess session
	tag  []byte // what every line of the answer begins with
	cmd  command
	// line, when the request runs aside, is what cmd points into.
	line    []byte
	payload []byte // of an upload: in the reader's buffer, in body, or its own
	body    []byte // reused from request to request
	mem     large  // of line or payload
	began   time.Time
	watch   *watching
}

// errBinary is the answer of KEY GET to a value that does not fit in a line.
var errBinary = engine.Errorf(engine.ClassInvalid, "value is binary, use KEY BLOB GET")

// errTold ends a connection whose client was told why already.
var errTold = errors.New("the client was told")

// run runs the command and answers it. The error is nil, or errTold: then the connection must end.
func (q *request) run() error {
	err := q.execute()
	return q.finish(err)
}

// finish answers an error, and notes the command in the metrics.
func (q *request) finish(err error) error {
	if err == nil {
		q.c.m.command(q.cmd.verb, time.Since(q.began), nil)
		return nil
	}
	q.c.m.command(q.cmd.verb, time.Since(q.began), err)
	b := q.c.out.begin()
	q.end(appendError(b, q.tag, err))
	if _, fatal := errors.AsType[*fatalError](err); fatal {
		return errTold
	}
	return nil
}

// id is the request id in the tag, nil if there is none.
func (q *request) id() []byte {
	if len(q.tag) == 0 {
		return nil
	}
	return q.tag[len(idOpen) : len(q.tag)-len("] ")]
}

// end hands an answer's lines over.
func (q *request) end(b []byte) {
	if q.c.out.end(b) {
		q.c.out.flush()
	}
}

func (q *request) ok() {
	b := q.c.out.begin()
	q.end(appendOK(b, q.tag))
}

// execute runs the command. It either answers and returns nil, or leaves the answer to the caller and returns an error.
func (q *request) execute() error {
	switch q.cmd.verb {
	case verbKeyGet:
		return q.keyGet()
	case verbKeyMeta:
		return q.keyMeta()
	case verbKeyPut, verbKeyWrite:
		return q.keyPut(q.cmd.value)
	case verbBlobSet:
		return q.blobSet()
	case verbKeyDel:
		return q.keyDel()
	case verbBlobGet:
		return q.blobGet()
	case verbScan:
		return q.scan()
	case verbCount:
		return q.count()
	case verbSample:
		return q.sample()
	case verbWhoAmI, verbAssume, verbAuth, verbSecret:
		return q.principal()
	case verbGrant, verbRevoke:
		return q.acl()
	case verbGrants:
		return q.grants()
	case verbNodeList, verbNodeInfo, verbNodePing:
		return q.node()
	case verbQuorumInfo:
		return q.quorum()
	case verbConsistency:
		return q.setConsistency()
	case verbBegin, verbCommit, verbRollback:
		return q.transaction()
	case verbTableList, verbGroupList:
		return q.list()
	case verbTableInfo:
		return q.tableInfo()
	case verbGroupInfo:
		return q.groupInfo()
	case verbWatch:
		return q.runWatch()
	case verbUnwatch:
		return q.unwatch()
	case verbHelp:
		return q.help()
	case verbElsewhere:
		return engine.Errorf(engine.ClassUnavailable, "%s", q.cmd.text)
	}
	return invalid("unknown command")
}

// dropLine frees the line of a request that has no more use for it. Nothing of its command but the verb may be read afterwards.
func (q *request) dropLine() {
	q.cmd = command{verb: q.cmd.verb}
	if q.mem.taken != 0 {
		q.line = nil
		q.mem.free()
	}
}

// runTagged runs a request aside, on a worker.
func (q *request) runTagged() {
	c := q.c
	if err := q.run(); err != nil {
		c.end(endFatal)
	}
	if q.watch != nil {
		close(q.watch.done)
	}
	c.out.flush()
	if err := q.sess.Close(); err != nil {
		c.srv.opts.Logger.Debug("closing a tagged command's session", "error", err)
	}
	q.mem.free()
	c.srv.recycle(q)
	c.idleAside()
	<-c.slots
	c.jobs.Done()
}
