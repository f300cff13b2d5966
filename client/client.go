// SPDX-License-Identifier: AGPL-3.0-only

// Package client speaks the native protocol of Atlas.
//
// A Client has two kinds of connections. A few shared ones carry the small commands of any number of goroutines at once,
// each under a request id: writes are coalesced, one goroutine a connection reads and hands out the answers. Exclusive
// ones, taken from a pool for as long as they are needed, carry what is long or has state: values and blobs that stream,
// scans, sessions, transactions, watches.
//
//	c, err := client.Dial(ctx, client.Options{Address: "/run/atlas/socket"})
//	version, err := c.Put(ctx, "users.alice", []byte("hello"))
//	value, err := c.Get(ctx, "users.alice")
//	for row, err := range c.Scan(ctx, "users", client.ScanOptions{Values: true}) { ... }
//
// Every error that concerns the state of the data is of one of the protocol's classes, for errors.Is: ErrInvalid, ErrDenied,
// ErrNotFound, ErrConflict, ErrUnavailable (not applied), ErrUnknown (may have been applied), ErrTooLarge, ErrCorrupt. A
// write that was sent and not answered, for whatever reason, is ErrUnknown; the Client never sends it again. A read, or a
// write of which no byte left, is tried again once on another connection.
//
// A context bounds the waiting. When it ends, the command may still run; its late answer is dropped and the connection
// stays in use. Nothing a server sends can make the client panic or hold more memory than limits.go says.
//
// Goroutines: two for each shared connection, one for each dial in progress; Close ends and awaits them all.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atlas-edge/atlas/client/wire"
)

// Options configure Dial. Address is required; the zero value of the others means their default.
type Options struct {
	// Network is "unix" or "tcp". Default: "unix".
	Network string
	// Address is a socket's path, or host:port.
	Address string
	// TLS, when set, encrypts; Network must be "tcp".
	TLS *tls.Config
	// ClientID names this client to the server: 1 to 256 printable bytes. Default: "atlas-go".
	ClientID string
	// Principal is assumed on each connection. Default: none.
	Principal string
	// Secret proves Principal, with PRINCIPAL AUTH. Empty: PRINCIPAL ASSUME, which a server grants to its own user.
	Secret string
	// Consistency is set on each connection: "STRONG", "BOUNDED <duration>" or "LOCAL". Default: the server's, STRONG.
	Consistency string
	// PoolSize is the count of shared connections, 1 to 64. Default: 2. More help only when one core cannot read fast enough.
	PoolSize int
	// ExclusiveMax bounds the exclusive connections, 1 to 1,024; a caller past it waits. Default: 64.
	ExclusiveMax int
	// InFlightMax bounds the commands in flight on one shared connection, 1 to 1,024 (the server's own bound); a caller past
	// it waits. Default: 1,024.
	InFlightMax int
	// DialTimeout bounds connecting and the handshake. Default: 10 s.
	DialTimeout time.Duration
	// BackOffMax bounds the pause before the next try to connect after failures. Default: 2 s.
	BackOffMax time.Duration
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	setDefault(&o.Network, "unix")
	setDefault(&o.ClientID, "atlas-go")
	setDefault(&o.PoolSize, 2)
	setDefault(&o.ExclusiveMax, 64)
	setDefault(&o.InFlightMax, inFlightMax)
	setDefault(&o.DialTimeout, 10*time.Second)
	setDefault(&o.BackOffMax, 2*time.Second)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports everything that is wrong with o.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Network == "unix" || o.Network == "tcp", "network %q is neither unix nor tcp", o.Network)
	check(o.Address != "", "address is empty")
	check(o.Network != "unix" || len(o.Address) <= unixPathMax, "socket path of %d bytes exceeds the system's limit %d", len(o.Address), unixPathMax)
	check(o.TLS == nil || o.Network == "tcp", "TLS needs network tcp")
	check(wire.Token(o.ClientID), "client id %q must be printable, without blanks, 1 to 256 bytes", o.ClientID)
	check(o.Principal == "" || validWord(o.Principal), "principal %q must be printable and without blanks", o.Principal)
	check(o.Secret == "" || o.Principal != "", "a secret needs a principal")
	check(wire.Text([]byte(o.Secret)), "the secret holds control characters")
	check(wire.Text([]byte(o.Consistency)), "consistency %q holds control characters", o.Consistency)
	check(o.PoolSize >= 1 && o.PoolSize <= 64, "pool size %d is not within 1 to 64", o.PoolSize)
	check(o.ExclusiveMax >= 1 && o.ExclusiveMax <= 1024, "exclusive connections %d are not within 1 to 1024", o.ExclusiveMax)
	check(o.InFlightMax >= 1 && o.InFlightMax <= inFlightMax, "in-flight bound %d is not within 1 to %d", o.InFlightMax, inFlightMax)
	check(o.DialTimeout > 0, "dial timeout %v is not positive", o.DialTimeout)
	check(o.BackOffMax > 0, "back-off %v is not positive", o.BackOffMax)
	return errors.Join(errs...)
}

// identity is what a connection is told after the handshake.
type identity struct {
	principal, secret, consistency string
	generation                     uint64 // counts the changes
}

// Client is a pool of connections to one server. For concurrent use.
type Client struct {
	commands
	opts  Options
	lanes []*lane
	turn  atomic.Uint32
	who   atomic.Pointer[identity]

	stop      context.Context // ends with Close
	cancel    context.CancelFunc
	exclusive chan struct{} // a token for each exclusive connection in use or idle
	wg        sync.WaitGroup

	mu     sync.Mutex
	closed bool
	idle   []*rawConn            // the most recently used last
	open   map[*rawConn]struct{} // every connection, for Close
}

// Dial connects: it returns once the server has greeted and accepted the principal.
func Dial(ctx context.Context, o Options) (*Client, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, &Error{Class: wire.Invalid, Text: "client options", Cause: err}
	}
	c := &Client{opts: o, exclusive: make(chan struct{}, o.ExclusiveMax), open: make(map[*rawConn]struct{})}
	c.commands.x = c
	c.stop, c.cancel = context.WithCancel(context.Background())
	c.who.Store(&identity{principal: o.Principal, secret: o.Secret, consistency: o.Consistency})
	for range o.PoolSize {
		c.lanes = append(c.lanes, &lane{client: c})
	}
	if _, err := c.lanes[0].get(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close closes every connection, also those that sessions, scans and watches use, and waits for its goroutines. Commands in
// flight end with ErrUnavailable or ErrUnknown.
func (c *Client) Close() error {
	c.cancel()
	c.mu.Lock()
	c.closed = true
	c.idle = nil
	open := make([]*rawConn, 0, len(c.open))
	for rc := range c.open {
		open = append(open, rc)
	}
	c.mu.Unlock()
	for _, rc := range open {
		rc.close()
	}
	c.wg.Wait()
	return nil
}

// exec sends a command on a shared connection, or, when it is large, on an exclusive one, and waits for its answer.
func (c *Client) exec(ctx context.Context, cl *call) error {
	if cl.err != nil {
		return cl.err
	}
	if len(cl.out)+len(cl.body) > sharedLenMax {
		return c.execExclusive(ctx, cl)
	}
	for try := 0; ; try++ {
		conn, err := c.pick().get(ctx)
		if err != nil {
			return err
		}
		err = conn.exec(ctx, cl)
		var lost *lostError
		if !errors.As(err, &lost) {
			return err
		}
		if try > 0 || cl.write && lost.sent || ctx.Err() != nil || c.stop.Err() != nil {
			return lost.classify(cl)
		}
		cl.clearReply()
	}
}

func (c *Client) execExclusive(ctx context.Context, cl *call) error {
	rc, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	err = rc.roundTrip(ctx, cl)
	c.giveBack(rc)
	return err
}

func (c *Client) pick() *lane {
	return c.lanes[int(c.turn.Add(1))%len(c.lanes)]
}

// acquire takes an exclusive connection: an idle one that still lives, else a new one.
func (c *Client) acquire(ctx context.Context) (*rawConn, error) {
	if c.stop.Err() != nil {
		return nil, errClosed()
	}
	select {
	case c.exclusive <- struct{}{}:
	case <-ctx.Done():
		return nil, cancelled(ctx)
	case <-c.stop.Done():
		return nil, errClosed()
	}
	for {
		c.mu.Lock()
		n := len(c.idle)
		var rc *rawConn
		if n > 0 {
			rc, c.idle = c.idle[n-1], c.idle[:n-1]
		}
		c.mu.Unlock()
		if rc == nil {
			break
		}
		if rc.generation == c.who.Load().generation && wire.Idle(rc.nc) {
			return rc, nil
		}
		c.drop(rc)
	}
	rc, err := c.dial(ctx, c.who.Load())
	if err != nil {
		<-c.exclusive
		return nil, err
	}
	return rc, nil
}

// giveBack returns what acquire gave. A connection that is broken, or has state of its own, is closed.
func (c *Client) giveBack(rc *rawConn) {
	keep := rc.broken == nil && !rc.stateful && rc.r.Buffered() == 0 && rc.generation == c.who.Load().generation
	if keep {
		c.mu.Lock()
		keep = !c.closed && len(c.idle) < idleMax
		if keep {
			c.idle = append(c.idle, rc)
		}
		c.mu.Unlock()
	}
	if !keep {
		c.drop(rc)
	}
	<-c.exclusive
}

func (c *Client) drop(rc *rawConn) {
	rc.close()
	c.mu.Lock()
	delete(c.open, rc)
	c.mu.Unlock()
}

// dial connects, greets and tells the server who we are.
func (c *Client) dial(ctx context.Context, who *identity) (*rawConn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	defer cancel()
	defer context.AfterFunc(c.stop, cancel)()
	rc, err := connect(ctx, &c.opts, who)
	if err != nil {
		var e *Error
		switch {
		case c.stop.Err() != nil:
			err = errClosed()
		case !errors.As(err, &e):
			err = &Error{Class: wire.Unavailable, Text: "connect to " + c.opts.Address, Cause: err}
		}
		return nil, err
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.open[rc] = struct{}{}
	}
	c.mu.Unlock()
	if closed {
		rc.close()
		return nil, errClosed()
	}
	return rc, nil
}

// become changes who the client is, once the server has accepted it: commands begun after it returned run as that.
func (c *Client) become(ctx context.Context, change func(*identity)) error {
	current := c.who.Load()
	next := *current
	next.generation++
	change(&next)
	if err := checkPrincipal(next.principal, next.secret); err != nil {
		return err
	}
	select {
	case c.exclusive <- struct{}{}:
	case <-ctx.Done():
		return cancelled(ctx)
	case <-c.stop.Done():
		return errClosed()
	}
	rc, err := c.dial(ctx, &next)
	if err != nil {
		<-c.exclusive
		return err
	}
	swapped := c.who.CompareAndSwap(current, &next)
	c.giveBack(rc)
	if !swapped {
		return &Error{Class: wire.Conflict, Text: "the client's identity was changed by another goroutine meanwhile"}
	}
	for _, l := range c.lanes {
		l.retire()
	}
	return nil
}

func checkPrincipal(name, secret string) error {
	if name != "" && !validWord(name) || !wire.Text([]byte(secret)) {
		return &Error{Class: wire.Invalid, Text: "principal and secret must be printable, and the name without blanks"}
	}
	return nil
}
