package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// owed is how many answers with a text or a name of longName are more than a queue takes.
const owed = 27_000

var longName = strings.Repeat("n", mdp.MaxService)

// askOwed asks so much that to be told of all of it in one go would be too much for the
// connection.
func (p *peer) askOwed(service string, head mdp.Head) {
	p.m.t.Helper()
	var batch zsock.Batch
	for i := range owed {
		head.Token = uint64(i + 1)
		head.ID = mdp.RequestID{1, 12: byte(i >> 16), 13: byte(i >> 8), 14: byte(i)}
		head.Attempt = 1
		if err := p.write(&batch, mdp.Command{Kind: mdp.Request, Service: []byte(service), Head: head}, "x"); err != nil {
			p.m.t.Fatalf("ask: %v", err)
		}
		if i%500 == 0 {
			batch.Flush()
			p.m.settle()
		}
	}
	batch.Flush()
	p.m.settle()
}

// toldOfAll fails the test unless the peer was told once of each request, and nothing else.
func (p *peer) toldOfAll(status mdp.Status) {
	p.m.t.Helper()
	p.alive()
	told := make(map[uint64]bool)
	for len(p.got) > 0 {
		f := p.next()
		switch {
		case f.Kind == mdp.State || f.Kind == mdp.Interest:
		case f.Kind != mdp.Final || mdp.Status(f.Head.Status) != status:
			p.m.t.Fatalf("got %v %v", f.Kind, f.err())
		case told[f.Head.Token]:
			p.m.t.Fatalf("told twice of %d", f.Head.Token)
		default:
			told[f.Head.Token] = true
		}
	}
	if len(told) != owed {
		p.m.t.Errorf("told of %d of %d requests", len(told), owed)
	}
}

// A link is lost over which a client's requests were running that may run once only: it
// is told of each, and what it waits for elsewhere goes on.
func TestLinkIsLostThatHeldMuch(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a, b := m.broker("a"), m.broker("b", func(c *Config) { c.Name = longName }, peers("a"))
		m.up(a, 1)
		m.worker(b, "s", 1)
		other := m.worker(a, "other", 1)
		m.pass(2 * time.Second)
		c := m.client(a, "c")
		c.askOwed("s", mdp.Head{Flags: mdp.FlagOnce})
		h := mdp.Head{Token: 1 << 20, ID: mdp.RequestID{2}, Attempt: 1}
		c.send(mdp.Command{Kind: mdp.Request, Service: []byte("other"), Head: h}, "y")
		r := other.take()
		if n := m.count(a, "offloaded"); n != owed {
			t.Fatalf("%d went over the link", n)
		}
		m.net.Reset("a", "b")
		m.pass(time.Second)
		c.toldOfAll(mdp.PeerLost)
		m.wantCount(a, "answers_dropped", 0)
		other.answer(r, "z")
		c.answered(h, mdp.OK, "z")
		m.empty(a)
	})
}

// A worker goes that held much of what a linked broker sent: the link stays. Where it is
// silent only, too.
func TestWorkerIsLostThatHeldMuch(t *testing.T) {
	for name, lose := range map[string]func(m *mesh, w *peer){
		"gone": func(m *mesh, w *peer) { w.close(); m.pass(time.Second) },
		"silent": func(m *mesh, w *peer) {
			w.mute.Store(true)
			m.pass(25 * time.Second) // it may take that long to arrive: suspect.go
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				p, w := m.fakePeer(b, "p"), m.worker(b, longName, owed)
				m.settle()
				p.askOwed(longName, mdp.Head{Flags: mdp.FlagOnce})
				if n := len(w.got); n != owed {
					t.Fatalf("the worker got %d", n)
				}
				lose(m, w)
				p.toldOfAll(mdp.WorkerLost)
				m.wantCount(b, "answers_dropped", 0)
				if w.mute.Load() {
					w.close()
				}
				m.empty(b)
			})
		})
	}
}

// What waits goes back to a peer that says it is idle, however much that is.
func TestMuchGoesBackToAnIdlePeer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p, w, c := m.fakePeer(b, "p"), m.worker(b, longName, 1), m.client(b, "c")
		c.ask(longName, "x")
		w.take()
		p.askOwed(longName, mdp.Head{})
		if n := b.liveRequests(); n != owed+1 {
			t.Fatalf("%d requests are here", n)
		}
		p.state(longName, mdp.Load{Idle: 2 * owed, Workers: 2 * owed})
		m.pass(time.Second)
		p.toldOfAll(mdp.NotTaken)
		m.wantCount(b, "answers_dropped", 0)
		if n := b.liveRequests(); n != 1 {
			t.Errorf("%d requests are still here", n)
		}
	})
}

// While the rest of what is to be failed waits for the ticker, an end may come first:
// nobody is told of anything twice, and nothing is left.
func TestEndsBeforeItsTurn(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		s, _ := b.require(nil, []byte("s"), 0)
		var batch zsock.Batch
		var all endings
		for range 2*portion + 1 {
			r, err := s.admit(&batch, nil, 1, b.now())
			if err != nil {
				t.Fatal(err)
			}
			r.from.detached = true
			all.add(r.token(), busy("lost"))
		}
		s.end(&batch, all)
		last := all[len(all)-1]
		s.finish(&batch, s.table.find(last.token))
		again, _ := s.admit(&batch, nil, 1, b.now()) // in the slot of that one
		if failed := s.stats.Failed; failed != portion || again.slot != uint32(last.token) {
			t.Errorf("%d failed in one go, slot %d", failed, again.slot)
		}
		s.mu.Unlock()
		m.pass(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.stats.Failed != 2*portion || s.table.live != 1 || !again.live {
			t.Errorf("%d failed, %d live", s.stats.Failed, s.table.live)
		}
		s.finish(&batch, again)
	})
}
