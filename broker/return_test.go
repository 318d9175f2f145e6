package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// What came over a link and waits goes back where it came from when there is room
// there, no more than that, and never what a worker has.
func TestWaitingGuestsGoBackToIdleWorkers(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		p := m.fakePeer(b, "p")
		p.ask("s", "runs", asID(1))
		running := w.take()
		p.ask("s", "waits", asID(2))
		m.pass(time.Millisecond)
		p.ask("s", "waits, too", asID(3))
		m.pass(10 * time.Millisecond)
		p.state("s", mdp.Load{Idle: 1, Workers: 4, MeanUs: 10_000})
		f := p.nextFinal()
		if mdp.Status(f.Head.Status) != mdp.NotTaken || f.Head.ID != (mdp.RequestID{1, 15: 2}) {
			t.Errorf("%v of %v came back", mdp.Status(f.Head.Status), f.Head.ID)
		}
		m.pass(100 * time.Millisecond)
		m.wantCount(b, "requests_returned", 1)
		w.answer(running, "y")
		if f := p.nextFinal(); mdp.Status(f.Head.Status) != mdp.OK {
			t.Errorf("%v", f.err())
		}
		if r := w.take(); r.body() != "waits, too" {
			t.Errorf("the worker got %q", r.body())
		}
	})
}

// The home of a request that comes back runs it itself, without an attempt more.
func TestReturnedRequestRunsAtHome(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		far := m.worker(b, "s", 1)
		c := m.client(a, "c")
		m.pass(100 * time.Millisecond)
		c.ask("s", "runs there")
		far.take()
		h := c.ask("s", "waits there")
		m.settle()
		m.wantCount(a, "offloaded", 2)
		m.pass(100 * time.Millisecond)
		home := m.worker(a, "s", 1)
		r := home.take()
		if r.Head.ID != h.ID || r.Head.Attempt != 1 {
			t.Errorf("the worker at home got %+v", r.Head)
		}
		home.answer(r, "y")
		c.answered(h, mdp.OK, "y")
		m.wantCount(b, "requests_returned", 1)
	})
}
