package worker

import "time"

const (
	// instant is how long handlers take at most to be run by the reader: waking an
	// executor takes as long.
	instant = 10 * time.Microsecond
	// quick is how long handlers take at most, with all that is done around them, to be
	// run one after another by one executor; and quickRun how long all that are queued.
	// Waking a second one costs more than they do, unless there is that much to share.
	quick    = 20 * time.Microsecond
	quickRun = 200 * time.Microsecond
	// patience is how long the trusted executor may stay away before others are woken:
	// once this long, or nearly twice. Each look costs a thread that is woken for it, so
	// where steady looks in a row have found nothing, for a quarter of a second at least,
	// they are rarer: a handler that blocks delays others for up to 4 ms then, once.
	patience       = 500 * time.Microsecond
	steadyPatience = 2 * time.Millisecond
	steady         = 500
	// unknown is taken for the pace of handlers that have not run yet.
	unknown = time.Millisecond
)

// pace is how long a session's handlers take, and whom that lets it trust. session.mu
// guards it.
//
// While handlers are quick, an executor that starts one while others are queued is
// trusted to come back: nobody else is woken. A handler may block all the same, after
// any number that did not. So a timer looks after the trusted one, as long as there
// is one: where it has not moved between two looks it is trusted no longer, others
// are woken, and handlers count as slow until enough of them have been quick again. A
// reader that is on one errand at two looks is relieved, whether it moves or not: much
// else may wait for it.
type pace struct {
	mean    time.Duration // of a handler and what is around it, lately; zero: unknown
	trusted *executor     // comes back soon, or nil
	turns   uint          // requests that trusted ones have taken
	seen    uint          // of those, when the timer was set
	errand  uint          // number of the trusted one's errand, when the timer was set
	calm    uint          // looks in a row that found nobody who stays away
	timer   *time.Timer
	armed   bool
}

// each is what one request takes.
func (p *pace) each() time.Duration {
	if p.mean == 0 {
		return unknown
	}
	return p.mean
}

// answers is how many answers are sent together.
func (p *pace) answers() int { return int(min(max(maxUnsent/p.each(), 1), maxAnswers)) }

// took notes that n requests took d together. Where the processor is taken away
// meanwhile that says little, so no single observation counts for too much.
func (p *pace) took(d time.Duration, n int) {
	each := p.each()
	d = min(d/time.Duration(n), 4*each+time.Microsecond)
	p.mean = max(each+(d-each)/8, 1)
}

// forget trusts e no longer, if it was the one.
func (p *pace) forget(e *executor) {
	if p.trusted == e {
		p.trusted = nil
	}
}

// stop ends the timer for good.
func (p *pace) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

// begin begins a measurement.
func (e *executor) begin() { e.began, e.served = time.Since(e.s.epoch), 0 }

// measure ends one. Callers hold mu.
func (e *executor) measure() {
	if e.served > 0 {
		e.s.crew.pace.took(time.Since(e.s.epoch)-e.began, e.served)
		e.served = 0
	}
}

// trusts tells whether what is queued and unsent is safe with the trusted executor.
// Callers hold mu.
func (s *session) trusts() bool {
	c := &s.crew
	return c.pace.trusted != nil && c.pace.mean < quick && time.Duration(c.queued)*c.pace.mean < quickRun
}

// leave is called by an executor that is about to be away, in a handler or in a system
// call: it sees that somebody looks after what it leaves behind. Callers hold mu.
func (e *executor) leave() {
	s, c := e.s, &e.s.crew
	p := &c.pace
	if p.trusted == nil && !c.waking && c.queued > 0 && p.each() < quick {
		p.trusted = e
	}
	if p.trusted == e {
		p.turns++
		s.watch()
	}
	s.rouse()
}

// watch sets the timer for the trusted one, unless it is set already. Callers hold mu.
func (s *session) watch() {
	p := &s.crew.pace
	if p.armed || s.crew.dismissed {
		return
	}
	p.armed, p.seen, p.errand = true, p.turns, p.trusted.errands
	d := patience
	if p.calm >= steady {
		d = steadyPatience
	}
	if p.timer == nil {
		p.timer = time.AfterFunc(d, s.look)
		return
	}
	p.timer.Reset(d)
}

// look looks whether the trusted executor moves.
func (s *session) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.crew.pace
	p.armed = false
	p.calm++
	e := p.trusted
	if e == nil {
		return
	}
	if e.on && e.errands == p.errand {
		e.relieve()
	}
	if p.turns != p.seen {
		s.watch()
		return
	}
	p.trusted, p.calm = nil, 0
	if e.link == nil || e.on { // else it was kept from beginning, which says nothing of handlers
		p.mean = max(p.mean, unknown)
	}
	s.rouse()
}

// relieve has somebody else read on, if e is a reader.
func (e *executor) relieve() {
	if e.link != nil {
		e.link.conn.Relieve()
	}
}
