package broker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// knows fails the test unless the broker knows n services.
func (m *mesh) knows(b *Broker, n int) {
	m.t.Helper()
	if known := len(b.allServices()); known != n {
		m.t.Errorf("broker %s knows %d services, want %d", b.name, known, n)
	}
}

// Names that are used once, over a link, are forgotten like others: a broker does not
// fill with them, and what is over is not said again every second.
func TestNamesThatCrossedALinkAreForgotten(t *testing.T) {
	inBubble(t, func(m *mesh) {
		few := func(c *Config) { c.MaxServices = 4 }
		a, b := m.broker("a", few), m.broker("b", few, peers("a"))
		m.up(a, 1)
		c := m.client(a, "c")
		for round := range 2 { // each name comes up again
			for i := range 20 {
				name := fmt.Sprint("session ", i)
				w := m.worker(b, name, 1)
				m.pass(100 * time.Millisecond)
				h := c.ask(name, "x", within(5*time.Second))
				w.answer(w.take(), "y")
				c.answered(h, mdp.OK, "y")
				w.close()
				m.pass(6 * time.Second)
				m.knows(a, 0)
				m.knows(b, 0)
			}
			if n := len(a.upLinks()[0].kept.totals); n != 20 {
				t.Errorf("round %d: %d totals", round, n)
			}
		}
		before := m.count(a, "state_sent") + m.count(b, "state_sent")
		m.pass(10 * time.Second)
		if n := m.count(a, "state_sent") + m.count(b, "state_sent") - before; n != 0 {
			t.Errorf("%d STATE messages about nothing", n)
		}
		for _, x := range []*Broker{a, b} {
			m.wantCount(x, "services_refused", 0)
			m.wantCount(x, "peer_lies", 0)
			m.wantLink(x, map[*Broker]string{a: "b", b: "a"}[x], linkUp, "")
		}
	})
}

// A peer that forgets nothing finds its requests confirmed, and what it confirms
// believed, as if nothing had been forgotten here.
func TestAccountsOutliveTheirServices(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		forgotten := func(seen uint32) {
			m.t.Helper()
			for range 6 { // its refresh
				p.state("s", mdp.Load{Seen: seen})
				m.pass(time.Second)
			}
			m.knows(b, 0)
		}
		for n := uint32(1); n <= 3; n++ {
			w := m.worker(b, "s", 1)
			p.ask("s", "x")
			w.answer(w.take(), "y")
			if f := p.nextFinal(); f.Head.Load.Seen != n {
				t.Errorf("%d requests are confirmed, want %d", f.Head.Load.Seen, n)
			}
			w.close()
			forgotten(n - 1)

			p.state("s", mdp.Load{Seen: n - 1, Idle: 1, Workers: 1})
			m.settle()
			h := c.ask("s", "x")
			r := p.nextRequest()
			if r.Head.Load.Seen != n {
				t.Errorf("a request confirms %d, want %d", r.Head.Load.Seen, n)
			}
			p.send(mdp.Command{Kind: mdp.Final, Service: []byte("s"), Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID, Load: mdp.Load{Seen: n}}}, "y")
			c.answered(h, mdp.OK, "y")
			forgotten(n)
		}
		p.alive()
		m.wantCount(b, "peer_lies", 0)
	})
}

// While either side still has something to say or to hear, the service stays.
func TestWhatIsUnconfirmedIsNotForgotten(t *testing.T) {
	all := told{seen: 3}
	for name, test := range map[string]struct {
		change func(l *ledger)
		quiet  bool
	}{
		"all is said":          {func(*ledger) {}, true},
		"one was sent":         {func(l *ledger) { l.ask(0) }, false},
		"one came":             {func(l *ledger) { l.receive(0) }, false},
		"said by an answer":    {func(l *ledger) { l.confirmed() }, false},
		"workers there":        {func(l *ledger) { l.hear(&mdp.Load{Seen: 2, Workers: 1}, false, false, 1) }, false},
		"we told of workers":   {func(l *ledger) { l.told.workers = 1 }, false},
		"said a moment ago":    {func(l *ledger) { l.toldAt = 9 * int64(time.Second) }, false},
		"resumed, and no more": {func(l *ledger) { *l = ledger{}; l.resume(totals{2, 3}) }, true},
		"fresh":                {func(l *ledger) { *l = ledger{} }, true},
		"fresh, told just now": {func(l *ledger) { *l = ledger{toldAt: 1, unsure: true} }, false},
	} {
		l := &ledger{sent: 2, received: 3, load: mdp.Load{Seen: 2}, told: all, toldAt: int64(time.Second)}
		if test.change(l); l.quiet(10*int64(time.Second)) != test.quiet {
			t.Errorf("%s: quiet %t", name, !test.quiet)
		}
	}
}

// A STATE that was refused is said again, whatever it said.
func TestRefusedStateIsSaidAgain(t *testing.T) {
	l := &ledger{}
	if !l.assured(0) {
		t.Error("nothing was said yet")
	}
	l.confirmed() // by an answer
	if l.assured(0) {
		t.Error("an answer may be refused")
	}
	l.toldAt = 7
	if l.assured(7) {
		t.Error("it was refused")
	}
	if l.toldAt = 8; !l.assured(7) || !l.assured(9) {
		t.Error("it was not refused, and one about other services does not matter")
	}
}

// What a request says of the queue it leaves is taken back when the queue is empty,
// also by a broker that has received nothing over the link.
func TestWordOfARequestIsTakenBack(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, c := m.fakePeer(b, "p"), m.client(b, "c")
		for seen := range uint32(3) {
			c.ask("s", "x")
			m.settle()
			p.state("s", mdp.Load{Seen: seen, Idle: 1, Workers: 1})
			if r := p.nextRequest(); r.Head.Load.Queue != 1 {
				t.Fatalf("the request says %+v", r.Head.Load)
			}
			m.settle()
			p.state("s", mdp.Load{Seen: seen + 1}) // offers nothing more, so that the next one waits
			m.pass(1200 * time.Millisecond)
			if e := p.entry(); e.Load.Queue != 0 {
				t.Errorf("told of %+v", e.Load)
			}
			p.quiet()
		}
	})
}

// Where a link keeps its maximum of totals the service stays, is counted once, and
// goes with the link.
func TestAccountsAreBounded(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, w := m.fakePeer(b, "p"), m.worker(b, "s", 1)
		p.ask("s", "x")
		w.answer(w.take(), "y")
		w.close()
		k := &b.upLinks()[0].kept
		for i := range maxTotals {
			k.put(fmt.Sprint("made up ", i), totals{1, 1})
		}
		m.pass(10 * time.Second)
		m.knows(b, 1)
		m.wantCount(b, "services_lingering", 1)
		k.take("made up 0")
		m.pass(time.Second)
		m.knows(b, 0)
		if a := k.take("s"); a != (totals{0, 1}) {
			t.Errorf("totals %+v", a)
		}
	})
}

// However names come and go at three brokers, which forget them at times of their own,
// over ways of any length: both ends of each link agree in what was sent over it, and
// nobody is called a liar.
func TestBothEndsAgreeInAccounts(t *testing.T) {
	names := []string{"one", "two", "three"}
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				lot := rand.New(rand.NewPCG(seed, 7))
				brokers := []*Broker{m.broker("a"), m.broker("b", peers("a")), m.broker("c", peers("a", "b"))}
				m.up(brokers[0], 2)
				m.up(brokers[1], 2)
				for _, way := range [][2]string{{"a", "b"}, {"b", "c"}, {"c", "a"}} {
					m.net.Fault(way[0], way[1], memsock.Fault{Delay: time.Duration(lot.IntN(400)) * time.Millisecond})
				}
				var clients []*peer
				for _, b := range brokers {
					clients = append(clients, m.client(b, b.name))
				}
				forgotten := 0
				for range 60 {
					w := m.worker(brokers[lot.IntN(3)], names[lot.IntN(3)], 1+lot.IntN(2))
					for range lot.IntN(6) {
						clients[lot.IntN(3)].ask(names[lot.IntN(3)], "x", within(time.Duration(1+lot.IntN(3000))*time.Millisecond))
						m.pass(time.Duration(lot.IntN(1000)) * time.Millisecond)
						for len(w.got) > 0 {
							if r := <-w.got; r.Kind == mdp.Request {
								w.answer(r, "y")
							}
						}
					}
					w.close()
					m.pass(time.Duration(lot.IntN(10)) * time.Second)
					forgotten += len(names)*len(brokers) - known(brokers)
				}
				m.pass(20 * time.Second)
				if forgotten == 0 || known(brokers) != 0 {
					t.Errorf("forgotten %d times, %d services known in the end", forgotten, known(brokers))
				}
				m.agree(brokers, names)
			})
		})
	}
}

// known is how many services the brokers know.
func known(brokers []*Broker) (n int) {
	for _, b := range brokers {
		n += len(b.allServices())
	}
	return n
}

// agree fails the test unless what each broker has sent to each other one is what
// that one has received.
func (m *mesh) agree(brokers []*Broker, names []string) {
	m.t.Helper()
	totals := make(map[string]totals)
	sent := uint32(0)
	for _, b := range brokers {
		m.wantCount(b, "peer_lies", 0)
		links := b.upLinks()
		if len(links) != len(brokers)-1 {
			m.t.Fatalf("broker %s has %d links", b.name, len(links))
		}
		for _, l := range links {
			for _, name := range names {
				totals[b.name+l.peerName()+name] = l.kept.take(name)
			}
		}
	}
	for _, x := range brokers {
		for _, y := range brokers {
			for _, name := range names {
				here, there := totals[x.name+y.name+name], totals[y.name+x.name+name]
				if sent += here.sent; here.sent != there.received {
					m.t.Errorf("%s sent %d requests for %q to %s, which received %d", x.name, here.sent, name, y.name, there.received)
				}
			}
		}
	}
	if sent == 0 {
		m.t.Error("nothing went over a link")
	}
}
