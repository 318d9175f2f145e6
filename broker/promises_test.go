package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// What docs/PROTOCOL.md promises in passing, so that others count on it.

// A client without HELLO has no session: nobody beats, and silence is no fault.
func TestWithoutHelloNobodyBeats(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.dial(b, "c", mdp.Client, mdp.Native)
		h := c.ask("s", "x")
		m.pass(2 * time.Minute)
		if n := len(c.beats); n > 0 {
			t.Errorf("%d heartbeats came", n)
		}
		w := m.worker(b, "s", 1)
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
	})
}

// A worker runs one at a time at least, whatever it says.
func TestNoCreditIsOne(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 0), m.client(b, "c")
		for range 2 {
			c.ask("s", "x")
			r := w.take()
			c.ask("s", "y")
			w.quiet()
			w.answer(r, "1")
			w.answer(w.take(), "2")
			w.send(mdp.Command{Kind: mdp.Credit}) // 0
		}
	})
}

// What a worker cannot say ends its session, what a client cannot say does not.
func TestCommandsInTheWrongPlace(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		for _, kind := range []mdp.Kind{mdp.Request, mdp.Cancel, mdp.Attach, mdp.Welcome} {
			w := m.worker(b, "s", 1)
			w.send(mdp.Command{Kind: kind, Service: []byte("s")})
			w.expect(mdp.Bye)
			w.gone()
		}
		c := m.client(b, "c")
		for _, kind := range []mdp.Kind{mdp.Partial, mdp.Final, mdp.Credit, mdp.Welcome, mdp.Drain} {
			c.send(mdp.Command{Kind: kind})
			c.quiet()
			c.alive()
		}
	})
}

// What was refused may come again with the token it had.
func TestTokenComesAgain(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		c.ask("s", "x")
		first := w.take()
		w.refuse(first, &mdp.Error{Status: mdp.NotTaken})
		m.pass(time.Second)
		if second := w.take(); second.Head.Token != first.Head.Token || second.Head.Attempt != 1 {
			t.Errorf("came again as %+v", second.Head)
		}
	})
}

// Of an answer with a status text and retry_ms are passed on, the flag is set, and the
// body is dropped; of one without, the map.
func TestWhatIsPassedOnOfAnAnswer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x")
		r := w.take()
		cmd := mdp.Command{Kind: mdp.Final, Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID}}
		cmd.SetError(&mdp.Error{Status: mdp.Busy, Text: "later", RetryAfter: time.Second})
		w.send(cmd, "body")
		m1 := c.answered(h, mdp.Busy, "")
		if e := m1.err().(*mdp.Error); !e.MayHaveRun || e.Text != "later" || e.RetryAfter != time.Second || m1.body() != "" {
			t.Errorf("%+v with body %q", e, m1.body())
		}
		h = c.ask("s", "x")
		cmd.Head = mdp.Head{Token: w.take().Head.Token} // the token alone counts
		w.send(cmd, "body")
		if got := c.answered(h, mdp.OK, "body"); got.Map != nil {
			t.Errorf("a map of %d octets", len(got.Map))
		}
	})
}

// The FINAL of a detached request is kept though it was passed on; its parts are not.
func TestDetachedAnswerIsKeptAlone(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x", flags(mdp.FlagDetached))
		r := w.take()
		w.partial(r, "part")
		w.answer(r, "end")
		c.expect(mdp.Partial)
		c.answered(h, mdp.OK, "end")
		for range 2 {
			h.Token++
			c.send(mdp.Command{Kind: mdp.Attach, Head: h})
			if got := c.answered(h, mdp.OK, "end"); got.Head.Attempt != 0 {
				t.Errorf("attempt %d", got.Head.Attempt)
			}
		}
	})
}
