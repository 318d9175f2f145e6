package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Timing of a session (docs/PROTOCOL.md).
const (
	defaultHeartbeat = time.Second // until WELCOME says better
	liveness         = 3           // silent intervals until the broker counts as gone
	looks            = 2           // for signs of the broker, an interval
	dialTimeout      = 5 * time.Second
	// stopGrace is how long handlers may take to notice that their context has ended
	// when the worker must leave.
	stopGrace  = time.Second
	byeTimeout = time.Second // for the last octets of a connection
	// drainTimeout is how long the broker may take to answer our DRAIN.
	drainTimeout = time.Second
	// defaultMessage is how large a message may be, in octets, unless WELCOME says so.
	defaultMessage = 64 << 20
)

var (
	errSilent = errors.New("broker is silent")
	errBye    = errors.New("broker said goodbye")
	errLeft   = errors.New("left the broker")
)

// session is the relation to one broker, over all its connections. Concurrency is
// counted here: handlers that outlive a connection still occupy their place.
type session struct {
	w        *Worker
	endpoint string
	base     context.Context // of the handlers' contexts, for its values
	epoch    time.Time
	room     chan struct{} // capacity 1: a handler has ended

	mu   sync.Mutex // guards the following, and the links' and requests' guarded fields
	crew crew
	// held counts requests that are queued or run, those of lost links included.
	held int
	// current is the connection in use, or nil.
	current *link
	refused bool
	text    text // of what is said about no request, and of partials
}

// link is one connection of a session. It is the zsock.Handler of it.
type link struct {
	s    *session
	conn *zsock.Conn
	// limit is how many octets an answer's body may have.
	limit atomic.Int64
	wake  chan struct{} // capacity 1: look at the link again

	errand func() // runErrand, bound once

	// The following is the reader's own.
	cmd     mdp.Command
	text    text
	arrived []*Request    // read since the last pause, in order
	drained bool          // the broker has said DRAIN
	fresh   []Request     // allocated ahead
	block   *block        // takes small bodies
	now     time.Duration // since epoch, at the first deadline since the last pause

	// reader is what the reader is while it is on an errand. One that was relieved
	// goes on with it while another one reads.
	reader executor

	// session.mu guards the following.
	sent      bool  // the reader was sent on an errand and has not come back
	requests  table // queued or running
	credit    int   // what the broker was told last
	heartbeat time.Duration
	spoke     bool   // something was sent since the last interval
	heard     uint32 // reads of conn at the last look
	looks     int    // so far
	misses    int    // looks in a row that saw nothing
	welcomed  bool
	broker    string // its name
	greeted   bool   // the log has it
	leaving   bool   // we or the broker said DRAIN: nothing new is taken
	confirmed bool   // the broker did: nothing new comes
	down      bool   // no answer can be sent any more
	refused   error
}

func newSession(w *Worker, endpoint string, base context.Context) *session {
	return &session{
		w: w, endpoint: endpoint, base: base, epoch: time.Now(), room: make(chan struct{}, 1),
	}
}

// run keeps the session until ctx ends and its handlers have returned. It calls stop
// if now all sessions are refused.
func (s *session) run(ctx context.Context, stop context.CancelCauseFunc) error {
	var backoff zsock.Backoff
	failures := 0 // in a row
	for ctx.Err() == nil && s.awaitRoom(ctx) {
		l, err := s.connect(ctx)
		if l != nil && s.outcome(l) {
			backoff.Reset()
			failures = 0
		}
		if ctx.Err() != nil {
			break
		}
		level := hclog.Warn
		if failures++; failures > 1 {
			level = hclog.Debug // said already
		}
		s.w.log.Log(level, "no session with broker", "endpoint", s.endpoint, "service", s.w.cfg.Service, "error", err)
		if l != nil && s.setRefused(l.refusal()) {
			stop(&refusal{s.endpoint, l.refusal()})
		}
		_ = sleep(ctx, backoff.Next())
	}
	return s.finish()
}

// awaitRoom waits until there is room for a request: handlers that ran for a lost
// connection may take their time.
func (s *session) awaitRoom(ctx context.Context) bool {
	for {
		s.mu.Lock()
		free := s.w.cfg.Concurrency - s.held
		s.mu.Unlock()
		if free > 0 {
			return true
		}
		s.w.log.Warn("handlers of a lost connection still run, not reconnecting", "endpoint", s.endpoint, "service", s.w.cfg.Service)
		select {
		case <-s.room:
		case <-ctx.Done():
			return false
		}
	}
}

// connect makes one connection and serves it until it ends.
func (s *session) connect(ctx context.Context) (*link, error) {
	l := &link{s: s, wake: make(chan struct{}, 1), heartbeat: defaultHeartbeat}
	l.reader, l.errand = executor{s: s, link: l}, l.runErrand
	l.limit.Store(defaultMessage - mdp.MaxHead)
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := zsock.Dial(dial, s.endpoint, zsock.Config{
		Type: zsock.Dealer, Shared: true, Network: s.w.cfg.Network, Logger: s.w.cfg.Logger,
		MaxMessage: math.MaxInt64, // limit bounds what is sent
	}, l)
	cancel()
	if err != nil {
		return nil, err
	}
	conn.Permit(defaultMessage)
	l.conn = conn
	ended := make(chan error, 1)
	go func() { ended <- conn.Run(s.base) }()
	l.hello()
	err = l.serve(ctx, ended)
	s.mu.Lock()
	s.current = nil
	s.mu.Unlock()
	return l, err
}

// serve beats until the connection has ended. When ctx ends it drains.
func (l *link) serve(ctx context.Context, ended <-chan error) error {
	beats := time.NewTimer(l.interval())
	defer beats.Stop()
	var unanswered, overtime, last <-chan time.Time
	done := ctx.Done()
	for {
		select {
		case err := <-ended:
			l.logWelcome()
			return err
		case <-l.wake:
			l.logWelcome()
		case <-beats.C:
			l.beat()
		case <-done:
			done = nil
			l.drain()
			unanswered = time.After(drainTimeout)
			overtime = time.After(max(l.s.w.cfg.DrainTimeout, 0))
		case <-unanswered:
			l.confirm()
		case <-overtime:
			l.abandon()
		case <-last:
			l.conn.Close(errLeft)
		}
		l.raiseCredit()
		if l.leaveIfIdle() {
			last = time.After(byeTimeout)
		}
		beats.Reset(l.interval())
	}
}

// logWelcome says once that the session is ready. The reader does not: nobody knows
// how long a log takes.
func (l *link) logWelcome() {
	s := l.s
	s.mu.Lock()
	name, news := l.broker, l.welcomed && !l.greeted
	l.greeted = l.welcomed
	s.mu.Unlock()
	if news {
		s.w.log.Info("offering service", "service", s.w.cfg.Service, "endpoint", s.endpoint, "broker", name)
	}
}

// hello offers the service. The session is ready when WELCOME comes.
func (l *link) hello() {
	s := l.s
	var b zsock.Batch
	s.mu.Lock()
	s.current = l
	l.credit = max(s.w.cfg.Concurrency-s.held, 1)
	c := s.text.begin(mdp.Hello)
	c.Service, c.Map, c.Head.Status = []byte(s.w.cfg.Service), s.w.helloMap(l.credit), uint16(l.credit)
	_ = l.send(&b, s.text.encode(), zsock.Body{}) // or the connection is about to close
	s.mu.Unlock()
	b.Flush()
}

// send sends a message. Callers hold mu.
func (l *link) send(b *zsock.Batch, frames [][]byte, body zsock.Body) error {
	l.spoke = true
	return l.conn.Send(b, frames, body)
}

// say sends a command that is nothing but its kind. Callers hold mu. A connection
// that cannot take it is about to close.
func (l *link) say(b *zsock.Batch, kind mdp.Kind) {
	l.s.text.begin(kind)
	_ = l.send(b, l.s.text.encode(), zsock.Body{})
}

func (l *link) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) interval() time.Duration {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.heartbeat / looks
}

// beat ends a look: it counts the broker's silence and, at the end of an interval,
// breaks ours. Counting looks, not time, forgives a process that was stopped for a while.
func (l *link) beat() {
	s := l.s
	var b zsock.Batch
	s.mu.Lock()
	l.looks++
	l.misses++
	if reads := l.conn.Reads(); reads != l.heard {
		l.misses, l.heard = 0, reads
	}
	if l.misses >= liveness*looks {
		s.w.counters.silences.Add(1)
		l.conn.Close(fmt.Errorf("%w for %d heartbeats", errSilent, liveness))
	}
	if l.looks%looks == 0 {
		if !l.spoke {
			l.say(&b, mdp.Heartbeat)
		}
		l.spoke = false
	}
	s.mu.Unlock()
	b.Flush()
}

// raiseCredit tells the broker of places that handlers of an earlier connection
// have given back.
func (l *link) raiseCredit() {
	s := l.s
	var b zsock.Batch
	s.mu.Lock()
	credit := s.w.cfg.Concurrency - (s.held - l.requests.n)
	if credit > l.credit && !l.down && !l.leaving {
		l.credit = credit
		s.text.begin(mdp.Credit).Head.Status = uint16(credit)
		_ = l.send(&b, s.text.encode(), zsock.Body{}) // or the connection is about to close
	}
	s.mu.Unlock()
	b.Flush()
}

// outcome tells whether the connection was a working session.
func (s *session) outcome(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.welcomed
}

func (l *link) refusal() error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.refused
}

// setRefused notes how the last connection ended and tells whether all sessions of
// the worker are refused now.
func (s *session) setRefused(err error) (all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change := 0
	switch {
	case err != nil && !s.refused:
		change = 1
	case err == nil && s.refused:
		change = -1
	}
	s.refused = err != nil
	return s.w.refuse(change) && err != nil
}

// finish waits for the handlers, which have nobody to answer any more.
func (s *session) finish() error {
	s.dismiss()
	stopped := make(chan struct{})
	go func() {
		s.crew.running.Wait()
		close(stopped)
	}()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-stopped:
		return nil
	case <-grace.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("worker %s: %d handlers have not returned though their context has ended", s.w.cfg.Service, s.held)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
