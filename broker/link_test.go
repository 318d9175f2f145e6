package broker

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// Where both dial at once there is one link in the end, the same for both, and
// nobody goes on dialling.
func TestBothDial(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := crossed(m)
		m.oneLink(a, b)
	})
}

// A link that works stays, whoever dialled it: the other side finds it and is content.
func TestBothDialInTurn(t *testing.T) {
	for _, names := range [][2]string{{"a", "b"}, {"b", "a"}} {
		t.Run(names[0]+" is first", func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				second := m.broker(names[1])
				first := m.broker(names[0], peers(names[1]))
				m.up(second, 1)
				m.setPeers(second, names[0])
				m.oneLink(first, second)
			})
		})
	}
}

// oneLink fails the test unless the link that the first one dialled remains, alone
// and in good health, and serves.
func (m *mesh) oneLink(dialler, other *Broker) {
	t := m.t
	t.Helper()
	m.pass(10 * time.Second)
	here, there := dialler.upLinks(), other.upLinks()
	if len(here) != 1 || len(there) != 1 || here[0].dialled == "" || there[0].dialled != "" {
		t.Fatalf("%d and %d links, want one that %s dialled: %+v, %+v", len(here), len(there), dialler.name, dialler.Peers(), other.Peers())
	}
	accepted := func(b *Broker) uint64 { return b.listeners[0].z.Counters().Accepted }
	before := accepted(dialler) + accepted(other)
	m.pass(time.Minute)
	if n := accepted(dialler) + accepted(other); n != before {
		t.Errorf("%d more connections in a minute", n-before)
	}
	for _, b := range []*Broker{dialler, other} {
		if p := b.Peers(); len(p) != 1 || p[0].State != linkUp || p[0].Error != "" {
			t.Errorf("peers of %s: %+v", b.name, p)
		}
		m.wantCount(b, "protocol_errors", 0)
	}
	w, c := m.worker(other, "s", 1), m.client(dialler, "c")
	m.pass(100 * time.Millisecond)
	h := c.ask("s", "x")
	w.answer(w.take(), "y")
	c.answered(h, mdp.OK, "y")
}

// DRAIN of a link that gives way to another one never comes before its WELCOME,
// although two readers write them: the peer would take it for a stranger's.
func TestDrainFollowsWelcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		var said []mdp.Kind
		accepted := w.connect(0, func(m *message) { said = append(said, m.Kind) }, func() {})
		dialled := w.connect(0, func(*message) {}, func() {})
		hello := &mdp.HelloMap{Name: "z", Incarnation: "z"}
		one := &link{b: w.b, c: &accepted.conn}
		two := &link{b: w.b, c: &dialled.conn, dialled: "tcp://z:1"}
		for _, l := range []*link{one, two} {
			if err := w.b.establish(l, hello); err != nil {
				t.Fatal(err)
			}
		}
		var batch zsock.Batch
		two.open(&batch) // its reader was quicker
		one.c.sendControl(&batch, &mdp.Command{Role: mdp.Peer, Kind: mdp.Welcome})
		one.open(&batch)
		w.run(time.Millisecond)
		if !slices.Equal(said, []mdp.Kind{mdp.Welcome, mdp.Drain}) {
			t.Errorf("the peer gets %v, want WELCOME and DRAIN", said)
		}
	})
}

// Who answers at an endpoint says who it is, as one who dials does: its name goes into
// heads and groups of 255 octets.
func TestWelcomeSaysWho(t *testing.T) {
	inBubble(t, func(*mesh) {
		for name, hello := range map[string]mdp.HelloMap{
			"no name":        {Incarnation: "z"},
			"no incarnation": {Name: "z"},
			"a long name":    {Name: strings.Repeat("z", mdp.MaxService+1), Incarnation: "z"},
			"":               {Name: strings.Repeat("z", mdp.MaxService), Incarnation: "z"},
		} {
			w := newWorld(1)
			ended := false
			x := w.connect(0, func(*message) {}, func() { ended = true })
			l := &link{b: w.b, c: &x.conn, dialled: "tcp://z:1"}
			x.conn.link.Store(l)
			x.say(mdp.Command{Role: mdp.Peer, Kind: mdp.Welcome, Dialect: mdp.Native, Map: mdp.EncodeMap(&hello)})
			w.run(time.Millisecond)
			if refused := name != ""; ended != refused || l.ready.Load() == refused || (w.b.Counters()["protocol_errors"] > 0) != refused {
				t.Errorf("%q: ended %t, ready %t", name, ended, l.ready.Load())
			}
		}
	})
}

func TestPeerRestart(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", peers("b"))
		b, stop := m.mortal("b")
		m.up(a, 1)
		first := a.upLinks()[0].peer.Load().Incarnation
		w, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		for range 5 {
			h := c.ask("s", "x")
			w.answer(w.take(), "y")
			c.answered(h, mdp.OK, "y")
		}
		w.close()
		stop()
		b = m.broker("b")
		m.up(a, 1)
		if a.upLinks()[0].peer.Load().Incarnation == first {
			t.Fatal("the same incarnation")
		}
		w = m.worker(b, "s", 1) // counters start anew on both sides
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x")
		w.answer(w.take(), "z")
		c.answered(h, mdp.OK, "z")
	})
}

// A newer incarnation replaces a link whose loss was not noticed yet, but not one
// that lives: that is another broker of the same name.
func TestNewIncarnationReplacesLink(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		hello := mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "p", Name: "p", Incarnation: "p2"})}
		old := m.fakePeer(b, "p")
		twin := m.dial(b, "p", mdp.Peer, mdp.Native)
		twin.send(hello)
		if w := twin.expect(mdp.Welcome); mdp.Status(w.Head.Status) != mdp.NotTaken {
			t.Errorf("a second broker of the name gets %v", mdp.Status(w.Head.Status))
		}
		old.alive()
		old.mute.Store(true)
		m.pass(2400 * time.Millisecond)
		old.alive()
		fresh := m.dial(b, "p", mdp.Peer, mdp.Native)
		fresh.send(hello)
		fresh.expect(mdp.Welcome)
		old.gone()
		m.settle()
		if l := b.upLinks(); len(l) != 1 || l[0].peer.Load().Incarnation != "p2" {
			t.Errorf("%d links", len(l))
		}
	})
}

// A broker does not link with another one of its own name.
func TestOwnNameIsRefused(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.dial(b, "p", mdp.Peer, mdp.Native)
		p.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "p", Name: "b", Incarnation: "p"})})
		if w := p.expect(mdp.Welcome); mdp.Status(w.Head.Status) != mdp.NotTaken {
			t.Errorf("got %v", mdp.Status(w.Head.Status))
		}
	})
}

func TestDefaultName(t *testing.T) {
	t.Parallel()
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for endpoint, want := range map[string]string{
		"tcp://127.0.0.1:5555": "127.0.0.1:5555",
		"tcp://0.0.0.0:5555":   machine + ":5555",
		"tcp://[::]:5555":      machine + ":5555",
		"inproc://b":           "inproc://b",
	} {
		if got := defaultName(endpoint); got != want {
			t.Errorf("%s: %s, want %s", endpoint, got, want)
		}
	}
}

func TestRoundTripIsMeasured(t *testing.T) {
	inBubble(t, func(m *mesh) {
		m.net.Fault("a", "b", memsock.Fault{Delay: 20 * time.Millisecond})
		m.net.Fault("b", "a", memsock.Fault{Delay: 30 * time.Millisecond})
		a, b := linked(m)
		m.pass(3 * time.Second)
		for _, broker := range []*Broker{a, b} {
			if rtt := time.Duration(broker.upLinks()[0].rtt.Load()); rtt != 50*time.Millisecond {
				t.Errorf("%s measured %v", broker.name, rtt)
			}
		}
	})
}

// One late heartbeat makes the peer no farther, but for its patience; eight do.
func TestLateHeartbeatMovesNobody(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, _ := linked(m)
		m.pass(3 * time.Second)
		far := func(d time.Duration) { m.net.Fault("a", "b", memsock.Fault{Delay: d}) }
		l := a.upLinks()[0]
		near, patient := l.way(), l.way().patience
		far(80 * time.Millisecond)
		m.pass(1500 * time.Millisecond)
		if w := l.way(); w.oneWay != near.oneWay || w.class != near.class || w.patience <= patient {
			t.Errorf("the way is %+v with one late heartbeat, %+v before", w, near)
		}
		m.pass(8 * time.Second)
		if w := l.way(); w.oneWay != 40*time.Millisecond || w.class <= near.class {
			t.Errorf("the way is %+v when all heartbeats take 80 ms", w)
		}
	})
}

// A link that is cut in one direction ends at both ends within three heartbeats and
// one more, and what was sent over it is redelivered.
func TestOneWayPartition(t *testing.T) {
	for _, cut := range [][2]string{{"a", "b"}, {"b", "a"}} {
		t.Run(fmt.Sprintf("%s does not reach %s", cut[0], cut[1]), func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				a, b := linked(m)
				m.pass(time.Second)
				m.net.Fault(cut[0], cut[1], memsock.Fault{Discard: true})
				m.pass(4 * time.Second)
				if x, y := len(a.upLinks()), len(b.upLinks()); x != 0 || y != 0 {
					t.Errorf("links after 4 s: %d and %d", x, y)
				}
				m.net.Heal("a", "b")
				m.up(a, 1)
				m.up(b, 1)
			})
		})
	}
}

func TestPartitionRedelivers(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := linked(m)
		w, c := m.worker(b, "s", 1), m.client(a, "c")
		m.pass(100 * time.Millisecond)
		h := c.ask("s", "x")
		r := w.take()
		m.net.Partition("a", "b")
		home := m.worker(a, "s", 1)
		again := home.take()
		home.answer(again, "home")
		c.answered(h, mdp.OK, "home")
		w.expect(mdp.Cancel)
		w.answer(r, "late")
		m.net.Heal("a", "b")
		m.up(a, 1)
		c.quiet()
		m.empty(a)
		m.empty(b)
	})
}

func TestPeersThatMisbehave(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.dial(b, "p", mdp.Peer, mdp.Native) // speaks before HELLO
		p.send(mdp.Command{Kind: mdp.Heartbeat})
		p.gone()
		p = m.dial(b, "p", mdp.Peer, mdp.Native)
		p.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "p"})})
		p.gone()
		p = m.fakePeer(b, "p")
		p.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "q", Name: "q", Incarnation: "q"})})
		p.gone()
		p = m.fakePeer(b, "p")
		p.send(mdp.Command{Kind: mdp.State}, "\x05garbage")
		p.send(mdp.Command{Kind: mdp.Event}, "")
		p.send(mdp.Command{Kind: mdp.Final, Service: []byte("never heard of"), Head: mdp.Head{Token: 3}})
		p.send(mdp.Command{Kind: mdp.Interest}, "x")
		m.settle()
		p.alive()
		m.wantCount(b, "unasked_replies", 1)
		m.wantCount(b, "protocol_errors", 4)
	})
}

func TestLinksAreBounded(t *testing.T) {
	b, err := New(Config{Listen: []string{"tcp://x:1"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxLinks {
		b.links[fmt.Sprint(i)] = &link{}
	}
	if err := b.establish(&link{b: b}, &mdp.HelloMap{Name: "one more", Incarnation: "x"}); !errors.Is(err, errManyLinks) {
		t.Errorf("got %v", err)
	}
}

// A service that appears is news within milliseconds; a peer that needs nobody is
// not told how a queue grows.
func TestNews(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.fakePeer(b, "p")
		m.pass(100 * time.Millisecond)
		p.quiet()
		w := m.worker(b, "s", 2)
		m.pass(10 * time.Millisecond)
		if e := p.entry(); e.Load.Workers != 2 || e.Load.Idle != 0 || e.Need {
			t.Errorf("a peer without need is offered nothing: %+v", e)
		}
		p.send(mdp.Command{Kind: mdp.State}, string(mdp.AppendState(nil, &mdp.StateEntry{Service: []byte("s"), Need: true, Load: mdp.Load{Queue: 3}})))
		m.pass(1100 * time.Millisecond) // the refresh
		var e mdp.StateEntry
		for len(p.got) > 0 {
			e = p.entry()
		}
		if e.Load.Idle != 2 {
			t.Errorf("a peer in need is offered what is idle: %+v", e)
		}
		c := m.client(b, "c")
		c.ask("s", "x")
		w.take()
		m.pass(20 * time.Millisecond)
		if e := p.entry(); e.Load.Idle != 1 {
			t.Errorf("idle that was offered is withdrawn: %+v", e)
		}
	})
}

// An answer over a link tells what is idle with the worker that gave it: who has
// requests waiting sends the next one at once.
func TestAnswerCountsItsWorker(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.fakePeer(b, "p")
		w := m.worker(b, "s", 1)
		p.ask("s", "x")
		w.answer(w.take(), "y")
		f := p.nextFinal()
		if f.Head.Load.Idle != 1 || f.Head.Flags&mdp.FlagNeed != 0 {
			t.Errorf("told %+v, flags %x, want one idle worker and no need", f.Head.Load, f.Head.Flags)
		}
	})
}

func (p *peer) entry() (e mdp.StateEntry) {
	p.m.t.Helper()
	s := p.expect(mdp.State)
	if _, err := mdp.NextState(s.frames[s.Body], &e); err != nil {
		p.m.t.Fatal(err)
	}
	return e
}
