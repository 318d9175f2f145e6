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

// Pauses between tries to send on a connection that is full.
const (
	minSendPause = time.Millisecond
	maxSendPause = 50 * time.Millisecond
)

// execute runs r in an idle executor or a new one. There are never more busy ones
// than Concurrency; idle ones are kept, for their grown stacks, until the session
// is over: then nothing arrives any more. Callers hold mu.
func (s *session) execute(r *Request) {
	select {
	case s.work <- r:
	default:
		s.executors.Go(func() { s.executor(r) })
	}
}

func (s *session) executor(r *Request) {
	var b zsock.Batch
	for {
		s.serve(&b, r)
		select {
		case r = <-s.work:
		case <-s.over:
			return
		}
	}
}

// serve runs the handler for r and sends its answer.
func (s *session) serve(b *zsock.Batch, r *Request) {
	s.w.counters.running.Add(1)
	answer, err := s.handle(r)
	s.w.counters.running.Add(-1)
	body := zsock.NewBody(answer...)
	for pause := minSendPause; !s.reply(b, r, body, err); pause = min(2*pause, maxSendPause) {
		time.Sleep(pause)
	}
	b.Flush()
	body.Release()
	r.ctx.end(context.Canceled)
	r.held.Release()
}

// handle calls the handler and turns a panic into an error.
func (s *session) handle(r *Request) (answer [][]byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.w.counters.panics.Add(1)
			s.w.log.Error("handler panicked", "service", r.Service, "request-id", r.ID.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			answer, err = nil, mdp.Errorf(mdp.AppError, "panic: %v", p)
			err.(*mdp.Error).MayHaveRun = true
		}
	}()
	return s.w.cfg.Handler(&r.ctx, r)
}

// reply sends the final, or drops it and says why, and gives r's place back. False
// means that the connection is full: try again later.
func (s *session) reply(b *zsock.Batch, r *Request, body zsock.Body, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, n := r.link, &s.w.counters
	switch {
	case r.dropped:
		n.abandoned.Add(1)
	case l.down:
		n.lost.Add(1)
	default:
		failure := r.failure(err)
		e := l.answer(b, r, mdp.Final, failure, body)
		if errors.Is(e, zsock.ErrTooBig) || errors.Is(e, zsock.ErrTooManyFrames) {
			failure = &mdp.Error{Status: mdp.TooBig, Text: "the answer: " + e.Error(), MayHaveRun: true}
			e = l.answer(b, r, mdp.Final, failure, zsock.Body{})
		}
		switch {
		case errors.Is(e, zsock.ErrHighWater):
			return false
		case e != nil:
			n.lost.Add(1)
		case failure != nil:
			n.failed.Add(1)
		default:
			n.answered.Add(1)
		}
	}
	r.state = over
	l.forget(r)
	return true
}

// failure is the error the caller gets, or nil. Only an *mdp.Error of the handler's
// own keeps its status: one inside another error speaks of another request.
func (r *Request) failure(err error) *mdp.Error {
	e, own := err.(*mdp.Error)
	switch {
	case r.cancelled:
		return &mdp.Error{Status: mdp.Cancelled, Text: "cancelled while running", MayHaveRun: true}
	case err == nil:
		return nil
	case own && e.Status != mdp.OK && e.Status != mdp.Running:
		return e
	case errors.Is(err, context.DeadlineExceeded) && r.ctx.Err() != nil:
		return &mdp.Error{Status: mdp.Expired, Text: err.Error(), MayHaveRun: true}
	}
	return &mdp.Error{Status: mdp.AppError, Text: err.Error(), MayHaveRun: true}
}

// answer sends a partial or final of r. Callers hold mu.
func (l *link) answer(b *zsock.Batch, r *Request, kind mdp.Kind, failure *mdp.Error, body zsock.Body) error {
	c := &l.s.command
	*c = mdp.Command{Role: mdp.Worker, Kind: kind, Dialect: mdp.Native}
	c.Head.Token, c.Head.ID, c.Head.Attempt = r.token, r.ID, uint16(r.Attempt)
	if failure != nil {
		c.SetError(failure)
		body = zsock.Body{}
	}
	if body.Size() > l.limit { // sending it would cost the connection
		return zsock.ErrTooBig
	}
	return l.send(b, body)
}

// forget gives r's place back. Callers hold mu.
func (l *link) forget(r *Request) {
	s := l.s
	if l.requests[r.token] == r {
		delete(l.requests, r.token)
	}
	if r.state == arrived {
		r.held.Release()
	}
	s.held--
	if l.leaving && len(l.requests) == 0 {
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
