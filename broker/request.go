package broker

import (
	"cmp"
	"math"
	"slices"

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
	account *account // on which it counts

	entered    int64    // broker clock; earlier by the time spent at other brokers
	started    int64    // last delivery
	deadline   int64    // 0: none
	deliveries int      // how often it was handed out, NOT_TAKEN not counted
	partials   int      // forwarded; those that were only collected do not count
	refusals   int      // answered NOT_TAKEN; at least 1 if it was never written to who had it
	answering  uint16   // attempt of the holder whose answer is being delivered
	holders    []holder // who may answer; the last one is the newest
	last       holder   // the one that let go of it last

	waiting, wheel place[request] // in a line or in service.again, and in a wheel slot
	line           *line          // the client's line it waits in, or nil
	again          bool           // it waits in service.again
	moved          bool           // it was taken from a silent worker, which may still have it
	wheelSlot      int32
	ofClient       place[request] // in its connection's list
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
	collected []zsock.Body // partials kept for an asker that gets a single answer
	octets    int64        // payload of these
	kept      int64        // memory of these
}

// holder is a worker or a peer that was given the request and has not answered.
type holder struct {
	worker  *worker
	route   *route
	at      int    // index in the worker's or route's list of held requests
	attempt uint16 // what it was told, and what its answer is told by
	doubted bool   // it was silent and told CANCEL: the request was, or is to be, given to another one
}

// held is the other direction: what a worker or route was given. The request is
// nil once somebody else answered it; the place stays taken until the FINAL comes.
type held struct {
	token  uint64
	r      *request
	moved  bool   // taken from a silent worker: its answer is late, even if it was cut short
	number uint32 // of the message it was given in
	mark   int64  // flight.sent of a worker, behind it
}

func (r *request) token() uint64 { return uint64(r.gen)<<32 | uint64(r.slot) }

func (r *request) once() bool { return r.flags&mdp.FlagOnce != 0 }

// guest tells a request that a linked broker handed on. Its home redelivers it, not
// we, and workers of scope local do not get it.
func (r *request) guest() bool { return r.from.role == mdp.Peer }

// waits tells whether the request is queued.
func (r *request) waits() bool { return r.line != nil || r.again }

// begun tells whether a part of an answer has come.
func (r *request) begun() bool { return r.partials > 0 || len(r.from.collected) > 0 }

// trusted tells whether anybody but w holds the request and is not doubted.
func (r *request) trusted(w *worker) bool {
	return slices.ContainsFunc(r.holders, func(h holder) bool { return !h.doubted && (w == nil || h.worker != w) })
}

// mayHaveRun tells whether any worker may have started the request.
func (r *request) mayHaveRun() bool { return r.deliveries > 0 }

// nextAttempt is what the next holder is told: the asker's own count, and ours.
func (r *request) nextAttempt() uint16 {
	return uint16(min(int(r.attempt)+r.deliveries, math.MaxUint16))
}

// spent tells whether the request has had all its tries, those before it came here
// included.
func (r *request) spent() bool { return r.deliveries > 0 && r.nextAttempt() > maxAttempts }

// collects tells whether partials are kept until the final answer comes: MDP/0.1
// knows a single reply, and so does a call made inside the process.
func (o *origin) collects() bool {
	return o.local != nil || o.dialect == mdp.V01 || o.dialect == mdp.Bare
}

// hold adds a holder and counts the delivery. At is its place among what the
// holder holds.
func (r *request) hold(w *worker, p *route, at int, now int64) {
	if r.deliveries == 0 && r.refusals == 0 {
		r.service.waits.add(now - r.entered)
	}
	r.holders = append(r.holders, holder{worker: w, route: p, at: at, attempt: r.nextAttempt()})
	r.deliveries++
	r.started = now
}

// holder finds the entry of a worker or a route, -1 if it holds r no longer.
func (r *request) holder(w *worker, p *route) int {
	for i := range r.holders {
		if r.holders[i].worker == w && r.holders[i].route == p {
			return i
		}
	}
	return -1
}

// dropHolder takes a worker or a route off the request's holders; afterwards it is
// r.last.
func (r *request) dropHolder(w *worker, p *route) {
	i := r.holder(w, p)
	if i < 0 {
		return
	}
	r.last = r.holders[i]
	r.answering = r.last.attempt
	last := len(r.holders) - 1
	r.holders[i] = r.holders[last]
	r.holders[last] = holder{}
	r.holders = r.holders[:last]
}

// remaining is the rest of the deadline in milliseconds, at least 1 and at most what the
// head has room for, 49 days; 0 for none.
func (r *request) remaining(now int64) uint32 {
	if r.deadline == 0 {
		return 0
	}
	ms := (r.deadline-now-1)/1_000_000 + 1
	return uint32(min(max(ms, 1), math.MaxUint32))
}

// newestFirst orders what a lost holder had, without what somebody else answered.
// Filed in this order each finds its place at the front of the queue at once.
func newestFirst(all []held) []held {
	all = slices.DeleteFunc(all, func(h held) bool { return h.r == nil })
	slices.SortFunc(all, func(x, y held) int { return cmp.Compare(y.r.entered, x.r.entered) })
	return all
}

// table holds a service's requests by slot. Slots are reused with the next
// generation, so that a stale token finds nothing.
type table struct {
	slots []*request
	free  []uint32
	live  int
	base  uint32 // generation new slots start from: random, so that answers to another table find nothing
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

// all lists the requests.
func (t *table) all() []*request {
	out := make([]*request, 0, t.live)
	for _, r := range t.slots {
		if r.live {
			out = append(out, r)
		}
	}
	return out
}

// release gives the slot back. Everything the request referred to is let go.
func (t *table) release(r *request) {
	t.live--
	r.body.Release()
	clear(r.holders)
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
