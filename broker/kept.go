package broker

import (
	"hash/maphash"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// A service that nobody uses any more is forgotten, or names that are used once, one for
// each instance or session, would fill the broker. What was sent for it over a link and
// got there is not: both sides count from the link's beginning, and one that began anew
// would confirm less than it was sent. So the link keeps the two figures until the
// name comes up again.

// maxTotals is how many names a link keeps the totals of: some 3 MB. Of more, the service
// stays known until the link ends.
const maxTotals = 100_000

// totals are what outlives a ledger: the requests sent and received for one service since
// the link came up. All of them were confirmed, both ways.
type totals struct{ sent, received uint32 }

// kept are the totals of a link for services that were forgotten. A name has its totals
// here or its ledger in a service, never both. Only the ticker adds.
type kept struct {
	mu   sync.Mutex // a leaf; guards all
	seed maphash.Seed
	// By a hash of the name, which takes less room than names of 255 octets. Among
	// so many of 64 bits, by a seed that nobody knows, two are hardly ever the same.
	totals map[uint64]totals
	told   bool // the log has it that there are too many
}

func (k *kept) full() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.totals) >= maxTotals
}

// warn tells once that somebody is to be told that it is full.
func (k *kept) warn() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	told := k.told
	k.told = true
	return !told
}

func (k *kept) put(name string, a totals) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.totals == nil {
		k.totals, k.seed = make(map[uint64]totals), maphash.MakeSeed()
	}
	k.totals[maphash.String(k.seed, name)] = a
}

// take returns the totals of a name, if there are any, and keeps them no longer.
func (k *kept) take(name string) (a totals) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.totals) > 0 {
		h := maphash.String(k.seed, name)
		a = k.totals[h]
		delete(k.totals, h)
	}
	return a
}

// used tells whether any request went to the neighbour or came from there.
func (l *ledger) used() bool { return l.sent > 0 || l.received > 0 }

// quiet tells whether the service is nothing to either side: neither has workers or
// requests for it, as the other one knows, and all that was sent is confirmed. Of one
// that was used the neighbour was told so long ago that it no longer goes by anything it
// heard before: no request is on its way that finds no room for its name.
func (l *ledger) quiet(now int64) bool {
	t := &l.told
	switch {
	case !l.silent() || t.workers > 0 || t.queue > 0 || t.via > 0 || t.behind || l.unsure:
		return false
	case l.used():
		return l.sent == l.load.Seen && l.received == t.seen && now-l.toldAt > staleAfter
	}
	return true
}

// resume goes on with the totals of an earlier ledger of the same link.
func (l *ledger) resume(a totals) {
	l.sent, l.received = a.sent, a.received
	l.load.Seen, l.told.seen = a.sent, a.received
}

// keepTotals leaves the totals of a service that is to be forgotten with its links.
// It reports false if one of them has no room, and leaves none then. The service's
// mutex is held.
func (s *service) keepTotals() bool {
	for _, p := range s.routes {
		if p.used() && p.link.kept.full() {
			if p.link.kept.warn() {
				s.b.note(hclog.Warn, "link keeps no more names: services that went over it stay known until it ends", "broker", p.link.peerName(), "names", maxTotals)
			}
			if !s.lingers {
				s.lingers = true
				s.b.count.servicesLingering.Add(1)
			}
			return false
		}
	}
	for _, p := range s.routes {
		if p.used() {
			p.link.kept.put(s.name, totals{p.sent, p.received})
		}
	}
	s.routes = nil
	return true
}
