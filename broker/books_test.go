package broker

import (
	"fmt"

	"github.com/mdmesh/mdmesh/mdp"
)

// count is one of the broker's counters.
func (m *mesh) count(b *Broker, name string) uint64 {
	m.t.Helper()
	n, ok := b.Counters()[name]
	if !ok {
		m.t.Fatalf("no counter %q", name)
	}
	return n
}

func (m *mesh) wantCount(b *Broker, name string, want uint64) {
	m.t.Helper()
	m.settle()
	if n := m.count(b, name); n != want {
		m.t.Errorf("counter %s is %d, want %d", name, n, want)
	}
}

// empty fails the test if the broker still holds anything.
func (m *mesh) empty(b *Broker) {
	m.t.Helper()
	m.settle()
	if n := b.held.Load(); n != 0 {
		m.t.Errorf("broker %s still holds %d octets", b.name, n)
	}
	if err := b.checkTotals(); err != nil {
		m.t.Errorf("broker %s: %v", b.name, err)
	}
	for _, s := range b.allServices() {
		if err := s.check(); err != nil {
			m.t.Errorf("broker %s: %v", b.name, err)
		}
		if s.table.live != 0 || s.queued() != 0 || s.bytes != 0 || s.wheel.n != 0 {
			m.t.Errorf("service %s: %d live, %d queued, %d octets, %d deadlines", s.name, s.table.live, s.queued(), s.bytes, s.wheel.n)
		}
	}
}

// checkTotals verifies, of a broker that holds nothing, that every request it took came
// to one end, and is on nobody's account.
func (b *Broker) checkTotals() error {
	accounts := []*account{&b.inside, &b.orphaned}
	for _, c := range b.allConns() {
		accounts = append(accounts, &c.account)
	}
	for i, a := range accounts {
		if n := a.Load(); n != 0 {
			return fmt.Errorf("account %d has %d octets of nothing", i, n)
		}
	}
	c := b.Counters()
	if ended := c["answered"] + c["failed"] + c["returned"] + c["cancelled"]; ended != c["requests"] {
		return fmt.Errorf("%d requests, but %d ends: %d answered, %d failed, %d returned, %d cancelled",
			c["requests"], ended, c["answered"], c["failed"], c["returned"], c["cancelled"])
	}
	return nil
}

// check verifies the invariants of a service's books.
func (s *service) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, capacity, mesh := 0, 0, 0
	listed := make(map[*worker]bool)
	for w := s.unheard.first; w != nil; w = w.place.next {
		listed[w] = true
	}
	for w := s.workers.first; w != nil; w = w.all.next {
		if len(w.held) > w.credit && w.dialect != mdp.Native {
			return fmt.Errorf("%s: worker holds %d of %d", s.name, len(w.held), w.credit)
		}
		if (w.in == &s.idle) != (w.room > 0 && len(w.held) == 0) || (w.in == nil) != (w.room == 0) {
			return fmt.Errorf("%s: worker with room %d holding %d is in the wrong list", s.name, w.room, len(w.held))
		}
		if room := max(w.capacity-len(w.held), 0); !w.suspect && !w.stuck && w.room != room {
			return fmt.Errorf("%s: worker of %d holding %d has room %d", s.name, w.capacity, len(w.held), w.room)
		}
		orphans := 0
		for at, h := range w.held {
			if h.r == nil {
				orphans++
				if i, ok := w.orphans[h.token]; !ok || i != at {
					return fmt.Errorf("%s: worker's held %d has no request and is not found", s.name, at)
				}
				continue
			}
			if i := h.r.holder(w, nil); i < 0 || h.r.holders[i].at != at || h.r.token() != h.token {
				return fmt.Errorf("%s: worker's held %d and its request disagree", s.name, at)
			}
		}
		if orphans != len(w.orphans) {
			return fmt.Errorf("%s: %d held without a request, %d are found", s.name, orphans, len(w.orphans))
		}
		if w.suspect && (w.room != 0 || !w.due) || w.due != listed[w] {
			return fmt.Errorf("%s: worker suspect %t with room %d, unheard %t", s.name, w.suspect, w.room, listed[w])
		}
		free, capacity = free+w.room, capacity+w.capacity
		if !w.local {
			mesh += w.room
		}
	}
	if free != s.free || capacity != s.capacity || mesh != s.meshFree {
		return fmt.Errorf("%s: free %d capacity %d mesh %d, counted %d %d %d", s.name, s.free, s.capacity, s.meshFree, free, capacity, mesh)
	}
	return s.checkRequests()
}

func (s *service) checkRequests() error {
	live, waiting, octets := 0, 0, int64(0)
	for _, r := range s.table.slots {
		if !r.live {
			continue
		}
		live++
		octets += r.size + r.from.kept
		switch {
		case r.line != nil && r.again:
			return fmt.Errorf("%s: request queued twice", s.name)
		case r.waits() == r.trusted(nil) && (r.waits() || len(r.holders) == 0):
			return fmt.Errorf("%s: request queued %t with %d holders", s.name, r.waits(), len(r.holders))
		case r.waits():
			waiting++
		}
		for _, h := range r.holders {
			if h.worker != nil && h.worker.held[h.at].r != r || h.route != nil && h.route.held[h.at].r != r {
				return fmt.Errorf("%s: request and holder disagree", s.name)
			}
		}
	}
	if listed := len(s.waiting()); listed != waiting || listed != s.queued() {
		return fmt.Errorf("%s: %d requests wait, %d in the lines, counted %d", s.name, waiting, listed, s.queued())
	}
	if live != s.table.live || octets != s.bytes {
		return fmt.Errorf("%s: %d live with %d octets, counted %d with %d", s.name, s.table.live, s.bytes, live, octets)
	}
	return nil
}
