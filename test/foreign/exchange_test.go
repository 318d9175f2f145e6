package foreign

import (
	"slices"
	"testing"
)

// Every kind of client with every kind of worker, through one queue: what the
// client wrote arrives octet by octet, what the worker said comes back, and the
// answer has the client's own form.
func TestEveryClientWithEveryWorker(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for _, a := range askers {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			p := startPeer(t)
			client := a.open(t, p, b)
			for _, form := range answerers {
				exchange(t, b, p, &a, client, &form)
			}
		})
	}
}

func exchange(t *testing.T, b *broker, p *peer, a *asker, client *socket, form *answerer) {
	t.Helper()
	service := a.name + " / " + form.name + "\x00\xff"
	w := form.open(t, p, b, service)
	defer w.close(t)

	question := []string{"first", "", "last \x00\xff"}
	client.send(t, a.ask(service, question...)...)
	address := w.request(t, question...)
	var parts []string
	for _, part := range []string{"part one", "part two"} {
		if w.part(t, address, part, "") {
			parts = append(parts, part, "")
		}
	}
	w.answer(t, address, "done", "really")

	final := a.final(service, "done", "really")
	switch {
	case a.partial == nil:
		final = a.final(service, append(parts, "done", "really")...)
	case parts != nil:
		client.expect(t, a.partial(service, "part one", "")...)
		client.expect(t, a.partial(service, "part two", "")...)
	}
	client.expect(t, final...)

	// The next one, to see that the session goes on: an answer without a body.
	client.send(t, a.ask(service, "again")...)
	w.answer(t, w.request(t, "again"))
	got := client.recv(t)
	if want := a.final(service); !slices.Equal(got, want) && !slices.Equal(got, append(want, "")) {
		t.Fatalf("%s of %s: got %q, want %q", form.name, a.name, got, want)
	}
}

// Nothing follows a FINAL: a worker's second answer and its late partials are dropped.
func TestNothingFollowsTheFinal(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range answerers {
		w := form.open(t, p, b, form.name)
		client.send(t, "MDPC02", "\x01", form.name, "question")
		address := w.request(t, "question")
		w.answer(t, address, "answer")
		w.answer(t, address, "answer again")
		w.part(t, address, "late part")
		client.expect(t, "MDPC02", "\x03", form.name, "answer")
		// The worker has room for one, not for two; what it said too much is gone.
		client.send(t, "MDPC02", "\x01", form.name, "next")
		w.answer(t, w.request(t, "next"), "next answer")
		client.expect(t, "MDPC02", "\x03", form.name, "next answer")
		client.fence(t)
		w.close(t)
	}
}

// A worker has one request at a time, and requests wait in order.
func TestOneRequestPerWorker(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range []answerer{worker01, worker02} {
		w := form.open(t, p, b, form.name)
		for _, body := range []string{"1", "2", "3"} {
			client.send(t, "MDPC02", "\x01", form.name, body)
		}
		seen := map[string]bool{}
		for _, body := range []string{"1", "2", "3"} {
			address := w.request(t, body)
			if seen[address] {
				t.Errorf("address %s names two requests", address)
			}
			seen[address] = true
			w.fence(t) // no second request came with it
			w.answer(t, address, body)
			client.expect(t, "MDPC02", "\x03", form.name, body)
		}
	}
}

// The worker that has waited longest is next.
func TestLeastRecentlyUsedWorker(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	var workers []*worker
	for _, form := range []answerer{worker01, worker02, worker01} {
		w := form.open(t, p, b, "turns")
		w.fence(t) // registered before the next one
		workers = append(workers, w)
	}
	for range 2 {
		for _, w := range workers {
			client.send(t, "MDPC02", "\x01", "turns", "x")
			w.answer(t, w.request(t, "x"), "y")
			client.expect(t, "MDPC02", "\x03", "turns", "y")
		}
	}
}

// A request for a service nobody offers waits for the first worker that comes.
func TestRequestWaitsForAWorker(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	for _, a := range askers {
		client := a.open(t, p, b)
		client.send(t, a.ask("later: "+a.name, "x")...)
		w := worker01.open(t, p, b, "later: "+a.name)
		w.answer(t, w.request(t, "x"), "y")
		client.expect(t, a.final("later: "+a.name, "y")...)
	}
}

// Some workers cannot do without a body frame, and no RFC says what to do without.
func TestRequestWithoutBody(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	for _, form := range []answerer{worker01, worker02} {
		w := form.open(t, p, b, form.name)
		client := p.open(t, b, "REQ")
		client.send(t, "MDPC01", form.name)
		w.answer(t, w.request(t, ""), "y")
		client.expect(t, "MDPC01", form.name, "y")
	}
}

// Names are octets: upper and lower case differ, NUL is no end, 255 octets are allowed.
func TestServiceNamesAreOctets(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	long := make([]byte, 255)
	for i := range long {
		long[i] = byte(255 - i)
	}
	names := []string{"echo", "Echo", "echo\x00", "echo\x00x", " ", "\x01", string(long)}
	workers := map[string]*worker{}
	for _, name := range names {
		workers[name] = worker01.open(t, p, b, name)
	}
	for _, name := range names {
		client.send(t, "MDPC02", "\x01", name, name)
		workers[name].answer(t, workers[name].request(t, name), "y")
		client.expect(t, "MDPC02", "\x03", name, "y")
	}
}

// What a native worker's handler says no with reaches a foreign client as a FINAL.
func TestErrorOfAHandler(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	w := answerers[len(answerers)-1].open(t, p, b, "no")
	for _, a := range askers {
		if a.name == "native" {
			continue
		}
		client := a.open(t, p, b)
		client.send(t, a.ask("no", "x")...)
		w.fail(t, w.request(t, "x"), "not today")
		client.expect(t, a.final("no", "ERROR", "520 not today")...)
	}
}
