package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// maxPrefixes bounds what a broker may subscribe to on one connection.
const maxPrefixes = 1024

// publisher holds the PUB connection of a client. It is the zsock.Handler of it.
type publisher struct {
	c *Client

	started bool // the keeper runs; Client.mu guards it

	mu   sync.Mutex  // guards the following
	conn *zsock.Conn // up, or nil
	// prefixes are what the broker has subscribed to on conn.
	prefixes [][]byte
	// changed is closed, and replaced, when conn, prefixes or err change.
	changed chan struct{}
	err     error // why there is no connection
}

func (p *publisher) init(c *Client) {
	p.c, p.changed = c, make(chan struct{})
}

// Publish sends an event, a topic and body frames, to all who subscribed to a prefix
// of topic. It waits until the broker is reached and wants the topic, at most until
// ctx ends or, if that has no deadline, Config.Timeout; it does not wait for
// subscribers, which may be none. mdp.Busy means that too much is queued for
// the broker; mdp.NotOffered, that the broker has no event endpoints.
func (c *Client) Publish(ctx context.Context, topic string, body ...[]byte) error {
	ctx, cancel := context.WithDeadline(ctx, c.epoch.Add(time.Duration(c.deadline(ctx, c.now(), 0))))
	defer cancel()
	if err := c.publisher.publish(ctx, []byte(topic), body); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}

func (p *publisher) publish(ctx context.Context, topic []byte, body [][]byte) error {
	if err := p.start(); err != nil {
		return err
	}
	var b zsock.Batch
	defer b.Flush()
	for {
		p.mu.Lock()
		conn, changed, err := p.conn, p.changed, p.err
		wanted := conn != nil && p.wants(topic)
		p.mu.Unlock()
		if errors.Is(err, mdp.NotOffered) {
			return err
		}
		if wanted {
			frames := zsock.NewBody(body...)
			err = conn.Send(&b, [][]byte{topic}, frames)
			frames.Release()
			if !errors.Is(err, zsock.ErrClosed) {
				return p.sent(err)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return p.late(ctx, conn, err)
		case <-p.c.ctx.Done():
			return ErrClosed
		}
	}
}

// sent says what came of a send.
func (p *publisher) sent(err error) error {
	switch {
	case err == nil:
		p.c.counters.published.Add(1)
		return nil
	case errors.Is(err, zsock.ErrHighWater):
		return mdp.Errorf(mdp.Busy, "too many events are queued for the broker")
	case errors.Is(err, zsock.ErrTooBig):
		return mdp.Errorf(mdp.TooBig, "%v", err)
	}
	return err
}

// late says what an event has waited for in vain.
func (p *publisher) late(ctx context.Context, conn *zsock.Conn, err error) error {
	status, cause := statusOf(ctx), context.Cause(ctx)
	if status != mdp.Expired {
		return abandonedError(status, cause, false)
	}
	if conn != nil {
		p.c.counters.unwanted.Add(1)
		return &endedError{mdp.Error{Status: mdp.Expired, Text: "the broker has not subscribed to the topic"}, cause}
	}
	if err == nil {
		p.c.mu.Lock()
		defer p.c.mu.Unlock()
		return p.c.noBroker()
	}
	return fmt.Errorf("%w: %w", ErrNoBroker, err)
}

// wants tells whether the broker has subscribed to topic. Callers hold mu.
func (p *publisher) wants(topic []byte) bool {
	for _, prefix := range p.prefixes {
		if bytes.HasPrefix(topic, prefix) {
			return true
		}
	}
	return false
}

func (p *publisher) start() error {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.start()
	if !p.started {
		p.started = true
		c.wg.Go(p.keep)
	}
	return nil
}

// keep holds the PUB connection until the client is closed.
func (p *publisher) keep() {
	var backoff zsock.Backoff
	for p.c.ctx.Err() == nil {
		err := p.connect(p.c.ctx, &backoff)
		p.change(func() { p.err = err })
		sleep(p.c.ctx, backoff.Next())
	}
}

// connect dials the broker in use and serves the connection until it ends.
func (p *publisher) connect(ctx context.Context, backoff *zsock.Backoff) error {
	at, err := p.c.eventEndpoint(ctx, func(w *mdp.WelcomeMap) []string { return w.Publish })
	if err != nil {
		return err
	}
	conn, err := p.c.dialEvents(ctx, at, zsock.Pub, p)
	if err != nil {
		return err
	}
	backoff.Reset()
	p.change(func() { p.conn, p.err = conn, nil })
	return at.serve(ctx, conn)
}

func (p *publisher) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Opened implements zsock.Handler.
func (p *publisher) Opened(*zsock.Conn) {}

// Message implements zsock.Handler: subscriptions, the only thing a PUB socket is told.
func (p *publisher) Message(_ *zsock.Batch, conn *zsock.Conn, m *zsock.Msg) {
	frames := m.Frames()
	if len(frames) != 1 || len(frames[0]) == 0 || frames[0][0] > 1 {
		p.c.counters.malformed.Add(1)
		return
	}
	prefix := frames[0][1:]
	p.change(func() {
		if frames[0][0] == 0 {
			for i := range p.prefixes {
				if bytes.Equal(p.prefixes[i], prefix) {
					p.prefixes = append(p.prefixes[:i], p.prefixes[i+1:]...)
					return
				}
			}
			return
		}
		if len(p.prefixes) == maxPrefixes {
			conn.Close(fmt.Errorf("more than %d subscriptions", maxPrefixes))
			return
		}
		p.prefixes = append(p.prefixes, bytes.Clone(prefix))
	})
}

// Closed implements zsock.Handler.
func (p *publisher) Closed(_ *zsock.Batch, _ *zsock.Conn, err error) {
	p.change(func() { p.conn, p.prefixes, p.err = nil, nil, err })
}

// reachable replaces the host of an endpoint that is bound to all addresses by the
// host that was dialled.
func reachable(endpoint, dialled string) string {
	scheme, address, _ := strings.Cut(endpoint, "://")
	host, port, err := net.SplitHostPort(address)
	if err != nil || (host != "" && host != "*" && host != "0.0.0.0" && host != "::") {
		return endpoint
	}
	_, address, _ = strings.Cut(dialled, "://")
	if host, _, err = net.SplitHostPort(address); err != nil {
		return endpoint
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
