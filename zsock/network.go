package zsock

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

const ipcScheme = "ipc://"

// keepAlive finds a peer that vanished without a word within 8 s on an idle link.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}

// userTimeout is how long octets may stay unacknowledged before the kernel ends a
// link. It counts a window of zero, too, even while the peer's kernel answers, so it
// must be longer than a process may be stopped for: 5 s are promised. Heartbeats
// find a vanished peer sooner; this is for peers that send none.
const userTimeout = 12 * time.Second

// system is the Network of the operating system: tcp://HOST:PORT and ipc:///PATH.
type system struct{ tcp }

func (s system) Listen(endpoint string) (net.Listener, error) {
	if strings.HasPrefix(endpoint, ipcScheme) {
		return listenIPC(endpoint)
	}
	return s.tcp.Listen(endpoint)
}

func (s system) Dial(ctx context.Context, endpoint string) (net.Conn, error) {
	if strings.HasPrefix(endpoint, ipcScheme) {
		return dialIPC(ctx, endpoint)
	}
	return s.tcp.Dial(ctx, endpoint)
}

// tcp is the part for tcp://HOST:PORT.
type tcp struct {
	resolver Resolver // nil: the system's
}

func (tcp) Listen(endpoint string) (net.Listener, error) {
	address, err := tcpAddress(endpoint)
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (t tcp) Dial(ctx context.Context, endpoint string) (net.Conn, error) {
	address, err := tcpAddress(endpoint)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return t.dialHost(ctx, &net.Dialer{KeepAliveConfig: keepAlive}, host, port)
}

// tcpAddress cuts the scheme off. A host of * means every interface, as in libzmq.
func tcpAddress(endpoint string) (string, error) {
	address, ok := strings.CutPrefix(endpoint, "tcp://")
	if !ok {
		return "", fmt.Errorf("unsupported endpoint %q: use tcp://HOST:PORT or ipc:///PATH", endpoint)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("endpoint %q: use tcp://HOST:PORT: %w", endpoint, err)
	}
	if host == "*" {
		host = ""
	}
	return net.JoinHostPort(host, port), nil
}

// realEndpoint is endpoint with the host and port that were really bound.
func realEndpoint(endpoint string, bound net.Addr) string {
	if strings.HasPrefix(endpoint, ipcScheme) {
		return ipcScheme + bound.String()
	}
	scheme, address, ok := strings.Cut(endpoint, "://")
	if !ok || scheme != "tcp" {
		return endpoint
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != "0" {
		return endpoint
	}
	_, port, err = net.SplitHostPort(bound.String())
	if err != nil {
		return endpoint
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// host is where connections come from that one may have made, as far as addresses tell.
type host string

// hostOf tells hosts apart by address; of IPv6, where each has many, by the network, the
// first 64 bits. This machine is one host, whichever of its loopback addresses or socket
// files it uses.
func hostOf(a net.Addr) host {
	if _, ok := a.(*net.UnixAddr); ok {
		return "here"
	}
	name, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return host(a.String())
	}
	ip, err := netip.ParseAddr(name)
	switch ip = ip.Unmap(); {
	case err != nil:
		return host(name)
	case ip.IsLoopback():
		return "here"
	case ip.Is6():
		return host(netip.PrefixFrom(ip.WithZone(""), 64).Masked().String())
	}
	return host(ip.String())
}

// tune sets what every TCP link gets, accepted or dialled. Failures are left
// alone: a link without an option is better than none.
func tune(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetNoDelay(true)
		setUserTimeout(t, userTimeout)
	}
}
