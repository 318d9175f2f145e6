package worker

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Request is what a Handler is given. It is valid until the handler returns, and so
// is the memory Body points to.
type Request struct {
	ID      mdp.RequestID // the same over retries: an idempotency key
	Service string
	Attempt int // from 1; above, the request may have run before
	Body    [][]byte

	ctx       requestContext
	token     uint64
	block     *block      // where a small Body lies
	large     *zsock.Body // where another one does
	inline    [2][]byte   // room for Body
	cancelled atomic.Bool // CANCEL has come while it ran

	// session.mu guards the following.
	state   requestState
	dropped bool     // the drain timed out: no answer is sent
	behind  *Request // the next one in the queue
	sibling *Request // the next one in a slot of the table
}

type requestState uint8

const (
	arrived requestState = iota // read, known to the reader only
	queued                      // waits for an executor
	running
	over
)

// batchOfRequests is how many are allocated together. They are not used again: a
// handler may leave its context to somebody who looks at it later.
const batchOfRequests = 16

// newRequest returns an empty request. Only the reader calls it.
func (l *link) newRequest() *Request {
	if len(l.fresh) == 0 {
		l.fresh = make([]Request, batchOfRequests)
	}
	r := &l.fresh[0]
	l.fresh = l.fresh[1:]
	r.ctx.link = l
	return r
}

// Bytes returns the body frames as one; a copy only if there are several.
func (r *Request) Bytes() []byte {
	switch len(r.Body) {
	case 0:
		return nil
	case 1:
		return r.Body[0]
	}
	return bytes.Join(r.Body, nil)
}

var errOver = errors.New("partial: the handler has returned")

// Partial sends a part of the answer ahead of the final. It may be called from any
// goroutine while the handler runs. It copies body; it waits, while the connection
// is full, until ctx ends. After an error the answer is not wanted any more.
func (r *Request) Partial(ctx context.Context, body ...[]byte) error {
	s := r.ctx.link.s
	var large zsock.Body
	defer func() { large.Release() }()
	size := sizeOf(body)
	if size >= byReference {
		large, body = zsock.NewBody(body...), nil
	}
	for pause := minSendPause; ; pause = min(2*pause, maxSendPause) {
		if err := r.ctx.Err(); err != nil {
			return context.Cause(&r.ctx)
		}
		var b zsock.Batch
		s.mu.Lock()
		if r.state != running {
			s.mu.Unlock()
			return errOver
		}
		err := error(zsock.ErrTooBig)
		if int64(size) <= r.ctx.link.limit.Load() {
			err = r.ctx.link.send(&b, append(s.text.final(r, mdp.Partial, nil), body...), large)
		}
		s.mu.Unlock()
		b.Flush()
		if !errors.Is(err, zsock.ErrHighWater) {
			if err == nil {
				s.w.counters.partials.Add(1)
			}
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}
