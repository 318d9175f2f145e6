package zsock

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds the memory of large messages that were begun and are not complete,
// over all connections whose [Config] has it: each peer may announce MaxMessage, and
// thousands of peers more than any machine has. Buffers of up to 72 KiB are not
// counted: any connection may have one.
//
// What is too much ends the slowest connection, with [ErrUnfinished]: the one with the
// most octets of memory, times the age of its message, for each octet that came. So
// a message that comes at a usual speed passes beside any number of halves that lie
// about, and beside others that are begun anew all the time. The only message there
// is may have any permitted size.
//
// The memory of a connection that is ended so is not counted any more, and is free
// when its reader has noticed: by so much the limit may be exceeded for a moment.
type Budget struct {
	limit int64

	mu     sync.Mutex // Conn.mu is taken under it, never the other way
	used   int64
	claims map[*claim]struct{}
}

// claim is the memory of one message that is not complete.
type claim struct {
	conn   *Conn
	since  time.Time    // when the message was begun
	came   atomic.Int64 // octets of it; written by the reader
	octets int64        // of memory; guarded by Budget.mu
}

// NewBudget makes a budget of so many octets; 0 means 1 GiB.
func NewBudget(octets int64) *Budget {
	orDefault(&octets, 1<<30)
	return &Budget{limit: octets, claims: make(map[*claim]struct{})}
}

// Used is what is counted now, in octets.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// charge makes k a claim to so many octets. Where that is too much the worst
// connections end; if k's own is one of them, it is told by the error.
func (b *Budget) charge(k *claim, octets int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k.conn.closed.Load() {
		return ErrClosed // perhaps by the following, for another's sake
	}
	b.used += octets - k.octets
	k.octets = octets
	b.claims[k] = struct{}{}
	for b.used > b.limit && len(b.claims) > 1 {
		worst, age := b.worst()
		err := fmt.Errorf("%w: %d octets of memory for %d that came in %v", ErrUnfinished, worst.octets, worst.came.Load(), age.Round(time.Millisecond))
		b.drop(worst)
		if worst == k {
			return err
		}
		worst.conn.Close(err)
	}
	return nil
}

// worst finds the claim that has the most for the longest and brought the least.
func (b *Budget) worst() (worst *claim, age time.Duration) {
	now, most := time.Now(), -1.0
	for k := range b.claims {
		d := now.Sub(k.since)
		if burden := float64(k.octets) * float64(d) / float64(k.came.Load()); burden > most {
			worst, age, most = k, d, burden
		}
	}
	return worst, age
}

// drop ends a claim, also one that was ended before.
func (b *Budget) drop(k *claim) {
	delete(b.claims, k)
	b.used -= k.octets
	k.octets = 0
}

// charge counts what the message being received takes, n octets in all, before they
// are taken.
func (c *Conn) charge(n int) error {
	in := &c.in
	if n <= firstBig {
		in.settle()
		return nil
	}
	if in.claim == nil {
		in.claim = &claim{conn: c, since: in.since}
		if in.since.IsZero() {
			in.claim.since = time.Now()
		}
		in.claim.came.Store(int64(1 + len(in.pending())))
	}
	return c.cfg.Unfinished.charge(in.claim, int64(n))
}

// settle pays back: the message is complete, or will never be.
func (in *input) settle() {
	if in.claim == nil {
		return
	}
	b := in.claim.conn.cfg.Unfinished
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(in.claim)
	in.claim = nil
}
