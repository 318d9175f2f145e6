package broker

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

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

// saysWho tells whether a peer says who it is, as HELLO and WELCOME of a link must.
func saysWho(hello *mdp.HelloMap) bool {
	return hello.Name != "" && len(hello.Name) <= mdp.MaxService && hello.Incarnation != ""
}

// acceptLink answers the HELLO of a broker that dialled us.
func (c *conn) acceptLink(batch *zsock.Batch) {
	var hello mdp.HelloMap
	if err := mdp.DecodeMap(c.cmd.Map, &hello); err != nil || !saysWho(&hello) || c.link.Load() != nil {
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
	cmd.Map = mdp.EncodeMap(l.hello())
	c.sendControl(batch, &cmd)
	c.link.Store(l) // from here on the ticker beats
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
	case err.Status == mdp.Conflict && name == l.b.name: // a namesake says NOT_TAKEN
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
	if err := mdp.DecodeMap(l.c.cmd.Map, &hello); err != nil || !saysWho(&hello) || l.peer.Load() != nil {
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
		l.replaces.sayReplaced(batch)
		l.replaces = nil
	}
	l.sayReplaced(batch)
	l.b.wakeGossip()
}

// sayReplaced tells the peer of a link that gave way to another one, behind WELCOME:
// the reader of the other one may be here before this link's has written that. The
// second of them says it.
func (l *link) sayReplaced(batch *zsock.Batch) {
	if l.ready.Load() && l.owesDrain.CompareAndSwap(true, false) {
		l.sayDrain(batch)
	}
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
	case len(b.links) >= maxLinks && old == nil, l.dialled == "" && b.acceptedOfLocked(l) >= maxLinksOfHost:
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

// acceptedOfLocked is how many links from l's host were accepted: one host does not
// take up the places of all.
func (b *Broker) acceptedOfLocked(l *link) (n int) {
	host := l.host()
	for _, other := range b.links {
		if other.dialled == "" && other.host() == host {
			n++
		}
	}
	return n
}

// host is where the link comes from.
func (l *link) host() string {
	remote := l.c.z.Peer().Remote
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
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
		old.owesDrain.Store(true)
		l.replaces = old
	case old.dialled == "" && l.dialled != "" && crossed:
		old.standby.Store(true)
		old.since.Store(b.now())
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
	l.up = true
	now := b.now()
	l.since.Store(now)
	l.established.Store(now)
	l.heard.Store(now)
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
	l.up, l.retired = false, true
	l.since.Store(l.b.now())
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
		if batch.Heavy() {
			batch.Flush()
		}
	}
	b.wakeGossip()
}
