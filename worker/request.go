package worker

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

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

	ctx    requestContext
	link   *link
	token  uint64
	held   zsock.Body
	inline [4][]byte // room for Body

	// session.mu guards the following.
	state     requestState
	cancelled bool // CANCEL has come
	dropped   bool // the drain timed out: no answer is sent
}

type requestState uint8

const (
	arrived requestState = iota // read, not started
	running
	over
)

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
	s := r.link.s
	frames := zsock.NewBody(body...)
	defer frames.Release()
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
		err := r.link.answer(&b, r, mdp.Partial, nil, frames)
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

// requestContext is the context of one request. Most handlers never look at theirs,
// so what makes a context costly is made at the first use.
type requestContext struct {
	base     context.Context // for its values
	deadline time.Time       // zero: none

	mu sync.Mutex // guards the following
	// made is the real context, nil before the first use; stop ends it.
	made context.Context
	stop context.CancelCauseFunc
	// cause is why it ended, if it has before it was made.
	cause error
}

// Deadline implements context.Context.
func (c *requestContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *requestContext) Done() <-chan struct{} { return c.make().Done() }

// Err implements context.Context.
func (c *requestContext) Err() error { return c.make().Err() }

// Value implements context.Context; context.Cause looks at the cause through it.
func (c *requestContext) Value(key any) any { return c.make().Value(key) }

func (c *requestContext) make() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made
	}
	ctx, cancel := context.WithCancelCause(c.base)
	if c.cause != nil {
		cancel(c.cause)
	}
	c.made, c.stop = ctx, cancel
	if !c.deadline.IsZero() {
		timed, done := context.WithDeadline(ctx, c.deadline)
		c.made = timed
		c.stop = func(cause error) {
			cancel(cause)
			done()
		}
	}
	return c.made
}

// end cancels the context. Only the first cause counts.
func (c *requestContext) end(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
	}
	if c.stop != nil {
		c.stop(cause)
	}
}
