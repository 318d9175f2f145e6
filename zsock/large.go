package zsock

import "time"

// cut sees to it that there is room for more of the message, in a buffer of its own
// if it is a large one.
func (c *Conn) cut() error {
	in := &c.in
	if in.since.IsZero() {
		in.since = time.Now()
	}
	switch {
	case in.big != nil:
	case !in.scan.big && in.scan.need <= maxBuffer:
		return nil
	case in.scratch != nil && in.buf != in.scratch && in.r == 0 && len(in.buf.b) >= min(in.scan.need, firstBig):
		in.big, in.bigW = in.buf, in.w // it is in a buffer of its own already
		in.buf, in.size, in.w, in.filled = nil, 0, 0, false
		if err := c.charge(len(in.big.b) + in.clear.memory()); err != nil {
			return err
		}
	default:
		// The first buffer is small whatever is announced, unless this peer has already
		// sent a message as large.
		return c.enlarge(max(len(in.pending())+overread, min(in.scan.need+overread, max(firstBig, in.hint))))
	}
	if in.bigW < len(in.big.b) {
		return nil
	}
	return c.enlarge(in.grown())
}

// grown is the size of the next buffer for a large message: four times what came, or
// all of it if that is less. When as much as wholeFrom came it is all of it at once,
// so that a message of any size is copied out of small buffers only, and leaves
// little garbage. What is not written yet takes no memory, unless the runtime has to
// clear what was used before; that is what the budget is for. Where more frames follow,
// there is room for half as much again: there must not be a copy for each of them.
func (in *input) grown() int {
	n := in.scan.need + overread
	if in.bigW < wholeFrom {
		n = min(n, 4*in.bigW)
	}
	if in.scan.more {
		n = max(n, int(min(int64(in.bigW)*3/2, in.scan.maxMessage)))
	}
	return n
}

// enlarge moves the message that is cut to a buffer of n octets.
func (c *Conn) enlarge(n int) error {
	in := &c.in
	if err := c.charge(n + in.clear.memory()); err != nil {
		return err
	}
	next, p := newSlab(n), in.pending()
	copy(next.b, p)
	if in.big != nil {
		in.big.release()
		in.big = next
		return nil
	}
	in.big, in.bigW = next, len(p)
	in.r, in.w, in.filled = 0, 0, false
	if in.size < overread {
		in.resize(overread) // what is read behind the message must fit
	}
	return nil
}

// large returns the buffer of a message if it was read into one that can be shared,
// and foresees the next one.
func (in *input) large(wire []byte) *slab {
	if in.scratch == nil || in.buf == in.scratch || len(wire) < bigFrame {
		in.hint = 0
		return nil
	}
	in.hint = min(len(wire)+overread, maxHint)
	return in.buf
}
