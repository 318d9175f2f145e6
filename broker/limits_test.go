package broker

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// A request that no message to a worker can carry fails; the worker stays.
func TestRequestTooBigForWorkers(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxMessage = 10_000 })
		w := m.worker(b, "s", 1)
		f := m.dial(b, "f", mdp.Client, mdp.V02)
		f.send(mdp.Command{Kind: mdp.Request, Service: []byte("s")}, string(make([]byte, 10_000-8)))
		w.quiet()
		m.wantCount(b, "foreign_unanswered", 1)
		c := m.client(b, "c")
		h := c.ask("s", "x")
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
		m.empty(b)
	})
}

func TestAnswerTooBigForClient(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxMessage = 10_000 })
		w := m.foreignWorker(b, "s", mdp.V02)
		c := m.client(b, "c")
		h := c.ask("s", "x")
		w.answer(w.take(), string(make([]byte, 10_000-23)))
		c.failed(h, mdp.TooBig, true)
		m.empty(b)
	})
}

// A client that does not read is told so as long as that fits, and is cut off when
// nothing does: it must never wait for an answer that was dropped.
func TestAnswersForClientThatDoesNotRead(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 32)
		c := m.client(b, "c")
		m.net.Fault("b", "client-c", memsock.Fault{Stall: true})
		heads := make(map[mdp.Head]bool)
		for range 32 {
			heads[c.ask("s", "x")] = true
		}
		for range 32 {
			w.answer(w.take(), string(make([]byte, 1<<20)))
			m.settle()
		}
		m.net.Heal("b", "client-c")
		ok, refused := 0, 0
		for range 32 {
			switch f := c.expect(mdp.Final); mdp.Status(f.Head.Status) {
			case mdp.OK:
				ok++
			case mdp.Busy:
				refused++
			}
		}
		if ok == 0 || refused == 0 || ok+refused != 32 {
			t.Errorf("%d answers and %d refusals", ok, refused)
		}
		m.wantCount(b, "answers_dropped", uint64(refused))
		c.alive()
	})
}

func TestClientThatTakesNothingIsCutOff(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		m.net.Fault("b", "client-c", memsock.Fault{Stall: true})
		var batch zsock.Batch
		for i := range 40_000 { // to each an answer of more than 250 octets
			c.write(&batch, mdp.Command{Kind: mdp.Request, Service: []byte(strings.Repeat("n", 200)), Head: mdp.Head{Flags: mdp.FlagNoWait, Token: uint64(i)}})
			if i%1000 == 0 {
				batch.Flush()
				m.settle()
			}
		}
		m.pass(time.Second)
		if n := len(b.allConns()); n != 0 {
			t.Errorf("%d connections are open", n)
		}
		if m.count(b, "answers_dropped") == 0 {
			t.Error("no drop was counted")
		}
		m.empty(b)
	})
}

// An answer must not have a hole: if a part cannot be passed on, the whole fails.
func TestPartialThatDoesNotFit(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.client(b, "c")
		m.net.Fault("b", "client-c", memsock.Fault{Stall: true})
		h := c.ask("s", "x")
		r := w.take()
		for range 12 {
			w.partial(r, string(make([]byte, 1<<20)))
			m.settle()
		}
		w.expect(mdp.Cancel)
		w.answer(r, "end")
		m.net.Heal("b", "client-c")
		parts := 0
		for m := c.next(); ; m = c.next() {
			if m.Kind == mdp.Partial {
				parts++
				continue
			}
			if m.Kind != mdp.Final || mdp.Status(m.Head.Status) != mdp.Busy || m.Head.Token != h.Token {
				t.Errorf("ended by %v %v", m.Kind, m.err())
			}
			break
		}
		if parts == 0 || parts >= 12 {
			t.Errorf("%d parts", parts)
		}
		m.wantCount(b, "partials_dropped", 1)
	})
}

// A worker whose connection takes nothing is left out, and comes back.
func TestWorkerThatDoesNotRead(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 100)
		c := m.client(b, "c")
		m.net.Fault("b", "worker", memsock.Fault{Stall: true})
		for range 20 {
			c.ask("s", string(make([]byte, 1<<20)))
			m.settle()
		}
		st := b.Services()[0]
		if st.Queue == 0 || st.Running == 0 {
			t.Fatalf("state %+v", st)
		}
		m.net.Heal("b", "worker")
		for range 20 {
			w.take()
		}
	})
}

func TestWorkerThatSaysDrain(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 2)
		c := m.client(b, "c")
		h := c.ask("s", "x")
		r := w.take()
		w.send(mdp.Command{Kind: mdp.Drain})
		w.expect(mdp.Drain)
		c.ask("s", "y")
		w.quiet()
		w.answer(r, "z")
		c.answered(h, mdp.OK, "z")
		w.quiet()
		w.send(mdp.Command{Kind: mdp.Bye})
		w.gone()
	})
}

// Connections are bounded for each endpoint, and what is refused tells why.
func TestConnectionsAreBounded(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxConnections = 2 })
		one, two := m.client(b, "one"), m.client(b, "two")
		if _, err := zsock.Dial(context.Background(), b.Bound()[0].Endpoint, zsock.Config{Type: zsock.Dealer, Network: m.net.Host("three")}, one); err == nil {
			t.Error("a third one is let in")
		}
		m.wantCount(b, "connections_refused", 1)
		if got := b.State().Transport[0].Refused; got["max-conns"] != 1 {
			t.Errorf("refused %v", got)
		}
		one.alive()
		two.close()
		m.pass(time.Second)
		m.client(b, "three").alive()
	})
}

// Connections that the broker ends are counted by why.
func TestClosedConnectionsAreCountedByReason(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		hello := func(p *peer, service, name string) {
			p.send(mdp.Command{Kind: mdp.Hello, Service: []byte(service), Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "i", Name: name, Incarnation: name, Concurrency: 1})})
			m.pass(2 * time.Second)
			p.gone()
		}
		mute := m.client(b, "mute")
		mute.mute.Store(true)
		mute.ask("s", "x")
		m.pass(5 * time.Second)
		mute.gone()
		parting := m.client(b, "parting")
		parting.send(mdp.Command{Kind: mdp.Bye})
		hello(m.client(b, "twice"), "", "")
		hello(m.dial(b, "w", mdp.Worker, mdp.Native), "mmi.service", "")
		hello(m.dial(b, "namesake", mdp.Peer, mdp.Native), "", "b")
		left := m.client(b, "left")
		left.close()
		m.pass(time.Second)
		got := b.State().Transport[0].Closed
		want := map[string]uint64{"silent": 1, "bye": 1, "mdp": 1, "denied": 1, "twin": 1, "peer-closed": 1}
		if !maps.Equal(got, want) {
			t.Errorf("closed %v, want %v", got, want)
		}
	})
}
