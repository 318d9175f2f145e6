package client

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Call is one request. The Client does not change Body. It may read it until the call
// returns, also if that is early, for the end of a context; or, with Go, until the
// Pending is done.
type Call struct {
	Service string   // 1 to 255 octets
	Body    [][]byte // frames, none or more
	// Timeout is the total deadline, retries included; the context's deadline holds
	// too, if it is earlier. 0: the context's, or else Config.Timeout.
	Timeout time.Duration
	// Once: run at most once. Not retried when it may have run.
	Once bool
	// NoWait: mdp.NoWorker at once when no worker offers the service.
	NoWait bool
	// Detached: goes on when this client is gone or no longer waits; see Attach. The
	// call itself asks for its answer where it has lost its connection to the broker.
	Detached bool
	// Restartable: may be run anew after it has sent partials.
	Restartable bool
}

// Error is an error of one call. Inside are an *mdp.Error, or ErrClosed, or
// ErrNoBroker: use errors.Is(err, mdp.Busy) and errors.As.
type Error struct {
	Op      string        // "call", also of a stream, or "attach"
	Service string        // empty for attach
	ID      mdp.RequestID // names the request in logs; for Attach
	Err     error
}

// Error names operation and service.
func (e *Error) Error() string {
	if e.Service == "" {
		return e.Op + " " + e.ID.String() + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Service + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Call sends a request and waits for its answer. It is Do for the common case. The
// answer is the caller's for good.
func (c *Client) Call(ctx context.Context, service string, body ...[]byte) ([][]byte, error) {
	x, err := c.begin(ctx, mdp.Request, &Call{Service: service}, body, mdp.RequestID{}, nil)
	if err != nil {
		return nil, err
	}
	x.wait(ctx)
	answer, err := x.body.frames(), x.err
	c.recycle(x)
	return answer, err
}

// Do sends a request and waits for its answer: a Reply, or an *Error. Partials are
// collected, up to 10,000 and 64 MiB of them; use Stream for more.
func (c *Client) Do(ctx context.Context, call Call) (*Reply, error) {
	x, err := c.begin(ctx, mdp.Request, &call, call.Body, mdp.RequestID{}, nil)
	if err != nil {
		return nil, err
	}
	return c.await(ctx, x)
}

func (c *Client) await(ctx context.Context, x *exchange) (*Reply, error) {
	x.wait(ctx)
	defer c.recycle(x)
	if x.err != nil {
		return nil, x.err
	}
	return x.reply(), nil
}

// Stream sends a request and yields its partials as they come, then the final's
// body; or, last, an error. Leaving the loop early cancels the request. A reader
// that falls 10,000 partials or 64 MiB behind loses the request (mdp.TooBig).
// With Restartable, (nil, ErrRestarted) comes behind the partials of an attempt that
// another one has overtaken.
func (c *Client) Stream(ctx context.Context, call Call) iter.Seq2[[][]byte, error] {
	return func(yield func([][]byte, error) bool) {
		x, err := c.begin(ctx, mdp.Request, &call, call.Body, mdp.RequestID{}, streaming)
		if err != nil {
			yield(nil, err)
			return
		}
		over := false
		defer func() { // also when the loop's body panics
			if !over {
				c.abandon(x, x.id, mdp.Cancelled, context.Canceled)
				<-x.done
			}
			c.recycle(x)
		}()
		for !over {
			over = x.waitNews(ctx)
			for _, p := range x.takePartials() {
				if !yieldPartial(yield, p) {
					return
				}
			}
		}
		yield(x.body.frames(), x.err)
	}
}

// streaming prepares an exchange whose partials are taken as they come.
func streaming(x *exchange) {
	x.stream = true
	if x.news == nil {
		x.news = make(chan struct{}, 1)
	}
}

func yieldPartial(yield func([][]byte, error) bool, p [][]byte) bool {
	if p == nil {
		return yield(nil, ErrRestarted)
	}
	return yield(p, nil)
}

// Pending is a call made with Go. Reply and Err are valid once it is done.
type Pending struct {
	Call  Call
	ID    mdp.RequestID
	Reply *Reply
	Err   error

	done chan<- *Pending
	wait chan struct{}
	// Client.mu guards the following.
	over bool
	stop func() bool // of the context's AfterFunc
}

// Done is closed when the call is done; nil if a channel was given to Go.
func (p *Pending) Done() <-chan struct{} { return p.wait }

// Go sends a request and returns at once. When the call is done, the Pending is sent
// to done, which must have room for all calls made with it: without room nothing
// is sent (and it is counted), since the connection's reader never waits. With done
// == nil wait on Pending.Done. Sending is put together with other calls' sending.
func (c *Client) Go(ctx context.Context, call Call, done chan<- *Pending) *Pending {
	p := &Pending{Call: call, done: done}
	if done == nil {
		p.wait = make(chan struct{})
	} else if cap(done) == 0 {
		panic("client: Go needs a channel with a buffer")
	}
	// x is the table's as soon as begin returns: it may be over and in use again.
	x, err := c.begin(ctx, mdp.Request, &p.Call, p.Call.Body, mdp.RequestID{}, func(x *exchange) { x.pending = p })
	if err != nil {
		p.Err = err
		p.tell(c)
		return p
	}
	if ctx.Done() != nil {
		id := p.ID
		stop := context.AfterFunc(ctx, func() { c.abandon(x, id, statusOf(ctx), context.Cause(ctx)) })
		c.mu.Lock()
		defer c.mu.Unlock()
		if p.over {
			stop()
		} else {
			p.stop = stop
		}
	}
	return p
}

// tell tells who waits.
func (p *Pending) tell(c *Client) {
	if p.done == nil {
		close(p.wait)
		return
	}
	select {
	case p.done <- p:
	default:
		c.counters.unheard.Add(1)
	}
}

// deadline is when a call of this timeout ends for good.
func (c *Client) deadline(ctx context.Context, now instant, timeout time.Duration) instant {
	at, ok := ctx.Deadline()
	if timeout <= 0 {
		if ok {
			return c.instantOf(at, now)
		}
		timeout = c.cfg.Timeout
	}
	own := now + instant(min(timeout, time.Duration(never-now)))
	if ok {
		return min(own, c.instantOf(at, now))
	}
	return own
}

// instantOf is the instant that at is. One that has no monotonic reading, as a deadline
// that was read from a message, is held against the wall clock of now: since New that
// may have been set.
func (c *Client) instantOf(at time.Time, now instant) instant {
	if at == at.Round(0) {
		return now + min(instant(time.Until(at)), never-now)
	}
	return instant(at.Sub(c.epoch))
}

// wait blocks until the exchange is over, ending it itself when ctx does, unless the
// client's vigil will.
func (x *exchange) wait(ctx context.Context) {
	if x.watched || ctx.Done() == nil {
		<-x.done
		return
	}
	select {
	case <-x.done:
		return
	case <-ctx.Done():
	}
	x.c.abandon(x, x.id, statusOf(ctx), context.Cause(ctx))
	<-x.done
}

// waitNews blocks until there may be partials to take or the exchange is over.
func (x *exchange) waitNews(ctx context.Context) (over bool) {
	select {
	case <-x.done:
		return true
	case <-x.news:
		return false
	case <-ctx.Done():
	}
	x.c.abandon(x, x.id, statusOf(ctx), context.Cause(ctx))
	<-x.done
	return true
}

// takePartials takes what has come. A nil element stands for a restart.
func (x *exchange) takePartials() [][][]byte {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	partials := x.partials
	x.partials, x.partialSize = nil, 0
	return partials
}

// statusOf is what the end of ctx means, whatever its cause.
func statusOf(ctx context.Context) mdp.Status {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return mdp.Expired
	}
	return mdp.Cancelled
}

// abandonedError is what a call gets whose context ended.
func abandonedError(status mdp.Status, cause error, sent bool) error {
	return &endedError{mdp.Error{Status: status, Text: cause.Error(), MayHaveRun: sent}, cause}
}

// endedError is an *mdp.Error that also is its cause, such as context.Canceled.
type endedError struct {
	mdp   mdp.Error
	cause error
}

func (e *endedError) Error() string   { return e.mdp.Error() }
func (e *endedError) Unwrap() []error { return []error{&e.mdp, e.cause} }
