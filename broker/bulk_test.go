package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// many is more answers than a portion, and more messages than a queue once took.
const many = 12_000

// askMany asks for many things at once.
func (p *peer) askMany(service string, options ...requestOption) {
	p.m.t.Helper()
	for range many {
		p.ask(service, "x", options...)
	}
	p.m.settle()
}

// toldAll fails the test unless so many answers of this status came, and no other.
func (p *peer) toldAll(n int, status mdp.Status, mayHaveRun bool) {
	p.m.t.Helper()
	p.alive()
	for range n {
		select {
		case f := <-p.got:
			if f.Kind != mdp.Final || mdp.Status(f.Head.Status) != status || f.Head.Flags&mdp.FlagMayHaveRun != 0 != mayHaveRun {
				p.m.t.Fatalf("got %v %v", f.Kind, f.err())
			}
		default:
			p.m.t.Fatalf("fewer than %d answers came", n)
		}
	}
	p.quiet()
}

// However many answers a client that reads is owed at the same moment, it gets them.
func TestManyDeadlinesAtOnce(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		c.askMany("nobody", within(time.Second))
		m.pass(2 * time.Second)
		c.toldAll(many, mdp.Expired, false)
		m.wantCount(b, "answers_dropped", 0)
		m.empty(b)
	})
}

func TestDrainWithManyWaiting(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, stop := m.mortal("b")
		w, c := m.worker(b, "other", 1), m.client(b, "c")
		h := c.ask("other", "keeps the drain going")
		r := w.take()
		c.askMany("nobody")
		go stop()
		m.pass(100 * time.Millisecond)
		c.expect(mdp.Drain)
		c.toldAll(many, mdp.NotTaken, false)
		w.answer(r, "y")
		c.answered(h, mdp.OK, "y")
	})
}

func TestDrainThatGivesManyUp(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, stop := m.mortal("b")
		w, c := m.worker(b, "s", many), m.client(b, "c")
		c.askMany("s")
		go stop()
		m.pass(100 * time.Millisecond)
		c.expect(mdp.Drain)
		for range many {
			w.take()
		}
		m.pass(10 * time.Second)
		for range many {
			if e := c.expect(mdp.Final).err().(*mdp.Error); e.Status != mdp.BrokerLost || !e.MayHaveRun {
				t.Fatal(e)
			}
		}
		c.expect(mdp.Bye)
	})
}

func TestManyGuestsAreTurnedAway(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		c.askMany("s")
		m.pass(time.Second)
		link := a.upLinks()[0]
		if n := b.liveRequests(); n != many {
			t.Fatalf("%d are at the other broker", n)
		}
		w.close()
		m.pass(time.Second)
		if links := a.upLinks(); len(links) != 1 || links[0] != link {
			t.Error("the link was cut")
		}
		if here, there := a.liveRequests(), b.liveRequests(); here != many || there != 0 {
			t.Errorf("%d requests at home and %d at the other broker", here, there)
		}
		m.wantCount(b, "answers_dropped", 0)
	})
}

// While guests are turned away for the sake of a worker that runs what it gets at most
// once, it gets none of them.
func TestNoGuestIsHandedOutWhileTheyAreTurnedAway(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		first, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		c.askMany("s")
		m.pass(time.Second)
		first.take()
		second := m.worker(b, "s", many, func(h *mdp.HelloMap) { h.Once = true })
		m.settle()
		if len(second.got) > 0 {
			t.Fatal("it got requests whose home does not know that they are not to run twice")
		}
		m.pass(time.Second)
		got := 0
		for ; len(second.got) > 0; got++ {
			second.take()
		}
		if got != many-1 {
			t.Errorf("%d come back", got) // their home marks them, and sends them again
		}
	})
}

// Of a client that has gone, a worker is told of each request.
func TestManyAreCancelled(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", many), m.client(b, "c")
		c.askMany("s")
		for range many {
			w.take()
		}
		c.close()
		m.pass(time.Second)
		for range many {
			w.expect(mdp.Cancel)
		}
		m.wantCount(b, "control_dropped", 0)
	})
}
