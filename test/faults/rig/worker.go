package rig

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

var services atomic.Int64

// Fresh is a service name that nobody has used.
func Fresh() string { return fmt.Sprintf("s%d", services.Add(1)) }

// Pair is two workers of one service of a broker, and who calls it.
type Pair struct {
	*Broker
	Service       string
	Victim, Other *meshproc.Process
	Client        *client.Client
	at            string // where the victim connects
}

// The moments at which a worker may be killed while it holds a request.
const (
	BeforeRead = "before_read" // dispatched, and still in the kernel's buffer
	AfterRead  = "after_read"  // the handler is about to begin
	Running    = "running"
	MidReply   = "mid_reply" // half of the answer is written
)

// Pairs makes a client and a victim, which connects to the given endpoint; the other
// worker comes with Join.
func Pairs(t testing.TB, b *Broker, victimAt string, environment ...string) *Pair {
	t.Helper()
	p := &Pair{Broker: b, Service: Fresh(), Client: Client(t, b.Requests), at: victimAt}
	p.Victim = Worker(t, victimAt, p.Service, environment...)
	return p
}

// Join starts the other worker.
func (p *Pair) Join(t testing.TB, environment ...string) {
	t.Helper()
	p.Other = Worker(t, p.Requests, p.Service, environment...)
}

// Call is a call of the pair's service.
func (p *Pair) Call(first string, rest ...[]byte) client.Call {
	return client.Call{Service: p.Service, Body: Words(first, rest...), Timeout: meshproc.Guard}
}

// Hold starts a call that the victim, which must be alone, holds, and then lets the
// other worker come.
func (p *Pair) Hold(t testing.TB, call client.Call) <-chan Outcome {
	t.Helper()
	answer := Ask(t.Context(), p.Client, call)
	p.Victim.Line(t, "begun "+string(call.Body[0]))
	p.Join(t)
	return answer
}

// inTurn lets the other worker come, and calls until both are known to work and it is
// the victim's turn: it came first.
func (p *Pair) inTurn(t testing.TB) {
	t.Helper()
	p.Join(t)
	for range TurnCalls {
		if o := Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil {
			t.Fatal(o.Err)
		}
	}
}

// TurnCalls is how many calls are answered, half of them by each worker, before
// KillHolding and StopIdle begin.
const TurnCalls = 4

// KillHolding kills the victim at a moment of a request it holds while the other worker
// is idle. It returns how the call ended and how long after the kill, or after the victim
// killed itself.
func KillHolding(t testing.TB, b *Broker, moment string, once bool) (*Pair, Outcome, time.Duration) {
	t.Helper()
	p := Pairs(t, b, b.Requests, Set(actor.CrashAt, moment))
	p.inTurn(t)
	call := p.Call("crash")
	call.Once = once
	if moment == Running {
		call.Body = Words("hold")
	}
	if moment == BeforeRead {
		Stop(t, p.Victim)
	}
	answer := Ask(t.Context(), p.Client, call)
	var begun time.Time
	switch moment {
	case Running:
		p.Victim.Line(t, "begun hold")
		begun = time.Now()
		p.Victim.Signal(t, syscall.SIGKILL)
	case BeforeRead:
		p.AwaitService(t, p.Service, "the request is dispatched", func(s broker.ServiceState) bool { return s.Running == 1 })
		begun = time.Now()
		p.Victim.Signal(t, syscall.SIGKILL)
	default:
		begun = dying(t, p.Victim)
	}
	o := Wait(t, answer)
	return p, o, o.At.Sub(begun)
}

// StopIdle stops an idle worker whose turn it is and calls: how long until the other
// one has answered.
func StopIdle(t testing.TB, b *Broker) (*Pair, Outcome, time.Duration) {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	p.inTurn(t)
	Stop(t, p.Victim)
	begun := time.Now()
	o := Do(t.Context(), p.Client, p.Call("echo"))
	return p, o, o.At.Sub(begun)
}

// StopBusy stops a worker that has run a request for so long: how long until another
// has answered. Who has just begun it has given no sign of life since, and is missed
// sooner than who was heard of.
func StopBusy(t testing.TB, b *Broker, ran time.Duration) (*Pair, Outcome, time.Duration) {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	answer := p.Hold(t, p.Call("stubborn"))
	<-time.After(ran) // part of the fault
	begun := time.Now()
	Stop(t, p.Victim)
	o := Wait(t, answer)
	return p, o, o.At.Sub(begun)
}

// KillIdle kills an idle worker: how long until the broker does not count on it.
func KillIdle(t testing.TB, b *Broker) (*Pair, time.Duration) {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	p.Join(t)
	p.Victim.Signal(t, syscall.SIGKILL)
	took := p.AwaitService(t, p.Service, "one worker is left", func(s broker.ServiceState) bool { return s.Workers == 1 })
	return p, took
}

// HangDeadline is how long Hang is willing to wait.
const HangDeadline = 500 * time.Millisecond

// Hang calls a handler that never answers, with a deadline: how far from the deadline
// the caller is told.
func Hang(t testing.TB, b *Broker, word string) (*Pair, Outcome, time.Duration) {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	call := p.Call(word)
	call.Timeout = HangDeadline
	o := Do(t.Context(), p.Client, call)
	return p, o, (o.At.Sub(o.Asked) - HangDeadline).Abs()
}

// KillClient kills a client with requests that run and wait: how long until the
// broker has dropped them all.
func KillClient(t testing.TB, b *Broker, requests int) (*Pair, time.Duration) {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	asker := Actor(t, "client", b.Requests, p.Service, Set(actor.Count, requests), Set(actor.Body, "hold"))
	p.AwaitService(t, p.Service, "all have come", func(s broker.ServiceState) bool {
		return s.Running == 1 && s.Queue == requests-1
	})
	p.Victim.Line(t, "begun hold")
	asker.Signal(t, syscall.SIGKILL)
	took := p.AwaitService(t, p.Service, "all are dropped", func(s broker.ServiceState) bool {
		return s.Running == 0 && s.Queue == 0 && s.Octets == 0
	})
	return p, took
}
