package relay

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Direction is a way through a relay.
type Direction int

// The two ways.
const (
	Up   Direction = iota // from who dialled the relay to its target
	Down                  // from the target to who dialled
)

// Fault is what happens to octets on their way in one direction. The zero value is
// a healthy link. Fields combine.
type Fault struct {
	// Stall holds everything back, end of stream included, until it is healed; then
	// it arrives. The relay does not read meanwhile, so the sender's buffers fill up.
	Stall bool
	// Discard swallows octets and end of stream: the link is half-open. Nothing that
	// was swallowed comes back after healing.
	Discard bool
	// Delay is added to everything; order is kept.
	Delay time.Duration
	// Chunk is the most that one write takes; 1 is byte by byte.
	Chunk int
	// Pause is waited before each write, so that the kernel does not join chunks again.
	Pause time.Duration
	// Rate is how many octets pass in a second; 0 is as many as come.
	Rate int
	// Mangle may change octets in place. It is called by several goroutines.
	Mangle func(p []byte)
}

// Relay passes connections on to one target. Its methods may be called from any
// goroutine.
type Relay struct {
	listener net.Listener
	target   string // HOST:PORT
	wg       sync.WaitGroup
	done     chan struct{} // closed by Close

	mu      sync.Mutex // guards the following
	closed  bool
	refuse  bool
	faults  [2]Fault
	changed chan struct{} // closed, and replaced, when a fault changes
	pairs   map[*pair]struct{}
	passed  [2]int64
}

// pair is one connection through the relay.
type pair struct{ near, far *net.TCPConn }

// Start listens on a free port of 127.0.0.1 for connections to target, such as
// tcp://127.0.0.1:5555 or 127.0.0.1:5555. Close ends it.
func Start(target string) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &Relay{listener: l, target: strings.TrimPrefix(target, "tcp://"), done: make(chan struct{}),
		changed: make(chan struct{}), pairs: make(map[*pair]struct{})}
	r.wg.Go(r.accept)
	return r, nil
}

// Endpoint is what to connect to instead of the target.
func (r *Relay) Endpoint() string { return "tcp://" + r.listener.Addr().String() }

// Close ends all connections and waits for the relay's goroutines.
func (r *Relay) Close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	close(r.done)
	r.mu.Unlock()
	_ = r.listener.Close()
	r.Reset()
	r.wg.Wait()
}

// Fault puts f on one direction of the open connections and of later ones. The
// zero Fault heals.
func (r *Relay) Fault(d Direction, f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[d] = f
	r.news()
}

// Partition stalls both directions.
func (r *Relay) Partition() {
	r.Fault(Up, Fault{Stall: true})
	r.Fault(Down, Fault{Stall: true})
}

// Heal takes the faults off both directions.
func (r *Relay) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = [2]Fault{}
	r.news()
}

// Refuse makes new connections fail at once, or stops doing so. Open ones stay.
func (r *Relay) Refuse(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = on
}

// Reset breaks every connection as RST does: both ends fail, and what was on its way
// is lost. It returns how many there were.
func (r *Relay) Reset() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.pairs)
	for p := range r.pairs {
		p.reset()
	}
	clear(r.pairs)
	return n
}

// Passed is how many octets have left the relay in a direction.
func (r *Relay) Passed(d Direction) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed[d]
}

// news wakes whoever waits for another fault. Callers hold mu.
func (r *Relay) news() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// rule is the fault in force, and what is closed when it changes.
func (r *Relay) rule(d Direction) (Fault, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.faults[d], r.changed
}

func (r *Relay) accept() {
	for {
		near, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			r.wait(10 * time.Millisecond)
			continue
		}
		r.wg.Go(func() { r.join(near.(*net.TCPConn)) })
	}
}

// join connects a newcomer with the target.
func (r *Relay) join(near *net.TCPConn) {
	r.mu.Lock()
	refuse := r.refuse
	r.mu.Unlock()
	if refuse {
		reset(near)
		return
	}
	far, err := net.Dial("tcp", r.target)
	if err != nil {
		reset(near)
		return
	}
	p := &pair{near, far.(*net.TCPConn)}
	for _, c := range []*net.TCPConn{p.near, p.far} {
		_ = c.SetReadBuffer(pieceSize) // what is on its way is in our pieces, not in the kernel
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		p.reset()
		return
	}
	r.pairs[p] = struct{}{}
	r.wg.Go(func() {
		var both sync.WaitGroup
		both.Go(func() { r.pump(Up, p.near, p.far) })
		both.Go(func() { r.pump(Down, p.far, p.near) })
		both.Wait()
		r.drop(p)
	})
}

// drop forgets a connection that has ended in both directions.
func (r *Relay) drop(p *pair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pairs, p)
	_ = p.near.Close()
	_ = p.far.Close()
}

// wait returns false if the relay is closed meanwhile.
func (r *Relay) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.done:
		return false
	}
}

func (p *pair) reset() {
	reset(p.near)
	reset(p.far)
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
