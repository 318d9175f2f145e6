package broker

import (
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// What waits here goes on later than it came where it gains by it: to a peer that has
// idle workers, back to its home, or to where the others came later.

// How many requests are looked at, for one that may move.
const (
	// maxLookedThrough bounds the search for one that may go to an idle peer, and for
	// the place of a request whose age a peer told.
	maxLookedThrough = 1000
	// maxLevelled bounds the one for one that is older than those at a peer, which is
	// made for each message of a peer's.
	maxLevelled = 16
)

// How often a request may have come back, or have been refused, and go on.
const (
	maxReturns = 4               // by its age alone
	maxAway    = maxRefusals / 2 // at all, where workers here can take it: a peer that sends back must not end it
)

// move hands queued requests to peers that have room. Where nobody works here,
// requests go on as if they came now; else those that gain by it.
func (s *service) move(batch *zsock.Batch, now int64) {
	if len(s.routes) == 0 || s.queued() == 0 {
		return
	}
	for _, p := range s.routes {
		s.moveTo(batch, p, now)
	}
	if s.capacity == 0 || s.b.draining.Load() {
		for r := s.own.next(); r != nil && s.offload(batch, r, now); r = s.own.next() {
		}
	}
}

// moveTo hands a peer that is believed idle the first requests in turn that would
// wait here for longer than the way takes, and gives back what came from there.
func (s *service) moveTo(batch *zsock.Batch, p *route, now int64) {
	if s.own.n+s.guests.n == 0 || p.believedIdle() <= 0 {
		return
	}
	v := p.view(p.link.way(), now)
	if v.suspect {
		return
	}
	st := standing{workers: s.capacity, mean: s.mean.duration()}
	skip := st.waitsLonger(v.oneWay)
	for p.believedIdle() > 0 {
		r := s.after(skip, p)
		if r == nil || !s.handTo(batch, r, p, now) {
			break
		}
	}
	for left := portion; !s.returning && p.believedIdle() > 0 && skip < s.own.n+s.guests.n; left-- {
		r := s.guests.after(skip*s.guests.n/(s.own.n+s.guests.n), maxLookedThrough, p.lent)
		if r == nil {
			return
		}
		if left == 0 { // all of it is for one peer: the ticker goes on
			s.returning = true
			return
		}
		p.returned()
		s.sendBack(batch, r, "there are idle workers where it came from")
	}
}

// after is the older one of the two requests, of clients here and of guests, that
// have skip others before them and may go to the peer; nil if there is none.
func (s *service) after(skip int, p *route) *request {
	may := func(r *request) bool { return s.mayGo(r, p) }
	all := s.own.n + s.guests.n
	if skip >= all {
		return nil
	}
	return older(s.own.after(skip*s.own.n/all, maxLookedThrough, may), s.guests.after(skip*s.guests.n/all, maxLookedThrough, may))
}

// older is the older one of two requests, either of which may be nil.
func older(r, other *request) *request {
	if r == nil || other != nil && other.entered < r.entered {
		return other
	}
	return r
}

// lent tells whether r came from the peer and nobody here has started it: nothing goes
// back where it came from over a hop, but NOT_TAKEN brings it home.
func (p *route) lent(r *request) bool { return r.from.conn == p.link.c && !r.mayHaveRun() }

// sendBack answers a request that the peer lent with NOT_TAKEN.
func (s *service) sendBack(batch *zsock.Batch, r *request, why string) {
	s.b.count.requestsReturned.Add(1)
	s.fail(batch, r, mdp.Errorf(mdp.NotTaken, "%s", why))
}

// level hands a peer the first request here that has another before it and is older
// than all that wait there. A broker's next request runs about as soon as any other's,
// so of all that wait in the mesh the oldest ones should be next somewhere. The next
// one here stays, or two brokers would hand each other requests to and fro, unless the
// workers here are stalled. Where one client's backlog waits, one of its requests at a
// time is older than all at the peer.
func (s *service) level(batch *zsock.Batch, p *route, now int64) {
	stays := s.next()
	if stays == nil {
		return
	}
	here := view{workers: s.capacity, mean: s.mean.duration()}
	until := levels(here, p.view(p.link.way(), now), p.oldestAt)
	if stays.entered >= until {
		return
	}
	if here.stalled(time.Duration(now - s.servedAt)) {
		stays = nil
	}
	first := func(q *queue, may func(*request) bool) *request {
		return q.after(0, maxLevelled, func(r *request) bool { return r != stays && r.entered < until && may(r) })
	}
	mayGo := func(r *request) bool { return r.refusals < maxReturns && s.mayGo(r, p) }
	own := first(&s.own, mayGo)
	guest := first(&s.guests, func(r *request) bool { return mayGo(r) || p.lent(r) })
	switch r := older(own, guest); {
	case r == nil:
	case p.lent(r):
		p.oldestAt = r.entered
		s.sendBack(batch, r, "its turn comes sooner where it came from")
	case s.handTo(batch, r, p, now):
		p.oldestAt = r.entered
	}
}
