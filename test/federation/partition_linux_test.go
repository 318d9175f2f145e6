package federation

import (
	"context"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/federation/netns"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// host starts a broker on a host of its own.
func host(t *testing.T, h *netns.Host, name string, flags ...string) *site {
	t.Helper()
	const requests, http = "tcp://127.0.0.1:5555", "127.0.0.1:5580"
	args := append([]string{"--name", name, "--listen", requests, "--listen", "tcp://" + h.Address + ":5555", "--insecure",
		"--publish", "", "--subscribe", "", "--http", http}, flags...)
	p := meshproc.Start(t, h.Command(t, meshproc.Command(t, "mdbroker", args...)))
	b := &rig.Broker{Process: p, Requests: p.Endpoint(t, "requests"), HTTP: p.Endpoint(t, "http"), Books: through(h)}
	return &site{Broker: b, name: name, network: h}
}

// pair is two linked brokers on two hosts.
type pair struct {
	cable [2]*netns.Host // of a and of b; b dials
	a, b  *site
	*ledger

	busyA, busyB, onceA, onceB *load
}

func pairs(t *testing.T) *pair {
	t.Helper()
	h, k := netns.Pair(t)
	return paired(t, h, k)
}

func paired(t *testing.T, h, k *netns.Host) *pair {
	t.Helper()
	p := &pair{cable: [2]*netns.Host{h, k}, ledger: newLedger()}
	p.a = host(t, h, "a")
	p.b = host(t, k, "b", "--peer", "tcp://"+h.Address+":5555")
	linked(t, p.a, p.b)
	return p
}

// underLoad starts workers and callers at both sides: more calls enter at a than its
// workers can do, so a third of them goes to b.
func underLoad(t *testing.T) *pair {
	t.Helper()
	p := pairs(t)
	const work = 20 * time.Millisecond
	p.a.works(t, 3, p.sleeping("a", work))
	p.b.works(t, 6, p.sleeping("b", work))
	offered(t, p.a, p.b)
	p.busyA = drive(t, "callers at a", p.a.client(t), p.ledger, 6, false)
	p.onceA = drive(t, "callers once at a", p.a.client(t), p.ledger, 2, true)
	p.busyB = drive(t, "callers at b", p.b.client(t), p.ledger, 1, false)
	p.onceB = drive(t, "callers once at b", p.b.client(t), p.ledger, 1, true)
	p.busyA.some(t, 100)
	p.a.offloads(t, 20)
	return p
}

// locally is that work goes on at both sides.
func (p *pair) locally(t *testing.T) {
	t.Helper()
	p.busyA.some(t, 50)
	p.busyB.some(t, 20)
}

// stop ends the load and checks callers, workers and books.
func (p *pair) stop(t *testing.T) {
	t.Helper()
	for _, d := range []*load{p.busyA, p.onceA, p.busyB, p.onceB} {
		d.stop(t)
	}
	settled(t, p.a, p.b)
	requests, again := p.check(t)
	t.Logf("%d requests executed, %d executions more than that, %d at a and %d at b", requests, again, p.of("a"), p.of("b"))
}

// Rows 14 and 15. A partition, full or one way, in whichever direction: both sides
// see the link down, work goes on at both, and the link comes back.
func TestPartition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cut, mend func(t *testing.T, a, b *netns.Host)
	}{
		"full": {
			func(t *testing.T, a, _ *netns.Host) { a.Unplug(t) },
			func(t *testing.T, a, _ *netns.Host) { a.Plug(t) },
		},
		"the dialled side is not heard": {
			func(t *testing.T, a, _ *netns.Host) { a.Mute(t) },
			func(t *testing.T, a, _ *netns.Host) { a.Mend(t) },
		},
		"the dialling side is not heard": {
			func(t *testing.T, _, b *netns.Host) { b.Mute(t) },
			func(t *testing.T, _, b *netns.Host) { b.Mend(t) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := underLoad(t)
			c.cut(t, p.cable[0], p.cable[1])
			atA, atB := sees(t, "both sides see the link down", p.a, p.b, isDown)
			t.Logf("seen down at a after %v, at b after %v (promise 4 s)", atA, atB)
			p.locally(t)
			c.mend(t, p.cable[0], p.cable[1])
			atA, atB = sees(t, "both sides see the link up", p.a, p.b, isUp)
			t.Logf("seen up at a after %v, at b after %v (promise 2 s); work is shared %v later", atA, atB, p.a.offloads(t, 1))
			p.a.offloads(t, 20)
			p.stop(t)
		})
	}
}

// Row 16. A cable that comes and goes: connections break and are made anew, and a link
// that does so too often is not used for a while.
func TestFlapping(t *testing.T) {
	t.Parallel()
	p := underLoad(t)
	for range 8 {
		p.cable[1].Reset(t)
		sees(t, "both sides see the link down", p.a, p.b, isDown)
		p.cable[1].Mend(t)
		p.locally(t)
	}
	for range 8 { // too short for anybody to give the link up
		p.cable[0].Unplug(t)
		<-time.After(200 * time.Millisecond)
		p.cable[0].Plug(t)
		p.locally(t)
	}
	atA, atB := sees(t, "both sides see the link up", p.a, p.b, isUp)
	t.Logf("seen up at a after %v, at b after %v (promise 2 s)", atA, atB)
	p.a.offloads(t, 20)
	p.stop(t)
}

// Row 16. A cable that loses a fifth of all packets, both ways.
func TestLoss(t *testing.T) {
	t.Parallel()
	p := underLoad(t)
	for _, h := range p.cable {
		h.Lose(t, 0.2)
	}
	p.busyA.some(t, 1000)
	p.busyB.some(t, 100)
	shared := p.a.counter(t, "offloaded")
	for _, h := range p.cable {
		h.Mend(t)
	}
	atA, atB := sees(t, "both sides see the link up", p.a, p.b, isUp)
	t.Logf("%d requests went to peers; seen up at a after %v, at b after %v", shared, atA, atB)
	p.a.offloads(t, 20)
	p.stop(t)
}

// Rows 14 and 16. A link that is lost under requests that run at the other side, once
// at once and once by silence: those at least once are run at home, as a counted
// attempt; those at most once are refused, as they may have run; and the other side
// cancels what it runs for nobody.
func TestLinkLostInFlight(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(t *testing.T, h *netns.Host){
		"reset":     func(t *testing.T, h *netns.Host) { h.Reset(t) },
		"unplugged": func(t *testing.T, h *netns.Host) { h.Unplug(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pairs(t)
			const each = 4
			h := newHolding(p.ledger)
			p.b.works(t, 2*each, h.at("b"))
			offered(t, p.a)
			c := p.a.client(t)
			atLeast, atMost := ask(t, c, each, false), ask(t, c, each, true)
			for range 2 * each {
				receive(t, h.begun)
			}
			begun := time.Now()
			cut(t, p.cable[0])
			for range each {
				lost(t, receive(t, atMost))
			}
			t.Logf("refused after %v", time.Since(begun))
			for range 2 * each {
				receive(t, h.cancelled)
			}
			p.a.works(t, each, p.sleeping("a", 0))
			for range each {
				answeredBy(t, receive(t, atLeast), "a", 2)
			}
			settled(t, p.a, p.b)
			if n := p.a.counter(t, "redelivered"); n != each {
				t.Errorf("%d redelivered, want %d", n, each)
			}
			if requests, again := p.check(t); requests != 2*each || again != each {
				t.Errorf("%d requests were executed, and %d again; want %d and %d", requests, again, 2*each, each)
			}
		})
	}
}

// A broker at the edge that nobody can connect to dials out, and the link carries work
// both ways; when it is cut, the edge dials again.
func TestEdgeBehindAFirewall(t *testing.T) {
	t.Parallel()
	h, k := netns.Pair(t)
	k.Shield(t)
	p := paired(t, h, k)
	soon, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := h.DialContext(soon, "tcp", k.Address+":5555"); err == nil {
		_ = c.Close()
		t.Fatal("the edge can be reached from outside")
	}
	p.b.works(t, 2, p.sleeping("b", time.Millisecond))
	offered(t, p.a)
	c := p.a.client(t)
	answeredBy(t, receive(t, ask(t, c, 1, false)), "b", 1)
	k.Reset(t)
	sees(t, "both sides see the link down", p.a, p.b, isDown)
	late := ask(t, c, 1, false)
	k.Mend(t)
	k.Shield(t)
	linked(t, p.a, p.b)
	answeredBy(t, receive(t, late), "b", 1)
	settled(t, p.a, p.b)
}
