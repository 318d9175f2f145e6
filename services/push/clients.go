package push

import (
	"context"
	"maps"
	"sync"
)

// reason names why a websocket ended or was refused; each is counted.
type reason string

const (
	reasonClosed       reason = "closed"        // the client said goodbye
	reasonLost         reason = "lost"          // the connection broke
	reasonNoPong       reason = "no-pong"       // nothing was heard for pongWait
	reasonWriteTimeout reason = "write-timeout" // one write took longer than writeWait
	reasonTooBig       reason = "message-too-big"
	reasonShutdown     reason = "shutdown"
	reasonFull         reason = "too-many-clients" // refused: 503
	reasonOrigin       reason = "foreign-origin"   // refused: 403
	reasonNotReady     reason = "not-ready"        // refused: 503, the store was never read
	reasonHandshake    reason = "bad-handshake"    // refused: not a websocket request
)

// Error lets a reason be the cause a context was cancelled with.
func (r reason) Error() string { return string(r) }

// counters counts reasons.
type counters struct {
	mu sync.Mutex
	// guards the following
	ended map[reason]uint64
}

func (c *counters) add(r reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = make(map[reason]uint64)
	}
	c.ended[r]++
}

func (c *counters) byReason() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	byReason := make(map[string]uint64, len(c.ended))
	for r, n := range c.ended {
		byReason[string(r)] = n
	}
	return byReason
}

// clients is the set of open websockets.
type clients struct {
	max int

	mu sync.Mutex
	// guards the following
	set      map[*client]struct{}
	reserved int           // admitted, handshake included
	closed   bool          // draining: nobody is admitted any more
	empty    chan struct{} // closed when draining has finished
}

// reserve admits one more client before its handshake, so that the bound holds
// for handshakes, too. The caller gives the place back with release.
func (c *clients) reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.reserved >= c.max {
		return false
	}
	c.reserved++
	return true
}

func (c *clients) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reserved--
	if c.closed && c.reserved == 0 {
		close(c.empty)
	}
}

func (c *clients) add(cl *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set == nil {
		c.set = make(map[*client]struct{})
	}
	c.set[cl] = struct{}{}
}

func (c *clients) remove(cl *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.set, cl)
}

func (c *clients) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.set)
}

// wake tells every client that the cache changed. It never blocks.
func (c *clients) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for cl := range c.set {
		select {
		case cl.news <- struct{}{}:
		default: // told already
		}
	}
}

// drain admits nobody any more and waits until all clients have left; those that
// have not when grace ends are cut. The clients know from Run's context that
// they are to leave.
func (c *clients) drain(grace context.Context) {
	c.mu.Lock()
	c.closed, c.empty = true, make(chan struct{})
	if c.reserved == 0 {
		close(c.empty)
	}
	empty := c.empty
	c.mu.Unlock()
	select {
	case <-empty:
		return
	case <-grace.Done():
	}
	c.mu.Lock()
	left := maps.Clone(c.set)
	c.mu.Unlock()
	for cl := range left {
		cl.conn.NetConn().Close()
	}
	<-empty
}
