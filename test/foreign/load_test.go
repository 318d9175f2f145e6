package foreign

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Ten MiB in a request and in its answer, for both versions of both sides.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	bulk := run(t, "testdata/bulk.py", b.endpoint, "10485760")
	for range 8 {
		bulk.wait(t, "exchanged")
	}
	bulk.wait(t, "done")
	b.alive(t)
}

// Two thousand live connections: a thousand workers, a thousand clients.
func TestTwoThousandConnections(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	const connections, rounds = 2000, 3
	crowd := run(t, "testdata/crowd.py", b.endpoint, "2000", "3")
	e := crowd.wait(t, "answered")
	if e.Count != rounds*connections/2 {
		t.Errorf("%d answers, want %d", e.Count, rounds*connections/2)
	}
	if e.Size < connections/4 {
		t.Errorf("%d of %d workers had work", e.Size, connections/2)
	}
	b.alive(t) // with all of them still there
	ask(t, b, "crowd")
}

// Hundreds of TCP connections that say nothing, or stop within the greeting, at every
// moment of the test: newcomers are served all the same.
func TestSilentConnectionsDelayNobody(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	ctx, stop := context.WithCancel(t.Context())
	var open atomic.Int32
	var silent sync.WaitGroup
	full := make(chan struct{})
	again := time.NewTicker(5 * time.Millisecond) // this is about silence, not a flood
	defer again.Stop()
	for i := range 500 {
		silent.Go(func() {
			for mine := true; mine; mine = turn(ctx, again.C) { // whoever is thrown out comes back
				sit(ctx, b.address(), greeting()[:i%60], func() {
					if open.Add(1) == 500 {
						close(full)
					}
				})
			}
		})
	}
	await(t, "500 silent connections", full)
	for range 5 {
		b.alive(t)
	}
	stop()
	silent.Wait()
	b.alive(t)
}

// turn waits for one, or reports that ctx has ended.
func turn(ctx context.Context, turns <-chan time.Time) bool {
	select {
	case <-turns:
		return true
	case <-ctx.Done():
		return false
	}
}

// sit opens a connection, says the words and waits until it is closed or ctx ends.
func sit(ctx context.Context, address string, words []byte, opened func()) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	defer func() { _ = c.Close() }()
	opened()
	if _, err := c.Write(words); err != nil {
		return
	}
	buf := make([]byte, 64)
	for err == nil {
		_, err = c.Read(buf)
	}
}

// Peers that claim the same identity are different peers: each has its own session
// and its own answers.
func TestDuplicateIdentity(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	var workers []*worker
	for range 2 {
		w := &worker{p.open(t, b, "DEALER", "IDENTITY=same"), &worker01}
		w.send(t, worker01.ready("echo")...)
		w.fence(t)
		workers = append(workers, w)
	}
	first, second := p.open(t, b, "REQ", "IDENTITY=same"), p.open(t, b, "REQ", "IDENTITY=same")
	first.send(t, "MDPC01", "echo", "1")
	a1 := workers[0].request(t, "1")
	second.send(t, "MDPC01", "echo", "2")
	a2 := workers[1].request(t, "2")
	workers[1].answer(t, a2, "two")
	second.expect(t, "MDPC01", "echo", "two")
	workers[0].answer(t, a1, "one")
	first.expect(t, "MDPC01", "echo", "one")

	// A worker that comes back under its name is a new session; what the old one held
	// is done by somebody when its connection ends.
	first.send(t, "MDPC01", "echo", "3")
	workers[1].request(t, "3") // answered last but one: it has waited longest
	again := &worker{p.open(t, b, "DEALER", "IDENTITY=same"), &worker01}
	again.send(t, worker01.ready("echo")...)
	again.fence(t)
	workers[0].close(t)
	workers[1].close(t)
	again.answer(t, again.request(t, "3"), "three")
	first.expect(t, "MDPC01", "echo", "three")
}

// libzmq's own heartbeats (PING) are answered, or it would close the connection.
func TestTransportHeartbeats(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	options := []string{"HEARTBEAT_IVL=100", "HEARTBEAT_TIMEOUT=1000"}
	w := &worker{p.open(t, b, "DEALER", options...), &worker02}
	w.send(t, worker02.ready("echo")...)
	client := p.open(t, b, "REQ", options...)
	client.send(t, "MDPC01", "echo", "x")
	address := w.request(t, "x")
	for range 4 { // four seconds pass
		if m := w.next(t); !isHeartbeat(m) {
			t.Fatalf("got %q", m)
		}
	}
	w.answer(t, address, "y") // a new connection could neither send nor get this
	client.expect(t, "MDPC01", "echo", "y")
}
