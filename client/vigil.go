package client

import (
	"context"

	"github.com/mdmesh/mdmesh/mdp"
)

// shared is how many calls in a row have the same context until it is watched for all
// of them.
const shared = 16

// vigil watches one context for the calls that have it. Callers often share one, and
// waiting for an answer and a context at once costs a call several times what waiting
// for the answer alone does; many callers also wait for each other at the context. So
// the client itself waits for the end of a context that many calls in a row had, and
// ends them then. Client.mu guards it.
type vigil struct {
	done <-chan struct{} // of the context that is watched, or nil
	stop func() bool     // of its AfterFunc

	last <-chan struct{} // of the context of the last call that was not watched
	row  int             // calls in a row that had it
}

// watches tells whether a call with ctx is ended with it, so that its caller need not
// look. Callers hold mu.
func (c *Client) watches(ctx context.Context) bool {
	v, done := &c.vigil, ctx.Done()
	if done == nil {
		return false
	}
	if done == v.done {
		return true
	}
	if done != v.last {
		v.last, v.row = done, 0
	}
	if v.row++; v.row < shared {
		return false
	}
	if v.done != nil && c.reliesOnVigil() {
		v.row = -len(c.slots) // looking through them again has to be earned
		return false
	}
	v.end()
	v.done, v.stop = done, context.AfterFunc(ctx, func() { c.vigilOver(ctx) })
	return true
}

func (c *Client) reliesOnVigil() bool {
	for i := range c.slots {
		if x := c.slots[i].x; x != nil && x.watched {
			return true
		}
	}
	return false
}

// end ends the watch.
func (v *vigil) end() {
	if v.stop != nil {
		v.stop()
	}
	*v = vigil{}
}

// vigilOver ends the calls that rely on the watch for ctx, which has ended.
func (c *Client) vigilOver(ctx context.Context) {
	type call struct {
		x  *exchange
		id mdp.RequestID
	}
	var calls []call
	c.mu.Lock()
	if c.vigil.done == ctx.Done() { // it was not given up meanwhile
		c.vigil = vigil{} // who comes late looks by himself
		for i := range c.slots {
			if x := c.slots[i].x; x != nil && x.watched {
				calls = append(calls, call{x, x.id})
			}
		}
	}
	c.mu.Unlock()
	for _, w := range calls {
		c.abandon(w.x, w.id, statusOf(ctx), context.Cause(ctx))
	}
}
