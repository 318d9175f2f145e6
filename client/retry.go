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
//	WORKER_LOST  no: three attempts have been made
//	others       no: an answer, or a mistake that would be repeated
//
// A loss of the connection counts as BROKER_LOST that may have run, but for requests
// of which it had not written an octet: with those it was no try (Client.lost). With
// partials already handed to the caller only what never started is sent again.
func retryable(e *mdp.Error, once, partials bool) bool {
	switch e.Status {
	case mdp.NotTaken:
		return true
	case mdp.Busy, mdp.BrokerLost, mdp.PeerLost:
		return !e.MayHaveRun || (!once && !partials)
	}
	return false
}

// maxAttempts is how many tries a request has in all, those of brokers included.
const maxAttempts = 3

// counts tells whether the next try is a new attempt: whether the last one may have
// begun somewhere. What was not taken has not.
func counts(e *mdp.Error) bool {
	return e.Status == mdp.BrokerLost || e.Status == mdp.PeerLost || e.Status == mdp.Busy && e.MayHaveRun
}

// pause is how long to wait before the next try: at least what the refusal asks for
// plus full jitter, doubling with each refusal. lot is in [0, 1). The first loss of
// a broker or peer asks for no pause, since the next try goes elsewhere.
func pause(e *mdp.Error, refusals int, lot float64) time.Duration {
	if e.Status != mdp.Busy && e.Status != mdp.NotTaken && refusals == 0 && e.RetryAfter == 0 {
		return 0
	}
	jitter := min(minPause<<min(refusals, 10), maxPause)
	return e.RetryAfter + time.Duration(lot*float64(max(jitter, e.RetryAfter))) + 1
}

// retry ends x with e or, where that is allowed, tries again. attempt is the latest
// one that e is known to be about. Callers hold mu.
func (c *Client) retry(x *exchange, b *zsock.Batch, e *mdp.Error, attempt uint16) {
	from, asks := x.link, x.holder != nil // for the answer to an attempt that was made: that is none
	c.leave(x)
	x.state, x.holder = waiting, nil
	partials := x.restarts && !x.call.Restartable
	if x.kind == mdp.Attach || !retryable(e, x.call.Once, partials) {
		c.finish(x, e)
		return
	}
	if counts(e) && !asks {
		if x.attempt = max(x.attempt, x.answered, attempt); x.attempt >= maxAttempts && e.MayHaveRun {
			c.finish(x, because(e, "not tried again: it has had all its %d attempts", maxAttempts))
			return
		}
		x.attempt = min(x.attempt, maxAttempts-1) + 1
		x.mayRun = x.mayRun || e.MayHaveRun
	}
	now := c.now()
	to, at, free := c.next(x, from, e, now)
	if at >= x.deadline {
		c.finish(x, e) // there is no time left for what it asks
		return
	}
	if !free && !c.budget.spend(now) {
		c.counters.unretried.Add(1)
		c.finish(x, because(e, "not tried again: the retry budget is spent (1 in %d of recent calls, at least %d a second)", budgetShare, budgetMinimum))
		return
	}
	c.counters.retries.Add(1)
	x.refusals++
	if at == now {
		c.submitTo(to, x, b, now)
		return
	}
	x.state, x.due = pausing, at
	c.watch(at, now)
}

// next is the next try of x after e came from a link: where, when, and whether it is
// free, which is what multiplies no load: it never left this process, or it was not
// taken and goes elsewhere, or it went down with its broker for the first time. A
// broker that may not take a request of its size is nowhere to go.
func (c *Client) next(x *exchange, from *link, e *mdp.Error, now instant) (to *link, at instant, free bool) {
	if from != nil && e.Status == mdp.NotTaken {
		if from.draining || from.down {
			return c.active, now, true
		}
		if other := c.beside(from); other != nil && x.size <= other.limit && x.refusals == 0 {
			return other, now, true
		}
	}
	at = now + instant(pause(e, x.refusals, rand.Float64()))
	return c.active, at, from == nil || from.down && x.refusals == 0
}

// because is e, saying why it was not tried again.
func because(e *mdp.Error, format string, args ...any) *mdp.Error {
	last := *e
	if last.Text != "" {
		last.Text += "; "
	}
	last.Text += fmt.Sprintf(format, args...)
	return &last
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

// noBroker says what was tried, the configured ones first. Callers hold mu.
func (c *Client) noBroker() error {
	const most = 8
	last := errors.New("no answer yet")
	var tried []string
	for i, br := range c.brokers {
		if i < most {
			tried = append(tried, br.endpoint)
		}
		if br.err != nil {
			last = br.err
		}
	}
	if more := len(c.brokers) - most; more > 0 {
		tried = append(tried, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%w: tried %s: last error: %w", ErrNoBroker, strings.Join(tried, ", "), last)
}

// denied is the refusal, if all brokers have refused this client.
func (c *Client) denied() error {
	var err error
	for _, br := range c.brokers {
		if err = br.err; !errors.Is(err, mdp.Denied) {
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
