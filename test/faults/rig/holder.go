package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/relay"
	"github.com/mdmesh/mdmesh/test/faults/wire"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// dying waits until a worker says that it kills itself, and returns when it said so.
func dying(t testing.TB, p *meshproc.Process) time.Time {
	t.Helper()
	ns, err := strconv.ParseInt(p.Line(t, "dies "), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, ns)
}

// holding is a program whose first attempt writes its own and its worker's process id
// to the file that is its argument, and never ends; later ones answer as actors do.
const holding = `
if [ "$MD_ATTEMPT" = 1 ]; then
	echo $$ $PPID >"$1.part"; mv "$1.part" "$1"
	exec sleep 1000
fi
printf "$PPID $MD_ATTEMPT"`

// KillExec kills a worker that runs a program for a request: how long until the
// program is dead, and until another worker has answered.
func KillExec(t testing.TB, b *Broker) (dead, answered time.Duration) {
	t.Helper()
	file, service := filepath.Join(meshproc.Folder(t), "pids"), Fresh()
	workers := map[int]*meshproc.Process{}
	for range 2 {
		w := meshproc.Start(t, meshproc.Command(t, "mdworker", "--broker", b.Requests, "exec", "--service", service,
			"--", "sh", "-c", holding, "sh", file))
		w.Says(t, "offering service")
		workers[w.PID()] = w
	}
	p := &Pair{Broker: b, Service: service, Client: Client(t, b.Requests)}
	answer := Ask(t.Context(), p.Client, p.Call("hold"))
	var program, holder int
	Await(t, "a program holds the request", func() error {
		text, err := os.ReadFile(file)
		if err == nil {
			_, err = fmt.Sscan(string(text), &program, &holder)
		}
		return err
	})
	victim := workers[holder]
	if victim == nil {
		t.Fatalf("the program's parent is %d, which is no worker", holder)
	}
	begun := time.Now()
	victim.Signal(t, syscall.SIGKILL)
	dead = meshproc.Await(t, "the program is dead", time.Millisecond, func() error {
		if meshproc.Alive(program) {
			return fmt.Errorf("process %d lives", program)
		}
		return nil
	})
	o := Wait(t, answer)
	if o.Err != nil || o.Attempt != 2 {
		t.Fatalf("answered in attempt %d: %v; want attempt 2", o.Attempt, o.Err)
	}
	return dead, o.At.Sub(begun)
}

// CloseForeign closes the connection of a worker that speaks MDP/0.2 and holds a
// request: how long until another one is given it.
func CloseForeign(t testing.TB, b *Broker) time.Duration {
	t.Helper()
	service := Fresh()
	return closeHolding(t, b, service, mdp.V02, func() *wire.Peer {
		p := Peer(t, b.Requests)
		if err := p.Send(mdp.Command{Role: mdp.Worker, Kind: mdp.Ready, Dialect: mdp.V02, Service: []byte(service)}); err != nil {
			t.Fatal(err)
		}
		return p
	})
}

// CloseTwin does the same to one of two native workers that claim the same instance.
func CloseTwin(t testing.TB, b *Broker) time.Duration {
	t.Helper()
	service := Fresh()
	return closeHolding(t, b, service, mdp.Native, func() *wire.Peer {
		p := Peer(t, b.Requests)
		m, err := p.Hello(service, "twin", 1)
		if err == nil {
			err = mdp.AnswerError(&m.Command)
		}
		if err != nil {
			t.Fatal(err)
		}
		return p
	})
}

// closeHolding asks a service of two raw workers and closes the first one, which holds
// the request: how long until the other has it.
func closeHolding(t testing.TB, b *Broker, service string, dialect mdp.Dialect, join func() *wire.Peer) time.Duration {
	t.Helper()
	var workers []*wire.Peer
	for n := 1; n <= 2; n++ {
		workers = append(workers, join())
		b.AwaitService(t, service, "the worker is there", func(s broker.ServiceState) bool { return s.Workers == n })
	}
	asking := Peer(t, b.Requests)
	if err := asking.Send(Request(service, 1), []byte("one")); err != nil {
		t.Fatal(err)
	}
	receive(t, workers[0], mdp.Request)
	begun := time.Now()
	_ = workers[0].Close()
	m := receive(t, workers[1], mdp.Request)
	took := time.Since(begun)
	if dialect == mdp.Native && m.Head.Attempt != 2 {
		t.Fatalf("the other was given it as attempt %d", m.Head.Attempt)
	}
	return took
}

// Poison sends a request that kills each worker it comes to, of whom there is one
// more than it may kill: how it ended, how many are dead, and how long it took.
func Poison(t testing.TB, b *Broker) (o Outcome, dead int, took time.Duration) {
	t.Helper()
	p := Pairs(t, b, b.Requests)
	workers := []*meshproc.Process{p.Victim}
	for range 3 {
		workers = append(workers, Worker(t, b.Requests, p.Service))
	}
	begun := time.Now()
	o = Do(t.Context(), p.Client, p.Call("poison"))
	took = o.At.Sub(begun)
	for _, w := range workers {
		if strings.Contains(w.Output(), "begun poison") {
			w.Wait(t)
			dead++
		}
	}
	return o, dead, took
}

// HalfOpenIdle lets what an idle worker says vanish, or what it is told, or both: how
// long until the broker does not count on it.
func HalfOpenIdle(t testing.TB, b *Broker, ways ...relay.Direction) time.Duration {
	t.Helper()
	r := Relay(t, b.Requests)
	p := Pairs(t, b, r.Endpoint())
	for _, way := range ways {
		r.Fault(way, relay.Fault{Discard: true})
	}
	return p.AwaitService(t, p.Service, "it is out", func(s broker.ServiceState) bool { return s.Workers == 0 })
}
