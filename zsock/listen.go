package zsock

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"
)

// Waits of the accept loop after an error, such as no free descriptors.
const (
	minAcceptWait = 5 * time.Millisecond
	maxAcceptWait = time.Second
)

// Listener accepts connections, shakes hands with each in a goroutine of its own,
// and runs them.
type Listener struct {
	endpoint string
	cfg      Config
	h        Handler
	nl       net.Listener
	tally    tally
	wg       sync.WaitGroup

	mu       sync.Mutex
	stopped  bool      // StopAccepting, or Run is over
	ended    bool      // Run is over: what still shakes hands is turned away
	shaking  list.List // of *stranger, the oldest first
	conns    map[*Conn]host
	hosts    map[host]int // of conns
	counters ListenerCounters
	warned   time.Time // when the last failed handshake was logged
	quiet    int       // failed handshakes since then
}

// stranger is a connection whose handshake is not finished.
type stranger struct {
	cancel context.CancelCauseFunc
	from   host
	gone   bool // taken off the list, to make room or because the handshake is over
}

// Listen binds endpoint, such as tcp://127.0.0.1:5555; port 0 lets the system
// choose. It starts nothing: until Run, peers wait in the kernel's backlog. A
// listener that is never run is ended by StopAccepting.
func Listen(endpoint string, cfg Config, h Handler) (*Listener, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	nl, err := cfg.Network.Listen(endpoint)
	if err != nil {
		return nil, fmt.Errorf("zsock: listen %s: %w", endpoint, err)
	}
	return &Listener{
		endpoint: realEndpoint(endpoint, nl.Addr()),
		cfg:      cfg,
		h:        h,
		nl:       nl,
		conns:    make(map[*Conn]host),
		hosts:    make(map[host]int),
		counters: ListenerCounters{Refused: make(map[string]uint64), Failed: make(map[string]uint64)},
	}, nil
}

// Endpoint is what peers connect to, with the real port filled in.
func (l *Listener) Endpoint() string { return l.endpoint }

// Counters is a snapshot.
func (l *Listener) Counters() ListenerCounters {
	l.mu.Lock()
	s := l.counters
	s.Refused, s.Failed = maps.Clone(s.Refused), maps.Clone(s.Failed)
	s.Open, s.Handshaking = len(l.conns), l.shaking.Len()
	l.mu.Unlock()
	l.tally.fill(&s)
	return s
}

// StopAccepting closes the listening socket; what is connected goes on.
func (l *Listener) StopAccepting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopped {
		l.stopped = true
		_ = l.nl.Close()
	}
}

// Run accepts until ctx ends. Then it closes the listening socket and every
// connection, waits for their goroutines, and returns nil.
func (l *Listener) Run(ctx context.Context) error {
	handshakes, cancel := context.WithCancel(ctx)
	defer cancel()
	l.wg.Go(func() { l.accept(handshakes) })
	<-ctx.Done()

	l.StopAccepting()
	l.mu.Lock()
	l.ended = true
	for c := range l.conns {
		c.Close(fmt.Errorf("%w: listener ended", ErrClosed))
	}
	l.mu.Unlock()
	l.wg.Wait()
	return nil
}

// accept never stops for an error: it waits and tries again. While descriptors are
// short, connections wait in the kernel's backlog.
func (l *Listener) accept(ctx context.Context) {
	wait := minAcceptWait
	for {
		nc, err := l.nl.Accept()
		if err == nil {
			wait = minAcceptWait
			l.admit(ctx, nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.counters.AcceptErrors++
		l.mu.Unlock()
		l.cfg.Logger.Warn("accept failed", "endpoint", l.endpoint, "error", err, "retry-in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, maxAcceptWait)
	}
}

// admit starts the handshake of a new connection, within the limits.
func (l *Listener) admit(ctx context.Context, nc net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counters.Accepted++
	from := hostOf(nc.RemoteAddr())
	if l.refusesLocked(nc, from) {
		return
	}
	if l.shaking.Len() >= l.cfg.MaxHandshakes {
		oldest := l.shaking.Remove(l.shaking.Front()).(*stranger)
		oldest.gone = true
		oldest.cancel(ErrMaxHandshakes)
		l.counters.Refused[reasonName(ErrMaxHandshakes)]++
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stranger{cancel: cancel, from: from}
	at := l.shaking.PushBack(s)
	l.wg.Go(func() { l.meet(ctx, nc, s, at) })
}

// meet shakes hands and, when that succeeds, leaves the connection to a goroutine
// of its own: the handshake's deep stack is not kept for the connection's life.
func (l *Listener) meet(ctx context.Context, nc net.Conn, s *stranger, at *list.Element) {
	defer s.cancel(nil)
	remote := nc.RemoteAddr()
	k, err := shake(ctx, nc, &l.cfg, true)
	if l.met(ctx, nc, s, at, k, err) {
		l.complain(remote, err)
	}
}

// met takes over what has shaken hands, within the limits. It tells whether the
// handshake has failed, rather than been ended from here.
func (l *Listener) met(ctx context.Context, nc net.Conn, s *stranger, at *list.Element, k *link, err error) (failed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.gone {
		if err == nil {
			_ = nc.Close()
		}
		return false // counted by the one that made it go
	}
	s.gone = true
	l.shaking.Remove(at)
	switch {
	case l.ended || ctx.Err() != nil:
		if err == nil {
			_ = nc.Close()
		}
	case err != nil:
		l.counters.Failed[reasonName(err)]++
		return true
	case l.refusesLocked(nc, s.from):
	default:
		l.counters.Opened++
		c := newConn(k, &l.cfg, l.h, &l.tally)
		l.conns[c] = s.from
		l.hosts[s.from]++
		l.wg.Add(1)
		c.Start(func() { l.left(c) })
	}
	return false
}

// freeOfHost is how many connections one host may have for each that is free, once half
// are taken. One that takes what it can ends at four fifths of MaxConns.
const freeOfHost = 4

// refusesLocked closes a connection beyond the limits, and counts it. Whoever says nothing
// stays: one host is not to take every place.
func (l *Listener) refusesLocked(nc net.Conn, from host) bool {
	var why error
	switch open := len(l.conns); {
	case open >= l.cfg.MaxConns:
		why = ErrMaxConns
	case open >= l.cfg.MaxConns/2 && l.hosts[from] >= freeOfHost*(l.cfg.MaxConns-open):
		why = ErrMaxOfHost
	default:
		return false
	}
	l.counters.Refused[reasonName(why)]++
	_ = nc.Close()
	return true
}

// left is called when a connection has ended.
func (l *Listener) left(c *Conn) {
	l.mu.Lock()
	from := l.conns[c]
	delete(l.conns, c)
	if l.hosts[from]--; l.hosts[from] == 0 {
		delete(l.hosts, from)
	}
	l.mu.Unlock()
	l.wg.Done()
}

// complain logs a failed handshake, at most one a second: strangers must not fill
// the log. It does so without the lock, which a poller takes for every connection
// that ends: nobody knows how long a log takes.
func (l *Listener) complain(remote net.Addr, err error) {
	now := time.Now()
	l.mu.Lock()
	if !l.warned.IsZero() && now.Sub(l.warned) < time.Second {
		l.quiet++
		l.mu.Unlock()
		return
	}
	quiet := l.quiet
	l.warned, l.quiet = now, 0
	l.mu.Unlock()
	l.cfg.Logger.Warn("handshake failed", "endpoint", l.endpoint, "remote", remote, "error", err, "not-logged", quiet)
}
