package broker

import (
	"cmp"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// condition is the state of a link as it is shown.
type condition struct {
	state, reason string
	since         int64
}

// health is what the ticker remembers of a link to tell slow from up.
type health struct {
	lateSince, fineSince int64
	best                 int64 // round trip, ns
	suspects             int   // services, as counted by the sweep
	counting             int
	lies                 bool   // it swallows requests of some service
	eventsLost           uint64 // logged
}

const (
	reasonPaused  = "paused by an operator"
	reasonRefuses = "paused at the peer by its operator"
)

// blockedBy says why nothing new is sent over the link, "" if it may be.
func (l *link) blockedBy() string {
	switch {
	case l.paused.Load():
		return reasonPaused
	case l.refuses.Load():
		return reasonRefuses
	case l.draining.Load():
		return "the peer is shutting down"
	case l.damped.Load() > 0:
		return "it went up and down several times"
	}
	return ""
}

// lateness says why the link counts as slow, "" if it does not.
func (l *link) lateness(now int64) string {
	h := &l.health
	rtt := l.rtt.Load()
	if rtt > 0 && (h.best == 0 || rtt < h.best) {
		h.best = rtt
	}
	_, octets := l.c.z.Queued()
	switch silent := now - l.heard.Load(); {
	case h.suspects > 0:
		return fmt.Sprintf("requests of %d services are not confirmed", h.suspects)
	case silent > 2*int64(l.b.cfg.Heartbeat):
		return fmt.Sprintf("silent for %d ms", silent/1e6)
	case octets > 1<<20:
		return fmt.Sprintf("%d octets wait to be read by the peer", octets)
	case rtt > 8*h.best && rtt > int64(100*time.Millisecond):
		return fmt.Sprintf("the round trip takes %d ms, at best %d ms", rtt/1e6, h.best/1e6)
	}
	return ""
}

// look is the ticker's look at a link: its condition, and what has had its time.
func (l *link) look(batch *zsock.Batch, now int64) {
	if !l.ready.Load() {
		return
	}
	if until := l.damped.Load(); until > 0 && now >= until {
		l.damped.Store(0)
		l.b.retell(l)
	}
	if l.standby.Load() {
		l.lookStandby(batch, now)
		return
	}
	state, reason := linkUp, l.blockedBy()
	h := &l.health
	late := l.lateness(now)
	if late == "" {
		h.lateSince = 0
		if h.fineSince == 0 {
			h.fineSince = now
		}
	} else {
		h.fineSince = 0
		if h.lateSince == 0 {
			h.lateSince = now
		}
	}
	shown := l.condition.Load()
	switch {
	case reason != "":
		state = linkBlocked
	case late != "" && (now-h.lateSince >= slowAfter || shown != nil && shown.state == linkSlow),
		late == "" && shown != nil && shown.state == linkSlow && now-h.fineSince < slowAfter:
		state, reason = linkSlow, cmp.Or(late, "it was until a moment ago")
	}
	l.show(state, reason, now)
}

// show changes the condition. Only a change of state is logged: reasons hold
// figures.
func (l *link) show(state, reason string, now int64) {
	shown := l.condition.Load()
	next := condition{state, reason, now}
	if shown == nil {
		next.since = l.established.Load()
	} else if shown.state == state {
		next.since = shown.since
	}
	if shown != nil && *shown == next {
		return
	}
	l.condition.Store(&next)
	if shown != nil && shown.state != state || shown == nil && state != linkUp {
		l.b.note(hclog.Info, "peer link changed", "broker", l.peerName(), "state", state, "reason", reason)
	}
}

// lookStandby ends a link out of use once what it carried is answered, and one
// that was never chosen.
func (l *link) lookStandby(batch *zsock.Batch, now int64) {
	b := l.b
	b.mu.Lock()
	name, age := l.peerName(), now-l.since.Load()
	spare := b.spares[name] == l
	if spare && age > livenessMisses*int64(b.cfg.Heartbeat) {
		delete(b.spares, name) // the peer of the smaller name would have decided long ago
		b.count.linksDisplaced.Add(1)
		l.retireLocked()
		age = 0
	}
	retired := l.retired
	b.mu.Unlock()
	switch {
	case !retired:
	case age == 0:
		l.sayDrain(batch)
	case age > retiredLinger && l.unanswered() == 0:
		l.c.z.Close(errDuplicate)
	}
}

func (l *link) sayDrain(batch *zsock.Batch) {
	l.c.sendControl(batch, &mdp.Command{Role: mdp.Peer, Kind: mdp.Drain})
}

// unanswered is how many requests are under way over the link, both ways.
func (l *link) unanswered() int {
	n := l.c.outstandingCount()
	for _, s := range l.b.allServices() {
		s.mu.Lock()
		if p := s.routeIfAny(l); p != nil {
			n += len(p.held)
		}
		s.mu.Unlock()
	}
	return n
}

// countSuspects is part of the sweep: which links do not confirm what they got.
func (s *service) countSuspects(now int64) {
	for _, p := range s.routes {
		h := &p.link.health
		late := p.unconfirmedFor(now)
		if late > patience(time.Duration(p.link.rtt.Load()), p.link.updateEvery()) {
			h.counting++
		}
		h.lies = p.swallows(now) || h.lies
	}
}

// swallows tells whether the peer does not confirm what it has read: it has echoed a
// heartbeat that was sent a second after the request, and one that was sent a second
// after that was noticed. Whatever is slow, a large message, the way, a process that was
// stopped, there or here, keeps up the echo as well; and what the peer said before an
// echo is here before it. It is called once a second.
func (p *route) swallows(now int64) bool {
	const later = int64(time.Second)
	echoed := p.link.echoed.Load()
	switch {
	case p.markAt == 0 || echoed < p.markAt+later:
		p.readAt = 0
	case p.readAt == 0 || p.readMark != p.mark:
		p.readMark, p.readAt = p.mark, now
	default:
		return echoed >= p.readAt+later
	}
	return false
}

// countForeign counts, by link, the services that are known by its word only.
func (s *service) countForeign(foreign map[*link]int32) {
	if s.workers.n > 0 || s.table.live > 0 {
		return
	}
	any := false
	for _, p := range s.routes {
		if !p.silent() {
			any = true
			foreign[p.link]++
		}
	}
	if any {
		foreign[nil]++ // all of them
	}
}

// judge is what follows from a sweep. A peer that reads requests and does not confirm
// them gets none of them done: the link ends, and its home gives them to others.
func (b *Broker) judge(foreign map[*link]int32) {
	b.foreign.Store(foreign[nil])
	for _, l := range b.upLinks() {
		l.foreign.Store(foreign[l])
		h := &l.health
		if n := l.eventsLost.Load(); n > h.eventsLost {
			b.note(hclog.Warn, "events lost", "broker", l.peerName(), "events", n-h.eventsLost)
			h.eventsLost = n
		}
		lies := h.lies
		h.suspects, h.counting, h.lies = h.counting, 0, false
		if lies {
			b.count.peerLies.Add(1)
			l.c.z.Close(errUntrue)
		}
	}
}
