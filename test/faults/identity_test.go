package faults

import (
	"errors"
	"testing"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/faults/wire"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// raw connects a peer that speaks for itself.
func raw(t *testing.T, b *rig.Broker) *wire.Peer {
	t.Helper()
	p, err := wire.Dial(b.Requests, meshproc.Guard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// greeted connects a native worker (of service) or client (service "").
func greeted(t *testing.T, b *rig.Broker, service, instance string) *wire.Peer {
	t.Helper()
	p := raw(t, b)
	m, err := p.Hello(service, instance, 1)
	if err == nil {
		err = mdp.AnswerError(&m.Command)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// recv reads one message, which must be of this kind.
func recv(t *testing.T, p *wire.Peer, kind mdp.Kind) *wire.Message {
	t.Helper()
	m, err := p.Recv(meshproc.Guard)
	if err != nil || m.Kind != kind {
		t.Fatalf("got %+v, %v; want %v", m, err, kind)
	}
	return m
}

func send(t *testing.T, p *wire.Peer, c mdp.Command, body ...string) {
	t.Helper()
	var frames [][]byte
	for _, f := range body {
		frames = append(frames, []byte(f))
	}
	if err := p.Send(c, frames...); err != nil {
		t.Fatal(err)
	}
}

// final answers what a worker was given.
func final(m *wire.Message) mdp.Command {
	c := mdp.Command{Role: mdp.Worker, Kind: mdp.Final}
	c.Head.Token, c.Head.ID, c.Head.Attempt = m.Head.Token, m.Head.ID, m.Head.Attempt
	return c
}

// Row 21. Two workers that claim the same instance are two sessions: each gets its
// own requests and answers only those, and when one ends, the other has its request
// as attempt 2.
func TestTwoWorkersOfOneInstance(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	first, second := greeted(t, b, service, "twin"), greeted(t, b, service, "twin")
	asking := raw(t, b)
	send(t, asking, rig.Request(service, 1), "one")
	send(t, asking, rig.Request(service, 2), "two")
	one, two := recv(t, first, mdp.Request), recv(t, second, mdp.Request)
	send(t, second, final(two), "answer two")
	if m := recv(t, asking, mdp.Final); m.Head.Token != 2 || string(m.Frames[0]) != "answer two" {
		t.Errorf("got %+v", m)
	}
	_ = first.Close()
	again := recv(t, second, mdp.Request)
	if again.Head.ID != one.Head.ID || again.Head.Attempt != 2 || string(again.Frames[0]) != "one" {
		t.Errorf("redelivered as %+v", again)
	}
	send(t, second, final(again), "answer one")
	if m := recv(t, asking, mdp.Final); m.Head.Token != 1 || m.Head.Attempt != 2 || string(m.Frames[0]) != "answer one" {
		t.Errorf("got %+v", m)
	}
	settled(t, b, counts{Requests: 2, Answered: 2, Redelivered: 1})
}

// Row 21. Two clients that claim the same instance and use the same tokens and request
// ids are two clients: each gets its own answer.
func TestTwoClientsOfOneInstance(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	rig.Worker(t, b.Requests, service)
	twins := []*wire.Peer{greeted(t, b, "", "twin"), greeted(t, b, "", "twin")}
	for i, p := range twins {
		send(t, p, rig.Request(service, 1), "echo", string(rune('a'+i)))
	}
	for i, p := range twins {
		if m := recv(t, p, mdp.Final); len(m.Frames) != 2 || string(m.Frames[1]) != string(rune('a'+i)) {
			t.Errorf("twin %d got %q", i, m.Frames)
		}
	}
	settled(t, b, counts{Requests: 2, Answered: 2})
}

// Row 22. A worker can answer nothing but what it holds: not with a token it has
// guessed or seen, not as a stranger, not twice.
func TestForgedReplies(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	honest := greeted(t, b, service, "honest")
	thief := greeted(t, b, rig.Fresh(), "honest") // even under its name
	twin := greeted(t, b, service, "twin")
	asking := raw(t, b)
	send(t, asking, rig.Request(service, 1), "one")
	held := recv(t, honest, mdp.Request)

	partial := final(held)
	partial.Kind = mdp.Partial
	for n, forger := range []*wire.Peer{thief, twin} {
		for _, c := range []mdp.Command{partial, final(held)} {
			send(t, forger, c, "forged")
		}
		guessed := final(held)
		for token := range uint64(100) {
			guessed.Head.Token = token
			send(t, forger, guessed, "guessed")
		}
		want := uint64(102 * (n + 1))
		if held.Head.Token < 100 {
			t.Logf("tokens are small: %d", held.Head.Token)
		}
		b.Await(t, "they are counted", func(st broker.State) bool { return st.Counters["unasked_replies"] == want })
	}
	stranger := raw(t, b)
	send(t, stranger, final(held), "forged")
	recv(t, stranger, mdp.Bye)

	send(t, honest, final(held), "true")
	send(t, honest, final(held), "again")
	if m := recv(t, asking, mdp.Final); string(m.Frames[0]) != "true" {
		t.Errorf("got %q", m.Frames)
	}
	// Nothing follows the answer but the next one.
	send(t, asking, rig.Request(service, 2), "two")
	next := recv(t, twin, mdp.Request)
	send(t, twin, final(next), "true two")
	if m := recv(t, asking, mdp.Final); m.Head.Token != 2 || string(m.Frames[0]) != "true two" {
		t.Errorf("got %+v", m)
	}
	settled(t, b, counts{Requests: 2, Answered: 2})
	if n := b.State(t).Counters["strangers"]; n != 1 {
		t.Errorf("%d strangers were counted", n)
	}
}

// Row 22. A client can neither cancel nor fetch what belongs to another one, though it
// knows tokens and request ids.
func TestForgedCancelAndAttach(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	owner, thief := greeted(t, b, "", "owner"), greeted(t, b, "", "thief")
	detached := rig.Request(service, 7)
	detached.Head.Flags = mdp.FlagDetached
	send(t, owner, detached, "mine")
	worker := greeted(t, b, service, "worker")
	held := recv(t, worker, mdp.Request)

	cancel := mdp.Command{Role: mdp.Client, Kind: mdp.Cancel}
	cancel.Head.Token, cancel.Head.ID = 7, detached.Head.ID
	send(t, thief, cancel)
	attach := cancel
	attach.Kind = mdp.Attach
	send(t, thief, attach)
	unknown(t, recv(t, thief, mdp.Final))
	send(t, thief, detached, "theirs") // the same id
	if m := recv(t, thief, mdp.Final); mdp.Status(m.Head.Status) != mdp.Conflict {
		t.Errorf("the id's second use is answered with %d", m.Head.Status)
	}
	send(t, worker, final(held), "the answer")
	if m := recv(t, owner, mdp.Final); m.Head.Token != 7 || string(m.Frames[0]) != "the answer" {
		t.Errorf("the owner got %+v", m)
	}
	send(t, thief, attach)
	unknown(t, recv(t, thief, mdp.Final))
	send(t, owner, attach)
	if m := recv(t, owner, mdp.Final); m.Head.Status != 0 || string(m.Frames[0]) != "the answer" {
		t.Errorf("the owner got %+v", m)
	}
	settled(t, b, counts{Requests: 1, Answered: 1})
}

func unknown(t *testing.T, m *wire.Message) {
	t.Helper()
	if mdp.Status(m.Head.Status) != mdp.Unknown && mdp.Status(m.Head.Status) != mdp.Denied {
		t.Errorf("the thief is answered with %d, %q", m.Head.Status, m.Frames)
	}
}

// Row 22. The broker's own services are nobody else's.
func TestSpoofedService(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	for _, service := range []string{"mmi.service", "mmi.workers", "mmi."} {
		p := raw(t, b)
		m, err := p.Hello(service, "spoof", 1)
		if err != nil || !errors.Is(mdp.AnswerError(&m.Command), mdp.Denied) {
			t.Errorf("%s: %+v, %v; want denied", service, m, err)
		}
	}
	c := rig.Client(t, b.Requests)
	reply, err := c.Do(t.Context(), client.Call{Service: "mmi.service", Body: rig.Words("nobody")})
	if err != nil || string(reply.Body[0]) != "404" {
		t.Errorf("%v, %v", reply, err)
	}
}
