package rig

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/test/faults/relay"
)

// HalfOpenWorker lets what a worker that holds a request says vanish, or what it is
// told, or both: how long until another worker has answered.
func HalfOpenWorker(t testing.TB, b *Broker, ways ...relay.Direction) (*Pair, *relay.Relay, Outcome, time.Duration) {
	t.Helper()
	r := Relay(t, b.Requests)
	p := Pairs(t, b, r.Endpoint())
	answer := p.Hold(t, p.Call("hold"))
	begun := time.Now()
	for _, way := range ways {
		r.Fault(way, relay.Fault{Discard: true})
	}
	o := Wait(t, answer)
	return p, r, o, o.At.Sub(begun)
}

// HalfOpenClient does the same to a client that waits for an answer: how long until
// the client has noticed, and how its call ended after the link was healed.
func HalfOpenClient(t testing.TB, b *Broker, ways ...relay.Direction) (*Pair, Outcome, time.Duration) {
	t.Helper()
	r := Relay(t, b.Requests)
	p := Pairs(t, b, b.Requests)
	p.Client = Client(t, r.Endpoint())
	answer := Ask(t.Context(), p.Client, p.Call("hold"))
	p.Victim.Line(t, "begun hold")
	begun := time.Now()
	for _, way := range ways {
		r.Fault(way, relay.Fault{Discard: true})
	}
	p.Victim.Line(t, "cancelled") // the broker has noticed, or was told
	took := time.Since(begun)
	r.Reset()
	r.Heal()
	return p, Wait(t, answer), took
}

// LoseReply lets the answer to an executed call vanish, and then its connection: how
// long until the client has the answer of another try.
func LoseReply(t testing.TB, b *Broker) (*Pair, Outcome, time.Duration) {
	t.Helper()
	r := Relay(t, b.Requests)
	p := Pairs(t, b, b.Requests)
	p.Client = Client(t, r.Endpoint())
	if o := Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil {
		t.Fatal(o.Err)
	}
	r.Fault(relay.Down, relay.Fault{Discard: true})
	answer := Ask(t.Context(), p.Client, p.Call("echo"))
	p.AwaitService(t, p.Service, "the call is answered", func(s broker.ServiceState) bool { return s.Answered == 2 })
	begun := time.Now()
	r.Heal()
	r.Reset()
	o := Wait(t, answer)
	return p, o, o.At.Sub(begun)
}
