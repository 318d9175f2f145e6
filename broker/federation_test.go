package broker

import (
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

// crossed returns two brokers that dial each other at the same moment: neither link
// is complete before the other one begins, which takes a way that takes time, and
// two that listen before either dials.
func crossed(m *mesh) (a, b *Broker) {
	m.t.Helper()
	m.net.Fault("a", "b", memsock.Fault{Delay: 20 * time.Millisecond})
	m.net.Fault("b", "a", memsock.Fault{Delay: 20 * time.Millisecond})
	a, b = m.broker("a"), m.broker("b")
	m.settle()
	m.setPeers(a, "b")
	m.setPeers(b, "a")
	return a, b
}

// setPeers makes a broker that runs dial others by their names.
func (m *mesh) setPeers(b *Broker, names ...string) {
	m.t.Helper()
	var cfg Config
	peers(names...)(&cfg)
	if err := b.SetPeers(cfg.Peers); err != nil {
		m.t.Fatal(err)
	}
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

// A worker's own wish to run what it is given once holds over a link, too.
func TestOnceWorkerAtPeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(b, "s", 1, func(h *mdp.HelloMap) { h.Once = true }), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x")
		w.take()
		home := m.worker(a, "s", 1)
		w.close()
		c.failed(h, mdp.WorkerLost, true)
		home.quiet()
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
