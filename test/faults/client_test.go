package faults

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/faults/relay"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/faults/wire"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// Row 6. What a killed client had asked is dropped: what waits is never started, what
// runs is cancelled, and nothing of it is left in any gauge.
func TestKillClient(t *testing.T) {
	t.Parallel()
	const requests = 100
	b := rig.StartBroker(t)
	p, took := rig.KillClient(t, b, requests)
	within(t, "all are dropped", took, 50*time.Millisecond)
	p.Victim.Line(t, "cancelled cancelled")
	settled(t, b, counts{Requests: requests, Cancelled: requests})
	answered(t, rig.Do(t.Context(), p.Client, p.Call("echo")), 1, p.Victim)
	p.Victim.Signal(t, syscall.SIGTERM)
	if said := p.Victim.Says(t, "ended "); !strings.HasPrefix(said, "requests=2 answered=1 ") {
		t.Errorf("the worker says %q; want 2 requests: the first of the killed client, and the last", said)
	}
	b.Await(t, "no client is left but ours", func(st broker.State) bool { return st.Connections == 1 })
}

// Row 31. The answer is lost after the request was executed: the client tries again
// with the same request id, the worker sees attempt 2, the caller one answer.
func TestLostReply(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	p, o, took := rig.LoseReply(t, b)
	t.Logf("answered %v after the connection broke", took)
	answered(t, o, 2, p.Victim)
	if n := p.Client.Counters(); n.Calls != 2 || n.Retries != 1 || n.Late != 0 || n.Outstanding != 0 {
		t.Errorf("the client counted %+v", n)
	}
	settled(t, b, counts{Requests: 3, Answered: 3})
	p.Victim.Signal(t, syscall.SIGTERM)
	if said := p.Victim.Says(t, "ended "); !strings.HasPrefix(said, "requests=3 answered=3 ") {
		t.Errorf("the worker says %q; want the documented duplicate", said)
	}
}

// Row 31 at most once: it is not tried again, and the caller is told that it may have run.
func TestLostReplyOnce(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	r := rig.Relay(t, b.Requests)
	p := rig.Pairs(t, b, b.Requests)
	p.Client = rig.Client(t, r.Endpoint())
	if o := rig.Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil {
		t.Fatal(o.Err)
	}
	r.Fault(relay.Down, relay.Fault{Discard: true})
	call := p.Call("echo")
	call.Once = true
	answer := rig.Ask(t.Context(), p.Client, call)
	b.AwaitService(t, p.Service, "it is answered", func(s broker.ServiceState) bool { return s.Answered == 2 })
	r.Reset()
	var e *mdp.Error
	if o := rig.Wait(t, answer); !errors.As(o.Err, &e) || e.Status != mdp.BrokerLost || !e.MayHaveRun {
		t.Errorf("the call ended with %v; want broker lost, may have run", o.Err)
	}
	settled(t, b, counts{Requests: 2, Answered: 2})
}

// Row 12. A client that asks for much and reads nothing costs the broker no more than
// its bound, is cut off in the end, and costs others nothing.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	const answers, size = 200, 1 << 20
	b := rig.StartBroker(t)
	r := rig.Relay(t, b.Requests)
	service, others := rig.Fresh(), rig.Fresh()
	rig.Worker(t, b.Requests, service, rig.Set(actor.Concurrency, 4))
	rig.Worker(t, b.Requests, others, rig.Set(actor.Concurrency, 2))
	load, begun := startLoad(t, b, others, "echo", 2), time.Now()
	load.some(t, 200)
	alone := load.slowest()
	slow, err := wire.Dial(r.Endpoint(), meshproc.Guard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	before := rig.RSS(t, b.PID())
	r.Fault(relay.Down, relay.Fault{Stall: true})
	for i := range uint64(answers) {
		if err := slow.Send(rig.Request(service, i), fmt.Appendf(nil, "size %d", size)); err != nil {
			t.Fatal(err)
		}
	}
	var highest int64
	b.Await(t, "the slow client is cut off", func(st broker.State) bool {
		highest = max(highest, rig.RSS(t, b.PID()))
		return st.Connections == 3 // two workers, and the others
	})
	t.Logf("memory grew by %d KiB (%d KiB were asked for)", (highest-before)>>10, answers*size>>10)
	if grown := highest - before; grown > 96<<20 {
		t.Errorf("the broker grew by %d MiB for one slow client", grown>>20)
	}
	beside := load.slowest()
	t.Logf("the slowest call of others took %v, %v beside the slow client", alone, beside)
	if most := 10 * max(alone, 200*time.Millisecond); beside > most {
		t.Errorf("a call of others took %v beside a slow client, want %v at most", beside, most)
	}
	load.some(t, 50)
	load.stop(t)
	if load.retried.Load() > 0 {
		t.Error("calls of others were repeated")
	}
	if n := b.State(t).Counters["answers_dropped"]; n == 0 {
		t.Error("no answer was dropped")
	}
	// Who makes a megabyte for each request is rightly suspected where it does not get to run.
	if got, longest := balance(t, b), turns.longest(begun); got.Redelivered > 0 && longest < disturbance {
		t.Errorf("the books say %+v; want nothing repeated", got)
	} else {
		t.Logf("the books say %+v; this process had to wait for %v", got, longest)
	}
}

// Row 34. A queue is bounded in requests: the one beyond is refused at once, with a
// word about when to come again, and those before it are not lost.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	const bound = 100_000
	b := rig.StartBroker(t)
	service := rig.Fresh()
	p, err := wire.Dial(b.Requests, meshproc.Guard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	var octets []byte
	for i := range uint64(bound) {
		octets = append(octets, wire.Encode(rig.Request(service, i), []byte("echo"))...)
	}
	octets = append(octets, wire.Encode(rig.Request(service, bound), []byte("echo"))...)
	if _, err := p.Write(octets); err != nil {
		t.Fatal(err)
	}
	m, err := p.Recv(meshproc.Guard)
	if err != nil {
		t.Fatal(err)
	}
	var e *mdp.Error
	if !errors.As(mdp.AnswerError(&m.Command), &e) || e.Status != mdp.Busy || e.RetryAfter == 0 || e.MayHaveRun || m.Head.Token != bound {
		t.Errorf("request %d is answered with %v", m.Head.Token, e)
	}
	if s := b.Service(t, service); s.Queue != bound {
		t.Errorf("%d requests wait, want %d", s.Queue, bound)
	}
	rig.Worker(t, b.Requests, service, rig.Set(actor.Concurrency, 32))
	seen := make([]bool, bound)
	for range bound {
		m, err := p.Recv(meshproc.Guard)
		if err != nil {
			t.Fatal(err)
		}
		if m.Head.Status != 0 || m.Head.Token >= bound || seen[m.Head.Token] {
			t.Fatalf("token %d is answered with status %d, or twice", m.Head.Token, m.Head.Status)
		}
		seen[m.Head.Token] = true
	}
	settled(t, b, counts{Requests: bound, Answered: bound, Busy: 1})
}
