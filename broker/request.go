package broker

import (
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// request is one request from the moment it enters until it is answered or
// dropped. It lives in a slot of its service, is reused for later requests of
// the same slot, and is guarded by the service's mutex.
type request struct {
	slot, gen uint32 // together the token workers and peers see
	live      bool
	service   *service

	from    origin
	id      mdp.RequestID
	flags   uint8
	hops    uint8
	attempt uint16 // of the first delivery; the client may have tried before
	body    zsock.Body
	size    int64

	entered    int64 // broker clock; earlier by the time spent at other brokers
	started    int64 // last delivery
	deadline   int64 // 0: none
	deliveries int   // how often it was handed out
	partials   int   // forwarded
	refusals   int   // answered NOT_TAKEN
	queued     bool
	holders    []holder // who may answer; the last one is the newest

	queue, wheel link2[request] // places in the service's queue and in a wheel slot
	wheelSlot    int32
	ofClient     link2[request] // place in its connection's list
}

// origin is where a request came from and how its answers are written.
type origin struct {
	conn  *conn      // a client's or a peer's connection; nil once it has gone
	local *localCall // a call made inside the process
	// token, dialect, delimited and envelope are the asking side's own.
	token     uint64
	dialect   mdp.Dialect
	role      mdp.Role
	delimited bool
	detached  bool
	envelope  [][]byte
	collected []zsock.Body // partials kept for an MDP/0.1 client
}

// holder is a worker or a peer that was given the request and has not answered.
type holder struct {
	worker *worker
	route  *route
	at     int // index in the worker's or route's list of held requests
}

// held is the other direction: what a worker or route was given. The request is
// nil once somebody else answered it; the place stays taken until the FINAL comes.
type held struct {
	token uint64
	r     *request
}

func (r *request) token() uint64 { return uint64(r.gen)<<32 | uint64(r.slot) }

func (r *request) once() bool { return r.flags&mdp.FlagOnce != 0 }

// remaining is the rest of the deadline in milliseconds, at least 1; 0 for none.
func (r *request) remaining(now int64) uint32 {
	if r.deadline == 0 {
		return 0
	}
	ms := (r.deadline - now + 999_999) / 1_000_000
	return uint32(max(ms, 1))
}

// table holds a service's requests by slot. Slots are reused with the next
// generation, so that a stale token finds nothing.
type table struct {
	slots []*request
	free  []uint32
	live  int
	base  uint32 // generation new slots start from
}

func (t *table) take() *request {
	t.live++
	if n := len(t.free); n > 0 {
		r := t.slots[t.free[n-1]]
		t.free = t.free[:n-1]
		r.live = true
		return r
	}
	r := &request{slot: uint32(len(t.slots)), gen: t.base + 1, live: true, wheelSlot: -1}
	t.slots = append(t.slots, r)
	return r
}

func (t *table) find(token uint64) *request {
	slot := uint32(token)
	if int(slot) >= len(t.slots) {
		return nil
	}
	if r := t.slots[slot]; r.live && r.gen == uint32(token>>32) {
		return r
	}
	return nil
}

// release gives the slot back. Everything the request referred to is let go.
func (t *table) release(r *request) {
	t.live--
	r.body.Release()
	for _, p := range r.from.collected {
		p.Release()
	}
	*r = request{slot: r.slot, gen: r.gen + 1, holders: r.holders[:0], wheelSlot: -1}
	t.free = append(t.free, r.slot)
	if t.live == 0 && len(t.slots) > 4096 {
		// Forget an idle table grown large. Tokens out there may still name its slots,
		// so new ones start at a generation none of them had.
		for _, old := range t.slots {
			t.base = max(t.base, old.gen)
		}
		t.slots, t.free = nil, nil
	}
}

// link2 is a place in a doubly linked list.
type link2[T any] struct{ next, prev *T }

// list is an intrusive doubly linked list: a request or worker carries its own
// places, so that queueing allocates nothing and leaving is O(1).
type list[T any] struct {
	first, last *T
	n           int
	place       func(*T) *link2[T]
}

func (l *list[T]) pushBack(e *T) {
	p := l.place(e)
	p.prev, p.next = l.last, nil
	if l.last == nil {
		l.first = e
	} else {
		l.place(l.last).next = e
	}
	l.last = e
	l.n++
}

func (l *list[T]) pushFront(e *T) {
	p := l.place(e)
	p.prev, p.next = nil, l.first
	if l.first == nil {
		l.last = e
	} else {
		l.place(l.first).prev = e
	}
	l.first = e
	l.n++
}

func (l *list[T]) remove(e *T) {
	p := l.place(e)
	if p.prev == nil {
		l.first = p.next
	} else {
		l.place(p.prev).next = p.next
	}
	if p.next == nil {
		l.last = p.prev
	} else {
		l.place(p.next).prev = p.prev
	}
	*p = link2[T]{}
	l.n--
}

func queuePlace(r *request) *link2[request]  { return &r.queue }
func wheelPlace(r *request) *link2[request]  { return &r.wheel }
func clientPlace(r *request) *link2[request] { return &r.ofClient }
