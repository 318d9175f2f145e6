package broker

import (
	"context"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// How often peers are told what changed, at most, and everything, at least.
const (
	updateInterval  = 5 * time.Millisecond
	refreshInterval = time.Second
	maxStateBytes   = 32 << 10 // one STATE message; more services take more messages
)

// changed marks the service's state as news for peers. The service's mutex is held.
func (s *service) changed() {
	if s.b.linkCount.Load() == 0 || !s.told {
		return
	}
	s.told = false
	select {
	case s.b.news <- struct{}{}:
	default:
	}
}

// gossip tells peers what changed, coalesced, until ctx ends. It owns no state:
// what a peer was told is kept in the routes.
func (b *Broker) gossip(ctx context.Context) {
	refresh := time.NewTicker(refreshInterval)
	defer refresh.Stop()
	for {
		full := false
		select {
		case <-ctx.Done():
			return
		case <-refresh.C:
			full = true
		case <-b.news:
			if !pause(ctx, b.updateEvery()) {
				return
			}
		}
		b.tell(full)
	}
}

// updateEvery is how often peers are told of changes at most: more links, fewer
// updates to each.
func (b *Broker) updateEvery() time.Duration {
	return max(updateInterval, time.Duration(b.linkCount.Load())*time.Millisecond)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// tell writes one STATE per link with the services whose state is news to it.
func (b *Broker) tell(full bool) {
	links := b.upLinks()
	services := b.allServices()
	if len(links) == 0 {
		return
	}
	bodies := make(map[*link][]byte, len(links))
	var batch zsock.Batch
	for _, s := range services {
		s.mu.Lock()
		s.told = true
		for _, l := range links {
			bodies[l] = s.appendNews(bodies[l], l, full, b.now())
		}
		s.mu.Unlock()
		for l, body := range bodies {
			if len(body) > maxStateBytes {
				l.sendState(&batch, body)
				bodies[l] = body[:0]
			}
		}
	}
	for l, body := range bodies {
		if len(body) > 0 {
			l.sendState(&batch, body)
		}
	}
	batch.Flush()
}

// tellEverything gives a new link the whole state at once.
func (b *Broker) tellEverything(batch *zsock.Batch, l *link) {
	var body []byte
	for _, s := range b.allServices() {
		s.mu.Lock()
		s.told = true
		body = s.appendNews(body, l, true, b.now())
		s.mu.Unlock()
		if len(body) > maxStateBytes {
			l.sendState(batch, body)
			body = body[:0]
		}
	}
	if len(body) > 0 {
		l.sendState(batch, body)
	}
}

func (l *link) sendState(batch *zsock.Batch, body []byte) {
	frame := zsock.NewBody(body)
	defer frame.Release()
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.State, Dialect: mdp.Native, Head: mdp.Head{Token: l.b.stateSeq.Add(1)}}
	if err := l.c.send(batch, &cmd, frame); err != nil {
		l.b.count.controlDropped.Add(1) // counters are cumulative: the refresh makes up for it
	}
}

// appendNews adds the service's entry for one link, if it is news there. Idle
// workers are divided among the links in need; a link that needs none is told of
// none, so that herds do not form.
func (s *service) appendNews(dst []byte, l *link, full bool, now int64) []byte {
	if l.down.Load() {
		return dst
	}
	load := s.loadFor(l, now)
	p := s.routeIfAny(l)
	if p == nil {
		if silent(&load) {
			return dst // nothing was ever said about it, and nothing is to say
		}
		p = s.routeTo(l)
	}
	load.Idle = s.slice(p, load.Idle)
	news := told{idle: coarse(load.Idle), queue: coarse(load.Queue), workers: load.Workers, via: coarse(load.Via), need: s.free == 0, seen: load.Seen}
	if news == p.told && (!full || silent(&load) && load.Seen == 0) {
		return dst
	}
	if !full && !p.wants(&news) {
		return dst
	}
	p.told = news
	return mdp.AppendState(dst, &mdp.StateEntry{Service: s.nameFrame, Need: news.need, Load: load})
}

// wants tells whether the peer would act on the news before the next refresh: the
// depth of our queue alone is of no use to a peer that needs nobody's workers.
func (p *route) wants(news *told) bool {
	old := p.told
	old.queue = news.queue
	return p.need || old != *news
}

func (s *service) routeIfAny(l *link) *route {
	for _, p := range s.routes {
		if p.link == l {
			return p
		}
	}
	return nil
}

// slice is the part of the idle workers one link in need is offered.
func (s *service) slice(p *route, idle uint32) uint32 {
	if !p.need {
		return 0
	}
	needy, before := uint32(0), uint32(0)
	for _, q := range s.routes {
		if q == p {
			before = needy
		}
		if q.need {
			needy++
		}
	}
	share := idle / needy
	if before < idle%needy {
		share++
	}
	return share
}

// coarse steps: only a change of step is news.
func coarse(n uint32) uint32 {
	switch {
	case n <= 2:
		return n
	case n <= 5:
		return 3
	case n <= 10:
		return 4
	}
	step := uint32(5)
	for n > 20 {
		n /= 2
		step++
	}
	return step
}
