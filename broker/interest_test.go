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
	for _, test := range []struct{ of, want []string }{
		{nil, nil},
		{[]string{"b", "a", "ab", "a/c"}, []string{"a", "b"}},
		{[]string{"b", "", "a"}, []string{""}},
		{[]string{"a/", "a"}, []string{"a"}},
		{[]string{"ab", "ac", "a\xff"}, []string{"ab", "ac", "a\xff"}},
	} {
		if got := aggregate(slices.Clone(test.of)); !slices.Equal(got, test.want) {
			t.Errorf("%q gives %q, want %q", test.of, got, test.want)
		}
	}
	var many []string
	for i := range maxInterest + 1 {
		many = append(many, fmt.Sprintf("%06d", i))
	}
	if got := aggregate(many); !slices.Equal(got, []string{""}) {
		t.Errorf("%d prefixes", len(got))
	}
}

// wanting counts so many prefixes, of eight octets each.
func wanting(n int) *interest {
	i := &interest{counts: make(map[string]int)}
	for k := range n {
		i.count(fmt.Sprintf("%08d", k), true)
	}
	return i
}

// What a pass looks at is bounded, and what is beyond that changes without being news.
func TestPassIsBounded(t *testing.T) {
	t.Parallel()
	unseen := func(i *interest) bool { return slices.Equal(i.list(), []string{""}) }
	i := wanting(maxCovered)
	if n := len(i.list()); n != maxCovered {
		t.Fatalf("%d of %d prefixes", n, maxCovered)
	}
	if !i.count("one more", true) || !unseen(i) {
		t.Error("one prefix too many is no news, or looked at")
	}
	if i.count("another", true) || i.count("another", false) {
		t.Error("it is news that everything is wanted still")
	}
	if !i.count("one more", false) || unseen(i) {
		t.Error("it is no news that there are few again")
	}
	if !i.count("", true) || !unseen(i) || !i.count("", false) || unseen(i) {
		t.Error("the empty prefix is not everything as long as it is there")
	}
	long := wanting(0)
	for k := range maxCoveredOctets / maxTopic {
		long.count(fmt.Sprintf("%0*d", maxTopic, k), true)
	}
	if unseen(long) || !long.count("x", true) || !unseen(long) {
		t.Errorf("%d octets of %d", long.octets, maxCoveredOctets)
	}
}

// Each prefix is counted once for all its subscribers, and nothing is left when all
// are gone, also of the room that many had.
func TestInterestIsCounted(t *testing.T) {
	t.Parallel()
	const many = 16*maxCovered + 1
	i := wanting(many)
	if i.count("00000007", true) || i.count("00000007", false) {
		t.Error("a second subscriber of a prefix is news")
	}
	if i.octets != 8*many || i.held != (8+prefixCost)*many {
		t.Errorf("%d octets, %d held of %d prefixes", i.octets, i.held, many)
	}
	for k := range many {
		i.count(fmt.Sprintf("%08d", k), false)
		if n := len(i.counts); n <= maxCovered && i.peak > 16*maxCovered {
			t.Fatalf("a map for %d prefixes is kept for %d", i.peak, n)
		}
	}
	if len(i.counts) != 0 || i.octets != 0 || i.held != 0 {
		t.Errorf("left are %d prefixes, %d octets, %d held", len(i.counts), i.octets, i.held)
	}
}

// Without links nobody is told: subscriptions are no news, and a pass leaves alone what
// readers need. The next one is due a pace after its end, not after its beginning.
func TestPassWithoutLinks(t *testing.T) {
	b, err := New(Config{Listen: []string{"tcp://x:1"}})
	if err != nil {
		t.Fatal(err)
	}
	e := &b.events
	e.mu.Lock()
	e.count("t", true)
	if e.news.Load() {
		t.Error("it is news for nobody that somebody subscribed")
	}
	b.linkCount.Store(1)
	e.count("u", true)
	if !e.news.Load() {
		t.Error("with a link it is none")
	}
	b.start = b.start.Add(-time.Second) // the pass began at 1, and takes a second
	g := &gossip{b: b}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.interests(1)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("a pass waits for subscribers though nobody is linked")
	}
	e.mu.Unlock()
	<-done
	if e.news.Load() || g.interestAt < int64(time.Second+interestPace) {
		t.Errorf("the next pass is due at %v", time.Duration(g.interestAt))
	}
}

// A broker whose subscribers have too many prefixes for a pass gets all events, and
// only those that they want once it has fewer.
func TestEverythingUntilThereAreFew(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := m.broker("a", withEvents, peers("b")), m.broker("b", withEvents)
		m.up(a, 1)
		pub := m.eventPeer(a, zsock.Pub)
		publish := func(events uint64) {
			t.Helper()
			m.pass(100 * time.Millisecond)
			for _, topic := range []string{"t/1", "other"} {
				pub.raw(topic, "x")
			}
			m.pass(100 * time.Millisecond)
			m.wantCount(b, "events_in", events)
		}
		few := m.subscribe(b, "t/")
		publish(1)
		many := m.eventPeer(b, zsock.Sub)
		for i := range maxCovered {
			many.raw("\x01many/" + strconv.Itoa(i))
		}
		publish(1 + 2)
		many.raw("\x01many/") // covers them, which is seen once a pass looks again
		publish(1 + 2 + 2)
		many.raw("\x00many/0")
		many.raw("\x00many/1")
		publish(1 + 2 + 2 + 1)
		many.close()
		publish(1 + 2 + 2 + 1 + 1)
		wantEvents(t, few, "t/1|x", "t/1|x", "t/1|x", "t/1|x", "t/1|x")
	})
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
