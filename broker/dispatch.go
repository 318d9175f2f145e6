package broker

import (
	"errors"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// submit puts a new request where it can run, or into a queue.
func (s *service) submit(batch *zsock.Batch, r *request, now int64) {
	if r.flags&mdp.FlagNoWait != 0 && !s.offered(now) {
		s.fail(batch, r, mdp.Errorf(mdp.NoWorker, "nobody offers %q", s.name))
		return
	}
	if r.deadline != 0 {
		s.wheel.add(r)
	}
	if s.nobodyBefore(r) && s.run(batch, r, now) {
		return
	}
	if s.offload(batch, r, now) {
		return
	}
	if r.guest() && s.meshCapacity == 0 {
		s.fail(batch, r, mdp.Errorf(mdp.NotTaken, "this broker has no worker for %q", s.name))
		return
	}
	s.enqueue(r)
	if s.free > 0 {
		s.dispatch(batch) // what waits before it may be for others to take
	}
}

// nobodyBefore tells whether no request waits that a new one would overtake.
func (s *service) nobodyBefore(r *request) bool {
	return s.queueOf(r).n == 0 && s.again.n == 0
}

func (s *service) queueOf(r *request) *queue {
	if r.guest() {
		return &s.guests
	}
	return &s.own
}

// enqueue files a request in its client's line by its age since it entered the mesh:
// new ones are among the last, where the search for their place begins, redelivered
// ones among the first. Guests that come back go to the front. What was taken
// from a silent worker stands in no line: not everybody may take it, and others
// must not wait for that.
func (s *service) enqueue(r *request) {
	s.changed()
	if r.moved {
		s.again.insertBefore(behind(s.again.first, r), r)
		r.again = true
		return
	}
	line := s.queueOf(r).line(r.from.conn)
	var at *request
	switch {
	case r.deliveries == 0 && r.refusals == 0:
		before := line.requests.last
		for n := 0; before != nil && before.entered > r.entered && n < maxLookedThrough; n++ {
			at, before = before, before.waiting.prev
		}
	case r.guest():
		at = line.requests.first
	default:
		at = behind(line.requests.first, r)
	}
	line.insert(at, r)
}

// behind finds the first one from at on that entered after r.
func behind(at, r *request) *request {
	for at != nil && at.entered < r.entered {
		at = at.waiting.next
	}
	return at
}

// dequeue takes a request out of wherever it waits. Served tells that somebody
// takes it: then it counts for its client's turn.
func (s *service) dequeue(r *request, served bool) {
	switch {
	case r.again:
		s.again.remove(r)
		r.again = false
	case r.line != nil && served:
		r.line.serve(r, s.turnLength())
	case r.line != nil:
		r.line.remove(r)
	default:
		return
	}
	s.changed()
}

// queued is how many requests wait here.
func (s *service) queued() int { return s.own.n + s.guests.n + s.again.n }

// waiting lists all requests that wait here.
func (s *service) waiting() []*request {
	all := make([]*request, 0, s.queued())
	for r := s.again.first; r != nil; r = r.waiting.next {
		all = append(all, r)
	}
	return s.guests.append(s.own.append(all))
}

// dispatch hands out waiting requests, client by client, as long as somebody takes
// them.
func (s *service) dispatch(batch *zsock.Batch) {
	if s.queued() == 0 {
		return
	}
	now := s.b.now()
	s.dispatchAgain(batch, now)
	for r := s.turn(); r != nil && (s.run(batch, r, now) || s.turn() != r); r = s.turn() {
	}
	s.move(batch, now)
}

// dispatchAgain hands out what was taken from silent workers. One that only a worker
// could take that has it already holds nobody up.
func (s *service) dispatchAgain(batch *zsock.Batch, now int64) {
	const limit = 16
	passed := 0
	for r := s.again.first; r != nil && passed < limit; {
		next := r.waiting.next
		if !s.run(batch, r, now) && !s.moveOne(batch, r, now) {
			passed++
		}
		r = next
	}
}

// turn is the request whose client's turn it is among those that a waiting worker
// may take, or nil. A guest that only workers of scope local could take holds
// nobody up.
func (s *service) turn() *request {
	switch {
	case s.free == 0:
		return nil
	case s.meshFree == 0 || s.turning:
		return s.own.next()
	}
	return s.next()
}

// next is the request whose turn is next, of a client here or a guest, or nil.
func (s *service) next() *request {
	own, guest := s.own.next(), s.guests.next()
	if own == nil || guest != nil && guest.before(own) {
		return guest
	}
	return own
}

// run gives the request to the least recently used worker that is idle, else to
// one with room. It reports false when the request has to wait.
func (s *service) run(batch *zsock.Batch, r *request, now int64) bool {
	for {
		w := s.pick(r)
		if w == nil {
			return false
		}
		switch err := w.request(batch, r, now); {
		case err == nil:
			s.servedAt = now
			s.dequeue(r, true)
			s.changed()
			return true
		case isUnfit(err):
			s.fail(batch, r, mdp.Errorf(mdp.TooBig, "the request does not fit into a message to a worker"))
			return true
		}
	}
}

// pick finds the worker whose turn it is, or nil.
func (s *service) pick(r *request) *worker {
	if s.free == 0 || r.guest() && s.meshFree == 0 {
		return nil
	}
	for _, l := range [...]*list[worker]{&s.idle, &s.partly} {
		for w := l.first; w != nil; w = w.waiting.next {
			if (!r.guest() || !w.local) && (!r.moved || !w.has(r)) {
				return w
			}
		}
	}
	return nil
}

// isUnfit tells a message that no connection takes, from one that this
// connection does not take now.
func isUnfit(err error) bool {
	return errors.Is(err, zsock.ErrTooBig) || errors.Is(err, zsock.ErrTooManyFrames)
}

// finish ends a request that has been answered, refused or dropped: its other
// holders are cancelled, and its slot is free again.
func (s *service) finish(batch *zsock.Batch, r *request) {
	s.dequeue(r, false)
	s.wheel.remove(r)
	for i := range r.holders {
		r.holders[i].cancel(batch, r)
	}
	if c := r.from.conn; c != nil {
		c.disown(r)
	}
	s.forgetCollected(r)
	s.hold(r, -r.size)
	s.table.release(r)
}

// cancel tells a holder that its answer is not wanted any more. A worker keeps
// the place until its FINAL comes: it may still be working.
func (h *holder) cancel(batch *zsock.Batch, r *request) {
	if h.worker != nil {
		h.worker.orphan(h.at, h.doubted)
		if !h.doubted { // else it was told
			h.worker.cancel(batch, r)
		}
		return
	}
	h.route.release(h.at) // a cancelled request is not answered over a link
	h.route.cancel(batch, r)
}

// claim leaves holder i as the only one: it began to answer, and what others say
// would be mixed into it.
func (s *service) claim(batch *zsock.Batch, r *request, i int) {
	if len(r.holders) < 2 {
		return
	}
	keep := r.holders[i]
	for k := range r.holders {
		if k != i {
			r.holders[k].cancel(batch, r)
		}
	}
	clear(r.holders)
	r.holders = append(r.holders[:0], keep)
}

// turnAway sends waiting guests back where they came from once no worker here may
// take them: their home knows more brokers than we do. There may be many of one peer:
// the ticker goes on with those that are more than a portion. Until then no guest is
// handed out.
func (s *service) turnAway(batch *zsock.Batch) {
	left := portion
	for ; s.meshCapacity == 0 && s.guests.n > 0 && left > 0; left-- {
		s.fail(batch, s.guests.next(), mdp.Errorf(mdp.NotTaken, "the last worker for %q has left", s.name))
	}
	if s.onceWorkers > 0 {
		for _, r := range s.guests.append(nil) {
			if left > 0 && !r.once() {
				left--
				r.flags |= mdp.FlagOnce
				s.fail(batch, r, onceOnly(s.name))
			}
		}
	}
	s.turning = left == 0
}

// turnsAway is why a peer's request is not even admitted, nil if it is.
func (s *service) turnsAway(c *conn) *mdp.Error {
	switch {
	case c.link.Load().paused.Load():
		return mdp.Errorf(mdp.NotTaken, "the link is paused")
	case s.onceWorkers > 0 && c.cmd.Head.Flags&mdp.FlagOnce == 0:
		return onceOnly(s.name)
	}
	return nil
}

// onceOnly: where a worker runs what it is given at most once, a request's home
// must know before, or it would give it to another one when the link is lost.
func onceOnly(service string) *mdp.Error {
	return mdp.Errorf(mdp.NotTaken, "some workers for %q run once: mark the request", service)
}

// expire answers a request whose deadline has passed.
func (s *service) expire(batch *zsock.Batch, r *request) {
	s.stats.Expired++
	s.fail(batch, r, s.late(r))
}

// late is what is said of a request whose deadline has passed.
func (s *service) late(r *request) *mdp.Error {
	switch {
	case r.mayHaveRun():
		return &mdp.Error{Status: mdp.Expired, Text: "the deadline passed before the answer came", MayHaveRun: true}
	case s.offered(s.b.now()):
		return mdp.Errorf(mdp.Expired, "the deadline passed while waiting for a worker")
	}
	return mdp.Errorf(mdp.Expired, "the deadline passed: no worker offers %q", s.name)
}

// clientGone is called when the connection a request came by has closed.
func (s *service) clientGone(batch *zsock.Batch, r *request) {
	if r.from.detached {
		r.from.conn = nil
		s.orphan(r)
		if limit := later(s.b.now(), s.b.cfg.BusyLimit); r.deadline == 0 || r.deadline > limit {
			s.wheel.remove(r) // nobody is left to give it up
			r.deadline = limit
			s.wheel.add(r)
		}
		return
	}
	s.cancelled(batch, r)
}
