package broker

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/mdmesh/mdmesh/mdp"
)

// Every kind of client is served by every kind of worker.
func TestBridging(t *testing.T) {
	for _, client := range []mdp.Dialect{mdp.V01, mdp.V02, mdp.Majortomo, mdp.Bare, mdp.Native} {
		for _, worker := range []mdp.Dialect{mdp.V01, mdp.V02, mdp.Native} {
			t.Run(client.String()+" client "+worker.String()+" worker", func(t *testing.T) {
				inBubble(t, func(m *mesh) { bridge(m, client, worker) })
			})
		}
	}
}

func bridge(m *mesh, client, worker mdp.Dialect) {
	m.t.Helper()
	b := m.broker("b")
	var w *peer
	if worker == mdp.Native {
		w = m.worker(b, "svc", 1)
	} else {
		w = m.foreignWorker(b, "svc", worker)
	}
	c := m.dial(b, "c", mdp.Client, client)
	ask := func(body ...string) *message {
		c.send(mdp.Command{Kind: mdp.Request, Service: []byte("svc"), Head: mdp.Head{Token: 1}}, body...)
		return w.take()
	}
	parts := worker != mdp.V01 // 0.1 has none
	r := ask("a", "b")
	if r.body() != "a|b" {
		m.t.Errorf("request %q", r.body())
	}
	if parts {
		w.partial(r, "p", "q")
	}
	w.answer(r, "z")
	first, want := c.next(), "z"
	switch {
	case parts && (client == mdp.V01 || client == mdp.Bare):
		want = "p|q|z"
	case parts:
		if first.Kind != mdp.Partial || clientBody(first) != "p|q" {
			m.t.Errorf("partial: %v %q", first.Kind, first.frames)
		}
		first = c.next()
	}
	if first.Kind != mdp.Final || clientBody(first) != want {
		m.t.Errorf("final: %v %q, want %s", first.Kind, first.frames, want)
	}
	if client != mdp.Native {
		if r := ask(); len(r.frames)-r.Body < 1 && worker != mdp.Native {
			m.t.Error("a foreign worker got no body frame at all")
		}
	}
	c.close()
	m.empty(b)
}

// clientBody is the body as the dialect of the answer says.
func clientBody(m *message) string {
	var parts []string
	for _, f := range m.frames[m.Body:] {
		parts = append(parts, string(f))
	}
	return strings.Join(parts, "|")
}

func TestEnvelopeAndDelimiterAreMirrored(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.foreignWorker(b, "s", mdp.V02)
		c := m.dial(b, "c", mdp.Client, mdp.V01)
		c.raw("hop", "id", "", "MDPC01", "s", "x")
		w.answer(w.take(), "y")
		if f := c.next(); strings.Join(strs(f.frames), ",") != "hop,id,,MDPC01,s,y" {
			t.Errorf("answer %q", f.frames)
		}
		c.raw("MDPC01", "s", "x") // without delimiter: answered without
		w.answer(w.take(), "y")
		if f := c.next(); strings.Join(strs(f.frames), ",") != "MDPC01,s,y" {
			t.Errorf("answer %q", f.frames)
		}
	})
}

func strs(frames [][]byte) (out []string) {
	for _, f := range frames {
		out = append(out, string(f))
	}
	return out
}

func TestErrorsToForeignClients(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.ForeignTTL = 10 * time.Second })
		w := m.worker(b, "s", 1)
		c := m.dial(b, "c", mdp.Client, mdp.V02)
		ask := func(service string) {
			c.send(mdp.Command{Kind: mdp.Request, Service: []byte(service)}, "x")
		}
		ask("s")
		w.refuse(w.take(), &mdp.Error{Status: mdp.AppError, Text: "no paper"})
		if f := c.expect(mdp.Final); f.body() != "ERROR|520 no paper" {
			t.Errorf("got %q", f.body())
		}
		ask("nobody") // has no worker: dropped after the TTL, in silence
		m.pass(9 * time.Second)
		if n := b.liveRequests(); n != 1 {
			t.Errorf("%d live", n)
		}
		m.pass(3 * time.Second)
		c.quiet()
		m.wantCount(b, "foreign_unanswered", 1)
		m.empty(b)
		ask("s") // with workers, however busy, it waits
		w.take()
		ask("s")
		m.pass(time.Minute)
		if n := b.liveRequests(); n != 2 {
			t.Errorf("%d live", n)
		}
	})
}

// How long nobody offers a service counts, not how old a request is: one that ran for
// minutes is not dropped when its worker is started again.
func TestOldRequestsOutliveAWorkersRestart(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.ForeignTTL = 10 * time.Second })
		w := m.worker(b, "s", 3)
		c, native := m.dial(b, "c", mdp.Client, mdp.V02), m.client(b, "native")
		c.send(mdp.Command{Kind: mdp.Request, Service: []byte("s")}, "x")
		native.ask("s", "orphan", flags(mdp.FlagDetached))
		w.take()
		w.take()
		m.pass(time.Minute)
		native.close()
		w.close()
		m.pass(9 * time.Second)
		w = m.worker(b, "s", 2)
		w.take()
		w.take()
		w.close()
		m.pass(9 * time.Second)
		if n := b.liveRequests(); n != 2 {
			t.Errorf("%d live", n)
		}
		m.pass(3 * time.Second)
		m.wantCount(b, "expired", 2)
		m.empty(b)
	})
}

func TestCollectedPartialsAreBounded(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxMessage = 10_000 })
		w := m.worker(b, "s", 1)
		c := m.dial(b, "c", mdp.Client, mdp.V01)
		c.send(mdp.Command{Kind: mdp.Request, Service: []byte("s")}, "x")
		r := w.take()
		for range 3 {
			w.partial(r, string(make([]byte, 4_000)))
		}
		w.expect(mdp.Cancel)
		w.answer(r, "end")
		c.quiet() // rather nothing than an answer with a hole
		m.wantCount(b, "partials_dropped", 1)
		m.empty(b)
	})
}

func TestMMI(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		busy := m.worker(b, "busy", 1)
		c := m.client(b, "c")
		c.ask("busy", "x")
		busy.take()
		c.ask("queued only", "x")
		v1, v2 := m.dial(b, "v1", mdp.Client, mdp.V01), m.dial(b, "v2", mdp.Client, mdp.V02)
		for _, test := range []struct{ question, body, want string }{
			{"mmi.service", "busy", "200"},
			{"mmi.service", "queued only", "404"},
			{"mmi.service", "other", "404"},
			{"mmi.service", "", "404"},
			{"mmi.service", "mmi.service", "200"},
			{"mmi.service", "mmi.other", "404"},
			{"mmi.other", "x", "501"},
			{"mmi.discovery", "", "501"},
		} {
			c.answered(c.ask(test.question, test.body), mdp.OK, test.want)
			for _, f := range []*peer{v1, v2} {
				f.send(mdp.Command{Kind: mdp.Request, Service: []byte(test.question)}, test.body)
				if r := f.expect(mdp.Final); r.body() != test.want || string(r.Service) != test.question {
					t.Errorf("%s %q in %v: %q of %q", test.question, test.body, f.dialect, r.body(), r.Service)
				}
			}
		}
		v2.send(mdp.Command{Kind: mdp.Request, Service: []byte("mmi.service")}) // no body at all
		if r := v2.expect(mdp.Final); r.body() != "404" {
			t.Errorf("no body: %q", r.body())
		}
		m.wantCount(b, "requests", 2) // questions are no requests
	})
}

func TestMMIListings(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.Advertise = "tcp://outside:1" })
		p := m.broker("p", peers("b"), func(c *Config) { c.Advertise = "tcp://p:1" })
		m.worker(b, "s", 4, func(h *mdp.HelloMap) { h.Host, h.PID, h.Tags = "host", 42, []string{"a"} })
		m.pass(time.Second)
		var workers []WorkerState
		var services []ServiceState
		var brokers []BrokerState
		var links []LinkState
		for question, into := range map[string]any{"mmi.workers": &workers, "mmi.services": &services, "mmi.brokers": &brokers, "mmi.peers": &links} {
			if err := json.Unmarshal(b.mmi(question, nil), into); err != nil {
				t.Errorf("%s: %v", question, err)
			}
			var any []map[string]any
			if err := msgpack.Unmarshal(b.mmi(question, [][]byte{nil, []byte("msgpack")}), &any); err != nil || len(any) == 0 {
				t.Errorf("%s as msgpack: %v %v", question, any, err)
			}
		}
		if w := workers[0]; w.Service != "s" || w.Concurrency != 4 || w.Host != "host" || w.PID != 42 || w.Scope != "mesh" || w.Dialect != "native" {
			t.Errorf("worker %+v", w)
		}
		if s := services[0]; s.Name != "s" || s.Workers != 1 || s.Idle != 1 {
			t.Errorf("service %+v", s)
		}
		if len(brokers) != 2 || !brokers[0].Self || brokers[0].Endpoints[0] != "tcp://outside:1" || brokers[1].Name != "p" || brokers[1].Endpoints[0] != "tcp://p:1" {
			t.Errorf("brokers %+v", brokers)
		}
		if len(links) != 1 || links[0].Name != "p" || links[0].State != "up" || links[0].Dialled {
			t.Errorf("links %+v", links)
		}
		if string(p.mmi("mmi.service", [][]byte{[]byte("s")})) != "200" {
			t.Error("a service only a peer offers is not 200, though requests for it are routed there")
		}
	})
}
