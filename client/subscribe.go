package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Bounds on events that wait for the subscriber's function.
const (
	maxEvents    = 10_000
	maxEventSize = 8 << 20
)

// Event is what a publisher sent. The receiver owns it.
type Event struct {
	Topic string
	Body  [][]byte
}

// size is what the event counts towards the bound.
func (e *Event) size() int {
	n := len(e.Topic)
	for _, f := range e.Body {
		n += len(f)
	}
	return n
}

// Subscribe calls fn, one at a time, with each event whose topic starts with one of
// topics ("" is every event), until ctx ends: then it returns nil. It returns an
// error only if it cannot start. It has a connection of its own, to the broker in use;
// when that ends, or the one for calls does, as with a broker that is silent, it dials
// and subscribes again, and what is published meanwhile is missed. While fn is behind by
// 10,000 events or 8 MiB the oldest are dropped and counted.
func (c *Client) Subscribe(ctx context.Context, topics []string, fn func(Event)) error {
	if len(topics) == 0 {
		return fmt.Errorf("subscribe: no topic given; %q means all", "")
	}
	if err := c.begun(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	s := &subscriber{c: c, topics: topics, arrived: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { s.keep(ctx) })
	defer wg.Wait()
	defer cancel()
	for {
		for _, e := range s.take() {
			if ctx.Err() != nil {
				break
			}
			fn(e)
		}
		select {
		case <-s.arrived:
		case <-ctx.Done():
			if c.ctx.Err() != nil {
				return fmt.Errorf("subscribe: %w", ErrClosed)
			}
			return nil
		}
	}
}

// subscriber holds one SUB connection. It is the zsock.Handler of it.
type subscriber struct {
	c       *Client
	topics  []string
	arrived chan struct{} // capacity 1

	mu sync.Mutex // guards the following
	// queue is what fn has not seen; head is the index of its oldest event.
	queue []Event
	head  int
	size  int
}

// keep holds the SUB connection until ctx ends.
func (s *subscriber) keep(ctx context.Context) {
	var backoff zsock.Backoff
	for ctx.Err() == nil {
		if err := s.connect(ctx, &backoff); ctx.Err() == nil {
			level := s.c.log.Debug
			if errors.Is(err, mdp.NotOffered) {
				level = s.c.log.Warn
			}
			level("subscription interrupted", "error", err)
		}
		sleep(ctx, backoff.Next())
	}
}

// connect serves one connection and returns why it has ended.
func (s *subscriber) connect(ctx context.Context, backoff *zsock.Backoff) error {
	at, err := s.c.eventEndpoint(ctx, func(w *mdp.WelcomeMap) []string { return w.Subscribe })
	if err != nil {
		return err
	}
	conn, err := s.c.dialEvents(ctx, at, zsock.Sub, s)
	if err != nil {
		return err
	}
	backoff.Reset()
	var b zsock.Batch
	for _, topic := range s.topics {
		frame := append([]byte{1}, topic...)
		if err = conn.Send(&b, [][]byte{frame}, zsock.Body{}); err != nil {
			conn.Close(err)
		}
	}
	b.Flush()
	return at.serve(ctx, conn)
}

// take takes all events that have come.
func (s *subscriber) take() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.queue[s.head:]
	s.queue, s.head, s.size = nil, 0, 0
	return events
}

// Opened implements zsock.Handler.
func (s *subscriber) Opened(*zsock.Conn) {}

// Message implements zsock.Handler.
func (s *subscriber) Message(_ *zsock.Batch, _ *zsock.Conn, m *zsock.Msg) {
	frames := m.Frames()
	if len(frames) == 0 {
		return
	}
	e := Event{Topic: string(frames[0]), Body: m.Keep(1)}
	s.c.counters.events.Add(1)
	s.mu.Lock()
	s.queue = append(s.queue, e)
	s.size += e.size()
	for len(s.queue)-s.head > 1 && (len(s.queue)-s.head > maxEvents || s.size > maxEventSize) {
		s.size -= s.queue[s.head].size()
		s.queue[s.head] = Event{}
		s.head++
		s.c.counters.eventsLost.Add(1)
	}
	if s.head > maxEvents {
		s.queue = append(s.queue[:0:0], s.queue[s.head:]...)
		s.head = 0
	}
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// Closed implements zsock.Handler. keep learns of it from Run.
func (s *subscriber) Closed(*zsock.Batch, *zsock.Conn, error) {}
