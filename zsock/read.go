package zsock

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// idleTick is how often a waiting reader looks whether its buffer is too large.
const idleTick = time.Second

// flushEvery is how many messages of one read are handled before what they caused
// is flushed: enough to share a system call, and few enough that the peers have
// something to do meanwhile. A hundred requests that travel as one wave keep one
// process busy at a time.
const flushEvery = 64

// maxInside is how many commands may come between the frames of one message. A
// peer's timer puts one there now and then; each one costs a copy of what follows.
const maxInside = 256

// desk is what a reader works with, one connection after another: a poller has one
// for all of its own, so that idle connections do without.
type desk struct {
	batch Batch
	msg   Msg
	spans []span // for scanners, between messages
}

// input is the reading half of a connection. Only the reader goroutine uses it.
//
// The message being received begins either at buf[r] or, when it is large, at
// big.b[0]: then it is collected there and buf is empty.
type input struct {
	scan    scanner
	desk    *desk // own, or the poller's
	scratch *slab // the poller's buffer, if it has one

	handled bool // something was parsed since the last pause; shared connections only

	buf    *slab
	size   int  // usable octets of buf
	r, w   int  // buf.b[r:w] is not yet parsed
	filled bool // the last read filled the buffer: take a larger one

	big   *slab
	bigW  int
	hint  int    // size of the last large message
	claim *claim // to the memory of the message, if that is much

	since   time.Time     // when the cut message was begun
	inside  int           // commands between its frames so far
	armed   bool          // a read deadline is set
	reads   atomic.Uint32 // reads that brought something; others may look
	atArmed uint32        // reads when the deadline was set

	sealer sealer
	clear  *clearText // if there is a sealer
}

func (in *input) init(cfg *Config, s sealer, rest []byte) {
	in.scan.maxMessage, in.scan.maxFrames = cfg.MaxMessage, cfg.MaxFrames
	in.sealer = s
	if s != nil {
		in.scan.single = true
		in.scan.maxMessage += int64(s.overhead())
		in.clear = &clearText{maxMessage: cfg.MaxMessage, maxFrames: cfg.MaxFrames}
	}
	in.resize(max(minBuffer, len(rest)))
	in.w = copy(in.buf.b, rest)
}

// free gives the buffers back.
func (in *input) free() {
	in.settle()
	if in.buf != nil {
		in.buf.release()
		in.buf = nil
	}
	if in.big != nil {
		in.big.release()
		in.big = nil
	}
	if in.clear != nil {
		in.clear.free()
	}
}

// resize moves what is not yet parsed to a buffer of at least n octets.
func (in *input) resize(n int) {
	next := newSlab(n)
	if in.buf != nil {
		in.w = copy(next.b, in.buf.b[in.r:in.w])
		in.r = 0
		in.buf.release()
	}
	in.buf, in.size = next, len(next.b)
}

// pending is the message being received, as far as it came.
func (in *input) pending() []byte {
	if in.big != nil {
		return in.big.b[:in.bigW]
	}
	if in.buf == nil {
		return nil // shared, with nothing left over
	}
	return in.buf.b[in.r:in.w]
}

// read is the reader: it parses everything it has, flushes what that caused to be
// sent, and reads more. It returns why the connection ends.
func (c *Conn) read() error {
	in := &c.in
	for {
		err := c.parse()
		if c.pauser != nil {
			c.pauser.Paused(&in.desk.batch, c)
		}
		in.desk.batch.Flush()
		if err != nil {
			return err
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// parse handles all whole messages and commands in the buffer. Now and then it
// flushes in between: a buffer full of tiny messages must not fill the queue of a
// peer that reads.
func (c *Conn) parse() error {
	in := &c.in
	for n := 1; ; n++ {
		if n%flushEvery == 0 {
			in.desk.batch.Flush()
		}
		if c.closed.Load() {
			return ErrClosed // the reason is noted already
		}
		p := in.pending()
		if len(p) == 0 {
			return nil
		}
		found, err := in.scan.scan(p)
		if err != nil {
			return c.refuse(err)
		}
		switch found {
		case cut:
			return c.cut()
		case command:
			f := in.scan.cmd
			if err := c.command(p[f.payload:f.end]); err != nil {
				return err
			}
			if in.remove(f); in.inside > maxInside {
				return fmt.Errorf("%w: more than %d commands inside one message", ErrProtocol, maxInside)
			}
		case whole:
			if err := c.whole(p[:in.scan.pos]); err != nil {
				return c.refuse(err)
			}
		}
	}
}

// refuse tells a handler that wants to know which message was beyond a limit. It
// returns err.
func (c *Conn) refuse(err error) error {
	r, ok := c.h.(Refuser)
	if !ok || !errors.Is(err, ErrTooBig) && !errors.Is(err, ErrTooManyFrames) {
		return err
	}
	wire, spans := c.in.pending(), c.in.scan.spans
	if t := c.in.clear; t != nil {
		wire, spans = t.wire, t.spans
	}
	if len(spans) > 0 {
		r.Refused(c, wire[spans[0].payload:spans[0].end])
	}
	return err
}

// whole hands the message in wire on and makes room for the next one.
func (c *Conn) whole(wire []byte) error {
	in := &c.in
	s := in.big
	rest := in.pending()[len(wire):]
	spans, size := in.scan.spans, in.scan.size
	if s != nil {
		// What was read behind a large message is short, and goes back to the buffer.
		in.big, in.hint = nil, min(len(wire)+overread, maxHint)
		in.r, in.w = 0, copy(in.buf.b, rest)
		defer s.release()
	} else {
		in.r += len(wire)
		s = in.large(wire)
	}
	in.since, in.inside = time.Time{}, 0
	var err error
	if in.sealer != nil {
		err = c.open(wire[spans[0].payload:])
	} else {
		in.settle()
		c.deliver(wire, s, spans, size)
	}
	in.scan.reset()
	return err
}

// deliver calls the handler with one message.
func (c *Conn) deliver(wire []byte, s *slab, spans []span, size int64) {
	if c.discard.Load() {
		return
	}
	m := &c.in.desk.msg
	m.set(wire, s, spans, size)
	if c.cfg.Type.publishes() && !isSubscription(m.frames) {
		c.tally.ignored.Add(1)
	} else {
		c.h.Message(&c.in.desk.batch, c, m)
	}
	m.clear()
}

// remove takes a handled command out of the message being received: a peer's timer
// may put one between two frames of a message.
func (in *input) remove(f span) {
	if in.big == nil && f.start == 0 {
		in.r += f.end
		in.since = time.Time{}
		return
	}
	in.inside++
	p := in.pending()
	n := copy(p[f.start:], p[f.end:])
	if in.big != nil {
		in.bigW = f.start + n
	} else {
		in.w = in.r + f.start + n
	}
}

// fill reads once, into the large message or into the buffer.
func (c *Conn) fill() error {
	in := &c.in
	for {
		if err := c.arm(); err != nil {
			return err
		}
		n, err := c.nc.Read(in.room())
		if n > 0 {
			in.took(n)
			return nil
		}
		if err == nil {
			continue
		}
		if !isTimeout(err) {
			return readError(err)
		}
		if err := c.late(); err != nil {
			return err
		}
	}
}

// room is where the next read goes. It grows the buffers with the octets that
// came, never with those that were announced; a large message has room, as cut saw to.
func (in *input) room() []byte {
	if in.big != nil {
		return in.big.b[in.bigW:min(len(in.big.b), in.scan.need+min(overread, in.size))]
	}
	if in.filled && in.size < maxBuffer {
		in.resize(min(4*in.size, maxBuffer))
	}
	in.filled = false
	switch {
	case in.r > 0 && in.held():
		in.resize(in.size) // what was parsed is not ours alone
	case in.r > 0:
		in.w = copy(in.buf.b, in.buf.b[in.r:in.w])
		in.r = 0
	}
	if in.w == in.size {
		in.resize(4 * in.size)
	}
	return in.buf.b[in.w:in.size]
}

// held tells whether somebody may hold a body that lies in the buffer. Nobody holds
// what came by way of the poller's.
func (in *input) held() bool { return in.buf != in.scratch && in.buf.refs.Load() > 1 }

// took notes that n octets came into room.
func (in *input) took(n int) {
	in.reads.Add(1)
	if in.claim != nil {
		in.claim.came.Add(int64(n))
	}
	if in.big != nil {
		in.bigW += n
		return
	}
	in.w += n
	in.filled = in.w == in.size
}

// arm sets a read deadline where one is needed: for a message that is cut, and to
// shrink a buffer that is too large for an idle connection. A deadline that is set
// stays: late looks at what it means when it passes, so that a busy connection
// sets one a second at most.
func (c *Conn) arm() error {
	in := &c.in
	cut := len(in.pending()) > 0
	if in.armed || !cut && in.size <= minBuffer {
		return nil
	}
	wait := idleTick
	if cut {
		wait = c.patience()
	}
	in.armed, in.atArmed = true, in.reads.Load()
	return c.setReadDeadline(time.Now().Add(wait))
}

// patience is how long the message that is cut may still take. Octets buy time:
// a slow link may bring a large message, and an octet now and then does not hold a
// connection.
func (c *Conn) patience() time.Duration {
	bought := time.Duration(len(c.in.pending())) * time.Second / minRate
	return c.cfg.ProgressTimeout + bought - time.Since(c.in.since)
}

// setReadDeadline does not overrule the deadlines of Close and linger.
func (c *Conn) setReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return ErrClosed
	}
	if !c.lingering {
		_ = c.nc.SetReadDeadline(t)
	}
	return nil
}

// late handles a read deadline that passed. Nil means: read on.
func (c *Conn) late() error {
	in := &c.in
	c.mu.Lock()
	over := c.lingering
	c.mu.Unlock()
	if over {
		return ErrClosed
	}
	in.armed = false
	if have := len(in.pending()); have > 0 {
		if !in.since.IsZero() && c.patience() <= 0 {
			return fmt.Errorf("%w: %d octets in %v", ErrProgress, have, time.Since(in.since).Round(time.Second))
		}
	} else if in.size > minBuffer && in.reads.Load() == in.atArmed {
		in.resize(minBuffer)
		in.filled = false
	}
	return c.setReadDeadline(time.Time{})
}

// readError gives a failed read its reason.
func readError(err error) error {
	if err == io.EOF {
		return ErrPeerClosed
	}
	if isGone(err) {
		return fmt.Errorf("%w: read: %w", ErrPeerClosed, err)
	}
	return fmt.Errorf("zsock: read: %w", err)
}
