package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

func TestRefusedWorkers(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.dial(b, "worker", mdp.Worker, mdp.Native)
		w.send(mdp.Command{Kind: mdp.Hello, Service: []byte("mmi.mine"), Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "w"})})
		if f := w.expect(mdp.Welcome); mdp.Status(f.Head.Status) != mdp.Denied {
			t.Errorf("mmi.: %v", f.err())
		}
		m.pass(2 * time.Second)
		w.gone()
		w = m.dial(b, "worker", mdp.Worker, mdp.Native)
		w.send(mdp.Command{Kind: mdp.Hello, Service: []byte("s")})
		if f := w.expect(mdp.Welcome); mdp.Status(f.Head.Status) != mdp.BadRequest {
			t.Errorf("without map: %v", f.err())
		}
		for _, d := range []mdp.Dialect{mdp.V01, mdp.V02} {
			f := m.dial(b, "worker", mdp.Worker, d)
			f.send(mdp.Command{Kind: mdp.Ready, Service: []byte("mmi.service")})
			f.expect(mdp.Disconnect)
		}
		m.wantCount(b, "workers_refused", 4)
		if len(b.Workers()) != 0 {
			t.Errorf("workers %+v", b.Workers())
		}
	})
}

// A command of a worker without session is answered by DISCONNECT, once a second:
// that is how workers learn of a broker's restart, and no storm begins.
func TestStrangers(t *testing.T) {
	for _, d := range []mdp.Dialect{mdp.V01, mdp.V02} {
		t.Run(d.String(), func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				f := m.dial(b, "worker", mdp.Worker, d)
				f.mute.Store(true)
				for range 100 {
					f.send(mdp.Command{Kind: mdp.Heartbeat})
					f.send(mdp.Command{Kind: mdp.Final, Address: []byte("undefined")}, "x")
				}
				f.expect(mdp.Disconnect)
				f.quiet()
				m.pass(1100 * time.Millisecond)
				f.send(mdp.Command{Kind: mdp.Heartbeat})
				f.expect(mdp.Disconnect)
				f.quiet()
				m.wantCount(b, "strangers", 201)
				f.send(mdp.Command{Kind: mdp.Ready, Service: []byte("s")}) // and then it is welcome
				f.quiet()
				c := m.client(b, "c")
				h := c.ask("s", "x")
				f.answer(f.take(), "y")
				c.answered(h, mdp.OK, "y")
			})
		})
	}
}

// The DISCONNECT of a second READY counts as the one a second.
func TestSecondReady(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		f := m.foreignWorker(b, "s", mdp.V01)
		f.send(mdp.Command{Kind: mdp.Ready, Service: []byte("s")})
		f.send(mdp.Command{Kind: mdp.Heartbeat})
		f.expect(mdp.Disconnect)
		f.quiet()
		m.wantCount(b, "protocol_errors", 1)
		if n := len(b.Workers()); n != 0 {
			t.Errorf("%d workers", n)
		}
	})
}

func TestGarbageIsDropped(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.dial(b, "p", mdp.Client, mdp.Native)
		p.raw("")
		p.raw("GET / HTTP/1.0")
		p.raw("", "MDPC01")
		p.raw("MDPW02", "\x09")
		p.raw("MDPC03")
		p.quiet()
		p.raw("", "MDPW01", "\x01", "") // READY is answered, even so
		p.expect(mdp.Disconnect)
		p.quiet()
		p.alive()
		m.wantCount(b, "probes", 1)
		m.wantCount(b, "malformed", 5)
	})
}

func TestNativeWorkerLiveness(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		silent, live := m.worker(b, "s", 1), m.worker(b, "s", 1)
		silent.mute.Store(true)
		m.pass(2900 * time.Millisecond)
		silent.alive()
		m.pass(600 * time.Millisecond)
		silent.gone()
		m.wantCount(b, "sessions_expired", 1)
		m.pass(time.Minute)
		live.alive()
		if n := len(live.beats); n < 58 || n > 80 {
			t.Errorf("%d heartbeats in a minute", n)
		}
	})
}

// A busy client beats each second, an idle one each 15 s.
func TestClientLiveness(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		c.mute.Store(true)
		m.pass(40 * time.Second)
		c.alive()
		if n := len(c.beats); n < 2 || n > 3 {
			t.Errorf("%d heartbeats in 40 s at an idle client", n)
		}
		c.ask("s", "x") // from here on it must say something each second
		m.pass(2900 * time.Millisecond)
		c.alive()
		m.pass(600 * time.Millisecond)
		c.gone()
		m.empty(b)

		idle := m.client(b, "idle")
		idle.mute.Store(true)
		m.pass(46 * time.Second)
		idle.gone()
	})
}

func TestForeignWorkerLiveness(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.BusyLimit = time.Minute })
		idle, busy := m.foreignWorker(b, "idle", mdp.V01), m.foreignWorker(b, "busy", mdp.V02)
		c := m.client(b, "c")
		h := c.ask("busy", "x")
		r := busy.take()
		idle.mute.Store(true)
		busy.mute.Store(true) // it works inside its receive loop
		m.pass(7400 * time.Millisecond)
		idle.quiet()
		m.pass(time.Second)
		idle.expect(mdp.Disconnect)
		idle.alive() // a READY on the same connection opens a new session
		idle.send(mdp.Command{Kind: mdp.Ready, Service: []byte("idle")})
		m.pass(45 * time.Second)
		if n := len(busy.beats); n < 40 {
			t.Errorf("%d heartbeats at a busy worker, which may be waiting for them", n)
		}
		busy.quiet()
		busy.answer(r, "y") // 53 s
		c.answered(h, mdp.OK, "y")

		c.ask("busy", "z")
		busy.take()
		busy.mute.Store(false) // beating does not help beyond the limit
		m.pass(59 * time.Second)
		busy.quiet()
		m.pass(2 * time.Second)
		busy.expect(mdp.Disconnect)
	})
}

// A foreign worker that beats more slowly than the guide's is ended once, and then
// its own interval is known; silence while it works teaches nothing.
func TestHeartbeatOfForeignWorkerIsLearned(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		slow, usual := m.foreignWorker(b, "s", mdp.V01), m.foreignWorker(b, "t", mdp.V01)
		c := m.client(b, "c")
		slow.mute.Store(true)
		usual.mute.Store(true)
		beat := func(w *peer) { w.send(mdp.Command{Kind: mdp.Heartbeat}) }
		h := c.ask("t", "x")
		r := usual.take()
		for i := range 12 { // 2 minutes
			m.pass(10 * time.Second)
			if i == 0 {
				slow.expect(mdp.Disconnect)
				slow.send(mdp.Command{Kind: mdp.Ready, Service: []byte("s")})
			}
			beat(slow)
		}
		slow.quiet()
		m.pass(29 * time.Second)
		slow.quiet() // three of its beats
		m.pass(2 * time.Second)
		slow.expect(mdp.Disconnect)

		usual.answer(r, "y") // 2.5 minutes
		c.answered(h, mdp.OK, "y")
		m.pass(7400 * time.Millisecond)
		usual.quiet()
		m.pass(time.Second)
		usual.expect(mdp.Disconnect)
		m.pass(time.Hour)
		beat(usual) // a stranger's, an hour later: no more than a minute is learned
		usual.expect(mdp.Disconnect)
		usual.send(mdp.Command{Kind: mdp.Ready, Service: []byte("t")})
		m.pass(livenessMisses*maxInterval + 2*time.Second)
		usual.expect(mdp.Disconnect)
	})
}

// After a pause of the broker itself nobody is called silent: what they said is
// still unread. Without that, the step would end every session here.
func TestPauseExpiresNobody(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.broker("p", peers("b"))
		native, foreign, c := m.worker(b, "s", 1), m.foreignWorker(b, "f", mdp.V01), m.client(b, "c")
		c.ask("nobody", "x")
		m.pass(2 * time.Second)
		for _, w := range []*peer{native, foreign, c} {
			w.mute.Store(true)
		}
		late := ticks{b: b, last: b.now()}
		now := b.now() + int64(10*time.Second)
		late.step(now)
		late.step(now + int64(wheelTick))
		native.alive()
		foreign.quiet()
		c.alive()
		if len(p.upLinks()) != 1 {
			t.Error("the link was ended")
		}
		m.wantCount(b, "pauses", 1)
		m.wantCount(b, "sessions_expired", 0)

		again := ticks{b: b, last: now + int64(10*time.Second)} // no gap to see: this one expires
		again.step(now + int64(10*time.Second))
		native.gone()
	})
}

func TestClientThatIsAWorkerToo(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.client(b, "both")
		p.send(mdp.Command{Role: mdp.Worker, Kind: mdp.Hello, Service: []byte("s"), Head: mdp.Head{Status: 1}, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "both"})})
		p.expect(mdp.Welcome)
		h := p.ask("s", "to myself")
		r := p.take()
		p.send(mdp.Command{Role: mdp.Worker, Kind: mdp.Final, Head: mdp.Head{Token: r.Head.Token}}, "y")
		p.answered(h, mdp.OK, "y")
		p.ask("s", "lost")
		p.take()
		p.close()
		m.settle()
		m.empty(b)
		if n := len(b.Workers()); n != 0 {
			t.Errorf("%d workers", n)
		}
	})
}

func TestSecondHelloOfAClient(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		c.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "other"})})
		c.gone()
		anonymous := m.dial(b, "a", mdp.Client, mdp.Native)
		anonymous.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{})})
		if f := anonymous.expect(mdp.Welcome); mdp.Status(f.Head.Status) != mdp.BadRequest {
			t.Errorf("HELLO without instance: %v", f.err())
		}
	})
}

func TestWelcomeSaysWhereAndHow(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) {
			c.Publish, c.Subscribe = []string{"tcp://b:2"}, []string{"tcp://b:3"}
			c.Heartbeat = 200 * time.Millisecond
		})
		c := m.dial(b, "c", mdp.Client, mdp.Native)
		c.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "c"})})
		var w mdp.WelcomeMap
		if err := mdp.DecodeMap(c.expect(mdp.Welcome).Map, &w); err != nil {
			t.Fatal(err)
		}
		if w.Revision != mdp.Revision || w.HeartbeatMs != 200 || w.MaxMessage != 64<<20 || w.Name != "b" || w.Incarnation != b.incarnation ||
			len(w.Endpoints) != 1 || w.Endpoints[0] != "tcp://b:1" || w.Publish[0] != "tcp://b:2" || w.Subscribe[0] != "tcp://b:3" {
			t.Errorf("%+v", w)
		}
	})
}
