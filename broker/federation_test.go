package broker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// linked starts two brokers with one link, dialled by a, that know each other.
func linked(m *mesh) (a, b *Broker) {
	m.t.Helper()
	a, b = m.broker("a", peers("b")), m.broker("b")
	m.up(a, 1)
	return a, b
}

// up waits until the broker has n links.
func (m *mesh) up(b *Broker, n int) {
	m.t.Helper()
	for range 100 {
		if m.pass(100 * time.Millisecond); len(b.upLinks()) == n {
			return
		}
	}
	m.t.Fatalf("broker %s has %d links, want %d", b.name, len(b.upLinks()), n)
}

func TestServiceAtPeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond) // news, not the refresh of each second
		h := c.ask("s", "hello", within(5*time.Second))
		r := w.take()
		if r.Head.ID != h.ID || r.Head.Attempt != 1 || r.Head.Remaining == 0 || r.Head.Remaining > 5000 || r.body() != "hello" {
			t.Errorf("at the worker: %+v %q", r.Head, r.body())
		}
		w.partial(r, "part")
		w.answer(r, "there")
		if p := c.expect(mdp.Partial); p.body() != "part" {
			t.Errorf("partial %q", p.body())
		}
		c.answered(h, mdp.OK, "there")
		m.wantCount(a, "offloaded", 1)

		h = c.ask("s", "x") // errors come back as they are
		w.refuse(w.take(), &mdp.Error{Status: mdp.AppError, Text: "no"})
		if e := c.failed(h, mdp.AppError, true); e.Text != "no" {
			t.Errorf("text %q", e.Text)
		}
		m.empty(a)
		m.empty(b)
	})
}

func TestForeignPeersOverALink(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w := m.foreignWorker(b, "svc", mdp.V02)
		m.pass(100 * time.Millisecond)
		c := m.dial(a, "c", mdp.Client, mdp.V01)
		c.send(mdp.Command{Kind: mdp.Request, Service: []byte("svc")}, "x")
		r := w.take()
		w.partial(r, "p")
		w.answer(r, "q")
		if f := c.expect(mdp.Final); f.body() != "p|q" {
			t.Errorf("got %q", f.body())
		}
		m.empty(a)
		m.empty(b)
	})
}

// The peer may dial us as well as we it: the link carries both directions.
func TestLinkIsSymmetric(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(a, "s", 1), m.client(b, "c")
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x")
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
	})
}

func TestCancelTravels(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, other, c := m.worker(b, "s", 1), m.worker(b, "other", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		// Tokens are unique within a service only: the first request of each has
		// the same slot, and only the right one may be cancelled.
		for _, broker := range []*Broker{a} {
			for _, name := range []string{"s", "other"} {
				s := broker.find([]byte(name))
				s.mu.Lock()
				s.table.base = 7
				s.mu.Unlock()
			}
		}
		keep := c.ask("other", "keep")
		kept := other.take()
		h := c.ask("s", "x")
		r := w.take()
		c.cancelRequest(h)
		w.expect(mdp.Cancel)
		other.quiet()
		w.refuse(r, &mdp.Error{Status: mdp.Cancelled, MayHaveRun: true})
		other.answer(kept, "kept")
		c.answered(keep, mdp.OK, "kept")

		c.ask("s", "y")
		r = w.take()
		c.close()
		w.expect(mdp.Cancel)
		w.answer(r, "late")
		m.empty(a)
		m.empty(b)
	})
}

func TestDeadlineTravels(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x", within(500*time.Millisecond))
		w.take()
		c.failed(h, mdp.Expired, true)
		w.expect(mdp.Cancel)
		m.empty(a)
		m.empty(b)
	})
}

// What was sent over a link that is lost goes to another worker; what must run
// once ends with PEER_LOST; the other side cancels what it runs.
func TestLinkLoss(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(b, "s", 2), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		again, once := c.ask("s", "again"), c.ask("s", "once", flags(mdp.FlagOnce))
		w.take()
		w.take()
		home := m.worker(a, "s", 1)
		m.net.Reset("a", "b")
		c.failed(once, mdp.PeerLost, true)
		r := home.take()
		if r.body() != "again" || r.Head.Attempt != 2 {
			t.Errorf("redelivered %q as attempt %d", r.body(), r.Head.Attempt)
		}
		home.answer(r, "y")
		c.answered(again, mdp.OK, "y")
		w.expect(mdp.Cancel)
		w.expect(mdp.Cancel)
		m.up(a, 1)
		m.up(b, 1)
		m.empty(a)
	})
}

func TestWorkerLostAtPeerIsRedeliveredByHome(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		one, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x")
		one.take()
		home := m.worker(a, "s", 1)
		one.close()
		r := home.take()
		if r.Head.Attempt != 2 {
			t.Errorf("attempt %d", r.Head.Attempt)
		}
		home.answer(r, "y")
		c.answered(h, mdp.OK, "y")
		m.wantCount(b, "redelivered", 0)
		m.wantCount(a, "redelivered", 1)
	})
}

func TestLocalScopeIsNotOffered(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		local, c := m.worker(b, "s", 1, localScope), m.client(a, "c")
		m.pass(2 * time.Second)
		c.failed(c.ask("s", "x", flags(mdp.FlagNoWait)), mdp.NoWorker, false)
		local.quiet()
		near := m.client(b, "near")
		h := near.ask("s", "x")
		local.answer(local.take(), "y")
		near.answered(h, mdp.OK, "y")
	})
}

// Requests of peers that only workers of scope mesh may take wait without holding
// up those that a worker of scope local can take.
func TestGuestsDoNotBlockLocalWork(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		open, far := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		first, second := far.ask("s", "first"), far.ask("s", "second")
		r := open.take()
		m.pass(100 * time.Millisecond)
		near := m.client(b, "near")
		waiting := near.ask("s", "near")
		local := m.worker(b, "s", 1, localScope)
		local.answer(local.take(), "local")
		near.answered(waiting, mdp.OK, "local")
		local.quiet()
		if err := b.find([]byte("s")).check(); err != nil {
			t.Error(err)
		}
		open.answer(r, "1")
		far.answered(first, mdp.OK, "1")
		open.answer(open.take(), "2")
		far.answered(second, mdp.OK, "2")
	})
}

// Guests that nobody here may take any more go back to their home.
func TestGuestsAreTurnedAway(t *testing.T) {
	for name, leave := range map[string]func(w *peer, r *message){
		"left": func(w *peer, _ *message) { w.close() },
		"drain": func(w *peer, r *message) {
			w.send(mdp.Command{Kind: mdp.Drain})
			w.answer(r, "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				a, b := linked(m)
				w, c := m.worker(b, "s", 1), m.client(a, "c")
				m.pass(100 * time.Millisecond)
				c.ask("s", "1", flags(mdp.FlagOnce))
				r := w.take()
				s := a.find([]byte("s"))
				s.mu.Lock()
				s.routes[0].load.Idle += 5 // as if there were room
				s.mu.Unlock()
				second := c.ask("s", "2", flags(mdp.FlagOnce))
				m.settle()
				if n := b.Services()[0].Queue; n != 1 {
					t.Fatalf("%d guests", n)
				}
				leave(w, r)
				c.expect(mdp.Final)
				home := m.worker(a, "s", 1)
				home.answer(home.take(), "home")
				c.answered(second, mdp.OK, "home")
				m.empty(a)
				m.empty(b)
			})
		})
	}
}

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

// nextFinal and nextRequest skip STATE.
func (p *peer) nextFinal() *message   { p.m.t.Helper(); return p.skipState(mdp.Final) }
func (p *peer) nextRequest() *message { p.m.t.Helper(); return p.skipState(mdp.Request) }

func (p *peer) skipState(kind mdp.Kind) *message {
	p.m.t.Helper()
	for range 100 {
		if m := p.next(); m.Kind == kind {
			return m
		} else if m.Kind != mdp.State {
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
			refusal := mdp.Command{Kind: mdp.Final, Service: []byte("s"), Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID,
				Load: mdp.Load{Idle: 3, Workers: 3, Seen: seen}}}
			refusal.SetError(mdp.Errorf(mdp.NotTaken, "no"))
			p.send(refusal)
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

func TestSelfLinkIsRefused(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", peers("b"))
		m.pass(30 * time.Second)
		if n := len(b.upLinks()); n != 0 {
			t.Errorf("%d links to itself", n)
		}
		p := b.Peers()
		if len(p) != 1 || p[0].State != "down" || p[0].Error != errSelf.Error() {
			t.Errorf("peers %+v", p)
		}
	})
}

// Where both dialled there is one link in the end, the same for both, and nobody
// goes on dialling.
func TestBothDial(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := m.broker("a", peers("b")), m.broker("b", peers("a"))
		m.pass(10 * time.Second)
		la, lb := a.upLinks(), b.upLinks()
		if len(la) != 1 || len(lb) != 1 || la[0].dialled == "" || lb[0].dialled != "" {
			t.Fatalf("links %d and %d; the one dialled by the smaller name stays", len(la), len(lb))
		}
		accepted := func(b *Broker) uint64 { return b.listeners[0].z.Counters().Accepted }
		before := accepted(a) + accepted(b)
		m.pass(time.Minute)
		if n := accepted(a) + accepted(b); n != before {
			t.Errorf("%d more connections in a minute", n-before)
		}
		for _, broker := range []*Broker{a, b} {
			if p := broker.Peers(); len(p) != 1 || p[0].State != "up" || p[0].RTTUs <= 0 && p[0].RTTUs != 0 {
				t.Errorf("peers of %s: %+v", broker.name, p)
			}
		}
		w, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x")
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
	})
}

func TestPeerRestart(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", peers("b"))
		b, stop := m.mortal("b")
		m.up(a, 1)
		first := a.upLinks()[0].peer.Load().Incarnation
		w, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		for range 5 {
			h := c.ask("s", "x")
			w.answer(w.take(), "y")
			c.answered(h, mdp.OK, "y")
		}
		w.close()
		stop()
		b = m.broker("b")
		m.up(a, 1)
		if a.upLinks()[0].peer.Load().Incarnation == first {
			t.Fatal("the same incarnation")
		}
		w = m.worker(b, "s", 1) // counters start anew on both sides
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x")
		w.answer(w.take(), "z")
		c.answered(h, mdp.OK, "z")
	})
}

// A newer incarnation replaces a link whose loss was not noticed yet.
func TestNewIncarnationReplacesLink(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		old := m.fakePeer(b, "p")
		fresh := m.dial(b, "p", mdp.Peer, mdp.Native)
		fresh.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "p", Name: "p", Incarnation: "p2"})})
		fresh.expect(mdp.Welcome)
		old.gone()
		m.settle()
		if l := b.upLinks(); len(l) != 1 || l[0].peer.Load().Incarnation != "p2" {
			t.Errorf("%d links", len(l))
		}
	})
}

func TestRoundTripIsMeasured(t *testing.T) {
	inBubble(t, func(m *mesh) {
		m.net.Fault("a", "b", memsock.Fault{Delay: 20 * time.Millisecond})
		m.net.Fault("b", "a", memsock.Fault{Delay: 30 * time.Millisecond})
		a, b := linked(m)
		m.pass(3 * time.Second)
		for _, broker := range []*Broker{a, b} {
			if rtt := time.Duration(broker.upLinks()[0].rtt.Load()); rtt != 50*time.Millisecond {
				t.Errorf("%s measured %v", broker.name, rtt)
			}
		}
	})
}

// A link that is cut in one direction ends at both ends within three heartbeats and
// one more, and what was sent over it is redelivered.
func TestOneWayPartition(t *testing.T) {
	for _, cut := range [][2]string{{"a", "b"}, {"b", "a"}} {
		t.Run(fmt.Sprintf("%s does not reach %s", cut[0], cut[1]), func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				a, b := linked(m)
				m.pass(time.Second)
				m.net.Fault(cut[0], cut[1], memsock.Fault{Discard: true})
				m.pass(4 * time.Second)
				if x, y := len(a.upLinks()), len(b.upLinks()); x != 0 || y != 0 {
					t.Errorf("links after 4 s: %d and %d", x, y)
				}
				m.net.Heal("a", "b")
				m.up(a, 1)
				m.up(b, 1)
			})
		})
	}
}

func TestPartitionRedelivers(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x")
		r := w.take()
		m.net.Partition("a", "b")
		home := m.worker(a, "s", 1)
		again := home.take()
		home.answer(again, "home")
		c.answered(h, mdp.OK, "home")
		w.expect(mdp.Cancel)
		w.answer(r, "late")
		m.net.Heal("a", "b")
		m.up(a, 1)
		c.quiet()
		m.empty(a)
		m.empty(b)
	})
}

func TestPeersThatMisbehave(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.dial(b, "p", mdp.Peer, mdp.Native) // speaks before HELLO
		p.send(mdp.Command{Kind: mdp.Heartbeat})
		p.gone()
		p = m.dial(b, "p", mdp.Peer, mdp.Native)
		p.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "p"})})
		p.gone()
		p = m.fakePeer(b, "p")
		p.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "q", Name: "q", Incarnation: "q"})})
		p.gone()
		p = m.fakePeer(b, "p")
		p.send(mdp.Command{Kind: mdp.State}, "\x05garbage")
		p.send(mdp.Command{Kind: mdp.Event}, "")
		p.send(mdp.Command{Kind: mdp.Final, Service: []byte("never heard of"), Head: mdp.Head{Token: 3}})
		p.send(mdp.Command{Kind: mdp.Interest}, "x")
		m.settle()
		p.alive()
		m.wantCount(b, "unasked_replies", 1)
		m.wantCount(b, "protocol_errors", 4)
	})
}

func TestLinksAreBounded(t *testing.T) {
	b, err := New(Config{Listen: []string{"tcp://x:1"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxLinks {
		b.links[fmt.Sprint(i)] = &link{}
	}
	if err := b.establish(&link{b: b}, &mdp.HelloMap{Name: "one more", Incarnation: "x"}); !errors.Is(err, errManyLinks) {
		t.Errorf("got %v", err)
	}
}

// A service that appears is news within milliseconds; a peer that needs nobody is
// not told how a queue grows.
func TestNews(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.fakePeer(b, "p")
		m.pass(100 * time.Millisecond)
		p.quiet()
		w := m.worker(b, "s", 2)
		m.pass(10 * time.Millisecond)
		if e := p.entry(); e.Load.Workers != 2 || e.Load.Idle != 0 || e.Need {
			t.Errorf("a peer without need is offered nothing: %+v", e)
		}
		p.send(mdp.Command{Kind: mdp.State}, string(mdp.AppendState(nil, &mdp.StateEntry{Service: []byte("s"), Need: true, Load: mdp.Load{Queue: 3}})))
		m.pass(1100 * time.Millisecond) // the refresh
		var e mdp.StateEntry
		for len(p.got) > 0 {
			e = p.entry()
		}
		if e.Load.Idle != 2 {
			t.Errorf("a peer in need is offered what is idle: %+v", e)
		}
		c := m.client(b, "c")
		c.ask("s", "x")
		w.take()
		m.pass(20 * time.Millisecond)
		if e := p.entry(); e.Load.Idle != 1 {
			t.Errorf("idle that was offered is withdrawn: %+v", e)
		}
	})
}

func (p *peer) entry() (e mdp.StateEntry) {
	p.m.t.Helper()
	s := p.expect(mdp.State)
	if _, err := mdp.NextState(s.frames[s.Body], &e); err != nil {
		p.m.t.Fatal(err)
	}
	return e
}
