package faults

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/test/faults/rig"
)

// Row 3. A stopped idle worker costs the one request it is given a moment; later
// ones do not go there. When it goes on it starts nothing of what was taken from it,
// and has its turn again.
func TestStopIdleWorker(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	p, o, took := rig.StopIdle(t, b)
	// After 3 s its heartbeats would be missed: that is not what saves the request.
	guarded(t, "another one has answered", took, 500*time.Millisecond, 2*time.Second)
	answered(t, o, 2, p.Other)
	for range 10 {
		answered(t, rig.Do(t.Context(), p.Client, p.Call("echo")), 1, p.Other)
	}
	calls := uint64(rig.TurnCalls + 11)
	settled(t, b, counts{Requests: calls, Answered: calls, Redelivered: 1})
	rig.Continue(t, p.Victim)
	rig.Await(t, "it is in the rotation again", func() error {
		calls++
		o := rig.Do(t.Context(), p.Client, p.Call("echo"))
		if o.Err != nil || o.PID != p.Victim.PID() {
			return fmt.Errorf("process %d answered: %v", o.PID, o.Err)
		}
		return nil
	})
	settled(t, b, counts{Requests: calls, Answered: calls, Redelivered: 1})
	p.Victim.Signal(t, syscall.SIGTERM)
	if said := p.Victim.Says(t, "ended "); !strings.HasSuffix(said, " not-taken=1") {
		t.Errorf("the stopped worker says %q; want one request sent back unstarted", said)
	}
}

// Row 4. A worker that is stopped while it works is given up; when it goes on, its
// answer is late and counted, and the caller has seen one answer, the other one.
func TestStopBusyWorker(t *testing.T) {
	t.Parallel()
	for name, ran := range map[string]time.Duration{"it has just begun": 0, "it was heard of": time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stopBusy(t, ran)
		})
	}
}

// stopBusy stops a worker that has run a request for so long. Who has just begun is
// missed by the probe; who has answered that, by its heartbeats alone.
func stopBusy(t *testing.T, ran time.Duration) {
	t.Helper()
	b, begun := rig.StartBroker(t), time.Now()
	p, o, took := rig.StopBusy(t, b, ran)
	within(t, "another one has answered", took, 4*time.Second)
	if ran > 0 && took < 1500*time.Millisecond && turns.longest(begun) < disturbance {
		t.Errorf("another one has answered after %v: heartbeats were not waited for", took)
	}
	answered(t, o, 2, p.Other)
	settled(t, b, counts{Requests: 1, Answered: 1, Redelivered: 1})
	rig.Continue(t, p.Victim)
	p.Victim.Signal(t, syscall.SIGUSR1)
	p.Victim.Line(t, "released")
	b.Await(t, "the late answer is counted", func(st broker.State) bool { return st.Counters["late"] == 1 })
	settled(t, b, counts{Requests: 1, Answered: 1, Redelivered: 1, Late: 1})
	if n := p.Client.Counters(); n.Late != 0 || n.Retries != 0 || n.Calls != 1 {
		t.Errorf("the client counted %+v", n)
	}
	b.AwaitService(t, p.Service, "both workers are there", func(s broker.ServiceState) bool { return s.Idle == 2 })
	pids := map[int]bool{}
	for range 4 {
		pids[rig.Do(t.Context(), p.Client, p.Call("echo")).PID] = true
	}
	if len(pids) != 2 {
		t.Errorf("only %v answer", pids)
	}
}

// Row 4 at most once: the caller is told, nobody else runs it, and the late answer is
// counted.
func TestStopBusyWorkerOnce(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	p := rig.Pairs(t, b, b.Requests)
	call := p.Call("stubborn")
	call.Once = true
	answer := p.Hold(t, call)
	begun := time.Now()
	rig.Stop(t, p.Victim)
	o := rig.Wait(t, answer)
	within(t, "told", o.At.Sub(begun), 4*time.Second)
	workerLost(t, o.Err)
	settled(t, b, counts{Requests: 1, Failed: 1})
	rig.Continue(t, p.Victim)
	p.Victim.Signal(t, syscall.SIGUSR1)
	b.Await(t, "the late answer is counted", func(st broker.State) bool { return st.Counters["late"] == 1 })
	p.Other.Signal(t, syscall.SIGTERM)
	if said := p.Other.Says(t, "ended "); !strings.HasPrefix(said, "requests=0 ") {
		t.Errorf("the other worker says %q", said)
	}
}
