package worker

import (
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// drain asks for no more requests; those that still come are sent back, and BYE waits
// until the broker has said that nothing is on its way: it could not be told from
// what was begun.
func (l *link) drain() {
	s := l.s
	var b zsock.Batch
	s.mu.Lock()
	l.leaving = true
	l.say(&b, mdp.Drain)
	s.mu.Unlock()
	b.Flush()
}

// confirm takes it that nothing more comes from the broker.
func (l *link) confirm() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.confirmed = true
}

// abandon ends the contexts of the handlers that have not finished in time. Their
// requests stay unanswered, so that the broker gives them to other workers.
func (l *link) abandon() {
	s := l.s
	var b zsock.Batch
	defer b.Flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	l.requests.all(func(r *Request) {
		if r.state == queued {
			l.forget(r)
			l.sendBack(&b, r)
			return
		}
		r.dropped = true
		r.ctx.end(ErrDrained)
		l.requests.remove(r)
	})
}

// leaveIfIdle says goodbye when a drain is complete, and tells whether it has.
func (l *link) leaveIfIdle() bool {
	s := l.s
	var b zsock.Batch
	s.mu.Lock()
	over := l.confirmed && !l.down && l.requests.n == 0
	if over {
		l.down = true
		l.say(&b, mdp.Bye)
		l.conn.CloseAfterFlush(errLeft)
	}
	s.mu.Unlock()
	b.Flush()
	return over
}
