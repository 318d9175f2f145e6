package foreign

import (
	"strings"
	"testing"
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
	client.expect(t, "MDPC01", "slow", "work 9")
	second.fence(t)
	if log := b.log.String(); strings.Contains(log, "idle and silent") && !strings.Contains(log, "worker gone") {
		t.Logf("broker said: %s", log)
	}
	// It is still the same session: no DISCONNECT, no new READY.
	client.send(t, "MDPC01", "slow", "again")
	for {
		select {
		case e := <-w.events:
			switch e.Event {
			case "request":
				client.expect(t, "MDPC01", "slow", "again")
				return
			default:
				t.Fatalf("the worker says %+v", e)
			}
		case e := <-p.events: // the second worker was the one that had waited longer
			if e.Event == "message" && e.Socket == second.name && len(e.Frames) > 4 {
				second.answer(t, narrow(e.Frames[3]), "again")
				client.expect(t, "MDPC01", "slow", "again")
				return
			}
		}
	}
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
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "end of the broker", first.exited)
	first.exited = nil // its end was wanted
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
		workers = append(workers, form.open(t, p, b, form.name))
	}
	client.send(t, "MDPC02", "\x01", workers[0].form.name, "x")
	address := workers[0].request(t, "x")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		b.stop(t)
	}()
	for _, w := range workers[1:] {
		w.expect(t, w.form.disconnect...)
	}
	workers[0].answer(t, address, "y")
	client.expect(t, "MDPC02", "\x03", workers[0].form.name, "y")
	workers[0].expect(t, workers[0].form.disconnect...)
	await(t, "end of the broker", stopped)
}
