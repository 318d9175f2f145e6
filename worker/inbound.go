package worker

import (
	"errors"
	"slices"
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
	n, cmd := &l.s.w.counters, &l.cmd
	if err := mdp.Decode(m.Frames(), mdp.AtEndpoint, cmd); err != nil || cmd.Dialect != mdp.Native || cmd.Role != mdp.Worker {
		n.malformed.Add(1)
		return
	}
	switch cmd.Kind {
	case mdp.Request:
		l.request(m)
	case mdp.Cancel:
		l.cancel(b)
	case mdp.Welcome:
		l.welcome()
	case mdp.Drain:
		l.drained = true // what it has sent before is still ours
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

// echo answers the broker's probe, at once and without waiting for anybody: it asks
// whether we live, and how far away we are.
func (l *link) echo(b *zsock.Batch, token uint64) {
	l.text.begin(mdp.Heartbeat).Head.Token = token
	_ = l.conn.Send(b, l.text.encode(), zsock.Body{}) // a connection that is full says enough
	b.FlushNow()
}

// request notes a request. What is to become of it is decided at the next pause.
func (l *link) request(m *zsock.Msg) {
	cmd, r := &l.cmd, l.newRequest()
	r.ID, r.Service, r.Attempt, r.token = cmd.Head.ID, l.s.w.cfg.Service, int(max(cmd.Head.Attempt, 1)), cmd.Head.Token
	if string(cmd.Service) != r.Service {
		r.Service = string(cmd.Service)
	}
	if cmd.Head.Remaining > 0 {
		if l.now == 0 {
			l.now = time.Since(l.s.epoch)
		}
		r.ctx.deadline = l.now + time.Duration(cmd.Head.Remaining)*time.Millisecond
	}
	// Each place is used once between two pauses. Who sends more gets it back, and
	// does not fill our memory meanwhile.
	if len(l.arrived) < l.s.w.cfg.Concurrency {
		l.keep(r, m, cmd.Body)
	}
	l.arrived = append(l.arrived, r)
}

// cancel ends the handler of a request, or sees that it is never started.
func (l *link) cancel(b *zsock.Batch) {
	s, token := l.s, l.cmd.Head.Token
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range l.arrived {
		if r.token == token {
			l.sendBack(b, r)
			l.arrived = slices.Delete(l.arrived, i, i+1)
			return
		}
	}
	switch r := l.requests.find(token); {
	case r == nil:
		s.w.counters.late.Add(1)
	case r.state == queued:
		l.forget(r)
		l.sendBack(b, r)
	case !r.cancelled.Swap(true):
		s.w.counters.cancelled.Add(1)
		r.ctx.end(mdp.Cancelled)
	}
}

// sendBack answers a request that is not started. Callers hold mu.
func (l *link) sendBack(b *zsock.Batch, r *Request) {
	l.s.w.counters.notTaken.Add(1)
	r.state = over
	r.release()
	// A connection that is too full even for this is closed, which answers all.
	if err := l.send(b, l.s.text.final(r, mdp.Final, errNotStarted), zsock.Body{}); err != nil {
		l.conn.Close(err)
	}
}

// Paused implements zsock.Pauser: it hands what has arrived to the crew. Only now
// has everything that was read been looked at, so a worker that was stopped for a
// while and finds CANCELs behind its REQUESTs starts none of them.
func (l *link) Paused(b *zsock.Batch, _ *zsock.Conn) {
	l.now = 0
	if len(l.arrived) == 0 && !l.drained {
		return
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := uint64(0)
	for _, r := range l.arrived {
		// The broker may have overlooked that there is no room. A request without a body
		// in memory, not even an empty one, is one of those.
		if r.Body == nil || l.leaving || s.held >= s.w.cfg.Concurrency || l.requests.find(r.token) != nil {
			l.sendBack(b, r)
			continue
		}
		taken++
		s.held++
		l.requests.add(r)
		s.crew.queue(r)
	}
	s.w.counters.requests.Add(taken)
	clear(l.arrived)
	l.arrived = l.arrived[:0]
	if l.drained && !l.confirmed {
		l.leaving, l.confirmed = true, true
		l.nudge()
	}
	l.engage()
}

// welcome makes the session ready, or notes the broker's refusal.
func (l *link) welcome() {
	s := l.s
	if err := mdp.AnswerError(&l.cmd); err != nil {
		s.w.counters.refusals.Add(1)
		// A broker that shuts down, or has no room now, is asked again.
		if !errors.Is(err, mdp.NotTaken) && !errors.Is(err, mdp.Busy) {
			s.mu.Lock()
			l.refused = err
			s.mu.Unlock()
		}
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
		l.limit.Store(max(w.MaxMessage-mdp.MaxHead, 0))
		l.conn.Permit(w.MaxMessage)
	}
	if w.HeartbeatMs > 0 {
		l.heartbeat = min(max(time.Duration(w.HeartbeatMs)*time.Millisecond, minHeartbeat), maxHeartbeat)
	}
	l.broker = w.Name
	s.mu.Unlock()
	l.nudge()
}

// Closed implements zsock.Handler: nobody waits for the answers any more, so the
// handlers are told to stop; the broker gives their requests to other workers.
func (l *link) Closed(*zsock.Batch, *zsock.Conn, error) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	l.down = true
	for _, r := range l.arrived {
		r.release()
	}
	l.arrived = nil
	l.dropBlock()
	l.requests.all(func(r *Request) {
		if r.state == queued {
			l.forget(r)
			r.state = over
			r.release()
			return
		}
		r.ctx.end(mdp.BrokerLost)
	})
}
