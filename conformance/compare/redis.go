// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
)

// startRedis runs a Redis that syncs its log before it answers, with everything else that writes to the disk switched
// off: no dumps, and no rewriting of the log, which would run beside the measurement. That is the best that it can do.
func startRedis(ctx context.Context, env *environment) (peer, error) {
	dir, err := env.freshDir("redis")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "s")
	p, err := start(dir, "redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")
	if err != nil {
		return nil, err
	}
	r := &server{env: env, process: p}
	r.dial = func(l load) (stepper, error) { return redisStepper(socket, l, env.shape) }
	r.putBlob = func(size int) error { return putRedisBlob(socket, size, env.text) }
	if err := p.await(ctx, func() error { return pingRedis(socket) }); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	return r, nil
}

func pingRedis(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	_, err = readAtLeast(conn, make([]byte, len("+PONG\r\n")), []byte("+PONG\r\n"))
	return err
}

// bulk is the beginning of a RESP string of n bytes.
func bulk(n int) string { return "$" + strconv.Itoa(n) + "\r\n" }

func redisStepper(socket string, l load, shape keyShape) (stepper, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	switch l.Kind {
	case kindPut:
		r := requestText{
			before:  "*3\r\n$3\r\nSET\r\n" + bulk(shape.len),
			between: "\r\n" + bulk(valueLen), after: "\r\n", value: true,
		}
		return newExchange(conn, shape, l.Depth, r, "+OK\r\n", "", len("+OK\r\n")), nil
	case kindGet:
		r := requestText{before: "*2\r\n$3\r\nGET\r\n" + bulk(shape.len), between: "\r\n"}
		head := bulk(valueLen)
		return newExchange(conn, shape, l.Depth, r, head, "\r\n", len(head)+valueLen+len("\r\n")), nil
	case kindBlob:
		key, head := blobKey(l.Size), bulk(l.Size)
		request := "*2\r\n$3\r\nGET\r\n" + bulk(len(key)) + key + "\r\n"
		return newStream(conn, request, head, "\r\n", int64(len(head)+l.Size+len("\r\n")), 0), nil
	}
	return nil, errors.Join(fmt.Errorf("redis has no %s", l.Kind), conn.Close())
}

func putRedisBlob(socket string, size int, text []byte) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	key := blobKey(size)
	before := "*3\r\n$3\r\nSET\r\n" + bulk(len(key)) + key + "\r\n" + bulk(size)
	return sendBlob(conn, before, size, "\r\n", text, "+OK\r\n")
}

// installed tells whether a program is there to be compared with.
func installed(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
