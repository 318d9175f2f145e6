package zsock

import "fmt"

// clearText collects the opened frames of one message, in wire form again, so that
// what the handler sees does not depend on the connection's security.
type clearText struct {
	maxMessage int64
	maxFrames  int
	slab       *slab
	wire       []byte
	spans      []span
	size       int64
}

// open opens one sealed frame and delivers the message that it completes.
func (c *Conn) open(box []byte) error {
	in, t := &c.in, c.in.clear
	n := len(box) - in.sealer.overhead()
	if n < 0 {
		return fmt.Errorf("%w: box of %d octets", ErrSeal, len(box))
	}
	if err := c.charge(t.grown(headerSize(n) + n)); err != nil {
		return err
	}
	t.room(headerSize(n) + n)
	start := len(t.wire)
	payload := start + headerSize(n)
	flags, out, err := in.sealer.open(t.wire[:payload], box)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	if len(out) != payload+n || flags&^byte(flagMore|flagCommand) != 0 {
		return fmt.Errorf("%w: flags %02x, %d octets", ErrSeal, flags, len(out)-payload)
	}
	if flags&flagCommand != 0 {
		return c.command(out[payload:])
	}
	if t.size+int64(n) > t.maxMessage {
		return fmt.Errorf("%w: limit %d", ErrTooBig, t.maxMessage)
	}
	if len(t.spans) >= t.maxFrames {
		return fmt.Errorf("%w: limit %d", ErrTooManyFrames, t.maxFrames)
	}
	appendHeader(out[:start], flags, n) // in place, before the payload
	t.wire = out
	t.spans = append(t.spans, span{start: start, payload: payload, end: len(out)})
	t.size += int64(n)
	if flags&flagMore != 0 {
		return nil
	}
	in.settle()
	c.deliver(t.wire, t.shared(), t.spans, t.size)
	t.free()
	return nil
}

// room makes place for n more octets.
func (t *clearText) room(n int) {
	size := t.grown(n)
	if size == t.memory() {
		return
	}
	next := newSlab(size)
	copy(next.b, t.wire)
	if t.slab != nil {
		t.slab.release()
	}
	t.slab, t.wire = next, next.b[:len(t.wire)]
}

// grown is the size of the buffer with place for n more octets.
func (t *clearText) grown(n int) int {
	have := len(t.wire)
	if size := t.memory(); t.slab != nil && have+n <= size {
		return size
	}
	return max(have+n, min(have*3/2, int(t.maxMessage)))
}

// memory is the size of the buffer; of no clear text, too.
func (t *clearText) memory() int {
	if t == nil || t.slab == nil {
		return 0
	}
	return len(t.slab.b)
}

// shared is the buffer of the message if it is worth sharing.
func (t *clearText) shared() *slab {
	if len(t.wire) < bigFrame {
		return nil
	}
	return t.slab
}

// free forgets the message. Room for many frames is not kept.
func (t *clearText) free() {
	if t.slab != nil {
		t.slab.release()
	}
	t.slab, t.wire, t.spans, t.size = nil, nil, t.spans[:0], 0
	if cap(t.spans) > 64 {
		t.spans = nil
	}
}

// sealFrame appends one sealed frame to ch.
func (c *Conn) sealFrame(ch *chunk, flags byte, payload []byte) error {
	n := len(payload) + c.sealer.overhead()
	out, err := c.sealer.seal(appendHeader(ch.buf, 0, n), flags, payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	ch.buf = out
	return nil
}
