package broker

import (
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// What becomes of requests whose holder has gone, was silent for too long or has refused
// them: another one tries, or whoever asked is told.

// ending is a request that is to be failed. Nobody holds it and it does not wait, so
// that nothing but an end can come between: then the token finds it no more.
type ending struct {
	token uint64
	err   *mdp.Error
}

// endings are what one holder leaves behind that cannot go on.
type endings []ending

// add notes what loss, givenBack or left said of a request.
func (e *endings) add(token uint64, err *mdp.Error) {
	if err != nil {
		*e = append(*e, ending{token, err})
	}
}

// portionsATick is how many portions of endings the ticker tells of in a turn: of one peer
// that is told of all of them they fill a fraction of the queue, also when another batch
// has that peer and is not flushed meanwhile.
const portionsATick = 8

// end fails what one holder leaves behind. It may all be owed to one peer: the ticker
// goes on with what is more than a portion.
func (s *service) end(batch *zsock.Batch, all endings) {
	s.endings = append(s.endings, all...)
	s.endSome(batch)
}

// endSome fails a portion of the endings, and reports whether there are more.
func (s *service) endSome(batch *zsock.Batch) bool {
	if len(s.endings) == 0 {
		return false
	}
	some := s.endings[:min(len(s.endings), portion)]
	for _, e := range some {
		if r := s.table.find(e.token); r != nil {
			s.fail(batch, r, e.err)
		}
	}
	clear(some)
	if s.endings = s.endings[len(some):]; len(s.endings) > 0 {
		return true
	}
	s.endings = nil
	return false
}

// goOn does the next portion of what was more than one, once a tick. It reports whether
// there are endings left, which endMore may go on with.
func (s *service) goOn(batch *zsock.Batch, now int64) bool {
	if s.turning {
		s.turnAway(batch)
		s.dispatch(batch)
	}
	if s.returning {
		s.returning = false
		s.move(batch, now)
	}
	return s.endSome(batch)
}

// endMore fails further portions of endings and writes each. Call it without the mutex.
func (s *service) endMore(batch *zsock.Batch) {
	for range portionsATick - 1 {
		batch.Flush()
		s.mu.Lock()
		more := s.endSome(batch)
		s.mu.Unlock()
		if !more {
			return
		}
	}
}

// left is called when a holder went away by its connection c without an answer to h,
// and is none of the request's holders any more. What was never written to it, it
// cannot have started. It returns what the request is to be failed with, nil if it goes on.
func (s *service) left(h held, c *conn, status mdp.Status, why string) *mdp.Error {
	if c.z.Unwritten(h.number) {
		s.b.count.requestsUnwritten.Add(1)
		h.r.refusals = max(h.r.refusals, 1) // it is not new any more, but nobody has refused it
		return s.givenBack(h.r)
	}
	return s.loss(h.r, status, why)
}

// lost is called when a holder went away without an answer: another one tries,
// unless the rules forbid it (docs/PROTOCOL.md section 7).
func (s *service) lost(batch *zsock.Batch, r *request, status mdp.Status, why string) {
	if err := s.loss(r, status, why); err != nil {
		s.fail(batch, r, err)
	}
}

// loss is lost for one of many: it returns what the request is to be failed with, nil if
// it goes on.
func (s *service) loss(r *request, status mdp.Status, why string) *mdp.Error {
	switch {
	case r.waits(), r.trusted(nil): // somebody else will answer
	case s.mayRedeliver(r):
		s.stats.Redelivered++
		s.forgetCollected(r)
		s.enqueue(r)
	case len(r.holders) > 0: // a suspect still may
	default:
		if r.spent() && !r.guest() && !r.once() {
			status = mdp.WorkerLost
			s.poisoned(r, why)
		}
		return &mdp.Error{Status: status, Text: why, MayHaveRun: true}
	}
	return nil
}

// mayRedeliver: only the home broker tries again; never what must run once, what
// has sent a partial (unless the caller can restart), or what had its tries.
func (s *service) mayRedeliver(r *request) bool {
	return !r.once() && !r.guest() && !r.spent() &&
		(r.partials == 0 || r.flags&mdp.FlagRestartable != 0)
}

// notTaken is called when a holder says that it never started the request: it
// goes elsewhere without counting an attempt, but not for ever.
func (s *service) notTaken(batch *zsock.Batch, r *request) {
	if !r.last.doubted {
		r.refusals++
	}
	if r.refusals >= maxRefusals && !r.waits() && !r.trusted(nil) {
		r.uncount()
		err := busy("everybody refuses the request")
		err.MayHaveRun = r.mayHaveRun()
		s.fail(batch, r, err)
		return
	}
	if err := s.givenBack(r); err != nil {
		s.fail(batch, r, err)
	}
}

// uncount takes back the last delivery, which did not come to anything. The number
// of an attempt is given again only if it is the last one: two holders never share one.
func (r *request) uncount() {
	if r.last.attempt+1 == r.nextAttempt() {
		r.deliveries--
	}
}

// givenBack lets a request that its last holder never started go elsewhere. It returns
// what it is to be failed with, nil if it goes on.
func (s *service) givenBack(r *request) *mdp.Error {
	r.uncount()
	switch {
	case r.waits(), r.trusted(nil):
	case r.spent():
		return s.loss(r, mdp.WorkerLost, "refused after others were lost")
	case r.flags&mdp.FlagNoWait != 0 && !s.offered(s.b.now()):
		return &mdp.Error{Status: mdp.NoWorker, Text: "nobody takes the request", MayHaveRun: r.mayHaveRun()}
	case r.guest() && s.meshCapacity == 0:
		return mdp.Errorf(mdp.NotTaken, "nobody takes the request")
	case s.b.draining.Load() && r.from.conn != nil && r.from.dialect == mdp.Native && !r.mayHaveRun():
		return mdp.Errorf(mdp.NotTaken, "the broker is shutting down") // its client knows others
	default:
		s.enqueue(r)
	}
	return nil
}
