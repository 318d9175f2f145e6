package broker

import (
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// route is one peer as seen from one service. Guarded by the service's mutex.
type route struct {
	service *service
	link    *link
	ledger
	held []held // sent and not answered

	readMark uint32 // of the requests sent, what the peer was known to have read
	readAt   int64  // when that was noticed; 0: nothing that is not confirmed
}

// routeTo finds or adds the route to a peer, with the totals of an earlier one. A link
// that is down gets no new one, nor does a service that was forgotten.
func (s *service) routeTo(l *link) *route {
	if p := s.routeIfAny(l); p != nil {
		return p
	}
	p := &route{service: s, link: l}
	if !l.down.Load() && !s.dead {
		p.resume(l.kept.take(s.name))
		s.routes = append(s.routes, p)
	}
	return p
}

func (s *service) routeIfAny(l *link) *route {
	for _, p := range s.routes {
		if p.link == l {
			return p
		}
	}
	return nil
}

// hearFrom takes a peer's word about itself, from wherever it was read.
func (s *service) hearFrom(l *link, load *mdp.Load, need, once bool, now int64) *route {
	p := s.routeTo(l)
	if !p.hear(load, need, once, now) {
		s.b.count.peerLies.Add(1)
	}
	return p
}

// hearRequest takes the word that rides on every request of a peer, and counts it.
func (s *service) hearRequest(batch *zsock.Batch, l *link, cmd *mdp.Command, now int64) {
	p := s.routeTo(l)
	p.receive(now)
	s.hearFrom(l, &cmd.Head.Load, cmd.Head.Flags&mdp.FlagNeed != 0, p.once, now)
	s.changed()
	s.moveTo(batch, p, now)
	s.level(batch, p, now)
}

// silent tells whether an entry says nothing at all.
func silent(l *mdp.Load) bool { return l.Workers == 0 && l.Queue == 0 && l.Via == 0 }

// offersNow tells whether the peer, or one behind it, takes requests.
func (p *route) offersNow(now int64) bool {
	return p.offers() && p.fresh(now) && !p.link.shut()
}

// standing is this broker's own state for the service, as peers may know it.
func (s *service) standing() standing {
	st := standing{idle: s.meshFree, queue: s.queued(), workers: s.meshCapacity, mean: s.mean.duration(),
		need: s.free == 0, once: s.onceWorkers > 0, oldest: s.oldest(maxLevelled)}
	if s.b.draining.Load() {
		st.idle, st.workers = 0, 0
	}
	return st
}

// neighbours lists the routes as the policy sees them, in the same order. The
// list is the service's own, until the next call.
func (s *service) neighbours() []neighbour {
	s.around = s.around[:0]
	for _, p := range s.routes {
		s.around = append(s.around, neighbour{&p.ledger, p.link.way()})
	}
	return s.around
}

// wordFor is what a request or an answer over the link says of this broker; the
// peer then knows how many of its requests came.
func (s *service) wordFor(l *link, now int64) (load mdp.Load, flags uint8) {
	p := s.routeIfAny(l)
	if p == nil {
		return mdp.Load{}, 0 // the link is going down
	}
	st := s.standing()
	load = st.word(s.neighbours(), s.indexOf(p), now)
	p.confirmed()
	if st.need {
		flags = mdp.FlagNeed
	}
	return load, flags
}

func (s *service) indexOf(p *route) int {
	for i, q := range s.routes {
		if p == q {
			return i
		}
	}
	return -1
}

// here is this broker as one that could take the request itself.
func (s *service) here(r *request) view {
	if s.b.draining.Load() {
		return view{}
	}
	here := view{idle: s.free, queue: s.queued(), workers: s.capacity, mean: s.mean.duration()}
	if r.guest() {
		here.idle, here.workers = s.meshFree, s.meshCapacity
	}
	return here
}

// offload hands a request that no worker here can take to a peer, if the policy
// finds one. It reports false when the request has to wait here.
func (s *service) offload(batch *zsock.Batch, r *request, now int64) bool {
	here := s.here(r)
	return s.handOn(batch, r, now, func(peers []view) int { return choose(here, peers, int(r.hops), byLot) })
}

// moveOne hands a request to a peer that is believed idle and nearer than the next
// worker here is free.
func (s *service) moveOne(batch *zsock.Batch, r *request, now int64) bool {
	next := view{workers: s.capacity, mean: s.mean.duration()}
	return s.handOn(batch, r, now, func(peers []view) int { return chooseIdle(peers, next.wait(), byLot) })
}

// handOn gives r to the peer that choice picks, or to the next one if that peer's
// connection refuses.
func (s *service) handOn(batch *zsock.Batch, r *request, now int64, choice func([]view) int) bool {
	if len(s.routes) == 0 || r.hops == 0 {
		return false
	}
	views := s.views[:0]
	for _, p := range s.routes {
		v := view{suspect: true}
		if s.mayGo(r, p) {
			v = p.view(p.link.way(), now)
		}
		views = append(views, v)
	}
	s.views = views
	for {
		i := choice(views)
		if i < 0 {
			return false
		}
		if s.handTo(batch, r, s.routes[i], now) {
			return true
		}
		views[i].suspect = true
	}
}

// mayGo: never back where it came from, and not for ever to and fro.
func (s *service) mayGo(r *request, p *route) bool {
	return r.hops > 0 && (r.from.conn == nil || r.from.conn != p.link.c) && r.holder(nil, p) < 0 &&
		(r.refusals < maxAway || s.here(r).workers == 0)
}

// handTo gives r to a peer, and reports false if its connection refuses.
func (s *service) handTo(batch *zsock.Batch, r *request, p *route, now int64) bool {
	if !p.request(batch, r, now) {
		return false
	}
	s.stats.Offloaded++
	s.dequeue(r, r.first()) // out of its turn it takes none: its client's first one is next still
	return true
}

// routeFlags are the flags of a request that a peer is told. Whether to wait for
// a worker is for the home broker to say.
const routeFlags = mdp.FlagOnce | mdp.FlagRestartable

// request sends r over the link.
func (p *route) request(batch *zsock.Batch, r *request, now int64) bool {
	s := p.service
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.Request, Dialect: mdp.Native, Service: s.nameFrame}
	if p.once {
		r.flags |= mdp.FlagOnce // a wish of the workers there: its home must know before one of them runs
	}
	load, need := s.wordFor(p.link, now)
	cmd.Head = mdp.Head{Flags: r.flags&routeFlags | need, Token: r.token(), ID: r.id,
		Remaining: r.remaining(now), Attempt: r.nextAttempt(), Hops: r.hops - 1, Load: load}
	cmd.Head.Load.ElapsedMs = elapsedMs(r, now)
	number, err := p.link.c.sendNumbered(batch, &cmd, r.body)
	if err != nil {
		s.b.count.requestsRefused.Add(1)
		return false
	}
	p.ask(now)
	r.hold(nil, p, len(p.held), now)
	p.held = append(p.held, held{token: r.token(), r: r, number: number})
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
	why := "link to broker " + p.link.peerName() + " lost"
	var ended endings
	for _, h := range newestFirst(held) {
		h.r.dropHolder(nil, p)
		ended.add(h.token, s.left(h, p.link.c, mdp.PeerLost, why))
	}
	s.end(batch, ended)
	s.changed()
	s.dispatch(batch)
}
