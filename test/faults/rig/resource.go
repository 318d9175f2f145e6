package rig

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/test/faults/relay"
	"github.com/mdmesh/mdmesh/test/faults/wire"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// NoDescriptors keeps a live process from opening any more descriptors, until restore
// is called.
func NoDescriptors(t testing.TB, pid int) (restore func()) {
	t.Helper()
	before, err := descriptors(pid, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Less than it has: no new one, whichever is closed.
	if _, err := descriptors(pid, &unix.Rlimit{Cur: 3, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	restore = func() {
		if _, err := descriptors(pid, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	return restore
}

// Handshake connects a peer and lets it go.
func Handshake(endpoint string) error {
	p, err := wire.Dial(endpoint, meshproc.Guard)
	if err != nil {
		return err
	}
	return p.Close()
}

// OutOfDescriptors lets newcomers knock at a broker that has no descriptors, until
// accepting has failed a few times: how long, once it has some again, until all of
// them are in.
func OutOfDescriptors(t testing.TB, b *Broker, newcomers int) time.Duration {
	t.Helper()
	before := b.State(t).Counters["accept_errors"]
	restore := NoDescriptors(t, b.PID())
	shaken := make(chan error, newcomers)
	for range newcomers {
		go func() { shaken <- Handshake(b.Requests) }()
	}
	const failures = 7 // by then it waits for more than half a second
	b.Await(t, "accepting fails", func(st broker.State) bool { return st.Counters["accept_errors"] >= before+failures })
	restore()
	begun := time.Now()
	for range newcomers {
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(begun)
}

// Dribble shakes hands so slowly that it takes 6 s for the greeting alone: how long
// until the broker ends that.
func Dribble(t testing.TB, b *Broker) time.Duration {
	t.Helper()
	r := Relay(t, b.Requests)
	r.Fault(relay.Up, relay.Fault{Rate: 10})
	begun := time.Now()
	if err := Handshake(r.Endpoint()); err == nil {
		t.Fatal("the handshake succeeded")
	}
	return time.Since(begun)
}

// Pause stops a broker that has a call to answer, for as long as given: how long from
// its going on until the answer.
func Pause(t testing.TB, b *Broker, pause time.Duration) (Outcome, time.Duration) {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	if o := Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil {
		t.Fatal(o.Err)
	}
	Stop(t, b.Process)
	answer := Ask(t.Context(), p.Client, p.Call("echo"))
	<-time.After(pause) // the fault itself
	begun := time.Now()
	Continue(t, b.Process)
	o := Wait(t, answer)
	return o, o.At.Sub(begun)
}
