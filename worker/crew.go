package worker

import (
	"errors"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/zsock"
)

const (
	// maxIdle is how many executors of a session are kept, for their grown stacks.
	maxIdle = 256
	// maxUnsent is about how long an answer may wait for others while its executor
	// goes on, and maxAnswers how many may.
	maxUnsent  = 100 * time.Microsecond
	maxAnswers = 32
)

// crew is the goroutines that run a session's handlers, its executors, and what
// waits for them. session.mu guards it, but for running.
//
// This is the rule that keeps requests and answers from waiting: who starts a handler
// while anything is queued or unsent leaves somebody behind who will see to it. That
// is an executor that was woken, which in turn wakes the next one. Where handlers are
// quick it is the one that starts the handler itself, so that a whole run of requests
// wakes nobody else, and where they are quicker still that is the reader, which wakes
// nobody at all; pace.go says when, and who looks whether it really comes back.
type crew struct {
	running sync.WaitGroup

	first, last *Request // queued, in order; those that are over are stepped over
	queued      int      // between first and last
	idle        []*executor
	busy        int  // executors with a handler
	waking      bool // an executor was woken and has not looked around yet
	dismissed   bool

	pace pace

	unsent int         // answers in out
	out    zsock.Batch // of whoever sends next
}

// executor runs one handler at a time.
type executor struct {
	s    *session
	wake chan struct{} // capacity 1; closed when it should end
	// link is whose reader it is, or nil. Then it has no wake; its errands are counted,
	// and on tells that the last one has begun and has not ended.
	link    *link
	errands uint
	on      bool
	out     zsock.Batch
	text    text
	r       *Request // whose handler runs

	began  time.Duration // since session.epoch: when it began to serve
	served int           // requests since then
}

// queue adds r. Callers hold mu.
func (c *crew) queue(r *Request) {
	r.state = queued
	if c.first == nil {
		c.first = r
	} else {
		c.last.behind = r
	}
	c.last = r
	c.queued++
}

// next takes the first request that is still to be run, or nil. Callers hold mu.
func (c *crew) next() *Request {
	for c.first != nil {
		r := c.first
		c.first, r.behind = r.behind, nil
		c.queued--
		if r.state == queued {
			return r
		}
	}
	return nil
}

// rouse sees that an executor is awake if there is anything to do. Callers hold mu.
func (s *session) rouse() {
	c := &s.crew
	if c.waking || c.dismissed || c.first == nil && c.unsent == 0 || s.trusts() {
		return
	}
	c.waking = true
	if last := len(c.idle) - 1; last >= 0 {
		e := c.idle[last] // the one that ran last: its memory is warm
		c.idle = c.idle[:last]
		e.wake <- struct{}{}
		return
	}
	e := &executor{s: s, wake: make(chan struct{}, 1)}
	e.wake <- struct{}{}
	c.running.Go(e.run)
}

// dismiss ends the executors that are idle, and the others when they get there.
func (s *session) dismiss() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crew.dismissed = true
	s.crew.pace.stop() // from here on nobody looks after it
	if e := s.crew.pace.trusted; e != nil {
		s.crew.pace.trusted = nil
		e.relieve()
	}
	for _, e := range s.crew.idle {
		close(e.wake)
	}
	s.crew.idle = nil
}

func (e *executor) run() {
	defer e.unwound()
	for range e.wake {
		e.s.mu.Lock()
		e.s.crew.waking = false
		e.work()
	}
}

// work serves until nothing is left to do. It is called with mu held and returns
// without.
func (e *executor) work() {
	e.begin()
	for r := e.proceed(); r != nil; r = e.proceed() {
		e.serve(r) // returns with mu held
	}
}

// unwound sees to a request whose handler has ended its goroutine (runtime.Goexit).
func (e *executor) unwound() {
	r := e.r
	if r == nil {
		return
	}
	e.r = nil
	e.s.w.counters.running.Add(-1)
	e.answer(r, nil, r.failure(errors.New("the handler has ended its goroutine")))
	e.flush(0)
	e.s.mu.Lock()
	e.s.crew.pace.forget(e)
	e.s.rouse()
	e.s.mu.Unlock()
}

// proceed takes the next request to run, and leaves everything in order behind it.
// Without one it sends what is unsent; when there is nothing at all to do it makes
// the executor idle, or ends it, and returns nil. It is called with mu held and
// returns without.
func (e *executor) proceed() *Request {
	s, c := e.s, &e.s.crew
	for {
		r := c.next()
		if r == nil && c.unsent == 0 {
			break
		}
		own := 0
		if r != nil {
			r.state = running
			c.busy++
			own = 1
		}
		if c.unsent > 0 && (r == nil || c.unsent >= c.pace.answers()) {
			e.measure()
			e.flush(own)
			e.begin()
		} else {
			e.leave()
			s.mu.Unlock()
		}
		if r != nil {
			return r
		}
		s.mu.Lock()
	}
	e.measure()
	c.pace.forget(e)
	switch {
	case e.link != nil: // it reads on
	case c.dismissed || len(c.idle) >= maxIdle:
		close(e.wake)
	default:
		c.idle = append(c.idle, e)
	}
	s.mu.Unlock()
	return nil
}

// flush sends what is unsent. It is called with mu held and returns without. own of
// the requests that run are the executor's own.
func (e *executor) flush(own int) {
	c := &e.s.crew
	e.out, c.out = c.out, e.out
	c.unsent = 0
	others := c.busy > own
	e.leave() // nobody need wait for our system call
	e.s.mu.Unlock()
	if others {
		e.out.Flush() // some may be about to add to it
	} else {
		e.out.FlushNow()
	}
}
