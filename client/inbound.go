package client

import (
	"math"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Bounds on what WELCOME may ask for.
const (
	minHeartbeat = 10 * time.Millisecond
	maxHeartbeat = time.Minute
)

// Message implements zsock.Handler.
func (l *link) Message(b *zsock.Batch, _ *zsock.Conn, m *zsock.Msg) {
	if !l.heard.Load() {
		l.heard.Store(true)
	}
	c, cmd := l.c, &l.command
	frames := m.Frames()
	if err := mdp.Decode(frames, mdp.AtEndpoint, cmd); err != nil || cmd.Dialect != mdp.Native || cmd.Role != mdp.Client {
		c.counters.malformed.Add(1)
		return
	}
	switch cmd.Kind {
	case mdp.Final:
		l.final(b, cmd, frames[cmd.Body:])
	case mdp.Partial:
		l.partial(b, cmd, frames[cmd.Body:])
	case mdp.Welcome:
		l.welcomed(b, cmd)
	case mdp.Drain:
		l.drain(b)
	case mdp.Bye:
		l.conn.Close(errBye)
	case mdp.Heartbeat:
	default:
		c.counters.unknown.Add(1)
	}
}

// final ends the exchange that the answer belongs to.
func (l *link) final(b *zsock.Batch, cmd *mdp.Command, frames [][]byte) {
	c := l.c
	var body [][]byte
	err := mdp.AnswerError(cmd)
	if err == nil {
		body = clone(frames)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.find(l, cmd.Head.Token)
	switch {
	case x == nil:
		c.counters.late.Add(1)
	case err != nil:
		c.retry(x, b, err.(*mdp.Error))
	default:
		if x.restarts && x.answered != cmd.Head.Attempt && !x.stream {
			x.partials = nil // of an attempt that another one overtook
		}
		x.answered = cmd.Head.Attempt
		c.finish(x, body, nil)
	}
}

func (l *link) partial(b *zsock.Batch, cmd *mdp.Command, frames [][]byte) {
	c := l.c
	body := clone(frames)
	if body == nil {
		body = [][]byte{} // nil stands for a restart
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.find(l, cmd.Head.Token); x != nil {
		c.partial(x, b, cmd.Head.Attempt, body)
	} else {
		c.counters.late.Add(1)
	}
}

// welcomed takes over what the broker says of itself, or its refusal.
func (l *link) welcomed(b *zsock.Batch, cmd *mdp.Command) {
	c := l.c
	if err := mdp.AnswerError(cmd); err != nil {
		c.mu.Lock()
		l.refused = err
		c.mu.Unlock()
		l.conn.Close(err)
		return
	}
	w := new(mdp.WelcomeMap)
	if err := mdp.DecodeMap(cmd.Map, w); err != nil {
		c.counters.malformed.Add(1)
		l.conn.Close(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l.welcome, l.limit = w, math.MaxInt
	if w.MaxMessage > 0 {
		l.limit = max(int(w.MaxMessage)-mdp.MaxHead, 0)
	}
	if w.HeartbeatMs > 0 {
		l.heartbeat = min(max(time.Duration(w.HeartbeatMs)*time.Millisecond, minHeartbeat), maxHeartbeat)
	}
	for i := range c.brokers {
		if c.brokers[i].endpoint == l.endpoint {
			c.brokers[i].err = nil
		}
	}
	close(c.news)
	c.news = make(chan struct{})
	if c.active == l {
		c.resubmit(b) // what was too large to send unseen
	}
	l.nudge()
}

// drain notes that the broker is leaving: outstanding requests still get answers.
func (l *link) drain(b *zsock.Batch) {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	l.draining = true
	l.leave(b)
	l.nudge()
}

// clone copies frames into memory of their own: two allocations for any number.
func clone(frames [][]byte) [][]byte {
	if len(frames) == 0 {
		return nil
	}
	size := 0
	for _, f := range frames {
		size += len(f)
	}
	buf := make([]byte, 0, size)
	out := make([][]byte, len(frames))
	for i, f := range frames {
		at := len(buf)
		buf = append(buf, f...)
		out[i] = buf[at:len(buf):len(buf)]
	}
	return out
}
