package broker

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// link is the state of the one link a broker has to the peer of this name.
func (m *mesh) linkState(b *Broker, name string) LinkState {
	m.t.Helper()
	for _, p := range b.Peers() {
		if p.Name == name {
			return p
		}
	}
	m.t.Fatalf("broker %s knows no peer %s: %+v", b.name, name, b.Peers())
	return LinkState{}
}

func (m *mesh) wantLink(b *Broker, name, state, reason string) {
	m.t.Helper()
	if p := m.linkState(b, name); p.State != state || !strings.Contains(p.Reason, reason) {
		m.t.Errorf("at %s: link to %s is %s (%s), want %s (%s)", b.name, name, p.State, p.Reason, state, reason)
	}
}

// Over a paused link nothing new goes, in either direction; what is under way is
// answered; it holds for the next link, too.
func TestPausePeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(b, "s", 5), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		first := c.ask("s", "1")
		r := w.take()
		post := func(path string, want int) {
			t.Helper()
			answer := httptest.NewRecorder()
			a.Handler().ServeHTTP(answer, httptest.NewRequest("POST", path, nil))
			if answer.Code != want {
				t.Errorf("%s: %d %s", path, answer.Code, answer.Body)
			}
		}
		post("/peers/nobody/pause", http.StatusNotFound)
		post("/peers/b/pause", http.StatusOK)
		m.wantLink(a, "b", linkBlocked, "operator")
		second := c.ask("s", "2")
		w.quiet()
		near := m.worker(a, "t", 1) // the other direction
		m.pass(2 * time.Second)
		m.wantLink(b, "a", linkBlocked, "at the peer")
		d := m.client(b, "d")
		d.failed(d.ask("t", "x", flags(mdp.FlagNoWait)), mdp.NoWorker, false)
		near.quiet()
		w.answer(r, "y")
		c.answered(first, mdp.OK, "y")
		m.net.Reset("a", "b")
		m.pass(2 * time.Second)
		m.up(a, 1)
		m.wantLink(a, "b", linkBlocked, "operator")
		m.wantLink(b, "a", linkBlocked, "at the peer")
		w.quiet()
		post("/peers/b/resume", http.StatusOK)
		m.pass(1500 * time.Millisecond)
		m.wantLink(a, "b", linkUp, "")
		m.wantLink(b, "a", linkUp, "")
		w.answer(w.take(), "z")
		c.answered(second, mdp.OK, "z")
		h := d.ask("t", "x")
		near.answer(near.take(), "t")
		d.answered(h, mdp.OK, "t")
		m.empty(a)
		m.empty(b)
	})
}

// A heartbeat's flag tells of a pause: the peer is sent nothing while it is set,
// whatever it says besides, and what waits once it offers again.
func TestPausedByPeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		beat := func(flags uint8) {
			p.send(mdp.Command{Kind: mdp.Heartbeat, Head: mdp.Head{Token: 1, Flags: flags}})
			m.settle()
		}
		offer := mdp.Load{Workers: 9, Idle: 9}
		p.state("s", offer)
		beat(mdp.FlagPaused)
		m.wantLink(b, "p", linkBlocked, "at the peer")
		h := c.ask("s", "x")
		p.state("s", offer)
		m.pass(100 * time.Millisecond)
		for len(p.got) > 0 {
			p.expect(mdp.State)
		}
		beat(0)
		m.pass(300 * time.Millisecond) // the ticker looks
		m.wantLink(b, "p", linkUp, "")
		p.state("s", offer)
		p.send(mdp.Command{Kind: mdp.Final, Service: []byte("s"), Head: mdp.Head{Token: p.nextRequest().Head.Token}}, "y")
		c.answered(h, mdp.OK, "y")
	})
}

// Who pauses a link says so with the next look of the ticker, and takes it back.
func TestPauseIsTold(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.fakePeer(b, "p")
		m.pass(300 * time.Millisecond)
		for _, paused := range []bool{false, true, false} {
			if err := b.PausePeer("p", paused); err != nil {
				t.Fatal(err)
			}
			for len(p.beats) > 0 {
				<-p.beats
			}
			said := <-p.beats
			if on := said.Head.Flags&mdp.FlagPaused != 0; on != paused {
				t.Errorf("paused is %t, the heartbeat has flags %x", paused, said.Head.Flags)
			}
		}
	})
}

// Events go around a link that one side has paused, in both directions.
func TestEventsGoAroundPausedLink(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", withEvents, peers("b", "c"))
		b, c := m.broker("b", withEvents, peers("c")), m.broker("c", withEvents)
		for _, x := range []*Broker{a, b, c} {
			m.up(x, 2)
		}
		atA, atB := m.subscribe(a, "t"), m.subscribe(b, "t")
		fromA, fromB := m.eventPeer(a, zsock.Pub), m.eventPeer(b, zsock.Pub)
		for i, paused := range []bool{true, false} {
			if err := a.PausePeer("b", paused); err != nil {
				t.Fatal(err)
			}
			m.pass(2 * time.Second)
			n := strconv.Itoa(i)
			fromA.raw("t", "a"+n)
			m.settle()
			fromB.raw("t", "b"+n)
			m.settle()
			wantEvents(t, atA, "t|a"+n, "t|b"+n)
			wantEvents(t, atB, "t|a"+n, "t|b"+n)
			m.wantCount(c, "events_in", 2)
		}
	})
}

// A page in a browser may not give orders.
func TestPauseIsNotForPages(t *testing.T) {
	b, err := New(Config{Listen: []string{"tcp://x:1"}})
	if err != nil {
		t.Fatal(err)
	}
	b.pausedPeers["b"] = true
	req := httptest.NewRequest("POST", "/peers/b/resume", nil)
	req.Header.Set("Origin", "http://page.example")
	answer := httptest.NewRecorder()
	b.Handler().ServeHTTP(answer, req)
	if answer.Code != http.StatusForbidden || !b.pausedPeers["b"] {
		t.Errorf("%d", answer.Code)
	}
}

// A reload adds and removes peers while the broker runs; what was under way over a
// link that goes is done elsewhere.
func TestSetPeers(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b, c := m.broker("a", peers("b")), m.broker("b"), m.broker("c")
		m.up(a, 1)
		w, asker := m.worker(b, "s", 1), m.client(a, "asker")
		m.pass(100 * time.Millisecond)
		h := asker.ask("s", "x")
		w.take()
		if err := a.SetPeers([]string{"tcp://c:1,cost=2ms", "tcp://a:1"}); err != nil {
			t.Fatal(err)
		}
		w.expect(mdp.Cancel)
		other := m.worker(c, "s", 1)
		r := other.take()
		if r.Head.Attempt != 2 {
			t.Errorf("attempt %d", r.Head.Attempt)
		}
		other.answer(r, "y")
		asker.answered(h, mdp.OK, "y")
		m.pass(time.Minute)
		m.up(a, 1)
		m.up(b, 0)
		if p := m.linkState(a, "c"); p.CostUs != 2000 || !p.Dialled {
			t.Errorf("%+v", p)
		}
		if p := m.linkState(c, "a"); p.CostUs != 2000 || p.Dialled {
			t.Errorf("the other side does not know the cost: %+v", p)
		}
		var self LinkState
		for _, p := range a.Peers() {
			if p.Endpoint == "tcp://a:1" {
				self = p
			}
		}
		if self.Error != errSelf.Error() {
			t.Errorf("a link to itself: %+v", self)
		}
		if err := a.SetPeers([]string{"tcp://b:1", "tcp://b:1"}); err == nil {
			t.Error("twice the same")
		}
		if err := a.SetPeers([]string{"tcp://c:1,cost=2ms", "tcp://b:1"}); err != nil {
			t.Fatal(err)
		}
		m.up(a, 2)
		if err := a.SetPeers(nil); err != nil {
			t.Fatal(err)
		}
		m.up(a, 0)
	})
}

// A cut link shows as down on both sides, with what happened; before that, and
// when only some of it arrives late, as slow.
func TestLinkStates(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		m.pass(3 * time.Second)
		m.wantLink(a, "b", linkUp, "")
		m.wantLink(b, "a", linkUp, "")
		m.net.Fault("a", "b", memsock.Fault{Delay: 300 * time.Millisecond})
		m.pass(4 * time.Second)
		m.wantLink(a, "b", linkSlow, "round trip")
		m.net.Heal("a", "b")
		m.pass(4 * time.Second)
		m.wantLink(a, "b", linkUp, "")
		m.net.Partition("a", "b")
		m.pass(4 * time.Second)
		for x, y := range map[*Broker]string{a: "b", b: "a"} {
			if p := m.linkState(x, y); p.State != linkDown || p.Error == "" || p.SinceMs > 2000 {
				t.Errorf("%+v", p)
			}
		}
		m.net.Heal("a", "b")
		m.pass(2 * time.Second)
		m.wantLink(a, "b", linkUp, "")
		m.wantLink(b, "a", linkUp, "")
	})
}

// Nearer workers go first: of the same zone, then over the cheaper link.
func TestZoneAndCost(t *testing.T) {
	for name, far := range map[string]func(*Config){
		"zone": func(c *Config) { c.Zone = "elsewhere" },
		"cost": func(c *Config) { c.Peers = []string{"tcp://a:1,cost=5ms"} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				here := func(c *Config) { c.Zone = "here" }
				a := m.broker("a", here)
				b, c := m.broker("b", here, peers("a")), m.broker("c", here, peers("a"), far)
				m.up(a, 2)
				near, remote := m.worker(b, "s", 5), m.worker(c, "s", 50)
				m.pass(2 * time.Second)
				asker := m.client(a, "asker")
				for range 6 {
					asker.ask("s", "x")
				}
				for range 5 {
					near.take()
				}
				near.quiet()
				remote.take()
			})
		})
	}
}
