package zsock

import (
	"sync"
	"sync/atomic"
)

// slabSizes are the capacities that are pooled. Read buffers use 1, 4, 16 and
// 64 KiB; messages use the rest. Larger slabs are left to the collector.
var slabSizes = [...]int{256, 1 << 10, 4 << 10, 16 << 10, 32 << 10, 64 << 10, 72 << 10, 144 << 10, 288 << 10, 576 << 10, 1152 << 10}

var slabPools [len(slabSizes)]sync.Pool

// slab is a buffer that is shared by reference: the message that was read into
// it, bodies that are held, and outbound queues each count one. The last release
// gives it back to its pool.
type slab struct {
	b     []byte // its length is its capacity
	refs  atomic.Int32
	class int8 // index into slabSizes, -1 for slabs that are not pooled
}

// newSlab returns a slab of at least n octets with one reference.
func newSlab(n int) *slab {
	for class, size := range slabSizes {
		if n > size {
			continue
		}
		s, _ := slabPools[class].Get().(*slab)
		if s == nil {
			s = &slab{b: make([]byte, size), class: int8(class)}
		}
		s.refs.Store(1)
		return s
	}
	s := &slab{b: make([]byte, n), class: -1}
	s.refs.Store(1)
	return s
}

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
