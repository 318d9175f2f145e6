package zsock

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// How often a poller reads from one connection before it looks after the others.
const (
	maxReads = 4
	// maxReadsAhead is the same for a handler that wants to see all there is before
	// it begins.
	maxReadsAhead = 16
)

// smallRest is the most of a cut message that is carried over to the next read by
// copying it.
const smallRest = 4 << 10

// readable reads what came and handles it. An error ends the connection.
func (c *Conn) readable() error {
	in, s := &c.in, c.sock
	reads := maxReads
	if c.pauser != nil {
		reads = maxReadsAhead
	}
	for range reads {
		in.attach()
		room := in.room()
		n, err := unix.Read(s.fd, room)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			in.detach()
			return nil
		case err != nil:
			return readError(err)
		case n == 0:
			return readError(io.EOF)
		}
		in.took(n)
		s.p.taken += n
		if err := c.handle(); err != nil || n < len(room) {
			return err
		}
	}
	return nil
}

// pause tells a handler that wants to know that it has seen all there was, or as
// much as one connection may bring at a time.
func (c *Conn) pause() {
	if in := &c.in; c.pauser != nil && in.handled {
		in.handled = false
		p := c.sock.p
		before := len(p.errands)
		c.pauser.Paused(&in.desk.batch, c)
		p.rouses = p.rouses || len(p.errands) == before
	}
}

// handle parses what was read, and sees to it that a cut message does not stay so.
func (c *Conn) handle() error {
	in, s := &c.in, c.sock
	in.attach()
	in.handled = in.handled || len(in.pending()) > 0
	err := c.parse()
	in.detach()
	if err != nil {
		return err
	}
	if len(in.pending()) == 0 {
		return nil
	}
	if in.armed {
		return nil // timeUp will look at what is cut then
	}
	in.armed = true
	s.alarm(c, c.patience())
	return nil
}

// alarm makes the loop look after c once d has passed.
func (s *sock) alarm(c *Conn, d time.Duration) {
	if s.timer == nil {
		s.timer = time.AfterFunc(d, func() { s.p.call(c) })
		return
	}
	s.timer.Reset(d)
}

// timeUp handles a call by one of the timers.
func (c *Conn) timeUp() error {
	in, s := &c.in, c.sock
	c.mu.Lock()
	over := c.lingering && !time.Now().Before(s.lingerBy)
	c.mu.Unlock()
	if over {
		return ErrClosed
	}
	if !in.armed || in.since.IsZero() {
		in.armed = false
		return nil
	}
	left := c.patience()
	if left <= 0 {
		return fmt.Errorf("%w: %d octets in %v", ErrProgress, len(in.pending()), time.Since(in.since).Round(time.Second))
	}
	s.alarm(c, left)
	return nil
}

// attach gives in a buffer to read into: the poller's, or, where large messages come
// one after another, one that a whole message fits into, to be shared by reference.
func (in *input) attach() {
	if in.scan.spans == nil {
		in.scan.spans, in.desk.spans = in.desk.spans, nil
	}
	switch {
	case in.buf == nil && in.big == nil && in.hint > 0:
		in.buf = newSlab(in.hint)
		in.size, in.r, in.w, in.filled = len(in.buf.b), 0, 0, false
		return
	case in.buf == in.scratch, in.buf != nil && (in.w-in.r > smallRest || in.big != nil):
		return
	}
	n := 0
	if in.buf != nil {
		n = copy(in.scratch.b, in.buf.b[in.r:in.w])
		in.buf.release()
	}
	in.scratch.retain()
	in.buf, in.size, in.r, in.w, in.filled = in.scratch, len(in.scratch.b), 0, n, false
}

// detach keeps only what was not parsed.
func (in *input) detach() {
	if in.buf == nil {
		return
	}
	rest := in.w - in.r
	switch {
	case rest == 0:
		if in.big == nil {
			in.desk.spans, in.scan.spans = in.scan.spans, nil
		}
		in.buf.release()
		in.buf, in.size, in.r, in.w = nil, 0, 0, 0
	case in.buf == in.scratch || in.size > 4*rest:
		n := rest
		if rest > smallRest { // the next read goes behind it
			n = max(rest+overread, min(4*rest, maxBuffer))
		}
		in.resize(n)
	}
}
