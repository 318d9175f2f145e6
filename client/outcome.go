package client

import (
	"errors"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// leave takes x off its link. Callers hold mu.
func (c *Client) leave(x *exchange) {
	if x.link != nil {
		x.link.ended()
		x.link = nil
	}
}

// finish ends x with an error and tells who waits for it. Callers hold mu; nobody else may touch
// x's outcome afterwards.
func (c *Client) finish(x *exchange, err error) { c.complete(x, answer{}, err).tell(c) }

// complete ends x and returns who is to be told. Callers hold mu, and may tell
// without it.
func (c *Client) complete(x *exchange, body answer, err error) waiter {
	c.leave(x)
	s := &c.slots[x.index]
	s.generation++
	s.x = nil
	c.free = append(c.free, x.index)
	x.state, x.body = idle, body
	if err != nil {
		x.err = callError(x.kind, x.call.Service, x.id, x.honest(err))
	}
	p := x.pending
	if p == nil {
		return waiter{x: x}
	}
	if p.Err = x.err; p.Err == nil {
		p.Reply = x.reply()
	}
	c.recycle(x)
	p.over = true
	if p.stop != nil {
		p.stop()
	}
	return waiter{p: p}
}

// honest is err, which is about the last attempt, with what is known of those before
// it: that one of them may have run.
func (x *exchange) honest(err error) error {
	var e *mdp.Error
	if !x.mayRun || !errors.As(err, &e) || e.MayHaveRun {
		return err
	}
	may := *e
	may.MayHaveRun = true
	if err == error(e) {
		return &may
	}
	may.Text = err.Error()
	return &endedError{may, err}
}

// waiter is who waits for an exchange that is over: its blocking caller, or the
// Pending of Go.
type waiter struct {
	x *exchange
	p *Pending
}

func (w waiter) tell(c *Client) {
	if w.p != nil {
		w.p.tell(c)
		return
	}
	w.x.done <- struct{}{}
}

// recycle gives back an exchange that is over and whose outcome was taken, and the
// caller's frames to the caller: a link may still have been writing them, if the
// answer came early or was not waited for. What is guarded also afterwards is left to
// the next begin.
func (c *Client) recycle(x *exchange) {
	x.loan.End()
	x.call, x.pending, x.stream = Call{}, nil, false
	x.link, x.mayRun, x.refusals, x.size = nil, false, 0, 0
	x.frames = emptied(x.frames)
	x.answered, x.restarts, x.holder = 0, false, nil
	x.inquiry = inquiry{}
	x.drop()
	x.body, x.err = answer{}, nil
	c.exchanges.Put(x)
}

// abandon ends the exchange, if it still is the one with this id, because nobody
// wants the answer any more.
func (c *Client) abandon(x *exchange, id mdp.RequestID, status mdp.Status, cause error) {
	var b zsock.Batch
	c.mu.Lock()
	if x.state != idle && x.id == id {
		err := abandonedError(status, cause, x.mayRun || x.state == sent)
		if e := c.unreachable(x); e != nil && status == mdp.Expired {
			err = e
		}
		c.withdraw(x, &b)
		c.finish(x, err)
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

// close ends x as the client is closed. Callers hold mu.
func (c *Client) close(x *exchange) {
	err := ErrClosed
	if x.mayRun || x.state == sent && x.kind == mdp.Request {
		err = &endedError{mdp.Error{Status: mdp.BrokerLost, Text: err.Error(), MayHaveRun: true}, err}
	}
	c.finish(x, err)
}

// partial keeps a partial for x's reader. Callers hold mu.
func (c *Client) partial(x *exchange, b *zsock.Batch, attempt uint16, body answer) {
	if x.restarts && attempt != x.answered {
		x.restart()
	}
	x.answered, x.restarts = attempt, true
	frames := body.frames()
	if frames == nil {
		frames = [][]byte{} // nil stands for a restart
	}
	x.partialSize += sizeOf(frames)
	x.partials = append(x.partials, frames)
	if !x.stream && body.large.Frames() > 0 {
		x.held = append(x.held, body.large)
	}
	if len(x.partials) > maxPartials || x.partialSize > maxPartialSize {
		c.withdraw(x, b)
		c.finish(x, &mdp.Error{Status: mdp.TooBig, Text: "more partials than are kept for a reader", MayHaveRun: true})
		return
	}
	if x.stream {
		select {
		case x.news <- struct{}{}:
		default:
		}
	}
}

// restart sees to the partials of an attempt that another one overtook: who has read
// them is told, others never see them.
func (x *exchange) restart() {
	if x.stream {
		x.partials = append(x.partials, nil)
	} else {
		x.drop()
	}
}
