package client

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Bounds on partials that wait for their reader.
const (
	maxPartials    = 10_000
	maxPartialSize = 64 << 20
)

// state is where an exchange stands.
type state uint8

const (
	idle    state = iota // not in the table
	waiting              // for a link
	sent                 // on exchange.link, unanswered
	pausing              // refused for now; sent again at exchange.again
)

// slot is one place of the table. A token is its generation (upper half) and index,
// so an answer finds its exchange by indexing, and a late one finds nothing.
type slot struct {
	generation uint32
	x          *exchange
}

// exchange is one request and what becomes of it. It is reused: blocking calls give
// it back with recycle, those of Go are given back by finish.
type exchange struct {
	c     *Client
	timer *time.Timer   // runs due
	done  chan struct{} // capacity 1: gets one value when the exchange ends
	news  chan struct{} // capacity 1, of Stream: partials came
	batch zsock.Batch   // of the caller

	// Client.mu guards the following while the exchange is in the table, and state
	// always: timers and contexts of an earlier use may still look at it.
	state    state
	call     Call
	service  []byte // call.Service
	kind     mdp.Kind
	id       mdp.RequestID
	deadline time.Time
	stream   bool
	pending  *Pending
	index    uint32
	link     *link
	attempt  uint16
	mayRun   bool      // an earlier attempt was sent and may have run
	refusals int       // answers that asked to try again
	again    time.Time // while pausing
	answered uint16    // attempt of the last answer

	partials    [][][]byte
	partialSize int
	restarts    bool // a partial has come from attempt answered

	// The outcome.
	body [][]byte
	err  error
}

func newExchange(c *Client) *exchange {
	x := &exchange{c: c, done: make(chan struct{}, 1)}
	x.timer = time.AfterFunc(time.Hour, x.due)
	x.timer.Stop()
	return x
}

// begin puts a new exchange into the table and sends it, or lets it wait for a
// link. id is zero for a new request. prepare, if any, runs before it is sent.
func (c *Client) begin(ctx context.Context, kind mdp.Kind, call *Call, id mdp.RequestID, prepare func(*exchange)) (*exchange, error) {
	if id == (mdp.RequestID{}) {
		copy(id[:], process.prefix[:])
		binary.BigEndian.PutUint64(id[8:], process.requests.Add(1))
	}
	if kind == mdp.Request && (call.Service == "" || len(call.Service) > mdp.MaxService) {
		return nil, callError(kind, call.Service, id, mdp.Errorf(mdp.BadRequest, "a service name has 1 to %d octets", mdp.MaxService))
	}
	if ctx.Err() != nil {
		return nil, callError(kind, call.Service, id, abandonedError(context.Cause(ctx), false))
	}
	x := c.exchanges.Get().(*exchange)
	if prepare != nil {
		prepare(x)
	}
	b := &x.batch
	async := x.pending != nil
	now := time.Now() // once: looking at the clock is what costs here
	deadline := c.deadline(ctx, now, call.Timeout)
	c.mu.Lock()
	if err := c.enter(x); err != nil {
		c.mu.Unlock()
		c.recycle(x)
		return nil, callError(kind, call.Service, id, err)
	}
	x.call, x.kind, x.id, x.deadline, x.attempt = *call, kind, id, deadline, 1
	x.service = append(x.service[:0], call.Service...)
	x.timer.Reset(deadline.Sub(now))
	if async {
		x.pending.ID = id
		b = c.async
	}
	c.submit(x, b, now)
	c.mu.Unlock()
	if !async {
		b.Flush()
		return x, nil
	}
	select {
	case c.flushes <- struct{}{}:
	default: // the flusher is about to run
	}
	return x, nil
}

// enter finds x a slot. Callers hold mu.
func (c *Client) enter(x *exchange) error {
	if c.closed {
		return ErrClosed
	}
	c.start()
	if n := len(c.free); n > 0 {
		x.index = c.free[n-1]
		c.free = c.free[:n-1]
	} else if len(c.slots) < c.cfg.MaxCalls {
		x.index = uint32(len(c.slots))
		c.slots = append(c.slots, slot{})
	} else {
		return mdp.Errorf(mdp.Busy, "this client has %d calls outstanding", c.cfg.MaxCalls)
	}
	c.slots[x.index].x = x
	x.state = waiting
	c.counters.calls.Add(1)
	return nil
}

// submit sends x on the active link or lets it wait for one. Callers hold mu.
func (c *Client) submit(x *exchange, b *zsock.Batch, now time.Time) {
	x.state, x.link = waiting, nil
	l := c.active
	if l == nil {
		if err := c.denied(); err != nil {
			c.finish(x, nil, err)
		}
		return
	}
	left := x.deadline.Sub(now)
	if left <= 0 {
		return // due is about to run
	}
	body := zsock.NewBody(x.call.Body...)
	defer body.Release()
	if body.Size() > l.limit {
		if l.welcome != nil {
			c.finish(x, nil, mdp.Errorf(mdp.TooBig, "%d octets, and the broker takes %d", body.Size(), l.limit))
		}
		return // WELCOME will say how large a request may be
	}
	switch err := l.conn.Send(b, c.encode(x, left), body); {
	case err == nil:
		x.state, x.link = sent, l
		l.began()
	case errors.Is(err, zsock.ErrTooBig), errors.Is(err, zsock.ErrTooManyFrames):
		c.finish(x, nil, mdp.Errorf(mdp.TooBig, "%v", err))
	case errors.Is(err, zsock.ErrHighWater):
		c.retry(x, b, mdp.Errorf(mdp.Busy, "too much is queued for %s", l.endpoint))
	default: // the link is closing: its end resubmits what waits
	}
}

// encode writes x's head. The result is valid until the next call of encode.
func (c *Client) encode(x *exchange, left time.Duration) [][]byte {
	s := &c.slots[x.index]
	s.generation++ // each attempt has a token of its own
	m := &c.command
	*m = mdp.Command{Role: mdp.Client, Kind: x.kind, Dialect: mdp.Native}
	if x.kind == mdp.Request {
		m.Service = x.service
		m.Head.Attempt, m.Head.Flags = x.attempt, x.call.flags()
		// Rounded up: 0 would mean no deadline.
		m.Head.Remaining = uint32(min((left-margin(left)+time.Millisecond-1)/time.Millisecond, 1<<32-1))
	}
	m.Head.Token, m.Head.ID = token(s.generation, x.index), x.id
	return mdp.Append(c.frames[:0], c.head[:], m)
}

// margin is how much earlier than the caller the broker is told to give up: its
// answer, which knows whether the request has run, is to come before the caller's
// own timer fires. The broker looks at deadlines every 20 ms.
func margin(left time.Duration) time.Duration { return min(left/10, 50*time.Millisecond) }

func token(generation, index uint32) uint64 { return uint64(generation)<<32 | uint64(index) }

func (call *Call) flags() (f uint8) {
	if call.Once {
		f |= mdp.FlagOnce
	}
	if call.NoWait {
		f |= mdp.FlagNoWait
	}
	if call.Detached {
		f |= mdp.FlagDetached
	}
	if call.Restartable {
		f |= mdp.FlagRestartable
	}
	return f
}

// find returns the exchange that l's answer with this token belongs to, or nil.
// Callers hold mu.
func (c *Client) find(l *link, tok uint64) *exchange {
	i := uint32(tok)
	if int(i) >= len(c.slots) || c.slots[i].generation != uint32(tok>>32) {
		return nil
	}
	if x := c.slots[i].x; x != nil && x.link == l && x.state == sent {
		return x
	}
	return nil
}

// leave takes x off its link. Callers hold mu.
func (c *Client) leave(x *exchange) {
	if x.link != nil {
		x.link.ended()
		x.link = nil
	}
}

// finish ends x. Callers hold mu; nobody else may touch x's outcome afterwards.
func (c *Client) finish(x *exchange, body [][]byte, err error) {
	c.leave(x)
	x.timer.Stop()
	s := &c.slots[x.index]
	s.generation++
	s.x = nil
	c.free = append(c.free, x.index)
	x.state, x.body = idle, body
	if err != nil {
		x.err = callError(x.kind, x.call.Service, x.id, err)
	}
	p := x.pending
	if p == nil {
		x.done <- struct{}{}
		return
	}
	if p.Err = x.err; p.Err == nil {
		p.Reply = x.reply()
	}
	c.recycle(x)
	p.finish(c)
}

func (x *exchange) reply() *Reply {
	return &Reply{Body: x.body, Partials: x.partials, ID: x.id, Attempt: int(x.answered)}
}

// recycle gives back an exchange that is over and whose outcome was taken. What
// is guarded also afterwards is left to the next begin.
func (c *Client) recycle(x *exchange) {
	x.call, x.pending, x.stream = Call{}, nil, false
	x.link, x.mayRun, x.refusals = nil, false, 0
	x.answered, x.restarts = 0, false
	x.partials, x.partialSize, x.body, x.err = nil, 0, nil, nil
	c.exchanges.Put(x)
}

// abandon ends the exchange, if it still is the one with this id, because nobody
// wants the answer any more.
func (c *Client) abandon(x *exchange, id mdp.RequestID, cause error) {
	var b zsock.Batch
	c.mu.Lock()
	if x.state != idle && x.id == id {
		err := abandonedError(cause, x.mayRun || x.state == sent)
		if e := c.unreachable(x); e != nil && errors.Is(err, mdp.Expired) {
			err = e
		}
		c.withdraw(x, &b)
		c.finish(x, nil, err)
	}
	c.mu.Unlock()
	b.Flush()
}

// withdraw sends CANCEL for what is on its way. A detached request goes on.
func (c *Client) withdraw(x *exchange, b *zsock.Batch) {
	if x.state != sent || x.kind != mdp.Request || x.call.Detached {
		return
	}
	m := &c.command
	*m = mdp.Command{Role: mdp.Client, Kind: mdp.Cancel, Dialect: mdp.Native}
	m.Head.Token, m.Head.ID = token(c.slots[x.index].generation, x.index), x.id
	// A link that cannot take it is about to close, which cancels as well.
	_ = x.link.conn.Send(b, mdp.Append(c.frames[:0], c.head[:], m), zsock.Body{})
	c.counters.cancels.Add(1)
}

// due is run by the timer: the deadline has passed, or a pause is over. A timer that
// fired for an earlier use of x finds nothing due.
func (x *exchange) due() {
	c := x.c
	var b zsock.Batch
	c.mu.Lock()
	now := time.Now()
	switch {
	case x.state == idle:
	case !now.Before(x.deadline):
		err := c.unreachable(x)
		if err == nil {
			err = &mdp.Error{Status: mdp.Expired, Text: "no answer before the deadline", MayHaveRun: x.mayRun || x.state == sent}
		}
		c.withdraw(x, &b)
		c.finish(x, nil, err)
	case x.state == pausing && !now.Before(x.again):
		x.timer.Reset(x.deadline.Sub(now))
		c.submit(x, &b, now)
	}
	c.mu.Unlock()
	b.Flush()
}

// partial keeps a partial for x's reader. Callers hold mu.
func (c *Client) partial(x *exchange, b *zsock.Batch, attempt uint16, body [][]byte) {
	if x.restarts && attempt != x.answered {
		if x.stream {
			x.partials = append(x.partials, nil)
		} else {
			x.partials, x.partialSize = nil, 0
		}
	}
	x.answered, x.restarts = attempt, true
	for _, f := range body {
		x.partialSize += len(f)
	}
	x.partials = append(x.partials, body)
	if len(x.partials) > maxPartials || x.partialSize > maxPartialSize {
		c.withdraw(x, b)
		c.finish(x, nil, &mdp.Error{Status: mdp.TooBig, Text: "more partials than are kept for a reader", MayHaveRun: true})
		return
	}
	if x.stream {
		select {
		case x.news <- struct{}{}:
		default:
		}
	}
}
