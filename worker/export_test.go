package worker

import "time"

// SetPace makes the handlers of r's session count as that quick. It is for handlers.
func SetPace(r *Request, mean time.Duration) {
	s := r.ctx.link.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crew.pace.mean = mean
}
