package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// What one peer can do to others, and cannot.

// A handler that began to answer has run: its NOT_TAKEN changes nothing of that.
func TestRefusalAfterPartial(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x", flags(mdp.FlagOnce))
		r := w.take()
		w.partial(r, "part")
		c.expect(mdp.Partial)
		w.refuse(r, mdp.Errorf(mdp.NotTaken, "never heard of it"))
		c.failed(h, mdp.WorkerLost, true)
		w.quiet()
		m.empty(b)
	})
}

// What a lost worker held goes on in the order it came, before what came later.
func TestRedeliveryKeepsOrder(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 50), m.client(b, "c")
		for i := range 60 {
			c.ask("s", fmt.Sprint(i))
			m.pass(time.Millisecond)
		}
		for range 50 {
			w.take()
		}
		w.close()
		m.settle()
		next := m.worker(b, "s", 60)
		for i := range 60 {
			if r := next.take(); r.body() != fmt.Sprint(i) {
				t.Fatalf("request %d is %q", i, r.body())
			}
		}
	})
}

// A detached request without a deadline, whose client has left and which nobody
// offers to do, does not stay for ever.
func TestAbandonedDetachedRequestsEnd(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		c.ask("nobody", "x", detach)
		m.settle()
		c.close()
		m.pass(59 * time.Second)
		if b.liveRequests() != 1 {
			t.Error("it was dropped too early")
		}
		m.pass(3 * time.Second)
		m.empty(b)
		w := m.worker(b, "s", 1) // one that runs has the limit of a busy worker
		c = m.client(b, "c")
		c.ask("s", "x", detach, asID(2))
		w.take()
		c.close()
		m.pass(14 * time.Minute)
		w.quiet()
		m.pass(2 * time.Minute)
		w.expect(mdp.Cancel)
	})
}

// One client cannot use up the places of all for detached requests.
func TestDetachedRequestsAreBoundedPerClient(t *testing.T) {
	var d detached
	d.init()
	id := func(n int) mdp.RequestID { return mdp.RequestID{byte(n), byte(n >> 8)} }
	for i := range maxDetachedOf {
		if err := d.open(id(i), &clientInfo{instance: "greedy"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.open(id(maxDetachedOf), &clientInfo{instance: "greedy"}); err == nil || err.Status != mdp.Busy {
		t.Errorf("one more: %v", err)
	}
	if err := d.open(id(maxDetachedOf), &clientInfo{instance: "modest"}); err != nil {
		t.Errorf("another client: %v", err)
	}
	d.drop(id(0))
	if err := d.open(id(0), &clientInfo{instance: "greedy"}); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

// Names made up in requests keep no worker from registering.
func TestWorkersHaveRoomForTheirNames(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxServices = 8 })
		c := m.client(b, "c")
		h := c.ask("unheard of", "x", flags(mdp.FlagNoWait))
		c.failed(h, mdp.NoWorker, false)
		if n := len(b.allServices()); n != 0 {
			t.Errorf("%d services remembered for a question", n)
		}
		for i := range 8 {
			c.ask(fmt.Sprint("made up ", i), "x")
		}
		c.failed(c.ask("one more", "x"), mdp.Busy, false)
		m.wantCount(b, "services_refused", 1)
		m.worker(b, "s", 1)
		if n := len(b.Workers()); n != 1 {
			t.Errorf("%d workers", n)
		}
	})
}

// Names made up in requests hide no service that a peer offers; those that a peer makes
// up as well keep no worker from registering.
func TestPeersHaveRoomForTheirNames(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", func(c *Config) { c.MaxServices = 8 })
		b := m.broker("b", peers("a"))
		m.up(a, 1)
		m.up(b, 1)
		bad, good := m.client(a, "bad"), m.client(a, "good")
		for i := range 8 {
			bad.ask(fmt.Sprint("made up ", i), "x")
		}
		bad.failed(bad.ask("one more", "x"), mdp.Busy, false)
		w := m.worker(b, "s", 1)
		m.pass(100 * time.Millisecond)
		h := good.ask("s", "x", within(5*time.Second))
		w.answer(w.take(), "y")
		good.answered(h, mdp.OK, "y")
		m.wantCount(a, "state_dropped", 0)

		p := m.fakePeer(a, "p")
		p.state("made up by a peer", mdp.Load{Workers: 1})
		m.settle()
		p.state("and another", mdp.Load{Workers: 1}) // the quarter is two
		m.wantCount(a, "state_dropped", 1)
		m.worker(a, "here", 1)
		m.worker(a, "here, too", 1)
	})
}

// A peer that repeats the HELLO of a linked one does not take its link.
func TestForgedHelloTakesNoLink(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		real := m.fakePeer(b, "p")
		h := b.upLinks()[0].peer.Load()
		forger := m.dial(b, "f", mdp.Peer, mdp.Native)
		forger.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "f", Name: h.Name, Incarnation: h.Incarnation})})
		if w := forger.expect(mdp.Welcome); mdp.Status(w.Head.Status) != mdp.Conflict {
			t.Errorf("the forger gets %v", mdp.Status(w.Head.Status))
		}
		real.alive()
	})
}
