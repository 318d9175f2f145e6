package main

import (
	"net"
	"runtime"
	"sync"
)

// outbox collects what goes to one connection and writes it in few system calls, as
// the product's own transport does: so that a floor is a floor, and gearmand's
// client is not held back by ours. Writes block, in whoever writes.
type outbox struct {
	conn net.Conn

	mu      sync.Mutex
	pending []byte
	spare   []byte
	writing bool
}

// add appends parts as one.
func (o *outbox) add(parts ...[]byte) {
	o.mu.Lock()
	for _, p := range parts {
		o.pending = append(o.pending, p...)
	}
	o.mu.Unlock()
}

// flush yields once, so that others can add, then writes until nothing is left. If
// somebody else writes already, that one goes on with it.
func (o *outbox) flush() {
	runtime.Gosched()
	o.write()
}

func (o *outbox) write() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.writing {
		o.drain(nil)
	}
}

// through writes p itself, without copying it, if nothing waits and nobody writes.
// Otherwise it does nothing and reports false.
func (o *outbox) through(p []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing || len(o.pending) > 0 {
		return false
	}
	o.drain(p)
	return true
}

// drain writes p, then what waits, until nothing does. Called with mu held by whoever
// becomes the writer; it lets go of mu while it writes.
func (o *outbox) drain(p []byte) {
	o.writing = true
	for now := p; len(now) > 0 || len(o.pending) > 0; now = nil {
		if now == nil {
			now = o.pending
			o.pending, o.spare = o.spare[:0], nil
		}
		o.mu.Unlock()
		_, err := o.conn.Write(now)
		o.mu.Lock()
		if p == nil {
			o.spare = now
		}
		p = nil
		if err != nil {
			_ = o.conn.Close() // its reader sees it
			o.pending = nil
		}
	}
	o.writing = false
}
