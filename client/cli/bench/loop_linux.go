// SPDX-License-Identifier: AGPL-3.0-only

//go:build linux

package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// eventLoop drives many connections on one thread. Their descriptors are its own: taken from the runtime's poller, which
// would otherwise be woken for each reply as well.
type eventLoop struct {
	cl    *clock
	epoll int
	timer int // with a rate: readable when a request is due
	conns []*conn
	fds   []int // -1: closed
	want  []bool
	st    *stats
	open  int
	alarm int64 // when the timer is set to
	queue dueQueue
	cut   atomic.Bool
}

const (
	timerEvent = 1<<31 - 1
	haltPoll   = 50 // how often, in milliseconds, a silent loop looks whether it shall end
)

// canLoop tells whether an event loop can drive the connection.
func canLoop(nc net.Conn) bool {
	_, ok := nc.(interface{ File() (*os.File, error) })
	return ok
}

// driveLoops runs connections, shared out over event loops; cut ends it at once.
func driveLoops(cl *clock, conns []*conn, nets []net.Conn, workers int, cut <-chan struct{}) ([]*stats, error) {
	loops := make([]*eventLoop, min(workers, len(conns)))
	for i := range loops {
		l, err := newEventLoop(cl)
		if err != nil {
			return nil, err
		}
		defer l.close()
		loops[i] = l
	}
	for i, c := range conns {
		if err := loops[i%len(loops)].add(c, nets[i]); err != nil {
			return nil, err
		}
	}
	var wg, watcher sync.WaitGroup
	over := make(chan struct{})
	watcher.Go(func() {
		select {
		case <-cut:
			for _, l := range loops {
				l.cut.Store(true)
			}
		case <-over:
		}
	})
	errs := make([]error, len(loops))
	all := make([]*stats, len(loops))
	for i, l := range loops {
		all[i] = l.st
		wg.Go(func() { errs[i] = l.run() })
	}
	wg.Wait()
	close(over)
	watcher.Wait()
	return all, errors.Join(errs...)
}

func newEventLoop(cl *clock) (*eventLoop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &eventLoop{cl: cl, epoll: epoll, timer: -1, st: &stats{}}, nil
}

func (l *eventLoop) close() {
	for _, fd := range append(l.fds, l.timer, l.epoll) {
		if fd >= 0 {
			_ = unix.Close(fd) // nothing is buffered in it
		}
	}
}

// add takes a connection over; nc is closed.
func (l *eventLoop) add(c *conn, nc net.Conn) error {
	f, err := nc.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return err
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err = errors.Join(err, f.Close(), nc.Close()); err != nil {
		return err
	}
	l.fds = append(l.fds, fd)
	l.conns, l.want = append(l.conns, c), append(l.want, false)
	l.open++
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(len(l.conns) - 1)}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event)
}

func (l *eventLoop) run() error {
	buf := make([]byte, 256<<10)
	events := make([]unix.EpollEvent, 256)
	rated := len(l.conns) > 0 && l.conns[0].interval > 0
	if rated {
		var err error
		if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
			return fmt.Errorf("timer: %w", err)
		}
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: timerEvent}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.timer, &event); err != nil {
			return err
		}
	}
	l.queue.in = make([]bool, len(l.conns))
	for i := range l.conns {
		l.send(i, l.cl.now())
	}
	for l.open > 0 && !l.cut.Load() {
		if rated {
			if err := l.setAlarm(); err != nil {
				return err
			}
		}
		n, err := unix.EpollWait(l.epoll, events, haltPoll)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		halted := l.cl.halted.Load()
		completed := 0
		for _, e := range events[:max(n, 0)] {
			if e.Fd == timerEvent {
				_, _ = unix.Read(l.timer, buf[:8]) // only to make it unreadable again
				continue
			}
			completed += l.handle(int(e.Fd), buf, halted)
		}
		l.cl.total.Add(int64(completed))
		if rated {
			l.sendDue()
		}
		if halted || n <= 0 {
			l.sweep(halted)
		}
	}
	return nil
}

// handle reads what has come for connection i and sends what follows from it.
func (l *eventLoop) handle(i int, buf []byte, halted bool) (completed int) {
	if l.fds[i] < 0 {
		return 0
	}
	n, err := unix.Read(l.fds[i], buf)
	now := l.cl.now()
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
	case err == nil && n == 0:
		l.lose(i, io.ErrUnexpectedEOF)
		return 0
	case err != nil:
		l.lose(i, err)
		return 0
	default:
		if completed, err = l.conns[i].take(buf[:n], now, l.cl.from.Load(), l.st); err != nil {
			l.lose(i, err)
			return completed
		}
	}
	if halted {
		l.conns[i].finished = true
	}
	l.send(i, now)
	return completed
}

// send writes the requests that may be sent now.
func (l *eventLoop) send(i int, now int64) {
	c := l.conns[i]
	c.fill(now)
	for len(c.out) > 0 {
		n, err := unix.Write(l.fds[i], c.out)
		if n > 0 {
			l.st.sent(n, now, l.cl.from.Load())
			c.out = c.out[:copy(c.out, c.out[n:])]
		}
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			l.lose(i, err)
			return
		}
	}
	if blocked := len(c.out) > 0; blocked != l.want[i] {
		l.want[i] = blocked
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if blocked {
			event.Events |= unix.EPOLLOUT
		}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, l.fds[i], &event); err != nil {
			l.lose(i, err)
			return
		}
	}
	switch {
	case c.finished && c.running == 0:
		l.drop(i)
	case c.interval > 0 && !c.finished && c.running < c.depth:
		l.queue.push(i, c.due)
	}
}

// sweep ends the connections that are at rest when no more is sent.
func (l *eventLoop) sweep(halted bool) {
	now := l.cl.now()
	for i, c := range l.conns {
		c.finished = c.finished || halted
		if l.fds[i] >= 0 && c.finished {
			l.send(i, now)
		}
	}
}

// sendDue sends the requests whose time has come.
func (l *eventLoop) sendDue() {
	for now := l.cl.now(); len(l.queue.heap) > 0 && l.queue.heap[0].at <= now; {
		e := l.queue.pop()
		if l.fds[e.conn] >= 0 {
			l.send(e.conn, now)
		}
	}
}

// setAlarm sets the timer to when the next request is due.
func (l *eventLoop) setAlarm() error {
	if len(l.queue.heap) == 0 || l.queue.heap[0].at == l.alarm {
		return nil
	}
	l.alarm = l.queue.heap[0].at
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(l.alarm-l.cl.now(), 1))}
	if err := unix.TimerfdSettime(l.timer, 0, &spec, nil); err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	return nil
}

func (l *eventLoop) lose(i int, err error) {
	l.st.lose(l.cl, err)
	l.drop(i)
}

func (l *eventLoop) drop(i int) {
	_ = unix.Close(l.fds[i]) // nothing is buffered in it
	l.fds[i] = -1
	l.open--
}

// dueQueue is a heap of connections by when they may send next. A connection is in it at most once; one that has sent
// meanwhile comes out early and goes in again.
type dueQueue struct {
	heap []dueEntry
	in   []bool // by connection
}

type dueEntry struct {
	at   int64
	conn int
}

func (q *dueQueue) push(conn int, at int64) {
	if q.in[conn] {
		return
	}
	q.in[conn] = true
	h := append(q.heap, dueEntry{at, conn})
	for i := len(h) - 1; i > 0 && h[i].at < h[(i-1)/2].at; i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
	q.heap = h
}

func (q *dueQueue) pop() dueEntry {
	h := q.heap
	first := h[0]
	h[0] = h[len(h)-1]
	h = h[:len(h)-1]
	for i := 0; ; {
		least := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < len(h) && h[child].at < h[least].at {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	q.heap = h
	q.in[first.conn] = false
	return first
}

// peerPID is the process that listens at the other end of a Unix socket, 0 when it cannot be found out.
func peerPID(nc net.Conn) int {
	u, ok := nc.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	if err := raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	}); err != nil {
		return 0
	}
	return pid
}

// ownCPU is the CPU time that this process has used.
func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
