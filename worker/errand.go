package worker

// engage sees that what has arrived is begun: by the reader itself, where handlers are
// quick enough, or by an executor. Callers hold mu.
func (l *link) engage() {
	s, c := l.s, &l.s.crew
	free := c.first != nil && c.pace.trusted == nil && !c.waking && !c.dismissed && !l.sent
	if !free || c.pace.each() >= instant || !l.conn.Errand(l.errand) {
		s.rouse()
		return
	}
	l.sent = true
	c.running.Add(1)
	l.reader.errands++
	c.pace.trusted = &l.reader
	c.pace.turns++
	s.watch()
}

// runErrand is what the reader does in between: an executor's work. If it begins so
// late that it is trusted no longer, the work is others' by then, and nobody would
// relieve it.
func (l *link) runErrand() {
	defer l.back()
	l.s.mu.Lock()
	if l.s.crew.pace.trusted != &l.reader {
		l.s.mu.Unlock()
		return
	}
	l.reader.on = true
	l.reader.work()
}

// back ends the errand.
func (l *link) back() {
	l.reader.unwound()
	l.s.mu.Lock()
	l.reader.on, l.sent = false, false
	l.s.mu.Unlock()
	l.s.crew.running.Done()
}
