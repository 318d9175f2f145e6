// Package broker is the Majordomo broker: it balances requests over workers that
// prove with heartbeats that they live, gives what a lost worker held to another,
// and shares its queue with linked brokers. It speaks MDP/0.1, MDP/0.2 and the
// native protocol on one port.
//
// The one invariant: a request that was admitted is queued or held by somebody who is
// trusted with it, never both, until exactly one of answer, fail or finish ends it (or is
// about to: loss.go); the service's mutex guards that state, and nothing blocks while holding it.
// What was taken from a silent worker may still be answered by that, wherever it is meanwhile.
//
// A request's way: Message (conn.go) decodes it, conn.request (client.go) admits
// it, service.submit and dispatch (dispatch.go) hand it out, worker.request
// (worker.go) writes it; worker.final comes back and service.answer (answer.go)
// writes the reply. Peers are in link.go, handshake.go and route.go, what
// is decided about them in policy.go and choice.go, what they are told in gossip.go
// and interest.go.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Broker is one broker. Make it with New, bind it with Listen, serve with Run.
type Broker struct {
	cfg         Config
	log         hclog.Logger
	name        string
	incarnation string // hex of 8 random octets: one start of this broker
	start       time.Time
	idPrefix    [8]byte
	idCounter   atomic.Uint64

	listeners []*listener
	events    events
	clerk     clerk
	detached  detached
	count     counters
	held      atomic.Int64  // octets of all requests
	inside    account       // of these, calls made inside the process
	orphaned  account       // and detached requests whose client has gone
	partly    *zsock.Budget // of large messages that have not come whole
	draining  atomic.Bool
	httpCalls atomic.Int32 // being served
	turned    atomic.Int64 // when the ticker last was through with everything
	drained   chan struct{}

	unreadAnswers, unreadEvents *zsock.Backlog // what waits for peers that do not keep up

	linkCount  atomic.Int32
	foreign    atomic.Int32 // services known by peers' word only
	stateSeq   atomic.Uint64
	gossipWake chan struct{}
	newsMu     sync.Mutex // guards the following; taken last of all
	news       []*service // whose state peers should know
	retold     []*link    // that should know everything anew
	gossipAt   int64      // when gossip looks at the news by itself; 0: when it is woken
	welcome    atomic.Pointer[[]byte]

	notes    notes
	poisonMu sync.Mutex
	poison   []Poison

	// mu guards the following. It is never held while taking a service's mutex,
	// except with TryLock.
	mu       sync.RWMutex
	services map[string]*service
	conns    map[*conn]struct{}
	leaving  bool             // everybody was told goodbye
	empty    chan struct{}    // closed when leaving and the last connection has gone
	links    map[string]*link // by broker name
	spares   map[string]*link // second links that stand by, by broker name
	dials    map[string]*dial // by configured endpoint
	dialCtx  context.Context  // while Run dials
	lost     map[string]*lost // by broker name
	bars     map[bar]int64    // until when

	pausedPeers map[string]bool // by broker name

	dialling sync.WaitGroup
}

// listener is one bound endpoint.
type listener struct {
	Bound
	z *zsock.Listener
}

// Bound is an endpoint with its real port. Roles: requests, publish, subscribe.
type Bound struct {
	Role     string `json:"role"`
	Endpoint string `json:"endpoint"`
}

// New makes a broker; it binds and starts nothing.
func New(cfg Config) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	cfg = cfg.withDefaults()
	b := &Broker{
		cfg: cfg, log: cfg.Logger.Named("broker"), start: time.Now(),
		partly:     zsock.NewBudget(cfg.MaxUnfinished),
		drained:    make(chan struct{}),
		empty:      make(chan struct{}),
		gossipWake: make(chan struct{}, 1),
		services:   make(map[string]*service),
		conns:      make(map[*conn]struct{}),
		links:      make(map[string]*link),
		spares:     make(map[string]*link),
		lost:       make(map[string]*lost),
		bars:       make(map[bar]int64),

		pausedPeers: make(map[string]bool),
	}
	b.notes.wake = make(chan struct{}, 1)
	b.detached.init()
	var incarnation [8]byte
	rand.Read(incarnation[:])
	rand.Read(b.idPrefix[:])
	b.incarnation = hex.EncodeToString(incarnation[:])
	b.unreadAnswers, b.unreadEvents = zsock.NewBacklog(cfg.MaxUnread/2), zsock.NewBacklog(cfg.MaxUnread/2)
	b.events.init(b)
	b.clerk.init(b)
	b.dials, _ = parsePeers(cfg.Peers) // valid, as Validate said
	return b, nil
}

// Listen binds all endpoints and tells where. Run does it when it was not done.
// On error nothing stays bound.
func (b *Broker) Listen() ([]Bound, error) {
	roles := []struct {
		role      string
		endpoints []string
		socket    zsock.Config
		handler   zsock.Handler
	}{
		{"requests", b.cfg.Listen, b.requestSocket(zsock.Router), b},
		{"publish", b.cfg.Publish, b.socketConfig(zsock.XSub), (*publishers)(&b.events)},
		{"subscribe", b.cfg.Subscribe, b.subscribeSocket(), (*subscribers)(&b.events)},
	}
	for _, r := range roles {
		for _, endpoint := range r.endpoints {
			z, err := zsock.Listen(endpoint, r.socket, r.handler)
			if err != nil {
				b.unbind()
				return nil, fmt.Errorf("listen for %s on %s: %w", r.role, endpoint, err)
			}
			b.listeners = append(b.listeners, &listener{Bound{r.role, z.Endpoint()}, z})
		}
	}
	if b.name = b.cfg.Name; b.name == "" {
		b.name = defaultName(b.listeners[0].Endpoint)
	}
	return b.Bound(), nil
}

// defaultName is HOST:PORT of an endpoint; for one bound to all addresses, which
// many hosts are, the host is this machine's name. A socket file has that in front.
func defaultName(endpoint string) string {
	if path, ok := strings.CutPrefix(endpoint, "ipc://"); ok {
		machine, _ := os.Hostname()
		return machine + ":" + path
	}
	name := strings.TrimPrefix(endpoint, "tcp://")
	host, port, err := net.SplitHostPort(name)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
		return name
	}
	if machine, err := os.Hostname(); err == nil {
		return net.JoinHostPort(machine, port)
	}
	return name
}

// unbind gives back what was bound before an error.
func (b *Broker) unbind() {
	for _, l := range b.listeners {
		l.z.StopAccepting()
	}
	b.listeners = nil
}

// Bound tells which endpoints are bound, with their real ports.
func (b *Broker) Bound() []Bound {
	out := make([]Bound, len(b.listeners))
	for i, l := range b.listeners {
		out[i] = l.Bound
	}
	return out
}

// Pulse tells how long ago the broker's ticker was last through with a turn, which
// takes the mutex of every service: a broker that is well has one every 20 ms. It
// grows from New on until Run.
func (b *Broker) Pulse() time.Duration { return time.Duration(b.now() - b.turned.Load()) }

// Unread is what waits for peers that do not read as fast as it comes, in octets: what
// Config.MaxUnread bounds.
func (b *Broker) Unread() int64 { return b.unreadAnswers.Octets() + b.unreadEvents.Octets() }

// Name is how this broker is known to others.
func (b *Broker) Name() string { return b.name }

// endpoints are those that peers are told of: socket files of this machine only where
// there is nothing else.
func (b *Broker) endpoints(role string) (out []string) {
	var local []string
	for _, l := range b.listeners {
		switch {
		case l.Role != role:
		case strings.HasPrefix(l.Endpoint, "ipc://"):
			local = append(local, l.Endpoint)
		default:
			out = append(out, l.Endpoint)
		}
	}
	if len(out) == 0 {
		return local
	}
	return out
}

func (b *Broker) socketConfig(t zsock.SocketType) zsock.Config {
	return zsock.Config{Type: t, MaxMessage: b.cfg.MaxMessage, MaxConns: b.cfg.MaxConnections, Unfinished: b.partly, Shared: true, Network: b.cfg.Network, Logger: b.log}
}

// requestSocket is of connections that carry requests and answers. Whoever is owed
// many answers may get them all at once: octets are what bounds them.
func (b *Broker) requestSocket(t zsock.SocketType) zsock.Config {
	cfg := b.socketConfig(t)
	cfg.HighWaterMessages, cfg.Backlog = maxQueued, b.unreadAnswers
	return cfg
}

// subscribeSocket is of subscribers. What they do not read takes no room of answers.
func (b *Broker) subscribeSocket() zsock.Config {
	cfg := b.socketConfig(zsock.XPub)
	cfg.Backlog = b.unreadEvents
	return cfg
}

// Run serves until ctx ends, then drains: no new requests, what is held gets its
// answer within DrainTimeout, workers are sent away last. It returns nil then.
func (b *Broker) Run(ctx context.Context) error {
	if len(b.listeners) == 0 {
		if _, err := b.Listen(); err != nil {
			return err
		}
	}
	inner, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	run := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(inner); err != nil {
				stop(err)
			}
		})
	}
	for _, l := range b.listeners {
		run(l.z.Run)
	}
	run(b.tick)
	run(b.keepNotes)
	run(b.clerk.serve)
	run(func(ctx context.Context) error { b.gossip(ctx); return nil })
	b.startDials(inner)
	select {
	case <-ctx.Done():
		b.drain(inner)
	case <-inner.Done():
	}
	err := context.Cause(inner)
	stop(nil)
	b.stopDials()
	wg.Wait()
	b.writeNotes()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// now is the broker's clock: nanoseconds since its start, monotonic, never 0, which
// means "not yet" wherever a time is kept.
func (b *Broker) now() int64 { return int64(time.Since(b.start)) + 1 }

// nextID makes a request id for a request that came without.
func (b *Broker) nextID() (id mdp.RequestID) {
	copy(id[:8], b.idPrefix[:])
	binary.BigEndian.PutUint64(id[8:], b.idCounter.Add(1))
	return id
}

// Bounds on what WELCOME says of other brokers: the map must fit into its frame.
const (
	maxOthers = 32
	maxOther  = 255 // octets of an endpoint
)

// welcomeMap is the map of WELCOME. Without links it is made once.
func (b *Broker) welcomeMap() []byte {
	if p := b.welcome.Load(); p != nil && b.linkCount.Load() == 0 {
		return *p
	}
	w := mdp.WelcomeMap{Revision: mdp.Revision, HeartbeatMs: int(b.cfg.Heartbeat / time.Millisecond),
		MaxMessage: b.cfg.MaxMessage, Name: b.name, Incarnation: b.incarnation,
		Publish: b.endpoints("publish"), Subscribe: b.endpoints("subscribe")}
	for _, known := range b.Brokers() {
		if known.Self {
			w.Endpoints = known.Endpoints
			continue
		}
		for _, endpoint := range known.Endpoints {
			if len(w.Others) < maxOthers && len(endpoint) <= maxOther {
				w.Others = append(w.Others, endpoint)
			}
		}
	}
	p := mdp.EncodeMap(&w)
	if len(w.Others) == 0 {
		b.welcome.Store(&p)
	}
	return p
}

func (b *Broker) track(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns[c] = struct{}{}
}

func (b *Broker) untrack(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
	b.closeIfEmptyLocked()
}

func (b *Broker) allConns() []*conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		out = append(out, c)
	}
	return out
}

func (b *Broker) allServices() []*service { return b.appendServices(nil) }

func (b *Broker) appendServices(dst []*service) []*service {
	b.mu.RLock()
	defer b.mu.RUnlock()
	dst = slices.Grow(dst, len(b.services))
	for _, s := range b.services {
		dst = append(dst, s)
	}
	return dst
}

func (b *Broker) upLinks() []*link {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make([]*link, 0, len(b.links))
	for _, l := range b.links {
		if l.ready.Load() {
			out = append(out, l)
		}
	}
	return out
}

func (b *Broker) liveRequests() int {
	n := 0
	for _, s := range b.allServices() {
		s.mu.Lock()
		n += s.table.live
		s.mu.Unlock()
	}
	return n
}
