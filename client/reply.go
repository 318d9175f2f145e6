package client

import (
	"sync/atomic"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Reply is the answer to a call. The caller owns it, for as long as it likes.
type Reply struct {
	Body     [][]byte      // frames of the final
	Partials [][][]byte    // what came before it, from the attempt that answered
	ID       mdp.RequestID // of the request
	Attempt  int           // which attempt answered, from 1; 0 of a kept answer (see Attach)

	memory *memory // nil: the collector's alone
}

// Release gives the memory of the answer back, which large answers to come are read
// into: from 16 KiB on that spares the caller of many the collector's work. It is
// never needed. Afterwards Body and Partials are nil, and nothing that they pointed to
// may be used any more: it soon is another answer. Releasing a second time, a copy of
// the Reply, or a nil Reply does nothing.
func (r *Reply) Release() {
	if r == nil {
		return
	}
	r.Body, r.Partials = nil, nil
	if r.memory != nil && !r.memory.given.Swap(true) {
		r.memory.release()
	}
}

// memory is where the large bodies of a Reply lie. Copies of the Reply share it.
type memory struct {
	given    atomic.Bool
	final    zsock.Body
	partials []zsock.Body
}

func (m *memory) release() {
	m.final.Release()
	releaseAll(m.partials)
	m.final, m.partials = zsock.Body{}, nil
}

func releaseAll(bodies []zsock.Body) {
	for _, b := range bodies {
		b.Release()
	}
}

// answer is the body of a final or partial as it was read. A large one is held where
// it was read into, and may be released; a small one is the collector's.
type answer struct {
	small [][]byte
	large zsock.Body
}

// keep keeps the frames of m from first on.
func keep(m *zsock.Msg, first int) answer {
	if body := m.Body(first); body.Size() >= largeBody {
		return answer{large: body.Hold()}
	}
	return answer{small: m.Keep(first)}
}

// frames are the frames of a. A large one must not be released while they are used.
func (a answer) frames() [][]byte {
	if n := a.large.Frames(); n > 0 {
		return a.large.Append(make([][]byte, 0, n))
	}
	return a.small
}

// reply takes the outcome of x.
func (x *exchange) reply() *Reply {
	if x.body.large.Frames() == 0 && len(x.held) == 0 {
		return &Reply{Body: x.body.small, Partials: x.partials, ID: x.id, Attempt: int(x.answered)}
	}
	// All in one allocation.
	r := &struct {
		Reply
		memory memory
		frames [2][]byte
	}{}
	r.Reply = Reply{Body: x.body.small, Partials: x.partials, ID: x.id, Attempt: int(x.answered), memory: &r.memory}
	r.memory.final, r.memory.partials = x.body.large, x.held
	if x.body.large.Frames() > 0 {
		r.Body = x.body.large.Append(r.frames[:0])
	}
	x.held = nil
	return &r.Reply
}

// drop forgets the partials that have come, which nobody has seen.
func (x *exchange) drop() {
	releaseAll(x.held)
	x.partials, x.partialSize, x.held = nil, 0, nil
}
