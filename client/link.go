package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Liveness of a link (docs/PROTOCOL.md).
const (
	defaultHeartbeat = time.Second      // until WELCOME says better
	idleHeartbeat    = 15 * time.Second // while nothing is outstanding
	liveness         = 3                // silent intervals until the broker counts as gone
	looks            = 2                // for signs of the broker, an interval
	dialTimeout      = 5 * time.Second
	byeTimeout       = time.Second // for the last octets of a link
	// cautious is the size of body, in octets, that every broker takes. Larger ones
	// wait for WELCOME: a message that is too large costs the connection.
	cautious = 256 << 10
)

var (
	errSilent = errors.New("broker is silent")
	errBye    = errors.New("broker said goodbye")
)

// link is one connection to one broker, from its dial to its end. It is the
// zsock.Handler of that connection.
type link struct {
	c        *Client
	broker   *broker
	endpoint string
	conn     *zsock.Conn
	arrive   func(*zsock.Batch) // of a link made for one exchange: sends that, under mu
	gone     chan struct{}      // closed when the connection has ended
	left     chan struct{}      // closed when new requests should go elsewhere: drained or gone
	wake     chan struct{}      // capacity 1: the interval may have changed

	// Of the reader:
	command mdp.Command
	finals  []final  // not yet settled
	woken   []waiter // of settle
	tooBig  uint64   // token of the answer that the connection ends for, or 0

	// Client.mu guards the following.
	down        bool
	draining    bool
	parting     bool  // BYE is said: it takes nothing more
	refused     error // what WELCOME said
	reason      error // why it ended
	welcome     *mdp.WelcomeMap
	greeted     bool   // the log has it
	identity    string // name and incarnation of the broker, from WELCOME
	limit       int    // octets of a request's body
	heartbeat   time.Duration
	outstanding int
	since       instant       // when something became outstanding
	owing       time.Duration // for how long something was, since the last look
	looks       int           // so far
	busy        bool          // something was sent or outstanding since the last interval
	idle        bool          // beats have the long interval
	spoke       bool          // something was sent since the last interval
	silence     time.Duration // for how long the broker has owed us a word
	heard       uint32        // reads of conn at the last look
}

// dial connects and says HELLO. Requests may follow at once.
func (c *Client) dial(br *broker, limit time.Duration) (*link, error) {
	l := &link{
		c: c, broker: br, endpoint: br.endpoint,
		gone: make(chan struct{}), left: make(chan struct{}), wake: make(chan struct{}, 1),
		heartbeat: defaultHeartbeat, limit: cautious,
	}
	ctx, cancel := context.WithTimeout(c.ctx, limit)
	defer cancel()
	conn, err := zsock.Dial(ctx, l.endpoint, zsock.Config{
		Type: zsock.Dealer, Shared: true, Network: c.cfg.Network, Logger: c.cfg.Logger, MaxMessage: c.cfg.MaxMessage,
		// The calls are bounded; their number must not be refused a second time here.
		HighWaterMessages: c.cfg.MaxCalls + 1000,
	}, l)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", l.endpoint, err)
	}
	l.conn = conn
	return l, nil
}

// start begins a link's life: what is read is handled from now on, and requests may
// be sent. Somebody must tend the link until it ends.
func (l *link) start() {
	l.conn.Start(func() { close(l.gone) })
	l.open()
}

// run is the whole life of a link.
func (l *link) run() {
	l.start()
	l.tendToEnd()
}

// tendToEnd tends the link until its connection has ended, and says why it has.
func (l *link) tendToEnd() {
	l.tend(nil)
	l.logEnd()
}

// tend beats until the connection has ended, or left is closed.
func (l *link) tend(left <-chan struct{}) {
	c := l.c
	timer := time.NewTimer(l.interval())
	defer timer.Stop()
	closing := c.ctx.Done()
	var overtime <-chan time.Time
	for {
		select {
		case <-l.gone:
			return
		case <-left:
			return
		case <-closing:
			closing = nil
			last := time.NewTimer(byeTimeout)
			defer last.Stop()
			overtime = last.C
		case <-overtime:
			l.conn.Close(ErrClosed)
		case <-l.wake:
			l.logWelcome()
		case <-timer.C:
			l.beat()
		}
		timer.Reset(l.interval())
	}
}

// open says HELLO and offers the link to requests.
func (l *link) open() {
	c := l.c
	var b zsock.Batch
	c.mu.Lock()
	l.say(&b, mdp.Hello, c.hello)
	switch {
	case c.closed:
		l.bye(&b, ErrClosed)
	case !l.down:
		c.links = append(c.links, l)
		if c.active == nil && !l.draining {
			c.active = l
			c.resubmit(&b)
		}
	}
	if l.arrive != nil {
		l.arrive(&b)
	}
	c.mu.Unlock()
	b.Flush()
	c.log.Info("connected to broker", "endpoint", l.endpoint)
}

// say sends a command without a body. Callers hold mu. A link that cannot take it
// is about to close.
func (l *link) say(b *zsock.Batch, kind mdp.Kind, m []byte) {
	c := l.c
	c.command = mdp.Command{Role: mdp.Client, Kind: kind, Dialect: mdp.Native, Map: m}
	_ = l.conn.Send(b, mdp.Append(c.frames[:0], c.head[:], &c.command), zsock.Body{})
	l.spoke = true
}

// bye ends the link in good order. Callers hold mu.
func (l *link) bye(b *zsock.Batch, err error) {
	l.say(b, mdp.Bye, nil)
	l.parting = true
	l.conn.CloseAfterFlush(err)
}

// began notes that a request is outstanding. Callers hold mu.
func (l *link) began(now instant) {
	if l.outstanding++; l.outstanding == 1 {
		l.since = now
	}
	l.busy, l.spoke = true, true
	if l.idle {
		l.idle, l.silence, l.owing = false, 0, 0
		l.nudge()
	}
}

// ended notes that a request is not outstanding any more. Callers hold mu.
func (l *link) ended() {
	if l.outstanding--; l.outstanding == 0 {
		l.owing += time.Duration(l.c.now() - l.since)
	}
	if l.draining && l.outstanding == 0 {
		l.nudge()
	}
}

func (l *link) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// interval is how long to wait for the next look. A drained link that has nothing
// left to wait for ends here.
func (l *link) interval() time.Duration {
	var b zsock.Batch
	c := l.c
	c.mu.Lock()
	if l.draining && l.outstanding == 0 && !l.down && !l.parting {
		l.bye(&b, errBye)
	}
	d := l.heartbeat
	if l.idle {
		d = max(d, idleHeartbeat)
	}
	c.mu.Unlock()
	b.Flush()
	return d / looks
}

// beat ends a look: it counts the broker's silence and, at the end of an interval,
// breaks ours.
//
// The broker owes a word within each interval while something is outstanding, and
// within each long one otherwise. What is outstanding for moments only, such as
// requests that are soon cancelled, it need not have seen: so the time counts for
// which something was. One look counts for its part of an interval at most, which
// forgives a process that was stopped for a while.
func (l *link) beat() {
	var b zsock.Batch
	c := l.c
	c.mu.Lock()
	if l.outstanding > 0 {
		now := c.now()
		l.owing += time.Duration(now - l.since)
		l.since = now
	}
	interval := l.heartbeat
	if l.idle {
		l.owing, interval = idleHeartbeat, idleHeartbeat
	}
	l.silence += min(l.owing, interval/looks)
	if reads := l.conn.Reads(); reads != l.heard {
		l.silence, l.heard = 0, reads
	}
	l.owing = 0
	if l.silence >= liveness*interval {
		c.counters.silences.Add(1)
		l.conn.Close(fmt.Errorf("%w for %v", errSilent, l.silence))
	}
	if l.looks++; l.looks%looks == 0 {
		l.endInterval(&b)
	}
	c.mu.Unlock()
	b.Flush()
}

// endInterval says that we are there, if nothing else did, and sets the next interval.
// Callers hold mu.
func (l *link) endInterval(b *zsock.Batch) {
	if !l.spoke {
		l.say(b, mdp.Heartbeat, nil)
	}
	if idle := l.outstanding == 0 && !l.busy; idle != l.idle {
		l.idle, l.silence = idle, 0
	}
	l.busy = l.outstanding > 0
	l.spoke = false
}

// lasted tells whether the broker has welcomed us and not sent us away, so that
// dialling it again is no repetition of a failure.
func (l *link) lasted() bool {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	return l.welcome != nil && !l.draining
}

// leave makes new requests go elsewhere. Callers hold mu.
func (l *link) leave(b *zsock.Batch) {
	c := l.c
	select {
	case <-l.left:
		return
	default:
		close(l.left)
	}
	if c.active != l {
		return
	}
	if c.active = c.beside(l); c.active != nil {
		c.counters.failovers.Add(1)
		c.resubmit(b)
	}
}

// beside is a link other than l that takes requests, or nil. Callers hold mu.
func (c *Client) beside(l *link) *link {
	for _, other := range c.links {
		if other != l && !other.draining && !other.down {
			return other
		}
	}
	return nil
}

// resubmit sends what waits for a link. Callers hold mu.
func (c *Client) resubmit(b *zsock.Batch) {
	now := c.now()
	for i := range c.slots {
		if x := c.slots[i].x; x != nil && x.state == waiting {
			c.submit(x, b, now)
		}
	}
}

// Opened implements zsock.Handler.
func (l *link) Opened(*zsock.Conn) {}

// Closed implements zsock.Handler: what was outstanding is tried elsewhere or fails.
func (l *link) Closed(_ *zsock.Batch, _ *zsock.Conn, err error) {
	var b zsock.Batch
	c := l.c
	l.settle(&b) // what was answered before the end
	c.mu.Lock()
	l.down = true
	if i := slices.Index(c.links, l); i >= 0 {
		c.links = slices.Delete(c.links, i, i+1)
	}
	if l.refused != nil {
		err = l.refused
	}
	err = fmt.Errorf("%s: %w", l.endpoint, err)
	l.broker.err = err
	c.tellNews()
	l.leave(&b)
	if x := c.find(l, l.tooBig); x != nil { // another attempt's would be as large
		c.finish(x, &mdp.Error{Status: mdp.TooBig, Text: "the answer: " + err.Error(), MayHaveRun: true})
	}
	for i := range c.slots {
		if x := c.slots[i].x; x != nil && x.link == l {
			c.lost(x, &b, l, err)
		}
	}
	if c.active != nil {
		c.resubmit(&b) // what this link would not take any more
	}
	l.reason = err
	c.mu.Unlock()
	b.Flush()
}

// logWelcome says once who is there. The reader does not: nobody knows how long a log
// takes, and other links have the same reader.
func (l *link) logWelcome() {
	c := l.c
	c.mu.Lock()
	w, news := l.welcome, l.welcome != nil && !l.greeted
	l.greeted = l.welcome != nil
	c.mu.Unlock()
	if news {
		c.log.Debug("welcomed", "endpoint", l.endpoint, "broker", w.Name, "incarnation", w.Incarnation, "others", w.Others)
	}
}

// logEnd says why the link has ended, as logWelcome does.
func (l *link) logEnd() {
	c := l.c
	c.mu.Lock()
	closed, err := c.closed, l.reason
	c.mu.Unlock()
	switch {
	case closed:
	case errors.Is(err, errBye): // announced: nothing to worry about
		c.log.Info("broker said goodbye", "endpoint", l.endpoint)
	default:
		c.log.Warn("connection to broker ended", "endpoint", l.endpoint, "error", err)
	}
}

// lost sees to an exchange whose link has ended. Callers hold mu.
func (c *Client) lost(x *exchange, b *zsock.Batch, l *link, err error) {
	if x.kind == mdp.Attach {
		x.inquiry.fail(l.broker, err)
		c.ask(x, b, c.now())
		return
	}
	unwritten := l.conn.Unwritten(x.number)
	if unwritten {
		c.counters.unwritten.Add(1)
	}
	if unwritten || l.refused != nil { // a refused session runs nothing: that was no try
		c.leave(x)
		x.holder = nil
		c.submit(x, b, c.now())
		return
	}
	c.retry(x, b, &mdp.Error{Status: mdp.BrokerLost, Text: "connection lost: " + err.Error(), MayHaveRun: true}, 0)
}
