package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// frozen stops a worker as SIGSTOP does: what it is sent waits at its host, and
// it says nothing until thaw.
func (m *mesh) frozen(w *peer) { w.mute.Store(true) }

// An idle worker that was stopped gets a request. It moves within 500 ms, the
// worker is parked until it speaks, and starts nothing when it wakes.
func TestStoppedIdleWorker(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		stopped, other := m.worker(b, "s", 1), m.worker(b, "s", 1)
		c := m.client(b, "c")
		m.pass(10 * time.Second)
		m.frozen(stopped)
		began := time.Now()
		h := c.ask("s", "x")
		r1 := stopped.take() // at its host, unread
		r2 := other.take()
		if d := time.Since(began); d > 500*time.Millisecond {
			t.Errorf("moved after %v", d)
		}
		if r2.Head.Attempt != 2 || r2.Head.ID != h.ID {
			t.Errorf("redelivered as %+v", r2.Head)
		}
		other.answer(r2, "y")
		c.answered(h, mdp.OK, "y")
		if w := b.Workers(); w[0].Suspect == w[1].Suspect {
			t.Errorf("one of two is suspect: %+v", w)
		}
		for range 3 { // parked: all goes to the other one
			h = c.ask("s", "x")
			other.answer(other.take(), "y")
			c.answered(h, mdp.OK, "y")
		}
		m.wantCount(b, "redelivered", 1)
		m.wantCount(b, "suspicions", 1)

		stopped.mute.Store(false) // it reads REQUEST and CANCEL at once
		stopped.expect(mdp.Cancel)
		stopped.refuse(r1, &mdp.Error{Status: mdp.NotTaken})
		m.pass(50 * time.Millisecond)
		one, two := c.ask("s", "1"), c.ask("s", "2")
		stopped.answer(stopped.take(), "y")
		other.answer(other.take(), "y")
		c.expect(mdp.Final)
		c.expect(mdp.Final)
		_, _ = one, two
		m.wantCount(b, "late", 0)
		m.wantCount(b, "answered", 6)
		m.empty(b)
	})
}

// A worker is stopped while it works. Its request is run again within
// 4 s; its own answer, after 6 s, is late, and the client gets exactly one.
func TestStoppedBusyWorker(t *testing.T) {
	for name, answer := range map[string]func(w *peer, r *message){
		"it has finished":    func(w *peer, r *message) { w.answer(r, "late") },
		"it was interrupted": func(w *peer, r *message) { w.refuse(r, &mdp.Error{Status: mdp.Cancelled}) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				stopped := m.worker(b, "s", 1)
				c := m.client(b, "c")
				h := c.ask("s", "x")
				r1 := stopped.take()
				other := m.worker(b, "s", 1)
				m.pass(5 * time.Second) // at work, answering probes
				other.quiet()
				m.frozen(stopped)
				began := time.Now()
				r2 := other.take()
				if d := time.Since(began); d > 4*time.Second {
					t.Errorf("moved after %v", d)
				}
				other.answer(r2, "y")
				c.answered(h, mdp.OK, "y")
				m.pass(6*time.Second - time.Since(began))
				stopped.alive() // parked, not closed
				stopped.mute.Store(false)
				stopped.expect(mdp.Cancel)
				answer(stopped, r1)
				c.quiet()
				m.wantCount(b, "late", 1)
				m.wantCount(b, "redelivered", 1)
				m.wantCount(b, "answered", 1)
				m.pass(time.Minute)
				stopped.alive()
				m.empty(b)
			})
		})
	}
}

// What must run once stays with a suspect, until that is lost.
func TestOnceStaysWithASuspect(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, other := m.worker(b, "s", 2), m.worker(b, "s", 1)
		c := m.client(b, "c")
		m.settle()
		m.frozen(w)
		once := c.ask("s", "once", flags(mdp.FlagOnce))
		r := w.take()
		m.pass(2 * time.Second)
		m.wantCount(b, "suspicions", 1)
		other.quiet()
		w.quiet() // no CANCEL either
		w.answer(r, "y")
		c.answered(once, mdp.OK, "y")

		m.pass(100 * time.Millisecond) // trusted again: it spoke
		other.close()
		once = c.ask("s", "once", flags(mdp.FlagOnce))
		r = w.take()
		m.pass(2 * time.Second)
		c.quiet()
		m.pass(2 * time.Second)
		c.failed(once, mdp.WorkerLost, true)
		w.expect(mdp.Cancel)
		w.answer(r, "late")
		c.quiet()
		m.wantCount(b, "late", 1)
		m.empty(b)
	})
}

// With nobody else to take it the request waits, and the suspect gets it again when
// it wakes up; it started none of the first, so that does not count as a try.
func TestSuspectThatIsAlone(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 2)
		c := m.client(b, "c")
		m.settle()
		for range 5 {
			m.frozen(w)
			h := c.ask("s", "x")
			r := w.take()
			m.pass(time.Second)
			w.expect(mdp.Cancel)
			w.quiet()
			w.mute.Store(false)
			w.refuse(r, &mdp.Error{Status: mdp.NotTaken})
			r = w.take()
			if r.Head.Attempt != 1 {
				t.Errorf("attempt %d", r.Head.Attempt)
			}
			w.answer(r, "y")
			c.answered(h, mdp.OK, "y")
		}
		m.empty(b)
	})
}

// A worker that holds a request it was told to cancel does not get the same one
// again beside it, and others do not wait for that.
func TestHolderDoesNotGetItsOwnAgain(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 2)
		c := m.client(b, "c")
		m.settle()
		m.frozen(w)
		first := c.ask("s", "1")
		r := w.take()
		m.pass(time.Second)
		w.expect(mdp.Cancel)
		w.send(mdp.Command{Kind: mdp.Heartbeat}) // it wakes, and its handler ignores the CANCEL
		m.pass(100 * time.Millisecond)
		w.mute.Store(false)
		w.quiet()
		second := c.ask("s", "2")
		w.answer(w.take(), "two")
		c.answered(second, mdp.OK, "two")
		w.answer(r, "one")
		c.answered(first, mdp.OK, "one")
		m.wantCount(b, "late", 0)
		m.empty(b)
	})
}

// Parts of an answer that a suspect sent are not mixed with another's.
func TestSuspectInTheMiddleOfAnAnswer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.dial(b, "c", mdp.Client, mdp.V01) // its partials are collected
		c.send(mdp.Command{Kind: mdp.Request, Service: []byte("s")}, "x")
		r := w.take()
		w.partial(r, "old")
		m.settle()
		m.frozen(w)
		m.pass(4 * time.Second)
		w.expect(mdp.Cancel)
		w.partial(r, "more")
		w.answer(r, "end")
		other := m.worker(b, "s", 1)
		r = other.take()
		other.partial(r, "new")
		other.answer(r, "end")
		if f := c.expect(mdp.Final); f.body() != "new|end" {
			t.Errorf("got %q", f.body())
		}
		m.wantCount(b, "late", 1)
		m.empty(b)
	})
}

// A PARTIAL of a worker that was told to cancel is of no use: the rest will not come.
func TestPartialOfASuspect(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, one, two, c, h, r1, r2 := twoHolders(m)
		one.partial(r1, "cut short")
		c.quiet()
		m.wantCount(b, "partials_dropped", 1)
		one.answer(r1, "rest")
		c.quiet()
		m.wantCount(b, "late", 1)
		two.answer(r2, "whole")
		c.answered(h, mdp.OK, "whole")
		m.empty(b)
	})
}

// A worker that stays away is ended in the end.
func TestParkedWorkerEnds(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		m.settle()
		m.frozen(w)
		h := c.ask("s", "x")
		m.pass(29 * time.Second)
		w.alive()
		m.pass(3 * time.Second)
		w.gone()
		other := m.worker(b, "s", 1)
		other.answer(other.take(), "y")
		c.answered(h, mdp.OK, "y")
		m.wantCount(b, "sessions_expired", 1)
		m.empty(b)
	})
}

// A worker whose answer to CANCEL was lost on the way would never have room again:
// its session ends, and the next one begins with empty hands.
func TestLostFinalsDoNotTakePlaces(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 2), m.client(b, "c")
		one, two := c.ask("s", "1"), c.ask("s", "2")
		w.take()
		r := w.take()
		c.cancelRequest(one)
		w.expect(mdp.Cancel)
		m.pass(time.Minute)
		w.alive() // it holds something else as well
		w.answer(r, "y")
		c.answered(two, mdp.OK, "y")
		m.pass(9 * time.Second)
		w.alive()
		m.pass(3 * time.Second)
		w.gone()
		m.empty(b)
	})
}

// The time in which a worker may answer its CANCELs begins when it speaks again: one
// that was stopped for half of what it may be finds its way back.
func TestStoppedWorkerIsNotHollow(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		m.settle()
		m.frozen(w)
		h := c.ask("s", "x")
		r := w.take()
		m.pass(20 * time.Second)
		w.expect(mdp.Cancel)
		w.mute.Store(false)
		w.send(mdp.Command{Kind: mdp.Heartbeat})
		for range 9 {
			m.pass(time.Second)
			w.send(mdp.Command{Kind: mdp.Heartbeat})
		}
		w.alive()
		w.refuse(r, &mdp.Error{Status: mdp.NotTaken})
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
		m.empty(b)
	})
}
