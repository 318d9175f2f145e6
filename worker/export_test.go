package worker

import (
	"runtime"
	"time"
)

// SetPace makes the handlers of r's session count as that quick. It is for handlers.
func SetPace(r *Request, mean time.Duration) {
	s := r.ctx.link.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crew.pace.mean = mean
}

// ErrandInVain is an errand of the reader of r's connection that finds nothing to do.
// It waits until there is none.
func ErrandInVain(r *Request) {
	l := r.ctx.link
	l.s.mu.Lock()
	for l.sent {
		l.s.mu.Unlock()
		runtime.Gosched()
		l.s.mu.Lock()
	}
	l.s.crew.running.Add(1)
	l.s.mu.Unlock()
	l.back()
}
