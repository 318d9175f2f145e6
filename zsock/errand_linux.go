package zsock

// A handler that has something short to do costs less where the poller's goroutine
// does it than where it wakes another goroutine, and with it a thread. It may wait all
// the same, now and then: whoever notices has the poller relieved. Its loop goes on in
// a new goroutine, and the old one ends when it comes back.

// errand is what a handler has the poller do.
type errand struct {
	c  *Conn
	do func()
}

// Errand has the reader run do once it has handled and written all that it has read.
// It is for [Pauser.Paused] alone. do may wait if somebody looks after it who calls
// Relieve then: meanwhile nothing is read of any connection that has the same reader.
// Where the connection has a reader of its own Errand reports false, and do is not run.
func (c *Conn) Errand(do func()) bool {
	if c.sock == nil {
		return false
	}
	p := c.sock.p
	p.errands = append(p.errands, errand{c, do})
	return true
}

// Relieve has another goroutine read on, if c's reader is on an errand of c's. Anybody
// may call it once Errand was.
func (c *Conn) Relieve() {
	p := c.sock.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away == c {
		p.relieve()
	}
}

// relieve starts the loop anew, in place of a goroutine that is away. Called with mu
// held.
func (p *poller) relieve() {
	p.away = nil
	p.trip++
	go p.run()
}

// runErrands runs the errands. It reports false when another goroutine has the loop by
// then, with those that are left.
func (p *poller) runErrands() bool {
	for len(p.errands) > 0 {
		next := p.errands[0]
		n := copy(p.errands, p.errands[1:])
		p.errands[n] = errand{}
		p.errands = p.errands[:n]
		if !p.runErrand(next) {
			return false
		}
	}
	return true
}

// runErrand runs one. An errand may end its goroutine (runtime.Goexit): then the loop
// needs a new one.
func (p *poller) runErrand(e errand) (back bool) {
	trip := p.leaveFor(e.c)
	returned := false
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.trip != trip {
			return // relieved
		}
		if !returned {
			p.relieve()
			return
		}
		p.away, back = nil, true
	}()
	e.do()
	returned = true
	return
}

// leaveFor notes that the loop is away for c, and returns the number of its trip.
func (p *poller) leaveFor(c *Conn) (trip uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trip++
	p.away = c
	return p.trip
}
