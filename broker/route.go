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
	idle, queue, workers uint32
	need                 bool
	seen                 uint32
	ever                 bool
}

// routeTo finds or adds the route to a peer.
func (s *service) routeTo(l *link) *route {
	for _, p := range s.routes {
		if p.link == l {
			return p
		}
	}
	p := &route{service: s, link: l}
	s.routes = append(s.routes, p)
	return p
}

// hear takes over the peer's word about itself.
func (p *route) hear(load *mdp.Load, need bool, now int64) {
	p.load, p.need, p.heardAt, p.askedAt = *load, need, now, 0
}

// staleAfter is how long a peer's word counts without being refreshed.
const staleAfter = int64(3 * time.Second)

// view is the route as the choice sees it. Counters are cumulative, so a lost or
// crossing message cannot make the belief drift.
func (p *route) view(now int64) view {
	if p.heardAt == 0 || now-p.heardAt > staleAfter {
		return view{suspect: true}
	}
	rtt := p.link.rtt.Load()
	patience := int64(50*time.Millisecond) + rtt + 2*int64(p.link.updateEvery())
	return view{
		idle:    int(p.load.Idle) - int(int32(p.sent-p.load.Seen)),
		queue:   int(p.load.Queue),
		via:     int(p.load.Via),
		workers: int(p.load.Workers),
		mean:    time.Duration(p.load.MeanUs) * time.Microsecond,
		oneWay:  time.Duration(rtt / 2),
		suspect: p.askedAt != 0 && now-p.askedAt > patience,
	}
}

// offload hands a request that no local worker can take to a peer, if the policy
// finds one. It reports false when the request has to wait here.
func (s *service) offload(batch *zsock.Batch, r *request) bool {
	if len(s.routes) == 0 || r.hops == 0 || s.b.draining.Load() && r.from.role == mdp.Peer {
		return false
	}
	now := s.b.now()
	routes, views := s.candidates(r, now)
	for len(routes) > 0 {
		i := choose(s.view(), views, int(r.hops), rand.IntN)
		if i < 0 {
			return false
		}
		if routes[i].request(batch, r, now) {
			s.stats.Offloaded++
			return true
		}
		views[i].suspect = true
	}
	return false
}

// candidates are the routes a request may take: never back where it came from.
func (s *service) candidates(r *request, now int64) ([]*route, []view) {
	routes := make([]*route, 0, len(s.routes))
	views := make([]view, 0, len(s.routes))
	for _, p := range s.routes {
		if r.from.conn != nil && r.from.conn == p.link.c || p.holds(r) {
			continue
		}
		routes, views = append(routes, p), append(views, p.view(now))
	}
	return routes, views
}

func (p *route) holds(r *request) bool {
	for _, h := range r.holders {
		if h.route == p {
			return true
		}
	}
	return false
}

// view is this broker's own state of the service.
func (s *service) view() view {
	return view{idle: s.idle.n, queue: s.queue.n, workers: s.workers.n, mean: s.mean.duration()}
}

// offeredByPeer tells whether a linked broker has workers for the service.
func (s *service) offeredByPeer() bool {
	now := s.b.now()
	for _, p := range s.routes {
		if p.load.Workers > 0 && now-p.heardAt <= staleAfter {
			return true
		}
	}
	return false
}

// request sends r over the link.
func (p *route) request(batch *zsock.Batch, r *request, now int64) bool {
	s := p.service
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.Request, Dialect: mdp.Native, Service: s.nameFrame}
	cmd.Head = mdp.Head{Flags: r.flags &^ (mdp.FlagMap | mdp.FlagDetached | mdp.FlagNeed), Token: r.token(), ID: r.id,
		Remaining: r.remaining(now), Attempt: r.attempt + uint16(r.deliveries), Hops: r.hops - 1}
	cmd.Head.Load = s.loadFor(p.link, now-r.entered)
	cmd.Head.Load.Seen = p.received
	if s.idle.n == 0 {
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
	r.deliveries++
	r.started = now
	r.holders = append(r.holders, holder{route: p, at: len(p.held)})
	p.held = append(p.held, held{r.token(), r})
	return true
}

func (p *route) cancel(batch *zsock.Batch, r *request) {
	p.link.c.sendControl(batch, &mdp.Command{Role: mdp.Peer, Kind: mdp.Cancel, Service: p.service.nameFrame, Head: mdp.Head{Token: r.token(), ID: r.id}})
	// A cancelled request is not answered over a link: its place is free at once.
	for i := range p.held {
		if p.held[i].token == r.token() {
			p.release(i)
			return
		}
	}
}

// release takes the held request at index i off the route.
func (p *route) release(i int) {
	last := len(p.held) - 1
	if moved := p.held[last]; i != last {
		p.held[i] = moved
		for k := range moved.r.holders {
			if moved.r.holders[k].route == p {
				moved.r.holders[k].at = i
			}
		}
	}
	p.held[last] = held{}
	p.held = p.held[:last]
}

// answered applies a PARTIAL or FINAL that came over the link.
func (p *route) answered(batch *zsock.Batch, cmd *mdp.Command, m *zsock.Msg) {
	s := p.service
	i := -1
	if r := s.table.find(cmd.Head.Token); r != nil {
		for _, h := range r.holders {
			if h.route == p {
				i = h.at
			}
		}
	}
	if i < 0 {
		s.stats.Late++
		return
	}
	r := p.held[i].r
	if cmd.Kind == mdp.Partial {
		s.partial(batch, r, m.Body(cmd.Body))
		return
	}
	p.release(i)
	r.dropHolder(nil, p)
	s.settle(batch, r, cmd, m)
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
	for _, h := range held {
		h.r.dropHolder(nil, p)
		s.lost(batch, h.r, mdp.PeerLost, "link to broker "+p.link.peerName()+" lost")
	}
	s.changed()
	s.dispatch(batch)
}

// loadFor is this broker's entry for the service, with the whole idle count: what
// requests and answers carry. Workers of scope local are not told of.
func (s *service) loadFor(l *link, elapsed int64) mdp.Load {
	load := mdp.Load{
		Idle:      uint32(s.meshIdle()),
		Queue:     uint32(s.queue.n),
		MeanUs:    uint32(s.mean.duration() / time.Microsecond),
		Workers:   uint32(s.meshWorkers()),
		ElapsedMs: uint32(max(elapsed, 0) / 1e6),
	}
	now := s.b.now()
	for _, p := range s.routes {
		if p.link == l {
			load.Seen = p.received
		} else if v := p.view(now); !v.suspect && v.idle > 0 {
			load.Via += uint32(v.idle)
		}
	}
	return load
}

func (s *service) meshIdle() int {
	n := 0
	for w := s.idle.first; w != nil; w = w.waiting.next {
		if !w.local() {
			n++
		}
	}
	return n
}

func (s *service) meshWorkers() int {
	n := 0
	for w := s.workers.first; w != nil; w = w.all.next {
		if !w.local() && !w.drained {
			n++
		}
	}
	return n
}
