package memsock

import (
	"maps"
	"slices"
	"syscall"
	"time"
)

// Fault is what happens to octets on their way in one direction. The zero value
// is a healthy link. Fields combine.
type Fault struct {
	// Stall holds everything back, end of stream included, until it is healed; then
	// it arrives. The sender's buffer fills up. It is what a partition looks like to
	// TCP, and what a reader that stopped looks like.
	Stall bool
	// Discard swallows octets and end of stream: the link is half-open. Nothing that
	// was swallowed comes back after healing.
	Discard bool
	// Delay is added to every write; order is kept.
	Delay time.Duration
	// Chunk is the most that one read returns; 1 is byte by byte.
	Chunk int
	// Mangle may change the octets of a write in place. It is called with the
	// stream locked: it must not use the connection.
	Mangle func(p []byte)
}

// Fault puts f on everything that host from sends to host to, on connections that
// are open and on later ones. The zero Fault heals. An empty name stands for every
// host; an exact route goes before from with any, that before any with to.
func (n *Net) Fault(from, to string, f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults[route{from, to}] = f
	n.apply()
}

// Partition cuts a from b in both directions: what is sent waits, dials wait for
// their context.
func (n *Net) Partition(a, b string) {
	n.Fault(a, b, Fault{Stall: true})
	n.Fault(b, a, Fault{Stall: true})
}

// Heal takes every fault between a and b off, in both directions.
func (n *Net) Heal(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.faults, route{a, b})
	delete(n.faults, route{b, a})
	n.apply()
}

// Refuse makes dials to host fail with ECONNREFUSED, or stops doing so. Open
// connections stay.
func (n *Net) Refuse(host string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse[host] = on
}

// Reset breaks every connection between a and b, whoever dialled, as TCP does with
// RST: both ends fail with ECONNRESET and what was on its way is lost. An empty name
// stands for every host. It returns how many there were.
func (n *Net) Reset(a, b string) int {
	n.mu.Lock()
	pairs := slices.Collect(maps.Keys(n.conns))
	n.mu.Unlock()
	count := 0
	for _, p := range pairs {
		if p.route.matches(a, b) || p.route.matches(b, a) {
			p.there.fail(syscall.ECONNRESET)
			p.back.fail(syscall.ECONNRESET)
			count++
		}
	}
	return count
}

func (r route) matches(from, to string) bool {
	return (from == "" || from == r.from) && (to == "" || to == r.to)
}

// rule is the fault in force from one host to another.
func (n *Net) rule(from, to string) Fault {
	for _, r := range []route{{from, to}, {from, ""}, {"", to}, {"", ""}} {
		if f, ok := n.faults[r]; ok {
			return f
		}
	}
	return Fault{}
}

// apply puts the faults in force on every open connection and wakes dials.
func (n *Net) apply() {
	for p := range n.conns {
		p.there.setFault(n.rule(p.route.from, p.route.to))
		p.back.setFault(n.rule(p.route.to, p.route.from))
	}
	close(n.changed)
	n.changed = make(chan struct{})
}
