package broker

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

const (
	refreshInterval = time.Second // how often peers are told everything, with jitter
	maxStateBytes   = 32 << 10    // one STATE message; more services take more messages
)

// gossip is what peers have to be told: which services changed, and when each link
// is due. It is of the gossip goroutine, except news, which Broker.newsMu guards.
type gossip struct {
	b          *Broker
	links      map[*link]*duty
	interestAt int64  // not before
	round      uint64 // of step and tell: links carry the round in which they are due
	// The following are only there to be used again.
	due    []*link
	words  []update
	bodies map[*link][]byte
}

// duty is what one link has to be told, and when.
type duty struct {
	services map[*service]struct{}
	at       int64
}

// changed marks the service's state as news for peers. The service's mutex is held.
func (s *service) changed() {
	b := s.b
	if s.listed || b.linkCount.Load() == 0 {
		return
	}
	s.listed = true
	b.newsMu.Lock()
	b.news = append(b.news, s)
	soon := b.gossipAt != 0 && b.gossipAt-b.now() <= int64(updateInterval)
	b.newsMu.Unlock()
	if !soon { // to wake a thread for each change costs more than all the rest
		b.wakeGossip()
	}
}

func (b *Broker) wakeGossip() {
	select {
	case b.gossipWake <- struct{}{}:
	default:
	}
}

// gossip tells peers what changed, coalesced and at each link's own pace, and
// everything about once a second, until ctx ends.
func (b *Broker) gossip(ctx context.Context) {
	g := &gossip{b: b, links: make(map[*link]*duty), bodies: make(map[*link][]byte)}
	refresh, pace := time.NewTimer(refreshInterval), time.NewTimer(time.Hour)
	defer refresh.Stop()
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-refresh.C:
			refresh.Reset(refreshInterval*9/10 + rand.N(refreshInterval/5))
			g.refresh()
		case <-b.gossipWake:
		case <-pace.C:
		}
		now := b.now()
		if next := g.step(now); next > 0 {
			pace.Reset(time.Duration(next))
			b.newsMu.Lock()
			b.gossipAt = now + next
			b.newsMu.Unlock()
		}
	}
}

// step files the news, tells the links that are due, and returns how long it is
// until the next is, 0 if none.
func (g *gossip) step(now int64) int64 {
	links := g.b.upLinks()
	g.meet(links, now)
	if news := g.b.takeNews(); len(news) > 0 {
		for _, l := range links {
			g.file(l, news, now)
		}
	}
	g.due = g.due[:0]
	all := make(map[*service]struct{})
	for l, d := range g.links {
		if len(d.services) > 0 && d.at <= now {
			g.due = append(g.due, l)
			for s := range d.services {
				all[s] = struct{}{}
			}
			d.services = make(map[*service]struct{})
			d.at = now + l.pace()
		}
	}
	var batch zsock.Batch
	for s := range all {
		g.tell(&batch, s, g.due, false, now)
	}
	g.send(&batch)
	next := g.interests(now)
	for _, d := range g.links {
		if len(d.services) > 0 && (next == 0 || d.at-now < next) {
			next = max(d.at-now, 1)
		}
	}
	return next
}

// meet tells new links everything at once, and forgets those that are gone.
func (g *gossip) meet(links []*link, now int64) {
	for l := range g.links {
		if l.down.Load() {
			delete(g.links, l)
		}
	}
	var met []*link
	for _, l := range links {
		if g.links[l] == nil {
			g.links[l] = &duty{services: make(map[*service]struct{})}
			met = append(met, l)
		}
	}
	g.b.newsMu.Lock()
	met, g.b.retold = append(met, g.b.retold...), nil
	g.b.newsMu.Unlock()
	if len(met) > 0 {
		g.tellAll(met, now)
	}
}

// file notes that the link has to be told of services, an interval after the first.
func (g *gossip) file(l *link, news []*service, now int64) {
	d := g.links[l]
	if d == nil {
		return // not met yet
	}
	if len(d.services) == 0 {
		d.at = now + l.pace()
	}
	for _, s := range news {
		d.services[s] = struct{}{}
	}
}

// takeNews returns the services that changed. What changes from here on is listed
// again.
func (b *Broker) takeNews() []*service {
	b.newsMu.Lock()
	news := b.news
	b.news, b.gossipAt = nil, 0
	b.newsMu.Unlock()
	for _, s := range news {
		s.mu.Lock()
		s.listed = false
		s.mu.Unlock()
	}
	return news
}

// refresh tells every link everything, and draws anew who gets the odd idle place.
func (g *gossip) refresh() {
	links := g.b.upLinks()
	if len(links) == 0 {
		return
	}
	g.tellAll(links, g.b.now())
}

func (g *gossip) tellAll(links []*link, now int64) {
	var batch zsock.Batch
	for _, s := range g.b.allServices() {
		g.tell(&batch, s, links, true, now)
	}
	g.send(&batch)
}

// tell appends the service's entries to the bodies of the links to which they are
// news.
func (g *gossip) tell(batch *zsock.Batch, s *service, links []*link, full bool, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if full {
		s.draw = rand.Uint32()
	}
	st := s.standing()
	g.round++
	for _, p := range s.routes {
		p.link.routed = g.round
	}
	for _, l := range links {
		if l.due = g.round; l.routed != g.round && (st.workers > 0 || st.queue > 0 || len(s.routes) > 0) {
			s.routeTo(l) // it may have something to hear
		}
	}
	g.words = st.announce(g.words[:0], s.neighbours(), s.draw, now)
	for i, p := range s.routes {
		if p.link.due != g.round {
			continue
		}
		steps := st.steps(&g.words[i])
		switch {
		case full && steps == p.told && silent(&g.words[i].Load) && !g.words[i].behind && p.assured(p.link.refusedAt):
			continue
		case !full && !p.isNews(steps, now):
			if p.owedAt != 0 {
				g.file(p.link, []*service{s}, now)
			}
			continue
		}
		p.told = steps
		p.confirmed()
		p.toldAt = now
		body := mdp.AppendState(g.bodies[p.link], &mdp.StateEntry{Service: s.nameFrame, Need: st.need, Once: st.once, Behind: g.words[i].behind, Load: g.words[i].Load})
		if len(body) > maxStateBytes {
			p.link.sendState(batch, body)
			body = body[:0]
		}
		g.bodies[p.link] = body
	}
}

// send writes what tell has gathered.
func (g *gossip) send(batch *zsock.Batch) {
	for l, body := range g.bodies {
		if len(body) > 0 {
			l.sendState(batch, body)
		}
		if g.bodies[l] = body[:0]; l.down.Load() {
			delete(g.bodies, l)
		}
	}
	batch.Flush()
}

func (l *link) sendState(batch *zsock.Batch, body []byte) {
	frame := zsock.NewBody(body)
	defer frame.Release()
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.State, Dialect: mdp.Native, Head: mdp.Head{Token: l.b.stateSeq.Add(1)}}
	if err := l.c.send(batch, &cmd, frame); err != nil {
		l.b.count.controlDropped.Add(1) // counters are cumulative: the refresh makes up for it
		l.refusedAt = l.b.now()
	}
}
