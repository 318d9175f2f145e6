package broker

import (
	"encoding/binary"
	"encoding/hex"
	"sync"
	"sync/atomic"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// events relays messages of PUB sockets to SUB sockets, here and at other brokers.
// The first frame is the topic; a subscription is a prefix of it. Nothing waits for
// a slow subscriber: it loses messages, which are counted. Which links carry an
// event is for interest.go to say.
type events struct {
	b      *Broker
	origin [8]byte // this broker's incarnation

	routes atomic.Pointer[eventRoutes]
	news   atomic.Bool // interest here or at a peer changed

	forwardMu sync.Mutex // keeps the order of events on every link
	seq       uint64     // of those published here and sent over links

	originMu sync.Mutex
	origins  map[[8]byte]uint64 // last sequence that came of each

	mu       sync.RWMutex // guards the following
	subs     map[*zsock.Conn]*prefixes
	interest interest // of all of them
}

// prefixes is a set of topic prefixes. It does not change once others see it, or is
// guarded by events.mu.
type prefixes struct {
	set     map[string]struct{}
	lengths map[int]int // how many of each length: few, however many prefixes
	octets  int         // of all
}

func newPrefixes() *prefixes {
	return &prefixes{set: make(map[string]struct{}), lengths: make(map[int]int)}
}

// Limits of one subscriber.
const (
	maxSubscriptions = 10_000
	maxPrefixes      = 1 << 20 // octets of all its prefixes
	maxTopic         = 4096
	maxOrigins       = 4096 // brokers whose events came
)

func (e *events) init(b *Broker) {
	e.b, e.subs = b, make(map[*zsock.Conn]*prefixes)
	e.interest.counts = make(map[string]int)
	e.origins = make(map[[8]byte]uint64)
	e.origin = originOf(b.incarnation)
	e.routes.Store(&eventRoutes{})
}

// originOf is how events name the broker they entered by.
func originOf(incarnation string) (origin [8]byte) {
	if _, err := hex.Decode(origin[:], []byte(incarnation)); err != nil || len(incarnation) != 16 {
		origin = [8]byte{}
		copy(origin[:], incarnation)
	}
	return origin
}

// publishers handles the connections of PUB sockets.
type publishers events

// Opened subscribes to everything the publisher has.
func (p *publishers) Opened(c *zsock.Conn) {
	var batch zsock.Batch
	if err := c.Send(&batch, [][]byte{{1}}, zsock.Body{}); err != nil {
		c.Close(err)
		return
	}
	batch.Flush()
}

// Message relays one event to the subscribers here and to every linked broker.
func (p *publishers) Message(batch *zsock.Batch, c *zsock.Conn, m *zsock.Msg) {
	e := (*events)(p)
	e.b.count.eventsIn.Add(1)
	topic := m.Frames()[0]
	if len(topic) > maxTopic {
		e.b.count.malformed.Add(1)
		return
	}
	here := e.deliver(batch, topic, m.Body(0))
	if !e.publish(batch, topic, m.Body(0)) && !here {
		e.b.count.eventsUnread.Add(1)
	}
}

// Closed has nothing to undo: a publisher holds no state here.
func (p *publishers) Closed(*zsock.Batch, *zsock.Conn, error) {}

// deliver gives an event, topic frame included, to the subscribers here that want
// it, and tells whether there are any.
func (e *events) deliver(batch *zsock.Batch, topic []byte, body zsock.Body) (wanted bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for c, s := range e.subs {
		if !s.want(topic) {
			continue
		}
		wanted = true
		if err := c.Send(batch, nil, body); err != nil {
			e.b.count.eventsDropped.Add(1)
			continue
		}
		e.b.count.eventsOut.Add(1)
	}
	return wanted
}

func (p *prefixes) want(topic []byte) bool {
	for n := range p.lengths {
		if n <= len(topic) {
			if _, ok := p.set[string(topic[:n])]; ok {
				return true
			}
		}
	}
	return false
}

// publish sends an event that was published here over the links behind which
// somebody wants it, and tells whether there are any.
func (e *events) publish(batch *zsock.Batch, topic []byte, body zsock.Body) (wanted bool) {
	routes := e.routes.Load().all
	if len(routes) == 0 {
		return false
	}
	var id mdp.RequestID
	copy(id[:8], e.origin[:])
	e.forwardMu.Lock()
	defer e.forwardMu.Unlock()
	for i := range routes {
		own, beyond := routes[i].wanted(topic)
		if !own && !beyond {
			continue
		}
		if !wanted {
			wanted = true
			e.seq++
			binary.BigEndian.PutUint64(id[8:], e.seq)
		}
		hops := uint8(0)
		if beyond {
			hops = 1
		}
		e.send(batch, routes[i].link, id, hops, body)
	}
	return wanted
}

// send counts and sends one event over a link. What its connection refuses shows
// as a gap in the count. The mutex forwardMu is held.
func (e *events) send(batch *zsock.Batch, l *link, id mdp.RequestID, hops uint8, body zsock.Body) {
	l.eventsSent++
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.Event, Dialect: mdp.Native, Head: mdp.Head{Token: l.eventsSent, ID: id, Hops: hops}}
	if err := l.c.send(batch, &cmd, body); err != nil {
		e.b.count.eventsDropped.Add(1)
	}
}

// event takes an event that came over the link: to the subscribers here, and if it
// may go on, to linked brokers that want it.
func (l *link) event(batch *zsock.Batch, m *zsock.Msg) {
	e, cmd, frames := &l.b.events, &l.c.cmd, m.Frames()
	if len(frames) <= cmd.Body || len(frames[cmd.Body]) > maxTopic {
		l.b.count.malformed.Add(1)
		return
	}
	if !l.countEvent(cmd.Head.Token) || l.paused.Load() || !e.isNew(l, cmd.Head.ID) {
		l.b.count.eventsRepeated.Add(1)
		return
	}
	l.b.count.eventsIn.Add(1)
	topic, body := frames[cmd.Body], m.Body(cmd.Body)
	wanted := e.deliver(batch, topic, body)
	if cmd.Head.Hops > 0 {
		wanted = e.relay(batch, l, cmd.Head.ID, topic, body) || wanted
	}
	if !wanted {
		l.b.count.eventsUnread.Add(1)
	}
}

// countEvent reads the link's own count of events: it leaves no gaps, unless events
// were lost on the way. It reports false for one that goes backwards.
func (l *link) countEvent(n uint64) bool {
	if n <= l.lastEvent {
		return false
	}
	if gap := n - l.lastEvent - 1; gap > 0 {
		gap = min(gap, maxGap) // what a peer claims may be any number
		l.eventsLost.Add(gap)
		l.b.count.eventsLost.Add(gap)
	}
	l.lastEvent = n
	return true
}

const maxGap = 1_000_000

// isNew tells whether an event comes for the first time: several ways may lead from
// its origin to here. Each has a number, higher than those before of its origin. A
// linked broker's own events come by its own link only, or another one could use
// up its numbers.
func (e *events) isNew(l *link, id mdp.RequestID) bool {
	origin, seq := [8]byte(id[:8]), binary.BigEndian.Uint64(id[8:])
	if _, linked := e.routes.Load().direct[origin]; (linked || origin == e.origin) && origin != l.origin {
		return false
	}
	e.originMu.Lock()
	defer e.originMu.Unlock()
	last, known := e.origins[origin]
	if known && seq <= last {
		return false
	}
	if !known && len(e.origins) >= maxOrigins {
		for any := range e.origins {
			delete(e.origins, any)
			break
		}
	}
	e.origins[origin] = seq
	return true
}

// relay sends an event of another broker on, to linked brokers that want it
// themselves: it has then made its two hops.
func (e *events) relay(batch *zsock.Batch, from *link, id mdp.RequestID, topic []byte, body zsock.Body) (wanted bool) {
	routes := e.routes.Load().all
	e.forwardMu.Lock()
	defer e.forwardMu.Unlock()
	for i := range routes {
		l := routes[i].link
		if l == from || l.origin == [8]byte(id[:8]) || routes[i].own == nil || !routes[i].own.want(topic) {
			continue
		}
		wanted = true
		e.send(batch, l, id, 0, body)
	}
	return wanted
}

// subscribers handles the connections of SUB sockets.
type subscribers events

// Opened enters the subscriber, with no subscription yet.
func (s *subscribers) Opened(c *zsock.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[c] = newPrefixes()
}

// Message takes a subscription (01 prefix) or its end (00 prefix).
func (s *subscribers) Message(_ *zsock.Batch, c *zsock.Conn, m *zsock.Msg) {
	frame := m.Frames()[0]
	if len(frame) == 0 || frame[0] > 1 || len(frame) > maxTopic {
		s.b.count.malformed.Add(1)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own, prefix, on := s.subs[c], string(frame[1:]), frame[0] == 1
	if _, known := own.set[prefix]; on && !known && s.interest.full(own, prefix) {
		s.b.count.prefixesRefused.Add(1)
		return
	}
	switch changed, ok := own.subscribe(prefix, on); {
	case changed:
		(*events)(s).count(prefix, on)
	case !ok && on:
		s.b.count.prefixesRefused.Add(1)
	case !ok:
		s.b.count.protocolErrors.Add(1)
	}
}

// count keeps the interest of all subscribers here. Without links it is news for
// nobody: a link that comes up is told by a pass of its own. The mutex mu is held.
func (e *events) count(prefix string, on bool) {
	if e.interest.count(prefix, on) && e.b.linkCount.Load() > 0 {
		e.changed()
	}
}

// changed lets linked brokers be told.
func (e *events) changed() {
	if !e.news.Swap(true) {
		e.b.wakeGossip()
	}
}

// subscribe enters a prefix or ends it. Prefixes are a set, as in libzmq: its SUB
// says SUBSCRIBE for each of two equal subscriptions, but CANCEL once, with the
// last. Ok is false when there is no room, or nothing to end.
func (p *prefixes) subscribe(prefix string, on bool) (changed, ok bool) {
	_, known := p.set[prefix]
	switch {
	case on && known:
		return false, true
	case on:
		if len(p.set) >= maxSubscriptions || p.octets+len(prefix) > maxPrefixes {
			return false, false
		}
		p.octets += len(prefix)
		p.set[prefix] = struct{}{}
		p.lengths[len(prefix)]++
	case known:
		p.octets -= len(prefix)
		delete(p.set, prefix)
		if p.lengths[len(prefix)]--; p.lengths[len(prefix)] == 0 {
			delete(p.lengths, len(prefix))
		}
	default:
		return false, false
	}
	return true, true
}

// Closed forgets the subscriber.
func (s *subscribers) Closed(_ *zsock.Batch, c *zsock.Conn, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for prefix := range s.subs[c].set {
		(*events)(s).count(prefix, false)
	}
	delete(s.subs, c)
}
