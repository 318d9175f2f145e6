package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
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

// mangling changes so many octets of each piece, at places that are of the round and of
// the piece's number, and counts the pieces.
func mangling(round, octets int, mangled *atomic.Int64) relay.Fault {
	seed := rand.New(rand.NewPCG(uint64(round), 1))
	place := make([]uint32, octets)
	for i := range place {
		place[i] = seed.Uint32()
	}
	return relay.Fault{Mangle: func(p []byte) {
		n := int(mangled.Add(1))
		for _, v := range place {
			if len(p) > 0 {
				p[(int(v>>8)+7*n)%len(p)] ^= byte(v) | 1
			}
		}
	}}
}

// headMangling changes one octet of each piece, and each time another one of the head of
// its first message: framing survives that.
func headMangling(mangled *atomic.Int64) relay.Fault {
	const begin, size = 2, 42 // behind the frame's flags and length
	return relay.Fault{Mangle: func(p []byte) {
		n := int(mangled.Add(1))
		if i := begin + n%size; i < len(p) {
			p[i] ^= byte(n) | 1
		}
	}}
}

// Row 25. Links that mangle what comes to the broker cost those who use them their connections at most:
// the broker lives, others do not notice, and healed links work.
func TestMangledLinks(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	rig.Worker(t, b.Requests, service, rig.Set(actor.Concurrency, 4))
	load := startLoad(t, b, service, "echo", 2)
	r := rig.Relay(t, b.Requests)
	bad := rig.Worker(t, r.Endpoint(), rig.Fresh())
	var mangled atomic.Int64
	for round := range 60 {
		// Each round has one way of mangling: an octet changed, several, or all noise.
		r.Fault(relay.Up, mangling(round, []int{1, 4, 1000}[round%3], &mangled))
		p, err := wire.Dial(r.Endpoint(), time.Second)
		if err != nil {
			continue // the greeting did not survive
		}
		for n := range uint64(20) {
			if err := p.Send(rig.Request("mangled", n), []byte("echo")); err != nil {
				break
			}
		}
		_ = p.Close()
	}
	r.Heal()
	r.Reset()
	load.some(t, 100)
	load.stop(t)
	if mangled.Load() < 60 {
		t.Errorf("only %d pieces were mangled", mangled.Load())
	}
	rig.Await(t, "a healed link works", func() error {
		p, err := wire.Dial(r.Endpoint(), meshproc.Guard)
		if err != nil {
			return err
		}
		defer func() { _ = p.Close() }()
		if err := p.Send(rig.Request(service, 1), []byte("echo"), []byte("mine")); err != nil {
			return err
		}
		m, err := p.Recv(meshproc.Guard)
		if err != nil || m.Kind != mdp.Final || len(m.Frames) != 2 || string(m.Frames[1]) != "mine" {
			return fmt.Errorf("%+v, %w", m, errors.Join(err, errors.New("another answer")))
		}
		return nil
	})
	if !meshproc.Alive(bad.PID()) || !meshproc.Alive(b.PID()) {
		t.Error("a process died of mangled octets")
	}
}

// Row 25. Links that mangle what a broker says cost its worker and its client nothing but
// connections and calls: neither dies, and healed links work for both.
func TestMangledAnswers(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	links := []*relay.Relay{rig.Relay(t, b.Requests), rig.Relay(t, b.Requests)}
	w := rig.Worker(t, links[0].Endpoint(), service)
	c := rig.Client(t, links[1].Endpoint()) // a panic of it ends this process
	call := client.Call{Service: service, Body: rig.Words("echo", []byte("mine")), Timeout: time.Second}
	works := func() error {
		if o := rig.Do(t.Context(), c, call); o.Err != nil || len(o.Rest) != 1 || string(o.Rest[0]) != "mine" {
			return fmt.Errorf("%q, %w", o.Rest, errors.Join(o.Err, errors.New("another answer")))
		}
		return nil
	}
	rig.Await(t, "the links work", works)
	var mangled atomic.Int64
	const rounds = 48
	failed := 0
	for round := range rounds {
		r := links[round%2] // one at a time: what a worker does not understand it does not answer
		fault := headMangling(&mangled)
		if round%4 >= 2 {
			fault = mangling(round, 1+round%3, &mangled)
		}
		r.Fault(relay.Down, fault)
		if round%8 >= 6 {
			r.Reset() // new handshakes, to be mangled as well
		}
		for range 5 { // as long as nothing but octets is wrong, the connection stays
			brief := call
			brief.Timeout = 40 * time.Millisecond
			if _, err := c.Do(t.Context(), brief); err != nil { // what comes in time may be anything
				failed++
			}
		}
		r.Heal()
		r.Reset()
		rig.Await(t, "healed links work", works)
	}
	b.AwaitService(t, service, "one worker is there", func(s broker.ServiceState) bool { return s.Workers == 1 && s.Idle == 1 })
	n := c.Counters()
	t.Logf("%d pieces were mangled, %d of %d calls failed; the client counted %+v", mangled.Load(), failed, 5*rounds, n)
	if n.Malformed+n.Unknown == 0 {
		t.Error("the client read nothing that it did not understand")
	}
	if mangled.Load() < rounds || failed == 0 {
		t.Errorf("only %d pieces were mangled, %d calls failed", mangled.Load(), failed)
	}
	if !meshproc.Alive(w.PID()) || !meshproc.Alive(b.PID()) {
		t.Error("a process died of mangled octets")
	}
}
