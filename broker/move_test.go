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
		m.wantCount(b, "returned", 1)
		m.wantCount(b, "failed", 0)
	})
}

// askInTurn sends requests with ids from 1 on, 10 ms apart.
func (p *peer) askInTurn(bodies ...string) {
	p.m.t.Helper()
	for i, body := range bodies {
		p.ask("s", body, asID(byte(i+1)))
		p.m.pass(10 * time.Millisecond)
	}
}

// Of what waits here, the first one that has another before it goes to a busy peer where
// all that wait came later; where one is as old, nothing does.
func TestOlderRequestsGoWhereTheyAreNext(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c, p := m.worker(b, "s", 1), m.client(b, "c"), m.fakePeer(b, "p")
		c.askInTurn("runs", "next", "second", "third")
		w.take()
		busy := mdp.Load{Workers: 1, MeanUs: 1_000}
		busy.Queue, busy.WaitedUs = 1, 60_000
		p.ask("s", "older", asID(9), func(h *mdp.Head) { h.Load = busy })
		m.pass(10 * time.Millisecond)
		m.wantCount(b, "offloaded", 0) // the peer's is older than all here

		p.state("s", mdp.Load{Workers: 1, MeanUs: 1_000}) // nothing waits there any more
		r := p.nextRequest()
		if r.body() != "second" {
			t.Errorf("%q went, want the second", r.body())
		}
		m.pass(10 * time.Millisecond)
		m.wantCount(b, "offloaded", 1) // that one is the oldest there now
	})
}

// Where no worker has come free for much longer than usual, the next one goes as well.
// What goes to a peer out of its turn leaves its client the turn of what came first.
func TestWhoGoesOutOfTurnTakesNone(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, x, y, p := m.worker(b, "s", 1), m.client(b, "x"), m.client(b, "y"), m.fakePeer(b, "p")
		x.ask("s", "runs")
		slow := w.take()
		m.pass(50 * time.Millisecond) // in the mean, so that a turn has one request, and nobody is stalled yet
		w.answer(slow, "done")
		x.expect(mdp.Final)
		y.askInTurn("runs, too")
		slow = w.take()
		x.askInTurn("first of x", "second of x")
		y.askInTurn("first of y")
		m.pass(30 * time.Millisecond)
		p.state("s", mdp.Load{Workers: 1, MeanUs: 50_000})
		if r := p.nextRequest(); r.body() != "second of x" {
			t.Errorf("%q went, want the second of x", r.body())
		}
		w.answer(slow, "done")
		if r := w.take(); r.body() != "first of x" {
			t.Errorf("%q is next here, want the first of x", r.body())
		}
	})
}

func TestNextOneLeavesStalledWorkers(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c, p := m.worker(b, "s", 1), m.client(b, "c"), m.fakePeer(b, "p")
		quick := c.ask("s", "quick")
		r := w.take()
		m.pass(10 * time.Millisecond)
		w.answer(r, "y")
		c.answered(quick, mdp.OK, "y")
		c.ask("s", "long")
		w.take()
		c.ask("s", "next")
		busy := mdp.Load{Workers: 1, MeanUs: 10_000}
		m.pass(20 * time.Millisecond)
		p.state("s", busy)
		m.pass(time.Millisecond)
		m.wantCount(b, "offloaded", 0) // a service takes 10 ms
		m.pass(20 * time.Millisecond)
		p.state("s", busy)
		if r := p.nextRequest(); r.body() != "next" {
			t.Errorf("%q went, want the next one", r.body())
		}
	})
}

// What a peer lent goes back by its age as well, as it may not go over a hop.
func TestOlderGuestsGoHome(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, p := m.worker(b, "s", 1), m.fakePeer(b, "p")
		p.askInTurn("runs", "next", "second")
		w.take()
		p.state("s", mdp.Load{Workers: 4, MeanUs: 1_000})
		f := p.nextFinal()
		if mdp.Status(f.Head.Status) != mdp.NotTaken || f.Head.ID != (mdp.RequestID{1, 15: 3}) {
			t.Errorf("%v of %v came back", mdp.Status(f.Head.Status), f.Head.ID)
		}
		if f.Head.Load.WaitedUs < 20_000 {
			t.Errorf("told that the oldest one waits for %d us", f.Head.Load.WaitedUs)
		}
		m.pass(10 * time.Millisecond)
		m.wantCount(b, "requests_returned", 1)
	})
}

// A request that comes back again and again stays at home.
func TestNoRequestIsHandedAboutForEver(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c, p := m.worker(b, "s", 1), m.client(b, "c"), m.fakePeer(b, "p")
		c.askInTurn("runs", "next", "second")
		w.take()
		p.state("s", mdp.Load{Workers: 1, MeanUs: 1_000})
		for seen := range uint32(maxReturns) {
			r := p.nextRequest()
			p.sendBack(r, mdp.Load{Workers: 1, MeanUs: 1_000, Seen: seen + 1})
		}
		m.pass(100 * time.Millisecond)
		m.wantCount(b, "offloaded", maxReturns)
		if n := b.Services()[0].Queue; n != 2 {
			t.Errorf("%d queued, want both", n)
		}
	})
}

// A request that idle peers send back again and again is run at home in the end: moved
// about, it does not fail.
func TestSentBackIsNotTheEnd(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c, p := m.worker(b, "s", 1), m.client(b, "c"), m.fakePeer(b, "p")
		c.ask("s", "runs")
		running := w.take()
		p.state("s", mdp.Load{Idle: 1, Workers: 1})
		m.settle()
		h := c.ask("s", "goes about")
		for seen := range uint32(maxAway) {
			r := p.nextRequest()
			p.sendBack(r, mdp.Load{Idle: 1, Workers: 1, Seen: seen + 1})
		}
		m.pass(time.Second)
		m.wantCount(b, "offloaded", maxAway)
		w.answer(running)
		c.expect(mdp.Final)
		r := w.take()
		if r.Head.ID != h.ID || r.Head.Attempt != 1 {
			t.Errorf("the worker at home got %+v", r.Head)
		}
		w.answer(r, "y")
		c.answered(h, mdp.OK, "y")
	})
}

// Which request is the next one of guests its age tells, not the order of their lines:
// one whose line is the first may go where it is next.
func TestGuestOfTheFirstLineGoes(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		p, q, x := m.fakePeer(b, "p"), m.fakePeer(b, "q"), m.fakePeer(b, "x")
		c.ask("s", "runs")
		w.take()
		p.ask("s", "second", asID(1), func(h *mdp.Head) { h.Hops = 1 })
		q.ask("s", "next", asID(2), func(h *mdp.Head) { h.Hops, h.Load.ElapsedMs = 1, 50 })
		m.pass(10 * time.Millisecond)
		m.wantCount(b, "offloaded", 0)
		x.state("s", mdp.Load{Workers: 1, MeanUs: 1_000})
		if r := x.nextRequest(); r.body() != "second" {
			t.Errorf("%q went, want the second", r.body())
		}
	})
}
