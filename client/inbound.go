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
	c, cmd := l.c, &l.command
	if err := mdp.Decode(m.Frames(), mdp.AtEndpoint, cmd); err != nil || cmd.Dialect != mdp.Native || cmd.Role != mdp.Client {
		c.counters.malformed.Add(1)
		return
	}
	switch cmd.Kind {
	case mdp.Final:
		l.final(cmd, m)
	case mdp.Partial:
		l.partial(b, cmd, m)
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

// final is an answer that ends its exchange.
type final struct {
	token   uint64
	attempt uint16
	body    answer
	err     error // nil or an *mdp.Error
}

// final keeps an answer until settle.
func (l *link) final(cmd *mdp.Command, m *zsock.Msg) {
	f := final{token: cmd.Head.Token, attempt: cmd.Head.Attempt, err: mdp.AnswerError(cmd)}
	if f.err == nil {
		f.body = keep(m, cmd.Body)
	}
	l.finals = append(l.finals, f)
}

// Refused implements zsock.Refuser: it notes whose answer the connection ends for.
func (l *link) Refused(_ *zsock.Conn, first []byte) {
	cmd := &l.command
	if err := mdp.Decode([][]byte{first}, mdp.AtEndpoint, cmd); err == nil && (cmd.Kind == mdp.Final || cmd.Kind == mdp.Partial) {
		l.tooBig = cmd.Head.Token
	}
}

// Paused implements zsock.Pauser.
func (l *link) Paused(b *zsock.Batch, _ *zsock.Conn) { l.settle(b) }

// settle ends the exchanges whose answers have come: all that were read at once
// under one lock, and with one flush for all that is sent because of them.
func (l *link) settle(b *zsock.Batch) {
	if len(l.finals) == 0 {
		return
	}
	c := l.c
	c.mu.Lock()
	for i := range l.finals {
		c.settle(l, b, &l.finals[i])
	}
	c.mu.Unlock()
	l.finals = emptied(l.finals)
	if len(l.woken) == 0 {
		return
	}
	// Who is woken tends to call again: the reader yields to them before it flushes.
	b.Add(l.conn)
	for i := range l.woken {
		l.woken[i].tell(c)
	}
	l.woken = emptied(l.woken)
}

// settle ends one exchange or tries it again. Callers hold mu.
func (c *Client) settle(l *link, b *zsock.Batch, f *final) {
	x := c.find(l, f.token)
	switch {
	case x == nil:
		c.counters.late.Add(1)
		f.body.large.Release()
	case f.err != nil:
		c.failed(l, x, b, f.err.(*mdp.Error), f.attempt)
	default:
		if x.restarts && x.answered != f.attempt {
			x.restart()
		}
		x.answered = f.attempt
		l.woken = append(l.woken, c.complete(x, f.body, nil))
	}
}

// failed sees to an answer to x that is an error. Callers hold mu.
func (c *Client) failed(l *link, x *exchange, b *zsock.Batch, e *mdp.Error, attempt uint16) {
	switch {
	case x.kind == mdp.Attach && e.Status == mdp.Unknown:
		x.inquiry.asked = append(x.inquiry.asked, l.broker)
		x.inquiry.answers++
		c.ask(x, b, c.now())
	case x.holder != nil && e.Status == mdp.Running:
		c.askLater(x, c.now())
	case x.holder != nil: // kept: it would come again
		c.finish(x, e)
	case x.call.Detached && x.mayRun && e.Status == mdp.Conflict:
		x.holder = l
		c.askHolder(x, b, c.now())
	default:
		c.retry(x, b, e, attempt)
	}
}

func (l *link) partial(b *zsock.Batch, cmd *mdp.Command, m *zsock.Msg) {
	c := l.c
	body := keep(m, cmd.Body)
	l.settle(b) // in the order in which they came
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.find(l, cmd.Head.Token); x != nil {
		c.partial(x, b, cmd.Head.Attempt, body)
	} else {
		c.counters.late.Add(1)
		body.large.Release()
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
	c.meet(l, w, b)
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
