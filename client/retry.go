package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// The pauses before a request is sent again to a broker that refused it for now.
const (
	minPause = 10 * time.Millisecond
	maxPause = 2 * time.Second
)

// retryable tells whether a request that ended with e may be sent again.
//
//	status       call            once
//	NOT_TAKEN    yes             yes: it never started
//	BUSY         yes             unless it may have run
//	BROKER_LOST  yes             unless it may have run
//	PEER_LOST    yes             unless it may have run
//	WORKER_LOST  no: the broker has tried three workers
//	others       no: an answer, or a mistake that would be repeated
//
// A loss of the connection counts as BROKER_LOST that may have run. With partials
// already handed to the caller only what never started is sent again.
func retryable(e *mdp.Error, once, partials bool) bool {
	switch e.Status {
	case mdp.NotTaken:
		return true
	case mdp.Busy, mdp.BrokerLost, mdp.PeerLost:
		return !e.MayHaveRun || (!once && !partials)
	}
	return false
}

// counts tells whether the next try is a new attempt. Refusals are not: nothing ran.
func counts(e *mdp.Error) bool { return e.Status == mdp.BrokerLost || e.Status == mdp.PeerLost }

// pause is how long to wait before the next try: at least what the refusal asks for
// plus full jitter, doubling with each refusal. lot is in [0, 1). A lost broker
// or peer asks for no pause, since the next try goes elsewhere.
func pause(e *mdp.Error, refusals int, lot float64) time.Duration {
	if counts(e) && e.RetryAfter == 0 {
		return 0
	}
	jitter := min(minPause<<min(refusals, 10), maxPause)
	return e.RetryAfter + time.Duration(lot*float64(max(jitter, e.RetryAfter))) + 1
}

// retry ends x with e or, where that is allowed, tries again. Callers hold mu.
func (c *Client) retry(x *exchange, b *zsock.Batch, e *mdp.Error) {
	from := x.link
	c.leave(x)
	x.state = waiting
	partials := x.restarts && !x.call.Restartable
	if x.kind == mdp.Attach || !retryable(e, x.call.Once, partials) {
		c.finish(x, nil, e)
		return
	}
	if counts(e) || e.MayHaveRun { // also BUSY says so when an answer was dropped
		x.attempt++
		x.mayRun = x.mayRun || e.MayHaveRun
	}
	c.counters.retries.Add(1)
	pause, now := pause(e, x.refusals, rand.Float64()), c.now()
	if e.Status == mdp.NotTaken && c.active != from {
		pause = 0 // the next try goes to another broker
	}
	if pause <= 0 {
		c.submit(x, b, now)
		return
	}
	x.refusals++
	if again := now + instant(pause); again < x.deadline {
		x.state, x.due = pausing, again
		c.watch(again, now)
		return
	}
	c.finish(x, nil, e) // there is no time left for what it asks
}

// unreachable is why x, being without a link, could not be sent; nil if it could.
func (c *Client) unreachable(x *exchange) error {
	if x.state != waiting || c.active != nil {
		return nil
	}
	err := c.noBroker()
	if x.mayRun {
		return &endedError{mdp.Error{Status: mdp.BrokerLost, Text: err.Error(), MayHaveRun: true}, err}
	}
	return err
}

// noBroker says what was tried. Callers hold mu.
func (c *Client) noBroker() error {
	last := errors.New("no answer yet")
	for i := range c.brokers {
		if c.brokers[i].err != nil {
			last = c.brokers[i].err
		}
	}
	return fmt.Errorf("%w: tried %s: last error: %w", ErrNoBroker, strings.Join(c.cfg.Brokers, ", "), last)
}

// denied is the refusal, if all brokers have refused this client.
func (c *Client) denied() error {
	var err error
	for i := range c.brokers {
		if err = c.brokers[i].err; !errors.Is(err, mdp.Denied) {
			return nil
		}
	}
	return err
}

func callError(kind mdp.Kind, service string, id mdp.RequestID, err error) error {
	op := "call"
	if kind == mdp.Attach {
		op = "attach"
	}
	return &Error{Op: op, Service: service, ID: id, Err: err}
}
