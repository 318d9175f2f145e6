package memsock

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Anonymous is the host of connections dialled with [Net.Dial].
const Anonymous = "anonymous"

const backlog = 128 // connections that wait to be accepted, per listener

// Net is a network. Its methods may be called by any goroutine.
type Net struct {
	mu        sync.Mutex
	listeners map[string]*listener // by address, host:port or name
	conns     map[*pair]struct{}
	faults    map[route]Fault
	refuse    map[string]bool
	port      int           // last one given out
	changed   chan struct{} // closed when faults change
}

// route is one direction between two hosts.
type route struct{ from, to string }

// pair is a connection: two streams.
type pair struct {
	route       route // from the dialler
	there, back *stream
	open        int // ends not yet closed
}

// New makes an empty network.
func New() *Net {
	return &Net{
		listeners: make(map[string]*listener),
		conns:     make(map[*pair]struct{}),
		faults:    make(map[route]Fault),
		refuse:    make(map[string]bool),
		port:      40_000,
		changed:   make(chan struct{}),
	}
}

// Host is the network as host name sees it: what it dials comes from name.
func (n *Net) Host(name string) *Host { return &Host{net: n, name: name} }

// Host dials from a named host.
type Host struct {
	net  *Net
	name string
}

// Listen is [Net.Listen].
func (h *Host) Listen(endpoint string) (net.Listener, error) { return h.net.Listen(endpoint) }

// Dial connects from this host; otherwise it is [Net.Dial].
func (h *Host) Dial(ctx context.Context, endpoint string) (net.Conn, error) {
	return h.net.dial(ctx, h.name, endpoint)
}

// Listen binds endpoint. A second listener on it gets EADDRINUSE.
func (n *Net) Listen(endpoint string) (net.Listener, error) {
	host, key, err := split(endpoint)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if before, ok := strings.CutSuffix(key, ":0"); ok {
		n.port++
		key = before + ":" + strconv.Itoa(n.port)
	}
	if n.listeners[key] != nil {
		return nil, &net.OpError{Op: "listen", Net: "mem", Addr: addr(key), Err: syscall.EADDRINUSE}
	}
	l := &listener{net: n, host: host, key: key, queue: make(chan *Conn, backlog), done: make(chan struct{})}
	n.listeners[key] = l
	return l, nil
}

// Dial connects from host [Anonymous]. Without a listener it fails with
// ECONNREFUSED; while the way there is stalled or discards, it waits for ctx.
func (n *Net) Dial(ctx context.Context, endpoint string) (net.Conn, error) {
	return n.dial(ctx, Anonymous, endpoint)
}

func (n *Net) dial(ctx context.Context, from, endpoint string) (net.Conn, error) {
	host, key, err := split(endpoint)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "mem", Addr: addr(key), Err: err}
	}
	for {
		n.mu.Lock()
		there, back := n.rule(from, host), n.rule(host, from)
		l, refused, changed := n.listeners[key], n.refuse[host], n.changed
		n.mu.Unlock()
		if there.Stall || there.Discard || back.Stall || back.Discard {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return fail(ctx.Err())
			}
		}
		if l == nil || refused {
			return fail(syscall.ECONNREFUSED)
		}
		ours, theirs := n.connect(from, l)
		select {
		case l.queue <- theirs:
			return ours, nil
		case <-l.done:
			err = syscall.ECONNREFUSED
		case <-ctx.Done():
			err = ctx.Err()
		}
		_, _ = ours.Close(), theirs.Close()
		return fail(err)
	}
}

// connect makes a connection with the faults that are in force.
func (n *Net) connect(from string, l *listener) (ours, theirs *Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.port++
	local := addr(net.JoinHostPort(from, strconv.Itoa(n.port)))
	p := &pair{route: route{from, l.host}, open: 2}
	p.there = newStream(n.rule(from, l.host))
	p.back = newStream(n.rule(l.host, from))
	n.conns[p] = struct{}{}
	ours = &Conn{net: n, pair: p, in: p.back, out: p.there, local: local, remote: addr(l.key)}
	theirs = &Conn{net: n, pair: p, in: p.there, out: p.back, local: addr(l.key), remote: local}
	return ours, theirs
}

// split gives the host and the address of an endpoint.
func split(endpoint string) (host, key string, err error) {
	if name, ok := strings.CutPrefix(endpoint, "inproc://"); ok && name != "" {
		return name, name, nil
	}
	address, ok := strings.CutPrefix(endpoint, "tcp://")
	if ok {
		if host, _, err = net.SplitHostPort(address); err == nil {
			return host, address, nil
		}
	}
	return "", "", fmt.Errorf("memsock: endpoint %q: use inproc://NAME or tcp://NAME:PORT", endpoint)
}

type addr string

func (addr) Network() string  { return "mem" }
func (a addr) String() string { return string(a) }

// listener is what Net.Listen returns.
type listener struct {
	net       *Net
	host, key string
	queue     chan *Conn
	done      chan struct{}
	once      sync.Once
}

func (l *listener) Addr() net.Addr { return addr(l.key) }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
	default:
		select {
		case c := <-l.queue:
			return c, nil
		case <-l.done:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "mem", Addr: l.Addr(), Err: net.ErrClosed}
}

// Close ends the listener; connections that wait to be accepted are reset.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, l.key)
		l.net.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.queue:
				c.reset()
			default:
				return
			}
		}
	})
	return nil
}
