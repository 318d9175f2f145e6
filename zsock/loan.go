package zsock

import "runtime"

// Loan is the owner's side of frames that a connection writes from where they lie, in
// memory of the owner's, so that large ones need not be copied. [Conn.SendLoan] lends
// them, [Loan.End] takes them back at any time. The zero value is ready; it is for one
// goroutine at a time, and must not be copied.
type Loan struct {
	mark slab  // no memory of its own: counts the owner and who may read the frames
	conn *Conn // that may, or nil
}

// SendLoan is Send with frames behind head, at least one, that the connection may
// read until l ends: small ones are copied all the same, and so is everything where
// writing may take a goroutine of its own, or frames are sealed. An earlier use of l
// ends. The message has a number, as with [Conn.SendNumbered].
func (c *Conn) SendLoan(b *Batch, head, frames [][]byte, l *Loan) (number uint32, err error) {
	l.End()
	size, octets := measure(head)
	more, wire := measure(frames)
	size, octets = size+more, octets+wire
	if err := c.permits(size, len(head)+len(frames)); err != nil {
		return 0, err
	}
	c.mu.Lock()
	if c.sock == nil || c.sealer != nil {
		c.mu.Unlock()
		body := NewBody(frames...)
		defer body.Release()
		return c.SendNumbered(b, head, body)
	}
	defer c.mu.Unlock()
	if err := c.admit(octets); err != nil {
		return 0, err
	}
	c.octets += octets
	c.lend(head, frames, l)
	c.queued(b)
	return c.taken, nil
}

// lend appends a message in the clear, with references to its large frames.
func (c *Conn) lend(head, frames [][]byte, l *Loan) {
	l.conn, l.mark.class = c, -1
	l.mark.refs.Store(1)
	ch := c.chunk()
	for _, f := range head {
		ch.buf = appendFrame(ch.buf, flagMore, f)
	}
	for i, f := range frames {
		flags := byte(flagMore)
		if i == len(frames)-1 {
			flags = 0
		}
		ch.buf = appendHeader(ch.buf, flags, len(f))
		if len(f) < bigFrame {
			ch.buf = append(ch.buf, f...)
			continue
		}
		l.mark.retain()
		ch.bodies = append(ch.bodies, large{at: len(ch.buf), wire: f, slab: &l.mark})
	}
}

// End gives the frames back to their owner: what is not written yet is copied, so
// that the message still leaves as it was. It waits for a write that reads them just
// now, which is one that does not wait. It does nothing when nothing is lent.
func (l *Loan) End() {
	c := l.conn
	if c == nil {
		return
	}
	l.conn = nil
	if l.mark.refs.Load() == 1 {
		return // all of it is written, which is the rule
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.inside {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	if c.pending != nil {
		c.pending.recall(&l.mark, false)
	}
	if c.cur != nil {
		c.cur.recall(&l.mark, true)
	}
}

// recall puts copies in place of what the chunk has to write of lent memory; of a
// sealed chunk a part may be written.
func (ch *chunk) recall(mark *slab, sealed bool) {
	for i := range ch.bodies {
		b := &ch.bodies[i]
		if b.slab != mark {
			continue
		}
		left := &b.wire
		if sealed {
			left = ch.unwritten(b.wire)
		}
		b.slab = nil
		if left != nil {
			own := newSlab(len(*left))
			*left = own.b[:copy(own.b, *left)]
			b.slab = own
		}
		mark.release()
	}
}

// unwritten is the segment that is left of wire, or nil: it ends where wire does.
func (ch *chunk) unwritten(wire []byte) *[]byte {
	for i := range ch.segments {
		s := ch.segments[i]
		if &s[len(s)-1] == &wire[len(wire)-1] {
			return &ch.segments[i]
		}
	}
	return nil
}
