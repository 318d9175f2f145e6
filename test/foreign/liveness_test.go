package foreign

import (
	"testing"
	"time"
)

// A guide-style worker is mute and deaf while it works, longer than any liveness:
// its request is neither lost nor given to somebody else.
func TestBlockingWorkerIsNotExpired(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	w := run(t, "testdata/blockingworker.py", b.endpoint, "slow")
	w.wait(t, "ready")
	client := p.open(t, b, "REQ")
	client.send(t, "MDPC01", "slow", "work 9")
	w.wait(t, "request")
	second := worker01.open(t, p, b, "slow")
	second.beat(t, time.Second, worker01.heartbeat...)
	client.expect(t, "MDPC01", "slow", "work 9")
	second.fence(t)
	// Its session is the same one: no DISCONNECT, no second READY, and its turn comes
	// after the one that has waited longer.
	client.send(t, "MDPC01", "slow", "again")
	second.answer(t, second.request(t, "again"), "again")
	client.expect(t, "MDPC01", "slow", "again")
	client.send(t, "MDPC01", "slow", "and again")
	if e := w.next(t); e.Event != "request" {
		t.Errorf("the worker says %+v", e)
	}
	client.expect(t, "MDPC01", "slow", "and again")
}

// An asynchronous worker needs the broker's heartbeats while it works, or it leaves.
func TestAsyncWorkerIsKeptAlive(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	w := run(t, "testdata/asyncworker.py", b.endpoint, "slow")
	w.wait(t, "ready")
	client := p.open(t, b, "DEALER")
	client.send(t, "MDPC02", "\x01", "slow", "work 5")
	client.expect(t, "MDPC02", "\x02", "slow", "begun")
	client.expect(t, "MDPC02", "\x03", "slow", "work 5")
	client.fence(t)
	w.kill(t)
	for e := range w.events {
		if e.Event == "lost" || e.Event == "disconnect" {
			t.Errorf("the worker says %+v", e)
		}
	}
}

// A broker that is started again finds its workers back: their next heartbeat is a
// stranger's, DISCONNECT sends them to say READY.
func TestWorkersReturnAfterRestart(t *testing.T) {
	t.Parallel()
	first := startBroker(t)
	workers := map[string]*process{
		"blocking": run(t, "testdata/blockingworker.py", first.endpoint, "blocking"),
		"async":    run(t, "testdata/asyncworker.py", first.endpoint, "async"),
	}
	for _, w := range workers {
		w.wait(t, "ready")
	}
	for name := range workers {
		ask(t, first, name)
	}
	first.kill(t)
	second := startBroker(t, "--listen", first.endpoint)
	for name := range workers {
		ask(t, second, name)
	}
}

// ask has a client of its own ask the service until it is answered.
func ask(t *testing.T, b *broker, service string) {
	t.Helper()
	p := startPeer(t)
	c := p.open(t, b, "REQ")
	c.send(t, "MDPC01", service, "hello")
	if got := c.recv(t); len(got) < 3 || got[1] != service || got[len(got)-1] != "hello" {
		t.Fatalf("got %q", got)
	}
	p.close(t)
}

// A broker that leaves in good order answers what is outstanding and then tells its
// workers, so that they look for another one.
func TestShutdownTellsWorkers(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	var workers []*worker
	for _, form := range foreignAnswerers() {
		w := form.open(t, p, b, form.name)
		w.fence(t) // registered
		workers = append(workers, w)
	}
	client.send(t, "MDPC02", "\x01", workers[0].form.name, "x")
	address := workers[0].request(t, "x")
	b.terminate(t)
	workers[0].answer(t, address, "y")
	client.expect(t, "MDPC02", "\x03", workers[0].form.name, "y")
	for _, w := range workers {
		w.expect(t, w.form.disconnect...)
	}
	await(t, "end of the broker after SIGTERM", b.exited)
}
