package faults

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/relay"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/faults/wire"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

var directions = map[string][]relay.Direction{
	"what it says is lost":    {relay.Up},
	"what it is told is lost": {relay.Down},
	"both are lost":           {relay.Up, relay.Down},
}

// Row 11. A half-open link to a worker that holds a request is noticed from whichever
// side can: another worker serves the request, and the caller gets one answer.
func TestHalfOpenWorker(t *testing.T) {
	t.Parallel()
	for name, ways := range directions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := rig.StartBroker(t)
			p, r, o, took := rig.HalfOpenWorker(t, b, ways...)
			within(t, "another one has answered", took, 4*time.Second)
			answered(t, o, 2, p.Other)
			settled(t, b, counts{Requests: 1, Answered: 1, Redelivered: 1})
			// What was lost is lost: the connection ends, and the worker comes back.
			r.Heal()
			r.Reset()
			p.AwaitService(t, p.Service, "both workers are there", func(s broker.ServiceState) bool { return s.Idle == 2 })
			pids := map[int]bool{}
			for range 4 {
				pids[rig.Do(t.Context(), p.Client, p.Call("echo")).PID] = true
			}
			if len(pids) != 2 {
				t.Errorf("only %v answer", pids)
			}
		})
	}
}

// Row 11. A half-open link to a worker that has nothing to do is noticed by its silence
// alone, and the worker is back when the link is healed.
func TestHalfOpenIdleWorker(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	r := rig.Relay(t, b.Requests)
	p := rig.Pairs(t, b, r.Endpoint())
	begun := time.Now()
	for _, way := range []relay.Direction{relay.Up, relay.Down} {
		r.Fault(way, relay.Fault{Discard: true})
	}
	b.Await(t, "its session has expired", func(st broker.State) bool { return st.Counters["sessions_expired"] == 1 })
	within(t, "its session has expired", time.Since(begun), 4*time.Second)
	p.AwaitService(t, p.Service, "it is gone", func(s broker.ServiceState) bool { return s.Workers == 0 })
	r.Heal()
	r.Reset()
	p.AwaitService(t, p.Service, "it is back", func(s broker.ServiceState) bool { return s.Idle == 1 })
	answered(t, rig.Do(t.Context(), p.Client, p.Call("echo")), 1, p.Victim)
	counted(t, b, "sessions_expired", 1)
}

// Row 11. A half-open link to a client: what runs for it is cancelled, and after the
// link is healed its call is answered by another attempt.
func TestHalfOpenClient(t *testing.T) {
	t.Parallel()
	for name, ways := range directions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := rig.StartBroker(t)
			p, o, took := rig.HalfOpenClient(t, b, ways...)
			within(t, "its request is cancelled", took, 4*time.Second)
			answered(t, o, 2, p.Victim)
			settled(t, b, counts{Requests: 2, Answered: 1, Cancelled: 1})
			if n := p.Client.Counters(); n.Retries != 1 || n.Late != 0 {
				t.Errorf("the client counted %+v", n)
			}
		})
	}
}

// Row 13. Octets that come one by one are framed as any others, for clients and for
// workers; the kernel's count of the broker's reads shows that they came so.
func TestByteByByte(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	r := rig.Relay(t, b.Requests)
	for _, way := range []relay.Direction{relay.Up, relay.Down} {
		r.Fault(way, relay.Fault{Chunk: 1, Pause: 200 * time.Microsecond})
	}
	before := reads(t, b.PID())
	p := rig.Pairs(t, b, r.Endpoint())
	p.Client = rig.Client(t, r.Endpoint())
	const calls = 10
	for n := range calls {
		body := bytes.Repeat([]byte{byte(n)}, n*30)
		o := rig.Do(t.Context(), p.Client, p.Call("echo", body))
		answered(t, o, 1, p.Victim)
		if len(o.Rest) != 1 || !bytes.Equal(o.Rest[0], body) {
			t.Errorf("call %d: another body came back", n)
		}
	}
	octets, times := r.Passed(relay.Up), reads(t, b.PID())-before
	t.Logf("the broker read %d octets in %d calls of read", octets, times)
	if times < octets/4 { // some join where it has no time
		t.Errorf("the broker read %d times: %d octets did not come one by one", times, octets)
	}
	settled(t, b, counts{Requests: calls, Answered: calls})
}

// reads is how often a process has called read (proc(5), io).
func reads(t *testing.T, pid int) (n int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "syscr: ")
	if _, err := fmt.Sscan(after, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Row 13. A handshake that dribbles is ended by the broker; newcomers are served
// meanwhile.
func TestDribblingHandshake(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	r := rig.Relay(t, b.Requests)
	r.Fault(relay.Up, relay.Fault{Rate: 10}) // the greeting alone takes 6 s
	ended := make(chan error, 1)
	go func() {
		p, err := wire.Dial(r.Endpoint(), meshproc.Guard)
		if err == nil {
			_ = p.Close()
		}
		ended <- err
	}()
	service := rig.Fresh()
	rig.Worker(t, b.Requests, service)
	load := startLoad(t, b, service, "echo", 1)
	for over := false; !over; {
		load.some(t, 10)
		select {
		case err := <-ended:
			over = true
			if err == nil {
				t.Error("the handshake succeeded")
			}
		default:
		}
	}
	load.stop(t)
	b.Await(t, "the handshake is counted", func(st broker.State) bool { return st.Counters["handshakes_failed"] == 1 })
}

// Large bodies over a slow link to a worker take longer than liveness and probes, and
// are run once: the link is slow, and nobody is dead.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	for name, fault := range slow {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			undisturbed(t, func() error {
				b := rig.StartBroker(t)
				r := rig.Relay(t, b.Requests)
				r.Fault(relay.Up, fault)
				r.Fault(relay.Down, fault)
				p := rig.Pairs(t, b, r.Endpoint())
				answer := rig.Ask(t.Context(), p.Client, p.Call("echo", large))
				b.AwaitService(t, p.Service, "it is under way", func(s broker.ServiceState) bool { return s.Running == 1 })
				p.Join(t) // would take it, if it were given up
				return ranOnce(t, b, rig.Wait(t, answer))
			})
		})
	}
}

// A slow link to a client: neither side takes the other for gone while a large body is
// on its way, in either direction, though the broker has nothing to answer yet.
func TestSlowLinkToAClient(t *testing.T) {
	t.Parallel()
	for name, fault := range slow {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			undisturbed(t, func() error {
				listen := fmt.Sprintf("tcp://127.0.0.1:%d", meshproc.FreePorts(t, 1))
				r := rig.Relay(t, listen)
				r.Fault(relay.Up, fault)
				r.Fault(relay.Down, fault)
				b := rig.StartBrokerAt(t, listen, "--advertise", r.Endpoint()) // or the client would go round it
				p := rig.Pairs(t, b, listen)
				p.Client = rig.Client(t, r.Endpoint())
				err := ranOnce(t, b, rig.Do(t.Context(), p.Client, p.Call("echo", large)))
				if n := p.Client.Counters(); err == nil && (n.Silences != 0 || n.Retries != 0) {
					err = fmt.Errorf("the client counted %+v", n)
				}
				return err
			})
		})
	}
}

// A slow link between brokers: a request that is handed on over it is run once, though
// it takes longer than liveness, each way.
func TestSlowLinkBetweenBrokers(t *testing.T) {
	t.Parallel()
	for name, fault := range slow {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			undisturbed(t, func() error {
				far := rig.StartBroker(t)
				r := rig.Relay(t, far.Requests)
				r.Fault(relay.Up, fault)
				r.Fault(relay.Down, fault)
				home := rig.StartBrokerAt(t, "tcp://127.0.0.1:0", "--peer", r.Endpoint())
				p := rig.Pairs(t, far, far.Requests)
				p.Client = rig.Client(t, home.Requests)
				if o := rig.Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil {
					return o.Err
				}
				o := rig.Do(t.Context(), p.Client, p.Call("echo", large))
				if o.Err != nil || o.Attempt != 1 {
					return fmt.Errorf("answered in attempt %d: %w", o.Attempt, o.Err)
				}
				for _, b := range []*rig.Broker{home, far} {
					if got := balance(t, b); got.Requests != 2 || got.Answered != 2 || got.Redelivered != 0 {
						return fmt.Errorf("the books say %+v", got)
					}
				}
				if n := home.State(t).Counters["sessions_expired"]; n != 0 {
					return fmt.Errorf("%d sessions expired", n)
				}
				return nil
			})
		})
	}
}

// slow is what makes large take several seconds.
var slow = map[string]relay.Fault{
	"slow": {Rate: 1 << 20},
	"long": {Delay: 700 * time.Millisecond, Chunk: 1000},
}

// large takes 4.5 s each way at 1 MiB/s.
var large = bytes.Repeat([]byte("0123456789abcdef"), 9<<19/16)

// ranOnce looks at the answer to the only call of a broker, whose body was large.
func ranOnce(t *testing.T, b *rig.Broker, o rig.Outcome) error {
	t.Helper()
	if o.Err != nil || o.Attempt != 1 || len(o.Rest) != 1 || !bytes.Equal(o.Rest[0], large) {
		return fmt.Errorf("answered in attempt %d with %d frames: %w", o.Attempt, len(o.Rest), o.Err)
	}
	if got := balance(t, b); got != (counts{Requests: 1, Answered: 1}) {
		return fmt.Errorf("the books say %+v", got)
	}
	if n := b.State(t).Counters["sessions_expired"]; n != 0 {
		return fmt.Errorf("%d sessions expired", n)
	}
	return nil
}

// A slow link to a foreign worker, which is silent while octets come: the same.
func TestSlowLinkToAForeignWorker(t *testing.T) {
	t.Parallel()
	undisturbed(t, func() error {
		b := rig.StartBroker(t)
		r := rig.Relay(t, b.Requests)
		r.Fault(relay.Up, relay.Fault{Rate: 1 << 20})
		r.Fault(relay.Down, relay.Fault{Rate: 1 << 20})
		service := rig.Fresh()
		w, err := wire.Dial(r.Endpoint(), meshproc.Guard)
		if err != nil {
			return err
		}
		defer func() { _ = w.Close() }()
		if err := w.Send(mdp.Command{Role: mdp.Worker, Kind: mdp.Ready, Dialect: mdp.V02, Service: []byte(service)}); err != nil {
			return err
		}
		b.AwaitService(t, service, "the worker is there", func(s broker.ServiceState) bool { return s.Workers == 1 })
		p := &rig.Pair{Broker: b, Service: service, Client: rig.Client(t, b.Requests)}
		answer := rig.Ask(t.Context(), p.Client, p.Call("echo", large))
		m, err := w.Recv(meshproc.Guard)
		if err != nil || m.Kind != mdp.Request || len(m.Frames) != 2 || !bytes.Equal(m.Frames[1], large) {
			return fmt.Errorf("the worker got %v: %w", m, err)
		}
		final := mdp.Command{Role: mdp.Worker, Kind: mdp.Final, Dialect: mdp.V02, Address: m.Address}
		if err := w.Send(final, []byte("1 1"), m.Frames[1]); err != nil {
			return err
		}
		return ranOnce(t, b, rig.Wait(t, answer))
	})
}

// Overload is no fault of a worker: every request runs once, however long the queue.
func TestOverload(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	rig.Worker(t, b.Requests, service)
	// A queue of 5 s: longer than three heartbeats and the look that would find them missing.
	load := startLoad(t, b, service, "sleep 10ms", 500)
	load.some(t, 500)
	load.stop(t)
	calls := uint64(load.calls.Load())
	settled(t, b, counts{Requests: calls, Answered: calls})
	if load.retried.Load() > 0 {
		t.Error("calls were repeated")
	}
}
