package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// stalled gives a worker two requests: of the first, half is on its way, and not an
// octet of the second one behind it was written.
func stalled(m *mesh, b *Broker, c *peer, options ...requestOption) (half, unwritten mdp.Head) {
	m.worker(b, "s", 2)
	m.settle()
	m.net.Fault("b", "worker", memsock.Fault{Stall: true})
	half = c.ask("s", strings.Repeat("x", 1<<20), options...)
	m.settle()
	unwritten = c.ask("s", "y", options...)
	m.settle()
	return half, unwritten
}

// What was never written to a worker that went away cannot have run: it goes to
// another one without an attempt being counted, also what may run once only.
func TestUnwrittenIsGivenToAnother(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		half, unwritten := stalled(m, b, c, flags(mdp.FlagOnce))
		m.net.Reset("worker", "b")
		c.failed(half, mdp.WorkerLost, true)
		m.net.Heal("b", "worker")
		w := m.worker(b, "s", 1)
		r := w.take()
		if r.Head.ID != unwritten.ID || r.Head.Attempt != 1 || r.body() != "y" {
			t.Errorf("another worker got %+v %q", r.Head, r.body())
		}
		w.answer(r, "z")
		c.answered(unwritten, mdp.OK, "z")
		m.wantCount(b, "requests_unwritten", 1)
		m.wantCount(b, "redelivered", 0)
		m.empty(b)
	})
}

// Connections that end together, as after a pause, use up no attempts of what is
// given from one to the next before the broker knows.
func TestManyWorkersLeaveAtOnce(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		const workers = 2 * maxAttempts
		for range workers {
			m.worker(b, "s", 2)
		}
		m.net.Fault("b", "worker", memsock.Fault{Stall: true})
		for range workers {
			c.ask("s", strings.Repeat("x", 1<<20))
			m.settle()
		}
		unwritten := c.ask("s", "y")
		m.settle()
		m.net.Reset("worker", "b")
		c.quiet()
		m.net.Heal("b", "worker")
		w := m.worker(b, "s", workers+1)
		for range workers + 1 {
			r := w.take()
			want := uint16(2)
			if r.Head.ID == unwritten.ID {
				want = 1
			}
			if r.Head.Attempt != want {
				t.Errorf("attempt %d of a request of %d octets, want %d", r.Head.Attempt, len(r.body()), want)
			}
			w.answer(r, "z")
			c.expect(mdp.Final)
		}
		m.wantCount(b, "redelivered", workers)
		m.empty(b)
	})
}

// A linked broker that is lost before a request was written to it has not run it.
func TestUnwrittenToPeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w := m.worker(b, "s", 2)
		c := m.client(a, "c")
		m.pass(100 * time.Millisecond)
		m.net.Fault("a", "b", memsock.Fault{Stall: true})
		half := c.ask("s", strings.Repeat("x", 1<<20), flags(mdp.FlagOnce))
		m.settle()
		unwritten := c.ask("s", "y", flags(mdp.FlagOnce))
		m.settle()
		m.net.Reset("a", "b")
		c.failed(half, mdp.PeerLost, true)
		m.net.Heal("a", "b")
		r := w.take()
		if r.Head.ID != unwritten.ID || r.Head.Attempt != 1 {
			t.Errorf("the worker got %+v", r.Head)
		}
		w.answer(r, "z")
		c.answered(unwritten, mdp.OK, "z")
		m.empty(b)
	})
}

// A worker that says BYE right behind an answer was chosen for the next request, but
// that was never written: another one gets it, also if it may run once only.
func TestByeBehindAnAnswer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		first, second := c.ask("s", "1"), c.ask("s", "2", flags(mdp.FlagOnce))
		r := w.take()
		m.settle()
		var batch zsock.Batch
		w.write(&batch, mdp.Command{Kind: mdp.Final, Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID}}, "one")
		w.write(&batch, mdp.Command{Kind: mdp.Bye})
		batch.Flush()
		c.answered(first, mdp.OK, "one")
		w.gone()
		c.quiet()
		other := m.worker(b, "s", 1)
		r = other.take()
		if r.Head.ID != second.ID || r.Head.Attempt != 1 {
			t.Errorf("another worker got %+v", r.Head)
		}
		other.answer(r, "two")
		c.answered(second, mdp.OK, "two")
		m.wantCount(b, "requests_unwritten", 1)
		m.empty(b)
	})
}
