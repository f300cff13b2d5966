// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
)

const (
	etcdPut   = "/etcdserverpb.KV/Put"
	etcdRange = "/etcdserverpb.KV/Range"
)

// startEtcd runs an etcd of one member, without TLS. Its backend may grow to 8 GiB, so that no quota ends the run.
func startEtcd(ctx context.Context, env *environment) (peer, error) {
	dir, err := env.freshDir("etcd")
	if err != nil {
		return nil, err
	}
	clientPort, err := freePort()
	if err != nil {
		return nil, err
	}
	peerPort, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(clientPort)
	clientURL, peerURL := "http://"+addr, "http://127.0.0.1:"+strconv.Itoa(peerPort)
	p, err := start(dir, "etcd", "--name", "one", "--data-dir", dir+"/data", "--logger", "zap", "--log-level", "warn",
		"--listen-client-urls", clientURL, "--advertise-client-urls", clientURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "one="+peerURL,
		"--quota-backend-bytes", strconv.Itoa(8<<30))
	if err != nil {
		return nil, err
	}
	e := &server{env: env, process: p}
	e.dial = func(l load) (stepper, error) { return etcdStepper(addr, l, env.shape) }
	// It listens before it has elected itself, and then refuses what it is asked.
	ready := func() error {
		st, err := etcdStepper(addr, load{Kind: kindPut, Depth: 1}, env.shape)
		if err != nil {
			return err
		}
		_, err = st.step(newSource(env.seed, 0, 1, env.text))
		return errors.Join(err, st.close())
	}
	if err := p.await(ctx, ready); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	return e, nil
}

// etcdStepper hand-encodes the two requests, whose fields are all of fixed length, so that the load generator does as
// little for etcd as it does for the others.
func etcdStepper(addr string, l load, shape keyShape) (stepper, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &grpcStepper{shape: shape}
	path := etcdRange
	switch l.Kind {
	case kindGet: // RangeRequest{1: key}
		c.message, c.keyAt = bytesField(nil, 1, shape.len)
		c.answerMin = shape.len + valueLen
	case kindPut: // PutRequest{1: key, 2: value}
		path = etcdPut
		c.message, c.keyAt = bytesField(nil, 1, shape.len)
		c.message, c.valueAt = bytesField(c.message, 2, valueLen)
	default:
		return nil, errors.Join(fmt.Errorf("etcd has no %s", l.Kind), conn.Close())
	}
	if c.conn, err = newGRPCConn(conn, addr, path); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// bytesField appends a protobuf field of n zero bytes, below 128, and returns where these begin.
func bytesField(dst []byte, number byte, n int) ([]byte, int) {
	const lengthDelimited = 2
	if n > 127 {
		panic("field length needs two bytes")
	}
	dst = append(dst, number<<3|lengthDelimited, byte(n))
	return append(dst, make([]byte, n)...), len(dst)
}

// grpcStepper repeats one call.
type grpcStepper struct {
	conn           *grpcConn
	shape          keyShape
	message        []byte
	keyAt, valueAt int
	answerMin      int // a shorter message holds no value
}

func (c *grpcStepper) step(s *source) (int, error) {
	c.shape.put(c.message[c.keyAt:c.keyAt+c.shape.len], s.key())
	if c.valueAt != 0 {
		s.value(c.message[c.valueAt : c.valueAt+valueLen])
	}
	answer, err := c.conn.call(c.message)
	if err != nil {
		return 0, err
	}
	if len(answer) < c.answerMin {
		return 0, unexpected(answer)
	}
	if c.valueAt == 0 {
		key := c.message[c.keyAt : c.keyAt+c.shape.len]
		if !slices.Equal(key, answerKey(answer, len(key))) {
			return 0, unexpected(answer)
		}
	}
	return 1, nil
}

// answerKey finds the key in a RangeResponse{1: header, 2: KeyValue{1: key, ...}, ...} whose lengths are below 16 KiB.
func answerKey(m []byte, n int) []byte {
	skip := func(field byte) bool {
		if len(m) < 3 || m[0] != field<<3|2 {
			return false
		}
		if m[1] > 127 {
			m = m[1:]
		}
		return true
	}
	if !skip(1) {
		return nil
	}
	header := int(m[1])
	if len(m) < 2+header {
		return nil
	}
	if m = m[2+header:]; !skip(2) {
		return nil
	}
	if m = m[2:]; !skip(1) || len(m) < 2+n {
		return nil
	}
	return m[2 : 2+n]
}

func (c *grpcStepper) close() error { return c.conn.conn.Close() }
