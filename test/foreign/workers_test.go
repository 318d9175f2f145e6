package foreign

import (
	"slices"
	"testing"
	"time"
)

// foreignAnswerers are the workers of both RFCs, with and without delimiter.
func foreignAnswerers() []answerer {
	var out []answerer
	for _, a := range answerers {
		if !a.native {
			out = append(out, a)
		}
	}
	return out
}

// A stranger's HEARTBEAT is answered by DISCONNECT: that is how workers learn that
// the broker was started again. Also its replies and a READY that is refused, but at
// most once a second: some workers answer DISCONNECT at once.
func TestStrangersAreTold(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	for _, form := range foreignAnswerers() {
		for what, frames := range map[string][]string{
			"heartbeat":     form.heartbeat,
			"refused ready": form.ready("mmi.service"),
			"reply":         slices.Concat(form.final, []string{"0000000000000000", "", "x"}),
		} {
			s := p.open(t, b, "DEALER")
			s.send(t, frames...)
			s.expect(t, form.disconnect...)
			// A flood within the same second draws nothing more.
			for range 100 {
				s.send(t, frames...)
			}
			told := 0
			s.send(t, "MDPC02", "\x01", "mmi.service", "fence")
			for m := s.recv(t); m[0] != "MDPC02"; m = s.recv(t) {
				told++
			}
			if told > 2 { // a slow machine may take more than a second for all this
				t.Errorf("%s: %d DISCONNECTs to 100 of %s", form.name, told, what)
			}
			s.close(t)
		}
	}
}

// DISCONNECT is the only answer to a stranger; with READY the session begins.
func TestReadyAfterBeingTold(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		w := &worker{p.open(t, b, "DEALER"), &form}
		w.send(t, form.heartbeat...)
		w.expect(t, form.disconnect...)
		w.send(t, form.ready(form.name)...)
		client.send(t, "MDPC02", "\x01", form.name, "x")
		w.answer(t, w.request(t, "x"), "y")
		client.expect(t, "MDPC02", "\x03", form.name, "y")
	}
}

// A second READY within a session is valid but unexpected: DISCONNECT. What the
// worker held goes to another one.
func TestSecondReady(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		w := form.open(t, p, b, form.name)
		client.send(t, "MDPC02", "\x01", form.name, "x")
		w.request(t, "x")
		w.send(t, form.ready(form.name)...)
		w.expect(t, form.disconnect...)
		other := worker01.open(t, p, b, form.name)
		other.answer(t, other.request(t, "x"), "y")
		client.expect(t, "MDPC02", "\x03", form.name, "y")
		client.send(t, "MDPC02", "\x01", "mmi.service", form.name)
		client.expect(t, "MDPC02", "\x03", "mmi.service", "200")
		other.close(t)
	}
}

// A REQUEST from a worker is valid but unexpected, too.
func TestRequestFromAWorker(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	for _, form := range foreignAnswerers() {
		w := form.open(t, p, b, form.name)
		w.send(t, slices.Concat(form.request, []string{"0000000000000000", "", "x"})...)
		w.expect(t, form.disconnect...)
		w.close(t)
	}
}

// READY for a name of the broker's, or for none, is refused.
func TestReadyRefused(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	for _, form := range foreignAnswerers() {
		for _, service := range []string{"mmi.service", "mmi.", "mmi.anything", ""} {
			s := p.open(t, b, "DEALER")
			s.send(t, form.ready(service)...)
			s.expect(t, form.disconnect...)
			s.close(t)
		}
		s := p.open(t, b, "DEALER")
		s.send(t, form.ready("")[:len(form.heartbeat)]...)
		s.expect(t, form.disconnect...)
		s.close(t)
	}
	// A connection whose identity begins with mmi. may register anything else.
	w := &worker{p.open(t, b, "DEALER", "IDENTITY=mmi.service"), &worker01}
	w.send(t, worker01.ready("echo")...)
	client := p.open(t, b, "REQ")
	client.send(t, "MDPC01", "echo", "x")
	w.answer(t, w.request(t, "x"), "y")
	client.expect(t, "MDPC01", "echo", "y")
	client.send(t, "MDPC01", "mmi.service", "echo")
	client.expect(t, "MDPC01", "mmi.service", "200")
}

// After DISCONNECT a worker gets nothing more, and no answer; READY opens a new session.
func TestWorkerLeaves(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		w := form.open(t, p, b, form.name)
		w.send(t, slices.Concat(form.disconnect, []string{"extra frame"})...)
		w.fence(t)
		client.send(t, "MDPC02", "\x01", "mmi.service", form.name)
		client.expect(t, "MDPC02", "\x03", "mmi.service", "404")
		client.send(t, "MDPC02", "\x01", form.name, "x")
		client.fence(t)
		w.fence(t)
		w.send(t, form.ready(form.name)...)
		w.answer(t, w.request(t, "x"), "y")
		client.expect(t, "MDPC02", "\x03", form.name, "y")
		w.close(t)
	}
}

// A reply nobody asked for is dropped without DISCONNECT: some workers answer every
// message they get, heartbeats included, and would start a storm.
func TestReplyToNothing(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		w := form.open(t, p, b, form.name)
		for _, address := range []string{"undefined", "", "0000000000000000", "ffffffffffffffff", "\x00\x6b\x8b\x45\x67"} {
			w.answer(t, address, "x")
			w.send(t, slices.Concat(form.final, []string{address})...)
		}
		w.fence(t)
		client.fence(t)
		// It is a worker like before, for one request at a time.
		client.send(t, "MDPC02", "\x01", form.name, "1")
		client.send(t, "MDPC02", "\x01", form.name, "2")
		address := w.request(t, "1")
		w.fence(t)
		w.answer(t, address, "one")
		w.answer(t, w.request(t, "2"), "two")
		client.expect(t, "MDPC02", "\x03", form.name, "one")
		client.expect(t, "MDPC02", "\x03", form.name, "two")
		w.close(t)
	}
}

// The zeromq.js example worker takes every message for a request, heartbeats and
// DISCONNECT included, and answers it. It lives, and it works.
func TestWorkerThatAnswersEverything(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	w := worker01.open(t, p, b, "naive")
	for beats := 0; beats < 3; {
		m := w.next(t)
		if !isHeartbeat(m) {
			t.Fatalf("got %q", m)
		}
		beats++
		w.send(t, "", "MDPW01", "\x03", "undefined", "")
	}
	w.fence(t)
	client.send(t, "MDPC02", "\x01", "naive", "x")
	w.answer(t, w.request(t, "x"), "y")
	client.expect(t, "MDPC02", "\x03", "naive", "y")
}

// The guide's PHP worker leaves out the empty frame behind the address.
func TestReplyWithoutEmptyFrame(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		w := form.open(t, p, b, form.name)
		client.send(t, "MDPC02", "\x01", form.name, "x")
		w.send(t, slices.Concat(form.final, []string{w.request(t, "x"), "y", "z"})...)
		client.expect(t, "MDPC02", "\x03", form.name, "y", "z")
	}
}

// READY may carry more than the service, HEARTBEAT more than nothing.
func TestExtraFrames(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		w := &worker{p.open(t, b, "DEALER"), &form}
		w.send(t, append(form.ready(form.name), "capacity=4", "tags")...)
		w.send(t, slices.Concat(form.heartbeat, []string{"extra"})...)
		client.send(t, "MDPC02", "\x01", form.name, "x")
		w.answer(t, w.request(t, "x"), "y")
		client.expect(t, "MDPC02", "\x03", form.name, "y")
		w.fence(t)
	}
}

// A worker can only answer what it was given: not another worker's request, even
// if it knows the address.
func TestForgedReply(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range answerers {
		thief := form.open(t, p, b, "other service")
		twin := form.open(t, p, b, form.name)
		client.send(t, "MDPC02", "\x01", form.name, "1")
		twin.answer(t, twin.request(t, "1"), "one")
		client.expect(t, "MDPC02", "\x03", form.name, "one")

		honest := form.open(t, p, b, form.name)
		honest.fence(t)
		client.send(t, "MDPC02", "\x01", form.name, "2") // twin has waited longer
		held := twin.request(t, "2")
		for _, forger := range []*worker{thief, honest} {
			forger.part(t, held, "forged part")
			forger.answer(t, held, "forged")
			forger.fence(t) // read before what follows
		}
		twin.answer(t, held, "true")
		client.expect(t, "MDPC02", "\x03", form.name, "true")
		client.fence(t)
		for _, w := range []*worker{thief, twin, honest} {
			w.close(t)
		}
	}
}

// Heartbeats go to every worker, idle or busy: some reconnect without them.
func TestBrokerHeartbeats(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	for _, form := range foreignAnswerers() {
		w := form.open(t, p, b, form.name)
		beats := func(n int) {
			t.Helper()
			for range n {
				if m := w.next(t); !slices.Equal(m, form.heartbeat) {
					t.Fatalf("%s: got %q, want %q", form.name, m, form.heartbeat)
				}
			}
		}
		beats(2)
		client.send(t, "MDPC02", "\x01", form.name, "x")
		address := w.request(t, "x")
		beats(2)
		w.answer(t, address, "y")
		client.expect(t, "MDPC02", "\x03", form.name, "y")
		w.close(t)
	}
}

// An idle worker that says nothing is expired and told so; READY on the same
// connection opens a new session. One that beats stays.
func TestIdleWorkerExpires(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for _, form := range foreignAnswerers() {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			p := startPeer(t)
			client := p.open(t, b, "DEALER")
			beating := form.open(t, p, b, form.name)
			beating.beat(t, 5*time.Second, form.heartbeat...) // the slowest interval seen in real workers
			silent := form.open(t, p, b, form.name)
			began := time.Now()
			silent.expect(t, form.disconnect...)
			if lived := time.Since(began); lived < 7*time.Second { // three intervals of 2.5 s
				t.Errorf("expired after %v", lived)
			}
			beating.fence(t)
			for _, body := range []string{"1", "2"} { // all to the one that is left
				client.send(t, "MDPC02", "\x01", form.name, body)
				beating.answer(t, beating.request(t, body), "y")
				client.expect(t, "MDPC02", "\x03", form.name, "y")
			}
			silent.send(t, form.ready(form.name)...)
			silent.fence(t) // no DISCONNECT: a session again
			beating.close(t)
			client.send(t, "MDPC02", "\x01", form.name, "3")
			silent.answer(t, silent.request(t, "3"), "y")
			client.expect(t, "MDPC02", "\x03", form.name, "y")
		})
	}
}
