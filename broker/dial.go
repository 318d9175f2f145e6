package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/zsock"
)

// Times of dialling. A try is short, so that a link is back soon after the network
// is: a lost SYN is sent again after 1 s, 3 s, 7 s.
const (
	dialTimeout = 2 * time.Second
	dialPause   = 500 * time.Millisecond // at most, with full jitter
	selfPause   = time.Minute            // where a name leads to this broker: it may lead elsewhere one day
	maxCost     = 10 * time.Second
)

// dial is one configured peer endpoint: what is known of it, and who dials it.
// Guarded by Broker.mu.
type dial struct {
	endpoint string
	cost     time.Duration
	name     string // of the broker last found there
	err      string
	since    int64
	stop     context.CancelFunc // nil until Run
}

// parsePeer reads one configured peer: tcp://HOST:PORT, or with an option
// tcp://HOST:PORT,cost=2ms. The cost is added to the measured time one way.
func parsePeer(text string) (*dial, error) {
	endpoint, options, _ := strings.Cut(text, ",")
	d := &dial{endpoint: endpoint}
	for options != "" {
		var option string
		option, options, _ = strings.Cut(options, ",")
		name, value, _ := strings.Cut(option, "=")
		cost, err := time.ParseDuration(value)
		switch {
		case name != "cost":
			return nil, fmt.Errorf("peer %q: unknown option %q: there is cost=DURATION", text, name)
		case err != nil || cost < 0 || cost > maxCost:
			return nil, fmt.Errorf("peer %q: cost %q: want a time such as 2ms, at most %v", text, value, maxCost)
		}
		d.cost = cost
	}
	return d, nil
}

// parsePeers reads all configured peers, by endpoint.
func parsePeers(texts []string) (map[string]*dial, error) {
	dials := make(map[string]*dial)
	for _, text := range texts {
		d, err := parsePeer(text)
		if err != nil {
			return nil, err
		}
		if dials[d.endpoint] != nil {
			return nil, fmt.Errorf("peer %q is given twice", d.endpoint)
		}
		dials[d.endpoint] = d
	}
	return dials, nil
}

// SetPeers replaces the list of brokers to link with, in the form of Config.Peers.
// Links to endpoints that are not in the list any more, dialled from here, end;
// what was sent over them is tried elsewhere. Links that others dialled stay. It
// may be called before, while and after Run.
func (b *Broker) SetPeers(texts []string) error {
	dials, err := parsePeers(texts)
	if err != nil {
		return fmt.Errorf("set peers: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for endpoint, old := range b.dials {
		if d := dials[endpoint]; d != nil && d.cost == old.cost {
			dials[endpoint] = old
			continue
		}
		if old.stop != nil {
			old.stop()
		}
		b.note(hclog.Info, "peer removed", "endpoint", endpoint)
	}
	for endpoint, d := range dials {
		if b.dials[endpoint] != d {
			b.note(hclog.Info, "peer added", "endpoint", endpoint, "cost", d.cost)
		}
	}
	b.dials = dials
	b.startDialsLocked()
	return nil
}

// startDials lets every configured peer be dialled until stopDials.
func (b *Broker) startDials(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dialCtx = ctx
	b.startDialsLocked()
}

func (b *Broker) startDialsLocked() {
	if b.dialCtx == nil {
		return
	}
	for _, d := range b.dials {
		if d.stop != nil {
			continue
		}
		var ctx context.Context
		ctx, d.stop = context.WithCancel(b.dialCtx)
		b.dialling.Go(func() { b.dialPeer(ctx, d) })
	}
}

// stopDials ends dialling and the links dialled from here, and waits for that.
func (b *Broker) stopDials() {
	b.mu.Lock()
	b.dialCtx = nil
	for _, d := range b.dials {
		if d.stop != nil {
			d.stop()
		}
	}
	b.mu.Unlock()
	b.dialling.Wait()
}

// dialPeer keeps one configured link up until ctx ends.
func (b *Broker) dialPeer(ctx context.Context, d *dial) {
	backoff := zsock.Backoff{Max: dialPause}
	last := ""
	for ctx.Err() == nil {
		began := b.now()
		err := b.runLink(ctx, d)
		if ctx.Err() != nil {
			return
		}
		b.setPeerError(d, err)
		pause := backoff.Next()
		if errors.Is(err, errSelf) {
			pause = selfPause
		}
		if text := err.Error(); text != last && !errors.Is(err, errDuplicate) {
			last = text
			b.log.Warn("peer link down", "endpoint", d.endpoint, "error", err)
		}
		if b.now()-began > int64(10*time.Second) {
			backoff.Reset()
			last = ""
		}
		if !b.sleepUnlinked(ctx, d, pause) {
			return
		}
	}
}

// sleepUnlinked waits for d, and longer while the peer is linked by its own dialling.
func (b *Broker) sleepUnlinked(ctx context.Context, d *dial, pause time.Duration) bool {
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
		if !b.linkedBy(d) {
			return true
		}
		pause = time.Second
	}
}

// runLink dials and serves one link until it ends.
func (b *Broker) runLink(ctx context.Context, d *dial) error {
	l := &link{b: b, dialled: d.endpoint, cost: d.cost}
	l.c = &conn{}
	l.c.link.Store(l)
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	z, err := zsock.Dial(dialCtx, d.endpoint, b.requestSocket(zsock.Dealer), b)
	cancel()
	if err != nil {
		return err
	}
	z.User = l.c
	return z.Run(ctx)
}

// linkedTo notes which broker a configured endpoint led to. Broker.mu is held.
func (b *Broker) linkedTo(endpoint, name string) {
	if d := b.dials[endpoint]; d != nil {
		d.name, d.err, d.since = name, "", b.now()
	}
}

// linkedBy tells whether the broker last found at the endpoint is linked, by
// whichever side dialled.
func (b *Broker) linkedBy(d *dial) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return d.name != "" && b.links[d.name] != nil
}

func (b *Broker) setPeerError(d *dial, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.links[d.name] == nil {
		if d.err == "" {
			d.since = b.now()
		}
		d.err = err.Error()
	}
}
