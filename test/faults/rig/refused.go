package rig

import (
	"errors"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/wire"
)

// ends is the time of a call that must have ended with this status.
func ends(t testing.TB, o Outcome, status mdp.Status, begun time.Time) time.Duration {
	t.Helper()
	if !errors.Is(o.Err, status) {
		t.Fatalf("ended with %v; want %v", o.Err, status)
	}
	return o.At.Sub(begun)
}

// NobodyThere calls a service that nobody offers and does not want to wait: how long
// until the caller is told.
func NobodyThere(t testing.TB, b *Broker) time.Duration {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	if o := Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil { // it is connected
		t.Fatal(o.Err)
	}
	call := p.Call("echo")
	call.Service, call.NoWait = Fresh(), true
	begun := time.Now()
	return ends(t, Do(t.Context(), p.Client, call), mdp.NoWorker, begun)
}

// Queue is a full one, of a service that nobody offers. One client has filled it: for
// another one the latest of those with more would make room.
type Queue struct {
	service string
	client  *wire.Peer
	tokens  uint64
}

// FillQueue fills the queue of a service with so many requests, which must be as many
// as it takes.
func FillQueue(t testing.TB, b *Broker, requests uint64) *Queue {
	t.Helper()
	q := &Queue{service: Fresh(), client: Peer(t, b.Requests), tokens: requests}
	var octets []byte
	for i := range requests {
		octets = append(octets, wire.Encode(Request(q.service, i), []byte("echo"))...)
	}
	if _, err := q.client.Write(octets); err != nil {
		t.Fatal(err)
	}
	b.AwaitService(t, q.service, "the queue is full", func(s broker.ServiceState) bool { return s.Queue == int(requests) })
	return q
}

// Refused sends one request more: how long until it is refused. It is for one
// goroutine at a time.
func (q *Queue) Refused(t testing.TB) time.Duration {
	t.Helper()
	q.tokens++
	begun := time.Now()
	if err := q.client.Send(Request(q.service, q.tokens), []byte("echo")); err != nil {
		t.Fatal(err)
	}
	m := receive(t, q.client, mdp.Final)
	took := time.Since(begun)
	if err := mdp.AnswerError(&m.Command); !errors.Is(err, mdp.Busy) {
		t.Fatalf("answered with %v; want busy", err)
	}
	return took
}

// Occupied is a pair whose victim, its only worker, is busy for good.
func Occupied(t testing.TB, b *Broker) *Pair {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	Ask(t.Context(), p.Client, p.Call("hold"))
	p.Victim.Line(t, "begun hold")
	return p
}

// Expire calls an occupied pair with a deadline: how far from the deadline the caller
// is told.
func (p *Pair) Expire(t testing.TB) time.Duration {
	t.Helper()
	const deadline = 500 * time.Millisecond
	call := p.Call("echo")
	call.Timeout = deadline
	begun := time.Now()
	return (ends(t, Do(t.Context(), p.Client, call), mdp.Expired, begun) - deadline).Abs()
}

// TooBig calls with more than a message takes: how long until the caller is told,
// over a link that still works.
func TooBig(t testing.TB, b *Broker) time.Duration {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	if o := Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil { // what the broker takes is known
		t.Fatal(o.Err)
	}
	call := p.Call("echo", make([]byte, mostOctets))
	begun := time.Now()
	took := ends(t, Do(t.Context(), p.Client, call), mdp.TooBig, begun)
	if o := Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil || o.Attempt != 1 {
		t.Fatalf("the next call: attempt %d, %v", o.Attempt, o.Err)
	}
	return took
}

// Largest calls with nearly as much as a message takes, and is answered as much if it is
// to be echoed: by how much the memory of the broker, which must be fresh, has grown, in
// sizes of what it has had at once.
func Largest(t testing.TB, b *Broker, echo bool) float64 {
	t.Helper()
	word, sizes := "size 1", 1.0
	if echo {
		word, sizes = "echo", 2
	}
	p := Pairs(t, b, b.Requests)
	if o := Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil {
		t.Fatal(o.Err)
	}
	body := make([]byte, mostOctets-1000)
	ForgetPeak(t, b.PID())
	before := RSS(t, b.PID())
	o := Do(t.Context(), p.Client, p.Call(word, body))
	if o.Err != nil || o.Attempt != 1 || echo && (len(o.Rest) != 1 || len(o.Rest[0]) != len(body)) {
		t.Fatalf("attempt %d, %d frames: %v", o.Attempt, len(o.Rest), o.Err)
	}
	return float64(Peak(t, b.PID())-before) / (sizes * float64(len(body)))
}
