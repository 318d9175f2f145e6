package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Attach asks for the answer of a detached call that this process made, or one of the
// same Config.Instance. All brokers
// that are known are asked, one after another: the call may have moved to another
// one, and so may this client. The answer may be an error: the call's own,
// mdp.Running while it is not done, or mdp.Unknown 60 s after it was, which says if
// a broker could not be asked.
func (c *Client) Attach(ctx context.Context, id mdp.RequestID) (*Reply, error) {
	x, err := c.begin(ctx, mdp.Attach, &Call{}, nil, id, nil)
	if err != nil {
		return nil, err
	}
	return c.await(ctx, x)
}

// askAgain is how often a broker is asked for the answer of a detached call that lost
// its connection and runs on.
const askAgain = 100 * time.Millisecond

// askHolder asks the broker that has x, a detached call, from an earlier attempt, for
// its answer. Where that broker is lost, too, x is a request again. Callers hold mu.
func (c *Client) askHolder(x *exchange, b *zsock.Batch, now instant) {
	c.leave(x)
	l := x.holder
	if l.down || l.parting {
		x.holder = nil
		c.submit(x, b, now)
		return
	}
	var err error
	x.number, err = l.conn.SendNumbered(b, c.encode(x, mdp.Attach, 0), zsock.Body{})
	if err != nil { // full, or about to end
		c.askLater(x, now)
		return
	}
	x.state, x.link = sent, l
	l.began(now)
}

// askLater asks the holder of x again after a while. Callers hold mu.
func (c *Client) askLater(x *exchange, now instant) {
	c.leave(x)
	x.state, x.due = pausing, min(now+instant(askAgain), x.deadline)
	c.watch(x.due, now)
}

// inquiry is how far an ATTACH has come.
type inquiry struct {
	asked   []*broker
	failed  string // brokers that could not be asked, and why
	answers int    // that were UNKNOWN
}

// asks tells whether br was, or could not be, asked before, also by another name.
func (q *inquiry) asks(br *broker) bool {
	return slices.ContainsFunc(q.asked, func(a *broker) bool {
		return a == br || a.identity != "" && a.identity == br.identity
	})
}

// fail notes that br could not be asked.
func (q *inquiry) fail(br *broker, err error) {
	q.asked = append(q.asked, br)
	q.failed += fmt.Sprintf("; could not ask %s: %v", br.endpoint, err)
}

// ask sends the ATTACH x to the next broker: first to those that are connected, then
// to the others, over a connection of its own. Callers hold mu.
func (c *Client) ask(x *exchange, b *zsock.Batch, now instant) {
	c.leave(x)
	x.state = waiting
	for _, l := range c.links {
		if !l.down && !l.parting && !x.inquiry.asks(l.broker) {
			c.submitTo(l, x, b, now)
			return
		}
	}
	for _, br := range c.brokers {
		if !x.inquiry.asks(br) {
			x.state = visiting
			// Half of what is left, so that time remains for the next one.
			limit := min(time.Duration(x.deadline-now)/2, dialTimeout)
			id := x.id
			c.wg.Go(func() { c.visit(x, id, br, limit) })
			return
		}
	}
	c.finish(x, mdp.Errorf(mdp.Unknown, "no such detached request of this client, say %d brokers%s", x.inquiry.answers, x.inquiry.failed))
}

// visit makes a connection for x alone; it ends when x is answered.
func (c *Client) visit(x *exchange, id mdp.RequestID, br *broker, limit time.Duration) {
	l, err := c.dial(br, limit)
	arrive := func(b *zsock.Batch) { // called with mu held
		switch {
		case x.state != visiting || x.id != id: // it did not wait
		case err != nil:
			x.inquiry.fail(br, err)
			c.ask(x, b, c.now())
		case l.down:
			x.inquiry.fail(br, br.err)
			c.ask(x, b, c.now())
		default:
			c.submitTo(l, x, b, c.now())
		}
	}
	if err == nil {
		l.arrive, l.draining = arrive, true
		l.run()
		return
	}
	var b zsock.Batch
	c.mu.Lock()
	arrive(&b)
	c.mu.Unlock()
	b.Flush()
}
