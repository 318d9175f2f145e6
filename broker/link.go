package broker

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

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

	rtt       atomic.Int64 // round trip in ns, measured by the heartbeat
	peer      atomic.Pointer[mdp.HelloMap]
	announced time.Duration // our update interval, as the peer was told
	otherZone bool
	ready     atomic.Bool  // WELCOME is written: other commands may follow
	draining  atomic.Bool  // the peer said DRAIN: it is sent nothing new
	paused    atomic.Bool  // an operator said so
	standby   atomic.Bool  // another link to the same broker is the one in use
	damped    atomic.Int64 // nothing is sent before this time: it went up and down too often
	down      atomic.Bool  // set before its routes are dropped: it gets no new ones
	heard     atomic.Int64 // broker clock, as the ticker last saw it
	foreign   atomic.Int32 // services known by the peer's word only

	condition atomic.Pointer[condition]

	eventsLost atomic.Uint64
	flood      flood  // of the reader goroutine
	lastEvent  uint64 // the peer's count of events; of the reader goroutine
	lastBeat   int64  // of the ticker goroutine
	health     health // of the ticker goroutine

	due, routed  uint64 // these and toldInterest are of the gossip goroutine
	toldInterest string
	eventsSent   uint64 // guarded by events.forwardMu
	interest     atomic.Pointer[heard]
	origin       [8]byte // the peer's incarnation, as events name it

	// The following are guarded by Broker.mu.
	up      bool
	since   int64 // broker clock; when it was established or, standing by, replaced
	retired bool  // told to the peer: it goes when it holds nothing more

	established int64 // broker clock; set before others know the link
	replaces    *link // which has to be told; of the reader goroutine
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
	rtt := time.Duration(l.rtt.Load())
	oneWay := rtt/2 + l.cost
	mute := l.paused.Load() || l.standby.Load()
	return way{oneWay: oneWay, class: latencyClass(oneWay, l.otherZone), patience: patience(rtt, l.updateEvery()),
		shut: mute || l.shut(), mute: mute}
}

// shut tells whether nothing new may be sent over the link.
func (l *link) shut() bool {
	return l.draining.Load() || l.paused.Load() || l.standby.Load() || l.damped.Load() > 0
}

// pace is how often at most the peer is told of changes. It counts on what it was
// told once, so later links do not make it much longer.
func (l *link) pace() int64 {
	every := updateEvery(int(l.b.linkCount.Load()), time.Duration(l.rtt.Load()/2))
	return int64(min(every, l.announced*2+25*time.Millisecond))
}

// opened says hello on a link this side dialled.
func (l *link) opened() {
	var batch zsock.Batch
	l.c.sendControl(&batch, &mdp.Command{Role: mdp.Peer, Kind: mdp.Hello, Map: mdp.EncodeMap(l.hello())})
	batch.Flush()
}

// hello is this broker's word about itself to a peer.
func (l *link) hello() *mdp.HelloMap {
	b := l.b
	l.announced = updateEvery(int(b.linkCount.Load())+1, 0)
	return &mdp.HelloMap{Instance: b.incarnation, Name: b.name, Incarnation: b.incarnation, Revision: mdp.Revision, Zone: b.cfg.Zone,
		UpdateMs: int(l.announced / time.Millisecond), CostUs: l.cost.Microseconds(), Advertise: b.cfg.Advertise}
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
		}
		return
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
	}
}

// acceptLink answers the HELLO of a broker that dialled us.
func (c *conn) acceptLink(batch *zsock.Batch) {
	var hello mdp.HelloMap
	if err := mdp.DecodeMap(c.cmd.Map, &hello); err != nil || hello.Name == "" || hello.Incarnation == "" || len(hello.Name) > mdp.MaxService || c.link.Load() != nil {
		c.b.count.protocolErrors.Add(1)
		c.z.Close(errProtocol)
		return
	}
	l := &link{b: c.b, c: c}
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.Welcome, Service: []byte(c.b.name)} // the name also where it is refused
	if err := c.b.establish(l, &hello); err != nil {
		cmd.SetError(refusal(err))
		c.sendControl(batch, &cmd)
		c.z.CloseAfterFlush(err)
		return
	}
	c.link.Store(l)
	cmd.Map = mdp.EncodeMap(l.hello())
	c.sendControl(batch, &cmd)
	l.open(batch)
}

// refusal is what a peer is told whose link may not be.
func refusal(err error) *mdp.Error {
	if errors.Is(err, errSelf) || errors.Is(err, errDuplicate) {
		return mdp.Errorf(mdp.Conflict, "%v", err)
	}
	return mdp.Errorf(mdp.NotTaken, "%v", err)
}

// refused takes a WELCOME that denies the link.
func (l *link) refused(err *mdp.Error) {
	switch name := string(l.c.cmd.Service); {
	case err.Status == mdp.Conflict && err.Text == errSelf.Error():
		l.c.z.Close(errSelf)
	case err.Status == mdp.Conflict:
		l.b.mu.Lock()
		l.b.linkedTo(l.dialled, name)
		l.b.mu.Unlock()
		l.c.z.Close(errDuplicate)
	default:
		l.c.z.Close(err)
	}
}

// welcomed takes the answer to our HELLO.
func (l *link) welcomed(batch *zsock.Batch) {
	if err, denied := mdp.AnswerError(&l.c.cmd).(*mdp.Error); denied {
		l.refused(err)
		return
	}
	var hello mdp.HelloMap
	if err := mdp.DecodeMap(l.c.cmd.Map, &hello); err != nil || hello.Name == "" || l.peer.Load() != nil {
		l.b.count.protocolErrors.Add(1)
		l.c.z.Close(errProtocol)
		return
	}
	if err := l.b.establish(l, &hello); err != nil {
		l.c.z.Close(err)
		return
	}
	l.open(batch)
}

// open lets everything else follow WELCOME.
func (l *link) open(batch *zsock.Batch) {
	l.ready.Store(true)
	l.b.events.changed()
	if l.replaces != nil {
		l.replaces.sayDrain(batch)
		l.replaces = nil
	}
	l.b.wakeGossip()
}

// establish enters a link, or says why it may not be.
//
// Where both sides dialled, each comes to have two links. A link that this side
// dialled goes before one that was accepted: anybody can dial and say a name, but
// what answers at a configured endpoint is what was configured. Both sides would
// then keep their own; the broker of the smaller name decides, by DRAIN on the
// other link. Until then the accepted one stands by at the side of the larger name.
func (b *Broker) establish(l *link, hello *mdp.HelloMap) error {
	if hello.Incarnation == b.incarnation {
		return errSelf
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.links[hello.Name]
	switch {
	case b.draining.Load():
		return errDrained
	case len(b.links) >= maxLinks && old == nil:
		return errManyLinks
	case hello.Name == b.name:
		return fmt.Errorf("%w (%s)", errTwin, b.name)
	}
	if err := b.barredLocked(l, hello.Name); err != nil {
		return err
	}
	l.learn(hello)
	if old != nil {
		if err := b.replaceLocked(old, l, hello); err != nil {
			b.linkedTo(l.dialled, hello.Name)
			return err
		}
	}
	b.enterLocked(l, hello.Name)
	return nil
}

// learn keeps what the peer says about itself.
func (l *link) learn(hello *mdp.HelloMap) {
	zone := l.b.cfg.Zone
	l.otherZone = zone != "" && hello.Zone != "" && zone != hello.Zone
	if l.dialled == "" {
		l.cost = min(max(time.Duration(hello.CostUs)*time.Microsecond, 0), maxCost)
	}
	l.origin = originOf(hello.Incarnation)
	l.peer.Store(hello)
}

// replaceLocked makes room for l where old is linked to a broker of its name, or
// says why not.
func (b *Broker) replaceLocked(old, l *link, hello *mdp.HelloMap) error {
	same := old.peer.Load().Incarnation == hello.Incarnation
	alive := b.now()-old.heard.Load() < int64(2*b.cfg.Heartbeat)
	crossed := same && alive && b.spares[hello.Name] == nil
	switch {
	case old.dialled == "" && l.dialled != "" && crossed && b.name < hello.Name:
		old.retireLocked()
		l.replaces = old
	case old.dialled == "" && l.dialled != "" && crossed:
		old.standby.Store(true)
		old.since = b.now()
		b.spares[hello.Name] = old
	case old.dialled == "" && l.dialled != "":
		b.count.linksDisplaced.Add(1)
		old.up = false
		old.c.z.Close(errDisplaced)
	case !same && (alive || old.dialled != ""):
		return fmt.Errorf("%w (%s)", errTwin, hello.Name) // a restarted one's old link is silent, if not closed
	case alive || old.dialled != "" && l.dialled == "":
		return errDuplicate // whoever says so, the link that works stays
	default:
		old.up = false
		old.c.z.Close(errDuplicate)
	}
	return nil
}

// enterLocked makes l the link to the broker of this name.
func (b *Broker) enterLocked(l *link, name string) {
	l.standby.Store(false)
	l.up, l.since = true, b.now()
	l.established = l.since
	l.heard.Store(l.since)
	l.paused.Store(b.pausedPeers[name])
	b.links[name] = l
	b.linkCount.Store(int32(len(b.links)))
	b.linkedTo(l.dialled, name)
	b.dampLocked(l, name)
	b.note(hclog.Info, "peer link up", "broker", name, "remote", l.c.z.Peer().Remote, "dialled", l.dialled != "")
}

// retireLocked takes a link out of use in favour of another one to the same
// broker. What was sent over it is still answered.
func (l *link) retireLocked() {
	l.standby.Store(true)
	l.up, l.retired, l.since = false, true, l.b.now()
}

// drained takes DRAIN: nothing new goes over the link, and if another link to the
// same broker stands by, it is in use from here on.
func (l *link) drained(batch *zsock.Batch) {
	l.draining.Store(true)
	b := l.b
	b.mu.Lock()
	name := l.peerName()
	if spare := b.spares[name]; spare != nil && b.links[name] == l {
		delete(b.spares, name)
		l.retireLocked()
		b.enterLocked(spare, name)
	}
	b.mu.Unlock()
	b.events.changed()
}

// closed takes the link's routes down: what was sent over it is tried elsewhere.
func (l *link) closed(batch *zsock.Batch, err error) {
	b := l.b
	if l.peer.Load() == nil {
		return // it never was up
	}
	b.mu.Lock()
	wasUp, name := l.up, l.peerName()
	l.up = false
	spare := b.spares[name]
	if spare == l {
		delete(b.spares, name)
	}
	if b.links[name] == l {
		delete(b.links, name)
		if spare != nil {
			delete(b.spares, name)
			b.enterLocked(spare, name)
		} else {
			b.lostLocked(l, name, err)
		}
		b.linkCount.Store(int32(len(b.links)))
	}
	b.mu.Unlock()
	b.events.changed()
	if wasUp {
		b.note(hclog.Warn, "peer link lost", "broker", name, "error", err)
	}
	l.down.Store(true)
	for _, s := range b.allServices() {
		s.mu.Lock()
		if p := s.routeIfAny(l); p != nil {
			p.drop(batch)
		}
		s.mu.Unlock()
	}
	b.wakeGossip()
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
	p := s.routeTo(l)
	s.hearFrom(l, &cmd.Head.Load, cmd.Head.Flags&mdp.FlagNeed != 0, p.once, l.b.now())
	p.answered(batch, cmd, m)
	s.dispatch(batch)
}

// Bounds of what one peer may say.
const (
	maxForeign  = 1_000   // services known by its word only
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
	if l.flooded(1, 0, now) || len(frames) <= l.c.cmd.Body {
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
		if s.capacity == 0 {
			s.move(batch, now)
		}
		s.moveTo(batch, p, now)
		s.mu.Unlock()
	}
}

// serviceOf finds the service an entry is about, locked, or nil. One peer's word
// alone adds a bounded number of them.
func (l *link) serviceOf(e *mdp.StateEntry) *service {
	if l.b.find(e.Service) == nil {
		switch {
		case silent(&e.Load):
			return nil
		case l.foreign.Load() >= maxForeign:
			l.b.count.stateDropped.Add(1)
			return nil
		}
		l.foreign.Add(1) // the sweep counts anew
	}
	s, refused := l.b.require(nil, e.Service, 0)
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
		l.rtt.Store(max(l.b.now()-int64(cmd.Head.Token), 1))
		return
	}
	limit := livenessMisses*l.b.cfg.Heartbeat - l.b.cfg.Heartbeat/2
	deaf := time.Duration(cmd.Head.Remaining) * time.Millisecond
	if deaf > limit && l.b.now()-l.since > int64(limit) {
		l.c.z.Close(errDeaf)
		return
	}
	echo := mdp.Command{Role: mdp.Peer, Kind: mdp.Heartbeat, Head: mdp.Head{Token: cmd.Head.Token, Flags: mdp.FlagNeed}}
	l.c.sendControl(batch, &echo)
}
