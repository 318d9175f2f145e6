package worker

import (
	"context"
	"sync"
	"time"
)

// requestContext is the context of one request. Most handlers never look at theirs,
// so what makes a context costly, channel and timer, is made when somebody asks for
// Done or Value.
type requestContext struct {
	base     context.Context // for its values
	deadline time.Time       // zero: none

	mu sync.Mutex // guards the following
	// made is the real context, nil before it is needed; stop ends it.
	made context.Context
	stop context.CancelCauseFunc
	// cause is why it ended, if it has before it was made.
	cause error
}

// Deadline implements context.Context.
func (c *requestContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *requestContext) Done() <-chan struct{} { return c.make().Done() }

// Value implements context.Context; context.Cause looks at the cause through it.
func (c *requestContext) Value(key any) any { return c.make().Value(key) }

// Err implements context.Context.
func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.made != nil:
		return c.made.Err()
	case c.cause == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		c.cause = context.DeadlineExceeded // said once, it stays
	}
	switch {
	case c.cause == nil:
		return nil
	case c.cause == context.DeadlineExceeded:
		return context.DeadlineExceeded
	}
	return context.Canceled
}

func (c *requestContext) make() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made
	}
	ctx, cancel := context.WithCancelCause(c.base)
	if c.cause != nil && c.cause != context.DeadlineExceeded {
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
