package worker

import (
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Bounds on what WELCOME may ask for.
const (
	minHeartbeat = 10 * time.Millisecond
	maxHeartbeat = time.Minute
)

// Opened implements zsock.Handler.
func (l *link) Opened(*zsock.Conn) {}

// Message implements zsock.Handler.
func (l *link) Message(b *zsock.Batch, _ *zsock.Conn, m *zsock.Msg) {
	l.read.Store(l.read.Load() + 1) // nobody else writes
	n, cmd := &l.s.w.counters, &l.cmd
	if err := mdp.Decode(m.Frames(), mdp.AtEndpoint, cmd); err != nil || cmd.Dialect != mdp.Native || cmd.Role != mdp.Worker {
		n.malformed.Add(1)
		return
	}
	switch cmd.Kind {
	case mdp.Request:
		l.request(b, m)
	case mdp.Cancel:
		l.cancel(b)
	case mdp.Welcome:
		l.welcome()
	case mdp.Drain:
		l.s.mu.Lock()
		l.leaving = true
		l.s.mu.Unlock()
		l.nudge()
	case mdp.Bye:
		l.conn.Close(errBye)
	case mdp.Heartbeat:
		if cmd.Head.Token != 0 {
			l.echo(b, cmd.Head.Token)
		}
	default:
		n.unknown.Add(1)
	}
}

// echo answers the broker's probe, at once: it asks whether we live, and how far
// away we are.
func (l *link) echo(b *zsock.Batch, token uint64) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.command = mdp.Command{Role: mdp.Worker, Kind: mdp.Heartbeat, Dialect: mdp.Native}
	s.command.Head.Token = token
	_ = l.send(b, zsock.Body{}) // a connection that is full says enough
}

// request takes a request, or sends it back where the broker has overlooked that
// there is no room. Its handler is started when all that was read is looked at.
func (l *link) request(b *zsock.Batch, m *zsock.Msg) {
	s, cmd := l.s, &l.cmd
	r := &Request{ID: cmd.Head.ID, Service: s.w.cfg.Service, Attempt: int(max(cmd.Head.Attempt, 1)), link: l, token: cmd.Head.Token}
	r.ctx.base = s.base
	if cmd.Head.Remaining > 0 {
		r.ctx.deadline = time.Now().Add(time.Duration(cmd.Head.Remaining) * time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.leaving || s.held >= s.w.cfg.Concurrency || l.requests[r.token] != nil {
		l.sendBack(b, r)
		return
	}
	if string(cmd.Service) != r.Service {
		r.Service = string(cmd.Service)
	}
	r.held = m.Body(cmd.Body).Hold()
	r.Body = r.held.Append(r.inline[:0])
	s.held++
	l.requests[r.token] = r
	l.arrived = append(l.arrived, r)
	s.w.counters.requests.Add(1)
}

// sendBack answers a request that was not started. Callers hold mu.
func (l *link) sendBack(b *zsock.Batch, r *Request) {
	l.s.w.counters.notTaken.Add(1)
	// A connection that is too full even for this is closed, which answers all.
	if err := l.answer(b, r, mdp.Final, mdp.Errorf(mdp.NotTaken, "not started"), zsock.Body{}); err != nil {
		l.conn.Close(err)
	}
}

// cancel ends the handler of a request, or sees that it is never started.
func (l *link) cancel(b *zsock.Batch) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	r := l.requests[l.cmd.Head.Token]
	switch {
	case r == nil:
		s.w.counters.late.Add(1)
	case r.state == running:
		if !r.cancelled {
			r.cancelled = true
			s.w.counters.cancelled.Add(1)
			r.ctx.end(mdp.Cancelled)
		}
	default:
		for i := range l.arrived {
			if l.arrived[i] == r {
				l.arrived = append(l.arrived[:i], l.arrived[i+1:]...)
				break
			}
		}
		l.sendBack(b, r)
		l.forget(r)
	}
}

// Paused implements zsock.Pauser: it hands what has arrived to executors. Only now
// has everything that was read been looked at, so a worker that was stopped for a
// while and finds CANCELs behind its REQUESTs starts none of them.
func (l *link) Paused(*zsock.Batch, *zsock.Conn) {
	if len(l.arrived) == 0 { // only the reader adds to it
		return
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range l.arrived {
		r.state = running
		s.execute(r)
	}
	clear(l.arrived)
	l.arrived = l.arrived[:0]
}

// welcome makes the session ready, or notes the broker's refusal.
func (l *link) welcome() {
	s := l.s
	if err := mdp.AnswerError(&l.cmd); err != nil {
		s.w.counters.refusals.Add(1)
		s.mu.Lock()
		l.refused = err
		s.mu.Unlock()
		l.conn.Close(err)
		return
	}
	var w mdp.WelcomeMap
	if err := mdp.DecodeMap(l.cmd.Map, &w); err != nil {
		s.w.counters.malformed.Add(1)
		l.conn.Close(err)
		return
	}
	s.w.counters.connects.Add(1)
	s.w.once.Do(func() { close(s.w.ready) })
	s.setRefused(nil)
	s.mu.Lock()
	l.welcomed = true
	if w.MaxMessage > 0 {
		l.limit = max(int(w.MaxMessage)-mdp.MaxHead, 0)
	}
	if w.HeartbeatMs > 0 {
		l.heartbeat = min(max(time.Duration(w.HeartbeatMs)*time.Millisecond, minHeartbeat), maxHeartbeat)
	}
	s.mu.Unlock()
	l.nudge()
	s.w.log.Info("offering service", "service", s.w.cfg.Service, "endpoint", s.endpoint, "broker", w.Name)
}

// Closed implements zsock.Handler: nobody waits for the answers any more, so the
// handlers are told to stop; the broker gives their requests to other workers.
func (l *link) Closed(*zsock.Conn, error) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	l.down = true
	for _, r := range l.arrived {
		l.forget(r)
	}
	l.arrived = nil
	for _, r := range l.requests {
		r.ctx.end(mdp.BrokerLost)
	}
}
