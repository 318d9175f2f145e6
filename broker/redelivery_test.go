package broker

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Every way a worker can be lost gives what it held to another, with the next
// attempt number.
func TestRedelivery(t *testing.T) {
	for name, test := range map[string]struct {
		dialect mdp.Dialect
		lose    func(m *mesh, w *peer)
	}{
		"close":             {mdp.Native, func(_ *mesh, w *peer) { w.close() }},
		"bye":               {mdp.Native, func(_ *mesh, w *peer) { w.send(mdp.Command{Kind: mdp.Bye}) }},
		"second hello":      {mdp.Native, func(_ *mesh, w *peer) { w.send(mdp.Command{Kind: mdp.Hello, Service: []byte("s")}) }},
		"silence":           {mdp.Native, func(m *mesh, w *peer) { w.mute.Store(true); m.pass(4 * time.Second) }},
		"foreign close":     {mdp.V01, func(_ *mesh, w *peer) { w.close() }},
		"DISCONNECT of 0.1": {mdp.V01, func(_ *mesh, w *peer) { w.send(mdp.Command{Kind: mdp.Disconnect}) }},
		"DISCONNECT of 0.2": {mdp.V02, func(_ *mesh, w *peer) { w.send(mdp.Command{Kind: mdp.Disconnect}) }},
		"second READY":      {mdp.V01, func(_ *mesh, w *peer) { w.send(mdp.Command{Kind: mdp.Ready, Service: []byte("s")}) }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				var one *peer
				if test.dialect == mdp.Native {
					one = m.worker(b, "s", 1)
				} else {
					one = m.foreignWorker(b, "s", test.dialect)
				}
				c := m.client(b, "c")
				h := c.ask("s", "x")
				one.take()
				two := m.worker(b, "s", 1)
				test.lose(m, one)
				r := two.take()
				if r.Head.Attempt != 2 || r.Head.ID != h.ID || r.body() != "x" {
					t.Errorf("redelivered %+v %q", r.Head, r.body())
				}
				two.answer(r, "y")
				if f := c.answered(h, mdp.OK, "y"); f.Head.Attempt != 2 {
					t.Errorf("answered by attempt %d", f.Head.Attempt)
				}
				m.wantCount(b, "redelivered", 1)
				m.empty(b)
			})
		})
	}
}

func TestThreeAttempts(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		h := c.ask("s", "poison")
		for attempt := uint16(1); attempt <= 3; attempt++ {
			w := m.worker(b, "s", 1, func(h *mdp.HelloMap) { h.Host, h.PID = "mill", int(attempt) })
			if r := w.take(); r.Head.Attempt != attempt {
				t.Errorf("attempt %d, want %d", r.Head.Attempt, attempt)
			}
			w.close()
		}
		c.failed(h, mdp.WorkerLost, true)
		p := b.State().Poison
		if len(p) != 1 || p[0].ID != h.ID.String() || p[0].Attempts != 3 || p[0].Service != "s" {
			t.Fatalf("poison %+v", p)
		}
		if !strings.HasSuffix(p[0].Worker, "(pid 3 on mill)") || p[0].Reason == "" {
			t.Errorf("the last worker is given as %q, the reason as %q", p[0].Worker, p[0].Reason)
		}
		m.empty(b)
	})
}

// The tries that a client has made elsewhere count.
func TestAttemptsElsewhereCount(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		h := c.ask("s", "x", func(h *mdp.Head) { h.Attempt = 2 })
		for _, attempt := range []uint16{2, 3} {
			w := m.worker(b, "s", 1)
			if r := w.take(); r.Head.Attempt != attempt {
				t.Errorf("attempt %d, want %d", r.Head.Attempt, attempt)
			}
			w.close()
		}
		c.failed(h, mdp.WorkerLost, true)
		if p := b.State().Poison; len(p) != 1 || p[0].Attempts != 3 {
			t.Errorf("poison %+v", p)
		}
		m.empty(b)
	})
}

// What runs once has no other tries to use up, and a guest's are its home's affair.
func TestWhatIsNoPoison(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c, p := m.client(b, "c"), m.fakePeer(b, "p")
		third := func(h *mdp.Head) { h.Attempt = 3 }
		w := m.worker(b, "s", 1)
		h := c.ask("s", "x", third, flags(mdp.FlagOnce))
		w.take()
		w.close()
		c.failed(h, mdp.WorkerLost, true)
		w = m.worker(b, "s", 1)
		m.settle()
		p.send(mdp.Command{Kind: mdp.Request, Service: []byte("s"), Head: mdp.Head{Token: 1, Attempt: 3, ID: mdp.RequestID{2}}}, "x")
		w.take()
		w.close()
		if err := p.nextFinal().err(); !errors.Is(err, mdp.WorkerLost) {
			t.Errorf("the peer is told %v", err)
		}
		if poison := b.State().Poison; len(poison) > 0 {
			t.Errorf("poison %+v", poison)
		}
	})
}

func TestPoisonRingIsBounded(t *testing.T) {
	b, err := New(Config{Listen: []string{"tcp://x:1"}})
	if err != nil {
		t.Fatal(err)
	}
	s := newService(b, "s")
	for i := range poisonKept + 5 {
		s.poisoned(&request{service: s, id: mdp.RequestID{15: byte(i)}}, "died")
	}
	if len(b.poison) != poisonKept || b.poison[0].ID != (mdp.RequestID{15: 5}).String() {
		t.Errorf("%d kept, the first is %s", len(b.poison), b.poison[0].ID)
	}
}

func TestOnceIsNeverRedelivered(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		one, two := m.worker(b, "s", 1), m.worker(b, "s", 1)
		c := m.client(b, "c")
		h := c.ask("s", "x", flags(mdp.FlagOnce))
		if r := one.take(); r.Head.Flags&mdp.FlagOnce == 0 {
			t.Error("the worker is not told that the request is once")
		}
		one.close()
		c.failed(h, mdp.WorkerLost, true)
		two.quiet()
		if len(b.State().Poison) != 0 {
			t.Error("one lost attempt is no poison")
		}
	})
}

func TestAfterPartialOnlyRestartable(t *testing.T) {
	for name, restartable := range map[string]bool{"plain": false, "restartable": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				one, two := m.worker(b, "s", 1), m.worker(b, "s", 1)
				c := m.client(b, "c")
				var f uint8
				if restartable {
					f = mdp.FlagRestartable
				}
				h := c.ask("s", "x", flags(f))
				one.partial(one.take(), "part")
				c.expect(mdp.Partial)
				one.close()
				if !restartable {
					c.failed(h, mdp.WorkerLost, true)
					two.quiet()
					return
				}
				r := two.take()
				two.partial(r, "again")
				if p := c.expect(mdp.Partial); p.Head.Attempt != 2 {
					t.Errorf("partial of attempt %d, want 2", p.Head.Attempt)
				}
				two.answer(r, "end")
				c.answered(h, mdp.OK, "end")
			})
		})
	}
}

// A partial that was only collected, for MDP/0.1, was not forwarded: the request
// is redelivered, and what was collected is forgotten.
func TestCollectedPartialsAreForgottenOnRedelivery(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		one, two := m.worker(b, "s", 1), m.worker(b, "s", 1)
		c := m.dial(b, "c", mdp.Client, mdp.V01)
		c.send(mdp.Command{Kind: mdp.Request, Service: []byte("s")}, "x")
		one.partial(one.take(), "old")
		m.settle()
		one.close()
		r := two.take()
		two.partial(r, "new")
		two.answer(r, "end")
		if f := c.expect(mdp.Final); f.body() != "new|end" {
			t.Errorf("got %q", f.body())
		}
		m.empty(b)
	})
}

func TestNotTakenDoesNotCount(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.client(b, "c")
		h := c.ask("s", "x", flags(mdp.FlagOnce)) // also what must run once goes elsewhere
		for range 5 {
			r := w.take()
			if r.Head.Attempt != 1 {
				t.Errorf("attempt %d", r.Head.Attempt)
			}
			w.refuse(r, &mdp.Error{Status: mdp.NotTaken})
		}
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
		m.empty(b)
	})
}

func TestRefusalsEnd(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.client(b, "c")
		h := c.ask("s", "x")
		for range maxRefusals {
			w.refuse(w.take(), &mdp.Error{Status: mdp.NotTaken})
			m.pass(time.Second) // it has a rest
		}
		if e := c.failed(h, mdp.Busy, false); e.RetryAfter <= 0 {
			t.Error("BUSY without retry_ms")
		}
		w.quiet()
		m.empty(b)
	})
}

// Redelivered requests keep their age: they go before younger ones.
func TestRedeliveredGoFirst(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 3)
		c := m.client(b, "c")
		for _, body := range []string{"1", "2", "3", "4", "5"} {
			c.ask("s", body)
			m.pass(time.Millisecond)
		}
		w.close()
		m.settle()
		two := m.worker(b, "s", 5)
		for _, want := range []string{"1", "2", "3", "4", "5"} {
			if r := two.take(); r.body() != want {
				t.Errorf("got %s, want %s", r.body(), want)
			}
		}
	})
}

// twoHolders gives a request to one worker, which is silent, and so to two as well.
func twoHolders(m *mesh) (b *Broker, one, two, c *peer, h mdp.Head, r1, r2 *message) {
	m.t.Helper()
	b = m.broker("b")
	one = m.worker(b, "s", 1)
	c = m.client(b, "c")
	m.settle()
	one.mute.Store(true)
	h = c.ask("s", "x")
	r1 = one.take()
	m.pass(500 * time.Millisecond)
	one.expect(mdp.Cancel) // behind the request, before anybody else has it
	two = m.worker(b, "s", 1)
	return b, one, two, c, h, r1, two.take()
}

func TestFirstAnswerWins(t *testing.T) {
	for name, firstWins := range map[string]bool{"the first holder": true, "the second": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b, one, two, c, h, r1, r2 := twoHolders(m)
				winner, loser, won, lost, attempt := one, two, r1, r2, uint16(1)
				if !firstWins {
					winner, loser, won, lost, attempt = two, one, r2, r1, 2
				}
				winner.answer(won, "winner")
				if f := c.answered(h, mdp.OK, "winner"); f.Head.Attempt != attempt {
					t.Errorf("answered by attempt %d, want %d", f.Head.Attempt, attempt)
				}
				if firstWins {
					loser.expect(mdp.Cancel) // the other one was told before
				}
				loser.answer(lost, "late")
				c.quiet()
				m.wantCount(b, "late", 1)
				m.wantCount(b, "answered", 1)
				m.empty(b)
				m.pass(time.Second)
				for range 2 { // both have room again, and are trusted
					c.ask("s", "y")
				}
				winner.take()
				loser.take()
			})
		})
	}
}

func TestFirstPartialClaims(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, one, two, c, h, r1, r2 := twoHolders(m)
		two.partial(r2, "a")
		one.partial(r1, "b") // may not be mixed in
		one.answer(r1, "c")
		if p := c.expect(mdp.Partial); p.body() != "a" || p.Head.Attempt != 2 {
			t.Errorf("partial %q of attempt %d", p.body(), p.Head.Attempt)
		}
		c.quiet()
		two.answer(r2, "d")
		c.answered(h, mdp.OK, "d")
		m.empty(b)
	})
}

func TestOneHolderOfTwoLost(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, one, two, c, h, _, r2 := twoHolders(m)
		one.close()
		c.quiet()
		m.wantCount(b, "redelivered", 1) // by suspicion, not again
		two.answer(r2, "y")
		c.answered(h, mdp.OK, "y")
		m.empty(b)
	})
}
