package zsock

import "sync/atomic"

// Backlog bounds what waits in all connections whose configurations name it, in octets
// of wire form: of those whose peers do not take it as fast as it comes. Nobody who
// keeps up is refused anything for the sake of those who do not. Where it is used up,
// a connection takes what it takes beyond its own mark: one message when nothing
// waits, and a few small ones. A body that several wait for counts for each of them.
type Backlog struct {
	limit  int64
	octets atomic.Int64
}

// NewBacklog makes one for so many octets.
func NewBacklog(limit int64) *Backlog { return &Backlog{limit: limit} }

// Octets is what waits now.
func (b *Backlog) Octets() int64 { return b.octets.Load() }

// Take counts octets that wait elsewhere than in a connection, and reports false where
// there is no room for them. When nothing waits, there is room for any number.
func (b *Backlog) Take(octets int64) bool {
	for {
		waits := b.octets.Load()
		if waits > 0 && waits+octets > b.limit {
			return false
		}
		if b.octets.CompareAndSwap(waits, waits+octets) {
			return true
		}
	}
}

// Give takes back what Take has counted.
func (b *Backlog) Give(octets int64) { b.octets.Add(-octets) }

// takes tells whether there is room for so many more octets; without a bound there is.
func (b *Backlog) takes(octets int) bool {
	return b == nil || b.octets.Load()+int64(octets) <= b.limit
}

// account keeps c's part of the backlog, after c.octets or c.behind has changed. As
// long as c is not behind it costs nothing. Called with c.mu held.
func (c *Conn) account() {
	if !c.behind && c.counted == 0 || c.cfg.Backlog == nil {
		return
	}
	waits := 0
	if c.behind {
		waits = c.octets
	}
	c.cfg.Backlog.octets.Add(int64(waits - c.counted))
	c.counted = waits
}

// caughtUp notes that nothing of c waits for the kernel any more. Called with c.mu held.
func (c *Conn) caughtUp() {
	c.behind = false
	c.account()
}
