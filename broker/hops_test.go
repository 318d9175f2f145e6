package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Two hops at most, and never back: c has the workers, a and b have none, and a
// knows only b.
func TestSecondHop(t *testing.T) {
	inBubble(t, func(m *mesh) {
		c := m.broker("c")
		b := m.broker("b", peers("c"))
		a := m.broker("a", peers("b"))
		m.up(b, 2)
		w, asker := m.worker(c, "s", 1), m.client(a, "asker")
		m.pass(3 * time.Second)
		m.worker(b, "s", 1).close() // b speaks of it, and of what is behind it
		m.pass(2 * time.Second)
		h := asker.ask("s", "x")
		m.pass(2 * time.Second)
		if len(w.got) == 1 {
			w.answer(w.take(), "y")
			asker.answered(h, mdp.OK, "y")
			if n := m.count(b, "offloaded"); n != 1 {
				t.Errorf("b handed %d on", n)
			}
		} else {
			t.Error("the request did not reach the workers two links away")
		}
		m.empty(a)
		m.empty(b)
		m.empty(c)
	})
}

// Workers two links away that are never idle are there all the same: a request goes
// to the broker between, and waits at theirs.
func TestBusySecondHop(t *testing.T) {
	inBubble(t, func(m *mesh) {
		c := m.broker("c")
		b := m.broker("b", peers("c"))
		a := m.broker("a", peers("b"))
		m.up(b, 2)
		w, near, far := m.worker(c, "s", 1), m.client(c, "near"), m.client(a, "far")
		first, second := near.ask("s", "1"), near.ask("s", "2")
		m.pass(2 * time.Second)
		third := far.ask("s", "3")
		m.pass(2 * time.Second)
		if n := m.count(b, "offloaded"); n != 1 {
			t.Errorf("the broker between handed %d on while all are busy", n)
		}
		for range 3 {
			w.answer(w.take(), "y")
			m.pass(time.Second)
		}
		near.answered(first, mdp.OK, "y")
		near.answered(second, mdp.OK, "y")
		far.answered(third, mdp.OK, "y")
		for _, br := range []*Broker{a, b, c} {
			m.empty(br)
		}
	})
}

func TestHopLimitAndNeverBack(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		home, far := m.fakePeer(b, "home"), m.fakePeer(b, "far")
		for _, p := range []*peer{home, far} {
			p.state("s", mdp.Load{Idle: 5, Workers: 5})
		}
		m.pass(50 * time.Millisecond)
		ask := func(token uint64, hops uint8) {
			home.send(mdp.Command{Kind: mdp.Request, Service: []byte("s"), Head: mdp.Head{Token: token, ID: mdp.RequestID{15: byte(token)}, Attempt: 1, Hops: hops,
				Load: mdp.Load{Idle: 5, Workers: 5}}}, "x")
		}
		ask(1, 0) // may not go on, and there is nobody here
		if f := home.nextFinal(); mdp.Status(f.Head.Status) != mdp.NotTaken || f.Head.Token != 1 || string(f.Service) != "s" || f.Head.Load.Seen != 1 {
			t.Errorf("no hops left: %v %+v", f.err(), f.Head)
		}
		ask(2, 1)
		r := far.nextRequest()
		if r.Head.Hops != 0 {
			t.Errorf("%d hops left", r.Head.Hops)
		}
		ask(3, 200) // more than there are: cut down
		if r := far.nextRequest(); r.Head.Hops != 0 {
			t.Errorf("%d hops left", r.Head.Hops)
		}
		far.send(mdp.Command{Kind: mdp.Final, Service: []byte("s"), Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID}}, "y")
		if f := home.nextFinal(); f.Head.Token != 2 || f.body() != "y" {
			t.Errorf("answer %+v %q", f.Head, f.body())
		}
		far.close() // the home redelivers, not we
		if f := home.nextFinal(); f.Head.Token != 3 || mdp.Status(f.Head.Status) != mdp.PeerLost {
			t.Errorf("answer %+v %v", f.Head, f.err())
		}
		m.empty(b)
	})
}

// fakePeer is a scripted broker that has linked itself with b.
func (m *mesh) fakePeer(b *Broker, name string) *peer {
	m.t.Helper()
	p := m.dial(b, name, mdp.Peer, mdp.Native)
	p.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: name, Name: name, Incarnation: name})})
	p.expect(mdp.Welcome)
	return p
}

func (p *peer) state(service string, load mdp.Load) {
	p.m.t.Helper()
	p.send(mdp.Command{Kind: mdp.State}, string(mdp.AppendState(nil, &mdp.StateEntry{Service: []byte(service), Load: load})))
}

// sendBack answers a request with NOT_TAKEN, and tells the peer's own load.
func (p *peer) sendBack(r *message, load mdp.Load) {
	p.m.t.Helper()
	cmd := mdp.Command{Kind: mdp.Final, Service: []byte("s"), Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID, Load: load}}
	cmd.SetError(mdp.Errorf(mdp.NotTaken, "no"))
	p.send(cmd)
}

// nextFinal and nextRequest skip STATE.
func (p *peer) nextFinal() *message   { p.m.t.Helper(); return p.skipState(mdp.Final) }
func (p *peer) nextRequest() *message { p.m.t.Helper(); return p.skipState(mdp.Request) }

func (p *peer) skipState(kind mdp.Kind) *message {
	p.m.t.Helper()
	for range 100 {
		if m := p.next(); m.Kind == kind {
			return m
		} else if m.Kind != mdp.State && m.Kind != mdp.Interest {
			p.m.t.Fatalf("got %v, want %v", m.Kind, kind)
		}
	}
	p.m.t.Fatalf("no %v came", kind)
	return nil
}

// A peer that refuses is not asked again and again; its refusals end.
func TestRefusingPeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		p.state("s", mdp.Load{Idle: 3, Workers: 3})
		m.settle()
		h := c.ask("s", "x")
		seen := uint32(0)
		for range maxRefusals {
			r := p.nextRequest()
			seen++
			p.sendBack(r, mdp.Load{Idle: 3, Workers: 3, Seen: seen})
		}
		c.failed(h, mdp.Busy, false)
		m.empty(b)
	})
}

// A peer silent after it was sent a request is suspect: it gets nothing more until
// it speaks, although it looks idle.
func TestSuspectPeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		p.state("s", mdp.Load{Idle: 10, Workers: 10})
		m.settle()
		c.ask("s", "1")
		p.nextRequest()
		m.pass(200 * time.Millisecond)
		c.ask("s", "2")
		m.pass(100 * time.Millisecond)
		if n := b.Services()[0].Queue; n != 1 {
			t.Errorf("%d queued, want the second", n)
		}
		p.state("s", mdp.Load{Idle: 9, Workers: 10, Seen: 1})
		if r := p.nextRequest(); r.body() != "2" {
			t.Errorf("moved %q", r.body())
		}
	})
}

// A peer that says DRAIN gets nothing new, however idle it looks.
func TestPeerThatSaysDrain(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		p.send(mdp.Command{Kind: mdp.Drain})
		p.state("s", mdp.Load{Idle: 5, Workers: 5})
		m.settle()
		c.failed(c.ask("s", "x", flags(mdp.FlagNoWait)), mdp.NoWorker, false)
		c.ask("s", "y")
		m.pass(100 * time.Millisecond)
		if n := b.Services()[0].Queue; n != 1 {
			t.Errorf("%d queued", n)
		}
	})
}

// A peer that says it has not heard us for nearly three heartbeats does not hear
// us: the link ends here too, without waiting for the other end.
func TestDeafPeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.fakePeer(b, "p")
		m.pass(3 * time.Second)
		p.send(mdp.Command{Kind: mdp.Heartbeat, Head: mdp.Head{Remaining: 2000}})
		p.alive()
		p.send(mdp.Command{Kind: mdp.Heartbeat, Head: mdp.Head{Remaining: 2600}})
		p.gone()
	})
}
