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
	link     *link
	deadline time.Duration // since session.epoch; zero: none

	mu    sync.Mutex   // guards the following
	made  *madeContext // nil before it is needed
	cause error        // why it ended
}

// madeContext is the real one.
type madeContext struct {
	context.Context
	stop context.CancelCauseFunc
}

// Deadline implements context.Context.
func (c *requestContext) Deadline() (time.Time, bool) {
	if c.deadline == 0 {
		return time.Time{}, false
	}
	return c.link.s.epoch.Add(c.deadline), true
}

// Done implements context.Context.
func (c *requestContext) Done() <-chan struct{} { return c.make().Done() }

// Value implements context.Context; context.Cause looks at the cause through it.
func (c *requestContext) Value(key any) any { return c.make().Value(key) }

// Err implements context.Context.
func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made.Err()
	}
	if c.cause == nil && c.deadline != 0 && time.Since(c.link.s.epoch) >= c.deadline {
		c.cause = context.DeadlineExceeded // said once, it stays
	}
	switch c.cause {
	case nil, context.DeadlineExceeded:
		return c.cause
	}
	return context.Canceled
}

func (c *requestContext) make() *madeContext {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made
	}
	ctx, cancel := context.WithCancelCause(c.link.s.base)
	c.made = &madeContext{ctx, cancel}
	if c.cause != nil && c.cause != context.DeadlineExceeded {
		cancel(c.cause)
	}
	if deadline, ok := c.Deadline(); ok {
		timed, done := context.WithDeadline(ctx, deadline)
		c.made.Context = timed
		c.made.stop = func(cause error) {
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
	if c.made != nil {
		c.made.stop(cause)
	}
}
