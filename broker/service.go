package broker

import (
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// service is one service name with all that belongs to it: its workers, the
// peers that offer it, its requests. One mutex guards it; it is taken straight
// from the reader goroutines and never held over I/O.
type service struct {
	name      string
	nameFrame []byte // the same, as it goes into heads
	b         *Broker

	// mu guards all that follows. Lock order: a service, then a connection; never
	// two services.
	mu   sync.Mutex
	dead bool // forgotten by the broker: whoever still has it must ask again

	table table
	queue list[request] // requests nobody holds, oldest first
	wheel wheel
	bytes int64 // held by queue and table together

	workers list[worker] // all sessions
	idle    list[worker] // nothing running, least recently used first
	partly  list[worker] // something running and room for more
	routes  []*route     // peers that offer the service
	mean    ewma         // service time, for estimates of waiting

	told  bool // peers know the present state
	stats serviceStats
}

// serviceStats are cumulative counters of one service, guarded by its mutex.
type serviceStats struct {
	Requests    uint64 `json:"requests"`
	Answered    uint64 `json:"answered"`
	Failed      uint64 `json:"failed"`
	Redelivered uint64 `json:"redelivered"`
	Late        uint64 `json:"late"`
	Expired     uint64 `json:"expired"`
	Cancelled   uint64 `json:"cancelled"`
	Offloaded   uint64 `json:"offloaded"`
	Busy        uint64 `json:"busy"`
}

func newService(b *Broker, name string) *service {
	s := &service{name: name, nameFrame: []byte(name), b: b}
	s.queue.place = queuePlace
	s.workers.place = allPlace
	s.idle.place = waitingPlace
	s.partly.place = waitingPlace
	s.wheel.init(b.now())
	return s
}

// require finds or creates the service and returns it locked. The caller names
// the one it used last, which is right nearly always.
func (b *Broker) require(recent *service, name []byte) (*service, *mdp.Error) {
	if recent != nil && recent.name == string(name) {
		recent.mu.Lock()
		if !recent.dead {
			return recent, nil
		}
		recent.mu.Unlock()
	}
	for {
		s, err := b.findOrAdd(name)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		if !s.dead {
			return s, nil
		}
		s.mu.Unlock()
	}
}

func (b *Broker) findOrAdd(name []byte) (*service, *mdp.Error) {
	b.mu.RLock()
	s := b.services[string(name)]
	b.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s = b.services[string(name)]; s != nil {
		return s, nil
	}
	if len(b.services) >= b.cfg.MaxServices {
		return nil, busy("the broker knows its maximum of services")
	}
	s = newService(b, string(name))
	b.services[s.name] = s
	return s, nil
}

// find returns the service, not locked, or nil.
func (b *Broker) find(name []byte) *service {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.services[string(name)]
}

// forgetIfUnused takes a service without workers, requests or routes off the
// broker, so that made-up names do not pile up.
func (b *Broker) forgetIfUnused(s *service) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !s.mu.TryLock() { // in use; the next tick asks again
		return
	}
	defer s.mu.Unlock()
	if s.unusedLocked() {
		s.dead = true
		b.count.forgotten.add(s.stats)
		delete(b.services, s.name)
	}
}

func (s *service) unusedLocked() bool {
	for _, p := range s.routes {
		if p.load.Workers > 0 || p.load.Queue > 0 || p.sent > 0 || p.received > 0 {
			return false
		}
	}
	return s.workers.n == 0 && s.table.live == 0 && (s.told || s.b.linkCount.Load() == 0)
}

// admit makes room for one request of size octets, or says why there is none.
func (s *service) admit(size int64) (*request, *mdp.Error) {
	switch {
	case s.queue.n >= s.b.cfg.MaxRequests:
		s.stats.Busy++
		return nil, busy("the queue of the service is full")
	case s.bytes+size > s.b.cfg.MaxBytes && s.table.live > 0:
		s.stats.Busy++
		return nil, busy("the service holds its maximum of octets")
	case s.b.held.Load()+size > s.b.cfg.MaxTotalBytes:
		s.stats.Busy++
		return nil, busy("the broker holds its maximum of octets")
	}
	r := s.table.take()
	r.service, r.size, r.entered = s, size, s.b.now()
	s.bytes += size
	s.b.held.Add(size)
	s.stats.Requests++
	return r, nil
}

func busy(text string) *mdp.Error {
	return &mdp.Error{Status: mdp.Busy, Text: text, RetryAfter: 100 * time.Millisecond}
}

// offered tells whether anybody, here or at a peer, does this work.
func (s *service) offered() bool {
	return s.workers.n > 0 || s.offeredByPeer()
}

// place puts a new request where it can run, or into the queue.
func (s *service) place(batch *zsock.Batch, r *request) {
	if r.flags&mdp.FlagNoWait != 0 && !s.offered() {
		s.fail(batch, r, mdp.Errorf(mdp.NoWorker, "nobody offers %q", s.name))
		return
	}
	if r.deadline != 0 {
		s.wheel.add(r)
	}
	if s.queue.n == 0 && s.deliver(batch, r) {
		return
	}
	if r.from.role == mdp.Peer && s.meshWorkers() == 0 {
		s.fail(batch, r, mdp.Errorf(mdp.NotTaken, "this broker has no worker for %q", s.name))
		return
	}
	s.enqueue(r, false)
	s.dispatch(batch)
}

func (s *service) enqueue(r *request, front bool) {
	r.queued = true
	if front {
		s.queue.pushFront(r)
	} else {
		s.queue.pushBack(r)
	}
	s.changed()
}

func (s *service) dequeue(r *request) {
	if r.queued {
		r.queued = false
		s.queue.remove(r)
	}
}

// dispatch hands out waiting requests, oldest first, as long as somebody takes them.
func (s *service) dispatch(batch *zsock.Batch) {
	for r := s.queue.first; r != nil && s.deliver(batch, r); r = s.queue.first {
		s.dequeue(r)
	}
}

// deliver gives the request to the least recently used worker that is idle, else
// to one with room, else to a peer. It reports false when it has to wait.
func (s *service) deliver(batch *zsock.Batch, r *request) bool {
	for {
		w := s.pick(r)
		if w == nil {
			return s.offload(batch, r)
		}
		if w.request(batch, r) {
			return true
		}
	}
}

// pick finds the worker whose turn it is. Work of peers goes to workers of scope
// mesh only.
func (s *service) pick(r *request) *worker {
	fromPeer := r.from.role == mdp.Peer
	for _, l := range [...]*list[worker]{&s.idle, &s.partly} {
		for w := l.first; w != nil; w = w.waiting.next {
			if !fromPeer || !w.local() {
				return w
			}
		}
	}
	return nil
}

// unhold takes the holder at index i off the request and returns it.
func (r *request) unhold(i int) {
	last := len(r.holders) - 1
	r.holders[i] = r.holders[last]
	r.holders[last] = holder{}
	r.holders = r.holders[:last]
}

// finish ends a request that has been answered, refused or dropped: its other
// holders are cancelled, and its slot is free again.
func (s *service) finish(batch *zsock.Batch, r *request) {
	s.dequeue(r)
	s.wheel.remove(r)
	for i := range r.holders {
		r.holders[i].cancel(batch, r)
	}
	if c := r.from.conn; c != nil {
		c.disown(r)
	}
	s.bytes -= r.size
	s.b.held.Add(-r.size)
	s.table.release(r)
}

// cancel tells a holder that its answer is not wanted any more. It keeps the
// place until its FINAL comes: it may still be working.
func (h *holder) cancel(batch *zsock.Batch, r *request) {
	if h.worker != nil {
		h.worker.held[h.at].r = nil
		h.worker.cancel(batch, r.token())
		return
	}
	h.route.held[h.at].r = nil
	h.route.cancel(batch, r)
}

// lost is called when a holder went away without an answer: another one tries,
// unless the rules forbid it (DESIGN section 5, redelivery).
func (s *service) lost(batch *zsock.Batch, r *request, status mdp.Status, why string) {
	if len(r.holders) > 0 {
		return // somebody else still may answer
	}
	if !s.mayRedeliver(r) {
		s.poisoned(r, why)
		s.fail(batch, r, &mdp.Error{Status: status, Text: why, MayHaveRun: true})
		return
	}
	s.stats.Redelivered++
	s.enqueue(r, true)
}

// mayRedeliver: only the home broker tries again; never what must run once, what
// has sent a partial (unless the caller can restart), or what had its tries.
func (s *service) mayRedeliver(r *request) bool {
	return !r.once() && r.from.role != mdp.Peer && r.deliveries < maxDeliveries &&
		(r.partials == 0 || r.flags&mdp.FlagRestartable != 0)
}

// notTaken is called when a holder says that it never started the request: it
// goes elsewhere, without counting an attempt.
func (s *service) notTaken(batch *zsock.Batch, r *request) {
	r.deliveries--
	if len(r.holders) == 0 {
		s.enqueue(r, true)
	}
}

// expire answers a request whose deadline has passed.
func (s *service) expire(batch *zsock.Batch, r *request) {
	s.stats.Expired++
	if r.queued && r.deliveries == 0 {
		s.fail(batch, r, mdp.Errorf(mdp.Expired, "the deadline passed while waiting for a worker of %q", s.name))
		return
	}
	s.fail(batch, r, &mdp.Error{Status: mdp.Expired, Text: "the deadline passed before the answer came", MayHaveRun: r.deliveries > 0})
}

// clientGone is called when the connection a request came by has closed.
func (s *service) clientGone(batch *zsock.Batch, r *request) {
	if r.from.detached {
		r.from.conn = nil
		return
	}
	s.stats.Cancelled++
	s.finish(batch, r)
	s.dispatch(batch)
}
