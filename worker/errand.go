package worker

// engage sees that what has arrived is begun: by the reader itself, where handlers are
// quick enough, or by an executor. Callers hold mu.
func (l *link) engage() {
	s, c := l.s, &l.s.crew
	free := c.first != nil && c.pace.trusted == nil && !c.waking && !c.dismissed && !l.away
	if !free || c.pace.each() >= instant || !l.conn.Errand(l.errand) {
		s.rouse()
		return
	}
	l.away = true
	c.running.Add(1)
	c.pace.trusted = &l.reader
	s.watch()
}

// runErrand is what the reader does in between: an executor's work. Where it comes to it
// so late that it is trusted no longer, others see to that, and nobody would relieve it.
func (l *link) runErrand() {
	defer l.back()
	l.s.mu.Lock()
	if l.s.crew.pace.trusted != &l.reader {
		l.s.mu.Unlock()
		return
	}
	l.reader.work()
}

// back ends the errand.
func (l *link) back() {
	l.reader.unwound()
	l.s.mu.Lock()
	l.away = false
	l.s.mu.Unlock()
	l.s.crew.running.Done()
}
