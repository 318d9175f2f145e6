package zsock

import "sync"

// chunk is a piece of a connection's output: small octets in buf, with large
// bodies between them by reference. Chunks are pooled, so that a connection with
// nothing to send owns none.
type chunk struct {
	buf      []byte
	bodies   []large
	pongs    []byte
	segments [][]byte // what is left to write, once a writer took the chunk
	messages int
	sealed   int  // octets of PONGs in buf, which there are if the connection has a sealer
	octets   int  // what is left to write
	touched  bool // some of it was written
}

// large is a body that is written from where it lies, before buf[at:].
type large struct {
	at   int
	wire []byte
	slab *slab // nil when wire was given back
}

var chunkPool = sync.Pool{New: func() any { return new(chunk) }}

// free releases the bodies and gives the chunk back.
func (ch *chunk) free() {
	for i := range ch.bodies {
		if s := ch.bodies[i].slab; s != nil {
			s.release()
		}
	}
	clear(ch.bodies)
	clear(ch.segments)
	ch.buf, ch.bodies, ch.pongs, ch.segments = ch.buf[:0], ch.bodies[:0], ch.pongs[:0], ch.segments[:0]
	if cap(ch.buf) > maxChunk {
		ch.buf = nil
	}
	ch.messages, ch.sealed, ch.octets, ch.touched = 0, 0, 0, false
	chunkPool.Put(ch)
}

// seal lays the segments out for writing; nothing is added afterwards.
func (ch *chunk) seal() {
	add := func(p []byte) {
		if len(p) > 0 {
			ch.segments = append(ch.segments, p)
			ch.octets += len(p)
		}
	}
	add(ch.pongs)
	from := 0
	for _, b := range ch.bodies {
		add(ch.buf[from:b.at])
		add(b.wire)
		from = b.at
	}
	add(ch.buf[from:])
}

// wrote takes n written octets off.
func (ch *chunk) wrote(n int) {
	ch.octets -= n
	ch.touched = ch.touched || n > 0
	done := 0
	for n > 0 {
		first := ch.segments[done]
		if n < len(first) {
			ch.segments[done] = first[n:]
			break
		}
		n -= len(first)
		done++
	}
	if done > 0 {
		ch.segments = append(ch.segments[:0], ch.segments[done:]...)
	}
}

// Send queues one message: the frames of head, then those of body. It never
// blocks and does no I/O: head is copied, and so is body, or it is retained if it
// is large; the caller still owns what it owned. The message leaves when b is
// flushed. A message is taken whole or not at all.
//
// Errors: [ErrHighWater] if the peer's queue is full (an empty queue takes any
// permitted message), [ErrTooBig] and [ErrTooManyFrames] beyond the limits, and
// [ErrClosed].
//
// On Sub and XSub connections a single frame 01|prefix subscribes, 00|prefix
// cancels.
func (c *Conn) Send(b *Batch, head [][]byte, body Body) error {
	_, err := c.SendNumbered(b, head, body)
	return err
}

// SendNumbered is Send for who wants to know later whether the message was written:
// it returns what [Conn.Unwritten] calls the message.
func (c *Conn) SendNumbered(b *Batch, head [][]byte, body Body) (number uint32, err error) {
	size, octets := measure(head)
	size, octets = size+body.size, octets+len(body.wire)
	frames := len(head) + int(body.frames)
	if err := c.permits(size, frames); err != nil {
		return 0, err
	}
	if c.sealer != nil {
		octets += frames * (c.sealer.overhead() + maxHeader)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.admit(octets); err != nil {
		return 0, err
	}
	if c.sealer != nil {
		if err := c.sealMessage(head, body); err != nil {
			return 0, err
		}
	} else {
		c.octets += octets
		c.encode(head, body)
	}
	c.queued(b)
	return c.taken, nil
}

// measure is how many octets frames have, and how many in wire form.
func measure(frames [][]byte) (size, wire int) {
	for _, f := range frames {
		size += len(f)
		wire += headerSize(len(f))
	}
	return size, wire + size
}

// permits holds a message against the limits.
func (c *Conn) permits(size, frames int) error {
	switch {
	case int64(size) > c.cfg.MaxMessage:
		return ErrTooBig
	case frames == 0 || frames > c.cfg.MaxFrames:
		return ErrTooManyFrames
	}
	return nil
}

// admit tells whether the queue takes a message now. Behind a large one there is
// room for some small ones, beyond the mark: what says that something else did not
// fit should fit. How many messages wait says something of the peer only once the
// kernel was asked to take them. Called with mu held.
func (c *Conn) admit(octets int) error {
	switch {
	case c.shut:
		return ErrClosed
	case c.messages == 0:
		c.beyond = 0
	case c.behind && c.messages >= c.cfg.HighWaterMessages:
		return ErrHighWater
	case c.octets+octets <= c.cfg.HighWaterBytes && (!c.behind || c.cfg.Backlog.takes(octets)):
		c.beyond = 0
	case octets > smallMessage || c.beyond+octets > c.cfg.HighWaterBytes/reservePart:
		return ErrHighWater
	default:
		c.beyond += octets
	}
	return nil
}

const (
	smallMessage = 1 << 10 // octets of what the reserve is for
	reservePart  = 128     // of HighWaterBytes is the reserve: 64 KiB of 8 MiB
)

// queued counts a message that was appended. Called with mu held.
func (c *Conn) queued(b *Batch) {
	c.messages++
	c.pending.messages++
	c.taken++
	b.sent++
	c.account()
	b.mark(c)
}

// chunk is the chunk that takes what is sent now.
func (c *Conn) chunk() *chunk {
	if c.pending == nil {
		c.pending = chunkPool.Get().(*chunk)
	}
	return c.pending
}

// encode appends a message in the clear.
func (c *Conn) encode(head [][]byte, body Body) {
	ch := c.chunk()
	last := len(head) - 1
	if body.frames > 0 {
		last = -1
	}
	for i, f := range head {
		flags := byte(flagMore)
		if i == last {
			flags = 0
		}
		ch.buf = appendFrame(ch.buf, flags, f)
	}
	if len(body.wire) >= bigFrame && body.shares() {
		body.slab.retain()
		ch.bodies = append(ch.bodies, large{at: len(ch.buf), wire: body.wire, slab: body.slab})
		return
	}
	ch.buf = append(ch.buf, body.wire...)
}

// sealMessage appends a message frame by frame through the sealer. A sealer that
// fails half-way leaves a broken message behind: the connection ends.
func (c *Conn) sealMessage(head [][]byte, body Body) error {
	ch := c.chunk()
	before := len(ch.buf)
	left := len(head) + int(body.frames)
	put := func(payload []byte) error {
		left--
		flags := byte(flagMore)
		if left == 0 {
			flags = 0
		}
		return c.sealFrame(ch, flags, payload)
	}
	for _, f := range head {
		if err := put(f); err != nil {
			c.closeLocked(err)
			return err
		}
	}
	for rest := body.wire; len(rest) > 0; {
		var payload []byte
		payload, rest = nextFrame(rest)
		if err := put(payload); err != nil {
			c.closeLocked(err)
			return err
		}
	}
	c.octets += len(ch.buf) - before
	return nil
}

// dropPending forgets what no writer took yet.
func (c *Conn) dropPending() {
	if c.pending != nil {
		c.messages -= c.pending.messages
		c.unwritten += uint32(c.pending.messages)
		c.pending.free()
		c.pending = nil
	}
	c.pongs = nil
	c.octets = 0
	if c.cur != nil {
		c.octets = c.cur.octets
	}
	c.account()
}
