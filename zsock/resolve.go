package zsock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// Bounds on the addresses of one host name.
const (
	maxAddresses   = 16              // that one dial tries
	addressTimeout = 5 * time.Second // for each of them, where the context has no deadline
)

// Resolver finds the addresses of a host. A [net.Resolver] is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) (addresses []string, err error)
}

// TCP is the system's Network with a resolver of one's own for tcp://HOST:PORT
// endpoints; nil means the system's. Names are looked up with every dial, so that a host that has
// moved is found, and all its addresses are tried (the first 16), in random order.
func TCP(r Resolver) Network { return system{tcp{resolver: r}} }

// dialHost connects to one of the host's addresses.
func (t tcp) dialHost(ctx context.Context, d *net.Dialer, host, port string) (net.Conn, error) {
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	}
	var r Resolver = net.DefaultResolver
	if t.resolver != nil {
		r = t.resolver
	}
	addresses, err := r.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	addresses = addresses[:min(len(addresses), maxAddresses)]
	err = fmt.Errorf("host %s has no address", host)
	for i, address := range addresses {
		nc, failed := dialAddress(ctx, d, net.JoinHostPort(address, port), len(addresses)-i)
		if failed == nil {
			return nc, nil
		}
		if i == 0 {
			err = failed
		} else {
			err = fmt.Errorf("%w; %w", err, failed)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// dialAddress gives one address its share of the time, when so many are left.
func dialAddress(ctx context.Context, d *net.Dialer, address string, left int) (net.Conn, error) {
	share := addressTimeout
	if deadline, ok := ctx.Deadline(); ok {
		share = time.Until(deadline) / time.Duration(left)
	}
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	return d.DialContext(ctx, "tcp", address)
}
