package worker

import (
	"sync"
	"sync/atomic"

	"github.com/mdmesh/mdmesh/zsock"
)

const (
	blockSize = 8 << 10
	// smallBody is the most that is copied to a block, in octets: a long request must
	// not hold much more memory than its own body. Larger ones are held one by one.
	smallBody = 2 << 10
)

// block is memory for the small bodies that arrive together: the requests they
// belong to and the link that fills it count one each.
type block struct {
	used int
	refs atomic.Int32
	b    [blockSize]byte
}

var blocks = sync.Pool{New: func() any { return new(block) }}

func (k *block) release() {
	if k.refs.Add(-1) == 0 {
		k.used = 0
		blocks.Put(k)
	}
}

// keep copies, or holds, the frames of r's body from first on. Only the reader calls
// it.
func (l *link) keep(r *Request, m *zsock.Msg, first int) {
	frames := m.Frames()[first:]
	size := 0
	for _, f := range frames {
		size += len(f)
	}
	r.Body = r.inline[:0]
	if size > smallBody {
		held := m.Body(first).Hold()
		r.large, r.Body = &held, held.Append(r.Body)
		return
	}
	if l.block == nil || size > blockSize-l.block.used {
		l.dropBlock()
		l.block = blocks.Get().(*block)
		l.block.refs.Store(1)
	}
	k := l.block
	k.refs.Add(1)
	r.block = k
	for _, f := range frames {
		end := k.used + copy(k.b[k.used:], f)
		r.Body = append(r.Body, k.b[k.used:end:end])
		k.used = end
	}
}

// dropBlock gives up the block that is being filled.
func (l *link) dropBlock() {
	if l.block != nil {
		l.block.release()
		l.block = nil
	}
}

// release gives the memory of r's body back.
func (r *Request) release() {
	if r.block != nil {
		r.block.release()
		r.block = nil
	}
	if r.large != nil {
		r.large.Release()
		r.large = nil
	}
}
