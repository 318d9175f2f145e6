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
	// maxUnsent is how long an answer may wait for others while its executor goes on.
	maxUnsent = 100 * time.Microsecond
)

// crew is the goroutines that run a session's handlers, its executors, and what
// waits for them. session.mu guards it, but for running.
//
// Requests come in runs, and most handlers are quick. So a run wakes one executor,
// and that wakes a second one before it starts a handler: if the handler blocks, the
// second goes on with the run, and wakes a third; if not, the first works the run
// off alone, and sends all answers together. This is the rule that keeps requests
// and answers from waiting: who starts a handler while anything is queued or unsent
// leaves an executor behind that is awake and will see to it.
type crew struct {
	running sync.WaitGroup

	first, last *Request // queued, in order; those that are over are stepped over
	idle        []*executor
	busy        int  // executors with a handler
	waking      bool // an executor was woken and has not looked around yet
	dismissed   bool

	unsent bool        // out has answers
	since  time.Time   // when the first of them was put there
	out    zsock.Batch // of whoever sends next
}

// executor runs one handler at a time.
type executor struct {
	s    *session
	wake chan struct{} // capacity 1; closed when it should end
	out  zsock.Batch
	text text
	r    *Request // whose handler runs
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
}

// next takes the first request that is still to be run, or nil. Callers hold mu.
func (c *crew) next() *Request {
	for c.first != nil {
		r := c.first
		c.first, r.behind = r.behind, nil
		if r.state == queued {
			return r
		}
	}
	return nil
}

// rouse sees that an executor is awake if there is anything to do. Callers hold mu.
func (s *session) rouse() {
	c := &s.crew
	if c.waking || c.dismissed || c.first == nil && !c.unsent {
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
		for r := e.proceed(); r != nil; r = e.proceed() {
			e.serve(r) // returns with mu held
		}
	}
}

// unwound sees to a request whose handler has ended its goroutine (runtime.Goexit).
func (e *executor) unwound() {
	if e.r == nil {
		return
	}
	e.answer(e.r, nil, errors.New("the handler has ended its goroutine"))
	e.flush()
}

// proceed takes the next request to run, and leaves everything in order behind it.
// Without one it sends what is unsent; when there is nothing at all to do it makes
// the executor idle, or ends it, and returns nil. It is called with mu held and
// returns without.
func (e *executor) proceed() *Request {
	s, c := e.s, &e.s.crew
	for {
		r := c.next()
		if r == nil && !c.unsent {
			break
		}
		if r != nil {
			r.state = running
			c.busy++
		}
		if c.unsent && (r == nil || time.Since(c.since) > maxUnsent) {
			s.rouse() // others need not wait for our system call
			e.flush()
		} else {
			s.rouse()
			s.mu.Unlock()
		}
		if r != nil {
			return r
		}
		s.mu.Lock()
	}
	if c.dismissed || len(c.idle) >= maxIdle {
		close(e.wake)
	} else {
		c.idle = append(c.idle, e)
	}
	s.mu.Unlock()
	return nil
}

// flush sends what is unsent. It is called with mu held and returns without.
func (e *executor) flush() {
	c := &e.s.crew
	e.out, c.out = c.out, e.out
	c.unsent = false
	others := c.busy > 0
	e.s.mu.Unlock()
	if others {
		e.out.Flush() // some may be about to add to it
	} else {
		e.out.FlushNow()
	}
}
