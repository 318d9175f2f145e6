package broker

import (
	"math/rand/v2"
	"sync"

	"github.com/mdmesh/mdmesh/mdp"
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

	table   table
	own     queue         // requests of clients here that nobody holds
	guests  queue         // the same of peers' requests, which only mesh workers may take
	again   list[request] // requests taken from silent workers, oldest first: they go before all others
	turns   uint64        // clock of own and guests
	longest longest       // client's line
	wheel   wheel
	bytes   int64 // held by all requests

	workers list[worker] // all sessions
	idle    list[worker] // nothing running, least recently used first
	partly  list[worker] // something running and room for more
	unheard list[worker] // given something, and silent since (suspect.go)
	// Room is counted in requests: a worker that runs ten at once counts for ten.
	free, meshFree         int // what workers could take now; those of scope mesh
	capacity, meshCapacity int // what they run at once, those that drain not counted

	budget budget // of what suspicion may move

	routes      []*route // peers that spoke of the service
	mean        ewma     // service time here, for estimates of waiting
	servedAt    int64    // when a worker last took a request
	unoffered   int64    // since when nobody is known to offer it; 0: somebody did at the last sweep, or came since
	onceWorkers int      // of scope mesh, that run what they get at most once
	turning     bool     // some guests are still to be turned away
	returning   bool     // some guests may still go back to a peer that is idle
	endings     endings  // what is to be failed, and was more than a portion
	listed      bool     // among the broker's news
	lingers     bool     // unused, but a link has no room for its totals
	draw        uint32   // who gets the odd idle place
	around      []neighbour
	views       []view // these two are only there to be used again

	stats serviceStats
	// Times of requests: from entry to the first dispatch, here or to a peer; from the
	// last one to what a handler here answered.
	waits, runs Histogram
}

// serviceStats are cumulative counters of one service, guarded by its mutex. Of requests
// that have come to an end, each is answered, failed, returned or cancelled.
type serviceStats struct {
	Requests    uint64 `json:"requests"`
	Answered    uint64 `json:"answered"`
	Failed      uint64 `json:"failed"`
	Returned    uint64 `json:"returned"` // to the linked broker that sent them: not started here
	Redelivered uint64 `json:"redelivered"`
	Late        uint64 `json:"late"`
	Expired     uint64 `json:"expired"`
	Cancelled   uint64 `json:"cancelled"`
	Offloaded   uint64 `json:"offloaded"`
	Busy        uint64 `json:"busy"`
}

func newService(b *Broker, name string) *service {
	s := &service{name: name, nameFrame: []byte(name), b: b}
	s.table.base = rand.Uint32() >> 1
	s.own.init(&s.turns, false)
	s.guests.init(&s.turns, true)
	s.again.place = queuePlace
	s.workers.place = allPlace
	s.idle.place = waitingPlace
	s.partly.place = waitingPlace
	s.unheard.place = unheardPlace
	s.unoffered = b.now()
	s.wheel.init(s.unoffered)
	return s
}

// require finds or creates the service and returns it locked. The caller names
// the one it used last, which is right nearly always. Room is how many services
// beyond the bound this caller may still add (roomForPeers, roomForWorkers).
func (b *Broker) require(recent *service, name []byte, room int) (*service, *mdp.Error) {
	if recent != nil && recent.name == string(name) {
		recent.mu.Lock()
		if !recent.dead {
			return recent, nil
		}
		recent.mu.Unlock()
	}
	for {
		s, err := b.findOrAdd(name, room)
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

// roomForPeers is how many services beyond MaxServices peers' words may add: names made
// up in requests must not keep a broker from learning what others offer. One peer's word
// alone adds maxForeign at most.
func (b *Broker) roomForPeers() int { return b.cfg.MaxServices / 4 }

// roomForWorkers is how many beyond MaxServices workers may add: names made up in
// requests, or by peers, must not keep them from registering.
func (b *Broker) roomForWorkers() int { return b.cfg.MaxServices / 2 }

func (b *Broker) findOrAdd(name []byte, room int) (*service, *mdp.Error) {
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
	if len(b.services) >= b.cfg.MaxServices+room {
		b.count.servicesRefused.Add(1)
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

// forgetIfUnused takes a service without workers, requests or anything that peers say
// of it off the broker, so that made-up names do not pile up.
func (b *Broker) forgetIfUnused(s *service) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !s.mu.TryLock() { // in use; the next tick asks again
		return
	}
	defer s.mu.Unlock()
	if s.unusedLocked(b.now()) && s.keepTotals() {
		s.dead = true
		b.count.forgotten.add(s.stats)
		delete(b.services, s.name)
	}
}

func (s *service) unusedLocked(now int64) bool {
	for _, p := range s.routes {
		if !p.quiet(now) {
			return false
		}
	}
	return s.workers.n == 0 && s.table.live == 0
}

// offered tells whether anybody, here or at a peer, takes such requests.
func (s *service) offered(now int64) bool {
	return s.capacity > 0 || s.offeredByPeer(now)
}

// offeredByPeer tells whether a linked broker has workers for the service.
func (s *service) offeredByPeer(now int64) bool {
	for _, p := range s.routes {
		if p.offersNow(now) {
			return true
		}
	}
	return false
}
