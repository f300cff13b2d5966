// SPDX-License-Identifier: AGPL-3.0-only

package socket

import "sync"

// workers runs tagged commands of all connections. A goroutine that has finished one waits for the next, so that its grown
// stack serves again; at most workersIdleMax wait, the rest end. Connections bound how many run.
type workers struct {
	running sync.WaitGroup

	mu   sync.Mutex
	idle []chan *request
	done bool
}

// run runs q on a goroutine of its own. Requires: stop was not called.
func (p *workers) run(q *request) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		work := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		work <- q // has room for one, and this goroutine alone holds it
		return
	}
	p.mu.Unlock()
	p.running.Go(func() { p.loop(q) })
}

func (p *workers) loop(q *request) {
	work := make(chan *request, 1)
	for q != nil {
		q.runTagged()
		p.mu.Lock()
		if p.done || len(p.idle) >= workersIdleMax {
			p.mu.Unlock()
			return
		}
		p.idle = append(p.idle, work)
		p.mu.Unlock()
		q = <-work // stop closes it
	}
}

// stop ends the goroutines that wait and waits for the others.
func (p *workers) stop() {
	p.mu.Lock()
	p.done = true
	for _, work := range p.idle {
		close(work)
	}
	p.idle = nil
	p.mu.Unlock()
	p.running.Wait()
}
