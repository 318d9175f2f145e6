package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// errLeft ends an event connection to a broker that the client has left.
var errLeft = errors.New("the client's own connection to the broker has ended")

// eventSource is an event endpoint of a broker, and the link over which it was named.
type eventSource struct {
	endpoint string
	link     *link
	largest  int64 // octets of an event
}

// begun makes sure that the client is at work.
func (c *Client) begun() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.start()
	return nil
}

// eventEndpoint waits for the WELCOME of the broker in use and picks the first of
// its endpoints of one kind.
func (c *Client) eventEndpoint(ctx context.Context, kind func(*mdp.WelcomeMap) []string) (eventSource, error) {
	for {
		c.mu.Lock()
		news, l := c.news, c.active
		var w *mdp.WelcomeMap
		if l != nil {
			w = l.welcome
		}
		c.mu.Unlock()
		if w != nil {
			if endpoints := kind(w); len(endpoints) > 0 {
				return eventSource{reachable(endpoints[0], l.endpoint), l, max(w.MaxMessage, DefaultMaxMessage)}, nil
			}
			return eventSource{}, mdp.Errorf(mdp.NotOffered, "broker %s has no such event endpoint", l.endpoint)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return eventSource{}, ctx.Err()
		}
	}
}

func (c *Client) dialEvents(ctx context.Context, at eventSource, kind zsock.SocketType, h zsock.Handler) (*zsock.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := zsock.Dial(ctx, at.endpoint, zsock.Config{
		Type: kind, Network: c.cfg.Network, Logger: c.cfg.Logger, MaxMessage: at.largest,
	}, h)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", at.endpoint, err)
	}
	return conn, nil
}

// serve runs an event connection until it ends, ctx does, or the link does: events have
// no heartbeats of their own, by which a broker would be known to hang.
func (at eventSource) serve(ctx context.Context, conn *zsock.Conn) error {
	ended := make(chan error, 1)
	go func() { ended <- conn.Run(ctx) }()
	var err error
	select {
	case err = <-ended:
	case <-at.link.gone:
		conn.Close(errLeft)
		err = <-ended
	}
	return fmt.Errorf("%s: %w", at.endpoint, err)
}
