package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// traced is what a broker answers to mmi.request, one entry.
func traced(t testing.TB, b *Broker, h mdp.Head) Trace {
	t.Helper()
	var out []Trace
	if err := json.Unmarshal(b.mmi("mmi.request", [][]byte{[]byte(h.ID.String())}), &out); err != nil || len(out) != 1 {
		t.Fatalf("%v %+v, want one entry", err, out)
	}
	if out[0].Broker != b.name {
		t.Errorf("broker %q, want %q", out[0].Broker, b.name)
	}
	return out[0]
}

// A request is found in whatever state it is, at each broker that has to do with it.
func TestTrace(t *testing.T) {
	inBubble(t, func(m *mesh) {
		home := m.broker("home")
		far := m.broker("far", peers("home"))
		m.pass(time.Second)
		c := m.client(home, "c")
		none := mdp.Head{ID: mdp.RequestID{9}}
		if got := traced(m.t, home, none); got.State != traceNone || got.Service != "" {
			t.Errorf("a stranger: %+v", got)
		}

		h := c.ask("s", "x", flags(mdp.FlagDetached), within(time.Hour))
		m.pass(2 * time.Second)
		if got := traced(m.t, home, h); got.State != traceQueued || got.Service != "s" || got.Attempt != 1 || got.AgeMs < 2000 || got.AgeMs > 2100 ||
			got.LeftMs > 3_598_000 || got.LeftMs < 3_597_000 || !got.Detached || got.Once || len(got.Holders) > 0 {
			t.Errorf("queued: %+v", got)
		}
		if got := traced(m.t, far, h); got.State != traceNone {
			t.Errorf("queued, elsewhere: %+v", got)
		}

		w := m.worker(far, "s", 1, func(h *mdp.HelloMap) { h.Host, h.PID = "mill", 7 })
		r := w.take()
		if got := traced(m.t, home, h); got.State != traceSent || len(got.Holders) != 1 || got.Holders[0] != "broker far" {
			t.Errorf("sent: %+v", got)
		}
		got := traced(m.t, far, h)
		if got.State != traceRunning || len(got.Holders) != 1 || !strings.HasSuffix(got.Holders[0], "(pid 7 on mill)") || got.From != "broker home" {
			t.Errorf("running: %+v", got)
		}

		c.close()
		m.settle()
		if got := traced(m.t, home, h); got.State != traceSent || got.From != "a client that has gone" {
			t.Errorf("its client has gone: %+v", got)
		}
		w.answer(r, "done")
		m.pass(10 * time.Second)
		if got := traced(m.t, home, h); got.State != traceKept || got.Status != 0 || got.LeftMs < 49_000 || got.LeftMs > 50_000 {
			t.Errorf("kept: %+v", got)
		}
		if got := traced(m.t, far, h); got.State != traceNone {
			t.Errorf("answered: %+v", got)
		}
		m.pass(time.Minute)
		if got := traced(m.t, home, h); got.State != traceNone {
			t.Errorf("kept no longer: %+v", got)
		}
	})
}

// What no worker survived is told with the reason, and nobody learns the instance by
// which a client fetches its answers.
func TestTraceOfPoison(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.dial(b, "somewhere", mdp.Client, mdp.Native)
		c.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "secret-instance", Host: "desk", PID: 3})})
		c.expect(mdp.Welcome)
		h := c.ask("s", "x", flags(mdp.FlagDetached))
		for range 3 {
			w := m.worker(b, "s", 1)
			w.take()
			if text := fmt.Sprint(b.Trace(h.ID)); strings.Contains(text, "secret-instance") || !strings.Contains(text, "(pid 3 on desk)") {
				t.Errorf("the client is not told of, or its instance is: %s", text)
			}
			w.close()
		}
		c.failed(h, mdp.WorkerLost, true)
		rows := b.Trace(h.ID)
		if len(rows) != 2 || rows[0].State != traceKept || rows[0].Status != int(mdp.WorkerLost) || rows[1].State != traceGivenUp ||
			rows[1].Attempt != 3 || rows[1].Service != "s" || rows[1].Text == "" || strings.Contains(fmt.Sprint(rows), "secret-instance") {
			t.Errorf("%+v", rows)
		}
	})
}

// The search has an end, and says so.
func TestTraceIsBounded(t *testing.T) {
	b, err := New(Config{Name: "b", Listen: []string{"tcp://x:1"}})
	if err != nil {
		t.Fatal(err)
	}
	b.name = "b"
	fill := func(name string, n int) *service {
		s := newService(b, name)
		b.services[name] = s
		for i := range n {
			r := s.table.take()
			r.service, r.id = s, mdp.RequestID{1, byte(i >> 16), byte(i >> 8), byte(i)}
		}
		return s
	}
	s := fill("s", maxTraced)
	last := s.table.slots[maxTraced-1].id
	if got := b.Trace(last); got[0].State != traceQueued {
		t.Errorf("the last that is looked at: %+v", got)
	}
	if got := b.Trace(mdp.RequestID{}); got[0].State != traceNone {
		t.Errorf("all were looked at: %+v", got)
	}
	fill("t", 1)
	if got := b.Trace(mdp.RequestID{}); got[0].State != traceUnknown {
		t.Errorf("one was not looked at: %+v", got)
	}
	for _, odd := range [][][]byte{nil, {nil}, {[]byte("abc")}, {[]byte(strings.Repeat("g", 32))}} {
		if got := string(b.mmi("mmi.request", odd)); got != "400" {
			t.Errorf("body %q: %s", odd, got)
		}
	}
}
