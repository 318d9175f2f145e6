package faults

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/faults/wire"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

const multitude = 10_000

// Row 26. Ten thousand connections that say nothing, or half a greeting, and come back
// when they are thrown out, keep nobody else from being served, and cost little.
func TestSilentMultitude(t *testing.T) {
	b := rig.StartBroker(t)
	service := rig.Fresh()
	rig.Worker(t, b.Requests, service)
	load := startLoad(t, b, service, "echo", 2)
	load.some(t, 100)
	alone := handshakes(t, b, 30)
	before := rig.RSS(t, b.PID())
	crowd := rig.Actor(t, "silent", b.Requests, service, rig.Set(actor.Count, multitude))
	crowd.Line(t, "turn 1 opened")
	crowded := handshakes(t, b, 30)
	grown := rig.RSS(t, b.PID()) - before
	crowd.Line(t, "turn 2 opened")
	load.some(t, 100)
	load.stop(t)
	st := b.State(t)
	t.Logf("handshakes: median %v alone, %v beside %d silent ones (%d shaking hands); memory grew by %d KiB; refused %v, failed %v",
		alone, crowded, multitude, st.Transport[0].Handshaking, grown>>10, st.Transport[0].Refused, st.Transport[0].Failed)
	if grown > 128<<20 {
		t.Errorf("the broker grew by %d MiB", grown>>20)
	}
	if load.retried.Load() > 0 {
		t.Error("calls of others were repeated")
	}
	if n := st.Counters["handshakes_failed"] + st.Counters["connections_refused"]; n < multitude/2 {
		t.Errorf("only %d silent connections were ended", n)
	}
}

// handshakes is the median time of some handshakes in a row.
func handshakes(t *testing.T, b *rig.Broker, n int) time.Duration {
	t.Helper()
	var took []time.Duration
	for range n {
		begun := time.Now()
		p, err := wire.Dial(b.Requests, meshproc.Guard)
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begun))
		_ = p.Close()
	}
	slices.Sort(took)
	return took[n/2]
}

// Row 27. Ten thousand live sessions are served, each in bounded memory.
func TestLiveMultitude(t *testing.T) {
	b := rig.StartBroker(t)
	service := rig.Fresh()
	rig.Worker(t, b.Requests, service, rig.Set(actor.Concurrency, 16))
	before := rig.RSS(t, b.PID())
	crowd := rig.Actor(t, "live", b.Requests, service, rig.Set(actor.Count, multitude))
	crowd.Line(t, fmt.Sprint("open ", multitude))
	idle := rig.RSS(t, b.PID()) - before
	crowd.Signal(t, syscall.SIGUSR1)
	crowd.Line(t, fmt.Sprintf("round 1 answered %d", multitude))
	busy := rig.RSS(t, b.PID()) - before
	t.Logf("memory of each: %d octets idle, %d after a call (promise 40 KB)", idle/multitude, busy/multitude)
	if busy > multitude*100<<10 {
		t.Errorf("the broker grew by %d MiB", busy>>20)
	}
	settled(t, b, counts{Requests: multitude, Answered: multitude})
	st := b.State(t)
	if n := st.Counters["sessions_expired"]; n != 0 || st.Connections != multitude+1 {
		t.Errorf("%d connections are left, %d sessions expired", st.Connections, n)
	}
	crowd.Signal(t, syscall.SIGKILL)
	b.Await(t, "all are gone", func(st broker.State) bool { return st.Connections == 1 })
}

// Row 28. A broker that runs out of descriptors goes on serving the links it has,
// does not spin, and takes new ones when there are descriptors again.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	rig.Worker(t, b.Requests, service)
	load := startLoad(t, b, service, "echo", 2)
	load.some(t, 100)
	b.State(t) // the connection for the books is there
	restore := rig.NoDescriptors(t, b.PID())
	const newcomers = 20
	shaken := make(chan error, newcomers)
	for range newcomers {
		go func() { shaken <- rig.Handshake(b.Requests) }()
	}
	begun := time.Now()
	b.Await(t, "accepting fails", func(st broker.State) bool { return st.Counters["accept_errors"] >= 3 })
	load.some(t, 500)
	errs, took := b.State(t).Counters["accept_errors"], time.Since(begun)
	t.Logf("%d failures to accept in %v", errs, took)
	if most := 10 + uint64(took/(250*time.Millisecond)); errs > most {
		t.Errorf("accepting failed %d times within %v: that is no backing off", errs, took)
	}
	restore()
	for range newcomers {
		if err := <-shaken; err != nil {
			t.Errorf("one that waited: %v", err)
		}
	}
	load.some(t, 100)
	load.stop(t)
	if load.retried.Load() > 0 {
		t.Error("calls on open links were repeated")
	}
	calls := uint64(load.calls.Load())
	settled(t, b, counts{Requests: calls, Answered: calls})
}
