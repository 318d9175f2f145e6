package faults

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
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
	alone := handshakes(t, b)
	before := rig.RSS(t, b.PID())
	crowd := rig.Actor(t, "silent", b.Requests, service, rig.Set(actor.Count, multitude))
	crowd.Line(t, "turn 1 opened")
	crowded := handshakes(t, b)
	grown := rig.RSS(t, b.PID()) - before
	crowd.Line(t, "turn 2 opened")
	load.some(t, 100)
	load.stop(t)
	st := b.State(t)
	t.Logf("99 of 100 handshakes took %v alone, %v beside %d silent ones (%d shaking hands); memory grew by %d KiB; refused %v, failed %v",
		alone, crowded, multitude, st.Transport[0].Handshaking, grown>>10, st.Transport[0].Refused, st.Transport[0].Failed)
	// Twice is promised. What the crowd's own process takes of the processors is not the
	// broker's, so nobody is held to the milliseconds of a quiet machine.
	if most := 20 * max(alone, 5*time.Millisecond); crowded > most {
		t.Errorf("handshakes took %v in the crowd, want %v at most", crowded, most)
	}
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

// handshakes is how long 99 of 100 handshakes in a row take at most, less what this
// process waited for its turn meanwhile.
func handshakes(t *testing.T, b *rig.Broker) time.Duration {
	t.Helper()
	var times []time.Duration
	for range 100 {
		begun := time.Now()
		p, err := wire.Dial(b.Requests, meshproc.Guard)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(begun)
		times = append(times, max(took-turns.waited(took), 0))
		_ = p.Close()
	}
	slices.Sort(times)
	return times[98]
}

// Row 27. Ten thousand live sessions are served, each in bounded memory, and stay as long
// as they beat every 15 s, which costs the broker little.
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

	// Beside other tests, for nothing happens here for longer than three beats, after
	// which who was not heard would be gone.
	held, used := time.Now(), processor(t, b.PID())
	t.Parallel()
	<-time.After(46*time.Second - time.Since(held)) // the fault itself
	share := float64(processor(t, b.PID())-used) / float64(time.Since(held))
	t.Logf("the broker took %.1f %% of a core for %d sessions (promise 5 %%)", 100*share, multitude)
	if share > 0.5 {
		t.Errorf("the broker took %.0f %% of a core", 100*share)
	}
	st := b.State(t)
	if n := st.Counters["sessions_expired"]; n != 0 || st.Connections != multitude+1 {
		t.Errorf("%d connections are left, %d sessions expired", st.Connections, n)
	}
	crowd.Signal(t, syscall.SIGKILL)
	b.Await(t, "all are gone", func(st broker.State) bool { return st.Connections == 1 })
}

// processor is how long a process has run (proc(5), stat).
func processor(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	const user, system, hertz = 11, 12, 100 // behind the name, which may hold anything
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var sum time.Duration
	for _, i := range []int{user, system} {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n) * time.Second / hertz
	}
	return sum
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
