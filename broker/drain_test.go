package broker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func TestDrain(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, stop := m.mortal("b")
		w, fw := m.worker(b, "s", 1), m.foreignWorker(b, "f", mdp.V01)
		c, fc := m.client(b, "c"), m.dial(b, "fc", mdp.Client, mdp.V02)
		running, queued := c.ask("s", "running"), c.ask("s", "queued")
		r := w.take()
		for _, body := range []string{"1", "2"} { // one runs, one waits
			fc.send(mdp.Command{Kind: mdp.Request, Service: []byte("f")}, body)
		}
		fr := fw.take()
		m.settle() // the other one is in, too
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()

		w.expect(mdp.Drain)
		c.expect(mdp.Drain)
		c.failed(queued, mdp.NotTaken, false)
		c.failed(c.ask("s", "new"), mdp.NotTaken, false)
		fc.send(mdp.Command{Kind: mdp.Request, Service: []byte("f")}, "new")
		m.wantCount(b, "foreign_unanswered", 1)
		w.answer(r, "done")
		c.answered(running, mdp.OK, "done")
		w.send(mdp.Command{Kind: mdp.Bye})
		w.gone()
		fw.answer(fr, "one")
		if f := fc.expect(mdp.Final); f.body() != "one" {
			t.Errorf("got %q", f.body())
		}
		second := fw.take() // foreign ones are served to the end
		fw.quiet()
		fw.answer(second, "two")
		if f := fc.expect(mdp.Final); f.body() != "two" {
			t.Errorf("got %q", f.body())
		}
		fw.expect(mdp.Disconnect)
		c.expect(mdp.Bye)
		<-stopped
		fw.gone()
		c.gone()
		m.empty(b)
	})
}

func TestDrainWithoutWorkEndsAtOnce(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, stop := m.mortal("b")
		c := m.dial(b, "c", mdp.Client, mdp.V01)
		c.send(mdp.Command{Kind: mdp.Request, Service: []byte("nobody")}, "x") // nothing will ever answer it
		m.settle()
		began := time.Now()
		stop()
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestDrainTimeout(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, stop := m.mortal("b", func(c *Config) { c.DrainTimeout = 5 * time.Second })
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x")
		w.take()
		began := time.Now()
		stop()
		if d := time.Since(began); d < 5*time.Second || d > 8*time.Second {
			t.Errorf("took %v", d)
		}
		w.expect(mdp.Drain)
		w.expect(mdp.Cancel)
		w.expect(mdp.Bye)
		c.expect(mdp.Drain)
		c.failed(h, mdp.BrokerLost, true)
		c.expect(mdp.Bye)
	})
}

// A request that crosses a peer's DRAIN comes back, and the link lives on for what the
// peer still has to finish.
func TestRequestCrossesDrain(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", peers("b"))
		b, stop := m.mortal("b")
		m.up(a, 1)
		w, c := m.worker(b, "s", 4), m.client(a, "c")
		m.pass(500 * time.Millisecond)
		slow := c.ask("s", "slow", flags(mdp.FlagOnce))
		r := w.take()
		m.pass(500 * time.Millisecond)
		m.net.Fault("b", "a", memsock.Fault{Delay: 20 * time.Millisecond})
		m.pass(500 * time.Millisecond)
		go stop()
		m.pass(time.Millisecond)
		crossed := c.ask("s", "crosses")
		m.pass(7 * time.Second)
		m.up(a, 1)
		m.wantCount(a, "peer_lies", 0)
		m.wantCount(a, "offloaded", 2)
		w.answer(r, "done")
		c.answered(slow, mdp.OK, "done")
		home := m.worker(a, "s", 1)
		back := home.take()
		if back.Head.ID != crossed.ID || back.Head.Attempt != 1 {
			t.Errorf("came back as %+v", back.Head)
		}
		home.answer(back, "too")
		c.answered(crossed, mdp.OK, "too")
		stop()
		m.empty(a)
	})
}

// The last answers leave before the connections are closed, however slowly they
// are read.
func TestDrainDeliversLastAnswers(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, stop := m.mortal("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x")
		r := w.take()
		m.net.Fault("b", "client-c", memsock.Fault{Delay: 10 * time.Millisecond})
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		w.expect(mdp.Drain)
		large := string(make([]byte, 3<<20))
		w.answer(r, large)
		c.expect(mdp.Drain)
		c.answered(h, mdp.OK, large)
		<-stopped
	})
}

// A client that says HELLO while the broker drains is told.
func TestHelloWhileDraining(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, stop := m.mortal("b")
		w, c, late := m.worker(b, "s", 1), m.client(b, "c"), m.dial(b, "late", mdp.Client, mdp.Native)
		h := c.ask("s", "x")
		r := w.take()
		go stop()
		w.expect(mdp.Drain)
		late.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "late"})})
		late.expect(mdp.Welcome)
		late.expect(mdp.Drain)
		w.answer(r, "y")
		c.expect(mdp.Drain)
		c.answered(h, mdp.OK, "y")
		w.send(mdp.Command{Kind: mdp.Bye})
		late.expect(mdp.Bye)
	})
}

// A peer that is told DRAIN offers its requests to others, or keeps them.
func TestDrainingPeerGetsNothing(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", peers("b"))
		b, stop := m.mortal("b")
		w, c := m.worker(b, "s", 2), m.client(a, "c")
		m.pass(2 * time.Second)
		h := c.ask("s", "x")
		r := w.take()
		go stop()
		w.expect(mdp.Drain)
		m.settle()
		c.failed(c.ask("s", "y", flags(mdp.FlagNoWait)), mdp.NoWorker, false)
		waiting := c.ask("s", "y")
		c.quiet()
		w.quiet()
		w.answer(r, "z")
		c.answered(h, mdp.OK, "z")
		home := m.worker(a, "s", 1)
		home.answer(home.take(), "home")
		c.answered(waiting, mdp.OK, "home")
		m.empty(a)
	})
}

// What a peer has not finished when its drain times out may be lost, as if it had been
// killed: its home runs it again, unless it must run once.
func TestDrainTimeoutOfAPeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", peers("b"))
		b, stop := m.mortal("b", func(c *Config) { c.DrainTimeout = time.Second })
		m.up(a, 1)
		w, c := m.worker(b, "s", 2), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		h, once := c.ask("s", "x"), c.ask("s", "once", flags(mdp.FlagOnce))
		w.take()
		w.take()
		home := m.worker(a, "s", 1)
		home.quiet()
		stop()
		c.failed(once, mdp.BrokerLost, true)
		r := home.take()
		if r.Head.ID != h.ID || r.Head.Attempt != 2 {
			t.Errorf("run again as %+v", r.Head)
		}
		home.answer(r, "y")
		c.answered(h, mdp.OK, "y")
		m.wantCount(a, "redelivered", 1)
		m.empty(a)
		m.empty(b)
	})
}

// A drain that ends by itself answers what waits though nobody is left who could take
// it, also to who waits inside the process.
func TestDrainAnswersWhatNobodyTakes(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, stop := m.mortal("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x")
		w.take()
		called := make(chan error, 1)
		go func() {
			_, err := b.Call(context.Background(), "nobody")
			called <- err
		}()
		m.settle()
		began := time.Now()
		go stop()
		w.expect(mdp.Drain)
		w.close()
		c.expect(mdp.Drain)
		c.failed(h, mdp.BrokerLost, true)
		c.expect(mdp.Bye)
		stop()
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
		if e := new(mdp.Error); !errors.As(<-called, &e) || e.Status != mdp.NotTaken {
			t.Errorf("the call ended with %v", e)
		}
		m.empty(b)
	})
}
