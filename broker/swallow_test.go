package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// A peer that takes requests and does not confirm them, and those that only look like it.

// A peer that looks idle, takes requests and does not confirm them is suspect
// however much it talks, and in the end its link goes and others do the work.
func TestPeerThatSwallowsRequests(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		p.state("s", mdp.Load{Idle: 10, Workers: 10})
		m.settle()
		first := c.ask("s", "1")
		p.nextRequest()
		for range 3 {
			m.pass(100 * time.Millisecond)
			p.state("s", mdp.Load{Idle: 10, Workers: 10})
		}
		second := c.ask("s", "2")
		m.pass(100 * time.Millisecond)
		if n := b.Services()[0].Queue; n != 1 {
			t.Errorf("%d queued, want the second: the peer is suspect", n)
		}
		if st := b.Peers()[0]; st.State != linkUp {
			t.Errorf("state %+v", st)
		}
		m.pass(2 * time.Second)
		if st := b.Peers()[0]; st.State != linkSlow || st.Reason == "" {
			t.Errorf("state %+v, want slow", st)
		}
		home := m.worker(b, "s", 2)
		if r := home.take(); r.body() != "2" {
			t.Errorf("got %q", r.body())
		} else {
			home.answer(r, "b")
		}
		c.answered(second, mdp.OK, "b")
		for range 20 {
			m.pass(100 * time.Millisecond)
			select {
			case <-p.closed:
			default:
				p.state("s", mdp.Load{Idle: 10, Workers: 10})
			}
		}
		p.gone()
		r := home.take()
		if r.body() != "1" || r.Head.Attempt != 2 {
			t.Errorf("got %q as attempt %d", r.body(), r.Head.Attempt)
		}
		home.answer(r, "a")
		c.answered(first, mdp.OK, "a")
		m.wantCount(b, "peer_lies", 1)

		again := m.dial(b, "p", mdp.Peer, mdp.Native)
		again.hello("p", "p2")
		if w := again.expect(mdp.Welcome); mdp.Status(w.Head.Status) != mdp.NotTaken {
			t.Errorf("it is back at once: %v", mdp.Status(w.Head.Status))
		}
		m.pass(barredFor)
		m.fakePeer(b, "p")
		m.empty(b)
	})
}

// A peer is no liar for what has not come to it whole, nor for a confirmation that is
// behind a large answer: a link may take long for either.
func TestSlowLinkIsNoLie(t *testing.T) {
	const large = 24 << 20 // six seconds at 64 KiB in 16 ms
	slow := memsock.Fault{Delay: 16 * time.Millisecond}
	for name, play := range map[string]func(m *mesh, a, b *Broker, w, c *peer){
		"a large request": func(m *mesh, a, b *Broker, w, c *peer) {
			m.net.Fault("a", "b", slow)
			h := c.ask("s", string(make([]byte, large)))
			w.answer(w.take(), "y")
			c.answered(h, mdp.OK, "y")
		},
		"a large answer": func(m *mesh, a, b *Broker, w, c *peer) {
			other := m.worker(b, "t", 1)
			m.pass(2 * time.Second)
			m.net.Fault("b", "a", slow)
			first := c.ask("s", "x")
			w.answer(w.take(), string(make([]byte, large)))
			m.pass(10 * time.Millisecond)
			second := c.ask("t", "x")
			r := other.take()
			c.answered(first, mdp.OK, string(make([]byte, large)))
			other.answer(r, "y")
			c.answered(second, mdp.OK, "y")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				a, b := linked(m)
				w, c := m.worker(b, "s", 1), m.client(a, "c")
				m.pass(2 * time.Second)
				began := time.Now()
				play(m, a, b, w, c)
				if d := time.Since(began); d < 5*time.Second {
					t.Errorf("it took %v: too short to prove anything", d)
				}
				m.wantCount(a, "peer_lies", 0)
				m.wantCount(a, "redelivered", 0)
				m.up(a, 1)
				m.empty(a)
			})
		})
	}
}

// A peer that was stopped for less than liveness allows is no liar, whenever it is looked
// at.
func TestStoppedPeerIsNoLiar(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.Heartbeat = 2 * time.Second })
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		idle := mdp.Load{Idle: 10, Workers: 10}
		p.state("s", idle)
		m.pass(1900 * time.Millisecond)
		p.state("s", idle)
		m.settle()
		h := c.ask("s", "x")
		r := p.nextRequest()
		p.mute.Store(true)
		m.pass(3900 * time.Millisecond)
		p.alive()
		p.mute.Store(false)
		for range 4 { // its ticker is back before what else it has to say
			p.send(mdp.Command{Kind: mdp.Heartbeat, Head: mdp.Head{Token: 1}})
			m.pass(250 * time.Millisecond)
		}
		p.alive()
		idle.Seen = 1
		p.state("s", idle)
		p.send(mdp.Command{Kind: mdp.Final, Service: []byte("s"), Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID, Load: idle}}, "y")
		c.answered(h, mdp.OK, "y")
		m.wantCount(b, "peer_lies", 0)
	})
}

// What counts against a peer, look by look: time alone never does, and each request
// begins anew.
func TestSwallows(t *testing.T) {
	t.Parallel()
	const second = int64(time.Second)
	p := &route{link: &link{}}
	look := func(now, echoed int64, want bool) {
		t.Helper()
		p.link.echoed.Store(echoed)
		if p.swallows(now) != want {
			t.Errorf("at %d with an echo of %d: swallows is %t", now/second, echoed/second, !want)
		}
	}
	confirm := func(seen uint32, now int64) { p.hear(&mdp.Load{Seen: seen}, false, false, now) }
	look(5*second, 4*second, false) // it was sent nothing
	p.ask(10 * second)
	look(60*second, 9*second, false) // nothing was read, or we were stopped
	look(60*second, 60*second, false)
	look(61*second, 60*second, false)
	p.ask(61 * second)
	confirm(1, 62*second) // the first one only: the second counts from here on
	look(62*second, 62*second, false)
	look(64*second, 63*second, false)
	look(65*second, 64*second, false)
	look(66*second, 65*second, true)
	confirm(2, 66*second)
	look(67*second, 67*second, false)
}
