package broker

import (
	"encoding/binary"
	"encoding/hex"
	"sync"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// events relays messages of PUB sockets to SUB sockets, here and at linked
// brokers. The first frame is the topic; a subscription is a prefix of it.
// Nothing waits for a slow subscriber: it loses messages, which are counted.
type events struct {
	b *Broker

	forwardMu sync.Mutex // keeps the order of seq on every link
	seq       uint64

	mu   sync.RWMutex // guards the following
	subs map[*zsock.Conn]*subscriber
}

// subscriber is one SUB connection. Guarded by events.mu.
type subscriber struct {
	prefixes map[string]struct{}
	lengths  map[int]int // how many prefixes of each length: few, however many prefixes
	octets   int         // of all prefixes
}

func newSubscriber() *subscriber {
	return &subscriber{prefixes: make(map[string]struct{}), lengths: make(map[int]int)}
}

// Limits of one subscriber.
const (
	maxSubscriptions = 10_000
	maxPrefixes      = 1 << 20 // octets of all its prefixes
	maxTopic         = 4096
)

func (e *events) init(b *Broker) {
	e.b, e.subs = b, make(map[*zsock.Conn]*subscriber)
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
	e.deliver(batch, topic, m.Body(0))
	if e.b.linkCount.Load() > 0 {
		e.forward(batch, m.Body(0))
	}
}

// Closed has nothing to undo: a publisher holds no state here.
func (p *publishers) Closed(*zsock.Conn, error) {}

// deliver gives an event, topic frame included, to the subscribers that want it.
func (e *events) deliver(batch *zsock.Batch, topic []byte, body zsock.Body) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	wanted := false
	for c, s := range e.subs {
		if !s.wants(topic) {
			continue
		}
		wanted = true
		if err := c.Send(batch, nil, body); err != nil {
			e.b.count.eventsDropped.Add(1)
			continue
		}
		e.b.count.eventsOut.Add(1)
	}
	if !wanted {
		e.b.count.eventsUnread.Add(1)
	}
}

func (s *subscriber) wants(topic []byte) bool {
	for n := range s.lengths {
		if n <= len(topic) {
			if _, ok := s.prefixes[string(topic[:n])]; ok {
				return true
			}
		}
	}
	return false
}

// forward sends an event over every link, once: the id is this broker's
// incarnation and a sequence, so that gaps show.
func (e *events) forward(batch *zsock.Batch, body zsock.Body) {
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.Event, Dialect: mdp.Native}
	hex.Decode(cmd.Head.ID[:8], []byte(e.b.incarnation))
	e.forwardMu.Lock()
	defer e.forwardMu.Unlock()
	e.seq++
	binary.BigEndian.PutUint64(cmd.Head.ID[8:], e.seq)
	for _, l := range e.b.upLinks() {
		if err := l.c.send(batch, &cmd, body); err != nil {
			e.b.count.eventsDropped.Add(1)
		}
	}
}

// event delivers an event a linked broker got from its publishers. It is not sent
// on: every broker tells its own links. What was lost on the way shows as a gap in
// the origin's sequence.
func (l *link) event(batch *zsock.Batch, m *zsock.Msg) {
	frames := m.Frames()
	if len(frames) < 2 {
		l.b.count.malformed.Add(1)
		return
	}
	seq := binary.BigEndian.Uint64(l.c.cmd.Head.ID[8:])
	switch {
	case seq <= l.lastEvent:
		l.b.count.eventsRepeated.Add(1)
		return
	case l.lastEvent != 0:
		l.b.count.eventsLost.Add(seq - l.lastEvent - 1)
	}
	l.lastEvent = seq
	l.b.count.eventsIn.Add(1)
	l.b.events.deliver(batch, frames[1], m.Body(1))
}

// subscribers handles the connections of SUB sockets.
type subscribers events

// Opened enters the subscriber, with no subscription yet.
func (s *subscribers) Opened(c *zsock.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[c] = newSubscriber()
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
	if !s.subs[c].subscribe(string(frame[1:]), frame[0] == 1) {
		s.b.count.protocolErrors.Add(1)
	}
}

// subscribe enters a prefix or ends it. Prefixes are a set, as in libzmq: its SUB
// says SUBSCRIBE for each of two equal subscriptions, but CANCEL once, with the
// last. It reports false when there is no room, or nothing to end.
func (s *subscriber) subscribe(prefix string, on bool) bool {
	_, known := s.prefixes[prefix]
	switch {
	case on && known:
	case on:
		if len(s.prefixes) >= maxSubscriptions || s.octets+len(prefix) > maxPrefixes {
			return false
		}
		s.octets += len(prefix)
		s.prefixes[prefix] = struct{}{}
		s.lengths[len(prefix)]++
	case known:
		s.octets -= len(prefix)
		delete(s.prefixes, prefix)
		if s.lengths[len(prefix)]--; s.lengths[len(prefix)] == 0 {
			delete(s.lengths, len(prefix))
		}
	default:
		return false
	}
	return true
}

// Closed forgets the subscriber.
func (s *subscribers) Closed(c *zsock.Conn, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subs, c)
}
