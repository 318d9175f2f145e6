package broker

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func withEvents(c *Config) {
	host := strings.TrimSuffix(c.Listen[0], ":1")
	c.Publish, c.Subscribe = []string{host + ":2"}, []string{host + ":3"}
}

// eventPeer is a plain PUB or SUB connection.
func (m *mesh) eventPeer(b *Broker, socket zsock.SocketType) *peer {
	m.t.Helper()
	p := &peer{m: m, got: make(chan *message, 100_000), beats: make(chan *message, 1), closed: make(chan struct{})}
	role := map[zsock.SocketType]string{zsock.Pub: "publish", zsock.Sub: "subscribe"}[socket]
	z, err := zsock.Dial(m.t.Context(), b.endpoints(role)[0], zsock.Config{Type: socket, Network: m.net.Host("events")}, p)
	if err != nil {
		m.t.Fatalf("dial: %v", err)
	}
	p.z = z
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go z.Run(ctx)
	m.t.Cleanup(p.close)
	m.settle()
	return p
}

// events is everything that has come, frames joined by a bar.
func (p *peer) events() (out []string) {
	p.m.settle()
	for len(p.got) > 0 {
		out = append(out, strings.Join(strs((<-p.got).frames), "|"))
	}
	return out
}

func wantEvents(t *testing.T, p *peer, want ...string) {
	t.Helper()
	if got := p.events(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEvents(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", withEvents)
		pub, all, some := m.eventPeer(b, zsock.Pub), m.eventPeer(b, zsock.Sub), m.eventPeer(b, zsock.Sub)
		pub.raw("lost", "x") // nobody subscribed
		m.wantCount(b, "events_unread", 1)
		all.raw("\x01")
		some.raw("\x01a/")
		some.raw("\x01a/") // said twice, as libzmq does, and cancelled once
		some.raw("\x01b")
		m.settle()
		pub.raw("a/1", "x", "y")
		pub.raw("b", "z")
		pub.raw("c", "w")
		wantEvents(t, all, "a/1|x|y", "b|z", "c|w")
		wantEvents(t, some, "a/1|x|y", "b|z")
		some.raw("\x00a/")
		m.settle()
		pub.raw("a/2", "x")
		wantEvents(t, some)
		all.close()
		m.settle()
		if n := len(b.events.subs); n != 1 {
			t.Errorf("%d subscribers are known", n)
		}
	})
}

// Events cross every link once, in order, and are not sent on.
func TestEventsOverLinks(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", withEvents, peers("b", "c"))
		b := m.broker("b", withEvents, peers("a", "c"))
		c := m.broker("c", withEvents)
		for _, x := range []*Broker{a, b, c} {
			m.up(x, 2)
		}
		var subs []*peer
		for _, x := range []*Broker{a, b, c} {
			s := m.eventPeer(x, zsock.Sub)
			s.raw("\x01t")
			subs = append(subs, s)
		}
		m.pass(100 * time.Millisecond)
		pubs := []*peer{m.eventPeer(a, zsock.Pub), m.eventPeer(a, zsock.Pub)}
		var want []string
		for i := range 200 {
			pubs[i%2].raw("t", strconv.Itoa(i))
			m.settle()
			want = append(want, "t|"+strconv.Itoa(i))
		}
		for _, s := range subs {
			wantEvents(t, s, want...)
		}
		for _, x := range []*Broker{b, c} {
			m.wantCount(x, "events_lost", 0)
			m.wantCount(x, "events_repeated", 0)
			m.wantCount(x, "events_in", 200)
		}
	})
}

func TestEventGapsAndRepetitionsAreCounted(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", withEvents)
		sub, p := m.eventPeer(b, zsock.Sub), m.fakePeer(b, "p")
		sub.raw("\x01")
		m.settle()
		for i, seq := range []byte{5, 6, 6, 9, 8, 10} { // of the origin
			n := uint64(i + 1) // of the link: two were lost before the fourth
			if n >= 4 {
				n += 2
			}
			p.send(mdp.Command{Kind: mdp.Event, Head: mdp.Head{Token: n, ID: mdp.RequestID{15: seq}}}, "t", strconv.Itoa(int(seq)))
		}
		p.send(mdp.Command{Kind: mdp.Event, Head: mdp.Head{Token: 4, ID: mdp.RequestID{15: 11}}}, "t", "back")
		wantEvents(t, sub, "t|5", "t|6", "t|9", "t|10")
		m.wantCount(b, "events_lost", 2)
		m.wantCount(b, "events_repeated", 3)
		if p := m.linkState(b, "p"); p.EventsLost != 2 {
			t.Errorf("%+v", p)
		}
	})
}

// A subscriber that does not read loses events, which are counted; others do not.
func TestSlowSubscriber(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", withEvents)
		pub, slow := m.eventPeer(b, zsock.Pub), m.eventPeer(b, zsock.Sub)
		slow.raw("\x01")
		m.settle()
		m.net.Fault("b", "events", memsock.Fault{Stall: true})
		for range 20 {
			pub.raw("t", string(make([]byte, 1<<20)))
			m.settle()
		}
		n := m.count(b, "events_dropped")
		if n == 0 || n == 20 {
			t.Errorf("%d of 20 dropped", n)
		}
		m.net.Heal("b", "events")
		m.pass(time.Second)
		if got := len(slow.events()); got != 20-int(n) {
			t.Errorf("%d came, %d were dropped", got, n)
		}
	})
}

func TestSubscriptionsAreBounded(t *testing.T) {
	s := newPrefixes()
	for i := range maxSubscriptions {
		if _, ok := s.subscribe(strconv.Itoa(i), true); !ok {
			t.Fatalf("subscription %d refused", i)
		}
	}
	if _, ok := s.subscribe("one more", true); ok {
		t.Error("one more than the bound is taken")
	}
	for _, test := range []struct{ on, changed, ok bool }{{true, false, true}, {false, true, true}, {false, false, false}} {
		if changed, ok := s.subscribe("7", test.on); changed != test.changed || ok != test.ok {
			t.Errorf("subscriptions are no set: %+v gives %t %t", test, changed, ok)
		}
	}
	if _, ok := s.subscribe("one more", true); !ok {
		t.Error("no room though one was cancelled")
	}
	big := newPrefixes()
	prefix := strings.Repeat("x", 4000)
	n := 0
	for ok := true; ok; n++ {
		_, ok = big.subscribe(prefix+strconv.Itoa(n), true)
	}
	if big.octets > maxPrefixes || n < 200 {
		t.Errorf("%d prefixes with %d octets", n, big.octets)
	}
}

// What all subscribers hold is bounded, too. Each has a little room whatever others hold,
// what is refused is counted, and what ends makes room.
func TestSubscriptionsAreBoundedTogether(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", withEvents)
		e := &b.events
		one, other := m.eventPeer(b, zsock.Sub), m.eventPeer(b, zsock.Sub)
		long := strings.Repeat("x", heldAlways-prefixCost-1)
		const others = maxHeld - heldAlways - prefixCost - 1 // which they are said to hold
		holding := func(own, all int) {                      // octets that each holds, and all do
			m.settle()
			e.mu.Lock()
			defer e.mu.Unlock()
			e.interest.held = all
			for _, s := range e.subs {
				s.octets = own
			}
		}
		holding(maxPrefixes, 0)
		one.raw("\x01a")
		m.wantCount(b, "prefixes_refused", 1)
		holding(0, others)
		one.raw("\x01" + long)
		one.raw("\x01a")
		m.wantCount(b, "prefixes_refused", 1)
		one.raw("\x01b")
		one.raw("\x01a") // is there
		m.wantCount(b, "prefixes_refused", 2)
		other.raw("\x01" + long) // of its own room
		m.wantCount(b, "prefixes_refused", 2)
		other.raw("\x01b")
		m.wantCount(b, "prefixes_refused", 3)
		one.close()
		m.settle()
		other.raw("\x01b")
		m.wantCount(b, "prefixes_refused", 3)
		other.raw("\x00c") // never was
		m.wantCount(b, "protocol_errors", 1)
		other.close()
		m.settle()
		if held := e.interest.held; held != others || len(e.interest.counts) > 0 {
			t.Errorf("%d octets are held when all have gone, %d before", held, others)
		}
	})
}

// Subscribers that do not read take a bounded room all together, and none of answers.
func TestSlowSubscribersAreBoundedTogether(t *testing.T) {
	inBubble(t, func(m *mesh) {
		const bound, size, count = 512 << 10, 20_000, 10
		b := m.broker("b", withEvents, func(c *Config) { c.MaxUnread = 2 * bound })
		pub := m.eventPeer(b, zsock.Pub)
		for range count {
			m.eventPeer(b, zsock.Sub).raw("\x01")
		}
		m.settle()
		m.net.Fault("b", "events", memsock.Fault{Stall: true})
		for range 100 {
			pub.raw("t", string(make([]byte, size)))
			m.settle()
		}
		if n := b.Unread(); n < bound/2 || n > bound+count*(size+100) {
			t.Errorf("%d octets are unread", n)
		}
		if m.count(b, "events_dropped") == 0 {
			t.Error("no event was dropped")
		}
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x")
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
		m.net.Heal("b", "events")
		m.settle()
		if n := b.Unread(); n != 0 {
			t.Errorf("%d octets are unread when all was read", n)
		}
	})
}
