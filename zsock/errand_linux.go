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
// Where the reader is not to be sent away Errand reports false, and do is not run.
func (c *Conn) Errand(do func()) bool {
	if c.sock == nil {
		return false
	}
	p := c.sock.p
	p.errands = append(p.errands, errand{c, do})
	return true
}

// Relieve has another goroutine read on, if c's reader is on an errand of c's. Anybody
// may call it, at any time.
func (c *Conn) Relieve() {
	if c.sock == nil {
		return
	}
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
		e := p.errands[0]
		n := copy(p.errands, p.errands[1:])
		p.errands[n] = errand{}
		p.errands = p.errands[:n]
		if !p.errand(e) {
			return false
		}
	}
	return true
}

// errand runs one errand. An errand may end its goroutine (runtime.Goexit): then
// the loop needs a new one.
func (p *poller) errand(e errand) (back bool) {
	p.mu.Lock()
	p.trip++
	trip := p.trip
	p.away = e.c
	p.mu.Unlock()
	returned := false
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch back = p.trip == trip; {
		case back && !returned:
			p.relieve()
		case back:
			p.away = nil
		}
	}()
	e.do()
	returned = true
	return
}
