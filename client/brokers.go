package client

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

const (
	// connections is how many brokers a client is connected to, where it knows as
	// many: one in use, and one that is warm.
	connections = 2
	// maxBrokers bounds the endpoints that are known. The configured ones are not
	// forgotten for those that were learned.
	maxBrokers  = 64
	maxEndpoint = 512 // octets of a learned one
)

// broker is one endpoint that is known. Client.mu guards all but endpoint.
type broker struct {
	endpoint string
	learned  bool   // a WELCOME named it
	held     bool   // a keeper dials it or has a link to it
	err      error  // why the last dial or link ended; nil while a link is up
	identity string // who was there last, as far as known
}

// man starts the keepers for whom there is a broker. Callers hold mu.
func (c *Client) man() {
	for c.keepers < min(connections, len(c.brokers)) && !c.closed {
		number := c.keepers
		c.keepers++
		c.wg.Go(func() { c.keep(number) })
	}
}

// keep holds one link at a time, to whichever broker no other keeper has, until the
// client is closed. The keepers are numbered from 0.
func (c *Client) keep(number int) {
	var backoff zsock.Backoff
	failures, at := 0, number
	for c.ctx.Err() == nil {
		br, candidates, news := c.claim(number, at)
		if br == nil {
			select {
			case <-news:
			case <-c.ctx.Done():
			}
			continue
		}
		l, err := c.dial(br, dialTimeout)
		if err == nil {
			l.start()
			l.tend(l.left)
			c.wg.Go(l.tendToEnd) // it may only have left
			if l.lasted() {
				backoff.Reset()
				failures = 0
			}
		} else if c.ctx.Err() == nil {
			c.log.Debug("dial failed", "endpoint", br.endpoint, "error", err)
		}
		at = c.release(br, err)
		// Once all have been tried they are left in peace for a while, and so is a
		// broker that was lost while another one serves.
		if failures++; failures >= candidates || c.served() {
			sleep(c.ctx, backoff.Next())
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// claim takes the first broker from index at on that no other keeper holds and that
// is not connected by another name. There may be none, or fewer than keepers: then
// news tells when to look again.
func (c *Client) claim(keeper, at int) (br *broker, candidates int, news <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if keeper >= len(c.brokers) {
		return nil, 0, c.news
	}
	for n := range c.brokers {
		b := c.brokers[(at+n)%len(c.brokers)]
		if b.held || c.connected(b.identity) {
			continue
		}
		if candidates++; br == nil {
			br = b
		}
	}
	if br != nil {
		br.held = true
	}
	return br, candidates, c.news
}

// connected tells whether a link to this broker takes requests. Callers hold mu.
func (c *Client) connected(identity string) bool {
	return identity != "" && slices.ContainsFunc(c.links, func(l *link) bool { return l.identity == identity && !l.draining })
}

// release gives a broker back and returns the index to go on with.
func (c *Client) release(br *broker, err error) int {
	var b zsock.Batch
	c.mu.Lock()
	br.held = false
	if err != nil {
		br.err = err
	}
	if c.active == nil && c.denied() != nil {
		c.resubmit(&b)
	}
	c.tellNews()
	at := slices.Index(c.brokers, br) + 1
	c.mu.Unlock()
	b.Flush()
	return at
}

// tellNews wakes who waits for a broker or its WELCOME. Callers hold mu.
func (c *Client) tellNews() {
	close(c.news)
	c.news = make(chan struct{})
}

func (c *Client) served() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active != nil
}

// meet notes who is at the other end of l, and leaves if that broker is connected
// already: the second connection is of use only with a second broker. Callers hold mu.
func (c *Client) meet(l *link, w *mdp.WelcomeMap, b *zsock.Batch) {
	l.broker.err = nil
	if w.Incarnation != "" && l.identity == "" {
		identity := w.Name + " " + w.Incarnation
		if c.connected(identity) {
			l.draining = true
			l.leave(b)
		}
		l.identity, l.broker.identity = identity, identity
	}
	c.learn(l, w.Endpoints, l.identity)
	c.learn(l, w.Others, "")
	c.man()
	c.tellNews()
}

// learn adds endpoints that l's broker names to those that are known. Callers hold mu.
func (c *Client) learn(l *link, endpoints []string, identity string) {
	for _, endpoint := range endpoints[:min(len(endpoints), maxBrokers)] {
		endpoint = reachable(endpoint, l.endpoint)
		if !usable(endpoint, l.endpoint) {
			continue
		}
		i := slices.IndexFunc(c.brokers, func(b *broker) bool { return b.endpoint == endpoint })
		switch {
		case i >= 0:
			if identity != "" {
				c.brokers[i].identity = identity
			}
			continue
		case len(c.brokers) >= maxBrokers && !c.forget():
			c.counters.unlearned.Add(1)
			continue
		}
		c.brokers = append(c.brokers, &broker{endpoint: endpoint, learned: true, identity: identity})
	}
}

// forget makes room for one learned endpoint in place of one that failed.
func (c *Client) forget() bool {
	i := slices.IndexFunc(c.brokers, func(b *broker) bool { return b.learned && !b.held && b.err != nil })
	if i < 0 {
		return false
	}
	c.brokers = slices.Delete(c.brokers, i, i+1)
	return true
}

// usable tells whether an endpoint that a broker named is worth dialling from here:
// it is of the same scheme, and a loopback address only if the broker is on one.
func usable(endpoint, dialled string) bool {
	scheme, address, ok := strings.Cut(endpoint, "://")
	ours, via, _ := strings.Cut(dialled, "://")
	if !ok || scheme != ours || address == "" || len(endpoint) > maxEndpoint {
		return false
	}
	return !loopback(address) || loopback(via)
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
