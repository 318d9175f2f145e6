package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// A busy worker that answers probes is never suspected, however long it works, and
// probed once for each dispatch, not again and again.
func TestBusyWorkerIsNotSuspected(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, other := m.worker(b, "s", 1), m.worker(b, "s", 1)
		c := m.client(b, "c")
		m.settle() // the first probes are answered
		h := c.ask("s", "x")
		r := w.take()
		m.pass(time.Hour)
		other.quiet()
		m.wantCount(b, "suspicions", 0)
		m.wantCount(b, "probes_sent", 3) // two when they came
		w.answer(r, "y")
		c.answered(h, mdp.OK, "y")
	})
}

// While ticks come late it is the broker that may be slow: nobody is probed for it.
func TestNoSuspicionWhileTheBrokerIsLate(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		m.settle()
		m.frozen(w)
		c.ask("s", "x")
		w.take()
		s, at := b.find([]byte("s")), b.now()
		late := ticks{b: b, last: at}
		for range 50 {
			at += int64(lateTick) + 1
			late.step(at)
		}
		m.wantCount(b, "suspicions", 0)
		for range 50 {
			at += int64(wheelTick)
			late.step(at)
		}
		m.wantCount(b, "suspicions", 1)
		if err := s.check(); err != nil {
			t.Error(err)
		}
	})
}

// The way to the worker is measured, and a long one is not silence.
func TestDistantWorkerIsNotSuspected(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		const way = 400 * time.Millisecond
		m.net.Fault("b", "worker", memsock.Fault{Delay: way})
		m.net.Fault("worker", "b", memsock.Fault{Delay: way})
		w, other := m.worker(b, "s", 1), m.worker(b, "elsewhere", 1)
		c := m.client(b, "c")
		h := c.ask("s", "early") // before the first probe has come back
		m.pass(5 * time.Second)
		if rtt := b.Workers()[1].RTTUs; rtt < 2*way.Microseconds() {
			t.Errorf("round trip of %d us, want %v", rtt, 2*way)
		}
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
		h = c.ask("s", "x")
		m.pass(5 * time.Second)
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
		m.wantCount(b, "suspicions", 0)
		_ = other
	})
}

// A big body on a slow link is not silence, and is not sent to another worker too.
func TestSlowLinkIsNotSilence(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, other := m.worker(b, "s", 1), m.worker(b, "s", 1)
		c := m.client(b, "c")
		m.settle()
		other.send(mdp.Command{Kind: mdp.Drain})
		h := c.ask("s", strings.Repeat("x", 16)) // so that w is next
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
		m.net.Fault("b", "worker", memsock.Fault{Stall: true})
		h = c.ask("s", string(make([]byte, 8<<20)))
		m.pass(2 * time.Second) // it beats meanwhile
		w.send(mdp.Command{Kind: mdp.Heartbeat})
		m.pass(2 * time.Second)
		m.wantCount(b, "suspicions", 0)
		m.net.Heal("b", "worker")
		r := w.take()
		w.answer(r, "y")
		c.answered(h, mdp.OK, "y")
		if r.Head.Attempt != 1 {
			t.Errorf("attempt %d", r.Head.Attempt)
		}
		m.wantCount(b, "redelivered", 0)
	})
}

// A worker that never answered a probe is left to its heartbeats: it may read
// nothing while it works.
func TestWorkerThatKnowsNoProbes(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.dial(b, "worker", mdp.Worker, mdp.Native)
		w.mute.Store(true)
		w.send(mdp.Command{Kind: mdp.Hello, Service: []byte("s"), Head: mdp.Head{Status: 1}, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "w", Reads: true})})
		w.expect(mdp.Welcome)
		c := m.client(b, "c")
		h := c.ask("s", "x")
		r := w.take()
		for range 60 {
			m.pass(time.Second)
			w.send(mdp.Command{Kind: mdp.Heartbeat})
		}
		m.wantCount(b, "suspicions", 0)
		w.answer(r, "y")
		c.answered(h, mdp.OK, "y")
		m.wantCount(b, "probes_sent", 1)
	})
}

// Something between may take in octets faster than it passes them on: a big body
// earns patience.
func TestBigBodyEarnsPatience(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		m.settle()
		m.frozen(w)
		c.ask("s", string(make([]byte, 2<<20)))
		w.take()
		m.pass(2 * time.Second)
		m.wantCount(b, "suspicions", 0)
		m.pass(500 * time.Millisecond)
		m.wantCount(b, "suspicions", 1)
	})
}

// What has arrived earns no patience any more: after a big request a worker is as
// quickly suspected as before, whether it answered that or only a probe.
func TestArrivedBodyEarnsNoPatience(t *testing.T) {
	big := string(make([]byte, 8<<20))
	for name, arrive := range map[string]func(m *mesh, w *peer, r *message){
		"answered": func(_ *mesh, w *peer, r *message) { w.answer(r, "y") },
		"at work":  func(m *mesh, _ *peer, _ *message) { m.pass(500 * time.Millisecond) },
		"it said something else first": func(m *mesh, w *peer, _ *message) {
			w.send(mdp.Command{Kind: mdp.Heartbeat})
			m.pass(500 * time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				w, other, c := m.worker(b, "s", 2), m.worker(b, "s", 3), m.client(b, "c")
				m.settle()
				c.ask("s", big)
				arrive(m, w, w.take())
				c.ask("s", "kept") // so that the next one goes to w
				other.take()
				m.frozen(w)
				c.ask("s", "small")
				w.take()
				m.pass(500 * time.Millisecond)
				for range int(m.count(b, "redelivered")) {
					if r := other.take(); r.body() == "small" {
						return
					}
				}
				t.Error("the small request was not moved within 500 ms")
			})
		})
	}
}

// A slow worker that is still taking in what it was sent is not called lost, though
// it says nothing for more than three heartbeats and got something small since.
func TestBigBodyIsNotLostWhileItArrives(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 2), m.client(b, "c")
		m.settle()
		m.frozen(w)
		first := c.ask("s", string(make([]byte, 16<<20)))
		r1 := w.take()
		m.pass(time.Second)
		w.send(mdp.Command{Kind: mdp.Heartbeat}) // of another thread: the reader is behind
		m.pass(time.Second)
		second := c.ask("s", "small, behind it")
		r2 := w.take()
		m.pass(10 * time.Second)
		m.wantCount(b, "suspicions", 0)
		m.wantCount(b, "redelivered", 0)
		w.answer(r1, "y")
		c.answered(first, mdp.OK, "y")
		w.answer(r2, "z")
		c.answered(second, mdp.OK, "z")
		m.empty(b)
	})
}
