package zsock

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// maxTurns is how often one flush writes for others that go on sending, before it
// leaves the rest to a goroutine.
const maxTurns = 8

// heavy is how many messages a batch should hold at most.
const heavy = 8_192

// Batch collects the connections that were sent to since its last Flush. The zero
// value is ready; it is for one goroutine at a time.
//
// A connection is in one batch at a time: who sends to one that somebody else is
// about to flush leaves that to them. A batch that was sent with must therefore be
// flushed, soon.
type Batch struct {
	User any // the sender's, for what it needs with every message

	first  []*Conn // those that precede others
	dirty  []*Conn
	sent   int  // messages since the last Flush
	prompt bool // a poller's, which has seen all that came: it need not yield
}

// Add makes the next Flush of b write what waits for c by then, unless another
// batch is about to.
func (b *Batch) Add(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.mark(c)
}

// mark adds c if it is in no batch. Called with c.mu held.
func (b *Batch) mark(c *Conn) {
	if c.marked {
		return
	}
	c.marked = true
	if c.precedes {
		b.first = append(b.first, c)
	} else {
		b.dirty = append(b.dirty, c)
	}
}

// Heavy tells that so much was sent with b that it is better flushed before more is:
// all of it may be for one peer, whose queue is bounded.
func (b *Batch) Heavy() bool { return b.sent >= heavy }

// Flush writes what was sent with b, and whatever else waits for the same peers.
// It yields once, so that others can add to it: that is what turns many messages
// into few system calls. It never blocks: what the kernel does not take is
// finished by a goroutine that ends when it is done. Call it without locks.
func (b *Batch) Flush() {
	if len(b.first)+len(b.dirty) == 0 {
		return
	}
	if !b.prompt {
		runtime.Gosched()
	}
	b.FlushNow()
}

// FlushNow is Flush without yielding first: for what must not wait, and for who
// knows that nobody else has anything to add.
func (b *Batch) FlushNow() {
	b.first = flushed(b.first)
	b.dirty = flushed(b.dirty)
	b.sent = 0
}

// flushed writes to all conns and returns the room they took, empty.
func flushed(conns []*Conn) []*Conn {
	for i, c := range conns {
		conns[i] = nil
		c.flush()
	}
	if cap(conns) > 1024 {
		return nil
	}
	return conns[:0]
}

// load gives the next chunk to the writer, if there is one. Called with mu held by
// whoever is, or becomes, the writer.
func (c *Conn) load() bool {
	if c.cur != nil {
		return true
	}
	if c.pending == nil && len(c.pongs) == 0 {
		return false
	}
	ch := c.chunk()
	if len(c.pongs) > 0 {
		ch.pongs = append(ch.pongs[:0], c.pongs...)
		c.pongs = nil
	}
	c.pending = nil
	ch.seal()
	c.cur = ch
	return true
}

// flush writes without blocking until nothing waits, unless somebody writes
// already: then that one does it.
func (c *Conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marked = false // before anything is taken: what is sent from now on is somebody else's
	for turn := 0; !c.writing && !c.closed.Load() && c.load(); turn++ {
		c.writing = true
		if turn < maxTurns {
			c.inside = true
			c.mu.Unlock()
			n, err := c.writeNow()
			c.mu.Lock()
			c.inside = false
			if c.settle(n, err) {
				continue
			}
		}
		if c.writing {
			c.finishLater()
		} else if c.sock != nil {
			c.sock.release()
		}
		return
	}
	if !c.writing {
		c.caughtUp()
	}
}

// finishLater leaves what the kernel did not take to the poller, or to a goroutine.
// Called with mu held by the writer.
func (c *Conn) finishLater() {
	c.behind = true
	c.account()
	if c.sock != nil {
		c.sock.await(c)
		return
	}
	c.writers.Add(1)
	go c.drain()
}

// settle accounts for one write. It reports whether the chunk is done and the
// writer free to go; otherwise, if c.writing still holds, the rest must be drained.
func (c *Conn) settle(n int, err error) bool {
	c.cur.wrote(n)
	c.octets -= n
	if n > 0 {
		c.writes++
	}
	if err != nil || c.closed.Load() {
		c.retire()
		c.writing = false
		if err != nil && !c.closed.Load() {
			c.failOutput(err)
		}
		return false
	}
	if c.cur.octets > 0 {
		c.account()
		return false
	}
	c.retire()
	c.writing = false
	if c.shut && c.pending == nil && len(c.pongs) == 0 {
		c.linger()
	}
	return true
}

// retire gives the current chunk back, written or not.
func (c *Conn) retire() {
	if !c.cur.touched {
		c.unwritten += uint32(c.cur.messages)
	}
	c.messages -= c.cur.messages
	c.octets -= c.cur.octets
	c.account()
	c.cur.free()
	c.cur = nil
}

// failOutput ends a connection that cannot be written to. A peer that is gone may
// have said something before: the reader takes that first.
func (c *Conn) failOutput(err error) {
	if isTimeout(err) {
		c.closeLocked(fmt.Errorf("%w: nothing taken for %v", ErrWriteTimeout, c.cfg.WriteTimeout))
		return
	}
	if isGone(err) {
		err = fmt.Errorf("%w: write: %w", ErrPeerClosed, err)
	}
	c.shut = true
	c.because(err)
	c.dropPending()
	c.linger()
}

// drain finishes what the kernel did not take at once. It is the writer until
// nothing waits.
func (c *Conn) drain() {
	defer c.writers.Done()
	for {
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.cfg.WriteTimeout))
		var n int
		var err error
		if !c.closed.Load() { // looked at after the deadline was set: Close sets an earlier one
			n, err = c.writeWait()
		}
		if c.drained(n, err) {
			return
		}
	}
}

// drained settles a write of drain and reports whether drain is over.
func (c *Conn) drained(n int, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.settle(n, err) {
		return !c.writing
	}
	if c.closed.Load() || !c.load() {
		_ = c.nc.SetWriteDeadline(time.Time{})
		c.caughtUp()
		return true
	}
	c.writing = true
	return false
}

// writeNow writes what is taken without waiting.
func (c *Conn) writeNow() (int, error) {
	switch {
	case c.sock != nil:
		return c.writeShared()
	case c.raw != nil:
		return c.rawWrite(false)
	case c.try != nil:
		total := 0
		for _, p := range c.cur.segments {
			n, err := c.try.TryWrite(p)
			total += n
			if err != nil || n < len(p) {
				return total, err
			}
		}
		return total, nil
	default:
		return 0, nil
	}
}

// writeWait writes at least one octet, or fails; the write deadline bounds it.
func (c *Conn) writeWait() (int, error) {
	if c.raw != nil {
		return c.rawWrite(true)
	}
	p := c.cur.segments[0]
	return c.nc.Write(p[:min(len(p), maxBuffer)])
}

func (c *Conn) rawWrite(wait bool) (int, error) {
	r := c.raw
	r.wait, r.n, r.err = wait, 0, nil
	if err := r.conn.Write(r.write); err != nil {
		return r.n, err
	}
	return r.n, r.err
}

// writeRaw is what raw.write is bound to, once per connection, so that writing does
// not allocate. False means: wait until the descriptor can be written.
func (c *Conn) writeRaw(fd uintptr) bool {
	n, err := writeSegments(int(fd), c.cur.segments)
	if errors.Is(err, syscall.EAGAIN) {
		return !c.raw.wait
	}
	c.raw.n, c.raw.err = max(n, 0), err
	return true
}
