package foreign

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// kill -9 of a worker that holds a request: another one gets it, the client gets
// exactly one answer.
func TestWorkerKilledWithARequest(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	for _, a := range askers {
		victim := run(t, "testdata/blockingworker.py", b.endpoint, a.name)
		victim.wait(t, "ready")
		client := a.open(t, p, b)
		client.send(t, a.ask(a.name, "work 600")...)
		victim.wait(t, "request")
		heir := worker02.open(t, p, b, a.name)
		heir.fence(t)
		victim.kill(t)
		heir.answer(t, heir.request(t, "work 600"), "from the heir")
		if a.greet != nil {
			got := client.recv(t)
			if c := decode(t, got); c.Kind != mdp.Final || c.Head.Attempt != 2 || !slices.Equal(got[c.Body:], []string{"from the heir"}) {
				t.Errorf("%s: got %q, want the answer of attempt 2", a.name, got)
			}
			continue
		}
		client.expect(t, a.final(a.name, "from the heir")...)
		if a.socket == "DEALER" {
			client.fence(t)
		}
	}
}

// Whatever way a session ends, what the worker held goes to another one.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		for name, leave := range map[string]func(*worker){
			"close":        func(w *worker) { w.close(t) },
			"disconnect":   func(w *worker) { w.send(t, form.disconnect...) },
			"second ready": func(w *worker) { w.send(t, form.ready("anything")...) },
		} {
			service := form.name + ", " + name
			victim := form.open(t, p, b, service)
			client.send(t, "MDPC02", "\x01", service, "x", "\x00")
			victim.request(t, "x", "\x00")
			heir := worker01.open(t, p, b, service)
			heir.fence(t)
			leave(victim)
			heir.answer(t, heir.request(t, "x", "\x00"), "y")
			client.expect(t, "MDPC02", "\x03", service, "y")
			client.fence(t)
			heir.close(t)
		}
	}
}

// A worker that gave its request up and then answers it after all is too late: the
// answer of the one that holds it now counts. It is a good worker otherwise.
func TestLateAnswerAfterRedelivery(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		late := form.open(t, p, b, form.name)
		client.send(t, "MDPC02", "\x01", form.name, "x")
		address := late.request(t, "x")
		late.send(t, form.disconnect...)
		heir := form.open(t, p, b, form.name)
		held := heir.request(t, "x")
		late.send(t, form.ready(form.name)...)
		late.part(t, address, "late")
		late.answer(t, address, "late")
		late.fence(t)
		heir.answer(t, held, "y")
		client.expect(t, "MDPC02", "\x03", form.name, "y")
		client.send(t, "MDPC02", "\x01", form.name, "next")
		late.answer(t, late.request(t, "next"), "z") // it has waited longest
		client.expect(t, "MDPC02", "\x03", form.name, "z")
		client.fence(t)
		late.close(t)
		heir.close(t)
	}
}

// Three workers may try; then the request is dropped: MDP has no word for errors,
// but a native client is told.
func TestThreeAttempts(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	for _, a := range askers {
		client := a.open(t, p, b)
		service := "poison, " + a.name
		client.send(t, a.ask(service, "x")...)
		for range 3 {
			w := worker01.open(t, p, b, service)
			w.request(t, "x")
			w.close(t)
		}
		if a.greet != nil {
			if c := decode(t, client.recv(t)); c.Head.Status != 502 {
				t.Errorf("native client: status %d, want 502", c.Head.Status)
			}
		}
		survivor := worker01.open(t, p, b, service)
		// Nothing is left of it: the next request is the next one.
		other := p.open(t, b, "DEALER")
		other.send(t, "MDPC02", "\x01", service, "next")
		survivor.answer(t, survivor.request(t, "next"), "y")
		other.expect(t, "MDPC02", "\x03", service, "y")
		other.fence(t)
	}
}

// Once a partial was passed on, the request is not run again: the client would see
// two beginnings. Where partials are collected, it is, and only one run is seen.
func TestNotAgainAfterAPartial(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	for _, a := range askers {
		client := a.open(t, p, b)
		service := "partial, " + a.name
		victim := worker02.open(t, p, b, service)
		client.send(t, a.ask(service, "x")...)
		address := victim.request(t, "x")
		victim.part(t, address, "begun")
		if a.partial != nil {
			client.expect(t, a.partial(service, "begun")...)
		} else {
			victim.fence(t)
		}
		victim.close(t)
		heir := worker02.open(t, p, b, service)
		if a.greet != nil {
			if c := decode(t, client.recv(t)); c.Head.Status != 502 {
				t.Errorf("native client: status %d, want 502", c.Head.Status)
			}
		}
		if a.partial != nil {
			other := p.open(t, b, "DEALER")
			other.send(t, "MDPC02", "\x01", service, "next")
			heir.answer(t, heir.request(t, "next"), "y")
			other.expect(t, "MDPC02", "\x03", service, "y")
			continue
		}
		heir.answer(t, heir.request(t, "x"), "whole")
		client.expect(t, a.final(service, "whole")...)
	}
}

// A client that goes away takes its waiting requests along: nobody could read the answer.
func TestClientGone(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	for _, a := range askers {
		if a.socket == "REQ" {
			continue // it waits for its answer before it could ask what fences it
		}
		service := "left, " + a.name
		gone := a.open(t, p, b)
		gone.send(t, a.ask(service, "from the one that left")...)
		gone.fence(t)
		gone.close(t)
		waitUntilGone(t, p, b, service)
	}
}

// waitUntilGone asks until a worker of the service is given the stayer's request
// first: the broker reads the end of a connection when it comes.
func waitUntilGone(t *testing.T, p *peer, b *broker, service string) {
	t.Helper()
	deadline := time.Now().Add(guard)
	for time.Now().Before(deadline) {
		stays := p.open(t, b, "DEALER")
		stays.send(t, "MDPC02", "\x01", service, "from the one that stays")
		stays.fence(t)
		w := worker01.open(t, p, b, service)
		got := w.recv(t)
		if slices.Equal(got[5:], []string{"from the one that stays"}) {
			w.answer(t, got[3], "y")
			stays.expect(t, "MDPC02", "\x03", service, "y")
			return
		}
		w.send(t, worker01.disconnect...) // gives it back
		w.fence(t)
		w.close(t)
		stays.close(t)
	}
	t.Fatal("a request outlives its client")
}

// A foreign worker cannot be told that its client left. It stays busy until it has
// answered, the answer goes nowhere, and then it is the next one's.
func TestClientLeavesABusyWorker(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	stays := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		gone := p.open(t, b, "DEALER")
		w := form.open(t, p, b, form.name)
		gone.send(t, "MDPC02", "\x01", form.name, "1")
		address := w.request(t, "1")
		gone.close(t)
		waitUntilIdle(t, stays, form.name)
		stays.send(t, "MDPC02", "\x01", form.name, "2")
		stays.fence(t)
		w.fence(t) // still at work
		w.part(t, address, "for nobody")
		w.answer(t, address, "for nobody")
		w.answer(t, w.request(t, "2"), "two")
		stays.expect(t, "MDPC02", "\x03", form.name, "two")
		w.close(t)
	}
}

// waitUntilIdle asks until the broker holds no request for the service.
func waitUntilIdle(t *testing.T, s *socket, service string) {
	t.Helper()
	for deadline := time.Now().Add(guard); time.Now().Before(deadline); {
		var services []struct {
			Name           string
			Queue, Running int
		}
		s.send(t, "MDPC02", "\x01", "mmi.services")
		got := s.recv(t)
		if err := json.Unmarshal([]byte(got[len(got)-1]), &services); err != nil {
			t.Fatal(err)
		}
		for _, row := range services {
			if row.Name == service && row.Queue+row.Running == 0 {
				return
			}
		}
	}
	t.Fatal("a request outlives its client")
}
