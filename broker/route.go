package broker

import (
	"math/rand/v2"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// route is one peer as seen from one service: what it offers, and the accounting
// of what was sent to it. Guarded by the service's mutex.
type route struct {
	service *service
	link    *link
	load    mdp.Load // the peer's last word
	need    bool     // it has no idle worker for the service
	heardAt int64    // broker clock of that word
	askedAt int64    // first request sent since then; 0: none

	sent     uint32 // requests sent to the peer, ever
	received uint32 // requests got from the peer, ever
	told     told
	held     []held // sent and not answered
}

// told is what the peer was last told; it is told again when something changed.
type told struct {
	idle, queue, workers, via uint32 // all but workers in coarse steps
	need                      bool
	seen                      uint32
}

// routeTo finds or adds the route to a peer. A link that is down gets no new one.
func (s *service) routeTo(l *link) *route {
	for _, p := range s.routes {
		if p.link == l {
			return p
		}
	}
	p := &route{service: s, link: l}
	if !l.down.Load() {
		s.routes = append(s.routes, p)
	}
	return p
}

// hear takes over the peer's word about itself.
func (p *route) hear(load *mdp.Load, need bool, now int64) {
	p.load, p.need, p.heardAt, p.askedAt = *load, need, now, 0
}

// hearRequest takes the word that rides on every request of a peer, and counts it.
func (s *service) hearRequest(l *link, cmd *mdp.Command, now int64) {
	p := s.routeTo(l)
	p.received++
	p.hear(&cmd.Head.Load, cmd.Head.Flags&mdp.FlagNeed != 0, now)
	s.changed()
}

// staleAfter is how long a peer's word counts without being refreshed.
const staleAfter = int64(3 * time.Second)

// silent tells whether an entry says nothing at all.
func silent(l *mdp.Load) bool { return l.Workers == 0 && l.Queue == 0 && l.Via == 0 }

// offers tells whether the peer, or one behind it, has workers for the service and
// takes requests.
func (p *route) offers(now int64) bool {
	return (p.load.Workers > 0 || p.load.Via > 0) && now-p.heardAt <= staleAfter && !p.link.draining.Load()
}

// believedIdle is what the peer offered less what it was sent since. Counters are
// cumulative, so a lost or crossing message cannot make the belief drift.
func (p *route) believedIdle() int {
	return int(p.load.Idle) - int(int32(p.sent-p.load.Seen))
}

// view is the route as the choice sees it.
func (p *route) view(now int64) view {
	if p.heardAt == 0 || now-p.heardAt > staleAfter || p.link.draining.Load() {
		return view{suspect: true}
	}
	rtt := p.link.rtt.Load()
	patience := int64(50*time.Millisecond) + rtt + 2*int64(p.link.updateEvery())
	return view{
		idle:    p.believedIdle(),
		queue:   int(p.load.Queue),
		via:     int(p.load.Via),
		workers: int(p.load.Workers),
		mean:    time.Duration(p.load.MeanUs) * time.Microsecond,
		oneWay:  time.Duration(rtt / 2),
		suspect: p.askedAt != 0 && now-p.askedAt > patience,
	}
}

// offload hands a new request that no worker here can take to a peer, if the
// policy finds one. It reports false when the request has to wait here.
func (s *service) offload(batch *zsock.Batch, r *request, now int64) bool {
	if len(s.routes) == 0 || r.hops == 0 {
		return false
	}
	here := view{idle: s.free, queue: s.queued(), workers: s.capacity, mean: s.mean.duration()}
	if r.guest() {
		here.idle, here.workers = s.meshFree, s.meshCapacity
	}
	return s.send(batch, r, now, func(peers []view) int { return choose(here, peers, int(r.hops), rand.IntN) })
}

// move hands the request at the head of a queue to a peer that is believed idle
// and nearer than the next worker here is free.
func (s *service) move(batch *zsock.Batch, r *request, now int64) bool {
	if r.hops == 0 || !s.peerIdle() {
		return false
	}
	next := view{workers: s.capacity, mean: s.mean.duration()}
	if r.guest() {
		next.workers = s.meshCapacity
	}
	return s.send(batch, r, now, func(peers []view) int { return chooseIdle(peers, next.wait(), rand.IntN) })
}

// peerIdle tells whether any peer may be idle; it saves the way to the choice.
func (s *service) peerIdle() bool {
	for _, p := range s.routes {
		if p.believedIdle() > 0 {
			return true
		}
	}
	return false
}

// send gives r to the peer that choice picks, or to the next one if that peer's
// connection refuses.
func (s *service) send(batch *zsock.Batch, r *request, now int64, choice func([]view) int) bool {
	routes, views := s.candidates(r, now)
	for {
		i := choice(views)
		if i < 0 {
			return false
		}
		if routes[i].request(batch, r, now) {
			s.stats.Offloaded++
			s.dequeue(r, true)
			return true
		}
		views[i].suspect = true
	}
}

// candidates are the routes a request may take: never back where it came from.
func (s *service) candidates(r *request, now int64) ([]*route, []view) {
	routes := make([]*route, 0, len(s.routes))
	views := make([]view, 0, len(s.routes))
	for _, p := range s.routes {
		if r.from.conn != nil && r.from.conn == p.link.c || r.holder(nil, p) >= 0 {
			continue
		}
		routes, views = append(routes, p), append(views, p.view(now))
	}
	return routes, views
}

// routeFlags are the flags of a request that a peer is told. Whether to wait for
// a worker is for the home broker to say.
const routeFlags = mdp.FlagOnce | mdp.FlagRestartable

// request sends r over the link.
func (p *route) request(batch *zsock.Batch, r *request, now int64) bool {
	s := p.service
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.Request, Dialect: mdp.Native, Service: s.nameFrame}
	cmd.Head = mdp.Head{Flags: r.flags & routeFlags, Token: r.token(), ID: r.id,
		Remaining: r.remaining(now), Attempt: r.nextAttempt(), Hops: r.hops - 1}
	cmd.Head.Load = s.loadFor(p.link, now)
	cmd.Head.Load.ElapsedMs = elapsedMs(r, now)
	if s.free == 0 {
		cmd.Head.Flags |= mdp.FlagNeed
	}
	if err := p.link.c.send(batch, &cmd, r.body); err != nil {
		s.b.count.requestsRefused.Add(1)
		return false
	}
	p.sent++
	if p.askedAt == 0 {
		p.askedAt = now
	}
	r.hold(nil, p, len(p.held), now)
	p.held = append(p.held, held{token: r.token(), r: r})
	return true
}

// elapsedMs is how long ago the request entered the mesh.
func elapsedMs(r *request, now int64) uint32 { return uint32(max(now-r.entered, 0) / 1e6) }

func (p *route) cancel(batch *zsock.Batch, r *request) {
	p.link.c.sendControl(batch, &mdp.Command{Role: mdp.Peer, Kind: mdp.Cancel, Service: p.service.nameFrame, Head: mdp.Head{Token: r.token(), ID: r.id}})
}

// release takes the held request at index i off the route.
func (p *route) release(i int) {
	last := len(p.held) - 1
	if moved := p.held[last]; i != last {
		p.held[i] = moved
		moved.r.holders[moved.r.holder(nil, p)].at = i
	}
	p.held[last] = held{}
	p.held = p.held[:last]
}

// answered applies a PARTIAL or FINAL that came over the link.
func (p *route) answered(batch *zsock.Batch, cmd *mdp.Command, m *zsock.Msg) {
	s := p.service
	r := s.table.find(cmd.Head.Token)
	i := -1
	if r != nil {
		i = r.holder(nil, p)
	}
	switch {
	case i < 0:
		s.stats.Late++ // it crossed our CANCEL
	case cmd.Kind == mdp.Partial:
		s.partial(batch, r, i, m.Body(cmd.Body))
	default:
		p.release(r.holders[i].at)
		r.dropHolder(nil, p)
		s.settle(batch, r, cmd, m)
	}
}

// drop takes the route off its service because the link has gone.
func (p *route) drop(batch *zsock.Batch) {
	s := p.service
	for i, q := range s.routes {
		if q == p {
			s.routes = append(s.routes[:i], s.routes[i+1:]...)
			break
		}
	}
	held := p.held
	p.held = nil
	for _, h := range newestFirst(held) {
		h.r.dropHolder(nil, p)
		s.lost(batch, h.r, mdp.PeerLost, "link to broker "+p.link.peerName()+" lost")
	}
	s.changed()
	s.dispatch(batch)
}

// loadFor is this broker's entry for the service, with the whole idle count: what
// requests and answers carry. Workers of scope local are not told of.
func (s *service) loadFor(l *link, now int64) mdp.Load {
	load := mdp.Load{
		Idle:    uint32(s.meshFree),
		Queue:   uint32(s.queued()),
		MeanUs:  uint32(s.mean.duration() / time.Microsecond),
		Workers: uint32(s.meshCapacity),
	}
	if s.b.draining.Load() {
		load.Idle, load.Workers = 0, 0
	}
	for _, p := range s.routes {
		if p.link == l {
			load.Seen = p.received
		} else if v := p.view(now); !v.suspect && v.idle > 0 {
			load.Via += uint32(v.idle)
		}
	}
	return load
}
