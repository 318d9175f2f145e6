package zsock

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// Capacities that are pooled: eight to an octave, so that a held body takes at most
// an eighth more memory than it has octets, and what the runtime adds to round up.
// Larger slabs are left to the collector.
const (
	minSlab   = 128
	maxSlab   = 1152 << 10
	minOctave = 7 // bits of minSlab-1
)

var slabPools [8*(21-minOctave) + 1]sync.Pool

// slab is a buffer that is shared by reference: the message that was read into
// it, bodies that are held, and outbound queues each count one. The last release
// gives it back to its pool.
type slab struct {
	b     []byte // its length is its capacity
	refs  atomic.Int32
	class int16 // index into slabPools, -1 for slabs that are not pooled
}

// slabClass finds the smallest pooled capacity for n octets, which are at most maxSlab.
func slabClass(n int) (class, size int) {
	if n <= minSlab {
		return 0, minSlab
	}
	octave := bits.Len(uint(n - 1)) // size is in (1<<(octave-1), 1<<octave]
	shift := octave - 4
	steps := (n-1)>>shift - 7 // 1 to 8
	return 8*(octave-1-minOctave) + steps, (steps + 8) << shift
}

// newSlab returns a slab of at least n octets with one reference.
func newSlab(n int) *slab {
	if n > maxSlab {
		s := &slab{b: make([]byte, n), class: -1}
		s.refs.Store(1)
		return s
	}
	class, size := slabClass(n)
	s, _ := slabPools[class].Get().(*slab)
	if s == nil {
		b := slices.Grow([]byte(nil), size) // as much as the runtime sets aside for so many
		s = &slab{b: b[:cap(b)], class: int16(class)}
	}
	s.refs.Store(1)
	return s
}

// slabCost is the memory that a slab for n octets takes, nearly.
func slabCost(n int) int {
	if n > maxSlab {
		return n
	}
	_, size := slabClass(n)
	return size
}

// spare tells whether n octets keep a slab alive that is more than twice as large:
// then they are better copied than shared.
func (s *slab) spare(n int) bool { return len(s.b) > 2*n }

func (s *slab) retain() { s.refs.Add(1) }

func (s *slab) release() {
	switch n := s.refs.Add(-1); {
	case n > 0 || s.class < 0:
	case n < 0:
		panic("zsock: a body was released twice")
	default:
		slabPools[s.class].Put(s)
	}
}
