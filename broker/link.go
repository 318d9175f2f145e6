package broker

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// link is the connection to one other broker. It is symmetric: whoever dialled,
// both directions use it, and there is one per pair. Where both dialled there may
// be two for a moment: one then stands by (establish).
type link struct {
	b       *Broker
	c       *conn
	dialled string // the endpoint, if this side dialled
	cost    time.Duration

	rtt       atomic.Int64 // round trip in ns, as the last heartbeat measured it
	nearest   atomic.Int64 // the shortest of the recent ones: how far the peer is
	echoed    atomic.Int64 // broker clock at which the last heartbeat was sent that the peer has read
	peer      atomic.Pointer[mdp.HelloMap]
	announced time.Duration // our update interval, as the peer was told
	otherZone bool
	ready     atomic.Bool  // WELCOME is written: other commands may follow
	draining  atomic.Bool  // the peer said DRAIN: it is sent nothing new
	paused    atomic.Bool  // an operator said so
	refuses   atomic.Bool  // the peer's heartbeats say that it paused the link
	standby   atomic.Bool  // another link to the same broker is the one in use
	damped    atomic.Int64 // nothing is sent before this time: it went up and down too often
	down      atomic.Bool  // set before its routes are dropped: it gets no new ones
	heard     atomic.Int64 // broker clock, as the ticker last saw it
	foreign   atomic.Int32 // services known by the peer's word only

	condition atomic.Pointer[condition]
	kept      kept

	eventsLost atomic.Uint64
	flood      flood  // of the reader goroutine
	lastEvent  uint64 // the peer's count of events; this and recent are of the reader goroutine
	recent     recent
	lastBeat   int64 // this and toldPaused are of the ticker goroutine
	toldPaused bool
	health     health // of the ticker goroutine

	due, routed  uint64 // these, toldInterest and refusedAt are of the gossip goroutine
	refusedAt    int64  // broker clock, when the connection last refused a STATE
	toldInterest string
	eventsSent   uint64 // guarded by events.forwardMu
	interest     atomic.Pointer[peerInterest]
	origin       [8]byte // the peer's incarnation, as events name it

	// The following are guarded by Broker.mu.
	up      bool
	retired bool // it goes when it holds nothing more

	established atomic.Int64 // broker clock
	since       atomic.Int64 // broker clock; when it was established or, standing by, replaced
	replaces    *link        // which has to be told; of the reader goroutine
	owesDrain   atomic.Bool  // another link replaces it, and the peer was not told yet
}

// peerName is the other broker's name, or its endpoint while that is unknown.
func (l *link) peerName() string {
	if h := l.peer.Load(); h != nil {
		return h.Name
	}
	return l.dialled
}

// updateEvery is how often the peer sends updates at most, by its own word.
func (l *link) updateEvery() time.Duration {
	if h := l.peer.Load(); h != nil && h.UpdateMs > 0 {
		return time.Duration(h.UpdateMs) * time.Millisecond
	}
	return updateInterval
}

// way is the road to the peer, as the policy sees it.
func (l *link) way() way {
	rtt, nearest := time.Duration(l.rtt.Load()), time.Duration(l.nearest.Load())
	oneWay := nearest/2 + l.cost
	mute := l.paused.Load() || l.standby.Load()
	return way{oneWay: oneWay, class: latencyClass(oneWay, l.otherZone), patience: patience(rtt, l.updateEvery()),
		shut: mute || l.shut(), mute: mute}
}

// shut tells whether nothing new may be sent over the link.
func (l *link) shut() bool {
	return l.draining.Load() || l.paused.Load() || l.refuses.Load() || l.standby.Load() || l.damped.Load() > 0
}

// pace is how often at most the peer is told of changes. It counts on what it was
// told once, so later links do not make it much longer.
func (l *link) pace() int64 {
	every := updateEvery(int(l.b.linkCount.Load()), time.Duration(l.nearest.Load()/2))
	return int64(min(every, l.announced*2+25*time.Millisecond))
}

// fromPeer handles one command of a peer link.
func (c *conn) fromPeer(batch *zsock.Batch, m *zsock.Msg) {
	l := c.link.Load()
	switch c.cmd.Kind {
	case mdp.Hello:
		c.acceptLink(batch)
		return
	case mdp.Welcome:
		if l != nil {
			l.welcomed(batch)
			return
		}
	}
	if l == nil || l.peer.Load() == nil {
		c.b.count.protocolErrors.Add(1)
		c.z.Close(errProtocol)
		return
	}
	switch c.cmd.Kind {
	case mdp.Request:
		c.request(batch, m)
	case mdp.Partial, mdp.Final:
		l.answer(batch, m)
	case mdp.Cancel:
		c.cancel(batch)
	case mdp.State:
		l.hearState(batch, m)
	case mdp.Event:
		l.event(batch, m)
	case mdp.Interest:
		l.hearInterest(m)
	case mdp.Heartbeat:
		l.beat(batch)
	case mdp.Drain:
		l.drained(batch)
	case mdp.Bye:
		c.z.Close(errBye)
	default:
		c.b.count.protocolErrors.Add(1)
	}
}

// answer takes a PARTIAL or FINAL to a request we sent over the link.
func (l *link) answer(batch *zsock.Batch, m *zsock.Msg) {
	cmd := &l.c.cmd
	s := l.b.find(cmd.Service)
	if s == nil {
		l.b.count.unaskedReplies.Add(1)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead { // forgotten just now
		l.b.count.unaskedReplies.Add(1)
		return
	}
	p := s.routeTo(l)
	s.hearFrom(l, &cmd.Head.Load, cmd.Head.Flags&mdp.FlagNeed != 0, p.once, l.b.now())
	p.answered(batch, cmd, m)
	s.dispatch(batch)
	s.level(batch, p, l.b.now())
}

// Bounds of what one peer may say.
const (
	maxForeign  = 1_000   // services known by its word only; by the word of all peers, twice as many
	maxMessages = 2_000   // STATE and INTEREST, a second
	maxEntries  = 200_000 // of STATE, a second
)

// flood counts what came over a link in the present second.
type flood struct {
	second            int64
	messages, entries int
}

// tooMuch counts one message, or more entries, and tells whether that is a flood.
func (f *flood) tooMuch(messages, entries int, now int64) bool {
	if second := now / int64(time.Second); second != f.second {
		*f = flood{second: second}
	}
	f.messages += messages
	f.entries += entries
	return f.messages > maxMessages || f.entries > maxEntries
}

// flooded ends the link of a peer that says more than it may.
func (l *link) flooded(messages, entries int, now int64) bool {
	if !l.flood.tooMuch(messages, entries, now) {
		return false
	}
	l.b.count.floods.Add(1)
	l.c.z.Close(errFlood)
	return true
}

// hearState takes the peer's entries for the services that changed.
func (l *link) hearState(batch *zsock.Batch, m *zsock.Msg) {
	frames := m.Frames()
	now := l.b.now()
	if l.flooded(1, 0, now) {
		return
	}
	if len(frames) <= l.c.cmd.Body {
		l.b.count.protocolErrors.Add(1)
		return
	}
	var e mdp.StateEntry
	for rest := frames[l.c.cmd.Body]; len(rest) > 0; {
		var err error
		if rest, err = mdp.NextState(rest, &e); err != nil {
			l.b.count.protocolErrors.Add(1)
			return
		}
		if l.flooded(0, 1, now) {
			return
		}
		s := l.serviceOf(&e)
		if s == nil {
			continue
		}
		p := s.hearFrom(l, &e.Load, e.Need, e.Once, now)
		p.behind = e.Behind
		if s.capacity == 0 {
			s.move(batch, now)
		}
		s.moveTo(batch, p, now)
		s.level(batch, p, now)
		s.mu.Unlock()
	}
}

// serviceOf finds the service an entry is about, locked, or nil. One peer's word
// alone adds a bounded number of them.
func (l *link) serviceOf(e *mdp.StateEntry) *service {
	if l.b.find(e.Service) == nil {
		switch {
		case silent(&e.Load) && !e.Behind:
			return nil
		case l.foreign.Load() >= maxForeign, l.b.foreign.Load() >= 2*maxForeign:
			l.b.count.stateDropped.Add(1)
			return nil
		}
		l.foreign.Add(1) // the sweep counts both anew
		l.b.foreign.Add(1)
	}
	s, refused := l.b.require(nil, e.Service, l.b.roomForPeers())
	if refused != nil {
		l.b.count.stateDropped.Add(1)
		return nil
	}
	return s
}

// beat takes a heartbeat. The peer says how long ago it last heard us: when that
// comes near to where it will give the link up, it is cut in our direction, and
// both sides end it. Its token is its clock: sent back once, it measures the way.
func (l *link) beat(batch *zsock.Batch) {
	cmd := &l.c.cmd
	if cmd.Head.Flags&mdp.FlagNeed != 0 {
		l.measure(cmd.Head.Token)
		return
	}
	limit := livenessMisses*l.b.cfg.Heartbeat - l.b.cfg.Heartbeat/2
	deaf := time.Duration(cmd.Head.Remaining) * time.Millisecond
	if deaf > limit && l.b.now()-l.since.Load() > int64(limit) {
		l.c.z.Close(errDeaf)
		return
	}
	if on := cmd.Head.Flags&mdp.FlagPaused != 0; l.refuses.Swap(on) != on {
		l.b.events.changed() // they go another way, or this one again
	}
	echo := mdp.Command{Role: mdp.Peer, Kind: mdp.Heartbeat, Head: mdp.Head{Token: cmd.Head.Token, Flags: mdp.FlagNeed}}
	l.c.sendControl(batch, &echo)
}

// maxRTT is the longest round trip that is believed: a peer may echo what it likes.
const maxRTT = time.Minute

// measure takes the echo of a heartbeat. What our clock has not shown yet, we did not send.
func (l *link) measure(token uint64) {
	now := l.b.now()
	if token == 0 || token > uint64(now) {
		l.b.count.protocolErrors.Add(1)
		return
	}
	rtt := min(max(now-int64(token), 1), int64(maxRTT))
	l.rtt.Store(rtt)
	l.nearest.Store(l.recent.shortest(rtt))
	l.echoed.Store(int64(token))
}

// recent are the last round trips, so many at most. The shortest of them is the road:
// the others also tell of who had to wait for a processor at one end.
type recent struct {
	trips [8]int64
	n     int // taken so far
}

// shortest takes one more and returns the shortest of them.
func (r *recent) shortest(rtt int64) int64 {
	r.trips[r.n%len(r.trips)] = rtt
	r.n++
	return slices.Min(r.trips[:min(r.n, len(r.trips))])
}
