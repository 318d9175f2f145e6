package faults

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// Row 1. An idle worker that is killed leaves the rotation at once, and nothing is
// lost.
func TestKillIdleWorker(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	p, took := rig.KillIdle(t, b)
	within(t, "out of rotation", took, 50*time.Millisecond)
	counted(t, b, "sessions_expired", 0) // its connection has ended, and that was enough
	const calls = 20
	for range calls {
		answered(t, rig.Do(t.Context(), p.Client, p.Call("echo")), 1, p.Other)
	}
	settled(t, b, counts{Requests: calls, Answered: calls})
}

// Row 1, with calls in every moment of it.
func TestKillWorkersUnderLoad(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	var workers []*meshproc.Process
	for range 4 {
		workers = append(workers, rig.Worker(t, b.Requests, service))
	}
	load := startLoad(t, b, service, "sleep 2ms", 8)
	for _, w := range workers[:3] {
		load.some(t, 50)
		w.Kill(t)
	}
	load.some(t, 50)
	load.stop(t)
	got, calls := balance(t, b), uint64(load.calls.Load())
	if got.Requests != calls || got.Answered != calls || got.Redelivered > 3 {
		t.Errorf("%d calls and the books say %+v; want all answered, at most 3 redelivered", calls, got)
	}
}

// Row 2. Whatever a killed worker was doing with a request, another one serves it as
// attempt 2, and the client gets that answer and no other.
func TestKillWorkerHolding(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{rig.BeforeRead, rig.AfterRead, rig.Running, rig.MidReply} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			b, begun := rig.StartBroker(t), time.Now()
			p, o, took := rig.KillHolding(t, b, moment, false)
			within(t, "another one has answered", took, 100*time.Millisecond)
			unsuspected(t, b, begun) // which would have moved it, too, and later
			answered(t, o, 2, p.Other)
			if len(o.Rest) != 0 {
				t.Errorf("%d frames of the first worker's answer came along", len(o.Rest))
			}
			settled(t, b, counts{Requests: rig.TurnCalls + 1, Answered: rig.TurnCalls + 1, Redelivered: 1})
			if n := p.Client.Counters(); n.Late != 0 || n.Retries != 0 {
				t.Errorf("the client counted %+v", n)
			}
		})
	}
}

// Row 2 at most once: the caller is told that it may have run, and nobody else runs it.
func TestKillWorkerHoldingOnce(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{rig.BeforeRead, rig.AfterRead, rig.Running, rig.MidReply} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			b := rig.StartBroker(t)
			p, o, took := rig.KillHolding(t, b, moment, true)
			within(t, "told", took, 100*time.Millisecond)
			workerLost(t, o.Err)
			settled(t, b, counts{Requests: rig.TurnCalls + 1, Answered: rig.TurnCalls, Failed: 1})
			p.Other.Signal(t, syscall.SIGTERM)
			if said := p.Other.Says(t, "ended "); !strings.HasPrefix(said, fmt.Sprintf("requests=%d ", rig.TurnCalls/2)) {
				t.Errorf("the other worker says %q", said)
			}
		})
	}
}

func workerLost(t *testing.T, err error) {
	t.Helper()
	var e *mdp.Error
	if !errors.As(err, &e) || e.Status != mdp.WorkerLost || !e.MayHaveRun {
		t.Errorf("the call ended with %v; want worker lost, may have run", err)
	}
}

// Row 5. A handler that hangs while its worker's heartbeats go on is bounded by the
// deadline, whether it heeds the end of its context or not, and others are served.
func TestHangingHandler(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"hold", "stubborn"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			b := rig.StartBroker(t)
			p, o, _ := rig.Hang(t, b, word)
			punctual(t, "a handler hangs", o.At.Sub(o.Asked), rig.HangDeadline)
			var e *mdp.Error
			if !errors.As(o.Err, &e) || e.Status != mdp.Expired || !e.MayHaveRun {
				t.Errorf("the call ended with %v; want expired, may have run", o.Err)
			}
			bounded(t, b, 1, 0)
			if word == "hold" {
				p.Victim.Line(t, "cancelled")
				answered(t, rig.Do(t.Context(), p.Client, p.Call("echo")), 1, p.Victim)
				return
			}
			p.Join(t) // the victim's only place is taken
			answered(t, rig.Do(t.Context(), p.Client, p.Call("echo")), 1, p.Other)
			p.Victim.Signal(t, syscall.SIGUSR1)
			p.AwaitService(t, p.Service, "both have room", func(s broker.ServiceState) bool { return s.Idle == 2 })
			bounded(t, b, 2, 1)
		})
	}
}

// Row 30. A request that kills every worker ends after three of them, one at a time,
// and is kept in the poison ring; the survivor and the other calls do not suffer.
func TestPoison(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	c := rig.Client(t, b.Requests)
	var workers []*meshproc.Process
	for range 4 {
		workers = append(workers, rig.Worker(t, b.Requests, service))
	}
	o := rig.Do(t.Context(), c, client.Call{Service: service, Body: rig.Words("poison"), Timeout: meshproc.Guard})
	workerLost(t, o.Err)
	settled(t, b, counts{Requests: 1, Failed: 1, Redelivered: 2})
	var dead []string
	for _, w := range workers[:3] {
		if code := w.Wait(t); code != 3 {
			t.Errorf("exit code %d", code)
		}
		dead = append(dead, w.Line(t, "begun poison "))
	}
	if got := fmt.Sprint(dead); got != "[attempt=1 attempt=2 attempt=3]" { // in the order of their coming
		t.Errorf("the dead say %s", got)
	}
	st := b.State(t)
	if len(st.Poison) != 1 || st.Poison[0].Service != service || st.Poison[0].Attempts != 3 || st.Poison[0].Reason == "" {
		t.Errorf("the poison ring has %+v", st.Poison)
	}
	answered(t, rig.Do(t.Context(), c, client.Call{Service: service, Body: rig.Words("echo"), Timeout: meshproc.Guard}), 1, workers[3])
}

// Row 34. Without a worker, and with all of them busy, a deadline holds, and who does
// not want to wait is told at once.
func TestNobodyFree(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	c := rig.Client(t, b.Requests)
	service := rig.Fresh()
	call := client.Call{Service: service, Body: rig.Words("hold"), Timeout: 300 * time.Millisecond}
	expect := func(what string, call client.Call, status mdp.Status) {
		t.Helper()
		begun := time.Now()
		_, err := c.Do(t.Context(), call)
		took := time.Since(begun)
		if !errors.Is(err, status) {
			t.Errorf("%s: %v; want %v", what, err, status)
		}
		if status == mdp.Expired {
			punctual(t, what, took, call.Timeout)
		} else {
			within(t, what+": told", took, 50*time.Millisecond)
		}
	}
	expect("nobody offers it", call, mdp.Expired)
	call.NoWait, call.Timeout = true, meshproc.Guard
	expect("nobody offers it, no wait", call, mdp.NoWorker)

	rig.Worker(t, b.Requests, service)
	held := rig.Ask(t.Context(), c, client.Call{Service: service, Body: rig.Words("hold"), Timeout: 2 * time.Second})
	b.AwaitService(t, service, "the worker is busy", func(s broker.ServiceState) bool { return s.Running == 1 })
	call.Timeout = 300 * time.Millisecond
	expect("all are busy, no wait", call, mdp.Expired) // somebody offers it
	call.NoWait = false
	expect("all are busy", call, mdp.Expired)
	if o := rig.Wait(t, held); !errors.Is(o.Err, mdp.Expired) {
		t.Errorf("the one that ran: %v", o.Err)
	}
	bounded(t, b, 5, 0)
}
