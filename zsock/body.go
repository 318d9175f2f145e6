package zsock

// Body is a run of frames in wire form, the last one without MORE. It is a small
// value and is copied freely; what it points to is either borrowed (a body from
// [Msg.Body], valid until Handler.Message returns) or owned (from [NewBody] and
// [Body.Hold], valid until [Body.Release]). The zero value has no frames.
type Body struct {
	wire   []byte
	slab   *slab // where wire lives, when it can be shared by reference
	size   int
	frames int32
	owned  bool
}

// NewBody encodes frames into an owned body. The frames are copied.
func NewBody(frames ...[]byte) Body {
	if len(frames) == 0 {
		return Body{}
	}
	room, size := 0, 0
	for _, f := range frames {
		room += headerSize(len(f)) + len(f)
		size += len(f)
	}
	s := newSlab(room)
	wire := s.b[:0]
	for i, f := range frames {
		flags := byte(flagMore)
		if i == len(frames)-1 {
			flags = 0
		}
		wire = appendFrame(wire, flags, f)
	}
	return Body{wire: wire, slab: s, size: size, frames: int32(len(frames)), owned: true}
}

// Hold returns an owned body with the same frames: by reference where the octets
// live in a shared buffer that they fill at least half, else as a copy. The result
// is released on its own.
func (b Body) Hold() Body {
	if b.frames == 0 {
		return Body{}
	}
	if b.shares() {
		b.slab.retain()
		b.owned = true
		return b
	}
	s := newSlab(len(b.wire))
	b.wire = s.b[:copy(s.b, b.wire)]
	b.slab, b.owned = s, true
	return b
}

// shares tells whether Hold is by reference.
func (b Body) shares() bool { return b.slab != nil && !b.slab.spare(len(b.wire)) }

// Cost is the memory in octets that [Body.Hold] keeps, or kept: more than Size, as
// it counts headers and what is left of the buffer.
func (b Body) Cost() int {
	switch {
	case b.frames == 0:
		return 0
	case b.owned || b.shares():
		return len(b.slab.b)
	default:
		return slabCost(len(b.wire))
	}
}

// Release gives an owned body back; it and every copy of it are invalid from then
// on. It does nothing for borrowed and empty bodies.
func (b Body) Release() {
	if b.owned {
		b.slab.release()
	}
}

// Append appends the payloads to dst, as views that live as long as b.
func (b Body) Append(dst [][]byte) [][]byte {
	for rest := b.wire; len(rest) > 0; {
		var payload []byte
		payload, rest = nextFrame(rest)
		dst = append(dst, payload)
	}
	return dst
}

// Frames is the number of frames.
func (b Body) Frames() int { return int(b.frames) }

// Size is the number of payload octets.
func (b Body) Size() int { return b.size }

// Msg is a message that was received. It is reused: nothing of it is valid after
// Handler.Message returned.
type Msg struct {
	wire   []byte
	slab   *slab // set when the message lives in a shared buffer
	spans  []span
	frames [][]byte
	size   int
}

// Frames are the payloads, as views.
func (m *Msg) Frames() [][]byte { return m.frames }

// Size is the number of payload octets.
func (m *Msg) Size() int { return m.size }

// Body is the frames from i on, borrowed; empty if there are none.
func (m *Msg) Body(i int) Body {
	if i < 0 || i >= len(m.spans) {
		return Body{}
	}
	size := m.size
	for _, f := range m.spans[:i] {
		size -= f.end - f.payload
	}
	return Body{wire: m.wire[m.spans[i].start:], slab: m.slab, size: size, frames: int32(len(m.spans) - i)}
}

// Keep returns the frames from i on in memory that the caller owns: the buffer that
// the message was read into, where a body of theirs would be held by reference, else
// a copy. It is for those who have no moment at which to release a body.
func (m *Msg) Keep(i int) [][]byte {
	b := m.Body(i)
	switch {
	case b.frames == 0:
		return nil
	case b.shares():
		b.slab.retain() // for good: the collector gets it
		return append(make([][]byte, 0, b.frames), m.frames[i:]...)
	case b.frames == 1 && b.size <= smallKept:
		return keepSmall(m.frames[i])
	}
	frames, own := make([][]byte, b.frames), make([]byte, 0, b.size)
	for n, f := range m.frames[i:] {
		at := len(own)
		own = append(own, f...)
		frames[n] = own[at:len(own):len(own)]
	}
	return frames
}

// smallKept is the most, in octets, that is kept in one piece with its slice: together
// they fill one of the runtime's sizes.
const smallKept = 128 - 24

// keepSmall copies a frame with one allocation.
func keepSmall(f []byte) [][]byte {
	k := &struct {
		frames [1][]byte
		octets [smallKept]byte
	}{}
	n := copy(k.octets[:], f)
	k.frames[0] = k.octets[:n:n]
	return k.frames[:]
}

// set points m at the whole message wire with the frames in spans.
func (m *Msg) set(wire []byte, s *slab, spans []span, size int64) {
	m.wire, m.slab, m.spans, m.size = wire, s, spans, int(size)
	m.frames = m.frames[:0]
	for _, f := range spans {
		m.frames = append(m.frames, wire[f.payload:f.end:f.end])
	}
}

// clear forgets the message. Room for many frames is not kept.
func (m *Msg) clear() {
	m.wire, m.slab, m.spans, m.size = nil, nil, nil, 0
	clear(m.frames)
	if cap(m.frames) > 64 {
		m.frames = nil
	}
}

// NewMsg is a message of these frames, in memory of its own: what tests of a
// handler give it.
func NewMsg(frames ...[]byte) *Msg {
	m := &Msg{}
	var wire []byte
	var spans []span
	size := 0
	for i, f := range frames {
		flags := byte(flagMore)
		if i == len(frames)-1 {
			flags = 0
		}
		start := len(wire)
		wire = appendFrame(wire, flags, f)
		spans = append(spans, span{start: start, payload: len(wire) - len(f), end: len(wire)})
		size += len(f)
	}
	m.set(wire, nil, spans, int64(size))
	return m
}
