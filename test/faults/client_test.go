package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
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
	service := rig.Fresh()
	rig.Worker(t, b.Requests, service, rig.Set(actor.Concurrency, 4))
	load := startLoad(t, b, service, "echo", 2)
	load.some(t, 50)
	slow, err := wire.Dial(r.Endpoint(), meshproc.Guard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	before := rig.RSS(t, b.PID())
	r.Fault(relay.Down, relay.Fault{Stall: true})
	for i := range uint64(answers) {
		if err := slow.Send(request(service, i), fmt.Appendf(nil, "size %d", size)); err != nil {
			t.Fatal(err)
		}
	}
	var highest int64
	b.Await(t, "the slow client is cut off", func(st broker.State) bool {
		highest = max(highest, rig.RSS(t, b.PID()))
		return st.Connections == 2
	})
	t.Logf("memory grew by %d KiB (%d KiB were asked for)", (highest-before)>>10, answers*size>>10)
	if grown := highest - before; grown > 96<<20 {
		t.Errorf("the broker grew by %d MiB for one slow client", grown>>20)
	}
	load.some(t, 50)
	load.stop(t)
	if load.retried.Load() > 0 {
		t.Error("calls of others were repeated")
	}
	if n := b.State(t).Counters["answers_dropped"]; n == 0 {
		t.Error("no answer was dropped")
	}
	if got := balance(t, b); got.Redelivered > 0 {
		t.Errorf("the books say %+v; want nothing repeated", got)
	}
}

// request is the head of a native request without a deadline.
func request(service string, token uint64) mdp.Command {
	c := mdp.Command{Role: mdp.Client, Kind: mdp.Request, Service: []byte(service)}
	c.Head.Token, c.Head.Attempt = token, 1
	for i := range 8 {
		c.Head.ID[i], c.Head.ID[8+i] = 0xfa, byte(token>>(56-8*i))
	}
	return c
}

// Row 12. A subscriber that does not read loses events, which are counted; another one
// misses none, and the slow one gets new events when it reads again.
func TestSlowSubscriber(t *testing.T) {
	t.Parallel()
	const events, size = 4000, 16 << 10
	b := rig.StartBroker(t)
	r := rig.Relay(t, b.Subscribe)
	slow := subscribe(t, r.Endpoint())
	var good atomic.Int64
	listener := rig.Client(t, b.Requests)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- listener.Subscribe(ctx, []string{"t"}, func(client.Event) { good.Add(1) }) }()
	publisher := rig.Client(t, b.Requests)
	body := make([]byte, size)
	publish := func() {
		if err := publisher.Publish(t.Context(), "t", body); err != nil {
			t.Error(err)
		}
	}
	rig.Await(t, "both are subscribed", func() error {
		publish()
		if r.Passed(relay.Down) < 2*size || good.Load() == 0 {
			return errors.New("nothing has come yet")
		}
		return nil
	})

	before := rig.RSS(t, b.PID())
	r.Fault(relay.Down, relay.Fault{Stall: true})
	first := good.Load()
	for n := range int64(events) {
		publish()
		if n%100 == 0 { // at the pace of the one that reads
			rig.Await(t, "the good one keeps up", func() error {
				if got := good.Load() - first; got < n-200 {
					return fmt.Errorf("%d of %d", got, n)
				}
				return nil
			})
		}
	}
	rig.Await(t, "the good one has all", func() error {
		if got := good.Load() - first; got < events {
			return fmt.Errorf("%d of %d", got, events)
		}
		return nil
	})
	dropped := b.State(t).Counters["events_dropped"]
	t.Logf("memory grew by %d KiB for %d KiB of events, %d dropped", (rig.RSS(t, b.PID())-before)>>10, events*size>>10, dropped)
	if grown := rig.RSS(t, b.PID()) - before; grown > 64<<20 {
		t.Errorf("the broker grew by %d MiB for one slow subscriber", grown>>20)
	}
	if dropped == 0 {
		t.Error("no event was dropped")
	}
	if n := listener.Counters().EventsLost; n > 0 {
		t.Errorf("the good subscriber lost %d", n)
	}
	cancel()
	<-ended

	r.Heal()
	slow = again(t, slow, b.Subscribe)
	rig.Await(t, "the slow one hears again", func() error {
		publish()
		if slow.has("now") {
			return nil
		}
		if err := publisher.Publish(t.Context(), "t", []byte("now")); err != nil {
			return err
		}
		return errors.New("not yet")
	})
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
		octets = append(octets, wire.Encode(request(service, i), []byte("echo"))...)
	}
	octets = append(octets, wire.Encode(request(service, bound), []byte("echo"))...)
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
