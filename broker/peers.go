package broker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// LinkState is one link as listings show it.
type LinkState struct {
	Name     string `json:"name"`
	Endpoint string `json:"endpoint"`
	// State is up; slow: the link works, but what is sent over it is late; blocked: it
	// works and nothing new is sent over it; or down.
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"` // of slow and blocked
	Dialled bool   `json:"dialled"`
	SinceMs int64  `json:"since_ms"` // in this state
	Error   string `json:"error,omitempty"`
	Zone    string `json:"zone,omitempty"`
	RTTUs   int64  `json:"rtt_us"`
	CostUs  int64  `json:"cost_us"`
	// EventsLost counts the events that did not come over this link, up to now.
	EventsLost uint64 `json:"events_lost"`
	// Reads and Writes count system calls on the link since it came up, modulo 2^32.
	Reads  uint32 `json:"reads"`
	Writes uint32 `json:"writes"`
}

// States of a link.
const (
	linkUp      = "up"
	linkSlow    = "slow"
	linkBlocked = "blocked"
	linkDown    = "down"
)

// Limits of what is remembered of peers, and for how long.
const (
	maxRemembered = 256 // peers that dialled us and are gone
	rememberedFor = 10 * time.Minute
	barredFor     = 30 * time.Second // a peer that lied or flooded
	slowAfter     = int64(time.Second)
	flapWindow    = int64(10 * time.Second)
	flapsDamped   = 3 // losses within the window, from which on a new link has to hold first
	flapHold      = int64(time.Second)
	retiredLinger = int64(time.Second) // a link out of use is kept for answers at least so long
)

// Reasons for which a link may not be, with their names for counters.
var (
	errSelf      = zsock.NewReason("self", "the endpoint leads to this broker itself: remove it from --peer")
	errDuplicate = zsock.NewReason("duplicate", "second link to the same broker")
	errDisplaced = zsock.NewReason("displaced", "displaced by the link to the configured endpoint")
	errManyLinks = zsock.NewReason("many-links", "too many links")
	errTwin      = zsock.NewReason("twin", "another broker of the same name is linked: give each its own --name")
	errDeaf      = zsock.NewReason("deaf", "the peer does not hear us")
	errUntrue    = zsock.NewReason("untrue", "the peer takes requests and does not confirm them")
	errFlood     = zsock.NewReason("flood", "the peer floods")
	errBarred    = zsock.NewReason("barred", "barred for a while")
)

// lost is what is remembered of a link that is gone. Guarded by Broker.mu.
type lost struct {
	endpoint string
	err      string
	at       int64
	losses   []int64 // the last ones, for damping
}

// bar keeps a peer away that lied or flooded. One that was accepted bars nobody
// from being found at a configured endpoint: anybody can say a name.
type bar struct {
	name    string
	dialled bool
}

// lostLocked remembers a link that is gone.
func (b *Broker) lostLocked(l *link, name string, err error) {
	now := b.now()
	old := b.lost[name]
	if old == nil {
		b.forgetLostLocked(now)
		old = &lost{}
		b.lost[name] = old
	}
	old.endpoint, old.err, old.at = l.c.z.Peer().Remote, err.Error(), now
	if old.losses = append(old.losses, now); len(old.losses) > flapsDamped {
		old.losses = old.losses[1:]
	}
	if errors.Is(err, errUntrue) || errors.Is(err, errFlood) {
		b.bars[bar{name, l.dialled != ""}] = now + int64(barredFor)
	}
}

// forgetLostLocked makes room for one more.
func (b *Broker) forgetLostLocked(now int64) {
	oldest := ""
	for name, l := range b.lost {
		switch {
		case now-l.at > int64(rememberedFor):
			delete(b.lost, name)
		case oldest == "" || l.at < b.lost[oldest].at:
			oldest = name
		}
	}
	if len(b.lost) >= maxRemembered {
		delete(b.lost, oldest)
	}
	for k, until := range b.bars {
		if now > until {
			delete(b.bars, k)
		}
	}
}

// barredLocked says no to a peer that lied or flooded a moment ago.
func (b *Broker) barredLocked(l *link, name string) error {
	if until := b.bars[bar{name, l.dialled != ""}]; until > b.now() {
		return fmt.Errorf("%w: %s", errBarred, b.lostWhy(name))
	}
	return nil
}

func (b *Broker) lostWhy(name string) string {
	if l := b.lost[name]; l != nil {
		return l.err
	}
	return ""
}

// dampLocked lets a link that came and went hold for a second before anything is
// sent over it.
func (b *Broker) dampLocked(l *link, name string) {
	if old := b.lost[name]; old != nil && len(old.losses) == flapsDamped && b.now()-old.losses[0] < flapWindow {
		l.damped.Store(b.now() + flapHold)
	}
}

// PausePeer takes the link to a broker out of use, or back into it: nothing new is
// sent over it or taken from it, neither requests nor events; what is under way is
// answered. It holds for later links to the broker, too. The peer learns it with the
// next heartbeat, and shows the link as blocked. The error tells that no such peer is
// known.
func (b *Broker) PausePeer(name string, on bool) error {
	b.mu.Lock()
	known := b.links[name] != nil || b.lost[name] != nil || b.pausedPeers[name]
	for _, d := range b.dials {
		known = known || d.name == name
	}
	if !known {
		b.mu.Unlock()
		return fmt.Errorf("pause peer %q: %w", name, mdp.Errorf(mdp.Unknown, "no broker of that name is or was linked"))
	}
	if on {
		b.pausedPeers[name] = true
	} else {
		delete(b.pausedPeers, name)
	}
	l := b.links[name]
	if l != nil {
		l.paused.Store(on)
	}
	b.mu.Unlock()
	b.log.Info("peer paused", "broker", name, "paused", on)
	if l != nil && l.ready.Load() { // else it is told everything once WELCOME is written
		b.retell(l)
		b.events.changed()
	}
	return nil
}

// retell makes every service news for the link.
func (b *Broker) retell(l *link) {
	b.newsMu.Lock()
	b.retold = append(b.retold, l)
	b.newsMu.Unlock()
	b.wakeGossip()
}

// Peers lists the links that are up, those configured that are not, and those to
// brokers that dialled us and have gone.
func (b *Broker) Peers() []LinkState {
	b.mu.RLock()
	defer b.mu.RUnlock()
	now := b.now()
	out := []LinkState{}
	listed := make(map[string]bool)
	for name, l := range b.links {
		listed[name] = true
		out = append(out, l.state(name, now))
	}
	for endpoint, d := range b.dials {
		if d.name == "" || b.links[d.name] == nil {
			st := LinkState{Name: d.name, Endpoint: endpoint, State: linkDown, Dialled: true, SinceMs: (now - d.since) / 1e6, Error: d.err, CostUs: d.cost.Microseconds()}
			if d.name != "" {
				listed[d.name] = true
				st.Reason = b.downReasonLocked(d.name)
			}
			out = append(out, st)
		}
	}
	for name, l := range b.lost {
		if !listed[name] && now-l.at < int64(rememberedFor) {
			out = append(out, LinkState{Name: name, Endpoint: l.endpoint, State: linkDown, SinceMs: (now - l.at) / 1e6, Error: l.err, Reason: b.downReasonLocked(name)})
		}
	}
	slices.SortFunc(out, func(x, y LinkState) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Endpoint, y.Endpoint))
	})
	return out
}

func (b *Broker) downReasonLocked(name string) string {
	if b.pausedPeers[name] {
		return reasonPaused
	}
	return ""
}

// state is one live link. Broker.mu is held for reading.
func (l *link) state(name string, now int64) LinkState {
	st := LinkState{Name: name, Endpoint: l.c.z.Peer().Remote, State: linkUp, Dialled: l.dialled != "", SinceMs: (now - l.since.Load()) / 1e6,
		Zone: l.peer.Load().Zone, RTTUs: l.rtt.Load() / 1e3, CostUs: l.cost.Microseconds(), EventsLost: l.eventsLost.Load(),
		Reads: l.c.z.Reads(), Writes: l.c.z.Writes()}
	if c := l.condition.Load(); c != nil {
		st.State, st.Reason, st.SinceMs = c.state, c.reason, (now-c.since)/1e6
	}
	if reason := l.blockedBy(); reason != "" && st.State != linkBlocked { // it counts at once
		st.State, st.Reason, st.SinceMs = linkBlocked, reason, 0
	}
	return st
}
