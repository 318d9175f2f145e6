package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Guests that wait beside a worker go home when the only one becomes suspect, as when it
// leaves: there may be workers there.
func TestGuestsGoHomeFromASuspect(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, p, c := m.worker(b, "s", 1), m.fakePeer(b, "p"), m.client(b, "c")
		m.settle()
		m.frozen(w)
		c.ask("s", "own")
		w.take()
		p.send(mdp.Command{Kind: mdp.Request, Service: []byte("s"), Head: mdp.Head{Token: 1, ID: mdp.RequestID{1}, Attempt: 1}}, "x")
		m.settle()
		if n := b.Services()[0].Queue; n != 1 {
			t.Fatalf("%d wait, want the guest", n)
		}
		began := time.Now()
		if f := p.nextFinal(); f.Head.Token != 1 || mdp.Status(f.Head.Status) != mdp.NotTaken {
			t.Errorf("the guest got %v", f.err())
		}
		if d := time.Since(began); d > 500*time.Millisecond {
			t.Errorf("after %v", d)
		}
		m.wantCount(b, "suspicions", 1)
	})
}

// A peer's request that a suspect holds is moved as quickly as our own: its home
// redelivers it, unless it must run once or a part of the answer has gone out.
func TestGuestAtASuspectGoesHome(t *testing.T) {
	for name, test := range map[string]struct {
		flags uint8
		part  bool
		moves bool
	}{
		"plain":                   {moves: true},
		"once":                    {flags: mdp.FlagOnce},
		"begun":                   {part: true},
		"begun, may be restarted": {part: true, flags: mdp.FlagRestartable, moves: true},
		"once, may be restarted":  {flags: mdp.FlagOnce | mdp.FlagRestartable},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				a, b := linked(m)
				w, c, local := m.worker(b, "s", 2), m.client(a, "c"), m.client(b, "local")
				m.pass(time.Second)
				h := c.ask("s", "x", flags(test.flags))
				r := w.take()
				if test.part {
					w.partial(r, "part")
					c.expect(mdp.Partial)
				}
				home := m.worker(a, "s", 1)
				m.settle()
				m.frozen(w)
				local.ask("s", "the clock starts", flags(mdp.FlagOnce))
				w.take()
				began := time.Now()
				if !test.moves {
					m.pass(500 * time.Millisecond)
					home.quiet()
					w.answer(r, "late, but the only one")
					c.answered(h, mdp.OK, "late, but the only one")
					return
				}
				again := home.take()
				if d := time.Since(began); d > 500*time.Millisecond {
					t.Errorf("moved after %v", d)
				}
				if again.Head.Attempt != 2 || again.Head.ID != h.ID {
					t.Errorf("redelivered as %+v", again.Head)
				}
				home.answer(again, "home")
				c.answered(h, mdp.OK, "home")
				w.expect(mdp.Cancel)
				w.answer(r, "late")
				c.quiet()
				m.wantCount(b, "late", 1)
				m.wantCount(a, "redelivered", 1)
				m.empty(a)
			})
		})
	}
}
