package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/faults/wire"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// Row 10. A broker that is stopped for 5 s under load calls nobody dead when it goes
// on: every call is answered, by a retry where its connection did not live so long.
func TestBrokerPaused(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	for range 3 {
		rig.Worker(t, b.Requests, service, rig.Set(actor.Concurrency, 4))
	}
	idle := rig.Worker(t, b.Requests, rig.Fresh())
	load := startLoad(t, b, service, "sleep 5ms", 16)
	load.some(t, 200)
	rig.Stop(t, b.Process)
	<-time.After(5 * time.Second) // the fault itself
	rig.Continue(t, b.Process)
	load.some(t, 200)
	load.stop(t)
	b.Await(t, "all workers are there", func(st broker.State) bool { return len(st.Workers) == 4 })
	st := b.State(t)
	if n := st.Counters["sessions_expired"]; n != 0 {
		t.Errorf("%d sessions were expired", n)
	}
	if n := st.Counters["pauses"]; n == 0 {
		t.Error("the broker did not notice its pause")
	}
	got, calls := balance(t, b), uint64(load.calls.Load())
	if got.Answered < calls || got.Failed != 0 {
		t.Errorf("%d calls and the books say %+v", calls, got)
	}
	t.Logf("books: %+v; client: %+v; connections closed: %v", got, load.client.Counters(), st.Transport[0].Closed)
	if !meshproc.Alive(idle.PID()) {
		t.Error("the idle worker is gone")
	}
}

// Row 10. Workers that beat while the broker is stopped, and say and do nothing else, are
// all there when it goes on: it reads what has come before it calls anybody silent.
func TestBrokerPausedAmongWorkers(t *testing.T) {
	t.Parallel()
	const workers = 300
	b := rig.StartBroker(t)
	service := rig.Fresh()
	peers := make([]*wire.Peer, workers)
	for i := range peers {
		peers[i] = greeted(t, b, service, fmt.Sprint("beating ", i))
	}
	over, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- beat(peers, over) }()
	rig.Stop(t, b.Process)
	<-time.After(5 * time.Second) // the fault itself
	rig.Continue(t, b.Process)
	at := b.State(t).UptimeMs
	b.Await(t, "it has gone on for a while", func(st broker.State) bool { return st.UptimeMs >= at+2000 })
	st := b.State(t)
	if n := st.Counters["sessions_expired"]; n != 0 || len(st.Workers) != workers {
		t.Errorf("%d workers are left of %d, %d sessions were expired", len(st.Workers), workers, n)
	}
	if st.Counters["pauses"] == 0 {
		t.Error("the broker did not notice its pause")
	}
	close(over)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// beat sends the heartbeats of workers, twice as often as they must, until it is over.
func beat(peers []*wire.Peer, over <-chan struct{}) error {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		for _, p := range peers {
			if err := p.Send(mdp.Command{Role: mdp.Worker, Kind: mdp.Heartbeat}); err != nil {
				return err
			}
		}
		select {
		case <-ticker.C:
		case <-over:
			return nil
		}
	}
}

// Row 32. A broker is killed under 2,000 clients, some of them waiting for an answer, and
// started again: all are back, and each is answered.
func TestBrokerRestartedUnderACrowd(t *testing.T) {
	const clients = 2000
	c := rig.StartCrowd(t, clients)
	c.Order(t)
	c.AwaitService(t, c.Service, "calls are under way", func(s broker.ServiceState) bool {
		return s.Requests > clients && s.Running >= 32
	})
	took := c.Restart(t)
	within(t, fmt.Sprint(clients, " clients are back"), took, 5*time.Second)
	again := c.Answered(t)
	got := balance(t, c.Broker)
	t.Logf("%d calls were answered by a later attempt; the books say %+v", again, got)
	if again == 0 || again > clients {
		t.Error("no call was under way when the broker was killed")
	}
	if got.Answered != got.Requests || got.Requests < uint64(again) || got.Redelivered > 0 {
		t.Errorf("the books say %+v; want %d answered at least, and all", got, again)
	}
	c.Ask(t)
	settled(t, c.Broker, counts{Requests: got.Requests + clients, Answered: got.Requests + clients})
	// On a machine that has no time for it more than 1,024 handshakes wait at once, and the
	// oldest are closed: those clients come again. Nobody is refused for anything else.
	st := c.State(t)
	for _, tr := range st.Transport {
		for reason, n := range tr.Refused {
			if reason != "max-handshakes" && n != 0 {
				t.Errorf("%d connections were refused: %s", n, reason)
			}
		}
	}
	if n := st.Counters["sessions_expired"]; n != 0 {
		t.Errorf("%d sessions expired", n)
	}
}
