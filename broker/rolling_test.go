package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	lib "github.com/mdmesh/mdmesh/worker"
)

// Three brokers with a worker each are restarted one after the other while clients
// call: no call fails.
func TestRollingRestart(t *testing.T) {
	inBubble(t, func(m *mesh) {
		names := []string{"b1", "b2", "b3"}
		endpoints := []string{"tcp://b1:1", "tcp://b2:1", "tcp://b3:1"}
		others := func(i int) func(*Config) { return peers(names[(i+1)%3], names[(i+2)%3]) }
		brokers, stops := make([]*Broker, 3), make([]func(), 3)
		for i, name := range names {
			brokers[i], stops[i] = m.mortal(name, others(i))
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		for i := range 3 {
			w, err := lib.New(lib.Config{Brokers: endpoints[i : i+1], Service: "s", Concurrency: 4, Network: m.net.Host(fmt.Sprint("w", i)),
				Handler: func(ctx context.Context, r *lib.Request) ([][]byte, error) {
					time.Sleep(20 * time.Millisecond)
					return r.Body, nil
				}})
			if err != nil {
				t.Fatal(err)
			}
			running.Go(func() { w.Run(ctx) })
		}
		for _, b := range brokers {
			m.up(b, 2)
		}
		m.pass(time.Second)
		var calls, failed atomic.Int64
		for i := range 9 {
			order := append(append([]string{}, endpoints[i%3:]...), endpoints[:i%3]...)
			c, err := client.New(client.Config{Brokers: order, Timeout: 10 * time.Second, Network: m.net.Host(fmt.Sprint("c", i))})
			if err != nil {
				t.Fatal(err)
			}
			running.Go(func() {
				defer c.Close()
				for n := 0; ctx.Err() == nil; n++ {
					text := fmt.Sprint(i, n)
					reply, err := c.Call(ctx, "s", []byte(text))
					if ctx.Err() != nil {
						return
					}
					calls.Add(1)
					if err != nil || len(reply) != 1 || string(reply[0]) != text {
						failed.Add(1)
						t.Errorf("call %s: %q, %v", text, reply, err)
					}
				}
			})
		}
		m.pass(time.Second)
		for i := range 3 {
			stops[i]()
			m.pass(500 * time.Millisecond)
			brokers[i], stops[i] = m.mortal(names[i], others(i))
			m.up(brokers[i], 2)
			m.pass(3 * time.Second)
		}
		if n := calls.Load(); n < 1000 {
			t.Errorf("%d calls", n)
		}
		t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
	})
}

// The queue of a broker that leaves goes to its peers: guests and clients of the
// native protocol are told to go elsewhere, what others asked for is handed on, and
// so is what they still ask for.
func TestDrainHandsTheQueueOn(t *testing.T) {
	inBubble(t, func(m *mesh) {
		a := m.broker("a", peers("b"))
		b, stop := m.mortal("b")
		m.up(a, 1)
		w := m.worker(b, "s", 1)
		native, plain, call := m.client(b, "native"), m.dial(b, "plain", mdp.Client, mdp.V02), make(chan string, 1)
		guest := m.client(a, "guest")
		m.pass(2 * time.Second)
		running := guest.ask("s", "running")
		r := w.take()
		queued := guest.ask("s", "guest")
		m.pass(10 * time.Millisecond)
		local := native.ask("s", "native")
		plain.send(mdp.Command{Kind: mdp.Request, Service: []byte("s")}, "plain")
		go func() {
			reply, err := b.Call(context.Background(), "s", []byte("http"))
			call <- fmt.Sprint(string(joined(reply)), err)
		}()
		m.pass(10 * time.Millisecond)
		home := m.worker(a, "s", 5)
		m.pass(10 * time.Millisecond)
		took := map[string]bool{}
		answer := func(n int) {
			t.Helper()
			for range n {
				r := home.take()
				took[r.body()] = true
				home.answer(r, "home")
			}
		}
		for len(home.got) > 0 { // moved before anybody drains
			answer(1)
		}
		go stop()
		w.expect(mdp.Drain)
		m.settle()
		for len(home.got) > 0 {
			answer(1)
		}
		m.pass(50 * time.Millisecond)
		plain.send(mdp.Command{Kind: mdp.Request, Service: []byte("s")}, "late")
		m.settle()
		for len(home.got) > 0 {
			answer(1)
		}
		w.quiet()
		w.answer(r, "done")
		w.send(mdp.Command{Kind: mdp.Bye})
		finals := map[uint64]string{}
		for range 2 {
			f := guest.expect(mdp.Final)
			finals[f.Head.Token] = f.body()
		}
		if finals[running.Token] != "done" || finals[queued.Token] != "home" {
			t.Errorf("guests got %v", finals)
		}
		if got := <-call; got != "home<nil>" {
			t.Errorf("the call from inside got %s", got)
		}
		for range 2 {
			if f := plain.expect(mdp.Final); f.body() != "home" {
				t.Errorf("the MDP client got %q", f.body())
			}
		}
		for {
			f := native.next()
			if f.Kind != mdp.Final {
				continue
			}
			if status := mdp.Status(f.Head.Status); f.Head.Token != local.Token || status != mdp.NotTaken && status != mdp.OK {
				t.Errorf("the native client got %v", f.err())
			}
			break
		}
		if !took["late"] || !took["http"] || !took["plain"] {
			t.Errorf("handed on: %v", took)
		}
		m.empty(a)
	})
}

func joined(frames [][]byte) []byte { return []byte(strings.Join(strs(frames), "")) }
