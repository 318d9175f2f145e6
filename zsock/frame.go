package zsock

import (
	"encoding/binary"
	"fmt"
)

// Flags of a frame (RFC 23).
const (
	flagMore    = 0x01
	flagLong    = 0x02
	flagCommand = 0x04
	flagsKnown  = flagMore | flagLong | flagCommand
)

const (
	maxHeader  = 9         // flags and an 8-octet length
	bigFrame   = 16 << 10  // from here on a frame is shared by reference, not copied
	maxCommand = 16 << 10  // octets of a command once the connection is open
	minRate    = 64 << 10  // octets per second that buy a message more time than ProgressTimeout
	minBuffer  = 1 << 10   // read buffer of an idle connection
	maxBuffer  = 64 << 10  // read buffer of a busy one
	maxChunk   = 256 << 10 // room for small octets that a pooled chunk keeps
	overread   = 4 << 10   // octets read behind a large message, to find the next header in the same read
	firstBig   = 72 << 10  // first buffer for a large message
	wholeFrom  = 1 << 20   // of a large message, after which its buffer is as large as it
	maxHint    = 1 << 20   // largest first buffer for a large message, after one that large came whole
)

// headerSize is the length of the header of a frame with n octets.
func headerSize(n int) int {
	if n > 255 {
		return maxHeader
	}
	return 2
}

// appendFrame appends header and payload in their shortest form.
func appendFrame(dst []byte, flags byte, payload []byte) []byte {
	return append(appendHeader(dst, flags, len(payload)), payload...)
}

func appendHeader(dst []byte, flags byte, n int) []byte {
	if n > 255 {
		dst = append(dst, flags|flagLong)
		return binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	return append(dst, flags, byte(n))
}

// nextFrame splits checked wire octets into the first frame's payload and the rest.
func nextFrame(wire []byte) (payload, rest []byte) {
	head, n := 2, int(wire[1])
	if wire[0]&flagLong != 0 {
		head, n = maxHeader, int(binary.BigEndian.Uint64(wire[1:]))
	}
	return wire[head : head+n], wire[head+n:]
}

// span is where a frame lies in the wire octets of its message.
type span struct{ start, payload, end int }

// progress is what a scan found.
type progress uint8

const (
	cut     progress = iota // the message goes on behind what was received
	whole                   // the message is complete; it ends at scanner.pos
	command                 // scanner.cmd is a complete command at scanner.pos
)

// scanner finds the frames of one message. It keeps its place, so that octets
// that come one by one are looked at once.
type scanner struct {
	maxMessage int64
	maxFrames  int
	single     bool // every frame stands alone: the frames are sealed boxes

	spans []span
	size  int64 // payload octets so far
	pos   int   // where the next header begins
	need  int   // after cut: octets of the message needed for the next step
	big   bool  // after cut: the frame that is cut is shared by reference
	more  bool  // after cut: it may not be the last one
	cmd   span  // after command
}

// reset makes s ready for the next message. Room for many frames is not kept.
func (s *scanner) reset() {
	s.spans, s.size, s.pos, s.need, s.big = s.spans[:0], 0, 0, 0, false
	if cap(s.spans) > 64 {
		s.spans = nil
	}
}

// scan looks at p, which begins with the first octet of the message. Its errors
// come from headers alone, before anything is allocated for what they announce.
func (s *scanner) scan(p []byte) (progress, error) {
	for {
		f, flags, err := s.header(p)
		if err != nil {
			return cut, err
		}
		if f.end > len(p) || f.payload == 0 {
			return cut, nil
		}
		if flags&flagCommand != 0 && !s.single {
			s.cmd = f
			return command, nil
		}
		s.spans = append(s.spans, f)
		s.size += int64(f.end - f.payload)
		s.pos = f.end
		if flags&flagMore == 0 || s.single {
			return whole, nil
		}
	}
}

// header reads and checks the header at s.pos. A zero payload position means that
// the header itself is cut.
func (s *scanner) header(p []byte) (f span, flags byte, err error) {
	rest := p[s.pos:]
	s.need, s.big, s.more = s.pos+2, false, true
	if len(rest) < 2 {
		return span{}, 0, nil
	}
	flags = rest[0]
	head, n := 2, uint64(rest[1])
	if flags&^byte(flagsKnown) != 0 {
		return span{}, 0, fmt.Errorf("%w: frame flags %02x", ErrProtocol, flags)
	}
	if flags&flagCommand != 0 && flags&flagMore != 0 {
		return span{}, 0, fmt.Errorf("%w: a command with the MORE flag", ErrProtocol)
	}
	if flags&flagLong != 0 {
		s.need = s.pos + maxHeader
		if len(rest) < maxHeader {
			return span{}, 0, nil
		}
		head, n = maxHeader, binary.BigEndian.Uint64(rest[1:])
	}
	if err := s.admit(flags, n); err != nil {
		return span{}, 0, err
	}
	f = span{start: s.pos, payload: s.pos + head, end: s.pos + head + int(n)}
	s.need, s.big, s.more = f.end, n >= bigFrame, flags&(flagMore|flagCommand) != 0 && !s.single
	return f, flags, nil
}

// admit holds a header against the limits.
func (s *scanner) admit(flags byte, n uint64) error {
	switch {
	case n>>63 != 0:
		return fmt.Errorf("%w: frame length %#x", ErrProtocol, n)
	case flags&flagCommand != 0 && !s.single:
		if n > maxCommand {
			return fmt.Errorf("%w: command of %d octets, limit %d", ErrTooBig, n, maxCommand)
		}
	case n > uint64(s.maxMessage-s.size):
		return fmt.Errorf("%w: %d octets announced, limit %d", ErrTooBig, uint64(s.size)+n, s.maxMessage)
	case len(s.spans) >= s.maxFrames:
		return fmt.Errorf("%w: limit %d", ErrTooManyFrames, s.maxFrames)
	}
	return nil
}
