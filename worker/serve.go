package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

var errNotStarted = mdp.Errorf(mdp.NotTaken, "not started")

// Pauses between tries to send on a connection that is full.
const (
	minSendPause = time.Millisecond
	maxSendPause = 50 * time.Millisecond
)

// final is an answer on its way out.
type final struct {
	frames  [][]byte   // in the executor's text
	large   zsock.Body // behind them
	failure *mdp.Error
}

// serve runs the handler for r and answers. It returns with mu held.
func (e *executor) serve(r *Request) {
	n := &e.s.w.counters
	n.running.Add(1)
	e.r = r
	body, failure := e.s.handle(r)
	e.r = nil
	e.served++
	n.running.Add(-1)
	e.answer(r, body, failure)
}

// handle calls the handler and turns a panic into an error. An error's own methods are
// the handler's code, too: they are called here, and never again.
func (s *session) handle(r *Request) (body [][]byte, failure *mdp.Error) {
	defer func() {
		if p := recover(); p != nil {
			s.w.counters.panics.Add(1)
			s.w.log.Error("handler panicked", "service", r.Service, "request-id", r.ID.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			body, failure = nil, r.failure(fmt.Errorf("panic: %v", p))
		}
	}()
	body, err := s.w.cfg.Handler(&r.ctx, r)
	return body, r.failure(err)
}

// answer queues the final of r for sending, and waits for room if need be. What
// takes time is done before mu is locked; it returns with mu held.
func (e *executor) answer(r *Request, body [][]byte, failure *mdp.Error) {
	s := e.s
	r.ctx.end(context.Canceled)
	f := final{failure: failure}
	if size := sizeOf(body); failure == nil && int64(size) > r.ctx.link.limit.Load() {
		f.failure = tooBig(zsock.ErrTooBig) // sending it would cost the connection
	} else if failure == nil && size >= byReference {
		f.large, body = zsock.NewBody(body...), nil
	}
	if f.failure != nil {
		body = nil
	}
	f.frames = append(e.text.final(r, mdp.Final, f.failure), body...)
	s.mu.Lock()
	for pause := minSendPause; !e.reply(r, &f); pause = min(2*pause, maxSendPause) {
		e.flush(1)
		time.Sleep(pause)
		s.mu.Lock()
	}
	clear(f.frames)
	f.large.Release()
	r.release()
}

// reply queues the final, or drops it and says why, and gives r's place back. False
// means that the connection is full: try again later. Callers hold mu.
func (e *executor) reply(r *Request, f *final) bool {
	l, n, c := r.ctx.link, &e.s.w.counters, &e.s.crew
	switch {
	case r.dropped:
		n.abandoned.Add(1)
	case l.down:
		n.lost.Add(1)
	default:
		err := l.send(&c.out, f.frames, f.large)
		if errors.Is(err, zsock.ErrTooBig) || errors.Is(err, zsock.ErrTooManyFrames) {
			f.large.Release()
			f.failure, f.large = tooBig(err), zsock.Body{}
			f.frames = e.text.final(r, mdp.Final, f.failure)
			err = l.send(&c.out, f.frames, f.large)
		}
		switch {
		case errors.Is(err, zsock.ErrHighWater):
			return false
		case err != nil:
			n.lost.Add(1)
		case f.failure != nil:
			n.failed.Add(1)
		default:
			n.answered.Add(1)
		}
		if err == nil {
			c.unsent++
		}
	}
	c.busy--
	r.state = over
	l.forget(r)
	return true
}

// failure is the error the caller gets, or nil. Only an *mdp.Error of the handler's
// own keeps its status: one inside another error speaks of another request.
func (r *Request) failure(err error) *mdp.Error {
	e, own := err.(*mdp.Error)
	switch {
	case r.cancelled.Load():
		return &mdp.Error{Status: mdp.Cancelled, Text: "cancelled while running", MayHaveRun: true}
	case err == nil, own && e == nil:
		return nil
	case own && e.Status != mdp.OK && e.Status != mdp.Running:
		return e
	case err == context.DeadlineExceeded && r.ctx.Err() != nil: // as the broker says it, which may be first
		return &mdp.Error{Status: mdp.Expired, Text: "the deadline passed before the answer came", MayHaveRun: true}
	case errors.Is(err, context.DeadlineExceeded) && r.ctx.Err() != nil:
		return &mdp.Error{Status: mdp.Expired, Text: err.Error(), MayHaveRun: true}
	}
	return &mdp.Error{Status: mdp.AppError, Text: err.Error(), MayHaveRun: true}
}

func tooBig(err error) *mdp.Error {
	return &mdp.Error{Status: mdp.TooBig, Text: "the answer: " + err.Error(), MayHaveRun: true}
}

// forget gives r's place back. Callers hold mu.
func (l *link) forget(r *Request) {
	s := l.s
	l.requests.remove(r)
	s.held--
	if l.leaving && l.requests.n == 0 {
		l.nudge()
	}
	if l == s.current {
		return
	}
	// A handler of an earlier connection has ended: there is room for a request.
	select {
	case s.room <- struct{}{}:
	default:
	}
	if s.current != nil {
		s.current.nudge()
	}
}
