package client

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// largeBody is the size of body, in octets, from which zsock writes it from where it
// lies.
const largeBody = 16 << 10

// Bounds on partials that wait for their reader.
const (
	maxPartials    = 10_000
	maxPartialSize = 64 << 20
)

// state is where an exchange stands.
type state uint8

const (
	idle     state = iota // not in the table
	waiting               // for a link
	sent                  // on exchange.link, unanswered
	pausing               // refused for now; sent again at exchange.due
	visiting              // an ATTACH, while another broker is dialled
)

// slot is one place of the table. A token is its generation (upper half) and index,
// so an answer finds its exchange by indexing, and a late one finds nothing.
type slot struct {
	generation uint32
	x          *exchange
}

// exchange is one request and what becomes of it. It is reused: blocking calls give
// it back with recycle, those of Go are given back by complete.
type exchange struct {
	c     *Client
	done  chan struct{} // capacity 1: gets one value when the exchange ends
	news  chan struct{} // capacity 1, of Stream: partials came
	batch zsock.Batch   // of the caller
	loan  zsock.Loan    // of frames, if the caller waits
	// watched tells that Client.vigil ends it with its context. begin sets it.
	watched bool

	// Client.mu guards the following while the exchange is in the table, and state
	// and id always: contexts of an earlier use may still look at them.
	state    state
	call     Call     // without its body
	service  []byte   // call.Service
	frames   [][]byte // call.Body
	size     int      // octets of frames
	kind     mdp.Kind
	id       mdp.RequestID
	deadline instant
	due      instant // deadline, or while pausing when to send again
	stream   bool
	pending  *Pending
	index    uint32
	link     *link
	number   uint32 // of the message on link's connection
	attempt  uint16
	mayRun   bool   // an earlier attempt was sent and may have run
	refusals int    // how often it was tried again
	answered uint16 // attempt of the last answer

	inquiry     inquiry // of an ATTACH
	holder      *link   // whose broker has a detached request from an earlier attempt, or nil
	partials    [][][]byte
	partialSize int
	held        []zsock.Body // large ones of partials, unless they are streamed
	restarts    bool         // a partial has come from attempt answered

	// The outcome.
	body answer
	err  error
}

func newExchange(c *Client) *exchange {
	return &exchange{c: c, done: make(chan struct{}, 1)}
}

// begin puts a new exchange into the table and sends it, or lets it wait for a
// link. body is what call.Body was: apart, so that it need not escape to the heap.
// id is zero for a new request. prepare, if any, runs before it is sent.
func (c *Client) begin(ctx context.Context, kind mdp.Kind, call *Call, body [][]byte, id mdp.RequestID, prepare func(*exchange)) (*exchange, error) {
	if id == (mdp.RequestID{}) {
		copy(id[:], process.prefix[:])
		binary.BigEndian.PutUint64(id[8:], process.requests.Add(1))
	}
	if kind == mdp.Request && (call.Service == "" || len(call.Service) > mdp.MaxService) {
		return nil, callError(kind, call.Service, id, mdp.Errorf(mdp.BadRequest, "a service name has 1 to %d octets", mdp.MaxService))
	}
	if ctx.Err() != nil {
		return nil, callError(kind, call.Service, id, abandonedError(statusOf(ctx), context.Cause(ctx), false))
	}
	x := c.exchanges.Get().(*exchange)
	if prepare != nil {
		prepare(x)
	}
	x.call, x.kind, x.attempt, x.watched = *call, kind, 1, false
	x.service = append(x.service[:0], call.Service...)
	x.frames = append(x.frames[:0], body...)
	x.size = sizeOf(body)
	b := &x.batch
	async := x.pending != nil
	now := c.now() // once: looking at the clock is what costs here
	deadline := c.deadline(ctx, now, call.Timeout)
	c.mu.Lock()
	if err := c.enter(x); err != nil {
		c.mu.Unlock()
		c.recycle(x)
		return nil, callError(kind, call.Service, id, err)
	}
	x.id, x.deadline, x.due = id, deadline, deadline
	x.watched = prepare == nil && c.watches(ctx)
	c.budget.call(now)
	c.watch(deadline, now)
	if async {
		x.pending.ID = id
		b = c.async
		if !c.flushing {
			c.flushing = true
			c.wg.Go(c.flushAsync)
		}
	}
	c.submit(x, b, now)
	c.mu.Unlock()
	if !async {
		b.Flush() // unless somebody else is about to flush the connection
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
	if limit := c.cfg.MaxMessage - mdp.MaxHead; int64(x.size) > limit {
		return mdp.Errorf(mdp.TooBig, "%d octets, and this client sends %d at most (MaxMessage)", x.size, limit)
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
func (c *Client) submit(x *exchange, b *zsock.Batch, now instant) { c.submitTo(c.active, x, b, now) }

// submitTo sends x on l, which may be nil.
func (c *Client) submitTo(l *link, x *exchange, b *zsock.Batch, now instant) {
	x.state, x.link = waiting, nil
	if l == nil {
		if err := c.denied(); err != nil {
			c.finish(x, err)
		}
		return
	}
	left := time.Duration(x.deadline - now)
	if left <= 0 {
		return // look is about to run
	}
	if x.size > l.limit {
		if l.welcome != nil {
			c.finish(x, mdp.Errorf(mdp.TooBig, "%d octets, and the broker takes %d", x.size, l.limit))
		}
		return // WELCOME will say how large a request may be
	}
	switch err := c.send(x, l, b, left); {
	case err == nil:
		x.state, x.link = sent, l
		l.began(now)
	case errors.Is(err, zsock.ErrTooBig), errors.Is(err, zsock.ErrTooManyFrames):
		c.finish(x, mdp.Errorf(mdp.TooBig, "%v", err))
	case errors.Is(err, zsock.ErrHighWater):
		c.retry(x, b, mdp.Errorf(mdp.Busy, "too much is queued for %s", l.endpoint), 0)
	default: // the link is closing: its end resubmits what waits
	}
}

// send gives x's request to l's connection. Small bodies are copied right into its
// buffer. Large ones are written from where they lie: from the caller's memory, as long
// as it waits, and from a copy for one that does not.
func (c *Client) send(x *exchange, l *link, b *zsock.Batch, left time.Duration) error {
	head := c.encode(x, x.kind, left)
	var err error
	switch {
	case x.size < largeBody:
		c.frames = append(head, x.frames...)
		x.number, err = l.conn.SendNumbered(b, c.frames, zsock.Body{})
		c.frames = emptied(c.frames)
	case x.pending == nil:
		x.number, err = l.conn.SendLoan(b, head, x.frames, &x.loan)
	default:
		body := zsock.NewBody(x.frames...)
		x.number, err = l.conn.SendNumbered(b, head, body)
		body.Release()
	}
	return err
}

// encode writes the head of x's request, or of an ATTACH to it. The result is valid until the next call of encode.
func (c *Client) encode(x *exchange, kind mdp.Kind, left time.Duration) [][]byte {
	s := &c.slots[x.index]
	s.generation++ // each attempt has a token of its own
	m := &c.command
	*m = mdp.Command{Role: mdp.Client, Kind: kind, Dialect: mdp.Native}
	if kind == mdp.Request {
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

func sizeOf(frames [][]byte) (octets int) {
	for _, f := range frames {
		octets += len(f)
	}
	return octets
}

// maxRoom is how many elements of room a slice keeps for its next use.
const maxRoom = 256

// emptied is s without its elements, ready for use anew.
func emptied[T any](s []T) []T {
	if cap(s) > maxRoom {
		return nil
	}
	clear(s)
	return s[:0]
}
