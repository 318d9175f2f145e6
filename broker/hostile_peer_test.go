package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// What a broker that lies, floods or takes another's name can do, and cannot.

func (p *peer) hello(name, incarnation string) {
	p.m.t.Helper()
	p.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: incarnation, Name: name, Incarnation: incarnation})})
}

// Confirming what was never sent makes nobody idler.
func TestPeerThatConfirmsTooMuch(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		p.state("s", mdp.Load{Idle: 1, Workers: 1, Seen: 100})
		m.settle()
		c.ask("s", "1")
		p.nextRequest()
		m.wantCount(b, "peer_lies", 1)
		c.ask("s", "2")
		m.settle()
		s := b.find([]byte("s"))
		s.mu.Lock()
		defer s.mu.Unlock()
		if idle := s.routes[0].believedIdle(); idle > 0 {
			t.Errorf("believed idle %d", idle)
		}
	})
}

// A peer that floods is cut off; what it may say in a second is bounded, and so is
// how many services its word alone adds.
func TestPeerThatFloods(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.fakePeer(b, "p")
		for i := range maxForeign + 500 {
			p.state(fmt.Sprint("made up ", i), mdp.Load{Idle: 1, Workers: 1})
		}
		m.settle()
		if n := len(b.allServices()); n != maxForeign {
			t.Errorf("%d services", n)
		}
		m.wantCount(b, "state_dropped", 500)
		other := m.fakePeer(b, "other")
		for i := range maxForeign {
			other.state(fmt.Sprint("also made up ", i), mdp.Load{Idle: 1, Workers: 1})
		}
		third := m.fakePeer(b, "third")
		third.state("one more", mdp.Load{Idle: 1, Workers: 1})
		m.wantCount(b, "state_dropped", 501)
		other.close()
		third.close()
		for range maxMessages {
			if p.isGone() {
				break
			}
			var batch zsock.Batch
			p.write(&batch, mdp.Command{Kind: mdp.State}, "") // it may be cut off meanwhile
			batch.Flush()
		}
		p.gone()
		m.wantCount(b, "floods", 1)
		m.pass(2 * time.Second)
		if n := len(b.allServices()); n != 0 {
			t.Errorf("%d services are remembered", n)
		}
	})
}

// What has no place on a link is ignored and counted.
func TestPeersIdleWordsAreCounted(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.fakePeer(b, "p")
		for i, cmd := range []mdp.Command{{Kind: mdp.Credit}, {Kind: mdp.Attach}, {Kind: mdp.State}} {
			p.send(cmd)
			m.wantCount(b, "protocol_errors", uint64(i+1))
		}
		p.alive()
		stranger := m.dial(b, "stranger", mdp.Peer, mdp.Native)
		stranger.send(mdp.Command{Kind: mdp.Welcome})
		stranger.gone()
		m.wantCount(b, "protocol_errors", 4)
	})
}

// The name and incarnation of a linked broker, which anybody can read, take its
// link from nobody: a link that was dialled from here stays.
func TestForgerTakesNoDialledLink(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := m.broker("a"), m.broker("b", peers("a"))
		m.up(b, 1)
		forger := m.dial(b, "f", mdp.Peer, mdp.Native)
		forger.hello("a", a.incarnation)
		if w := forger.expect(mdp.Welcome); mdp.Status(w.Head.Status) != mdp.Conflict {
			t.Errorf("the forger gets %v", mdp.Status(w.Head.Status))
		}
		forger = m.dial(b, "f", mdp.Peer, mdp.Native)
		forger.hello("a", "another")
		if w := forger.expect(mdp.Welcome); mdp.Status(w.Head.Status) != mdp.NotTaken {
			t.Errorf("a forger with another incarnation gets %v", mdp.Status(w.Head.Status))
		}
		m.pass(5 * time.Second)
		if l := b.upLinks(); len(l) != 1 || l[0].dialled == "" {
			t.Fatalf("%d links", len(l))
		}
	})
}

// A forger who was there first has to go when the configured endpoint answers.
func TestConfiguredEndpointDisplacesForger(t *testing.T) {
	for _, incarnation := range []string{"the same", "another"} {
		t.Run(incarnation, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				a := m.broker("a")
				m.net.Partition("a", "b")
				b := m.broker("b", peers("a"))
				forger := m.dial(b, "f", mdp.Peer, mdp.Native)
				said := a.incarnation
				if incarnation == "another" {
					said = "another"
				}
				forger.hello("a", said)
				forger.expect(mdp.Welcome)
				m.net.Heal("a", "b")
				m.pass(6 * time.Second)
				forger.gone()
				if l := b.upLinks(); len(l) != 1 || l[0].dialled == "" || l[0].peer.Load().Incarnation != a.incarnation {
					t.Fatalf("%d links", len(l))
				}
				m.wantCount(b, "links_displaced", 1)
			})
		})
	}
}

// Where two dial each other at the same moment one link remains, and no request is
// lost to that, not even one that may run once only.
func TestCrossedLinksLoseNothing(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := crossed(m)
		w, c := m.worker(a, "s", 100), m.client(b, "c")
		asked := make(map[uint64]bool)
		for range 200 {
			asked[c.ask("s", "x", flags(mdp.FlagOnce)).Token] = true
			m.pass(time.Millisecond)
			for len(w.got) > 0 {
				w.answer(w.take(), "y")
			}
		}
		m.pass(time.Second)
		for len(w.got) > 0 {
			w.answer(w.take(), "y")
		}
		for range 200 {
			f := c.expect(mdp.Final)
			if f.Head.Status != 0 || !asked[f.Head.Token] {
				t.Fatalf("answer %v to %d", f.err(), f.Head.Token)
			}
			delete(asked, f.Head.Token)
		}
		m.pass(15 * time.Second)
		for _, x := range []*Broker{a, b} {
			if l := x.upLinks(); len(l) != 1 || (l[0].dialled != "") != (x == a) {
				t.Errorf("%s: %d links; the one dialled by the smaller name stays", x.name, len(l))
			}
			x.mu.Lock()
			if n := len(x.spares) + len(x.conns); n != 2 {
				t.Errorf("%s: %d connections and spares", x.name, n)
			}
			x.mu.Unlock()
			m.wantCount(x, "links_displaced", 0)
		}
	})
}

// The link that gives way is there for as long as what was sent over it takes.
func TestLinkThatGivesWayWaitsForItsAnswers(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := crossed(m)
		w, c := m.worker(a, "s", 1_000), m.client(b, "c")
		asked := 0
		for ; len(b.upLinks()) == 0 || len(w.got) == 0; asked++ {
			c.ask("s", "x", flags(mdp.FlagOnce))
			m.pass(time.Millisecond)
		}
		m.pass(2 * time.Minute)
		if n := len(w.got); n != asked {
			t.Fatalf("the worker has %d of %d", n, asked)
		}
		a.mu.Lock()
		if n := len(a.conns); n != 3 {
			t.Errorf("%d connections, want the worker and both links", n)
		}
		a.mu.Unlock()
		for range asked {
			w.answer(w.take(), "y")
		}
		for range asked {
			if f := c.expect(mdp.Final); f.Head.Status != 0 {
				t.Errorf("answer %v", f.err())
			}
		}
		m.pass(2 * time.Second)
		for _, x := range []*Broker{a, b} {
			x.mu.Lock()
			if n := len(x.conns); n != 2 {
				t.Errorf("%s: %d connections", x.name, n)
			}
			x.mu.Unlock()
		}
	})
}

// The home of a request learns that workers far away run once before one of them
// starts it: when the link goes then, nobody starts it again.
func TestOnceFarAwayOutlivesTheLink(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(b, "s", 1, func(h *mdp.HelloMap) { h.Once = true }), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x")
		w.take()
		home := m.worker(a, "s", 1)
		m.net.Reset("a", "b")
		c.failed(h, mdp.PeerLost, true)
		home.quiet()
		w.expect(mdp.Cancel)
		m.empty(a)
	})
}

// A request that does not say so is sent back before such a worker gets it, and
// comes again marked.
func TestOnceIsToldBeforeRunning(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.fakePeer(b, "p")
		w := m.worker(b, "s", 1)
		send := func(token uint64, flags uint8) {
			p.send(mdp.Command{Kind: mdp.Request, Service: []byte("s"), Head: mdp.Head{Token: token, ID: mdp.RequestID{15: byte(token)}, Attempt: 1, Flags: flags}}, "x")
		}
		send(1, 0)
		send(2, 0) // waits
		r := w.take()
		once := m.worker(b, "s", 1, func(h *mdp.HelloMap) { h.Once = true })
		for _, token := range []uint64{2, 3} {
			if token == 3 {
				send(3, 0)
			}
			if f := p.nextFinal(); f.Head.Token != token || mdp.Status(f.Head.Status) != mdp.NotTaken || f.Head.Flags&mdp.FlagOnce == 0 {
				t.Errorf("answer %v to %d with flags %x", f.err(), f.Head.Token, f.Head.Flags)
			}
		}
		once.quiet()
		send(4, mdp.FlagOnce)
		if r := once.take(); r.Head.Flags&mdp.FlagOnce == 0 {
			t.Error("the mark is lost")
		}
		w.answer(r, "y")
	})
}

// The home's side of it.
func TestOnceIsLearntFromARefusal(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		p.state("s", mdp.Load{Idle: 3, Workers: 3})
		m.settle()
		h := c.ask("s", "x")
		r := p.nextRequest()
		if r.Head.Flags&mdp.FlagOnce != 0 {
			t.Error("once from the beginning")
		}
		refusal := mdp.Command{Kind: mdp.Final, Service: []byte("s"), Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID, Load: mdp.Load{Idle: 3, Workers: 3, Seen: 1}}}
		refusal.SetError(mdp.Errorf(mdp.NotTaken, "once only"))
		refusal.Head.Flags |= mdp.FlagOnce
		p.send(refusal)
		if r = p.nextRequest(); r.Head.Flags&mdp.FlagOnce == 0 || r.Head.Attempt != 1 {
			t.Errorf("flags %x, attempt %d", r.Head.Flags, r.Head.Attempt)
		}
		p.close()
		c.failed(h, mdp.PeerLost, true)
	})
}

// Who sends requests under the id of another's gets answers to its own.
func TestForgedRequestIDs(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		one, two, c := m.fakePeer(b, "one"), m.fakePeer(b, "two"), m.client(b, "c")
		w := m.worker(b, "s", 3)
		h := c.ask("s", "c")
		for _, p := range []*peer{one, two} {
			p.send(mdp.Command{Kind: mdp.Request, Service: []byte("s"), Head: mdp.Head{Token: h.Token, ID: h.ID, Attempt: 1}}, "p")
		}
		m.settle()
		requests := []*message{w.take(), w.take(), w.take()}
		two.send(mdp.Command{Kind: mdp.Cancel, Service: []byte("s"), Head: mdp.Head{Token: h.Token, ID: h.ID}})
		w.expect(mdp.Cancel)
		for _, r := range requests {
			w.answer(r, "answer to "+r.body())
		}
		c.answered(h, mdp.OK, "answer to c")
		if f := one.nextFinal(); f.body() != "answer to p" {
			t.Errorf("got %q", f.body())
		}
		m.pass(10 * time.Millisecond)
		for len(two.got) > 0 {
			if f := <-two.got; f.Kind == mdp.Final {
				t.Errorf("an answer after CANCEL: %q", f.body())
			}
		}
		m.empty(b)
	})
}

// The echo of a heartbeat that was never sent measures nothing, and an old one is no
// longer way than a minute: what is reckoned with the way stays within bounds.
func TestPeerThatForgesEchoes(t *testing.T) {
	for name, token := range map[string]uint64{"never sent": 1<<64 - 1<<62, "of the future": 1 << 62, "zero": 0, "ancient": 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				w, p, c := m.worker(b, "s", 4), m.fakePeer(b, "p"), m.client(b, "c")
				m.pass(time.Hour)
				p.mute.Store(true) // it echoes as it likes from here on
				for range 4 {
					c.ask("s", "runs")
					w.take()
				}
				c.ask("s", "waits")
				p.send(mdp.Command{Kind: mdp.Heartbeat, Head: mdp.Head{Token: token, Flags: mdp.FlagNeed}})
				m.settle()
				p.state("s", mdp.Load{Idle: 10, Workers: 10}) // without a measured way the request moves
				m.settle()
				if rtt := time.Duration(m.linkState(b, "p").RTTUs) * time.Microsecond; rtt > maxRTT || (rtt == maxRTT) != (token == 1) {
					t.Errorf("round trip %v", rtt)
				}
			})
		})
	}
}

func (p *peer) isGone() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// One host does not take up the places for links of all.
func TestLinksOfOneHostAreBounded(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		for i := range maxLinksOfHost + 1 {
			p := m.dial(b, "one host", mdp.Peer, mdp.Native)
			p.hello(fmt.Sprint("p", i), fmt.Sprint("p", i))
			if status := mdp.Status(p.expect(mdp.Welcome).Head.Status); (status != mdp.OK) != (i == maxLinksOfHost) {
				t.Fatalf("link %d: %v", i, status)
			}
		}
		m.fakePeer(b, "elsewhere")
	})
}
