// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/atlas-edge/atlas/engine"
)

func (q *request) keyGet() error {
	it, err := q.sess.Get(q.ctx, q.cmd.key)
	if err != nil {
		return q.absent(err, "NOT_FOUND")
	}
	if it.size > smallReplyMax {
		err = q.largeText(it)
	} else {
		err = q.smallText(it)
	}
	return errors.Join(err, it.value.Close())
}

func (q *request) keyMeta() error {
	it, err := q.sess.Get(q.ctx, q.cmd.key)
	if err != nil {
		return q.absent(err, "NOT_FOUND")
	}
	b := q.c.out.begin()
	q.end(appendOK(appendMeta(b, q.tag, it), q.tag))
	return it.value.Close()
}

// appendMeta appends the line that tells all of a value but its bytes.
func appendMeta(b, tag []byte, it item) []byte {
	b = append(append(b, tag...), "META"...)
	b = appendUintField(b, "version", it.version)
	b = appendIntField(b, "size", it.size)
	if !it.expires.IsZero() {
		b = appendField(b, "expires", it.expires.Format(time.RFC3339Nano))
	}
	if !it.wormUntil.IsZero() {
		b = appendField(b, "worm_until", it.wormUntil.Format(time.RFC3339Nano))
	}
	return append(b, crlf...)
}

// absent answers for a key that is not there, with a line of its own.
func (q *request) absent(err error, word string) error {
	if !errors.Is(err, engine.ErrNotFound) {
		return err
	}
	b := q.c.out.begin()
	b = appendLine(b, q.tag, word)
	q.end(appendOK(b, q.tag))
	return nil
}

func (q *request) smallText(it item) error {
	v, err := it.value.Bytes()
	if err != nil {
		return err
	}
	if !isText(v) {
		return errBinary
	}
	b := q.c.out.begin()
	if q.cmd.version {
		b = appendCount(b, q.tag, "VERSION:", it.version)
	}
	b = append(b, q.tag...)
	b = append(b, "VALUE:"...)
	b = append(b, v...)
	b = append(b, crlf...)
	q.end(appendOK(b, q.tag))
	return nil
}

// largeText reads the value twice, first to see that it is text, so that it is never in memory as a whole.
func (q *request) largeText(it item) error {
	var look textScan
	if _, err := it.value.WriteTo(&look); err != nil {
		return err
	}
	if !look.text() {
		return errBinary
	}
	head := make([]byte, 0, 256+len(q.tag)*2)
	if q.cmd.version {
		head = appendCount(head, q.tag, "VERSION:", it.version)
	}
	head = append(append(head, q.tag...), "VALUE:"...)
	return q.stream(head, it, appendOK(crlf[:len(crlf):len(crlf)], q.tag))
}

// stream sends a value of any size between whole lines of its own answer, with nothing of other answers in between.
func (q *request) stream(head []byte, it item, tail []byte) error {
	o := &q.c.out
	if err := o.claim(head); err != nil {
		return nil // the connection is lost, and with it whoever waits for an answer
	}
	n, err := it.value.WriteTo(o)
	if err == nil && n != it.size {
		err = fmt.Errorf("value of %d bytes ended after %d", it.size, n)
	}
	if err == nil {
		err = o.write(tail)
	}
	// After the head nothing but the value can be sent, so that an error here can only end the connection.
	o.release(err)
	return nil
}

func (q *request) blobGet() error {
	it, err := q.sess.Get(q.ctx, q.cmd.key)
	if err != nil {
		return q.absent(err, "EMPTY")
	}
	return errors.Join(q.blob(it), it.value.Close())
}

func (q *request) blob(it item) error {
	if it.size > smallReplyMax {
		head := make([]byte, 0, 256+len(q.tag)*2)
		if q.cmd.version {
			head = appendCount(head, q.tag, "VERSION:", it.version)
		}
		return q.stream(appendBlobHead(head, q.tag, it.size), it, appendOK(nil, q.tag))
	}
	v, err := it.value.Bytes()
	if err != nil {
		return err
	}
	b := q.c.out.begin()
	if q.cmd.version {
		b = appendCount(b, q.tag, "VERSION:", it.version)
	}
	b = appendBlobHead(b, q.tag, int64(len(v)))
	b = append(b, v...)
	q.end(appendOK(b, q.tag))
	return nil
}

func appendBlobHead(b, tag []byte, size int64) []byte {
	b = append(b, tag...)
	b = append(b, "BLOB "...)
	b = strconv.AppendInt(b, size, 10)
	return append(b, crlf...)
}

func (q *request) putRequest(value []byte) engine.PutRequest {
	r := engine.PutRequest{
		Key: q.cmd.key, Value: value, IfAbsent: q.cmd.ifAbsent,
		TTL: q.cmd.ttl, Expires: q.cmd.expires, WormTTL: q.cmd.wormTTL, WormUntil: q.cmd.wormUntil, Principal: string(q.cmd.name),
	}
	if q.cmd.hasVersion {
		r.IfVersion = &q.cmd.ifVersion
	}
	return r
}

func (q *request) keyPut(value []byte) error {
	version, err := q.sess.Put(q.ctx, q.putRequest(value))
	if err != nil {
		return err
	}
	q.written(version)
	return nil
}

// blobSet is keyPut of the payload. The memory of a large one goes to the engine, with its charge.
func (q *request) blobSet() error {
	if q.mem.mapped == nil {
		return q.keyPut(q.payload)
	}
	mem := q.mem
	q.payload, q.mem = nil, large{}
	r := q.putRequest(nil)
	r.Upload = engine.NewUpload(mem.mapped, mem.free)
	version, err := q.sess.Put(q.ctx, r)
	if err != nil {
		return err
	}
	q.written(version)
	return nil
}

func (q *request) keyDel() error {
	r := engine.DeleteRequest{Key: q.cmd.key}
	if q.cmd.hasVersion {
		r.IfVersion = &q.cmd.ifVersion
	}
	version, err := q.sess.Delete(q.ctx, r)
	if err != nil {
		return err
	}
	q.written(version)
	return nil
}

// written answers a write: with its version if the command's form asks for it and there is one, which inside a
// transaction there is not.
func (q *request) written(version uint64) {
	b := q.c.out.begin()
	if q.cmd.version && version != 0 {
		b = appendCount(b, q.tag, "VERSION:", version)
	}
	q.end(appendOK(b, q.tag))
}
