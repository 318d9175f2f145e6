package broker

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// subscribe is a SUB connection with these prefixes, after everybody was told.
func (m *mesh) subscribe(b *Broker, prefixes ...string) *peer {
	m.t.Helper()
	p := m.eventPeer(b, zsock.Sub)
	for _, prefix := range prefixes {
		p.raw("\x01" + prefix)
	}
	m.pass(100 * time.Millisecond)
	return p
}

// Events go where somebody wants them, and nowhere once nobody does.
func TestEventsGoByInterest(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", withEvents, peers("b", "c"))
		b, c := m.broker("b", withEvents, peers("c")), m.broker("c", withEvents)
		m.up(a, 2)
		m.up(b, 2)
		pub := m.eventPeer(a, zsock.Pub)
		wanting := m.subscribe(b, "t/", "t/deeper", "u")
		m.subscribe(c, "v")
		for _, topic := range []string{"t/1", "t", "u", "w"} {
			pub.raw(topic, "x")
		}
		m.pass(100 * time.Millisecond)
		wantEvents(t, wanting, "t/1|x", "u|x")
		m.wantCount(b, "events_in", 2)
		m.wantCount(c, "events_in", 0)
		m.wantCount(a, "events_unread", 2)
		wanting.raw("\x00t/") // t/deeper stays
		m.pass(100 * time.Millisecond)
		pub.raw("t/1", "y")
		pub.raw("t/deeper/1", "y")
		m.pass(100 * time.Millisecond)
		wantEvents(t, wanting, "t/deeper/1|y")
		wanting.close()
		m.pass(100 * time.Millisecond)
		pub.raw("u", "z")
		m.pass(100 * time.Millisecond)
		m.wantCount(b, "events_in", 3)
		m.wantCount(b, "events_lost", 0)
	})
}

// Edges that only dial a hub reach each other through it; with two hubs each event
// comes once, in order, also when one of them goes.
func TestEventsOverHubs(t *testing.T) {
	inBubble(t, func(m *mesh) {
		h1, stop := m.mortal("h1", withEvents)
		h2 := m.broker("h2", withEvents)
		e1 := m.broker("e1", withEvents, peers("h1", "h2"))
		e2 := m.broker("e2", withEvents, peers("h1", "h2"))
		m.up(h1, 2)
		m.up(h2, 2)
		sub, atHub, other := m.subscribe(e2, "t"), m.subscribe(h2, "t"), m.subscribe(e1, "t")
		pub := m.eventPeer(e1, zsock.Pub)
		var want []string
		publish := func(n int) {
			for range n {
				i := strconv.Itoa(len(want))
				want = append(want, "t|"+i)
				pub.raw("t", i)
				m.pass(time.Millisecond)
			}
		}
		publish(20)
		stop()
		m.pass(3 * time.Second)
		publish(20)
		m.pass(time.Second)
		wantEvents(t, sub, want...)
		wantEvents(t, atHub, want...)
		wantEvents(t, other, want...)
		m.wantCount(e2, "events_lost", 0)
	})
}

// A peer cannot use up the numbers of another one that is linked, nor send our own
// events back; it never gets an event before WELCOME.
func TestForgedEvents(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", withEvents)
		honest, forger := m.fakePeer(b, "honest"), m.fakePeer(b, "forger")
		sub := m.subscribe(b, "")
		id := func(origin [8]byte, seq byte) (id mdp.RequestID) {
			copy(id[:], origin[:])
			id[15] = seq
			return id
		}
		forger.send(mdp.Command{Kind: mdp.Event, Head: mdp.Head{Token: 1, ID: id(originOf("honest"), 200)}}, "t", "forged")
		forger.send(mdp.Command{Kind: mdp.Event, Head: mdp.Head{Token: 2, ID: id(b.events.origin, 200)}}, "t", "forged")
		m.settle()
		honest.send(mdp.Command{Kind: mdp.Event, Head: mdp.Head{Token: 1, ID: id(originOf("honest"), 1)}}, "t", "true")
		wantEvents(t, sub, "t|true")
		m.wantCount(b, "events_repeated", 2)
		for i := range byte(50) { // and any number of origins costs bounded memory
			for k := range byte(100) {
				forger.send(mdp.Command{Kind: mdp.Event, Head: mdp.Head{Token: 3 + uint64(i)*100 + uint64(k), ID: mdp.RequestID{9, i, k, 15: 1}}}, "t")
			}
		}
		m.settle()
		if n := len(b.events.origins); n > maxOrigins {
			t.Errorf("%d origins are kept", n)
		}
	})
}

// Nothing precedes WELCOME, however much is published meanwhile.
func TestWelcomeComesFirst(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", withEvents)
		m.worker(b, "s", 1)
		pub := m.eventPeer(b, zsock.Pub)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 500 {
				pub.raw("t", "x")
			}
		}()
		for i := range 20 {
			m.fakePeer(b, fmt.Sprint("p", i)) // fails if anything comes before
		}
		<-done
	})
}

func TestAggregate(t *testing.T) {
	t.Parallel()
	all := func(list ...string) map[string]int {
		m := make(map[string]int)
		for _, p := range list {
			m[p] = 1
		}
		return m
	}
	for _, test := range []struct{ of, want []string }{
		{nil, nil},
		{[]string{"b", "a", "ab", "a/c"}, []string{"a", "b"}},
		{[]string{"b", "", "a"}, []string{""}},
		{[]string{"a/", "a"}, []string{"a"}},
		{[]string{"ab", "ac", "a\xff"}, []string{"ab", "ac", "a\xff"}},
	} {
		if got := aggregate(all(test.of...)); !slices.Equal(got, test.want) {
			t.Errorf("%q gives %q, want %q", test.of, got, test.want)
		}
	}
	many := make(map[string]int)
	for i := range maxInterest + 1 {
		many[fmt.Sprintf("%06d", i)] = 1
	}
	if got := aggregate(many); !slices.Equal(got, []string{""}) {
		t.Errorf("%d prefixes", len(got))
	}
}

// Whatever a body of INTEREST holds is read or refused; what was written is read.
func FuzzInterest(f *testing.F) {
	f.Add(appendGroup(appendGroup(nil, "a", []string{"t", ""}), "b", nil))
	f.Add([]byte("\x01a\xff\xff"))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, ok := parseInterest(p)
		if !ok {
			return
		}
		var again []byte
		for i, g := range append([]group{h.own}, h.beyond...) {
			if i > 0 || len(p) > 0 {
				again = appendGroup(again, g.broker, g.list)
			}
		}
		if string(again) != string(p) {
			t.Errorf("%x read and written is %x", p, again)
		}
	})
}
