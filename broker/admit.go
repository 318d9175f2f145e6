package broker

import (
	"sync/atomic"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// account counts the octets of one holder's requests: of a connection (that of a linked
// broker carries those of its clients), of all calls made inside the process, or of all
// detached requests whose client has gone.
type account struct{ atomic.Int64 }

// shareOfFree is the part of the octets that are free which one account may take, once
// half of the total is taken: a quarter. One that takes what it can ends at half of the
// total, more than four that do so at once, n, at n/(n+4) of it; of n that come one after
// another each leaves four fifths of what it found.
const shareOfFree = 4

// Held is the memory that requests and parts of answers take, in octets: what
// Config.MaxTotalBytes bounds.
func (b *Broker) Held() int64 { return b.held.Load() }

// admit makes room for one request that keeps size octets of body and envelope, or says
// why there is none. Client is the connection it came by, nil for this process.
func (s *service) admit(batch *zsock.Batch, client *conn, size, now int64) (*request, *mdp.Error) {
	size += requestCost
	if s.full(size) {
		s.makeRoom(batch, client, size)
	}
	var no string
	switch {
	case s.queued() >= s.b.cfg.MaxRequests:
		no = "the queue of the service is full"
	case s.bytes+size > s.b.cfg.MaxBytes && s.table.live > 0:
		no = "the service holds its maximum of octets"
	default:
		no = s.b.noRoomFor(client, size, s.b.held.Load())
	}
	if no != "" {
		s.stats.Busy++
		return nil, busy(no)
	}
	r := s.table.take()
	r.service, r.size, r.entered, r.account = s, size, now, s.b.accountOf(client)
	s.hold(r, size)
	s.stats.Requests++
	return r, nil
}

func busy(text string) *mdp.Error {
	return &mdp.Error{Status: mdp.Busy, Text: text, RetryAfter: 100 * time.Millisecond}
}

func (b *Broker) accountOf(client *conn) *account {
	if client == nil {
		return &b.inside
	}
	return &client.account
}

// hold counts octets that a request takes, or, if negative, gives back.
func (s *service) hold(r *request, octets int64) {
	s.bytes += octets
	s.b.held.Add(octets)
	r.account.Add(octets)
}

// orphan takes a detached request off the account of its client, which has gone.
func (s *service) orphan(r *request) {
	octets := r.size + r.from.kept
	r.account.Add(-octets)
	r.account = &s.b.orphaned
	r.account.Add(octets)
}

// noRoomFor is noRoom for one more request of a client, nil for this process.
func (b *Broker) noRoomFor(client *conn, size, held int64) string {
	a := b.accountOf(client)
	mine := a.Load()
	if client != nil && client.detaches() {
		mine += b.orphaned.Load() // else it would come again and again, each time with nothing
	}
	return b.noRoom(a, mine, size, held)
}

// noRoom tells why an account that has mine may not have size octets more while all hold
// so many, "" if it may. What waits may wait for ever, over any number of services: nobody
// is to take everything, so that others find something. Several readers that ask at the
// same time may exceed the bounds by what each of them brings.
func (b *Broker) noRoom(a *account, mine, size, held int64) string {
	free := b.cfg.MaxTotalBytes - held
	switch {
	case size > free:
		return "the broker holds its maximum of octets"
	case held < b.cfg.MaxTotalBytes/2, mine+size <= free/shareOfFree:
		return ""
	case a == &b.inside:
		return "the broker holds half of its maximum of octets, and calls made by HTTP or inside it have their share of the rest"
	}
	return "the broker holds half of its maximum of octets, and this connection has its share of the rest"
}

// full tells whether the service has no room for one more request of this size.
func (s *service) full(size int64) bool {
	return s.queued() >= s.b.cfg.MaxRequests || s.bytes+size > s.b.cfg.MaxBytes && s.table.live > 0
}

// makeRoom makes room in a full service for a client that has little waiting, at the
// cost of the one that has most: its newest requests are refused with BUSY, if that
// makes enough room before the asking client has about as much.
func (s *service) makeRoom(batch *zsock.Batch, client *conn, size int64) {
	l := s.findLongest()
	if l == nil {
		return
	}
	mine := s.own.lines[client]
	if client != nil && client.link.Load() != nil {
		mine = s.guests.lines[client]
	}
	for range s.canGive(l, mine, client, size) {
		s.stats.Busy++
		s.b.count.displaced.Add(1)
		s.fail(batch, l.requests.last, busy("the queue of the service is full, and most of it is this client's"))
	}
}

// canGive is how many of its newest requests l has to give to make room for one more of
// this size in mine, the client's line, which may be nil; 0 if it cannot: nothing is
// refused for nothing. All are told at once, so it is a portion at most.
func (s *service) canGive(l, mine *line, client *conn, size int64) int {
	cfg := &s.b.cfg
	least := mine.share(cfg) + max(1/float64(cfg.MaxRequests), float64(size)/float64(cfg.MaxBytes))
	given, octets := 0, int64(0)
	for r := l.requests.last; given < portion && l.requests.n-given > 1 && !r.mayHaveRun() && least < share(l.requests.n-given, l.octets-octets, cfg); r = r.waiting.prev {
		given++
		octets += r.size
		if s.queued()-given < cfg.MaxRequests && s.bytes-octets+size <= cfg.MaxBytes && s.b.noRoomFor(client, size, s.b.held.Load()-octets) == "" {
			return given
		}
	}
	return 0
}
